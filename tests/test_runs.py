"""Parameters, the run folder, the record."""

import csv
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from test_predict import tiny
from transformers.trainer_utils import get_last_checkpoint

import utils.runs
from utils import ROOT, atomic_path, unquote_formula
from utils.data import read_table, split_table
from utils.parameters import PARAMETERS, ParameterError, check_parameters
from utils.reading.checkpoints import saved_checkpoints
from utils.runs import RunError, model_card, open_run, summary, write_predictions, write_record

GOOD = {
    "data_file": "tweets", "validation_file": None, "test_file": None, "text_column": "text",
    "text_pair_column": None, "label_column": "label", "task": "single_label", "encoding": None,
    "delimiter": None, "max_dropped": 0.5, "group_column": None, "time_column": None, "folds": None,
    "fold": None,
    "model_name": "minilm-l6", "max_length": 128, "long_texts": "head", "max_train_samples": None,
    "num_train_epochs": 3, "learning_rate": 5e-5, "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16, "gradient_accumulation_steps": 1, "weight_decay": 0.01,
    "warmup_steps": 0.1, "class_weights": False, "label_smoothing_factor": 0.0,
    "early_stopping_patience": 2, "seed": 42, "report_to": "none", "resume": False, "output_dir": None,
    "rivals": None, "target_accuracy": None,
}  # fmt: skip


# --- parameters ---------------------------------------------------------------------------------------------


def test_good_parameters_come_back_in_order():
    assert (
        check_parameters(
            GOOD | {"np": np, "In": ["", "# Parameters\nseed = 42\nPAPERMILL_INPUT_PATH = 'x'\n"]}
        )
        == GOOD
    )
    assert list(check_parameters(GOOD)) == list(PARAMETERS)
    for columns in ("how I felt", ["is it good", "is it new"]):
        assert check_parameters(GOOD | {"label_column": columns})["label_column"] == columns


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "learning_rate",
            "2e-5",
            "learning_rate must be a number between 0 and 1, such as 5e-5 (in YAML: 5.0e-5), or None, "
            "not '2e-5' (str)",
        ),
        ("learning_rate", 5, "learning_rate must be a number between 0 and 1"),
        ("learning_rate", float("nan"), "learning_rate must be a number"),
        ("num_train_epochs", 0, "num_train_epochs must be a number above 0, or None, not 0 (int)"),
        ("num_train_epochs", True, "num_train_epochs must be a number above 0, or None, not True (bool)"),
        ("per_device_train_batch_size", 16.0, "must be a whole number, 1 or more, not 16.0 (float)"),
        ("warmup_steps", 1.5, "warmup_steps must be a number of steps, or a share of them below 1"),
        ("class_weights", "yes", "class_weights must be True or False, not 'yes' (str)"),
        ("label_smoothing_factor", 1, "label_smoothing_factor must be a share from 0 to below 1"),
        ("max_length", 2, "max_length must be a whole number, 3 or more"),
        (
            "task",
            "multilabel",
            "task must be 'single_label' or 'multi_label' or 'regression', not 'multilabel'",
        ),
        ("label_column", " ", "label_column must be a column name"),
        ("label_column", [], "label_column must be a column name, or a list of them, not []"),
        ("label_column", ["a", 3], "label_column must be a column name, or a list of them"),
        ("delimiter", ";;", "delimiter must be one character, \\t or tab, or None"),
        ("delimiter", "ab", "delimiter must be one character, \\t or tab, or None, not 'ab'"),
        ("delimiter", "\\n", "delimiter must be one character, \\t or tab, or None"),
        ("delimiter", 1, "put it in quotes, or write `-r delimiter 1` instead of `-p`"),
        (
            "label_column",
            2024,
            "not 2024 (int) (if it is meant as a text, put it in quotes, "
            "or write `-r label_column 2024` instead of `-p`)",
        ),
        ("text_column", 0.5, "or write `-r text_column 0.5` instead of `-p`"),
        ("label_column", True, "write `-r label_column True` instead"),
        (
            "label_column",
            [2023, "2024"],
            "not [2023, '2024'] (list) (write names that are numbers in quotes: ['2023', '2024'])",
        ),
        ("encoding", 1252, "write `-r encoding 1252` instead"),
        ("max_dropped", 1.5, "max_dropped must be a share from 0 to 1"),
        ("long_texts", "tail", "long_texts must be 'head' or 'head_tail'"),
        ("report_to", None, "report_to must be 'none' or the name of a tracker"),
        ("data_file", " ", "data_file must be a text that is not empty"),
        ("seed", -1, "seed must be a whole number from 0"),
        (
            "rivals",
            ["a.csv"],
            "rivals must be a mapping of names to files, such as {'gpt': 'gpt.csv'}, or None",
        ),
        ("rivals", {"gpt": ""}, "rivals must be a mapping of names to files"),
        ("target_accuracy", 97, "target_accuracy must be a share, such as 0.97, or None, not 97 (int)"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_right(name, value, says):
    with pytest.raises(ParameterError) as error:
        check_parameters(GOOD | {name: value})
    assert says in str(error.value)
    assert "The parameters are:\n  data_file:" in str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"class_weights": True}, "class_weights and label_smoothing_factor do not go together: "),
        ({"task": "multi_label"}, "without task='single_label', set label_smoothing_factor to 0"),
        ({"task": "regression"}, "Trainer smooths the one label of a text"),
    ],
)
def test_smoothing_is_refused_where_it_would_be_wrong(values, says):
    with pytest.raises(ParameterError) as error:
        check_parameters(GOOD | values | {"label_smoothing_factor": 0.2})
    assert says in str(error.value)
    check_parameters(GOOD | values)
    check_parameters(GOOD | {"label_smoothing_factor": 0.2})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", 1),
        ("seed", "x"),
        ("label_column", None),
        ("label_column", [3, " "]),
        ("resume", 1),
        ("text_column", ""),
    ],
)
def test_a_way_to_give_a_text_is_named_only_where_it_helps(name, value):
    with pytest.raises(ParameterError) as error:
        check_parameters(GOOD | {name: value})
    assert "-r " not in str(error.value)
    assert "in quotes" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"group_column": "a", "time_column": "b"}, "group_column and time_column contradict each other"),
        ({"fold": 0}, "fold and folds go together"),
        ({"folds": 5}, "fold and folds go together"),
        ({"folds": 5, "fold": 5}, "from 0 to folds - 1"),
        ({"folds": 5, "fold": 4, "test_file": "x"}, "test_file and time_column must be None"),
        ({"folds": 5, "fold": 4, "time_column": "x"}, "test_file and time_column must be None"),
    ],
)
def test_values_that_are_right_alone_and_not_together(values, says):
    for one in values:
        check_parameters({one: values[one]}, (one,))
    with pytest.raises(ParameterError, match=says):
        check_parameters(GOOD | values)
    fine = {"folds": 5, "fold": 0, "group_column": "a", "validation_file": "x"}
    assert check_parameters(GOOD | fine) == GOOD | fine


@pytest.mark.parametrize("delimiter", [";", "\t", "\\t", "tab", None])
def test_a_tab_can_be_spelt_out(delimiter):
    assert check_parameters(GOOD | {"delimiter": delimiter})["delimiter"] == delimiter


def test_a_misspelt_injected_name_is_found_with_its_neighbour():
    with pytest.raises(ParameterError) as error:
        check_parameters(
            GOOD | {"lerning_rate": 1e-5, "In": ["x = 1", "# Parameters\nlerning_rate = 1e-5\n"]}
        )
    assert "there is no parameter 'lerning_rate'. Did you mean 'learning_rate'?" in str(error.value)


def test_all_faults_are_reported_at_once_and_a_missing_one_too():
    with pytest.raises(ParameterError) as error:
        check_parameters(
            {name: value for name, value in GOOD.items() if name != "seed"}
            | {"max_length": "long", "resume": 1}
        )
    assert all(
        word in str(error.value) for word in ("seed is not set", "max_length must be", "resume must be")
    )


# --- the run folder -----------------------------------------------------------------------------------------


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,b\n")
    return path


STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
STATE = "trainer_state.json"


def checkpoint(folder, step, whole=True, files=("model.safetensors", *STATES, STATE)):
    """Make what Trainer leaves: the state file is written last."""
    path = folder / "checkpoints" / f"checkpoint-{step}"
    for name in files if whole else files[:-1]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        index = {"weight_map": {"a": "part-1", "b": "part-2", "c": "part-1"}}
        (path / name).write_text(json.dumps(index if name.endswith(".index.json") else {"global_step": step}))
    return path


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_a_new_folder_starts_from_the_beginning(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run")}
    run = open_run(parameters)
    assert (run.folder, run.checkpoint) == (tmp_path / "run", None)
    assert open_run(parameters | {"resume": True}).checkpoint is None


def test_a_named_folder_with_an_earlier_run_is_refused(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run")}
    checkpoint(open_run(parameters).folder, 10)
    with pytest.raises(RunError, match=r"holds an earlier run\. Give another output_dir, or set resume=True"):
        open_run(parameters)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-10").exists()


WHOLE = {  # what Trainer writes, alone and with PEFT, FSDP, DeepSpeed
    "one file": ("model.safetensors", *STATES, STATE),
    "several processes": (
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "rng_state_1.pth",
        STATE,
    ),
    "shards": ("part-1", "part-2", "model.safetensors.index.json", *STATES, STATE),
    "old shards": ("part-1", "part-2", "pytorch_model.bin.index.json", *STATES, STATE),
    "old weights": ("pytorch_model.bin", *STATES, STATE),
    "adapter": ("adapter_model.safetensors", "adapter_config.json", *STATES, STATE),
    "two adapters": ("first/adapter_model.safetensors", "second/adapter_model.bin", *STATES, STATE),
    "fp16": ("model.safetensors", *STATES, "scaler.pt", STATE),
    "fsdp": (
        "pytorch_model_fsdp_0/__0_0.distcp",
        "optimizer_0/__0_0.distcp",
        "scheduler.pt",
        "rng_state_0.pth",
        STATE,
    ),
    "fsdp in files": ("pytorch_model_fsdp.bin", "optimizer.bin", "scheduler.pt", "rng_state_0.pth", STATE),
    "deepspeed": (
        "global_step100/zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "latest",
        "rng_state_0.pth",
        STATE,
    ),
    "save_only_model": ("model.safetensors", "training_args.bin", STATE),
}
HALF = {
    "no trainer_state.json": WHOLE["one file"][:-1],
    "no weights": (*STATES, STATE),
    "no part-2": ("part-1", "model.safetensors.index.json", *STATES, STATE),
    "no optimizer": ("model.safetensors", "scheduler.pt", "rng_state.pth", STATE),
    "no random states": ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", STATE),
}


@pytest.mark.parametrize("form", WHOLE)
def test_resume_continues_from_a_checkpoint_in_any_form(tmp_path, data_file, form):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": True}
    folder = open_run(parameters).folder
    checkpoint(folder, 20)
    last = checkpoint(folder, 100, files=WHOLE[form])
    before = tree(folder)
    run = open_run(parameters)
    assert run.checkpoint == last
    assert tree(folder) == before
    assert "Moved" not in run.remark
    assert ("Continuing from checkpoint-100. It holds weights only" in run.remark) == (
        form == "save_only_model"
    )


@pytest.mark.parametrize("lacking", HALF)
def test_resume_takes_the_last_whole_checkpoint_and_sets_half_ones_aside(tmp_path, data_file, lacking):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": True}
    folder = open_run(parameters).folder
    checkpoint(folder, 9)
    last = checkpoint(folder, 100)
    for where in (
        "set_aside/checkpoint-200",
        "set_aside/checkpoint-200-2",
    ):  # killed, continued, and killed again at the same step
        half = checkpoint(folder, 200, files=HALF[lacking])
        before = tree(half)
        run = open_run(parameters | {"report_to": "tensorboard"})
        assert run.checkpoint == last
        assert tree(folder / "checkpoints" / where) == before
        moved = f"Moved checkpoint-200 (incomplete: {lacking}) to {folder}/checkpoints/{where}."
        assert f"{moved} Continuing from checkpoint-100" in run.remark
        assert Path(get_last_checkpoint(folder / "checkpoints")) == last
        assert saved_checkpoints(folder / "checkpoints") == [folder / "checkpoints" / "checkpoint-9", last]


@pytest.mark.parametrize(
    "name", ["trainer_state.json", "model.safetensors", "optimizer.pt", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("content", ["", '{"cut'])
def test_files_that_a_power_cut_left_empty_or_cut_off_do_not_count(tmp_path, data_file, name, content):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": True}
    folder = open_run(parameters).folder
    (checkpoint(folder, 100) / name).write_text(content)
    run = open_run(parameters)
    readable = content and not name.endswith(".json")  # nobody reads a pickle to look whether it is whole
    assert (run.checkpoint is not None) == bool(readable)
    assert ("There is no checkpoint yet" in run.remark) == (not readable)
    assert (folder / "checkpoints" / "set_aside" / "checkpoint-100" / name).exists() == (not readable)


@pytest.mark.parametrize("resume", [False, True])
def test_what_only_begins_like_a_checkpoint_is_none_and_stays_yours(tmp_path, data_file, resume):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": resume}
    checkpoints = open_run(parameters).folder / "checkpoints"
    for name in (
        "checkpoint-notes.txt",
        "checkpoint-7",
        "checkpoint-final/weights",
        "checkpoint-100-copy/weights",
        "checkpoint_8/x",
        "my-checkpoint-9/x",
    ):
        (checkpoints / name).parent.mkdir(exist_ok=True)
        (checkpoints / name).write_text("mine")
    assert saved_checkpoints(checkpoints) == []
    last = checkpoint(checkpoints.parent, 10) if resume else None
    run = open_run(parameters)
    assert run.checkpoint == last
    for name in ("checkpoint-notes.txt", "checkpoint-7", "checkpoint_8/x", "my-checkpoint-9/x"):
        assert (checkpoints / name).read_text() == "mine"
    for name in (
        "checkpoint-final",
        "checkpoint-100-copy",
    ):  # Trainer's rotation would take these for its own
        assert (checkpoints / "set_aside" / name / "weights").read_text() == "mine"
        assert (
            f"{name} (not Trainer's, which would delete it in time) to {checkpoints}/set_aside/{name}"
            in run.remark
        )


def test_the_newest_checkpoint_is_the_one_that_trainer_takes(tmp_path):
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoints" / "checkpoint-300").write_text("a file")
    found = saved_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in found] == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]
    assert str(found[-1]) == get_last_checkpoint(tmp_path / "checkpoints")
    assert saved_checkpoints(tmp_path / "nowhere") == []


def test_resume_refuses_other_parameters_and_other_data(tmp_path, data_file):
    parameters = GOOD | {"data_file": str(data_file), "output_dir": str(tmp_path / "run"), "resume": True}
    checkpoint(open_run(parameters).folder, 10)
    with pytest.raises(RunError, match="learning_rate was 5e-05 and is 0.0001"):
        open_run(parameters | {"learning_rate": 1e-4})
    data_file.write_text("text,label\nA,b\n")
    with pytest.raises(RunError, match="data_sha256 was"):
        open_run(parameters)
    (tmp_path / "run" / "checkpoints" / "run.json").unlink()
    with pytest.raises(RunError, match="not the run.json"):
        open_run(parameters)


def test_the_default_folder_moves_an_earlier_run_aside(tmp_path, data_file, monkeypatch):
    monkeypatch.setattr(utils.runs, "DEFAULT_FOLDER", tmp_path / "training")
    for content in ("first", "second"):
        run = open_run(GOOD)
        assert not (run.folder / "metrics.json").exists()
        (run.folder / "metrics.json").write_text(content)
    run = open_run(GOOD)
    assert (tmp_path / "training-previous" / "metrics.json").read_text() == "second"
    assert "The run that was there is now" in run.remark
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "training", "training-previous"]


def test_a_run_that_did_not_finish_never_takes_the_place_of_one_that_did(tmp_path, data_file, monkeypatch):
    monkeypatch.setattr(utils.runs, "DEFAULT_FOLDER", tmp_path / "training")
    (open_run(GOOD).folder / "metrics.json").write_text("finished")
    for step in (10, 20):
        checkpoint(open_run(GOOD).folder, step)  # and then it is interrupted
    open_run(GOOD)
    assert (tmp_path / "training-previous" / "metrics.json").read_text() == "finished"
    left = (tmp_path / "training-unfinished" / "checkpoints").glob("checkpoint-*")
    assert [path.name for path in left] == ["checkpoint-20"]


def test_the_summary_names_what_was_warned_of(tmp_path):
    checks = [{"id": "imbalance", "level": "warning", "message": "...", "fix": "..."}] * 2
    write_record(tmp_path, record() | {"checks": checks})
    assert summary(tmp_path).splitlines()[-1].endswith("imbalance")
    write_record(tmp_path, record() | {"checks": []})
    assert "imbalance" not in summary(tmp_path)


@pytest.mark.parametrize("name", ["thesis.docx", "notes/monday.txt", "mine.ipynb"])
def test_what_no_run_made_is_kept_when_an_older_run_makes_room(tmp_path, data_file, monkeypatch, name):
    monkeypatch.setattr(utils.runs, "DEFAULT_FOLDER", tmp_path / "training")
    folder = open_run(GOOD).folder
    (folder / "metrics.json").write_text("first")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    remarks = []
    for _ in range(3):
        remarks.append(open_run(GOOD).remark)
        (folder / "metrics.json").write_text("next")
    assert (tmp_path / "training-previous-2" / name).read_text() == "mine"
    assert (tmp_path / "training-previous-2" / "metrics.json").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "data.csv",
        "training",
        "training-previous",
        "training-previous-2",
    ]
    assert ["training-previous-2, for it holds more than a run leaves" in remark for remark in remarks] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("kind", ["a folder", "a file"])
def test_an_own_thing_called_like_the_older_run_is_kept(tmp_path, data_file, monkeypatch, kind):
    monkeypatch.setattr(utils.runs, "DEFAULT_FOLDER", tmp_path / "training")
    mine = tmp_path / "training-previous" / ("README.md" if kind == "a folder" else "")
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    (open_run(GOOD).folder / "metrics.json").write_text("first")
    open_run(GOOD)
    assert (tmp_path / "training-previous" / "metrics.json").read_text() == "first"
    assert list(
        tree(tmp_path / "training-previous-2").values()
        if kind == "a folder"
        else [(tmp_path / "training-previous-2").read_text()]
    ) == ["mine"]


@pytest.mark.parametrize(
    "place", ["training/model", "training-previous/model", "./training/checkpoints/checkpoint-3"]
)
def test_a_model_to_start_from_is_not_moved_away(tmp_path, data_file, monkeypatch, place):
    monkeypatch.setattr(utils.runs, "DEFAULT_FOLDER", tmp_path / "training")
    monkeypatch.chdir(tmp_path)
    (open_run(GOOD).folder / "metrics.json").write_text("{}")
    (tmp_path / place).mkdir(parents=True)
    for name in (place, str(tmp_path / place)):
        with pytest.raises(
            RunError, match="would be moved or deleted by this run, which starts from it. Give an output_dir"
        ):
            open_run(GOOD | {"model_name": name})
        assert (tmp_path / place).is_dir()
    assert open_run(GOOD | {"model_name": place, "output_dir": "other"}).folder == tmp_path / "other"
    # a model beside them is not in the way
    open_run(GOOD | {"model_name": "training/elsewhere/../../model"})


def test_a_continued_run_is_unfinished_until_it_ends(tmp_path, data_file):
    parameters = GOOD | {"output_dir": str(tmp_path / "run"), "resume": True}
    folder = open_run(parameters).folder
    (folder / "metrics.json").write_text("{}")
    open_run(parameters)
    assert not (folder / "metrics.json").exists()


def test_a_folder_that_cannot_be_written_is_named(data_file):
    with pytest.raises(RunError, match="cannot be written"):
        open_run(GOOD | {"output_dir": "/proc/run"})


# --- what a run leaves --------------------------------------------------------------------------------------


def record():
    score = {"accuracy": 0.9, "f1_macro": 0.8}
    return {
        "parameters": GOOD | {"data_file": "/home/me/<b>my|file.csv"},
        "data": {
            "train_rows": 70,
            "validation_rows": 15,
            "test_rows": 15,
            "labels": ["<script>alert(1)</script>", "a|b"],
            "dropped": {"repeated_text": 2},
        },
        "baselines": {
            "majority": {"accuracy": 0.5, "f1_macro": 0.3},
            "tfidf_logreg": {"accuracy": 0.7, "f1_macro": 0.6},
        },
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


def test_the_model_card_says_what_the_template_chose_where_nobody_did():
    chosen = {"parameters": GOOD | {"num_train_epochs": None, "learning_rate": None}}
    chosen["train"] = {"epochs": 4, "learning_rate": 1e-4, "seconds": 1.0}
    card = model_card(record() | chosen)
    assert "| num_train_epochs | 4 |" in card
    assert "| learning_rate | 0.0001 |" in card


@pytest.mark.parametrize(
    ("model_name", "base_model"),
    [
        ("minilm-l6", "sentence-transformers/all-MiniLM-L6-v2"),
        ("distilbert/distilbert-base-uncased@0123abc", "distilbert/distilbert-base-uncased"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("owner/folder", None),
        ("./folder", None),
        ("~/models/mine", None),
        ("`<b>` [x](y)", None),
    ],
)
def test_the_card_has_metadata_that_the_hub_takes(tmp_path, monkeypatch, model_name, base_model):
    def no_network(*args, **options):
        raise AssertionError("the Hub is asked")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "folder").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    card = ModelCard(model_card(record() | {"parameters": GOOD | {"model_name": model_name}}))
    assert card.text.lstrip().startswith("# A text classifier fine-tuned")
    metadata = card.data.to_dict()
    assert metadata.get("base_model") == base_model
    assert "license" not in metadata
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "text-classification"
    scores = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert scores == {"accuracy": 0.9, "f1_macro": 0.8}
    assert {result.metric_type for result in card.data.eval_results} == {"accuracy", "f1"}
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}


@pytest.mark.parametrize("test_file", [None, "<i>\n---\n: {x}|é.csv", "../..", "2024"])
def test_names_in_the_metadata_are_such_as_the_hub_takes_and_do_nothing(test_file):
    card = ModelCard(model_card(record() | {"parameters": GOOD | {"test_file": test_file}}))
    expected = {None: "tweets", "../..": "own", "2024": "2024"}.get(test_file, "i-x-.csv")
    (result,) = {(result.dataset_type, result.dataset_name) for result in card.data.eval_results}
    assert result == (expected, expected)
    assert re.fullmatch(r"[\w.-]+", card.data.model_name)
    assert "## Parameters" in card.text


def test_the_card_says_what_pipeline_does_with_chunks_and_how_it_takes_pairs():
    chunks, pairs = ({"long_texts": "chunks", "max_length": 77}, {"text_pair_column": "answer"})
    chunks, pairs = (model_card(record() | {"parameters": GOOD | changed}) for changed in (chunks, pairs))
    assert "in overlapping chunks of 77 tokens" in chunks
    assert "`pipeline` reads the first chunk and cuts the rest" in chunks
    assert 'classify({"text": "a text", "text_pair": "its pair"}, truncation=True)' in pairs
    assert "gives each pair of texts one of these labels" in pairs
    assert "cut to 128 tokens; of a pair, the longer text is cut." in pairs
    assert 'classify("a text", truncation=True)' in chunks


def test_of_pairs_both_texts_are_written(tmp_path):
    rows = {"row": [4], "text": ["=a"], "label": ["x"], "predicted": ["y"], "text_pair": ["=b"], "other": [1]}
    write_predictions(tmp_path, pd.DataFrame(rows))
    written = (tmp_path / "predictions.csv").read_text().splitlines()
    assert written == ["row,text,text_pair,label,predicted", "4,'=a,'=b,x,y"]


def test_the_template_of_the_card_is_shipped():
    """If the package is not installed in place, only what pyproject.toml names lies beside the code."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        shipped = tomllib.load(file)["tool"]["setuptools"]["package-data"]["utils"]
    files = [
        path for path in (ROOT / "utils").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    others = sorted(path.relative_to(ROOT / "utils").as_posix() for path in files if path.suffix != ".py")
    assert others == shipped == ["model_card.md"]


def test_the_record_is_read_back_and_summed_up(tmp_path):
    with pytest.raises(RunError, match="the run did not finish"):
        summary(tmp_path)
    write_record(tmp_path, record())
    assert json.loads((tmp_path / "metrics.json").read_text()) == record()
    text = summary(tmp_path)
    assert "Test accuracy 0.900" in text
    assert "against 0.700 for TF-IDF" in text


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("-m utils.runs", "python -m utils.runs: error: the following arguments are required: folder"),
        (
            "-m utils.predict model",
            "python -m utils.predict: error: the following arguments are required: data_file, output_file",
        ),
        (
            "-m utils.batch",
            "python -m utils.batch: error: the following arguments are required: file, --output-dir",
        ),
        (
            "utils/setup/environment.py lab",
            "environment.py: error: argument name: invalid choice: 'lab' (choose from ",
        ),
        ("utils/setup/environment.py site audit", "environment.py: error: unrecognized arguments: audit"),
        ("tests/tools/notebooks.py", "notebooks.py: error: the following arguments are required: folder"),
        ("docs/badges.py v1.0", "badges.py: error: unrecognized arguments: v1.0"),
    ],
)
def test_a_command_with_a_word_too_few_or_too_many_says_how_it_is_called(command, says):
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert says in done.stderr


@pytest.mark.parametrize("content", [None, "", "[]", '{"parameters": {}}'])
def test_the_command_says_that_there_is_no_finished_run(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(SystemExit) as stop:
        utils.runs.main([str(tmp_path)])
    assert (
        stop.value.code == f"{tmp_path} has no metrics.json: the run did not finish."
        or "is no record of a run of the template" in stop.value.code
    )
    with pytest.raises(SystemExit, match=r"There is no folder .*nowhere\. Give the output_dir of a run\."):
        utils.runs.main([str(tmp_path / "nowhere")])
    write_record(tmp_path, record())
    utils.runs.main([str(tmp_path)])
    assert "Test accuracy 0.900" in capsys.readouterr().out


def test_the_command_labels_texts_with_the_runs_model(tmp_path, capsys):
    write_record(tmp_path, record())
    tiny(tmp_path / "model")
    utils.runs.main([str(tmp_path), "a good film", "bad"])
    answers = capsys.readouterr().out.splitlines()[-2:]
    assert [answer.partition(": ")[2] for answer in answers] == ["a good film", "bad"]


def test_predictions_keep_order_and_odd_characters(tmp_path):
    texts, labels = ['a "quoted"\nline', "=1+1", "😀"], ["x,y", "b", "b"]
    # as rows come out of a frame
    rows = pd.DataFrame({"row": [7, 2, 1000], "text": texts, "label": labels}, index=[5, 0, 3])
    rows = rows.assign(predicted=["x,y", "b", "x,y"], own="is not written")
    write_predictions(tmp_path, rows, np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), ["x,y", "b"])
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "text", "label", "predicted", "probability_x,y", "probability_b"]
    assert [row["row"] for row in rows] == ["7", "2", "1000"]
    assert [row["text"] for row in rows] == [
        texts[0],
        "'=1+1",
        texts[2],
    ]  # a spreadsheet would run the second one
    assert [unquote_formula(row["text"]) for row in rows] == texts
    assert [row["predicted"] for row in rows] == ["x,y", "b", "x,y"]
    assert rows[0]["probability_x,y"] == "0.900000"


def test_predictions_of_numbers_have_no_probabilities(tmp_path):
    rows = pd.DataFrame({"row": [1, 4], "text": ["a", "b"], "label": ["-1.5", "2"]})
    write_predictions(tmp_path, rows.assign(predicted=["-1.25", "1.75"]), np.array([-1.25, 1.75]))
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "row,text,label,predicted",
        "1,a,-1.5,-1.25",
        "4,b,2,1.75",
    ]


def test_predictions_are_joined_to_their_file_by_row(tmp_path):
    """The text is no key: it may have an apostrophe in front, and the same one may stand there twice."""
    texts = [f"@name {k}" if k % 3 else "=1+1" for k in range(60)]
    pd.DataFrame(
        {"id": [f"id-{k}" for k in range(60)], "text": texts, "label": ["+1 up", "-1 down"] * 30}
    ).to_csv(tmp_path / "mine.csv", index=False)
    mine = pd.read_csv(tmp_path / "mine.csv")
    test = split_table(read_table(tmp_path / "mine.csv", max_dropped=0.9)).test
    write_predictions(tmp_path, test.assign(predicted=test["label"]))
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert len(predictions) > 3
    assert predictions["row"].is_monotonic_increasing
    assert not set(predictions["text"]) & set(mine["text"])
    joined = mine.iloc[predictions["row"] - 1]
    assert joined["text"].tolist() == predictions["text"].map(unquote_formula).tolist()
    assert joined["label"].tolist() == predictions["label"].map(unquote_formula).tolist()


def test_the_card_and_the_summary_of_a_regression_speak_of_numbers(tmp_path):
    scores = {"pearson": 0.9, "spearman": 0.8, "mae": 0.4}
    baselines = {
        "mean": {"pearson": 0.0, "spearman": 0.0, "mae": 1.5},
        "tfidf_ridge": {"pearson": 0.7, "spearman": 0.6, "mae": 1.0},
    }
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
    assert "against 0.700 for TF-IDF + ridge regression, 0.000 for the mean of the training rows" in summary(
        tmp_path
    )


def test_a_rival_is_on_the_card_and_in_the_summary_and_its_file_at_home_is_nobodys(tmp_path):
    rival = {"<i>gpt|": {"accuracy": 0.85, "f1_macro": 0.75, "mcnemar": 0.01}}
    files = GOOD | {"rivals": {"<i>gpt|": str(Path.home() / "private" / "gpt.csv")}}
    write_record(tmp_path, record() | {"parameters": files, "baselines": record()["baselines"] | rival})
    assert "| &lt;i&gt;gpt\\| | 0.850 | 0.750 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "against 0.850 for <i>gpt|, 0.700 for" in summary(tmp_path)
    kept = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert kept["parameters"]["rivals"] == {"<i>gpt|": "~/private/gpt.csv"}
    assert "private" not in (tmp_path / "README.md").read_text(encoding="utf-8")


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


def put_model(folder, name, number):
    """Write a folder of two files, one of them in a folder of its own."""
    with atomic_path(folder / name) as partial:
        (partial / "inner").mkdir(parents=True)
        (partial / "config.json").write_text(str(number))
        (partial / "inner" / "weights").write_text(str(number))


def model_in(folder):
    """Return the number of a whole folder, None for one that is not there; anything between the two fails."""
    if not folder.exists():
        return None
    numbers = {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }
    assert sorted(numbers) == ["config.json", "inner/weights"]
    assert len(set(numbers.values())) == 1
    return int(numbers["config.json"])


KILLED = """
import os, pathlib, shutil, sys
from utils import atomic_path
folder, function, count, moment = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
module = shutil if function == "rmtree" else os
real, calls = getattr(module, function), []
def dying(*arguments, **options):
    if function == "rmtree" and not str(arguments[0]).endswith(".model.before"):
        return real(*arguments, **options)  # of the scratch folder
    calls.append(arguments)
    if len(calls) == count and moment == "before":
        os._exit(9)
    if len(calls) == count and moment == "within":
        os.unlink(os.path.join(arguments[0], "config.json"))
        os._exit(9)
    done = real(*arguments, **options)
    if len(calls) == count and moment == "after":
        os._exit(9)
    return done
setattr(module, function, dying)
"""


@pytest.mark.parametrize(
    ("function", "count", "moment", "named"),
    [
        ("fsync", 1, "before", 1),
        ("replace", 1, "before", 1),
        ("replace", 1, "after", None),  # the one moment at which nothing has the name
        ("replace", 2, "before", None),
        ("replace", 2, "after", 2),
        ("rmtree", 1, "before", 2),
        ("rmtree", 1, "within", 2),
        ("rmtree", 1, "after", 2),
    ],
)
def test_a_folder_is_whole_whenever_its_replacement_is_killed(
    tmp_path, run_python, function, count, moment, named
):
    put_model(tmp_path, "model", 1)
    program = f"{KILLED}{inspect.getsource(put_model)}put_model(folder, 'model', 2)"
    assert run_python(program, tmp_path, function, count, moment).returncode == 9, "it was killed"
    assert model_in(tmp_path / "model") == named
    assert named or model_in(tmp_path / ".model.before") == 1
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "model"):
        raise ZeroDivisionError
    assert model_in(tmp_path / "model") == (named or 1)
    put_model(tmp_path, "model", 3)
    assert model_in(tmp_path / "model") == 3
    assert not (tmp_path / ".model.before").exists()


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("count", [1, 2])
def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch, failure, count):
    put_model(tmp_path, "model", 1)
    real, calls = os.replace, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == count:
            raise failure
        real(*arguments)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(failure):
        put_model(tmp_path, "model", 2)
    assert model_in(tmp_path / "model") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_the_same_kind_beside_a_file_is_nobodys_business(tmp_path):
    (tmp_path / "table.csv").write_text("older")
    put_model(tmp_path, ".table.csv.before", 5)
    for content in ("old", "new"):
        with atomic_path(tmp_path / "table.csv") as partial:
            partial.write_text(content)
            partial.chmod(0o444)
    assert (tmp_path / "table.csv").read_text() == "new"
    assert model_in(tmp_path / ".table.csv.before") == 5


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
    with subprocess.Popen(
        [sys.executable, "-c", program, str(target)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert target.read_text() == "old"
