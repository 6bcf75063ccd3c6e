"""The static gate: what every notebook has to be before anybody runs it."""

import ast
import base64
import io
import re
import statistics
import tokenize

import drift
import nbformat
import pytest
import yaml
from PIL import Image

from notebooks import LESSONS, NOTEBOOKS, STATE, TEMPLATE, WIDGET, cell_of, exercises, plain_python, read
from utils import ROOT
from utils.parameters import PARAMETERS, check_parameters

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)

# What the lessons may have, together: cells, words, lines of code that are not blank.
MOST = {"cells": 435, "words": 15_150, "lines": 1_600}
# What stands in 01 up to the first accuracy of a trained model.
FIRST_SCORE = {"cells": 12, "words": 400, "lines": 40}
SHARED = {"split", "tokenise", "model", "arguments", "trainer"}  # cells of 04 and of the template, at least
OWN = ("imports", "parameters")  # cells of that id differ between the two
MIDDLE = {"template": 12, "07_after_training": 10}  # no lesson; each section calls another library
LONG = ("parameters", "arguments")  # a value a line, with its reason: as long as they have to be


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def outputs_as_text(cell):
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        data = output.get("data", {})
        yield from (data[kind] for kind in ("text/plain", "text/html") if kind in data)


def words(cells):
    return sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")


def length(cell):
    """Return the number of a cell's lines that are not blank."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def size(cells):
    return {
        "cells": len(cells),
        "words": words(cells),
        "lines": sum(length(cell) for cell in cells if cell.cell_type == "code"),
    }


def to_first_score(notebook):
    """Return a notebook's cells up to the first that shows an accuracy after a training."""
    trained = False
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            trained = trained or re.search(r"\btrainer\.train\(", cell.source) is not None
            if trained and "accuracy" in "".join(outputs_as_text(cell)).lower():
                return notebook.cells[:number]
    raise AssertionError("no cell shows an accuracy after a training")


def different(one, other):
    """Return the ids of the code cells whose source differs between two notebooks, and of all they share."""
    sources = [{cell.id: cell.source for cell in code_cells(notebook)} for notebook in (one, other)]
    shared = sources[0].keys() & sources[1].keys() - set(OWN)
    return {cell_id for cell_id in shared if sources[0][cell_id] != sources[1][cell_id]}, shared


def kinds(cell):
    """Return the MIME types of a cell's outputs."""
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}


def widgets_alone(notebook, near=2):
    """Return the ids of the cells with a widget that have no figure or table in their own output or in that
    of a cell at most `near` cells away.
    """
    static = [bool(kinds(cell) & {"image/png", "text/html"}) for cell in notebook.cells]
    with_widget = [k for k, cell in enumerate(notebook.cells) if WIDGET in kinds(cell)]
    return [notebook.cells[k].id for k in with_widget if not any(static[max(0, k - near) : k + near + 1])]


def defaults(notebook):
    """Return the parameters cell as a dict; it may hold literals only."""
    (parameters,) = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(parameters.source).body}


@every_notebook
def test_it_is_valid_and_every_cell_parses(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        ast.parse(plain_python(cell), filename=f"{path.name}:{cell.id}")
    assert all(re.fullmatch(r"[a-z0-9-]+", cell.id) for cell in notebook.cells), (
        "ids are chosen, so that they stay"
    )


@every_notebook
def test_it_opens_as_every_other(path):
    notebook = read(path)
    assert notebook.cells[0].source.startswith("# ")
    assert "you will" in notebook.cells[0].source or path == TEMPLATE
    assert [cell.id for cell in code_cells(notebook)][:3] == ["bootstrap", "imports", "parameters"]
    assert cell_of(notebook, "bootstrap").source == cell_of(read(NOTEBOOKS[0]), "bootstrap").source
    assert notebook.metadata.kernelspec.name == "python3"


@every_notebook
def test_headings_descend_in_steps(path):
    levels = [
        len(level)
        for cell in read(path).cells
        if cell.cell_type == "markdown"
        for level in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", cell.source, flags=re.S), flags=re.M)
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


@every_notebook
def test_parameters_are_commented_literals_that_pass_their_own_check(path):
    notebook = read(path)
    values = defaults(notebook)
    assert set(values) <= set(PARAMETERS)
    assert check_parameters(values, tuple(values)) == values
    for line in cell_of(notebook, "parameters").source.splitlines():
        assert re.fullmatch(r"\w+ = .+  # .+|# .+|", line), line
    assert any("check_parameters(globals()" in cell.source for cell in code_cells(notebook))


@every_notebook
def test_cells_are_short(path, record_property):
    cells = code_cells(read(path))
    lengths = {cell.id: length(cell) for cell in cells}
    middle = statistics.median(lengths.values())
    record_property(
        f"lines of a code cell of {path.stem}", f"{middle:g} (median), {max(lengths.values())} (most)"
    )
    assert middle <= MIDDLE.get(path.stem, 6)
    assert lengths["bootstrap"] <= 6
    assert lengths["imports"] <= 12
    assert {name: lines for name, lines in lengths.items() if lines > 20 and name not in LONG} == {}


def test_the_course_is_short(record_property):
    sizes = {path.stem: size(read(path).cells) for path in LESSONS}
    together = {what: sum(counts[what] for counts in sizes.values()) for what in MOST}
    for name, counts in (sizes | {"all lessons": together}).items():
        record_property(f"size of {name}", counts)
    assert len(sizes) >= 6
    assert {what: count for what, count in together.items() if count > MOST[what]} == {}


def test_the_first_lesson_trains_first(record_property):
    counts = size(to_first_score(read(LESSONS[0])))
    record_property("until the first accuracy of a trained model", counts)
    assert {what: count for what, count in counts.items() if count > FIRST_SCORE[what]} == {}


def test_an_accuracy_before_training_is_not_the_first_score():
    new = nbformat.v4
    score = [new.new_output("stream", text="accuracy 0.5")]
    cells = [
        new.new_markdown_cell("# One two"),
        new.new_code_cell("print(score)", outputs=score),
        new.new_code_cell("trainer.train()\n\n# done"),
        new.new_code_cell("print(score)", outputs=score),
        new.new_markdown_cell("much more"),
    ]
    notebook = new.new_notebook(cells=cells)
    assert size(to_first_score(notebook)) == {"cells": 4, "words": 3, "lines": 4}
    cells.pop(3)
    with pytest.raises(AssertionError, match="no cell shows an accuracy after a training"):
        to_first_score(new.new_notebook(cells=cells))


def test_the_template_and_readme_are_short(record_property):
    counts = size(read(TEMPLATE).cells)
    record_property("size of the template", counts)
    readme = len((ROOT / "README.md").read_text(encoding="utf-8").split())
    record_property("words of README", readme)
    assert counts["cells"] <= 30
    assert readme <= 800


def test_lesson_and_template_share_their_cells(record_property):
    (lesson,) = [path for path in LESSONS if path.stem == "04_training"]
    changed, shared = different(read(lesson), read(TEMPLATE))
    record_property("cells that 04 and the template share", ", ".join(sorted(shared)))
    assert shared >= SHARED
    assert changed == set()


def test_a_cell_that_differs_is_seen():
    cells = [nbformat.v4.new_code_cell(f"a = {name!r}", id=name) for name in ("imports", "split", "model")]
    one, other = (nbformat.v4.new_notebook(cells=list(map(nbformat.from_dict, cells))) for _ in range(2))
    assert different(one, other) == (set(), {"split", "model"})
    other.cells[0].source = other.cells[2].source = "b = 1"
    assert different(one, other) == ({"model"}, {"split", "model"})


@every_lesson
def test_the_recap_is_short(path):
    text = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    (recap,) = re.findall(r"^## Recap\n(.*?)(?=^#|\Z)", text, flags=re.M | re.S)
    assert 20 <= len(recap.split()) <= 60


@every_notebook
def test_no_output_is_there_for_a_test(path):
    """A line that ends in ": True" says to a reader what a test should say to us."""
    twins = [
        (cell.id, line)
        for cell in code_cells(read(path))
        for output in cell.outputs
        if "text/html" not in output.get("data", {})
        for line in (output.get("text") or output.get("data", {}).get("text/plain", "")).splitlines()
        if re.search(r": (True|False)\W*$", line)
    ]
    assert twins == []


@every_notebook
def test_it_imports_by_name_and_trusts_nobody(path):
    for cell in code_cells(read(path)):
        for node in ast.walk(ast.parse(plain_python(cell))):
            assert not (
                isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
            ), f"star import in {cell.id}"
            assert not (
                isinstance(node, ast.keyword)
                and node.arg == "trust_remote_code"
                and getattr(node.value, "value", True)
            ), cell.id


@every_notebook
def test_outputs_are_those_of_one_run_and_clean(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run from top to bottom: make notebooks"
    for cell in code_cells(notebook):
        assert not [output for output in cell.outputs if output.output_type == "error"], cell.id
        for text in outputs_as_text(cell):
            assert not re.search(r"/(home|root|work|tmp|Users|content)/\w", text), (
                f"a machine's path in {cell.id}: {text[:300]}"
            )
            assert not re.search(r"(it|examples)/s\b|\d%\||<progress", text), f"a progress bar in {cell.id}"
            assert "<script" not in text.lower(), cell.id
    widgets = notebook.metadata.get("widgets")
    assert widgets is None or all("state" in value for value in widgets.values())
    assert path.stat().st_size < 1_000_000


@every_notebook
def test_every_figure_is_described(path):
    """For those who can't see it: `alt` in the cell's metadata, which nbconvert and `make site` use."""
    figures = [cell for cell in code_cells(read(path)) if "image/png" in kinds(cell)]
    assert figures
    for cell in figures:
        assert len(cell.metadata.get("alt", "")) > 40, cell.id


@every_notebook
def test_figures_bring_their_white_paper(path):
    """Black axis labels on a transparent ground can't be read where the page is dark. Pictures within widgets
    are in the notebook's metadata.
    """
    pictures = [
        output.data["image/png"]
        for cell in code_cells(read(path))
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    state = read(path).metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    images = [model for model in state.values() if model["model_name"] == "ImageModel"]
    pictures += [
        buffer["data"]
        for model in images
        for buffer in model.get("buffers", [])
        if buffer["path"] == ["value"]
    ]
    assert pictures
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
        assert image.getchannel("A").getextrema() == (255, 255)
        corners = [image.getpixel((x, y)) for x in (0, image.width - 1) for y in (0, image.height - 1)]
        assert set(corners) == {(255, 255, 255, 255)}


@every_notebook
def test_a_widget_stands_beside_a_figure_or_table(path):
    """GitHub, papermill's copies and the site show no widgets."""
    notebook = read(path)
    assert widgets_alone(notebook) == []
    for cell in code_cells(notebook):  # and where figures and tables are gone, that is seen
        cell.outputs = [output for output in cell.outputs if WIDGET in output.get("data", {})]
    assert widgets_alone(notebook) == [cell.id for cell in code_cells(notebook) if cell.outputs]


@every_notebook
def test_compared_cells_have_something_to_compare_and_no_clock(path):
    compared = [cell for cell in code_cells(read(path)) if "nbval-check-output" in tags(cell)]
    assert len(compared) >= (0 if path == TEMPLATE else 5)
    for cell in compared:
        assert cell.outputs, cell.id
        for text in outputs_as_text(cell):
            assert not re.search(r"runtime|per_second|\bseconds\b|\d ms\b", text), f"a time in {cell.id}"


@every_lesson
def test_exercises_have_checks_and_start_unanswered(path):
    notebook = read(path)
    assert 2 <= len(exercises(notebook)) <= 3
    assert notebook.cells[-1].id == "solutions"
    for number, cell_id in enumerate(exercises(notebook), start=1):
        check = cell_of(notebook, f"{cell_id}-check")
        assert f"exercise {number}:" in "".join(outputs_as_text(check))
        assert "not answered yet" in "".join(outputs_as_text(check))


@every_notebook
def test_every_keyword_argument_exists_in_the_installed_library(path):
    """Renamed arguments break old tutorials; tests/tools/drift.py finds them without running anything."""
    found = list(drift.uses(read(path)))
    assert len([use for use in found if use.verdict == drift.THERE]) > 10, "it found hardly any"
    assert [use for use in found if use.verdict == drift.MISSING] == []


@pytest.mark.parametrize(
    "cell",
    [
        'TrainingArguments("out", evaluation_strategy="epoch")',
        'settings = {"evaluation_strategy": "epoch"}\nTrainingArguments("out", **settings)',
        'def helper(a, **b):\n    return TrainingArguments(**b)\n\n\nhelper(1, evaluation_strategy="epoch")',
        "Trainer(tokenizer=1)",
        "trainer.evaluate(evaluation_strategy=1)",
        "BertConfig(evaluation_strategy=2)",
        "torch.manual_seed(seed=1)\ntorch.optim.AdamW([], evaluation_strategy=1)",
    ],
    ids=["direct", "dict", "helper", "trainer", "method", "config", "dotted"],
)
def test_drift_sees_an_argument_that_is_gone(cell):
    imports = "import torch\nfrom transformers import BertConfig, Trainer, TrainingArguments"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (imports, cell)]
    )
    assert [use.verdict for use in drift.uses(notebook)].count(drift.MISSING) == 1


@every_notebook
def test_comments_and_text_name_no_machine(path):
    for cell in read(path).cells:
        assert not re.search(r"/(home|root|work|Users)/\w", cell.source), cell.id
        if cell.cell_type == "code":
            for token in tokenize.generate_tokens(io.StringIO(cell.source).readline):
                assert not (
                    token.type == tokenize.COMMENT and re.search(r"\b(TODO|FIXME|XXX)\b", token.string)
                ), cell.id


def test_parameter_files_fit_the_template():
    notebook = read(TEMPLATE)
    assert sorted(defaults(notebook)) == sorted(PARAMETERS)
    for file in sorted((ROOT / "notebooks" / "params").glob("*.yaml")):
        given = yaml.safe_load(file.read_text())
        if "notebook" in given:  # a sweep, for utils.batch; tests/batch/test_batch.py reads it
            continue
        lines = [
            yaml.safe_load(line) for line in re.findall(r"^# (\w+: .+)$", file.read_text(), flags=re.M)
        ]  # values to be uncommented
        for values in (given, *(line for line in lines if set(line) <= set(PARAMETERS))):
            check_parameters(
                defaults(notebook)
                | values
                | {"In": ["# Parameters\n" + "\n".join(f"{name} = 0" for name in values)]}
            )
        assert "papermill notebooks/template.ipynb " in file.read_text()
        assert f"-f notebooks/params/{file.name}" in file.read_text()
