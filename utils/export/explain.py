"""Why this answer: what each word of a text adds to it, by two methods, and a check of both."""

import math
import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import special, stats

from utils.findings import ModelError, in_words
from utils.labels import TASKS
from utils.plots import BLUE, ORANGE, finish, plain_axes
from utils.predict import label_texts, length_limit

METHODS = {"occlusion": BLUE, "gradient": ORANGE}
MOST = 20  # words in the figure
TOKENS = 4_096  # in a batch of integrated gradients


class Explanation(NamedTuple):
    """What `explain` returns; in a notebook it shows itself as coloured text."""

    words: pd.DataFrame  # word, and what it adds to the score: occlusion, gradient
    score: str  # "log-odds of positive", in nats; of a regression, its name
    answer: str  # "positive (0.98)"
    gap: float  # what the gradients' sum misses of the score's distance from that of padding tokens
    steps: int  # of the integral
    cut: bool  # whether the text is longer than the model reads at a time: the rest is not explained

    def __repr__(self) -> str:
        rows = self.words.itertuples(index=False)
        return " ".join([f"{self.answer}:", *(f"{row.word}({row.gradient:+.1f})" for row in rows)])

    def _repr_html_(self) -> str:
        lines = [f"<b>{escape(self.answer)}</b>{' (of what the model reads, the beginning)' * self.cut}"]
        for method, values in self.words[[*METHODS]].items():
            shares = values / (values.abs().max() or 1)
            marks = map(_mark, self.words["word"], values, shares)
            lines.append(f"<i>by {method}:</i> {' '.join(marks)}")
        legend = f"{_mark('adds much', 1, 1)}, {_mark('takes much', -1, -1)} from the {escape(self.score)}"
        return "<br>".join([*lines, f"<small>{legend}</small>"])


def _mark(word: str, value: float, share: float) -> str:
    """Return a word as HTML: `share`, -1 to 1, as colour, and from a third on as bold or underlined, too."""
    tag = "span" if abs(share) < 1 / 3 else "b" if share > 0 else "u"
    colour = f"{BLUE if share > 0 else ORANGE}{round(160 * abs(share)):02x}"
    return f"<{tag} title='{value:+.2f}' style='background:{colour}'>{escape(word)}</{tag}>"


def explain(loaded, text: str, label: str | None = None) -> Explanation:
    """Return what each word adds to the score of a label (None: the most probable one), or to the number.

    The score is the log-odds of the label. `occlusion` is by how much it falls without the word. `gradient`
    are integrated gradients from padding tokens to the text (Sundararajan, Taly and Yan 2017), and need
    captum. `loaded` is what `load_classifier` returns; words are what stands between blanks.

    Raises:
        ModelError: the model reads pairs, has no such label or no fast tokenizer; the text is blank.
    """
    names, classes = loaded[3], TASKS[loaded[2]].classes
    if label is not None and label not in names:
        raise ModelError(f"The model has no label {label!r}, but {in_words(names)}.")
    words, cut = _read(loaded, text)
    scores = _scores(loaded, ["".join(words)])[0]
    target = int(scores.argmax()) if label is None else names.index(label)
    for steps in (32, 64, 128, 256):
        by_gradient, gap = gradients(loaded, words, target, steps)
        if abs(gap) <= 0.02 * max(1, abs(by_gradient.sum())):
            break
    by_word = {"word": map(str.strip, words), "occlusion": occlusion(loaded, [words], [target])[0]}
    number = special.expit(scores[target]) if classes else scores[target]
    score, answer = f"{'log-odds of ' * classes}{names[target]}", f"{names[target]} ({number:.3g})"
    return Explanation(pd.DataFrame(by_word | {"gradient": by_gradient}), score, answer, gap, steps, cut)


def occlusion(loaded, texts: Sequence[list[str]], targets: Sequence[int]) -> list[np.ndarray]:
    """Return by how much the score of each text's target falls without each of its words, shape (words,)."""
    # Left out, not masked: fine-tuning has shown the model no mask token, and GPT-2 has none. Any reader can
    # type the shorter text. It may read oddly, though: `faithfulness` says whether that does harm.
    sizes, shorter = [*map(len, texts)], [_without(text, [k]) for text in texts for k in range(len(text))]
    owner = np.repeat(np.arange(len(texts)), sizes)
    before, target = _scores(loaded, map("".join, texts))[owner], np.asarray(targets)[owner]
    falls = (before - _scores(loaded, shorter))[np.arange(len(owner)), target]
    return np.split(falls, np.cumsum(sizes)[:-1])


def gradients(loaded, words: list[str], target: int, steps: int) -> tuple[np.ndarray, float]:
    """Return the integrated gradients of a text's words, shape (words,), and what their sum misses."""
    import torch
    from captum.attr import IntegratedGradients

    classifier, tokenizer, task, _ = loaded
    told = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_tensors": "pt"}
    encoded = tokenizer("".join(words), truncation=True, max_length=length_limit(loaded), **told)
    encoded = encoded.to(classifier.device)
    ids, kept, embed = encoded["input_ids"], encoded["special_tokens_mask"], classifier.get_input_embeddings()

    def score(embedded):  # of embeddings: with padding ids, RoBERTa and GPT-2 would see a text end early
        logits = classifier(inputs_embeds=embedded).logits
        others = [k for k in range(logits.shape[1]) if k != target and task == "single_label"]
        return logits[:, target] - (logits[:, others].logsumexp(1) if others else 0)

    with torch.no_grad():
        ends = embed(ids), embed(torch.where(kept.bool(), ids, tokenizer.pad_token_id))
    how = {"n_steps": steps, "internal_batch_size": max(1, TOKENS // ids.shape[1])}
    by_unit, gap = IntegratedGradients(score).attribute(*ends, return_convergence_delta=True, **how)
    last = encoded["offset_mapping"][0, :, 1].cpu() - 1  # a token of GPT-2 may begin with a blank
    owner = np.searchsorted(np.cumsum([*map(len, words)]), last, "right")
    return np.bincount(owner, by_unit.sum(2)[0].cpu(), len(words)), float(gap)


def _read(loaded, text: str) -> tuple[list[str], bool]:
    """Return the words that the model reads at a time, with the blanks after them, and whether more follow."""
    classifier, tokenizer, *_ = loaded
    if getattr(classifier.config, "text_pair_column", None):
        raise ModelError("This model reads pairs of texts. Only those of single texts can be explained.")
    if not tokenizer.is_fast:
        raise ModelError(f"{type(tokenizer).__name__} does not say of which word a token is.")
    if not (text := text.strip()):
        raise ModelError("The text is blank. Give one that has a word.")
    how = {"truncation": True, "max_length": length_limit(loaded), "return_offsets_mapping": True}
    end = max(last for _, last in tokenizer(text, **how)["offset_mapping"])
    return re.findall(r"\S+\s*", text[:end]), bool(text[end:].strip())


def _without(words: list[str], gone: Sequence[int]) -> str:
    """Return the text of the other words; a dot where there are none, for some models need a token."""
    return "".join(word for k, word in enumerate(words) if k not in gone).strip() or "."


def _scores(loaded, texts: Sequence[str]) -> np.ndarray:
    """Return the log-odds of each label, shape (texts, labels), or the number of each text, (texts, 1)."""
    answers = label_texts(loaded, texts)
    if not TASKS[loaded[2]].classes:
        return answers[["predicted"]].to_numpy(float)
    shares = answers[[f"probability_{name}" for name in loaded[3]]].to_numpy()
    return special.logit(shares.clip(1e-15, 1 - 1e-15))


def figure(why: Explanation) -> Figure:
    """Draw what the strongest words add, in the order of the text: the static twin of the colours."""
    strength = why.words[[*METHODS]].abs().rank().max(axis=1)
    words = why.words.loc[strength.nlargest(MOST).sort_index().index]
    drawing, axes = plt.subplots(figsize=(7, 1.4 + 0.3 * len(words)), layout="constrained")
    places = np.arange(len(words))
    for shift, (method, colour) in zip((0, 0.4), METHODS.items(), strict=True):
        axes.barh(places + shift, words[method], 0.4, color=colour, label=method)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(places + 0.2, map(plain_axes, words["word"]))
    axes.invert_yaxis()
    axes.set(title=f"Why {plain_axes(why.answer, 40)}?", ylabel="word")
    axes.set(xlabel=f"what the word adds to the {plain_axes(why.score, 60)}")
    axes.legend(loc="best", fontsize="small")
    return finish(drawing)


def faithfulness(loaded, texts: Sequence[str], explainer=None, share=0.2, steps=8, seed=0) -> pd.DataFrame:
    """Return, a line a method, whether leaving out the words that it names changes answers more than chance.

    `named` is by how much the probability of the predicted label falls on average without the `share` of the
    words that add most to it (comprehensiveness; DeYoung et al. 2020, ERASER), `random` without as many drawn
    ones. `gain` is the difference, `low` to `high` its 95% interval over texts (paired bootstrap). Of a
    regression it is the number that falls. Texts of fewer than 1 / `share` words are left out.

    explainer: a loaded model that names the words instead; one with random weights should gain nothing
        (Adebayo et al. 2018, Sanity Checks for Saliency Maps).
    """
    rng, explainer, to_number = np.random.default_rng(seed), explainer or loaded, special.expit
    read = [words for text in texts if len(words := _read(loaded, text)[0]) * share >= 1]
    if not read:
        raise ModelError(f"No text has {math.ceil(1 / share)} words or more.")
    if not TASKS[loaded[2]].classes:
        to_number = np.asarray
    before = _scores(loaded, map("".join, read))
    targets = before.argmax(axis=1)
    each = zip(read, targets.tolist(), strict=True)
    named = {"occlusion": occlusion(explainer, read, targets)}
    named["gradient"] = [gradients(explainer, *pair, steps)[0] for pair in each]
    named["random"] = [rng.random(len(words)) for words in read]
    falls = {}
    for method, values in named.items():
        gone = [np.argsort(-adds)[: math.ceil(share * len(adds))] for adds in values]
        after = _scores(loaded, map(_without, read, gone))
        falls[method] = (to_number(before) - to_number(after))[np.arange(len(read)), targets]
    table = pd.DataFrame(index=[*METHODS], columns=["named", "random", "gain", "low", "high"], dtype=float)
    for method in METHODS:
        gain = falls[method] - falls["random"]
        ends = stats.bootstrap((gain,), np.mean, method="percentile", rng=seed).confidence_interval
        table.loc[method] = [falls[method].mean(), falls["random"].mean(), gain.mean(), *ends]
    return table.assign(texts=len(read))
