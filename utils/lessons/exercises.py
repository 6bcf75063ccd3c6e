"""The check cells of the exercises."""

import math


def check(answer, expected, tolerance: float = 0.0) -> str:
    """Say whether an answer is right: within `tolerance` of a number, or equal. None is no answer."""
    if answer is None:
        return "not answered yet"
    try:
        right = math.isclose(answer, expected, rel_tol=0, abs_tol=tolerance)
    except TypeError:
        right = answer == expected
    return "right" if right else "not yet; try again"
