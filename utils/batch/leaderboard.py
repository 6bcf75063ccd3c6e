"""What a sweep has shown: runs summed up over seeds and compared with a baseline, from their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from utils import atomic_path, quote_formula, read_json
from utils.batch import figures
from utils.batch.figures import deciding_score, settings_in_words, short_value
from utils.batch.plan import SCORE_COLUMNS, unknown_name
from utils.metrics import bootstrap_interval
from utils.plots import save

ANSWERS = ["text", "label", "predicted"]  # of predictions.csv


class LeaderboardError(ValueError):
    """A leaderboard that cannot be summed up, or a baseline that is not in it."""


def task_of(metrics: Mapping[str, Any]) -> str:
    """Return the task of a run, from its metrics.json."""
    return metrics.get("parameters", {}).get("task", "single_label")


def predictions_of(folder: Path) -> pd.DataFrame:
    """Return the texts, labels and predictions of a run's test rows; no rows if it has not written them."""
    try:
        path = folder / "predictions.csv"
        return pd.read_csv(path, dtype=str, keep_default_na=False, usecols=ANSWERS)[ANSWERS]
    except (OSError, ValueError):  # no such file, or not one of ours
        return pd.DataFrame(columns=ANSWERS, dtype=str)


def varied(leaderboard: pd.DataFrame) -> list[str]:
    """Return the parameters that have more than one value in the leaderboard."""
    return [name for name in _parameters(leaderboard) if leaderboard[name].map(short_value).nunique() > 1]


def _parameters(leaderboard: pd.DataFrame) -> list[str]:
    return list(leaderboard.columns[1 : leaderboard.columns.get_loc("status")])


def compare_runs(
    leaderboard: pd.DataFrame,
    output_dir: str | Path,
    baseline: Mapping[str, Any] | None = None,
    score: str | None = None,
) -> pd.DataFrame:
    """Sum up a leaderboard over seeds, and say which configurations differ from a baseline by more than luck.

    Runs that differ in `seed` only are one configuration. Each run is compared with the baseline's of the
    same seed, on the same test rows. There are two kinds of luck. That of the test rows: the
    `bootstrap_interval` of the difference, its ends averaged over the seeds, for more seeds do not make it
    narrower. It is right where all seeds share a test file, and cautious where each seed splits the table
    anew. That of training: Student's interval of the mean of the seeds' differences, which with two seeds is
    very wide. `better` and `worse` mean that both exclude zero. Of many configurations one in forty looks
    better by chance all the same: confirm the winner with new seeds.

    Args:
        leaderboard: what `run_batch` returned, or leaderboard.csv, read and `.map(utils.unquote_formula)`.
        output_dir: the folder of the batch.
        baseline: the parameters that pick the baseline, such as {"learning_rate": 5e-5}. None: the first.
        score: accuracy, f1_macro, pearson or mae; None means f1_macro, or pearson where there is no f1_macro.

    Returns:
        One row a configuration, the best by validation score first (`best`): the parameters that differ;
        seeds (completed runs) and failed; of scores and seconds the mean and standard deviation over seeds,
        such as `validation_f1_macro_mean`; `test_<score>_gain` over the baseline (for mae: how much smaller
        the error is) with its two 95% intervals `gain_rows_low`, `gain_rows_high`, `gain_seeds_low` and
        `gain_seeds_high`; `verdict`: baseline, better, worse, not distinguishable, or why there is no
        telling.

    Raises:
        LeaderboardError: there are no scores, or the baseline is not one configuration.
    """
    score = score or deciding_score(leaderboard)
    if not _has(leaderboard, score):
        reason = "no run has completed, or the notebook writes no metrics.json"
        raise LeaderboardError(f"the leaderboard has no validation_{score}: {reason}")
    groups = [name for name in varied(leaderboard) if name != "seed"]
    keys = leaderboard.apply(lambda run: settings_in_words(run[groups]), axis=1)
    configurations = [runs for _, runs in leaderboard.groupby(keys, sort=False)]
    reference = _baseline(configurations, groups, baseline)
    columns = [*(column for column in SCORE_COLUMNS if column in leaderboard), "seconds"]
    means = [f"{column}_{statistic}" for column in columns for statistic in ("mean", "std")]
    rows = []
    for runs in configurations:
        done = runs[runs["status"] == "completed"]
        row = {name: runs[name].iloc[0] for name in groups}  # not runs.iloc[0]: 16 might become 16.0
        row |= {"seeds": len(done), "failed": int((runs["status"] == "failed").sum())}
        for column in columns:
            row |= {f"{column}_mean": done[column].mean(), f"{column}_std": done[column].std()}
        same = runs is reference
        row |= {"verdict": "baseline"} if same else _gain(done, reference, Path(output_dir), score)
        rows.append(row)
    gains = [f"test_{score}_gain", "gain_rows_low", "gain_rows_high", "gain_seeds_low", "gain_seeds_high"]
    table = pd.DataFrame(rows, columns=[*groups, "seeds", "failed", *means, *gains, "verdict"])
    order = {"ascending": score == "mae", "kind": "stable", "ignore_index": True}
    table = table.sort_values(f"validation_{score}_mean", **order)
    table.insert(len(groups), "best", table.index == 0)
    return table


def _has(leaderboard: pd.DataFrame, score: str) -> bool:
    return f"validation_{score}" in leaderboard and leaderboard[f"validation_{score}"].notna().any()


def _baseline(configurations: list[pd.DataFrame], groups: list[str], baseline: Mapping | None):
    """Return the runs of the configuration that the baseline's parameters pick."""
    if not baseline:
        return configurations[0]
    names = _parameters(configurations[0])
    if unknown := [name for name in baseline if name not in names]:
        raise LeaderboardError(f"baseline: {unknown_name('parameter', unknown[0], names)}")
    matches = [runs for runs in configurations if _with(runs.head(1), baseline).any()]
    if len(matches) != 1:
        hint = f"name the values of {', '.join(groups) or 'a parameter'} that single one out"
        raise LeaderboardError(f"baseline {baseline} fits {len(matches)} configurations; {hint}")
    return matches[0]


def _with(leaderboard: pd.DataFrame, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return which runs have these parameters, shape (runs,); 3 is 3.0, as a column of 3 and None is read."""
    fits = np.ones(len(leaderboard), dtype=bool)
    for name, value in parameters.items():
        fits &= [short_value(each) == short_value(value) or each == value for each in leaderboard[name]]
    return fits


def answers_of(columns: list[pd.Series], score: str, metrics: Mapping[str, Any]) -> list:
    """Return columns of `predictions_of` as `bootstrap_interval` takes them, by the score and the record."""
    if score in ("pearson", "mae"):
        return [column.astype(float) for column in columns]
    if task_of(metrics) != "multi_label":
        return columns
    # pandas 3 takes no label for a label called "".
    cells = pd.concat(columns).str.get_dummies("|").drop(columns="", errors="ignore")
    return np.split(cells.to_numpy(), len(columns))


def _gain(runs: pd.DataFrame, baseline: pd.DataFrame, folder: Path, score: str) -> dict:
    """Return the gain of a configuration's completed runs over the baseline, and what it is worth."""
    gains = []
    baseline = baseline[baseline["status"] == "completed"]
    for _, run in runs.iterrows():
        same = baseline[baseline["seed"] == run["seed"]] if "seed" in baseline else baseline
        if len(same) != 1:
            continue
        ours, theirs = (predictions_of(folder / each) for each in (run["run_id"], same["run_id"].iloc[0]))
        if not len(ours) or not len(theirs):
            continue
        if not ours[["text", "label"]].equals(theirs[["text", "label"]]):
            return {"verdict": "other test rows"}
        answers = [ours["label"], ours["predicted"], theirs["predicted"]]
        answers = answers_of(answers, score, read_json(folder / run["run_id"] / "metrics.json"))
        # More resamples would take seconds a run, and change the third digit.
        gains.append(bootstrap_interval(score, *answers, resamples=2000))
    if not gains:
        return {"verdict": "nothing to compare"}
    gain, rows_low, rows_high = np.mean(gains, axis=0)
    row = {f"test_{score}_gain": gain, "gain_rows_low": rows_low, "gain_rows_high": rows_high}
    if len(gains) == 1:
        return row | {"verdict": "one seed: cannot tell"}
    half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem([each[0] for each in gains])
    low, high = min(rows_low, gain - half), max(rows_high, gain + half)
    verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
    return row | {"gain_seeds_low": gain - half, "gain_seeds_high": gain + half, "verdict": verdict}


def write_summary(
    leaderboard: pd.DataFrame,
    output_dir: str | Path,
    baseline: Mapping[str, Any] | None = None,
    score: str | None = None,
) -> str:
    """Write summary.csv (the table of `compare_runs`) and figures/*.png into the folder of the batch.

    Cells and names that a spreadsheet would run as formulas are quoted (`utils.quote_formula`). The arguments
    and errors are those of `compare_runs`.

    Returns:
        A few lines for the terminal: the configuration that the validation score chooses, its test score,
        whether its lead over the next and over the baseline is more than luck, and what a run costs. Without
        any score: an empty text, and nothing is written.
    """
    output_dir = Path(output_dir)
    score = score or deciding_score(leaderboard)
    if not _has(leaderboard, score):
        return ""
    table = compare_runs(leaderboard, output_dir, baseline, score)
    with atomic_path(output_dir / "summary.csv") as partial:
        table.map(quote_formula).rename(columns=quote_formula).to_csv(partial, index=False)
    names = [name for name in varied(leaderboard) if name != "seed"]
    for name in names:
        by = next(other for other in names if other != name) if len(names) == 2 else None
        figure = figures.sweep_scores(leaderboard, name, score, by)
        save(figure, output_dir / "figures" / f"sweep_{name}.png")
    save(figures.score_against_cost(table, score), output_dir / "figures" / "cost.png")
    return _in_words(leaderboard, table, names, output_dir, score)


def _in_words(board: pd.DataFrame, table: pd.DataFrame, names: list[str], folder: Path, score: str) -> str:
    def settings(row):
        return settings_in_words(row[names]) or "the only configuration"

    best = table.iloc[0]
    seeds = "one seed: its luck is not known"
    if best["seeds"] > 1:
        seeds = f"{best['seeds']} seeds, mean ± standard deviation"
    seeds += f"; {best['failed']} failed" if best["failed"] else ""
    means = f"validation {_mean(best, f'validation_{score}')}, test {_mean(best, f'test_{score}')}"
    lines = [f"Best by validation {score}: {settings(best)}", f"  {means} ({seeds})"]
    scored = table[table[f"validation_{score}_mean"].notna()]
    if len(scored) > 1:
        second, lead = scored.iloc[1], best
        if second["verdict"] != "baseline":  # otherwise they are compared already
            pair = board[_with(board, best[names]) | _with(board, second[names])]
            lead = compare_runs(pair, folder, dict(second[names]), score).iloc[0]
        lines.append(f"  against the runner-up, {settings(second)}: {_lead(lead, score)}")
        if best["verdict"] != "baseline" and second["verdict"] != "baseline":
            first = table[table["verdict"] == "baseline"].iloc[0]
            lines.append(f"  against the baseline, {settings(first)}: {_lead(best, score)}")
    seconds = board.loc[board["status"] == "completed", "seconds"]
    failed = int((board["status"] == "failed").sum())
    cost = f"{seconds.mean():.0f} seconds a run ({seconds.min():.0f} to {seconds.max():.0f})"
    lines.append(cost + (f"; {failed} of {len(board)} failed" if failed else ""))
    return "\n".join(lines)


def _mean(row: pd.Series, column: str) -> str:
    mean, std = row.get(f"{column}_mean", np.nan), row.get(f"{column}_std", np.nan)
    if np.isnan(mean):
        return "not known"
    return f"{mean:.3f}" + ("" if np.isnan(std) else f" ± {std:.3f}")


def _lead(row: pd.Series, score: str) -> str:
    gain = row[f"test_{score}_gain"]
    if np.isnan(gain):
        return row["verdict"]
    kind = "error smaller by" if score == "mae" else "gain"
    rows = f"95% interval by rows {row['gain_rows_low']:+.3f} to {row['gain_rows_high']:+.3f}"
    seeds = f", by seeds {row['gain_seeds_low']:+.3f} to {row['gain_seeds_high']:+.3f}"
    seeds = "" if np.isnan(row["gain_seeds_low"]) else seeds
    return f"{row['verdict']} (test {score} {kind} {gain:+.3f}, {rows}{seeds})"
