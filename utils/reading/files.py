"""Files to frames: CSV, TSV, JSONL and Parquet, with every value as the text that stands there."""

import csv
import io
import json
import math
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from utils.findings import Finding, TableError, did_you_mean, in_words, rows_in_words
from utils.labels import NO_LABEL, SEPARATOR
from utils.reading.encodings import CHUNK, characters, find_encoding, opened
from utils.reading.swallowed import NEARLY_ALL, as_rows, look_for_swallowed

csv.field_size_limit(2**31 - 1)  # the default refuses a text of more than 131,072 characters

BATCH = 20_000  # rows of a CSV that are Python objects at a time; as Arrow text they take a third of that
DELIMITED = (".csv", ".tsv", ".txt")
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = sorted((*DELIMITED, *JSON_LINES, ".parquet"))
ONE_OBJECT = "Write one object a line: "
ONE_OBJECT += "pandas.read_json('x.json').to_json('x.jsonl', orient='records', lines=True)"
REFUSED = {  # suffixes: what it is, and the way out
    ".xlsx .xls .xlsm .xlsb .ods .numbers": "is a spreadsheet. Export the sheet as CSV UTF-8 (Save as).",
    ".zip .bz2 .xz .zst .7z .tar .tgz": "is packed, and not by gzip. Unpack it and give the table inside.",
    ".feather .arrow": "is an Arrow file. Use pandas.read_feather('x.feather').to_parquet('x.parquet').",
    ".json": f"is one JSON document. {ONE_OBJECT}; if each line is an object already, rename it to .jsonl.",
}
ONE_LINE_END = "Carriage returns and line feeds are mixed here: save the file with line ends of one kind."
OTHER = {"\n": "\r", "\r": "\n"}
BLANK_AND_QUOTE = re.compile(' +"')
Remarked = tuple[pd.DataFrame, list[Finding]]
PLAIN = (str, int, float, Decimal)  # what can be a text or a label; bool is an int


def read_frame(
    path: Path,
    required: list[str],
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    class_names: bool = False,
    listed: str | None = None,
) -> tuple[pd.DataFrame, dict, list[Finding]]:
    """Return the table in `path`, how it was read (`Table.source`), and remarks; refuse it by TableError.

    The frame has one line a row of the file; its index counts the file's rows from 0. Everything in a CSV is
    text; the other columns of a JSONL or Parquet file keep their values' types. A column that pandas saved as
    an index is left out, and so are rows that repeat the header, as joined files have them.

    Args:
        required: columns that the file must have. They are text ("" where nothing stands) and called as here,
            though the file may write their accents in another Unicode form.
        class_names: name the classes of a Parquet column that `datasets` wrote as ClassLabel.
        listed: the required column in which a JSONL or Parquet file may hold lists of labels. They are joined
            by `SEPARATOR`; an empty one is `NO_LABEL`.
    """
    suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if path.is_dir():
        raise TableError(f"{path.name} is a folder. Give the file in it.")
    for suffixes, reason in REFUSED.items():
        if suffix in suffixes.split():
            raise TableError(f"{path.name} {reason}")
    if suffix not in SUFFIXES:
        endings = ", ".join(SUFFIXES)
        raise TableError(f"{path.name}: a table ends in {endings}, each also with .gz. Export it as CSV.")
    if suffix == ".parquet" and encoding is not None:
        raise TableError(f"{path.name}: a Parquet file has no encoding. Leave out encoding={encoding!r}.")
    if suffix not in DELIMITED and delimiter is not None:
        raise TableError(f"{path.name} has no delimiter. Leave out delimiter={delimiter!r}.")

    findings: list[Finding] = []
    begins: Sequence[int] = []
    if suffix == ".parquet":
        frame = _read_parquet(path, required, class_names, listed)
    elif suffix in JSON_LINES:
        encoding = find_encoding(path, encoding, findings)
        frame = _read_jsonl(path, encoding, required, listed)
    else:
        encoding = find_encoding(path, encoding, findings)
        frame, begins, delimiter = _read_delimited(path, encoding, required, delimiter, findings)
    source = {"file": path.name, "encoding": encoding, "delimiter": delimiter, "rows": len(frame)}
    frame, index = _without_index(frame, required, path)
    frame, headers = _without_headers(frame, required, begins, path)
    return frame, source, [*findings, *index, *headers]


# --- delimited text -----------------------------------------------------------------------------------------


def _read_delimited(
    path: Path, encoding: str, required: list[str], delimiter: str | None, findings: list[Finding]
) -> tuple[pd.DataFrame, Sequence[int], str]:
    """Return the rows, the line where each of them begins, and the delimiter."""
    with characters(path, encoding, newline="") as stream:
        head = stream.read(CHUNK)
    if not head.strip(' \t\r\n",;|'):
        names = " and ".join(required)
        raise TableError(f"{path.name} is empty or has no header. Its first line must name {names}.")
    delimiter = _delimiter(path, head, required, delimiter)
    end = _line_end(head, next(_records(head, delimiter), []), required)
    rows = _rows(path, encoding, head, delimiter, end)
    *_, header = next(rows, [[]])
    names = _column_names(header, required, path, delimiter)
    chunks: dict[str, list[pa.Array]] = {name: [] for name in names}
    begins = array("Q")
    suspects: list[int] = []  # rows of several lines each of which could be a row
    while True:
        cells: list[str] = []  # in one list: a list for each row would keep the garbage collector busy
        for begin, last, fields in islice(rows, BATCH):
            if last > begin and as_rows(fields, delimiter, end):
                suspects.append(len(begins))
            begins.append(begin)
            cells += fields
        if not cells:
            break
        for k, name in enumerate(names):
            chunks[name].append(pa.array(cells[k :: len(names)], pa.large_string()))
    frame = pd.DataFrame({name: _text_series(arrays) for name, arrays in chunks.items()})
    if suspects:
        findings += look_for_swallowed(frame, suspects, begins, path, delimiter, end)
    for name in required[1:]:
        quoted = [value for value in frame[name].unique() if re.fullmatch(' +".*" *', value, re.DOTALL)]
        if quoted:
            message = f"{path.name}, column {name!r}: the quotes of {quoted[0][:60]!r} are part of the value."
            fix = "If they only enclose it, take out the blank before them."
            findings.append(Finding("blank-before-quote", "warning", message, fix))
    return frame, begins, delimiter


def _text_series(chunks: list[pa.Array]) -> pd.Series:
    """Return text as pandas keeps it: Arrow's in pandas 3, Python's (equal ones shared) in pandas 2."""
    return pa.chunked_array(chunks, pa.large_string()).to_pandas().astype(str)


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the records of a CSV in which something stands."""
    records = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return (fields for fields in records if "".join(fields).strip())


def _delimiter(path: Path, head: str, required: list[str], delimiter: str | None) -> str:
    """Return the delimiter asked for, else the one that yields most required columns, else most columns."""
    if delimiter in ("\\t", "tab"):  # as a shell passes it on, and the word
        return "\t"
    if delimiter is None:
        candidates = "\t,;|" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else ",;\t|"

        def columns(candidate: str) -> tuple[int, int]:
            names = _as_required(next(_records(head, candidate), []), required)
            return len({*required} & {*names}), len(names)

        return _hint(re.split("[\r\n]", head, maxsplit=1)[0]) or max(candidates, key=columns)
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"\0':
        raise TableError(f"delimiter={delimiter!r} must be one character, or None to have it detected.")
    return delimiter


def _hint(line: str) -> str | None:
    """Return the delimiter that the line "sep=;" names, which Excel understands above a header."""
    match = re.fullmatch(r'"?sep=(.)"?', line.strip("\r\n"), re.IGNORECASE)
    return match[1] if match else None


def _line_end(head: str, header: list[str], required: list[str]) -> str:
    """Return "\\r" where lone carriage returns end lines (line feeds may stand in cells), else "\\n"."""
    bare = re.sub('"[^"]*"', "", head).lstrip()
    first = re.search(r"\r*\n|\r", bare)
    if first is None or first[0] != "\r":
        return "\n"
    lone = len(re.findall(r"\r(?!\r*\n)", bare))
    return "\r" if lone >= bare.count("\n") or {*required} <= {*_as_required(header, required)} else "\n"


def _rows(path: Path, encoding: str, head: str, delimiter: str, end: str) -> Iterator[tuple[int, int, list]]:
    """Yield the first line, the last line and the fields of the header and of each row.

    One with another number of fields is refused: pandas would fill it up, or take a value for an index.
    """
    # Nearly all cells in quotes have a blank before them (`fine day, "good"`).
    records = [record[1:] for record in islice(_records(head, delimiter), 1, 200)]
    blanks = sum(any(BLANK_AND_QUOTE.match(cell) for cell in record) for record in records)
    skip = blanks > NEARLY_ALL * len(records)
    # csv.writer makes such ends on Windows, in a file opened without newline="".
    doubled = end == "\n" and re.match(r"[^\n]*\r\r\n", head.lstrip()) is not None
    begin, width = 1, 0
    with characters(path, encoding, newline=end) as stream:
        lines = _lines(stream, end, doubled)
        reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=skip)
        try:
            for fields in reader:
                is_hint = begin == 1 and _hint(delimiter.join(fields))
                if not width and not is_hint and "".join(fields).strip():
                    width = len(fields)
                if width and len(fields) == width:
                    if "\0" in delimiter.join(fields):
                        fields = [field.replace("\0", OTHER[end]) for field in fields]
                    yield begin, reader.line_num, fields
                elif width and fields:  # an empty line is no row
                    counts = f"{len(fields)} values, but the header has {width} columns"
                    remedy = _remedy(fields, width, begin, reader.line_num, delimiter)
                    raise TableError(f"{path.name}, line {begin}: {counts}. {remedy}")
                begin = reader.line_num + 1
        except csv.Error as error:  # `begin` helps where a quote that is never closed swallows the rest
            remedy = "Put the text in double quotes, and write each one inside it twice."
            raise TableError(f"{path.name}, line {begin}: {error}. {remedy}") from None


def _lines(stream: IO[str], end: str, doubled: bool) -> Iterator[str]:
    """Yield the lines, with a NUL, which no file has, in place of what looks like a line's end and is none.

    The csv module takes lone carriage returns for ends of lines, and its writer leaves them unquoted.
    """
    for line in stream:
        if doubled and line.endswith("\r\r\n"):
            line = line.rstrip("\r\n") + "\r\n"
        if end == "\r" and line.startswith("\n"):  # of a line that ends with both, or of the file's end
            yield "\n"
            line = line[1:]
        body = line.removesuffix("\n").removesuffix("\r")
        if line:
            yield line if OTHER[end] not in body else body.replace(OTHER[end], "\0") + line[len(body) :]


def _remedy(fields: list[str], width: int, begin: int, last: int, delimiter: str) -> str:
    """Say how to mend a row that has not as many fields as the header."""
    joined = "".join(fields).count("\0") + 1
    if joined > 1 and len(fields) - 1 == (width - 1) * joined:  # so many rows on one line
        return ONE_LINE_END
    if any(BLANK_AND_QUOTE.match(cell) for cell in fields):
        return "Quotes count only right behind the delimiter: take out the blank before them."
    if last > begin:
        return f"A double quote opens a cell that runs on to line {last}: in a quoted text, write it twice."
    return f"A text that holds {delimiter!r} must stand in double quotes."


# --- JSON lines and Parquet ---------------------------------------------------------------------------------


def _read_jsonl(path: Path, encoding: str, required: list[str], listed: str | None) -> pd.DataFrame:
    with characters(path, encoding, newline="") as stream:
        end = _line_end(stream.read(CHUNK), [], required)
    columns: dict[str, list] = {}
    rows = 0
    # "\n": a text may hold what else Python takes for a line's end. None: carriage returns end lines, too.
    with characters(path, encoding, newline="\n" if end == "\n" else None) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                record = _record(line, number, path)
                values = dict(zip(_as_required([*record], required), record.values(), strict=True))
                columns |= {name: [None] * rows for name in values if name not in columns}
                for name, column in columns.items():
                    column.append(values.get(name))
                rows += 1
    if not rows:
        names = " and ".join(required)
        raise TableError(f"{path.name} is empty. Each line must be a JSON object with {names}.")
    names = _column_names(list(columns), required, path)
    return pd.DataFrame({name: _typed(columns.pop(name), name, required, path, listed) for name in names})


def _record(line: str, number: int, path: Path) -> dict:
    try:
        record = json.loads(line)
        if isinstance(record, dict):
            return record
        reason = line[:60]
    except (ValueError, RecursionError) as error:
        reason = error
    remedy = ONE_LINE_END if "\r" in line.strip() else "Each line must be one."
    if line.lstrip().startswith("[") and number == 1:
        remedy = f"This is one JSON document. {ONE_OBJECT}."
    raise TableError(f"{path.name}, line {number}: no JSON object ({reason}). {remedy}")


def _read_parquet(path: Path, required: list[str], class_names: bool, listed: str | None) -> pd.DataFrame:
    with opened(path) as file:
        try:
            packed = path.suffix.lower() == ".gz"
            table = pyarrow.parquet.read_table(io.BytesIO(file.read()) if packed else file)
            table.validate(full=True)  # bytes that are no UTF-8 would be found much later
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{path.name} is not a whole Parquet file ({error}). Write it again.") from None
    names = _column_names(table.column_names, required, path)
    classes = _class_names(table.schema) if class_names else {}
    columns = {}
    for name, written, column in zip(names, table.column_names, table.columns, strict=True):
        try:  # through Python objects: pandas would turn integers with one null among them into floats
            values = column.to_pylist()
        except (pa.ArrowException, ValueError, OverflowError, KeyError) as error:
            # a date that Python has not, an unknown time zone
            raise TableError(f"{path.name}, column {name!r}: {error}. Leave it out.") from None
        columns[name] = _typed(values, name, required, path, listed, classes.get(written))
    return pd.DataFrame(columns)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the classes that `datasets` notes for columns of ClassLabel, or of lists of it."""
    classes = {}
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        for column, feature in features.items():
            feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
            if feature.get("_type") == "ClassLabel" and feature.get("names"):
                classes[column] = feature["names"]
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        return {}
    return classes


def _typed(
    values: list, name: str, required: list[str], path: Path, listed: str | None, classes: list | None = None
) -> pd.Series:
    """Return the values of a required column as text, those of another one with the types that they have."""
    if name not in required:
        return pd.Series(values, dtype=object)
    texts: list[str] = []
    try:
        for value in values:
            texts.append(_as_text(_named(value, classes) if classes else value, name == listed))
        return _text_series([pa.array(texts, pa.large_string())])
    except UnicodeEncodeError as error:
        row, text = texts.index(error.object) + 1, error.object[:60]
        reason = f"{text!r} holds half a character (a lone surrogate). Write the text again."
    except TableError as error:
        row, reason = len(texts) + 1, error
    raise TableError(f"{path.name}, row {row}, column {name!r}: {reason}")


def _named(value, names: list[str]):
    """Put names in place of numbers of classes; -1 is for `datasets` a row without a label."""
    if isinstance(value, list):
        return [_named(number, names) for number in value]
    if not isinstance(value, int) or value == -1:
        return None if value == -1 else value
    if not 0 <= value < len(names):
        raise TableError(f"{value} is no class, they are 0 to {len(names) - 1} ({names[-1]!r}). Correct it.")
    return str(names[value])


def _as_text(value, listed: bool) -> str:
    """Turn a typed value into text: None becomes "" (blank), 1.0 becomes "1", a list of labels "a|b"."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if listed and isinstance(value, list):
        for label in value:
            if not isinstance(label, PLAIN) or label != label or SEPARATOR in str(label):
                place = f"{label!r} in the list {str(value)[:60]}"
                raise TableError(f"{place} is no label without {SEPARATOR!r}. Rename it or take it out.")
        return SEPARATOR.join(_as_text(label, False) for label in value) if value else NO_LABEL
    if not isinstance(value, PLAIN):
        only = " (lists are for the one label column of task='multi_label')" * isinstance(value, list)
        raise TableError(f"{str(value)[:60]!r} is a {type(value).__name__}. Give a text or a number{only}.")
    if isinstance(value, (float, Decimal)) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


# --- columns, and rows that are none ------------------------------------------------------------------------


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return `name`, with as many underscores behind it as make it new."""
    while name in taken:
        name += "_"
    return name


def _as_required(names: list[str], required: list[str]) -> list[str]:
    """Return the names, the required ones spelt as there: é is one character or two, which nobody sees."""
    spelling = {unicodedata.normalize("NFC", name): name for name in required if name not in names}
    if not spelling:
        return names
    return [n if n in required else spelling.get(unicodedata.normalize("NFC", n), n) for n in names]


def _column_names(
    names: list[str], required: list[str], path: Path, delimiter: str | None = None
) -> list[str]:
    """Return the names, the required ones spelt as there, repeated others told apart by their place."""
    names = _as_required(names, required)
    for name in required:
        if (count := names.count(name)) > 1:
            raise TableError(f"{path.name} has {count} columns called {name!r}. Rename all but one.")
        if name not in names:
            hint = did_you_mean(name, [other[:60] for other in names])
            if any("\r" in other for other in names):
                hint = ONE_LINE_END
            elif delimiter is not None and len(names) == 1:
                hint = f"{delimiter!r} does not divide its header: name the delimiter that does."
            columns = in_words(names, 30) or "none"
            setting = "text_column and label_column" if len(required) > 1 else "text_column (--text-column)"
            advice = f"{hint} Set {setting}.".strip()
            raise TableError(f"{path.name} has no column {name!r}; it has {columns}. {advice}")
    distinct: list[str] = []
    for place, name in enumerate(names, start=1):
        again = name in distinct
        distinct.append(free_name(f"{name}_{place}", {*names, *distinct}) if again else name)
    return distinct


def _without_index(frame: pd.DataFrame, required: list[str], path: Path) -> Remarked:
    """Leave out a row index that pandas saved: a nameless first column, saved again as "Unnamed: 0"."""
    pattern = re.compile(r"Unnamed: 0(\.\d+)*|__index_level_\d+__")
    names = [name for k, name in enumerate(frame) if pattern.fullmatch(name) or (name == "" and k == 0)]
    index = [name for name in names if name not in required]
    message = f"{path.name}: {', '.join(map(repr, index))} is an index that pandas saved; it is left out."
    finding = Finding("index-column", "warning", message, "Save with index=False.")
    return frame.drop(columns=index), [finding] if index else []


def _without_headers(frame: pd.DataFrame, required: list[str], begins: Sequence[int], path: Path) -> Remarked:
    """Leave out the rows that say the header again, as files do that were joined; refuse another order."""

    def bare(value) -> str:
        return unicodedata.normalize("NFC", str(value).strip(' "\ufeff').casefold())

    header = [*map(bare, frame)]
    longest = max(map(len, frame.columns)) + 8  # more than quotes, blanks and a mark take
    likely = np.full(len(frame), len({*header}) > 1)  # a text of one word may be any word
    for name in reversed(required):  # first the labels, which are few, and leave few rows
        if not likely.any():
            return frame, []
        values = [value for value in frame[name].unique() if len(value) <= longest and bare(value) in header]
        likely &= frame[name].isin(values).to_numpy()
    where, lines = ("line", begins) if begins else ("row", range(1, len(frame) + 1))
    own = [k for k, name in enumerate(frame) if name in required]
    again = []
    for place in np.flatnonzero(likely):
        values = [*map(bare, frame.iloc[place])]
        same = all(values[k] == header[k] for k in own)
        whole = {*values} == {*header}
        if whole and not same:
            what = "the header again, with its columns in another order. Bring both parts into one order."
            raise TableError(f"{path.name}, {where} {lines[place]}: {what}")
        if same and (whole or len(own) > 1):
            again.append(place)
    if not again:
        return frame, []
    numbers = rows_in_words([lines[place] for place in again], where)
    message = f"{path.name}: the header stands again in {numbers}; it is no row and left out."
    fix = "Nothing to do, if the files that were joined have the same columns."
    return frame.drop(index=again), [Finding("repeated-header", "warning", message, fix)]


# --- what an output holds, and would overwrite --------------------------------------------------------------


def in_digits(shares: np.ndarray) -> list[str]:
    """Return a text a row: its shares as f",{share:.6f}" writes them, which is slow for 1,000 classes."""
    scaled = shares * 1e6
    whole = np.nan_to_num(np.rint(scaled)).astype(np.uint32)
    sure = (np.abs(scaled - whole) < 0.499999).all(axis=1)  # not in the middle of two, and a number
    cells = np.full((*shares.shape, 9), [*b",0.000000"], dtype=np.uint8)
    for place in (8, 7, 6, 5, 4, 3, 1):
        cells[..., place] += (whole - whole // 10 * 10).astype(np.uint8)  # faster than %
        whole //= 10
    lines = [row.tobytes().decode() for row in cells]
    for row in np.flatnonzero(~sure):
        lines[row] = "".join(f",{share:.6f}" for share in shares[row])
    return lines


def refuse_output(target: Path, data_file: Path, text_column: str) -> None:
    """Refuse an output that is no CSV or would overwrite somebody's data, as where two files are swapped."""
    fault = None
    if target.suffix.lower() != ".csv":
        fault = "is no CSV, and the predictions are written as CSV"
    elif target.is_dir():
        fault = "is a folder"
    elif target.exists():
        with open(target, encoding="utf-8-sig", errors="replace") as file:
            header = re.split(r'[,;|\t\n"]', file.readline())
        if target.samefile(data_file):
            fault = "is the table itself"
        elif text_column in header and "predicted" not in header:
            fault = f"is there already, a table with texts in {text_column!r} and no predictions"
    if fault:
        raise TableError(f"{target.name} {fault}. Give another output file.")
