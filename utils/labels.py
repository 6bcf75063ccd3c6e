"""The three tasks, and label maps."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

SEPARATOR = "|"  # joins the labels of one row in multi_label
NO_LABEL = "\0"  # a list of labels that is empty on purpose; a blank cell may be one that nobody filled in
MAX_CLASSES = 1000


class Task(NamedTuple):
    """What differs between the tasks; the functions that do stand in `utils.metrics.FUNCTIONS`."""

    problem_type: str  # what Transformers calls it; it decides which loss the head computes
    column: str  # of `read_table`'s rows, with what is to be learnt
    joined: bool  # whether a row has any number of labels, joined by SEPARATOR
    dtype: type[np.generic]  # of what `encode_labels` returns
    main_score: str  # reported with its interval
    best_by: str  # the validation score that chooses the checkpoint
    compared_by: str  # the test score that is compared with the baseline's
    constant_baseline: str = "majority"
    tfidf_baseline: str = "tfidf_logreg"
    embeddings_baseline: str = "embeddings_logreg"

    @property
    def classes(self) -> bool:
        """Whether labels are classes, so that there are probabilities."""
        return self.column == "label"


OF_NUMBERS = "mean", "tfidf_ridge", "embeddings_ridge"  # the rungs below the model
SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"
TASKS = {
    "single_label": Task(SINGLE, "label", False, np.int64, "accuracy", "f1_macro", "accuracy"),
    "multi_label": Task(MULTI, "label", True, np.float32, "accuracy", "f1_macro", "f1_macro"),
    "regression": Task(NUMBER, "value", False, np.float32, *["pearson"] * 3, *OF_NUMBERS),
}


def _names_in(label: str, task: str) -> list[str]:
    return [name for name in label.split(SEPARATOR) if name] if TASKS[task].joined else [label]


def rows_of_label(labels: pd.Series, task: str) -> pd.Series:
    """Count the rows of each label; in multi_label a row counts for each of its labels."""
    names = [name for label in labels for name in _names_in(label, task)] if TASKS[task].joined else labels
    return pd.Series(names, dtype=str).value_counts().rename_axis(None)


def label_names(labels: pd.Series, task: str = "single_label") -> list[str]:
    """Return the names of the model's outputs, in an order that never changes.

    They are the distinct labels (of multi_label, the single ones); for regression one, "value".
    """
    if not TASKS[task].classes:
        return ["value"]
    return in_order({name for label in set(labels) for name in _names_in(label, task)})


def in_order(names: set[str]) -> list[str]:
    """Sort names: numbers by value, everything else alphabetically (by code point)."""
    by_character = sorted(names)  # settles what has the same value, such as 1 and 01
    for number in (int, float):
        try:
            values = {name: number(name) for name in names}
        except ValueError:
            continue
        if all(math.isfinite(value) for value in values.values()):
            return sorted(by_character, key=values.get)
    return by_character


def encode_labels(rows: pd.DataFrame, labels: list[str], task: str = "single_label") -> np.ndarray:
    """Return what the model is to learn of rows of `read_table`; `labels` are those of `label_names`.

    single_label: each label's place in `labels`, int64, shape (rows,). multi_label: 0 or 1 for each label,
    float32, shape (rows, labels). regression: the values, float32, shape (rows,).
    """
    facts = TASKS[task]
    if task == "regression":
        return rows[facts.column].to_numpy(facts.dtype)
    place = {label: i for i, label in enumerate(labels)}
    if not facts.joined:
        return np.array([place[label] for label in rows[facts.column]], dtype=facts.dtype)
    encoded = np.zeros((len(rows), len(labels)), dtype=facts.dtype)
    for row, label in enumerate(rows[facts.column]):
        encoded[row, [place[name] for name in _names_in(label, task)]] = 1
    return encoded


def label_feature(labels: list[str], task: str = "single_label"):
    """Return the type of a `datasets` column with what `encode_labels` returns."""
    from datasets import ClassLabel, List, Value

    number = Value("float32")
    return {"multi_label": List(number), "regression": number}.get(task) or ClassLabel(names=labels)


def decode_labels(predicted, labels: list[str], task: str = "single_label") -> list[str]:
    """Return predictions, shaped as what `encode_labels` returns, in the form that `rows["label"]` has."""
    if task == "regression":
        return [f"{value:.6g}" for value in predicted]
    if not TASKS[task].joined:
        return [labels[i] for i in predicted]
    names = np.array(labels, dtype=object)
    return [SEPARATOR.join(names[np.asarray(row, dtype=bool)]) for row in predicted]
