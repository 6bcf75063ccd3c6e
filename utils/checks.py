"""One function for each mistake that can be seen before training starts. `utils.preflight.preflight` runs them; read that first.

To add a check, write one function under `@pitfall(...)`: it takes a `Setup` and yields (message, fix), or (message, fix, level) where this case is
more or less serious than the rest. The report, the catalogue and the tests pick it up.
"""

import contextlib
import copy
import functools
import inspect
import io
import itertools
import json
import math
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors import safe_open
from sklearn.metrics import get_scorer_names
from transformers import Trainer, get_scheduler
from transformers.data.data_collator import default_data_collator
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import denumpify_detensorize

from utils.data import in_escapes, in_words, variants
from utils.facts import SCRIPTED_ROWS, Split, container_fault, each_tensor, is_list, is_text, plain, said, shared_rows, text_config, untouched
from utils.runs import saved_checkpoints

IGNORED = -100  # the label that PyTorch's cross-entropy skips


class Pitfall(NamedTuple):
    """One entry of the catalogue.

    id: its name. stages: where it is found: R when a table is read, P by preflight, W by Watch, S by check_saved; C the library raises when
    the object is built; A avoided by how the notebooks are written. level: "error" or "warning". loud: whether the library raises by itself, with a
    message that misleads. symptom, fix: in general words. find: the function for stage P.
    """

    id: str
    stages: str
    level: str
    loud: bool
    symptom: str
    fix: str
    find: Callable | None
    dry: bool


CATALOGUE: dict[str, Pitfall] = {}


def pitfall(id: str, stages: str, level: str, symptom: str, fix: str, loud: bool = False, dry: bool = False):
    """Enter a mistake into the catalogue; the decorated function finds it. `dry`: it looks at the dry run, so it comes after those that do not."""

    def register(find):
        CATALOGUE[id] = Pitfall(id, stages, level, loud, symptom, fix, find, dry)
        return find

    return register


# --- what is given to Trainer -----------------------------------------------------------------------------------------


def places(mask: np.ndarray, split: Split) -> str:
    """Say which rows of a split a mask marks: "row 3", "4 rows (0, 2, 5, ...)"; counted from 0, as `dataset[i]` counts."""
    return in_words(np.sort(split.index[np.flatnonzero(mask)]) if len(mask) == len(split.index) else np.flatnonzero(mask))


@pitfall(
    "wrong-container", "P", "error", "The data set is a DataFrame, a DatasetDict or a dict of lists: KeyError: 6, Invalid key: 0", "Hand over one Dataset", True
)
def wrong_container(setup):
    for name, part in setup.given.items():
        if (write := container_fault(part)) is not None:
            yield f"{name}_dataset is a {type(part).__name__}, which has no rows dataset[0], dataset[1], ...; the first batch would fail.", f"Give {write}"


@pitfall("two-label-columns", "P", "error", "Both label and labels are there: label wins", "Remove one of them", True)
def two_label_columns(setup):
    for split in setup.splits.values():
        found = split.label_columns
        if len(found) > 1:
            lost = " and ".join(repr(name) for name in found[1:])
            yield (
                f"The {split.in_words} data have the columns {' and '.join(map(repr, found))}; the collator in use takes {found[0]!r} and loses {lost}.",
                f"dataset = dataset.remove_columns({found[0]!r}), or {found[1]!r}: keep the one that is right",
            )


@pitfall(
    "eval-labels-missing", "P", "error", "No eval_loss, and compute_metrics is never called, without a word", "The same column names in both splits", False
)
def eval_labels_missing(setup):
    if setup.train is None or setup.train.label_column is None:
        return
    for split in setup.evals:
        if split.label_column is None and len(split.index):
            reason, fix = _without_labels(split, setup.train.label_column)
            yield (
                f"The training data have the label column {setup.train.label_column!r}, the {split.in_words} data have no labels: {reason}. There will be no "
                "evaluation loss, and compute_metrics will not be called.",
                fix,
            )


def _without_labels(split: Split, right: str = "label") -> tuple[str, str]:
    """Say why a split has no labels, and how it gets them."""
    hidden = [name for name in split.all_columns if name in split.label_names]
    if hidden:
        return f"set_format hides the column {hidden[0]!r}", f"Add {hidden[0]!r} to set_format(columns=[...])"
    others = [name for name in split.all_columns if name not in ("input_ids", "attention_mask", "token_type_ids")]
    named = f"none of its columns ({', '.join(map(repr, split.all_columns))}) is called label, labels or label_ids"
    return named, f"dataset = dataset.rename_column({(others or ['...'])[-1]!r}, {right!r})"


@pitfall(
    "not-tokenised",
    "P",
    "error",
    "The first batch fails: 'You should supply an encoding', or rows of different lengths",
    "Tokenise; a padding collator",
    True,
    dry=True,
)
def not_tokenised(setup):
    needed = setup.input_name
    for split in setup.splits.values():
        if not len(split.index) or (needed not in split.columns and "inputs_embeds" in split.columns):
            continue
        if setup.own_collator and needed in setup.dry.collated.get(split.name, ()):
            continue  # it tokenises
        if needed not in split.columns:
            has = f"it has {', '.join(map(repr, split.columns)) or 'no columns'}"
            yield (
                f"The {split.in_words} data have no column {needed!r} ({has}), so the model would get no text.",
                "dataset = dataset.map(lambda batch: tokenizer(batch['text'], truncation=True), batched=True)",
            )
        elif needed == "input_ids":
            kind = split.type(needed)
            if kind is None or not is_list(kind) or is_list(kind.value_type):
                shape = "is a list of lists" if kind is not None and is_list(kind) else f"holds {kind or 'values of several kinds'}"
                yield (
                    f"{needed!r} of the {split.in_words} data {shape}; it must hold one flat list of whole numbers a row.",
                    "Tokenise without return_tensors: tokenizer(text, truncation=True), not tokenizer(text, return_tensors='pt')",
                )
            elif split.tokens is not None and setup.collator is default_data_collator and len(set(split.tokens.widths.tolist())) > 1:
                low, high = split.tokens.widths.min(), split.tokens.widths.max()
                yield (
                    f"The rows of the {split.in_words} data have {low} to {high} tokens, and the collator in use does not pad, so a batch cannot be made.",
                    "Trainer(..., processing_class=tokenizer), or data_collator=DataCollatorWithPadding(tokenizer)",
                )
    for split in setup.splits.values():
        texts = [name for name in split.columns if name != split.label_column and split.type(name) is not None and is_text(split.type(name))]
        if texts and not setup.args.remove_unused_columns and split.name in setup.dry.refused:
            yield (
                f"remove_unused_columns=False hands the text column {texts[0]!r} of the {split.in_words} data to the collator, which cannot make a tensor of it.",
                f"remove_unused_columns=True, or dataset = dataset.remove_columns({texts[0]!r})",
            )


# --- labels -----------------------------------------------------------------------------------------------------------


@pitfall(
    "label-type",
    "P",
    "error",
    "'Unable to create tensor ... excessive nesting': labels are texts, or one is missing",
    "Encode them as whole numbers",
    True,
    dry=True,
)
def label_type(setup):
    for split in setup.splits.values():
        if split.label_column is None or not len(split.index) or (setup.own_collator and _tensor_labels(setup, split.name) is not None):
            continue
        kind = split.type(split.label_column)
        where = f"the column {split.label_column!r} of the {split.in_words} data"
        encode = f"dataset = dataset.class_encode_column({split.label_column!r}) on the whole table, before it is split"
        if kind is None:
            yield f"The labels in {where} are of several kinds.", encode
        elif is_text(kind) or pa.types.is_temporal(kind) or pa.types.is_binary(kind) or pa.types.is_decimal(kind) or pa.types.is_dictionary(kind):
            seen = list(dict.fromkeys(split.column(split.label_column).slice(0, 1000).to_pylist()))
            yield f"The labels in {where} are texts ({', '.join(map(repr, seen[:5]))}), and the model takes whole numbers.", encode
        elif is_list(kind) and (is_text(kind.value_type) or is_list(kind.value_type)):
            yield (
                f"Each label in {where} is a list of {'texts' if is_text(kind.value_type) else 'lists'}; a multi-label row is one list of 0.0 and 1.0.",
                "row['labels'] = [float(name in row['tags']) for name in names]",
            )
        elif (missing := split.column(split.label_column)).null_count:
            rows = places(missing.is_null().to_numpy(), split)
            yield (
                f"A label is missing in {rows} of the {split.in_words} data; a batch with such a row cannot be made.",
                (f"dataset = dataset.filter(lambda row: row[{split.label_column!r}] is not None)"),
            )
        elif split.labels is not None and split.labels.dtype.kind == "f" and not (finite := np.isfinite(split.labels)).all():
            tried = _tensor_labels(setup)
            if tried is not None and not tried.isfinite().all() and _loss_accepts(setup) and setup.dry.loss.isfinite():
                continue  # the dry run had such a row, and this loss leaves it out
            yield (
                f"The label is nan or infinite in {places(~finite, split)} of the {split.in_words} data: a batch with such a row has a loss of nan, and spoils all weights.",
                f"dataset = dataset.filter(lambda row: math.isfinite(row[{split.label_column!r}]))",
            )


def _tensor_labels(setup, split: str = "train") -> torch.Tensor | None:
    """Return the labels of a split's collated batch: collators change types, so this is what the model gets."""
    batch = setup.dry.collated.get(split)
    labels = batch.get(setup.trainer.label_names[0]) if isinstance(batch, Mapping) and setup.trainer.label_names else None
    return labels if isinstance(labels, torch.Tensor) else None


def _loss_accepts(setup) -> bool:
    """Whether a loss of the user's own took the labels as they are."""
    return setup.own_loss and setup.dry.failed is None and setup.dry.loss is not None


@pitfall("num-labels-one", "P", "error", "One output for a binary task is a regression: MSE, and argmax is always 0", "num_labels=2", False, dry=True)
def num_labels_one(setup):
    if setup.task != "regression" or setup.train is None or setup.train.labels is None or not len(setup.train.labels) or _loss_accepts(setup):
        return
    values = np.unique(setup.train.labels)
    whole = setup.train.labels.dtype.kind in "iub"
    binary = set(values.tolist()) <= {0.0, 1.0} and setup.config.problem_type != "regression"
    if whole or (binary and len(values) == 2):
        shown = ", ".join(f"{value:g}" for value in values[:8].astype(float))
        yield (
            f"The labels are {'whole numbers' if whole else 'only'} ({shown}), and num_labels=1 makes the model a regression: it would learn to output a number "
            "close to the label, and argmax over its one output would always be 0.",
            f"from_pretrained(..., num_labels={max(2, int(np.nanmax(values)) + 1)}); for a true regression: dataset.cast_column("
            f"{setup.train.label_column!r}, Value('float32')) and problem_type='regression'",
        )


@pitfall(
    "label-range", "P", "error", "'Target 2 is out of bounds.', or a device-side assert, when such a row is drawn", "Labels from 0 to num_labels - 1", True
)
def label_range(setup):
    if setup.num_labels is None or setup.num_labels < 2 or setup.task != "single_label":
        return
    for split in setup.splits.values():
        labels = split.labels
        if labels is None or not len(labels) or labels.dtype.kind not in "iu":
            continue
        skipped = labels == IGNORED
        outside = ~skipped & ((labels < 0) | (labels >= setup.num_labels))
        if outside.any() and _moved_inside(setup, split, outside):
            continue
        if outside.any():
            low, high = labels[~skipped].min(), labels[~skipped].max()
            need = int(high) + 1
            if setup.config.problem_type is None and setup.names and setup.names == [f"LABEL_{i}" for i in range(2)] and low >= 0:
                fix = f"from_pretrained(..., num_labels={need})"
            elif low == 1 and high == setup.num_labels:
                fix = f"dataset = dataset.map(lambda row: {{{split.label_column!r}: row[{split.label_column!r}] - 1}})"
            else:
                fix = f"dataset = dataset.class_encode_column({split.label_column!r}) on the whole table, and num_labels to match"
            yield (
                f"Labels of the {split.in_words} data run from {low} to {high}, but the model has num_labels={setup.num_labels}, so they must run from 0 to "
                f"{setup.num_labels - 1}: {places(outside, split)}. Training would stop when such a row is drawn.",
                fix,
            )
        elif skipped.all():
            yield f"All labels of the {split.in_words} data are {IGNORED}, which the loss skips: it would be nan.", "Put the labels in"
        elif skipped.any():
            yield (
                f"{places(skipped, split)} of the {split.in_words} data have the label {IGNORED}: the loss skips them, and most metrics count them as wrong.",
                "Nothing, if that is on purpose; else put the labels in",
                "warning",
            )


def _moved_inside(setup, split: Split, outside: np.ndarray) -> bool:
    """Whether code of the user's own deals with such labels: the collator moves them into range, or the loss takes them."""
    if setup.own_collator:
        with contextlib.suppress(Exception), untouched(setup):
            labels = setup.collator(split.sample(np.flatnonzero(outside)[:2]))[setup.trainer.label_names[0]]
            return bool(((labels >= 0) & (labels < setup.num_labels)).all())
    return setup.args.device.type == "cpu" and _loss_accepts(setup)  # on a GPU such a trial would take the process along


@pitfall(
    "label-float",
    "P",
    "error",
    "'Target size must be the same as input size': float or bool labels choose another loss",
    "Whole numbers (int64)",
    True,
    dry=True,
)
def label_float(setup):
    if setup.task != "single_label" or _loss_accepts(setup):
        return
    for split in setup.splits.values():
        labels = _tensor_labels(setup, split.name)
        if labels is not None and labels.ndim == 1 and labels.dtype not in (torch.int64, torch.uint8) and setup.config.problem_type != "regression":
            kind = str(labels.dtype).removeprefix("torch.")
            yield (
                f"The labels of the {split.in_words} data reach the model as {kind}; with num_labels={setup.num_labels} it takes one int64 number a row, or a vector of "
                "floats (multi-label), and stops at this.",
                f"dataset = dataset.cast_column({split.label_column!r}, Value('int64'))",
            )


@pitfall(
    "multi-label-ints", "P", "error", "'Expected input batch_size (4) to match target batch_size (8)': 0/1 vectors of whole numbers", "float32", True, dry=True
)
def multi_label_ints(setup):
    if setup.task != "multi_label" or _loss_accepts(setup):
        return
    labels = _tensor_labels(setup)
    column = setup.train.label_column if setup.train else "labels"
    if labels is not None and labels.ndim == 2 and not labels.is_floating_point():
        yield (
            f"The labels are vectors of whole numbers ({labels[0].tolist()[:8]}); the model would take them for {labels.shape[1]} single labels a row and stop.",
            f"dataset = dataset.map(lambda row: {{{column!r}: [float(x) for x in row[{column!r}]]}}, "
            f"features=Features({{**dataset.features, {column!r}: List(Value('float32'))}})), and problem_type='multi_label_classification'",
        )
    for split in setup.splits.values():
        kind = split.type(split.label_column) if split.label_column else None
        if not is_list(kind) or is_list(kind.value_type) or is_text(kind.value_type):
            continue
        sizes = np.concatenate([pc.list_value_length(piece[split.label_column]).fill_null(0).to_numpy() for piece in split.pieces(split.label_column)])
        wrong = sizes != setup.num_labels
        if wrong.any():
            yield (
                f"{places(wrong, split)} of the {split.in_words} data have label vectors of {', '.join(map(str, sorted(set(sizes[wrong].tolist()))[:5]))} numbers; "
                f"the model has {setup.num_labels} outputs.",
                f"One number for each class: num_labels={int(sizes.max())}, or vectors of {setup.num_labels}",
            )


@pitfall(
    "problem-type-stuck",
    "P",
    "error",
    "The config keeps the problem_type of an earlier batch, and right labels fail",
    "Set config.problem_type",
    True,
    dry=True,
)
def problem_type_stuck(setup):
    kept, labels = getattr(setup.config, "problem_type", None), _tensor_labels(setup)
    if not setup.classifier or kept is None or labels is None or _loss_accepts(setup):
        return
    fits = {
        "regression": labels.is_floating_point() and (setup.num_labels == 1 or labels.ndim == 2),
        "single_label_classification": labels.dtype in (torch.int64, torch.uint8) and labels.ndim == 1 and setup.num_labels > 1,
        "multi_label_classification": labels.is_floating_point() and labels.ndim == 2,
    }
    means = {"regression": "float", "single_label_classification": "int64", "multi_label_classification": "vectors of float"}
    right = "multi_label_classification" if labels.ndim == 2 else "regression" if setup.num_labels == 1 else "single_label_classification"
    # floats with several outputs are the labels' fault, and whole numbers in vectors too: other checks say so
    if kept in fits and not fits[kept] and kept != right and (fits[right] or kept == "regression"):
        yield (
            f"config.problem_type is {kept!r}, which wants {means[kept]} labels, but they are {str(labels.dtype).removeprefix('torch.')} "
            f"of shape {tuple(labels.shape)}. The first forward pass sets it, and checkpoints bring it along.",
            f"model.config.problem_type = {right!r}",
        )


@pitfall(
    "no-loss",
    "P",
    "error",
    "'The model did not return a loss from the inputs, only the following keys: logits'",
    "A column label, labels or label_ids",
    True,
    dry=True,
)
def no_loss(setup):
    split = setup.train
    if split is None or not len(split.index) or setup.dry.loss is not None or "not-tokenised" in setup.errors:
        return
    if setup.trainer.label_names and split.label_column is None:
        reason, fix = _without_labels(split)
        if setup.dry.failed is None or "did not return a loss" in said(setup.dry.failed) or not setup.own_loss:
            yield f"The training data have no labels: {reason}. Without them the model returns no loss, and the first step fails.", fix
    elif setup.dry.collated.get("train") is not None and not setup.errors & {"label-type", "label-range"}:
        words = said(setup.dry.failed) if setup.dry.failed else "did not return a loss"
        if "did not return a loss" in words or "unexpected keyword argument 'label" in words:
            yield (
                f"{type(setup.model).__name__} computes no loss from the labels: a model without a classification head, or one whose forward takes no labels.",
                "AutoModelForSequenceClassification.from_pretrained(...), or a compute_loss_func",
            )


RARELY = 0.2  # of the changes of class that rows in random order would have: fewer, and they come class by class
RARE_CLASS = 0.1  # changes of class a row, in random order, where one class has all but five in a hundred rows
BY_CHANCE = 10  # rows of other classes to be expected among the first of a stream, before it means something that there are none


@pitfall("single-class-split", "P", "error", "select(range(n)) or a split of sorted rows: one class only, accuracy 1.0, falling loss", "Shuffle, stratify")
def single_class_split(setup):
    if setup.task == "regression" or "label-range" in setup.errors:
        return
    counted = {}
    for name, split in setup.splits.items():
        labels = split.labels
        if labels is not None and len(labels) and labels.dtype.kind in "iub":
            counted[name] = np.unique(labels[labels != IGNORED] if labels.dtype.kind != "b" else labels)
    names = setup.names or []

    def called(ids) -> str:
        return ", ".join(repr(names[i]) if 0 <= i < len(names) else str(i) for i in map(int, ids[:8])) + (", ..." if len(ids) > 8 else "")

    if "train" in counted:
        yield from _class_by_class(setup, counted, called)
    stratify = "dataset.class_encode_column('label').train_test_split(test_size=0.15, seed=42, stratify_by_column='label')"
    for name, classes in counted.items():
        split = setup.splits[name]
        if len(classes) == 1 and (setup.num_labels or 2) > 1 and split.rows is not None and (split.rows > 1 or name == "train"):
            yield (
                f"All {split.rows:,} rows of the {split.in_words} data are of one class, {called(classes)}: a model that always says so scores 100%.",
                stratify,
            )
        elif name != "train" and "train" in counted and not setup.splits["train"].stream and not split.stream:
            missing, new = np.setdiff1d(counted["train"], classes), np.setdiff1d(classes, counted["train"])
            if len(new) and len(counted["train"]) > 1:
                yield f"The {split.in_words} data have the class {called(new)}, which no training row has: it cannot be learnt.", stratify, "warning"
            if len(missing):
                yield f"The {split.in_words} data have no row of {called(missing)}, so their scores say nothing about it.", stratify, "warning"


def _class_by_class(setup, counted: Mapping[str, np.ndarray], called: Callable):
    """Find training rows that are read in the order in which they stand, one class after the other: in the end the model knows the last one."""
    split, classes = setup.train, counted["train"]
    if split.stream:
        labels, reason = split.labels, "Trainer does not shuffle a stream"
        fix = (
            "dataset.shuffle(seed=42, buffer_size=10_000), with room for more rows than stand of one class in a row; or shuffle the table before "
            "to_iterable_dataset()"
        )
    elif sequential := _in_their_order(setup):
        labels, reason = split.labels[np.argsort(split.index, kind="stable")], f"{sequential} reads them as they stand"
        fix = "train_dataset = train_dataset.shuffle(seed=42), or train_sampling_strategy='random' and no sampler of your own"
    else:
        return
    labels = labels[labels != IGNORED] if labels.dtype.kind != "b" else labels
    others = {name: split for name, split in setup.splits.items() if name in counted and len(np.setdiff1d(counted[name], classes))}
    if split.stream and len(classes) == 1 and len(labels) > 1 and others:
        other = next(iter(others))
        expected = len(labels) * (setup.splits[other].labels != classes[0]).mean()
        if len(labels) < SCRIPTED_ROWS or expected >= BY_CHANCE:
            yield (
                f"The first {len(labels):,} rows of the training data are of one class, {called(classes)}, and the {others[other].in_words} data have "
                f"{called(counted[other])}: {reason}, so the model would learn one class, and forget it for the next.",
                fix,
            )
    elif len(labels) >= 16:
        starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1 if labels.dtype.kind != "b" else ~labels[0]))
        runs = pd.DataFrame({"label": labels[starts], "length": np.diff(starts, append=len(labels))})
        by_chance = len(labels) * (1 - (pd.Series(labels).value_counts(normalize=True) ** 2).sum())
        if len(runs) - 1 < RARELY * by_chance and runs.groupby("label")["length"].max().sum() > len(labels) / 2:
            yield (
                f"The {f'first {len(labels):,} rows of the ' if split.stream else ''}training data come class by class ({len(runs) - 1} changes of class in "
                f"{len(labels):,} rows; by chance {by_chance:,.0f}), and {reason}: the model would learn one class, and forget it for the next.",
                fix,
                "error" if by_chance > RARE_CLASS * len(labels) or len(labels) < 200 else "warning",  # a few rows in a heap are no disaster
            )


def _in_their_order(setup) -> str | None:
    """Name what makes Trainer read the training rows in the order in which they stand; None where nothing does, or where it cannot be seen."""
    trainer = copy.copy(setup.trainer)  # what the user's code sets there is not to stay
    own_loader, own_sampler = (getattr(getattr(trainer, name), "__func__", None) is not getattr(Trainer, name) for name in OWN_ORDER)
    sampler, loaders = None, trainer.accelerator._dataloaders
    before = list(loaders)
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):  # it is the user's code
        if own_loader:
            sampler = trainer.get_train_dataloader().batch_sampler.sampler
        elif setup.args.train_sampling_strategy == "sequential" or own_sampler:
            asked = inspect.signature(trainer._get_train_sampler).parameters
            sampler = trainer._get_train_sampler(trainer.train_dataset) if asked else trainer._get_train_sampler()
    loaders[:] = before
    if type(sampler) is not torch.utils.data.SequentialSampler:
        return None
    return OWN_ORDER[0] if own_loader else OWN_ORDER[1] if own_sampler else "train_sampling_strategy='sequential'"


OWN_ORDER = ("get_train_dataloader", "_get_train_sampler")


def _aligned(one: Sequence[str], other: Sequence[str]) -> str:
    """Compare two lists of class names: "same", "drift" (a name stands at two places) or "differ"."""
    one, other = ([str(name).strip().casefold() for name in names] for names in (one, other))
    if one[: len(other)] == other[: len(one)]:
        return "same"
    place = {name: i for i, name in enumerate(one)}
    return "drift" if any(place.get(name, i) != i for i, name in enumerate(other)) else "differ"


@pitfall(
    "label-map-drift", "P", "error", "enumerate(set(...)), one map for each split: ids change their meaning from split to split or run to run", "One sorted map"
)
def label_map_drift(setup):
    named = {split.in_words: split.class_labels for split in setup.splits.values() if split.class_labels}
    model = setup.names if setup.names and not all(name.startswith("LABEL_") for name in setup.names) else None
    if setup.task == "regression":
        return
    one_map = "labels = sorted(set(table['label'])); ClassLabel(names=labels) for every split, id2label=dict(enumerate(labels)) for the model"
    first = next(iter(named), None)
    for where, names in named.items():
        for other_where, other in ((first, named[first]), ("model's", model)):
            if other is not None and other_where != where and (kind := _aligned(other, names)) != "same":
                yield (
                    f"The {where} labels are {names[:8]}, in this order; the {other_where} are {other[:8]}."
                    + (" The same id means two things, and the scores will be wrong." if kind == "drift" else " Check that they mean the same."),
                    one_map,
                    "error" if kind == "drift" else "warning",
                )
                break
    if named or setup.train is None or setup.train.labels is None or setup.train.labels.dtype.kind not in "iu":
        return
    maps = {split.in_words: found for split in setup.splits.values() if split.labels is not None and not split.stream for found in [_map_of(split)] if found}
    first = next(iter(maps), None)
    known = {name: i for i, name in enumerate(model or [])}
    for where, (column, found) in maps.items():
        for other_where, other in ((first, maps[first][1]), ("model", known)):
            clash = {name: (i, other[name]) for name, i in found.items() if other.get(name, i) != i}
            if clash and other_where != where:
                name, (i, j) = next(iter(clash.items()))
                yield (
                    f"Column {column!r} says that {name!r} is label {i} for the {where} data and {j} for the {other_where}. The scores will be wrong.",
                    one_map,
                )
                break


def _map_of(split: Split) -> tuple[str, dict[str, int]] | None:
    """Find a text column that names the labels one to one, and return it with its map from name to id."""
    classes = len(np.unique(split.labels))
    for name in split.all_columns:
        if name == split.label_column or split.type(name) is None or not is_text(split.type(name)) or classes < 2:
            continue
        names = split.column(name)
        if names.null_count or pc.count_distinct(names).as_py() != classes or classes == split.rows:
            continue
        pairs = set(zip(names.to_pylist(), split.labels.tolist(), strict=True))
        if len(pairs) == classes:
            return name, {str(text): int(i) for text, i in sorted(pairs)}
    return None


@pitfall("label-names", "P", "warning", "id2label is missing or no bijection: predictions are called LABEL_0", "Pass id2label and label2id, omit num_labels")
def label_names(setup):
    if not setup.classifier or (setup.num_labels or 0) < 2:
        return
    config, both = setup.config, "from_pretrained(..., id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)})"
    names, label2id = setup.names, {str(name): int(i) for name, i in (config.label2id or {}).items()}
    if names is None or len(names) != setup.num_labels:
        yield f"id2label has the ids {sorted(map(int, config.id2label))[:8]}, but the model has {setup.num_labels} outputs.", both
    elif len(set(names)) < len(names):
        yield f"id2label gives one name to several classes: {names[:8]}.", both
    elif names == [f"LABEL_{i}" for i in range(len(names))]:
        known = next((split.class_labels for split in setup.splits.values() if split.class_labels), None)
        hint = f" The data call them {known[:8]}." if known else ""
        yield f"The {len(names)} classes have no names: predictions will say {names[0]!r}.{hint}", both
    elif label2id != {name: i for i, name in enumerate(names)}:
        yield f"label2id ({dict(list(label2id.items())[:4])}) is not the inverse of id2label ({dict(list(enumerate(names))[:4])}).", both


@pitfall("label-noise", "RP", "warning", "'pos', 'pos ' and 'Pos' are three classes; a class has fewer than 5 rows", "Write each label in one way")
def label_noise(setup):
    split = setup.train
    names = (split.class_labels if split is not None else None) or setup.names or []
    for same in variants(names):
        yield (
            f"Class names that may be one class: {', '.join(map(in_escapes, same))}.",
            "Write each in one way before encoding: table['label'].map(utils.data.comparable)",
        )
    if split is not None and setup.task == "single_label" and split.labels is not None and split.labels.dtype.kind in "iu" and not split.stream:
        ids, counts = np.unique(split.labels[split.labels != IGNORED], return_counts=True)
        rare = [(int(i), int(n)) for i, n in zip(ids, counts, strict=True) if n < 5]
        if rare:
            shown = ", ".join(f"{names[i]!r} ({n})" if 0 <= i < len(names) else f"{i} ({n})" for i, n in rare[:8])
            yield f"{len(rare)} class(es) with fewer than 5 training rows: {shown}. So few can hardly be learnt.", "Collect more rows, or merge classes"


# --- texts and tokens -------------------------------------------------------------------------------------------------


@pitfall(
    "empty-tokenizer", "PS", "error", "A folder without tokenizer files gives a tokenizer of 5 tokens: every word is [UNK]", "Save the tokenizer with the model"
)
def empty_tokenizer(setup):
    vocabulary, split = getattr(text_config(setup.config), "vocab_size", None), setup.train
    load = "tokenizer = AutoTokenizer.from_pretrained(checkpoint) with the checkpoint of the model, then tokenise again"
    if (
        setup.tokenizer is not None
        and vocabulary
        and hasattr(setup.tokenizer, "__len__")
        and len(setup.tokenizer) <= 50
        and vocabulary > 10 * len(setup.tokenizer)
    ):
        yield (
            f"The tokenizer knows {len(setup.tokenizer)} tokens, the model {vocabulary:,}: it was loaded without its vocabulary, and nearly every word is unknown.",
            load,
        )
    elif split is not None and split.tokens is not None and split.tokens.content.sum() > 0:
        tokens = split.tokens
        share = tokens.unknown.sum() / tokens.content.sum()
        if share > 0.5:
            yield f"{share:.0%} of all training tokens are the unknown token: the model would see hardly a word.", load
        elif vocabulary and vocabulary > 1000 and setup.tokenizer is None and len(split.index) >= 20 and tokens.highest.max() < 10:
            yield f"No training token has an id above {tokens.highest.max()}, of {vocabulary:,} that the model knows: the tokenizer had no vocabulary.", load


@pitfall("tokenizer-mismatch", "P", "error", "A tokenizer of another checkpoint: silent, or 'index out of range in self'", "Both from one checkpoint", True)
def tokenizer_mismatch(setup):
    if not hasattr(setup.model, "get_input_embeddings"):
        return
    rows = getattr(getattr(setup.model.get_input_embeddings(), "weight", None), "shape", [None])[0]
    one = "checkpoint = '...'; AutoTokenizer.from_pretrained(checkpoint) and AutoModelForSequenceClassification.from_pretrained(checkpoint)"
    over = False
    for split in setup.splits.values():
        if rows and split.tokens is not None and len(split.tokens.highest):
            outside = (split.tokens.highest >= rows) | (split.tokens.lowest < 0)
            if outside.any():
                over = True
                bad = split.tokens.highest[outside].max() if (split.tokens.highest >= rows).any() else split.tokens.lowest.min()
                yield (
                    f"The {split.in_words} data hold the token id {bad:,}, but the model knows {rows:,} tokens (0 to {rows - 1:,}): {places(outside, split)}. "
                    "A batch with such a row stops with 'index out of range in self'.",
                    one,
                )
    if over or setup.tokenizer is None or not rows or "empty-tokenizer" in setup.errors or not hasattr(setup.tokenizer, "__len__"):
        return
    size = len(setup.tokenizer)
    if size > rows and (by_hand := _only_by_hand(setup.tokenizer, rows)):
        yield (
            f"The tokenizer knows {size:,} tokens, the model {rows:,}. No row has one of the others ({', '.join(map(repr, by_hand[:3]))}); they are special "
            "tokens, which no ordinary text has. One with them would stop the model with 'index out of range in self'.",
            "Nothing, if no text will have them; else model.resize_token_embeddings(len(tokenizer))",
            "warning",
        )
    elif size > rows:
        yield (
            f"The tokenizer knows {size:,} tokens, the model {rows:,}: a text with one of the others will stop it with 'index out of range in self'.",
            f"{one}; after tokenizer.add_tokens(...): model.resize_token_embeddings(len(tokenizer))",
        )
        return
    mine, its = str(getattr(setup.tokenizer, "name_or_path", "") or ""), str(getattr(setup.config, "_name_or_path", "") or "")
    if not mine or not its or mine == its:
        return
    different = _other_ids(setup.tokenizer, its)
    if different is None and size < 0.98 * rows:
        yield f"The tokenizer of {Path(mine).name!r} knows {size:,} tokens, the model {Path(its).name!r} {rows:,}: they do not belong together.", one
    elif different:
        word, i, j = different
        yield (
            f"The tokenizer comes from {Path(mine).name!r}, the model from {Path(its).name!r}, and they number words differently: {word!r} is {i} for one and {j} "
            "for the other. The model would read other words than you wrote, without an error.",
            one,
        )


def _only_by_hand(tokenizer: Any, rows: int) -> list[str]:
    """Return the tokens behind the first `rows`, if they are special ones that only a caller puts into a text, such as the place of a picture.

    An ordinary word can come up in any text, and the tokenizer itself pads, begins and ends rows and writes what it does not know.
    """
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {*getattr(tokenizer, "all_special_ids", ()), *(i for i, token in added.items() if token.special)}
    itself = {getattr(tokenizer, f"{name}_token_id", None) for name in ("pad", "unk", "cls", "sep", "bos", "eos")}
    return sorted(beyond, key=beyond.get) if set(beyond.values()) <= special - itself else []


def _other_ids(tokenizer: Any, checkpoint: str) -> tuple | None:
    """Return a token that this tokenizer and that of the model's checkpoint number differently, with both ids.

    () where all ids agree, None where the checkpoint's tokenizer is not on this machine.
    """
    from transformers import AutoTokenizer

    try:
        its = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True).get_vocab()
    except Exception:  # no folder, no tokenizer in it, not in the cache
        return None
    if len(its) <= 50:  # a folder with the weights only gives an empty tokenizer
        return None
    mine = tokenizer.get_vocab()
    clash = [word for word, i in mine.items() if its.get(word, i) != i]
    if not clash and len(set(mine) & set(its)) < 0.5 * min(len(mine), len(its)):
        clash = [next(iter(set(mine) - set(its)))]
    if not clash:
        return ()
    word = min(clash, key=lambda word: (not word.isalpha(), mine[word]))
    return word, mine[word], its.get(word, "unknown")


@pitfall("too-long", "P", "error", "'The expanded size of the tensor (122) must match the existing size (64)'", "max_length", True)
def too_long(setup):
    limit = _positions(setup.model)
    for split in setup.splits.values():
        if limit and split.tokens is not None and len(split.tokens.widths) and (over := split.tokens.widths > limit).any():
            yield (
                f"The longest row of the {split.in_words} data has {split.tokens.widths.max():,} tokens, but the model has {limit:,} positions: {places(over, split)}. "
                "A batch with such a row fails.",
                f"tokenizer(..., truncation=True, max_length={limit})",
            )


def _positions(model: torch.nn.Module) -> int | None:
    """Return how many positions a model has a vector for; None where it computes them and no length is too long."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, torch.nn.Embedding) and last in ("position_embeddings", "embed_positions", "wpe"):
            if getattr(getattr(model, "config", None), "position_biased_input", True) is False:
                return None
            offset = getattr(module, "offset", 0)  # OPT and BART keep two rows in front
            return module.num_embeddings - (offset or (0 if module.padding_idx is None else module.padding_idx + 1))
    return None


@pitfall("pad-token", "P", "error", "'Asking to pad but the tokenizer does not have a padding token', 'Cannot handle batch sizes > 1'", "Set it in both", True)
def pad_token(setup):
    tokenizer, config = setup.tokenizer, text_config(setup.config)
    both = "tokenizer.pad_token = tokenizer.eos_token; model.config.pad_token_id = tokenizer.pad_token_id"
    if tokenizer is not None and hasattr(tokenizer, "pad_token_id") and tokenizer.pad_token_id is None and setup.collator is not default_data_collator:
        yield "The tokenizer has no padding token, so rows of different length cannot make a batch.", both
    elif setup.classifier and hasattr(setup.model, "score") and setup.trainer.processing_class is None:
        # these models look for the last token before the padding; processing_class would make Trainer set the id
        mine, its = getattr(tokenizer, "pad_token_id", None), getattr(config, "pad_token_id", None)
        if its is None and setup.args.train_batch_size > 1:
            yield "config.pad_token_id is None: the model cannot tell text from padding and refuses batches of more than one row.", both
        elif mine is not None and its is not None and mine != its:
            yield f"The tokenizer pads with {mine}, the model's config says {its}: it would read its answer off a padding token, without an error.", both


@pitfall("truncation", "P", "warning", "Labels hang on words that were cut", "Raise max_length, or split the texts")
def truncation(setup):
    split = setup.train
    if split is None or split.tokens is None or len(split.index) < 10:
        return
    lengths = split.tokens.lengths
    limit, at_limit = int(lengths.max()), lengths == lengths.max()
    if at_limit.mean() <= 0.1 or limit < 8 or at_limit.sum() < 3 * np.isin(lengths, limit - np.arange(1, 5)).sum() / 4:  # a cut makes a heap at its place
        return
    if split.text_column is not None and setup.tokenizer is not None:
        some = np.flatnonzero(at_limit)[:: max(1, int(at_limit.sum()) // 50)][:50]
        whole = [len(setup.tokenizer(split.source(i)[split.text_column], truncation=False, verbose=False)["input_ids"]) for i in some]
        if np.mean(np.array(whole) > limit) * at_limit.mean() <= 0.1:
            return
    elif len(np.unique(lengths)) < 4 or not (lengths < limit).any():
        return  # rows of one length or a few: made so, not cut
    yield (
        f"{at_limit.mean():.0%} of the training rows have exactly {limit} tokens, the most there are: they were cut. Where a label hangs on the words behind the "
        "cut, it cannot be learnt.",
        f"tokenizer(..., truncation=True, max_length={2 * limit}), as far as the model and your patience go",
    )


@pitfall("empty-text", "RP", "warning", "Rows without text train on [CLS][SEP]", "Drop them")
def empty_text(setup):
    for split in setup.splits.values():
        blank = np.zeros(len(split.index), bool)
        if split.tokens is not None:
            blank = split.tokens.content == 0 if len(setup.special_ids[0]) else split.tokens.lengths <= 1
        if split.text_keys is not None:
            blank = blank | (split.text_keys == 0)
        if blank.any():
            yield (
                f"{places(blank, split)} of the {split.in_words} data hold no word: the model would learn labels of nothing.",
                ("dataset = dataset.filter(lambda row: (row['text'] or '').strip()) before tokenising"),
            )


@pitfall(
    "special-in-text",
    "P",
    "warning",
    "A text holds '</s>' or '[SEP]' itself: read as an end, not as letters. BART and T5 stop: 'same number of <eos> tokens'",
    "tokenizer(..., split_special_tokens=True)",
    dry=True,
)
def special_in_text(setup):
    if setup.tokenizer is None or not setup.mark_ids:
        return
    names = {i: setup.tokenizer.convert_ids_to_tokens(i) for i in setup.mark_ids}
    for split in setup.splits.values():
        if split.tokens is None or not len(split.index):
            continue
        marks, ends = split.tokens.marks, split.tokens.ends
        usual = int(np.bincount(marks).argmax())  # 2 for a text of BERT's, 3 for a pair, 0 without special tokens, more where all texts have some on purpose
        if split.text_column is not None and marks.min() != marks.max():
            usual = min(usual, setup.tokenizer.num_special_tokens_to_add())
        more, uneven = marks > usual, ends != np.bincount(ends).argmax()
        where = np.flatnonzero(more)
        texts = [name for name in split.all_columns if name != split.label_column and split.type(name) is not None and is_text(split.type(name))]
        # A pair among single texts, or put there by whoever made the rows; where the texts are gone, many rows with as many marks tell pairs.
        pairs = not texts and len(where) > 2 and more.mean() > FEW_ALIKE and len(np.unique(marks[where])) == 1
        if pairs or texts and not any(name in str(split.source(i)[column]) for i in where[:50] for column in texts for name in names.values()):
            more, where = np.zeros(len(marks), bool), []
        if uneven.any() and (error := _refuses_together(setup, split, uneven)) is not None:
            few = not more.any()
            yield (
                f"{places(uneven, split)} of the {split.in_words} data have another number of end tokens ({names.get(setup.end_id, setup.end_id)!r}) than the "
                f"others, for example {split.show(np.flatnonzero(uneven)[0])}, and {type(setup.model).__name__} stops at a batch that has both: {said(error)}",
                "tokenizer(..., truncation=True, max_length=...), which keeps the end token; do not cut the ids yourself"
                if few
                else _split_special(setup, {setup.end_id: names.get(setup.end_id)}),
                "error",
            )
        elif more.any():
            ids = plain(split.sample([where[0]])[0][setup.input_name])
            words = " ".join(str(split.source(where[0])[column]) for column in texts)
            held = {i: name for i, name in names.items() if (name in words if texts else i in ids[1:-1])} or {i: name for i, name in names.items() if i in ids}
            yield (
                f"{places(more, split)} of the {split.in_words} data hold {' and '.join(map(repr, held.values()))} within the text, for example {split.show(where[0])}: the model reads it as the "
                "beginning or the end of a text, not as letters.",
                f"{_split_special(setup, held)}; nothing, if you put it there for the model",
            )


def _refuses_together(setup, split: Split, uneven: np.ndarray) -> Exception | None:
    """Return what the model says to a batch of rows with different numbers of end tokens; None where it takes them, or stops for another reason."""
    if setup.args.device.type != "cpu" and setup.errors & {"tokenizer-mismatch", "too-long"}:
        return None  # on a GPU such a trial would take the process along
    with contextlib.suppress(Exception), untouched(setup), torch.no_grad():
        batch = setup.trainer._prepare_inputs(dict(setup.collator(split.sample([uneven.argmax(), uneven.argmin()]))))
        inputs = {name: value for name, value in batch.items() if name not in (*setup.trainer.label_names, "label", "label_ids")}
        try:
            setup.model(**inputs)
        except ValueError as error:
            return error if "<eos>" in str(error) else None
    return None


def _split_special(setup, names: Mapping[int, str]) -> str:
    """Say how special tokens in a text become letters again; not every tokenizer does it when asked."""
    for i, name in names.items():
        with contextlib.suppress(Exception):
            if i in setup.tokenizer(name, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
                return f"text.replace({name!r}, ' ') before tokenising (split_special_tokens=True does not help with this tokenizer)"
    return "tokenizer(..., split_special_tokens=True), where you predict as well"


@pitfall("padding-waste", "P", "warning", "Short texts padded to the maximum: only slow", "Pad each batch to its longest row")
def padding_waste(setup):
    split = setup.train
    if split is None or split.tokens is None or not split.tokens.lengths.sum():
        return
    real, widths, size = split.tokens.lengths, split.tokens.widths.copy(), setup.args.train_batch_size
    batch, fixed = setup.dry.collated.get("train"), None
    if isinstance(batch, Mapping) and isinstance(batch.get(setup.input_name), torch.Tensor):
        width = batch[setup.input_name].shape[1]
        longest = max(len(plain(row[setup.input_name])) for row in split.sample(setup.dry.choose(split)))
        multiple = getattr(setup.collator, "pad_to_multiple_of", None) or 1
        fixed = width if width > math.ceil(longest / multiple) * multiple else None
    if fixed:
        widths[:] = fixed
    order = np.random.default_rng(0).permutation(len(widths))
    if setup.args.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
        order = np.argsort(widths, kind="stable")
    starts = np.arange(0, len(widths), size)
    counts = np.diff(np.append(starts, len(widths)))
    computed = int((np.maximum.reduceat(widths[order], starts) * counts).sum())
    share = 1 - real.sum() / computed
    if share > 0.5:
        already = fixed or (len(set(widths.tolist())) == 1 and real.max() <= widths.max() and real.mean() < widths.mean())
        why = f"all rows are padded to {fixed or widths.max()} tokens" if already else f"batches of {size} are as long as their longest row"
        fix = (
            "tokenizer(..., truncation=True) without padding, and DataCollatorWithPadding(tokenizer)"
            if already
            else "train_sampling_strategy='group_by_length'"
        )
        yield f"{share:.0%} of what the model would compute is padding: the texts have {real.mean():.0f} tokens on average, and {why}.", fix


FEW_ALIKE = 0.05  # so many rows may differ for a reader and not for the model before it is an error: "ok!" and "ok !" come up by chance


@pitfall("split-leak", "P", "error", "The same text in two splits, or one text with two labels: the score rewards memory", "Drop repeats before splitting")
def split_leak(setup):
    parts = [(name, split) for name, split in setup.splits.items() if split.keys is not None and len(split.index) and not split.stream]
    drop = "table = table[~utils.data.normalise(table['text']).duplicated()] before splitting, as utils.data.split_table does"
    filtered = "seen = set(map(tuple, {}['input_ids'])); dataset = dataset.filter(lambda row: tuple(row['input_ids']) not in seen)"
    for (_, one), (name, other) in itertools.combinations(parts, 2):
        if ("train" in name and one.name == "train") or (one.name != "train" and name.startswith("eval")):
            continue  # evaluating on some training rows, or on parts of one evaluation set, is done on purpose
        shared, alike = shared_rows(one, other)
        if name == "test" and one.name != "train" and (shared | alike).mean() > 0.9:
            continue  # test-as-validation says it
        if shared.any():
            yield (
                f"{places(shared, other)} of the {other.in_words} data are also in the {one.in_words} data ({shared.mean():.0%}), for example "
                f"{other.show(np.flatnonzero(shared)[0])}: their scores would reward memory.",
                drop,
            )
        if alike.any():
            words = f"the token ids of rows of the {one.in_words} data ({alike.mean():.0%})"
            yield _alike(setup, other, alike, words, "their scores would reward memory", filtered.format("train" if one.name == "train" else "validation"))
    split = setup.train
    if split is None or split.keys is None or split.labels is None or setup.task == "regression" or len(split.labels) != len(split.keys):
        return
    twice = _two_labels(split.keys, split.labels)
    if twice.any():
        yield (
            f"{places(twice, split)} of the training data hold texts that carry two labels, for example {split.show(np.flatnonzero(twice)[0])}: "
            "nobody can learn both.",
            "Decide on one label for each text, or leave these rows out",
        )
    alike = _two_labels(split.sure_keys, split.labels) & ~twice
    if split.text_keys is not None and alike.any():
        yield _alike(setup, split, alike, "token ids that carry two labels", "nobody can learn both", "Decide on one label, or leave these rows out")


def _two_labels(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mark the rows whose key, unless it is 0, comes with several labels."""
    frame = pd.DataFrame({"key": keys, "label": labels})[(keys != 0) & pd.Series(keys).duplicated(keep=False).to_numpy()]
    pairs = frame.drop_duplicates()
    twice = np.zeros(len(keys), bool)
    twice[frame.index] = frame["key"].isin(pairs["key"][pairs["key"].duplicated()])
    return twice


def _alike(setup, split: Split, alike: np.ndarray, has: str, so: str, fix: str) -> tuple[str, str, str]:
    """Say that rows with different texts are the same for the model, and whether that is because they were cut."""
    where = np.flatnonzero(alike)
    some = where[:: max(1, len(where) // 50)][:50]
    whole = [len(setup.tokenizer(split.source(i)[split.text_column], truncation=False, verbose=False)["input_ids"]) for i in some]
    begins = f"{places(alike, split)} of the {split.in_words} data have {has}, "
    if np.mean(np.array(whole) > split.tokens.lengths[some]) > 0.5:
        cut = f"for they were cut where their texts still agree, for example {split.show(where[0])}: for the model they are the same rows."
        return begins + cut, f"tokenizer(..., truncation=True, max_length={max(whole)}), as far as the model goes; or cut what all texts begin with", "warning"
    differ = f"though their texts differ (in blanks, accents or characters that nobody sees), for example {split.show(where[0])}: for the model they are the "
    return f"{begins}{differ}same rows, and {so}.", fix, "error" if alike.mean() > FEW_ALIKE else "warning"


@pitfall("test-as-validation", "P", "warning", "The model is chosen on the test set, whose score then flatters", "Three splits")
def test_as_validation(setup):
    test, three = setup.splits.get("test"), "Split twice: training, validation (eval_dataset, for decisions) and test (looked at once)"
    for split in setup.evals:
        if test is not None:
            same = split.dataset is test.dataset
            if not same and split.keys is not None and test.keys is not None and len(test.keys):
                same = np.logical_or(*shared_rows(split, test)).mean() > 0.9
            if same:
                yield "The test data are the evaluation data: what is chosen on them is too good on them.", three
        elif str(getattr(split.dataset, "split", None) or "").startswith("test") and setup.chooses_best:
            yield f"The {split.in_words} data are the split {str(split.dataset.split)!r}, and they decide which checkpoint is kept: no test set is left.", three


@pitfall("imbalance", "PW", "warning", "The accuracy is the share of the commonest class", "Macro-F1, class weights", dry=True)
def imbalance(setup):
    split = setup.evals[0] if setup.evals else setup.train
    if split is None or split.labels is None or split.labels.dtype.kind not in "iub" or setup.task == "regression" or len(split.labels) < 5:
        return
    share = np.unique(split.labels, return_counts=True)[1].max() / len(split.labels)
    telling = [key for key in map(str, setup.dry.metrics or {}) if re.search("f1|recall|auc|roc|mcc|matthews|balanced|kappa|precision", key.lower())]
    telling = [key for key in telling if not re.search("micro|weighted", key.lower())]
    if 0.8 < share < 1 and not telling and setup.dry.metrics_failed is None:
        has = f"the metrics are {', '.join(map(str, setup.dry.metrics))}" if setup.dry.metrics else "there is no metric but the loss"
        yield (
            f"{share:.0%} of the {split.in_words} rows are of one class, and {has}: a model that always gives it has an accuracy of {share:.2f}.",
            "Return f1_score(labels, predicted, average='macro') from compute_metrics, and choose by it: metric_for_best_model='f1_macro'",
        )


# --- arguments against each other -------------------------------------------------------------------------------------


@pitfall("lr-is-text", "RP", "error", "YAML reads 2e-5 as a text: '<=' not supported between 'float' and 'str'", "learning_rate: 2.0e-5", True)
def lr_is_text(setup):
    for field in fields(setup.args):
        value = getattr(setup.args, field.name)
        if isinstance(value, str) and isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
            better = f"{float(value):.1e}" if re.fullmatch(r"[\d.eE+-]+", value) and "e" in value.lower() else value
            yield f"{field.name} is the text {value!r}, not a number; YAML reads 2e-5 as a text, for it misses the dot.", f"{field.name}: {better}"


@pitfall("lr-too-high", "PW", "warning", "The model collapses to one class; rarely NaN", "1e-5 to 5e-5 with warmup")
def lr_too_high(setup):
    rate, model = setup.args.learning_rate, setup.model
    if isinstance(rate, str) or setup.trainer.optimizer is not None or setup.trainer.optimizer_cls_and_kwargs or "adam" not in str(setup.args.optim.value):
        return
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if rate > 1e-4 and trainable > 0.5 * sum(p.numel() for p in model.parameters()):
        yield (
            f"learning_rate={rate:g} moves all {trainable:,} weights: above 1e-4 a pretrained model tends to forget what it knows and to answer with one class.",
            "learning_rate=5e-5, warmup_steps=0.1",
        )


LEAST_RATE = 1e-7  # Adam moves a weight by about the rate in a step: below this, 10,000 steps move none by a twentieth of the usual size, 0.02
LOOKED_AHEAD = 10_000  # steps of a schedule that are looked at, half a second's worth


@pitfall(
    "zero-steps",
    "P",
    "error",
    "No rows for a batch, an optimizer made for another model object, a schedule that ended, a rate of 0: nothing is trained",
    "Rows for a batch; optimizer and schedule made for this model and this number of steps",
)
def zero_steps(setup):
    if setup.train is not None and setup.train.rows == 0:
        yield "The training data are empty.", "Look at what filter or select left: print(dataset)"
    elif setup.steps == 0:
        size = setup.args.train_batch_size
        if setup.args.dataloader_drop_last and setup.train.rows < size:
            yield (
                f"{setup.train.rows} training rows do not fill a batch of {size}, and dataloader_drop_last=True drops it: the run would end after 0 steps.",
                f"dataloader_drop_last=False, or per_device_train_batch_size={max(1, setup.train.rows // 2)}",
            )
        else:
            yield f"num_train_epochs={setup.args.num_train_epochs} makes a run of 0 steps.", "num_train_epochs=3"
    elif setup.train is not None:
        yield from _untrained(setup)


def _untrained(setup) -> Iterator[tuple]:
    """Say which weights a run with steps leaves as they are: they are not in the optimizer, or the learning rate is none."""
    optimizer = own_optimizer(setup)
    held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
    trainable = {name: id(p) for name, p in setup.model.named_parameters() if p.requires_grad}
    missing = [name for name, place in trainable.items() if place not in held]
    if held and missing:
        yield (
            f"None of the model's {len(trainable)} trainable tensors is in the optimizer: it was made for another model object (the cell that loads the model was "
            "run again, or the model was copied), and the run would change nothing."
            if len(missing) == len(trainable)
            else f"The optimizer lacks {len(missing)} of the model's {len(trainable)} trainable tensors, for example {missing[0]!r}: they would stay as they are.",
            "Make the optimizer once the model is complete, in the same cell: torch.optim.AdamW(model.parameters(), lr=5e-5); what is to stay as it is: "
            "parameter.requires_grad_(False)",
        )
    anew = f"Give it the optimizer steps of the run ({setup.steps}), not the epochs, and make it anew for each run; or leave the schedule to Trainer"
    if (later := _later_rate(setup)) is not None:
        step, rate, failed = later
        from_here = f"By the schedule, from step {step} of {setup.steps} on (if not before) the learning rate is"
        if failed is not None:
            yield f"The schedule fails at step {step} of {setup.steps}, and training with it: {said(failed)}", anew
        elif rate <= 0:
            yield f"{from_here} {rate:g}: nothing is learnt any more.", anew
        elif rate < 1.001 * LEAST_RATE:  # where transformers' polynomial schedule ends, but for rounding
            yield f"{from_here} no more than {rate:.1g}: the weights hardly move any more.", anew, "warning"
        return
    rates = starting_rates(setup)
    low = [rate for rate in rates if 0 <= rate < LEAST_RATE]
    if low and not any(rates):
        yield "The learning rate is 0: no weight would move.", "learning_rate=5e-5"
    elif low:
        groups = f" for {len(low)} of the optimizer's {len(rates)} groups" if len(rates) > 1 else ""
        yield (
            f"The learning rate is {min(low):g}{groups}: at such a rate, weights hardly move.",
            "1e-5 to 5e-5; what is to stay as it is: parameter.requires_grad_(False)",
            "warning",
        )


def own_optimizer(setup) -> Any:
    """Return the optimizer that was given to Trainer, None where Trainer makes one, or made one in an earlier run."""
    given = None if setup.trainer.state.global_step else setup.trainer.optimizer
    return getattr(given, "optimizer", given)  # the one that Accelerate wraps, if it came from another Trainer


def starting_rates(setup) -> list[float]:
    """Return the learning rates of the optimizer given, of each group, before any schedule; else the one rate in the arguments. None that is no number."""
    optimizer, given = own_optimizer(setup), setup.trainer.optimizer_cls_and_kwargs
    if optimizer is not None:
        groups = [group for group in getattr(optimizer, "param_groups", ()) if not group.get("relative_step")]  # Adafactor finds its own
        rates = [group.get("initial_lr", group.get("lr")) for group in groups]
    elif given is not None:
        kind = inspect.signature(given[0]).parameters.get("lr")
        rates = [given[1].get("lr", kind and kind.default)]
    else:  # an optimizer that the Trainer makes itself may take another
        rates = [setup.args.learning_rate] if type(setup.trainer).create_optimizer is Trainer.create_optimizer else []
    return [float(rate) for rate in rates if isinstance(rate, (int, float, torch.Tensor))]


def foreign_schedule(setup) -> bool:
    """Say whether the schedule given moves the rate of another optimizer than the one in use."""
    theirs = getattr(setup.trainer.lr_scheduler, "optimizer", None)
    return theirs is not None and not setup.trainer.state.global_step and getattr(theirs, "optimizer", theirs) is not own_optimizer(setup)


def _later_rate(setup) -> tuple[int, float, Exception | None] | None:
    """Return the step in the middle of the run, and the highest rate that a schedule of the user's has from there on (the first that will do is enough).

    A twin of the schedule is stepped, on a stand-in for the optimizer. Where the schedule fails on the way: that step, and the exception. None where
    nothing can be known: a schedule that depends on scores, or goes on where a checkpoint was. None, too, for one of Trainer's own with its own settings.
    """
    given, args, steps = setup.trainer.lr_scheduler, setup.args, min(setup.steps or 0, LOOKED_AHEAD)
    usual = given is None and not args.lr_scheduler_kwargs
    if steps < 2 or usual or setup.resumes_from is not None or setup.trainer.state.global_step or foreign_schedule(setup):
        return None
    half, step, rate = steps // 2, 0, -math.inf
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an optimizer should step as well
            if given is None:
                alone = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=max(starting_rates(setup)))
                settings = dict(args.lr_scheduler_kwargs)
                twin = get_scheduler(args.lr_scheduler_type, alone, args.get_warmup_steps(setup.steps), setup.steps, scheduler_specific_kwargs=settings)
            else:
                groups = [{name: copy.deepcopy(value) for name, value in group.items() if name != "params"} for group in given.optimizer.param_groups]
                stand_in = SimpleNamespace(param_groups=groups, defaults=given.optimizer.defaults, step=lambda: None)
                kept = {id(thing): thing for thing in (setup.model, setup.trainer, args)}  # a schedule may look at these, and they are large
                twin = copy.deepcopy(given, kept | {id(given.optimizer): stand_in})
            for step in range(steps):
                if step >= half and (rate := max(rate, *(float(group["lr"]) for group in twin.optimizer.param_groups))) >= 1.001 * LEAST_RATE:
                    break
                twin.step()
    except Exception as error:  # at the first step: it needs a score, or the weights; later: it is over, and says so
        return (step, rate, error) if step > 1 else None
    return half, rate, None


@pitfall("warmup-too-long", "P", "warning", "warmup_steps=500 copied into a short run: the learning rate never gets there", "warmup_steps=0.1")
def warmup_too_long(setup):
    warmup = setup.args.warmup_steps
    if not setup.steps or isinstance(warmup, str) or setup.trainer.lr_scheduler is not None or str(setup.args.lr_scheduler_type.value) == "constant":
        return
    steps = setup.args.get_warmup_steps(setup.steps)
    if (0.2 < warmup < 1) or (warmup >= 2 and steps > 0.2 * setup.steps):
        reached = setup.args.learning_rate * min(1, setup.steps / steps) if not isinstance(setup.args.learning_rate, str) else 0
        yield (
            f"The warmup takes {steps} of {setup.steps} steps ({min(1, steps / setup.steps):.0%}); the learning rate gets no higher than {reached:.2g}."
            if steps >= setup.steps
            else f"The warmup takes {steps} of {setup.steps} steps ({steps / setup.steps:.0%}).",
            "warmup_steps=0.1 (below 1: a share of all steps)",
        )


@pitfall("no-evaluation", "P", "warning", "An eval_dataset, and eval_strategy left at 'no': no evaluation, without a word", "eval_strategy='epoch'")
def no_evaluation(setup):
    given, strategy = setup.trainer.eval_dataset, setup.args.eval_strategy
    if given is None:
        if setup.train is not None:
            yield (
                "There is no eval_dataset: nobody will see whether the model learns or memorises.",
                "Trainer(..., eval_dataset=validation) and eval_strategy='epoch'",
            )
        return
    for split in setup.evals:
        if split.rows == 0:
            yield f"The {split.in_words} data are empty.", "Look at what filter or select left: print(eval_dataset)"
    if strategy == "no" and setup.train is not None:
        yield "eval_dataset is given, but eval_strategy is 'no': it would never be looked at during training.", "eval_strategy='epoch'"
    elif setup.steps and setup.args.eval_delay and setup.train is not None:
        last = setup.steps if strategy == "steps" else setup.args.num_train_epochs
        if setup.args.eval_delay > last:
            yield f"eval_delay={setup.args.eval_delay:g} is longer than the run ({last:g} {strategy.value}s): there would be no evaluation.", "eval_delay=0"


@pitfall(
    "best-not-loaded",
    "P",
    "error",
    "save_steps a multiple of eval_steps: the best step has no checkpoint, and the last weights are kept",
    "The same steps for both",
)
def best_not_loaded(setup):
    args = setup.args
    if not args.load_best_model_at_end or args.eval_strategy != "steps" or args.save_strategy != "steps":
        return
    evaluates, saves = setup.every("eval_steps"), setup.every("save_steps")
    if evaluates and saves > evaluates and (not setup.steps or evaluates < setup.steps):
        yield (
            f"It evaluates every {evaluates} steps and saves every {saves}: where the best score falls between two checkpoints, load_best_model_at_end keeps the last "
            "weights and says nothing.",
            f"save_steps={evaluates}, or save_strategy='best'",
        )


LOWER_IS_BETTER = "loss|error|err|perplexity|ppl|mse|rmse|mae|mape|hamming|brier|ece|wer|cer|nll|entropy|deviance|distance"
HIGHER_IS_BETTER = "accuracy|acc|f1|precision|recall|auc|roc|auroc|mcc|matthews|kappa|pearson|spearman|r2|jaccard|map"
# words that turn what a name measures, or measure how it changes: then the name does not tell
TURNED = "neg|negative|negated|minus|inv|inverse|inverted|reciprocal|complement|opposite|improvement|improved|gain|reduction|reduced|decrease|increase|drop"
TURNED += "|rise|change|delta|diff|difference|gap|margin|std|var|variance"
# and that make another measure of an error: a skill score, the share that is free of errors or avoids them; an accuracy score stays an accuracy
QUALIFIED = "score|skill|similarity|correlation|ratio|explained|free|no|non|not|without|avoided|saved|corrected|correction|detected|detection|recovery"
QUALIFIED += "|tolerance|within|below|above"


def _better(metric: str) -> bool | None:
    """Say by a metric's name whether more of it is better; None where the name does not tell."""
    name = re.sub("(?<=[a-z])(?=[A-Z])", "_", metric.strip()).lower().removeprefix("eval_")
    whole = "_".join(words := re.findall("[a-z0-9]+", name))
    if words[:1] == ["neg"] and whole in get_scorer_names():
        return True  # scikit-learn's own, such as neg_log_loss
    words = whole.replace("brier_score", "brier").split("_")  # of the scores in scikit-learn the one that is better when it is lower
    more, less, turned, qualified = (any(re.fullmatch(kind, word) for word in words) for kind in (HIGHER_IS_BETTER, LOWER_IS_BETTER, TURNED, QUALIFIED))
    undecided = more == less or turned or (less and qualified) or re.match(r"-|1(00)?[\W_]", name)  # -mae, 1-wer, 1_wer, 100 - mape
    return None if undecided else more


@pitfall(
    "metric-direction", "P", "error", "greater_is_better is guessed from a name that does not end in 'loss': the worst model is kept", "Set greater_is_better"
)
def metric_direction(setup):
    metric, assumed = setup.args.metric_for_best_model, setup.args.greater_is_better
    if metric is None or assumed is None or not (setup.chooses_best or setup.args.lr_scheduler_type == "reduce_lr_on_plateau"):
        return
    right = _better(metric)
    if right is None or right == assumed:
        return
    is_better = f"metric_for_best_model={metric!r} is better when it is {'higher' if right else 'lower'}"
    if assumed == (not metric.endswith("loss")):  # what TrainingArguments makes of None
        yield (
            f"{is_better}, but greater_is_better is {assumed} (unset, it is guessed from whether the name ends in 'loss'): the worst model would be kept.",
            f"greater_is_better={right}",
        )
    else:
        yield (
            f"By its name, {is_better}, but you set greater_is_better={assumed}: if the name is right, the worst model would be kept.",
            f"Nothing, if {metric!r} is better when it is {'higher' if assumed else 'lower'}; else greater_is_better={right}",
            "warning",
        )


@pitfall("no-logs", "P", "warning", "logging_steps=500 in a short run: 'No log'", "logging_steps=10, or logging_strategy='epoch'")
def no_logs(setup):
    every = setup.every("logging_steps")
    if setup.args.logging_strategy == "steps" and setup.steps and every > setup.steps and not setup.args.logging_first_step:
        yield f"The run has {setup.steps} steps and logs every {every}: the training loss would not be seen once.", f"logging_steps={max(1, setup.steps // 10)}"


@pitfall("fp16-on-cpu", "P", "warning", "fp16=True without a GPU: silently float32", "Leave it out")
def fp16_on_cpu(setup):
    if setup.args.fp16 and setup.args.device.type == "cpu":
        yield "fp16=True, but there is no GPU in use: the run would be in float32 without a word.", "fp16=torch.cuda.is_available()"


@pitfall("dtype-auto", "P", "warning", "from_pretrained keeps the checkpoint's dtype, and half-precision weights train badly", "dtype=torch.float32")
def dtype_auto(setup):
    halves = {name: p for name, p in setup.model.named_parameters() if p.requires_grad and p.is_floating_point() and p.dtype in (torch.float16, torch.bfloat16)}
    if halves and not _unscalable(setup, halves):
        kind = str(next(iter(halves.values())).dtype).removeprefix("torch.")
        yield (
            f"{len(halves)} trainable weights are {kind} (a checkpoint can be stored like that, and .half() does it too): small updates are rounded away, and the loss "
            "moves in coarse steps or not at all.",
            "from_pretrained(..., dtype=torch.float32), and bf16=True or fp16=True in TrainingArguments for speed",
        )


def _unscalable(setup, halves: Mapping[str, torch.Tensor]) -> bool:
    return setup.args.fp16 and setup.args.device.type == "cuda" and any(p.dtype == torch.float16 for p in halves.values())


@pitfall("fp16-weights", "P", "error", "'Attempting to unscale FP16 gradients': float16 weights with fp16=True on a GPU", "dtype=torch.float32", True)
def fp16_weights(setup):
    halves = {name: p for name, p in setup.model.named_parameters() if p.requires_grad and p.dtype == torch.float16}
    if halves and _unscalable(setup, halves):
        yield (
            f"{len(halves)} trainable weights are float16 and fp16=True: the first step would stop, for fp16 training wants float32 weights.",
            ("from_pretrained(..., dtype=torch.float32)"),
        )


@pitfall("ignored-value", "P", "warning", "A misspelt value is accepted: train_sampling_strategy='bogus' is random sampling", "Spell it as the list says")
def ignored_value(setup):
    for field in fields(setup.args):
        choices, value = field.metadata.get("choices"), getattr(setup.args, field.name)
        if choices and isinstance(value, str) and value not in choices:
            yield (
                f"{field.name}={value!r} is none of {', '.join(map(repr, choices))}, and nothing refuses it: the default is used.",
                f"{field.name}={field.default!r}",
            )
    if setup.args.warmup_steps and str(setup.args.lr_scheduler_type.value) == "constant" and setup.trainer.lr_scheduler is None:
        yield f"warmup_steps={setup.args.warmup_steps:g} does nothing with lr_scheduler_type='constant'.", "lr_scheduler_type='constant_with_warmup'"
    trainer, factor, method = setup.trainer, setup.args.label_smoothing_factor, f"{type(setup.trainer).__name__}.compute_loss"
    if factor and (trainer.compute_loss_func is not None or _leaves_out(trainer, "label_smoother")):
        yield (
            f"label_smoothing_factor={factor:g} does nothing: {'compute_loss_func' if trainer.compute_loss_func is not None else method} computes the loss, without it.",
            f"label_smoothing_factor=0, and smooth in your loss: torch.nn.functional.cross_entropy(..., label_smoothing={factor:g})",
        )
    if trainer.compute_loss_func is not None and _leaves_out(trainer, "compute_loss_func"):
        yield f"compute_loss_func is never called: {method} computes the loss.", "Leave one of the two out"
    if setup.args.prediction_loss_only and trainer.compute_metrics is not None:
        yield "compute_metrics is never called with prediction_loss_only=True.", "prediction_loss_only=False, or leave compute_metrics out"


def _leaves_out(trainer: Any, name: str) -> bool:
    """Say whether a Trainer's own compute_loss replaces that of the library and, as far as its code shows, does without one of its attributes."""
    own = type(trainer).compute_loss
    if own is Trainer.compute_loss or not hasattr(own, "__code__") or own.__code__.co_freevars:  # inherited, or a wrapper around another
        return False
    classes = itertools.takewhile(lambda kind: kind is not Trainer, type(trainer).__mro__)
    named = {used for kind in classes for function in vars(kind).values() if hasattr(function, "__code__") for used in function.__code__.co_names}
    return not named & {name, "compute_loss"}


@pitfall("overridden-value", "P", "warning", "max_steps beats the epochs; an optimizer of your own beats learning_rate", "Choose one")
def overridden_value(setup):
    args, default = setup.args, {field.name: field.default for field in fields(setup.args)}
    if args.max_steps > 0 and args.num_train_epochs != default["num_train_epochs"]:
        yield f"max_steps={args.max_steps} and num_train_epochs={args.num_train_epochs:g} are both set: max_steps decides.", "Leave one of them out"
    optimizer, untrained = own_optimizer(setup), not setup.trainer.state.global_step
    if optimizer is not None or (setup.trainer.optimizer_cls_and_kwargs and untrained):
        rates = sorted(set(starting_rates(setup)))
        if args.learning_rate != default["learning_rate"] and rates and args.learning_rate not in rates:
            yield (
                f"The optimizer you made has the learning rate {', '.join(f'{rate:g}' for rate in rates)}; learning_rate={args.learning_rate!r} is ignored.",
                "Set the rate in one place: leave learning_rate out, or leave the optimizer to Trainer",
            )
        if named := [name for name in ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon") if getattr(args, name) != default[name]]:
            yield (
                f"The optimizer you made has settings of its own; {' and '.join(named)} would be ignored.",
                "Set them there, or leave the optimizer to Trainer",
            )
    if optimizer is not None and args.weight_decay and args.weight_decay not in {group.get("weight_decay") for group in optimizer.param_groups}:
        yield f"The optimizer you made has its own weight decay; weight_decay={args.weight_decay:g} is ignored.", "Set it in one place"
    if foreign_schedule(setup):
        yield (
            "The schedule was made for another optimizer than the one in use: the learning rate would stay where it is.",
            "Make optimizer and schedule in the same cell, and hand over both: Trainer(..., optimizers=(optimizer, schedule))",
        )
    if setup.trainer.lr_scheduler is not None and untrained:
        named = [name for name in ("warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs") if getattr(args, name) != default[name]]
        if named:
            yield (
                f"The schedule you made decides the learning rate; {' and '.join(named)} would be ignored.",
                "Leave the schedule to Trainer, or leave these out",
            )


@pitfall(
    "early-stopping",
    "P",
    "error",
    "EarlyStoppingCallback without a metric or evaluations: AssertionError when training starts",
    "load_best_model_at_end=True",
    True,
)
def early_stopping(setup):
    if setup.early_stopping is None:
        return
    complete = "eval_strategy='epoch', save_strategy='epoch', load_best_model_at_end=True, metric_for_best_model='f1_macro', greater_is_better=True"
    if setup.args.metric_for_best_model is None:
        yield "EarlyStoppingCallback has no metric to watch (metric_for_best_model is None): training would stop with an AssertionError.", complete
    elif setup.args.eval_strategy == "no":
        yield "EarlyStoppingCallback needs evaluations, and eval_strategy is 'no': training would stop with an AssertionError.", complete
    elif not setup.args.load_best_model_at_end:
        yield (
            "EarlyStoppingCallback without load_best_model_at_end: it stops in time, and then keeps the last model, not the best.",
            "load_best_model_at_end=True",
            "warning",
        )


@pitfall("report-to", "P", "warning", "The default was every tracker; it is none since transformers 5", "Name the tracker")
def report_to(setup):
    for name in [setup.args.report_to] if isinstance(setup.args.report_to, str) or setup.args.report_to is None else setup.args.report_to:
        if name is None:
            yield "report_to=None is no way to switch trackers off: Trainer refuses it.", "report_to='none'"
        elif name not in ("none", "all", "flyte") and name not in get_available_reporting_integrations():
            yield f"report_to names {name!r}, which is not installed here, or is no tracker that Trainer knows.", f"pip install {name}, or report_to='none'"


@pitfall("several-gpus", "P", "warning", "DataParallel on two GPUs doubles the batch without a word", "accelerate launch")
def several_gpus(setup):
    count = setup.args.n_gpu
    if count > 1:
        yield (
            f"{count} GPUs are visible in one process: Trainer splits each batch over them, so a batch has {setup.args.train_batch_size} rows, not "
            f"{setup.args.per_device_train_batch_size}, and it is slower than one process for each GPU.",
            "accelerate launch script.py; in a notebook, os.environ['CUDA_VISIBLE_DEVICES'] = '0' before torch is imported",
        )


@pitfall("smoothing-float", "P", "error", "Label smoothing with float labels: gather(): Expected dtype int32/int64", "label_smoothing_factor=0", True)
def smoothing_float(setup):
    labels = _tensor_labels(setup)
    if setup.trainer.label_smoother is not None and labels is not None and labels.is_floating_point() and setup.trainer.compute_loss_func is None:
        yield (
            f"label_smoothing_factor={setup.args.label_smoothing_factor:g} needs whole numbers as labels, and these are floats: the first step would fail.",
            ("label_smoothing_factor=0"),
        )


@pitfall(
    "predict-order", "P", "warning", "group_by_length also reorders predict() and evaluate(): joined to your rows, predictions are wrong", "Restore the order"
)
def predict_order(setup):
    some = next((split for split in [*setup.evals, setup.splits.get("test")] if split is not None and split.in_arrow and split.rows), None)
    if setup.args.train_sampling_strategy != "group_by_length" or some is None:
        return
    few = some.dataset.select(range(min(some.rows, 32)))
    with untouched(setup):
        sampler = setup.trainer._get_eval_sampler(few)
        orders = [list(sampler), list(setup.trainer._get_eval_sampler(few))] if sampler is not None else []
    if not orders or type(sampler).__name__ == "SequentialSampler":
        return
    again = "in the same order each time" if orders[0] == orders[1] else "in another order each time"
    yield (
        f"With group_by_length, predict() and evaluate() return the rows grouped by length, {again} on this version. Their metrics are right; joined to your rows, "
        "predictions are wrong.",
        "trainer.args.train_sampling_strategy = 'random' before trainer.predict(...), which then keeps the order of the data set",
    )


# --- the folder, and what was there before ----------------------------------------------------------------------------


@pitfall("stale-checkpoints", "P", "error", "Old checkpoints in output_dir: weights of an earlier run can be loaded as the best", "A new folder for each run")
def stale_checkpoints(setup):
    found = saved_checkpoints(Path(setup.args.output_dir))
    own = setup.trainer.state.global_step > 0  # this trainer made them; trained-twice says so
    if found and setup.resumes_from is None and not own:
        yield (
            f"output_dir holds {len(found)} checkpoint(s) of an earlier run ({', '.join(path.name for path in found[:3])}): load_best_model_at_end may load one of them, "
            "and save_total_limit may delete the new ones instead.",
            "A new output_dir for each run; to continue that run: TrainingArguments(..., resume_from_checkpoint=True) and "
            "trainer.train(resume_from_checkpoint=True)",
        )


@pitfall("resume-mismatch", "P", "error", "Resuming a run that is over, or was planned otherwise: zero steps, loss 0.0, the old learning rate", "A new folder")
def resume_mismatch(setup):
    folder = setup.resumes_from
    if folder is None:
        return
    try:
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield (
            f"{folder.name} cannot be resumed: its trainer_state.json cannot be read ({type(error).__name__}).",
            "Resume another checkpoint, or start in a new folder",
        )
        return
    new = "A new output_dir, without resume_from_checkpoint; or set the arguments back to those of that run"
    done, planned = state.get("global_step", 0), state.get("max_steps")
    if setup.steps and done >= setup.steps:
        yield f"{folder.name} has done {done} steps, and this run has {setup.steps}: it would end at once, after no step (with a loss of 0.0) or one.", new
    elif setup.steps and planned and planned != setup.steps:
        yield f"{folder.name} belongs to a run of {planned} steps, this one has {setup.steps}: its schedule would go on where that one was.", new
    batch = state.get("train_batch_size")
    if batch and batch != setup.args.train_batch_size:
        yield f"{folder.name} was trained in batches of {batch}, this run has {setup.args.train_batch_size}: rows would be skipped or seen twice.", new
    with contextlib.suppress(Exception):  # no schedule saved, or one that does not load without running code
        rates = torch.load(folder / "scheduler.pt", weights_only=True).get("base_lrs", [])
        if rates and not isinstance(setup.args.learning_rate, str) and not any(math.isclose(rate, setup.args.learning_rate) for rate in rates):
            yield f"{folder.name} was trained with learning_rate={rates[0]:g}, and that is what would be used, not {setup.args.learning_rate:g}.", new


@pitfall("disk-full", "P", "warning", "No limit on checkpoints: each is more than three times the weights", "save_total_limit=2")
def disk_full(setup):
    args = setup.args
    saves = {"no": 0, "epoch": math.ceil(args.num_train_epochs) if not isinstance(args.num_train_epochs, str) and args.max_steps <= 0 else 1}
    saves |= {"steps": math.ceil((setup.steps or 0) / max(1, setup.every("save_steps"))), "best": 2}
    count = saves.get(str(args.save_strategy.value), 0)
    if args.save_total_limit:
        count = min(count, args.save_total_limit + 1)
    weights = sum(p.numel() * p.element_size() for p in setup.model.parameters())
    trained = sum(p.numel() * p.element_size() for p in setup.model.parameters() if p.requires_grad)
    each = weights + (0 if args.save_only_model else 2.3 * trained)
    place = next(folder for folder in (Path(args.output_dir).absolute(), *Path(args.output_dir).absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if count * each > free:
        yield (
            f"{count} checkpoints of {each / 1e6:,.0f} MB would need {count * each / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free: the run would stop with a full disk.",
            "save_total_limit=2, or save_only_model=True if you need not resume",
        )


@pitfall(
    "trained-twice",
    "P",
    "warning",
    "The training cell run again on the same model object, or over CV folds: it goes on from where it was",
    "Load the model in the same cell",
)
def trained_twice(setup):
    steps = setup.trainer.state.global_step
    if setup.trainer.model_init is not None or setup.resumes_from is not None:
        return
    if steps or moved_since(setup.model):
        how = f"has been trained for {steps} steps by this trainer" if steps else "has been trained since it was loaded"
        yield (
            f"This model object {how}: training again would go on from there, and scores of another fold or another setting would be too good.",
            ("Load the model in the cell that trains it, or give Trainer a model_init"),
        )


def fingerprint(model: torch.nn.Module) -> dict[str, bytes]:
    """Return the first few numbers of each trainable tensor: training moves most of them, a new head or a thawed layer only its own."""
    return {name: p.detach().flatten()[:8].float().cpu().numpy().tobytes() for name, p in model.named_parameters() if p.requires_grad}


def remember(model: torch.nn.Module) -> None:
    """Note on the model how its weights are now, unless that was noted before: `moved_since` compares."""
    with contextlib.suppress(Exception):  # weights that are not here (sharded, on the meta device): then nothing is known of them
        if getattr(model, "_weights_at_first_sight", None) is None:
            model._weights_at_first_sight = fingerprint(model)


def moved_since(model: torch.nn.Module) -> bool:
    """Say whether the weights are others than when they were first looked at, by preflight or by Watch. Weights that were set back are not."""
    before = getattr(model, "_weights_at_first_sight", None)
    if not before:
        return False
    moved = [values != before[name] for name, values in fingerprint(model).items() if name in before]
    return sum(moved) >= max(1, len(moved) / 2)


@pitfall("frozen", "P", "warning", "Part of the model is frozen, silently; or all of it: 'element 0 of tensors does not require grad'", "requires_grad_(True)")
def frozen(setup):
    sizes = {name: (p.numel(), p.requires_grad) for name, p in setup.model.named_parameters()}
    total, off = sum(size for size, _ in sizes.values()), [name for name, (_, on) in sizes.items() if not on]
    share = sum(sizes[name][0] for name in off) / max(1, total)
    if hasattr(setup.model, "peft_config"):
        heads = list(_beside_adapter(setup)) if setup.train is not None else []  # to evaluate with it, an adapter is loaded frozen
        yield from heads
        if total and len(off) == len(sizes) and setup.train is not None and not heads:
            again = "PeftModel.from_pretrained(model, folder, is_trainable=True)"
            yield "All weights are frozen, the adapter's too: there is nothing to train, and the first step would fail.", again, "error"
        return
    thaw = "model.requires_grad_(True)"
    prefix = getattr(setup.model, "base_model_prefix", "")
    head = [name for name in sizes if prefix and not name.startswith(f"{prefix}.")]
    if total and len(off) == len(sizes):
        yield "All weights are frozen (requires_grad=False): there is nothing to train, and the first step would fail.", thaw, "error"
    elif head and all(name in off for name in head):
        yield f"The classification head ({', '.join(head[:3])}) is frozen: its random numbers would stay as they are.", thaw
    elif share > 0.05:
        yield f"{share:.0%} of the weights are frozen, for example {off[0]!r}: they would stay as they are.", f"{thaw}, unless that is what you want"


def _beside_adapter(setup):
    """Find parts of the head that are new, frozen, and not saved with the adapter (PEFT's) of the model."""
    adapters = setup.model.peft_config if isinstance(setup.model.peft_config, Mapping) else {"": setup.model.peft_config}
    model = setup.model.get_base_model() if hasattr(setup.model, "get_base_model") else setup.model
    if not setup.classifier or not getattr(model, "base_model_prefix", ""):
        return
    saved = dict(_shapes(path)) if (path := getattr(setup.config, "_name_or_path", None)) else {}
    with_it = [name for config in adapters.values() for name in getattr(config, "modules_to_save", None) or ()]
    lost, thawed, trained = [], [], False
    for head, module in model.named_children():
        if head == model.base_model_prefix:
            continue
        named = dict(module.named_parameters(prefix=head))
        trained = trained or any(p.requires_grad for p in named.values())
        # neither an adapter's parts, which bear its name, nor the old copy of what is saved with it
        own = {name.replace(".base_layer", ""): p for name, p in named.items() if not {*adapters, "original_module"} & set(name.split("."))}
        known = all(saved.get(name) == tuple(p.shape) for name, p in own.items())
        if head.endswith(tuple(with_it)):
            continue
        own_weights = [p for name, p in own.items() if not name.endswith("bias")]  # biases can be saved with an adapter
        if hasattr(setup.model, "get_base_model") and any(p.requires_grad for p in own_weights):
            thawed.append(head)
        elif not known and not any(p.requires_grad for p in own.values()):
            lost.append(head)
    first = next(iter(adapters.values()), None)
    kind = type(first).__name__ if type(first).__name__.endswith("Config") else "LoraConfig"
    if thawed:
        yield (
            f"The classification head ({', '.join(thawed)}) is trained, but not saved with the adapter: loaded again, it is as it was before training.",
            f"{kind}(..., modules_to_save={json.dumps(thawed)}); or save all: trainer.model.merge_and_unload().save_pretrained(folder)",
        )
    if lost:
        fix = f"{kind}(..., modules_to_save={json.dumps(lost)})"
        helps = "SEQ_CLS" not in str(getattr(first, "task_type", "")) and not getattr(model, "_hf_peft_config_loaded", False)
        if helps and all(head.endswith(("classifier", "score")) for head in lost):  # that is what PEFT takes for the head
            fix = f'{kind}(..., task_type="SEQ_CLS") with get_peft_model, or {fix}'
        which = f"The classification head ({', '.join(lost)}) is frozen" if not trained else f"A part of the head ({', '.join(lost)}) is frozen"
        unsure = path and not saved  # the checkpoint cannot be read here: its head may have been trained
        yield (
            f"{which}, and not saved with the adapter: its {'perhaps ' if unsure else ''}random numbers would stay as they are, and be others when the "
            "adapter is loaded again.",
            fix,
            "warning" if trained or unsure else "error",
        )


@pitfall("head-reinitialised", "P", "warning", "ignore_mismatched_sizes=True threw a trained head away; only the load report says so", "Mean it")
def head_reinitialised(setup):
    path = getattr(setup.config, "_name_or_path", None)
    if not path or moved_since(setup.model):
        return
    mine, embeddings = {name: tuple(p.shape) for name, p in setup.model.named_parameters()}, set()
    for get in ("get_input_embeddings", "get_output_embeddings"):  # these are resized on purpose when tokens are added
        with contextlib.suppress(Exception):
            embeddings |= {name for name, p in setup.model.named_parameters() if p is getattr(setup.model, get)().weight}
    changed = [(name, shape, mine[name]) for name, shape in _shapes(path) if name in mine and name not in embeddings and shape != mine[name]]
    if changed:
        name, before, now = changed[0]
        yield (
            f"{name!r} has the shape {before} in the checkpoint and {now} in the model: ignore_mismatched_sizes=True threw {len(changed)} trained tensor(s) away and "
            "put random numbers there.",
            "Nothing, if you meant it; else load with the number of labels that the checkpoint was trained for",
        )


def _shapes(path: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of each tensor in a checkpoint on this machine, reading the headers only; nothing where there is none."""
    from transformers.utils import cached_file

    folder = Path(path)
    if not folder.is_dir():
        try:
            folder = Path(cached_file(path, "config.json", local_files_only=True)).parent  # of all files of that revision
        except Exception:
            return
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                yield name, tuple(tensors.get_slice(name).get_shape())


# --- the loss and the metrics -----------------------------------------------------------------------------------------


@pitfall("old-compute-loss", "P", "error", "compute_loss() got an unexpected keyword argument 'num_items_in_batch'", "Add the argument", True)
def old_compute_loss(setup):
    for owner, name, function in (("Trainer", "compute_loss", type(setup.trainer).compute_loss), ("", "compute_loss_func", setup.trainer.compute_loss_func)):
        if function is None:
            continue
        try:
            known = inspect.signature(function).parameters
        except (TypeError, ValueError):
            continue
        if "num_items_in_batch" not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            yield (
                f"{owner and type(setup.trainer).__name__ + '.'}{name} does not take num_items_in_batch, which Trainer hands to it: the first step would fail.",
                (f"def {name}({', '.join(known)}, num_items_in_batch=None):"),
            )


@pitfall("ga-loss", "P", "warning", "Gradient accumulation: the logged loss and gradients are N times too large", "model.accepts_loss_kwargs = False", dry=True)
def ga_loss(setup):
    trainer, many, batch = setup.trainer, setup.args.gradient_accumulation_steps, setup.dry.collated.get("train")
    if many < 2 or setup.dry.loss is None or not isinstance(batch, Mapping):
        return
    said = getattr(trainer, "loss_is_scaled_for_ga", None)
    divided_by_trainer = said is False or (said is None and not trainer.model_accepts_loss_kwargs and trainer.compute_loss_func is None)
    if divided_by_trainer:
        return
    with untouched(setup), torch.no_grad():
        inputs = trainer._prepare_inputs(dict(batch))
        few, lots = (float(trainer.compute_loss(setup.model, dict(inputs), num_items_in_batch=torch.tensor(n))) for n in (4, 40))
    if math.isclose(few, lots, rel_tol=1e-6):
        culprit = "compute_loss_func" if trainer.compute_loss_func is not None else "compute_loss" if setup.own_loss else type(setup.model).__name__
        fix = (
            "Divide by num_items_in_batch: loss = cross_entropy(..., reduction='sum') / num_items_in_batch"
            if setup.own_loss
            else "model.accepts_loss_kwargs = False"
        )
        yield (
            f"{culprit} takes num_items_in_batch and ignores it, so nobody divides by the {many} accumulated batches: the training loss is logged {many} times too "
            f"large, and max_grad_norm clips {many} times too hard.",
            fix if setup.own_loss else f"{fix} before Trainer(...) is built",
        )


@pitfall(
    "metrics-shape",
    "P",
    "error",
    "compute_metrics fails, after the first epoch: 'tuple' object has no attribute 'argmax'",
    "Try it on one batch",
    True,
    dry=True,
)
def metrics_shape(setup):
    error, metrics = setup.dry.metrics_failed, setup.dry.metrics
    if error is not None:
        several = isinstance(setup.dry.logits, (tuple, list))
        hint = f" The model returns {len(setup.dry.logits)} outputs, so predictions is a tuple." if several else ""
        if several:
            fix = "logits = predictions[0] if isinstance(predictions, tuple) else predictions"
        elif "multiclass" in said(error):
            fix = "f1_score(labels, predicted, average='macro')"
        else:
            fix = "logits, labels = prediction.predictions, prediction.label_ids; predicted = logits.argmax(axis=-1)"
        if setup.dry.metrics_saw_all or not isinstance(error, (IndexError, ValueError)):
            yield f"compute_metrics fails, which would show after the first epoch: {said(error)}.{hint}", fix
        else:  # it may need every row
            yield f"compute_metrics fails with a part of the evaluation rows (there are too many to try all): {said(error)}.{hint}", fix, "warning"
    elif setup.dry.scored and not isinstance(setup.dry.scored[0], Mapping):
        yield f"compute_metrics returns {type(setup.dry.scored[0]).__name__}, and Trainer needs a dict.", "return {'accuracy': accuracy}"
    elif metrics is not None and (odd := [key for key in metrics if not isinstance(key, str)]):
        yield f"compute_metrics returns {odd[0]!r} as the name of a metric, and Trainer needs a text.", f"return {{{str(odd[0])!r}: ...}}"
    elif metrics is not None:
        key = next((key for key, value in metrics.items() if _refuses(functools.partial(json.dumps, sort_keys=True), value)), None)
        best = (setup.args.metric_for_best_model or "").removeprefix("eval_")
        deciding = metrics.get(best, metrics.get(f"eval_{best}", 0.0)) if setup.chooses_best else 0.0
        if key is not None:
            array = isinstance(metrics[key], (np.ndarray, torch.Tensor))
            yield (
                f"compute_metrics returns {'an array' if array else type(metrics[key]).__name__} as {key!r}, which cannot be written to the log of a checkpoint.",
                f"One number: float({key}.mean())" if array else "Numbers, texts, or lists and dicts of them",
                "error" if setup.args.save_strategy != "no" else "warning",
            )
        elif _refuses(lambda value: bool(np.greater(value, -math.inf)), deciding):
            yield f"compute_metrics returns {deciding!r:.80} as {best!r}, which decides what is kept: Trainer cannot compare it.", "One number"


def _refuses(take: Callable, metric: Any) -> bool:
    """Say whether a function fails with a metric as Trainer hands it on: NumPy's numbers and tensors of one element become numbers, arrays do not."""
    try:
        take(denumpify_detensorize(metric))
    except Exception:
        return True
    return False


@pitfall("best-metric-missing", "P", "error", "KeyError: 'eval_f1' not found, after the first evaluation", "A key that compute_metrics returns", True, dry=True)
def best_metric_missing(setup):
    metric = setup.args.metric_for_best_model
    if metric is None or not (setup.chooses_best or setup.args.lr_scheduler_type == "reduce_lr_on_plateau") or not setup.evals:
        return
    if setup.args.eval_strategy == "no" or setup.dry.metrics_failed is not None or setup.errors & {"metrics-shape", "eval-labels-missing"}:
        return
    known = {f"eval_{key}".replace("eval_eval_", "eval_") for key in [*(setup.dry.metrics or {}), "loss", "runtime", "samples_per_second", "steps_per_second"]}
    if setup.trainer.compute_metrics is not None and setup.dry.metrics is None:
        return  # it could not be tried
    if isinstance(setup.trainer.eval_dataset, Mapping):
        known = {f"eval_{name}_{key.removeprefix('eval_')}" for name in setup.trainer.eval_dataset for key in known}
    wanted = metric if metric.startswith("eval_") else f"eval_{metric}"
    if wanted not in known:
        shown = sorted(key.removeprefix("eval_") for key in known if not key.endswith(("runtime", "per_second")))
        yield (
            f"metric_for_best_model={metric!r} is not among what an evaluation returns ({', '.join(shown)}): the first one would end in a KeyError.",
            (f"metric_for_best_model={shown[0]!r}"),
        )


@pitfall(
    "eval-memory", "P", "warning", "All predictions of an evaluation are kept on the device, worse with hidden states", "eval_accumulation_steps", dry=True
)
def eval_memory(setup):
    if setup.dry.logits is None or setup.trainer.compute_metrics is None or setup.trainer.preprocess_logits_for_metrics is not None:
        return
    flat = []
    each_tensor(setup.dry.logits, flat.append)
    width, needed = sum(math.prod(t.shape[1:]) for t in flat), setup.num_labels or 1
    rows = max((split.rows or 0 for split in setup.evals), default=0)
    on_gpu = setup.args.device.type == "cuda"
    room = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    if (len(flat) > 1 and width > 100 * needed) or (rows * width * 4 > 0.25 * room and (setup.args.eval_accumulation_steps is None or not on_gpu)):
        yield (
            f"An evaluation keeps {width:,} numbers for each of {rows:,} rows, {rows * width * 4 / 1e6:,.0f} MB, until all are predicted; the labels need {needed} of them.",
            "Trainer(..., preprocess_logits_for_metrics=lambda logits, labels: logits[0] if isinstance(logits, tuple) else logits), eval_accumulation_steps=8",
        )


MESSAGES = {  # what a failed dry run says -> the entry that explains it
    "excessive nesting|Unable to create tensor|expected sequence of length|stack expects each tensor to be equal size": "not-tokenised",
    "should supply an encoding|You have to specify either input_ids": "not-tokenised",
    r"Target -?\d+ is out of bounds": "label-range",
    "index out of range in self": "tokenizer-mismatch",
    "padding token": "pad-token",
    "did not return a loss": "no-loss",
    "must be the same as input size": "label-float",
    "match target batch_size|can't be cast to the desired output type": "multi-label-ints",
    "num_items_in_batch": "old-compute-loss",
    "expanded size of the tensor": "too-long",
    "gather": "smoothing-float",
    "same number of <eos> tokens": "special-in-text",
}


@pitfall("dry-run", "P", "error", "The first batch fails for a reason that no other check knows", "Read the message", True, dry=True)
def dry_run(setup):
    failures = [(f"making a batch of the {setup.splits[name].in_words} data", error) for name, error in setup.dry.refused.items()]
    failures += [("the first forward pass", setup.dry.failed)] if setup.dry.failed is not None else []
    for name, error in setup.unreadable.items():
        yield f"The {name} data cannot be read: {said(error)}", "Mend what the message names: dataset[0], dataset[1], ... must all work"
    for what, error in failures:
        explained = [id for words, id in MESSAGES.items() if re.search(words, said(error))]
        data = {"not-tokenised", "label-type", "label-range", "label-float", "multi-label-ints", "problem-type-stuck", "no-loss", "too-long", "num-labels-one"}
        data |= {
            "tokenizer-mismatch",
            "pad-token",
            "old-compute-loss",
            "smoothing-float",
            "wrong-container",
            "two-label-columns",
            "empty-tokenizer",
            "special-in-text",
        }
        if not setup.errors & data:
            yield (
                f"In a dry run, {what} fails: {said(error)}",
                (f"See {explained[0]!r} in the catalogue: {CATALOGUE[explained[0]].fix}" if explained else "Mend what the message names"),
            )


# --- found elsewhere, or avoided; entered so that the catalogue is whole ----------------------------------------------

pitfall("nan-hidden", "W", "error", "logging_nan_inf_filter hides NaN: loss 0.0 in the log, accuracy the share of class 0", "A lower learning rate; fp32")(None)
pitfall("overfitting", "W", "warning", "The training loss falls, the evaluation loss rises", "Stop early, fewer epochs")(None)
pitfall("saved-differs", "S", "error", "What was saved is not what was trained: other weights, labels or tokenizer", "save_pretrained both, and check")(None)
pitfall("na-strings", "R", "error", "pandas reads 'NA', 'None', 'null' as missing: text and label are lost", "keep_default_na=False")(None)
pitfall("head-seed", "A", "warning", "The head is initialised before Trainer sets the seed: runs differ", "set_seed(...) first, or model_init")(None)
pitfall("strategy-mismatch", "C", "error", "'--load_best_model_at_end requires the save and eval strategy to match'", "save_strategy = eval_strategy", True)(
    None
)
pitfall("check-failed", "P", "warning", "A check of preflight's own could not look", "Report it, with the message")(None)
