"""What things cost, measured: `python tests/benchmarks.py reader` prints rows per second and peak memory.

Each size runs in a process of its own, because a process's peak memory never goes down again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "the",
    "battery",
    "screen",
    "camera",
    "is",
    "was",
    "really",
    "not",
    "very",
    "good",
    "bad",
    "fine",
    "slow",
    "fast",
    "and",
    "but",
    "price",
    "I",
    "would",
    "buy",
    "again",
    "never",
    "café",
]


def write_csv(path: Path, rows: int) -> None:
    """Write `rows` texts of about 100 characters with one of five labels and a number, some quoted, each twentieth a repeat."""
    import csv
    import random

    draw = random.Random(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        text = "first"
        for row in range(rows):
            if row % 20:
                text = " ".join(draw.choices(WORDS, k=18)) + f', "{row}"'
            writer.writerow([row, text, f"class {len(text) * 7919 % 5}"])


def read_and_split(path: str) -> dict:
    """Read and split the table; return seconds, rows per second and peak memory, imports included."""
    import resource

    sys.path.insert(0, str(ROOT))
    from utils.data import read_table, split_table

    start = time.perf_counter()
    table = read_table(path)
    read = time.perf_counter() - start
    splits = split_table(table)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    rows = table.source["rows"]
    assert sum(map(len, splits[:3])) + sum(splits.dropped.values()) == rows
    return {"rows": rows, "read_seconds": round(read, 2), "seconds": round(seconds, 2), "rows_per_second": round(rows / seconds), "peak_mib": round(peak)}


def reader(sizes: list[int]) -> list[dict]:
    """Measure `read_table` and `split_table` on CSV files of these sizes."""
    results = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            write_csv(path, rows)
            megabytes = round(path.stat().st_size / 1e6, 1)
            output = subprocess.run([sys.executable, __file__, "--one", str(path)], capture_output=True, text=True, check=True).stdout
        results.append(json.loads(output) | {"file_megabytes": megabytes})
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["reader"])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(read_and_split(arguments.one)))
    elif arguments.what == "reader":
        for result in reader(arguments.rows):
            print(json.dumps(result), flush=True)
    else:
        parser.error("name what to measure: reader")
