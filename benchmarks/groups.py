"""What a random split hides where rows come in groups: `python benchmarks/groups.py [products|editorials]`.

Neighbouring sentences come from one review (or article). Ten random and ten grouped splits; accuracy on the
test rows of two cheap models that see the same training rows: TF-IDF, and the bundled model's embeddings.
"""

import sys

import numpy as np
import pandas as pd
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from utils.baselines import embed, from_embeddings, without_model
from utils.data import read_table, split_table
from utils.models import find_model
from utils.reading.bundled import WHOLE

SEEDS = range(10)


def main(name: str) -> None:
    table = read_table(name, group_column=WHOLE[name])
    checkpoint = find_model("minilm-l6")
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    texts = table.rows["text"].tolist()
    features = embed(model, AutoTokenizer.from_pretrained(checkpoint), texts, 128)
    lines = []
    for kind, rows in (("random", table._replace(split_by="")), ("grouped", table)):
        for seed in SEEDS:
            splits = split_table(rows, seed=seed)
            train, test = splits.train, splits.test
            words = without_model(train["text"], train["label"], test["text"])["tfidf_logreg"].predicted
            known, asked = (features[table.rows["row"].searchsorted(part["row"])] for part in (train, test))
            vectors = from_embeddings(known, train["label"].to_numpy(), asked, "single_label")
            scores = {"TF-IDF": words == test["label"], "embeddings": vectors == test["label"]}
            shared = test["group"].isin(train["group"]).mean()
            lines.append(
                {"split": kind, "shared": shared} | {key: hits.mean() for key, hits in scores.items()}
            )
    table = pd.DataFrame(lines).groupby("split")
    print(f"{name}: accuracy of {len(SEEDS)} splits each; shared: test rows whose group is in training, too")
    print(table.mean().join(table.std().add_suffix(" ±")).round(3).to_string())
    for key in ("TF-IDF", "embeddings"):
        one, other = (table.get_group(kind)[key] for kind in ("random", "grouped"))
        error = np.sqrt((one.var() + other.var()) / len(SEEDS))
        print(
            f"{key}: a random split flatters by {one.mean() - other.mean():+.3f} (standard error {error:.3f})"
        )


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["products"]))
