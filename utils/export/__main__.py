"""`python -m utils.export runs/training/model`: a run's model in three sizes, measured; see `sizes`."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from utils import atomic_path
from utils.export import answer, sizes
from utils.export.trained import Trained, open_trained
from utils.findings import ModelError, TableError
from utils.inputs import texts_of
from utils.labels import TASKS

KINDS, FULL = ("onnx", "int8", "student"), "Trainer's model"
README = """# The model in other sizes

{table}

*lost*: how much of the test score is lost against {full}, *low* to *high* its 95% interval ({rows:,} test
rows, paired). *agreement*: the score if the answers of {full} were the truth. *p50* and *p95* are of one text
alone, *texts/s* of {batch} at a time, on the machine that wrote this (threads: {threads}).

{remarks}

`python answer.py FOLDER texts.txt > answers.csv` labels a file with a text a line. It needs no more than
`pip install numpy tokenizers "onnxruntime>=1.32"`, for the student not even the last.
"""


def export(trained: Trained, kinds: Sequence[str] = KINDS, max_loss: float = 0.01) -> Path:
    """Write `kinds` of a run's model into `<run>/export/`, in place of what was there, and return its path.

    int8 is left out where it may lose more than `max_loss` of the score (`sizes.refused`); README.md says so.
    With a student there is a line for the cascade of it and of the smallest full model that was written.

    Raises:
        ModelError: the model or its tokenizer cannot be exported; it says why.
    """
    loaded, target, remarks = trained.loaded, trained.folder.parent / "export", []
    train, kinds = texts_of(trained.rows["train"]).tolist(), [kind for kind in KINDS if kind in kinds]
    made, kept = {FULL: sizes.measure(trained.folder, trained)}, {*kinds}
    with atomic_path(target) as partial:
        if {"onnx", "int8"} & kept:
            off = sizes.write_onnx(loaded, train, partial / "onnx")
            remarks.append(f"onnx: the logits differ from PyTorch's by {off:.0e} at most.")
        for kind in kinds:
            if kind == "int8":
                sizes.write_int8(loaded, partial / "onnx", partial / kind)
            if kind == "student":
                sizes.write_student(loaded, train, sizes.torch_logits(loaded, train), partial / kind)
            if kind != "onnx":
                sizes.calibrate(partial / kind, trained)
            made[kind] = sizes.measure(partial / kind, trained, made[FULL])
        if "int8" in kinds and (fault := sizes.refused(made["int8"], max_loss)):
            remarks.append(fault)
            kept.remove("int8")
        if "student" in kinds and TASKS[loaded[2]].classes:
            asked = next(name for name in ("int8", "onnx", FULL) if name in {*kept, FULL})
            made["cascade"], words = sizes.cascade(made["student"], made[asked], trained, max_loss)
            remarks.append(f"cascade: {words} The others go to {asked}.")
        for kind in {*KINDS} - kept:
            shutil.rmtree(partial / kind, ignore_errors=True)
        shutil.copy(answer.__file__, partial / "answer.py")
        lines = [["", *made[FULL].line], ["---"] * (1 + len(made[FULL].line))]
        lines += [[name, *(f"{value:.4g}" for value in size.line.values())] for name, size in made.items()]
        facts = {"rows": len(trained.rows["test"]), "batch": sizes.BATCH, "threads": torch.get_num_threads()}
        facts |= {"table": "\n".join(f"| {' | '.join(line)} |" for line in lines), "full": FULL}
        text = README.format(remarks="\n".join(f"- {remark}" for remark in remarks), **facts)
        (partial / "README.md").write_text(text, encoding="utf-8")
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    about = (
        "Write a run's model as ONNX, as ONNX in whole numbers, and as a student; without a flag all three."
    )
    parser = argparse.ArgumentParser(prog="python -m utils.export", description=about)
    parser.add_argument("model", help="a folder that a run wrote, such as runs/training/model")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", action="store_true")
    limit = "how much of the score int8 and the cascade may lose (default: %(default)s)"
    parser.add_argument("--max-loss", type=float, default=0.01, help=limit)
    given = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if getattr(given, kind)] or KINDS
    try:
        folder = export(open_trained(given.model), kinds, given.max_loss)
    except (ModelError, TableError) as error:
        sys.exit(str(error))
    print((folder / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
