"""Label names in an order that never changes, and as numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.labels import TASKS, decode_labels, encode_labels, label_names, rows_of_label


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
