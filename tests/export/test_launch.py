"""The template on two processes: what is refused; one run that is killed, continued and finished."""

import json
import os
import random
import signal
from collections import Counter

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from builders import save_small

from notebooks import cell_of
from utils import ROOT, read_json, runs
from utils.export import launch
from utils.predict import label_texts, load_classifier

GIVEN = {"data_file": "tweets", "seed": 7}
CONFIGS = sorted((ROOT / "notebooks" / "params" / "accelerate").glob("*.yaml"))


@pytest.fixture(autouse=True)
def without_gpus(monkeypatch):
    """Two processes would want two GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


@pytest.mark.parametrize(
    "given, processes, message",
    [
        (GIVEN, 1, "For one process, run the notebook itself"),
        (
            GIVEN,
            3,
            "per_device_train_batch_size=16 cannot be shared by 3 processes. Give a multiple, such as 18",
        ),
        (
            GIVEN | {"per_device_eval_batch_size": 7},
            2,
            "per_device_eval_batch_size=7 cannot be shared by 2 processes",
        ),
        ({"sed": 1}, 2, "there is no parameter 'sed'. Did you mean 'seed'?"),
        ({"learning_rate": "2e-5"}, 2, "learning_rate must be a number"),
        (["seed"], 2, "given.yaml: this file must hold names with values"),
    ],
)
def test_what_cannot_start_is_refused_before_anything_does(tmp_path, given, processes, message):
    file = tmp_path / "given.yaml"
    file.write_text(yaml.safe_dump(given))
    with pytest.raises(SystemExit, match=message.replace("?", r"\?")):
        launch.main([str(file), "--processes", str(processes)])


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(runs.RunError, match="8 processes need as many GPUs, and here are 4"):
        launch.launch(GIVEN, 8)


def test_processes_that_do_not_find_each_other_stop(monkeypatch):
    """As without a GPU, where accelerate is not told to use the CPU: each would train alone."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(runs.RunError, match="do not find each other.*set ACCELERATE_USE_CPU=true"):
        launch.begin()


def test_the_script_has_every_cell_and_the_batch_shared():
    script, parameters = launch.script_of(launch.TEMPLATE, GIVEN, 4)
    compile(script, "train.py", "exec")
    assert parameters["per_device_train_batch_size"] == 4
    assert parameters["per_device_eval_batch_size"] == 4
    assert parameters["seed"] == 7
    cells = nbformat.read(launch.TEMPLATE, as_version=4).cells
    assert [cell.id for cell in cells if f"# %% [{cell.id}]\n" in script] == [
        cell.id for cell in cells if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_accelerate_takes_the_configurations(file):
    config = load_config_from_file(str(file))
    options = vars(launch_command_parser().parse_args(["train.py"]))
    assert set(config.fsdp_config) <= set(options)
    asked = launch_command_parser().parse_args(
        ["--config_file", str(file), "--num_processes", "6", "train.py"]
    )
    command = _validate_launch_command(asked)[0]
    assert (command.use_fsdp, command.multi_gpu) == (file.stem == "fsdp", file.stem != "fsdp")
    assert command.num_processes == 6
    assert command.fsdp_version == (2 if command.use_fsdp else "1")


# Each process notes which rows it trains on; the second kills itself once, in the second epoch.
SPY = """
import json, os, signal
from pathlib import Path
from transformers import TrainerCallback
noted = Path({folder!r}, f"rank-{{os.environ['RANK']}}.jsonl")

def note(module, args, inputs):
    if module.training:
        batch = zip(inputs["input_ids"], inputs["attention_mask"])
        rows = [[int(token) for token, real in zip(*row) if real] for row in batch]
        with open(noted, "a") as file:
            print(json.dumps([float(model.classifier.weight.sum()), [str(row) for row in rows]]), file=file)

model.register_forward_pre_hook(note, with_kwargs=True)
for part in model.modules():
    if isinstance(part, torch.nn.Dropout):
        part.p = 0.1  # draws random numbers, for each process as many as its own texts take

class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if not resume and state.global_step == 9 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

trainer.add_callback(Killed())
"""


@pytest.fixture
def own_signals():
    """Those of elastic stay where it has run."""
    before = {number: signal.getsignal(number) for number in (1, 2, 3, 15)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_killed_process_ends_the_run_and_resume_finishes_it(tmp_path, own_signals, capfd):
    draw, words = random.Random(5), ["good", "fine", "great", "bad", "poor", "awful"]
    texts = [" ".join(draw.choices(words, k=draw.randint(2, 20))) + f" {i}" for i in range(150)]
    labels = [
        "yes" if sum(word in words[:3] for word in text.split()) > len(text.split()) / 2 else "no"
        for text in texts
    ]
    pd.DataFrame({"text": texts, "label": labels}).to_csv(tmp_path / "rows.csv", index=False)
    save_small(tmp_path / "small", ["no", "yes"])
    notebook = nbformat.read(launch.TEMPLATE, as_version=4)
    place = notebook.cells.index(cell_of(notebook, "trainer")) + 1
    notebook.cells.insert(place, nbformat.v4.new_code_cell(SPY.format(folder=str(tmp_path)), id="spy"))
    nbformat.write(notebook, tmp_path / "copy.ipynb")
    given = {
        "data_file": str(tmp_path / "rows.csv"),
        "model_name": str(tmp_path / "small"),
        "num_train_epochs": 3,
    }
    given |= {"output_dir": str(tmp_path / "run"), "learning_rate": 3e-3}
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(given))
    command = [str(tmp_path / "given.yaml"), "--processes", "2", "--notebook", str(tmp_path / "copy.ipynb")]

    with pytest.raises(
        SystemExit, match=r"Process 1 \(0 to 1\) was killed \(SIGKILL\).*with --resume continues"
    ):
        launch.main(command)
    assert not [child for child in psutil.Process().children() if "train.py" in " ".join(child.cmdline())]
    with pytest.raises(runs.RunError, match="the run did not finish"):
        runs.summary(tmp_path / "run")
    first = [(tmp_path / f"rank-{rank}.jsonl").read_text().splitlines() for rank in (0, 1)]
    assert len(first[1]) == 9
    for rank in (0, 1):
        (tmp_path / f"rank-{rank}.jsonl").unlink()

    launch.main([*command, "--resume"])
    said = capfd.readouterr().out
    assert said.count("Continuing from checkpoint-7.") == said.count("labels: ['no', 'yes']") - 1 == 1
    record = read_json(tmp_path / "run" / "metrics.json")
    assert (record["train"]["steps"], record["train"]["continued_from_step"]) == (21, 7)
    assert record["parameters"]["per_device_train_batch_size"] == 8
    second = [(tmp_path / f"rank-{rank}.jsonl").read_text().splitlines() for rank in (0, 1)]
    for epoch in (0, 7):  # every row in each; a last step that is not full takes some of the first again
        steps = [[json.loads(line) for line in lines[epoch : epoch + 7]] for lines in second]
        assert [weights for weights, _ in steps[0]] == [weights for weights, _ in steps[1]]
        assert len({weights for weights, _ in steps[0]}) == 7
        together = [one + other for (_, one), (_, other) in zip(*steps, strict=True)]
        counts = Counter(row for rows in together for row in rows)
        assert [len(rows) for rows in together] == [16] * 7
        assert len(counts) == record["data"]["train_rows"] > 100
    folder = tmp_path / "run"
    made = {
        "README.md",
        "checkpoints",
        "figures",
        "metrics.json",
        "model",
        "predictions.csv",
        "suspicious_labels.csv",
    }
    assert {path.name for path in folder.iterdir()} == made
    table = pd.read_csv(folder / "predictions.csv")
    assert table["row"].is_monotonic_increasing
    alone = label_texts(load_classifier(folder / "model"), table["text"])["probability_yes"]
    assert np.corrcoef(table["probability_yes"], alone)[0, 1] > 0.99
    assert "ACCELERATE_USE_CPU" not in os.environ
