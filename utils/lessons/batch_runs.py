"""The control of 06_batch_runs."""

import io
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

RUNS_SHOWN = 3


class RunComparison(ipywidgets.VBox):
    """A list of the runs of a sweep and, below it, the chosen ones side by side: parameters that differ and scores, losses, confusion matrices.

    Set: `choice.value`, a tuple of run_ids (in the browser: Ctrl and click); beyond three only the first three are shown.
    Read: `table.value` (escaped HTML), `curves.value` and `confusions.value` (PNG bytes, empty where no chosen run has such data), `figures`
    (the matplotlib figures of the two, by these names).

    Args:
        leaderboard: what `run_batch` returned, or leaderboard.csv; at least one run.
        output_dir: the folder of the batch.
        chosen: the run_ids shown first; None means the best and the worst by validation score.

    Raises:
        ValueError: a run_id that is not in the leaderboard, or a leaderboard without runs.
    """

    def __init__(
        self, leaderboard: pd.DataFrame, output_dir: str | Path, chosen: Sequence[str] | None = None
    ):
        if not len(leaderboard):
            raise ValueError("The leaderboard has no runs to compare.")
        self._runs, self._folder, self._names = (
            leaderboard.set_index("run_id"),
            Path(output_dir),
            run_names(leaderboard),
        )
        if chosen is None:
            column = f"validation_{deciding_score(leaderboard)}"
            ranked = (
                self._runs[column].dropna().sort_values(ascending=False).index
                if column in leaderboard
                else self._runs.index
            )
            chosen = dict.fromkeys([*ranked[:1], *ranked[-1:]])
        if unknown := [run for run in chosen if run not in self._names]:
            raise ValueError(f"There is no run {unknown[0]!r} in the leaderboard.")
        options = [
            (name + (" (failed)" if self._runs.loc[run, "status"] == "failed" else ""), run)
            for run, name in self._names.items()
        ]
        wide = ipywidgets.Layout(width="640px")
        self.choice = ipywidgets.SelectMultiple(
            options=options, value=tuple(chosen), rows=min(9, len(options)), description="runs", layout=wide
        )
        self.table = ipywidgets.HTML()
        self.curves, self.confusions = (
            ipywidgets.Image(
                format="png", layout=ipywidgets.Layout(max_width="100%", align_self="flex-start")
            )
            for _ in range(2)
        )
        self._redraw()
        self.choice.observe(self._redraw, names="value")
        super().__init__([self.choice, self.table, self.curves, self.confusions])

    def _redraw(self, change=None) -> None:
        shown = self.choice.value[:RUNS_SHOWN]
        files = {self._names[run]: read_run(self._folder / run) for run in shown}
        histories = {name: run.history for name, run in files.items() if run.history}
        answers = {
            name: (run.labels, run.predicted)
            for name, run in files.items()
            if run.task == "single_label" and run.labels
        }
        self.figures = {}
        if histories:
            self.figures["curves"] = curves_side_by_side(histories)
        if answers:
            self.figures["confusions"] = confusions_side_by_side(answers)
        for name, image in (("curves", self.curves), ("confusions", self.confusions)):
            png = io.BytesIO()
            if name in self.figures:
                self.figures[name].savefig(png, format="png", dpi=80)
            image.value = png.getvalue()
            image.layout.display = (
                None if name in self.figures else "none"
            )  # an empty picture would be shown as a broken one
        self.table.value = self._table(shown)

    def _table(self, shown: Sequence[str]) -> str:
        if not shown:
            return f"<p>Choose up to {RUNS_SHOWN} runs.</p>"
        rows = self._runs.loc[list(shown)]
        differing = varied((rows if len(rows) > 1 else self._runs).reset_index())
        columns = [*differing, *(column for column in SCORE_COLUMNS if column in rows), "seconds", "error"]
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(column)}</th>"
            + "".join(f"<td>{escape(_cell(value))}</td>" for value in rows[column])
            + "</tr>"
            for column in columns
            if column != "error" or (rows["status"] == "failed").any()
        )
        left_out = len(self.choice.value) - len(shown)
        return f"<table><tbody>{cells}</tbody></table>" + (
            f"<p>{left_out} more are chosen; the first {RUNS_SHOWN} are shown.</p>" if left_out else ""
        )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)
