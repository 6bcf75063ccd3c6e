"""The figure of 04_training."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from utils.plots import BLUE, finish, plain_axes


def scoreboard(scores: Mapping[str, float], name: str) -> Figure:
    """Draw one bar a model. `scores` maps what was scored -> score, 0 to 1; `name` is the score's."""
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.4 * len(scores)), layout="constrained")
    colours = [BLUE if "fine-tuned" in model else "0.6" for model in scores]
    bars = axes.barh([plain_axes(model, 40) for model in scores], list(scores.values()), color=colours)
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.invert_yaxis()
    axes.set(title="What each step is worth", ylabel="model", xlabel=f"{name} (0 to 1)", xlim=(0, 1.08))
    return finish(figure)
