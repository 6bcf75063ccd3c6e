"""01: its first cells trained, its figure and tables, and its control driven from Python."""

import re
import statistics
import time

import numpy as np
import pytest
from transformers import AutoTokenizer

from notebooks import NOTEBOOKS, read, run_here, stored_table
from utils.lessons.loading import (
    TEXT_LIMIT,
    embed,
    score_table,
    text_to_label,
    token_explorer,
    token_kinds,
    token_table,
    tree,
)
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


def test_token_table_has_a_column_for_each_token(tokenizer):
    table = token_table(tokenizer, "good 🤖")
    assert table.loc["piece"].tolist() == ["[CLS]", "good", "[UNK]", "[SEP]"]
    assert table.loc["id"].tolist() == tokenizer("good 🤖")["input_ids"]
    assert table.loc["kind"].tolist() == ["special", "word", "unknown", "special"]


def test_the_scoreboard_has_a_line_for_each_answer():
    board = score_table([0, 1, 1, 1], {"commonest label": [1] * 4, "better": [0, 1, 1, 0]})
    assert board.columns.tolist() == ["accuracy", "f1_macro"]
    assert board.loc["commonest label"].tolist() == pytest.approx([0.75, (0 + 6 / 7) / 2])
    assert board.loc["better"].tolist() == pytest.approx([0.75, (2 / 3 + 4 / 5) / 2])


def test_the_way_from_text_to_label_names_what_it_is_given():
    axes = text_to_label("$x$ costs", ids=range(101, 120), width=7, label="dear").axes[0]
    words = [text.get_text() for text in axes.texts]
    assert [word for word in ("text", "ids", "encoder", "head", "label") if word not in words] == []
    assert "“\\$x\\$ costs”" in words  # no formula
    assert "101 102 103\n104 105 106 …" in words
    assert "7\nnumbers" in words
    assert "dear" in words


def test_a_tree_shows_each_file_with_its_size(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "weights").write_bytes(b"0" * 1_500_000)
    (tmp_path / "config").write_text("{}")
    lines = [line.split() for line in tree(tmp_path).splitlines()]
    assert lines == [["checkpoint-2/weights", "1.500", "MB"], ["config", "0.000", "MB"]]


def test_embeddings_have_length_one_and_know_what_is_alike_whatever_stands_beside_them():
    texts = ["I am very happy", "I am not happy", "The invoice is due on Friday", "short " * 60]
    happy, unhappy, invoice, _ = vectors = embed(find_model("minilm-l6"), texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert happy @ unhappy > happy @ invoice + 0.4
    assert embed(find_model("minilm-l6"), texts[:1])[0] == pytest.approx(happy, abs=1e-4)  # padding is none


def test_the_first_success_is_near():
    """A trained model's first score: within 12 cells, 400 words and 40 lines."""
    first = read(NOTEBOOKS[0]).cells[:12]
    code = [cell.source for cell in first if cell.cell_type == "code"]
    assert sum(len(cell.source.split()) for cell in first if cell.cell_type == "markdown") <= 400
    assert sum(bool(line.strip()) for source in code for line in source.splitlines()) <= 40
    assert all(
        any(part in source for source in code) for part in ("trainer.train()", "classify([", "accuracy")
    )


AGAIN = "trains 01 once more: its stored scores lie within the same bands, and nbval trains it"


def scores_of_the_first_training(folder, patch):
    """Run the cells of 01 up to its scoreboard, and return that."""
    patch.chdir(folder)
    lesson, _ = run_here(NOTEBOOKS[0], {}, last="scoreboard")
    assert sorted(path.name for path in (folder / "runs" / "loading").iterdir()) == ["checkpoint-100"]
    return lesson["loading"].score_table(lesson["data"].skip(800)["label"][:], lesson["answers"])


@pytest.mark.parametrize("scores", ["stored", pytest.param("fresh", marks=pytest.mark.full(reason=AGAIN))])
def test_one_epoch_beats_the_free_answer_and_an_untrained_model_does_not(tmp_path, monkeypatch, scores):
    if scores == "stored":
        board = stored_table(read(NOTEBOOKS[0]), "scoreboard")
    else:
        board = scores_of_the_first_training(tmp_path, monkeypatch)
    assert board.index.tolist() == ["commonest label", "untrained", "one epoch"]
    assert 0.6 < board.loc["commonest label", "accuracy"] < 0.75
    assert board.loc["untrained", "accuracy"] < board.loc["commonest label", "accuracy"] + 0.03
    assert board.loc["one epoch", "accuracy"] > board.loc["commonest label", "accuracy"] + 0.1
    assert board.loc["one epoch", "f1_macro"] > 0.75
