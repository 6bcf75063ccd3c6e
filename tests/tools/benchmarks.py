"""What takes longer to measure than a test may: `python tests/tools/benchmarks.py reader`, `regression`,
`sets`, `long_texts` or `batch`; each prints a line of JSON a measurement.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
]
WORDS += ["I", "would", "buy", "again", "never", "café"]


def write_csv(path: Path, rows: int) -> None:
    """Write `rows` texts of about 100 characters with one of five labels and a number, some quoted, each
    twentieth a repeat.
    """
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


def peak_mib() -> float:
    """Return the most memory that this process has held. Linux's getrusage would count what the process that
    started it held, so ask the kernel there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text()).group(1)) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def read_and_split(path: str) -> dict:
    """Read and split the table; return seconds, rows per second and peak memory, imports included."""
    from utils.data import read_table, split_table

    start, cpu = time.perf_counter(), time.process_time()
    table = read_table(path)
    read = time.perf_counter() - start
    splits = split_table(table)
    seconds = time.perf_counter() - start
    peak = peak_mib()
    rows = table.source["rows"]
    assert sum(map(len, splits[:3])) + sum(splits.dropped.values()) == rows
    return {
        "rows": rows,
        "read_seconds": round(read, 2),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "rows_per_second": round(rows / seconds),
        "peak_mib": round(peak),
    }


def reader(sizes: list[int]) -> list[dict]:
    """Measure `read_table` and `split_table` on CSV files of these sizes: rows per second and peak memory.

    Each size runs in a process of its own, because a process's peak memory never goes down again.
    """
    results = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            write_csv(path, rows)
            megabytes = round(path.stat().st_size / 1e6, 1)
            output = subprocess.run(
                [sys.executable, __file__, "--one", str(path)], capture_output=True, text=True, check=True
            ).stdout
        results.append(json.loads(output) | {"file_megabytes": megabytes})
    return results


def regression(domain: str, repeats: list[int]) -> None:
    """Fine-tune on the mean ratings of a bundled set, on 80% of its rows, and print the correlation of the
    predictions with those of the other 20%.

    Each repeat splits anew, and no text is on both sides. The settings are one choice for all sets; no test
    score was looked at to make it.
    """
    import numpy as np
    import pandas as pd
    import torch
    from datasets import Dataset
    from sklearn.model_selection import GroupShuffleSplit
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from utils.data import read_table
    from utils.models import find_model
    from utils.reading.same import normalise

    rows = read_table(domain).rows
    target = pd.to_numeric(rows["valence"]).to_numpy(np.float32)
    checkpoint = find_model("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoded = tokenizer(rows["text"].tolist(), truncation=True, max_length=128)
    data = Dataset.from_dict({**encoded, "label": target})
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    scores = []
    for repeat in repeats:
        started = time.perf_counter()
        seed = 42 + repeat
        train, test = next(
            GroupShuffleSplit(1, test_size=0.2, random_state=seed).split(rows, groups=normalise(rows["text"]))
        )
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, num_labels=1, problem_type="regression", dtype=torch.float32
        )
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                output_dir=folder,
                num_train_epochs=2,
                per_device_train_batch_size=16,
                per_device_eval_batch_size=64,
                learning_rate=1e-4,
                warmup_steps=0.1,
                weight_decay=0.01,
                train_sampling_strategy="group_by_length",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                seed=seed,
            )
            trainer = Trainer(model, args, train_dataset=data.select(train), processing_class=tokenizer)
            trainer.train()
            order = test[np.argsort(-lengths[test], kind="stable")]
            trainer.args.train_sampling_strategy = "random"  # predictions in the order given
            predicted = trainer.predict(data.select(order)).predictions[:, 0]
        scores.append(float(np.corrcoef(predicted, target[order])[0, 1]))
        found = {
            "set": domain,
            "repeat": repeat,
            "test_rows": len(test),
            "pearson": round(scores[-1], 3),
            "mae": round(float(np.abs(predicted - target[order]).mean()), 3),
        }
        print(json.dumps(found | {"seconds": round(time.perf_counter() - started)}), flush=True)
    if len(scores) > 1:
        print(
            json.dumps(
                {
                    "set": domain,
                    "repeats": len(scores),
                    "pearson": round(float(np.mean(scores)), 3),
                    "std": round(float(np.std(scores, ddof=1)), 3),
                }
            )
        )


def sets(name: str, samples: int) -> None:
    """Say what fine-tuning is worth on a bundled set, against counting words and against VADER's rules: the
    template on at most `samples` training rows. It has chosen the running example of 04.
    """
    import numpy as np
    import pandas as pd
    import papermill
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    from utils import unquote_formula
    from utils.metrics import compare, score

    with tempfile.TemporaryDirectory() as folder:
        parameters = {"data_file": name, "max_train_samples": samples, "output_dir": f"{folder}/run"}
        template, copy = ROOT / "notebooks" / "template.ipynb", f"{folder}/out.ipynb"
        papermill.execute_notebook(template, copy, parameters, progress_bar=False)
        record = json.loads(Path(folder, "run", "metrics.json").read_text())
        test = pd.read_csv(f"{folder}/run/predictions.csv", dtype=str, keep_default_na=False)
    test = test.map(unquote_formula)
    analyzer = SentimentIntensityAnalyzer()
    sums = np.array([analyzer.polarity_scores(text)["compound"] for text in test["text"]])
    rules = np.where(sums > 0, "positive", "negative")
    gain = compare("accuracy", test["label"], test["predicted"], rules)
    result = {"set": name, "train_rows": record["data"]["train_rows"], "test_rows": len(test)}
    result |= {model: block["accuracy"] for model, block in record["baselines"].items()}
    result |= {"rules": score(test["label"], rules)["accuracy"], "fine_tuned": record["test"]["accuracy"]}
    result = {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}
    result["gain_over_rules"] = [round(value, 3) for value in gain[:3]]
    print(json.dumps(result), flush=True)


def batch(runs: int, workers: int, pause: float) -> None:
    """Run a notebook that does nothing (but sleep for `pause` seconds) so often, and print what a run costs
    early and late, and how much memory the batch holds.
    """
    import threading

    import numpy as np
    import psutil
    from batches import notebook_of

    from utils.batch.runner import run_batch
    from utils.batch.worker import LEFT_BEHIND

    held, done = [], threading.Event()

    def watch():
        while not done.wait(2):
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            with contextlib.suppress(psutil.Error):  # without the runs' own processes: those come and go
                held.append(
                    sum(each.memory_info().rss for each in family if LEFT_BEHIND not in each.environ()) / 1e6
                )

    with tempfile.TemporaryDirectory() as folder:
        parameters, work = "number = 0  # which run\npause = 0.0  # seconds", "import time\ntime.sleep(pause)"
        spec = {
            "notebook": notebook_of(Path(folder) / "nothing.ipynb", parameters, work),
            "parameters": {"pause": pause},
            "grid": {"number": list(range(runs))},
        }
        threading.Thread(target=watch).start()
        started = time.perf_counter()
        try:
            table = run_batch(spec, Path(folder) / "out", workers=workers)
        finally:
            done.set()
        seconds, quarter, part = time.perf_counter() - started, len(table) // 4, max(1, len(held) // 4)
        found = {
            "runs": len(table),
            "failed": int((table["status"] == "failed").sum()),
            "workers": workers,
            "seconds": round(seconds, 1),
        }
        found |= {"seconds_a_run": round(seconds * workers / len(table), 2)}
        found |= {
            f"seconds_{when}_quarter": round(float(each.mean()), 2)
            for when, each in (("first", table["seconds"][:quarter]), ("last", table["seconds"][-quarter:]))
        }
        found |= {
            "megabytes_early": round(float(np.median(held[part : 2 * part]))),
            "megabytes_late": round(float(np.median(held[-part:]))),
        }
        started = time.perf_counter()
        run_batch(spec, Path(folder) / "out", workers=workers)
        print(json.dumps(found | {"seconds_when_nothing_is_left": round(time.perf_counter() - started, 2)}))


def sweep(samples: int) -> None:
    """Run the same four fine-tunings with two workers and with one, and print the ratio of the times and
    whether the leaderboards are the same.
    """
    import os

    from utils.batch.runner import run_batch
    from utils.batch.worker import THREADS

    for name in THREADS:
        os.environ.pop(name, None)  # the batch shares out the cores
    parameters = {"data_file": "tweets", "max_train_samples": samples, "num_train_epochs": 1}
    spec = {
        "notebook": "notebooks/template.ipynb",
        "parameters": parameters,
        "grid": {"learning_rate": [2e-5, 5e-5], "seed": [1, 2]},
    }
    tables, seconds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in (2, 1):  # the first pays for cold files, and that must not flatter the ratio
            started = time.perf_counter()
            tables[workers] = run_batch(spec, Path(folder) / str(workers), workers=workers)
            seconds[workers] = time.perf_counter() - started
    same = tables[1].drop(columns="seconds").equals(tables[2].drop(columns="seconds"))
    found = {
        "runs": len(tables[1]),
        "failed": sum(int((table["status"] == "failed").sum()) for table in tables.values()),
        "max_train_samples": samples,
    }
    found |= {
        "seconds_one_worker": round(seconds[1], 1),
        "seconds_two_workers": round(seconds[2], 1),
        "ratio": round(seconds[2] / seconds[1], 2),
    }
    print(json.dumps(found | {"same_leaderboard": same}))


def long_texts(kind: str, seed: int = 42) -> None:
    """Compare three ways to deal with texts of about four times `max_length`: their beginning, beginning and
    end, and overlapping chunks with pooled logits.

    A text is made of eight sentences of the bundled film reviews. `kind` "spread": its label is the sign of
    the sum of their ratings, so every
    sentence counts. "ending": the last two sentences have the label's sign, the other six are random, as
    where a reviewer concludes.
    """
    import numpy as np
    import pandas as pd
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from utils.data import read_table, split_table
    from utils.models import find_model, head_and_tail

    length = 64
    splits = split_table(read_table("reviews"), seed=seed)
    draw = np.random.default_rng(seed)

    def make(rows, count: int):
        rating = pd.to_numeric(rows["valence"]).to_numpy()
        sentences, texts, labels = rows["text"].to_numpy(), [], []
        for _ in range(count):
            label = int(draw.integers(2))
            while True:
                chosen = draw.choice(len(rows), 8, replace=False)
                if kind == "ending":
                    chosen[6:] = draw.choice(np.flatnonzero((rating > 0) == label), 2, replace=False)
                if kind == "ending" or (rating[chosen].sum() > 0) == label:
                    break
            texts.append(" ".join(sentences[chosen]))
            labels.append(label)
        return texts, np.array(labels)

    train, test = make(splits.train, 800), make(splits.test, 400)
    checkpoint = find_model("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)

    def prepared(way: str, texts, labels) -> tuple[Dataset, np.ndarray]:
        if way == "chunks":
            cut = tokenizer(
                texts, truncation=True, max_length=length, stride=length // 4, return_overflowing_tokens=True
            )
            owner = np.array(cut.pop("overflow_to_sample_mapping"))
        else:
            cut = (
                head_and_tail(texts, tokenizer, length)
                if way == "head_tail"
                else tokenizer(texts, truncation=True, max_length=length)
            )
            owner = np.arange(len(texts))
        return Dataset.from_dict({**cut, "label": labels[owner]}), owner

    tokens = np.array([len(ids) for ids in tokenizer(train[0], verbose=False)["input_ids"]])
    for way in ("head", "head_tail", "chunks"):
        started = time.perf_counter()
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, num_labels=2, dtype=torch.float32
        )
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                folder,
                num_train_epochs=2,
                per_device_train_batch_size=16,
                learning_rate=1e-4,
                warmup_steps=0.1,
                save_strategy="no",
                # fmt: skip
                per_device_eval_batch_size=64,
                logging_strategy="no",
                disable_tqdm=True,
                seed=seed,
            )
            trainer = Trainer(model, args, train_dataset=prepared(way, *train)[0], processing_class=tokenizer)
            trainer.train()
            rows, owner = prepared(way, *test)
            logits = trainer.predict(rows).predictions
        pooled = np.zeros((len(test[1]), 2))
        np.add.at(pooled, owner, logits)
        found = {
            "texts": kind,
            "way": way,
            "max_length": length,
            "median_tokens": int(np.median(tokens)),
            "accuracy": float((pooled.argmax(1) == test[1]).mean()),
        }
        print(
            json.dumps(found | {"test_rows": len(test[1]), "seconds": round(time.perf_counter() - started)}),
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["reader", "regression", "sets", "long_texts", "batch"])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--sets", nargs="+", default=["tweets", "reviews", "products", "editorials"])
    parser.add_argument("--repeats", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument(
        "--sweep", action="store_true", help="batch: four runs of the template, with one worker and with two"
    )
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(read_and_split(arguments.one)))
    elif arguments.what == "reader":
        for result in reader(arguments.rows):
            print(json.dumps(result), flush=True)
    elif arguments.what == "regression":
        for name in arguments.sets:
            regression(name, arguments.repeats)
    elif arguments.what == "sets":
        for name in arguments.sets:
            sets(name, arguments.samples)
    elif arguments.what == "long_texts":
        for kind in ("spread", "ending"):
            long_texts(kind)
    elif arguments.what == "batch" and arguments.sweep:
        sweep(arguments.samples)
    elif arguments.what == "batch":
        batch(arguments.runs, arguments.workers, arguments.pause)
    else:
        parser.error("name what to measure: reader, regression, sets, long_texts or batch")
