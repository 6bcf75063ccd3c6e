"""`check_saved(folder, trainer)`: load what was saved, and compare it with what was trained."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedModel, Trainer

from utils.findings import Finding, Report
from utils.inputs.precision import in_float32
from utils.preflight.setup import EMPTY, Setup, text_config, untouched
from utils.preflight.split import error_text

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # what peft writes
SAVE = "trainer.model.save_pretrained(folder); tokenizer.save_pretrained(folder)"
SAVE_TOKENIZER = "tokenizer.save_pretrained(folder), or Trainer(..., processing_class=tokenizer)"
MERGE = "To save a model that loads by itself: trainer.model.merge_and_unload().save_pretrained(folder)"
TRAIN_ANEW = "Train a freshly loaded model with a lower learning rate and Watch()"


def check_saved(folder: str | Path, trainer: Trainer, rows: int = 8) -> Report:
    """Load a saved model and its tokenizer and compare both with those of the trainer. Nothing is changed.

    Args:
        folder: what save_model or save_pretrained wrote.
        trainer: the trainer whose model was saved. Both models predict rows of its evaluation data, else of
            its training data; of an adapter's folder, the tensors and those of its base are compared instead.
        rows: how many rows to predict.

    Returns:
        A report: "saved-differs" for another label map or other logits, "empty-tokenizer" for a tokenizer
        that was not saved, "nan-hidden" for weights that were lost in training.
    """
    setup, folder = Setup(trainer), Path(folder)
    with untouched(setup):
        try:
            return Report(compared(folder, setup, rows))
        except Exception as error:
            message = f"What is in {folder.name} cannot be compared: {error_text(error)}"
            return Report([differs(message, f"Save again: {SAVE}")])


def differs(message: str, fix: str = SAVE, level: str = "error") -> Finding:
    return Finding("saved-differs", level, message, fix)


def compared(folder: Path, setup: Setup, rows: int) -> Iterator[Finding]:
    adapters, whole = list(setup.adapters), (folder / "config.json").is_file()
    parts = [(folder, next(iter(adapters), None)), *((folder / name, name) for name in adapters)]
    for part, adapter in parts:  # peft writes an adapter with a name of its own to a folder of that name
        if (part / ADAPTER_CONFIG).is_file() and (adapters or not whole):
            yield from compared_adapter(part, adapter, setup)
            return
    if not whole:
        yield differs(f"There is no config.json in {folder.name}: no model was saved there.")
    elif not any(folder.glob("*.safetensors")):
        yield differs(f"There are no safetensors weights in {folder.name}.")
    else:
        yield from compared_model(folder, setup, rows)


def compared_model(folder: Path, setup: Setup, rows: int) -> Iterator[Finding]:
    name, how = folder.name, {"use_safetensors": True, "output_loading_info": True}
    dtype = next(setup.model.parameters()).dtype
    loaded, info = type(setup.base_model).from_pretrained(folder, dtype=dtype, **how)
    if missing := sorted(info["missing_keys"]):
        yield differs(f"{name} lacks {', '.join(missing[:3])}: loaded again, they are random numbers.")
    configs = setup.model.config, loaded.config
    labels, saved_labels = ([label for _, label in sorted(config.id2label.items())] for config in configs)
    label2id, saved_label2id = (config.label2id for config in configs)
    if labels != saved_labels:
        yield differs(f"The model's labels are {labels[:8]}, in {name} they are {saved_labels[:8]}.")
    elif label2id != saved_label2id:
        yield differs(f"The model's label2id is {label2id}, in {name} it is {saved_label2id}."[:500])
    if setup.input_name == "input_ids":  # a model of texts
        yield from compared_tokenizer(folder, setup.tokenizer, loaded.config)
    split = (setup.evals or [setup.train])[0]
    if split is None or not len(split.index) or missing:
        return
    batch = setup.collator(split.sample(range(min(rows, len(split.index)))))
    label_names = {*setup.trainer.label_names, "label", "label_ids"}
    inputs = {key: value for key, value in batch.items() if key not in label_names}
    with torch.no_grad(), in_float32(setup.model):
        before = setup.model(**setup.trainer._prepare_inputs(inputs)).logits.float().cpu()
        after = loaded.eval()(**inputs).logits.float()
    subject = f"On {len(before)} rows the"
    if not after.isfinite().all():
        message = f"{subject} model in {name} answers nan or inf: the weights were lost in training."
        yield Finding("nan-hidden", "error", message, TRAIN_ANEW)
    gap = None
    if before.shape != after.shape:
        gap = f"in their shape, {tuple(before.shape)} and {tuple(after.shape)}"
    elif not torch.allclose(before, after, atol=1e-3, rtol=1e-3, equal_nan=True):
        gap = f"by up to {(before - after).abs().max():.3g}"
    if gap:
        reason = "it holds other weights, perhaps those of another step."
        yield differs(f"{subject} logits of the trainer's model and of {name} differ {gap}: {reason}")


def compared_adapter(folder: Path, adapter: str | None, setup: Setup) -> Iterator[Finding]:
    """Compare tensors: each of the trainer's model must stand in the adapter or, unchanged, in its base."""
    model, name, others = setup.base_model, folder.name, set(setup.adapters) - {adapter}
    if not (folder / ADAPTER_WEIGHTS).is_file():
        yield differs(f"There is no {ADAPTER_WEIGHTS} in {name}.")
        return
    saved = {plain_name(key): tensor for key, tensor in load_file(folder / ADAPTER_WEIGHTS).items()}
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    path = config.get("base_model_name_or_path")
    base = base_tensors(path, model)
    elsewhere = f"and its base {path} is not on this machine" if path else "and no base is named there"
    elsewhere = elsewhere if base is None else "nor in its base"
    absent, different, head, unknown = [], [], set(), set(saved)
    body = f"{model.base_model_prefix}." if getattr(model, "base_model_prefix", "") else ""
    for full_name, tensor in model.named_parameters():
        if {"original_module", *others} & set(full_name.split(".")):
            continue  # the head before training, and other adapters
        plain = plain_name(full_name, adapter)
        if not full_name.startswith(body):
            head.add(plain)
        starts = ("base_model.model.", "base_model.", "")
        keys = (start + key for start in starts for key in (plain, plain.removesuffix(".weight")))
        key = next((key for key in keys if key in saved), None)
        unknown.discard(key)
        other = saved[key] if key else (base or {}).get(plain)
        if other is not None:
            different += [] if same(tensor, other) else [plain]
        elif tensor.requires_grad or plain in {*head, *(base or ())}:
            absent.append(plain)
    if adapter is None or (saved and len(unknown) == len(saved)):
        own = "no adapter" if adapter is None else "an adapter with other tensors"
        example = next(iter(unknown), "empty")
        yield differs(f"{name} holds an adapter ({example}), the trainer's model has {own}.")
        return
    if not_finite := [key for key, tensor in saved.items() if not tensor.isfinite().all()]:
        message = f"{not_finite[0]!r} in {name} holds nan or inf: the weights were lost in training."
        yield Finding("nan-hidden", "error", message, TRAIN_ANEW)
    if absent:
        modules = json.dumps(list(dict.fromkeys(key.split(".")[0] for key in absent)))
        train = f"Train anew with LoraConfig(..., modules_to_save={modules}), which trains and saves them"
        subject = f"{', '.join(absent[:3])} of the trainer's model are not in the adapter {name}, {elsewhere}"
        fix = train if set(absent) <= head else SAVE
        yield differs(f"{subject}: loaded again, they are random numbers.", fix)
    if different:
        subject = f"{len(different)} tensor(s) of the trainer's model, for example {different[0]!r},"
        yield differs(f"{subject} differ from those of {name} and its base, perhaps of another step.")
    major, minor = transformers.__version__.split(".")[:2]
    if (int(major), int(minor)) < (5, 18) and config.get("modules_to_save"):
        message = f"Transformers {major}.{minor} loads {name} with a head of random numbers"
        fix = f"PeftModel.from_pretrained(base, folder), or pip install 'transformers>=5.18'. {MERGE}"
        yield differs(f"{message}: it forgets modules_to_save.", fix, "warning")
    if base is None and not absent and not different:
        message = f"{name} holds the trainer's adapter, {elsewhere}: whether the base is the same is unknown."
        yield differs(message, MERGE, "warning")
    # a folder without a tokenizer means that of the base
    if setup.tokenizer is not None and (folder / "tokenizer_config.json").is_file():
        yield from compared_tokenizer(folder, setup.tokenizer, model.config)


def plain_name(name: str, adapter: str | None = None) -> str:
    """Return the name of a tensor as an adapter's file has it, or a model without adapters."""
    parts = [part for part in name.split(".") if part not in ("base_layer", "modules_to_save")]
    if adapter in parts:
        del parts[len(parts) - 1 - parts[::-1].index(adapter)]
    return ".".join(parts)


def base_tensors(path: str | None, model: PreTrainedModel) -> dict[str, torch.Tensor | None] | None:
    """Return the tensors of an adapter's base, None for new ones; None if the base is not on this machine."""
    if not path:
        return None
    how = {"ignore_mismatched_sizes": True, "local_files_only": True, "use_safetensors": True}
    how |= {"dtype": next(model.parameters()).dtype, "config": copy.deepcopy(model.config)}
    try:
        base, info = type(model).from_pretrained(path, output_loading_info=True, **how)
    except Exception:
        return None
    new = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    return {name: None if name in new else tensor for name, tensor in base.named_parameters()}


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare two tensors, one of which may have been rounded to float16: it keeps three digits."""
    one, other = one.detach().float().cpu(), other.float().cpu()
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-6, equal_nan=True)


def compared_tokenizer(folder: Path, tokenizer: Any, config: Any) -> Iterator[Finding]:
    level, fix = ("warning", SAVE_TOKENIZER) if tokenizer is None else ("error", SAVE)
    message = f"{folder.name} holds no tokenizer: loaded from there, every word would be unknown."
    missing = Finding("empty-tokenizer", level, message, fix)
    try:
        loaded = AutoTokenizer.from_pretrained(folder)
    except Exception:  # which one depends on the model family
        yield missing
        return
    vocabulary = getattr(text_config(config), "vocab_size", None) or 0
    large = vocabulary > 10 * len(loaded) if tokenizer is None else len(tokenizer) > EMPTY
    if len(loaded) <= EMPTY and large:
        yield missing
    elif tokenizer is not None and len(loaded) != len(tokenizer):
        sizes = f"knows {len(tokenizer):,} tokens, that in {folder.name} {len(loaded):,}"
        yield Finding("empty-tokenizer", "error", f"The trainer's tokenizer {sizes}.", SAVE)
    elif tokenizer is not None and loaded.get_vocab() != tokenizer.get_vocab():
        yield differs(f"The tokenizer in {folder.name} numbers its tokens differently from the trainer's.")
