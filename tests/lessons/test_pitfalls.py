"""The explorer of the known mistakes, driven from Python: it says what the catalogue says."""

from html import escape

import pytest

from utils.lessons.pitfalls import STAGES, pitfall_explorer, pitfall_html
from utils.preflight import catalogue
from utils.preflight.catalogue import CATALOGUE, Pitfall


def test_it_offers_every_mistake_of_the_table_and_shows_its_symptom_and_fix():
    field, shown = pitfall_explorer().children
    table = catalogue().set_index("id")
    assert sorted(field.options) == sorted(table.index)
    for id, row in table.iterrows():
        field.value = id
        for text in (id, row["level"], row["symptom"], row["fix"]):
            assert escape(text) in shown.value
        assert ("raises an error" in shown.value) == row["loud"]
        assert ("says nothing" in shown.value) != row["loud"]


def test_it_says_in_words_where_a_mistake_is_found():
    assert set("".join(entry.stages for entry in CATALOGUE.values())) <= set(STAGES)
    _, shown = pitfall_explorer("lr-too-high").children
    assert "before training, by preflight; while it trains, by Watch" in shown.value
    assert "by read_table" not in shown.value


def test_what_it_shows_is_escaped(monkeypatch):
    nasty = '<script>alert(1)</script> & "quoted"'
    monkeypatch.setitem(CATALOGUE, "<b>", Pitfall("<b>", "P", "error", False, nasty, nasty, None, False))
    shown = pitfall_html("<b>")
    assert "<script" not in shown
    assert shown.count(escape(nasty)) == 2
    assert "<b>&lt;b&gt;</b>" in shown


def test_an_unknown_mistake_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'lr-to-high'.*lr-too-high"):
        pitfall_explorer("lr-to-high")
