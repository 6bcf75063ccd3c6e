"""Tables of labelled text: the bundled data sets, a reader for your own file, and the split."""

import codecs
import csv
import difflib
import gzip
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils import ROOT, atomic_path, find_input, sha256

DATA_DIR = ROOT / "data"
ARCHIVE_NAME = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
csv.field_size_limit(2**31 - 1)  # the default refuses a text of more than 131,072 characters
INNER_ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"


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


class TableError(ValueError):
    """A table that cannot be used as it is; the message names the file, the place, the value and the remedy."""


class FetchError(RuntimeError):
    """The bundled data could not be fetched; the message says what to do."""


class Finding(NamedTuple):
    """One remark: a stable id, the level ("error" or "warning"), what was seen, and what to do about it."""

    id: str
    level: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level}: {self.id}: {self.message} {self.fix}"


class Table(NamedTuple):
    """What `read_table` returns.

    rows: one line a usable row, in the order of the file: `row` (its number in the file, the first below the header is 1),
        `text`, `label` (both str), then the file's other columns.
    findings: remarks that did not stop the reading.
    dropped: how many rows were left out, by reason.
    """

    rows: pd.DataFrame
    findings: list[Finding]
    dropped: dict[str, int]


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
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"]
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
    except FileNotFoundError as error:
        raise TableError(f"{error} The bundled sets are called {', '.join(BUNDLED)}.") from None


# --- reading a table --------------------------------------------------------------------------------------------------


def read_table(data_file: str | Path, text_column: str = "text", label_column: str = "label") -> Table:
    """Read labelled texts from a bundled set (by name) or from a CSV, TSV, JSONL or Parquet file, plain or gzipped.

    Every value of a CSV is read as the text it is: "NA" and "None" are words, 007 keeps its zeros. Encoding (UTF-8, UTF-16 with its
    mark, else cp1252) and delimiter (the one that yields both columns) are recognised. Blank texts and labels are dropped and counted.

    Raises:
        TableError: it cannot be read rightly; the message names the file, the row, column or value, and the remedy.
    """
    path = locate(data_file)
    findings: list[Finding] = []
    kinds = {".csv": _read_delimited, ".tsv": _read_delimited, ".txt": _read_delimited}
    kinds |= {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".parquet": _read_parquet}
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise TableError(f"{path.name} is a spreadsheet. Export the sheet as CSV UTF-8 (File, Save as) and give that file.")
    if path.is_dir() or suffix.lower() not in kinds:
        raise TableError(f"{path.name}: a table ends in {', '.join(sorted(kinds))}, each also with .gz. Export it as CSV.")

    frame = kinds[suffix.lower()](path, [text_column, label_column], findings)
    keep = {text_column: "text", label_column: "label"}
    other = {name: f"{name}_in_file" for name in ("row", "text", "label") if name in frame and name not in keep}
    frame = frame.rename(columns=other | keep).assign(row=np.arange(1, len(frame) + 1))
    frame = frame[["row", "text", "label", *(c for c in frame if c not in ("row", "text", "label"))]]
    return _without_blanks(frame, path, text_column, label_column, findings)


def _read_bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise TableError(f"{path.name} is not a whole gzip file ({error}). Compress it again, or give the file unpacked.") from None


def _decode(raw: bytes, path: Path, findings: list[Finding]) -> str:
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            raise TableError(f"{path.name}, line {line}: neither {encoding} nor cp1252. Save the file as UTF-8.") from None
        sample = text.split("\n")[line - 1][:60]
        findings.append(
            Finding(
                "encoding", "warning", f"{path.name} is not UTF-8 (line {line}); it was read as cp1252: {sample!r}.", "If that looks wrong, save it as UTF-8."
            )
        )
    if "\0" in text:
        raise TableError(f"{path.name}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL character. Save the file as UTF-8 text.")
    return text


def _read_delimited(path: Path, wanted: list[str], findings: list[Finding]) -> pd.DataFrame:
    text = _decode(_read_bytes(path), path, findings)
    if not text.strip():
        raise TableError(f"{path.name} is empty. It needs a header line with the columns {' and '.join(wanted)}.")

    def header(delimiter: str) -> list[str]:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))

    delimiters = "\t,;|" if ".tsv" in path.suffixes else ",;\t|"
    # The right delimiter is the one that yields the columns asked for; failing that, the one that yields most columns.
    delimiter = max(delimiters, key=lambda d: (sum(name in header(d) for name in wanted), len(header(d))))
    names = header(delimiter)
    _require_columns(names, wanted, path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    values = []
    try:
        next(reader)
        for fields in reader:
            if fields and len(fields) != len(names):  # pandas would fill a short row up, and take a long one's first value for an index
                raise TableError(
                    f"{path.name}, line {reader.line_num}: {len(fields)} values, but the header has {len(names)} columns. "
                    f"A text that holds {delimiter!r} or a line break must stand in double quotes."
                )
            if fields:  # an empty line is no row
                values.append(fields)
    except csv.Error as error:
        raise TableError(
            f"{path.name}, line {reader.line_num}: {error}. A text that holds {delimiter!r}, a quote or a line break must stand in double quotes, "
            f"and a double quote inside it be written twice."
        ) from None
    return pd.DataFrame(values, columns=_unique(names), dtype=str)


def _read_jsonl(path: Path, wanted: list[str], findings: list[Finding]) -> pd.DataFrame:
    records = []
    # Not splitlines(): it would also break lines inside a text, at U+2028 for one.
    for number, line in enumerate(_decode(_read_bytes(path), path, findings).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise TableError(f"{path.name}, line {number}: not JSON ({error}). Each line must be one JSON object.") from None
        if not isinstance(record, dict):
            raise TableError(f"{path.name}, line {number}: {line[:60]!r} is not a JSON object. Each line must be one.")
        records.append(record)
    if not records:
        raise TableError(f"{path.name} is empty. Each line must be a JSON object with {' and '.join(wanted)}.")
    names = list(dict.fromkeys(name for record in records for name in record))
    _require_columns(names, wanted, path)
    return _as_text(pd.DataFrame({name: [record.get(name) for record in records] for name in names}, dtype=object), wanted, path)


def _read_parquet(path: Path, wanted: list[str], findings: list[Finding]) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(_read_bytes(path)))
    except pyarrow.ArrowException as error:
        raise TableError(f"{path.name} is not a whole Parquet file ({error}). Write it again.") from None
    _require_columns(table.column_names, wanted, path)
    # Through Python objects: pandas would turn integers with one null among them into floats.
    columns = dict(zip(_unique(table.column_names), (column.to_pylist() for column in table.columns), strict=True))
    return _as_text(pd.DataFrame(columns, dtype=object), wanted, path)


def _as_text(frame: pd.DataFrame, wanted: list[str], path: Path) -> pd.DataFrame:
    """Turn typed values of the two columns into text: None becomes "" (blank), 1.0 becomes "1"."""
    for name in wanted:
        values = frame[name]
        for row, value in enumerate(values, start=1):
            if not isinstance(value, (str, int, float, type(None))):  # bool is an int
                raise TableError(f"{path.name}, row {row}, column {name!r}: {str(value)[:60]!r} is a {type(value).__name__}. Give a text or a number.")
        as_text = ["" if v is None or v != v else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
        frame[name] = pd.Series(as_text, index=frame.index, dtype=str)
    return frame


def _unique(names: list[str]) -> list[str]:
    """Tell columns of the same name apart by their place in the file."""
    return [name if names.index(name) == k else f"{name}_{k + 1}" for k, name in enumerate(names)]


def _require_columns(names: list[str], wanted: list[str], path: Path) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise TableError(f"{path.name} has {names.count(name)} columns called {name!r}. Rename all but one.")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TableError(f"{path.name} has no column {name!r}; it has {', '.join(map(repr, names))}.{hint} Set text_column and label_column.")
    if len(set(wanted)) < len(wanted):
        raise TableError(f"text_column and label_column are both {wanted[0]!r}. Name two different columns of {path.name}.")


def _without_blanks(frame: pd.DataFrame, path: Path, text_column: str, label_column: str, findings: list[Finding]) -> Table:
    blank_text = frame["text"].str.strip() == ""
    blank_label = (frame["label"].str.strip() == "") & ~blank_text
    for blank, column, id in ((blank_text, text_column, "empty-text"), (blank_label, label_column, "empty-label")):
        if blank.any():
            message = f"{path.name}: {in_words(frame.loc[blank, 'row'])} blank in column {column!r} and left out."
            findings.append(Finding(id, "warning", message, "Fill in or delete."))
    dropped = {"blank_text": int(blank_text.sum()), "blank_label": int(blank_label.sum())}
    rows = frame[~(blank_text | blank_label)].reset_index(drop=True)
    if rows.empty:
        raise TableError(f"{path.name}: no row has both a text and a label. Fill the columns {text_column!r} and {label_column!r}.")
    findings += _label_findings(rows["label"], path)
    return Table(rows, findings, dropped)


def _label_findings(labels: pd.Series, path: Path) -> list[Finding]:
    """Remark on labels that look like one class written in several ways, and on classes too small to learn."""
    findings = []
    counts = labels.value_counts()
    for same in variants(counts.index):
        written = ", ".join(f"{name!r} ({counts[name]} rows)" for name in same)
        findings.append(Finding("label-noise", "warning", f"{path.name}: labels that may be one class: {written}.", "Write each in one way."))
    rare = sorted(counts[counts < 5].index)
    if rare:
        shown = ", ".join(f"{name!r} ({counts[name]})" for name in rare[:10]) + (" and more" if len(rare) > 10 else "")
        findings.append(Finding("label-noise", "warning", f"{path.name}: classes with fewer than 5 rows: {shown}.", "Collect more, or merge them."))
    return findings


def variants(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that differ only in capitals and in blanks at their ends."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(name.strip().casefold(), []).append(name)
    return [same for _, same in sorted(groups.items()) if len(same) > 1]


def in_words(numbers) -> str:
    """Say which rows: "row 3", "4 rows (1, 2, 5, ...)"."""
    first = [str(int(n)) for n in numbers[:10]]
    return f"row {first[0]}" if len(numbers) == 1 else f"{len(numbers):,} rows ({', '.join(first)}{', ...' if len(numbers) > 10 else ''})"


# --- labels and splits ------------------------------------------------------------------------------------------------


def label_names(labels: pd.Series) -> list[str]:
    """Return the distinct labels in an order that never changes: numbers by value, everything else alphabetically."""
    names = sorted(set(labels))
    try:
        return sorted(names, key=int)
    except ValueError:
        return names


def normalise(texts: pd.Series) -> pd.Series:
    """Return the texts as they are compared for repeats: casefolded, runs of white space made one blank."""
    return texts.str.casefold().str.split().str.join(" ")


def split_table(
    table: Table,
    validation: Table | None = None,
    test: Table | None = None,
    *,
    validation_share: float = 0.15,
    test_share: float = 0.15,
    max_train_samples: int | None = None,
    seed: int = 42,
) -> Splits:
    """Split into train, validation and test so that every class keeps its share and no text is in two splits.

    Texts are compared as `normalise` writes them. In `table`, a text repeated with one label keeps its first row; a text with two labels
    loses all its rows, for nobody can say which is right. Where you bring your own `validation` or `test`, the test rows are never touched:
    rows with the same text leave the validation and the training rows instead. `max_train_samples` keeps a stratified sample.
    A class with too few rows for every split goes to the training rows.

    Raises:
        TableError: fewer than two classes, labels in validation or test that training does not have, or a split without rows.
    """
    findings, dropped = list(table.findings), dict(table.dropped)
    rows = table.rows.assign(_key=normalise(table.rows["text"]))

    labels_of_text = rows.groupby("_key")["label"].transform("nunique")
    conflict = rows[labels_of_text > 1]
    if len(conflict):
        example = conflict.iloc[0]
        seen = sorted(set(conflict.loc[conflict["_key"] == example["_key"], "label"]))
        message = f"{in_words(conflict['row'])} hold texts that carry two labels, for example {example['text'][:60]!r}: {', '.join(map(repr, seen))}. All are left out."
        findings.append(Finding("conflicting-labels", "warning", message, "Decide on one label for each text."))
    rows = rows[labels_of_text == 1]
    repeated = rows["_key"].duplicated()
    if repeated.any():
        message = f"{in_words(rows.loc[repeated, 'row'])} repeat an earlier text with the same label and are left out."
        findings.append(Finding("repeated-text", "warning", message, "Nothing to do: kept twice, they could end up in two splits."))
    dropped |= {"conflicting_labels": len(conflict), "repeated_text": int(repeated.sum())}
    rows = rows[~repeated]

    own = {name: part.rows.assign(_key=normalise(part.rows["text"])) for name, part in (("validation", validation), ("test", test)) if part}
    for part in (validation, test):
        if part:
            findings += part.findings
            for reason, count in part.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
    if "validation" in own and "test" in own:
        own["validation"] = _without_texts_of(own["test"], own["validation"], "test", "validation", findings, dropped)
    for name in own:
        rows = _without_texts_of(own[name], rows, name, "training", findings, dropped)

    rng = np.random.RandomState(seed)  # RandomState's stream is frozen by NumPy, so a seed means the same split everywhere
    shares = {name: share for name, share in (("test", test_share), ("validation", validation_share)) if name not in own}
    parts = own | _deal(rows, shares, rng)
    train, names = parts["train"], set(parts["train"]["label"])
    if len(names) < 2:
        raise TableError(f"The training rows have {len(names)} class(es): {', '.join(sorted(names)) or 'none'}. A classifier needs at least two.")
    for name in ("validation", "test"):
        if parts[name].empty:
            raise TableError(f"The {name} split would be empty: {len(rows)} rows are too few. Add rows, or give a {name}_file.")
        unknown = sorted(set(parts[name]["label"]) - names)
        if unknown:
            raise TableError(f"The {name} rows have labels that no training row has: {', '.join(map(repr, unknown[:10]))}. Correct them or add training rows.")
        missing = sorted(names - set(parts[name]["label"]))
        if missing:
            message = f"The {name} split has no row of {', '.join(map(repr, missing[:10]))}."
            findings.append(Finding("single-class-split", "warning", message, "Its scores say nothing about these classes; add rows."))
    if max_train_samples is not None and max_train_samples < len(train):
        if max_train_samples < len(names):
            raise TableError(f"max_train_samples={max_train_samples} is fewer than the {len(names)} classes. Raise it.")
        kept = _deal(train, {"kept": max_train_samples / len(train)}, rng, at_least_one=True)["kept"]
        dropped["not_sampled"] = len(train) - len(kept)
        train = kept
    clean = {name: frame.drop(columns="_key").reset_index(drop=True) for name, frame in (parts | {"train": train}).items()}
    return Splits(clean["train"], clean["validation"], clean["test"], findings, dropped)


def _without_texts_of(keep: pd.DataFrame, rows: pd.DataFrame, keep_name: str, rows_name: str, findings: list, dropped: dict) -> pd.DataFrame:
    shared = rows["_key"].isin(set(keep["_key"]))
    dropped[f"{rows_name}_text_in_{keep_name}"] = int(shared.sum())
    if shared.any():
        message = f"{in_words(rows.loc[shared, 'row'])} of the {rows_name} data are also in the {keep_name} file and are left out of {rows_name}."
        findings.append(Finding("split-leak", "warning", message, "A text seen in training makes its test score worthless."))
    return rows[~shared]


def _deal(rows: pd.DataFrame, shares: dict[str, float], rng: np.random.RandomState, at_least_one: bool = False) -> dict[str, pd.DataFrame]:
    """Deal each class's shuffled rows out by share; the rest is "train". Row order is kept.

    scikit-learn's stratified split refuses classes of one row, and more classes than rows to deal; tables have both.
    """
    chosen: dict[str, list[int]] = {name: [] for name in [*shares, "train"]}
    for _, group in sorted(rows.groupby("label", sort=True), key=lambda item: item[0]):
        order = rng.permutation(group.index.to_numpy())
        enough = len(order) > len(shares) or at_least_one  # one row for each part, training included
        start = 0
        for name, share in shares.items():
            count = max(1, round(len(order) * share)) if enough else 0
            chosen[name].extend(order[start : start + count])
            start += count
        chosen["train"].extend(order[start:])
    return {name: rows.loc[sorted(index)] for name, index in chosen.items()}


if __name__ == "__main__":
    try:
        fetch()
    except FetchError as error:
        sys.exit(str(error))
    for name in BUNDLED:
        print(f"{name}: {len(pd.read_csv(DATA_DIR / f'{name}.csv', keep_default_na=False)):,} labelled sentences in data/{name}.csv")
