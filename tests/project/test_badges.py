"""The repository's address stands in one place, and README and notebooks are in step with it."""

import importlib.util
import json
import re
import shutil
import subprocess

import pytest

from notebooks import NOTEBOOKS, ROOT, cell_of, read

spec = importlib.util.spec_from_file_location("badges", ROOT / "docs" / "badges.py")
badges = importlib.util.module_from_spec(spec)
spec.loader.exec_module(badges)

COLAB = re.compile(r"https://colab\.research\.google\.com/github/[^)\s]+")


@pytest.fixture
def copy(tmp_path):
    """A copy of what has badges, none of them written yet."""
    for name in ("README.md", "pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, tmp_path / "notebooks")
    badges.main(["--repository", "", "--tag", "main"], tmp_path)
    return tmp_path


def texts(folder):
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in (folder / "README.md", *sorted((folder / "notebooks").glob("*.ipynb")))
    }


def contents(folder):
    """Return the texts of a folder, notebooks parsed: there is more than one way to write a number."""
    return {
        name: json.loads(text) if name.endswith(".ipynb") else text for name, text in texts(folder).items()
    }


def test_readme_and_notebooks_are_in_step_with_the_address():
    for path, wanted in badges.in_step().items():
        assert path.read_text(encoding="utf-8") == wanted, f"{path.name}: make badges"


def test_without_an_address_there_is_no_badge(copy):
    for name, text in texts(copy).items():
        assert "colab.research.google.com" not in text, name


def test_one_command_writes_every_badge_and_the_address_that_colab_installs(copy):
    before = contents(copy)
    command = ["make", "-C", str(copy), "badges", "REPO=someone/some.thing", "TAG=v1.0"]
    subprocess.run(command, check=True, capture_output=True)
    after = texts(copy)
    urls = [
        f"https://colab.research.google.com/github/someone/some.thing/blob/v1.0/notebooks/{path.name}"
        for path in NOTEBOOKS
    ]
    assert COLAB.findall(after["README.md"]) == urls
    for path, url in zip(NOTEBOOKS, urls, strict=True):
        notebook = read(copy / "notebooks" / path.name)
        assert COLAB.findall(notebook.cells[0].source) == [url]
        assert notebook.cells[0].source.startswith("# ")
        assert (
            "git+https://github.com/someone/some.thing@v1.0#egg=finetuning"
            in cell_of(notebook, "bootstrap").source
        )

    assert (
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.count("badges of") == 0
    ), "a second time there is nothing to do"
    assert texts(copy) == after
    badges.main(["--repository", "another/one"], copy)  # the tag stays
    assert {url.split("/notebooks/")[0] for text in texts(copy).values() for url in COLAB.findall(text)} == {
        "https://colab.research.google.com/github/another/one/blob/v1.0"
    }
    subprocess.run(["make", "-C", str(copy), "badges", "REPO="], check=True, capture_output=True)
    assert contents(copy) == before


@pytest.mark.parametrize("wrong", ["https://github.com/someone/thing", "thing", 'a/b"'])
def test_what_is_no_repository_is_refused_and_nothing_is_written(copy, wrong):
    before = texts(copy)
    with pytest.raises(SystemExit, match="Give its owner and name: make badges REPO=owner/name"):
        badges.main(["--repository", wrong], copy)
    assert texts(copy) == before
    assert badges.address(copy) == ("", "main")


def test_a_notebook_without_the_line_is_named(copy):
    path = copy / "notebooks" / NOTEBOOKS[-1].name
    path.write_text(path.read_text(encoding="utf-8").replace("git+https://", "git+ssh://"), encoding="utf-8")
    with pytest.raises(ValueError, match=f"bootstrap cell of {path.name} has 0 places"):
        badges.main(["--repository", "a/b"], copy)
