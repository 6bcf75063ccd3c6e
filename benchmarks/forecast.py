"""Do nine of ten forecasts hold the score at twice the labels? `python benchmarks/forecast.py`.

On each bundled set, repeat by repeat: three seeds of a learning curve up to 800 rows, the forecast for 1,600,
and what a fourth seed then gets there, hidden until now. Each seed splits the table anew. Two learners, whose
curves differ: word counts, which go on rising, and a linear model on frozen embeddings, which level off.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from label_next import embedded

from utils.baselines import without_model
from utils.batch.forecast import forecast
from utils.data import read_table, split_table
from utils.metrics import score
from utils.reading.bundled import BUNDLED
from utils.reading.dealing import sample

SIZES, HIDDEN, SEEDS, SCORES = (100, 200, 400, 800), 1600, 3, ("accuracy", "f1_macro")


def word_counts(name: str):
    table = read_table(name)

    def scores_of(seed: int, sizes) -> list[dict]:
        splits, found = split_table(table, seed=seed), []
        for size in sizes:
            rows = sample(splits.train, size, "single_label", np.random.RandomState(seed))
            rungs = without_model(rows["text"], rows["label"], splits.test["text"])
            found.append(score(splits.test["label"], rungs["tfidf_logreg"].predicted))
        return found

    return scores_of


def embeddings(name: str):
    vectors, labels = embedded(name, 2500)

    def scores_of(seed: int, sizes) -> list[dict]:
        order, found = np.random.default_rng(seed).permutation(len(labels)), []
        train, test = order[:HIDDEN], order[HIDDEN:]
        for rows in (train[:size] for size in sizes):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
            model.fit(vectors[rows], labels[rows])
            found.append(score(labels[test], model.predict(vectors[test])))
        return found

    return scores_of


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=12, help="on each set (default: %(default)s)")
    repeats = parser.parse_args().repeats
    for learner in (word_counts, embeddings):
        found = {name: [] for name in SCORES}  # of each repeat: is it held, how far off, how wide
        for data in BUNDLED:
            scores_of = learner(data)
            for first in range(100, 100 + repeats * (SEEDS + 1), SEEDS + 1):
                curve = [each for k in range(SEEDS) for each in scores_of(first + k, SIZES)]
                (hidden,) = scores_of(first + SEEDS, [HIDDEN])
                for name, results in found.items():
                    known = [each[name] for each in curve]
                    middle, low, high = forecast(np.tile(SIZES, SEEDS), known, HIDDEN)
                    results.append((low <= hidden[name] <= high, hidden[name] - middle, high - low))
        for name, results in found.items():
            held, off, width = np.mean(results, axis=0)
            words = f"{100 * held:.0f}% of {len(results)} intervals held the score, {width:.3f} wide"
            print(f"{learner.__name__}, {name}: {words}; it was {off:+.3f} from the forecast", flush=True)
