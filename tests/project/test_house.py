"""The house: how many lines it has, how wide they are, who imports whom. `make test` ends with the counts."""

import ast
import graphlib

import pytest

from notebooks import NOTEBOOKS, ROOT, read

# Lines at most: utils/*.py, and all of utils; its aim, 7,000, would take features away. Lower what you can.
HELPER, ALL = 2100, 12_450
WIDTH, CELL_WIDTH = 110, 88  # columns at most: Python files, and code in notebooks
UTILS = sorted((ROOT / "utils").rglob("*.py"))
FOLDERS = ("utils", "tests", "docs", "benchmarks")
HEAVY = ("sklearn", "scipy", "utils.preflight")  # what the helpers of notebook 01 do without


def lines(paths):
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def module_of(path):
    """Return a file's name as a module: utils/batch/__init__.py is utils.batch."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in UTILS}
HELPERS = {module for module, path in MODULES.items() if path.parent == ROOT / "utils"}


def imported(source, modules=frozenset(MODULES)):
    """Return the modules of utils that code imports, at its top or in functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import in line {node.lineno}"
            names |= {
                name if (name := f"{node.module}.{alias.name}") in modules else node.module
                for alias in node.names
            }
    return names & modules


IMPORTS = {module: imported(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}


def room_of(module):
    """Return the room of a module, such as utils.batch; files in no room are the helper, utils."""
    return "utils" if module in HELPERS else ".".join(module.split(".")[:2])


def test_it_does_not_grow(record_property):
    names = sorted({room_of(module) for module in MODULES})
    rooms = {name: [path for module, path in MODULES.items() if room_of(module) == name] for name in names}
    counts = {name: lines(paths) for name, paths in rooms.items()}
    record_property("lines of the helper", {path.stem: lines([path]) for path in rooms["utils"]})
    record_property("lines by room", counts | {"together": sum(counts.values())})
    assert counts["utils"] <= HELPER
    assert sum(counts.values()) <= ALL


def test_no_line_of_python_is_too_wide():
    wide = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > WIDTH
    ]
    assert wide == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_line_of_a_notebooks_code_is_too_wide(path):
    code = {cell.id: cell.source for cell in read(path).cells if cell.cell_type == "code"}
    wide = [
        cell for cell, source in code.items() if max(map(len, source.splitlines()), default=0) > CELL_WIDTH
    ]
    assert wide == []


def test_no_modules_import_each_other_in_a_circle():
    list(graphlib.TopologicalSorter(IMPORTS).static_order())  # CycleError names the circle


@pytest.mark.parametrize(
    ("room", "others"),
    [
        ("utils", {"utils", "utils.reading", "utils.inputs", "utils.answers"}),
        ("utils.answers", {"utils", "utils.reading", "utils.inputs", "utils.answers"}),
        ("utils.reading", {"utils", "utils.reading"}),
        ("utils.inputs", {"utils", "utils.inputs"}),
        ("utils.setup", {"utils", "utils.reading", "utils.setup"}),
        ("utils.preflight", {"utils", "utils.reading", "utils.inputs", "utils.setup", "utils.preflight"}),
        ("utils.batch", {"utils", "utils.reading", "utils.setup", "utils.batch"}),
        ("utils.baselines", {"utils", "utils.reading", "utils.inputs", "utils.baselines"}),
        (
            "utils.label_next",
            {"utils", "utils.reading", "utils.inputs", "utils.baselines", "utils.label_next"},
        ),
        (
            "utils.export",
            {"utils", "utils.reading", "utils.inputs", "utils.answers", "utils.preflight", "utils.export"},
        ),
        ("utils.lessons", {room_of(module) for module in MODULES}),
    ],
)
def test_dependencies_point_one_way(room, others):
    """From lessons to rooms to helper; preflight and batch do without each other."""
    assert room in map(room_of, MODULES)
    uses = [(module, name) for module in MODULES if room_of(module) == room for name in IMPORTS[module]]
    assert [(module, name) for module, name in uses if room_of(name) not in others] == []


def test_this_test_sees_an_import_wherever_it_stands():
    source = "import utils.batch.plan\nfrom utils import plots, sha256"
    source += "\ndef later():\n    from utils.lessons import loading"
    assert imported(source) == {"utils.batch.plan", "utils.plots", "utils", "utils.lessons.loading"}
    assert room_of("utils.preflight.checks.texts") == "utils.preflight"
    assert room_of("utils.plots") == room_of("utils") == "utils"


def test_a_reader_of_the_first_notebook_loads_neither_the_checks_nor_scikit_learn(run_python):
    """What `utils` adds: transformers loads scipy, too, where it is asked for Trainer."""
    cells = [cell.source for cell in read(NOTEBOOKS[0]).cells if cell.id.startswith("imports")]
    lines = "\n".join(cells).splitlines()
    ours = [line for line in lines if line.startswith("from utils")]
    theirs = [line for line in lines if line not in ours]
    program = [*theirs, "import sys", "before = set(sys.modules)", *ours, "print(*set(sys.modules) - before)"]
    ended = run_python("\n".join(program))
    assert ended.returncode == 0, ended.stderr
    loaded = set(ended.stdout.split())
    assert "utils.models" in loaded
    assert loaded & set(HEAVY) == set()
