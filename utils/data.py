"""Tables of labelled text: the bundled data sets, a reader for your own file, and the split."""

from collections import Counter, defaultdict
from itertools import count
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils.findings import Finding, TableError, in_words
from utils.inputs import texts_of, tokenise
from utils.labels import MAX_CLASSES, TASKS, in_order, label_names
from utils.reading.apart import deal_apart, hold_out, leave_out_shared, remarks
from utils.reading.dealing import deal, sample
from utils.reading.same import WRONG_COLUMN, comparable, refuse_free_text, spell_alike, without_repeats
from utils.reading.table import Table, check_dropped, read_table

__all__ = ["Splits", "Table", "TableError", "read_table", "split_table", "texts_of", "tokenise"]


class Splits(NamedTuple):
    """What `split_table` returns: three frames like `Table.rows`, in file order, findings, rows dropped."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    findings: list[Finding]
    dropped: dict[str, int]


def split_table(
    table: Table,
    validation: Table | None = None,
    test: Table | None = None,
    *,
    task: str = "single_label",
    validation_share: float = 0.15,
    test_share: float = 0.15,
    max_train_samples: int | None = None,
    seed: int = 42,
) -> Splits:
    """Split into train, validation and test so that classes keep their shares and no text is in two splits.

    Texts are compared as `comparable` writes them, pairs as a whole. In `table`, a text repeated with one
    label keeps its first row; a text with two labels loses all its rows, for nobody can say which is right.
    Your own test rows are never touched: rows with the same text leave your `validation` and the training
    rows instead. `max_train_samples` keeps a stratified sample of so many training rows, with every class or
    label in it.

    A class in several spellings, such as "yes" and "Yes ", is one, written as training has it most often.
    Where the table has a `split_by`, whole groups are dealt, or the oldest rows train and the newest test;
    own files take their groups from the training rows, too. Where it has a `fold`, that is the test split.

    Each class keeps its share; in multi_label each label, the rarest dealt first (after Sechidis et al., On
    the Stratification of Multi-Label Data, 2011); in regression each of ten ranges of the value with equally
    many rows. A class with too few rows for every split goes to the training rows. A table's `max_dropped`
    limits the share of its rows that are lost; a repeat or a row not sampled is no loss.

    Raises:
        TableError: an unknown task, too many rows lost, nothing to tell apart, labels that are free text,
            more than 1,000 classes, labels that training lacks, too small a sample, or a split without rows.
    """
    if task not in TASKS:
        raise TableError(f"task={task!r} is none of {', '.join(TASKS)}.")
    target = TASKS[task].column
    tables = {"training": table, "validation": validation, "test": test}
    tables = {name: part for name, part in tables.items() if part}
    if any(target not in part.rows for part in tables.values()):
        raise TableError("The rows have no column 'value'. Read every table with task='regression'.")
    findings = list(table.findings)
    # A number for each text as compared is the index until the end, so that no column can be in its way.
    number, frames = defaultdict(count().__next__), {}
    for name, part in tables.items():
        columns = (part.rows[name] for name in ("text", "text_pair") if name in part.rows)
        keys = zip(*(map(comparable, column) for column in columns), strict=True)
        frames[name] = part.rows.set_axis([number[key] for key in keys])
    number.clear()  # it holds every text
    if TASKS[task].classes:
        spell_alike(frames, task, findings)
    if task == "single_label":
        refuse_free_text(frames["training"]["label"])
    frames["training"], left_out = without_repeats(frames["training"], target, findings)
    lost = {name: dict(part.dropped) for name, part in tables.items()}
    lost["training"] |= left_out
    findings += [finding for part in (validation, test) if part for finding in part.findings]
    leave_out_shared(frames, table.split_by, lost, findings)
    dropped = Counter()
    for name, part in tables.items():
        dropped.update(lost[name])
        lost[name].pop("repeated_text", None)
        what = f"{part.source['file']}, the {name} data" if part.source else f"The {name} data"
        check_dropped(lost[name], len(part.rows) + sum(part.dropped.values()), part.max_dropped, what)

    rng = np.random.RandomState(seed)  # NumPy has frozen its stream: a seed means the same split everywhere
    training = frames.pop("training")
    if table.fold:
        frames["test"], training = hold_out(training, table.fold, task, table.split_by, rng)
    shares = {"test": test_share, "validation": validation_share}
    shares = {name: share for name, share in shares.items() if name not in frames}
    by = table.split_by
    dealt = deal_apart(training, shares, task, by, rng) if by else deal(training, shares, task, rng)
    parts = frames | dealt
    train = parts["train"]
    classes = {name: {*label_names(part["label"].drop_duplicates(), task)} for name, part in parts.items()}
    names = classes["train"]
    _check_train(train, names, target)
    for name in ("validation", "test"):
        if parts[name].empty:
            groups = f" in {training['group'].nunique()} groups" if by == "group" else ""
            few = f"{len(training)} rows{groups} are too few. Add rows, or give a {name}_file."
            raise TableError(f"The {name} split would be empty: {few}")
        if unknown := in_order(classes[name] - names):
            labels = f"{in_words(unknown, 10)}. Correct them or add training rows."
            raise TableError(f"The {name} rows have labels that no training row has: {labels}")
        if missing := in_order(names - classes[name]):
            message = f"The {name} split has no row of {in_words(missing, 10)}."
            fix = "Its scores say nothing about these classes; add rows."
            findings.append(Finding("single-class-split", "warning", message, fix))
    findings += remarks({name: parts[name] for name in ("train", "validation", "test")}, task, by)
    if max_train_samples is not None and max_train_samples < len(train):
        if max_train_samples < (least := max(len(names), 2)):
            few = f"max_train_samples={max_train_samples} is fewer than {least} classes"
            raise TableError(f"{few}. Raise it.")
        parts["train"] = sample(train, max_train_samples, task, rng)
        dropped["not_sampled"] = len(train) - max_train_samples
    splits = (parts[name].reset_index(drop=True) for name in ("train", "validation", "test"))
    return Splits(*splits, findings, dict(dropped))


def _check_train(train: pd.DataFrame, names: set[str], target: str) -> None:
    """Refuse training rows with nothing to tell apart, or with far too many classes."""
    if len(names) > MAX_CLASSES:
        classes = f"{len(names):,} classes, more than {MAX_CLASSES:,}: {in_words(in_order(names), 3)}"
        raise TableError(f"The training rows have {classes}. {WRONG_COLUMN}")
    if train[target].nunique() < 2:
        label = f"the same label, {train['label'].iloc[0]!r}" if len(train) else "no label"
        reason = f"All {len(train):,} training rows have {label}: there is nothing to tell apart"
        raise TableError(f"{reason}. Add rows with other labels.")
