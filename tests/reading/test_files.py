"""Formats, delimiters, lines and headers: awkward files come in whole, impossible ones are refused."""

import csv
import gzip
import io
import json
import math
import sys
import zipfile

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from growth import reader
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sample_tables import (
    CSV,
    MANY,
    MULTI,
    NUMBERS,
    TWO,
    cases,
    comes_in_whole,
    is_refused,
    lines,
    pairs,
    parquet,
    remarks,
    write,
)

from utils.data import TableError, read_table, split_table
from utils.reading.files import read_frame
from utils.reading.table import NA_WORDS


def zipped(content):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.csv", content)
    return sink.getvalue()


WRONG_BYTE = bytearray(parquet(text=["a", "b"], label=["x", "y"]))
WRONG_BYTE[6] ^= 0xFF

# name of the case, file, bytes, arguments, rows, and what the source or a finding says
ACCEPTED = [
    ("lines that end with both", "a.csv", CSV.replace("\n", "\r\n"), {}, TWO,
     {"encoding": "utf-8", "delimiter": ","}),
    ("semicolons", "a.csv", CSV.replace(",", ";"), {}, TWO, {"delimiter": ";"}),
    ("tabs in a .txt", "a.txt", CSV.replace(",", "\t"), {}, TWO, {"delimiter": "\t"}),
    ("commas in a .tsv", "a.tsv", CSV, {}, TWO, {"delimiter": ","}),
    ("bars", "a.csv", CSV.replace(",", "|"), {}, TWO, {"delimiter": "|"}),
    ("semicolons, commas in the header", "a.csv", 'text;label;"a,b,c,d"\nfine, day;good;1\n', {},
     [("fine, day", "good")], {"delimiter": ";"}),
    ("a delimiter nobody guesses", "a.csv", CSV.replace(",", "~"), {"delimiter": "~"}, TWO,
     {"delimiter": "~"}),
    ("a delimiter named against the guess", "a.csv", "text,label;label\nx;y\n",
     {"text_column": "text,label", "delimiter": ";"}, [("x", "y")], {"delimiter": ";"}),
    ("Excel's sep= line", "a.csv", "sep=;\r\ntext;label\r\nfine day;good\r\nawful day;bad\r\n", {}, TWO,
     {"delimiter": ";", "rows": 2}),
    ("lines ended by a carriage return", "a.csv", CSV.replace("\n", "\r"), {}, TWO, {"rows": 2}),
    ("no line end at the end", "a.csv", CSV.rstrip(), {}, TWO, {"rows": 2}),
    ("empty lines anywhere", "a.csv", "\n\ntext,label\n\nfine day,good\n\n\nawful day,bad\n\n", {}, TWO,
     {"rows": 2}),
    ("blank cells above the header", "a.csv", ",\n , \ntext,label\nfine day,good\nawful day,bad\n", {}, TWO,
     {"rows": 2}),
    ("line breaks of every kind in quotes", "a.csv", 'text,label\n"one\ntwo\r\nthree\rfour",x\n', {},
     [("one\ntwo\r\nthree\rfour", "x")], {"rows": 1}),
    ("a quote inside an unquoted text", "a.csv", 'text,label\n5" long,x\n', {}, [('5" long', "x")], {}),
    ("blanks around a text stay", "a.csv", "text,label\n  a , x\n", {}, [("  a ", " x")], {}),
    ("a text of a million characters", "a.csv", "text,label\n" + "word " * 200_000 + ",x\n", {},
     [("word " * 200_000, "x")], {}),
    ("gzip, capital suffix", "A.CSV.GZ", gzip.compress(CSV.encode()), {}, TWO, {"rows": 2}),
    ("gzip in two members", "a.tsv.gz",
     gzip.compress(b"text\tlabel\nfine day\tgood\n") + gzip.compress(b"awful day\tbad\n"), {}, TWO,
     {"rows": 2}),
    ("many columns", "a.csv",
     "text,label," + ",".join(f"c{i}" for i in range(300)) + "\na,x" + ",1" * 300 + "\n", {}, [("a", "x")],
     {}),
    # index columns
    ("a nameless first column", "a.csv", ",text,label\n0,fine day,good\n1,awful day,bad\n", {}, TWO,
     "index that pandas saved"),
    ("an index saved twice", "a.csv",
     "Unnamed: 0.1,Unnamed: 0,text,label\n0,0,fine day,good\n1,1,awful day,bad\n", {}, TWO,
     "'Unnamed: 0.1', 'Unnamed: 0' is an index"),
    ("an index wanted as the label", "a.csv", "Unnamed: 0,text\n1,a\n2,b\n", {"label_column": "Unnamed: 0"},
     [("a", "1"), ("b", "2")], {}),
    ("an index in Parquet", "a.parquet", parquet(text=["a"], label=["x"], __index_level_0__=[7]), {},
     [("a", "x")], "'__index_level_0__' is an index"),
    # JSON lines
    ("JSON lines that end with both", "a.jsonl",
     (lines({"text": "a", "label": "x"}) * 2).replace("\n", "\r\n\r\n"), {}, [("a", "x")] * 2,
     {"encoding": "utf-8", "delimiter": None, "rows": 2}),
    ("a line separator inside a text", "a.jsonl",
     '{"text": "one\u2028two", "label": 1.0}\n{"text": "three\x85four", "label": true}\n', {},
     [("one\u2028two", "1"), ("three\x85four", "True")], {"rows": 2}),
    ("keys that come and go", "a.jsonl",
     lines({"text": "a", "label": "x"}, {"label": "y", "extra": [1], "text": "b"}), {},
     [("a", "x"), ("b", "y")], {}),
    ("a label that is missing or null", "a.jsonl",
     lines({"text": "a", "label": "x"}, {"text": "b"}, {"text": "c", "label": None},
     {"text": "d", "label": "y"}),
     {}, [("a", "x"), ("d", "y")], "2 rows (2, 3) blank in column 'label'"),
    ("a pair of surrogates", "a.ndjson", '{"text": "\\ud83d\\ude00", "label": "x"}\n', {}, [("😀", "x")], {}),
    ("gzipped JSON lines", "a.jsonl.gz", gzip.compress(lines({"text": "a", "label": "x"}).encode()), {},
     [("a", "x")], {"rows": 1}),
    ("gzipped Parquet", "a.parquet.gz", gzip.compress(parquet(text=["a"], label=["x"])), {}, [("a", "x")],
     {"encoding": None, "rows": 1}),
]  # fmt: skip


@cases(("name", "content", "arguments", "rows", "says"), ACCEPTED)
def test_awkward_files_come_in_whole(tmp_path, name, content, arguments, rows, says):
    comes_in_whole(tmp_path, name, content, arguments, rows, says)


# name of the case, file, bytes, arguments, and what the message says
REFUSED = [
    # what is no table
    ("Excel by another name", "a.csv", zipped(CSV), {},
     "is an Excel file or a zip archive. Export the sheet as CSV UTF-8, or unpack it"),
    ("old Excel by another name", "a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", {}, "Export the sheet as CSV"),
    ("OpenDocument", "a.ods", b"PK", {}, "is a spreadsheet. Export the sheet as CSV UTF-8"),
    ("zip", "a.csv.zip", zipped(CSV), {}, "a.csv.zip is packed, and not by gzip. Unpack it"),
    ("feather", "a.feather", b"ARROW1", {}, "pandas.read_feather('x.feather').to_parquet('x.parquet')"),
    ("one JSON document", "a.json", "[]", {},
     "pandas.read_json('x.json').to_json('x.jsonl', orient='records', lines=True)"),
    ("one JSON document in a .jsonl", "a.jsonl", '[\n{"text": "a"}\n]', {},
     "line 1: no JSON object (Expecting value: line 2 column 1 (char 2)). This is one JSON document"),
    ("bzip2", "a.csv.bz2", b"BZh", {}, "is packed, and not by gzip. Unpack it"),
    ("gzip without the suffix", "a.csv", gzip.compress(CSV.encode()), {},
     "is compressed with gzip. Add .gz to its name"),
    ("Parquet without the suffix", "a.csv", parquet(text=["a"], label=["b"]), {},
     "is a Parquet file. Call it .parquet"),
    ("no suffix", "table", CSV, {}, "a table ends in .csv, .jsonl, .ndjson, .parquet, .tsv, .txt"),
    # damaged
    ("no gzip file", "a.csv.gz", b"not gzip", {}, "not a whole gzip file"),
    ("half a gzip file", "a.csv.gz", gzip.compress((CSV * 99).encode())[:40], {}, "not a whole gzip file"),
    ("a gzip file with a wrong byte", "a.csv.gz",
     gzip.compress(CSV.encode())[:12] + b"\xff\xff\xff" + gzip.compress(CSV.encode())[15:], {},
     "not a whole gzip file"),
    ("half a Parquet file", "a.parquet", parquet(text=["a"] * 99, label=["b"] * 99)[:90], {},
     "not a whole Parquet file"),
    ("Parquet with a wrong byte", "a.parquet", WRONG_BYTE, {}, "not a whole Parquet file"),
    ("Parquet with bytes that are no text", "a.parquet",
     parquet(text=pa.array([b"\xff"]).view(pa.string()), label=["x"]), {}, "not a whole Parquet file"),

    # delimiters, quotes, fields
    ("text behind a closing quote", "a.csv", 'text,label\n"a" he said,x\n', {},
     "line 2: ',' expected after '\"'"),
    ("two characters as delimiter", "a.csv", CSV, {"delimiter": "||"},
     "delimiter='||' must be one character"),
    ("a quote as delimiter", "a.csv", CSV, {"delimiter": '"'}, "must be one character"),
    ("a delimiter for JSON lines", "a.jsonl", lines({"text": "a", "label": "b"}), {"delimiter": ","},
     "has no delimiter"),
    ("the wrong delimiter asked for", "a.csv", CSV, {"delimiter": ";"},
     "it has 'text,label'. ';' does not divide its header: name the delimiter that does"),
    ("a quote never closed", "a.csv", 'text,label\na,x\n"b,y\n' + "c,z\n" * 99, {},
     "line 3: unexpected end of data"),
    ("quotes escaped with a backslash", "a.csv", 'text,label\n"say \\"no\\" now",x\n', {},
     "write each one inside it twice"),
    ("a row too long after a text of three lines", "a.csv", 'text,label\n"a\nb\nc",x\nd,y,z\n', {},
     "line 5: 3 values, but the header has 2 columns"),
    ("a comma not quoted", "a.csv", "text,label\nfine, really,x\n", {},
     "line 2: 3 values, but the header has 2 columns. A text that holds ',' must stand in double quotes"),
    ("a row too short", "a.csv", "text,label,more\na,x\n", {},
     "line 2: 2 values, but the header has 3 columns"),
    # columns
    ("a capital letter", "a.csv", "Text,label\na,b\n", {},
     "a.csv has no column 'text'; it has 'Text', 'label'. Did you mean 'Text'?"),
    ("no header", "a.csv", "fine day,good\nawful day,bad\n", {}, "it has 'fine day', 'good'"),
    ("a blank before the name", "a.csv", "text, label\na,x\n", {},
     "has no column 'label'; it has 'text', ' label'. Did you mean ' label'?"),
    ("a name misspelt", "a.csv", "tweet_text,sentiment\na,x\n",
     {"text_column": "tweettext", "label_column": "sentiment"}, "Did you mean 'tweet_text'?"),
    ("a thousand other columns", "a.csv", ",".join(f"c{i}" for i in range(1000)) + "\n", {},
     "'c29' and 970 more"),
    ("the label twice", "a.csv", "text,label,label\na,x,y\n", {},
     "2 columns called 'label'. Rename all but one"),
    ("nothing but a mark", "a.csv", b"\xef\xbb\xbf", {},
     "a.csv is empty or has no header. Its first line must name text and label"),
    ("nothing but blanks", "a.csv", " \n\n  \n", {}, "is empty"),
    ("nothing but delimiters", "a.csv", ",,\n,,\n", {},
     "has no header. Its first line must name text and label"),
    ("a header alone, in Parquet", "a.parquet",
     parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string())), {},
     "no row has both a text and a label"),
    ("no objects", "a.jsonl", "\n\n", {},
     "a.jsonl is empty. Each line must be a JSON object with text and label"),
    ("a column of JSON misspelt", "a.jsonl", lines({"txt": "a", "label": "b"}), {},
     "has no column 'text'; it has 'txt', 'label'. Did you mean 'txt'?"),
    ("a header alone", "a.csv", "text,label\n", {}, "no row has both a text and a label"),
    # values
    ("JSON that is no object", "a.jsonl", '["a"]\n', {}, 'line 1: no JSON object (["a"]'),
    ("JSON cut short", "a.jsonl", '{"text": "a", "label": "b"}\n{oops\n', {},
     "line 2: no JSON object (Expecting property name"),
    ("a list for a label", "a.jsonl", lines({"text": "a", "label": "x"}, {"text": "b", "label": ["x"]}), {},
     "row 2, column 'label': \"['x']\" is a list. Give a text or a number"),
    ("a date that no calendar has", "a.parquet",
     parquet(text=["a"], label=["x"], day=pa.array([10**15], pa.timestamp("s"))), {},
     "column 'day': "),
    ("bytes for a text", "a.parquet", parquet(text=[b"a"], label=["x"]), {},
     "row 1, column 'text': \"b'a'\" is a bytes"),
    ("half a character", "a.jsonl", '{"text": "a", "label": "x"}\n{"text": "\\ud83d", "label": "x"}\n', {},
     "row 2, column 'text': '\\ud83d' holds half a character"),
    ("a number too long", "a.jsonl", '{"text": ' + "9" * 5000 + ', "label": "x"}\n', {},
     "line 1: no JSON object"),
    ("nested too deeply", "a.jsonl", '{"text": ' + "[" * 200_000 + "\n", {}, "line 1: no JSON object"),
]  # fmt: skip


@cases(("name", "content", "arguments", "says"), REFUSED)
def test_a_file_that_cannot_be_read_rightly_is_refused(tmp_path, name, content, arguments, says):
    is_refused(says, read_table, write(tmp_path, name, content), **arguments)


# --- the header again, as joined files have it --------------------------------------------------------------

HALF = "".join(f"part {i},{'ab'[i % 2]}\n" for i in range(20))


@pytest.mark.parametrize(
    "header",
    [
        "text,label",
        '"text","label"',
        "\ufefftext,label",
        '\ufeff"text","label"',
        "Text,LABEL",
        "text, label ",
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_the_header_again_is_left_out_and_counted(tmp_path, header, delimiter):
    content = f"text,label\n{HALF}{header}\n{HALF.replace('part', 'other')}{header}\nlast,a\n"
    table = read_table(write(tmp_path, "a.csv", content.replace(",", delimiter)))
    assert table.dropped == {"blank_text": 0, "blank_label": 0, "repeated_header": 2}
    assert table.source["rows"] == 43
    assert sorted(set(table.rows["label"])) == ["a", "b"]
    assert table.rows["row"].tolist() == [*range(1, 21), *range(22, 42), 43]
    assert [str(finding) for finding in table.findings if "header" in finding.id] == [
        "warning: repeated-header: a.csv: the header stands again in 2 lines (22, 43); it is no row and left "
        "out. "
        "Nothing to do, if the files that were joined have the same columns."
    ]


def test_the_header_again_in_other_files(tmp_path):
    table = read_table(
        write(tmp_path, "a.csv", ',text,label\n0,"one\ntwo",a\n,text,label\n0,three,b\n1,,a\n')
    )
    assert pairs(table) == [("one\ntwo", "a"), ("three", "b")]
    assert table.rows["row"].tolist() == [1, 3]
    assert table.dropped == {"blank_text": 1, "blank_label": 0, "repeated_header": 1}
    for says in ("in line 4;", "row 4 blank in column 'text'"):
        assert any(says in message for message in remarks(table))


HEADER_TWICE = [
    ("JSON lines", "a.jsonl",
     lines(*({"text": t, "label": k} for t, k in [("a", "x"), ("text", "label"), ("b", "y")])), {},
     [("a", "x"), ("b", "y")], "the header stands again in row 2"),
    ("Parquet", "a.parquet", parquet(text=["a", "text", "b"], label=["x", "label", "y"]), {},
     [("a", "x"), ("b", "y")],
     "the header stands again in row 2"),
    ("0/1 columns", "a.csv", "text,joy,anger\na,1,0\ntext,joy,anger\nb,0,1\n", MANY,
     [("a", "joy"), ("b", "anger")], "again in line 3"),
    ("numbers", "a.csv", "text,score\na,1\ntext,score\nb,0.5\n", NUMBERS, [("a", "1"), ("b", "0.5")],
     "again in line 3"),
]  # fmt: skip


@cases(("name", "content", "arguments", "rows", "says"), HEADER_TWICE)
def test_the_header_again_in_every_format(tmp_path, name, content, arguments, rows, says):
    comes_in_whole(tmp_path, name, content, arguments, rows, says)


def test_the_header_again_in_another_order_is_refused(tmp_path):
    says = (
        "a.csv, line 22: the header again, with its columns in another order. Bring both parts into one order"
    )
    path = write(tmp_path, "a.csv", f"text,label\n{HALF}label,text\na,part\n")
    is_refused(says, read_table, path)


def test_the_header_again_in_a_table_without_a_label_column(tmp_path):
    frame, source, findings = read_frame(
        write(tmp_path, "a.csv", "id,text\n1,fine\nid,text\n2,bad\nx,text\n"), ["text"]
    )
    assert frame["text"].tolist() == ["fine", "bad", "text"]
    assert source == {"file": "a.csv", "encoding": "utf-8", "delimiter": ",", "rows": 4}
    assert ["line 3" in finding.message for finding in findings] == [True]


def test_rows_that_only_look_like_the_header_stay(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "text,label\ntext,a\nlabel,b\nThe text,a\nx,label\n"))
    assert pairs(table) == [("text", "a"), ("label", "b"), ("The text", "a"), ("x", "label")]
    assert read_frame(write(tmp_path, "a.csv", "text\nfine\ntext\n"), ["text"])[0]["text"].tolist() == [
        "fine",
        "text",
    ]


# --- carriage returns, blanks before quotes, other spellings ------------------------------------------------

LETTERS = "text,label\n" + "".join(f"letter {i} came,{('pos', 'neg')[i % 2]}\n" for i in range(12))
LETTER_ROWS = [(f"letter {i} came", ("pos", "neg")[i % 2]) for i in range(12)]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (LETTERS.replace("\n", "\r\r\n"), LETTER_ROWS),
        (LETTERS.replace("\n", "\r\r\r\n"), LETTER_ROWS),
        ("\r\r\n" + LETTERS.replace("\n", "\r\r\n"), LETTER_ROWS),
        (LETTERS.replace("\n", "\r\r\n").replace("letter 3 came", '"two\r\nlines\ror three"'),
         [*LETTER_ROWS[:3], ("two\r\nlines\ror three", "neg"), *LETTER_ROWS[4:]]),
        (LETTERS.replace("\n", "\r"), LETTER_ROWS),
        (LETTERS.replace("\n", "\r")[:-1] + "\n", LETTER_ROWS),
        (LETTERS.replace("\n", "\r") + "\n", LETTER_ROWS),
        (LETTERS.replace("\n", "\r").replace("neg\r", "neg\r\n"), LETTER_ROWS),
        (LETTERS.replace("\n", "\r").replace("letter 3 came", '"two\nlines"'),
         [*LETTER_ROWS[:3], ("two\nlines", "neg"), *LETTER_ROWS[4:]]),
        (LETTERS.replace("\n", "\r").replace("letter 3 came", "two\nlines"),
         [*LETTER_ROWS[:3], ("two\nlines", "neg"), *LETTER_ROWS[4:]]),
        (LETTERS.replace("\n", "\r").replace("letter", '"many\n\n\nlines"')
         .replace('"many\n\n\nlines"', "letter", 11),
         [*LETTER_ROWS[:11], ("many\n\n\nlines 11 came", "neg")]),
        ("sep=;\r" + LETTERS.replace("\n", "\r").replace(",", ";"), LETTER_ROWS),
        # as before: both at the ends, and carriage returns in cells
        (LETTERS.replace("\n", "\r\n"), LETTER_ROWS),
        (LETTERS.replace("letter 3 came", '"a\rb\rc\r' + "d\r" * 40 + 'e"'),
         [*LETTER_ROWS[:3], ("a\rb\rc\r" + "d\r" * 40 + "e", "neg"), *LETTER_ROWS[4:]]),
        (LETTERS.replace("letter 3 came", "a\rb"), [*LETTER_ROWS[:3], ("a\rb", "neg"), *LETTER_ROWS[4:]]),
        (LETTERS.replace("letter 3 came", '"a\r\r\nb"'),
         [*LETTER_ROWS[:3], ("a\r\r\nb", "neg"), *LETTER_ROWS[4:]]),
        (LETTERS.replace("text,label\n", 'text,label,"a\rb"\n').replace("pos\n", "pos,1\n")
         .replace("neg\n", "neg,1\n"),
         LETTER_ROWS),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_carriage_returns_end_lines_or_stand_in_cells(tmp_path, content, rows, encoding):
    table = read_table(
        write(tmp_path, "a.csv", content.replace('lines" 11 came', 'lines 11 came"').encode(encoding))
    )
    assert pairs(table) == rows
    assert not remarks(table)


@pytest.mark.parametrize("end", ["\r", "\r\r\n", "\r\n", "\n", "\n\n"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_json_lines_end_in_any_way(tmp_path, end, last):
    content = "".join(json.dumps({"text": text, "label": label}) + end for text, label in LETTER_ROWS) + last
    assert pairs(read_table(write(tmp_path, "a.jsonl", content))) == LETTER_ROWS


MIXED_ENDS = "Carriage returns and line feeds are mixed here: save the file with line ends of one kind"
RETURNS = [
    ("in the header", "a.csv", "text,lab\rel\n" + "fine day,good\n" * 9, rf"'lab\rel'. {MIXED_ENDS}"),
    ("between rows", "a.csv", "text,label\na,b\nc,d\re,f\n",
     f"line 3: 3 values, but the header has 2 columns. {MIXED_ENDS}"),
    ("in a text with a comma", "a.csv", "text,label\na,b\nc\rd\re, f,g\n",
     "line 3: 3 values, but the header has 2 columns. A text that holds ','"),
    ("between JSON lines", "a.jsonl",
     lines({"text": "a"}) + lines({"text": "b"}, {"text": "c"}).replace("\n", "\r") + "\n", MIXED_ENDS),
    ("all over", "a.csv", ("txt,label\n" + "fine day,good\n" * 500).replace("\n", "\r") + "\n",
     "has no column 'text'; it has 'txt', 'label'. Did you mean 'txt'?"),
]  # fmt: skip


@cases(("name", "content", "says"), RETURNS)
def test_carriage_returns_are_named_and_no_texts_are_shown(tmp_path, name, content, says):
    is_refused(says, read_table, write(tmp_path, name, content))


@pytest.mark.parametrize("header", ["text,label", '"text", "label"', "text, label", ' "text", "label"'])
def test_a_blank_before_every_quote_is_no_part_of_the_value(tmp_path, header):
    content = header + "\n" + "".join(f'"fine, day {i}", "{"good" if i % 2 else "bad"}"\n' for i in range(10))
    assert pairs(read_table(write(tmp_path, "a.csv", content))) == [
        (f"fine, day {i}", "good" if i % 2 else "bad") for i in range(10)
    ]
    content = header.replace(",", ";") + "\n" + 'fine; "good"\nawful; "bad"\n'
    assert pairs(read_table(write(tmp_path, "a.csv", content))) == [("fine", "good"), ("awful", "bad")]


def test_a_blank_before_a_quote_here_and_there_is_said(tmp_path):
    content = "text,label\n" + "fine day,good\nawful day,bad\n" * 10
    table = read_table(write(tmp_path, "a.csv", content + 'odd, "bad"\n'))
    assert table.rows["label"].tolist()[-1] == ' "bad"'
    assert any(
        "column 'label': the quotes of ' \"bad\"' are part of the value" in message
        for message in remarks(table)
    )
    says = "line 22: 3 values, but the header has 2 columns. Quotes count only right behind the delimiter"
    is_refused(says, read_table, write(tmp_path, "a.csv", "label,text\n" + "a,b\n" * 20 + 'a, "fine, day"\n'))
    content = "label\ttext\n" + "a\tfine day\nb\tno\n" * 9 + 'a\t "Odd" she said\n'
    table = read_table(write(tmp_path, "a.tsv", content))
    assert table.rows["text"].tolist()[-1] == ' "Odd" she said'
    assert remarks(table) == []


@pytest.mark.parametrize(
    ("delimiter", "name"), [(r"\t", "a.txt"), ("tab", "a.txt"), ("\t", "a.csv"), (r"\t", "a.tsv")]
)
def test_a_tab_can_be_spelt_out(tmp_path, delimiter, name):
    table = read_table(
        write(tmp_path, name, "text,label\tlabel\nx,y\tz\n"), "text,label", delimiter=delimiter
    )
    assert pairs(table) == [("x,y", "z")]
    assert table.source["delimiter"] == "\t"


NFC, NFD = "cat\u00e9gorie", "cate\u0301gorie"


@pytest.mark.parametrize(("written", "asked"), [(NFD, NFC), (NFC, NFD)])
def test_a_header_in_another_unicode_form_is_taken(tmp_path, written, asked):
    rows = [("un avis", "bon"), ("un autre", "mauvais")]
    wanted = {"text_column": asked, "label_column": "b" + asked}
    columns = {written: [text for text, _ in rows], "b" + written: [label for _, label in rows]}
    content = f"n,{written},b{written}\n" + "".join(f"1,{text},{label}\n" for text, label in rows)
    for name, raw in (
        ("a.csv", content),
        ("b.csv", content.replace(",", ";").encode("utf-16")),
        ("a.jsonl", lines(*(dict(zip(columns, row, strict=True)) for row in rows))),
        (
            "b.jsonl",
            lines({asked: "un avis", "b" + written: "bon"}, {written: "un autre", "b" + asked: "mauvais"}),
        ),
        ("a.parquet", parquet(**columns)),
    ):
        table = read_table(write(tmp_path, name, raw), **wanted)
        assert pairs(table) == rows
        assert [column for column in table.rows if column not in ("row", "text", "label", "n")] == []
    table = read_table(
        write(tmp_path, "a.csv", f"text,{written},z\na,1,0\nb,0,1\n"),
        label_column=[asked, "z"],
        task="multi_label",
    )
    assert table.rows["label"].tolist() == [asked, "z"]
    both = read_table(write(tmp_path, "a.csv", f"text,{NFC},{NFD}\na,x,1\nb,y,2\n"), label_column=asked)
    assert both.rows["label"].tolist() == (["x", "y"] if asked == NFC else ["1", "2"])
    with pytest.raises(TableError, match="2 columns called"):
        read_table(write(tmp_path, "a.csv", f"text,{written},{written}\na,x,1\n"), label_column=asked)


# --- classes that `datasets` named --------------------------------------------------------------------------


def test_the_classes_that_datasets_named_have_their_names(tmp_path):
    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["world", "sports"]),
        other=datasets.ClassLabel(names=["a", "b"]),
    )
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(
        {"text": ["x", "y", "z"], "label": [1, 0, -1], "other": [0, 1, 1]}, features=features
    ).to_parquet(path)
    table = read_table(path)
    assert pairs(table) == [("x", "sports"), ("y", "world")]
    assert table.dropped == {"blank_text": 0, "blank_label": 1}
    assert table.rows["other"].tolist() == [0, 1]
    # where the numbers are what counts, they stay
    datasets.Dataset.from_dict(
        {"text": ["x", "y"], "label": [1, 0], "other": [0, 1]}, features=features
    ).to_parquet(path)
    assert read_table(path, task="regression").rows["value"].tolist() == [1.0, 0.0]
    assert read_table(path, label_column=["label", "other"], task="multi_label").rows["label"].tolist() == [
        "label",
        "other",
    ]


@pytest.mark.parametrize(
    "metadata",
    [{}, {"huggingface": "{"}, {"huggingface": "[]"},
     {"huggingface": '{"info": {"features": {"label": {"_type": "Value"}}}}'}],
)  # fmt: skip
def test_numbers_without_names_stay_numbers(tmp_path, metadata):
    path = write(tmp_path, "a.parquet", parquet(metadata, text=["a", "b"], label=[1, 0]))
    assert pairs(read_table(path)) == [("a", "1"), ("b", "0")]


def named(feature):
    return {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint8(), pa.uint64()], ids=str)
def test_a_number_that_no_class_has_is_refused(tmp_path, kind):
    metadata = named({"names": ["x", "y"], "_type": "ClassLabel"})
    paths = []
    for last in (0, 2):
        content = parquet(metadata, text=["a", "b"], label=pa.array([1, last], kind))
        paths.append(write(tmp_path, f"{last}.parquet", content))
    assert pairs(read_table(paths[0])) == [("a", "y"), ("b", "x")]
    is_refused(
        "row 2, column 'label': 2 is no class, they are 0 to 1 ('y'). Correct it", read_table, paths[1]
    )


NAMES = {"names": ["food", "room"], "_type": "ClassLabel"}


@pytest.mark.parametrize(
    "feature", [{"feature": NAMES, "_type": "List"}, {"feature": NAMES, "_type": "Sequence"}, [NAMES]]
)
def test_lists_of_classes_that_datasets_named_have_their_names(tmp_path, feature):
    def read(labels):
        texts = [f"text {i}" for i in range(len(labels))]
        return read_table(
            write(tmp_path, "a.parquet", parquet(named(feature), text=texts, label=labels)), **MULTI
        )

    assert read([[1, 0], [], None, [1]]).rows["label"].tolist() == ["food|room", "", "room"]
    assert read([0, 1, 1]).rows["label"].tolist() == ["food", "room", "room"]
    is_refused("row 2, column 'label': 2 is no class, they are 0 to 1 ('room')", read, [[1], [0, 2]])


# --- any table comes back whole -----------------------------------------------------------------------------

anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
tricky = st.text(st.sampled_from(",;|\t\"\n\r '\\é😀\u2028\x85NA=s"), max_size=8)
values = st.one_of(anything, tricky, st.sampled_from(sorted(NA_WORDS) + ["007", "1.0", "sep=;"]))
tables = st.lists(st.tuples(values, values), min_size=1, max_size=12)
check = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def comes_back(path, rows, **arguments):
    kept = [
        (k, text, label) for k, (text, label) in enumerate(rows, start=1) if text.strip() and label.strip()
    ]
    if not kept:
        with pytest.raises(TableError, match="no row has both"):
            read_table(path, max_dropped=1, **arguments)
        return
    table = read_table(path, max_dropped=1, **arguments)
    assert list(table.rows[["row", "text", "label"]].itertuples(index=False, name=None)) == kept
    assert table.dropped["blank_text"] == sum(not text.strip() for text, _ in rows)
    assert sum(table.dropped.values()) + len(kept) == table.source["rows"] == len(rows)


@check
@given(
    tables,
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
@example([("a\rb", "x")], ",", "utf-8", "\n")
def test_what_pandas_writes_comes_back(tmp_path, rows, delimiter, encoding, end):
    frame = pd.DataFrame(rows, columns=["text", "label"]).assign(
        more="."
    )  # a return before the end of a line would be part of that end
    frame.to_csv(tmp_path / "a.csv", index=False, sep=delimiter, encoding=encoding, lineterminator=end)
    comes_back(tmp_path / "a.csv", rows)


@check
@given(tables, st.sampled_from(",;\t|"), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.booleans())
def test_what_csv_writes_comes_back(tmp_path, rows, delimiter, quoting, packed):
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=delimiter, quoting=quoting)
    writer.writerow(["text", "label", "more"])
    writer.writerows((*row, "") for row in rows)
    raw = sink.getvalue().encode()
    comes_back(
        write(tmp_path, "a.csv.gz" if packed else "a.csv", gzip.compress(raw) if packed else raw), rows
    )


@check
@given(tables, st.booleans())
def test_what_json_writes_comes_back(tmp_path, rows, escaped):
    content = "".join(
        json.dumps({"text": text, "label": label}, ensure_ascii=escaped) + "\n" for text, label in rows
    )
    comes_back(write(tmp_path, "a.jsonl", content), rows)


@check
@given(tables)
def test_what_parquet_holds_comes_back(tmp_path, rows):
    pd.DataFrame(rows, columns=["text", "label"]).to_parquet(tmp_path / "a.parquet")
    comes_back(tmp_path / "a.parquet", rows)


@check
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    st.sampled_from(["csv", "jsonl", "parquet"]),
)
def test_numbers_come_back_exactly(tmp_path, numbers, suffix):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(len(numbers))], "score": numbers})
    path = tmp_path / f"a.{suffix}"
    if suffix == "jsonl":  # pandas would round
        path.write_text(lines(*frame.to_dict("records")))
    elif suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    rows = read_table(path, **NUMBERS).rows
    assert all(math.isclose(a, b, rel_tol=0, abs_tol=0) for a, b in zip(rows["value"], numbers, strict=True))


damaged = st.one_of(
    st.binary(max_size=60),
    st.tuples(
        st.sampled_from([raw for _, name, raw, _, _, _ in ACCEPTED if len(raw) < 2000]).map(
            lambda raw: raw if isinstance(raw, bytes) else raw.encode()
        ),
        st.integers(0, 2000),
        st.binary(max_size=4),
        st.integers(0, 4),
    ).map(
        lambda cut: (
            cut[0][: cut[1] % (len(cut[0]) + 1)] + cut[2] + cut[0][cut[1] % (len(cut[0]) + 1) + cut[3] :]
        )
    ),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damaged,
    st.sampled_from(["csv", "tsv", "jsonl", "parquet", "csv.gz", "parquet.gz"]),
    st.sampled_from([{}, MULTI, MANY, NUMBERS]),
)
def test_whatever_the_bytes_it_is_a_table_or_a_table_error(tmp_path, raw, suffix, arguments):
    path = write(tmp_path, f"a.{suffix}", raw)
    try:
        table = read_table(path, max_dropped=1, **arguments)
        split_table(table, task=arguments.get("task", "single_label"))
    except TableError as error:
        assert len(str(error)) > 20


# --- size ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource.getrusage")
def test_memory_and_time_grow_with_the_rows_and_no_faster():
    """100,000 rows: what a million may take (15 CPU seconds, 1 GiB), scaled, and half again the seconds."""
    small, large = reader([10_000, 100_000])
    assert large["cpu_seconds"] < 15 / 10 * 1.5
    assert large["cpu_seconds"] / small["cpu_seconds"] < 10 * 2
    growth = (large["peak_mib"] - small["peak_mib"]) / 90_000  # MiB a row, without what the imports take
    assert small["peak_mib"] + growth * 990_000 < 1024
    assert large["rows"] == 100_000
