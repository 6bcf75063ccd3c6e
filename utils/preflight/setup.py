"""A Trainer as the checks see it: its splits, its arguments, its number of steps, and one dry batch."""

import contextlib
import inspect
import io
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate.utils import recursively_apply
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer
from transformers.trainer_utils import get_last_checkpoint

from utils.preflight.split import ROLES, SCRIPTED_ROWS, Split, container_fault, is_list

EMPTY = 50  # tokens: a folder without tokenizer files gives one of the special tokens only
TEXT_MARKS = ("cls", "sep", "bos", "eos")  # tokens that begin, part or end a text


def optimizer_steps(batches: int, accumulation: int, epochs: float) -> int:
    """Return a run's optimizer steps, counted as Trainer does: an epoch's last step may have fewer batches.

    Args:
        batches: in an epoch, on each device.
        accumulation: batches a step, `gradient_accumulation_steps`.
    """
    return math.ceil(epochs * math.ceil(batches / accumulation))


def padded_tokens(lengths: np.ndarray, batch_size: int) -> int:
    """Return the tokens that a model computes where each batch, in order, is padded to its longest row."""
    starts = np.arange(0, len(lengths), batch_size)
    rows = np.diff(starts, append=len(lengths))
    return int((rows * np.maximum.reduceat(lengths, starts)).sum())


class Setup:
    """A Trainer and what the checks want to know about it, each thing looked up once."""

    def __init__(self, trainer: Trainer, test_dataset: Any = None):
        self.trainer, self.args, self.collator = trainer, trainer.args, trainer.data_collator
        self.model = model = trainer.accelerator.unwrap_model(trainer.model)
        # PEFT's adapters by name, and the model that they stand on (without adapters, the model itself)
        self.adapters: Mapping[str, Any] = getattr(model, "peft_config", None) or {}
        self.base_model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.config = config = getattr(model, "config", None)
        self.input_name = getattr(model, "main_input_name", "input_ids")
        kind = type(self.base_model).__name__
        self.classifier = kind.endswith("ForSequenceClassification") and config is not None
        end_id = getattr(config, "eos_token_id", None)  # ends a text for the model
        self.end_id = end_id if isinstance(end_id, int) else None
        # code of the user's may tokenise or rename while collating, and accept other labels in its loss
        self.own_collator = not str(getattr(self.collator, "__module__", "")).startswith("transformers.")
        own_method = type(trainer).compute_loss is not Trainer.compute_loss
        self.own_loss = own_method or trainer.compute_loss_func is not None
        callbacks = trainer.callback_handler.callbacks
        self.early_stopping = next((c for c in callbacks if isinstance(c, EarlyStoppingCallback)), None)
        self.tokenizer = trainer.processing_class
        if self.tokenizer is None:
            self.tokenizer = getattr(self.collator, "tokenizer", None)
        self.unreadable: dict[str, Exception] = {}  # data sets of which a row could not be had
        self.errors: set[str] = set()  # ids so far; the dry run does not repeat what they explain
        evals = trainer.eval_dataset
        several = isinstance(evals, Mapping) and not hasattr(evals, "input_ids")
        evals = {f"eval[{name!r}]": part for name, part in evals.items()} if several else {"eval": evals}
        parts = {"train": trainer.train_dataset, **evals, "test": test_dataset}
        self.given = {name: part for name, part in parts.items() if part is not None}

    @cached_property
    def splits(self) -> dict[str, Split]:
        splits = {}
        for name, part in self.given.items():
            if container_fault(part) is None:
                try:
                    splits[name] = Split(name, part, self)
                except Exception as error:  # reading a row may run any code
                    self.unreadable[ROLES.get(name, name)] = error
        return splits

    @property
    def train(self) -> Split | None:
        return self.splits.get("train")

    @property
    def evals(self) -> list[Split]:
        return [split for name, split in self.splits.items() if name.startswith("eval")]

    @cached_property
    def collated_columns(self) -> set[str] | None:
        """The columns that Trainer keeps; None: all."""
        if not self.args.remove_unused_columns:
            return None
        inputs = inspect.signature(self.base_model.forward).parameters
        return {*inputs, "label", "label_ids", *self.trainer.label_names}

    def token_ids(self, *names: str) -> set[int | None]:
        return {getattr(self.tokenizer, f"{name}_token_id", None) for name in names}

    @cached_property
    def special_ids(self) -> tuple[np.ndarray, int | None, int | None]:
        """The special ids but the unknown token's, that one, the padding's; None for one that means more."""
        if self.tokenizer is None:
            return np.array([], int), None, None
        others, pad = self.token_ids(*TEXT_MARKS), self.tokenizer.pad_token_id
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        if unknown in others | {pad}:  # GPT-2 has one token for all of these
            unknown = None
        special = set(getattr(self.tokenizer, "all_special_ids", ())) - {unknown}
        return np.array(sorted(special), int), unknown, None if pad in others else pad

    @cached_property
    def mark_ids(self) -> list[int]:
        """The ids of TEXT_MARKS, without those that also pad or stand for what is unknown."""
        unknown = self.special_ids[1]
        return sorted(self.token_ids(*TEXT_MARKS) - self.token_ids("pad", "mask") - {unknown, None})

    @property
    def tokenizer_size(self) -> int | None:
        return len(self.tokenizer) if hasattr(self.tokenizer, "__len__") else None

    @property
    def path(self) -> str | None:
        """The checkpoint that the model was loaded from."""
        return getattr(self.config, "_name_or_path", None)

    @property
    def num_labels(self) -> int | None:
        return getattr(self.config, "num_labels", None)

    @cached_property
    def names(self) -> list[str] | None:
        """The class names in the model's config, by id; None where the ids are not 0, 1, 2, ..."""
        id2label = {int(i): str(name) for i, name in (getattr(self.config, "id2label", None) or {}).items()}
        ids = range(len(id2label))
        return [id2label[i] for i in ids] if id2label.keys() == set(ids) else None

    @cached_property
    def task(self) -> str | None:
        """single_label, multi_label or regression, by outputs and labels; None: no classifier."""
        if not self.classifier:
            return None
        if self.num_labels == 1:
            return "regression"
        split = self.train or next(iter(self.splits.values()), None)
        kind = split.type(split.label_column) if split and split.label_column else None
        return "multi_label" if is_list(kind) else "single_label"

    @cached_property
    def steps(self) -> int | None:
        """Optimizer steps of the whole run, counted as Trainer does; None where they cannot be known."""
        args = self.args
        if args.max_steps > 0:
            return args.max_steps
        if self.train is None or self.train.rows is None or isinstance(args.num_train_epochs, str):
            return None
        batches = self.train.rows / (args.train_batch_size * max(1, args.world_size))
        batches = math.floor(batches) if args.dataloader_drop_last else math.ceil(batches)
        return optimizer_steps(batches, args.gradient_accumulation_steps, args.num_train_epochs)

    def every(self, name: str) -> int:
        """Return eval_steps, save_steps or logging_steps as a number of steps; below 1 they are a share."""
        value = getattr(self.args, name) or 0
        return math.ceil(value * (self.steps or 0)) if 0 < value < 1 else int(value)

    @cached_property
    def chooses_best(self) -> bool:
        """Whether a score decides anything: which checkpoint is kept or loaded, or when to stop."""
        keeps_best = self.args.load_best_model_at_end or self.args.save_strategy == "best"
        return keeps_best or self.early_stopping is not None

    @cached_property
    def resumes_from(self) -> Path | None:
        """The checkpoint that `TrainingArguments.resume_from_checkpoint` names."""
        value, folder = self.args.resume_from_checkpoint, Path(self.args.output_dir)
        if value in (True, "True", "true"):
            value = get_last_checkpoint(str(folder)) if folder.is_dir() else None
        return None if value in (None, False, "", "False", "false") else Path(value)

    @cached_property
    def dry(self) -> "DryRun":
        return DryRun(self)


class DryRun:
    """A batch of each split, one forward pass without gradient, and metrics: the first minutes of training.

    collated: split -> batch. refused: split -> what collating raised. loss, logits: of the training batch.
    failed: what the forward pass raised. metrics: the dict that compute_metrics returned; scored: whatever it
    returned, in a list; metrics_failed: what it raised; metrics_saw_all: whether it had as many rows as in an
    evaluation.
    """

    def __init__(self, setup: Setup):
        self.setup, self.collated, self.refused, self.scored = setup, {}, {}, []
        self.loss = self.logits = self.failed = self.metrics = self.metrics_failed = None
        self.metrics_saw_all = True
        with untouched(setup):
            for split in setup.splits.values():
                if len(split.index):
                    self.collate(split)
            self.forward()
            if setup.trainer.compute_metrics is not None and setup.evals:
                self.score(setup.evals[0])

    def collate(self, split: Split) -> None:
        try:
            batch = self.setup.collator(split.sample(self.choose(split)))
            if not isinstance(batch, Mapping):
                kind = type(batch).__name__
                raise TypeError(f"the collator returned {kind}, and Trainer needs a dict of tensors")
            self.collated[split.name] = batch
        except Exception as error:  # a collator may raise anything
            self.refused[split.name] = error

    def choose(self, split: Split) -> list[int]:
        """Choose rows: the longest and the shortest, the highest and the lowest label, the first ones."""
        places, labels = [], split.labels
        if split.tokens is not None:
            places += [split.tokens.widths.argmax(), split.tokens.widths.argmin()]
        if labels is not None and len(labels):
            places += [0 if np.isnan(labels).all() else np.nanargmax(labels), labels.argmin()]
        size = min(4, self.setup.args.train_batch_size)
        return list(dict.fromkeys(map(int, [*places, *range(min(size, len(split.index)))])))[:size]

    def forward(self) -> None:
        setup = self.setup
        batch = self.collated.get("train", next(iter(self.collated.values()), None))
        dangerous = setup.errors & {"label-range", "tokenizer-mismatch", "too-long"}
        # on a GPU, the dangerous would take the process's CUDA context along
        if batch is None or (dangerous and setup.args.device.type != "cpu"):
            return
        try:
            # training will give the warnings again, in their place
            with torch.no_grad(), warnings.catch_warnings(action="ignore"):
                outputs = setup.trainer.prediction_step(setup.model, dict(batch), prediction_loss_only=False)
            self.loss, self.logits, _ = outputs
        except Exception as error:
            self.failed = error

    def score(self, split: Split) -> None:
        """Call compute_metrics with all labels and made-up outputs: a real batch may lack classes."""
        labels = split.labels if split.label_vectors is None else split.label_vectors
        if labels is None or not len(labels):
            return
        rows = len(split.index) if split.rows is None else split.rows
        labels = labels[np.argsort(split.index)]  # in the order of the data set
        labels = labels[np.arange(rows) * len(labels) // rows]  # rows not read: a neighbour's label
        outputs = []
        each_tensor(self.fake_outputs(labels[:1]), outputs.append)
        width = sum(output.numel() for output in outputs)
        args = self.setup.args
        room = psutil.virtual_memory().available // (32 * max(1, width))  # a quarter of it
        limit = 200 * args.eval_batch_size if args.batch_eval_metrics else room
        step = math.ceil(rows / max(1, limit))
        self.try_metrics(labels[::step])
        self.metrics_saw_all = step == 1 and not (split.stream and rows == SCRIPTED_ROWS)

    def fake_outputs(self, labels: np.ndarray, seed: int = 0) -> Any:
        """Make up outputs for some rows, in the form that the model's have."""
        setup, draw = self.setup, np.random.default_rng(seed)
        logits = torch.zeros(1, setup.num_labels or 2) if self.logits is None else self.logits

        def like(output: torch.Tensor) -> torch.Tensor:
            shape = (len(labels), *output.shape[1:])
            if setup.task == "regression" and math.prod(shape) == len(labels):
                return torch.tensor(draw.permutation(labels).reshape(shape), dtype=torch.float32)
            return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32))

        return each_tensor(logits, like)

    def prediction(self, labels: np.ndarray, seed: int) -> EvalPrediction:
        """Return what Trainer hands to compute_metrics: arrays, or tensors where it does so by batch."""
        args, preprocess = self.setup.args, self.setup.trainer.preprocess_logits_for_metrics
        label_ids = torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64))
        outputs = self.fake_outputs(labels, seed)
        outputs = preprocess(outputs, label_ids) if preprocess else outputs
        parts = {"predictions": outputs, "label_ids": label_ids}
        if "inputs" in args.include_for_metrics:
            ids = torch.ones(len(labels), 4, dtype=torch.int64)
            parts["inputs"] = {self.setup.input_name: ids} if args.batch_eval_metrics else ids
        if "loss" in args.include_for_metrics:
            parts["losses"] = torch.ones(len(labels))
        if not args.batch_eval_metrics:
            parts = each_tensor(parts, lambda tensor: tensor.detach().cpu().numpy())
        return EvalPrediction(**parts)

    def try_metrics(self, labels: np.ndarray) -> None:
        """Call compute_metrics as Trainer does: once with all rows, or batch by batch."""
        batched = self.setup.args.batch_eval_metrics
        size = self.setup.args.eval_batch_size if batched else len(labels)
        try:
            with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
                for start in range(0, len(labels), size):
                    prediction = self.prediction(labels[start : start + size], start)
                    last = {"compute_result": start + size >= len(labels)} if batched else {}
                    self.scored = [self.setup.trainer.compute_metrics(prediction, **last)]
            self.metrics = self.scored[0] if isinstance(self.scored[0], Mapping) else None
        except Exception as error:
            self.metrics_failed = error


def each_tensor(value: Any, do: Callable) -> Any:
    """Apply a function to each tensor of nested tuples, lists and dicts, as models return them."""
    return recursively_apply(do, value)


@contextlib.contextmanager
def untouched(setup: Setup) -> Iterator[None]:
    """Run something on the model in evaluation mode; random states, modes and config are then set back."""
    configs = [config for config in (setup.config, text_config(setup.config)) if config is not None]
    before = [dict(vars(config)) for config in configs]
    pad = getattr(setup.trainer.processing_class, "pad_token_id", None)
    if configs and pad is not None and getattr(configs[-1], "pad_token_id", None) is None:
        configs[-1].pad_token_id = pad  # Trainer will do the same when training starts
    try:
        with evaluating(setup.model):
            yield
    finally:
        for config, values in zip(configs, before, strict=True):
            vars(config).clear()
            vars(config).update(values)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Run something on a model in evaluation mode; random states and modes are then set back."""
    modes = {module: module.training for module in model.modules()}
    try:
        with same_randomness():
            model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def same_randomness() -> Iterator[None]:
    """Set the random states of Python, NumPy and torch back: data sets, collators and metrics may draw."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def text_config(config: Any) -> Any:
    """Return the part of a config that speaks of text; the same config for most models, None without one."""
    return config.get_text_config() if hasattr(config, "get_text_config") else None
