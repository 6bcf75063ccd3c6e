"""The three tasks, label maps, and when two texts or labels are the same."""

import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
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

    @property
    def classes(self) -> bool:
        """Whether labels are classes, so that there are probabilities."""
        return self.column == "label"


SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"
TASKS = {
    "single_label": Task(SINGLE, "label", False, np.int64, "accuracy", "f1_macro", "accuracy"),
    "multi_label": Task(MULTI, "label", True, np.float32, "accuracy", "f1_macro", "f1_macro"),
    "regression": Task(
        NUMBER, "value", False, np.float32, "pearson", "pearson", "pearson", "mean", "tfidf_ridge"
    ),
}

# What nobody sees: control characters and Unicode's default ignorables (zero-width blanks and joiners,
# marks of direction, soft hyphens, variation selectors, fillers).
UNSEEN = re.compile(
    "[\\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What shows all the same: a joiner between emoji, which makes one picture of two; the tags that say whose
# flag a black flag is; and raised and lowered digits: 10 with a raised 2 is not 102, as NFKC has it.
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
SEEN = re.compile(
    f"(\u200d(?<=[{_EMOJI}\ufe0f].)(?=[{_EMOJI}])"
    "|\U0001f3f4[\U000e0020-\U000e007f]+|[\xb2\xb3\xb9\u2070-\u208e]+)"
)
ALIKE = str.maketrans("\u2010\u2012\u2013\u2014\u2212\u2018\u2019", "-----''")  # hyphens and apostrophes


def _names_in(label: str, task: str) -> list[str]:
    return [name for name in label.split(SEPARATOR) if name] if TASKS[task].joined else [label]


def rows_of_label(labels: pd.Series, task: str) -> pd.Series:
    """Count the rows of each label; in multi_label a row counts for each of its labels."""
    return pd.Series([name for label in labels for name in _names_in(label, task)], dtype=str).value_counts()


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


def variants(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that are one by `comparable`, or differ as 1, 1.0, +1 and 1E+00 do."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        key = unicodedata.normalize("NFKC", comparable(name)).translate(ALIKE)
        # not 007, nor 1.10, which may be a section
        if re.fullmatch(r"[+-]?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d{1,3})?", key):
            key = re.sub(r"\.0+$", "", f"{Decimal(key):f}").removeprefix("+")
        groups.setdefault(key, []).append(name)
    return [same for _, same in sorted(groups.items()) if len(same) > 1]


def in_escapes(name: str) -> str:
    """Return a name's repr, with escapes for all that looks like something else, or like nothing."""
    composed = unicodedata.is_normalized("NFC", name)

    def plain(character: str) -> bool:
        hidden = UNSEEN.match(character) or ord(character) in ALIKE
        whole = composed or not unicodedata.combining(character)
        return whole and not hidden and unicodedata.is_normalized("NFKC", character)

    return "".join(character if plain(character) else ascii(character)[1:-1] for character in repr(name))


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


def comparable(text: str) -> str:
    """Return a text as it is compared: two are one if, capitals aside, a reader sees no difference.

    Casefolded, runs of white space made one blank, in form NFKC, without characters that nobody sees. Raised
    and lowered digits stay, for they change a number; so do the joiners inside one emoji. A joiner inside a
    word goes: Persian, Hindi or Sinhala with and without it are the same words, and a text in two splits
    harms more than a row too few.
    """
    if not (text.isascii() and text.isprintable()):
        parts = SEEN.split(text)  # every second one is a match
        parts[::2] = [unicodedata.normalize("NFKC", UNSEEN.sub("", part)) for part in parts[::2]]
        text = "".join(parts)
    return " ".join(text.casefold().split())


def normalise(texts: pd.Series) -> pd.Series:
    """Return the texts as `comparable` writes them."""
    return pd.Series([comparable(text) for text in texts], index=texts.index, dtype=str, name=texts.name)
