"""The controls, driven from Python: set a value, read what is shown."""

import re
import statistics
import time

import pytest
from transformers import AutoTokenizer

from utils.lessons.loading import TEXT_LIMIT, token_explorer, token_kinds
from utils.models import find_model


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(find_model("minilm-l6"))


def chips(shown):
    """The (piece, id) pairs that stand in the chips, as HTML source."""
    return re.findall(r">([^<>]*)<br><small>(\d+)</small>", shown)


def test_token_explorer_follows_the_text(tokenizer):
    field, shown = token_explorer(tokenizer, "good").children
    assert chips(shown.value) == [("[CLS]", "101"), ("good", "2204"), ("[SEP]", "102")]
    field.value = "unbelievably 🤖"
    expected = tokenizer("unbelievably 🤖")["input_ids"]
    assert [int(i) for _, i in chips(shown.value)] == expected
    assert [piece for piece, _ in chips(shown.value)] == tokenizer.convert_ids_to_tokens(expected)
    assert "2 words, 8 tokens with the special ones, 1 unknown" in shown.value


def test_token_explorer_escapes_what_is_typed(tokenizer):
    field, shown = token_explorer(tokenizer).children
    field.value = '<script>alert("x")</script> & <img src=x onerror=alert(1)>'
    assert "<script" not in shown.value.lower()
    assert "<img" not in shown.value.lower()
    assert ("&lt;", str(tokenizer.convert_tokens_to_ids("<"))) in chips(shown.value)
    assert ("&amp;", str(tokenizer.convert_tokens_to_ids("&"))) in chips(shown.value)
    assert ("script", str(tokenizer.convert_tokens_to_ids("script"))) in chips(shown.value)


def test_token_explorer_escapes_pieces_that_are_whole_tags():
    """A vocabulary can hold tags; RoBERTa's special tokens look like some."""

    class TagTokenizer:
        unk_token_id, all_special_ids = 3, [0, 2, 3]

        def __call__(self, text, **kwargs):
            return {"input_ids": [0, 5, 2]}

        def convert_ids_to_tokens(self, ids):
            return [{0: "<s>", 2: "</s>", 5: "<script>"}[i] for i in ids]

    _, shown = token_explorer(TagTokenizer(), "x").children
    assert chips(shown.value) == [("&lt;s&gt;", "0"), ("&lt;script&gt;", "5"), ("&lt;/s&gt;", "2")]


def test_token_explorer_takes_anything(tokenizer):
    field, shown = token_explorer(tokenizer, "x").children
    for text in ("", "   ", "\u202e🤖", "\ud83e", "a" * 50_000, "! " * 5_000, "[MASK] [UNK]"):
        field.value = text
        assert chips(shown.value)[0] == ("[CLS]", "101")
        assert len(chips(shown.value)) <= 512
    field.value = "a" * (TEXT_LIMIT + 1)
    assert f"only the first {TEXT_LIMIT:,} characters" in shown.value


def test_token_kinds(tokenizer):
    kinds = {piece: kind for piece, _, kind in token_kinds(tokenizer, "tokenizers 🤖")}
    assert kinds == {
        "[CLS]": "special",
        "token": "word",
        "##izer": "piece of a word",
        "##s": "piece of a word",
        "[UNK]": "unknown",
        "[SEP]": "special",
    }


def test_token_explorer_reacts_within_100_ms(tokenizer):
    field, shown = token_explorer(tokenizer).children
    seconds = []
    for k in range(9):
        before = shown.value
        start = time.process_time()
        field.value = f"{k} " + "unbelievably good tweets " * 40  # the longest text that is shown
        seconds.append(time.process_time() - start)
        assert shown.value != before
    assert statistics.median(seconds) < 0.1
