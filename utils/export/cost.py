"""What training costs: seconds and memory, by rows, length, model and devices, on paper and checked."""

import copy
import time

import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls

from utils.findings import ModelError


def count_weights(model) -> tuple[int, int, int, int]:
    """Return how many weights there are, are trained, multiply every token (tables do not), and do both."""
    tables = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    kinds = [(p.numel(), p.requires_grad, p.ndim == 2 and id(p) not in tables) for p in model.parameters()]
    size, on, multiplies = np.array(kinds, dtype=np.int64).T
    return int(size.sum()), int(size @ on), int(size @ multiplies), int(size @ (on * multiplies))


def step_flops(model, rows: float, length: float) -> float:
    """Return the floating-point operations of training on `rows` texts of `length` tokens.

    For each token and weight 2 forward, 2 for the gradient that is passed on and, where it is trained, 2 for
    its own (6 in all: Kaplan et al. 2020, Scaling Laws for Neural Language Models); attention on top. The
    model is a classifier of transformers, with adapters or without; it may lie on the device "meta".
    """
    *_, multiply, both = count_weights(model)
    attention = 12 * model.config.num_hidden_layers * model.config.hidden_size * length
    return float(rows * length * (4 * multiply + 2 * both + attention))


def measure(model, points, repeats: int = 3, clock=time.perf_counter) -> pd.DataFrame:
    """Return rows, length, seconds (the fastest of `repeats` steps) and kept, for each of `points`.

    A step is forward, backward and AdamW on random tokens; a copy of the model takes it. `kept` are the bytes
    that autograd holds between forward and backward, without the weights. ModelError: too long a text.
    """
    limit = getattr(model.config, "max_position_embeddings", None) or float("inf")
    if (longest := max(length for _, length in points)) > limit:
        raise ModelError(f"length={longest} is more than the {limit} tokens that the model reads. Lower it.")
    twin, found = copy.deepcopy(model).train(), []
    weights = [p for p in twin.parameters() if p.requires_grad]
    own = {p.untyped_storage().data_ptr() for p in twin.parameters()}
    optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=True)
    for point in points:
        ids, seconds, kept = torch.randint(twin.config.vocab_size, point, device=twin.device), [], []
        for _ in range(repeats + 1):  # the first one warms up
            start = clock()
            twin(input_ids=ids, attention_mask=ids**0).logits.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            weights[-1].flatten()[0].item()  # waits for a GPU
            seconds.append(clock() - start)
        with torch.autograd.graph.saved_tensors_hooks(kept.append, kept.append):
            twin(input_ids=ids, attention_mask=ids**0)
        sizes = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in kept}
        found.append((*point, min(seconds[1:]), sum(sizes[place] for place in sizes.keys() - own)))
    return pd.DataFrame(found, columns=["rows", "length", "seconds", "kept"])


def terms(model, rows, length) -> np.ndarray:
    """Return what is multiplied by the constants: 1 and operations; and what is kept by unit, and by pair."""
    tokens = rows * length * model.config.num_hidden_layers
    return np.array([1, step_flops(model, rows, length), tokens * model.config.hidden_size, tokens * length])


def fit(model, measured: pd.DataFrame) -> np.ndarray:
    """Return the constants that fit what `measure` found, by relative least squares, none below zero: seconds
    for a step (Python, the optimizer) and for an operation; bytes for each token, layer and unit, and for
    each layer and pair of tokens of a text. ValueError: fewer than three sizes, or all of one length.
    """
    points = [*zip(measured["rows"], measured["length"], strict=True)]
    if len({*points}) < 3 or measured["length"].nunique() < 2:
        raise ValueError("A fit takes three sizes of a step or more, and two lengths. Measure more.")
    table, found = np.array([terms(model, *point) for point in points]), []
    for columns, seen in ((table[:, :2], measured["seconds"]), (table[:, 2:], measured["kept"])):
        columns = columns / seen.to_numpy()[:, None]
        found.extend(nnls(columns / columns.max(axis=0), np.ones(len(seen)))[0] / columns.max(axis=0))
    return np.array(found)


def predict(model, constants: np.ndarray, rows: float, length: float) -> tuple[float, float]:
    """Return the seconds of a step on `rows` texts of `length` tokens, and the bytes kept for backward."""
    parts = constants * terms(model, rows, length)
    return float(parts[:2].sum()), float(parts[2:].sum())


def at_scale(model, constants, *, rows, length, epochs, texts, devices, peak, share, scaling, price):
    """Return a table of what training costs elsewhere: value, and where it comes from.

    By keyword, your assumptions: rows; mean tokens of a text, padding included; epochs; texts in a step of
    one device; devices; operations a second of one, by its data sheet; the share that training reaches; the
    share of that which is left when devices work together; the price of a device for an hour. ValueError: one
    that is not above 0, or a share above 1.
    """
    assumed = {name: value for name, value in locals().items() if name not in ("model", "constants")}
    for name, value in assumed.items():
        if not 0 < value <= (1 if name in ("share", "scaling") else float("inf")):
            raise ValueError(f"{name}={value!r} must be above 0, and a share at most 1. Correct it.")
    (weights, trained, *_), work = count_weights(model), epochs * step_flops(model, rows, length)
    hours = work / (devices * peak * share * scaling) / 3600
    # float32: the weights, and of the trained ones gradients and AdamW's two averages
    size = 4 * weights + 12 * trained + predict(model, constants, texts, length)[1]
    found = {"operations": work, "steps": rows * epochs / (texts * devices), "hours": hours}
    found |= {"cost": hours * devices * price, "GB on each device": size / 1e9}
    counted = {"weights": weights, "weights trained": trained}
    kinds = ["counted"] * 2 + ["assumption"] * len(assumed) + ["formula"] * len(found)
    return pd.DataFrame({"value": counted | assumed | found}).assign(source=kinds)
