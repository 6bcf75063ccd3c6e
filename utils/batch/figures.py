"""The figures of a summary: scores along a parameter, and scores against cost."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from utils.plots import COLOURS, VERMILION, finish, plain_axes

# Of a score: what a title calls it, and what its axis says.
SCORE_WORDS = {
    "f1_macro": ("macro-F1", "macro-F1 (0 to 1)"),
    "pearson": ("Pearson's r", "correlation (−1 to 1)"),
    "mae": ("error", "mean absolute error (unit of the labels)"),
}
# Runs without a score, by kind: the height above the lower edge of the figure, mark, colour and name.
LOST = {
    "diverged": (0.115, "v", VERMILION, "diverged (stopped by Watch)"),
    "failed": (0.045, "x", "black", "failed"),
}


def short_value(value) -> str:
    """Return a parameter's value as text; nan is what None becomes in a column of numbers."""
    return "None" if value is None or value != value else str(value)


def settings_in_words(parameters: Mapping) -> str:
    """Return parameters as a name for people: "learning_rate 5e-05, seed 1"."""
    return ", ".join(f"{name} {short_value(value)}" for name, value in parameters.items())


def deciding_score(table: pd.DataFrame) -> str:
    """Return the score that chooses among the runs of a leaderboard or summary: f1_macro, else pearson."""
    has_f1 = {"validation_f1_macro", "validation_f1_macro_mean"} & set(table.columns)
    return "f1_macro" if has_f1 else "pearson"


def sweep_scores(
    leaderboard: pd.DataFrame, x: str, score: str | None = None, by: str | None = None
) -> Figure:
    """Draw the validation scores of a sweep along one parameter.

    A ring is a run, a mark their mean, a bar one standard deviation each way. Runs without a score stand at
    the lower edge: those that failed and, with a mark of their own, those that `Watch` stopped as diverged.

    Args:
        leaderboard: a leaderboard.
        x: the parameter. Its axis is logarithmic where values above zero span a factor of ten or more.
        score: None means f1_macro, or pearson where there is no f1_macro.
        by: a second parameter, told apart by colour and mark; None puts all runs with the same x together.
    """
    score = score or deciding_score(leaderboard)
    title, axis = SCORE_WORDS.get(score, (score, f"{score} (0 to 1)"))
    table = pd.DataFrame({"at": leaderboard[x].map(short_value), "error": leaderboard["error"].astype(str)})
    table["group"] = leaderboard[by].map(short_value) if by else "mean ± std"
    table["score"] = leaderboard[f"validation_{score}"].astype(float)
    names = table["at"].unique()
    place = pd.Series(pd.to_numeric(names, errors="coerce"), index=names)  # where on the axis a value stands
    numeric = bool(np.isfinite(place).all())
    place = place.sort_values() if numeric else pd.Series(np.arange(len(names), dtype=float), index=names)
    low, high = place.min(), place.max()
    log = numeric and low > 0 and high >= 10 * low

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for k, (group, runs) in enumerate(table.groupby("group", sort=False)):
        runs, colour = runs.dropna(subset="score"), COLOURS[k % len(COLOURS)]
        if runs.empty:
            continue
        # Groups stand side by side, or bars would hide each other.
        shift = 0.02 * (k - (table["group"].nunique() - 1) / 2)
        at = place * (high / low) ** shift if log else place + shift * ((high - low) or 1)
        rings = {"markersize": 8, "fillstyle": "none", "gid": "runs"}
        axes.plot(at[runs["at"]], runs["score"], "o", color=colour, **rings)
        means = runs.groupby("at")["score"].agg(["mean", "std"])  # std of one run: nan, and no bar
        means = means.reindex(place.index).dropna(subset="mean")
        style = "os^D"[k % 4] + (("-", "--", "-.")[k % 3] if numeric else "")
        options = {"fmt": style, "color": colour, "markersize": 5, "capsize": 4, "linewidth": 1.2}
        axes.errorbar(at[means.index], means["mean"], means["std"], label=plain_axes(group), **options)
    axes.plot([], [], "o", color="0.4", markersize=8, fillstyle="none", label="one run")

    lost = table[table["score"].isna()]
    if len(lost):
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.19 * (top - bottom), top)  # 0.16 of the height, for runs without a score
        axes.axhspan(axes.get_ylim()[0], bottom, color="0.92", zorder=0)
    kinds = lost["error"].str.startswith("WatchError").map({True: "diverged", False: "failed"})
    options, small = {"markersize": 8}, {"xytext": (6, -3), "textcoords": "offset points", "fontsize": 8}
    at_edge = axes.get_xaxis_transform()
    for kind, runs in lost["at"].groupby(kinds):
        y, marker, colour, label = LOST[kind]
        counts = runs.value_counts(sort=False)
        options |= {"color": colour, "label": label, "gid": kind, "transform": at_edge}
        axes.plot(place[counts.index], [y] * len(counts), marker, **options)
        for value, number in counts[counts > 1].items():
            axes.annotate(f"×{number}", (place[value], y), xycoords=at_edge, **small)

    axes.margins(x=0.08)
    axes.set_xscale("log" if log else "linear")
    if len(place) <= 12:
        tilted = len(place) > 6 or max(map(len, names)) > 10
        style = {"rotation": 30, "ha": "right"} if tilted else {}
        axes.set_xticks(place.to_numpy(), [plain_axes(value) for value in place.index], **style)
        axes.xaxis.set_minor_locator(NullLocator())
    xlabel = plain_axes(x, 40) + (", log scale" if log else "")
    axes.set(title=f"Validation {title}", xlabel=xlabel, ylabel=axis)
    return _with_legend(figure, [by] if by else [])


def _with_legend(figure: Figure, parameters: Sequence[str]) -> Figure:
    title = ",\n".join(plain_axes(name, 40) for name in parameters)
    figure.legend(loc="outside right upper", fontsize="small", title=title or None, title_fontsize="small")
    return finish(figure)


def score_against_cost(summary: pd.DataFrame, score: str | None = None) -> Figure:
    """Draw what a run takes against what it gets, a mark for each configuration.

    Bars show one standard deviation over the seeds. Only the best twelve configurations have a name.

    Args:
        summary: the table of `utils.batch.leaderboard.compare_runs`.
        score: of the validation split; None means f1_macro, or pearson where there is no f1_macro.
    """
    score = score or deciding_score(summary)
    title, axis = SCORE_WORDS.get(score, (score, f"{score} (0 to 1)"))
    column = f"validation_{score}"
    names = list(summary.columns[: list(summary.columns).index("best")])
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for k, (_, row) in enumerate(summary[summary[f"{column}_mean"].notna()].iterrows()):
        settings = ", ".join(short_value(row[name]) for name in names) or "all runs"
        style = {"fmt": ".", "color": "0.6"}
        if k < 12:
            label = plain_axes(settings + (" (best)" if row["best"] else ""), 40)
            style = {"fmt": "os^D"[k % 4], "color": COLOURS[k % len(COLOURS)], "label": label}
        point = (row["seconds_mean"], row[f"{column}_mean"])
        axes.errorbar(*point, row[f"{column}_std"], row["seconds_std"], capsize=3, **style)
    axes.set(title=f"Validation {title} against cost", xlabel="seconds a run", ylabel=axis)
    axes.set_xlim(0, 1.02 * axes.get_xlim()[1])  # or a tenth of a second would look like much
    return _with_legend(figure, names)
