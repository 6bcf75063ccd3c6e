"""What a lesson says in prose about its scores holds: bands that hold on any machine, on the outputs that the
notebook is stored with, and in `make test-all` on those of a fresh run.
"""

import math
import re

import pytest
from nbclient import NotebookClient

from notebooks import ROOT, printed, read

LINE = re.compile(r"^([a-z_]\w*) +((?:-?[\d.]+|nan)(?: (?:-?[\d.]+|nan))*)$", flags=re.M)
COIN = math.log(2)


AGAIN = "runs 05 once more: its stored outputs lie within the same bands, and nbval runs it"


@pytest.fixture(
    scope="module", params=["stored", pytest.param("fresh", marks=pytest.mark.full(reason=AGAIN))]
)
def pitfalls(request):
    notebook = read(ROOT / "notebooks" / "05_pitfalls.ipynb")
    if request.param == "stored":
        return notebook
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    return NotebookClient(notebook, timeout=1800, resources=resources).execute()


def lines(notebook, cell_id):
    """Return the lines that `log` printed in a cell: the name, and the values."""
    found = LINE.findall(printed(notebook, cell_id))
    return [(name, [float(value) for value in values.split()]) for name, values in found]


def logged(notebook, cell_id):
    return dict(lines(notebook, cell_id))


def numbers(notebook, cell_id, words):
    """Return the numbers of the line that begins with some words."""
    (line,) = re.findall(rf"^{re.escape(words)}.*$", printed(notebook, cell_id), flags=re.M)
    return [float(number) for number in re.findall(r"\d+\.\d+", line)]


def test_a_high_rate_ends_with_one_class_and_a_low_one_learns(pitfalls):
    hasty, steady = logged(pitfalls, "rate-run"), logged(pitfalls, "rate-fix")
    assert hasty["eval_accuracy"] == [0.5] * len(hasty["eval_accuracy"])
    assert hasty["eval_predicted_classes"][-1] == 1
    assert max(hasty["loss"]) > COIN
    assert "lr-too-high" in printed(pitfalls, "rate-watch")
    assert steady["eval_predicted_classes"][-1] == 2
    assert steady["eval_accuracy"][-1] > 0.7
    assert len(steady["eval_loss"]) == 6  # Watch let it through
    assert printed(pitfalls, "rate-fix").startswith("Nothing found.")


def test_the_trial_passes_and_the_real_run_fails(pitfalls):
    trial, real = printed(pitfalls, "classes-run").splitlines()
    assert trial == "2 steps, no error"
    assert re.fullmatch(r"IndexError after \d+ steps: Target 2 is out of bounds\.", real)


def test_labels_dealt_by_lot_are_learnt_by_heart(pitfalls):
    blind, seeing = logged(pitfalls, "blind-mistake"), logged(pitfalls, "blind-looked-at")
    assert blind["loss"][-1] < 0.5 * COIN
    assert "eval_loss" not in blind
    assert seeing["loss"] == pytest.approx(blind["loss"], rel=0.05, abs=0.02)
    assert seeing["eval_loss"][-1] > 1.2 * COIN
    assert "overfitting" in printed(pitfalls, "blind-looked-at")


def test_accumulated_losses_are_summed_unless_the_trainer_divides(pitfalls):
    summed, mean = logged(pitfalls, "accumulation-run"), logged(pitfalls, "accumulation-fix")
    assert summed["loss"][0] == pytest.approx(8 * mean["loss"][0], rel=0.02)
    assert mean["loss"][0] == pytest.approx(COIN, abs=0.1)
    assert summed["eval_loss"][0] == pytest.approx(COIN, abs=0.1)


def test_nan_is_logged_as_zero_unless_the_filter_is_off(pitfalls):
    rosy = logged(pitfalls, "nan-run")
    assert rosy["loss"][1:] == [0, 0, 0, 0]
    assert all(map(math.isnan, rosy["grad_norm"][1:] + rosy["eval_loss"]))
    assert rosy["eval_accuracy"][-1] == 0.5
    (_, finite), (_, norms), (_, frank) = lines(pitfalls, "nan-fix")
    assert all(map(math.isfinite, finite + norms))
    assert 0 not in finite
    assert all(map(math.isnan, frank[1:]))


def test_a_checkpoint_of_yesterday_is_loaded_as_the_best_of_today(pitfalls):
    best, in_memory = numbers(pitfalls, "stale-facts", "best:")
    assert abs(in_memory - best) > 0.02
    best, in_memory = numbers(pitfalls, "stale-fix", "best:")
    assert in_memory == best


def test_a_model_run_twice_begins_where_it_ended(pitfalls):
    (_, first), (_, second) = lines(pitfalls, "twice-mistake")
    assert second[0] < 0.5 * first[0]
    (_, first), (_, second) = lines(pitfalls, "twice-fix")
    assert second[0] == pytest.approx(first[0], abs=0.05)


def test_the_leak_promises_too_much_and_the_right_order_keeps_its_promise(pitfalls):
    assert logged(pitfalls, "shop-run")["eval_accuracy"] == [0.89]
    assert numbers(pitfalls, "shop-run", "complaints found") == [0.0]
    promised, found = numbers(pitfalls, "leak-run", "complaints found")
    assert promised - found > 0.3
    sound_promised, sound_found = numbers(pitfalls, "leak-fix", "complaints found")
    assert abs(sound_promised - sound_found) < promised - found
    assert logged(pitfalls, "leak-fix")["eval_f1_macro"][-1] > 0.52  # 0.47: always "positive"
