"""The CI file for GitHub: it calls commands that exist here, on all supported Pythons, with few rights.

`make audit` checks the rest.
"""

import re
import shutil
import subprocess

import pytest
import yaml

from notebooks import ROOT
from utils.setup import environment

CI = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
STEPS = [(name, step) for name, job in CI["jobs"].items() for step in job["steps"]]


def test_it_starts_on_changes_and_every_week_with_rights_to_read_only():
    starts = CI[True]  # YAML 1.1 reads the key `on` as true
    assert {"push", "pull_request", "schedule"} <= set(starts)
    (when,) = starts["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* \d", when["cron"])
    assert CI["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in CI["jobs"].values())
    assert all(
        step["with"]["persist-credentials"] is False
        for _, step in STEPS
        if step.get("uses", "").startswith("actions/checkout")
    )


def test_the_weekly_run_has_every_supported_python_on_every_system():
    matrix = CI["jobs"]["everywhere"]["strategy"]["matrix"]
    (major, oldest), (_, newest) = environment.OLDEST, environment.NEWEST
    assert matrix["python"] == [f"{major}.{minor}" for minor in range(oldest, newest + 1)]
    assert [system.split("-")[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]
    assert "make test-all PYTHON=python" in [step.get("run") for step in CI["jobs"]["everywhere"]["steps"]]


@pytest.mark.parametrize("command", sorted({step["run"] for _, step in STEPS if "run" in step}))
def test_what_it_runs_is_a_command_of_the_makefile(command):
    assert command.startswith("make "), "CI runs what everybody can run"
    values = {"matrix.environment": "colab"}
    words = re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda match: values[match[1]], command).split()
    assert shutil.which("make")
    planned = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr
    assert "python " in planned.stdout


def test_every_job_that_opens_a_browser_keeps_its_pictures():
    names = []
    for job in CI["jobs"].values():
        opens = any(re.match(r"make (test|test-all|browser) ", step.get("run", "")) for step in job["steps"])
        kept = [step for step in job["steps"] if step.get("with", {}).get("path") == "runs/screenshots"]
        assert len(kept) == opens
        assert all(step["if"] == "always()" for step in kept), "they are wanted most where a test has failed"
        names += [step["with"]["name"] for step in kept]
    assert len(set(names)) == len(names) >= 3


def test_actions_are_githubs_own_and_pinned():
    used = [step["uses"] for _, step in STEPS if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used), used
