"""Many runs: refused as a whole or run as a whole, and the same as one by hand. Kills: test_kills.py."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pandas as pd
import pytest
from batches import completed_runs, errors_in, notebook_of
from builders import save_small
from filelock import Timeout

import utils.batch.runner
import utils.batch.worker
from notebooks import printed, read
from utils import ROOT, unquote_formula
from utils.batch.__main__ import main
from utils.batch.plan import BatchError, read_plan, run_id
from utils.batch.runner import jobs_of, run_batch
from utils.batch.worker import PROGRAM
from utils.setup import gpu

TEMPLATE = ROOT / "notebooks" / "template.ipynb"
PARAMETERS = """
number = 1  # what it writes down
pause = 0.0  # a number with a point
name = "a"  # a text
marks = {1}  # what YAML and JSON do not know
"""


@pytest.fixture
def notebook(tmp_path):
    return notebook_of(tmp_path / "small.ipynb")


@pytest.fixture
def unrun(tmp_path):
    """A notebook with parameters of several types, which no test runs."""
    return notebook_of(tmp_path / "unrun.ipynb", PARAMETERS)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


# --- the plan -----------------------------------------------------------------------------------------------


def refused(spec):
    with pytest.raises(BatchError) as refusal:
        read_plan(spec)
    return str(refusal.value)


def test_the_grid_is_multiplied_and_further_runs_are_added(unrun):
    spec = {
        "notebook": unrun,
        "parameters": {"pause": 0.5},
        "grid": {"number": [1, 2], "name": ["a", "b"]},
        "runs": [{"number": 9, "pause": 0}],
    }
    runs = read_plan(spec).runs
    given = [tuple(run.parameters.get(name) for name in ("number", "name", "pause")) for run in runs]
    assert given == [(1, "a", 0.5), (1, "b", 0.5), (2, "a", 0.5), (2, "b", 0.5), (9, None, 0)]
    assert runs[4].settings == {
        "pause": 0,
        "number": 9,
        "name": "a",
    }  # the notebook's default, for the leaderboard
    assert len(read_plan({"notebook": unrun}).runs) == 1
    assert len(read_plan({"notebook": unrun, "runs": [{"number": 3}]}).runs) == 1


def test_all_faults_of_a_sweep_are_named_at_once_with_their_places(tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        f"notebook: {TEMPLATE}\nparameter: {{}}\nparameters: {{sead: 1, output_dir: here}}\n"
        "grid: {learning_rate: [2.0e-5, 2e-5], num_train_epochs: 1}\nruns: [{max_length: 0}, 7]\n"
    )
    message = refused(tmp_path / "sweep.yaml")
    for fault in (
        "there is no key 'parameter'. Did you mean 'parameters'?",
        "parameters: there is no parameter 'sead'. Did you mean 'seed'?",
        "parameters: output_dir is set by the batch",
        "grid: learning_rate must be a number between 0 and 1, such as 5e-5 (in YAML: 5.0e-5), or None, "
        "not '2e-5' (str); YAML reads it as a text: write 2.0e-5",
        "grid: num_train_epochs must be a list of at least one value, not 1",
        "runs[0]: max_length must be a whole number, 3 or more, not 0",
        "runs[1] must hold names and values, not 7",
    ):
        assert fault in message
    assert len(message.splitlines()) == 7


def test_the_sweep_of_the_repository_is_a_good_one():
    runs = read_plan(ROOT / "notebooks" / "params" / "sweep.yaml").runs
    assert [(run.parameters["learning_rate"], run.parameters["seed"]) for run in runs] == [
        (5e-5, 1),
        (5e-5, 2),
        (1e-4, 1),
        (1e-4, 2),
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grid": {"number": ["two"]}}, "grid: number must be like its default 1, not 'two' (str)"),
        ({"grid": {"pause": ["3e5"]}}, "write 3.0e+5"),
        ({"grid": {"number": [True]}}, "not True (bool)"),
        ({"grid": {"pause": [float("nan")]}}, "pause must be a number, a text"),
        (
            {"grid": {"number": [1, 1.0]}},
            "grid {'number': 1.0}: this run is the same as grid {'number': 1}; remove one of them",
        ),
        (
            {"grid": {"number": [1, 2]}, "runs": [{"number": 2, "name": "a"}]},
            "runs[0]: this run is the same as grid {'number': 2}",
        ),
        ({"grid": {"number": []}}, "grid: number must be a list of at least one value"),
        ({"grid": [1]}, "grid must be names with values, not [1]"),
        ({"notebook": "nowhere.ipynb"}, "There is no 'nowhere.ipynb'"),
        ({"notebook": str(ROOT / "pyproject.toml")}, "cannot be read as a notebook"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused(unrun, changes, says):
    assert says in refused({"notebook": unrun} | changes)


def test_parameters_that_do_not_go_together_are_refused_before_anything_runs(tmp_path):
    names = "class_weights = False\nlabel_smoothing_factor = 0.0"
    spec = {"notebook": notebook_of(tmp_path / "two.ipynb", names), "grid": {"class_weights": [False, True]}}
    read_plan(spec)
    message = refused(spec | {"parameters": {"label_smoothing_factor": 0.3}})
    assert message.startswith("grid {'class_weights': True}: class_weights and label_smoothing_factor")
    assert len(message.splitlines()) == 1


def test_a_key_that_stands_twice_is_refused_and_python_objects_are_not_made(tmp_path, unrun):
    (tmp_path / "twice.yaml").write_text(f"notebook: {unrun}\ngrid:\n  number: [1]\n  number: [2]\n")
    assert "line 4: number stands twice" in refused(tmp_path / "twice.yaml")
    (tmp_path / "evil.yaml").write_text("notebook: !!python/object/apply:os.getcwd []\n")
    assert "cannot be read" in refused(tmp_path / "evil.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must hold the keys notebook"),
        ("- 1", "must hold the keys notebook"),
        ("grid: [", "cannot be read: while parsing"),
        ("day: 2026-02-30", "cannot be read: day is out of range"),
        ("notebook: &a [*a]", "notebook: There is no '[[...]]'"),
        ("notebook: NOTEBOOK\nparameters: {number: &a [*a]}", "parameters: number must be a number, a text"),
        ("[" * 1000, "cannot be read: maximum recursion depth"),
        ("\x00", "cannot be read: unacceptable character"),
        ("grid: {number: [1]}", "notebook: There is no 'no notebook was named'"),
        ("notebook: nowhere.ipynb", "notebook: There is no 'nowhere.ipynb'"),
        ("notebook: NOTEBOOK\ngrid: {number: 1}", "grid: number must be a list"),
        ("notebook: NOTEBOOK\ngrid: {numbr: [1]}", "grid: there is no parameter 'numbr'"),
        ("notebook: NOTEBOOK\nnotebook: NOTEBOOK", "cannot be read: line 2: notebook stands twice"),
        ("notebook: NOTEBOOK\ngrid: {number: [1, 1]}", "grid {'number': 1}: this run is the same"),
    ],
)
def test_a_fault_of_a_file_begins_with_its_name(tmp_path, unrun, text, says):
    (tmp_path / "my sweep.yaml").write_text(text.replace("NOTEBOOK", unrun))
    assert refused(tmp_path / "my sweep.yaml").startswith(f"{tmp_path / 'my sweep.yaml'}: {says}")


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "latin.yaml").write_bytes("notebook: café.ipynb".encode("latin-1"))
    assert refused(tmp_path / "latin.yaml").startswith(
        f"{tmp_path / 'latin.yaml'}: cannot be read: 'utf-8' codec"
    )
    assert refused(tmp_path).startswith(f"{tmp_path}: cannot be read: ")
    monkeypatch.chdir(tmp_path)
    assert main(["sweeep.yaml", "--output-dir", "out"]) == 2
    assert capsys.readouterr().err.startswith("sweeep.yaml: cannot be read: There is no 'sweeep.yaml' in ")
    assert refused({"notebook": "nowhere.ipynb"}).startswith("notebook: ")  # what is in no file has no name


def test_a_refused_sweep_starts_nothing_and_leaves_nothing(tmp_path, unrun, capsys):
    (tmp_path / "sweep.yaml").write_text(f"notebook: {unrun}\ngrid: {{numbr: [1, 2]}}\n")
    assert main([str(tmp_path / "sweep.yaml"), "--output-dir", str(tmp_path / "out")]) == 2
    assert "there is no parameter 'numbr'. Did you mean 'number'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_run_ids_are_readable_safe_and_depend_on_the_parameters_only():
    given = {"learning_rate": 2e-5, "data_file": "/far/away/my table: v2?.csv", "seed": 1}
    one = run_id(given, given, "04.ipynb")
    assert one == run_id(dict(reversed(given.items())), dict(reversed(given.items())), "04.ipynb")
    assert one == run_id(given | {"seed": 1.0}, given | {"seed": 1.0}, "04.ipynb")
    assert one.startswith("data_file-my-table-v2-.csv_learning_rate-2e-05_seed-1-")
    assert one.rpartition("-")[2] == "e46bafb21e"  # the same on every machine
    long = {f"parameter_{k}": "x" * 50 for k in range(9)}
    assert len(run_id(long, long, "04.ipynb")) <= 71
    assert run_id({}, {}, "04.ipynb").startswith("run-")
    ids = {
        run_id({"text": text}, {"text": text}, "04.ipynb").lower()
        for text in ("a", "A", "ä", "ö", "a ", "1", 1, "x" * 99, "x" * 98)
    }
    assert len(ids) == 9  # also where the file system ignores case


# --- runs ---------------------------------------------------------------------------------------------------


def test_a_failing_run_stops_no_other_and_the_same_again_runs_only_the_failed_one(
    tmp_path, notebook, capsys, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # the user's own number
    sweep, out = tmp_path / "sweep.yaml", tmp_path / "out"
    sweep.write_text(
        f"notebook: {notebook}\nparameters: {{gates: null}}\ngrid: {{number: [1]}}\n"
        "runs: [{number: 7, broken: true}, {number: 8}]\n"
    )
    command = [str(sweep), "--output-dir", str(out), "--workers", "2"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "all with gates None\n  to do      number-1-" in said
    assert said.endswith("3 to do\n")
    assert not out.exists()

    assert main(command) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("failed: broken-True_number-7-")
    assert said.out.splitlines()[1].startswith("2 completed, 1 failed")
    assert said.err == ""  # bars are switched off
    table = pd.read_csv(out / "leaderboard.csv", keep_default_na=False)
    assert list(table.columns) == ["run_id", "gates", "number", "broken", "status", "seconds", "error"]
    assert table["status"].tolist() == ["completed", "failed", "completed"]
    assert table["error"].tolist() == ["", "ValueError: number 7 is broken", ""]
    bad = out / table["run_id"][1]
    assert errors_in(read(bad / "notebook.ipynb")) == [("ValueError", "number 7 is broken")]
    assert printed(read(out / table["run_id"][2] / "notebook.ipynb"), "work").split() == [
        "8",
        "None",
        "7",
        "False",
    ]

    before, began = completed_runs(out), (bad / "began.txt").stat().st_mtime_ns
    assert len(before) == 2
    capsys.readouterr()
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("2 completed, 1 failed\n")
    assert main([*command, "--no-retry-failed"]) == 1
    assert (bad / "began.txt").stat().st_mtime_ns == began
    assert main(command) == 1  # continues from the checkpoint
    assert (bad / "began.txt").stat().st_mtime_ns > began
    assert json.loads((bad / "run.json").read_text())["resumed"]
    assert not (out / "previous").exists()
    assert completed_runs(out) == before


def test_two_workers_run_side_by_side_and_give_what_one_gives(tmp_path, notebook, monkeypatch):
    from dask.system import CPU_COUNT

    tables = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for workers in (1, 2):
        # With two workers, one run ends only when the other has begun; with one worker that would be never.
        work = tmp_path / f"{workers}.ipynb"
        notebook_of(work, work=read(notebook).cells[1].source.replace(">= together", f">= {workers}"))
        (tmp_path / "same.ipynb").unlink(missing_ok=True)
        work.rename(tmp_path / "same.ipynb")
        out = tmp_path / str(workers)
        tables.append(
            run_batch(
                {"notebook": str(tmp_path / "same.ipynb"), "grid": {"number": [1, 2]}}, out, workers=workers
            )
        )
        assert tables[-1]["error"].tolist() == ["", ""]
        began, ended = (
            [(out / run / f"{name}.txt").stat().st_mtime_ns for run in tables[-1]["run_id"]]
            for name in ("began", "result")
        )
        assert (max(began) < min(ended)) == (workers == 2)
        # the cores are shared out as for two, also where one works alone
        threads = str(max(1, CPU_COUNT // 2))
        assert [
            printed(read(out / run / "notebook.ipynb"), "work").split()[2] for run in tables[-1]["run_id"]
        ] == [threads, threads]
    pd.testing.assert_frame_equal(tables[0].drop(columns="seconds"), tables[1].drop(columns="seconds"))

    monkeypatch.setattr(
        utils.batch.runner,
        "_cluster",
        lambda *_: pytest.fail("a cluster was started with nothing left to do"),
    )
    pd.testing.assert_frame_equal(
        run_batch({"notebook": str(tmp_path / "same.ipynb"), "grid": {"number": [1, 2]}}, out, workers=2),
        tables[1],
    )
    assert pd.read_csv(out / "leaderboard.csv")["number"].tolist() == [1, 2]


# --- the template -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_template_gives_what_a_plain_papermill_call_gives(tmp_path, tweets, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tweets.rows[["text", "label"]].head(200).to_csv(tmp_path / "few.csv", index=False)
    save_small(tmp_path / "small")
    common = {"data_file": str(tmp_path / "few.csv"), "max_train_samples": 32, "num_train_epochs": 1}
    common |= {"model_name": str(tmp_path / "small")}
    words = [
        word
        for name, value in (common | {"seed": 3, "output_dir": "plain"}).items()
        for word in ("-p", name, str(value))
    ]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(TEMPLATE), "plain.ipynb", *words]
    with open(
        tmp_path / "log.txt", "w"
    ) as log:  # beside the batch: with one thread each they do not disturb each other
        plain = subprocess.Popen(command, cwd=tmp_path, env=os.environ, stdout=log, stderr=log)
    table = run_batch(
        {"notebook": str(TEMPLATE), "parameters": common, "grid": {"seed": [3]}},
        tmp_path / "batch",
        workers=1,
    )
    assert plain.wait(300) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    assert table["error"].tolist() == [""]
    folder = tmp_path / "batch" / table["run_id"][0]
    ours, theirs = (json.loads((each / "metrics.json").read_text()) for each in (folder, tmp_path / "plain"))
    for rung in [*ours["baselines"].values(), *theirs["baselines"].values()]:
        assert rung.pop("seconds") > 0  # all else is equal
    for block in ("validation", "test", "untrained", "baselines", "data"):
        assert ours[block] == theirs[block]
    assert (folder / "predictions.csv").read_bytes() == (tmp_path / "plain" / "predictions.csv").read_bytes()
    assert (folder / "model" / "model.safetensors").exists()
    assert not (folder / "checkpoints").exists()
    assert table["test_accuracy"][0] == ours["test"]["accuracy"]
    assert table["validation_f1_macro"][0] == ours["validation"]["f1_macro"]
    assert table.columns.tolist() == [
        "run_id", "data_file", "max_train_samples", "num_train_epochs", "model_name", "seed", "status",
        "validation_accuracy", "validation_f1_macro", "test_accuracy", "test_f1_macro", "seconds", "error",
    ]  # fmt: skip


def test_a_run_killed_after_its_metrics_were_written_counts_and_one_of_other_parameters_does_not(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    job = {"folder": str(folder), "parameters": {"seed": 1}}
    scores = {"accuracy": 0.5, "f1_macro": 0.4, "loss": 1.0}
    (folder / "run.json").write_text(
        json.dumps({"status": "running", "parameters": {"seed": 1}, "started": time.time() - 5})
    )
    assert utils.batch.worker.record_of(job) is None
    (folder / "metrics.json").write_text(
        json.dumps({"parameters": {"seed": 1, "task": "x"}, "validation": scores, "test": scores})
    )
    record = utils.batch.worker.record_of(job)
    assert record["status"] == "completed"
    assert record["scores"] == {
        "validation_accuracy": 0.5,
        "validation_f1_macro": 0.4,
        "test_accuracy": 0.5,
        "test_f1_macro": 0.4,
    }
    assert record["seconds"] == pytest.approx(5, abs=1)
    assert utils.batch.worker.record_of(job | {"parameters": {"seed": 2}}) is None
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.json").unlink()
    assert utils.batch.worker.record_of(job) is None


@pytest.mark.parametrize(
    ("value", "stands"),
    [
        ('=HYPERLINK("http://x.example","y")', '\'=HYPERLINK("http://x.example","y")'),
        ("+1+1", "'+1+1"),
        ("-a", "'-a"),
        ("@name", "'@name"),
        ("'=1", "''=1"),
        ("-3.5", "-3.5"),
        ("a=1", "a=1"),
        (-2, "-2"),
        (None, ""),
        (["=1"], "['=1']"),
    ],
)
def test_no_cell_of_the_leaderboard_is_a_formula(tmp_path, unrun, value, stands):
    notebook = notebook_of(tmp_path / "any.ipynb", "anything = None\nseconds = 1")
    plan = read_plan({"notebook": notebook, "parameters": {"anything": value, "seconds": -5}})
    record = {"status": "failed", "scores": {"test_accuracy": -0.5}, "seconds": 1.5, "error": "-1: =2"}
    table = utils.batch.runner._write_leaderboard(plan, {plan.runs[0].run_id: record}, tmp_path)
    assert table["anything"][0] == value or (
        value is None and pd.isna(table["anything"][0])
    )  # the frame holds what was given
    assert table["error"][0] == "-1: =2"
    read = pd.read_csv(tmp_path / "leaderboard.csv", dtype=str, keep_default_na=False)
    assert read["anything"][0] == stands
    assert read["error"][0] == "'-1: =2"
    assert (read["test_accuracy"][0], read["parameter_seconds"][0], read["seconds"][0]) == (
        "-0.5",
        "-5",
        "1.5",
    )
    assert read.map(unquote_formula)["anything"][0] == ("" if value is None else str(value))
    assert read.map(unquote_formula)["error"][0] == "-1: =2"


@pytest.mark.parametrize(
    ("name", "folder", "before", "resumed"),
    [
        ("checkpoint-12", True, {}, True),
        ("checkpoint-12", False, {}, False),
        ("checkpoint-notes", True, {}, False),
        ("checkpoint-12", True, {"resumed": True}, False),  # that has failed, too: from the start
        ("checkpoint-12", True, {"resumed": True, "status": "running"}, True),  # that was killed
        ("checkpoint-12", True, {"parameters": {"number": 2}}, False),
    ],
)
def test_a_run_is_continued_once_from_a_checkpoint_of_its_own(
    tmp_path, notebook, monkeypatch, name, folder, before, resumed
):
    checkpoint = tmp_path / "run" / "checkpoints" / name
    checkpoint.parent.mkdir(parents=True)
    checkpoint.mkdir() if folder else checkpoint.touch()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"status": "failed", "parameters": {}} | before))
    job = {"run_id": "run", "attempt": "1", "folder": str(tmp_path / "run"), "parameters": {}, "cwd": "."}
    job |= {"notebook": notebook, "notebook_sha256": "", "names": ["resume", "output_dir"]}
    begun = []
    monkeypatch.setattr("papermill.execute_notebook", lambda *given, **_: begun.append(given[2]))
    utils.batch.worker._attempt(job, threading.Lock())
    assert [parameters.get("resume", False) for parameters in begun] == [resumed]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["resumed"] == resumed
    aside = tmp_path / "previous" / "run" / "checkpoints" / name
    assert aside.exists() != resumed  # moved aside, not deleted


@pytest.mark.parametrize(("attempt", "begins"), [("1", False), ("2", True)])
def test_what_dask_asks_for_a_second_time_is_not_run_a_second_time(tmp_path, notebook, attempt, begins):
    (tmp_path / ".locks").mkdir()
    (tmp_path / "run").mkdir()
    job = {
        "run_id": "run",
        "folder": str(tmp_path / "run"),
        "parameters": {},
        "notebook": notebook,
        "notebook_sha256": "",
        "names": ["output_dir"],
    }
    (tmp_path / "run" / "run.json").write_text(
        json.dumps(job | {"status": "failed", "attempt": "1", "scores": {}})
    )
    told = json.dumps(job | {"attempt": attempt, "gpu": False, "cwd": str(tmp_path)}) + "\n"
    with subprocess.Popen(PROGRAM, cwd=tmp_path, stdin=subprocess.PIPE, text=True) as process:
        process.stdin.write(told)
        process.stdin.flush()
        assert process.wait(60) == 0
    assert (tmp_path / "run" / "began.txt").exists() == begins


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_an_nvidia_smi_that_hangs_is_said(tmp_path, notebook, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu, "ANSWER_SECONDS", 0.2)
    with pytest.raises(
        BatchError, match="nvidia-smi has not answered for 0.2 seconds.*set CUDA_VISIBLE_DEVICES to nothing"
    ):
        run_batch({"notebook": notebook}, tmp_path / "out")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: A'\necho 'GPU 1: B'\n")
    monkeypatch.setattr(gpu, "ANSWER_SECONDS", 60)
    assert gpu.visible_gpus() == ["0", "1"]


@pytest.mark.parametrize(
    ("ending", "code"), [("time.sleep(60)", 1 if sys.platform == "win32" else -9), ("sys.exit(3)", 3)]
)
def test_a_run_that_hangs_when_it_shall_end_is_killed(tmp_path, monkeypatch, ending, code):
    program = (sys.executable, "-c", f"import sys, time\nsys.stdin.read()\n{ending}\n")
    monkeypatch.setattr(utils.batch.worker, "PROGRAM", program)
    worker = SimpleNamespace(address="tcp://127.0.0.1:1", status=None, get_current_task=lambda: "run")
    worker.state = SimpleNamespace(tasks={"run": SimpleNamespace(state="cancelled")})  # the driver is gone
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    monkeypatch.setattr(utils.batch.worker, "ANSWER_SECONDS", 1 if "sleep" in ending else 60)
    ended = utils.batch.worker.run_on_worker({"folder": str(tmp_path), "cwd": str(tmp_path)}, {}, {})
    assert ended == (code, "", {})


def test_a_wait_for_an_earlier_attempt_is_noted_until_it_ends(tmp_path, monkeypatch):
    (tmp_path / ".locks").mkdir()
    job, notes = {"run_id": "run", "folder": str(tmp_path / "run")}, []
    monkeypatch.setattr(time, "sleep", lambda _: notes.append(utils.batch.worker.note_of(job).exists()))

    def attempt():
        if notes:
            monkeypatch.setattr(time, "monotonic", lambda: math.inf)
        if len(notes) < 2:
            raise Timeout("another has it")
        return "turn"

    assert utils.batch.worker._wait(job, attempt, "an earlier attempt at it to end") == "turn"
    assert notes == [False, True]  # it is said once that takes long, and no longer than it is so
    assert not utils.batch.worker.note_of(job).exists()


@pytest.mark.parametrize(
    ("scheduler", "number", "few", "fit", "says"),
    [
        ("tcp://far:1", 2, 0, True, "The scheduler tcp://far:1 has no worker; waiting for one"),
        ("tcp://far:1", 2, 3, False, "The scheduler tcp://far:1 has no worker with a GPU; waiting for one"),
        (None, 3, 0, True, "3 of 3 workers lost; Dask starts others"),
        (None, 3, 1, True, "2 of 3 workers lost; Dask starts others"),
    ],
)
def test_missing_workers_are_said_once_and_replaced_on_this_machine_only(
    monkeypatch, scheduler, number, few, fit, says
):
    now, said, scaled = [0.0], [], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    spec = dict.fromkeys(range(number))
    cluster = SimpleNamespace(
        worker_spec=spec, scale=lambda n: (scaled.append(n), spec.update(dict.fromkeys(range(n))))
    )
    hands = utils.batch.runner._Workers(
        SimpleNamespace(cluster=cluster),
        number,
        scheduler,
        SimpleNamespace(write=lambda text, file: said.append(text)),
    )
    enough = 4
    assert hands.check(enough, True) == (enough if scheduler else number)
    for episode in (1, 2):
        for _ in range(200):
            now[0] += 1
            assert hands.check(few, fit) == few
        assert said == [says] * episode
        assert len(scaled) == (0 if scheduler else episode)
        now[0] += 1
        assert hands.check(enough, True) == (enough if scheduler else number)
    hands.replaced = 0  # a run has ended
    assert scaled == ([] if scheduler else [2 * number - few, 3 * number - 2 * few])
    for _ in range(
        10_000
    ):  # a scheduler's workers may come hours later; what is left of this machine's goes on
        now[0] += 1
        if few or scheduler:
            assert hands.check(few, fit) == few
    assert len(scaled) == (0 if scheduler else 2 + utils.batch.runner.REPLACEMENTS if few else 2)


def test_the_last_worker_has_its_time_when_another_was_lost_long_ago(monkeypatch):
    now, scaled = [1000.0], []
    monkeypatch.setattr(utils.batch.runner.time, "monotonic", lambda: now[0])
    cluster = SimpleNamespace(worker_spec={0: None, 1: None}, scale=scaled.append)
    hands = utils.batch.runner._Workers(
        SimpleNamespace(cluster=cluster), 2, None, SimpleNamespace(write=lambda *_, **__: None)
    )
    for _ in range(10_000):
        now[0] += 1
        assert hands.check(1, True) == 1
    assert len(scaled) == utils.batch.runner.REPLACEMENTS
    for _ in range(utils.batch.runner.WORKER_SECONDS):
        now[0] += 1
        assert hands.check(0, True) == 0
    with pytest.raises(BatchError, match=f"started none for {utils.batch.runner.WORKER_SECONDS + 1} seconds"):
        for _ in range(2):
            now[0] += 1
            hands.check(0, True)


def test_a_batch_with_scores_is_summed_up(tmp_path, unrun, capsys):
    sweep, out = tmp_path / "sweep.yaml", tmp_path / "out"
    sweep.write_text(f"notebook: {unrun}\ngrid: {{number: [4, 7]}}\n")
    out.mkdir()
    for job in jobs_of(read_plan(sweep), out):  # as finished runs leave them; what ran is shown above
        score, folder = job["parameters"]["number"] / 10, out / job["run_id"]
        folder.mkdir()
        scores = dict.fromkeys(("accuracy", "f1_macro", "loss"), score)
        metrics = {"parameters": job["parameters"], "validation": scores, "test": scores}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        record = {"status": "running", "started": time.time()}
        (folder / "run.json").write_text(json.dumps(job | record))
    (out / "leaderboard.csv").touch()
    assert main([str(sweep), "--output-dir", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Best by validation f1_macro: number 7\n")
    assert said.splitlines()[-1].startswith("2 completed, 0 failed")
    assert pd.read_csv(out / "leaderboard.csv")["test_accuracy"].tolist() == [0.4, 0.7]
    assert pd.read_csv(out / "summary.csv")["number"].tolist() == [7, 4]
