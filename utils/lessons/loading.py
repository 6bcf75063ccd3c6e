"""Figure, control and tables of 01_loading."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.lessons.controls import control
from utils.plots import GREEN, ORANGE, SKY, VERMILION, finish, plain_axes


def score_table(labels: Sequence, answers: Mapping[str, Sequence]) -> pd.DataFrame:
    """Return a line of scores (accuracy, f1_macro) for each of several answers to the same rows.

    `labels` are the true classes, shape (rows,); `answers` maps what is scored -> predicted classes.
    """
    from utils.metrics import score  # it loads scikit-learn, which a reader of the first cells does without

    return pd.DataFrame({name: score(labels, predicted) for name, predicted in answers.items()}).T


def text_to_label(
    text: str = "I love this!",
    ids: Sequence[int] = (101, 1045, 2293, 2023, 999, 102),
    width: int = 384,
    label: str = "positive",
) -> Figure:
    """Draw a text's way through a classifier: text, ids, encoder, head, label. The new part has a colour.

    Args:
        ids: what the tokenizer makes of `text`; a long list is cut in the picture.
        width: the numbers that the encoder gives for each token (`config.hidden_size`).
        label: the answer.
    """
    some = [str(i) for i in ids[:6]] + ["…"] * (len(ids) > 6)
    boxes = (
        ("text", f"“{plain_axes(text, 40)}”", "white"),
        ("ids", f"{' '.join(some[:3])}\n{' '.join(some[3:])}", "white"),
        ("encoder", "layers that have\nread much text", SKY),
        ("head", f"one small layer:\n{width} numbers in,\none a label out", ORANGE),
        ("label", plain_axes(label), "white"),
    )
    arrows = ("tokenizer", "look up", f"{width}\nnumbers", "the\nlargest")
    figure, axes = plt.subplots(figsize=(9, 2.5), layout="constrained")
    for k, (name, inside, colour) in enumerate(boxes):
        axes.add_patch(plt.Rectangle((k, 0), 0.66, 1, facecolor=colour, edgecolor="black"))
        axes.text(k + 0.33, 0.5, inside, ha="center", va="center", fontsize=8)
        axes.text(k + 0.33, 1.1, name, ha="center", va="bottom", fontweight="bold")
    for k, word in enumerate(arrows):
        arrow = {"arrowstyle": "->", "color": "black"}
        axes.annotate("", xy=(k + 1, 0.5), xytext=(k + 0.66, 0.5), arrowprops=arrow)
        axes.text(k + 0.83, 0.56, word, ha="center", va="bottom", fontsize=8)
    for k, word in ((2, "from the checkpoint"), (3, "new: starts at random")):
        axes.text(k + 0.33, -0.1, word, ha="center", va="top", fontsize=8, style="italic")
    axes.set(title="From a text to a label", xlim=(-0.05, 4.71), ylim=(-0.35, 1.4))
    axes.axis("off")
    return finish(figure)


def tree(folder: str | Path) -> str:
    """Return the files in a folder and below, a line each: name and size in MB."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = ((path.relative_to(folder).as_posix(), path.stat().st_size / 1e6) for path in files)
    return "\n".join(f"{name:40} {size:8.3f} MB" for name, size in sizes)


def embed(checkpoint: str | Path, texts: Sequence[str]) -> np.ndarray:
    """Return a vector of length 1 for each text: the mean of the encoder's vectors of its tokens.

    They are float32, shape (texts, hidden size): the product of two is the cosine of the angle between them.
    `checkpoint` is a folder of `find_model`; its encoder is loaded without a head.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoder = AutoModel.from_pretrained(checkpoint, dtype=torch.float32)
    means = []
    for start in range(0, len(texts), 50):
        batch = list(texts[start : start + 50])
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            vectors = encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)  # padding does not count
        means.append((vectors * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.nn.functional.normalize(torch.cat(means), dim=1).numpy()


TEXT_LIMIT = 1000  # characters; a longer text is cut, so that typing stays fast
TOKEN_LIMIT = 512
CHIP = (
    "<span style='display:inline-block;margin:2px;padding:1px 6px;border-radius:4px;text-align:center;"
    "color:#000;background:{}'>{}</span>"
)
KINDS = {"special": ORANGE, "word": SKY, "piece of a word": GREEN, "unknown": VERMILION}


def token_kinds(tokenizer, text: str) -> list[tuple[str, int, str]]:
    """Return what a tokenizer makes of a text: one (piece, id, kind) a token, special tokens included.

    The text is cut after 1,000 characters and 512 tokens. A kind is "special", "unknown", "piece of a word"
    (which only WordPiece marks, by ##) or "word".
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


def token_table(tokenizer, text: str) -> pd.DataFrame:
    """Return the tokens of a text side by side: a column each, with its piece, id and kind."""
    rows = token_kinds(tokenizer, text)
    return pd.DataFrame(rows, columns=["piece", "id", "kind"]).T


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
