"""Tables as people have them: awkward ones come in whole, impossible ones are refused with the remedy."""

import csv
import gzip
import io
import json
import math
import sys
import zipfile
from collections import Counter
from functools import reduce

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from benchmarks import reader
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from utils.data import Table, TableError, read_table, split_table
from utils.labels import SEPARATOR, label_names, normalise, variants
from utils.reading import encodings
from utils.reading.files import read_frame
from utils.reading.table import NA_WORDS

CSV = "text,label\nfine day,good\nawful day,bad\n"
TWO = [("fine day", "good"), ("awful day", "bad")]
FRENCH = "text,label\nCafé – “très bien”,bon\nÇa m’a déçu… 5 €,mauvais\n"
FRENCH_ROWS = [("Café – “très bien”", "bon"), ("Ça m’a déçu… 5 €", "mauvais")]
RUSSIAN = "text,label\n" + "Это очень хороший телефон,да\nПлохо работает батарея,нет\n"
RUSSIAN_ROWS = [("Это очень хороший телефон", "да"), ("Плохо работает батарея", "нет")]
LONG = "word " * 300 + ",x\n"  # a thousand of these are more than is looked at in one go
FLAGS = "text,joy,anger\na,1,0\nb,0,1\nc,1,1\n"
MULTI = {"task": "multi_label"}
MANY = {"task": "multi_label", "label_column": ["joy", "anger"]}
NUMBERS = {"task": "regression", "label_column": "score"}


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def parquet(**columns):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


def zipped(content):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.csv", content)
    return sink.getvalue()


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs(table):
    return list(zip(table.rows["text"], table.rows["label"], strict=True))


def as_table(labels, value=None):
    rows = pd.DataFrame(
        {
            "row": range(1, len(labels) + 1),
            "text": [f"text {i}" for i in range(len(labels))],
            "label": pd.Series(labels, dtype=str),
        }
    )
    return Table(rows if value is None else rows.assign(value=value), [], {})


# --- accepted: name of the case, file, bytes, arguments, rows, and what the source or a finding says --------

ACCEPTED = [
    # encodings
    ("utf-8 mark", "a.csv", CSV.encode("utf-8-sig"), {}, TWO, {"encoding": "utf-8-sig"}),
    ("utf-8 mark though utf-8 is asked for", "a.csv", CSV.encode("utf-8-sig"), {"encoding": "utf-8"}, TWO,
     {"encoding": "utf-8"}),
    ("utf-16 little endian", "a.csv", b"\xff\xfe" + FRENCH.encode("utf-16-le"), {}, FRENCH_ROWS,
     {"encoding": "utf-16-le"}),
    ("utf-16 big endian", "a.csv", b"\xfe\xff" + FRENCH.encode("utf-16-be"), {}, FRENCH_ROWS,
     {"encoding": "utf-16-be"}),
    ("utf-16 little endian without a mark", "a.csv", FRENCH.encode("utf-16-le"), {}, FRENCH_ROWS,
     "read as utf-16-le: 'text,label'"),
    ("utf-16 big endian without a mark", "a.csv", RUSSIAN.encode("utf-16-be"), {}, RUSSIAN_ROWS,
     "read as utf-16-be"),
    ("utf-16 asked for", "a.csv", CSV.encode("utf-16"), {"encoding": "utf-16"}, TWO, {"encoding": "utf-16"}),
    ("utf-32", "a.csv", CSV.encode("utf-32"), {}, TWO, {"encoding": "utf-32-le"}),
    ("cp1252, one letter in the whole file", "a.csv", "text,label\nCafé,good\nno,bad\n".encode("cp1252"), {},
     [("Café", "good"), ("no", "bad")], "as cp1252: 'Caf"),
    ("cp1252", "a.csv", FRENCH.encode("cp1252"), {}, FRENCH_ROWS,
     "not UTF-8 (line 2); it was read as cp1252"),
    ("cp1252 with semicolons", "a.csv", FRENCH.replace(",", ";").encode("cp1252"), {}, FRENCH_ROWS,
     "as cp1252: 'Café – “très bien”;bon'"),
    ("cp1252 in JSON lines", "a.jsonl", '{"text": "Gerät – übel", "label": "x"}\n'.encode("cp1252"), {},
     [("Gerät – übel", "x")], "as cp1252"),
    ("cp1252 in the label alone", "a.csv", "text,label\na,négatif\nb,positif\n".encode("cp1252"), {},
     [("a", "négatif"), ("b", "positif")], "as cp1252"),
    ("cp1252, first seen late", "a.csv", ("text,label\n" + LONG * 1000 + "fin – café,y\n").encode("cp1252"),
     {}, [(LONG[:-3], "x")] * 1000 + [("fin – café", "y")], "line 1002"),
    ("cp1251", "a.csv", RUSSIAN.encode("cp1251"), {}, RUSSIAN_ROWS, "as cp1251"),
    ("koi8-r named", "a.csv", RUSSIAN.encode("koi8_r"), {"encoding": "koi8_r"}, RUSSIAN_ROWS,
     {"encoding": "koi8_r"}),
    ("latin-1 named", "a.csv", "text,label\né,x\n".encode("latin-1"), {"encoding": "latin-1"}, [("é", "x")],
     {"encoding": "latin-1"}),
    ("a chunk's end inside a letter", "a.csv", "text,label\n" + "é" * (1 << 20) + ",x\n", {},
     [("é" * (1 << 20), "x")], {"encoding": "utf-8"}),
    # delimiters and lines
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
    ("a thousand columns", "a.csv",
     "text,label," + ",".join(f"c{i}" for i in range(1000)) + "\na,x" + ",1" * 1000 + "\n", {}, [("a", "x")],
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
    # labels
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
     TWO[:0] + [("a", "x"), ("b", "y")], {}),
    # JSON lines
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
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "arguments", "rows", "says"),
    [case[1:] for case in ACCEPTED],
    ids=[case[0] for case in ACCEPTED],
)
def test_awkward_tables_come_in_whole(tmp_path, name, content, arguments, rows, says):
    table = read_table(write(tmp_path, name, content), **arguments)
    assert pairs(table) == rows
    assert len(rows) + sum(table.dropped.values()) == table.source["rows"]
    assert table.source["file"] == name
    if isinstance(says, str):
        assert any(says in str(finding) for finding in table.findings), [
            str(finding) for finding in table.findings
        ]
    else:
        assert {key: table.source[key] for key in says} == says
        assert not [finding for finding in table.findings if "fewer than 5 rows" not in finding.message]


WRONG_BYTE = bytearray(parquet(text=["a", "b"], label=["x", "y"]))
WRONG_BYTE[6] ^= 0xFF

# --- refused: name of the case, file, bytes, arguments, and what the message says ---------------------------

REFUSED = [
    # what is no table
    ("Excel by another name", "a.csv", zipped(CSV), {},
     "an Excel file, whatever its name says. Unpack it, or export the sheet as CSV"),
    ("old Excel by another name", "a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", {}, "Export the sheet as CSV"),
    ("OpenDocument", "a.ods", b"PK", {}, "is a spreadsheet. Export the sheet as CSV UTF-8"),
    ("zip", "a.csv.zip", zipped(CSV), {}, "is a zip archive. Unpack it"),
    ("feather", "a.feather", b"ARROW1", {}, "pandas.read_feather('x.feather').to_parquet('x.parquet')"),
    ("one JSON document", "a.json", "[]", {},
     "pandas.read_json('x.json').to_json('x.jsonl', orient='records', lines=True)"),
    ("one JSON document in a .jsonl", "a.jsonl", '[\n{"text": "a"}\n]', {}, "line 1: not JSON"),
    ("bzip2", "a.csv.bz2", b"BZh", {}, "compressed in another way than gzip. Unpack it"),
    ("gzip without the suffix", "a.csv", gzip.compress(CSV.encode()), {},
     "is compressed with gzip. Add .gz to its name"),
    ("Parquet without the suffix", "a.csv", parquet(text=["a"], label=["b"]), {},
     "is a Parquet file. Call it .parquet"),
    ("no suffix", "table", CSV, {}, "a table ends in .csv, .jsonl, .ndjson, .parquet, .tsv, .txt"),
    # damaged
    ("half a gzip file", "a.csv.gz", gzip.compress((CSV * 99).encode())[:40], {}, "not a whole gzip file"),
    ("a gzip file with a wrong byte", "a.csv.gz",
     gzip.compress(CSV.encode())[:12] + b"\xff\xff\xff" + gzip.compress(CSV.encode())[15:], {},
     "not a whole gzip file"),
    ("half a Parquet file", "a.parquet", parquet(text=["a"] * 99, label=["b"] * 99)[:90], {},
     "not a whole Parquet file"),
    ("Parquet with a wrong byte", "a.parquet", WRONG_BYTE, {}, "not a whole Parquet file"),
    ("Parquet with bytes that are no text", "a.parquet",
     parquet(text=pa.array([b"\xff"]).view(pa.string()), label=["x"]), {}, "not a whole Parquet file"),
    ("a NUL", "a.csv", CSV + "nul\0,x\n", {}, "line 4: a NUL character"),
    ("a file of zeros", "a.csv", bytes(1000), {}, "line 1: a NUL character"),
    # encodings
    ("one line of another encoding", "a.csv", b"text,label\n" + "é ü ñ,x\n".encode() * 9 + b"\xe9,x\n", {},
     "line 11: bytes that are not UTF-8, though the rest of the file is"),
    ("no encoding at all", "a.csv", b"text,label\n\x81\x8d\x8f\xff\xfe,x\n", {},
     "line 2: neither utf-8 nor cp1252. Save the file as UTF-8"),
    ("half a UTF-16 file", "a.csv", CSV.encode("utf-16")[:-1], {},
     "bytes that are not utf-16-le, though the file begins with its mark"),
    ("the wrong encoding asked for", "a.csv", FRENCH.encode("cp1252"), {"encoding": "utf-8"},
     "line 2: bytes that are not utf-8. Give the encoding it was saved in"),
    ("an encoding that is none", "a.csv", CSV, {"encoding": "utf-99"},
     "encoding='utf-99' is none that Python knows"),
    ("an encoding that is not for text", "a.csv", CSV, {"encoding": "hex"},
     "encoding='hex' is none that Python knows"),
    ("an encoding for Parquet", "a.parquet", parquet(text=["a"], label=["b"]), {"encoding": "utf-8"},
     "has no encoding"),
    # delimiters, quotes, fields
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
     "a double quote inside it be written twice"),
    ("a row too long after a text of three lines", "a.csv", 'text,label\n"a\nb\nc",x\nd,y,z\n', {},
     "line 5: 3 values, but the header has 2 columns"),
    ("a comma not quoted", "a.csv", "text,label\nfine, really,x\n", {},
     "line 2: 3 values, but the header has 2 columns. A text that holds ',' must stand in double quotes"),
    ("a row too short", "a.csv", "text,label,more\na,x\n", {},
     "line 2: 2 values, but the header has 3 columns"),
    # columns
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
     "a.csv is empty. Its first line must name the columns text and label"),
    ("nothing but blanks", "a.csv", " \n\n  \n", {}, "is empty"),
    ("nothing but delimiters", "a.csv", ",,\n,,\n", {},
     "has no header. Its first line must name the columns text and label"),
    ("a header alone, in Parquet", "a.parquet",
     parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string())), {},
     "no row has both a text and a label"),
    ("no objects", "a.jsonl", "\n\n", {},
     "a.jsonl is empty. Each line must be a JSON object with text and label"),
    ("a column of JSON misspelt", "a.jsonl", lines({"txt": "a", "label": "b"}), {},
     "has no column 'text'; it has 'txt', 'label'. Did you mean 'txt'?"),
    # values
    ("a list for a label", "a.jsonl", lines({"text": "a", "label": "x"}, {"text": "b", "label": ["x"]}), {},
     "row 2, column 'label': \"['x']\" is a list. Give a text or a number"),
    ("a date that no calendar has", "a.parquet",
     parquet(text=["a"], label=["x"], day=pa.array([10**15], pa.timestamp("s"))), {},
     "column 'day': a value cannot be read"),
    ("bytes for a text", "a.parquet", parquet(text=[b"a"], label=["x"]), {},
     "row 1, column 'text': \"b'a'\" is a bytes"),
    ("half a character", "a.jsonl", '{"text": "a", "label": "x"}\n{"text": "\\ud83d", "label": "x"}\n', {},
     "row 2, column 'text': '\\ud83d' holds half a character"),
    ("a number too long", "a.jsonl", '{"text": ' + "9" * 5000 + ', "label": "x"}\n', {}, "line 1: not JSON"),
    ("nested too deeply", "a.jsonl", '{"text": ' + "[" * 200_000 + "\n", {}, "line 1: not JSON"),
    # rows
    ("too many blank", "a.csv", "text,label\na,x\n,y\n,\nb,\n", {},
     "a.csv: 3 of 4 rows would be left out (blank_text 2, blank_label 1), more than max_dropped=0.5 allows"),
    ("one blank, none allowed", "a.csv", "text,label\na,x\n,y\n", {"max_dropped": 0},
     "1 of 2 rows would be left out"),
    ("all blank", "a.csv", "text,label\n,\n,\n", {},
     "no row has both a text and a label. Fill the columns 'text' and 'label'"),
    # arguments
    ("a task that is none", "a.csv", CSV, {"task": "classification"},
     "task='classification' is none of single_label, multi_label, regression"),
    ("a share that is none", "a.csv", CSV, {"max_dropped": 50},
     "max_dropped=50 must be a share of the rows, from 0 to 1"),
    ("columns for one label", "a.csv", FLAGS, {"label_column": ["joy", "anger"]},
     "names several columns, which only task='multi_label' has"),
    ("a column that is no name", "a.csv", CSV, {"label_column": 1},
     "label_column=1 must be names of columns"),
    ("no label columns", "a.csv", FLAGS, {"task": "multi_label", "label_column": []},
     "label_column=[] must be names of columns"),
    ("the text among the labels", "a.csv", FLAGS, {"task": "multi_label", "label_column": ["joy", "text"]},
     "text_column and label_column are both 'text'"),
    ("a label column twice", "a.csv", FLAGS, {"task": "multi_label", "label_column": ["joy", "joy"]},
     "'joy' is named twice"),
    ("a bar in a label's name", "a.csv", "text,a|b,c\nx,1,0\n",
     {"task": "multi_label", "label_column": ["a|b", "c"]},
     "'a|b' is blank or holds '|', which joins labels. Rename the column"),
    # several labels, numbers
    ("a flag that is none", "a.csv", FLAGS + "d,1,2\n", MANY,
     "row 4, column 'anger': '2' is neither 0 nor 1"),
    ("a flag left out", "a.csv", FLAGS + "d,1,\n", MANY, "row 4, column 'anger': '' is neither 0 nor 1"),
    ("a label column missing", "a.csv", FLAGS, {"task": "multi_label", "label_column": ["joy", "angr"]},
     "has no column 'angr'; it has 'text', 'joy', 'anger'. Did you mean 'anger'?"),
    ("a decimal comma", "a.csv", "text;score\na;1\nb;3,5\n", NUMBERS,
     "row 2, column 'score': '3,5' is no finite number. Write decimals with a point: 3.5"),
    ("words for numbers", "a.csv", "text,score\na,1\nb,NA\nc,two\n", NUMBERS,
     "row 2, column 'score': 'NA' is no finite number (2 rows (2, 3) are not). Correct it, or leave the cell "
     "empty"),
    ("infinity", "a.csv", "text,score\na,1\nb,inf\n", NUMBERS, "'inf' is no finite number"),
    ("a number too large", "a.csv", "text,score\na,1e999\n", NUMBERS, "'1e999' is no finite number"),
    ("Python's thousands", "a.csv", "text,score\na,1_000\n", NUMBERS, "'1_000' is no finite number"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "arguments", "says"),
    [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)
def test_what_cannot_be_used_is_refused_with_place_and_remedy(tmp_path, name, content, arguments, says):
    with pytest.raises(TableError) as error:
        read_table(write(tmp_path, name, content), **arguments)
    assert says in str(error.value)


def test_a_folder_and_paths_that_are_none(tmp_path):
    with pytest.raises(TableError, match="is a folder. Give the file in it"):
        read_table(tmp_path)
    for path in ("a\0b.csv", "x" * 5000 + ".csv"):
        with pytest.raises(TableError, match="The bundled sets are called tweets"):
            read_table(path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def deny(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(encodings, "open", deny, raising=False)
    with pytest.raises(TableError, match="a.csv cannot be read .*Permission denied.*Look at its permissions"):
        read_table(write(tmp_path, "a.csv", CSV))


# --- stray quotes -------------------------------------------------------------------------------------------


def shelves(rows=60, delimiter=",", order="text,label", number=0.5):
    """Return lines of a table with the columns in `order`.

    `id` counts, `score` is a number, `note` a text of its own in every row.
    """
    lines = [order.replace(",", delimiter)]
    for i in range(rows):
        cells = {
            "text": f"shelf {'abcdefghij'[i % 10] * (i % 7 + 1)} wobbles, or so"
            if delimiter != ","
            else f"shelf {i} wobbles",
            "label": "pos" if i % 2 else "neg",
        }
        cells |= {
            "id": str(i),
            "score": f"{i * number:.2f}",
            "note": f"note {chr(97 + i % 26)}{chr(97 + i // 26)} of its own",
            "day": f"2024-03-{i % 28 + 1:02}",
        }
        lines.append(delimiter.join(cells[name] for name in order.split(",")))
    return lines


def swallow(lines, first, last, delimiter=",", place=0):
    """Put a quote before the cell at `place` of line `first` (1: the header), one behind that of `last`."""
    opening, closing = lines[first - 1].split(delimiter), lines[last - 1].split(delimiter)
    opening[place], closing[place] = '"' + opening[place], closing[place] + ' 15"'
    lines[first - 1], lines[last - 1] = delimiter.join(opening), delimiter.join(closing)
    return "\n".join(lines) + "\n"


SWALLOWED = [
    ("200 lines", "a.csv", swallow(shelves(400), 52, 252), {}, 52, 252),
    ("all lines but one", "a.csv", swallow(shelves(300), 2, 300), {}, 2, 300),
    ("three lines", "a.csv", swallow(shelves(), 20, 22), {}, 20, 22),
    ("the label first", "a.csv", swallow(shelves(order="label,text"), 9, 30, place=1), {}, 9, 30),
    ("tabs", "a.tsv", swallow(shelves(delimiter="\t"), 12, 16, "\t"), {}, 12, 16),
    ("tabs, the label first", "a.tsv", swallow(shelves(delimiter="\t", order="label,text"), 12, 40, "\t", 1),
     {}, 12, 40),
    ("semicolons", "a.csv", swallow(shelves(delimiter=";", order="id,text,label"), 5, 9, ";", 1), {}, 5, 9),
    ("four columns, one of them free text", "a.csv",
     swallow(shelves(order="id,text,note,label"), 7, 11, place=1), {}, 7, 11),
    ("in a column nobody asked for", "a.csv", swallow(shelves(order="text,note,label"), 7, 11, place=1), {},
     7, 11),
    ("in a label column", "a.csv", swallow(shelves(order="label,text"), 7, 11, place=0), {}, 7, 11),
    ("numbers for labels", "a.csv", swallow(shelves(order="text,score"), 15, 35), NUMBERS, 15, 35),
    ("columns of 0 and 1", "a.csv",
     swallow(["text,joy,anger",
              *(line.replace("pos", "1,0").replace("neg", "0,1") for line in shelves()[1:])], 15, 18),
     MANY, 15, 18),
    ("the second quote missing, in five lines", "a.csv",
     swallow([*shelves()[:9], "one, two, or three,pos", *shelves(60)[10:]], 10, 14), {}, 10, 14),
    ("numbers for labels behind semicolons", "a.csv",
     swallow(shelves(order="text,score", delimiter=";"), 15, 18, ";"), NUMBERS, 15, 18),
    ("two stray quotes", "a.csv", swallow(swallow(shelves(), 10, 15).splitlines(), 40, 44), {}, 10, 15),
    ("lines that end with both", "a.csv", swallow(shelves(), 10, 15).replace("\n", "\r\n"), {}, 10, 15),
    ("lines that end with carriage returns", "a.csv", swallow(shelves(), 10, 15).replace("\n", "\r"), {}, 10,
     15),
    ("empty lines between", "a.csv", swallow(shelves(), 10, 14).replace("\n", "\n\n"), {}, 19, 27),
    ("a line that does not fit", "a.csv",
     swallow([*shelves(20)[:9], "one, two, or three,pos", *shelves(60)[10:]], 10, 40), {}, 10, 40),
    ("below a text of three lines", "a.csv",
     swallow(['text,label', '"one', "two", 'three",pos', *shelves()[1:]], 10, 15), {}, 10, 15),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "arguments", "first", "last"),
    [case[1:] for case in SWALLOWED],
    ids=[case[0] for case in SWALLOWED],
)
def test_a_stray_quote_that_swallows_rows_is_refused_with_its_lines(
    tmp_path, name, content, arguments, first, last
):
    with pytest.raises(TableError) as error:
        read_table(write(tmp_path, name, content), **arguments)
    assert f"{name}: lines {first} to {last} are one cell" in str(error.value)
    assert "write each double quote inside it twice" in str(error.value)


def often(swallow, times, lines):
    table = ["text,score", *(f"shelf {i} wobbles,{i % 5 + 1}" for i in range(10 * times))]
    for i in range(times):
        table = swallow(table, 10 * i + 2, 10 * i + 1 + lines).splitlines()
    return "\n".join(table) + "\n"


def listed(line, rows=120):
    cells = ["\n".join(line(i, k) for k in range(3)) for i in range(rows)]
    return "text,label\n" + "".join(
        f'"{cell}",{line(i, 0).rpartition(",")[2]}\n' for i, cell in enumerate(cells)
    )


UNSURE = [
    ("two lines", "a.csv", swallow(shelves(), 20, 21), {},
     "lines 20 to 21 are one cell, 'shelf 18 wobbles,neg"),
    ("two lines, the label first", "a.csv", swallow(shelves(order="label,text"), 20, 21, place=1), {},
     "lines 20 to 21 are one cell"),
    ("three lines, the second quote missing", "a.csv",
     swallow([*shelves()[:9], "one, two, or three,pos", *shelves(60)[10:]], 10, 12), {},
     "lines 10 to 12 are one cell"),
    ("two lines with tabs", "a.tsv", swallow(shelves(delimiter="\t"), 20, 21, "\t"), {},
     "lines 20 to 21 are one cell"),
    ("a few lines that end with numbers", "a.csv", swallow(shelves(order="text,score"), 20, 23), NUMBERS,
     "lines 20 to 23 are one cell"),
    ("nothing but free text beside it", "a.csv", swallow(shelves(order="text,note"), 20, 33),
     {"label_column": "note"}, "lines 20 to 33 are one cell"),
    ("four times two lines", "a.csv",
     reduce(lambda table, k: swallow(table.splitlines(), k, k + 1), (20, 30, 40, 50), "\n".join(shelves())),
     {}, "and 1 more such cells"),
    ("forty times three lines that end with numbers", "a.csv", often(swallow, 40, 3), NUMBERS,
     "and 37 more such cells"),
    ("forty times two lines that end with numbers", "a.csv", often(swallow, 40, 2), NUMBERS,
     "and 37 more such cells"),
    ("texts that are lists", "a.csv",
     listed(lambda i, k: f"{('quality', 'price', 'box')[k]},{('pos', 'neg')[(i + k) % 2]}"), {},
     "and 117 more such cells"),
    ("texts that are receipts", "a.csv", listed(lambda i, k: f"{('milk', 'bread', 'rice')[k]},{(i + k) % 2}"),
     {}, "and 117 more such cells"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "arguments", "says"), [case[1:] for case in UNSURE], ids=[case[0] for case in UNSURE]
)
def test_a_cell_that_may_have_swallowed_rows_is_remarked_on(tmp_path, name, content, arguments, says):
    found = [
        str(finding)
        for finding in read_table(write(tmp_path, name, content), **arguments).findings
        if finding.id == "swallowed-rows"
    ]
    assert len(found) == 1
    assert says in found[0]


REAL = [  # texts of several lines
    "Great phone.\n\nThe battery lasts, the screen shines.\nBuy it, now",
    "Hi, there\nbye",
    "Roses are red, violets are blue\nsugar is sweet, and so are you\nthe roses have wilted, the violets are "
    "dead\nthe sugar bowl is empty",
    "Jane Doe, Flat 3\n12 High Street, Leeds\nLS1 4AP, England\nphone 0113",
    "def f(a, b):\n    return g(a, b)\nprint(f(1, 2))\nf(3, 4)\nf(5, 6)\nf(7, 8)\nf(9, 1)\nf(2, 2)\nf(2, "
    "3)\nf(2, 4)\nend",
    "my data:\n1,2\n3,4\n5,6\nhow do I add them up?",
    "eggs,2\nmilk,12\nthat is all",
    "Preis: 3,5\nsehr gut",
    "Preis: 3,5\nService: 4,5\ngut",
    "one line says so,neg\nthe others\nsay nothing, at all, of it\nnor does this",
    "he said,\n""no""\nand left,\nfor good",
    "\n".join(f"verse {chr(97 + k)}, and so on" for k in range(26)) + "\nthe end",
    "a\tb\nc\td\ne",
]  # fmt: skip


@pytest.mark.parametrize(
    "order", ["text,label", "label,text", "id,text,label", "text,score", "text,label,note"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_real_texts_of_several_lines_stay_as_they_are(tmp_path, order, delimiter):
    frame = pd.DataFrame({"text": [f"{text}{'!' * k}" for k in range(4) for text in REAL]})
    frame = frame.assign(
        label=["pos", "neg"] * 26,
        id=range(52),
        score=[k % 20 for k in range(52)],
        note=[f"note {k * 'x'}" for k in range(52)],
    )
    frame = pd.concat([frame, frame.assign(text=[f"one line {k}" for k in range(52)])])
    frame[order.split(",")].to_csv(tmp_path / "a.csv", index=False, sep=delimiter)
    table = read_table(tmp_path / "a.csv", **(NUMBERS if "score" in order else {}))
    assert table.rows["text"].tolist() == frame["text"].tolist()
    assert table.findings == []


def test_prose_in_a_single_column_stays_as_it_is(tmp_path):
    path = write(
        tmp_path, "a.csv", 'text\n"one, two\nthree, four\nfive"\nsix\n' + '"' + "more\n" * 300 + '"\n'
    )
    frame, source, findings = read_frame(path, ["text"])
    assert frame["text"].tolist() == ["one, two\nthree, four\nfive", "six", "more\n" * 300]
    assert findings == []


def test_a_table_without_a_label_column_is_looked_at_as_well(tmp_path):
    path = write(tmp_path, "a.csv", swallow(shelves(order="id,text"), 10, 30, place=1))
    with pytest.raises(TableError, match="lines 10 to 30 are one cell"):
        read_frame(path, ["text"])
    path = write(tmp_path, "a.csv", "\n".join(shelves(order="id,text")))
    assert len(read_frame(path, ["text"])[0]) == 60


def test_a_quote_that_ends_in_another_column_is_named_with_both_lines(tmp_path):
    content = "text,label\n" + "".join(f"shelf {k},pos\n" for k in range(30))
    content = content.replace("shelf 5,pos", 'shelf 5,"pos').replace("shelf 9,pos", 'shelf 9",pos')
    with pytest.raises(
        TableError,
        match=r"line 7: 3 values, but the header has 2 columns. A double quote opens a cell that runs on to "
        r"line 11",
    ):
        read_table(write(tmp_path, "a.csv", content))


# --- joined files -------------------------------------------------------------------------------------------

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
        "warning: repeated-header: a.csv: the header stands again in lines 22, 43; it is no row and left "
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
    assert any("in line 4;" in finding.message for finding in table.findings)
    assert any("row 4 blank in column 'text'" in finding.message for finding in table.findings)
    rows = [{"text": "a", "label": "x"}, {"text": "text", "label": "label"}, {"text": "b", "label": "y"}]
    for name, content in (
        ("a.jsonl", lines(*rows)),
        ("a.parquet", parquet(text=["a", "text", "b"], label=["x", "label", "y"])),
    ):
        table = read_table(write(tmp_path, name, content))
        assert pairs(table) == [("a", "x"), ("b", "y")]
        assert any("the header stands again in row 2" in finding.message for finding in table.findings)
    table = read_table(write(tmp_path, "a.csv", "text,joy,anger\na,1,0\ntext,joy,anger\nb,0,1\n"), **MANY)
    assert pairs(table) == [("a", "joy"), ("b", "anger")]
    table = read_table(write(tmp_path, "a.csv", "text,score\na,1\ntext,score\nb,0.5\n"), **NUMBERS)
    assert table.rows["value"].tolist() == [1.0, 0.5]


def test_the_header_again_in_another_order_is_refused(tmp_path):
    with pytest.raises(
        TableError,
        match="a.csv, line 22: the header again, with its columns in another order. Bring both parts into "
        "one order",
    ):
        read_table(write(tmp_path, "a.csv", f"text,label\n{HALF}label,text\na,part\n"))


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


# --- two encodings in one file ------------------------------------------------------------------------------

SPOKEN = {  # texts and labels
    "cp1252": (
        ["Café très bon", "Größe paßt nicht", "señor, mañana", "l’été – ça va", "naïve…", "CAFÉ’S"],
        ["négatif", "positif"],
    ),
    "mac_roman": (
        ["Café très bon", "l’été ça va", "naïve…", "l’état d’école", "d’État", "l’Église"],
        ["négatif", "positif"],
    ),
    "cp1250": (["Žluťoučký kůň", "příliš dobrý telefon", "špatná baterie"], ["ano", "žádný"]),
    "cp1251": (["Это очень хороший телефон", "Плохо работает батарея", "«Отлично»"], ["да", "нет"]),
    "koi8_r": (["Это очень хороший телефон", "Плохо работает батарея", "Отлично"], ["да", "нет"]),
    "cp1253": (["Πολύ καλό τηλέφωνο", "Η μπαταρία δεν δουλεύει", "Άριστα"], ["ναι", "όχι"]),
    "gb18030": (["这个手机非常好用", "电池质量很差", "很好", "差", "联通"], ["好", "坏"]),
}


def told(encoding, rows=60):
    texts, labels = SPOKEN[encoding]
    return [f"{i} {texts[i % len(texts)]};{labels[i % 2]}\n" for i in range(rows)]


SHORT = {  # few characters beyond ASCII in a line, and some of them in no western page
    "cp1250": [("bardzo mały", "słaby"), ("miły zakup", "dobry")],
    "cp1257": [("labai geras šuo", "gražus"), ("blogas ąžuolas", "ne")],
    "cp1251": [("да", "нет"), ("ну", "да")],
}


@pytest.mark.parametrize("encoding", SHORT)
@pytest.mark.parametrize("part", [10, 30])
def test_two_encodings_are_told_apart_in_short_lines(tmp_path, encoding, part):
    lines = [f"{i} {SHORT[encoding][i % 2][0]},{SHORT[encoding][i % 2][1]}\n" for i in range(60)]
    path = write(
        tmp_path,
        "a.csv",
        b"text,label\n" + "".join(lines[:part]).encode() + "".join(lines[part:]).encode(encoding),
    )
    with pytest.raises(
        TableError,
        match=rf"in two encodings: {part} lines \(2, 3, 4, 5, 6, ... up to {part + 1}\) are UTF-8, "
        rf"{60 - part} lines",
    ):
        read_table(path)
    path = write(tmp_path, "whole.csv", ("text,label\n" + "".join(lines)).encode(encoding))
    assert read_table(path, encoding=encoding).rows["text"].iloc[0] == f"0 {SHORT[encoding][0][0]}"


@pytest.mark.parametrize("encoding", SPOKEN)
@pytest.mark.parametrize("part", [3, 30, 56])
@pytest.mark.parametrize("first", ["utf-8", "other"])
def test_two_encodings_in_one_file_are_refused_with_their_lines(tmp_path, encoding, part, first):
    before, behind = ("utf-8", encoding) if first == "utf-8" else (encoding, "utf-8")
    written = told(encoding)
    path = write(
        tmp_path,
        "a.csv",
        b"text;label\n" + "".join(written[:part]).encode(before) + "".join(written[part:]).encode(behind),
    )
    with pytest.raises(TableError) as error:
        read_table(path)
    message = str(error.value)
    assert "a.csv is in two encodings: " in message
    utf8, other = message.split(" UTF-8, ")
    early, late = (utf8, other) if first == "utf-8" else (other, utf8)
    assert "(2, " in early
    assert any(f"({line}, " in late for line in range(part + 2, part + 5))  # now and then a line is either
    if part == 30:
        assert f"perhaps {encoding}." in other
    assert "Save each part as UTF-8 before they are joined" in message


@pytest.mark.parametrize("encoding", SPOKEN)
def test_one_encoding_in_a_file_is_read_as_it_is(tmp_path, encoding):
    written = told(encoding, 300)
    table = read_table(write(tmp_path, "a.csv", b"text;label\n" + "".join(written).encode(encoding)))
    assert [f"{text};{label}\n" for text, label in pairs(table)] == written
    assert table.source["encoding"] == encoding


def test_a_line_of_utf8_among_many_others_is_found(tmp_path):
    written = [*told("cp1252", 3000), *told("cp1252", 1)]
    path = write(
        tmp_path, "a.csv", b"text;label\n" + "".join(written[:-1]).encode("cp1252") + written[-1].encode()
    )
    with pytest.raises(
        TableError,
        match=r"line 3002 is UTF-8, 2,500 lines \(2, 3, 4, 5, 6, ... up to 3000\) are not, "
        "but perhaps cp1252",
    ):
        read_table(path)


def test_a_mark_before_one_of_two_encodings_changes_nothing(tmp_path):
    path = write(
        tmp_path,
        "a.csv",
        "text,label\ncafé,a\nthé,b\n".encode("utf-8-sig") + "fin – café,a\nça va,b\n".encode("cp1252"),
    )
    with pytest.raises(
        TableError,
        match=r"in two encodings: 3 lines \(1, 2, 3\) are UTF-8, 2 lines \(4, 5\) are not, "
        "but perhaps cp1252",
    ):
        read_table(path)


def test_a_way_out_is_named_only_where_it_is_one(tmp_path):
    for text, way_out in (("é", True), ("Á", False)):  # cp1252 lacks one of the bytes that Á has in UTF-8
        path = write(
            tmp_path, "a.csv", "text,label\nfin – café,a\nça va,b\n".encode("cp1252") + f"{text},a\n".encode()
        )
        with pytest.raises(TableError) as error:
            read_table(path)
        assert ("If all of it is cp1252, write encoding='cp1252'" in str(error.value)) == way_out
        if way_out:
            assert pairs(read_table(path, encoding="cp1252"))[-1] == ("Ã©", "a")


def test_the_sample_shows_the_character_in_question(tmp_path):
    found = read_table(
        write(
            tmp_path,
            "a.csv",
            f"text,label\n{'word ' * 40}caf\u00e9 and{' more' * 40},a\nb,b\n".encode("cp1252"),
        )
    ).findings[0]
    assert "line 2); it was read as cp1252: '...d word word" in found.message
    assert "café and more" in found.message
    assert len(found.message) < 200


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
    assert not [finding for finding in table.findings if "fewer than 5" not in finding.message]


@pytest.mark.parametrize("end", ["\r", "\r\r\n", "\r\n", "\n", "\n\n"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_json_lines_end_in_any_way(tmp_path, end, last):
    content = "".join(json.dumps({"text": text, "label": label}) + end for text, label in LETTER_ROWS) + last
    assert pairs(read_table(write(tmp_path, "a.jsonl", content))) == LETTER_ROWS


def test_carriage_returns_in_a_header_are_named_and_no_texts_are_shown(tmp_path):
    content = "text,lab\rel\n" + "fine day,good\n" * 9
    with pytest.raises(
        TableError,
        match="'lab.*el'. Carriage returns and line feeds are mixed here: save the file again with line ends "
        "of one kind",
    ):
        read_table(write(tmp_path, "a.csv", content))
    with pytest.raises(
        TableError,
        match="line 3: 3 values, but the header has 2 columns. "
        "Carriage returns and line feeds are mixed here",
    ):
        read_table(write(tmp_path, "a.csv", "text,label\na,b\nc,d\re,f\n"))
    with pytest.raises(
        TableError, match="line 3: 3 values, but the header has 2 columns. A text that holds ','"
    ):
        read_table(write(tmp_path, "a.csv", "text,label\na,b\nc\rd\re, f,g\n"))
    with pytest.raises(
        TableError, match="line 2: not JSON .* Carriage returns and line feeds are mixed here"
    ):
        read_table(
            write(
                tmp_path,
                "a.jsonl",
                lines({"text": "a"}) + lines({"text": "b"}, {"text": "c"}).replace("\n", "\r") + "\n",
            )
        )
    with pytest.raises(TableError) as error:
        read_table(
            write(tmp_path, "a.csv", ("txt,label\n" + "fine day,good\n" * 500).replace("\n", "\r") + "\n")
        )
    assert "has no column 'text'; it has 'txt', 'label'. Did you mean 'txt'?" in str(error.value)


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
        "the quotes of ' \"bad\"' are part of the value in column 'label'" in finding.message
        for finding in table.findings
    )
    with pytest.raises(
        TableError,
        match="line 22: 3 values, but the header has 2 columns. Quotes count only right behind the "
        "delimiter: take out the blank",
    ):
        read_table(write(tmp_path, "a.csv", "label,text\n" + "a,b\n" * 20 + 'a, "fine, day"\n'))
    table = read_table(
        write(tmp_path, "a.tsv", "label\ttext\n" + "a\tfine day\nb\tno\n" * 9 + 'a\t "Odd" she said\n')
    )
    assert table.rows["text"].tolist()[-1] == ' "Odd" she said'
    assert [finding for finding in table.findings if finding.id == "blank-before-quote"] == []


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
    [
        {},
        {"huggingface": "{"},
        {"huggingface": "[]"},
        {"huggingface": '{"info": {"features": {"label": {"_type": "Value"}}}}'},
    ],
)
def test_numbers_without_names_stay_numbers(tmp_path, metadata):
    pyarrow.parquet.write_table(
        pa.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata(metadata),
        tmp_path / "a.parquet",
    )
    assert pairs(read_table(tmp_path / "a.parquet")) == [("a", "1"), ("b", "0")]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint8(), pa.uint64()], ids=str)
def test_a_number_that_no_class_has_is_refused(tmp_path, kind):
    metadata = {
        "huggingface": json.dumps(
            {"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}
        )
    }
    for last in (0, 2):
        table = pa.table({"text": ["a", "b"], "label": pa.array([1, last], kind)})
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
        if last == 0:
            assert pairs(read_table(tmp_path / "a.parquet")) == [("a", "y"), ("b", "x")]
    with pytest.raises(
        TableError,
        match=r"row 2, column 'label': 2 is no class: the file names 2 of them, 'x' \(0\) to 'y'\. "
        "Correct it",
    ):
        read_table(tmp_path / "a.parquet")


# --- what the rows hold -------------------------------------------------------------------------------------


def test_the_words_for_missing_values_are_those_of_the_pandas_installed():
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES - {""} == NA_WORDS
    lost = pd.read_csv(io.StringIO("text\n" + "\n".join(NA_WORDS)))
    assert lost["text"].isna().all()


def test_other_columns_stay_and_never_collide(tmp_path):
    content = "row,value,review,score,text,row_in_file,_key\n9,8,a,1,7,6,5\n9,8,b,2,7,6,5\n"
    rows = read_table(write(tmp_path, "a.csv", content), "review", "score", task="regression").rows
    assert rows.columns.tolist() == [
        "row",
        "text",
        "label",
        "value",
        "row_in_file_",
        "value_in_file",
        "text_in_file",
        "row_in_file",
        "_key",
    ]
    assert rows["value"].tolist() == [1.0, 2.0]
    assert rows["value"].dtype == np.float64
    assert rows.loc[0].tolist() == [1, "a", "1", 1.0, "9", "8", "7", "6", "5"]


def test_a_split_keeps_a_column_called_key():
    table = as_table(list("ab" * 20))
    table.rows["_key"] = "mine"
    assert split_table(table).train["_key"].eq("mine").all()


def test_variants_are_found_and_different_names_are_not():
    assert variants(["pos", "Pos", "pos ", "neg"]) == [["Pos", "pos", "pos "]]
    assert variants(["1", "1.0", "1.00", "10", "1.01", "01"]) == [["1", "1.0", "1.00"]]
    assert variants(["a b", "a\u00a0b", "ab"]) == [["a b", "a\u00a0b"]]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["10.0", "9.0", "1.5"], ["1.5", "9.0", "10.0"]),
        (["1", "01", "1.0"], ["01", "1", "1.0"]),
        (["2", "10", "nan"], ["10", "2", "nan"]),
        (["9" * 400, "1.5"], ["1.5", "9" * 400]),
        (["b", "a|c"], ["a|c", "b"]),
    ],
)
def test_label_order(names, order):
    for given_order in (names, names[::-1]):
        assert label_names(pd.Series(given_order)) == order


def test_label_order_of_a_file_is_the_same_whatever_the_hash_seed(tmp_path, run_python):
    labels = ["😀", "a,b", "سلبي", 'say "no"', "../x", "B", "b", "ä", "10", "9"]
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((f"text {i}", labels[i % 10]) for i in range(200))
        writer.writerows((f"more {i}", "|".join([labels[i % 10], labels[i % 7]])) for i in range(200))
    program = """
import sys
from utils.labels import label_names
from utils.data import read_table, split_table
for task in ("single_label", "multi_label"):
    splits = split_table(read_table(sys.argv[1], task=task), task=task)
    print(ascii(label_names(splits.train["label"], task)), [part["row"].tolist() for part in splits[:3]])
"""
    runs = [run_python(program, tmp_path / "a.csv", PYTHONHASHSEED=str(seed)) for seed in (0, 1, 2, 3)]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert len({run.stdout for run in runs}) == 1
    assert ascii(sorted(labels)) in runs[0].stdout


# --- splits -------------------------------------------------------------------------------------------------


def test_contradictions_count_against_the_limit_and_repeats_do_not():
    rows = as_table([*"ab" * 10, *"xy" * 11])
    rows.rows["text"] = [f"text {i}" for i in range(20)] + ["same"] * 22
    with pytest.raises(
        TableError,
        match=r"The training data: 22 of 42 rows would be left out \(conflicting_labels 22\), more than "
        r"max_dropped=0.5 allows",
    ):
        split_table(rows)
    assert split_table(rows._replace(max_dropped=0.6)).dropped["conflicting_labels"] == 22
    rows.rows["label"] = [*"ab" * 10, *"a" * 22]
    assert split_table(rows).dropped == {"conflicting_labels": 0, "repeated_text": 21}


def test_the_same_file_twice_is_refused(tmp_path):
    content = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    table = read_table(write(tmp_path, "a.csv", content))
    with pytest.raises(
        TableError,
        match=r"a.csv, the training data: 40 of 40 rows would be left out \(training_text_in_test 40\)",
    ):
        split_table(table, test=table)
    fresh = as_table(list("ab" * 20))
    fresh.rows["text"] = "new " + fresh.rows["text"]
    with pytest.raises(
        TableError,
        match=r"a.csv, the validation data: 40 of 40 rows would be left out \(validation_text_in_test 40\)",
    ):
        split_table(fresh, validation=table, test=table)


def test_an_identifier_is_no_label():
    labels = [f"id-{i % 1001}" for i in range(3003)]
    with pytest.raises(
        TableError,
        match="1,001 classes, more than 1,000: 'id-0', 'id-1', 'id-10', ... Is label_column the right one",
    ):
        split_table(as_table(labels))


def test_a_class_of_one_row_is_in_training():
    splits = split_table(as_table([*"ab" * 20, "c", "d", "d"]))
    assert splits.train["label"].value_counts()[["c", "d"]].tolist() == [1, 2]
    assert [finding.message for finding in splits.findings] == [
        "The validation split has no row of 'c', 'd'.",
        "The test split has no row of 'c', 'd'.",
    ]


names = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0|"), min_size=1, max_size=4)
    .map(str.strip)
    .filter(bool)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 7), max_size=4), min_size=6, max_size=150),
    st.lists(names, min_size=8, max_size=8, unique=True),
    st.integers(0, 1000),
)
def test_multi_label_splits_keep_every_row_and_teach_every_label(sets, called, seed):
    labels = [SEPARATOR.join(sorted(called[k] for k in chosen)) for chosen in sets]
    try:
        splits = split_table(as_table(labels), task="multi_label", seed=seed)
    except TableError as error:
        assert len(set(labels)) < 3 or len(labels) < 20, error
        return
    assert sorted(pd.concat(splits[:3])["row"]) == list(range(1, len(labels) + 1))
    assert set(label_names(splits.train["label"], "multi_label")) == {
        called[k] for chosen in sets for k in chosen
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(100, 300), st.integers(2, 12), st.integers(0, 10_000))
def test_multi_label_splits_have_every_label_with_ten_rows(rows, labels, seed):
    rng = np.random.RandomState(seed)
    has = rng.rand(rows, labels) < rng.uniform(0.02, 0.5, labels)
    joined = [SEPARATOR.join(f"L{k:02}" for k in np.flatnonzero(row)) for row in has]
    splits = split_table(as_table(joined), task="multi_label", seed=seed)
    for part in splits[1:3]:
        counts = Counter(name for label in part["label"] for name in label.split(SEPARATOR))
        assert 0.1 * rows <= len(part) <= 0.22 * rows
        for k in np.flatnonzero(has.sum(axis=0) >= 10):
            assert counts[f"L{k:02}"] >= 1


def test_multi_label_conflicts_samples_and_unknown_labels():
    table = as_table(["a|b", "a", "b", "", "a|c"] * 20)
    table.rows.loc[:1, "text"] = "the same"
    splits = split_table(table, task="multi_label", max_train_samples=30)
    assert splits.dropped["conflicting_labels"] == 2
    assert 25 <= len(splits.train) <= 35
    assert label_names(splits.train["label"], "multi_label") == ["a", "b", "c"]
    other = as_table(["a|z"])
    other.rows["text"] = "new"
    with pytest.raises(TableError, match="test rows have labels that no training row has: 'z'"):
        split_table(table, test=other, task="multi_label")
    with pytest.raises(
        TableError, match="All 70 training rows have the same label, 'a': there is nothing to tell apart"
    ):
        split_table(as_table(["a"] * 100), task="multi_label")


def test_regression_splits_cover_the_range_and_compare_values_not_texts():
    rng = np.random.RandomState(0)
    value = rng.exponential(size=1000)
    table = as_table([str(v) for v in value], value)
    splits = split_table(table, task="regression", max_train_samples=400)
    assert [len(part) for part in splits[:3]] == [400, 150, 150]
    tenths = np.quantile(value, np.linspace(0, 1, 11))
    for part in splits[:3]:
        shares = np.histogram(part["value"], tenths)[0] / len(part)
        assert shares == pytest.approx(0.1, abs=0.005)
    twice = as_table(
        ["1", "1.0", "2", "3"] + [str(i) for i in range(30)], [1.0, 1.0, 2.0, 3.0, *map(float, range(30))]
    )
    twice.rows.loc[:1, "text"] = "same value"
    twice.rows.loc[2:3, "text"] = "two values"
    splits = split_table(twice, task="regression")
    assert splits.dropped == {"conflicting_labels": 2, "repeated_text": 1}
    with pytest.raises(TableError, match="there is nothing to tell apart"):
        split_table(as_table(["1"] * 50, [1.0] * 50), task="regression")
    with pytest.raises(TableError, match="Read every table with task='regression'"):
        split_table(as_table(["1", "2"] * 20), task="regression")


# --- any table comes back whole -----------------------------------------------------------------------------

anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
tricky = st.text(st.sampled_from(",;|\t\"\n\r '\\é😀\u2028\x85NA=s"), max_size=8)
values = st.one_of(anything, tricky, st.sampled_from(sorted(NA_WORDS) + ["007", "1.0", "sep=;"]))
tables = st.lists(st.tuples(values, values), min_size=1, max_size=12)
check = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


@check
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


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    """200,000 rows: what a million may take (100 s, 2 GiB), scaled, and half again for a busy machine."""
    small, large = reader([20_000, 200_000])
    assert large["seconds"] < 100 / 5 * 1.5
    assert large["seconds"] / small["seconds"] < 10 * 2
    growth = (large["peak_mib"] - small["peak_mib"]) / 180_000  # MiB a row, without what the imports take
    assert small["peak_mib"] + growth * 980_000 < 2048
    assert large["rows"] == 200_000


def test_normalise_ignores_capitals_and_white_space_of_every_kind():
    texts = pd.Series(["A\u00a0 B", "a b\u2003", "Straße", "STRASSE"], index=[3, 1, 2, 0], name="t")
    assert normalise(texts).tolist() == ["a b", "a b", "strasse", "strasse"]
    assert normalise(texts).index.tolist() == [3, 1, 2, 0]
