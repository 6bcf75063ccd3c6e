"""The figures: what they show, and that odd labels do not break them."""

import numpy as np
import pytest

from utils import plots


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(
    "figure",
    [
        plots.label_balance({"train": {"a": 3, "b": 1}, "test": {"a": 1}}),
        plots.text_lengths([3, 5, 5, 90], 128),
        plots.learning_curves([{"epoch": 0.5, "loss": 0.7}, {"epoch": 1, "loss": 0.5}, {"epoch": 1, "eval_loss": 0.6, "eval_accuracy": 0.8}]),
        plots.confusion_matrix([0, 1, 1], [0, 1, 0], ["a", "b"]),
        plots.reliability_diagram({"before": {"rows": [3, 9], "confidence": [0.6, 0.9], "right": [0.5, 0.8]}}),
        plots.regression_scatter([1.0, 2.0, -1.0], [0.5, 2.5, 0.0], "stars"),
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
    figure = plots.learning_curves([{"epoch": 0.5, "loss": 0.7}, {"epoch": 1.0, "loss": 0.5}, {"epoch": 1.0, "eval_loss": 0.5, "eval_accuracy": 0.7}])
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.25, 0.75]


def test_bars_of_lengths_are_whole_tokens_and_lose_no_text():
    lengths = np.random.default_rng(0).integers(3, 400, 1000)
    heights = [bar.get_height() for bar in plots.text_lengths(lengths, 128).axes[0].patches]
    assert sum(heights) == 1000


def test_odd_labels_and_many_labels_can_be_drawn(tmp_path):
    odd = ["$x_", "a" * 80, "<b>", "%d\n"]
    plots.save(plots.label_balance({"train": dict.fromkeys(odd, 1)}), tmp_path / "a" / "b.png")
    plots.save(plots.confusion_matrix([0, 1, 2, 3], [0, 1, 2, 3], odd), tmp_path / "a" / "c.png")
    many = [str(k) for k in range(300)]
    plots.save(plots.confusion_matrix(range(300), range(300), many), tmp_path / "a" / "d.png")
    assert (tmp_path / "a" / "b.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.png", "c.png", "d.png"]


def test_the_reliability_diagram_shows_its_table():
    table = {"rows": [1, 3], "confidence": [0.6, 0.9], "right": [0.5, 0.8]}
    axes = plots.reliability_diagram({"before": table, "after $x_": table}).axes[0]
    assert axes.lines[1].get_xydata().tolist() == [[0.6, 0.5], [0.9, 0.8]]
    small, large = axes.collections[0].get_sizes()
    assert large - 12 == pytest.approx(3 * (small - 12))  # areas above the least one are in proportion to rows
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


def test_the_scatter_has_true_across_and_one_scale_for_both_axes():
    axes = plots.regression_scatter([1.0, 2.0], [10.0, 3.0], "stars").axes[0]
    assert axes.collections[0].get_offsets().tolist() == [[1, 10], [2, 3]]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlabel() == "true stars"
    plots.regression_scatter([3.0], [3.0])  # one row, no range
