"""Parameters, the run folder, the record."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import utils.runs
from utils import ROOT, atomic_path, unquote_formula
from utils.runs import PARAMETERS, ParameterError, RunError, check_parameters, model_card, open_run, summary, write_predictions, write_record

GOOD = {
    "data_file": "tweets", "validation_file": None, "test_file": None, "text_column": "text", "label_column": "label",
    "task": "single_label", "encoding": None, "delimiter": None, "max_dropped": 0.5, "model_name": "minilm-l6", "max_length": 128,
    "long_texts": "head", "max_train_samples": None, "num_train_epochs": 3,
    "learning_rate": 5e-5, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 64, "gradient_accumulation_steps": 1,
    "weight_decay": 0.01, "warmup_steps": 0.1, "class_weights": False, "early_stopping_patience": 2, "seed": 42,
    "report_to": "none", "resume": False, "output_dir": None, "demonstrations": True,
}  # fmt: skip


# --- parameters -------------------------------------------------------------------------------------------------------


def test_good_parameters_come_back_in_order():
    assert check_parameters(GOOD | {"np": np, "In": ["", "# Parameters\nseed = 42\nPAPERMILL_INPUT_PATH = 'x'\n"]}) == GOOD
    assert list(check_parameters(GOOD)) == list(PARAMETERS)
    for columns in ("how I felt", ["is it good", "is it new"]):
        assert check_parameters(GOOD | {"label_column": columns})["label_column"] == columns


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("learning_rate", "2e-5", "learning_rate must be a number between 0 and 1, such as 5e-5 (in YAML: 5.0e-5), not '2e-5' (str)"),
        ("learning_rate", 5, "learning_rate must be a number between 0 and 1"),
        ("learning_rate", float("nan"), "learning_rate must be a number"),
        ("num_train_epochs", 0, "num_train_epochs must be a number above 0, not 0 (int)"),
        ("num_train_epochs", True, "num_train_epochs must be a number above 0, not True (bool)"),
        ("per_device_train_batch_size", 16.0, "must be a whole number, 1 or more, not 16.0 (float)"),
        ("warmup_steps", 1.5, "warmup_steps must be a number of steps, or a share of them below 1"),
        ("class_weights", "yes", "class_weights must be True or False, not 'yes' (str)"),
        ("max_length", 2, "max_length must be a whole number, 3 or more"),
        ("task", "multilabel", "task must be 'single_label' or 'multi_label' or 'regression', not 'multilabel'"),
        ("label_column", " ", "label_column must be a column name"),
        ("label_column", [], "label_column must be a column name, or a list of them, not []"),
        ("label_column", ["a", 3], "label_column must be a column name, or a list of them"),
        ("delimiter", ";;", "delimiter must be one character, or None"),
        ("max_dropped", 1.5, "max_dropped must be a share from 0 to 1"),
        ("long_texts", "tail", "long_texts must be 'head' or 'head_tail'"),
        ("report_to", None, "report_to must be 'none' or the name of a tracker"),
        ("data_file", " ", "data_file must be a text that is not empty"),
        ("seed", -1, "seed must be a whole number from 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_right(name, value, says):
    with pytest.raises(ParameterError) as error:
        check_parameters(GOOD | {name: value})
    assert says in str(error.value)
    assert "The parameters are:\n  data_file:" in str(error.value)


def test_a_misspelt_injected_name_is_found_with_its_neighbour():
    with pytest.raises(ParameterError) as error:
        check_parameters(GOOD | {"lerning_rate": 1e-5, "In": ["x = 1", "# Parameters\nlerning_rate = 1e-5\n"]})
    assert "there is no parameter 'lerning_rate'; did you mean 'learning_rate'?" in str(error.value)


def test_all_faults_are_reported_at_once_and_a_missing_one_too():
    with pytest.raises(ParameterError) as error:
        check_parameters({name: value for name, value in GOOD.items() if name != "seed"} | {"max_length": "long", "resume": 1})
    assert all(word in str(error.value) for word in ("seed is not set", "max_length must be", "resume must be"))


# --- the run folder ---------------------------------------------------------------------------------------------------


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,b\n")
    return path


def checkpoint(folder, step, whole=True):
    """Make what Trainer leaves: the state file is written last."""
    path = folder / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in utils.runs.CHECKPOINT_FILES[0 if whole else 1 :]:
        (path / name).write_text("{}")
    return path


def test_a_new_folder_starts_from_the_beginning(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run")}
    run = open_run(parameters, [data_file])
    assert (run.folder, run.checkpoint) == (tmp_path / "run", None)
    assert open_run(parameters | {"resume": True}, [data_file]).checkpoint is None


def test_a_named_folder_with_an_earlier_run_is_refused(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run")}
    checkpoint(open_run(parameters, [data_file]).folder, 10)
    with pytest.raises(RunError, match=r"holds an earlier run\. Give another output_dir, or set resume=True"):
        open_run(parameters, [data_file])
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-10").exists()


def test_resume_takes_the_last_whole_checkpoint_and_removes_half_ones(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": True}
    folder = open_run(parameters, [data_file]).folder
    checkpoint(folder, 9)
    last = checkpoint(folder, 100)
    half = checkpoint(folder, 200, whole=False)
    run = open_run(parameters | {"report_to": "tensorboard"}, [data_file])
    assert run.checkpoint == last
    assert not half.exists()
    assert "Continuing from checkpoint-100" in run.remark


def test_resume_refuses_other_parameters_and_other_data(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": True}
    checkpoint(open_run(parameters, [data_file]).folder, 10)
    with pytest.raises(RunError, match="learning_rate was 5e-05 and is 0.0001"):
        open_run(parameters | {"learning_rate": 1e-4}, [data_file])
    data_file.write_text("text,label\nA,b\n")
    with pytest.raises(RunError, match="data_sha256 was"):
        open_run(parameters, [data_file])
    (tmp_path / "run" / "checkpoints" / "run.json").unlink()
    with pytest.raises(RunError, match="not the run.json"):
        open_run(parameters, [data_file])


def test_the_default_folder_moves_an_earlier_run_aside(tmp_path, data_file, monkeypatch):
    monkeypatch.setattr(utils.runs, "DEFAULT_FOLDER", tmp_path / "training")
    for content in ("first", "second"):
        run = open_run(GOOD, [data_file])
        assert not (run.folder / "metrics.json").exists()
        (run.folder / "metrics.json").write_text(content)
    run = open_run(GOOD, [data_file])
    assert (tmp_path / "training-previous" / "metrics.json").read_text() == "second"
    assert "The run that was there is now" in run.remark


@pytest.mark.parametrize("place", ["training/model", "training-previous/model", "./training/checkpoints/checkpoint-3"])
def test_a_model_to_start_from_is_not_moved_away(tmp_path, data_file, monkeypatch, place):
    monkeypatch.setattr(utils.runs, "DEFAULT_FOLDER", tmp_path / "training")
    monkeypatch.chdir(tmp_path)
    (open_run(GOOD, [data_file]).folder / "metrics.json").write_text("{}")
    (tmp_path / place).mkdir(parents=True)
    for name in (place, str(tmp_path / place)):
        with pytest.raises(RunError, match="would be moved or deleted by this run, which starts from it. Give an output_dir"):
            open_run(GOOD | {"model_name": name}, [data_file])
        assert (tmp_path / place).is_dir()
    assert open_run(GOOD | {"model_name": place, "output_dir": "other"}, [data_file]).folder == tmp_path / "other"
    open_run(GOOD | {"model_name": "training/elsewhere/../../model"}, [data_file])  # a model beside them is not in the way


def test_a_continued_run_is_unfinished_until_it_ends(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": True}
    folder = open_run(parameters, [data_file]).folder
    (folder / "metrics.json").write_text("{}")
    open_run(parameters, [data_file])
    assert not (folder / "metrics.json").exists()


def test_a_folder_that_cannot_be_written_is_named(data_file):
    with pytest.raises(RunError, match="cannot be written"):
        open_run(GOOD | {"output_dir": "/proc/run"}, [data_file])


# --- what a run leaves ------------------------------------------------------------------------------------------------


def record():
    score = {"accuracy": 0.9, "f1_macro": 0.8}
    return {
        "parameters": GOOD | {"data_file": "/home/me/<b>my|file.csv"},
        "data": {"train_rows": 70, "validation_rows": 15, "test_rows": 15, "labels": ["<script>alert(1)</script>", "a|b"], "dropped": {"repeated_text": 2}},
        "baselines": {"majority": {"accuracy": 0.5, "f1_macro": 0.3}, "tfidf_logreg": {"accuracy": 0.7, "f1_macro": 0.6}},
        "test": score | {"loss": 0.3, "accuracy_ci95": [0.8, 0.95]},
        "environment": {"python": "3.11"},
    }


def test_the_model_card_says_the_scores_and_escapes_the_labels():
    card = model_card(record())
    assert "| this model | 0.900 | 0.800 |" in card
    assert "| TF-IDF + logistic regression | 0.700 | 0.600 |" in card
    assert "0.800 to 0.950 (Wilson)" in card
    assert "<script>" not in card
    assert "a\\|b" in card
    assert "/home/me" not in card
    assert "Rows left out: repeated_text 2." in card


def test_the_record_is_read_back_and_summed_up(tmp_path):
    with pytest.raises(RunError, match="the run did not finish"):
        summary(tmp_path)
    write_record(tmp_path, record())
    assert json.loads((tmp_path / "metrics.json").read_text()) == record()
    text = summary(tmp_path)
    assert "Test accuracy 0.900" in text
    assert "against 0.700 for TF-IDF" in text


def test_predictions_keep_order_and_odd_characters(tmp_path):
    texts, labels = ['a "quoted"\nline', "=1+1", "😀"], ["x,y", "b", "b"]
    write_predictions(tmp_path / "p.csv", texts, labels, ["x,y", "b", "x,y"], np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), ["x,y", "b"])
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [texts[0], "'=1+1", texts[2]]  # a spreadsheet would run the second one
    assert [unquote_formula(row["text"]) for row in rows] == texts
    assert [row["predicted"] for row in rows] == ["x,y", "b", "x,y"]
    assert rows[0]["probability_x,y"] == "0.900000"


def test_predictions_of_numbers_have_no_probabilities(tmp_path):
    write_predictions(tmp_path / "p.csv", ["a", "b"], ["-1.5", "2"], ["-1.25", "1.75"])
    assert (tmp_path / "p.csv").read_text().splitlines() == ["text,label,predicted", "a,-1.5,-1.25", "b,2,1.75"]


def test_the_card_and_the_summary_of_a_regression_speak_of_numbers(tmp_path):
    scores = {"pearson": 0.9, "spearman": 0.8, "mae": 0.4}
    baselines = {"mean": {"pearson": 0.0, "spearman": 0.0, "mae": 1.5}, "tfidf_ridge": {"pearson": 0.7, "spearman": 0.6, "mae": 1.0}}
    test = scores | {"loss": 0.3, "pearson_ci95": [0.85, 0.93]}
    changed = record() | {"parameters": GOOD | {"task": "regression"}, "baselines": baselines, "test": test}
    card = model_card(changed)
    assert "gives each text a number." in card
    assert "| this model | 0.900 | 0.800 | 0.400 |" in card
    assert 'function_to_apply="none"' in card
    assert "0.850 to 0.930 (bootstrap)" in card
    assert "a\\|b" not in card
    write_record(tmp_path, changed)
    assert "Test pearson 0.900" in summary(tmp_path)
    assert "against 0.700 for TF-IDF + ridge regression and 0.000 for the mean of the training rows" in summary(tmp_path)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as partial:
        partial.write_text("new")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("old", "new"):
        with atomic_path(tmp_path / "model") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]


def test_a_write_that_is_killed_leaves_the_old_file_whole(tmp_path):
    target = tmp_path / "metrics.json"
    target.write_text("old")
    program = """
import pathlib, sys, time
from utils import atomic_path
with atomic_path(pathlib.Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(target)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert target.read_text() == "old"
