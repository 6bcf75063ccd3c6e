"""Texts that run, or become an element, wherever somebody has forgotten to escape them; and a look at a page
for what did.
"""

import os

import mistune
from markdown_it import MarkdownIt

SCRIPT = "<script>window.hacked=1</script>"
IMAGE = '<img src=x onerror="window.hacked=1">'
DRAWING = '"><svg onload="window.hacked=1">'
LINK = "[x](javascript:window.hacked=1)"
FORMULA = r"$\href{javascript:window.hacked=1}{x}$"
ALL = (SCRIPT, IMAGE, DRAWING, LINK, FORMULA)
MARK = "window.hacked=1"  # is in each of them: on the page it shall be read
IN_FILE_NAME = (
    "" if os.name == "nt" else " <img src=x onerror=window.hacked=1>"
)  # what a file system allows of it

# What came to life of those texts, as a list of words: their effect, and elements that carry them.
LIVE = """() => [
    ...(window.hacked ? ["window.hacked is set"] : []),
    ...[
        ...document.querySelectorAll("img[src=x], [onerror], [onload], a[href*='javascript:' i]"),
        ...[...document.scripts].filter(script => script.textContent.includes("hacked")
            && !script.type.endsWith("json")),  // data: what controls hold
    ].map(element => element.outerHTML),
]"""


def markdown_pages(text):
    """Render Markdown by two renderers that let HTML through, as GitHub's does before it is sanitised; return
    HTML by renderer.
    """
    lenient = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    lenient.validateLink = lambda url: True
    other = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "math", "url"])
    return {"markdown-it": lenient.render(text), "mistune": other(text)}


def look_at(browser, html, folder):
    """Open HTML, a whole page or a part of one, in a new tab; return what came to life in it and the text
    that a reader sees.
    """
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    page = browser.new_page()
    try:
        page.goto(path.as_uri(), wait_until="load")
        return page.evaluate(LIVE), page.locator("body").inner_text()
    finally:
        page.close()
