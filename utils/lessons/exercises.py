"""The check cells of the exercises."""

import math


def check(answer, expected, tolerance: float = 0.0) -> str:
    """Say whether `answer` is right: a number within `tolerance` of `expected`, or anything else equal to it. None is no answer yet."""
    if answer is None:
        return "not answered yet"
    try:
        right = math.isclose(answer, expected, rel_tol=0, abs_tol=tolerance)
    except TypeError:
        right = answer == expected
    return "right" if right else "not yet; try again"
