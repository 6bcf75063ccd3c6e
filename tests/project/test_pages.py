"""The pages in docs/: what they show is run, their links lead somewhere, they are short.

Those that are made from the code are as the code makes them today.
"""

import ast
import doctest
import importlib.util
import re
import socket
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import transformers

from notebooks import ROOT, read

spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)

PAGES = sorted((ROOT / "docs").glob("*.md"))
PAGE = 950  # words of prose at most
MOST_WORDS = {"questions": 1500, "diagnosing": 1500, "checkpoints": 1100}  # to look things up in
WITH_LINKS = [*PAGES, ROOT / "README.md", ROOT / "data" / "README.md"]
FENCE = re.compile(r"^(```+)(\w*).*\n((?s:.*?))^\1$", flags=re.M)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)")
every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
every_link = pytest.mark.parametrize("path", WITH_LINKS, ids=lambda path: f"{path.parent.name}-{path.stem}")


def examples(text):
    """Return the doctest of a page. Its fences become empty lines, so that no output ends with one."""
    return doctest.DocTestParser().get_doctest(re.sub(r"^```.*$", "", text, flags=re.M), {}, "page", None, 0)


def slug(heading):
    """Return the anchor that GitHub and the site give a heading."""
    words = re.sub(r"[`*]|\[(?=[^]]*\]\()|\]\([^)]*\)", "", heading.strip()).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(path):
    if path.suffix == ".ipynb":
        text = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.M)}


@pytest.fixture
def offline(monkeypatch):
    """Let no connection leave this machine."""
    connect = socket.socket.connect

    def only_here(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            raise OSError(f"a page asked for {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)


@every_page
@pytest.mark.slow
def test_what_a_page_shows_is_what_it_prints(path, offline, monkeypatch):
    monkeypatch.chdir(ROOT)
    test = examples(path.read_text(encoding="utf-8"))
    test.filename, test.globs = str(path), {"__name__": path.stem}
    said = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert said == [], "".join(said)


@pytest.mark.parametrize("output", ["3", "2\nand more"])
def test_an_output_that_is_wrong_is_seen(output):
    test = examples(f"# A page\n\n```python\n>>> 1 + 1\n{output}\n```\n\nmore words\n")
    assert len(test.examples) == 1
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1
    assert doctest.DocTestRunner().run(examples("```python\n>>> 1 + 1\n2\n```\n")).failed == 0


@every_link
def test_other_python_parses(path):
    for _, language, code in FENCE.findall(path.read_text(encoding="utf-8")):
        if language == "python" and ">>>" not in code:
            ast.parse(code, filename=path.name)


@every_link
def test_links_lead_somewhere(path):
    dead = []
    for link in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        address, fragment = urldefrag(link)
        if urlsplit(link).scheme in ("http", "https"):
            continue
        target = (path.parent / unquote(address)).resolve() if address else path
        if not target.is_file() or not target.is_relative_to(ROOT):
            dead.append(link)
        elif fragment and unquote(fragment) not in anchors(target):
            dead.append(f"{link}: no such heading")
    assert dead == []


@every_link
def test_no_page_has_a_gap_to_fill(path):
    assert "TODO" not in path.read_text(encoding="utf-8")


@every_page
def test_a_page_has_one_title_and_is_short(path, record_property):
    text = path.read_text(encoding="utf-8")
    levels = [len(level) for level in re.findall(r"^(#+) ", FENCE.sub("", text), flags=re.M)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    if path.name not in pages.PAGES:
        record_property(f"words of docs/{path.name}", words := len(FENCE.sub("", text).split()))
        assert words <= MOST_WORDS.get(path.stem, PAGE)


@pytest.mark.parametrize("name", sorted(pages.PAGES))
def test_a_page_made_from_the_code_is_as_the_code_makes_it(name):
    """Other versions of the matrix answer otherwise to some old names: there, names alone are compared."""
    stored, made = (ROOT / "docs" / name).read_text(encoding="utf-8"), pages.PAGES[name]()
    if f"Transformers {transformers.__version__} was" in stored or name != "old_names.md":
        assert stored == made, "make pages"
    names = re.compile(r"^(?:### |- `)([\w-]+)", flags=re.M)
    assert sorted(names.findall(stored)) == sorted(names.findall(made))
    assert len(names.findall(stored)) > 30


def test_the_old_names_were_asked_of_the_version_that_is_pinned():
    pinned = re.search(r"^transformers==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.M)[1]
    assert f"Transformers {pinned} was" in (ROOT / "docs" / "old_names.md").read_text(encoding="utf-8")


def test_every_mistake_has_a_theme_of_its_own_and_shows_what_the_catalogue_says():
    named = " ".join(pages.THEMES.values()).split()
    assert len(named) == len(set(named))
    assert set(pages.FALLBACK.values()) <= set(pages.THEMES)
    text = pages.pitfalls_page()
    for entry in pages.CATALOGUE.values():
        _, _, part = text.partition(f"\n### {entry.id}\n")
        assert pages.marked(entry.symptom) in part.partition("\n#")[0]


def test_markup_in_a_symptom_is_text():
    assert pages.escaped("<b> *a* [x](y) a_b | &lt;") == r"\<b\> \*a\* \[x\](y) a\_b \| &amp;lt;"
    assert pages.marked("say keep_default_na=False. '</s>' <b a>") == (
        r"say `keep_default_na=False`. '`</s>`' \<b a\>"
    )
