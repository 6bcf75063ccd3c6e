"""`Watch`: stop a run that only shows while it trains that it is broken."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import TrainerCallback

from utils.findings import Finding, Report
from utils.inputs.precision import in_float32
from utils.preflight.setup import evaluating
from utils.preflight.split import IGNORED
from utils.preflight.weights import adam_moves_most, remember

# Each threshold with the test whose run it has to tell from another. A "coin" is a model that knows nothing.
HIGH_RATE = 1e-4  # no lower rate is blamed at once: a_model_that_says_one_class_only (5e-5) is heard twice
ADAM_RATE = 5e-3  # one class, but logits that differ: rows_learnt_by_heart has 3e-3 and goes on
TRAINING_DIVERGED = 5  # coins of training loss, twice in a row: a_run_that_diverges[1.0] has 5.2, then 15
DIVERGED = 3  # coins of the model's own loss: a_loss_of_another_scale has 16 in the log, and 1 of its own
STILL_HIGH = 1.5  # coins of training loss beside it: overfitting (no test goes that far) raises one of them
WORSE = 1.2  # coins, where one class is given: overfitting_is_noted has 1.05 and a training loss of 1.12
LEARNING = 0.99  # of the best loss before, and the run learns: "ten to one" falls by 2% and gives one class
IMBALANCED = 0.8  # share of a class that a sound model gives alone: an_accuracy_of_the_commonest_class (0.92)
PATIENCE = 300  # steps after warmup without learning: "batches of one row" has 96 and goes on
# spread of the logits over the rows, as a part of their size
SAME = 1e-5  # a_model_that_says_one_class_only has 9e-6, an_accuracy_of_the_commonest_class 4e-5
NEARLY_SAME = 1e-4  # at high rates: the hasty run of notebook 05; "plain gradient descent" has 1.2e-4
SMALL_MODEL_RATE = 2e-3  # from here on: "ten to one, longer", a tiny model, has 1.5e-4 at 1e-3
ROUNDING = 1e-5  # of a loss: the same rows in another order give other last digits
FP16_PATIENCE = 20  # steps that the loss scaler of fp16 may skip in a row; no test has a GPU
SMALLER = "learning_rate={:g}, or bf16 or float32 instead of fp16; then train a freshly loaded model"
USUAL = "learning_rate={:g}, warmup_steps=0.1; then train a freshly loaded model"


class WatchError(RuntimeError):
    """A run that Watch ended; `finding` says what happened, the likely cause and the fix."""

    def __init__(self, finding: Finding):
        super().__init__(str(finding))
        self.finding = finding


class Evaluation(NamedTuple):
    """Scores of one evaluation, and the training loss that was logged last before it."""

    loss: float
    accuracy: float | None
    classes: int | None
    training_loss: float | None


class Majority(NamedTuple):
    """The share of the commonest class among the evaluated rows; the accuracy that is no better."""

    share: float
    accuracy: float


class Watch(TrainerCallback):
    """Stops a run that is broken in a way that only shows while it runs, by raising WatchError.

    It stops on a gradient or an evaluation loss that is not finite, on a loss far above that of a model that
    knows nothing, and on a model that gives one class only and does not learn. For the last, the metrics must
    have `predicted_classes`, as `utils.metrics.compute_metrics` returns it. It warns, in `report`, where the
    evaluation loss rises while the training loss falls, and where no evaluation beats the commonest class.
    """

    def __init__(self):
        self._start()

    def _start(self):
        self._findings: dict[str, Finding] = {}
        self._bad_gradients = self._high_losses = 0
        self._training_loss: float | None = None
        self._highest_rate = 0.0
        self._evaluations: dict[str, list[Evaluation]] = {}
        self._majorities: dict[int, Majority | None] = {}

    @property
    def report(self) -> Report:
        """The findings so far."""
        return Report(self._findings.values())

    def _stop(self, id: str, message: str, fix: str):
        self._findings[id] = finding = Finding(id, "error", message, fix)
        raise WatchError(finding)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._start()
        if model is not None:
            remember(model)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = [p.grad for p in model.parameters() if p.grad is not None and not p.grad.is_sparse]
        # The largest number would do, too, at eight times the price. A norm that overflows is no finite one.
        self._gradient(bool(torch.nn.utils.get_total_norm(gradients).isfinite()), args, state)

    def _gradient(self, finite: bool, args, state):
        self._bad_gradients = 0 if finite else self._bad_gradients + 1
        if self._bad_gradients > (FP16_PATIENCE if args.fp16 and args.device.type != "cpu" else 0):
            message = (
                f"At step {state.global_step + 1} the gradient is not finite (nan or inf): the weights are "
                "lost, by a high learning rate or half precision. The log would show a loss of 0.0."
            )
            self._stop("nan-hidden", message, SMALLER.format(args.learning_rate / 10))

    def on_log(self, args, state, control, logs=None, model=None, train_dataloader=None, **kwargs):
        loss, norm, rate = (number((logs or {}).get(key)) for key in ("loss", "grad_norm", "learning_rate"))
        self._highest_rate = max(self._highest_rate, rate or 0.0)
        if norm is not None and not math.isfinite(norm) and not self._bad_gradients:
            self._gradient(False, args, state)
        if loss is None:
            return
        if not math.isfinite(loss):
            self._gradient(False, args, state)
        self._training_loss, coin = loss, coin_loss(model)
        # ga-loss, another mistake, logs a loss that is not divided by the accumulated batches
        limit = TRAINING_DIVERGED * (coin or math.inf) * max(1, args.gradient_accumulation_steps)
        self._high_losses = self._high_losses + 1 if loss > limit and self._highest_rate > HIGH_RATE else 0
        if self._high_losses < 2:
            return
        own, _ = ask(model, train_dataloader)
        if own is not None and own < DIVERGED * coin:
            self._high_losses = 0  # a loss of the user's own has another scale: a sum, or weighted
            return
        message = (
            f"At step {state.global_step} the training loss is {loss:.3g}, twice in a row more than five "
            f"times that of a model that knows nothing ({coin:.3g}): the run has diverged. "
            f"The learning rate has been as high as {self._highest_rate:.2g}."
        )
        self._stop("lr-too-high", message, USUAL.format(5e-5))

    def on_evaluate(self, args, state, control, metrics=None, model=None, eval_dataloader=None, **kwargs):
        for key in metrics or {}:
            if key.endswith("_loss") and state.global_step:  # before training nothing is wrong yet
                self._evaluated(key.removesuffix("loss"), metrics, args, state, model, eval_dataloader)

    def on_predict(self, args, state, control, metrics=None, **kwargs):
        if "eval_loss" in (metrics or {}):  # predict(rows, metric_key_prefix="eval"), for the logits as well
            self.on_evaluate(args, state, control, metrics=metrics, **kwargs)

    def _evaluated(self, prefix: str, metrics: Mapping, args, state, model, dataloader):
        loss, what = number(metrics[f"{prefix}loss"]), f"The evaluation at step {state.global_step}"
        if loss is None or not math.isfinite(loss):
            message = f"{what} has a loss of {loss}: the weights hold nan or inf, and all rows get class 0."
            self._stop("nan-hidden", message, SMALLER.format(args.learning_rate / 10))
        accuracy, classes = (metrics.get(f"{prefix}{name}") for name in ("accuracy", "predicted_classes"))
        history, majority = self._evaluations.setdefault(prefix, []), self._majority(dataloader)
        history.append(Evaluation(loss, number(accuracy), classes, self._training_loss))
        if coin_loss(model) is not None:
            self._stop_collapsed(what, history, majority, args, state, model, dataloader)
        self._note_overfitting(what, history)
        self._note_majority(prefix, history, majority)

    def _stop_collapsed(self, what: str, history: list[Evaluation], majority, args, state, model, dataloader):
        """Tell a collapsed model from one that has not begun to learn, and from a loss of the user's own."""
        rate, coin, last = max(self._highest_rate, args.learning_rate), coin_loss(model), history[-1]
        one_class = [evaluation.classes == 1 for evaluation in history[-2:]] == [True, True]
        high = last.loss > DIVERGED * coin and rate > HIGH_RATE
        if not (one_class or high):
            return
        own, spread = ask(model, dataloader)
        loss = last.loss if own is None else min(own, last.loss)
        training_loss = math.inf if last.training_loss is None else last.training_loss
        training_loss /= max(1, args.gradient_accumulation_steps)
        fix = USUAL.format(min(5e-5, rate / 10))
        if one_class:
            flat = last.loss > LEARNING * min(evaluation.loss for evaluation in history[:-1])
            balanced = majority is None or majority.share < IMBALANCED
            steps = state.global_step - args.get_warmup_steps(max(1, state.max_steps))
            long = steps >= PATIENCE and (state.epoch or 0) >= 1
            nearly = flat and balanced and rate >= SMALL_MODEL_RATE
            same = spread is not None and spread <= (NEARLY_SAME if nearly else SAME)
            too_high = rate >= ADAM_RATE and adam_moves_most(args, model)
            if spread is None:
                too_high = rate > HIGH_RATE
            worse = min(loss, training_loss) > WORSE * coin
            if worse or same or (flat and (too_high or (balanced and long))):
                others = (k for k, evaluation in enumerate(reversed(history)) if evaluation.classes != 1)
                count = nth(next(others, len(history)))
                sameness = "Its outputs are the same numbers for every text. " if same else ""
                message = (
                    f"{what} is the {count} in a row in which the model gives one class only, and its loss "
                    f"of {last.loss:.3g} does not fall (a model that knows nothing: {coin:.3g}). {sameness}"
                    f"The likely cause is the learning rate ({rate:.2g}), or else the labels and the tokens."
                )
                self._stop("lr-too-high", message, fix)
        scored_well = last.accuracy is not None and (majority is None or last.accuracy > majority.accuracy)
        if high and loss > DIVERGED * coin and training_loss > STILL_HIGH * coin and not scored_well:
            message = (
                f"{what} has a loss of {last.loss:.3g}, more than three times that of a model that knows "
                f"nothing ({coin:.3g}), and the training loss is no better: the run has diverged. "
                f"The learning rate has been as high as {rate:.2g}."
            )
            self._stop("lr-too-high", message, fix)

    def _note_overfitting(self, what: str, history: list[Evaluation]):
        best, last = min(history, key=lambda evaluation: evaluation.loss), history[-1]
        since = len(history) - 1 - history.index(best)
        if since < 2 or None in (best.training_loss, last.training_loss):
            return
        if last.training_loss < best.training_loss and last.loss - best.loss > ROUNDING * abs(best.loss):
            message = (
                f"{what} is the {nth(since)} in a row with a higher loss ({last.loss:.3f}) than the best one "
                f"({best.loss:.3f}, {since} evaluations ago), while the training loss goes on falling: "
                "the model learns the training rows by heart."
            )
            fix = "EarlyStoppingCallback(2) with load_best_model_at_end=True, or fewer epochs"
            self._findings["overfitting"] = Finding("overfitting", "warning", message, fix)

    def _note_majority(self, prefix: str, history: list[Evaluation], majority: Majority | None):
        self._findings.pop(f"imbalance {prefix}", None)
        scores = [evaluation.accuracy for evaluation in history if evaluation.accuracy is not None]
        if majority is not None and len(scores) >= 2 and max(scores) <= majority.accuracy:
            message = (
                f"The best accuracy of {len(scores)} evaluations is {max(scores):.3f}; always giving the "
                f"commonest class would have {majority.share:.3f}. The score shows nothing learnt so far."
            )
            fix = "Look at macro-F1; train longer, or with class weights; read some rows with their labels"
            self._findings[f"imbalance {prefix}"] = Finding("imbalance", "warning", message, fix)

    def _majority(self, dataloader) -> Majority | None:
        """Return the commonest class of the evaluated rows; None where the labels cannot be counted."""
        dataset = getattr(dataloader, "dataset", None)
        if id(dataset) not in self._majorities:
            self._majorities[id(dataset)] = None
            with contextlib.suppress(Exception):
                names = [name for name in ("label", "label_ids", "labels") if name in dataset.column_names]
                labels = np.asarray(dataset.with_format("arrow", columns=names[:1])[:][names[0]])
                if labels.ndim == 1 and labels.dtype.kind in "iub":
                    counts = np.unique(labels[labels != IGNORED], return_counts=True)[1]
                    share, half_a_row = float(counts.max() / counts.sum()), 0.5 / int(counts.sum())
                    self._majorities[id(dataset)] = Majority(share, share + half_a_row)
        return self._majorities[id(dataset)]


def nth(count: int) -> str:
    return {2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth"}.get(count, f"{count}th")


def number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def coin_loss(model: Any) -> float | None:
    """Return the loss of a classifier that knows nothing (ln K for K labels, ln 2 for several), else None."""
    model = getattr(model, "module", model)
    config = getattr(model, "config", None)
    classes, kind = getattr(config, "num_labels", 0), getattr(config, "problem_type", None)
    classifies = type(model).__name__.endswith("ForSequenceClassification") and kind != "regression"
    if not classifies or classes < 2:
        return None
    return math.log(2 if kind == "multi_label_classification" else classes)


def ask(model: Any, dataloader: Any) -> tuple[float | None, float | None]:
    """Ask a classifier about a few rows of a dataloader, in evaluation mode and without a trace.

    Returns:
        The model's own loss, whatever loss it is trained with; and the spread of the logits over the rows, as
        a part of their size. None for what cannot be known: a stream, other batches, half precision.
    """
    try:
        with evaluating(model), in_float32(model), torch.no_grad():
            places = np.unique(np.linspace(0, len(dataloader.dataset) - 1, 16).astype(int))
            batch = dataloader.collate_fn([dataloader.dataset[int(place)] for place in places])
            outputs = model(**{name: value.to(model.device) for name, value in batch.items()})
        logits, loss = outputs.logits, getattr(outputs, "loss", None)
        spread = None
        if len(places) >= 4 and logits.dtype == torch.float32:
            spread = float((logits.amax(0) - logits.amin(0)).max() / logits.abs().max().clamp(min=1e-12))
        return None if loss is None else float(loss), spread
    except Exception:
        return None, None
