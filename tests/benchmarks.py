"""Measurements that take longer than a test may: `python tests/benchmarks.py NAME`. Each prints what it measured."""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def regression(domain: str, folds: int = 5) -> None:
    """Fine-tune on the mean ratings of a bundled set, fold by fold, and print the correlation of the predictions with them, all rows pooled.

    No text is in two folds. The settings were chosen once, on one split of the tweets, and are the same for all sets.
    """
    import pandas as pd
    import torch
    from datasets import Dataset
    from sklearn.model_selection import GroupKFold
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
    predicted, started = np.zeros(len(rows)), time.perf_counter()
    scores = []
    splitter = GroupKFold(folds, shuffle=True, random_state=42).split(rows, groups=normalise(rows["text"]))
    for fold, (train, test) in enumerate(splitter):
        set_seed(42 + fold)
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1, problem_type="regression", dtype=torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                output_dir=folder,
                num_train_epochs=3,
                per_device_train_batch_size=16,
                per_device_eval_batch_size=64,
                learning_rate=1e-4,
                warmup_steps=0.1,
                weight_decay=0.01,
                train_sampling_strategy="group_by_length",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                seed=42 + fold,
            )
            trainer = Trainer(model, args, train_dataset=data.select(train), processing_class=tokenizer)
            trainer.train()
            order = test[np.argsort(-lengths[test], kind="stable")]
            trainer.args.train_sampling_strategy = "random"  # predictions in the order given
            predicted[order] = trainer.predict(data.select(order)).predictions[:, 0]
        scores.append(float(np.corrcoef(predicted[test], target[test])[0, 1]))
        print(json.dumps({"set": domain, "fold": fold, "pearson": round(scores[-1], 3), "seconds": round(time.perf_counter() - started)}), flush=True)
    pooled = float(np.corrcoef(predicted, target)[0, 1])
    mae = float(np.abs(predicted - target).mean())
    print(json.dumps({"set": domain, "rows": len(rows), "folds": folds, "pearson": round(pooled, 3), "std": round(float(np.std(scores)), 3), "mae": round(mae, 3)}))


MEASUREMENTS = {"regression": regression}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:] or ["help"]
    if name not in MEASUREMENTS:
        sys.exit(f"python tests/benchmarks.py NAME [ARGUMENTS]; the names are {', '.join(MEASUREMENTS)}")
    MEASUREMENTS[name](*arguments)
