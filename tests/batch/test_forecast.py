"""A learning curve continued: the right score, intervals that hold it, sweeps that cannot tell."""

import json

import numpy as np
import pandas as pd
import pytest

from utils.batch.forecast import forecast, main, read_curve
from utils.batch.leaderboard import LeaderboardError

SIZES = np.repeat([150, 300, 600, 1200], 3)


def straight(size):
    return 0.5 + 0.04 * np.log2(size / 150)


def level(size):
    return 0.9 - 30 / size


def sweep(folder, curve=straight, sizes=SIZES, noise=0.01, **columns):
    """Write the leaderboard of a sweep, as `utils.batch` does."""
    draw = np.random.default_rng(3)
    board = pd.DataFrame({"run_id": [f"run-{k}" for k in range(len(sizes))], "max_train_samples": sizes})
    board["seed"] = np.arange(len(sizes)) % 3
    board = board.assign(**columns, status="completed")
    for split in ("validation", "test"):
        board[f"{split}_accuracy"] = board[f"{split}_f1_macro"] = curve(sizes) + draw.normal(
            0, noise, len(sizes)
        )
    board.assign(seconds=1.0, error="").to_csv(folder / "leaderboard.csv", index=False)
    return folder / "leaderboard.csv"


@pytest.mark.parametrize("curve", [straight, level])
def test_a_curve_that_rises_and_one_that_levels_off(curve):
    luck = np.random.default_rng(1).normal(0, 0.002, len(SIZES))
    middle, low, high = forecast(SIZES, curve(SIZES) + luck, 2400)
    assert middle == pytest.approx(curve(2400), abs=0.008)
    assert low < middle < high
    assert high - low < 0.04
    assert forecast(SIZES, curve(SIZES) + luck, 2400, rows_error=0.02)[2] > high + 0.01


def test_nine_of_ten_intervals_hold_the_score_of_a_new_run():
    draw, held = np.random.default_rng(7), 0
    for k in range(100):
        curve = (straight, level)[k % 2]
        deviation = 0.4 / np.sqrt([*SIZES, 2400])  # luck shrinks as tables grow
        scores = curve(np.array([*SIZES, 2400])) + draw.normal(0, deviation)
        _, low, high = forecast(SIZES, scores[:-1], 2400)
        held += low <= scores[-1] <= high
    assert 82 <= held <= 98  # of a true 90, 2.7 standard errors each way


def test_a_sweep_is_read_and_its_forecast_printed_and_drawn(tmp_path, capsys):
    main([str(sweep(tmp_path)), "--score", "accuracy"])
    said = capsys.readouterr().out
    assert "Test accuracy with 1,200 training rows: 0.6" in said
    assert "With 2 times as many: 0.6" in said
    assert "today's score" not in said
    assert (tmp_path / "figures" / "forecast.png").stat().st_size > 5000
    main([str(sweep(tmp_path, lambda sizes: 0 * sizes + 0.7).parent)])
    assert "these runs cannot promise that more labels will help" in capsys.readouterr().out


def test_the_rows_of_a_run_and_shared_test_rows_come_from_its_record(tmp_path):
    path = sweep(tmp_path)
    assert read_curve(path)[2] == 0
    answers = pd.DataFrame(
        {"text": "t", "label": ["a", "b"] * 200, "predicted": ["a"] * 200 + ["a", "b"] * 100}
    )
    for k, size in enumerate(SIZES):
        (tmp_path / f"run-{k}").mkdir()
        record = {"parameters": {"test_file": "test.csv"}, "data": {"train_rows": int(min(size, 1000))}}
        (tmp_path / f"run-{k}" / "metrics.json").write_text(json.dumps(record))
        answers.to_csv(tmp_path / f"run-{k}" / "predictions.csv", index=False)
    runs, score, error = read_curve(path, "accuracy")
    assert score == "accuracy"
    assert runs["size"].max() == 1000, "the table had no more"
    assert error == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.1)


def test_a_sweep_that_cannot_tell_is_refused(tmp_path):
    few = np.repeat([150, 300], 3)
    with pytest.raises(
        LeaderboardError, match="three sizes or more, with two seeds.*150 rows 3x, 300 rows 3x"
    ):
        read_curve(sweep(tmp_path, sizes=few))
    with pytest.raises(LeaderboardError, match="three sizes or more, with two seeds"):
        read_curve(sweep(tmp_path, sizes=np.array([150, 300, 600, 1200])))
    with pytest.raises(LeaderboardError, match="The runs differ in learning_rate, too"):
        read_curve(sweep(tmp_path, learning_rate=np.resize([1e-4, 2e-4], len(SIZES))))
    with pytest.raises(LeaderboardError, match="no test_pearson. There are: accuracy, f1_macro"):
        read_curve(sweep(tmp_path), "pearson")
    (tmp_path / "other.csv").write_text("text,label\na,b\n")
    with pytest.raises(LeaderboardError, match="other.csv has no column error, max_train_samples"):
        read_curve(tmp_path / "other.csv")
    with pytest.raises(SystemExit, match="nowhere.csv cannot be read as a leaderboard"):
        main([str(tmp_path / "nowhere.csv")])
