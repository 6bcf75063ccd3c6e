"""One training run and the folder it leaves: parameters checked, nothing mixed up, the record written last."""

import argparse
import csv
import itertools
import json
import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from utils import ROOT, atomic_path, quote_formula, sha256
from utils.parameters import NOT_IDENTITY, PATHS

DEFAULT_FOLDER = ROOT / "runs" / "training"
# What a checkpoint holds, by any name that Trainer, PEFT, FSDP and DeepSpeed give it. After all of it Trainer writes trainer_state.json.
WEIGHTS = (
    "model.safetensors*",
    "pytorch_model.bin*",
    "pytorch_model_fsdp*",
    "adapter_model.*",
    "*/adapter_model.*",
    "global_step*",
)
STATES = {
    "optimizer": ("*optimizer*", "global_step*"),
    "learning rate schedule": ("scheduler.pt", "global_step*"),
    "random states": ("rng_state*.pth",),
}
# What a run leaves in its folder. A folder that holds anything else is not deleted.
MADE = (
    "README.md",
    "checkpoints",
    "figures",
    "metrics.json",
    "model",
    "new_texts*.csv",
    "predictions.csv",
    "suspicious_labels.csv",
)
# What may be in a folder before the first run in it: papermill's notebook and the batch's run.json are there already, and somebody may keep a log.
HARMLESS = ("*.ipynb", "*.log", "run.json", "checkpoints", "lost+found", ".*")


class RunError(RuntimeError):
    """A run that cannot start in the folder it was given; the message says what to do."""


class Run(NamedTuple):
    """An open run: its folder, the checkpoint to continue from (None: from the start), and a remark for the reader."""

    folder: Path
    checkpoint: Path | None
    remark: str


def open_run(parameters: Mapping[str, Any], data_files: Sequence[Path]) -> Run:
    """Make the run folder ready, so that no checkpoint or result of another run can be taken for this one's.

    `output_dir` None means runs/training in the repository; what an earlier run left there is moved to runs/training-previous. A folder that
    you name is used if it is new or empty, or, with `resume`, if it holds a run with the same parameters and data. So no parameter overwrites anything
    but a run, and no link leads what is written somewhere else. A checkpoint that cannot be continued from, because the run was killed while it saved, is
    moved to checkpoints/set_aside, and so is a folder of your own that Trainer would take for a checkpoint.

    Args:
        parameters: those of `check_parameters`.
        data_files: the files that the run reads; their bytes are part of what must be the same to continue.

    Raises:
        RunError: the folder holds another run or something else, it or something in it is a link, or it cannot be written.
    """
    named = parameters["output_dir"] is not None
    folder = Path(parameters["output_dir"]).expanduser().absolute() if named else DEFAULT_FOLDER
    identity = {name: value for name, value in parameters.items() if name not in NOT_IDENTITY}
    identity["data_sha256"] = [sha256(path) for path in data_files]
    identity = json.loads(json.dumps(identity))
    checkpoints = folder / "checkpoints"
    remark = f"Everything goes to {display_path(folder)}."
    _refuse_unexpected(folder)

    if parameters["resume"]:
        _refuse_other(checkpoints, identity)
    elif saved_checkpoints(checkpoints) or (folder / "metrics.json").exists():
        if named:
            raise RunError(
                f"{folder} holds an earlier run. Give another output_dir, or set resume=True to continue that run, or delete the folder."
            )
        remark += _keep_previous(folder, parameters["model_name"])

    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        remark += _set_aside(checkpoints)
        (folder / "metrics.json").unlink(missing_ok=True)  # from here on the run is unfinished
        with atomic_path(checkpoints / "run.json") as partial:
            partial.write_text(json.dumps(identity, indent=1))
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error.strerror}). Give another output_dir.") from None

    found = saved_checkpoints(checkpoints)
    if parameters["resume"]:
        remark += (
            f" Continuing from {found[-1].name}."
            if found
            else " There is no checkpoint yet: starting from the beginning."
        )
        if found and not any(_holds(found[-1], patterns) for patterns in STATES.values()):
            remark += f" It holds weights only (save_only_model): {', '.join(STATES)} begin anew, so the result will differ from that of an unbroken run."
    return Run(folder, found[-1] if found else None, remark)


def _refuse_unexpected(folder: Path) -> None:
    """Refuse a folder in which something would be overwritten that no run has made, the repository among them, and links."""
    links = [path for path in (folder, *(folder.glob("*") if folder.is_dir() else ())) if path.is_symlink()]
    if links:
        raise RunError(
            f"{links[0]} is a link to {os.readlink(links[0])}. Give a folder that is none and holds none, such as that one, as output_dir."
        )
    unexpected = unexpected_files(folder, HARMLESS)
    if unexpected and not _is_run(folder):
        raise RunError(
            f"{folder} holds what no run of this notebook has made: {', '.join(unexpected[:5])}. Give a new or an empty folder as output_dir."
        )


def _is_run(folder: Path) -> bool:
    return (folder / "checkpoints" / "run.json").is_file() or "parameters" in read_json(
        folder / "metrics.json"
    )


def _keep_previous(folder: Path, model_name: str) -> str:
    """Move a run aside, in place of the one that was moved there before, and return a remark. What no run has made stays, under another name.

    Raises:
        RunError: the new run starts from a model in one of the two folders.
    """
    previous = folder.with_name(f"{folder.name}-previous")
    for model in (place / Path(model_name).expanduser() for place in (Path.cwd(), ROOT)):
        if any(model.resolve().is_relative_to(kept.resolve()) for kept in (folder, previous)):
            raise RunError(
                f"{display_path(model)} would be moved or deleted by this run, which starts from it. Give an output_dir."
            )
    kept = ""
    if _is_run(previous) and not previous.is_symlink() and not unexpected_files(previous, MADE):
        shutil.rmtree(previous, ignore_errors=True)
    elif os.path.lexists(previous):
        other = _free(previous)
        previous.rename(other)
        kept = f", which is now {display_path(other)}, for it holds more than a run leaves"
    folder.rename(previous)
    return f" The run that was there is now {display_path(previous)}, in place of an older one{kept}."


def _free(path: Path) -> Path:
    """Return the path with the first number behind it that makes a new name."""
    return next(
        other for k in itertools.count(2) if not os.path.lexists(other := path.with_name(f"{path.name}-{k}"))
    )


def unexpected_files(folder: Path, known: Iterable[str]) -> list[str]:
    """Return the names in a folder that match none of the patterns, in order; none where there is no folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in known)]


def _refuse_other(checkpoints: Path, identity: Mapping[str, Any]) -> None:
    if not saved_checkpoints(checkpoints):
        return
    try:
        before = json.loads((checkpoints / "run.json").read_text())
    except (OSError, ValueError):
        raise RunError(
            f"{checkpoints} holds checkpoints, but not the run.json that says of which run. Give another output_dir."
        ) from None
    changed = [
        f"{name} was {before.get(name)!r} and is {identity.get(name)!r}"
        for name in identity | before
        if before.get(name) != identity.get(name)
    ]
    if changed:
        raise RunError(
            f"{checkpoints.parent} holds a run with other parameters: {'; '.join(changed)}. Set them back, or give another output_dir."
        )


def _set_aside(checkpoints: Path) -> str:
    """Move away what Trainer would mistake for a checkpoint to keep, and return a remark. Nothing is deleted.

    Trainer continues from the newest folder called checkpoint-<step>, whole or not; its `save_total_limit` deletes old folders called checkpoint-<anything>.
    """
    moved, ours = [], saved_checkpoints(checkpoints)
    for folder in sorted(path for path in checkpoints.glob("checkpoint-*") if path.is_dir()):
        lacking = _lacks(folder) if folder in ours else []
        if lacking or folder not in ours:
            aside = checkpoints / "set_aside" / folder.name
            aside.parent.mkdir(exist_ok=True)
            aside = _free(aside) if os.path.lexists(aside) else aside
            folder.rename(aside)
            why = (
                f"incomplete: no {', '.join(lacking)}"
                if lacking
                else "not Trainer's, which would delete it in time"
            )
            moved.append(f"{folder.name} ({why}) to {display_path(aside)}")
    return f" Moved {'; '.join(moved)}." if moved else ""


def _lacks(checkpoint: Path) -> list[str]:
    """Return what a checkpoint lacks to be continued from. That it has none of `STATES` is no lack: so `save_only_model` saves it."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["trainer_state.json"]
    missing = [] if _holds(checkpoint, WEIGHTS) else ["weights"]
    for index in checkpoint.glob("*.index.json"):
        shards = set(read_json(index).get("weight_map", {}).values())
        missing += (
            sorted(name for name in shards if not _filled(checkpoint / name)) if shards else [index.name]
        )
    states = [name for name, patterns in STATES.items() if not _holds(checkpoint, patterns)]
    return missing + (states if len(states) < len(STATES) else [])


def _holds(checkpoint: Path, patterns: Iterable[str]) -> bool:
    return any(_filled(path) for pattern in patterns for path in checkpoint.glob(pattern))


def _filled(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)  # a power cut can leave empty files


def saved_checkpoints(checkpoints: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest last: the folders called checkpoint-<step>, as for `transformers.trainer_utils.get_last_checkpoint`."""
    found = [
        path
        for path in checkpoints.glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", path.name) and path.is_dir()
    ]
    return sorted(found, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]))


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is no such file, or it was cut off, or it holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def display_path(path: Path) -> str:
    """Return a path for people and records: relative to the repository where it lies inside, without the home folder elsewhere."""
    path = Path(path)
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT).as_posix()
    return without_home(str(path))


def without_home(value: Any) -> Any:
    """Return a path under the home folder as ~/..., which reads and writes the same and tells nobody whose it is; anything else as it is."""
    if isinstance(value, str) and Path(value).is_relative_to(Path.home()):
        return f"~/{Path(value).relative_to(Path.home()).as_posix()}"
    return value


def versions() -> dict[str, Any]:
    """Return what a number may depend on: versions, processor, threads. No paths and no host name."""
    import torch

    packages = (
        "torch",
        "transformers",
        "datasets",
        "accelerate",
        "tokenizers",
        "numpy",
        "pandas",
        "scikit-learn",
    )
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    } | {name: version(name) for name in packages}


def write_predictions(
    path: Path,
    rows: Sequence[int],
    texts: Sequence[str],
    labels: Sequence[str],
    predicted: Sequence[str],
    probabilities=None,
    names: Sequence[str] = (),
) -> None:
    """Write one line a test row, in the given order: row, text, label, predicted, and probability_<label> for each label.

    Texts and labels that a spreadsheet would run as formulas get an apostrophe in front; `utils.unquote_formula` takes it off.

    Args:
        rows: their numbers in the file that they come from, the first below the header is 1: what a join goes by.
        labels, predicted: in the form of `utils.data.decode_labels`.
        probabilities: shape (rows, labels), with `names` for the labels; None where the task has none.
    """
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "text", "label", "predicted", *(f"probability_{name}" for name in names)])
        shares = [()] * len(texts) if probabilities is None else probabilities
        for *cells, share in zip(rows, texts, labels, predicted, shares, strict=True):
            writer.writerow([*map(quote_formula, cells), *(f"{p:.6f}" for p in share)])


def history(log_history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what is worth keeping of `trainer.state.log_history`: its checkpoints may be deleted, and with them the learning curves.

    Returns:
        in the same order, {"epoch", "step", "loss", "learning_rate"} for each training loss and {"epoch", "step", "eval_loss", "eval_<score>"...} for each
        evaluation. Times and speeds are left out, and so are values that are not finite, which JSON cannot hold.
    """
    unwanted = ("_runtime", "_per_second", "_time", "_predicted_classes")
    kept = []
    for entry in log_history:
        if "loss" in entry or "eval_loss" in entry:
            names = [
                "epoch",
                "step",
                "loss",
                "learning_rate",
                *(name for name in entry if name.startswith("eval_") and not name.endswith(unwanted)),
            ]
            kept.append({name: entry[name] for name in names if name in entry and math.isfinite(entry[name])})
    return kept


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the model card and then metrics.json, last and atomically: a folder without it holds no finished run.

    Paths among the parameters that lie in the home folder begin with ~.
    """
    used = {
        name: without_home(value) if name in PATHS else value for name, value in record["parameters"].items()
    }
    record = {name: used if name == "parameters" else value for name, value in record.items()}
    with atomic_path(folder / "README.md") as partial:
        partial.write_text(model_card(record), encoding="utf-8")
    entries = [json.dumps(entry, allow_nan=False) for entry in record.get("history", [])]
    shown = {name: value if name != "history" else [] for name, value in record.items()}
    text = json.dumps(shown, indent=1, ensure_ascii=False, allow_nan=False)
    # the history gets a line an entry instead of a line a number; inside a JSON text there is no line break, so this is the key itself
    text = (
        text.replace('\n "history": []', '\n "history": [\n  ' + ",\n  ".join(entries) + "\n ]")
        if entries
        else text
    )
    with atomic_path(folder / "metrics.json") as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    """Write a value so that Markdown shows it as it is: nothing in it becomes HTML, a link, a formula, a heading or another cell of a table."""
    text = " ".join(str(value).split())
    text = re.sub(r"[\\`*\[\]$~|]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    text = re.sub(r"^(\d*)([#+.)-]+)(?=\s|$)", r"\1\\\2", text)  # "- " and "1. " would begin a list
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _named(name: str, value: Any) -> Any:
    """Return a parameter as the card gives it: of a path only the last part, for folders are nobody's business."""
    whole = (
        not value
        or name not in PATHS
        or (name == "model_name" and not Path(value).expanduser().is_absolute())
    )
    return value if whole else Path(value).name


GIVES = {
    "single_label": "gives each text one of these labels",
    "multi_label": "gives each text any number of these labels",
    "regression": "gives each text a number",
}


CALLS = {
    "single_label": 'classify = pipeline("text-classification", model="model")\nclassify("a text", truncation=True)',
    "multi_label": 'classify = pipeline("text-classification", model="model", top_k=None)  # a probability for each label; thresholds: model/config.json\n'
    'classify("a text", truncation=True)',
    "regression": 'rate = pipeline("text-classification", model="model", function_to_apply="none")\nrate("a text", truncation=True)  # "score" is the number',
}


BASELINES = {
    "majority": "the commonest label",
    "tfidf_logreg": "TF-IDF + logistic regression",
    "mean": "the mean of the training rows",
    "tfidf_ridge": "TF-IDF + ridge regression",
}


def _main_score(record: Mapping[str, Any]) -> tuple[str, float, float, float]:
    """Return the name of the score that has an interval, the test score, and the interval's ends."""
    name = next(key.removesuffix("_ci95") for key in record["test"] if key.endswith("_ci95"))
    return name, record["test"][name], *record["test"][f"{name}_ci95"]


def model_card(record: Mapping[str, Any]) -> str:
    """Return the model card as Markdown: what it was trained on, how good it is, how to call it, and where to be careful."""
    data, test, used = record["data"], record["test"], record["parameters"]
    shown = {name: _cell(_named(name, value)) for name, value in used.items()}
    task, (main, _, low, high) = used["task"], _main_score(record)
    scores = {BASELINES[name]: block for name, block in record["baselines"].items()} | {"this model": test}
    columns = [name for name in test if name != "loss" and not name.endswith("_ci95")]
    lines = ["---", "library_name: transformers", "pipeline_tag: text-classification", "---", ""]
    lines += [
        "# A text classifier fine-tuned with the Hugging Face Trainer"
        if task != "regression"
        else "# A text regression model fine-tuned with the Hugging Face Trainer",
        "",
    ]
    lines += [
        f"It was fine-tuned from {shown['model_name']} on {shown['data_file']} and {GIVES[task]}{':' if task != 'regression' else '.'}",
        "",
    ]
    lines += [f"- {_cell(label)}" for label in data["labels"]] if task != "regression" else []
    lines += ["", "```python", "from transformers import pipeline", "", CALLS[task], "```"]
    lines += [
        "",
        "## Scores on the test split",
        "",
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [
        f"| {name} | {' | '.join(f'{block[column]:.3f}' for column in columns)} |"
        for name, block in scores.items()
    ]
    lines += [
        "",
        f"{data['test_rows']:,} rows; 95% interval of this model's {main}: {low:.3f} to {high:.3f} ({'Wilson' if task == 'single_label' else 'bootstrap'}).",
    ]
    lines += ["", "## Data", "", "| split | rows |", "|---|---|"]
    lines += [f"| {name} | {data[f'{name}_rows']:,} |" for name in ("train", "validation", "test")]
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in data["dropped"].items() if count)
    lines += [
        "",
        f"Rows left out: {left_out or 'none'}. Texts that differ only in capitals, blanks or characters that nobody sees were never put into two splits.",
    ]
    lines += [
        "",
        "## Limits",
        "",
        "- It knows only texts like those it was trained on, and answers to any text.",
    ]
    if "calibration" in record:
        found = record["calibration"]
        lines += [
            f"- Its probabilities were divided by a temperature of {found['temperature']:.2f}, fitted on the validation rows. On the test rows they are off by "
            f"{found['ece']:.3f} on average (expected calibration error; {found['ece_before']:.3f} without)."
        ]
    kept = (
        "their beginning and their end are kept"
        if used["long_texts"] == "head_tail"
        else "their beginning is kept"
    )
    lines += [f"- Texts are cut to {used['max_length']} tokens; {kept}."]
    lines += ["", "## Parameters", "", "| parameter | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in shown.items() if name not in NOT_IDENTITY]
    lines += ["", "## Made with", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in record["environment"].items()]
    return "\n".join(lines) + "\n"


def summary(folder: Path) -> str:
    """Return in three lines where the model of a finished run is and how it did.

    Raises:
        RunError: the run did not finish, or there is none.
    """
    if not folder.is_dir():
        raise RunError(f"There is no folder {display_path(folder)}. Give the output_dir of a run.")
    if not (folder / "metrics.json").exists():
        raise RunError(f"{display_path(folder)} has no metrics.json: the run did not finish.")
    record = read_json(folder / "metrics.json")
    if "baselines" not in record:
        raise RunError(
            f"{display_path(folder / 'metrics.json')} is no record of a run of notebook 04. Give the output_dir of one."
        )
    name, value, low, high = _main_score(record)
    others = " and ".join(
        f"{block[name]:.3f} for {BASELINES[baseline]}"
        for baseline, block in reversed(record["baselines"].items())
    )
    return (
        f"The fine-tuned model is in {display_path(folder / 'model')}\n"
        f"Test {name} {value:.3f} (95% interval {low:.3f} to {high:.3f}, {record['data']['test_rows']:,} rows), against {others}\n"
        f"Everything about the run: {display_path(folder / 'metrics.json')}, {display_path(folder / 'README.md')}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m utils.runs",
        description="Say where the model of a finished run is and how good it is.",
    )
    parser.add_argument("folder", type=Path, help="the output_dir of the run, such as runs/training")
    try:
        print(summary(parser.parse_args(arguments).folder.absolute()))
    except RunError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
