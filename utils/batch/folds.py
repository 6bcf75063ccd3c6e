"""What the folds of a sweep over `fold` say together: `python -m utils.batch.folds FOLDER`.

Each row is a test row once, so these are out-of-fold predictions of the fine-tuned model.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from utils import atomic_path, quote_formula, read_json, unquote_formula
from utils.batch.figures import settings_in_words
from utils.batch.leaderboard import LeaderboardError, as_arrays
from utils.metrics import score, score_with_interval
from utils.parameters import NOT_IDENTITY


def read_folds(folder: Path) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return for each configuration of a sweep, by name, its task and predictions.csv of all folds.

    The rows have the order of the table, and the number of their `fold`. LeaderboardError: no run has a fold,
    a fold is missing, or the table has changed between the runs.
    """
    runs, tables = {}, {}
    for path in sorted(folder.glob("*/metrics.json")):
        settings = read_json(path).get("parameters", {})
        if (fold := settings.get("fold")) is not None:
            kept = {name: value for name, value in settings.items() if name not in (*NOT_IDENTITY, "fold")}
            runs.setdefault(json.dumps(kept), {})[fold] = path.with_name("predictions.csv")
    if not runs:
        raise LeaderboardError(f"{folder} has no finished run with a fold. Give the folder of such a sweep.")
    frame = pd.DataFrame(map(json.loads, runs), dtype=object)
    differ = [name for name in frame if frame[name].map(repr).nunique() > 1]
    for (_, settings), paths in zip(frame.iterrows(), runs.values(), strict=True):
        name = settings_in_words(settings[differ])
        if missing := sorted({*range(settings["folds"])} - {*paths}):
            which = f"{name or 'The sweep'} lacks fold {', '.join(map(str, missing))} of {settings['folds']}"
            raise LeaderboardError(f"{which}. The sweep's command, given again, runs what is missing.")
        parts = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths.values()]
        table = pd.concat(parts, keys=paths, names=["fold", None]).reset_index("fold").map(unquote_formula)
        table = table.sort_values("row", key=lambda row: row.astype(int), ignore_index=True)
        if (twice := table.loc[table["row"].duplicated(), "row"]).any():
            raise LeaderboardError(f"Row {twice.iloc[0]} is in two folds: the table changed between runs.")
        tables[name] = settings["task"], table
    return tables


def scores_in_words(table: pd.DataFrame, task: str) -> str:
    """Return each score over all rows, and its mean and standard deviation over the folds."""
    answers = [np.asarray(column) for column in as_arrays([table["label"], table["predicted"]], task)]
    places = table.groupby("fold").indices.values()
    folds = pd.DataFrame([score(*(column[rows] for column in answers), task) for rows in places])
    whole = score_with_interval(*answers, task)
    words = [
        f"{name} {whole[name]:.3f}, by fold {folds[name].mean():.3f} ± {folds[name].std():.3f}"
        for name in folds
    ]
    main = next(name for name in whole if name.endswith("_ci95"))
    low, high = whole[main]
    return f"{'; '.join(words)}; 95% interval of {main.removesuffix('_ci95')} {low:.3f} to {high:.3f}"


def suspicious(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose label is not what their fold's model believes most, least believed first.

    The columns are those of `utils.baselines.suspicious_labels`.
    """
    believed = table.filter(regex="^probability_").astype(float).fillna(0)
    names = believed.columns.str.removeprefix("probability_")
    own = believed.to_numpy()[table.index, names.get_indexer(table["label"])]
    suggested = names[believed.to_numpy().argmax(axis=1)]
    found = table[["row", "text", "label"]].assign(suggested=suggested, label_probability=own)
    found = found[found["suggested"] != found["label"]]
    return found.sort_values("label_probability", kind="stable", ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> None:
    description = "Put the folds of a sweep together: scores, out_of_fold.csv and suspicious_labels.csv."
    parser = argparse.ArgumentParser(prog="python -m utils.batch.folds", description=description)
    parser.add_argument("folder", type=Path, help="the --output-dir of a sweep over fold")
    folder = parser.parse_args(arguments).folder
    try:
        tables = read_folds(folder)
    except LeaderboardError as error:
        sys.exit(str(error))
    for name, (task, table) in tables.items():
        print(f"{name or folder.name}: {len(table):,} rows, {scores_in_words(table, task)}")
        files = {"out_of_fold": table}
        if task == "single_label":
            files["suspicious_labels"] = suspicious(table)
        for stem, rows in files.items():
            safe = re.sub("[^A-Za-z0-9._-]+", "-", f"{stem} {name}".strip())
            with atomic_path(folder / f"{safe}.csv") as partial:
                rows.map(quote_formula).to_csv(partial, index=False, lineterminator="\r\n")
            print(f"  {partial.name}: {len(rows):,} rows")


if __name__ == "__main__":
    main()
