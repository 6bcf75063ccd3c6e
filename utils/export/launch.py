"""The template on several devices: its cells become a script, which accelerate starts once for each.

    python -m utils.export.launch notebooks/params/own_csv.yaml --processes 2

Trainer deals the rows of a batch out to the processes and brings gradients and answers together, so that all
hold the same numbers. The first process alone opens the run folder and writes there.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env, patch_environment
from IPython.core.inputtransformer2 import TransformerManager
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from utils import ROOT, models, preflight, runs
from utils.parameters import ParameterError, check_parameters
from utils.reading import find_input
from utils.runs import RunError

TEMPLATE = ROOT / "notebooks" / "template.ipynb"
FIRST = "import sys\n\nfrom IPython.display import display\n\nfrom utils.export.launch import begin\n\n"
# What accelerate would warn about if it were left out; port 0 is a free one
USUAL = "--multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"


def script_of(notebook: Path, given: dict, processes: int) -> tuple[str, dict]:
    """Return a notebook's code cells as a script for `processes` processes, and all its parameters.

    A line for each of `given` stands behind the parameters cell, as papermill would put it. The batch sizes
    are those of all processes together: they are divided, and a step takes as many rows as with one process.

    Raises:
        ParameterError: a parameter is misspelt or impossible, or a batch size does not divide.
    """
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    source = {cell.id: TransformerManager().transform_cell(cell.source) for cell in cells}  # %pip is a call
    place = next(cell.id for cell in cells if "parameters" in cell.metadata.get("tags", ()))

    def lines(values: dict) -> str:
        return "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in values.items()), ""])

    space = {"In": [lines(given)]}  # where papermill's would be looked for
    exec(source[place] + lines(given), space)
    parameters = check_parameters(space)
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        share, left = divmod(parameters[name], processes)
        if left:
            fault = f"{name}={parameters[name]} cannot be shared by {processes} processes"
            raise ParameterError(f"{fault}. Give a multiple, such as {(share + 1) * processes}.")
        given = given | {name: share}
    source[place] += lines(given)
    for name in [name for name, text in source.items() if "predict_in_order(" in text][-1:]:
        source[name] += "if not first:\n    sys.exit()  # what follows takes one process\n"
    texts = [f"{FIRST}first = begin()\n", *(f"# %% [{name}]\n{text}" for name, text in source.items())]
    return "\n\n".join(texts), parameters | given


def begin() -> bool:
    """Join the other processes, and say whether this is the first. The script of each begins with it.

    The others print nothing, and have a run folder of their own beside the script, which the launcher
    deletes. Common to all are Trainer's checkpoints, and the saved model, which all check.

    Raises:
        RunError: the processes do not find each other.
    """
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if state.num_processes != int(os.environ.get("WORLD_SIZE", 1)):  # each would train a model of its own
        raise RunError("The processes do not find each other. Without a GPU, set ACCELERATE_USE_CPU=true.")
    open_run, check_saved, plan = runs.open_run, preflight.check_saved, models.epochs_and_rate
    run, order = None, LengthGroupedSampler.__iter__

    def open_once(parameters):
        nonlocal run
        (run,) = broadcast_object_list([open_run(parameters) if state.is_main_process else None])
        if state.is_main_process:
            shutil.copy(sys.argv[0], run.folder / "checkpoints")
            return run
        (own := Path(sys.argv[0]).parent / f"process-{state.process_index}").mkdir()
        (own / "checkpoints").symlink_to(run.folder / "checkpoints")
        return run._replace(folder=own)

    def check_together(folder, trainer):
        state.wait_for_everyone()  # save_pretrained writes in the first process only
        return check_saved(run.folder / folder.name, trainer)

    def same_order(sampler):  # dropout draws, too: from the second epoch on, each would have its own order
        return iter(broadcast_object_list([list(order(sampler))])[0])

    def train_together(trainer, **options):
        # evaluate() has prepared the model: train() would not wrap it, and each process train alone
        model = trainer.model
        model.forward = vars(model).get("_original_forward", model.forward)  # or there would be two autocasts
        model._is_accelerate_prepared = False
        return train(trainer, **options)

    # Transformers 5.15 resumes on "cpu:0", which torch.load does not know
    torch.serialization.register_package(0, lambda _: None, lambda it, at: it if at == "cpu:0" else None)
    train, Trainer.train = Trainer.train, train_together
    runs.open_run, preflight.check_saved = open_once, check_together
    LengthGroupedSampler.__iter__ = same_order
    models.epochs_and_rate = lambda rows, size: plan(rows, size * state.num_processes)
    if not state.is_main_process:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # as long as the process lives
    return state.is_main_process


def launch(given: dict, processes: int, options: Sequence[str] = (), notebook: Path = TEMPLATE) -> Path:
    """Run a notebook that has the template's parameters on several processes, and return the run's folder.

    `processes` are those of all machines together; `options` are those of `accelerate launch`.

    Raises:
        RunError: fewer than two processes, too few GPUs; or one failed or was killed, and all have ended.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    gpus = torch.cuda.device_count()
    if processes < 2:
        raise RunError("For one process, run the notebook itself, or papermill. Say --processes 2, or more.")
    if 0 < gpus < processes and not options:  # which may name more machines
        raise RunError(f"{processes} processes need as many GPUs, and here are {gpus}.")
    script, parameters = script_of(notebook, given, processes)
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        (path := Path(scratch) / "train.py").write_text(script, encoding="utf-8")
        usual = [] if "--config_file" in options else USUAL.split()
        asked = [*usual, "--num_processes", str(processes), *options, str(path)]
        environment = {"MPLBACKEND": "agg"} | ({} if gpus else {"ACCELERATE_USE_CPU": "true"})
        try:
            with patch_environment(**environment):
                launch_command(launch_command_parser().parse_args(asked))
        except ChildFailedError as error:
            failures = [(rank, failure.exitcode) for rank, failure in error.failures.items()]
            # SIGTERM is how the others were ended, and an error may be that they missed the killed one
            rank, code = min(failures, key=lambda failure: (failure[1] == -signal.SIGTERM, failure[1] > 0))
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else "failed, as stands above"
            remedy = "The run is not finished: the same command with --resume continues it."
            raise RunError(f"Process {rank} (0 to {processes - 1}) {how}. {remedy}") from None
    return Path(parameters["output_dir"] or runs.DEFAULT_FOLDER)


def main(arguments: Sequence[str] | None = None) -> None:
    about = "Run the template on several GPUs or machines. Further options go to accelerate launch."
    parser = argparse.ArgumentParser("python -m utils.export.launch", description=about, allow_abbrev=False)
    parser.add_argument("parameters", help="a YAML file, such as notebooks/params/own_csv.yaml")
    parser.add_argument("--processes", type=int, required=True, help="one a GPU, of all machines together")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument("--notebook", type=Path, default=TEMPLATE, help="a copy of the template")
    asked, options = parser.parse_known_args(arguments)
    try:
        given = yaml.safe_load(find_input(asked.parameters).read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ParameterError("this file must hold names with values, such as seed: 1.")
        given |= {"resume": True} if asked.resume else {}
        folder = launch(given, asked.processes, options, asked.notebook)
        if (folder / "metrics.json").exists():  # not yet, where another machine has the first process
            print(runs.summary(folder))
    except (ValueError, RunError, OSError, yaml.YAMLError) as error:
        sys.exit(f"{asked.parameters}: {error}")


if __name__ == "__main__":
    main()
