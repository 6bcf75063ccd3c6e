"""check_saved: what was saved is what was trained, and where it is not, it says so."""

import json
import math

import pytest
import torch
import transformers
from adapters import save_adapter, with_adapter
from builders import (
    FAMILIES,
    LABELS,
    NEVER_EVALUATES,
    NOT_SAVED,
    TOKENIZER,
    WORDS,
    Rows,
    bert,
    each,
    minilm,
    named,
    of_family,
    pair,
    table,
    tiny,
    tokenizer_of,
    trainer_for,
)
from datasets import Dataset
from safetensors.torch import save_file
from setups import train_briefly
from test_check_labels import MULTI, MULTI_LABEL, drawn, rank, read_on_the_fly, regression
from test_untouched import files_below, state_of, states_of_randomness
from transformers import BertForSequenceClassification, DataCollatorWithPadding, default_data_collator

from utils.metrics import fold_temperature
from utils.predict import predict_in_order
from utils.preflight import Watch, check_saved
from utils.preflight.catalogue import CATALOGUE


@pytest.fixture
def saved(tmp_path):
    """A trainer and the folder its model was saved to."""
    trainer, folder = trainer_for(tmp_path, **NOT_SAVED), tmp_path / "saved"
    trainer.save_model(str(folder))
    return trainer, folder


def one_error(report, id="saved-differs"):
    (finding,) = report.findings
    assert (finding.id, finding.level) == (id, "error"), str(report)
    return finding.message


def test_a_run_in_16_bits_is_saved_and_judged_in_32(tmp_path):
    """Its trainer rounds what the model answers, as on any GPU with bf16 or fp16; what is loaded does not."""
    how = {"bf16": True, "use_cpu": True} | NOT_SAVED
    trainer, folder = trainer_for(tmp_path, model=bert(initializer_range=0.5), **how), tmp_path / "saved"
    trainer.train()
    rows = trainer.eval_dataset
    logits, _ = predict_in_order(trainer, rows)
    assert 1e-3 < abs(trainer.predict(rows).predictions - logits).max() < 0.5, "and it goes on in 16 bits"
    fold_temperature(trainer.model, 1.25)
    trainer.save_model(str(folder))
    assert not check_saved(folder, trainer).findings
    classifier = BertForSequenceClassification.from_pretrained(folder).eval()
    batch = trainer.data_collator(
        [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
    )
    assert 1.25 * classifier(**batch).logits.detach().numpy() == pytest.approx(logits, abs=1e-4)
    trainer.model.classifier.weight.data *= 1.01
    assert "differ by up to" in one_error(check_saved(folder, trainer))


def test_every_id_of_check_saved_is_tried():
    assert {entry.id for entry in CATALOGUE.values() if "S" in entry.stages} == {
        "saved-differs",
        "empty-tokenizer",
    }


# --- what was saved otherwise -------------------------------------------------------------------------------


def test_weights_of_another_step(saved):
    trainer, folder = saved
    assert str(check_saved(str(folder), trainer)) == "Nothing found."
    trainer.args.learning_rate = 1e-2
    train_briefly(trainer)
    assert "perhaps those of another step" in one_error(check_saved(folder, trainer))


def test_other_labels(saved):
    trainer, folder = saved
    trainer.model.config.id2label = dict(enumerate(LABELS[::-1]))
    says = "The model's labels are ['positive', 'negative'], in saved they are ['negative', 'positive']"
    assert says in one_error(check_saved(folder, trainer))
    trainer.model.config.id2label = dict(enumerate(LABELS))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"label2id": {"negative": 1, "positive": 0}}))
    assert "label2id" in one_error(check_saved(folder, trainer))
    bert(["a", "b", "c"]).save_pretrained(folder)
    report = check_saved(folder, trainer)
    assert {finding.id for finding in report.errors} == {"saved-differs"}
    assert "['a', 'b', 'c']" in str(report)


def test_another_tokenizer_and_none(saved):
    trainer, folder = saved
    tokenizer_of(WORDS[:100]).save_pretrained(folder)
    assert "knows 200 tokens, that in saved 104" in one_error(check_saved(folder, trainer), "empty-tokenizer")
    tokenizer_of(WORDS[::-1]).save_pretrained(folder)
    assert "numbers its tokens differently" in one_error(check_saved(folder, trainer))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    assert "holds no tokenizer" in one_error(check_saved(folder, trainer), "empty-tokenizer")


def test_no_head(saved):
    trainer, folder = saved
    trainer.model.bert.save_pretrained(folder)
    report = check_saved(folder, trainer)
    assert "classifier" in str(report)
    assert {finding.id for finding in report.errors} == {"saved-differs"}


def test_no_folder_an_empty_one_and_no_weights(saved, tmp_path):
    trainer, folder = saved
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        assert f"no config.json in {name}" in one_error(check_saved(tmp_path / name, trainer))
    (folder / "model.safetensors").unlink()
    assert "no safetensors weights in saved" in one_error(check_saved(folder, trainer))


def test_weights_cut_short_and_a_broken_config(saved):
    trainer, folder = saved
    whole = (folder / "model.safetensors").read_bytes()
    for kept in (0, 7, 1000, len(whole) // 2, len(whole) - 9):
        (folder / "model.safetensors").write_bytes(whole[:kept])
        assert "saved cannot be compared" in one_error(check_saved(folder, trainer))
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text("{")
    assert "saved cannot be compared" in one_error(check_saved(folder, trainer))


def test_weights_of_nan(saved):
    """A model that is broken is not what one wants to find saved."""
    trainer, folder = saved
    torch.nn.init.constant_(trainer.model.classifier.weight, math.nan)
    trainer.save_model(str(folder))
    assert "answers nan or inf" in one_error(check_saved(folder, trainer), "nan-hidden")


@pytest.mark.parametrize(
    "model", [bert, lambda: tiny(family="Roberta", vocab_size=3000)], ids=["bert", "roberta"]
)
def test_no_tokenizer_that_the_trainer_knew_of(tmp_path, model):
    """Rows of one length, and a collator that does not pad."""
    unknown = {"tokenizer": None, "data_collator": default_data_collator}
    trainer, folder = trainer_for(tmp_path, model=model(), **unknown), tmp_path / "saved"
    trainer.save_model(str(folder))
    (finding,) = check_saved(folder, trainer).findings
    assert (finding.id, finding.level) == ("empty-tokenizer", "warning")
    assert "saved holds no tokenizer" in finding.message
    assert "tokenizer.save_pretrained(folder)" in finding.fix
    TOKENIZER.save_pretrained(folder)
    assert str(check_saved(folder, trainer)) == "Nothing found."


# --- what was saved rightly ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_save_model_wrote_of_each_family(tmp_path, family):
    """It is also what Watch lets train."""
    trainer, folder = (
        trainer_for(tmp_path, callbacks=[Watch()], **of_family(family, [*"abc"])),
        tmp_path / "model",
    )
    assert 0 < train_briefly(trainer).training_loss < 100
    trainer.save_model(str(folder))
    before = state_of(trainer), files_below(tmp_path), states_of_randomness()
    assert str(check_saved(folder, trainer)) == "Nothing found."
    assert (state_of(trainer), files_below(tmp_path), states_of_randomness()) == before


def vision(_):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, **named(LABELS))
    pictures = Dataset.from_dict({"pixel_values": torch.rand(8, 3, 8, 8).tolist(), "labels": [0, 1] * 4})
    data = {
        "train": pictures,
        "held_out": pictures,
        "tokenizer": None,
        "data_collator": default_data_collator,
    }
    return {"model": transformers.ViTForImageClassification(config)} | data


RIGHT = {
    "a regression": regression(drawn, "spearman", rank),
    "multi-label": lambda _: {"model": bert(list("abcd"), **MULTI), **MULTI_LABEL},
    "several evaluation sets": lambda _: {
        "held_out": {"one": table(12, 1), "two": table(12, 2)},
        **NOT_SAVED,
    },
    "tokenised on the fly": lambda _: read_on_the_fly(table()),
    "a torch dataset": lambda _: each(pair(), Rows),
    "nothing to evaluate on": lambda _: {"held_out": None, **NEVER_EVALUATES},
    "a tokenizer that only the collator has": lambda _: {
        "tokenizer": None,
        "data_collator": DataCollatorWithPadding(TOKENIZER),
    },
    "a model that reads no texts": vision,
    "bfloat16": lambda _: {"model": bert().to(torch.bfloat16)},
    "a decoder in bfloat16": lambda _: (
        (made := of_family("Llama")) | {"model": made["model"].to(torch.bfloat16)}
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_save_model_wrote_of_other_tasks_data_and_numbers(tmp_path, name):
    trainer = trainer_for(tmp_path, **RIGHT[name](tmp_path))
    trainer.save_model(str(tmp_path / "model"))
    assert str(check_saved(tmp_path / "model", trainer)) == "Nothing found."


def test_weights_in_many_files_and_another_model_max_length(saved, tmp_path):
    trainer, folder = saved[0], tmp_path / "model"
    trainer.model.save_pretrained(folder, max_shard_size="5KB")
    tokenizer_of(model_max_length=24).save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert str(check_saved(folder, trainer)) == "Nothing found."


def test_the_bundled_model(tmp_path):
    setup = minilm()
    trainer = trainer_for(tmp_path, **setup | pair(tokenizer=setup["tokenizer"], max_length=64))
    trainer.save_model(str(tmp_path / "model"))
    assert str(check_saved(tmp_path / "model", trainer)) == "Nothing found."


# --- adapters -----------------------------------------------------------------------------------------------


@pytest.fixture
def lora(tmp_path, monkeypatch):
    """A function that saves an adapter beside queries and values, and returns its trainer and the folder."""
    monkeypatch.setattr("transformers.__version__", "5.18.0")  # older ones get a warning, see below

    def save(base="bare", head=True, adapter="default", change=lambda model: None):
        """`base`: a folder without a head, or with one; or a name, or None. `head`: whether it is trained."""
        model = bert()
        if base in ("bare", "whole"):
            (model.bert if base == "bare" else model).save_pretrained(tmp_path / base)
            TOKENIZER.save_pretrained(tmp_path / base)
            base = tmp_path / base
            model = BertForSequenceClassification.from_pretrained(base, **named(LABELS))
        model = with_adapter(model, *["classifier"] * head, target="query|value", adapter=adapter)
        change(model)
        folder = tmp_path / "lora"
        save_adapter(model, folder, base)
        return trainer_for(tmp_path, model=model), folder

    return save


@pytest.mark.parametrize(
    "how",
    [{}, {"adapter": "mine"}, {"base": "whole"}, {"base": "whole", "head": False}],
    ids=["default", "a name of its own", "on a head", "on a head that was trained before"],
)
def test_an_adapter_saved_whole_has_no_finding(lora, how):
    trainer, folder = lora(**how)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert str(check_saved(folder, trainer)) == "Nothing found."
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize(
    ("version", "head", "warned"),
    [
        ("5.15.0", True, True),
        ("5.9.0", True, True),
        ("5.17.1", True, True),
        ("5.9.0", False, False),
        ("6.0.0.dev0", True, False),
    ],
)
def test_an_older_transformers_loads_an_adapter_without_its_head(lora, monkeypatch, version, head, warned):
    """Seen with 5.15.0 to 5.17.0, and no more with 5.18.0."""
    trainer, folder = lora(base="whole", head=head)
    monkeypatch.setattr("transformers.__version__", version)
    found = [(one.level, one.message) for one in check_saved(folder, trainer).findings]
    version = ".".join(version.split(".")[:2])
    message = f"Transformers {version} loads lora with a head of random numbers: it forgets modules_to_save."
    assert found == [("warning", message)] * warned


@pytest.mark.parametrize(
    ("base", "says"),
    [(None, "no base is named there"), ("owner/not-here", "its base owner/not-here is not on this machine")],
)
def test_an_adapter_whose_base_is_not_here_cannot_be_compared_whole(lora, base, says):
    trainer, folder = lora(base)
    (finding,) = check_saved(folder, trainer).findings
    assert (finding.id, finding.level) == ("saved-differs", "warning")
    assert says in finding.message
    assert "merge_and_unload()" in finding.fix


@pytest.mark.parametrize(("base", "says"), [("bare", "nor in its base"), (None, "no base is named there")])
@pytest.mark.parametrize("thawed", [True, False])
def test_an_adapter_without_the_head(lora, base, says, thawed):
    """Frozen at random numbers, or trained and not among the modules to save."""
    trainer, folder = lora(base, head=False)
    trainer.model.classifier.requires_grad_(thawed)
    (finding,) = check_saved(folder, trainer).findings
    assert (finding.id, finding.level) == ("saved-differs", "error")
    absent = "classifier.weight, classifier.bias of the trainer's model are not in the adapter lora"
    assert absent in finding.message
    assert says in finding.message
    assert 'modules_to_save=["classifier"]' in finding.fix


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("lora_B.default.weight", "lora_B"),
        ("classifier.modules_to_save.default.bias", "classifier"),
        ("bert.embeddings.LayerNorm.weight", "LayerNorm"),
    ],
)
def test_an_adapter_or_a_base_of_another_step(lora, part, named):
    trainer, folder = lora()
    with torch.no_grad():
        next(p for name, p in trainer.model.named_parameters() if name.endswith(part)).add_(0.01)
    message = one_error(check_saved(folder, trainer))
    assert message.startswith("1 tensor(s) of the trainer's model")
    assert named in message


def test_an_adapter_folder_that_is_none_of_the_trainers(lora, saved):
    trainer, folder = lora(None)
    assert "the trainer's model has no adapter" in one_error(check_saved(folder, saved[0]))
    weights = folder / "adapter_model.safetensors"
    save_file({"base_model.model.other.lora_A.weight": torch.ones(2, 2)}, weights)
    assert "has an adapter with other tensors" in one_error(check_saved(folder, trainer))
    weights.unlink()
    assert "no adapter_model.safetensors in lora" in one_error(check_saved(folder, trainer))


def test_an_adapter_of_nan(lora):
    spoil = lambda model: torch.nn.init.constant_(
        model.classifier.modules_to_save["default"].weight, math.nan
    )
    trainer, folder = lora(change=spoil)
    says = "'base_model.model.classifier.weight' in lora holds nan"
    assert says in one_error(check_saved(folder, trainer), "nan-hidden")
