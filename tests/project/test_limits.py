"""What hangs fails and says where: no test waits for ever, and none that trains is cut short."""

import os
import subprocess
import sys

import pytest
from batches import notebook_of

from utils import ROOT

HANGS = """
import threading

def test_that_hangs():
    threading.Thread(target=threading.Event().wait, name="a thread beside", daemon=True).start()
    threading.Event().wait()

def test_after_it():
    assert True
"""
LONG = """
import pytest

def test_ordinary(): ...
@pytest.mark.slow
def test_slow(): ...
@pytest.mark.browser
def test_browser(): ...
@pytest.mark.full(reason="it is long")
def test_full(): ...
@pytest.mark.slow
@pytest.mark.timeout(7)
def test_own(): ...
"""
SHOW = """
import pytest_timeout

def pytest_collection_finish(session):
    for item in session.items:
        print("limit", item.name, pytest_timeout._get_item_settings(item).timeout)
"""


def run_pytest(folder, *options):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
        *options,
        str(folder),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGALRM: there the process ends")
def test_a_test_that_hangs_fails_with_the_stacks_of_all_threads_and_the_next_one_runs(tmp_path, options):
    (tmp_path / "test_hangs.py").write_text(HANGS)
    ended = run_pytest(tmp_path, "--timeout", "1", *options)
    assert ended.returncode == 1
    assert "Failed: Timeout (>1.0s)" in ended.stdout
    assert "1 failed, 1 passed" in ended.stdout
    assert "test_hangs.py:6: " in ended.stdout  # where the test stood
    assert "Stack of a thread beside" in ended.stdout


def test_what_trains_has_a_longer_limit_and_what_is_left_out_is_said(tmp_path, monkeypatch):
    (tmp_path / "test_long.py").write_text(LONG)
    (tmp_path / "show.py").write_text(SHOW)
    notebook_of(tmp_path / "cells.ipynb")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}{os.pathsep}{tmp_path}")
    options = ("--collect-only", "-p", "conftest", "-p", "show", "--nbval-lax", "-m", "not full")
    said = run_pytest(tmp_path, *options).stdout
    limits = dict(line[6:].rpartition(" ")[::2] for line in said.splitlines() if line.startswith("limit "))
    assert {name: float(limit) for name, limit in limits.items()} == {
        "test_ordinary": 900, "test_slow": 2700, "test_browser": 2700, "test_own": 7, "Cell 0": 2700,
        "Cell 1": 2700,
    }  # fmt: skip
    assert "left for `make test-all`: 1 of test_long.py: it is long" in said
