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

from notebooks import NOTEBOOKS, STATE, WIDGET, cell_of, exercises, plain_python, read
from utils import ROOT
from utils.parameters import PARAMETERS, check_parameters

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def outputs_as_text(cell):
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        data = output.get("data", {})
        yield from (data[kind] for kind in ("text/plain", "text/html") if kind in data)


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


def test_it_is_valid_and_every_cell_parses(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        ast.parse(plain_python(cell), filename=f"{path.name}:{cell.id}")
    assert all(re.fullmatch(r"[a-z0-9-]+", cell.id) for cell in notebook.cells), (
        "ids are chosen, so that they stay"
    )


def test_it_opens_as_every_other(path):
    notebook = read(path)
    assert notebook.cells[0].source.startswith("# ")
    assert "you will" in notebook.cells[0].source
    ids = [cell.id for cell in code_cells(notebook)]
    opening = ids[: ids.index("parameters")]
    assert opening[:2] == ["bootstrap", "imports"]
    assert all(cell_id.startswith("imports") for cell_id in opening[1:]), (
        "a long list of imports may be two cells"
    )
    assert cell_of(notebook, "bootstrap").source == cell_of(read(NOTEBOOKS[0]), "bootstrap").source
    assert notebook.metadata.kernelspec.name == "python3"


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


def test_parameters_are_commented_literals_that_pass_their_own_check(path):
    notebook = read(path)
    values = defaults(notebook)
    assert set(values) <= set(PARAMETERS)
    assert check_parameters(values, tuple(values)) == values
    for line in cell_of(notebook, "parameters").source.splitlines():
        assert re.fullmatch(r"\w+ = .+  # .+", line), line
    assert any("check_parameters(globals()" in cell.source for cell in code_cells(notebook))


def test_cells_are_short(path):
    cells = [
        cell
        for cell in code_cells(read(path))
        if cell.id not in ("bootstrap", "parameters") and not cell.id.startswith("imports")
    ]
    lengths = {cell.id: len(cell.source.splitlines()) for cell in cells}
    assert statistics.median(lengths.values()) <= 8
    # one call of TrainingArguments with a reason beside each value is one idea, which the reader came for
    assert {name: length for name, length in lengths.items() if length > 20 and name != "arguments"} == {}


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


def test_every_figure_is_described(path):
    """For those who can't see it: `alt` in the cell's metadata, which nbconvert and `make site` use."""
    figures = [cell for cell in code_cells(read(path)) if "image/png" in kinds(cell)]
    assert figures
    for cell in figures:
        assert len(cell.metadata.get("alt", "")) > 40, cell.id


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


def test_a_widget_stands_beside_a_figure_or_table(path):
    """GitHub, papermill's copies and the site show no widgets."""
    notebook = read(path)
    assert widgets_alone(notebook) == []
    for cell in code_cells(notebook):  # and where figures and tables are gone, that is seen
        cell.outputs = [output for output in cell.outputs if WIDGET in output.get("data", {})]
    assert widgets_alone(notebook) == [cell.id for cell in code_cells(notebook) if cell.outputs]


def test_compared_cells_have_something_to_compare_and_no_clock(path):
    compared = [cell for cell in code_cells(read(path)) if "nbval-check-output" in tags(cell)]
    assert len(compared) >= 10
    for cell in compared:
        assert cell.outputs, cell.id
        for text in outputs_as_text(cell):
            assert not re.search(r"runtime|per_second|\bseconds\b|\d ms\b", text), f"a time in {cell.id}"


def test_exercises_have_checks_and_start_unanswered(path):
    notebook = read(path)
    assert 2 <= len(exercises(notebook)) <= 3
    assert notebook.cells[-1].id == "solutions"
    for number, cell_id in enumerate(exercises(notebook), start=1):
        check = cell_of(notebook, f"{cell_id}-check")
        assert f"exercise {number}:" in "".join(outputs_as_text(check))
        assert "not answered yet" in "".join(outputs_as_text(check))


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
def test_drift_sees_an_argument_that_is_gone(path, cell):
    if path != NOTEBOOKS[0]:
        return  # once is enough
    imports = "import torch\nfrom transformers import BertConfig, Trainer, TrainingArguments"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (imports, cell)]
    )
    assert [use.verdict for use in drift.uses(notebook)].count(drift.MISSING) == 1


def test_comments_and_text_name_no_machine(path):
    for cell in read(path).cells:
        assert not re.search(r"/(home|root|work|Users)/\w", cell.source), cell.id
        if cell.cell_type == "code":
            for token in tokenize.generate_tokens(io.StringIO(cell.source).readline):
                assert not (
                    token.type == tokenize.COMMENT and re.search(r"\b(TODO|FIXME|XXX)\b", token.string)
                ), cell.id


def test_parameter_files_fit_the_template(path):
    if path.stem != "04_training":
        return
    notebook = read(path)
    assert list(defaults(notebook)) == list(PARAMETERS)
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
        assert f"-f notebooks/params/{file.name}" in file.read_text()
