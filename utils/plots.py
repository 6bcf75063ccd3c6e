"""The figures of the template and of 04, in Matplotlib, and what all figures share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from utils import atomic_path
from utils.labels import TASKS, rows_of_label

# Okabe and Ito's, safe for colour-blind readers
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
SCORES = {
    "eval_accuracy": ("accuracy", "s-", GREEN),
    "eval_f1_macro": ("macro-F1", "^--", PURPLE),
    "eval_pearson": ("Pearson's r", "s-", GREEN),
    "eval_spearman": ("Spearman's rho", "^--", PURPLE),
}


def plain_axes(text: str, limit: int = 24) -> str:
    """Escape what matplotlib would take for a formula, and shorten."""
    text = str(text) if len(str(text)) <= limit else str(text)[: limit - 1] + "…"
    return text.replace("$", r"\$")


def finish(figure: Figure) -> Figure:
    """Take the figure from pyplot's list: a cell ending in it shows it once, and nothing fills the memory."""
    plt.close(figure)
    return figure


def save(figure: Figure, path: Path) -> Figure:
    """Write the figure as PNG, whole or not at all, and return it, so that a cell that ends so shows it."""
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
    return figure


def label_balance(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw each split's share of every label. `counts` maps split -> label -> rows."""
    labels = list(dict.fromkeys(label for split in counts.values() for label in split))
    figure, axes = plt.subplots(figsize=(7, min(12, 1.4 + 0.5 * len(labels))), layout="constrained")
    height, places = 0.8 / len(counts), np.arange(len(labels))
    for k, (split, rows) in enumerate(counts.items()):
        total = sum(rows.values())
        shares = [rows.get(label, 0) / total for label in labels]
        name, colour = f"{plain_axes(split)} ({total:,} rows)", COLOURS[k % len(COLOURS)]
        axes.barh(places + k * height, shares, height, color=colour, label=name)
    axes.set_yticks(places + 0.4 - height / 2, [plain_axes(label) for label in labels])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="Label balance", xlabel="share of the split's rows", ylabel="label")
    axes.legend(loc="best", fontsize="small")
    return finish(figure)


def balance(splits: Mapping[str, Sequence], task: str, name: str = "value") -> Figure:
    """Draw how labels, or a regression's numbers, are distributed. `splits` maps split -> `rows["label"]`."""
    if not TASKS[task].classes:
        return value_distribution(splits, name)
    return label_balance({split: dict(rows_of_label(labels, task)) for split, labels in splits.items()})


def predictions(encoded, predicted, labels: Sequence[str], task: str, name: str = "value") -> Figure:
    """Draw predictions against the truth, both as `encode_labels` returns them.

    A confusion matrix; in multi_label how often each label is true and predicted; for numbers a scatter plot.
    """
    if not TASKS[task].classes:
        return regression_scatter(encoded, predicted, name)
    if not TASKS[task].joined:
        return confusion_matrix(encoded, predicted, labels)
    sums = {"true": np.sum(encoded, axis=0), "predicted": np.sum(predicted, axis=0)}
    return label_balance({side: dict(zip(labels, rows, strict=True)) for side, rows in sums.items()})


def learning_curves(log_history: Sequence[Mapping], baselines: Mapping[str, float] | None = None) -> Figure:
    """Draw loss and validation scores by epoch from `trainer.state.log_history`; `baselines` as lines."""
    evaluations = [entry for entry in log_history if "eval_loss" in entry]
    epochs = [entry.get("epoch") or 0 for entry in evaluations]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    draw_losses(left, log_history)
    left.set(title="Loss", xlabel="epoch", ylabel=loss_name(log_history))
    for key, (name, style, colour) in SCORES.items():
        if any(key in entry for entry in evaluations):
            scores = [entry.get(key, np.nan) for entry in evaluations]
            right.plot(epochs, scores, style, color=colour, label=name)
    for name, value in (baselines or {}).items():
        right.axhline(value, color="0.4", linestyle=":", label=plain_axes(name))
    correlated = any("eval_pearson" in entry for entry in evaluations)
    unit = "correlation (−1 to 1)" if correlated else "score (0 to 1)"
    right.set(title="Validation scores", xlabel="epoch", ylabel=unit)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return finish(figure)


def draw_losses(axes, log_history: Sequence[Mapping]) -> None:
    """Draw training and validation loss by epoch; None, a loss that was not finite, leaves a gap.

    A training loss is the mean since the point before it, and is drawn in the middle of that stretch.
    """
    train = [entry for entry in log_history if "loss" in entry]
    ends = np.array([entry["epoch"] for entry in train])
    middles = (np.concatenate([[0.0], ends[:-1]]) + ends) / 2
    losses = np.array([entry["loss"] for entry in train], dtype=float)
    axes.plot(middles, losses, "o-", color=BLUE, markersize=4, label="training")
    evaluations = [entry for entry in log_history if "eval_loss" in entry]
    epochs = [entry.get("epoch") or 0 for entry in evaluations]
    losses = np.array([entry["eval_loss"] for entry in evaluations], dtype=float)
    axes.plot(epochs, losses, "s--", color=ORANGE, label="validation")


def loss_name(log_history: Sequence[Mapping]) -> str:
    squared = any("eval_pearson" in entry for entry in log_history)
    return "mean squared error" if squared else "cross-entropy (nats)"


def confusion_matrix(labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw how often each true class (rows) was predicted as which (columns), shaded by the class's share."""
    side = min(14, 2.6 + 0.45 * len(names))
    figure, axes = plt.subplots(figsize=(side + 1.2, side), layout="constrained")
    image = draw_confusion(axes, labels, predicted, names)
    axes.set(title="Confusion matrix", xlabel="predicted label", ylabel="true label")
    figure.colorbar(image, ax=axes, label="share of the true label's rows", shrink=0.8)
    return finish(figure)


def draw_confusion(axes, labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]):
    """Draw the counts as an image, with numbers and names for up to 25 classes, and return the image."""
    size = len(names)
    matrix = np.zeros((size, size), dtype=int)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if size > 25:  # numbers would be dust
        return image
    for (i, j), count in np.ndenumerate(matrix):
        colour = "black" if shares[i, j] > 0.55 else "white"
        axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour)
    plain = [plain_axes(name) for name in names]
    tilted = size > 2 or max(len(str(name)) for name in names) > 12
    turn = {"rotation": 45, "ha": "right"} if tilted else {}
    axes.set_xticks(range(size), plain, **turn)
    axes.set_yticks(range(size), plain)
    return image


def regression_scatter(labels: Sequence[float], predicted: Sequence[float], name: str = "value") -> Figure:
    """Draw predicted against true numbers, in units of `name`; on the dotted line they are equal."""
    labels, predicted = np.asarray(labels, dtype=float), np.asarray(predicted, dtype=float)
    figure, axes = plt.subplots(figsize=(5, 4.6), layout="constrained")
    both = np.concatenate([labels, predicted])
    room = 0.04 * (np.ptp(both) or 1)
    ends = (both.min() - room, both.max() + room)
    axes.plot(ends, ends, ":", color="black", label="predicted = true", zorder=3)
    alpha = max(0.08, min(0.6, 300 / len(labels)))
    axes.scatter(labels, predicted, s=12, color=BLUE, alpha=alpha, linewidths=0)
    axes.set(title=f"Predicted against true ({len(labels):,} rows)", xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel=f"true {plain_axes(name)}", ylabel=f"predicted {plain_axes(name)}")
    axes.legend(loc="upper left", fontsize="small")
    return finish(figure)


def value_distribution(values: Mapping[str, Sequence[float]], name: str = "value") -> Figure:
    """Draw how a regression's numbers are distributed. `values` maps split -> numbers, in units of `name`."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    values = {split: np.asarray(numbers, dtype=float) for split, numbers in values.items()}
    edges = np.histogram_bin_edges(np.concatenate([*values.values()]), bins=30)
    for k, (split, numbers) in enumerate(values.items()):
        look = {"color": COLOURS[k % len(COLOURS)], "linestyle": ("-", "--", ":")[k % 3], "linewidth": 1.8}
        label = f"{plain_axes(split)} ({len(numbers):,} rows)"
        axes.stairs(np.histogram(numbers, edges)[0] / len(numbers), edges, label=label, **look)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="Distribution of the values", xlabel=plain_axes(name), ylabel="share of the split's rows")
    axes.legend(loc="best", fontsize="small")
    return finish(figure)
