"""`Watch`: stop a run that only shows while it trains that it is broken."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from utils.findings import Finding, Report
from utils.preflight.catalogue import IGNORED
from utils.preflight.setup import same_randomness
from utils.preflight.weights import remember


class WatchError(RuntimeError):
    """A run that Watch ended; `finding` says what was seen, the likely cause and the fix."""

    def __init__(self, finding: Finding):
        super().__init__(str(finding))
        self.finding = finding


FP16_PATIENCE = 20  # steps that the loss scaler of fp16 may skip in a row before that means something
SAME, NEARLY = (
    1e-5,
    1e-4,
)  # how far logits of different rows are apart, as a part of their size: by rounding only; a small model that has learnt nothing has 1e-3


LEARNING = 0.99  # an evaluation loss below so much of the one before is learning


class Watch(TrainerCallback):
    """Stops a run that is broken in a way that only shows while it runs, by raising WatchError.

    It stops on a gradient or an evaluation loss that is not finite, on a loss far above that of a model that knows nothing, and on a model that gives
    one class only and does not learn. "One class only" needs `predicted_classes` among the metrics (`utils.metrics.compute_metrics` returns it).
    It warns, in `report`, where the evaluation loss rises while the training loss falls, and where no evaluation beats the commonest class.
    """

    def __init__(self):
        self._findings: dict[str, Finding] = {}
        self._start()

    def _start(self):
        self._bad_gradients = 0
        self._high_losses = 0
        self._losses: list[float] = []
        self._evaluations: dict[str, list[dict]] = {}
        self._majority: dict[int, tuple[float, int] | None] = {}
        self._highest_rate = 0.0

    @property
    def report(self) -> Report:
        """What has been seen so far."""
        return Report(self._findings.values())

    def _stop(self, id: str, message: str, fix: str):
        finding = Finding(id, "error", message, fix)
        self._findings[id] = finding
        raise WatchError(finding)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._findings.clear()
        self._start()
        if model is not None:
            remember(model)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        # the largest number of each gradient: nan stays nan, and unlike a sum it cannot overflow
        sizes = [
            torch.linalg.vector_norm(p.grad, math.inf)
            for p in model.parameters()
            if p.grad is not None and not p.grad.is_sparse
        ]
        if sizes:
            self._gradient(
                bool(torch.isfinite(torch.stack([size.to(sizes[0]) for size in sizes])).all()), args, state
            )

    def _gradient(self, finite: bool, args, state):
        self._bad_gradients = 0 if finite else self._bad_gradients + 1
        if self._bad_gradients > (FP16_PATIENCE if args.fp16 and args.device.type != "cpu" else 0):
            self._stop(
                "nan-hidden",
                f"At step {state.global_step + 1} the gradient is not finite (nan or inf): from here on the weights are lost. The log would show a loss of 0.0, because "
                "logging_nan_inf_filter hides such values. Likely causes: a learning rate that is too high, or half precision.",
                f"learning_rate={args.learning_rate / 10:g}, or bf16 or float32 instead of fp16; then train a freshly loaded model",
            )

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        logs = logs or {}
        self._highest_rate = max(self._highest_rate, _number(logs.get("learning_rate")) or 0.0)
        norm, loss = _number(logs.get("grad_norm")), _number(logs.get("loss"))
        if norm is not None and not math.isfinite(norm) and not self._bad_gradients:
            self._gradient(False, args, state)
        if loss is None:
            return
        if not math.isfinite(loss):
            self._gradient(False, args, state)
        self._losses.append(loss)
        coin = _coin(model)
        warm = state.global_step > args.get_warmup_steps(max(1, state.max_steps))
        # a loss that is not divided by the accumulation steps is another mistake (ga-loss), so it may be that much larger here
        high = (
            coin is not None
            and loss > 5 * coin * max(1, args.gradient_accumulation_steps)
            and (warm or self._highest_rate > 1e-4)
        )
        self._high_losses = self._high_losses + 1 if high and self._highest_rate > 1e-4 else 0
        if self._high_losses >= 2:
            asked = _ask(model, kwargs.get("train_dataloader"))
            if asked is not None and asked[0] is not None and asked[0] < 3 * coin:
                self._high_losses = 0  # a loss of the user's own, with another scale: a sum, or weighted
                return
            self._stop(
                "lr-too-high",
                f"At step {state.global_step} the training loss is {loss:.3g}, twice in a row more than five times that of a model that knows nothing ({coin:.3g}): "
                f"the run has diverged. The learning rate has been as high as {self._highest_rate:.2g}.",
                "learning_rate=5e-5, warmup_steps=0.1; then train a freshly loaded model",
            )

    def on_evaluate(self, args, state, control, metrics=None, model=None, eval_dataloader=None, **kwargs):
        metrics = metrics or {}
        for key in [key for key in metrics if key.endswith("_loss")]:
            prefix = key.removesuffix("loss")
            if not state.global_step:
                continue  # before training nothing is wrong yet
            self._evaluated(prefix, metrics, args, state, model, eval_dataloader)

    def on_predict(self, args, state, control, metrics=None, **kwargs):
        if "eval_loss" in (
            metrics or {}
        ):  # predict(rows, metric_key_prefix="eval"): the evaluation of someone who needs the logits as well
            self.on_evaluate(args, state, control, metrics=metrics, **kwargs)

    def _evaluated(self, prefix: str, metrics: Mapping, args, state, model, dataloader):
        loss, classes = _number(metrics[f"{prefix}loss"]), metrics.get(f"{prefix}predicted_classes")
        what = f"The evaluation at step {state.global_step}"
        if loss is None or not math.isfinite(loss):
            self._stop(
                "nan-hidden",
                f"{what} has a loss of {loss}: the weights hold nan or inf. Every prediction is then the first class, and the accuracy its share.",
                f"learning_rate={args.learning_rate / 10:g}, or bf16 or float32 instead of fp16; then train a freshly loaded model",
            )
        majority, coin = self._commonest(dataloader), _coin(model)
        seen = self._evaluations.setdefault(prefix, [])
        seen.append(
            {
                "loss": loss,
                "classes": classes,
                "accuracy": _number(metrics.get(f"{prefix}accuracy")),
                "train": self._losses[-1] if self._losses else None,
            }
        )
        if coin is not None:
            self._collapsed(what, seen, coin, majority, args, state, model, dataloader)
        self._note_overfitting(what, seen)
        self._note_majority(prefix, seen, majority)

    def _collapsed(
        self,
        what: str,
        seen: list[dict],
        coin: float,
        majority: tuple[float, int] | None,
        args,
        state,
        model,
        dataloader,
    ):
        """Tell a model that has collapsed from one that has not begun to learn, which also gives one class only, and from a loss of the user's own."""
        rate, last, asked = max(self._highest_rate, args.learning_rate), seen[-1], None
        one_class = [entry["classes"] == 1 for entry in seen[-2:]] == [True, True]
        if one_class or (last["loss"] > 3 * coin and rate > 1e-4):
            asked = _ask(model, dataloader)
        own, gap = asked or (None, None)
        loss = last["loss"] if own is None else min(own, last["loss"])
        train = (
            last["train"] / max(1, args.gradient_accumulation_steps)
            if last["train"] is not None
            else math.inf
        )
        lower = f"learning_rate={min(5e-5, rate / 10):g}, warmup_steps=0.1; then train a freshly loaded model"
        if one_class:
            collapsed = next(
                (k for k, entry in enumerate(reversed(seen)) if entry["classes"] != 1), len(seen)
            )
            flat = last["loss"] > LEARNING * min(entry["loss"] for entry in seen[:-1])
            balanced = majority is None or majority[0] < 0.8
            long = (state.epoch or 0) >= 1 and state.global_step >= args.get_warmup_steps(
                max(1, state.max_steps)
            ) + 300
            same = gap is not None and gap <= (NEARLY if flat and balanced and rate >= 2e-3 else SAME)
            too_high = (
                rate > 1e-4
                if gap is None
                else rate >= 5e-3
                and "adam" in str(getattr(args.optim, "value", args.optim))
                and _all_trained(model)
            )
            if (
                (loss > 1.2 * coin and train > 1.2 * coin)
                or same
                or (flat and (too_high or (balanced and long)))
            ):
                self._stop(
                    "lr-too-high",
                    f"{what} is the {_nth(collapsed)} in a row in which the model gives one class only, and its loss of {last['loss']:.3g} does not fall (a model that knows nothing: "
                    f"{coin:.3g}). {'Its outputs are the same numbers for every text. ' if same else ''}The likely cause is the learning rate ({rate:.2g}); if that is small, "
                    "look at the labels and the tokens.",
                    lower,
                )
        scored_badly = (
            majority is not None
            and last["accuracy"] is not None
            and last["accuracy"] <= majority[0] + 0.5 / majority[1]
        )
        if (
            loss > 3 * coin
            and rate > 1e-4
            and train > 1.5 * coin
            and (scored_badly or last["accuracy"] is None)
        ):
            self._stop(
                "lr-too-high",
                f"{what} has a loss of {last['loss']:.3g}, more than three times that of a model that knows nothing ({coin:.3g}), and the training loss is no better: the run "
                f"has diverged. The learning rate has been as high as {rate:.2g}.",
                lower,
            )

    def _note_overfitting(self, what: str, seen: list[dict]):
        if len(seen) < 3:
            return
        best = min(range(len(seen)), key=lambda i: seen[i]["loss"])
        trains = [entry["train"] for entry in seen]
        # by more than rounding: the same rows in another order give other last digits
        risen = seen[-1]["loss"] - seen[best]["loss"] > 1e-5 * abs(seen[best]["loss"])
        if (
            len(seen) - 1 - best >= 2
            and None not in (trains[best], trains[-1])
            and trains[-1] < trains[best]
            and risen
        ):
            self._findings["overfitting"] = Finding(
                "overfitting",
                "warning",
                f"{what} is the {_nth(len(seen) - 1 - best)} in a row with a higher loss ({seen[-1]['loss']:.3f}) than the best one ({seen[best]['loss']:.3f}, {len(seen) - 1 - best} evaluations ago), "
                "while the training loss goes on falling: the model learns the training rows by heart.",
                "EarlyStoppingCallback(2) with load_best_model_at_end=True, or fewer epochs",
            )

    def _note_majority(self, prefix: str, seen: list[dict], majority: tuple[float, int] | None):
        name = f"imbalance {prefix}"
        self._findings.pop(name, None)
        scores = [entry["accuracy"] for entry in seen if entry["accuracy"] is not None]
        if majority is not None and len(scores) >= 2 and max(scores) <= majority[0] + 0.5 / majority[1]:
            self._findings[name] = Finding(
                "imbalance",
                "warning",
                f"The best accuracy of {len(scores)} evaluations is {max(scores):.3f}; always giving the commonest class would have {majority[0]:.3f}. "
                "So far the model has learnt nothing that the score could show.",
                "Look at macro-F1; train longer, or with class weights; and read some rows with their labels",
            )

    def _commonest(self, dataloader) -> tuple[float, int] | None:
        """Return the commonest label's share of the evaluated rows and their number; None where the labels cannot be counted."""
        dataset = getattr(dataloader, "dataset", None)
        if id(dataset) not in self._majority:
            self._majority[id(dataset)] = None
            with contextlib.suppress(Exception):
                columns = list(dataset.column_names)
                column = next(name for name in ("label", "label_ids", "labels") if name in columns)
                labels = np.asarray(dataset.with_format("arrow", columns=[column])[:][column])
                if labels.ndim == 1 and labels.dtype.kind in "iub" and len(labels):
                    counts = np.unique(labels[labels != IGNORED], return_counts=True)[1]
                    self._majority[id(dataset)] = (float(counts.max() / counts.sum()), int(counts.sum()))
        return self._majority[id(dataset)]


def _nth(count: int) -> str:
    return {2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth"}.get(count, f"{count}th")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _coin(model: Any) -> float | None:
    """Return the loss of a classifier that knows nothing: ln K for one of K labels, ln 2 for each of several; None for other models."""
    config = getattr(getattr(model, "module", model), "config", None)
    classes, kind = getattr(config, "num_labels", 0), getattr(config, "problem_type", None)
    if (
        not type(getattr(model, "module", model)).__name__.endswith("ForSequenceClassification")
        or classes < 2
        or kind == "regression"
    ):
        return None
    return math.log(2 if kind == "multi_label_classification" else classes)


def _ask(model: Any, dataloader: Any) -> tuple[float | None, float | None] | None:
    """Ask a classifier about a few rows of a dataloader, in evaluation mode and without a trace.

    Returns:
        its own loss, whatever loss it is trained with; and how far the logits of different rows are apart, as a part of their size: a collapsed model does not
        look at its input, while one that has not learnt anything yet gives slightly different numbers. None for what cannot be said, as in half precision.
    """
    modes = {module: module.training for module in model.modules()} if model is not None else {}
    try:
        with same_randomness(), torch.no_grad():
            rows = [
                dataloader.dataset[int(i)]
                for i in np.unique(np.linspace(0, len(dataloader.dataset) - 1, 16).astype(int))
            ]
            batch = {name: value.to(model.device) for name, value in dataloader.collate_fn(rows).items()}
            outputs = model.eval()(**batch)
            logits, loss = outputs.logits, getattr(outputs, "loss", None)
            gap = float((logits.max(dim=0).values - logits.min(dim=0).values).max())
            told = len(rows) >= 4 and logits.dtype == torch.float32
            return None if loss is None else float(loss), gap / max(
                float(logits.abs().max()), 1e-12
            ) if told else None
    except (
        Exception
    ):  # a stream, or a batch that this model does not take: then there is nothing to be learnt here
        return None
    finally:
        for module, training in modes.items():
            module.training = training


def _all_trained(model: Any) -> bool:
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, on in sizes if on) > 0.5 * sum(size for size, _ in sizes)
