"""The catalogue, and how a report looks."""

import pytest
from builders import as_the_template, bert, pair, table, trainer_for
from datasets import ClassLabel
from setups import ids_of, made
from test_check_arguments import SETUPS as ARGUMENTS
from test_check_labels import SETUPS as LABELS
from test_check_run import SETUPS as RUN
from test_check_texts import SETUPS as TEXTS
from transformers import EarlyStoppingCallback

from utils.findings import Finding, PreflightError, Report
from utils.preflight import catalogue, preflight
from utils.preflight.catalogue import CATALOGUE, pitfall

THEMES = ARGUMENTS, LABELS, RUN, TEXTS


def test_every_check_has_a_broken_setup():
    """A new check without one fails here; so does one whose fix nobody tried."""
    looked_for = {entry.id for entry in CATALOGUE.values() if entry.find is not None}
    cases = [case for theme in THEMES for case in theme.cases]
    assert looked_for - {case.id for case in cases} == set()
    no_remedy = {"dry-run", "fp16-weights", "several-gpus"}  # garbage, or it needs GPUs
    assert looked_for - {case.id for case in cases if case.mended} <= no_remedy | {"empty-tokenizer"}
    assert sum(len(theme.fine) for theme in THEMES) >= 90


def test_adding_a_check_is_one_function(tmp_path):
    try:

        @pitfall("odd-seed", "P", "warning", "The seed is 13", "seed=42")
        def odd_seed(setup):
            if setup.args.seed == 13:
                yield f"The seed is {setup.args.seed}.", "seed=42"

        found = preflight(trainer_for(tmp_path, seed=13)).findings
        assert found == [Finding("odd-seed", "warning", "The seed is 13.", "seed=42")]
        row = catalogue().set_index("id").loc["odd-seed"]
        assert row.tolist() == ["warning", "P", False, "The seed is 13", "seed=42"]
    finally:
        CATALOGUE.pop("odd-seed", None)


def test_the_catalogue_names_every_check_once():
    table = catalogue()
    assert table["id"].is_unique
    assert set(table["id"]) == set(CATALOGUE)
    assert set(table["level"]) == {"error", "warning"}
    assert set("".join(table["stages"])) <= set("RPWSCA")
    assert (table["symptom"].str.len() > 10).all()
    assert (table["fix"].str.len() > 3).all()


def test_what_the_catalogue_calls_loud_raises():
    """`loud`: the library raises by itself, as a broken set-up of the id shows."""
    loud = {entry.id for entry in CATALOGUE.values() if entry.loud and entry.find}
    raising = {case.id for theme in THEMES for case in theme.cases if case.raises}
    sometimes = {"frozen", "special-in-text"}  # where all is frozen; where BART or T5 reads it
    assert loud - {"fp16-weights"} == raising - sometimes  # which needs a GPU


def two_errors(folder):
    """Labels that the model cannot have, called by names that would run in a browser."""
    names = ["<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "Good", "good "]
    data = pair(labels=lambda rows: [i % 5 for i in range(rows)])
    stop = {"callbacks": [EarlyStoppingCallback(2)], "eval_strategy": "no", "load_best_model_at_end": False}
    return trainer_for(folder, model=bert(names), **data, **stop)


def test_a_report_names_every_error_with_its_fix_and_comes_as_text_and_as_table(tmp_path):
    report = preflight(two_errors(tmp_path))
    assert {finding.id for finding in report.errors} == {"label-range", "early-stopping"}
    with pytest.raises(PreflightError) as raised:
        report.raise_for_errors()
    assert str(raised.value).startswith(f"{len(report.errors)} error(s):\n")
    for finding in report.errors:
        assert f"error: {finding.id}: {finding.message}\n    fix: {finding.fix}" in str(raised.value)
    for finding in report.findings:
        assert (finding.id in str(raised.value)) == (finding.level == "error")
    levels = [finding.level for finding in report.findings]
    assert levels == sorted(levels)  # "error" before "warning"
    assert set(levels) == {"error", "warning"}
    lines = str(report).splitlines()
    assert lines[::2] == [f"{f.level}: {f.id}: {f.message}" for f in report.findings]
    assert lines[1::2] == [f"    fix: {f.fix}" for f in report.findings]
    assert report._repr_html_().count("<tr>") == 1 + len(report.findings)


def test_a_report_without_errors_returns_itself(tmp_path):
    report = preflight(trainer_for(tmp_path))
    assert report.raise_for_errors() is report
    assert str(report) == repr(report) == "Nothing found."
    assert report._repr_html_() == "<p>Nothing found.</p>"
    warned = preflight(trainer_for(tmp_path, fp16=True))
    assert warned.raise_for_errors() is warned
    assert ids_of(warned) == {"fp16-on-cpu"}


def test_what_came_from_data_is_escaped_in_the_table(tmp_path):
    names = ClassLabel(names=["<script>alert(1)</script>", "<img src=x onerror=alert(2)>"])
    data = table().cast_column("label", names)
    report = preflight(trainer_for(tmp_path, train=data, held_out=table(12, 1).cast_column("label", names)))
    assert any("<script>" in finding.message and "onerror" in finding.message for finding in report.findings)
    html = report._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;img src=x onerror=alert(2)&gt;" in html
    odd = Report([Finding("<b>", "<i>", "<u>&", '<a href="x">')])._repr_html_()
    for escaped in ("&lt;b&gt;", "&lt;i&gt;", "&lt;u&gt;&amp;", "&lt;a href=&quot;x&quot;&gt;"):
        assert escaped in odd


def test_the_projects_own_set_up_has_the_finding_that_the_lesson_speaks_of(tmp_path, tweets):
    """As the template builds it: the bundled model on the tweets, some of which are there four times."""
    trainer, test = made(lambda _: as_the_template(tweets, callbacks=[EarlyStoppingCallback(2)]), tmp_path)
    assert ids_of(preflight(trainer, test_dataset=test)) == {"predict-order", "near-repeats"}
