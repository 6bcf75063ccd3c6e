"""Texts as a model takes them, and its answers as texts have them. A text may be cut, keep its beginning and
its end, or become several rows: overlapping chunks whose answers are averaged. It may be a pair, such as a
question and an answer: then it is a tuple of two.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from utils.findings import ModelError

CHUNK_OF = "overflow_to_sample_mapping"  # the tokenizer's name for: of which text a chunk is
MOST_CHUNKS = 8  # of a text in training, evenly spread: a book must not weigh as much as all the letters
WINDOW = 20_000  # texts tokenised and sorted at a time: enough to pad little, few enough for any memory
CHARACTERS = 10_000_000  # at a time, where texts are long: some three million tokens


def texts_of(rows: pd.DataFrame) -> pd.Series:
    """Return the texts of rows of `read_table`: each a str, or with a `text_pair` a tuple of two."""
    if "text_pair" not in rows:
        return rows["text"]
    return pd.Series([*zip(rows["text"], rows["text_pair"], strict=True)], rows.index, object)


def joined(texts: Sequence) -> list[str]:
    """Return texts, with a blank between the two of a pair: what a method that counts words sees."""
    return [text if isinstance(text, str) else " ".join(text) for text in texts]


def as_columns(texts: Sequence) -> list[list[str]]:
    """Return what the tokenizer takes: a list of texts, or of pairs two lists."""
    if not len(texts) or isinstance(texts[0], str):
        return [list(texts)]
    return [*map(list, zip(*texts, strict=True))]


def check_pairs(tokenizer, long_texts: str = "head") -> None:
    """Refuse pairs where the model could not tell where the first text ends.

    Raises:
        ModelError: the tokenizer puts nothing between the two, or long texts are to be kept.
    """
    one, two = map(tokenizer.num_special_tokens_to_add, (False, True))
    if two <= one:
        fault = f"{type(tokenizer).__name__} puts nothing between the two texts of a pair"
        fault += ", so the model cannot tell where one ends. Take a model with a separator, such as BERT"
        raise ModelError(f"{fault}, RoBERTa or DeBERTa; or join the two texts in one column, in your words.")
    if long_texts != "head":
        fault = f"long_texts={long_texts!r} is for single texts"
        raise ModelError(f"{fault}. Use 'head': it cuts the longer one.")


def encode(
    texts: Sequence, tokenizer, max_length: int, long_texts: str = "head", most: int | None = None
) -> tuple[dict[str, list[list[int]]], np.ndarray]:
    """Return what the tokenizer makes of texts, rows of at most `max_length` tokens, and whose each row is.

    Args:
        texts: each a str, or each a pair of str; of a pair, the longer text is cut.
        long_texts: "head" cuts; "head_tail" keeps both ends; "chunks" makes several rows of a long text, each
            of which repeats the last quarter of the row before it.
        most: of a text with more chunks, keep so many, evenly spread, the first among them.

    Returns:
        input_ids, attention_mask, ...; and for each row the place of its text in `texts`, shape (rows,).

    Raises:
        ModelError: the tokenizer makes no chunks or loses some, or `check_pairs` refuses pairs.
    """
    import tokenizers

    owner, how = np.arange(len(texts)), {"truncation": True, "max_length": max_length}
    columns = as_columns(texts)
    if len(columns) == 2:
        check_pairs(tokenizer, long_texts)
    if long_texts == "head_tail":
        return head_and_tail(texts, tokenizer, max_length), owner
    if long_texts != "chunks" or not len(texts):
        return dict(tokenizer(*columns, **how)), owner
    if not tokenizer.is_fast:
        kind = type(tokenizer).__name__
        raise ModelError(f"{kind} makes no chunks: it is written in Python. Use long_texts='head_tail'.")
    if tokenizers.__version__ in ("0.23.1", "0.23.2"):  # all but the first one or two: their issue 2091
        raise ModelError("This version of tokenizers loses chunks: pip install 'tokenizers>=0.23.3'.")
    rows = dict(tokenizer(texts, **how, stride=max_length // 4, return_overflowing_tokens=True))
    owner = np.array(rows.pop(CHUNK_OF))
    counts = np.bincount(owner)[owner]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = np.flatnonzero(rank * most // counts != (rank - 1) * most // counts) if most else range(len(owner))
    return {name: [values[k] for k in kept] for name, values in rows.items()}, owner[kept]


def tokenise(dataset, tokenizer, max_length: int, long_texts: str):
    """Tokenise the column `text` of a DatasetDict, with `text_pair` if there is one, as `encode` does.

    With "chunks" a row is a chunk with the label of its text; the column `overflow_to_sample_mapping` has the
    number of the text in its split. Of a text in "train" there are 8 chunks at most.
    """

    def rows_of(batch, places, most):
        texts = (
            [*zip(batch["text"], batch["text_pair"], strict=True)] if "text_pair" in batch else batch["text"]
        )
        rows, owner = encode(texts, tokenizer, max_length, long_texts, most)
        if long_texts == "chunks":
            rows |= {"label": [batch["label"][k] for k in owner], CHUNK_OF: [places[k] for k in owner]}
        return rows

    made, how = type(dataset)(), {"batched": True, "with_indices": True}
    for name, part in dataset.items():
        how["fn_kwargs"] = {"most": MOST_CHUNKS if name == "train" else None}
        how["remove_columns"] = ["text"] if long_texts == "chunks" else None  # what is repeated takes room
        made[name] = part.map(rows_of, **how)
    return made


def head_and_tail(texts: Sequence[str], tokenizer, max_length: int) -> dict[str, list[list[int]]]:
    """Tokenise; of a text longer than `max_length` tokens keep the beginning and the end, half each.

    After Sun et al. (2019), How to Fine-Tune BERT for Text Classification?, where it did better than the
    beginning alone. `pipeline` cannot do it: use `utils.predict`. Returns what the tokenizer does (input_ids,
    attention_mask, ...): for each text a list of at most `max_length` numbers, special tokens included.
    """
    encoded = tokenizer(texts, truncation=False, verbose=False)
    head = max_length // 2

    def cut(values: list[int]) -> list[int]:
        return values if len(values) <= max_length else values[:head] + values[head - max_length :]

    return {name: [cut(values) for values in rows] for name, rows in encoded.items()}


def pooled(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the mean of the rows of each text, in the order of the texts; `owner` is as of `encode`.

    Of logits, before softmax or sigmoid. The mean of them is linear: a temperature may be folded into them.
    """
    order = np.argsort(owner, kind="stable")
    starts = np.unique(owner[order], return_index=True)[1]
    counts = np.diff([*starts, len(owner)]).astype(values.dtype)
    return np.add.reduceat(values[order], starts) / counts.reshape(-1, *[1] * (values.ndim - 1))


def windows(texts: Sequence[str]) -> Iterator[slice]:
    """Yield parts of a list of texts small enough for any memory: 20,000 texts, or 10 MB and a text more."""
    if len(texts):
        number = np.cumsum([*map(len, joined(texts))]) // CHARACTERS + np.arange(len(texts)) // WINDOW
        starts = np.unique(number, return_index=True)[1].tolist()
        yield from map(slice, starts, [*starts[1:], len(texts)])


def length_sorted_batches(
    model, tokenizer, texts: Sequence[str], batch_size: int, max_length: int
) -> Iterator[tuple]:
    """Yield rows of similar length, the longest first: whose they are, padded tensors, lengths in tokens.

    `config.long_texts` says how texts become rows; whose they are is as of `encode`.
    """
    encoded, owner = encode(texts, tokenizer, max_length, getattr(model.config, "long_texts", "head"))
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    order = np.argsort(-lengths, kind="stable")
    for places in np.split(order, range(batch_size, len(order), batch_size)):
        rows = {name: [values[k] for k in places] for name, values in encoded.items()}
        yield owner[places], tokenizer.pad(rows, return_tensors="pt").to(model.device), lengths[places]
