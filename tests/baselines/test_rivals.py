"""Anybody's answers to the test rows: found, refused, compared."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from utils import quote_formula
from utils.baselines import Rung, ladder, read_rivals, record_of
from utils.baselines.rivals import mcnemar
from utils.findings import TableError

ROWS = pd.DataFrame({"row": [7, 2, 9, 4], "text": ["=up", "So-so ", "fine", "fine"]})
LABELS = ["bad", "good"]


def written(folder, frame, name="gpt.csv"):
    pd.DataFrame(frame).to_csv(folder / name, index=False)
    return {"gpt": str(folder / name)}


def test_answers_are_found_by_text_and_row_in_any_order(tmp_path):
    answers = ["good", "bad", "good ", "Bad"]  # as a language model writes them
    whole = ROWS.assign(text=ROWS["text"].map(quote_formula), label="truth", predicted=answers)
    more = pd.DataFrame({"row": [1], "text": ["of training"], "label": ["?"], "predicted": ["?"]})
    shuffled = pd.concat([whole, more]).sample(frac=1, random_state=3)
    assert read_rivals(written(tmp_path, shuffled), ROWS, LABELS)["gpt"].predicted.tolist() == [1, 0, 1, 0]
    lines = [{"text": text.upper(), "label": "good"} for text in ROWS["text"].drop_duplicates()]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_rivals({"r": str(tmp_path / "r.jsonl")}, ROWS, LABELS)["r"].predicted.tolist() == [1, 1, 1, 1]
    assert read_rivals(None, ROWS, LABELS) == {}


def test_several_labels_and_numbers(tmp_path):
    several = written(tmp_path, {"text": ROWS["text"][:3], "label": ["good | bad", "", "bad"]})
    found = read_rivals(several, ROWS[:3], LABELS, "multi_label")["gpt"].predicted
    assert found.tolist() == [[1, 1], [0, 0], [1, 0]]
    numbers = written(tmp_path, {"text": ROWS["text"][:3], "label": ["-1.5", "2", "3e1"]})
    assert read_rivals(numbers, ROWS[:3], ["value"], "regression")["gpt"].predicted.tolist() == [-1.5, 2, 30]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (
            {"text": ["=up", "so-so"], "label": ["bad", "good"]},
            "no answer to 2 test rows (9, 4), such as 'fine'",
        ),
        (
            {"text": [*ROWS["text"]], "label": ["bad", "good", "good", "bad"]},
            "row 4, column 'label': 'bad' differs from the answer to the same text in row 3",
        ),
        (
            {"row": [7, 2, 9, 9, 4], "text": [*ROWS["text"], "fine"], "label": ["bad"] * 3 + ["good"] * 2},
            "row 4, column 'label': 'good' differs",
        ),
        ({"row": [1, 2, 3, 4], "text": ROWS["text"], "label": "bad"}, "no answer to 2 test rows (7, 9)"),
        (
            {"text": ROWS["text"], "label": ["bad", "neutral", "bad", "bad"]},
            "gpt.csv, row 2, column 'label': 'neutral' is none of the labels 'bad', 'good'",
        ),
        ({"text": ROWS["text"], "answer": "bad"}, "'label'"),
    ],
)
def test_what_cannot_be_joined_is_refused_by_name(tmp_path, frame, says):
    with pytest.raises(TableError) as error:
        read_rivals(written(tmp_path, frame), ROWS, LABELS)
    assert says in str(error.value)


def test_a_rival_has_a_name_of_its_own_and_numbers_are_numbers(tmp_path):
    file = written(tmp_path, {"text": ROWS["text"], "label": "high"})
    with pytest.raises(TableError, match="'majority' is a rung of the ladder already"):
        read_rivals({"majority": file["gpt"]}, ROWS, LABELS)
    with pytest.raises(TableError, match="row 1, column 'label': 'high' is no finite number"):
        read_rivals(file, ROWS, ["value"], "regression")


def test_mcnemars_test_is_that_of_a_coin():
    labels, model, rival = np.zeros(100), np.zeros(100), np.zeros(100)
    model[:3], rival[3:17] = 1, 1  # the model alone errs on 3 rows, the rival alone on 14
    assert mcnemar(labels, model, rival) == (14, 3, pytest.approx(2 * binom.cdf(3, 17, 0.5)))
    assert mcnemar(labels, model, model).p == 1


def test_a_rival_stands_below_the_model_with_an_interval_and_without_seconds():
    labels = np.arange(300) % 2
    right = {"majority": 150, "fine-tuned": 270}
    rungs = {
        name: Rung(np.where(labels * 0 + np.arange(300) < n, labels, 1 - labels), 2.0)
        for name, n in right.items()
    }
    rival = np.where(np.arange(300) >= 60, labels, 1 - labels)
    lines, comparison = ladder(labels, {"gpt": Rung(rival, np.nan)} | rungs)
    assert list(lines.index) == ["majority", "fine-tuned", "gpt"]
    assert lines.loc["gpt", "gain"] == pytest.approx(0.8 - 0.9)
    assert lines.loc["gpt", "low"] < -0.1 < lines.loc["gpt", "high"]
    assert np.isnan(lines.loc["gpt", "seconds"])
    assert lines.loc["gpt", "mcnemar"] == mcnemar(labels, rungs["fine-tuned"].predicted, rival).p
    record = record_of(lines)
    assert list(record) == ["majority", "gpt"] and "seconds" not in record["gpt"]
    assert "60 rows right by the model alone, 30 by gpt alone" in comparison.words.splitlines()[1]
    assert "mcnemar" not in ladder(labels, rungs)[0]
    rest = ladder(
        labels * 1.0,
        rungs | {"gpt": Rung(rival * 1.0, np.nan), "fine-tuned": rungs["fine-tuned"]},
        "regression",
    )
    assert "mcnemar" not in rest[0] and "gpt" in rest[1].words
