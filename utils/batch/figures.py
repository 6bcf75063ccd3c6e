"""The figures of many runs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from utils.plots import COLOURS, VERMILION, draw_confusion, draw_losses, finish, loss_name, plain_axes


def short_value(value) -> str:
    """Return a parameter's value as text; nan is what None becomes in a column of numbers."""
    return "None" if value is None or value != value else str(value)


def settings_in_words(parameters: Mapping) -> str:
    """Return parameters as a name for people: "learning_rate 5e-05, seed 1"."""
    return ", ".join(f"{name} {short_value(value)}" for name, value in parameters.items())


def deciding_score(table) -> str:
    """Return the score that chooses among runs where none is named: f1_macro, or pearson where a leaderboard or its summary has no f1_macro."""
    return (
        "f1_macro" if {"validation_f1_macro", "validation_f1_macro_mean"} & set(table.columns) else "pearson"
    )


def sweep_scores(leaderboard, x: str, score: str | None = None, by: str | None = None) -> Figure:
    """Draw the validation scores of a sweep along one parameter: a ring for each run, a mark at their mean, and a bar of one standard deviation each way.

    Runs without a score stand at the lower edge: those that failed, and with a mark of their own those that `Watch` stopped because they diverged.

    Args:
        leaderboard: a leaderboard.
        x: the parameter. Its axis is logarithmic where the values are positive and span a factor of ten or more.
        score: None means f1_macro, or pearson where there is no f1_macro.
        by: a second parameter, told apart by colour and mark; None puts all runs with the same x together, whatever else differs.
    """
    score = score or deciding_score(leaderboard)
    at_x, of_group = (
        leaderboard[x].map(short_value),
        leaderboard[by].map(short_value) if by else leaderboard["run_id"].map(lambda run: "mean ± std"),
    )
    place = {value: _number(value) for value in dict.fromkeys(at_x)}
    numeric = bool(np.isfinite(list(place.values())).all())
    place = (
        dict(sorted(place.items(), key=lambda pair: pair[1]))
        if numeric
        else {value: float(k) for k, value in enumerate(place)}
    )
    low, high = min(place.values()), max(place.values())
    log = numeric and low > 0 and high >= 10 * low
    groups = list(dict.fromkeys(of_group))
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    lost = {}  # (kind, place) -> runs
    for k, group in enumerate(groups):
        colour, shift = (
            COLOURS[k % len(COLOURS)],
            0.02 * (k - (len(groups) - 1) / 2),
        )  # side by side, or bars would hide each other
        means = []
        for value, middle in place.items():
            at = middle * (high / low) ** shift if log else middle + shift * ((high - low) or 1)
            runs = leaderboard[(of_group == group) & (at_x == value)]
            scores = runs[f"validation_{score}"].dropna().to_numpy(dtype=float)
            if len(scores):
                axes.plot(
                    [at] * len(scores), scores, "o", color=colour, markersize=8, fillstyle="none", gid="runs"
                )
                means.append(
                    (at, scores.mean(), scores.std(ddof=1) if len(scores) > 1 else np.nan)
                )  # nan: no bar
            for error in runs["error"][runs[f"validation_{score}"].isna()]:
                kind = "diverged" if str(error).startswith("WatchError") else "failed"
                lost[kind, middle] = lost.get((kind, middle), 0) + 1
        if means:
            style = "os^D"[k % 4] + (("-", "--", "-.")[k % 3] if numeric else "")
            axes.errorbar(
                *zip(*means, strict=True),
                fmt=style,
                color=colour,
                markersize=5,
                capsize=4,
                linewidth=1.2,
                label=plain_axes(group),
            )
    axes.plot([], [], "o", color="0.4", markersize=8, fillstyle="none", label="one run")
    if lost:
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.19 * (top - bottom), top)
        axes.axhspan(
            axes.get_ylim()[0], bottom, color="0.92", zorder=0
        )  # 0.16 of the height, for runs without a score
    for kind, y, marker, colour, label in (
        ("diverged", 0.115, "v", VERMILION, "diverged (stopped by Watch)"),
        ("failed", 0.045, "x", "black", "failed"),
    ):
        here = {at: runs for (which, at), runs in lost.items() if which == kind}
        if here:
            axes.plot(
                list(here),
                [y] * len(here),
                marker,
                color=colour,
                markersize=8,
                transform=axes.get_xaxis_transform(),
                label=label,
                gid=kind,
            )
        for at, runs in here.items():
            axes.annotate(
                f"×{runs}" if runs > 1 else "",
                (at, y),
                xytext=(6, -3),
                textcoords="offset points",
                xycoords=axes.get_xaxis_transform(),
                fontsize=8,
            )
    axes.margins(x=0.08)
    if log:
        axes.set_xscale("log")
    if len(place) <= 12:
        tilted = len(place) > 6 or max(map(len, place)) > 10
        axes.set_xticks(
            list(place.values()),
            [plain_axes(value) for value in place],
            rotation=30 if tilted else 0,
            ha="right" if tilted else "center",
        )
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set(
        title=f"Validation {_score_name(score)}",
        xlabel=plain_axes(x, 40) + (", log scale" if log else ""),
        ylabel=_score_axis(score),
    )
    figure.legend(
        loc="outside right upper",
        fontsize="small",
        title=plain_axes(by, 40) if by else None,
        title_fontsize="small",
    )
    return finish(figure)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _score_axis(score: str) -> str:
    return {"pearson": "correlation (−1 to 1)", "mae": "mean absolute error (unit of the labels)"}.get(
        score, f"{_score_name(score)} (0 to 1)"
    )


def _score_name(score: str) -> str:
    return {"f1_macro": "macro-F1", "pearson": "Pearson's r", "mae": "error"}.get(score, score)


def score_against_cost(summary, score: str | None = None) -> Figure:
    """Draw what a run takes against what it gets: one mark a configuration, with bars of one standard deviation over its seeds.

    Args:
        summary: the table of `utils.batch.leaderboard.compare_runs`. Beyond twelve configurations only the best twelve have a name.
        score: of the validation split; None means f1_macro, or pearson where there is no f1_macro.
    """
    score = score or deciding_score(summary)
    column = f"validation_{score}"
    names = list(summary.columns[: list(summary.columns).index("best")])
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for k, (_, row) in enumerate(summary[summary[f"{column}_mean"].notna()].iterrows()):
        label = plain_axes(
            (", ".join(short_value(row[name]) for name in names) or "all runs")
            + (" (best)" if row["best"] else ""),
            40,
        )
        axes.errorbar(
            row["seconds_mean"],
            row[f"{column}_mean"],
            row[f"{column}_std"],
            row["seconds_std"],
            fmt="os^D"[k % 4] if k < 12 else ".",
            color=COLOURS[k % len(COLOURS)] if k < 12 else "0.6",
            capsize=3,
            label=label if k < 12 else None,
        )
    axes.set(
        title=f"Validation {_score_name(score)} against cost",
        xlabel="seconds a run",
        ylabel=_score_axis(score),
    )
    axes.set_xlim(0, 1.02 * axes.get_xlim()[1])  # or a tenth of a second would look like much
    figure.legend(
        loc="outside right upper",
        fontsize="small",
        title=",\n".join(plain_axes(name, 40) for name in names),
        title_fontsize="small",
    )
    return finish(figure)


def curves_side_by_side(histories: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Draw training and validation loss by epoch, a panel for each run, on the same axes: a log scale where one run is ten times above the others.

    Args:
        histories: name of a run -> its `trainer.state.log_history`. A loss of None or nan leaves a gap.
    """
    figure, panels = plt.subplots(
        1,
        len(histories),
        figsize=(1 + 3.2 * len(histories), 3.4),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for axes, (name, history) in zip(panels[0], histories.items(), strict=True):
        draw_losses(axes, history)
        axes.set_title(_of_run(name), fontsize="medium")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0)  # shared; whole epochs are then marked in a run of one epoch, too
    highest = [
        max(values)
        for axes in panels[0]
        if (values := [y for line in axes.lines for y in line.get_ydata() if np.isfinite(y)])
    ]
    log = len(highest) > 1 and max(highest) > 10 * min(highest)
    if log:
        axes.set_yscale("log")
    panels[0][0].set_ylabel(
        loss_name([entry for history in histories.values() for entry in history])
        + (", log scale" if log else "")
    )
    panels[0][0].legend()
    return finish(figure)


def _of_run(name: str) -> str:
    return "\n".join(plain_axes(part, 34) for part in name.split(", "))


def confusions_side_by_side(
    answers: Mapping[str, tuple[Sequence, Sequence]], names: Sequence | None = None
) -> Figure:
    """Draw the confusion matrices of some runs, all with the same labels in the same places and the same shades.

    Args:
        answers: name of a run -> (labels, predicted), each a list of label names, one a row.
        names: the labels in the order in which they are drawn; None means sorted.
    """
    names = list(
        names or sorted({label for columns in answers.values() for column in columns for label in column})
    )
    code = {name: k for k, name in enumerate(names)}
    side, lines = min(7, 2.4 + 0.45 * len(names)), max(_of_run(name).count("\n") for name in answers)
    words = 0.09 * min(24, max(len(str(name)) for name in names))  # the room that labels take, in inches
    size = (1.2 + words + side * len(answers), side + 0.2 * lines + 0.5 * words)
    figure, panels = plt.subplots(
        1, len(answers), figsize=size, sharey=True, layout="compressed", squeeze=False
    )
    for axes, (name, columns) in zip(panels[0], answers.items(), strict=True):
        labels, predicted = ([code[label] for label in column] for column in columns)
        image = draw_confusion(axes, labels, predicted, names)
        axes.set_title(_of_run(name), fontsize="medium")
        axes.set_xlabel("predicted label")
    panels[0][0].set_ylabel("true label")
    figure.colorbar(image, ax=panels[0], label="share of the true label's rows", shrink=0.8)
    return finish(figure)
