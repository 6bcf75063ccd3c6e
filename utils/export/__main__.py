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

*loss*: how much of the test score is lost against the {full}, *low* to *high* its 95% interval (paired, {rows:,}
test rows). *agreement*: the score if the {full}'s answers were the truth. Times: {threads} threads of the
machine that wrote this, {batch} texts at a time; *p50* and *p95* of one text alone.

{remarks}

`python answer.py FOLDER texts.txt > answers.csv` labels a file with a text a line. It needs no more than
`pip install numpy tokenizers onnxruntime`; the student not even the last.
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
    with atomic_path(target) as partial:
        folders = {FULL: trained.folder} | {kind: partial / kind for kind in KINDS}
        if {"onnx", "int8"} & {*kinds}:
            off = sizes.write_onnx(loaded, train, folders["onnx"])
            remarks.append(f"The logits of onnx are those of PyTorch, but for {off:.0e} at most.")
        if "int8" in kinds:
            sizes.write_int8(loaded, folders["onnx"], folders["int8"])
        if "student" in kinds:
            sizes.write_student(loaded, train, sizes.torch_logits(loaded, train), folders["student"])
        made = {FULL: sizes.measure(trained.folder, trained)}
        for kind in kinds:
            if kind != "onnx":
                sizes.calibrate(folders[kind], trained)
            made[kind] = sizes.measure(folders[kind], trained, made[FULL])
        kept = {*kinds}
        if "int8" in kinds and (fault := sizes.refused(made["int8"], max_loss)):
            remarks.append(fault)
            kept.remove("int8")
        if "student" in kinds and TASKS[loaded[2]].classes:
            asked = next(name for name in ("int8", "onnx", FULL) if name in {*kept, FULL})
            made["cascade"], words = sizes.cascade(made["student"], made[asked], trained)
            remarks.append(f"cascade: {words} {asked} answers the others.")
        for kind in {*KINDS} - kept:
            shutil.rmtree(folders[kind], ignore_errors=True)
        shutil.copy(answer.__file__, partial / "answer.py")
        lines = [["", *made[FULL].line], ["---"] * (1 + len(made[FULL].line))]
        lines += [[name, *(f"{value:.4g}" for value in size.line.values())] for name, size in made.items()]
        facts = {"full": FULL, "rows": len(trained.rows["test"]), "batch": sizes.BATCH}
        facts |= {"threads": torch.get_num_threads(), "remarks": "\n".join(f"- {each}" for each in remarks)}
        text = README.format(table="\n".join(f"| {' | '.join(line)} |" for line in lines), **facts)
        (partial / "README.md").write_text(text, encoding="utf-8")
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    about = (
        "Write a run's model as ONNX, as ONNX of whole numbers, and as a student; without a flag, all three."
    )
    parser = argparse.ArgumentParser(prog="python -m utils.export", description=about)
    parser.add_argument("model", help="a folder that a run wrote, such as runs/training/model")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", action="store_true")
    parser.add_argument("--max-loss", type=float, default=0.01, help="of int8's score (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        folder = export(
            open_trained(given.model), [k for k in KINDS if vars(given)[k]] or KINDS, given.max_loss
        )
    except (ModelError, TableError) as error:
        sys.exit(str(error))
    print((folder / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
