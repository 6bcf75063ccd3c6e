"""Do nine of ten forecasts hold the score at twice the labels? `python benchmarks/forecast.py`.

On each bundled set, repeat by repeat: three seeds of a learning curve up to 800 rows, the forecast for 1,600,
and what a fourth seed then gets there, hidden until now. Each seed splits the table anew. The learners'
curves differ: word counts go on rising, a linear model on frozen embeddings levels off.
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

SIZES, HIDDEN, TEST, SEEDS, SCORES = (100, 200, 400, 800), 1600, 600, 3, ("accuracy", "f1_macro")


def word_counts(name: str):
    table = read_table(name)

    def scores_of(seed: int, sizes) -> list[dict]:
        splits, found = split_table(table, seed=seed), []
        test = splits.test.sample(min(TEST, len(splits.test)), random_state=seed)
        for size in sizes:
            rows = sample(splits.train, size, "single_label", np.random.RandomState(seed))
            rungs = without_model(rows["text"], rows["label"], test["text"])
            found.append(score(test["label"], rungs["tfidf_logreg"].predicted))
        return found

    return scores_of


def embeddings(name: str):
    vectors, labels = embedded(name, HIDDEN + TEST)

    def scores_of(seed: int, sizes) -> list[dict]:
        order, found = np.random.default_rng(seed).permutation(len(labels)), []
        train, test = order[:HIDDEN], order[HIDDEN:]
        for rows in (train[:size] for size in sizes):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
            model.fit(vectors[rows], labels[rows])
            found.append(score(labels[test], model.predict(vectors[test])))
        return found

    return scores_of


LEARNERS = {"word_counts": word_counts, "embeddings": embeddings}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=12, help="on each set (default: %(default)s)")
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    options = parser.parse_args()
    print(
        "90% intervals that held the hidden score; their mean width; how far the score was from the forecast"
    )
    for learner in options.learners:
        found = {name: [] for name in SCORES}
        for data in BUNDLED:
            scores_of = LEARNERS[learner](data)
            for first in range(100, 100 + options.repeats * (SEEDS + 1), SEEDS + 1):
                curve = [each for k in range(SEEDS) for each in scores_of(first + k, SIZES)]
                (hidden,) = scores_of(first + SEEDS, [HIDDEN])
                for name, results in found.items():
                    known = [each[name] for each in curve]
                    middle, low, high = forecast(np.tile(SIZES, SEEDS), known, HIDDEN)
                    results.append((low <= hidden[name] <= high, high - low, hidden[name] - middle))
            for name, results in found.items():  # this set, and at the last one all together
                for what, part in ((data, results[-options.repeats :]), ("all so far", results)):
                    held, width, off = np.mean(part, axis=0)
                    words = f"{held * len(part):.0f} of {len(part)} held, {width:.3f} wide, {off:+.3f} off"
                    print(f"{learner}, {name}, {what}: {words}", flush=True)
