"""Tiny tokenizers, models, data sets and Trainers that many tests need.

    trainer_for(tmp_path)                                        # nothing is wrong with it
    trainer_for(tmp_path, model=tiny(["a", "b", "c"]), train=table(labels=[0, 1, 2] * 8), fp16=True)

Weights, texts and labels are the same each time. A model has one layer, a tokenizer one token a word.
"""

import functools
import random
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from utils.data import split_table
from utils.labels import label_names
from utils.metrics import compute_metrics
from utils.models import find_model

WORDS = [f"w{i}" for i in range(196)]
LABELS = ["negative", "positive"]

# --- tokenizers ---------------------------------------------------------------------------------------------


def word_tokenizer(specials, single, pair, words=WORDS, **names):
    """One token a word; `specials` have the first ids. `single`, `pair`: how texts are put between them."""
    vocabulary = {word: i for i, word in enumerate([*specials, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=names["unk_token"]))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    used = [(token, i) for i, token in enumerate(specials) if token in pair]
    inner.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def tokenizer_of(words=WORDS, **names):
    """BERT's form: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, then the words."""
    specials = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    template = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    names = specials | {"model_max_length": 64} | names
    return word_tokenizer(list(specials.values()), *template, words, **names)


def roberta_tokenizer():
    """<s> 0, <pad> 1, </s> 2, <unk> 3, <mask> 4; two ends between the texts of a pair."""
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    names |= {"mask_token": "<mask>"}
    template = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
    return word_tokenizer(list(names.values()), *template, cls_token="<s>", sep_token="</s>", **names)


def t5_tokenizer():
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return word_tokenizer(list(names.values()), "$A </s>", "$A </s> $B </s>", **names)


def gpt2_tokenizer():
    """Byte pairs, and one special token for everything, padding too: what people do with GPT-2."""
    made, end = Tokenizer(models.BPE()), "<|endoftext|>"
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    known = {"special_tokens": [end], "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    made.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=400, show_progress=False, **known))
    ends = {"unk_token": end, "bos_token": end, "eos_token": end, "pad_token": end}
    return PreTrainedTokenizerFast(tokenizer_object=made, **ends)


TOKENIZER = tokenizer_of()

# --- models -------------------------------------------------------------------------------------------------

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL |= {"max_position_embeddings": 64}
BART = {
    f"{part}_{size}": n for part in ("encoder", "decoder") for size, n in (("layers", 1), ("ffn_dim", 16))
}
BART |= {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
DEBERTA = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
DEBERTA |= {"position_biased_input": False, "share_att_key": True}
MODERN = {"num_hidden_layers": 2, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
ENDS = {"bos_token_id": 0, "eos_token_id": 0}
FAMILIES = {  # name of the classes -> tokenizer, arguments of the config
    "Bert": (tokenizer_of, SMALL),
    "DistilBert": (tokenizer_of, {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}),
    "Roberta": (roberta_tokenizer, SMALL),
    "Electra": (tokenizer_of, SMALL | {"embedding_size": 16}),
    "Albert": (tokenizer_of, SMALL | {"embedding_size": 16}),
    "DebertaV2": (tokenizer_of, SMALL | DEBERTA),
    "XLMRoberta": (roberta_tokenizer, SMALL),
    "MPNet": (roberta_tokenizer, SMALL),
    "ModernBert": (tokenizer_of, SMALL | MODERN),
    "BigBird": (tokenizer_of, SMALL | {"attention_type": "original_full"}),
    "GPT2": (gpt2_tokenizer, {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64} | ENDS),
    "Llama": (gpt2_tokenizer, SMALL | {"num_key_value_heads": 2} | ENDS),
    "Qwen2": (gpt2_tokenizer, SMALL | {"num_key_value_heads": 2} | ENDS),
    "OPT": (roberta_tokenizer, SMALL | {"ffn_dim": 16, "word_embed_proj_dim": 16, "eos_token_id": 2}),
    "Bart": (roberta_tokenizer, BART | {"max_position_embeddings": 64, "decoder_start_token_id": 2}),
    "T5": (t5_tokenizer, T5 | {"num_decoder_layers": 1}),
}
tokenizer_of_family = functools.cache(lambda family: FAMILIES[family][0]())


def named(labels):
    """What from_pretrained takes: id2label and label2id; or num_labels, for a number of outputs."""
    if isinstance(labels, int):
        return {"num_labels": labels, "id2label": None, "label2id": None}
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


def seeded(kind, **settings):
    """A model of a class with the same random weights each time; `settings` are those of its config."""
    torch.manual_seed(0)
    return kind(kind.config_class(**settings))


def tiny(labels=LABELS, family="Bert", kind=None, **settings):
    """A model of random weights. `labels`: names of the classes, or a number of outputs without names.

    kind: another class than the family's for sequence classification. settings: of the config.
    """
    kind = kind or getattr(transformers, f"{family}ForSequenceClassification")
    sizes = FAMILIES.get(family, (None, {}))[1]
    return seeded(kind, **{"vocab_size": 200} | sizes | named(labels) | settings)


def bert(labels=LABELS, **settings):
    """A BERT of 32 units."""
    return tiny(labels, **{"hidden_size": 32, "intermediate_size": 32} | settings)


def of_family(family, labels=LABELS, **settings):
    """Model and tokenizer of a family that fit together, as `trainer_for` takes them, and data."""
    tokenizer = tokenizer_of_family(family)
    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id} | settings
    model = tiny(labels, family, **settings)
    return {"model": model, "tokenizer": tokenizer, **pair(tokenizer=tokenizer, names=labels)}


# --- data ---------------------------------------------------------------------------------------------------


def texts_of(rows, seed=0, length=8, most=None):
    """Texts of `length` words, or of `length` to `most` words; another seed gives other texts."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choices(WORDS, k=draw.randint(length, most) if most else length)) for _ in range(rows)
    ]


def table(rows=24, seed=0, **changes):
    """Texts, their labels (by turns 0 and 1, as ClassLabel, unless others are given) and their tokens.

    labels: a list, or a function of the number of rows. texts, tokenizer, names (of the classes), column (of
    the labels). Other changes go to the tokenizer.
    """
    return made_table(rows, seed, **changes) if changes else plain_table(rows, seed)


def made_table(rows, seed, labels=None, texts=None, tokenizer=TOKENIZER, names=LABELS, column="label", **how):
    texts = texts_of(rows, seed) if texts is None else texts
    by_turns = labels is None
    labels = [i % len(names) for i in range(len(texts))] if by_turns else labels
    data = {"text": texts, column: labels(len(texts)) if callable(labels) else labels}
    data |= dict(tokenizer(texts, **{"truncation": True} | how))
    made = Dataset.from_dict(data)
    return made.cast(Features(made.features | {column: ClassLabel(names=names)})) if by_turns else made


plain_table = functools.cache(made_table)


def pair(rows=24, held_out=12, **changes):
    """Training and evaluation data without a text in common, as `trainer_for` takes them."""
    return {"train": table(rows, 0, **changes), "held_out": table(held_out, 1, **changes)}


def each(data, change):
    """Apply a function to each data set of a dict."""
    return {name: change(part) for name, part in data.items()}


def many(rows, seed, text=False):
    """Make different tokenised rows of 5 to 60 tokens quickly; with `text`, also the words of the tokens."""
    draw = np.random.default_rng(seed)
    widths = draw.integers(5, 61, rows)
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    tokens = draw.integers(4, len(TOKENIZER), offsets[-1]).astype(np.int32)
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id
    for place in (1, 2, 3):  # the first words count the rows of all seeds: chance would repeat short ones
        count = (2_000_000 * seed + np.arange(rows)) // len(WORDS) ** (place - 1)
        tokens[offsets[:-1] + place] = 4 + count % len(WORDS)
    lists = {"input_ids": tokens, "attention_mask": np.ones(len(tokens), np.int8)}
    columns = {"label": pa.array(draw.integers(0, 2, rows))}
    columns |= {name: pa.ListArray.from_arrays(offsets, values) for name, values in lists.items()}
    kinds = {"label": ClassLabel(names=LABELS), "input_ids": List(Value("int32"))}
    kinds |= {"attention_mask": List(Value("int8"))}
    if text:
        inner = np.ones(len(tokens), bool)
        inner[offsets[:-1]] = inner[offsets[1:] - 1] = False
        words = pa.array(WORDS).take(pa.array(tokens[inner] - 4))
        bounds = np.concatenate([[0], np.cumsum(widths - 2)]).astype(np.int32)
        columns["text"] = pc.binary_join(pa.ListArray.from_arrays(bounds, words), " ")
        kinds["text"] = Value("string")
    return Dataset(pa.table(columns, schema=Features(kinds).arrow_schema))


def minilm(labels=LABELS):
    """The bundled model and its tokenizer."""
    checkpoint = find_model("minilm-l6")
    load = AutoModelForSequenceClassification.from_pretrained
    model = load(checkpoint, dtype=torch.float32, **named(labels))
    return {"model": model, "tokenizer": AutoTokenizer.from_pretrained(checkpoint)}


def save_small(folder, labels=LABELS, tokenizer=None, **settings):
    """Save a model of 16 units that has the bundled model's tokenizer (some 2 MB), and return it."""
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(find_model("minilm-l6"))
    model = tiny(labels, vocab_size=len(tokenizer), **{"max_position_embeddings": 512} | settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def as_the_template(rows, **how):
    """What the template builds of a table of `read_table`: model, tokenizer, three splits, arguments."""
    splits = split_table(rows, seed=42)
    names = label_names(splits.train["label"])
    setup = minilm(names) | {"per_device_train_batch_size": 16, "train_sampling_strategy": "group_by_length"}
    setup["model"].accepts_loss_kwargs = False

    def encoded(frame):
        labels = [names.index(label) for label in frame["label"]]
        made = table(
            texts=frame["text"].tolist(), labels=labels, tokenizer=setup["tokenizer"], max_length=128
        )
        return made.cast_column("label", ClassLabel(names=names))

    return setup | each(dict(zip(("train", "held_out", "test"), splits[:3], strict=True)), encoded) | how


class Rows(torch.utils.data.Dataset):
    """A data set as PyTorch's own tutorials write it: `label` makes what the loss gets of a label."""

    def __init__(self, rows, label=torch.tensor):
        self.rows, self.label = [without_text(row) for row in rows], label

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        row = dict(self.rows[place])
        label = self.label(row.pop("label"))
        return {name: torch.tensor(value) for name, value in row.items()} | {"labels": label}


def without_text(row):
    return {name: value for name, value in row.items() if name != "text"}


# --- Trainers -----------------------------------------------------------------------------------------------

ARGUMENTS = {field.name for field in fields(TrainingArguments)}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "f1_macro", "greater_is_better": True}
FINE = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False}
FINE |= {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 5e-5, "warmup_steps": 0.1}
FINE |= {
    "logging_strategy": "epoch",
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
}
FINE |= BEST
NOT_SAVED = {"save_strategy": "no", "load_best_model_at_end": False}
UNCHOSEN = NOT_SAVED | {"metric_for_best_model": None, "greater_is_better": None}
NEVER_EVALUATES = UNCHOSEN | {"eval_strategy": "no"}
SHORT = {"train": "train_dataset", "held_out": "eval_dataset", "tokenizer": "processing_class"}


def by_steps(steps, **changes):
    """Evaluate and save every few steps."""
    strategies = {"eval_strategy": "steps", "save_strategy": "steps"}
    return strategies | {"eval_steps": steps, "save_steps": steps} | changes


STREAMED = by_steps(2, max_steps=4, num_train_epochs=3.0)  # 3.0 is the default: only max_steps is set


def trainer_for(folder, kind=Trainer, **changes):
    """A Trainer of 12 steps with nothing wrong, but for what `changes` says.

    They are arguments of TrainingArguments and of Trainer; `train`, `held_out` and `tokenizer` are short for
    train_dataset, eval_dataset and processing_class.
    """
    settings = FINE | {name: value for name, value in changes.items() if name in ARGUMENTS}
    parts = {"train": table(24, 0), "held_out": table(12, 1), "tokenizer": TOKENIZER}
    parts |= {"compute_metrics": compute_metrics}
    parts |= {name: value for name, value in changes.items() if name not in ARGUMENTS}
    if "model" not in parts and "model_init" not in parts:
        parts["model"] = bert()
    parts = {SHORT.get(name, name): value for name, value in parts.items()}
    return kind(args=TrainingArguments(**{"output_dir": str(folder / "run")} | settings), **parts)
