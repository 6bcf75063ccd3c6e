"""Does a table ten times as long take ten times as long? `python benchmarks/growth.py --rows 1000 10000`.

Reading, splitting, tokenising, preflight and prediction, each in a process of its own, because the peak
memory of one never goes down again. Prediction takes a model of 16 units, for the pipeline is what grows;
then, up to 100,000 rows, the bundled one, whose efficiency is its matrix products' share of the time.
"""

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from records import FOLDER, HERE, ROOT, STAGES, append, digest, is_done, peak_mib, read

sys.path.append(str(ROOT / "tests" / "tools"))
LARGEST = 100_000  # rows that the bundled model labels: a quarter of an hour
LABELS = [f"class {number}" for number in range(5)]
WORDS = (
    "the battery screen camera is was really not very good bad fine slow fast and but price I would buy again"
)
WORDS = [*WORDS.split(), "never", "café"]


def write_csv(path: Path, rows: int) -> None:
    """Write `rows` texts of about 100 characters with one of five labels and a number, some quoted, each
    twentieth a repeat.
    """
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        text = "first"
        for row in range(rows):
            if row % 20:
                text = " ".join(draw.choices(WORDS, k=18)) + f', "{row}"'
            writer.writerow([row, text, LABELS[len(text) * 7919 % 5]])


# What is measured of a stage stands between its two yields. Before them it prepares, after them it leaves
# something for the next.


def stage_read(folder: Path):
    from utils.data import read_table

    yield
    read_table(folder / "table.csv")
    yield


def stage_read_and_split(folder: Path):
    from utils.data import read_table, split_table

    yield
    table = read_table(folder / "table.csv")
    splits = split_table(table)
    yield
    assert sum(map(len, splits[:3])) + sum(splits.dropped.values()) == table.source["rows"]


def stage_tokenise(folder: Path):
    import pandas as pd
    from datasets import ClassLabel, Dataset, DatasetDict
    from transformers import AutoTokenizer

    rows = pd.read_csv(folder / "table.csv", usecols=["text", "label"]).drop_duplicates("text")
    ends = [0, int(len(rows) * 0.7), int(len(rows) * 0.85), len(rows)]
    tokenizer, parts = AutoTokenizer.from_pretrained(folder / "model"), DatasetDict()
    yield
    for name, first, last in zip(("train", "held_out", "test"), ends, ends[1:], strict=False):
        texts, labels = (
            rows["text"][first:last].tolist(),
            rows["label"][first:last].map(LABELS.index).tolist(),
        )
        made = Dataset.from_dict({"text": texts, "label": labels})
        parts[name] = made.cast_column("label", ClassLabel(names=LABELS))
    tokenised = parts.map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=128), batched=True
    )
    yield
    tokenised.save_to_disk(folder / "tokenised")


def stage_preflight(folder: Path):
    from builders import trainer_for
    from datasets import load_from_disk
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from utils.preflight import preflight

    parts = load_from_disk(folder / "tokenised")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    tokenizer, test = AutoTokenizer.from_pretrained(folder / "model"), parts.pop("test")
    trainer = trainer_for(folder, model=model, tokenizer=tokenizer, **parts)
    yield
    preflight(trainer, test_dataset=test)
    yield


def stage_predict(folder: Path, name: str = "model"):
    from utils.predict import load_classifier, predict_file

    load_classifier(folder / name)  # the imports, which do not grow
    yield
    predict_file(folder / name, folder / "table.csv", folder / "labelled.csv")
    yield


def stage_predict_minilm(folder: Path):
    from meter import matmul_rate, multiplied, now

    from utils.predict import load_classifier

    model, tokenizer, *_ = load_classifier(folder / "minilm")
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        tokens = sum(len(tokenizer(row["text"])["input_ids"]) for row in csv.DictReader(file))
    alone = 2 * multiplied(model) * tokens / matmul_rate()
    stage = stage_predict(folder, "minilm")
    yield next(stage)
    began = now()
    next(stage)
    yield alone / (now() - began)


def run_stage(stage: str, folder: Path) -> dict:
    """Be the process of one stage, which imports no more than it takes: return its seconds, the process's
    peak memory and, where the stage says it, its efficiency.
    """
    steps = globals()[f"stage_{stage.replace(' ', '_')}"](folder)
    next(steps)
    wall, cpu = time.perf_counter(), time.process_time()
    efficiency = next(steps)
    found = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    found |= {"peak_mib": peak_mib()} | ({"efficiency": efficiency} if efficiency else {})
    next(steps, None)
    return found


def measure(stage: str, folder: Path) -> dict:
    """Run a stage in a process of its own; its last line of output is what it found."""
    command = [sys.executable, str(HERE / "growth.py"), "--stage", stage, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if ended.returncode:
        raise RuntimeError(f"{stage} failed:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def reader(sizes: list[int]) -> list[dict]:
    """Measure `read_table` and `split_table` together on CSV files of these sizes."""
    results = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_csv(Path(folder, "table.csv"), rows)
            results.append({"rows": rows} | measure("read and split", Path(folder)))
    return results


def grow(sizes: list[int]) -> None:
    """Measure all stages at these sizes into runs/bench/growth.jsonl, unless it was done with this code."""
    from builders import minilm, save_small

    files = [Path(__file__), *sorted((ROOT / "utils").rglob("*.py"))]
    code, target = digest(*(file.read_text(encoding="utf-8") for file in files)), FOLDER / "growth.jsonl"
    for rows in sizes:
        stages = [stage for stage in STAGES if rows <= LARGEST or stage != "predict minilm"]
        todo = [{"stage": stage, "rows": rows, "recipe": code} for stage in stages]
        todo = [wanted for wanted in todo if not is_done(read(target), wanted, wanted)]
        if not todo:
            continue
        with tempfile.TemporaryDirectory() as name:
            write_csv(Path(name, "table.csv"), rows)
            save_small(Path(name, "model"), LABELS)  # its tokenizer is the bundled model's
            shutil.copytree(Path(name, "model"), Path(name, "minilm"))
            minilm(LABELS)["model"].save_pretrained(Path(name, "minilm"))
            for wanted in todo:
                found = measure(wanted["stage"], Path(name))
                append(target, wanted | found)
                print(f"{rows:,} rows, {wanted['stage']}: {found['seconds']:.2f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(run_stage(given.stage[0], Path(given.stage[1]))))
    else:
        grow(given.rows)
