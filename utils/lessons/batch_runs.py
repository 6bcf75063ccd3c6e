"""The control of 06_batch_runs."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd

from utils.batch.figures import confusions_side_by_side, curves_side_by_side, deciding_score
from utils.batch.leaderboard import read_run, run_names, varied
from utils.batch.plan import SCORE_COLUMNS
from utils.lessons.controls import Picture, control

MOST_RUNS = 3  # side by side


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
    choice = ipywidgets.SelectMultiple(
        options=options, value=tuple(chosen), description="runs", rows=min(9, len(options))
    )

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
