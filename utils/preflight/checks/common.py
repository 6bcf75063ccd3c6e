"""What checks of several themes share.

A check is a generator. It takes a `Setup` and yields (message, fix), or (message, fix, level) where the
level is not the catalogue's.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from utils.preflight.catalogue import pitfall, places
from utils.preflight.split import Split


def check(id: str, stages: str, level: str, fix: str, loud: bool = False, dry: bool = False) -> Callable:
    """Enter a check into the catalogue; its docstring is the symptom."""

    def register(find):
        symptom = " ".join((find.__doc__ or "").split())
        return pitfall(id, stages, level, symptom, fix, loud, dry)(find)

    return register


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def listed(names: Iterable) -> str:
    return ", ".join(map(repr, names))


def rows_of(mask: np.ndarray, split: Split) -> str:
    return f"{places(mask, split)} of the {split.role} data"


def tokenised(setup) -> Iterator[Split]:
    """Yield the splits that have rows of token ids."""
    return (split for split in setup.splits.values() if split.tokens is not None and len(split.index))


def without_labels(split: Split, right: str = "label") -> tuple[str, str]:
    """Say why a split has no labels, and how it gets them."""
    hidden = [name for name in split.all_columns if name in split.label_names]
    if hidden:
        return f"set_format hides the column {hidden[0]!r}", f"Add {hidden[0]!r} to set_format(columns=[...])"
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    others = [name for name in split.all_columns if name not in inputs] or ["..."]
    reason = f"none of its columns ({listed(split.all_columns)}) is called label, labels or label_ids"
    return reason, f"dataset = dataset.rename_column({others[-1]!r}, {right!r})"


def tensor_labels(setup, split: str = "train") -> torch.Tensor | None:
    """Return the labels of a split's collated batch, as the model gets them: collators change types."""
    names = setup.trainer.label_names
    labels = setup.dry.collated.get(split, {}).get(names[0]) if names else None
    return labels if isinstance(labels, torch.Tensor) else None
