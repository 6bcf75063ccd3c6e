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

from utils.reading.same import comparable, letters_of

IGNORED = -100  # the label that PyTorch's cross-entropy skips
CHUNK = 50_000  # rows looked at together, so that a million rows need little memory
SCRIPTED_ROWS = 2_000  # rows read together outside an Arrow table; all that are read of a stream
ROLES = {"train": "training", "eval": "evaluation"}
USUAL_TEXT_COLUMNS = ("text", "sentence", "review", "content", "tweet", "document")


class Tokens(NamedTuple):
    """What all rows of a split say about their tokens, one number a row.

    lengths: tokens that are not padding; widths: with padding; content: neither padding nor special;
    unknown: those that the tokenizer did not know. highest, lowest: token ids. keys: a hash of the ids
    without padding. marks: tokens that begin, part or end a text; ends: those that end one for the model.
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
        self.stream = not hasattr(dataset, "__len__")
        self.rows = None if self.stream else len(dataset)
        self.index = np.arange(self.rows or 0)  # place among the facts below -> row of the data set
        self._stored = None  # place -> row of the table, ascending, where the data set selects or shuffles
        is_table = isinstance(dataset, datasets.Dataset)
        computed = is_table and dataset.format["type"] == "custom"  # set_transform makes rows when asked for
        self.in_arrow = is_table and not computed
        if not self.in_arrow:
            self._read_rows(computed)
            return
        if dataset._indices is not None:  # in shuffled order, a million rows would take a minute
            stored = dataset._indices.column(0).to_numpy()
            self.index = np.argsort(stored, kind="stable")
            self._stored = stored[self.index].astype(np.int64)
        self.all_columns = list(dataset.column_names)
        self.columns = [name for name in dataset.format["columns"] if name in dataset.column_names]

    def _read_rows(self, computed: bool) -> None:
        """Make columns of rows outside an Arrow table: all, the first of a stream, some of computed ones."""
        self._kept: dict[int, Mapping] = {}
        if self.stream:
            # any other iterator might be used up by looking at it
            stream = self.dataset if isinstance(self.dataset, datasets.IterableDataset) else ()
            self._kept = dict(enumerate(map(as_mapping, itertools.islice(stream, SCRIPTED_ROWS))))
            self.index = np.arange(len(self._kept))
        elif computed and self.rows > SCRIPTED_ROWS:
            self.index = np.linspace(0, self.rows - 1, SCRIPTED_ROWS).astype(int)
        parts: dict[str, list] = {}
        # not all at once: a million rows of tensors would fill the memory
        for start in range(0, len(self.index), SCRIPTED_ROWS):
            places = range(start, min(start + SCRIPTED_ROWS, len(self.index)))
            rows = [self._row(place) for place in places]
            for name in dict.fromkeys([*parts, *itertools.chain(*rows)]):
                parts.setdefault(name, [pa.nulls(start)]).append(as_array(rows, name))
            if not self.stream:
                self._kept.clear()
        self._table = {name: joined(chunks) for name, chunks in parts.items()}
        self.all_columns = self.columns = list(self._table)

    def _row(self, place: int) -> Mapping:
        """Return a row of no Arrow table; it is kept, for reading it again may give another one."""
        if place not in self._kept:
            row = int(self.index[place])
            try:
                self._kept[place] = as_mapping(self.dataset[row])
            except Exception as error:
                raise RuntimeError(f"reading row {row}: {error_text(error)}") from error
        return self._kept[place]

    def pieces(self, *names: str) -> Iterator[pa.Table]:
        """Yield all rows of some columns, in the order of `index`, a chunk at a time; at least one chunk."""
        if self.in_arrow:
            table = self.dataset.data.table.select(list(names))
        else:
            columns = {name: self._table[name] for name in names}
            for error in columns.values():
                if isinstance(error, Exception):
                    raise error
            table = pa.table(columns)
        for start in range(0, max(1, len(table)), CHUNK):
            piece = table.slice(start, CHUNK)
            if self._stored is not None:
                low, high = np.searchsorted(self._stored, [start, start + CHUNK])
                piece = piece.take(pa.array(self._stored[low:high] - start))
            yield piece

    def column(self, name: str) -> pa.ChunkedArray:
        return pa.concat_tables(self.pieces(name))[name]

    def type(self, name: str) -> pa.DataType | None:
        """Return a column's Arrow type, None where its values have no common one."""
        if self.in_arrow:
            return self.dataset.data.schema.field(name).type
        try:
            return next(self.pieces(name))[name].type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return None

    def sample(self, places: Sequence[int]) -> list[dict]:
        """Return some rows, by their place, with the columns that Trainer hands to the collator."""
        rows = [self.dataset[int(self.index[i])] if self.in_arrow else self._row(int(i)) for i in places]
        keep = self._setup.collated_columns
        return [{name: value for name, value in row.items() if keep is None or name in keep} for row in rows]

    def source(self, place: int) -> Mapping:
        """Return a row by its place, with all columns, as plain Python values."""
        return self._plain[int(self.index[place])] if self.in_arrow else self._row(int(place))

    @cached_property
    def _plain(self) -> datasets.Dataset:
        return self.dataset.with_format(None)

    def texts(self, place: int) -> list[str]:
        """Return what the text columns of a row hold."""
        row = self.source(place)
        return [str(row[name]) for name in self.text_columns]

    def show(self, place: int) -> str:
        """Return the start of a row's text, or of its ids."""
        if self.text_column is not None:
            return repr(str(self.source(place)[self.text_column])[:60])
        return f"ids {plain(self.sample([place])[0].get(self._setup.input_name, []))[:8]}"

    @cached_property
    def label_names(self) -> list[str]:
        """What a column of labels may be called; first what the collator takes where there are several."""
        own = self._setup.trainer.label_names
        default = self._setup.collator is default_data_collator
        return list(dict.fromkeys((*own, "label", "label_ids") if default else ("label_ids", "label", *own)))

    @cached_property
    def label_columns(self) -> list[str]:
        return [name for name in self.label_names if name in self.columns]

    @cached_property
    def label_column(self) -> str | None:
        """The column that ends up as the labels."""
        return next(iter(self.label_columns), None)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """All labels as numbers, shape (rows,); None where a row has not one number."""
        kind = self.type(self.label_column) if self.label_column else None
        numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        if kind is None or not any(test(kind) for test in numeric):
            return None
        values = self.column(self.label_column)
        return None if values.null_count else values.to_numpy()

    @cached_property
    def classes(self) -> np.ndarray | None:
        """The labels that are classes: whole numbers, without those that the loss skips; None without any."""
        if self.labels is None or self.labels.dtype.kind not in "iub":
            return None
        classes = self.labels[self.labels != IGNORED]
        return classes if len(classes) else None

    @cached_property
    def label_vectors(self) -> np.ndarray | None:
        """All multi-label vectors, shape (rows, classes); None without any, or of several lengths."""
        kind = self.type(self.label_column) if self.label_column else None
        if not is_list(kind) or is_list(kind.value_type):
            return None
        try:
            vectors = np.array(self.column(self.label_column).to_pylist(), dtype=float)
        except (ValueError, TypeError):
            return None
        return vectors if vectors.ndim == 2 else None

    @cached_property
    def class_labels(self) -> list[str] | None:
        """The names of a ClassLabel column."""
        feature = (getattr(self.dataset, "features", None) or {}).get(self.label_column)
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    @cached_property
    def tokens(self) -> Tokens | None:
        """Look at the token ids of every row; None where there are none."""
        name, mask = self._setup.input_name, "attention_mask"
        kind = self.type(name) if name in self.columns and len(self.index) else None
        if not is_list(kind) or not pa.types.is_integer(kind.value_type):
            return None
        names = [name, mask] if mask in self.columns and is_list(self.type(mask)) else [name]
        parts = [self._tokens_of(*piece.columns) for piece in self.pieces(*names)]
        return Tokens(*map(np.concatenate, zip(*parts, strict=True)))

    def _tokens_of(self, ids: pa.ChunkedArray, mask: pa.ChunkedArray | None = None) -> Tokens:
        special, unknown, pad = self._setup.special_ids
        widths = pc.list_value_length(ids).fill_null(0).to_numpy().astype(np.int64)
        values = pc.list_flatten(ids).to_numpy()
        starts = np.cumsum(widths) - widths
        real = values != pad if mask is None else pc.list_flatten(mask).to_numpy() != 0
        if len(real) != len(values):  # a mask of another shape; collating will complain
            real = np.ones(len(values), bool)

        def per_row(numbers: np.ndarray, add=np.add) -> np.ndarray:
            numbers = numbers.astype(np.int64) if numbers.dtype != np.uint64 else numbers
            if not len(numbers):
                return np.zeros(len(widths), numbers.dtype)
            return np.where(widths > 0, add.reduceat(numbers, np.minimum(starts, len(numbers) - 1)), 0)

        # multiplying and folding makes equal sums of different rows as unlikely as 64 bits allow
        place = np.arange(len(values), dtype=np.uint64) - np.repeat(starts, widths).astype(np.uint64)
        mixed = (values.astype(np.uint64) + 1) * 0x9E3779B97F4A7C15 + place * 0xD6E8FEB86659FD93
        mixed = (mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9
        mixed = np.where(real, mixed ^ (mixed >> 32), np.uint64(0))
        return Tokens(
            lengths=per_row(real),
            widths=widths,
            content=per_row(real & ~np.isin(values, special)),
            unknown=per_row(real & (values == unknown)),
            highest=per_row(values, np.maximum),
            lowest=per_row(values, np.minimum),
            keys=per_row(mixed),
            marks=per_row(real & np.isin(values, self._setup.mark_ids)),
            ends=per_row(values == self._setup.end_id),
        )

    @cached_property
    def text_columns(self) -> list[str]:
        return [name for name in self.all_columns if name != self.label_column and is_text(self.type(name))]

    @cached_property
    def text_column(self) -> str | None:
        """The column whose first texts give these token ids; without tokens one that is called like texts."""
        if self._setup.tokenizer is None or self.tokens is None or not self.rows:
            only = self.text_columns[0] if len(self.text_columns) == 1 else None
            return only if only in USUAL_TEXT_COLUMNS else None
        for name in self.text_columns:
            with contextlib.suppress(Exception):  # a tokenizer of some other kind: then no column is known
                if all(self._made_of(name, place) for place in range(min(self.rows, 3))):
                    return name
        return None

    def _made_of(self, name: str, place: int) -> bool:
        """Say whether a row's tokens are those of its text in some column, or the beginning of them."""
        row = self.source(place)
        made = self._setup.tokenizer(row[name], truncation=False, verbose=False)["input_ids"]
        ids = plain(row[self._setup.input_name])[: self.tokens.lengths[place]]
        return made == ids or (len(ids) >= 4 and made[: len(ids) - 1] == ids[:-1])

    @cached_property
    def _keys_of_texts(self) -> np.ndarray | None:
        """The `text_keys` and `bare_keys`, shape (2, rows): one pass over the texts."""
        if (name := self.text_column) is None:
            return None
        texts = (comparable(text or "") for piece in self.pieces(name) for text in piece[name].to_pylist())
        keys = ((hash(text), hash(letters_of(text))) if text else (0, 0) for text in texts)
        return np.fromiter(keys, np.dtype((np.int64, 2)), len(self.index)).T

    @property
    def text_keys(self) -> np.ndarray | None:
        """A number a row, equal for texts that `comparable` writes alike, 0 for blank ones."""
        return None if self._keys_of_texts is None else self._keys_of_texts[0]

    @property
    def bare_keys(self) -> np.ndarray:
        """A number a row, equal for texts that `bare` writes alike; 0 where the text is not known."""
        return np.zeros(len(self.index), np.int64) if self._keys_of_texts is None else self._keys_of_texts[1]

    @cached_property
    def token_keys(self) -> np.ndarray:
        """A number a row, equal for equal token ids; 0 for a row without a word that the tokenizer knows."""
        if self.tokens is None:
            return np.zeros(len(self.index), np.int64)
        return np.where(self.tokens.content > self.tokens.unknown, self.tokens.keys, 0).view(np.int64)

    @cached_property
    def sure_keys(self) -> np.ndarray:
        """The `token_keys`; 0 where an unknown token stands for any word, and without a tokenizer."""
        if self.tokens is None or self._setup.tokenizer is None:
            return np.zeros(len(self.index), np.int64)
        return np.where(self.tokens.unknown == 0, self.token_keys, 0)

    @cached_property
    def keys(self) -> np.ndarray | None:
        """The `text_keys`, or the `token_keys` where no text is known; None without either."""
        if self.text_keys is not None:
            return self.text_keys
        return None if self.tokens is None else self.token_keys


def plain(value: Any) -> Any:
    """Turn tensors and arrays into lists and numbers, which Arrow takes."""
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) else value


def as_mapping(row: Any) -> Mapping:
    return row if isinstance(row, Mapping) else vars(row) if hasattr(row, "__dict__") else {"row": row}


def as_array(rows: Sequence[Mapping], name: str) -> pa.Array | Exception:
    try:
        return pa.array([plain(row.get(name)) for row in rows])
    except Exception as error:  # values without a common type; whoever asks for the column will hear it
        return error


def joined(parts: Sequence[pa.Array | Exception]) -> pa.ChunkedArray | Exception:
    """Make one column of its chunks, whose types may differ: whole numbers here, floats there."""
    try:
        tables = [pa.table({"all": part}) for part in parts]
        return pa.concat_tables(tables, promote_options="permissive")["all"]
    except Exception as error:
        return next((part for part in parts if isinstance(part, Exception)), error)


def error_text(error: BaseException) -> str:
    """Return an exception's kind and words, in one line; some have no words that can be had."""
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    except Exception:
        return type(error).__name__


def is_list(kind: pa.DataType | None) -> bool:
    return isinstance(kind, (pa.ListType, pa.LargeListType, pa.FixedSizeListType))


def is_text(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def shared_rows(one: Split, other: Split) -> tuple[np.ndarray, np.ndarray]:
    """Mark the rows of `other` that `one` has too, by their texts, or by their tokens without known texts.

    The second mask marks the other rows with the same token ids: other texts, the same input for the model.
    """

    def among(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
        # np.isin takes seconds for a million rows
        return pd.Series(keys).isin(others).to_numpy() & (keys != 0)

    if one.text_keys is None or other.text_keys is None:
        return among(other.token_keys, one.token_keys), np.zeros(len(other.index), bool)
    shared = among(other.text_keys, one.text_keys)
    return shared, among(other.sure_keys, one.sure_keys) & ~shared


def container_fault(dataset: Any) -> str | None:
    """Return what to write in place of an object that cannot be a data set; None where it can be one."""
    if isinstance(dataset, (pd.DataFrame, pd.Series)):
        return "Dataset.from_pandas(frame, preserve_index=False)"
    if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return f"data[{next(iter(dataset), 'train')!r}]"
    iterable = isinstance(dataset, (datasets.IterableDataset, torch.utils.data.IterableDataset))
    no_rows = isinstance(dataset, (Mapping, str, bytes, set, np.ndarray, torch.Tensor, pa.Table))
    if no_rows or not (iterable or hasattr(dataset, "__getitem__")):
        return "Dataset.from_dict(...)"
    first = dataset[0] if isinstance(dataset, (list, tuple)) and dataset else {}
    return None if isinstance(first, Mapping) or hasattr(first, "__dict__") else "Dataset.from_list(...)"
