"""Tables for tests: files as people have them, rows for the split, and what comes of reading them."""

import io
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from utils.data import Table, TableError, read_table

CSV = "text,label\nfine day,good\nawful day,bad\n"
TWO = [("fine day", "good"), ("awful day", "bad")]
FLAGS = "text,joy,anger\na,1,0\nb,0,1\nc,1,1\n"
MULTI = {"task": "multi_label"}
MANY = {"task": "multi_label", "label_column": ["joy", "anger"]}
REGRESSION = {"task": "regression"}
NUMBERS = {"task": "regression", "label_column": "score"}


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def parquet(metadata=None, **columns):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), sink)
    return sink.getvalue()


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def labelled(folder, labels, name="a.csv", sep=",", **arguments):
    """Read a table of these labels, each with a text of its own."""
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))], "label": labels})
    if name.endswith(".csv"):
        frame.to_csv(folder / name, index=False, sep=sep)
    elif name.endswith(".jsonl"):
        write(folder, name, lines(*frame.to_dict("records")))
    else:
        frame.to_parquet(folder / name)
    return read_table(folder / name, **arguments)


def as_table(labels, value=None, texts=None):
    """Return a table that no file holds; each row has a text of its own unless they are given."""
    texts = texts or [f"text {i}" for i in range(len(labels))]
    rows = pd.DataFrame(
        {
            "row": range(1, len(labels) + 1),
            "text": pd.Series(texts, dtype=str),
            "label": pd.Series([*labels], dtype=str),
        }
    )
    return Table(rows if value is None else rows.assign(value=value), [], {})


def pairs(table):
    return list(zip(table.rows["text"], table.rows["label"], strict=True))


def remarks(table):
    """Return the findings' messages, without the one that all small tables have."""
    return [finding.message for finding in table.findings if "fewer than 5 rows" not in finding.message]


def cases(names, table):
    """Parametrise with a table whose first column has the cases' names."""
    return pytest.mark.parametrize(names, [case[1:] for case in table], ids=[case[0] for case in table])


def comes_in_whole(folder, name, content, arguments, rows, says):
    """Assert that a file has these rows, and what `source` (a dict) or a finding (a text) says of it."""
    table = read_table(write(folder, name, content), **arguments)
    assert pairs(table) == rows
    assert len(rows) + sum(table.dropped.values()) == table.source["rows"]
    assert table.source["file"] == name
    if isinstance(says, str):
        assert any(says in str(finding) for finding in table.findings), [*map(str, table.findings)]
    else:
        assert {key: table.source[key] for key in says} == says
        assert not remarks(table)


def is_refused(says, read, *arguments, **more):
    """Assert that a table is refused by a message that holds a text."""
    with pytest.raises(TableError) as error:
        read(*arguments, **more)
    assert says in str(error.value)
