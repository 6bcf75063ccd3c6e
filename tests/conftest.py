"""What several test files share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


LONG = 2700  # seconds: the longest notebook, 06, has taken 700 on a busy machine as in Colab; and a cell may take 1200 in nbval, which says which one


def pytest_collection_modifyitems(items):
    """Fast tests first: what fails in a second should not wait for what trains for a minute. Trainings and cells of a notebook have longer to end."""
    items.sort(key=lambda item: "slow" in item.keywords)
    for item in items:
        if not isinstance(item, pytest.Function) or "slow" in item.keywords or "browser" in item.keywords:
            item.add_marker(pytest.mark.timeout(LONG))


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
