"""How good is it? Scores, their uncertainty, and the two baselines every fine-tuned model has to beat."""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline


def score(labels: Sequence, predicted: Sequence) -> dict[str, float]:
    """Return accuracy and macro-F1 (the mean of the classes' F1, so that a rare class counts as much as a common one).

    Args:
        labels, predicted: shape (rows,), class ids or names. F1 of a class that is never predicted is 0.
    """
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0)),
    }


def compute_metrics(prediction) -> dict[str, float]:
    """The `compute_metrics` of Trainer for one label a row.

    Args:
        prediction: an `EvalPrediction`: `predictions` are logits of shape (rows, classes), `label_ids` has shape (rows,).

    Returns:
        accuracy, f1_macro, and predicted_classes: how many different classes were predicted (1 means the model has collapsed).
    """
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    predicted = logits.argmax(axis=-1)
    return score(prediction.label_ids, predicted) | {"predicted_classes": len(np.unique(predicted))}


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """Return the 95% interval of an accuracy of `correct` out of `rows` (Wilson 1927)."""
    interval = stats.binomtest(int(correct), int(rows)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def accuracy_gain_interval(labels: Sequence, predicted: Sequence, baseline: Sequence, seed: int = 0) -> tuple[float, float, float]:
    """Return how much more accurate `predicted` is than `baseline` on the same rows, with its 95% interval.

    Both are scored on the same rows, so the rows are resampled in pairs (percentile bootstrap, Efron 1979; 10,000 resamples).

    Returns:
        gain, low, high: differences of accuracy between -1 and 1. An interval that holds 0 means that these rows cannot tell them apart.
    """
    labels, predicted, baseline = map(np.asarray, (labels, predicted, baseline))
    difference = (predicted == labels).astype(float) - (baseline == labels).astype(float)
    # The mean of a resample depends only on how many rows of each kind it drew, so drawing the counts is the same and 100 times faster.
    kinds, counts = np.unique(difference, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(labels), counts / len(labels), size=10_000)
    low, high = np.percentile(draws @ kinds / len(labels), [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)


def baseline_predictions(train_texts: Sequence[str], train_labels: Sequence, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what the baselines predict for `texts` after seeing the training rows.

    Returns:
        majority: always the commonest training label (the first in sorted order where two are equally common);
        tfidf_logreg: logistic regression on the TF-IDF weights of words and word pairs. Each has shape (len(texts),).
    """
    names, counts = np.unique(np.asarray(train_labels), return_counts=True)
    # A token is a run of non-blanks here: scikit-learn's default would throw away ":)", "!" and one-letter words.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]+")
    classifier = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
    classifier.fit(list(train_texts), np.asarray(train_labels))
    return {
        "majority": np.full(len(texts), names[counts.argmax()]),
        "tfidf_logreg": classifier.predict(list(texts)),
    }
