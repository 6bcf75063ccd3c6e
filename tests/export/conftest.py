"""A finished run of a tiny model, as the template leaves it."""

import json

import numpy as np
import pandas as pd
import pytest
from builders import save_small

from utils import runs
from utils.data import read_table, split_table
from utils.export.trained import open_trained
from utils.labels import TASKS, label_names

WORDS = [
    "the",
    "a",
    "film",
    "was",
    "not",
    "good",
    "bad",
    "very",
    "boring",
    "plot",
    "actor",
    "and",
    "scene",
    "score",
    "end",
    "of",
    "with",
    "never",
    "again",
]


def texts_of(rows, seed, most=12):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(2, most))) + f" {k}" for k in range(rows)]


def labels_of(texts, task):
    if task == "regression":
        return [len(text) / 10 for text in texts]
    found = [[name for name in ("good", "bad") if name in text.split()] for text in texts]
    return [
        "|".join(names) or "good" if task == "multi_label" else (names or ["so-so"])[0] for names in found
    ]


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Return a function that makes a run and opens it; `settings` are of the model's config."""

    def make(task="single_label", rows=200, pairs=False, max_length=24, most=12, **settings):
        folder = tmp_path_factory.mktemp("run")
        texts = texts_of(rows, 3, most)
        table = pd.DataFrame({"text": texts, "label": labels_of(texts, task)})
        given = {"data_file": str(folder / "t.csv"), "validation_file": None, "test_file": None, "task": task}
        given |= {"text_column": "text", "label_column": "label", "max_train_samples": None, "seed": 7}
        if pairs:
            table["answer"], given["text_pair_column"] = texts_of(rows, 4), "answer"
            settings["text_pair_column"] = "answer"
        table.to_csv(given["data_file"], index=False)
        reading = {"task": task, "text_pair_column": given.get("text_pair_column")}
        read = read_table(given["data_file"], **reading)
        splits = split_table(read, task=task, seed=7)
        labels = label_names(splits.train["label"], task)
        how = {"initializer_range": 0.5, "problem_type": TASKS[task].problem_type}
        save_small(folder / "model", labels, **how | settings)
        path = folder / "model" / "tokenizer_config.json"
        config = json.loads(path.read_text()) | {"model_max_length": max_length, "split_special_tokens": True}
        path.write_text(json.dumps(config))
        record = {"parameters": given, "data": runs.data_record(read, splits, labels)}
        (folder / "metrics.json").write_text(json.dumps(record))
        return open_trained(folder / "model"), splits

    return make
