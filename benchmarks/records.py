"""What the programs here share: measurements that outlive an interruption, and when two are the same."""

import ast
import hashlib
import json
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FOLDER = ROOT / "runs" / "bench"
BUNDLED = ("tweets", "reviews", "products", "editorials")
SETS = BUNDLED + tuple(f"{name}-300" for name in BUNDLED)  # the same tests after 300 training rows
SMALL = tuple(f"{name}-{rows}" for name in BUNDLED for rows in (100, 300, 600, 1000))  # of recipes.py
METHODS = ("majority", "tfidf", "embeddings", "textbook", "dynamic", "grouped", "template")  # by price
PEERS = ("setfit", "simpletransformers")
STAGES = ("read", "read and split", "tokenise", "preflight", "predict", "predict minilm")  # of growth.py
KEY = ("set", "method", "seed", "threads", "recipe")  # of a line in results.jsonl


def read(path: Path) -> list[dict]:
    """Return the measurements in a file of JSON lines; none if there is no file.

    Raises:
        ValueError: it names the line that is no measurement, such as one that a full disk cut short.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            lines[number - 1] = json.loads(line)
        except ValueError:
            fault = f"Line {number} of {path.name} is no measurement: {line[:60]!r}"
            raise ValueError(f"{fault}. Delete it and measure again.") from None
    return lines


def append(path: Path, record: dict) -> None:
    """Add one measurement: all of its line, or, after a kill, nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:  # one write: nothing can come between its parts
        file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        os.fsync(file.fileno())


def is_done(records: list[dict], names, wanted: dict) -> bool:
    """Say whether there is a measurement with the same values under these names."""
    return any(all(record.get(name) == wanted[name] for name in names) for record in records)


def digest(*parts: str) -> str:
    """Return twelve digits that are others as soon as one of the texts is."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def recipe(method: str, source: str, *more: str) -> str:
    """Return the digest of a function in `source` and of all that it calls there, and of more texts.

    Comments, layout and docstrings may change without a new measurement.
    """
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    wanted, found = [method], {}
    while wanted:
        name = wanted.pop()
        if name in functions and name not in found:
            body = functions[name].body[ast.get_docstring(functions[name]) is not None :]
            found[name] = ast.dump(functions[name].args) + "".join(map(ast.dump, body))
            wanted += [node.id for part in body for node in ast.walk(part) if isinstance(node, ast.Name)]
    return digest(*(found[name] for name in sorted(found)), *more)


def peak_mib(pid: int | str = "self") -> float:
    """Return the most memory that a process has held, in MiB; of another one only on Linux, else 0.

    Linux's getrusage would count what the process that started it held, so ask the kernel there.
    """
    if sys.platform.startswith("linux"):
        held = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(held.group(1)) / 1024 if held else 0.0  # a process that has ended, but is not yet buried
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return held if pid == "self" else 0.0
