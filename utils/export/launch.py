"""The template on several devices, or machines: a script is made of its cells, and accelerate starts it in each.

    python -m utils.export.launch notebooks/params/own_csv.yaml --processes 2

All processes run the same cells. Trainer deals them the rows of a batch, and gathers their gradients and their
answers, so that all hold the same numbers. The first one alone opens the run folder and writes there.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from transformers.trainer_pt_utils import LengthGroupedSampler

from utils import ROOT, models, preflight, runs
from utils.findings import TableError
from utils.parameters import ParameterError, check_parameters
from utils.reading import find_input

TEMPLATE = ROOT / "notebooks" / "template.ipynb"
# What accelerate would ask or warn about; port 0 is a free one
USUAL = [
    "--multi_gpu",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
]


class LaunchError(ValueError):
    """A run that cannot be started on so many processes, or that ended early; the message says what to do."""


def script_of(notebook: Path, given: dict, processes: int) -> tuple[str, dict]:
    """Return a notebook's code cells as a script for `processes` processes, and all its parameters.

    A line a parameter of `given` stands behind the parameters cell, as papermill puts it. The batch size is a
    device's: it is divided, so that all together make steps of as many rows as one process would.

    Raises:
        ParameterError: a parameter is misspelt or impossible, as in the notebook itself.
        LaunchError: the batch size does not divide.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    source = {cell.id: TransformerManager().transform_cell(cell.source) for cell in cells}  # %pip is a call
    place = next(cell.id for cell in cells if "parameters" in cell.metadata.get("tags", ()))

    def checked(values: dict) -> tuple[str, dict]:
        lines, space = "\n".join(f"{name} = {value!r}" for name, value in values.items()), {}
        exec(f"{source[place]}\n{lines}", space)
        return lines, check_parameters({**space, "In": [f"# Parameters\n{lines}"]})

    parameters, divided = checked(given)[1], {}
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        divided[name], left = divmod(parameters[name], processes)
        if left:
            fault = f"{name}={parameters[name]} cannot be shared by {processes} processes"
            near = " or ".join(map(str, {max(1, divided[name]) * processes, (divided[name] + 1) * processes}))
            raise LaunchError(f"{fault}. Give a multiple, such as {near}, or another number of processes.")
    lines, parameters = checked(given | divided)
    source[place] += lines + "\n"
    predicts = [name for name, text in source.items() if "predict_in_order(" in text]
    if predicts:
        source[predicts[-1]] += "launch.end()  # from here on nothing takes more than one process\n"
    first = "from IPython.display import display\n\nfrom utils.export import launch\n\nlaunch.begin()\n"
    return "\n\n".join([first, *(f"# %% [{name}]\n{text}" for name, text in source.items())]), parameters


def begin() -> None:
    """Join the other processes; the first line of the script that each of them runs.

    All but the first print nothing, and have a run folder of their own beside the script, which the launcher
    deletes; common to all are Trainer's checkpoints, and the saved model, which all of them check. What
    counts the rows of a step counts those of all processes.

    Raises:
        LaunchError: the processes do not find each other.
    """
    state, expected = (
        PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")),
        os.environ.get("WORLD_SIZE"),
    )
    if str(state.num_processes) != expected:
        why = f"{state.num_processes} of {expected} processes: without a GPU, ACCELERATE_USE_CPU must be true"
        raise LaunchError(f"{why}. python -m utils.export.launch sets it.")
    open_run, check_saved, enough_epochs = runs.open_run, preflight.check_saved, models.enough_epochs
    run = None

    def open_once(parameters):
        nonlocal run
        (run,) = broadcast_object_list([open_run(parameters) if state.is_main_process else None])
        if state.is_main_process:
            return run
        own = Path(sys.argv[0]).parent / f"process-{state.process_index}"
        own.mkdir()
        (own / "checkpoints").symlink_to(run.folder / "checkpoints")
        return run._replace(folder=own)

    def check_together(folder, trainer):
        state.wait_for_everyone()  # save_pretrained writes in the first process only
        return check_saved(run.folder / folder.name, trainer)

    def same_order(sampler):  # random numbers that dropout takes would make each process's own
        return iter(broadcast_object_list([list(draw(sampler))])[0])

    draw, LengthGroupedSampler.__iter__ = LengthGroupedSampler.__iter__, same_order
    runs.open_run, preflight.check_saved = open_once, check_together
    models.enough_epochs = lambda rows, size: enough_epochs(rows, size * state.num_processes)
    if not state.is_main_process:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # as long as the process lives
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(1)
    os._exit(1)


def end() -> None:
    """End all processes but the first: what follows the last prediction takes one."""
    if not PartialState().is_main_process:
        sys.exit()


def launch(given: dict, processes: int, options: Sequence[str] = (), notebook: Path = TEMPLATE) -> Path:
    """Run a notebook with the template's parameters on several processes, and return the run's folder.

    `processes` are those of all machines together. `options` are those of `accelerate launch`. Without a GPU
    the processes work on the CPU, which shows that it works and is no faster.

    Raises:
        ParameterError, LaunchError: as `script_of`; or a process failed or was killed, and the others ended.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    script, parameters = script_of(notebook, given, processes)
    folder = Path(parameters["output_dir"] or runs.DEFAULT_FOLDER)
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        path = Path(scratch) / "train.py"
        path.write_text(script, encoding="utf-8")
        usual = [] if "--config_file" in options else USUAL
        asked = [*usual, "--num_processes", str(processes), *options, str(path)]
        command = launch_command_parser().parse_args(asked)
        gpus, here = torch.cuda.device_count(), processes // (command.num_machines or 1)
        if 0 < gpus < here:
            raise LaunchError(
                f"{here} processes need {here} GPUs, and there are {gpus}. Say --processes {gpus}."
            )
        os.environ |= {"MPLBACKEND": "agg"} | ({} if gpus else {"ACCELERATE_USE_CPU": "true"})
        try:
            launch_command(command)
        except ChildFailedError as error:  # SIGTERM is what the others got; an error may be what they missed

            def blame(item):
                return item[1].exitcode == -signal.SIGTERM, item[1].exitcode >= 0, item[0]

            rank, failure = min(error.failures.items(), key=blame)
            how = "ended with an error, which stands above"
            if failure.exitcode < 0:
                how = f"was killed ({failure.signal_name()}; too little memory is a common reason)"
            ended = f"Process {rank} of 0 to {processes - 1} {how}; the others were ended."
            remedy = "The same command with --resume continues from the last checkpoint."
            raise LaunchError(f"{ended} The run did not finish. {remedy}") from None
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    about = "Run the template on several GPUs or machines. Further options go to accelerate launch."
    parser = argparse.ArgumentParser("python -m utils.export.launch", description=about, allow_abbrev=False)
    parser.add_argument("parameters", help="a YAML file, such as notebooks/params/own_csv.yaml")
    parser.add_argument("--processes", type=int, required=True, help="one a GPU, of all machines together")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument("--notebook", type=Path, default=TEMPLATE, help="a copy of the template")
    asked, options = parser.parse_known_args(arguments)
    try:
        given = yaml.safe_load(find_input(asked.parameters).read_text(encoding="utf-8")) or {}
        given |= {"resume": True} if asked.resume else {}
        print(runs.summary(launch(given, asked.processes, options, asked.notebook)))
    except (LaunchError, ParameterError, TableError, OSError, yaml.YAMLError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
