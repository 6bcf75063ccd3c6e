"""One training run and the folder it leaves: nothing mixed up, the record written last, the model card."""

import argparse
import json
import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from utils import ROOT, atomic_path, quote_formula, read_json, sha256
from utils.findings import ModelError
from utils.parameters import NOT_IDENTITY, PATHS
from utils.reading.checkpoints import (
    free_path,
    missing_states,
    saved_checkpoints,
    set_aside,
    unexpected_files,
)
from utils.reading.hub import hub_id, local_model
from utils.reading.table import locate

DEFAULT_FOLDER = ROOT / "runs" / "training"
CARD_TEMPLATE = Path(__file__).with_name("model_card.md")
# What a run leaves in its folder. A folder that holds anything else is not deleted.
TABLES = ("new_texts*.csv", "predictions.csv", "suspicious_labels.csv")
MADE = ("README.md", "checkpoints", "figures", "metrics.json", "model", *TABLES)
# What may be there before the first run: papermill's notebook, the batch's run.json, somebody's log.
HARMLESS = ("*.ipynb", "*.log", "run.json", "checkpoints", "lost+found", ".*")
STACK = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "pandas", "scikit-learn")
BASELINES = {
    "majority": "the commonest label",
    "tfidf_logreg": "TF-IDF + logistic regression",
    "embeddings_logreg": "embeddings + logistic regression",
    "mean": "the mean of the training rows",
    "tfidf_ridge": "TF-IDF + ridge regression",
    "embeddings_ridge": "embeddings + ridge regression",
}
HUB_METRICS = {"f1_macro": "f1", "f1_micro": "f1", "pearson": "pearsonr", "spearman": "spearmanr"}


class RunError(RuntimeError):
    """A run that cannot start in the folder it was given; the message says what to do."""


class Run(NamedTuple):
    """An open run: its folder, the checkpoint to continue from (None: from the start), a remark."""

    folder: Path
    checkpoint: Path | None
    remark: str

    @property
    def step(self) -> int:
        """The optimizer step of the checkpoint; 0 without one."""
        return int(self.checkpoint.name.rpartition("-")[2]) if self.checkpoint else 0

    @property
    def trained(self) -> bool:
        """Whether the checkpoint is the last one: what is left is what follows the training."""
        state = read_json(self.checkpoint / "trainer_state.json") if self.checkpoint else {}
        return 0 < state.get("max_steps", 0) <= self.step


def open_run(parameters: Mapping[str, Any]) -> Run:
    """Make the run folder ready, so that no checkpoint or result of another run can be taken for this one's.

    `output_dir` None means runs/training in the repository; an earlier run moves to runs/training-previous,
    or to runs/training-unfinished where it did not finish. A folder that you name must be new, or empty, or
    with `resume` hold a run of the same parameters and data. What Trainer would wrongly take for a checkpoint
    moves to checkpoints/set_aside. TensorBoard's logs, if asked for, will go to the folder. To continue, the
    bytes of the files must be the same, too.

    Raises:
        RunError: the folder holds another run or something else, is or holds a link, or cannot be written.
        TableError: a data file is not there.
    """
    named = parameters["output_dir"] is not None
    folder = Path(os.path.abspath(os.path.expanduser(parameters["output_dir"]))) if named else DEFAULT_FOLDER
    identity = {name: value for name, value in parameters.items() if name not in NOT_IDENTITY}
    files = (parameters[name] for name in ("data_file", "validation_file", "test_file"))
    identity["data_sha256"] = [sha256(locate(file)) for file in files if file]
    identity = json.loads(json.dumps(identity))
    checkpoints = folder / "checkpoints"
    remark = f"Everything goes to {display_path(folder)}."
    _refuse_unexpected(folder)

    if parameters["resume"]:
        _refuse_other(checkpoints, identity)
    elif saved_checkpoints(checkpoints) or (folder / "metrics.json").exists():
        if named:
            remedy = "Give another output_dir, or set resume=True to continue that run, or delete the folder."
            raise RunError(f"{folder} holds an earlier run. {remedy}")
        remark += _keep_previous(folder, parameters["model_name"])

    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        moved = [f"{name} ({why}) to {display_path(aside)}" for name, why, aside in set_aside(checkpoints)]
        remark += f" Moved {'; '.join(moved)}." if moved else ""
        (folder / "metrics.json").unlink(missing_ok=True)  # from here on the run is unfinished
        with atomic_path(checkpoints / "run.json") as partial:
            partial.write_text(json.dumps(identity, indent=1))
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error.strerror}). Give another output_dir.") from None

    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    last = next(reversed(saved_checkpoints(checkpoints)), None)
    if last:
        remark += f" Continuing from {last.name}."
        if states := missing_states(last):
            remark += f" It holds weights only (save_only_model): {', '.join(states)} begin anew,"
            remark += " so the result will differ from that of an unbroken run."
    elif parameters["resume"]:
        remark += " There is no checkpoint yet: starting from the beginning."
    return Run(folder, last, remark)


def _refuse_unexpected(folder: Path) -> None:
    """Refuse links, and a folder with something that no run has made, such as the repository."""
    links = [path for path in (folder, *folder.glob("*")) if path.is_symlink()]
    if links:
        remedy = "Give a folder that is none and holds none, such as that one, as output_dir."
        raise RunError(f"{links[0]} is a link to {os.readlink(links[0])}. {remedy}")
    unexpected = ", ".join(unexpected_files(folder, HARMLESS)[:5])
    if unexpected and not _is_run(folder):
        fault = f"{folder} holds what no run of this notebook has made: {unexpected}."
        raise RunError(f"{fault} Give a new or an empty folder as output_dir.")


def _is_run(folder: Path) -> bool:
    record = read_json(folder / "metrics.json")
    return "parameters" in record or (folder / "checkpoints" / "run.json").is_file()


def _keep_previous(folder: Path, model_name: str) -> str:
    """Move a run aside, in place of an older one, and return a remark. What no run has made is kept.

    Refuse where the new run starts from a model in one of the two folders.
    """
    finished = (folder / "metrics.json").exists()
    kind = "previous" if finished else "unfinished"  # which takes no finished one's place
    previous, model = folder.with_name(f"{folder.name}-{kind}"), local_model(model_name)
    if model and any(model.is_relative_to(place.resolve()) for place in (folder, previous)):
        fault = f"{display_path(model)} would be moved or deleted by this run, which starts from it."
        raise RunError(f"{fault} Give an output_dir.")
    remark = f" The run that was there is now {display_path(previous)}, in place of an older one"
    if _is_run(previous) and not previous.is_symlink() and not unexpected_files(previous, MADE):
        shutil.rmtree(previous, ignore_errors=True)
    elif os.path.lexists(previous):
        kept = previous.rename(free_path(previous))
        remark += f", which is now {display_path(kept)}, for it holds more than a run leaves"
    folder.rename(previous)
    return f"{remark}."


def _refuse_other(checkpoints: Path, identity: Mapping[str, Any]) -> None:
    if not saved_checkpoints(checkpoints):
        return
    before = read_json(checkpoints / "run.json")
    if not before:
        fault = f"{checkpoints} holds checkpoints, but not the run.json that says of which run."
        raise RunError(f"{fault} Give another output_dir.")
    names = [name for name in identity | before if before.get(name) != identity.get(name)]
    changes = "; ".join(f"{name} was {before.get(name)!r} and is {identity.get(name)!r}" for name in names)
    if changes:
        fault = f"{checkpoints.parent} holds a run with other parameters: {changes}."
        raise RunError(f"{fault} Set them back, or give another output_dir.")


def display_path(path: Path) -> str:
    """Return a path for people and records: from the repository on if inside, else without the home."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else without_home(str(path))


def without_home(value: Any) -> Any:
    """Return a path in the home folder, or those of a mapping, as ~/..., which tells nobody whose it is."""
    if isinstance(value, Mapping):
        return {name: without_home(path) for name, path in value.items()}
    if isinstance(value, str) and Path(value).is_relative_to(Path.home()):
        return f"~/{Path(value).relative_to(Path.home()).as_posix()}"
    return value


def versions() -> dict[str, Any]:
    """Return what a number may depend on: versions, processor, threads. No paths and no host name."""
    import torch

    machine = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
    return machine | {name: version(name) for name in STACK}


def write_predictions(folder: Path, review, probabilities=None, names=(), doubts=None) -> None:
    """Write predictions.csv, a line a test row: row, text, label, predicted, probability_<label> for each.

    Of pairs also text_pair, behind text.

    What a spreadsheet would run as a formula gets an apostrophe in front; `utils.unquote_formula` undoes it.

    Args:
        review: a frame with `row` (the number in the file; the first below the header is 1), `text`, `label`
            and `predicted`, as `utils.metrics.review` returns it.
        probabilities: shape (rows, labels), with the labels' `names`; without names none are written.
        doubts: what `utils.answers.doubt.in_doubt` says of the rows: the column `review`. None for none.
    """
    names_kept = ("row", "text", "text_pair", "label", "predicted")
    table = review[[name for name in names_kept if name in review]]
    table = (table if doubts is None else table.assign(review=doubts)).map(quote_formula)
    if len(names):
        columns = [f"probability_{name}" for name in names]
        table = table.join(pd.DataFrame(probabilities, table.index, columns))
    with atomic_path(folder / "predictions.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.6f", lineterminator="\r\n")


NO_SCORES = ("_runtime", "_per_second", "_time", "_predicted_classes")


def scores_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the scores and the loss in what `trainer.evaluate` returns, without `eval_` and times."""
    names = [name for name in metrics if name.startswith("eval_") and not name.endswith(NO_SCORES)]
    return {name.removeprefix("eval_"): float(metrics[name]) for name in names}


def history(log_history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the learning curves in `trainer.state.log_history`, whose checkpoints may be deleted, in order.

    {"epoch", "step", "loss", "learning_rate"} for each training loss and {"epoch", "step", "eval_loss",
    "eval_<score>"...} for each evaluation; no times, and nothing that is not finite.
    """
    kept = []
    for entry in log_history:
        if "loss" in entry or "eval_loss" in entry:
            scores = [f"eval_{name}" for name in scores_of(entry)]
            names = [name for name in ("epoch", "step", "loss", "learning_rate", *scores) if name in entry]
            kept.append({name: entry[name] for name in names if math.isfinite(entry[name])})
    return kept


def data_record(table, splits, labels: list[str]) -> dict[str, Any]:
    """Return what metrics.json says of the data: rows by split, source, labels, rows left out, findings."""
    rows = {f"{name}_rows": len(getattr(splits, name)) for name in ("train", "validation", "test")}
    findings = [finding._asdict() for finding in splits.findings]
    return rows | {"source": table.source, "labels": labels, "dropped": splits.dropped, "findings": findings}


def train_record(trainer, seconds: float, first_step: int = 0) -> dict[str, Any]:
    """Return what metrics.json says of the training; `first_step` is that of the checkpoint it began from."""
    share = (trainer.state.global_step - first_step) / trainer.state.max_steps
    rows = share * trainer.args.num_train_epochs * len(trainer.train_dataset)
    speed = {"samples_per_second": round(rows / seconds, 1), "continued_from_step": first_step}
    done = {"epochs": trainer.args.num_train_epochs, "steps": trainer.state.global_step}
    return {"seconds": seconds} | done | {"learning_rate": trainer.args.learning_rate} | speed


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the model card and then metrics.json, last and atomically: without it a run is not finished.

    Paths among the parameters that lie in the home folder begin with ~.
    """
    parameters = {name: without_home(value) for name, value in record["parameters"].items()}
    record = {**record, "parameters": parameters}
    with atomic_path(folder / "README.md") as partial:
        partial.write_text(model_card(record), encoding="utf-8")
    entries = ",\n  ".join(json.dumps(entry, allow_nan=False) for entry in record.get("history", []))
    short = record | {"history": []} if entries else record
    text = json.dumps(short, indent=1, ensure_ascii=False, allow_nan=False)
    if entries:  # a line each, not a line a number; no text in JSON has a line break: this is the key itself
        text = text.replace('\n "history": []', f'\n "history": [\n  {entries}\n ]')
    with atomic_path(folder / "metrics.json") as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")


def _escaped(value: Any) -> Any:
    """Write the texts in a value so that in Markdown nothing of them becomes HTML, a link, a list, a cell."""
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(item) for item in value]
    if value is None or isinstance(value, (int, float)):
        return value
    text = " ".join(str(value).split())
    text = re.sub(r"[\\`*\[\]$~|]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    text = re.sub(r"^(\d*)([#+.)-]+)(?=\s|$)", r"\1\\\2", text)  # "- " and "1. " would begin a list
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _on_card(name: str, value: Any) -> str:
    """Return a parameter as the card shows it: of a path only the last part, for folders are private."""
    hub = name == "model_name" and not Path(value).expanduser().is_absolute()
    return Path(value).name if value and name in PATHS and not hub else str(value)


def _main_score(record: Mapping[str, Any]) -> tuple[str, float, float, float]:
    """Return the name of the score that has an interval, the test score, and the interval's ends."""
    name = next(key.removesuffix("_ci95") for key in record["test"] if key.endswith("_ci95"))
    return name, record["test"][name], *record["test"][f"{name}_ci95"]


def _slug(name: str) -> str:
    """Return the last part of a name in characters that the Hub takes and that do nothing in Markdown."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", Path(name).name).strip("-.") or "own"


def model_card(record: Mapping[str, Any]) -> str:
    """Return the model card as Markdown, with the Hub's metadata; utils/model_card.md is its template.

    The metadata name no licence: that depends on the model and the data, and is for you to say.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    used, test = record["parameters"], record["test"]
    columns = [name for name in test if name != "loss" and not name.endswith("_ci95")]
    model, data = _slug(used["model_name"].partition("@")[0]), _slug(used["test_file"] or used["data_file"])
    kind = "text-classification"
    where = {"task_type": kind, "dataset_type": data, "dataset_name": data, "dataset_split": "test"}
    results = [
        EvalResult(metric_type=HUB_METRICS.get(name, name), metric_name=name, metric_value=value, **where)
        for name, value in ((name, round(float(test[name]), 4)) for name in columns)
    ]
    about = {"library_name": "transformers", "pipeline_tag": kind, "base_model": hub_id(used["model_name"])}
    metadata = ModelCardData(model_name=f"{model}-{data}", eval_results=results, **about)
    settled = (train := record.get("train", {})) | {"num_train_epochs": train.get("epochs")}  # for None
    parameters = {name: _on_card(name, settled.get(name) or value) for name, value in used.items()}
    contents = _escaped({**record, "parameters": parameters})
    baselines = {BASELINES.get(name) or _escaped(name): block for name, block in record["baselines"].items()}
    contents |= {"task": used["task"], "columns": columns, "scores": baselines | {"this model": test}}
    contents |= {"main_score": _main_score(record), "not_identity": NOT_IDENTITY}
    contents["pairs"] = bool(used.get("text_pair_column"))
    return f"{ModelCard.from_template(metadata, template_path=str(CARD_TEMPLATE), **contents)}\n"


def summary(folder: Path) -> str:
    """Return in a few lines where the model of a finished run is, how it did, and what was remarked on.

    Raises:
        RunError: the run did not finish, or there is none.
    """
    if not folder.is_dir():
        raise RunError(f"There is no folder {display_path(folder)}. Give the output_dir of a run.")
    if not (folder / "metrics.json").exists():
        raise RunError(f"{display_path(folder)} has no metrics.json: the run did not finish.")
    record, path = read_json(folder / "metrics.json"), display_path(folder / "metrics.json")
    if "baselines" not in record:
        raise RunError(f"{path} is no record of a run of the template. Give the output_dir of one.")
    name, value, low, high = _main_score(record)
    baselines = reversed(record["baselines"].items())
    known = {rung: BASELINES.get(rung, rung) for rung in record["baselines"]}  # or a rival's name
    others = ", ".join(f"{block[name]:.3f} for {known[rung]}" for rung, block in baselines)
    interval = f"95% interval {low:.3f} to {high:.3f}, {record['data']['test_rows']:,} rows"
    findings = record["data"].get("findings", []) + record.get("checks", [])
    warned = dict.fromkeys(f["id"] for f in findings if f["id"] != "predict-order")  # the template answers it
    remarks = f"\nWarnings, in full in metrics.json: {', '.join(warned)}" if warned else ""
    return (
        f"The fine-tuned model is in {display_path(folder / 'model')}\n"
        f"Test {name} {value:.3f} ({interval}), against {others}\n"
        f"Everything about the run: {path}, {display_path(folder / 'README.md')}{remarks}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    description = "Say where the model of a finished run is, how good it is, and what it says of some texts."
    parser = argparse.ArgumentParser(prog="python -m utils.runs", description=description)
    parser.add_argument("folder", type=Path, help="the output_dir of the run, such as runs/training")
    parser.add_argument("texts", nargs="*", help="texts to label, each in quotes")
    asked = parser.parse_args(arguments)
    try:
        print(summary(asked.folder.absolute()))
        if asked.texts:
            from utils.predict import label_texts, load_classifier

            for answer in label_texts(load_classifier(asked.folder / "model"), asked.texts).itertuples():
                print(f"{answer.predicted}: {answer.text}")
    except (RunError, ModelError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
