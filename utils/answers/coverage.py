"""What a person for unsure answers costs and buys: how many the model keeps, and how many are right."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from utils.answers.doubt import EVERYTHING, sureness
from utils.answers.doubt import in_doubt as in_doubt  # coverage.in_doubt, for the template
from utils.labels import TASKS
from utils.metrics import wilson_interval
from utils.plots import COLOURS, finish, plain_axes


def checked(config, labels, predicted, probabilities, names: list[str], task: str) -> list[dict]:
    """Return what `config.review_below` does to these test rows: an entry for all, or in multi_label a label.

    In each: `label`; `review_below`; `answered`, how many answers are at least so sure, and `coverage`, their
    share; and where there are any, `accuracy`, the share of them that is right, and `accuracy_ci95` (Wilson).
    Empty where `config` has no `review_below`. Arguments as for `score`.
    """
    found = []
    for name, right, sure, limit in _columns(config, labels, predicted, probabilities, names, task):
        kept = right[sure >= limit]
        entry = {
            "label": name,
            "review_below": limit,
            "answered": len(kept),
            "coverage": len(kept) / len(right),
        }
        if len(kept):
            ends = [round(end, 4) for end in wilson_interval(kept.sum(), len(kept))]
            entry |= {"accuracy": float(kept.mean()), "accuracy_ci95": ends}
        found.append(entry)
    return found


def in_words(config, labels, predicted, probabilities, names: list[str], task: str) -> str:
    """Say what `checked` finds, a line for each of its entries."""
    lines, target = [], config.target_accuracy
    for found in checked(config, labels, predicted, probabilities, names, task):
        limit, start = found["review_below"], f"{found['label']}: " if TASKS[task].joined else ""
        how = f"{'as far from the threshold' if TASKS[task].joined else 'as sure'} as {limit:.3f}"
        if limit == EVERYTHING:
            says = f"no limit reaches {target:g} on the validation rows; a person looks at every answer."
        elif not found["answered"]:
            says = f"no answer to a test row is {how}; a person looks at all of them."
        else:
            low, high = found["accuracy_ci95"]
            says = f"{found['coverage']:.1%} of the test rows have answers {how}, and of these"
            says += f" {found['accuracy']:.3f} are right (95% interval {low:.3f} to {high:.3f})."
            says += f" That misses {target:g}." if high < target else ""
        lines.append(start + (says if start else says[0].upper() + says[1:]))
    return "\n".join(lines)


def figure(config, labels, predicted, probabilities, names: list[str], task: str) -> Figure:
    """Draw accuracy against coverage on the test rows, one curve, or in multi_label one a label (the first
    six); a dot is where `config.review_below` stands, the dotted line what was asked for.
    """
    drawing, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    columns = _columns(config, labels, predicted, probabilities, names, task)
    for colour, (name, right, sure, limit) in zip(COLOURS, columns, strict=False):
        order, answered = np.argsort(-sure, kind="stable"), np.arange(1, len(sure) + 1)
        accuracy = np.cumsum(right[order]) / answered
        axes.plot(answered / len(sure), accuracy, color=colour, label=plain_axes(name))
        if kept := int((sure >= limit).sum()):
            axes.plot(kept / len(sure), accuracy[kept - 1], "o", color=colour)
    axes.axhline(config.target_accuracy, color="0.4", linestyle=":", label="asked for")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="What the model answers itself", xlabel="share of the test rows, the surest first")
    axes.set(ylabel="share of right answers")
    axes.legend(loc="best", fontsize="small")
    return finish(drawing)


def _columns(config, labels, predicted, probabilities, names: list[str], task: str) -> list[tuple]:
    """Return name, right answers, sureness and limit of all rows, or of each label; [] without limits."""
    if (limits := getattr(config, "review_below", None)) is None:
        return []
    right = np.equal(predicted, labels).reshape(len(labels), -1)
    sure = sureness(predicted, probabilities, config, task)
    names = names if TASKS[task].joined else ["all labels"]
    return list(zip(names, right.T, sure.T, np.atleast_1d(limits).tolist(), strict=True))
