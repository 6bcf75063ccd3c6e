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
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from utils import atomic_path
from utils.batch.plan import SCORE_COLUMNS, quiet_papermill
from utils.runs import read_json, saved_checkpoints, without_home
from utils.setup.gpu import visible_gpus

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
LEFT_BEHIND = "FINETUNE_BATCH_RUN"  # an environment variable: the folder a run's process works for, and `_kernel_of` it for its kernel
PROGRAM = (
    sys.executable,
    "-P",
    "-m",
    "utils.batch.worker",
)  # the process of a run; -P: nothing in the folder it works in is taken for a module
ANSWER_SECONDS = 120  # for what answers at once unless it hangs: a scheduler, nvidia-smi, the process of a run that shall end
SAY_SECONDS = 10  # who waits longer says what for


def run_one() -> None:
    """Be the process of one run: its job is the first line of stdin, and stdin closes when nobody waits for it any more."""
    stdin = os.fdopen(
        os.dup(0), "rb", buffering=0
    )  # unbuffered: Python cannot end while a thread waits in a buffered one
    job = json.loads(stdin.readline())
    writing, turn = threading.Lock(), run_lock(job, timeout=0)

    def end_with_the_worker():
        stdin.read()
        note_of(job).unlink(missing_ok=True)
        with (
            writing
        ):  # from here on no record is written: a kernel that is killed here is not the notebook's failure
            if turn.is_locked:  # otherwise the kernel is another attempt's
                end_left_behind(job["folder"])
            os._exit(1)

    threading.Thread(target=end_with_the_worker, daemon=True).start()

    def my_turn() -> Any:
        with suppress(Timeout):
            return turn.acquire()
        return None

    # An earlier attempt, perhaps on another machine, may still be at work.
    with (
        _wait(job, my_turn, "an earlier attempt at it to end"),
        _wait(job, _free_gpu, "a GPU that no other run has") if job["gpu"] else nullcontext(),
    ):
        os.environ[LEFT_BEHIND] = _kernel_of(job["folder"])  # what is started from here on
        end_left_behind(job["folder"])
        before = record_of(job) or {}
        # Dask asks again for what it lost with a worker, also when that run had failed and said so.
        if before.get("status") != "completed" and before.get("attempt") != job["attempt"]:
            _attempt(job, writing)


def _wait(job: Mapping[str, Any], attempt: Callable[[], Any], what: str) -> Any:
    """Try until something comes of it, and return that. What takes long is noted in a file, for the driver to say it."""
    note, until = note_of(job), time.monotonic() + SAY_SECONDS
    while (found := attempt()) is None:
        if time.monotonic() > until and not note.exists():
            with suppress(OSError):  # a full disk: it waits all the same
                note.write_text(f"{job['run_id']} waits for {what}", encoding="utf-8")
        time.sleep(0.5)
    note.unlink(missing_ok=True)
    return found


def note_of(job: Mapping[str, Any]) -> Path:
    return Path(job["folder"]).parent / ".locks" / f"{job['run_id']}.waits"


def _free_gpu() -> FileLock | None:
    """Bind this process and its kernel to a GPU that no other run has. The lock is the machine's: workers that share it do not know of each other."""
    if not (devices := visible_gpus()):
        raise RuntimeError(
            "the worker declares a GPU, and neither CUDA_VISIBLE_DEVICES nor nvidia-smi names one"
        )
    for device in devices:
        lock = FileLock(
            Path(tempfile.gettempdir())
            / f"finetune-{getpass.getuser()}-gpu-{re.sub('[^A-Za-z0-9-]', '_', device)}.lock",
            timeout=0,
        )
        with suppress(Timeout):
            lock.acquire()
            os.environ["CUDA_VISIBLE_DEVICES"] = device
            return lock
    return None


def _attempt(job: Mapping[str, Any], writing: threading.Lock) -> None:
    papermill = quiet_papermill()

    folder, names = Path(job["folder"]), job["names"]
    before = read_json(folder / "run.json")
    # A failed run is continued once: if that fails too, as where the data have changed, it starts afresh.
    trusted = before.get("parameters") == job["parameters"] and not (
        before.get("status") == "failed" and before.get("resumed")
    )
    resume = "resume" in names and trusted and bool(saved_checkpoints(folder / "checkpoints"))
    if folder.exists() and not resume:
        aside = folder.parent / "previous" / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
    record = {name: job[name] for name in ("run_id", "attempt", "notebook_sha256", "parameters")} | {
        "resumed": resume,
        "started": time.time(),
    }
    write_json(folder / "run.json", record | {"status": "running"})
    parameters = (
        job["parameters"]
        | ({"output_dir": str(folder)} if "output_dir" in names else {})
        | ({"resume": True} if resume else {})
    )
    error = ""
    try:
        with _kernel_sockets() as config:
            papermill.execute_notebook(
                job["notebook"],
                folder / "notebook.ipynb",
                parameters,
                progress_bar=False,
                cwd=job["cwd"],
                config=config,
            )
    except papermill.PapermillExecutionError as failure:
        error = one_line(failure.ename, failure.evalue)
    except Exception as failure:  # the kernel died, the disk is full, ...: no cell has said so
        error = one_line(type(failure).__name__, str(failure))
    with writing:
        if error and not error.startswith("PapermillExecutionError"):
            note_error(job, error)
        write_json(folder / "run.json", record | verdict(job, error, time.time() - record["started"]))
    if "resume" in names and not error:
        shutil.rmtree(
            folder / "checkpoints", ignore_errors=True
        )  # many times the weights in model/, and only an unfinished run needs them


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


def verdict(job: Mapping[str, Any], error: str, seconds: float) -> dict[str, Any]:
    metrics = {} if error else read_json(Path(job["folder"]) / "metrics.json")
    blocks = {
        split: metrics[split] for split in ("validation", "test") if isinstance(metrics.get(split), dict)
    }
    scores = {
        column: value
        for split, block in blocks.items()
        for name, value in block.items()
        if (column := f"{split}_{name}") in SCORE_COLUMNS
    }
    return {
        "status": "failed" if error else "completed",
        "seconds": round(seconds, 1),
        "error": error,
        "scores": scores,
    }


def record_of(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the verdict on a run (completed or failed), or None where there is work to do."""
    folder = Path(job["folder"])
    record, metrics = read_json(folder / "run.json"), read_json(folder / "metrics.json")
    if record.get("parameters") != job["parameters"]:
        return None
    if (
        record["status"] == "running"
    ):  # killed; after metrics.json was written nothing that counts was missing
        used = metrics.get("parameters", {})
        if not metrics or any(
            used.get(name, value) not in (value, without_home(value))
            for name, value in job["parameters"].items()
        ):
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


def _kernel_of(folder: str) -> str:
    return f"{folder}/kernel"


def end_left_behind(folder: str) -> None:
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


def run_lock(job: Mapping[str, Any], timeout: float) -> FileLock:
    folder = Path(job["folder"])
    return FileLock(folder.parent / ".locks" / f"{folder.name}.lock", timeout=timeout, thread_local=False)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def run_on_worker(
    job: Mapping[str, Any], environment: Mapping[str, str], threads: Mapping[str, int]
) -> tuple[int, str, dict]:
    """Be the Dask task of one run: start its process, end it when nobody waits for it any more, and return its exit code, its last line, its record."""
    from dask.system import CPU_COUNT
    from distributed import get_worker
    from distributed.comm.addressing import get_address_host
    from distributed.core import Status

    worker = get_worker()
    task = worker.state.tasks[
        worker.get_current_task()
    ]  # becomes "cancelled" when the driver is gone; without a scheduler the worker closes
    # Two runs with a thread for every core each are up to ten times slower than one. Never more than half: one worker gives what two give.
    share = max(1, CPU_COUNT // max(2, threads.get(get_address_host(worker.address), 1)))
    environment = os.environ | dict.fromkeys(THREADS, str(share)) | environment
    with tempfile.TemporaryFile() as said:
        # A session of its own: Ctrl-C in the terminal is the driver's to deal with.
        process = subprocess.Popen(
            PROGRAM,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            cwd=job["cwd"],
            env=environment,
            start_new_session=True,
        )
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            while (
                process.poll() is None
                and task.state != "cancelled"
                and worker.status not in (Status.closing, Status.closed, Status.failed)
            ):
                time.sleep(0.1)
        except BrokenPipeError:
            pass  # it ended before it read; its exit code says so
        finally:
            process.stdin.close()  # ends the process and its kernel
            try:
                process.wait(ANSWER_SECONDS)
            except (
                subprocess.TimeoutExpired
            ):  # it hangs; a kernel that this leaves behind is ended by the next attempt
                process.kill()
                process.wait()
        said.seek(max(0, said.tell() - 4000))
        lines = said.read().decode(errors="replace").split("\n")
    return (
        process.returncode,
        next((line for line in reversed(lines) if line.strip()), ""),
        read_json(Path(job["folder"]) / "run.json"),
    )


if __name__ == "__main__":
    run_one()
