"""Does a table ten times as long take ten times as long? `python benchmarks/growth.py --rows 1000 10000`.

Reading, splitting, tokenising, preflight and prediction, each in a process of its own, because a process's peak
memory never goes down again. Prediction takes a model of 16 units: what grows is the pipeline, not the model.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from records import FOLDER, HERE, ROOT, append, digest, is_done, peak_mib, read

LABELS = [f"class {number}" for number in range(5)]
WORDS = "the battery screen camera is was really not very good bad fine slow fast and but price".split()
WORDS += ["I", "would", "buy", "again", "never", "café"]


def write_csv(path: Path, rows: int) -> None:
    """Write `rows` texts of about 100 characters with one of five labels and a number, some quoted, each
    twentieth a repeat.
    """
    import csv

    draw = random.Random(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        text = "first"
        for row in range(rows):
            if row % 20:
                text = " ".join(draw.choices(WORDS, k=18)) + f', "{row}"'
            writer.writerow([row, text, LABELS[len(text) * 7919 % 5]])


# A stage is what runs between its two yields: before them it prepares, after them it leaves something for others.


def stage_read(folder: Path):
    from utils.data import read_table

    yield
    read_table(folder / "table.csv")
    yield


def stage_split(folder: Path):
    from utils.data import read_table, split_table

    table = read_table(folder / "table.csv")
    yield
    splits = split_table(table)
    yield
    assert sum(map(len, splits[:3])) + sum(splits.dropped.values()) == table.source["rows"]


def stage_reader(folder: Path):
    """Reading and splitting together, as a test wants them."""
    from utils.data import read_table, split_table

    yield
    split_table(read_table(folder / "table.csv"))
    yield


def stage_tokenise(folder: Path):
    import pandas as pd
    from datasets import ClassLabel, Dataset, DatasetDict
    from transformers import AutoTokenizer

    rows = pd.read_csv(folder / "table.csv", usecols=["text", "label"]).drop_duplicates("text")
    ends = [0, int(len(rows) * 0.7), int(len(rows) * 0.85), len(rows)]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    yield
    dataset = DatasetDict()
    for name, first, last in zip(("train", "validation", "test"), ends, ends[1:], strict=False):
        part = rows.iloc[first:last]
        labels = [LABELS.index(label) for label in part["label"]]
        part = Dataset.from_dict({"text": part["text"].tolist(), "label": labels})
        dataset[name] = part.cast_column("label", ClassLabel(names=LABELS))
    tokenised = dataset.map(lambda rows: tokenizer(rows["text"], truncation=True, max_length=128), batched=True)
    yield
    tokenised.save_to_disk(folder / "tokenised")


def stage_preflight(folder: Path):
    from datasets import load_from_disk
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    from utils.metrics import compute_metrics
    from utils.preflight import preflight

    rows = load_from_disk(folder / "tokenised")
    strategies = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    strategies |= {"metric_for_best_model": "accuracy", "train_sampling_strategy": "group_by_length"}
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(folder / "model"),
        args=TrainingArguments(str(folder / "run"), report_to="none", use_cpu=True, **strategies),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        compute_metrics=compute_metrics,
    )
    yield
    preflight(trainer, test_dataset=rows["test"])
    yield


def stage_predict(folder: Path):
    from utils.predict import predict_file

    yield
    predict_file(folder / "model", folder / "table.csv", folder / "labelled.csv")
    yield


STAGES = ("read", "split", "tokenise", "preflight", "predict")


def run_stage(stage: str, folder: Path) -> dict:
    """Be the process of one stage: return its seconds and the process's peak memory."""
    steps = globals()[f"stage_{stage}"](folder)
    next(steps)
    wall, cpu = time.perf_counter(), time.process_time()
    next(steps)
    found = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    found["peak_mib"] = peak_mib()
    next(steps, None)
    return {name: round(value, 3) for name, value in found.items()}


def measure(stage: str, folder: Path) -> dict:
    """Run a stage in a process of its own; its last line of output is what it found."""
    command = [sys.executable, str(HERE / "growth.py"), "--stage", stage, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ended.returncode:
        raise RuntimeError(f"{stage} failed:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def reader(sizes: list[int]) -> list[dict]:
    """Measure `read_table` and `split_table` together on CSV files of these sizes."""
    results = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_csv(Path(folder, "table.csv"), rows)
            results.append({"rows": rows} | measure("reader", Path(folder)))
    return results


def save_model(folder: Path, small: bool) -> None:
    """Save a classifier of five labels: of 16 units, with the bundled tokenizer; or the bundled model itself."""
    sys.path.append(str(ROOT / "tests" / "tools"))
    from builders import minilm, save_small

    if small:
        save_small(folder, LABELS)
    else:
        for part in minilm(LABELS).values():
            part.save_pretrained(folder)


def measured_minilm(rows: int) -> dict:
    """Label so many tweets with the bundled model; return seconds, memory, and the share of the matmul rate."""
    import pandas as pd
    from meter import matmul_rate, multiplied
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from utils.data import read_table

    texts = read_table("tweets").rows["text"].tolist()
    texts = (texts * (rows // len(texts) + 1))[:rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model", small=False)
        pd.DataFrame({"text": texts}).to_csv(folder / "table.csv", index=False)
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        tokens = sum(map(len, tokenizer(texts, truncation=True)["input_ids"]))
        model, rate = AutoModelForSequenceClassification.from_pretrained(folder / "model"), matmul_rate()
        found = measure("predict", folder)
    speed = 2 * sum(multiplied(model)) * tokens / found["seconds"]
    return {"stage": "predict, minilm-l6", "rows": rows, "tokens": tokens, "efficiency": speed / rate} | found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--minilm", action="store_true", help="label 100,000 tweets with the bundled model")
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    if given.stage:
        print(json.dumps(run_stage(given.stage[0], Path(given.stage[1]))))
    elif given.minilm:
        print(json.dumps(measured_minilm(100_000)))
    else:
        files = [Path(__file__), *sorted((ROOT / "utils").rglob("*.py"))]
        code, target = digest(*(file.read_text(encoding="utf-8") for file in files)), FOLDER / "growth.jsonl"
        for size in given.rows:
            todo = [{"stage": stage, "rows": size, "recipe": code} for stage in STAGES]
            if all(is_done(read(target), wanted, wanted) for wanted in todo):
                continue
            with tempfile.TemporaryDirectory() as place:
                write_csv(Path(place, "table.csv"), size)
                save_model(Path(place, "model"), small=True)
                for wanted in todo:
                    append(target, wanted | measure(wanted["stage"], Path(place)))
                    print(json.dumps(read(target)[-1]), flush=True)
