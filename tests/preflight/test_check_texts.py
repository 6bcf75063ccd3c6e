"""Checks of the rows: containers, columns, token ids, texts, splits."""

import random
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from builders import (
    LABELS,
    NOT_SAVED,
    STREAMED,
    TOKENIZER,
    WORDS,
    Rows,
    bert,
    each,
    of_family,
    pair,
    roberta_tokenizer,
    table,
    texts_of,
    tiny,
    tokenizer_of,
    tokenizer_of_family,
    trainer_for,
    without_text,
)
from datasets import Dataset, DatasetDict, Value, concatenate_datasets
from setups import Setups, findings_of
from tokenizers import normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
    DataCollatorWithPadding,
    default_data_collator,
)

from utils.metrics import compute_metrics
from utils.models import find_model

SETUPS = Setups()
broken, healthy = SETUPS.broken, SETUPS.healthy
PAD = DataCollatorWithPadding(TOKENIZER)
TENSOR = "excessive nesting|Unable to create tensor|expected sequence"  # in the library's versions
TOO_LONG = "expanded size of the tensor|must match|index out of range|out of bounds"
NO_LOSS = "did not return a loss from the inputs|unexpected keyword argument 'labels'"
ENDS = "same number of <eos> tokens"
SUPPLY = "should supply an encoding"
INDEX = "index out of range in self"

# --- containers ---------------------------------------------------------------------------------------------

wrong_container = partial(broken, "wrong-container")
wrong_container(
    "train_dataset is a DataFrame",
    lambda _: {"train": table().to_pandas()},
    mended=lambda _: {"train": Dataset.from_pandas(table().to_pandas(), preserve_index=False)},
    raises="KeyError",
)
for says, name, build in [
    ("train_dataset is a DatasetDict", "train", lambda: DatasetDict(train=table(), validation=table(12, 1))),
    ("train_dataset is a DatasetDict", "train", DatasetDict),
    ("train_dataset is a Series", "train", lambda: pd.Series(texts_of(24))),
    ("train_dataset is a BatchEncoding", "train", lambda: TOKENIZER(texts_of(24))),
    ("eval_dataset is a BatchEncoding", "held_out", lambda: TOKENIZER(texts_of(24))),
    ("train_dataset is a dict", "train", lambda: table().to_dict()),
    ("train_dataset is a list", "train", lambda: texts_of(24)),
    ("eval_dataset is a DataFrame", "held_out", lambda: table(12, 1).to_pandas()),
    ("test_dataset is a DatasetDict", "test", lambda: DatasetDict(test=table(12, 2))),
]:
    wrong_container(says, lambda _, name=name, build=build: {name: build()})
wrong_container(
    "train_dataset is a zip", lambda _: {"train": zip(texts_of(24), [0, 1] * 12, strict=True), "max_steps": 4}
)
healthy("torch dataset", lambda _: each(pair(), Rows))
healthy("random split", lambda _: {"train": torch.utils.data.random_split(Rows(table()), [20, 4])[0]})
healthy("list of rows", lambda _: each(pair(), lambda part: [without_text(row) for row in part]))


def encodings(part):
    rows = [TOKENIZER(text) for text in part["text"]]
    for i, row in enumerate(rows):
        row["label"] = i % 2
    return rows


healthy("list of encodings", lambda _: each(pair(), encodings))
healthy("stream", lambda _: {"train": table().to_iterable_dataset(), **STREAMED})


class Generator(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([Rows(table())[i] for i in range(20)])


healthy("generator in torch", lambda _: {"train": Generator(), **STREAMED})
healthy("concatenated", lambda _: {"train": concatenate_datasets([table(20, 2), table(20, 3)])})
several = lambda _: {
    "held_out": {"a": table(12, 1), "b": table(12, 2)},
    "metric_for_best_model": "b_f1_macro",
}
healthy("several evaluation sets", several)

# --- columns ------------------------------------------------------------------------------------------------

with_labels = lambda part: part.add_column("labels", [1, 0] * (len(part) // 2))
PADDED = {"padding": "max_length", "max_length": 12}
BY_DEFAULT = {"data_collator": default_data_collator}
two_label_columns = partial(broken, "two-label-columns")
two_label_columns(
    "takes 'label' and loses 'labels'",
    lambda _: {"train": with_labels(table())},
    mended=lambda _: {"train": with_labels(table()).remove_columns("label")},
)
two_label_columns("The evaluation data have the columns", lambda _: {"held_out": with_labels(table(12, 1))})
two_label_columns(
    "takes 'labels' and loses 'label'",
    lambda _: {"train": with_labels(table(**PADDED)), "held_out": table(12, 1, **PADDED), **BY_DEFAULT},
)


def test_two_label_columns_are_silent(tmp_path):
    """Nothing raises: the model learns the column that the collator takes, and nobody hears of the other."""
    trainer = trainer_for(tmp_path, train=with_labels(table()), **NOT_SAVED)
    batch = trainer.data_collator([without_text(row) for row in trainer.train_dataset.select(range(4))])
    assert batch["labels"].tolist() == [0, 1, 0, 1]  # and not [1, 0, 1, 0], which `labels` says
    assert trainer.train().global_step == 12


for name in ("labels", "label_ids"):
    healthy(f"column {name}", lambda _, name=name: pair(column=name))
eval_labels_missing = partial(broken, "eval-labels-missing")
eval_labels_missing(
    "The evaluation data have no labels: none of its columns ('text', 'target', ",
    lambda _: {"held_out": table(12, 1, column="target")},
    mended=lambda _: {"held_out": table(12, 1, column="target").rename_column("target", "label")},
)
eval_labels_missing(
    "hides the column 'label'",
    lambda _: {"held_out": table(12, 1).with_format("torch", columns=["input_ids", "attention_mask"])},
)
eval_labels_missing(
    "The eval['two'] data have no labels: none of its columns ('text', 'target', ",
    lambda _: {
        "held_out": {"one": table(12, 1), "two": table(12, 2, column="target")},
        "metric_for_best_model": "one_f1_macro",
    },
)
NO_NAME = "is called label, labels or label_ids"
no_loss = partial(broken, "no-loss")
no_loss(
    NO_NAME,
    lambda _: pair(column="target"),
    mended=lambda _: each(pair(column="target"), lambda part: part.rename_column("target", "label")),
    raises=NO_LOSS,
)
no_loss(
    "set_format hides the column 'label'",
    lambda _: each(pair(), lambda part: part.with_format("torch", columns=["input_ids", "attention_mask"])),
)
columns = ["input_ids", "attention_mask", "label"]
healthy(
    "torch format of some columns",
    lambda _: each(pair(), lambda part: part.with_format("torch", columns=columns)),
)
healthy(
    "torch format",
    lambda _: each(pair(column="labels"), lambda part: part.remove_columns("text").with_format("torch")),
)
no_loss("BertModel computes no loss", lambda _: {"model": BertModel(bert().config)})
no_label = table().remove_columns(["text", "label"])
no_loss(NO_NAME, lambda _: {"train": list(no_label)})
no_loss(NO_NAME, lambda _: {"train": no_label.to_iterable_dataset(), **STREAMED})

# --- tokens -------------------------------------------------------------------------------------------------

BARE = ["text", "label"]
KEPT = {"remove_unused_columns": False}
not_tokenised = partial(broken, "not-tokenised")
not_tokenised(
    "The training data have no column 'input_ids'",
    lambda _: {"train": table().select_columns(BARE)},
    mended=lambda _: {"train": table().select_columns(BARE).map(lambda row: TOKENIZER(row["text"]))},
    raises=SUPPLY,
)
not_tokenised(
    "The evaluation data have no column 'input_ids'",
    lambda _: {"held_out": table(12, 1).select_columns(BARE)},
)
as_tensors = lambda row: dict(TOKENIZER(row["text"], return_tensors="pt"))
not_tokenised(
    "list of lists",
    lambda _: {"train": table().select_columns(BARE).map(as_tensors)},
    raises="excessive nesting|expanded size|too many values|shape",
)
uneven = [" ".join(WORDS[i : i + 3 + i % 7]) for i in range(24)]
not_tokenised(
    "collator in use does not pad",
    lambda _: {"train": table(texts=uneven), "tokenizer": None},
    mended=lambda _: {"train": table(texts=uneven), "tokenizer": None, "data_collator": PAD},
    raises=TENSOR,
)
not_tokenised(
    "hands the text column 'text' of the training data to the collator",
    lambda _: KEPT,
    mended=lambda _: KEPT | each(pair(), lambda part: part.remove_columns("text")),
)
by_transform = lambda change: lambda part: part.select_columns(BARE).with_transform(change)
not_tokenised(
    "no column 'input_ids'",
    lambda _: KEPT | each(pair(), by_transform(lambda batch: batch)),
    mended=lambda _: (
        KEPT | each(pair(), by_transform(lambda batch: TOKENIZER(batch["text"]) | {"labels": batch["label"]}))
    ),
)
not_tokenised(
    "no column 'input_ids'",
    lambda _: {"train": torch.utils.data.random_split(table().select_columns(BARE), [20, 4])[0]},
)
healthy("padding collator only", lambda _: {"tokenizer": None, "data_collator": PAD})
eights = DataCollatorWithPadding(TOKENIZER, pad_to_multiple_of=8)
of_5_to_12 = table(texts=texts_of(24, 0, 5, 12))
healthy("pads to a multiple of eight", lambda _: {"train": of_5_to_12, "data_collator": eights})
healthy(
    "rows of one length with the default collator",
    lambda _: each(pair(), lambda part: part.remove_columns("text")) | BY_DEFAULT | {"tokenizer": None},
)
healthy("rows padded beforehand", lambda _: pair(**PADDED) | BY_DEFAULT)


def tokenise_in_collator(rows):
    made = TOKENIZER([row["text"] for row in rows], padding=True, return_tensors="pt")
    return made | {"labels": torch.tensor([row["label"] for row in rows])}


healthy(
    "collator that tokenises",
    lambda _: (
        each(pair(), lambda part: part.select_columns(BARE))
        | {"tokenizer": None, "data_collator": tokenise_in_collator, **KEPT}
    ),
)


def pad_by_hand(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["label"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


healthy("function as collator", lambda _: {"data_collator": pad_by_hand, "train": table(texts=uneven)})


class Augmented(Rows):
    """Each time it is read, a row has lost some words; NumPy, Python and torch draw the random numbers."""

    def __getitem__(self, i):
        row = self.rows[i]
        drawn = lambda: np.random.rand() > 0.1 or random.random() > 0.9 or torch.rand(1) > 0.9
        ids = [2, *(word for word in row["input_ids"] if drawn()), 3]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": row["label"]}


healthy("augmented at random", lambda _: {"train": Augmented(table())})

# --- tokenizers ---------------------------------------------------------------------------------------------


def without_its_vocabulary(folder):
    """A folder with the weights only gives a tokenizer of five tokens."""
    model = BertForSequenceClassification.from_pretrained(find_model("minilm-l6"), num_hidden_layers=1)
    model.save_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return {"model": model, "tokenizer": tokenizer, **pair(tokenizer=tokenizer)}


empty_tokenizer = partial(broken, "empty-tokenizer")
empty_tokenizer("knows 5 tokens, the model 30,522", without_its_vocabulary)
foreign = [text.replace("w", "v") for text in texts_of(24)]
empty_tokenizer(
    "of all training tokens are the unknown token",
    lambda _: {"train": table(texts=foreign)},
    mended=lambda _: {"train": table(texts=[text.replace("v", "w") for text in foreign])},
)


def unnamed_and_empty(_):
    texts = [f"{i:05b}".replace("0", "no ").replace("1", "yes maybe ") for i in range(24)]
    data = table(texts=texts, tokenizer=tokenizer_of([]))
    changes = {"tokenizer": None, "data_collator": pad_by_hand, "model": bert(vocab_size=30_000)}
    return changes | {"train": data, "held_out": data.select(range(12))}


empty_tokenizer("No training token has an id above 3", unnamed_and_empty)


def test_the_empty_tokenizer_knows_no_word(tmp_path):
    tokenizer = without_its_vocabulary(tmp_path)["tokenizer"]
    assert len(tokenizer) == 5
    assert set(tokenizer("a good film")["input_ids"][1:-1]) == {tokenizer.unk_token_id}


def of_two_folders(mine, other=WORDS):
    def build(folder):
        for name, words in (("mine", mine), ("other", other)):
            tokenizer_of(words).save_pretrained(folder / name)
        bert().save_pretrained(folder / "mine")
        tokenizer = AutoTokenizer.from_pretrained(folder / "other")
        model = AutoModelForSequenceClassification.from_pretrained(folder / "mine")
        return {"model": model, "tokenizer": tokenizer, **pair(tokenizer=tokenizer)}

    return build


tokenizer_mismatch = partial(broken, "tokenizer-mismatch")
tokenizer_mismatch(
    "and they number words differently: 'w0' is 4 for one and 199 for the other", of_two_folders(WORDS[::-1])
)
healthy("model and tokenizer from two copies", of_two_folders(WORDS))
larger = tokenizer_of([f"w{i}" for i in range(296)])
tokenizer_mismatch(
    "hold the token id 299, but the model knows 200 tokens (0 to 199)",
    lambda _: {
        "tokenizer": larger,
        "train": table(texts=[f"{text} w295" for text in texts_of(24)], tokenizer=larger),
    },
    raises=INDEX,
)


def added(*tokens, special=(), resized=False, **changes):
    """Tokens added to the tokenizer; and to the model, if `resized`."""
    tokenizer, model = tokenizer_of(), bert()
    tokenizer.add_tokens(list(tokens))
    for token in special:
        tokenizer.add_special_tokens(
            token if isinstance(token, dict) else {"additional_special_tokens": [token]}, False
        )
    if resized:
        model.resize_token_embeddings(len(tokenizer))
    return {"tokenizer": tokenizer, "model": model} | changes


tokenizer_mismatch(
    "The tokenizer knows 202 tokens, the model 200: a text with one of the others stops",
    lambda _: added("@user", "https"),
    mended=lambda _: added("@user", "https", resized=True),
)
tokenizer_mismatch(
    "The tokenizer knows 201 tokens, the model 200: a text with one of the others stops",
    lambda _: added(special=[{"pad_token": "<pad>"}]),
)
tokenizer_mismatch("The tokenizer knows 202 tokens", lambda _: added("@user", special=["<image>"]))


def picture_in_a_text(_):
    setup = added(special=["<image>"])
    return setup | {"train": table(texts=[*texts_of(23), "w1 <image> w3"], tokenizer=setup["tokenizer"])}


tokenizer_mismatch("hold the token id 200, but the model knows 200 tokens", picture_in_a_text)
tokenizer_mismatch(
    "No row has one of the others ('<image>', '<sound>')",
    lambda _: added(special=["<image>", "<sound>"]),
    level="warning",
)
minus_one = lambda row: {"input_ids": [*row["input_ids"], -1], "attention_mask": [*row["attention_mask"], 0]}
tokenizer_mismatch("hold the token id -1", lambda _: {"train": table().map(minus_one)})
tokenizer_mismatch(
    "The test data hold the token id 250",
    lambda _: {"test": table(12, 2).map(lambda row: {"input_ids": [2, 250, 3], "attention_mask": [1, 1, 1]})},
)


def loaded_and_resized(folder):
    bert().save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.add_tokens(["@user"])
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    model.resize_token_embeddings(len(tokenizer))
    return {"model": model, "tokenizer": tokenizer}


healthy("loaded from a folder and resized", loaded_and_resized)

# --- special tokens in texts --------------------------------------------------------------------------------

inside = texts_of(24)
inside[3], inside[20] = "w5 [CLS] w6 [SEP] w7", "w8 [SEP] w9"
special_in_text = partial(broken, "special-in-text")
special_in_text(
    "2 rows (3, 20) of the training data hold '[CLS]', '[SEP]' within the text, for example "
    "'w5 [CLS] w6 [SEP] w7'",
    lambda _: {"train": table(texts=inside)},
    mended=lambda _: {"train": table(texts=inside, split_special_tokens=True)},
)
special_in_text(
    "row 7 of the evaluation data hold '[SEP]' within the text, for example ids [2, ",
    lambda _: {
        "held_out": table(texts=[*texts_of(7, 1), "w8 [SEP] w9", *texts_of(4, 3)]).remove_columns("text")
    },
)


def struck(single="<s> $A </s>", used=(("<s>", 4), ("</s>", 5))):
    """A tokenizer whose beginning and end are written as HTML strikes through."""
    made = tokenizer_of(["<s>", "</s>", *WORDS[:194]])
    processor = processors.TemplateProcessing(single=single, special_tokens=list(used))
    made.backend_tokenizer.post_processor = processor
    made.add_special_tokens(
        {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    )
    return made


STRUCK = struck()
BART = {"pad_token_id": 0, "bos_token_id": 4, "eos_token_id": 5, "decoder_start_token_id": 5}


def first_output(prediction):
    if not hasattr(prediction, "_replace"):
        return {"f1_macro": 0.5}
    return compute_metrics(prediction._replace(predictions=prediction.predictions[0]))


def with_ends(family, config, train, **how):
    data = {"train": table(texts=train, tokenizer=STRUCK, **how), "held_out": table(12, 1, tokenizer=STRUCK)}
    model = tiny(family=family, **config)
    return {
        "model": model,
        "tokenizer": STRUCK,
        "compute_metrics": first_output,
        "per_device_train_batch_size": 24,
    } | data


ended = [text.replace("w1", "w") for text in texts_of(24)]
ended[9] = "w1 w2 <s> w3 </s> w4"
for family, config in (("Bart", BART), ("T5", {"eos_token_id": 5, "pad_token_id": 0})):
    special_in_text(
        "row 9 of the training data have another number of end tokens ('</s>') than the others, for example "
        "'w1 w2 <s> w3 </s> w4'",
        lambda _, family=family, config=config: with_ends(family, config, ended),
        mended=lambda _, family=family, config=config: with_ends(
            family, config, ended, split_special_tokens=True
        ),
        level="error",
        raises=ENDS,
    )


def cut_by_hand(_):
    """The cut takes the end token along."""
    setup = with_ends("Bart", BART, [*texts_of(5), " ".join(WORDS[:30]), *texts_of(18, 3)])
    cut = lambda row: {name: row[name][:12] for name in ("input_ids", "attention_mask")}
    return setup | {"train": setup["train"].map(cut)}


special_in_text("row 5 of the training data have another number of end tokens", cut_by_hand, level="error")
begins = struck("<s> $A", [("<s>", 4)])
special_in_text(
    "row 23 of the training data hold '</s>' within the text, for example",
    lambda _: {"tokenizer": begins, "train": table(texts=[*texts_of(23), "w8 w9 </s>"], tokenizer=begins)},
)


@pytest.mark.parametrize("texts_too", [True, False])
def test_single_texts_and_pairs_together_are_no_marks_in_texts(tmp_path, texts_too):
    texts = zip(texts_of(24, 0), texts_of(24, 3), strict=True)
    rows = [TOKENIZER(a, *[b] * (i % 3 == 0)) | {"text": a, "label": i % 2} for i, (a, b) in enumerate(texts)]
    data = Dataset.from_list([dict(row) for row in rows])
    data = data if texts_too else data.remove_columns("text")
    assert findings_of(trainer_for(tmp_path, train=data), "special-in-text") == []


def test_the_fix_for_special_tokens_is_one_that_this_tokenizer_heeds(tmp_path):
    (heeds,) = findings_of(trainer_for(tmp_path, train=table(texts=inside)), "special-in-text")
    assert heeds.fix.startswith("tokenizer(..., split_special_tokens=True), where you predict as well")
    tokenizer = tokenizer_of()
    tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # now '[SEP]' is a word
    data = table(texts=[*texts_of(23), "w8 [SEP] w9"], tokenizer=tokenizer)
    (does_not,) = findings_of(trainer_for(tmp_path, tokenizer=tokenizer, train=data), "special-in-text")
    assert "text.replace('[SEP]', ' ') before tokenising (split_special_tokens=True does not" in does_not.fix


def in_two_splits(train, held_out, tokenizer=TOKENIZER, **how):
    """Some texts are given, the others are different ones; labels by turns."""
    parts = {
        "train": [*train, *texts_of(56 - len(train), 1)],
        "held_out": [*held_out, *texts_of(40 - len(held_out), 2)],
    }
    data = each(parts, lambda texts: table(texts=texts, tokenizer=tokenizer, **how))
    return {"model": tiny(vocab_size=len(tokenizer)), "tokenizer": tokenizer} | data


def in_pairs_of(family, every):
    """Pairs of texts, but for one row in `every`, which is a single text."""
    setup = of_family(family)
    parts = {}
    for name, seed, rows in (("train", 1, 56), ("held_out", 2, 24)):
        first = texts_of(rows, seed)
        second = [text if i % every else None for i, text in enumerate(texts_of(rows, seed + 2))]
        encoded = [setup["tokenizer"](*texts) for texts in zip(first, second, strict=True)]
        columns = {name: [row[name] for row in encoded] for name in ("input_ids", "attention_mask")}
        labels = [i % 2 for i in range(rows)]
        parts[name] = Dataset.from_dict({"first": first, "second": second, "label": labels, **columns})
    return setup | parts


def nli(premises, hypotheses):
    columns = {"premise": premises, "hypothesis": hypotheses, "label": [i % 3 for i in range(len(premises))]}
    return Dataset.from_dict(columns | dict(TOKENIZER(premises, hypotheses)))


def sentence_pairs(_):
    """The same premises in both splits, with other hypotheses, and with all three labels, as in NLI data."""
    premises, hypotheses = [text for text in texts_of(10, 1) for _ in range(3)], texts_of(60, 2)
    data = {"train": nli(premises, hypotheses[:30]), "held_out": nli(premises, hypotheses[30:])}
    return data | {"model": tiny(["yes", "no", "perhaps"])}


masking = tokenizer_of(mask_token="[MASK]")
odd = ["w3 [MASK] w4", "<b> w5 </b> w6", "w7 [sic] w8", "w9 [UNK] w10"]
joined = [f"{first} [SEP] {second}" for first, second in zip(texts_of(96, 1), texts_of(96, 2), strict=True)]
healthy("sentence pairs", sentence_pairs)
healthy("pairs of RoBERTa with two ends in the middle", lambda _: in_pairs_of("Roberta", 100))
healthy("pairs among single texts", lambda _: in_pairs_of("Roberta", 3))
healthy("markup, masks and padding in texts", lambda _: in_two_splits(odd, ["w11 [PAD] w12"], masking))
healthy("turns joined by the separator in every text", lambda _: in_two_splits(joined[:56], joined[56:]))
healthy("rows without special tokens", lambda _: in_two_splits([], [], add_special_tokens=False))
healthy(
    "strike-through that RoBERTa takes for ends",
    lambda _: (
        of_family("Roberta")
        | {"train": table(texts=["<s> w3 </s> w4", *texts_of(23)], tokenizer=roberta_tokenizer())}
    ),
    "special-in-text",
)

# --- lengths ------------------------------------------------------------------------------------------------

LONG = [*texts_of(23), " ".join(WORDS[:90])]
too_long = partial(broken, "too-long")
too_long(
    "has 92 tokens, but the model has 64 positions: row 23",
    lambda _: {"train": table(texts=LONG, max_length=128)},
    mended=lambda _: {"train": table(texts=LONG, max_length=64)},
    raises=TOO_LONG,
)
unlimited = tokenizer_of(model_max_length=int(1e30))
too_long("row 23", lambda _: {"train": table(texts=LONG, tokenizer=unlimited)})
too_long(
    "The longest row of the evaluation data has 92 tokens",
    lambda _: {"held_out": table(texts=[*texts_of(11, 1), LONG[-1]], max_length=128)},
)
roberta = lambda: tiny(family="Roberta", max_position_embeddings=66, pad_token_id=0)
too_long(
    "has 66 tokens, but the model has 65 positions: row 23",
    lambda _: {"model": roberta(), "train": table(texts=LONG, max_length=66)},
    mended=lambda _: {"model": roberta(), "train": table(texts=LONG, max_length=65)},
)
gpt2 = lambda **config: tiny(family="GPT2", **config)
too_long(
    "has 92 tokens, but the model has 64 positions: row 23",
    lambda _: {"model": gpt2(pad_token_id=0), "train": table(texts=LONG, max_length=128)},
)
padding_token = partial(broken, "pad-token")
padding_token(
    "The tokenizer has no padding token",
    lambda _: {"model": gpt2(), "tokenizer": tokenizer_of(pad_token=None)},
    mended=lambda _: {"model": gpt2()},
    raises="does not have a padding token",
)
ONLY_COLLATOR = {"tokenizer": None, "data_collator": PAD}
padding_token(
    "config.pad_token_id is None",
    lambda _: {"model": gpt2(), **ONLY_COLLATOR},
    mended=lambda _: {"model": gpt2(pad_token_id=0), **ONLY_COLLATOR},
    raises="Cannot handle batch sizes > 1 if no padding token is defined",
)
padding_token(
    "The tokenizer pads with 0, the model's config says 7",
    lambda _: {"model": gpt2(pad_token_id=7), **ONLY_COLLATOR},
)
gpt2_itself = tokenizer_of_family("GPT2")
healthy(
    "decoder whose config learns its padding from Trainer",
    lambda _: {
        "model": gpt2(vocab_size=len(gpt2_itself)),
        "tokenizer": gpt2_itself,
        **pair(tokenizer=gpt2_itself),
    },
)
growing = [" ".join(random.Random(i).choices(WORDS, k=6 + i)) for i in range(24)]
truncation = partial(broken, "truncation")
truncation(
    "have exactly 12 tokens, the most there are: they were cut",
    lambda _: {"train": table(texts=growing, max_length=12)},
    mended=lambda _: {"train": table(texts=growing, max_length=64)},
)
truncation("they were cut", lambda _: {"train": table(texts=growing, max_length=16).remove_columns("text")})
blank = texts_of(24)
blank[3], blank[9] = "", "  \n"
empty_text = partial(broken, "empty-text")
empty_text(
    "2 rows (3, 9) of the training data hold no word",
    lambda _: {"train": table(texts=blank)},
    mended=lambda _: {"train": table(texts=blank).filter(lambda row: (row["text"] or "").strip())},
)
empty_text(
    "row 9 of the evaluation data",
    lambda _: {"held_out": table(texts=[*texts_of(9, 1), "", *texts_of(2, 3)]).remove_columns("text")},
)
padding_waste = partial(broken, "padding-waste")
padding_waste(
    "all rows are padded to 64 tokens",
    lambda _: {"train": table(padding="max_length", max_length=64)},
    mended=lambda _: {"train": table(max_length=64)},
)
to_the_maximum = DataCollatorWithPadding(TOKENIZER, padding="max_length", max_length=64)
padding_waste("all rows are padded to 64 tokens", lambda _: {"data_collator": to_the_maximum})
one_long = [" ".join(random.Random(i).choices(WORDS, k=4 if i % 8 else 60)) for i in range(64)]
padding_waste(
    "batches of 8 are as long as their longest row",
    lambda _: {"train": table(texts=one_long), "per_device_train_batch_size": 8},
)
a_few_long = [text for i in range(6) for text in (*texts_of(12, i, 4, 12), *texts_of(1, 9 + i, 34, 36))]
healthy("texts that differ in length", lambda _: {"train": table(texts=a_few_long)})
very_short = Dataset.from_dict({"text": WORDS[:100], "label": [0, 1] * 50, **TOKENIZER(WORDS[:100])})
healthy(
    "very short texts",
    lambda _: {"train": very_short.select(range(70)), "held_out": very_short.select(range(70, 100))},
)

# --- one text in two splits ---------------------------------------------------------------------------------


def held_out_with(*texts, tokenizer=TOKENIZER, seed=1):
    return table(texts=[*texts_of(12 - len(texts), seed), *texts], tokenizer=tokenizer)


bare = lambda part: part.remove_columns("text")
seventh, train_texts = texts_of(24)[7], texts_of(24)
split_leak = partial(broken, "split-leak")
split_leak(
    "2 rows (10, 11) of the evaluation data are also in the training data (17%)",
    lambda _: {"held_out": held_out_with(*train_texts[:2])},
    mended=lambda _: {"held_out": held_out_with()},
)
also = "row 11 of the evaluation data are also in the training data"
split_leak(also, lambda _: {"held_out": held_out_with("  " + seventh.upper().replace(" ", "   ") + "\n")})
split_leak(also, lambda _: {"held_out": held_out_with(seventh.replace(" ", "\u00a0\u200b"))})
split_leak(
    "for example ids [2, ", lambda _: {"train": bare(table()), "held_out": bare(held_out_with(seventh))}
)
split_leak(also, lambda _: {"held_out": bare(held_out_with(seventh))})
padded_leak = table(texts=[*texts_of(11, 1), seventh], **PADDED)
split_leak(also, lambda _: {"train": bare(table()), "held_out": bare(padded_leak)})
split_leak(
    "of the test data are also in the training data", lambda _: {"test": held_out_with(seventh, seed=2)}
)
split_leak(
    "of the test data are also in the evaluation data",
    lambda _: {"test": held_out_with(texts_of(12, 1)[3], seed=2)},
)
split_leak(also, lambda _: {"train": Rows(table()), "held_out": Rows(held_out_with(seventh))})
twice = concatenate_datasets([table(), table()]).train_test_split(test_size=12, seed=0)
split_leak("are also in the training data", lambda _: {"train": twice["train"], "held_out": twice["test"]})
split_leak(
    "2 rows (0, 23) of the training data hold texts that carry two labels",
    lambda _: {"train": table(texts=[*train_texts[:23], train_texts[0]])},
)

# --- nearly the same text in two splits ---------------------------------------------------------------------

SAID = "@bob WORST phone of my 3 lives, never again!!"
near_repeats = partial(broken, "near-repeats")


def said_and_again(there, here, part="held_out"):
    """A text of the training rows, and a similar one in another split."""
    rows = {"train": table(texts=[*train_texts[:23], there]), part: held_out_with(here, seed=2)}
    return lambda _: rows


for again in (
    "worst phone of my 12 lives - never again",
    "@alice_7 Worst Phone of my lives. Never again",
    "WorstPhone of my 3 lives never again :(",
):
    near_repeats(
        "row 11 of the evaluation data (8.3%) repeat rows of the training data, but for case",
        said_and_again(SAID, again),
        mended=said_and_again(SAID, again.replace("phone", "film").replace("Phone", "film")),
    )
near_repeats(
    "row 11 of the test data (8.3%) repeat", said_and_again(SAID, SAID.lower().replace(",", ""), "test")
)
healthy("praise so short that it comes up twice", said_and_again("Great stuff!", "GREAT stuff"))
healthy("numbered texts of no words", said_and_again("w1 w2 w3 w4 w5 w6 w7 w8", "w2 w2 w3 w4 w5 w6 w7 w8"))
# a tokenizer that, as uncased BERT's, drops accents and sees no blanks beside punctuation
LIKE_BERT = tokenizer_of([*WORDS, "cafe", "naive", "!", "."])
LIKE_BERT.backend_tokenizer.normalizer = normalizers.BertNormalizer()


def like_bert(train, held_out, **changes):
    data = {
        "train": table(texts=train, tokenizer=LIKE_BERT),
        "held_out": table(texts=held_out, tokenizer=LIKE_BERT),
    }
    return {"model": bert(vocab_size=204), "tokenizer": LIKE_BERT} | data | changes


def same_tokens(there, here):
    """Texts that differ, with the same token ids."""
    train = [*train_texts[:23], f"{seventh} {there}"]
    return lambda _: like_bert(train, [*texts_of(11, 1), f"{seventh} {here}"])


alike = "row 11 of the evaluation data have the token ids of rows of the training data (8%), though their"
for there, here in (
    ("caf\u00e9", "cafe\u0301"),
    ("na\u00efve", "na\u200b\u00efve"),
    ("naive", "nai\u00adve"),
):
    split_leak(also, same_tokens(there, here))
split_leak(alike, same_tokens("caf\u00e9", "cafe"), mended=same_tokens("caf\u00e9", "w3 w3"))
split_leak(alike, same_tokens("cafe!", "cafe !"))
split_leak(
    "2 rows (0, 23) of the training data have token ids that carry two labels, though their texts differ",
    lambda _: like_bert(["naive w1 w2 w3.", *train_texts[1:23], "na\u00efve w1 w2 w3 ."], texts_of(12, 1)),
)
first_ten = " ".join(WORDS[:10])
split_leak(
    "row 11 of the evaluation data have the token ids of rows of the training data (8%), for they were cut "
    "where their texts still agree",
    lambda _: {
        "train": table(texts=[*texts_of(23, 0, 14), f"{first_ten} w50 w51 w52 w53"], max_length=12),
        "held_out": table(texts=[*texts_of(11, 1, 14), f"{first_ten} w60 w61 w62 w63"], max_length=12),
    },
    level="warning",
)
test_as_validation = partial(broken, "test-as-validation")
test_as_validation(
    "The test data are the evaluation data",
    lambda _: {"held_out": table(12, 1), "test": table(12, 1)},
    mended=lambda _: {"test": table(12, 2)},
)
test_as_validation("The test data are the evaluation data", lambda _: {"test": table(12, 1).shuffle(seed=3)})
spelt = [f"{text}!" for text in texts_of(12, 1)]
test_as_validation(
    "The test data are the evaluation data",
    lambda _: like_bert(
        texts_of(24),
        spelt,
        test=table(texts=[text.replace("!", " !") for text in spelt], tokenizer=LIKE_BERT),
    ),
)
of_split = lambda name: Dataset(table(12, 1).data, info=table(12, 1).info, split=name)
test_as_validation(
    "are the split 'test', and they decide which checkpoint is kept",
    lambda _: {"held_out": of_split("test")},
    mended=lambda _: {"held_out": of_split("validation")},
)
healthy("with test data", lambda _: {"test": table(12, 2)})
parts = table(120, 4).train_test_split(test_size=0.3, seed=1, stratify_by_column="label")
healthy(
    "shuffled and split",
    lambda _: {"train": parts["train"].shuffle(seed=3), "held_out": parts["test"].shuffle(seed=4)},
)
healthy("rare rows twice in training", lambda _: {"train": table().select([*range(24), *range(1, 24, 2)])})
straight = texts_of(60, 1)
turned = [" ".join(reversed(text.split())) for text in straight]
healthy(
    "the same words in another order, with other labels",
    lambda _: {"train": table(texts=straight), "held_out": table(texts=turned, labels=[1, 0] * 30)},
)
unknown = ["Ada", "Bea", "Cleo", "Dora", "\U0001f600", "\U0001f622"]
healthy(
    "texts of which the tokenizer knows no word",
    lambda _: in_two_splits(
        [*unknown[:3], *(f"{name} w5" for name in unknown[:3])],
        [*unknown[3:], *(f"{name} w5" for name in unknown[3:])],
    ),
)
of_unknown_words = in_two_splits(unknown[:2], unknown[2:4])
without_texts = {name: bare(of_unknown_words[name]) for name in ("train", "held_out")}
healthy("rows of unknown words only, without their texts", lambda _: of_unknown_words | without_texts)


def tokenizer_with(*tokens):
    tokenizer = tokenizer_of()
    tokenizer.add_tokens(list(tokens))
    return tokenizer


healthy(
    "accents that the tokenizer keeps",
    lambda _: in_two_splits(["w3 sí", "si", "sí w4"], ["w3 si", "sí", "si w4"], tokenizer_with("sí", "si")),
)
healthy(
    "a short text that comes up again with a blank more: said, and no reason to stop",
    lambda _: in_two_splits(["w3!"], ["w3 !"], tokenizer_with("!")),
    "split-leak",
)
begin = " ".join(WORDS[:8])
healthy(
    "letters cut within what all of them begin with",
    lambda _: in_two_splits(
        [f"{begin} {text}" for text in texts_of(7, 3)],
        [f"{begin} {text}" for text in texts_of(4, 4)],
        max_length=10,
    ),
    "split-leak",
    "truncation",
)
more = lambda part: part.add_column("user", [f"user {i % 5}" for i in range(len(part))]).rename_column(
    "text", "message"
)
healthy("more text columns", lambda _: each(pair(), more))
named_too = lambda part: part.add_column("label_text", [LABELS[i] for i in part["label"]])
healthy("names in a column of their own", lambda _: each(pair(), named_too))
in_8_bits = table(labels=[0, 1] * 12).cast_column("label", Value("int8"))
healthy("labels of 8 bits", lambda _: {"train": in_8_bits})

# --- a rare class -------------------------------------------------------------------------------------------

rare = lambda n: [int(i % 12 == 0) for i in range(n)]
RARE = pair(60, 60, labels=rare)


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


BY_ACCURACY = {"metric_for_best_model": "accuracy", **RARE}
imbalance = partial(broken, "imbalance")
imbalance(
    "92% of the evaluation rows are of one class, and the metrics are accuracy",
    lambda _: BY_ACCURACY | {"compute_metrics": accuracy},
    mended=lambda _: BY_ACCURACY,
)
by_loss = {"compute_metrics": None, "metric_for_best_model": "loss", "greater_is_better": False}
imbalance("there is no metric but the loss", lambda _: RARE | by_loss)
micro = {
    "compute_metrics": lambda prediction: {"f1_micro": 0.9, "f1_weighted": 0.9},
    "metric_for_best_model": "f1_micro",
}
imbalance("the metrics are f1_micro", lambda _: RARE | micro)

test_found, test_gone_once_mended, test_left_alone = SETUPS.tests()
