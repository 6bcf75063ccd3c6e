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
import unicodedata
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from utils.findings import Finding, TableError
from utils.labels import NO_LABEL, SEPARATOR

csv.field_size_limit(2**31 - 1)  # the default refuses a text of more than 131,072 characters


BATCH = 20_000  # rows that are Python objects at one time; as Arrow text they take a third of that
CHUNK = 1 << 20  # bytes
SAMPLE = 1 << 16  # bytes that are enough to tell an encoding
CHANCE = 4  # characters beyond ASCII in a line of a code page that can be UTF-8 by chance: a line with more of them never is
MARKS = {  # byte order marks, the longer ones first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


# What tables are really saved in. Given all it knows, the detection library takes one accented letter for any of twenty code pages.
ENCODINGS = [
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "koi8_r",
    "mac_roman",
]
EAST_ASIAN = [
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
]  # bytes that make sense in one of these seldom do so by chance
TAB = ("\\t", "tab")  # as a shell passes it on, and the word
ONE_LINE_END = (
    "Carriage returns and line feeds are mixed here: save the file again with line ends of one kind."
)
BLANK_AND_QUOTE = re.compile(' +"')
NEARLY_ALL = 0.9
# A cell with line breaks whose lines could each be a row. Two lines can look so by chance ("nice,good"), and so can a few that end with numbers ("3,5").
SWALLOWED = 3  # lines from which on it is no chance where what stands in the other columns is at home there
SWALLOWED_OFTEN = 30  # cells of two or three lines that are remarked on, if the evidence is numbers: a dozen receipts ("milk,2") may be in any table
SWALLOWED_NUMBERS = (
    10  # lines from which on it is none where that is one number behind a comma, or where no column can tell
)
ENOUGH = 100_000  # rows that tell what stands in a column
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
REFUSED = {  # suffix: what it is, and the way out
    **dict.fromkeys(
        SPREADSHEETS, "is a spreadsheet. Export the sheet as CSV UTF-8 (File, Save as) and give that file."
    ),
    ".zip": "is a zip archive. Unpack it and give the table inside.",
    ".json": "is one JSON document. Write one object a line: pandas.read_json('x.json').to_json('x.jsonl', orient='records', lines=True); "
    "if each line is an object already, rename it to .jsonl.",
    **dict.fromkeys(
        (".feather", ".arrow"),
        "is an Arrow file. Write it as Parquet: pandas.read_feather('x.feather').to_parquet('x.parquet').",
    ),
    **dict.fromkeys(
        (".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz"),
        "is compressed in another way than gzip. Unpack it and give the table inside.",
    ),
}


MAGIC = {  # first bytes: what a file is that calls itself CSV or JSONL
    b"PK\x03\x04": "is a zip archive or an Excel file, whatever its name says. Unpack it, or export the sheet as CSV UTF-8.",
    b"\xd0\xcf\x11\xe0": "is an Excel file, whatever its name says. Export the sheet as CSV UTF-8.",
    b"\x1f\x8b": "is compressed with gzip. Add .gz to its name.",
    b"PAR1": "is a Parquet file. Call it .parquet.",
}


def read_frame(
    path: Path,
    wanted: list[str],
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    class_names: bool = False,
    listed: str | None = None,
) -> tuple[pd.DataFrame, dict, list[Finding]]:
    """Return the table in `path`, how it was read, and remarks.

    The frame has one line a row of the file, in its order; its index counts the file's rows from 0. The columns `wanted` are text ("" where
    nothing stands) and called as they are asked for, though the file may write their accents in another Unicode form. Everything in a CSV is text;
    the other columns of a JSONL or Parquet file keep their values' types. A column that pandas saved as an index is left out, and so are
    rows that repeat the header, as joined files have them. `class_names` puts the names in place of the numbers of a Parquet column that
    `datasets` wrote as ClassLabel. In the wanted column `listed`, a JSONL or Parquet file may hold lists of labels: they are joined by `SEPARATOR`,
    an empty one is `NO_LABEL`.
    How it was read: `file` (its name), `encoding` and `delimiter` (None where there is none), `rows` (all of them, those left out included).

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
        raise TableError(
            f"{path.name}: a table ends in {', '.join(sorted(readers))}, each also with .gz. Export it as CSV."
        )

    findings: list[Finding] = []
    source = {"file": path.name, "encoding": None, "delimiter": None, "rows": 0}
    if readers[suffix] is not _read_parquet:
        source["encoding"] = _encoding(path, encoding, findings)
    elif encoding is not None:
        raise TableError(f"{path.name}: a Parquet file has no encoding. Leave out encoding={encoding!r}.")
    if readers[suffix] is not _read_delimited and delimiter is not None:
        raise TableError(f"{path.name} has no delimiter. Leave out delimiter={delimiter!r}.")
    frame = readers[suffix](path, wanted, source, findings, delimiter, class_names, listed)
    source["rows"] = len(frame)
    begins = source.pop("begins", [])
    frame = _without_index(frame, wanted, path, findings)
    return _without_headers(frame, wanted, begins, path, findings), source, findings


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking .gz on the way, so that no file has to fit into memory."""
    packed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        if packed and not isinstance(error, PermissionError):
            raise TableError(
                f"{path.name} is not a whole gzip file ({error}). Compress it again, or give the file unpacked."
            ) from None
        raise TableError(
            f"{path.name} cannot be read ({error}). Look at its permissions, or copy it elsewhere."
        ) from None


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
            raise TableError(
                f"{path.name}, line {flaw[0]}: {what}. Give the encoding it was saved in, or encoding=None to have it detected."
            )
        return asked
    flaw = _flaw(path, marked or "utf-8")
    if flaw is None:
        return marked or "utf-8"
    line, what = flaw
    if marked == "utf-8-sig" and what == "bytes":
        _refuse_two_encodings(path, line)
    if marked:
        what = (
            "a NUL character"
            if what == "NUL"
            else f"bytes that are not {marked.removesuffix('-sig')}, though the file begins with its mark"
        )
        raise TableError(f"{path.name}, line {line}: {what}. Save the file as UTF-8.")
    return _unmarked_encoding(path, line, what, findings)


def _beyond_ascii(path: Path) -> Iterator[tuple[int, bytes, str | None]]:
    """Yield the number and the bytes of each line that is not ASCII, with its text where it is UTF-8. A line longer than CHUNK comes in pieces."""
    with _opened(path) as file:
        number = 1
        for piece in iter(lambda: file.readline(CHUNK), b""):
            if not piece.isascii():
                try:
                    yield number, piece, piece.decode("utf-8", "strict" if len(piece) < CHUNK else "ignore")
                except UnicodeDecodeError:
                    yield number, piece, None
            number += piece.endswith(b"\n")


def _unmarked_encoding(path: Path, line: int, what: str, findings: list[Finding]) -> str:
    """Guess the encoding of a file that is not UTF-8 (or, if what == "NUL", hardly is) and say so."""
    with _opened(path) as file:
        sample = file.read(SAMPLE)
    first = None
    wide = what == "NUL" or b"\0" in sample  # UTF-16 has a zero byte in every character of ASCII
    if not wide:
        sample, first = _refuse_two_encodings(path, line)
    encoding = _guess(sample, wide, lambda name: _flaw(path, name) is None)
    if encoding is None:
        if what == "NUL":
            raise TableError(f"{path.name}, line {line}: a NUL character. Save the file as UTF-8 text.")
        raise TableError(
            f"{path.name}, line {line}: neither utf-8 nor cp1252. Save the file as UTF-8, or name the encoding it was saved in."
        )
    shown = (first or sample).decode(encoding, "ignore").strip().split("\n")[0].strip()
    place = next((k for k, character in enumerate(shown) if not character.isascii()), 0)
    shown = shown[:60] if place < 50 else f"...{shown[place - 30 : place + 30]}"
    encoding = encoding.replace("utf_16_", "utf-16-")
    message = f"{path.name} is not UTF-8 (line {line}); it was read as {encoding}: {shown!r}."
    findings.append(
        Finding(
            "encoding", "warning", message, "If that looks wrong, save it as UTF-8, or name its encoding."
        )
    )
    return encoding


def _guess(sample: bytes, wide: bool, reads: Callable[[str], bool]) -> str | None:
    """Return what the bytes look like: of the encodings that read the whole, the likeliest. `wide` looks among those of two bytes a character."""
    from charset_normalizer import from_bytes

    candidates = ["utf_16_le", "utf_16_be"] if wide else ENCODINGS + EAST_ASIAN
    likely = list(
        from_bytes(sample, cp_isolation=candidates, enable_fallback=False, preemptive_behaviour=False)
    )
    names = [match.encoding for match in likely if match.coherence > 0 or match.encoding not in ENCODINGS]
    if not wide:
        # Where it reads as well as the best, cp1252 is it: what Excel and Windows save in western Europe and America.
        western = any(
            "cp1252" in match.could_be_from_charset and match.chaos <= likely[0].chaos + 0.02
            for match in likely
        )
        names = ["cp1252", *names] if western else [*names, "cp1252"]
    return next((name for name in names if reads(name)), None)


def _refuse_two_encodings(path: Path, line: int) -> tuple[bytes, bytes | None]:
    """Refuse a file with lines in UTF-8 beside lines that are not, of which `line` is the first.

    Returns:
        bytes that tell encodings apart: some of the lines beyond ASCII, and the first of them that is not UTF-8.
    """
    sample = rest = b""
    first, whole, other = None, [], []
    for number, piece, text in _beyond_ascii(path):
        sample += piece if len(sample) <= SAMPLE else b""
        if text is None:
            first = first or piece
            rest += piece if len(rest) <= SAMPLE else b""
            other.append(number)
        else:
            whole.append(number)

    def reads(name: str) -> bool:
        try:
            return bool(rest.decode(name))
        except UnicodeDecodeError:
            return False

    page = _guess(rest, False, reads) if whole else None
    utf8 = (
        [number for number, _, text in _beyond_ascii(path) if text is not None and _meant_as_utf8(text, page)]
        if page
        else []
    )
    if page in [None, *EAST_ASIAN] and 2 * len(whole) > len(
        other
    ):  # too many for chance: from a few bytes, the guess may be wrong
        utf8 = whole
    as_utf8 = sample.decode("utf-8", "replace")
    broken = as_utf8.count("\ufffd")
    mostly = (
        len(as_utf8) - len(as_utf8.encode("ascii", "ignore")) > 2 * broken
    )  # more characters of UTF-8 than flaws
    if mostly and (len(other) == 1 or not utf8):
        raise TableError(
            f"{path.name}, line {line}: bytes that are not UTF-8, though the rest of the file is. Mend that line and save the file as UTF-8."
        )
    if utf8:
        way_out = (
            f" If all of it is {page}, write encoding={page!r}." if page and _flaw(path, page) is None else ""
        )
        raise TableError(
            f"{path.name} is in two encodings: {_lines(utf8)} UTF-8, {_lines(other)} not{f', but perhaps {page}' if page else ''}. "
            f"Save each part as UTF-8 before they are joined.{way_out}"
        )
    return sample, first


def _meant_as_utf8(text: str, page: str) -> bool:
    """Tell whether a line that can be read as UTF-8 is, in a file where other lines are in a code page.

    A pair of characters of a code page is UTF-8 by chance now and then (’é in mac_roman), and then it makes a character that the page has not. More pairs, or
    three bytes for one character, are no chance; but among hanzi, kana and hangul only three bytes are none.
    """
    beyond = [character for character in text if not character.isascii()]
    if page in EAST_ASIAN:
        return max(beyond) >= "\u3000"
    if len(beyond) > CHANCE or max(beyond) >= "\u0800":
        return True
    written = "".join(beyond)
    return any(
        written == written.encode(name, "ignore").decode(name)
        for name in (ENCODINGS if page == "cp1252" else [page])
    )  # cp1252 is the guess in doubt


def _lines(numbers: list[int]) -> str:
    """Say which lines: "line 3 is", "4 lines (1, 2, 5, 9) are"."""
    first = ", ".join(map(str, numbers[:5]))
    more = f", ... up to {numbers[-1]}" if len(numbers) > 5 else ""
    return f"line {first} is" if len(numbers) == 1 else f"{len(numbers):,} lines ({first}{more}) are"


def _first_record(text: str, delimiter: str) -> list[str]:
    return next(
        (
            fields
            for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            if "".join(fields).strip()
        ),
        [],
    )


def _hint(line: str) -> str | None:
    """Return the delimiter that the line "sep=;" names, which Excel understands above a header."""
    found = re.fullmatch(r'"?sep=(.)"?', line.strip("\r\n"), re.IGNORECASE)
    return found[1] if found else None


def _head(path: Path, encoding: str, wanted: list[str]) -> str:
    """Return the first million characters."""
    with _characters(path, encoding, newline="") as stream:
        head = stream.read(CHUNK)
    if not head.strip():
        raise TableError(
            f"{path.name} is empty. It needs a header line with the columns {' and '.join(wanted)}."
        )
    if not head.strip(' \t\r\n",;|'):
        raise TableError(
            f"{path.name} has no header. Its first line must name the columns {' and '.join(wanted)}."
        )
    return head


def _delimiter(path: Path, head: str, wanted: list[str], asked: str | None) -> str:
    """Return the delimiter asked for, else the one that yields the columns wanted, else the one that yields most columns."""
    if asked in TAB:
        return "\t"
    if asked is not None and (not isinstance(asked, str) or len(asked) != 1 or asked in '\r\n"\0'):
        raise TableError(
            f"delimiter={asked!r} must be one character, such as ',' ';' '|' or '\\t'. Write None to have it detected."
        )
    if asked is not None:
        return asked
    if hint := _hint(re.split("[\r\n]", head, maxsplit=1)[0]):
        return hint
    candidates = "\t,;|" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else ",;\t|"

    def yields(delimiter: str) -> tuple[int, int]:
        names = _first_record(head, delimiter)
        return len({*wanted} & {*_as_asked(names, wanted)}), len(names)

    return max(candidates, key=yields)


def _line_end(head: str, header: list[str], wanted: list[str]) -> str:
    """Return "\\r" where lines end with a lone carriage return, though a line feed may stand in a cell or at the end; else "\\n"."""
    bare = re.sub('"[^"]*"', "", head).lstrip()
    first = re.search(r"\r*\n|\r", bare)
    if first is None or first[0] != "\r":
        return "\n"
    lone = len(re.findall(r"\r(?!\r*\n)", bare))
    return "\r" if lone >= bare.count("\n") or {*wanted} <= {*_as_asked(header, wanted)} else "\n"


def _blank_before_quotes(head: str, delimiter: str) -> bool:
    """Tell whether the cells in quotes have a blank before the quote (`fine day, "good"`), in the first rows and nearly all of them."""
    records = [
        record[1:]
        for record in islice(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), 1, 200)
        if record
    ]
    return sum(any(BLANK_AND_QUOTE.match(cell) for cell in record) for record in records) > NEARLY_ALL * len(
        records
    )


def _read_delimited(
    path: Path, wanted: list[str], source: dict, findings: list[Finding], delimiter: str | None, *_
) -> pd.DataFrame:
    head = _head(path, source["encoding"], wanted)
    delimiter = source["delimiter"] = _delimiter(path, head, wanted, delimiter)
    end = _line_end(head, _first_record(head, delimiter), wanted)
    other = "\r" if end == "\n" else "\n"
    doubled = (
        end == "\n" and re.match(r"[^\n]*\r\r\n", head.lstrip()) is not None
    )  # what csv.writer makes on Windows of a file opened without newline=""
    names: list[str] = []
    columns: list[list[pa.Array]] = []
    batch: list[list[str]] = []
    begins = array("Q")  # the line where each row begins
    suspects: list[int] = []  # rows of several lines each of which could be a row
    hidden = False  # whether a carriage return was met that ends no line

    def lines(stream: IO[str]) -> Iterator[str]:
        """Hide lone carriage returns, which the csv module takes for ends of lines and its writer leaves unquoted, behind a NUL, which no file has.

        Where lines end with carriage returns, hide line feeds.
        """
        nonlocal hidden
        for line in stream:
            if doubled and line.endswith("\r\r\n"):
                line = line.rstrip("\r\n") + "\r\n"
            if end == "\r" and line.startswith("\n"):  # of one line that ends with both, or of the file's end
                yield "\n"
                line = line[1:]
            if other in line:
                body = line.removesuffix("\n").removesuffix("\r")
                if other in body:
                    hidden, line = True, body.replace(other, "\0") + line[len(body) :]
            if line:
                yield line

    def store() -> None:
        for chunks, values in zip(
            columns, zip(*batch, strict=True), strict=False
        ):  # an empty batch has no columns
            chunks.append(
                pa.array(
                    [value.replace("\0", other) for value in values] if hidden else values, pa.large_string()
                )
            )
        batch.clear()

    with _characters(path, source["encoding"], newline=end) as stream:
        reader = csv.reader(
            lines(stream),
            delimiter=delimiter,
            strict=True,
            skipinitialspace=_blank_before_quotes(head, delimiter),
        )
        begin = 1  # the line where the row begins, which is what helps when a quote that is never closed swallows the rest of the file
        try:
            for fields in reader:
                if not names:
                    if "".join(fields).strip() and not (begin == 1 and _hint(delimiter.join(fields))):
                        names = _as_asked([name.replace("\0", other) for name in fields], wanted)
                        _require_columns(names, wanted, path, delimiter)
                        columns = [[] for _ in names]
                elif len(fields) == len(names):
                    if reader.line_num > begin and _as_rows(fields, delimiter, end):
                        suspects.append(len(begins))
                    begins.append(begin)
                    batch.append(fields)
                    if len(batch) == BATCH:
                        store()
                elif fields:  # an empty line is no row; pandas would fill a short row up, and take a long one's first value for an index
                    remedy = f"A text that holds {delimiter!r} must stand in double quotes."
                    joined = "".join(fields).count("\0") + 1
                    if (
                        joined > 1 and len(fields) - 1 == (len(names) - 1) * joined
                    ):  # so many rows on one line
                        remedy = ONE_LINE_END
                    elif any(BLANK_AND_QUOTE.match(cell) for cell in fields):
                        remedy = (
                            "Quotes count only right behind the delimiter: take out the blank before them."
                        )
                    elif reader.line_num > begin:
                        remedy = f"A double quote opens a cell that runs on to line {reader.line_num}: write a quote that belongs to a text twice, and the text in quotes."
                    raise TableError(
                        f"{path.name}, line {begin}: {len(fields)} values, but the header has {len(names)} columns. {remedy}"
                    )
                begin = reader.line_num + 1
        except csv.Error as error:
            raise TableError(
                f"{path.name}, line {begin}: {error}. A text that holds {delimiter!r}, a quote or a line break must stand in double quotes, "
                f"and a double quote inside it be written twice."
            ) from None
        store()
    if not names:
        raise TableError(
            f"{path.name} has no header. Its first line must name the columns {' and '.join(wanted)}."
        )
    source["begins"] = begins
    frame = pd.DataFrame(
        {name: _text_series(chunks) for name, chunks in zip(_unique(names), columns, strict=True)}
    )
    if suspects:
        findings += _look_for_swallowed(frame, suspects, begins, path, delimiter, end)
    for name in wanted[1:]:
        if quoted := [value for value in frame[name].unique() if re.fullmatch(' +".*" *', value, re.DOTALL)]:
            message = f"{path.name}: the quotes of {quoted[0][:60]!r} are part of the value in column {name!r}, for a blank stands before them."
            findings.append(
                Finding(
                    "blank-before-quote", "warning", message, "If they only enclose it, take out the blank."
                )
            )
    return frame


def _text_series(chunks: list[pa.Array]) -> pd.Series:
    """Return text as pandas keeps it: Arrow's in pandas 3, Python's (equal ones shared) in pandas 2."""
    return pa.chunked_array(chunks, pa.large_string()).to_pandas().astype(str)


def _read_jsonl(
    path: Path, wanted: list[str], source: dict, _findings, _delimiter, _class_names, listed: str | None
) -> pd.DataFrame:
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
            texts[name].append(
                _as_text([record.get(name) for record in batch], rows + 1, name, path, name == listed)
            )
        for name in names:
            if name not in texts:
                others.setdefault(name, [None] * rows).extend(record.get(name) for record in batch)
        rows += len(batch)
        batch.clear()

    with _characters(path, source["encoding"], newline="") as stream:
        end = _line_end(stream.read(CHUNK), [], wanted)
    # "\n": a text may hold other things that Python takes for the end of a line. None: carriage returns end one, and line feeds as well
    with _characters(path, source["encoding"], newline="\n" if end == "\n" else None) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                remedy = ONE_LINE_END if "\r" in line.strip() else "Each line must be one JSON object."
                if line.lstrip().startswith("[") and number == 1:
                    remedy = "This is one JSON document; write one object a line: pandas.read_json(...).to_json('x.jsonl', orient='records', lines=True)."
                raise TableError(f"{path.name}, line {number}: not JSON ({error}). {remedy}") from None
            if not isinstance(record, dict):
                raise TableError(
                    f"{path.name}, line {number}: {line[:60]!r} is not a JSON object. Each line must be one."
                )
            if not record.keys() >= {*wanted}:
                record = dict(zip(_as_asked(list(record), wanted), record.values(), strict=True))
            batch.append(record)
            if len(batch) == BATCH:
                store()
    store()
    if not rows:
        raise TableError(
            f"{path.name} is empty. Each line must be a JSON object with {' and '.join(wanted)}."
        )
    _require_columns(list(names), wanted, path)
    return pd.DataFrame(
        {
            name: _text_series(texts[name]) if name in texts else pd.Series(others[name], dtype=object)
            for name in names
        }
    )


def _read_parquet(
    path: Path,
    wanted: list[str],
    source: dict,
    findings: list[Finding],
    _delimiter,
    class_names: bool,
    listed: str | None,
) -> pd.DataFrame:
    try:
        with _opened(path) as file:
            table = pyarrow.parquet.read_table(
                io.BytesIO(file.read()) if path.suffix.lower() == ".gz" else file
            )
        table.validate(full=True)  # bytes that are no UTF-8 would be found much later
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path.name} is not a whole Parquet file ({error}). Write it again.") from None
    classes = _class_names(table.schema) if class_names else {}
    names = _as_asked(table.column_names, wanted)
    _require_columns(names, wanted, path)
    columns = {}
    for written, name, column in zip(table.column_names, _unique(names), table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if name in wanted and written in classes and pa.types.is_integer(column.type):
            column = _named(column, classes[written], name, path)
            is_text = True
        if name in wanted:
            values = [] if is_text else column.to_pylist()
            if name == listed and written in classes:
                names_of = classes[written]
                values = [
                    [_name_of(label, names_of, row, name, path) for label in labels]
                    if isinstance(labels, list)
                    else labels
                    for row, labels in enumerate(values, start=1)
                ]
            chunks = (
                column.cast(pa.large_string()).fill_null("").chunks
                if is_text
                else [_as_text(values, 1, name, path, name == listed)]
            )
            columns[name] = _text_series(chunks)
            continue
        try:  # through Python objects: pandas would turn integers with one null among them into floats
            columns[name] = pd.Series(column.to_pylist(), dtype=object)
        except (
            pa.ArrowException,
            ValueError,
            OverflowError,
            KeyError,
        ) as error:  # a date that Python has not, an unknown time zone
            raise TableError(
                f"{path.name}, column {name!r}: a value cannot be read ({error}). Leave that column out."
            ) from None
    return pd.DataFrame(columns)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the classes that `datasets` notes for its columns of ClassLabel, or of lists of it, where it wrote the file."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        features = {
            column: feature[0] if isinstance(feature, list) else feature.get("feature", feature)
            for column, feature in features.items()
        }
        return {
            column: feature["names"]
            for column, feature in features.items()
            if feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        return {}


def _name_of(number, names: list[str], row: int, name: str, path: Path) -> str:
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise TableError(
            f"{path.name}, row {row}, column {name!r}: {number} is no class: the file names {len(names)} of them, "
            f"{names[0]!r} (0) to {names[-1]!r}. Correct it, or write the file again with names for all."
        )
    return names[number]


def _named(column: pa.ChunkedArray, names: list[str], name: str, path: Path) -> pa.ChunkedArray:
    """Put the names of the classes in place of their numbers; -1 is for `datasets` a row without a label."""
    numbers = column.cast(pa.int64()).fill_null(-1).to_numpy()
    wrong = np.flatnonzero((numbers < -1) | (numbers >= len(names)))
    if len(wrong):
        _name_of(int(numbers[wrong[0]]), names, wrong[0] + 1, name, path)
    return pa.chunked_array([np.array([*map(str, names), ""], dtype=object)[numbers]], pa.large_string())


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
                    refuse(
                        row, f"{label!r} in the list {str(value)[:60]} is no label. Take it out of the list."
                    )
                if SEPARATOR in text(label):
                    refuse(
                        row,
                        f"the label {label!r} in a list holds {SEPARATOR!r}, which joins labels. Rename it.",
                    )
        elif value is not None and not isinstance(value, plain):
            ways = (
                " (lists are for the one label column of task='multi_label')"
                if isinstance(value, (list, tuple))
                else ""
            )
            refuse(row, f"{str(value)[:60]!r} is a {type(value).__name__}. Give a text or a number{ways}.")
    texts = [text(value) for value in values]
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        row, wrong = next(
            (k, t) for k, t in enumerate(texts, start=first_row) if re.search("[\ud800-\udfff]", t)
        )
        raise TableError(
            f"{path.name}, row {row}, column {name!r}: {wrong[:60]!r} holds half a character (a lone surrogate). Write the text again."
        ) from None


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


def _as_asked(names: list[str], wanted: list[str]) -> list[str]:
    """Return the names with those asked for spelt as they are asked for: é is one character or two, and nobody sees which."""
    form = {unicodedata.normalize("NFC", name): name for name in wanted if name not in names}
    return (
        [name if name in wanted else form.get(unicodedata.normalize("NFC", name), name) for name in names]
        if form
        else names
    )


def _require_columns(names: list[str], wanted: list[str], path: Path, delimiter: str | None = None) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise TableError(
                f"{path.name} has {names.count(name)} columns called {name!r}. Rename all but one."
            )
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0][:60]!r}?" if near else ""
            shown = ", ".join(repr(name[:60]) for name in names[:30]) + (
                f" and {len(names) - 30} more" if len(names) > 30 else ""
            )
            if any("\r" in other for other in names):
                hint = f" {ONE_LINE_END}"
            if delimiter is not None and len(names) == 1:
                hint += f" {delimiter!r} does not divide its header: name the delimiter that does."
            raise TableError(
                f"{path.name} has no column {name!r}; it has {shown}.{hint} Set text_column and label_column."
            )


def _as_rows(cells: Sequence[str], delimiter: str, end: str) -> list[list[str]]:
    """Divide a row of the file at every line end and delimiter, quoted or not; [] unless (nearly) all lines have as many fields as the row.

    One of three or more lines may have more: the one that lacks the second quote.
    """
    lines = [line for line in delimiter.join(cells).split(end) if line.strip()]
    fit = [line.count(delimiter) for line in lines].count(len(cells) - 1)
    if len(lines) < 2 or len(cells) < 2 or fit < min(NEARLY_ALL * len(lines), max(2, len(lines) - 1)):
        return []
    return [line.removesuffix("\r").split(delimiter) for line in lines]


def _look_for_swallowed(
    frame: pd.DataFrame, suspects: list[int], begins: Sequence[int], path: Path, delimiter: str, end: str
) -> list[Finding]:
    """Refuse a cell that a stray quote opened and that runs on over rows, or remark on it where that is not sure.

    `suspects` are the rows whose lines have as many fields as a row each. The evidence is in the other columns: what the lines would put there is what
    other rows have there. A poem, code or an address has no labels at the ends of its lines.

    Raises:
        TableError: it is sure.
    """
    sure, unsure, short = [], [], []  # what is said of each cell, and its beginning
    names = list(frame.columns)
    known: dict[str, tuple[Counter, float]] = {}

    digits = re.compile(r"\d+")

    def form(value: str) -> str:
        return (
            digits.sub("0", value) if len(value) <= 60 else ""
        )  # numbers, dates and ids are told by their form

    def repeated(counts: Counter) -> float:
        return sum(count for value, count in counts.items() if count > 1 and value) / max(1, counts.total())

    def forms(name: str) -> tuple[Counter, float]:
        """Count the forms in a column; and the share of rows whose form stands in another row, too."""
        if name not in known:
            counts = Counter()
            for value, count in frame[name].iloc[:: 1 + len(frame) // ENOUGH].value_counts().items():
                if value.strip():
                    counts[form(value)] += count
            known[name] = counts, repeated(counts)
        return known[name]

    def judge(rows: list[list[str]], cells: Sequence[str], broken: int) -> list | None:
        """Return the list to put the cell into, or None if it is one text."""
        said, words, hits = 0, delimiter != ",", 0
        for k, name in enumerate(names):
            if k == broken:
                continue
            others = rows[:-1] if k > broken else rows[1:]  # in the line left out, the value is the row's own
            values = [form(row[k]) for row in others if len(row) == len(cells) and row[k].strip()]
            (counts, share), own, once = forms(name), form(cells[k]), 0
            if SWALLOWED_NUMBERS <= len(rows) > len(frame):  # it holds most of the table
                counts, once = counts + Counter(values), 1
                share = repeated(counts)
            if not values or share < 0.5:  # texts, or whatever else is new in every row
                continue
            here = [value for value in values if value and counts[value] > once + (value == own)]
            if len(here) < share / 2 * len(values):
                return None
            said += 1
            hits = max(hits, len(here))
            words |= any(character.isalpha() for value in here for character in value)
        if not said:
            return unsure if len(rows) >= SWALLOWED_NUMBERS else None
        if words or said > 1:
            return sure if hits + 1 >= SWALLOWED else unsure
        return (
            sure
            if hits + 1 >= SWALLOWED_NUMBERS
            else None
            if hits + 1 < len(rows)
            else unsure
            if len(rows) > SWALLOWED
            else short
        )

    batches = (frame.iloc[suspects[start : start + BATCH]] for start in range(0, len(suspects), BATCH))
    for place, *cells in (row for batch in batches for row in batch.itertuples(name=None)):
        broken = next(k for k, cell in enumerate(cells) if end in cell)
        if (found := judge(_as_rows(cells, delimiter, end), cells, broken)) is not None:
            first = begins[place] + sum(cell.count(end) for cell in cells[:broken])
            found.append(
                (f"lines {first} to {first + cells[broken].count(end)} are one cell", cells[broken][:60])
            )
    if len(short) >= SWALLOWED_OFTEN:
        unsure += short
    if len(sure) > max(
        SWALLOWED_NUMBERS, len(frame) / 2
    ):  # texts that are lists or tables: stray quotes are rare
        sure, unsure = [], sure + unsure
    fix = (
        "If a quote in the first of these lines is part of its text, put the text in double quotes and write each double quote inside it twice; "
        "if they are one text, give the table as JSONL or Parquet."
    )
    if sure:
        more = f" (and {len(sure) - 1} more such cells)" if len(sure) > 1 else ""
        raise TableError(
            f"{path.name}: {sure[0][0]}, {sure[0][1]!r}...{more}, for a double quote opens it in the first and one closes it in the last of them; "
            f"but the lines look like rows of the table. {fix}"
        )
    if not unsure:
        return []
    more = f"; and {len(unsure) - 3} more such cells" if len(unsure) > 3 else ""
    shown = "; ".join(f"{where}, {cell!r}..." for where, cell in unsure[:3])
    return [
        Finding(
            "swallowed-rows",
            "warning",
            f"{path.name}: {shown}{more}, though the lines look like rows of the table.",
            fix,
        )
    ]


def _without_headers(
    frame: pd.DataFrame, wanted: list[str], begins: Sequence[int], path: Path, findings: list[Finding]
) -> pd.DataFrame:
    """Leave out the rows that say the header again, as files do that were joined.

    Raises:
        TableError: it says it again in another order.
    """

    def bare(value) -> str:
        return unicodedata.normalize("NFC", str(value).strip(' "\ufeff').casefold())

    names = {bare(name) for name in frame}
    if len(names) < 2:  # a text of one word may be any word
        return frame
    longest = max(map(len, frame.columns)) + 8  # more than quotes, blanks and a mark take
    likely = np.ones(len(frame), bool)
    for name in reversed(wanted):
        values = [value for value in frame[name].unique() if len(value) <= longest and bare(value) in names]
        likely &= frame[name].isin(values).to_numpy()
        if not likely.any():
            return frame
    again = []
    for place in np.flatnonzero(likely):
        row = {name: bare(value) for name, value in frame.iloc[place].items()}
        same = all(row[name] == bare(name) for name in wanted)
        if {*row.values()} == names and not same:
            where = f"line {begins[place]}" if begins else f"row {place + 1}"
            raise TableError(
                f"{path.name}, {where}: the header again, with its columns in another order. Bring both parts into one order before they are joined."
            )
        if same and (len(wanted) > 1 or {*row.values()} == names):
            again.append(place)
    if again:
        shown = ", ".join(str(begins[place] if begins else place + 1) for place in again[:10]) + (
            ", ..." if len(again) > 10 else ""
        )
        what = ("line" if begins else "row") + ("s" if len(again) > 1 else "")
        message = f"{path.name}: the header stands again in {what} {shown}; it is no row and left out."
        findings.append(
            Finding(
                "repeated-header",
                "warning",
                message,
                "Nothing to do, if the files that were joined have the same columns.",
            )
        )
    return frame.drop(index=again)


def _without_index(
    frame: pd.DataFrame, wanted: list[str], path: Path, findings: list[Finding]
) -> pd.DataFrame:
    """Leave out what pandas wrote as a row index: a nameless first column, later read and saved again as "Unnamed: 0"."""
    index = [
        name
        for k, name in enumerate(frame.columns)
        if re.fullmatch(r"Unnamed: 0(\.\d+)*|__index_level_\d+__", name) or (name == "" and k == 0)
    ]
    index = [name for name in index if name not in wanted]
    if index:
        message = f"{path.name}: {', '.join(map(repr, index))} is an index that pandas saved; it is left out."
        findings.append(Finding("index-column", "warning", message, "Save with index=False."))
    return frame.drop(columns=index)
