"""Why this answer: planted words are named, sums complete, HTML safe; the check knows good from bad."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import LABELS, gpt2_tokenizer, of_family, tiny, tokenizer_of

from utils.export.explain import _gradients, explain, faithfulness, figure
from utils.findings import ModelError


class Bag(torch.nn.Module):
    """A classifier whose logits are sums over its tokens: what each word adds is known exactly."""

    def __init__(self, folder, adds, tokenizer, outputs=2, bias=0.0, **config):
        super().__init__()
        self.embed = torch.nn.Embedding(len(tokenizer), outputs, _weight=torch.zeros(len(tokenizer), outputs))
        for token, logits in adds.items():
            self.embed.weight.data[tokenizer.convert_tokens_to_ids(token)] = torch.tensor(logits)
        self.bias, self.device = bias, torch.device("cpu")
        self.config, self.name_or_path = SimpleNamespace(**config), str(folder)

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, **_):
        units = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        mask = 1 if attention_mask is None else attention_mask[..., None]
        return SimpleNamespace(logits=(units * mask).sum(1) + self.bias)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the length limit is read; that a weight is there is not asked."""
    folder = tmp_path_factory.mktemp("config")
    tiny().config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def planted(folder):
    """w7 makes a text positive, w3 a little less so, and nothing else counts."""
    tokenizer = tokenizer_of()
    adds = {"w7": [-1.5, 2.5], "w3": [0.5, -0.25]}
    return Bag(folder, adds, tokenizer), tokenizer, "single_label", LABELS


def test_both_methods_name_the_planted_words_by_what_they_add(planted):
    why = explain(planted, "  w1 W7,  w2\nw3 w3 w9 ")
    assert why.words["word"].tolist() == ["w1", "W7,", "w2", "w3", "w3", "w9"]
    for method in ("occlusion", "gradient"):
        assert why.words[method].tolist() == pytest.approx([0, 4, 0, -0.75, -0.75, 0], abs=1e-5)
    assert why.answer == f"positive ({1 / (1 + np.exp(-2.5)):.3g})"
    against = explain(planted, "w1 w7", "negative")
    assert against.words["gradient"].tolist() == pytest.approx([0, -4], abs=1e-5)
    assert against.score == "log-odds of negative (nats)"


def test_byte_level_tokens_go_to_the_word_that_they_are_of(folder):
    tokenizer = gpt2_tokenizer().train_new_from_iterator(["w7 x42 (w12 w7)"] * 9, 300)
    tokenizer.model_max_length = 64
    pieces = "w7", " x42", " w7", " (w12)"
    tokens = sorted({token for piece in pieces for token in tokenizer.tokenize(piece)})
    weights = {token: [0.0, 0.5 + 0.1 * k] for k, token in enumerate(tokens)}
    loaded = Bag(folder, weights, tokenizer), tokenizer, "single_label", LABELS
    assert any(len(token) > 1 and token.startswith("Ġ") for token in tokens), "a blank and more"
    assert "Ġ" not in tokens, "which would count for the word before it"
    wanted = [sum(weights[token][1] for token in tokenizer.tokenize(piece)) for piece in pieces]
    assert explain(loaded, "".join(pieces)).words["gradient"].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DebertaV2", "ModernBert", "MPNet", "GPT2", "Llama"])
def test_the_gradients_sum_to_the_change_of_the_log_odds(family, tmp_path):
    built = of_family(family, ["a", "b", "c"], initializer_range=0.3)
    model, tokenizer = built["model"].eval(), built["tokenizer"]
    tokenizer.model_max_length = 64
    model.get_input_embeddings().weight.data.normal_()  # Llama's norm has no value at a padding of zeros
    model.config.save_pretrained(tmp_path)
    model.name_or_path = str(tmp_path)
    words = ["w3 ", "w7 ", "w12 ", "w5"]
    adds, gap = _gradients((model, tokenizer, "single_label", "abc"), words, 1, 64)
    ids = tokenizer("".join(words), return_tensors="pt")["input_ids"]
    special = tokenizer.get_special_tokens_mask(ids[0].tolist(), already_has_special_tokens=True)
    nothing = torch.tensor(
        [[i if s else tokenizer.pad_token_id for i, s in zip(ids[0], special, strict=True)]]
    )
    with torch.no_grad():
        ends = [model(inputs_embeds=model.get_input_embeddings()(each)).logits[0] for each in (ids, nothing)]
        whole = model(input_ids=ids).logits[0]
    assert torch.allclose(whole, ends[0], atol=1e-5), "what is explained is what the model answers"
    odds = [float(logits[1] - logits[[0, 2]].logsumexp(0)) for logits in ends]
    assert adds.shape == (4,)
    assert gap < 0.02
    assert adds.sum() == pytest.approx(odds[0] - odds[1], abs=0.02)


def test_several_labels_are_explained_one_by_one_and_a_number_as_it_is(folder):
    tokenizer = tokenizer_of()
    adds = {"w7": [2.0, 0.0], "w3": [0.0, 3.0]}
    several = Bag(folder, adds, tokenizer), tokenizer, "multi_label", ["red", "round"]
    assert explain(several, "w1 w7 w3", "red").words["occlusion"].tolist() == pytest.approx([0, 2, 0])
    assert explain(several, "w1 w7 w3").words["gradient"].tolist() == pytest.approx([0, 0, 3], abs=1e-5)
    number = Bag(folder, {"w7": [2.0]}, tokenizer, 1, bias=10.0), tokenizer, "regression", ["value"]
    why = explain(number, "w7 w2")
    assert why.words["occlusion"].tolist() == pytest.approx([2, 0])
    assert (why.score, why.answer) == ("value", "value (12)")


def test_of_a_long_text_what_the_model_reads_is_explained_and_said(folder):
    tokenizer = tokenizer_of(model_max_length=6)
    loaded = Bag(folder, {"w7": [0.0, 1.0]}, tokenizer), tokenizer, "single_label", LABELS
    why = explain(loaded, "w1 w7 w2 w3 w7 w7")
    assert why.words["word"].tolist() == ["w1", "w7", "w2", "w3"]
    assert why.answer.endswith(", the first 4 words")
    assert len(explain(loaded, "w1 w7 w2 w3").words) == 4
    assert "first" not in explain(loaded, "w1 w7 w2 w3").answer


def test_what_cannot_be_explained_is_refused(planted, folder):
    with pytest.raises(ModelError, match="no label 'neutral', but 'negative', 'positive'"):
        explain(planted, "w1", "neutral")
    with pytest.raises(ModelError, match="not blank"):
        explain(planted, " \n")
    pairs = Bag(folder, {}, planted[1], text_pair_column="answer")
    with pytest.raises(ModelError, match="none to pairs"):
        explain((pairs, *planted[1:]), "w1")


def test_coloured_text_is_escaped_and_readable_without_colours(planted):
    model, tokenizer, task, _ = planted
    why = explain((model, tokenizer, task, ["<i>", "good&"]), "w1 <script>w7</script> w3 w3 w3 w3")
    html = why._repr_html_()
    assert "<script>" not in html
    assert "<b title='+4.00' style='background:#0072B2a0'>&lt;script&gt;w7&lt;/script&gt;</b>" in html
    assert "log-odds of good&amp; (nats); the gradients miss" in html
    plain = re.sub(r" title='[^']*' style='[^']*'", "", html)
    assert plain.count("<b>&lt;script") == 2, "once a method"
    assert "<u>" not in plain.split("<small>")[0], "weak words stand unmarked"
    strong = explain(planted, "w3 w1")._repr_html_()
    assert re.search(r"<b title='\+0.75'[^>]*>w3</b> <span", strong), "for negative, which is the answer"
    assert re.search(r"<u title='-0.75'[^>]*>w3</u>", explain(planted, "w3 w1", "positive")._repr_html_())


def test_the_figure_has_the_strongest_words_in_the_order_of_the_text(planted):
    drawing = figure(explain(planted, "w1 w3 $w7$ w2", "positive"), most=2)
    left, right = drawing.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["w3", r"\$w7\$"]
    for axes in (left, right):
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([-0.75, 4], abs=1e-5)
    assert drawing.get_supxlabel() == "what the word adds to the log-odds of positive (nats)"


def test_naming_the_words_that_count_beats_chance_and_naming_any_does_not(planted, folder):
    draw = np.random.default_rng(1)
    texts = [" ".join(["w7", *draw.choice(["w1", "w2", "w4", "w5"], 9)]) for _ in range(20)]
    table = faithfulness(planted, [*texts, "w7 w1"])
    drop = 1 / (1 + np.exp(-4)) - 0.5  # without w7 nothing is left to go by
    assert table["texts"].tolist() == [20, 20], "a fifth of two words is none"
    assert table["named"].tolist() == pytest.approx([drop] * 2, abs=1e-6)
    assert (table["random"] < drop / 2).all()
    assert (table["gain"] - (table["named"] - table["random"])).abs().max() < 1e-9
    assert (table["low"] > 0.1).all()
    assert (table["low"] < table["gain"]).all()
    assert (table["gain"] < table["high"]).all()

    deaf = Bag(folder, {}, planted[1], bias=torch.tensor([0.0, 1.0])), *planted[1:]
    assert faithfulness(deaf, texts)[["named", "random", "gain", "low", "high"]].abs().to_numpy().max() < 1e-9
    wrong = Bag(folder, {f"w{k}": [0.0, float(k)] for k in (1, 2, 4, 5)}, planted[1]), *planted[1:]
    control = faithfulness(planted, texts, explainer=wrong)
    assert (control["high"] <= 0).all(), "what counts for another model names the wrong words"
    with pytest.raises(ModelError, match="1 of the texts are long enough for share=0.2"):
        faithfulness(planted, ["w7 w1 w2 w3 w4", "w7 w1"])
