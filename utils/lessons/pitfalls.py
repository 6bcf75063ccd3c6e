"""The control of 05_pitfalls."""

from html import escape

import ipywidgets

from utils.preflight.catalogue import CATALOGUE

STAGES = {
    "R": "when the table is read, by read_table",
    "P": "before training, by preflight",
    "W": "while it trains, by Watch",
    "S": "after saving, by check_saved",
    "C": "by the library itself, when the object is built",
    "A": "nowhere: it is avoided by how the notebooks are written",
}


def pitfall_html(id: str) -> str:
    """Return what the catalogue knows of one mistake, as HTML: level, whether anything is raised, symptom, where it is found, fix. All is escaped."""
    entry = CATALOGUE[id]
    voice = "raises an error, with a message that misleads" if entry.loud else "says nothing"
    rows = {
        "symptom": entry.symptom,
        "the library": voice,
        "found": "; ".join(STAGES[stage] for stage in entry.stages),
        "fix": entry.fix,
    }
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    return f"<p><b>{escape(entry.id)}</b> ({escape(entry.level)})</p><table><tbody>{cells}</tbody></table>"


def pitfall_explorer(id: str = "lr-too-high") -> ipywidgets.VBox:
    """Return a list of all known mistakes and, below it, the symptom and the fix of the chosen one. The table of the same: `utils.preflight.catalogue()`.

    Args:
        id: the mistake that is shown first.

    Returns:
        A box whose children are the list (`Dropdown`, its `value` is an id) and the text (`HTML`, its `value` is escaped HTML).

    Raises:
        ValueError: an id that is not in the catalogue.
    """
    if id not in CATALOGUE:
        raise ValueError(
            f"There is no mistake called {id!r}. The known ones: {', '.join(sorted(CATALOGUE))}."
        )
    field = ipywidgets.Dropdown(
        options=sorted(CATALOGUE), value=id, description="mistake", layout=ipywidgets.Layout(width="340px")
    )
    shown = ipywidgets.HTML(value=pitfall_html(id))

    def update(change):
        shown.value = pitfall_html(change["new"])

    field.observe(update, names="value")
    return ipywidgets.VBox([field, shown])
