"""Figures and the control of 01_loading."""

from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from utils.lessons.controls import control
from utils.plots import COLOURS, GREEN, ORANGE, SKY, VERMILION, finish, plain_axes


def stacked_bars(parts: Mapping[str, Mapping[str, float]], title: str, xlabel: str, ylabel: str) -> Figure:
    """Draw one horizontal bar a row. `parts` maps row -> part -> length in the unit that `xlabel` names."""
    names = list(dict.fromkeys(name for row in parts.values() for name in row))
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.36 * len(parts)), layout="constrained")
    start = np.zeros(len(parts))
    for k, name in enumerate(names):
        width = np.array([row.get(name, 0) for row in parts.values()], dtype=float)
        colour = COLOURS[k % len(COLOURS)]
        axes.barh(range(len(parts)), width, left=start, color=colour, label=plain_axes(name))
        start += width
    axes.set_yticks(range(len(parts)), [plain_axes(row, 40) for row in parts])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, xlim=(0, 1.04 * start.max()))
    # outside, as a bar may reach anywhere
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return finish(figure)


def untrained_accuracies(accuracies: Sequence[float], majority: float) -> Figure:
    """Draw a histogram of untrained heads' accuracies (0 to 1), and the share of the commonest label."""
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.hist(accuracies, bins=np.arange(0, 1.02, 0.02), color=SKY)
    axes.axvline(0.5, color=ORANGE, linestyle=":", linewidth=2, label="a coin")
    axes.axvline(majority, color=VERMILION, linestyle="--", linewidth=2, label="always the commonest label")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(
        title=f"{len(accuracies)} untrained heads", xlabel="accuracy (share of the tweets)", ylabel="heads"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return finish(figure)


TEXT_LIMIT = 1000  # characters; a longer text is cut, so that typing stays fast
TOKEN_LIMIT = 512
CHIP = (
    "<span style='display:inline-block;margin:2px;padding:1px 6px;border-radius:4px;text-align:center;"
    "color:#000;background:{}'>{}</span>"
)
KINDS = {"special": ORANGE, "word": SKY, "piece of a word": GREEN, "unknown": VERMILION}


def token_kinds(tokenizer, text: str) -> list[tuple[str, int, str]]:
    """Return what a tokenizer makes of a text: one (piece, id, kind) a token, special tokens included.

    Args:
        tokenizer: of any checkpoint.
        text: cut after 1,000 characters and 512 tokens.

    Returns:
        kind is "special", "unknown", "piece of a word" (which only WordPiece marks, by ##) or "word".
    """
    text = text[:TEXT_LIMIT].encode("utf-8", "replace").decode()  # the tokenizer refuses half of an emoji
    ids = tokenizer(text, truncation=True, max_length=TOKEN_LIMIT)["input_ids"]
    special = set(tokenizer.all_special_ids)  # a property that is computed at each access
    rows = []
    for piece, i in zip(tokenizer.convert_ids_to_tokens(ids), ids, strict=True):
        if i == tokenizer.unk_token_id:
            kind = "unknown"
        elif i in special:
            kind = "special"
        else:
            kind = "piece of a word" if piece.startswith("##") else "word"
        rows.append((piece, i, kind))
    return rows


def tokens_html(tokenizer, text: str) -> str:
    """Return the tokens of a text as escaped HTML: a summary, a legend, a coloured chip for each token."""
    rows = token_kinds(tokenizer, text)
    unknown = sum(kind == "unknown" for _, _, kind in rows)
    words = len(text[:TEXT_LIMIT].split())
    summary = f"{words} words, {len(rows)} tokens with the special ones, {unknown} unknown"
    if len(text) > TEXT_LIMIT:
        summary += f"; only the first {TEXT_LIMIT:,} characters are shown"
    if len(rows) == TOKEN_LIMIT:
        summary += f"; cut at {TOKEN_LIMIT} tokens"
    legend = " ".join(CHIP.format(colour, kind) for kind, colour in KINDS.items())
    pieces = ((KINDS[kind], f"{escape(piece)}<br><small>{i}</small>") for piece, i, kind in rows)
    chips = "".join(CHIP.format(colour, piece) for colour, piece in pieces)
    return f"<p>{summary}</p><p><small>{legend}</small></p><div>{chips}</div>"


def token_explorer(tokenizer, text: str = "Type something!") -> ipywidgets.VBox:
    """Return a control: a field (`text`), and what the tokenizer makes of its value (`tokens`, HTML)."""

    def redraw(box: ipywidgets.VBox) -> None:
        box.tokens.value = tokens_html(tokenizer, box.text.value)

    return control({"text": ipywidgets.Text(text)}, {"tokens": ipywidgets.HTML()}, redraw, width="95%")


def activation_bytes(model, inputs) -> int:
    """Return how many bytes one forward pass keeps for the backward pass, weights not counted.

    Args:
        model: any torch module; dropout keeps more in training mode. The "meta" device computes nothing and
            gives the same sizes.
        inputs: the keyword arguments of its forward method.
    """
    import torch

    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(**inputs)  # noqa: F841 (a graph that nobody holds frees what it keeps)
    # Several kept tensors may be views of one storage; its handle tells, as addresses are all 0 on meta.
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for handle, size in sizes.items() if handle not in weights)
