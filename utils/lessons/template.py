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


def answer_as_html(loaded, *texts: str, most: int = 10) -> str:
    """Return what a model says of a text, or a pair, as HTML: the answer, and a bar for each likely label."""
    if not all(text.strip() for text in texts):
        return "Type a sentence."
    texts = tuple(text[:TEXT_LIMIT] for text in texts)
    row = label_texts(loaded, [texts if len(texts) > 1 else texts[0]]).iloc[0]
    shares = row.filter(like="probability_")
    lines = [f"<b>{escape(str(row['predicted'])) or 'none of the labels'}</b>"]
    for k in np.argsort(-shares.to_numpy(float), kind="stable")[:most]:
        name = shares.index[k].removeprefix("probability_")
        lines.append(BAR.format(escape(name), 200 * shares.iloc[k], BLUE, shares.iloc[k]))
    return "".join(lines)


def ask(loaded, text: str | tuple[str, str] = "") -> ipywidgets.VBox:
    """Return a control in which one types a text and sees what a model says of it.

    Args:
        loaded: what `utils.predict.load_classifier` returns.
        text: what it shows first; for a pair of texts, a tuple.
    """
    shown = dict(zip(("text", "text_pair"), [text] if isinstance(text, str) else text, strict=False))

    def redraw(box: ipywidgets.VBox) -> None:
        box.answer.value = answer_as_html(loaded, *(widget.value for widget in box.inputs.values()))

    typed = {name: ipywidgets.Text(first, placeholder="Type a sentence") for name, first in shown.items()}
    return control(typed, {"answer": ipywidgets.HTML()}, redraw, width="640px")
