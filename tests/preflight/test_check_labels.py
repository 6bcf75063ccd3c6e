"""Checks of the labels."""

import datetime
import decimal
import functools
import math
from functools import partial

import numpy as np
import torch
from builders import (
    LABELS,
    NEVER_EVALUATES,
    STREAMED,
    TOKENIZER,
    UNCHOSEN,
    Rows,
    bert,
    each,
    many,
    pair,
    table,
    trainer_for,
    without_text,
)
from datasets import Dataset, List, Value
from scipy.stats import spearmanr
from setups import Setups, findings_of
from sklearn.metrics import f1_score, mean_squared_log_error
from transformers import DataCollatorWithPadding, Trainer, default_data_collator

SETUPS = Setups()
broken, healthy = SETUPS.broken, SETUPS.healthy
TENSOR = "excessive nesting|Unable to create tensor|expected sequence|invalid data type|too many dimensions"
SAME_SIZE = "must be the same as input size|same size as input"
OUT_OF_BOUNDS = "is out of bounds"
THREE = ["bad", "fair", "good"]
TOPICS = ["sports", "politics", "music"]


def in_turn(*values):
    """Labels for a table: the values by turns."""
    return lambda rows: [values[i % len(values)] for i in range(rows)]


def labels(*values, **changes):
    """A set-up whose training data have these labels by turns."""
    return lambda _: {"train": table(labels=in_turn(*values))} | changes


def cast(kind, *values):
    return lambda _: {"train": table(labels=in_turn(*values)).cast_column("label", Value(kind))}


# --- kinds of labels ----------------------------------------------------------------------------------------

label_type = partial(broken, "label-type")
label_type(
    "are texts ('negative', 'positive')",
    labels(*LABELS),
    mended=lambda _: {"train": table(labels=in_turn(*LABELS)).class_encode_column("label")},
    raises=TENSOR,
)
label_type("are texts ('0', '1')", labels("0", "1"))
missing = lambda row: None if row == 17 else row % 2
label_type("A label is missing in row 17 of the training data", labels(*map(missing, range(24))))
label_type("of the test data", lambda _: {"test": table(12, 2, labels=in_turn(*LABELS))})
label_type("Each label in the column 'label' of the training data is a list of texts", labels(["a"], ["b"]))
several = lambda: [without_text(row) | {"label": i % 2 or "0"} for i, row in enumerate(table())]
label_type("several kinds", lambda _: {"train": several()})
label_type("datetime", labels(datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2)))
label_type("Decimal", labels(decimal.Decimal(0), decimal.Decimal(1)))
ratings = [math.nan if i == 5 else i / 24 for i in range(24)]
NAN = {"train": table(labels=ratings), **NEVER_EVALUATES, "compute_metrics": None}
label_type("row 5 of the training data", lambda _: {"model": bert(1), **NAN})
num_labels_one = partial(broken, "num-labels-one")
num_labels_one(
    "num_labels=1 makes the model a regression",
    lambda _: {"model": bert(1)},
    mended=lambda _: {"model": bert(2)},
)
zeros_and_ones = labels(0.0, 1.0, **NEVER_EVALUATES)
num_labels_one(
    "only (0, 1)",
    lambda _: zeros_and_ones(_) | {"model": bert(1)},
    mended=lambda _: zeros_and_ones(_) | {"model": bert(1, problem_type="regression")},
)
stars = labels(1, 2, 3, 4, 5, **NEVER_EVALUATES)
num_labels_one("whole numbers (1, 2, 3, 4, 5)", lambda _: stars(_) | {"model": bert(1)})
booleans = labels(True, False, **NEVER_EVALUATES)
num_labels_one("num_labels=1 makes the model a regression", lambda _: booleans(_) | {"model": bert(1)})


def test_one_output_gives_one_class(tmp_path):
    trainer = trainer_for(tmp_path, model=bert(1), **labels(0.0, 1.0)(None))
    assert set(trainer.predict(table(12, 1, labels=in_turn(0.0, 1.0))).predictions.argmax(axis=-1)) == {0}


# --- their range --------------------------------------------------------------------------------------------

from_one = pair(24, 20, labels=in_turn(1, 2, 3, 4, 5))
label_range = partial(broken, "label-range")
label_range(
    "run from 1 to 5, but the model has num_labels=5, so they must run from 0 to 4: 4 rows (4, 9, 14, 19)",
    lambda _: {"model": bert(list("abcde")), **from_one},
    mended=lambda _: (
        {"model": bert(list("abcde"))}
        | each(from_one, lambda part: part.map(lambda row: {"label": row["label"] - 1}))
    ),
    raises=OUT_OF_BOUNDS,
)
label_range("from 0 to 2, but the model has num_labels=2", lambda _: {"model": bert(2), **pair(names=THREE)})
label_range("run from -1 to 1", labels(-1, 1))
label_range(
    "Labels of the test data run from -1 to 1", lambda _: {"test": table(12, 2, labels=in_turn(-1, 1, 0))}
)
second = lambda: {"one": table(12, 1), "two": table(12, 2, labels=in_turn(0, 1, 2))}
label_range("eval['two']", lambda _: {"held_out": second(), "metric_for_best_model": "one_f1_macro"})
to_two = table(labels=in_turn(0, 1, 2))
split_at_random = lambda rows: torch.utils.data.random_split(rows, [20, 4], torch.Generator().manual_seed(0))[
    0
]
for container in (
    Rows,
    lambda part: split_at_random(Rows(part)),
    lambda part: [without_text(row) for row in part],
):
    label_range("run from 0 to 2", lambda _, container=container: {"train": container(to_two)})
label_range("run from 0 to 2", lambda _: {"train": to_two.to_iterable_dataset(), **STREAMED})
on_the_fly = lambda batch: {**TOKENIZER(batch["text"]), "labels": batch["label"]}
read_on_the_fly = lambda train: {
    "train": train.with_transform(on_the_fly),
    "held_out": table(12, 1).remove_columns("text"),
    "remove_unused_columns": False,
}
label_range("run from 0 to 2", lambda _: read_on_the_fly(to_two))
healthy("tokenised on the fly", lambda _: read_on_the_fly(table()))
label_range("run from 1 to 2", cast("uint8", 1, 2))
label_range(
    "row 7 of the training data", labels(*[-100 if i == 7 else i % 2 for i in range(24)]), level="warning"
)
label_range("All labels of the training data are -100", labels(-100))


@functools.cache
def many_rows(last, rows=60_000):
    """Rows of a few words, all different in their first tokens, with labels 0 and 1 but for the last one."""
    ids = [[2, 4 + i % 190, 4 + i // 190 % 190, 4 + i // 36_100, 3] for i in range(rows)]
    columns = {"input_ids": ids, "attention_mask": [[1] * 5] * rows}
    return Dataset.from_dict(columns | {"label": [i % 2 for i in range(rows - 1)] + [last]})


label_range("row 59999", lambda _: {"train": many_rows(2)})
label_type("A label is missing in row 59999 of the training data", lambda _: {"train": many_rows(None)})
known = lambda p: {"f1_macro": float((p.predictions.argmax(-1) == p.label_ids)[p.label_ids != -100].mean())}
left_out = table(60, labels=[-100 if i % 10 == 0 else i % 2 for i in range(60)])
healthy("rows left out with -100", lambda _: {"train": left_out, "compute_metrics": known}, "label-range")
ten = ["ten", "nine", "eight", "seven", "six", "five", "four", "three", "two", "one"]
healthy("ten classes", lambda _: {"model": bert(ten), **pair(100, 50, names=ten)})
healthy(
    "whole numbers without names in the data",
    lambda _: {"model": bert(THREE), **pair(labels=in_turn(0, 1, 2))},
)


class FromZero(DataCollatorWithPadding):
    def __call__(self, rows):
        return super().__call__([row | {"label": row["label"] - 1} for row in rows])


healthy(
    "collator that counts the stars from 0",
    lambda _: {
        "model": bert(list("abcde")),
        "data_collator": FromZero(TOKENIZER),
        **pair(50, 50, labels=in_turn(1, 2, 3, 4, 5)),
    },
)


def encode_labels(rows):
    made = TOKENIZER.pad([{"input_ids": row["input_ids"]} for row in rows], return_tensors="pt")
    return made | {"labels": torch.tensor([{"good": 1, "bad": 0}[row["label"]] for row in rows])}


healthy(
    "collator that encodes the labels",
    lambda _: {"data_collator": encode_labels, **pair(labels=in_turn("good", "bad"))},
)

# --- types and shapes ---------------------------------------------------------------------------------------

label_float = partial(broken, "label-float")
label_float("reach the model as float32", labels(0.0, 1.0), mended=cast("int64", 0.0, 1.0), raises=SAME_SIZE)
label_float("reach the model as bool", labels(False, True))
label_float("reach the model as float", lambda _: {"train": table(labels=np.array([0, 1] * 12, np.float16))})
small_tensors = lambda value: torch.tensor(value, dtype=torch.int32)
padded = {"padding": "max_length", "max_length": 12}
label_float(
    "reach the model as int32",
    lambda _: (
        {"train": Rows(table(**padded), small_tensors), "data_collator": default_data_collator}
        | NEVER_EVALUATES
    ),
    raises="must be the same as input size|Int|scalar type",
)
label_float(
    "The labels of the evaluation data reach the model as float32",
    lambda _: {"held_out": table(12, 1, labels=in_turn(0.0, 1.0))},
    raises="Float|must be the same|scalar type",
)
as_floats = lambda value: torch.tensor(float(value))
label_float("reach the model as float32", lambda _: {"train": Rows(table(), as_floats)})
VECTORS = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
vectors = labels(*VECTORS, **NEVER_EVALUATES)
whole = labels([0, 1, 1], [1, 0, 0], **NEVER_EVALUATES)
MULTI = {"problem_type": "multi_label_classification"}
multi_label_ints = partial(broken, "multi-label-ints")
multi_label_ints(
    "vectors of whole numbers",
    lambda _: {"model": bert(TOPICS), **whole(_)},
    mended=lambda _: {"model": bert(TOPICS, **MULTI), **vectors(_)},
    raises="to match target batch_size",
)
multi_label_ints(
    "vectors of whole numbers",
    lambda _: {"model": bert(TOPICS, **MULTI), **whole(_)},
    raises="can't be cast to the desired output type",
)
multi_label_ints("the model has 2 outputs", lambda _: {"model": bert(2), **vectors(_)}, raises=SAME_SIZE)
one_short = labels(*VECTORS * 11, VECTORS[0], [1.0, 0.0], **NEVER_EVALUATES)
multi_label_ints(
    "row 23 of the training data have label vectors of 2 numbers",
    lambda _: {"model": bert(TOPICS), **one_short(_)},
    raises=TENSOR,
)
problem_type_stuck = partial(broken, "problem-type-stuck")
problem_type_stuck(
    "'multi_label_classification'",
    lambda _: {"model": bert(**MULTI)},
    mended=lambda _: {"model": bert(problem_type="single_label_classification")},
    raises=SAME_SIZE,
)
problem_type_stuck(
    "'regression'",
    lambda _: {"model": bert(problem_type="regression")},
    raises="size of tensor|dtype|Found dtype|must match|Float",
)
problem_type_stuck(
    "'single_label_classification'",
    lambda _: {"model": bert(TOPICS, problem_type="single_label_classification"), **vectors(_)},
    raises="multi-target|Expected|batch_size|cast|scalar type",
)


def met_float_labels_before(_):
    model = bert()
    model(torch.tensor([[2, 4, 3]]), labels=torch.tensor([[0.0, 1.0]]))
    return {"model": model}


problem_type_stuck("'multi_label_classification'", met_float_labels_before)


def multi_label_metrics(prediction):
    predicted = prediction.predictions > 0
    assert set(np.unique(prediction.label_ids)) <= {0.0, 1.0}
    return {"f1_macro": f1_score(prediction.label_ids, predicted, average="macro", zero_division=0)}


def vectors_at_random(share=0.5):
    return lambda rows: (np.random.default_rng(rows).random((rows, 4)) < share).astype(float).tolist()


MULTI_LABEL = {"compute_metrics": multi_label_metrics, **pair(labels=vectors_at_random())}
RARE = {"compute_metrics": multi_label_metrics, **pair(labels=vectors_at_random(0.1))}
float32 = lambda part: part.cast_column("label", List(Value("float32")))
healthy("multi-label", lambda _: {"model": bert(list("abcd"), **MULTI), **MULTI_LABEL})
healthy("multi-label with rare classes", lambda _: {"model": bert(list("abcd"), **MULTI), **RARE})
healthy(
    "multi-label with the problem type left to the model",
    lambda _: (
        {"model": bert(list("abcd")), "compute_metrics": multi_label_metrics}
        | each(pair(labels=vectors_at_random()), float32)
    ),
)

# --- regression, and losses of one's own --------------------------------------------------------------------


def drawn(rows):
    return np.random.default_rng(rows).normal(size=rows)


def regression(labels, metric, function, greater=True, **changes):
    """Chosen by the metric."""
    score = {"compute_metrics": lambda p: {metric: float(function(p.label_ids, p.predictions.squeeze(-1)))}}
    best = {"metric_for_best_model": metric, "greater_is_better": greater}
    return lambda _: {"model": bert(1), **pair(48, 24, labels=labels)} | score | best | changes


rank = lambda labels, predicted: spearmanr(predicted, labels).statistic
positive = lambda labels, predicted: mean_squared_log_error(labels, np.maximum(predicted, 0))
known_mae = lambda labels, predicted: np.nanmean(np.abs(predicted - labels))
in_stars = regression(in_turn(1.0, 2.0, 3.0, 4.0, 5.0), "spearman", rank)
healthy("regression", regression(drawn, "spearman", rank))
healthy("regression on stars", lambda _: in_stars(_) | {"model": bert(1, problem_type="regression")})
healthy(
    "regression that would not score negative numbers",
    regression(lambda rows: np.random.default_rng(rows).random(rows) * 5, "msle", positive, greater=False),
)
healthy(
    "sorted stream for a regression",
    lambda _: (
        regression(drawn, "spearman", rank)(_)
        | {"train": table(48, labels=np.sort(drawn(48))).to_iterable_dataset(), **STREAMED}
    ),
)
several_numbers = lambda rows: np.random.default_rng(rows).normal(size=(rows, 3)).tolist()
mae = {"compute_metrics": lambda p: {"mae": float(np.abs(p.predictions - p.label_ids).mean())}, **UNCHOSEN}
healthy(
    "regression on several numbers",
    lambda _: {
        "model": bert(["x", "y", "z"], problem_type="regression"),
        **pair(labels=several_numbers),
        **mae,
    },
)


def own_loss(function):
    """A Trainer with a loss of its own, of logits and labels."""

    class OwnLoss(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = function(outputs.logits, labels)
            return (loss, outputs) if return_outputs else loss

    return OwnLoss


def masked(logits, labels):
    known = ~labels.isnan()
    return torch.nn.functional.mse_loss(logits.squeeze(-1)[known], labels[known])


def more_than(logits, labels):
    """Four outputs for five stars, each "more than so many?" (Cao et al. 2020): the label 4 is right."""
    levels = (labels[:, None] > torch.arange(4)).float()
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, levels)


def some_unknown(rows):
    values = drawn(rows)
    values[::12] = np.nan
    return values


unknown = regression(some_unknown, "mae", known_mae, greater=False)
healthy("unknown ratings masked in the loss", lambda _: unknown(_) | {"kind": own_loss(masked)})
count_mae = {
    "compute_metrics": lambda p: {"mae": float(np.abs((p.predictions > 0).sum(1) - p.label_ids).mean())}
}
healthy(
    "ordinal loss",
    lambda _: (
        {
            "model": bert(list("abcd")),
            "kind": own_loss(more_than),
            **pair(50, 50, labels=in_turn(0, 1, 2, 3, 4)),
        }
        | count_mae
        | UNCHOSEN
    ),
)
shares = lambda rows: np.random.default_rng(rows).dirichlet([1, 1, 1], rows).tolist()
agree = {
    "compute_metrics": lambda p: {"agree": float((p.predictions.argmax(-1) == p.label_ids.argmax(-1)).mean())}
}
healthy(
    "soft labels with a loss of their own: vectors of probabilities in one column, no multi-label task",
    lambda _: (
        {"model": bert(THREE), "kind": own_loss(torch.nn.functional.cross_entropy), **pair(labels=shares)}
        | agree
        | UNCHOSEN
    ),
)

# --- classes in splits, and in their order ------------------------------------------------------------------

SORTED = [0] * 12 + [1] * 12
in_halves = table(labels=SORTED)
single_class_split = partial(broken, "single-class-split")
single_class_split(
    "All 12 rows of the training data are of one class, 'negative'",
    lambda _: {"train": in_halves.select(range(12))},
    mended=lambda _: {"train": in_halves.shuffle(seed=0).select(range(12))},
)
unshuffled = in_halves.train_test_split(test_size=6, shuffle=False)
single_class_split(
    "All 6 rows of the evaluation data are of one class, 'positive'",
    lambda _: {"train": unshuffled["train"], "held_out": unshuffled["test"]},
)
single_class_split(
    "rows of the test data are of one class", lambda _: {"test": table(12, 2, labels=in_turn(1))}
)
single_class_split("All 24 rows of the training data", lambda _: {"train": Rows(table(labels=in_turn(1)))})
single_class_split(
    "no row of 'good'", lambda _: {"model": bert(THREE), "train": table(names=THREE)}, level="warning"
)
single_class_split(
    "have the class 'good'",
    lambda _: {
        "model": bert(THREE),
        "train": table(labels=in_turn(0, 1)),
        "held_out": table(12, 1, names=THREE),
    },
    level="warning",
)


def words_in_rows(labels):
    """Rows of tokens, quickly, without texts."""
    ids = [[2, 4 + i % 190, 4 + i // 190 % 190, 3] for i in range(len(labels))]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * 4] * len(ids), "label": labels})


def stream(labels, size=None, **changes):
    """A stream of these labels, shuffled in a buffer of some size."""
    made = words_in_rows(labels).to_iterable_dataset()
    made = made.shuffle(seed=42, buffer_size=size) if size else made
    return lambda _: {"train": made} | STREAMED | changes


single_class_split(
    "The first 2,000 rows of the training data are of one class, 'negative', and the evaluation data have "
    "'negative', 'positive'",
    stream([0] * 2_500 + [1] * 2_500),
    mended=stream([0] * 2_500 + [1] * 2_500, 10_000),
)
single_class_split(
    "The first 2,000 rows of the training data are of one class, 'positive'",
    stream([1] * 2_500 + [0] * 2_500, 100),
)
single_class_split(
    "The first 24 rows of the training data are of one class, 'negative'",
    lambda _: {"train": table(labels=[0] * 24).to_iterable_dataset(), **STREAMED},
)
single_class_split(
    "The first 2,000 rows of the training data come class by class (2 changes of class in 2,000 rows; by "
    "chance 1,",
    lambda _: stream(
        [0] * 600 + [1] * 600 + [2] * 1_000, model=bert(THREE), held_out=table(12, 1, names=THREE)
    )(_),
)
single_class_split("come class by class (", stream([0] * 900 + [1] * 900, 90))
single_class_split(
    "come class by class (1 changes of class in 24 rows; by chance 12), and "
    "train_sampling_strategy='sequential' reads them as they stand",
    lambda _: {"train": in_halves, "train_sampling_strategy": "sequential"},
    mended=lambda _: {"train": in_halves.shuffle(seed=42), "train_sampling_strategy": "sequential"},
)
together = [0] * 500 + [1] * 6 + [0] * 494
single_class_split(
    "come class by class (2 changes of class in 1,000 rows; by chance 12)",
    lambda _: {"train": table(1_000, labels=together), "train_sampling_strategy": "sequential"},
    level="warning",
)
single_class_split(  # the table itself is mixed; sort() keeps it and notes the order
    "train_sampling_strategy='sequential' reads them as they stand",
    lambda _: {"train": table().sort("label"), "train_sampling_strategy": "sequential"},
)


class OwnSampler(Trainer):
    def _get_train_sampler(self, train=None):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class OwnLoader(Trainer):
    """DataLoader does not shuffle unless it is told to."""

    shuffle = False

    def get_train_dataloader(self):
        print("a loader of one's own")
        data, how = self.train_dataset.remove_columns("text"), {"collate_fn": self.data_collator}
        loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=self.shuffle, **how)
        return self.accelerator.prepare(loader)


class Shuffles(OwnLoader):
    shuffle = True


for kind, name in ((OwnSampler, "_get_train_sampler"), (OwnLoader, "get_train_dataloader")):
    says = f"{name} reads them as they stand"
    single_class_split(says, lambda _, kind=kind: {"kind": kind, "train": in_halves})
healthy(
    "sorted rows in a loader of one's own that shuffles", lambda _: {"kind": Shuffles, "train": in_halves}
)
healthy("sorted rows that Trainer shuffles", lambda _: {"train": table().sort("label")})
healthy(
    "mixed rows in their order",
    lambda _: (
        {"model": bert(THREE), **pair(names=THREE), "train_sampling_strategy": "sequential"}
        | {"train": table(80, labels=lambda n: np.random.default_rng(1).integers(0, 3, n))}
    ),
)
sorted_rows = many(5_000, 3).sort("label")
healthy(
    "sorted stream shuffled in a buffer",
    lambda _: (
        {
            "train": sorted_rows.to_iterable_dataset().shuffle(seed=1, buffer_size=5_000),
            "held_out": many(40, 4),
        }
        | STREAMED
    ),
)
healthy(
    "streams of the one class there is",
    lambda _: each(pair(labels=in_turn(1)), lambda part: part.to_iterable_dataset()) | STREAMED,
)
one_in_150 = lambda rows: [int(i % 150 == 77) for i in range(rows)]
healthy(
    "stream of a rare class, each row where chance has put it",
    lambda _: (
        {
            "train": table(900, 1, labels=one_in_150).to_iterable_dataset(),
            "held_out": table(150, 2, labels=one_in_150),
        }
        | STREAMED
    ),
)
in_blocks = [i // 10 % 2 for i in range(400)]
healthy(
    "stream in blocks of ten rows",
    lambda _: {"train": table(400, 2, labels=in_blocks).to_iterable_dataset(), **STREAMED},
)


class DrawsAnew(Trainer):
    def get_train_dataloader(self):
        self.train_dataset = self.train_dataset.select(range(len(self.train_dataset) // 2))
        return super().get_train_dataloader()


def test_a_loader_that_draws_its_rows_anew_is_not_moved_on(tmp_path):
    made = trainer_for(tmp_path, kind=DrawsAnew)
    assert not findings_of(made, "single-class-split")
    assert len(made.train_dataset) == 24


# --- names --------------------------------------------------------------------------------------------------

label_map_drift = partial(broken, "label-map-drift")
label_map_drift(
    "The same id means two things",
    lambda _: {"model": bert(LABELS[::-1])},
    mended=lambda _: {"model": bert(LABELS)},
)
label_map_drift("The same id means two things", lambda _: {"held_out": table(12, 1, names=LABELS[::-1])})
as_texts = each(pair(24, 24, labels=in_turn(1, 2, 5, 10)), lambda part: part.class_encode_column("label"))
label_map_drift("['1', '10', '2', '5']", lambda _: {"model": bert(["1", "2", "5", "10"]), **as_texts})


def by_map(order, seed=0):
    """Labels by a map of one's own, beside the words that they stand for."""
    words = ["positive", "negative"] * 12
    return table(24, seed, labels=[order.index(word) for word in words]).add_column("sentiment", words)


label_map_drift(
    "'negative' is label 1 for the evaluation data and 0 for the training",
    lambda _: {"model": bert(2), "train": by_map(LABELS), "held_out": by_map(LABELS[::-1], 1)},
)
label_map_drift(
    "'negative' is label 1 for the training data and 0 for the model",
    lambda _: {"train": by_map(LABELS[::-1]), "held_out": table(12, 1, labels=in_turn(0, 1))},
)
label_names = partial(broken, "label-names")
label_names(
    "predictions will say 'LABEL_0'", lambda _: {"model": bert(2)}, mended=lambda _: {"model": bert(LABELS)}
)


def with_maps(names, **maps):
    model = bert(names)
    for name, value in maps.items():
        setattr(model.config, name, value)
    return lambda _: {"model": model}


label_names("is not the inverse of id2label", with_maps(2, id2label=dict(enumerate(LABELS))))
abb = with_maps(list("abc"), id2label=dict(enumerate("abb")))
label_names("one name to several classes", lambda _: abb(_) | pair(labels=in_turn(0, 1, 2)))
ids_from_one = with_maps(2, id2label={1: "a", 2: "b"}, label2id={"a": 0, "b": 1})
label_names("id2label has the ids [1, 2]", lambda _: ids_from_one(_) | pair(labels=in_turn(0, 1)))
label_noise = partial(broken, "label-noise")
for names, says in (
    (["early", "late", "late\u200b"], r"'late', 'late\u200b'"),
    (["Pos", "neg", "pos", "pos "], "'Pos', 'pos', 'pos '"),
):
    label_noise(says, lambda _, names=names: {"model": bert(names), **pair(names=names)})
label_noise("'positive' (2)", labels(1, 1, *[0] * 22), mended=labels(1, 1, *[1] * 10, *[0] * 12))

test_found, test_gone_once_mended, test_left_alone = SETUPS.tests()
