"""What `make bench` says: table.md, three figures in runs/bench/, every ratio in a sentence.

Of another folder with measurements: `python benchmarks/report.py benchmarks/measured`. `--publish` writes
those of runs/bench/ there, the newest of each.
"""

import json
import math
import sys
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from records import BUNDLED, FOLDER, HERE, METHODS, PEERS, SETS, SMALL, STAGES, read

# Okabe and Ito's colours, which colour-blind people can tell apart; the marker says the same again.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
STYLE = dict(zip(METHODS + PEERS, zip(COLOURS, "osD^vP*Xd", strict=True), strict=True))
CELL = ["set", "method", "seed", "threads"]
KEYS = {"results": CELL, "recipes": ["set", "recipe", "seed"], "growth": ["stage", "rows"], "startup": []}
COLUMNS = {  # of the table: what it shows, and how
    "test_accuracy": ("test accuracy", ".3f"),
    "test_f1_macro": ("test macro-F1", ".3f"),
    "validation_accuracy": ("validation accuracy", ".3f"),
    "seconds": ("seconds", ".1f"),
    "cpu_seconds": ("CPU s", ".1f"),
    "step_seconds": ("training steps, s", ".1f"),
    "cpu_to_textbook": ("CPU s to the textbook's validation accuracy", ".1f"),
    "peak_mib": ("peak MiB", ".0f"),
    "tokens": ("tokens computed per real one", ".2f"),
    "efficiency": ("efficiency", ".2f"),
}


def newest(folder: Path, name: str) -> list[dict]:
    """Return the newest line of each measurement in a file, in the order in which they were made.

    Of `results` those of a recipe that has changed since are left out.
    """
    lines, found = read(folder / f"{name}.jsonl"), {}
    if name == "results":
        now = {(line["set"], line["method"], line["threads"]): line["recipe"] for line in lines}
        lines = [
            line for line in lines if line["recipe"] == now[line["set"], line["method"], line["threads"]]
        ]
    for line in lines:
        key = tuple(line[part] for part in KEYS[name])
        found.pop(key, None)
        found[key] = line
    return [*found.values()]


def publish(target: Path) -> None:
    """Write the newest lines of runs/bench/ into another folder."""
    for name in KEYS:
        if lines := [json.dumps(line) + "\n" for line in newest(FOLDER, name)]:
            (target / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def load(lines: list[dict]) -> pd.DataFrame:
    """Return the lines of results.jsonl as a table, a row a measurement, in the order of `SETS`.

    cpu_to_textbook is how many CPU seconds had passed when an evaluation first had the accuracy on validation
    with which the textbook recipe ended, in the same set, seed and threads; NaN if none had, or if always
    answering the commonest label has it.
    """
    rows, lines = [], sorted(lines, key=lambda line: SETS.index(line["set"]))
    cells = {tuple(line[key] for key in CELL): line for line in lines}
    for (name, _, *rest), line in cells.items():
        row = {key: value for key, value in line.items() if not isinstance(value, list | dict)}
        for part in ("validation", "test"):
            row |= {f"{part}_{score}": value for score, value in line[part].items()}
        row["tokens"] = line["computed_tokens"] / line["real_tokens"] if line.get("real_tokens") else math.nan
        goal, free = (
            cells.get((name, method, *rest), {"validation": {"accuracy": other}})["validation"]["accuracy"]
            for method, other in (("textbook", math.inf), ("majority", 0))
        )
        reached = [cpu for cpu, accuracy in line["evaluations"] if accuracy >= goal > free]
        rows.append(row | {"cpu_to_textbook": min(reached, default=math.nan)})
    numbers = dict.fromkeys(COLUMNS, float)
    return pd.DataFrame(rows, columns=[*CELL, "quick", "test_rows", *COLUMNS]).astype(numbers)


def spread(values: pd.Series, form: str) -> str:
    """Return mean and standard deviation over seeds; one seed has no deviation, and nothing is a dash."""
    if values.dropna().empty:
        return "–"
    deviation = f" ± {values.std():{form.strip('+')}}" if values.count() > 1 else ""
    return f"{values.mean():{form}}{deviation}"


def standard_error(part: pd.DataFrame, *methods: str) -> float:
    """Return the standard error, in points, of a method's accuracy on the test rows of one set.

    Of two methods: of their difference, as if each had test rows of its own. On the same rows it is less.
    """
    accuracy = part.groupby("method")["test_accuracy"].mean()[[*methods]]
    return 100 * math.sqrt((accuracy * (1 - accuracy)).sum() / part["test_rows"].iloc[0])


def pairs(part: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the measurements of one set in which the template and a method have the same seed."""
    both = part[part["method"].isin(["template", method])]
    return both.groupby("seed").filter(lambda rows: len(rows) == 2).pivot(index="seed", columns="method")


def against_textbook(part: pd.DataFrame) -> str:
    """Say what the template costs and scores against the textbook recipe on one set, seed by seed."""
    name, both = part["set"].iloc[0], pairs(part, "textbook")
    if both.empty:
        return f"{name}: template and textbook are not both measured, so there is no ratio."
    words, seeds = [], len(both)
    for column, what in (
        ("cpu_seconds", "of the textbook's CPU seconds"),
        ("step_seconds", "of its seconds of training steps"),
        ("cpu_to_textbook", "of its CPU seconds until its final validation accuracy"),
    ):
        faster = (both[column]["textbook"] / both[column]["template"]).dropna()
        if len(faster):
            some = "" if len(faster) == seeds else f" ({len(faster)} of {seeds} seeds get there)"
            words.append(f"1/{spread(faster, '.1f')} {what}{some}")
    never = faster.empty and both["cpu_to_textbook"]["textbook"].notna().any()
    late = " It never reaches the textbook's final validation accuracy." if never else ""
    score = both["test_accuracy"]
    gain = spread(100 * (score["template"] - score["textbook"]), "+.1f")
    return (
        f"{name}: the template takes {', '.join(words)}.{late} Its test accuracy is "
        f"{spread(score['template'], '.3f')} against {spread(score['textbook'], '.3f')}: {gain} points, "
        f"seeds: {seeds}. The standard error of such a difference is at most "
        f"{standard_error(part, 'template', 'textbook'):.1f}."
    )


def rivals(part: pd.DataFrame) -> list[str]:
    """Say which methods beat the template on one set, and which come within a standard error for less."""
    name, lines = part["set"].iloc[0], []
    if "template" not in {*part["method"]}:
        return [f"{name}: the template is not measured."]
    for method in STYLE:
        if method == "template" or (both := pairs(part, method)).empty:
            continue
        both = both[["test_accuracy", "cpu_seconds"]].mean()
        gain = 100 * (both["test_accuracy", method] - both["test_accuracy", "template"])
        price = both["cpu_seconds", method] / both["cpu_seconds", "template"]
        error, times = standard_error(part, "template", method), f"{price:.2g} times its CPU seconds"
        if gain > 0:
            loses = "loses to" if gain > error else "is within a standard error of"
            said = f"the template {loses} {method}, which is {gain:.1f} points better for {times}"
        elif gain >= -error and price < 1:
            said = f"{method} is only {abs(gain):.1f} points behind the template, for {times}"
        else:
            continue
        lines.append(f"{name}: {said}; a standard error is at most {error:.1f} points.")
    return lines or [f"{name}: no method beats the template, and none comes near it for less."]


def headline(found: pd.DataFrame) -> str:
    """Say the two ratios that matter, over all whole sets: the template's time and score against the
    textbook's.
    """
    times, gain = [], []
    for _, part in found[~found["set"].str.contains("-")].groupby("set"):
        both = pairs(part, "textbook")
        if len(both):
            cpu, score = both["cpu_seconds"], 100 * both["test_accuracy"]
            times.append((cpu["textbook"] / cpu["template"]).mean())
            gain.append((score["template"] - score["textbook"]).mean())
    if not times:
        return "Template and textbook are not both measured on a whole set."
    return (
        f"The template takes 1/{np.mean(times):.1f} of the textbook's CPU seconds "
        f"(by set 1/{min(times):.1f} to 1/{max(times):.1f}) and scores {np.mean(gain):+.1f} points "
        f"({min(gain):+.1f} to {max(gain):+.1f})."
    )


def table(part: pd.DataFrame) -> list[str]:
    """Return one set's table in Markdown, a rung a line; peers that were not measured are named.

    With one thread seconds are CPU seconds, and more only where other work ran beside: they are left out.
    """
    columns = {name: how for name, how in COLUMNS.items() if name != "seconds" or part["threads"].iloc[0] > 1}
    lines = ["| method | seeds | " + " | ".join(head for head, _ in columns.values()) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for method in METHODS + PEERS:
        rows = part[part["method"] == method]
        cells = [
            f"{rows[name].max():{form}}" if name == "peak_mib" else spread(rows[name], form)
            for name, (_, form) in columns.items()
        ]
        if len(rows):
            lines.append(f"| {method} | {len(rows)} | {' | '.join(cells)} |")
        elif method in PEERS:
            lines.append(f"| {method} | not measured: `make bench PEERS=1` |{' |' * len(columns)}")
    return lines


def figure(found: pd.DataFrame, title: str) -> plt.Figure:
    """Draw test accuracy over CPU seconds, a panel a set; bars are a standard deviation over seeds."""
    names, shown = [*found["set"].unique()], {}
    across = math.ceil(math.sqrt(len(names)))
    down = math.ceil(len(names) / across)
    size = (2 + 4 * across, 0.6 + 3.6 * down)
    drawn, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for panel in axes.flat[len(names) :]:
        panel.remove()
    for panel, name in zip(axes.flat, names, strict=False):
        for method, rows in found[found["set"] == name].groupby("method"):
            ends, (colour, mark) = rows[["cpu_seconds", "test_accuracy"]], STYLE[method]
            look = {
                "color": colour,
                "marker": mark,
                "markersize": 10,
                "markeredgecolor": "black",
                "ls": "none",
            }
            bars = dict(zip(("xerr", "yerr"), ends.std().fillna(0), strict=True))
            shown[method] = panel.errorbar(*ends.mean(), **bars, capsize=3, **look)
        panel.set(title=name, xlabel="CPU seconds of the whole process", xscale="log")
        panel.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel("accuracy on the test rows")
    shown = {method: shown[method] for method in STYLE if method in shown}
    drawn.legend(shown.values(), shown.keys(), loc="outside right center")
    drawn.suptitle(textwrap.fill(title, 50 * across))
    return drawn


def recipes(lines: list[dict]) -> list[str]:
    """Return what recipes.py found as a table in Markdown, the losses of all held-out rows last."""
    found = pd.DataFrame(sorted(lines, key=lambda line: (BUNDLED + SMALL).index(line["set"])))
    found["loss"] = found[["validation_loss", "test_loss"]].mean(axis=1)
    shown = {"cpu_seconds": ("training, CPU s", ".0f"), "validation": ("validation accuracy", ".3f")}
    shown |= {"test": ("test accuracy", ".3f"), "loss": ("loss", ".3f")}
    words = ["| set | recipe | seeds | " + " | ".join(head for head, _ in shown.values()) + " |"]
    words.append("|---" * (len(shown) + 3) + "|")
    for (name, recipe), rows in found.groupby(["set", "recipe"], sort=False):
        cells = [spread(rows[key], form) for key, (_, form) in shown.items()]
        words.append(f"| {name} | {recipe} | {len(rows)} | {' | '.join(cells)} |")
    return words


def growth(lines: list[dict]) -> tuple[list[str], plt.Figure]:
    """Return what growth.py found as a table in Markdown, and as a figure: seconds and memory over rows."""
    found = pd.DataFrame(lines)
    stages = [stage for stage in STAGES if stage in {*found["stage"]}]
    drawn, axes = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained")
    shares = found.reindex(columns=["efficiency"])["efficiency"]
    found["cell"] = [
        f"{line.seconds:,.2f} s, {line.peak_mib:,.0f} MiB"
        + ("" if math.isnan(share) else f", efficiency {share:.2f}")
        for line, share in zip(found.itertuples(), shares, strict=True)
    ]
    cells = found.pivot(index="rows", columns="stage", values="cell").fillna("–")
    words = [f"| rows | {' | '.join(stages)} |", "|---" * (len(stages) + 1) + "|"]
    words += [f"| {rows:,} | {' | '.join(cells.loc[rows, stages])} |" for rows in cells.index]
    for panel, key, unit in zip(axes, ("seconds", "peak_mib"), ("seconds", "peak memory, MiB"), strict=True):
        for stage, colour, mark in zip(stages, COLOURS, "osD^vP", strict=False):
            of_stage = found[found["stage"] == stage].sort_values("rows")
            panel.plot(of_stage["rows"], of_stage[key], color=colour, marker=mark, label=stage)
        panel.set(
            xlabel="rows of the table", ylabel=unit, xscale="log", yscale="log", title=f"{unit}, by stage"
        )
        panel.grid(alpha=0.3)
    axes[1].set(yscale="linear", ylim=(0, None))
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return words, drawn


def main(folder: Path = FOLDER) -> str:
    """Write table and figures into `folder`, for the threads measured last; return the table's text."""
    lines = newest(folder, "results")
    if not lines:
        sys.exit("Nothing has been measured yet: `make bench` does.")
    found = load([line for line in lines if line["threads"] == lines[-1]["threads"]])
    quick = "QUICK, few rows: the scores mean nothing; " if found["quick"].any() else ""
    threads = found["threads"].iloc[0]
    threads = f"{threads} threads" if threads > 1 else "one thread"
    title = f"What a text classifier costs ({quick}{threads} a process)"
    few = found["set"].str.contains("-")
    for name, part in (("figure", found[~few]), ("few", found[few])):
        if len(part):
            figure(part, title).savefig(folder / f"{name}.png", dpi=120)
    lines = [
        f"# {title}",
        "",
        headline(found),
        "",
        "Numbers are means ± standard deviations over seeds; peaks the highest, summed over processes.",
        "",
    ]
    for name, part in found.groupby("set", sort=False):
        said = [f"- {line}" for line in (against_textbook(part), *rivals(part))]
        lines += [f"## {name}", "", *table(part), "", *said, ""]
    if tried := newest(folder, "recipes"):
        lines += ["## Other ways to train", "", *recipes(tried), ""]
    if grown := newest(folder, "growth"):
        words, drawn = growth(grown)
        drawn.savefig(folder / "growth.png", dpi=120)
        lines += ["## A table that grows", "", *words, ""]
    if started := newest(folder, "startup"):
        lines += ["## Start-up", "", "| what | seconds |", "|---|---|"]
        lines += [f"| {what} | {seconds:.2f} |" for what, seconds in started[0].items()]
    plt.close("all")
    text = "\n".join(lines).rstrip() + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    folders = [Path(given).resolve() for given in sys.argv[1:] if not given.startswith("--")]
    (place,) = folders or [FOLDER / "quick" if "--quick" in sys.argv else FOLDER]
    if "--publish" in sys.argv:
        publish(place := HERE / "measured")
    print(main(place))
    print(f"In {place}: table.md, figure.png")
