"""Run the notebooks as Colab does: `make colab`, or `python tests/tools/colab.py 01 04` in an environment
with Colab's versions that lies outside this repository.

Each notebook is alone in an empty folder. Its kernels find a stand-in for google.colab, and its first cell
the address of a git repository made from this
working tree, with a tag; pip has to do the rest. What came of each is in runs/colab/. Fails if a cell does,
if a control was not built, if it was not the
tag's clone that ran, or if pip touched a version that was there before.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import matrix
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from notebooks import NOTEBOOKS, ROOT, STATE, WIDGET, read

KEPT = ROOT / "runs" / "colab"
TAG = "v-as-colab"
DRIVE = """
def mount(*args, **kwargs):
    raise RuntimeError("Drive asks the reader for permission: nothing may mount it by itself.")
"""
NOT_COLABS = ("PYTHONPATH", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")


def git(*words, cwd: Path) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def make_origin(folder: Path) -> str:
    """Make a git repository from this working tree, as it is now, and return its address. Only what TAG names
    works: the branch went on, and is broken.
    """
    folder.mkdir(parents=True)
    for name in git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git("init", "--quiet", cwd=folder)
    git("add", "--all", "--force", cwd=folder)
    git("commit", "--quiet", "--message", "the tree", cwd=folder)
    git("tag", TAG, cwd=folder)
    (folder / "utils" / "__init__.py").write_text(
        'raise ImportError("This is not what the tag names.")\n', encoding="utf-8"
    )
    git("commit", "--quiet", "--all", "--message", "went on", cwd=folder)
    return folder.as_uri()


def make_stand_in(folder: Path) -> Path:
    """Make a folder that, as IPYTHONDIR, gives every kernel a google.colab before its first cell, and return
    it. The package itself is in `packages`.
    """
    (package := folder / "packages" / "google" / "colab").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "drive.py").write_text(DRIVE, encoding="utf-8")
    (startup := folder / "profile_default" / "startup").mkdir(parents=True)
    (startup / "00-colab.py").write_text(
        f"import sys\n\nsys.path.append({str(folder / 'packages')!r})\nimport google.colab\n",
        encoding="utf-8",
    )
    return folder


def address_in(source: str, origin: str, tag: str = TAG) -> str:
    """Return the first cell's source as `make badges` would write it for a repository."""
    written, found = re.subn(r"git\+\S+(?=#egg)", f"git+{origin}@{tag}", source)
    assert found == 1, "the first cell names one address"
    return written


def colab_environment(ipython: Path) -> dict[str, str]:
    """Return the environment variables of such a runtime."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_COLABS}
    kept |= {
        "OMP_NUM_THREADS": "1"
        # with two threads a training takes ten times as long where anything else computes on these cores
    }
    return kept | {"IPYTHONDIR": str(ipython)}


def versions() -> dict[str, str]:
    return {found.name: found.version for found in metadata.distributions()}


def touched(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what was there before and is not there now in the same version."""
    return [
        f"{name} {version} -> {after.get(name, 'gone')}"
        for name, version in sorted(before.items())
        if after.get(name) != version
    ]


def controls(notebook) -> dict[str, str]:
    """Return the model ids of the controls, by the id of the cell that shows them."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {
        cell.id: output.data[WIDGET]["model_id"]
        for cell in code
        for output in cell.outputs
        if WIDGET in output.get("data", {})
    }


def not_built(committed, executed) -> list[str]:
    """Return the ids of those cells that show a control in the repository, and here none or one without a
    state.
    """
    state = executed.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    built = {cell_id for cell_id, model in controls(executed).items() if model in state}
    return sorted(set(controls(committed)) - built)


def execute(path: Path, folder: Path, environment: dict[str, str], origin: str) -> str:
    """Run a notebook alone in a folder, keep it in runs/colab, and return "passed" or what went wrong."""
    committed = read(path)
    shutil.copy(path, folder)
    notebook = read(folder / path.name)
    notebook.metadata.pop("widgets", None)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = address_in(first.source, origin)
    where = nbformat.v4.new_code_cell("import utils\n\nprint(utils.ROOT)", id="where")
    notebook.cells.append(where)
    client = NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    try:
        with (KEPT / f"{path.stem}.log").open("w", encoding="utf-8") as log:
            client.execute(env=environment, stdout=log, stderr=log)
    except CellExecutionError as error:
        return f"FAILED: {error.ename}: {error.evalue.partition(chr(10))[0]}"
    except (CellTimeoutError, DeadKernelError) as error:
        return f"FAILED: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    finally:
        nbformat.write(notebook, KEPT / path.name)
    if (used := where.outputs[0].text.strip()) != str(folder.resolve() / "finetuning"):
        return f"FAILED: it used {used}, not its clone"
    if lacking := not_built(committed, notebook):
        return f"FAILED: no control in {', '.join(lacking)}"
    return "passed"


def main(chosen: list[str]) -> int:
    """Run the notebooks, print a table, and return 1 if one failed."""
    if find_spec("utils"):
        sys.exit("Not as Colab: utils is installed here. `make colab` makes an environment without it.")
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    before, rows = versions(), []
    uninstall = [
        sys.executable,
        "-m",
        "pip",
        "uninstall",
        "--quiet",
        "--yes",
        "finetuning",
    ]  # in Colab each notebook has a runtime of its own
    with tempfile.TemporaryDirectory() as scratch:
        origin, environment = (
            make_origin(Path(scratch) / "origin"),
            colab_environment(make_stand_in(Path(scratch) / "ipython")),
        )
        for path in NOTEBOOKS:
            if chosen and not path.name.startswith(tuple(chosen)):
                continue
            print(f"{path.stem}: running as in Colab", flush=True)
            began, folder = time.monotonic(), Path(scratch) / path.stem
            folder.mkdir()
            result = execute(path, folder, environment, origin)
            subprocess.run(uninstall, check=True)
            rows.append((path.stem, f"{time.monotonic() - began:.0f}", result))
    after = versions()
    added = {name: after[name] for name in sorted(set(after) - set(before))}
    for notebook, seconds, result in [("notebook", "seconds", "result"), *rows]:
        print(f"{notebook:24}{seconds:>8}  {result}")
    print("pip added:", ", ".join(map(" ".join, added.items())) or "nothing")
    changed = touched(before, after)
    print("pip changed:", ", ".join(changed) or "nothing that was there")
    if lacking := [name for name in added if matrix.name_of(name) in matrix.colab_versions()]:
        print(
            f"This environment lacked what Colab has: {', '.join(lacking)}.",
            "Name it in what_colab_has of tests/tools/matrix.py.",
        )
    failed = changed or lacking or not rows or [result for _, _, result in rows if result != "passed"]
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
