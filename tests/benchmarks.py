"""Measurements that take longer than a test may: `python tests/benchmarks.py NAME`. Each prints what it measured."""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def regression(domain: str, first: str = "0", repeats: str = "3") -> None:
    """Fine-tune on the mean ratings of a bundled set, on 80% of its rows, and print the correlation of the predictions with those of the other 20%.

    Each repeat splits anew, and no text is on both sides. The settings are one choice for all sets; no test score was looked at to make it.
    """
    import pandas as pd
    import torch
    from datasets import Dataset
    from sklearn.model_selection import GroupShuffleSplit
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

    from utils.data import normalise, read_table
    from utils.models import find_model

    rows = read_table(domain).rows
    target = pd.to_numeric(rows["valence"]).to_numpy(np.float32)
    checkpoint = find_model("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoded = tokenizer(rows["text"].tolist(), truncation=True, max_length=128)
    data = Dataset.from_dict({**encoded, "label": target})
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    scores = []
    for repeat in range(int(first), int(first) + int(repeats)):
        started = time.perf_counter()
        seed = 42 + repeat
        train, test = next(GroupShuffleSplit(1, test_size=0.2, random_state=seed).split(rows, groups=normalise(rows["text"])))
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1, problem_type="regression", dtype=torch.float32)
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
        print(json.dumps({"set": domain, "repeats": len(scores), "pearson": round(float(np.mean(scores)), 3), "std": round(float(np.std(scores, ddof=1)), 3)}))


def batch(runs: str = "200", workers: str = "2", pause: str = "0") -> None:
    """Run a notebook that does nothing (but sleep for `pause` seconds) so often, and print what a run costs early and late, and how much memory the batch holds."""
    import threading

    import nbformat
    import psutil

    from utils.batch import LEFT_BEHIND, run_batch

    held, done = [], threading.Event()

    def watch():
        while not done.wait(2):
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            with contextlib.suppress(psutil.Error):  # without the runs' own processes: those come and go
                held.append(sum(each.memory_info().rss for each in family if LEFT_BEHIND not in each.environ()) / 1e6)

    cells = [nbformat.v4.new_code_cell("number = 0  # which run\npause = 0.0  # seconds", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell("import time\ntime.sleep(pause)")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(notebook, Path(folder) / "nothing.ipynb")
        spec = {"notebook": f"{folder}/nothing.ipynb", "parameters": {"pause": float(pause)}, "grid": {"number": list(range(int(runs)))}}
        threading.Thread(target=watch).start()
        started = time.perf_counter()
        try:
            table = run_batch(spec, Path(folder) / "out", workers=int(workers))
        finally:
            done.set()
        seconds, quarter, part = time.perf_counter() - started, len(table) // 4, max(1, len(held) // 4)
        found = {"runs": len(table), "failed": int((table["status"] == "failed").sum()), "workers": int(workers), "seconds": round(seconds, 1)}
        found |= {"seconds_a_run": round(seconds * int(workers) / len(table), 2)}
        found |= {
            f"seconds_{when}_quarter": round(float(each.mean()), 2)
            for when, each in (("first", table["seconds"][:quarter]), ("last", table["seconds"][-quarter:]))
        }
        found |= {"megabytes_early": round(float(np.median(held[part : 2 * part]))), "megabytes_late": round(float(np.median(held[-part:])))}
        started = time.perf_counter()
        run_batch(spec, Path(folder) / "out", workers=int(workers))
        print(json.dumps(found | {"seconds_when_nothing_is_left": round(time.perf_counter() - started, 2)}))


MEASUREMENTS = {"regression": regression, "batch": batch}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:] or ["help"]
    if name not in MEASUREMENTS:
        sys.exit(f"python tests/benchmarks.py NAME [ARGUMENTS]; the names are {', '.join(MEASUREMENTS)}")
    MEASUREMENTS[name](*arguments)
