"""Figures and the control of 02_data_prep."""

from collections.abc import Mapping, Sequence

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from utils.lessons.controls import Picture, control
from utils.plots import BLUE, GREEN, ORANGE, VERMILION, finish
from utils.preflight.setup import padded_tokens


def ratings(valence: Sequence[float], rating_std: Sequence[float]) -> Figure:
    """Draw how the mean ratings spread around the threshold at 0, and how far raters disagreed.

    Args:
        valence: mean rating of each text, -4 to 4; its sign is the label.
        rating_std: standard deviation of the ratings of each text, same length and unit.
    """
    valence = np.asarray(valence, dtype=float)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    edges = np.arange(-4, 4.01, 0.25)
    left.hist(valence[valence < 0], bins=edges, color=VERMILION, label="negative")
    left.hist(valence[valence > 0], bins=edges, color=BLUE, label="positive")
    left.set(title="The label is the sign of the mean rating", ylabel="texts")
    left.legend(title="label")
    colours = np.where(valence > 0, BLUE, VERMILION)
    right.scatter(valence, rating_std, s=4, alpha=0.35, color=colours, linewidths=0)
    right.axhline(1, color=GREEN, linestyle=":", label="a spread of 1 point")
    right.set(title="How far the raters disagreed", ylabel="standard deviation (points)")
    right.legend(loc="lower right", fontsize="small")
    for axes in (left, right):
        axes.axvline(0, color="black", linestyle="--", linewidth=1)
        axes.set_xlabel("mean rating (−4 to 4)")
    return finish(figure)


def padded_batches(ways: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Draw what batches hold, a panel for each way of padding, a line a row: real tokens and padding.

    `ways` maps a way's name -> attention masks of some batches, of shape (rows, tokens), 1 for a real token.
    """
    size = {"figsize": (9, 3.6), "squeeze": False}
    figure, panels = plt.subplots(1, len(ways), sharex=True, sharey=True, layout="constrained", **size)
    widest = max(mask.shape[1] for masks in ways.values() for mask in masks)
    for axes, (name, masks) in zip(panels[0], ways.items(), strict=True):
        top = 0
        for mask in masks:
            colours = np.where(mask[..., None] == 1, to_rgb(BLUE), to_rgb(ORANGE))
            place = (0, mask.shape[1], top + len(mask), top)
            axes.imshow(colours, extent=place, aspect="auto", interpolation="nearest")
            top += len(mask)
            axes.axhline(top, color="black", linewidth=0.8)
        share = 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
        axes.set(title=f"{name}\n{share:.0%} padding", xlabel="position (tokens)")
        axes.set(xlim=(0, widest), ylim=(top, 0))
    panels[0][0].set_ylabel("row (a line ends each batch)")
    kinds = [Patch(color=BLUE, label="real token"), Patch(color=ORANGE, label="padding")]
    figure.legend(handles=kinds, loc="outside lower center", ncols=2)
    return finish(figure)


def three_ways(lengths: Sequence[int], max_length: int, batch_size: int, batches: int = 6) -> Figure:
    """Draw some batches of an epoch, padded to max_length, to their longest row, and grouped by length.

    The arguments are those of `length_numbers`; `batches` says how many are drawn, at the same places each.
    """
    cut = np.minimum(lengths, max_length)
    shuffled, grouped = np.random.RandomState(0).permutation(cut), np.sort(cut)
    starts = np.random.RandomState(0).permutation(range(0, len(cut), batch_size))[:batches]

    def masks(ordered: np.ndarray, width: int | None = None) -> list[np.ndarray]:
        rows = [ordered[start : start + batch_size, None] for start in starts]
        return [np.arange(width or row.max()) < row for row in rows]

    ways = {"to max_length": masks(shuffled, max_length), "to the longest in the batch": masks(shuffled)}
    return padded_batches(ways | {"grouped by length": masks(grouped)})


def length_numbers(lengths: Sequence[int], max_length: int, batch_size: int) -> dict:
    """Return what a cut at `max_length` loses and what padding costs in batches of `batch_size`.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        max_length: in tokens.
        batch_size: in texts.

    Returns:
        `max_length`, `batch_size`; `truncated`: share of the texts that are cut; `real_tokens_per_text`: mean
        after the cut; and by way of padding ("max_length": all texts to that; "longest in batch": in random
        order; "grouped": sorted by length first) `tokens_per_text`: what the model computes; `padding`: its
        share of that.

    Raises:
        ValueError: no lengths, or a length, max_length or batch_size below 1.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if lengths.size == 0 or min(lengths.min(), max_length, batch_size) < 1:
        raise ValueError("There must be lengths, and they, max_length and batch_size must be 1 or more.")
    cut = np.minimum(lengths, max_length)
    shuffled = np.random.RandomState(0).permutation(cut)
    tokens = {
        "max_length": cut.size * max_length,
        "longest in batch": padded_tokens(shuffled, batch_size),
        "grouped": padded_tokens(np.sort(cut), batch_size),
    }
    return {
        "max_length": max_length,
        "batch_size": batch_size,
        "truncated": float(np.mean(lengths > max_length)),
        "real_tokens_per_text": float(cut.mean()),
        "tokens_per_text": {way: number / cut.size for way, number in tokens.items()},
        "padding": {way: 1 - float(cut.sum()) / number for way, number in tokens.items()},
    }


def length_costs(lengths: Sequence[int], numbers: Mapping, figure: Figure | None = None) -> Figure:
    """Draw what `max_length` cuts off and what each way of padding costs.

    What moves is marked as animated, for `Picture`; a saved figure shows it as any other.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        numbers: what `length_numbers` returns for these lengths.
        figure: one that this function made for the same lengths, to be brought up to date; or None.
    """
    limit, real, counts = numbers["max_length"], numbers["real_tokens_per_text"], np.bincount(lengths)
    ways, tokens = list(numbers["tokens_per_text"]), np.array(list(numbers["tokens_per_text"].values()))
    figure = figure or _length_axes(max(len(counts) - 1, limit), counts.max(), ways)
    left, right = figure.axes
    for artist in (*left.collections, *left.lines, *right.patches, *right.texts):
        artist.remove()
    positions = np.arange(len(counts))
    for kept, colour in ((positions <= limit, BLUE), (positions > limit, VERMILION)):
        # one outline for all bars: hundreds of them would be too slow for a slider
        left.fill_between(positions, counts, where=kept, step="mid", color=colour, animated=True)
    left.axvline(limit + 0.5, color="black", linestyle="--", linewidth=1, animated=True)
    left.set_title(f"max_length {limit}: {numbers['truncated']:.1%} of the texts are cut", animated=True)
    right.barh(range(len(ways)), tokens, color=ORANGE, animated=True)
    right.barh(range(len(ways)), real, color=BLUE, animated=True)
    for k, share in enumerate(numbers["padding"].values()):
        right.text(tokens[k], k, f" {share:.0%}", va="center", animated=True)
    right.set_title(f"batches of {numbers['batch_size']}: share of padding", animated=True)
    return figure


def _length_axes(widest: int, highest: int, ways: Sequence[str]) -> Figure:
    """Make the figure of `length_costs` with all that does not move."""
    places = {"wspace": 0.55, "left": 0.08, "right": 0.97, "bottom": 0.19, "top": 0.87}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), gridspec_kw=places)
    left.set(xlabel="tokens per text", xlim=(0, 1.03 * widest), ylabel="texts", ylim=(0, 1.05 * highest))
    right.set(xlabel="tokens computed per text", xlim=(0, 1.18 * widest), ylabel="padded to")
    right.set_yticks(range(len(ways)), ways)
    right.set_ylim(len(ways) - 0.5, -0.5)
    for axes, place, kinds in (
        (left, "upper right", {"whole": BLUE, "cut": VERMILION}),
        (right, "lower right", {"real": BLUE, "padding": ORANGE}),
    ):
        patches = [Patch(color=colour, label=kind) for kind, colour in kinds.items()]
        legend = axes.legend(handles=patches, loc=place, fontsize="small")
        for artist in (legend, *axes.spines.values()):  # drawn over the bars
            artist.set_animated(True)
    return finish(figure)


def length_explorer(lengths: Sequence[int], max_length: int = 128, batch_size: int = 16) -> ipywidgets.VBox:
    """Return a control that shows what a cut and padding cost. The arguments are those of `length_numbers`.

    Its attributes: `max_length` and `batch_size` (sliders), `words` (HTML), `image` (PNG) and `numbers`, what
    `length_numbers` returned last.

    Raises:
        ValueError: as in `length_numbers`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    figure = length_costs(lengths, length_numbers(lengths, max_length, batch_size))
    longest = max(int(lengths.max()), max_length)
    inputs = {
        "max_length": ipywidgets.IntSlider(max_length, min(3, max_length), longest),
        "batch_size": ipywidgets.IntSlider(batch_size, 1, max(128, batch_size)),
    }

    def redraw(box: ipywidgets.VBox) -> None:
        box.numbers = numbers = length_numbers(lengths, box.max_length.value, box.batch_size.value)
        padding = {way: f"{share:.0%}" for way, share in numbers["padding"].items()}
        box.words.value = (
            f"{numbers['truncated']:.1%} of the texts are cut. Of what the model computes, "
            f"{padding['max_length']} is padding if all are padded to max_length, "
            f"{padding['longest in batch']} to the longest in the batch, {padding['grouped']} grouped by "
            "length."
        )
        box.image.show(length_costs(lengths, numbers, figure))

    return control(inputs, {"words": ipywidgets.HTML(), "image": Picture()}, redraw, width="440px")
