"""The control at the end of the template: type a sentence, see the label."""

from html import escape

import ipywidgets
import numpy as np

from utils.lessons.controls import control
from utils.plots import BLUE
from utils.predict import label_texts

TEXT_LIMIT = 1000  # characters: what is typed is labelled at each key
BAR = (
    "<div style='display:flex;align-items:center'><span style='width:12em;overflow:hidden'>{}</span>"
    "<span style='width:{:.0f}px;height:0.8em;background:{}'></span>&nbsp;{:.3f}</div>"
)


def answer_as_html(loaded, text: str, most: int = 10) -> str:
    """Return what a model says of one text as HTML: the answer, and a bar for each likely label."""
    if not text.strip():
        return "Type a sentence."
    row = label_texts(loaded, [text[:TEXT_LIMIT]]).iloc[0]
    shares = row.filter(like="probability_")
    lines = [f"<b>{escape(str(row['predicted'])) or 'none of the labels'}</b>"]
    for k in np.argsort(-shares.to_numpy(float), kind="stable")[:most]:
        name = shares.index[k].removeprefix("probability_")
        lines.append(BAR.format(escape(name), 200 * shares.iloc[k], BLUE, shares.iloc[k]))
    return "".join(lines)


def ask(loaded, text: str = "") -> ipywidgets.VBox:
    """Return a control in which one types a text and sees what a model says of it.

    Args:
        loaded: what `utils.predict.load_classifier` returns.
        text: what it shows first.
    """

    def redraw(box: ipywidgets.VBox) -> None:
        box.answer.value = answer_as_html(loaded, box.text.value)

    typed = ipywidgets.Text(text, description="text", placeholder="Type a sentence")
    return control({"text": typed}, {"answer": ipywidgets.HTML()}, redraw, width="640px")
