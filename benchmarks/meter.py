"""A callback that measures a training without changing it."""

import json
import time
from pathlib import Path

import torch
from transformers import TrainerCallback


def now() -> float:
    """Return seconds; with one thread those of the processor, which a neighbour's work does not stretch."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def matmul_rate() -> float:
    """Return the best rate of fp32 matrix products, in FLOP per second, of two shapes."""
    rates = []
    for rows, inner, columns in ((1024, 384, 1536), (2048, 2048, 2048)):
        left, right = (
            torch.ones(rows, inner),
            torch.ones(inner, columns),
        )  # no random numbers: training's follow
        for _ in range(5):
            started = now()
            left @ right
            rates.append(2 * rows * inner * columns / (now() - started))
    return max(rates)


def multiplied(model) -> int:
    """Return how many parameters every token is multiplied with.

    Embeddings are looked up, and the pooler and the head see one token a text.
    """
    layers = model.base_model.named_modules()
    linear = [part for name, part in layers if isinstance(part, torch.nn.Linear) and "pooler" not in name]
    return sum(part.weight.numel() for part in linear)


class Meter(TrainerCallback):
    """Write into `file`, when training ends: step_seconds (without evaluating and saving), evaluations as
    [CPU seconds of the process until then, accuracy], computed_tokens, real_tokens, efficiency, and
    own_seconds and own_cpu_seconds, what the meter itself took and others subtract.
    """

    def __init__(self, file):
        self.file, self.training, self.mark = Path(file), False, 0.0
        self.facts = {"step_seconds": 0.0, "evaluations": [], "computed_tokens": 0, "real_tokens": 0}

    def count(self, model, given, named):
        if model.training and (mask := named.get("attention_mask")) is not None:
            self.facts["computed_tokens"] += mask.numel()
            self.facts["real_tokens"] += int(mask.sum())

    def on_train_begin(self, args, state, control, model=None, **_):
        clocks = time.perf_counter(), time.process_time()
        self.rate, self.flops = matmul_rate(), 6 * multiplied(model)  # a token: forward 2, backward 4
        self.hook, self.training = model.register_forward_pre_hook(self.count, with_kwargs=True), True
        self.facts["own_seconds"] = time.perf_counter() - clocks[0]
        self.facts["own_cpu_seconds"] = time.process_time() - clocks[1]
        self.mark = now()

    def on_step_end(self, args, state, control, **_):
        self.facts["step_seconds"] += now() - self.mark
        self.mark = now()

    def not_a_step(self, args, state, control, **_):
        self.mark = now()

    on_epoch_begin = on_log = on_save = not_a_step

    def on_evaluate(self, args, state, control, metrics=None, **_):
        if self.training and "eval_accuracy" in (metrics or {}):
            cpu = time.process_time() - self.facts["own_cpu_seconds"]
            self.facts["evaluations"].append([cpu, metrics["eval_accuracy"]])
        self.mark = now()

    def on_train_end(self, args, state, control, **_):
        self.hook.remove()
        self.training = False
        if self.facts["real_tokens"]:
            rate = self.flops * self.facts["real_tokens"] / self.facts["step_seconds"]
            self.facts["efficiency"] = rate / self.rate
        self.file.write_text(json.dumps(self.facts))
