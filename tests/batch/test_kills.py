"""What is killed while a batch runs costs what was under way, and nothing else: drivers, workers, kernels.

Real processes and real kernels. Nothing here waits for time to pass: a run goes on when the test opens its
gate, and a kill comes when a file says who is at work.
"""

import errno
import getpass
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import dask
import pandas as pd
import psutil
import pytest
import yaml
from batches import at_work, completed_runs, errors_in, notebook_of, results, status_of, wait_for
from dask.utils import parse_timedelta
from distributed import LocalCluster
from filelock import FileLock

import utils.batch.runner
from notebooks import printed, read
from utils import ROOT, read_json
from utils.batch.plan import BatchError, read_plan
from utils.batch.runner import jobs_of, run_batch
from utils.batch.worker import LEFT_BEHIND, PROGRAM


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def kernel_at_work(run, besides=0):
    try:
        process = psutil.Process(int((run / "began.txt").read_text()))
        return process if process.pid != besides and process in at_work(run) else None
    except (OSError, psutil.Error):
        return None


class Sweep:
    """Runs with the numbers 1, 2, ..., each with a gate, as a command that can be killed."""

    def __init__(self, folder, runs, together=1):
        self.file, self.out = folder / "sweep.yaml", folder / "out"
        self.log, self.gates = folder / "log.txt", folder / "gates"
        self.gates.mkdir(parents=True)
        common = {"gates": str(self.gates), "together": together}
        spec = {"notebook": notebook_of(folder / "small.ipynb"), "parameters": common}
        self.file.write_text(yaml.safe_dump(spec | {"grid": {"number": list(runs)}}))
        self.runs = {run.parameters["number"]: self.out / run.run_id for run in read_plan(self.file).runs}
        self.driver = None

    def start(self, *options):
        command = [sys.executable, "-m", "utils.batch", str(self.file), "--output-dir", str(self.out)]
        command += options or ("--workers", "2")
        # A shell that runs these tests in the background has Ctrl-C ignored; the driver would inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(self.log, "a") as log:
            options = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.driver = subprocess.Popen(command, cwd=ROOT, **options)
        signal.signal(signal.SIGINT, before)

    def open(self, *numbers):
        for number in numbers:
            (self.gates / str(number)).touch()

    def wait_for(self, condition):
        def or_ended():
            assert self.driver.poll() is None, self.log.read_text()
            return condition()

        return wait_for(or_ended)

    def wait_for_kernel(self, number, besides=0):
        """Return the kernel that is at work in a run and waits at its gate; `besides` was killed."""
        return self.wait_for(lambda: kernel_at_work(self.runs[number], besides))

    def wait_for_status(self, number, status):
        def or_another_end():
            found = status_of(self.runs[number])
            assert found in (None, "running", status), (self.runs[number] / "run.json").read_text()
            return found == status

        self.wait_for(or_another_end)

    def finish(self):
        return self.driver.wait(300), self.log.read_text()

    def leaderboard(self):
        return pd.read_csv(self.out / "leaderboard.csv", keep_default_na=False)

    def check_it_goes_on(self, *options):
        """After a kill: nothing runs, and the same command does what is left without repeating anything."""
        wait_for(lambda: not at_work(self.out), 20)
        finished = completed_runs(self.out)
        assert 0 < len(finished) < len(self.runs)
        self.open(*self.runs)
        self.start(*options)
        status, said = self.finish()
        assert status == 0, said
        assert self.leaderboard()["status"].tolist() == ["completed"] * len(self.runs)
        assert len(completed_runs(self.out)) == len(self.runs)
        assert completed_runs(self.out) | finished == completed_runs(self.out)

    def end(self):
        if self.driver and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        for process in at_work(self.out):
            process.kill()


@pytest.fixture
def sweep(tmp_path):
    sweep = Sweep(tmp_path / "sweep", range(1, 5))
    yield sweep
    sweep.end()


def check_it_is_alone(sweep, kernels):
    """While a driver is at work: a second one is refused, and nothing listens beyond this machine."""
    with pytest.raises(BatchError, match="another batch is at work in"):
        run_batch(sweep.file, sweep.out)
    driver = psutil.Process(sweep.driver.pid)
    connections_of = getattr(psutil.Process, "net_connections", None)
    connections_of = connections_of or psutil.Process.connections  # its name before psutil 6, which Colab has
    open_ones = [
        each for process in [driver, *driver.children(recursive=True)] for each in connections_of(process)
    ]
    assert {each.laddr.ip for each in open_ones if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    if os.name != "nt":  # no ports, one of which another program may have taken in the meantime
        files = [Path(kernel.cmdline()[kernel.cmdline().index("-f") + 1]) for kernel in kernels]
        one, other = (json.loads(file.read_text()) for file in files)
        assert one["transport"] == other["transport"] == "ipc"
        assert one["ip"] != other["ip"]


def test_a_driver_works_alone_and_whenever_it_is_stopped_the_same_command_goes_on(sweep):
    sweep.start()
    check_it_is_alone(sweep, [sweep.wait_for_kernel(1), sweep.wait_for_kernel(2)])
    sweep.open(1)
    sweep.wait_for_status(1, "completed")
    sweep.wait_for_kernel(3)
    os.killpg(sweep.driver.pid, signal.SIGINT)  # Ctrl-C reaches every process of the terminal's group
    assert sweep.driver.wait(60) == 130
    assert not at_work(sweep.out)  # at once: the prompt is back
    said = "Interrupted. The same command goes on with what is unfinished."
    assert sweep.log.read_text().strip() == said
    finished = completed_runs(sweep.out)
    assert len(finished) == 1

    sweep.open(2)
    sweep.start()
    sweep.wait_for_status(2, "completed")
    sweep.wait_for_kernel(3)
    sweep.driver.kill()
    assert sweep.driver.wait(60) == -signal.SIGKILL
    wait_for(lambda: not at_work(sweep.out), 20)
    assert status_of(sweep.runs[3]) == "running"  # neither done nor failed
    assert len(completed_runs(sweep.out)) == 2
    assert completed_runs(sweep.out) | finished == completed_runs(sweep.out)
    sweep.check_it_goes_on()
    resumed = {n: printed(read(run / "notebook.ipynb"), "work").split()[3] for n, run in sweep.runs.items()}
    assert (resumed[1], resumed[3]) == ("False", "True")  # from its checkpoint


def test_a_kernel_a_run_and_a_worker_are_killed_and_the_others_go_on(sweep):
    sweep.start()
    sweep.open(1)
    sweep.wait_for_status(1, "completed")
    sweep.wait_for_kernel(2).kill()
    sweep.wait_for_kernel(3).parent().kill()
    sweep.wait_for_status(2, "failed")
    sweep.wait_for_status(3, "failed")
    kernel = sweep.wait_for_kernel(4)
    run, worker = kernel.parents()[:2]
    assert worker.pid != sweep.driver.pid
    worker.kill()
    psutil.wait_procs([run, kernel], timeout=20)
    assert not run.is_running()
    assert not kernel.is_running()
    sweep.wait_for_kernel(4, besides=kernel.pid)  # another worker does it
    sweep.open(4)
    status, said = sweep.finish()
    assert status == 1, said
    table = sweep.leaderboard()
    assert table["status"].tolist() == ["completed", "failed", "failed", "completed"]
    assert table["error"].tolist() == [
        "",
        "DeadKernelError: Kernel died",
        "RunProcessError: the run's process ended with code -9",
        "",
    ]
    for number, error in (
        (2, ("DeadKernelError", "Kernel died")),
        (3, ("RunProcessError", "the run's process ended with code -9")),
    ):
        assert errors_in(read(sweep.runs[number] / "notebook.ipynb")) == [error]
        assert not (sweep.runs[number] / "result.txt").exists()
    assert not at_work(sweep.out)


def test_an_attempt_whose_worker_is_gone_leaves_the_next_one_alone(sweep):
    """Another worker may have started it already, before the first has ended: it waits for its turn."""
    sweep.out.mkdir()
    job = {**jobs_of(read_plan(sweep.file), sweep.out)[0], "attempt": "1", "gpu": False}
    environment = os.environ | {LEFT_BEHIND: job["folder"], "OMP_NUM_THREADS": "1"}
    first, second, third = (
        subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, cwd=sweep.out, env=environment) for _ in range(3)
    )
    try:
        for process in (first, second):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            kernel = wait_for(lambda: kernel_at_work(sweep.runs[1]))
        first.stdin.close()
        assert first.wait(20) == 1
        assert not kernel.is_running()
        other = wait_for(lambda: kernel_at_work(sweep.runs[1], besides=kernel.pid))
        assert other.ppid() == second.pid
        third.stdin.write(json.dumps(job).encode() + b"\n")
        third.stdin.close()  # its worker, too, is gone before it had its turn
        assert third.wait(20) == 1
        assert other.is_running()
        sweep.open(1)
        assert second.wait(60) == 0
    finally:
        for process in (first, second, third):
            process.kill()
            process.communicate()
    assert status_of(sweep.runs[1]) == "completed"


def test_a_run_that_kills_its_worker_every_time_fails_with_that_reason(tmp_path):
    work = "import psutil, time\nif broken:\n    psutil.Process().parents()[1].kill()\n    time.sleep(60)"
    spec = {
        "notebook": notebook_of(tmp_path / "killer.ipynb", work=work),
        "runs": [{"broken": True}, {"number": 2}],
    }
    table = run_batch(spec, tmp_path / "out", workers=1)
    assert table["status"].tolist() == ["failed", "completed"]
    assert table["error"][0] == "KilledWorker: 3 workers died while they ran it"
    assert errors_in(read(tmp_path / "out" / table["run_id"][0] / "notebook.ipynb")) == [
        ("KilledWorker", "3 workers died while they ran it")
    ]
    assert not at_work(tmp_path / "out")


@pytest.fixture
def impatient(monkeypatch):
    """Dask gives a killed worker up before another can start, as on a busy machine; the batch notices."""
    start, patience = utils.batch.runner._cluster, utils.batch.runner.WORKER_SECONDS

    @contextmanager
    def cluster(workers, scheduler):
        with start(workers, scheduler) as client:
            assert parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout")) > patience
            with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}):
                monkeypatch.setattr(utils.batch.runner, "WORKER_SECONDS", 0)
                monkeypatch.setattr(utils.batch.runner, "SAY_SECONDS", 0)
                yield client

    monkeypatch.setattr(utils.batch.runner, "_cluster", cluster)
    return patience


KILLS_ITS_WORKER_ONCE = """
import pathlib, psutil, time
if broken and not (mark := pathlib.Path(output_dir).parent / "killed").exists():
    mark.touch()
    psutil.Process().parents()[1].kill()
    time.sleep(60)
"""


def test_a_worker_that_dask_has_given_up_is_replaced(tmp_path, monkeypatch, capsys, impatient):
    scale, scaled = LocalCluster.scale, []

    def replace(cluster, n=0, **options):
        if n:
            scaled.append(n)
            monkeypatch.setattr(utils.batch.runner, "WORKER_SECONDS", impatient)  # it may take its time
        return scale(cluster, n, **options)

    monkeypatch.setattr(LocalCluster, "scale", replace)
    notebook = notebook_of(tmp_path / "killer.ipynb", work=KILLS_ITS_WORKER_ONCE)
    table = run_batch({"notebook": notebook, "parameters": {"broken": True}}, tmp_path / "out", workers=1)
    assert table["error"].tolist() == [""]
    assert table["status"].tolist() == ["completed"]
    assert scaled == [2]
    assert "1 of 1 workers lost; Dask starts others" in capsys.readouterr().err
    assert not at_work(tmp_path / "out")


def test_where_no_worker_can_be_had_the_batch_ends_and_goes_on_later(tmp_path, monkeypatch, impatient):
    scale, asked, out = LocalCluster.scale, [], tmp_path / "out"
    notebook = notebook_of(tmp_path / "killer.ipynb", work=KILLS_ITS_WORKER_ONCE)
    spec = {"notebook": notebook, "runs": [{"number": 1}, {"broken": True}]}
    with monkeypatch.context() as patch:
        patch.setattr(
            LocalCluster, "scale", lambda cluster, n=0, **_: asked.append(n) if n else scale(cluster, n)
        )
        with pytest.raises(
            BatchError,
            match="Dask has no worker left, and has started none for .* seconds.*the same command goes on",
        ):
            run_batch(spec, out, workers=1)
    assert asked == [2] * utils.batch.runner.REPLACEMENTS
    assert not at_work(out)
    assert pd.read_csv(out / "leaderboard.csv")["status"].tolist() == ["completed"]
    first = out / pd.read_csv(out / "leaderboard.csv")["run_id"][0] / "run.json"
    finished = first.stat().st_mtime_ns
    monkeypatch.setattr(utils.batch.runner, "WORKER_SECONDS", impatient)
    assert run_batch(spec, out, workers=1)["status"].tolist() == ["completed"] * 2
    assert first.stat().st_mtime_ns == finished


def test_workers_that_do_not_start_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(utils.batch.runner, "WORKER_SECONDS", 0.01)
    with pytest.raises(BatchError, match="Dask's workers have not started"):
        run_batch({"notebook": notebook_of(tmp_path / "small.ipynb")}, tmp_path / "out", workers=1)
    wait_for(lambda: not multiprocessing.active_children())


# --- an existing cluster ------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and workers as processes of their own, started in a folder without this repository."""
    processes = []

    def start(*arguments, **environment):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        with open(tmp_path / f"dask-{len(processes)}.txt", "w") as log:
            processes.append(
                subprocess.Popen(command, cwd=tmp_path, env=os.environ | environment, stdout=log, stderr=log)
            )
        return processes[-1]

    file = tmp_path / "scheduler.json"
    here = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    start("dask_scheduler", *here, "--scheduler-file", str(file))
    wait_for(lambda: read_json(file))  # it is there before it is written
    start.address = read_json(file)["address"]
    one = [start.address, "--no-nanny", "--no-dashboard", "--nthreads", "1"]
    one += ["--local-directory", str(tmp_path)]
    start.worker = lambda *options, **environment: start("dask_worker", *one, *options, **environment)
    start.scheduler = processes[0]
    yield start
    for process in reversed(processes):
        process.kill()
        process.wait()


def test_on_a_cluster_a_worker_the_driver_and_the_scheduler_are_killed(sweep, cluster):
    workers = [cluster.worker(), cluster.worker()]
    options = ("--scheduler", cluster.address)
    sweep.start(*options)
    sweep.open(1)
    sweep.wait_for_status(1, "completed")
    kernels = [sweep.wait_for_kernel(2), sweep.wait_for_kernel(3)]  # one on each worker
    by_worker = {kernel.parents()[1].pid: kernel for kernel in kernels}
    assert set(by_worker) == {worker.pid for worker in workers}
    workers[0].kill()
    psutil.wait_procs([by_worker[workers[0].pid]], timeout=20)
    assert [kernel for kernel in kernels if kernel.is_running()] == [by_worker[workers[1].pid]]
    sweep.open(2, 3)  # the other worker does both
    sweep.wait_for_status(2, "completed")
    sweep.wait_for_status(3, "completed")
    sweep.wait_for_kernel(4)
    assert workers[1].poll() is None

    sweep.driver.kill()  # the cluster lives on, and must not go on with what nobody waits for
    sweep.driver.wait()
    wait_for(lambda: not at_work(sweep.out), 20)
    assert workers[1].poll() is None
    finished = completed_runs(sweep.out)
    assert len(finished) == 3

    sweep.start(*options)
    sweep.wait_for_kernel(4)
    cluster.scheduler.kill()
    status, said = sweep.finish()
    assert status == 2
    assert said.splitlines()[-1].startswith("the Dask scheduler was lost")
    assert sweep.leaderboard()["status"].tolist() == ["completed"] * 3  # the fourth is unfinished, not failed
    wait_for(lambda: not at_work(sweep.out), 20)
    assert completed_runs(sweep.out) == finished


def test_runs_are_bound_to_one_device_each_and_what_one_waits_for_is_said(tmp_path, cluster):
    devices = [f"one-{os.getpid()}", f"two-{os.getpid()}"]
    lock = Path(tempfile.gettempdir()) / f"finetune-{getpass.getuser()}-gpu-{devices[0]}.lock"
    sweep = Sweep(tmp_path / "sweep", range(1, 4), together=2)
    sweep.open(*sweep.runs)
    try:
        with FileLock(lock):  # another run has the first device
            sweep.start("--scheduler", cluster.address)
            missing = f"The scheduler {cluster.address} has no worker; waiting for one\n"
            sweep.wait_for(lambda: missing in sweep.log.read_text())
            resources, visible = ("--resources", "GPU=2"), ",".join(devices)
            cluster.worker("--nthreads", "2", *resources, CUDA_VISIBLE_DEVICES=visible)
            sweep.wait_for(lambda: " waits for a GPU that no other run has\n" in sweep.log.read_text())
        status, said = sweep.finish()
    finally:
        sweep.end()
    assert status == 0, said
    assert said.count("waiting for one") == said.count(" waits for ") == 1
    assert not list(sweep.out.glob(".locks/*.waits"))
    used = [printed(read(run / "notebook.ipynb"), "work").split()[1] for run in sweep.runs.values()]
    assert set(used[:2]) == set(devices)  # these two have been at work at one time
    assert used[2] in devices


def test_a_scheduler_that_hangs_is_lost(tmp_path, monkeypatch, cluster):
    gates = tmp_path / "gates"
    gates.mkdir()
    worker = cluster.worker()
    answer = utils.batch.runner._capacity

    def hang(client):
        if list(tmp_path.glob("out/*/began.txt")):
            monkeypatch.setattr(utils.batch.runner, "ANSWER_SECONDS", 1)
            cluster.scheduler.send_signal(signal.SIGSTOP)
            worker.kill()
        return answer(client)

    monkeypatch.setattr(utils.batch.runner, "_capacity", hang)
    monkeypatch.setattr(utils.batch.runner, "CONNECT_SECONDS", 5)
    with pytest.raises(BatchError, match="the Dask scheduler was lost"):
        run_batch(
            {"notebook": notebook_of(tmp_path / "small.ipynb"), "parameters": {"gates": str(gates)}},
            tmp_path / "out",
            scheduler=cluster.address,
        )


def test_no_scheduler_at_the_address_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(utils.batch.runner, "CONNECT_SECONDS", 1)
    with pytest.raises(BatchError, match="there is no Dask scheduler at tcp://127.0.0.1:9 "):
        run_batch(
            {"notebook": notebook_of(tmp_path / "small.ipynb")},
            tmp_path / "out",
            scheduler="tcp://127.0.0.1:9",
        )


# --- disks --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, where this machine lets the tests make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    yield folder if made.returncode == 0 else None
    if made.returncode == 0:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_corrupts_no_finished_run(small_disk, tmp_path, monkeypatch):
    work = "import pathlib\npathlib.Path(output_dir, 'result.txt').write_bytes(b'1' * int(number))"
    out = small_disk or tmp_path / "out"
    spec = {
        "notebook": notebook_of(tmp_path / "filler.ipynb", work=work),
        "grid": {"number": [10, 5_000_000]},
    }
    if small_disk is None:  # the same, from the point of view of what writes the records
        spec["grid"] = {"number": [10, 20]}
        run_batch(spec, out, workers=1)
        monkeypatch.setattr(
            "os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
        )
        assert run_batch(spec, out)["status"].tolist() == ["completed"] * 2
        assert len(pd.read_csv(out / "leaderboard.csv")) == 2
        return
    table = run_batch(spec, out, workers=1)
    assert table["status"].tolist() == ["completed", "failed"]
    assert "No space left on device" in table["error"][1]
    assert json.loads((out / table["run_id"][0] / "run.json").read_text())["status"] == "completed"
    assert (out / table["run_id"][0] / "result.txt").read_text() == "1" * 10
    finished = completed_runs(out)
    (out / table["run_id"][1] / "result.txt").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(out)], check=True)
    table = run_batch(spec, out, workers=1)
    assert table["status"].tolist() == ["completed"] * 2
    assert {run: when for run, when in results(out).items() if run in finished} == finished
