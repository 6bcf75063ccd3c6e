"""The catalogue of mistakes. Each check enters itself with `@pitfall(...)`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils.findings import rows_in_words
from utils.preflight.split import Split


class Pitfall(NamedTuple):
    """One mistake.

    stages: who finds it: R read_table, P preflight, W Watch, S check_saved; C the library, when the object is
    built; A nobody, the notebooks avoid it. level: "error" or "warning". loud: the library raises, with
    a message that misleads. find: the check of stage P. dry: it looks at the dry run, so it comes last.
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
    """Enter a mistake into the catalogue, as `Pitfall` describes it; the decorated function finds it."""

    def register(find: Callable | None):
        CATALOGUE[id] = Pitfall(id, stages, level, loud, symptom, fix, find, dry)
        return find

    return register


def places(mask: np.ndarray, split: Split) -> str:
    """Say which rows a mask marks: "row 3", "4 rows (0, 2, 5, ...)"; counted from 0, as in `dataset[i]`."""
    rows = np.flatnonzero(mask)
    return rows_in_words(np.sort(split.index[rows]) if len(mask) == len(split.index) else rows)


def without_check(id: str, stages: str, level: str, symptom: str, fix: str, loud: bool = False) -> None:
    """Enter a mistake that no check of preflight looks for."""
    pitfall(id, stages, level, symptom, fix, loud)(None)


symptom = "logging_nan_inf_filter hides NaN: loss 0.0 in the log, accuracy the share of class 0"
without_check("nan-hidden", "W", "error", symptom, "A lower learning rate; fp32")
symptom = "The training loss falls, the evaluation loss rises"
without_check("overfitting", "W", "warning", symptom, "Stop early, fewer epochs")
symptom = "What was saved is not what was trained: other weights, labels or tokenizer"
without_check("saved-differs", "S", "error", symptom, "save_pretrained both, and check")
symptom = "pandas reads 'NA', 'None', 'null' as missing: text and label are lost"
without_check("na-strings", "R", "error", symptom, "keep_default_na=False")
symptom = "The head is initialised before Trainer sets the seed: runs differ"
without_check("head-seed", "A", "warning", symptom, "set_seed(...) first, or model_init")
symptom = "'--load_best_model_at_end requires the save and eval strategy to match'"
without_check("strategy-mismatch", "C", "error", symptom, "save_strategy = eval_strategy", loud=True)
symptom = "A check of preflight's own could not look"
without_check("check-failed", "P", "warning", symptom, "Report it, with the message")


def catalogue() -> pd.DataFrame:
    """Return all mistakes, one row each; the columns are those of `Pitfall`, but for its functions."""
    columns = ["id", "level", "stages", "loud", "symptom", "fix"]
    table = pd.DataFrame(CATALOGUE.values(), columns=Pitfall._fields)[columns]
    return table.sort_values(["loud", "id"], ignore_index=True)
