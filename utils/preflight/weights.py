"""Whether the weights of a model have moved since preflight looked."""

import contextlib

import torch


def fingerprint(model: torch.nn.Module) -> dict[str, bytes]:
    """Return the first few numbers of each trainable tensor: training moves most of them, a new head or a thawed layer only its own."""
    return {
        name: p.detach().flatten()[:8].float().cpu().numpy().tobytes()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def remember(model: torch.nn.Module) -> None:
    """Note on the model how its weights are now, unless that was noted before: `moved_since` compares."""
    with contextlib.suppress(
        Exception
    ):  # weights that are not here (sharded, on the meta device): then nothing is known of them
        if getattr(model, "_weights_at_first_sight", None) is None:
            model._weights_at_first_sight = fingerprint(model)


def moved_since(model: torch.nn.Module) -> bool:
    """Say whether the weights are others than when they were first looked at, by preflight or by Watch. Weights that were set back are not."""
    before = getattr(model, "_weights_at_first_sight", None)
    if not before:
        return False
    moved = [values != before[name] for name, values in fingerprint(model).items() if name in before]
    return sum(moved) >= max(1, len(moved) / 2)
