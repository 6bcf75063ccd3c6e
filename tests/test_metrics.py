"""Scores, intervals, baselines."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from utils.metrics import accuracy_gain_interval, baseline_predictions, compute_metrics, score, wilson_interval


def test_score_by_hand():
    # class a: precision 2/3, recall 1, F1 0.8; class b: precision 1, recall 1/2, F1 2/3; class c: never predicted, F1 0
    result = score(list("aabbc"), list("aabaa"))
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert score(list("aabb"), list("aaba")) == pytest.approx({"accuracy": 0.75, "f1_macro": (0.8 + 2 / 3) / 2})
    assert score(list("abc"), list("abb"))["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_compute_metrics_counts_the_predicted_classes():
    logits = np.array([[2.0, 1.0, 0.0], [0.5, 0.1, 0.0], [0.0, 3.0, 1.0]])
    result = compute_metrics(SimpleNamespace(predictions=logits, label_ids=np.array([0, 1, 1])))
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["predicted_classes"] == 2
    with_hidden_states = SimpleNamespace(predictions=(logits, np.zeros((3, 9))), label_ids=np.array([0, 1, 1]))
    assert compute_metrics(with_hidden_states) == result


def test_wilson_interval_is_the_published_formula():
    correct, rows = 585, 620
    p, z = correct / rows, stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(p * (1 - p) / rows + z**2 / (4 * rows**2))
    assert wilson_interval(correct, rows) == pytest.approx((middle - half, middle + half))
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(10, 10)[0] < 0.75  # ten right out of ten is not certainty


def test_gain_interval_agrees_with_scipy_and_sees_pairs():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    good = np.where(rng.random(400) < 0.9, labels, 1 - labels)
    poor = np.where(rng.random(400) < 0.8, labels, 1 - labels)
    gain, low, high = accuracy_gain_interval(labels, good, poor)
    difference = (good == labels).astype(float) - (poor == labels)
    reference = stats.bootstrap((difference,), np.mean, method="percentile", rng=2).confidence_interval
    assert gain == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.006)
    assert low > 0
    assert accuracy_gain_interval(labels, good, good) == (0.0, 0.0, 0.0)


def test_the_baselines_do_what_their_names_say():
    texts = ["good film", "good day", "bad film", "good :)", "bad day", "good cat"]
    labels = ["pos", "pos", "neg", "pos", "neg", "pos"]
    found = baseline_predictions(texts, labels, ["bad cat", "good dog"])
    assert found["majority"].tolist() == ["pos", "pos"]
    assert found["tfidf_logreg"].tolist() == ["neg", "pos"]
    tie = baseline_predictions(["x", "y"], ["b", "a"], ["z"])
    assert tie["majority"].tolist() == ["a"]


def test_on_the_tweets_tfidf_beats_the_majority(tweets):
    from utils.data import split_table

    splits = split_table(tweets)
    found = baseline_predictions(splits.train["text"], splits.train["label"], splits.validation["text"])
    accuracy = {name: score(splits.validation["label"], guess)["accuracy"] for name, guess in found.items()}
    assert accuracy["majority"] == pytest.approx((splits.validation["label"] == "positive").mean())
    assert accuracy["tfidf_logreg"] > accuracy["majority"] + 0.08
