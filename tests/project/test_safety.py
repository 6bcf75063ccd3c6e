"""What comes from strangers runs nothing: checkpoints that carry code.

And no parameter writes where it should not: folders that are no run's, links.
"""

import json
import os
import pickle
import platform
import shutil
import socket
from pathlib import Path

import pytest
import torch
from batches import notebook_of
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from markup import ALL
from test_runs import GOOD, record
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from utils import ROOT
from utils.batch.plan import BatchError, run_id
from utils.batch.runner import run_batch
from utils.runs import RunError, model_card, open_run, versions, write_record

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 50,
}


class Bomb:
    """What pickle calls when it loads this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def trainer(folder, **more):
    rows = Dataset.from_dict(
        {"input_ids": [[1 + k % 40, 2] for k in range(16)], "label": [k % 2 for k in range(16)]}
    )
    given = {
        "max_steps": 4,
        "save_steps": 2,
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    } | more
    args = TrainingArguments(str(folder), **given)
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
        AutoModelForSequenceClassification.from_pretrained(
            Path(tmp_path), use_safetensors=True
        )  # as every notebook loads
    assert not (tmp_path / "went-off").exists()


LOADING = """
import pathlib, sys
from transformers import AutoConfig
from utils.predict import load_classifier
for folder in map(pathlib.Path, sys.argv[1:]):
    try:
        load_classifier(folder, "cpu")
    except Exception as error:
        print(folder.name, "refused:", "trust_remote_code" in str(error))
    print(folder.name, "went off:", (folder / "went-off").exists())
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
    except AttributeError:  # own.py has no such class
        pass
    print(folder.name, "trusted, went off:", (folder / "went-off").exists())
"""


def test_code_that_lies_in_a_checkpoint_is_not_run(tmp_path, run_python):
    """It runs where somebody says trust_remote_code=True, which nothing here does.

    A model that the library knows is loaded by the library's own code.
    """
    for kind in ("bert", "unheard-of"):
        model = tmp_path / kind
        BertForSequenceClassification(BertConfig(**SIZES)).save_pretrained(model)
        config = json.loads((model / "config.json").read_text())
        classes = {
            "AutoConfig": "own.Config",
            "AutoModel": "own.Model",
            "AutoModelForSequenceClassification": "own.Model",
        }
        (model / "config.json").write_text(json.dumps(config | {"model_type": kind, "auto_map": classes}))
        (model / "own.py").write_text(f"import os\nos.mkdir({str(model / 'went-off')!r})\n")
        (model / "tokenizer_config.json").write_text(
            json.dumps({"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}})
        )
        (model / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    answer = run_python(
        LOADING,
        tmp_path / "bert",
        tmp_path / "unheard-of",
        HF_HUB_OFFLINE="1",
        HF_MODULES_CACHE=str(tmp_path / "modules"),
    )
    said = answer.stdout  # Transformers asks, too, and nobody answers
    assert "unheard-of refused: True\n" in said, answer.stderr
    for kind in ("bert", "unheard-of"):
        assert f"{kind} went off: False\n" in said
        assert f"{kind} trusted, went off: True\n" in said


# --- nothing is written outside of the output folder, nor over what is no run -------------------------------


def tree(folder):
    """Return all that is in a folder: the bytes of files, the targets of links, None for folders."""

    def content(path):
        return os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None

    return {path.relative_to(folder).as_posix(): content(path) for path in folder.rglob("*")}


def open_in(folder, **changes):
    return open_run(GOOD | {"output_dir": str(folder)} | changes)


@pytest.mark.parametrize("saved", ["whole", "in shards", "save_only_model"])
def test_a_continued_run_takes_what_trainer_saved_and_its_rotation_leaves_the_rest(tmp_path, saved):
    folder = open_in(tmp_path, resume=True).folder / "checkpoints"
    first = trainer(folder, save_only_model=saved == "save_only_model")
    if saved == "in shards":
        save = first.model.save_pretrained
        first.model.save_pretrained = lambda *args, **options: save(*args, **options, max_shard_size="1KB")
    first.train()
    assert (folder / "checkpoint-4" / "model.safetensors.index.json").exists() == (saved == "in shards")
    assert (folder / "checkpoint-4" / "optimizer.pt").exists() == (saved != "save_only_model")
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-best")
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-6")
    (folder / "checkpoint-6" / "trainer_state.json").unlink()  # a run killed while it saved
    kept = {name: tree(folder / name) for name in ("checkpoint-6", "checkpoint-best")}
    run = open_in(tmp_path, resume=True)
    assert run.checkpoint == folder / "checkpoint-4"
    more = trainer(folder, max_steps=10, save_total_limit=1)
    more.train(resume_from_checkpoint=str(run.checkpoint))
    assert more.state.global_step == 10
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-10"]
    assert {name: tree(folder / "set_aside" / name) for name in kept} == kept


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "name", ["README.md", "metrics.json", "figures/mine.png", "model/model.safetensors", "thesis.docx"]
)
def test_a_folder_with_something_of_your_own_is_refused_and_left_alone(tmp_path, name, resume):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(RunError, match="holds (what no run of this notebook has made: |an earlier run)"):
        open_in(tmp_path / "mine", resume=resume)
    assert tree(tmp_path / "mine")[name] == b"mine"
    assert not (tmp_path / "mine" / "checkpoints").exists()


@pytest.mark.parametrize(
    "folder",
    [ROOT, ROOT / "notebooks", ROOT / "data", ROOT / "utils", ROOT.parent],
    ids=["root", "notebooks", "data", "utils", "parent"],
)
def test_the_repository_and_what_it_lies_in_are_refused(folder):
    before = sorted(folder.iterdir())
    with pytest.raises(RunError, match="holds what no run of this notebook has made"):
        open_in(folder)
    assert [path for path in before if not path.exists()] == []
    assert not (folder / "checkpoints").exists()


def test_papermills_notebook_the_batchs_record_and_a_log_may_be_there_first(tmp_path):
    for name in ("out.ipynb", "run.json", "papermill.log", ".DS_Store"):
        (tmp_path / name).write_text("{}")
    assert open_in(tmp_path).folder == tmp_path
    (tmp_path / "README.md").write_text("a run that ended before it had a checkpoint")
    assert open_in(tmp_path).folder == tmp_path


@pytest.mark.skipif(os.name == "nt", reason="making links needs a right there that users do not have")
def test_links_are_refused_as_output_folder_and_inside_of_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "dangling").symlink_to("nowhere")
    run = open_in(tmp_path / "run").folder
    (run / "figures").symlink_to(tmp_path / "elsewhere")
    for folder in ("link", "dangling", "run"):
        with pytest.raises(RunError, match="is a link to .*(else|no)where"):
            open_in(tmp_path / folder, resume=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_batch_refuses_a_folder_that_is_no_batchs_and_the_one_with_the_notebook(tmp_path):
    notebook = notebook_of(tmp_path / "small.ipynb")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "figures").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(BatchError, match="holds the notebook, which a copy without outputs would replace"):
        run_batch({"notebook": notebook}, tmp_path)
    with pytest.raises(
        BatchError, match="holds what no batch has made: figures; give a new or an empty folder"
    ):
        run_batch({"notebook": notebook}, tmp_path / "mine")
    with pytest.raises(BatchError, match="holds what no batch has made"):
        run_batch({"notebook": notebook}, ROOT)
    assert tree(tmp_path) == before


values = st.one_of(
    st.text(max_size=99),
    st.sampled_from([*ALL, "..", ".", "../../x", "/", "\\", "..\\x", "C:\\x", "~", "$HOME", "a\0b", "con"]),
    st.floats(),
    st.lists(st.text()),
)


@given(st.dictionaries(st.text(min_size=1, max_size=20), values, max_size=4))
def test_the_folder_of_a_run_is_in_the_batchs_whatever_the_parameters(parameters):
    name = run_id(parameters, parameters, "04.ipynb")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+_-")
    assert name[0] not in ".-"
    assert name[-11] == "-"  # before ten digits of a hash, so it is no name that Windows keeps for itself


def test_a_batch_of_nasty_parameters_writes_into_its_folder_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    parameters, work = (
        "name = 'a'\noutput_dir = None",
        "import pathlib\npathlib.Path(output_dir, 'result.txt').write_text(name)",
    )
    notebook = notebook_of(tmp_path / "small.ipynb", parameters, work)
    before = tree(tmp_path)
    nasty = "../../../outside " + " ".join(ALL)
    board = run_batch({"notebook": notebook, "runs": [{"name": nasty}]}, tmp_path / "out", workers=1)
    assert board["error"].tolist() == [""]
    after = tree(tmp_path)
    assert {name: after[name] for name in after if name.partition("/")[0] != "out"} == before
    assert after[f"out/{board['run_id'][0]}/result.txt"] == nasty.encode()


# --- what a run leaves names neither the machine nor its user -----------------------------------------------


def test_record_and_card_name_no_home_folder_no_host_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(socket, "gethostname", lambda: "host-of-mine")
    monkeypatch.setattr(platform, "node", lambda: "host-of-mine")
    monkeypatch.setattr(
        platform, "uname", lambda: platform.uname_result("Linux", "host-of-mine", "6", "1", "x86_64")
    )
    home = Path.home()
    paths = {
        "data_file": home / "a" / "my.csv",
        "test_file": home / "b" / "test.csv",
        "model_name": home / "models" / "mine",
        "output_dir": home / "runs",
    }
    given = record() | {
        "parameters": GOOD | {name: str(path) for name, path in paths.items()},
        "environment": versions(),
    }
    write_record(tmp_path, given)
    kept = (tmp_path / "metrics.json").read_text()
    for text in (kept, model_card(given), (tmp_path / "README.md").read_text()):
        assert [word for word in ("hf_secret", "host-of-mine", str(home)) if word in text] == []
    used = json.loads(kept)["parameters"]
    assert {name: Path(used[name]).expanduser() for name in paths} == paths  # and they still lead there
    assert used["data_file"] == "~/a/my.csv"
    assert "fine-tuned from mine on my.csv" in model_card(given)
