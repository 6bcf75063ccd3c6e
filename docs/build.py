"""Build the site: README, notebooks with stored outputs, docs, datasheet, as pages that need no network.

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
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")  # to a file, before its #heading
# Pages of docs/ in the order of the sidebar: first for those who use the template. Others follow.
ORDER = [
    "own_table",
    "harder_tables",
    "few_labels",
    "answers",
    "questions",
    "diagnosing",
    "checkpoints",
    "arguments",
    "large_tables",
    "batch",
    "trust",
    "after_training",
    "serving",
    "devices",
    "benchmarks",
    "pitfalls",
    "old_names",
]
LAST = "contributing"


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
        if cell.cell_type == "markdown":
            cell.source = with_links(cell.source, path.parent)
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


def place(path: Path) -> tuple[int, str]:
    """Return the place of a page among the pages, to sort by."""
    known = path.stem in ORDER
    return (ORDER.index(path.stem) if known else len(ORDER) + (path.stem == LAST), path.stem)


def contents(groups: dict[str, list[str]]) -> str:
    """Return the sidebar's groups: pages by caption."""
    parts = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])
        for caption, pages in groups.items()
        if pages
    ]
    return "\n\n" + "\n\n".join(parts) + "\n"


def with_links(text: str, folder: Path) -> str:
    """Return a text whose links work on the site: README is its index; other files are copied there."""
    for link in LINK.findall(text):
        linked = (folder / link).resolve()
        if linked.is_relative_to(ROOT) and linked.is_file() and linked.suffix not in (".md", ".ipynb"):
            there = SOURCE / linked.relative_to(ROOT)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(linked, there)
    return LINK.sub(lambda match: re.sub(r"^\.\./README\.md$", "../index.md", match[1]), text)


def copy_page(path: Path, name: str, more: str = "") -> None:
    """Copy a Markdown file into the source of the site."""
    text = with_links(BADGE.sub(r"\1", path.read_text(encoding="utf-8")), path.parent)
    (SOURCE / name).parent.mkdir(parents=True, exist_ok=True)
    (SOURCE / name).write_text(text + more, encoding="utf-8")


def main() -> int:
    """Build runs/site anew and return the exit status. Unchanged pages come from a cache."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    (SOURCE / "notebooks").mkdir(parents=True)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    pages = sorted((ROOT / "docs").glob("*.md"), key=place)
    for path in notebooks:
        try:
            nbformat.write(fit_for_reading(path), SOURCE / "notebooks" / path.name)
        except ValueError as error:
            sys.exit(f"The site was not built. {error}")
    for path in pages:
        copy_page(path, f"docs/{path.name}")
    for name in ("data/README", "benchmarks/measured/table"):
        copy_page(ROOT / f"{name}.md", f"{name}.md")
    lessons = [f"notebooks/{path.stem}" for path in notebooks if path.stem[0].isdigit()]
    others = [f"notebooks/{path.stem}" for path in notebooks if not path.stem[0].isdigit()]
    groups = {"Lessons": lessons, "The template": others, "Pages": [f"docs/{path.stem}" for path in pages]}
    copy_page(
        ROOT / "README.md",
        "index.md",
        contents(groups | {"Data": ["data/README", "benchmarks/measured/table"]}),
    )
    shutil.rmtree(SITE, ignore_errors=True)
    where = ["-c", str(ROOT / "docs"), "-d", str(CACHE), str(SOURCE), str(SITE)]
    status = sphinx_build(["-q", "-W", "--keep-going", "-n", "-b", "html", *where])
    if status == 0:
        site = SITE.relative_to(ROOT)
        print(f"The site is in {site}: open {site / 'index.html'} in a browser.")
    return status


if __name__ == "__main__":
    sys.exit(main())
