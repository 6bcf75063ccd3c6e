"""Which answers are so unsure that a person should look; `coverage` says what that costs and buys."""

import math

import numpy as np

from utils.labels import TASKS, decode_labels

EVERYTHING = 2.0  # a limit above all probabilities: every answer goes to a person


def sureness(predicted, probabilities, config, task: str) -> np.ndarray:
    """Return how sure each answer is: the probability of the predicted class, shape (rows, 1); in multi_label
    how far each label's probability is from its threshold in `config`, shape (rows, labels).
    """
    if TASKS[task].joined:
        thresholds = getattr(config, "thresholds", None)
        return np.abs(probabilities - (0.5 if thresholds is None else np.asarray(thresholds)))
    return np.take_along_axis(np.asarray(probabilities), np.asarray(predicted)[:, None], axis=1)


def lowest_limits(right, sure, target: float) -> float | list[float]:
    """Return the lowest limit for which `target` of the answers at least so sure are right, on these rows.

    At least 1 / (1 - target) rows have to be answered: of fewer, one mistake is too many. EVERYTHING where no
    limit reaches it; 0 where nothing need be looked at. On other rows the share will be on either side
    of the target: check it there (`utils.answers.coverage`).

    Args:
        right, sure: whether each answer is right and `sureness`, shape (rows, 1); or (rows, labels): then a
            list with a limit for each label is returned.
    """
    least, limits = math.ceil(round(1 / (1 - target), 6)), []
    for hits, column in zip(np.transpose(right), np.transpose(sure), strict=True):
        order = np.argsort(-column, kind="stable")
        steps, answered = np.append(column[order], 0.0), np.arange(1, len(order) + 1)
        reached = (np.cumsum(hits[order]) >= target * answered - 1e-9) & (answered >= least)
        reached &= (steps[:-1] > steps[1:]) | (answered == len(order))  # answers equally sure go together
        last = np.flatnonzero(reached)[-1] if reached.any() else None
        if last is None:
            limits.append(EVERYTHING)
        else:  # between two answers, so that the last digit of a probability does not matter
            limits.append(0.0 if last == len(order) - 1 else float(steps[last : last + 2].mean()))
    return limits if np.shape(right)[1] > 1 else limits[0]


def choose_limits(labels, predicted, probabilities, config, task: str) -> float | list[float]:
    """Return `lowest_limits` of these validation rows for `config.target_accuracy`: `config.review_below`."""
    right = np.equal(predicted, labels).reshape(len(labels), -1)
    return lowest_limits(right, sureness(predicted, probabilities, config, task), config.target_accuracy)


def in_doubt(predicted, probabilities, config, names: list[str], task: str) -> list | None:
    """Return what the column `review` says of each row: True where a person should look at the answer; in
    multi_label the labels in doubt, joined by "|". None where `config` has no `review_below`.
    """
    if (limits := getattr(config, "review_below", None)) is None:
        return None
    doubtful = sureness(predicted, probabilities, config, task) < np.asarray(limits)
    return decode_labels(doubtful, names, task) if TASKS[task].joined else doubtful[:, 0].tolist()
