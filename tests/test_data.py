"""Reading tables, fetching the bundled sets, splitting."""

import gzip
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import utils.data
from utils import ROOT, sha256
from utils.data import (
    ARCHIVE_NAME,
    BUNDLED,
    DATA_DIR,
    INNER_ARCHIVE,
    FetchError,
    Table,
    TableError,
    fetch,
    label_names,
    normalise,
    read_table,
    split_table,
)

CSV = "text,label\nfine day,good\nawful day,bad\n"


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_table(texts, labels):
    rows = pd.DataFrame({"row": range(1, len(texts) + 1), "text": pd.Series(texts, dtype=str), "label": pd.Series(labels, dtype=str)})
    return Table(rows, [], {})


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("semicolon.csv", CSV.replace(",", ";")),
        ("a.tsv", CSV.replace(",", "\t")),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("utf16.csv", CSV.encode("utf-16")),
        ("crlf.csv", CSV.replace("\n", "\r\n")),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("a.jsonl", '{"text": "fine day", "label": "good"}\r\n\r\n{"label": "bad", "text": "awful day"}\r\n'),
    ],
)
def test_the_same_rows_come_out_of_every_format(tmp_path, name, content):
    table = read_table(write(tmp_path, name, content))
    assert table.rows[["row", "text", "label"]].values.tolist() == [[1, "fine day", "good"], [2, "awful day", "bad"]]
    assert table.dropped == {"blank_text": 0, "blank_label": 0}


def test_parquet_keeps_whole_numbers_and_counts_nulls(tmp_path):
    pd.DataFrame({"text": ["a", "b", None, "d"], "label": pd.array([10, 2, 2, None], dtype="Int64")}).to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert table.rows["label"].tolist() == ["10", "2"]
    assert table.dropped == {"blank_text": 1, "blank_label": 1}
    assert label_names(table.rows["label"]) == ["2", "10"]


def test_a_line_separator_inside_a_text_is_no_new_line(tmp_path):
    rows = read_table(write(tmp_path, "a.jsonl", '{"text": "one\u2028two", "label": 1.0}\n{"text": "three\x85four", "label": true}\n')).rows
    assert rows["text"].tolist() == ["one\u2028two", "three\x85four"]
    assert rows["label"].tolist() == ["1", "True"]


def test_words_that_look_like_missing_values_are_kept(tmp_path):
    table = read_table(write(tmp_path, "na.csv", "text,label\nNA,None\nnull,007\nnan,1.0\n"))
    assert table.rows["text"].tolist() == ["NA", "null", "nan"]
    assert table.rows["label"].tolist() == ["None", "007", "1.0"]


def test_quotes_newlines_emoji_and_other_columns_survive(tmp_path):
    content = 'row,review,stars,text,row\n7,"two\nlines, one ""quoted""",★★,x,\n8,😀 مرحبا,★,y,\n'
    table = read_table(write(tmp_path, "odd.csv", content), "review", "stars")
    assert table.rows["text"].tolist() == ['two\nlines, one "quoted"', "😀 مرحبا"]
    assert table.rows.columns.tolist() == ["row", "text", "label", "row_in_file", "text_in_file", "row_5"]
    assert table.rows["text_in_file"].tolist() == ["x", "y"]


def test_blank_rows_are_left_out_counted_and_named(tmp_path):
    table = read_table(write(tmp_path, "blank.csv", "text,label\na,x\n  ,x\nb,\nc,y\n"))
    assert table.rows["row"].tolist() == [1, 4]
    assert table.dropped == {"blank_text": 1, "blank_label": 1}
    found = {finding.id: finding.message for finding in table.findings}
    assert "row 2 blank in column 'text'" in found["empty-text"]
    assert "row 3 blank in column 'label'" in found["empty-label"]


def test_cp1252_is_read_and_said(tmp_path):
    table = read_table(write(tmp_path, "old.csv", "text,label\nCafé – “nice”,good\nno,bad\n".encode("cp1252")))
    assert table.rows["text"][0] == "Café – “nice”"
    assert "not UTF-8 (line 2)" in table.findings[0].message


def test_labels_that_may_be_one_class_are_pointed_out(tmp_path):
    rows = "".join(f"t{i},{label}\n" for i, label in enumerate(["pos"] * 6 + ["Pos", "pos "] + ["neg"] * 6))
    findings = read_table(write(tmp_path, "noise.csv", "text,label\n" + rows)).findings
    assert [finding.id for finding in findings] == ["label-noise", "label-noise"]
    assert "'Pos' (1 rows), 'pos' (6 rows), 'pos ' (1 rows)" in findings[0].message
    assert "fewer than 5 rows: 'Pos' (1), 'pos ' (1)" in findings[1].message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "Text,label\na,b\n", "a.csv has no column 'text'; it has 'Text', 'label'. Did you mean 'Text'?"),
        ("a.csv", "text,text,label\na,b,c\n", "2 columns called 'text'"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "text,label\n", "no row has both a text and a label"),
        ("a.csv", "text,label\na,x\nb,y,z\n", "line 3: 3 values, but the header has 2 columns"),
        ("a.csv", "text,label\na,x,1\nb,y,2\n", "line 2: 3 values, but the header has 2 columns"),
        ("a.csv", "text,label\na,x\nb\n", "line 3: 1 values, but the header has 2 columns"),
        ("a.csv", 'text,label\na,x\n"b,y\n', "line 3: unexpected end of data"),
        ("a.csv", 'text,label\n"a" he said,x\n', "line 2: ',' expected after '\"'"),
        ("a.csv", "text,label\na,x\nb\0,y\n", "line 3: a NUL character"),
        ("a.csv.gz", b"not gzip", "not a whole gzip file"),
        ("a.xlsx", b"PK", "Export the sheet as CSV"),
        ("a.docx", b"PK", "a table ends in"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{oops\n', "line 2: not JSON"),
        ("a.jsonl", '["a"]\n', "is not a JSON object"),
        ("a.jsonl", '{"text": ["a"], "label": "b"}\n', "row 1, column 'text': \"['a']\" is a list"),
        ("a.parquet", b"PAR1", "not a whole Parquet file"),
    ],
)
def test_what_cannot_be_read_rightly_says_where_and_what_to_do(tmp_path, name, content, says):
    with pytest.raises(TableError) as error:
        read_table(write(tmp_path, name, content))
    assert says in str(error.value)
    assert name in str(error.value)


def test_one_column_cannot_be_both(tmp_path):
    with pytest.raises(TableError, match="both 'text'"):
        read_table(write(tmp_path, "a.csv", CSV), "text", "text")


def test_a_missing_file_names_the_places_and_the_bundled_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TableError) as error:
        read_table("tweats.csv")
    assert str(tmp_path) in str(error.value)
    assert "tweets, reviews, products, editorials" in str(error.value)


def test_a_relative_path_is_found_here_first_and_then_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(read_table("data/my_very_important_tweets.csv").rows) == 40
    (tmp_path / "data").mkdir()
    write(tmp_path, "data/my_very_important_tweets.csv", CSV)
    assert len(read_table("data/my_very_important_tweets.csv").rows) == 2


# --- the bundled sets -------------------------------------------------------------------------------------------------


def test_the_bundled_sets_are_what_the_datasheet_says(tweets):
    datasheet = (DATA_DIR / "README.md").read_text()
    for name, source in BUNDLED.items():
        rows = read_table(name).rows
        share = (rows["label"] == "positive").mean()
        assert f"| `{name}.csv` | {source.rows:,} | {len(rows):,} | {share:.0%} |" in datasheet
        assert ((rows["valence"].astype(float) > 0) == (rows["label"] == "positive")).all()
        assert rows["rating_std"].astype(float).between(0, 4).all()
    assert tweets.rows["text"].str.contains("&amp;").any()
    assert normalise(tweets.rows["text"]).duplicated().sum() == 60


@pytest.fixture
def empty_data(tmp_path):
    """A data folder without the fetched files."""
    return tmp_path / "data"


def test_the_four_files_come_out_of_an_archive_put_there_by_hand(empty_data):
    empty_data.mkdir()
    shutil.copy(DATA_DIR / ARCHIVE_NAME, empty_data)
    fetch(empty_data)
    for name in BUNDLED:
        assert (empty_data / f"{name}.csv").read_bytes() == (DATA_DIR / f"{name}.csv").read_bytes()


def test_a_wrong_archive_is_refused_and_nothing_is_written(empty_data):
    empty_data.mkdir()
    damaged = bytearray((DATA_DIR / ARCHIVE_NAME).read_bytes())
    damaged[1000] ^= 1
    (empty_data / ARCHIVE_NAME).write_bytes(damaged)
    with pytest.raises(FetchError, match="is not the expected file: its SHA-256 is"):
        fetch(empty_data)
    assert [path.name for path in empty_data.iterdir()] == [ARCHIVE_NAME]


@pytest.fixture
def evil_archive(empty_data, tmp_path):
    """The archive with members besides that lead out of a folder, in both of its layers: by .., by an absolute path, by a link."""
    evil = ["../evil", "hutto_ICWSM_2014/../../evil", str(tmp_path / "evil")]
    with zipfile.ZipFile(DATA_DIR / ARCHIVE_NAME) as good, tarfile.open(fileobj=io.BytesIO(good.read(INNER_ARCHIVE))) as sets:
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
    empty_data.mkdir()
    with zipfile.ZipFile(empty_data / ARCHIVE_NAME, "w") as bad:
        for name in evil:
            bad.writestr(name, "evil")
        bad.writestr(INNER_ARCHIVE, layer.getvalue())
    return empty_data / ARCHIVE_NAME


def test_an_archive_is_not_opened_before_its_hash_is_right(evil_archive, monkeypatch):
    monkeypatch.setattr(utils.data, "_unpack", lambda archive: pytest.fail("it was opened"))
    with pytest.raises(FetchError, match="is not the expected file: its SHA-256 is"):
        fetch(evil_archive.parent)


def test_members_that_lead_out_of_an_archive_make_no_file(evil_archive, tmp_path, monkeypatch):
    """Even with the right hash: members are read by name, and nothing is extracted."""
    monkeypatch.setattr(utils.data, "ARCHIVE_SHA256", sha256(evil_archive))
    fetch(evil_archive.parent)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(f"data/{name}" for name in (ARCHIVE_NAME, *(f"{name}.csv" for name in BUNDLED)))
    for name in BUNDLED:
        assert (evil_archive.parent / f"{name}.csv").read_bytes() == (DATA_DIR / f"{name}.csv").read_bytes()


def test_an_index_that_serves_another_file_is_refused_before_anything_of_it_runs(empty_data, tmp_path, monkeypatch):
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


def test_a_fetch_that_is_killed_leaves_whole_files_or_none_and_the_next_one_finishes(empty_data):
    """Killed with SIGKILL at ten moments, spread over the time that an undisturbed fetch takes."""
    empty_data.mkdir()
    program = "import sys, pathlib; from utils.data import fetch; print('go', flush=True); fetch(pathlib.Path(sys.argv[1]))"
    for moment in range(10):
        shutil.copy(DATA_DIR / ARCHIVE_NAME, empty_data)
        with subprocess.Popen([sys.executable, "-c", program, str(empty_data)], cwd=ROOT, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.06 * moment)
            process.send_signal(signal.SIGKILL)
        for name in BUNDLED:
            path = empty_data / f"{name}.csv"
            assert not path.exists() or path.read_bytes() == (DATA_DIR / f"{name}.csv").read_bytes()
    fetch(empty_data)
    assert all((empty_data / f"{name}.csv").exists() for name in BUNDLED)


# --- labels and splits ------------------------------------------------------------------------------------------------


def test_label_order_does_not_depend_on_the_hash_seed(run_python):
    program = "import pandas as pd; from utils.data import label_names; print(label_names(pd.Series(['b', 'ä', 'B', 'a,b', '😀'])))"
    outputs = {run_python(program, PYTHONHASHSEED=seed).stdout for seed in ("0", "1", "2")}
    assert outputs == {"['B', 'a,b', 'b', 'ä', '😀']\n"}
    assert label_names(pd.Series(["10", "2", "1"])) == ["1", "2", "10"]


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).filter(str.strip)
rows = st.lists(st.tuples(words, st.sampled_from(["a", "b", "c"])), min_size=1, max_size=80)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(0, 2**32 - 1))
def test_no_text_is_in_two_splits_and_every_row_is_accounted_for(rows, seed):
    table = as_table(*zip(*rows, strict=True))
    try:
        splits = split_table(table, seed=seed)
    except TableError:
        return  # too few rows or classes; the tests below say when
    keys = [set(normalise(part["text"])) for part in splits[:3]]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    assert sum(map(len, splits[:3])) + sum(splits.dropped.values()) == len(table.rows)
    for part in splits[:3]:
        assert part["row"].is_monotonic_increasing
        original = table.rows.set_index("row").loc[part["row"]]
        assert original["text"].tolist() == part["text"].tolist()
        assert original["label"].tolist() == part["label"].tolist()
    again = split_table(table, seed=seed)
    assert all(one.equals(other) for one, other in zip(splits[:3], again[:3], strict=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(0, 1000))
def test_every_class_keeps_its_share_and_its_place_in_training(sizes, seed):
    labels = [f"class {k}" for k, size in enumerate(sizes) for _ in range(size)]
    table = as_table([f"text {i}" for i in range(len(labels))], labels)
    if max(sizes) < 3:
        with pytest.raises(TableError, match="too few"):
            split_table(table, seed=seed)
        return
    splits = split_table(table, seed=seed)
    for k, size in enumerate(sizes):
        train, validation, test = ((part["label"] == f"class {k}").sum() for part in splits[:3])
        assert train >= 1
        expected = max(1, size * 0.15) if size >= 3 else 0
        assert abs(validation - expected) <= 0.5
        assert abs(test - expected) <= 0.5


def test_repeats_keep_their_first_row_and_contradictions_go():
    texts = ["one", "One ", "two", "two", "three", " THREE", *(f"more {i}" for i in range(20))]
    labels = ["a", "a", "a", "b", "b", "b", *"ab" * 10]
    splits = split_table(as_table(texts, labels))
    kept = sorted(pd.concat(splits[:3])["row"])
    assert kept == [1, 5, *range(7, 27)]
    assert splits.dropped == {"conflicting_labels": 2, "repeated_text": 2}
    found = {finding.id: finding.message for finding in splits.findings}
    assert "2 rows (3, 4)" in found["conflicting-labels"]
    assert "'a', 'b'" in found["conflicting-labels"]
    assert "2 rows (2, 6)" in found["repeated-text"]


def test_your_own_test_rows_are_never_touched():
    train = as_table([f"text {i}" for i in range(30)], list("ab" * 15))
    test = as_table(["TEXT  3", "text 3", "new"], list("bbb"))
    validation = as_table(["text 3", "text 4", "unseen"], list("bab"))
    splits = split_table(train, validation, test)
    assert splits.test["text"].tolist() == ["TEXT  3", "text 3", "new"]
    assert splits.validation["text"].tolist() == ["text 4", "unseen"]
    assert splits.train["row"].tolist() == [i for i in range(1, 31) if i not in (4, 5)]
    assert splits.dropped["validation_text_in_test"] == 1
    assert splits.dropped["training_text_in_test"] == 1
    assert splits.dropped["training_text_in_validation"] == 1
    assert "single-class-split" in [finding.id for finding in splits.findings]  # the test rows are all "b"


def test_a_label_unknown_to_training_is_an_error():
    train = as_table([f"text {i}" for i in range(30)], list("ab" * 15))
    with pytest.raises(TableError, match="test rows have labels that no training row has: 'c'"):
        split_table(train, test=as_table(["x"], ["c"]))


def test_a_sample_keeps_the_shares_and_counts_what_it_left():
    table = as_table([f"text {i}" for i in range(1000)], ["a"] * 900 + ["b"] * 100)
    splits = split_table(table, max_train_samples=70)
    assert splits.train["label"].value_counts().to_dict() == {"a": 63, "b": 7}
    assert splits.dropped["not_sampled"] == 700 - 70
    with pytest.raises(TableError, match="fewer than the 3 classes"):
        split_table(as_table([f"text {i}" for i in range(60)], list("abc" * 20)), max_train_samples=2)


def test_one_class_is_not_enough():
    with pytest.raises(TableError, match="1 class"):
        split_table(as_table([f"text {i}" for i in range(20)], ["a"] * 20))


def test_a_thousand_classes_split_in_order():
    labels = [f"{k}" for k in range(1000) for _ in range(7)]
    splits = split_table(as_table([f"text {i}" for i in range(7000)], labels))
    assert label_names(splits.train["label"]) == [str(k) for k in range(1000)]
    assert [len(part) for part in splits[:3]] == [5000, 1000, 1000]
    json.dumps(splits.dropped)
