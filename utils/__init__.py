"""What the notebooks share. Read it in an hour, then import what you need by name."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find_input(path: str | Path) -> Path:
    """Return the absolute path of a file or folder to read.

    A relative path is looked up from the working directory, then from the repository root, so that the same
    parameter works in JupyterLab (which starts in notebooks/), in papermill and in a batch.

    Raises:
        FileNotFoundError: it is in neither place; the message names both.
    """
    places = [Path.cwd(), ROOT]
    for place in places:
        candidate = place / Path(path).expanduser()
        if candidate.exists():
            return candidate.resolve()
    tried = " nor in ".join(str(place) for place in dict.fromkeys(places))
    raise FileNotFoundError(
        f"There is no {str(path)!r} in {tried}. Give the path from one of these folders, or an absolute path."
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; what was written there becomes `target` only if the block succeeds.

    Works for a file and for a folder, and replaces what was there. A process killed inside the block leaves `target` as it was. A file is replaced
    in one step. A folder takes three: the old one is renamed `.<name>.before`, the new one gets the name, the old one is removed. Killed between the
    first two, nothing is called `target`, but both are there whole: the old one, which the next call puts back first of all, and the new one in
    `.<name>.<random>/`. What a kill leaves under `.<name>.before` beside a `target` goes with the next replacement.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    before = target.with_name(f".{target.name}.before")
    if before.is_dir() and not target.exists():
        os.replace(before, target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        partial = Path(scratch) / target.name
        yield partial
        for path in (partial, *partial.rglob("*")):
            if path.is_file() and os.access(path, os.W_OK):  # Windows flushes only what may be written
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
        replaces = target.is_dir() and not target.is_symlink()
        try:
            if replaces:  # os.replace cannot put a folder over one that holds files
                if before.is_dir():
                    shutil.rmtree(before)
                os.replace(target, before)
            os.replace(partial, target)
        except BaseException:
            if before.is_dir() and not target.exists():
                os.replace(before, target)
            raise
    if replaces:
        shutil.rmtree(before, ignore_errors=True)  # the new one is in place: no reason to fail


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def quote_formula(cell):
    """Put an apostrophe before a text that a spreadsheet would run as a formula (OWASP, "CSV injection"); return anything else as it is.

    That is a text starting with = + - @, a tab or a carriage return and that is not a number: "-3.5" stays. The apostrophe shows in the file and not in the
    spreadsheet. `unquote_formula` undoes it exactly; so that it can, a text with apostrophes before such a character gets one more.
    """
    if isinstance(cell, str) and cell.lstrip("'").startswith(FORMULA_STARTS) and not NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def unquote_formula(cell):
    """Take off the apostrophe of `quote_formula`. For a whole file: `frame = pandas.read_csv(path, dtype=str, keep_default_na=False).map(unquote_formula)`;
    for the names of its columns, `frame.rename(columns=unquote_formula)`.
    """
    if isinstance(cell, str) and cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS):
        return cell[1:]
    return cell
