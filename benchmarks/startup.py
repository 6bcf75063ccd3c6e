"""What comes before the first score: imports, the kernel, papermill. `python benchmarks/startup.py`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
from records import FOLDER, ROOT, append

ROUNDS = 5  # the least of so many is told: whatever else the machine does only adds


def seconds_of(program: str) -> float:
    """Return the wall seconds of a program in a fresh Python."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
    return time.perf_counter() - started


def imports() -> dict[str, float]:
    """Measure what `import utils`, and the imports of 01, add to the libraries that 01 imports itself."""
    cells = nbformat.read(ROOT / "notebooks" / "01_loading.ipynb", as_version=4).cells
    lines = next(cell.source for cell in cells if cell.id == "imports").splitlines()
    theirs = "\n".join(line for line in lines if not line.startswith("from utils"))
    programs = {"nothing": "", "import utils": "import utils", "theirs": theirs, "all": "\n".join(lines)}
    rounds = [{name: seconds_of(program) for name, program in programs.items()} for _ in range(ROUNDS)]
    least = {name: min(each[name] for each in rounds) for name in programs}
    return {
        "`import utils`": least["import utils"] - least["nothing"],
        "01: its libraries": least["theirs"] - least["nothing"],
        "01: what `utils` adds to them": least["all"] - least["theirs"],
    }


def papermill_run(notebook: Path, folder: Path, **parameters) -> float:
    """Return the wall seconds of a papermill command."""
    command = [sys.executable, "-m", "papermill", str(notebook), str(folder / "ran.ipynb")]
    command += ["--no-progress-bar", "--cwd", str(ROOT)]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def papermill_overhead() -> dict[str, float]:
    """Measure papermill on a notebook that does nothing, and what a run of the template takes beside training."""
    nothing = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("pass")])
    nothing.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nbformat.write(nothing, folder / "nothing.ipynb")
        empty = min(papermill_run(folder / "nothing.ipynb", folder) for _ in range(3))
        given = {"max_train_samples": 100, "output_dir": folder / "run"}
        whole = papermill_run(ROOT / "notebooks" / "template.ipynb", folder, **given)
        training = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))["train"]["seconds"]
    found = {"papermill, a notebook that does nothing": empty}
    return found | {"template on 100 tweets: all but training": whole - training, "its training": training}


def first_score() -> dict[str, float]:
    """Measure "run all" in 01: seconds, from the kernel's start on, until each of its first two scores."""
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "notebooks" / "01_loading.ipynb", as_version=4)
    ids = [cell.id for cell in notebook.cells]
    notebook.cells = notebook.cells[: ids.index("train") + 1]
    done = {}

    def note(cell, **_):
        done[cell["id"]] = time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, resources={"metadata": {"path": folder}}, on_cell_executed=note)
        started = time.perf_counter()
        client.execute()
    return {"01, run all: untrained score": done["untrained"], "01, run all: first trained score": done["train"]}


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    measured = imports() | papermill_overhead() | first_score()
    append(FOLDER / "startup.jsonl", {what: float(np.round(took, 3)) for what, took in measured.items()})
    for what, took in measured.items():
        print(f"{what}: {took:.2f} s", flush=True)
