"""What a loss does to a rare label, and to probabilities: `python benchmarks/losses.py --seeds 2`.

Four epochs at 1e-4, words frozen and no dropout as in 04, on tweets of which a tenth is negative. The rows
are the same each time: 600 to train on, 300 to choose by and for the temperature, 1,000 to test.
`recall_rare` is that of the negative ones.
"""

import argparse
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from datasets import Dataset
from transformers.utils.logging import set_verbosity_error

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.data import read_table, split_table
from utils.metrics import calibration_error, compute_metrics, fit_temperature, score
from utils.models import find_model, weighted_loss
from utils.predict import predict_in_order

ROWS, RARE = {"train": 600, "validation": 300, "test": 1000}, 0.1  # the share of negative ones


def focal(outputs, labels, num_items_in_batch=None):
    """Lin et al. 2017, Focal Loss for Dense Object Detection, with gamma = 2."""
    losses = torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="none")
    return ((1 - torch.exp(-losses)) ** 2 * losses).mean()


def tables() -> dict[str, pd.DataFrame]:
    """Return the three tables; no text is in two of them."""
    rows = pd.concat(split_table(read_table("tweets"))[:3])
    rows, parts = rows.sample(frac=1, random_state=0), {}
    rare, common = (rows[rows["label"] == name] for name in ("negative", "positive"))
    for name, size in ROWS.items():
        few = round(size * RARE)
        parts[name] = pd.concat([rare[:few], common[: size - few]])
        rare, common = rare[few:], common[size - few :]
    return parts


def measure(data: dict, tokenizer, seed: int, loss=None, **arguments) -> dict[str, float]:
    transformers.set_seed(seed)
    checkpoint = find_model("minilm-l6")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
    model.accepts_loss_kwargs = False
    model.get_input_embeddings().requires_grad_(False)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    arguments |= {"num_train_epochs": 4, "per_device_train_batch_size": 16}
    arguments |= {"learning_rate": 1e-4, "warmup_steps": 0.1, "weight_decay": 0.01, "seed": seed}
    arguments |= {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    arguments |= {"metric_for_best_model": "f1_macro", "report_to": "none", "disable_tqdm": True}
    arguments |= {"dataloader_pin_memory": torch.cuda.is_available()}
    collator = transformers.DataCollatorWithPadding(tokenizer)
    rows = {"train_dataset": data["train"], "eval_dataset": data["validation"], "data_collator": collator}
    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(folder, **arguments)
        rows |= {"compute_metrics": compute_metrics, "compute_loss_func": loss}
        trainer = transformers.Trainer(model, args, **rows)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        logits, test = (predict_in_order(trainer, data[name])[0] for name in ("validation", "test"))
    labels, predicted = np.array(data["test"]["label"]), test.argmax(axis=1)
    temperature = fit_temperature(logits, data["validation"]["label"])
    recall = {"recall_rare": (predicted[labels == 0] == 0).mean()}
    return score(labels, predicted) | recall | calibration_error(labels, test, temperature)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    set_verbosity_error()
    tokenizer, data = transformers.AutoTokenizer.from_pretrained(find_model("minilm-l6")), {}
    for name, rows in tables().items():
        encoded = dict(tokenizer(rows["text"].tolist(), truncation=True, max_length=128))
        data[name] = Dataset.from_dict(
            encoded | {"label": (rows["label"] == "positive").astype(int).tolist()}
        )
    ways = {"plain": {}, "smoothing 0.1": {"label_smoothing_factor": 0.1}, "focal": {"loss": focal}}
    ways["class_weights"] = {"loss": weighted_loss(np.array(data["train"]["label"]), "single_label")}
    found = []
    for seed, (way, how) in product(range(1, 1 + seeds), ways.items()):
        found.append({"loss": way} | measure(data, tokenizer, seed, **how))
        print(f"seed {seed}, {way}: macro-F1 {found[-1]['f1_macro']:.3f}", flush=True)
    runs = pd.DataFrame(found).groupby("loss", sort=False)
    print(runs.mean().round(3).to_string(), "standard deviations:", runs.std().round(3).to_string(), sep="\n")
