"""Texts and labels of a table: what is left out, what is refused, what is remarked on."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_tables import (
    CSV,
    FLAGS,
    MANY,
    MULTI,
    NUMBERS,
    REGRESSION,
    cases,
    comes_in_whole,
    is_refused,
    labelled,
    lines,
    parquet,
    remarks,
    write,
)

from utils.data import read_table
from utils.labels import label_names
from utils.reading.table import NA_WORDS

# name of the case, file, bytes, arguments, rows, and what the source or a finding says
ACCEPTED = [
    # words for missing values, blanks
    ("NA and its like", "a.csv", "text,label\nNA,x\nnull,x\nn/a,x\nfine,x\n", {},
     [("NA", "x"), ("null", "x"), ("n/a", "x"), ("fine", "x")],
     "'NA' (row 1), 'n/a' (row 3), 'null' (row 2). They are kept as words"),
    ("labels that are NA", "a.csv", "text,label\na,None\nb,x\nc,None\n", {},
     [("a", "None"), ("b", "x"), ("c", "None")], "'None' (2 rows (1, 3)). They are kept as a class"),
    ("labels that were whole numbers", "a.csv", "text,label\na,1.0\nb,\nc,0.0\n", {},
     [("a", "1.0"), ("c", "0.0")], "look like '0.0', '1.0' where row 2 blank"),
    ("whole numbers and a written nan", "a.csv", "text,label\na,1.0\nb,nan\nc,0.0\n", {},
     [("a", "1.0"), ("b", "nan"), ("c", "0.0")], "look like '0.0', '1.0'."),
    ("half of the rows blank", "a.csv", "text,label\na,x\n,y\n", {}, [("a", "x")],
     "row 2 blank in column 'text'"),
    ("most rows blank, and allowed", "a.csv", "text,label\na,x\n,y\n,y\n", {"max_dropped": 0.7}, [("a", "x")],
     "2 rows (2, 3) blank"),
    ("a blank text and a blank label", "a.csv", "text,label\na,x\n  ,x\nb,\nc,y\n", {},
     [("a", "x"), ("c", "y")],
     "row 3 blank in column 'label'"),
    ("whole numbers and nulls", "a.parquet",
     parquet(text=["a", "b", None, "d"], label=pa.array([10, 2, 2, None])), {}, [("a", "10"), ("b", "2")],
     "row 3 blank in column 'text'"),
    # labels
    ("zeros before a number", "a.csv", "text,label\na,007\nb,1.0\n", {}, [("a", "007"), ("b", "1.0")], {}),
    ("integers from 1", "a.csv", "text,label\na,1\nb,2\nc,10\n", {}, [("a", "1"), ("b", "2"), ("c", "10")],
     {}),
    ("negative labels", "a.jsonl", lines({"text": "a", "label": -1}, {"text": "b", "label": 1}), {},
     [("a", "-1"), ("b", "1")], {}),
    ("booleans", "a.jsonl", lines({"text": "a", "label": True}, {"text": "b", "label": False}), {},
     [("a", "True"), ("b", "False")], {}),
    ("whole floats", "a.parquet", parquet(text=["a", "b"], label=[1.0, 2.0]), {}, [("a", "1"), ("b", "2")],
     {}),
    ("1 and 1.0", "a.csv", "text,label\na,1\nb,1.0\nc,2\n", {}, [("a", "1"), ("b", "1.0"), ("c", "2")],
     "may be one class: '1' (1 rows), '1.0' (1 rows)"),
    ("two blanks or one", "a.csv", "text,label\na,very good\nb,very  good\n", {},
     [("a", "very good"), ("b", "very  good")], "may be one class"),
    ("an accent stored in two ways", "a.csv", "text,label\na,caf\u00e9\nb,cafe\u0301\n", {},
     [("a", "caf\u00e9"), ("b", "cafe\u0301")], "may be one class"),
    ("names that are hard to print", "a.csv",
     'text,label\na,"x,y"\nb,"say ""no"""\nc,😀\nd,سلبي\ne,../a\\b:*?\n', {},
     [("a", "x,y"), ("b", 'say "no"'), ("c", "😀"), ("d", "سلبي"), ("e", "../a\\b:*?")], {}),
    ("a category column", "a.parquet",
     parquet(text=["a", "b"], label=pa.array(["x", "y"]).dictionary_encode()), {},
     [("a", "x"), ("b", "y")], {}),
    # several labels
    ("joined labels", "a.csv", "text,label\na,joy | anger|joy\nb,anger\nc,||joy\n", MULTI,
     [("a", "anger|joy"), ("b", "anger"), ("c", "joy")], {}),
    ("joined numbers in order of value", "a.csv", "text,label\na,10|2\nb,2\n", MULTI,
     [("a", "2|10"), ("b", "2")], {}),
    ("nothing between the bars", "a.csv", "text,label\na,x|y\nb, | \n", MULTI, [("a", "x|y")],
     "To keep a row as one without any label, give the labels as 0/1 columns"),
    ("joined by another sign", "a.csv", 'text,label\na,"joy,anger"\nb,joy\n', MULTI,
     [("a", "joy,anger"), ("b", "joy")], "no row has more than one label. Labels are joined by '|'"),
    ("0/1 columns", "a.csv", FLAGS, MANY, [("a", "joy"), ("b", "anger"), ("c", "anger|joy")], {}),
    ("a row of zeros", "a.csv", "text,joy,anger\na,1,0\nb,0,1\nc,0,0\n", MANY,
     [("a", "joy"), ("b", "anger"), ("c", "")], {}),
    ("every way to say yes", "a.csv", "text,joy,anger\na,1.0,FALSE\nb,True, 0\nc,0.0,true\n", MANY,
     [("a", "joy"), ("b", "joy"), ("c", "anger")], {}),
    ("booleans in Parquet", "a.parquet", parquet(text=["a", "b"], joy=[True, False], anger=[0.0, 1.0]), MANY,
     [("a", "joy"), ("b", "anger")], {}),
    ("a row without an answer", "a.csv", FLAGS + "d,,\n", MANY,
     [("a", "joy"), ("b", "anger"), ("c", "anger|joy")], "row 4 blank in column 'joy' and 'anger'"),
    ("a label nobody has", "a.csv", "text,joy,anger\na,1,0\nb,0,0\n", MANY, [("a", "joy"), ("b", "")],
     "'anger' is 1 in no row"),
    ("a label column called label", "a.csv", "review,text,label\na,1,0\nb,1,1\n",
     {"task": "multi_label", "text_column": "review", "label_column": ["text", "label"]},
     [("a", "text"), ("b", "label|text")], {}),
    # numbers
    ("numbers", "a.csv", "text,score\na,1\nb,-2.5e-1\nc, 3.0 \nd,\n", NUMBERS,
     [("a", "1"), ("b", "-2.5e-1"), ("c", " 3.0 ")], "row 4 blank in column 'score'"),
    ("typed numbers", "a.parquet", parquet(text=["a", "b", "c"], score=[0.1, None, 3.0]), NUMBERS,
     [("a", "0.1"), ("c", "3")], "row 2 blank"),
    ("a label column named twice", "a.csv", FLAGS, {"task": "multi_label", "label_column": ["joy", "joy"]},
     [("a", "joy"), ("b", ""), ("c", "joy")], {}),
]  # fmt: skip


@cases(("name", "content", "arguments", "rows", "says"), ACCEPTED)
def test_texts_and_labels_come_in_whole(tmp_path, name, content, arguments, rows, says):
    comes_in_whole(tmp_path, name, content, arguments, rows, says)


# name of the case, file, bytes, arguments, and what the message says
REFUSED = [
    # rows
    ("too many blank", "a.csv", "text,label\na,x\n,y\n,\nb,\n", {},
     "a.csv: 3 of 4 rows would be left out (blank_text 2, blank_label 1), more than max_dropped=0.5 allows"),
    ("one blank, none allowed", "a.csv", "text,label\na,x\n,y\n", {"max_dropped": 0},
     "1 of 2 rows would be left out"),
    ("all blank", "a.csv", "text,label\n,\n,\n", {},
     "no row has both a text and a label. Fill 'text', 'label', or name others"),
    # arguments
    ("one column for both", "a.csv", CSV, {"label_column": "text"},
     "text_column and label_column are both 'text'"),
    ("a task that is none", "a.csv", CSV, {"task": "classification"},
     "task='classification' is none of single_label, multi_label, regression"),
    ("a share that is none", "a.csv", CSV, {"max_dropped": 50},
     "max_dropped=50 must be a share of the rows, from 0 to 1"),
    ("columns for one label", "a.csv", FLAGS, {"label_column": ["joy", "anger"]},
     "only task='multi_label' has several. Name one"),
    ("a column that is no name", "a.csv", CSV, {"label_column": 1},
     "label_column=1 must be names of columns"),
    ("no label columns", "a.csv", FLAGS, {"task": "multi_label", "label_column": []},
     "label_column=[] must be names of columns"),
    ("the text among the labels", "a.csv", FLAGS, {"task": "multi_label", "label_column": ["joy", "text"]},
     "text_column and label_column are both 'text'"),
    ("a bar in a label's name", "a.csv", "text,a|b,c\nx,1,0\n",
     {"task": "multi_label", "label_column": ["a|b", "c"]},
     "'a|b' is blank or holds '|'. Rename the column"),
    # several labels, numbers
    ("a flag that is none", "a.csv", FLAGS + "d,1,2\n", MANY,
     "row 4, column 'anger': '2' is neither 0 nor 1"),
    ("a flag left out", "a.csv", FLAGS + "d,1,\n", MANY, "row 4, column 'anger': '' is neither 0 nor 1"),
    ("a label column missing", "a.csv", FLAGS, {"task": "multi_label", "label_column": ["joy", "angr"]},
     "has no column 'angr'; it has 'text', 'joy', 'anger'. Did you mean 'anger'?"),
    ("a decimal comma", "a.csv", "text;score\na;1\nb;3,5\n", NUMBERS,
     "row 2, column 'score': '3,5' is no finite number. Write digits and a decimal point alone (-1234.5)"),
    ("words for numbers", "a.csv", "text,score\na,1\nb,NA\nc,two\n", NUMBERS,
     "row 2, column 'score': 'NA' is no finite number (2 rows (2, 3) are not). Write digits"),
    ("infinity", "a.csv", "text,score\na,1\nb,inf\n", NUMBERS, "'inf' is no finite number"),
    ("a number too large", "a.csv", "text,score\na,1e999\n", NUMBERS, "'1e999' is no finite number"),
    ("Python's thousands", "a.csv", "text,score\na,1_000\n", NUMBERS, "'1_000' is no finite number"),
]  # fmt: skip


@cases(("name", "content", "arguments", "says"), REFUSED)
def test_what_cannot_be_used_is_refused_with_place_and_remedy(tmp_path, name, content, arguments, says):
    is_refused(says, read_table, write(tmp_path, name, content), **arguments)


# --- where a table is looked for ----------------------------------------------------------------------------


def test_a_folder_and_paths_that_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    is_refused("is a folder. Give the file in it", read_table, tmp_path)
    is_refused(str(tmp_path), read_table, "tweats.csv")
    for path in ("tweats.csv", "a\0b.csv", "x" * 5000 + ".csv"):
        is_refused("The bundled sets are called tweets, reviews, products, editorials", read_table, path)


def test_a_relative_path_is_found_here_first_and_then_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(read_table("data/my_very_important_tweets.csv").rows) == 40
    (tmp_path / "data").mkdir()
    write(tmp_path, "data/my_very_important_tweets.csv", CSV)
    assert len(read_table("data/my_very_important_tweets.csv").rows) == 2


# --- other columns, words for missing values ----------------------------------------------------------------


def test_the_words_for_missing_values_are_those_of_the_pandas_installed():
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES - {""} == NA_WORDS
    lost = pd.read_csv(io.StringIO("text\n" + "\n".join(NA_WORDS)))
    assert lost["text"].isna().all()


def test_other_columns_stay_and_never_collide(tmp_path):
    content = "row,value,review,score,text,row_in_file,_key\n9,8,a,1,7,6,5\n9,8,b,2,7,6,5\n"
    rows = read_table(write(tmp_path, "a.csv", content), "review", "score", task="regression").rows
    names = "row text label value row_in_file_ value_in_file text_in_file row_in_file _key"
    assert rows.columns.tolist() == names.split()
    assert rows["value"].tolist() == [1.0, 2.0]
    assert rows["value"].dtype == np.float64
    assert rows.loc[0].tolist() == [1, "a", "1", 1.0, "9", "8", "7", "6", "5"]


def test_quotes_newlines_emoji_and_other_columns_survive(tmp_path):
    content = 'row,review,stars,text,row\n7,"two\nlines, one ""quoted""",★★,x,\n8,😀 مرحبا,★,y,\n'
    table = read_table(write(tmp_path, "odd.csv", content), "review", "stars")
    assert table.rows["text"].tolist() == ['two\nlines, one "quoted"', "😀 مرحبا"]
    assert table.rows.columns.tolist() == ["row", "text", "label", "row_in_file", "text_in_file", "row_5"]
    assert table.rows["text_in_file"].tolist() == ["x", "y"]


# --- labels that look the same ------------------------------------------------------------------------------


def test_labels_that_may_be_one_class_are_pointed_out(tmp_path):
    findings = labelled(tmp_path, ["pos"] * 6 + ["Pos", "pos "] + ["neg"] * 6).findings
    assert [finding.id for finding in findings] == ["label-noise", "label-noise"]
    assert "'Pos' (1 rows), 'pos' (6 rows), 'pos ' (1 rows)" in findings[0].message
    assert "fewer than 5 rows: 'Pos' (1), 'pos ' (1)" in findings[1].message


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


# --- numbers whose points part thousands --------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [["971", "1.032", "1.093"], ["-5", "-1.250"], ["0", "12.000", "999.999", " +3.500 "], ["1.000", "7"]],
)
def test_points_that_seem_to_part_thousands(tmp_path, labels):
    value = next(label for label in labels if "." in label)
    says = f"column 'label': the point in {value!r} ("
    fix = f"If so, write {value.replace('.', '')}; if it marks decimals, give one a zero more: {value}0."
    for part in (says, fix):
        is_refused(part, labelled, tmp_path, labels, sep=";", **REGRESSION)
    table = labelled(tmp_path, labels, **REGRESSION)
    assert [finding.id for finding in table.findings] == ["thousands"]
    assert says in table.findings[0].message
    assert table.rows["value"].tolist() == [float(label) for label in labels]
    labels[labels.index(value)] = f"{value}0"  # the remedy
    assert labelled(tmp_path, labels, sep=";", **REGRESSION).findings == []


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
    table = labelled(tmp_path, labels, sep=sep, **REGRESSION)
    assert table.findings == []
    assert table.rows["value"].tolist() == [float(label) for label in labels]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_typed_numbers_mean_what_they_are(tmp_path, name):
    table = labelled(tmp_path, [971.0, 1.032, 1.093], name, **REGRESSION)
    assert table.findings == []
    assert table.rows["value"].tolist() == [971.0, 1.032, 1.093]


@pytest.mark.parametrize("labels", [["1.333", "1.667", "2", "3", "2.333", "1"], ["2.500", "1.250", "1", "3"]])
def test_means_of_a_few_raters_are_not_refused(tmp_path, labels):
    table = labelled(tmp_path, labels * 4, sep=";", **REGRESSION)
    assert table.rows["value"].tolist() == [float(label) for label in labels] * 4
    assert [finding.id for finding in table.findings] == ["thousands"]


@pytest.mark.parametrize(
    "label", ["1,000", "€1.000", "1.000.000", "1'000", "1 000", "\u22125", "50 %", "3,5"]
)
def test_a_number_written_in_another_way_is_refused_with_the_way_to_write_it(tmp_path, label):
    remedy = "Write digits and a decimal point alone (-1234.5), or empty the cell."
    says = f"a.csv, row 2, column 'label': {label!r} is no finite number. {remedy}"
    is_refused(says, labelled, tmp_path, ["1", label], **REGRESSION)


# --- several labels, spelt in other ways --------------------------------------------------------------------


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
        ('["chef\'s choice", "room"]', "chef's choice|room"),
        ("[1, 2]", "1|2"),
        ("[0. 3.]", "0.0|3.0"),
        ('["food", null, "room"]', "food|room"),
        ("['food', nan]", "food"),
    ],
)
def test_a_printed_list_is_refused_for_several_labels(tmp_path, printed, joined):
    says = f"a.csv, row 3, column 'label': {printed!r} is a printed list. Join the labels by '|': {joined}."
    is_refused(says, labelled, tmp_path, ["food|room", "food", printed, printed], **MULTI)


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
    assert remarks(table) == [f"a.csv: labels in column 'label' whose parts are labels, too: {shown}."]
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
        ("a.csv", ["[]", "food|room"], "'[]' is a printed list"),
    ],
)
def test_a_0_or_1_for_each_label_is_refused_with_the_columns_to_write(tmp_path, name, labels, shown):
    remedy = "ive each label a column of its own, with 0 or 1, and name them all as label_column."
    for part in (f"column 'label': {shown}", remedy):
        is_refused(part, labelled, tmp_path, labels * 4, name, **MULTI)


def test_labels_called_0_and_1_are_labels(tmp_path):
    table = labelled(tmp_path, ["0|1", "1", "0", "0|1"] * 3, **MULTI)
    assert table.rows["label"].unique().tolist() == ["0|1", "1", "0"]


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


NO_LABELS = [
    ("a bar in a label", "a.jsonl", [["a"], ["a", "b|c"]], MULTI,
     "row 2, column 'label': 'b|c' in the list ['a', 'b|c'] is no label without '|'. Rename it"),
    ("a bar in Parquet", "a.parquet", [["b|c"], ["a"]], MULTI,
     "row 1, column 'label': 'b|c' in the list ['b|c'] is no label"),
    ("a null", "a.jsonl", [["a"], ["a", None]], MULTI,
     "row 2, column 'label': None in the list ['a', None] is no label"),
    ("a list", "a.jsonl", [["a"], [["a"]]], MULTI,
     "row 2, column 'label': ['a'] in the list [['a']] is no label"),
    ("a dict", "a.jsonl", [["a"], {"a": 1}], MULTI,
     "row 2, column 'label': \"{'a': 1}\" is a dict. Give a text or a number."),
    ("one label a text", "a.jsonl", ["a", ["a"]], {},
     "row 2, column 'label': \"['a']\" is a list. Give a text or a number (lists are for the one label"),
    ("one label a text, Parquet", "a.parquet", [["a"], ["b"]], {},
     "row 1, column 'label': \"['a']\" is a list. Give a text or a number (lists are for"),
    ("a printed list", "a.jsonl", [["a"], "['a', 'b']"], MULTI,
     "row 2, column 'label': \"['a', 'b']\" is a printed list. Join the labels by '|': a|b."),
]  # fmt: skip


@cases(("name", "labels", "arguments", "says"), NO_LABELS)
def test_lists_that_hold_no_labels_are_refused(tmp_path, name, labels, arguments, says):
    is_refused(says, labelled, tmp_path, labels, name, **arguments)


names = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0|"), min_size=1, max_size=4)
    .map(str.strip)
    .filter(bool)
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=12),
    st.lists(names, min_size=5, max_size=5, unique=True),
)
def test_both_forms_of_several_labels_say_the_same(tmp_path, sets, called):
    taken = [f"label {name}" for name in called]
    columns = {"a text": [f"text {i}" for i in range(len(sets))]} | {
        name: [int(k in chosen) for chosen in sets] for k, name in enumerate(taken)
    }
    pd.DataFrame(columns).to_csv(tmp_path / "flags.csv", index=False)
    flags = read_table(tmp_path / "flags.csv", "a text", taken, task="multi_label").rows["label"]
    order = label_names(flags, "multi_label")
    assert set(order) == {taken[k] for chosen in sets for k in chosen}
    assert flags.tolist() == [
        "|".join(name for name in order if taken.index(name) in chosen) for chosen in sets
    ]
    if any(sets):
        joined = pd.DataFrame(
            {
                "text": columns["a text"],
                "label": [" | ".join(taken[k] for k in sorted(chosen, reverse=True)) for chosen in sets],
            }
        )
        joined.to_csv(tmp_path / "joined.csv", index=False)
        table = read_table(tmp_path / "joined.csv", task="multi_label", max_dropped=1)
        assert table.rows["label"].tolist() == [label for label in flags if label]
        assert table.dropped["blank_label"] == sum(not chosen for chosen in sets)
