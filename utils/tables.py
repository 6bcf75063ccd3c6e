"""Files to frames: CSV, TSV, JSONL and Parquet, with every value as the text that stands there.

`utils.data.read_table` is what the notebooks call. Here is what it needs to know about files: how their bytes become characters, which
delimiter they use, and where in them something is wrong.
"""

import codecs
import csv
import difflib
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

csv.field_size_limit(2**31 - 1)  # the default refuses a text of more than 131,072 characters
BATCH = 20_000  # rows that are Python objects at one time; as Arrow text they take a third of that
CHUNK = 1 << 20  # bytes
SAMPLE = 1 << 16  # bytes that are enough to tell an encoding
SEPARATOR = "|"  # joins the labels of one row in multi_label
NO_LABEL = "\0"  # stands for an empty list of labels, which says that there is none; in a blank cell there may be one that nobody wrote down
MARKS = {  # byte order marks, the longer ones first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# What tables are really saved in. Given all it knows, the detection library takes one accented letter for any of twenty code pages.
ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "mac_roman"]
EAST_ASIAN = ["cp932", "euc_jp", "gb18030", "big5", "cp949"]  # bytes that make sense in one of these seldom do so by chance
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
REFUSED = {  # suffix: what it is, and the way out
    **dict.fromkeys(SPREADSHEETS, "is a spreadsheet. Export the sheet as CSV UTF-8 (File, Save as) and give that file."),
    ".zip": "is a zip archive. Unpack it and give the table inside.",
    ".json": "is one JSON document. Write one object a line: pandas.read_json('x.json').to_json('x.jsonl', orient='records', lines=True); "
    "if each line is an object already, rename it to .jsonl.",
    **dict.fromkeys((".feather", ".arrow"), "is an Arrow file. Write it as Parquet: pandas.read_feather('x.feather').to_parquet('x.parquet')."),
    **dict.fromkeys((".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz"), "is compressed in another way than gzip. Unpack it and give the table inside."),
}
MAGIC = {  # first bytes: what a file is that calls itself CSV or JSONL
    b"PK\x03\x04": "is a zip archive or an Excel file, whatever its name says. Unpack it, or export the sheet as CSV UTF-8.",
    b"\xd0\xcf\x11\xe0": "is an Excel file, whatever its name says. Export the sheet as CSV UTF-8.",
    b"\x1f\x8b": "is compressed with gzip. Add .gz to its name.",
    b"PAR1": "is a Parquet file. Call it .parquet.",
}


class TableError(ValueError):
    """A table that cannot be used as it is; the message names the file, the place, the value and the remedy."""


class Finding(NamedTuple):
    """One remark: a stable id, the level ("error" or "warning"), what was seen, and what to do about it."""

    id: str
    level: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level}: {self.id}: {self.message} {self.fix}"


def read_frame(
    path: Path, wanted: list[str], *, encoding: str | None = None, delimiter: str | None = None, listed: str | None = None
) -> tuple[pd.DataFrame, dict, list[Finding]]:
    """Return the table in `path`, how it was read, and remarks.

    The frame has one line a row of the file, in its order; the columns `wanted` are text ("" where nothing stands), and so is everything in a
    CSV. The other columns of a JSONL or Parquet file keep their values' types. A column that pandas saved as an index is left out.
    In the wanted column `listed`, a JSONL or Parquet file may hold lists of labels: they are joined by `SEPARATOR`, an empty one is `NO_LABEL`.
    How it was read: `file` (its name), `encoding` and `delimiter` (None where there is none), `rows`.

    Raises:
        TableError: it cannot be read rightly.
    """
    readers = {".csv": _read_delimited, ".tsv": _read_delimited, ".txt": _read_delimited}
    readers |= {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".parquet": _read_parquet}
    suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if path.is_dir():
        raise TableError(f"{path.name} is a folder. Give the file in it.")
    if suffix in REFUSED:
        raise TableError(f"{path.name} {REFUSED[suffix]}")
    if suffix not in readers:
        raise TableError(f"{path.name}: a table ends in {', '.join(sorted(readers))}, each also with .gz. Export it as CSV.")

    findings: list[Finding] = []
    source = {"file": path.name, "encoding": None, "delimiter": None, "rows": 0}
    if readers[suffix] is not _read_parquet:
        source["encoding"] = _encoding(path, encoding, findings)
    elif encoding is not None:
        raise TableError(f"{path.name}: a Parquet file has no encoding. Leave out encoding={encoding!r}.")
    if readers[suffix] is not _read_delimited and delimiter is not None:
        raise TableError(f"{path.name} has no delimiter. Leave out delimiter={delimiter!r}.")
    frame = readers[suffix](path, wanted, source, delimiter if readers[suffix] is _read_delimited else listed)
    source["rows"] = len(frame)
    return _without_index(frame, wanted, path, findings), source, findings


# --- bytes and characters ---------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking .gz on the way, so that no file has to fit into memory."""
    packed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        if packed and not isinstance(error, PermissionError):
            raise TableError(f"{path.name} is not a whole gzip file ({error}). Compress it again, or give the file unpacked.") from None
        raise TableError(f"{path.name} cannot be read ({error}). Look at its permissions, or copy it elsewhere.") from None


@contextmanager
def _characters(path: Path, encoding: str, newline: str) -> Iterator[IO[str]]:
    with _opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline=newline) as stream:
        if stream.read(1) != "\ufeff":  # the byte order mark, where the encoding's name does not take it away
            stream.seek(0)
        yield stream


def _flaw(path: Path, encoding: str) -> tuple[int, str] | None:
    """Return the line of the first byte that is not `encoding`, or of the first NUL, and which of the two it is."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with _opened(path) as file:
        while True:
            raw = file.read(CHUNK)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].decode(encoding, "ignore").count("\n"), "bytes"
            except UnicodeError:
                return line, "bytes"
            if "\0" in text:
                return line + text[: text.index("\0")].count("\n"), "NUL"
            if not raw:
                return None
            line += text.count("\n")


def _encoding(path: Path, asked: str | None, findings: list[Finding]) -> str:
    """Return the encoding in which the whole file can be read: that asked for, else the mark's, else UTF-8, else what the bytes look like."""
    with _opened(path) as file:
        head = file.read(4)
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            raise TableError(f"{path.name} {what}")
    marked = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if asked is not None:
        try:
            "a".encode(asked)
        except (LookupError, TypeError, ValueError):
            raise TableError(
                f"encoding={asked!r} is none that Python knows. Write utf-8, cp1252 or utf-16, for example, or None to have it detected."
            ) from None
        if flaw := _flaw(path, asked):
            what = "a NUL character" if flaw[1] == "NUL" else f"bytes that are not {asked}"
            raise TableError(f"{path.name}, line {flaw[0]}: {what}. Give the encoding it was saved in, or encoding=None to have it detected.")
        return asked
    flaw = _flaw(path, marked or "utf-8")
    if flaw is None:
        return marked or "utf-8"
    line, what = flaw
    if marked:
        what = "a NUL character" if what == "NUL" else f"bytes that are not {marked.removesuffix('-sig')}, though the file begins with its mark"
        raise TableError(f"{path.name}, line {line}: {what}. Save the file as UTF-8.")
    return _unmarked_encoding(path, line, what, findings)


def _unmarked_encoding(path: Path, line: int, what: str, findings: list[Finding]) -> str:
    """Guess the encoding of a file that is not UTF-8 (or, if what == "NUL", hardly is) and say so."""
    from charset_normalizer import from_bytes

    first = None
    with _opened(path) as file:
        sample = file.read(SAMPLE)
        wide = what == "NUL" or b"\0" in sample  # UTF-16 has a zero byte in every character of ASCII
        candidates = ["utf_16_le", "utf_16_be"] if wide else ENCODINGS + EAST_ASIAN
        if not wide:
            sample = b""
            file.seek(0)
            for piece in iter(lambda: file.readline(CHUNK), b""):
                if not piece.isascii():  # the lines that tell encodings apart
                    sample += piece
                    if first is None and "\ufffd" in piece.decode("utf-8", "replace"):
                        first = piece
                    if len(sample) > SAMPLE:
                        break
            as_utf8 = sample.decode("utf-8", "replace")
            broken = as_utf8.count("\ufffd")
            if len(as_utf8) - len(as_utf8.encode("ascii", "ignore")) > 2 * broken:  # more characters of UTF-8 than flaws
                raise TableError(
                    f"{path.name}, line {line}: bytes that are not UTF-8, though the rest of the file is. Mend that line and save the file as UTF-8; "
                    f"or name the encoding, for example encoding='cp1252'."
                )
    likely = list(from_bytes(sample, cp_isolation=candidates, enable_fallback=False, preemptive_behaviour=False))
    names = [match.encoding for match in likely if match.coherence > 0 or match.encoding not in ENCODINGS]
    if not wide:
        # Where it reads as well as the best, cp1252 is it: what Excel and Windows save in western Europe and America.
        western = any("cp1252" in match.could_be_from_charset and match.chaos <= likely[0].chaos + 0.02 for match in likely)
        names = ["cp1252", *names] if western else [*names, "cp1252"]
    encoding = next((name for name in names if _flaw(path, name) is None), None)
    if encoding is None:
        if what == "NUL":
            raise TableError(f"{path.name}, line {line}: a NUL character. Save the file as UTF-8 text.")
        raise TableError(f"{path.name}, line {line}: neither utf-8 nor cp1252. Save the file as UTF-8, or name the encoding it was saved in.")
    shown = (first or sample).decode(encoding, "ignore").strip().split("\n")[0].strip()
    encoding = encoding.replace("utf_16_", "utf-16-")
    message = f"{path.name} is not UTF-8 (line {line}); it was read as {encoding}: {shown[:60]!r}."
    findings.append(Finding("encoding", "warning", message, "If that looks wrong, save it as UTF-8, or name its encoding."))
    return encoding


# --- CSV, TSV ---------------------------------------------------------------------------------------------------------


def _first_record(text: str, delimiter: str) -> list[str]:
    return next((fields for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if "".join(fields).strip()), [])


def _hint(line: str) -> str | None:
    """Return the delimiter that the line "sep=;" names, which Excel understands above a header."""
    found = re.fullmatch(r'"?sep=(.)"?', line.strip("\r\n"), re.IGNORECASE)
    return found[1] if found else None


def _head(path: Path, encoding: str, wanted: list[str]) -> str:
    """Return the first million characters."""
    with _characters(path, encoding, newline="") as stream:
        head = stream.read(CHUNK)
    if not head.strip():
        raise TableError(f"{path.name} is empty. It needs a header line with the columns {' and '.join(wanted)}.")
    if not head.strip(' \t\r\n",;|'):
        raise TableError(f"{path.name} has no header. Its first line must name the columns {' and '.join(wanted)}.")
    return head


def _delimiter(path: Path, head: str, wanted: list[str], asked: str | None) -> str:
    """Return the delimiter asked for, else the one that yields the columns wanted, else the one that yields most columns."""
    if asked is not None and (not isinstance(asked, str) or len(asked) != 1 or asked in '\r\n"\0'):
        raise TableError(f"delimiter={asked!r} must be one character, such as ',' ';' '|' or '\\t'. Write None to have it detected.")
    if asked is not None:
        return asked
    if hint := _hint(head.split("\n", 1)[0]):
        return hint
    candidates = "\t,;|" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else ",;\t|"
    return max(candidates, key=lambda d: (sum(name in _first_record(head, d) for name in wanted), len(_first_record(head, d))))


def _read_delimited(path: Path, wanted: list[str], source: dict, delimiter: str | None) -> pd.DataFrame:
    head = _head(path, source["encoding"], wanted)
    delimiter = source["delimiter"] = _delimiter(path, head, wanted, delimiter)
    names: list[str] = []
    columns: list[list[pa.Array]] = []
    batch: list[list[str]] = []
    lone = False  # whether a carriage return was met that ends no line

    def lines(stream: IO[str]) -> Iterator[str]:
        """Hide lone carriage returns, which the csv module takes for ends of lines and its writer leaves unquoted, behind a NUL, which no file has."""
        nonlocal lone
        for line in stream:
            if "\r" in line and "\n" in head:
                body = line.removesuffix("\n").removesuffix("\r")
                if "\r" in body:
                    lone, line = True, body.replace("\r", "\0") + line[len(body) :]
            yield line

    def store() -> None:
        for chunks, values in zip(columns, zip(*batch, strict=True), strict=False):  # an empty batch has no columns
            chunks.append(pa.array([value.replace("\0", "\r") for value in values] if lone else values, pa.large_string()))
        batch.clear()

    with _characters(path, source["encoding"], newline="\n" if "\n" in head else "\r") as stream:
        reader = csv.reader(lines(stream), delimiter=delimiter, strict=True)
        begin = 1  # the line where the row begins, which is what helps when a quote that is never closed swallows the rest of the file
        try:
            for fields in reader:
                if not names:
                    if "".join(fields).strip() and not (begin == 1 and _hint(delimiter.join(fields))):
                        names = [name.replace("\0", "\r") for name in fields]
                        _require_columns(names, wanted, path, delimiter)
                        columns = [[] for _ in names]
                elif len(fields) == len(names):
                    batch.append(fields)
                    if len(batch) == BATCH:
                        store()
                elif fields:  # an empty line is no row; pandas would fill a short row up, and take a long one's first value for an index
                    raise TableError(
                        f"{path.name}, line {begin}: {len(fields)} values, but the header has {len(names)} columns. "
                        f"A text that holds {delimiter!r} must stand in double quotes."
                    )
                begin = reader.line_num + 1
        except csv.Error as error:
            raise TableError(
                f"{path.name}, line {begin}: {error}. A text that holds {delimiter!r}, a quote or a line break must stand in double quotes, "
                f"and a double quote inside it be written twice."
            ) from None
        store()
    if not names:
        raise TableError(f"{path.name} has no header. Its first line must name the columns {' and '.join(wanted)}.")
    return pd.DataFrame({name: _text_series(chunks) for name, chunks in zip(_unique(names), columns, strict=True)})


def _text_series(chunks: list[pa.Array]) -> pd.Series:
    """Return text as pandas keeps it: Arrow's in pandas 3, Python's (equal ones shared) in pandas 2."""
    return pa.chunked_array(chunks, pa.large_string()).to_pandas().astype(str)


# --- JSONL, Parquet ---------------------------------------------------------------------------------------------------


def _read_jsonl(path: Path, wanted: list[str], source: dict, listed: str | None) -> pd.DataFrame:
    texts: dict[str, list[pa.Array]] = {name: [] for name in wanted}
    others: dict[str, list] = {}
    names: dict[str, None] = {}  # an ordered set
    batch: list[dict] = []
    rows = 0

    def store() -> None:
        nonlocal rows
        for record in batch:
            names.update(dict.fromkeys(record))
        for name in wanted:
            texts[name].append(_as_text([record.get(name) for record in batch], rows + 1, name, path, name == listed))
        for name in names:
            if name not in texts:
                others.setdefault(name, [None] * rows).extend(record.get(name) for record in batch)
        rows += len(batch)
        batch.clear()

    # newline="\n": a text may hold other things that Python takes for the end of a line
    with _characters(path, source["encoding"], newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                remedy = "Each line must be one JSON object."
                if line.lstrip().startswith("[") and number == 1:
                    remedy = "This is one JSON document; write one object a line: pandas.read_json(...).to_json('x.jsonl', orient='records', lines=True)."
                raise TableError(f"{path.name}, line {number}: not JSON ({error}). {remedy}") from None
            if not isinstance(record, dict):
                raise TableError(f"{path.name}, line {number}: {line[:60]!r} is not a JSON object. Each line must be one.")
            batch.append(record)
            if len(batch) == BATCH:
                store()
    store()
    if not rows:
        raise TableError(f"{path.name} is empty. Each line must be a JSON object with {' and '.join(wanted)}.")
    _require_columns(list(names), wanted, path)
    return pd.DataFrame({name: _text_series(texts[name]) if name in texts else pd.Series(others[name], dtype=object) for name in names})


def _read_parquet(path: Path, wanted: list[str], source: dict, listed: str | None) -> pd.DataFrame:
    try:
        with _opened(path) as file:
            table = pyarrow.parquet.read_table(io.BytesIO(file.read()) if path.suffix.lower() == ".gz" else file)
        table.validate(full=True)  # bytes that are no UTF-8 would be found much later
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path.name} is not a whole Parquet file ({error}). Write it again.") from None
    _require_columns(table.column_names, wanted, path)
    columns = {}
    for name, column in zip(_unique(table.column_names), table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if name in wanted:
            chunks = column.cast(pa.large_string()).fill_null("").chunks if is_text else [_as_text(column.to_pylist(), 1, name, path, name == listed)]
            columns[name] = _text_series(chunks)
            continue
        try:  # through Python objects: pandas would turn integers with one null among them into floats
            columns[name] = pd.Series(column.to_pylist(), dtype=object)
        except (pa.ArrowException, ValueError, OverflowError, KeyError) as error:  # a date that Python has not, an unknown time zone
            raise TableError(f"{path.name}, column {name!r}: a value cannot be read ({error}). Leave that column out.") from None
    return pd.DataFrame(columns)


def _as_text(values: list, first_row: int, name: str, path: Path, listed: bool = False) -> pa.Array:
    """Turn typed values into text: None becomes "" (blank), 1.0 becomes "1", and where `listed`, lists of labels are joined by `SEPARATOR`."""

    def text(value) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, (list, tuple)):
            return SEPARATOR.join(map(text, value)) if value else NO_LABEL
        if value is None or value != value:
            return ""
        if isinstance(value, (float, Decimal)) and np.isfinite(float(value)) and value == int(value):
            return str(int(value))
        return str(value)

    def refuse(row: int, what: str) -> None:
        raise TableError(f"{path.name}, row {row}, column {name!r}: {what}")

    plain = (str, int, float, Decimal)  # bool is an int
    for row, value in enumerate(values, start=first_row):
        if listed and isinstance(value, (list, tuple)):
            for label in value:
                if not isinstance(label, plain) or label != label:
                    refuse(row, f"{label!r} in the list {str(value)[:60]} is no label. Take it out of the list.")
                if SEPARATOR in text(label):
                    refuse(row, f"the label {label!r} in a list holds {SEPARATOR!r}, which joins labels. Rename it.")
        elif value is not None and not isinstance(value, plain):
            ways = " (lists are for the one label column of task='multi_label')" if isinstance(value, (list, tuple)) else ""
            refuse(row, f"{str(value)[:60]!r} is a {type(value).__name__}. Give a text or a number{ways}.")
    texts = [text(value) for value in values]
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        row, wrong = next((k, t) for k, t in enumerate(texts, start=first_row) if re.search("[\ud800-\udfff]", t))
        raise TableError(f"{path.name}, row {row}, column {name!r}: {wrong[:60]!r} holds half a character (a lone surrogate). Write the text again.") from None


# --- columns ----------------------------------------------------------------------------------------------------------


def _unique(names: list[str]) -> list[str]:
    """Tell columns of the same name apart by their place in the file."""
    taken, found = set(names), []
    for place, name in enumerate(names, start=1):
        if name in found:
            name = free_name(f"{name}_{place}", taken)
            taken.add(name)
        found.append(name)
    return found


def free_name(name: str, taken) -> str:
    """Return `name`, with as many underscores behind it as make it new."""
    while name in taken:
        name += "_"
    return name


def _require_columns(names: list[str], wanted: list[str], path: Path, delimiter: str | None = None) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise TableError(f"{path.name} has {names.count(name)} columns called {name!r}. Rename all but one.")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            shown = ", ".join(map(repr, names[:30])) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
            if delimiter is not None and len(names) == 1:
                hint += f" {delimiter!r} does not divide its header: name the delimiter that does."
            raise TableError(f"{path.name} has no column {name!r}; it has {shown}.{hint} Set text_column and label_column.")


def _without_index(frame: pd.DataFrame, wanted: list[str], path: Path, findings: list[Finding]) -> pd.DataFrame:
    """Leave out what pandas wrote as a row index: a nameless first column, later read and saved again as "Unnamed: 0"."""
    index = [name for k, name in enumerate(frame.columns) if re.fullmatch(r"Unnamed: 0(\.\d+)*|__index_level_\d+__", name) or (name == "" and k == 0)]
    index = [name for name in index if name not in wanted]
    if index:
        message = f"{path.name}: {', '.join(map(repr, index))} is an index that pandas saved; it is left out."
        findings.append(Finding("index-column", "warning", message, "Save with index=False."))
    return frame.drop(columns=index)
