"""How good is it, and can the number be trusted? Scores, intervals and baselines of all three tasks, thresholds, calibration, suspicious labels."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, sparse, special, stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

TASKS = ("single_label", "multi_label", "regression")
SMALLER_IS_BETTER = ("mae",)
MOST = 1.5  # a label is given to at most so many times the rows that have it


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, not {task!r}.")


def score(labels: Sequence, predicted: Sequence, task: str = "single_label") -> dict[str, float]:
    """Return the scores of a task.

    Args:
        labels, predicted: single_label: shape (rows,), class ids or names. multi_label: shape (rows, labels), 0 or 1.
            regression: shape (rows,), numbers.

    Returns:
        single_label: accuracy and f1_macro (the mean of the classes' F1, so that a rare class counts as much as a common one; F1 of a class
            that is never predicted is 0).
        multi_label: accuracy (share of the rows with every label right), f1_micro (F1 over all cells of the table) and f1_macro (the mean over the
            labels; one that no row has and that is never predicted is left out).
        regression: pearson, spearman and mae (mean absolute error, in the unit of the labels). A correlation with a constant is not defined; it counts
            as 0, which is what such predictions are worth, and which JSON can hold.

    Raises:
        ValueError: there are no rows, or the two differ in shape.
    """
    _check_task(task)
    labels, predicted = _as_rows([labels, predicted], task)
    if task == "single_label":
        return {
            "accuracy": float(accuracy_score(labels, predicted)),
            "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        }
    if task == "multi_label":
        of_labels = (
            f1_score(labels, predicted, average=None, zero_division=np.nan)
            if labels.shape[1] > 1
            else [f1_score(labels, predicted, zero_division=np.nan)]
        )
        defined = [value for value in of_labels if not math.isnan(value)]
        return {
            "accuracy": float((labels == predicted).all(axis=1).mean()),
            "f1_micro": float(f1_score(labels.ravel(), predicted.ravel(), zero_division=0)),
            "f1_macro": float(np.mean(defined)) if defined else 0.0,
        }
    constant = np.ptp(labels) == 0 or np.ptp(predicted) == 0
    return {
        "pearson": 0.0 if constant else float(stats.pearsonr(labels, predicted).statistic),
        "spearman": 0.0 if constant else float(stats.spearmanr(labels, predicted).statistic),
        "mae": float(np.abs(labels - predicted).mean()),
    }


def _as_rows(tables: list, task: str) -> list[np.ndarray]:
    """Turn labels and predictions into arrays of one shape."""
    if task == "regression":
        arrays = [np.asarray(table, dtype=float).reshape(len(table)) for table in tables]
    elif task == "multi_label":
        arrays = [np.asarray(table).astype(int) for table in tables]
    else:
        arrays = [np.asarray(table) for table in tables]
    if any(array.shape != arrays[0].shape for array in arrays):
        raise ValueError(
            f"Labels and predictions must have one shape, not {' and '.join(str(array.shape) for array in arrays)}."
        )
    if not len(arrays[0]):
        raise ValueError("There are no rows to score.")
    return arrays


def _logits(prediction) -> np.ndarray:
    return prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions


def compute_metrics(prediction) -> dict[str, float]:
    """The `compute_metrics` of Trainer for one label a row.

    Args:
        prediction: an `EvalPrediction`: `predictions` are logits of shape (rows, classes), `label_ids` has shape (rows,).

    Returns:
        accuracy, f1_macro, and predicted_classes: how many different classes were predicted (1 means the model has collapsed).
    """
    predicted = _logits(prediction).argmax(axis=-1)
    return score(prediction.label_ids, predicted) | {"predicted_classes": len(np.unique(predicted))}


def compute_metrics_multi_label(prediction) -> dict[str, float]:
    """The `compute_metrics` of Trainer for any number of labels a row; a label is predicted where its logit is 0 or above (probability 0.5).

    Args:
        prediction: an `EvalPrediction`: `predictions` are logits of shape (rows, labels), `label_ids` 0 or 1 in the same shape.

    Returns:
        accuracy, f1_micro, f1_macro (see `score`), and predicted_classes: how many labels were predicted for at least one row.
    """
    predicted = _logits(prediction) >= 0
    return score(prediction.label_ids, predicted, "multi_label") | {
        "predicted_classes": int(predicted.any(axis=0).sum())
    }


def compute_metrics_regression(prediction) -> dict[str, float]:
    """The `compute_metrics` of Trainer for a number a row: pearson, spearman, mae (see `score`).

    Args:
        prediction: an `EvalPrediction`: `predictions` has shape (rows, 1) or (rows,), `label_ids` (rows,).
    """
    return score(prediction.label_ids, _logits(prediction), "regression")


def compute_metrics_for(task: str) -> Callable:
    """Return the function that Trainer takes as `compute_metrics` for a task."""
    _check_task(task)
    return {
        "single_label": compute_metrics,
        "multi_label": compute_metrics_multi_label,
        "regression": compute_metrics_regression,
    }[task]


def probabilities_of(logits, task: str = "single_label") -> np.ndarray:
    """Return what the model's raw scores say: softmax over the classes, a sigmoid for each label, or (regression) the numbers themselves.

    Args:
        logits: shape (rows, outputs).

    Returns:
        float64, the same shape; for regression (rows,).
    """
    _check_task(task)
    logits = np.asarray(logits, dtype=float)
    if task == "regression":
        return logits.reshape(len(logits))
    return special.softmax(logits, axis=-1) if task == "single_label" else special.expit(logits)


def decide(probabilities, task: str = "single_label", thresholds=None) -> np.ndarray:
    """Return the predictions that follow from `probabilities_of`.

    Args:
        thresholds: what `choose_thresholds` returned. multi_label: shape (labels,); None means 0.5 for all. single_label with two classes: one
            number, from which probability on class 1 is the answer; None means the more probable class.

    Returns:
        single_label: class ids, shape (rows,); multi_label: 0 or 1, shape (rows, labels); regression: the numbers.
    """
    _check_task(task)
    probabilities = np.asarray(probabilities)
    if task == "regression":
        return probabilities
    if task == "multi_label":
        return (probabilities >= (0.5 if thresholds is None else np.asarray(thresholds))).astype(int)
    if thresholds is None:
        return probabilities.argmax(axis=-1)
    if probabilities.shape[1] != 2:
        raise ValueError(f"A threshold is for two classes; there are {probabilities.shape[1]}.")
    return (probabilities[:, 1] >= float(thresholds)).astype(int)


def choose_thresholds(labels, probabilities, least: int = 10):
    """Return the thresholds with the best F1 on these rows, which must be validation rows: on test rows they would flatter the score.

    Between two probabilities the threshold is their middle; of several equally good ones, the nearest to 0.5 is taken. For multi_label a threshold may give
    a label to at most 1.5 times the rows that have it: the best F1 of a label that the model knows nothing of is reached by giving it to every row
    (Lipton, Elkan and Naryanaswamy 2014), which would spoil all else.

    On six labels made of the bundled sets (shares of 1% to 55%), MiniLM after two epochs: macro-F1 0.36 at 0.5 and 0.61 with chosen thresholds.

    Args:
        labels: multi_label: 0 or 1, shape (rows, labels). single_label with two classes: class ids 0 or 1, shape (rows,).
        probabilities: the same shape; for two classes the probability of class 1.
        least: a label with fewer rows that have it, or fewer that lack it, keeps 0.5: so few cannot show which threshold is better.

    Returns:
        multi_label: shape (labels,), each with the best F1 of its label. Two classes: one number, with the best mean of both classes' F1 (f1_macro).
    """
    labels, probabilities = np.asarray(labels).astype(int), np.asarray(probabilities, dtype=float)
    if labels.shape != probabilities.shape:
        raise ValueError(
            f"labels and probabilities must have one shape, not {labels.shape} and {probabilities.shape}."
        )
    if labels.ndim == 2:
        return np.array(
            [_best_threshold(labels[:, k], probabilities[:, k], least, False) for k in range(labels.shape[1])]
        )
    return _best_threshold(labels, probabilities, least, True)


def _best_threshold(labels: np.ndarray, probabilities: np.ndarray, least: int, both: bool) -> float:
    rows, positives = len(labels), int(labels.sum())
    if min(positives, rows - positives) < max(least, 1):
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    ordered = np.concatenate([[1.0], probabilities[order], [0.0]])
    taken = np.arange(rows + 1)  # the k most probable rows are called positive
    hits = np.concatenate([[0], np.cumsum(labels[order])])
    f1 = 2 * hits / (taken + positives)
    if both:
        rejected = (rows - positives) - (taken - hits)  # rightly
        f1 = (f1 + 2 * rejected / ((rows - taken) + (rows - positives))) / 2
    middles = (ordered[:-1] + ordered[1:]) / 2
    possible = ordered[:-1] > ordered[1:]  # rows of equal probability stay together
    if not both:
        possible &= taken <= max(
            MOST * positives, 1
        )  # or a label that was not learnt at all would be given to nearly every row
    if not possible.any():
        return 0.5
    f1, middles = f1[possible], middles[possible]
    best = np.flatnonzero(np.isclose(f1, f1.max(), rtol=0, atol=1e-12))
    return float(middles[best[np.argmin(np.abs(middles[best] - 0.5))]])


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """Return the 95% interval of an accuracy of `correct` out of `rows` (Wilson 1927)."""
    interval = stats.binomtest(int(correct), int(rows)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    metric: str | Callable, labels, predicted, baseline=None, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Return a score with its 95% interval, or, with `baseline`, how much better the model is than the baseline on the same rows.

    Rows are drawn with replacement and the score is computed anew on each draw (percentile bootstrap, Efron 1979). Model and baseline get the
    same draws, so that rows that are hard for both do not blur the difference. It knows nothing of luck in training: another seed is another model.
    For a single accuracy, above all one near 0 or 1, `wilson_interval` is better.

    Args:
        metric: "accuracy" (multi_label: all labels of a row right), "f1_macro", "f1_micro", "pearson", "spearman", "mae"; or a function of
            (labels, predicted) for which larger is better, which is called for each draw and so is slow: lower `resamples` for it.
        labels, predicted, baseline: shaped as for `score`.

    Returns:
        value, low, high. With `baseline`, positive means that the model is better; for mae, that its error is smaller.
    """
    value, draws = _bootstrap(metric, labels, predicted, baseline, resamples, seed)
    low, high = np.percentile(draws, [2.5, 97.5])
    return value, float(low), float(high)


def accuracy_gain_interval(
    labels: Sequence, predicted: Sequence, baseline: Sequence, seed: int = 0
) -> tuple[float, float, float]:
    """Return how much more accurate `predicted` is than `baseline` on the same rows, with its 95% interval: `bootstrap_interval` of accuracy.

    Returns:
        gain, low, high: differences of accuracy between -1 and 1. An interval that holds 0 means that these rows cannot tell them apart.
    """
    return bootstrap_interval("accuracy", labels, predicted, baseline, seed=seed)


def _bootstrap(
    metric: str | Callable, labels, predicted, baseline, resamples: int, seed: int
) -> tuple[float, np.ndarray]:
    """Return the value on all rows, and those of the draws, shape (resamples,)."""
    sign = -1.0 if metric in SMALLER_IS_BETTER and baseline is not None else 1.0
    tables = [labels, predicted] if baseline is None else [labels, predicted, baseline]
    rng = np.random.default_rng(seed)
    if callable(metric):
        tables = _as_rows(tables, "single_label")

        def gain(rows) -> float:
            truth, *guesses = (table[rows] for table in tables)
            return float(metric(truth, guesses[0]) - (metric(truth, guesses[1]) if len(guesses) > 1 else 0))

        everything = np.arange(len(tables[0]))
        return gain(everything), np.array(
            [gain(rng.choice(everything, len(everything))) for _ in range(resamples)]
        )

    if metric not in SCORES:
        raise ValueError(f"metric must be one of {', '.join(SCORES)} or a function, not {metric!r}.")
    if metric in ("pearson", "spearman", "mae"):
        tables = _as_rows(tables, "regression")
    else:
        tables = _as_rows(tables, "multi_label" if np.ndim(labels) == 2 else "single_label")
        if tables[0].ndim == 1:  # names to numbers, the same for all
            codes = np.unique(np.concatenate(tables), return_inverse=True)[1]
            tables = np.split(codes, len(tables))
    # A draw is fully told by how many rows of each kind it holds, and of classes there are far fewer kinds than rows.
    joined = np.stack(tables, axis=1) if tables[0].ndim == 1 else np.hstack(tables)
    first, counts = np.unique(joined, axis=0, return_index=True, return_counts=True)[1:]
    truth, *guesses = (table[first] for table in tables)
    scores = [SCORES[metric](truth, guess) for guess in guesses]

    def gains(weights: np.ndarray) -> np.ndarray:
        values = [of_weights(weights) for of_weights in scores]
        return sign * (values[0] - values[1]) if len(values) > 1 else values[0]

    rows, draws = int(counts.sum()), []
    chunk = max(1, 2_000_000 // len(counts))  # 16 MB of counts at a time
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        draws.append(gains(rng.multinomial(rows, counts / rows, size=size).astype(float)))
    return float(gains(counts[None].astype(float))[0]), np.concatenate(draws)


def _accuracy(labels: np.ndarray, predicted: np.ndarray) -> Callable:
    right = (labels == predicted).reshape(len(labels), -1).all(axis=1).astype(float)
    return lambda weights: weights @ right / weights.sum(axis=1)


def _f1(labels: np.ndarray, predicted: np.ndarray, macro: bool) -> Callable:
    if labels.ndim == 1:
        classes = int(max(labels.max(), predicted.max())) + 1
        true, guessed = (
            sparse.csr_array((np.ones(len(ids)), (np.arange(len(ids)), ids)), shape=(len(ids), classes))
            for ids in (labels, predicted)
        )
    else:
        true, guessed = sparse.csr_array(labels.astype(float)), sparse.csr_array(predicted.astype(float))
    hits, sizes = true.multiply(guessed).tocsr(), (true + guessed).tocsr()

    def of_weights(weights: np.ndarray) -> np.ndarray:
        hit, size = (hits.T @ weights.T).T, (sizes.T @ weights.T).T  # shape (draws, classes)
        if not macro:
            hit, size = hit.sum(axis=1, keepdims=True), size.sum(axis=1, keepdims=True)
        met = size > 0  # a class that the draw neither has nor predicts is left out of its mean
        f1 = np.divide(2 * hit, size, out=np.zeros(size.shape), where=met)
        return f1.sum(axis=1) / np.maximum(met.sum(axis=1), 1)

    return of_weights


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted correlation by row. x, y: shape (rows,), the same in all draws, or (draws, rows). 0 where either is constant."""
    rows = weights.sum(axis=1)
    mean = [
        np.sum(weights * values, axis=1) / rows if values.ndim == 2 else weights @ values / rows
        for values in (x, y, x * x, y * y, x * y)
    ]
    spread = np.maximum(mean[2] - mean[0] ** 2, 0) * np.maximum(mean[3] - mean[1] ** 2, 0)
    return np.divide(
        mean[4] - mean[0] * mean[1], np.sqrt(spread), out=np.zeros(len(rows)), where=spread > 1e-20
    )


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() or 1)


def _pearson(labels: np.ndarray, predicted: np.ndarray) -> Callable:
    x, y = _standard(labels), _standard(predicted)
    return lambda weights: _correlation(x, y, weights)


def _spearman(labels: np.ndarray, predicted: np.ndarray) -> Callable:
    groups = [np.unique(values, return_inverse=True)[1] for values in (labels, predicted)]

    def ranks(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
        members = sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))))
        counts = (members @ weights.T).T
        middle = np.cumsum(counts, axis=1) - counts / 2  # equal values share the mean of their ranks
        return (middle / len(group) - 0.5)[:, group]

    return lambda weights: _correlation(*(ranks(weights, group) for group in groups), weights)


def _mae(labels: np.ndarray, predicted: np.ndarray) -> Callable:
    error = np.abs(labels - predicted)
    return lambda weights: weights @ error / weights.sum(axis=1)


SCORES: dict[str, Callable] = {
    "accuracy": _accuracy,
    "f1_macro": lambda labels, predicted: _f1(labels, predicted, macro=True),
    "f1_micro": lambda labels, predicted: _f1(labels, predicted, macro=False),
    "pearson": _pearson,
    "spearman": _spearman,
    "mae": _mae,
}


class Comparison(NamedTuple):
    """What `compare` returns.

    gain, low, high: of `bootstrap_interval`; positive means that the model is better.
    verdict: "better", "worse" or "not distinguishable".
    rows_needed: about how many test rows would tell a difference of this size, in four tests of five; None where there is no difference.
    words: all of it in one or two sentences.
    """

    gain: float
    low: float
    high: float
    verdict: str
    rows_needed: int | None
    words: str


def compare(metric: str, labels, predicted, baseline, seed: int = 0) -> Comparison:
    """Say whether these test rows can tell the model from the baseline.

    They can if the 95% interval of the paired bootstrap leaves out 0 and the two differ on at least six rows: with fewer, no split of them would be
    significant in McNemar's exact test (2 * 0.5**5 > 0.05), and a bootstrap of a handful of rows is too sure of itself.

    `rows_needed` is the usual sample size for a paired difference, rows * ((1.96 + 0.84) * standard error / gain)**2: 5% level, 80% power. For
    accuracy that is the sample size of McNemar's test (Miettinen 1968; Connor 1987), but for a term that vanishes with small gains. It takes the gain seen
    here for the true one, which on few rows it is not: read it as an order of magnitude.

    Args:
        metric: a name that `bootstrap_interval` knows.
        labels, predicted, baseline: shaped as for `score`.
    """
    gain, draws = _bootstrap(metric, labels, predicted, baseline, 10_000, seed)
    low, high = (float(value) for value in np.percentile(draws, [2.5, 97.5]))
    rows = len(labels)
    differing = int(
        (np.asarray(predicted).reshape(rows, -1) != np.asarray(baseline).reshape(rows, -1)).any(axis=1).sum()
    )
    verdict = (
        "not distinguishable" if low <= 0 <= high or differing < 6 else "better" if gain > 0 else "worse"
    )
    needed = None
    if gain and draws.std():
        needed = math.ceil(rows * ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * draws.std() / gain) ** 2)
        needed = max(needed, math.ceil(6 * rows / differing))
    size = f"{metric} {abs(gain):.3f} {'better' if gain > 0 else 'worse'} than the baseline's, 95% interval of the gain {low:+.3f} to {high:+.3f}"
    if verdict != "not distinguishable":
        words = f"These {rows:,} rows tell the model from the baseline: {size}."
    elif needed is None:
        words = f"These {rows:,} rows cannot tell the model from the baseline: their {metric} is equal, {differing:,} rows differ."
    else:
        words = (
            f"These {rows:,} rows cannot tell the model from the baseline: {size}, {differing:,} rows differ."
        )
        words += f" If the true gain is of this size, about {_two_digits(needed):,} test rows would show it."
    return Comparison(gain, low, high, verdict, needed, words)


def _two_digits(number: int) -> int:
    """Round up to two digits: more would claim a precision that an estimate lacks."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit


def baseline_predictions(
    train_texts: Sequence[str], train_labels: Sequence, texts: Sequence[str], task: str = "single_label"
) -> dict[str, np.ndarray]:
    """Return what the baselines predict for `texts` after seeing the training rows.

    Args:
        train_labels: shaped as for `score`.

    Returns:
        single_label: majority, always the commonest training label (the first in sorted order where two are equally common), and tfidf_logreg, logistic
            regression on the TF-IDF weights of words and word pairs; shape (len(texts),).
        multi_label: majority, for each label the commoner of having it and not (not, where equal), and tfidf_logreg, a logistic regression for
            each label; 0 or 1, shape (len(texts), labels).
        regression: mean, the mean of the training labels, and tfidf_ridge, ridge regression on the same TF-IDF weights; shape (len(texts),).
    """
    _check_task(task)
    texts = list(texts)
    if task == "regression":
        constant = {"mean": np.full(len(texts), np.mean(np.asarray(train_labels, dtype=float)))}
    elif task == "multi_label":
        constant = {
            "majority": np.tile((np.asarray(train_labels).mean(axis=0) > 0.5).astype(int), (len(texts), 1))
        }
    else:
        names, counts = np.unique(np.asarray(train_labels), return_counts=True)
        constant = {"majority": np.full(len(texts), names[counts.argmax()])}
        if len(names) == 1:
            return constant | {"tfidf_logreg": constant["majority"]}
    predicted = fit_tfidf(train_texts, train_labels, task).predict(texts)
    if task == "multi_label":
        predicted = predicted.reshape(constant["majority"].shape)  # scikit-learn makes one column flat
    return constant | {"tfidf_ridge" if task == "regression" else "tfidf_logreg": predicted}


def fit_tfidf(texts: Sequence[str], labels: Sequence, task: str = "single_label") -> Pipeline:
    """Return the fitted TF-IDF baseline of a task, with `predict` and, for labels, `predict_proba` (to choose thresholds for it too, say).

    Args:
        labels: shaped as for `score`; single_label needs two classes or more.
    """
    words = _word_weights()
    weights = words.fit_transform(list(texts))
    labels = np.asarray(labels)
    if (
        task == "regression"
    ):  # between 0.1 and 0.5 the weight hardly matters on the bundled sets; scikit-learn's 1 is worse on all four
        return make_pipeline(words, Ridge(alpha=0.3).fit(weights, labels.astype(float)))
    if task == "single_label":
        return make_pipeline(words, _logistic(weights.shape, len(np.unique(labels))).fit(weights, labels))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Label .* is present in all training examples"
        )  # then it is predicted always or never, as it should be
        return make_pipeline(
            words,
            OneVsRestClassifier(_logistic(weights.shape, labels.shape[1])).fit(weights, labels.astype(int)),
        )


def _word_weights() -> TfidfVectorizer:
    # A token is a run of non-blanks here: scikit-learn's default would throw away ":)", "!" and one-letter words.
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]+")


def _logistic(shape: tuple[int, int], classes: int) -> LogisticRegression | SGDClassifier:
    """Return a classifier for TF-IDF weights of this shape.

    With many classes the usual solver holds some 25 copies of all coefficients: 25 GB for 1,000 classes and 100,000 word pairs. Above 5 million
    coefficients (1 GB) stochastic gradient descent minimises the same regularised loss, one class against the rest, in a third of the time.
    """
    rows, features = shape
    if (classes if classes > 2 else 1) * features <= 5_000_000:
        return LogisticRegression(C=10, max_iter=1000)
    return SGDClassifier(
        loss="log_loss", alpha=1 / (10 * rows), random_state=0
    )  # alpha and C are two ways of writing one weight


def reliability(labels, probabilities, bins: int = 15) -> pd.DataFrame:
    """Return how often the model is right where it is so sure: one line for each bin of probability that holds any.

    Args:
        labels: class ids, shape (rows,), or, for multi_label, 0 or 1, shape (rows, labels).
        probabilities: shape (rows, classes) or (rows, labels).
        bins: how many bins of equal width from 0 to 1; the upper edge belongs to a bin.

    Returns:
        low, high (the bin's edges), rows, confidence (mean probability of the answer) and right (share of the answers that are right). For multi_label
        each cell of the table counts as a row: confidence is the mean probability of the labels in the bin, right the share of them that are there.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if not len(labels):
        raise ValueError("There are no rows to score.")
    if labels.ndim == 1:
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    else:
        confidence, right = probabilities.ravel(), labels.ravel() == 1
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    rows = np.bincount(place, minlength=bins)
    met = rows > 0
    means = (
        np.bincount(place, weights=values, minlength=bins)[met] / rows[met]
        for values in (confidence, right.astype(float))
    )
    return pd.DataFrame(
        dict(
            zip(
                ("low", "high", "rows", "confidence", "right"),
                (edges[:-1][met], edges[1:][met], rows[met], *means),
                strict=True,
            )
        )
    )


def expected_calibration_error(labels, probabilities, bins: int = 15) -> float:
    """Return by how much the probabilities are off on average: |confidence - share right|, over the bins of `reliability`, weighted by their rows.

    0 is perfect, 0.1 means ten points too sure or too unsure. 15 bins of equal width as in Guo et al. (2017, "On calibration of modern neural
    networks"). Few rows make it too high: with 600, a perfectly calibrated model gets 0.01 to 0.02 by chance. For multi_label the many labels that are rightly near 0
    make it small; look at the diagram too.

    Args:
        labels, probabilities: as for `reliability`.
    """
    table = reliability(labels, probabilities, bins)
    return float((table["rows"] * (table["confidence"] - table["right"]).abs()).sum() / table["rows"].sum())


def fit_temperature(logits, labels, task: str = "single_label") -> float:
    """Return the number by which to divide the logits so that their probabilities fit the labels best (temperature scaling, Guo et al. 2017).

    Above 1 the model was too sure, below 1 not sure enough. The order of the classes stays, so single-label predictions and accuracy do too, and for
    multi_label those at the threshold 0.5. Use validation rows, at least some hundred of them; `fold_temperature` puts the number into the model.

    Args:
        logits: shape (rows, classes) or (rows, labels).
        labels: class ids, shape (rows,), or, for multi_label, 0 or 1, shape (rows, labels).

    Returns:
        between 0.05 and 20; 1.0 where every answer is right, since such rows cannot say how sure is too sure.
    """
    if task not in ("single_label", "multi_label"):
        raise ValueError(
            f"task must be single_label or multi_label, not {task!r}: a number has no probability to calibrate."
        )
    logits, labels = np.asarray(logits, dtype=float), np.asarray(labels).astype(int)
    if not len(labels):
        raise ValueError("There are no rows to fit a temperature to.")
    if (decide(probabilities_of(logits, task), task) == labels).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if task == "single_label":
            return -special.log_softmax(scaled, axis=1)[np.arange(len(labels)), labels].mean()
        return np.logaddexp(0, np.where(labels == 1, -scaled, scaled)).mean()

    return float(
        np.exp(optimize.minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded").x)
    )


def fold_temperature(model, temperature: float) -> None:
    """Divide the logits of a sequence classifier by `temperature` for good, by dividing weight and bias of its last linear layer.

    What is saved then is calibrated for everybody who loads it: `pipeline("text-classification", model=folder)` needs no extra step, where a number in
    config.json would be read by nobody. It is noted there all the same, as `folded_temperature`. Call it once, after training and before saving.

    Args:
        model: a Transformers model for sequence classification. Its last `torch.nn.Linear` with `num_labels` outputs is taken for the head, and its
            logits before and after are compared.

    Raises:
        ValueError: the model has no such layer, or dividing it does not divide the logits (it is then left as it was), or it was done before.
    """
    import torch

    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"The temperature must be a number above 0, not {temperature!r}.")
    if getattr(model.config, "folded_temperature", None) is not None:
        raise ValueError(
            f"This model was divided by {model.config.folded_temperature} already. Fit and fold once, or load it anew from before. "
            "To train on from a saved model, call utils.models.forget_last_run(model) first."
        )
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == model.config.num_labels
    ]
    if not heads:
        raise ValueError(
            f"{type(model).__name__} has no linear layer with {model.config.num_labels} outputs: divide its logits by {temperature:g} yourself."
        )
    weights = [weight for weight in (heads[-1].weight, heads[-1].bias) if weight is not None]
    # One text of any tokens will do for the comparison. The last one ends it: models such as BART read their answer there.
    end = model.config.eos_token_id if isinstance(getattr(model.config, "eos_token_id", None), int) else 5
    text = torch.tensor([[7, 6, 8, end]], device=model.device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            before, kept = model(input_ids=text).logits.float(), [weight.clone() for weight in weights]
            for weight in weights:
                weight /= temperature
            after = model(input_ids=text).logits.float()
            if not torch.allclose(
                after * temperature,
                before,
                rtol=1e-3 if weights[0].dtype == torch.float32 else 0.05,
                atol=1e-5 * float(before.abs().max()),
            ):
                for weight, old in zip(weights, kept, strict=True):
                    weight.copy_(old)
                raise ValueError(
                    f"The logits of {type(model).__name__} are not those of its last linear layer: divide them by {temperature:g} yourself."
                )
    finally:
        model.train(training)
    model.config.folded_temperature = float(temperature)


def suspicious_labels(
    texts: Sequence[str],
    labels: Sequence,
    rows: Sequence | None = None,
    embeddings: np.ndarray | None = None,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the rows whose label a model trained on the other rows disbelieves, the most suspicious first: a list to review by hand.

    Each row gets its probabilities from a model that has not seen it (cross-validation), and is judged by that of its own label: the
    self-confidence of confident learning (Northcutt, Jiang and Chuang 2021). The model is logistic regression on TF-IDF; with `embeddings`, the
    mean of that and of a logistic regression on them, which finds a quarter more: with 5% of the tweets' labels turned round, 65% of the 5% most suspicious
    rows were such rows, against 53% with TF-IDF alone.

    Args:
        texts, labels: training rows; labels as names or ids, one each.
        rows: their numbers in your file, for the list; None counts from 0.
        embeddings: a vector for each text, shape (len(texts), size), as `utils.predict.embed` makes them.
        folds: how many parts; one model is trained for each.

    Returns:
        row, text, label, suggested (the label believed most) and probability (of the given label, 0 to 1). Only rows where the two labels differ.
        Rows that are alone in their class cannot be judged, and are not in it.
    """
    texts, given = np.asarray(list(texts), dtype=object), np.asarray(labels)
    names, ids = np.unique(given, return_inverse=True)
    rows = np.arange(len(texts)) if rows is None else np.asarray(rows)
    # Dealt out class by class in a random order, every fold gets its share of every class, however few there are.
    rng = np.random.default_rng(seed)
    fold = np.empty(len(ids), dtype=int)
    shuffled = rng.permutation(len(ids))
    fold[shuffled[np.argsort(ids[shuffled], kind="stable")]] = np.arange(len(ids)) % folds
    if not len(ids):
        return pd.DataFrame({name: [] for name in ("row", "text", "label", "suggested", "probability")})
    views = [(_word_weights().fit_transform(texts), lambda shape, classes: _logistic(shape, classes))]
    if embeddings is not None:
        views.append(
            (
                np.asarray(embeddings),
                lambda shape, classes: make_pipeline(
                    StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)
                ),
            )
        )
    probabilities = np.zeros((len(ids), len(names)))
    for k in range(folds):
        seen, unseen = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        known = np.unique(ids[seen])
        if not len(unseen):
            continue
        if len(known) == 1:
            probabilities[unseen, known[0]] = 1
            continue
        for vectors, build in views:
            classifier = build((len(seen), vectors.shape[1]), len(known)).fit(vectors[seen], ids[seen])
            probabilities[np.ix_(unseen, known)] += classifier.predict_proba(vectors[unseen]) / len(views)
    alone = np.bincount(ids, minlength=len(names))[ids] == 1
    own, best = probabilities[np.arange(len(ids)), ids], probabilities.argmax(axis=1)
    order = [k for k in np.argsort(own, kind="stable") if best[k] != ids[k] and not alone[k]]
    columns = {
        "row": rows[order],
        "text": texts[order],
        "label": given[order],
        "suggested": names[best[order]],
        "probability": own[order],
    }
    return pd.DataFrame(columns)
