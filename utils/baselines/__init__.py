"""What a fine-tuned model has to beat, rung by rung: one answer for all, word counts, a linear model on the
frozen model's embeddings; and, in `rivals`, anybody else's answers. And which training labels such a model
disbelieves.
"""

import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union

from utils import atomic_path, quote_formula
from utils.baselines.rivals import MODEL, Rung, mcnemar
from utils.baselines.rivals import read_rivals as read_rivals  # baselines.read_rivals, for the template
from utils.inputs import joined, length_sorted_batches, pooled, texts_of, windows
from utils.inputs.precision import has_bf16
from utils.labels import TASKS
from utils.metrics import Comparison, bootstrap_interval, compare, functions_of, score


def without_model(
    train_texts: Sequence[str], train_labels: Sequence, texts: Sequence[str], task: str = "single_label"
) -> dict[str, Rung]:
    """Return what the baselines predict for `texts` after seeing the training rows; labels as for `score`.

    A text may be a pair: a tuple of two, joined by a blank.

    Returns:
        single_label: majority, the commonest training label (the first in sorted order of several), and
            tfidf_logreg, logistic regression on the TF-IDF weights of words, word pairs and parts of words.
        multi_label: the same for each label; where half of the rows have it, majority is not to have it.
        regression: mean, of the training labels, and tfidf_ridge, ridge regression on the TF-IDF weights.
    """
    functions, facts, start = functions_of(task), TASKS[task], time.perf_counter()
    labels, texts = functions.as_array(train_labels), joined(texts)
    known = np.array(joined(train_texts), object)
    dummy = DummyClassifier() if facts.classes else DummyRegressor()
    constant = dummy.fit(labels, labels).predict(texts).reshape(len(texts), *labels.shape[1:])
    rungs = {facts.constant_baseline: Rung(constant, time.perf_counter() - start)}
    start, kept = time.perf_counter(), some_rows(len(labels), 100_000)  # more take minutes and gigabytes
    # Parts of single words, never across two: they see through spelling, endings and ":-))".
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=200_000)
    weights = make_union(_word_weights(), parts)
    known = weights.fit_transform(known[kept])
    predicted = linear_predictions(known, labels[kept], weights.transform(texts), task, strength=10)
    return rungs | {facts.tfidf_baseline: Rung(predicted, time.perf_counter() - start)}


def on_embeddings(
    model, tokenizer, train_texts, train_labels, texts, task: str, max_length: int
) -> dict[str, Rung]:
    """Return what a linear model on `embed` predicts for `texts`, as `without_model` does.

    Called before training: what the pretrained model knows without fine-tuning. It is called
    embeddings_logreg, or for a regression embeddings_ridge, and learns from 20,000 rows at most.
    """
    start, kept = time.perf_counter(), some_rows(len(train_texts), 20_000)  # more take as long as training
    known = list(train_texts)
    texts = [*(known[k] for k in kept), *texts]
    features = embed(model, tokenizer, texts, max_length)
    known, asked = features[: len(kept)], features[len(kept) :]
    predicted = from_embeddings(known, np.asarray(train_labels)[kept], asked, task)
    return {TASKS[task].embeddings_baseline: Rung(predicted, time.perf_counter() - start)}


def from_embeddings(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, task: str) -> np.ndarray:
    """Return what a linear model predicts for embeddings `asked`, scaled as the `known` ones, of `embed`."""
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
    # between 0.003 and 0.03 the strength hardly matters on the bundled sets, all rows or 300
    return linear_predictions((known - mean) / spread, labels, (asked - mean) / spread, task, strength=0.01)


def embed(model, tokenizer, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Return what a model makes of each text: the mean of its last layer over the tokens, (texts, hidden).

    For a checkpoint of sentence-transformers, such as the bundled one, this is the sentence embedding. Model
    and random state are left as they were; texts are cut as in training, the chunks of a text averaged.
    """
    import torch

    means, texts, training = [], list(texts), model.training
    model.eval()
    fast = torch.autocast(model.device.type, torch.bfloat16, enabled=has_bf16())
    for place in windows(texts):
        rows, owner = [], []
        for places, batch, _ in length_sorted_batches(model, tokenizer, texts[place], 64, max_length):
            with torch.inference_mode(), fast:
                output = model(**batch, output_hidden_states=True)
            # of a model with encoder and decoder, the encoder's: it is what saw the whole text
            hidden = (output.get("encoder_hidden_states") or output.hidden_states)[-1].float()
            mask = batch["attention_mask"].unsqueeze(-1)
            rows.append(((hidden * mask).sum(dim=1) / mask.sum(dim=1)).cpu().numpy())
            owner.append(places)
        means.append(pooled(np.concatenate(rows), np.concatenate(owner)))
    model.train(training)
    return np.concatenate(means)


def ladder(labels, rungs: dict[str, Rung], task: str = "single_label") -> tuple[pd.DataFrame, Comparison]:
    """Return a line a rung: scores, gain over the rung above it with its 95% interval, and seconds.

    Beside it the comparison of the last rung, the model, with the best of those before it on these rows.
    Rivals, the rungs without seconds, go below the model: their gain is over the model, and where there are
    classes `mcnemar` is the p-value of McNemar's exact test.
    """
    measure, lines = TASKS[task].compared_by, {}
    rivals = [name for name in rungs if math.isnan(rungs[name].seconds)]
    names = [name for name in rungs if name not in rivals]
    model = rungs[names[-1]].predicted
    above = dict(zip(names, [None, *names], strict=False)) | dict.fromkeys(rivals, names[-1])
    for name, before in above.items():
        both = [rungs[each].predicted for each in (name, before) if each]
        interval = bootstrap_interval(measure, labels, *both) if before else [math.nan] * 3
        gain = dict(zip(("gain", "low", "high"), interval, strict=True))
        lines[name] = score(labels, both[0], task) | gain | {"seconds": rungs[name].seconds}
    best = max(names[:-1], key=lambda name: lines[name][measure])
    comparison = compare(measure, labels, model, rungs[best].predicted, best)
    words = [comparison.words]
    if comparison.verdict != "better":
        words[0] += f" As far as they show, {best} is enough: it took {rungs[best].seconds:,.0f} seconds."
    for name in rivals:
        words.append(compare(measure, labels, model, rungs[name].predicted, name).words)
        if TASKS[task].classes:
            test = mcnemar(labels, model, rungs[name].predicted)
            lines[name]["mcnemar"] = test.p
            alone = f"{test.model:,} rows right by the model alone, {test.rival:,} by {name} alone"
            words[-1] += f" McNemar's exact test: {alone}, p = {test.p:.2g}."
    return pd.DataFrame.from_dict(lines, orient="index"), comparison._replace(words="\n".join(words))


def record_of(ladder: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return what metrics.json says of the rungs of `ladder` but the model's."""
    return {name: line.dropna().to_dict() for name, line in ladder.drop(index=MODEL).iterrows()}


def some_rows(rows: int, most: int) -> np.ndarray:
    """Return the numbers of all rows, or of `most` drawn at random, the same every time."""
    return np.arange(rows) if rows <= most else np.random.default_rng(0).permutation(rows)[:most]


def linear_predictions(known, labels: np.ndarray, features, task: str, strength: float) -> np.ndarray:
    """Return what a linear model predicts from `features` after seeing `known`: tables of (rows, columns).

    `strength` is how far the labels may pull the coefficients from 0: C of logistic regression, 3 / alpha of
    ridge regression.
    """
    model = LINEAR[task](known.shape, labels, strength)
    with warnings.catch_warnings():  # such a label is predicted always or never, as it should be
        warnings.filterwarnings("ignore", "Label .* is present in all training examples")
        return model.fit(known, labels).predict(features).reshape(features.shape[0], *labels.shape[1:])


def _logistic(shape: tuple[int, int], classes: int, strength: float = 10):
    """Return a classifier for features of this shape: LogisticRegression, SGDClassifier or DummyClassifier.

    The usual solver holds 25 copies of all coefficients: 25 GB for 1,000 classes and 100,000 word pairs.
    Above 5 million, SGD minimises the same loss, one class against the rest.
    """
    rows, features = shape
    if classes == 1:
        return DummyClassifier()
    if (classes if classes > 2 else 1) * features <= 5_000_000:
        return LogisticRegression(C=strength, max_iter=1000)
    # alpha and C are two ways of writing one weight
    return SGDClassifier(loss="log_loss", alpha=1 / (strength * rows), random_state=0)


LINEAR = {
    "single_label": lambda shape, y, strength: _logistic(shape, len(np.unique(y)), strength),
    "multi_label": lambda shape, y, strength: OneVsRestClassifier(
        _logistic(shape, max(2, y.shape[1]), strength)
    ),
    # of TF-IDF, between 0.1 and 0.5 alpha hardly matters on the bundled sets; the default, 1, is worse on all
    "regression": lambda shape, y, strength: Ridge(alpha=3 / strength),
}


def _word_weights() -> TfidfVectorizer:
    # A token is a run of non-blanks: scikit-learn's default would throw away ":)", "!" and one-letter words.
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]+")


def suspicious_labels(texts: Sequence[str], labels, rows=None) -> pd.DataFrame:
    """Return the rows whose label a model trained on other rows believes least, the most suspicious first.

    A row is judged by the probability of its own label: the self-confidence of confident learning (Northcutt,
    Jiang and Chuang 2021), of logistic regression on TF-IDF, fitted inside the folds.

    Args:
        texts, labels, rows: training rows, labels as names or ids; numbers for the list (None counts from 0).

    Returns:
        row, text, label, suggested (the label believed most) and label_probability (0 to 1) of the rows
        where the two labels differ. Rows that are alone in their class cannot be judged, and are left out.
    """
    rows = np.arange(len(texts)) if rows is None else np.asarray(rows)
    table = pd.DataFrame({"row": rows, "text": list(texts), "label": np.asarray(labels)})
    table = table[table["label"].duplicated(keep=False)]
    names, ids, sizes = np.unique(table["label"], return_inverse=True, return_counts=True)
    if len(names) < 2:
        return table.iloc[:0].assign(suggested=[], label_probability=[])
    features = len(_word_weights().fit(table["text"]).vocabulary_)
    model = make_pipeline(_word_weights(), _logistic((len(ids), features), len(names)))
    parts = StratifiedKFold(min(5, sizes.max()), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # two rows of a class are never in one part, so that each model learns from one of them
        warnings.filterwarnings("ignore", "The least populated class")
        believed = cross_val_predict(model, table["text"], ids, cv=parts, method="predict_proba")
    best, own = believed.argmax(axis=1), believed[np.arange(len(ids)), ids]
    table = table.assign(suggested=names[best], label_probability=own)[best != ids]
    return table.sort_values("label_probability", kind="stable", ignore_index=True)


def write_suspicious(folder: Path, rows, task: str):
    """Write suspicious_labels.csv, the training rows of `suspicious_labels`, and return them.

    Only for single_label; for other tasks no file is written, and the table is empty.
    """
    if task != "single_label":
        return rows.iloc[:0]
    doubts = suspicious_labels(joined(texts_of(rows)), rows["label"], rows["row"])
    with atomic_path(folder / "suspicious_labels.csv") as partial:
        doubts.map(quote_formula).to_csv(partial, index=False)
    return doubts
