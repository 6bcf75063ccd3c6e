"""The explorer of the known mistakes, driven from Python: it says what the catalogue says."""

from html import escape

import pytest

from utils.lessons.pitfalls import STAGES, pitfall_explorer, pitfall_html
from utils.preflight import catalogue
from utils.preflight.catalogue import CATALOGUE, Pitfall


def test_it_offers_every_mistake_of_the_table_and_shows_its_symptom_and_fix():
    explorer = pitfall_explorer()
    table = catalogue().set_index("id")
    assert sorted(explorer.mistake.options) == sorted(table.index)
    for id, row in table.iterrows():
        explorer.mistake.value = id
        for text in (id, row["level"], row["symptom"], row["fix"]):
            assert escape(text) in explorer.entry.value
        assert ("raises an error" in explorer.entry.value) == row["loud"]
        assert ("says nothing" in explorer.entry.value) != row["loud"]


def test_it_says_in_words_where_a_mistake_is_found():
    assert set("".join(entry.stages for entry in CATALOGUE.values())) <= set(STAGES)
    explorer = pitfall_explorer("lr-too-high")
    assert "before training, by preflight; while it trains, by Watch" in explorer.entry.value
    assert "by read_table" not in explorer.entry.value


def test_what_it_shows_is_escaped(monkeypatch):
    nasty = '<script>alert(1)</script> & "quoted"'
    monkeypatch.setitem(CATALOGUE, "<b>", Pitfall("<b>", "P", "error", False, nasty, nasty, None, False))
    html = pitfall_html("<b>")
    assert "<script" not in html
    assert html.count(escape(nasty)) == 2
    assert "<b>&lt;b&gt;</b>" in html


def test_an_unknown_mistake_is_refused_with_the_nearest_known_one():
    with pytest.raises(ValueError, match="'lr-to-high'.*Did you mean 'lr-too-high'"):
        pitfall_explorer("lr-to-high")
