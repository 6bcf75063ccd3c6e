"""Build the site: README, datasheet and notebooks with their stored outputs, as pages that need no network.

`make site` runs this in an environment of its own, so it imports nothing of this repository. A warning
is an error: a link to a page or heading that is not there, a figure without a text for those who can't
see it, a notebook that can't be read.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from sphinx.cmd.build import main as sphinx_build

ROOT = Path(__file__).resolve().parent.parent
SITE, SOURCE, CACHE = (ROOT / "runs" / name for name in ("site", ".site/source", ".site/cache"))
BADGE = re.compile(r"!\[(Open in Colab)\]\([^)]*\)")  # its picture is on another server: the words do
WIDGET = "application/vnd.jupyter.widget-view+json"
NO_CONTROL = (
    "*Here is a control that needs a running kernel. "
    "What it shows first stands beside it as a figure or table; to move it, open the notebook.*"
)
CONTENTS = """

```{toctree}
:hidden:
:glob:

notebooks/*
data/README
```
"""


def fit_for_reading(path: Path):
    """Return a notebook for readers: figures carry their cell's `alt` text, a sentence stands for a control.

    `alt` in a cell's metadata is where nbconvert looks for it, too. `make notebooks` leaves it alone.

    Raises:
        ValueError: a figure without such a text.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    notebook.cells[0].source = BADGE.sub(r"\1", notebook.cells[0].source)
    for cell in notebook.cells:
        if cell.id == "bootstrap":
            cell.metadata["tags"] = ["hide-input"]  # the same in all notebooks, and of no use here
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if WIDGET in data:
                output.data = {"text/markdown": NO_CONTROL}
            if "image/png" in data:
                if not cell.metadata.get("alt"):
                    raise ValueError(
                        f"{path.name}: the figure of cell {cell.id} has no description. "
                        'Say in the metadata of that cell what the figure shows: {"alt": "..."}'
                    )
                cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
    return notebook


def main() -> int:
    """Build runs/site anew and return the exit status. Unchanged pages come from a cache."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for folder in ("notebooks", "data"):
        (SOURCE / folder).mkdir(parents=True)
    readme = BADGE.sub(r"\1", (ROOT / "README.md").read_text(encoding="utf-8"))
    (SOURCE / "index.md").write_text(readme + CONTENTS, encoding="utf-8")
    shutil.copy(ROOT / "data" / "README.md", SOURCE / "data")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        try:
            nbformat.write(fit_for_reading(path), SOURCE / "notebooks" / path.name)
        except ValueError as error:
            sys.exit(f"The site was not built. {error}")
    shutil.rmtree(SITE, ignore_errors=True)
    status = sphinx_build(
        [
            "-q",
            "-W",
            "--keep-going",
            "-n",
            "-b",
            "html",
            "-c",
            str(ROOT / "docs"),
            "-d",
            str(CACHE),
            str(SOURCE),
            str(SITE),
        ]
    )
    if status == 0:
        site = SITE.relative_to(ROOT)
        print(f"The site is in {site}: open {site / 'index.html'} in a browser.")
    return status


if __name__ == "__main__":
    sys.exit(main())
