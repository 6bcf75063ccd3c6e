"""What the checks of `utils.checks` want to know about a Trainer: its data sets row by row, its plan, and what a dry run does."""

import contextlib
import inspect
import io
import itertools
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, default_data_collator
from transformers.trainer_utils import get_last_checkpoint

from utils.data import comparable

CHUNK = 50_000  # rows looked at together, so that a million rows need little memory
IN_WORDS = {"train": "training", "eval": "evaluation"}
SCRIPTED_ROWS = (
    2_000  # that are read at a time where there is no Arrow table, and all that are read of a dataset that computes its rows on the fly, or a stream
)

FEW = 4_000_000  # numbers that compute_metrics is tried with at first, 16 MB: with more, a metric that sorts takes seconds


def plain(value: Any) -> Any:
    """Turn tensors and arrays into lists and numbers, which Arrow takes."""
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) else value


class Tokens(NamedTuple):
    """What all rows of a split say about their tokens, one number a row.

    lengths: tokens that are not padding. widths: with padding. content: tokens that are neither padding nor special. unknown: those among them that
    the tokenizer did not know. highest, lowest: token ids. keys: a hash of the ids without padding; equal rows have equal keys. marks: tokens that
    begin, part or end a text. ends: those that end one for the model.
    """

    lengths: np.ndarray
    widths: np.ndarray
    content: np.ndarray
    unknown: np.ndarray
    highest: np.ndarray
    lowest: np.ndarray
    keys: np.ndarray
    marks: np.ndarray
    ends: np.ndarray


class Split:
    """One data set as Trainer will read it: the columns that reach the collator, all labels, all tokens."""

    def __init__(self, name: str, dataset: Any, setup: "Setup"):
        self.name, self.dataset, self._setup = name, dataset, setup
        self.in_words = IN_WORDS.get(name, name)
        scripted = isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom"  # set_transform: rows are made when asked for
        self.stream = not hasattr(dataset, "__len__")
        self.rows = None if self.stream else len(dataset)
        self.in_arrow = isinstance(dataset, datasets.Dataset) and not scripted
        self.index = np.arange(self.rows or 0)  # place among the facts below -> row of the data set
        self._stored = None  # for shuffled or selected rows: where the table has them, in its own order
        if self.in_arrow:
            if (indices := dataset._indices) is not None:  # one by one, in the shuffled order, a million rows would take a minute
                where = indices.column(0).to_numpy()
                self.index = np.argsort(where, kind="stable")
                self._stored = where[self.index].astype(np.int64)
            self.all_columns = list(dataset.column_names)
            self.columns = [name for name in dataset.format["columns"] if name in dataset.column_names]
            return
        if self.stream:
            again = dataset if isinstance(dataset, datasets.IterableDataset) else None  # any other iterator might be used up by looking at it
            self._kept = dict(enumerate(map(_as_mapping, itertools.islice(again, SCRIPTED_ROWS)))) if again is not None else {}
            self.index = np.arange(len(self._kept))
        else:
            self._kept = {}
            if scripted and self.rows > SCRIPTED_ROWS:
                self.index = np.linspace(0, self.rows - 1, SCRIPTED_ROWS).astype(int)
        parts: dict[str, list] = {}  # columns, a chunk at a time: a million rows of tensors would fill the memory
        for start in range(0, len(self.index), SCRIPTED_ROWS):
            rows = [self._row(place, keep=self.stream) for place in range(start, min(start + SCRIPTED_ROWS, len(self.index)))]
            for name in dict.fromkeys([*parts, *(name for row in rows for name in row)]):
                parts.setdefault(name, [pa.nulls(start)]).append(_as_array(rows, name))
        self._table = {name: _joined(chunks) for name, chunks in parts.items()}
        self.all_columns = self.columns = list(self._table)

    def pieces(self, *names: str) -> Iterator[pa.Table]:
        """Yield all rows of some columns, in the order of `index`, a chunk at a time."""
        if self.in_arrow:
            table = self.dataset.data.table.select(list(names))
            for start in range(0, table.num_rows, CHUNK):
                piece = table.slice(start, CHUNK)
                if self._stored is not None:
                    low, high = np.searchsorted(self._stored, [start, start + CHUNK])
                    piece = piece.take(pa.array(self._stored[low:high] - start))
                if len(piece):
                    yield piece
            return
        for name in names:
            if isinstance(self._table[name], Exception):
                raise self._table[name]
        table = pa.table({name: self._table[name] for name in names})
        for start in range(0, max(1, len(table)), CHUNK):
            yield table.slice(start, CHUNK)

    def _row(self, place: int, keep: bool = True) -> Mapping:
        """Return a row of something that is no Arrow table, by its place; reading it again may give another one, so those asked for are kept."""
        row = self._kept[place] if place in self._kept else _as_mapping(_row(self.dataset, int(self.index[place])))
        if keep:
            self._kept[place] = row
        return row

    def column(self, name: str) -> pa.ChunkedArray:
        pieces = [chunk for piece in self.pieces(name) for chunk in piece[name].chunks]
        return pa.chunked_array(pieces) if pieces else pa.chunked_array([pa.array([])])

    def type(self, name: str) -> pa.DataType | None:
        """Return a column's Arrow type, None where its values have no common one."""
        if self.in_arrow:
            return self.dataset.features.arrow_schema.field(name).type
        try:
            return next(self.pieces(name))[name].type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return None

    def sample(self, places: Sequence[int]) -> list[dict]:
        """Return some rows, by their place, with the columns that Trainer hands to the collator."""
        rows = [self.dataset[int(self.index[i])] if self.in_arrow else self._row(int(i)) for i in places]
        keep = self._setup.collated_columns
        return [{name: value for name, value in row.items() if keep is None or name in keep} for row in rows]

    @cached_property
    def label_names(self) -> list[str]:
        """What a column of labels may be called, first what wins where there are several: the collators do not agree on that."""
        own = self._setup.trainer.label_names
        return list(dict.fromkeys((*own, "label", "label_ids") if self._setup.collator is default_data_collator else ("label_ids", "label", *own)))

    @cached_property
    def label_columns(self) -> list[str]:
        return [name for name in self.label_names if name in self.columns]

    @cached_property
    def label_column(self) -> str | None:
        """The column that ends up as the labels."""
        return next(iter(self.label_columns), None)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """All labels as numbers, shape (rows,); None where they are not one number a row, or one is missing."""
        if self.label_column is None:
            return None
        kind = self.type(self.label_column)
        if kind is None or not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            return None
        values = self.column(self.label_column)
        return None if values.null_count else values.to_numpy()

    @cached_property
    def label_vectors(self) -> np.ndarray | None:
        """All multi-label vectors, shape (rows, classes); None where there are none, or their lengths differ."""
        kind = self.label_column and self.type(self.label_column)
        if not kind or not is_list(kind) or is_list(kind.value_type):
            return None
        try:
            vectors = np.array(self.column(self.label_column).to_pylist(), dtype=float)
        except (ValueError, TypeError):
            return None
        return vectors if vectors.ndim == 2 else None

    @cached_property
    def class_labels(self) -> list[str] | None:
        """The names of a ClassLabel column."""
        features = getattr(self.dataset, "features", None) or {}
        feature = features.get(self.label_column) if self.label_column else None
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    @cached_property
    def tokens(self) -> Tokens | None:
        """Look at the token ids of every row; None where there are none."""
        name = self._setup.input_name
        if name not in self.columns or not is_list(self.type(name)) or not pa.types.is_integer(self.type(name).value_type):
            return None
        mask = "attention_mask" if "attention_mask" in self.columns and is_list(self.type("attention_mask")) else None
        parts = [self._tokens_of(piece[name], piece[mask] if mask else None) for piece in self.pieces(*filter(None, (name, mask)))]
        if not parts:
            return None
        return Tokens(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _tokens_of(self, ids: pa.ChunkedArray, mask: pa.ChunkedArray | None) -> tuple:
        special, unknown, pad = self._setup.special_ids
        widths = pc.list_value_length(ids).fill_null(0).to_numpy().astype(np.int64)
        values = pc.list_flatten(ids).to_numpy()
        starts = np.cumsum(widths) - widths
        real = pc.list_flatten(mask).to_numpy() != 0 if mask is not None else values != pad if pad is not None else np.ones(len(values), bool)
        if len(real) != len(values):  # a mask of another shape; collating will complain
            real = np.ones(len(values), bool)

        def per_row(numbers: np.ndarray, add=np.add) -> np.ndarray:
            if not len(numbers):
                return np.zeros(len(widths), dtype=numbers.dtype)
            summed = add.reduceat(numbers, np.minimum(starts, len(numbers) - 1))
            return np.where(widths > 0, summed, 0)

        lengths = per_row(real.astype(np.int64))
        content = real & ~np.isin(values, special) if len(special) else real
        # multiplying and folding the bits makes equal sums of different rows as unlikely as 64 bits allow; padding counts nothing
        place = np.arange(len(values), dtype=np.uint64) - np.repeat(starts, widths).astype(np.uint64)
        mixed = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + place * np.uint64(0xD6E8FEB86659FD93)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = np.where(real, mixed ^ (mixed >> np.uint64(32)), np.uint64(0))
        return (
            lengths,
            widths,
            per_row(content.astype(np.int64)),
            per_row((real & (values == unknown)).astype(np.int64)) if unknown is not None else np.zeros(len(widths), np.int64),
            per_row(values.astype(np.int64), np.maximum),
            per_row(values.astype(np.int64), np.minimum),
            per_row(mixed),
            per_row((real & np.isin(values, self._setup.mark_ids)).astype(np.int64)),
            per_row((values == self._setup.end_id).astype(np.int64)) if self._setup.end_id is not None else np.zeros(len(widths), np.int64),
        )

    @cached_property
    def text_keys(self) -> np.ndarray | None:
        """One number a row, equal for texts that `comparable` writes alike, 0 for blank ones; None where no column is known to hold texts."""
        if (name := self.text_column) is None:
            return None
        known = (comparable(text or "") for piece in self.pieces(name) for text in piece[name].to_pylist())
        return np.fromiter((hash(text) if text else 0 for text in known), np.int64, len(self.index))

    @cached_property
    def text_column(self) -> str | None:
        """The column that the tokens were made of: the one string column, or the one whose first texts give these ids."""
        strings = [name for name in self.all_columns if self.type(name) is not None and is_text(self.type(name)) and name != self.label_column]
        tokenizer = self._setup.tokenizer
        if tokenizer is None or self.tokens is None or not self.rows:
            return strings[0] if len(strings) == 1 and strings[0] in ("text", "sentence", "review", "content", "tweet", "document") else None
        first = min(self.rows, 3)
        for name in strings:
            with contextlib.suppress(Exception):  # a tokenizer of some other kind: then no column is known
                rows = [self.source(i) for i in range(first)]
                made = [tokenizer(row[name], truncation=False, verbose=False)["input_ids"] for row in rows]
                there = [plain(row[self._setup.input_name])[:length] for row, length in zip(rows, self.tokens.lengths, strict=False)]
                if all(a == b or (len(b) >= 4 and a[: len(b) - 1] == b[:-1]) for a, b in zip(made, there, strict=True)):
                    return name
        return None

    @cached_property
    def keys(self) -> np.ndarray | None:
        """One number a row that is equal for equal texts (or, where no text is known, for equal tokens); 0 for a row without content."""
        if self.text_keys is not None:
            return self.text_keys
        return None if self.tokens is None else self.token_keys

    @cached_property
    def token_keys(self) -> np.ndarray:
        """One number a row that is equal for equal token ids; 0 for a row without a word that the tokenizer knows."""
        if self.tokens is None:
            return np.zeros(len(self.index), np.int64)
        return np.where(self.tokens.content > self.tokens.unknown, self.tokens.keys, 0).view(np.int64)

    @cached_property
    def sure_keys(self) -> np.ndarray:
        """The `token_keys` of the rows without an unknown token, which stands for any word; 0 for the others, and where no tokenizer says which it is."""
        known = self.tokens is not None and self._setup.tokenizer is not None
        return np.where(self.tokens.unknown == 0, self.token_keys, 0) if known else np.zeros(len(self.index), np.int64)

    def source(self, place: int) -> Mapping:
        """Return a row by its place, with all columns, as plain Python values."""
        return self.dataset.with_format(None)[int(self.index[place])] if self.in_arrow else self._row(int(place))

    def show(self, place: int) -> str:
        """Return the start of a row's text, or of its ids."""
        if self.text_column is not None:
            return repr(str(self.source(place)[self.text_column])[:60])
        return f"ids {plain(self.sample([place])[0].get(self._setup.input_name, []))[:8]}"


def _row(dataset: Any, place: int) -> Any:
    try:
        return dataset[place]
    except Exception as error:
        raise RuntimeError(f"reading row {place}: {said(error)}") from error


def _as_mapping(row: Any) -> Mapping:
    return row if isinstance(row, Mapping) else vars(row) if hasattr(row, "__dict__") else {"row": row}


def _as_array(rows: Sequence[Mapping], name: str) -> pa.Array | Exception:
    try:
        return pa.array([plain(row.get(name)) for row in rows])
    except Exception as error:  # values without a common type; whoever asks for the column will hear it
        return error


def _joined(parts: Sequence[pa.Array | Exception]) -> pa.ChunkedArray | Exception:
    """Make one column of its chunks, whose types may differ: whole numbers here, floats there."""
    try:
        return pa.concat_tables([pa.table({"all": part}) for part in parts], promote_options="permissive")["all"]
    except Exception as error:
        return next((part for part in parts if isinstance(part, Exception)), error)


def said(error: BaseException) -> str:
    """Return an exception's kind and words, in one line; some have no words that can be had."""
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    except Exception:
        return type(error).__name__


def is_list(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


class Setup:
    """A Trainer and everything that the checks want to know about it, each thing looked up once."""

    def __init__(self, trainer: Trainer, test_dataset: Any = None):
        self.trainer, self.args, self.collator = trainer, trainer.args, trainer.data_collator
        self.model = trainer.accelerator.unwrap_model(trainer.model)
        self.config = getattr(self.model, "config", None)
        self.tokenizer = trainer.processing_class if trainer.processing_class is not None else getattr(trainer.data_collator, "tokenizer", None)
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
                    self.unreadable[IN_WORDS.get(name, name)] = error
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
        special, unknown, pad = set(getattr(tokenizer, "all_special_ids", ())), getattr(tokenizer, "unk_token_id", None), tokenizer.pad_token_id
        others = {getattr(tokenizer, f"{name}_token_id", None) for name in ("eos", "bos", "cls", "sep")}
        unknown = None if unknown in others | {pad} else unknown  # GPT-2 has one token for all of these
        return np.array(sorted(special - {unknown}), int), unknown, None if pad in others else pad

    @cached_property
    def mark_ids(self) -> list[int]:
        """The ids of the tokens that begin, part or end a text; without one that also pads, which says nothing about a text."""
        named = {getattr(self.tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "bos", "eos")}
        others = {getattr(self.tokenizer, f"{name}_token_id", None) for name in ("pad", "mask")}
        return sorted(named - others - {self.special_ids[1], None})  # GPT-2's one token is the unknown one, too

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
        return self.trainer.compute_loss_func is not None or type(self.trainer).compute_loss is not Trainer.compute_loss

    @cached_property
    def names(self) -> list[str] | None:
        """The class names in the model's config, in the order of their ids; None where the ids are not 0, 1, 2, ..."""
        id2label = {int(i): str(name) for i, name in (getattr(self.config, "id2label", None) or {}).items()}
        return [id2label[i] for i in range(len(id2label))] if sorted(id2label) == list(range(len(id2label))) else None

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
    def batches(self) -> int | None:
        """Batches in an epoch on this process; None for a stream."""
        if self.train is None or self.train.rows is None:
            return None
        per_batch = self.args.train_batch_size * max(1, self.args.world_size)
        return self.train.rows // per_batch if self.args.dataloader_drop_last else math.ceil(self.train.rows / per_batch)

    @cached_property
    def steps(self) -> int | None:
        """Optimizer steps of the whole run, counted as Trainer does; None where they cannot be known."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        if self.batches is None or isinstance(self.args.num_train_epochs, str):
            return None
        return 0 if not self.batches else math.ceil(self.args.num_train_epochs * max(1, math.ceil(self.batches / self.args.gradient_accumulation_steps)))

    def every(self, name: str) -> int:
        """Return eval_steps, save_steps or logging_steps as a number of steps; below 1 they are a share."""
        value = getattr(self.args, name) or 0
        return math.ceil(value * (self.steps or 0)) if 0 < value < 1 else int(value)

    @cached_property
    def chooses_best(self) -> bool:
        """Whether a score decides anything: which checkpoint is kept or loaded, or when to stop."""
        return self.args.load_best_model_at_end or self.args.save_strategy == "best" or self.early_stopping is not None

    @cached_property
    def early_stopping(self) -> EarlyStoppingCallback | None:
        return next((c for c in self.trainer.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)), None)

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
                            raise TypeError(f"the collator returned {type(self.collated.pop(split.name)).__name__}, and Trainer needs a dict of tensors")
                    except Exception as error:  # whatever a collator may raise is what the reader has to hear of
                        self.refused[split.name] = error
            batch = self.collated.get("train", next(iter(self.collated.values()), None))
            dangerous = setup.errors & {"label-range", "tokenizer-mismatch", "too-long"}  # on a GPU they would take the process's CUDA context along
            if isinstance(batch, Mapping) and not (dangerous and setup.args.device.type != "cpu"):
                try:
                    with torch.no_grad(), warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # training will say it again, in its place
                        self.loss, self.logits, _ = setup.trainer.prediction_step(setup.model, dict(batch), prediction_loss_only=False)
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
            wanted += [int(np.nanargmax(split.labels)) if not np.isnan(split.labels).all() else 0, int(np.argmin(split.labels))]
        size = min(4, self.setup.args.train_batch_size)
        return list(dict.fromkeys([*wanted, *range(len(split.index))][: size + len(wanted)]))[:size]

    def score(self, split: Split) -> None:
        """Call compute_metrics with the evaluation labels and made-up predictions of the right form: a real batch may lack classes that a score needs."""
        labels = split.labels if split.label_vectors is None else split.label_vectors
        if labels is None or not len(labels):
            return
        rows = len(split.index) if split.rows is None else split.rows
        labels = np.asarray(labels)[np.argsort(split.index)]  # in the order of the data set
        labels = labels[np.arange(rows) * len(labels) // rows]  # where not all rows were read, those that were stand for their neighbours
        widths = []
        each_tensor(self.made_up(labels[:1]), lambda output: widths.append(output.numel()))
        few = 200 * self.setup.args.eval_batch_size if self.setup.args.batch_eval_metrics else FEW // max(1, sum(widths))
        step = max(1, math.ceil(rows / max(1, few)))
        self.try_metrics(labels[::step])
        # a metric may need every row: as many as an evaluation would keep are made up, if they fit easily
        if self.metrics_failed is not None and step > 1 and 8 * rows * sum(widths) < 0.25 * psutil.virtual_memory().available:
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

        return each_tensor(self.logits if self.logits is not None else torch.zeros(1, setup.num_labels or 2), like)

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
            extra = {"inputs": ids if arrays else {setup.input_name: ids}} if "inputs" in args.include_for_metrics else {}
            extra |= {"losses": torch.ones(len(few))} if "loss" in args.include_for_metrics else {}
            parts = {"predictions": predictions, "label_ids": few, **extra}
            return EvalPrediction(**{name: each_tensor(part, lambda tensor: tensor.detach().cpu().numpy()) if arrays else part for name, part in parts.items()})

        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                if args.batch_eval_metrics:
                    starts = range(0, len(kept), args.eval_batch_size)
                    for start in starts:
                        last = start == starts[-1]
                        self.scored = [setup.trainer.compute_metrics(given(slice(start, start + args.eval_batch_size), arrays=False), compute_result=last)]
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


def shared_rows(one: Split, other: Split) -> tuple[np.ndarray, np.ndarray]:
    """Mark the rows of `other` that `one` has too: by their texts, or by their tokens where one of them has no texts.

    The second mask marks the rest of those whose token ids are the same: other texts for a reader, the same input for the model.
    """

    def among(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
        return pd.Series(keys).isin(others[others != 0]).to_numpy() & (keys != 0)  # by hashes: np.isin takes seconds for a million rows

    if one.text_keys is None or other.text_keys is None:
        return among(other.token_keys, one.token_keys), np.zeros(len(other.index), bool)
    same = among(other.text_keys, one.text_keys)
    return same, among(other.sure_keys, one.sure_keys) & ~same


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


def container_fault(dataset: Any) -> str | None:
    """Say what is wrong with an object that was given as a data set; None where it can be one."""
    if isinstance(dataset, (pd.DataFrame, pd.Series)):
        return "Dataset.from_pandas(frame, preserve_index=False)"
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return f"data[{next(iter(dataset), 'train')!r}]"
    if isinstance(dataset, Mapping):
        return "Dataset.from_dict(...)"
    if isinstance(dataset, (str, bytes, set, np.ndarray, torch.Tensor, pa.Table)):
        return "Dataset.from_dict(...)"
    if not hasattr(dataset, "__getitem__") and not isinstance(dataset, (datasets.IterableDataset, torch.utils.data.IterableDataset)):
        return "Dataset.from_dict(...)"
    if isinstance(dataset, (list, tuple)) and len(dataset) and not isinstance(dataset[0], Mapping) and not hasattr(dataset[0], "__dict__"):
        return "Dataset.from_list(...)"
    return None
