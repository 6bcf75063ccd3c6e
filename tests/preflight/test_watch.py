"""Watch stops what only shows while it runs, and lets healthy runs go on; its thresholds name these tests."""

import math
import random

import numpy as np
import pytest
import torch
from builders import (
    NEVER_EVALUATES,
    UNCHOSEN,
    as_the_template,
    bert,
    minilm,
    of_family,
    pair,
    table,
    texts_of,
    tiny,
    trainer_for,
)
from setups import ids_of, made
from test_check_labels import MULTI, MULTI_LABEL, NAN, RARE, drawn, rank, regression
from test_check_run import weighted
from transformers import EarlyStoppingCallback, Trainer

from utils.data import read_table
from utils.preflight import Watch, WatchError, preflight
from utils.preflight.catalogue import CATALOGUE


def watched(folder, **changes):
    """A run of 24 steps that logs and evaluates often, watched."""
    steps = {"eval_strategy": "steps", "eval_steps": 4, "logging_strategy": "steps", "logging_steps": 2}
    watch = Watch()
    settings = UNCHOSEN | steps | {"num_train_epochs": 4} | changes
    return trainer_for(folder, callbacks=[watch], **settings), watch


def stopped(trainer):
    with pytest.raises(WatchError) as caught:
        trainer.train()
    return caught.value.finding


def goes_on(trainer, to_the_end=True):
    """Train under Watch, which raises if it sees anything wrong, and return the ids of its report."""
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    assert trainer.state.global_step == trainer.state.max_steps or not to_the_end
    assert not watch.report.errors
    return {finding.id for finding in watch.report.findings}


def test_every_id_of_watch_is_tried():
    watched = {entry.id for entry in CATALOGUE.values() if "W" in entry.stages}
    assert watched == {"nan-hidden", "lr-too-high", "overfitting", "imbalance"}


# --- it stops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clip", "where", "value"),
    [
        (1.0, "classifier.weight", math.nan),
        (0.0, "classifier.weight", math.inf),
        (0.0, "bert.embeddings.word_embeddings.weight", math.nan),
        (1.0, "bert.encoder.layer.0.output.dense.bias", math.inf),
    ],
)
def test_nan_is_stopped_at_the_very_step(tmp_path, clip, where, value):
    model = bert()
    torch.nn.init.constant_(model.get_parameter(where), value)
    trainer, watch = watched(tmp_path, model=model, max_grad_norm=clip)
    finding = stopped(trainer)
    assert (finding.id, finding.level, trainer.state.global_step) == ("nan-hidden", "error", 0)
    assert "At step 1 the gradient is not finite" in finding.message
    assert "learning_rate=5e-06" in finding.fix
    assert watch.report.errors == [finding]


class Spoils(Trainer):
    """The gradient of the first layers alone is spoilt at step 3, as by an overflow; the loss is fine."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if self.state.global_step == 2:
            self.model.bert.embeddings.word_embeddings.weight.grad[5, 5] = math.inf
        return loss


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_spoilt_on_the_way_back_is_stopped_too(tmp_path, clip):
    trainer, _ = watched(tmp_path, kind=Spoils, max_grad_norm=clip)
    assert "At step 3 the gradient is not finite" in stopped(trainer).message
    assert trainer.state.global_step == 2


def test_a_rate_of_1e30_is_stopped(tmp_path):
    trainer, _ = watched(tmp_path, learning_rate=1e30, warmup_steps=0)
    assert stopped(trainer).id == "nan-hidden"
    assert trainer.state.global_step <= 2


def test_a_nan_label_is_stopped_at_its_step(tmp_path):
    """Regression, where Watch knows no yardstick for the loss."""
    trainer = trainer_for(tmp_path, model=bert(1), callbacks=[Watch()], **NAN)
    assert stopped(trainer).id == "nan-hidden"


def test_an_evaluation_of_nan_is_stopped(tmp_path):
    """The weights are spoilt after the training step, so only the evaluation can see it."""

    class Later(Trainer):
        def evaluate(self, *args, **kwargs):
            torch.nn.init.constant_(self.model.classifier.weight, math.nan)
            return super().evaluate(*args, **kwargs)

    trainer, _ = watched(tmp_path, kind=Later)
    finding = stopped(trainer)
    assert finding.id == "nan-hidden"
    assert "The evaluation at step 4 has a loss of nan" in finding.message


@pytest.mark.parametrize("rate", [1.0, 3.0, 10.0])
def test_a_run_that_diverges_is_stopped(tmp_path, rate):
    trainer, watch = watched(tmp_path, learning_rate=rate, warmup_steps=0, num_train_epochs=10)
    finding = stopped(trainer)
    assert finding.id == "lr-too-high"
    assert "The learning rate has been as high as" in finding.message
    assert "learning_rate=5e-" in finding.fix
    assert trainer.state.global_step <= 12
    assert watch.report.errors == [finding]


def test_a_model_that_says_one_class_only_is_stopped(tmp_path):
    """The head is pushed to one class so far that it cannot come back at this rate."""
    model = bert()
    with torch.no_grad():
        model.classifier.bias[0] = 8.0
    trainer, _ = watched(tmp_path, model=model)
    finding = stopped(trainer)
    assert finding.id == "lr-too-high"
    assert "the second in a row in which the model gives one class only" in finding.message
    assert trainer.state.global_step == 8


# --- it notes, and the run goes on --------------------------------------------------------------------------


def test_overfitting_is_noted_and_the_run_goes_on(tmp_path):
    """Labels by the flip of a coin can only be learnt by heart."""
    draw = random.Random(0)
    coins = [draw.randint(0, 1) for _ in range(24)]
    settings = {"learning_rate": 1e-3, "num_train_epochs": 16, "eval_steps": 12}
    trainer, watch = watched(tmp_path, train=table(labels=coins), **settings)
    trainer.train()
    assert trainer.state.global_step == 96
    (finding,) = [finding for finding in watch.report.findings if finding.id == "overfitting"]
    assert finding.level == "warning"
    assert "evaluations ago" in finding.message
    assert "EarlyStoppingCallback" in finding.fix


def test_an_accuracy_of_the_commonest_class_is_noted(tmp_path):
    """imbalance, stage W."""
    rare = pair(60, 60, labels=lambda n: [int(i % 12 == 0) for i in range(n)])
    trainer, watch = watched(tmp_path, learning_rate=1e-3, **rare)
    trainer.train()
    (finding,) = [finding for finding in watch.report.findings if finding.id == "imbalance"]
    assert finding.level == "warning"
    assert "always giving the commonest class would have 0.917" in finding.message


# --- it lets healthy runs go on -----------------------------------------------------------------------------


def learnable(rows, seed):
    texts = enumerate(texts_of(rows, seed))
    return table(texts=[f"{'w1 w2' if i % 2 else 'w3 w4'} {text}" for i, text in texts])


def test_a_healthy_run_is_left_alone(tmp_path):
    data = {"train": learnable(96, 0), "held_out": learnable(24, 1)}
    trainer, watch = watched(tmp_path, learning_rate=1e-3, **data)
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9
    assert str(watch.report) == "Nothing found."


def random_labels(rows, classes, seed, share=None):
    """Return labels that have nothing to do with the texts; `share` of them are the first class."""
    chances = None if share is None else [share, *[(1 - share) / (classes - 1)] * (classes - 1)]
    made = np.random.default_rng(seed).choice(classes, rows, p=chances)
    made[:classes] = np.arange(classes)
    return made.tolist()


def random_data(rows=32, classes=2, seed=0, share=None, **how):
    more = max(16, rows // 2)
    train = table(rows, 2 * seed, labels=random_labels(rows, classes, seed, share), **how)
    held_out = table(more, 2 * seed + 1, labels=random_labels(more, classes, seed + 50, share), **how)
    return {"train": train, "held_out": held_out}


LOGGED = {"logging_strategy": "steps", "logging_steps": 1, "warmup_steps": 0}


def noisy(folder, rows=32, classes=2, seed=0, share=None, **changes):
    """A run that cannot learn anything that the evaluation would show."""
    settings = {
        "learning_rate": 1e-3,
        "num_train_epochs": 5,
        "seed": seed,
        "model": tiny([*"abcde"][:classes]),
    }
    return trainer_for(
        folder, **random_data(rows, classes, seed, share) | UNCHOSEN | LOGGED | settings | changes
    )


ACCUMULATED = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2}
EIGHT = {"gradient_accumulation_steps": 8, "per_device_train_batch_size": 2, "classes": 5}
NOISY = {
    "labels at random": {},
    "five classes": {"classes": 5},
    "ten to one": {"share": 0.9},
    "ten to one, longer": {"share": 0.9, "num_train_epochs": 8},
    "five classes, one of them common": {"classes": 5, "share": 0.8},
    "few rows": {"rows": 24, "seed": 3},
    "one epoch": {"num_train_epochs": 1},
    "evaluated every two steps": {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 3},
    "a small rate": {"learning_rate": 1e-5},
    "a small rate and one common class": {"learning_rate": 1e-5, "share": 0.9},
    "a usual rate and warmup": {"learning_rate": 1e-4, "warmup_steps": 0.3},
    "label smoothing": {"label_smoothing_factor": 0.2},
    "accumulated, loss four times too large": ACCUMULATED,
    "accumulated, loss eight times too large, five classes": EIGHT,
    "no evaluation loss of the first batches": {"eval_on_start": True},
    "batches of one row": {"per_device_train_batch_size": 1, "num_train_epochs": 3},
    "a constant rate": {"lr_scheduler_type": "constant", "learning_rate": 2e-3},
    "plain gradient descent": {"optim": "sgd", "learning_rate": 0.05},
    "class weights": {"share": 0.9, "compute_loss_func": weighted},
    "no metrics": {"compute_metrics": None, "num_train_epochs": 3},
    "no evaluation": {"num_train_epochs": 3, **NEVER_EVALUATES},
}


@pytest.mark.parametrize("name", NOISY)
def test_a_small_noisy_run_goes_on(tmp_path, name):
    """Overfitting and imbalance can be true of random labels."""
    assert goes_on(noisy(tmp_path, **NOISY[name])) <= {"overfitting", "imbalance"}


@pytest.mark.parametrize(
    ("family", "share"), [("DistilBert", None), ("Electra", 0.9), ("GPT2", 0.9), ("Bart", None)]
)
def test_other_families_go_on(tmp_path, family, share):
    setup = of_family(family, [*"abc"])
    data = random_data(32, 3, 1, share, tokenizer=setup["tokenizer"])
    settings = {"learning_rate": 1e-3, "num_train_epochs": 4}
    goes_on(trainer_for(tmp_path, **UNCHOSEN | LOGGED | setup | data | settings))


def test_a_loss_of_another_scale_goes_on(tmp_path):
    """The sum over a batch is sixteen times the mean; that is no divergence."""

    def summed(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")

    batches = {"per_device_train_batch_size": 16, "per_device_eval_batch_size": 16}
    trainer = noisy(tmp_path, compute_loss_func=summed, learning_rate=3e-4, **batches)
    goes_on(trainer)
    assert min(entry["loss"] for entry in trainer.state.log_history if "loss" in entry) > 10 * np.log(2)


def test_accumulation_goes_on_where_the_loss_is_right(tmp_path):
    model = tiny()
    model.accepts_loss_kwargs = False
    goes_on(noisy(tmp_path, model=model, **ACCUMULATED))


def prices(rows):
    """A loss of a hundred thousand is no divergence."""
    return np.random.default_rng(rows).random(rows) * 900 + 100


@pytest.mark.parametrize("rate", [5e-5, 1e-3])
@pytest.mark.parametrize(
    "build",
    [
        regression(drawn, "spearman", rank),
        regression(prices, "spearman", rank),
        lambda _: (
            {"model": tiny(3, problem_type="regression"), "compute_metrics": None}
            | pair(labels=lambda n: np.random.default_rng(n).normal(size=(n, 3)).tolist())
        ),
        lambda _: {"model": bert(list("abcd"), **MULTI), **MULTI_LABEL},
        lambda _: {"model": bert(list("abcd"), **MULTI), **RARE},
    ],
    ids=["regression", "prices", "several numbers", "multi-label", "rare classes"],
)
def test_other_tasks_go_on(tmp_path, build, rate):
    goes_on(
        trainer_for(tmp_path, **build(tmp_path) | UNCHOSEN | {"num_train_epochs": 4, "learning_rate": rate})
    )


def test_rows_learnt_by_heart_are_noted_and_the_run_goes_on(tmp_path):
    """25 times through rows that can be learnt by heart."""
    settings = {
        "num_train_epochs": 25,
        "learning_rate": 3e-3,
        "per_device_train_batch_size": 8,
        "logging_steps": 3,
    }
    assert "overfitting" in goes_on(noisy(tmp_path, rows=24, **settings))


@pytest.mark.slow
def test_the_bundled_model_learns_the_bundled_csv(tmp_path):
    """With the settings of params/own_csv.yaml."""
    rows = read_table("data/my_very_important_tweets.csv")
    settings = {"num_train_epochs": 5, "per_device_train_batch_size": 4, "logging_strategy": "steps"}
    settings |= {"logging_steps": 2, "save_only_model": True, "callbacks": [EarlyStoppingCallback(2)]}
    trainer, test = made(lambda _: as_the_template(rows, **settings), tmp_path)
    assert ids_of(preflight(trainer, test_dataset=test)) == {"predict-order"}
    goes_on(trainer, to_the_end=False)  # early stopping may end it
    assert trainer.evaluate()["eval_accuracy"] > 0.6


@pytest.mark.slow
def test_the_bundled_model_fails_at_random_labels(tmp_path, tweets):
    setup = minilm()
    texts, labels = tweets.rows["text"].head(64).tolist(), random_labels(64, 2, 1, 0.9)
    data = table(texts=texts, labels=labels, tokenizer=setup["tokenizer"], max_length=32)
    data = {"train": data.select(range(40)), "held_out": data.select(range(40, 64))}
    settings = {"num_train_epochs": 3, "learning_rate": 1e-4}
    goes_on(trainer_for(tmp_path, **UNCHOSEN | LOGGED | setup | data | settings))
