"""Label names in an order that never changes, and when two names or texts are one."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.labels import (
    TASKS,
    comparable,
    decode_labels,
    encode_labels,
    in_escapes,
    label_names,
    normalise,
    rows_of_label,
    variants,
)


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


# --- labels as numbers, and back ----------------------------------------------------------------------------

NAMES = ["1", "10", "a b", "é"]
ENCODED = [  # task, labels as `read_table` writes them, what the model is to learn
    ("single_label", ["é", "1", "10"], np.array([3, 0, 1], np.int64)),
    ("multi_label", ["1|é", "", "a b"], np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]], np.float32)),
    ("regression", ["0.5", "-3", "1e+06"], np.array([0.5, -3, 1e6], np.float32)),
]


@pytest.mark.parametrize(("task", "written", "numbers"), ENCODED)
def test_labels_become_numbers_and_come_back(task, written, numbers):
    rows = pd.DataFrame({"label": written})
    if task == "regression":
        rows["value"] = rows["label"].astype(float)
    encoded = encode_labels(rows, NAMES, task)
    assert encoded.dtype == numbers.dtype == TASKS[task].dtype
    assert encoded.tolist() == numbers.tolist()
    assert decode_labels(encoded, NAMES, task) == written


@given(st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_any_set_of_labels_comes_back(sets):
    written = ["|".join(NAMES[k] for k in sorted(chosen)) for chosen in sets]
    encoded = encode_labels(pd.DataFrame({"label": written}), NAMES, "multi_label")
    assert encoded.sum(axis=1).tolist() == [len(chosen) for chosen in sets]
    assert decode_labels(encoded, NAMES, "multi_label") == written


def test_a_label_that_training_has_not_is_no_number():
    for task in ("single_label", "multi_label"):
        with pytest.raises(KeyError, match="new"):
            encode_labels(pd.DataFrame({"label": ["new"]}), NAMES, task)


def test_a_row_counts_for_each_of_its_labels():
    labels = pd.Series(["a|b", "b", "", "b"])
    assert rows_of_label(labels, "multi_label").to_dict() == {"b": 3, "a": 1}
    assert rows_of_label(labels, "single_label").to_dict() == {"b": 2, "a|b": 1, "": 1}


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
