"""What `make bench` says: runs/bench/table.md, figure.png and growth.png, and every ratio in a sentence."""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from records import FOLDER, read

PEERS = ("setfit", "simpletransformers")
# Okabe and Ito's colours, which colour-blind people can tell apart; the marker says the same again.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#666666")
METHODS = ("majority", "tfidf", "embeddings", "textbook", "dynamic", "grouped", "template", *PEERS)
STYLE = {name: (colour, mark) for name, colour, mark in zip(METHODS, COLOURS, "osD^vP*Xd", strict=True)}
GROWTH = ("read", "split", "tokenise", "preflight", "predict")  # stages, in a run's order


def load(folder: Path) -> pd.DataFrame:
    """Return a line a measurement, the newest of each; cpu_to_textbook is None where it was never reached.

    It is the CPU seconds until an evaluation on the way first had the accuracy on validation with which the
    textbook recipe ended, of the same set, seed and threads.
    """
    cells = {tuple(line[k] for k in ("set", "method", "seed", "threads")): line for line in read(folder)}
    rows = []
    for (name, method, seed, threads), line in cells.items():
        row = {"set": name, "method": method, "seed": seed, "threads": threads, "quick": line["quick"]}
        row |= {key: line.get(key) for key in ("seconds", "cpu_seconds", "train_seconds", "peak_mib")}
        row |= {key: line.get(key) for key in ("efficiency", "test_rows")}
        for part in ("validation", "test"):
            row |= {f"{part}_{score}": line[part][score] for score in ("accuracy", "f1_macro")}
        if line.get("real_tokens"):
            row["tokens"] = line["computed_tokens"] / line["real_tokens"]
        if goal := cells.get((name, "textbook", seed, threads)):
            reached = [cpu for cpu, accuracy in line["evaluations"] if accuracy >= goal["validation"]["accuracy"]]
            row["cpu_to_textbook"] = min(reached, default=None)
        rows.append(row)
    columns = ["tokens", "cpu_to_textbook"]
    return pd.DataFrame(rows).reindex(columns=[*dict.fromkeys([*(rows[0] if rows else ()), *columns])])


def spread(values, form: str = ".2f") -> str:
    """Return mean and standard deviation over seeds in words; one seed has no deviation, no value is a dash."""
    values = pd.Series(values, dtype=float).dropna()
    if values.empty:
        return "–"
    deviation = f" ± {values.std():{form}}" if len(values) > 1 else ""
    return f"{values.mean():{form}}{deviation}"


def standard_error(accuracy: float, rows: int) -> float:
    """Return the standard error, in points, of an accuracy on so many test rows."""
    return 100 * math.sqrt(accuracy * (1 - accuracy) / rows)


def by_seed(part: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column of the measurements of one set: a line a seed, a column a method."""
    return part.pivot(index="seed", columns="method", values=column).astype(float)


def ratios(part: pd.DataFrame) -> list[str]:
    """Say what the template and the other fine-tunings cost and score against the textbook, on one set."""
    lines, name = [], part["set"].iloc[0]
    kinds = {"cpu_seconds": "CPU seconds", "seconds": "seconds", "train_seconds": "seconds of training"}
    kinds |= {"cpu_to_textbook": "CPU seconds until the textbook's validation accuracy"}
    for method in [known for known in METHODS if known in {*part["method"]} and known != "textbook"]:
        if "textbook" not in {*part["method"]}:
            return [f"{name}: the textbook recipe is not measured, so there are no ratios."]
        costs = []
        for column, words in kinds.items():
            table = by_seed(part, column)
            if len(faster := (table["textbook"] / table[method]).dropna()):
                costs.append(f"{words} 1/{spread(faster)}")
            elif column == "cpu_to_textbook":
                costs.append("the textbook's validation accuracy never reached")
        table = by_seed(part, "test_accuracy").dropna(subset=["textbook", method])
        if table.empty:
            lines.append(f"{name}, {method}: no seed is measured for both.")
            continue
        gain = spread(100 * (table[method] - table["textbook"]), "+.1f").replace("± +", "± ")
        error = standard_error(table["textbook"].mean(), part["test_rows"].iloc[0])
        lines.append(
            f"{name}, {method} against textbook: {', '.join(costs)}; test accuracy {spread(table[method], '.3f')} "
            f"against {spread(table['textbook'], '.3f')}, {gain} points (standard error of a test score: "
            f"{error:.1f}; seeds: {len(table)})."
        )
    return lines


def losses(part: pd.DataFrame) -> list[str]:
    """Say where another method beats the template on one set, or comes as far for less."""
    name, means = part["set"].iloc[0], part.groupby("method")[["test_accuracy", "cpu_seconds"]].mean()
    if "template" not in means.index:
        return [f"{name}: the template is not measured."]
    score, cpu = means.loc["template"]
    error, lines = standard_error(score, part["test_rows"].iloc[0]), []
    for method, (other, price) in means.drop(index="template").iterrows():
        behind, times = 100 * (other - score), f"{price / cpu:.2g} times the template's CPU seconds"
        if behind > 0:
            within = "less" if behind < error else "more"
            lines.append(
                f"{name}: the template loses to {method} by {behind:.1f} points, {within} than a standard error "
                f"({error:.1f}), which takes {times}."
            )
        elif -behind <= error and price < cpu:
            lines.append(
                f"{name}: {method} is enough: {-behind:.1f} points behind the template, within a standard error "
                f"({error:.1f}), for {times}."
            )
    return lines or [f"{name}: the template loses to none; nothing cheaper comes within a standard error of it."]


def headline(part: pd.DataFrame) -> str:
    """Say the two ratios that matter, over all sets: the template's time and score against the textbook's."""
    index = ["set", "seed"]
    cpu = part.pivot(index=index, columns="method", values="cpu_seconds")
    if not {"template", "textbook"} <= {*cpu.columns}:
        return "Without template and textbook there is no headline."
    score = part.pivot(index=index, columns="method", values="test_accuracy")
    times = (cpu["textbook"] / cpu["template"]).dropna().groupby("set").mean()
    gain = (100 * (score["template"] - score["textbook"])).dropna().groupby("set").mean()
    return (
        f"Over {len(times)} set(s), the template takes 1/{times.mean():.1f} of the textbook's CPU seconds "
        f"(by set 1/{times.min():.1f} to 1/{times.max():.1f}) and scores {gain.mean():+.1f} points "
        f"({gain.min():+.1f} to {gain.max():+.1f})."
    )


def table(part: pd.DataFrame) -> list[str]:
    """Return the lines of one set's table in Markdown, a rung a line; peers that are not there are named."""
    heads = ["method", "seeds", "test accuracy", "test macro-F1", "validation accuracy", "seconds", "CPU s"]
    heads += ["training s", "CPU s to textbook", "peak MiB", "tokens computed per real one", "efficiency"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method in [known for known in METHODS if known in {*part["method"], *PEERS}]:
        rows = part[part["method"] == method]
        if rows.empty:
            lines.append(f"| {method} | not installed (`make bench PEERS=1`) or not measured |" + " |" * 10)
            continue
        cells = [method, str(len(rows))]
        cells += [spread(rows[c], ".3f") for c in ("test_accuracy", "test_f1_macro", "validation_accuracy")]
        cells += [spread(rows[c], ".1f") for c in ("seconds", "cpu_seconds", "train_seconds", "cpu_to_textbook")]
        cells += [spread(rows["peak_mib"], ".0f"), spread(rows["tokens"]), spread(rows["efficiency"])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def figure(part: pd.DataFrame, title: str):
    """Draw test accuracy over CPU seconds, a panel a set; bars are one standard deviation over seeds."""
    names = [*dict.fromkeys(part["set"])]
    drawn, axes = plt.subplots(
        1, len(names), figsize=(1.5 + 4 * len(names), 4.2), squeeze=False, layout="constrained"
    )
    for panel, name in zip(axes[0], names, strict=True):
        for method, rows in part[part["set"] == name].groupby("method"):
            (colour, mark), ends = STYLE[method], rows[["cpu_seconds", "test_accuracy"]]
            (x, y), bars = ends.mean(), ends.std().fillna(0)  # one seed: no bars
            look = {"color": colour, "marker": mark, "markersize": 9, "markeredgecolor": "black", "ls": "none"}
            panel.errorbar(x, y, xerr=bars.iloc[0], yerr=bars.iloc[1], label=method, capsize=3, **look)
        panel.set(title=name, xlabel="CPU seconds of the whole process", xscale="log")
        panel.grid(alpha=0.3)
    axes[0, 0].set_ylabel("accuracy on the test rows")
    handles = {label: handle for panel in axes[0] for handle, label in zip(*panel.get_legend_handles_labels())}
    ordered = [method for method in METHODS if method in handles]
    drawn.legend([handles[method] for method in ordered], ordered, loc="outside right upper")
    drawn.suptitle(title)
    return drawn


def growth(lines: list[dict]) -> tuple[list[str], plt.Figure]:
    """Return the table of `growth.py` in Markdown, and its figure: seconds and peak memory over rows."""
    found = pd.DataFrame({(line["stage"], line["rows"]): line for line in lines}.values())
    tables = {key: found.pivot(index="rows", columns="stage", values=key) for key in ("seconds", "peak_mib")}
    stages = [stage for stage in GROWTH if stage in {*found["stage"]}]
    words = ["| rows | " + " | ".join(f"{stage}: s, MiB" for stage in stages) + " |"]
    words.append("|---" * (len(stages) + 1) + "|")
    for rows in tables["seconds"].index:
        pairs = [(tables["seconds"].loc[rows, stage], tables["peak_mib"].loc[rows, stage]) for stage in stages]
        cells = ["–" if np.isnan(took) else f"{took:,.2f}, {held:,.0f}" for took, held in pairs]
        words.append(f"| {rows:,} | {' | '.join(cells)} |")
    drawn, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for panel, (key, unit) in zip(axes, (("seconds", "seconds"), ("peak_mib", "peak memory, MiB")), strict=True):
        for stage, colour, mark in zip(stages, COLOURS, "osD^v", strict=False):
            panel.plot(tables[key][stage].dropna(), color=colour, marker=mark, label=stage)
        panel.set(xlabel="rows of the table", ylabel=unit, xscale="log", yscale="log", title=f"{unit} by stage")
        panel.grid(alpha=0.3)
    axes[0].legend()
    return words, drawn


def main(folder: Path) -> str:
    """Write table and figures into `folder`; return the text of the table.

    Raises:
        SystemExit: nothing has been measured there.
    """
    found = load(folder / "results.jsonl")
    if found.empty:
        raise SystemExit(f"Nothing has been measured in {folder.name}: `make bench` does.")
    lines = []
    for threads, part in found.groupby("threads"):
        quick = "the QUICK one, on few rows: its scores mean nothing; " if part["quick"].any() else ""
        title = f"What fine-tuning costs ({quick}{threads} thread(s) a process)"
        figure(part, title).savefig(folder / ("figure.png" if threads == found["threads"].iloc[-1] else
                                              f"figure-{threads}.png"), dpi=120)  # fmt: skip
        lines += [f"# {title}", "", headline(part), "", "Mean ± standard deviation over seeds.", ""]
        for name in dict.fromkeys(part["set"]):
            of_set = part[part["set"] == name]
            lines += [f"## {name}", "", *table(of_set), "", *(f"- {line}" for line in ratios(of_set)), ""]
            lines += [*(f"- {line}" for line in losses(of_set)), ""]
    if grown := read(folder / "growth.jsonl"):
        words, drawn = growth(grown)
        drawn.savefig(folder / "growth.png", dpi=120)
        lines += ["## A table that grows", "", *words, ""]
    if started := read(folder / "startup.jsonl"):
        lines += ["## Start-up", "", "| what | seconds |", "|---|---|"]
        lines += [f"| {what} | {seconds:.2f} |" for what, seconds in started[-1].items()]
    plt.close("all")
    text = "\n".join(lines) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the table of `make bench QUICK=1`")
    place = FOLDER / "quick" if parser.parse_args().quick else FOLDER
    print(main(place))
    print(f"In {place.relative_to(FOLDER.parents[1])}: table.md, figure.png")
