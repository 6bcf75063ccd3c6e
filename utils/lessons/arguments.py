"""Figures and controls of 03_training_arguments."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from transformers import get_scheduler

from utils.plots import COLOURS, finish, plain_axes


def learning_rate_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    steps_per_epoch: int = 0,
    axes=None,
) -> Figure:
    """Draw learning rates by optimizer step; each curve is (steps, rates), and dotted lines mark the ends of epochs.

    Args:
        steps_per_epoch: 0 draws no ends of epochs; nor are they drawn where there are more than thirty.
        axes: what to draw on instead of a new figure; earlier curves are taken off it, so that a control can use one figure again and again.
    """
    if axes is None:
        axes = plt.subplots(figsize=(7, 3.2), layout="constrained")[1]
    for line in list(
        axes.lines
    ):  # axes.clear() would build all the ticks anew, a third of the time that drawing takes
        line.remove()
    for k, (name, (steps, rates)) in enumerate(curves.items()):
        marker = "o" if len(steps) <= 40 else ""
        axes.plot(
            steps,
            rates,
            ("-", "--", "-.")[k % 3],
            marker=marker,
            markersize=3,
            color=COLOURS[k % len(COLOURS)],
            label=plain_axes(name),
        )
    last, highest = (max(max(curve[k]) for curve in curves.values()) for k in (0, 1))
    if steps_per_epoch and last <= 30 * steps_per_epoch:
        ends = np.arange(steps_per_epoch, last + 1, steps_per_epoch) + 0.5
        # one line with gaps for all ends: its x is in steps, its y in heights of the axes
        x, y = np.repeat(ends, 3), np.tile([0, 1, np.nan], len(ends))
        axes.plot(
            x, y, ":", color="0.6", linewidth=1, transform=axes.get_xaxis_transform(), label="end of an epoch"
        )
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set(
        xlabel="optimizer step",
        ylabel="learning rate",
        xlim=(1 - 0.03 * last, 1 + 1.03 * last),
        ylim=(0, 1.22 * highest or 1),
    )
    axes.set_title(title, y=1.02)  # a fixed place is quicker than one that matplotlib looks for
    axes.legend(loc="upper right", fontsize="small", ncols=4)  # in the room above the highest rate
    return finish(axes.figure)


def run_events(events: Mapping[str, Sequence[int]], steps: int) -> Figure:
    """Draw at which optimizer steps a run of `steps` steps did what: one row of marks for each name in `events`."""
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.38 * len(events)), layout="constrained")
    for k, at in enumerate(events.values()):
        axes.plot(at, [k] * len(at), "os^D"[k % 4], color=COLOURS[k % len(COLOURS)], markersize=8)
        axes.axhline(k, color="0.85", linewidth=1, zorder=0)
    axes.set_yticks(range(len(events)), [plain_axes(name) for name in events])
    axes.set(
        title="When a run does what",
        xlabel="optimizer step",
        ylabel="event",
        xlim=(-0.5, steps + 0.5),
        ylim=(len(events) - 0.5, -0.5),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(figure)


def losses(curves: Mapping[str, Sequence[float]], coin: float, every: int = 1) -> Figure:
    """Draw training losses by optimizer step, one curve a name.

    Args:
        coin: the loss of a model that knows nothing, drawn as a dotted line.
        every: how many steps each value is the mean of; it is drawn at the last of them.
    """
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for k, (name, values) in enumerate(curves.items()):
        steps = every * np.arange(1, len(values) + 1)
        axes.plot(
            steps,
            values,
            "os^D"[k % 4] + "-",
            markersize=4,
            color=COLOURS[k % len(COLOURS)],
            label=plain_axes(name),
        )
    axes.axhline(coin, color="0.4", linestyle=":", label="knows nothing")
    axes.set(
        title="Training loss", xlabel="optimizer step", ylabel="cross-entropy (nats), log scale", yscale="log"
    )
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper", fontsize="small")
    return finish(figure)


# Those of transformers that need no arguments of their own and follow the steps only, not the score.
SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "constant_with_warmup",
    "constant",
)


class Plan(NamedTuple):
    """How a training run on one device divides its rows; steps are optimizer steps."""

    batches: int  # in an epoch
    steps_per_epoch: int
    steps: int  # in the whole run
    warmup_steps: int
    effective_batch_size: int  # rows in a full step


def training_plan(
    rows: int, epochs: float, batch_size: int, accumulation: int = 1, warmup: float = 0
) -> Plan:
    """Count steps as Trainer does: a smaller last batch counts, and so does a smaller last group of batches in an epoch.

    Args:
        warmup: what TrainingArguments calls warmup_steps: a number of steps, or a share of them below 1.

    Raises:
        ValueError: a number that no run can have.
    """
    if min(rows, batch_size, accumulation) < 1 or epochs <= 0 or warmup < 0:
        raise ValueError(
            "rows, batch_size and accumulation must be 1 or more, epochs above 0, warmup 0 or more"
        )
    batches = math.ceil(rows / batch_size)
    steps_per_epoch = math.ceil(batches / accumulation)
    steps = math.ceil(epochs * steps_per_epoch)
    warmup_steps = int(warmup) if warmup >= 1 else math.ceil(steps * warmup)
    return Plan(batches, steps_per_epoch, steps, warmup_steps, batch_size * accumulation)


def learning_rates(
    schedule: str, learning_rate: float, steps: int, warmup_steps: int = 0, points: int = 400
) -> tuple[np.ndarray, np.ndarray]:
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
    factor = get_scheduler(
        schedule, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps
    ).lr_lambdas[0]
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
            "learning_rate": ipywidgets.FloatLogSlider(
                value=values["learning_rate"], base=10, min=-6, max=-2, step=0.1, readout_format=".1e"
            ),
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
        super().__init__(
            [
                ipywidgets.HBox([ipywidgets.VBox(boxes[:4]), ipywidgets.VBox(boxes[4:])]),
                self.numbers,
                self.picture,
            ]
        )

    def _redraw(self, change=None) -> None:
        value = {name: control.value for name, control in self.inputs.items()}
        self.plan = training_plan(
            value["rows"], value["epochs"], value["batch_size"], value["accumulation"], value["warmup"]
        )
        self.curve = learning_rates(
            value["schedule"], value["learning_rate"], self.plan.steps, self.plan.warmup_steps
        )
        self.numbers.value = (  # numbers only, nothing that somebody typed
            f"{self.plan.batches:,} batches and {self.plan.steps_per_epoch:,} steps an epoch, <b>{self.plan.steps:,} steps</b> in all, "
            f"{self.plan.warmup_steps:,} of them warmup; {self.plan.effective_batch_size:,} rows a step; highest rate {self.curve[1].max():.2g}"
        )
        learning_rate_curves(
            {value["schedule"]: self.curve}, "Learning rate", self.plan.steps_per_epoch, self._axes
        )
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
