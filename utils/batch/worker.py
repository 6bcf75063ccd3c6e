"""What happens in a worker: one run, in a kernel of its own, watched until it ends."""

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from utils import atomic_path, read_json
from utils.batch.plan import SCORE_COLUMNS
from utils.reading.checkpoints import saved_checkpoints
from utils.runs import without_home
from utils.setup.gpu import visible_gpus

# The variables by which mathematical libraries know how many threads they may use.
THREADS = (*(f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "RAYON")), "VECLIB_MAXIMUM_THREADS")
# An environment variable: the folder for which a run's process works; for its kernel KERNEL stands behind it.
KERNEL = "/kernel"
LEFT_BEHIND = "FINETUNE_BATCH_RUN"
# The process of a run. With -P no file in the folder where it works is taken for a module.
PROGRAM = (sys.executable, "-P", "-m", "utils.batch.worker")
ANSWER_SECONDS = 120  # for what answers at once unless it hangs: a scheduler, a run's process that shall end
SAY_SECONDS = 10  # who waits longer says what for


def run_on_worker(
    job: Mapping[str, Any], environment: Mapping[str, str], threads: Mapping[str, int]
) -> tuple[int, str, dict]:
    """Be the Dask task of one run: start its process, and end it when nobody waits for it any more.

    Dask pickles it as a module and a name, which scheduler and workers import: all of them need this package
    installed. `job` is one of `utils.batch.runner.jobs_of`; `threads` are the workers' threads by host. What
    comes back: the exit code of the process, its last line of output, and the record in run.json.
    """
    from dask.system import CPU_COUNT
    from distributed import get_worker
    from distributed.comm.addressing import get_address_host
    from distributed.core import Status

    worker = get_worker()
    # The task becomes "cancelled" when the driver is gone. Without a scheduler the worker closes.
    task = worker.state.tasks[worker.get_current_task()]
    # Two runs with a thread for every core each are up to ten times slower than one. A run gets at most half
    # of the cores, so that one worker gives what two give.
    share = max(1, CPU_COUNT // max(2, threads.get(get_address_host(worker.address), 1)))
    environment = os.environ | dict.fromkeys(THREADS, str(share)) | environment
    with tempfile.TemporaryFile() as output:
        # A session of its own: Ctrl-C in the terminal is the driver's to deal with.
        options = {"cwd": job["cwd"], "env": environment, "start_new_session": True}
        process = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=output, stderr=output, **options)
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            over = (Status.closing, Status.closed, Status.failed)
            while process.poll() is None and task.state != "cancelled" and worker.status not in over:
                time.sleep(0.1)
        except BrokenPipeError:
            pass  # it ended before it read; its exit code says so
        finally:
            process.stdin.close()  # ends the process and its kernel
            with suppress(subprocess.TimeoutExpired):
                process.wait(ANSWER_SECONDS)
            process.kill()  # what hangs; the next attempt ends the kernel that it may leave behind
            process.wait()
        output.seek(max(0, output.tell() - 4000))
        lines = output.read().decode(errors="replace").rstrip().split("\n")
    return process.returncode, lines[-1], read_json(Path(job["folder"]) / "run.json")


def run_one() -> None:
    """Be the process of one run. Its job is the first line of stdin, which closes when nobody waits."""
    # Unbuffered: Python cannot end while a thread waits in a buffered reader.
    stdin = os.fdopen(os.dup(0), "rb", buffering=0)
    job = json.loads(stdin.readline())
    writing, turn = threading.Lock(), run_lock(job)

    def end_with_the_worker():
        stdin.read()
        note_of(job).unlink(missing_ok=True)
        # No record is written from here on: a kernel killed below is not the notebook's failure.
        with writing:
            if turn.is_locked:  # otherwise the kernel is another attempt's
                end_left_behind(job["folder"])
            os._exit(1)

    threading.Thread(target=end_with_the_worker, daemon=True).start()
    # An earlier attempt, perhaps on another machine, may still be at work.
    with (
        _wait(job, turn.acquire, "an earlier attempt at it to end"),
        _wait(job, _free_gpu, "a GPU that no other run has") if job["gpu"] else nullcontext(),
    ):
        os.environ[LEFT_BEHIND] = job["folder"] + KERNEL  # for what is started from here on
        end_left_behind(job["folder"])
        before = record_of(job) or {}
        # Dask asks again for what it lost with a worker, also when that run had failed and said so.
        if before.get("status") != "completed" and before.get("attempt") != job["attempt"]:
            _attempt(job, writing)


def _wait(job: Mapping[str, Any], attempt: Callable[[], AbstractContextManager], reason: str) -> Any:
    """Try to take a lock until it is free; return what releases it. The driver shows a long wait's note."""
    note, deadline = note_of(job), time.monotonic() + SAY_SECONDS
    while True:
        with suppress(Timeout):
            lock = attempt()
            note.unlink(missing_ok=True)
            return lock
        if time.monotonic() > deadline and not note.exists():
            with suppress(OSError):  # a full disk: it waits all the same
                note.write_text(f"{job['run_id']} waits for {reason}", encoding="utf-8")
        time.sleep(0.5)


def note_of(job: Mapping[str, Any]) -> Path:
    return Path(job["folder"]).parent / ".locks" / f"{job['run_id']}.waits"


def run_lock(job: Mapping[str, Any], timeout: float = 0) -> FileLock:
    lock = Path(job["folder"]).parent / ".locks" / f"{job['run_id']}.lock"
    return FileLock(lock, timeout=timeout, thread_local=False)


def _free_gpu() -> AbstractContextManager:
    """Bind this process and its kernel to a GPU that no other run on this machine has, or raise Timeout."""
    if not (devices := visible_gpus()):
        reason = "neither CUDA_VISIBLE_DEVICES nor nvidia-smi names one"
        raise RuntimeError(f"the worker declares a GPU, and {reason}")
    for device in devices:
        name = f"finetune-{getpass.getuser()}-gpu-{re.sub('[^A-Za-z0-9-]', '_', device)}.lock"
        with suppress(Timeout):
            lock = FileLock(Path(tempfile.gettempdir()) / name, timeout=0).acquire()
            os.environ["CUDA_VISIBLE_DEVICES"] = device
            return lock
    raise Timeout("all GPUs")


def end_left_behind(folder: str) -> None:
    """Kill what an earlier attempt at a run has left on this machine: its kernel, and what that started.

    Only who holds the run's lock may call this. It leaves alone the processes that wait for the lock.
    """
    import psutil

    killed = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(LEFT_BEHIND) == folder + KERNEL:
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=10)


def _attempt(job: Mapping[str, Any], writing: threading.Lock) -> None:
    import papermill  # takes two seconds, and the Dask worker, which imports this module, needs none of it

    folder, names = Path(job["folder"]), job["names"]
    before = read_json(folder / "run.json")
    # A failed run is continued once. If that fails too, as where the data have changed, it starts afresh.
    failed_again = before.get("status") == "failed" and before.get("resumed")
    same = before.get("parameters") == job["parameters"] and not failed_again
    resume = "resume" in names and same and bool(saved_checkpoints(folder / "checkpoints"))
    if folder.exists() and not resume:
        aside = folder.parent / "previous" / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
    record = {name: job[name] for name in ("run_id", "attempt", "notebook_sha256", "parameters")}
    record |= {"resumed": resume, "started": time.time()}
    write_json(folder / "run.json", record | {"status": "running"})
    parameters = job["parameters"] | ({"output_dir": str(folder)} if "output_dir" in names else {})
    parameters |= {"resume": True} if resume else {}
    error = ""
    try:
        with _kernel_sockets() as config:
            options = {"progress_bar": False, "cwd": job["cwd"], "config": config}
            papermill.execute_notebook(job["notebook"], folder / "notebook.ipynb", parameters, **options)
    except papermill.PapermillExecutionError as failure:
        error = one_line(failure.ename, failure.evalue)
    except Exception as failure:  # the kernel died, the disk is full, ...: no cell has said so
        error = one_line(type(failure).__name__, str(failure))
    with writing:
        if error:
            note_error(job, error)
        write_json(folder / "run.json", record | verdict(job, error, time.time() - record["started"]))
    if "resume" in names and not error:
        # They are many times the weights in model/, and only an unfinished run needs them.
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


@contextmanager
def _kernel_sockets() -> Iterator[Any]:
    """Yield a configuration with which a kernel listens on files of its own, where the system can do that.

    jupyter_client picks TCP ports some time before the kernel takes them. Where two runs start at the same
    moment, another kernel took one first about once in two hundred times, and the later one died.
    """
    import zmq
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "kernel.json"
        if os.name == "nt" or len(f"{file}-ipc-5") > zmq.IPC_PATH_MAX_LEN:
            yield Config()
        else:
            yield Config(KernelManager={"transport": "ipc", "connection_file": str(file)})


def verdict(job: Mapping[str, Any], error: str, seconds: float) -> dict[str, Any]:
    """Return what a run's end adds to its record."""
    metrics = {} if error else read_json(Path(job["folder"]) / "metrics.json")
    blocks = [(split, block) for split, block in metrics.items() if isinstance(block, dict)]
    found = {f"{split}_{name}": score for split, block in blocks for name, score in block.items()}
    scores = {column: found[column] for column in SCORE_COLUMNS if column in found}
    status = "failed" if error else "completed"
    return {"status": status, "seconds": round(seconds, 1), "error": error, "scores": scores}


def record_of(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the verdict on a run (completed or failed), or None where there is work to do."""
    folder = Path(job["folder"])
    record, metrics = read_json(folder / "run.json"), read_json(folder / "metrics.json")
    if record.get("parameters") != job["parameters"]:
        return None
    if record["status"] == "running":  # killed; once metrics.json is written nothing that counts is missing
        given, recorded = job["parameters"], metrics.get("parameters", {})
        if not metrics or any(recorded.get(n, v) not in (v, without_home(v)) for n, v in given.items()):
            return None
        record |= verdict(job, "", (folder / "metrics.json").stat().st_mtime - record["started"])
    return None if record.get("scores") and not metrics else record


def one_line(kind: str, message: str) -> str:
    """Return an error as one line; of a long message the first and the last line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    return f"{kind}: " + (lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}")[:500]


def note_error(job: Mapping[str, Any], error: str) -> None:
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


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_one()
