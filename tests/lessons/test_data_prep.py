"""The figure of three ways to pad, and the length explorer: what its sliders change, and how fast."""

import io
import re
import time

import numpy as np
import pytest
from matplotlib.image import imread

from notebooks import read, stored_table
from utils import ROOT
from utils.lessons.data_prep import length_costs, length_explorer, length_numbers, three_ways

LENGTHS = [4, 6, 10, 20]


@pytest.fixture(scope="module")
def many_lengths():
    return np.random.RandomState(0).randint(3, 90, size=4000)


def test_the_numbers_are_those_of_a_batch_made_by_hand():
    numbers = length_numbers(LENGTHS, max_length=10, batch_size=4)
    assert numbers["truncated"] == 0.25  # only the 20 is longer than 10
    assert numbers["real_tokens_per_text"] == (4 + 6 + 10 + 10) / 4
    assert numbers["tokens_per_text"] == {"max_length": 10, "longest in batch": 10, "grouped": 10}
    assert numbers["padding"]["longest in batch"] == pytest.approx(10 / 40)
    grouped = length_numbers(LENGTHS, max_length=20, batch_size=2)
    assert grouped["tokens_per_text"]["grouped"] == (2 * 6 + 2 * 20) / 4
    assert grouped["padding"]["grouped"] == pytest.approx(1 - 40 / 52)


def test_a_last_batch_that_is_not_full_counts_its_own_rows():
    numbers = length_numbers(LENGTHS, max_length=100, batch_size=3)
    assert numbers["tokens_per_text"]["grouped"] == (3 * 10 + 1 * 20) / 4


@pytest.mark.parametrize("batch_size", [1, 7, 16, 5000])
def test_no_way_computes_less_than_the_real_tokens_or_more_than_all_to_the_maximum(many_lengths, batch_size):
    numbers = length_numbers(many_lengths, 64, batch_size)
    tokens = numbers["tokens_per_text"]
    assert (
        numbers["real_tokens_per_text"]
        <= tokens["grouped"]
        <= tokens["longest in batch"]
        <= tokens["max_length"]
        == 64
    )
    assert (batch_size == 1) == (numbers["padding"]["longest in batch"] == pytest.approx(0))


@pytest.mark.parametrize(
    ("lengths", "max_length", "batch_size"), [([], 8, 2), ([0, 3], 8, 2), ([3], 0, 2), ([3], 8, 0)]
)
def test_impossible_values_are_refused(lengths, max_length, batch_size):
    with pytest.raises(ValueError, match="1 or more"):
        length_explorer(lengths, max_length, batch_size)


def test_the_figure_shows_the_padding_that_the_numbers_have(many_lengths):
    """All batches of an epoch are drawn, so that the shares in the titles are those of the epoch."""
    numbers = length_numbers(many_lengths, max_length=64, batch_size=16)
    panels = three_ways(many_lengths, 64, 16, batches=len(many_lengths)).axes
    shares = [re.search(r"(\d+%) padding", panel.get_title())[1] for panel in panels]
    assert shares == [f"{share:.0%}" for share in numbers["padding"].values()]
    assert {panel.get_ylim()[0] for panel in panels} == {len(many_lengths)}
    widths = {panel.images[0].get_extent()[1] for panel in panels[:1]}
    assert widths == {64}


def test_moving_a_slider_changes_numbers_words_and_figure(many_lengths):
    explorer = length_explorer(many_lengths, max_length=128, batch_size=16)
    assert explorer.numbers["truncated"] == 0
    assert "0.0% of the texts are cut" in explorer.words.value
    seen = [(explorer.image.value, explorer.words.value)]
    for slider, value in ((explorer.max_length, 40), (explorer.batch_size, 64)):
        slider.value = value
        assert (explorer.image.value, explorer.words.value) not in seen
        assert explorer.image.value != seen[-1][0]
        seen.append((explorer.image.value, explorer.words.value))
    assert explorer.numbers == length_numbers(many_lengths, 40, 64)
    assert f"{np.mean(many_lengths > 40):.1%} of the texts are cut" in explorer.words.value
    explorer.max_length.value, explorer.batch_size.value = 128, 16
    assert (explorer.image.value, explorer.words.value) == seen[0]


def test_the_picture_is_the_static_figure(many_lengths):
    """The twin beside the explorer is drawn by the same function, and shows the same."""
    explorer = length_explorer(many_lengths, max_length=30, batch_size=8)
    explorer.max_length.value = 50
    buffer = io.BytesIO()
    length_costs(many_lengths, length_numbers(many_lengths, 50, 8)).savefig(buffer, format="png", dpi=80)
    buffer.seek(0)
    moved, static = imread(io.BytesIO(explorer.image.value)), imread(buffer)
    assert moved.shape == static.shape
    assert np.abs(moved - static).max() < 0.1  # at a few places, two edges are blended in another order


def test_the_values_given_are_those_shown_even_beyond_the_longest_text():
    explorer = length_explorer(LENGTHS, max_length=500, batch_size=300)
    assert (explorer.max_length.value, explorer.batch_size.value) == (500, 300)
    short = length_explorer(LENGTHS, max_length=2, batch_size=1)
    assert (short.max_length.value, short.numbers["max_length"]) == (2, 2)


def test_a_move_takes_less_than_a_tenth_of_a_second(many_lengths):
    explorer = length_explorer(many_lengths)
    seconds = []
    for value in range(20, 80, 4):
        start = time.process_time()
        explorer.max_length.value = value
        seconds.append(time.process_time() - start)
    # in the quarter that was disturbed least: what others do with the machine is not what is measured
    assert np.percentile(seconds, 25) < 0.1


def test_sliders_and_picture_are_plain_core_widgets():
    """Colab has ipywidgets 7.7.1: both versions know what is used, without a front end's extension."""
    explorer = length_explorer(LENGTHS)
    assert {child._model_module for child in explorer.children} == {"@jupyter-widgets/controls"}
    assert bytes(explorer.image.value).startswith(b"\x89PNG")


def test_the_stored_scoreboard_of_02_bears_out_what_is_said_of_it():
    scores = stored_table(read(ROOT / "notebooks" / "02_data_prep.ipynb"), "scoreboard")
    assert scores.index.tolist() == ["commonest label", "word counts", "one epoch"]
    commonest, counts, trained = scores[["accuracy", "f1_macro"]].to_numpy()
    assert commonest == pytest.approx((0.694, 0.41), abs=0.001)
    assert counts == pytest.approx((0.797, 0.703), abs=0.02)
    assert trained[0] > counts[0] + 0.05
    assert trained[1] > counts[1] + 0.1
