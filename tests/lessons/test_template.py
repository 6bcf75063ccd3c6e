"""The control at the end of the template, driven from Python."""

import pytest
from test_predict import tiny

from utils.lessons.template import answer_as_html, ask
from utils.predict import label_texts, load_classifier


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    names = ("<img src=x onerror=alert(1)>", "good", "$x_")
    return load_classifier(tiny(tmp_path_factory.mktemp("model") / "m", names))


def test_it_answers_what_is_typed(loaded):
    box = ask(loaded, "a good film")
    first = box.answer.value
    box.text.value = "something else entirely, and longer"
    assert box.answer.value != first
    share = label_texts(loaded, [box.text.value]).filter(like="probability_").iloc[0].max()
    assert f"{share:.3f}" in box.answer.value
    box.text.value = " "
    assert box.answer.value == "Type a sentence."


def test_a_label_that_is_markup_is_shown_as_it_is(loaded):
    html = answer_as_html(loaded, "<script>alert(1)</script>")
    assert "<img" not in html
    assert "&lt;img src=x" in html
    assert "<script" not in html


def test_a_long_text_and_a_number(loaded, tmp_path):
    assert "<b>" in answer_as_html(loaded, "word " * 5000)
    number = load_classifier(tiny(tmp_path / "n", ["value"], "regression"))
    assert answer_as_html(number, "a text").startswith("<b>")
    several = load_classifier(
        tiny(tmp_path / "s", problem_type="multi_label_classification", thresholds=[1.0] * 3)
    )
    assert "none of the labels" in answer_as_html(several, "a text")
