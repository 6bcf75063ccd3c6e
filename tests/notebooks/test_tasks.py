"""04_training on other tables and for the other tasks, through papermill and with nothing but parameters."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from test_training import TEMPLATE, metrics_of, papermill
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, set_seed

from notebooks import cell_of, printed, read
from utils import ROOT, unquote_formula
from utils.data import read_table
from utils.metrics import fold_temperature
from utils.models import find_model

pytestmark = pytest.mark.slow
SHORT = {
    "demonstrations": False,
    "learning_rate": 2e-4,
    "per_device_train_batch_size": 16,
    "output_dir": "run",
}


def run(folder, **parameters):
    """Train in `folder`, and return metrics.json, predictions.csv and the executed notebook."""
    result = papermill(folder, SHORT | parameters)
    assert result.returncode == 0, result.stdout[-3000:]
    predictions = pd.read_csv(folder / "run" / "predictions.csv", dtype=str, keep_default_na=False)
    return metrics_of(folder / "run"), predictions, read(folder / "out.ipynb")


def label_again(folder, *options):
    """Label the test texts with the saved model in another process, as a user would, and return the column of
    answers.
    """
    predictions = pd.read_csv(folder / "run" / "predictions.csv", dtype=str, keep_default_na=False)
    predictions[["text"]].map(unquote_formula).to_csv(folder / "new.csv", index=False)
    command = [
        sys.executable,
        "-m",
        "utils.predict",
        str(folder / "run" / "model"),
        str(folder / "new.csv"),
        str(folder / "labelled.csv"),
        *options,
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return pd.read_csv(folder / "labelled.csv", dtype=str, keep_default_na=False)["predicted"].tolist()


def accounted_for(data, rows):
    assert (
        sum(data[f"{name}_rows"] for name in ("train", "validation", "test")) + sum(data["dropped"].values())
        == rows
    )


def test_several_labels_in_a_cp1252_table_with_semicolons(tmp_path, tweets):
    rows = tweets.rows.head(500)
    valence = pd.to_numeric(rows["valence"])
    tags = pd.Series(np.where(valence > 0, "très bon", "böse"), index=rows.index)
    tags += np.where(valence.abs() > 2, " | strong", "") + np.where(
        rows["text"].str.contains("!"), "|loud", ""
    )
    frame = pd.DataFrame({"Größe": rows["row"], "text": rows["text"], "tags": tags})
    frame.to_csv(tmp_path / "tags.csv", index=False, sep=";", encoding="cp1252", errors="ignore")

    metrics, predictions, _ = run(
        tmp_path,
        data_file="tags.csv",
        label_column="tags",
        task="multi_label",
        class_weights=True,
        num_train_epochs=2,
    )
    data = metrics["data"]
    assert data["labels"] == ["böse", "loud", "strong", "très bon"]
    assert (data["source"]["encoding"], data["source"]["delimiter"]) == ("cp1252", ";")
    accounted_for(data, 500)
    assert metrics["test"]["f1_micro"] > metrics["baselines"]["majority"]["f1_micro"] + 0.05
    assert metrics["test"]["f1_macro"] > metrics["untrained"]["f1_macro"]
    assert set(metrics["test"]) >= {"accuracy", "f1_macro", "loss", "accuracy_ci95"}
    assert predictions.columns.tolist() == [
        "row",
        "text",
        "label",
        "predicted",
        *(f"probability_{name}" for name in data["labels"]),
    ]
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "multi_label_classification"
    for place, name in enumerate(
        data["labels"]
    ):  # each label is predicted where its probability reaches its own threshold
        there = predictions["predicted"].str.split("|").map(lambda answer, name=name: name in answer)
        sure = predictions[f"probability_{name}"].astype(float)
        assert (there == (sure >= config["thresholds"][place])).mean() > 0.99  # written with six digits
    assert label_again(tmp_path) == predictions["predicted"].tolist()
    assert "top_k=None" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_numbers_in_a_gzipped_tsv(tmp_path, tweets):
    tweets.rows.head(500)[["text", "valence"]].to_csv(tmp_path / "ratings.tsv.gz", index=False, sep="\t")
    metrics, predictions, _ = run(
        tmp_path, data_file="ratings.tsv.gz", label_column="valence", task="regression", num_train_epochs=2
    )
    accounted_for(metrics["data"], 500)
    test, baselines = metrics["test"], metrics["baselines"]
    assert test["pearson"] > baselines["tfidf_ridge"]["pearson"] + 0.03
    assert test["mae"] < baselines["mean"]["mae"] - 0.1
    assert test["pearson_ci95"][0] < test["pearson"] < test["pearson_ci95"][1]
    assert metrics["validation"]["pearson"] > metrics["untrained"]["pearson"] + 0.3
    assert predictions.columns.tolist() == ["row", "text", "label", "predicted"]
    assert np.corrcoef(predictions["label"].astype(float), predictions["predicted"].astype(float))[
        0, 1
    ] == pytest.approx(test["pearson"], abs=1e-4)
    again = np.array(label_again(tmp_path), dtype=float)
    assert again == pytest.approx(predictions["predicted"].astype(float).to_numpy(), abs=1e-3)
    assert 'function_to_apply="none"' in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_fifty_two_odd_classes_of_long_texts_in_jsonl(tmp_path):
    sentences = read_table("editorials").rows["text"].tolist()
    draw = np.random.default_rng(0)
    odd = ["a,b", 'say "hi"', "😀", "سعيد", "../../etc", "C:\\x", "<b>", "$x$", "None", "=1+1"]
    names = odd + [f"class {i}" for i in range(42)]
    counts = np.maximum(1, (30 * 0.9 ** np.arange(52)).astype(int))  # from thirty rows to one
    rows = [
        {"body": f"Topic {i}. " + " ".join(draw.choice(sentences, 9)) + f" About {i}.", "topic": names[i]}
        for i in range(52)
        for _ in range(counts[i])
    ]
    with open(tmp_path / "topics.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in draw.permutation(rows))

    columns = {"text_column": "body", "label_column": "topic"}
    metrics, predictions, notebook = run(
        tmp_path,
        data_file="topics.jsonl",
        **columns,
        max_length=32,
        long_texts="head_tail",
        num_train_epochs=3,
        learning_rate=5e-4,
    )
    data = metrics["data"]
    assert sorted(data["labels"]) == sorted(names)
    accounted_for(data, len(rows))
    assert "of the training texts are cut at 32 tokens" in printed(notebook, "truncated")
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert sorted(config["id2label"].values()) == sorted(names)
    assert config["long_texts"] == "head_tail"
    assert set(predictions["label"]) <= {
        name if name != "=1+1" else "'=1+1" for name in names
    }  # quoted for spreadsheets
    assert any("fewer than 5" in finding["message"] for finding in data["findings"])
    assert (
        label_again(tmp_path, "--max-length", "32") == predictions["predicted"].tolist()
    )  # a formula is quoted in both
    assert metrics["test"]["accuracy"] > metrics["baselines"]["tfidf_logreg"]["accuracy"] + 0.1
    assert predictions["predicted"].nunique() > 8
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in card
    assert "\n- <b>" not in card
    assert all(
        (tmp_path / "run" / "figures" / name).stat().st_size > 1000
        for name in ("balance.png", "test_predictions.png", "reliability.png")
    )


@pytest.mark.parametrize(
    ("task", "labels"),
    [("single_label", ["bad", "good"]), ("multi_label", ["a", "b", "c"]), ("regression", ["value"])],
)
def test_training_on_from_a_model_that_the_template_saved(tmp_path, task, labels):
    """What the earlier run noted in config.json, and where its tokenizer cut, says nothing of this run."""
    set_seed(0)
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=64,
        id2label=dict(enumerate(labels)), label2id={name: k for k, name in enumerate(labels)}, initializer_range=0.3,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    if task != "regression":
        fold_temperature(model, 12.5)
    model.config.thresholds, model.config.long_texts = [0.9] * len(labels), "head_tail"
    model.save_pretrained(tmp_path / "first")
    AutoTokenizer.from_pretrained(find_model("minilm-l6"), model_max_length=16).save_pretrained(
        tmp_path / "first"
    )

    answers = {"single_label": ["bad", "good"], "multi_label": ["a|b", "c"], "regression": ["-2", "3.5"]}[
        task
    ]
    rows = [
        {
            "text": f"case {i} went {('well', 'badly')[i % 2]}, " + "and so on " * (i % 9),
            "label": answers[i % 2],
        }
        for i in range(160)
    ]
    rows[5]["text"] += " [SEP] and [CLS]"  # letters, for a template whose tokenizer splits them
    pd.DataFrame(rows).to_csv(tmp_path / "more.csv", index=False)
    short = {
        "model_name": "first",
        "data_file": "more.csv",
        "task": task,
        "max_length": 40,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
    }
    metrics, predictions, _ = run(tmp_path, **short)
    assert metrics["validation"]["loss"] < metrics["untrained"]["loss"]
    assert "special-in-text" not in json.dumps(metrics["checks"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert tokenizer("a [SEP] b")["input_ids"].count(tokenizer.sep_token_id) == 1
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert saved["long_texts"] == "head"
    assert ("thresholds" in saved) == (task == "multi_label")
    assert saved.get("thresholds") != [0.9] * 3
    temperature = metrics.get("calibration", {}).get("temperature", 1)
    assert saved.get("folded_temperature") == (None if temperature == 1 else temperature)
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "model").model_max_length == 40
    again = label_again(tmp_path)
    assert (
        again == predictions["predicted"].tolist()
        if task != "regression"
        else np.allclose(np.array(again, float), predictions["predicted"].astype(float))
    )

    if task == "single_label":  # continued, when all that is left is what follows the training
        (tmp_path / "run" / "metrics.json").unlink()
        resumed, same, _ = run(tmp_path, **short, resume=True)
        assert same["predicted"].tolist() == predictions["predicted"].tolist()
        assert resumed["calibration"]["temperature"] == pytest.approx(temperature, rel=1e-3)


@pytest.mark.parametrize(
    ("valence", "spread", "rated"),
    [
        (["1.5", "-2", "0.1", "3"], ["0.5", "1", "0.9", "2"], True),
        (["1.5", "-2", "0.1", "3"], ["0", "1", "0.9", "2"], True),  # all agree
        (["1.5", "-2", "inf", "3"], ["0.5", "1", "inf", "2"], True),
        (["high", "low", "high", "low"], ["0.5", "1", "0.9", "2"], False),
        (["1.5", "-2", "0.1", "3"], ["0.5", "1", "wide", "2"], False),
        (["1.5", "-2", "", "3"], ["0.5", "1", "0.9", "2"], True),  # a row without a rating is in no band
        (["1.5", "-2", None, "3"], ["0.5", "1", "0.9", "2"], True),
        ([""] * 4, ["0.5", "1", "0.9", "2"], False),
        (["1,5", "-2,0", "0,1", "3"], ["0,5", "1", "0,9", "2"], False),
        (["nan"] * 4, ["nan"] * 4, False),
        (["1.5", "-2", "0.1", "3"], None, False),
        (None, None, False),
    ],
)
def test_the_raters_section_takes_numbers_only_and_own_columns_of_these_names_may_hold_words(
    valence, spread, rated, capsys
):
    review = pd.DataFrame({"right": [True, False, False, True]}, index=[7, 3, 5, 9])
    for name, cells in (("valence", valence), ("rating_std", spread)):
        if cells is not None:
            review[name] = cells
    shown = []
    names = {"review": review, "task": "single_label", "pd": pd, "np": np, "display": shown.append}
    for cell in ("raters", "raters-check"):
        exec(cell_of(read(TEMPLATE), cell).source, names)
    assert bool(shown) == ("unclear rows" in capsys.readouterr().out) == rated
    if rated:
        assert shown[0]["rows"].sum() == 4 - sum(cell in ("", None, "inf") for cell in valence)
