"""Behaviour tests: each change is what it says and no more, and the failures of a known model are counted."""

import random

import pytest
from builders import LABELS, tiny, tokenizer_of
from test_explain import Bag

from utils.export.behaviour import NAMES, check, harmless, negation, typo
from utils.findings import ModelError

TEXTS = ["@ann the Battery broke in 2 days :(", "naïve café", "ok", "aaaa 1234 u", "EEK! über spät", ""]


def test_a_typo_swaps_two_unlike_letters_inside_one_word():
    for seed in range(40):
        for text in TEXTS:
            changed = typo(text, random.Random(seed))
            places = [k for k, pair in enumerate(zip(text, changed, strict=True)) if len({*pair}) > 1]
            if text in ("ok", "aaaa 1234 u", ""):
                assert changed == text, "no word of four letters, or none that a swap would change"
                continue
            first, second = places
            assert second == first + 1
            assert (text[first], text[second]) == (changed[second], changed[first])
            for place, step in ((first, -1), (second, 1)):
                assert text[place].isalpha()
                assert text[place + step].isalpha(), "not the first or last letter of a word"
    assert len({typo(TEXTS[0], random.Random(seed)) for seed in range(40)}) > 5


def test_harmless_changes_are_as_they_say():
    tests = harmless(TEXTS, seed=3)
    assert tests == harmless(TEXTS, seed=3)
    for name, cases in tests.items():
        assert all(text != changed and wanted is None for text, changed, wanted in cases), name
    assert [case[0] for case in tests["typo"]] == [TEXTS[0], TEXTS[1], TEXTS[4]]
    assert [case[1] for case in tests["capitals"]] == [text.upper() for text in TEXTS if text]
    assert all(
        changed == f"{text} I wrote this on a Tuesday." for text, changed, _ in tests["neutral ending"]
    )
    for text, (one, other, _) in zip(TEXTS, tests["another name"], strict=True):
        assert (one.removesuffix(f" wrote: {text}"), other.removesuffix(f" wrote: {text}")) in NAMES


def test_negation_adds_one_word_and_asks_for_the_callers_labels():
    tests = negation("pos", "neg")
    for kind, (label, other) in {"praise": ("pos", "neg"), "blame": ("neg", "pos")}.items():
        plain, negated = tests[kind], tests[f"not + {kind}"]
        assert all(text == changed and wanted == label for text, changed, wanted in plain)
        assert [text for text, _, _ in plain] == [text for text, _, _ in negated]
        for text, changed, wanted in negated:
            words = changed.split()
            words.remove("not")
            assert (" ".join(words), wanted) == (text, other)
    assert not {text for text, _, _ in tests["praise"]} & {text for text, _, _ in tests["blame"]}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """w7 makes a text positive and w8 a little; without them it is negative."""
    folder, tokenizer = tmp_path_factory.mktemp("config"), tokenizer_of()
    tiny().config.save_pretrained(folder)
    adds = {"[CLS]": [1.0, 0.0], "w7": [0.0, 5.0], "w8": [0.0, 1.5]}
    return Bag(folder, adds, tokenizer), tokenizer, "single_label", LABELS


def test_known_failures_are_counted_with_their_interval_the_surest_first(loaded):
    kept = [(f"w7 w{k}", f"w{k} w7", None) for k in range(20, 27)]
    lost = [("w7 w1", "w1", None), ("w1", "w8", None), ("w2", "w7", None)]
    table, failures = check(loaded, {"order": kept + lost, "wanted": [("w1", "w7 w2", "positive")]})
    assert table.loc["order", ["cases", "failures", "rate"]].tolist() == pytest.approx([10, 3, 0.3])
    assert table.loc["order", ["low", "high"]].tolist() == pytest.approx(
        [0.1078, 0.6032], abs=1e-4
    )  # Wilson's
    assert table.loc["wanted", ["cases", "failures", "low"]].tolist() == [1, 0, 0]
    assert failures[["test", "text", "changed", "wanted", "predicted"]].values.tolist() == [
        ["order", "w2", "w7", "negative", "positive"],
        ["order", "w7 w1", "w1", "positive", "negative"],
        ["order", "w1", "w8", "negative", "positive"],
    ]
    assert failures["probability"].tolist() == pytest.approx([0.982, 0.731, 0.622], abs=1e-3)


def test_labels_that_the_model_lacks_and_numbers_are_refused(loaded):
    with pytest.raises(ModelError, match="no label 'good', but 'negative', 'positive'"):
        check(loaded, {"own": [("w1", "w7", "good")]})
    with pytest.raises(ModelError, match="predicts a number"):
        check((*loaded[:2], "regression", ["value"]), {"own": [("w1", "w7", None)]})
    several = *loaded[:2], "multi_label", LABELS
    table, failures = check(
        several, {"own": [("w1", "w7 w8", "negative|positive"), ("w1", "w7", "positive")]}
    )
    assert table["failures"].tolist() == [1]
    assert failures["predicted"].tolist() == ["negative|positive"]
