"""Figures and the control of 03_training_arguments."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from transformers import get_scheduler

from utils.lessons.controls import Picture, control
from utils.plots import BLUE, COLOURS, GREEN, ORANGE, finish, plain_axes
from utils.preflight.setup import optimizer_steps


def learning_rate_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    steps_per_epoch: int = 0,
    figure: Figure | None = None,
) -> Figure:
    """Draw learning rates by optimizer step: `curves` maps a name -> (steps, rates).

    Args:
        steps_per_epoch: for dotted lines at the ends of epochs, thirty at most; 0 draws none.
        figure: a figure of one axes to draw on, without its earlier curves; None makes a new one.
    """
    if figure is None:
        figure = plt.subplots(figsize=(7, 3.2), layout="constrained")[0]
    axes = figure.axes[0]
    for line in list(axes.lines):  # axes.clear() would build all ticks anew, a third of the drawing time
        line.remove()
    for k, (name, (steps, rates)) in enumerate(curves.items()):
        style = ("o" if len(steps) <= 40 else "") + ("-", "--", "-.")[k % 3]
        colour = COLOURS[k % len(COLOURS)]
        axes.plot(steps, rates, style, markersize=3, color=colour, label=plain_axes(name))
    last, highest = (max(max(curve[k]) for curve in curves.values()) for k in (0, 1))
    if steps_per_epoch and last <= 30 * steps_per_epoch:
        ends = np.arange(steps_per_epoch, last + 1, steps_per_epoch) + 0.5
        # one line with gaps for all ends: its x is in steps, its y in heights of the axes
        x, y = np.repeat(ends, 3), np.tile([0, 1, np.nan], len(ends))
        heights = axes.get_xaxis_transform()
        axes.plot(x, y, ":", color="0.6", linewidth=1, transform=heights, label="end of an epoch")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set(xlabel="optimizer step", xlim=(1 - 0.03 * last, 1 + 1.03 * last))
    axes.set(ylabel="learning rate", ylim=(0, 1.22 * highest or 1))
    axes.set_title(title, y=1.02)  # a fixed place is quicker than one that matplotlib looks for
    axes.legend(loc="upper right", fontsize="small", ncols=4)  # in the room above the highest rate
    return finish(figure)


def rows_to_steps(rows: int, batch_size: int, epochs: int, accumulation: int = 1) -> Figure:
    """Draw how rows become batches, batches steps, and steps epochs. Meant for few rows: each is a square.

    Raises:
        ValueError: a number that no run can have, or more than 60 rows, 20 batches or 6 epochs.
    """
    plan = training_plan(rows, epochs, batch_size, accumulation)
    if rows > 60 or plan.batches > 20 or epochs > 6:
        raise ValueError("a picture for at most 60 rows, 20 batches and 6 epochs")
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")

    def box(left: float, width: float, level: int, words: str, colour: str, tint: float) -> None:
        inset, face = 0.004 * rows, (*to_rgb(colour), tint)
        place = {"left": left + inset, "height": 0.6, "align": "edge"}
        axes.barh(level, width - 2 * inset, **place, color=face, edgecolor=colour)
        axes.text(left + width / 2, level + 0.3, words, ha="center", va="center", fontsize=9)

    for row in range(rows):  # a batch's rows share a shade with its box below
        box(row, 1, 3, "", BLUE, 0.2 + 0.4 * (row // batch_size % 2))
    for k in range(plan.batches):
        size = min(batch_size, rows - k * batch_size)
        box(k * batch_size, size, 2, f"{size} rows", BLUE, 0.2 + 0.4 * (k % 2))
    for k in range(plan.steps_per_epoch):
        left, full = k * plan.effective_batch_size, plan.effective_batch_size
        box(left, min(full, rows - left), 1, f"step {k + 1}", ORANGE, 0.5)
    for k in range(epochs):
        first, last = k * plan.steps_per_epoch + 1, (k + 1) * plan.steps_per_epoch
        words = f"epoch {k + 1}\nsteps {first} to {last}"
        box(k * rows / epochs, rows / epochs, 0, words, GREEN, 0.5 if k == 0 else 0.2)
    # the whole upper part is the first epoch
    axes.plot([0, 0], [0.6, 1], ":", color="0.4")
    axes.plot([rows / epochs, rows], [0.6, 1], ":", color="0.4")
    names = (f"{epochs} epochs", f"{plan.steps_per_epoch} steps", f"{plan.batches} batches", f"{rows} rows")
    axes.set_yticks([0.3, 1.3, 2.3, 3.3], names)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.01 * rows, 1.01 * rows), ylim=(-0.1, 3.7))
    axes.set_title(f"From rows to steps: batches of {batch_size}")
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
        style, colour = "os^D"[k % 4] + "-", COLOURS[k % len(COLOURS)]
        axes.plot(steps, values, style, markersize=4, color=colour, label=plain_axes(name))
    axes.axhline(coin, color="0.4", linestyle=":", label="knows nothing")
    axes.set(title="Training loss", xlabel="optimizer step", ylabel="cross-entropy (nats), log scale")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.legend(loc="outside right upper", fontsize="small")
    return finish(figure)


# Those of transformers that need no arguments of their own and follow the steps only, not the score.
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt")
SCHEDULES += ("constant_with_warmup", "constant")


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
    """Count steps as Trainer does: a smaller last batch counts, and so does a smaller last step of an epoch.

    `warmup` is as `TrainingArguments.warmup_steps`: a number of steps, or a share of them below 1.

    Raises:
        ValueError: a number that no run can have.
    """
    if min(rows, batch_size, accumulation) < 1 or epochs <= 0 or warmup < 0:
        raise ValueError("rows, batch_size, accumulation must be 1 or more, epochs above 0, warmup 0 or more")
    batches = math.ceil(rows / batch_size)
    steps = optimizer_steps(batches, accumulation, epochs)
    warmup_steps = int(warmup) if warmup >= 1 else math.ceil(steps * warmup)
    steps_per_epoch = optimizer_steps(batches, accumulation, epochs=1)
    return Plan(batches, steps_per_epoch, steps, warmup_steps, batch_size * accumulation)


def learning_rates(
    schedule: str, learning_rate: float, steps: int, warmup_steps: int = 0, points: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps, rates): the learning rate of each optimizer step, from transformers' own scheduler.

    Args:
        schedule: one of `SCHEDULES`.
        points: at most so many steps, spread evenly, with the first and the last; steps count from 1.

    Raises:
        ValueError: a schedule that is not one of `SCHEDULES`.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    factor = get_scheduler(schedule, optimizer, warmup_steps, steps).lr_lambdas[0]
    # A long run would take seconds step by step; its factor can be asked for any step.
    done = np.unique(np.linspace(0, steps - 1, min(points, steps)).round().astype(int))
    return done + 1, np.array([learning_rate * factor(int(step)) for step in done])


def schedules(shapes: Iterable[str], learning_rate: float, plan: Plan) -> Figure:
    """Draw the learning rates of several schedules, names of `SCHEDULES`, for one plan."""
    length = (plan.steps, plan.warmup_steps)
    curves = {shape: learning_rates(shape, learning_rate, *length) for shape in shapes}
    title = f"{len(curves)} schedules, {plan.steps} steps, {plan.warmup_steps} of them warmup"
    return learning_rate_curves(curves, title, plan.steps_per_epoch)


def schedule_explorer(
    rows: int = 1000,
    epochs: float = 3,
    batch_size: int = 16,
    accumulation: int = 1,
    learning_rate: float = 5e-5,
    warmup: float = 0.1,
    schedule: str = "linear",
) -> ipywidgets.VBox:
    """Return a control that shows how many steps a run takes and which learning rate each of them has.

    Its attributes: `inputs`, one for each argument, by name; `numbers` (HTML), `picture` (PNG), `plan` (a
    Plan), `curve` (steps, rates), `figure`.

    Args:
        warmup: as `TrainingArguments.warmup_steps`: a number of steps, or a share of them below 1.
        schedule: one of `SCHEDULES`.

    Raises:
        ValueError: a number that no run can have, or a schedule that is not one of `SCHEDULES`.
    """
    plan = training_plan(rows, epochs, batch_size, accumulation, warmup)
    learning_rates(schedule, learning_rate, plan.steps)  # refuses an unknown schedule

    def powers(number: int, value: int) -> ipywidgets.SelectionSlider:
        options = sorted({value, *(2**k for k in range(number))})
        return ipywidgets.SelectionSlider(options=options, value=value)

    inputs = {
        "rows": ipywidgets.BoundedIntText(value=rows, min=1, max=100_000_000),
        "epochs": ipywidgets.BoundedFloatText(value=epochs, min=0.01, max=1000, step=0.5),
        "batch_size": powers(9, batch_size),
        "accumulation": powers(6, accumulation),
        "learning_rate": ipywidgets.FloatLogSlider(learning_rate, min=-6, max=-2, readout_format=".1e"),
        "warmup": ipywidgets.BoundedFloatText(value=warmup, min=0, max=100_000_000, step=0.05),
        "schedule": ipywidgets.Dropdown(options=SCHEDULES, value=schedule),
    }
    figure = Figure(figsize=(7, 3.2))  # one for the life of the control: new ones would be slow
    figure.add_axes((0.1, 0.16, 0.87, 0.72)).locator_params(nbins=5)  # few ticks are drawn sooner

    def redraw(box: ipywidgets.VBox) -> None:
        value = {name: widget.value for name, widget in inputs.items()}
        shape, rate = value.pop("schedule"), value.pop("learning_rate")
        box.plan = plan = training_plan(**value)
        box.curve = learning_rates(shape, rate, plan.steps, plan.warmup_steps)
        box.numbers.value = (  # numbers only, nothing that somebody typed
            f"{plan.batches:,} batches and {plan.steps_per_epoch:,} steps an epoch, "
            f"<b>{plan.steps:,} steps</b> in all, {plan.warmup_steps:,} of them warmup; "
            f"{plan.effective_batch_size:,} rows a step; highest rate {box.curve[1].max():.2g}"
        )
        box.figure = learning_rate_curves({shape: box.curve}, "Learning rate", plan.steps_per_epoch, figure)
        box.picture.show(figure, dpi=100)

    return control(inputs, {"numbers": ipywidgets.HTML(), "picture": Picture()}, redraw)
