"""Every figure of the notebooks. Matplotlib only: it is what GitHub renders. Colours from Okabe and Ito, safe for colour-blind readers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from utils import atomic_path

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"


COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)


def plain_axes(text: str, limit: int = 24) -> str:
    """Escape what matplotlib would take for a formula, and shorten."""
    text = str(text) if len(str(text)) <= limit else str(text)[: limit - 1] + "…"
    return text.replace("$", r"\$")


def finish(figure: Figure) -> Figure:
    """Take the figure from pyplot's list, so that a cell ending in it shows it once and nothing piles up in memory."""
    plt.close(figure)
    return figure


def label_balance(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw each split's share of every label. `counts` maps split -> label -> rows."""
    labels = list(dict.fromkeys(label for split in counts.values() for label in split))
    figure, axes = plt.subplots(figsize=(7, min(12, 1.4 + 0.5 * len(labels))), layout="constrained")
    height = 0.8 / len(counts)
    for k, (split, rows) in enumerate(counts.items()):
        total = sum(rows.values())
        shares = [rows.get(label, 0) / total for label in labels]
        axes.barh(
            np.arange(len(labels)) + k * height,
            shares,
            height,
            color=COLOURS[k % len(COLOURS)],
            label=f"{plain_axes(split)} ({total:,} rows)",
        )
    axes.set_yticks(np.arange(len(labels)) + 0.4 - height / 2, [plain_axes(label) for label in labels])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="Label balance", xlabel="share of the split's rows", ylabel="label")
    axes.legend(loc="best", fontsize="small")
    return finish(figure)


def text_lengths(lengths: Sequence[int], max_length: int) -> Figure:
    """Draw how long the texts are, in tokens with the special ones, and where `max_length` cuts."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    width = (
        1 + int(np.ptp(lengths)) // 60
    )  # whole tokens: bins of 1.3 would draw a comb that is not in the data
    axes.hist(lengths, bins=np.arange(min(lengths), max(lengths) + 1 + width, width) - 0.5, color=BLUE)
    axes.axvline(max_length, color=VERMILION, linestyle="--", label=f"max_length = {max_length}")
    axes.set(title="Text lengths", xlabel="tokens per text, special tokens included", ylabel="texts")
    axes.legend()
    return finish(figure)


def learning_curves(log_history: Sequence[Mapping]) -> Figure:
    """Draw loss and validation scores by epoch from `trainer.state.log_history`.

    A training loss is the mean since the point before it, and is drawn in the middle of that stretch.
    """
    evaluations = [entry for entry in log_history if "eval_loss" in entry]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    draw_losses(left, log_history)
    epochs = [entry.get("epoch") or 0 for entry in evaluations]
    squared = any("eval_pearson" in entry for entry in evaluations)
    left.set(title="Loss", xlabel="epoch", ylabel=loss_name(log_history))
    kinds = {"eval_accuracy": ("accuracy", "s-", GREEN), "eval_f1_macro": ("macro-F1", "^--", PURPLE)}
    kinds |= {
        "eval_pearson": ("Pearson's r", "s-", GREEN),
        "eval_spearman": ("Spearman's rho", "^--", PURPLE),
    }
    for key, (name, style, color) in kinds.items():
        if any(key in entry for entry in evaluations):
            right.plot(
                epochs, [entry.get(key, np.nan) for entry in evaluations], style, color=color, label=name
            )
    right.set(
        title="Validation scores",
        xlabel="epoch",
        ylabel="correlation (−1 to 1)" if squared else "score (0 to 1)",
    )
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return finish(figure)


def draw_losses(axes, log_history: Sequence[Mapping]) -> None:
    train = [(entry["epoch"], entry["loss"]) for entry in log_history if "loss" in entry]
    ends = np.array([epoch for epoch, _ in train])
    starts = np.concatenate([[0.0], ends[:-1]])
    # None, a loss that was not finite, becomes nan: a gap
    axes.plot(
        (starts + ends) / 2,
        np.array([loss for _, loss in train], dtype=float),
        "o-",
        color=BLUE,
        markersize=4,
        label="training",
    )
    evaluations = [
        (entry.get("epoch") or 0, entry["eval_loss"]) for entry in log_history if "eval_loss" in entry
    ]
    axes.plot(
        [epoch for epoch, _ in evaluations],
        np.array([loss for _, loss in evaluations], dtype=float),
        "s--",
        color=ORANGE,
        label="validation",
    )


def loss_name(log_history: Sequence[Mapping]) -> str:
    return (
        "mean squared error"
        if any("eval_pearson" in entry for entry in log_history)
        else "cross-entropy (nats)"
    )


def confusion_matrix(labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw how often each true class (rows) was predicted as which (columns): counts, shaded by the share of the true class."""
    side = min(14, 2.6 + 0.45 * len(names))
    figure, axes = plt.subplots(figsize=(side + 1.2, side), layout="constrained")
    image = draw_confusion(axes, labels, predicted, names)
    axes.set(title="Confusion matrix", xlabel="predicted label", ylabel="true label")
    figure.colorbar(image, ax=axes, label="share of the true label's rows", shrink=0.8)
    return finish(figure)


def draw_confusion(axes, labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]):
    size = len(names)
    matrix = np.zeros((size, size), dtype=int)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if size <= 25:  # beyond that, numbers would be dust
        for i in range(size):
            for j in range(size):
                axes.text(
                    j,
                    i,
                    f"{matrix[i, j]:,}",
                    ha="center",
                    va="center",
                    color="black" if shares[i, j] > 0.55 else "white",
                )
        tilted = size > 2 or max(len(str(name)) for name in names) > 12
        axes.set_xticks(
            range(size),
            [plain_axes(name) for name in names],
            rotation=45 if tilted else 0,
            ha="right" if tilted else "center",
        )
        axes.set_yticks(range(size), [plain_axes(name) for name in names])
    return image


def save(figure: Figure, path: Path) -> Figure:
    """Write the figure as PNG, whole or not at all, and return it, so that a cell can end with `save(...)` and show it."""
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
    return figure


def reliability_diagram(
    bins: Mapping[str, Mapping[str, Sequence[float]]], title: str = "How sure, and how often right"
) -> Figure:
    """Draw how often the model is right against how sure it is; on the dotted line the two are equal. Below it the model is too sure.

    Args:
        bins: name -> table of `utils.metrics.reliability`, for example before and after the temperature. A mark's area is its bin's share of the rows.
    """
    figure, axes = plt.subplots(figsize=(5, 4.6), layout="constrained")
    axes.plot([0, 1], [0, 1], ":", color="0.4", label="as sure as right")
    for k, (name, table) in enumerate(bins.items()):
        rows, sure, right = (
            np.asarray(table[column], dtype=float) for column in ("rows", "confidence", "right")
        )
        axes.plot(
            sure, right, ("-", "--", "-.")[k % 3], color=COLOURS[k % len(COLOURS)], linewidth=1.2, zorder=2
        )
        areas = 12 + 400 * rows / rows.sum()
        axes.scatter(
            sure,
            right,
            areas,
            marker="os^D"[k % 4],
            color=COLOURS[k % len(COLOURS)],
            alpha=0.6,
            linewidths=0,
            zorder=3,
        )
        axes.plot(
            [],
            [],
            ("-", "--", "-.")[k % 3] + "os^D"[k % 4],
            color=COLOURS[k % len(COLOURS)],
            label=plain_axes(name, 40),
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(
        title=title,
        xlabel="mean probability of the answer",
        ylabel="share of the answers that are right",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize="small")
    return finish(figure)


def regression_scatter(labels: Sequence[float], predicted: Sequence[float], name: str = "value") -> Figure:
    """Draw predicted against true numbers, one point a row; on the dotted line they are equal.

    Args:
        labels, predicted: shape (rows,), in the unit of `name`.
    """
    labels, predicted = np.asarray(labels, dtype=float), np.asarray(predicted, dtype=float)
    figure, axes = plt.subplots(figsize=(5, 4.6), layout="constrained")
    both = np.concatenate([labels, predicted])
    room = 0.04 * (np.ptp(both) or 1)
    ends = (both.min() - room, both.max() + room)
    axes.plot(ends, ends, ":", color="black", label="predicted = true", zorder=3)
    axes.scatter(
        labels, predicted, s=12, color=BLUE, alpha=max(0.08, min(0.6, 300 / len(labels))), linewidths=0
    )
    axes.set(
        title=f"Predicted against true ({len(labels):,} rows)",
        xlabel=f"true {plain_axes(name)}",
        ylabel=f"predicted {plain_axes(name)}",
        xlim=ends,
        ylim=ends,
    )
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize="small")
    return finish(figure)


def value_distribution(values: Mapping[str, Sequence[float]], name: str = "value") -> Figure:
    """Draw how the numbers of a regression are distributed in each split. `values` maps split -> numbers, in the unit that `name` says."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    edges = np.histogram_bin_edges(
        np.concatenate([np.asarray(numbers, dtype=float) for numbers in values.values()]), bins=30
    )
    for k, (split, numbers) in enumerate(values.items()):
        shares = np.histogram(numbers, edges)[0] / len(numbers)
        axes.stairs(
            shares,
            edges,
            color=COLOURS[k % len(COLOURS)],
            linestyle=("-", "--", ":")[k % 3],
            linewidth=1.8,
            label=f"{plain_axes(split)} ({len(numbers):,} rows)",
        )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="Distribution of the values", xlabel=plain_axes(name), ylabel="share of the split's rows")
    axes.legend(loc="best", fontsize="small")
    return finish(figure)
