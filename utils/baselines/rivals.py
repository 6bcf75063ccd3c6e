"""Somebody else's answers to the test rows: a language model's, a service's, a person's."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from utils import unquote_formula
from utils.findings import TableError, in_words, rows_in_words
from utils.labels import NO_LABEL, SEPARATOR, TASKS
from utils.reading.files import read_frame
from utils.reading.same import comparable
from utils.reading.table import locate
from utils.runs import BASELINES

MODEL = "fine-tuned"  # the rung of the model itself


class Rung(NamedTuple):
    """What one way of predicting says of the test rows, shaped as for `score`, and its seconds."""

    predicted: np.ndarray
    seconds: float  # of a rival nobody knows them: nan


def read_rivals(
    rivals: Mapping[str, str] | None, rows: pd.DataFrame, labels: list[str], task: str = "single_label"
) -> dict[str, Rung]:
    """Return by name what each rival says of the test rows, in their order.

    A rival is a table as `read_frame` reads it, with the columns `text` and `predicted`, or `label` where
    there is no `predicted`; labels are written as in `read_table`. Its rows are found by their texts as
    `comparable` writes them and, where it has a column `row`, by the number there, too: that of the test row
    in its file, as predictions.csv has it. Apostrophes of `quote_formula` are undone; other rows are ignored.

    Args:
        rivals: names and files; None for none. rows: the test rows of `split_table`. labels: of training.

    Raises:
        TableError: a name that a rung has already, test rows without an answer or with two different ones,
            or an answer that is no label (or number); it names the file, the row, the value and the fix.
    """
    found = {}
    for name, file in (rivals or {}).items():
        if name in {*BASELINES, MODEL}:
            raise TableError(f"rivals: {name!r} is a rung of the ladder already. Give it another name.")
        found[name] = Rung(_answers_in(file, rows, labels, task), math.nan)
    return found


def _answers_in(file: str, rows: pd.DataFrame, labels: list[str], task: str) -> np.ndarray:
    path, facts = locate(file), TASKS[task]
    column = "predicted" if "predicted" in read_frame(path, ["text"])[0] else "label"
    listed = {"class_names": facts.classes, "listed": column if facts.joined else None}
    frame = read_frame(path, ["text", column], **listed)[0]
    numbered = "row" in frame

    def key(text: str, number) -> tuple[str, str]:
        return comparable(text), str(number).strip().removesuffix(".0") if numbered else ""

    asked = [key(*pair) for pair in zip(rows["text"], rows["row"], strict=True)]
    known, given, whose = {*asked}, {}, {}
    numbers = frame["row"] if numbered else [""] * len(frame)
    lines = zip(frame.index + 1, frame["text"], numbers, frame[column], strict=True)
    for place, text, number, answer in lines:
        keys = (key(each, number) for each in (text, unquote_formula(text)))
        if not (row := next((each for each in keys if each in known), None)):
            continue
        cell = f"{path.name}, row {place}, column {column!r}: {answer[:60]!r}"
        value = READ[task](answer, labels, cell)
        if given.setdefault(row, value) != value:
            fix = (
                "Keep one of them"
                if numbered
                else "Keep one of them, or add the column row of predictions.csv"
            )
            raise TableError(f"{cell} differs from the answer to the same text in row {whose[row]}. {fix}.")
        whose.setdefault(row, place)
    if missing := [k for k, row in enumerate(asked) if row not in given]:
        first = rows["text"].iloc[missing[0]][:60]
        by = "by text and row (leave out a column row that counts something else)" if numbered else "by text"
        fix = f"They are found {by}: answer every text in the run's predictions.csv."
        where = rows_in_words(rows["row"].iloc[missing].tolist(), "test row")
        raise TableError(f"{path.name} has no answer to {where}, such as {first!r}. {fix}")
    return np.array([given[row] for row in asked], dtype=facts.dtype)


def _class(answer: str, labels: list[str], cell: str) -> int:
    for name in (answer, unquote_formula(answer)):
        alike = [k for k, label in enumerate(labels) if comparable(label) == comparable(name)]
        if name in labels or len(alike) == 1:
            return labels.index(name) if name in labels else alike[0]
    raise TableError(f"{cell} is none of the labels {in_words(labels, 10)}. Write one of them.")


def _classes(answer: str, labels: list[str], cell: str) -> tuple[int, ...]:
    names = unquote_formula(answer).replace(NO_LABEL, "").split(SEPARATOR)
    there = {_class(name.strip(), labels, cell) for name in names if name.strip()}
    return tuple(int(k in there) for k in range(len(labels)))


def _number(answer: str, labels: list[str], cell: str) -> float:
    try:
        value = float(unquote_formula(answer))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TableError(f"{cell} is no finite number. Write digits and a decimal point alone (-1234.5).")
    return value


READ = {"single_label": _class, "multi_label": _classes, "regression": _number}


class McNemar(NamedTuple):
    """On how many rows only the model, and only the rival, is right; and the p-value of the two."""

    model: int
    rival: int
    p: float


def mcnemar(labels, predicted, rival) -> McNemar:
    """Return McNemar's exact test (1947): are model and rival right on equally many of the rows that they
    disagree on? In multi_label a row is right if all its labels are. Arguments as for `score`.
    """
    right = [np.equal(labels, answers).reshape(len(labels), -1).all(axis=1) for answers in (predicted, rival)]
    model, other = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return McNemar(model, other, float(stats.binomtest(model, max(model + other, 1)).pvalue))
