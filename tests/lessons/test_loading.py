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


def chips(html):
    """The (piece, id) pairs that stand in the chips, as HTML source."""
    return re.findall(r">([^<>]*)<br><small>(\d+)</small>", html)


def test_token_explorer_follows_the_text(tokenizer):
    explorer = token_explorer(tokenizer, "good")
    assert chips(explorer.tokens.value) == [("[CLS]", "101"), ("good", "2204"), ("[SEP]", "102")]
    explorer.text.value = "unbelievably 🤖"
    expected = tokenizer("unbelievably 🤖")["input_ids"]
    assert [int(i) for _, i in chips(explorer.tokens.value)] == expected
    assert [piece for piece, _ in chips(explorer.tokens.value)] == tokenizer.convert_ids_to_tokens(expected)
    assert "2 words, 8 tokens with the special ones, 1 unknown" in explorer.tokens.value


def test_token_explorer_escapes_what_is_typed(tokenizer):
    explorer = token_explorer(tokenizer)
    explorer.text.value = '<script>alert("x")</script> & <img src=x onerror=alert(1)>'
    assert "<script" not in explorer.tokens.value.lower()
    assert "<img" not in explorer.tokens.value.lower()
    assert ("&lt;", str(tokenizer.convert_tokens_to_ids("<"))) in chips(explorer.tokens.value)
    assert ("&amp;", str(tokenizer.convert_tokens_to_ids("&"))) in chips(explorer.tokens.value)
    assert ("script", str(tokenizer.convert_tokens_to_ids("script"))) in chips(explorer.tokens.value)


def test_token_explorer_escapes_pieces_that_are_whole_tags():
    """A vocabulary can hold tags; RoBERTa's special tokens look like some."""

    class TagTokenizer:
        unk_token_id, all_special_ids = 3, [0, 2, 3]

        def __call__(self, text, **kwargs):
            return {"input_ids": [0, 5, 2]}

        def convert_ids_to_tokens(self, ids):
            return [{0: "<s>", 2: "</s>", 5: "<script>"}[i] for i in ids]

    explorer = token_explorer(TagTokenizer(), "x")
    assert chips(explorer.tokens.value) == [("&lt;s&gt;", "0"), ("&lt;script&gt;", "5"), ("&lt;/s&gt;", "2")]


def test_token_explorer_takes_anything(tokenizer):
    explorer = token_explorer(tokenizer, "x")
    for text in ("", "   ", "\u202e🤖", "\ud83e", "a" * 50_000, "! " * 5_000, "[MASK] [UNK]"):
        explorer.text.value = text
        assert chips(explorer.tokens.value)[0] == ("[CLS]", "101")
        assert len(chips(explorer.tokens.value)) <= 512
    explorer.text.value = "a" * (TEXT_LIMIT + 1)
    assert f"only the first {TEXT_LIMIT:,} characters" in explorer.tokens.value


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
    explorer = token_explorer(tokenizer)
    seconds = []
    for k in range(9):
        before = explorer.tokens.value
        start = time.process_time()
        explorer.text.value = f"{k} " + "unbelievably good tweets " * 40  # the longest text that is shown
        seconds.append(time.process_time() - start)
        assert explorer.tokens.value != before
    assert statistics.median(seconds) < 0.1
