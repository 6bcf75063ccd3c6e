"""Checks of the rows: containers, columns, token ids, texts."""

import contextlib
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers.data.data_collator import default_data_collator

from utils.preflight.catalogue import pitfall, places
from utils.preflight.setup import text_config, untouched
from utils.preflight.split import Split, container_fault, error_text, is_list, is_text, plain, shared_rows


@pitfall(
    "wrong-container",
    "P",
    "error",
    "The data set is a DataFrame, a DatasetDict or a dict of lists: KeyError: 6, Invalid key: 0",
    "Hand over one Dataset",
    True,
)
def wrong_container(setup):
    for name, part in setup.given.items():
        if (write := container_fault(part)) is not None:
            yield (
                f"{name}_dataset is a {type(part).__name__}, which has no rows dataset[0], dataset[1], ...; the first batch would fail.",
                f"Give {write}",
            )


@pitfall(
    "two-label-columns",
    "P",
    "error",
    "Both label and labels are there: label wins",
    "Remove one of them",
    True,
)
def two_label_columns(setup):
    for split in setup.splits.values():
        found = split.label_columns
        if len(found) > 1:
            lost = " and ".join(repr(name) for name in found[1:])
            yield (
                f"The {split.role} data have the columns {' and '.join(map(repr, found))}; the collator in use takes {found[0]!r} and loses {lost}.",
                f"dataset = dataset.remove_columns({found[0]!r}), or {found[1]!r}: keep the one that is right",
            )


@pitfall(
    "eval-labels-missing",
    "P",
    "error",
    "No eval_loss, and compute_metrics is never called, without a word",
    "The same column names in both splits",
    False,
)
def eval_labels_missing(setup):
    if setup.train is None or setup.train.label_column is None:
        return
    for split in setup.evals:
        if split.label_column is None and len(split.index):
            reason, fix = without_labels(split, setup.train.label_column)
            yield (
                f"The training data have the label column {setup.train.label_column!r}, the {split.role} data have no labels: {reason}. There will be no "
                "evaluation loss, and compute_metrics will not be called.",
                fix,
            )


def without_labels(split: Split, right: str = "label") -> tuple[str, str]:
    """Say why a split has no labels, and how it gets them."""
    hidden = [name for name in split.all_columns if name in split.label_names]
    if hidden:
        return f"set_format hides the column {hidden[0]!r}", f"Add {hidden[0]!r} to set_format(columns=[...])"
    others = [
        name for name in split.all_columns if name not in ("input_ids", "attention_mask", "token_type_ids")
    ]
    named = f"none of its columns ({', '.join(map(repr, split.all_columns))}) is called label, labels or label_ids"
    return named, f"dataset = dataset.rename_column({(others or ['...'])[-1]!r}, {right!r})"


@pitfall(
    "not-tokenised",
    "P",
    "error",
    "The first batch fails: 'You should supply an encoding', or rows of different lengths",
    "Tokenise; a padding collator",
    True,
    dry=True,
)
def not_tokenised(setup):
    needed = setup.input_name
    for split in setup.splits.values():
        if not len(split.index) or (needed not in split.columns and "inputs_embeds" in split.columns):
            continue
        if setup.own_collator and needed in setup.dry.collated.get(split.name, ()):
            continue  # it tokenises
        if needed not in split.columns:
            has = f"it has {', '.join(map(repr, split.columns)) or 'no columns'}"
            yield (
                f"The {split.role} data have no column {needed!r} ({has}), so the model would get no text.",
                "dataset = dataset.map(lambda batch: tokenizer(batch['text'], truncation=True), batched=True)",
            )
        elif needed == "input_ids":
            kind = split.type(needed)
            if kind is None or not is_list(kind) or is_list(kind.value_type):
                shape = (
                    "is a list of lists"
                    if kind is not None and is_list(kind)
                    else f"holds {kind or 'values of several kinds'}"
                )
                yield (
                    f"{needed!r} of the {split.role} data {shape}; it must hold one flat list of whole numbers a row.",
                    "Tokenise without return_tensors: tokenizer(text, truncation=True), not tokenizer(text, return_tensors='pt')",
                )
            elif (
                split.tokens is not None
                and setup.collator is default_data_collator
                and len(set(split.tokens.widths.tolist())) > 1
            ):
                low, high = split.tokens.widths.min(), split.tokens.widths.max()
                yield (
                    f"The rows of the {split.role} data have {low} to {high} tokens, and the collator in use does not pad, so a batch cannot be made.",
                    "Trainer(..., processing_class=tokenizer), or data_collator=DataCollatorWithPadding(tokenizer)",
                )
    for split in setup.splits.values():
        texts = [
            name
            for name in split.columns
            if name != split.label_column and split.type(name) is not None and is_text(split.type(name))
        ]
        if texts and not setup.args.remove_unused_columns and split.name in setup.dry.refused:
            yield (
                f"remove_unused_columns=False hands the text column {texts[0]!r} of the {split.role} data to the collator, which cannot make a tensor of it.",
                f"remove_unused_columns=True, or dataset = dataset.remove_columns({texts[0]!r})",
            )


@pitfall(
    "empty-tokenizer",
    "PS",
    "error",
    "A folder without tokenizer files gives a tokenizer of 5 tokens: every word is [UNK]",
    "Save the tokenizer with the model",
)
def empty_tokenizer(setup):
    vocabulary, split = getattr(text_config(setup.config), "vocab_size", None), setup.train
    load = "tokenizer = AutoTokenizer.from_pretrained(checkpoint) with the checkpoint of the model, then tokenise again"
    if (
        setup.tokenizer is not None
        and vocabulary
        and hasattr(setup.tokenizer, "__len__")
        and len(setup.tokenizer) <= 50
        and vocabulary > 10 * len(setup.tokenizer)
    ):
        yield (
            f"The tokenizer knows {len(setup.tokenizer)} tokens, the model {vocabulary:,}: it was loaded without its vocabulary, and nearly every word is unknown.",
            load,
        )
    elif split is not None and split.tokens is not None and split.tokens.content.sum() > 0:
        tokens = split.tokens
        share = tokens.unknown.sum() / tokens.content.sum()
        if share > 0.5:
            yield (
                f"{share:.0%} of all training tokens are the unknown token: the model would see hardly a word.",
                load,
            )
        elif (
            vocabulary
            and vocabulary > 1000
            and setup.tokenizer is None
            and len(split.index) >= 20
            and tokens.highest.max() < 10
        ):
            yield (
                f"No training token has an id above {tokens.highest.max()}, of {vocabulary:,} that the model knows: the tokenizer had no vocabulary.",
                load,
            )


@pitfall(
    "tokenizer-mismatch",
    "P",
    "error",
    "A tokenizer of another checkpoint: silent, or 'index out of range in self'",
    "Both from one checkpoint",
    True,
)
def tokenizer_mismatch(setup):
    if not hasattr(setup.model, "get_input_embeddings"):
        return
    rows = getattr(getattr(setup.model.get_input_embeddings(), "weight", None), "shape", [None])[0]
    one = "checkpoint = '...'; AutoTokenizer.from_pretrained(checkpoint) and AutoModelForSequenceClassification.from_pretrained(checkpoint)"
    over = False
    for split in setup.splits.values():
        if rows and split.tokens is not None and len(split.tokens.highest):
            outside = (split.tokens.highest >= rows) | (split.tokens.lowest < 0)
            if outside.any():
                over = True
                bad = (
                    split.tokens.highest[outside].max()
                    if (split.tokens.highest >= rows).any()
                    else split.tokens.lowest.min()
                )
                yield (
                    f"The {split.role} data hold the token id {bad:,}, but the model knows {rows:,} tokens (0 to {rows - 1:,}): {places(outside, split)}. "
                    "A batch with such a row stops with 'index out of range in self'.",
                    one,
                )
    if (
        over
        or setup.tokenizer is None
        or not rows
        or "empty-tokenizer" in setup.errors
        or not hasattr(setup.tokenizer, "__len__")
    ):
        return
    size = len(setup.tokenizer)
    if size > rows and (by_hand := _only_by_hand(setup.tokenizer, rows)):
        yield (
            f"The tokenizer knows {size:,} tokens, the model {rows:,}. No row has one of the others ({', '.join(map(repr, by_hand[:3]))}); they are special "
            "tokens, which no ordinary text has. One with them would stop the model with 'index out of range in self'.",
            "Nothing, if no text will have them; else model.resize_token_embeddings(len(tokenizer))",
            "warning",
        )
    elif size > rows:
        yield (
            f"The tokenizer knows {size:,} tokens, the model {rows:,}: a text with one of the others will stop it with 'index out of range in self'.",
            f"{one}; after tokenizer.add_tokens(...): model.resize_token_embeddings(len(tokenizer))",
        )
        return
    mine, its = (
        str(getattr(setup.tokenizer, "name_or_path", "") or ""),
        str(getattr(setup.config, "_name_or_path", "") or ""),
    )
    if not mine or not its or mine == its:
        return
    different = _other_ids(setup.tokenizer, its)
    if different is None and size < 0.98 * rows:
        yield (
            f"The tokenizer of {Path(mine).name!r} knows {size:,} tokens, the model {Path(its).name!r} {rows:,}: they do not belong together.",
            one,
        )
    elif different:
        word, i, j = different
        yield (
            f"The tokenizer comes from {Path(mine).name!r}, the model from {Path(its).name!r}, and they number words differently: {word!r} is {i} for one and {j} "
            "for the other. The model would read other words than you wrote, without an error.",
            one,
        )


def _only_by_hand(tokenizer: Any, rows: int) -> list[str]:
    """Return the tokens behind the first `rows`, if they are special ones that only a caller puts into a text, such as the place of a picture.

    An ordinary word can come up in any text, and the tokenizer itself pads, begins and ends rows and writes what it does not know.
    """
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {
        *getattr(tokenizer, "all_special_ids", ()),
        *(i for i, token in added.items() if token.special),
    }
    itself = {
        getattr(tokenizer, f"{name}_token_id", None) for name in ("pad", "unk", "cls", "sep", "bos", "eos")
    }
    return sorted(beyond, key=beyond.get) if set(beyond.values()) <= special - itself else []


def _other_ids(tokenizer: Any, checkpoint: str) -> tuple | None:
    """Return a token that this tokenizer and that of the model's checkpoint number differently, with both ids.

    () where all ids agree, None where the checkpoint's tokenizer is not on this machine.
    """
    from transformers import AutoTokenizer

    try:
        its = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True).get_vocab()
    except Exception:  # no folder, no tokenizer in it, not in the cache
        return None
    if len(its) <= 50:  # a folder with the weights only gives an empty tokenizer
        return None
    mine = tokenizer.get_vocab()
    clash = [word for word, i in mine.items() if its.get(word, i) != i]
    if not clash and len(set(mine) & set(its)) < 0.5 * min(len(mine), len(its)):
        clash = [next(iter(set(mine) - set(its)))]
    if not clash:
        return ()
    word = min(clash, key=lambda word: (not word.isalpha(), mine[word]))
    return word, mine[word], its.get(word, "unknown")


@pitfall(
    "too-long",
    "P",
    "error",
    "'The expanded size of the tensor (122) must match the existing size (64)'",
    "max_length",
    True,
)
def too_long(setup):
    limit = _positions(setup.model)
    for split in setup.splits.values():
        if (
            limit
            and split.tokens is not None
            and len(split.tokens.widths)
            and (over := split.tokens.widths > limit).any()
        ):
            yield (
                f"The longest row of the {split.role} data has {split.tokens.widths.max():,} tokens, but the model has {limit:,} positions: {places(over, split)}. "
                "A batch with such a row fails.",
                f"tokenizer(..., truncation=True, max_length={limit})",
            )


def _positions(model: torch.nn.Module) -> int | None:
    """Return how many positions a model has a vector for; None where it computes them and no length is too long."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, torch.nn.Embedding) and last in (
            "position_embeddings",
            "embed_positions",
            "wpe",
        ):
            if getattr(getattr(model, "config", None), "position_biased_input", True) is False:
                return None
            offset = getattr(module, "offset", 0)  # OPT and BART keep two rows in front
            return module.num_embeddings - (
                offset or (0 if module.padding_idx is None else module.padding_idx + 1)
            )
    return None


@pitfall(
    "pad-token",
    "P",
    "error",
    "'Asking to pad but the tokenizer does not have a padding token', 'Cannot handle batch sizes > 1'",
    "Set it in both",
    True,
)
def pad_token(setup):
    tokenizer, config = setup.tokenizer, text_config(setup.config)
    both = "tokenizer.pad_token = tokenizer.eos_token; model.config.pad_token_id = tokenizer.pad_token_id"
    if (
        tokenizer is not None
        and hasattr(tokenizer, "pad_token_id")
        and tokenizer.pad_token_id is None
        and setup.collator is not default_data_collator
    ):
        yield "The tokenizer has no padding token, so rows of different length cannot make a batch.", both
    elif setup.classifier and hasattr(setup.model, "score") and setup.trainer.processing_class is None:
        # these models look for the last token before the padding; processing_class would make Trainer set the id
        mine, its = getattr(tokenizer, "pad_token_id", None), getattr(config, "pad_token_id", None)
        if its is None and setup.args.train_batch_size > 1:
            yield (
                "config.pad_token_id is None: the model cannot tell text from padding and refuses batches of more than one row.",
                both,
            )
        elif mine is not None and its is not None and mine != its:
            yield (
                f"The tokenizer pads with {mine}, the model's config says {its}: it would read its answer off a padding token, without an error.",
                both,
            )


@pitfall(
    "truncation", "P", "warning", "Labels hang on words that were cut", "Raise max_length, or split the texts"
)
def truncation(setup):
    split = setup.train
    if split is None or split.tokens is None or len(split.index) < 10:
        return
    lengths = split.tokens.lengths
    limit, at_limit = int(lengths.max()), lengths == lengths.max()
    if (
        at_limit.mean() <= 0.1
        or limit < 8
        or at_limit.sum() < 3 * np.isin(lengths, limit - np.arange(1, 5)).sum() / 4
    ):  # a cut makes a heap at its place
        return
    if split.text_column is not None and setup.tokenizer is not None:
        some = np.flatnonzero(at_limit)[:: max(1, int(at_limit.sum()) // 50)][:50]
        whole = [
            len(
                setup.tokenizer(split.source(i)[split.text_column], truncation=False, verbose=False)[
                    "input_ids"
                ]
            )
            for i in some
        ]
        if np.mean(np.array(whole) > limit) * at_limit.mean() <= 0.1:
            return
    elif len(np.unique(lengths)) < 4 or not (lengths < limit).any():
        return  # rows of one length or a few: made so, not cut
    yield (
        f"{at_limit.mean():.0%} of the training rows have exactly {limit} tokens, the most there are: they were cut. Where a label hangs on the words behind the "
        "cut, it cannot be learnt.",
        f"tokenizer(..., truncation=True, max_length={2 * limit}), as far as the model and your patience go",
    )


@pitfall("empty-text", "RP", "warning", "Rows without text train on [CLS][SEP]", "Drop them")
def empty_text(setup):
    for split in setup.splits.values():
        blank = np.zeros(len(split.index), bool)
        if split.tokens is not None:
            blank = split.tokens.content == 0 if len(setup.special_ids[0]) else split.tokens.lengths <= 1
        if split.text_keys is not None:
            blank = blank | (split.text_keys == 0)
        if blank.any():
            yield (
                f"{places(blank, split)} of the {split.role} data hold no word: the model would learn labels of nothing.",
                ("dataset = dataset.filter(lambda row: (row['text'] or '').strip()) before tokenising"),
            )


@pitfall(
    "special-in-text",
    "P",
    "warning",
    "A text holds '</s>' or '[SEP]' itself: read as an end, not as letters. BART and T5 stop: 'same number of <eos> tokens'",
    "tokenizer(..., split_special_tokens=True)",
    dry=True,
)
def special_in_text(setup):
    if setup.tokenizer is None or not setup.mark_ids:
        return
    names = {i: setup.tokenizer.convert_ids_to_tokens(i) for i in setup.mark_ids}
    for split in setup.splits.values():
        if split.tokens is None or not len(split.index):
            continue
        marks, ends = split.tokens.marks, split.tokens.ends
        usual = int(
            np.bincount(marks).argmax()
        )  # 2 for a text of BERT's, 3 for a pair, 0 without special tokens, more where all texts have some on purpose
        if split.text_column is not None and marks.min() != marks.max():
            usual = min(usual, setup.tokenizer.num_special_tokens_to_add())
        more, uneven = marks > usual, ends != np.bincount(ends).argmax()
        where = np.flatnonzero(more)
        texts = [
            name
            for name in split.all_columns
            if name != split.label_column and split.type(name) is not None and is_text(split.type(name))
        ]
        # A pair among single texts, or put there by whoever made the rows; where the texts are gone, many rows with as many marks tell pairs.
        pairs = not texts and len(where) > 2 and more.mean() > FEW_ALIKE and len(np.unique(marks[where])) == 1
        if (
            pairs
            or texts
            and not any(
                name in str(split.source(i)[column])
                for i in where[:50]
                for column in texts
                for name in names.values()
            )
        ):
            more, where = np.zeros(len(marks), bool), []
        if uneven.any() and (error := _refuses_together(setup, split, uneven)) is not None:
            few = not more.any()
            yield (
                f"{places(uneven, split)} of the {split.role} data have another number of end tokens ({names.get(setup.end_id, setup.end_id)!r}) than the "
                f"others, for example {split.show(np.flatnonzero(uneven)[0])}, and {type(setup.model).__name__} stops at a batch that has both: {error_text(error)}",
                "tokenizer(..., truncation=True, max_length=...), which keeps the end token; do not cut the ids yourself"
                if few
                else _split_special(setup, {setup.end_id: names.get(setup.end_id)}),
                "error",
            )
        elif more.any():
            ids = plain(split.sample([where[0]])[0][setup.input_name])
            words = " ".join(str(split.source(where[0])[column]) for column in texts)
            held = {i: name for i, name in names.items() if (name in words if texts else i in ids[1:-1])} or {
                i: name for i, name in names.items() if i in ids
            }
            yield (
                f"{places(more, split)} of the {split.role} data hold {' and '.join(map(repr, held.values()))} within the text, for example {split.show(where[0])}: the model reads it as the "
                "beginning or the end of a text, not as letters.",
                f"{_split_special(setup, held)}; nothing, if you put it there for the model",
            )


def _refuses_together(setup, split: Split, uneven: np.ndarray) -> Exception | None:
    """Return what the model says to a batch of rows with different numbers of end tokens; None where it takes them, or stops for another reason."""
    if setup.args.device.type != "cpu" and setup.errors & {"tokenizer-mismatch", "too-long"}:
        return None  # on a GPU such a trial would take the process along
    with contextlib.suppress(Exception), untouched(setup), torch.no_grad():
        batch = setup.trainer._prepare_inputs(
            dict(setup.collator(split.sample([uneven.argmax(), uneven.argmin()])))
        )
        inputs = {
            name: value
            for name, value in batch.items()
            if name not in (*setup.trainer.label_names, "label", "label_ids")
        }
        try:
            setup.model(**inputs)
        except ValueError as error:
            return error if "<eos>" in str(error) else None
    return None


def _split_special(setup, names: Mapping[int, str]) -> str:
    """Say how special tokens in a text become letters again; not every tokenizer does it when asked."""
    for i, name in names.items():
        with contextlib.suppress(Exception):
            if i in setup.tokenizer(name, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
                return f"text.replace({name!r}, ' ') before tokenising (split_special_tokens=True does not help with this tokenizer)"
    return "tokenizer(..., split_special_tokens=True), where you predict as well"


@pitfall(
    "padding-waste",
    "P",
    "warning",
    "Short texts padded to the maximum: only slow",
    "Pad each batch to its longest row",
)
def padding_waste(setup):
    split = setup.train
    if split is None or split.tokens is None or not split.tokens.lengths.sum():
        return
    real, widths, size = split.tokens.lengths, split.tokens.widths.copy(), setup.args.train_batch_size
    batch, fixed = setup.dry.collated.get("train"), None
    if isinstance(batch, Mapping) and isinstance(batch.get(setup.input_name), torch.Tensor):
        width = batch[setup.input_name].shape[1]
        longest = max(len(plain(row[setup.input_name])) for row in split.sample(setup.dry.choose(split)))
        multiple = getattr(setup.collator, "pad_to_multiple_of", None) or 1
        fixed = width if width > math.ceil(longest / multiple) * multiple else None
    if fixed:
        widths[:] = fixed
    order = np.random.default_rng(0).permutation(len(widths))
    if setup.args.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
        order = np.argsort(widths, kind="stable")
    starts = np.arange(0, len(widths), size)
    counts = np.diff(np.append(starts, len(widths)))
    computed = int((np.maximum.reduceat(widths[order], starts) * counts).sum())
    share = 1 - real.sum() / computed
    if share > 0.5:
        already = fixed or (
            len(set(widths.tolist())) == 1 and real.max() <= widths.max() and real.mean() < widths.mean()
        )
        why = (
            f"all rows are padded to {fixed or widths.max()} tokens"
            if already
            else f"batches of {size} are as long as their longest row"
        )
        fix = (
            "tokenizer(..., truncation=True) without padding, and DataCollatorWithPadding(tokenizer)"
            if already
            else "train_sampling_strategy='group_by_length'"
        )
        yield (
            f"{share:.0%} of what the model would compute is padding: the texts have {real.mean():.0f} tokens on average, and {why}.",
            fix,
        )


FEW_ALIKE = 0.05  # so many rows may differ for a reader and not for the model before it is an error: "ok!" and "ok !" come up by chance


@pitfall(
    "split-leak",
    "P",
    "error",
    "The same text in two splits, or one text with two labels: the score rewards memory",
    "Drop repeats before splitting",
)
def split_leak(setup):
    parts = [
        (name, split)
        for name, split in setup.splits.items()
        if split.keys is not None and len(split.index) and not split.stream
    ]
    drop = "table = table[~utils.data.normalise(table['text']).duplicated()] before splitting, as utils.data.split_table does"
    filtered = "seen = set(map(tuple, {}['input_ids'])); dataset = dataset.filter(lambda row: tuple(row['input_ids']) not in seen)"
    for (_, one), (name, other) in itertools.combinations(parts, 2):
        if ("train" in name and one.name == "train") or (one.name != "train" and name.startswith("eval")):
            continue  # evaluating on some training rows, or on parts of one evaluation set, is done on purpose
        shared, alike = shared_rows(one, other)
        if name == "test" and one.name != "train" and (shared | alike).mean() > 0.9:
            continue  # test-as-validation says it
        if shared.any():
            yield (
                f"{places(shared, other)} of the {other.role} data are also in the {one.role} data ({shared.mean():.0%}), for example "
                f"{other.show(np.flatnonzero(shared)[0])}: their scores would reward memory.",
                drop,
            )
        if alike.any():
            words = f"the token ids of rows of the {one.role} data ({alike.mean():.0%})"
            yield _alike(
                setup,
                other,
                alike,
                words,
                "their scores would reward memory",
                filtered.format("train" if one.name == "train" else "validation"),
            )
    split = setup.train
    if (
        split is None
        or split.keys is None
        or split.labels is None
        or setup.task == "regression"
        or len(split.labels) != len(split.keys)
    ):
        return
    twice = _two_labels(split.keys, split.labels)
    if twice.any():
        yield (
            f"{places(twice, split)} of the training data hold texts that carry two labels, for example {split.show(np.flatnonzero(twice)[0])}: "
            "nobody can learn both.",
            "Decide on one label for each text, or leave these rows out",
        )
    alike = _two_labels(split.sure_keys, split.labels) & ~twice
    if split.text_keys is not None and alike.any():
        yield _alike(
            setup,
            split,
            alike,
            "token ids that carry two labels",
            "nobody can learn both",
            "Decide on one label, or leave these rows out",
        )


def _two_labels(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mark the rows whose key, unless it is 0, comes with several labels."""
    frame = pd.DataFrame({"key": keys, "label": labels})[
        (keys != 0) & pd.Series(keys).duplicated(keep=False).to_numpy()
    ]
    pairs = frame.drop_duplicates()
    twice = np.zeros(len(keys), bool)
    twice[frame.index] = frame["key"].isin(pairs["key"][pairs["key"].duplicated()])
    return twice


def _alike(setup, split: Split, alike: np.ndarray, has: str, so: str, fix: str) -> tuple[str, str, str]:
    """Say that rows with different texts are the same for the model, and whether that is because they were cut."""
    where = np.flatnonzero(alike)
    some = where[:: max(1, len(where) // 50)][:50]
    whole = [
        len(setup.tokenizer(split.source(i)[split.text_column], truncation=False, verbose=False)["input_ids"])
        for i in some
    ]
    begins = f"{places(alike, split)} of the {split.role} data have {has}, "
    if np.mean(np.array(whole) > split.tokens.lengths[some]) > 0.5:
        cut = f"for they were cut where their texts still agree, for example {split.show(where[0])}: for the model they are the same rows."
        return (
            begins + cut,
            f"tokenizer(..., truncation=True, max_length={max(whole)}), as far as the model goes; or cut what all texts begin with",
            "warning",
        )
    differ = f"though their texts differ (in blanks, accents or characters that nobody sees), for example {split.show(where[0])}: for the model they are the "
    return f"{begins}{differ}same rows, and {so}.", fix, "error" if alike.mean() > FEW_ALIKE else "warning"


@pitfall(
    "test-as-validation",
    "P",
    "warning",
    "The model is chosen on the test set, whose score then flatters",
    "Three splits",
)
def test_as_validation(setup):
    test, three = (
        setup.splits.get("test"),
        "Split twice: training, validation (eval_dataset, for decisions) and test (looked at once)",
    )
    for split in setup.evals:
        if test is not None:
            same = split.dataset is test.dataset
            if not same and split.keys is not None and test.keys is not None and len(test.keys):
                same = np.logical_or(*shared_rows(split, test)).mean() > 0.9
            if same:
                yield (
                    "The test data are the evaluation data: what is chosen on them is too good on them.",
                    three,
                )
        elif str(getattr(split.dataset, "split", None) or "").startswith("test") and setup.chooses_best:
            yield (
                f"The {split.role} data are the split {str(split.dataset.split)!r}, and they decide which checkpoint is kept: no test set is left.",
                three,
            )


@pitfall(
    "imbalance",
    "PW",
    "warning",
    "The accuracy is the share of the commonest class",
    "Macro-F1, class weights",
    dry=True,
)
def imbalance(setup):
    split = setup.evals[0] if setup.evals else setup.train
    if (
        split is None
        or split.labels is None
        or split.labels.dtype.kind not in "iub"
        or setup.task == "regression"
        or len(split.labels) < 5
    ):
        return
    share = np.unique(split.labels, return_counts=True)[1].max() / len(split.labels)
    telling = [
        key
        for key in map(str, setup.dry.metrics or {})
        if re.search("f1|recall|auc|roc|mcc|matthews|balanced|kappa|precision", key.lower())
    ]
    telling = [key for key in telling if not re.search("micro|weighted", key.lower())]
    if 0.8 < share < 1 and not telling and setup.dry.metrics_failed is None:
        has = (
            f"the metrics are {', '.join(map(str, setup.dry.metrics))}"
            if setup.dry.metrics
            else "there is no metric but the loss"
        )
        yield (
            f"{share:.0%} of the {split.role} rows are of one class, and {has}: a model that always gives it has an accuracy of {share:.2f}.",
            "Return f1_score(labels, predicted, average='macro') from compute_metrics, and choose by it: metric_for_best_model='f1_macro'",
        )
