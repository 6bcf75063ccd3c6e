"""Behaviour tests: texts changed in one way, and whether the answer does what it should (Ribeiro et al. 2020,
Beyond Accuracy: Behavioral Testing of NLP Models with CheckList). A case is a text, the text changed, and the
label that is wanted then, or None: the same as before. Write your own cases in this form.
"""

import random
import re
from collections.abc import Sequence

import pandas as pd

from utils.findings import ModelError, in_words
from utils.labels import TASKS
from utils.metrics import wilson_interval
from utils.predict import label_texts

# Names that Americans take for those of white and of black people (Bertrand and Mullainathan 2004)
NAMES = ("Emily", "Lakisha"), ("Greg", "Jamal"), ("Anne", "Tamika"), ("Brad", "Rasheed")
THINGS = ("The film was", "The food is", "My new phone is", "The service was", "This song is", "The day was")
GOOD = ("good", "great", "nice", "excellent", "wonderful", "amazing")
BAD = ("bad", "terrible", "awful", "horrible", "disgusting", "sad")
Cases = dict[str, list[tuple[str, str, str | None]]]


def typo(text: str, draw: random.Random) -> str:
    """Swap two unlike letters inside a word of at least four; without such a word, the text stays."""
    inside = (range(word.start() + 1, word.end() - 2) for word in re.finditer(r"[^\W\d_]{4,}", text))
    places = [k for places in inside for k in places if text[k] != text[k + 1]]
    k = draw.choice(places or [len(text)])
    return text[:k] + text[k : k + 2][::-1] + text[k + 2 :]


def harmless(texts: Sequence[str], seed: int = 0) -> Cases:
    """Return cases of any texts, four tests, whose changes should change no answer."""
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
    """Return cases for a model of praise and blame, whose labels are given: plain words, and words with "not"."""
    words = [(word, positive, negative) for word in GOOD] + [(word, negative, positive) for word in BAD]
    made = [(f"{thing} {{}}{word}.", *labels) for thing in THINGS for word, *labels in words]
    made = [(sentence.format(""), sentence.format("not "), *labels) for sentence, *labels in made]
    kinds = {"not + praise": positive, "not + blame": negative}
    negated = {
        kind: [(plain, changed, other) for plain, changed, label, other in made if label == sign]
        for kind, sign in kinds.items()
    }
    return {"plain words": [(plain, plain, label) for plain, _, label, _ in made]} | negated


def check(loaded, cases: Cases, tolerance: float | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return for each test its cases, failures, their rate with its 95% interval (Wilson); and all failures.

    These have test, text, changed, wanted, predicted (for the changed text), and how sure the model was (the
    highest probability), the surest first. For a regression a case fails that is more than `tolerance` off,
    and the furthest off is first. `loaded` is what `load_classifier` returns.

    Raises:
        ModelError: a wanted label is not one of the model's, or a regression has no `tolerance`.
    """
    task, names = loaded[2:]
    columns = ["test", "text", "changed", "wanted"]
    rows = pd.DataFrame([(name, *case) for name, part in cases.items() for case in part], columns=columns)
    if task == "single_label" and (unknown := {*rows["wanted"].dropna()} - {*names}):
        raise ModelError(f"The model has no label {in_words(sorted(unknown))}, but {in_words(names)}.")
    if not TASKS[task].classes and tolerance is None:
        raise ModelError("tolerance=None: say from which distance on two numbers are not the same.")
    answers = label_texts(loaded, pd.unique(rows[["text", "changed"]].to_numpy().ravel())).set_index("text")
    rows["wanted"] = rows["wanted"].fillna(rows["text"].map(answers["predicted"]))
    rows["predicted"] = rows["changed"].map(answers["predicted"])
    if TASKS[task].classes:
        rows["sure"] = rows["changed"].map(answers.filter(like="probability_").max(axis=1))
        failed = rows["predicted"] != rows["wanted"]
    else:
        rows["off_by"] = (rows["predicted"].astype(float) - rows["wanted"].astype(float)).abs()
        failed = rows["off_by"] > tolerance
    table = failed.groupby(rows["test"], sort=False).agg(cases="size", failures="sum")
    ends = [wilson_interval(*pair) for pair in zip(table["failures"], table["cases"], strict=True)]
    table = table.assign(rate=table["failures"] / table["cases"])
    table[["low", "high"]] = ends
    return table, rows[failed].sort_values(rows.columns[-1], ascending=False)
