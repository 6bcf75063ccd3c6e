"""Tables of labelled text: the bundled data sets, a reader for your own file, and the split."""

import csv
import io
import math
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils import ROOT, atomic_path, find_input, sha256
from utils.tables import NO_LABEL, SEPARATOR, Finding, TableError, free_name, read_frame

DATA_DIR = ROOT / "data"
ARCHIVE_NAME = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
INNER_ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"


TASKS = ("single_label", "multi_label", "regression")
MAX_CLASSES = 1000
NA_WORDS = frozenset(  # what pandas.read_csv takes for missing, and a table may mean
    ["#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
)
# What nobody sees: control characters and Unicode's default ignorables (zero-width blanks and joiners, marks of direction, soft hyphens,
# variation selectors, fillers).
UNSEEN = re.compile(
    "[\\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What shows all the same: a joiner between emoji, which makes one picture of two; the tags that say whose flag a black flag is; and raised and
# lowered digits, which form NFKC would set level: 10 with a raised 2 is not 102.
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
SEEN = re.compile(f"(\u200d(?<=[{_EMOJI}\ufe0f].)(?=[{_EMOJI}])|\U0001f3f4[\U000e0020-\U000e007f]+|[\xb2\xb3\xb9\u2070-\u208e]+)")

# Hyphens, dashes, minus signs and apostrophes that look like those of the keyboard.
ALIKE = str.maketrans("\u2010\u2012\u2013\u2014\u2212\u2018\u2019", "-----''")

# A list, tuple or set of texts or numbers as Python, JSON or NumPy (which puts no commas) prints it; (1) and ("so") are none.
_QUOTED = r"""(?:np\.str_\()?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)?"""
_ITEM = rf"(?:{_QUOTED}|[+-]?\d+(?:\.\d*)?|None|null|nan)"
_ITEMS = rf"\s*(?:{_ITEM}(?:[\s,]+{_ITEM})*[\s,]*)?"
PRINTED = re.compile(rf"\s*(?:\w+\()?(?:\[{_ITEMS}\]|\{{{_ITEMS}\}}|\((?=\s*\)|.*,){_ITEMS}\))(?:[\w\s,=.'<|]*\))?\s*")


class Source(NamedTuple):
    """One of the four bundled sets: the stem of its two files in the archive, and how many rows they have."""

    stem: str
    rows: int


BUNDLED = {
    "tweets": Source("tweets", 4200),
    "reviews": Source("movieReviewSnippets", 10605),
    "products": Source("amazonReviewSnippets", 3708),
    "editorials": Source("nytEditorialSnippets", 5190),
}


class FetchError(RuntimeError):
    """The bundled data could not be fetched; the message says what to do."""


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


class Splits(NamedTuple):
    """What `split_table` returns: three frames shaped like `Table.rows`, in file order, with findings and drop counts."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    findings: list[Finding]
    dropped: dict[str, int]


# --- the bundled sets -------------------------------------------------------------------------------------------------


def fetch(folder: Path = DATA_DIR) -> None:
    """Put the four bundled sets into `folder` as CSV files, fetching their archive once through pip.

    Nothing is written before the archive's SHA-256 is right, and each file appears whole or not at all.

    Raises:
        FetchError: pip could not get the archive, or it is not the file it should be.
    """
    if all((folder / f"{name}.csv").exists() for name in BUNDLED):
        return
    archive = folder / ARCHIVE_NAME
    if not archive.exists():
        _download(archive)
    found = sha256(archive)
    if found != ARCHIVE_SHA256:
        raise FetchError(f"{archive} is not the expected file: its SHA-256 is {found}, not {ARCHIVE_SHA256}. Delete it and run `make run` again.")
    for name, frame in _unpack(archive).items():
        with atomic_path(folder / f"{name}.csv") as partial:
            frame.to_csv(partial, index=False, encoding="utf-8")


def _download(archive: Path) -> None:
    """Get the archive with pip, which compares its hash before it runs anything out of it."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"vaderSentiment==0.5 --hash=sha256:{ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes"]
        # An sdist is asked for by name: `:all:` would also build pip's own build tools from source, ten seconds for nothing.
        command += ["--no-deps", "--no-binary", "vaderSentiment", "--dest", scratch, "--requirement", str(wanted)]
        result = subprocess.run(command, capture_output=True, text=True)
        fetched = Path(scratch) / ARCHIVE_NAME
        if result.returncode or not fetched.exists():
            reasons = [line for line in result.stderr.splitlines() if line.strip()] or ["pip said nothing"]
            if "DO NOT MATCH THE HASHES" in result.stderr:
                reasons = [f"what the package index served is not the file whose SHA-256 is {ARCHIVE_SHA256}"]
            raise FetchError(
                f"The data could not be fetched with pip: {reasons[-1].strip()}. Check the network and run the same command again; "
                f"or, on a machine that has one, run `python -m pip download --no-deps --no-binary :all: vaderSentiment==0.5` "
                f"and copy {ARCHIVE_NAME} into {archive.parent}."
            )
        with atomic_path(archive) as partial:
            partial.write_bytes(fetched.read_bytes())


def _unpack(archive: Path) -> dict[str, pd.DataFrame]:
    """Read the four sets out of the archive: text, label, valence (mean rating, -4 to 4), rating_std (of the same ratings)."""
    frames = {}
    with zipfile.ZipFile(archive) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(INNER_ARCHIVE))) as inner:
        for name, source in BUNDLED.items():

            def member(kind: str, columns: list[str], stem: str = source.stem) -> pd.DataFrame:
                # Quotes are literal and "NA" is a word: every default of read_csv that says otherwise is off.
                return pd.read_csv(
                    inner.extractfile(f"hutto_ICWSM_2014/{stem}_{kind}.txt"),
                    sep="\t", header=None, names=columns, usecols=columns, quoting=csv.QUOTE_NONE,
                    keep_default_na=False, encoding="utf-8-sig", dtype={"id": str, "text": str},
                )  # fmt: skip

            truth = member("GroundTruth", ["id", "valence", "text"])
            ratings = member("anonDataRatings", ["id", "mean", "rating_std", "ratings"])
            frame = truth.merge(ratings, on="id", validate="one_to_one")  # by id: the products' two files differ in order
            if len(frame) != source.rows:
                raise FetchError(f"{archive}: {name!r} has {len(frame)} rows, not {source.rows}. Delete the file and fetch it again.")
            frame = frame[["text"]].assign(label="negative", valence=frame["valence"], rating_std=frame["rating_std"])
            frame.loc[frame["valence"] > 0, "label"] = "positive"
            frames[name] = frame[frame["valence"] != 0]
    return frames


def locate(data_file: str | Path) -> Path:
    """Return the file behind a bundled name (fetched if need be) or a path to read."""
    if str(data_file) in BUNDLED:
        fetch()
        return DATA_DIR / f"{data_file}.csv"
    try:
        return find_input(data_file)
    except (OSError, ValueError) as error:  # not there; or a path that no system takes
        raise TableError(f"{error} The bundled sets are called {', '.join(BUNDLED)}.") from None


# --- reading a table --------------------------------------------------------------------------------------------------


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
    others = others.rename(columns={name: free_name(f"{name}_in_file", {*others.columns}) for name in ours if name in others})
    blank_text = _blank(frame[text_column])
    blank_label = ~blank_text & np.logical_and.reduce([_blank(frame[name], SEPARATOR if joined else "") for name in label_columns])
    for blank, id, fix in (
        (blank_text, "empty-text", "Fill in or delete."),
        (blank_label, "empty-label", "To keep a row as one without any label, give the labels as 0/1 columns." if joined else "Fill in or delete."),
    ):
        if blank.any():
            column = repr(text_column) if id == "empty-text" else " and ".join(map(repr, label_columns))
            findings.append(Finding(id, "warning", f"{path.name}: {in_words(number[blank])} blank in column {column} and left out.", fix))
    used = ~(blank_text | blank_label)
    if not used.any():
        raise TableError(
            f"{path.name}: no row has both a text and a label. Fill the columns {text_column!r} and {', '.join(map(repr, label_columns))}, or name others."
        )
    dropped = {"blank_text": int(blank_text.sum()), "blank_label": int(blank_label.sum())}
    dropped |= {"repeated_header": source["rows"] - len(frame)} if len(frame) < source["rows"] else {}
    _check_dropped(dropped, source["rows"], max_dropped, path.name)

    raw = frame.loc[used, label_columns].set_axis(number[used], axis=0)
    label = raw[label_columns[0]].to_numpy()
    if task == "multi_label":
        label = _joined(raw[label_columns[0]], path, findings) if joined else _joined_from_columns(raw, path, findings)
    rows = pd.DataFrame({"row": number[used].to_numpy(), "text": frame.loc[used, text_column].array, "label": pd.array(label, dtype=str)})
    if task == "regression":
        rows["value"] = _numbers(raw[label_columns[0]], path, source["delimiter"], findings)
    rows = pd.concat([rows, others[used].reset_index(drop=True)], axis=1)
    findings += _na_findings(rows, number[blank_label], text_column, label_columns, task, path)
    if task != "regression":
        findings += _label_findings(rows["label"], task, path)
    if joined and not rows["label"].str.contains(SEPARATOR, regex=False).any():
        fix = f"Labels are joined by {SEPARATOR!r}; if yours are joined by another sign, replace it."
        findings.append(Finding("label-noise", "warning", f"{path.name}: no row has more than one label.", fix))
    return Table(rows, findings, dropped, source)


def _label_columns(text_column: str, label_column: str | list[str], task: str) -> list[str]:
    """Return the label columns as a list, after looking at the names alone."""
    names = [label_column] if isinstance(label_column, str) else label_column
    if not isinstance(text_column, str) or not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise TableError(f"text_column={text_column!r} and label_column={label_column!r} must be names of columns (for 0/1 columns a list of names).")
    if names is label_column and task != "multi_label":
        raise TableError(f"label_column={label_column!r} names several columns, which only task='multi_label' has. Name one column.")
    if text_column in names:
        raise TableError(f"text_column and label_column are both {text_column!r}. Name two different columns.")
    for name in names:
        if names is label_column and (names.count(name) > 1 or SEPARATOR in name or not name.strip()):
            why = "is named twice" if names.count(name) > 1 else f"is blank or holds {SEPARATOR!r}, which joins labels"
            raise TableError(f"label_column: {name!r} {why}. Rename the column, or name it once.")
    return list(names)


def _blank(column: pd.Series, ignore: str = "") -> np.ndarray:
    # Python's idea of white space on every version of pandas, and the one that `normalise` has
    return np.fromiter((not (text.replace(ignore, "") if ignore else text).strip() for text in column), bool, len(column))


def _check_dropped(dropped: dict[str, int], rows: int, max_dropped: float, what: str) -> None:
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
        more = f" ({in_words(wrong.index)} are not)" if len(wrong) > 1 else ""
        remedy = _rewritten(first) or "Correct it, or leave the cell empty to have the row left out."
        raise TableError(f"{path.name}, row {wrong.index[0]}, column {labels.name!r}: {first[:60]!r} is no finite number{more}. {remedy}")
    # Decimals have sometimes fewer digits than three, or, where a program writes three always, no value without a point. Typed numbers are plain.
    has_point = labels.str.contains(".", regex=False).to_numpy(bool)
    pointed, whole = labels[has_point], labels[~has_point]
    if delimiter is not None and len(pointed) and len(whole) and pointed.str.fullmatch(r"\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*").all():
        example = pointed.iloc[0].strip()
        message = (
            f"column {labels.name!r}: where there is a point, exactly three digits follow ({example!r}, {in_words(pointed.index)}), and the others have none "
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
    bare = "".join(c for c in UNSEEN.sub("", text) if c not in "%\u2030" and unicodedata.category(c) != "Sc").replace("\N{MINUS SIGN}", "-").strip()
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
    sets = {text: {name.strip() for name in text.split(SEPARATOR)} - {"", NO_LABEL} for text in labels.unique()}
    names = set().union(*sets.values())
    _check_spelling(labels, names, path, findings)
    order = {name: k for k, name in enumerate(_in_order(names))}
    written = {text: SEPARATOR.join(sorted(names, key=order.get)) for text, names in sets.items()}
    return [written[text] for text in labels]


def _check_spelling(labels: pd.Series, names: set[str], path: Path, findings: list[Finding]) -> None:
    """Refuse labels that are printed lists or a 0 or 1 for each label, and remark on those that would be several if they were joined by another sign."""

    def refuse(text: str, what: str) -> None:
        raise TableError(f"{path.name}, row {labels.index[labels == text][0]}, column {labels.name!r}: {text[:60]!r} is {what}")

    def is_vector(items: list[str]) -> bool:  # "0|1|0": no name stands twice
        return len(items) > len({*items}) and {item.strip().casefold() for item in items} <= {"0", "1", "0.", "1.", "true", "false"}

    columns = "give each label a column of its own, with 0 or 1, and name them all as label_column."
    if vector := next((text for text in labels.unique() if is_vector(text.split(SEPARATOR))), None):
        refuse(vector, f"a 0 or 1 for each label. Write the names of those that are 1, or {columns}")
    if printed := next((text for text in labels.unique() if PRINTED.fullmatch(text)), None):
        items = [item.removeprefix("np.str_(").strip("'\")") for item in re.findall(_ITEM, printed.split("dtype=")[0])]
        joined = f"Join the labels by {SEPARATOR!r}: {SEPARATOR.join(items)}."
        refuse(printed, f"a printed list. {joined if items and not is_vector(items) else columns.capitalize()}")
    parts = {name: [part for part in (part.strip(" []{}()'\"") for part in re.split(r"[,;/+&\t\n，、；،؛]", name)) if part] for name in names}
    known = {comparable(parts[name][0]) for name in names if len(parts[name]) == 1}
    several = [name for name in _in_order(names) if len(parts[name]) > 1 and known.issuperset(map(comparable, parts[name]))]
    if several:
        shown = ", ".join(map(repr, several[:5])) + (f" and {len(several) - 5} more" if len(several) > 5 else "")
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
            raise TableError(f"{path.name}, row {row}, column {name!r}: {unknown[0][:60]!r} is neither 0 nor 1. Write one of them in every label column.")
        flags[name] = [known[text] for text in cells[name]]
    never = [name for name in flags if not any(flags[name])]
    if never:
        message = f"{path.name}: {', '.join(map(repr, never))} is 1 in no row, so it is not among the labels."
        findings.append(Finding("label-noise", "warning", message, "Nothing can be learnt about it; add rows that have it."))
    names = _in_order(set(flags) - set(never))
    rows = zip(*(flags[name] for name in names), strict=True) if names else [()] * len(cells)
    return [SEPARATOR.join(name for name, flag in zip(names, row, strict=True) if flag) for row in rows]


def _na_findings(rows: pd.DataFrame, without_label: pd.Series, text_column: str, label_columns: list[str], task: str, path: Path) -> list[Finding]:
    """Remark on words that pandas would have read as missing, and on labels that an earlier program has spoilt by reading them so."""
    findings = []

    def words(values: pd.Series) -> str:
        values = values[values.isin(NA_WORDS)]
        return ", ".join(f"{word!r} ({in_words(rows.loc[values.index[values == word], 'row'])})" for word in sorted(values.unique()))

    if found := words(rows["text"]):
        message = f"{path.name}: texts in column {text_column!r} that pandas.read_csv takes for missing: {found}. They are kept as words."
        findings.append(Finding("na-strings", "warning", message, "If they are holes that an earlier program left, empty those cells."))
    if task == "regression" or len(label_columns) > 1:
        return findings
    labels = rows["label"] if task == "single_label" else rows["label"].where(rows["label"].isin(NA_WORDS), "")
    if found := words(labels):
        message = f"{path.name}: labels in column {label_columns[0]!r} that pandas.read_csv takes for missing: {found}. They are kept as a class."
        fix = "They may be holes that an earlier program left: if so, fill them in or empty those cells."
        findings.append(Finding("na-strings", "warning", message, fix))
    whole = set(labels.unique()) - NA_WORDS
    if task == "single_label" and whole and all(re.fullmatch(r"-?\d+\.0", label) for label in whole) and (len(without_label) or found):
        shown = ", ".join(map(repr, _in_order(whole)[:5]))
        holes = f" where {in_words(without_label)} blank" if len(without_label) else ""
        message = f"{path.name}: the labels in column {label_columns[0]!r} look like {shown}{holes}."
        fix = "Whole numbers become such floats in a program that met holes among them: fill the holes in, and write 1 for 1.0."
        findings.append(Finding("na-strings", "warning", message, fix))
    return findings


def _label_findings(labels: pd.Series, task: str, path: Path) -> list[Finding]:
    """Remark on labels that look like one class written in several ways, and on classes too small to learn."""
    findings = []
    counts = _rows_of_label(labels, task)
    for same in variants(counts.index):
        written = ", ".join(f"{in_escapes(name)} ({counts[name]} rows)" for name in same)
        findings.append(Finding("label-noise", "warning", f"{path.name}: labels that may be one class: {written}.", "Write each in one way."))
    if task == "single_label" and (printed := [name for name in counts.index if len(re.findall(_QUOTED, name)) > 1 and PRINTED.fullmatch(name)]):
        fix = f"If a row has several labels, join them by {SEPARATOR!r} and set task='multi_label'; as it is, each list is a class of its own."
        findings.append(Finding("label-noise", "warning", f"{path.name}: labels that are printed lists: {', '.join(map(repr, printed[:5]))}.", fix))
    if hidden := [name for name in counts.index if not comparable(name)]:
        written = ", ".join(f"{in_escapes(name)} ({counts[name]} rows)" for name in hidden)
        findings.append(
            Finding("label-noise", "warning", f"{path.name}: labels in which there is nothing to see: {written}.", "Fill in, or empty those cells.")
        )
    rare = sorted(counts[counts < 5].index)
    if rare:
        shown = ", ".join(f"{name!r} ({counts[name]})" for name in rare[:10]) + (" and more" if len(rare) > 10 else "")
        fix = "Collect more, or merge them; a class with fewer than 3 stays in training when the table is split, and no score speaks of it."
        findings.append(Finding("label-noise", "warning", f"{path.name}: classes with fewer than 5 rows: {shown}.", fix))
    return findings


def _rows_of_label(labels: pd.Series, task: str) -> pd.Series:
    """Count the rows of each label; in multi_label a row counts for each of its labels."""
    counts = labels.value_counts()
    if task != "multi_label":
        return counts
    each: dict[str, int] = {}
    for joined, count in counts.items():
        for name in filter(None, joined.split(SEPARATOR)):
            each[name] = each.get(name, 0) + count
    return pd.Series(each, dtype=int)


def variants(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that a reader would take for one (see `comparable`), or that differ as 1, 1.0, +1 and 1E+00 do."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        key = unicodedata.normalize("NFKC", comparable(name)).translate(ALIKE)
        if re.fullmatch(r"[+-]?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d{1,3})?", key):  # not 007, nor 1.10, which may be a section
            key = re.sub(r"\.0+$", "", f"{Decimal(key):f}").removeprefix("+")
        groups.setdefault(key, []).append(name)
    return [same for _, same in sorted(groups.items()) if len(same) > 1]


def in_escapes(name: str) -> str:
    """Return the repr of a name in which everything that looks like something else, or like nothing, is written as an escape."""
    composed = unicodedata.is_normalized("NFC", name)

    def plain(character: str) -> bool:
        known = unicodedata.is_normalized("NFKC", character) and not UNSEEN.match(character) and ord(character) not in ALIKE
        return known and (composed or not unicodedata.combining(character))

    return "".join(character if plain(character) else ascii(character)[1:-1] for character in repr(name))


def in_words(numbers) -> str:
    """Say which rows: "row 3", "4 rows (1, 2, 5, ...)"."""
    first = [str(int(n)) for n in numbers[:10]]
    return f"row {first[0]}" if len(numbers) == 1 else f"{len(numbers):,} rows ({', '.join(first)}{', ...' if len(numbers) > 10 else ''})"


# --- labels and splits ------------------------------------------------------------------------------------------------


def label_names(labels: pd.Series, task: str = "single_label") -> list[str]:
    """Return the distinct labels in an order that never changes: numbers by value, everything else alphabetically (by code point).

    For multi_label, `labels` are joined by "|" as `read_table` writes them, and the single labels are returned.
    """
    names = set(labels)
    return _in_order({name for joined in names for name in joined.split(SEPARATOR)} - {""} if task == "multi_label" else names)


def _in_order(names: set[str]) -> list[str]:
    by_character = sorted(names)  # settles what has the same value, such as 1 and 01
    for number in (int, float):
        try:
            values = {name: number(name) for name in names}
        except ValueError:
            continue
        if all(math.isfinite(value) for value in values.values()):
            return sorted(by_character, key=values.get)
    return by_character


def encode_labels(rows: pd.DataFrame, labels: list[str], task: str = "single_label") -> np.ndarray:
    """Return what the model is to learn of rows of `read_table`.

    Args:
        labels: those of `label_names`; of no account for regression.

    Returns:
        single_label: the place of each row's label in `labels`, int64, shape (rows,). multi_label: 0 or 1 for each label, float32, shape
        (rows, labels). regression: the values, float32, shape (rows,).
    """
    if task == "regression":
        return rows["value"].to_numpy(np.float32)
    place = {label: i for i, label in enumerate(labels)}
    if task == "single_label":
        return np.array([place[label] for label in rows["label"]], dtype=np.int64)
    encoded = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for row, joined in enumerate(rows["label"]):
        encoded[row, [place[label] for label in joined.split(SEPARATOR) if label]] = 1
    return encoded


def decode_labels(predicted, labels: list[str], task: str = "single_label") -> list[str]:
    """Return predictions in the form in which `rows["label"]` has the truth; `predicted` is shaped as what `encode_labels` returns."""
    if task == "regression":
        return [f"{value:.6g}" for value in predicted]
    if task == "single_label":
        return [labels[i] for i in predicted]
    return [SEPARATOR.join(label for label, there in zip(labels, row, strict=True) if there) for row in predicted]


def comparable(text: str) -> str:
    """Return a text as it is compared for repeats: two texts are one if a reader, capitals aside, would see no difference.

    Casefolded, runs of white space made one blank, in Unicode's form NFKC (which takes an accent stored apart, a full-width letter or a ligature for
    the usual one) and without characters that nobody sees. Raised and lowered digits stay, for they change a number, and so do the joiners
    inside one emoji. A joiner inside a word goes: Persian, Hindi or Sinhala spelt with and without it are the same words, and two such
    texts in two splits do more harm than one row too few.
    """
    if not (text.isascii() and text.isprintable()):
        parts = SEEN.split(text)  # every second one is a match
        text = "".join(part if k % 2 else unicodedata.normalize("NFKC", UNSEEN.sub("", part)) for k, part in enumerate(parts))
    return " ".join(text.casefold().split())


def normalise(texts: pd.Series) -> pd.Series:
    """Return the texts as `comparable` writes them."""
    return pd.Series([comparable(text) for text in texts], index=texts.index, dtype=str, name=texts.name)


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
    given = {name: part for name, part in (("training", table), ("validation", validation), ("test", test)) if part}
    if task == "regression" and any("value" not in part.rows for part in given.values()):
        raise TableError("The rows have no column 'value'. Read every table with task='regression'.")
    findings, dropped = list(table.findings), dict(table.dropped)
    # The text as compared is the index until the end, so that no column of the table can be in its way.
    frames = {name: part.rows.set_axis(normalise(part.rows["text"]), axis=0) for name, part in given.items()}
    rows = frames["training"]

    labels_of_text = rows["value" if task == "regression" else "label"].groupby(level=0, sort=False).transform("nunique").to_numpy()
    conflict = rows[labels_of_text > 1]
    if len(conflict):
        example = conflict.iloc[0]
        seen = sorted(set(conflict.loc[conflict.index == conflict.index[0], "label"]))
        message = f"{in_words(conflict['row'])} hold texts that carry two labels, for example {example['text'][:60]!r}: {', '.join(map(repr, seen))}. All are left out."
        findings.append(Finding("conflicting-labels", "warning", message, "Decide on one label for each text."))
    rows = rows[labels_of_text <= 1]
    repeated = rows.index.duplicated()
    if repeated.any():
        message = f"{in_words(rows.loc[repeated, 'row'])} repeat an earlier text with the same label and are left out."
        findings.append(Finding("repeated-text", "warning", message, "Nothing to do: kept twice, they could end up in two splits."))
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
                message = f"{in_words(frames[name].loc[shared, 'row'])} of the {name} data are also in the {keep} file and are left out of {name}."
                findings.append(Finding("split-leak", "warning", message, "A text seen in training makes its test score worthless."))
            frames[name] = frames[name][~shared]
    for name, part in given.items():
        what = f"{part.source['file']}, the {name} data" if part.source else f"The {name} data"
        _check_dropped(lost[name], len(part.rows) + sum(part.dropped.values()), max_dropped, what)

    rng = np.random.RandomState(seed)  # RandomState's stream is frozen by NumPy, so a seed means the same split everywhere
    shares = {name: share for name, share in (("test", test_share), ("validation", validation_share)) if name not in frames}
    training = frames.pop("training")
    parts = frames | _deal(training, shares, task, rng)
    classes = {name: set() if task == "regression" else set(label_names(frame["label"], task)) for name, frame in parts.items()}
    train, names = parts["train"], classes["train"]
    _check_train(train, names, task)
    for name in ("validation", "test"):
        if parts[name].empty:
            raise TableError(f"The {name} split would be empty: {len(training)} rows are too few. Add rows, or give a {name}_file.")
        unknown = _in_order(classes[name] - names)
        if unknown:
            raise TableError(f"The {name} rows have labels that no training row has: {', '.join(map(repr, unknown[:10]))}. Correct them or add training rows.")
        missing = _in_order(names - classes[name])
        if missing:
            message = f"The {name} split has no row of {', '.join(map(repr, missing[:10]))}."
            findings.append(Finding("single-class-split", "warning", message, "Its scores say nothing about these classes; add rows."))
    if max_train_samples is not None and max_train_samples < len(train):
        if max_train_samples < max(len(names), 2):
            raise TableError(f"max_train_samples={max_train_samples} is fewer than the {max(len(names), 2)} classes. Raise it.")
        parts["train"] = _sample(train, max_train_samples, task, rng)
        dropped["not_sampled"] = len(train) - max_train_samples
    return Splits(*(parts[name].reset_index(drop=True) for name in ("train", "validation", "test")), findings, dropped)


def _check_train(train: pd.DataFrame, names: set[str], task: str) -> None:
    if task == "single_label" and len(names) < 2:
        raise TableError(f"The training rows have {len(names)} class(es): {', '.join(sorted(names)) or 'none'}. A classifier needs at least two.")
    if len(names) > MAX_CLASSES:
        raise TableError(
            f"The training rows have {len(names):,} classes, more than {MAX_CLASSES:,}: {', '.join(map(repr, _in_order(names)[:3]))}, ... "
            f"Is label_column the right one? Numbers are for task='regression'; otherwise merge classes."
        )
    if task != "single_label" and train["value" if task == "regression" else "label"].nunique() < 2:
        shown = f"the same label, {train['label'].iloc[0]!r}" if len(train) else "no label"
        raise TableError(f"All {len(train):,} training rows have {shown}: there is nothing to tell apart. Add rows with other labels.")


def _deal(rows: pd.DataFrame, shares: dict[str, float], task: str, rng: np.random.RandomState, at_least_one: bool = False) -> dict[str, pd.DataFrame]:
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
                spare = (row for row in learnt[:100] if all(np.count_nonzero(place[other] == essential) > 1 for other in groups if row in other))
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
    over = np.zeros(len(rows))  # of each row, by how many rows its groups are over their share; under, where rows are added
    sign = 1 if surplus > 0 else -1
    for k, group in enumerate(groups):
        over[group] += sign * (kept[group].sum() - share * len(group))
        for row in group:
            of_row[row].append(k)
    essential = set() if task == "regression" or surplus < 0 else set(range(min(wanted, len(groups))))  # the rows without any label come last
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
        return np.array_split(np.argsort(rows["value"].to_numpy(), kind="stable"), max(1, min(10, len(rows) // 10)))
    classes = rows.groupby(rows["label"].to_numpy()).indices
    if task == "single_label":
        return [positions for _, positions in sorted(classes.items())]
    groups: dict[str, list] = {}
    for joined, positions in sorted(classes.items()):
        for name in joined.split(SEPARATOR):
            groups.setdefault(name, []).append(positions)
    whole = {name: np.sort(np.concatenate(positions)) for name, positions in groups.items()}
    return [whole[name] for name in sorted(whole, key=lambda name: (name == "", len(whole[name]), name))]


if __name__ == "__main__":
    try:
        fetch()
    except FetchError as error:
        sys.exit(str(error))
    for name in BUNDLED:
        print(f"{name}: {len(pd.read_csv(DATA_DIR / f'{name}.csv', keep_default_na=False)):,} labelled sentences in data/{name}.csv")
