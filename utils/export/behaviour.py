"""Behaviour tests (Ribeiro et al. 2020, CheckList): each test is a list of cases, and a case is a text, the
text changed, and the label wanted then (None: the same as before). Write your own in this form.
"""

import random
import re
from collections.abc import Sequence

import pandas as pd

from utils.findings import ModelError, in_words
from utils.labels import TASKS, rows_of_label
from utils.metrics import wilson_interval
from utils.predict import label_texts

# Names that Americans took for those of white and of black people (Bertrand and Mullainathan 2004)
NAMES = ("Emily", "Lakisha"), ("Greg", "Jamal"), ("Anne", "Tamika"), ("Brad", "Rasheed")
THINGS = ("The film was", "The food is", "My new phone is", "The service was", "This song is", "The day was")
GOOD = ("good", "great", "nice", "excellent", "amazing")
BAD = ("bad", "terrible", "awful", "horrible", "disappointing")
Cases = dict[str, list[tuple[str, str, str | None]]]


def typo(text: str, draw: random.Random) -> str:
    """Swap two unlike letters inside a word of four or more; where there is none, the text stays."""
    inside = (range(word.start() + 1, word.end() - 2) for word in re.finditer(r"[^\W\d_]{4,}", text))
    k = draw.choice([k for places in inside for k in places if text[k] != text[k + 1]] or [len(text)])
    return text[:k] + text[k : k + 2][::-1] + text[k + 2 :]


def harmless(texts: Sequence[str], seed: int = 0) -> Cases:
    """Return tests of any texts, whose changes should change no answer."""
    draw = random.Random(seed)
    changes = {
        "typo": lambda text: (text, typo(text, draw)),
        "capitals": lambda text: (text, text.upper()),
        "another name": lambda text: [f"{name} wrote: {text}" for name in draw.choice(NAMES)],
        "neutral ending": lambda text: (text, f"{text} I wrote this on a Tuesday."),
    }
    made = {name: [(*change(text), None) for text in texts] for name, change in changes.items()}
    return {name: [case for case in cases if case[0] != case[1]] for name, cases in made.items()}


def negation(positive: str = "positive", negative: str = "negative") -> Cases:
    """Return tests for a model of praise and blame: plain words, and the same with "not"."""
    tests = {}
    for kind, words, *labels in (("praise", GOOD, positive, negative), ("blame", BAD, negative, positive)):
        pairs = [(f"{thing} {word}.", f"{thing} not {word}.") for thing in THINGS for word in words]
        tests[kind] = [(text, text, labels[0]) for text, _ in pairs]
        tests[f"not + {kind}"] = [(*pair, labels[1]) for pair in pairs]
    return tests


def check(loaded, tests: Cases) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return for each test its cases, failures, their rate with its 95% interval (Wilson); and all failures.

    These have test, text, changed, wanted, predicted (for the changed text), and probability, the highest;
    the surest are first. `loaded` is what `load_classifier` returns.

    Raises:
        ModelError: the model predicts a number, or a label that is wanted is not one of its labels.
    """
    cases = [(name, *case) for name, part in tests.items() for case in part]
    rows, names = pd.DataFrame(cases, columns=["test", "text", "changed", "wanted"]), loaded[3]
    if not TASKS[loaded[2]].classes:
        raise ModelError("This model predicts a number, and any change of a text moves it a little.")
    if unknown := {*rows_of_label(rows["wanted"].dropna(), loaded[2]).index} - {*names}:
        raise ModelError(f"The model has no label {in_words(sorted(unknown))}, but {in_words(names)}.")
    answers = label_texts(loaded, pd.unique(rows[["text", "changed"]].to_numpy().ravel())).set_index("text")
    rows["wanted"] = rows["wanted"].fillna(rows["text"].map(answers["predicted"]))
    rows["predicted"] = rows["changed"].map(answers["predicted"])
    rows["probability"] = rows["changed"].map(answers.filter(like="probability_").max(axis=1))
    failed = rows["predicted"] != rows["wanted"]
    table = failed.groupby(rows["test"], sort=False).agg(cases="size", failures="sum", rate="mean")
    ends = [wilson_interval(*pair) for pair in zip(table["failures"], table["cases"], strict=True)]
    table[["low", "high"]] = ends
    return table, rows[failed].sort_values("probability", ascending=False)
