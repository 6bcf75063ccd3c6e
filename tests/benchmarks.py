"""Measurements that take longer than a test may: `python tests/benchmarks.py NAME`. Each prints what it measured."""

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


MEASUREMENTS = {"regression": regression}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:] or ["help"]
    if name not in MEASUREMENTS:
        sys.exit(f"python tests/benchmarks.py NAME [ARGUMENTS]; the names are {', '.join(MEASUREMENTS)}")
    MEASUREMENTS[name](*arguments)
