"""What comes from strangers runs nothing: checkpoints that carry code."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 50}


class Bomb:
    """What pickle calls when it loads this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def trainer(folder):
    rows = Dataset.from_dict({"input_ids": [[1 + k % 40, 2] for k in range(16)], "label": [k % 2 for k in range(16)]})
    args = TrainingArguments(str(folder), max_steps=4, save_steps=2, logging_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False)
    return Trainer(BertForSequenceClassification(BertConfig(**SIZES)), args, train_dataset=rows)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer(folder).train()
    return folder / "checkpoint-2"


def test_the_bomb_goes_off_where_pickle_may(tmp_path):
    torch.save(Bomb(tmp_path / "went-off"), tmp_path / "bomb.pt")
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert (tmp_path / "went-off").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_resuming_from_a_checkpoint_that_carries_code_is_refused(tmp_path, checkpoint, name):
    (tmp_path / "checkpoint-2").mkdir()
    for file in checkpoint.iterdir():
        os.link(file, tmp_path / "checkpoint-2" / file.name)
    (tmp_path / "checkpoint-2" / name).unlink()
    torch.save(Bomb(tmp_path / "went-off"), tmp_path / "checkpoint-2" / name)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert not (tmp_path / "went-off").exists()


def test_weights_that_are_a_pickle_are_not_loaded(tmp_path):
    BertConfig(**SIZES).save_pretrained(tmp_path)
    torch.save(Bomb(tmp_path / "went-off"), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoModelForSequenceClassification.from_pretrained(Path(tmp_path), use_safetensors=True)  # as every notebook loads
    assert not (tmp_path / "went-off").exists()
