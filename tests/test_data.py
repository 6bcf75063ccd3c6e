"""Reading tables, fetching the bundled sets, splitting."""

import gzip
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import unicodedata
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import utils.reading.bundled
from utils import ROOT, sha256
from utils.data import Table, TableError, read_table, split_table
from utils.labels import comparable, label_names, normalise, variants
from utils.reading.bundled import ARCHIVE_NAME, BUNDLED, DATA_DIR, INNER_ARCHIVE, FetchError, fetch

CSV = "text,label\nfine day,good\nawful day,bad\n"


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_table(texts, labels):
    rows = pd.DataFrame(
        {
            "row": range(1, len(texts) + 1),
            "text": pd.Series(texts, dtype=str),
            "label": pd.Series(labels, dtype=str),
        }
    )
    return Table(rows, [], {})


# --- reading ------------------------------------------------------------------------------------------------


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
    assert table.rows[["row", "text", "label"]].values.tolist() == [
        [1, "fine day", "good"],
        [2, "awful day", "bad"],
    ]
    assert table.dropped == {"blank_text": 0, "blank_label": 0}


def test_parquet_keeps_whole_numbers_and_counts_nulls(tmp_path):
    pd.DataFrame(
        {"text": ["a", "b", None, "d"], "label": pd.array([10, 2, 2, None], dtype="Int64")}
    ).to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert table.rows["label"].tolist() == ["10", "2"]
    assert table.dropped == {"blank_text": 1, "blank_label": 1}
    assert label_names(table.rows["label"]) == ["2", "10"]


def test_a_line_separator_inside_a_text_is_no_new_line(tmp_path):
    rows = read_table(
        write(
            tmp_path,
            "a.jsonl",
            '{"text": "one\u2028two", "label": 1.0}\n{"text": "three\x85four", "label": true}\n',
        )
    ).rows
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
    table = read_table(
        write(tmp_path, "old.csv", "text,label\nCafé – “nice”,good\nno,bad\n".encode("cp1252"))
    )
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
        (
            "a.csv",
            "Text,label\na,b\n",
            "a.csv has no column 'text'; it has 'Text', 'label'. Did you mean 'Text'?",
        ),
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


def labelled(folder, labels, name="a.csv", **arguments):
    """Read a table of these labels, each with a text of its own."""
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))], "label": labels})
    if name.endswith(".csv"):
        frame.to_csv(folder / name, index=False, sep=arguments.pop("sep", ","))
    elif name.endswith(".jsonl"):
        write(folder, name, "".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    else:
        frame.to_parquet(folder / name)
    return read_table(folder / name, **arguments)


def remarks(table):
    return [finding.message for finding in table.findings if "fewer than 5 rows" not in finding.message]


# --- labels that look the same ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("late", "late\u200b", r"'late\u200b'"),
        ("late", "\ufefflate", r"'\ufefflate'"),
        ("co-op", "co\u00ad-op", r"'co\xad-op'"),
        ("late", "la\u2060te", r"'la\u2060te'"),
        ("late", "late\u200e", r"'late\u200e'"),
        ("late", "late\x1a", r"'late\x1a'"),
        ("\u2764", "\u2764\ufe0f", r"'\u2764\ufe0f'".replace(r"\u2764", "\u2764")),
        ("déjà vu", "de\u0301ja\u0300 vu", r"'de\u0301ja\u0300 vu'"),
        ("spät", "ｓpät", r"'\uff53pät'"),
        ("fine", "\ufb01ne", r"'\ufb01ne'"),
        ("très bon", "très\u00a0bon", r"'très\xa0bon'"),
        ("अच्छा", "अच्छा\u200b", r"'अच्छा\u200b'"),
        ("می\u200cخواهم", "میخواهم", r"'می\u200cخواهم'"),
        ("100000", "1E+05", "'1E+05'"),
        ("1000", "1e3", "'1e3'"),
        ("1", "+1", "'+1'"),
        ("1500", "1.5E+3", "'1.5E+3'"),
        ("follow-up", "follow\u2011up", r"'follow\u2011up'"),
        ("-1", "\u22121", r"'\u22121'"),
        ("don't know", "don\u2019t know", r"'don\u2019t know'"),
    ],
)
def test_labels_that_look_the_same_are_pointed_out_and_told_apart(tmp_path, one, other, shown):
    found = remarks(labelled(tmp_path, [one, other] * 6 + ["quite another"] * 6))
    assert len(found) == 1
    assert "labels that may be one class" in found[0]
    assert f"{shown} (6 rows)" in found[0]
    assert "another" not in found[0]


@pytest.mark.parametrize(
    "names",
    [
        [
            "\U0001f468\u200d\U0001f469\u200d\U0001f467",
            "\U0001f468\U0001f469\U0001f467",
            "\u2764\ufe0f",
        ],  # a family, and its members
        ["می\u200cخواهم", "نمی\u200cخواهم", "ක්\u200dරීඩා"],
        ["007", "7", "1.1", "1.10", "1e", "e3", "-1", "0"],
        ["resume", "résumé", "Tür", "Tur", "a-b", "ab"],
        [
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        ],
    ],
)
def test_labels_that_look_different_are_not(tmp_path, names):
    assert remarks(labelled(tmp_path, names * 5)) == []


def test_long_numbers_are_different_labels_to_the_last_digit():
    assert variants(["9" * 40, "9" * 39 + "8", "1e999"]) == []


def test_a_label_with_nothing_to_see_is_pointed_out(tmp_path):
    assert remarks(labelled(tmp_path, ["good", "\u200b"] * 6)) == [
        r"a.csv: labels in which there is nothing to see: '\u200b' (6 rows)."
    ]


# --- numbers whose points part thousands --------------------------------------------------------------------

NUMBERS = {"task": "regression"}


@pytest.mark.parametrize(
    "labels",
    [["971", "1.032", "1.093"], ["-5", "-1.250"], ["0", "12.000", "999.999", " +3.500 "], ["1.000", "7"]],
)
def test_points_that_seem_to_part_thousands(tmp_path, labels):
    value = next(label for label in labels if "." in label)
    says = f"column 'label': where there is a point, exactly three digits follow ({value!r}"
    with pytest.raises(TableError) as error:
        labelled(tmp_path, labels, sep=";", **NUMBERS)
    assert says in str(error.value)
    assert (
        f"If so, write {value.replace('.', '')}; if it marks decimals, give one of them a zero more: "
        f"{value}0." in str(error.value)
    )
    table = labelled(tmp_path, labels, **NUMBERS)
    assert [finding.id for finding in table.findings] == ["thousands"]
    assert says in table.findings[0].message
    assert table.rows["value"].tolist() == [float(label) for label in labels]
    labels[labels.index(value)] = f"{value}0"  # the remedy
    assert labelled(tmp_path, labels, sep=";", **NUMBERS).findings == []


@pytest.mark.parametrize(
    "labels",
    [
        ["0.125", "2.5", "3"],
        ["3.141", "2.5", "2"],
        ["0.971", "5"],
        ["1.032", "1.093"],  # a program that writes three digits writes them always
        ["1234.567", "5"],
        ["1.250e3", "5"],
        ["1032", "971"],
        ["1.0", "971"],
        ["1.0321", "971"],
    ],
)
@pytest.mark.parametrize("sep", [";", ","])
def test_points_that_mark_decimals_are_left_alone(tmp_path, labels, sep):
    table = labelled(tmp_path, labels, sep=sep, **NUMBERS)
    assert table.findings == []
    assert table.rows["value"].tolist() == [float(label) for label in labels]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_typed_numbers_mean_what_they_are(tmp_path, name):
    table = labelled(tmp_path, [971.0, 1.032, 1.093], name, **NUMBERS)
    assert table.findings == []
    assert table.rows["value"].tolist() == [971.0, 1.032, 1.093]


@pytest.mark.parametrize("labels", [["1.333", "1.667", "2", "3", "2.333", "1"], ["2.500", "1.250", "1", "3"]])
def test_means_of_a_few_raters_are_not_refused(tmp_path, labels):
    table = labelled(tmp_path, labels * 4, sep=";", **NUMBERS)
    assert table.rows["value"].tolist() == [float(label) for label in labels] * 4
    assert [finding.id for finding in table.findings] == ["thousands"]


@pytest.mark.parametrize(
    ("label", "remedy"),
    [
        (
            "1,000",
            "If ',' parts thousands, write 1000; if it marks decimals, write a point, and a zero more at the "
            "end.",
        ),
        (
            "-12,345",
            "If ',' parts thousands, write -12345; if it marks decimals, write a point, and a zero more at "
            "the end.",
        ),
        (
            "€1.000",
            "If '.' parts thousands, write 1000; if it marks decimals, write a point, and a zero more at the "
            "end.",
        ),
        ("1.000.000", "Write 1000000."),
        ("12,345,678", "Write 12345678."),
        ("1,000.50", "Write 1000.50."),
        ("1.000,50", "Write 1000.50."),
        ("1'000", "Write 1000."),
        ("1\u2019000", "Write 1000."),
        ("1 000", "Write 1000."),
        ("-1\u00a0000\u00a0000", "Write -1000000."),
        ("1\u2009000,5", "Write 1000.5."),
        ("\u22125", "Write -5."),
        ("50 %", "Write 50."),
        ("$5.99", "Write 5.99."),
        ("5\u200b", "Write 5."),
        ("3,5", "Write decimals with a point: 3.5."),
        ("0,125", "Write decimals with a point: 0.125."),
        ("infinity", "Correct it, or leave the cell empty to have the row left out."),
        ("12,34,5", "Correct it, or leave the cell empty to have the row left out."),
    ],
)
def test_a_number_written_in_another_way_is_refused_with_the_way_to_write_it(tmp_path, label, remedy):
    with pytest.raises(TableError) as error:
        labelled(tmp_path, ["1", label], **NUMBERS)
    assert str(error.value) == f"a.csv, row 2, column 'label': {label!r} is no finite number. {remedy}"


# --- several labels, spelt in other ways --------------------------------------------------------------------

MULTI = {"task": "multi_label"}


@pytest.mark.parametrize(
    ("printed", "joined"),
    [
        ("['food', 'room']", "food|room"),
        ('["food", "room"]', "food|room"),
        ("['food']", "food"),
        ("('food', 'room')", "food|room"),
        ("('food',)", "food"),
        ("{'food', 'room'}", "food|room"),
        ("['food' 'room']", "food|room"),
        ("[np.str_('food'), np.str_('room')]", "food|room"),
        ("array(['food', 'room'], dtype='<U4')", "food|room"),
        ('["chef\'s choice", "room"]', "chef's choice|room"),
        ("[1, 2]", "1|2"),
        ("[0. 3.]", "0.0|3.0"),
        ('["food", null, "room"]', "food|room"),
        ("['food', nan]", "food"),
    ],
)
def test_a_printed_list_is_refused_for_several_labels(tmp_path, printed, joined):
    with pytest.raises(TableError) as error:
        labelled(tmp_path, ["food|room", "food", printed, printed], **MULTI)
    assert (
        str(error.value)
        == f"a.csv, row 3, column 'label': {printed!r} is a printed list. Join the labels by '|': {joined}."
    )


def test_a_printed_list_without_labels_is_refused(tmp_path):
    with pytest.raises(
        TableError,
        match=r"row 2, column 'label': '\[\]' is a printed list. Give each label a column of its own, with 0 "
        r"or 1, and name them all as label_column.",
    ):
        labelled(tmp_path, ["food|room", "[]"], **MULTI)


def test_printed_lists_of_several_are_pointed_out_for_one_label(tmp_path):
    table = labelled(tmp_path, ["['food', 'room']", "['food']"] * 5)
    assert remarks(table) == ["""a.csv: labels that are printed lists: "['food', 'room']"."""]
    assert remarks(labelled(tmp_path, ["['room']", "['food']", "[0, 10]", "(10, 20)"] * 5)) == []


@pytest.mark.parametrize(
    "labels", [["(1)", "[sic]", "('a')"], ["(other)", "{x}", "f(x)"], ["it's 'so'", "(0, 1]", '"quoted"']]
)
def test_labels_in_brackets_are_no_lists(tmp_path, labels):
    assert remarks(labelled(tmp_path, [*labels, "x|y"], **MULTI)) == []


@pytest.mark.parametrize(
    ("labels", "shown", "joined"),
    [
        (
            ["food, staff", "food", "staff|room", "room", "food, room"],
            "'food, room', 'food, staff'",
            "food|room",
        ),
        (["Food;ROOM", "food", "staff|room"], "'Food;ROOM'", "Food|ROOM"),
        (["food/room", "food", "room", "x|y"], "'food/room'", "food|room"),
        (["food\troom", "food", "room", "x|y"], r"'food\troom'", "food|room"),
        (["food + room", "food", "room", "x|y"], "'food + room'", "food|room"),
        (["[food, room]", "[food]", "[room]", "x|y"], "'[food, room]'", "food|room"),
        (["{food,room}", "food", "room", "x|y"], "'{food,room}'", "food|room"),
        (["food，room", "food", "room", "x|y"], "'food，room'", "food|room"),
        (["food، room", "food", "room", "x|y"], "'food، room'", "food|room"),
    ],
)
def test_labels_joined_by_another_sign_are_pointed_out_whatever_bars_there_are(
    tmp_path, labels, shown, joined
):
    table = labelled(tmp_path, labels * 5, **MULTI)
    assert remarks(table) == [
        f"a.csv: column 'label' has labels whose parts are labels, too: {shown}. Each is read as one label."
    ]
    assert table.findings[-1].fix == f"If they are several, join them by '|': {joined}."


@pytest.mark.parametrize("own", ["parts, repair", "Washington, DC", "R&D", "A+", "and/or", "1,000"])
def test_a_label_with_a_sign_of_its_own_is_left_alone(tmp_path, own):
    assert remarks(labelled(tmp_path, [own, "Washington", "R", "A", "food|1"] * 5, **MULTI)) == []


@pytest.mark.parametrize(
    ("name", "labels", "shown"),
    [
        ("a.jsonl", [[0, 1, 0], [1, 0, 0]], "'0|1|0' is a 0 or 1 for each label"),
        ("a.jsonl", [[0, 1], [0, 0]], "'0|0' is a 0 or 1 for each label"),
        ("a.parquet", [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], "'1|0|1' is a 0 or 1 for each label"),
        ("a.csv", ["True|False|False", "False|False|True"], "'True|False|False' is a 0 or 1 for each label"),
        ("a.csv", ["[1, 0, 1]", "[0, 0, 0]"], "'[1, 0, 1]' is a printed list"),
        ("a.csv", ["[0. 1. 0.]", "[1. 0. 0.]"], "'[0. 1. 0.]' is a printed list"),
    ],
)
def test_a_0_or_1_for_each_label_is_refused_with_the_columns_to_write(tmp_path, name, labels, shown):
    with pytest.raises(TableError) as error:
        labelled(tmp_path, labels * 4, name, **MULTI)
    assert f"column 'label': {shown}" in str(error.value)
    assert "ive each label a column of its own, with 0 or 1, and name them all as label_column." in str(
        error.value
    )


def test_labels_called_0_and_1_are_labels(tmp_path):
    assert labelled(tmp_path, ["0|1", "1", "0", "0|1"] * 3, **MULTI).rows["label"].unique().tolist() == [
        "0|1",
        "1",
        "0",
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_lists_of_labels_are_taken_as_they_are(tmp_path, name):
    table = labelled(tmp_path, [["b", "a"], ["a"], [], None, ["b", " a ", "b"], ["x, y"]], name, **MULTI)
    assert table.rows["label"].tolist() == ["a|b", "a", "", "a|b", "x, y"]
    assert table.rows["row"].tolist() == [1, 2, 3, 5, 6]
    assert table.dropped == {"blank_text": 0, "blank_label": 1}
    assert ["row 4 blank" in message for message in remarks(table)] == [True]
    numbers = labelled(tmp_path, [[10.0, 2.0], [2.0]], name, **MULTI)
    assert numbers.rows["label"].tolist() == ["2|10", "2"]


def test_arrays_and_joined_texts_are_taken_beside_lists(tmp_path):
    table = labelled(
        tmp_path, [np.array(["b", "a"]), np.array([], dtype=str), np.array(["a"])], "a.parquet", **MULTI
    )
    assert table.rows["label"].tolist() == ["a|b", "", "a"]
    assert labelled(tmp_path, [["b", "a"], "c|a", "c"], "a.jsonl", **MULTI).rows["label"].tolist() == [
        "a|b",
        "a|c",
        "c",
    ]


@pytest.mark.parametrize(
    "feature",
    [
        {"feature": {"names": ["food", "room"], "_type": "ClassLabel"}, "_type": "List"},
        {"feature": {"names": ["food", "room"], "_type": "ClassLabel"}, "_type": "Sequence"},
        [{"names": ["food", "room"], "_type": "ClassLabel"}],
    ],
)
def test_lists_of_classes_that_datasets_named_have_their_names(tmp_path, feature):
    def parquet(labels):
        metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
        table = pa.table({"text": [f"text {i}" for i in range(len(labels))], "label": labels})
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    assert read_table(parquet([[1, 0], [], None, [1]]), **MULTI).rows["label"].tolist() == [
        "food|room",
        "",
        "room",
    ]
    with pytest.raises(TableError, match="row 2, column 'label': 2 is no class: the file names 2 of them"):
        read_table(parquet([[1], [0, 2]]), **MULTI)
    assert read_table(parquet([0, 1, 1]), **MULTI).rows["label"].tolist() == ["food", "room", "room"]


@pytest.mark.parametrize(
    ("name", "labels", "arguments", "says"),
    [
        (
            "a.jsonl",
            [["a"], ["a", "b|c"]],
            MULTI,
            "row 2, column 'label': the label 'b|c' in a list holds '|', which joins labels. Rename it.",
        ),
        ("a.parquet", [["b|c"], ["a"]], MULTI, "row 1, column 'label': the label 'b|c' in a list holds '|'"),
        (
            "a.jsonl",
            [["a"], ["a", None]],
            MULTI,
            "row 2, column 'label': None in the list ['a', None] is no label. Take it out of the list.",
        ),
        ("a.jsonl", [["a"], [["a"]]], MULTI, "row 2, column 'label': ['a'] in the list [['a']] is no label."),
        (
            "a.jsonl",
            [["a"], {"a": 1}],
            MULTI,
            "row 2, column 'label': \"{'a': 1}\" is a dict. Give a text or a number.",
        ),
        (
            "a.jsonl",
            ["a", ["a"]],
            {},
            "row 2, column 'label': \"['a']\" is a list. Give a text or a number (lists are for the one "
            "label column of task='multi_label').",
        ),
        (
            "a.parquet",
            [["a"], ["b"]],
            {},
            "row 1, column 'label': \"['a']\" is a list. Give a text or a number (lists are for",
        ),
        (
            "a.jsonl",
            [["a"], "['a', 'b']"],
            MULTI,
            "row 2, column 'label': \"['a', 'b']\" is a printed list. Join the labels by '|': a|b.",
        ),
    ],
)
def test_lists_that_hold_no_labels_are_refused(tmp_path, name, labels, arguments, says):
    with pytest.raises(TableError) as error:
        labelled(tmp_path, labels, name, **arguments)
    assert says in str(error.value)


# --- the bundled sets ---------------------------------------------------------------------------------------


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
    empty_data.mkdir()
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
    for name in BUNDLED:
        assert (evil_archive.parent / f"{name}.csv").read_bytes() == (DATA_DIR / f"{name}.csv").read_bytes()


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


def test_a_fetch_that_is_killed_leaves_whole_files_or_none_and_the_next_one_finishes(empty_data):
    """Killed with SIGKILL at ten moments, spread over the time that an undisturbed fetch takes."""
    empty_data.mkdir()
    program = """
import sys, pathlib
from utils.reading.bundled import fetch
print("go", flush=True)
fetch(pathlib.Path(sys.argv[1]))
"""
    for moment in range(10):
        shutil.copy(DATA_DIR / ARCHIVE_NAME, empty_data)
        with subprocess.Popen(
            [sys.executable, "-c", program, str(empty_data)], cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            time.sleep(0.06 * moment)
            process.send_signal(signal.SIGKILL)
        for name in BUNDLED:
            path = empty_data / f"{name}.csv"
            assert not path.exists() or path.read_bytes() == (DATA_DIR / f"{name}.csv").read_bytes()
    fetch(empty_data)
    assert all((empty_data / f"{name}.csv").exists() for name in BUNDLED)


# --- labels and splits --------------------------------------------------------------------------------------


def test_label_order_does_not_depend_on_the_hash_seed(run_python):
    program = """
import pandas as pd
from utils.labels import label_names
print(label_names(pd.Series(["b", "ä", "B", "a,b", "😀"])))
"""
    outputs = {run_python(program, PYTHONHASHSEED=seed).stdout for seed in ("0", "1", "2")}
    assert outputs == {"['B', 'a,b', 'b', 'ä', '😀']\n"}
    assert label_names(pd.Series(["10", "2", "1"])) == ["1", "2", "10"]


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).filter(
    str.strip
)
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


SAME = [
    ("a café", unicodedata.normalize("NFD", "a café")),
    ("good\u200bplace", "goodplace"),
    ("co\u00adoperate", "cooperate"),
    ("\ufeffa place", "a place"),
    ("a pl\u2060ace", "a place"),
    ("\u2067a place\u2069", "a place"),
    ("a\u00a0place", "a place"),
    ("a\u3000place", "a place"),
    ("ａ ｐｌａｃｅ！", "a place!"),
    ("a \ufb01ne place", "a fine place"),
    ("love \u2764\ufe0f", "love \u2764"),
    ("a place\x1a", "a place"),
    ("\u1112\u1161\u11ab\u1100\u1173\u11af", "\ud55c\uae00"),
    ("ｶﾞ", "ガ"),
    ("می\u200cخواهم", "میخواهم"),
    ("ක්\u200dරීඩා", "ක්රීඩා"),
    ("place\u200d", "place"),
]
DIFFERENT = [
    ("resume", "résumé"),
    ("10\u00b2 is right", "102 is right"),
    ("H\u2082O", "H2O"),
    (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 came",
        "\U0001f468\U0001f469\U0001f467 came",
    ),  # a family, and three people
    ("\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f3f3\ufe0f\U0001f308"),
    ("\U0001f44d", "\U0001f44d\U0001f3fd"),
    (
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ),
    ("re-cover", "recover"),
    ("a man", "aman"),
    ("wait\u2026", "wait"),
    ("\u0627", "\u0623"),
    ("1\ufe0f\u20e3", "1"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_text_in_another_form_is_the_same_text(one, other):
    others = [f"more {i}" for i in range(20)]
    splits = split_table(as_table([one, other, *others], [*"aa", *"ab" * 10]))
    assert splits.dropped == {"conflicting_labels": 0, "repeated_text": 1}
    assert 2 not in pd.concat(splits[:3])["row"].tolist()
    splits = split_table(as_table([one, other, *others], [*"ab", *"ab" * 10]))
    assert splits.dropped == {"conflicting_labels": 2, "repeated_text": 0}
    splits = split_table(as_table([one, *others], [*"a", *"ab" * 10]), test=as_table([other, "new"], [*"ab"]))
    assert splits.dropped["training_text_in_test"] == 1
    assert splits.test["text"].tolist() == [other, "new"]  # as they were written


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_texts_that_look_different_are_two(one, other):
    splits = split_table(as_table([one, other, *(f"more {i}" for i in range(20))], [*"ab", *"ab" * 10]))
    assert splits.dropped == {"conflicting_labels": 0, "repeated_text": 0}


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_comparing_does_not_depend_on_the_form(text):
    assert comparable(unicodedata.normalize("NFC", text)) == comparable(unicodedata.normalize("NFD", text))
    assert comparable(f"\u200b{text}\ufeff") == comparable(text)
    assert comparable(f"\u2003{text}\n") == comparable(text)


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


@pytest.mark.parametrize("wanted", [300, 301, 350, 899, 900, 901, 1499, 2999])
def test_a_sample_of_many_classes_has_the_rows_asked_for(wanted):
    labels = [f"class {k}" for k in range(300) for _ in range(14 if k else 100)]
    splits = split_table(
        as_table([f"text {i}" for i in range(len(labels))], labels), max_train_samples=wanted
    )
    counts = splits.train["label"].value_counts()
    assert len(splits.train) == wanted
    assert splits.dropped["not_sampled"] == 299 * 10 + 70 - wanted
    assert len(counts) == 300
    share = wanted / (wanted + splits.dropped["not_sampled"])
    assert counts.drop("class 0").between(np.floor(10 * share), np.ceil(10 * share)).all()
    assert splits.train["row"].is_monotonic_increasing


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=2, max_size=30), st.floats(0, 1), st.integers(0, 1000))
def test_a_sample_has_exactly_the_rows_asked_for_and_every_class(sizes, at, seed):
    labels = [f"class {k}" for k, size in enumerate(sizes) for _ in range(size)]
    table = as_table([f"text {i}" for i in range(len(labels))], labels)
    whole = split_table(table, seed=seed).train
    wanted = len(sizes) + round(at * (len(whole) - len(sizes)))
    splits = split_table(table, max_train_samples=wanted, seed=seed)
    assert len(splits.train) == wanted == len(whole) - splits.dropped.get("not_sampled", 0)
    counts, all_counts = splits.train["label"].value_counts(), whole["label"].value_counts()
    assert len(counts) == len(sizes)
    share = wanted / len(whole)
    assert all(count == 1 or count < all_counts[name] * share + 1 for name, count in counts.items())
    assert split_table(table, max_train_samples=wanted, seed=seed).train.equals(splits.train)


@settings(max_examples=60, deadline=None)
@given(st.integers(60, 200), st.integers(2, 12), st.floats(0, 0.9), st.integers(0, 10_000))
def test_a_sample_of_several_labels_has_exactly_the_rows_asked_for_and_every_label(rows, labels, at, seed):
    rng = np.random.RandomState(seed)
    has = rng.rand(rows, labels) < rng.uniform(0.02, 0.5, labels)
    joined = ["|".join(f"L{k:02}" for k in np.flatnonzero(row)) for row in has]
    table = as_table([f"text {i}" for i in range(rows)], joined)
    whole = split_table(table, task="multi_label", seed=seed).train
    names = label_names(whole["label"], "multi_label")
    wanted = max(2, len(names), round(at * len(whole)))
    train = split_table(table, task="multi_label", max_train_samples=wanted, seed=seed).train
    assert len(train) == wanted
    assert label_names(train["label"], "multi_label") == names


@pytest.mark.parametrize("wanted", [2, 7, 10, 14, 33, 399, 401, 699])
def test_a_sample_of_numbers_has_exactly_the_rows_asked_for(wanted):
    table = as_table([f"text {i}" for i in range(1000)], [str(i) for i in range(1000)])
    table.rows["value"] = np.arange(1000.0)
    train = split_table(table, task="regression", max_train_samples=wanted).train
    assert len(train) == wanted
    tenths = np.histogram(train["value"], bins=10, range=(0, 1000))[0]
    assert tenths.max() - tenths.min() <= max(2, 0.05 * wanted)


def test_the_split_of_the_tweets_is_the_one_it_always_was(tweets):
    """Scores in the notebooks depend on it."""
    digests = [
        hashlib.sha256(" ".join(map(str, part["row"])).encode()).hexdigest()[:16]
        for part in split_table(tweets)[:3]
    ]
    assert digests == ["b1c2efaa67d95c97", "63c35c759bd969e3", "733fb31233c04b03"]
    sampled = split_table(tweets, max_train_samples=600, seed=1)
    assert [len(part) for part in sampled[:3]] == [600, 620, 620]
    assert (
        hashlib.sha256(" ".join(map(str, sampled.train["row"])).encode()).hexdigest()[:16]
        == "660cbb597ba30ca6"
    )


def test_one_class_is_not_enough():
    with pytest.raises(TableError, match="1 class"):
        split_table(as_table([f"text {i}" for i in range(20)], ["a"] * 20))


def test_a_thousand_classes_split_in_order():
    labels = [f"{k}" for k in range(1000) for _ in range(7)]
    splits = split_table(as_table([f"text {i}" for i in range(7000)], labels))
    assert label_names(splits.train["label"]) == [str(k) for k in range(1000)]
    assert [len(part) for part in splits[:3]] == [5000, 1000, 1000]
    json.dumps(splits.dropped)
