"""Reading the notebooks: their cells by id, and the exercises' solutions put in their places.

`python tests/tools/notebooks.py FOLDER` solves the notebooks in a folder for nbval, which then compares the
check cells with "right". Beside the `SMALL` ones it writes a copy that trains a model of 16 units.
"""

import argparse
import contextlib
import io
import re
from pathlib import Path

import nbformat
import pandas as pd
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.name[0].isdigit()]
TEMPLATE = ROOT / "notebooks" / "template.ipynb"  # what papermill, the batch and `make run` use
WIDGET = "application/vnd.jupyter.widget-view+json"  # the output of a cell that shows a control
# `make test` runs these with a small model: what nbval compares in them hangs on the tokenizer alone.
SMALL = ("02_data_prep", "03_training_arguments", "07_after_training")
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


def stored_table(notebook, cell_id: str) -> pd.DataFrame:
    """Return the table of numbers that is stored as a cell's output."""
    (text,) = (output.data["text/plain"] for output in cell_of(notebook, cell_id).outputs if "data" in output)
    head, *lines = text.splitlines()
    columns = head.split()
    parts = [line.rsplit(maxsplit=len(columns)) for line in lines]
    rows = {name.strip(): values for name, *values in parts}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype(float)


def with_parameters(notebook, parameters: dict):
    """Put a cell with these values behind the parameters cell, as papermill does."""
    place = notebook.cells.index(cell_of(notebook, "parameters"))
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines), id="injected-parameters"))
    return notebook


def run_here(path: Path, parameters: dict, last: str | None = None) -> tuple[dict, dict[str, str]]:
    """Run a notebook's cells, up to `last`, in this process: no kernel has to start and to import it all.

    Returns:
        The cells' variables, and what each cell printed, by its id. `display` shows nothing.
    """
    space, prints = {"__name__": "__main__", "display": lambda *shown: None}, {}
    for cell in with_parameters(read(path), parameters).cells:
        if cell.cell_type == "code":
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(compile(plain_python(cell), f"{path.name}: {cell.id}", "exec"), space)
            prints[cell.id] = said.getvalue()
        if cell.id == last:
            break
    return space, prints


def expect_right_answers(notebook):
    """Solve the exercises and make every check cell one that nbval compares, with "right" where the reader
    finds "not answered yet".
    """
    solve(notebook)
    for cell_id in exercises(notebook):
        check = cell_of(notebook, f"{cell_id}-check")
        check.metadata["tags"] = sorted({*check.metadata.get("tags", []), "nbval-check-output"})
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


def main(folder: Path) -> None:
    """Prepare the notebooks of a copied repository's folder for nbval."""
    for path in sorted(folder.glob("*.ipynb")):
        notebook = work_on_copy(expect_right_answers(read(path)), folder.parent)
        nbformat.write(notebook, path)
        if path.stem in SMALL:
            model = {"model_name": str(folder.parent / "small_model")}
            nbformat.write(with_parameters(notebook, model), path.with_stem(f"{path.stem}_small"))
    from builders import save_small  # loads PyTorch, which readers of notebooks need not

    save_small(folder.parent / "small_model")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Solve the notebooks in a folder for nbval.")
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder.resolve())
