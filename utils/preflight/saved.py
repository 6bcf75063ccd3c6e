"""`check_saved(folder, trainer)`: load what was saved, and compare it with what was trained."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoTokenizer, Trainer

from utils.findings import Finding, Report
from utils.preflight.setup import Setup, text_config, untouched
from utils.preflight.split import error_text

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # what peft writes


def check_saved(folder: str | Path, trainer: Trainer, rows: int = 8) -> Report:
    """Load a saved model and its tokenizer again and compare both with those of the trainer.

    Args:
        folder: what save_model or save_pretrained wrote.
        trainer: the trainer whose model was saved; its evaluation data (else its training data) give the rows that both models are asked.
        rows: how many rows to ask.

    Returns:
        A report: "saved-differs" for another label map or other logits, "empty-tokenizer" for a tokenizer that was not saved, "nan-hidden" for weights
        that were lost in training. Of an adapter's folder the tensors are compared, and those of its base, not the logits. Nothing is changed.
    """
    setup = Setup(trainer)
    with untouched(setup):
        try:
            return Report(_saved(Path(folder), setup, rows))
        except Exception as error:
            message = f"What is in {Path(folder).name} cannot be compared: {error_text(error)}"
            return Report(
                [
                    Finding(
                        "saved-differs",
                        "error",
                        message,
                        "Save again: trainer.model.save_pretrained(folder); tokenizer.save_pretrained(folder)",
                    )
                ]
            )


def _saved(folder: Path, setup: Setup, rows: int):
    again = "trainer.model.save_pretrained(folder); tokenizer.save_pretrained(folder)"
    adapters = list(getattr(setup.model, "peft_config", None) or ())
    for part in [
        folder,
        *(folder / name for name in adapters),
    ]:  # peft writes an adapter with a name of its own to a folder of that name
        if (part / ADAPTER_CONFIG).is_file() and (adapters or not (folder / "config.json").is_file()):
            name = part.name if part != folder else next(iter(adapters), None)
            yield from _saved_adapter(part, name, setup, again)
            return
    if not (folder / "config.json").is_file():
        yield Finding(
            "saved-differs",
            "error",
            f"There is no config.json in {folder.name}: no model was saved there.",
            again,
        )
        return
    if not any(folder.glob("*.safetensors")):
        yield Finding("saved-differs", "error", f"There are no safetensors weights in {folder.name}.", again)
        return
    model = setup.model
    loaded, info = type(_base(model)).from_pretrained(
        folder, use_safetensors=True, dtype=next(model.parameters()).dtype, output_loading_info=True
    )
    new = sorted(info["missing_keys"])
    if new:
        yield Finding(
            "saved-differs",
            "error",
            f"{folder.name} lacks {', '.join(new[:3])}: loaded again, they are random numbers.",
            again,
        )
    names, saved_names = (
        [config.id2label[i] for i in sorted(config.id2label)] for config in (model.config, loaded.config)
    )
    if names == saved_names and model.config.label2id != loaded.config.label2id:
        yield Finding(
            "saved-differs",
            "error",
            f"The model's label2id is {model.config.label2id}, in {folder.name} it is {loaded.config.label2id}."[
                :500
            ],
            again,
        )
    if names != saved_names:
        yield Finding(
            "saved-differs",
            "error",
            f"The model's labels are {names[:8]}, in {folder.name} they are {saved_names[:8]}.",
            again,
        )

    if setup.input_name == "input_ids":  # a model of texts
        yield from _saved_tokenizer(folder, setup.tokenizer, loaded.config, again)
    split = (setup.evals or [setup.train])[0]
    if split is None or not len(split.index) or new:
        return
    batch = setup.collator(split.sample(range(min(rows, len(split.index)))))
    inputs = {
        name: value
        for name, value in batch.items()
        if name not in (*setup.trainer.label_names, "label", "label_ids")
    }
    with torch.no_grad():
        before = model(**setup.trainer._prepare_inputs(inputs)).logits.float().cpu()
        after = loaded.eval()(**inputs).logits.float()
    if not torch.isfinite(after).all():
        yield Finding(
            "nan-hidden",
            "error",
            f"On {len(after)} rows the model in {folder.name} answers nan or inf: the weights were lost in training, and it gives one class for every text.",
            "Train a freshly loaded model with a lower learning rate and Watch()",
        )
    if before.shape != after.shape or not torch.allclose(before, after, atol=1e-3, rtol=1e-3, equal_nan=True):
        gap = (
            f"by up to {(before - after).abs().max():.3g}"
            if before.shape == after.shape
            else f"in their shape, {tuple(before.shape)} and {tuple(after.shape)}"
        )
        yield Finding(
            "saved-differs",
            "error",
            f"On {len(before)} rows the logits of the trainer's model and of {folder.name} differ {gap}: it holds other weights, perhaps those of another step.",
            again,
        )


def _base(model: torch.nn.Module) -> torch.nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _saved_adapter(folder: Path, name: str | None, setup: Setup, again: str):
    """Compare an adapter with the trainer's model, tensor by tensor: each must stand in the adapter or, as it is, in the base that the adapter names."""
    model, others = _base(setup.model), set(getattr(setup.model, "peft_config", None) or ()) - {name}
    if not (folder / ADAPTER_WEIGHTS).is_file():
        yield Finding("saved-differs", "error", f"There is no {ADAPTER_WEIGHTS} in {folder.name}.", again)
        return
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        saved = {_without_adapter(key, None): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    path = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    based = _loaded_base(path, model)
    elsewhere = (
        "nor in its base"
        if based is not None
        else f"and its base {path} is not on this machine"
        if path
        else "and no base is named there"
    )
    lost, differ, head, unknown = [], [], set(), set(saved)
    for whole, tensor in model.named_parameters():
        if {"original_module", *others} & set(whole.split(".")):
            continue  # the head before, and other adapters
        plain = _without_adapter(whole, name)
        if getattr(model, "base_model_prefix", "") and not whole.startswith(f"{model.base_model_prefix}."):
            head.add(plain)
        called = (
            prefix + plain.removesuffix(ending)
            for prefix in ("base_model.model.", "base_model.", "")
            for ending in ("", ".weight")
        )
        key = next((key for key in called if key in saved), None)
        unknown.discard(key)
        other = saved[key] if key else (based or {}).get(plain)
        if other is not None:
            differ += [plain] if not _same(tensor, other) else []
        elif tensor.requires_grad or plain in {*head, *(based or ())}:
            lost.append(plain)
    if name is None or (saved and len(unknown) == len(saved)):
        what = "no adapter" if name is None else "an adapter with other tensors"
        yield Finding(
            "saved-differs",
            "error",
            f"{folder.name} holds an adapter ({next(iter(unknown), 'empty')}), the trainer's model has {what}.",
            again,
        )
        return
    if bad := [key for key, tensor in saved.items() if not torch.isfinite(tensor).all()]:
        message = f"{bad[0]!r} in {folder.name} holds nan or inf: the weights were lost in training."
        yield Finding(
            "nan-hidden",
            "error",
            message,
            "Train a freshly loaded model with a lower learning rate and Watch()",
        )
    if lost:
        modules = json.dumps(list(dict.fromkeys(name.split(".")[0] for name in lost)))
        yield Finding(
            "saved-differs",
            "error",
            f"{', '.join(lost[:3])} of the trainer's model are not in the adapter {folder.name}, {elsewhere}: loaded again, they are random numbers.",
            f"Train anew with LoraConfig(..., modules_to_save={modules}), which trains and saves them"
            if set(lost) <= head
            else again,
        )
    if differ:
        message = f"{len(differ)} tensor(s) of the trainer's model, for example {differ[0]!r}, differ from those of {folder.name} and its base, perhaps of another step."
        yield Finding("saved-differs", "error", message, again)
    if based is None and not lost and not differ:
        yield Finding(
            "saved-differs",
            "warning",
            f"{folder.name} holds the trainer's adapter, {elsewhere}: whether the base is the trainer's cannot be said.",
            "To save a model that loads by itself: trainer.model.merge_and_unload().save_pretrained(folder)",
        )
    if (
        setup.tokenizer is not None and (folder / "tokenizer_config.json").is_file()
    ):  # else that of the base is meant
        yield from _saved_tokenizer(folder, setup.tokenizer, model.config, again)


def _without_adapter(name: str, adapter: str | None) -> str:
    """Return the name of a tensor as it is called in the file of an adapter, or in the model without one."""
    parts = [part for part in name.split(".") if part not in ("base_layer", "modules_to_save")]
    if adapter in parts:
        del parts[len(parts) - 1 - parts[::-1].index(adapter)]
    return ".".join(parts)


def _loaded_base(path: str | None, model: torch.nn.Module) -> dict[str, torch.Tensor | None] | None:
    """Return the tensors of an adapter's base, None for those that loading makes up; None altogether where it is not on this machine."""
    if not path:
        return None
    how = {
        "dtype": next(model.parameters()).dtype,
        "ignore_mismatched_sizes": True,
        "local_files_only": True,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    try:
        base, info = type(model).from_pretrained(path, config=copy.deepcopy(model.config), **how)
    except Exception:
        return None
    made_up = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    return {name: None if name in made_up else tensor for name, tensor in base.named_parameters()}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare two tensors, one of which may have been rounded to float16: it keeps three digits."""
    return one.shape == other.shape and torch.allclose(
        one.detach().float().cpu(), other.float().cpu(), rtol=1e-3, atol=1e-6, equal_nan=True
    )


def _saved_tokenizer(folder: Path, tokenizer: Any, config: Any, again: str):
    missing = Finding(
        "empty-tokenizer",
        "error",
        f"{folder.name} holds no tokenizer: loaded from there, every word would be unknown.",
        again,
    )
    if tokenizer is None:
        missing = missing._replace(
            level="warning",
            fix="tokenizer.save_pretrained(folder), or Trainer(..., processing_class=tokenizer), which saves it as well",
        )
    try:
        loaded = AutoTokenizer.from_pretrained(folder)
    except Exception:  # which one depends on the model family
        yield missing
        return
    if tokenizer is None:
        if len(loaded) <= 50 and (getattr(text_config(config), "vocab_size", None) or 0) > 10 * len(loaded):
            yield missing
    elif len(loaded) != len(tokenizer):
        if len(loaded) <= 50 < len(tokenizer):
            yield missing
        else:
            yield Finding(
                "empty-tokenizer",
                "error",
                f"The trainer's tokenizer knows {len(tokenizer):,} tokens, that in {folder.name} {len(loaded):,}.",
                again,
            )
    elif loaded.get_vocab() != tokenizer.get_vocab():
        yield Finding(
            "saved-differs",
            "error",
            f"The tokenizer in {folder.name} numbers its tokens differently from the trainer's.",
            again,
        )
