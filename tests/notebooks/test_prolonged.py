"""What 03 says of its runs holds: the cells are run, and their variables looked at."""

import math

import pytest

from notebooks import NOTEBOOKS, cell_of, plain_python, read

NOTEBOOK = next(path for path in NOTEBOOKS if path.stem == "03_training_arguments")
FIRST, LAST = "imports", "prolong-rates"


@pytest.mark.full(reason="two minutes; nbval runs the same cells, and this looks at their numbers")
def test_its_runs_are_as_its_text_reads_them(monkeypatch):
    notebook, space, evaluations = read(NOTEBOOK), {"display": lambda shown: None}, {}
    ids = [cell.id for cell in notebook.cells if cell.cell_type == "code"]
    for name in ids[ids.index(FIRST) : ids.index(LAST) + 1]:
        exec(compile(plain_python(cell_of(notebook, name)), name, "exec"), space)
        if name in ("epochs-history", "kept-facts", "prolong-facts"):
            evaluations[name] = space["history"](space["trainer"])
        if name == "rate":
            slow, right, wild = space["curves"].values()
    coin = math.log(2)
    assert slow == pytest.approx([coin] * 5, abs=0.05)
    assert right[-1] < min(slow) - 0.02
    assert max(wild) > coin + 0.1
    epochs, kept, prolonged = evaluations.values()
    assert epochs.index.tolist() == [25, 50, 75]
    assert epochs["loss"].is_monotonic_decreasing
    assert epochs["eval_accuracy"].iloc[-1] > space["share"] + 0.05
    assert prolonged.index.tolist() == [25, 50, 75]
    assert prolonged.iloc[:2].equals(kept)
    on_disk = {path.name for path in space["Path"](space["args"].output_dir).iterdir()}
    best = prolonged["eval_accuracy"].idxmax()
    assert on_disk == {f"checkpoint-{best}", "checkpoint-75"} | ({"checkpoint-50"} if best == 75 else set())
