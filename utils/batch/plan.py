"""From a sweep file to the runs that it means; every fault of the file is named before anything starts."""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from utils.findings import did_you_mean
from utils.parameters import PARAMETERS, ParameterError, check_parameters, clashes
from utils.reading import find_input

# The scores that a run may have in metrics.json, as columns of a leaderboard.
SCORES = ("accuracy", "f1_macro", "pearson", "mae")
SCORE_COLUMNS = tuple(f"{split}_{score}" for split in ("validation", "test") for score in SCORES)
KEYS = ("notebook", "parameters", "grid", "runs")
SET_BY_BATCH = ("output_dir", "resume")  # where a notebook has them
TYPES = (bool, (int, float), str, (list, tuple), dict)  # bool first, for it is a subclass of int


class BatchError(ValueError):
    """A sweep that cannot start or go on; the message holds every fault that was found."""


class Planned(NamedTuple):
    """A run to be: its folder's name, the parameters for papermill, and those that the leaderboard shows."""

    run_id: str
    parameters: dict[str, Any]
    settings: dict[str, Any]


class Plan(NamedTuple):
    """A checked sweep: the notebook, the defaults of its parameters, and the runs in order."""

    notebook: Path
    defaults: dict[str, Any]
    runs: list[Planned]


def read_plan(spec: str | Path | Mapping[str, Any]) -> Plan:
    """Read a sweep and check all of it against the notebook's parameters cell.

    Args:
        spec: a YAML file or what stands in one: `notebook`, `parameters` (for all runs), `grid` (name: list;
            every combination is a run) and `runs` (a list of further runs, each on top of `parameters`).
            With neither grid nor runs it is one run.

    Raises:
        BatchError: naming all faults with their places: unknown keys and parameters, impossible values,
            the same run twice.
    """
    try:
        return _plan(spec if isinstance(spec, Mapping) else _read_file(spec))
    except BatchError as error:
        raise error if isinstance(spec, Mapping) else BatchError(f"{spec}: {error}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would silently take the last one."""

    def construct_mapping(self, node, deep=False):
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        for i, key in enumerate(keys):
            if key.value in [earlier.value for earlier in keys[:i]]:
                raise BatchError(f"line {key.start_mark.line + 1}: {key.value} stands twice")
        return super().construct_mapping(node, deep)


def _read_file(path: str | Path) -> dict[str, Any]:
    try:
        sweep = yaml.load(find_input(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # no UTF-8, no such day, ...
        raise BatchError(f"cannot be read: {error}") from None
    if not isinstance(sweep, dict):
        raise BatchError(f"must hold the keys {', '.join(KEYS)}")
    return sweep


def _plan(sweep: Mapping[str, Any]) -> Plan:
    faults = [unknown_name("key", key, KEYS) for key in sweep if key not in KEYS]
    common, grid = (_section(sweep, key, dict, faults) for key in ("parameters", "grid"))
    more = _section(sweep, "runs", list, faults)
    entries = [("parameters", name, [value]) for name, value in common.items()]
    entries += [("grid", name, values) for name, values in grid.items()]
    for i, run in enumerate(more):
        if isinstance(run, dict):
            entries += [(f"runs[{i}]", name, [value]) for name, value in run.items()]
        else:
            faults.append(f"runs[{i}] must hold names and values, not {run!r}")
    try:
        notebook = find_input(str(sweep.get("notebook") or "no notebook was named"))
        defaults = _defaults(notebook)
    except (FileNotFoundError, BatchError) as error:
        raise BatchError("\n".join([*faults, f"notebook: {error}"])) from None
    for place, name, values in entries:
        faults += [f"{place}: {fault}" for fault in _faults(name, values, defaults)]
    if faults:
        raise BatchError("\n".join(faults))

    points = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    changes_at = [(f"grid {point}", point) for point in points if grid or not more]
    changes_at += [(f"runs[{i}]", run) for i, run in enumerate(more)]
    columns = dict.fromkeys(name for _, name, _ in entries)
    runs, places = [], {}
    for place, changes in changes_at:
        parameters = common | changes
        values = defaults | parameters
        if set(defaults) <= set(PARAMETERS):
            faults += [f"{place}: {fault}" for fault in clashes(values)]
        key = _as_json(values)
        if key in places:
            faults.append(f"{place}: this run is the same as {places[key]}; remove one of them")
        places.setdefault(key, place)
        settings = {name: values[name] for name in columns}
        runs.append(Planned(run_id(changes, parameters, notebook.name), parameters, settings))
    if faults or len({run.run_id for run in runs}) < len(runs):
        raise BatchError("\n".join(faults) or "two runs would get the same folder name")
    return Plan(notebook, defaults, runs)


def _section(sweep: Mapping[str, Any], key: str, kind: type, faults: list[str]) -> Any:
    value = sweep.get(key)
    if value is not None and not isinstance(value, kind):
        faults.append(f"{key} must be {'names with values' if kind is dict else 'a list'}, not {value!r}")
    return kind(value) if isinstance(value, kind) else kind()


def unknown_name(what: str, name: Any, known: Iterable[str]) -> str:
    hint = did_you_mean(name, known) or f"There are {', '.join(known) or 'none'}."
    return f"there is no {what} {name!r}. {hint}"


def _defaults(notebook: Path) -> dict[str, Any]:
    """Return a notebook's parameters with their defaults; one that is no literal stays as its source."""
    import papermill  # takes two seconds, and the Dask workers, which import this module, need none of it

    try:
        parameters = papermill.inspect_notebook(str(notebook))
    except Exception as error:  # whatever is in that file, it is no notebook
        raise BatchError(f"{notebook} cannot be read as a notebook ({error})") from None
    defaults = {name: parameter["default"] for name, parameter in parameters.items()}
    for name, source in defaults.items():
        with suppress(ValueError, SyntaxError):
            defaults[name] = ast.literal_eval(source)
    return defaults


def _faults(name: str, values: Any, defaults: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the values of one parameter."""
    if name not in defaults:
        return [unknown_name("parameter", name, defaults)]
    if name in SET_BY_BATCH:
        return [f"{name} is set by the batch, for each run; leave it out"]
    if not isinstance(values, list) or not values:
        return [f"{name} must be a list of at least one value, not {values!r}"]
    return [fault for value in values if (fault := _fault(name, value, defaults))]


def _fault(name: str, value: Any, defaults: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a value, by the template's rules or else by the type of the default."""
    hint = ""
    if isinstance(value, str) and (number := re.fullmatch(r"([+-]?\d+)(\.\d*)?[eE]([+-]?\d+)", value)):
        hint = f"; YAML reads it as a text: write {number[1]}{number[2] or '.0'}e{int(number[3]):+d}"
    of_type = f"not {value!r} ({type(value).__name__})"
    try:
        json.dumps(value, allow_nan=False)
        if set(defaults) <= set(PARAMETERS):
            check_parameters({name: value}, (name,))
    except ParameterError as error:
        return str(error).partition("\n")[0].removesuffix(".") + hint
    except (TypeError, ValueError):
        return f"{name} must be a number, a text, true, false, null or a list or mapping of them, {of_type}"
    type_of_default, type_of_value = (
        next((kind for kind in TYPES if isinstance(each, kind)), None) for each in (defaults[name], value)
    )
    if value is None or type_of_default in (None, type_of_value):
        return None
    return f"{name} must be like its default {defaults[name]!r}, {of_type}{hint}"


def run_id(changes: Mapping[str, Any], parameters: Mapping[str, Any], notebook: str) -> str:
    """Return a folder name for any file system.

    It holds at most 60 characters of what this run sets itself, and a hash of all that it is given.
    """
    digest = hashlib.sha256(_as_json([notebook, parameters]).encode()).hexdigest()[:10]
    words = [
        f"{name}-{Path(value).name if isinstance(value, str) else _canonical(value)}"
        for name, value in sorted(changes.items())
    ]
    readable = re.sub(r"[^A-Za-z0-9.+_-]+", "-", "_".join(words))[:60].strip("-._")
    return f"{readable or 'run'}-{digest}"


def _as_json(value: Any) -> str:
    return json.dumps(_canonical(value), sort_keys=True, default=repr)  # a default may be a set


def _canonical(value: Any) -> Any:
    """Return a value in the one form that equal values share: 1 for 1.0, lists for tuples."""
    if isinstance(value, Mapping):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
