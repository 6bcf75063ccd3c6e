"""What the tests of the batch share: a small notebook, waiting, and looking at its processes."""

import json
import time

import nbformat
import psutil

from utils.batch.worker import LEFT_BEHIND

PARAMETERS = """
number = 1  # what it writes down
broken = False  # whether it fails
gates = None  # a folder; it holds until the file with its number is there
together = 1  # it holds until so many runs have begun
resume = False  # whether it continues
output_dir = None  # where it writes
"""
WORK = """
import os, pathlib, time
folder = pathlib.Path(output_dir)
def hold(until, what):
    deadline = time.monotonic() + 600
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
(folder / "checkpoints" / "checkpoint-1").mkdir(parents=True, exist_ok=True)
(folder / "began.partial").write_text(str(os.getpid()))
(folder / "began.partial").replace(folder / "began.txt")
hold(lambda: len(list(folder.parent.glob("*/began.txt"))) >= together, "others")
hold(lambda: gates is None or pathlib.Path(gates, str(number)).exists(), "its gate")
if broken:
    raise ValueError(f"number {number} is broken")
(folder / "result.txt").write_text(str(number))
print(number, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["OMP_NUM_THREADS"], resume)
"""


def notebook_of(path, parameters=PARAMETERS, work=WORK):
    cells = [
        nbformat.v4.new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]}, id="parameters")
    ]
    cells += [nbformat.v4.new_code_cell(work.strip(), id="work")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return str(path)


def results(folder):
    """Return when each run of the small notebook wrote its result."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.txt")}


def status_of(run):
    try:
        return json.loads((run / "run.json").read_text())["status"]
    except OSError:
        return None


def completed_runs(folder):
    return {run: when for run, when in results(folder).items() if status_of(folder / run) == "completed"}


def errors_in(notebook):
    return [
        (output.ename, output.evalue)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


def at_work(folder):
    """Return the processes and kernels that work for the run of this folder, or for the runs in it."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                f"{process.environ().get(LEFT_BEHIND)}/".startswith(f"{folder}/")
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except (psutil.Error, OSError):
            pass
    return found


def wait_for(condition, seconds=300):  # what hangs; what has to be quick says how quick
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value
