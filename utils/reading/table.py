"""From the rows of a file to texts with labels: what is dropped, what is refused, what is remarked on."""

import ast
import math
import re
from collections.abc import Collection, Iterator
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils.findings import Finding, TableError, in_words, rows_in_words
from utils.labels import NO_LABEL, SEPARATOR, TASKS, in_order, rows_of_label
from utils.reading import find_input
from utils.reading.apart import split_column
from utils.reading.bundled import BUNDLED, DATA_DIR, fetch
from utils.reading.files import free_name, read_frame
from utils.reading.same import commonest_spelling, comparable, in_escapes, variants

NA_WORDS = {  # what pandas.read_csv takes for missing, and a table may mean
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
}
FLAGS = dict.fromkeys(("0", "0.", "0.0", "false"), False) | dict.fromkeys(("1", "1.", "1.0", "true"), True)
SIGNS = re.compile(r"[,;/+&\t\n，、；،؛]")  # what labels may be joined by instead of SEPARATOR
ONE_EACH = "give each label a column of its own, with 0 or 1, and name them all as label_column."


class Table(NamedTuple):
    """What `read_table` returns.

    rows: one line a usable row, in the order of the file: `row` (its number in the file, the first below the
        header is 1), `text`, `text_pair` where a column of it was named, `label` (all str), for regression
        `value` (the label as a float), `group` or `time` where one was asked for, then the file's other
        columns.
    findings: remarks that did not stop the reading.
    dropped: how many rows were left out, by reason.
    source: how the file was read: `file` (its name), `encoding`, `delimiter` (None where a format has none)
        and `rows` (those left out included). None for a table that was not read from a file.
    max_dropped: the largest share of rows that may be left out.
    split_by: "group" or "time" where `split_table` is to keep to that column of the rows; otherwise "".
    fold: (k, n) where the test split is to be fold number k, from 0 on, of n; otherwise None.
    """

    rows: pd.DataFrame
    findings: list[Finding]
    dropped: dict[str, int]
    source: dict | None = None
    max_dropped: float = 0.5
    split_by: str = ""
    fold: tuple[int, int] | None = None


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
    text_pair_column: str | None = None,
    task: str = "single_label",
    encoding: str | None = None,
    delimiter: str | None = None,
    max_dropped: float = 0.5,
    group_column: str | None = None,
    time_column: str | None = None,
) -> Table:
    """Read labelled texts from a bundled set (by name), or from CSV, TSV, JSONL or Parquet, plain or gzipped.

    Every value of a CSV is read as the text it is: "NA" and "None" are words, 007 keeps its zeros. Encoding
    and delimiter are recognised unless you name them; `Table.source` has them. Blank texts and labels, and
    rows that repeat the header, are dropped and counted, up to the share `max_dropped` of all rows. Where
    `text_pair_column` names a second text, such as the answer to a question, both must be there.

    `label` depends on the task:
        single_label: the text in `label_column`. Typed files: whole numbers without ".0", booleans as True
            and False; the names of the classes where `datasets` wrote a Parquet file with them.
        multi_label: the row's labels joined by "|", in the order of `label_names`; "" where it has none.
            `label_column` is a column in which they are joined by "|" or, in JSONL and Parquet, lists; or it
            is a list of columns named like the labels that hold 0 or 1 (or 0.0, 1.0, true, false).
        regression: the text of a finite number; the column `value` beside it has it as a float.

    With `group_column` or `time_column` (not both) `split_table` leaves groups whole, or trains on the past.

    Raises:
        TableError: it cannot be read rightly; the message names the file, the place and the remedy.
    """
    if task not in TASKS:
        raise TableError(f"task={task!r} is none of {', '.join(TASKS)}.")
    if not 0 <= max_dropped <= 1:
        raise TableError(f"max_dropped={max_dropped!r} must be a share of the rows, from 0 to 1.")
    label_columns = _label_columns(text_column, label_column, task)
    if group_column and time_column:
        reason = "a group with old and new rows would have to be on both sides. Give one of them."
        raise TableError(f"group_column={group_column!r} and time_column={time_column!r}: {reason}")
    if (name := group_column or time_column) in (text_column, *label_columns):
        reason = "cannot be the column of the texts or labels, too. Name another."
        raise TableError(f"group_column or time_column: {name!r} {reason}")
    texts = [text_column, *([text_pair_column] if text_pair_column else [])]
    if text_pair_column in (text_column, *label_columns):
        fault = f"text_pair_column={text_pair_column!r} is also the column of texts or labels"
        raise TableError(f"{fault}. Name another, or None.")
    path = locate(data_file)
    joined = task == "multi_label" and isinstance(label_column, str)
    named = task == "single_label" or joined  # else the numbers are what counts
    required, lists = [*texts, *label_columns], label_column if joined else None
    reading = {"encoding": encoding, "delimiter": delimiter, "class_names": named, "listed": lists}
    frame, source, findings = read_frame(path, required, **reading)
    frame.index += 1  # the number of each row
    blank_text = np.logical_or.reduce([is_blank(frame[name]) for name in texts])
    blank_labels = [is_blank(frame[name], joined) for name in label_columns]
    blank_label = ~blank_text & np.logical_and.reduce(blank_labels)
    keep = "To keep a row as one without any label, give the labels as 0/1 columns."
    for id, blank, names, word, fix in (
        ("empty-text", blank_text, texts, " or ", "Fill in or delete."),
        ("empty-label", blank_label, label_columns, " and ", keep if joined else "Fill in or delete."),
    ):
        if blank.any():
            where = f"{rows_in_words(frame.index[blank])} blank in column {word.join(map(repr, names))}"
            findings.append(Finding(id, "warning", f"{path.name}: {where} and left out.", fix))
    blank = blank_text | blank_label
    used = frame[~blank] if blank.any() else frame
    if used.empty:
        names = ", ".join(map(repr, required))
        raise TableError(f"{path.name}: no row has both a text and a label. Fill {names}, or name others.")
    dropped = {"blank_text": int(blank_text.sum()), "blank_label": int(blank_label.sum())}
    if len(frame) < source["rows"]:
        dropped["repeated_header"] = source["rows"] - len(frame)
    check_dropped(dropped, source["rows"], max_dropped, path.name)

    columns = {"row": used.index.to_numpy()}
    columns |= {name: used[column].array for name, column in zip(("text", "text_pair"), texts, strict=False)}
    labels = used[label_columns[0]]
    if joined:
        labels = _joined(labels, path, findings)
    elif task == "multi_label":
        labels = _joined_from_columns(used[label_columns], path, findings)
    columns["label"] = pd.array(labels, dtype=str)
    if task == "regression":
        columns["value"] = _numbers(labels, path, source["delimiter"], findings)
    split_by, cells = split_column(used, group_column, time_column, path)
    if split_by:
        columns[split_by] = cells.array
    others = used.drop(columns=[*required, *([cells.name] if split_by else [])])
    names = dict.fromkeys((*columns, "text_pair"))  # a column of that name makes a pair
    taken = {name: free_name(f"{name}_in_file", others) for name in names if name in others}
    rows = pd.concat([pd.DataFrame(columns), others.rename(columns=taken).reset_index(drop=True)], axis=1)
    classes = label_columns[0] if task != "regression" and len(label_columns) == 1 else None
    remarks = [*_na_remarks(rows, text_column, classes, frame.index[blank_label])]
    if task != "regression":
        remarks += _label_remarks(rows["label"], task, joined)
    findings += [Finding(id, "warning", f"{path.name}: {message}", fix) for id, message, fix in remarks]
    return Table(rows, findings, dropped, source, max_dropped, split_by)


def _label_columns(text_column: str, label_column: str | list[str], task: str) -> list[str]:
    """Return the label columns as a list, after looking at the names alone."""
    several = not isinstance(label_column, str)
    names = label_column if several else [label_column]
    is_list = isinstance(names, (list, tuple)) and names
    if not is_list or not all(isinstance(name, str) for name in [text_column, *names]):
        columns = f"text_column={text_column!r} and label_column={label_column!r}"
        raise TableError(f"{columns} must be names of columns (for 0/1 columns a list of names).")
    if several and task != "multi_label":
        raise TableError(f"label_column={label_column!r}: only task='multi_label' has several. Name one.")
    if text_column in names:
        raise TableError(f"text_column and label_column are both {text_column!r}. Name two columns.")
    for name in names if several else []:
        if SEPARATOR in name or not name.strip():
            raise TableError(f"label_column: {name!r} is blank or holds {SEPARATOR!r}. Rename the column.")
    return list(dict.fromkeys(names))


def is_blank(column: pd.Series, joined: bool = False) -> np.ndarray:
    blank = ~column.str.contains("[!-{}~]").to_numpy(bool)  # a sign of ASCII, but "|", fills most cells
    # Python's idea of white space on every version of pandas, and the one that `normalise` has
    rest = column[blank].to_numpy(object)
    blank[blank] = [not (text.replace(SEPARATOR, "") if joined else text).strip() for text in rest]
    return blank


def check_dropped(dropped: dict[str, int], rows: int, max_dropped: float, what: str) -> None:
    lost = sum(dropped.values())
    if lost > max_dropped * rows:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items() if count)
        allowed = f"more than max_dropped={max_dropped} allows. Mend them, or raise max_dropped"
        raise TableError(f"{what}: {lost:,} of {rows:,} rows would be left out ({reasons}), {allowed}.")


def _number(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)  # Python reads 1_000 as a number; nobody else does
    except ValueError:
        return math.nan


def _numbers(labels: pd.Series, path: Path, delimiter: str | None, findings: list[Finding]) -> np.ndarray:
    """Return the labels (indexed by row number) as float64, if it is plain what the points in them mean."""
    values = np.array([_number(label) for label in labels])
    wrong = labels[~np.isfinite(values)]
    if len(wrong):
        label = wrong.iloc[0]
        more = f" ({rows_in_words(wrong.index)} are not)" if len(wrong) > 1 else ""
        remedy = "Write digits and a decimal point alone (-1234.5), or empty the cell."
        place = f"{path.name}, row {wrong.index[0]}, column {labels.name!r}"
        raise TableError(f"{place}: {label[:60]!r} is no finite number{more}. {remedy}")
    # A file of decimals has some with fewer digits than three, or (a program writes three) a point in each.
    has_point = labels.str.contains(".", regex=False).to_numpy(bool)
    pointed, whole = labels[has_point], labels[~has_point]
    thousands = pointed.str.fullmatch(r"\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*").all()
    if delimiter is None or pointed.empty or whole.empty or not thousands:  # typed numbers are plain
        return values
    label = pointed.iloc[0].strip()
    point = f"the point in {label!r} ({rows_in_words(pointed.index)}) seems to part thousands"
    message = f"{path.name}, column {labels.name!r}: {point}."
    fix = f"If so, write {label.replace('.', '')}; if it marks decimals, give one a zero more: {label}0."
    # So spreadsheets write thousands. Means of raters (1.333) are small, and whole ones among them no larger.
    most, most_whole = np.abs(values[has_point]).max(), np.abs(values[~has_point]).max()
    if delimiter == ";" and (most >= 10 or most_whole > math.ceil(most)):
        raise TableError(f"{message} {fix}")
    findings.append(Finding("thousands", "warning", message, fix))
    return values


def _printed_items(text: str) -> list | None:
    """Return the items of a list, tuple or set that Python, JSON or NumPy printed, None for another text."""
    text = text.strip()
    if not text.endswith(("]", ")", "}")):
        return None
    text = re.sub(r"\b(nan|null)(?=\s*[],])", "None", text.replace("np.str_(", "("))
    if "," not in text:  # NumPy
        text = re.sub(r"""(?<=['"\d.])\s+(?=['"\d+-])""", ", ", text)
    try:
        items = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(items, set) or items == {}:
        items = sorted(items, key=str)
    if not isinstance(items, (list, tuple)):
        return None
    plain = all(item is None or isinstance(item, (str, int, float)) for item in items)
    return [item for item in items if item is not None] if plain else None


def _joined(labels: pd.Series, path: Path, findings: list[Finding]) -> list[str]:
    """Write joined labels in one way: no blanks around the bar, each once, in the order of `label_names`."""
    _refuse_spellings(labels, path)
    names_of = {text: {name.strip() for name in text.split(SEPARATOR)} for text in labels.unique()}
    names_of = {text: names - {"", NO_LABEL} for text, names in names_of.items()}
    names = in_order(set().union(*names_of.values()))
    parts = {name: [part.strip(" []{}()'\"") for part in SIGNS.split(name)] for name in names}
    parts = {name: [part for part in parts[name] if part] for name in names}
    single = {comparable(parts[name][0]) for name in names if len(parts[name]) == 1}
    several = [name for name in names if len(parts[name]) > 1 and single >= {*map(comparable, parts[name])}]
    if several:
        message = f"labels in column {labels.name!r} whose parts are labels, too: {in_words(several)}."
        fix = f"If they are several, join them by {SEPARATOR!r}: {SEPARATOR.join(parts[several[0]])}."
        findings.append(Finding("label-noise", "warning", f"{path.name}: {message}", fix))
    place = {name: k for k, name in enumerate(names)}
    joined = {text: SEPARATOR.join(sorted(of, key=place.get)) for text, of in names_of.items()}
    return [joined[text] for text in labels]


def _refuse_spellings(labels: pd.Series, path: Path) -> None:
    """Refuse labels that are printed lists, or a 0 or 1 for each label."""

    def is_vector(items: list) -> bool:  # "0|1|0": no name stands twice
        return len(items) > len({*items}) and all(str(item).strip().casefold() in FLAGS for item in items)

    for text in labels.unique():
        items = _printed_items(text)
        if is_vector(text.split(SEPARATOR)):
            reason = f"a 0 or 1 for each label. Write the names of those that are 1, or {ONE_EACH}"
        elif items is not None:
            join = f"Join the labels by {SEPARATOR!r}: {SEPARATOR.join(map(str, items))}."
            reason = f"a printed list. {join if items and not is_vector(items) else ONE_EACH.capitalize()}"
        else:
            continue
        place = f"{path.name}, row {labels.index[labels == text][0]}, column {labels.name!r}"
        raise TableError(f"{place}: {text[:60]!r} is {reason}")


def _joined_from_columns(cells: pd.DataFrame, path: Path, findings: list[Finding]) -> list[str]:
    """Join the names of the columns that hold 1."""
    flags = {}
    for name, column in cells.items():
        flags[name] = [FLAGS.get(text.strip().casefold()) for text in column]
        if None in flags[name]:
            k = flags[name].index(None)
            reason = f"{column.iloc[k][:60]!r} is neither 0 nor 1. Write one of them in every label column."
            raise TableError(f"{path.name}, row {cells.index[k]}, column {name!r}: {reason}")
    if never := [name for name in flags if not any(flags[name])]:
        message = f"{path.name}: {', '.join(map(repr, never))} is 1 in no row, so it is not among the labels."
        findings.append(Finding("label-noise", "warning", message, "Add rows that have it."))
    names = in_order(set(flags))
    rows = zip(*(flags[name] for name in names), strict=True)
    return [SEPARATOR.join(compress(names, row)) for row in rows]


def _na_remarks(
    rows: pd.DataFrame, text_column: str, label_column: str | None, blank: Collection[int]
) -> Iterator[tuple[str, str, str]]:
    """Remark on words that pandas would read as missing, and on labels that such a reading has spoilt."""

    def words(column: str) -> str:
        found = rows[rows[column].isin(NA_WORDS)]
        numbers = {word: found.loc[found[column] == word, "row"].tolist() for word in found[column].unique()}
        return ", ".join(f"{word!r} ({rows_in_words(numbers[word])})" for word in sorted(numbers))

    taken = "that pandas.read_csv takes for missing"
    fix = "If they are holes that an earlier program left, empty those cells."
    if texts := words("text"):
        yield "na-strings", f"texts in column {text_column!r} {taken}: {texts}. They are kept as words.", fix
    if labels := words("label") if label_column else "":
        message = f"labels in column {label_column!r} {taken}: {labels}. They are kept as a class."
        yield "na-strings", message, fix
    names = {*rows["label"].unique()} - NA_WORDS
    floats = label_column and names and all(re.fullmatch(r"-?\d+\.0", name) for name in names)
    if floats and (labels or len(blank)):
        holes = f" where {rows_in_words(blank)} blank" if len(blank) else ""
        message = f"the labels in column {label_column!r} look like {in_words(in_order(names))}{holes}."
        fix = "Programs that met holes make such floats of whole numbers: fill them in, and write 1 for 1.0."
        yield "na-strings", message, fix


def _label_remarks(labels: pd.Series, task: str, joined: bool) -> Iterator[tuple[str, str, str]]:
    """Remark on labels that look like one class written in two ways, and on classes too small to learn."""
    noise = "label-noise"
    counts = rows_of_label(labels, task)

    for names in variants(counts.index):
        with_counts = ", ".join(f"{in_escapes(name)} ({counts[name]} rows)" for name in names)
        spelling = commonest_spelling(names, counts)
        one = len({spelling.get(name, name) for name in names}) == 1
        fix = "They count as one. If they are several, give them different names."
        fix = fix if one else "So short, they stay apart. If they are one, write them in one way."
        yield noise, f"labels that may be one class: {with_counts}.", fix
    if task == "single_label":
        items = {name: _printed_items(name) or [] for name in counts.index}
        printed = [name for name in items if sum(isinstance(item, str) for item in items[name]) > 1]
        if printed:
            fix = f"If a row has several labels, join them by {SEPARATOR!r} and set task='multi_label'."
            yield noise, f"labels that are printed lists: {in_words(printed)}.", fix
    if rare := sorted(counts[counts < 5].index):
        names = ", ".join(f"{name!r} ({counts[name]})" for name in rare[:10])
        more = " and more" if len(rare) > 10 else ""
        fix = "Collect more, or merge them; one of fewer than 3 stays in training, and no score speaks of it."
        yield noise, f"classes with fewer than 5 rows: {names}{more}.", fix
    if joined and not labels.str.contains(SEPARATOR, regex=False).any():
        fix = f"Labels are joined by {SEPARATOR!r}; if yours are joined by another sign, replace it."
        yield noise, "no row has more than one label.", fix
