"""What became of the arguments in old tutorials. The installed library says whether a name still works."""

import inspect
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pandas as pd
from transformers import Trainer, TrainingArguments

from utils.findings import did_you_mean


class Rename(NamedTuple):
    """One old argument, the release without it, and the argument in its place ("" for none)."""

    old: str
    gone: str
    new: str = ""
    advice: str = ""  # what to write, where that is more than `new=...`

    @property
    def write(self) -> str:
        return self.advice or (f"{self.new}=..." if self.new else "nothing: removed")


PRECISION = ("5.0", "fp16", "fp16=True or bf16=True")
HUB_ID = ("5.0", "hub_model_id", 'hub_model_id="owner/name"')
BY_LENGTH = 'train_sampling_strategy="group_by_length"'
ACCELERATE = 'accelerator_config={{"{}": ...}}'
REMOVED = "tpu_num_cores tpu_metrics_debug jit_mode_eval past_index ray_scope mp_parameters"
RENAMES = {
    TrainingArguments: (
        Rename("evaluation_strategy", "4.51", "eval_strategy"),
        Rename("warmup_ratio", "5.15", "warmup_steps", "warmup_steps=0.1 (below 1: a share of the steps)"),
        Rename("logging_dir", "5.15", "", "environment variable TENSORBOARD_LOGGING_DIR"),
        Rename("group_by_length", "5.2", "train_sampling_strategy", BY_LENGTH),
        Rename("no_cuda", "5.0", "use_cpu"),
        Rename("use_mps_device", "5.0", "", "nothing: chosen automatically"),
        Rename("overwrite_output_dir", "5.0", "", "nothing: take a new folder"),
        Rename("save_safetensors", "5.0", "", "nothing: always so"),
        Rename("adafactor", "5.0", "optim", 'optim="adafactor"'),
        Rename("per_gpu_train_batch_size", "5.0", "per_device_train_batch_size"),
        Rename("per_gpu_eval_batch_size", "5.0", "per_device_eval_batch_size"),
        Rename("include_inputs_for_metrics", "5.0", "include_for_metrics", 'include_for_metrics=["inputs"]'),
        Rename("fp16_backend", *PRECISION),
        Rename("half_precision_backend", *PRECISION),
        Rename("fp16_opt_level", *PRECISION),
        Rename("torchdynamo", "5.0", "torch_compile_backend"),
        Rename("push_to_hub_model_id", *HUB_ID),
        Rename("push_to_hub_organization", *HUB_ID),
        Rename("push_to_hub_token", "5.0", "hub_token"),
        Rename("dispatch_batches", "4.51", "accelerator_config", ACCELERATE.format("dispatch_batches")),
        Rename("split_batches", "4.51", "accelerator_config", ACCELERATE.format("split_batches")),
        Rename("sharded_ddp", "4.41", "fsdp"),
        Rename("xpu_backend", "4.41", "ddp_backend"),
        Rename("gradient_checkpointing", "6.0", "activation_checkpointing"),
        *(Rename(name, "5.0") for name in REMOVED.split()),
        Rename("use_ipex", "4.57"),
    ),
    Trainer: (Rename("tokenizer", "5.0", "processing_class", "processing_class=tokenizer"),),
}


def accepts(target: Callable, name: str) -> bool:
    """Say whether the installed library's class (or function) `target` takes an argument called `name`."""
    return name in inspect.signature(target).parameters


def rename_table() -> pd.DataFrame:
    """Return one row an old argument: class, old, old works, write today, new works, gone since.

    "Works" means here (bool; None where no argument took its place).
    """
    rows = []
    for target, renames in RENAMES.items():
        for rename in renames:
            new_works = accepts(target, rename.new) if rename.new else None
            works = accepts(target, rename.old)
            rows.append((target.__name__, rename.old, works, rename.write, new_works, rename.gone))
    return pd.DataFrame(rows, columns=["class", "old", "old works", "write today", "new works", "gone since"])


def translate(names: Iterable[str], target: Callable = TrainingArguments) -> pd.DataFrame:
    """Return one row a name: argument, works (here), write today ("" where it should stay as it is)."""
    known = {rename.old: rename for rename in RENAMES[target]}
    rows = []
    for name in names:
        works, advice = accepts(target, name), ""
        if name in known:
            # an old name stays as long as the installed library knows no other
            advice = "" if works and not accepts(target, known[name].new) else known[name].write
        elif not works:
            near = did_you_mean(name, inspect.signature(target).parameters)
            advice = f"no such argument, and no old one known here: check the spelling. {near}".rstrip()
        rows.append((name, works, advice))
    return pd.DataFrame(rows, columns=["argument", "works", "write today"])
