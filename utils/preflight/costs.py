"""What a run costs, in numbers that need no Trainer: optimizer steps, and tokens with their padding."""

import math

import numpy as np


def optimizer_steps(batches: int, accumulation: int, epochs: float) -> int:
    """Return a run's optimizer steps, counted as Trainer does: an epoch's last step may have fewer batches.

    Args:
        batches: in an epoch, on each device.
        accumulation: batches a step, `gradient_accumulation_steps`.
    """
    return math.ceil(epochs * math.ceil(batches / accumulation))


def padded_tokens(lengths: np.ndarray, batch_size: int) -> int:
    """Return the tokens that a model computes where each batch, in order, is padded to its longest row."""
    starts = np.arange(0, len(lengths), batch_size)
    rows = np.diff(starts, append=len(lengths))
    return int((rows * np.maximum.reduceat(lengths, starts)).sum())
