"""What was tried for the template's training: `python benchmarks/recipes.py --sets products --seeds 3`.

Most are one change of an epoch at 1e-4, which tells them apart for a third of the template's price. The model
after the last epoch is scored; the template keeps its best. Each has a process of one thread; CPU
seconds are those of the training. The loss, the mean negative log probability of the labels, tells recipes
apart before accuracy does. A line of runs/bench/recipes.jsonl is not measured again; delete it after a change
of this file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import product

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: two trainings may run side by side

import numpy as np
import pandas as pd
import report
from records import BUNDLED, FOLDER, ROOT, SMALL, append, is_done, read
from run import names_of, prepare

sys.path.insert(0, str(ROOT))
RECIPES = {  # arguments of TrainingArguments, and of `change`
    "one epoch at 1e-4": ({}, {}),
    "two epochs at 1e-4": ({"num_train_epochs": 2}, {}),
    "two epochs at 7e-5 (the template)": ({"num_train_epochs": 2, "learning_rate": 7e-5}, {}),
    "two epochs at 1e-4 with dropout": ({"num_train_epochs": 2}, {"dropout": True}),
    "three epochs at 5e-5": ({"num_train_epochs": 3, "learning_rate": 5e-5}, {}),
    "three epochs at 1e-4": ({"num_train_epochs": 3}, {}),
    "three epochs and batches of 32": ({"num_train_epochs": 3, "per_device_train_batch_size": 32}, {}),
    "60 steps at 1e-4": ({"max_steps": 60}, {}),
    "two epochs at 1e-4 in batches of 64": ({"num_train_epochs": 2, "per_device_train_batch_size": 64}, {}),
    "three epochs at 1e-4 in batches of 64": ({"num_train_epochs": 3, "per_device_train_batch_size": 64}, {}),
    "150 steps at 1e-4": ({"max_steps": 150}, {}),
    "150 steps at 5e-5": ({"max_steps": 150, "learning_rate": 5e-5}, {}),
    "300 steps at 5e-5": ({"max_steps": 300, "learning_rate": 5e-5}, {}),
    "as the textbook trains": (
        {"num_train_epochs": 3, "learning_rate": 5e-5, "warmup_steps": 0, "weight_decay": 0.0},
        {"dropout": True, "words": True},
    ),
    "float32": ({"bf16": False}, {"fused": True}),
    "fused attention": ({}, {"fused": True}),
    "2e-4": ({"learning_rate": 2e-4}, {}),
    "batches of 8": ({"per_device_train_batch_size": 8}, {}),
    "adam_beta2 of 0.98": ({"adam_beta2": 0.98}, {}),
    "no weight decay": ({"weight_decay": 0.0}, {}),
    "torch_compile": ({"torch_compile": True}, {}),
    "with dropout": ({}, {"dropout": True}),
    "words trained": ({}, {"words": True}),
    "two lower layers frozen": ({}, {"frozen": 2}),
    "pooler begins as identity": ({}, {"identity": True}),
    "head and pooler at 1e-3": ({}, {"fast": 1e-3}),
    "head begins as logistic regression": ({}, {"probe": True}),
    "60 steps at 1e-4 with a head that begins so": ({"max_steps": 60}, {"probe": True}),
}


def change(model, rate=0.0, dropout=False, words=False, frozen=0, identity=False, fused=False, fast=0.0):
    """Change the model as the template does, but for what is asked for; return an optimizer, or None."""
    import torch

    from utils.models import has_bf16

    model.get_input_embeddings().requires_grad_(words)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout) and not dropout:
            part.p = 0.0
    if frozen:  # what is below them, too, or gradients pass through
        model.base_model.embeddings.requires_grad_(False)
        model.base_model.encoder.layer[:frozen].requires_grad_(False)
    if has_bf16() and not fused:
        model.set_attn_implementation("eager")
    if identity:  # the head sees the embedding of [CLS] itself; this pooler is a leftover of pretraining
        torch.nn.init.eye_(model.base_model.pooler.dense.weight)
        torch.nn.init.zeros_(model.base_model.pooler.dense.bias)
    if not fast:
        return None
    new, old = [], []
    for name, weight in model.named_parameters():
        (new if "pooler" in name or "classifier" in name else old).append(weight)
    groups = [{"params": old, "lr": rate}, {"params": new, "lr": fast}]
    return torch.optim.AdamW(groups, weight_decay=0.01, fused=True)


def begin_head(trainer, rows) -> None:
    """Start the head as logistic regression on what it will see of these rows (LP-FT, Kumar et al. 2022)."""
    import torch
    from sklearn.linear_model import LogisticRegression

    model, seen, labels = trainer.model.eval(), [], []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=trainer.args.bf16):
        for batch in trainer.get_test_dataloader(rows):
            labels.append(batch.pop("labels"))
            seen.append(model.base_model(**batch).pooler_output.float())
        fitted = LogisticRegression(max_iter=1000).fit(torch.cat(seen).numpy(), torch.cat(labels).numpy())
        weight, bias = torch.tensor(fitted.coef_), torch.tensor(fitted.intercept_)
        if len(weight) == 1:  # of two labels scikit-learn fits their difference
            weight, bias = (torch.cat([-part, part]) / 2 for part in (weight, bias))
        model.classifier.weight.copy_(weight)
        model.classifier.bias.copy_(bias)


def measure(name: str, seed: int, recipe: str) -> None:
    """Train on one set, which `run.prepare` has written; append what it cost and scored to recipes.jsonl."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from utils.models import find_model, has_bf16
    from utils.predict import predict_in_order

    parts, folder, (arguments, changes) = {}, FOLDER / "data" / name, RECIPES[recipe]
    tokenizer = AutoTokenizer.from_pretrained(find_model("minilm-l6"))
    for part in ("train", "validation", "test"):
        rows = pd.read_parquet(folder / f"{part}.parquet")
        names = sorted(rows["label"].unique())
        encoded = dict(tokenizer(rows["text"].tolist(), truncation=True, max_length=128))
        parts[part] = Dataset.from_dict(encoded | {"label": [*map(names.index, rows["label"])]})
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(find_model("minilm-l6"), num_labels=len(names))
    how = {
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 16,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
    }
    how |= {"num_train_epochs": 1, "bf16": has_bf16(), "seed": seed}
    how |= {"train_sampling_strategy": "group_by_length", "per_device_eval_batch_size": 16, "use_cpu": True}
    how |= {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
    how |= arguments
    probe = changes.pop("probe", False)
    optimizer = change(model, how["learning_rate"], **changes)
    with tempfile.TemporaryDirectory() as scratch:
        args = TrainingArguments(scratch, dataloader_pin_memory=False, **how)
        collator = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(model, args, collator, parts["train"], optimizers=(optimizer, None))
        trainer.remove_callback(PrinterCallback)
        started = time.process_time()
        if probe:
            begin_head(trainer, parts["train"])
        trainer.train()
        found = {"set": name, "seed": seed, "recipe": recipe, "cpu_seconds": time.process_time() - started}
        for part in ("validation", "test"):
            logits, labels = predict_in_order(trainer, parts[part])[0], np.array(parts[part]["label"])
            losses = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
            found |= {part: float((logits.argmax(axis=1) == labels).mean()), f"{part}_loss": float(losses)}
    append(FOLDER / "recipes.jsonl", found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="products", help="with commas between them (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="with commas between them; default: all")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure[0], int(given.measure[1]), given.measure[2])
        sys.exit()
    sets, chosen, failed = names_of(given.sets, BUNDLED + SMALL, "set"), given.recipes.split(","), 0
    if unknown := {*chosen} - {*RECIPES}:
        sys.exit(f"There is no recipe {', '.join(unknown)}. There are: {', '.join(RECIPES)}.")
    for name in sets:
        prepare(name, FOLDER, quick=False)
    for seed, name, recipe in product(range(1, 1 + given.seeds), sets, chosen):
        wanted = {"set": name, "seed": seed, "recipe": recipe}
        if not is_done(read(FOLDER / "recipes.jsonl"), wanted, wanted):
            command = [sys.executable, __file__, "--measure", name, str(seed), recipe]
            ended = subprocess.run(command, capture_output=True, text=True)
            print(*wanted.values(), ended.stderr[-500:] if ended.returncode else "", flush=True)
            failed += ended.returncode != 0
    if lines := report.newest(FOLDER, "recipes"):
        print(*report.recipes(lines), sep="\n")
    sys.exit(failed > 0)
