"""Every interactive control (ipywidgets, the API common to 7.7.1 and 8). Each stands beside a static figure made by the same function of `plots`."""

import io
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from utils import plots


class Picture(widgets.Image):
    """A figure as a PNG, for a control to redraw. It needs no front-end extension, so it is the same in Colab and in JupyterLab.

    Axes, ticks and names are rendered once; `redraw` renders only the artists marked as animated on top of them, in a hundredth of a second.
    """

    def __init__(self, figure: Figure, dpi: int = 80):
        super().__init__(format="png", layout=widgets.Layout(max_width="100%"))
        self._figure = figure
        figure.set_dpi(dpi)
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()  # all but the animated artists
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        self.redraw()

    def redraw(self) -> None:
        self._canvas.restore_region(self._background)
        for axes in self._figure.axes:
            for artist in sorted(axes.findobj(lambda artist: artist.get_animated()), key=lambda artist: artist.get_zorder()):
                axes.draw_artist(artist)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).save(buffer, format="png")
        self.value = buffer.getvalue()


# --- how long texts may be --------------------------------------------------------------------------------------------


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
        raise ValueError("There must be at least one length, and lengths, max_length and batch_size must be 1 or more.")
    cut = np.minimum(lengths, max_length)
    shuffled = np.random.RandomState(0).permutation(cut)
    tokens = {"max_length": cut.size * max_length, "longest in batch": _computed(shuffled, batch_size), "grouped": _computed(np.sort(cut), batch_size)}
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


def length_explorer(lengths: Sequence[int], max_length: int = 128, batch_size: int = 16) -> widgets.VBox:
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
    wide = {"style": {"description_width": "90px"}, "layout": widgets.Layout(width="480px")}
    box = widgets.VBox()
    box.max_length = widgets.IntSlider(max_length, min(3, max_length), max(int(lengths.max()), max_length), description="max_length", **wide)
    box.batch_size = widgets.IntSlider(batch_size, 1, max(128, batch_size), description="batch size", **wide)
    figure = plots.length_costs(lengths, numbers)  # one figure for the explorer's life
    box.words, box.image = widgets.HTML(), Picture(figure)

    def redraw(change=None):
        box.numbers = numbers = length_numbers(lengths, box.max_length.value, box.batch_size.value)
        box.words.value = (
            f"{numbers['truncated']:.1%} of the texts are cut. Of what the model computes, {numbers['padding']['longest in batch']:.0%} is padding, "
            f"at {numbers['cost']['longest in batch']:.2f} of the cost of padding everything to max_length; "
            f"grouped by length {numbers['padding']['grouped']:.0%}, at {numbers['cost']['grouped']:.2f}."
        )
        plots.length_costs(lengths, numbers, figure)
        box.image.redraw()

    for slider in (box.max_length, box.batch_size):
        slider.observe(redraw, "value")
    redraw()
    box.children = (box.max_length, box.batch_size, box.words, box.image)
    return box
