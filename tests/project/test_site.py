"""The pages of `make site` as a reader has them: on a phone and a desk, in light and dark, without a network,
without a mouse or eyes.

`make test` builds them first. Screenshots go to runs/screenshots/.
"""

import functools
import http.server
import os
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import axe_playwright_python
import nbformat
import pandas as pd
import pytest
import test_browser
from bs4 import BeautifulSoup

from notebooks import LESSONS, NOTEBOOKS, ROOT, TEMPLATE

SITE = ROOT / "runs" / "site"
DOCS = [f"docs/{path.stem}.html" for path in sorted((ROOT / "docs").glob("*.md"))]
PAGES = ["index.html", "data/README.html", "benchmarks/measured/table.html", *DOCS]
PAGES += [f"notebooks/{path.stem}.html" for path in NOTEBOOKS]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
every_page = pytest.mark.parametrize("name", PAGES)
browser = test_browser.browser

# What sticks out of the window on the right, and is in no box that scrolls: nobody can get to it.
OUT_OF_REACH = """() => [...document.querySelectorAll("article *")].filter(element => {
    const box = element.getBoundingClientRect();
    if (!box.width || box.right <= innerWidth + 1 || element.closest("details:not([open])")) return false;
    for (let around = element; around; around = around.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(around).overflowX)) return false;
    return true;
}).map(element => element.outerHTML.slice(0, 200))"""

# The rules that hold, and what breaks another one badly. The whole answer of axe names every element of the
# page, and takes longer to bring here than to find.
SERIOUS = """async options => {
    const found = await axe.run(document, options);
    const bad = found.violations.filter(rule => ["serious", "critical"].includes(rule.impact));
    const where = rule => rule.nodes.slice(0, 3).map(node => node.html.slice(0, 200));
    return [found.passes.map(rule => rule.id), bad.map(rule => [rule.id, ...where(rule)])];
}"""


@pytest.fixture(scope="module")
def site():
    """Serve runs/site on this machine; yield its address."""
    if not (SITE / "index.html").exists():
        pytest.fail("runs/site is not there: `make site` builds it", pytrace=False)
    handler = functools.partial(
        type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *args: None}),
        directory=str(SITE),
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def open_page(browser, site):
    """Return a function that opens a page and returns it. At the end: nothing was asked of another machine,
    nothing was missing, no script failed.
    """
    contexts, asked, complaints = [], [], []

    def run(name, viewport=DESK, scheme="light", address=site):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        context.route(
            "**/favicon.ico", lambda route: route.fulfill(status=204)
        )  # browsers ask for one; there is none
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        if (
            address == site
        ):  # in a page opened as a file, the search may not read the texts beside its results, and says so
            page.on(
                "console",
                lambda message: complaints.append(message.text) if message.type == "error" else None,
            )
            page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address + name, wait_until="load")
        return page

    yield run
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith((site, SITE.as_uri(), "data:"))] == []
    assert complaints == []


@functools.cache
def parsed(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def anchors(path):
    return {element.get("id") for element in parsed(path).find_all(id=True)}


@every_page
def test_every_link_leads_somewhere_and_every_file_is_here(site, name):
    page, dead = SITE / name, []
    for element in parsed(page).find_all(["a", "img", "script", "link"]):
        target = element.get("href") or element.get("src")
        if not target or (element.name == "a" and urlsplit(target).scheme in ("http", "https")):
            continue
        address, fragment = urldefrag(target)
        file = (page.parent / unquote(urlsplit(address).path)).resolve() if address else page
        if urlsplit(target).scheme not in ("", "data") or not (target.startswith("data:") or file.is_file()):
            dead.append(target)
        elif fragment and file.suffix == ".html" and unquote(fragment) not in anchors(file):
            dead.append(f"{target}: no such heading")
    assert dead == []


def test_the_chapters_are_linked_from_the_first_page_and_with_each_other(site):
    chapters = [f"{path.stem}.html" for path in [*LESSONS, TEMPLATE]]
    links = {
        link.get("href", "").partition("#")[0] for link in parsed(SITE / "index.html").article.find_all("a")
    }
    assert {f"notebooks/{chapter}" for chapter in chapters} <= links
    for before, after in zip(chapters, chapters[1:], strict=False):
        assert parsed(SITE / "notebooks" / before).find("a", class_="next-page")["href"] == after
        assert parsed(SITE / "notebooks" / after).find("a", class_="prev-page")["href"] == before


def test_the_sidebar_has_lessons_template_pages_and_data_in_this_order(site):
    sidebar = parsed(SITE / "index.html").find(class_="sidebar-tree")
    groups = {
        caption.get_text(): [link["href"] for link in caption.find_next("ul").find_all("a")]
        for caption in sidebar.find_all(class_="caption")
    }
    assert list(groups) == ["Lessons", "The template", "Pages", "Data"]
    assert groups["Lessons"] == [f"notebooks/{path.stem}.html" for path in LESSONS]
    assert groups["The template"] == [f"notebooks/{TEMPLATE.stem}.html"]
    assert sorted(groups["Pages"]) == DOCS
    assert groups["Pages"][-1] == "docs/contributing.html"


@pytest.mark.parametrize("name", DOCS)
def test_every_page_of_docs_is_linked_from_a_page_that_is_read(site, name):
    """From README, a lesson, or another page; the sidebar alone does not count."""
    here = (SITE / name).resolve()
    for other in set(PAGES) - {name}:
        for link in parsed(SITE / other).article.find_all("a"):
            address = urlsplit(link.get("href", "")).path
            if address and ((SITE / other).parent / address).resolve() == here:
                return
    pytest.fail(f"no page links to {name}")


@every_page
def test_figures_say_what_they_show_and_nothing_from_an_output_can_run(site, name):
    article = parsed(SITE / name).article
    for image in article.find_all("img"):
        assert len(image.get("alt", "")) > 40, image
    assert article.find_all(["script", "iframe", "object", "embed"]) == []
    assert [
        element
        for element in article.find_all(True)
        if any(attribute.startswith("on") for attribute in element.attrs)
    ] == []
    levels = [int(heading.name[1]) for heading in article.find_all(["h1", "h2", "h3", "h4", "h5", "h6"])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


@every_page
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_a_page_fits_its_window_and_wide_things_scroll_in_their_box(open_page, name, viewport):
    page = open_page(name, viewport)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert page.evaluate(OUT_OF_REACH) == []
    print("screenshot:", test_browser.screenshot(page))


def test_on_a_phone_a_wide_table_scrolls_by_keyboard(open_page):
    page = open_page("data/README.html", PHONE)
    box = page.locator(".table-wrapper").first
    box.focus()
    before = box.evaluate("box => [box.scrollLeft, box.scrollWidth > box.clientWidth]")
    assert before == [0, True]
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())


def test_on_a_phone_preflights_report_is_read_without_scrolling(open_page):
    """It has sentences in its columns."""
    page = open_page("notebooks/05_pitfalls.html", PHONE)
    report = page.locator(".cell_output table:has(td[style])").first
    assert report.evaluate("table => table.scrollWidth <= table.closest('.text_html').clientWidth")
    report.scroll_into_view_if_needed()
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )  # painted
    print("screenshot:", test_browser.screenshot(page))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scheme"),
    [*((name, "light") for name in PAGES), ("index.html", "dark"), ("notebooks/05_pitfalls.html", "dark")],
)
def test_axe_finds_nothing_serious(open_page, name, scheme):
    """In the dark only the colours are different, and two pages have all kinds of them."""
    page = open_page(name, PHONE, scheme)
    page.evaluate(AXE)
    passed, serious = page.evaluate(SERIOUS, {"runOnly": ["color-contrast"]} if scheme == "dark" else {})
    assert "color-contrast" in passed, "it did not look"
    assert serious == []


@pytest.mark.parametrize("opened", ["from a server", "as a file"])
def test_search_finds_a_word_and_leads_to_it(open_page, site, opened):
    page = open_page(
        "search.html?q=DataCollatorWithPadding",
        address=site if opened == "from a server" else SITE.as_uri() + "/",
    )
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any("02_data_prep.html" in address for address in found)
    page.locator("#search-results li a").first.click()
    page.wait_for_load_state()
    assert "DataCollatorWithPadding" in page.content()


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MARKUP = (
    """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">">"""
    """<svg onload="window.hacked = 1">"""
)


@pytest.fixture
def build(site, tmp_path):
    """Return a function that builds a site of one notebook in a temporary folder, and returns the finished
    process.
    """

    def run(outputs, text="read on", **metadata):
        for name in ("README.md", "data/README.md", "benchmarks/measured/table.md"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("# A title\n\nand words\n", encoding="utf-8")
        shutil.copytree(
            ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__", "*.md")
        )
        new = nbformat.v4
        cells = [
            new.new_markdown_cell(f"# A chapter\n\n{text}"),
            new.new_code_cell("1 + 1", outputs=outputs, metadata=metadata, id="shown"),
        ]
        (tmp_path / "notebooks").mkdir()
        language = {"name": "python", "pygments_lexer": "ipython3"}
        nbformat.write(
            new.new_notebook(cells=cells, metadata={"language_info": language}),
            tmp_path / "notebooks" / "01_chapter.ipynb",
        )
        python = ROOT / ".venv-site" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        return subprocess.run([python, tmp_path / "docs" / "build.py"], capture_output=True, text=True)

    return run


def figure():
    return nbformat.v4.new_output(
        "display_data", {"image/png": PIXEL, "text/plain": "<Figure size 1x1 with 1 Axes>"}
    )


def test_markup_in_data_output_and_description_is_text(build, browser, tmp_path):
    table = pd.DataFrame({MARKUP: [MARKUP]}, index=[MARKUP]).to_html()
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=MARKUP),
        nbformat.v4.new_output("display_data", {"text/plain": MARKUP}),
        nbformat.v4.new_output("display_data", {"text/html": table, "text/plain": "a table"}),
        figure(),
    ]
    built = build(outputs, alt=f"{MARKUP}: a figure that shows one pixel and nothing else")
    assert built.returncode == 0, built.stderr
    page = browser.new_page()
    page.goto((tmp_path / "runs" / "site" / "notebooks" / "01_chapter.html").as_uri(), wait_until="load")
    assert page.evaluate("window.hacked") is None
    assert page.locator("article").inner_text().count("window.hacked = 1") >= 3 * 5  # it is all there to read
    assert "window.hacked" in page.locator("article img").get_attribute("alt")
    page.close()


def test_a_figure_without_a_description_stops_the_build(build):
    built = build([figure()])
    assert built.returncode == 1
    assert "01_chapter.ipynb: the figure of cell shown has no description" in built.stderr


@pytest.mark.parametrize("link", ["02_gone.ipynb", "01_chapter.ipynb#no-such-heading"])
def test_a_dead_link_stops_the_build(build, link):
    built = build([], text=f"[on]({link})")
    assert built.returncode != 0
    (warning,) = built.stderr.strip().splitlines()
    assert link.split("#")[-1] in warning
