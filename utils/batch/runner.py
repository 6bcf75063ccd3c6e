"""The driver of many papermill runs: side by side on Dask, continued where they stopped, compared.

The driver hands each run to a Dask worker, which starts a process for it, which runs the notebook with
papermill in a kernel. Each holds on to the one above: the process reads from a pipe that closes when its
worker is gone, and the worker stops when the driver is gone. So nothing stays behind when one is killed. A
run counts only when its process has written run.json, last and whole.
"""

import asyncio
import concurrent.futures
import hashlib
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from utils import atomic_path, quote_formula
from utils.batch import worker
from utils.batch.plan import SCORE_COLUMNS, BatchError, Plan, read_plan
from utils.batch.worker import ANSWER_SECONDS, SAY_SECONDS, one_line, run_lock
from utils.reading.checkpoints import unexpected_files
from utils.runs import display_path
from utils.setup.gpu import visible_gpus

COLUMNS = ("run_id", "status", *SCORE_COLUMNS, "seconds", "error")
QUIET = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")
WORKER_DEATHS = 2  # so often a run is started again after its worker died
CONNECT_SECONDS = 30
WORKER_SECONDS = 120  # a local worker may take 15 to start on a busy machine; Dask gives up there, for good
REPLACEMENTS = 3  # so often, from one ended run to the next, others are started in the place of lost workers


def run_batch(
    spec: str | Path | Mapping[str, Any],
    output_dir: str | Path,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = True,
) -> pd.DataFrame:
    """Run what is missing or failed of a sweep, and return the leaderboard.

    A run gets the same threads whether one or two work at a time; more than two share out a machine's cores.
    OMP_NUM_THREADS, if set, goes for every run: another number may change the last digits of a loss.

    Args:
        spec: see `read_plan`.
        output_dir: gets a folder for each run, leaderboard.csv and, from two runs with scores on, what
            `utils.batch.leaderboard.write_summary` writes. One batch at a time works in it.
        workers: runs at a time on this machine; None means one for every two cores.
        scheduler: the address of a running Dask scheduler, whose workers' threads or GPUs say how many runs
            there are at a time. It and they need this package installed. They need the data, output_dir and
            the working directory under the same paths. The batch waits for a worker as long as it takes.
        retry_failed: False leaves the failed runs as they are.

    Returns:
        One row for each run that has ended, in the order of the sweep.

    Raises:
        BatchError: nothing was started, for the sweep has faults, another batch works in the folder, or it
            holds something else. Or the scheduler or all workers were lost: the same call goes on.
    """
    return run_and_sum_up(spec, output_dir, workers, scheduler, retry_failed)[0]


def run_and_sum_up(spec, output_dir, workers, scheduler, retry_failed) -> tuple[pd.DataFrame, str]:
    """Do what `run_batch` does, and return the leaderboard and its summary in words."""
    plan = read_plan(spec)
    output_dir = Path(output_dir).expanduser().absolute()
    _refuse_foreign(output_dir, plan.notebook)
    (output_dir / ".locks").mkdir(parents=True, exist_ok=True)
    final = ("completed",) if retry_failed else ("completed", "failed")
    try:
        with FileLock(output_dir / ".locks" / "batch.lock", timeout=0):
            jobs = jobs_of(plan, output_dir)
            found = {job["run_id"]: worker.record_of(job) for job in jobs}
            records = {run: record for run, record in found.items() if record and record["status"] in final}
            sha256 = jobs[0]["notebook_sha256"]
            if changed := [run for run, record in records.items() if record["notebook_sha256"] != sha256]:
                which = f"{len(changed)} finished runs, {changed[0]} among them,"
                print(f"{which} had another version of the notebook. Delete their folders to repeat them.")
            todo = [job for job in jobs if job["run_id"] not in records]
            leaderboard = _write_leaderboard(plan, records, output_dir)
            if todo:
                number = max(1, min(workers or (os.cpu_count() or 2) // 2, len(todo)))
                _work(todo, records, lambda: _write_leaderboard(plan, records, output_dir), number, scheduler)
                leaderboard = _write_leaderboard(plan, records, output_dir)
            return leaderboard, _summary(leaderboard, output_dir)
    except Timeout:
        reason = f"another batch is at work in {display_path(output_dir)}"
        raise BatchError(f"{reason}; wait for it, or give another output_dir") from None


def _refuse_foreign(output_dir: Path, notebook: Path) -> None:
    """Refuse a folder in which a batch would overwrite what none has made, such as the repository."""
    where = display_path(output_dir)
    if (output_dir / notebook.name).exists() and (output_dir / notebook.name).samefile(notebook):
        reason = "holds the notebook, which a copy without outputs would replace"
        raise BatchError(f"{where} {reason}; give another output_dir")
    unexpected = unexpected_files(output_dir, ("*.ipynb", "*.yaml", "*.yml", "*.log", "lost+found", ".*"))
    if unexpected and not (output_dir / ".locks").is_dir() and not (output_dir / "leaderboard.csv").exists():
        reason = f"holds what no batch has made: {', '.join(unexpected[:5])}"
        raise BatchError(f"{where} {reason}; give a new or an empty folder as output_dir")


def jobs_of(plan: Plan, output_dir: Path) -> list[dict[str, Any]]:
    """Return what the run processes are told. They get a copy of the notebook: it may be edited."""
    import nbformat

    notebook = nbformat.read(plan.notebook, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = json.dumps([cell.source for cell in code])
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    copy = output_dir / plan.notebook.name
    with atomic_path(copy) as partial:
        nbformat.write(notebook, partial)
    common = {"notebook": str(copy), "notebook_sha256": hashlib.sha256(sources.encode()).hexdigest()}
    common |= {"names": list(plan.defaults), "cwd": os.getcwd()}
    runs = [{"run_id": run.run_id, "parameters": run.parameters} for run in plan.runs]
    return [common | run | {"folder": str(output_dir / run["run_id"])} for run in runs]


def _work(todo: list[dict], records: dict, write: Callable, number: int, scheduler: str | None) -> None:
    """Keep every worker busy until nothing is left to do, and the leaderboard up to date."""
    waiting, running, noted = list(reversed(todo)), {}, set()  # running: future -> job
    try:
        with _progress_bar(len(todo), len(records)) as bar, _cluster(number, scheduler) as client:
            pool = _Workers(client, number, scheduler, bar)
            try:
                while waiting or running:
                    _start(waiting, running, pool)
                    _show(bar, records, running, noted)
                    for future in _ended(running):
                        job = running.pop(future)
                        records[job["run_id"]] = _outcome(future, job)
                        future.release()  # or Dask repeats the run, should the worker with its result die
                        write()
                        pool.replaced = 0
                        bar.update()
            finally:
                with suppress(Exception):  # a scheduler that is gone has nothing to cancel
                    client.cancel(list(running), force=True)
    except (asyncio.CancelledError, concurrent.futures.CancelledError, OSError) as error:
        reason = f"the Dask scheduler was lost ({type(error).__name__})"
        raise BatchError(f"{reason}; the same command goes on with what is unfinished") from None
    finally:
        for job in running.values():  # when the prompt is back, nothing runs any more
            with suppress(Timeout), run_lock(job, timeout=20):
                pass


def _start(waiting: list[dict], running: dict[Any, dict], pool: "_Workers") -> None:
    """Start as many runs as there are free workers."""
    threads, gpu, capacity = _capacity(pool.client)
    capacity = pool.check(capacity, gpu or not any(job["gpu"] for job in running.values()))
    # What the user has set goes for every run.
    own = {name: os.environ[name] for name in worker.THREADS if name in os.environ}
    while waiting and len(running) < capacity:
        job = waiting.pop() | {"gpu": gpu, "attempt": str(time.time_ns())}
        worker.note_of(job).unlink(missing_ok=True)  # of one that was killed
        environment = dict.fromkeys(QUIET, "1") | own | {worker.LEFT_BEHIND: job["folder"]}
        key, resources = f"{job['run_id']}-{job['attempt']}", {"GPU": 1} if gpu else None
        options = {"key": key, "pure": False, "resources": resources}
        future = pool.client.submit(worker.run_on_worker, job, environment, threads, **options)
        running[future] = job


def _show(bar: Any, records: Mapping[str, Any], running: Mapping[Any, dict], noted: set[str]) -> None:
    """Show how far the batch is, and say once what an attempt waits for."""
    failed = sum(record["status"] == "failed" for record in records.values())
    bar.set_description_str(f"{len(records) - failed} done, {failed} failed, {len(running)} running")
    for job in running.values():
        with suppress(OSError):  # there is no note, as a rule
            if job["attempt"] not in noted:
                bar.write(worker.note_of(job).read_text(encoding="utf-8"), file=sys.stderr)
                noted.add(job["attempt"])


def _ended(running: Mapping[Any, dict]) -> set:
    """Return the futures of the runs that have ended; wait a second at most for the first."""
    from distributed import wait

    if not running:  # no worker at the moment
        time.sleep(1)
        return set()
    with suppress(TimeoutError):
        return wait(list(running), timeout=1, return_when="FIRST_COMPLETED").done
    return set()


def _progress_bar(todo: int, done: int) -> Any:
    """Return a progress bar for a terminal or a notebook, where bars are wanted."""
    from tqdm.auto import tqdm

    off = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in ("1", "ON", "YES", "TRUE")
    return tqdm(total=done + todo, initial=done, unit="run", disable=off, dynamic_ncols=True)


@contextmanager
def _cluster(workers: int, scheduler: str | None) -> Iterator[Any]:
    """Yield a Dask client: of an existing scheduler, or of local processes that end with this one."""
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise BatchError(f"there is no Dask scheduler at {scheduler} ({error})") from None
        with client:
            yield client
        return
    try:
        resources = {"GPU": 1} if visible_gpus() else None
    except RuntimeError as error:
        raise BatchError(str(error)) from None
    settings = {
        "distributed.scheduler.allowed-failures": WORKER_DEATHS,
        "distributed.comm.timeouts.connect": "60s",
        # Dask starts no worker again that is later than this.
        "distributed.deploy.lost-worker-timeout": f"{2 * WORKER_SECONDS}s",
    }
    with dask.config.set(settings):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                memory_limit=0,  # the runs take it, and they are processes of their own
                silence_logs=50,
                # Ctrl-C is for the driver, which ends the workers.
                preload=["import signal; signal.signal(signal.SIGINT, lambda *_: None)"],
                resources=resources,
                death_timeout=WORKER_SECONDS,  # without it Dask would wait for ever, and so would the batch
            )
        except Exception as error:  # Dask's own way out of a late start ends with an AssertionError
            reason = f"Dask's workers have not started ({one_line(type(error).__name__, str(error))})"
            raise BatchError(f"{reason}; the same command tries again") from None
        with cluster, Client(cluster) as client:
            yield client


class _Workers:
    """Says that workers are missing, starts others in the place of this machine's, or gives up."""

    def __init__(self, client: Any, number: int, scheduler: str | None, bar: Any):
        self.client, self.number, self.scheduler, self.bar = client, number, scheduler, bar
        self.capacity, self.missing_since, self.warned = number, math.inf, False
        self.replaced = 0  # how often others were started since a run has ended

    def check(self, capacity: int, fit: bool) -> int:
        """Return how many runs there may be at a time, where the present workers have room for `capacity`.

        `fit` is False where runs wait for a GPU that no worker has any more.

        Raises:
            BatchError: this machine has no worker, and there is none to be had.
        """
        if capacity != self.capacity:  # a change begins the wait anew
            self.missing_since, self.capacity = math.inf, capacity
        missing = 0 if self.scheduler else max(0, self.number - capacity)
        if capacity and fit and not missing:
            self.missing_since, self.warned = math.inf, False
            return capacity if self.scheduler else self.number  # one that was replaced may come back
        now = time.monotonic()
        self.missing_since = min(self.missing_since, now)
        late = now - self.missing_since
        if late > SAY_SECONDS and not self.warned:
            self.warned = True
            text = f"{missing} of {self.number} workers lost; Dask starts others"
            if self.scheduler:
                kind = "worker" if fit else "worker with a GPU"
                text = f"The scheduler {self.scheduler} has no {kind}; waiting for one"
            self.bar.write(text, file=sys.stderr)  # at once, also where stdout is a file
        if missing and late > WORKER_SECONDS:
            if self.replaced < REPLACEMENTS:
                self.missing_since, self.replaced = now, self.replaced + 1
                self.client.cluster.scale(len(self.client.cluster.worker_spec) + missing)
            elif not capacity:
                reason = f"Dask has no worker left, and has started none for {late:.0f} seconds"
                hint = "the machine may be busy, or short of memory; the same command goes on with the rest"
                raise BatchError(f"{reason}: {hint}")
        return capacity


def _capacity(client: Any) -> tuple[dict[str, int], bool, int]:
    """Return the workers' threads by host, whether they have GPUs, and how many runs they can do at a time.

    One for each thread or GPU: what waits in a worker's queue would count as hit when the worker dies.
    """
    from distributed.comm.addressing import get_address_host

    workers = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS)["workers"]
    threads = Counter()
    for address, each in workers.items():
        threads[get_address_host(address)] += each["nthreads"]
    gpus = sum(each.get("resources", {}).get("GPU", 0) for each in workers.values())
    return threads, gpus > 0, int(gpus) or sum(threads.values())


def _outcome(future: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a run that has ended, and make one where its process could not."""
    if future.status == "finished":
        code, last_line, record = future.result()
        if code == 0 and record.get("status") in ("completed", "failed"):
            return record
        reason = f"RunProcessError: the run's process ended with code {code}"
        if last_line and code >= 0:  # below 0 a signal killed it, and the line is not its own
            reason += f": {last_line}"
    else:
        error = future.exception()
        reason = one_line(type(error).__name__, str(error))
        if reason.startswith("KilledWorker"):
            reason = f"KilledWorker: {error.allowed_failures + 1} workers died while they ran it"
    record = {name: job[name] for name in ("run_id", "notebook_sha256", "parameters")}
    record |= {"resumed": False, "started": time.time(), "status": "failed"}
    record |= {"seconds": None, "error": reason[:500], "scores": {}}
    with suppress(OSError, Timeout), run_lock(job, timeout=20):
        worker.end_left_behind(job["folder"])
        worker.note_error(job, reason)
        worker.write_json(Path(job["folder"]) / "run.json", record)
    return record


def _write_leaderboard(plan: Plan, records: Mapping[str, dict], output_dir: Path) -> pd.DataFrame:
    rows = []
    for run in plan.runs:
        if record := records.get(run.run_id):
            parameters = {column_of(name): value for name, value in run.settings.items()}
            rows.append(record | record["scores"] | parameters | {"run_id": run.run_id})
    parameters = [column_of(name) for name in plan.runs[0].settings]
    scores = [column for column in SCORE_COLUMNS if any(column in row for row in rows)]
    table = pd.DataFrame(rows, columns=["run_id", *parameters, "status", *scores, "seconds", "error"])
    try:
        with atomic_path(output_dir / "leaderboard.csv") as partial:
            table.map(quote_formula).rename(columns=quote_formula).to_csv(partial, index=False)
    except OSError as error:
        reason = f"leaderboard.csv could not be written ({error.strerror})"
        print(f"{reason}; the runs' own records are what counts, and the next call writes it")
    return table


def column_of(name: str) -> str:
    """Return the column of a parameter in the leaderboard: its name, unless a column of its own has that."""
    return f"parameter_{name}" if name in COLUMNS else name


def _summary(leaderboard: pd.DataFrame, output_dir: Path) -> str:
    """Write the summary where there are runs to compare, and return it in words."""
    if leaderboard.filter(items=SCORE_COLUMNS).notna().any(axis=1).sum() < 2:
        return ""
    from utils.batch.leaderboard import write_summary

    try:
        return write_summary(leaderboard, output_dir)
    except (OSError, ValueError) as error:  # the disk is full, ...: the leaderboard is what counts
        return f"no summary: {one_line(type(error).__name__, str(error))}"
