"""What a leaderboard says over seeds and against a baseline, on predictions made here."""

import numpy as np
import pandas as pd
import pytest

from utils import metrics
from utils.leaderboard import LeaderboardError, compare_runs


def leaderboard_of(folder, accuracies, rows=600, same_rows=True):
    """Make predictions of given accuracies, {rate: [one for each seed]}; a better model is right wherever a worse one is."""
    table = []
    for rate, each in accuracies.items():
        for seed, accuracy in enumerate(each):
            run = f"rate-{rate}_seed-{seed}"
            (folder / run).mkdir()
            labels = np.array(["no", "yes"])[np.random.default_rng(0 if same_rows else rate).integers(2, size=rows)]
            right = np.arange(rows) < round(accuracy * rows)
            predicted = np.where(right, labels, np.where(labels == "yes", "no", "yes"))
            pd.DataFrame({"text": [f"NA {k}" for k in range(rows)], "label": labels, "predicted": predicted}).to_csv(
                folder / run / "predictions.csv", index=False
            )
            scores = {"validation_accuracy": accuracy, "validation_f1_macro": accuracy, "test_accuracy": accuracy - 0.01, "test_f1_macro": accuracy}
            table.append({"run_id": run, "rate": rate, "seed": seed, "status": "completed"} | scores | {"seconds": 10.0 + seed, "error": ""})
    return pd.DataFrame(table)


def test_a_lead_counts_only_where_rows_and_seeds_both_say_so(tmp_path):
    table = leaderboard_of(tmp_path, {1: [0.80, 0.81, 0.80], 2: [0.85, 0.86, 0.86], 3: [0.803, 0.813, 0.803], 4: [0.90, 0.70, 0.95], 5: [0.70, 0.71, 0.70]})
    summary = compare_runs(table, tmp_path).set_index("rate")
    assert summary["verdict"].to_dict() == {2: "better", 4: "not distinguishable", 3: "not distinguishable", 1: "baseline", 5: "worse"}
    assert list(summary.index) == [2, 4, 3, 1, 5]
    assert summary["best"].tolist() == [True, False, False, False, False]
    assert summary.loc[2, "validation_f1_macro_mean"] == pytest.approx(np.mean([0.85, 0.86, 0.86]))
    assert summary.loc[2, "test_accuracy_std"] == pytest.approx(np.std([0.85, 0.86, 0.86], ddof=1))
    assert summary.loc[2, "test_f1_macro_gain"] == pytest.approx(np.mean([0.05, 0.05, 0.06]), abs=1e-3)
    assert summary.loc[2, "seconds_mean"] == 11.0
    assert summary["seeds"].tolist() == [3] * 5
    # three seeds with the same rows are no more rows: as wide as one seed's interval
    one = metrics.accuracy_gain_interval([1] * 600, [1] * 512 + [0] * 88, [1] * 482 + [0] * 118)
    assert summary.loc[2, "gain_rows_high"] - summary.loc[2, "gain_rows_low"] == pytest.approx(one[2] - one[1], rel=0.15)


def test_one_seed_cannot_tell_and_other_rows_are_not_compared(tmp_path):
    one = leaderboard_of(tmp_path, {1: [0.8], 2: [0.9]})
    assert compare_runs(one, tmp_path)["verdict"].tolist() == ["one seed: cannot tell", "baseline"]
    (tmp_path / "other").mkdir()
    other = leaderboard_of(tmp_path / "other", {1: [0.8, 0.8], 2: [0.9, 0.9]}, same_rows=False)
    assert compare_runs(other, tmp_path / "other", baseline={"rate": 2})["verdict"].tolist() == ["baseline", "other test rows"]


def test_a_baseline_that_is_not_one_configuration_is_refused_and_failed_runs_are_counted(tmp_path):
    table = leaderboard_of(tmp_path, {1: [0.8, 0.8], 2: [0.9, 0.9]})
    for baseline, says in (({"rat": 1}, "there are rate, seed"), ({"rate": 9}, "fits 0 configurations"), ({"seed": 0}, "fits 2 configurations")):
        with pytest.raises(LeaderboardError, match=says):
            compare_runs(table, tmp_path, baseline=baseline)
    table.loc[3, ["status", "validation_f1_macro"]] = ["failed", np.nan]
    summary = compare_runs(table, tmp_path).set_index("rate")
    assert summary.loc[2, ["seeds", "failed"]].tolist() == [1, 1]
    with pytest.raises(LeaderboardError, match="no validation_pearson"):
        compare_runs(table.drop(columns=[column for column in table if column.startswith("validation")]), tmp_path)
