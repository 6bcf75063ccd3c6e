"""Why this answer: what each word of a text adds to it, by two methods, and when to believe them."""

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

WORD = re.compile(r"\S+\s*")  # with the blanks after it
METHODS = ["occlusion", "gradient"]
TOKENS = 4_096  # in a batch of integrated gradients


class Explanation(NamedTuple):
    """What `explain` returns; in a notebook it shows itself as coloured text."""

    words: pd.DataFrame  # word, and what it adds to the score: occlusion, gradient
    score: str  # "log-odds of positive (nats)"; of a regression, its name
    answer: str  # "positive (0.98)"; of a text that is longer than the model reads, with what it reads
    gap: float  # what the gradients' sum misses of the score's distance from that of padding tokens

    def _repr_html_(self) -> str:
        lines = [f"<b>{escape(self.answer)}</b>"]
        for method, values in self.words[METHODS].items():
            marks = map(_mark, self.words["word"], values, values / (values.abs().max() or 1))
            lines.append(f"<i>by {method}:</i> {' '.join(marks)}")
        legend = f"{_mark('adds much', 1, 1)}, {_mark('takes much', -1, -1)} from the {escape(self.score)}"
        return "<br>".join([*lines, f"<small>{legend}; the gradients miss {self.gap:.1g} of it</small>"])


def _mark(word: str, value: float, share: float) -> str:
    """Return a word as HTML: `share`, -1 to 1, as colour, and from a third on as bold or underlined, too."""
    tag = "span" if abs(share) < 1 / 3 else "b" if share > 0 else "u"
    colour = f"{BLUE if share > 0 else ORANGE}{round(160 * abs(share)):02x}"
    return f"<{tag} title='{value:+.2f}' style='background:{colour}'>{escape(word)}</{tag}>"


def explain(loaded, text: str, label: str | None = None, steps: int = 64) -> Explanation:
    """Return what each word adds to the score of a label (None: the most probable one), or to the number.

    The score is the log-odds of the label. `occlusion` is by how much it falls without the word. `gradient`
    are integrated gradients from padding tokens to the text (Sundararajan, Taly and Yan 2017), in so many
    `steps`. Words are what stands between blanks. `loaded` is what `load_classifier` returns.

    Raises:
        ModelError: the model reads pairs, or has no such label; the text is blank.
    """
    names, classes = loaded[3], TASKS[loaded[2]].classes
    if getattr(loaded[0].config, "text_pair_column", None) or not text.strip():
        raise ModelError("Only answers to single texts that are not blank can be explained, none to pairs.")
    if label is not None and label not in names:
        raise ModelError(f"The model has no label {label!r}, but {in_words(names)}.")
    words = WORD.findall(text.strip())[: length_limit(loaded)]
    # Left out, not masked: fine-tuning has shown the model no mask token, and GPT-2 has none. Any reader can
    # type the shorter text. It may read oddly, though: `faithfulness` says whether that does harm.
    numbers = _numbers(loaded, ["".join(words), *(_without(words, [k]) for k in range(len(words)))])
    scores = special.logit(numbers.clip(1e-15, 1 - 1e-15)) if classes else numbers
    target = int(scores[0].argmax()) if label is None else names.index(label)
    adds, gap = _gradients(loaded, words, target, steps)
    table = {"word": map(str.strip, words), "occlusion": scores[0, target] - scores[1:, target]}
    table = pd.DataFrame(table).iloc[: len(adds)].assign(gradient=adds)
    answer = f"{names[target]} ({numbers[0, target]:.3g})"
    answer += f", the first {len(adds)} words" * (len(adds) < len(text.split()))
    score = f"log-odds of {names[target]} (nats)" if classes else names[target]
    return Explanation(table, score, answer, gap)


def _gradients(loaded, words: list[str], target: int, steps: int) -> tuple[np.ndarray, float]:
    """Return integrated gradients of the words that the model reads at a time, and what their sum misses."""
    import torch
    from captum.attr import IntegratedGradients

    classifier, tokenizer, task, _ = loaded
    told = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_tensors": "pt"}
    encoded = tokenizer("".join(words), truncation=True, max_length=length_limit(loaded), **told)
    ids, special_ones = (encoded[name].to(classifier.device) for name in ("input_ids", "special_tokens_mask"))
    embed = classifier.get_input_embeddings()

    def score(embedded):  # of embeddings: with padding ids, RoBERTa and GPT-2 would see a text end early
        logits = classifier(inputs_embeds=embedded).logits
        others = [k for k in range(logits.shape[1]) if k != target and task == "single_label"]
        return logits[:, target] - (logits[:, others].logsumexp(1) if others else 0)

    with torch.no_grad():
        ends = embed(ids), embed(torch.where(special_ones.bool(), ids, tokenizer.pad_token_id))
    how = {"n_steps": steps, "internal_batch_size": max(1, TOKENS // ids.shape[1])}
    by_unit, gap = IntegratedGradients(score).attribute(*ends, return_convergence_delta=True, **how)
    last = encoded["offset_mapping"][0, :, 1].numpy() - 1  # a token of GPT-2 may begin with a blank
    owner = np.searchsorted(np.cumsum([*map(len, words)]), last, "right")
    return np.bincount(owner, by_unit.sum(2)[0].cpu().numpy()), abs(float(gap))


def _without(words: list[str], gone: Sequence[int]) -> str:
    """Return the text of the other words; a dot where there are none, for GPT-2 needs a token."""
    return "".join(word for k, word in enumerate(words) if k not in gone).strip() or "."


def _numbers(loaded, texts: Sequence[str]) -> np.ndarray:
    """Return the probabilities, shape (texts, labels), or the number of each text, shape (texts, 1)."""
    names = [f"probability_{name}" for name in loaded[3]] if TASKS[loaded[2]].classes else ["predicted"]
    return label_texts(loaded, texts)[names].to_numpy(float)


def figure(why: Explanation, most: int = 20) -> Figure:
    """Draw what the `most` strongest words add, in the order of the text: the static twin of the colours."""
    words = why.words.loc[why.words[METHODS].abs().sum(axis=1).nlargest(most).sort_index().index]
    drawing, axes = plt.subplots(1, 2, sharey=True, figsize=(8, 1.4 + 0.3 * len(words)), layout="constrained")
    for panel, method in zip(axes, METHODS, strict=True):
        colours = np.where(words[method] > 0, BLUE, ORANGE)
        panel.barh(range(len(words)), words[method], color=colours)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(f"by {method}")
    axes[0].set(yticks=range(len(words)), yticklabels=[*map(plain_axes, words["word"])], ylabel="word")
    axes[0].invert_yaxis()
    drawing.suptitle(f"Why {plain_axes(why.answer, 60)}?")
    drawing.supxlabel(f"what the word adds to the {plain_axes(why.score, 60)}")
    return finish(drawing)


def faithfulness(loaded, texts: Sequence[str], explainer=None, share=0.2, steps=8, seed=0) -> pd.DataFrame:
    """Return, a line a method, whether leaving out the words that it names changes answers more than chance.

    `named` is by how much the probability of the most probable label (or a regression's number) falls, on
    average, without the `share` of the words that add most to it (comprehensiveness; DeYoung et al. 2020,
    ERASER); `random` without as many drawn ones. `gain` is the difference, `low` to `high` its 95% interval
    over texts (paired bootstrap). Texts too short for the `share` are left out; ModelError: under two stay.

    explainer: a loaded model that names the words instead; one with random weights should gain nothing
        (Adebayo et al. 2018, Sanity Checks for Saliency Maps).
    """
    rng, falls = np.random.default_rng(seed), []
    for text in texts:
        before = _numbers(loaded, [text])[0]
        adds = explain(explainer or loaded, text, loaded[3][before.argmax()], steps).words[METHODS]
        adds["random"] = rng.random(len(adds))
        order = np.argsort(-adds.to_numpy(), axis=0)[: int(share * len(adds))]
        if len(order):
            shorter = [_without(WORD.findall(text.strip()), gone) for gone in order.T]
            falls.append((before - _numbers(loaded, shorter))[:, before.argmax()])
    if len(falls) < 2:
        raise ModelError(f"{len(falls)} of the texts are long enough for share={share}. Give more.")
    *named, drawn = np.transpose(falls)
    gain = np.array(named) - drawn
    low, high = stats.bootstrap((gain,), np.mean, axis=1, method="percentile", rng=seed).confidence_interval
    table = {"named": np.mean(named, axis=1), "random": drawn.mean(), "gain": gain.mean(axis=1)}
    return pd.DataFrame(table | {"low": low, "high": high, "texts": len(falls)}, index=METHODS)
