"""The split: every row accounted for, no text on two sides, classes with their shares."""

import hashlib
import json
import unicodedata
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_tables import as_table, is_refused, write

from utils.data import TableError, read_table, split_table
from utils.labels import SEPARATOR, label_names
from utils.reading.same import comparable, normalise

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6).filter(
    str.strip
)
rows = st.lists(st.tuples(words, st.sampled_from(["a", "b", "c"])), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 2**32 - 1))
def test_no_text_is_in_two_splits_and_every_row_is_accounted_for(rows, seed):
    table = as_table([label for _, label in rows], texts=[text for text, _ in rows])
    try:
        splits = split_table(table, seed=seed)
    except TableError:
        return  # too few rows or classes; the tests below say when
    keys = [set(normalise(part["text"])) for part in splits[:3]]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    assert sum(map(len, splits[:3])) + sum(splits.dropped.values()) == len(table.rows)
    for part in splits[:3]:
        assert part["row"].is_monotonic_increasing
        original = table.rows.set_index("row").loc[part["row"]]
        assert original["text"].tolist() == part["text"].tolist()
        assert original["label"].tolist() == part["label"].tolist()
    again = split_table(table, seed=seed)
    assert all(one.equals(other) for one, other in zip(splits[:3], again[:3], strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(0, 1000))
def test_every_class_keeps_its_share_and_its_place_in_training(sizes, seed):
    labels = [f"class {k}" for k, size in enumerate(sizes) for _ in range(size)]
    table = as_table(labels)
    if max(sizes) < 3:
        with pytest.raises(TableError, match="too few"):
            split_table(table, seed=seed)
        return
    splits = split_table(table, seed=seed)
    for k, size in enumerate(sizes):
        train, validation, test = ((part["label"] == f"class {k}").sum() for part in splits[:3])
        assert train >= 1
        expected = max(1, size * 0.15) if size >= 3 else 0
        assert abs(validation - expected) <= 0.5
        assert abs(test - expected) <= 0.5


def test_repeats_keep_their_first_row_and_contradictions_go():
    texts = ["one", "One ", "two", "two", "three", " THREE", *(f"more {i}" for i in range(20))]
    labels = ["a", "a", "a", "b", "b", "b", *"ab" * 10]
    splits = split_table(as_table(labels, texts=texts))
    kept = sorted(pd.concat(splits[:3])["row"])
    assert kept == [1, 5, *range(7, 27)]
    assert splits.dropped == {"conflicting_labels": 2, "repeated_text": 2}
    found = {finding.id: finding.message for finding in splits.findings}
    assert "2 rows (3, 4)" in found["conflicting-labels"]
    assert "'a', 'b'" in found["conflicting-labels"]
    assert "2 rows (2, 6)" in found["repeated-text"]


def test_contradictions_count_against_the_limit_and_repeats_do_not():
    rows = as_table([*"ab" * 10, *"xy" * 11])
    rows.rows["text"] = [f"text {i}" for i in range(20)] + ["same"] * 22
    with pytest.raises(
        TableError,
        match=r"The training data: 22 of 42 rows would be left out \(conflicting_labels 22\), more than "
        r"max_dropped=0.5 allows",
    ):
        split_table(rows)
    assert split_table(rows._replace(max_dropped=0.6)).dropped["conflicting_labels"] == 22
    rows.rows["label"] = [*"ab" * 10, *"a" * 22]
    assert split_table(rows).dropped == {"conflicting_labels": 0, "repeated_text": 21}


def test_the_same_file_twice_is_refused(tmp_path):
    content = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    table = read_table(write(tmp_path, "a.csv", content))
    with pytest.raises(
        TableError,
        match=r"a.csv, the training data: 40 of 40 rows would be left out \(training_text_in_test 40\)",
    ):
        split_table(table, test=table)
    fresh = as_table(list("ab" * 20))
    fresh.rows["text"] = "new " + fresh.rows["text"]
    with pytest.raises(
        TableError,
        match=r"a.csv, the validation data: 40 of 40 rows would be left out \(validation_text_in_test 40\)",
    ):
        split_table(fresh, validation=table, test=table)


# --- one text in two forms ----------------------------------------------------------------------------------

SAME = [
    ("a café", unicodedata.normalize("NFD", "a café")),
    ("good\u200bplace", "goodplace"),
    ("co\u00adoperate", "cooperate"),
    ("\ufeffa place", "a place"),
    ("a pl\u2060ace", "a place"),
    ("\u2067a place\u2069", "a place"),
    ("a\u00a0place", "a place"),
    ("a\u3000place", "a place"),
    ("ａ ｐｌａｃｅ！", "a place!"),
    ("a \ufb01ne place", "a fine place"),
    ("love \u2764\ufe0f", "love \u2764"),
    ("a place\x1a", "a place"),
    ("\u1112\u1161\u11ab\u1100\u1173\u11af", "\ud55c\uae00"),
    ("ｶﾞ", "ガ"),
    ("می\u200cخواهم", "میخواهم"),
    ("ක්\u200dරීඩා", "ක්රීඩා"),
    ("place\u200d", "place"),
]
DIFFERENT = [
    ("resume", "résumé"),
    ("10\u00b2 is right", "102 is right"),
    ("H\u2082O", "H2O"),
    (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 came",
        "\U0001f468\U0001f469\U0001f467 came",
    ),  # a family, and three people
    ("\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f3f3\ufe0f\U0001f308"),
    ("\U0001f44d", "\U0001f44d\U0001f3fd"),
    (
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ),
    ("re-cover", "recover"),
    ("a man", "aman"),
    ("wait\u2026", "wait"),
    ("\u0627", "\u0623"),
    ("1\ufe0f\u20e3", "1"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_text_in_another_form_is_the_same_text(one, other):
    others = [f"more {i}" for i in range(20)]
    splits = split_table(as_table([*"aa", *"ab" * 10], texts=[one, other, *others]))
    assert splits.dropped == {"conflicting_labels": 0, "repeated_text": 1}
    assert 2 not in pd.concat(splits[:3])["row"].tolist()
    splits = split_table(as_table([*"ab", *"ab" * 10], texts=[one, other, *others]))
    assert splits.dropped == {"conflicting_labels": 2, "repeated_text": 0}
    test = as_table([*"ab"], texts=[other, "new"])
    splits = split_table(as_table([*"a", *"ab" * 10], texts=[one, *others]), test=test)
    assert splits.dropped["training_text_in_test"] == 1
    assert splits.test["text"].tolist() == [other, "new"]  # as they were written


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_texts_that_look_different_are_two(one, other):
    splits = split_table(as_table("ab" * 11, texts=[one, other, *(f"more {i}" for i in range(20))]))
    assert splits.dropped == {"conflicting_labels": 0, "repeated_text": 0}


# --- your own validation and test rows ----------------------------------------------------------------------


def test_your_own_test_rows_are_never_touched():
    train = as_table("ab" * 15)
    test = as_table("bbb", texts=["TEXT  3", "text 3", "new"])
    validation = as_table("bab", texts=["text 3", "text 4", "unseen"])
    splits = split_table(train, validation, test)
    assert splits.test["text"].tolist() == ["TEXT  3", "text 3", "new"]
    assert splits.validation["text"].tolist() == ["text 4", "unseen"]
    assert splits.train["row"].tolist() == [i for i in range(1, 31) if i not in (4, 5)]
    for pair in ("validation_text_in_test", "training_text_in_test", "training_text_in_validation"):
        assert splits.dropped[pair] == 1
    assert "single-class-split" in [finding.id for finding in splits.findings]  # the test rows are all "b"


REFUSED = [
    ("a label unknown to training", "single_label", as_table("ab" * 15), as_table("c", texts=["x"]),
     "The test rows have labels that no training row has: 'c'. Correct them or add training rows"),
    ("one of several labels unknown to training", "multi_label", as_table(["a|b", "a", "b", "", "a|c"] * 20),
     as_table(["a|z"], texts=["new"]), "The test rows have labels that no training row has: 'z'"),
    ("one class", "single_label", as_table("a" * 20), None,
     "All 14 training rows have the same label, 'a': there is nothing to tell apart. Add rows"),
    ("one combination of labels", "multi_label", as_table("a" * 100), None,
     "All 70 training rows have the same label, 'a'"),
    ("one value", "regression", as_table("1" * 50, [1.0] * 50), None, "there is nothing to tell apart"),
    ("labels where values are", "regression", as_table("12" * 20), None,
     "Read every table with task='regression'"),
    ("an identifier", "single_label", as_table([f"id-{i % 1001}" for i in range(3003)]), None,
     "1,001 classes, more than 1,000: 'id-0', 'id-1', 'id-10' and 998 more. Is label_column the right one"),
    ("a task that is none", "classification", as_table("ab" * 15), None,
     "is none of single_label, multi_label, regression"),
    ("two rows", "single_label", as_table("ab"), None,
     "split would be empty: 2 rows are too few. Add rows, or give a "),
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "table", "test", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_split_that_teaches_nothing_is_refused(task, table, test, says):
    is_refused(says, split_table, table, test=test, task=task)


def test_a_class_of_one_row_is_in_training():
    splits = split_table(as_table([*"ab" * 20, "c", "d", "d"]))
    assert splits.train["label"].value_counts()[["c", "d"]].tolist() == [1, 2]
    assert [finding.message for finding in splits.findings] == [
        "The validation split has no row of 'c', 'd'.",
        "The test split has no row of 'c', 'd'.",
    ]


# --- a sample of the training rows --------------------------------------------------------------------------


def test_a_sample_keeps_the_shares_and_counts_what_it_left():
    splits = split_table(as_table("a" * 900 + "b" * 100), max_train_samples=70)
    assert splits.train["label"].value_counts().to_dict() == {"a": 63, "b": 7}
    assert splits.dropped["not_sampled"] == 700 - 70
    is_refused("fewer than 3 classes", split_table, as_table("abc" * 20), max_train_samples=2)


@pytest.mark.parametrize("wanted", [300, 301, 350, 899, 900, 901, 1499, 2999])
def test_a_sample_of_many_classes_has_the_rows_asked_for(wanted):
    labels = [f"class {k}" for k in range(300) for _ in range(14 if k else 100)]
    splits = split_table(as_table(labels), max_train_samples=wanted)
    counts = splits.train["label"].value_counts()
    assert len(splits.train) == wanted
    assert splits.dropped["not_sampled"] == 299 * 10 + 70 - wanted
    assert len(counts) == 300
    share = wanted / (wanted + splits.dropped["not_sampled"])
    assert counts.drop("class 0").between(np.floor(10 * share), np.ceil(10 * share)).all()
    assert splits.train["row"].is_monotonic_increasing


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=2, max_size=30), st.floats(0, 1), st.integers(0, 1000))
def test_a_sample_has_exactly_the_rows_asked_for_and_every_class(sizes, at, seed):
    labels = [f"class {k}" for k, size in enumerate(sizes) for _ in range(size)]
    table = as_table(labels)
    whole = split_table(table, seed=seed).train
    wanted = len(sizes) + round(at * (len(whole) - len(sizes)))
    splits = split_table(table, max_train_samples=wanted, seed=seed)
    assert len(splits.train) == wanted == len(whole) - splits.dropped.get("not_sampled", 0)
    counts, all_counts = splits.train["label"].value_counts(), whole["label"].value_counts()
    assert len(counts) == len(sizes)
    share = wanted / len(whole)
    assert all(count == 1 or count < all_counts[name] * share + 1 for name, count in counts.items())
    assert split_table(table, max_train_samples=wanted, seed=seed).train.equals(splits.train)


@settings(max_examples=30, deadline=None)
@given(st.integers(60, 200), st.integers(2, 12), st.floats(0, 0.9), st.integers(0, 10_000))
def test_a_sample_of_several_labels_has_exactly_the_rows_asked_for_and_every_label(rows, labels, at, seed):
    rng = np.random.RandomState(seed)
    has = rng.rand(rows, labels) < rng.uniform(0.02, 0.5, labels)
    joined = ["|".join(f"L{k:02}" for k in np.flatnonzero(row)) for row in has]
    table = as_table(joined)
    whole = split_table(table, task="multi_label", seed=seed).train
    names = label_names(whole["label"], "multi_label")
    wanted = max(2, len(names), round(at * len(whole)))
    train = split_table(table, task="multi_label", max_train_samples=wanted, seed=seed).train
    assert len(train) == wanted
    assert label_names(train["label"], "multi_label") == names


@pytest.mark.parametrize("wanted", [2, 7, 10, 14, 33, 399, 401, 699])
def test_a_sample_of_numbers_has_exactly_the_rows_asked_for(wanted):
    table = as_table([str(i) for i in range(1000)], np.arange(1000.0))
    train = split_table(table, task="regression", max_train_samples=wanted).train
    assert len(train) == wanted
    tenths = np.histogram(train["value"], bins=10, range=(0, 1000))[0]
    assert tenths.max() - tenths.min() <= max(2, 0.05 * wanted)


# --- several labels, numbers --------------------------------------------------------------------------------

names = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0|"), min_size=1, max_size=4)
    .map(str.strip)
    .filter(bool)
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 7), max_size=4), min_size=6, max_size=150),
    st.lists(names, min_size=8, max_size=8, unique_by=comparable),
    st.integers(0, 1000),
)
def test_multi_label_splits_keep_every_row_and_teach_every_label(sets, called, seed):
    labels = [SEPARATOR.join(sorted(called[k] for k in chosen)) for chosen in sets]
    try:
        splits = split_table(as_table(labels), task="multi_label", seed=seed)
    except TableError as error:
        assert len(set(labels)) < 3 or len(labels) < 20, error
        return
    assert sorted(pd.concat(splits[:3])["row"]) == list(range(1, len(labels) + 1))
    assert set(label_names(splits.train["label"], "multi_label")) == {
        called[k] for chosen in sets for k in chosen
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(100, 300), st.integers(2, 12), st.integers(0, 10_000))
def test_multi_label_splits_have_every_label_with_ten_rows(rows, labels, seed):
    rng = np.random.RandomState(seed)
    has = rng.rand(rows, labels) < rng.uniform(0.02, 0.5, labels)
    joined = [SEPARATOR.join(f"L{k:02}" for k in np.flatnonzero(row)) for row in has]
    splits = split_table(as_table(joined), task="multi_label", seed=seed)
    for part in splits[1:3]:
        counts = Counter(name for label in part["label"] for name in label.split(SEPARATOR))
        assert 0.1 * rows <= len(part) <= 0.22 * rows
        for k in np.flatnonzero(has.sum(axis=0) >= 10):
            assert counts[f"L{k:02}"] >= 1


def test_multi_label_conflicts_and_samples():
    table = as_table(["a|b", "a", "b", "", "a|c"] * 20)
    table.rows.loc[:1, "text"] = "the same"
    splits = split_table(table, task="multi_label", max_train_samples=30)
    assert splits.dropped["conflicting_labels"] == 2
    assert len(splits.train) == 30
    assert label_names(splits.train["label"], "multi_label") == ["a", "b", "c"]


def test_regression_splits_cover_the_range_and_compare_values_not_texts():
    value = np.random.RandomState(0).exponential(size=1000)
    table = as_table([str(v) for v in value], value)
    splits = split_table(table, task="regression", max_train_samples=400)
    assert [len(part) for part in splits[:3]] == [400, 150, 150]
    tenths = np.quantile(value, np.linspace(0, 1, 11))
    for part in splits[:3]:
        shares = np.histogram(part["value"], tenths)[0] / len(part)
        assert shares == pytest.approx(0.1, abs=0.005)
    labels = ["1", "1.0", "2", "3", *map(str, range(30))]
    twice = as_table(labels, [float(label) for label in labels])
    twice.rows.loc[:1, "text"] = "same value"
    twice.rows.loc[2:3, "text"] = "two values"
    assert split_table(twice, task="regression").dropped == {"conflicting_labels": 2, "repeated_text": 1}


# --- the same split everywhere ------------------------------------------------------------------------------


def test_the_split_of_the_tweets_is_the_one_it_always_was(tweets):
    """Scores in the notebooks depend on it."""

    def digest(part):
        return hashlib.sha256(" ".join(map(str, part["row"])).encode()).hexdigest()[:16]

    assert [*map(digest, split_table(tweets)[:3])] == [
        "b1c2efaa67d95c97",
        "63c35c759bd969e3",
        "733fb31233c04b03",
    ]
    sampled = split_table(tweets, max_train_samples=600, seed=1)
    assert [len(part) for part in sampled[:3]] == [600, 620, 620]
    assert digest(sampled.train) == "660cbb597ba30ca6"


def test_a_thousand_classes_split_in_order():
    splits = split_table(as_table([f"{k}" for k in range(1000) for _ in range(7)]))
    assert label_names(splits.train["label"]) == [str(k) for k in range(1000)]
    assert [len(part) for part in splits[:3]] == [5000, 1000, 1000]
    json.dumps(splits.dropped)


def test_a_split_keeps_a_column_called_key():
    table = as_table(list("ab" * 20))
    table.rows["_key"] = "mine"
    assert split_table(table).train["_key"].eq("mine").all()


def test_the_split_of_a_file_is_the_same_whatever_the_hash_seed(tmp_path, run_python):
    labels = ["😀", '"a,b"', "سلبي", '"say ""no"""', "../x", "B", "b", "ä", "10", "9"]
    rows = [f"text {i},{labels[i % 10]}" for i in range(200)]
    rows += [
        f"more {i},{labels[i % 10]}|{labels[i % 7]}"
        for i in range(200)
        if i % 10 not in (1, 3) and i % 7 not in (1, 3)
    ]
    path = write(tmp_path, "a.csv", "\n".join(["text,label", *rows]))
    program = """
import sys
from utils.labels import label_names
from utils.data import read_table, split_table
for task in ("single_label", "multi_label"):
    splits = split_table(read_table(sys.argv[1], task=task), task=task)
    print(ascii(label_names(splits.train["label"], task)), [part["row"].tolist() for part in splits[:3]])
"""
    runs = [run_python(program, path, PYTHONHASHSEED=str(seed)) for seed in (0, 1, 2)]
    assert runs[0].stdout
    assert len({run.stdout for run in runs}) == 1, [run.stderr for run in runs]
    names = sorted(["😀", "a,b", "سلبي", 'say "no"', "../x", "B", "b", "ä", "10", "9"])
    assert ascii(names) in runs[0].stdout


@pytest.mark.parametrize(
    ("spelt", "classes"),
    [
        (["yes", "Yes", "yes ", "YES", "no", "no\u200b"], ["no", "yes"]),
        (["1", "1.0", "1", "0", "0.0", "0"], ["0", "1"]),
        (["caf\u00e9", "cafe\u0301", "caf\u00e9", "bar", "bar", "bar"], ["bar", "caf\u00e9"]),
    ],
)
def test_a_class_in_several_spellings_is_one_and_written_in_the_commonest(spelt, classes):
    splits = split_table(as_table((spelt + 2 * classes) * 9))
    assert label_names(splits.train["label"]) == classes
    assert sum(map(len, splits[:3])) == 90


def test_names_that_only_look_alike_stay_two_classes():
    splits = split_table(as_table(["C", "c", "C++", "US", "us", "1", "01"] * 20))
    assert {*splits.train["label"]} == {"C", "c", "C++", "US", "us", "1", "01"}


def test_spellings_of_joined_labels_and_of_several_files_are_one():
    joined = as_table(["food|Room", "food|room", "Food", "room", "staff"] * 16)
    splits = split_table(joined, task="multi_label")
    assert {*splits.train["label"]} == {"food|room", "food", "room", "staff"}
    test = as_table(["yes", "No"] * 10, texts=[f"new {i}" for i in range(20)])
    splits = split_table(as_table(["Yes", "No"] * 30), test=test)
    assert {*splits.test["label"]} == {"Yes", "No"}
    assert "the files write differently count as one class: 'Yes', 'yes'" in str(splits.findings)


@pytest.mark.parametrize("kind", ["all different", "half repeated", "text and label swapped"])
def test_a_label_column_of_free_text_is_refused(kind):
    different = 120 if kind == "half repeated" else 160
    texts = ["good", "bad"] * 80 if "swapped" in kind else None
    table = as_table([f"remark {i % different}" for i in range(160)], texts=texts)
    with pytest.raises(TableError, match=r"no classes to learn\. Is label_column the right one\?"):
        split_table(table)


def test_many_small_classes_are_not_taken_for_free_text():
    labels = [f"intent {i % 77}" for i in range(231)] + [f"rare {i}" for i in range(30)]
    assert sum(map(len, split_table(as_table(labels))[:3])) == 261
