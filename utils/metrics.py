"""Scores, intervals, thresholds, calibration. ValueError: no rows, an unknown task, other shapes."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, sparse, special, stats
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from utils.answers.doubt import choose_limits
from utils.inputs import pooled
from utils.inputs.precision import in_float32
from utils.labels import TASKS, decode_labels

MOST = 1.5  # a label is given to at most so many times the rows that have it


class Functions(NamedTuple):
    """What differs between the tasks and needs libraries; `utils.labels.TASKS` has the facts."""

    as_array: Callable  # of labels or predictions
    scores: Callable  # of labels and predictions
    probabilities: Callable  # of logits
    decide: Callable  # of probabilities and thresholds
    loss: Callable | None  # of logits and labels; None: there are no probabilities


def score(labels: Sequence, predicted: Sequence, task: str = "single_label") -> dict[str, float]:
    """Return the scores of a task.

    Args:
        labels, predicted: single_label: class ids or names, shape (rows,). multi_label: 0 or 1, shape (rows,
            labels). regression: numbers, shape (rows,).

    Returns:
        single_label: accuracy and f1_macro (the mean of the classes' F1; 0 for one that is never predicted).
        multi_label: accuracy (all labels of a row right), f1_micro (over all cells) and f1_macro (the mean
            over the labels, without those that no row has and that are never predicted).
        regression: pearson, spearman (both 0 where a side is constant) and mae, in the unit of the labels.

    Raises:
        ValueError: there are no rows, or the two differ in shape.
    """
    functions = functions_of(task)
    return functions.scores(*_arrays([labels, predicted], functions.as_array))


def _arrays(tables: list, as_array: Callable) -> list[np.ndarray]:
    arrays = [as_array(table) for table in tables]
    if any(array.shape != arrays[0].shape for array in arrays):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"Labels and predictions must have one shape, not {shapes}.")
    if not len(arrays[0]):
        raise ValueError("There are no rows to score.")
    return arrays


def _class_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    f1_macro = f1_score(labels, predicted, average="macro", zero_division=0)
    return {"accuracy": float(accuracy_score(labels, predicted)), "f1_macro": float(f1_macro)}


def _label_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    only = [1] if labels.shape[1] == 1 else None  # scikit-learn takes one column for the classes 0 and 1
    f1_macro = f1_score(labels, predicted, labels=only, average="macro", zero_division=np.nan)
    return {
        "accuracy": float((labels == predicted).all(axis=1).mean()),
        "f1_micro": float(f1_score(labels.ravel(), predicted.ravel(), zero_division=0)),
        "f1_macro": float(np.nan_to_num(f1_macro)),
    }


def _value_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    scores = {"pearson": 0.0, "spearman": 0.0, "mae": float(np.abs(labels - predicted).mean())}
    if np.ptp(labels) and np.ptp(predicted):
        scores["pearson"] = float(stats.pearsonr(labels, predicted).statistic)
        scores["spearman"] = float(stats.spearmanr(labels, predicted).statistic)
    return scores


def compute_metrics(prediction, task: str = "single_label", owner=None) -> dict[str, float]:
    """Be the `compute_metrics` of Trainer: score an `EvalPrediction` with logits of shape (rows, outputs).

    Where rows are chunks of texts, `owner` says whose each is: scored are texts, by the mean of their logits.
    But for regression the scores hold predicted_classes, how many classes (or labels) were predicted for at
    least one row: 1 means that the model has collapsed.
    """
    logits = prediction.predictions
    logits = logits[0] if isinstance(logits, tuple) else logits  # the rest are hidden states
    labels = prediction.label_ids
    if owner is not None:
        logits, labels = pooled(logits, np.asarray(owner)), labels[np.unique(owner, return_index=True)[1]]
    predicted = decide(probabilities_of(logits, task), task)
    scores = score(labels, predicted, task)
    if TASKS[task].classes:
        classes = predicted.nonzero()[1] if TASKS[task].joined else predicted
        scores["predicted_classes"] = len(np.unique(classes))
    return scores


def compute_metrics_for(task: str, owner=None) -> Callable:
    """Return the function that Trainer takes as `compute_metrics` for a task; `owner` is for chunks."""
    functions_of(task)
    return partial(compute_metrics, task=task, owner=owner)


def probabilities_of(logits, task: str = "single_label") -> np.ndarray:
    """Return the softmax or sigmoid of logits, float64, shape (rows, outputs); for regression (rows,)."""
    return functions_of(task).probabilities(np.asarray(logits, dtype=float))


def decide(probabilities, task: str = "single_label", thresholds=None) -> np.ndarray:
    """Return the predictions that follow from `probabilities_of`, shaped as for `score`.

    `thresholds` are for multi_label those of `choose_thresholds`, or None, 0.5 for all; for single_label with
    two classes from which probability on class 1 is the answer, or None, the more probable class.
    """
    return functions_of(task).decide(np.asarray(probabilities), thresholds)


def _decide_class(probabilities: np.ndarray, threshold) -> np.ndarray:
    if threshold is None:
        return probabilities.argmax(axis=-1)
    if probabilities.shape[1] != 2:
        raise ValueError(f"A threshold is for two classes; there are {probabilities.shape[1]}.")
    return (probabilities[:, 1] >= float(threshold)).astype(int)


def choose_thresholds(labels, probabilities, least: int = 10) -> np.ndarray:
    """Return for each label of multi_label the threshold with the best F1 on these validation rows.

    It is the middle of two probabilities; of equally good ones, the nearest to 0.5. It gives a label to at
    most 1.5 times the rows that have it: the best F1 of a label that was not learnt is reached by giving it
    to every row (Lipton, Elkan and Naryanaswamy 2014).

    Args:
        labels, probabilities: 0 or 1, and the probability of 1, shape (rows, labels).
        least: a label with fewer rows that have it, or fewer that lack it, keeps 0.5.
    """
    labels, probabilities = np.asarray(labels).astype(int), np.asarray(probabilities, dtype=float)
    if labels.ndim != 2 or labels.shape != probabilities.shape:
        shapes = f"{labels.shape} and {probabilities.shape}"
        raise ValueError(f"labels and probabilities must have one shape (rows, labels), not {shapes}.")
    columns = zip(labels.T, probabilities.T, strict=True)
    return np.array([_best_threshold(there, sure, least) for there, sure in columns])


def _best_threshold(labels: np.ndarray, probabilities: np.ndarray, least: int) -> float:
    rows, positives = len(labels), int(labels.sum())
    if min(positives, rows - positives) < max(least, 1):
        return 0.5
    edges = np.unique([0.0, *probabilities, 1.0])[::-1]
    middles = (edges[:-1] + edges[1:]) / 2
    taken = rows - np.searchsorted(np.sort(probabilities), middles)
    hits = positives - np.searchsorted(np.sort(probabilities[labels == 1]), middles)
    f1 = np.where(taken <= max(MOST * positives, 1), 2 * hits / (taken + positives), -1)
    best = middles[np.isclose(f1, f1.max(), rtol=0, atol=1e-12)]
    return float(best[np.argmin(np.abs(best - 0.5))]) if f1.max() >= 0 else 0.5


def wilson_interval(correct: int, rows: int) -> tuple[float, float]:
    """Return the 95% interval of an accuracy of `correct` out of `rows` (Wilson 1927)."""
    interval = stats.binomtest(int(correct), int(rows)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    metric: str, labels, predicted, baseline=None, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Return a score with its 95% interval, or, with `baseline`, how much better the model is than it.

    Rows are drawn with replacement and each draw is scored (percentile bootstrap, Efron 1979), the same draws
    for model and baseline. Luck in training is not in it. What is returned is value, low, high: with
    `baseline`, above 0 the model is better; for mae, its error is smaller.

    Args:
        metric: "accuracy" (multi_label: all labels of a row right), "f1_macro", "pearson" or "mae".
        labels, predicted, baseline: shaped as for `score`.
    """
    return _bootstrap(metric, labels, predicted, baseline, resamples, seed)[:3]


def _bootstrap(metric, labels, predicted, baseline, resamples=10_000, seed=0) -> tuple[float, ...]:
    """Return what `bootstrap_interval` returns, and the value's standard error."""
    if metric not in WEIGHTED:
        raise ValueError(f"metric must be one of {', '.join(WEIGHTED)}, not {metric!r}.")
    of_classes = "multi_label" if np.ndim(labels) == 2 else "single_label"
    task = "regression" if metric in ("pearson", "mae") else of_classes
    tables = [table for table in (labels, predicted, baseline) if table is not None]
    tables = _arrays(tables, FUNCTIONS[task].as_array)
    if task == "single_label":  # names to numbers, the same for all
        tables = np.split(np.unique(np.concatenate(tables), return_inverse=True)[1], len(tables))
    # How many rows of each kind a draw holds tells its score; of classes there are fewer kinds than rows.
    first, counts = np.unique(np.column_stack(tables), axis=0, return_index=True, return_counts=True)[1:]
    truth, *guesses = (table[first] for table in tables)

    def gains(weights: np.ndarray) -> np.ndarray:
        value, *rival = (WEIGHTED[metric](weights.astype(float), truth, guess) for guess in guesses)
        return value if not rival else rival[0] - value if metric == "mae" else value - rival[0]

    rng, rows = np.random.default_rng(seed), counts.sum()
    chunk = max(1, 2_000_000 // len(counts))  # 16 MB of counts at a time
    sizes = np.diff([*range(0, resamples, chunk), resamples])
    draws = np.concatenate([gains(rng.multinomial(rows, counts / rows, size=size)) for size in sizes])
    numbers = gains(counts[None])[0], *np.percentile(draws, [2.5, 97.5]), draws.std()
    return tuple(map(float, numbers))


def _mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(axis=1)


def _accuracy(weights: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return _mean(weights, (labels == predicted).reshape(len(labels), -1).all(axis=1))


def _f1_macro(weights: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    if labels.ndim == 1:  # as 0 or 1 for each class
        classes = sparse.eye_array(int(max(labels.max(), predicted.max())) + 1, format="csr")
        true, guessed = classes[labels], classes[predicted]
    else:
        true, guessed = sparse.csr_array(labels, dtype=float), sparse.csr_array(predicted, dtype=float)
    hit, size = weights @ true.multiply(guessed).tocsr(), weights @ (true + guessed).tocsr()
    met = size > 0  # a class that a draw neither has nor predicts is left out of its mean
    f1 = np.divide(2 * hit, size, out=np.zeros(size.shape), where=met)
    return f1.sum(axis=1) / np.maximum(met.sum(axis=1), 1)


def _pearson(weights: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    x, y = ((values - values.mean()) / (values.std() or 1) for values in (labels, predicted))
    mean_x, mean_y = _mean(weights, x), _mean(weights, y)
    spread_x, spread_y = _mean(weights, x * x) - mean_x**2, _mean(weights, y * y) - mean_y**2
    spread = np.maximum(spread_x, 0) * np.maximum(spread_y, 0)
    covariance = _mean(weights, x * y) - mean_x * mean_y
    return np.divide(covariance, np.sqrt(spread), out=np.zeros(len(weights)), where=spread > 1e-20)


# From the weights of the rows in each draw, shape (draws, rows), the scores of the draws.
WEIGHTED = {
    "accuracy": _accuracy,
    "f1_macro": _f1_macro,
    "pearson": _pearson,
    "mae": lambda weights, labels, predicted: _mean(weights, np.abs(labels - predicted)),
}


def score_with_interval(labels, predicted, task: str = "single_label") -> dict:
    """Return the scores of a task, and [low, high], the 95% interval of the main one, as `<name>_ci95`."""
    scores, main = score(labels, predicted, task), TASKS[task].main_score
    if task == "single_label":
        interval = wilson_interval(int(np.equal(labels, predicted).sum()), len(labels))
    else:
        interval = bootstrap_interval(main, labels, predicted)[1:]
    return scores | {f"{main}_ci95": [round(end, 4) for end in interval]}


class Comparison(NamedTuple):
    """What `compare` returns; gain, low and high are those of `bootstrap_interval`."""

    gain: float
    low: float
    high: float
    verdict: str  # "better", "worse" or "not distinguishable"
    rows_needed: int | None  # test rows that show such a gain in four tests of five; None: there is no gain
    words: str  # all of it in one or two sentences


def compare(metric: str, labels, predicted, baseline, name: str = "the baseline") -> Comparison:
    """Say whether these test rows can tell the model from the baseline; arguments as of `bootstrap_interval`.

    They can if the interval leaves out 0 and the two differ on at least six rows: no split of fewer would be
    significant in McNemar's exact test (2 * 0.5**5 > 0.05). `rows_needed`, the usual sample size for a paired
    difference (Miettinen 1968; Connor 1987), takes the gain seen here for the true one: it is rough.
    """
    gain, low, high, error = _bootstrap(metric, labels, predicted, baseline)
    rows, needed, verdict, advice = len(labels), None, "better" if gain > 0 else "worse", ""
    differing = int(np.asarray(np.not_equal(predicted, baseline)).reshape(rows, -1).any(axis=1).sum())
    size = f"{metric} {abs(gain):.3f} {verdict} than {name}'s"
    size += f", 95% interval of the gain {low:+.3f} to {high:+.3f}"
    if gain and error:
        quantiles = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
        needed = math.ceil(max(rows * (quantiles * error / gain) ** 2, 6 * rows / differing))
        unit = 10 ** max(0, len(str(needed)) - 2)  # two digits, rounded up: more would be too precise
        about = f"{-(-needed // unit) * unit:,} test rows"
        advice = f" If the true gain is of this size, about {about} would show it."
    if differing >= 6 and not low <= 0 <= high:
        words = f"These {rows:,} rows tell the model from {name}: {size}."
        return Comparison(gain, low, high, verdict, needed, words)
    size = size if gain else f"their {metric} is equal"
    words = f"These {rows:,} rows cannot tell the model from {name}: {size}, {differing:,} rows differ."
    return Comparison(gain, low, high, "not distinguishable", needed, words + advice)


FUNCTIONS = {
    "single_label": Functions(
        as_array=np.asarray,
        scores=_class_scores,
        probabilities=partial(special.softmax, axis=-1),
        decide=_decide_class,
        loss=lambda logits, ids: -special.log_softmax(logits, axis=1)[np.arange(len(ids)), ids].mean(),
    ),
    "multi_label": Functions(
        as_array=lambda table: np.asarray(table).astype(int),
        scores=_label_scores,
        probabilities=special.expit,
        decide=lambda sure, thresholds: (sure >= (0.5 if thresholds is None else thresholds)).astype(int),
        loss=lambda logits, labels: np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean(),
    ),
    "regression": Functions(
        as_array=lambda table: np.asarray(table, dtype=float).reshape(len(table)),
        scores=_value_scores,
        probabilities=lambda logits: logits.reshape(len(logits)),
        decide=lambda values, thresholds: values,
        loss=None,
    ),
}


def functions_of(task: str) -> Functions:
    """Return a task's functions, or raise ValueError where there is no such task."""
    if task not in FUNCTIONS:
        raise ValueError(f"task must be one of {', '.join(FUNCTIONS)}, not {task!r}.")
    return FUNCTIONS[task]


def expected_calibration_error(labels, probabilities, bins: int = 15) -> float:
    """Return by how much the probabilities are off: |how sure - how often right|, over bins of how sure.

    0 is perfect, 0.1 is ten points too sure or too unsure (Guo et al. 2017, "On calibration of modern neural
    networks"). With 600 rows, a perfectly calibrated model gets 0.01 to 0.02 by chance.

    Args:
        labels: class ids, shape (rows,), or 0 or 1, shape (rows, labels): then each cell counts as a row.
        probabilities: shape (rows, classes) or (rows, labels).
        bins: how many of equal width from 0 to 1; the upper edge belongs to a bin.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if not len(labels):
        raise ValueError("There are no rows to score.")
    if labels.ndim == 1:
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    else:
        confidence, right = probabilities.ravel(), labels.ravel() == 1
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    # the sum over a bin's rows of (how sure - right) is its rows times the distance of the two means
    return float(np.abs(np.bincount(place, confidence - right)).sum() / len(right))


def fit_temperature(logits, labels, task: str = "single_label") -> float:
    """Return the number to divide logits by, so that probabilities fit the labels best (Guo et al. 2017).

    Above 1 the model was too sure, below 1 not sure enough; it is between 0.05 and 20, and 1.0 where every
    answer is right. Predictions stay. Use validation rows, at least some hundred of them: logits of shape
    (rows, classes) and labels as ids, shape (rows,), or both of shape (rows, labels).
    """
    loss = functions_of(task).loss
    if loss is None:
        raise ValueError(f"task must not be {task!r}: a number has no probability to calibrate.")
    logits, labels = np.asarray(logits, dtype=float), np.asarray(labels).astype(int)
    if not len(labels):
        raise ValueError("There are no rows to fit a temperature to.")
    if (decide(probabilities_of(logits, task), task) == labels).all():
        return 1.0
    best = optimize.minimize_scalar(lambda t: loss(logits / np.exp(t), labels), bounds=np.log([0.05, 20]))
    return float(np.exp(best.x))


def fold_temperature(model, temperature: float) -> None:
    """Divide the logits of a classifier by `temperature` for good: weight and bias of its last linear layer.

    Whoever loads what is saved then, `pipeline` included, gets calibrated probabilities. The configuration
    notes it as `folded_temperature`. Call it once, after training and before saving.

    Raises:
        ValueError: the temperature is no number above 0; the model has no `torch.nn.Linear` with `num_labels`
            outputs, or the last one does not give its logits; or it was done before. It is then as it was.
    """
    import torch

    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"The temperature must be a number above 0, not {temperature!r}.")
    config, outputs = model.config, model.config.num_labels
    if getattr(config, "folded_temperature", None) is not None:
        remedy = "Load it anew; to train on from a saved one, first call utils.models.forget_last_run(model)."
        raise ValueError(f"This model was divided by {config.folded_temperature} already. {remedy}")
    kind, yourself = type(model).__name__, f"divide them by {temperature:g} yourself."
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    heads = [(name, layer) for name, layer in linear if layer.out_features == outputs]
    if not heads:
        raise ValueError(f"{kind} has no linear layer with {outputs} outputs for its logits: {yourself}")
    name, head = heads[-1]
    divided = {f"{name}.{part}": weight.detach() / temperature for part, weight in head.named_parameters()}
    # Any text will do to compare. The last token ends it: models such as BART read their answer there.
    end = config.eos_token_id if isinstance(getattr(config, "eos_token_id", None), int) else 5
    text = {"input_ids": torch.tensor([[7, 6, 8, end]], device=model.device)}
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), in_float32(model):
            before = model(**text).logits.float()
            after = torch.func.functional_call(model, divided, kwargs=text).logits.float() * temperature
    finally:
        model.train(training)
    rtol = 1e-3 if head.weight.dtype == torch.float32 else 0.05
    if not torch.allclose(after, before, rtol=rtol, atol=1e-5 * float(before.abs().max())):
        raise ValueError(f"The logits of {kind} are not those of its last linear layer: {yourself}")
    model.load_state_dict(divided, strict=False)
    config.folded_temperature = float(temperature)


class Calibration(NamedTuple):
    """What `calibrate` has fitted: temperature, thresholds (or None), and the rows' probabilities now."""

    temperature: float
    thresholds: np.ndarray | None
    probabilities: np.ndarray | None


def fit_calibration(logits, labels, task: str = "single_label") -> Calibration:
    """Return the temperature of validation rows, and in multi_label the thresholds of `choose_thresholds`."""
    if not TASKS[task].classes:
        return Calibration(1.0, None, None)
    temperature = fit_temperature(logits, labels, task)
    probabilities = probabilities_of(logits / temperature, task)
    thresholds = choose_thresholds(labels, probabilities).round(4) if TASKS[task].joined else None
    return Calibration(temperature, thresholds, probabilities)


def calibrate(model, logits, labels, task: str = "single_label") -> Calibration:
    """Make a trained classifier's probabilities fit these validation rows, for good: save it after this.

    Its logits are divided by the temperature of `fit_calibration` (`fold_temperature`), whose thresholds are
    kept as `config.thresholds`. Where `config.target_accuracy` says how many answers are to be right,
    `config.review_below` will say which a person should see. A regression stays as it is.
    """
    found = temperature, thresholds, probabilities = fit_calibration(logits, labels, task)
    if temperature != 1.0:
        fold_temperature(model, temperature)
    if thresholds is not None:
        model.config.thresholds = thresholds.tolist()
    if TASKS[task].classes and getattr(model.config, "target_accuracy", None):
        predicted = decide(probabilities, task, thresholds)
        model.config.review_below = choose_limits(labels, predicted, probabilities, model.config, task)
    return found


def calibration_error(labels, logits, temperature: float, task: str = "single_label") -> dict[str, float]:
    """Return the temperature and what it did to the calibration error of these rows; {} for regression."""
    if not TASKS[task].classes:
        return {}
    before, after = (probabilities_of(scale * logits, task) for scale in (temperature, 1.0))
    errors = [expected_calibration_error(labels, shares) for shares in (before, after)]
    return {"temperature": temperature, "ece_before": errors[0], "ece": errors[1]}


def review(
    rows: pd.DataFrame, encoded, predicted, probabilities, labels: list[str], task: str = "single_label"
) -> pd.DataFrame:
    """Return the rows with what was predicted, the worst mistakes first.

    For classes with `confidence`, the highest probability, and `right`: wrong answers first, the most
    confident one on top. For a number with `off_by`: the furthest off first.
    """
    table = rows.assign(predicted=decode_labels(predicted, labels, task))
    if not TASKS[task].classes:
        return table.assign(off_by=predicted - encoded).sort_values("off_by", key=abs, ascending=False)
    right = np.equal(predicted, encoded).reshape(len(table), -1).all(axis=1)
    table = table.assign(confidence=np.max(probabilities, axis=1), right=right)
    return table.sort_values(["right", "confidence"], ascending=[True, False])


def per_label(encoded, predicted, labels: list[str], task: str = "single_label") -> pd.DataFrame:
    """Return precision, recall, F1 and number of rows of each label.

    For a number: rows, mean error and mean absolute error in each fifth of the true values.
    """
    if TASKS[task].classes:
        names = ("precision", "recall", "f1-score", "support")
        options = {"labels": range(len(labels)), "zero_division": 0}
        scores = precision_recall_fscore_support(encoded, predicted, **options)
        return pd.DataFrame(dict(zip(names, scores, strict=True)), index=labels)
    table = pd.DataFrame({"off_by": predicted - encoded, "size": np.abs(predicted - encoded)})
    groups = table.groupby(pd.qcut(encoded, 5, duplicates="drop"), observed=True)
    return groups.agg(rows=("size", "size"), mean_error=("off_by", "mean"), mae=("size", "mean"))
