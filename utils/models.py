"""A model name (bundled, a folder, a Hub id) as a folder for `from_pretrained`, and what a model takes."""

import math
import os
from pathlib import Path

import numpy as np

from utils import ROOT
from utils.findings import ModelError
from utils.inputs.precision import has_bf16 as has_bf16  # models.has_bf16, for the notebooks
from utils.labels import TASKS
from utils.reading.checkpoints import model_fault
from utils.reading.hub import BUNDLED_MODEL, bundled, from_hub, local_model

NOTES = ("folded_temperature", "thresholds", "long_texts", "text_pair_column")  # what a run adds to config
NOTES += ("target_accuracy", "review_below")
NO_LIMIT = 2**31 - 1  # tokens: more than any text has, and every tokenizer takes it (fast ones refuse 1e30)


def find_model(model_name: str) -> Path:
    """Return a local folder with the config, the safetensors weights and the tokenizer of one checkpoint.

    Args:
        model_name: "minilm-l6" (bundled, needs no network); a folder, found as any path to read; or a Hub id,
            better with the revision that you tested: "distilbert/distilbert-base-uncased@<commit>".

    Raises:
        ModelError: there is no such model, it cannot be fetched, or it lacks a file.
    """
    if model_name == BUNDLED_MODEL:
        return _short(bundled())
    folder = local_model(model_name)
    a_path = model_name.startswith((".", "/", "~")) or model_name.count("/") > 1 or "\\" in model_name
    if a_path and not folder:
        remedy = f"Give a folder that save_model() wrote, {BUNDLED_MODEL!r}, or a Hub id."
        raise ModelError(f"There is no model folder {model_name!r}. {remedy}")
    folder = _short(folder or from_hub(model_name))
    if fault := model_fault(folder):
        raise ModelError(f"{model_name}: {fault}")
    return folder


def _short(folder: Path) -> Path:
    """Return a folder's path from the working directory, if both are in the repository or the home folder."""
    cwd = Path.cwd()
    near = any(folder.is_relative_to(place) and cwd.is_relative_to(place) for place in (ROOT, Path.home()))
    return Path(os.path.relpath(folder)) if near else folder


def add_pad_token(tokenizer):
    """Return the tokenizer; one without a padding token, such as GPT-2's, now pads with its end token."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def longest_input(checkpoint: Path, max_length: int | None = None) -> int:
    """Return how many tokens, special ones included, the model of a folder of `find_model` takes at most.

    NO_LIMIT if any number. Its tokenizer says where a run cut texts, and not what the model can learn from.

    Raises:
        ModelError: `max_length` is more.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(checkpoint)
    positions = getattr(config, "max_position_embeddings", None) or 0  # T5, Funnel, BLOOM: none; XLNet: -1
    if positions < 1 or not getattr(config, "position_biased_input", True):  # DeBERTa with relative ones only
        return NO_LIMIT
    with torch.device("meta"):  # its layers without their numbers: nothing is read or computed
        model = AutoModelForSequenceClassification.from_config(config)
    tables = [table for name, table in model.named_modules() if name.endswith("position_embeddings")]
    # RoBERTa and its kin number positions from behind the padding id: the rows up to it stay unused.
    padding = [getattr(table, "padding_idx", None) for table in tables]
    unused = max((index + 1 for index in padding if index is not None), default=0)
    limit = min(positions - unused, NO_LIMIT)
    if max_length is not None and max_length > limit:
        fault = f"max_length={max_length} is more than the {limit} tokens of {checkpoint}"
        raise ModelError(f"{fault}. Lower it.")
    return limit


def epochs_and_rate(rows: int, batch_size: int) -> tuple[int, float]:
    """Return how long and how fast to train on so many rows: two epochs at 7e-5, of over 10,000 rows one.

    Of fewer than 100 batches three epochs at 1e-4, or as many as make 50 steps, 20 at most: fewer leave the
    head near the commonest label. docs/benchmarks.md has what that costs and scores.
    """
    if rows < 100 * batch_size:
        return min(20, max(3, math.ceil(50 * batch_size / rows))), 1e-4
    return 1 if rows > 10_000 else 2, 7e-5


def forget_last_run(model) -> None:
    """Take an earlier run's notes out of a model's config: training makes them untrue."""
    for name in NOTES:
        vars(model.config).pop(name, None)


def has_head(config) -> bool:
    """Say whether a checkpoint with this config is a text classifier, not only an encoder."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def check_head(checkpoint: Path, labels: list[str]) -> None:
    """Refuse a checkpoint whose classification head was made for other labels than `labels`, in this order.

    `from_pretrained` would keep the head and rename its outputs, or stop with a message about shapes.

    Raises:
        ModelError: it names both lists of labels and what to do.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint)
    known = [config.id2label[i] for i in sorted(config.id2label)]
    if has_head(config) and known not in (labels, [f"LABEL_{i}" for i in range(len(labels))]):
        fault = f"{checkpoint} was fine-tuned for the labels {known}, your data have {labels}."
        remedy = "Name the checkpoint that it was fine-tuned from, or give your data the same labels."
        raise ModelError(f"{fault} {remedy}")


def weighted_loss(encoded: np.ndarray, task: str):
    """Return a loss in which the rows of each class weigh the same in total: Trainer's `compute_loss_func`.

    Args:
        encoded: the training rows' labels as `encode_labels` returns them. In multi_label, for each label the
            rows that have it weigh as much as those that lack it.

    Raises:
        ValueError: the task is regression.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    if not TASKS[task].classes:
        raise ValueError(f"class_weights=True needs classes, and task is {task!r}. Set it to False.")
    if TASKS[task].joined:
        counts = encoded.sum(axis=0)
        loss_of, name = binary_cross_entropy_with_logits, "pos_weight"
        weights = (len(encoded) - counts) / counts
    else:
        counts = np.bincount(encoded)
        loss_of, name = cross_entropy, "weight"
        weights = len(encoded) / (len(counts) * counts)
    weights = torch.tensor(weights).float()

    def loss_of_batch(outputs, labels, num_items_in_batch=None):
        logits = outputs.logits.float()
        loss = loss_of(logits, labels, reduction="sum", **{name: weights.to(logits)})
        # Trainer counts labels, over all batches of a step
        return loss / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    return loss_of_batch
