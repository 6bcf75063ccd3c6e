"""What is wrong with a Trainer: before training (`preflight`), while it trains (`Watch`) and after saving (`check_saved`).

    report = preflight(trainer)       # trains nothing, changes nothing
    report.raise_for_errors()
    trainer.add_callback(Watch())     # stops a run that can only be seen to be broken while it runs
    trainer.train()
    check_saved(folder, trainer).raise_for_errors()

The single checks stand in `utils.checks`.
"""

import contextlib
import copy
import json
import math
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, Trainer, TrainerCallback

from utils.checks import CATALOGUE, IGNORED, remember
from utils.data import Finding
from utils.facts import Setup, said, same_randomness, text_config, untouched


class PreflightError(ValueError):
    """A set-up with errors; the message names each of them with its fix."""


class WatchError(RuntimeError):
    """A run that Watch ended; `finding` says what was seen, the likely cause and the fix."""

    def __init__(self, finding: Finding):
        super().__init__(str(finding))
        self.finding = finding


class Report:
    """What was found, errors first. It shows itself as a table in a notebook and as text elsewhere."""

    def __init__(self, findings: Iterable[Finding] = ()):
        self.findings: list[Finding] = sorted(findings, key=lambda finding: finding.level != "error")

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def raise_for_errors(self) -> "Report":
        """Return the report itself if it has no error.

        Raises:
            PreflightError: with every error and its fix.
        """
        if self.errors:
            raise PreflightError(f"{len(self.errors)} error(s):\n" + "\n".join(_as_text(finding) for finding in self.errors))
        return self

    def __str__(self) -> str:
        return "\n".join(_as_text(finding) for finding in self.findings) or "Nothing found."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.findings:
            return "<p>Nothing found.</p>"
        rows = "".join(
            f"<tr><td><b>{escape(f.level)}</b></td><td>{escape(f.id)}</td><td style='text-align:left'>{escape(f.message)}</td>"
            f"<td style='text-align:left'><code>{escape(f.fix)}</code></td></tr>"
            for f in self.findings
        )
        return f"<table><thead><tr><th>level</th><th>id</th><th>what</th><th>fix</th></tr></thead><tbody>{rows}</tbody></table>"


def _as_text(finding: Finding) -> str:
    return f"{finding.level}: {finding.id}: {finding.message}\n    fix: {finding.fix}"


def preflight(trainer: Trainer, test_dataset: Any = None) -> Report:
    """Look for every known mistake in a Trainer that is about to train.

    All rows of all data sets are looked at, all arguments are compared with each other and with the number of steps, and one batch goes through the
    model without gradient. Nothing is trained, and weights, config, data, arguments and random states stay as they were. (It does note on the
    model object how its weights are, to see at the next call whether somebody has trained it in between.)

    Args:
        trainer: any Trainer; most checks are about sequence classifiers.
        test_dataset: the rows that will be used for the final score, to see leaks into them.

    Returns:
        A report. A healthy set-up has no finding. A check that fails itself becomes a finding called "check-failed".
    """
    setup, findings, failed = Setup(trainer, test_dataset), [], {}
    for entry in sorted((entry for entry in CATALOGUE.values() if entry.find), key=lambda entry: (entry.dry, entry.id == "dry-run")):
        try:
            with same_randomness():  # reading a row may draw
                for message, fix, *level in entry.find(setup):
                    findings.append(Finding(entry.id, level[0] if level else entry.level, message, fix))
                    if findings[-1].level == "error":
                        setup.errors.add(entry.id)
        except Exception as error:  # a broken set-up must not break the check of it
            failed.setdefault(said(error), []).append(entry.id)
    for error, ids in failed.items():
        message = f"{len(ids)} check(s) ({', '.join(ids)}) could not look: {error}"
        findings.append(Finding("check-failed", "warning", message, "Look at what the message names; the other checks did look"))
    remember(setup.model)
    return Report(findings)


def catalogue() -> pd.DataFrame:
    """Return all known mistakes, one row each: id, level, stages (R table, P preflight, W Watch, S saving, C the library, A avoided), loud, symptom, fix."""
    rows = [(entry.id, entry.level, entry.stages, entry.loud, entry.symptom, entry.fix) for entry in sorted(CATALOGUE.values(), key=lambda e: (e.loud, e.id))]
    return pd.DataFrame(rows, columns=["id", "level", "stages", "loud", "symptom", "fix"])


# --- while it trains --------------------------------------------------------------------------------------------------

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
        sizes = [torch.linalg.vector_norm(p.grad, math.inf) for p in model.parameters() if p.grad is not None and not p.grad.is_sparse]
        if sizes:
            self._gradient(bool(torch.isfinite(torch.stack([size.to(sizes[0]) for size in sizes])).all()), args, state)

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
        high = coin is not None and loss > 5 * coin * max(1, args.gradient_accumulation_steps) and (warm or self._highest_rate > 1e-4)
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
        if "eval_loss" in (metrics or {}):  # predict(rows, metric_key_prefix="eval"): the evaluation of someone who needs the logits as well
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
            {"loss": loss, "classes": classes, "accuracy": _number(metrics.get(f"{prefix}accuracy")), "train": self._losses[-1] if self._losses else None}
        )
        if coin is not None:
            self._collapsed(what, seen, coin, majority, args, state, model, dataloader)
        self._note_overfitting(what, seen)
        self._note_majority(prefix, seen, majority)

    def _collapsed(self, what: str, seen: list[dict], coin: float, majority: tuple[float, int] | None, args, state, model, dataloader):
        """Tell a model that has collapsed from one that has not begun to learn, which also gives one class only, and from a loss of the user's own."""
        rate, last, asked = max(self._highest_rate, args.learning_rate), seen[-1], None
        one_class = [entry["classes"] == 1 for entry in seen[-2:]] == [True, True]
        if one_class or (last["loss"] > 3 * coin and rate > 1e-4):
            asked = _ask(model, dataloader)
        own, gap = asked or (None, None)
        loss = last["loss"] if own is None else min(own, last["loss"])
        train = last["train"] / max(1, args.gradient_accumulation_steps) if last["train"] is not None else math.inf
        lower = f"learning_rate={min(5e-5, rate / 10):g}, warmup_steps=0.1; then train a freshly loaded model"
        if one_class:
            collapsed = next((k for k, entry in enumerate(reversed(seen)) if entry["classes"] != 1), len(seen))
            flat = last["loss"] > LEARNING * min(entry["loss"] for entry in seen[:-1])
            balanced = majority is None or majority[0] < 0.8
            long = (state.epoch or 0) >= 1 and state.global_step >= args.get_warmup_steps(max(1, state.max_steps)) + 300
            same = gap is not None and gap <= (NEARLY if flat and balanced and rate >= 2e-3 else SAME)
            too_high = rate > 1e-4 if gap is None else rate >= 5e-3 and "adam" in str(getattr(args.optim, "value", args.optim)) and _all_trained(model)
            if (loss > 1.2 * coin and train > 1.2 * coin) or same or (flat and (too_high or (balanced and long))):
                self._stop(
                    "lr-too-high",
                    f"{what} is the {_nth(collapsed)} in a row in which the model gives one class only, and its loss of {last['loss']:.3g} does not fall (a model that knows nothing: "
                    f"{coin:.3g}). {'Its outputs are the same numbers for every text. ' if same else ''}The likely cause is the learning rate ({rate:.2g}); if that is small, "
                    "look at the labels and the tokens.",
                    lower,
                )
        scored_badly = majority is not None and last["accuracy"] is not None and last["accuracy"] <= majority[0] + 0.5 / majority[1]
        if loss > 3 * coin and rate > 1e-4 and train > 1.5 * coin and (scored_badly or last["accuracy"] is None):
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
        if len(seen) - 1 - best >= 2 and None not in (trains[best], trains[-1]) and trains[-1] < trains[best] and risen:
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
    if not type(getattr(model, "module", model)).__name__.endswith("ForSequenceClassification") or classes < 2 or kind == "regression":
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
            rows = [dataloader.dataset[int(i)] for i in np.unique(np.linspace(0, len(dataloader.dataset) - 1, 16).astype(int))]
            batch = {name: value.to(model.device) for name, value in dataloader.collate_fn(rows).items()}
            outputs = model.eval()(**batch)
            logits, loss = outputs.logits, getattr(outputs, "loss", None)
            gap = float((logits.max(dim=0).values - logits.min(dim=0).values).max())
            told = len(rows) >= 4 and logits.dtype == torch.float32
            return None if loss is None else float(loss), gap / max(float(logits.abs().max()), 1e-12) if told else None
    except Exception:  # a stream, or a batch that this model does not take: then there is nothing to be learnt here
        return None
    finally:
        for module, training in modes.items():
            module.training = training


def _all_trained(model: Any) -> bool:
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, on in sizes if on) > 0.5 * sum(size for size, _ in sizes)


# --- after saving -----------------------------------------------------------------------------------------------------

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # what peft writes


def check_saved(folder: str | Path, trainer: Trainer, rows: int = 8) -> Report:
    """Load a saved model and its tokenizer again and compare both with those of the trainer.

    Args:
        folder: what save_model or save_pretrained wrote.
        trainer: the trainer whose model was saved; its evaluation data (else its training data) give the rows that both models are asked.
        rows: how many rows to ask.

    Returns:
        A report: "saved-differs" for another label map or other logits, "empty-tokenizer" for a tokenizer that was not saved, "nan-hidden" for weights
        that were lost in training. Of an adapter's folder the tensors are compared, and those of its base, not the logits. Nothing is changed.
    """
    setup = Setup(trainer)
    with untouched(setup):
        try:
            return Report(_saved(Path(folder), setup, rows))
        except Exception as error:
            message = f"What is in {Path(folder).name} cannot be compared: {said(error)}"
            return Report([Finding("saved-differs", "error", message, "Save again: trainer.model.save_pretrained(folder); tokenizer.save_pretrained(folder)")])


def _saved(folder: Path, setup: Setup, rows: int):
    again = "trainer.model.save_pretrained(folder); tokenizer.save_pretrained(folder)"
    adapters = list(getattr(setup.model, "peft_config", None) or ())
    for part in [folder, *(folder / name for name in adapters)]:  # peft writes an adapter with a name of its own to a folder of that name
        if (part / ADAPTER_CONFIG).is_file() and (adapters or not (folder / "config.json").is_file()):
            name = part.name if part != folder else next(iter(adapters), None)
            yield from _saved_adapter(part, name, setup, again)
            return
    if not (folder / "config.json").is_file():
        yield Finding("saved-differs", "error", f"There is no config.json in {folder.name}: no model was saved there.", again)
        return
    if not any(folder.glob("*.safetensors")):
        yield Finding("saved-differs", "error", f"There are no safetensors weights in {folder.name}.", again)
        return
    model = setup.model
    loaded, info = type(_base(model)).from_pretrained(folder, use_safetensors=True, dtype=next(model.parameters()).dtype, output_loading_info=True)
    new = sorted(info["missing_keys"])
    if new:
        yield Finding("saved-differs", "error", f"{folder.name} lacks {', '.join(new[:3])}: loaded again, they are random numbers.", again)
    names, saved_names = ([config.id2label[i] for i in sorted(config.id2label)] for config in (model.config, loaded.config))
    if names == saved_names and model.config.label2id != loaded.config.label2id:
        yield Finding(
            "saved-differs", "error", f"The model's label2id is {model.config.label2id}, in {folder.name} it is {loaded.config.label2id}."[:500], again
        )
    if names != saved_names:
        yield Finding("saved-differs", "error", f"The model's labels are {names[:8]}, in {folder.name} they are {saved_names[:8]}.", again)

    if setup.input_name == "input_ids":  # a model of texts
        yield from _saved_tokenizer(folder, setup.tokenizer, loaded.config, again)
    split = (setup.evals or [setup.train])[0]
    if split is None or not len(split.index) or new:
        return
    batch = setup.collator(split.sample(range(min(rows, len(split.index)))))
    inputs = {name: value for name, value in batch.items() if name not in (*setup.trainer.label_names, "label", "label_ids")}
    with torch.no_grad():
        before = model(**setup.trainer._prepare_inputs(inputs)).logits.float().cpu()
        after = loaded.eval()(**inputs).logits.float()
    if not torch.isfinite(after).all():
        yield Finding(
            "nan-hidden",
            "error",
            f"On {len(after)} rows the model in {folder.name} answers nan or inf: the weights were lost in training, and it gives one class for every text.",
            "Train a freshly loaded model with a lower learning rate and Watch()",
        )
    if before.shape != after.shape or not torch.allclose(before, after, atol=1e-3, rtol=1e-3, equal_nan=True):
        gap = (
            f"by up to {(before - after).abs().max():.3g}" if before.shape == after.shape else f"in their shape, {tuple(before.shape)} and {tuple(after.shape)}"
        )
        yield Finding(
            "saved-differs",
            "error",
            f"On {len(before)} rows the logits of the trainer's model and of {folder.name} differ {gap}: it holds other weights, perhaps those of another step.",
            again,
        )


def _base(model: torch.nn.Module) -> torch.nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _saved_adapter(folder: Path, name: str | None, setup: Setup, again: str):
    """Compare an adapter with the trainer's model, tensor by tensor: each must stand in the adapter or, as it is, in the base that the adapter names."""
    model, others = _base(setup.model), set(getattr(setup.model, "peft_config", None) or ()) - {name}
    if not (folder / ADAPTER_WEIGHTS).is_file():
        yield Finding("saved-differs", "error", f"There is no {ADAPTER_WEIGHTS} in {folder.name}.", again)
        return
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        saved = {_without_adapter(key, None): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    path = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    based = _loaded_base(path, model)
    elsewhere = "nor in its base" if based is not None else f"and its base {path} is not on this machine" if path else "and no base is named there"
    lost, differ, head, unknown = [], [], set(), set(saved)
    for whole, tensor in model.named_parameters():
        if {"original_module", *others} & set(whole.split(".")):
            continue  # the head before, and other adapters
        plain = _without_adapter(whole, name)
        if getattr(model, "base_model_prefix", "") and not whole.startswith(f"{model.base_model_prefix}."):
            head.add(plain)
        called = (prefix + plain.removesuffix(ending) for prefix in ("base_model.model.", "base_model.", "") for ending in ("", ".weight"))
        key = next((key for key in called if key in saved), None)
        unknown.discard(key)
        other = saved[key] if key else (based or {}).get(plain)
        if other is not None:
            differ += [plain] if not _same(tensor, other) else []
        elif tensor.requires_grad or plain in {*head, *(based or ())}:
            lost.append(plain)
    if name is None or (saved and len(unknown) == len(saved)):
        what = "no adapter" if name is None else "an adapter with other tensors"
        yield Finding("saved-differs", "error", f"{folder.name} holds an adapter ({next(iter(unknown), 'empty')}), the trainer's model has {what}.", again)
        return
    if bad := [key for key, tensor in saved.items() if not torch.isfinite(tensor).all()]:
        message = f"{bad[0]!r} in {folder.name} holds nan or inf: the weights were lost in training."
        yield Finding("nan-hidden", "error", message, "Train a freshly loaded model with a lower learning rate and Watch()")
    if lost:
        modules = json.dumps(list(dict.fromkeys(name.split(".")[0] for name in lost)))
        yield Finding(
            "saved-differs",
            "error",
            f"{', '.join(lost[:3])} of the trainer's model are not in the adapter {folder.name}, {elsewhere}: loaded again, they are random numbers.",
            f"Train anew with LoraConfig(..., modules_to_save={modules}), which trains and saves them" if set(lost) <= head else again,
        )
    if differ:
        message = f"{len(differ)} tensor(s) of the trainer's model, for example {differ[0]!r}, differ from those of {folder.name} and its base, perhaps of another step."
        yield Finding("saved-differs", "error", message, again)
    if based is None and not lost and not differ:
        yield Finding(
            "saved-differs",
            "warning",
            f"{folder.name} holds the trainer's adapter, {elsewhere}: whether the base is the trainer's cannot be said.",
            "To save a model that loads by itself: trainer.model.merge_and_unload().save_pretrained(folder)",
        )
    if setup.tokenizer is not None and (folder / "tokenizer_config.json").is_file():  # else that of the base is meant
        yield from _saved_tokenizer(folder, setup.tokenizer, model.config, again)


def _without_adapter(name: str, adapter: str | None) -> str:
    """Return the name of a tensor as it is called in the file of an adapter, or in the model without one."""
    parts = [part for part in name.split(".") if part not in ("base_layer", "modules_to_save")]
    if adapter in parts:
        del parts[len(parts) - 1 - parts[::-1].index(adapter)]
    return ".".join(parts)


def _loaded_base(path: str | None, model: torch.nn.Module) -> dict[str, torch.Tensor | None] | None:
    """Return the tensors of an adapter's base, None for those that loading makes up; None altogether where it is not on this machine."""
    if not path:
        return None
    how = {
        "dtype": next(model.parameters()).dtype,
        "ignore_mismatched_sizes": True,
        "local_files_only": True,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    try:
        base, info = type(model).from_pretrained(path, config=copy.deepcopy(model.config), **how)
    except Exception:
        return None
    made_up = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    return {name: None if name in made_up else tensor for name, tensor in base.named_parameters()}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare two tensors, one of which may have been rounded to float16: it keeps three digits."""
    return one.shape == other.shape and torch.allclose(one.detach().float().cpu(), other.float().cpu(), rtol=1e-3, atol=1e-6, equal_nan=True)


def _saved_tokenizer(folder: Path, tokenizer: Any, config: Any, again: str):
    missing = Finding("empty-tokenizer", "error", f"{folder.name} holds no tokenizer: loaded from there, every word would be unknown.", again)
    if tokenizer is None:
        missing = missing._replace(
            level="warning", fix="tokenizer.save_pretrained(folder), or Trainer(..., processing_class=tokenizer), which saves it as well"
        )
    try:
        loaded = AutoTokenizer.from_pretrained(folder)
    except Exception:  # which one depends on the model family
        yield missing
        return
    if tokenizer is None:
        if len(loaded) <= 50 and (getattr(text_config(config), "vocab_size", None) or 0) > 10 * len(loaded):
            yield missing
    elif len(loaded) != len(tokenizer):
        if len(loaded) <= 50 < len(tokenizer):
            yield missing
        else:
            yield Finding("empty-tokenizer", "error", f"The trainer's tokenizer knows {len(tokenizer):,} tokens, that in {folder.name} {len(loaded):,}.", again)
    elif loaded.get_vocab() != tokenizer.get_vocab():
        yield Finding("saved-differs", "error", f"The tokenizer in {folder.name} numbers its tokens differently from the trainer's.", again)
