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
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer
from transformers.trainer_utils import get_last_checkpoint

from utils.preflight.split import FEW, ROLES, SCRIPTED_ROWS, Split, container_fault, is_list


class Setup:
    """A Trainer and everything that the checks want to know about it, each thing looked up once."""

    def __init__(self, trainer: Trainer, test_dataset: Any = None):
        self.trainer, self.args, self.collator = trainer, trainer.args, trainer.data_collator
        self.model = trainer.accelerator.unwrap_model(trainer.model)
        self.config = getattr(self.model, "config", None)
        self.tokenizer = (
            trainer.processing_class
            if trainer.processing_class is not None
            else getattr(trainer.data_collator, "tokenizer", None)
        )
        self.unreadable: dict[str, Exception] = {}  # data sets of which a row could not be had
        self.errors: set[str] = set()  # ids found so far; the dry run does not repeat what they explain
        self.given = {"train": trainer.train_dataset}
        if isinstance(trainer.eval_dataset, Mapping) and not hasattr(trainer.eval_dataset, "input_ids"):
            self.given |= {f"eval[{name!r}]": part for name, part in trainer.eval_dataset.items()}
        else:
            self.given["eval"] = trainer.eval_dataset
        self.given["test"] = test_dataset
        self.given = {name: part for name, part in self.given.items() if part is not None}

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
        """What Trainer leaves of the columns; None: all of them."""
        if not self.args.remove_unused_columns:
            return None
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return {*inspect.signature(model.forward).parameters, "label", "label_ids", *self.trainer.label_names}

    @cached_property
    def input_name(self) -> str:
        return getattr(self.model, "main_input_name", "input_ids")

    @cached_property
    def special_ids(self) -> tuple[np.ndarray, int | None, int | None]:
        """Return the special ids without the unknown token's, the unknown token's id, and the padding id (None where it also means something else)."""
        tokenizer = self.tokenizer
        if tokenizer is None:
            return np.array([], int), None, None
        special, unknown, pad = (
            set(getattr(tokenizer, "all_special_ids", ())),
            getattr(tokenizer, "unk_token_id", None),
            tokenizer.pad_token_id,
        )
        others = {getattr(tokenizer, f"{name}_token_id", None) for name in ("eos", "bos", "cls", "sep")}
        unknown = None if unknown in others | {pad} else unknown  # GPT-2 has one token for all of these
        return np.array(sorted(special - {unknown}), int), unknown, None if pad in others else pad

    @cached_property
    def mark_ids(self) -> list[int]:
        """The ids of the tokens that begin, part or end a text; without one that also pads, which says nothing about a text."""
        named = {getattr(self.tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "bos", "eos")}
        others = {getattr(self.tokenizer, f"{name}_token_id", None) for name in ("pad", "mask")}
        return sorted(
            named - others - {self.special_ids[1], None}
        )  # GPT-2's one token is the unknown one, too

    @cached_property
    def end_id(self) -> int | None:
        """The id that ends a text for the model."""
        end = getattr(self.config, "eos_token_id", None)
        return end if isinstance(end, int) else None

    @property
    def num_labels(self) -> int | None:
        return getattr(self.config, "num_labels", None)

    @cached_property
    def classifier(self) -> bool:
        """Whether this is one of transformers' sequence classifiers, whose losses are known."""
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return type(model).__name__.endswith("ForSequenceClassification") and self.config is not None

    @cached_property
    def own_collator(self) -> bool:
        """Whether batches are made by code of the user's own, which may tokenise, encode or rename as it likes."""
        return not str(getattr(self.collator, "__module__", "")).startswith("transformers.")

    @cached_property
    def own_loss(self) -> bool:
        """Whether the loss is the user's, who may accept labels that the model's loss would not."""
        return (
            self.trainer.compute_loss_func is not None
            or type(self.trainer).compute_loss is not Trainer.compute_loss
        )

    @cached_property
    def names(self) -> list[str] | None:
        """The class names in the model's config, in the order of their ids; None where the ids are not 0, 1, 2, ..."""
        id2label = {int(i): str(name) for i, name in (getattr(self.config, "id2label", None) or {}).items()}
        return (
            [id2label[i] for i in range(len(id2label))]
            if sorted(id2label) == list(range(len(id2label)))
            else None
        )

    @cached_property
    def task(self) -> str | None:
        """single_label, multi_label or regression, by the model's outputs and the labels' form; None where it is no classifier."""
        if not self.classifier:
            return None
        if self.num_labels == 1:
            return "regression"
        split = self.train or next(iter(self.splits.values()), None)
        kind = split and split.label_column and split.type(split.label_column)
        return "multi_label" if kind and is_list(kind) else "single_label"

    @cached_property
    def length_sorted_batches(self) -> int | None:
        """Batches in an epoch on this process; None for a stream."""
        if self.train is None or self.train.rows is None:
            return None
        per_batch = self.args.train_batch_size * max(1, self.args.world_size)
        return (
            self.train.rows // per_batch
            if self.args.dataloader_drop_last
            else math.ceil(self.train.rows / per_batch)
        )

    @cached_property
    def steps(self) -> int | None:
        """Optimizer steps of the whole run, counted as Trainer does; None where they cannot be known."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        if self.batches is None or isinstance(self.args.num_train_epochs, str):
            return None
        return (
            0
            if not self.batches
            else math.ceil(
                self.args.num_train_epochs
                * max(1, math.ceil(self.batches / self.args.gradient_accumulation_steps))
            )
        )

    def every(self, name: str) -> int:
        """Return eval_steps, save_steps or logging_steps as a number of steps; below 1 they are a share."""
        value = getattr(self.args, name) or 0
        return math.ceil(value * (self.steps or 0)) if 0 < value < 1 else int(value)

    @cached_property
    def chooses_best(self) -> bool:
        """Whether a score decides anything: which checkpoint is kept or loaded, or when to stop."""
        return (
            self.args.load_best_model_at_end
            or self.args.save_strategy == "best"
            or self.early_stopping is not None
        )

    @cached_property
    def early_stopping(self) -> EarlyStoppingCallback | None:
        return next(
            (c for c in self.trainer.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)), None
        )

    @cached_property
    def resumes_from(self) -> Path | None:
        """The checkpoint that `TrainingArguments.resume_from_checkpoint` names."""
        value = self.args.resume_from_checkpoint
        if value in (None, False, "", "False", "false"):
            return None
        if value in (True, "True", "true"):
            last = get_last_checkpoint(self.args.output_dir) if Path(self.args.output_dir).is_dir() else None
            return Path(last) if last else None
        return Path(value)

    @cached_property
    def dry(self) -> "DryRun":
        return DryRun(self)


class DryRun:
    """Two batches collated, one forward pass without gradient, the metrics of its result: what the first minutes of training would find out.

    collated: split -> batch. refused: split -> what collating raised. loss, logits: of the training batch. failed: what the forward pass raised.
    metrics: the dict that compute_metrics returned; scored: whatever it returned, in a list; metrics_failed: what it raised; metrics_saw_all: whether
    it was given as many rows as in an evaluation.
    """

    def __init__(self, setup: Setup):
        self.setup, self.collated, self.refused, self.scored = setup, {}, {}, []
        self.loss = self.logits = self.failed = self.metrics = self.metrics_failed = None
        self.metrics_saw_all = True
        with untouched(setup):
            for split in setup.splits.values():
                if len(split.index):
                    try:
                        self.collated[split.name] = setup.collator(split.sample(self.choose(split)))
                        if not isinstance(self.collated[split.name], Mapping):
                            raise TypeError(
                                f"the collator returned {type(self.collated.pop(split.name)).__name__}, and Trainer needs a dict of tensors"
                            )
                    except (
                        Exception
                    ) as error:  # whatever a collator may raise is what the reader has to hear of
                        self.refused[split.name] = error
            batch = self.collated.get("train", next(iter(self.collated.values()), None))
            dangerous = setup.errors & {
                "label-range",
                "tokenizer-mismatch",
                "too-long",
            }  # on a GPU they would take the process's CUDA context along
            if isinstance(batch, Mapping) and not (dangerous and setup.args.device.type != "cpu"):
                try:
                    with torch.no_grad(), warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # training will say it again, in its place
                        self.loss, self.logits, _ = setup.trainer.prediction_step(
                            setup.model, dict(batch), prediction_loss_only=False
                        )
                except Exception as error:
                    self.failed = error
            if setup.trainer.compute_metrics is not None and setup.evals:
                self.score(setup.evals[0])

    def choose(self, split: Split) -> list[int]:
        """Choose a few rows: the longest and the shortest, the lowest and the highest label, then the first ones."""
        wanted = []
        if split.tokens is not None:
            wanted += [int(split.tokens.widths.argmax()), int(split.tokens.widths.argmin())]
        if split.labels is not None and len(split.labels):
            wanted += [
                int(np.nanargmax(split.labels)) if not np.isnan(split.labels).all() else 0,
                int(np.argmin(split.labels)),
            ]
        size = min(4, self.setup.args.train_batch_size)
        return list(dict.fromkeys([*wanted, *range(len(split.index))][: size + len(wanted)]))[:size]

    def score(self, split: Split) -> None:
        """Call compute_metrics with the evaluation labels and made-up predictions of the right form: a real batch may lack classes that a score needs."""
        labels = split.labels if split.label_vectors is None else split.label_vectors
        if labels is None or not len(labels):
            return
        rows = len(split.index) if split.rows is None else split.rows
        labels = np.asarray(labels)[np.argsort(split.index)]  # in the order of the data set
        labels = labels[
            np.arange(rows) * len(labels) // rows
        ]  # where not all rows were read, those that were stand for their neighbours
        widths = []
        each_tensor(self.made_up(labels[:1]), lambda output: widths.append(output.numel()))
        few = (
            200 * self.setup.args.eval_batch_size
            if self.setup.args.batch_eval_metrics
            else FEW // max(1, sum(widths))
        )
        step = max(1, math.ceil(rows / max(1, few)))
        self.try_metrics(labels[::step])
        # a metric may need every row: as many as an evaluation would keep are made up, if they fit easily
        if (
            self.metrics_failed is not None
            and step > 1
            and 8 * rows * sum(widths) < 0.25 * psutil.virtual_memory().available
        ):
            self.metrics_failed, step = None, 1
            self.try_metrics(labels)
        self.metrics_saw_all = step == 1 and not (split.stream and rows == SCRIPTED_ROWS)

    def made_up(self, labels: np.ndarray, seed: int = 0) -> Any:
        """Make up predictions for some rows, in the form that the model's outputs have."""
        setup, draw = self.setup, np.random.default_rng(seed)

        def like(output: torch.Tensor) -> torch.Tensor:
            shape = (len(labels), *output.shape[1:])
            if setup.task == "regression" and math.prod(shape) == len(labels):
                return torch.tensor(draw.permutation(labels).reshape(shape), dtype=torch.float32)
            return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32))

        return each_tensor(
            self.logits if self.logits is not None else torch.zeros(1, setup.num_labels or 2), like
        )

    def try_metrics(self, labels: np.ndarray) -> None:
        """Call compute_metrics as Trainer does: once with arrays of all rows, or batch by batch with tensors."""
        setup, args = self.setup, self.setup.args
        kept = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)

        def given(rows: slice, arrays: bool) -> EvalPrediction:
            few = torch.from_numpy(kept[rows])
            predictions = self.made_up(labels[rows], rows.start)
            if setup.trainer.preprocess_logits_for_metrics is not None:
                predictions = setup.trainer.preprocess_logits_for_metrics(predictions, few)
            ids = torch.ones(len(few), 4, dtype=torch.int64)
            extra = (
                {"inputs": ids if arrays else {setup.input_name: ids}}
                if "inputs" in args.include_for_metrics
                else {}
            )
            extra |= {"losses": torch.ones(len(few))} if "loss" in args.include_for_metrics else {}
            parts = {"predictions": predictions, "label_ids": few, **extra}
            return EvalPrediction(
                **{
                    name: each_tensor(part, lambda tensor: tensor.detach().cpu().numpy()) if arrays else part
                    for name, part in parts.items()
                }
            )

        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                if args.batch_eval_metrics:
                    starts = range(0, len(kept), args.eval_batch_size)
                    for start in starts:
                        last = start == starts[-1]
                        self.scored = [
                            setup.trainer.compute_metrics(
                                given(slice(start, start + args.eval_batch_size), arrays=False),
                                compute_result=last,
                            )
                        ]
                else:
                    self.scored = [setup.trainer.compute_metrics(given(slice(0, len(kept)), arrays=True))]
                self.metrics = self.scored[0] if isinstance(self.scored[0], Mapping) else None
        except Exception as error:
            self.metrics_failed = error


def each_tensor(value: Any, do: Callable) -> Any:
    """Apply a function to each tensor of nested tuples, lists and dicts, as models return them; the rest stays as it is."""
    if isinstance(value, (tuple, list)):
        return tuple(each_tensor(part, do) for part in value)
    if isinstance(value, Mapping):
        return {name: each_tensor(part, do) for name, part in value.items()}
    return do(value) if isinstance(value, torch.Tensor) else value


@contextlib.contextmanager
def untouched(setup: Setup) -> Iterator[None]:
    """Run something on the model in evaluation mode; afterwards random states, modes and the config are what they were."""
    modes = {module: module.training for module in setup.model.modules()}
    configs = list({id(c): c for c in (setup.config, text_config(setup.config)) if c is not None}.values())
    before = [dict(vars(config)) for config in configs]
    pad = getattr(setup.trainer.processing_class, "pad_token_id", None)
    if configs and pad is not None and getattr(configs[-1], "pad_token_id", None) is None:
        configs[-1].pad_token_id = pad  # Trainer will do the same when training starts
    try:
        with same_randomness():
            setup.model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for config, values in zip(configs, before, strict=True):
            vars(config).clear()
            vars(config).update(values)


@contextlib.contextmanager
def same_randomness() -> Iterator[None]:
    """Set the random states of Python, NumPy and torch back afterwards: data sets, collators and metrics may draw from them."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def text_config(config: Any) -> Any:
    """Return the part of a config that speaks of text; the same config for most models, None for a model without one."""
    return config.get_text_config() if hasattr(config, "get_text_config") else None
