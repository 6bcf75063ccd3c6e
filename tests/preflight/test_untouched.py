"""preflight leaves everything as it was: weights, config, data, arguments, files and random numbers."""

import copy
import random

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from setups import made
from test_check_arguments import SETUPS as ARGUMENTS
from test_check_labels import SETUPS as LABELS
from test_check_run import SETUPS as RUN
from test_check_texts import SETUPS as TEXTS

from utils.preflight import preflight

BUILD = {name: fine.build for setups in (RUN, TEXTS, LABELS, ARGUMENTS) for name, fine in setups.fine.items()}


def state_of(trainer):
    """Return all that preflight might change, in a form that can be compared."""
    model, optimizer, schedule = trainer.model, trainer.optimizer, trainer.lr_scheduler
    evaluations = trainer.eval_dataset
    parts = [
        trainer.train_dataset,
        *(evaluations.values() if isinstance(evaluations, dict) else [evaluations]),
    ]
    values = {name: (str(v.dtype), v.float().numpy().tobytes()) for name, v in model.state_dict().items()}
    tokenizer, groups = trainer.processing_class, getattr(optimizer, "param_groups", ())
    config = getattr(model, "config", None)
    return {
        "weights": values,
        "config": config and (copy.deepcopy(config.to_dict()), sorted(vars(config))),
        "arguments": trainer.args.to_dict(),
        "modes": [module.training for module in model.modules()],
        "gradients": [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "data": [(p._fingerprint, p.format, p.column_names) for p in parts if isinstance(p, Dataset)],
        "columns": (trainer._signature_columns, trainer.label_names),
        "state": copy.deepcopy(vars(trainer.state)),
        "control": vars(trainer.control).copy(),
        "callbacks": list(trainer.callback_handler.callbacks),
        "optimizers": (optimizer, schedule),
        "rates": [{name: value for name, value in group.items() if name != "params"} for group in groups],
        "schedule": schedule and copy.deepcopy(schedule.state_dict()),
        "tokenizer": tokenizer and (tokenizer.padding_side, len(tokenizer), tokenizer.init_kwargs.copy()),
    }


def next_draws():
    return random.random(), np.random.random(), torch.rand(1).item()


def states_of_randomness():
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


def files_below(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


MODES = {
    "train": ["Bert", "regression", "several evaluation sets", "stream", "grouped by length", "multi-label"],
    "eval": [
        "GPT2",
        "decoder whose config learns its padding from Trainer",
        "plain torch model",
        "less memory",
    ],
    "mixed": ["DebertaV2", "tokenised on the fly", "shuffled and split", "accumulation with model_init"],
}
MODES["train"] += ["optimizer for tied weights of a masked language model", "metrics batch by batch"]
MODES["train"] += ["schedule that begins low", "schedule in one cycle", "schedule up and down from 0"]
MODES["eval"] += ["multi-label with the problem type left to the model", "torch format of some columns"]
MODES["eval"] += ["sorted rows in a loader of one's own that shuffles", "mixed rows in their order"]
MODES["mixed"] += ["LoRA", "optimizer and schedule of one's own"]
MODES["mixed"] += ["fresh model from model_init", "label smoothing in Trainer", "augmented at random"]
MODES["mixed"] += ["trainer with its own loss", "optimizer for the head only"]


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for mode, names in MODES.items() for name in names])
def test_preflight_leaves_everything_as_it_was(tmp_path, name, mode, capfd, monkeypatch):
    trainer, _ = made(BUILD[name], tmp_path)
    trainer.model.train(mode != "eval")
    if mode == "mixed":
        next(module for module in trainer.model.modules() if isinstance(module, torch.nn.Linear)).eval()
    monkeypatch.chdir(tmp_path)
    before, files, randomness = state_of(trainer), files_below(tmp_path), states_of_randomness()
    capfd.readouterr()
    preflight(trainer)
    assert capfd.readouterr().out == ""
    assert states_of_randomness() == randomness
    assert files_below(tmp_path) == files
    after = state_of(trainer)
    assert {key: before[key] == after[key] for key in before} == dict.fromkeys(before, True)


def trained(name, folder, before_training):
    """Train the set-up for four steps, from one seed, and return what came of it."""
    transformers.set_seed(1)
    trainer, _ = made(BUILD[name], folder)
    trainer.args.max_steps, trainer.args.logging_strategy, trainer.args.logging_steps = 4, "steps", 1
    trainer.args.save_strategy, trainer.args.load_best_model_at_end, trainer.state.logging_steps = (
        "no",
        False,
        1,
    )
    before_training(trainer)
    draws = next_draws()
    trainer.train()
    times = ("runtime", "samples_per_second", "steps_per_second", "total_flos")
    kept = lambda entry: {key: value for key, value in entry.items() if not key.endswith(times)}
    weights = {name: value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}
    return draws, weights, [kept(entry) for entry in trainer.state.log_history]


@pytest.mark.parametrize(
    "name",
    [
        "Bert",
        "decoder whose config learns its padding from Trainer",
        "augmented at random",
        "stream",
        "regression",
        "optimizer for tied weights of a masked language model",
    ],
)
def test_training_after_preflight_is_the_same_to_the_last_bit(tmp_path, name):
    alone = trained(name, tmp_path / "a", lambda trainer: None)
    assert trained(name, tmp_path / "b", preflight) == alone


def test_the_comparison_sees_a_random_number_that_was_drawn(tmp_path):
    draws = [
        trained("Bert", tmp_path / str(again), lambda _, again=again: again and next_draws())[0]
        for again in (0, 1)
    ]
    assert draws[0] != draws[1]
