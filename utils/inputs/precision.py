"""16 bits: where they are fast, and how to see past them what a model answers."""

from contextlib import contextmanager


def has_bf16() -> bool:
    """Say whether the GPU, or without one the CPU, multiplies in bfloat16 itself: imitated, it is slower.

    CPUs: AMD since Zen 4, Xeons since Sapphire Rapids; an older PyTorch doesn't say.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def in_float32(model):
    """Within it, a model that `Trainer` computes in 16 bits answers as it does when it is loaded again."""
    autocast = model.forward if "_original_forward" in vars(model) else None  # accelerate's, around its own
    if autocast:
        model.forward = model._original_forward
    try:
        yield
    finally:
        if autocast:
            model.forward = autocast
