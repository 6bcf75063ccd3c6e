"""Reading the notebooks: their cells by id, and the exercises' solutions put in their places.

`python tests/tools/notebooks.py FOLDER` solves the notebooks in a folder for nbval, which then compares the
check cells with "right".
"""

import argparse
import re
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.name[0].isdigit()]
TEMPLATE = ROOT / "notebooks" / "template.ipynb"  # what papermill, the batch and `make run` use
WIDGET = "application/vnd.jupyter.widget-view+json"  # the output of a cell that shows a control
STATE = "application/vnd.jupyter.widget-state+json"  # in the notebook's metadata: what its controls hold


def read(path: Path):
    return nbformat.read(path, as_version=4)


def cell_of(notebook, cell_id: str):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def plain_python(cell) -> str:
    """Return a code cell's source with IPython's % and ! as the calls that they stand for."""
    return TransformerManager().transform_cell(cell.source)


def exercises(notebook) -> list[str]:
    """Return the ids of the cells that the reader fills in."""
    return [cell.id for cell in notebook.cells if re.fullmatch(r"exercise-\d+", cell.id)]


def solve(notebook):
    """Put the solutions, folded away in the last cell, into the exercises' cells, in order.

    The template has neither.
    """
    if not exercises(notebook):
        return notebook
    solutions = re.findall(r"```python\n(.*?)```", cell_of(notebook, "solutions").source, flags=re.S)
    assert len(solutions) == len(exercises(notebook)), "one block of code for each exercise"
    for cell_id, source in zip(exercises(notebook), solutions, strict=True):
        cell_of(notebook, cell_id).source = source
    return notebook


def printed(notebook, cell_id: str) -> str:
    return "".join(
        output.text
        for output in cell_of(notebook, cell_id).outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


def expect_right_answers(notebook):
    """Solve the exercises and make every check cell one that nbval compares, with "right" where the reader
    finds "not answered yet".
    """
    solve(notebook)
    for cell_id in exercises(notebook):
        check = cell_of(notebook, f"{cell_id}-check")
        check.metadata.setdefault("tags", []).append("nbval-check-output")
        for output in check.outputs:
            output.text = output.text.replace("not answered yet", "right")
    return notebook


def work_on_copy(notebook, root: Path):
    """Let a notebook of a copied repository, and what it starts, import the copy's `utils`: not the installed
    one, whose runs/ are the developer's.
    """
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    lines = [
        "import os, sys",
        f"sys.path.insert(0, {str(root)!r})",
        f"os.environ['PYTHONPATH'] = {str(root)!r}",
    ]
    first.source = "\n".join([*lines, first.source])
    return notebook


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Solve the notebooks in a folder for nbval.")
    parser.add_argument("folder", type=Path)
    for path in parser.parse_args().folder.resolve().glob("*.ipynb"):
        nbformat.write(work_on_copy(expect_right_answers(read(path)), path.parents[1]), path)
