"""Three ways to deal with texts of about four times `max_length`: their beginning, beginning and end, and
overlapping chunks with pooled logits, as the template does. It prints a line of JSON for each:
`python benchmarks/long_texts.py`, with `spread` or `ending` behind it for one kind of text only.

A text is made of eight sentences of the bundled film reviews. "spread": its label is the sign of the sum of
their ratings, so every sentence counts. "ending": the last two sentences have the label's sign, the other six
are random, as where a reviewer concludes.
"""

import argparse
import json
import tempfile
import time

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from run import names_of
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)

from utils.data import read_table, split_table, tokenise
from utils.models import find_model
from utils.predict import predict_in_order

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


def compare(kind: str) -> None:
    """Train and test each way on the same texts; print its accuracy."""
    splits, draw = split_table(read_table("reviews"), seed=SEED), np.random.default_rng(SEED)
    made = {"train": make(splits.train, 800, kind, draw), "test": make(splits.test, 400, kind, draw)}
    parts = {
        name: Dataset.from_dict({"text": texts, "label": labels}) for name, (texts, labels) in made.items()
    }
    checkpoint = find_model("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for way in ("head", "head_tail", "chunks"):
        started = time.process_time()
        set_seed(SEED)
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2, dtype="float32")
        how = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 64}
        how |= {"learning_rate": 1e-4, "warmup_steps": 0.1, "save_strategy": "no", "logging_strategy": "no"}
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(folder, disable_tqdm=True, seed=SEED, **how)
            tokenised = tokenise(DatasetDict(parts), tokenizer, LENGTH, way)
            trainer = Trainer(model, args, train_dataset=tokenised["train"], processing_class=tokenizer)
            trainer.train()
            logits, _ = predict_in_order(trainer, tokenised["test"])
        found = {"texts": kind, "way": way, "rows": len(tokenised["train"])}
        found["accuracy"] = float((logits.argmax(1) == made["test"][1]).mean())
        print(json.dumps(found | {"cpu_seconds": round(time.process_time() - started)}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("kinds", nargs="*", help="spread, ending (default: both)")
    for name in names_of(",".join(parser.parse_args().kinds), ("spread", "ending"), "kind of texts"):
        compare(name)
