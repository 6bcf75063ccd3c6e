"""Figures and controls of 01_loading."""

from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from utils.plots import COLOURS, GREEN, ORANGE, SKY, VERMILION, finish, plain_axes


def stacked_bars(parts: Mapping[str, Mapping[str, float]], title: str, xlabel: str, ylabel: str) -> Figure:
    """Draw one horizontal bar a row, made of its parts. `parts` maps row -> part -> length in the unit that `xlabel` names."""
    names = list(dict.fromkeys(name for row in parts.values() for name in row))
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.36 * len(parts)), layout="constrained")
    start = np.zeros(len(parts))
    for k, name in enumerate(names):
        width = np.array([row.get(name, 0) for row in parts.values()], dtype=float)
        axes.barh(
            range(len(parts)), width, left=start, color=COLOURS[k % len(COLOURS)], label=plain_axes(name)
        )
        start += width
    axes.set_yticks(range(len(parts)), [plain_axes(row, 40) for row in parts])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, xlim=(0, 1.04 * start.max()))
    axes.legend(
        loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small"
    )  # outside: a bar may reach anywhere
    return finish(figure)


def untrained_accuracies(accuracies: Sequence[float], majority: float) -> Figure:
    """Draw the accuracies of many untrained heads (0 to 1) as a histogram, beside a coin's and the share of the commonest label."""
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


TEXT_LIMIT = 1000  # characters; what is longer is cut, so that typing stays fast
TOKEN_LIMIT = 512
CHIP = "display:inline-block;margin:2px;padding:1px 6px;border-radius:4px;text-align:center;color:#000;background:{colour}"
KINDS = {"special": ORANGE, "word": SKY, "piece of a word": GREEN, "unknown": VERMILION}


def token_kinds(tokenizer, text: str) -> list[tuple[str, int, str]]:
    """Return what a tokenizer makes of a text: one (piece, id, kind) a token, special tokens included.

    Args:
        tokenizer: of any checkpoint. "piece of a word" is told by the ## of WordPiece; other vocabularies mark the starts of words instead, and
            there every token that is neither special nor unknown counts as "word".
        text: cut after 1,000 characters and 512 tokens.

    Returns:
        kind is "special", "word", "piece of a word" or "unknown".
    """
    text = (
        text[:TEXT_LIMIT].encode("utf-8", "replace").decode()
    )  # half of an emoji is no text, and the tokenizer refuses it
    ids = tokenizer(text, truncation=True, max_length=TOKEN_LIMIT)["input_ids"]
    special = set(tokenizer.all_special_ids)  # a property that is worked out at every look
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
    """Return the tokens of a text as HTML: a summary, a legend, and a coloured chip with piece and id for each token. Everything is escaped."""
    rows = token_kinds(tokenizer, text)
    unknown = sum(kind == "unknown" for _, _, kind in rows)
    words = len(text[:TEXT_LIMIT].split())
    summary = f"{words} words, {len(rows)} tokens with the special ones, {unknown} unknown"
    if len(text) > TEXT_LIMIT:
        summary += f"; only the first {TEXT_LIMIT:,} characters are shown"
    if len(rows) == TOKEN_LIMIT:
        summary += f"; cut at {TOKEN_LIMIT} tokens"
    legend = " ".join(
        f'<span style="{CHIP.format(colour=colour)}">{kind}</span>' for kind, colour in KINDS.items()
    )
    chips = "".join(
        f'<span style="{CHIP.format(colour=KINDS[kind])}">{escape(piece)}<br><small>{i}</small></span>'
        for piece, i, kind in rows
    )
    return f"<p>{summary}</p><p><small>{legend}</small></p><div>{chips}</div>"


def token_explorer(tokenizer, text: str = "Type something!") -> ipywidgets.VBox:
    """Return a text field and, below it, what the tokenizer makes of the text: pieces, ids and unknowns, at every key stroke.

    Args:
        tokenizer: of any checkpoint.
        text: what stands in the field at first.

    Returns:
        A box whose children are the field (`Text`, its `value` is the text) and the result (`HTML`, its `value` is escaped HTML).
    """
    field = ipywidgets.Text(value=text, description="text", layout=ipywidgets.Layout(width="95%"))
    shown = ipywidgets.HTML(value=tokens_html(tokenizer, text))

    def update(change):
        shown.value = tokens_html(tokenizer, change["new"])

    field.observe(update, names="value")
    return ipywidgets.VBox([field, shown])


def activation_bytes(model, inputs) -> int:
    """Return how many bytes one forward pass keeps for the backward pass, weights not counted.

    Args:
        model: any torch module; in training mode it keeps more than in evaluation mode (dropout). On the "meta" device nothing is computed,
            and the sizes are the same.
        inputs: the keyword arguments of its forward method.
    """
    import torch

    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(**inputs)  # noqa: F841 (a graph that nobody holds frees what it keeps)
    # Several kept tensors may be views of one storage. It is told by its handle: on the meta device every address is 0.
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for handle, size in sizes.items() if handle not in weights)
