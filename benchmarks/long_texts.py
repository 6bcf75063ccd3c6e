"""Three ways to deal with texts of about four times `max_length`: their beginning, beginning and end, and
overlapping chunks with pooled logits. `python benchmarks/long_texts.py` prints a line of JSON for each.

A text is made of eight sentences of the bundled film reviews. "spread": its label is the sign of the sum of
their ratings, so every sentence counts. "ending": the last two sentences have the label's sign, the other six
are random, as where a reviewer concludes.
"""

import json
import tempfile
import time

import numpy as np
import pandas as pd
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

LENGTH, SEED = 64, 42


def make(rows: pd.DataFrame, count: int, kind: str, draw) -> tuple[list[str], np.ndarray]:
    """Return so many texts of eight sentences, and their labels, 0 or 1."""
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


def prepared(way: str, tokenizer, texts: list[str], labels: np.ndarray) -> tuple[Dataset, np.ndarray]:
    """Return the rows that the model sees, and of which text each is."""
    owner = np.arange(len(texts))
    if way == "chunks":
        how = {"stride": LENGTH // 4, "return_overflowing_tokens": True}
        cut = tokenizer(texts, truncation=True, max_length=LENGTH, **how)
        owner = np.array(cut.pop("overflow_to_sample_mapping"))
    elif way == "head_tail":
        cut = head_and_tail(texts, tokenizer, LENGTH)
    else:
        cut = tokenizer(texts, truncation=True, max_length=LENGTH)
    return Dataset.from_dict({**cut, "label": labels[owner]}), owner


def compare(kind: str) -> None:
    """Train and test each way on the same texts; print its accuracy."""
    splits, draw = split_table(read_table("reviews"), seed=SEED), np.random.default_rng(SEED)
    train, test = make(splits.train, 800, kind, draw), make(splits.test, 400, kind, draw)
    checkpoint = find_model("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for way in ("head", "head_tail", "chunks"):
        started = time.perf_counter()
        set_seed(SEED)
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2, dtype="float32")
        how = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 64}
        how |= {"learning_rate": 1e-4, "warmup_steps": 0.1, "save_strategy": "no", "logging_strategy": "no"}
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(folder, disable_tqdm=True, seed=SEED, **how)
            rows, _ = prepared(way, tokenizer, *train)
            trainer = Trainer(model, args, train_dataset=rows, processing_class=tokenizer)
            trainer.train()
            rows, owner = prepared(way, tokenizer, *test)
            logits = trainer.predict(rows).predictions
        pooled = np.zeros((len(test[1]), 2))
        np.add.at(pooled, owner, logits)
        found = {"texts": kind, "way": way, "accuracy": float((pooled.argmax(1) == test[1]).mean())}
        print(json.dumps(found | {"seconds": round(time.perf_counter() - started)}), flush=True)


if __name__ == "__main__":
    for name in ("spread", "ending"):
        compare(name)
