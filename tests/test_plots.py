"""The figures: what they show, and that odd labels do not break them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from utils import plots
from utils.batch.figures import score_against_cost, sweep_scores
from utils.lessons.batch_runs import confusions_side_by_side, curves_side_by_side
from utils.lessons.training import scoreboard


def sweep():
    """Three rates by three seeds; of the last rate one run failed, two diverged."""
    scores = [0.90, 0.92, 0.91, 0.94, 0.95, 0.96, np.nan, np.nan, np.nan]
    table = pd.DataFrame(
        {
            "run_id": [f"r{k}" for k in range(9)],
            "rate": np.repeat([1e-5, 3e-5, 1e-3], 3),
            "seed": [1, 2, 3] * 3,
        }
    )
    errors = [""] * 6 + ["MemoryError: no", "WatchError: nan-hidden", "WatchError: nan-hidden"]
    return table.assign(
        status=["completed"] * 6 + ["failed"] * 3, validation_f1_macro=scores, seconds=10.0, error=errors
    )


def summary():
    """What compare_runs returns for three configurations, of which one has a single seed and one no score."""
    columns = {
        "rate": [3e-5, 1e-5, 1e-3],
        "best": [True, False, False],
        "validation_f1_macro_mean": [0.95, 0.91, np.nan],
        "validation_f1_macro_std": [0.01, np.nan, np.nan],
        "seconds_mean": [20.0, 10.0, np.nan],
        "seconds_std": [15.0, np.nan, np.nan],
        "verdict": ["better", "baseline", "nothing to compare"],
    }
    return pd.DataFrame(columns)


HISTORY = [
    {"epoch": 0.5, "loss": 0.7},
    {"epoch": 1, "loss": 0.5},
    {"epoch": 1, "eval_loss": 0.6, "eval_accuracy": 0.8},
]


def legend(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(
    "figure",
    [
        plots.label_balance({"train": {"a": 3, "b": 1}, "test": {"a": 1}}),
        plots.learning_curves(HISTORY),
        plots.confusion_matrix([0, 1, 1], [0, 1, 0], ["a", "b"]),
        plots.balance({"train": ["a|b", "", "b"]}, "multi_label"),
        plots.balance({"train": ["1", "2.5"], "test": ["3"]}, "regression", "stars"),
        plots.predictions(np.eye(2), np.ones((2, 2)), ["a", "b"], "multi_label"),
        scoreboard({"word counts": 0.7, "fine-tuned": 0.8}, "accuracy"),
        plots.regression_scatter([1.0, 2.0, -1.0], [0.5, 2.5, 0.0], "stars"),
        plots.value_distribution({"train": [1.0, 2.0], "test": [1.5]}, "stars"),
        sweep_scores(sweep(), "rate"),
        score_against_cost(summary()),
    ],
)
def test_every_panel_has_a_title_and_both_axes_named(figure):
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            assert axes.get_title()
            assert axes.get_xlabel()
        assert axes.get_ylabel()


def test_the_confusion_matrix_counts_true_by_row():
    assert texts(plots.confusion_matrix([0, 0, 0, 1], [0, 1, 1, 1], ["a", "b"])) == ["1", "2", "0", "1"]


def test_a_training_loss_stands_in_the_middle_of_its_stretch():
    figure = plots.learning_curves(HISTORY)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.25, 0.75]


def test_odd_labels_and_many_labels_can_be_drawn(tmp_path):
    odd = ["$x_", "a" * 80, "<b>", "%d\n"]
    plots.save(plots.label_balance({"train": dict.fromkeys(odd, 1)}), tmp_path / "a" / "b.png")
    plots.save(plots.confusion_matrix([0, 1, 2, 3], [0, 1, 2, 3], odd), tmp_path / "a" / "c.png")
    many = [str(k) for k in range(300)]
    plots.save(plots.confusion_matrix(range(300), range(300), many), tmp_path / "a" / "d.png")
    assert (tmp_path / "a" / "b.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.png", "c.png", "d.png"]


def test_each_task_has_its_figures():
    table = {"train": ["a|b", "b", ""]}
    bars = plots.balance(table, "multi_label").axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([2 / 3, 1 / 3])  # of the labels, b first
    assert plots.balance({"train": ["1", "3"]}, "regression", "stars").axes[0].get_xlabel() == "stars"
    scatter = plots.predictions([1.0, 2.0], [1.5, 2.0], ["value"], "regression", "stars")
    assert scatter.axes[0].get_ylabel() == "predicted stars"
    assert texts(plots.predictions([0, 1], [1, 1], ["a", "b"], "single_label")) == ["0", "1", "0", "1"]
    both = plots.predictions(
        np.array([[1, 0], [1, 1]]), np.array([[1, 1], [1, 1]]), ["a", "b"], "multi_label"
    )
    assert [bar.get_width() for bar in both.axes[0].patches] == pytest.approx([2 / 3, 1 / 3, 1 / 2, 1 / 2])


def test_the_scoreboard_has_a_bar_for_each_model_in_order():
    axes = scoreboard({"word counts": 0.7, "fine-tuned": 0.8}, "accuracy").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.7, 0.8]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["word counts", "fine-tuned"]
    assert texts(axes.figure) == ["0.700", "0.800"]


def test_the_learning_curves_show_what_has_to_be_beaten():
    scores = plots.learning_curves(HISTORY, {"word counts": 0.6}).axes[1]
    (line,) = [line for line in scores.lines if line.get_label() == "word counts"]
    assert set(line.get_ydata()) == {0.6}


def test_the_curves_begin_with_the_untrained_model_where_it_is_given():
    untrained = {"eval_loss": 0.7, "eval_accuracy": 0.4}  # as `trainer.evaluate` returns it: without an epoch
    losses, scores = plots.learning_curves([untrained, *HISTORY]).axes
    (line,) = [line for line in losses.lines if line.get_label() == "validation"]
    assert (line.get_xdata()[0], line.get_ydata()[0]) == (0, 0.7)
    (line,) = [line for line in scores.lines if line.get_label() == "accuracy"]
    assert (line.get_xdata()[0], line.get_ydata()[0]) == (0, 0.4)


def test_the_scatter_has_true_across_and_one_scale_for_both_axes():
    axes = plots.regression_scatter([1.0, 2.0], [10.0, 3.0], "stars").axes[0]
    assert axes.collections[0].get_offsets().tolist() == [[1, 10], [2, 3]]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlabel() == "true stars"
    plots.regression_scatter([3.0], [3.0])  # one row, no range


def test_a_sweep_shows_every_run_the_mean_and_its_spread():
    figure = sweep_scores(sweep(), "rate")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1e-05", "3e-05", "0.001"]
    scores = sorted(y for line in axes.lines if line.get_gid() == "runs" for y in line.get_ydata())
    assert scores == [0.90, 0.91, 0.92, 0.94, 0.95, 0.96]
    (bars,) = axes.containers
    assert bars[0].get_xydata() == pytest.approx(np.array([[1e-5, 0.91], [3e-5, 0.95]]))
    assert [segment[:, 1].tolist() for segment in bars[2][0].get_segments()] == [
        pytest.approx([0.90, 0.92]),
        pytest.approx([0.94, 0.96]),
    ]
    marks = {line.get_gid(): line for line in axes.lines if line.get_gid() in ("failed", "diverged")}
    assert {kind: line.get_xdata() for kind, line in marks.items()} == {"failed": [1e-3], "diverged": [1e-3]}
    assert marks["failed"].get_marker() != marks["diverged"].get_marker()
    assert [text for text in texts(figure) if text] == ["×2"]
    figure.canvas.draw()
    lowest = axes.transData.transform((1e-5, 0.90))[1]  # in pixels: no mark can be taken for a score
    assert all(line.get_window_extent().y1 < lowest for line in marks.values())
    assert legend(figure) == ["one run", "diverged (stopped by Watch)", "failed", "mean ± std"]


def test_a_sweep_of_one_seed_has_no_bars_and_one_of_two_parameters_tells_them_apart():
    table = sweep().iloc[[0, 3]]
    (bars,) = sweep_scores(table, "rate").axes[0].containers
    assert not any(len(segment) and np.isfinite(segment).all() for segment in bars[2][0].get_segments())
    table = pd.concat([sweep().iloc[:6].assign(model="$x_"), sweep().iloc[:6].assign(model="b" * 80)])
    figure = sweep_scores(table, "rate", by="model")
    first, second = (bars[0] for bars in figure.axes[0].containers)
    assert (first.get_color(), first.get_marker()) != (second.get_color(), second.get_marker())
    assert first.get_marker() != second.get_marker()
    assert legend(figure) == ["one run", r"\$x_", "b" * 23 + "…"]


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ([16, 8, 32], "linear", ["8", "16", "32"]),
        ([0.1, 0.0, 10.0], "linear", ["0.0", "0.1", "10.0"]),
        (["minilm-l6", "bert", "a"], "linear", ["minilm-l6", "bert", "a"]),
        ([None, 500.0, 100.0], "linear", ["None", "500.0", "100.0"]),
        ([True, False, False], "linear", ["True", "False"]),
    ],
    ids=["numbers", "with_zero", "words", "none", "switch"],
)
def test_a_sweep_along_anything(values, scale, ticks):
    axes = sweep_scores(sweep().iloc[:3].assign(rate=values), "rate").axes[0]
    assert axes.get_xscale() == scale
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ticks
    assert sum(len(line.get_xdata()) for line in axes.lines if line.get_gid() == "runs") == 3


def test_cost_has_a_mark_for_each_configuration_with_a_score():
    figure = score_against_cost(summary())
    (axes,) = figure.axes
    assert [bars[0].get_xydata().tolist() for bars in axes.containers] == [[[20.0, 0.95]], [[10.0, 0.91]]]
    assert legend(figure) == ["3e-05 (best)", "1e-05"]
    assert figure.legends[0].get_title().get_text() == "rate"
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 35  # the bar of 15 seconds ends inside


def test_curves_side_by_side_share_their_axes_and_leave_gaps():
    holes = [{"epoch": 0.5, "loss": None}, {"epoch": 1, "loss": 0.4}, {"epoch": 1, "eval_loss": float("nan")}]
    figure = curves_side_by_side({"rate 1, seed $1": HISTORY, "rate 2, seed 2": holes})
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[0.25, 0.7], [0.75, 0.5]]
    assert left.lines[1].get_xydata().tolist() == [[1, 0.6]]
    assert np.isnan(right.lines[0].get_ydata()).tolist() == [True, False]
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlim() == right.get_xlim()
    assert [axes.get_title() for axes in figure.axes] == ["rate 1\nseed \\$1", "rate 2\nseed 2"]
    assert [left.get_xlabel(), left.get_ylabel()] == ["epoch", "cross-entropy (nats)"]
    assert left.get_yscale() == "linear"
    huge = [{"epoch": 1, "loss": 70.0}, {"epoch": 1, "eval_loss": 9.0, "eval_pearson": 0.1}]
    diverged = curves_side_by_side({"a": HISTORY, "b": huge})
    assert diverged.axes[0].get_yscale() == "log"
    assert diverged.axes[0].get_ylabel() == "mean squared error, log scale"


def test_confusions_side_by_side_have_the_same_labels_and_shades():
    figure = confusions_side_by_side({"a": (["x", "x", "y"], ["x", "y", "y"]), "b": (["y", "y"], ["y", "z"])})
    left, right, bar = figure.axes
    assert [text.get_text() for text in left.texts] == list("110010000")
    assert [text.get_text() for text in right.texts] == list("000011000")
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["x", "y", "z"]
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["x", "y", "z"]
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 1)
    assert bar.get_ylabel()
    ordered = confusions_side_by_side({"a": (["x"], ["y"])}, ["y", "x"])
    assert [text.get_text() for text in ordered.axes[0].texts] == list("0010")


@pytest.mark.parametrize(("size", "runs"), [(2, 2), (9, 3), (60, 2)])
def test_confusions_fit_into_their_picture(size, runs, tmp_path):
    labels = [f"a label called {k}" for k in range(size)]
    name = "learning_rate 2e-05, weight_decay 0.1, model_name something, seed "
    figure = confusions_side_by_side({f"{name}{k}": (labels, labels) for k in range(runs)})
    plots.save(figure, tmp_path / "a.png")
    picture = plt.imread(tmp_path / "a.png")[..., :3]
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    assert all((edge == 1).all() for edge in edges)  # white: nothing is cut off
    assert (picture < 1).any()
