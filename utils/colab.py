"""What the first cell of a notebook does in Colab as soon as it has the repository: install what the runtime lacks, and say what a reader there has to know."""

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from utils import ROOT

DRIVE = """What a runtime has stored is gone when it ends. Results that shall stay go to your Drive: mount it in a cell of its own, and name a folder in it below.
    from google.colab import drive; drive.mount("/content/drive")
    output_dir = "/content/drive/MyDrive/finetuning"  # in the cell with the parameters"""

_replaced: set[str] = set()  # what pip replaced under this kernel, which still has the old modules; a restart empties it


def missing(requirements: Path) -> list[str]:
    """Return those lines of a requirements file that this environment does not meet, without their comments."""
    lines = [line.split("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    installed = _versions()
    return [line for line in lines if line and not _meets(Requirement(line), installed)]


def _meets(requirement: Requirement, installed: dict[str, str]) -> bool:
    version = installed.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _versions() -> dict[str, str]:
    """Return the version of every installed package, by its normalised name: of two, the one that Python finds first; leftovers without a name are none."""
    return {canonicalize_name(found.name): found.version for found in reversed(list(metadata.distributions())) if found.name}


def _imported(packages: set[str]) -> set[str]:
    """Return those packages of which this kernel has imported a module."""
    distributions = metadata.packages_distributions() if packages else {}  # with Colab's 700 packages this takes a moment
    return packages & {canonicalize_name(name) for module, names in distributions.items() if module in sys.modules for name in names}


def install(requirements: Path) -> None:
    """Install what is missing, and remember which imported packages pip has replaced.

    Raises:
        RuntimeError: pip failed; the message has its last line.
    """
    wanted = missing(requirements)
    if not wanted:
        return
    before = _versions()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        said = (result.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(f"pip could not install {', '.join(wanted)}. It said: {said} Check the network and run this cell again.")
    print(result.stderr, end="", file=sys.stderr)
    importlib.invalidate_caches()  # or this kernel might not see what is new
    after = _versions()
    _replaced.update(_imported({name for name in before if after.get(name) != before[name]}))


def has_gpu() -> bool:
    """Ask the driver: that takes no second, and importing torch takes several. In a runtime without a GPU nvidia-smi may be there, and fails."""
    try:
        found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and "GPU" in found.stdout


def prepare() -> None:
    """Make this repository's packages importable, and print what a reader in Colab has to know. Run again, it installs nothing twice."""
    os.environ["FINETUNE_REPO"] = str(ROOT)  # the first cell, run again, finds it from any folder, and so do the kernels of a batch
    install(ROOT / "requirements-colab.txt")
    if _replaced:
        print(f"pip replaced {', '.join(sorted(_replaced))}, which this session had already imported. Runtime > Restart session, then run this cell again.")
    if not has_gpu():
        print("No GPU: everything runs on the CPU, and training takes longer. For one: Runtime > Change runtime type > T4 GPU, which starts a new runtime.")
    print(DRIVE)
