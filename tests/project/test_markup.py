"""What is shown as HTML, looked at in a real browser: markup in labels, texts, names, parameters is text.

Nothing of it runs. A whole training run with such a table: test_training.py; controls and JupyterLab:
test_browser.py; the site: test_site.py.
"""

import json

import nbformat
import pandas as pd
import pytest
import test_browser
from markup import ALL, DRAWING, IMAGE, IN_FILE_NAME, LINK, MARK, SCRIPT, look_at, markdown_pages
from nbconvert import HTMLExporter
from test_runs import GOOD, record

from utils.findings import Finding, Report
from utils.lessons.batch_runs import run_explorer
from utils.lessons.loading import tokens_html
from utils.models import find_model
from utils.runs import model_card

browser = test_browser.browser


@pytest.mark.parametrize(
    "html",
    [SCRIPT, IMAGE, DRAWING, f"<a href=' JavaScript:{MARK}'>x</a>"],
    ids=["script", "image", "drawing", "link"],
)
def test_self_test_what_is_not_escaped_is_found(browser, tmp_path, html):
    live, _ = look_at(browser, f"<table><tr><td>{html}</td></tr></table>", tmp_path)
    assert live


@pytest.mark.parametrize("renderer", ["markdown-it", "mistune"])
@pytest.mark.parametrize("text", [SCRIPT, IMAGE, DRAWING, LINK], ids=["script", "image", "drawing", "link"])
def test_self_test_what_is_not_escaped_in_markdown_is_found(browser, tmp_path, renderer, text):
    live, _ = look_at(browser, markdown_pages(f"- {text}")[renderer], tmp_path)
    assert live or (renderer == "mistune" and text == LINK)  # it leaves such links out by itself


def nasty_record():
    text = " ".join(ALL)
    labels = [f"{text} | {k}" for k in ("`a", "*b*", "_c_")] + ["# d", "1. e", "- f", "&lt;g"]
    used = GOOD | {
        "data_file": f"a` {IN_FILE_NAME} {IMAGE}.csv",
        "text_column": text,
        "label_column": text,
        "model_name": f"`{IMAGE}` {LINK}",
    }
    return record() | {"parameters": used, "data": record()["data"] | {"labels": labels}}


@pytest.mark.parametrize("renderer", ["markdown-it", "mistune"])
def test_the_model_card_shows_markup_as_it_is(browser, tmp_path, renderer):
    live, text = look_at(browser, markdown_pages(model_card(nasty_record()))[renderer], tmp_path)
    assert live == []
    for label in nasty_record()["data"]["labels"]:
        assert label in text
    assert text.count(" ".join(ALL)) == 3 + 2  # the labels and the two columns
    assert text.count(f"`{IMAGE}` {LINK}") == 2  # the model, in the first sentence and among the parameters
    assert text.count(f"a`{IN_FILE_NAME} {IMAGE}.csv".replace("  ", " ")) == 2


def test_tables_and_reports_show_markup_as_it_is(browser, tmp_path):
    """A leaderboard, the comparison of its runs, preflight's report, tokens: in one page."""
    text = " ".join(ALL)
    run = {
        "run_id": text,
        "name": text,
        "seed": 1,
        "status": "failed",
        "validation_f1_macro": 0.5,
        "seconds": 1.0,
        "error": text,
    }
    board = pd.DataFrame([run, run | {"run_id": "other", "name": "other"}])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.json").write_text(json.dumps({"parameters": {"task": text}}))
    from transformers import AutoTokenizer

    with pd.option_context("display.max_colwidth", None):
        parts = [
            board.rename(columns={"name": text}).set_index("run_id")._repr_html_(),
            run_explorer(board, tmp_path, [text, "other"]).table.value,
            Report([Finding(text, "error", text, text)])._repr_html_(),
        ]
    tokens = tokens_html(AutoTokenizer.from_pretrained(find_model("minilm-l6")), text)
    live, seen = look_at(browser, "<hr>".join([*parts, tokens]), tmp_path)
    assert live == []
    assert (
        seen.count(text) == (1 + 2 + 2) + (1 + 2) + 3
    )  # index, column and errors; name and errors; id, message and fix
    assert "&lt;<br>" in tokens


def test_the_error_of_a_run_that_failed_is_shown_as_it_is(browser, tmp_path):
    """As a page made by nbconvert: messages name columns, labels and files."""
    text = " ".join(ALL)
    outputs = [
        nbformat.v4.new_output(
            "error", ename="TableError", evalue=text, traceback=[f"\x1b[31mTableError\x1b[39m: {text}"]
        )
    ]
    outputs += [nbformat.v4.new_output("stream", name=name, text=text) for name in ("stdout", "stderr")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0", outputs=outputs)])
    live, seen = look_at(browser, HTMLExporter().from_notebook_node(notebook)[0], tmp_path)
    assert live == []
    assert seen.count(text) == 3
