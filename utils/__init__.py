"""What the notebooks share: nine files to read in an hour, in this order, and rooms that you may skip.

findings.py    Finding, Report, TableError: remarks, and the errors that stop
labels.py      the three tasks, label maps
parameters.py  what the parameters cell may hold
data.py        a table read, and split
models.py      a name, a folder or a Hub id -> a folder that from_pretrained loads
metrics.py     scores, intervals, thresholds, calibration
plots.py       the figures of the template and of 04
predict.py     a new file labelled
runs.py        the run folder, metrics.json, the model card

reading/       bytes -> rows -> splits: encodings, delimiters, JSONL, Parquet; bundled sets; when two texts
               are the same; where checkpoints come from and what they hold
inputs/        texts, or pairs, -> rows of tokens, cut or in chunks
answers/       what becomes of a model's answers: which are for a person; are new texts like the old ones?
               The helper uses reading, inputs and answers
baselines/     what a model has to beat, rung by rung, and anybody else's answers; labels that look wrong
preflight/     what is wrong with a Trainer before, during and after training
label_next/    which rows of a new file are worth the next labels
batch/         many papermill runs, on Dask; the leaderboard; what twice as many labels would bring
export/        after training: smaller, explained, served, on several devices, at what cost
lessons/       figures, controls and exercises of single chapters
setup/         the environment, Colab
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_json(path: Path) -> dict:
    """Return the JSON object in a file; an empty one if the file is missing or cut off or holds no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; a file or folder there becomes `target` if the block succeeds.

    A kill inside the block leaves `target` as it was. A file is replaced in one step. A folder takes three:
    the old one is renamed `.<name>.before`, the new one gets the name, the old one is removed. A kill between
    the first two leaves both whole and nothing called `target`; the next call puts the old one back.
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


def quote_formula(cell):
    """Put an apostrophe before a text that a spreadsheet would run as a formula (OWASP, "CSV injection").

    A text that has apostrophes in front already gets one more: `unquote_formula` undoes it exactly.
    """
    formula = isinstance(cell, str) and cell.lstrip("'").startswith(FORMULA_STARTS)
    return f"'{cell}" if formula and not NUMBER.fullmatch(cell) else cell


def unquote_formula(cell):
    """Undo `quote_formula`. For a whole file and the names of its columns: `pandas.read_csv(path, dtype=str,
    keep_default_na=False).map(unquote_formula).rename(columns=unquote_formula)`."""
    quoted = isinstance(cell, str) and cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS)
    return cell[1:] if quoted else cell
