"""Figures and controls of 02_data_prep."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from utils.plots import BLUE, GREEN, ORANGE, VERMILION, finish


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
    right.scatter(
        valence, rating_std, s=4, alpha=0.35, color=np.where(valence > 0, BLUE, VERMILION), linewidths=0
    )
    for axes in (left, right):
        axes.axvline(0, color="black", linestyle="--", linewidth=1)
    right.axhline(1, color=GREEN, linestyle=":", label="a spread of 1 point")
    right.set(
        title="How far the raters disagreed",
        xlabel="mean rating (−4 to 4)",
        ylabel="standard deviation (points)",
    )
    right.legend(loc="lower right", fontsize="small")
    return finish(figure)


def padded_batches(ways: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Draw what batches hold, one panel a way of padding: real tokens blue, padding orange, one line a row.

    `ways` maps a way's name -> attention masks of some batches, each of shape (rows, tokens) with 1 for a real token.
    """
    figure, panels = plt.subplots(
        1, len(ways), figsize=(9, 3.6), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    widest = max(mask.shape[1] for masks in ways.values() for mask in masks)
    for axes, (name, masks) in zip(panels[0], ways.items(), strict=True):
        top = 0
        for mask in masks:
            colours = np.where(mask[..., None] == 1, to_rgb(BLUE), to_rgb(ORANGE))
            axes.imshow(
                colours,
                extent=(0, mask.shape[1], top + len(mask), top),
                aspect="auto",
                interpolation="nearest",
            )
            top += len(mask)
            axes.axhline(top, color="black", linewidth=0.8)
        share = 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
        axes.set(
            title=f"{name}\n{share:.0%} padding", xlabel="position (tokens)", xlim=(0, widest), ylim=(top, 0)
        )
    panels[0][0].set_ylabel("row (a line ends each batch)")
    figure.legend(
        handles=[Patch(color=BLUE, label="real token"), Patch(color=ORANGE, label="padding")],
        loc="outside lower center",
        ncols=2,
    )
    return finish(figure)


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
    left.barh(
        names,
        [(tokens[name] - real) / 1000 for name in names],
        left=real / 1000,
        color=ORANGE,
        label="padding",
    )
    left.set(title="Work of one epoch", xlabel="tokens (thousands)", ylabel="padded to")
    left.legend(fontsize="small")
    right.barh(names, [seconds[name] for name in names], color=GREEN)
    right.set(title="Time of a few training steps", xlabel="seconds")
    left.invert_yaxis()
    return finish(figure)


def length_costs(lengths: Sequence[int], numbers: Mapping, figure: Figure | None = None) -> Figure:
    """Draw what `max_length` cuts off and what each way of padding costs.

    What moves is marked as animated: a saved figure shows it as any other, and `widgets` can redraw it alone, without axes and ticks.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        numbers: what `length_numbers` returns for these lengths.
        figure: one that this function returned for the same lengths, to be brought up to date; None makes a new one.
    """
    ways, limit = list(numbers["tokens_per_text"]), numbers["max_length"]
    counts = np.bincount(np.asarray(lengths))
    if figure is None:
        figure, (left, right) = plt.subplots(
            1,
            2,
            figsize=(9, 3),
            gridspec_kw={"wspace": 0.55, "left": 0.08, "right": 0.97, "bottom": 0.19, "top": 0.87},
        )
        widest = max(len(counts) - 1, limit)
        left.set(
            xlabel="tokens per text", ylabel="texts", xlim=(0, 1.03 * widest), ylim=(0, 1.05 * counts.max())
        )
        right.set(
            xlabel="tokens computed per text",
            ylabel="padded to",
            xlim=(0, 1.18 * widest),
            ylim=(len(ways) - 0.5, -0.5),
        )
        right.set_yticks(range(len(ways)), ways)
        for axes, kinds in (
            (left, {"whole": BLUE, "cut": VERMILION}),
            (right, {"real": BLUE, "padding": ORANGE}),
        ):
            axes.legend(
                handles=[Patch(color=colour, label=kind) for kind, colour in kinds.items()], fontsize="small"
            )
            for artist in (axes.title, axes.get_legend(), *axes.spines.values()):
                artist.set_animated(True)
        left.get_legend().set_loc("upper right")
        right.get_legend().set_loc("lower right")
        finish(figure)
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


class Picture(ipywidgets.Image):
    """A figure as a PNG, for a control to redraw. It needs no front-end extension, so it is the same in Colab and in JupyterLab.

    Axes, ticks and names are rendered once; `redraw` renders only the artists marked as animated on top of them, in a hundredth of a second.
    """

    def __init__(self, figure: Figure, dpi: int = 80):
        super().__init__(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self._figure = figure
        figure.set_dpi(dpi)
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()  # all but the animated artists
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        self.redraw()

    def redraw(self) -> None:
        self._canvas.restore_region(self._background)
        for axes in self._figure.axes:
            for artist in sorted(
                axes.findobj(lambda artist: artist.get_animated()), key=lambda artist: artist.get_zorder()
            ):
                axes.draw_artist(artist)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).save(buffer, format="png")
        self.value = buffer.getvalue()


def length_numbers(lengths: Sequence[int], max_length: int, batch_size: int) -> dict[str, Any]:
    """Return what a cut at `max_length` loses and what padding costs in batches of `batch_size`.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        max_length: in tokens.
        batch_size: in texts.

    Returns:
        `max_length` and `batch_size` as given; `truncated`: share of the texts that are cut; `real_tokens_per_text`: mean after the cut; and by
        way of padding ("max_length": all texts to that; "longest in batch": dynamic padding in random order; "grouped": the same, sorted by length
        first) `tokens_per_text`: what the model computes; `padding`: share of that; `cost`: the same relative to padding everything to `max_length`.

    Raises:
        ValueError: no lengths, or a length, max_length or batch_size below 1.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if lengths.size == 0 or lengths.min() < 1 or max_length < 1 or batch_size < 1:
        raise ValueError(
            "There must be at least one length, and lengths, max_length and batch_size must be 1 or more."
        )
    cut = np.minimum(lengths, max_length)
    shuffled = np.random.RandomState(0).permutation(cut)
    tokens = {
        "max_length": cut.size * max_length,
        "longest in batch": _computed(shuffled, batch_size),
        "grouped": _computed(np.sort(cut), batch_size),
    }
    return {
        "max_length": max_length,
        "batch_size": batch_size,
        "truncated": float(np.mean(lengths > max_length)),
        "real_tokens_per_text": float(cut.mean()),
        "tokens_per_text": {way: number / cut.size for way, number in tokens.items()},
        "padding": {way: 1 - float(cut.sum()) / number for way, number in tokens.items()},
        "cost": {way: number / tokens["max_length"] for way, number in tokens.items()},
    }


def _computed(lengths: np.ndarray, batch_size: int) -> int:
    """Return how many tokens the model works through if each batch, in the order given, is padded to its longest text."""
    starts = np.arange(0, lengths.size, batch_size)
    rows = np.diff(np.append(starts, lengths.size))
    return int((rows * np.maximum.reduceat(lengths, starts)).sum())


def length_explorer(lengths: Sequence[int], max_length: int = 128, batch_size: int = 16) -> ipywidgets.VBox:
    """Show two sliders, max_length and batch size, above what they cost: texts cut, share of padding, relative cost, and a figure.

    The box has the sliders as `max_length` and `batch_size`, the picture as `image` and what `length_numbers` returned last as `numbers`, so that
    it can be driven from Python: `box.max_length.value = 32`.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        max_length: where its slider starts, in tokens.
        batch_size: where its slider starts, in texts; 1 to 128.

    Raises:
        ValueError: as in `length_numbers`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    numbers = length_numbers(lengths, max_length, batch_size)
    wide = {"style": {"description_width": "90px"}, "layout": ipywidgets.Layout(width="480px")}
    box = ipywidgets.VBox()
    box.max_length = ipywidgets.IntSlider(
        max_length, min(3, max_length), max(int(lengths.max()), max_length), description="max_length", **wide
    )
    box.batch_size = ipywidgets.IntSlider(
        batch_size, 1, max(128, batch_size), description="batch size", **wide
    )
    figure = length_costs(lengths, numbers)  # one figure for the explorer's life
    box.words, box.image = ipywidgets.HTML(), Picture(figure)

    def redraw(change=None):
        box.numbers = numbers = length_numbers(lengths, box.max_length.value, box.batch_size.value)
        box.words.value = (
            f"{numbers['truncated']:.1%} of the texts are cut. Of what the model computes, {numbers['padding']['longest in batch']:.0%} is padding, "
            f"at {numbers['cost']['longest in batch']:.2f} of the cost of padding everything to max_length; "
            f"grouped by length {numbers['padding']['grouped']:.0%}, at {numbers['cost']['grouped']:.2f}."
        )
        length_costs(lengths, numbers, figure)
        box.image.redraw()

    for slider in (box.max_length, box.batch_size):
        slider.observe(redraw, "value")
    redraw()
    box.children = (box.max_length, box.batch_size, box.words, box.image)
    return box
