"""The table of old arguments against the installed library."""

import warnings

import pytest
import transformers
from packaging.version import Version
from transformers import Trainer, TrainingArguments

from utils.lessons.renames import RENAMES, accepts, rename_table, translate

INSTALLED = Version(transformers.__version__)
ALL = [(target, rename) for target, renames in RENAMES.items() for rename in renames]


@pytest.mark.parametrize(("target", "rename"), ALL, ids=[rename.old for _, rename in ALL])
def test_the_installed_library_agrees(target, rename):
    assert accepts(target, rename.old) == (Version(rename.gone) > INSTALLED)
    if rename.new and rename.new != "activation_checkpointing":  # that one came after 5.15
        assert accepts(target, rename.new)
    assert rename.new in rename.write or not rename.new
    if not accepts(target, rename.old):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{rename.old}'"):
            target(**{rename.old: 1})


def test_no_name_stands_twice():
    names = [(target, rename.old) for target, rename in ALL]
    assert len(names) == len(set(names))
    assert len(rename_table()) == len(names)


def test_translate_names_what_to_write():
    table = translate(["output_dir", "warmup_ratio", "evaluation_strategy", "learning_rat"]).set_index(
        "argument"
    )
    assert table["works"].tolist() == [True, False, False, False]
    assert table["write today"].tolist()[:3] == [
        "",
        "warmup_steps=0.1 (below 1: a share of the steps)",
        "eval_strategy=...",
    ]
    assert "check the spelling" in table.loc["learning_rat", "write today"]
    assert translate(["tokenizer", "args"], Trainer)["write today"].tolist() == [
        "processing_class=tokenizer",
        "",
    ]


def test_an_old_name_that_still_works_stays_only_while_there_is_no_new_one():
    advice = translate(["gradient_checkpointing"])["write today"].item()
    assert advice == (
        "activation_checkpointing=..." if accepts(TrainingArguments, "activation_checkpointing") else ""
    )
    if advice:
        with pytest.warns(FutureWarning, match="activation_checkpointing"):
            TrainingArguments("unused", gradient_checkpointing=True)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            TrainingArguments("unused", gradient_checkpointing=True)
