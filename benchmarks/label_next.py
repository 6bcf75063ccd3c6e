"""Is what `utils.label_next` chooses worth more than rows drawn at random? `python benchmarks/label_next.py`.

On each bundled set: 50 random labels to begin with, then three rounds of 50, chosen or random, for a linear
model on the frozen embeddings of the bundled model. The same start and the same test rows for both, anew in
each repeat. Prints the macro-F1 of both and the gain with its paired 95% interval.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.baselines import embed
from utils.data import read_table, split_table
from utils.label_next.choosing import MORE, doubts, unlike
from utils.metrics import score
from utils.models import find_model
from utils.reading.bundled import BUNDLED

ROUND, ROUNDS, TEST = 50, 3, 500


def embedded(name: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings and the labels of at most `most` different texts of a bundled set."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = find_model("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    rows = split_table(read_table(name)).train  # no text twice
    rows = rows.sample(min(most, len(rows)), random_state=0)
    return embed(model, tokenizer, rows["text"].tolist(), 128), rows["label"].to_numpy()


def chosen(model, vectors, seed: int) -> np.ndarray:
    """Choose as `utils.label_next.choosing.choose` does."""
    unsure, _ = doubts(model.predict_proba(vectors))
    first = np.argsort(-unsure, kind="stable")[: MORE * ROUND]
    return first[unlike(vectors[first], unsure[first], ROUND, seed)]


def at_random(model, vectors, seed: int) -> np.ndarray:
    return np.arange(ROUND)  # they are in random order


def repeat(vectors, labels, seed: int, how) -> list[float]:
    """Return the macro-F1 on the test rows after each round."""
    order = np.random.default_rng(seed).permutation(len(labels))
    test, known, pool = order[:TEST], order[TEST : TEST + ROUND], order[TEST + ROUND :]
    model, scores = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)), []
    model.fit(vectors[known], labels[known])
    for _ in range(ROUNDS):
        places = how(model, vectors[pool], seed)
        known, pool = np.append(known, pool[places]), np.delete(pool, places)
        model.fit(vectors[known], labels[known])
        scores.append(score(labels[test], model.predict(vectors[test]))["f1_macro"])
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--rows", type=int, default=2500, help="of each set, at most (default: %(default)s)")
    options = parser.parse_args()
    print("set, labels: random, chosen, gain in points with its 95% interval")
    for name in BUNDLED:
        vectors, labels = embedded(name, options.rows)
        seeds = range(options.repeats)
        scores = [[repeat(vectors, labels, seed, how) for seed in seeds] for how in (at_random, chosen)]
        random, ours = np.array(scores)
        gains = 100 * (ours - random)
        half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains, axis=0)
        for k in range(ROUNDS):
            gain = gains[:, k].mean()
            words = f"{random[:, k].mean():.3f}, {ours[:, k].mean():.3f}, {gain:+.1f}"
            print(
                f"{name}, {ROUND * (k + 2)}: {words} ({gain - half[k]:+.1f} to {gain + half[k]:+.1f})",
                flush=True,
            )
