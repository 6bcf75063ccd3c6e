"""Every figure of the notebooks. Matplotlib only: it is what GitHub renders. Colours from Okabe and Ito, safe for colour-blind readers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

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
    evaluations = [entry for entry in log_history if "eval_loss" in entry]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    _draw_losses(left, log_history)
    epochs = [entry.get("epoch") or 0 for entry in evaluations]
    squared = any("eval_pearson" in entry for entry in evaluations)
    left.set(title="Loss", xlabel="epoch", ylabel=_loss_name(log_history))
    kinds = {"eval_accuracy": ("accuracy", "s-", GREEN), "eval_f1_macro": ("macro-F1", "^--", PURPLE)}
    kinds |= {"eval_pearson": ("Pearson's r", "s-", GREEN), "eval_spearman": ("Spearman's rho", "^--", PURPLE)}
    for key, (name, style, color) in kinds.items():
        if any(key in entry for entry in evaluations):
            right.plot(epochs, [entry.get(key, np.nan) for entry in evaluations], style, color=color, label=name)
    right.set(title="Validation scores", xlabel="epoch", ylabel="correlation (−1 to 1)" if squared else "score (0 to 1)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return _finish(figure)


def _draw_losses(axes, log_history: Sequence[Mapping]) -> None:
    train = [(entry["epoch"], entry["loss"]) for entry in log_history if "loss" in entry]
    ends = np.array([epoch for epoch, _ in train])
    starts = np.concatenate([[0.0], ends[:-1]])
    # None, a loss that was not finite, becomes nan: a gap
    axes.plot((starts + ends) / 2, np.array([loss for _, loss in train], dtype=float), "o-", color=BLUE, markersize=4, label="training")
    evaluations = [(entry.get("epoch") or 0, entry["eval_loss"]) for entry in log_history if "eval_loss" in entry]
    axes.plot([epoch for epoch, _ in evaluations], np.array([loss for _, loss in evaluations], dtype=float), "s--", color=ORANGE, label="validation")


def _loss_name(log_history: Sequence[Mapping]) -> str:
    return "mean squared error" if any("eval_pearson" in entry for entry in log_history) else "cross-entropy (nats)"


def confusion_matrix(labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw how often each true class (rows) was predicted as which (columns): counts, shaded by the share of the true class."""
    side = min(14, 2.6 + 0.45 * len(names))
    figure, axes = plt.subplots(figsize=(side + 1.2, side), layout="constrained")
    image = _draw_confusion(axes, labels, predicted, names)
    axes.set(title="Confusion matrix", xlabel="predicted label", ylabel="true label")
    figure.colorbar(image, ax=axes, label="share of the true label's rows", shrink=0.8)
    return _finish(figure)


def _draw_confusion(axes, labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]):
    size = len(names)
    matrix = np.zeros((size, size), dtype=int)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if size <= 25:  # beyond that, numbers would be dust
        for i in range(size):
            for j in range(size):
                axes.text(j, i, f"{matrix[i, j]:,}", ha="center", va="center", color="black" if shares[i, j] > 0.55 else "white")
        tilted = size > 2 or max(len(str(name)) for name in names) > 12
        axes.set_xticks(range(size), [_plain(name) for name in names], rotation=45 if tilted else 0, ha="right" if tilted else "center")
        axes.set_yticks(range(size), [_plain(name) for name in names])
    return image


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


def ratings(valence: Sequence[float], rating_std: Sequence[float]) -> Figure:
    """Draw what stands behind the labels: how the mean ratings spread around the threshold at 0, and how far the raters of each text disagreed.

    Args:
        valence: mean rating of each text, -4 to 4; its sign is the label.
        rating_std: standard deviation of the ratings of each text, same length and unit.
    """
    valence, rating_std = np.asarray(valence, dtype=float), np.asarray(rating_std, dtype=float)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    edges = np.arange(-4, 4.01, 0.25)
    left.hist(valence[valence < 0], bins=edges, color=VERMILION, label="negative")
    left.hist(valence[valence > 0], bins=edges, color=BLUE, label="positive")
    left.set(title="The label is the sign of the mean rating", xlabel="mean rating (−4 to 4)", ylabel="texts")
    left.legend(title="label")
    right.scatter(valence, rating_std, s=4, alpha=0.35, color=np.where(valence > 0, BLUE, VERMILION), linewidths=0)
    for axes in (left, right):
        axes.axvline(0, color="black", linestyle="--", linewidth=1)
    right.axhline(1, color=GREEN, linestyle=":", label="a spread of 1 point")
    right.set(title="How far the raters disagreed", xlabel="mean rating (−4 to 4)", ylabel="standard deviation (points)")
    right.legend(loc="lower right", fontsize="small")
    return _finish(figure)


def padded_batches(ways: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Draw what batches hold, one panel a way of padding: real tokens blue, padding orange, one line a row.

    `ways` maps a way's name -> attention masks of some batches, each of shape (rows, tokens) with 1 for a real token.
    """
    figure, panels = plt.subplots(1, len(ways), figsize=(9, 3.6), sharex=True, sharey=True, layout="constrained", squeeze=False)
    widest = max(mask.shape[1] for masks in ways.values() for mask in masks)
    for axes, (name, masks) in zip(panels[0], ways.items(), strict=True):
        top = 0
        for mask in masks:
            colours = np.where(mask[..., None] == 1, to_rgb(BLUE), to_rgb(ORANGE))
            axes.imshow(colours, extent=(0, mask.shape[1], top + len(mask), top), aspect="auto", interpolation="nearest")
            top += len(mask)
            axes.axhline(top, color="black", linewidth=0.8)
        share = 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
        axes.set(title=f"{name}\n{share:.0%} padding", xlabel="position (tokens)", xlim=(0, widest), ylim=(top, 0))
    panels[0][0].set_ylabel("row (a line ends each batch)")
    figure.legend(handles=[Patch(color=BLUE, label="real token"), Patch(color=ORANGE, label="padding")], loc="outside lower center", ncols=2)
    return _finish(figure)


def padding_cost(tokens: Mapping[str, int], real: int, seconds: Mapping[str, float]) -> Figure:
    """Draw what each way of padding costs: tokens of one epoch, real and padding, and the seconds that some training steps took.

    Args:
        tokens: way -> tokens in all batches of an epoch.
        real: how many of them are real; the same for every way.
        seconds: way -> seconds, for the same ways.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.4), sharey=True, layout="constrained")
    names = list(tokens)
    left.barh(names, [real / 1000] * len(names), color=BLUE, label="real tokens")
    left.barh(names, [(tokens[name] - real) / 1000 for name in names], left=real / 1000, color=ORANGE, label="padding")
    left.set(title="Work of one epoch", xlabel="tokens (thousands)", ylabel="padded to")
    left.legend(fontsize="small")
    right.barh(names, [seconds[name] for name in names], color=GREEN)
    right.set(title="Time of a few training steps", xlabel="seconds")
    left.invert_yaxis()
    return _finish(figure)


def length_costs(lengths: Sequence[int], numbers: Mapping, figure: Figure | None = None) -> Figure:
    """Draw what `max_length` cuts off and what each way of padding costs.

    What moves is marked as animated: a saved figure shows it as any other, and `widgets` can redraw it alone, without axes and ticks.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        numbers: what `utils.widgets.length_numbers` returns for these lengths.
        figure: one that this function returned for the same lengths, to be brought up to date; None makes a new one.
    """
    ways, limit = list(numbers["tokens_per_text"]), numbers["max_length"]
    counts = np.bincount(np.asarray(lengths))
    if figure is None:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), gridspec_kw={"wspace": 0.55, "left": 0.08, "right": 0.97, "bottom": 0.19, "top": 0.87})
        widest = max(len(counts) - 1, limit)
        left.set(xlabel="tokens per text", ylabel="texts", xlim=(0, 1.03 * widest), ylim=(0, 1.05 * counts.max()))
        right.set(xlabel="tokens computed per text", ylabel="padded to", xlim=(0, 1.18 * widest), ylim=(len(ways) - 0.5, -0.5))
        right.set_yticks(range(len(ways)), ways)
        for axes, kinds in ((left, {"whole": BLUE, "cut": VERMILION}), (right, {"real": BLUE, "padding": ORANGE})):
            axes.legend(handles=[Patch(color=colour, label=kind) for kind, colour in kinds.items()], fontsize="small")
            for artist in (axes.title, axes.get_legend(), *axes.spines.values()):
                artist.set_animated(True)
        left.get_legend().set_loc("upper right")
        right.get_legend().set_loc("lower right")
        _finish(figure)
    left, right = figure.axes
    for artist in (*left.collections, *left.lines, *right.patches, *right.texts):
        artist.remove()
    positions = np.arange(len(counts))
    # one outline for all bars: hundreds of them would be too slow for a slider
    left.fill_between(positions, counts, where=positions <= limit, step="mid", color=BLUE, animated=True)
    left.fill_between(positions, counts, where=positions > limit, step="mid", color=VERMILION, animated=True)
    left.axvline(limit + 0.5, color="black", linestyle="--", linewidth=1, animated=True)
    left.set_title(f"max_length {limit}: {numbers['truncated']:.1%} of the texts are cut")
    real = numbers["real_tokens_per_text"]
    tokens = np.array([numbers["tokens_per_text"][way] for way in ways])
    right.barh(range(len(ways)), [real] * len(ways), color=BLUE, animated=True)
    right.barh(range(len(ways)), tokens - real, left=real, color=ORANGE, animated=True)
    for k, way in enumerate(ways):
        right.text(tokens[k], k, f" {numbers['padding'][way]:.0%}", va="center", animated=True)
    right.set_title(f"batches of {numbers['batch_size']}: share of padding")
    return figure


def learning_rates(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, steps_per_epoch: int = 0, axes=None) -> Figure:
    """Draw learning rates by optimizer step; each curve is (steps, rates), and dotted lines mark the ends of epochs.

    Args:
        steps_per_epoch: 0 draws no ends of epochs; nor are they drawn where there are more than thirty.
        axes: what to draw on instead of a new figure; earlier curves are taken off it, so that a control can use one figure again and again.
    """
    if axes is None:
        axes = plt.subplots(figsize=(7, 3.2), layout="constrained")[1]
    for line in list(axes.lines):  # axes.clear() would build all the ticks anew, a third of the time that drawing takes
        line.remove()
    for k, (name, (steps, rates)) in enumerate(curves.items()):
        marker = "o" if len(steps) <= 40 else ""
        axes.plot(steps, rates, ("-", "--", "-.")[k % 3], marker=marker, markersize=3, color=COLOURS[k % len(COLOURS)], label=_plain(name))
    last, highest = (max(max(curve[k]) for curve in curves.values()) for k in (0, 1))
    if steps_per_epoch and last <= 30 * steps_per_epoch:
        ends = np.arange(steps_per_epoch, last + 1, steps_per_epoch) + 0.5
        # one line with gaps for all ends: its x is in steps, its y in heights of the axes
        x, y = np.repeat(ends, 3), np.tile([0, 1, np.nan], len(ends))
        axes.plot(x, y, ":", color="0.6", linewidth=1, transform=axes.get_xaxis_transform(), label="end of an epoch")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set(xlabel="optimizer step", ylabel="learning rate", xlim=(1 - 0.03 * last, 1 + 1.03 * last), ylim=(0, 1.22 * highest or 1))
    axes.set_title(title, y=1.02)  # a fixed place is quicker than one that matplotlib looks for
    axes.legend(loc="upper right", fontsize="small", ncols=4)  # in the room above the highest rate
    return _finish(axes.figure)


def run_events(events: Mapping[str, Sequence[int]], steps: int) -> Figure:
    """Draw at which optimizer steps a run of `steps` steps did what: one row of marks for each name in `events`."""
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.38 * len(events)), layout="constrained")
    for k, at in enumerate(events.values()):
        axes.plot(at, [k] * len(at), "os^D"[k % 4], color=COLOURS[k % len(COLOURS)], markersize=8)
        axes.axhline(k, color="0.85", linewidth=1, zorder=0)
    axes.set_yticks(range(len(events)), [_plain(name) for name in events])
    axes.set(title="When a run does what", xlabel="optimizer step", ylabel="event", xlim=(-0.5, steps + 0.5), ylim=(len(events) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(figure)


def losses(curves: Mapping[str, Sequence[float]], coin: float, every: int = 1) -> Figure:
    """Draw training losses by optimizer step, one curve a name.

    Args:
        coin: the loss of a model that knows nothing, drawn as a dotted line.
        every: how many steps each value is the mean of; it is drawn at the last of them.
    """
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for k, (name, values) in enumerate(curves.items()):
        steps = every * np.arange(1, len(values) + 1)
        axes.plot(steps, values, "os^D"[k % 4] + "-", markersize=4, color=COLOURS[k % len(COLOURS)], label=_plain(name))
    axes.axhline(coin, color="0.4", linestyle=":", label="knows nothing")
    axes.set(title="Training loss", xlabel="optimizer step", ylabel="cross-entropy (nats), log scale", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper", fontsize="small")
    return _finish(figure)


def reliability_diagram(bins: Mapping[str, Mapping[str, Sequence[float]]], title: str = "How sure, and how often right") -> Figure:
    """Draw how often the model is right against how sure it is; on the dotted line the two are equal. Below it the model is too sure.

    Args:
        bins: name -> table of `utils.metrics.reliability`, for example before and after the temperature. A mark's area is its bin's share of the rows.
    """
    figure, axes = plt.subplots(figsize=(5, 4.6), layout="constrained")
    axes.plot([0, 1], [0, 1], ":", color="0.4", label="as sure as right")
    for k, (name, table) in enumerate(bins.items()):
        rows, sure, right = (np.asarray(table[column], dtype=float) for column in ("rows", "confidence", "right"))
        axes.plot(sure, right, ("-", "--", "-.")[k % 3], color=COLOURS[k % len(COLOURS)], linewidth=1.2, zorder=2)
        areas = 12 + 400 * rows / rows.sum()
        axes.scatter(sure, right, areas, marker="os^D"[k % 4], color=COLOURS[k % len(COLOURS)], alpha=0.6, linewidths=0, zorder=3)
        axes.plot([], [], ("-", "--", "-.")[k % 3] + "os^D"[k % 4], color=COLOURS[k % len(COLOURS)], label=_plain(name, 40))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title=title, xlabel="mean probability of the answer", ylabel="share of the answers that are right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize="small")
    return _finish(figure)


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
    axes.scatter(labels, predicted, s=12, color=BLUE, alpha=max(0.08, min(0.6, 300 / len(labels))), linewidths=0)
    axes.set(title=f"Predicted against true ({len(labels):,} rows)", xlabel=f"true {_plain(name)}", ylabel=f"predicted {_plain(name)}", xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize="small")
    return _finish(figure)


def value_distribution(values: Mapping[str, Sequence[float]], name: str = "value") -> Figure:
    """Draw how the numbers of a regression are distributed in each split. `values` maps split -> numbers, in the unit that `name` says."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(numbers, dtype=float) for numbers in values.values()]), bins=30)
    for k, (split, numbers) in enumerate(values.items()):
        shares = np.histogram(numbers, edges)[0] / len(numbers)
        axes.stairs(
            shares, edges, color=COLOURS[k % len(COLOURS)], linestyle=("-", "--", ":")[k % 3], linewidth=1.8, label=f"{_plain(split)} ({len(numbers):,} rows)"
        )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(title="Distribution of the values", xlabel=_plain(name), ylabel="share of the split's rows")
    axes.legend(loc="best", fontsize="small")
    return _finish(figure)


def shown(value) -> str:
    """Return a parameter's value as text; nan is what None becomes in a column of numbers."""
    return "None" if value is None or value != value else str(value)


def in_words(parameters: Mapping) -> str:
    """Return parameters as a name for people: "learning_rate 5e-05, seed 1"."""
    return ", ".join(f"{name} {shown(value)}" for name, value in parameters.items())


def deciding_score(table) -> str:
    """Return the score that chooses among runs where none is named: f1_macro, or pearson where a leaderboard or its summary has no f1_macro."""
    return "f1_macro" if {"validation_f1_macro", "validation_f1_macro_mean"} & set(table.columns) else "pearson"


def sweep_scores(leaderboard, x: str, score: str | None = None, by: str | None = None) -> Figure:
    """Draw the validation scores of a sweep along one parameter: a ring for each run, a mark at their mean, and a bar of one standard deviation each way.

    Runs without a score stand at the lower edge: those that failed, and with a mark of their own those that `Watch` stopped because they diverged.

    Args:
        leaderboard: a table of `utils.batch`.
        x: the parameter. Its axis is logarithmic where the values are positive and span a factor of ten or more.
        score: None means f1_macro, or pearson where there is no f1_macro.
        by: a second parameter, told apart by colour and mark; None puts all runs with the same x together, whatever else differs.
    """
    score = score or deciding_score(leaderboard)
    at_x, of_group = leaderboard[x].map(shown), leaderboard[by].map(shown) if by else leaderboard["run_id"].map(lambda run: "mean ± std")
    place = {value: _number(value) for value in dict.fromkeys(at_x)}
    numeric = bool(np.isfinite(list(place.values())).all())
    place = dict(sorted(place.items(), key=lambda pair: pair[1])) if numeric else {value: float(k) for k, value in enumerate(place)}
    low, high = min(place.values()), max(place.values())
    log = numeric and low > 0 and high >= 10 * low
    groups = list(dict.fromkeys(of_group))
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    lost = {}  # (kind, place) -> runs
    for k, group in enumerate(groups):
        colour, shift = COLOURS[k % len(COLOURS)], 0.02 * (k - (len(groups) - 1) / 2)  # side by side, or bars would hide each other
        means = []
        for value, middle in place.items():
            at = middle * (high / low) ** shift if log else middle + shift * ((high - low) or 1)
            runs = leaderboard[(of_group == group) & (at_x == value)]
            scores = runs[f"validation_{score}"].dropna().to_numpy(dtype=float)
            if len(scores):
                axes.plot([at] * len(scores), scores, "o", color=colour, markersize=8, fillstyle="none", gid="runs")
                means.append((at, scores.mean(), scores.std(ddof=1) if len(scores) > 1 else np.nan))  # nan: no bar
            for error in runs["error"][runs[f"validation_{score}"].isna()]:
                kind = "diverged" if str(error).startswith("WatchError") else "failed"
                lost[kind, middle] = lost.get((kind, middle), 0) + 1
        if means:
            style = "os^D"[k % 4] + (("-", "--", "-.")[k % 3] if numeric else "")
            axes.errorbar(*zip(*means, strict=True), fmt=style, color=colour, markersize=5, capsize=4, linewidth=1.2, label=_plain(group))
    axes.plot([], [], "o", color="0.4", markersize=8, fillstyle="none", label="one run")
    if lost:
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.19 * (top - bottom), top)
        axes.axhspan(axes.get_ylim()[0], bottom, color="0.92", zorder=0)  # 0.16 of the height, for runs without a score
    for kind, y, marker, colour, label in (("diverged", 0.115, "v", VERMILION, "diverged (stopped by Watch)"), ("failed", 0.045, "x", "black", "failed")):
        here = {at: runs for (which, at), runs in lost.items() if which == kind}
        if here:
            axes.plot(list(here), [y] * len(here), marker, color=colour, markersize=8, transform=axes.get_xaxis_transform(), label=label, gid=kind)
        for at, runs in here.items():
            axes.annotate(f"×{runs}" if runs > 1 else "", (at, y), xytext=(6, -3), textcoords="offset points", xycoords=axes.get_xaxis_transform(), fontsize=8)
    axes.margins(x=0.08)
    if log:
        axes.set_xscale("log")
    if len(place) <= 12:
        tilted = len(place) > 6 or max(map(len, place)) > 10
        axes.set_xticks(list(place.values()), [_plain(value) for value in place], rotation=30 if tilted else 0, ha="right" if tilted else "center")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title=f"Validation {_score_name(score)}", xlabel=_plain(x, 40) + (", log scale" if log else ""), ylabel=_score_axis(score))
    figure.legend(loc="outside right upper", fontsize="small", title=_plain(by, 40) if by else None, title_fontsize="small")
    return _finish(figure)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _score_axis(score: str) -> str:
    return {"pearson": "correlation (−1 to 1)", "mae": "mean absolute error (unit of the labels)"}.get(score, f"{_score_name(score)} (0 to 1)")


def _score_name(score: str) -> str:
    return {"f1_macro": "macro-F1", "pearson": "Pearson's r", "mae": "error"}.get(score, score)


def score_against_cost(summary, score: str | None = None) -> Figure:
    """Draw what a run takes against what it gets: one mark a configuration, with bars of one standard deviation over its seeds.

    Args:
        summary: the table of `utils.leaderboard.compare_runs`. Beyond twelve configurations only the best twelve have a name.
        score: of the validation split; None means f1_macro, or pearson where there is no f1_macro.
    """
    score = score or deciding_score(summary)
    column = f"validation_{score}"
    names = list(summary.columns[: list(summary.columns).index("best")])
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for k, (_, row) in enumerate(summary[summary[f"{column}_mean"].notna()].iterrows()):
        label = _plain((", ".join(shown(row[name]) for name in names) or "all runs") + (" (best)" if row["best"] else ""), 40)
        axes.errorbar(
            row["seconds_mean"],
            row[f"{column}_mean"],
            row[f"{column}_std"],
            row["seconds_std"],
            fmt="os^D"[k % 4] if k < 12 else ".",
            color=COLOURS[k % len(COLOURS)] if k < 12 else "0.6",
            capsize=3,
            label=label if k < 12 else None,
        )
    axes.set(title=f"Validation {_score_name(score)} against cost", xlabel="seconds a run", ylabel=_score_axis(score))
    axes.set_xlim(0, 1.02 * axes.get_xlim()[1])  # or a tenth of a second would look like much
    figure.legend(loc="outside right upper", fontsize="small", title=",\n".join(_plain(name, 40) for name in names), title_fontsize="small")
    return _finish(figure)


def curves_side_by_side(histories: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Draw training and validation loss by epoch, a panel for each run, on the same axes: a log scale where one run is ten times above the others.

    Args:
        histories: name of a run -> its `trainer.state.log_history`. A loss of None or nan leaves a gap.
    """
    figure, panels = plt.subplots(1, len(histories), figsize=(1 + 3.2 * len(histories), 3.4), sharex=True, sharey=True, layout="constrained", squeeze=False)
    for axes, (name, history) in zip(panels[0], histories.items(), strict=True):
        _draw_losses(axes, history)
        axes.set_title(_of_run(name), fontsize="medium")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0)  # shared; whole epochs are then marked in a run of one epoch, too
    highest = [max(values) for axes in panels[0] if (values := [y for line in axes.lines for y in line.get_ydata() if np.isfinite(y)])]
    log = len(highest) > 1 and max(highest) > 10 * min(highest)
    if log:
        axes.set_yscale("log")
    panels[0][0].set_ylabel(_loss_name([entry for history in histories.values() for entry in history]) + (", log scale" if log else ""))
    panels[0][0].legend()
    return _finish(figure)


def _of_run(name: str) -> str:
    return "\n".join(_plain(part, 34) for part in name.split(", "))


def confusions_side_by_side(answers: Mapping[str, tuple[Sequence, Sequence]], names: Sequence | None = None) -> Figure:
    """Draw the confusion matrices of some runs, all with the same labels in the same places and the same shades.

    Args:
        answers: name of a run -> (labels, predicted), each a list of label names, one a row.
        names: the labels in the order in which they are drawn; None means sorted.
    """
    names = list(names or sorted({label for columns in answers.values() for column in columns for label in column}))
    code = {name: k for k, name in enumerate(names)}
    side, lines = min(7, 2.4 + 0.45 * len(names)), max(_of_run(name).count("\n") for name in answers)
    words = 0.09 * min(24, max(len(str(name)) for name in names))  # the room that labels take, in inches
    size = (1.2 + words + side * len(answers), side + 0.2 * lines + 0.5 * words)
    figure, panels = plt.subplots(1, len(answers), figsize=size, sharey=True, layout="compressed", squeeze=False)
    for axes, (name, columns) in zip(panels[0], answers.items(), strict=True):
        labels, predicted = ([code[label] for label in column] for column in columns)
        image = _draw_confusion(axes, labels, predicted, names)
        axes.set_title(_of_run(name), fontsize="medium")
        axes.set_xlabel("predicted label")
    panels[0][0].set_ylabel("true label")
    figure.colorbar(image, ax=panels[0], label="share of the true label's rows", shrink=0.8)
    return _finish(figure)
