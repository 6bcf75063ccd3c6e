"""What a notebook's first cell runs in Colab, after pip."""

import sys
from importlib import metadata
from pathlib import Path

NO_GPU = """No GPU: everything runs on the CPU, and training takes longer.
For one: Runtime > Change runtime type > T4 GPU, which starts a new runtime."""
DRIVE = """What a runtime has stored is gone when it ends. Results that shall stay go to your Drive:
mount it in a cell of its own, and name a folder in it below.
    from google.colab import drive; drive.mount("/content/drive")
    output_dir = "/content/drive/MyDrive/finetuning"  # in the cell with the parameters"""


def prepare() -> None:
    """Make `utils` importable in this kernel, which began before its installation; print what to know.

    Raises:
        RuntimeError: pip has failed, which stops no cell; what it has fetched may be another version.
    """
    here = Path(__file__).resolve().parents[2]
    ours = metadata.distributions(name="finetuning")
    sources = [package.read_text("direct_url.json") or "" for package in ours]
    if not any(here.as_uri() in source for source in sources):
        fault = "pip has not installed this repository: its message above says why."
        raise RuntimeError(f"{fault} Mend that, and run this cell again.")
    sys.path.insert(0, str(here))
    from utils.setup.gpu import visible_gpus

    if not visible_gpus():
        print(NO_GPU)
    print(DRIVE)


if __name__ == "__main__":
    prepare()
