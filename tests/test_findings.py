"""What is found says the same as text and as a table."""

import re
from html import escape

import pytest

from utils.findings import Finding, PreflightError, Report, did_you_mean, rows_in_words

FINDINGS = [Finding("no-logs", "warning", "Nothing is logged.", "logging_steps=10")]
FINDINGS += [Finding("pad-token", "error", "a < b", "tokenizer.pad_token = '</s>'")]


def test_each_field_stands_under_its_name_errors_first():
    rows = re.findall(r"<tr>(.*?)</tr>", Report(FINDINGS)._repr_html_())
    head, *body = [[re.sub("<.*?>", "", cell) for cell in re.split("</t[hd]>", row)[:-1]] for row in rows]
    fields = [{"what": "message"}.get(name, name) for name in head]
    assert sorted(fields) == ["fix", "id", "level", "message"]
    for finding, cells in zip(reversed(FINDINGS), body, strict=True):
        assert cells == [escape(getattr(finding, field)) for field in fields]


def test_the_text_names_level_id_message_and_fix():
    assert str(Report(FINDINGS)).splitlines()[:2] == [
        "error: pad-token: a < b",
        "    fix: tokenizer.pad_token = '</s>'",
    ]
    with pytest.raises(PreflightError, match=r"1 error\(s\):\nerror: pad-token: a < b"):
        Report(FINDINGS).raise_for_errors()
    assert Report(FINDINGS[:1]).raise_for_errors().errors == []


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([3], "row 3"),
        ([1, 2], "2 rows (1, 2)"),
        (range(1, 1202), "1,201 rows (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...)"),
    ],
)
def test_rows_are_counted_and_the_first_ones_named(numbers, words):
    assert rows_in_words(list(numbers)) == words


def test_a_close_name_is_proposed_and_no_other():
    assert did_you_mean("txet", ["label", "text"]) == "Did you mean 'text'?"
    assert did_you_mean("zzz", ["label", "text"]) == ""
