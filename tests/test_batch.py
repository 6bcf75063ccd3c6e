"""Many runs: refused as a whole or run as a whole, whatever is killed on the way. Real processes, real kernels, small notebooks made here."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pandas as pd
import psutil
import pytest

import utils.batch
from notebooks import printed, read
from utils import ROOT
from utils.batch import LEFT_BEHIND, BatchError, main, read_plan, run_batch, run_id

TEMPLATE = ROOT / "notebooks" / "04_training.ipynb"
PARAMETERS = """
number = 1  # what it writes down
pause = 0.0  # seconds it takes
name = "a"  # a text
broken = False  # whether it fails
output_dir = None  # where it writes
"""
WORK = """
import os, pathlib, time
if output_dir:
    pathlib.Path(output_dir, "began.txt").write_text(str(os.getpid()))
time.sleep(pause)
if broken:
    raise ValueError(f"number {number} is broken")
if output_dir:
    pathlib.Path(output_dir, "result.txt").write_text(str(number))
print(number, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["OMP_NUM_THREADS"])
"""


def notebook_of(path, parameters=PARAMETERS, work=WORK):
    cells = [nbformat.v4.new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]}, id="parameters")]
    cells += [nbformat.v4.new_code_cell(work.strip(), id="work")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return str(path)


@pytest.fixture
def notebook(tmp_path):
    return notebook_of(tmp_path / "small.ipynb")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


# --- the plan ---------------------------------------------------------------------------------------------------------


def refused(spec):
    with pytest.raises(BatchError) as refusal:
        read_plan(spec)
    return str(refusal.value)


def test_the_grid_is_multiplied_and_further_runs_are_added(notebook):
    spec = {"notebook": notebook, "parameters": {"pause": 0.5}, "grid": {"number": [1, 2], "name": ["a", "b"]}, "runs": [{"number": 9, "pause": 0}]}
    runs = read_plan(spec).runs
    assert [(run.parameters["number"], run.parameters.get("name"), run.parameters["pause"]) for run in runs] == [
        (1, "a", 0.5), (1, "b", 0.5), (2, "a", 0.5), (2, "b", 0.5), (9, None, 0),
    ]  # fmt: skip
    assert runs[4].shown == {"pause": 0, "number": 9, "name": "a"}  # the notebook's default, for the leaderboard
    assert len(read_plan({"notebook": notebook}).runs) == 1
    assert len(read_plan({"notebook": notebook, "runs": [{"number": 3}]}).runs) == 1


def test_all_faults_of_a_sweep_are_named_at_once_with_their_places(tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        f"notebook: {TEMPLATE}\nparameter: {{}}\nparameters: {{sead: 1, output_dir: here}}\n"
        "grid: {learning_rate: [2.0e-5, 2e-5], num_train_epochs: 1}\nruns: [{max_length: 0}, 7]\n"
    )
    message = refused(tmp_path / "sweep.yaml")
    for fault in (
        "there is no key 'parameter'; did you mean 'parameters'?",
        "parameters: there is no parameter 'sead'; did you mean 'seed'?",
        "parameters: output_dir is set by the batch",
        "grid: learning_rate must be a number between 0 and 1, such as 5e-5 (in YAML: 5.0e-5), not '2e-5' (str); YAML reads it as a text: write 2.0e-5",
        "grid: num_train_epochs must be a list of at least one value, not 1",
        "runs[0]: max_length must be a whole number, 3 or more, not 0",
        "runs[1] must hold names and values, not 7",
    ):
        assert fault in message
    assert len(message.splitlines()) == 7


def test_the_sweep_of_the_repository_is_a_good_one():
    runs = read_plan(ROOT / "notebooks" / "params" / "sweep.yaml").runs
    assert [(run.parameters["learning_rate"], run.parameters["seed"]) for run in runs] == [(2e-5, 1), (2e-5, 2), (5e-5, 1), (5e-5, 2)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grid": {"number": ["two"]}}, "grid: number must be like its default 1, not 'two' (str)"),
        ({"grid": {"pause": ["3e5"]}}, "write 3.0e+5"),
        ({"grid": {"number": [True]}}, "not True (bool)"),
        ({"grid": {"pause": [float("nan")]}}, "pause must be a number, a text"),
        ({"grid": {"number": [1, 1.0]}}, "grid, number 1.0: this run is the same as grid, number 1; remove one of them"),
        ({"grid": {"number": [1, 2]}, "runs": [{"number": 2, "name": "a"}]}, "runs[0]: this run is the same as grid, number 2"),
        ({"grid": {"number": []}}, "grid: number must be a list of at least one value"),
        ({"grid": [1]}, "grid must be names with values, not [1]"),
        ({"notebook": "nowhere.ipynb"}, "There is no 'nowhere.ipynb'"),
        ({"notebook": str(ROOT / "pyproject.toml")}, "cannot be read as a notebook"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused(notebook, changes, says):
    assert says in refused({"notebook": notebook} | changes)


def test_a_key_that_stands_twice_is_refused_and_python_objects_are_not_made(tmp_path, notebook):
    (tmp_path / "twice.yaml").write_text(f"notebook: {notebook}\ngrid:\n  number: [1]\n  number: [2]\n")
    assert "line 4: number stands twice" in refused(tmp_path / "twice.yaml")
    (tmp_path / "evil.yaml").write_text("notebook: !!python/object/apply:os.getcwd []\n")
    assert "cannot be read" in refused(tmp_path / "evil.yaml")


def test_a_refused_sweep_starts_nothing_and_leaves_nothing(tmp_path, notebook, capsys):
    (tmp_path / "sweep.yaml").write_text(f"notebook: {notebook}\ngrid: {{numbr: [1, 2]}}\n")
    assert main([str(tmp_path / "sweep.yaml"), "--output-dir", str(tmp_path / "out")]) == 2
    assert "there is no parameter 'numbr'; did you mean 'number'?" in capsys.readouterr().err
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
    ids = {run_id({"text": text}, {"text": text}, "04.ipynb").lower() for text in ("a", "A", "ä", "ö", "a ", "1", 1, "x" * 99, "x" * 98)}
    assert len(ids) == 9  # also where the file system ignores case


# --- runs --------------------------------------------------------------------------------------------------------------


def results(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.txt")}


def test_a_failing_run_stops_no_other_and_the_same_again_runs_only_the_failed_one(tmp_path, notebook, capsys):
    sweep, out = tmp_path / "sweep.yaml", tmp_path / "out"
    sweep.write_text(f"notebook: {notebook}\ngrid: {{number: [1, 2]}}\nruns: [{{number: 7, broken: true}}, {{number: 8}}]\n")
    command = [str(sweep), "--output-dir", str(out), "--workers", "2"]
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to do") == 4
    assert not out.exists()

    assert main(command) == 1
    said = capsys.readouterr()
    assert "3 completed, 1 failed" in said.out
    assert said.err == ""  # bars are switched off
    table = pd.read_csv(out / "leaderboard.csv", keep_default_na=False)
    assert list(table.columns) == ["run_id", "number", "broken", "status", "seconds", "error"]
    assert table["status"].tolist() == ["completed", "completed", "failed", "completed"]
    assert table["error"].tolist() == ["", "", "ValueError: number 7 is broken", ""]
    bad = out / table["run_id"][2]
    assert [output.ename for cell in read(bad / "notebook.ipynb").cells for output in cell.get("outputs", []) if output.output_type == "error"] == [
        "ValueError"
    ]
    assert printed(read(out / table["run_id"][1] / "notebook.ipynb"), "work").startswith("2 ")

    before, began = results(out), (bad / "began.txt").stat().st_mtime_ns
    assert main([*command, "--no-retry-failed"]) == 1
    assert (bad / "began.txt").stat().st_mtime_ns == began
    assert main(command) == 1
    assert (bad / "began.txt").stat().st_mtime_ns > began
    assert (out / "previous" / bad.name / "began.txt").stat().st_mtime_ns == began  # moved aside, not deleted
    assert results(out) == before


def test_nothing_left_to_do_starts_nothing(tmp_path, notebook, monkeypatch):
    spec = {"notebook": notebook, "grid": {"number": [1, 2]}}
    first = run_batch(spec, tmp_path, workers=2)
    monkeypatch.setattr(utils.batch, "_cluster", lambda *_: pytest.fail("a cluster was started"))
    pd.testing.assert_frame_equal(run_batch(spec, tmp_path, workers=2), first)
    assert pd.read_csv(tmp_path / "leaderboard.csv")["number"].tolist() == [1, 2]


def test_two_workers_give_the_same_leaderboard_in_little_more_than_half_the_time(tmp_path, notebook):
    spec = {"notebook": notebook, "parameters": {"pause": 6}, "grid": {"number": [1, 2, 3, 4]}}
    tables, seconds = [], []
    for workers in (1, 2):
        started = time.perf_counter()
        tables.append(run_batch(spec, tmp_path / str(workers), workers=workers))
        seconds.append(time.perf_counter() - started)
    pd.testing.assert_frame_equal(tables[0].drop(columns="seconds"), tables[1].drop(columns="seconds"))
    print(f"four runs: {seconds[0]:.1f} s with one worker, {seconds[1]:.1f} s with two, ratio {seconds[1] / seconds[0]:.2f}")
    assert 0.3 < seconds[1] / seconds[0] < 0.75  # on a machine with other work; tests/benchmarks.py batch measures it


def test_cores_are_shared_out_unless_the_user_has_decided(tmp_path, notebook, monkeypatch):
    from dask.system import CPU_COUNT

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for folder, expected in (("shared", max(1, CPU_COUNT // 2)), ("decided", 7)):
        table = run_batch({"notebook": notebook, "grid": {"number": [1, 2]}}, tmp_path / folder, workers=2)
        for run in table["run_id"]:
            assert printed(read(tmp_path / folder / run / "notebook.ipynb"), "work").split()[2] == str(expected)
        monkeypatch.setenv("OMP_NUM_THREADS", "7")


# --- kills -------------------------------------------------------------------------------------------------------------


def at_work(folder):
    """Return the processes of the runs in this folder: those of the runs themselves first, then their kernels."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(LEFT_BEHIND, "").startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append((any("ipykernel" in word for word in process.cmdline()), process))
        except (psutil.Error, OSError):
            pass
    return [process for kernel, process in found if not kernel], [process for kernel, process in found if kernel]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


class Sweep:
    """Four runs of a few seconds, as a command that can be killed."""

    def __init__(self, folder, notebook, pause=4):
        self.file, self.out, self.log = folder / "sweep.yaml", folder / "out", folder / "log.txt"
        self.file.write_text(f"notebook: {notebook}\nparameters: {{pause: {pause}}}\ngrid: {{number: [1, 2, 3, 4]}}\n")

    def start(self, *options):
        command = [sys.executable, "-m", "utils.batch", str(self.file), "--output-dir", str(self.out), *(options or ("--workers", "2"))]
        with open(self.log, "a") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def half_way(self, process):
        """Wait until one run is done and another is in its kernel."""
        wait_for(lambda: self.said(process) and results(self.out))
        wait_for(lambda: self.said(process) and len(list(self.out.glob("*/began.txt"))) > len(results(self.out)))

    def said(self, process):
        assert process.poll() is None, self.log.read_text()
        return True

    def finish(self, process=None, *options):
        process = process or self.start(*options)
        status = process.wait(120)
        return status, self.log.read_text()

    def leaderboard(self):
        return pd.read_csv(self.out / "leaderboard.csv", keep_default_na=False)


@pytest.fixture
def sweep(tmp_path, notebook):
    sweep = Sweep(tmp_path, notebook)
    yield sweep
    for process in sum(at_work(sweep.out), []):
        process.kill()


def check_it_goes_on(sweep, finished):
    """After a kill: nothing runs, no half run counts, and the same command does the rest without repeating anything."""
    wait_for(lambda: not sum(at_work(sweep.out), []), 10)
    assert finished
    status, said = sweep.finish()
    assert status == 0, said
    assert sweep.leaderboard()["status"].tolist() == ["completed"] * 4
    after = results(sweep.out)
    assert len(after) == 4
    assert {run: after[run] for run in finished} == finished


def completed_runs(folder):
    return {run: when for run, when in results(folder).items() if json.loads((folder / run / "run.json").read_text())["status"] == "completed"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_driver_is_stopped_half_way(sweep, how):
    driver = sweep.start()
    sweep.half_way(driver)
    wait_for(lambda: completed_runs(sweep.out))
    if how == signal.SIGINT:
        os.killpg(driver.pid, how)  # Ctrl-C reaches every process of the terminal's group
    else:
        driver.send_signal(how)
    assert driver.wait(30) == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        assert not sum(at_work(sweep.out), [])  # at once: the prompt is back
        assert sweep.log.read_text().strip() == "Interrupted. The same command goes on with what is unfinished."
    wait_for(lambda: not sum(at_work(sweep.out), []), 10)
    check_it_goes_on(sweep, completed_runs(sweep.out))


def test_a_worker_is_killed_and_its_run_is_done_by_another(sweep):
    driver = sweep.start()
    sweep.half_way(driver)
    runs, kernels = wait_for(lambda: all(at_work(sweep.out)) and at_work(sweep.out))
    worker = runs[0].parent()
    assert worker.pid != driver.pid
    worker.kill()
    psutil.wait_procs(runs[:1], timeout=5)
    assert not runs[0].is_running()
    status, said = sweep.finish(driver)
    assert status == 0, said
    assert sweep.leaderboard()["status"].tolist() == ["completed"] * 4


def test_a_run_that_kills_its_worker_every_time_fails_with_that_reason(tmp_path):
    work = "import psutil\nif broken:\n    psutil.Process().parent().parent().kill()\n    import time\n    time.sleep(60)"
    spec = {"notebook": notebook_of(tmp_path / "killer.ipynb", work=work), "runs": [{"number": 1}, {"number": 2, "broken": True}, {"number": 3}]}
    table = run_batch(spec, tmp_path / "out", workers=1)
    assert table["status"].tolist() == ["completed", "failed", "completed"]
    assert table["error"][1] == "KilledWorker: 3 workers died while they ran it"
    notebook = read(tmp_path / "out" / table["run_id"][1] / "notebook.ipynb")
    assert [output.evalue for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"] == [
        "3 workers died while they ran it"
    ]
    assert not sum(at_work(tmp_path / "out"), [])


@pytest.mark.parametrize(("victim", "error"), [("kernel", "DeadKernelError: Kernel died"), ("run", "RunProcessError: the run's process ended with code -9")])
def test_a_kernel_or_a_run_is_killed_and_the_others_go_on(sweep, victim, error):
    driver = sweep.start()
    sweep.half_way(driver)
    began = wait_for(lambda: [path for path in sweep.out.glob("*/began.txt") if time.time() - path.stat().st_mtime < 1 and path.read_text()])[0]
    kernel = psutil.Process(int(began.read_text()))  # it has some seconds to go
    (kernel if victim == "kernel" else kernel.parent()).kill()
    status, said = sweep.finish(driver)
    assert status == 1, said
    table = sweep.leaderboard()
    assert sorted(table["status"]) == ["completed", "completed", "completed", "failed"]
    (bad,) = table[table["status"] == "failed"].to_dict("records")
    assert bad["run_id"] == began.parent.name
    assert bad["error"].startswith(error)
    outputs = read(sweep.out / bad["run_id"] / "notebook.ipynb").cells[-1].outputs
    assert [output.ename for output in outputs if output.output_type == "error"] == [error.partition(":")[0]]
    assert not (sweep.out / bad["run_id"] / "result.txt").exists()
    check_it_goes_on(sweep, completed_runs(sweep.out))


def test_two_drivers_in_one_folder(sweep):
    driver = sweep.start()
    wait_for(lambda: sweep.said(driver) and list(sweep.out.glob("*/began.txt")))
    with pytest.raises(BatchError, match="another batch is at work in"):
        run_batch(sweep.file, sweep.out)
    status, said = sweep.finish(driver)
    assert status == 0, said
    assert len(results(sweep.out)) == 4


def test_nothing_listens_beyond_this_machine(sweep):
    driver = sweep.start()
    wait_for(lambda: sweep.said(driver) and list(sweep.out.glob("*/began.txt")))
    family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    listening = {each.laddr.ip for process in family for each in process.net_connections() if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    driver.kill()
    driver.wait()


# --- an existing cluster -----------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and workers as processes of their own, which know nothing of this repository."""
    processes = []

    def start(*arguments, **environment):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        with open(tmp_path / f"dask-{len(processes)}.txt", "w") as log:
            processes.append(subprocess.Popen(command, cwd=tmp_path, env=os.environ | environment, stdout=log, stderr=log))
        return processes[-1]

    start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(tmp_path / "scheduler.json"))
    wait_for((tmp_path / "scheduler.json").exists)
    start.address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
    start.worker = lambda *options, **environment: start(
        "dask_worker", start.address, "--no-nanny", "--no-dashboard", "--nthreads", "1", "--local-directory", str(tmp_path), *options, **environment
    )
    start.scheduler = processes[0]
    yield start
    for process in reversed(processes):
        process.kill()
        process.wait()


def test_on_a_cluster_one_of_two_workers_is_killed_half_way(sweep, cluster):
    workers = [cluster.worker(), cluster.worker()]
    driver = sweep.start("--scheduler", cluster.address)
    sweep.half_way(driver)
    wait_for(lambda: any(run.ppid() == workers[0].pid for run in at_work(sweep.out)[0]))
    workers[0].kill()
    status, said = sweep.finish(driver)
    assert status == 0, said
    assert sweep.leaderboard()["status"].tolist() == ["completed"] * 4
    assert workers[1].poll() is None

    (sweep.out / "leaderboard.csv").unlink()
    for path in sweep.out.glob("*/run.json"):
        path.unlink()
    driver = sweep.start("--scheduler", cluster.address)
    wait_for(lambda: sweep.said(driver) and all(at_work(sweep.out)))
    driver.kill()  # the cluster lives on, and must not go on with what nobody waits for
    driver.wait()
    wait_for(lambda: not sum(at_work(sweep.out), []), 10)
    assert workers[1].poll() is None


def test_a_scheduler_that_is_lost_is_said_and_nothing_counts_as_failed(sweep, cluster):
    cluster.worker()
    driver = sweep.start("--scheduler", cluster.address)
    wait_for(lambda: sweep.said(driver) and list(sweep.out.glob("*/began.txt")))
    cluster.scheduler.kill()
    status, said = sweep.finish(driver)
    assert status == 2
    assert said.splitlines()[-1].startswith("the Dask scheduler was lost")
    assert sweep.leaderboard().empty


def test_runs_are_bound_to_one_device_each(tmp_path, cluster):
    cluster.worker("--nthreads", "2", "--resources", "GPU=2", CUDA_VISIBLE_DEVICES="3,5")
    spec = {"notebook": notebook_of(tmp_path / "small.ipynb"), "parameters": {"pause": 3}, "grid": {"number": [1, 2, 3]}}
    table = run_batch(spec, tmp_path / "out", scheduler=cluster.address)
    assert table["status"].tolist() == ["completed"] * 3
    devices = [printed(read(tmp_path / "out" / run / "notebook.ipynb"), "work").split()[1] for run in table["run_id"]]
    assert set(devices[:2]) == {"3", "5"}
    assert devices[2] in ("3", "5")


def test_no_scheduler_at_the_address_is_said(tmp_path, notebook, monkeypatch):
    monkeypatch.setattr(utils.batch, "CONNECT_SECONDS", 1)
    with pytest.raises(BatchError, match="there is no Dask scheduler at tcp://127.0.0.1:9 "):
        run_batch({"notebook": notebook}, tmp_path / "out", scheduler="tcp://127.0.0.1:9")


# --- disks -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, where this machine lets the tests make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    yield folder if made.returncode == 0 else None
    if made.returncode == 0:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_corrupts_no_finished_run(small_disk, tmp_path, monkeypatch):
    work = "import pathlib\npathlib.Path(output_dir, 'result.txt').write_bytes(b'1' * int(number))"
    out = small_disk or tmp_path / "out"
    spec = {"notebook": notebook_of(tmp_path / "filler.ipynb", work=work), "grid": {"number": [10, 5_000_000, 20]}}
    if small_disk is None:  # the same, from the point of view of what writes the records
        spec["grid"] = {"number": [10, 20]}
        run_batch(spec, out, workers=1)
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        assert run_batch(spec, out)["status"].tolist() == ["completed"] * 2
        assert len(pd.read_csv(out / "leaderboard.csv")) == 2
        return
    table = run_batch(spec, out, workers=1)
    assert table["status"].tolist()[:2] == ["completed", "failed"]
    assert "No space left on device" in table["error"][1]
    assert json.loads((out / table["run_id"][0] / "run.json").read_text())["status"] == "completed"
    assert (out / table["run_id"][0] / "result.txt").read_text() == "1" * 10
    finished = completed_runs(out)
    (out / table["run_id"][1] / "result.txt").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(out)], check=True)
    table = run_batch(spec, out, workers=1)
    assert table["status"].tolist() == ["completed"] * 3
    assert {run: when for run, when in results(out).items() if run in finished} == finished


# --- the template ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_template_gives_what_a_plain_papermill_call_gives_and_goes_on_from_a_checkpoint(tmp_path, tweets, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tweets.rows[["text", "label"]].head(200).to_csv(tmp_path / "few.csv", index=False)
    common = {"data_file": str(tmp_path / "few.csv"), "max_train_samples": 64, "demonstrations": False, "num_train_epochs": 2}
    table = run_batch({"notebook": str(TEMPLATE), "parameters": common, "grid": {"seed": [3]}}, tmp_path / "batch", workers=1)
    assert table["error"].tolist() == [""]
    folder = tmp_path / "batch" / table["run_id"][0]

    words = [word for name, value in (common | {"seed": 3, "output_dir": "plain"}).items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(TEMPLATE), "plain.ipynb", *words]
    plain = subprocess.run(command, cwd=tmp_path, env=os.environ | {"FINETUNE_REPO": str(ROOT)}, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr[-2000:]
    ours, theirs = (json.loads((each / "metrics.json").read_text()) for each in (folder, tmp_path / "plain"))
    for block in ("validation", "test", "untrained", "baselines", "data"):
        assert ours[block] == theirs[block]
    assert (folder / "predictions.csv").read_bytes() == (tmp_path / "plain" / "predictions.csv").read_bytes()
    assert table["test_accuracy"][0] == ours["test"]["accuracy"]
    assert table["validation_f1_macro"][0] == ours["validation"]["f1_macro"]
    assert table.columns.tolist() == [
        "run_id", "data_file", "max_train_samples", "demonstrations", "num_train_epochs", "seed", "status",
        "validation_accuracy", "validation_f1_macro", "test_accuracy", "test_f1_macro", "seconds", "error",
    ]  # fmt: skip

    # As if it had been killed in the second epoch: one checkpoint, no verdict.
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"status": "running"}))
    (folder / "metrics.json").unlink()
    last = max((folder / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    subprocess.run(["rm", "-r", str(last), str(folder / "model")], check=True)
    again = run_batch({"notebook": str(TEMPLATE), "parameters": common, "grid": {"seed": [3]}}, tmp_path / "batch", workers=1)
    assert again["error"].tolist() == [""]
    resumed = json.loads((folder / "metrics.json").read_text())
    assert resumed["train"]["continued_from_step"] == 4
    assert resumed["test"] == ours["test"]


def test_a_run_killed_after_its_metrics_were_written_counts_and_one_of_other_parameters_does_not(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    job = {"folder": str(folder), "parameters": {"seed": 1}}
    scores = {"accuracy": 0.5, "f1_macro": 0.4, "loss": 1.0}
    (folder / "run.json").write_text(json.dumps({"status": "running", "parameters": {"seed": 1}, "started": time.time() - 5}))
    assert utils.batch._record(job) is None
    (folder / "metrics.json").write_text(json.dumps({"parameters": {"seed": 1, "task": "x"}, "validation": scores, "test": scores}))
    record = utils.batch._record(job)
    assert record["status"] == "completed"
    assert record["scores"] == {"validation_accuracy": 0.5, "validation_f1_macro": 0.4, "test_accuracy": 0.5, "test_f1_macro": 0.4}
    assert record["seconds"] == pytest.approx(5, abs=1)
    assert utils.batch._record(job | {"parameters": {"seed": 2}}) is None
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.json").unlink()
    assert utils.batch._record(job) is None
