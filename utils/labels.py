"""The three tasks, label maps, and when two texts or labels are the same."""

import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal

import numpy as np
import pandas as pd

SEPARATOR = "|"  # joins the labels of one row in multi_label
NO_LABEL = "\0"  # stands for an empty list of labels, which says that there is none; in a blank cell there may be one that nobody wrote down
TASKS = ("single_label", "multi_label", "regression")
MAX_CLASSES = 1000
# What nobody sees: control characters and Unicode's default ignorables (zero-width blanks and joiners, marks of direction, soft hyphens,
# variation selectors, fillers).
UNSEEN = re.compile(
    "[\\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


# What shows all the same: a joiner between emoji, which makes one picture of two; the tags that say whose flag a black flag is; and raised and
# lowered digits, which form NFKC would set level: 10 with a raised 2 is not 102.
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
SEEN = re.compile(
    f"(\u200d(?<=[{_EMOJI}\ufe0f].)(?=[{_EMOJI}])|\U0001f3f4[\U000e0020-\U000e007f]+|[\xb2\xb3\xb9\u2070-\u208e]+)"
)
# Hyphens, dashes, minus signs and apostrophes that look like those of the keyboard.
ALIKE = str.maketrans("\u2010\u2012\u2013\u2014\u2212\u2018\u2019", "-----''")


def rows_of_label(labels: pd.Series, task: str) -> pd.Series:
    """Count the rows of each label; in multi_label a row counts for each of its labels."""
    counts = labels.value_counts()
    if task != "multi_label":
        return counts
    each: dict[str, int] = {}
    for joined, count in counts.items():
        for name in filter(None, joined.split(SEPARATOR)):
            each[name] = each.get(name, 0) + count
    return pd.Series(each, dtype=int)


def variants(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that a reader would take for one (see `comparable`), or that differ as 1, 1.0, +1 and 1E+00 do."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        key = unicodedata.normalize("NFKC", comparable(name)).translate(ALIKE)
        if re.fullmatch(
            r"[+-]?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d{1,3})?", key
        ):  # not 007, nor 1.10, which may be a section
            key = re.sub(r"\.0+$", "", f"{Decimal(key):f}").removeprefix("+")
        groups.setdefault(key, []).append(name)
    return [same for _, same in sorted(groups.items()) if len(same) > 1]


def in_escapes(name: str) -> str:
    """Return the repr of a name in which everything that looks like something else, or like nothing, is written as an escape."""
    composed = unicodedata.is_normalized("NFC", name)

    def plain(character: str) -> bool:
        known = (
            unicodedata.is_normalized("NFKC", character)
            and not UNSEEN.match(character)
            and ord(character) not in ALIKE
        )
        return known and (composed or not unicodedata.combining(character))

    return "".join(character if plain(character) else ascii(character)[1:-1] for character in repr(name))


def label_names(labels: pd.Series, task: str = "single_label") -> list[str]:
    """Return the distinct labels in an order that never changes: numbers by value, everything else alphabetically (by code point).

    For multi_label, `labels` are joined by "|" as `read_table` writes them, and the single labels are returned.
    """
    names = set(labels)
    return in_order(
        {name for joined in names for name in joined.split(SEPARATOR)} - {""}
        if task == "multi_label"
        else names
    )


def in_order(names: set[str]) -> list[str]:
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
    """Return what the model is to learn of rows of `read_table`.

    Args:
        labels: those of `label_names`; of no account for regression.

    Returns:
        single_label: the place of each row's label in `labels`, int64, shape (rows,). multi_label: 0 or 1 for each label, float32, shape
        (rows, labels). regression: the values, float32, shape (rows,).
    """
    if task == "regression":
        return rows["value"].to_numpy(np.float32)
    place = {label: i for i, label in enumerate(labels)}
    if task == "single_label":
        return np.array([place[label] for label in rows["label"]], dtype=np.int64)
    encoded = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for row, joined in enumerate(rows["label"]):
        encoded[row, [place[label] for label in joined.split(SEPARATOR) if label]] = 1
    return encoded


def decode_labels(predicted, labels: list[str], task: str = "single_label") -> list[str]:
    """Return predictions in the form in which `rows["label"]` has the truth; `predicted` is shaped as what `encode_labels` returns."""
    if task == "regression":
        return [f"{value:.6g}" for value in predicted]
    if task == "single_label":
        return [labels[i] for i in predicted]
    return [
        SEPARATOR.join(label for label, there in zip(labels, row, strict=True) if there) for row in predicted
    ]


def comparable(text: str) -> str:
    """Return a text as it is compared for repeats: two texts are one if a reader, capitals aside, would see no difference.

    Casefolded, runs of white space made one blank, in Unicode's form NFKC (which takes an accent stored apart, a full-width letter or a ligature for
    the usual one) and without characters that nobody sees. Raised and lowered digits stay, for they change a number, and so do the joiners
    inside one emoji. A joiner inside a word goes: Persian, Hindi or Sinhala spelt with and without it are the same words, and two such
    texts in two splits do more harm than one row too few.
    """
    if not (text.isascii() and text.isprintable()):
        parts = SEEN.split(text)  # every second one is a match
        text = "".join(
            part if k % 2 else unicodedata.normalize("NFKC", UNSEEN.sub("", part))
            for k, part in enumerate(parts)
        )
    return " ".join(text.casefold().split())


def normalise(texts: pd.Series) -> pd.Series:
    """Return the texts as `comparable` writes them."""
    return pd.Series([comparable(text) for text in texts], index=texts.index, dtype=str, name=texts.name)
