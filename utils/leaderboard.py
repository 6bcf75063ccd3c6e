"""What a sweep has shown: runs summed up over seeds, and compared with a baseline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from utils.metrics import accuracy_gain_interval

SCORE_COLUMNS = tuple(f"{split}_{score}" for split in ("validation", "test") for score in ("accuracy", "f1_macro", "pearson", "mae"))


class LeaderboardError(ValueError):
    """A leaderboard that cannot be summed up, or a baseline that is not in it."""


def compare_runs(leaderboard: pd.DataFrame, output_dir: str | Path, baseline: Mapping[str, Any] | None = None, score: str | None = None) -> pd.DataFrame:
    """Sum up a leaderboard over seeds, and say which configurations differ from a baseline by more than luck.

    Runs that differ in `seed` only are one configuration. Each seed's run is compared with the baseline's run of the same seed, on the same test
    rows (predictions.csv), and two kinds of luck are looked at separately. Of the test rows: the interval of `accuracy_gain_interval`, its ends
    averaged over the seeds; more seeds do not make it narrower, because their test rows are largely the same ones. Of training: Student's interval
    of the mean of the seeds' differences, which needs at least two. `better` and `worse` are said only where both exclude zero. With many
    configurations, one in forty looks better by chance all the same: confirm the winner with new seeds.

    Args:
        leaderboard: what `run_batch` returned, or leaderboard.csv.
        output_dir: the folder of the batch.
        baseline: the parameters that pick the baseline configuration, such as {"learning_rate": 5e-5}. None means the first of the sweep.
        score: what decides which is best, on the validation split; None means f1_macro, or pearson where there is no f1_macro.

    Returns:
        One row a configuration, the best by validation score first (`best`), with seeds, failed, means and standard deviations over seeds
        (of one seed: nan), seconds, and the accuracy's gain over the baseline in `gain`, `rows_low`, `rows_high`, `seeds_low`, `seeds_high`, `verdict`.

    Raises:
        LeaderboardError: there are no scores, or the baseline is not one configuration.
    """
    score = score or ("f1_macro" if "validation_f1_macro" in leaderboard else "pearson")
    if f"validation_{score}" not in leaderboard:
        raise LeaderboardError(f"the leaderboard has no validation_{score}: no run has completed, or the notebook writes no metrics.json")
    names = list(leaderboard.columns[1 : list(leaderboard.columns).index("status")])
    groups = [name for name in names if name != "seed" and leaderboard[name].astype(str).nunique() > 1]
    keys = leaderboard[groups].astype(str).apply(tuple, axis=1) if groups else pd.Series([()] * len(leaderboard), index=leaderboard.index)
    configurations = [leaderboard[keys == key] for key in dict.fromkeys(keys)]
    wanted = baseline or configurations[0][groups].iloc[0].to_dict()
    if unknown := [name for name in wanted if name not in names]:
        raise LeaderboardError(f"baseline: there is no parameter {unknown[0]!r}; there are {', '.join(names)}")
    matches = [each for each in configurations if all(str(each[name].iloc[0]) == str(value) for name, value in wanted.items())]
    if len(matches) != 1:
        raise LeaderboardError(
            f"baseline {wanted} fits {len(matches)} configurations; name the values of {', '.join(groups) or 'a parameter'} that single one out"
        )
    rows = []
    for each in configurations:
        done = each[each["status"] == "completed"]
        row = each[groups].iloc[0].to_dict() | {"seeds": len(done), "failed": int((each["status"] == "failed").sum())}
        for column in [column for column in SCORE_COLUMNS if column in leaderboard]:
            row |= {f"{column}_mean": done[column].mean(), f"{column}_std": done[column].std()}
        row |= {"seconds": done["seconds"].mean()}
        rows.append(row | (_gain(done, matches[0], Path(output_dir)) if each is not matches[0] else {"verdict": "baseline"}))
    table = pd.DataFrame(rows).sort_values(f"validation_{score}_mean", ascending=score == "mae", kind="stable", ignore_index=True)
    table.insert(len(groups), "best", table.index == 0)
    return table


def _gain(runs: pd.DataFrame, baseline: pd.DataFrame, output_dir: Path) -> dict[str, Any]:
    def predictions(run):
        return pd.read_csv(output_dir / run["run_id"] / "predictions.csv", dtype=str, keep_default_na=False)

    intervals = []
    for _, run in runs.iterrows():
        same = baseline[(baseline["status"] == "completed") & (baseline["seed"] == run["seed"] if "seed" in baseline else True)]
        if len(same) != 1 or "test_accuracy" not in runs:
            continue
        try:
            ours, theirs = predictions(run), predictions(same.iloc[0])
        except (OSError, ValueError):
            continue
        if not ours[["text", "label"]].equals(theirs[["text", "label"]]):
            return {"verdict": "other test rows"}
        intervals.append(accuracy_gain_interval(ours["label"], ours["predicted"], theirs["predicted"]))
    if not intervals:
        return {"verdict": "nothing to compare"}
    gains = np.array(intervals)
    gain, rows_low, rows_high = gains.mean(axis=0)
    found = {"gain": gain, "rows_low": rows_low, "rows_high": rows_high}
    if len(gains) == 1:
        return found | {"verdict": "one seed: cannot tell"}
    half = stats.t.ppf(0.975, len(gains) - 1) * gains[:, 0].std(ddof=1) / np.sqrt(len(gains))
    low, high = min(rows_low, gain - half), max(rows_high, gain + half)
    verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
    return found | {"seeds_low": gain - half, "seeds_high": gain + half, "verdict": verdict}
