"""Many papermill runs from one file: checked before the first starts, side by side on Dask, continued where they stopped, compared.

    python -m utils.batch notebooks/params/sweep.yaml --output-dir runs/sweep --workers 2

This command, the driver, hands each run to a Dask worker; the worker starts a process for it, and that process runs the notebook with papermill
in a kernel. Each holds on to the one above: the run's process reads from a pipe that closes when its worker is gone, and the worker stops when the
driver is gone. So nothing stays behind when one of them is killed, and a run counts only when its process has written run.json, last and whole.
"""

import argparse
import ast
import difflib
import getpass
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from utils import ROOT, atomic_path, find_input, quote_formula
from utils.runs import (
    PARAMETERS,
    SCORE_COLUMNS,
    ParameterError,
    check_parameters,
    display_path,
    read_json,
    saved_checkpoints,
    strangers_in,
    without_home,
)

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("notebook", "parameters", "grid", "runs")
OURS = ("output_dir", "resume")  # parameters that the batch sets itself, where a notebook has them
COLUMNS = ("run_id", "status", *SCORE_COLUMNS, "seconds", "error")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "RAYON_NUM_THREADS")
LEFT_BEHIND = "FINETUNE_BATCH_RUN"  # an environment variable: the folder a run's process works for, and `_kernel_of` it for its kernel
WORKER_DEATHS = 2  # so often a run is started again after its worker died
CONNECT_SECONDS = 30
WORKER_SECONDS = 120  # a local worker takes one or two to start, on a busy machine more than 15: Dask gives up there, and starts none in its place
REPLACEMENTS = 3  # so often, from one ended run to the next, workers are started in the place of lost ones; if that does not help, more of it will not
ANSWER_SECONDS = 120  # for what answers at once unless it hangs: a scheduler, nvidia-smi, the process of a run that shall end
SAY_SECONDS = 10  # who waits longer says what for


class BatchError(ValueError):
    """A sweep that cannot start or go on; the message holds every fault that was found."""


# --- the plan ---------------------------------------------------------------------------------------------------------


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
    common, grid, more = (_section(found, key, kind, faults) for key, kind in (("parameters", dict), ("grid", dict), ("runs", list)))
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
    given = [("parameters", name, [value]) for name, value in common.items()] + [("grid", name, values) for name, values in grid.items()]
    given += [(f"runs[{place}]", name, [value]) for place, run in enumerate(more) for name, value in run.items()]
    for place, name, values in given:
        if name not in defaults:
            faults.append(f"{place}: {_unknown('parameter', name, defaults)}")
        elif name in OURS:
            faults.append(f"{place}: {name} is set by the batch, for each run; leave it out")
        else:
            faults += [f"{place}: {fault}" for value in values if (fault := _fault(name, value, defaults))]
    if faults:
        raise BatchError("\n".join(faults))

    own = [(dict(zip(grid, values, strict=True)), "grid") for values in product(*grid.values())] if grid or not more else []
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
    digest = hashlib.sha256(json.dumps([notebook, _canonical(parameters)], sort_keys=True).encode()).hexdigest()[:10]
    words = [f"{name}-{Path(value).name if isinstance(value, str) else _canonical(value)}" for name, value in sorted(changes.items())]
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
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # no UTF-8, a day that no month has, a list within itself
        raise BatchError(f"cannot be read: {error}") from None
    raise BatchError(f"must hold the keys {', '.join(KEYS)}")


def _repeated(node: Any) -> list[str]:
    """Name the keys that stand twice: YAML would silently take the last one."""
    if isinstance(node.value, str):
        return []
    pairs = node.value if node.id == "mapping" else [(None, each) for each in node.value]
    names = [key.value for key, _ in pairs if key is not None]
    faults = [f"line {key.start_mark.line + 1}: {key.value} stands twice" for i, (key, _) in enumerate(pairs) if key is not None and key.value in names[:i]]
    return faults + [fault for _, value in pairs for fault in _repeated(value)]


def _section(found: Mapping[str, Any], key: str, kind: type, faults: list[str]) -> Any:
    value = found.get(key)
    if value is not None and not isinstance(value, kind):
        faults.append(f"{key} must be {'names with values' if kind is dict else 'a list'}, not {value!r}")
    return kind(value) if isinstance(value, kind) else kind()


def _unknown(what: str, name: Any, names: Any) -> str:
    near = difflib.get_close_matches(str(name), list(names), n=1)
    return f"there is no {what} {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names) or 'none'}")


def _defaults(notebook: Path) -> dict[str, Any]:
    """Return the parameters of a notebook with their defaults; one that is no literal stays as its source text."""
    try:
        found = _papermill().inspect_notebook(str(notebook))
    except Exception as error:  # whatever is in that file, it is no notebook
        raise BatchError(f"{notebook} cannot be read as a notebook ({error})") from None
    defaults = {}
    for name, each in found.items():
        try:
            defaults[name] = ast.literal_eval(each["default"])
        except (ValueError, SyntaxError):
            defaults[name] = each["default"]
    return defaults


def _papermill() -> Any:
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
    hint = f"; YAML reads it as a text: write {number[1]}{number[2] or '.0'}e{int(number[3]):+d}" if number else ""
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
    fits = value is None or expected is None or (isinstance(value, expected) and (bool in expected or not isinstance(value, bool)))
    return None if fits else f"{name} must be like its default {default!r}, not {value!r} ({type(value).__name__}){hint}"


# --- one run, in a process of its own ----------------------------------------------------------------------------------


def run_one() -> None:
    """Be the process of one run: its job is the first line of stdin, and stdin closes when nobody waits for it any more."""
    stdin = os.fdopen(os.dup(0), "rb", buffering=0)  # unbuffered: Python cannot end while a thread waits in a buffered one
    job = json.loads(stdin.readline())
    writing, turn = threading.Lock(), _run_lock(job, timeout=0)

    def end_with_the_worker():
        stdin.read()
        _note(job).unlink(missing_ok=True)
        with writing:  # from here on no record is written: a kernel that is killed here is not the notebook's failure
            if turn.is_locked:  # otherwise the kernel is another attempt's
                _end_left_behind(job["folder"])
            os._exit(1)

    threading.Thread(target=end_with_the_worker, daemon=True).start()

    def my_turn() -> Any:
        with suppress(Timeout):
            return turn.acquire()
        return None

    # An earlier attempt, perhaps on another machine, may still be at work.
    with _wait(job, my_turn, "an earlier attempt at it to end"), _wait(job, _free_gpu, "a GPU that no other run has") if job["gpu"] else nullcontext():
        os.environ[LEFT_BEHIND] = _kernel_of(job["folder"])  # what is started from here on
        _end_left_behind(job["folder"])
        before = _record(job) or {}
        # Dask asks again for what it lost with a worker, also when that run had failed and said so.
        if before.get("status") != "completed" and before.get("attempt") != job["attempt"]:
            _attempt(job, writing)


def _wait(job: Mapping[str, Any], attempt: Callable[[], Any], what: str) -> Any:
    """Try until something comes of it, and return that. What takes long is noted in a file, for the driver to say it."""
    note, until = _note(job), time.monotonic() + SAY_SECONDS
    while (found := attempt()) is None:
        if time.monotonic() > until and not note.exists():
            with suppress(OSError):  # a full disk: it waits all the same
                note.write_text(f"{job['run_id']} waits for {what}", encoding="utf-8")
        time.sleep(0.5)
    note.unlink(missing_ok=True)
    return found


def _note(job: Mapping[str, Any]) -> Path:
    return Path(job["folder"]).parent / ".locks" / f"{job['run_id']}.waits"


def _gpus() -> list[str]:
    """Return the GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None and shutil.which("nvidia-smi"):
        try:
            listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=ANSWER_SECONDS).stdout.splitlines()
        except subprocess.TimeoutExpired:
            reason = f"nvidia-smi has not answered for {ANSWER_SECONDS} seconds: something is wrong with the GPU's driver"
            raise BatchError(f"{reason}; to do without a GPU, set CUDA_VISIBLE_DEVICES to nothing") from None
        named = ",".join(map(str, range(sum(line.startswith("GPU ") for line in listed))))
    return [device for device in (named or "").split(",") if device not in ("", "-1")]


def _free_gpu() -> FileLock | None:
    """Bind this process and its kernel to a GPU that no other run has. The lock is the machine's: workers that share it do not know of each other."""
    if not (devices := _gpus()):
        raise RuntimeError("the worker declares a GPU, and neither CUDA_VISIBLE_DEVICES nor nvidia-smi names one")
    for device in devices:
        lock = FileLock(Path(tempfile.gettempdir()) / f"finetune-{getpass.getuser()}-gpu-{re.sub('[^A-Za-z0-9-]', '_', device)}.lock", timeout=0)
        with suppress(Timeout):
            lock.acquire()
            os.environ["CUDA_VISIBLE_DEVICES"] = device
            return lock
    return None


def _attempt(job: Mapping[str, Any], writing: threading.Lock) -> None:
    papermill = _papermill()

    folder, names = Path(job["folder"]), job["names"]
    before = read_json(folder / "run.json")
    # A failed run is continued once: if that fails too, as where the data have changed, it starts afresh.
    trusted = before.get("parameters") == job["parameters"] and not (before.get("status") == "failed" and before.get("resumed"))
    resume = "resume" in names and trusted and bool(saved_checkpoints(folder / "checkpoints"))
    if folder.exists() and not resume:
        aside = folder.parent / "previous" / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
    record = {name: job[name] for name in ("run_id", "attempt", "notebook_sha256", "parameters")} | {"resumed": resume, "started": time.time()}
    _write(folder / "run.json", record | {"status": "running"})
    parameters = job["parameters"] | ({"output_dir": str(folder)} if "output_dir" in names else {}) | ({"resume": True} if resume else {})
    error = ""
    try:
        with _kernel_sockets() as config:
            papermill.execute_notebook(job["notebook"], folder / "notebook.ipynb", parameters, progress_bar=False, cwd=job["cwd"], config=config)
    except papermill.PapermillExecutionError as failure:
        error = _last_line(failure.ename, failure.evalue)
    except Exception as failure:  # the kernel died, the disk is full, ...: no cell has said so
        error = _last_line(type(failure).__name__, str(failure))
    with writing:
        if error and not error.startswith("PapermillExecutionError"):
            _note_error(job, error)
        _write(folder / "run.json", record | _verdict(job, error, time.time() - record["started"]))
    if "resume" in names and not error:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # many times the weights in model/, and only an unfinished run needs them


@contextmanager
def _kernel_sockets() -> Iterator[Any]:
    """Yield a configuration with which a kernel listens on files of its own, where the system can do that.

    TCP ports are picked some time before the kernel takes them (jupyter_client's way), and another program may take one first. Where two runs start
    at the same moment, that was one kernel in about two hundred, which died.
    """
    import zmq
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "kernel.json"
        if os.name == "nt" or len(f"{file}-ipc-5") > zmq.IPC_PATH_MAX_LEN:
            yield Config()
        else:
            yield Config(KernelManager={"transport": "ipc", "connection_file": str(file)})


def _verdict(job: Mapping[str, Any], error: str, seconds: float) -> dict[str, Any]:
    metrics = {} if error else read_json(Path(job["folder"]) / "metrics.json")
    blocks = {split: metrics[split] for split in ("validation", "test") if isinstance(metrics.get(split), dict)}
    scores = {column: value for split, block in blocks.items() for name, value in block.items() if (column := f"{split}_{name}") in SCORE_COLUMNS}
    return {"status": "failed" if error else "completed", "seconds": round(seconds, 1), "error": error, "scores": scores}


def _record(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the verdict on a run (completed or failed), or None where there is work to do."""
    folder = Path(job["folder"])
    record, metrics = read_json(folder / "run.json"), read_json(folder / "metrics.json")
    if record.get("parameters") != job["parameters"]:
        return None
    if record["status"] == "running":  # killed; after metrics.json was written nothing that counts was missing
        used = metrics.get("parameters", {})
        if not metrics or any(used.get(name, value) not in (value, without_home(value)) for name, value in job["parameters"].items()):
            return None
        record |= _verdict(job, "", (folder / "metrics.json").stat().st_mtime - record["started"])
    return None if record.get("scores") and not metrics else record


def _last_line(kind: str, message: str) -> str:
    """Return an error as one line; of a long message the first and the last line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    return f"{kind}: " + (lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}")[:500]


def _note_error(job: Mapping[str, Any], error: str) -> None:
    """Write an error that no cell has raised into the executed notebook, at the cell that was running."""
    import nbformat

    path = Path(job["folder"]) / "notebook.ipynb"
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception:  # not written yet, or cut off
        notebook = nbformat.read(job["notebook"], as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(output.output_type == "error" for cell in cells for output in cell.outputs):
        return
    started = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    kind, _, message = error.partition(": ")
    for cell in started[-1:] or cells[:1]:
        cell.outputs.append(nbformat.v4.new_output("error", ename=kind, evalue=message, traceback=[error]))
    with suppress(OSError), atomic_path(path) as partial:  # a full disk: the leaderboard has the error
        nbformat.write(notebook, partial)


def _kernel_of(folder: str) -> str:
    return f"{folder}/kernel"


def _end_left_behind(folder: str) -> None:
    """Kill what an earlier attempt at a run has left on this machine: a kernel whose process was killed, and what it started.

    Only who holds the run's lock may call this. The processes of other attempts, which wait for the lock, are left alone.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(LEFT_BEHIND) == _kernel_of(folder):
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=10)


def _run_lock(job: Mapping[str, Any], timeout: float) -> FileLock:
    folder = Path(job["folder"])
    return FileLock(folder.parent / ".locks" / f"{folder.name}.lock", timeout=timeout, thread_local=False)


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


# --- on the workers ----------------------------------------------------------------------------------------------------


def _worker_task():
    """Return what a worker does for one run. A function made in a function travels by value: the workers need nothing of this repository."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); from utils.batch import run_one; run_one()"
    names, patience = THREADS, ANSWER_SECONDS

    def run_on_worker(job, root, environment, threads):
        from dask.system import CPU_COUNT
        from distributed import get_worker
        from distributed.comm.addressing import get_address_host
        from distributed.core import Status

        worker = get_worker()
        task = worker.state.tasks[worker.get_current_task()]  # becomes "cancelled" when the driver is gone; without a scheduler the worker closes
        # Two runs with a thread for every core each are up to ten times slower than one. Never more than half: one worker gives what two give.
        share = max(1, CPU_COUNT // max(2, threads.get(get_address_host(worker.address), 1)))
        environment = os.environ | dict.fromkeys(names, str(share)) | environment
        command = [sys.executable, "-P", "-c", program, root]
        with tempfile.TemporaryFile() as said:
            # A session of its own: Ctrl-C in the terminal is the driver's to deal with.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, cwd=job["cwd"], env=environment, start_new_session=True)
            try:
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.flush()
                while process.poll() is None and task.state != "cancelled" and worker.status not in (Status.closing, Status.closed, Status.failed):
                    time.sleep(0.1)
            except BrokenPipeError:
                pass  # it ended before it read; its exit code says so
            finally:
                process.stdin.close()  # ends the process and its kernel
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:  # it hangs; a kernel that this leaves behind is ended by the next attempt
                    process.kill()
                    process.wait()
            said.seek(max(0, said.tell() - 4000))
            lines = said.read().decode(errors="replace").split("\n")
        try:
            record = json.loads((Path(job["folder"]) / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = {}
        return process.returncode, next((line for line in reversed(lines) if line.strip()), ""), record

    return run_on_worker


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
    settings = {"distributed.scheduler.allowed-failures": WORKER_DEATHS, "distributed.comm.timeouts.connect": "60s"}
    settings |= {"distributed.deploy.lost-worker-timeout": f"{2 * WORKER_SECONDS}s"}  # then the worker is not started again, if it is so late
    resources = {"GPU": 1} if _gpus() else None
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
                preload=["import signal; signal.signal(signal.SIGINT, lambda *_: None)"],  # Ctrl-C is for the driver, which ends the workers
                resources=resources,
                death_timeout=WORKER_SECONDS,  # for its start; without it Dask would wait, and so would the end of the batch
            )
        except Exception as error:  # whatever it is: Dask's own way out of a late start ends with an AssertionError
            raise BatchError(f"Dask's workers have not started ({_last_line(type(error).__name__, str(error))}); the same command tries again") from None
        with cluster, Client(cluster) as client:
            yield client


# --- the driver --------------------------------------------------------------------------------------------------------


def run_batch(
    spec: str | Path | Mapping[str, Any], output_dir: str | Path, workers: int | None = None, scheduler: str | None = None, retry_failed: bool = True
) -> "pd.DataFrame":
    """Run what is missing or failed of a sweep, and return the leaderboard.

    A run gets the same threads whether one or two work at a time; with more than two workers a machine's cores are shared out among them. Set
    OMP_NUM_THREADS to give every run the same number anywhere: with another number the last digits of a loss may differ.

    Args:
        spec: see `read_plan`.
        output_dir: gets a folder for each run, leaderboard.csv and, from two runs with scores on, what `utils.leaderboard.write_summary` writes.
            One batch at a time works in it.
        workers: runs at a time on this machine; None means one for every two cores. With a scheduler, its workers' threads decide.
        scheduler: the address of a running Dask scheduler. Its workers must see this repository, the data and output_dir under the same paths.
            While it has none, the batch says so once and waits for one, as long as it takes; Ctrl-C ends it.
        retry_failed: False leaves the failed runs as they are.

    Returns:
        The leaderboard: one row for each run that has ended, in the order of the sweep.

    Raises:
        BatchError: the sweep has faults (nothing was started), another batch works in the folder or it holds something else, the scheduler was lost, or
            the workers of this machine were, for good. The last two keep what is finished; the same call goes on.
    """
    return _run_and_sum_up(spec, output_dir, workers, scheduler, retry_failed)[0]


def _run_and_sum_up(
    spec: str | Path | Mapping[str, Any], output_dir: str | Path, workers: int | None, scheduler: str | None, retry_failed: bool
) -> tuple["pd.DataFrame", str]:
    plan = read_plan(spec)
    output_dir = Path(output_dir).expanduser().absolute()
    _refuse_foreign(output_dir, plan.notebook)
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / ".locks").mkdir(exist_ok=True)
    try:
        with FileLock(output_dir / ".locks" / "batch.lock", timeout=0):
            jobs = _jobs(plan, output_dir)
            records = {job["run_id"]: record for job in jobs if (record := _record(job))}
            _warn_of_another_version(jobs, records)
            todo = [job for job in jobs if records.get(job["run_id"], {}).get("status") not in (("completed",) if retry_failed else ("completed", "failed"))]
            for job in todo:
                records.pop(job["run_id"], None)
            leaderboard = _write_leaderboard(plan, records, output_dir)
            if todo:
                _work(plan, todo, records, output_dir, workers, scheduler)
                leaderboard = _write_leaderboard(plan, records, output_dir)
            return leaderboard, _summary(leaderboard, output_dir)
    except Timeout:
        raise BatchError(f"another batch is at work in {display_path(output_dir)}; wait for it, or give another output_dir") from None


def _refuse_foreign(output_dir: Path, notebook: Path) -> None:
    """Refuse a folder in which a batch would overwrite what none has made: the repository, for one, or the notebook itself."""
    if (output_dir / notebook.name).exists() and (output_dir / notebook.name).samefile(notebook):
        raise BatchError(f"{display_path(output_dir)} holds the notebook, which a copy without outputs would replace; give another output_dir")
    strangers = strangers_in(output_dir, ("*.ipynb", "*.yaml", "*.yml", "*.log", "lost+found", ".*"))
    if strangers and not (output_dir / ".locks").is_dir() and not (output_dir / "leaderboard.csv").exists():
        raise BatchError(f"{display_path(output_dir)} holds what no batch has made: {', '.join(strangers[:5])}; give a new or an empty folder as output_dir")


def _jobs(plan: Plan, output_dir: Path) -> list[dict[str, Any]]:
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
    common = {"notebook": str(copy), "notebook_sha256": hashlib.sha256(json.dumps(sources).encode()).hexdigest(), "names": list(plan.defaults)}
    common |= {"cwd": os.getcwd()}
    return [common | {"run_id": run.run_id, "folder": str(output_dir / run.run_id), "parameters": run.parameters} for run in plan.runs]


def _warn_of_another_version(jobs: list[dict[str, Any]], records: Mapping[str, Any]) -> None:
    changed = [job["run_id"] for job in jobs if records.get(job["run_id"], job)["notebook_sha256"] != job["notebook_sha256"]]
    if changed:
        print(f"{len(changed)} finished runs were made with another version of the notebook, {changed[0]} among them. Delete their folders to repeat them.")


def _work(plan: Plan, todo: list[dict], records: dict[str, Any], output_dir: Path, workers: int | None, scheduler: str | None) -> None:
    """Keep every worker busy until nothing is left, and the leaderboard up to date."""
    import asyncio
    import concurrent.futures

    import distributed

    environment = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "FINETUNE_REPO": str(ROOT)}
    environment |= {name: os.environ[name] for name in THREADS if name in os.environ}  # set by the user: theirs for every run
    workers = max(1, min(workers or (os.cpu_count() or 2) // 2, len(todo)))
    task, waiting, running, told = _worker_task(), list(reversed(todo)), {}, set()
    try:
        with _bar(len(plan.runs), len(records)) as bar, _cluster(workers, scheduler) as client:
            hands = _Workers(client, workers, scheduler, bar)
            try:
                while waiting or running:
                    threads, gpu, capacity = _capacity(client)
                    capacity = hands.check(capacity, gpu or not any(job["gpu"] for job in running.values()))
                    while waiting and len(running) < capacity:
                        job = waiting.pop() | {"gpu": gpu, "attempt": str(time.time_ns())}
                        _note(job).unlink(missing_ok=True)  # of one that was killed
                        options = {"key": f"{job['run_id']}-{job['attempt']}", "pure": False, "resources": {"GPU": 1} if gpu else None}
                        running[client.submit(task, job, str(ROOT), environment | {LEFT_BEHIND: job["folder"]}, threads, **options)] = job
                    failed = sum(record["status"] == "failed" for record in records.values())
                    bar.set_description_str(f"{len(records) - failed} done, {failed} failed, {len(running)} running")
                    for job in running.values():
                        with suppress(OSError):  # there is none, as a rule
                            if job["attempt"] not in told:
                                _say(bar, _note(job).read_text(encoding="utf-8"))
                                told.add(job["attempt"])
                    ended = []
                    if running:
                        with suppress(TimeoutError):
                            ended = distributed.wait(list(running), timeout=1, return_when="FIRST_COMPLETED").done
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
    except (asyncio.CancelledError, concurrent.futures.CancelledError, OSError) as error:  # CommClosedError is an OSError
        raise BatchError(f"the Dask scheduler was lost ({type(error).__name__}); the same command goes on with what is unfinished") from None
    finally:
        for job in running.values():  # when the prompt is back, nothing runs any more
            with suppress(Timeout), _run_lock(job, timeout=20):
                pass


def _say(bar: Any, text: str) -> None:
    bar.write(text, file=sys.stderr)  # at once, also where stdout is a file


def _bar(total: int, done: int) -> Any:
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
            theirs = f"The scheduler {self.scheduler} has no worker{'' if fit else ' with a GPU'}; waiting for one"
            _say(self.bar, theirs if self.scheduler else f"{missing} of {self.number} workers lost; Dask starts others")
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
        reason = f"RunProcessError: the run's process ended with code {code}" + (f": {said}" if said and code >= 0 else "")
    else:
        error = future.exception()
        died = type(error).__name__ == "KilledWorker"
        reason = f"KilledWorker: {error.allowed_failures + 1} workers died while they ran it" if died else _last_line(type(error).__name__, str(error))
    record = {name: job[name] for name in ("run_id", "notebook_sha256", "parameters")} | {"resumed": False, "started": time.time()}
    record |= _verdict(job, reason[:500], math.nan) | {"seconds": None}
    with suppress(OSError, Timeout), _run_lock(job, timeout=20):
        _end_left_behind(job["folder"])
        _note_error(job, reason)
        _write(Path(job["folder"]) / "run.json", record)
    return record


def _write_leaderboard(plan: Plan, records: Mapping[str, dict], output_dir: Path) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for run in plan.runs:
        if run.run_id in records:
            record = records[run.run_id]
            named = {column_of(name): value for name, value in run.shown.items()}
            rest = {"status": record["status"]} | record["scores"] | {"seconds": record["seconds"], "error": record["error"]}
            rows.append({"run_id": run.run_id} | named | rest)
    parameters = [column_of(name) for name in plan.runs[0].shown]
    scores = [column for column in SCORE_COLUMNS if any(column in row for row in rows)]
    table = pd.DataFrame(rows, columns=["run_id", *parameters, "status", *scores, "seconds", "error"])
    try:
        with atomic_path(output_dir / "leaderboard.csv") as partial:
            quoted = table.map(quote_formula).rename(columns=quote_formula)
            quoted.to_csv(partial, index=False)
    except OSError as error:
        print(f"leaderboard.csv could not be written ({error.strerror}); the runs' own records are what counts, and the next call writes it")
    return table


def _summary(leaderboard: "pd.DataFrame", output_dir: Path) -> str:
    """Write the summary where there are runs to compare, and return it in words."""
    scores = [column for column in SCORE_COLUMNS if column in leaderboard]
    if not scores or (leaderboard[scores].notna().any(axis=1)).sum() < 2:
        return ""
    from utils.leaderboard import write_summary

    try:
        return write_summary(leaderboard, output_dir)
    except (OSError, ValueError) as error:  # the disk is full, ...: the runs and the leaderboard are what counts
        return f"no summary: {_last_line(type(error).__name__, str(error))}"


def column_of(name: str) -> str:
    """Return the column of a parameter in the leaderboard: its name, unless that is a column of the leaderboard's own."""
    return f"parameter_{name}" if name in COLUMNS else name


def _print_plan(plan: Plan, output_dir: Path) -> None:
    """Print what all runs have in common, and for each its state and its folder, which names what it has of its own."""
    states = [(_record({"folder": str(output_dir / run.run_id), "parameters": run.parameters}) or {"status": "to do"})["status"] for run in plan.runs]
    print(f"{len(states)} runs of {display_path(plan.notebook)} into {display_path(output_dir)}")
    if common := [f"{name} {value}" for name, value in plan.runs[0].shown.items() if all(run.shown[name] == value for run in plan.runs)]:
        print(f"all with {', '.join(common)}")
    for run, state in zip(plan.runs, states, strict=True):
        print(f"  {state:10} {run.run_id}")
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))


# --- the command -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 all completed, 1 some failed or are missing, 2 the sweep is refused, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m utils.batch", description="Run a notebook for many parameters; the same command again goes on.")
    parser.add_argument("file", help="the sweep: YAML with notebook, parameters, grid, runs")
    parser.add_argument("--output-dir", required=True, help="a folder for each run and leaderboard.csv go here")
    parser.add_argument("--workers", type=int, help="runs at a time on this machine; the default is one for every two cores")
    parser.add_argument("--scheduler", help="the address of a running Dask scheduler, such as tcp://10.0.0.1:8786; waits for its workers")
    parser.add_argument("--dry-run", action="store_true", help="check the sweep, print its runs, start nothing")
    parser.add_argument("--retry-failed", action=argparse.BooleanOptionalAction, default=True, help="run failed ones again (they are)")
    given = parser.parse_args(arguments)
    if given.workers is not None and (given.workers < 1 or given.scheduler):
        parser.error("--workers must be 1 or more, and goes without --scheduler, whose workers are counted already")
    try:
        if given.dry_run:
            _print_plan(read_plan(given.file), Path(given.output_dir).expanduser().absolute())
            return 0
        leaderboard, summary = _run_and_sum_up(given.file, given.output_dir, given.workers, given.scheduler, given.retry_failed)
    except BatchError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on with what is unfinished.", file=sys.stderr)
        return 130
    if summary:
        print(summary)
    failed = leaderboard[leaderboard["status"] == "failed"]
    for _, row in failed.iterrows():
        print(f"failed: {row['run_id']}: {row['error']}")
    print(f"{len(leaderboard) - len(failed)} completed, {len(failed)} failed. {display_path(Path(given.output_dir).absolute() / 'leaderboard.csv')}")
    return 1 if len(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
