"""The control of 05_pitfalls."""

from html import escape

import ipywidgets

from utils.findings import did_you_mean
from utils.lessons.controls import control
from utils.preflight.catalogue import CATALOGUE

STAGES = {
    "R": "when the table is read, by read_table",
    "P": "before training, by preflight",
    "W": "while it trains, by Watch",
    "S": "after saving, by check_saved",
    "C": "by the library itself, when the object is built",
    "A": "nowhere: it is avoided by how the notebooks are written",
}
ROW = "<tr><th style='text-align:left'>{}</th><td style='text-align:left'>{}</td></tr>"


def pitfall_html(id: str) -> str:
    """Return the catalogue's entry of one mistake as HTML: level, symptom, whether it raises, stages, fix."""
    entry = CATALOGUE[id]
    rows = {
        "symptom": entry.symptom,
        "the library": "raises an error, with a message that misleads" if entry.loud else "says nothing",
        "found": "; ".join(STAGES[stage] for stage in entry.stages),
        "fix": entry.fix,
    }
    cells = "".join(ROW.format(escape(name), escape(text)) for name, text in rows.items())
    return f"<p><b>{escape(entry.id)}</b> ({escape(entry.level)})</p><table><tbody>{cells}</tbody></table>"


def pitfall_explorer(id: str = "lr-too-high") -> ipywidgets.VBox:
    """Return a control: a list of all known mistakes (`mistake`) and the chosen one's entry (`entry`, HTML).

    Raises:
        ValueError: an id that is not in the catalogue.
    """
    if id not in CATALOGUE:
        near = did_you_mean(id, CATALOGUE)
        raise ValueError(f"There is no mistake {id!r} in utils.preflight.catalogue(). {near}".rstrip())
    mistake = ipywidgets.Dropdown(options=sorted(CATALOGUE), value=id)

    def redraw(box: ipywidgets.VBox) -> None:
        box.entry.value = pitfall_html(box.mistake.value)

    return control({"mistake": mistake}, {"entry": ipywidgets.HTML()}, redraw)
