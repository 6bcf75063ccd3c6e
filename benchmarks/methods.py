"""The rungs of the ladder, and `python methods.py METHOD DATA SEED CHECKPOINT OUT`, which climbs one of them.

A method takes the rows (frames with text and label, by split), a seed, an empty folder and the folder of the
bundled model. It returns its scores on validation and test rows. Peers run in environments without `utils`.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

SPLITS = ("train", "validation", "test")


def majority(data, seed, folder, checkpoint):
    """The commonest label of the training rows, whatever the text."""
    commonest = data["train"]["label"].mode()[0]
    return scored(data, lambda texts: [commonest] * len(texts))


def tfidf(data, seed, folder, checkpoint):
    """Logistic regression on TF-IDF weights, as 04 and the template have it beside the model."""
    from utils.baselines import without_model

    known = data["train"]["text"], data["train"]["label"]
    return scored(data, lambda texts: without_model(*known, texts)["tfidf_logreg"].predicted)


def embeddings(data, seed, folder, checkpoint):
    """A linear model on the bundled model's embeddings, as 04 and the template have it beside the model."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from utils.baselines import on_embeddings

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    known, rest = (data["train"]["text"], data["train"]["label"]), ("single_label", 128)
    return scored(
        data,
        lambda texts: on_embeddings(model, tokenizer, *known, texts, *rest)["embeddings_logreg"].predicted,
    )


def textbook(data, seed, folder, checkpoint):
    """What everyone copies: pad to 128, batches of 16, three epochs at 5e-5, the best of three kept."""
    return fine_tune(data, seed, folder, checkpoint, padding="max_length")


def dynamic(data, seed, folder, checkpoint):
    """The same, but each batch is padded to its own longest text (DataCollatorWithPadding)."""
    return fine_tune(data, seed, folder, checkpoint, padding=False)


def grouped(data, seed, folder, checkpoint):
    """The same again, with texts of like length in a batch."""
    arguments = {"train_sampling_strategy": "group_by_length"}
    return fine_tune(data, seed, folder, checkpoint, padding=False, **arguments)


def fine_tune(data, seed, folder, checkpoint, padding, **arguments):
    from datasets import Dataset
    from meter import Meter
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    names = sorted(data["train"]["label"].unique())
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(names))

    def tokenise(batch):
        return tokenizer(batch["text"], padding=padding, truncation=True, max_length=128)

    def prepared(frame):
        rows = {"text": frame["text"].tolist(), "label": frame["label"].map(names.index).tolist()}
        return Dataset.from_dict(rows).map(tokenise, batched=True)

    rows = {name: prepared(frame) for name, frame in data.items()}
    args = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=3,
        learning_rate=5e-5,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        seed=seed,
        report_to="none",
        disable_tqdm=True,
        **arguments,
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda output: scores(output.label_ids, output.predictions.argmax(axis=1)),
        callbacks=[Meter(folder / "meter.json")],
    )
    trainer.train()
    found = {name: trainer.evaluate(rows[name]) for name in ("validation", "test")}
    return {name: {key: of[f"eval_{key}"] for key in ("accuracy", "f1_macro")} for name, of in found.items()}


def template(data, seed, folder, checkpoint):
    """notebooks/template.ipynb through papermill, as shipped: only the files and the seed are given.

    One cell is added before the training: it hands the Trainer a callback that looks at the clock.
    """
    import nbformat
    import papermill

    here = Path(__file__).resolve().parent
    notebook = nbformat.read(here.parent / "notebooks" / "template.ipynb", as_version=4)
    watching = f"import sys\nsys.path.append({str(here)!r})\nfrom meter import Meter\n"
    watching += f"trainer.add_callback(Meter({str(folder / 'meter.json')!r}))"
    place = [cell.id for cell in notebook.cells].index("training")
    notebook.cells.insert(place, nbformat.v4.new_code_cell(watching))
    nbformat.write(notebook, folder / "template.ipynb")
    parameters = {"seed": seed, "output_dir": str(folder / "run")}
    for name, key in zip(SPLITS, ("data_file", "validation_file", "test_file"), strict=True):
        data[name].to_parquet(folder / f"{name}.parquet")
        parameters[key] = str(folder / f"{name}.parquet")
    papermill.execute_notebook(
        folder / "template.ipynb", folder / "ran.ipynb", parameters, progress_bar=False, cwd=str(here.parent)
    )
    record = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    for name, frame in data.items():  # all methods have the same rows
        if record["data"][f"{name}_rows"] != len(frame):
            raise ValueError(
                f"The template read {record['data'][f'{name}_rows']} {name} rows of {len(frame)}."
            )
    return {
        name: {key: record[name][key] for key in ("accuracy", "f1_macro")} for name in ("validation", "test")
    }


def setfit(data, seed, folder, checkpoint):
    """SetFit, as its quick start has it, but on two pairs a text: all pairs of 3,000 texts are millions."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(checkpoint, local_files_only=True)
    steps = max(1, len(data["train"]) * 2 // 16)
    args = TrainingArguments(
        output_dir=str(folder),
        batch_size=16,
        max_steps=steps,
        seed=seed,
        report_to="none",
        save_strategy="no",
    )
    rows = Dataset.from_pandas(data["train"][["text", "label"]], preserve_index=False)
    trainer = Trainer(model=model, args=args, train_dataset=rows)
    trainer.train()
    return scored(data, lambda texts: list(model.predict(texts)))


def simpletransformers(data, seed, folder, checkpoint):
    """simpletransformers with its defaults: one epoch, batches of 8, 4e-5."""
    from simpletransformers.classification import ClassificationModel

    names = sorted(data["train"]["label"].unique())
    args = {"manual_seed": seed, "output_dir": str(folder / "out"), "cache_dir": str(folder / "cache")}
    args |= {
        "use_multiprocessing": False,
        "use_multiprocessing_for_evaluation": False,
    }  # threads as the others
    args |= {"silent": True, "fp16": False, "no_cache": True, "save_model_every_epoch": False}
    model = ClassificationModel("bert", checkpoint, num_labels=len(names), args=args, use_cuda=False)
    frame = pd.DataFrame({"text": data["train"]["text"], "labels": data["train"]["label"].map(names.index)})
    model.train_model(frame)
    return scored(data, lambda texts: [names[place] for place in model.predict(texts)[0]])


def scored(data, predict):
    """Return the scores of what `predict` answers to the validation and test texts, all given at once."""
    held_out = [data["validation"], data["test"]]
    answers = np.asarray(predict(pd.concat(held_out)["text"].tolist()))
    parts = np.split(answers, [len(held_out[0])])
    return {
        name: scores(frame["label"].to_numpy(), part)
        for name, frame, part in zip(("validation", "test"), held_out, parts, strict=True)
    }


def scores(labels, predicted):
    from sklearn.metrics import accuracy_score, f1_score

    f1_macro = f1_score(labels, predicted, average="macro", zero_division=0)
    return {"accuracy": float(accuracy_score(labels, predicted)), "f1_macro": float(f1_macro)}


def main(method, data_folder, seed, checkpoint, out):
    """Run a method; write its scores, its evaluations and its peak memory as JSON.

    Without a `Meter` the one evaluation is that at the end. To the kernel's, papermill's seconds are added.
    """
    from records import peak_mib

    data = {name: pd.read_parquet(Path(data_folder, f"{name}.parquet")) for name in SPLITS}
    with tempfile.TemporaryDirectory() as folder:
        found = globals()[method](data, int(seed), Path(folder), checkpoint)
        meter = Path(folder, "meter.json")
        found["evaluations"] = [[time.process_time(), found["validation"]["accuracy"]]]
        found |= json.loads(meter.read_text()) if meter.exists() else {}
        if method == "template":
            found["evaluations"] = [[time.process_time() + cpu, score] for cpu, score in found["evaluations"]]
    rows = {f"{name}_rows": len(frame) for name, frame in data.items()}
    Path(out).write_text(json.dumps(rows | found | {"peak_mib": peak_mib()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
