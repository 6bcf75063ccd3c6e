"""What the parameters cell of a notebook may hold."""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from utils.findings import did_you_mean
from utils.labels import TASKS

# These may differ between a run and its continuation: nothing that is learnt hangs on them.
NOT_IDENTITY = ("resume", "output_dir", "report_to", "rivals", "target_accuracy")
PATHS = ("data_file", "validation_file", "test_file", "model_name", "output_dir")


class ParameterError(ValueError):
    """A parameter that is misspelt, of the wrong type or impossible; the message lists the valid ones."""


class Rule(NamedTuple):
    """What a parameter may be: its types, a test of its value, and both in words."""

    types: tuple[type, ...]
    valid: Callable[[Any], bool]
    words: str

    def fits(self, value: Any) -> bool:
        # bool is a subclass of int, and `seed=True` is a mistake all the same
        right_type = isinstance(value, self.types) and (not isinstance(value, bool) or bool in self.types)
        return right_type and self.valid(value)


def _number(valid: Callable[[float], bool], words: str) -> Rule:
    return Rule((int, float), lambda value: abs(value) < float("inf") and valid(value), words)


def _whole(least: int) -> Rule:
    return Rule((int,), lambda value: value >= least, f"a whole number, {least} or more")


def _choice(*values: str) -> Rule:
    return Rule((str,), lambda value: value in values, " or ".join(map(repr, values)))


def _optional(rule: Rule) -> Rule:
    words = f"{rule.words}, or None"
    return Rule((*rule.types, type(None)), lambda value: value is None or rule.valid(value), words)


def _names(value: str | list) -> bool:
    names = [value] if isinstance(value, str) else value
    return bool(names) and all(isinstance(name, str) and name.strip() for name in names)


TEXT = Rule((str,), _names, "a text that is not empty")
CHARACTER = "one character, \\t or tab"
RATE = "a number between 0 and 1, such as 5e-5 (in YAML: 5.0e-5)"
STEPS = "a number of steps, or a share of them below 1"
FILES = "a mapping of names to files, such as {'gpt': 'gpt.csv'}"
SWITCH = Rule((bool,), lambda value: True, "True or False")
PARAMETERS: dict[str, Rule] = {
    "data_file": TEXT,
    "validation_file": _optional(TEXT),
    "test_file": _optional(TEXT),
    "text_column": TEXT,
    "text_pair_column": _optional(TEXT),
    "label_column": Rule((str, list), _names, "a column name, or a list of them"),
    "task": _choice(*TASKS),
    "encoding": _optional(TEXT),
    "delimiter": _optional(Rule((str,), lambda value: len(value) == 1 or value in ("\\t", "tab"), CHARACTER)),
    "group_column": _optional(TEXT),
    "time_column": _optional(TEXT),
    "folds": _optional(_whole(2)),
    "fold": _optional(_whole(0)),
    "max_dropped": _number(lambda value: 0 <= value <= 1, "a share from 0 to 1"),
    "model_name": TEXT,
    "max_length": _whole(3),  # two special tokens and one of the text
    "long_texts": _choice("head", "head_tail", "chunks"),
    "max_train_samples": _optional(_whole(2)),
    "num_train_epochs": _optional(_number(lambda value: value > 0, "a number above 0")),
    "learning_rate": _optional(_number(lambda value: 0 < value < 1, RATE)),
    "per_device_train_batch_size": _whole(1),
    "per_device_eval_batch_size": _whole(1),
    "gradient_accumulation_steps": _whole(1),
    "weight_decay": _number(lambda value: value >= 0, "a number, 0 or more"),
    "warmup_steps": _number(lambda value: value >= 0 and (value < 1 or value == int(value)), STEPS),
    "class_weights": SWITCH,
    "label_smoothing_factor": _number(lambda value: 0 <= value < 1, "a share from 0 to below 1, such as 0.1"),
    "early_stopping_patience": _optional(_whole(1)),
    "seed": Rule((int,), lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295"),
    "report_to": Rule((str,), _names, "'none' or the name of a tracker, such as 'tensorboard'"),
    "resume": SWITCH,
    "output_dir": _optional(TEXT),
    "rivals": _optional(Rule((dict,), lambda value: all(map(TEXT.fits, [*value, *value.values()])), FILES)),
    "target_accuracy": _optional(_number(lambda value: 0 < value < 1, "a share, such as 0.97")),
}
BOTH = "group_column and time_column contradict each other, for a group has old and new rows. Drop one"
PAIR = "fold and folds go together: fold is a number from 0 to folds - 1"
HELD = "with a fold, which is the test split, test_file and time_column must be None"
ONE = "Trainer smooths the one label of a text: without task='single_label', set label_smoothing_factor to 0"
# PyTorch weighs what is smoothed by the other labels' weights, and Trainer smooths no loss but its own
WEIGHED = (
    "class_weights and label_smoothing_factor do not go together: rows of a common label would be trained "
    "towards the rare one. Leave out one of them"
)
CLASSES = "target_accuracy needs classes, and task is 'regression'; set it to None"
CUT = "text_pair_column needs long_texts='head': of a pair, the tokenizer cuts the longer text, and no more"
TOGETHER = {  # parameters: a test of their values together, and what is wrong where it fails
    "group_column time_column": (lambda *columns: None in columns, BOTH),
    "fold folds": (lambda *both: both == (None, None) or (None not in both and both[0] < both[1]), PAIR),
    "fold test_file time_column": (lambda *each: each[0] is None or each[1:] == (None, None), HELD),
    "label_smoothing_factor task": (lambda smooth, task: not smooth or task == "single_label", ONE),
    "label_smoothing_factor class_weights": (lambda *both: not all(both), WEIGHED),
    "target_accuracy task": (lambda target, task: target is None or task != "regression", CLASSES),
    "text_pair_column long_texts": (lambda pair, how: not pair or how == "head", CUT),
}


def check_parameters(namespace: Mapping, names: Sequence[str] = tuple(PARAMETERS)) -> dict[str, Any]:
    """Check a notebook's parameters and return them as a dict, in the order of `names`.

    Args:
        namespace: the notebook's `globals()`; the history in it shows what papermill set, misspelt or not.
        names: the parameters that this notebook has.

    Raises:
        ParameterError: with every fault found, and the list of valid parameters.
    """
    unknown = sorted(_injected(namespace.get("In", ())) - set(names))
    faults = [f"there is no parameter {name!r}. {did_you_mean(name, names)}".rstrip(". ") for name in unknown]
    for name in names:
        rule = PARAMETERS[name]
        if name not in namespace:
            faults.append(f"{name} is not set: it must be {rule.words}")
        elif not rule.fits(value := namespace[name]):
            kind = type(value).__name__
            faults.append(f"{name} must be {rule.words}, not {value!r} ({kind}){_as_text(name, value)}")
    if faults := faults or clashes({name: namespace[name] for name in names}):
        valid = "\n".join(f"  {name}: {PARAMETERS[name].words}" for name in names)
        raise ParameterError("; ".join(faults) + f".\nThe parameters are:\n{valid}")
    return {name: namespace[name] for name in names}


def clashes(values: Mapping) -> list[str]:
    """Return what makes no sense together among parameters that are right one by one, with what to do."""
    asked = ((names.split(), fits, words) for names, (fits, words) in TOGETHER.items())
    asked = (each for each in asked if {*each[0]} <= {*values})
    return [words for names, fits, words in asked if not fits(*map(values.get, names))]


def _as_text(name: str, value: Any) -> str:
    """Say how to give a text that looks like a number: papermill's -p makes 2024 a number."""
    text, way = value, ""
    if isinstance(value, list):
        text = [str(item) if isinstance(item, (int, float)) else item for item in value]
        way = f"write names that are numbers in quotes: {text!r}"
    elif isinstance(value, (int, float)):
        text = str(value)
        way = f"if it is meant as a text, put it in quotes, or write `-r {name} {text}` instead of `-p`"
    return f" ({way})" if text != value and PARAMETERS[name].fits(text) else ""


def _injected(history: Iterable[str]) -> set[str]:
    """Return the names that papermill's injected cell assigns; it begins with a comment of its own."""
    cells = (ast.parse(source) for source in history if source.startswith("# Parameters\n"))
    nodes = (node for cell in cells for node in ast.walk(cell) if isinstance(node, ast.Name))
    names = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    return {name for name in names if not name.startswith("PAPERMILL_")}
