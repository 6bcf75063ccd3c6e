"""Checks of the rows: containers, columns, token ids, texts."""

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoTokenizer
from transformers.data.data_collator import default_data_collator

from utils.inputs import CHUNK_OF
from utils.preflight.catalogue import places
from utils.preflight.checks.common import check, listed, rows_of, tokenised, without_labels
from utils.preflight.setup import EMPTY, padded_tokens, text_config, untouched
from utils.preflight.split import Split, container_fault, error_text, is_list, plain, shared_rows


@check("wrong-container", "P", "error", "Hand over one Dataset", loud=True)
def wrong_container(setup):
    """The data set is a DataFrame, a DatasetDict or a dict of lists: KeyError: 6, Invalid key: 0"""
    for name, part in setup.given.items():
        if (better := container_fault(part)) is not None:
            kind = f"{name}_dataset is a {type(part).__name__}"
            yield f"{kind}, without rows dataset[0], dataset[1], ...; no batch can be made.", f"Give {better}"


@check("two-label-columns", "P", "error", "Remove one of them")
def two_label_columns(setup):
    """Both label and labels are there: label wins, without a word"""
    for split in setup.splits.values():
        taken, *lost = split.label_columns or [None]
        if lost:
            columns = f"The {split.role} data have the columns {listed(split.label_columns)}"
            fix = f"dataset = dataset.remove_columns({taken!r}), or {lost[0]!r}: keep the right one"
            yield f"{columns}; the collator takes {taken!r} and loses {listed(lost)}.", fix


@check("eval-labels-missing", "P", "error", "The same column names in both splits")
def eval_labels_missing(setup):
    """No eval_loss, and compute_metrics is never called, without a word"""
    if setup.train is None or setup.train.label_column is None:
        return
    for split in setup.evals:
        if split.label_column is None and len(split.index):
            reason, fix = without_labels(split, setup.train.label_column)
            message = f"The {split.role} data have no labels: {reason}"
            yield f"{message}. There would be no evaluation loss, and no call of compute_metrics.", fix


@check("not-tokenised", "P", "error", "Tokenise; a padding collator", loud=True, dry=True)
def not_tokenised(setup):
    """The first batch fails: 'You should supply an encoding', or rows of different lengths"""
    needed, dry = setup.input_name, setup.dry
    for split in setup.splits.values():
        tokenises = setup.own_collator and needed in dry.collated.get(split.name, ())  # the collator does
        if len(split.index) and not tokenises and not {needed, "inputs_embeds"} & set(split.columns):
            names = f"only {listed(split.columns)}" if split.columns else "none at all"
            fix = "dataset = dataset.map(lambda row: tokenizer(row['text'], truncation=True))"
            yield f"The {split.role} data have no column {needed!r} ({names}): the model gets no text.", fix
        elif len(split.index) and not tokenises and needed == "input_ids" and needed in split.columns:
            yield from _no_batches(setup, split)
        texts = [name for name in split.text_columns if name in split.columns]
        if texts and not setup.args.remove_unused_columns and split.name in dry.refused:
            column = f"the text column {texts[0]!r} of the {split.role} data"
            fix = f"remove_unused_columns=True, or dataset = dataset.remove_columns({texts[0]!r})"
            yield f"remove_unused_columns=False hands {column} to the collator, which fails.", fix


def _no_batches(setup, split: Split):
    """Find token ids that are no flat lists, and rows of different lengths that nobody pads."""
    kind = split.type("input_ids")
    if kind is None or not is_list(kind) or is_list(kind.value_type):
        shape = "is a list of lists" if is_list(kind) else f"holds {kind or 'values of several kinds'}"
        fix = "Tokenise without return_tensors: tokenizer(text, truncation=True)"
        yield f"'input_ids' of the {split.role} data {shape}; it must hold a flat list of numbers a row.", fix
    elif setup.collator is default_data_collator and split.tokens and np.ptp(split.tokens.widths):
        low, high = split.tokens.widths.min(), split.tokens.widths.max()
        sizes = f"The rows of the {split.role} data have {low} to {high} tokens"
        fix = "Trainer(..., processing_class=tokenizer), or a DataCollatorWithPadding(tokenizer)"
        yield f"{sizes}, and the collator in use does not pad, so a batch cannot be made.", fix


@check("empty-tokenizer", "PS", "error", "Save the tokenizer with the model")
def empty_tokenizer(setup):
    """A folder without tokenizer files gives a tokenizer of 5 tokens: every word is [UNK]"""
    vocabulary, size = getattr(text_config(setup.config), "vocab_size", None) or 0, setup.tokenizer_size
    tokens = setup.train.tokens if setup.train is not None else None
    load = "AutoTokenizer.from_pretrained(checkpoint) with the model's checkpoint, then tokenise again"
    if size is not None and size <= EMPTY and vocabulary > 10 * size:
        sizes = f"The tokenizer knows {size} tokens, the model {vocabulary:,}"
        yield f"{sizes}: it was loaded without its vocabulary, and nearly every word is unknown.", load
    elif tokens is not None and tokens.content.sum():
        unknown, highest = tokens.unknown.sum() / tokens.content.sum(), tokens.highest.max()
        if unknown > 0.5:
            yield f"{unknown:.0%} of all training tokens are the unknown token: hardly a word is read.", load
        elif setup.tokenizer is None and vocabulary > 1000 and len(tokens.widths) >= 20 and highest < 10:
            ids = f"No training token has an id above {highest}, of {vocabulary:,} that the model knows"
            yield f"{ids}: the tokenizer had no vocabulary.", load


@check("tokenizer-mismatch", "P", "error", "Both from one checkpoint", loud=True)
def tokenizer_mismatch(setup):
    """A tokenizer of another checkpoint: silent, or 'index out of range in self'"""
    embeddings = setup.model.get_input_embeddings() if hasattr(setup.model, "get_input_embeddings") else None
    rows = getattr(getattr(embeddings, "weight", None), "shape", [0])[0]
    both, stops = "Tokenizer and model from one checkpoint", "stops with 'index out of range in self'"
    splits = tokenised(setup)
    outside = {split: (split.tokens.highest >= rows) | (split.tokens.lowest < 0) for split in splits}
    outside = {split: mask for split, mask in outside.items() if rows and mask.any()}
    for split, mask in outside.items():
        highest, lowest = split.tokens.highest.max(), split.tokens.lowest.min()
        bad = highest if highest >= rows else lowest
        message = f"The {split.role} data hold the token id {bad:,}, but the model knows {rows:,} tokens"
        yield f"{message} (0 to {rows - 1:,}): {places(mask, split)}. Such a batch {stops}.", both
    size = setup.tokenizer_size
    if not rows or outside or "empty-tokenizer" in setup.errors or size is None:
        return
    sizes = f"The tokenizer knows {size:,} tokens, the model {rows:,}"
    resize = "model.resize_token_embeddings(len(tokenizer))"
    if size > rows and not (by_hand := _only_by_hand(setup, rows)):
        message = f"{sizes}: a text with one of the others {stops}."
        yield message, f"{both}; after tokenizer.add_tokens(...): {resize}"
        return
    if size > rows:
        others = f"No row has one of the others ({listed(by_hand[:3])}), which are special tokens"
        fix = f"Nothing, if no text will have them; else {resize}"
        yield f"{sizes}. {others}; a text with them {stops}.", fix, "warning"
    mine, its = (str(path or "") for path in (getattr(setup.tokenizer, "name_or_path", ""), setup.path))
    if not mine or not its or mine == its:
        return
    different = _other_ids(setup.tokenizer, its)
    names = f"The tokenizer comes from {Path(mine).name!r}, the model from {Path(its).name!r}"
    if different is None and size < 0.98 * rows:
        yield f"{names}; they know {size:,} and {rows:,} tokens: they do not belong together.", both
    elif different:
        word, i, j = different
        message = f"{names}, and they number words differently: {word!r} is {i} for one and {j} for the other"
        yield f"{message}. The model would read other words than you wrote, without an error.", both


def _only_by_hand(setup, rows: int) -> list[str]:
    """Return the tokens behind the first `rows`, if only a caller puts them into a text (for a picture).

    An ordinary word can come up in any text. The tokenizer itself pads, begins and ends rows.
    """
    tokenizer = setup.tokenizer
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    special = {*getattr(tokenizer, "all_special_ids", ()), *(i for i, token in added if token.special)}
    itself = setup.token_ids("pad", "unk", "cls", "sep", "bos", "eos")
    return sorted(beyond, key=beyond.get) if set(beyond.values()) <= special - itself else []


def _other_ids(tokenizer: Any, checkpoint: str) -> tuple | None:
    """Return a token that this tokenizer and the checkpoint's own number differently, with both ids.

    () where all ids agree, None where the checkpoint's tokenizer is not on this machine.
    """
    its, mine = {}, tokenizer.get_vocab()
    with contextlib.suppress(Exception):  # no folder, no tokenizer in it, not in the cache
        its = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True).get_vocab()
    if len(its) <= EMPTY:  # a folder with the weights only gives an empty tokenizer
        return None
    clash = [word for word, i in mine.items() if its.get(word, i) != i]
    if not clash and len(mine.keys() & its.keys()) < 0.5 * min(len(mine), len(its)):
        clash = [next(iter(mine.keys() - its.keys()))]
    word = min(clash, key=lambda word: (not word.isalpha(), mine[word]), default=None)
    return (word, mine[word], its.get(word, "unknown")) if clash else ()


@check("too-long", "P", "error", "max_length", loud=True)
def too_long(setup):
    """'The expanded size of the tensor (122) must match the existing size (64)'"""
    limit = _positions(setup.model)
    for split in tokenised(setup) if limit else ():
        over = split.tokens.widths > limit
        if over.any():
            longest = f"The longest row of the {split.role} data has {split.tokens.widths.max():,} tokens"
            fix = f"tokenizer(..., truncation=True, max_length={limit})"
            yield f"{longest}, but the model has {limit:,} positions: {places(over, split)}.", fix


def _positions(model: torch.nn.Module) -> int | None:
    """Return how many positions a model has a vector for; None where it computes them."""
    if getattr(getattr(model, "config", None), "position_biased_input", True) is False:
        return None
    names = ("position_embeddings", "embed_positions", "wpe")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in names:
            padding = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - (getattr(module, "offset", 0) or padding)  # OPT, BART: an offset
    return None


@check("pad-token", "P", "error", "Set it in both", loud=True)
def pad_token(setup):
    """'Asking to pad but the tokenizer does not have a padding token', 'Cannot handle batch sizes > 1'"""
    tokenizer, its = setup.tokenizer, getattr(text_config(setup.config), "pad_token_id", None)
    both = "tokenizer.pad_token = tokenizer.eos_token; model.config.pad_token_id = tokenizer.pad_token_id"
    if getattr(tokenizer, "pad_token_id", 0) is None and setup.collator is not default_data_collator:
        yield "The tokenizer has no padding token, so rows of different length cannot make a batch.", both
    elif setup.classifier and hasattr(setup.model, "score") and setup.trainer.processing_class is None:
        # these models look for the last token before the padding; with a processing_class Trainer sets its id
        mine = getattr(tokenizer, "pad_token_id", None)
        if its is None and setup.args.train_batch_size > 1:
            yield "config.pad_token_id is None: the model refuses batches of more than one row.", both
        elif mine is not None and its is not None and mine != its:
            message = f"The tokenizer pads with {mine}, the model's config says {its}"
            yield f"{message}: it would read its answer off a padding token, without an error.", both


@check("truncation", "P", "warning", "Raise max_length, or split the texts")
def truncation(setup):
    """Labels hang on words that were cut"""
    split = setup.train
    if split is None or split.tokens is None or len(split.index) < 10 or CHUNK_OF in split.columns:
        return
    lengths = split.tokens.lengths
    limit, at_limit = int(lengths.max()), lengths == lengths.max()
    just_below = np.isin(lengths, limit - np.arange(1, 5)).sum()
    heap = at_limit.sum() >= 3 * just_below / 4  # a cut makes one at its place
    if limit < 8 or at_limit.mean() <= 0.1 or not heap:
        return
    cut = len(np.unique(lengths)) >= 4  # rows of one length or a few were made so
    if split.text_column is not None and setup.tokenizer is not None:
        _, whole = _whole_lengths(setup, split, np.flatnonzero(at_limit))
        cut = np.mean(whole > limit) * at_limit.mean() > 0.1
    if cut:
        rows = f"{at_limit.mean():.0%} of the training rows have exactly {limit} tokens, the most there are"
        fix = f"tokenizer(..., truncation=True, max_length={2 * limit}), as far as model and patience go"
        yield f"{rows}: they were cut. A label that hangs on words behind the cut cannot be learnt.", fix


def _whole_lengths(setup, split: Split, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return up to 50 of some rows, and how many tokens their texts have uncut."""
    some = rows[:: max(1, len(rows) // 50)][:50]
    texts = [split.source(i)[split.text_column] for i in some]
    ids = [setup.tokenizer(text, truncation=False, verbose=False)["input_ids"] for text in texts]
    return some, np.array([len(row) for row in ids])


@check("empty-text", "RP", "warning", "Drop them")
def empty_text(setup):
    """Rows without text train on [CLS][SEP]"""
    for split in setup.splits.values():
        blank = np.zeros(len(split.index), bool)
        if split.tokens is not None:
            blank = split.tokens.content == 0 if len(setup.special_ids[0]) else split.tokens.lengths <= 1
        if split.text_keys is not None:
            blank = blank | (split.text_keys == 0)
        if blank.any():
            fix = "dataset = dataset.filter(lambda row: (row['text'] or '').strip()) before tokenising"
            yield f"{rows_of(blank, split)} hold no word: the model would learn labels of nothing.", fix


@check("special-in-text", "P", "warning", "tokenizer(..., split_special_tokens=True)", dry=True)
def special_in_text(setup):
    """A text holds '</s>' or '[SEP]' itself: read as an end, not as letters. BART and T5 stop: 'same number
    of <eos> tokens'"""
    if setup.tokenizer is None or not setup.mark_ids:
        return
    names = {i: setup.tokenizer.convert_ids_to_tokens(i) for i in setup.mark_ids}
    for split in tokenised(setup):
        more, ends = _more_marks(setup, split, names), split.tokens.ends
        uneven = ends != np.bincount(ends).argmax()
        if uneven.any() and (error := _refuses_together(setup, split, uneven)) is not None:
            end = {setup.end_id: names.get(setup.end_id, setup.end_id)}
            rows = f"{rows_of(uneven, split)} have another number of end tokens ({end[setup.end_id]!r}) than"
            example, model = split.show(uneven.argmax()), type(setup.model).__name__
            message = f"{rows} the others, for example {example}, and {model} stops at a batch of both"
            cut = "tokenizer(..., truncation=True, max_length=...) keeps the end token; your own cut does not"
            fix = _split_special(setup, end) if more.any() else cut
            yield f"{message}: {error_text(error)}", fix, "error"
        elif more.any():
            first = more.argmax()
            ids = plain(split.sample([first])[0][setup.input_name])
            words = " ".join(split.texts(first))
            held = {i: name for i, name in names.items() if (name in words if words else i in ids[1:-1])}
            held = held or {i: name for i, name in names.items() if i in ids}
            rows = f"{rows_of(more, split)} hold {listed(held.values())} within the text"
            fix = f"{_split_special(setup, held)}; nothing, if you put it there for the model"
            yield f"{rows}, for example {split.show(first)}: for the model, they begin or end a text.", fix


def _more_marks(setup, split: Split, names: Mapping[int, str]) -> np.ndarray:
    """Mark the rows whose texts themselves hold tokens that begin, part or end a text."""
    marks = split.tokens.marks
    usual = int(np.bincount(marks).argmax())  # BERT: 2 for texts, 3 for pairs; more where that is on purpose
    if split.text_column is not None and np.ptp(marks):
        usual = min(usual, setup.tokenizer.num_special_tokens_to_add())
    more = marks > usual
    if split.text_columns:  # pairs, and marks that whoever made the rows put there, are not in the texts
        cells = [cell for i in np.flatnonzero(more)[:50] for cell in split.texts(i)]
        on_purpose = not any(name in cell for cell in cells for name in names.values())
    else:  # many rows with as many marks are pairs
        on_purpose = more.sum() > 2 and more.mean() > FEW_ALIKE and len(np.unique(marks[more])) == 1
    return more & (not on_purpose)


def _refuses_together(setup, split: Split, uneven: np.ndarray) -> Exception | None:
    """Return the model's error at a batch of rows with different numbers of end tokens."""
    if setup.args.device.type != "cpu" and setup.errors & {"tokenizer-mismatch", "too-long"}:
        return None  # on a GPU such a trial would take the process along
    labels = {*setup.trainer.label_names, "label", "label_ids"}
    try:
        with untouched(setup), torch.no_grad():
            batch = setup.collator(split.sample([uneven.argmax(), uneven.argmin()]))
            inputs = setup.trainer._prepare_inputs(dict(batch))
            setup.model(**{name: value for name, value in inputs.items() if name not in labels})
    except Exception as error:
        return error if "<eos>" in str(error) else None
    return None


def _split_special(setup, names: Mapping[int, str]) -> str:
    """Say how special tokens in a text become letters again; not every tokenizer does it when asked."""
    for i, name in names.items():
        with contextlib.suppress(Exception):
            if i in setup.tokenizer(name, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
                deaf = "split_special_tokens=True does not help with this tokenizer"
                return f"text.replace({name!r}, ' ') before tokenising ({deaf})"
    return "tokenizer(..., split_special_tokens=True), where you predict as well"


@check("padding-waste", "P", "warning", "Pad each batch to its longest row")
def padding_waste(setup):
    """Short texts padded to the maximum: only slow"""
    split, size = setup.train, setup.args.train_batch_size
    if split is None or split.tokens is None or not split.tokens.lengths.sum():
        return
    real, fixed = split.tokens.lengths, _fixed_width(setup, split)
    widths = np.full(len(real), fixed) if fixed else split.tokens.widths
    order = np.random.default_rng(0).permutation(len(widths))
    if setup.args.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
        order = np.argsort(widths, kind="stable")
    share = 1 - real.sum() / padded_tokens(widths[order], size)
    why = f"batches of {size} are as long as their longest row"
    fix = "train_sampling_strategy='group_by_length'"
    if not np.ptp(widths):
        why = f"all rows are padded to {widths.max()} tokens"
        fix = "tokenizer(..., truncation=True) without padding, and DataCollatorWithPadding(tokenizer)"
    if share > 0.5:
        texts = f"the texts have {real.mean():.0f} tokens on average, and {why}"
        yield f"{share:.0%} of what the model would compute is padding: {texts}.", fix


def _fixed_width(setup, split: Split) -> int | None:
    """Return the width to which the collator pads each batch; None where it pads to the longest row."""
    ids = setup.dry.collated.get("train", {}).get(setup.input_name)
    if not isinstance(ids, torch.Tensor):
        return None
    longest = max(len(plain(row[setup.input_name])) for row in split.sample(setup.dry.choose(split)))
    multiple = getattr(setup.collator, "pad_to_multiple_of", None) or 1
    return ids.shape[1] if ids.shape[1] > math.ceil(longest / multiple) * multiple else None


FEW_ALIKE = 0.05  # the share of rows that may differ for readers only ("ok!" and "ok !") by chance


@check("split-leak", "P", "error", "Drop repeats before splitting")
def split_leak(setup):
    """The same text in two splits, or one text with two labels: the score rewards memory"""
    chunks = any(CHUNK_OF in split.columns for split in setup.splits.values())
    level = "warning" if chunks else "error"  # letters share their ends
    unique = "table[~utils.reading.same.normalise(table['text']).duplicated()]"
    memory = "their scores would reward memory"
    for one, other in _to_compare(setup):
        in_train = one.name == "train"
        shared, alike = shared_rows(one, other)
        if other.name == "test" and not in_train and (shared | alike).mean() > 0.9:
            continue  # test-as-validation says it
        if shared.any():
            rows = f"{rows_of(shared, other)} are also in the {one.role} data ({shared.mean():.0%})"
            fix = f"table = {unique} before splitting, as utils.data.split_table does"
            yield f"{rows}, for example {other.show(shared.argmax())}: {memory}.", fix, level
        if alike.any():
            words = f"the token ids of rows of the {one.role} data ({alike.mean():.0%})"
            ids = f"set(map(tuple, {'train' if in_train else 'validation'}['input_ids']))"
            fix = f"seen = {ids}; dataset = dataset.filter(lambda row: tuple(row['input_ids']) not in seen)"
            yield _alike(setup, other, alike, words, memory, fix)
    split, both = setup.train, "nobody can learn both"
    if split is None or split.keys is None or split.labels is None or setup.task == "regression":
        return
    twice = _two_labels(split.keys, split.labels)
    decide = "Decide on one label for each text, or leave these rows out"
    if twice.any():
        rows = f"{rows_of(twice, split)} hold texts that carry two labels"
        yield f"{rows}, for example {split.show(twice.argmax())}: {both}.", decide, level
    alike = _two_labels(split.sure_keys, split.labels) & ~twice
    if split.text_keys is not None and alike.any():
        yield _alike(setup, split, alike, "token ids that carry two labels", both, decide)


def _to_compare(setup) -> Iterator[tuple[Split, Split]]:
    """Yield the pairs of splits that should have no row in common."""
    splits = [s for s in setup.splits.values() if s.keys is not None and not s.stream and len(s.index)]
    for one, other in itertools.combinations(splits, 2):
        if not (("train" in other.name) if one.name == "train" else other.name.startswith("eval")):
            yield one, other  # to evaluate on some training rows, or on parts of one set, is on purpose


@check("near-repeats", "P", "warning", "Keep one of each, or give each of them one group")
def near_repeats(setup):
    """Texts in two splits that differ in case, blanks, punctuation, digits or user names only"""
    found, example = [], ""
    for one, other in _to_compare(setup):
        near = pd.Series(other.bare_keys).isin(one.bare_keys).to_numpy() & (other.bare_keys != 0)
        near &= ~np.logical_or(*shared_rows(one, other))  # of those, split-leak speaks
        if near.any():
            place = near.argmax()
            first = one.show((one.bare_keys == other.bare_keys[place]).argmax())
            found.append(f"{rows_of(near, other)} ({near.mean():.1%}) repeat rows of the {one.role} data")
            example = example or f"for example {other.show(place)} and {first}"
    if found:
        form = "table['text'].map(utils.reading.same.bare)"
        fix = f"table = table[~{form}.duplicated()] before splitting; or a column {form} as group_column"
        but = "but for case, blanks, punctuation, digits or user names"
        yield f"{'; '.join(found)}, {but}, {example}.", fix


def _two_labels(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mark the rows whose key, unless it is 0, comes with several labels."""
    frame = pd.DataFrame({"key": keys, "label": labels})
    repeated = frame[(keys != 0) & frame["key"].duplicated(keep=False)]  # few, where there are a million
    labels_of = repeated.groupby("key")["label"].nunique(dropna=False)
    return frame["key"].isin(labels_of.index[labels_of > 1]).to_numpy()


def _alike(setup, split: Split, alike: np.ndarray, has: str, so: str, fix: str) -> tuple[str, str, str]:
    """Say that rows with different texts are the same for the model, and whether because they were cut."""
    some, whole = _whole_lengths(setup, split, np.flatnonzero(alike))
    rows, example = f"{rows_of(alike, split)} have {has}", f"for example {split.show(alike.argmax())}"
    same = f"{example}: for the model they are the same rows"
    if np.mean(whole > split.tokens.lengths[some]) > 0.5:
        longer = f"tokenizer(..., truncation=True, max_length={max(whole)}), as far as the model goes"
        fix = f"{longer}; or cut what all texts begin with"
        return f"{rows}, for they were cut where their texts still agree, {same}.", fix, "warning"
    level = "error" if alike.mean() > FEW_ALIKE else "warning"
    differ = "though their texts differ (in blanks, accents or characters that nobody sees)"
    return f"{rows}, {differ}, {same}, and {so}.", fix, level


@check("test-as-validation", "P", "warning", "Three splits")
def test_as_validation(setup):
    """The model is chosen on the test set, whose score then flatters"""
    test = setup.splits.get("test")
    three = "Split twice: training, validation (eval_dataset, for decisions) and test (looked at once)"
    for split in setup.evals:
        named, same = str(getattr(split.dataset, "split", None) or ""), test is not None
        if same and split.dataset is not test.dataset:
            same = split.keys is not None and test.keys is not None and len(test.keys) > 0
            same = same and np.logical_or(*shared_rows(split, test)).mean() > 0.9
        if same:
            yield "The test data are the evaluation data: a choice made on them flatters them.", three
        elif test is None and named.startswith("test") and setup.chooses_best:
            data = f"The {split.role} data are the split {named!r}"
            yield f"{data}, and they decide which checkpoint is kept: no test set is left.", three


# metrics that a rare class moves
SEES_RARE = re.compile("f1|recall|auc|roc|mcc|matthews|balanced|kappa|precision", re.IGNORECASE)


@check("imbalance", "PW", "warning", "Macro-F1, class weights", dry=True)
def imbalance(setup):
    """The accuracy is the share of the commonest class"""
    split = setup.evals[0] if setup.evals else setup.train
    labels = None if split is None or setup.task == "regression" else split.classes
    if labels is None or len(labels) < 5 or setup.dry.metrics_failed is not None:
        return
    share = np.unique(labels, return_counts=True)[1].max() / len(labels)
    metrics = [str(key) for key in setup.dry.metrics or {}]
    unweighted = [key for key in metrics if not re.search("micro|weighted", key, re.IGNORECASE)]
    if 0.8 < share < 1 and not any(map(SEES_RARE.search, unweighted)):
        scores = f"the metrics are {', '.join(metrics)}" if metrics else "there is no metric but the loss"
        rows = f"{share:.0%} of the {split.role} rows are of one class"
        score = "return {'f1_macro': f1_score(labels, predicted, average='macro')} in compute_metrics"
        fix = f"{score}, and choose by it: metric_for_best_model='f1_macro'"
        yield f"{rows}, and {scores}: a model that always gives it has an accuracy of {share:.2f}.", fix
