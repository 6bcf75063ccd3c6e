"""What several test files share: time limits, the order, what is left for `make test-all`, and fixtures."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONG = 2700  # seconds for a training or a notebook's cell; nbval's own limit is 1200, and it names the cell
# What takes longest, by processor time, longest first. On several processes these files begin first, so that
# none is left at the end; the others take less than half a minute each.
LONGEST = ["06_batch_runs", "04_training", "template", "test_kills", "test_training", "03_training_arguments"]
LONGEST += ["05_pitfalls", "02_data_prep", "test_batch", "01_loading", "test_lessons", "test_browser"]
LONGEST += ["07_after_training_small", "test_launch", "test_sizes"]
LONGEST += ["test_tasks", "test_watch", "test_site", "test_colab"]
# `make test` runs 04 on fewer rows, through papermill, and `_small` copies of 02, 03, 07: tools/notebooks.py
FULL_NOTEBOOKS = {
    "02_data_prep": "800 tweets through the bundled model; a small one runs the same cells",
    "03_training_arguments": "a dozen epochs of the bundled model; a small one runs the same cells",
    "04_training": "two epochs of 2,520 sentences: a tenth of all that `make test` may take",
    "template": "two epochs of 2,896 tweets; the tests run it with papermill, on fewer rows",
    "07_after_training": "a run, its sizes, an adapter, two processes; a small one runs the same cells",
    "06_batch_runs": "eight runs of the template, and a search with eight trials",
}
LEFT_OUT = pytest.StashKey[Counter]()


def of_notebook(item):
    """Whether nbval made this test of a cell."""
    return not isinstance(item, pytest.Function)


@pytest.hookimpl(tryfirst=True)  # before -m chooses among the marks
def pytest_collection_modifyitems(config, items):
    """Set time limits, and put first what fails in a second; or, on several processes, what takes longest."""
    config.stash[LEFT_OUT] = Counter()
    for item in items:
        if of_notebook(item) and item.path.stem in FULL_NOTEBOOKS:
            item.add_marker(pytest.mark.full(reason=FULL_NOTEBOOKS[item.path.stem]))
        if of_notebook(item) or {"slow", "browser", "full"} & set(item.keywords):
            item.add_marker(pytest.mark.timeout(LONG))
    for item in items:
        for mark in item.iter_markers("full"):
            assert mark.kwargs.get("reason"), (
                f"{item.nodeid}: full(reason=...) says why it is not in `make test`"
            )
    rank = {name: place for place, name in enumerate(LONGEST)}
    spread = hasattr(config, "workerinput")
    items.sort(key=lambda item: (spread and rank.get(item.path.stem, len(rank)), "slow" in item.keywords))


def pytest_deselected(items):
    for item in items:
        for mark in item.iter_markers("full"):
            item.config.stash[LEFT_OUT][f"{item.path.name}: {mark.kwargs['reason']}"] += 1


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash.get(LEFT_OUT, {}))


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_testnodedown(node):
    if left_out := getattr(node, "workeroutput", {}).get("left_out"):  # the same from each process
        node.config.stash[LEFT_OUT] = Counter(left_out)


def pytest_terminal_summary(terminalreporter, config):
    """Say what tests measured (record_property), and what was left out and why."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties if report.when == "call" else ():
            terminalreporter.write_line(f"{name}: {value}")
    for what, number in sorted(config.stash.get(LEFT_OUT, {}).items()):
        terminalreporter.write_line(f"left for `make test-all`: {number} of {what}")


@pytest.fixture(scope="session")
def tweets():
    from utils.data import read_table

    return read_table("tweets")


@pytest.fixture
def run_python():
    """Run a program in a fresh Python, and return the finished process."""

    def run(program, *args, cwd=ROOT, **environment):
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, args)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=os.environ | environment,
        )

    return run
