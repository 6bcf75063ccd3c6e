"""What the first cell of a notebook runs in Colab, once pip has installed this repository and what the runtime lacks."""

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
    """Make `utils` importable in this kernel, which is older than its installation, and print what a reader in Colab has to know.

    Raises:
        RuntimeError: pip has failed. Its magic goes on then, and what it has fetched may be another version than the one that was asked for.
    """
    here = Path(__file__).resolve().parents[2]
    installed = [
        found.read_text("direct_url.json") or "" for found in metadata.distributions(name="finetuning")
    ]
    if not any(here.as_uri() in address for address in installed):
        raise RuntimeError(
            "pip has not installed this repository: its message above says why. Mend that, and run this cell again."
        )
    sys.path.insert(0, str(here))
    from utils.setup.gpu import visible_gpus

    if not visible_gpus():
        print(NO_GPU)
    print(DRIVE)


if __name__ == "__main__":
    prepare()
