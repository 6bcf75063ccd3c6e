"""The ladder from word counts to fine-tuning, each rung at its price: `make bench`.

Each method runs in a process of its own on the same split of each bundled set. What is measured is a line in
runs/bench/results.jsonl, and not measured again until its code or its versions change: interrupt it and go on
another day. A change in `utils` alone does not count: delete its lines.
"""

import argparse
import ast
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import version
from pathlib import Path

from records import (
    FOLDER,
    HERE,
    KEY,
    METHODS,
    PEERS,
    ROOT,
    SETS,
    append,
    digest,
    is_done,
    peak_mib,
    read,
    recipe,
)

QUICK_ROWS = 100  # of each split
SPLIT_SEED = 42  # the split is one for all seeds; those are of the training
ENVIRONMENTS = ROOT / "runs" / "bench-env"


def python_of(method: str) -> Path | None:
    """Return the Python that runs a method; None for a peer whose environment is not there."""
    if method not in PEERS:
        return Path(sys.executable)
    folder = ENVIRONMENTS / method
    return folder / "bin" / "python" if (folder / "ready").exists() else None


def install(peer: str) -> None:
    """Make a peer's environment, unless it is there with these versions; a failure is said, and no more."""
    from utils.setup.environment import install as install_with_uv

    versions, folder = HERE / f"{peer}.txt", ENVIRONMENTS / peer
    wanted = versions.read_text(encoding="utf-8")
    if python_of(peer) and (folder / "ready").read_text(encoding="utf-8") == wanted:
        return
    print(f"Installing {peer} into runs/bench-env/{peer} ...", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    done = install_with_uv(folder / "bin" / "python", ["--requirement", str(versions)], pinned=False)
    if done.returncode:
        print(f"{peer} could not be installed: {(done.stderr.strip().splitlines() or ['no word why'])[-1]}")
    else:
        (folder / "ready").write_text(wanted, encoding="utf-8")


def prepare(name: str, folder: Path, quick: bool) -> tuple[Path, str]:
    """Write the three splits of a set as Parquet; return their folder, and the digest of their rows.

    With few training rows there are few to choose by, too: a quarter as many. All test rows stay.
    """
    from utils.data import read_table, split_table

    table, _, few = name.partition("-")
    parts = ("train", "validation", "test")
    keep = {"train": int(few), "validation": int(few) // 4} if few else {}
    if quick:
        keep = dict.fromkeys(parts, QUICK_ROWS)
    splits = split_table(read_table(table), seed=SPLIT_SEED, max_train_samples=keep.get("train"))
    target, seen = folder / "data" / name, []
    target.mkdir(parents=True, exist_ok=True)
    for part in parts:
        frame = getattr(splits, part)[["text", "label"]]
        if len(frame) > keep.get(part, len(frame)):
            frame = frame.sample(keep[part], random_state=SPLIT_SEED)
        frame.to_parquet(target / f"{part}.parquet", index=False)
        seen += [*frame["text"], *frame["label"]]
    return target, digest(*seen)


def recipe_of(method: str, rows: str) -> str:
    """Return the digest of what a measurement hangs on: code, versions, notebook, the digest of the rows."""
    source = (HERE / "methods.py").read_text(encoding="utf-8")
    if method in PEERS:
        return recipe(method, source, rows, (HERE / f"{method}.txt").read_text(encoding="utf-8"))
    more = [f"{name} {version(name)}" for name in ("torch", "transformers", "scikit-learn")]
    if method == "template":  # its code, not its outputs and comments
        cells = json.loads((ROOT / "notebooks" / "template.ipynb").read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        more += [text if "%pip" in text else ast.dump(ast.parse(text)) for text in code]
    return recipe(method, source, rows, *more)


def descendants(pid: int) -> set[int]:
    """Return the processes that this one has started, and those that they have.

    psutil's `children` leaves out one that seems older than its parent, as it does after the clock was set.
    """
    import psutil

    parents, found = {each.pid: each.info["ppid"] for each in psutil.process_iter(["ppid"])}, {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def measure(method: str, data: Path, seed: int, threads: int, log: Path) -> dict | None:
    """Run a method in a process of its own; return what it found and cost, None if it failed.

    seconds and cpu_seconds are of the whole process and all that it started, imports included.
    """
    from utils.batch.worker import THREADS
    from utils.models import find_model

    environment = os.environ | dict.fromkeys(THREADS, str(threads)) | {"HF_HUB_OFFLINE": "1"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1", "WANDB_MODE": "disabled"}
    if method not in PEERS:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    checkpoint, peaks, ended = str(find_model("minilm-l6").resolve()), {}, 0
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, open(log, "wb") as output:
        out = Path(scratch) / "out.json"
        command = [python_of(method), HERE / "methods.py", method, data, str(seed), checkpoint, out]
        started = time.perf_counter()
        options = {"stdout": output, "stderr": output, "cwd": scratch, "env": environment}
        process = subprocess.Popen(command, **options)
        try:
            for look in itertools.count():
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)  # with the kernel's, whom it awaits
                if ended:
                    break
                if look % 20 == 0:
                    for child in descendants(process.pid):
                        with contextlib.suppress(OSError):  # it has just ended
                            peaks[child] = peak_mib(child)
                time.sleep(0.05)
        finally:
            if not ended:
                for each in [*descendants(process.pid), process.pid]:
                    with contextlib.suppress(OSError):
                        os.kill(each, signal.SIGKILL)
                process.wait()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode or not out.exists():
            return None
        found = json.loads(out.read_text())
    own = found.pop("own_seconds", 0), found.pop("own_cpu_seconds", 0)
    cpu = usage.ru_utime + usage.ru_stime
    found["peak_mib"] += sum(peaks.values())
    return {"seconds": seconds - own[0], "cpu_seconds": cpu - own[1], **found}


def names_of(given: str | None, known: tuple, what: str) -> list[str]:
    """Return the names in a list with commas, all that are known if there is none."""
    names = [name for name in (given or "").replace(" ", ",").split(",") if name] or [*known]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"There is no {what} {', '.join(map(repr, unknown))}. There are: {', '.join(known)}.")
    return names


def main(arguments=None, folder: Path = FOLDER) -> int:
    """Measure what is missing; return how many measurements failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, default=3, help="trainings of each method (default: %(default)s)"
    )
    parser.add_argument("--sets", help=f"with commas between them; default: {','.join(SETS)}")
    parser.add_argument("--methods", help=f"default: {','.join(METHODS + PEERS)}")
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
    parser.add_argument("--threads", type=int, default=threads, help="of each process (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} tweets, one seed: five minutes")
    parser.add_argument("--peers", action="store_true", help="install the peers that are missing")
    given = parser.parse_args(arguments)
    if not hasattr(os, "wait4"):  # it counts the CPU seconds of a process and its children
        sys.exit("make bench needs Linux or macOS.")
    methods = names_of(given.methods, METHODS + PEERS, "method")
    sets = names_of(given.sets or ("tweets" if given.quick else None), SETS, "set")
    folder = folder / "quick" if given.quick else folder
    for peer in [name for name in methods if name in PEERS]:
        if given.peers:
            install(peer)
        if not python_of(peer):
            print(f"{peer}: not installed (make bench PEERS=1 does)")
    methods = [name for name in methods if python_of(name)]
    data = {name: prepare(name, folder, given.quick) for name in sets}
    seeds = range(1, 2 if given.quick else given.seeds + 1)
    todo = [(seed, name, method) for seed in seeds for name in sets for method in methods]  # seeds outermost
    failed = 0
    for number, (seed, name, method) in enumerate(todo, 1):
        wanted = {"set": name, "method": method, "seed": seed, "threads": given.threads}
        wanted["recipe"] = recipe_of(method, data[name][1])
        what = f"[{number}/{len(todo)}] {name}, {method}, seed {seed}:"
        if is_done(read(folder / "results.jsonl"), KEY, wanted):
            print(what, "measured before")
            continue
        print(what, end=" ", flush=True)
        log = folder / "logs" / f"{name}-{method}-{seed}.log"
        found = measure(method, data[name][0], seed, given.threads, log)
        if found is None:
            failed += 1
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            print(f"failed, see {log.relative_to(folder)}: {last}", flush=True)
            continue
        append(folder / "results.jsonl", wanted | {"quick": given.quick} | found)
        print(f"{found['cpu_seconds']:.1f} CPU s, test accuracy {found['test']['accuracy']:.3f}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(3 if main() else 0)
