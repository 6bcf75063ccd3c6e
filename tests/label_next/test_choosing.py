"""Which rows to label next: unsure ones, unlike each other; odd files; nobody's labels overwritten."""

import numpy as np
import pandas as pd
import pytest
from builders import save_small

from utils.findings import ModelError, TableError
from utils.label_next import choosing
from utils.label_next.choosing import choose, doubts, main, unlike
from utils.predict import label_texts, load_classifier


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    save_small(folder, ["bad", "good", "so-so"], initializer_range=0.5)
    return folder


def table(folder, texts, name="new.csv"):
    pd.DataFrame({"id": range(len(texts)), "tweet": texts}).to_csv(folder / name, index=False)
    return folder / name


def test_doubt_is_the_margin_or_the_label_nearest_to_its_threshold():
    unsure, sure = doubts(np.array([[0.5, 0.1, 0.4], [0.05, 0.9, 0.05]]))
    assert unsure == pytest.approx([0.9, 0.15])
    assert sure == pytest.approx([0.5, 0.9])
    shares = np.array([[0.3, 0.95], [0.6, 0.2]])
    assert [each.tolist() for each in doubts(shares, "multi_label")] == [
        pytest.approx([0.8, 0.9]),
        [0.3, 0.6],
    ]
    assert doubts(shares, "multi_label", [0.3, 0.1])[1].tolist() == [0.3, 0.2]


def test_of_each_heap_of_equals_one_is_taken():
    draw = np.random.default_rng(5)
    centres = draw.normal(size=(6, 20)) * 10
    sizes = [400, 5, 5, 5, 5, 5]
    vectors = np.repeat(centres, sizes, axis=0) + draw.normal(size=(sum(sizes), 20)) / 100
    heap = np.repeat(range(6), sizes)
    assert sorted(heap[unlike(vectors, np.ones(len(heap)), 6)]) == [0, 1, 2, 3, 4, 5]
    equal = np.repeat(centres, sizes, axis=0)  # six kinds of rows only
    weights = np.linspace(0, 1, len(heap))
    chosen = unlike(equal, weights, 9)
    assert len(set(chosen)) == 9
    assert set(heap[chosen]) == set(range(6))
    assert sorted(unlike(vectors[:4], weights[:4], 9)) == [0, 1, 2, 3]


def test_the_chosen_rows_are_among_the_least_sure_and_no_repeat(model, tmp_path):
    texts = [f"{word} film {k}" for k in range(20) for word in ("good", "bad", "=1+", "")]
    texts += ["good  FILM 3", " ", "", *texts[:8]]
    chosen = choose(model, table(tmp_path, texts), tmp_path / "out.csv", 4, "tweet")
    answers = label_texts(load_classifier(model), texts[:80])
    unsure, _ = doubts(answers.iloc[:, 2:].to_numpy())
    least = np.sort(unsure)[::-1][choosing.MORE * 4 - 1]
    assert len(chosen) == 4
    assert (unsure[chosen["row"]] >= least).all()
    assert chosen["text"].tolist() == [texts[row] for row in chosen["row"]]
    assert chosen["predicted"].tolist() == answers["predicted"][chosen["row"]].tolist()
    assert (np.diff(unsure[chosen["row"]]) <= 0).all()

    everything = choose(model, table(tmp_path, texts), tmp_path / "all.csv", 500, "tweet")
    assert sorted(everything["row"]) == list(range(80)), "no blank one, no repeat, each once"
    written = pd.read_csv(tmp_path / "all.csv", dtype=str, keep_default_na=False)
    assert written.columns.tolist() == ["row", "text", "predicted", "probability", "label"]
    assert set(written["label"]) == {""}
    assert written["text"].str.startswith("'=1+").sum() == 20, "a spreadsheet runs nothing"


def test_what_cannot_be_is_refused_by_name(model, tmp_path):
    good = table(tmp_path, ["a film", "no film"])
    with pytest.raises(
        TableError, match=r"blank.csv: no row has a text in 'tweet'. There is nothing to label"
    ):
        choose(model, table(tmp_path, [" ", ""], "blank.csv"), tmp_path / "o.csv", text_column="tweet")
    with pytest.raises(TableError, match="Set text_column"):
        choose(model, good, tmp_path / "o.csv")
    with pytest.raises(ModelError, match="number=0 must be a whole number, 1 or more"):
        choose(model, good, tmp_path / "o.csv", 0, "tweet")
    save_small(tmp_path / "value", ["value"], problem_type="regression")
    with pytest.raises(ModelError, match="value predicts a number"):
        choose(tmp_path / "value", good, tmp_path / "o.csv", text_column="tweet")
    assert not (tmp_path / "o.csv").exists()


def test_labels_that_somebody_wrote_are_never_overwritten(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [str(model), str(table(tmp_path, ["a film", "no film"])), "--text-column", "tweet"]
    main(given)
    assert "2 rows written to label_next.csv" in capsys.readouterr().out
    before = (tmp_path / "label_next.csv").read_bytes()
    with pytest.raises(SystemExit, match="label_next.csv is there already, perhaps with labels in it"):
        main(given)
    assert (tmp_path / "label_next.csv").read_bytes() == before


def test_several_labels_use_the_thresholds_of_the_model(tmp_path):
    save_small(
        tmp_path / "m", ["red", "round"], problem_type="multi_label_classification", thresholds=[0.5, 0.9]
    )
    chosen = choose(
        tmp_path / "m", table(tmp_path, ["a ball", "a rose", "a tree"]), tmp_path / "o.csv", 2, "tweet"
    )
    assert len(chosen) == 2
    assert (chosen["probability"] < 0.7).all(), "of red, near 0.5; round is far from 0.9"
