"""What twice as many labels would bring: `python -m utils.batch.forecast runs/curve/leaderboard.csv`."""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import optimize, special, stats

from utils import read_json, unquote_formula
from utils.batch.figures import SCORE_WORDS, deciding_score
from utils.batch.leaderboard import LeaderboardError, as_arrays, predictions_of, task_of, varied
from utils.metrics import bootstrap_interval
from utils.plots import BLUE, ORANGE, finish, save
from utils.runs import display_path

SIZE = "max_train_samples"
POWERS = np.linspace(-0.5, 1, 7)  # of the curve: 0 is a straight line over log size, 1 soon levels off
FALLS = (0, 0.5, 1, 1.5, 2)  # powers of the size by which the variance between runs falls


def forecast(
    sizes: Sequence[float], scores: Sequence[float], size: float, level: float = 0.9, rows_error: float = 0.0
) -> tuple[float, float, float]:
    """Return the score of one more run, with `size` training rows: the median, low and high.

    Of runs with `sizes` rows the `scores`, shape (runs,), are a - b * size**-power and luck, whose variance
    falls with the size. For each power and fall there is Student's prediction interval of a weighted line;
    they are averaged, each weighing as much as it makes these scores likely (Bayesian model averaging with
    flat priors, Hoeting et al. 1999; power laws: Hestness et al. 2017, Deep Learning Scaling is Predictable).
    `rows_error` is a standard error to add, of what is the same luck in all runs.
    """
    sizes, scores = np.asarray(sizes, float), np.asarray(scores, float)
    free, least, most, terms = len(sizes) - 2, sizes.min(), sizes.max(), []
    for power, fall in product(POWERS, FALLS):
        first, last, ours, there = (special.boxcox(n, -power) for n in (least, most, sizes, size))
        table = np.column_stack([np.ones(len(sizes)), (ours - last) / (last - first)])
        at, weights = np.array([1, (there - last) / (last - first)]), (sizes / most) ** fall
        spread = np.linalg.inv(table.T @ (table * weights[:, None]))
        line = spread @ table.T @ (weights * scores)
        rest = max(weights @ (scores - table @ line) ** 2, 1e-12)
        likely = (np.log(weights).sum() + np.linalg.slogdet(spread)[1] - free * np.log(rest)) / 2
        error = rest / free * (at @ spread @ at + (most / size) ** fall)
        terms.append((likely, at @ line, np.sqrt(error + rows_error**2)))
    likely, middle, error = np.array(terms).T
    shares, reach = special.softmax(likely), 1000 * error.max()

    def found(share: float) -> float:
        def over(score: float) -> float:
            return shares @ stats.t.cdf((score - middle) / error, free) - share

        return float(optimize.brentq(over, middle.min() - reach, middle.max() + reach))

    return found(0.5), found((1 - level) / 2), found((1 + level) / 2)


def read_curve(file: str | Path, score: str | None = None) -> tuple[pd.DataFrame, str, float]:
    """Return a sweep's completed runs as `size` and `score`, the score's name, and the error of shared rows.

    `size` is what a run has trained on, as its metrics.json says, else `max_train_samples`. With a test_file
    all runs have the same test rows; their luck, as bootstrapped, is then the error: else 0, for it is in the
    scores already.

    Raises:
        LeaderboardError: no leaderboard, other parameters that vary, under three sizes with two runs each.
    """
    path = Path(file).expanduser()
    path = path / "leaderboard.csv" if path.is_dir() else path
    try:
        board = pd.read_csv(path).map(unquote_formula).rename(columns=unquote_formula)
    except (OSError, ValueError) as error:
        raise LeaderboardError(f"{path} cannot be read as a leaderboard ({error}).") from None
    if missing := {"run_id", SIZE, "status", "error"} - set(board):
        fix = f"Give the leaderboard.csv of a sweep whose grid varies {SIZE} and seed"
        raise LeaderboardError(f"{path.name} has no column {', '.join(sorted(missing))}. {fix}.")
    if others := [name for name in varied(board) if name not in (SIZE, "seed", "fold")]:
        fault = f"The runs differ in {', '.join(others)}, too"
        raise LeaderboardError(f"{fault}. Forecast one setting at a time.")
    score = score or deciding_score(board)
    if f"test_{score}" not in board:
        known = ", ".join(name[5:] for name in board if name.startswith("test_"))
        raise LeaderboardError(f"The leaderboard has no test_{score}. There are: {known or 'none'}.")
    board = board[(board["status"] == "completed") & board[f"test_{score}"].notna()]
    records = [read_json(path.parent / str(run) / "metrics.json") for run in board["run_id"]]
    trained = [record.get("data", {}).get("train_rows") for record in records]
    runs = pd.DataFrame({"run_id": board["run_id"], "score": board[f"test_{score}"].astype(float)})
    runs["size"] = pd.Series(trained, board.index, dtype=float).fillna(board[SIZE].astype(float))
    seeds = runs["size"].value_counts()
    if len(seeds) < 3 or len(runs) < 2 * len(seeds):
        found = ", ".join(f"{size:,.0f} rows {count}x" for size, count in seeds.sort_index().items())
        fault = "A forecast takes three sizes or more, with two seeds each"
        raise LeaderboardError(f"{fault}. There are: {found or 'none'}.")
    error = 0.0
    if any(record.get("parameters", {}).get("test_file") for record in records):
        answers = predictions_of(path.parent / runs.loc[runs["size"].idxmax(), "run_id"])
        if len(answers):
            task = "regression" if score in ("pearson", "mae") else task_of(records[0])
            given = as_arrays([answers["label"], answers["predicted"]], task)
            error = np.ptp(bootstrap_interval(score, *given, resamples=2000)[1:]) / (
                2 * stats.norm.ppf(0.975)
            )
    return runs.drop(columns="run_id"), score, float(error)


def draw(runs: pd.DataFrame, score: str, size: float, error: float) -> Figure:
    """Draw the runs and, up to `size` rows, the forecast with its 90% interval."""
    title, axis = SCORE_WORDS.get(score, (score, f"{score} (0 to 1)"))
    sizes = np.geomspace(runs["size"].min(), size, 20)
    middle, low, high = np.array([forecast(runs["size"], runs["score"], at, 0.9, error) for at in sizes]).T
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    axes.fill_between(sizes, low, high, color=ORANGE, alpha=0.25, label="90% of runs")
    axes.plot(sizes, middle, "--", color=ORANGE, label="forecast")
    axes.plot(runs["size"], runs["score"], "o", color=BLUE, fillstyle="none", label="one run")
    axes.set(
        title=f"Test {title} by training rows", xlabel="training rows, log scale", ylabel=axis, xscale="log"
    )
    ticks = [*sorted(runs["size"].unique()), size]
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=30, ha="right")
    axes.minorticks_off()
    axes.legend(fontsize="small")
    return finish(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    about = "Forecast the test score with more training rows from a sweep over max_train_samples by seed."
    parser = argparse.ArgumentParser(prog="python -m utils.batch.forecast", description=about)
    add = parser.add_argument
    add("leaderboard", help="leaderboard.csv of the sweep; the figure goes into figures/ beside it")
    add("--score", help="accuracy, f1_macro, pearson or mae (default: f1_macro, else pearson)")
    add("--times", type=float, default=2, help="times the most rows so far (default: %(default)s)")
    given = parser.parse_args(arguments)
    if not 1 <= given.times <= 4:
        parser.error("--times must be from 1 to 4: nobody knows how a curve goes on beyond")
    try:
        runs, score, error = read_curve(given.leaderboard, given.score)
    except LeaderboardError as fault:
        sys.exit(str(fault))
    most = runs["size"].max()
    ends = forecast(runs["size"], runs["score"], given.times * most, rows_error=error)
    middle, low, high = np.minimum(ends, np.inf if score == "mae" else 1)
    now = runs.loc[runs["size"] == most, "score"]
    print(f"Test {score} with {most:,.0f} training rows: {now.mean():.3f}, the mean of {len(now)} runs.")
    print(
        f"With {given.times:g} times as many: {middle:.3f}, 90% interval {low:.3f} to {high:.3f} for one run."
    )
    print("The luck of its seed and of its test rows is in the interval.")
    if low <= now.mean() <= high:
        print("It holds today's score: these runs cannot promise that more labels will help.")
    place = Path(given.leaderboard).expanduser()
    target = (place if place.is_dir() else place.parent) / "figures" / "forecast.png"
    save(draw(runs, score, given.times * most, error), target)
    print(f"{display_path(target)} shows it.")


if __name__ == "__main__":
    main()
