"""The bytes of a file as characters: in which encoding they are, and which files hold two."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from utils.findings import Finding, TableError, rows_in_words

CHUNK = 1 << 20  # bytes
SAMPLE_LINES = 500
CHANCE = 4  # a line of a code page with more characters beyond ASCII is never UTF-8 by chance
MARKS = {  # byte order marks
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# What tables are saved in. With all that it knows, the detection library takes one letter for any of twenty.
CODE_PAGES = [*(f"cp{number}" for number in range(1250, 1258)), "koi8_r", "mac_roman"]
EAST_ASIAN = ["cp932", "euc_jp", "gb18030", "big5", "cp949"]  # bytes seldom make sense in these by chance
MAGIC = {  # first bytes: what a file is that calls itself CSV or JSONL
    b"PK\x03\x04": "is an Excel file or a zip archive. Export the sheet as CSV UTF-8, or unpack it.",
    b"\xd0\xcf\x11\xe0": "is an Excel file. Export the sheet as CSV UTF-8.",
    b"\x1f\x8b": "is compressed with gzip. Add .gz to its name.",
    b"PAR1": "is a Parquet file. Call it .parquet.",
}
NUL = "a NUL character"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking .gz on the way."""
    packed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = f"cannot be read ({error}). Look at its permissions, or copy it elsewhere."
        if packed and not isinstance(error, PermissionError):
            reason = f"is not a whole gzip file ({error}). Compress it again, or give the file unpacked."
        raise TableError(f"{path.name} {reason}") from None


@contextmanager
def characters(path: Path, encoding: str, newline: str | None) -> Iterator[IO[str]]:
    """Open a file as text."""
    with opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline=newline) as stream:
        if stream.read(1) != "\ufeff":  # the byte order mark, where the encoding does not take it away
            stream.seek(0)
        yield stream


def find_encoding(path: Path, encoding: str | None, findings: list[Finding]) -> str:
    """Return the encoding in which the whole file can be read; refuse a file of two.

    That is `encoding`, else what its mark says, else UTF-8, else what the bytes look like, with a finding.
    """
    with opened(path) as file:
        head = file.read(4)
    for magic, reason in MAGIC.items():
        if head.startswith(magic):
            raise TableError(f"{path.name} {reason}")
    detect = "None to have it detected"
    if encoding is not None:
        try:
            "a".encode(encoding)
        except (LookupError, TypeError, ValueError):
            known = f"is none that Python knows. Write utf-8 or cp1252, for example, or {detect}"
            raise TableError(f"encoding={encoding!r} {known}.") from None
    marked = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    name = encoding or marked or "utf-8"
    line, reason = _first_flaw(path, name) or (0, None)
    if reason is None:
        return name
    place = f"{path.name}, line {line}: {reason}"
    if encoding:
        raise TableError(f"{place}. Give the encoding it was saved in, or encoding={detect}.")
    if marked == "utf-8-sig" and reason != NUL:
        _refuse_two_encodings(path, line)
    if marked:
        raise TableError(f"{place}, though the file begins with its mark. Save the file as UTF-8.")
    return _guessed_encoding(path, line, reason, findings)


def _first_flaw(path: Path, encoding: str) -> tuple[int, str] | None:
    """Return the line of the first byte that is not `encoding`, or of the first NUL, and which it is."""
    line = 1
    with opened(path) as file:
        try:
            for text in codecs.iterdecode(iter(lambda: file.read(CHUNK), b""), encoding):
                before, nul, _ = text.partition("\0")
                line += before.count("\n")
                if nul:
                    return line, NUL
        except UnicodeError as error:
            if isinstance(error, UnicodeDecodeError):
                line += error.object[: error.start].decode(encoding, "ignore").count("\n")
            return line, f"bytes that are not {encoding.removesuffix('-sig')}"
    return None


def _guessed_encoding(path: Path, line: int, reason: str, findings: list[Finding]) -> str:
    """Guess the encoding of a file that is not UTF-8, and say so."""
    encoding = None
    if reason != NUL:  # no code page has one
        sample, example = _refuse_two_encodings(path, line)
        encoding = _likeliest(sample, lambda name: _first_flaw(path, name) is None)
    if encoding is None:
        raise TableError(f"{path.name}, line {line}: {reason}. Save it as UTF-8, or name its encoding.")
    text = example.decode(encoding, "ignore").strip().split("\n")[0].strip()
    place = next((k for k, character in enumerate(text) if not character.isascii()), 0)
    text = text[:60] if place < 50 else f"...{text[place - 30 : place + 30]}"
    message = f"{path.name} is not UTF-8 (line {line}); it was read as {encoding}: {text!r}."
    fix = "If that looks wrong, save it as UTF-8, or name its encoding."
    findings.append(Finding("encoding", "warning", message, fix))
    return encoding


def _likeliest(sample: bytes, reads: Callable[[str], bool]) -> str | None:
    """Return the likeliest encoding of the sample that reads the whole file."""
    from charset_normalizer import from_bytes

    names = CODE_PAGES + EAST_ASIAN
    matches = list(from_bytes(sample, cp_isolation=names, enable_fallback=False, preemptive_behaviour=False))
    likely = [match.encoding for match in matches if match.coherence > 0 or match.encoding not in CODE_PAGES]
    # What Excel saves in western Europe and America. Where it reads as well as the best, it is taken.
    readable = [match for match in matches if match.chaos <= matches[0].chaos + 0.02]
    western = any("cp1252" in match.could_be_from_charset for match in readable)
    likely = ["cp1252", *likely] if western else [*likely, "cp1252"]
    return next(filter(reads, likely), None)


def _refuse_two_encodings(path: Path, line: int) -> tuple[bytes, bytes]:
    """Refuse UTF-8 beside other lines, the first of them `line`; else return some of these and the first."""
    utf8: dict[int, str] = {}  # the lines beyond ASCII, by number
    other: dict[int, bytes] = {}
    with opened(path) as file:
        for number, raw in enumerate(file, start=1):
            if not raw.isascii():
                try:
                    utf8[number] = raw.decode()
                except UnicodeDecodeError:
                    other[number] = raw
    sample = b"".join(islice(other.values(), SAMPLE_LINES))[:CHUNK]
    page = None
    if utf8:
        page = _likeliest(sample, lambda name: "\ufffd" not in sample.decode(name, "replace"))
    meant = [number for number, text in utf8.items() if page and _meant_as_utf8(text, page)]
    if page in [None, *EAST_ASIAN] and 2 * len(utf8) > len(other):
        meant = list(utf8)  # too many for chance: from a few bytes, the guess of a page may be wrong
    text = "".join([*islice(utf8.values(), SAMPLE_LINES), sample.decode("utf-8", "replace")])
    beyond = [character for character in text if not character.isascii()]
    mostly_utf8 = len(beyond) > 2 * beyond.count("\ufffd")
    if mostly_utf8 and (len(other) == 1 or not meant):
        raise TableError(f"{path.name}, line {line} is not UTF-8, though the rest is. Mend that line.")
    if meant:
        first, rest = rows_in_words(meant, "line"), rows_in_words([*other], "line")
        parts = f"{first} UTF-8, {rest} {f'perhaps {page}' if page else 'not'}"
        reads_all = page and _first_flaw(path, page) is None
        way_out = f" If all of it is {page}, write encoding={page!r}." if reads_all else ""
        raise TableError(f"{path.name} is in two encodings: {parts}. Save each part as UTF-8 first.{way_out}")
    return sample, next(iter(other.values()))


def _meant_as_utf8(text: str, page: str) -> bool:
    """Tell whether a line that can be read as UTF-8 is, in a file where other lines are in a code page.

    A pair of characters of a code page may be UTF-8 by chance (’é in mac_roman), and then makes a letter that
    the page has not. More pairs, or three bytes a character, are no chance; in East Asian pages the latter.
    """
    beyond = "".join(character for character in text if not character.isascii())
    if page in EAST_ASIAN:
        return max(beyond) >= "\u3000"
    if len(beyond) > CHANCE or max(beyond) >= "\u0800":
        return True
    pages = CODE_PAGES if page == "cp1252" else [page]  # cp1252 is the guess in doubt
    return any(beyond == beyond.encode(name, "ignore").decode(name) for name in pages)
