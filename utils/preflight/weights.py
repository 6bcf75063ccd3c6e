"""The weights of a model: whether they have moved since preflight looked, and what moves them."""

import contextlib

import torch


def fingerprint(model: torch.nn.Module) -> dict[str, bytes]:
    """Return the first numbers of each trainable tensor: training moves most, a new layer only its own."""
    trainable = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {name: p.detach().flatten()[:8].float().cpu().numpy().tobytes() for name, p in trainable}


def remember(model: torch.nn.Module) -> None:
    """Note on the model how its weights are now, for `moved_since`; an earlier note stays."""
    with contextlib.suppress(Exception):  # weights that are elsewhere (sharded, on the meta device)
        if getattr(model, "_weights_at_first_sight", None) is None:
            model._weights_at_first_sight = fingerprint(model)


def moved_since(model: torch.nn.Module) -> bool:
    """Say whether preflight or Watch noted other weights than the model has now."""
    before = getattr(model, "_weights_at_first_sight", None)
    if not before:
        return False
    moved = [values != before[name] for name, values in fingerprint(model).items() if name in before]
    return sum(moved) >= max(1, len(moved) / 2)


def adam_moves_most(args, model: torch.nn.Module) -> bool:
    """Say whether Adam moves most of the weights: plain descent and small adapters take higher rates."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    adam = "adam" in str(getattr(args.optim, "value", args.optim))
    return adam and trained > 0.5 * sum(p.numel() for p in model.parameters())
