"""Checks of the labels."""

import contextlib
import copy
import inspect
import io
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import Trainer

from utils.preflight.catalogue import places
from utils.preflight.checks.common import check, dtype_name, listed, rows_of, tensor_labels, without_labels
from utils.preflight.setup import untouched
from utils.preflight.split import IGNORED, SCRIPTED_ROWS, Split, error_text, is_list, is_text
from utils.reading.same import comparable, in_escapes, variants

types = pa.types
NO_NUMBER = (is_text, types.is_temporal, types.is_binary, types.is_decimal, types.is_dictionary)
WHOLE = (torch.int64, torch.uint8)  # what cross-entropy takes for classes


@check("label-type", "P", "error", "Encode them as whole numbers", loud=True, dry=True)
def label_type(setup):
    """'Unable to create tensor ... excessive nesting': labels are texts, or one is missing"""
    for split in setup.splits.values():
        own_tensor = setup.own_collator and tensor_labels(setup, split.name) is not None
        if split.label_column is not None and len(split.index) and not own_tensor:
            yield from _label_type(setup, split, split.label_column)


def _label_type(setup, split: Split, column: str):
    kind = split.type(column)
    where = f"the column {column!r} of the {split.role} data"
    encode = f"dataset = dataset.class_encode_column({column!r}) on the whole table, before it is split"
    keep = "dataset = dataset.filter(lambda row: "
    if kind is None:
        yield f"The labels in {where} are of several kinds.", encode
    elif any(is_kind(kind) for is_kind in NO_NUMBER):
        first = list(dict.fromkeys(split.column(column).slice(0, 1000).to_pylist()))[:5]
        yield f"The labels in {where} are texts ({listed(first)}); the model takes whole numbers.", encode
    elif is_list(kind) and (is_text(kind.value_type) or is_list(kind.value_type)):
        parts = "texts" if is_text(kind.value_type) else "lists"
        message = f"Each label in {where} is a list of {parts}; a multi-label row is a list of 0.0 and 1.0."
        yield message, "row['labels'] = [float(name in row['tags']) for name in names]"
    elif (labels := split.column(column)).null_count:
        message = f"A label is missing in {rows_of(labels.is_null().to_numpy(), split)}"
        yield f"{message}: a batch with such a row cannot be made.", f"{keep}row[{column!r}] is not None)"
    elif split.labels is not None and split.labels.dtype.kind == "f":
        odd = ~np.isfinite(split.labels)
        if odd.any() and not _loss_skips_nan(setup):
            message = f"The label is nan or infinite in {rows_of(odd, split)}: such a batch has a loss of nan"
            yield f"{message}, and spoils all weights.", f"{keep}math.isfinite(row[{column!r}]))"


def _loss_accepts(setup) -> bool:
    """Whether a loss of the user's own took the labels as they are."""
    return setup.own_loss and setup.dry.failed is None and setup.dry.loss is not None


def _loss_skips_nan(setup) -> bool:
    """Whether the dry run had a label of nan, and a loss of the user's own left it out."""
    labels = tensor_labels(setup)
    dry_run_had_one = labels is not None and not labels.isfinite().all()
    return bool(dry_run_had_one and _loss_accepts(setup) and setup.dry.loss.isfinite())


@check("num-labels-one", "P", "error", "num_labels=2", dry=True)
def num_labels_one(setup):
    """One output for a binary task is a regression: MSE, and argmax is always 0"""
    labels = setup.train.labels if setup.train is not None else None
    if setup.task != "regression" or labels is None or not len(labels) or _loss_accepts(setup):
        return
    values, whole = np.unique(labels), labels.dtype.kind in "iub"
    if whole or (values.tolist() == [0.0, 1.0] and setup.config.problem_type != "regression"):
        numbers = ", ".join(f"{value:g}" for value in values[:8].astype(float))
        these = f"The labels are {'whole numbers' if whole else 'only'} ({numbers})"
        count, column = max(2, int(np.nanmax(values)) + 1), setup.train.label_column
        true = f"dataset.cast_column({column!r}, Value('float32')) and problem_type='regression'"
        fix = f"from_pretrained(..., num_labels={count}); for a true regression: {true}"
        yield f"{these}, and num_labels=1 makes the model a regression, whose argmax is always 0.", fix


@check("label-range", "P", "error", "Labels from 0 to num_labels - 1", loud=True)
def label_range(setup):
    """'Target 2 is out of bounds.', or a device-side assert, when such a row is drawn"""
    count, splits = setup.num_labels or 0, setup.splits.values()
    for split in splits if count > 1 and setup.task == "single_label" else ():
        labels = split.labels
        if labels is None or not len(labels) or labels.dtype.kind not in "iu":
            continue
        skipped = labels == IGNORED
        outside = ~skipped & ((labels < 0) | (labels >= count))
        if outside.any() and not _moved_inside(setup, split, outside):
            low, high = split.classes.min(), split.classes.max()
            message = f"Labels of the {split.role} data run from {low} to {high}, but the model has"
            message += f" num_labels={count}, so they must run from 0 to {count - 1}"
            fix = _into_range(setup, split.label_column, low, high)
            yield f"{message}: {places(outside, split)}.", fix
        elif skipped.all():
            all_labels = f"All labels of the {split.role} data are {IGNORED}"
            yield f"{all_labels}, which the loss skips: it would be nan.", "Put the labels in"
        elif skipped.any():
            rows = f"{rows_of(skipped, split)} have the label {IGNORED}"
            fix = "Nothing, if that is on purpose; else put the labels in"
            yield f"{rows}: the loss skips them, and most metrics count them as wrong.", fix, "warning"


def _into_range(setup, column: str, low: int, high: int) -> str:
    """Return the fix for labels out of range: another number of outputs, or other labels."""
    if setup.config.problem_type is None and setup.names == ["LABEL_0", "LABEL_1"] and low >= 0:
        return f"from_pretrained(..., num_labels={int(high) + 1})"
    if low == 1 and high == setup.num_labels:
        return f"dataset = dataset.map(lambda row: {{{column!r}: row[{column!r}] - 1}})"
    return f"dataset = dataset.class_encode_column({column!r}) on the whole table, and num_labels to match"


def _moved_inside(setup, split: Split, outside: np.ndarray) -> bool:
    """Whether the user's collator moves such labels into range, or the user's loss takes them."""
    if setup.own_collator:
        with contextlib.suppress(Exception), untouched(setup):
            labels = setup.collator(split.sample(np.flatnonzero(outside)[:2]))[setup.trainer.label_names[0]]
            return bool(((labels >= 0) & (labels < setup.num_labels)).all())
    on_cpu = setup.args.device.type == "cpu"  # on a GPU such a trial would take the process along
    return on_cpu and _loss_accepts(setup)


@check("label-float", "P", "error", "Whole numbers (int64)", loud=True, dry=True)
def label_float(setup):
    """'Target size must be the same as input size': float or bool labels choose another loss"""
    regression = getattr(setup.config, "problem_type", None) == "regression"
    if setup.task != "single_label" or regression or _loss_accepts(setup):
        return
    for split in setup.splits.values():
        labels = tensor_labels(setup, split.name)
        if labels is not None and labels.ndim == 1 and labels.dtype not in WHOLE:
            takes = f"with num_labels={setup.num_labels} it takes one int64 a row, or a vector of floats"
            kind = f"The labels of the {split.role} data reach the model as {dtype_name(labels.dtype)}"
            fix = f"dataset = dataset.cast_column({split.label_column!r}, Value('int64'))"
            yield f"{kind}; {takes}.", fix


@check("multi-label-ints", "P", "error", "float32", loud=True, dry=True)
def multi_label_ints(setup):
    """'Expected input batch_size (4) to match target batch_size (8)': 0/1 vectors of whole numbers"""
    if setup.task != "multi_label" or _loss_accepts(setup):
        return
    labels, column = tensor_labels(setup), setup.train.label_column if setup.train else "labels"
    if labels is not None and labels.ndim == 2 and not labels.is_floating_point():
        vector = f"The labels are vectors of whole numbers ({labels[0].tolist()[:8]})"
        features = f"Features({{**dataset.features, {column!r}: List(Value('float32'))}})"
        floats = f"dataset = dataset.map(lambda row: {{{column!r}: [float(x) for x in row[{column!r}]]}}"
        fix = f"{floats}, features={features}), and problem_type='multi_label_classification'"
        yield f"{vector}; the model would take them for {labels.shape[1]} single labels a row.", fix
    for split in setup.splits.values():
        kind = split.type(split.label_column) if split.label_column else None
        if not is_list(kind) or is_list(kind.value_type) or is_text(kind.value_type):
            continue
        sizes = pc.list_value_length(split.column(split.label_column)).fill_null(0).to_numpy()
        wrong = sizes != setup.num_labels
        if wrong.any():
            numbers = ", ".join(map(str, np.unique(sizes[wrong])[:5]))
            rows = f"{rows_of(wrong, split)} have label vectors of {numbers} numbers"
            fix = f"One number for each class: num_labels={sizes.max()}, or vectors of {setup.num_labels}"
            yield f"{rows}; the model has {setup.num_labels} outputs.", fix


@check("problem-type-stuck", "P", "error", "Set config.problem_type", loud=True, dry=True)
def problem_type_stuck(setup):
    """The config keeps the problem_type of an earlier batch, and right labels fail"""
    kept, labels = getattr(setup.config, "problem_type", None), tensor_labels(setup)
    if not setup.classifier or labels is None or _loss_accepts(setup):
        return
    floats, vectors, one = labels.is_floating_point(), labels.ndim == 2, setup.num_labels == 1
    fits = {  # problem_type -> what it wants, and whether the labels are that
        "regression": ("float", floats and (one or vectors)),
        "single_label_classification": ("int64", labels.dtype in WHOLE and labels.ndim == 1 and not one),
        "multi_label_classification": ("vectors of float", floats and vectors),
    }
    right = "multi_label" if vectors else "regression" if one else "single_label"
    right = next(kind for kind in fits if kind.startswith(right))
    # floats with several outputs are the labels' fault, and whole numbers in vectors too: other checks say so
    if kept in fits and not fits[kept][1] and kept != right and (fits[right][1] or kept == "regression"):
        kind = f"{dtype_name(labels.dtype)} of shape {tuple(labels.shape)}"
        they = f"which wants {fits[kept][0]} labels, but they are {kind}"
        fix = f"model.config.problem_type = {right!r}"
        yield f"config.problem_type is {kept!r}, {they}. A first batch sets it, or a checkpoint.", fix


@check("no-loss", "P", "error", "A column label, labels or label_ids", loud=True, dry=True)
def no_loss(setup):
    """'The model did not return a loss from the inputs, only the following keys: logits'"""
    split, dry = setup.train, setup.dry
    if split is None or not len(split.index) or dry.loss is not None or "not-tokenised" in setup.errors:
        return
    words = error_text(dry.failed) if dry.failed else "did not return a loss"
    if setup.trainer.label_names and split.label_column is None:
        if "did not return a loss" in words or not setup.own_loss:
            reason, fix = without_labels(split)
            yield f"The training data have no labels: {reason}. The model would return no loss.", fix
        return
    explained = "train" not in dry.collated or setup.errors & {"label-type", "label-range"}
    if not explained and re.search("did not return a loss|unexpected keyword argument 'label", words):
        model = f"{type(setup.model).__name__} computes no loss from the labels"
        fix = "AutoModelForSequenceClassification.from_pretrained(...), or a compute_loss_func"
        yield f"{model}: it has no classification head, or takes no labels.", fix


RARELY = 0.2  # of the changes of class that chance would make: with fewer, rows come class by class
RARE_CLASS = 0.1  # changes of class a row by chance, where all but five in a hundred rows are of one class
BY_CHANCE = 10  # rows of other classes expected at the start of a stream: with fewer, none means nothing
OWN_ORDER = ("get_train_dataloader", "_get_train_sampler")


def _called(setup, ids: Sequence[int]) -> str:
    names = setup.names or []
    first = [repr(names[i]) if 0 <= i < len(names) else str(i) for i in map(int, ids[:8])]
    return ", ".join(first) + (", ..." if len(ids) > 8 else "")


@check("single-class-split", "P", "error", "Shuffle, stratify")
def single_class_split(setup):
    """select(range(n)) or a split of sorted rows: one class only, accuracy 1.0, falling loss"""
    if setup.task == "regression" or "label-range" in setup.errors:
        return
    splits = {name: split for name, split in setup.splits.items() if split.classes is not None}
    counted = {name: np.unique(split.classes) for name, split in splits.items()}
    train = counted.get("train")
    if train is not None:
        yield from _class_by_class(setup, counted)
    split_again = "train_test_split(test_size=0.15, seed=42, stratify_by_column='label')"
    stratify = f"dataset.class_encode_column('label').{split_again}"
    for name, split in splits.items():
        classes, data = counted[name], f"The {split.role} data have"
        enough = (split.rows or 0) > (0 if name == "train" else 1)
        if len(classes) == 1 and (setup.num_labels or 2) > 1 and enough:
            one = f"are of one class, {_called(setup, classes)}: a model that always says so scores 100%."
            yield f"All {split.rows:,} rows of the {split.role} data {one}", stratify
        elif name != "train" and train is not None and not setup.train.stream and not split.stream:
            missing, new = np.setdiff1d(train, classes), np.setdiff1d(classes, train)
            if len(new) and len(train) > 1:
                message = f"{data} the class {_called(setup, new)}, which no training row has."
                yield message, stratify, "warning"
            if len(missing):
                message = f"{data} no row of {_called(setup, missing)}, so their scores say nothing about it."
                yield message, stratify, "warning"


def _class_by_class(setup, counted: Mapping[str, np.ndarray]):
    """Find training rows that are read class by class: in the end the model knows the last class only."""
    split, classes = setup.train, counted["train"]
    if split.stream:
        labels, reason = split.labels, "Trainer does not shuffle a stream"
        buffer = "dataset.shuffle(seed=42, buffer_size=10_000), with room for more than the rows of one class"
        fix = f"{buffer}; or shuffle the table before to_iterable_dataset()"
    elif sequential := _in_their_order(setup):
        labels = split.labels[np.argsort(split.index, kind="stable")]
        reason = f"{sequential} reads them as they stand"
        random = "train_sampling_strategy='random' and no sampler of your own"
        fix = f"train_dataset = train_dataset.shuffle(seed=42), or {random}"
    else:
        return
    labels = labels[labels != IGNORED]
    data = f"The first {len(labels):,} rows of the training data" if split.stream else "The training data"
    outcome = f"{reason}: the model would learn one class, and forget it for the next."
    others = [name for name in counted if len(np.setdiff1d(counted[name], classes))]
    if split.stream and len(classes) == 1 and len(labels) > 1 and others:
        other = setup.splits[others[0]]
        expected = len(labels) * (other.labels != classes[0]).mean()
        if len(labels) < SCRIPTED_ROWS or expected >= BY_CHANCE:
            one = f"{data} are of one class, {_called(setup, classes)}"
            rest = f"the {other.role} data have {_called(setup, counted[others[0]])}"
            yield f"{one}, and {rest}; {outcome}", fix
    elif len(labels) >= 16:
        ends = np.append(np.flatnonzero(np.diff(labels)), len(labels) - 1)
        runs = pd.DataFrame({"label": labels[ends], "length": np.diff(ends, prepend=-1)})
        changes, longest = len(runs) - 1, runs.groupby("label")["length"].max().sum()
        by_chance = len(labels) * (1 - (pd.Series(labels).value_counts(normalize=True) ** 2).sum())
        if changes < RARELY * by_chance and longest > len(labels) / 2:
            counts = f"{changes} changes of class in {len(labels):,} rows; by chance {by_chance:,.0f}"
            heap = by_chance <= RARE_CLASS * len(labels) and len(labels) >= 200  # a few rows, no disaster
            yield f"{data} come class by class ({counts}), and {outcome}", fix, "warning" if heap else "error"


def _in_their_order(setup) -> str | None:
    """Name what makes Trainer read the training rows as they stand; None where nothing is seen to do so."""
    trainer = copy.copy(setup.trainer)  # what the user's code sets there is not to stay
    methods = {name: getattr(getattr(trainer, name), "__func__", None) for name in OWN_ORDER}
    causes = [name for name, method in methods.items() if method is not getattr(Trainer, name)]
    if setup.args.train_sampling_strategy == "sequential":
        causes.append("train_sampling_strategy='sequential'")
    sampler, loaders = None, trainer.accelerator._dataloaders
    before = list(loaders)
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):  # it is the user's code
        if OWN_ORDER[0] in causes:
            sampler = trainer.get_train_dataloader().batch_sampler.sampler
        elif causes:
            takes_rows = inspect.signature(trainer._get_train_sampler).parameters
            sampler = trainer._get_train_sampler(*[trainer.train_dataset] if takes_rows else [])
    loaders[:] = before
    return causes[0] if type(sampler) is torch.utils.data.SequentialSampler else None


@check("label-map-drift", "P", "error", "One sorted map")
def label_map_drift(setup):
    """enumerate(set(...)), one map for each split: ids change their meaning from split to split or run
    to run"""
    if setup.task == "regression":
        return
    unnamed = not setup.names or all(name.startswith("LABEL_") for name in setup.names)
    model = [] if unnamed else setup.names
    classes = "ClassLabel(names=labels) for every split, id2label=dict(enumerate(labels)) for the model"
    one_map = f"labels = sorted(set(table['label'])); {classes}"
    named = {split.role: split.class_labels for split in setup.splits.values() if split.class_labels}
    for role, names in named.items():
        first = next(iter(named))
        others = {first: named[first], "model's": model}
        kinds = {other: _aligned(others[other], names) for other in others if other != role and others[other]}
        other = next((other for other, kind in kinds.items() if kind != "same"), None)
        if other is None:
            continue
        lists = f"The {role} labels are {names[:8]}, in this order; the {other} are {others[other][:8]}."
        if kinds[other] == "drift":
            yield f"{lists} The same id means two things, and the scores will be wrong.", one_map
        else:
            yield f"{lists} Check that they mean the same.", one_map, "warning"
    if named or setup.train is None or setup.train.classes is None:
        return
    splits = [split for split in setup.splits.values() if split.classes is not None and not split.stream]
    maps = {split.role: found for split in splits if (found := _map_of(split))}
    for role, (column, ids) in maps.items():
        first = next(iter(maps))
        others = {first: maps[first][1], "model": {name: i for i, name in enumerate(model)}}
        pairs = ((name, other) for other, theirs in others.items() for name in ids if name in theirs)
        clash = next(((name, other) for name, other in pairs if others[other][name] != ids[name]), None)
        if clash:
            name, other = clash
            says = f"Column {column!r} says that {name!r} is label {ids[name]} for the {role} data"
            yield f"{says} and {others[other][name]} for the {other}. The scores will be wrong.", one_map


def _aligned(one: Sequence[str], other: Sequence[str]) -> str:
    """Compare two lists of class names: "same", "drift" (a name stands at two places) or "differ"."""
    one, other = ([comparable(str(name)) for name in names] for names in (one, other))
    if one[: len(other)] == other[: len(one)]:
        return "same"
    place = {name: i for i, name in enumerate(one)}
    return "drift" if any(place.get(name, i) != i for i, name in enumerate(other)) else "differ"


def _map_of(split: Split) -> tuple[str, dict[str, int]] | None:
    """Find a text column that names the labels one to one, and return it with its map from name to id."""
    classes = len(np.unique(split.labels))
    if classes < 2 or classes == split.rows:
        return None
    for column in split.text_columns:
        names = split.column(column)
        if names.null_count or pc.count_distinct(names).as_py() != classes:
            continue
        pairs = set(zip(names.to_pylist(), split.labels.tolist(), strict=True))
        if len(pairs) == classes:
            return column, {str(text): int(i) for text, i in sorted(pairs)}
    return None


@check("label-names", "P", "warning", "Pass id2label and label2id, omit num_labels")
def label_names(setup):
    """id2label is missing or no bijection: predictions are called LABEL_0"""
    if not setup.classifier or (setup.num_labels or 0) < 2:
        return
    label2id = "label2id={name: i for i, name in enumerate(labels)}"
    both = f"from_pretrained(..., id2label=dict(enumerate(labels)), {label2id})"
    names, ids = setup.names, {str(name): int(i) for name, i in (setup.config.label2id or {}).items()}
    if names is None or len(names) != setup.num_labels:
        known = sorted(map(int, setup.config.id2label))[:8]
        yield f"id2label has the ids {known}, but the model has {setup.num_labels} outputs.", both
    elif len(set(names)) < len(names):
        yield f"id2label gives one name to several classes: {names[:8]}.", both
    elif names == [f"LABEL_{i}" for i in range(len(names))]:
        known = next((split.class_labels for split in setup.splits.values() if split.class_labels), None)
        hint = f" The data call them {known[:8]}." if known else ""
        yield f"The {len(names)} classes have no names: predictions will say {names[0]!r}.{hint}", both
    elif ids != {name: i for i, name in enumerate(names)}:
        maps = [dict(list(items)[:4]) for items in (ids.items(), enumerate(names))]
        yield f"label2id ({maps[0]}) is not the inverse of id2label ({maps[1]}).", both


@check("label-noise", "RP", "warning", "Write each label in one way")
def label_noise(setup):
    """'pos', 'pos ' and 'Pos' are three classes; a class has fewer than 5 rows"""
    split = setup.train
    names = (split.class_labels if split is not None else None) or setup.names or []
    for same in variants(names):
        message = f"Class names that may be one class: {', '.join(map(in_escapes, same))}."
        fix = "Write each in one way before encoding: rows['label'] = rows['label'].str.strip().str.lower()"
        yield message, fix
    if setup.task != "single_label" or split is None or split.stream or split.classes is None:
        return
    ids, counts = np.unique(split.classes, return_counts=True)
    rare = [(int(i), int(n)) for i, n in zip(ids, counts, strict=True) if n < 5]
    if rare:
        known = dict(enumerate(map(repr, names)))
        classes = ", ".join(f"{known.get(i, i)} ({n})" for i, n in rare[:8])
        few = f"{len(rare)} class(es) with fewer than 5 training rows: {classes}"
        yield f"{few}. So few can hardly be learnt.", "Collect more rows, or merge classes"
