"""The control of 06_batch_runs: some runs of a sweep side by side."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils import read_json, unquote_formula
from utils.batch.figures import deciding_score, settings_in_words
from utils.batch.leaderboard import predictions_of, task_of, varied
from utils.batch.plan import SCORE_COLUMNS
from utils.lessons.controls import Picture, control
from utils.plots import draw_confusion, draw_losses, finish, loss_name, plain_axes
from utils.reading.checkpoints import saved_checkpoints

MOST_RUNS = 3  # side by side


class RunFiles(NamedTuple):
    """What a run folder holds of interest; empty where a file is missing, as in a failed run."""

    task: str
    history: list[dict]  # trainer.state.log_history
    labels: list[str]  # of the test rows, as in predictions.csv
    predicted: list[str]


def read_run(folder: str | Path) -> RunFiles:
    """Read the files of one run; a history that is not in metrics.json comes from the newest checkpoint."""
    folder = Path(folder)
    metrics = read_json(folder / "metrics.json")
    logs = [read_json(path / "trainer_state.json") for path in saved_checkpoints(folder / "checkpoints")]
    logs = [metrics.get("history"), *(log.get("log_history") for log in reversed(logs))]
    history = next(filter(None, logs), [])
    rows = predictions_of(folder).map(unquote_formula)
    return RunFiles(task_of(metrics), history, rows["label"].tolist(), rows["predicted"].tolist())


def run_names(leaderboard: pd.DataFrame) -> dict[str, str]:
    """Return a readable name for each run_id: the parameters in which the runs differ."""
    runs = leaderboard.set_index("run_id")[varied(leaderboard)].to_dict("index")
    return {run: settings_in_words(settings) or run for run, settings in runs.items()}


def run_explorer(
    leaderboard: pd.DataFrame, output_dir: str | Path, chosen: Sequence[str] | None = None
) -> ipywidgets.VBox:
    """Return a control that shows some runs of a sweep side by side: settings and scores, losses, confusions.

    Its attributes: `choice` (its `value` is a tuple of run_ids; the first three count), `table` (HTML),
    `curves` and `confusions` (PNG, empty without such data), `figures` (the two as matplotlib's, by name).

    Args:
        leaderboard: what `run_batch` returned, or leaderboard.csv; at least one run.
        output_dir: the folder of the batch.
        chosen: the run_ids chosen first; None means the best and the worst by validation score.

    Raises:
        ValueError: a run_id that is not in the leaderboard, or a leaderboard without runs.
    """
    if not len(leaderboard):
        raise ValueError("The leaderboard has no runs to compare.")
    names, folder = run_names(leaderboard), Path(output_dir)
    chosen = _best_and_worst(leaderboard) if chosen is None else chosen
    if unknown := [run for run in chosen if run not in names]:
        raise ValueError(f"There is no run {unknown[0]!r} in the leaderboard.")
    failed = set(leaderboard["run_id"][leaderboard["status"] == "failed"])
    options = [(name + " (failed)" * (run in failed), run) for run, name in names.items()]
    shown = {"description": "runs", "rows": min(9, len(options))}
    choice = ipywidgets.SelectMultiple(options=options, value=tuple(chosen), **shown)

    def redraw(box: ipywidgets.VBox) -> None:
        runs = box.choice.value[:MOST_RUNS]
        files = {names[run]: read_run(folder / run) for run in runs}
        histories = {name: run.history for name, run in files.items() if run.history}
        classified = {name: run for name, run in files.items() if run.task == "single_label" and run.labels}
        box.figures = {}
        if histories:
            box.figures["curves"] = curves_side_by_side(histories)
        if classified:
            answers = {name: (run.labels, run.predicted) for name, run in classified.items()}
            box.figures["confusions"] = confusions_side_by_side(answers)
        for name in ("curves", "confusions"):
            getattr(box, name).show(box.figures.get(name))
        box.table.value = _table(leaderboard, runs, len(box.choice.value) - len(runs))

    outputs = {"table": ipywidgets.HTML(), "curves": Picture(), "confusions": Picture()}
    return control({"choice": choice}, outputs, redraw, width="640px")


def _best_and_worst(leaderboard: pd.DataFrame) -> list[str]:
    scores, column = leaderboard.set_index("run_id"), f"validation_{deciding_score(leaderboard)}"
    if column in scores:
        scores = scores.dropna(subset=column).sort_values(column, ascending=False)
    return list(dict.fromkeys([*scores.index[:1], *scores.index[-1:]]))


def _table(leaderboard: pd.DataFrame, runs: Sequence[str], left_out: int) -> str:
    """Return a row for each setting that differs and for each score, a column for each run, as HTML."""
    if not runs:
        return f"<p>Choose up to {MOST_RUNS} runs.</p>"
    rows = leaderboard.set_index("run_id").loc[list(runs)]
    columns = varied(rows.reset_index() if len(rows) > 1 else leaderboard)
    columns += [*(column for column in SCORE_COLUMNS if column in rows), "seconds"]
    columns += ["error"] if (rows["status"] == "failed").any() else []
    html = ""
    for column in columns:
        cells = "".join(f"<td>{escape(_cell(value))}</td>" for value in rows[column])
        html += f"<tr><th style='text-align:left'>{escape(column)}</th>{cells}</tr>"
    note = f"<p>{left_out} more are chosen; the first {MOST_RUNS} are shown.</p>" if left_out else ""
    return f"<table><tbody>{html}</tbody></table>{note}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def curves_side_by_side(histories: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Draw training and validation loss by epoch, a panel for each run, on the same axes.

    The losses' axis is logarithmic where one run is ten times above the others. `histories` maps the name of
    a run -> its `trainer.state.log_history`. A loss of None or nan leaves a gap.
    """
    number = len(histories)
    options = {"figsize": (1 + 3.2 * number, 3.4), "sharex": True, "sharey": True, "layout": "constrained"}
    figure, panels = plt.subplots(1, number, squeeze=False, **options)
    for axes, (name, history) in zip(panels[0], histories.items(), strict=True):
        draw_losses(axes, history)
        axes.set_title(_run_title(name), fontsize="medium")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0)  # shared; whole epochs are then marked in a run of one epoch, too
    losses = [np.concatenate([line.get_ydata() for line in axes.lines]) for axes in panels[0]]
    highest = [values[np.isfinite(values)].max() for values in losses if np.isfinite(values).any()]
    log = len(highest) > 1 and max(highest) > 10 * min(highest)
    axes.set_yscale("log" if log else "linear")
    name = loss_name([entry for history in histories.values() for entry in history])
    panels[0][0].set_ylabel(name + (", log scale" if log else ""))
    panels[0][0].legend()
    return finish(figure)


def _run_title(name: str) -> str:
    return "\n".join(plain_axes(part, 34) for part in name.split(", "))


def confusions_side_by_side(
    answers: Mapping[str, tuple[Sequence, Sequence]], names: Sequence | None = None
) -> Figure:
    """Draw the confusion matrices of some runs, with the same labels in the same places and the same shades.

    Args:
        answers: name of a run -> (labels, predicted), each a list of label names, one a row.
        names: the labels in the order in which they are drawn; None means sorted.
    """
    labels = {label for columns in answers.values() for column in columns for label in column}
    names = list(names or sorted(labels))
    code = {name: k for k, name in enumerate(names)}
    side, lines = min(7, 2.4 + 0.45 * len(names)), max(_run_title(name).count("\n") for name in answers)
    words = 0.09 * min(24, max(len(str(name)) for name in names))  # the room that labels take, in inches
    size = (1.2 + words + side * len(answers), side + 0.2 * lines + 0.5 * words)
    options = {"figsize": size, "sharey": True, "layout": "compressed", "squeeze": False}
    figure, panels = plt.subplots(1, len(answers), **options)
    for axes, (name, columns) in zip(panels[0], answers.items(), strict=True):
        labels, predicted = ([code[label] for label in column] for column in columns)
        image = draw_confusion(axes, labels, predicted, names)
        axes.set_title(_run_title(name), fontsize="medium")
        axes.set_xlabel("predicted label")
    panels[0][0].set_ylabel("true label")
    figure.colorbar(image, ax=panels[0], label="share of the true label's rows", shrink=0.8)
    return finish(figure)
