"""From a sweep file to the runs that it means; every fault of the file is named before anything starts."""

import ast
import difflib
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from utils import find_input
from utils.parameters import PARAMETERS, ParameterError, check_parameters

# Of a leaderboard: the scores that a run may have in metrics.json.
SCORE_COLUMNS = tuple(
    f"{split}_{score}"
    for split in ("validation", "test")
    for score in ("accuracy", "f1_macro", "pearson", "mae")
)
KEYS = ("notebook", "parameters", "grid", "runs")
OURS = ("output_dir", "resume")  # parameters that the batch sets itself, where a notebook has them


class BatchError(ValueError):
    """A sweep that cannot start or go on; the message holds every fault that was found."""


class Planned(NamedTuple):
    """A run to be: its id, which is its folder's name; the parameters for papermill; the parameters that the leaderboard shows."""

    run_id: str
    parameters: dict[str, Any]
    shown: dict[str, Any]


class Plan(NamedTuple):
    """A checked sweep: the notebook, the defaults of its parameters, and the runs in order."""

    notebook: Path
    defaults: dict[str, Any]
    runs: list[Planned]


def read_plan(spec: str | Path | Mapping[str, Any]) -> Plan:
    """Read a sweep and check all of it against the notebook's parameters cell.

    Args:
        spec: a YAML file or what stands in one: `notebook`, `parameters` (for all runs), `grid` (name: list; every combination is a run) and
            `runs` (a list of further runs, each on top of `parameters`). With neither grid nor runs it is one run.

    Raises:
        BatchError: naming all faults with their places: unknown keys and parameters, impossible values, the same run twice.
    """
    if isinstance(spec, Mapping):
        return _plan(dict(spec), [])
    try:
        return _plan(*_read_spec(spec))
    except BatchError as error:
        raise BatchError(f"{spec}: {error}") from None


def _plan(found: dict[str, Any], faults: list[str]) -> Plan:
    faults += [_unknown("key", key, KEYS) for key in found if key not in KEYS]
    common, grid, more = (
        _section(found, key, kind, faults)
        for key, kind in (("parameters", dict), ("grid", dict), ("runs", list))
    )
    for name, values in list(grid.items()):
        if not isinstance(values, list) or not values:
            faults.append(f"grid: {name} must be a list of at least one value, not {values!r}")
            grid[name] = []
    for place, run in enumerate(more):
        if not isinstance(run, dict):
            faults.append(f"runs[{place}] must hold names and values, not {run!r}")
    more = [run if isinstance(run, dict) else {} for run in more]

    try:
        notebook = find_input(str(found.get("notebook") or "no notebook was named"))
        defaults = _defaults(notebook)
    except (FileNotFoundError, BatchError) as error:
        raise BatchError("\n".join([*faults, f"notebook: {error}"])) from None
    given = [("parameters", name, [value]) for name, value in common.items()] + [
        ("grid", name, values) for name, values in grid.items()
    ]
    given += [
        (f"runs[{place}]", name, [value]) for place, run in enumerate(more) for name, value in run.items()
    ]
    for place, name, values in given:
        if name not in defaults:
            faults.append(f"{place}: {_unknown('parameter', name, defaults)}")
        elif name in OURS:
            faults.append(f"{place}: {name} is set by the batch, for each run; leave it out")
        else:
            faults += [f"{place}: {fault}" for value in values if (fault := _fault(name, value, defaults))]
    if faults:
        raise BatchError("\n".join(faults))

    own = (
        [(dict(zip(grid, values, strict=True)), "grid") for values in product(*grid.values())]
        if grid or not more
        else []
    )
    own += [(run, f"runs[{place}]") for place, run in enumerate(more)]
    columns = dict.fromkeys([*common, *grid, *(name for run in more for name in run)])
    runs, seen = [], {}
    for changes, place in own:
        parameters = common | changes
        place += "".join(f", {name} {value!r}" for name, value in changes.items()) if place == "grid" else ""
        whole = json.dumps(_canonical(defaults | parameters), sort_keys=True)
        if whole in seen:
            faults.append(f"{place}: this run is the same as {seen[whole]}; remove one of them")
        seen.setdefault(whole, place)
        shown = {name: (defaults | parameters)[name] for name in columns}
        runs.append(Planned(run_id(changes, parameters, notebook.name), parameters, shown))
    if faults or len({run.run_id for run in runs}) < len(runs):
        raise BatchError("\n".join(faults) or "two runs would get the same folder name")
    return Plan(notebook, defaults, runs)


def run_id(changes: Mapping[str, Any], parameters: Mapping[str, Any], notebook: str) -> str:
    """Return a folder name for any file system: what this run sets itself, at most 60 characters of it, and a hash of all that it is given."""
    digest = hashlib.sha256(
        json.dumps([notebook, _canonical(parameters)], sort_keys=True).encode()
    ).hexdigest()[:10]
    words = [
        f"{name}-{Path(value).name if isinstance(value, str) else _canonical(value)}"
        for name, value in sorted(changes.items())
    ]
    readable = re.sub(r"[^A-Za-z0-9.+_-]+", "-", "_".join(words))[:60].strip("-._")
    return f"{readable or 'run'}-{digest}"


def _canonical(value: Any) -> Any:
    """Return a value in the one form that equal values share: 1 for 1.0, lists for tuples."""
    if isinstance(value, Mapping):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_spec(spec: str | Path) -> tuple[dict[str, Any], list[str]]:
    import yaml

    try:
        text = find_input(spec).read_text(encoding="utf-8")
        tree, found = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
        if isinstance(found, dict):
            return found, _repeated(tree)
    except (
        OSError,
        ValueError,
        RecursionError,
        yaml.YAMLError,
    ) as error:  # no UTF-8, a day that no month has, a list within itself
        raise BatchError(f"cannot be read: {error}") from None
    raise BatchError(f"must hold the keys {', '.join(KEYS)}")


def _repeated(node: Any) -> list[str]:
    """Name the keys that stand twice: YAML would silently take the last one."""
    if isinstance(node.value, str):
        return []
    pairs = node.value if node.id == "mapping" else [(None, each) for each in node.value]
    names = [key.value for key, _ in pairs if key is not None]
    faults = [
        f"line {key.start_mark.line + 1}: {key.value} stands twice"
        for i, (key, _) in enumerate(pairs)
        if key is not None and key.value in names[:i]
    ]
    return faults + [fault for _, value in pairs for fault in _repeated(value)]


def _section(found: Mapping[str, Any], key: str, kind: type, faults: list[str]) -> Any:
    value = found.get(key)
    if value is not None and not isinstance(value, kind):
        faults.append(f"{key} must be {'names with values' if kind is dict else 'a list'}, not {value!r}")
    return kind(value) if isinstance(value, kind) else kind()


def _unknown(what: str, name: Any, names: Any) -> str:
    near = difflib.get_close_matches(str(name), list(names), n=1)
    return f"there is no {what} {name!r}" + (
        f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names) or 'none'}"
    )


def _defaults(notebook: Path) -> dict[str, Any]:
    """Return the parameters of a notebook with their defaults; one that is no literal stays as its source text."""
    try:
        found = quiet_papermill().inspect_notebook(str(notebook))
    except Exception as error:  # whatever is in that file, it is no notebook
        raise BatchError(f"{notebook} cannot be read as a notebook ({error})") from None
    defaults = {}
    for name, each in found.items():
        try:
            defaults[name] = ast.literal_eval(each["default"])
        except (ValueError, SyntaxError):
            defaults[name] = each["default"]
    return defaults


def quiet_papermill() -> Any:
    """Import papermill without an optional check of jsonschema's: it builds a grammar for 1.2 of the 1.6 seconds that the import takes, in every run."""
    without = "rfc3987_syntax" not in sys.modules
    if without:
        sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    import papermill

    if without:
        del sys.modules["rfc3987_syntax"]
    return papermill


def _fault(name: str, value: Any, defaults: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a value: by the rules of utils.runs for the template's parameters, else by the type of the default."""
    number = re.fullmatch(r"([+-]?\d+)(\.\d*)?[eE]([+-]?\d+)", value) if isinstance(value, str) else None
    hint = (
        f"; YAML reads it as a text: write {number[1]}{number[2] or '.0'}e{int(number[3]):+d}"
        if number
        else ""
    )
    try:
        json.dumps(value, allow_nan=False)
        if set(defaults) <= set(PARAMETERS):
            check_parameters({name: value}, (name,))
    except ParameterError as error:
        return str(error).partition(".\nThe parameters are")[0] + hint
    except (TypeError, ValueError):
        return f"{name} must be a number, a text, true, false, null or a list or mapping of them, not {value!r} ({type(value).__name__})"
    default, kinds = defaults[name], ((bool,), (int, float), (str,), (list, tuple), (dict,))
    expected = next((kind for kind in kinds if isinstance(default, kind)), None)
    fits = (
        value is None
        or expected is None
        or (isinstance(value, expected) and (bool in expected or not isinstance(value, bool)))
    )
    return (
        None
        if fits
        else f"{name} must be like its default {default!r}, not {value!r} ({type(value).__name__}){hint}"
    )
