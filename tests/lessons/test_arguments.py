"""The schedule explorer, driven from Python: what it shows is what Trainer does."""

import time

import numpy as np
import pytest
import torch
from datasets import Dataset
from matplotlib.colors import to_hex
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    get_scheduler,
)

from utils.lessons.arguments import (
    SCHEDULES,
    Plan,
    learning_rate_curves,
    learning_rates,
    rows_to_steps,
    schedule_explorer,
    schedules,
    training_plan,
)

PNG = b"\x89PNG\r\n"


def trained(folder, rows, resume=None, **arguments):
    """Train a tiny model on `rows` rows, or train it on, and return its trainer."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    data = Dataset.from_dict(
        {"input_ids": [[1, 2, 3]] * rows, "label": [0, 1] * (rows // 2) + [0] * (rows % 2)}
    )
    args = TrainingArguments(
        str(folder),
        disable_tqdm=True,
        logging_steps=1,
        dataloader_pin_memory=False,
        **({"save_strategy": "no"} | arguments),
    )
    trainer = Trainer(
        BertForSequenceClassification(BertConfig(vocab_size=9, **sizes)), args, train_dataset=data
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize(
    ("rows", "epochs", "batch_size", "accumulation", "warmup", "schedule"),
    [
        (48, 2, 16, 1, 0, "linear"),  # everything divides
        (50, 3, 16, 1, 0.1, "linear"),  # a smaller last batch
        (50, 3, 16, 3, 0.25, "cosine"),  # and a smaller last group
        (50, 2.25, 8, 2, 3, "constant_with_warmup"),  # an epoch ends inside a step
        (30, 0.3, 7, 1, 1.0, "polynomial"),  # less than an epoch
        (3, 2, 64, 8, 0.5, "inverse_sqrt"),  # fewer rows than a batch
        (10, 1.1, 1, 1, 500, "linear"),  # the run ends inside the warmup
        (70, 1, 1, 1, 0.05, "cosine_with_restarts"),
        (20, 1, 4, 1, 2, "constant"),  # ignores the warmup
    ],
)
def test_steps_and_rates_are_those_of_trainer(
    tmp_path, rows, epochs, batch_size, accumulation, warmup, schedule
):
    explorer = schedule_explorer(rows, epochs, batch_size, accumulation, 5e-5, warmup, schedule)
    batch = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation}
    trainer = trained(
        tmp_path, rows, num_train_epochs=epochs, warmup_steps=warmup, lr_scheduler_type=schedule, **batch
    )
    assert explorer.plan.steps == trainer.state.max_steps == trainer.state.global_step
    assert explorer.plan.warmup_steps == trainer.args.get_warmup_steps(trainer.state.max_steps)
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    steps, rates = explorer.curve
    assert steps.tolist() == list(range(1, explorer.plan.steps + 1))
    assert rates == pytest.approx(logged, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sampled_rates_are_those_of_every_step(schedule):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-5)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=70, num_training_steps=1234)
    every = []
    for _ in range(1234):
        every.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    steps, rates = learning_rates(schedule, 3e-5, 1234, 70, points=100)
    assert len(steps) == 100
    assert (steps[0], steps[-1]) == (1, 1234)
    assert rates == pytest.approx([every[step - 1] for step in steps], rel=1e-6, abs=1e-12)


def test_every_control_changes_what_it_should():
    explorer = schedule_explorer(rows=1000, epochs=3, batch_size=16, accumulation=1, warmup=0.1)
    assert explorer.plan == Plan(
        batches=63, steps_per_epoch=63, steps=189, warmup_steps=19, effective_batch_size=16
    )
    changes = {
        "rows": (2000, Plan(125, 125, 375, 38, 16)),
        "epochs": (1.5, Plan(125, 125, 188, 19, 16)),
        "batch_size": (32, Plan(63, 63, 95, 10, 32)),
        "accumulation": (4, Plan(63, 16, 24, 3, 128)),
        "warmup": (6, Plan(63, 16, 24, 6, 128)),
        "learning_rate": (1e-4, Plan(63, 16, 24, 6, 128)),
        "schedule": ("constant", Plan(63, 16, 24, 6, 128)),
    }
    highest = []
    for name, (value, plan) in changes.items():
        before = bytes(explorer.picture.value)
        explorer.inputs[name].value = value
        assert explorer.plan == plan
        assert f"<b>{plan.steps:,} steps</b>" in explorer.numbers.value
        picture = bytes(explorer.picture.value)  # ipywidgets 8 keeps a memoryview
        assert picture.startswith(PNG)
        assert picture != before
        highest.append(explorer.curve[1].max())
    assert highest == pytest.approx([5e-5] * 5 + [1e-4] * 2, rel=1e-3)
    assert np.ptp(explorer.curve[1]) == 0  # constant


def test_it_answers_within_a_tenth_of_a_second():
    explorer = schedule_explorer()
    seconds = []
    for k, rows in enumerate([1100, 90_000_000, 1300, 40, 1500, 7_000_000, 1700, 1800, 1900]):
        start = time.process_time()
        explorer.inputs["rows"].value = rows
        explorer.inputs["schedule"].value = SCHEDULES[k % 2]
        seconds.append((time.process_time() - start) / (2 if k else 1))
    assert (
        sorted(seconds)[4] < 0.1
    )  # the median, in seconds of this process: a single one may meet a busy machine


def test_the_control_draws_as_the_static_figure_does_and_leaves_nothing_behind():
    explorer = schedule_explorer(rows=1000, epochs=2)
    for rows in (500, 30, 1000):
        explorer.inputs["rows"].value = rows
    static = learning_rate_curves({"linear": explorer.curve}, "Learning rate", explorer.plan.steps_per_epoch)

    def lines(axes):  # as text, because the gaps between lines are nan
        data = [
            (line.get_label(), to_hex(line.get_color()), line.get_xydata().tolist()) for line in axes.lines
        ]
        return str(data)

    (moved,), (axes,) = explorer.figure.axes, static.axes
    assert lines(moved) == lines(axes)
    assert moved.get_ylim() == axes.get_ylim()
    assert len(moved.lines) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 0}, {"epochs": 0}, {"batch_size": 0}, {"accumulation": 0}, {"warmup": -1}, {"schedule": "<b>"}],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        schedule_explorer(**wrong)


def test_its_own_values_are_offered_even_if_they_are_no_power_of_two():
    explorer = schedule_explorer(batch_size=24, accumulation=3)
    assert explorer.plan.effective_batch_size == 72
    assert explorer.plan == training_plan(1000, 3, 24, 3, 0.1)


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs", "accumulation", "expected"),
    [
        (40, 16, 3, 1, ["16 rows", "16 rows", "8 rows", "step 1", "step 2", "step 3"]),
        (40, 8, 2, 2, ["8 rows"] * 5 + ["step 1", "step 2", "step 3"]),
        (5, 8, 1, 1, ["5 rows", "step 1"]),
    ],
)
def test_the_diagram_has_the_batches_and_steps_of_the_plan(rows, batch_size, epochs, accumulation, expected):
    figure = rows_to_steps(rows, batch_size, epochs, accumulation)
    plan = training_plan(rows, epochs, batch_size, accumulation)
    found = words(figure)
    assert found[: len(expected)] == expected
    assert len(found) == len(expected) + epochs
    assert found[-1].endswith(f"to {plan.steps}")
    bars = figure.axes[0].patches
    assert len(bars) == rows + plan.batches + plan.steps_per_epoch + epochs
    assert all(bar.get_x() >= 0 and bar.get_x() + bar.get_width() <= rows for bar in bars)


@pytest.mark.parametrize("wrong", [(61, 16, 3), (40, 1, 3), (40, 16, 7), (0, 16, 3)])
def test_the_diagram_refuses_what_it_cannot_show(wrong):
    with pytest.raises(ValueError, match="at most 60 rows|must be 1 or more"):
        rows_to_steps(*wrong)


def test_several_schedules_share_a_plan():
    plan = training_plan(400, 3, 16, warmup=0.1)
    (axes,) = schedules(("linear", "constant_with_warmup"), 1e-4, plan).axes
    assert axes.get_title() == "2 schedules, 75 steps, 8 of them warmup"
    linear, constant = (line.get_ydata() for line in axes.lines[:2])
    assert linear[:9] == pytest.approx(constant[:9])  # both climb for 8 steps
    assert (linear[0], max(linear), linear[-1]) == pytest.approx((0, 1e-4, 1e-4 / 67))
    assert constant[-1] == pytest.approx(1e-4)


def logged_rates(trainer):
    return {e["step"]: e["learning_rate"] for e in trainer.state.log_history if "learning_rate" in e}


def test_a_prolonged_run_is_what_03_says_of_it(tmp_path):
    """40 rows are 5 steps an epoch. The schedule is planned anew; its first step has the old plan's end."""
    batch = {"per_device_train_batch_size": 8, "save_strategy": "epoch", "learning_rate": 1e-4}
    first = trained(tmp_path, 40, num_train_epochs=2, **batch)
    assert logged_rates(first)[10] == pytest.approx(1e-5)
    again = trained(tmp_path, 40, resume=True, num_train_epochs=2, **batch)
    assert (again.state.global_step, again.state.log_history[-1]["train_loss"]) == (10, 0)  # nothing to do
    longer = trained(tmp_path, 40, resume=True, num_train_epochs=3, **(batch | {"learning_rate": 1e-2}))
    rates = logged_rates(longer)
    assert list(rates) == list(range(1, 16)), "the log of the first run is there, too"
    assert {step: rates[step] for step in range(1, 11)} == logged_rates(first)
    # the checkpoint's learning rate, not 1e-2: a third is left at step 11 of 15, but for that step
    left = [0, *(1e-4 * (15 - done) / 15 for done in range(11, 15))]
    assert [rates[step] for step in range(11, 16)] == pytest.approx(left, abs=1e-12)


def test_the_end_of_a_run_is_saved_unasked(tmp_path):
    trained(tmp_path, 40, num_train_epochs=1, per_device_train_batch_size=8, save_strategy="steps")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]
