"""Checks of the labels."""

import contextlib
import copy
import inspect
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import Trainer

from utils.labels import in_escapes, variants
from utils.preflight.catalogue import IGNORED, pitfall, places
from utils.preflight.checks.texts import without_labels
from utils.preflight.setup import untouched
from utils.preflight.split import SCRIPTED_ROWS, Split, error_text, is_list, is_text


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
        if (
            split.label_column is None
            or not len(split.index)
            or (setup.own_collator and tensor_labels(setup, split.name) is not None)
        ):
            continue
        kind = split.type(split.label_column)
        where = f"the column {split.label_column!r} of the {split.role} data"
        encode = f"dataset = dataset.class_encode_column({split.label_column!r}) on the whole table, before it is split"
        if kind is None:
            yield f"The labels in {where} are of several kinds.", encode
        elif (
            is_text(kind)
            or pa.types.is_temporal(kind)
            or pa.types.is_binary(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_dictionary(kind)
        ):
            seen = list(dict.fromkeys(split.column(split.label_column).slice(0, 1000).to_pylist()))
            yield (
                f"The labels in {where} are texts ({', '.join(map(repr, seen[:5]))}), and the model takes whole numbers.",
                encode,
            )
        elif is_list(kind) and (is_text(kind.value_type) or is_list(kind.value_type)):
            yield (
                f"Each label in {where} is a list of {'texts' if is_text(kind.value_type) else 'lists'}; a multi-label row is one list of 0.0 and 1.0.",
                "row['labels'] = [float(name in row['tags']) for name in names]",
            )
        elif (missing := split.column(split.label_column)).null_count:
            rows = places(missing.is_null().to_numpy(), split)
            yield (
                f"A label is missing in {rows} of the {split.role} data; a batch with such a row cannot be made.",
                (f"dataset = dataset.filter(lambda row: row[{split.label_column!r}] is not None)"),
            )
        elif (
            split.labels is not None
            and split.labels.dtype.kind == "f"
            and not (finite := np.isfinite(split.labels)).all()
        ):
            tried = tensor_labels(setup)
            if (
                tried is not None
                and not tried.isfinite().all()
                and _loss_accepts(setup)
                and setup.dry.loss.isfinite()
            ):
                continue  # the dry run had such a row, and this loss leaves it out
            yield (
                f"The label is nan or infinite in {places(~finite, split)} of the {split.role} data: a batch with such a row has a loss of nan, and spoils all weights.",
                f"dataset = dataset.filter(lambda row: math.isfinite(row[{split.label_column!r}]))",
            )


def tensor_labels(setup, split: str = "train") -> torch.Tensor | None:
    """Return the labels of a split's collated batch: collators change types, so this is what the model gets."""
    batch = setup.dry.collated.get(split)
    labels = (
        batch.get(setup.trainer.label_names[0])
        if isinstance(batch, Mapping) and setup.trainer.label_names
        else None
    )
    return labels if isinstance(labels, torch.Tensor) else None


def _loss_accepts(setup) -> bool:
    """Whether a loss of the user's own took the labels as they are."""
    return setup.own_loss and setup.dry.failed is None and setup.dry.loss is not None


@pitfall(
    "num-labels-one",
    "P",
    "error",
    "One output for a binary task is a regression: MSE, and argmax is always 0",
    "num_labels=2",
    False,
    dry=True,
)
def num_labels_one(setup):
    if (
        setup.task != "regression"
        or setup.train is None
        or setup.train.labels is None
        or not len(setup.train.labels)
        or _loss_accepts(setup)
    ):
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
    "label-range",
    "P",
    "error",
    "'Target 2 is out of bounds.', or a device-side assert, when such a row is drawn",
    "Labels from 0 to num_labels - 1",
    True,
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
            if (
                setup.config.problem_type is None
                and setup.names
                and setup.names == [f"LABEL_{i}" for i in range(2)]
                and low >= 0
            ):
                fix = f"from_pretrained(..., num_labels={need})"
            elif low == 1 and high == setup.num_labels:
                fix = f"dataset = dataset.map(lambda row: {{{split.label_column!r}: row[{split.label_column!r}] - 1}})"
            else:
                fix = f"dataset = dataset.class_encode_column({split.label_column!r}) on the whole table, and num_labels to match"
            yield (
                f"Labels of the {split.role} data run from {low} to {high}, but the model has num_labels={setup.num_labels}, so they must run from 0 to "
                f"{setup.num_labels - 1}: {places(outside, split)}. Training would stop when such a row is drawn.",
                fix,
            )
        elif skipped.all():
            yield (
                f"All labels of the {split.role} data are {IGNORED}, which the loss skips: it would be nan.",
                "Put the labels in",
            )
        elif skipped.any():
            yield (
                f"{places(skipped, split)} of the {split.role} data have the label {IGNORED}: the loss skips them, and most metrics count them as wrong.",
                "Nothing, if that is on purpose; else put the labels in",
                "warning",
            )


def _moved_inside(setup, split: Split, outside: np.ndarray) -> bool:
    """Whether code of the user's own deals with such labels: the collator moves them into range, or the loss takes them."""
    if setup.own_collator:
        with contextlib.suppress(Exception), untouched(setup):
            labels = setup.collator(split.sample(np.flatnonzero(outside)[:2]))[setup.trainer.label_names[0]]
            return bool(((labels >= 0) & (labels < setup.num_labels)).all())
    return setup.args.device.type == "cpu" and _loss_accepts(
        setup
    )  # on a GPU such a trial would take the process along


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
        labels = tensor_labels(setup, split.name)
        if (
            labels is not None
            and labels.ndim == 1
            and labels.dtype not in (torch.int64, torch.uint8)
            and setup.config.problem_type != "regression"
        ):
            kind = str(labels.dtype).removeprefix("torch.")
            yield (
                f"The labels of the {split.role} data reach the model as {kind}; with num_labels={setup.num_labels} it takes one int64 number a row, or a vector of "
                "floats (multi-label), and stops at this.",
                f"dataset = dataset.cast_column({split.label_column!r}, Value('int64'))",
            )


@pitfall(
    "multi-label-ints",
    "P",
    "error",
    "'Expected input batch_size (4) to match target batch_size (8)': 0/1 vectors of whole numbers",
    "float32",
    True,
    dry=True,
)
def multi_label_ints(setup):
    if setup.task != "multi_label" or _loss_accepts(setup):
        return
    labels = tensor_labels(setup)
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
        sizes = np.concatenate(
            [
                pc.list_value_length(piece[split.label_column]).fill_null(0).to_numpy()
                for piece in split.pieces(split.label_column)
            ]
        )
        wrong = sizes != setup.num_labels
        if wrong.any():
            yield (
                f"{places(wrong, split)} of the {split.role} data have label vectors of {', '.join(map(str, sorted(set(sizes[wrong].tolist()))[:5]))} numbers; "
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
    kept, labels = getattr(setup.config, "problem_type", None), tensor_labels(setup)
    if not setup.classifier or kept is None or labels is None or _loss_accepts(setup):
        return
    fits = {
        "regression": labels.is_floating_point() and (setup.num_labels == 1 or labels.ndim == 2),
        "single_label_classification": labels.dtype in (torch.int64, torch.uint8)
        and labels.ndim == 1
        and setup.num_labels > 1,
        "multi_label_classification": labels.is_floating_point() and labels.ndim == 2,
    }
    means = {
        "regression": "float",
        "single_label_classification": "int64",
        "multi_label_classification": "vectors of float",
    }
    right = (
        "multi_label_classification"
        if labels.ndim == 2
        else "regression"
        if setup.num_labels == 1
        else "single_label_classification"
    )
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
        reason, fix = without_labels(split)
        if (
            setup.dry.failed is None
            or "did not return a loss" in error_text(setup.dry.failed)
            or not setup.own_loss
        ):
            yield (
                f"The training data have no labels: {reason}. Without them the model returns no loss, and the first step fails.",
                fix,
            )
    elif setup.dry.collated.get("train") is not None and not setup.errors & {"label-type", "label-range"}:
        words = error_text(setup.dry.failed) if setup.dry.failed else "did not return a loss"
        if "did not return a loss" in words or "unexpected keyword argument 'label" in words:
            yield (
                f"{type(setup.model).__name__} computes no loss from the labels: a model without a classification head, or one whose forward takes no labels.",
                "AutoModelForSequenceClassification.from_pretrained(...), or a compute_loss_func",
            )


RARELY = (
    0.2  # of the changes of class that rows in random order would have: fewer, and they come class by class
)
RARE_CLASS = (
    0.1  # changes of class a row, in random order, where one class has all but five in a hundred rows
)
BY_CHANCE = 10  # rows of other classes to be expected among the first of a stream, before it means something that there are none


@pitfall(
    "single-class-split",
    "P",
    "error",
    "select(range(n)) or a split of sorted rows: one class only, accuracy 1.0, falling loss",
    "Shuffle, stratify",
)
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
        return ", ".join(repr(names[i]) if 0 <= i < len(names) else str(i) for i in map(int, ids[:8])) + (
            ", ..." if len(ids) > 8 else ""
        )

    if "train" in counted:
        yield from _class_by_class(setup, counted, called)
    stratify = "dataset.class_encode_column('label').train_test_split(test_size=0.15, seed=42, stratify_by_column='label')"
    for name, classes in counted.items():
        split = setup.splits[name]
        if (
            len(classes) == 1
            and (setup.num_labels or 2) > 1
            and split.rows is not None
            and (split.rows > 1 or name == "train")
        ):
            yield (
                f"All {split.rows:,} rows of the {split.role} data are of one class, {called(classes)}: a model that always says so scores 100%.",
                stratify,
            )
        elif name != "train" and "train" in counted and not setup.splits["train"].stream and not split.stream:
            missing, new = np.setdiff1d(counted["train"], classes), np.setdiff1d(classes, counted["train"])
            if len(new) and len(counted["train"]) > 1:
                yield (
                    f"The {split.role} data have the class {called(new)}, which no training row has: it cannot be learnt.",
                    stratify,
                    "warning",
                )
            if len(missing):
                yield (
                    f"The {split.role} data have no row of {called(missing)}, so their scores say nothing about it.",
                    stratify,
                    "warning",
                )


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
        labels, reason = (
            split.labels[np.argsort(split.index, kind="stable")],
            f"{sequential} reads them as they stand",
        )
        fix = "train_dataset = train_dataset.shuffle(seed=42), or train_sampling_strategy='random' and no sampler of your own"
    else:
        return
    labels = labels[labels != IGNORED] if labels.dtype.kind != "b" else labels
    others = {
        name: split
        for name, split in setup.splits.items()
        if name in counted and len(np.setdiff1d(counted[name], classes))
    }
    if split.stream and len(classes) == 1 and len(labels) > 1 and others:
        other = next(iter(others))
        expected = len(labels) * (setup.splits[other].labels != classes[0]).mean()
        if len(labels) < SCRIPTED_ROWS or expected >= BY_CHANCE:
            yield (
                f"The first {len(labels):,} rows of the training data are of one class, {called(classes)}, and the {others[other].role} data have "
                f"{called(counted[other])}: {reason}, so the model would learn one class, and forget it for the next.",
                fix,
            )
    elif len(labels) >= 16:
        starts = np.flatnonzero(
            np.diff(labels, prepend=labels[0] - 1 if labels.dtype.kind != "b" else ~labels[0])
        )
        runs = pd.DataFrame({"label": labels[starts], "length": np.diff(starts, append=len(labels))})
        by_chance = len(labels) * (1 - (pd.Series(labels).value_counts(normalize=True) ** 2).sum())
        if (
            len(runs) - 1 < RARELY * by_chance
            and runs.groupby("label")["length"].max().sum() > len(labels) / 2
        ):
            yield (
                f"The {f'first {len(labels):,} rows of the ' if split.stream else ''}training data come class by class ({len(runs) - 1} changes of class in "
                f"{len(labels):,} rows; by chance {by_chance:,.0f}), and {reason}: the model would learn one class, and forget it for the next.",
                fix,
                "error"
                if by_chance > RARE_CLASS * len(labels) or len(labels) < 200
                else "warning",  # a few rows in a heap are no disaster
            )


def _in_their_order(setup) -> str | None:
    """Name what makes Trainer read the training rows in the order in which they stand; None where nothing does, or where it cannot be seen."""
    trainer = copy.copy(setup.trainer)  # what the user's code sets there is not to stay
    own_loader, own_sampler = (
        getattr(getattr(trainer, name), "__func__", None) is not getattr(Trainer, name) for name in OWN_ORDER
    )
    sampler, loaders = None, trainer.accelerator._dataloaders
    before = list(loaders)
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):  # it is the user's code
        if own_loader:
            sampler = trainer.get_train_dataloader().batch_sampler.sampler
        elif setup.args.train_sampling_strategy == "sequential" or own_sampler:
            asked = inspect.signature(trainer._get_train_sampler).parameters
            sampler = (
                trainer._get_train_sampler(trainer.train_dataset) if asked else trainer._get_train_sampler()
            )
    loaders[:] = before
    if type(sampler) is not torch.utils.data.SequentialSampler:
        return None
    return (
        OWN_ORDER[0]
        if own_loader
        else OWN_ORDER[1]
        if own_sampler
        else "train_sampling_strategy='sequential'"
    )


OWN_ORDER = ("get_train_dataloader", "_get_train_sampler")


def _aligned(one: Sequence[str], other: Sequence[str]) -> str:
    """Compare two lists of class names: "same", "drift" (a name stands at two places) or "differ"."""
    one, other = ([str(name).strip().casefold() for name in names] for names in (one, other))
    if one[: len(other)] == other[: len(one)]:
        return "same"
    place = {name: i for i, name in enumerate(one)}
    return "drift" if any(place.get(name, i) != i for i, name in enumerate(other)) else "differ"


@pitfall(
    "label-map-drift",
    "P",
    "error",
    "enumerate(set(...)), one map for each split: ids change their meaning from split to split or run to run",
    "One sorted map",
)
def label_map_drift(setup):
    named = {split.role: split.class_labels for split in setup.splits.values() if split.class_labels}
    model = (
        setup.names if setup.names and not all(name.startswith("LABEL_") for name in setup.names) else None
    )
    if setup.task == "regression":
        return
    one_map = "labels = sorted(set(table['label'])); ClassLabel(names=labels) for every split, id2label=dict(enumerate(labels)) for the model"
    first = next(iter(named), None)
    for where, names in named.items():
        for other_where, other in ((first, named[first]), ("model's", model)):
            if other is not None and other_where != where and (kind := _aligned(other, names)) != "same":
                yield (
                    f"The {where} labels are {names[:8]}, in this order; the {other_where} are {other[:8]}."
                    + (
                        " The same id means two things, and the scores will be wrong."
                        if kind == "drift"
                        else " Check that they mean the same."
                    ),
                    one_map,
                    "error" if kind == "drift" else "warning",
                )
                break
    if (
        named
        or setup.train is None
        or setup.train.labels is None
        or setup.train.labels.dtype.kind not in "iu"
    ):
        return
    maps = {
        split.role: found
        for split in setup.splits.values()
        if split.labels is not None and not split.stream
        for found in [_map_of(split)]
        if found
    }
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
        if (
            name == split.label_column
            or split.type(name) is None
            or not is_text(split.type(name))
            or classes < 2
        ):
            continue
        names = split.column(name)
        if names.null_count or pc.count_distinct(names).as_py() != classes or classes == split.rows:
            continue
        pairs = set(zip(names.to_pylist(), split.labels.tolist(), strict=True))
        if len(pairs) == classes:
            return name, {str(text): int(i) for text, i in sorted(pairs)}
    return None


@pitfall(
    "label-names",
    "P",
    "warning",
    "id2label is missing or no bijection: predictions are called LABEL_0",
    "Pass id2label and label2id, omit num_labels",
)
def label_names(setup):
    if not setup.classifier or (setup.num_labels or 0) < 2:
        return
    config, both = (
        setup.config,
        "from_pretrained(..., id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)})",
    )
    names, label2id = setup.names, {str(name): int(i) for name, i in (config.label2id or {}).items()}
    if names is None or len(names) != setup.num_labels:
        yield (
            f"id2label has the ids {sorted(map(int, config.id2label))[:8]}, but the model has {setup.num_labels} outputs.",
            both,
        )
    elif len(set(names)) < len(names):
        yield f"id2label gives one name to several classes: {names[:8]}.", both
    elif names == [f"LABEL_{i}" for i in range(len(names))]:
        known = next((split.class_labels for split in setup.splits.values() if split.class_labels), None)
        hint = f" The data call them {known[:8]}." if known else ""
        yield f"The {len(names)} classes have no names: predictions will say {names[0]!r}.{hint}", both
    elif label2id != {name: i for i, name in enumerate(names)}:
        yield (
            f"label2id ({dict(list(label2id.items())[:4])}) is not the inverse of id2label ({dict(list(enumerate(names))[:4])}).",
            both,
        )


@pitfall(
    "label-noise",
    "RP",
    "warning",
    "'pos', 'pos ' and 'Pos' are three classes; a class has fewer than 5 rows",
    "Write each label in one way",
)
def label_noise(setup):
    split = setup.train
    names = (split.class_labels if split is not None else None) or setup.names or []
    for same in variants(names):
        yield (
            f"Class names that may be one class: {', '.join(map(in_escapes, same))}.",
            "Write each in one way before encoding: table['label'].map(utils.data.comparable)",
        )
    if (
        split is not None
        and setup.task == "single_label"
        and split.labels is not None
        and split.labels.dtype.kind in "iu"
        and not split.stream
    ):
        ids, counts = np.unique(split.labels[split.labels != IGNORED], return_counts=True)
        rare = [(int(i), int(n)) for i, n in zip(ids, counts, strict=True) if n < 5]
        if rare:
            shown = ", ".join(
                f"{names[i]!r} ({n})" if 0 <= i < len(names) else f"{i} ({n})" for i, n in rare[:8]
            )
            yield (
                f"{len(rare)} class(es) with fewer than 5 training rows: {shown}. So few can hardly be learnt.",
                "Collect more rows, or merge classes",
            )
