"""The catalogue of mistakes. Each check enters itself with `@pitfall(...)`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils.findings import rows_in_words
from utils.preflight.split import Split

IGNORED = -100  # the label that PyTorch's cross-entropy skips


class Pitfall(NamedTuple):
    """One entry of the catalogue.

    id: its name. stages: where it is found: R when a table is read, P by preflight, W by Watch, S by check_saved; C the library raises when
    the object is built; A avoided by how the notebooks are written. level: "error" or "warning". loud: whether the library raises by itself, with a
    message that misleads. symptom, fix: in general words. find: the function for stage P.
    """

    id: str
    stages: str
    level: str
    loud: bool
    symptom: str
    fix: str
    find: Callable | None
    dry: bool


CATALOGUE: dict[str, Pitfall] = {}


def pitfall(id: str, stages: str, level: str, symptom: str, fix: str, loud: bool = False, dry: bool = False):
    """Enter a mistake into the catalogue; the decorated function finds it. `dry`: it looks at the dry run, so it comes after those that do not."""

    def register(find):
        CATALOGUE[id] = Pitfall(id, stages, level, loud, symptom, fix, find, dry)
        return find

    return register


def places(mask: np.ndarray, split: Split) -> str:
    """Say which rows of a split a mask marks: "row 3", "4 rows (0, 2, 5, ...)"; counted from 0, as `dataset[i]` counts."""
    return rows_in_words(
        np.sort(split.index[np.flatnonzero(mask)]) if len(mask) == len(split.index) else np.flatnonzero(mask)
    )


pitfall(
    "nan-hidden",
    "W",
    "error",
    "logging_nan_inf_filter hides NaN: loss 0.0 in the log, accuracy the share of class 0",
    "A lower learning rate; fp32",
)(None)


pitfall(
    "overfitting",
    "W",
    "warning",
    "The training loss falls, the evaluation loss rises",
    "Stop early, fewer epochs",
)(None)


pitfall(
    "saved-differs",
    "S",
    "error",
    "What was saved is not what was trained: other weights, labels or tokenizer",
    "save_pretrained both, and check",
)(None)


pitfall(
    "na-strings",
    "R",
    "error",
    "pandas reads 'NA', 'None', 'null' as missing: text and label are lost",
    "keep_default_na=False",
)(None)


pitfall(
    "head-seed",
    "A",
    "warning",
    "The head is initialised before Trainer sets the seed: runs differ",
    "set_seed(...) first, or model_init",
)(None)


pitfall(
    "strategy-mismatch",
    "C",
    "error",
    "'--load_best_model_at_end requires the save and eval strategy to match'",
    "save_strategy = eval_strategy",
    True,
)(None)


pitfall(
    "check-failed", "P", "warning", "A check of preflight's own could not look", "Report it, with the message"
)(None)


def catalogue() -> pd.DataFrame:
    """Return all known mistakes, one row each: id, level, stages (R table, P preflight, W Watch, S saving, C the library, A avoided), loud, symptom, fix."""
    rows = [
        (entry.id, entry.level, entry.stages, entry.loud, entry.symptom, entry.fix)
        for entry in sorted(CATALOGUE.values(), key=lambda e: (e.loud, e.id))
    ]
    return pd.DataFrame(rows, columns=["id", "level", "stages", "loud", "symptom", "fix"])
