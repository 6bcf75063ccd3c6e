"""The search of notebook 06, its own cells with a model that takes no time: a study outlives a kill."""

import os
import subprocess
import sys
import time

import optuna
from batches import wait_for

from notebooks import NOTEBOOKS, cell_of, read
from utils import ROOT

SCRIPT = """
import sys, time
from pathlib import Path
import optuna, torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
from utils.metrics import compute_metrics_for

folder, seed = Path(sys.argv[1]), 42  # as in the notebook
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
labels = [k % 2 for k in range(32)]
rows = Dataset.from_dict({"input_ids": [[1 + k % 40, 2] for k in range(32)], "label": labels})


def model_init(trial=None):
    time.sleep(0.3)
    return BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))


def space(trial):
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)}


args = TrainingArguments(
    output_dir=str(folder), num_train_epochs=2, eval_strategy="epoch", save_strategy="no",
    disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
)
metrics = compute_metrics_for("single_label")
data = {"train_dataset": rows, "eval_dataset": rows}
trainer = Trainer(args=args, model_init=model_init, compute_metrics=metrics, **data)
"""


def start(folder, trials):
    notebook = read(next(path for path in NOTEBOOKS if path.stem == "06_batch_runs"))
    study = cell_of(notebook, "study").source
    assert "trials_in_all, storage = 8, " in study
    study = study.replace("= 8, ", f"= {trials}, ")
    script = "\n".join([SCRIPT, study, cell_of(notebook, "search").source])
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def finished(folder):
    """Return the trials that count, by number: their parameters and values."""
    try:
        trials = optuna.load_study(study_name="rate", storage=f"sqlite:///{folder / 'search.db'}").trials
    except (KeyError, optuna.exceptions.StorageInternalError):  # the process is about to make it
        return {}
    return {
        trial.number: (trial.params, trial.value)
        for trial in trials
        if trial.state.name in ("COMPLETE", "PRUNED")
    }


def test_a_killed_search_goes_on_without_repeating_a_trial(tmp_path):
    process = start(tmp_path, 500)

    def two_are_done():
        time.sleep(0.5)  # to look is dear
        assert process.poll() is None
        return len(finished(tmp_path)) >= 2

    wait_for(two_are_done)
    process.kill()
    process.wait()
    before = finished(tmp_path)
    wanted = len(before) + 1
    assert start(tmp_path, wanted).wait(300) == 0
    after = finished(tmp_path)
    assert len(after) == wanted
    assert {number: after[number] for number in before} == before
    rates = [params["learning_rate"] for params, _ in after.values()]
    assert len(set(rates)) == len(rates), "the sampler has drawn the same values again"
