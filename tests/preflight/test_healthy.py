"""Healthy things are left alone: preflight, Watch and check_saved find nothing, change nothing, and are fast.

Each function under `@setup(...)` builds one healthy Trainer. What preflight may say about it stands in the
decorator, and the test asks for exactly that.
"""

import copy
import gc
import random
import threading
import time
from types import SimpleNamespace

import datasets
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, List, Value
from scipy.stats import spearmanr
from sklearn.metrics import confusion_matrix, f1_score, mean_squared_log_error, roc_auc_score
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from utils.data import read_table, split_table
from utils.findings import Finding, PreflightError, Report
from utils.labels import label_names
from utils.metrics import compute_metrics
from utils.models import find_model
from utils.preflight import Watch, catalogue, check_saved, preflight
from utils.preflight.catalogue import CATALOGUE, pitfall

# --- small things to build Trainers from --------------------------------------------------------------------

WORDS = [
    a + b
    for a in ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va"]
    for b in ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "x"]
]


def word_tokenizer(specials, template, **names):
    """Make a tokenizer with one token a word; `specials` come first, in this order."""
    made = Tokenizer(
        models.WordLevel(
            {word: i for i, word in enumerate([*specials, *WORDS])}, unk_token=names["unk_token"]
        )
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single=template[0],
        pair=template[1],
        special_tokens=[(token, i) for i, token in enumerate(specials) if token in template[1]],
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def bert_tokenizer():
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return word_tokenizer(list(names.values()), ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"), **names)


def roberta_tokenizer():
    names = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    return word_tokenizer(
        list(names.values()),
        ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
        cls_token="<s>",
        sep_token="</s>",
        **names,
    )


def t5_tokenizer():
    return word_tokenizer(
        ["<pad>", "</s>", "<unk>"],
        ("$A </s>", "$A </s> $B </s>"),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def gpt2_tokenizer():
    """Byte pairs, one special token for everything, and that one pads as well: what people do with GPT-2."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        WORDS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token=end, bos_token=end, eos_token=end, pad_token=end
    )


BERT = bert_tokenizer()
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
}
FAMILIES = {  # name of the classes -> tokenizer, arguments of the config
    "Bert": (bert_tokenizer, SMALL),
    "DistilBert": (
        bert_tokenizer,
        {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 40},
    ),
    "Roberta": (roberta_tokenizer, SMALL | {"pad_token_id": 1}),
    "Electra": (bert_tokenizer, SMALL | {"embedding_size": 16}),
    "Albert": (bert_tokenizer, SMALL | {"embedding_size": 16}),
    "DebertaV2": (
        bert_tokenizer,
        SMALL
        | {
            "relative_attention": True,
            "position_buckets": 8,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "share_att_key": True,
        },
    ),
    "XLMRoberta": (roberta_tokenizer, SMALL | {"pad_token_id": 1}),
    "MPNet": (roberta_tokenizer, SMALL | {"pad_token_id": 1}),
    "ModernBert": (
        bert_tokenizer,
        SMALL
        | {
            "num_hidden_layers": 2,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    "BigBird": (bert_tokenizer, SMALL | {"attention_type": "original_full"}),
    "GPT2": (
        gpt2_tokenizer,
        {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 60, "bos_token_id": 0, "eos_token_id": 0},
    ),
    "Llama": (gpt2_tokenizer, SMALL | {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0}),
    "Qwen2": (gpt2_tokenizer, SMALL | {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0}),
    "OPT": (
        roberta_tokenizer,
        SMALL
        | {"ffn_dim": 16, "word_embed_proj_dim": 16, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    ),
    "Bart": (
        roberta_tokenizer,
        {
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
        }
        | {
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16,
            "max_position_embeddings": 40,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "bos_token_id": 0,
        }
        | {"decoder_start_token_id": 2},
    ),
    "T5": (
        t5_tokenizer,
        {
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 16,
            "num_layers": 1,
            "num_decoder_layers": 1,
            "num_heads": 2,
            "pad_token_id": 0,
            "decoder_start_token_id": 0,
        },
    ),
}


def named(classes):
    """Return id2label and label2id as they are handed to from_pretrained."""
    names = [f"class {chr(97 + i)}" for i in range(classes)]
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def tiny(family="Bert", classes=2, tokenizer=None, **config):
    """Make a model of random weights; one class makes it a regression."""
    torch.manual_seed(0)
    rows = len(tokenizer or BERT)
    labels = named(classes) if classes > 1 else {"num_labels": 1}
    made = getattr(transformers, f"{family}Config")(
        **{"vocab_size": rows, **FAMILIES[family][1], **labels, **config}
    )
    return getattr(transformers, f"{family}ForSequenceClassification")(made)


def sentences(rows, seed=0, low=3, high=10):
    """Return different texts of `low` to `high` words."""
    draw, made = np.random.default_rng(seed), {}
    while len(made) < rows:
        made[" ".join(draw.choice(WORDS, draw.integers(low, high + 1)))] = None
    return list(made)


def labelled(
    rows=48,
    classes=2,
    seed=0,
    tokenizer=None,
    label="label",
    values=None,
    keep_text=True,
    typed=True,
    low=3,
    high=10,
    **how,
):
    """Make a tokenised data set; the labels are 0, 1, ..., 0, 1, ... unless `values` has others."""
    texts = sentences(rows, seed, low, high)
    columns = {"text": texts} if keep_text else {}
    columns |= {label: list(values) if values is not None else [i % classes for i in range(rows)]}
    made = Dataset.from_dict(
        columns | dict((tokenizer or BERT)(texts, **({"truncation": True, "max_length": 40} | how)))
    )
    return (
        made.cast_column(label, ClassLabel(names=list(named(classes)["id2label"].values())))
        if typed and values is None
        else made
    )


def pair(classes=2, **how):
    """Return training and evaluation data without a text in common."""
    both = labelled(80, classes, **how)
    return {"train_dataset": both.select(range(56)), "eval_dataset": both.select(range(56, 80))}


def trainer(folder, model=None, kind=Trainer, tokenizer=BERT, data=None, given=None, **args):
    """Make a Trainer with fine settings; `given` goes to Trainer, `args` to TrainingArguments."""
    chosen = {} if "max_steps" in args else {"num_train_epochs": 1}
    chosen |= {
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "logging_steps": 2,
        "learning_rate": 5e-5,
        "use_cpu": True,
    }
    chosen |= {"per_device_train_batch_size": 8, "disable_tqdm": True, "dataloader_pin_memory": False} | args
    parts = {
        "model": model if model is not None or "model_init" in (given or {}) else tiny(),
        "processing_class": tokenizer,
    }
    parts |= {"compute_metrics": compute_metrics} | (pair() if data is None else data) | (given or {})
    return kind(args=TrainingArguments(output_dir=str(folder / "out"), **chosen), **parts)


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Trainer collects garbage at each start: that takes a second with the libraries' objects among it."""
    gc.collect()
    gc.freeze()
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
    gc.unfreeze()


@pytest.fixture(autouse=True)
def quiet_and_seeded():
    transformers.utils.logging.set_verbosity_error()
    set_seed(0)
    yield
    transformers.utils.logging.set_verbosity_warning()


def ids(report):
    return sorted({finding.id for finding in report.findings})


# --- healthy set-ups ----------------------------------------------------------------------------------------

SETUPS = {}


def setup(*says, name=None, train=True):
    """Enter a healthy set-up: a function of a folder that returns a Trainer, or (Trainer, test data).

    `says`: the warnings that are right about it.
    """

    def enter(build):
        SETUPS[name or build.__name__] = (build, sorted(says), train)
        return build

    return enter


def of_family(family):
    tokenizer = FAMILIES[family][0]()
    config = {"pad_token_id": tokenizer.pad_token_id}

    def build(folder):
        return trainer(
            folder,
            tiny(family, 3, tokenizer, **config),
            tokenizer=tokenizer,
            data=pair(3, tokenizer=tokenizer),
        )

    return build


for _family in FAMILIES:
    setup(name=_family)(of_family(_family))


@setup()
def decoder_whose_config_learns_its_padding_from_trainer(folder):
    tokenizer = gpt2_tokenizer()
    return trainer(folder, tiny("GPT2", 2, tokenizer), tokenizer=tokenizer, data=pair(tokenizer=tokenizer))


@setup()
def twenty_classes(folder):
    both = labelled(300, 20)
    return trainer(
        folder,
        tiny(classes=20),
        data={"train_dataset": both.select(range(200)), "eval_dataset": both.select(range(200, 300))},
    )


@setup()
def whole_numbers_without_names_in_the_data(folder):
    return trainer(folder, tiny(classes=3), data=pair(3, typed=False))


def as_vectors(rows, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (rows, 4)).astype(float).tolist()


def multi_label_metrics(prediction):
    predicted = prediction.predictions > 0
    assert set(np.unique(prediction.label_ids)) <= {0.0, 1.0}
    return {
        "f1_macro": f1_score(prediction.label_ids, predicted, average="macro", zero_division=0),
        "exact": (predicted == prediction.label_ids).all(1).mean(),
    }


def multi_label_data(**how):
    both = labelled(80, 4, values=as_vectors(80), **how)
    return {"train_dataset": both.select(range(56)), "eval_dataset": both.select(range(56, 80))}


@setup()
def multi_label(folder):
    model = tiny(classes=4, problem_type="multi_label_classification")
    return trainer(folder, model, data=multi_label_data(), given={"compute_metrics": multi_label_metrics})


@setup()
def multi_label_with_the_problem_type_left_to_the_model(folder):
    data = {
        name: part.cast_column("label", List(Value("float32"))) for name, part in multi_label_data().items()
    }
    return trainer(folder, tiny(classes=4), data=data, given={"compute_metrics": multi_label_metrics})


@setup()
def multi_label_with_rare_classes(folder):
    vectors = (np.random.default_rng(1).random((80, 4)) < 0.1).astype(float).tolist()
    both = labelled(80, 4, values=vectors)
    data = {"train_dataset": both.select(range(56)), "eval_dataset": both.select(range(56, 80))}
    model = tiny(classes=4, problem_type="multi_label_classification")
    return trainer(folder, model, data=data, given={"compute_metrics": multi_label_metrics})


def regression_data(values):
    both = labelled(80, values=values)
    return {"train_dataset": both.select(range(56)), "eval_dataset": both.select(range(56, 80))}


def rank_correlation(prediction):
    return {"spearman": spearmanr(prediction.predictions.squeeze(-1), prediction.label_ids).statistic}


@setup()
def regression(folder):
    values = np.random.default_rng(0).normal(size=80)
    best = {
        "metric_for_best_model": "spearman",
        "greater_is_better": True,
        "load_best_model_at_end": True,
        "save_strategy": "epoch",
    }
    return trainer(
        folder,
        tiny(classes=1),
        data=regression_data(values),
        given={"compute_metrics": rank_correlation},
        **best,
    )


@setup()
def regression_on_stars(folder):
    """Whole numbers from 1.0 to 5.0, as floats: a regression on purpose."""
    model = tiny(classes=1, problem_type="regression")
    return trainer(
        folder,
        model,
        data=regression_data([float(1 + i % 5) for i in range(80)]),
        given={"compute_metrics": rank_correlation},
    )


@setup()
def regression_that_would_not_score_negative_numbers(folder):
    def msle(prediction):
        return {
            "msle": mean_squared_log_error(
                prediction.label_ids, np.maximum(prediction.predictions.squeeze(-1), 0)
            )
        }

    best = {
        "metric_for_best_model": "msle",
        "greater_is_better": False,
        "load_best_model_at_end": True,
        "save_strategy": "epoch",
    }
    return trainer(
        folder,
        tiny(classes=1),
        data=regression_data(np.random.default_rng(0).random(80) * 5),
        given={"compute_metrics": msle},
        **best,
    )


@setup()
def regression_on_several_numbers(folder):
    both = labelled(80, values=np.random.default_rng(0).normal(size=(80, 3)).tolist())
    data = {"train_dataset": both.select(range(56)), "eval_dataset": both.select(range(56, 80))}
    mae = {
        "compute_metrics": lambda prediction: {
            "mae": float(np.abs(prediction.predictions - prediction.label_ids).mean())
        }
    }
    return trainer(folder, tiny(classes=3, problem_type="regression"), data=data, given=mae)


BEST = {"load_best_model_at_end": True, "metric_for_best_model": "f1_macro", "greater_is_better": True}


@setup()
def best_model_by_epoch(folder):
    return trainer(folder, save_strategy="epoch", save_total_limit=1, **BEST)


@setup()
def best_model_by_steps(folder):
    return trainer(folder, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, **BEST)


@setup()
def best_model_by_a_share_of_the_steps(folder):
    return trainer(
        folder,
        num_train_epochs=2,
        eval_strategy="steps",
        eval_steps=0.25,
        save_strategy="steps",
        save_steps=0.25,
        **BEST,
    )


@setup()
def evaluating_more_often_than_saving_without_a_best_model(folder):
    return trainer(folder, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=4)


@setup()
def save_best(folder):
    return trainer(folder, save_strategy="best", **BEST)


@setup()
def best_by_loss_with_the_default_direction(folder):
    return trainer(folder, save_strategy="epoch", load_best_model_at_end=True)


def chosen_by(metric, greater_is_better):
    def build(folder):
        score = {"compute_metrics": lambda prediction: {metric: 0.5}}
        best = {
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": metric,
            "greater_is_better": greater_is_better,
        }
        return trainer(folder, given=score, **best)

    setup(name=f"chosen_by_{metric}_{greater_is_better}", train=False)(build)


# names in which a word turns or qualifies what is measured: they tell nothing about the direction
for _metric in (
    "hamming_score",
    "error_free_rate",
    "1-wer",
    "neg_mean_squared_error",
    "loss_improvement",
    "inverse_perplexity",
    "mae_skill_score",
    "r2_loss",
):
    chosen_by(_metric, True)
for _metric in (
    "one_minus_cer",
    "brier_skill_score",
    "oneMinusError",
    "-mae",
    "error_reduction",
    "deviance_explained",
    "word_error_correction_rate",
    "f1_negative",
):
    chosen_by(_metric, None)
for _metric in ("accuracy_drop", "f1_gap", "accuracy_std", "neg_f1", "1-accuracy"):
    chosen_by(_metric, False)
for _metric in ("mae", "eval_wer", "perplexity", "hamming_loss"):
    chosen_by(_metric, False)
for _metric in ("loss", "log_loss", "neg_log_loss_gain", "f1_score", "jaccard_similarity", "error_f1"):
    chosen_by(_metric, None)


@setup()
def early_stopping(folder):
    return trainer(
        folder,
        num_train_epochs=3,
        save_strategy="epoch",
        given={"callbacks": [EarlyStoppingCallback(2)]},
        **BEST,
    )


@setup()
def evaluated_before_the_first_step(folder):
    return trainer(folder, eval_on_start=True, logging_strategy="epoch")


@setup()
def rate_falls_when_the_loss_does_not(folder):
    return trainer(folder, lr_scheduler_type="reduce_lr_on_plateau", metric_for_best_model="loss")


@setup()
def several_evaluation_sets(folder):
    both = labelled(104)
    data = {
        "train_dataset": both.select(range(56)),
        "eval_dataset": {"tweets": both.select(range(56, 80)), "reviews": both.select(range(80, 104))},
    }
    return trainer(
        folder,
        data=data,
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="reviews_f1_macro",
        greater_is_better=True,
    )


@setup(train=False)
def only_for_evaluation(folder):
    return trainer(folder, data={"eval_dataset": labelled()}, eval_strategy="no")


@setup("no-evaluation")
def nothing_to_evaluate_on(folder):
    return trainer(
        folder, data={"train_dataset": labelled()}, eval_strategy="no", given={"compute_metrics": None}
    )


@setup()
def with_test_data(folder):
    both = labelled(104)
    parts = {"train_dataset": both.select(range(56)), "eval_dataset": both.select(range(56, 80))}
    return trainer(folder, data=parts), both.select(range(80, 104))


@setup(train=False)
def names_that_only_begin_like_a_checkpoint(folder):
    """None of them is one that Trainer would continue from or load as the best."""
    for name in ("checkpoint-final", "checkpoint-5-copy", "my-checkpoint-5", "checkpoint-"):
        (folder / "out" / name).mkdir(parents=True)
    for name in ("checkpoint-notes.txt", "checkpoint-12"):
        (folder / "out" / name).touch()
    return trainer(folder, save_strategy="epoch")


@setup()
def resumed_as_planned(folder):
    plan = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    before = trainer(folder, **plan)
    before.add_callback(StopAt(2))
    before.train()
    return trainer(folder, resume_from_checkpoint=True, **plan)


class StopAt(TrainerCallback):
    """Ends a run early, as a full disk or a closed laptop would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


# collators, and what they are given


@setup()
def padding_collator_only(folder):
    return trainer(folder, tokenizer=None, given={"data_collator": DataCollatorWithPadding(BERT)})


@setup()
def pads_to_a_multiple_of_eight(folder):
    return trainer(
        folder,
        given={"data_collator": DataCollatorWithPadding(BERT, pad_to_multiple_of=8)},
        data=pair(low=5, high=12),
    )


@setup()
def rows_of_one_length_with_the_default_collator(folder):
    data = pair(keep_text=False, low=6, high=6)
    return trainer(folder, data=data, tokenizer=None, given={"data_collator": default_data_collator})


@setup()
def rows_padded_beforehand(folder):
    return trainer(
        folder,
        data=pair(padding="max_length", max_length=14, truncation=True, low=6),
        given={"data_collator": default_data_collator},
    )


def tokenise_in_collator(rows):
    return BERT([row["text"] for row in rows], padding=True, return_tensors="pt") | {
        "labels": torch.tensor([row["label"] for row in rows])
    }


@setup()
def collator_that_tokenises(folder):
    """The data set holds texts only; remove_unused_columns=False hands them to the collator."""
    data = {name: part.select_columns(["text", "label"]) for name, part in pair().items()}
    return trainer(
        folder,
        data=data,
        tokenizer=None,
        given={"data_collator": tokenise_in_collator},
        remove_unused_columns=False,
    )


@setup()
def function_as_collator(folder):
    def collate(rows):
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": (ids != 0).long(),
            "labels": torch.tensor([row["label"] for row in rows]),
        }

    return trainer(folder, given={"data_collator": collate})


@setup()
def all_columns_kept_and_clean(folder):
    return trainer(folder, data=pair(keep_text=False), remove_unused_columns=False)


@setup()
def torch_format(folder):
    data = {name: part.with_format("torch") for name, part in pair(keep_text=False, label="labels").items()}
    return trainer(folder, data=data)


@setup()
def torch_format_of_some_columns(folder):
    data = {
        name: part.with_format("torch", columns=["input_ids", "attention_mask", "label"])
        for name, part in pair().items()
    }
    return trainer(folder, data=data)


@setup()
def tokenised_on_the_fly(folder):
    def transform(batch):
        return BERT(batch["text"], truncation=True) | {"labels": batch["label"]}

    data = {
        name: part.select_columns(["text", "label"]).with_transform(transform)
        for name, part in pair().items()
    }
    return trainer(folder, data=data, remove_unused_columns=False)


class Rows(torch.utils.data.Dataset):
    """What older tutorials write."""

    def __init__(self, rows=48, seed=0):
        self.encodings, self.labels = BERT(sentences(rows, seed)), [i % 2 for i in range(rows)]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {name: torch.tensor(values[i]) for name, values in self.encodings.items()} | {
            "labels": torch.tensor(self.labels[i])
        }


@setup()
def torch_dataset(folder):
    return trainer(folder, data={"train_dataset": Rows(48, 1), "eval_dataset": Rows(24, 2)})


@setup()
def random_split(folder):
    train, held_out = torch.utils.data.random_split(Rows(80), [60, 20], torch.Generator().manual_seed(0))
    return trainer(folder, data={"train_dataset": train, "eval_dataset": held_out})


@setup()
def list_of_rows(folder):
    return trainer(
        folder, data={name: [dict(row) for row in part] for name, part in pair(keep_text=False).items()}
    )


@setup()
def list_of_encodings(folder):
    def rows(seed):
        made = [BERT(text) for text in sentences(40, seed)]
        for i, row in enumerate(made):
            row["label"] = i % 2
        return made

    return trainer(folder, data={"train_dataset": rows(1), "eval_dataset": rows(2)})


@setup()
def stream(folder):
    data = pair()
    return trainer(
        folder,
        data=data | {"train_dataset": data["train_dataset"].to_iterable_dataset()},
        max_steps=4,
        eval_strategy="steps",
        eval_steps=2,
    )


STREAMED = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}


@setup()
def sorted_stream_shuffled_in_a_buffer(folder):
    stream = many(5_000, 3).sort("label").to_iterable_dataset().shuffle(seed=1, buffer_size=5_000)
    return trainer(
        folder,
        tiny(max_position_embeddings=64),
        data={"train_dataset": stream, "eval_dataset": many(40, 4)},
        **STREAMED,
    )


@setup()
def streams_of_the_one_class_there_is(folder):
    data = {
        name: labelled(48, seed=seed, values=[1] * 48).to_iterable_dataset()
        for name, seed in (("train_dataset", 1), ("eval_dataset", 2))
    }
    return trainer(folder, data=data, **STREAMED)


@setup()
def sorted_stream_for_a_regression(folder):
    data = regression_data(sorted(np.random.default_rng(0).normal(size=80)))
    data["train_dataset"] = data["train_dataset"].to_iterable_dataset()
    return trainer(
        folder, tiny(classes=1), data=data, given={"compute_metrics": rank_correlation}, **STREAMED
    )


@setup()
def stream_of_a_rare_class(folder):
    """One row in 150 is of the other class, and each comes where chance has put it."""
    labels = [int(i % 150 == 77) for i in range(900)]
    stream = labelled(900, seed=1, values=labels).to_iterable_dataset()
    return trainer(
        folder,
        data={"train_dataset": stream, "eval_dataset": labelled(150, seed=2, values=labels[:150])},
        **STREAMED,
    )


@setup()
def stream_in_blocks(folder):
    """Ten rows of one class, ten of the other, and so on: every few batches have both."""
    stream = labelled(400, seed=1, values=[i // 10 % 2 for i in range(400)]).to_iterable_dataset()
    return trainer(folder, data={"train_dataset": stream, "eval_dataset": labelled(40, seed=2)}, **STREAMED)


@setup()
def mixed_rows_in_their_order(folder):
    values = random_labels(80, 3, 1)
    data = {name: part.shuffle(seed=2) for name, part in pair(3).items()} | {
        "train_dataset": labelled(80, 3, seed=5, values=values)
    }
    return trainer(folder, tiny(classes=3), data=data, train_sampling_strategy="sequential")


@setup()
def sorted_rows_that_trainer_shuffles(folder):
    data = pair()
    return trainer(folder, data=data | {"train_dataset": data["train_dataset"].sort("label")})


class OwnLoader(Trainer):
    def get_train_dataloader(self):
        print("a loader of one's own")
        data = self.train_dataset.remove_columns("text")
        return torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, collate_fn=self.data_collator)


@setup()
def sorted_rows_in_a_loader_of_ones_own_that_shuffles(folder):
    data = pair()
    return trainer(folder, kind=OwnLoader, data=data | {"train_dataset": data["train_dataset"].sort("label")})


@setup()
def generator_in_torch(folder):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([Rows(20, 5)[i] for i in range(20)])

    return trainer(
        folder,
        data={"train_dataset": Stream(), "eval_dataset": Rows(24, 2)},
        max_steps=4,
        eval_strategy="steps",
        eval_steps=2,
    )


@setup()
def shuffled_and_split(folder):
    parts = labelled(120).train_test_split(test_size=0.3, seed=1, stratify_by_column="label")
    return trainer(
        folder,
        data={"train_dataset": parts["train"].shuffle(seed=3), "eval_dataset": parts["test"].shuffle(seed=4)},
    )


@setup()
def oversampled(folder):
    """Rare rows twice in training: the same text with the same label."""
    both = labelled(80)
    return trainer(
        folder,
        data={
            "train_dataset": both.select([*range(56), *range(1, 56, 2)]),
            "eval_dataset": both.select(range(56, 80)),
        },
    )


@setup()
def concatenated(folder):
    train = datasets.concatenate_datasets([labelled(30, seed=1), labelled(30, seed=2)])
    return trainer(folder, data={"train_dataset": train, "eval_dataset": labelled(30, seed=3)})


@setup()
def column_labels(folder):
    return trainer(folder, data=pair(label="labels"))


@setup()
def column_label_ids(folder):
    return trainer(folder, data=pair(label="label_ids"))


@setup()
def small_whole_numbers(folder):
    data = {name: part.cast_column("label", Value("int8")) for name, part in pair(typed=False).items()}
    return trainer(folder, data=data)


def in_pairs(premises, hypotheses):
    columns = {"premise": premises, "hypothesis": hypotheses, "label": [i % 3 for i in range(len(premises))]}
    return Dataset.from_dict(columns | dict(BERT(premises, hypotheses, truncation=True))).cast_column(
        "label", ClassLabel(names=list(named(3)["id2label"].values()))
    )


@setup()
def sentence_pairs(folder):
    """The same premises in both splits, with other hypotheses, and with all three labels, as in NLI data."""
    premises, hypotheses = [text for text in sentences(20, 1) for _ in range(3)], sentences(120, 2)
    data = {
        "train_dataset": in_pairs(premises, hypotheses[:60]),
        "eval_dataset": in_pairs(premises, hypotheses[60:]),
    }
    return trainer(folder, tiny(classes=3), data=data)


def in_pairs_of(family, every):
    """Make pairs of texts, but for one row in `every`, which is a single text."""
    tokenizer = FAMILIES[family][0]()
    parts = []
    for seed, rows in ((1, 56), (2, 24)):
        texts = (
            sentences(rows, seed),
            [second if i % every else None for i, second in enumerate(sentences(rows, seed + 2))],
        )
        made = [tokenizer(first, second) for first, second in zip(*texts, strict=True)]
        columns = {name: [row[name] for row in made] for name in ("input_ids", "attention_mask")}
        parts.append(
            Dataset.from_dict(
                {"first": texts[0], "second": texts[1], "label": [i % 2 for i in range(rows)], **columns}
            )
        )
    model = tiny(family, 2, tokenizer, pad_token_id=tokenizer.pad_token_id)
    return {
        "model": model,
        "tokenizer": tokenizer,
        "data": {"train_dataset": parts[0], "eval_dataset": parts[1]},
    }


@setup()
def pairs_of_roberta_with_two_ends_in_the_middle(folder):
    return trainer(folder, **in_pairs_of("Roberta", 100))


@setup()
def pairs_among_single_texts(folder):
    return trainer(folder, **in_pairs_of("Roberta", 3))


@setup()
def markup_masks_and_padding_in_texts(folder):
    """[MASK], [PAD] and [UNK] begin and end nothing; <b> and [sic] are no tokens of their own."""
    odd = [
        f"{WORDS[3]} [MASK] {WORDS[4]}",
        f"<b> {WORDS[5]} </b> {WORDS[6]}",
        f"{WORDS[7]} [sic] {WORDS[8]}",
        f"{WORDS[9]} [UNK] {WORDS[10]}",
    ]
    return in_two_splits(folder, odd, [f"{WORDS[11]} [PAD] {WORDS[12]}"])


@setup()
def turns_joined_by_the_separator_in_every_text(folder):
    both = [
        f"{first} [SEP] {second}" for first, second in zip(sentences(96, 1), sentences(96, 2), strict=True)
    ]
    return in_two_splits(folder, both[:56], both[56:])


@setup()
def rows_without_special_tokens(folder):
    return in_two_splits(folder, [], [], add_special_tokens=False)


@setup("special-in-text")
def strike_through_that_roberta_takes_for_ends(folder):
    tokenizer = roberta_tokenizer()
    made = in_two_splits(folder, [f"<s> {WORDS[3]} </s> {WORDS[4]}"], [], tokenizer)
    return trainer(
        folder,
        tiny("Roberta", 2, tokenizer, pad_token_id=1),
        tokenizer=tokenizer,
        data={"train_dataset": made.train_dataset, "eval_dataset": made.eval_dataset},
    )


@setup()
def same_words_in_another_order(folder):
    """Other texts, with other labels: "man bites dog"."""
    texts = sentences(60, 1, 4, 10)
    turned = [" ".join(reversed(text.split())) for text in texts]

    def tokenised(texts, shift):
        return Dataset.from_dict({"label": [(i + shift) % 2 for i in range(60)], **BERT(texts)})

    return trainer(folder, data={"train_dataset": tokenised(texts, 0), "eval_dataset": tokenised(turned, 1)})


def in_two_splits(folder, train, held_out, tokenizer=BERT, **how):
    """The first texts are given, the others are different ones; labels by turns."""
    parts = {
        "train_dataset": [*train, *sentences(56 - len(train), 1)],
        "eval_dataset": [*held_out, *sentences(40 - len(held_out), 2)],
    }
    data = {
        name: Dataset.from_dict(
            {
                "text": texts,
                "label": [i % 2 for i in range(len(texts))],
                **tokenizer(texts, truncation=True, **how),
            }
        )
        for name, texts in parts.items()
    }
    return trainer(folder, tiny(tokenizer=tokenizer), tokenizer=tokenizer, data=data)


@setup()
def words_that_the_tokenizer_does_not_know(folder):
    """Names and pictures: other texts, though all of them are [UNK]."""
    names = ["Ada", "Bea", "Cleo", "Dora", "\U0001f600", "\U0001f622"]
    return in_two_splits(
        folder,
        [*names[:3], *(f"{name} {WORDS[5]}" for name in names[:3])],
        [*names[3:], *(f"{name} {WORDS[5]}" for name in names[3:])],
    )


@setup()
def rows_of_unknown_words_only_without_their_texts(folder):
    made = in_two_splits(folder, ["Ada", "Bea"], ["Cleo", "Dora"])
    made.train_dataset, made.eval_dataset = (
        part.remove_columns("text") for part in (made.train_dataset, made.eval_dataset)
    )
    return made


@setup()
def accents_that_the_tokenizer_keeps(folder):
    tokenizer = bert_tokenizer()
    tokenizer.add_tokens(["sí", "si"])
    return in_two_splits(
        folder,
        [f"{WORDS[3]} sí", "si", f"sí {WORDS[4]}"],
        [f"{WORDS[3]} si", "sí", f"si {WORDS[4]}"],
        tokenizer,
    )


@setup("split-leak")
def a_short_text_that_comes_up_again_with_a_blank_more(folder):
    """One of 40 rows: said, and no reason to stop."""
    tokenizer = bert_tokenizer()
    tokenizer.add_tokens(["!"])
    return in_two_splits(folder, [f"{WORDS[3]}!"], [f"{WORDS[3]} !"], tokenizer)


@setup("split-leak", "truncation")
def letters_that_begin_alike(folder):
    """Cut within what all letters begin with: the same rows for the model, other texts, and other labels."""
    begin = " ".join(WORDS[:8])
    return in_two_splits(
        folder,
        [f"{begin} {text}" for text in sentences(6, 3)],
        [f"{begin} {text}" for text in sentences(4, 4)],
        max_length=10,
    )


@setup()
def very_short_texts(folder):
    words = WORDS[:100]
    both = Dataset.from_dict({"text": words, "label": [i % 2 for i in range(100)], **BERT(words)})
    return trainer(
        folder, data={"train_dataset": both.select(range(70)), "eval_dataset": both.select(range(70, 100))}
    )


@setup()
def more_text_columns(folder):
    """Who wrote it and where are texts too, and come up in both splits."""
    data = {
        name: part.add_column("user", [f"user {i % 5}" for i in range(len(part))])
        for name, part in pair().items()
    }
    data = {
        name: part.add_column("town", ["Ulm", "Bonn"] * (len(part) // 2)).rename_column("text", "message")
        for name, part in data.items()
    }
    return trainer(folder, data=data)


@setup()
def names_in_a_column_of_their_own(folder):
    names = list(named(2)["id2label"].values())
    return trainer(
        folder,
        data={
            key: part.add_column("label_text", [names[i] for i in part["label"]])
            for key, part in pair().items()
        },
    )


@setup()
def texts_that_differ_in_length(folder):
    """A few long ones among many short ones, none of them cut."""
    long, short = sentences(6, 1, 34, 36), sentences(74, 2, 4, 12)
    texts = [text for i in range(6) for text in (*short[i * 12 : i * 12 + 12], long[i])]
    both = Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(len(texts))], **BERT(texts)})
    data = {"train_dataset": both.select(range(52)), "eval_dataset": both.select(range(52, len(texts)))}
    return trainer(folder, data=data, per_device_train_batch_size=4)


# the loss, the optimizer, the schedule


def weighted_loss(outputs, targets, num_items_in_batch=None):
    """As 04_training has it."""
    weights = torch.tensor([0.6, 3.0])
    total = torch.nn.functional.cross_entropy(
        outputs.logits.float(), targets, weight=weights, reduction="sum"
    )
    return total / (len(targets) if num_items_in_batch is None else num_items_in_batch)


def imbalanced(rare=9):
    return {
        "train_dataset": labelled(90, seed=1, values=[int(i % rare == 0) for i in range(90)]),
        "eval_dataset": labelled(45, seed=2, values=[int(i % rare == 0) for i in range(45)]),
    }


@setup()
def imbalanced_with_macro_f1_and_class_weights(folder):
    return trainer(folder, data=imbalanced(), given={"compute_loss_func": weighted_loss})


@setup()
def class_weights_and_gradient_accumulation(folder):
    return trainer(folder, given={"compute_loss_func": weighted_loss}, gradient_accumulation_steps=2)


class OwnLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels, label_smoothing=0.05)
        return (loss, outputs) if return_outputs else loss


@setup()
def trainer_with_its_own_loss(folder):
    return trainer(folder, kind=OwnLoss)


class LossElsewhere(Trainer):
    """Its own loss is the library's, reached by way of another method."""

    def compute_loss(self, model, inputs, **how):
        return self.timed(model, inputs, **how)

    def timed(self, model, inputs, **how):
        return super().compute_loss(model, inputs, **how)


def timed(function):
    def wrapper(*given, **how):
        return function(*given, **how)

    return wrapper


class WrappedLoss(Trainer):
    compute_loss = timed(Trainer.compute_loss)


for _kind in (LossElsewhere, WrappedLoss):
    setup(name=f"label smoothing in {_kind.__name__}")(
        lambda folder, kind=_kind: trainer(folder, kind=kind, label_smoothing_factor=0.1)
    )


class OwnRate(Trainer):
    def create_optimizer(self, *_):
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5)
        return self.optimizer


@setup()
def rate_of_an_optimizer_that_the_trainer_makes_itself(folder):
    return trainer(folder, kind=OwnRate, learning_rate=0.0)


class DrawsAnew(Trainer):
    def get_train_dataloader(self):
        self.train_dataset = self.train_dataset.select(range(len(self.train_dataset) // 2))
        return super().get_train_dataloader()


def test_a_loader_that_draws_its_rows_anew_is_not_moved_on(tmp_path):
    made = trainer(tmp_path, kind=DrawsAnew)
    rows = len(made.train_dataset)
    preflight(made)
    assert len(made.train_dataset) == rows


def test_many_batches_of_an_evaluation_are_tried_with_some(tmp_path):
    calls = []

    def metrics(prediction, compute_result):
        calls.append(len(prediction.label_ids))
        return {"accuracy": 0.5} if compute_result else {}

    data = pair() | {"eval_dataset": labelled(2_000)}
    made = trainer(
        tmp_path,
        data=data,
        given={"compute_metrics": metrics},
        batch_eval_metrics=True,
        per_device_eval_batch_size=1,
    )
    assert "metrics-shape" not in {finding.id for finding in preflight(made).findings}
    assert 100 <= len(calls) <= 200


@setup()
def soft_labels_with_their_own_loss(folder):
    """Vectors of probabilities in one column: no multi-label task."""

    class Soft(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = torch.nn.functional.cross_entropy(outputs.logits, labels)
            return (loss, outputs) if return_outputs else loss

    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 80).tolist()
    both = labelled(80, values=shares)
    data = {"train_dataset": both.select(range(56)), "eval_dataset": both.select(range(56, 80))}
    agree = {
        "compute_metrics": lambda p: {
            "accuracy": float((p.predictions.argmax(-1) == p.label_ids.argmax(-1)).mean())
        }
    }
    return trainer(folder, tiny(classes=3), kind=Soft, data=data, given=agree)


@setup()
def optimizer_and_schedule_of_ones_own(folder):
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-5)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 1, 7)
    return trainer(folder, model, given={"optimizers": (optimizer, schedule)})


@setup()
def other_optimizer_with_its_usual_rate(folder):
    return trainer(folder, optim="adafactor", learning_rate=1e-3)


def with_schedule(name, make, **args):
    """A schedule of one's own, for the 7 steps of the run."""

    def build(folder):
        model = tiny()
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.get("learning_rate", 5e-5))
        return trainer(folder, model, given={"optimizers": (optimizer, make(optimizer))}, **args)

    setup(name=name)(build)


plans = torch.optim.lr_scheduler
with_schedule(
    "schedule_that_begins_at_0",
    lambda optimizer: transformers.get_linear_schedule_with_warmup(optimizer, 5, 7),
)
with_schedule(
    "schedule_that_begins_low",
    lambda optimizer: plans.SequentialLR(
        optimizer, [plans.LinearLR(optimizer, 0.001, 1, 4), plans.ExponentialLR(optimizer, 0.9)], [4]
    ),
)
with_schedule(
    "schedule_with_restarts",
    lambda optimizer: transformers.get_cosine_with_hard_restarts_schedule_with_warmup(
        optimizer, 1, 7, num_cycles=3
    ),
)
with_schedule(
    "schedule_up_and_down_from_0",
    lambda optimizer: plans.CyclicLR(optimizer, 0.0, 5e-5, step_size_up=1, cycle_momentum=False),
)
with_schedule("schedule_in_one_cycle", lambda optimizer: plans.OneCycleLR(optimizer, 5e-5, total_steps=8))
with_schedule("schedule_in_steps", lambda optimizer: plans.MultiStepLR(optimizer, [3, 5]))
with_schedule(
    "schedule_for_a_longer_run",
    lambda optimizer: transformers.get_cosine_schedule_with_warmup(optimizer, 3, 1000),
)
with_schedule(
    "schedule_that_the_arguments_agree_with",
    lambda optimizer: transformers.get_linear_schedule_with_warmup(optimizer, 1, 7),
    learning_rate=3e-5,
)
with_schedule("schedule_by_the_score", plans.ReduceLROnPlateau, metric_for_best_model="loss")


@setup()
def optimizer_that_finds_its_own_rate(folder):
    model = tiny()
    optimizer = transformers.Adafactor(model.parameters(), lr=None, relative_step=True, warmup_init=True)
    return trainer(
        folder,
        model,
        given={"optimizers": (optimizer, transformers.optimization.AdafactorSchedule(optimizer))},
    )


@setup()
def optimizer_by_its_class(folder):
    return trainer(
        folder, given={"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9})}
    )


@setup("frozen")
def optimizer_for_the_head_only(folder):
    model = tiny()
    model.bert.requires_grad_(False)
    return trainer(
        folder, model, given={"optimizers": (torch.optim.AdamW(model.classifier.parameters(), lr=1e-3), None)}
    )


@setup()
def optimizer_with_weights_of_the_loss_as_well(folder):
    model, centres = tiny(), torch.nn.Parameter(torch.zeros(2, 2))

    def to_the_centres(outputs, labels, num_items_in_batch=None):
        return (
            torch.nn.functional.cross_entropy(outputs.logits, labels)
            + 0.01 * (outputs.logits - centres[labels]).square().mean()
        )

    optimizer = torch.optim.AdamW([*model.parameters(), centres], lr=5e-5)
    return trainer(
        folder, model, given={"optimizers": (optimizer, None), "compute_loss_func": to_the_centres}
    )


@setup()
def optimizer_for_tied_weights(folder):
    model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=len(BERT), **SMALL))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    data = {name: part.remove_columns("label") for name, part in pair().items()}
    given = {
        "data_collator": DataCollatorForLanguageModeling(BERT),
        "compute_metrics": None,
        "optimizers": (torch.optim.AdamW(model.parameters()), None),
    }
    return trainer(folder, model, data=data, given=given)


class Adapted(torch.nn.Module):
    """A linear layer with an adapter beside it, as LoRA has it."""

    def __init__(self, base):
        super().__init__()
        self.base, self.down, self.up = (
            base,
            torch.nn.Linear(base.in_features, 2, bias=False),
            torch.nn.Linear(2, base.out_features, bias=False),
        )

    def forward(self, states):
        return self.base(states) + self.up(self.down(states))


def adapted():
    """A stand-in for what peft makes: all is frozen but two small matrices and the head, by `peft_config`."""
    model = tiny()
    model.requires_grad_(False)
    attention = model.bert.encoder.layer[0].attention.self
    attention.query = Adapted(attention.query)
    model.classifier.requires_grad_(True)
    attention.query.base.requires_grad_(False)
    model.peft_config = {"default": {"peft_type": "LORA", "task_type": "SEQ_CLS"}}
    return model


@setup()
def adapter_with_an_optimizer_of_ones_own(folder):
    model = adapted()
    return trainer(
        folder,
        model,
        given={
            "optimizers": (
                torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3),
                None,
            )
        },
    )


@setup()
def head_trained_with_a_higher_rate(folder):
    model = tiny()
    groups = [
        {"params": model.bert.parameters(), "lr": 5e-5},
        {"params": model.classifier.parameters(), "lr": 1e-3},
    ]
    return trainer(folder, model, given={"optimizers": (torch.optim.AdamW(groups), None)}, learning_rate=5e-5)


@setup()
def schedule_with_warmup(folder):
    return trainer(
        folder, num_train_epochs=3, warmup_steps=0.1, lr_scheduler_type="cosine", weight_decay=0.01
    )


@setup()
def fresh_model_from_model_init(folder):
    return trainer(folder, given={"model_init": lambda: tiny()})


@setup()
def label_smoothing(folder):
    return trainer(folder, label_smoothing_factor=0.1)


class Smoothed(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = self.label_smoother(outputs, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class Penalised(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = loss + 1e-4 * outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


@setup()
def label_smoothing_in_a_compute_loss(folder):
    return trainer(folder, kind=Smoothed, label_smoothing_factor=0.1)


@setup()
def label_smoothing_and_a_penalty(folder):
    return trainer(folder, kind=Penalised, label_smoothing_factor=0.1)


@setup()
def loss_function_and_a_penalty(folder):
    return trainer(folder, kind=Penalised, given={"compute_loss_func": weighted_loss})


@setup()
def gradient_accumulation(folder):
    model = tiny()
    model.accepts_loss_kwargs = False
    return trainer(folder, model, gradient_accumulation_steps=4)


@setup("frozen")
def embeddings_frozen_on_purpose(folder):
    model = tiny()
    model.bert.embeddings.requires_grad_(False)
    return trainer(folder, model)


@setup("frozen")
def head_only(folder):
    model = tiny()
    model.bert.requires_grad_(False)
    return trainer(folder, model, learning_rate=1e-3)


def beside_an_adapter(model):
    """Mark a model as one with an adapter that trains a head: PEFT, not needed here, freezes the rest."""
    model.base_model.requires_grad_(False)
    model.peft_config = {"default": SimpleNamespace(task_type="SEQ_CLS", modules_to_save=None)}
    return model


@setup()
def adapter_with_a_trained_head(folder):
    return trainer(folder, beside_an_adapter(tiny()))


@setup()
def adapter_with_a_trained_head_of_two_parts(folder):
    return trainer(folder, beside_an_adapter(tiny("DistilBert")))


@setup()
def adapter_beside_a_head_that_was_trained_before(folder):
    tiny().save_pretrained(folder / "model")
    model = beside_an_adapter(AutoModelForSequenceClassification.from_pretrained(folder / "model"))
    model.classifier.requires_grad_(False)
    model.bert.encoder.layer[0].attention.requires_grad_(True)  # for the adapter's own
    return trainer(folder, model)


@setup(train=False)
def adapter_loaded_to_be_evaluated(folder):
    model = beside_an_adapter(tiny())
    model.requires_grad_(False)
    return trainer(folder, model, data={"eval_dataset": labelled()}, eval_strategy="no")


@setup("predict-order")
def grouped_by_length(folder):
    return trainer(folder, train_sampling_strategy="group_by_length")


@setup("label-range")
def rows_left_out_with_minus_100(folder):
    def accuracy(prediction):
        known = prediction.label_ids != -100
        return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids)[known].mean())}

    train = labelled(60, values=[-100 if i % 10 == 0 else i % 2 for i in range(60)])
    return trainer(
        folder,
        data={"train_dataset": train, "eval_dataset": labelled(24, seed=2)},
        given={"compute_metrics": accuracy},
    )


@setup()
def bfloat16_on_float32_weights(folder):
    return trainer(folder, bf16=True)


@setup()
def less_memory(folder):
    return trainer(folder, gradient_checkpointing=True, eval_accumulation_steps=2)


@setup()
def tokens_added_and_the_model_resized(folder):
    tokenizer = bert_tokenizer()
    tokenizer.add_tokens(["@user", "#tag"])
    model = tiny()
    model.resize_token_embeddings(len(tokenizer))
    return trainer(folder, model, tokenizer=tokenizer, data=pair(tokenizer=tokenizer))


@setup()
def loaded_from_a_folder_and_resized(folder):
    tiny().save_pretrained(folder / "model")
    BERT.save_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.add_tokens(["@user"])
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    model.resize_token_embeddings(len(tokenizer))
    return trainer(folder, model, tokenizer=tokenizer)


@setup()
def model_and_tokenizer_from_two_copies(folder):
    tiny().save_pretrained(folder / "one")
    for name in ("one", "two"):
        BERT.save_pretrained(folder / name)
    return trainer(
        folder,
        AutoModelForSequenceClassification.from_pretrained(folder / "one"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "two"),
    )


# metrics


def telling(**functions):
    def metrics(prediction):
        scores = torch.tensor(prediction.predictions).softmax(-1).numpy()
        return {name: function(prediction.label_ids, scores) for name, function in functions.items()}

    return {"compute_metrics": metrics}


@setup()
def area_under_the_curve(folder):
    given = telling(roc_auc=lambda labels, scores: roc_auc_score(labels, scores[:, 1]))
    return trainer(
        folder,
        given=given,
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="roc_auc",
        greater_is_better=True,
    )


@setup()
def area_under_the_curve_of_three(folder):
    return trainer(
        folder,
        tiny(classes=3),
        data=pair(3),
        given=telling(auc=lambda labels, scores: roc_auc_score(labels, scores, multi_class="ovr")),
    )


@setup()
def specificity_from_the_confusion_matrix(folder):
    def specificity(labels, scores):
        negative, false_positive, _, _ = confusion_matrix(labels, scores.argmax(-1)).ravel()
        return negative / (negative + false_positive)

    return trainer(folder, given=telling(specificity=specificity))


@setup()
def whole_confusion_matrix_as_a_list(folder):
    return trainer(
        folder,
        given=telling(
            accuracy=lambda labels, scores: (labels == scores.argmax(-1)).mean(),
            matrix=lambda labels, scores: confusion_matrix(labels, scores.argmax(-1)).tolist(),
        ),
    )


@setup()
def predictions_reduced_before_the_metrics(folder):
    def metrics(prediction):
        return {"accuracy": float((prediction.predictions == prediction.label_ids).mean())}

    return trainer(
        folder,
        given={
            "compute_metrics": metrics,
            "preprocess_logits_for_metrics": lambda logits, labels: logits.argmax(-1),
        },
    )


@setup()
def several_outputs_taken_apart(folder):
    tokenizer = FAMILIES["Bart"][0]()
    model = tiny("Bart", 2, tokenizer)
    first = {
        "preprocess_logits_for_metrics": lambda logits, labels: (
            logits[0] if isinstance(logits, tuple) else logits
        )
    }
    return trainer(folder, model, tokenizer=tokenizer, data=pair(tokenizer=tokenizer), given=first)


@setup()
def metrics_that_look_at_the_inputs(folder):
    def metrics(prediction):
        assert prediction.inputs.shape[0] == len(prediction.label_ids)
        return compute_metrics(prediction)

    return trainer(folder, given={"compute_metrics": metrics}, include_for_metrics=["inputs"])


@setup()
def metrics_batch_by_batch(folder):
    seen = []

    def metrics(prediction, compute_result=False):
        seen.append(
            float(
                (torch.as_tensor(prediction.predictions).argmax(-1) == torch.as_tensor(prediction.label_ids))
                .float()
                .mean()
            )
        )
        if compute_result:
            result = {"accuracy": np.mean(seen)}
            seen.clear()
            return result
        return None

    return trainer(folder, given={"compute_metrics": metrics}, batch_eval_metrics=True)


@setup()
def metrics_batch_by_batch_in_torch(folder):
    """The library's own way: compute_result has no default, predictions are tensors, all batches count."""
    hits = []

    def metrics(prediction, compute_result):
        hits.extend((prediction.predictions.argmax(dim=-1) == prediction.label_ids).cpu().tolist())
        if not compute_result:
            return {}
        assert len(hits) == 24
        accuracy = sum(hits) / len(hits)
        hits.clear()
        return {"accuracy": accuracy}

    return trainer(
        folder,
        given={"compute_metrics": metrics},
        batch_eval_metrics=True,
        per_device_eval_batch_size=7,
        include_for_metrics=["inputs", "loss"],
    )


for _value in (
    np.float32(0.5),
    np.int64(3),
    np.bool_(True),
    torch.tensor(0.5),
    torch.tensor([0.5]),
    torch.tensor([[3]]),
    3,
    True,
    None,
    "good",
    {"a": 0.5},
):

    def _metrics(prediction, value=_value):
        return {"accuracy": 0.5, "extra": value, "nested": {"in a dict": value, "in a list": [value]}}

    setup(name=f"the metric {_value!r}")(
        lambda folder, metrics=_metrics: trainer(
            folder, save_strategy="epoch", given={"compute_metrics": metrics}
        )
    )


@setup()
def best_by_a_tensor_of_one_element(folder):
    given = {"compute_metrics": lambda prediction: {"f1_macro": torch.tensor([0.5])}}
    return trainer(folder, save_strategy="epoch", given=given, **BEST)


def needs_all(evaluation, outputs=2):
    """compute_metrics that looks at the rows of the evaluation data one by one, in their order."""
    labels = np.array(evaluation["label"])

    def metrics(prediction):
        assert prediction.predictions.shape == (len(labels), outputs)
        assert np.array_equal(prediction.label_ids, labels)
        right = prediction.predictions.argmax(-1) == labels
        return {"accuracy_of_every_third": float(right[np.arange(len(labels)) % 3 == 0].mean())}

    return {"compute_metrics": metrics}


@setup()
def metrics_of_groups_of_shuffled_rows(folder):
    data = pair()
    data["eval_dataset"] = data["eval_dataset"].shuffle(seed=3)
    return trainer(folder, data=data, given=needs_all(data["eval_dataset"]))


@setup(train=False)
def metrics_of_groups_of_so_many_rows_and_classes(folder):
    """More numbers than preflight tries at first."""
    evaluation = many(20_100, 2)
    classes = tiny(classes=200, max_position_embeddings=64)
    return trainer(
        folder,
        classes,
        data={"train_dataset": many(3000, 1), "eval_dataset": evaluation},
        given=needs_all(evaluation, 200),
    )


@setup(train=False)
def metrics_of_groups_of_rows_made_on_the_fly(folder):
    """Of such rows only 2,000 are read; they stand for the others."""
    evaluation = many(2_500, 2)
    evaluation.set_transform(
        lambda batch: {name: values for name, values in batch.items() if name != "token_type_ids"}
    )
    groups = np.arange(2_500) % 3 == 0
    given = {
        "compute_metrics": lambda p: {
            "accuracy": float((p.predictions.argmax(-1) == p.label_ids)[groups].mean())
        }
    }
    return trainer(
        folder,
        tiny(max_position_embeddings=64),
        data={"train_dataset": many(300, 1), "eval_dataset": evaluation},
        given=given,
    )


@setup("metrics-shape", train=False)
def metrics_of_groups_of_a_stream(folder):
    """Nobody knows how many rows it has: what fails with 2,000 of them may be right."""
    groups = np.arange(2_500) % 3 == 0
    given = {
        "compute_metrics": lambda p: {
            "accuracy": float((p.predictions.argmax(-1) == p.label_ids)[groups].mean())
        }
    }
    data = {"train_dataset": many(300, 1), "eval_dataset": many(2_500, 2).to_iterable_dataset()}
    return trainer(folder, tiny(max_position_embeddings=64), data=data, given=given)


@setup()
def collator_that_encodes_the_labels(folder):
    def collate(rows):
        made = BERT.pad([{"input_ids": row["input_ids"]} for row in rows], return_tensors="pt")
        return made | {"labels": torch.tensor([{"good": 1, "bad": 0}[row["label"]] for row in rows])}

    data = {
        key: labelled(seed=seed, values=["good", "bad"] * 24)
        for key, seed in (("train_dataset", 1), ("eval_dataset", 2))
    }
    return trainer(folder, data=data, given={"data_collator": collate})


@setup()
def collator_that_counts_the_stars_from_0(folder):
    class FromZero(DataCollatorWithPadding):
        def __call__(self, rows):
            return super().__call__([row | {"label": row["label"] - 1} for row in rows])

    data = {
        key: labelled(60, seed=seed, values=[1 + i % 5 for i in range(60)])
        for key, seed in (("train_dataset", 1), ("eval_dataset", 2))
    }
    return trainer(folder, tiny(classes=5), data=data, given={"data_collator": FromZero(BERT)})


@setup()
def ordinal_loss(folder):
    """Four outputs for five stars, each "more than so many?" (Cao et al. 2020): the label 4 is right."""

    def more_than(outputs, labels, num_items_in_batch=None):
        levels = (labels[:, None] > torch.arange(4)).float()
        total = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, levels, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    class Ordinal(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = more_than(outputs, labels, num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

    data = {
        key: labelled(60, seed=seed, values=[i % 5 for i in range(60)])
        for key, seed in (("train_dataset", 1), ("eval_dataset", 2))
    }
    stars = {
        "compute_metrics": lambda p: {"mae": float(np.abs((p.predictions > 0).sum(1) - p.label_ids).mean())}
    }
    return trainer(folder, tiny(classes=4), kind=Ordinal, data=data, given=stars)


@setup()
def unknown_ratings_masked_in_the_loss(folder):
    class Masked(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            known = ~labels.isnan()
            loss = torch.nn.functional.mse_loss(outputs.logits.squeeze(-1)[known], labels[known])
            return (loss, outputs) if return_outputs else loss

    values = np.random.default_rng(0).normal(size=60)
    values[::12] = np.nan
    data = {
        key: labelled(60, seed=seed, values=values)
        for key, seed in (("train_dataset", 1), ("eval_dataset", 2))
    }
    mae = {
        "compute_metrics": lambda p: {
            "mae": float(np.nanmean(np.abs(p.predictions.squeeze(-1) - p.label_ids)))
        }
    }
    return trainer(folder, tiny(classes=1), kind=Masked, data=data, given=mae)


@setup()
def augmented_at_random(folder):
    """Each time it is read, a row has lost some words; NumPy, Python and torch draw the random numbers."""

    class Augmented(Rows):
        def __getitem__(self, i):
            ids = [
                word
                for word in self.encodings["input_ids"][i]
                if np.random.rand() > 0.1 or random.random() > 0.9 or torch.rand(1) > 0.9
            ]
            return {
                "input_ids": [2, *ids, 3],
                "attention_mask": [1] * (len(ids) + 2),
                "labels": self.labels[i],
            }

    return trainer(folder, data={"train_dataset": Augmented(48, 1), "eval_dataset": Rows(24, 2)})


# models of one's own, and other tasks: little is known about them, so nothing is said


class Bag(torch.nn.Module):
    """A model that is no transformers model at all."""

    def __init__(self):
        super().__init__()
        self.words, self.head = torch.nn.EmbeddingBag(len(BERT), 8), torch.nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits = self.head(self.words(input_ids))
        return (
            {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}
            if labels is not None
            else {"logits": logits}
        )


@setup()
def plain_torch_model(folder):
    return trainer(folder, Bag(), given={"data_collator": DataCollatorWithPadding(BERT)})


@setup()
def token_classification(folder):
    def tagged(seed):
        encoded = BERT(sentences(40, seed))
        return Dataset.from_dict(
            dict(encoded)
            | {"labels": [[-100, *[i % 3 for i in row[1:-1]], -100] for row in encoded["input_ids"]]}
        )

    config = transformers.BertConfig(vocab_size=len(BERT), **SMALL, **named(3))
    model = transformers.BertForTokenClassification(config)
    data = {"train_dataset": tagged(1), "eval_dataset": tagged(2)}
    return trainer(
        folder,
        model,
        data=data,
        given={"data_collator": DataCollatorForTokenClassification(BERT), "compute_metrics": None},
    )


@setup()
def masked_language_model(folder):
    model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=len(BERT), **SMALL))
    data = {name: part.remove_columns("label") for name, part in pair().items()}
    return trainer(
        folder,
        model,
        data=data,
        given={"data_collator": DataCollatorForLanguageModeling(BERT), "compute_metrics": None},
    )


# the project's own


@pytest.fixture(scope="module")
def minilm():
    checkpoint = find_model("minilm-l6")
    return checkpoint, AutoTokenizer.from_pretrained(checkpoint)


def load_minilm(minilm, labels):
    return AutoModelForSequenceClassification.from_pretrained(
        minilm[0],
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        dtype=torch.float32,
    )


def as_dataset(frame, labels, tokenizer):
    made = Dataset.from_dict(
        {
            "text": frame["text"].tolist(),
            "label": frame["label"].tolist(),
            **tokenizer(frame["text"].tolist(), truncation=True, max_length=128),
        }
    )
    return made.cast_column("label", ClassLabel(names=labels))


def the_projects_own(folder, minilm, table, max_train_samples=None, **args):
    """Build what 04_training builds."""
    splits = split_table(table, max_train_samples=max_train_samples, seed=42)
    labels = label_names(splits.train["label"])
    train, validation, test = (as_dataset(part, labels, minilm[1]) for part in splits[:3])
    model = load_minilm(minilm, labels)
    model.accepts_loss_kwargs = False
    given = {"data_collator": DataCollatorWithPadding(minilm[1]), "callbacks": [EarlyStoppingCallback(2)]}
    chosen = {
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 64,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "save_strategy": "epoch",
    }
    chosen |= {"save_total_limit": 2, "train_sampling_strategy": "group_by_length"} | BEST | args
    return trainer(
        folder,
        model,
        tokenizer=minilm[1],
        data={"train_dataset": train, "eval_dataset": validation},
        given=given,
        **chosen,
    ), test


def test_the_bundled_model_on_the_bundled_tweets(tmp_path, minilm, tweets):
    made, test = the_projects_own(tmp_path, minilm, tweets, num_train_epochs=3)
    assert ids(preflight(made, test_dataset=test)) == ["predict-order"]


@pytest.mark.parametrize("name", SETUPS)
def test_a_healthy_setup_is_left_alone(tmp_path, name, capsys):
    build, says, train = SETUPS[name]
    made = build(tmp_path)
    made, test = made if isinstance(made, tuple) else (made, None)
    capsys.readouterr()
    report = preflight(made, test_dataset=test)
    assert capsys.readouterr().out == ""
    assert not report.errors, report
    assert ids(report) == says, report
    if train:  # it really is healthy: it trains and evaluates, and Watch has nothing against it
        made.args.max_steps = (
            min(2, made.args.max_steps)
            if made.args.max_steps > 0 and not made.args.resume_from_checkpoint
            else 2
        )
        if made.args.resume_from_checkpoint:
            made.args.max_steps = 4
        made.add_callback(Watch())
        result = made.train(resume_from_checkpoint=made.args.resume_from_checkpoint)
        assert result.global_step == made.args.max_steps
        assert 0 < result.training_loss < 100
        if made.eval_dataset is not None:
            assert any(
                key.endswith("_loss") and np.isfinite(value)
                for entry in made.state.log_history
                for key, value in entry.items()
                if "eval" in key
            )


def test_there_are_many_of_them():
    assert len(SETUPS) >= 90


# --- everything is left as it was ---------------------------------------------------------------------------


def state_of(made):
    """Return all that preflight might change, in a form that can be compared."""
    model = made.model
    parts = [
        made.train_dataset,
        *(made.eval_dataset.values() if isinstance(made.eval_dataset, dict) else [made.eval_dataset]),
    ]
    return {
        "weights": {
            name: (str(value.dtype), value.cpu().float().numpy().tobytes())
            for name, value in model.state_dict().items()
        },
        "config": copy.deepcopy(model.config.to_dict()) if hasattr(model, "config") else None,
        "config's own": sorted(vars(model.config)) if hasattr(model, "config") else None,
        "arguments": made.args.to_dict(),
        "modes": [module.training for module in model.modules()],
        "gradients": [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()],
        "hooks": sum(
            len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
        ),
        "data": [
            (part._fingerprint, part.format, part.column_names, len(part))
            for part in parts
            if isinstance(part, Dataset)
        ],
        "columns": made._signature_columns,
        "label_names": made.label_names,
        "state": copy.deepcopy(vars(made.state)),
        "control": vars(made.control).copy(),
        "callbacks": list(made.callback_handler.callbacks),
        "optimizers": (made.optimizer, made.lr_scheduler),
        "rates": made.optimizer
        and [
            {name: value for name, value in group.items() if name != "params"}
            for group in copy.copy(made.optimizer.param_groups)
        ],
        "schedule": made.lr_scheduler and copy.deepcopy(made.lr_scheduler.state_dict()),
        "tokenizer": made.processing_class
        and (
            made.processing_class.padding_side,
            len(made.processing_class),
            made.processing_class.init_kwargs.copy(),
        ),
    }


def next_draws():
    return random.random(), np.random.random(), torch.rand(1).item()


def states_of_randomness():
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


def files_below(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


UNTOUCHED = [
    "Bert",
    "GPT2",
    "DebertaV2",
    "decoder_whose_config_learns_its_padding_from_trainer",
    "multi_label_with_the_problem_type_left_to_the_model",
]
UNTOUCHED += [
    "regression",
    "several_evaluation_sets",
    "torch_format_of_some_columns",
    "tokenised_on_the_fly",
    "stream",
    "shuffled_and_split",
    "plain_torch_model",
]
UNTOUCHED += [
    "augmented_at_random",
    "grouped_by_length",
    "gradient_accumulation",
    "embeddings_frozen_on_purpose",
    "masked_language_model",
    "metrics_batch_by_batch",
]
UNTOUCHED += ["schedule_that_begins_low", "schedule_in_one_cycle", "schedule_up_and_down_from_0"]
UNTOUCHED += [
    "sorted_rows_in_a_loader_of_ones_own_that_shuffles",
    "mixed_rows_in_their_order",
    "adapter_with_a_trained_head",
]
UNTOUCHED += [
    "optimizer_and_schedule_of_ones_own",
    "fresh_model_from_model_init",
    "label_smoothing",
    "trainer_with_its_own_loss",
]


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
@pytest.mark.parametrize("name", UNTOUCHED)
def test_preflight_leaves_everything_as_it_was(tmp_path, name, mode, capfd, monkeypatch):
    made = SETUPS[name][0](tmp_path)
    made.model.train(mode != "eval")
    if mode == "mixed":
        next(module for module in made.model.modules() if isinstance(module, torch.nn.Linear)).eval()
    monkeypatch.chdir(tmp_path)
    before, files = state_of(made), files_below(tmp_path)
    randomness = states_of_randomness()
    capfd.readouterr()
    preflight(made)
    assert capfd.readouterr().out == ""
    assert states_of_randomness() == randomness
    assert files_below(tmp_path) == files
    after = state_of(made)
    assert {key: before[key] == after[key] for key in before} == dict.fromkeys(before, True)


def trained(name, folder, before_training):
    """Train the set-up for four steps, from one seed, and return what came of it."""
    set_seed(1)
    made = SETUPS[name][0](folder)
    made.args.max_steps, made.args.logging_steps, made.state.logging_steps = 4, 1, 1
    before_training(made)
    draws = next_draws()
    made.train()
    times = ("runtime", "samples_per_second", "steps_per_second", "total_flos")
    logs = [
        {key: value for key, value in entry.items() if not key.endswith(times)}
        for entry in made.state.log_history
    ]
    return (
        {name: value.numpy().tobytes() for name, value in made.model.state_dict().items()},
        logs,
        made.evaluate()["eval_loss"],
        draws,
    )


@pytest.mark.parametrize(
    "name",
    [
        "Bert",
        "decoder_whose_config_learns_its_padding_from_trainer",
        "augmented_at_random",
        "stream",
        "regression",
        "masked_language_model",
    ],
)
def test_training_after_preflight_is_the_same_to_the_last_bit(tmp_path, name):
    alone = trained(name, tmp_path / "a", lambda made: None)
    checked = trained(name, tmp_path / "b", preflight)
    assert alone[0] == checked[0]
    assert alone[1:] == checked[1:]
    other = trained(name, tmp_path / "c", lambda made: next_draws())
    assert other[3] != alone[3]  # the comparison does see a random number that was drawn


# --- Watch lets healthy runs go on --------------------------------------------------------------------------


def random_labels(rows, classes, seed, share=None):
    """Return labels that have nothing to do with the texts; `share` of them are the first class."""
    draw = np.random.default_rng(seed)
    chances = None if share is None else [share, *[(1 - share) / (classes - 1)] * (classes - 1)]
    made = draw.choice(classes, rows, p=chances)
    made[:classes] = np.arange(classes)
    return made.tolist()


def noisy(folder, rows=32, classes=2, seed=0, share=None, model=None, given=None, **args):
    """A run that cannot learn anything that the evaluation would show."""
    data = {
        "train_dataset": labelled(rows, seed=2 * seed, values=random_labels(rows, classes, seed, share)),
        "eval_dataset": labelled(
            max(16, rows // 2),
            seed=2 * seed + 1,
            values=random_labels(max(16, rows // 2), classes, seed + 50, share),
        ),
    }
    chosen = {
        "learning_rate": 1e-3,
        "num_train_epochs": 5,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "seed": seed,
    }
    return trainer(folder, model or tiny(classes=classes), data=data, given=given, **chosen | args)


def watched(made, to_the_end=True):
    """Train under Watch, which raises if it sees anything wrong, and return its report."""
    watch = Watch()
    made.add_callback(watch)
    made.train()
    assert made.state.global_step == made.state.max_steps or not to_the_end
    assert not watch.report.errors
    return watch.report


def ungrateful(model):
    model.accepts_loss_kwargs = False
    return model


NOISY = {
    "labels at random": {},
    "five classes": {"classes": 5},
    "ten to one": {"share": 0.9},
    "ten to one, longer": {"share": 0.9, "num_train_epochs": 8},
    "five classes, one of them common": {"classes": 5, "share": 0.8},
    "few rows": {"rows": 24, "seed": 3},
    "more rows": {"rows": 40, "seed": 4},
    "one epoch": {"num_train_epochs": 1},
    "evaluated every two steps": {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 3},
    "a small rate": {"learning_rate": 1e-5},
    "a small rate and one common class": {"learning_rate": 1e-5, "share": 0.9},
    "a usual rate": {"learning_rate": 1e-4},
    "warmup": {"learning_rate": 1e-4, "warmup_steps": 0.3},
    "label smoothing": {"label_smoothing_factor": 0.2},
    "accumulated, loss four times too large": {
        "gradient_accumulation_steps": 4,
        "per_device_train_batch_size": 2,
    },
    "accumulated, loss eight times too large, five classes": {
        "classes": 5,
        "gradient_accumulation_steps": 8,
        "per_device_train_batch_size": 2,
    },
    "no evaluation loss of the first batches": {"eval_on_start": True},
    "batches of one row": {"per_device_train_batch_size": 1, "num_train_epochs": 3},
    "a constant rate": {"lr_scheduler_type": "constant", "learning_rate": 2e-3},
    "plain gradient descent": {"optim": "sgd", "learning_rate": 0.05},
}


@pytest.mark.parametrize("name", NOISY)
def test_watch_lets_a_small_noisy_run_go_on(tmp_path, name):
    report = watched(noisy(tmp_path, **NOISY[name]))
    assert {finding.id for finding in report.findings} <= {"overfitting", "imbalance"}, (
        report
    )  # both can be true of random labels


@pytest.mark.parametrize("family", ["DistilBert", "Electra", "GPT2", "Bart"])
@pytest.mark.parametrize("share", [None, 0.9])
def test_watch_lets_other_families_go_on(tmp_path, family, share):
    tokenizer = FAMILIES[family][0]()
    rows = {
        key: labelled(32, seed=seed, tokenizer=tokenizer, values=random_labels(32, 3, seed, share))
        for key, seed in (("train_dataset", 1), ("eval_dataset", 2))
    }
    model = tiny(family, 3, tokenizer, pad_token_id=tokenizer.pad_token_id)
    watched(
        trainer(
            tmp_path,
            model,
            tokenizer=tokenizer,
            data=rows,
            learning_rate=1e-3,
            num_train_epochs=4,
            logging_steps=1,
        )
    )


def test_watch_lets_class_weights_go_on(tmp_path):
    watched(noisy(tmp_path, share=0.9, given={"compute_loss_func": weighted_loss}))


def test_watch_lets_a_loss_of_another_scale_go_on(tmp_path):
    """The sum over a batch is sixteen times the mean; that is no divergence."""

    def summed(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")

    args = {"learning_rate": 3e-4, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 16}
    made = noisy(tmp_path, given={"compute_loss_func": summed}, **args)
    watched(made)
    assert min(entry["loss"] for entry in made.state.log_history if "loss" in entry) > 10 * np.log(2)


def test_watch_lets_accumulation_go_on_where_the_loss_is_right(tmp_path):
    watched(
        noisy(
            tmp_path, model=ungrateful(tiny()), gradient_accumulation_steps=4, per_device_train_batch_size=2
        )
    )


@pytest.mark.parametrize(
    "name",
    [
        "regression",
        "regression_on_stars",
        "regression_on_several_numbers",
        "multi_label",
        "multi_label_with_rare_classes",
    ],
)
@pytest.mark.parametrize("rate", [5e-5, 1e-3])
def test_watch_lets_other_tasks_go_on(tmp_path, name, rate):
    made = SETUPS[name][0](tmp_path)
    (
        made.args.num_train_epochs,
        made.args.learning_rate,
        made.args.save_strategy,
        made.args.load_best_model_at_end,
    ) = 4, rate, "no", False
    watched(made)


def test_watch_lets_a_regression_on_large_numbers_go_on(tmp_path):
    """Prices: a loss of a hundred thousand is no divergence."""
    prices = (np.random.default_rng(0).random(60) * 900 + 100).tolist()
    data = {
        key: labelled(60, seed=seed, values=prices)
        for key, seed in (("train_dataset", 1), ("eval_dataset", 2))
    }
    watched(
        trainer(
            tmp_path,
            tiny(classes=1),
            data=data,
            given={"compute_metrics": rank_correlation},
            num_train_epochs=3,
            learning_rate=1e-3,
            logging_steps=1,
        )
    )


def test_watch_notes_overfitting_and_lets_the_run_go_on(tmp_path):
    """25 times through rows that can be learnt by heart: Watch says so and lets the run go on."""
    report = watched(
        noisy(
            tmp_path,
            rows=24,
            num_train_epochs=25,
            learning_rate=3e-3,
            per_device_train_batch_size=8,
            logging_steps=3,
        )
    )
    assert "overfitting" in {finding.id for finding in report.findings}


def test_watch_lets_a_run_without_metrics_and_one_without_evaluation_go_on(tmp_path):
    watched(noisy(tmp_path / "a", given={"compute_metrics": None}, num_train_epochs=3))
    watched(noisy(tmp_path / "b", eval_strategy="no", num_train_epochs=3))


def test_watch_lets_a_resumed_run_go_on(tmp_path):
    plan = {"save_strategy": "steps", "save_steps": 8, "num_train_epochs": 3}
    before = noisy(tmp_path, **plan)
    before.add_callback(StopAt(8))
    watch = Watch()
    before.add_callback(watch)
    before.train()
    after = noisy(tmp_path, **plan)
    after.add_callback(Watch())
    assert after.train(resume_from_checkpoint=True).global_step == after.state.max_steps


@pytest.mark.slow
def test_watch_lets_the_bundled_model_learn_the_bundled_csv(tmp_path, minilm):
    """The settings of params/own_csv.yaml."""
    table = read_table("data/my_very_important_tweets.csv")
    made, test = the_projects_own(
        tmp_path,
        minilm,
        table,
        num_train_epochs=5,
        per_device_train_batch_size=4,
        logging_steps=2,
        save_only_model=True,
    )
    assert ids(preflight(made, test_dataset=test)) == ["predict-order"]
    watched(made, to_the_end=False)  # early stopping may end it
    assert made.evaluate()["eval_accuracy"] > 0.6


@pytest.mark.slow
def test_watch_lets_the_bundled_model_fail_at_random_labels(tmp_path, minilm, tweets):
    frame = tweets.rows.head(70)
    rows = Dataset.from_dict(
        {
            "text": frame["text"].tolist(),
            "label": random_labels(70, 2, 1, 0.9),
            **minilm[1](frame["text"].tolist(), truncation=True, max_length=32),
        }
    )
    data = {"train_dataset": rows.select(range(40)), "eval_dataset": rows.select(range(40, 64))}
    made = trainer(
        tmp_path,
        load_minilm(minilm, ["no", "yes"]),
        tokenizer=minilm[1],
        data=data,
        num_train_epochs=3,
        learning_rate=1e-4,
        logging_steps=1,
    )
    watched(made)


# --- what was saved rightly ---------------------------------------------------------------------------------


def saved_as(family, folder, **config):
    tokenizer = FAMILIES[family][0]()
    return trainer(
        folder,
        tiny(family, 3, tokenizer, pad_token_id=tokenizer.pad_token_id, **config),
        tokenizer=tokenizer,
        data=pair(3, tokenizer=tokenizer),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_check_saved_accepts_what_save_model_wrote(tmp_path, family):
    made = saved_as(family, tmp_path)
    made.args.max_steps = 2
    made.train()
    made.save_model(str(tmp_path / "model"))
    before, files, randomness = state_of(made), files_below(tmp_path), states_of_randomness()
    report = check_saved(tmp_path / "model", made)
    assert not report.findings, report
    after = state_of(made)
    assert {key: before[key] == after[key] for key in before} == dict.fromkeys(before, True)
    assert files_below(tmp_path) == files
    assert states_of_randomness() == randomness


def test_check_saved_accepts_save_pretrained_with_another_model_max_length(tmp_path):
    made = saved_as("Bert", tmp_path)
    made.processing_class.model_max_length = 24
    made.model.save_pretrained(tmp_path / "model")
    made.processing_class.save_pretrained(tmp_path / "model")
    assert not check_saved(str(tmp_path / "model"), made).findings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["Bert", "Llama"])
def test_check_saved_accepts_other_number_formats(tmp_path, dtype, family):
    made = saved_as(family, tmp_path)
    made.model.to(dtype)
    made.save_model(str(tmp_path / "model"))
    assert not check_saved(tmp_path / "model", made).findings


def test_check_saved_accepts_a_tokenizer_that_only_the_collator_has(tmp_path):
    made = trainer(tmp_path, tokenizer=None, given={"data_collator": DataCollatorWithPadding(BERT)})
    made.save_model(str(tmp_path / "model"))
    assert not check_saved(tmp_path / "model", made).findings


def test_check_saved_accepts_a_model_that_reads_no_texts(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        **named(2),
    )
    draw = np.random.default_rng(0)
    pictures = Dataset.from_dict(
        {"pixel_values": draw.normal(size=(8, 3, 8, 8)).tolist(), "labels": [0, 1] * 4}
    )
    data = {"train_dataset": pictures, "eval_dataset": pictures}
    made = trainer(
        tmp_path,
        transformers.ViTForImageClassification(config),
        tokenizer=None,
        data=data,
        given={"data_collator": default_data_collator},
    )
    made.save_model(str(tmp_path / "model"))
    report = check_saved(tmp_path / "model", made)
    assert not report.findings, report


def test_check_saved_accepts_weights_in_many_files(tmp_path):
    made = saved_as("Bert", tmp_path)
    made.model.save_pretrained(tmp_path / "model", max_shard_size="5KB")
    made.processing_class.save_pretrained(tmp_path / "model")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    assert not check_saved(tmp_path / "model", made).findings


@pytest.mark.parametrize(
    "name",
    [
        "regression",
        "multi_label",
        "best_model_by_epoch",
        "several_evaluation_sets",
        "tokenised_on_the_fly",
        "torch_dataset",
        "nothing_to_evaluate_on",
    ],
)
def test_check_saved_accepts_other_tasks_and_data(tmp_path, name):
    made = SETUPS[name][0](tmp_path)
    made.args.max_steps = 2
    made.train()
    made.save_model(str(tmp_path / "model"))
    report = check_saved(tmp_path / "model", made)
    assert not report.findings, report


def test_check_saved_accepts_the_bundled_model(tmp_path, minilm, tweets):
    made, _ = the_projects_own(tmp_path, minilm, tweets, max_train_samples=60)
    made.model.save_pretrained(tmp_path / "model")
    minilm[1].save_pretrained(tmp_path / "model")
    assert not check_saved(tmp_path / "model", made).findings


# --- speed --------------------------------------------------------------------------------------------------


def many(rows, seed, text=False):
    """Make different tokenised rows of 5 to 60 tokens quickly; with `text`, also the words of the tokens."""
    draw = np.random.default_rng(seed)
    widths = draw.integers(5, 61, rows)
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    tokens = draw.integers(5, len(BERT), offsets[-1]).astype(np.int32)
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = BERT.cls_token_id, BERT.sep_token_id
    for place in (
        1,
        2,
        3,
    ):  # the first three words count the rows, other rows for each seed: chance would repeat some short ones
        tokens[offsets[:-1] + place] = 5 + (2_000_000 * seed + np.arange(rows)) // len(WORDS) ** (
            place - 1
        ) % len(WORDS)
    columns = {
        "label": pa.array(draw.integers(0, 2, rows)),
        "input_ids": pa.ListArray.from_arrays(offsets, tokens),
        "attention_mask": pa.ListArray.from_arrays(offsets, np.ones(len(tokens), np.int8)),
        "token_type_ids": pa.ListArray.from_arrays(offsets, np.zeros(len(tokens), np.int8)),
    }
    kinds = {"label": ClassLabel(names=["class a", "class b"]), "input_ids": List(Value("int32"))}
    kinds |= {"attention_mask": List(Value("int8")), "token_type_ids": List(Value("int8"))}
    if text:
        inner = np.ones(len(tokens), bool)
        inner[offsets[:-1]] = inner[offsets[1:] - 1] = False
        words = pa.array(WORDS).take(pa.array(tokens[inner] - 5))
        bounds = np.concatenate([[0], np.cumsum(widths - 2)]).astype(np.int32)
        columns["text"], kinds["text"] = (
            pc.binary_join(pa.ListArray.from_arrays(bounds, words), " "),
            Value("string"),
        )
    return Dataset(pa.table(columns, schema=Features(kinds).arrow_schema))


class Peak:
    """Measures time, and how far the memory of the process rose above its start, without mapped files.

    The time is the processor's, all threads together: no less than the clock's on an idle machine, and
    others' work does not count.
    """

    def __enter__(self):
        self._process, self._over, self.bytes = psutil.Process(), threading.Event(), 0
        self._start, self._thread, self._began = (
            self._own(),
            threading.Thread(target=self._look),
            time.process_time(),
        )
        self._thread.start()
        return self

    def _own(self):
        memory = self._process.memory_info()
        return memory.rss - getattr(memory, "shared", 0)

    def _look(self):
        while not self._over.wait(0.01):
            self.bytes = max(self.bytes, self._own() - self._start)

    def __exit__(self, *_):
        self.seconds = time.process_time() - self._began
        self._over.set()
        self._thread.join()


def measured(folder, train, evaluation):
    model = tiny(max_position_embeddings=64)
    made = trainer(
        folder,
        model,
        data={"train_dataset": train, "eval_dataset": evaluation},
        save_strategy="epoch",
        save_total_limit=2,
        **BEST,
    )
    with Peak() as peak:
        report = preflight(made)
    return report, peak


def test_ten_thousand_rows_take_less_than_a_second(tmp_path):
    preflight(trainer(tmp_path))  # what is loaded at the first call is not what is measured
    for kind, train in {
        "plain": many(10_000, 1),
        "with texts": many(10_000, 1, text=True),
        "shuffled": many(10_000, 1).shuffle(seed=1),
    }.items():
        report, peak = measured(tmp_path, train, many(1_000, 2, text="text" in train.column_names))
        print(f"10,000 rows, {kind}: {peak.seconds:.2f} s")
        assert not report.findings, report
        assert peak.seconds < 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "with texts", "shuffled"])
def test_a_million_rows_take_less_than_ten_seconds(tmp_path, kind):
    train, evaluation = many(1_000_000, 1, kind == "with texts"), many(100_000, 2, kind == "with texts")
    if kind == "shuffled":
        train = train.shuffle(seed=1)
    preflight(trainer(tmp_path / "first"))
    report, peak = measured(tmp_path, train, evaluation)
    size = train.data.nbytes
    print(
        f"1,000,000 rows, {kind}: {peak.seconds:.1f} s, "
        f"{peak.bytes / 1e6:.0f} MB more memory for {size / 1e6:.0f} MB of data"
    )
    assert not report.findings, report
    assert peak.seconds < 10
    assert peak.bytes < 600e6


def test_a_wrong_label_in_row_90_000_is_found_and_named_in_every_order(tmp_path):
    """That it is fast does not mean that it looks away."""
    rows = many(100_000, 1)
    labels = rows.data.column("label").to_numpy().copy()
    labels[90_000] = 2
    rows = Dataset(rows.data.table.set_column(0, "label", pa.array(labels))).cast_column(
        "label", Value("int64")
    )
    shuffled = rows.shuffle(seed=1)
    where = int(np.flatnonzero(shuffled._indices.column(0).to_numpy() == 90_000)[0])
    assert shuffled[where]["label"] == 2
    for part, place in (
        (rows, "row 90000"),
        (shuffled, f"row {where}"),
        (rows.select(range(89_990, 100_000)), "row 10"),
        (shuffled.select([5, where, 7]), "row 1"),
    ):
        report, _ = measured(tmp_path, part, many(1_000, 2))
        found = [finding.message for finding in report.errors if finding.id == "label-range"]
        assert found, report
        assert f"{place}." in found[0]


def test_a_wrong_label_late_in_a_torch_dataset_is_found_and_named(tmp_path):
    rows = Rows(5_000, 1)
    rows.labels[4_321] = 7
    report = preflight(trainer(tmp_path, data={"train_dataset": rows, "eval_dataset": Rows(24, 2)}))
    (found,) = [finding for finding in report.errors if finding.id == "label-range"]
    assert "run from 0 to 7" in found.message
    assert "row 4321." in found.message


# --- the catalogue, and how a report looks ------------------------------------------------------------------


def test_adding_a_check_is_one_function(tmp_path):
    try:

        @pitfall("odd-seed", "P", "warning", "The seed is 13", "seed=42")
        def odd_seed(setup):
            if setup.args.seed == 13:
                yield f"The seed is {setup.args.seed}.", "seed=42"

        found = preflight(trainer(tmp_path, seed=13)).findings
        assert found == [Finding("odd-seed", "warning", "The seed is 13.", "seed=42")]
        assert not preflight(trainer(tmp_path)).findings
        row = catalogue().set_index("id").loc["odd-seed"]
        assert row.tolist() == ["warning", "P", False, "The seed is 13", "seed=42"]
    finally:
        CATALOGUE.pop("odd-seed", None)
    assert "odd-seed" not in set(catalogue()["id"])
    assert not preflight(trainer(tmp_path, seed=13)).findings


def test_a_check_that_fails_is_said_and_stops_no_other(tmp_path, monkeypatch):
    def broken(setup):
        raise KeyError("colour")

    monkeypatch.setitem(CATALOGUE, "label-names", CATALOGUE["label-names"]._replace(find=broken))
    found = preflight(trainer(tmp_path, fp16=True)).findings
    assert sorted(finding.id for finding in found) == ["check-failed", "fp16-on-cpu"]
    assert (
        "(label-names) could not look: KeyError: 'colour'"
        in next(finding for finding in found if finding.id == "check-failed").message
    )


def test_the_catalogue_names_every_check_once():
    table = catalogue()
    assert table["id"].is_unique
    assert set(table["id"]) == set(CATALOGUE)
    assert set(table["level"]) == {"error", "warning"}
    assert set("".join(table["stages"])) <= set("RPWSCA")
    assert (table["symptom"].str.len() > 10).all()
    assert (table["fix"].str.len() > 3).all()


def two_errors(folder):
    """Labels that the model cannot have, called by names that would run in a browser."""
    names = {0: "<script>alert(1)</script>", 1: "<img src=x onerror=alert(2)>", 2: "Good", 3: "good "}
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(BERT), **SMALL, id2label=names, label2id={name: i for i, name in names.items()}
    )
    model = transformers.BertForSequenceClassification(config)
    data = pair(5, typed=False)
    return trainer(
        folder,
        model,
        data=data,
        metric_for_best_model="f1_macro",
        eval_strategy="no",
        given={"callbacks": [EarlyStoppingCallback(2)]},
    )


def test_raise_for_errors_names_every_error_with_its_fix(tmp_path):
    report = preflight(two_errors(tmp_path))
    assert {finding.id for finding in report.errors} == {"label-range", "early-stopping"}
    with pytest.raises(PreflightError) as raised:
        report.raise_for_errors()
    for finding in report.errors:
        assert f"error: {finding.id}: {finding.message}\n    fix: {finding.fix}" in str(raised.value)
    for finding in report.findings:
        assert (finding.id in str(raised.value)) == (finding.level == "error")
    assert str(raised.value).startswith(f"{len(report.errors)} error(s):\n")


def test_a_report_without_errors_returns_itself(tmp_path):
    report = preflight(trainer(tmp_path))
    assert report.raise_for_errors() is report
    assert str(report) == repr(report) == "Nothing found."
    assert report._repr_html_() == "<p>Nothing found.</p>"
    warned = preflight(trainer(tmp_path, fp16=True))
    assert warned.raise_for_errors() is warned
    assert ids(warned) == ["fp16-on-cpu"]


def test_errors_come_first_and_every_finding_has_its_line_and_its_row(tmp_path):
    report = preflight(two_errors(tmp_path))
    levels = [finding.level for finding in report.findings]
    assert levels == sorted(levels)  # "error" before "warning"
    assert {"error", "warning"} == set(levels)
    lines = str(report).splitlines()
    assert lines[::2] == [f"{f.level}: {f.id}: {f.message}" for f in report.findings]
    assert lines[1::2] == [f"    fix: {f.fix}" for f in report.findings]
    assert report._repr_html_().count("<tr>") == 1 + len(report.findings)


def test_what_came_from_data_is_escaped_in_the_table(tmp_path):
    names = ["<script>alert(1)</script>", "<img src=x onerror=alert(2)>"]
    made = trainer(
        tmp_path,
        data={
            key: part.cast_column("label", ClassLabel(names=names)) for key, part in pair(typed=False).items()
        },
    )
    report = preflight(made)
    assert any(
        "<script>" in finding.message and "onerror" in finding.message for finding in report.findings
    ), report
    html = report._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;img src=x onerror=alert(2)&gt;" in html
    odd = Report([Finding("<b>", "<i>", "<u>&", '<a href="x">')])._repr_html_()
    for escaped in ("&lt;b&gt;", "&lt;i&gt;", "&lt;u&gt;&amp;", "&lt;a href=&quot;x&quot;&gt;"):
        assert escaped in odd
