"""The bundled sets: what the datasheet says of them, and how they are fetched."""

import io
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

import utils.reading.bundled
from utils import ROOT, sha256
from utils.data import TableError, read_table
from utils.reading.bundled import ARCHIVE_NAME, BUNDLED, DATA_DIR, INNER_ARCHIVE, WHOLE, FetchError, fetch
from utils.reading.same import normalise

RATED = {"tweets": 4200, "reviews": 10605, "products": 3708, "editorials": 5190}


def test_the_bundled_sets_are_what_the_datasheet_says(tweets):
    datasheet = (DATA_DIR / "README.md").read_text()
    for name, rated in RATED.items():
        rows = read_table(name).rows
        share = (rows["label"] == "positive").mean()
        assert f"| `{name}.csv` | {rated:,} | {len(rows):,} | {share:.0%} |" in datasheet
        assert ((rows["valence"].astype(float) > 0) == (rows["label"] == "positive")).all()
        assert rows["rating_std"].astype(float).between(0, 4).all()
    for name, column in (("products", "review"), ("editorials", "article")):
        numbers = read_table(name).rows[column].astype(int)
        assert numbers.is_monotonic_increasing
        assert numbers.nunique() > 290
    assert tweets.rows["text"].str.contains("&amp;").any()
    assert normalise(tweets.rows["text"]).duplicated().sum() == 60


@pytest.fixture
def empty_data(tmp_path):
    """A data folder without the fetched files."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def assert_whole(folder, names=BUNDLED):
    for name in names:
        assert (folder / f"{name}.csv").read_bytes() == (DATA_DIR / f"{name}.csv").read_bytes()


def test_the_four_files_come_out_of_an_archive_put_there_by_hand(empty_data):
    shutil.copy(DATA_DIR / ARCHIVE_NAME, empty_data)
    fetch(empty_data)
    assert_whole(empty_data)


def test_products_that_an_earlier_version_wrote_get_their_reviews(empty_data):
    shutil.copy(DATA_DIR / ARCHIVE_NAME, empty_data)
    for name in BUNDLED:
        whole = [line.rpartition(",")[0] for line in (DATA_DIR / f"{name}.csv").read_text().splitlines()]
        (empty_data / f"{name}.csv").write_text("\n".join(whole if name in WHOLE else ["text"]))
    fetch(empty_data)
    assert_whole(empty_data)


def test_a_wrong_archive_is_refused_and_nothing_is_written(empty_data):
    damaged = bytearray((DATA_DIR / ARCHIVE_NAME).read_bytes())
    damaged[1000] ^= 1
    (empty_data / ARCHIVE_NAME).write_bytes(damaged)
    with pytest.raises(FetchError, match="is not the expected file: its SHA-256 is"):
        fetch(empty_data)
    assert [path.name for path in empty_data.iterdir()] == [ARCHIVE_NAME]


@pytest.fixture
def evil_archive(empty_data, tmp_path):
    """The archive with members that lead out of a folder, in both layers: by .., by a path, by a link."""
    evil = ["../evil", "hutto_ICWSM_2014/../../evil", str(tmp_path / "evil")]
    with (
        zipfile.ZipFile(DATA_DIR / ARCHIVE_NAME) as good,
        tarfile.open(fileobj=io.BytesIO(good.read(INNER_ARCHIVE))) as sets,
    ):
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w:gz", compresslevel=1) as bad:
            for name in evil:
                member = tarfile.TarInfo(name)
                member.size = 4
                bad.addfile(member, io.BytesIO(b"evil"))
            link = tarfile.TarInfo("hutto_ICWSM_2014")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            bad.addfile(link)
            for member in sets:
                if member.isfile() and member.name.endswith(".txt"):
                    bad.addfile(member, sets.extractfile(member))
    with zipfile.ZipFile(empty_data / ARCHIVE_NAME, "w") as bad:
        for name in evil:
            bad.writestr(name, "evil")
        bad.writestr(INNER_ARCHIVE, layer.getvalue())
    return empty_data / ARCHIVE_NAME


def test_an_archive_is_not_opened_before_its_hash_is_right(evil_archive, monkeypatch):
    monkeypatch.setattr(utils.reading.bundled, "_unpack", lambda archive: pytest.fail("it was opened"))
    with pytest.raises(FetchError, match="is not the expected file: its SHA-256 is"):
        fetch(evil_archive.parent)


def test_members_that_lead_out_of_an_archive_make_no_file(evil_archive, tmp_path, monkeypatch):
    """Even with the right hash: members are read by name, and nothing is extracted."""
    monkeypatch.setattr(utils.reading.bundled, "ARCHIVE_SHA256", sha256(evil_archive))
    fetch(evil_archive.parent)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(f"data/{name}" for name in (ARCHIVE_NAME, *(f"{name}.csv" for name in BUNDLED)))
    assert_whole(evil_archive.parent)


def test_an_index_that_serves_another_file_is_refused_before_anything_of_it_runs(
    empty_data, tmp_path, monkeypatch
):
    index = tmp_path / "index"
    index.mkdir()
    damaged = (DATA_DIR / ARCHIVE_NAME).read_bytes() + b"x"
    (index / ARCHIVE_NAME).write_bytes(damaged)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(FetchError, match="what the package index served is not the file"):
        fetch(empty_data)
    assert not list(empty_data.glob("*"))


def test_without_a_network_the_message_says_what_to_do(empty_data, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FetchError) as error:
        fetch(empty_data)
    assert "pip download --no-deps --no-binary :all: vaderSentiment==0.5" in str(error.value)
    assert f"copy {ARCHIVE_NAME} into {empty_data}" in str(error.value)
    assert not list(empty_data.glob("*"))
    monkeypatch.setattr("utils.reading.table.fetch", lambda: fetch(empty_data))
    with pytest.raises(
        TableError, match="could not be fetched with pip"
    ):  # commands print it, and no traceback
        read_table("tweets")


def test_a_fetch_that_is_killed_leaves_whole_files_or_none_and_the_next_one_finishes(empty_data):
    """Killed with SIGKILL at five moments, spread over the time that an undisturbed fetch takes."""
    program = """
import sys, pathlib
from utils.reading.bundled import fetch
print("go", flush=True)
fetch(pathlib.Path(sys.argv[1]))
"""
    shutil.copy(DATA_DIR / ARCHIVE_NAME, empty_data)
    for moment in range(5):
        for path in empty_data.glob("*.csv"):
            path.unlink()
        command = [sys.executable, "-c", program, str(empty_data)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.02 + 0.12 * moment)
            process.send_signal(signal.SIGKILL)
        assert_whole(empty_data, [name for name in BUNDLED if (empty_data / f"{name}.csv").exists()])
    fetch(empty_data)
    assert_whole(empty_data)
