"""Many papermill runs from one file: checked before the first starts, side by side on Dask, continued where they stopped, compared.

    python -m utils.batch notebooks/params/sweep.yaml --output-dir runs/sweep --workers 2

This command, the driver, hands each run to a Dask worker; the worker starts a process for it, and that process runs the notebook with papermill
in a kernel. Each holds on to the one above: the run's process reads from a pipe that closes when its worker is gone, and the worker stops when the
driver is gone. So nothing stays behind when one of them is killed, and a run counts only when its process has written run.json, last and whole.
"""

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from utils import atomic_path, quote_formula
from utils.batch.plan import SCORE_COLUMNS, BatchError, Plan, read_plan
from utils.batch.worker import (
    ANSWER_SECONDS,
    LEFT_BEHIND,
    SAY_SECONDS,
    THREADS,
    end_left_behind,
    note_error,
    note_of,
    one_line,
    record_of,
    run_lock,
    run_on_worker,
    verdict,
    write_json,
)
from utils.runs import display_path, unexpected_files
from utils.setup.gpu import visible_gpus

COLUMNS = ("run_id", "status", *SCORE_COLUMNS, "seconds", "error")
WORKER_DEATHS = 2  # so often a run is started again after its worker died
CONNECT_SECONDS = 30
WORKER_SECONDS = 120  # a local worker takes one or two to start, on a busy machine more than 15: Dask gives up there, and starts none in its place
REPLACEMENTS = 3  # so often, from one ended run to the next, workers are started in the place of lost ones; if that does not help, more of it will not


@contextmanager
def _cluster(workers: int, scheduler: str | None) -> Iterator[Any]:
    """Yield a Dask client: of an existing scheduler, or of a cluster of local processes that ends with this one."""
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
    settings = {
        "distributed.scheduler.allowed-failures": WORKER_DEATHS,
        "distributed.comm.timeouts.connect": "60s",
    }
    settings |= {
        "distributed.deploy.lost-worker-timeout": f"{2 * WORKER_SECONDS}s"
    }  # then the worker is not started again, if it is so late
    try:
        resources = {"GPU": 1} if visible_gpus() else None
    except RuntimeError as error:
        raise BatchError(str(error)) from None
    with dask.config.set(settings):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                memory_limit=0,  # the runs are processes of their own: what the worker itself takes says nothing
                silence_logs=50,
                preload=[
                    "import signal; signal.signal(signal.SIGINT, lambda *_: None)"
                ],  # Ctrl-C is for the driver, which ends the workers
                resources=resources,
                death_timeout=WORKER_SECONDS,  # for its start; without it Dask would wait, and so would the end of the batch
            )
        except (
            Exception
        ) as error:  # whatever it is: Dask's own way out of a late start ends with an AssertionError
            raise BatchError(
                f"Dask's workers have not started ({one_line(type(error).__name__, str(error))}); the same command tries again"
            ) from None
        with cluster, Client(cluster) as client:
            yield client


def run_batch(
    spec: str | Path | Mapping[str, Any],
    output_dir: str | Path,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = True,
) -> pd.DataFrame:
    """Run what is missing or failed of a sweep, and return the leaderboard.

    A run gets the same threads whether one or two work at a time; with more than two workers a machine's cores are shared out among them. Set
    OMP_NUM_THREADS to give every run the same number anywhere: with another number the last digits of a loss may differ.

    Args:
        spec: see `read_plan`.
        output_dir: gets a folder for each run, leaderboard.csv and, from two runs with scores on, what `utils.batch.leaderboard.write_summary` writes.
            One batch at a time works in it.
        workers: runs at a time on this machine; None means one for every two cores. With a scheduler, its workers' threads decide.
        scheduler: the address of a running Dask scheduler. Its workers need this package installed, and the data and output_dir under the same paths.
            While it has none, the batch says so once and waits for one, as long as it takes; Ctrl-C ends it.
        retry_failed: False leaves the failed runs as they are.

    Returns:
        The leaderboard: one row for each run that has ended, in the order of the sweep.

    Raises:
        BatchError: the sweep has faults (nothing was started), another batch works in the folder or it holds something else, the scheduler was lost, or
            the workers of this machine were, for good. The last two keep what is finished; the same call goes on.
    """
    return run_and_sum_up(spec, output_dir, workers, scheduler, retry_failed)[0]


def run_and_sum_up(
    spec: str | Path | Mapping[str, Any],
    output_dir: str | Path,
    workers: int | None,
    scheduler: str | None,
    retry_failed: bool,
) -> tuple[pd.DataFrame, str]:
    plan = read_plan(spec)
    output_dir = Path(output_dir).expanduser().absolute()
    _refuse_foreign(output_dir, plan.notebook)
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / ".locks").mkdir(exist_ok=True)
    try:
        with FileLock(output_dir / ".locks" / "batch.lock", timeout=0):
            jobs = jobs_of(plan, output_dir)
            records = {job["run_id"]: record for job in jobs if (record := record_of(job))}
            _warn_of_another_version(jobs, records)
            todo = [
                job
                for job in jobs
                if records.get(job["run_id"], {}).get("status")
                not in (("completed",) if retry_failed else ("completed", "failed"))
            ]
            for job in todo:
                records.pop(job["run_id"], None)
            leaderboard = _write_leaderboard(plan, records, output_dir)
            if todo:
                _work(plan, todo, records, output_dir, workers, scheduler)
                leaderboard = _write_leaderboard(plan, records, output_dir)
            return leaderboard, _summary(leaderboard, output_dir)
    except Timeout:
        raise BatchError(
            f"another batch is at work in {display_path(output_dir)}; wait for it, or give another output_dir"
        ) from None


def _refuse_foreign(output_dir: Path, notebook: Path) -> None:
    """Refuse a folder in which a batch would overwrite what none has made: the repository, for one, or the notebook itself."""
    if (output_dir / notebook.name).exists() and (output_dir / notebook.name).samefile(notebook):
        raise BatchError(
            f"{display_path(output_dir)} holds the notebook, which a copy without outputs would replace; give another output_dir"
        )
    unexpected = unexpected_files(output_dir, ("*.ipynb", "*.yaml", "*.yml", "*.log", "lost+found", ".*"))
    if unexpected and not (output_dir / ".locks").is_dir() and not (output_dir / "leaderboard.csv").exists():
        raise BatchError(
            f"{display_path(output_dir)} holds what no batch has made: {', '.join(unexpected[:5])}; give a new or an empty folder as output_dir"
        )


def jobs_of(plan: Plan, output_dir: Path) -> list[dict[str, Any]]:
    """Return what the run processes are told. The notebook is copied: somebody may go on editing it while the batch runs."""
    import nbformat

    notebook = nbformat.read(plan.notebook, as_version=4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    copy = output_dir / plan.notebook.name
    with atomic_path(copy) as partial:
        nbformat.write(notebook, partial)
    common = {
        "notebook": str(copy),
        "notebook_sha256": hashlib.sha256(json.dumps(sources).encode()).hexdigest(),
        "names": list(plan.defaults),
    }
    common |= {"cwd": os.getcwd()}
    return [
        common | {"run_id": run.run_id, "folder": str(output_dir / run.run_id), "parameters": run.parameters}
        for run in plan.runs
    ]


def _warn_of_another_version(jobs: list[dict[str, Any]], records: Mapping[str, Any]) -> None:
    changed = [
        job["run_id"]
        for job in jobs
        if records.get(job["run_id"], job)["notebook_sha256"] != job["notebook_sha256"]
    ]
    if changed:
        print(
            f"{len(changed)} finished runs were made with another version of the notebook, {changed[0]} among them. Delete their folders to repeat them."
        )


def _work(
    plan: Plan,
    todo: list[dict],
    records: dict[str, Any],
    output_dir: Path,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Keep every worker busy until nothing is left, and the leaderboard up to date."""
    import asyncio
    import concurrent.futures

    import distributed

    environment = {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }
    environment |= {
        name: os.environ[name] for name in THREADS if name in os.environ
    }  # set by the user: theirs for every run
    workers = max(1, min(workers or (os.cpu_count() or 2) // 2, len(todo)))
    waiting, running, told = list(reversed(todo)), {}, set()
    try:
        with _progress_bar(len(plan.runs), len(records)) as bar, _cluster(workers, scheduler) as client:
            hands = _Workers(client, workers, scheduler, bar)
            try:
                while waiting or running:
                    threads, gpu, capacity = _capacity(client)
                    capacity = hands.check(capacity, gpu or not any(job["gpu"] for job in running.values()))
                    while waiting and len(running) < capacity:
                        job = waiting.pop() | {"gpu": gpu, "attempt": str(time.time_ns())}
                        note_of(job).unlink(missing_ok=True)  # of one that was killed
                        options = {
                            "key": f"{job['run_id']}-{job['attempt']}",
                            "pure": False,
                            "resources": {"GPU": 1} if gpu else None,
                        }
                        running[
                            client.submit(
                                run_on_worker,
                                job,
                                environment | {LEFT_BEHIND: job["folder"]},
                                threads,
                                **options,
                            )
                        ] = job
                    failed = sum(record["status"] == "failed" for record in records.values())
                    bar.set_description_str(
                        f"{len(records) - failed} done, {failed} failed, {len(running)} running"
                    )
                    for job in running.values():
                        with suppress(OSError):  # there is none, as a rule
                            if job["attempt"] not in told:
                                _say(bar, note_of(job).read_text(encoding="utf-8"))
                                told.add(job["attempt"])
                    ended = []
                    if running:
                        with suppress(TimeoutError):
                            ended = distributed.wait(
                                list(running), timeout=1, return_when="FIRST_COMPLETED"
                            ).done
                    else:
                        time.sleep(1)  # no worker at the moment
                    for future in ended:
                        job = running.pop(future)
                        records[job["run_id"]] = _outcome(future, job)
                        future.release()  # or Dask would do the run again, should the worker that holds its result die
                        _write_leaderboard(plan, records, output_dir)
                        hands.replaced = 0
                        bar.update()
            except BaseException:
                with suppress(Exception):  # a scheduler that is gone has nothing to cancel
                    client.cancel(list(running), force=True)
                raise
    except (
        asyncio.CancelledError,
        concurrent.futures.CancelledError,
        OSError,
    ) as error:  # CommClosedError is an OSError
        raise BatchError(
            f"the Dask scheduler was lost ({type(error).__name__}); the same command goes on with what is unfinished"
        ) from None
    finally:
        for job in running.values():  # when the prompt is back, nothing runs any more
            with suppress(Timeout), run_lock(job, timeout=20):
                pass


def _say(bar: Any, text: str) -> None:
    bar.write(text, file=sys.stderr)  # at once, also where stdout is a file


def _progress_bar(total: int, done: int) -> Any:
    """Return a progress bar for a terminal or a notebook, where bars are wanted."""
    from tqdm.auto import tqdm

    off = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in ("1", "ON", "YES", "TRUE")
    return tqdm(total=total, initial=done, unit="run", disable=off, dynamic_ncols=True)


class _Workers:
    """Looks after the workers: says that some are missing, starts others in the place of this machine's, and gives up where that does not help."""

    def __init__(self, client: Any, number: int, scheduler: str | None, bar: Any):
        self.client, self.number, self.scheduler, self.bar = client, number, scheduler, bar
        self.since, self.said = math.inf, False  # since when some are missing, and whether that was said
        self.capacity = number
        self.replaced = 0  # how often others were started since a run has ended

    def check(self, capacity: int, fit: bool) -> int:
        """Return how many runs there may be at a time. `fit` is False where runs wait for a GPU that no worker has any more.

        Raises:
            BatchError: this machine has no worker, and there is none to be had.
        """
        if capacity != self.capacity:  # a change begins the wait anew
            self.since, self.capacity = math.inf, capacity
        missing = 0 if self.scheduler else max(0, self.number - capacity)
        if capacity and fit and not missing:
            self.since, self.said = math.inf, False
            return capacity if self.scheduler else self.number  # one that was replaced may come back
        self.since = min(self.since, time.monotonic())
        late = time.monotonic() - self.since
        if late > SAY_SECONDS and not self.said:
            self.said = True
            theirs = (
                f"The scheduler {self.scheduler} has no worker{'' if fit else ' with a GPU'}; waiting for one"
            )
            _say(
                self.bar,
                theirs if self.scheduler else f"{missing} of {self.number} workers lost; Dask starts others",
            )
        if missing and late > WORKER_SECONDS:
            if self.replaced < REPLACEMENTS:
                self.since, self.replaced = time.monotonic(), self.replaced + 1
                self.client.cluster.scale(len(self.client.cluster.worker_spec) + missing)
            elif not capacity:
                raise BatchError(
                    f"Dask has no worker left, and has started none for {late:.0f} seconds: this machine may be too busy, or short of memory. "
                    "What is finished is kept; the same command goes on with the rest"
                )
        return capacity


def _capacity(client: Any) -> tuple[dict[str, int], bool, int]:
    """Return the workers' threads for each machine, whether they have GPUs, and how many runs they can do at a time.

    One run for each thread or GPU, no more: what waits in a worker's queue would count as hit when the worker dies.
    """
    from distributed.comm.addressing import get_address_host

    workers = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS)["workers"]
    threads: dict[str, int] = {}
    for address, worker in workers.items():
        threads[get_address_host(address)] = threads.get(get_address_host(address), 0) + worker["nthreads"]
    gpus = sum(worker.get("resources", {}).get("GPU", 0) for worker in workers.values())
    return threads, gpus > 0, int(gpus) or sum(threads.values())


def _outcome(future: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a run that has ended, and make one where its process could not."""
    if future.status == "finished":
        code, said, record = future.result()
        if code == 0 and record.get("status") in ("completed", "failed"):
            return record
        # Killed by a signal (below 0) it has said nothing of its own; the last line is some warning of its kernel's.
        reason = f"RunProcessError: the run's process ended with code {code}" + (
            f": {said}" if said and code >= 0 else ""
        )
    else:
        error = future.exception()
        died = type(error).__name__ == "KilledWorker"
        reason = (
            f"KilledWorker: {error.allowed_failures + 1} workers died while they ran it"
            if died
            else one_line(type(error).__name__, str(error))
        )
    record = {name: job[name] for name in ("run_id", "notebook_sha256", "parameters")} | {
        "resumed": False,
        "started": time.time(),
    }
    record |= verdict(job, reason[:500], math.nan) | {"seconds": None}
    with suppress(OSError, Timeout), run_lock(job, timeout=20):
        end_left_behind(job["folder"])
        note_error(job, reason)
        write_json(Path(job["folder"]) / "run.json", record)
    return record


def _write_leaderboard(plan: Plan, records: Mapping[str, dict], output_dir: Path) -> pd.DataFrame:

    rows = []
    for run in plan.runs:
        if run.run_id in records:
            record = records[run.run_id]
            named = {column_of(name): value for name, value in run.shown.items()}
            rest = (
                {"status": record["status"]}
                | record["scores"]
                | {"seconds": record["seconds"], "error": record["error"]}
            )
            rows.append({"run_id": run.run_id} | named | rest)
    parameters = [column_of(name) for name in plan.runs[0].shown]
    scores = [column for column in SCORE_COLUMNS if any(column in row for row in rows)]
    table = pd.DataFrame(rows, columns=["run_id", *parameters, "status", *scores, "seconds", "error"])
    try:
        with atomic_path(output_dir / "leaderboard.csv") as partial:
            quoted = table.map(quote_formula).rename(columns=quote_formula)
            quoted.to_csv(partial, index=False)
    except OSError as error:
        print(
            f"leaderboard.csv could not be written ({error.strerror}); the runs' own records are what counts, and the next call writes it"
        )
    return table


def _summary(leaderboard: pd.DataFrame, output_dir: Path) -> str:
    """Write the summary where there are runs to compare, and return it in words."""
    scores = [column for column in SCORE_COLUMNS if column in leaderboard]
    if not scores or (leaderboard[scores].notna().any(axis=1)).sum() < 2:
        return ""
    from utils.batch.leaderboard import write_summary

    try:
        return write_summary(leaderboard, output_dir)
    except (
        OSError,
        ValueError,
    ) as error:  # the disk is full, ...: the runs and the leaderboard are what counts
        return f"no summary: {one_line(type(error).__name__, str(error))}"


def column_of(name: str) -> str:
    """Return the column of a parameter in the leaderboard: its name, unless that is a column of the leaderboard's own."""
    return f"parameter_{name}" if name in COLUMNS else name
