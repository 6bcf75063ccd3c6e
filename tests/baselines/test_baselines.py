"""Baselines, the ladder, suspicious labels."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from builders import of_family
from test_predict import tiny

import utils.baselines
from utils.baselines import (
    Rung,
    _logistic,
    _word_weights,
    embed,
    ladder,
    on_embeddings,
    some_rows,
    suspicious_labels,
    without_model,
)
from utils.data import split_table
from utils.labels import TASKS
from utils.metrics import bootstrap_interval, score
from utils.predict import load_classifier


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("model") / "m")


def test_the_baselines_do_what_their_names_say():
    texts = ["good film", "good day", "bad film", "good :)", "bad day", "good cat"]
    labels = ["pos", "pos", "neg", "pos", "neg", "pos"]
    found = without_model(texts, labels, ["bad cat", "good dog"])
    assert found["majority"].predicted.tolist() == ["pos", "pos"]
    assert found["tfidf_logreg"].predicted.tolist() == ["neg", "pos"]
    tie = without_model(["x", "y"], ["b", "a"], ["z"])
    assert tie["majority"].predicted.tolist() == ["a"]


def test_on_the_tweets_tfidf_beats_the_majority(tweets):

    splits = split_table(tweets)
    found = without_model(splits.train["text"], splits.train["label"], splits.validation["text"])
    accuracy = {
        name: score(splits.validation["label"], rung.predicted)["accuracy"] for name, rung in found.items()
    }
    assert accuracy["majority"] == pytest.approx((splits.validation["label"] == "positive").mean())
    assert accuracy["tfidf_logreg"] > accuracy["majority"] + 0.08


def test_the_ladder_compares_each_rung_with_the_one_below_and_the_model_with_the_best():
    labels = np.arange(200) % 2
    right = {"majority": 100, "words": 150, "embeddings": 140, "model": 190}
    guesses = {name: np.where(np.arange(200) < count, labels, 1 - labels) for name, count in right.items()}
    rungs = {name: Rung(guess, 2.0) for name, guess in guesses.items()}
    lines, comparison = ladder(labels, rungs)
    assert lines["accuracy"].tolist() == [0.5, 0.75, 0.7, 0.95]
    assert lines["gain"].tolist()[1:] == pytest.approx([0.25, -0.05, 0.25])
    assert lines["gain"].isna().tolist() == [True, False, False, False]
    for above, below in (("words", "majority"), ("model", "embeddings")):
        expected = bootstrap_interval("accuracy", labels, guesses[above], guesses[below])
        assert lines.loc[above, ["gain", "low", "high"]].tolist() == list(expected)
    assert comparison.gain == pytest.approx(0.2)
    assert "from words: accuracy 0.200 better than words's" in comparison.words
    assert "enough" not in comparison.words


def test_the_ladder_says_where_a_lower_rung_is_enough():
    labels = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    rungs = {"mean": Rung(np.full(8, 4.5), 0), "tfidf_ridge": Rung(labels, 3.4), "model": Rung(-labels, 99)}
    lines, comparison = ladder(labels, rungs, "regression")
    assert comparison.words.endswith("As far as they show, tfidf_ridge is enough: it took 3 seconds.")
    assert lines["pearson"].tolist() == pytest.approx([0, 1, -1])


def test_a_baseline_learns_from_so_many_rows_at_most():
    assert some_rows(5, 5).tolist() == [0, 1, 2, 3, 4]
    few = some_rows(1000, 10)
    assert len(set(few)) == 10 and max(few) > 500 and few.tolist() == some_rows(1000, 10).tolist()


def test_multi_label_baselines_with_labels_in_all_and_in_no_row():
    texts = ["good film", "bad film", "good day", "bad day", "good", "bad"] * 2
    labels = np.array([["good" in text, "film" in text, True, False] for text in texts]).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error", UserWarning
        )  # scikit-learn warns of such labels; here they are no mistake
        found = without_model(texts, labels, ["good cat", "bad film", "dog"], "multi_label")
    assert found["majority"].predicted.tolist() == [[0, 0, 1, 0]] * 3  # half have "good": not more than half
    assert found["tfidf_logreg"].predicted[:2].tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]
    assert found["tfidf_logreg"].predicted[2].tolist()[2:] == [1, 0]
    single = without_model(texts, labels[:, :1], ["good", "bad"], "multi_label")
    assert single["tfidf_logreg"].predicted.tolist() == [[1], [0]]
    for constant in (0, 1):
        only = without_model(texts, np.full((12, 1), constant), ["good", "bad"], "multi_label")
        assert (
            only["tfidf_logreg"].predicted.tolist() == only["majority"].predicted.tolist() == [[constant]] * 2
        )


def test_regression_baselines():
    found = without_model(
        ["good film", "bad film"] * 10, [1.0, -2.0] * 10, ["good", "bad", "cat"], "regression"
    )
    assert found["mean"].predicted.tolist() == [-0.5] * 3
    high, low, unknown = found["tfidf_ridge"].predicted
    assert (high, low, unknown) == (
        pytest.approx(1, abs=0.6),
        pytest.approx(-2, abs=0.6),
        pytest.approx(-0.5, abs=1e-6),
    )


def test_a_thousand_classes_and_classes_of_one_row():
    words = [f"w{k}" for k in range(1000)]
    texts = [*words, *words[1:]]  # the first class has one row, the others two
    found = without_model(texts, texts, words[::50])
    assert (found["tfidf_logreg"].predicted == words[::50]).mean() >= 0.9
    assert set(found["majority"].predicted) == {"w1"}
    only = without_model(["a", "b"], ["x", "x"], ["c"])
    assert only["tfidf_logreg"].predicted.tolist() == only["majority"].predicted.tolist() == ["x"]


def test_on_the_tweets_the_solver_for_many_classes_agrees_with_the_other(tweets):
    rows = tweets.rows.iloc[:1500]
    words = _word_weights()
    weights, held = words.fit_transform(rows["text"]), words.transform(tweets.rows["text"].iloc[1500:])
    usual, gradient = _logistic(weights.shape, 2), _logistic((1500, 10**6), 100)
    assert [type(model).__name__ for model in (usual, gradient)] == ["LogisticRegression", "SGDClassifier"]
    usual, gradient = (model.fit(weights, rows["label"]).predict(held) for model in (usual, gradient))
    assert (gradient == usual).mean() > 0.95


def test_labels_turned_round_come_first(tweets):
    rows = tweets.rows.iloc[:1500]
    rng = np.random.default_rng(0)
    labels = rows["label"].to_numpy(dtype=object)
    flipped = rng.choice(len(labels), 75, replace=False)
    labels[flipped] = np.where(labels[flipped] == "positive", "negative", "positive")
    found = suspicious_labels(rows["text"], labels, rows=rows["row"])
    assert list(found) == ["row", "text", "label", "suggested", "label_probability"]
    assert found["label_probability"].is_monotonic_increasing
    assert (found["label"] != found["suggested"]).all()
    share = found["row"].head(75).isin(rows["row"].to_numpy()[flipped]).mean()
    assert share > 0.35  # by chance 0.05
    assert found["text"].iloc[0] == rows.set_index("row")["text"][found["row"].iloc[0]]
    assert found.equals(suspicious_labels(rows["text"], labels, rows=rows["row"]))


def test_labels_of_odd_tables():
    alone = suspicious_labels(["a b", "a b", "a c", "x y", "x z", "odd"], ["A", "A", "A", "X", "X", "lonely"])
    assert "lonely" not in set(alone["label"])
    assert suspicious_labels(["a", "b", "c"], ["A", "A", "A"]).empty
    assert suspicious_labels([], []).empty


@pytest.mark.parametrize(("bf16", "near"), [(False, 1e-5), (True, 0.02)])
def test_an_embedding_is_the_mean_of_the_last_layer_over_the_tokens(model, monkeypatch, bf16, near):
    monkeypatch.setattr(utils.baselines, "has_bf16", lambda: bf16)
    classifier, tokenizer, *_ = load_classifier(model, "cpu")
    texts, classifier = ["a good film", "so-so " * 80, "bad"], classifier.train()
    state = torch.get_rng_state()
    found = embed(classifier, tokenizer, texts, max_length=20)
    assert classifier.training and torch.equal(state, torch.get_rng_state())
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            alone = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
            hidden = classifier.eval().bert(**alone).last_hidden_state[0]
        assert vector == pytest.approx(hidden.mean(dim=0).numpy(), abs=near)


@pytest.mark.parametrize("family", ["GPT2", "T5", "Bart", "ModernBert", "DistilBert"])
def test_other_architectures_have_embeddings_too(family, monkeypatch):
    monkeypatch.setattr(utils.baselines, "has_bf16", lambda: False)  # digits enough to compare
    made = of_family(family)
    vectors = embed(made["model"], made["tokenizer"], ["w1 w2 w3", "w4", "w1 w2"], max_length=20)
    alone = embed(made["model"], made["tokenizer"], ["w1 w2"], max_length=20)
    assert vectors.shape[0] == 3 and np.isfinite(vectors).all()
    assert vectors[2] == pytest.approx(alone[0], abs=1e-4)  # padding has no part in it


@pytest.mark.parametrize(
    ("task", "labels", "name"),
    [
        ("single_label", np.arange(40) % 2, "embeddings_logreg"),
        ("multi_label", np.eye(2, dtype=np.float32)[np.arange(40) % 2], "embeddings_logreg"),
        ("regression", (np.arange(40) % 2).astype(np.float32), "embeddings_ridge"),
    ],
)
def test_a_linear_model_on_embeddings_tells_two_kinds_of_text_apart(model, task, labels, name):
    classifier, tokenizer, *_ = load_classifier(model, "cpu")
    texts = [f"{('a bad day', 'a good film')[k % 2]} number {k}" for k in range(40)]
    rungs = on_embeddings(
        classifier, tokenizer, pd.Series(texts[:30]), labels[:30], pd.Series(texts[30:]), task, 32
    )
    assert list(rungs) == [name] and rungs[name].seconds > 0
    assert rungs[name].predicted.shape == labels[30:].shape
    assert np.abs(rungs[name].predicted - labels[30:]).max() < 0.5


@pytest.mark.parametrize("task", TASKS)
def test_the_baselines_have_the_names_of_the_task(task):
    labels = np.eye(2) if TASKS[task].joined else np.array([1.0, 0.0])
    names = [TASKS[task].constant_baseline, TASKS[task].tfidf_baseline]
    assert list(without_model(["a", "b"], labels, ["a"], task)) == names
