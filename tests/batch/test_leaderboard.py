"""What a leaderboard says over seeds and against a baseline, on predictions made here."""

import json

import numpy as np
import pandas as pd
import pytest

from utils import metrics, unquote_formula
from utils.batch.leaderboard import LeaderboardError, compare_runs, varied, write_summary


def leaderboard_of(folder, accuracies, rows=600, same_rows=True):
    """Make predictions of given accuracies, {rate: [one for each seed]}.

    A better model is right wherever a worse one is.
    """
    table = []
    for rate, each in accuracies.items():
        for seed, accuracy in enumerate(each):
            run = f"rate-{rate}_seed-{seed}"
            (folder / run).mkdir()
            labels = np.array(["no", "yes"])[
                np.random.default_rng(0 if same_rows else rate).integers(2, size=rows)
            ]
            right = np.arange(rows) < round(accuracy * rows)
            predicted = np.where(right, labels, np.where(labels == "yes", "no", "yes"))
            pd.DataFrame(
                {"text": [f"NA {k}" for k in range(rows)], "label": labels, "predicted": predicted}
            ).to_csv(folder / run / "predictions.csv", index=False)
            scores = {
                "validation_accuracy": accuracy,
                "validation_f1_macro": accuracy,
                "test_accuracy": accuracy - 0.01,
                "test_f1_macro": accuracy,
            }
            table.append(
                {"run_id": run, "rate": rate, "seed": seed, "status": "completed"}
                | scores
                | {"seconds": 10.0 + seed, "error": ""}
            )
    return pd.DataFrame(table)


def test_a_lead_counts_only_where_rows_and_seeds_both_say_so(tmp_path):
    table = leaderboard_of(
        tmp_path,
        {
            1: [0.80, 0.81, 0.80],
            2: [0.85, 0.86, 0.86],
            3: [0.803, 0.813, 0.803],
            4: [0.90, 0.70, 0.95],
            5: [0.70, 0.71, 0.70],
        },
    )
    summary = compare_runs(table, tmp_path).set_index("rate")
    assert summary["verdict"].to_dict() == {
        2: "better",
        4: "not distinguishable",
        3: "not distinguishable",
        1: "baseline",
        5: "worse",
    }
    assert list(summary.index) == [2, 4, 3, 1, 5]
    assert summary["best"].tolist() == [True, False, False, False, False]
    assert summary.loc[2, "validation_f1_macro_mean"] == pytest.approx(np.mean([0.85, 0.86, 0.86]))
    assert summary.loc[2, "test_accuracy_std"] == pytest.approx(np.std([0.85, 0.86, 0.86], ddof=1))
    assert summary.loc[2, "test_f1_macro_gain"] == pytest.approx(np.mean([0.05, 0.05, 0.06]), abs=1e-3)
    assert summary.loc[2, "seconds_mean"] == 11.0
    assert summary["seeds"].tolist() == [3] * 5
    # three seeds with the same rows are no more rows: as wide as one seed's interval
    answers = ([1] * 600, [1] * 512 + [0] * 88, [1] * 482 + [0] * 118)
    one = metrics.bootstrap_interval("accuracy", *answers)
    assert summary.loc[2, "gain_rows_high"] - summary.loc[2, "gain_rows_low"] == pytest.approx(
        one[2] - one[1], rel=0.15
    )


def test_one_seed_cannot_tell_and_other_rows_are_not_compared(tmp_path):
    one = leaderboard_of(tmp_path, {1: [0.8], 2: [0.9]})
    assert compare_runs(one, tmp_path)["verdict"].tolist() == ["one seed: cannot tell", "baseline"]
    (tmp_path / "other").mkdir()
    other = leaderboard_of(tmp_path / "other", {1: [0.8, 0.8], 2: [0.9, 0.9]}, same_rows=False)
    assert compare_runs(other, tmp_path / "other", baseline={"rate": 2})["verdict"].tolist() == [
        "baseline",
        "other test rows",
    ]


def test_a_baseline_that_is_not_one_configuration_is_refused_and_failed_runs_are_counted(tmp_path):
    table = leaderboard_of(tmp_path, {1: [0.8, 0.8], 2: [0.9, 0.9]})
    for baseline, says in (
        ({"rat": 1}, "there is no parameter 'rat'. Did you mean 'rate'"),
        ({"x": 1}, "There are rate, seed"),
        ({"rate": 9}, "fits 0 configurations"),
        ({"seed": 0}, "fits 2 configurations"),
    ):
        with pytest.raises(LeaderboardError, match=says):
            compare_runs(table, tmp_path, baseline=baseline)
    table.loc[3, ["status", "validation_f1_macro"]] = ["failed", np.nan]
    summary = compare_runs(table, tmp_path).set_index("rate")
    assert summary.loc[2, ["seeds", "failed"]].tolist() == [1, 1]
    with pytest.raises(LeaderboardError, match="no validation_pearson"):
        compare_runs(
            table.drop(columns=[column for column in table if column.startswith("validation")]), tmp_path
        )


def test_a_whole_number_stays_whole_and_none_is_a_value(tmp_path):
    table = leaderboard_of(tmp_path, {1: [0.8, 0.8], 2: [0.9, 0.9]})
    table.insert(1, "weight", [0.1, 0.1, 0.2, 0.2])  # beside floats, a row of numbers turns 1 into 1.0
    table.insert(1, "rows", [None, None, 500, 500])
    table.to_csv(tmp_path / "leaderboard.csv", index=False)
    for each in (table, pd.read_csv(tmp_path / "leaderboard.csv")):
        summary = compare_runs(each, tmp_path)  # the first is the baseline
        assert summary["rate"].tolist() == [2, 1]
        assert summary["verdict"].tolist() == ["better", "baseline"]
        assert varied(each) == ["rows", "weight", "rate", "seed"]
        for baseline in ({"rows": 500}, {"weight": 0.2}, {"rate": 2.0}):
            assert compare_runs(each, tmp_path, baseline)["verdict"].tolist() == ["baseline", "worse"]
        assert compare_runs(each, tmp_path, {"rows": None})["verdict"].tolist() == ["better", "baseline"]


def task_leaderboard(folder, task, answer, seeds=3):
    """Make two configurations, a and b; answer(rng, kind) returns (labels, predicted), the same labels."""
    table = []
    for kind in "ab":
        for seed in range(seeds):
            run = f"{kind}{seed}"
            (folder / run).mkdir()
            labels, predicted = answer(np.random.default_rng(seed), kind)
            pd.DataFrame(
                {"text": [str(k) for k in range(len(labels))], "label": labels, "predicted": predicted}
            ).to_csv(folder / run / "predictions.csv", index=False)
            (folder / run / "metrics.json").write_text(json.dumps({"parameters": {"task": task}}))
            table.append(
                {
                    "run_id": run,
                    "kind": kind,
                    "seed": seed,
                    "status": "completed",
                    "seconds": 1.0,
                    "error": "",
                }
            )
    return pd.DataFrame(table)


def with_scores(table, folder, columns):
    for split in ("validation", "test"):
        for name, of_answers in columns.items():
            values = [
                of_answers(
                    *pd.read_csv(folder / run / "predictions.csv", dtype=str, keep_default_na=False)[
                        ["label", "predicted"]
                    ].T.to_numpy()
                )
                for run in table["run_id"]
            ]
            table.insert(len(table.columns) - 2, f"{split}_{name}", values)
    return table


def test_regression_is_compared_by_correlation_and_by_error(tmp_path):
    def answer(rng, kind):
        labels = rng.normal(0, 2, 150)
        return labels, labels + rng.normal(0, 1.5, 150) * (
            1 if kind == "a" else 0.5
        )  # b: the same errors, half as large

    def mae(labels, predicted):
        return np.abs(labels.astype(float) - predicted.astype(float)).mean()

    def pearson(labels, predicted):
        return np.corrcoef(labels.astype(float), predicted.astype(float))[0, 1]

    table = with_scores(
        task_leaderboard(tmp_path, "regression", answer), tmp_path, {"pearson": pearson, "mae": mae}
    )
    for score, sign in (("pearson", 1), ("mae", -1)):
        summary = compare_runs(table, tmp_path, score=score).set_index("kind")
        means = table.groupby("kind")[f"test_{score}"].mean()
        assert list(summary.index) == ["b", "a"]
        assert summary.loc["b", "verdict"] == "better"
        gain = summary.loc["b", f"test_{score}_gain"]
        assert gain == pytest.approx(sign * (means["b"] - means["a"]), rel=1e-6)
        assert 0 < summary.loc["b", "gain_rows_low"] < gain < summary.loc["b", "gain_rows_high"]
    assert compare_runs(table, tmp_path).equals(compare_runs(table, tmp_path, score="pearson"))
    assert "error smaller by +0." in write_summary(table, tmp_path, score="mae")


def test_labels_joined_by_bars_are_compared_label_by_label(tmp_path):
    names = np.array(["art", "sport", "war"])

    def joined(cells):
        return ["|".join(names[row]) for row in cells]

    def answer(rng, kind):
        cells = rng.random((400, 3)) < 0.4
        wrong = rng.random((400, 3)) < 0.2
        return joined(cells), joined(cells ^ (wrong if kind == "a" else wrong & (rng.random((400, 3)) < 0.5)))

    def cells_of(column):
        return np.array([[name in str(cell).split("|") for name in names] for cell in column])

    def score(name):
        return lambda labels, predicted: metrics.score(cells_of(labels), cells_of(predicted), "multi_label")[
            name
        ]

    table = with_scores(
        task_leaderboard(tmp_path, "multi_label", answer),
        tmp_path,
        {name: score(name) for name in ("accuracy", "f1_macro")},
    )
    for name in ("accuracy", "f1_macro"):
        summary = compare_runs(table, tmp_path, score=name).set_index("kind")
        means = table.groupby("kind")[f"test_{name}"].mean()
        assert summary.loc["b", f"test_{name}_gain"] == pytest.approx(means["b"] - means["a"], abs=1e-9)
        assert summary.loc["b", "verdict"] == "better"


def test_the_summary_says_what_was_chosen_and_whether_its_lead_is_luck(tmp_path):
    table = leaderboard_of(
        tmp_path, {1: [0.80, 0.81, 0.80], 2: [0.85, 0.86, 0.86], 3: [0.848, 0.86, 0.858], 9: [0.5]}
    )
    table.loc[9, ["status", "validation_f1_macro", "error"]] = ["failed", np.nan, "ValueError: no"]
    assert write_summary(table, tmp_path).splitlines() == [
        "Best by validation f1_macro: rate 2",
        "  validation 0.857 ± 0.006, test 0.857 ± 0.006 (3 seeds, mean ± standard deviation)",
        *write_summary(table, tmp_path).splitlines()[2:4],
        "11 seconds a run (10 to 12); 1 of 10 failed",
    ]
    second, first = write_summary(table, tmp_path).splitlines()[2:4]
    assert second.startswith(
        "  against the runner-up, rate 3: not distinguishable "
        "(test f1_macro gain +0.001, 95% interval by rows "
    )
    assert first.startswith("  against the baseline, rate 1: better (test f1_macro gain +0.05")
    written = pd.read_csv(tmp_path / "summary.csv")
    pd.testing.assert_frame_equal(written, compare_runs(table, tmp_path), check_dtype=False)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "cost.png",
        "sweep_rate.png",
    ]  # and nothing half-written


@pytest.mark.parametrize("cell", ["=1+1", "+me.csv", "-x", "@ours/data.csv", "'=3"])
def test_the_summary_holds_no_formulas_and_nothing_else_is_changed(tmp_path, cell):
    table = leaderboard_of(tmp_path, {1: [0.8, 0.8], 2: [0.9, 0.9]})
    table.insert(1, "data_file", [cell, cell, "it's -1 = plain", "it's -1 = plain"])
    table.insert(1, "@column", [-1.5, -1.5, 2.0, 2.0])
    write_summary(table, tmp_path)
    raw = pd.read_csv(tmp_path / "summary.csv", dtype=str, keep_default_na=False)
    assert raw["data_file"].tolist() == ["it's -1 = plain", f"'{cell}"]
    assert raw["'@column"].tolist() == ["2.0", "-1.5"]
    formulas = [
        each
        for each in [*raw.columns, *raw.to_numpy().ravel()]
        if each.startswith(("=", "+", "@")) or each[:2] == "-x"
    ]
    assert formulas == []
    back = pd.read_csv(tmp_path / "summary.csv").map(unquote_formula).rename(columns=unquote_formula)
    pd.testing.assert_frame_equal(back, compare_runs(table, tmp_path), check_dtype=False)


def test_the_summary_of_one_seed_promises_nothing(tmp_path):
    table = leaderboard_of(tmp_path, {1: [0.8], 2: [0.9]})
    said = write_summary(table, tmp_path, baseline={"rate": 1})
    assert "(one seed: its luck is not known)" in said
    assert "against the runner-up, rate 1: one seed: cannot tell (test f1_macro gain +0.1" in said
    assert "±" not in said
    assert "better" not in said


def test_no_scores_no_summary(tmp_path):
    table = leaderboard_of(tmp_path, {1: [0.8], 2: [0.9]})
    before = sorted(tmp_path.rglob("*"))
    for nothing in (
        table.assign(validation_f1_macro=np.nan),
        table[[c for c in table if "_" not in c or c == "run_id"]],
        table.head(0),
    ):
        assert write_summary(nothing, tmp_path) == ""
    assert sorted(tmp_path.rglob("*")) == before
