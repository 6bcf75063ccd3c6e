"""One data set as Trainer will see it: its labels, texts, lengths and token ids."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import default_data_collator

from utils.labels import comparable

CHUNK = 50_000  # rows looked at together, so that a million rows need little memory
ROLES = {"train": "training", "eval": "evaluation"}
SCRIPTED_ROWS = 2_000  # that are read at a time where there is no Arrow table, and all that are read of a dataset that computes its rows on the fly, or a stream


FEW = 4_000_000  # numbers that compute_metrics is tried with at first, 16 MB: with more, a metric that sorts takes seconds


def plain(value: Any) -> Any:
    """Turn tensors and arrays into lists and numbers, which Arrow takes."""
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) else value


class Tokens(NamedTuple):
    """What all rows of a split say about their tokens, one number a row.

    lengths: tokens that are not padding. widths: with padding. content: tokens that are neither padding nor special. unknown: those among them that
    the tokenizer did not know. highest, lowest: token ids. keys: a hash of the ids without padding; equal rows have equal keys. marks: tokens that
    begin, part or end a text. ends: those that end one for the model.
    """

    lengths: np.ndarray
    widths: np.ndarray
    content: np.ndarray
    unknown: np.ndarray
    highest: np.ndarray
    lowest: np.ndarray
    keys: np.ndarray
    marks: np.ndarray
    ends: np.ndarray


class Split:
    """One data set as Trainer will read it: the columns that reach the collator, all labels, all tokens."""

    def __init__(self, name: str, dataset: Any, setup):
        self.name, self.dataset, self._setup = name, dataset, setup
        self.role = ROLES.get(name, name)
        scripted = (
            isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom"
        )  # set_transform: rows are made when asked for
        self.stream = not hasattr(dataset, "__len__")
        self.rows = None if self.stream else len(dataset)
        self.in_arrow = isinstance(dataset, datasets.Dataset) and not scripted
        self.index = np.arange(self.rows or 0)  # place among the facts below -> row of the data set
        self._stored = None  # for shuffled or selected rows: where the table has them, in its own order
        if self.in_arrow:
            if (
                indices := dataset._indices
            ) is not None:  # one by one, in the shuffled order, a million rows would take a minute
                where = indices.column(0).to_numpy()
                self.index = np.argsort(where, kind="stable")
                self._stored = where[self.index].astype(np.int64)
            self.all_columns = list(dataset.column_names)
            self.columns = [name for name in dataset.format["columns"] if name in dataset.column_names]
            return
        if self.stream:
            again = (
                dataset if isinstance(dataset, datasets.IterableDataset) else None
            )  # any other iterator might be used up by looking at it
            self._kept = (
                dict(enumerate(map(_as_mapping, itertools.islice(again, SCRIPTED_ROWS))))
                if again is not None
                else {}
            )
            self.index = np.arange(len(self._kept))
        else:
            self._kept = {}
            if scripted and self.rows > SCRIPTED_ROWS:
                self.index = np.linspace(0, self.rows - 1, SCRIPTED_ROWS).astype(int)
        parts: dict[
            str, list
        ] = {}  # columns, a chunk at a time: a million rows of tensors would fill the memory
        for start in range(0, len(self.index), SCRIPTED_ROWS):
            rows = [
                self._row(place, keep=self.stream)
                for place in range(start, min(start + SCRIPTED_ROWS, len(self.index)))
            ]
            for name in dict.fromkeys([*parts, *(name for row in rows for name in row)]):
                parts.setdefault(name, [pa.nulls(start)]).append(_as_array(rows, name))
        self._table = {name: _joined(chunks) for name, chunks in parts.items()}
        self.all_columns = self.columns = list(self._table)

    def pieces(self, *names: str) -> Iterator[pa.Table]:
        """Yield all rows of some columns, in the order of `index`, a chunk at a time."""
        if self.in_arrow:
            table = self.dataset.data.table.select(list(names))
            for start in range(0, table.num_rows, CHUNK):
                piece = table.slice(start, CHUNK)
                if self._stored is not None:
                    low, high = np.searchsorted(self._stored, [start, start + CHUNK])
                    piece = piece.take(pa.array(self._stored[low:high] - start))
                if len(piece):
                    yield piece
            return
        for name in names:
            if isinstance(self._table[name], Exception):
                raise self._table[name]
        table = pa.table({name: self._table[name] for name in names})
        for start in range(0, max(1, len(table)), CHUNK):
            yield table.slice(start, CHUNK)

    def _row(self, place: int, keep: bool = True) -> Mapping:
        """Return a row of something that is no Arrow table, by its place; reading it again may give another one, so those asked for are kept."""
        row = (
            self._kept[place]
            if place in self._kept
            else _as_mapping(_row(self.dataset, int(self.index[place])))
        )
        if keep:
            self._kept[place] = row
        return row

    def column(self, name: str) -> pa.ChunkedArray:
        pieces = [chunk for piece in self.pieces(name) for chunk in piece[name].chunks]
        return pa.chunked_array(pieces) if pieces else pa.chunked_array([pa.array([])])

    def type(self, name: str) -> pa.DataType | None:
        """Return a column's Arrow type, None where its values have no common one."""
        if self.in_arrow:
            return self.dataset.features.arrow_schema.field(name).type
        try:
            return next(self.pieces(name))[name].type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return None

    def sample(self, places: Sequence[int]) -> list[dict]:
        """Return some rows, by their place, with the columns that Trainer hands to the collator."""
        rows = [self.dataset[int(self.index[i])] if self.in_arrow else self._row(int(i)) for i in places]
        keep = self._setup.collated_columns
        return [{name: value for name, value in row.items() if keep is None or name in keep} for row in rows]

    @cached_property
    def label_names(self) -> list[str]:
        """What a column of labels may be called, first what wins where there are several: the collators do not agree on that."""
        own = self._setup.trainer.label_names
        return list(
            dict.fromkeys(
                (*own, "label", "label_ids")
                if self._setup.collator is default_data_collator
                else ("label_ids", "label", *own)
            )
        )

    @cached_property
    def label_columns(self) -> list[str]:
        return [name for name in self.label_names if name in self.columns]

    @cached_property
    def label_column(self) -> str | None:
        """The column that ends up as the labels."""
        return next(iter(self.label_columns), None)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """All labels as numbers, shape (rows,); None where they are not one number a row, or one is missing."""
        if self.label_column is None:
            return None
        kind = self.type(self.label_column)
        if kind is None or not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        ):
            return None
        values = self.column(self.label_column)
        return None if values.null_count else values.to_numpy()

    @cached_property
    def label_vectors(self) -> np.ndarray | None:
        """All multi-label vectors, shape (rows, classes); None where there are none, or their lengths differ."""
        kind = self.label_column and self.type(self.label_column)
        if not kind or not is_list(kind) or is_list(kind.value_type):
            return None
        try:
            vectors = np.array(self.column(self.label_column).to_pylist(), dtype=float)
        except (ValueError, TypeError):
            return None
        return vectors if vectors.ndim == 2 else None

    @cached_property
    def class_labels(self) -> list[str] | None:
        """The names of a ClassLabel column."""
        features = getattr(self.dataset, "features", None) or {}
        feature = features.get(self.label_column) if self.label_column else None
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    @cached_property
    def tokens(self) -> Tokens | None:
        """Look at the token ids of every row; None where there are none."""
        name = self._setup.input_name
        if (
            name not in self.columns
            or not is_list(self.type(name))
            or not pa.types.is_integer(self.type(name).value_type)
        ):
            return None
        mask = (
            "attention_mask"
            if "attention_mask" in self.columns and is_list(self.type("attention_mask"))
            else None
        )
        parts = [
            self._tokens_of(piece[name], piece[mask] if mask else None)
            for piece in self.pieces(*filter(None, (name, mask)))
        ]
        if not parts:
            return None
        return Tokens(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _tokens_of(self, ids: pa.ChunkedArray, mask: pa.ChunkedArray | None) -> tuple:
        special, unknown, pad = self._setup.special_ids
        widths = pc.list_value_length(ids).fill_null(0).to_numpy().astype(np.int64)
        values = pc.list_flatten(ids).to_numpy()
        starts = np.cumsum(widths) - widths
        real = (
            pc.list_flatten(mask).to_numpy() != 0
            if mask is not None
            else values != pad
            if pad is not None
            else np.ones(len(values), bool)
        )
        if len(real) != len(values):  # a mask of another shape; collating will complain
            real = np.ones(len(values), bool)

        def per_row(numbers: np.ndarray, add=np.add) -> np.ndarray:
            if not len(numbers):
                return np.zeros(len(widths), dtype=numbers.dtype)
            summed = add.reduceat(numbers, np.minimum(starts, len(numbers) - 1))
            return np.where(widths > 0, summed, 0)

        lengths = per_row(real.astype(np.int64))
        content = real & ~np.isin(values, special) if len(special) else real
        # multiplying and folding the bits makes equal sums of different rows as unlikely as 64 bits allow; padding counts nothing
        place = np.arange(len(values), dtype=np.uint64) - np.repeat(starts, widths).astype(np.uint64)
        mixed = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + place * np.uint64(
            0xD6E8FEB86659FD93
        )
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = np.where(real, mixed ^ (mixed >> np.uint64(32)), np.uint64(0))
        return (
            lengths,
            widths,
            per_row(content.astype(np.int64)),
            per_row((real & (values == unknown)).astype(np.int64))
            if unknown is not None
            else np.zeros(len(widths), np.int64),
            per_row(values.astype(np.int64), np.maximum),
            per_row(values.astype(np.int64), np.minimum),
            per_row(mixed),
            per_row((real & np.isin(values, self._setup.mark_ids)).astype(np.int64)),
            per_row((values == self._setup.end_id).astype(np.int64))
            if self._setup.end_id is not None
            else np.zeros(len(widths), np.int64),
        )

    @cached_property
    def text_keys(self) -> np.ndarray | None:
        """One number a row, equal for texts that `comparable` writes alike, 0 for blank ones; None where no column is known to hold texts."""
        if (name := self.text_column) is None:
            return None
        known = (comparable(text or "") for piece in self.pieces(name) for text in piece[name].to_pylist())
        return np.fromiter((hash(text) if text else 0 for text in known), np.int64, len(self.index))

    @cached_property
    def text_column(self) -> str | None:
        """The column that the tokens were made of: the one string column, or the one whose first texts give these ids."""
        strings = [
            name
            for name in self.all_columns
            if self.type(name) is not None and is_text(self.type(name)) and name != self.label_column
        ]
        tokenizer = self._setup.tokenizer
        if tokenizer is None or self.tokens is None or not self.rows:
            return (
                strings[0]
                if len(strings) == 1
                and strings[0] in ("text", "sentence", "review", "content", "tweet", "document")
                else None
            )
        first = min(self.rows, 3)
        for name in strings:
            with contextlib.suppress(Exception):  # a tokenizer of some other kind: then no column is known
                rows = [self.source(i) for i in range(first)]
                made = [tokenizer(row[name], truncation=False, verbose=False)["input_ids"] for row in rows]
                there = [
                    plain(row[self._setup.input_name])[:length]
                    for row, length in zip(rows, self.tokens.lengths, strict=False)
                ]
                if all(
                    a == b or (len(b) >= 4 and a[: len(b) - 1] == b[:-1])
                    for a, b in zip(made, there, strict=True)
                ):
                    return name
        return None

    @cached_property
    def keys(self) -> np.ndarray | None:
        """One number a row that is equal for equal texts (or, where no text is known, for equal tokens); 0 for a row without content."""
        if self.text_keys is not None:
            return self.text_keys
        return None if self.tokens is None else self.token_keys

    @cached_property
    def token_keys(self) -> np.ndarray:
        """One number a row that is equal for equal token ids; 0 for a row without a word that the tokenizer knows."""
        if self.tokens is None:
            return np.zeros(len(self.index), np.int64)
        return np.where(self.tokens.content > self.tokens.unknown, self.tokens.keys, 0).view(np.int64)

    @cached_property
    def sure_keys(self) -> np.ndarray:
        """The `token_keys` of the rows without an unknown token, which stands for any word; 0 for the others, and where no tokenizer says which it is."""
        known = self.tokens is not None and self._setup.tokenizer is not None
        return (
            np.where(self.tokens.unknown == 0, self.token_keys, 0)
            if known
            else np.zeros(len(self.index), np.int64)
        )

    def source(self, place: int) -> Mapping:
        """Return a row by its place, with all columns, as plain Python values."""
        return (
            self.dataset.with_format(None)[int(self.index[place])] if self.in_arrow else self._row(int(place))
        )

    def show(self, place: int) -> str:
        """Return the start of a row's text, or of its ids."""
        if self.text_column is not None:
            return repr(str(self.source(place)[self.text_column])[:60])
        return f"ids {plain(self.sample([place])[0].get(self._setup.input_name, []))[:8]}"


def _row(dataset: Any, place: int) -> Any:
    try:
        return dataset[place]
    except Exception as error:
        raise RuntimeError(f"reading row {place}: {error_text(error)}") from error


def _as_mapping(row: Any) -> Mapping:
    return row if isinstance(row, Mapping) else vars(row) if hasattr(row, "__dict__") else {"row": row}


def _as_array(rows: Sequence[Mapping], name: str) -> pa.Array | Exception:
    try:
        return pa.array([plain(row.get(name)) for row in rows])
    except Exception as error:  # values without a common type; whoever asks for the column will hear it
        return error


def _joined(parts: Sequence[pa.Array | Exception]) -> pa.ChunkedArray | Exception:
    """Make one column of its chunks, whose types may differ: whole numbers here, floats there."""
    try:
        return pa.concat_tables([pa.table({"all": part}) for part in parts], promote_options="permissive")[
            "all"
        ]
    except Exception as error:
        return next((part for part in parts if isinstance(part, Exception)), error)


def error_text(error: BaseException) -> str:
    """Return an exception's kind and words, in one line; some have no words that can be had."""
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    except Exception:
        return type(error).__name__


def is_list(kind: pa.DataType | None) -> bool:
    return kind is not None and (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def shared_rows(one: Split, other: Split) -> tuple[np.ndarray, np.ndarray]:
    """Mark the rows of `other` that `one` has too: by their texts, or by their tokens where one of them has no texts.

    The second mask marks the rest of those whose token ids are the same: other texts for a reader, the same input for the model.
    """

    def among(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
        return pd.Series(keys).isin(others[others != 0]).to_numpy() & (
            keys != 0
        )  # by hashes: np.isin takes seconds for a million rows

    if one.text_keys is None or other.text_keys is None:
        return among(other.token_keys, one.token_keys), np.zeros(len(other.index), bool)
    same = among(other.text_keys, one.text_keys)
    return same, among(other.sure_keys, one.sure_keys) & ~same


def container_fault(dataset: Any) -> str | None:
    """Say what is wrong with an object that was given as a data set; None where it can be one."""
    if isinstance(dataset, (pd.DataFrame, pd.Series)):
        return "Dataset.from_pandas(frame, preserve_index=False)"
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return f"data[{next(iter(dataset), 'train')!r}]"
    if isinstance(dataset, Mapping):
        return "Dataset.from_dict(...)"
    if isinstance(dataset, (str, bytes, set, np.ndarray, torch.Tensor, pa.Table)):
        return "Dataset.from_dict(...)"
    if not hasattr(dataset, "__getitem__") and not isinstance(
        dataset, (datasets.IterableDataset, torch.utils.data.IterableDataset)
    ):
        return "Dataset.from_dict(...)"
    if (
        isinstance(dataset, (list, tuple))
        and len(dataset)
        and not isinstance(dataset[0], Mapping)
        and not hasattr(dataset[0], "__dict__")
    ):
        return "Dataset.from_list(...)"
    return None
