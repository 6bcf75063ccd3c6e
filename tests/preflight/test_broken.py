"""Set-ups with a real trouble: for every id at least one that preflight, Watch or check_saved finds.

Each `@broken(...)` function builds one Trainer. With mended=False it has the trouble; with mended=True the
fix of the finding has been applied. `raises` is what the library says by itself when a Trainer with a loud
trouble trains. That the silent ones hurt is proved one by one further down.
"""

import copy
import datetime
import decimal
import functools
import inspect
import json
import math
import random
import re
import shutil
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BartForSequenceClassification,
    BertForSequenceClassification,
    BertModel,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaForSequenceClassification,
    T5ForSequenceClassification,
    Trainer,
    TrainingArguments,
    XLNetForSequenceClassification,
    default_data_collator,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from utils.findings import PreflightError, Report
from utils.metrics import compute_metrics
from utils.models import find_model
from utils.preflight import Watch, WatchError, check_saved, preflight
from utils.preflight.catalogue import CATALOGUE

WORDS = [f"w{i}" for i in range(196)]
LABELS = ["negative", "positive"]


def named(labels=LABELS):
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


# --- a healthy set-up, tiny ---------------------------------------------------------------------------------


def tokenizer_of(words=WORDS, pad="[PAD]", **changes):
    """A word-level tokenizer: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, then the words."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    known = {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "model_max_length": 64,
    } | changes
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=pad, **known)


TOKENIZER = tokenizer_of()


def small(kind, **settings):
    """A model of a class with the same random weights each time; `settings` are those of its config."""
    torch.manual_seed(0)
    return kind(kind.config_class(**{"vocab_size": 200} | named() | settings))


ONE_LAYER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def bert(labels=LABELS, **changes):
    """A BERT of one layer; `labels` are the names of the classes, or a number of outputs without names."""
    names = (
        {"num_labels": labels, "id2label": None, "label2id": None}
        if isinstance(labels, int)
        else named(labels)
    )
    return small(
        BertForSequenceClassification, **ONE_LAYER, **{"max_position_embeddings": 64} | names | changes
    )


def texts_of(rows, seed, length=8):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=length)) for _ in range(rows)]


def table(rows=24, seed=0, **changes):
    """Texts, their labels (by turns 0 and 1, as ClassLabel, unless others are given) and their tokens."""
    return made_table(rows, seed, **changes) if changes else plain_table(rows, seed)


def made_table(
    rows, seed, labels=None, texts=None, tokenizer=TOKENIZER, names=LABELS, column="label", **tokenising
):
    texts = texts_of(rows, seed) if texts is None else texts
    named = labels is None
    data = {"text": texts, column: [i % len(names) for i in range(len(texts))] if named else labels}
    data |= dict(tokenizer(texts, **{"truncation": True} | tokenising))
    features = Dataset.from_dict(data).features | ({column: ClassLabel(names=names)} if named else {})
    return Dataset.from_dict(data, features=Features(features))


plain_table = functools.cache(made_table)


ARGUMENTS = {field.name for field in fields(TrainingArguments)}
HEALTHY = {
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "per_device_train_batch_size": 4,
    "num_train_epochs": 2,
    "learning_rate": 5e-5,
    "warmup_steps": 0.1,
    "logging_strategy": "epoch",
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "f1_macro",
    "greater_is_better": True,
}


SHORT = {"train": "train_dataset", "held_out": "eval_dataset", "tokenizer": "processing_class"}


def trainer_for(folder, kind=Trainer, **changes):
    """A Trainer with nothing wrong, but for what `changes` says.

    They are arguments of TrainingArguments and of Trainer; `train`, `held_out` and `tokenizer` are short for
    train_dataset, eval_dataset and processing_class.
    """
    settings = HEALTHY | {name: value for name, value in changes.items() if name in ARGUMENTS}
    parts = {"train": table(24, 0), "held_out": table(12, 1), "tokenizer": TOKENIZER}
    parts |= {"compute_metrics": compute_metrics}
    parts |= {name: value for name, value in changes.items() if name not in ARGUMENTS}
    if "model" not in parts and "model_init" not in parts:
        parts["model"] = bert()
    parts = {SHORT.get(name, name): value for name, value in parts.items()}
    return kind(args=TrainingArguments(**{"output_dir": str(folder / "run")} | settings), **parts)


def findings_of(trainer, id, **kwargs):
    return [finding for finding in preflight(trainer, **kwargs).findings if finding.id == id]


NEVER_EVALUATES = {
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "greater_is_better": None,
}

# --- the set-ups --------------------------------------------------------------------------------------------

CASES = []
TENSOR = (
    "excessive nesting|Unable to create tensor|expected sequence"  # what the library says, in its versions
)
SAME_SIZE = "must be the same as input size|same size as input"
TOO_LONG = "expanded size of the tensor|must match|index out of range|out of bounds"
NO_LOSS = "did not return a loss from the inputs"
ENDS = "same number of <eos> tokens"
NO_ITEMS = "unexpected keyword argument 'num_items_in_batch'"


def broken(id, says="", level=None, raises=None):
    """Enter a set-up. `says` and `level` (the catalogue's, unless given) are what preflight has to find.

    raises: what the library says when it is trained. A function without `mended` has no remedy to try.
    """

    def enter(build):
        fixes = "mended" in inspect.signature(build).parameters
        about = {"id": id, "says": says, "level": level or CATALOGUE[id].level, "raises": raises}
        CASES.append(SimpleNamespace(**about, fixes=fixes, build=build))
        return build

    return enter


def built(case, folder, mended):
    made = case.build(folder, mended) if case.fixes else case.build(folder)
    return made if isinstance(made, tuple) else (made, None)


def by_steps(steps, **changes):
    """Evaluate and save every few steps."""
    steps = {"eval_steps": steps, "save_steps": steps}
    return {"eval_strategy": "steps", "save_strategy": "steps"} | steps | changes


# containers


@broken("wrong-container", "train_dataset is a DataFrame", raises="KeyError")
def a_frame(folder, mended):
    frame = table().to_pandas()
    return trainer_for(folder, train=Dataset.from_pandas(frame, preserve_index=False) if mended else frame)


@broken("wrong-container", "train_dataset is a DatasetDict", raises="Invalid key: 0|KeyError")
def a_dataset_dict(folder, mended):
    data = DatasetDict(train=table(), validation=table(12, 1))
    return trainer_for(folder, train=data["train"] if mended else data, held_out=data["validation"])


@broken("wrong-container", "train_dataset is a DatasetDict")
def an_empty_dataset_dict(folder):
    return trainer_for(folder, train=DatasetDict())


@broken("wrong-container", "train_dataset is a Series")
def a_series(folder):
    return trainer_for(folder, train=pd.Series(texts_of(24, 0)))


@broken(
    "wrong-container",
    "train_dataset is a BatchEncoding",
    raises="KeyError|Invalid key|indices|no attribute 'keys'",
)
def a_batch_encoding(folder):
    return trainer_for(folder, train=TOKENIZER(texts_of(24, 0)))


@broken("wrong-container", "eval_dataset is a BatchEncoding")
def a_batch_encoding_to_evaluate(folder):
    return trainer_for(folder, held_out=TOKENIZER(texts_of(24, 0)))


@broken("wrong-container", "train_dataset is a dict", raises="KeyError")
def a_dict_of_lists(folder):
    return trainer_for(folder, train=table().to_dict())


@broken("wrong-container", "train_dataset is a list")
def a_list_of_texts(folder):
    return trainer_for(folder, train=texts_of(24, 0))


@broken("wrong-container", "train_dataset is a zip")
def a_zip(folder):
    return trainer_for(folder, train=zip(texts_of(24, 0), [0, 1] * 12, strict=True), max_steps=4)


@broken("wrong-container", "eval_dataset is a DataFrame", raises="KeyError")
def a_frame_to_evaluate(folder, mended):
    frame = table(12, 1).to_pandas()
    return trainer_for(folder, held_out=Dataset.from_pandas(frame) if mended else frame)


@broken("wrong-container", "test_dataset is a DatasetDict")
def a_dataset_dict_to_test(folder):
    return trainer_for(folder), DatasetDict(test=table(12, 2))


# which column holds the labels


@broken("two-label-columns", "takes 'label' and loses 'labels'")
def label_and_labels(folder, mended):
    data = table().add_column("labels", [1, 0] * 12)
    return trainer_for(folder, train=data.remove_columns("labels") if mended else data)


@broken("two-label-columns", "takes 'label' and loses 'labels'")
def label_and_labels_that_agree(folder, mended):
    data = table().add_column("labels", [0, 1] * 12)
    return trainer_for(folder, train=data.remove_columns("labels") if mended else data)


@broken("two-label-columns", "The evaluation data have the columns")
def label_and_labels_in_the_evaluation(folder, mended):
    data = table(12, 1).add_column("labels", [1, 0] * 6)
    return trainer_for(folder, held_out=data.remove_columns("labels") if mended else data)


@broken("two-label-columns", "takes 'labels' and loses 'label'")
def label_and_labels_by_the_default_collator(folder, mended):
    padded = {"padding": "max_length", "max_length": 12}
    data = table(**padded).add_column("labels", [1, 0] * 12)
    data = {"train": data.remove_columns("labels") if mended else data, "held_out": table(12, 1, **padded)}
    return trainer_for(folder, data_collator=default_data_collator, **data)


@broken("eval-labels-missing", "The evaluation data have no labels: none of its columns ('text', 'target', ")
def labels_of_another_name_in_the_evaluation(folder, mended):
    data = table(12, 1, column="target")
    return trainer_for(folder, held_out=data.rename_column("target", "label") if mended else data)


@broken("eval-labels-missing", "hides the column 'label'")
def labels_hidden_in_the_evaluation(folder, mended):
    data = table(12, 1).with_format("torch", columns=["input_ids", "attention_mask"] + ["label"] * mended)
    return trainer_for(folder, held_out=data)


@broken("eval-labels-missing", "The eval['two'] data have no labels: none of its columns ('text', 'target', ")
def labels_of_another_name_in_one_of_two_evaluations(folder, mended):
    parts = {"one": table(12, 1), "two": table(12, 2, column="label" if mended else "target")}
    return trainer_for(folder, held_out=parts, metric_for_best_model="one_f1_macro")


@broken("no-loss", "is called label, labels or label_ids", raises=NO_LOSS)
def labels_called_target(folder, mended):
    data = [table(24, 0, column="target"), table(12, 1, column="target")]
    data = [part.rename_column("target", "label") for part in data] if mended else data
    return trainer_for(folder, train=data[0], held_out=data[1])


@broken("no-loss", "set_format hides the column 'label'", raises=NO_LOSS)
def labels_hidden(folder, mended):
    columns = ["input_ids", "attention_mask"] + ["label"] * mended
    return trainer_for(
        folder,
        train=table().with_format("torch", columns=columns),
        held_out=table(12, 1).with_format("torch", columns=columns),
    )


@broken(
    "no-loss",
    "BertModel computes no loss",
    raises="did not return a loss|unexpected keyword argument 'labels'",
)
def a_model_without_a_head(folder, mended):
    return trainer_for(folder, model=bert() if mended else BertModel(bert().config))


@broken("no-loss", "is called label, labels or label_ids", raises=NO_LOSS)
def no_labels_in_a_list_of_rows(folder, mended):
    rows = [{name: value for name, value in row.items() if name != "label" or mended} for row in table()]
    return trainer_for(folder, train=rows, held_out=table(12, 1))


@broken("no-loss", "is called label, labels or label_ids", raises=NO_LOSS)
def no_labels_in_a_stream(folder, mended):
    stream = table().remove_columns([] if mended else "label").to_iterable_dataset()
    return trainer_for(folder, train=stream, **by_steps(2, max_steps=4, num_train_epochs=3))


PAD = DataCollatorWithPadding(TOKENIZER)


def without_text(row):
    return {name: value for name, value in row.items() if name != "text"}


# tokens or not


@broken("not-tokenised", "no column 'input_ids'", raises="should supply an encoding")
def texts_only(folder, mended):
    data = table()
    return trainer_for(folder, train=data if mended else data.select_columns(["text", "label"]))


@broken("not-tokenised", "The evaluation data have no column 'input_ids'", raises="should supply an encoding")
def texts_only_in_the_evaluation(folder, mended):
    data = table(12, 1)
    return trainer_for(folder, held_out=data if mended else data.select_columns(["text", "label"]))


@broken("not-tokenised", "list of lists", raises="excessive nesting|expanded size|too many values|shape")
def tensors_of_one_row(folder, mended):
    tokenise = lambda row: dict(TOKENIZER(row["text"], return_tensors=None if mended else "pt"))  # noqa: E731
    return trainer_for(folder, train=table().select_columns(["text", "label"]).map(tokenise))


@broken("not-tokenised", "collator in use does not pad", raises=TENSOR)
def no_padding(folder, mended):
    data = table(texts=[" ".join(WORDS[i : i + 3 + i % 7]) for i in range(24)])
    return trainer_for(folder, train=data, tokenizer=TOKENIZER if mended else None)


@broken("not-tokenised", "hands the text column 'text' of the training data to the collator", raises=TENSOR)
def texts_kept(folder, mended):
    return trainer_for(folder, remove_unused_columns=mended)


@broken("not-tokenised", "no column 'input_ids'", raises="should supply an encoding")
def texts_from_a_transform(folder, mended):
    data = table().select_columns(["text", "label"])
    tokenise = lambda batch: {**TOKENIZER(batch["text"]), "label": batch["label"]}  # noqa: E731
    data = data.with_transform(tokenise if mended else lambda batch: batch)
    return trainer_for(
        folder, train=data, held_out=table(12, 1).remove_columns("text"), remove_unused_columns=False
    )


@broken("not-tokenised", "no column 'input_ids'", raises="should supply an encoding")
def texts_in_a_subset(folder, mended):
    data = table() if mended else table().select_columns(["text", "label"])
    return trainer_for(folder, train=torch.utils.data.random_split(data, [20, 4])[0])


# labels


@broken("label-type", "are texts ('negative', 'positive')", raises=TENSOR)
def labels_as_texts(folder, mended):
    data = table(labels=LABELS * 12)
    return trainer_for(folder, train=data.class_encode_column("label") if mended else data)


@broken("label-type", "are texts ('0', '1')", raises=TENSOR)
def labels_as_digits(folder, mended):
    data = table(labels=["0", "1"] * 12)
    return trainer_for(folder, train=data.cast_column("label", Value("int64")) if mended else data)


@broken("label-type", "A label is missing in row 17 of the training data", raises=TENSOR)
def a_label_missing(folder, mended):
    data = table(labels=[None if i == 17 else i % 2 for i in range(24)])
    return trainer_for(folder, train=data.filter(lambda row: row["label"] is not None) if mended else data)


@broken("label-type", "A label is missing in row 59999 of the training data")
def a_label_missing_in_the_last_of_many_rows(folder, mended):
    return trainer_for(folder, train=many_rows(None if not mended else 1))


@broken("label-type", "of the test data")
def labels_as_texts_in_the_test(folder):
    return trainer_for(folder), table(12, 2, labels=LABELS * 6)


@broken("label-type", "Each label in the column 'label' of the training data is a list of texts")
def labels_as_lists_of_texts(folder, mended):
    labels = [[0.0, 1.0], [1.0, 0.0]] * 12 if mended else [["positive"], ["negative"]] * 12
    return trainer_for(folder, train=table(labels=labels), **NEVER_EVALUATES)


@broken(
    "label-type",
    "several kinds",
    raises="excessive nesting|Unable to create tensor|new\\(\\): invalid data type|too many dimensions",
)
def labels_of_several_kinds(folder, mended):
    rows = [without_text(row) | {"label": i % 2 if mended or i % 2 else "0"} for i, row in enumerate(table())]
    return trainer_for(folder, train=rows)


@broken("label-type", "datetime")
def labels_as_dates(folder):
    return trainer_for(folder, train=table(labels=[datetime.datetime(2020, 1, 1 + i % 2) for i in range(24)]))


@broken("label-type", "Decimal")
def labels_as_decimals(folder):
    return trainer_for(folder, train=table(labels=[decimal.Decimal(i % 2) for i in range(24)]))


@broken("label-type", "row 5 of the training data")
def a_rating_that_is_nan(folder):
    ratings = [math.nan if i == 5 else i / 24 for i in range(24)]
    return trainer_for(
        folder, model=bert(1), train=table(labels=ratings), **NEVER_EVALUATES, compute_metrics=None
    )


@broken("num-labels-one", "num_labels=1 makes the model a regression")
def one_output_for_two_classes(folder, mended):
    return trainer_for(folder, model=bert(LABELS if mended else 1))


@broken("num-labels-one", "only (0, 1)")
def one_output_for_zeros_and_ones(folder, mended):
    return trainer_for(
        folder,
        model=bert(1, problem_type="regression" if mended else None),
        train=table(labels=[0.0, 1.0] * 12),
        **NEVER_EVALUATES,
    )


@broken("num-labels-one", "whole numbers (1, 2, 3, 4, 5)")
def one_output_for_stars(folder, mended):
    stars = [1.0 + i % 5 if mended else 1 + i % 5 for i in range(24)]
    return trainer_for(folder, model=bert(1), train=table(labels=stars), **NEVER_EVALUATES)


@broken("num-labels-one", "num_labels=1 makes the model a regression")
def one_output_for_booleans(folder):
    return trainer_for(folder, model=bert(1), train=table(labels=[True, False] * 12), **NEVER_EVALUATES)


STARS = [1 + i % 5 for i in range(24)]


@broken(
    "label-range",
    "run from 1 to 5, but the model has num_labels=5, so they must run from 0 to 4: 4 rows (4, 9, 14, 19)",
    raises="Target 5 is out of bounds",
)
def stars_from_one(folder, mended):
    data, other = table(labels=STARS), table(20, 1, labels=STARS[:20])
    if mended:
        data, other = (part.map(lambda row: {"label": row["label"] - 1}) for part in (data, other))
    return trainer_for(folder, model=bert(list("abcde")), train=data, held_out=other)


@broken("label-range", "from 0 to 2, but the model has num_labels=2", raises="Target 2 is out of bounds")
def num_labels_forgotten(folder, mended):
    names = ["bad", "fair", "good"]
    return trainer_for(
        folder, model=bert(3 if mended else 2), train=table(names=names), held_out=table(12, 1, names=names)
    )


@broken("label-range", "run from -1 to 1", raises="Target -1 is out of bounds")
def labels_of_minus_one(folder, mended):
    data = table(labels=[-1, 1] * 12)
    return trainer_for(
        folder, train=data.map(lambda row: {"label": (row["label"] + 1) // 2}) if mended else data
    )


@broken("label-range", "row 59999")
def one_wrong_label_in_the_last_of_many_rows(folder, mended):
    return trainer_for(folder, train=many_rows(1 if mended else 2))


@broken("label-range", "Labels of the test data run from -1 to 1")
def labels_of_minus_one_in_the_test_only(folder):
    return trainer_for(folder), table(12, 2, labels=[-1, 1, 0] * 4)


@broken("label-range", "eval['two']", raises="Target 2 is out of bounds")
def a_wrong_label_in_the_second_evaluation(folder):
    parts = {"one": table(12, 1), "two": table(12, 2, labels=[0, 1, 2] * 4)}
    return trainer_for(folder, held_out=parts, metric_for_best_model="one_f1_macro")


class Rows(torch.utils.data.Dataset):
    """A data set as PyTorch's own tutorials write it."""

    def __init__(self, rows, label=lambda value: value, column="labels"):
        self.rows, self.label, self.column = [without_text(row) for row in rows], label, column

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        row = dict(self.rows[place])
        label = self.label(row.pop("label"))
        return {name: torch.tensor(value) for name, value in row.items()} | {self.column: label}


@broken("label-range", "run from 0 to 2", raises="Target 2 is out of bounds")
def a_wrong_label_in_a_torch_dataset(folder):
    return trainer_for(folder, train=Rows(table(labels=[0, 1, 2] * 8), torch.tensor))


@broken("label-range", "run from 0 to 2", raises="Target 2 is out of bounds")
def a_wrong_label_in_a_random_split(folder):
    rows = Rows(table(labels=[0, 1, 2] * 8), torch.tensor)
    return trainer_for(
        folder, train=torch.utils.data.random_split(rows, [20, 4], torch.Generator().manual_seed(0))[0]
    )


@broken("label-range", "run from 0 to 2", raises="Target 2 is out of bounds")
def a_wrong_label_in_a_list(folder):
    return trainer_for(folder, train=[without_text(row) for row in table(labels=[0, 1, 2] * 8)])


@broken("label-range", "run from 0 to 2", raises="Target 2 is out of bounds")
def a_wrong_label_in_a_stream(folder):
    stream = table(labels=[0, 1, 2] * 8).to_iterable_dataset()
    return trainer_for(folder, train=stream, **by_steps(3, max_steps=6, num_train_epochs=3))


@broken("label-range", "run from 0 to 2", raises="Target 2 is out of bounds")
def a_wrong_label_from_a_transform(folder):
    data = table(labels=[0, 1, 2] * 8).with_transform(
        lambda batch: {**TOKENIZER(batch["text"]), "labels": batch["label"]}
    )
    return trainer_for(
        folder, train=data, remove_unused_columns=False, held_out=table(12, 1).remove_columns("text")
    )


@broken("label-range", "run from 1 to 2", raises="Target 2 is out of bounds")
def small_whole_numbers(folder):
    return trainer_for(folder, train=table(labels=[1, 2] * 12).cast_column("label", Value("uint8")))


@broken("label-range", "row 7 of the training data", "warning")
def a_label_of_minus_hundred(folder, mended):
    return trainer_for(
        folder, train=table(labels=[-100 if i == 7 and not mended else i % 2 for i in range(24)])
    )


@broken("label-range", "All labels of the training data are -100")
def labels_of_minus_hundred(folder):
    return trainer_for(folder, train=table(labels=[-100] * 24))


@functools.cache
def many_rows(last, rows=60_000):
    """Rows of a few words, all different in their first tokens, with labels 0 and 1 but for the last one."""
    ids = [[2, 4 + i % 190, 4 + i // 190 % 190, 4 + i // 36_100, 3] for i in range(rows)]
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "attention_mask": [[1] * 5] * rows,
            "label": [i % 2 for i in range(rows - 1)] + [last],
        }
    )


@broken("label-float", "reach the model as float32", raises=SAME_SIZE)
def labels_as_floats(folder, mended):
    data = table(labels=[0.0, 1.0] * 12)
    return trainer_for(folder, train=data.cast_column("label", Value("int64")) if mended else data)


@broken("label-float", "reach the model as bool", raises=SAME_SIZE)
def labels_as_booleans(folder, mended):
    data = table(labels=[False, True] * 12)
    return trainer_for(folder, train=data.cast_column("label", Value("int64")) if mended else data)


@broken("label-float", "reach the model as float", raises=SAME_SIZE)
def labels_in_half_precision(folder, mended):
    labels = np.array([0, 1] * 12, dtype=np.float16)
    data = table(labels=labels)
    return trainer_for(
        folder,
        train=data.cast_column("label", Value("float32")).cast_column("label", Value("int64"))
        if mended
        else data,
    )


@broken("label-float", "reach the model as int32", raises="must be the same as input size|Int|scalar type")
def labels_as_small_tensors(folder, mended):
    as_label = lambda value: torch.tensor(value, dtype=torch.int64 if mended else torch.int32)  # noqa: E731
    data = table(padding="max_length", max_length=12)
    return trainer_for(
        folder, train=Rows(data, as_label), data_collator=default_data_collator, **NEVER_EVALUATES
    )


@broken(
    "label-float",
    "The labels of the evaluation data reach the model as float32",
    raises="Float|must be the same|scalar type",
)
def labels_as_floats_in_the_evaluation(folder, mended):
    data = table(12, 1, labels=[0.0, 1.0] * 6)
    return trainer_for(folder, held_out=data.cast_column("label", Value("int64")) if mended else data)


@broken("label-float", "reach the model as float32", raises=SAME_SIZE)
def labels_as_floats_in_a_torch_dataset(folder):
    return trainer_for(folder, train=Rows(table(), lambda value: torch.tensor(float(value))))


VECTORS = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]] * 12
TOPICS = ["sports", "politics", "music"]


@broken("multi-label-ints", "vectors of whole numbers", raises="to match target batch_size")
def vectors_of_whole_numbers(folder, mended):
    labels = VECTORS if mended else [[int(x) for x in row] for row in VECTORS]
    return trainer_for(folder, model=bert(TOPICS), train=table(labels=labels), **NEVER_EVALUATES)


@broken("multi-label-ints", "vectors of whole numbers", raises="can't be cast to the desired output type")
def vectors_of_whole_numbers_for_a_multi_label_model(folder, mended):
    labels = VECTORS if mended else [[int(x) for x in row] for row in VECTORS]
    model = bert(TOPICS, problem_type="multi_label_classification")
    return trainer_for(folder, model=model, train=table(labels=labels), **NEVER_EVALUATES)


@broken("multi-label-ints", "the model has 2 outputs", raises=SAME_SIZE)
def vectors_too_long(folder, mended):
    return trainer_for(
        folder, model=bert(TOPICS if mended else 2), train=table(labels=VECTORS), **NEVER_EVALUATES
    )


@broken("multi-label-ints", "row 23 of the training data have label vectors of 2 numbers", raises=TENSOR)
def one_vector_too_short(folder, mended):
    labels = VECTORS if mended else [*VECTORS[:-1], [1.0, 0.0]]
    return trainer_for(folder, model=bert(TOPICS), train=table(labels=labels), **NEVER_EVALUATES)


@broken("problem-type-stuck", "'multi_label_classification'", raises=SAME_SIZE)
def a_multi_label_checkpoint(folder, mended):
    return trainer_for(folder, model=bert(problem_type=None if mended else "multi_label_classification"))


@broken("problem-type-stuck", "'regression'", raises="size of tensor|dtype|Found dtype|must match|Float")
def a_regression_checkpoint(folder, mended):
    return trainer_for(folder, model=bert(problem_type=None if mended else "regression"))


@broken(
    "problem-type-stuck",
    "'single_label_classification'",
    raises="multi-target|Expected|batch_size|cast|scalar type",
)
def a_single_label_checkpoint(folder, mended):
    model = bert(TOPICS, problem_type=None if mended else "single_label_classification")
    return trainer_for(folder, model=model, train=table(labels=VECTORS), **NEVER_EVALUATES)


@broken("problem-type-stuck", "'multi_label_classification'", raises=SAME_SIZE)
def a_model_that_met_float_labels_before(folder, mended):
    model = bert()
    model(torch.tensor([[2, 4, 3]]), labels=torch.tensor([[0.0, 1.0]]))
    if mended:
        model.config.problem_type = "single_label_classification"
    return trainer_for(folder, model=model)


SORTED = [0] * 12 + [1] * 12


@broken("single-class-split", "All 12 rows of the training data are of one class, 'negative'")
def the_first_half_of_sorted_rows(folder, mended):
    data = table(labels=SORTED)
    return trainer_for(folder, train=(data.shuffle(seed=0) if mended else data).select(range(12)))


@broken("single-class-split", "All 6 rows of the evaluation data are of one class, 'positive'")
def an_unshuffled_split_of_sorted_rows(folder, mended):
    data = table(labels=SORTED).train_test_split(test_size=6, shuffle=mended, seed=1)
    return trainer_for(folder, train=data["train"], held_out=data["test"])


@broken("single-class-split", "rows of the test data are of one class")
def one_class_in_the_test(folder):
    return trainer_for(folder), table(12, 2, labels=[1] * 12)


@broken("single-class-split", "All 24 rows of the training data")
def one_class_in_a_torch_dataset(folder):
    return trainer_for(folder, train=Rows(table(labels=[1] * 24), torch.tensor))


@broken("single-class-split", "no row of 'good'", "warning")
def a_class_missing_in_the_evaluation(folder, mended):
    names = ["bad", "fair", "good"]
    held_out = table(12, 1, names=names) if mended else table(12, 1, labels=[0, 1] * 6)
    return trainer_for(folder, model=bert(names), train=table(names=names), held_out=held_out)


@broken("single-class-split", "have the class 'good'", "warning")
def a_class_missing_in_the_training(folder, mended):
    names = ["bad", "fair", "good"]
    data = table(names=names) if mended else table(labels=[0, 1] * 12)
    return trainer_for(folder, model=bert(names), train=data, held_out=table(12, 1, names=names))


STREAMED = by_steps(2, max_steps=4, num_train_epochs=3.0)


def words_in_rows(labels):
    """Rows of tokens, quickly, without texts."""
    ids = [[2, 4 + i % 190, 4 + i // 190 % 190, 3] for i in range(len(labels))]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * 4] * len(ids), "label": labels})


@broken(
    "single-class-split",
    "The first 2,000 rows of the training data are of one class, 'negative', and the evaluation data have "
    "'negative', 'positive'",
)
def a_stream_that_begins_with_one_class(folder, mended):
    stream = words_in_rows([0] * 2_500 + [1] * 2_500).to_iterable_dataset()
    return trainer_for(
        folder, train=stream.shuffle(seed=42, buffer_size=10_000) if mended else stream, **STREAMED
    )


@broken("single-class-split", "The first 2,000 rows of the training data are of one class, 'positive'")
def a_stream_shuffled_in_a_small_buffer(folder, mended):
    stream = words_in_rows([1] * 2_500 + [0] * 2_500).to_iterable_dataset()
    return trainer_for(
        folder, train=stream.shuffle(seed=42, buffer_size=6_000 if mended else 100), **STREAMED
    )


@broken("single-class-split", "The first 24 rows of the training data are of one class, 'negative'")
def a_short_stream_of_one_class(folder, mended):
    data = table(labels=[0] * 24) if not mended else table()
    return trainer_for(folder, train=data.to_iterable_dataset(), **STREAMED)


@broken(
    "single-class-split",
    "The first 2,000 rows of the training data come class by class (2 changes of class in 2,000 rows; by "
    "chance 1,",
)
def a_stream_sorted_by_three_classes(folder, mended):
    names, data = ["bad", "fair", "good"], words_in_rows([0] * 600 + [1] * 600 + [2] * 1_000)
    stream = (data.shuffle(seed=42) if mended else data).to_iterable_dataset()
    return trainer_for(
        folder, model=bert(names), train=stream, held_out=table(12, 1, names=names), **STREAMED
    )


@broken("single-class-split", "come class by class (")
def a_sorted_stream_shuffled_in_a_buffer_too_small(folder, mended):
    stream = words_in_rows([0] * 900 + [1] * 900).to_iterable_dataset()
    return trainer_for(folder, train=stream.shuffle(seed=42, buffer_size=2_000 if mended else 90), **STREAMED)


@broken(
    "single-class-split",
    "come class by class (1 changes of class in 24 rows; by chance 12), and "
    "train_sampling_strategy='sequential' reads them as they stand",
)
def sorted_rows_in_their_order(folder, mended):
    data = table(labels=SORTED)
    return trainer_for(
        folder, train=data.shuffle(seed=42) if mended else data, train_sampling_strategy="sequential"
    )


@broken(
    "single-class-split", "come class by class (2 changes of class in 1,000 rows; by chance 12)", "warning"
)
def a_rare_class_that_stands_together(folder, mended):
    data = table(1_000, labels=[0] * 500 + [1] * 6 + [0] * 494)
    return trainer_for(
        folder, train=data.shuffle(seed=42) if mended else data, train_sampling_strategy="sequential"
    )


@broken("single-class-split", "train_sampling_strategy='sequential' reads them as they stand")
def rows_sorted_by_their_labels_in_their_order(folder, mended):
    """The table itself is mixed; sort() keeps it and notes the order."""
    return trainer_for(
        folder, train=table().sort("label"), train_sampling_strategy="random" if mended else "sequential"
    )


class OwnSampler(Trainer):
    def _get_train_sampler(self, train=None):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class OwnLoader(Trainer):
    def get_train_dataloader(self):
        data = self.train_dataset.remove_columns("text")
        return self.accelerator.prepare(
            torch.utils.data.DataLoader(data, batch_size=4, collate_fn=self.data_collator)
        )


@broken("single-class-split", "_get_train_sampler reads them as they stand")
def sorted_rows_and_a_sampler_of_ones_own(folder, mended):
    return trainer_for(folder, kind=Trainer if mended else OwnSampler, train=table(labels=SORTED))


@broken("single-class-split", "get_train_dataloader reads them as they stand")
def sorted_rows_and_a_loader_of_ones_own(folder, mended):
    """DataLoader does not shuffle unless it is told to."""
    data = table(labels=SORTED)
    return trainer_for(folder, kind=OwnLoader, train=data.shuffle(seed=42) if mended else data)


@broken("label-map-drift", "The same id means two things")
def names_in_another_order_in_the_model(folder, mended):
    return trainer_for(folder, model=bert(LABELS if mended else LABELS[::-1]))


@broken("label-map-drift", "The same id means two things")
def names_in_another_order_in_the_evaluation(folder, mended):
    return trainer_for(folder, held_out=table(12, 1, names=LABELS if mended else LABELS[::-1]))


@broken("label-map-drift", "['1', '10', '2', '5']")
def numbers_in_the_order_of_texts(folder, mended):
    names = ["1", "10", "2", "5"] if mended else ["1", "2", "5", "10"]
    data = [table(24, seed, labels=[1, 2, 5, 10] * 6).class_encode_column("label") for seed in (0, 1)]
    return trainer_for(folder, model=bert(names), train=data[0], held_out=data[1])


@broken("label-map-drift", "'bad' is label 1 for the evaluation data and 0 for the training")
def one_map_for_each_split(folder, mended):
    words = ["good", "bad"] * 12
    data = []
    for seed in (0, 1):
        order = ["bad", "good"] if mended or not seed else ["good", "bad"]
        data.append(
            table(24, seed, labels=[order.index(word) for word in words]).add_column("sentiment", words)
        )
    return trainer_for(folder, model=bert(2), train=data[0], held_out=data[1])


@broken("label-map-drift", "'negative' is label 1 for the training data and 0 for the model")
def a_map_other_than_the_models(folder, mended):
    words = ["positive", "negative"] * 12
    order = LABELS if mended else LABELS[::-1]
    data = table(labels=[order.index(word) for word in words]).add_column("sentiment", words)
    return trainer_for(folder, train=data, held_out=table(12, 1, labels=[0, 1] * 6))


@broken("label-names", "predictions will say 'LABEL_0'")
def classes_without_names(folder, mended):
    return trainer_for(folder, model=bert(LABELS if mended else 2))


@broken("label-names", "is not the inverse of id2label")
def only_one_of_the_maps(folder, mended):
    model = bert(2)
    model.config.id2label = dict(enumerate(LABELS))
    if mended:
        model.config.label2id = {name: i for i, name in enumerate(LABELS)}
    return trainer_for(folder, model=model)


@broken("label-names", "one name to several classes")
def one_name_twice(folder, mended):
    model = bert(["a", "b", "c"])
    model.config.id2label[2] = "c" if mended else "b"
    data = {"train": table(labels=[0, 1, 2] * 8), "held_out": table(12, 1, labels=[0, 1, 2] * 4)}
    return trainer_for(folder, model=model, **data)


@broken("label-names", "id2label has the ids [1, 2]")
def names_from_one(folder, mended):
    model = bert(2)
    model.config.id2label = {0: "a", 1: "b"} if mended else {1: "a", 2: "b"}
    model.config.label2id = {"a": 0, "b": 1}
    return trainer_for(
        folder, model=model, train=table(labels=[0, 1] * 12), held_out=table(12, 1, labels=[0, 1] * 6)
    )


@broken("label-noise", r"'late', 'late\u200b'")
def classes_that_look_the_same(folder, mended):
    names = ["early", "late"] if mended else ["early", "late", "late\u200b"]
    return trainer_for(
        folder, model=bert(names), train=table(names=names), held_out=table(12, 1, names=names)
    )


@broken("label-noise", "'Pos', 'pos', 'pos '")
def classes_that_differ_by_a_blank(folder, mended):
    names = ["neg", "pos"] if mended else ["Pos", "neg", "pos", "pos "]
    return trainer_for(
        folder, model=bert(names), train=table(names=names), held_out=table(12, 1, names=names)
    )


@broken("label-noise", "'positive' (2)")
def a_class_of_two_rows(folder, mended):
    data = table(labels=[1, 1] + ([1] * 10 + [0] * 12 if mended else [0] * 22))
    return trainer_for(folder, train=data)


# tokenizers and texts


def elsewhere(folder, name, **changes):
    """A checkpoint in a folder of its own: its model, its tokenizer."""
    place, tokenizer = folder / name, tokenizer_of(**changes)
    bert(vocab_size=len(tokenizer)).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@broken("empty-tokenizer", "knows 5 tokens, the model 30,522")
def a_folder_without_a_tokenizer(folder, mended):
    model = BertForSequenceClassification.from_pretrained(
        find_model("minilm-l6"), num_hidden_layers=1, **named()
    )
    if mended:
        model.config._name_or_path = (
            ""  # the words are those of TOKENIZER: it loads faster than the model's own
        )
        tokenizer = tokenizer_of([f"w{i}" for i in range(30_518)])
    else:
        model.save_pretrained(folder / "model")
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return trainer_for(
        folder,
        model=model,
        tokenizer=tokenizer,
        train=table(tokenizer=tokenizer),
        held_out=table(12, 1, tokenizer=tokenizer),
    )


@broken("empty-tokenizer", "of all training tokens are the unknown token")
def words_that_the_tokenizer_does_not_know(folder, mended):
    data = table(texts=[text if mended else text.replace("w", "v") for text in texts_of(24, 0)])
    return trainer_for(folder, train=data)


@broken("empty-tokenizer", "No training token has an id above 3")
def tokens_of_an_empty_tokenizer_that_nobody_named(folder):
    data = table(
        texts=[f"{i:05b}".replace("0", "no ").replace("1", "yes maybe ") for i in range(24)],
        tokenizer=tokenizer_of([]),
    )
    changes = {"tokenizer": None, "data_collator": PAD_ONLY}
    return trainer_for(
        folder, model=bert(vocab_size=30_000), train=data, held_out=data.select(range(12)), **changes
    )


def PAD_ONLY(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {
        name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in rows])
        for name in ("input_ids", "attention_mask")
    }
    return batch | {"labels": torch.tensor([row["label"] for row in rows])}


@broken("tokenizer-mismatch", "and they number words differently: 'w0' is 4 for one and 199 for the other")
def a_tokenizer_of_another_folder(folder, mended):
    mine, other = elsewhere(folder, "mine", words=WORDS[::-1]), elsewhere(folder, "other")
    tokenizer = AutoTokenizer.from_pretrained(mine if mended else other)
    model = BertForSequenceClassification.from_pretrained(mine)
    return trainer_for(
        folder,
        model=model,
        tokenizer=tokenizer,
        train=table(tokenizer=tokenizer),
        held_out=table(12, 1, tokenizer=tokenizer),
    )


@broken(
    "tokenizer-mismatch",
    "hold the token id 299, but the model knows 200 tokens (0 to 199)",
    raises="index out of range in self",
)
def a_tokenizer_of_a_larger_vocabulary(folder, mended):
    tokenizer = tokenizer_of([f"w{i}" for i in range(296)])
    texts = [f"{text} w295" for text in texts_of(24, 0)]
    return trainer_for(
        folder,
        model=bert(vocab_size=300 if mended else 200),
        tokenizer=tokenizer,
        train=table(texts=texts, tokenizer=tokenizer),
    )


@broken("tokenizer-mismatch", "The tokenizer knows 202 tokens, the model 200")
def tokens_added_to_the_tokenizer_only(folder, mended):
    tokenizer, model = tokenizer_of(), bert()
    tokenizer.add_tokens(["@user", "https"])
    if mended:
        model.resize_token_embeddings(len(tokenizer))
    return trainer_for(folder, model=model, tokenizer=tokenizer)


@broken(
    "tokenizer-mismatch", "The tokenizer knows 201 tokens, the model 200: a text with one of the others stops"
)
def a_padding_token_added_to_the_tokenizer_only(folder, mended):
    tokenizer, model = tokenizer_of(), bert()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    if mended:
        model.resize_token_embeddings(len(tokenizer))
    return trainer_for(folder, model=model, tokenizer=tokenizer)


@broken(
    "tokenizer-mismatch", "The tokenizer knows 202 tokens, the model 200: a text with one of the others stops"
)
def a_word_and_a_special_token_added_to_the_tokenizer_only(folder):
    tokenizer = tokenizer_of()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.add_tokens(["@user"])
    return trainer_for(folder, tokenizer=tokenizer)


@broken(
    "tokenizer-mismatch",
    "hold the token id 200, but the model knows 200 tokens",
    raises="index out of range in self",
)
def a_special_token_that_a_row_has(folder):
    tokenizer = tokenizer_of()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    data = table(texts=[*texts_of(23, 0), "w1 <image> w3"], tokenizer=tokenizer)
    return trainer_for(folder, tokenizer=tokenizer, train=data)


@broken("tokenizer-mismatch", "No row has one of the others ('<image>', '<sound>')", "warning")
def special_tokens_that_no_row_has(folder, mended):
    tokenizer, model = tokenizer_of(), bert()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<sound>"]})
    if mended:
        model.resize_token_embeddings(len(tokenizer))
    return trainer_for(folder, model=model, tokenizer=tokenizer)


@broken(
    "special-in-text",
    "2 rows (3, 20) of the training data hold '[CLS]', '[SEP]' within the text, for example "
    "'w5 [CLS] w6 [SEP] w7'",
)
def special_tokens_of_bert_in_texts(folder, mended):
    texts = texts_of(24, 0)
    texts[3], texts[20] = "w5 [CLS] w6 [SEP] w7", "w8 [SEP] w9"
    return trainer_for(folder, train=table(texts=texts, split_special_tokens=mended))


@broken("special-in-text", "row 7 of the evaluation data hold '[SEP]' within the text, for example ids [2, ")
def special_tokens_of_which_only_ids_are_left(folder):
    return trainer_for(
        folder, held_out=table(texts=[*texts_of(7, 1), "w8 [SEP] w9", *texts_of(4, 3)]).remove_columns("text")
    )


def struck():
    """A tokenizer whose beginning and end are written as HTML strikes through."""
    made = tokenizer_of(["<s>", "</s>", *WORDS[:194]])
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 4), ("</s>", 5)]
    )
    made.add_special_tokens(
        {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    )
    return made


STRUCK = struck()
STRUCK_OUT = " ".join(["w1", "w2", "<s>", "w3", "</s>", "w4"])


def bart():
    sizes = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    sizes = {f"{part}_{size}": value for part in ("encoder", "decoder") for size, value in sizes.items()}
    sizes |= {"d_model": 16, "max_position_embeddings": 64}
    ids = {"pad_token_id": 0, "bos_token_id": 4, "eos_token_id": 5, "decoder_start_token_id": 5}
    return small(BartForSequenceClassification, **sizes, **ids)


def t5():
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    ids = {"pad_token_id": 0, "eos_token_id": 5, "decoder_start_token_id": 0}
    return small(T5ForSequenceClassification, **sizes, **ids)


def first_output(prediction):
    return (
        compute_metrics(prediction._replace(predictions=prediction.predictions[0]))
        if hasattr(prediction, "_replace")
        else {"f1_macro": 0.5}
    )


def ends_in_texts(model):
    def build(folder, mended):
        texts = [text.replace("w1", "w") for text in texts_of(24, 0)]
        texts[9] = STRUCK_OUT
        data = [
            table(len(some), texts=some, tokenizer=STRUCK, split_special_tokens=mended)
            for some in (texts, texts_of(12, 1))
        ]
        changes = {"compute_metrics": first_output, "per_device_train_batch_size": 24}
        return trainer_for(
            folder, model=model(), tokenizer=STRUCK, train=data[0], held_out=data[1], **changes
        )

    build.__name__ = f"an_end_token_in_a_text_of_{model.__name__}"
    says = (
        "row 9 of the training data have another number of end tokens ('</s>') than the others, for example "
    )
    broken("special-in-text", f"{says}'w1 w2 <s> w3 </s> w4'", "error", ENDS)(build)


ends_in_texts(bart)
ends_in_texts(t5)


@broken(
    "special-in-text", "row 5 of the training data have another number of end tokens", "error", raises=ENDS
)
def ids_cut_by_hand(folder, mended):
    """The cut takes the end token along."""
    texts = [*texts_of(5, 0), " ".join(WORDS[:30]), *texts_of(18, 3)]
    cut = {"max_length": 12} if mended else {}
    data = table(texts=texts, tokenizer=STRUCK, **cut).map(
        lambda row: {name: row[name][:12] for name in ("input_ids", "attention_mask")}
    )
    changes = {
        "compute_metrics": first_output,
        "per_device_train_batch_size": 24,
        "held_out": table(12, 1, tokenizer=STRUCK),
    }
    return trainer_for(folder, model=bart(), tokenizer=STRUCK, train=data, **changes)


@broken("special-in-text", "row 23 of the training data hold '</s>' within the text, for example")
def an_end_token_at_the_end_of_a_text(folder, mended):
    tokenizer = struck()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 4)]
    )
    data = table(texts=[*texts_of(23, 0), "w8 w9 </s>"], tokenizer=tokenizer, split_special_tokens=mended)
    return trainer_for(folder, tokenizer=tokenizer, train=data, held_out=table(12, 1, tokenizer=tokenizer))


@pytest.mark.parametrize("texts_too", [True, False])
def test_single_texts_and_pairs_together_are_no_marks_in_texts(tmp_path, texts_too):
    rows = [
        TOKENIZER(a, *[b] * (i % 3 == 0)) | {"text": a, "label": i % 2}
        for i, (a, b) in enumerate(zip(texts_of(24, 0), texts_of(24, 3), strict=True))
    ]
    data = Dataset.from_list([dict(row) for row in rows])
    data = data if texts_too else data.remove_columns("text")
    assert findings_of(trainer_for(tmp_path, train=data), "special-in-text") == []


def test_the_fix_for_special_tokens_is_one_that_this_tokenizer_heeds(tmp_path):
    (heeds,) = findings_of(special_tokens_of_bert_in_texts(tmp_path, False), "special-in-text")
    assert heeds.fix.startswith("tokenizer(..., split_special_tokens=True), where you predict as well")
    tokenizer = tokenizer_of()
    tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # now '[SEP]' is a word
    data = table(texts=[*texts_of(23, 0), "w8 [SEP] w9"], tokenizer=tokenizer)
    (does_not,) = findings_of(trainer_for(tmp_path, tokenizer=tokenizer, train=data), "special-in-text")
    assert "text.replace('[SEP]', ' ') before tokenising (split_special_tokens=True does not" in does_not.fix


@broken("tokenizer-mismatch", "hold the token id -1", raises="index out of range in self")
def padded_with_minus_one(folder):
    rows = table(12, 0)
    return trainer_for(
        folder,
        train=rows.map(
            lambda row: {"input_ids": [*row["input_ids"], -1], "attention_mask": [*row["attention_mask"], 0]}
        ),
    )


@broken("tokenizer-mismatch", "The test data hold the token id 250")
def a_foreign_token_in_the_test(folder):
    return trainer_for(folder), table(12, 2).map(
        lambda row: {"input_ids": [2, 250, 3], "attention_mask": [1, 1, 1]}
    )


LONG = [*texts_of(23, 0), " ".join(WORDS[:90])]


@broken("too-long", "has 92 tokens, but the model has 64 positions: row 23", raises=TOO_LONG)
def a_row_longer_than_the_model(folder, mended):
    return trainer_for(folder, train=table(texts=LONG, truncation=True, max_length=64 if mended else 128))


@broken("too-long", "row 23", raises=TOO_LONG)
def truncation_without_a_length(folder):
    tokenizer = tokenizer_of(model_max_length=int(1e30))
    return trainer_for(folder, train=table(texts=LONG, tokenizer=tokenizer))


@broken("too-long", "The longest row of the evaluation data has 92 tokens", raises=TOO_LONG)
def a_long_row_in_the_evaluation(folder):
    return trainer_for(folder, held_out=table(texts=[*texts_of(11, 1), LONG[-1]], max_length=128))


def roberta(**changes):
    settings = ONE_LAYER | {"max_position_embeddings": 66, "pad_token_id": 0} | changes
    return small(RobertaForSequenceClassification, **settings)


@broken("too-long", "has 66 tokens, but the model has 65 positions: row 23", raises=TOO_LONG)
def roberta_counts_from_its_padding(folder, mended):
    data = table(texts=LONG, max_length=65 if mended else 66)
    return trainer_for(folder, model=roberta(), train=data)


def gpt2(**changes):
    return small(GPT2ForSequenceClassification, n_embd=32, n_layer=1, n_head=2, n_positions=64, **changes)


@broken("too-long", "has 92 tokens, but the model has 64 positions: row 23", raises=TOO_LONG)
def gpt2_has_positions_too(folder, mended):
    data = table(texts=LONG, max_length=64 if mended else 128)
    return trainer_for(folder, model=gpt2(pad_token_id=0), train=data)


@broken("pad-token", "The tokenizer has no padding token", raises="does not have a padding token")
def gpt2_without_a_padding_token(folder, mended):
    tokenizer = tokenizer_of(pad="[PAD]" if mended else None)
    return trainer_for(folder, model=gpt2(), tokenizer=tokenizer)


@broken(
    "pad-token",
    "config.pad_token_id is None",
    raises="Cannot handle batch sizes > 1 if no padding token is defined",
)
def a_tokenizer_that_only_the_collator_knows(folder, mended):
    return trainer_for(
        folder, model=gpt2(pad_token_id=0 if mended else None), tokenizer=None, data_collator=PAD
    )


@broken("pad-token", "The tokenizer pads with 0, the model's config says 7")
def two_padding_tokens(folder, mended):
    return trainer_for(folder, model=gpt2(pad_token_id=0 if mended else 7), tokenizer=None, data_collator=PAD)


@broken("truncation", "have exactly 12 tokens, the most there are: they were cut")
def texts_cut(folder, mended):
    texts = [" ".join(random.Random(i).choices(WORDS, k=6 + i)) for i in range(24)]
    return trainer_for(folder, train=table(texts=texts, max_length=64 if mended else 12))


@broken("truncation", "they were cut")
def tokens_cut_and_texts_gone(folder):
    texts = [" ".join(random.Random(i).choices(WORDS, k=6 + i)) for i in range(24)]
    return trainer_for(folder, train=table(texts=texts, max_length=16).remove_columns("text"))


@broken("empty-text", "2 rows (3, 9) of the training data hold no word")
def blank_texts(folder, mended):
    texts = texts_of(24, 0)
    if not mended:
        texts[3], texts[9] = "", "  \n"
    return trainer_for(folder, train=table(texts=texts))


@broken("empty-text", "row 9 of the evaluation data")
def blank_texts_of_which_only_tokens_are_left(folder):
    texts = texts_of(12, 1)
    texts[9] = ""
    return trainer_for(folder, held_out=table(texts=texts).remove_columns("text"))


@broken("padding-waste", "all rows are padded to 64 tokens")
def padded_to_the_maximum(folder, mended):
    return trainer_for(folder, train=table(padding=False if mended else "max_length", max_length=64))


@broken("padding-waste", "all rows are padded to 64 tokens")
def a_collator_that_pads_to_the_maximum(folder, mended):
    return trainer_for(
        folder,
        data_collator=PAD
        if mended
        else DataCollatorWithPadding(TOKENIZER, padding="max_length", max_length=64),
    )


@broken("padding-waste", "batches of 8 are as long as their longest row")
def one_long_text_in_each_batch(folder, mended):
    texts = [
        " ".join(random.Random(i).choices(WORDS, k=60 if i % 8 == 0 and not mended else 4)) for i in range(64)
    ]
    return trainer_for(folder, train=table(texts=texts), per_device_train_batch_size=8)


# one text in two splits


@broken("split-leak", "2 rows (0, 1) of the evaluation data are also in the training data (17%)")
def texts_in_both_splits(folder, mended):
    held_out = texts_of(12, 1)
    if not mended:
        held_out[:2] = texts_of(24, 0)[:2]
    return trainer_for(folder, held_out=table(texts=held_out))


@broken("split-leak", "row 4 of the evaluation data are also in the training data")
def a_text_that_differs_in_capitals_and_blanks(folder, mended):
    held_out = texts_of(12, 1)
    held_out[4] = "  " + texts_of(24, 0)[7].upper().replace(" ", "   ") + "\n"
    return trainer_for(folder, held_out=table(texts=held_out if not mended else texts_of(12, 1)))


@broken("split-leak", "row 4 of the evaluation data are also in the training data")
def a_text_that_differs_in_what_nobody_sees(folder, mended):
    held_out = texts_of(12, 1)
    held_out[4] = texts_of(24, 0)[7].replace(" ", "\u00a0\u200b")
    return trainer_for(folder, held_out=table(texts=held_out if not mended else texts_of(12, 1)))


@broken("split-leak", "for example ids [2, ")
def tokens_in_both_splits(folder):
    held_out = table(texts=[*texts_of(11, 1), texts_of(24, 0)[3]])
    return trainer_for(folder, train=table().remove_columns("text"), held_out=held_out.remove_columns("text"))


@broken("split-leak", "row 11 of the evaluation data")
def tokens_in_both_splits_one_of_them_with_its_texts(folder):
    held_out = table(texts=[*texts_of(11, 1), texts_of(24, 0)[3]])
    return trainer_for(folder, held_out=held_out.remove_columns("text"))


@broken("split-leak", "row 11 of the evaluation data")
def tokens_in_both_splits_one_of_them_padded(folder):
    held_out = table(texts=[*texts_of(11, 1), texts_of(24, 0)[3]], padding="max_length", max_length=12)
    return trainer_for(folder, train=table().remove_columns("text"), held_out=held_out.remove_columns("text"))


@broken("split-leak", "of the test data are also in the training data")
def a_leak_into_the_test_only(folder):
    return trainer_for(folder), table(texts=[*texts_of(11, 2), texts_of(24, 0)[3]])


@broken("split-leak", "of the test data are also in the evaluation data")
def a_leak_from_the_evaluation_into_the_test(folder):
    return trainer_for(folder), table(texts=[*texts_of(11, 2), texts_of(12, 1)[3]])


@broken("split-leak", "of the evaluation data are also in the training data")
def a_leak_between_torch_datasets(folder):
    return trainer_for(
        folder,
        train=Rows(table(), torch.tensor),
        held_out=Rows(table(texts=[*texts_of(11, 1), texts_of(24, 0)[3]]), torch.tensor),
    )


@broken("split-leak", "2 rows (0, 23) of the training data hold texts that carry two labels")
def one_text_with_two_labels(folder, mended):
    texts = texts_of(24, 0)
    texts[23] = texts[23] if mended else texts[0]
    return trainer_for(folder, train=table(texts=texts))


def like_bert():
    """A tokenizer that, as uncased BERT's, drops accents and sees no blanks beside punctuation."""
    made = tokenizer_of([*WORDS, "cafe", "naive", "!", "."])
    made.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    return made


LIKE_BERT = like_bert()


def leak_of_tokens(name, says, there, here):
    """The same token ids in both splits, from texts that differ; mended, one word is another."""

    def build(folder, mended):
        held_out, train = texts_of(12, 1), texts_of(24, 0)
        train[7], held_out[4] = f"{train[7]} {there}", f"{train[7]} {'w3 w3' if mended else here}"
        parts = [table(len(texts), texts=texts, tokenizer=LIKE_BERT) for texts in (train, held_out)]
        return trainer_for(
            folder, model=bert(vocab_size=204), tokenizer=LIKE_BERT, train=parts[0], held_out=parts[1]
        )

    build.__name__ = f"the_same_tokens_of_{name}"
    broken("split-leak", says)(build)


leak_of_tokens("two_unicode_forms", "row 4 of the evaluation data", "caf\u00e9", "cafe\u0301")
leak_of_tokens("a_blank_without_width", "row 4 of the evaluation data", "na\u00efve", "na\u200b\u00efve")
leak_of_tokens("a_soft_hyphen", "row 4 of the evaluation data", "naive", "nai\u00adve")
leak_of_tokens(
    "two_spellings",
    "row 4 of the evaluation data have the token ids of rows of the training data (8%), though their "
    "texts differ",
    "caf\u00e9",
    "cafe",
)
leak_of_tokens(
    "a_blank_more",
    "though their texts differ (in blanks, accents or characters that nobody sees)",
    "cafe!",
    "cafe !",
)


@broken(
    "split-leak",
    "2 rows (0, 23) of the training data have token ids that carry two labels, though their texts differ",
)
def the_same_tokens_with_two_labels(folder, mended):
    texts = texts_of(24, 0)
    texts[0], texts[23] = "naive w1 w2 w3.", "w9 w9" if mended else "na\u00efve w1 w2 w3 ."
    data = {"train": table(texts=texts, tokenizer=LIKE_BERT), "held_out": table(12, 1, tokenizer=LIKE_BERT)}
    return trainer_for(folder, model=bert(vocab_size=204), tokenizer=LIKE_BERT, **data)


@broken(
    "split-leak",
    "row 4 of the evaluation data have the token ids of rows of the training data (8%), for they were cut "
    "where their texts still agree",
    "warning",
)
def texts_that_begin_alike_and_were_cut(folder, mended):
    train, held_out = texts_of(24, 0, 14), texts_of(12, 1, 14)
    train[7], held_out[4] = (
        " ".join([*WORDS[:10], "w50 w51 w52 w53"]),
        " ".join([*WORDS[:10], "w60 w61 w62 w63"]),
    )
    long = 64 if mended else 12
    return trainer_for(
        folder, train=table(texts=train, max_length=long), held_out=table(texts=held_out, max_length=long)
    )


@broken("test-as-validation", "The test data are the evaluation data")
def the_test_in_another_spelling_for_evaluation(folder):
    texts = [f"{text}!" for text in texts_of(12, 1)]
    parts = [
        table(texts=some, tokenizer=LIKE_BERT)
        for some in (texts_of(24, 0), texts, [text.replace("!", " !") for text in texts])
    ]
    return trainer_for(
        folder, model=bert(vocab_size=204), tokenizer=LIKE_BERT, train=parts[0], held_out=parts[1]
    ), parts[2]


@broken("split-leak", "are also in the training data")
def rows_drawn_twice_before_splitting(folder):
    data = concatenate_datasets([table(), table()]).train_test_split(test_size=12, seed=0)
    return trainer_for(folder, train=data["train"], held_out=data["test"])


@broken("test-as-validation", "The test data are the evaluation data")
def the_test_for_evaluation(folder, mended):
    trainer = trainer_for(folder)
    return trainer, table(12, 2) if mended else trainer.eval_dataset


@broken("test-as-validation", "The test data are the evaluation data")
def a_copy_of_the_test_for_evaluation(folder):
    return trainer_for(folder), table(12, 1).shuffle(seed=3)


@broken("test-as-validation", "are the split 'test', and they decide which checkpoint is kept")
def the_split_called_test(folder, mended):
    data = table(12, 1)
    data = Dataset(data.data, info=data.info, split="validation" if mended else "test")
    return trainer_for(folder, held_out=data)


RARE = [1 if i % 12 == 0 else 0 for i in range(60)]


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


@broken("imbalance", "92% of the evaluation rows are of one class, and the metrics are accuracy")
def a_rare_class_and_accuracy(folder, mended):
    data = {"train": table(60, labels=RARE), "held_out": table(60, 1, labels=RARE)}
    return trainer_for(
        folder,
        **data,
        compute_metrics=compute_metrics if mended else accuracy,
        metric_for_best_model="accuracy",
    )


@broken("imbalance", "there is no metric but the loss")
def a_rare_class_and_no_metric(folder):
    data = {"train": table(60, labels=RARE), "held_out": table(60, 1, labels=RARE)}
    return trainer_for(
        folder, **data, compute_metrics=None, metric_for_best_model="loss", greater_is_better=False
    )


@broken("imbalance", "the metrics are f1_micro")
def a_rare_class_and_a_blind_f1(folder):
    micro = lambda prediction: {"f1_micro": 0.9, "f1_weighted": 0.9}  # noqa: E731
    data = {"train": table(60, labels=RARE), "held_out": table(60, 1, labels=RARE)}
    return trainer_for(folder, **data, compute_metrics=micro, metric_for_best_model="f1_micro")


# arguments


@broken(
    "lr-is-text",
    "learning_rate is the text '2e-5', not a number",
    raises="not supported between instances of 'float' and 'str'|must be real number|could not|TypeError",
)
def a_learning_rate_from_yaml(folder, mended):
    trainer = trainer_for(folder)
    trainer.args.learning_rate = 2e-5 if mended else "2e-5"  # TrainingArguments converts it on some versions
    return trainer


@broken("lr-is-text", "weight_decay is the text '1e-2'")
def a_weight_decay_from_yaml(folder, mended):
    return trainer_for(folder, weight_decay=1e-2 if mended else "1e-2")


@broken("lr-is-text", "max_grad_norm is the text '1e0'")
def a_gradient_norm_from_yaml(folder, mended):
    return trainer_for(folder, max_grad_norm=1.0 if mended else "1e0")


@broken("lr-is-text", "num_train_epochs is the text '3'")
def epochs_from_yaml(folder, mended):
    trainer = trainer_for(folder)
    trainer.args.num_train_epochs = 3 if mended else "3"
    return trainer


@broken("lr-too-high", "learning_rate=0.01 moves all")
def a_learning_rate_for_a_small_network(folder, mended):
    return trainer_for(folder, learning_rate=5e-5 if mended else 1e-2)


@broken("lr-too-high", "learning_rate=0.0005")
def a_learning_rate_for_pretraining(folder):
    return trainer_for(folder, learning_rate=5e-4, optim="adamw_torch")


@broken("zero-steps", "24 training rows do not fill a batch of 32")
def the_last_batch_dropped(folder, mended):
    return trainer_for(folder, dataloader_drop_last=True, per_device_train_batch_size=4 if mended else 32)


@broken("zero-steps", "The training data are empty")
def no_rows(folder):
    return trainer_for(folder, train=table().select([]))


@broken("zero-steps", "num_train_epochs=0 makes a run of 0 steps")
def no_epochs(folder, mended):
    return trainer_for(folder, num_train_epochs=2 if mended else 0)


def adamw(model, **settings):
    return torch.optim.AdamW(model.parameters(), **{"lr": 5e-5} | settings)


@broken("zero-steps", "None of the model's 25 trainable tensors is in the optimizer")
def an_optimizer_of_the_model_before(folder, mended):
    model, loaded_again = bert(), bert()
    return trainer_for(
        folder, model=loaded_again, optimizers=(adamw(loaded_again if mended else model), None)
    )


@broken("zero-steps", "None of the model's 4 trainable tensors is in the optimizer")
def an_optimizer_made_before_the_adapter(folder, mended):
    """As an adapter does it: the weights are frozen, and new ones come along."""
    model = bert()
    before = adamw(model)
    model.requires_grad_(False)
    query = model.bert.encoder.layer[0].attention.self.query
    query.a, query.b = (torch.nn.Linear(32, 32, bias=False) for _ in range(2))
    model.classifier.requires_grad_(True)
    before.param_groups[0]["params"] = [p for p in before.param_groups[0]["params"] if not p.requires_grad]
    return trainer_for(folder, model=model, optimizers=(adamw(model) if mended else before, None))


@broken(
    "zero-steps", "The optimizer lacks 2 of the model's 25 trainable tensors, for example 'classifier.weight'"
)
def a_head_replaced_after_the_optimizer_was_made(folder, mended):
    model = bert()
    optimizer = adamw(model)
    if not mended:
        model.classifier = torch.nn.Linear(32, 2)
    return trainer_for(folder, model=model, optimizers=(optimizer, None))


@broken("zero-steps", "The optimizer lacks 23 of the model's 25 trainable tensors")
def a_body_thawed_after_the_optimizer_was_made(folder, mended):
    model = freeze(bert(), "bert.")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-5)
    model.requires_grad_(True)
    return trainer_for(folder, model=model, optimizers=(adamw(model) if mended else optimizer, None))


def schedules(says, make, level="error", **run):
    """A schedule made for so many steps as the run has epochs, 2; and for its 12 optimizer steps."""

    def build(folder, mended):
        model = bert()
        optimizer = adamw(model)
        changes = NO_WARMUP | {
            "model": model,
            "optimizers": (optimizer, make(optimizer, 12 if mended else 2)),
        }
        return trainer_for(folder, **changes | run)

    build.__name__ = f"a_schedule_of_epochs: {says}"
    broken("zero-steps", says, level)(build)


NO_WARMUP = {"warmup_steps": 0}
plans = torch.optim.lr_scheduler
schedules(
    "from step 6 of 12 on (if not before) the learning rate is 0",
    lambda optimizer, n: get_linear_schedule_with_warmup(optimizer, 0, n),
)
schedules(
    "rate is -0.0001: nothing is learnt",
    lambda optimizer, n: plans.LambdaLR(optimizer, lambda step: 1 - step / n),
)
schedules("rate is 0", lambda optimizer, n: plans.PolynomialLR(optimizer, n))
schedules(
    "the learning rate is 0",
    lambda optimizer, n: plans.SequentialLR(
        optimizer, [plans.ConstantLR(optimizer, 1, n), plans.ConstantLR(optimizer, 0, 99)], [n]
    ),
)
schedules(
    "no more than 1e-07",
    lambda optimizer, n: get_polynomial_decay_schedule_with_warmup(optimizer, 0, n),
    "warning",
)
schedules(
    "no more than 5e-11", lambda optimizer, n: plans.ExponentialLR(optimizer, 0.1 ** (2 / n)), "warning"
)
schedules(
    "The schedule fails at step 3 of 12",
    lambda optimizer, n: plans.OneCycleLR(optimizer, 5e-5, total_steps=n + 1),
)


@broken("zero-steps", "from step 6 of 12 on (if not before) the learning rate is 0")
def a_schedule_that_a_run_before_used_up(folder, mended):
    model = bert()
    optimizer = adamw(model)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 12)
    for _ in range(0 if mended else 12):
        optimizer.step()
        schedule.step()
    return trainer_for(folder, model=model, optimizers=(optimizer, schedule), **NO_WARMUP)


@broken("zero-steps", "from step 6 of 12 on (if not before) the learning rate is 0")
def epochs_in_the_settings_of_a_schedule(folder, mended):
    settings = {"num_stable_steps": 0, "num_decay_steps": 12 if mended else 2}
    return trainer_for(
        folder, lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=settings, **NO_WARMUP
    )


@broken("zero-steps", "The learning rate is 0: no weight would move")
def a_rate_of_nothing(folder, mended):
    return trainer_for(folder, learning_rate=5e-5 if mended else 0.0)


@broken("zero-steps", "The learning rate is 2e-55: at such a rate, weights hardly move", "warning")
def an_exponent_too_long(folder, mended):
    return trainer_for(folder, learning_rate=2e-5 if mended else 2e-55)


@broken("zero-steps", "The learning rate is 9e-08: ", "warning")
def a_rate_just_too_low(folder, mended):
    return trainer_for(folder, learning_rate=1e-7 if mended else 0.9e-7)


@broken("zero-steps", "The learning rate is 0: no weight would move")
def an_optimizer_with_a_rate_of_nothing(folder, mended):
    model = bert()
    return trainer_for(folder, model=model, optimizers=(adamw(model, lr=5e-5 if mended else 0.0), None))


@broken("zero-steps", "The learning rate is 3e-09: ", "warning")
def a_low_rate_in_optimizer_cls_and_kwargs(folder, mended):
    return trainer_for(folder, optimizer_cls_and_kwargs=(torch.optim.AdamW, {"lr": 5e-5 if mended else 3e-9}))


@broken("zero-steps", "The learning rate is 1e-10 for 1 of the optimizer's 2 groups", "warning")
def one_of_two_groups_stands_still(folder, mended):
    model = bert()
    groups = [
        {"params": model.bert.parameters(), "lr": 1e-5 if mended else 1e-10},
        {"params": model.classifier.parameters(), "lr": 1e-3},
    ]
    return trainer_for(folder, model=model, optimizers=(torch.optim.AdamW(groups), None))


@broken(
    "warmup-too-long",
    "The warmup takes 500 of 12 steps (100%); the learning rate gets no higher than 1.2e-06",
)
def a_warmup_of_500_steps(folder, mended):
    return trainer_for(folder, warmup_steps=0.1 if mended else 500)


@broken("warmup-too-long", "The warmup takes 6 of 12 steps (50%)")
def half_of_the_run_is_warmup(folder, mended):
    return trainer_for(folder, warmup_steps=0.1 if mended else 0.5)


@broken("no-evaluation", "eval_dataset is given, but eval_strategy is 'no'")
def a_strategy_forgotten(folder, mended):
    return trainer_for(folder, **{} if mended else NEVER_EVALUATES)


@broken("no-evaluation", "There is no eval_dataset")
def no_evaluation_data(folder, mended):
    return trainer_for(folder) if mended else trainer_for(folder, held_out=None, **NEVER_EVALUATES)


@broken("no-evaluation", "The evaluation data are empty")
def empty_evaluation_data(folder):
    return trainer_for(folder, held_out=table(12, 1).select([]))


@broken("no-evaluation", "eval_delay=5 is longer than the run (2 epochs)")
def a_delay_longer_than_the_run(folder, mended):
    return trainer_for(folder, eval_delay=0 if mended else 5)


@broken("best-not-loaded", "It evaluates every 2 steps and saves every 4")
def saved_less_often_than_evaluated(folder, mended):
    return trainer_for(folder, **by_steps(2, **{} if mended else {"save_steps": 4}))


@broken("best-not-loaded", "It evaluates every 2 steps and saves every 6")
def saved_less_often_as_shares_of_the_run(folder, mended):
    return trainer_for(folder, **by_steps(0.1, **{} if mended else {"save_steps": 0.5}))


@broken("best-not-loaded", "every 1 steps and saves every 4")
def evaluated_at_each_logging_step(folder, mended):
    steps = {
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "save_steps": 1 if mended else 4,
    }
    return trainer_for(folder, **steps)


def metric_named(name):
    return lambda prediction: {name: 0.5, "f1_macro": 0.5}


def direction(name, right, by_user=None):
    def build(folder, mended):
        return trainer_for(
            folder,
            compute_metrics=metric_named(name),
            metric_for_best_model=name,
            greater_is_better=right if mended else by_user,
        )

    build.__name__ = f"chosen_by_{name}_{by_user}"
    guessed = by_user in (
        None,
        not name.endswith("loss"),
    )  # anything else the user has set: a warning at most
    broken(
        "metric-direction",
        f"is better when it is {'higher' if right else 'lower'}, but {'greater' if guessed else 'you set'}",
        "error" if guessed else "warning",
    )(build)


for lower_is_better in (
    "eval_perplexity",
    "validation_rmse",
    "error_rate",
    "mse",
    "mean_absolute_error",
    "wer",
    "hamming_distance",
    "logLoss",
    "ErrorRate",
    "top1_error",
    "rmse_valence",
    "mae",
    "perplexity",
    "cer",
    "ece",
    "brier",
    "brier_score",
    "eval_BrierScore",
    "top_1_error",
    "one_error",
    "mean_relative_error",
):
    direction(lower_is_better, False)
for higher_is_better in (
    "accuracy",
    "eval_f1",
    "neg_mean_squared_error",
    "neg_log_loss",
    "roc_auc",
    "f1_weighted",
    "balanced_accuracy",
):
    direction(higher_is_better, True, by_user=False)
direction("loss", False, by_user=True)
direction("neg_log_loss", True)
for kept_by_mistake in ("f1_detection", "accuracy_within_1", "matthews_correlation", "f1_score", "r2"):
    direction(kept_by_mistake, True, by_user=False)
direction("log_loss", False, by_user=True)
direction("hamming_loss", False, by_user=True)


@pytest.mark.parametrize("name", ["accuracy", "hamming_loss"])
def test_the_remedy_for_a_direction_that_was_set_keeps_no_worst_model(tmp_path, name):
    """Nobody but the user knows what the number is: the remedy leaves both ways open."""
    (finding,) = findings_of(
        trainer_for(
            tmp_path,
            compute_metrics=metric_named(name),
            metric_for_best_model=name,
            greater_is_better=name == "hamming_loss",
        ),
        "metric-direction",
    )
    other, right = ("lower", True) if name == "accuracy" else ("higher", False)
    assert finding.fix == f"Nothing, if {name!r} is better when it is {other}; else greater_is_better={right}"


@broken("no-logs", "The run has 12 steps and logs every 500")
def logs_every_500_steps(folder, mended):
    return trainer_for(folder, logging_strategy="steps", logging_steps=4 if mended else 500)


@broken("fp16-on-cpu", "fp16=True, but there is no GPU in use")
def half_precision_on_a_cpu(folder, mended):
    return trainer_for(folder, fp16=not mended)


@broken("dtype-auto", "trainable weights are bfloat16")
def weights_in_bfloat16(folder, mended):
    return trainer_for(folder, model=bert() if mended else bert().to(torch.bfloat16))


@broken("dtype-auto", "trainable weights are float16")
def a_checkpoint_in_float16(folder, mended):
    bert().half().save_pretrained(folder / "half")
    return trainer_for(
        folder,
        model=BertForSequenceClassification.from_pretrained(
            folder / "half", **{"dtype": torch.float32} if mended else {}
        ),
    )


def on_a_gpu(trainer):
    """There is no GPU here: a stand-in gives what is read of it, the arguments' device and number."""

    class Arguments(type(trainer.args)):
        device = torch.device("cuda")
        n_gpu = 1

    trainer.args.__class__ = Arguments
    return trainer


@broken("ignored-value", "train_sampling_strategy='bogus' is none of 'random'")
def a_misspelt_sampling_strategy(folder, mended):
    return trainer_for(folder, train_sampling_strategy="random" if mended else "bogus")


@broken("ignored-value", "warmup_steps=0.1 does nothing with lr_scheduler_type='constant'")
def a_warmup_that_the_schedule_ignores(folder, mended):
    return trainer_for(folder, lr_scheduler_type="constant_with_warmup" if mended else "constant")


@broken("overridden-value", "max_steps=6 and num_train_epochs=5 are both set")
def steps_and_epochs(folder, mended):
    return trainer_for(folder, num_train_epochs=3.0 if mended else 5, max_steps=6)


@broken("overridden-value", "learning_rate=5e-06 is ignored")
def an_optimizer_of_ones_own(folder, mended):
    model = bert()
    return trainer_for(
        folder,
        model=model,
        learning_rate=5e-6,
        optimizers=(torch.optim.AdamW(model.parameters(), lr=5e-6 if mended else 1e-5), None),
    )


@broken("overridden-value", "weight_decay=0.3 is ignored")
def a_weight_decay_beside_an_optimizer(folder):
    model = bert()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0)
    return trainer_for(folder, model=model, weight_decay=0.3, optimizers=(optimizer, None))


@broken("overridden-value", "warmup_steps would be ignored")
def a_schedule_of_ones_own(folder):
    model = bert()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    return trainer_for(
        folder, model=model, optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer))
    )


@broken(
    "overridden-value", "The optimizer you made has the learning rate 0.001; learning_rate=2e-05 is ignored"
)
def a_rate_beside_optimizer_cls_and_kwargs(folder, mended):
    return trainer_for(
        folder,
        learning_rate=2e-5,
        optimizer_cls_and_kwargs=(torch.optim.AdamW, {"lr": 2e-5} if mended else {}),
    )


@broken("overridden-value", "optim and adam_epsilon would be ignored")
def settings_beside_an_optimizer(folder, mended):
    model = bert()
    return trainer_for(
        folder,
        model=model,
        optim="adafactor",
        adam_epsilon=1e-6,
        optimizers=(None if mended else adamw(model), None),
    )


@broken("overridden-value", "adam_beta2 would be ignored")
def a_setting_beside_optimizer_cls_and_kwargs(folder):
    return trainer_for(folder, adam_beta2=0.98, optimizer_cls_and_kwargs=(torch.optim.AdamW, {"lr": 5e-5}))


@broken("overridden-value", "lr_scheduler_kwargs would be ignored")
def settings_beside_a_schedule(folder):
    model = bert()
    optimizer = adamw(model)
    kwargs = {
        "lr_scheduler_kwargs": {"power": 2},
        "optimizers": (optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)),
    }
    return trainer_for(folder, model=model, **NO_WARMUP, **kwargs)


@broken("overridden-value", "The schedule was made for another optimizer")
def a_schedule_of_the_optimizer_before(folder, mended):
    model = bert()
    before, optimizer = adamw(model), adamw(model)
    return trainer_for(
        folder,
        model=model,
        optimizers=(optimizer, get_linear_schedule_with_warmup(optimizer if mended else before, 0, 12)),
        **NO_WARMUP,
    )


@broken("overridden-value", "The schedule was made for another optimizer")
def a_schedule_without_its_optimizer(folder, mended):
    model = bert()
    optimizer = adamw(model)
    return trainer_for(
        folder,
        model=model,
        optimizers=(optimizer if mended else None, get_linear_schedule_with_warmup(optimizer, 0, 12)),
        **NO_WARMUP,
    )


def plain_loss(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum") / (
        len(labels) if num_items_in_batch is None else num_items_in_batch
    )


class DeafLoss(Trainer):
    """Looks at none of what Trainer knows about the loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


@broken("ignored-value", "label_smoothing_factor=0.3 does nothing: compute_loss_func computes the loss")
def smoothing_beside_a_loss_function(folder, mended):
    return trainer_for(folder, label_smoothing_factor=0.0 if mended else 0.3, compute_loss_func=plain_loss)


@broken("ignored-value", "label_smoothing_factor=0.3 does nothing: DeafLoss.compute_loss computes the loss")
def smoothing_beside_a_compute_loss(folder, mended):
    return trainer_for(folder, kind=Trainer if mended else DeafLoss, label_smoothing_factor=0.3)


@broken("ignored-value", "compute_loss_func is never called: DeafLoss.compute_loss computes the loss")
def a_loss_function_beside_a_compute_loss(folder, mended):
    return trainer_for(folder, kind=Trainer if mended else DeafLoss, compute_loss_func=plain_loss)


@broken("ignored-value", "compute_metrics is never called with prediction_loss_only=True")
def metrics_for_the_loss_only(folder, mended):
    never = {"save_strategy": "no", "load_best_model_at_end": False, "metric_for_best_model": None}
    return trainer_for(
        folder, prediction_loss_only=True, compute_metrics=None if mended else compute_metrics, **never
    )


@broken("early-stopping", "has no metric to watch", raises="AssertionError")
def early_stopping_without_a_metric(folder, mended):
    return trainer_for(
        folder,
        callbacks=[EarlyStoppingCallback(2)],
        **{}
        if mended
        else {"load_best_model_at_end": False, "metric_for_best_model": None, "greater_is_better": None},
    )


@broken("early-stopping", "needs evaluations, and eval_strategy is 'no'", raises="AssertionError")
def early_stopping_without_evaluations(folder, mended):
    never = {"eval_strategy": "no", "load_best_model_at_end": False}
    return trainer_for(folder, callbacks=[EarlyStoppingCallback(2)], **{} if mended else never)


@broken("early-stopping", "keeps the last model, not the best", "warning")
def early_stopping_that_keeps_the_last(folder, mended):
    return trainer_for(folder, callbacks=[EarlyStoppingCallback(2)], load_best_model_at_end=mended)


@broken("report-to", "report_to names 'wand'")
def a_tracker_misspelt(folder, mended):
    trainer = trainer_for(folder)
    trainer.args.report_to = [] if mended else ["wand"]  # Trainer itself refuses it on some versions
    return trainer


@broken("report-to", "report_to=None is no way")
def no_tracker_by_none(folder, mended):
    trainer = trainer_for(folder)
    trainer.args.report_to = [] if mended else [None]
    return trainer


@broken(
    "several-gpus",
    "2 GPUs are visible in one process: Trainer splits each batch over them, so a batch has 8 rows, not 4",
)
def two_gpus(folder, mended):
    trainer = trainer_for(folder)
    if not mended:  # a stand-in: there are no two GPUs here

        class Arguments(type(trainer.args)):
            n_gpu = 2
            train_batch_size = 8

        trainer.args.__class__ = Arguments
    return trainer


@broken("smoothing-float", "label_smoothing_factor=0.1 needs whole numbers", raises="gather")
def smoothing_of_floats(folder, mended):
    return trainer_for(
        folder,
        model=bert(TOPICS),
        label_smoothing_factor=0.0 if mended else 0.1,
        train=table(labels=VECTORS),
        **NEVER_EVALUATES,
        compute_metrics=None,
    )


@broken("predict-order", "return the rows grouped by length")
def grouped_by_length(folder, mended):
    return trainer_for(folder, train_sampling_strategy="random" if mended else "group_by_length")


# the folder, and what was there before


@broken("stale-checkpoints", "checkpoint(s) of an earlier run (checkpoint-5")
def old_checkpoints(folder, mended):
    (folder / "run" / "checkpoint-5").mkdir(parents=True)
    return trainer_for(folder, output_dir=str(folder / ("new" if mended else "run")))


def run_of_4_steps(folder, **changes):
    trainer = trainer_for(folder, **STREAMED)
    trainer.train()
    return trainer_for(folder, **STREAMED | {"resume_from_checkpoint": True} | changes)


@broken("resume-mismatch", "checkpoint-4 has done 4 steps, and this run has 4: it would end at once")
def a_finished_run_resumed(folder, mended):
    return run_of_4_steps(
        folder, resume_from_checkpoint=str(folder / "run" / "checkpoint-2") if mended else True
    )


@broken(
    "resume-mismatch",
    "checkpoint-2 was trained with learning_rate=5e-05, and that is what would be used, not 1e-05",
)
def another_learning_rate(folder, mended):
    return run_of_4_steps(
        folder,
        learning_rate=5e-5 if mended else 1e-5,
        resume_from_checkpoint=str(folder / "run" / "checkpoint-2"),
    )


@broken("resume-mismatch", "belongs to a run of 4 steps, this one has 8")
def a_longer_plan(folder):
    return run_of_4_steps(folder, max_steps=8)


@broken("resume-mismatch", "was trained in batches of 4, this run has 8")
def another_batch_size(folder):
    return run_of_4_steps(
        folder, per_device_train_batch_size=8, resume_from_checkpoint=str(folder / "run" / "checkpoint-2")
    )


@broken("resume-mismatch", "checkpoint-9 cannot be resumed")
def a_checkpoint_that_is_not_there(folder):
    return trainer_for(folder, resume_from_checkpoint=str(folder / "run" / "checkpoint-9"))


@broken("trained-twice", "has been trained for 12 steps by this trainer")
def the_same_trainer_again(folder, mended):
    trainer = trainer_for(folder, save_strategy="no", load_best_model_at_end=False)
    trainer.train()
    return trainer_for(folder) if mended else trainer


@broken("trained-twice", "has been trained since it was loaded")
def a_new_trainer_for_the_same_model(folder, mended):
    model = bert()
    trainer_for(
        folder, model=model, callbacks=[Watch()], output_dir=str(folder / "first")
    ).train()  # Watch alone remembers the weights
    return trainer_for(folder, model=bert() if mended else model)


@broken("trained-twice", "has been trained since it was loaded")
def preflight_before_both_runs(folder, mended):
    model = bert()
    first = trainer_for(folder, model=model, output_dir=str(folder / "first"))
    start = {name: value.clone() for name, value in model.state_dict().items()}
    preflight(first)
    first.train()
    if mended:
        model.load_state_dict(start)
    return trainer_for(folder, model=model)


@broken("trained-twice", "has been trained since it was loaded")
def folds_of_a_cross_validation(folder, mended):
    model, data = bert(), concatenate_datasets([table(), table(12, 1)])
    for fold in range(2):
        model = bert() if mended else model
        held_out = data.shard(2, fold)
        trainer = trainer_for(
            folder,
            model=model,
            train=data.shard(2, 1 - fold),
            held_out=held_out,
            output_dir=str(folder / str(fold)),
        )
        if fold == 0:
            preflight(trainer)
            trainer.train()
    return trainer


def freeze(model, *names):
    for name, parameter in model.named_parameters():
        if any(part in name for part in names):
            parameter.requires_grad_(False)
    return model


@broken("frozen", "All weights are frozen", "error", raises="does not require grad")
def everything_frozen(folder, mended):
    return trainer_for(folder, model=bert() if mended else freeze(bert(), ""))


@broken("frozen", "The classification head (classifier.weight, classifier.bias) is frozen")
def the_head_frozen(folder, mended):
    return trainer_for(folder, model=bert() if mended else freeze(bert(), "classifier"))


@broken("frozen", "of the weights are frozen, for example 'bert.embeddings")
def the_base_frozen(folder, mended):
    return trainer_for(folder, model=bert() if mended else freeze(bert(), "bert."))


@broken("frozen", "of the weights are frozen, for example 'bert.embeddings")
def half_frozen(folder, mended):
    return trainer_for(folder, model=bert() if mended else freeze(bert(), "embeddings"))


class SavedWithIt(torch.nn.Module):
    """What PEFT puts in the place of a module that is named in modules_to_save."""

    def __init__(self, module, adapter="default", on=True):
        super().__init__()
        self.original_module, self.adapter = module, adapter
        self.modules_to_save = torch.nn.ModuleDict({adapter: copy.deepcopy(module)}).requires_grad_(on)

    def forward(self, *args, **kwargs):
        return self.modules_to_save[self.adapter](*args, **kwargs)


class LowRank(torch.nn.Module):
    """What PEFT puts in the place of a layer that is named in target_modules."""

    def __init__(self, layer, adapter="default", on=True):
        super().__init__()
        self.base_layer, self.adapter = layer, adapter
        down = torch.nn.Linear(layer.in_features, 2, bias=False)
        up = torch.nn.Linear(2, layer.out_features, bias=False)
        self.lora_A = torch.nn.ModuleDict({adapter: down}).requires_grad_(on)
        self.lora_B = torch.nn.ModuleDict({adapter: up}).requires_grad_(on)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B[self.adapter](self.lora_A[self.adapter](x))


class LoraConfig(SimpleNamespace):
    """A stand-in for PEFT's, which need not be installed."""


class IA3Config(LoraConfig):
    pass


def with_adapter(model, *saved, target="query", adapter="default", config=LoraConfig, on=True):
    """Freeze a model, but for an adapter on the layers called `target` and the modules `saved`."""
    model.requires_grad_(False)
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if name in saved:
            setattr(model.get_submodule(parent), last, SavedWithIt(module, adapter, on))
        elif target and re.fullmatch(target, last):
            setattr(model.get_submodule(parent), last, LowRank(module, adapter, on))
    model.peft_config = {adapter: config(task_type=None, modules_to_save=list(saved) or None)}
    model.get_base_model = lambda: model
    return model


@broken(
    "frozen",
    "The classification head (classifier) is frozen, and not saved with the adapter: its random "
    "numbers would stay",
    "error",
)
def the_head_frozen_beside_an_adapter(folder, mended):
    return trainer_for(folder, model=with_adapter(bert(), *["classifier"] * mended))


@broken("frozen", "The classification head (score) is frozen, and not saved with the adapter", "error")
def the_head_of_gpt2_frozen_beside_an_adapter(folder, mended):
    return trainer_for(folder, model=with_adapter(gpt2(pad_token_id=0), *["score"] * mended, target=None))


@broken("frozen", "The classification head (classifier) is frozen, and not saved with the adapter", "error")
def the_head_of_a_checkpoint_without_one_beside_an_adapter(folder, mended):
    base = bert() if mended else bert().bert  # a head that the checkpoint has is no new one
    base.save_pretrained(folder / "base")
    model = BertForSequenceClassification.from_pretrained(folder / "base", **named())
    return trainer_for(folder, model=with_adapter(model))


@broken("frozen", "A part of the head (classifier) is frozen, and not saved with the adapter")
def the_last_layer_of_the_head_alone_beside_an_adapter(folder, mended):
    return trainer_for(
        folder, model=with_adapter(roberta(), "classifier" if mended else "classifier.out_proj")
    )


@broken("frozen", "A part of the head (classifier) is frozen, and not saved with the adapter")
def an_adapter_on_the_new_head(folder, mended):
    return trainer_for(
        folder,
        model=with_adapter(bert(), *["classifier"] * mended, target="query" if mended else "classifier"),
    )


@broken(
    "frozen", "The classification head (classifier) is trained, but not saved with the adapter", "warning"
)
def a_head_thawed_by_hand_beside_an_adapter(folder, mended):
    model = with_adapter(bert(), *["classifier"] * mended)
    if not mended:
        model.classifier.requires_grad_(True)
    return trainer_for(folder, model=model)


@broken("frozen", "All weights are frozen, the adapter's too", "error", raises="does not require grad")
def an_adapter_loaded_to_predict(folder, mended):
    return trainer_for(folder, model=with_adapter(bert(), "classifier", on=mended))


def xlnet():
    return small(XLNetForSequenceClassification, d_model=32, n_layer=1, n_head=2, d_inner=32)


@pytest.mark.parametrize(
    ("model", "settings", "fix"),
    [
        (
            bert,
            {},
            'LoraConfig(..., task_type="SEQ_CLS") with get_peft_model, or '
            'LoraConfig(..., modules_to_save=["classifier"])',
        ),
        (
            gpt2,
            {"config": IA3Config},
            'IA3Config(..., task_type="SEQ_CLS") with get_peft_model, or '
            'IA3Config(..., modules_to_save=["score"])',
        ),
        (xlnet, {}, 'LoraConfig(..., modules_to_save=["sequence_summary", "logits_proj"])'),
    ],
)
def test_the_fix_for_a_frozen_head_names_it(tmp_path, model, settings, fix):
    (finding,) = findings_of(
        trainer_for(tmp_path, model=with_adapter(model(), target="value", **settings)), "frozen"
    )
    assert (finding.level, finding.fix) == ("error", fix)


def test_a_task_type_that_was_given_or_that_nobody_reads_is_no_fix(tmp_path):
    by_task, built_in = with_adapter(bert()), with_adapter(bert())
    by_task.peft_config["default"].task_type = "SEQ_CLS"
    built_in._hf_peft_config_loaded = True  # model.add_adapter(...), which does not look at the task
    for model in (by_task, built_in):
        (finding,) = findings_of(trainer_for(tmp_path, model=model), "frozen")
        assert (finding.level, finding.fix) == ("error", 'LoraConfig(..., modules_to_save=["classifier"])')


def test_a_head_frozen_beside_an_adapter_is_not_called_random_where_the_checkpoint_is_gone(tmp_path):
    model = with_adapter(bert())
    model.config._name_or_path = str(tmp_path / "gone")
    (finding,) = findings_of(trainer_for(tmp_path, model=model), "frozen")
    assert finding.level == "warning"
    assert "its perhaps random numbers" in finding.message


@broken("head-reinitialised", "'classifier.bias' has the shape (3,) in the checkpoint and (2,) in the model")
def a_head_of_three_classes_thrown_away(folder, mended):
    bert(2 if mended else 3).save_pretrained(folder / "three")
    load = BertForSequenceClassification.from_pretrained
    model = load(folder / "three", ignore_mismatched_sizes=True, **named())
    return trainer_for(folder, model=model)


# the loss and the metrics


class OldLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class NewLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits, labels, reduction="mean" if num_items_in_batch is None else "sum"
        )
        loss = loss if num_items_in_batch is None else loss / num_items_in_batch
        return (loss, outputs) if return_outputs else loss


@broken("old-compute-loss", "OldLoss.compute_loss does not take num_items_in_batch", raises=NO_ITEMS)
def an_old_compute_loss(folder, mended):
    return trainer_for(folder, kind=NewLoss if mended else OldLoss)


def weighted(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / (
        num_items_in_batch or len(labels)
    )


@broken("old-compute-loss", "compute_loss_func does not take num_items_in_batch", raises=NO_ITEMS)
def an_old_loss_function(folder, mended):
    old = lambda outputs, labels: torch.nn.functional.cross_entropy(outputs["logits"], labels)  # noqa: E731
    return trainer_for(folder, compute_loss_func=weighted if mended else old)


ACCUMULATE = {"gradient_accumulation_steps": 3, "logging_strategy": "steps", "logging_steps": 1}


@broken(
    "ga-loss",
    "BertForSequenceClassification takes num_items_in_batch and ignores it, so nobody divides by the 3 "
    "accumulated batches",
)
def accumulated_gradients(folder, mended):
    model = bert()
    if mended:
        model.accepts_loss_kwargs = False
    return trainer_for(folder, model=model, **ACCUMULATE)


@broken("ga-loss", "GPT2ForSequenceClassification takes num_items_in_batch")
def accumulated_gradients_of_gpt2(folder, mended):
    model = gpt2(pad_token_id=0)
    if mended:
        model.accepts_loss_kwargs = False
    return trainer_for(folder, model=model, **ACCUMULATE)


@broken("ga-loss", "compute_loss takes num_items_in_batch and ignores it")
def accumulated_gradients_of_a_compute_loss(folder, mended):
    return trainer_for(folder, kind=NewLoss if mended else DeafLoss, **ACCUMULATE)


@broken("ga-loss", "compute_loss_func takes num_items_in_batch and ignores it")
def accumulated_gradients_of_a_loss_function(folder, mended):
    def blind(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(outputs["logits"], labels)

    return trainer_for(folder, compute_loss_func=weighted if mended else blind, **ACCUMULATE)


@broken("ga-loss", "BertForSequenceClassification takes num_items_in_batch and ignores it")
def accumulated_gradients_with_model_init(folder, mended):
    def fresh():
        model = bert()
        if mended:
            model.accepts_loss_kwargs = False
        return model

    return trainer_for(folder, model_init=fresh, **ACCUMULATE)


def metrics_case(says, function, raises, name):
    def build(folder, mended):
        return trainer_for(folder, compute_metrics=compute_metrics if mended else function)

    build.__name__ = name
    broken("metrics-shape", says, raises=raises)(build)


def odd_f1(prediction):
    from sklearn.metrics import f1_score

    return {"f1_macro": f1_score(prediction.label_ids, np.arange(len(prediction.label_ids)) % 3)}


class Odd(Exception):
    """An exception of no known kind."""


def raise_odd(prediction):
    raise Odd


metrics_case(
    "AttributeError",
    lambda p: {"f1_macro": p.predictions.argmx(-1)},
    "no attribute 'argmx'",
    "a_misspelt_method",
)
metrics_case("returns float", lambda p: 0.5, "float|TypeError|AttributeError", "a_number_for_metrics")
metrics_case("returns NoneType", lambda p: None, "NoneType|TypeError|AttributeError", "a_forgotten_return")
metrics_case(
    "returns tuple", lambda p: ("f1_macro", 0.5), "tuple|TypeError|AttributeError", "a_pair_for_metrics"
)
metrics_case("takes 0 positional arguments", lambda: {}, "positional argument", "no_parameter")
metrics_case("average='binary'", odd_f1, "average='binary'", "an_f1_of_two_classes")
metrics_case("Odd", raise_odd, "Odd", "an_odd_exception")
metrics_case(
    "could not be broadcast",
    lambda p: {"f1_macro": (p.predictions.argmax(0) == p.label_ids).mean()},
    "shape|broadcast",
    "the_wrong_axis",
)


@broken("metrics-shape", "predictions is a tuple", raises="no attribute 'argmax'")
def hidden_states_among_the_predictions(folder, mended):
    return trainer_for(
        folder,
        model=bert(output_hidden_states=not mended),
        compute_metrics=accuracy,
        metric_for_best_model="accuracy",
    )


@broken("metrics-shape", "returns an array as 'per_class'")
def an_array_among_the_metrics(folder, mended):
    per_class = 0.5 if mended else np.array([0.5, 0.5])
    return trainer_for(folder, compute_metrics=lambda _: {"f1_macro": 0.5, "per_class": per_class})


def odd_metric(value, says, raises="not JSON serializable|keys must be", **run):
    def build(folder, mended):
        return trainer_for(
            folder,
            compute_metrics=lambda prediction: {"f1_macro": 0.5, "extra": 0.5 if mended else value},
            **run,
        )

    build.__name__ = f"the_metric_{value!r}"
    broken("metrics-shape", says, raises=raises)(build)


odd_metric(np.array(0.5), "returns an array as 'extra'")
odd_metric(np.array([0.5]), "returns an array as 'extra'")
odd_metric(torch.tensor([0.5, 0.5]), "returns an array as 'extra'")
odd_metric([np.array(0.5)], "returns list as 'extra'")
odd_metric({"a": np.array([0.5])}, "returns dict as 'extra'")
odd_metric({(0, 1): 0.5}, "returns dict as 'extra'")
odd_metric(1j, "returns complex as 'extra'")
for undecided in (None, "good", [0.5, 0.6], {"a": 0.5}):
    best = {"metric_for_best_model": "extra", "load_best_model_at_end": True}
    odd_metric(
        undecided, "as 'extra', which decides what is kept", "not supported between|ambiguous|ufunc", **best
    )


@broken("metrics-shape", "returns an array as 'extra'", "warning")
def an_array_that_is_written_nowhere(folder, mended):
    metrics = lambda prediction: {"extra": 0.5 if mended else np.array([0.5])}  # noqa: E731
    return trainer_for(
        folder,
        compute_metrics=metrics,
        save_strategy="no",
        load_best_model_at_end=False,
        metric_for_best_model=None,
    )


def batched(function):
    def metrics(prediction, compute_result):
        score = function(prediction)
        return {"f1_macro": score} if compute_result else {}

    return metrics


@broken("metrics-shape", "'Tensor' object has no attribute 'argmx'", raises="argmx")
def a_misspelt_method_batch_by_batch(folder, mended):
    return trainer_for(
        folder,
        batch_eval_metrics=True,
        compute_metrics=batched(lambda p: 0.5 if mended else p.predictions.argmx(-1)),
    )


@broken("metrics-shape", "'Tensor' object has no attribute 'astype'", raises="astype")
def arrays_expected_batch_by_batch(folder, mended):
    right = batched(lambda p: (p.predictions.argmax(-1) == p.label_ids).float().mean().item())
    return trainer_for(
        folder,
        batch_eval_metrics=True,
        compute_metrics=right if mended else batched(lambda p: p.predictions.astype(float).mean()),
    )


def needs_rows(rows):
    return lambda p: {
        "f1_macro": float((p.predictions.argmax(-1) == p.label_ids)[np.arange(rows) % 2 == 0].mean())
    }


@broken("metrics-shape", "IndexError: boolean index did not match", raises="boolean index did not match")
def metrics_for_other_rows(folder, mended):
    return trainer_for(folder, compute_metrics=needs_rows(12 if mended else 13))


@broken("metrics-shape", "IndexError: boolean index did not match")
def metrics_for_other_rows_of_too_many_to_begin_with(folder):
    return trainer_for(
        folder,
        model=bert([f"c{i}" for i in range(2000)]),
        held_out=many_rows(0, 2_010),
        compute_metrics=needs_rows(2_011),
    )


@broken(
    "best-metric-missing",
    "metric_for_best_model='f1' is not among what an evaluation returns (accuracy, f1_macro, loss, "
    "predicted_classes)",
    raises="eval_f1",
)
def a_metric_of_another_name(folder, mended):
    return trainer_for(folder, metric_for_best_model="f1_macro" if mended else "f1")


@broken("best-metric-missing", "metric_for_best_model='loss'", raises="eval_loss")
def the_loss_of_two_evaluations(folder, mended):
    parts = {"one": table(12, 1), "two": table(12, 2)}
    return trainer_for(
        folder,
        held_out=parts,
        metric_for_best_model="one_loss" if mended else "loss",
        greater_is_better=False,
    )


@broken("best-metric-missing", "metric_for_best_model='f1'", raises="eval_f1")
def no_metrics_at_all(folder, mended):
    return trainer_for(
        folder,
        compute_metrics=compute_metrics if mended else None,
        metric_for_best_model="f1_macro" if mended else "f1",
    )


@broken("best-metric-missing", "metric_for_best_model='accuracy'", raises="eval_accuracy")
def a_metric_missing_for_save_strategy_best(folder):
    return trainer_for(folder, compute_metrics=None, metric_for_best_model="accuracy", save_strategy="best")


@broken("eval-memory", "numbers for each of 12 rows")
def hidden_states_kept(folder, mended):
    first = lambda logits, labels: logits[0] if isinstance(logits, tuple) else logits  # noqa: E731
    return trainer_for(
        folder, model=bert(output_hidden_states=True), preprocess_logits_for_metrics=first if mended else None
    )


class OddModel(BertForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None, **kwargs):
        raise RuntimeError("no such kernel")


@broken("dry-run", "the first forward pass fails: RuntimeError: no such kernel", raises="no such kernel")
def a_model_that_fails(folder):
    return trainer_for(folder, model=OddModel(bert().config))


def odd_collator(rows):
    raise Odd("no batch today")


@broken("dry-run", "making a batch of the training data fails: Odd: no batch today", raises="no batch today")
def a_collator_that_fails(folder):
    return trainer_for(folder, data_collator=odd_collator)


@broken("disk-full", "12 checkpoints of", raises=None)
def a_checkpoint_each_step(folder, mended):
    trainer = trainer_for(folder, **by_steps(1, save_total_limit=2 if mended else None))
    parameter = next(trainer.model.parameters())  # a stand-in: 12 checkpoints fill the disk twice
    size = shutil.disk_usage(folder).free // 6 // 4  # float32
    parameter.numel = lambda: size // 3
    return trainer


@broken("fp16-weights", "trainable weights are float16 and fp16=True")
def half_precision_weights_on_a_gpu(folder, kind=torch.float16):
    return on_a_gpu(trainer_for(folder, fp16=True, model=bert().to(kind)))


# --- each of them is found, its fix helps, and where the library complains, it complains --------------------


def name_of(case):
    return f"{case.id}: {case.build.__name__}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_found_with_the_values_at_hand(case, tmp_path):
    trainer, test = built(case, tmp_path, mended=False)
    report = preflight(trainer, test_dataset=test)
    matching = [
        finding for finding in report.findings if finding.id == case.id and finding.level == case.level
    ]
    assert any(case.says in finding.message for finding in matching), str(report)
    assert all(finding.fix for finding in report.findings)
    assert not [finding for finding in report.findings if finding.id == "check-failed"], str(report)
    if case.level == "error":
        with pytest.raises(PreflightError, match=case.id):
            report.raise_for_errors()
    if case.raises:
        if case.id in ("metrics-shape", "best-metric-missing"):
            trainer.args.max_steps = 1  # the first evaluation comes sooner
        with pytest.raises(Exception) as caught:  # noqa: B017, PT011 (its words are looked at)
            trainer.train()
        assert re.search(case.raises, f"{type(caught.value).__name__}: {caught.value}"), repr(caught.value)


TRAINED = {
    case.id: case for case in reversed(CASES) if case.fixes and case.raises
}  # the first case of each id


@pytest.mark.parametrize("case", [case for case in CASES if case.fixes], ids=name_of)
def test_gone_once_mended(case, tmp_path):
    """Every mended set-up loses the finding; one of each loud id is trained as well."""
    trainer, test = built(case, tmp_path, mended=True)
    report = preflight(trainer, test_dataset=test)
    assert not [
        finding
        for finding in report.findings
        if finding.id in (case.id, "dry-run", "check-failed") or finding.level == "error"
    ], str(report)
    if case is TRAINED.get(case.id):
        short = {"max_steps": 2, "save_strategy": "no", "load_best_model_at_end": False}
        for name, value in short.items():
            setattr(trainer.args, name, value)
        assert trainer.train().global_step == 2


def test_a_healthy_setup_has_no_finding(tmp_path):
    trainer = trainer_for(tmp_path)
    assert str(preflight(trainer, test_dataset=table(12, 2))) == "Nothing found."
    assert trainer.train().global_step == 12


def test_every_check_has_a_broken_setup():
    """A new check without one fails here."""
    looked_for = {entry.id for entry in CATALOGUE.values() if entry.find is not None}
    assert looked_for - {case.id for case in CASES} == set()


# --- the silent troubles are real ---------------------------------------------------------------------------


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_gradient_accumulation_logs_a_loss_four_times_too_large(tmp_path):
    """ga-loss: with accepts_loss_kwargs=False, the fix, it is ln 2 again."""
    logged = {}
    for accepts in (True, False):
        model = bert()
        if not accepts:
            model.accepts_loss_kwargs = False
        trainer = trainer_for(
            tmp_path / str(accepts),
            model=model,
            gradient_accumulation_steps=4,
            per_device_train_batch_size=2,
            **NEVER_EVALUATES,
        )
        trainer.train()
        logged[accepts] = losses(trainer)[0]
    assert logged[True] == pytest.approx(4 * math.log(2), rel=0.1)
    assert logged[False] == pytest.approx(math.log(2), rel=0.1)


def test_the_best_model_is_not_loaded_where_it_was_not_saved(tmp_path):
    """best-not-loaded: the best evaluation is made to be the first, at step 2, where nothing is saved."""
    for save_steps, loaded in ((4, False), (2, True)):
        scores = iter([0.9] + [0.1] * 20)
        steps = by_steps(2, save_steps=save_steps, max_steps=8, num_train_epochs=3)
        first_best = lambda _, scores=scores: {"f1_macro": next(scores)}  # noqa: E731
        trainer = trainer_for(tmp_path / str(save_steps), compute_metrics=first_best, **steps)
        trainer.train()
        assert (trainer.state.best_model_checkpoint is not None) == loaded


def test_the_perplexity_is_maximised(tmp_path):
    trainer = trainer_for(tmp_path, metric_for_best_model="perplexity", greater_is_better=None)
    assert trainer.args.greater_is_better is True


def test_an_evaluation_without_labels_has_no_loss(tmp_path):
    assert "eval_loss" not in labels_of_another_name_in_the_evaluation(tmp_path, False).evaluate()


def test_nan_is_logged_as_a_loss_of_zero(tmp_path):
    """nan-hidden, and what Watch says of the same run stands in the tests of Watch."""
    model = bert()
    torch.nn.init.constant_(model.classifier.weight, math.nan)
    trainer = trainer_for(
        tmp_path,
        model=model,
        logging_strategy="steps",
        logging_steps=1,
        max_steps=2,
        num_train_epochs=3,
        **NEVER_EVALUATES,
    )
    trainer.train()
    assert losses(trainer) == [0.0, 0.0]
    assert all(math.isnan(entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry)
    metrics = trainer.evaluate()
    assert math.isnan(metrics["eval_loss"])
    assert metrics["eval_accuracy"] == 0.5  # the share of class 0


def test_an_old_checkpoint_is_loaded_as_the_best(tmp_path):
    """stale-checkpoints, as far as it is cheap."""
    trainer = trainer_for(tmp_path, max_steps=2, num_train_epochs=3)
    trainer.train()
    again = trainer_for(tmp_path, max_steps=2, num_train_epochs=3)
    assert findings_of(again, "stale-checkpoints")
    assert not findings_of(
        trainer_for(tmp_path, max_steps=4, num_train_epochs=3, resume_from_checkpoint=True),
        "stale-checkpoints",
    )


def test_the_learning_rate_of_the_checkpoint_wins(tmp_path):
    trainer = another_learning_rate(tmp_path, False)
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    assert trainer.lr_scheduler.base_lrs == [5e-5, 5e-5]


def test_a_finished_run_resumed_does_nothing(tmp_path):
    trainer_for(tmp_path).train()
    trainer = trainer_for(tmp_path, resume_from_checkpoint=True)
    assert findings_of(trainer, "resume-mismatch")
    assert trainer.train(resume_from_checkpoint=True).training_loss == 0.0


def test_a_warmup_of_500_steps_never_gets_there(tmp_path):
    trainer = trainer_for(tmp_path, warmup_steps=500, logging_strategy="steps", logging_steps=1)
    trainer.train()
    assert (
        max(entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry)
        < 1.3e-6
    )


@pytest.mark.parametrize(
    "build",
    [an_optimizer_of_the_model_before, an_optimizer_with_a_rate_of_nothing, an_exponent_too_long],
    ids=lambda build: build.__name__,
)
def test_a_run_to_the_end_that_changes_nothing(tmp_path, build):
    trainer = build(tmp_path, mended=False)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert trainer.train().global_step == 12
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_smoothing_beside_a_loss_function_does_nothing(tmp_path):
    scores = [
        trainer_for(tmp_path, label_smoothing_factor=factor, compute_loss_func=plain_loss).evaluate()[
            "eval_loss"
        ]
        for factor in (0.0, 0.5)
    ]
    assert scores[0] == scores[1]


def test_metrics_for_the_loss_only_are_never_computed(tmp_path):
    assert "eval_f1_macro" not in metrics_for_the_loss_only(tmp_path, mended=False).evaluate()


def test_the_empty_tokenizer_knows_no_word(tmp_path):
    trainer = a_folder_without_a_tokenizer(tmp_path, False)
    assert len(trainer.processing_class) == 5
    assert set(trainer.train_dataset["input_ids"][0][1:-1]) == {trainer.processing_class.unk_token_id}


def test_one_output_gives_one_class(tmp_path):
    trainer = one_output_for_zeros_and_ones(tmp_path, False)
    assert set(trainer.predict(table(12, 1, labels=[0.0, 1.0] * 6)).predictions.argmax(axis=-1)) == {0}


def test_half_precision_weights_hardly_move(tmp_path):
    """dtype-auto: steps of 5e-5 are lost in bfloat16 for weights around 1, those of LayerNorm."""
    moved = {}
    for kind in (torch.bfloat16, torch.float32):
        model = bert().to(kind)
        before = model.bert.embeddings.LayerNorm.weight.detach().clone()
        trainer_for(tmp_path / str(kind), model=model, **NEVER_EVALUATES).train()
        moved[kind] = bool((model.bert.embeddings.LayerNorm.weight != before).any())
    assert moved == {torch.bfloat16: False, torch.float32: True}


def test_rows_come_back_in_another_order(tmp_path):
    """predict-order."""
    data = table(texts=[" ".join(WORDS[: 3 + i]) for i in range(12)], labels=[i % 2 for i in range(12)])
    trainer = trainer_for(tmp_path, train_sampling_strategy="group_by_length", per_device_eval_batch_size=4)
    random_order = trainer_for(tmp_path, per_device_eval_batch_size=4)
    assert random_order.predict(data).label_ids.tolist() == [0, 1] * 6
    sampler = trainer._get_eval_sampler(data)
    assert list(sampler) != list(range(12))


# --- a broken set-up never breaks preflight itself ----------------------------------------------------------


class Raises(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, place):
        raise OSError("the disk is gone")


class RaisesLater(Rows):
    def __getitem__(self, place):
        if place == 7:
            raise Odd("row 7 is broken")
        return super().__getitem__(place)


class NoLength(torch.utils.data.Dataset):
    def __len__(self):
        raise Odd("no length")

    def __getitem__(self, place):
        raise Odd("no row")


class Bare(torch.nn.Module):
    """A model without a config."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 2)

    def forward(self, input_ids=None, labels=None):
        logits = self.layer(input_ids[:, :1].float())
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("not even its name can be said")


def unspeakable(*_, **__):
    raise Unspeakable


def odd_transform(batch):
    raise Odd("the transform is broken")


NESTED = Dataset.from_dict(
    {
        "input_ids": [[2, 4, 3]] * 12,
        "label": [{"name": {"deep": [1, None]}}] * 12,
        "more": [[{"a": None}]] * 12,
    }
)
NOTHING = Dataset.from_dict({})
GARBAGE = {
    "rows that cannot be read": lambda: {"train": Raises()},
    "one row that cannot be read": lambda: {"train": RaisesLater(table(), torch.tensor)},
    "evaluation rows that cannot be read": lambda: {"held_out": Raises()},
    "a transform that fails": lambda: {"train": table().with_transform(odd_transform)},
    "a model without a config": lambda: {"model": Bare()},
    "a model without parameters": lambda: {"model": torch.nn.Identity()},
    "metrics of a bare exception": lambda: {"compute_metrics": raise_odd},
    "metrics of an exception without words": lambda: {"compute_metrics": unspeakable},
    "a collator of an exception without words": lambda: {"data_collator": unspeakable},
    "a collator that returns None": lambda: {"data_collator": lambda rows: None},
    "a collator that returns a list": lambda: {"data_collator": lambda rows: rows},
    "metrics of odd names": lambda: {"compute_metrics": lambda prediction: {0: 0.5, None: "much"}},
    "metrics that are no function": lambda: {"compute_metrics": 7},
    "a processing class that is no tokenizer": lambda: {"tokenizer": SimpleNamespace(save_pretrained=None)},
    "a text as processing class": lambda: {"tokenizer": "bert-base-uncased"},
    "a collator whose tokenizer is none": lambda: {"tokenizer": None, "data_collator": Odd()},
    "no rows anywhere": lambda: {"train": table().select([]), "held_out": table().select([])},
    "no columns anywhere": lambda: {"train": NOTHING, "held_out": NOTHING},
    "an empty list": lambda: {"train": [], "held_out": []},
    "an empty dict of evaluations": lambda: {"held_out": {}},
    "no training data": lambda: {"train": None},
    "no data at all": lambda: {"train": None, "held_out": None} | NEVER_EVALUATES,
    "nested structs": lambda: {"train": NESTED, "held_out": NESTED},
    "rows of nothing": lambda: {"train": [{}] * 12},
    "rows of None": lambda: {"train": [None] * 12},
    "rows of different columns": lambda: {
        "train": [{"input_ids": [2, 3], "label": 0}, {"ids": "x"}, {"label": [1]}] * 4
    },
    "rows that are tuples": lambda: {
        "train": torch.utils.data.TensorDataset(torch.ones(12, 3), torch.ones(12))
    },
    "ids that are None": lambda: {
        "train": Dataset.from_dict({"input_ids": [None] * 12, "label": [0, 1] * 6})
    },
    "ids of which some are None": lambda: {
        "train": Dataset.from_dict({"input_ids": [None, [2, 3]] * 6, "label": [0, 1] * 6})
    },
    "ids with None inside": lambda: {
        "train": Dataset.from_dict({"input_ids": [[2, None, 3]] * 12, "label": [0, 1] * 6})
    },
    "ids without any token": lambda: {
        "train": Dataset.from_dict({"input_ids": [[]] * 12, "attention_mask": [[]] * 12, "label": [0, 1] * 6})
    },
    "ids that are huge": lambda: {
        "train": Dataset.from_dict({"input_ids": [[2**62, -5, 3]] * 12, "label": [2**62, -(2**62)] * 6})
    },
    "a mask of another length": lambda: {
        "train": Dataset.from_dict(
            {"input_ids": [[2, 4, 3]] * 12, "attention_mask": [[1]] * 12, "label": [0, 1] * 6}
        )
    },
    "labels that are all None": lambda: {"train": table(labels=[None] * 24)},
    "labels that are all nan": lambda: {"train": table(labels=[math.nan] * 24)},
    "vectors with None": lambda: {"train": table(labels=[[0.0, None], [None, 1.0]] * 12)},
    "names that are no names": lambda: {
        "model": with_config(bert(), id2label={0: None, 1: 3}, label2id={None: 0})
    },
    "a config of odd values": lambda: {
        "model": with_config(bert(), id2label=None, label2id=None, problem_type="bogus", _name_or_path=7)
    },
    "optimizers that are none": lambda: {"optimizers": (SimpleNamespace(param_groups=[]), SimpleNamespace())},
    "an evaluation that is a number": lambda: {"held_out": 7},
    "a training set that is a text": lambda: {"train": "train.csv"},
}


def with_config(model, **values):
    for name, value in values.items():
        object.__setattr__(model.config, name, value)
    return model


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_yields_a_report(garbage, tmp_path):
    trainer = trainer_for(tmp_path, **GARBAGE[garbage]())
    report = preflight(trainer)
    assert isinstance(report, Report)
    assert str(report)
    assert report._repr_html_()
    fine = (
        "names that are no names",
        "an empty dict of evaluations",
        "no training data",
        "no data at all",
        "a model without a config",
        "optimizers that are none",
    )
    if garbage not in fine:
        assert report.errors, str(report)
    assert len(report.findings) < 12, str(report)


@pytest.mark.parametrize(
    "test_dataset",
    [7, "test.csv", [None], NESTED, Raises(), pd.DataFrame({"text": ["a"]}), DatasetDict(), {}, []],
    ids=lambda value: type(value).__name__,
)
def test_garbage_for_the_test_yields_a_report(test_dataset, tmp_path):
    assert str(preflight(trainer_for(tmp_path), test_dataset=test_dataset))


def test_a_dataset_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    report = preflight(trainer_for(tmp_path, train=RaisesLater(table(), torch.tensor)))
    assert [finding.message for finding in report.errors] == [
        "The training data cannot be read: RuntimeError: reading row 7: Odd: row 7 is broken"
    ]


def test_a_check_that_fails_is_a_finding_that_names_it(tmp_path, monkeypatch):
    def fails(setup):
        raise Odd("this check is broken")
        yield

    for broken_too in (False, True):
        monkeypatch.setitem(CATALOGUE, "no-logs", CATALOGUE["no-logs"]._replace(find=fails))
        trainer = trainer_for(tmp_path, model=bert(LABELS[::-1] if broken_too else LABELS))
        (finding,) = findings_of(trainer, "check-failed")
        assert "no-logs" in finding.message
        assert "this check is broken" in finding.message


def test_weights_that_were_thawed_are_not_trained(tmp_path):
    """preflight says that the head is frozen, the user thaws it and asks again."""
    trainer = trainer_for(tmp_path, model=freeze(bert(), "classifier"))
    preflight(trainer)
    trainer.model.requires_grad_(True)
    assert str(preflight(trainer)) == "Nothing found."


def test_a_new_head_is_not_training(tmp_path):
    trainer = trainer_for(tmp_path)
    preflight(trainer)
    trainer.model.classifier = torch.nn.Linear(32, 2)
    assert not findings_of(trainer, "trained-twice")


def test_float32_weights_are_fine_on_a_gpu(tmp_path):
    """The stand-in cannot run the model, so the fix of fp16-weights is looked at alone."""
    assert not findings_of(half_precision_weights_on_a_gpu(tmp_path, torch.float32), "fp16-weights")


# --- Watch: what only shows while it runs -------------------------------------------------------------------


def watched(folder, **changes):
    """A run of 24 steps that logs and evaluates often, watched."""
    steps = {"eval_strategy": "steps", "eval_steps": 4, "logging_strategy": "steps", "logging_steps": 2}
    watch = Watch()
    settings = NEVER_EVALUATES | steps | {"num_train_epochs": 4} | changes
    return trainer_for(folder, callbacks=[watch], **settings), watch


def stopped(trainer):
    with pytest.raises(WatchError) as caught:
        trainer.train()
    return caught.value.finding


@pytest.mark.parametrize("clip", [1.0, 0.0])
@pytest.mark.parametrize(
    "where",
    ["classifier.weight", "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.bias"],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_stopped_at_the_very_step(tmp_path, clip, where, value):
    model = bert()
    torch.nn.init.constant_(model.get_parameter(where), value)
    trainer, watch = watched(tmp_path, model=model, max_grad_norm=clip)
    finding = stopped(trainer)
    assert (finding.id, finding.level, trainer.state.global_step) == ("nan-hidden", "error", 0)
    assert "At step 1 the gradient is not finite" in finding.message
    assert "learning_rate=5e-06" in finding.fix
    assert watch.report.errors == [finding]


class Spoils(Trainer):
    """The gradient of the first layers alone is spoilt at step 3, as by an overflow; the loss is fine."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if self.state.global_step == 2:
            self.model.bert.embeddings.word_embeddings.weight.grad[5, 5] = math.inf
        return loss


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_spoilt_on_the_way_back_is_stopped_too(tmp_path, clip):
    trainer, _ = watched(tmp_path, kind=Spoils, max_grad_norm=clip)
    assert "At step 3 the gradient is not finite" in stopped(trainer).message
    assert trainer.state.global_step == 2


def test_a_rate_of_1e30_is_stopped(tmp_path):
    trainer, _ = watched(tmp_path, learning_rate=1e30, warmup_steps=0)
    assert stopped(trainer).id == "nan-hidden"
    assert trainer.state.global_step <= 2


def test_a_nan_label_is_stopped_at_its_step(tmp_path):
    """Regression, where Watch knows no yardstick for the loss."""
    trainer = a_rating_that_is_nan(tmp_path)
    trainer.add_callback(Watch())
    assert stopped(trainer).id == "nan-hidden"


def test_an_evaluation_of_nan_is_stopped(tmp_path):
    """The weights are spoilt after the training step, so only the evaluation can see it."""

    class Later(Trainer):
        def evaluate(self, *args, **kwargs):
            torch.nn.init.constant_(self.model.classifier.weight, math.nan)
            return super().evaluate(*args, **kwargs)

    trainer, _ = watched(tmp_path, kind=Later)
    finding = stopped(trainer)
    assert finding.id == "nan-hidden"
    assert "The evaluation at step 4 has a loss of nan" in finding.message


@pytest.mark.parametrize("rate", [1.0, 3.0, 10.0])
def test_a_run_that_diverges_is_stopped(tmp_path, rate):
    trainer, watch = watched(tmp_path, learning_rate=rate, warmup_steps=0, num_train_epochs=10)
    finding = stopped(trainer)
    assert finding.id == "lr-too-high"
    assert "The learning rate has been as high as" in finding.message
    assert "learning_rate=5e-" in finding.fix
    assert trainer.state.global_step <= 12
    assert watch.report.errors == [finding]


def test_a_model_that_says_one_class_only_is_stopped(tmp_path):
    """The head is pushed to one class so far that it cannot come back at this rate."""
    model = bert()
    with torch.no_grad():
        model.classifier.bias[0] = 8.0
    trainer, _ = watched(tmp_path, model=model)
    finding = stopped(trainer)
    assert finding.id == "lr-too-high"
    assert "the second in a row in which the model gives one class only" in finding.message
    assert trainer.state.global_step == 8


def test_overfitting_is_noted_and_the_run_goes_on(tmp_path):
    """Labels by the flip of a coin can only be learnt by heart."""
    draw = random.Random(0)
    coins = [draw.randint(0, 1) for _ in range(24)]
    trainer, watch = watched(
        tmp_path, train=table(labels=coins), learning_rate=1e-3, num_train_epochs=16, eval_steps=12
    )
    trainer.train()
    assert trainer.state.global_step == 96
    (finding,) = [finding for finding in watch.report.findings if finding.id == "overfitting"]
    assert finding.level == "warning"
    assert "evaluations ago" in finding.message
    assert "EarlyStoppingCallback" in finding.fix


def test_an_accuracy_of_the_commonest_class_is_noted(tmp_path):
    """imbalance, stage W."""
    trainer, watch = watched(
        tmp_path, train=table(60, labels=RARE), held_out=table(60, 1, labels=RARE), learning_rate=1e-3
    )
    trainer.train()
    (finding,) = [finding for finding in watch.report.findings if finding.id == "imbalance"]
    assert finding.level == "warning"
    assert "always giving the commonest class would have 0.917" in finding.message


def test_a_healthy_run_is_left_alone(tmp_path):
    trainer, watch = watched(tmp_path, learning_rate=1e-3, **LEARNABLE)
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9
    assert str(watch.report) == "Nothing found."


def learnable(rows, seed):
    return table(
        texts=[f"{'w1 w2' if i % 2 else 'w3 w4'} {text}" for i, text in enumerate(texts_of(rows, seed))]
    )


LEARNABLE = {"train": learnable(96, 0), "held_out": learnable(24, 1)}


def test_every_id_of_watch_is_tried():
    assert {entry.id for entry in CATALOGUE.values() if "W" in entry.stages} == {
        "nan-hidden",
        "lr-too-high",
        "overfitting",
        "imbalance",
    }


# --- check_saved: what was saved is what was trained --------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A trainer and the folder its model was saved to."""
    trainer, folder = trainer_for(tmp_path), tmp_path / "saved"
    trainer.save_model(str(folder))
    return trainer, folder


def one_error(report, id):
    (finding,) = report.findings
    assert (finding.id, finding.level) == (id, "error"), str(report)
    return finding.message


def test_what_was_saved_whole_has_no_finding(saved):
    trainer, folder = saved
    assert str(check_saved(folder, trainer)) == "Nothing found."
    assert str(check_saved(str(folder), trainer)) == "Nothing found."


def test_weights_of_another_step(saved):
    trainer, folder = saved
    trainer.args.max_steps = 4
    trainer.args.learning_rate = 1e-2
    trainer.train()
    assert "perhaps those of another step" in one_error(check_saved(folder, trainer), "saved-differs")


def test_labels_in_another_order(saved):
    trainer, folder = saved
    trainer.model.config.id2label = dict(enumerate(LABELS[::-1]))
    assert (
        "The model's labels are ['positive', 'negative'], in saved they are ['negative', 'positive']"
        in one_error(check_saved(folder, trainer), "saved-differs")
    )


def test_other_numbers_of_labels(saved):
    trainer, folder = saved
    bert(["a", "b", "c"]).save_pretrained(folder)
    report = check_saved(folder, trainer)
    assert {finding.id for finding in report.errors} == {"saved-differs"}
    assert "['a', 'b', 'c']" in str(report)


def test_no_tokenizer(saved):
    trainer, folder = saved
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    assert "holds no tokenizer" in one_error(check_saved(folder, trainer), "empty-tokenizer")


def test_a_smaller_tokenizer(saved):
    trainer, folder = saved
    tokenizer_of(WORDS[:100]).save_pretrained(folder)
    assert "knows 200 tokens, that in saved 104" in one_error(check_saved(folder, trainer), "empty-tokenizer")


def test_a_tokenizer_that_numbers_differently(saved):
    trainer, folder = saved
    tokenizer_of(WORDS[::-1]).save_pretrained(folder)
    assert "numbers its tokens differently" in one_error(check_saved(folder, trainer), "saved-differs")


def test_no_head(saved):
    trainer, folder = saved
    trainer.model.bert.save_pretrained(folder)
    report = check_saved(folder, trainer)
    assert "classifier" in str(report)
    assert {finding.id for finding in report.errors} == {"saved-differs"}


def test_no_folder_an_empty_one_and_no_weights(saved, tmp_path):
    trainer, folder = saved
    (tmp_path / "empty").mkdir()
    assert "no config.json in empty" in one_error(check_saved(tmp_path / "empty", trainer), "saved-differs")
    assert "no config.json in nowhere" in one_error(
        check_saved(tmp_path / "nowhere", trainer), "saved-differs"
    )
    (folder / "model.safetensors").unlink()
    assert "no safetensors weights in saved" in one_error(check_saved(folder, trainer), "saved-differs")


@pytest.mark.parametrize("kept", [0, 7, 1000, 0.5, 0.999])
def test_weights_cut_short(saved, kept):
    trainer, folder = saved
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(
        whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    )
    assert "saved cannot be compared" in one_error(check_saved(folder, trainer), "saved-differs")


def test_a_broken_config(saved):
    trainer, folder = saved
    (folder / "config.json").write_text("{")
    assert "saved cannot be compared" in one_error(check_saved(folder, trainer), "saved-differs")


def test_weights_of_nan(saved):
    """A model that is broken is not what one wants to find saved."""
    trainer, folder = saved
    torch.nn.init.constant_(trainer.model.classifier.weight, math.nan)
    trainer.save_model(str(folder))
    assert "answers nan or inf" in one_error(check_saved(folder, trainer), "nan-hidden")


def test_a_config_whose_labels_are_only_in_one_map(saved):
    trainer, folder = saved
    config = json.loads((folder / "config.json").read_text())
    config["label2id"] = {"negative": 1, "positive": 0}
    (folder / "config.json").write_text(json.dumps(config))
    assert "label2id" in one_error(check_saved(folder, trainer), "saved-differs")


def unnamed_tokenizer(folder, **changes):
    """A Trainer that knows no tokenizer: rows of one length, and a collator that does not pad."""
    parts = {
        "train": table(24, 0, padding="max_length", max_length=12),
        "held_out": table(12, 1, padding="max_length", max_length=12),
    }
    return trainer_for(
        folder, **parts | {"tokenizer": None, "data_collator": default_data_collator} | changes
    )


@pytest.mark.parametrize("model", [bert, lambda: roberta(vocab_size=3000)], ids=["bert", "roberta"])
def test_no_tokenizer_that_the_trainer_knew_of(tmp_path, model):
    trainer = unnamed_tokenizer(tmp_path, model=model())
    trainer.save_model(str(tmp_path / "saved"))
    (finding,) = check_saved(tmp_path / "saved", trainer).findings
    assert (finding.id, finding.level) == ("empty-tokenizer", "warning")
    assert "saved holds no tokenizer" in finding.message
    assert "tokenizer.save_pretrained(folder)" in finding.fix
    TOKENIZER.save_pretrained(tmp_path / "saved")
    assert str(check_saved(tmp_path / "saved", trainer)) == "Nothing found."


# adapters: written by hand, as peft writes them


def save_adapter(model, folder, base):
    """Write what peft writes: the trainable tensors, without the adapter's name."""
    (adapter,) = model.peft_config
    names = {
        name: "base_model.model." + name.replace(".modules_to_save", "").replace(f".{adapter}.", ".")
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    folder.mkdir(parents=True)
    save_file(
        {names[name]: p.detach().clone() for name, p in model.named_parameters() if name in names},
        folder / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base and str(base),
        "target_modules": ["query", "value"],
        "r": 2,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def base_folder(folder, head=False):
    """A checkpoint to put an adapter on: by itself, or with a head that was trained before."""
    model = bert()
    (model if head else model.bert).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def adapter_trainer(tmp_path, base=None, head=True, adapter="default"):
    """An adapter beside queries and values; with a head to train, unless the task_type was forgotten."""
    load = BertForSequenceClassification.from_pretrained
    model = bert() if base is None else load(base, **named())
    model = with_adapter(model, *["classifier"] * head, target="query|value", adapter=adapter)
    return trainer_for(tmp_path, model=model)


@pytest.mark.parametrize("adapter", ["default", "mine"])
@pytest.mark.parametrize("head_before", [False, True])
def test_an_adapter_saved_whole_has_no_finding(tmp_path, adapter, head_before):
    base, folder = base_folder(tmp_path / "base", head_before), tmp_path / "lora"
    trainer = adapter_trainer(tmp_path, base, adapter=adapter)
    save_adapter(trainer.model, folder if adapter == "default" else folder / adapter, base)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert str(check_saved(folder, trainer)) == "Nothing found."
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_an_adapter_on_a_head_that_was_trained_before_has_no_finding(tmp_path):
    base, folder = base_folder(tmp_path / "base", head=True), tmp_path / "lora"
    trainer = adapter_trainer(tmp_path, base, head=False)
    save_adapter(trainer.model, folder, base)
    assert str(check_saved(folder, trainer)) == "Nothing found."


@pytest.mark.parametrize(
    ("base", "says"),
    [(None, "no base is named there"), ("owner/not-here", "its base owner/not-here is not on this machine")],
)
def test_an_adapter_whose_base_is_not_here_cannot_be_compared_whole(tmp_path, base, says):
    trainer = adapter_trainer(tmp_path)
    save_adapter(trainer.model, tmp_path / "lora", base)
    (finding,) = check_saved(tmp_path / "lora", trainer).findings
    assert (finding.id, finding.level) == ("saved-differs", "warning")
    assert says in finding.message
    assert "merge_and_unload()" in finding.fix


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("thawed", [True, False])
def test_an_adapter_without_the_head(tmp_path, here, thawed):
    """Frozen at random numbers, or trained and not among the modules to save."""
    base = base_folder(tmp_path / "base") if here else None
    trainer, folder = adapter_trainer(tmp_path, base, head=False), tmp_path / "lora"
    save_adapter(trainer.model, folder, base)
    trainer.model.classifier.requires_grad_(thawed)
    (finding,) = check_saved(folder, trainer).findings
    assert (finding.id, finding.level) == ("saved-differs", "error")
    assert (
        "classifier.weight, classifier.bias of the trainer's model are not in the adapter lora"
        in finding.message
    )
    assert ("nor in its base" if here else "no base is named there") in finding.message
    assert 'modules_to_save=["classifier"]' in finding.fix


@pytest.mark.parametrize(
    "part",
    ["lora_B.default.weight", "classifier.modules_to_save.default.bias", "bert.embeddings.LayerNorm.weight"],
)
def test_an_adapter_or_a_base_of_another_step(tmp_path, part):
    base, folder = base_folder(tmp_path / "base"), tmp_path / "lora"
    trainer = adapter_trainer(tmp_path, base)
    save_adapter(trainer.model, folder, base)
    with torch.no_grad():
        next(p for name, p in trainer.model.named_parameters() if name.endswith(part)).add_(0.01)
    message = one_error(check_saved(folder, trainer), "saved-differs")
    assert message.startswith("1 tensor(s) of the trainer's model")
    assert part.split(".")[-2 if "default" not in part else 0] in message


def test_an_adapter_folder_that_is_none_of_the_trainers(tmp_path, saved):
    folder = tmp_path / "lora"
    adapted = adapter_trainer(tmp_path)
    save_adapter(adapted.model, folder, None)
    assert "the trainer's model has no adapter" in one_error(check_saved(folder, saved[0]), "saved-differs")
    weights = folder / "adapter_model.safetensors"
    save_file({"base_model.model.other.lora_A.weight": torch.ones(2, 2)}, weights)
    assert "has an adapter with other tensors" in one_error(check_saved(folder, adapted), "saved-differs")
    weights.unlink()
    assert "no adapter_model.safetensors in lora" in one_error(check_saved(folder, adapted), "saved-differs")


def test_an_adapter_of_nan(tmp_path):
    base, folder = base_folder(tmp_path / "base"), tmp_path / "lora"
    trainer = adapter_trainer(tmp_path, base)
    torch.nn.init.constant_(trainer.model.classifier.modules_to_save["default"].weight, math.nan)
    save_adapter(trainer.model, folder, base)
    assert "'base_model.model.classifier.weight' in lora holds nan" in one_error(
        check_saved(folder, trainer), "nan-hidden"
    )


def test_every_id_of_check_saved_is_tried():
    assert {entry.id for entry in CATALOGUE.values() if "S" in entry.stages} == {
        "saved-differs",
        "empty-tokenizer",
    }
