"""What comes before the first score: imports, the kernel, papermill. `python benchmarks/startup.py`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from records import FOLDER, ROOT, append

NOTEBOOKS = ROOT / "notebooks"


def run(*command) -> tuple[str, float]:
    """Run Python with these arguments in the repository's root; return its output and its wall seconds."""
    started, environment = time.perf_counter(), os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, command)]
    ended = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    return ended.stdout, time.perf_counter() - started


def imports(rounds: int = 5) -> dict[str, float]:
    """Measure what `utils` needs by itself, and what it adds where the libraries that 01 imports are there.

    Processor seconds, the least of some rounds: whatever else a machine does only adds.
    """
    cells = nbformat.read(NOTEBOOKS / "01_loading.ipynb", as_version=4).cells
    lines = next(cell.source for cell in cells if cell.id == "imports").splitlines()
    ours = [line for line in lines if line.startswith("from utils")]
    clock = "import time; started = time.process_time()"
    told = "print(time.process_time() - started)"
    programs = {"`import utils`": [clock, "import utils", told]}
    programs["01: its libraries"] = [clock, *(line for line in lines if line not in ours), told]
    programs["01: what `utils` adds to them"] = [
        *(line for line in lines if line not in ours),
        clock,
        *ours,
        told,
    ]
    found = {
        what: [run("-c", "\n".join(program)) for _ in range(rounds)] for what, program in programs.items()
    }
    return {what: min(float(output) for output, _ in each) for what, each in found.items()}


def papermill(rows: int = 100) -> dict[str, float]:
    """Measure papermill on a notebook with nothing in it, and what a run of the template takes beside training."""
    with tempfile.TemporaryDirectory() as name:
        nothing = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("pass")])
        nothing.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nothing, f"{name}/nothing.ipynb")
        command = ["-m", "papermill", "--no-progress-bar", "--log-level", "ERROR", "--cwd", ROOT]
        empty = min(run(*command, f"{name}/nothing.ipynb", f"{name}/ran.ipynb")[1] for _ in range(3))
        given = ["-p", "max_train_samples", rows, "-p", "output_dir", f"{name}/run"]
        _, whole = run(*command, NOTEBOOKS / "template.ipynb", f"{name}/ran.ipynb", *given)
        record = json.loads(Path(name, "run", "metrics.json").read_text(encoding="utf-8"))
        training = record["train"]["seconds"]
    found = {"papermill, a notebook with nothing in it": empty}
    return found | {
        f"the template on {rows} tweets, but for its {training:.0f} s of training": whole - training
    }


def first_score() -> dict[str, float]:
    """Measure "run all" in 01: seconds, the kernel's start included, until its first two scores."""
    from nbclient import NotebookClient

    notebook, done = nbformat.read(NOTEBOOKS / "01_loading.ipynb", as_version=4), {}
    place = [cell.id for cell in notebook.cells].index("train")
    notebook.cells = notebook.cells[: place + 1]

    def note(cell, **_):
        done[cell["id"]] = time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, resources={"metadata": {"path": folder}}, on_cell_executed=note)
        started = time.perf_counter()
        client.execute()
    return {
        "01, run all: the untrained score": done["untrained"],
        "01: the first trained score": done["train"],
    }


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    measured = imports() | papermill() | first_score()
    append(FOLDER / "startup.jsonl", measured)
    print("\n".join(f"{what}: {took:.2f} s" for what, took in measured.items()))
