"""From the rows of a file to texts with labels: what is dropped, what is refused, what is only remarked on."""

import math
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils import find_input
from utils.findings import Finding, TableError, rows_in_words
from utils.labels import (
    NO_LABEL,
    SEPARATOR,
    TASKS,
    UNSEEN,
    comparable,
    in_escapes,
    in_order,
    rows_of_label,
    variants,
)
from utils.reading.bundled import BUNDLED, DATA_DIR, fetch
from utils.reading.files import free_name, read_frame

NA_WORDS = frozenset(  # what pandas.read_csv takes for missing, and a table may mean
    [
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)


# A list, tuple or set of texts or numbers as Python, JSON or NumPy (which puts no commas) prints it; (1) and ("so") are none.
_QUOTED = r"""(?:np\.str_\()?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)?"""
_ITEM = rf"(?:{_QUOTED}|[+-]?\d+(?:\.\d*)?|None|null|nan)"
_ITEMS = rf"\s*(?:{_ITEM}(?:[\s,]+{_ITEM})*[\s,]*)?"
PRINTED = re.compile(
    rf"\s*(?:\w+\()?(?:\[{_ITEMS}\]|\{{{_ITEMS}\}}|\((?=\s*\)|.*,){_ITEMS}\))(?:[\w\s,=.'<|]*\))?\s*"
)


class Table(NamedTuple):
    """What `read_table` returns.

    rows: one line a usable row, in the order of the file: `row` (its number in the file, the first below the header is 1),
        `text`, `label` (both str), for regression `value` (the label as a float), then the file's other columns.
    findings: remarks that did not stop the reading.
    dropped: how many rows were left out, by reason.
    source: how the file was read: `file` (its name), `encoding`, `delimiter` (None where a format has none) and `rows` (all of them,
        those left out included). None for a table that was not read from a file.
    """

    rows: pd.DataFrame
    findings: list[Finding]
    dropped: dict[str, int]
    source: dict | None = None


def locate(data_file: str | Path) -> Path:
    """Return the file behind a bundled name (fetched if need be) or a path to read."""
    if str(data_file) in BUNDLED:
        fetch()
        return DATA_DIR / f"{data_file}.csv"
    try:
        return find_input(data_file)
    except (OSError, ValueError) as error:  # not there; or a path that no system takes
        raise TableError(f"{error} The bundled sets are called {', '.join(BUNDLED)}.") from None


def read_table(
    data_file: str | Path,
    text_column: str = "text",
    label_column: str | list[str] = "label",
    *,
    task: str = "single_label",
    encoding: str | None = None,
    delimiter: str | None = None,
    max_dropped: float = 0.5,
) -> Table:
    """Read labelled texts from a bundled set (by name) or from a CSV, TSV, JSONL or Parquet file, plain or gzipped.

    Every value of a CSV is read as the text it is: "NA" and "None" are words, 007 keeps its zeros. Encoding (a byte order mark's, else UTF-8,
    else what the bytes look like, in doubt cp1252) and delimiter (the one that yields the columns asked for) are recognised unless you
    name them; `Table.source` says what was found. Blank texts and labels are dropped and counted, and so are rows that repeat the header; if
    the dropped are more than the share `max_dropped` of all rows, the table is refused.

    `label` depends on the task:
        single_label: the text in `label_column`. Typed files: whole numbers without ".0", booleans as True and False; the names of the classes
            where `datasets` wrote a Parquet file with them.
        multi_label: the row's labels joined by "|", in the order of `label_names`. `label_column` is a column in which they are joined by "|"
            (blanks around the bar do not count, nor does a label repeated) or, in JSONL and Parquet, lists; or it is a list of columns named
            like the labels that hold 0 or 1 (or 0.0, 1.0, true, false). An empty list and a row of zeros are a row with no label, and `label` is "".
            A list that a program printed into a cell ("['a', 'b']") is refused.
        regression: the text of a finite number; the column `value` beside it has it as a float. Points that seem to part thousands (971 and
            1.032) are remarked on, and refused where semicolons part the columns.

    Labels that a reader would take for one (see `comparable`) stay as they are, and are remarked on.

    Raises:
        TableError: it cannot be read rightly; the message names the file, the row, column or value, and the remedy.
    """
    if task not in TASKS:
        raise TableError(f"task={task!r} is none of {', '.join(TASKS)}.")
    if not 0 <= max_dropped <= 1:
        raise TableError(f"max_dropped={max_dropped!r} must be a share of the rows, from 0 to 1.")
    label_columns = _label_columns(text_column, label_column, task)
    path = locate(data_file)
    joined = task == "multi_label" and isinstance(label_column, str)
    frame, source, findings = read_frame(
        path,
        [text_column, *label_columns],
        encoding=encoding,
        delimiter=delimiter,
        class_names=task == "single_label" or joined,  # else the numbers are what counts
        listed=label_column if joined else None,
    )
    number = pd.Series(frame.index + 1)
    frame = frame.reset_index(drop=True)

    ours = {"row", "text", "label"} | ({"value"} if task == "regression" else set())
    others = frame.drop(columns=[text_column, *label_columns])
    others = others.rename(
        columns={name: free_name(f"{name}_in_file", {*others.columns}) for name in ours if name in others}
    )
    blank_text = _blank(frame[text_column])
    blank_label = ~blank_text & np.logical_and.reduce(
        [_blank(frame[name], SEPARATOR if joined else "") for name in label_columns]
    )
    for blank, id, fix in (
        (blank_text, "empty-text", "Fill in or delete."),
        (
            blank_label,
            "empty-label",
            "To keep a row as one without any label, give the labels as 0/1 columns."
            if joined
            else "Fill in or delete.",
        ),
    ):
        if blank.any():
            column = repr(text_column) if id == "empty-text" else " and ".join(map(repr, label_columns))
            findings.append(
                Finding(
                    id,
                    "warning",
                    f"{path.name}: {rows_in_words(number[blank])} blank in column {column} and left out.",
                    fix,
                )
            )
    used = ~(blank_text | blank_label)
    if not used.any():
        raise TableError(
            f"{path.name}: no row has both a text and a label. Fill the columns {text_column!r} and {', '.join(map(repr, label_columns))}, or name others."
        )
    dropped = {"blank_text": int(blank_text.sum()), "blank_label": int(blank_label.sum())}
    dropped |= {"repeated_header": source["rows"] - len(frame)} if len(frame) < source["rows"] else {}
    check_dropped(dropped, source["rows"], max_dropped, path.name)

    raw = frame.loc[used, label_columns].set_axis(number[used], axis=0)
    label = raw[label_columns[0]].to_numpy()
    if task == "multi_label":
        label = (
            _joined(raw[label_columns[0]], path, findings)
            if joined
            else _joined_from_columns(raw, path, findings)
        )
    rows = pd.DataFrame(
        {
            "row": number[used].to_numpy(),
            "text": frame.loc[used, text_column].array,
            "label": pd.array(label, dtype=str),
        }
    )
    if task == "regression":
        rows["value"] = _numbers(raw[label_columns[0]], path, source["delimiter"], findings)
    rows = pd.concat([rows, others[used].reset_index(drop=True)], axis=1)
    findings += _na_findings(rows, number[blank_label], text_column, label_columns, task, path)
    if task != "regression":
        findings += _label_findings(rows["label"], task, path)
    if joined and not rows["label"].str.contains(SEPARATOR, regex=False).any():
        fix = f"Labels are joined by {SEPARATOR!r}; if yours are joined by another sign, replace it."
        findings.append(
            Finding("label-noise", "warning", f"{path.name}: no row has more than one label.", fix)
        )
    return Table(rows, findings, dropped, source)


def _label_columns(text_column: str, label_column: str | list[str], task: str) -> list[str]:
    """Return the label columns as a list, after looking at the names alone."""
    names = [label_column] if isinstance(label_column, str) else label_column
    if (
        not isinstance(text_column, str)
        or not isinstance(names, (list, tuple))
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise TableError(
            f"text_column={text_column!r} and label_column={label_column!r} must be names of columns (for 0/1 columns a list of names)."
        )
    if names is label_column and task != "multi_label":
        raise TableError(
            f"label_column={label_column!r} names several columns, which only task='multi_label' has. Name one column."
        )
    if text_column in names:
        raise TableError(
            f"text_column and label_column are both {text_column!r}. Name two different columns."
        )
    for name in names:
        if names is label_column and (names.count(name) > 1 or SEPARATOR in name or not name.strip()):
            why = (
                "is named twice"
                if names.count(name) > 1
                else f"is blank or holds {SEPARATOR!r}, which joins labels"
            )
            raise TableError(f"label_column: {name!r} {why}. Rename the column, or name it once.")
    return list(names)


def _blank(column: pd.Series, ignore: str = "") -> np.ndarray:
    # Python's idea of white space on every version of pandas, and the one that `normalise` has
    return np.fromiter(
        (not (text.replace(ignore, "") if ignore else text).strip() for text in column), bool, len(column)
    )


def check_dropped(dropped: dict[str, int], rows: int, max_dropped: float, what: str) -> None:
    lost = sum(dropped.values())
    if lost > max_dropped * rows:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items() if count)
        raise TableError(
            f"{what}: {lost:,} of {rows:,} rows would be left out ({reasons}), more than max_dropped={max_dropped} allows. "
            f"Mend them, or raise max_dropped if they may go."
        )


def _number(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)  # Python reads 1_000 as a number; nobody else does
    except ValueError:
        return math.nan


def _numbers(labels: pd.Series, path: Path, delimiter: str | None, findings: list[Finding]) -> np.ndarray:
    """Return the labels (indexed by row number) as float64, if it is plain what the points in them mean."""
    values = np.fromiter(map(_number, labels), float, len(labels))
    wrong = labels[~np.isfinite(values)]
    if len(wrong):
        first = wrong.iloc[0]
        more = f" ({rows_in_words(wrong.index)} are not)" if len(wrong) > 1 else ""
        remedy = _rewritten(first) or "Correct it, or leave the cell empty to have the row left out."
        raise TableError(
            f"{path.name}, row {wrong.index[0]}, column {labels.name!r}: {first[:60]!r} is no finite number{more}. {remedy}"
        )
    # Decimals have sometimes fewer digits than three, or, where a program writes three always, no value without a point. Typed numbers are plain.
    has_point = labels.str.contains(".", regex=False).to_numpy(bool)
    pointed, whole = labels[has_point], labels[~has_point]
    if (
        delimiter is not None
        and len(pointed)
        and len(whole)
        and pointed.str.fullmatch(r"\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*").all()
    ):
        example = pointed.iloc[0].strip()
        message = (
            f"column {labels.name!r}: where there is a point, exactly three digits follow ({example!r}, {rows_in_words(pointed.index)}), and the others have none "
            f"({whole.iloc[0].strip()!r}): it seems to part thousands."
        )
        fix = f"If so, write {example.replace('.', '')}; if it marks decimals, give one of them a zero more: {example}0."
        # What spreadsheets write where a point parts thousands. Means of three raters (1.333) are small, and the whole numbers among them no larger.
        most, most_whole = np.abs(values[has_point]).max(), np.abs(values[~has_point]).max()
        if delimiter == ";" and (most >= 10 or most_whole > math.ceil(most)):
            raise TableError(f"{path.name}, {message} {fix}")
        findings.append(Finding("thousands", "warning", f"{path.name}, {message}", fix))
    return values


def _rewritten(text: str) -> str | None:
    """Return the advice to write a number as Python reads it; None where `text` does not look like one."""
    bare = (
        "".join(c for c in UNSEEN.sub("", text) if c not in "%\u2030" and unicodedata.category(c) != "Sc")
        .replace("\N{MINUS SIGN}", "-")
        .strip()
    )
    if either := re.fullmatch(r"([+-]?[1-9]\d{0,2})([.,])(\d{3})", bare):
        return f"If {either[2]!r} parts thousands, write {either[1]}{either[3]}; if it marks decimals, write a point, and a zero more at the end."
    grouped = re.fullmatch(r"([+-]?[1-9]\d{0,2}([.,'\u2019_\s])\d{3}(?:\2\d{3})*)(?:([.,])(\d+))?", bare)
    if grouped and grouped[2] != grouped[3]:
        bare = re.sub(r"[.,'\u2019_\s]", "", grouped[1]) + (f".{grouped[4]}" if grouped[4] else "")
    elif re.fullmatch(r"[+-]?\d*,\d+", bare):
        return f"Write decimals with a point: {bare.replace(',', '.')}."
    return f"Write {bare}." if math.isfinite(_number(bare)) else None


def _joined(labels: pd.Series, path: Path, findings: list[Finding]) -> list[str]:
    """Write labels joined by "|" in one way: no blanks around the bar, each label once, in the order of `label_names`."""
    sets = {
        text: {name.strip() for name in text.split(SEPARATOR)} - {"", NO_LABEL} for text in labels.unique()
    }
    names = set().union(*sets.values())
    _check_spelling(labels, names, path, findings)
    order = {name: k for k, name in enumerate(in_order(names))}
    written = {text: SEPARATOR.join(sorted(names, key=order.get)) for text, names in sets.items()}
    return [written[text] for text in labels]


def _check_spelling(labels: pd.Series, names: set[str], path: Path, findings: list[Finding]) -> None:
    """Refuse labels that are printed lists or a 0 or 1 for each label, and remark on those that would be several if they were joined by another sign."""

    def refuse(text: str, what: str) -> None:
        raise TableError(
            f"{path.name}, row {labels.index[labels == text][0]}, column {labels.name!r}: {text[:60]!r} is {what}"
        )

    def is_vector(items: list[str]) -> bool:  # "0|1|0": no name stands twice
        return len(items) > len({*items}) and {item.strip().casefold() for item in items} <= {
            "0",
            "1",
            "0.",
            "1.",
            "true",
            "false",
        }

    columns = "give each label a column of its own, with 0 or 1, and name them all as label_column."
    if vector := next((text for text in labels.unique() if is_vector(text.split(SEPARATOR))), None):
        refuse(vector, f"a 0 or 1 for each label. Write the names of those that are 1, or {columns}")
    if printed := next((text for text in labels.unique() if PRINTED.fullmatch(text)), None):
        items = [
            item.removeprefix("np.str_(").strip("'\")")
            for item in re.findall(_ITEM, printed.split("dtype=")[0])
        ]
        joined = f"Join the labels by {SEPARATOR!r}: {SEPARATOR.join(items)}."
        refuse(
            printed, f"a printed list. {joined if items and not is_vector(items) else columns.capitalize()}"
        )
    parts = {
        name: [
            part
            for part in (part.strip(" []{}()'\"") for part in re.split(r"[,;/+&\t\n，、；،؛]", name))
            if part
        ]
        for name in names
    }
    known = {comparable(parts[name][0]) for name in names if len(parts[name]) == 1}
    several = [
        name
        for name in in_order(names)
        if len(parts[name]) > 1 and known.issuperset(map(comparable, parts[name]))
    ]
    if several:
        shown = ", ".join(map(repr, several[:5])) + (
            f" and {len(several) - 5} more" if len(several) > 5 else ""
        )
        message = f"{path.name}: column {labels.name!r} has labels whose parts are labels, too: {shown}. Each is read as one label."
        fix = f"If they are several, join them by {SEPARATOR!r}: {SEPARATOR.join(parts[several[0]])}."
        findings.append(Finding("label-noise", "warning", message, fix))


def _joined_from_columns(cells: pd.DataFrame, path: Path, findings: list[Finding]) -> list[str]:
    """Join the names of the columns that hold 1."""
    means = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
    flags = {}
    for name in cells:
        known = {text: means.get(text.strip().casefold()) for text in cells[name].unique()}
        unknown = [text for text, flag in known.items() if flag is None]
        if unknown:
            row = cells.index[(cells[name] == unknown[0]).to_numpy()][0]
            raise TableError(
                f"{path.name}, row {row}, column {name!r}: {unknown[0][:60]!r} is neither 0 nor 1. Write one of them in every label column."
            )
        flags[name] = [known[text] for text in cells[name]]
    never = [name for name in flags if not any(flags[name])]
    if never:
        message = f"{path.name}: {', '.join(map(repr, never))} is 1 in no row, so it is not among the labels."
        findings.append(
            Finding(
                "label-noise", "warning", message, "Nothing can be learnt about it; add rows that have it."
            )
        )
    names = in_order(set(flags) - set(never))
    rows = zip(*(flags[name] for name in names), strict=True) if names else [()] * len(cells)
    return [SEPARATOR.join(name for name, flag in zip(names, row, strict=True) if flag) for row in rows]


def _na_findings(
    rows: pd.DataFrame,
    without_label: pd.Series,
    text_column: str,
    label_columns: list[str],
    task: str,
    path: Path,
) -> list[Finding]:
    """Remark on words that pandas would have read as missing, and on labels that an earlier program has spoilt by reading them so."""
    findings = []

    def words(values: pd.Series) -> str:
        values = values[values.isin(NA_WORDS)]
        return ", ".join(
            f"{word!r} ({rows_in_words(rows.loc[values.index[values == word], 'row'])})"
            for word in sorted(values.unique())
        )

    if found := words(rows["text"]):
        message = f"{path.name}: texts in column {text_column!r} that pandas.read_csv takes for missing: {found}. They are kept as words."
        findings.append(
            Finding(
                "na-strings",
                "warning",
                message,
                "If they are holes that an earlier program left, empty those cells.",
            )
        )
    if task == "regression" or len(label_columns) > 1:
        return findings
    labels = (
        rows["label"] if task == "single_label" else rows["label"].where(rows["label"].isin(NA_WORDS), "")
    )
    if found := words(labels):
        message = f"{path.name}: labels in column {label_columns[0]!r} that pandas.read_csv takes for missing: {found}. They are kept as a class."
        fix = "They may be holes that an earlier program left: if so, fill them in or empty those cells."
        findings.append(Finding("na-strings", "warning", message, fix))
    whole = set(labels.unique()) - NA_WORDS
    if (
        task == "single_label"
        and whole
        and all(re.fullmatch(r"-?\d+\.0", label) for label in whole)
        and (len(without_label) or found)
    ):
        shown = ", ".join(map(repr, in_order(whole)[:5]))
        holes = f" where {rows_in_words(without_label)} blank" if len(without_label) else ""
        message = f"{path.name}: the labels in column {label_columns[0]!r} look like {shown}{holes}."
        fix = "Whole numbers become such floats in a program that met holes among them: fill the holes in, and write 1 for 1.0."
        findings.append(Finding("na-strings", "warning", message, fix))
    return findings


def _label_findings(labels: pd.Series, task: str, path: Path) -> list[Finding]:
    """Remark on labels that look like one class written in several ways, and on classes too small to learn."""
    findings = []
    counts = rows_of_label(labels, task)
    for same in variants(counts.index):
        written = ", ".join(f"{in_escapes(name)} ({counts[name]} rows)" for name in same)
        findings.append(
            Finding(
                "label-noise",
                "warning",
                f"{path.name}: labels that may be one class: {written}.",
                "Write each in one way.",
            )
        )
    if task == "single_label" and (
        printed := [
            name for name in counts.index if len(re.findall(_QUOTED, name)) > 1 and PRINTED.fullmatch(name)
        ]
    ):
        fix = f"If a row has several labels, join them by {SEPARATOR!r} and set task='multi_label'; as it is, each list is a class of its own."
        findings.append(
            Finding(
                "label-noise",
                "warning",
                f"{path.name}: labels that are printed lists: {', '.join(map(repr, printed[:5]))}.",
                fix,
            )
        )
    if hidden := [name for name in counts.index if not comparable(name)]:
        written = ", ".join(f"{in_escapes(name)} ({counts[name]} rows)" for name in hidden)
        findings.append(
            Finding(
                "label-noise",
                "warning",
                f"{path.name}: labels in which there is nothing to see: {written}.",
                "Fill in, or empty those cells.",
            )
        )
    rare = sorted(counts[counts < 5].index)
    if rare:
        shown = ", ".join(f"{name!r} ({counts[name]})" for name in rare[:10]) + (
            " and more" if len(rare) > 10 else ""
        )
        fix = "Collect more, or merge them; a class with fewer than 3 stays in training when the table is split, and no score speaks of it."
        findings.append(
            Finding("label-noise", "warning", f"{path.name}: classes with fewer than 5 rows: {shown}.", fix)
        )
    return findings
