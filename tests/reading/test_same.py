"""When two texts or names are one."""

import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.reading.same import comparable, in_escapes, normalise, variants


def test_variants_are_found_and_different_names_are_not():
    assert variants(["pos", "Pos", "pos ", "neg"]) == [["Pos", "pos", "pos "]]
    assert variants(["1", "1.0", "1.00", "10", "1.01", "01"]) == [["1", "1.0", "1.00"]]
    assert variants(["a b", "a\u00a0b", "ab"]) == [["a b", "a\u00a0b"]]
    assert variants(["9" * 40, "9" * 39 + "8", "1e999"]) == []  # different to the last digit


def test_normalise_ignores_capitals_and_white_space_of_every_kind():
    texts = pd.Series(["A\u00a0 B", "a b\u2003", "Straße", "STRASSE"], index=[3, 1, 2, 0], name="t")
    assert normalise(texts).tolist() == ["a b", "a b", "strasse", "strasse"]
    assert normalise(texts).index.tolist() == [3, 1, 2, 0]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_comparing_does_not_depend_on_the_form(text):
    assert comparable(unicodedata.normalize("NFC", text)) == comparable(unicodedata.normalize("NFD", text))
    assert comparable(f"\u200b{text}\ufeff") == comparable(text)
    assert comparable(f"\u2003{text}\n") == comparable(text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("café", "'café'"),
        ("cafe\u0301", r"'cafe\u0301'"),  # looks like the one above
        ("late\u200b", r"'late\u200b'"),
        ("a\u00a0b", r"'a\xa0b'"),
        ("don\u2019t", r"'don\u2019t'"),
        ("سلبي 😀", "'سلبي 😀'"),
    ],
)
def test_what_looks_like_something_else_is_shown_as_an_escape(name, shown):
    assert in_escapes(name) == shown
