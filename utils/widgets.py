"""Every interactive control of the notebooks: ipywidgets, in the API common to 7.7.1 (Colab) and 8 (JupyterLab). The figures are those of utils.plots."""

import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from transformers import get_scheduler

from utils import plots
from utils.checks import CATALOGUE
from utils.leaderboard import read_run, run_names, varied
from utils.plots import GREEN, ORANGE, SKY, VERMILION
from utils.runs import SCORE_COLUMNS

# --- what a tokenizer makes of a text ---------------------------------------------------------------------------------

TEXT_LIMIT = 1000  # characters; what is longer is cut, so that typing stays fast
TOKEN_LIMIT = 512
CHIP = "display:inline-block;margin:2px;padding:1px 6px;border-radius:4px;text-align:center;color:#000;background:{colour}"
KINDS = {"special": ORANGE, "word": SKY, "piece of a word": GREEN, "unknown": VERMILION}


def token_kinds(tokenizer, text: str) -> list[tuple[str, int, str]]:
    """Return what a tokenizer makes of a text: one (piece, id, kind) a token, special tokens included.

    Args:
        tokenizer: of any checkpoint. "piece of a word" is told by the ## of WordPiece; other vocabularies mark the starts of words instead, and
            there every token that is neither special nor unknown counts as "word".
        text: cut after 1,000 characters and 512 tokens.

    Returns:
        kind is "special", "word", "piece of a word" or "unknown".
    """
    text = text[:TEXT_LIMIT].encode("utf-8", "replace").decode()  # half of an emoji is no text, and the tokenizer refuses it
    ids = tokenizer(text, truncation=True, max_length=TOKEN_LIMIT)["input_ids"]
    special = set(tokenizer.all_special_ids)  # a property that is worked out at every look
    rows = []
    for piece, i in zip(tokenizer.convert_ids_to_tokens(ids), ids, strict=True):
        if i == tokenizer.unk_token_id:
            kind = "unknown"
        elif i in special:
            kind = "special"
        else:
            kind = "piece of a word" if piece.startswith("##") else "word"
        rows.append((piece, i, kind))
    return rows


def tokens_html(tokenizer, text: str) -> str:
    """Return the tokens of a text as HTML: a summary, a legend, and a coloured chip with piece and id for each token. Everything is escaped."""
    rows = token_kinds(tokenizer, text)
    unknown = sum(kind == "unknown" for _, _, kind in rows)
    words = len(text[:TEXT_LIMIT].split())
    summary = f"{words} words, {len(rows)} tokens with the special ones, {unknown} unknown"
    if len(text) > TEXT_LIMIT:
        summary += f"; only the first {TEXT_LIMIT:,} characters are shown"
    if len(rows) == TOKEN_LIMIT:
        summary += f"; cut at {TOKEN_LIMIT} tokens"
    legend = " ".join(f'<span style="{CHIP.format(colour=colour)}">{kind}</span>' for kind, colour in KINDS.items())
    chips = "".join(f'<span style="{CHIP.format(colour=KINDS[kind])}">{escape(piece)}<br><small>{i}</small></span>' for piece, i, kind in rows)
    return f"<p>{summary}</p><p><small>{legend}</small></p><div>{chips}</div>"


def token_explorer(tokenizer, text: str = "Type something!") -> ipywidgets.VBox:
    """Return a text field and, below it, what the tokenizer makes of the text: pieces, ids and unknowns, at every key stroke.

    Args:
        tokenizer: of any checkpoint.
        text: what stands in the field at first.

    Returns:
        A box whose children are the field (`Text`, its `value` is the text) and the result (`HTML`, its `value` is escaped HTML).
    """
    field = ipywidgets.Text(value=text, description="text", layout=ipywidgets.Layout(width="95%"))
    shown = ipywidgets.HTML(value=tokens_html(tokenizer, text))

    def update(change):
        shown.value = tokens_html(tokenizer, change["new"])

    field.observe(update, names="value")
    return ipywidgets.VBox([field, shown])


# --- how long texts may be --------------------------------------------------------------------------------------------


class Picture(ipywidgets.Image):
    """A figure as a PNG, for a control to redraw. It needs no front-end extension, so it is the same in Colab and in JupyterLab.

    Axes, ticks and names are rendered once; `redraw` renders only the artists marked as animated on top of them, in a hundredth of a second.
    """

    def __init__(self, figure: Figure, dpi: int = 80):
        super().__init__(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self._figure = figure
        figure.set_dpi(dpi)
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()  # all but the animated artists
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        self.redraw()

    def redraw(self) -> None:
        self._canvas.restore_region(self._background)
        for axes in self._figure.axes:
            for artist in sorted(axes.findobj(lambda artist: artist.get_animated()), key=lambda artist: artist.get_zorder()):
                axes.draw_artist(artist)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).save(buffer, format="png")
        self.value = buffer.getvalue()


def length_numbers(lengths: Sequence[int], max_length: int, batch_size: int) -> dict[str, Any]:
    """Return what a cut at `max_length` loses and what padding costs in batches of `batch_size`.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        max_length: in tokens.
        batch_size: in texts.

    Returns:
        `max_length` and `batch_size` as given; `truncated`: share of the texts that are cut; `real_tokens_per_text`: mean after the cut; and by
        way of padding ("max_length": all texts to that; "longest in batch": dynamic padding in random order; "grouped": the same, sorted by length
        first) `tokens_per_text`: what the model computes; `padding`: share of that; `cost`: the same relative to padding everything to `max_length`.

    Raises:
        ValueError: no lengths, or a length, max_length or batch_size below 1.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if lengths.size == 0 or lengths.min() < 1 or max_length < 1 or batch_size < 1:
        raise ValueError("There must be at least one length, and lengths, max_length and batch_size must be 1 or more.")
    cut = np.minimum(lengths, max_length)
    shuffled = np.random.RandomState(0).permutation(cut)
    tokens = {"max_length": cut.size * max_length, "longest in batch": _computed(shuffled, batch_size), "grouped": _computed(np.sort(cut), batch_size)}
    return {
        "max_length": max_length,
        "batch_size": batch_size,
        "truncated": float(np.mean(lengths > max_length)),
        "real_tokens_per_text": float(cut.mean()),
        "tokens_per_text": {way: number / cut.size for way, number in tokens.items()},
        "padding": {way: 1 - float(cut.sum()) / number for way, number in tokens.items()},
        "cost": {way: number / tokens["max_length"] for way, number in tokens.items()},
    }


def _computed(lengths: np.ndarray, batch_size: int) -> int:
    """Return how many tokens the model works through if each batch, in the order given, is padded to its longest text."""
    starts = np.arange(0, lengths.size, batch_size)
    rows = np.diff(np.append(starts, lengths.size))
    return int((rows * np.maximum.reduceat(lengths, starts)).sum())


def length_explorer(lengths: Sequence[int], max_length: int = 128, batch_size: int = 16) -> ipywidgets.VBox:
    """Show two sliders, max_length and batch size, above what they cost: texts cut, share of padding, relative cost, and a figure.

    The box has the sliders as `max_length` and `batch_size`, the picture as `image` and what `length_numbers` returned last as `numbers`, so that
    it can be driven from Python: `box.max_length.value = 32`.

    Args:
        lengths: tokens of each text, special ones included, before any cut.
        max_length: where its slider starts, in tokens.
        batch_size: where its slider starts, in texts; 1 to 128.

    Raises:
        ValueError: as in `length_numbers`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    numbers = length_numbers(lengths, max_length, batch_size)
    wide = {"style": {"description_width": "90px"}, "layout": ipywidgets.Layout(width="480px")}
    box = ipywidgets.VBox()
    box.max_length = ipywidgets.IntSlider(max_length, min(3, max_length), max(int(lengths.max()), max_length), description="max_length", **wide)
    box.batch_size = ipywidgets.IntSlider(batch_size, 1, max(128, batch_size), description="batch size", **wide)
    figure = plots.length_costs(lengths, numbers)  # one figure for the explorer's life
    box.words, box.image = ipywidgets.HTML(), Picture(figure)

    def redraw(change=None):
        box.numbers = numbers = length_numbers(lengths, box.max_length.value, box.batch_size.value)
        box.words.value = (
            f"{numbers['truncated']:.1%} of the texts are cut. Of what the model computes, {numbers['padding']['longest in batch']:.0%} is padding, "
            f"at {numbers['cost']['longest in batch']:.2f} of the cost of padding everything to max_length; "
            f"grouped by length {numbers['padding']['grouped']:.0%}, at {numbers['cost']['grouped']:.2f}."
        )
        plots.length_costs(lengths, numbers, figure)
        box.image.redraw()

    for slider in (box.max_length, box.batch_size):
        slider.observe(redraw, "value")
    redraw()
    box.children = (box.max_length, box.batch_size, box.words, box.image)
    return box


# --- which learning rate each step has --------------------------------------------------------------------------------

# Those of transformers that need no arguments of their own and follow the steps only, not the score.
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "constant_with_warmup", "constant")


class Plan(NamedTuple):
    """How a training run on one device divides its rows; steps are optimizer steps."""

    batches: int  # in an epoch
    steps_per_epoch: int
    steps: int  # in the whole run
    warmup_steps: int
    effective_batch_size: int  # rows in a full step


def training_plan(rows: int, epochs: float, batch_size: int, accumulation: int = 1, warmup: float = 0) -> Plan:
    """Count steps as Trainer does: a smaller last batch counts, and so does a smaller last group of batches in an epoch.

    Args:
        warmup: what TrainingArguments calls warmup_steps: a number of steps, or a share of them below 1.

    Raises:
        ValueError: a number that no run can have.
    """
    if min(rows, batch_size, accumulation) < 1 or epochs <= 0 or warmup < 0:
        raise ValueError("rows, batch_size and accumulation must be 1 or more, epochs above 0, warmup 0 or more")
    batches = math.ceil(rows / batch_size)
    steps_per_epoch = math.ceil(batches / accumulation)
    steps = math.ceil(epochs * steps_per_epoch)
    warmup_steps = int(warmup) if warmup >= 1 else math.ceil(steps * warmup)
    return Plan(batches, steps_per_epoch, steps, warmup_steps, batch_size * accumulation)


def learning_rates(schedule: str, learning_rate: float, steps: int, warmup_steps: int = 0, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps, rates): the learning rate that each optimizer step uses, from transformers' own scheduler.

    Args:
        schedule: one of `SCHEDULES`.
        points: at most so many steps, spread evenly, the first and the last among them; steps count from 1.

    Raises:
        ValueError: a schedule that is not one of `SCHEDULES`.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    factor = get_scheduler(schedule, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps).lr_lambdas[0]
    # A long run would take seconds step by step; its factor can be asked for any step.
    done = np.unique(np.linspace(0, steps - 1, min(points, steps)).round().astype(int))
    return done + 1, np.array([learning_rate * factor(int(step)) for step in done])


class ScheduleExplorer(ipywidgets.VBox):
    """The control that `schedule_explorer` makes.

    Read: `plan` (a Plan), `curve` (steps, rates), `numbers.value` (HTML), `picture.value` (PNG bytes).
    Set: `inputs[name].value`, name being one of rows, epochs, batch_size, accumulation, learning_rate, warmup, schedule.
    """

    def __init__(self, values: dict):
        style, layout = {"description_width": "110px"}, ipywidgets.Layout(width="340px")

        def choice(name: str, options: Sequence[int]):
            return ipywidgets.SelectionSlider(options=sorted({*options, values[name]}), value=values[name])

        self.inputs = {
            "rows": ipywidgets.BoundedIntText(value=values["rows"], min=1, max=100_000_000),
            "epochs": ipywidgets.BoundedFloatText(value=values["epochs"], min=0.01, max=1000, step=0.5),
            "batch_size": choice("batch_size", [2**k for k in range(9)]),
            "accumulation": choice("accumulation", [2**k for k in range(6)]),
            "learning_rate": ipywidgets.FloatLogSlider(value=values["learning_rate"], base=10, min=-6, max=-2, step=0.1, readout_format=".1e"),
            "warmup": ipywidgets.BoundedFloatText(value=values["warmup"], min=0, max=100_000_000, step=0.05),
            "schedule": ipywidgets.Dropdown(options=SCHEDULES, value=values["schedule"]),
        }
        for name, control in self.inputs.items():
            control.description, control.style, control.layout = name.replace("_", " "), style, layout
            control.observe(self._redraw, names="value")
        self.numbers = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", width=700, height=320)
        # One figure for the life of the control, outside pyplot: a new one each time would be slow and pile up.
        figure = Figure(figsize=(7, 3.2), dpi=100)
        self._canvas, self._axes = FigureCanvasAgg(figure), figure.add_axes((0.1, 0.16, 0.87, 0.72))
        self._redraw()
        boxes = list(self.inputs.values())
        super().__init__([ipywidgets.HBox([ipywidgets.VBox(boxes[:4]), ipywidgets.VBox(boxes[4:])]), self.numbers, self.picture])

    def _redraw(self, change=None) -> None:
        value = {name: control.value for name, control in self.inputs.items()}
        self.plan = training_plan(value["rows"], value["epochs"], value["batch_size"], value["accumulation"], value["warmup"])
        self.curve = learning_rates(value["schedule"], value["learning_rate"], self.plan.steps, self.plan.warmup_steps)
        self.numbers.value = (  # numbers only, nothing that somebody typed
            f"{self.plan.batches:,} batches and {self.plan.steps_per_epoch:,} steps an epoch, <b>{self.plan.steps:,} steps</b> in all, "
            f"{self.plan.warmup_steps:,} of them warmup; {self.plan.effective_batch_size:,} rows a step; highest rate {self.curve[1].max():.2g}"
        )
        plots.learning_rates({value["schedule"]: self.curve}, "Learning rate", self.plan.steps_per_epoch, self._axes)
        png = io.BytesIO()
        self._canvas.print_png(png, pil_kwargs={"compress_level": 1})
        self.picture.value = png.getvalue()


def schedule_explorer(
    rows: int = 1000,
    epochs: float = 3,
    batch_size: int = 16,
    accumulation: int = 1,
    learning_rate: float = 5e-5,
    warmup: float = 0.1,
    schedule: str = "linear",
) -> ScheduleExplorer:
    """Return a control that shows how many steps a run takes and which learning rate each of them has.

    Args:
        warmup: what TrainingArguments calls warmup_steps: a number of steps, or a share of them below 1.
        schedule: one of `SCHEDULES`.

    Raises:
        ValueError: a number that no run can have, or a schedule that is not one of `SCHEDULES`.
    """
    plan = training_plan(rows, epochs, batch_size, accumulation, warmup)
    learning_rates(schedule, learning_rate, plan.steps, plan.warmup_steps)  # refuses an unknown schedule
    return ScheduleExplorer(
        {
            "rows": rows,
            "epochs": epochs,
            "batch_size": batch_size,
            "accumulation": accumulation,
            "learning_rate": learning_rate,
            "warmup": warmup,
            "schedule": schedule,
        }
    )


# --- which mistake shows itself how -----------------------------------------------------------------------------------

STAGES = {
    "R": "when the table is read, by read_table",
    "P": "before training, by preflight",
    "W": "while it trains, by Watch",
    "S": "after saving, by check_saved",
    "C": "by the library itself, when the object is built",
    "A": "nowhere: it is avoided by how the notebooks are written",
}


def pitfall_html(id: str) -> str:
    """Return what the catalogue knows of one mistake, as HTML: level, whether anything is raised, symptom, where it is found, fix. All is escaped."""
    entry = CATALOGUE[id]
    voice = "raises an error, with a message that misleads" if entry.loud else "says nothing"
    rows = {"symptom": entry.symptom, "the library": voice, "found": "; ".join(STAGES[stage] for stage in entry.stages), "fix": entry.fix}
    cells = "".join(f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(text)}</td></tr>" for name, text in rows.items())
    return f"<p><b>{escape(entry.id)}</b> ({escape(entry.level)})</p><table><tbody>{cells}</tbody></table>"


def pitfall_explorer(id: str = "lr-too-high") -> ipywidgets.VBox:
    """Return a list of all known mistakes and, below it, the symptom and the fix of the chosen one. The table of the same: `utils.preflight.catalogue()`.

    Args:
        id: the mistake that is shown first.

    Returns:
        A box whose children are the list (`Dropdown`, its `value` is an id) and the text (`HTML`, its `value` is escaped HTML).

    Raises:
        ValueError: an id that is not in the catalogue.
    """
    if id not in CATALOGUE:
        raise ValueError(f"There is no mistake called {id!r}. The known ones: {', '.join(sorted(CATALOGUE))}.")
    field = ipywidgets.Dropdown(options=sorted(CATALOGUE), value=id, description="mistake", layout=ipywidgets.Layout(width="340px"))
    shown = ipywidgets.HTML(value=pitfall_html(id))

    def update(change):
        shown.value = pitfall_html(change["new"])

    field.observe(update, names="value")
    return ipywidgets.VBox([field, shown])


# --- which run does what ----------------------------------------------------------------------------------------------

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

    def __init__(self, leaderboard: pd.DataFrame, output_dir: str | Path, chosen: Sequence[str] | None = None):
        if not len(leaderboard):
            raise ValueError("The leaderboard has no runs to compare.")
        self._runs, self._folder, self._names = leaderboard.set_index("run_id"), Path(output_dir), run_names(leaderboard)
        if chosen is None:
            column = f"validation_{plots.deciding_score(leaderboard)}"
            ranked = self._runs[column].dropna().sort_values(ascending=False).index if column in leaderboard else self._runs.index
            chosen = dict.fromkeys([*ranked[:1], *ranked[-1:]])
        if unknown := [run for run in chosen if run not in self._names]:
            raise ValueError(f"There is no run {unknown[0]!r} in the leaderboard.")
        options = [(name + (" (failed)" if self._runs.loc[run, "status"] == "failed" else ""), run) for run, name in self._names.items()]
        wide = ipywidgets.Layout(width="640px")
        self.choice = ipywidgets.SelectMultiple(options=options, value=tuple(chosen), rows=min(9, len(options)), description="runs", layout=wide)
        self.table = ipywidgets.HTML()
        self.curves, self.confusions = (ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", align_self="flex-start")) for _ in range(2))
        self._redraw()
        self.choice.observe(self._redraw, names="value")
        super().__init__([self.choice, self.table, self.curves, self.confusions])

    def _redraw(self, change=None) -> None:
        shown = self.choice.value[:RUNS_SHOWN]
        files = {self._names[run]: read_run(self._folder / run) for run in shown}
        histories = {name: run.history for name, run in files.items() if run.history}
        answers = {name: (run.labels, run.predicted) for name, run in files.items() if run.task == "single_label" and run.labels}
        self.figures = {}
        if histories:
            self.figures["curves"] = plots.curves_side_by_side(histories)
        if answers:
            self.figures["confusions"] = plots.confusions_side_by_side(answers)
        for name, image in (("curves", self.curves), ("confusions", self.confusions)):
            png = io.BytesIO()
            if name in self.figures:
                self.figures[name].savefig(png, format="png", dpi=80)
            image.value = png.getvalue()
            image.layout.display = None if name in self.figures else "none"  # an empty picture would be shown as a broken one
        self.table.value = self._table(shown)

    def _table(self, shown: Sequence[str]) -> str:
        if not shown:
            return f"<p>Choose up to {RUNS_SHOWN} runs.</p>"
        rows = self._runs.loc[list(shown)]
        differing = varied((rows if len(rows) > 1 else self._runs).reset_index())
        columns = [*differing, *(column for column in SCORE_COLUMNS if column in rows), "seconds", "error"]
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(column)}</th>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in rows[column]) + "</tr>"
            for column in columns
            if column != "error" or (rows["status"] == "failed").any()
        )
        left_out = len(self.choice.value) - len(shown)
        return f"<table><tbody>{cells}</tbody></table>" + (f"<p>{left_out} more are chosen; the first {RUNS_SHOWN} are shown.</p>" if left_out else "")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)
