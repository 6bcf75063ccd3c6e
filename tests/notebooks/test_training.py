"""The template as its users run it: through papermill, in real kernels, on tables of their own."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import test_browser
import yaml
from builders import save_small
from markup import DRAWING, FORMULA, IMAGE, IN_FILE_NAME, LINK, MARK, SCRIPT, look_at, markdown_pages

from notebooks import TEMPLATE, read, run_here
from utils import ROOT, unquote_formula
from utils.data import split_table
from utils.preflight import Watch, WatchError
from utils.reading.checkpoints import saved_checkpoints
from utils.runs import RunError, history

OWN_CSV = ROOT / "notebooks" / "params" / "own_csv.yaml"
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"}


def papermill(folder, parameters, notebook=TEMPLATE, start=subprocess.run, file=None, **options):
    """Run the notebook with the command line tool, from `folder`; a list of `-p name value` as a user types
    it.
    """
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        str(notebook),
        str(folder / "out.ipynb"),
    ]
    command += [word for name, value in parameters.items() for word in ("-p", name, str(value))]
    command += ["-f", str(file)] if file else []
    return start(
        command,
        cwd=folder,
        env=os.environ | QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


# Own names, and markup wherever a name, a label or a text can carry it: it shall be read in what the run
# leaves, and nothing of it shall run.
TEXT, MOOD, OTHER = f"message {IMAGE}", f"mood {SCRIPT} {LINK}", f"id {DRAWING}"
HAPPY, UNHAPPY = f"happy, 😀 {IMAGE} | `", f"not so <b>happy</b> {SCRIPT} {LINK} {FORMULA}"
DATA, TEST, RUN = f"mine{IN_FILE_NAME}.csv", f"test{IN_FILE_NAME}.jsonl", f"run{IN_FILE_NAME}"
SECRETS = {
    name: f"{name.lower()}-5e7c2e7"
    for name in (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "WANDB_API_KEY",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "DATABASE_URL",
        "MY_PASSWORD",
    )
}


@pytest.fixture(scope="session")
def own_table(tweets, tmp_path_factory):
    """A practitioner's files, in a folder of their home: own column names and labels, a CSV to train on, test
    rows as JSONL.
    """
    folder = tmp_path_factory.mktemp("home") / "project"
    folder.mkdir()
    splits = split_table(tweets, max_train_samples=OWN_ROWS, seed=1)
    names = {"positive": HAPPY, "negative": UNHAPPY}

    def frame(rows):
        nasty = [
            SCRIPT,
            IMAGE,
            LINK,
            FORMULA,
            DRAWING,
        ]  # in the first rows, which 04 shows; more would only take time
        texts = [f"{nasty[k]} {text}" if k < len(nasty) else text for k, text in enumerate(rows["text"])]
        return pd.DataFrame({MOOD: rows["label"].map(names), TEXT: texts, OTHER: rows["row"]})

    frame(splits.train).to_csv(folder / DATA, index=False)
    frame(splits.test.head(200)).to_json(folder / TEST, orient="records", lines=True)
    return folder


OWN_ROWS = 360  # enough to beat the baselines by far, in 20 seconds
OWN = {
    "data_file": DATA, "test_file": TEST, "text_column": TEXT, "label_column": MOOD, "num_train_epochs": 2,
    "learning_rate": 2e-4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
    "output_dir": RUN,
}  # fmt: skip


@pytest.fixture(scope="session")
def own_tree():
    """What is in the home folder before the run and after it, by name; `own_run` fills it."""
    return {}


@pytest.fixture(scope="session")
def own_run(own_table, own_tree):
    """One run on that table, in an environment with secrets."""
    home = own_table.parent
    with pytest.MonkeyPatch.context() as changed:
        for name, value in (SECRETS | {"HOME": str(home), "USERPROFILE": str(home)}).items():
            changed.setenv(name, value)
        own_tree["before"] = {path.relative_to(home) for path in home.rglob("*")}
        result = papermill(own_table, OWN)
        own_tree["after"] = {path.relative_to(home) for path in home.rglob("*")}
    assert result.returncode == 0, result.stdout[-3000:]
    shutil.copy(own_table / "out.ipynb", own_table / "executed.ipynb")  # other runs write out.ipynb, too
    return own_table / RUN


@pytest.mark.slow
def test_it_learns_and_beats_the_baselines(own_run):
    metrics = metrics_of(own_run)
    assert metrics["test"]["accuracy"] >= metrics["baselines"]["tfidf_logreg"]["accuracy"] + 0.05
    assert list(metrics["baselines"]) == ["majority", "tfidf_logreg", "embeddings_logreg"]
    accuracies = [block["accuracy"] for block in metrics["baselines"].values()]
    assert accuracies[0] < accuracies[1] < accuracies[2]
    assert metrics["baselines"]["embeddings_logreg"]["seconds"] > 0
    gain = accuracies[2] - accuracies[1]
    assert metrics["baselines"]["embeddings_logreg"]["gain"] == pytest.approx(gain)
    assert (
        metrics["test"]["accuracy_ci95"][0]
        < metrics["test"]["accuracy"]
        < metrics["test"]["accuracy_ci95"][1]
    )
    assert metrics["untrained"]["loss"] == pytest.approx(np.log(2), abs=0.1)
    assert metrics["validation"]["loss"] < metrics["untrained"]["loss"] - 0.2


@pytest.mark.slow
def test_the_record_accounts_for_every_row_and_step(own_run):
    metrics = metrics_of(own_run)
    data = metrics["data"]
    assert data["test_rows"] == 200
    assert data["train_rows"] + data["validation_rows"] + sum(data["dropped"].values()) == OWN_ROWS
    assert data["labels"] == [HAPPY, UNHAPPY]
    batches = math.ceil(data["train_rows"] / 8)
    assert metrics["train"]["steps"] == 2 * math.ceil(batches / 2)  # epochs, and batches that make a step
    assert metrics["train"]["epochs"] == 2
    assert metrics["parameters"]["learning_rate"] == 2e-4
    assert metrics["environment"]["transformers"]


@pytest.mark.slow
def test_the_record_keeps_the_learning_curves_of_the_newest_checkpoint(own_run):
    state = json.loads(
        saved_checkpoints(own_run / "checkpoints")[-1].joinpath("trainer_state.json").read_text()
    )
    kept = metrics_of(own_run)["history"]
    assert kept == history(state["log_history"])
    evaluations = [entry for entry in kept if "eval_loss" in entry]
    assert [entry["epoch"] for entry in evaluations] == [1, 2]
    assert max(entry["eval_f1_macro"] for entry in evaluations) == pytest.approx(
        metrics_of(own_run)["validation"]["f1_macro"], abs=1e-6
    )
    losses = [entry["loss"] for entry in kept if "loss" in entry]
    assert len(losses) >= 10
    assert losses[0] < 0.9  # accumulating over two batches must not double the loss: ln 2 is 0.69
    text = (own_run / "metrics.json").read_text()
    assert text.count('\n  {"epoch": ') == len(kept), "a line an entry"


@pytest.mark.slow
def test_predictions_stand_in_the_order_of_the_test_file(own_run):
    """Against the reloaded model, text by text: grouping by length must not have mixed them up."""
    from transformers import pipeline

    with open(own_run / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = [
            row | {"text": unquote_formula(row["text"])} for row in csv.DictReader(file)
        ]  # "@anonymous" has an apostrophe in front, for spreadsheets
    given = [json.loads(line) for line in (own_run.parent / TEST).read_text().splitlines()]
    assert [(row["row"], row["text"], row["label"]) for row in rows] == [
        (str(k), row[TEXT], row[MOOD]) for k, row in enumerate(given, 1)
    ]
    accuracy = np.mean([row["label"] == row["predicted"] for row in rows])
    assert accuracy == pytest.approx(metrics_of(own_run)["test"]["accuracy"])

    classify = pipeline("text-classification", model=str(own_run / "model"), device="cpu")
    answers = classify([row["text"] for row in rows], truncation=True, max_length=128)
    assert [answer["label"] for answer in answers] == [row["predicted"] for row in rows]
    for row, answer in zip(rows, answers, strict=True):
        assert float(row[f"probability_{answer['label']}"]) == pytest.approx(answer["score"], abs=1e-4)


@pytest.mark.slow
def test_the_folder_holds_what_the_design_promises_and_no_pickle_to_load(own_run):
    assert {"metrics.json", "model", "predictions.csv", "figures", "README.md", "checkpoints"} <= {
        path.name for path in own_run.iterdir()
    }
    assert sorted(path.name for path in (own_run / "figures").iterdir()) == [
        "balance.png",
        "learning_curves.png",
        "test_predictions.png",
    ]
    assert 1 <= len(list((own_run / "checkpoints").glob("checkpoint-*"))) <= 2
    assert {path.suffix for path in (own_run / "model").iterdir()} <= {".json", ".safetensors", ".txt"}
    assert not list(own_run.rglob(".*"))
    assert "&lt;b&gt;happy" in (own_run / "README.md").read_text()


def executed(own_run):
    """Return the executed notebook without papermill's own notes, in which stand the paths of its command
    line.
    """
    notebook = read(own_run.parent / "executed.ipynb")
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
    return notebook


browser = test_browser.browser


@pytest.mark.slow
@pytest.mark.parametrize("template", ["lab", "classic"])
def test_the_executed_notebook_as_a_page_shows_markup_as_it_is(own_run, browser, tmp_path, template):
    """nbconvert lets through what a notebook shows as HTML; so it has to be escaped when it is shown."""
    from nbconvert import HTMLExporter

    notebook = executed(own_run)
    html, _ = HTMLExporter(template_name=template).from_notebook_node(notebook)
    live, seen = look_at(browser, html, tmp_path)
    assert live == []
    shown = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    tables = [table for table in shown if "hacked" in table]
    assert len(tables) >= 4  # the first rows, the scores by label, mistakes, three answers
    for table in tables:
        live, alone = look_at(browser, table, tmp_path)
        assert live == []
        assert "<img src=x onerror=" in alone or "<script>" in alone
        assert alone.strip() in seen or alone.splitlines()[-1] in seen
    for text in (SCRIPT, IMAGE, LINK, FORMULA, HAPPY, UNHAPPY, MOOD, OTHER, RUN):
        assert text in seen
    assert seen.count(MARK) > 40


@pytest.mark.slow
def test_the_model_card_of_a_run_shows_markup_as_it_is(own_run, browser, tmp_path):
    for renderer, html in markdown_pages((own_run / "README.md").read_text()).items():
        live, seen = look_at(browser, html, tmp_path)
        assert live == [], renderer
        for text in (HAPPY, UNHAPPY, MOOD, TEXT, DATA, TEST):
            assert text in seen, renderer


@pytest.mark.slow
def test_a_run_writes_nothing_outside_its_folder(own_run, own_tree):
    new = own_tree["after"] - own_tree["before"]
    outside = {path for path in new if path.parts[:2] != ("project", RUN)}
    assert {path for path in outside if not path.parts[0].startswith(".")} == {
        Path("project", "out.ipynb")
    }  # papermill's
    assert len(new - outside) > 20
    assert not [path for path in own_run.rglob("*") if path.is_symlink()]
    print(
        "the libraries' own, in the home folder:",
        sorted({path.parts[:2] for path in outside if path.parts[0].startswith(".")}),
    )


@pytest.mark.slow
def test_a_run_leaves_no_secret_and_no_path(own_run):
    """Paths stand in the checkpoints only, where Trainer looks for the best one by it; they are no result,
    and secrets are not even there.
    """
    files = {
        path.relative_to(own_run).as_posix(): path.read_bytes()
        for path in own_run.rglob("*")
        if path.is_file() and path.stat().st_size < 2e7
    }
    notebook = executed(own_run)
    for output in (
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ):
        output.text = re.sub(
            "LOAD REPORT.*", "", output.text
        )  # Transformers says where it loads from, and this is another folder than where we work
    files["out.ipynb"] = nbformat.writes(notebook).encode()

    def holders(*words):
        return {name for name, content in files.items() if any(word.encode() in content for word in words)}

    results = {name for name in files if not name.startswith("checkpoints/")}
    assert {"metrics.json", "README.md", "predictions.csv", "model/config.json", "out.ipynb"} <= holders(
        "happy, "
    ) & results, "it did look"
    assert holders(*SECRETS.values()) == set()
    home, python = str(own_run.parent.parent), sys.prefix
    assert holders(home, str(ROOT), python, str(Path.home()) + os.sep) & results == set()


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(own_run, monkeypatch):
    monkeypatch.chdir(own_run.parent)
    with pytest.raises(RunError, match="holds an earlier run. Give another output_dir, or set resume=True"):
        run_here(TEMPLATE, OWN)
    assert (own_run / "metrics.json").exists()


@pytest.mark.slow
def test_wrong_parameters_stop_the_run_at_once(tmp_path):
    wrong = {"lerning_rate": 1e-4, "num_train_epochs": "three", "output_dir": "run"}
    result = papermill(tmp_path, wrong, file=OWN_CSV)
    assert result.returncode != 0
    injected = next(cell for cell in read(tmp_path / "out.ipynb").cells if "lerning_rate" in cell.source)
    assert 'data_file = "data/my_very_important_tweets.csv"' in injected.source  # of the file
    for words in (
        "there is no parameter 'lerning_rate'. Did you mean 'learning_rate'?",
        "num_train_epochs must be a number above 0, or None, not 'three' (str)",
        "per_device_train_batch_size: a whole number, 1 or more",
    ):
        assert words in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]


@pytest.mark.slow
def test_the_parameter_file_for_an_own_csv_runs_from_any_directory(tmp_path, monkeypatch):
    """With class weights and a tracker on top; once, and not the twenty times that so few rows need."""
    monkeypatch.chdir(tmp_path)
    parameters = yaml.safe_load(OWN_CSV.read_text(encoding="utf-8"))
    parameters |= {"class_weights": True, "report_to": "tensorboard", "num_train_epochs": 1}
    run_here(TEMPLATE, parameters)
    folder = tmp_path / "runs" / "my_very_important_tweets"
    metrics = metrics_of(folder)
    assert metrics["data"]["labels"] == ["important", "not important"]
    assert [metrics["data"][f"{name}_rows"] for name in ("train", "validation", "test")] == [28, 6, 6]
    assert metrics["parameters"]["class_weights"]
    assert metrics["untrained"]["loss"] == pytest.approx(np.log(2), abs=0.15)
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))


def kill_after_a_checkpoint(run: Path, process):
    """Wait for the first checkpoint, let training go on, and kill kernel and driver without warning."""
    while not list(run.glob("checkpoints/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.02)
    time.sleep(0.2)
    # not os.killpg: a kernel is in a group of its own, and trains on until it misses its parent
    for each in [process, *psutil.Process(process.pid).children(recursive=True)]:
        each.kill()
    process.wait()


@pytest.mark.slow
def test_killed_and_continued_it_ends_with_the_same_weights(own_table, monkeypatch):
    """As the run that nobody killed, which accumulates over two batches; a small model will do."""
    monkeypatch.chdir(own_table)
    save_small(own_table / "small", 2, initializer_range=0.3)
    # Ten epochs: a loss is logged where a checkpoint is; else the first one after it is of fewer steps
    parameters = OWN | {"model_name": "small", "num_train_epochs": 10, "learning_rate": 1e-3}
    run_here(TEMPLATE, parameters | {"output_dir": "whole"})
    whole, broken = own_table / "whole", own_table / "broken"

    parameters |= {"output_dir": "broken"}
    process = papermill(own_table, parameters, start=subprocess.Popen)
    kill_after_a_checkpoint(broken, process)
    process.stdout.close()
    assert not (broken / "metrics.json").exists()
    assert not (broken / "model").exists()

    run_here(TEMPLATE, parameters | {"resume": True})
    one, other = metrics_of(whole), metrics_of(broken)
    assert one["train"]["continued_from_step"] == 0
    assert one["train"]["steps"] / 10 <= other["train"]["continued_from_step"] < one["train"]["steps"]
    assert one["test"] == other["test"]  # to the last digit
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, broken)]
    assert weights[0] == weights[1]
    assert one["history"] == other["history"]  # what came before the interruption is in it


@pytest.mark.full(reason="class weights on the bundled model: 4 epochs")
def test_class_weights_beat_the_baseline_on_a_rare_class(tmp_path, tweets):
    rows = split_table(tweets, seed=3).train
    of_label = [rows[rows["label"] == label] for label in ("positive", "negative")]
    rare = pd.concat([of_label[0].head(270), of_label[1].head(50)])
    rare[["text", "label"]].to_csv(tmp_path / "rare.csv", index=False)
    parameters = {"data_file": "rare.csv", "class_weights": True, "output_dir": "rare"}
    parameters |= {"num_train_epochs": 4, "learning_rate": 2e-4, "per_device_train_batch_size": 16}
    result = papermill(tmp_path, parameters)
    assert result.returncode == 0, result.stdout[-3000:]
    metrics = metrics_of(tmp_path / "rare")
    # balanced weights keep the scale of the loss
    assert metrics["untrained"]["loss"] == pytest.approx(np.log(2), abs=0.12)
    assert metrics["test"]["f1_macro"] > metrics["baselines"]["tfidf_logreg"]["f1_macro"]


# --- the log that is kept, and predictions that stand for an evaluation
# -----------------------------------------------------


def test_the_history_leaves_out_clocks_summaries_and_what_json_cannot_hold():
    log = [
        {"epoch": 0.5, "step": 2, "loss": 0.7, "grad_norm": 3.0, "learning_rate": 1e-4},
        {"epoch": 1.0, "step": 4, "loss": float("nan"), "grad_norm": float("inf"), "learning_rate": 5e-5},
        {
            "epoch": 1.0,
            "step": 4,
            "eval_loss": 0.6,
            "eval_accuracy": 0.8,
            "eval_predicted_classes": 2,
            "eval_runtime": 1.0,
            "eval_samples_per_second": 9.0,
        },
        {"epoch": 1.0, "step": 4, "train_runtime": 3.0, "train_loss": 0.65, "total_flos": 1.0},
    ]
    assert history(log) == [
        {"epoch": 0.5, "step": 2, "loss": 0.7, "learning_rate": 1e-4},
        {"epoch": 1.0, "step": 4, "learning_rate": 5e-5},
        {"epoch": 1.0, "step": 4, "eval_loss": 0.6, "eval_accuracy": 0.8},
    ]


def watched(metrics):
    """Let Watch see predictions with these metrics, after training."""
    watch, args, state = (
        Watch(),
        type("Args", (), {"learning_rate": 5e-5}),
        type("State", (), {"global_step": 4, "epoch": 1.0}),
    )
    watch.on_predict(args, state, None, metrics=metrics, model=None, eval_dataloader=None)
    return watch.report.findings


def test_watch_takes_predicted_validation_rows_for_an_evaluation():
    """The template predicts them once, for their scores and for their logits."""
    assert watched({"eval_loss": 0.6, "eval_accuracy": 0.8}) == []
    with pytest.raises(WatchError, match="a loss of nan: the weights hold nan or inf"):
        watched({"eval_loss": float("nan")})
    assert watched({"test_loss": float("nan")}) == []  # rows of the user's own, to be judged by the user
