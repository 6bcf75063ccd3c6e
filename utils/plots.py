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


def _plain(text: str, limit: int = 24) -> str:
    """Escape what matplotlib would take for a formula, and shorten."""
    text = str(text) if len(str(text)) <= limit else str(text)[: limit - 1] + "…"
    return text.replace("$", r"\$")


def _finish(figure: Figure) -> Figure:
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
        axes.barh(np.arange(len(labels)) + k * height, shares, height, color=COLOURS[k % len(COLOURS)], label=f"{_plain(split)} ({total:,} rows)")
    axes.set_yticks(np.arange(len(labels)) + 0.4 - height / 2, [_plain(label) for label in labels])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="Label balance", xlabel="share of the split's rows", ylabel="label")
    axes.legend(loc="best", fontsize="small")
    return _finish(figure)


def text_lengths(lengths: Sequence[int], max_length: int) -> Figure:
    """Draw how long the texts are, in tokens with the special ones, and where `max_length` cuts."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    width = 1 + int(np.ptp(lengths)) // 60  # whole tokens: bins of 1.3 would draw a comb that is not in the data
    axes.hist(lengths, bins=np.arange(min(lengths), max(lengths) + 1 + width, width) - 0.5, color=BLUE)
    axes.axvline(max_length, color=VERMILION, linestyle="--", label=f"max_length = {max_length}")
    axes.set(title="Text lengths", xlabel="tokens per text, special tokens included", ylabel="texts")
    axes.legend()
    return _finish(figure)


def learning_curves(log_history: Sequence[Mapping]) -> Figure:
    """Draw loss and validation scores by epoch from `trainer.state.log_history`.

    A training loss is the mean since the point before it, and is drawn in the middle of that stretch.
    """
    train = [(entry["epoch"], entry["loss"]) for entry in log_history if "loss" in entry]
    evaluations = [entry for entry in log_history if "eval_loss" in entry]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    ends = np.array([epoch for epoch, _ in train])
    starts = np.concatenate([[0.0], ends[:-1]])
    left.plot((starts + ends) / 2, [loss for _, loss in train], "o-", color=BLUE, markersize=4, label="training")
    epochs = [entry.get("epoch") or 0 for entry in evaluations]
    left.plot(epochs, [entry["eval_loss"] for entry in evaluations], "s--", color=ORANGE, label="validation")
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
    for key, name, style in (("eval_accuracy", "accuracy", "s-"), ("eval_f1_macro", "macro-F1", "^--")):
        if any(key in entry for entry in evaluations):
            right.plot(epochs, [entry.get(key, np.nan) for entry in evaluations], style, color=GREEN if key.endswith("accuracy") else PURPLE, label=name)
    right.set(title="Validation scores", xlabel="epoch", ylabel="score (0 to 1)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return _finish(figure)


def confusion_matrix(labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw how often each true class (rows) was predicted as which (columns): counts, shaded by the share of the true class."""
    size = len(names)
    matrix = np.zeros((size, size), dtype=int)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(14, 2.6 + 0.45 * size)
    figure, axes = plt.subplots(figsize=(side + 1.2, side), layout="constrained")
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if size <= 25:  # beyond that, numbers would be dust
        for i in range(size):
            for j in range(size):
                axes.text(j, i, f"{matrix[i, j]:,}", ha="center", va="center", color="black" if shares[i, j] > 0.55 else "white")
        axes.set_xticks(range(size), [_plain(name) for name in names], rotation=45 if size > 2 else 0, ha="right" if size > 2 else "center")
        axes.set_yticks(range(size), [_plain(name) for name in names])
    axes.set(title="Confusion matrix", xlabel="predicted label", ylabel="true label")
    figure.colorbar(image, ax=axes, label="share of the true label's rows", shrink=0.8)
    return _finish(figure)


def save(figure: Figure, path: Path) -> Figure:
    """Write the figure as PNG, whole or not at all, and return it, so that a cell can end with `save(...)` and show it."""
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
    return figure


def stacked_bars(parts: Mapping[str, Mapping[str, float]], title: str, xlabel: str, ylabel: str) -> Figure:
    """Draw one horizontal bar a row, made of its parts. `parts` maps row -> part -> length in the unit that `xlabel` names."""
    names = list(dict.fromkeys(name for row in parts.values() for name in row))
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.36 * len(parts)), layout="constrained")
    start = np.zeros(len(parts))
    for k, name in enumerate(names):
        width = np.array([row.get(name, 0) for row in parts.values()], dtype=float)
        axes.barh(range(len(parts)), width, left=start, color=COLOURS[k % len(COLOURS)], label=_plain(name))
        start += width
    axes.set_yticks(range(len(parts)), [_plain(row, 40) for row in parts])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, xlim=(0, 1.04 * start.max()))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")  # outside: a bar may reach anywhere
    return _finish(figure)


def untrained_accuracies(accuracies: Sequence[float], majority: float) -> Figure:
    """Draw the accuracies of many untrained heads (0 to 1) as a histogram, beside a coin's and the share of the commonest label."""
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.hist(accuracies, bins=np.arange(0, 1.02, 0.02), color=SKY)
    axes.axvline(0.5, color=ORANGE, linestyle=":", linewidth=2, label="a coin")
    axes.axvline(majority, color=VERMILION, linestyle="--", linewidth=2, label="always the commonest label")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=f"{len(accuracies)} untrained heads", xlabel="accuracy (share of the tweets)", ylabel="heads")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return _finish(figure)
