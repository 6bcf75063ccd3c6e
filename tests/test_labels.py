"""Label names in an order that never changes, and when two names or texts are one."""

import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.labels import comparable, label_names, normalise, variants


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
