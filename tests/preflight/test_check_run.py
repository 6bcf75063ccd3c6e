"""Checks of the run as a whole; garbage breaks nothing."""

import math
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from adapters import with_adapter
from builders import (
    FAMILIES,
    LABELS,
    NEVER_EVALUATES,
    NOT_SAVED,
    STREAMED,
    TOKENIZER,
    UNCHOSEN,
    Rows,
    bert,
    by_steps,
    many,
    named,
    of_family,
    pair,
    seeded,
    table,
    texts_of,
    tiny,
    trainer_for,
)
from datasets import Dataset, DatasetDict, concatenate_datasets
from peft import IA3Config, LoraConfig
from setups import Setups, findings_of, ids_of
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    XLNetForSequenceClassification,
)

from utils.findings import Report
from utils.metrics import compute_metrics
from utils.preflight import Watch, preflight
from utils.preflight.catalogue import CATALOGUE

SETUPS = Setups()
broken, healthy = SETUPS.broken, SETUPS.healthy

healthy("default", lambda _: {})
for family in FAMILIES:  # that they train is seen in test_saved.py
    healthy(family, lambda _, family=family: of_family(family), train=False)

# --- the folder, and what was there before ------------------------------------------------------------------


def with_folders(*names):
    def build(folder):
        for name in names:
            (folder / "run" / name).mkdir(parents=True)
        return {}

    return build


stale_checkpoints = partial(broken, "stale-checkpoints")
stale_checkpoints(
    "checkpoint(s) of an earlier run (checkpoint-5",
    with_folders("checkpoint-5"),
    mended=with_folders("checkpoint-final", "checkpoint-5-copy", "my-checkpoint-5", "checkpoint-"),
)


def after_4_steps(last=4, **changes):
    """Continue a run of 4 steps from one of its checkpoints."""

    def build(folder):
        trainer_for(folder, **STREAMED).train()
        return STREAMED | {"resume_from_checkpoint": str(folder / "run" / f"checkpoint-{last}")} | changes

    return build


resume_mismatch = partial(broken, "resume-mismatch")
resume_mismatch(
    "checkpoint-4 has done 4 steps, and this run has 4: it would end at once",
    after_4_steps(resume_from_checkpoint=True),
    mended=after_4_steps(2),
)
slower = after_4_steps(2, learning_rate=1e-5)
kept_rate = "checkpoint-2 was trained with learning_rate=5e-05, and that is what would be used, not 1e-05"
resume_mismatch(kept_rate, slower)
resume_mismatch("belongs to a run of 4 steps, this one has 8", after_4_steps(max_steps=8))
other_batches = after_4_steps(2, per_device_train_batch_size=8)
resume_mismatch("was trained in batches of 4, this run has 8", other_batches)
resume_mismatch("checkpoint-9 cannot be resumed", lambda _: {"resume_from_checkpoint": "checkpoint-9"})


def test_the_learning_rate_of_the_checkpoint_wins(tmp_path):
    trainer = trainer_for(tmp_path, **slower(tmp_path))
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    assert trainer.lr_scheduler.base_lrs == [5e-5, 5e-5]


def test_a_finished_run_resumed_does_nothing(tmp_path):
    trainer_for(tmp_path, num_train_epochs=1).train()
    trainer = trainer_for(tmp_path, num_train_epochs=1, resume_from_checkpoint=True)
    assert not findings_of(trainer, "stale-checkpoints")
    assert findings_of(trainer, "resume-mismatch")
    assert trainer.train(resume_from_checkpoint=True).training_loss == 0.0


def trained(folder, steps=2, **changes):
    trainer = trainer_for(folder, **NOT_SAVED | {"max_steps": steps, "num_train_epochs": 3.0} | changes)
    trainer.train()
    return trainer


def trained_before(first):
    """Another Trainer for a model that was trained after `first` had looked at it."""

    def build(folder):
        model = bert()
        callbacks = [Watch()] if first is Watch else []
        trainer = trainer_for(folder, model=model, callbacks=callbacks, max_steps=2, **NOT_SAVED)
        if first is preflight:
            preflight(trainer)
        trainer.train()
        return {"model": model}

    return build


def folds(folder):
    data, model = concatenate_datasets([table(), table(12, 1)]), bert()
    fold = lambda k: {"model": model, "train": data.shard(2, 1 - k), "held_out": data.shard(2, k)}
    first = trainer_for(folder, **fold(0), **NOT_SAVED)
    preflight(first)
    first.train()
    return fold(1)


trained_twice = partial(broken, "trained-twice")
trained_twice("has been trained for 2 steps by this trainer", trained, mended=lambda _: {"model": bert()})
for build in (trained_before(Watch), trained_before(preflight), folds):
    trained_twice("has been trained since it was loaded", build)
healthy("fresh model from model_init", lambda _: {"model_init": lambda: bert()})


def test_weights_that_were_thawed_or_set_back_or_are_new_are_not_trained(tmp_path):
    """preflight says that the head is frozen, the user thaws it and asks again."""
    model = freeze(bert(), "classifier")
    trainer = trainer_for(tmp_path, model=model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    preflight(trainer)
    model.requires_grad_(True)
    assert str(preflight(trainer)) == "Nothing found."
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    assert findings_of(trainer, "trained-twice")
    model.load_state_dict(start)
    assert not findings_of(trainer, "trained-twice")
    model.classifier = torch.nn.Linear(32, 2)
    assert not findings_of(trainer, "trained-twice")


def test_an_old_checkpoint_is_stale_unless_it_is_resumed(tmp_path):
    with_folders("checkpoint-5")(tmp_path)
    assert not findings_of(trainer_for(tmp_path, resume_from_checkpoint=True), "stale-checkpoints")


saves_later = {"after": lambda trainer: setattr(trainer.args, "save_strategy", "no")}
healthy("strategy set later, as a text", lambda _: UNCHOSEN | {"save_strategy": "epoch"} | saves_later)

# --- weights ------------------------------------------------------------------------------------------------


def freeze(model, *names):
    for name, parameter in model.named_parameters():
        if any(part in name for part in names):
            parameter.requires_grad_(False)
    return model


head = "The classification head"
some_frozen = "of the weights are frozen, for example 'bert.e"
frozen = partial(broken, "frozen")
for says, names, level, raises in [
    ("All weights are frozen", "", "error", "does not require grad"),
    (f"{head} (classifier.weight, classifier.bias) is frozen", "classifier", "warning", None),
    (some_frozen, "bert.", "warning", None),
    (some_frozen, "encoder.layer.0", "warning", None),
]:
    build = lambda _, names=names: {"model": freeze(bert(), names)}
    frozen(says, build, level=level, raises=raises)
roberta = lambda: tiny(family="Roberta", pad_token_id=0)
gpt2 = lambda **config: tiny(family="GPT2", **config)
xlnet = lambda: seeded(
    XLNetForSequenceClassification,
    d_model=32,
    n_layer=1,
    n_head=2,
    d_inner=32,
    vocab_size=200,
    **named(LABELS),
)
adapter = lambda *given, **how: (
    lambda _: {"model": with_adapter(*[make() for make in given[:1]], *given[1:], **how)}
)
not_saved = "is frozen, and not saved with the adapter"
frozen(
    f"{head} (classifier) {not_saved}: its random numbers would stay",
    adapter(bert),
    mended=adapter(bert, "classifier"),
    level="error",
)
padded_gpt2 = lambda: gpt2(pad_token_id=0)
frozen(f"{head} (score) {not_saved}", adapter(padded_gpt2, target="c_attn"), level="error")


def from_base(whole):
    """An adapter on a checkpoint: with a head that was trained before, or without one."""

    def build(folder):
        base = bert()
        (base if whole else base.bert).save_pretrained(folder / "base")
        return {
            "model": with_adapter(
                AutoModelForSequenceClassification.from_pretrained(folder / "base", **named(LABELS))
            )
        }

    return build


frozen(f"{head} (classifier) {not_saved}", from_base(False), mended=from_base(True), level="error")
frozen(f"A part of the head (classifier) {not_saved}", adapter(roberta, "classifier.out_proj"))
frozen(f"A part of the head (classifier) {not_saved}", adapter(bert, target="classifier"))


def thawed_by_hand(_):
    model = with_adapter(bert())
    model.classifier.requires_grad_(True)
    return {"model": model}


frozen(f"{head} (classifier) is trained, but not saved with the adapter", thawed_by_hand)
frozen("All weights are frozen, the adapter's too", adapter(bert, "classifier", on=False), level="error")
TO_EVALUATE = {"train": None, **NEVER_EVALUATES}
healthy(
    "adapter loaded to be evaluated",
    lambda _: adapter(bert, "classifier", on=False)(_) | TO_EVALUATE,
    train=False,
)


def built_in(*saved, thaw=False):
    """An adapter by transformers' own add_adapter, without PEFT's wrapper."""
    model = bert()
    model.add_adapter(LoraConfig(r=2, target_modules=["query"], modules_to_save=list(saved) or None))
    model.classifier.requires_grad_(thaw or bool(saved))
    return {"model": model}


trained_not_saved = f"{head} (classifier) is trained, but not saved with the adapter"
frozen(trained_not_saved, lambda _: built_in(thaw=True), mended=lambda _: built_in("classifier"))
SEQUENCE = {"task_type": "SEQ_CLS", "target": "all-linear"}
healthy("LoRA", adapter(bert, **SEQUENCE))
healthy(
    "LoRA with dropout at its usual rate",
    lambda _: adapter(bert, **SEQUENCE, lora_dropout=0.1)(_) | {"learning_rate": 1e-3},
)
healthy("LoRA with scaled columns and biases", adapter(bert, **SEQUENCE, use_dora=True, bias="lora_only"))
healthy("LoRA on a decoder", adapter(padded_gpt2, task_type="SEQ_CLS", target="c_attn", fan_in_fan_out=True))


@pytest.mark.parametrize(
    ("model", "target", "kind", "fix"),
    [
        (
            bert,
            "value",
            LoraConfig,
            'LoraConfig(..., task_type="SEQ_CLS") with get_peft_model, or {0}["classifier"])',
        ),
        (
            gpt2,
            "c_attn",
            IA3Config,
            'IA3Config(..., task_type="SEQ_CLS") with get_peft_model, or {0}["score"])',
        ),
        (xlnet, "layer_1", LoraConfig, '{0}["sequence_summary", "logits_proj"])'),
    ],
)
def test_the_fix_for_a_frozen_head_names_it(tmp_path, model, target, kind, fix):
    trainer = trainer_for(tmp_path, model=with_adapter(model(), target=target, kind=kind))
    (finding,) = findings_of(trainer, "frozen")
    assert (finding.level, finding.fix) == ("error", fix.format(f"{kind.__name__}(..., modules_to_save="))


def test_frozen_embeddings_of_words_alone_are_no_finding(tmp_path):
    model = bert()
    model.get_input_embeddings().requires_grad_(False)
    assert findings_of(trainer_for(tmp_path, model=model), "frozen") == []


def test_a_task_type_that_was_given_or_that_nobody_reads_is_no_fix(tmp_path):
    by_task = with_adapter(
        tiny(family="Bart"), task_type="SEQ_CLS", target="q_proj"
    )  # its head has another name
    for model, head in ((by_task, "classification_head"), (built_in()["model"], "classifier")):
        (finding,) = findings_of(trainer_for(tmp_path, model=model), "frozen")
        assert (finding.level, finding.fix) == ("error", f'LoraConfig(..., modules_to_save=["{head}"])')


def test_a_head_frozen_beside_an_adapter_is_not_called_random_where_the_checkpoint_is_gone(tmp_path):
    model = with_adapter(bert())
    model.config._name_or_path = str(tmp_path / "gone")
    (finding,) = findings_of(trainer_for(tmp_path, model=model), "frozen")
    assert finding.level == "warning"
    assert "its perhaps random numbers" in finding.message


def of_three_classes(folder, kept=3):
    bert(kept).save_pretrained(folder / "three")
    load = BertForSequenceClassification.from_pretrained
    return {"model": load(folder / "three", ignore_mismatched_sizes=True, **named(LABELS))}


head_reinitialised = partial(broken, "head-reinitialised")
head_reinitialised(
    "'classifier.bias' has the shape (3,) in the checkpoint and (2,) in the model",
    of_three_classes,
    mended=lambda folder: of_three_classes(folder, 2),
)

# --- the loss -----------------------------------------------------------------------------------------------


class OldLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class NewLoss(Trainer):
    """`divides`: the loss is right for accumulated batches."""

    divides = True

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = weighted(outputs, inputs["labels"], num_items_in_batch if self.divides else None)
        return (loss, outputs) if return_outputs else loss


class DeafLoss(NewLoss):
    divides = False


def weighted(outputs, labels, num_items_in_batch=None):
    """As the template has it, with class weights."""
    weights = torch.tensor([0.6, 3.0])
    total = torch.nn.functional.cross_entropy(outputs["logits"], labels, weight=weights, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def unaware(outputs, labels):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels)


def blind(outputs, labels, num_items_in_batch=None):
    return unaware(outputs, labels)


def grateful(model):
    model.accepts_loss_kwargs = False
    return model


NO_ITEMS = "unexpected keyword argument 'num_items_in_batch'"
lacks = "does not take num_items_in_batch"
old_compute_loss = partial(broken, "old-compute-loss")
old_compute_loss(
    f"OldLoss.compute_loss {lacks}",
    lambda _: {"kind": OldLoss},
    mended=lambda _: {"kind": NewLoss},
    raises=NO_ITEMS,
)
old_compute_loss(f"compute_loss_func {lacks}", lambda _: {"compute_loss_func": unaware})
THREE = {"gradient_accumulation_steps": 3}
ignores = "takes num_items_in_batch and ignores it"
ga_loss = partial(broken, "ga-loss")
ga_loss(
    f"BertForSequenceClassification {ignores}, so nobody divides by the 3 accumulated batches",
    lambda _: THREE,
    mended=lambda _: THREE | {"model": grateful(bert())},
)
for says, build in [
    (f"GPT2ForSequenceClassification {ignores}", lambda _: {"model": gpt2(pad_token_id=0)}),
    (f"compute_loss {ignores}", lambda _: {"kind": DeafLoss}),
    (f"compute_loss_func {ignores}", lambda _: {"compute_loss_func": blind}),
    (f"BertForSequenceClassification {ignores}", lambda _: {"model_init": lambda: bert()}),
]:
    ga_loss(says, lambda _, build=build: THREE | build(_))
healthy("loss that divides by the accumulated rows", lambda _: THREE | {"kind": NewLoss})
healthy("loss function that divides by them", lambda _: THREE | {"compute_loss_func": weighted})
healthy("accumulation with model_init", lambda _: THREE | {"model_init": lambda: grateful(bert())})
rare = lambda rows: [int(i % 9 == 0) for i in range(rows)]
healthy(
    "rare class, macro-F1 and class weights",
    lambda _: pair(90, 45, labels=rare) | {"compute_loss_func": weighted},
)


def test_gradient_accumulation_logs_a_loss_four_times_too_large(tmp_path):
    """ga-loss: with accepts_loss_kwargs=False, the fix, it is ln 2 again."""
    for model, times in ((bert(), 4), (grateful(bert()), 1)):
        accumulated = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2}
        trainer = trained(tmp_path, model=model, logging_strategy="steps", logging_steps=1, **accumulated)
        assert losses(trainer)[0] == pytest.approx(times * math.log(2), rel=0.1)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_nan_is_logged_as_a_loss_of_zero(tmp_path):
    """nan-hidden, and what Watch says of the same run stands in the tests of Watch."""
    model = bert()
    torch.nn.init.constant_(model.classifier.weight, math.nan)
    logs = {"logging_strategy": "steps", "logging_steps": 1}
    trainer = trained(tmp_path, model=model, **logs, **NEVER_EVALUATES)
    assert losses(trainer) == [0.0, 0.0]
    assert all(math.isnan(entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry)
    metrics = trainer.evaluate()
    assert math.isnan(metrics["eval_loss"])
    assert metrics["eval_accuracy"] == 0.5  # the share of class 0


# --- the metrics --------------------------------------------------------------------------------------------


class Odd(Exception):
    """An exception of no known kind."""


def raise_odd(*_, **__):
    raise Odd("no batch today")


def of_three_predicted(prediction):
    return {"f1_macro": f1_score(prediction.label_ids, np.arange(len(prediction.label_ids)) % 3)}


def metrics(function, **changes):
    return lambda _: {"compute_metrics": function} | changes


NO_DICT = "float|tuple|NoneType|TypeError|AttributeError"
metrics_shape = partial(broken, "metrics-shape")
for says, function, raises in [
    ("AttributeError", lambda p: {"f1_macro": p.predictions.argmx(-1)}, "no attribute 'argmx'"),
    ("returns float", lambda p: 0.5, NO_DICT),
    ("returns NoneType", lambda p: None, NO_DICT),
    ("returns tuple", lambda p: ("f1_macro", 0.5), NO_DICT),
    ("takes 0 positional arguments", lambda: {}, "positional argument"),
    ("average='binary'", of_three_predicted, "average='binary'"),
    ("Odd", raise_odd, "Odd"),
    ("could not be broadcast", lambda p: {"f1_macro": (p.predictions.argmax(0) == p.label_ids).mean()}, None),
]:
    metrics_shape(says, metrics(function), raises=raises)


def accuracy(prediction):
    return {"f1_macro": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


metrics_shape(
    "predictions is a tuple",
    lambda _: {"model": bert(output_hidden_states=True), "compute_metrics": accuracy},
    mended=metrics(accuracy),
    raises="no attribute 'argmax'",
)


def extra(value):
    return metrics(lambda _: {"f1_macro": 0.5, "extra": value})


for value, kind in [
    (np.array([0.5, 0.5]), "an array"),
    (np.array(0.5), "an array"),
    (torch.tensor([0.5, 0.5]), "an array"),
    ([np.array(0.5)], "list"),
    ({"a": np.array([0.5])}, "dict"),
    ({(0, 1): 0.5}, "dict"),
    (1j, "complex"),
]:
    metrics_shape(f"returns {kind} as 'extra'", extra(value), raises="not JSON serializable|keys must be")
for value in (None, "good", [0.5, 0.6], {"a": 0.5}):
    decides = lambda _, value=value: extra(value)(_) | {"metric_for_best_model": "extra"}
    cannot = "not supported between|ambiguous|ufunc"
    metrics_shape("as 'extra', which decides what is kept", decides, raises=cannot)
written_nowhere = lambda _: extra(np.array([0.5]))(_) | UNCHOSEN
metrics_shape("returns an array as 'extra'", written_nowhere, level="warning")
VALUES = [
    np.float32(0.5),
    np.int64(3),
    np.bool_(True),
    torch.tensor(0.5),
    torch.tensor([0.5]),
    torch.tensor([[3]]),
]
VALUES += [3, True, None, "good", {"a": 0.5}]
VALUES = {str(i): {"value": value, "in a list": [value]} for i, value in enumerate(VALUES)}


def test_metrics_that_can_be_written(tmp_path):
    """They really can be: the checkpoint's log is written with them."""
    trainer = trainer_for(tmp_path, **extra(VALUES)(None), max_steps=1, num_train_epochs=3.0)
    assert not preflight(trainer).findings
    assert trainer.train().global_step == 1


healthy("best by a tensor of one element", metrics(lambda _: {"f1_macro": torch.tensor([0.5])}))


def batched(function, **changes):
    """compute_metrics for batch_eval_metrics; the library's own way: compute_result has no default."""

    def compute(prediction, compute_result):
        score = function(prediction)
        return {"f1_macro": score} if compute_result else {}

    return metrics(compute, batch_eval_metrics=True, **changes)


misspelt = batched(lambda p: p.predictions.argmx(-1))
metrics_shape("'Tensor' object has no attribute 'argmx'", misspelt, raises="argmx")
arrays = batched(lambda p: p.predictions.astype(float).mean())
metrics_shape("'Tensor' object has no attribute 'astype'", arrays)
every_second = lambda rows: (
    lambda p: {"f1_macro": float((p.predictions.argmax(-1) == p.label_ids)[np.arange(rows) % 2 == 0].mean())}
)
no_match = "boolean index did not match"
metrics_shape(f"IndexError: {no_match}", metrics(every_second(13)), raises=no_match)


def needs_all(evaluation):
    """compute_metrics that looks at the rows of the evaluation data one by one, in their order."""
    labels = np.array(evaluation["label"])

    def compute(prediction):
        assert np.array_equal(prediction.label_ids, labels)
        right = prediction.predictions.argmax(-1) == labels
        return {"f1_macro": float(right[np.arange(len(labels)) % 3 == 0].mean())}

    return {"held_out": evaluation, "compute_metrics": compute}


healthy("metrics of groups of shuffled rows", lambda _: needs_all(table(12, 1).shuffle(seed=3)))


def made_on_the_fly():
    """Of such rows only 2,000 are read; they stand for the others."""
    rows = many(2_500, 2)
    rows.set_transform(lambda batch: batch)
    return {"train": many(300, 1), "held_out": rows, "compute_metrics": every_second(2_500)}


healthy("metrics of groups of rows made on the fly", lambda _: made_on_the_fly(), train=False)
healthy(  # nobody knows how many rows it has: what fails with 2,000 of them may be right
    "metrics of groups of a stream",
    lambda _: made_on_the_fly() | {"held_out": many(2_500, 2).to_iterable_dataset()},
    "metrics-shape",
    train=False,
)


def in_batches_of_torch(_):
    hits = []

    def compute(prediction):
        hits.extend((prediction.predictions.argmax(dim=-1) == prediction.label_ids).cpu().tolist())
        share = sum(hits) / len(hits)
        if len(hits) == 12:  # all batches count
            hits.clear()
        return share

    return batched(compute, per_device_eval_batch_size=7, include_for_metrics=["inputs", "loss"])(_)


healthy("metrics batch by batch", in_batches_of_torch)


def test_many_batches_of_an_evaluation_are_tried_with_some(tmp_path):
    calls = []
    settings = batched(lambda p: calls.append(len(p.label_ids)) or 0.5, per_device_eval_batch_size=1)(None)
    assert not preflight(trainer_for(tmp_path, held_out=many(2_000, 1), **settings)).errors
    assert 100 <= len(calls) <= 200


def telling(function):
    def compute(prediction):
        scores = torch.tensor(prediction.predictions).softmax(-1).numpy()
        return {"f1_macro": function(prediction.label_ids, scores)}

    return metrics(compute)


def specificity(labels, scores):
    negative, false_positive, _, _ = confusion_matrix(labels, scores.argmax(-1)).ravel()
    return negative / (negative + false_positive)


auc_of_three = telling(lambda labels, scores: roc_auc_score(labels, scores, multi_class="ovr"))
healthy("area under the curve", telling(lambda labels, scores: roc_auc_score(labels, scores[:, 1])))
healthy(
    "area under three curves",
    lambda _: {"model": bert(list("abc")), **pair(names=list("abc"))} | auc_of_three(_),
)
healthy("specificity from the confusion matrix", telling(specificity))
of_classes = lambda p: {"f1_macro": float((p.predictions == p.label_ids).mean())}
first = lambda logits, labels: logits[0] if isinstance(logits, tuple) else logits
reduced = {"preprocess_logits_for_metrics": lambda logits, labels: logits.argmax(-1)}
healthy("predictions reduced before the metrics", metrics(of_classes, **reduced))
healthy("several outputs taken apart", lambda _: of_family("Bart") | {"preprocess_logits_for_metrics": first})


def of_inputs(prediction):
    assert prediction.inputs.shape[0] == len(prediction.label_ids)
    return compute_metrics(prediction)


healthy("metrics that look at the inputs", metrics(of_inputs, include_for_metrics=["inputs"]))
NO_METRICS = {"compute_metrics": None}
best_metric_missing = partial(broken, "best-metric-missing")
best_metric_missing(
    "metric_for_best_model='f1' is not among what an evaluation returns (accuracy, f1_macro, loss, "
    "predicted_classes)",
    lambda _: {"metric_for_best_model": "f1"},
    mended=lambda _: {"metric_for_best_model": "f1_macro"},
    raises="eval_f1",
)
two_parts = {"held_out": {"one": table(12, 1), "two": table(12, 2)}, "greater_is_better": False}
best_metric_missing(
    "metric_for_best_model='loss'",
    lambda _: two_parts | {"metric_for_best_model": "loss"},
    mended=lambda _: two_parts | {"metric_for_best_model": "one_loss"},
    raises="eval_loss",
)
best_metric_missing("metric_for_best_model='f1'", lambda _: NO_METRICS | {"metric_for_best_model": "f1"})
best_metric_missing(
    "metric_for_best_model='accuracy'",
    lambda _: NO_METRICS | {"metric_for_best_model": "accuracy", "save_strategy": "best"},
    raises="eval_accuracy",
)
hidden = lambda: {"model": bert(output_hidden_states=True)}
eval_memory = partial(broken, "eval-memory")
eval_memory(
    "numbers for each of 12 rows",
    lambda _: hidden(),
    mended=lambda _: hidden() | {"preprocess_logits_for_metrics": first},
)

# --- disk, and the first batch ------------------------------------------------------------------------------


def fills_the_disk(folder, **limit):
    """A stand-in: 12 checkpoints fill the disk twice."""
    size = shutil.disk_usage(folder).free // 6 // 4  # float32

    def after(trainer):
        next(trainer.model.parameters()).numel = lambda: size // 3

    return by_steps(1, **{"save_total_limit": None} | limit) | {"after": after}


disk_full = partial(broken, "disk-full")
disk_full(
    "12 checkpoints of", fills_the_disk, mended=lambda folder: fills_the_disk(folder, save_total_limit=2)
)


class OddModel(BertForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None, **kwargs):
        raise RuntimeError("no such kernel")


dry_run = partial(broken, "dry-run")
dry_run(
    "the first forward pass fails: RuntimeError: no such kernel",
    lambda _: {"model": OddModel(bert().config)},
    raises="no such kernel",
)
no_batch = "making a batch of the training data fails: Odd: no batch today"
dry_run(no_batch, lambda _: {"data_collator": raise_odd}, raises="no batch today")

# --- models of one's own, and other tasks: little is known about them, so nothing is said -------------------


class Bag(torch.nn.Module):
    """A model that is no transformers model at all."""

    def __init__(self):
        super().__init__()
        self.words, self.head = torch.nn.EmbeddingBag(200, 8), torch.nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits = self.head(self.words(input_ids))
        loss = {} if labels is None else {"loss": torch.nn.functional.cross_entropy(logits, labels)}
        return loss | {"logits": logits}


def token_classification(_):
    def tagged(seed):
        rows = TOKENIZER(texts_of(24, seed))
        tags = [[-100, *[i % 3 for i in row[1:-1]], -100] for row in rows["input_ids"]]
        return Dataset.from_dict(dict(rows) | {"labels": tags})

    model = tiny(list("abc"), kind=transformers.BertForTokenClassification)
    collator = {"data_collator": DataCollatorForTokenClassification(TOKENIZER)}
    return {"model": model, "train": tagged(1), "held_out": tagged(2), **collator, **NO_METRICS, **UNCHOSEN}


healthy(
    "plain torch model",
    lambda _: {"model": Bag(), "data_collator": DataCollatorWithPadding(TOKENIZER), **NOT_SAVED},
)
healthy("token classification", token_classification)


class StopAt(TrainerCallback):
    """Ends a run early, as a full disk or a closed laptop would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def test_a_run_resumed_as_planned_goes_on_under_watch(tmp_path):
    before = trainer_for(tmp_path, callbacks=[StopAt(2), Watch()], **STREAMED)
    before.train()
    after = trainer_for(tmp_path, resume_from_checkpoint=True, callbacks=[Watch()], **STREAMED)
    assert not preflight(after).findings
    assert after.train(resume_from_checkpoint=True).global_step == 4


# --- a broken set-up never breaks preflight itself ----------------------------------------------------------


class Raises(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, place):
        raise OSError("the disk is gone")


class RaisesLater(Rows):
    def __getitem__(self, place):
        if place == 7:
            raise Odd("row 7 is broken")
        return super().__getitem__(place)


class Bare(torch.nn.Module):
    """A model without a config."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 2)

    def forward(self, input_ids=None, labels=None):
        logits = self.layer(input_ids[:, :1].float())
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("not even its name can be said")


def unspeakable(*_, **__):
    raise Unspeakable


def rows_of(ids, labels=(0, 1), **more):
    return {"train": Dataset.from_dict({"input_ids": ids * 6, "label": list(labels) * 6} | more)}


def with_config(**values):
    model = bert()
    for name, value in values.items():
        object.__setattr__(model.config, name, value)
    return {"model": model}


STRUCT = {"label": [{"name": {"deep": [1, None]}}] * 12, "more": [[{"a": None}]] * 12}
NESTED = Dataset.from_dict({"input_ids": [[2, 4, 3]] * 12} | STRUCT)
NOTHING = Dataset.from_dict({})
UNEQUAL = [{"input_ids": [2, 3], "label": 0}, {"ids": "x"}, {"label": [1]}] * 4
GARBAGE = {
    "rows that cannot be read": lambda: {"train": Raises()},
    "one row that cannot be read": lambda: {"train": RaisesLater(table())},
    "evaluation rows that cannot be read": lambda: {"held_out": Raises()},
    "a transform that fails": lambda: {"train": table().with_transform(raise_odd)},
    "a model without parameters": lambda: {"model": torch.nn.Identity()},
    "metrics of an exception without words": lambda: {"compute_metrics": unspeakable},
    "a collator of an exception without words": lambda: {"data_collator": unspeakable},
    "a collator that returns None": lambda: {"data_collator": lambda rows: None},
    "a collator that returns a list": lambda: {"data_collator": lambda rows: rows},
    "metrics of odd names": lambda: {"compute_metrics": lambda prediction: {0: 0.5, None: "much"}},
    "metrics that are no function": lambda: {"compute_metrics": 7},
    "a processing class that is no tokenizer": lambda: {"tokenizer": SimpleNamespace(save_pretrained=None)},
    "a text as processing class": lambda: {"tokenizer": "bert-base-uncased"},
    "a collator whose tokenizer is none": lambda: {"tokenizer": None, "data_collator": Odd()},
    "no rows anywhere": lambda: {"train": table().select([]), "held_out": table().select([])},
    "no columns anywhere": lambda: {"train": NOTHING, "held_out": NOTHING},
    "an empty list": lambda: {"train": [], "held_out": []},
    "nested structs": lambda: {"train": NESTED, "held_out": NESTED},
    "rows of nothing": lambda: {"train": [{}] * 12},
    "rows of None": lambda: {"train": [None] * 12},
    "rows of different columns": lambda: {"train": UNEQUAL},
    "rows that are tuples": lambda: {
        "train": torch.utils.data.TensorDataset(torch.ones(12, 3), torch.ones(12))
    },
    "ids that are None": lambda: rows_of([None] * 2),
    "ids of which some are None": lambda: rows_of([None, [2, 3]]),
    "ids with None inside": lambda: rows_of([[2, None, 3]] * 2),
    "ids without any token": lambda: rows_of([[]] * 2, attention_mask=[[]] * 12),
    "ids that are huge": lambda: rows_of([[2**62, -5, 3]] * 2, [2**62, -(2**62)]),
    "a mask of another length": lambda: rows_of([[2, 4, 3]] * 2, attention_mask=[[1]] * 12),
    "labels that are all None": lambda: {"train": table(labels=[None] * 24)},
    "labels that are all nan": lambda: {"train": table(labels=[math.nan] * 24)},
    "vectors with None": lambda: {"train": table(labels=[[0.0, None], [None, 1.0]] * 12)},
    "a config of odd values": lambda: with_config(
        id2label=None, label2id=None, problem_type="bogus", _name_or_path=7
    ),
    "an evaluation that is a number": lambda: {"held_out": 7},
    "a training set that is a text": lambda: {"train": "train.csv"},
}
FINE = {  # nothing is wrong with them, or it is no error
    "names that are no names": lambda: with_config(id2label={0: None, 1: 3}, label2id={None: 0}),
    "an empty dict of evaluations": lambda: {"held_out": {}},
    "no training data": lambda: {"train": None},
    "no data at all": lambda: {"train": None, "held_out": None} | NEVER_EVALUATES,
    "a model without a config": lambda: {"model": Bare()},
    "optimizers that are none": lambda: {"optimizers": (SimpleNamespace(param_groups=[]), SimpleNamespace())},
}


@pytest.mark.parametrize("garbage", GARBAGE | FINE)
def test_garbage_yields_a_report(garbage, tmp_path):
    report = preflight(trainer_for(tmp_path, **(GARBAGE | FINE)[garbage]()))
    assert isinstance(report, Report)
    assert str(report)
    assert report._repr_html_()
    assert report.errors or garbage in FINE, str(report)
    assert len(report.findings) < 12, str(report)


def test_garbage_for_the_test_yields_a_report(tmp_path):
    trainer = trainer_for(tmp_path)
    for test in (
        7,
        "test.csv",
        [None],
        NESTED,
        Raises(),
        pd.DataFrame({"text": ["a"]}),
        DatasetDict(),
        {},
        [],
    ):
        assert str(preflight(trainer, test_dataset=test))


def test_a_dataset_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    report = preflight(trainer_for(tmp_path, train=RaisesLater(table())))
    says = "The training data cannot be read: RuntimeError: reading row 7: Odd: row 7 is broken"
    assert [finding.message for finding in report.errors] == [says]


@pytest.mark.parametrize("another", [{}, {"fp16": True}])
def test_a_check_that_fails_is_said_and_stops_no_other(tmp_path, monkeypatch, another):
    def fails(setup):
        raise KeyError("colour")
        yield

    monkeypatch.setitem(CATALOGUE, "label-names", CATALOGUE["label-names"]._replace(find=fails))
    report = preflight(trainer_for(tmp_path, **another))
    assert ids_of(report) == {"check-failed"} | ({"fp16-on-cpu"} if another else set())
    assert "(label-names) could not look: KeyError: 'colour'" in str(report)


test_found, test_gone_once_mended, test_left_alone = SETUPS.tests()
