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
