"""What became of the arguments in old tutorials. The names stand here once; whether one still works is asked of the installed library."""

import inspect
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pandas as pd
from transformers import Trainer, TrainingArguments


class Rename(NamedTuple):
    """One old argument: `new` is the argument that took its place ("" for none), `write` what to write today, `gone` the release without it."""

    old: str
    new: str
    write: str
    gone: str


RENAMES = {
    TrainingArguments: (
        Rename("evaluation_strategy", "eval_strategy", "eval_strategy=...", "4.51"),
        Rename("warmup_ratio", "warmup_steps", "warmup_steps=0.1 (below 1: a share of the steps)", "5.15"),
        Rename("logging_dir", "", "environment variable TENSORBOARD_LOGGING_DIR", "5.15"),
        Rename(
            "group_by_length", "train_sampling_strategy", 'train_sampling_strategy="group_by_length"', "5.2"
        ),
        Rename("no_cuda", "use_cpu", "use_cpu=...", "5.0"),
        Rename("use_mps_device", "", "nothing: chosen automatically", "5.0"),
        Rename("overwrite_output_dir", "", "nothing: take a new folder", "5.0"),
        Rename("save_safetensors", "", "nothing: always so", "5.0"),
        Rename("adafactor", "optim", 'optim="adafactor"', "5.0"),
        Rename(
            "per_gpu_train_batch_size",
            "per_device_train_batch_size",
            "per_device_train_batch_size=...",
            "5.0",
        ),
        Rename(
            "per_gpu_eval_batch_size", "per_device_eval_batch_size", "per_device_eval_batch_size=...", "5.0"
        ),
        Rename("include_inputs_for_metrics", "include_for_metrics", 'include_for_metrics=["inputs"]', "5.0"),
        Rename("fp16_backend", "fp16", "fp16=True or bf16=True", "5.0"),
        Rename("half_precision_backend", "fp16", "fp16=True or bf16=True", "5.0"),
        Rename("fp16_opt_level", "fp16", "fp16=True or bf16=True", "5.0"),
        Rename("torchdynamo", "torch_compile_backend", "torch_compile_backend=...", "5.0"),
        Rename("push_to_hub_model_id", "hub_model_id", 'hub_model_id="owner/name"', "5.0"),
        Rename("push_to_hub_organization", "hub_model_id", 'hub_model_id="owner/name"', "5.0"),
        Rename("push_to_hub_token", "hub_token", "hub_token=...", "5.0"),
        Rename(
            "dispatch_batches", "accelerator_config", 'accelerator_config={"dispatch_batches": ...}', "4.51"
        ),
        Rename("split_batches", "accelerator_config", 'accelerator_config={"split_batches": ...}', "4.51"),
        Rename("sharded_ddp", "fsdp", "fsdp=...", "4.41"),
        Rename("xpu_backend", "ddp_backend", "ddp_backend=...", "4.41"),
        Rename("gradient_checkpointing", "activation_checkpointing", "activation_checkpointing=...", "6.0"),
        *(
            Rename(name, "", "nothing: removed", "5.0")
            for name in (
                "tpu_num_cores",
                "tpu_metrics_debug",
                "jit_mode_eval",
                "past_index",
                "ray_scope",
                "mp_parameters",
            )
        ),
        Rename("use_ipex", "", "nothing: removed", "4.57"),
    ),
    Trainer: (Rename("tokenizer", "processing_class", "processing_class=tokenizer", "5.0"),),
}


def accepts(target: Callable, name: str) -> bool:
    """Say whether the installed library's class (or function) `target` takes an argument called `name`."""
    return name in inspect.signature(target).parameters


def rename_table() -> pd.DataFrame:
    """Return one row an old argument: where it belongs, whether it still works here, what to write today, and whether that works here.

    Columns: class, old, old works (bool), write today, new works (bool; None where no argument took its place), gone since.
    """
    rows = [
        (
            target.__name__,
            rename.old,
            accepts(target, rename.old),
            rename.write,
            accepts(target, rename.new) if rename.new else None,
            rename.gone,
        )
        for target, renames in RENAMES.items()
        for rename in renames
    ]
    return pd.DataFrame(rows, columns=["class", "old", "old works", "write today", "new works", "gone since"])


def translate(names: Iterable[str], target: Callable = TrainingArguments) -> pd.DataFrame:
    """Return one row a name: `works` (does the installed library take it?) and `write today` ("" where it should stay as it is)."""
    known = {rename.old: rename for rename in RENAMES[target]}

    def advice(name: str) -> str:
        if name not in known:
            return (
                ""
                if accepts(target, name)
                else "no such argument, and no old one known here: check the spelling"
            )
        # an old name stays as long as the installed library knows no other
        return "" if accepts(target, name) and not accepts(target, known[name].new) else known[name].write

    return pd.DataFrame(
        [(name, accepts(target, name), advice(name)) for name in names],
        columns=["argument", "works", "write today"],
    )
