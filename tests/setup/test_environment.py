"""Set-up: what goes wrong on somebody's machine is said in one sentence."""

import os
import shutil
import subprocess
import sys
import types

import pytest

from utils import ROOT
from utils.setup import environment


def stops_with(call, *args):
    with pytest.raises(SystemExit) as stop:
        call(*args)
    message = str(stop.value)
    assert message.startswith("Set-up stopped: ")
    return message


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_another_python_is_refused(version):
    assert "3.11, 3.12 or 3.13 is needed. Name one of them: make run PYTHON=" in stops_with(
        environment.check_python, version
    )


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_the_supported_pythons_are_accepted(version):
    environment.check_python(version)


def test_an_old_python_gets_the_sentence_and_no_traceback():
    """For real where this machine has one."""
    old = next(
        (path for name in ("python3.8", "python3.9", "python3.10") if (path := shutil.which(name))), None
    )
    candidates = (
        [old]
        if old
        else [
            str(path) for path in sorted((ROOT.home() / ".pyenv" / "versions").glob("3.[6-9].*/bin/python"))
        ]
    )
    for python in candidates:
        result = subprocess.run(
            [python, "utils/setup/environment.py"], cwd=ROOT, capture_output=True, text=True
        )
        if "pyenv" in result.stderr:  # a shim without a version behind it
            continue
        assert result.returncode == 1
        assert result.stderr.startswith("Set-up stopped: Python 3.")
        assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A copy of what set-up reads, without a .venv."""
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "requirements-colab.txt").touch()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    return tmp_path


def test_a_full_disk_is_said_before_anything_is_made(bare, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1.5e9))
    assert "the disk has 1.5 GB free and the packages need about 4" in stops_with(environment.main)
    assert not (bare / ".venv").exists()


@pytest.mark.slow
def test_without_an_index_it_says_so_and_the_next_call_tries_again(bare, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    for _ in range(2):
        assert "the package index could not be reached" in stops_with(environment.main)
        assert not (bare / ".venv" / "ready").exists()


@pytest.mark.slow
def test_what_is_installed_is_not_installed_again(bare, monkeypatch):
    (bare / "requirements.txt").write_text("# nothing\n")
    environment.main()
    made = os.stat(bare / ".venv" / "ready").st_mtime_ns
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("something was started"))
    environment.main()
    assert os.stat(bare / ".venv" / "ready").st_mtime_ns == made


LISTING = """:env:.find-links='/wheels'
global.extra-index-url='https://a/simple\\nhttps://b/simple'
global.find-links='/old'
global.timeout='60'
download.no-binary=':all:'
"""


def test_pips_settings_are_handed_to_uv():
    settings, unknown = environment.uv_settings(LISTING)
    assert settings == {
        "UV_FIND_LINKS": "/wheels",  # the environment's goes before the file's
        "UV_INDEX": "https://a/simple https://b/simple",
        "UV_HTTP_TIMEOUT": "60",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert unknown == []
    assert environment.uv_settings("install.no-binary='all'\nglobal.quiet='1'\n")[1] == ["no-binary"]


class Recorder:
    """Stands for subprocess.run: remembers the commands, and fails where one holds a word of `failing`."""

    def __init__(self, listing="", failing=(), stderr="error: no route\n  Caused by: x"):
        self.listing, self.failing, self.stderr, self.commands = listing, set(failing), stderr, []

    def __call__(self, command, **options):
        self.commands.append(command[1:])
        failed = bool(self.failing & set(command[2:4]))
        return types.SimpleNamespace(returncode=failed, stdout=self.listing, stderr=self.stderr * failed)

    @property
    def installer(self):
        return self.commands[-1][1]


def test_uv_installs_with_the_same_constraints(monkeypatch):
    monkeypatch.setattr(subprocess, "run", run := Recorder())
    assert environment.install("python", ["--editable", "."]).returncode == 0
    assert run.installer == "uv"
    assert [command[-2:] for command in run.commands[1:]] == [
        ["--constraint", str(ROOT / "constraints.txt")]
    ] * 2


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (Recorder(listing="global.only-binary=':all:'\n"), "it does not know pip's setting only-binary"),
        (Recorder(failing={"uv"}), "error: no route"),
    ],
    ids=["a setting that uv does not know", "uv fails"],
)
def test_pip_installs_where_uv_cannot_and_it_is_said(run, reason, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", run)
    assert environment.install("python", ["--editable", "."]).returncode == 0
    assert run.installer == "pip"
    assert f"Without uv, because {reason}: pip installs instead" in capsys.readouterr().out


def test_a_full_disk_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(subprocess, "run", run := Recorder(failing={"uv"}, stderr="No space left on device"))
    result = environment.install("python", [])
    assert run.installer == "uv"
    assert "the disk is full" in environment.explain(result.stderr)


@pytest.mark.slow
def test_a_package_comes_through_uv_for_real(bare):
    """From the index that this machine's pip uses; `make setup` has asked it for uv before."""
    (bare / "requirements.txt").write_text("iniconfig\n")
    (bare / "pyproject.toml").write_text('[project]\nname = "empty"\nversion = "1"\n[tool.setuptools]\n')
    environment.main()
    python = bare / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    installer = (
        "from importlib.metadata import distribution as d; print(d('iniconfig').read_text('INSTALLER'))"
    )
    answer = subprocess.run([python, "-c", installer], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "uv"


def test_pip_errors_become_sentences():
    assert "the disk is full" in environment.explain(
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    )
    unreachable = "WARNING: Retrying ... NewConnectionError ...\nERROR: Could not find a version of torch"
    assert "index could not be reached (ERROR: Could not find a version" in environment.explain(unreachable)
    assert "pip failed (ERROR: ResolutionImpossible)" in environment.explain(
        "noise\nERROR: ResolutionImpossible"
    )


def test_make_says_what_it_lacks_from_any_directory(tmp_path):
    result = subprocess.run(
        ["make", "-C", str(ROOT), "setup", "PYTHON=no-such-python"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "no-such-python" in result.stderr


def test_the_tests_run_in_the_tested_python():
    environment.check_python(sys.version_info[:2])
