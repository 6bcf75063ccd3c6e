"""A finished run, opened again: its model, and the rows that trained, chose and tested it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils import read_json
from utils.data import read_table, split_table
from utils.findings import in_words
from utils.labels import encode_labels, label_names
from utils.models import ModelError
from utils.predict import load_classifier

READING = ("task", "encoding", "delimiter", "max_dropped", "group_column", "time_column", "text_pair_column")


class Trained(NamedTuple):
    """What `open_trained` returns: the folder of the model, what `load_classifier` makes of it, the rows of
    each split (`train`, `validation`, `test`), their labels as `encode_labels` returns them, and the run's
    parameters.
    """

    folder: Path
    loaded: tuple
    rows: dict[str, pd.DataFrame]
    true: dict[str, np.ndarray]
    parameters: dict


def open_trained(model: str | Path, device: str = "cpu") -> Trained:
    """Return the model that a run left in `<run>/model`, and its splits, made again from the table.

    Raises:
        ModelError: no finished run has left that folder, or the table has other rows now.
        TableError: the table cannot be read.
    """
    folder = Path(model).expanduser().absolute()
    record, name = read_json(folder.parent / "metrics.json"), f"{folder.parent.name}/{folder.name}"
    if not record:
        why = "is not the model of a finished run, for no metrics.json stands beside it"
        raise ModelError(f"{name} {why}. Give a folder such as runs/training/model.")
    given = record["parameters"]
    reading = {key: given[key] for key in READING if key in given}
    files = (given[key] for key in ("data_file", "validation_file", "test_file"))
    columns = given["text_column"], given["label_column"]
    tables = [read_table(file, *columns, **reading) if file else None for file in files]
    if given.get("folds"):
        tables[0] = tables[0]._replace(fold=(given["fold"], given["folds"]))
    how = {key: given[key] for key in ("task", "seed", "max_train_samples")}
    splits, labels = split_table(*tables, **how), record["data"]["labels"]
    rows = {part: getattr(splits, part) for part in ("train", "validation", "test")}
    counts = {part: (record["data"][f"{part}_rows"], len(frame)) for part, frame in rows.items()}
    changed = [f"{part} {was:,} rows, now {now:,}" for part, (was, now) in counts.items() if was != now]
    if (now := label_names(rows["train"]["label"], given["task"])) != labels:
        changed.append(f"labels {in_words(labels, 10)}, now {in_words(now, 10)}")
    if not changed and (left := folder.parent / "predictions.csv").exists():
        tested = pd.read_csv(left, usecols=["row"])["row"].tolist()
        if tested != rows["test"]["row"].tolist():
            changed.append("other test rows than in predictions.csv")
    if changed:
        why = f"{given['data_file']} has changed since {name} was trained on it"
        raise ModelError(f"{why}: {'; '.join(changed)}. Train again, in template.ipynb.")
    true = {part: encode_labels(frame, labels, given["task"]) for part, frame in rows.items()}
    return Trained(folder, load_classifier(folder, device), rows, true, given)
