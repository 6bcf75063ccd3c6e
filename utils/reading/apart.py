"""Splits of rows that belong together: whole groups, the past before what comes later, folds.

The columns that say so are read here, too.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from utils.findings import Finding, TableError, did_you_mean, in_words, rows_in_words
from utils.labels import TASKS, rows_of_label
from utils.reading.dealing import strata
from utils.reading.same import comparable

YEAR = re.compile(r"\d{4}")
REMEDY = "Write the year, the month and the day, such as 2024-03-31 or 2024-03-31T18:30."


def split_column(frame: pd.DataFrame, group_column: str | None, time_column: str | None, path: Path):
    """Return "group" or "time" and that column of the rows to be; "" and None where neither is asked for.

    A group is its name as `comparable` writes it. Times are numbers where all cells are, else moments in UTC.

    Raises:
        TableError: the column is missing, a cell is blank, or a time cannot be read in one way only.
    """
    name, kind = group_column or time_column, "group" if group_column else "time"
    if name is None:
        return "", None
    if name not in frame:
        advice = f"{did_you_mean(name, frame.columns)} Set {kind}_column.".strip()
        raise TableError(
            f"{path.name} has no column {name!r}; it has {in_words(frame.columns, 30)}. {advice}"
        )
    cells = frame[name].map(lambda cell: "" if cell is None or cell != cell else str(cell).strip())
    if (blank := cells == "").any():
        where = f"{rows_in_words(cells.index[blank])} blank in column {name!r}"
        raise TableError(f"{path.name}: {where}. Fill in every {kind}, or delete these rows.")
    if kind == "group":  # typed numbers are floats in one file and integers in another
        return kind, cells.map(lambda cell: comparable(cell).removesuffix(".0"))
    return kind, _moments(cells, path)


def _moments(cells: pd.Series, path: Path) -> pd.Series:
    """Return the times in cells, float64 or datetimes in UTC; refuse what can be read in two ways."""
    numbers = pd.to_numeric(cells, errors="coerce")
    if np.isfinite(numbers).all():
        return numbers.astype(float)

    def read(texts: pd.Series, **how) -> pd.Series:
        return pd.to_datetime(texts, utc=True, errors="coerce", **how).dt.tz_localize(None).dt.as_unit("us")

    times = read(cells, format="ISO8601")
    if not (late := times.isna()).any():
        return times
    which, odd = pd.factorize(cells[late])
    odd = pd.Series(odd, dtype=str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own remarks on the two ways to read a date
        month_first, day_first = (read(odd, format="mixed", dayfirst=first) for first in (False, True))
    no_date = month_first.isna() | ~odd.str.contains(YEAR)
    for wrong, why in ((no_date, "is no date"), (month_first != day_first, "may have day or month first")):
        if wrong.any():
            rows = cells.index[cells.isin(odd[wrong])]
            place = f"{path.name}, row {rows[0]}, column {cells.name!r}: {cells[rows[0]][:60]!r} {why}"
            more = f" (as in {rows_in_words(rows)})" if len(rows) > 1 else ""
            raise TableError(f"{place}{more}. {REMEDY}")
    times[late] = month_first.to_numpy()[which]
    return times


def leave_out_shared(frames: dict[str, pd.DataFrame], by: str, lost: dict, findings: list[Finding]) -> None:
    """Take out of `frames` what a later one of your own files has, too: the text, or the row's group.

    Texts are compared by the index of the frames. Counts go to `lost`, by frame and reason.
    """
    if by and any(by not in frame for frame in frames.values()):
        raise TableError(f"The rows have no column {by!r}. Read every table with the same {by}_column.")
    if by == "time" and len({frame["time"].dtype.kind for frame in frames.values()}) > 1:
        raise TableError(
            "The time is a number in one file and a date in another. Write all of them as dates."
        )
    for keep, name in (("test", "validation"), ("validation", "training"), ("test", "training")):
        if keep not in frames or name not in frames:
            continue
        frame, kept = frames[name], frames[keep]
        shared = {"text": frame.index.isin(kept.index)}
        if by == "group":
            shared["group"] = frame["group"].isin(kept["group"]).to_numpy() & ~shared["text"]
        for what, rows in shared.items():
            lost[name][f"{name}_{what}_in_{keep}"] = int(rows.sum())
            if rows.any():
                are = "are also in" if what == "text" else "belong to groups of"
                message = f"{rows_in_words(frame.loc[rows, 'row'])} of the {name} data {are} the {keep} file"
                fix = f"A {what} seen in training makes its test score worthless."
                findings.append(
                    Finding("split-leak", "warning", f"{message} and are left out of {name}.", fix)
                )
        frames[name] = frame[~np.logical_or.reduce([*shared.values()])]


def deal_apart(rows: pd.DataFrame, shares: dict, task: str, by: str, rng: np.random.RandomState) -> dict:
    """Deal rows as `deal` does: by whole groups, or in the order of time, the newest to the first share."""
    if by == "time":
        return _deal_times(rows, shares)
    unit, names = pd.factorize(rows["group"])[0], [*shares, "train"]
    place = _deal_units(unit, strata(rows, task), [*shares.values(), 1 - sum(shares.values())], rng)
    _teach_all(place, len(shares), unit, rows, task)
    return {name: rows[place[unit] == k] for k, name in enumerate(names)}


def _deal_times(rows: pd.DataFrame, shares: dict) -> dict:
    moments, counts = np.unique(rows["time"].to_numpy(), return_counts=True)
    if len(moments) <= len(shares):
        raise TableError(f"The rows have {len(moments)} different times: too few for the splits to be made.")
    upto, parts, rest = np.append(0, counts.cumsum()), {}, len(moments)  # rows before each moment
    place = np.searchsorted(moments, rows["time"].to_numpy())
    for left, (name, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
        first = np.abs(upto[left:rest] - (upto[rest] - share * len(rows))).argmin() + left
        parts[name], rest = rows[(place >= first) & (place < rest)], first
    return parts | {"train": rows[place < rest]}


def hold_out(rows: pd.DataFrame, fold: tuple[int, int], task: str, by: str, rng: np.random.RandomState):
    """Return fold number k of n, (k, n) from 0 on, and the other rows; the same folds for the same seed.

    All rows are in one fold each, but for a label of one row or group: that is never held out.
    """
    number, folds = fold
    unit = pd.factorize(rows["group"])[0] if by == "group" else np.arange(len(rows))
    if not 0 <= number < folds or unit.max(initial=-1) + 1 < folds:
        there = f"{unit.max(initial=-1) + 1:,} {'groups' if by == 'group' else 'rows'}"
        raise TableError(f"There is no fold {number} of {folds} (from 0 on) of {there}. Lower fold or folds.")
    place = (_deal_units(unit, strata(rows, task), [1 / folds] * folds, rng) != number).astype(int)
    _teach_all(place, 1, unit, rows, task)
    held = place[unit] == 0
    return rows[held], rows[~held]


def _deal_units(unit: np.ndarray, labels: list[np.ndarray], shares, rng: np.random.RandomState) -> np.ndarray:
    """Return the part that each unit (a group, or a row) goes to: the largest first, where it helps most.

    As scikit-learn's StratifiedGroupKFold, for parts of any shares: what is made small is the chi-square
    distance of the parts' rows of each label, and of all labels, from their shares. No part stays empty.

    Args:
        unit: the number of each row's unit, from 0 on, shape (rows,).
        labels: the positions of the rows of each label, as `strata` returns them.
    """
    labels, shares = [*labels, np.arange(len(unit))], np.array(shares)
    pairs = np.concatenate([unit[rows] * len(labels) + k for k, rows in enumerate(labels)])
    pairs, counts = np.unique(pairs, return_counts=True)
    of, column = np.divmod(pairs, len(labels))
    held = counts / np.array([len(rows) for rows in labels])[column]  # of a label's rows, what a unit holds
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    order = rng.permutation(len(begins))
    order = order[np.argsort(-np.add.reduceat(held, begins)[order], kind="stable")]
    ends, place, empty = (
        np.append(begins[1:], len(of)),
        np.empty(len(begins), int),
        np.ones(len(shares), bool),
    )
    missing = np.repeat(shares[:, None], len(labels), axis=1)
    for left, one in zip(range(len(order), 0, -1), order, strict=True):
        part, columns = held[begins[one] : ends[one]], column[begins[one] : ends[one]]
        gain = ((2 * missing[:, columns] - part) * part).sum(axis=1) / shares
        if left <= empty.sum():
            gain[~empty] = -np.inf
        best = gain.round(12).argmax()  # rounded: the same everywhere
        place[one], empty[best] = best, False
        missing[best, columns] -= part
    return place


def _teach_all(place: np.ndarray, train: int, unit: np.ndarray, rows: pd.DataFrame, task: str) -> None:
    """Move single units to the part number `train` until it has every label."""
    sizes = np.bincount(unit)
    for label in strata(rows, task) if TASKS[task].classes else ():
        units = unit[label]
        if (place[units] != train).all():
            place[units[sizes[units].argmin()]] = train


def remarks(parts: dict[str, pd.DataFrame], task: str, by: str) -> Iterator[Finding]:
    """Say which times went where, or how well groups could be dealt; `parts` has train, validation, test."""
    if by == "time":
        spans = {
            name: [_in_words(moment) for moment in (part["time"].min(), part["time"].max())]
            for name, part in parts.items()
        }
        where = "; ".join(f"{name} {first} to {last}" for name, (first, last) in spans.items())
        yield Finding("time-split", "warning", f"The rows by time: {where}.", "Nothing to do.")
        for name in ("validation", "test"):
            part, newest = parts[name], parts["train"]["time"].max()
            if (older := part["time"] < newest).any():
                rows = rows_in_words(part.loc[older, "row"])
                message = f"{rows} of the {name} rows are older than the newest training row"
                fix = "A model that will label new texts has to be tested on texts newer than its own."
                yield Finding("time-split", "warning", f"{message} ({spans['train'][1]}).", fix)
    elif by == "group":
        table = pd.concat(parts, names=["part"]).reset_index("part")
        if TASKS[task].classes:
            labels = table["label"]
        else:
            tenths = pd.qcut(table["value"], 10, duplicates="drop").astype(str)
            labels, task = "values in " + tenths, "single_label"
        shares = pd.DataFrame(
            {name: rows_of_label(labels[table["part"] == name], task) / len(parts[name]) for name in parts}
        )
        apart = (shares := shares.fillna(0)).max(axis=1) - shares.min(axis=1)
        worst = shares.loc[apart.idxmax()].map("{:.1%}".format)
        counts = ", ".join(f"{part['group'].nunique():,} in {name}" for name, part in parts.items())
        farthest = ", ".join(f"{share} in {name}" for name, share in worst.items())
        message = f"No group is in two splits; there are {counts}. Of all labels, "
        message += f"the shares of {apart.idxmax()!r} differ most: {farthest}."
        fix = "Nothing to do. With few test groups the score hangs on which they are: try other seeds."
        yield Finding("group-split", "warning", message, fix)


def _in_words(moment) -> str:
    return (
        f"{moment:.15g}" if isinstance(moment, float) else f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    )
