"""Every interactive control of the notebooks: ipywidgets, in the API common to 7.7.1 (Colab) and 8."""

from html import escape

import ipywidgets

from utils.plots import GREEN, ORANGE, SKY, VERMILION

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
    text = text[:TEXT_LIMIT].encode("utf-8", "replace").decode()  # half of an emoji is no text, and the tokenizer refuses it
    ids = tokenizer(text, truncation=True, max_length=TOKEN_LIMIT)["input_ids"]
    rows = []
    for piece, i in zip(tokenizer.convert_ids_to_tokens(ids), ids, strict=True):
        if i == tokenizer.unk_token_id:
            kind = "unknown"
        elif i in tokenizer.all_special_ids:
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
    legend = " ".join(f'<span style="{CHIP.format(colour=colour)}">{kind}</span>' for kind, colour in KINDS.items())
    chips = "".join(f'<span style="{CHIP.format(colour=KINDS[kind])}">{escape(piece)}<br><small>{i}</small></span>' for piece, i, kind in rows)
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
