"""Rivals, a target and the profile in the template, on a table that a small model can learn."""

import json

import numpy as np
import pandas as pd
import pytest
from test_tasks import small_model, small_table

from notebooks import TEMPLATE, run_here
from utils.data import read_table, split_table
from utils.parameters import ParameterError
from utils.predict import predict_file

SHORT = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "output_dir": "run"}


@pytest.fixture(autouse=True)
def in_a_folder_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_rivals_and_review_from_parameters_to_the_new_file(tmp_path, task):
    table = small_table(320)
    table["label"] = np.where(table["valence"] > 0, "good", "bad")
    table[["text", "label"]].to_csv(tmp_path / "mine.csv", index=False)
    rows = split_table(read_table("mine.csv", task=task), task=task).test
    rival = rows.assign(predicted=np.where(rows["text"].str.contains("well"), "good", "bad"))
    rival[["row", "text", "predicted"]].sample(frac=1, random_state=0).to_csv(
        tmp_path / "rule.csv", index=False
    )
    settings = SHORT | small_model(tmp_path, task, ["bad", "good"]) | {"data_file": "mine.csv", "task": task}
    wanted = {"rivals": {"a rule": "rule.csv"}, "target_accuracy": 0.9}
    _, prints = run_here(TEMPLATE, settings | wanted)

    record = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    expected = (rival["predicted"] == rows["label"]).mean()
    assert record["baselines"]["a rule"]["accuracy"] == pytest.approx(expected)
    assert {"gain", "low", "high", "mcnemar"} <= set(record["baselines"]["a rule"])
    assert "McNemar's exact test" in prints["score"]
    assert [found["label"] for found in record["review"]] == {
        "single_label": ["all labels"],
        "multi_label": ["bad", "good"],
    }[task]
    assert (tmp_path / "run" / "figures" / "coverage.png").stat().st_size > 1000
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "are for a person" in card and "a rule" in card and "rule.csv" not in card
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["target_accuracy"] == 0.9

    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype=str, keep_default_na=False)
    assert list(predictions)[3:5] == ["predicted", "review"]
    predictions[["text"]].to_csv(tmp_path / "new.csv", index=False)
    done = predict_file("run/model", "new.csv", "out.csv", device="cpu")
    assert done.findings == []  # held-out rows of the same table are not unlike it
    again = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert again["review"].tolist() == predictions["review"].tolist()
    if task == "single_label":
        sure = predictions.filter(like="probability_").astype(float).max(axis=1)
        marked = predictions["review"] == "True"
        assert marked.mean() == pytest.approx(1 - record["review"][0]["coverage"])
        assert ((sure < config["review_below"]) == marked).mean() > 0.99


def test_a_target_for_numbers_is_refused_before_anything_is_read():
    with pytest.raises(ParameterError, match="target_accuracy needs classes, and task is 'regression'"):
        run_here(
            TEMPLATE, {"target_accuracy": 0.9, "task": "regression", "data_file": "no.csv"}, "read-tables"
        )
