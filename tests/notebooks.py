"""Reading the notebooks: their cells by id, and the exercises' solutions put in their places."""

import re
from pathlib import Path

import nbformat

from utils import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def cell_of(notebook, cell_id: str):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def exercises(notebook) -> list[str]:
    """Return the ids of the cells that the reader fills in."""
    return [cell.id for cell in notebook.cells if re.fullmatch(r"exercise-\d+", cell.id)]


def solve(notebook):
    """Put the solutions, folded away in the last cell, into the exercises' cells, in order."""
    solutions = re.findall(r"```python\n(.*?)```", cell_of(notebook, "solutions").source, flags=re.S)
    assert len(solutions) == len(exercises(notebook)), "one block of code for each exercise"
    for cell_id, source in zip(exercises(notebook), solutions, strict=True):
        cell_of(notebook, cell_id).source = source
    return notebook


def printed(notebook, cell_id: str) -> str:
    return "".join(output.text for output in cell_of(notebook, cell_id).outputs if output.output_type == "stream" and output.name == "stdout")
