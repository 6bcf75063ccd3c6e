"""Tables of labelled text: the bundled data sets, a reader for your own file, and the split."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from utils.findings import Finding, TableError, rows_in_words
from utils.labels import MAX_CLASSES, SEPARATOR, TASKS, in_order, label_names, normalise
from utils.reading.table import Table, check_dropped, read_table

__all__ = ["Splits", "Table", "TableError", "read_table", "split_table"]


class Splits(NamedTuple):
    """What `split_table` returns: three frames shaped like `Table.rows`, in file order, with findings and drop counts."""

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
    max_dropped: float = 0.5,
    seed: int = 42,
) -> Splits:
    """Split into train, validation and test so that every class keeps its share and no text is in two splits.

    Texts are compared as `comparable` writes them: capitals, blanks, Unicode's forms and characters that nobody sees aside. In `table`, a text repeated with one label keeps its first row; a text with two labels
    loses all its rows, for nobody can say which is right. Where you bring your own `validation` or `test`, the test rows are never touched:
    rows with the same text leave the validation and the training rows instead. `max_train_samples` keeps a stratified sample of exactly so many
    training rows, in which every class or label has at least one.

    What keeps its share is, by task, each class; each label, the rarest dealt first (after Sechidis et al., On the Stratification of Multi-Label
    Data, 2011); each of ten ranges of the value with equally many rows. A class with too few rows for every split goes to the training rows.

    `max_dropped` limits the share of a table's rows that are lost: blank ones, contradictions, and texts that are in the validation or test file.
    A repeat or a row not sampled is no loss.

    Raises:
        TableError: more rows lost than `max_dropped` allows; training rows with nothing to tell apart (fewer than two classes or values) or
            more than 1,000 classes; labels in validation or test that training does not have; a split without rows.
    """
    if task not in TASKS:
        raise TableError(f"task={task!r} is none of {', '.join(TASKS)}.")
    given = {
        name: part for name, part in (("training", table), ("validation", validation), ("test", test)) if part
    }
    if task == "regression" and any("value" not in part.rows for part in given.values()):
        raise TableError("The rows have no column 'value'. Read every table with task='regression'.")
    findings, dropped = list(table.findings), dict(table.dropped)
    # The text as compared is the index until the end, so that no column of the table can be in its way.
    frames = {name: part.rows.set_axis(normalise(part.rows["text"]), axis=0) for name, part in given.items()}
    rows = frames["training"]

    labels_of_text = (
        rows["value" if task == "regression" else "label"]
        .groupby(level=0, sort=False)
        .transform("nunique")
        .to_numpy()
    )
    conflict = rows[labels_of_text > 1]
    if len(conflict):
        example = conflict.iloc[0]
        seen = sorted(set(conflict.loc[conflict.index == conflict.index[0], "label"]))
        message = f"{rows_in_words(conflict['row'])} hold texts that carry two labels, for example {example['text'][:60]!r}: {', '.join(map(repr, seen))}. All are left out."
        findings.append(
            Finding("conflicting-labels", "warning", message, "Decide on one label for each text.")
        )
    rows = rows[labels_of_text <= 1]
    repeated = rows.index.duplicated()
    if repeated.any():
        message = f"{rows_in_words(rows.loc[repeated, 'row'])} repeat an earlier text with the same label and are left out."
        findings.append(
            Finding(
                "repeated-text",
                "warning",
                message,
                "Nothing to do: kept twice, they could end up in two splits.",
            )
        )
    dropped |= {"conflicting_labels": len(conflict), "repeated_text": int(repeated.sum())}
    frames["training"] = rows[~repeated]

    for part in (validation, test):
        if part:
            findings += part.findings
            for reason, count in part.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
    lost = {name: dict(part.dropped) for name, part in given.items()}
    lost["training"]["conflicting_labels"] = len(conflict)
    for keep, name in (("test", "validation"), ("validation", "training"), ("test", "training")):
        if keep in frames and name in frames:
            shared = frames[name].index.isin(frames[keep].index)
            dropped[f"{name}_text_in_{keep}"] = lost[name][f"{name}_text_in_{keep}"] = int(shared.sum())
            if shared.any():
                message = f"{rows_in_words(frames[name].loc[shared, 'row'])} of the {name} data are also in the {keep} file and are left out of {name}."
                findings.append(
                    Finding(
                        "split-leak",
                        "warning",
                        message,
                        "A text seen in training makes its test score worthless.",
                    )
                )
            frames[name] = frames[name][~shared]
    for name, part in given.items():
        what = f"{part.source['file']}, the {name} data" if part.source else f"The {name} data"
        check_dropped(lost[name], len(part.rows) + sum(part.dropped.values()), max_dropped, what)

    rng = np.random.RandomState(
        seed
    )  # RandomState's stream is frozen by NumPy, so a seed means the same split everywhere
    shares = {
        name: share
        for name, share in (("test", test_share), ("validation", validation_share))
        if name not in frames
    }
    training = frames.pop("training")
    parts = frames | _deal(training, shares, task, rng)
    classes = {
        name: set() if task == "regression" else set(label_names(frame["label"], task))
        for name, frame in parts.items()
    }
    train, names = parts["train"], classes["train"]
    _check_train(train, names, task)
    for name in ("validation", "test"):
        if parts[name].empty:
            raise TableError(
                f"The {name} split would be empty: {len(training)} rows are too few. Add rows, or give a {name}_file."
            )
        unknown = in_order(classes[name] - names)
        if unknown:
            raise TableError(
                f"The {name} rows have labels that no training row has: {', '.join(map(repr, unknown[:10]))}. Correct them or add training rows."
            )
        missing = in_order(names - classes[name])
        if missing:
            message = f"The {name} split has no row of {', '.join(map(repr, missing[:10]))}."
            findings.append(
                Finding(
                    "single-class-split",
                    "warning",
                    message,
                    "Its scores say nothing about these classes; add rows.",
                )
            )
    if max_train_samples is not None and max_train_samples < len(train):
        if max_train_samples < max(len(names), 2):
            raise TableError(
                f"max_train_samples={max_train_samples} is fewer than the {max(len(names), 2)} classes. Raise it."
            )
        parts["train"] = _sample(train, max_train_samples, task, rng)
        dropped["not_sampled"] = len(train) - max_train_samples
    return Splits(
        *(parts[name].reset_index(drop=True) for name in ("train", "validation", "test")), findings, dropped
    )


def _check_train(train: pd.DataFrame, names: set[str], task: str) -> None:
    if task == "single_label" and len(names) < 2:
        raise TableError(
            f"The training rows have {len(names)} class(es): {', '.join(sorted(names)) or 'none'}. A classifier needs at least two."
        )
    if len(names) > MAX_CLASSES:
        raise TableError(
            f"The training rows have {len(names):,} classes, more than {MAX_CLASSES:,}: {', '.join(map(repr, in_order(names)[:3]))}, ... "
            f"Is label_column the right one? Numbers are for task='regression'; otherwise merge classes."
        )
    if task != "single_label" and train["value" if task == "regression" else "label"].nunique() < 2:
        shown = f"the same label, {train['label'].iloc[0]!r}" if len(train) else "no label"
        raise TableError(
            f"All {len(train):,} training rows have {shown}: there is nothing to tell apart. Add rows with other labels."
        )


def _deal(
    rows: pd.DataFrame,
    shares: dict[str, float],
    task: str,
    rng: np.random.RandomState,
    at_least_one: bool = False,
) -> dict[str, pd.DataFrame]:
    """Deal each group's shuffled rows out by share; the rest is "train". Row order is kept.

    scikit-learn's stratified split refuses classes of one row, and more classes than rows to deal; tables have both. In multi_label, where a row
    is in several groups, a group deals what the groups before it have left, counting what they have given to each part.
    """
    names = [*shares, "train"]
    place = np.full(len(rows), -1)  # of each row, the part it goes to
    groups = _groups(rows, task)
    for group in groups:
        free = rng.permutation(group[place[group] < 0])
        enough = len(group) > len(shares) or at_least_one  # one row for each part, training included
        for k, share in enumerate(shares.values()):
            count = max(1, round(len(group) * share)) - np.count_nonzero(place[group] == k) if enough else 0
            place[free[: max(0, count)]] = k
            free = free[max(0, count) :]
        place[free] = len(shares)
    if task == "multi_label":
        _mend(place, groups, parts=len(shares), essential=0 if at_least_one else len(shares))
    return {name: rows[place == k] for k, name in enumerate(names)}


def _mend(place: np.ndarray, groups: list[np.ndarray], parts: int, essential: int) -> None:
    """Move single rows so that the part the model learns from has every label, and then every other part too, where training can spare a row."""
    for group in groups:
        if not (place[group] == essential).any():
            place[group[0]] = essential
    if essential < parts:  # a sample: nobody looks at the rows outside it
        return
    for group in groups:
        for k in range(parts):
            if len(group) > parts and not (place[group] == k).any():
                learnt = group[place[group] == essential]
                spare = (
                    row
                    for row in learnt[:100]
                    if all(
                        np.count_nonzero(place[other] == essential) > 1 for other in groups if row in other
                    )
                )
                if (row := next(spare, None)) is not None:
                    place[row] = k


def _sample(rows: pd.DataFrame, wanted: int, task: str, rng: np.random.RandomState) -> pd.DataFrame:
    """Return exactly `wanted` rows, in which each group keeps its share and, but for regression, at least one row. Row order is kept.

    Rounding each group's rows gives a few too many or too few: they are taken away or added one by one where the groups are furthest from their
    share. The last row of a label stays, and so many rows as there are labels are enough to have them all.
    """
    share = wanted / len(rows)
    dealt = _deal(rows, {"kept": share}, task, rng, at_least_one=True)["kept"]
    surplus = len(dealt) - wanted
    if not surplus:
        return dealt
    kept, groups = rows.index.isin(dealt.index), _groups(rows, task)
    of_row: list[list[int]] = [[] for _ in kept]
    over = np.zeros(
        len(rows)
    )  # of each row, by how many rows its groups are over their share; under, where rows are added
    sign = 1 if surplus > 0 else -1
    for k, group in enumerate(groups):
        over[group] += sign * (kept[group].sum() - share * len(group))
        for row in group:
            of_row[row].append(k)
    essential = (
        set() if task == "regression" or surplus < 0 else set(range(min(wanted, len(groups))))
    )  # the rows without any label come last
    able = kept == (surplus > 0)
    for k in essential:
        able[groups[k]] &= kept[groups[k]].sum() > 1
    for _ in range(abs(surplus)):
        row = rng.choice(np.flatnonzero(able & (over == over[able].max())))
        kept[row], able[row] = surplus < 0, False
        for k in of_row[row]:
            over[groups[k]] -= 1
            if k in essential and kept[groups[k]].sum() == 1:
                able[groups[k]] = False
    return rows[kept]


def _groups(rows: pd.DataFrame, task: str) -> list[np.ndarray]:
    """Return the positions of the rows that share a class, a label (the rarest first; rows without one last), or a tenth of the range of values."""
    if task == "regression":
        return np.array_split(
            np.argsort(rows["value"].to_numpy(), kind="stable"), max(1, min(10, len(rows) // 10))
        )
    classes = rows.groupby(rows["label"].to_numpy()).indices
    if task == "single_label":
        return [positions for _, positions in sorted(classes.items())]
    groups: dict[str, list] = {}
    for joined, positions in sorted(classes.items()):
        for name in joined.split(SEPARATOR):
            groups.setdefault(name, []).append(positions)
    whole = {name: np.sort(np.concatenate(positions)) for name, positions in groups.items()}
    return [whole[name] for name in sorted(whole, key=lambda name: (name == "", len(whole[name]), name))]
