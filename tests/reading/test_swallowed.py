"""Stray quotes that swallow rows, and real cells of several lines."""

from functools import reduce

import pandas as pd
import pytest
from sample_tables import MANY, NUMBERS, cases, is_refused, write

from utils.data import TableError, read_table
from utils.reading.files import read_frame


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


@cases(("name", "content", "arguments", "first", "last"), SWALLOWED)
def test_a_stray_quote_that_swallows_rows_is_refused_with_its_lines(
    tmp_path, name, content, arguments, first, last
):
    with pytest.raises(TableError, match="write each double quote inside it twice") as error:
        read_table(write(tmp_path, name, content), **arguments)
    assert f"{name}: lines {first} to {last} are one cell" in str(error.value)


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


@cases(("name", "content", "arguments", "says"), UNSURE)
def test_a_cell_that_may_have_swallowed_rows_is_remarked_on(tmp_path, name, content, arguments, says):
    findings = read_table(write(tmp_path, name, content), **arguments).findings
    (found,) = [finding.message for finding in findings if finding.id == "swallowed-rows"]
    assert says in found


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
    says = (
        "line 7: 3 values, but the header has 2 columns. A double quote opens a cell that runs on to line 11"
    )
    is_refused(says, read_table, write(tmp_path, "a.csv", content))
