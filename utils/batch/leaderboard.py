"""What a sweep has shown: runs summed up over seeds, compared with a baseline, and drawn. It needs the runs' files only, and no Dask."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from utils import atomic_path, quote_formula, unquote_formula
from utils.batch.figures import (
    deciding_score,
    score_against_cost,
    settings_in_words,
    short_value,
    sweep_scores,
)
from utils.batch.plan import SCORE_COLUMNS
from utils.metrics import bootstrap_interval
from utils.plots import save
from utils.runs import read_json, saved_checkpoints


class LeaderboardError(ValueError):
    """A leaderboard that cannot be summed up, or a baseline that is not in it."""


class RunFiles(NamedTuple):
    """What a run folder holds of interest after the run; empty where a file is missing, as in a run that failed."""

    task: str
    history: list[dict]  # trainer.state.log_history
    labels: list[str]  # of the test rows, as in predictions.csv
    predicted: list[str]


def read_run(folder: str | Path) -> RunFiles:
    """Read the files of one run. The history comes from metrics.json, or from the newest checkpoint where it is not in there."""
    folder = Path(folder)
    metrics = read_json(folder / "metrics.json")
    states = [
        state
        for checkpoint in saved_checkpoints(folder / "checkpoints")
        if (state := checkpoint / "trainer_state.json").exists()
    ]
    history = metrics.get("history") or (read_json(states[-1]).get("log_history", []) if states else [])
    rows = _predictions(folder).map(unquote_formula)
    return RunFiles(_task(metrics), history, rows["label"].tolist(), rows["predicted"].tolist())


def _task(metrics: Mapping[str, Any]) -> str:
    return metrics.get("parameters", {}).get("task", "single_label")


def _predictions(folder: Path) -> pd.DataFrame:
    columns = ["text", "label", "predicted"]
    try:
        return pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False, usecols=columns)[
            columns
        ]
    except (OSError, ValueError):  # no such file, or not one of ours
        return pd.DataFrame(columns=columns, dtype=str)


def varied(leaderboard: pd.DataFrame) -> list[str]:
    """Return the parameters that have more than one value in the leaderboard."""
    return [name for name in _parameters(leaderboard) if leaderboard[name].map(short_value).nunique() > 1]


def _parameters(leaderboard: pd.DataFrame) -> list[str]:
    return list(leaderboard.columns[1 : list(leaderboard.columns).index("status")])


def run_names(leaderboard: pd.DataFrame) -> dict[str, str]:
    """Return a readable name for each run_id: the parameters in which the runs differ, such as "learning_rate 5e-05, seed 1"."""
    names = varied(leaderboard)
    return {
        row["run_id"]: settings_in_words({name: row[name] for name in names}) or row["run_id"]
        for _, row in leaderboard.iterrows()
    }


def compare_runs(
    leaderboard: pd.DataFrame,
    output_dir: str | Path,
    baseline: Mapping[str, Any] | None = None,
    score: str | None = None,
) -> pd.DataFrame:
    """Sum up a leaderboard over seeds, and say which configurations differ from a baseline by more than luck.

    Runs that differ in `seed` only are one configuration. Each seed's run is compared with the baseline's run of the same seed, on the same test
    rows (predictions.csv), and two kinds of luck are looked at separately. Of the test rows: the interval of `bootstrap_interval` for the difference,
    its ends averaged over the seeds; more seeds do not make it narrower. That is right where all seeds share a test file, and cautious where each
    seed splits the table anew, as 04_training does without one. Of training (and of such a split): Student's interval of the mean of the seeds'
    differences, which needs at least two and with two is very wide. `better` and `worse` are said only where both exclude zero. With many
    configurations, one in forty looks better by chance all the same: confirm the winner with new seeds.

    Args:
        leaderboard: what `run_batch` returned, or leaderboard.csv, read and `.map(utils.unquote_formula)`.
        output_dir: the folder of the batch.
        baseline: the parameters that pick the baseline configuration, such as {"learning_rate": 5e-5}. None means the first of the sweep.
        score: accuracy, f1_macro, pearson or mae. On the validation split it decides which is best, on the test split it is compared with the
            baseline's. None means f1_macro, or pearson where there is no f1_macro.

    Returns:
        One row a configuration, the best by validation score first (`best`): the parameters that differ; seeds (completed runs) and failed; of every
        score and of seconds mean and standard deviation over seeds (of one seed: nan), as `validation_f1_macro_mean` and so on; `test_<score>_gain`,
        how much better than the baseline (for mae: how much smaller the error); `gain_rows_low` to `gain_rows_high` and `gain_seeds_low` to
        `gain_seeds_high`, its two 95% intervals; `verdict`: baseline, better, worse, not distinguishable, or why there is no telling.

    Raises:
        LeaderboardError: there are no scores, or the baseline is not one configuration.
    """
    score = score or deciding_score(leaderboard)
    if not _has(leaderboard, score):
        raise LeaderboardError(
            f"the leaderboard has no validation_{score}: no run has completed, or the notebook writes no metrics.json"
        )
    names = _parameters(leaderboard)
    groups = [name for name in varied(leaderboard) if name != "seed"]
    keys = leaderboard.apply(lambda run: settings_in_words({name: run[name] for name in groups}), axis=1)
    configurations = [leaderboard[keys == key] for key in dict.fromkeys(keys)]
    wanted = baseline or {
        name: configurations[0][name].iloc[0] for name in groups
    }  # a row of numbers would turn 16 into 16.0
    if unknown := [name for name in wanted if name not in names]:
        raise LeaderboardError(
            f"baseline: there is no parameter {unknown[0]!r}; there are {', '.join(names)}"
        )
    matches = [each for each in configurations if len(_with(each.head(1), wanted))]
    if len(matches) != 1:
        raise LeaderboardError(
            f"baseline {wanted} fits {len(matches)} configurations; name the values of {', '.join(groups) or 'a parameter'} that single one out"
        )
    rows, predictions = (
        [],
        cache(lambda run_id: _predictions(Path(output_dir) / run_id)),
    )  # the baseline's are asked for again and again
    for each in configurations:
        done = each[each["status"] == "completed"]
        row = {name: each[name].iloc[0] for name in groups} | {
            "seeds": len(done),
            "failed": int((each["status"] == "failed").sum()),
        }
        for column in [*(column for column in SCORE_COLUMNS if column in leaderboard), "seconds"]:
            row |= {f"{column}_mean": done[column].mean(), f"{column}_std": done[column].std()}
        rows.append(
            row
            | (
                _gain(done, matches[0], Path(output_dir), score, predictions)
                if each is not matches[0]
                else {"verdict": "baseline"}
            )
        )
    scores = [column for column in rows[0] if column.endswith(("_mean", "_std")) and column not in groups]
    gains = [f"test_{score}_gain", "gain_rows_low", "gain_rows_high", "gain_seeds_low", "gain_seeds_high"]
    table = pd.DataFrame(rows, columns=[*groups, "seeds", "failed", *scores, *gains, "verdict"])
    table = table.sort_values(
        f"validation_{score}_mean", ascending=score == "mae", kind="stable", ignore_index=True
    )
    table.insert(len(groups), "best", table.index == 0)
    return table


def _with(leaderboard: pd.DataFrame, parameters: Mapping[str, Any]) -> pd.DataFrame:
    """Return the runs with these parameters; 3 and 3.0 are one, for a column of 3 and None is read as 3.0 and nan."""
    return leaderboard[
        [
            all(
                short_value(run[name]) == short_value(value) or run[name] == value
                for name, value in parameters.items()
            )
            for _, run in leaderboard.iterrows()
        ]
    ]


def _has(leaderboard: pd.DataFrame, score: str) -> bool:
    return f"validation_{score}" in leaderboard and leaderboard[f"validation_{score}"].notna().any()


def _gain(
    runs: pd.DataFrame,
    baseline: pd.DataFrame,
    output_dir: Path,
    score: str,
    predictions: Callable[[str], pd.DataFrame],
) -> dict[str, Any]:
    intervals = []
    for _, run in runs.iterrows():
        same = baseline[
            (baseline["status"] == "completed")
            & (baseline["seed"] == run["seed"] if "seed" in baseline else True)
        ]
        if len(same) != 1:
            continue
        ours, theirs = predictions(run["run_id"]), predictions(same.iloc[0]["run_id"])
        if not len(ours) or not len(theirs):
            continue
        if not ours[["text", "label"]].equals(theirs[["text", "label"]]):
            return {"verdict": "other test rows"}
        answers = [ours["label"], ours["predicted"], theirs["predicted"]]
        if score in ("pearson", "mae"):
            answers = [column.astype(float) for column in answers]
        elif _task(read_json(output_dir / run["run_id"] / "metrics.json")) == "multi_label":
            cells = (
                pd.concat(answers).str.get_dummies("|").drop(columns="", errors="ignore")
            )  # pandas 3 takes no label for a label called ""
            answers = np.split(cells.to_numpy(), 3)
        intervals.append(
            bootstrap_interval(score, *answers, resamples=2000)
        )  # more would take seconds a run, and change the third digit
    if not intervals:
        return {"verdict": "nothing to compare"}
    gains = np.array(intervals)
    gain, rows_low, rows_high = gains.mean(axis=0)
    found = {f"test_{score}_gain": gain, "gain_rows_low": rows_low, "gain_rows_high": rows_high}
    if len(gains) == 1:
        return found | {"verdict": "one seed: cannot tell"}
    half = stats.t.ppf(0.975, len(gains) - 1) * gains[:, 0].std(ddof=1) / np.sqrt(len(gains))
    low, high = min(rows_low, gain - half), max(rows_high, gain + half)
    verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
    return found | {"gain_seeds_low": gain - half, "gain_seeds_high": gain + half, "verdict": verdict}


def write_summary(
    leaderboard: pd.DataFrame,
    output_dir: str | Path,
    baseline: Mapping[str, Any] | None = None,
    score: str | None = None,
) -> str:
    """Write summary.csv (the table of `compare_runs`) and figures/*.png into the folder of the batch, each whole or not at all.

    Cells and names that a spreadsheet would run as formulas get an apostrophe in front; `utils.unquote_formula` takes it off.

    Args:
        as for `compare_runs`.

    Returns:
        A few lines for the terminal: which configuration the validation score chooses, what it gets on the test rows, whether its lead over the next and
        over the baseline is more than luck, and what a run costs. Without any score: an empty text, and nothing is written.

    Raises:
        LeaderboardError: the baseline is not one configuration.
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
        save(sweep_scores(leaderboard, name, score, by), output_dir / "figures" / f"sweep_{name}.png")
    save(score_against_cost(table, score), output_dir / "figures" / "cost.png")
    return _in_words(leaderboard, table, names, output_dir, score)


def _in_words(
    leaderboard: pd.DataFrame, table: pd.DataFrame, names: list[str], output_dir: Path, score: str
) -> str:
    def named(row):
        return settings_in_words({name: row[name] for name in names}) or "the only configuration"

    def mean(row, column):
        if np.isnan(row.get(f"{column}_mean", np.nan)):
            return "not known"
        return f"{row[f'{column}_mean']:.3f}" + (
            "" if np.isnan(row[f"{column}_std"]) else f" ± {row[f'{column}_std']:.3f}"
        )

    def lead(row):
        if np.isnan(row.get(f"test_{score}_gain", np.nan)):
            return row["verdict"]
        seeds = (
            ""
            if np.isnan(row.get("gain_seeds_low", np.nan))
            else f", by seeds {row['gain_seeds_low']:+.3f} to {row['gain_seeds_high']:+.3f}"
        )
        rows = f"95% interval by rows {row['gain_rows_low']:+.3f} to {row['gain_rows_high']:+.3f}"
        return f"{row['verdict']} (test {score} {'error smaller by' if score == 'mae' else 'gain'} {row[f'test_{score}_gain']:+.3f}, {rows}{seeds})"

    best = table.iloc[0]
    seeds = (
        f"{best['seeds']} seeds, mean ± standard deviation"
        if best["seeds"] > 1
        else "one seed: its luck is not known"
    )
    seeds += f"; {best['failed']} failed" if best["failed"] else ""
    lines = [
        f"Best by validation {score}: {named(best)}",
        f"  validation {mean(best, f'validation_{score}')}, test {mean(best, f'test_{score}')} ({seeds})",
    ]
    scored = table[table[f"validation_{score}_mean"].notna()]
    if len(scored) > 1:
        second = scored.iloc[1]
        both = [{name: row[name] for name in names} for row in (best, second)]
        if second["verdict"] == "baseline":
            against_second = best  # compared already
        else:
            against_second = compare_runs(
                pd.concat([_with(leaderboard, parameters) for parameters in both]), output_dir, both[1], score
            ).iloc[0]
        lines.append(f"  against the runner-up, {named(second)}: {lead(against_second)}")
        if best["verdict"] != "baseline" and second["verdict"] != "baseline":
            first = table[table["verdict"] == "baseline"].iloc[0]
            lines.append(f"  against the baseline, {named(first)}: {lead(best)}")
    seconds = leaderboard.loc[leaderboard["status"] == "completed", "seconds"]
    failed = int((leaderboard["status"] == "failed").sum())
    lines.append(
        f"{seconds.mean():.0f} seconds a run ({seconds.min():.0f} to {seconds.max():.0f})"
        + (f"; {failed} of {len(leaderboard)} failed" if failed else "")
    )
    return "\n".join(lines)
