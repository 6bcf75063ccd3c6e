"""Which rows of an unlabelled file to label next: those of which a model is unsure, and unlike each other."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from utils import atomic_path, quote_formula
from utils.baselines import embed
from utils.findings import ModelError, TableError
from utils.labels import TASKS
from utils.predict import label_texts, length_limit, load_classifier
from utils.reading.files import read_frame, refuse_output
from utils.reading.same import normalise
from utils.reading.table import is_blank, locate

MORE = 5  # times as many unsure rows as are asked for are grouped


def doubts(probabilities, task: str = "single_label", thresholds=None) -> tuple[np.ndarray, np.ndarray]:
    """Return how unsure a model is of each row, 0 to 1, and the probability that shows it, shape (rows,).

    single_label: 1 - the distance of the two best (margin sampling, Scheffer, Decomain and Wrobel 2001), and
    the best. multi_label: of the label that is nearest to its threshold (None: 0.5), 1 - that distance.
    """
    if TASKS[task].joined:
        distance = np.abs(probabilities - (0.5 if thresholds is None else np.asarray(thresholds)))
        nearest = np.arange(len(distance)), distance.argmin(axis=1)
        return 1 - distance[nearest], probabilities[nearest]
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return 1 - (first - second), first


def unlike(vectors, weights, number: int, seed: int = 0) -> np.ndarray:
    """Return the places of `number` rows that are unlike each other; of all, where there are no more.

    k-means with `weights`, shape (rows,), makes so many groups of the `vectors`, shape (rows, units); the row
    nearest to its group's centre stands for it (Zhdanov 2019, Diverse mini-batch Active Learning). Where
    vectors are equal there are fewer groups: the rows with the highest weights fill up.
    """
    if len(vectors) <= number:
        return np.arange(len(vectors))
    kmeans = KMeans(min(number, len(np.unique(vectors, axis=0))), n_init=1, random_state=seed)
    groups = kmeans.fit(vectors, sample_weight=weights + 1e-6)
    far = np.linalg.norm(vectors - groups.cluster_centers_[groups.labels_], axis=1)
    chosen = pd.Series(far).groupby(groups.labels_).idxmin().to_numpy()
    rest = np.setdiff1d(np.argsort(-weights, kind="stable"), chosen, assume_unique=True)
    return np.concatenate([chosen, rest[: number - len(chosen)]])


def choose(
    model: str | Path,
    data_file: str | Path,
    output_file: str | Path = "label_next.csv",
    number: int = 50,
    text_column: str = "text",
    encoding: str | None = None,
    delimiter: str | None = None,
    device: str | None = None,
) -> pd.DataFrame:
    """Write the `number` rows that are most worth a label, and return them: the least sure one first.

    Of the `MORE` times as many rows of which the model is least sure, those whose embeddings are `unlike`.
    Blank texts are left out, and so are repeats. Columns: row (its number in the file, from 0), text,
    predicted, probability (single_label: of what is predicted; multi_label: of the label nearest to its
    threshold), and label, empty, for you. Model and file are given and read as for `utils.predict`.

    Raises:
        TableError: the table cannot be read or holds no text; the output is no CSV, or is there already.
        ModelError: there is no such model, it is no classifier, it predicts a number, or `number` is below 1.
    """
    path, target = locate(data_file), Path(output_file).expanduser()
    refuse_output(target, path, text_column)
    if target.exists():
        raise TableError(f"{target.name} is there already, perhaps with labels in it. Give another --out.")
    if number < 1:
        raise ModelError(f"number={number} must be a whole number, 1 or more.")
    loaded = load_classifier(model, device)
    classifier, tokenizer, task, _ = loaded
    if not TASKS[task].classes:
        fault = f"{model} predicts a number, and does not say how sure it is of it"
        raise ModelError(f"{fault}. Draw rows at random.")
    table = read_frame(path, [text_column], encoding=encoding, delimiter=delimiter)[0]
    texts = table[text_column][~is_blank(table[text_column])]
    texts = texts[~normalise(texts).duplicated()]
    if texts.empty:
        raise TableError(f"{path.name}: no row has a text in {text_column!r}. There is nothing to label.")

    answers = label_texts(loaded, texts.tolist())
    thresholds = getattr(classifier.config, "thresholds", None)
    unsure, sure = doubts(answers.filter(like="probability_").to_numpy(), task, thresholds)
    first = np.argsort(-unsure, kind="stable")[: MORE * number]
    vectors = embed(classifier, tokenizer, texts.iloc[first].tolist(), length_limit(loaded))
    chosen = first[np.sort(unlike(vectors, unsure[first], number))]
    rows = answers.assign(row=texts.index, probability=sure, label="").iloc[chosen]
    rows = rows[["row", "text", "predicted", "probability", "label"]].reset_index(drop=True)
    with atomic_path(target) as partial:
        rows.map(quote_formula).to_csv(partial, index=False, float_format="%.6f")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    about = "Choose the rows of a file that are most worth a label: unsure, and unlike each other."
    parser = argparse.ArgumentParser(prog="python -m utils.label_next", description=about)
    add = parser.add_argument
    add("model", help="a folder that a run wrote, such as runs/training/model")
    add("data_file", help="the texts without labels: CSV, TSV, JSONL or Parquet, also gzipped")
    add("--number", type=int, default=50, help="how many rows (default: %(default)s)")
    add("--out", dest="output_file", default="label_next.csv", help="the CSV to write (default: %(default)s)")
    add("--text-column", default="text", help="the column that holds the texts (default: %(default)s)")
    add("--encoding", help="of a CSV (default: recognised)")
    add("--delimiter", help="of a CSV, \\t or tab for a tab (default: recognised)")
    add("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    given = parser.parse_args(arguments)
    try:
        rows = choose(**vars(given))
    except (TableError, ModelError) as error:
        sys.exit(str(error))
    print(f"{len(rows):,} rows written to {Path(given.output_file).name}, the least sure one first.")
    print("Fill in its column label, and add the rows to your training table.")
