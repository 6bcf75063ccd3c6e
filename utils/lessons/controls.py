"""What the controls of all chapters share: one shape, and a figure that is redrawn in place."""

import io
from collections.abc import Callable, Mapping

import ipywidgets
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def control(
    inputs: Mapping[str, ipywidgets.Widget],
    outputs: Mapping[str, ipywidgets.Widget],
    redraw: Callable[[ipywidgets.VBox], None],
    width: str = "340px",
) -> ipywidgets.VBox:
    """Return a box with the inputs above the outputs, each an attribute of the box under its name.

    Args:
        inputs: widgets with a `value`; the box has them together as `inputs`, too.
        redraw: takes the box, reads the inputs, fills the outputs; called now and at each change of an input.
        width: of each input; they stand side by side where there is room.
    """
    row = ipywidgets.Box(list(inputs.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
    box = ipywidgets.VBox([row, *outputs.values()])
    box.inputs = dict(inputs)
    for name, widget in {**inputs, **outputs}.items():
        setattr(box, name, widget)
    for name, widget in inputs.items():
        widget.description = widget.description or name
        widget.style.description_width, widget.layout.width = "100px", width
        widget.observe(lambda change: redraw(box), names="value")
    redraw(box)
    return box


class Picture(ipywidgets.Image):
    """A figure as a PNG. It needs no extension of the front end, so Colab and JupyterLab show the same."""

    def __init__(self):
        super().__init__(format="png")
        self.layout.max_width, self.layout.align_self = "100%", "flex-start"  # never stretched
        self._figure = None

    def show(self, figure: Figure | None, dpi: int = 80) -> None:
        """Render a figure; of one that was shown before, only the artists marked as animated, if it has any.

        None hides the picture: an empty one would look broken.
        """
        self.layout.display = None if figure else "none"
        if figure is None:
            self.value = b""
            return
        moving = figure.findobj(lambda artist: artist.get_animated())
        if figure is self._figure and moving:
            figure.canvas.restore_region(self._still)
        else:
            self._figure, figure.dpi = figure, dpi
            FigureCanvasAgg(figure).draw()  # all but the moving artists: axes and ticks take the longest
            self._still = figure.canvas.copy_from_bbox(figure.bbox)
        for artist in sorted(moving, key=lambda artist: artist.get_zorder()):
            figure.draw_artist(artist)
        png = io.BytesIO()
        Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).save(png, format="png", compress_level=1)
        self.value = png.getvalue()
