"""Checks of TrainingArguments and of what contradicts them."""

from functools import partial

import pytest
import torch
import transformers
from builders import (
    FINE,
    NEVER_EVALUATES,
    NOT_SAVED,
    TOKENIZER,
    UNCHOSEN,
    WORDS,
    bert,
    by_steps,
    pair,
    table,
    tiny,
    trainer_for,
)
from setups import Setups, findings_of, made
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    EarlyStoppingCallback,
    Trainer,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from utils.preflight.catalogue import CATALOGUE
from utils.preflight.setup import Setup

SETUPS = Setups()
broken, healthy = SETUPS.broken, SETUPS.healthy
NO_WARMUP = {"warmup_steps": 0}


def argument(**values):
    """Arguments set after the Trainer was made, which some versions of the library refuse or convert."""

    def after(trainer):
        for name, value in values.items():
            setattr(trainer.args, name, value)

    return lambda _: {"after": after}


def stand_in(**facts):
    """There is no GPU here: what is read of it, such as the device of the arguments, stands in for it."""

    def after(trainer):
        trainer.args.__class__ = type("Arguments", (type(trainer.args),), facts)

    return {"after": after}


# --- rates and steps ----------------------------------------------------------------------------------------

lr_is_text = partial(broken, "lr-is-text")
lr_is_text(
    "learning_rate is the text '2e-5', not a number",
    argument(learning_rate="2e-5"),
    mended=argument(learning_rate=2e-5),
    raises="not supported between instances of 'float' and 'str'|must be real number|could not|TypeError",
)
lr_is_text("weight_decay is the text '1e-2'", lambda _: {"weight_decay": "1e-2"})
lr_is_text("max_grad_norm is the text '1e0'", lambda _: {"max_grad_norm": "1e0"})
lr_is_text("num_train_epochs is the text '3'", argument(num_train_epochs="3"))
lr_too_high = partial(broken, "lr-too-high")
lr_too_high(
    "learning_rate=0.01 moves all",
    lambda _: {"learning_rate": 1e-2},
    mended=lambda _: {"learning_rate": 1e-4},
)
lr_too_high("learning_rate=0.0005", lambda _: {"learning_rate": 5e-4})
healthy("other optimizer with its usual rate", lambda _: {"optim": "adafactor", "learning_rate": 1e-3})
zero_steps = partial(broken, "zero-steps")
zero_steps(
    "24 training rows do not fill a batch of 32",
    lambda _: {"dataloader_drop_last": True, "per_device_train_batch_size": 32},
    mended=lambda _: {"dataloader_drop_last": True},
)
zero_steps("The training data are empty", lambda _: {"train": table().select([])})
zero_steps("num_train_epochs=0 makes a run of 0 steps", lambda _: {"num_train_epochs": 0})


def adamw(model, **settings):
    return torch.optim.AdamW(model.parameters(), **{"lr": 5e-5} | settings)


def with_optimizer(make=adamw, schedule=lambda optimizer: None, **changes):
    """A model with an optimizer and a schedule of one's own."""

    def build(_):
        model = bert()
        optimizer = make(model)
        return {"model": model, "optimizers": (optimizer, schedule(optimizer))} | changes

    return build


zero_steps(
    "None of the model's 25 trainable tensors is in the optimizer", with_optimizer(lambda _: adamw(bert()))
)


def before_the_adapter(_):
    """As an adapter does it: the weights are frozen, and new ones come along."""
    model = bert()
    before = adamw(model)
    model.requires_grad_(False)
    query = model.bert.encoder.layer[0].attention.self.query
    query.a, query.b = (torch.nn.Linear(32, 32, bias=False) for _ in range(2))
    model.classifier.requires_grad_(True)
    before.param_groups[0]["params"] = [p for p in before.param_groups[0]["params"] if not p.requires_grad]
    return {"model": model, "optimizers": (before, None)}


def before_the_head(_):
    model = bert()
    optimizer = adamw(model)
    model.classifier = torch.nn.Linear(32, 2)
    return {"model": model, "optimizers": (optimizer, None)}


def before_the_thaw(model):
    model.bert.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=5e-5)
    model.requires_grad_(True)
    return optimizer


lacks = "The optimizer lacks {} of the model's 25 trainable tensors".format
zero_steps("None of the model's 4 trainable tensors is in the optimizer", before_the_adapter)
zero_steps(f"{lacks(2)}, for example 'classifier.weight'", before_the_head)
zero_steps(lacks(23), with_optimizer(before_the_thaw))
plans = torch.optim.lr_scheduler


def for_epochs(make, steps=2):
    """A schedule made for so many steps as the run has epochs, 2, and not for its 12 optimizer steps."""
    return with_optimizer(schedule=lambda optimizer: make(optimizer, steps), **NO_WARMUP)


def used_up(optimizer, steps):
    """A run before has stepped through the schedule."""
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 12)
    for _ in range(12):
        optimizer.step()
        schedule.step()
    return schedule


linear = lambda optimizer, n: get_linear_schedule_with_warmup(optimizer, 0, n)
falls_off = lambda optimizer, n: plans.SequentialLR(
    optimizer, [plans.ConstantLR(optimizer, 1, n), plans.ConstantLR(optimizer, 0, 99)], [n]
)
low = "from step 6 of 12 on (if not before) the learning rate is 0"
for says, make, level in [
    (low, linear, "error"),
    (
        "rate is -0.0001: nothing is learnt",
        lambda o, n: plans.LambdaLR(o, lambda step: 1 - step / n),
        "error",
    ),
    ("rate is 0", lambda o, n: plans.PolynomialLR(o, n), "error"),
    ("the learning rate is 0", falls_off, "error"),
    (low, used_up, "error"),
    ("no more than 1e-07", lambda o, n: get_polynomial_decay_schedule_with_warmup(o, 0, n), "warning"),
    ("no more than 5e-11", lambda o, n: plans.ExponentialLR(o, 0.1 ** (2 / n)), "warning"),
    (
        "The schedule fails at step 3 of 12",
        lambda o, n: plans.OneCycleLR(o, 5e-5, total_steps=n + 1),
        "error",
    ),
]:
    zero_steps(says, for_epochs(make), mended=make is not used_up and for_epochs(make, 12), level=level)
settings = {"lr_scheduler_type": "warmup_stable_decay", **NO_WARMUP}
epochs_in_settings = settings | {"lr_scheduler_kwargs": {"num_stable_steps": 0, "num_decay_steps": 2}}
zero_steps(low, lambda _: epochs_in_settings)
zero_steps("The learning rate is 0: no weight would move", lambda _: {"learning_rate": 0.0})
zero_steps(
    "The learning rate is 2e-55: at such a rate, weights hardly move",
    lambda _: {"learning_rate": 2e-55},
    level="warning",
)
zero_steps(
    "The learning rate is 9e-08: ",
    lambda _: {"learning_rate": 0.9e-7},
    mended=lambda _: {"learning_rate": 1e-7},
    level="warning",
)
no_rate = with_optimizer(lambda model: adamw(model, lr=0.0))
by_class = lambda **how: lambda _: {"optimizer_cls_and_kwargs": (torch.optim.AdamW, how)}


def in_groups(body, head=1e-3):
    def make(model):
        parts = (model.bert.parameters(), body), (model.classifier.parameters(), head)
        return torch.optim.AdamW([{"params": parameters, "lr": rate} for parameters, rate in parts])

    return make


zero_steps("The learning rate is 0: no weight would move", no_rate)
zero_steps("The learning rate is 3e-09: ", by_class(lr=3e-9), level="warning")
of_two = "The learning rate is 1e-10 for 1 of the optimizer's 2 groups"
zero_steps(of_two, with_optimizer(in_groups(1e-10)), level="warning")


@pytest.mark.parametrize(
    "build", [with_optimizer(lambda _: adamw(bert())), no_rate, lambda _: {"learning_rate": 2e-55}]
)
def test_a_run_to_the_end_that_changes_nothing(tmp_path, build):
    trainer = trainer_for(tmp_path, **build(tmp_path) | NOT_SAVED)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert trainer.train().global_step == 12
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


class OwnRate(Trainer):
    def create_optimizer(self, *_):
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5)
        return self.optimizer


healthy(
    "rate of an optimizer that the Trainer makes itself", lambda _: {"kind": OwnRate, "learning_rate": 0.0}
)
healthy("optimizer by its class", by_class(lr=5e-5, betas=(0.8, 0.9)))
healthy("head trained with a higher rate", with_optimizer(in_groups(5e-5)))
healthy(
    "optimizer for the head only",
    with_optimizer(
        lambda model: torch.optim.AdamW(
            model.bert.requires_grad_(False) and model.classifier.parameters(), lr=1e-3
        )
    ),
    "frozen",
)


def own_schedule(make, **changes):
    """For the 12 steps of the run."""
    return with_optimizer(schedule=make, **NO_WARMUP | changes)


halves = lambda o: plans.SequentialLR(o, [plans.LinearLR(o, 0.001, 1, 4), plans.ExponentialLR(o, 0.9)], [4])
restarts = transformers.get_cosine_with_hard_restarts_schedule_with_warmup
healthy("schedule that begins at 0", own_schedule(lambda o: get_linear_schedule_with_warmup(o, 9, 12)))
healthy("schedule that begins low", own_schedule(halves))
healthy("schedule with restarts", own_schedule(lambda o: restarts(o, 1, 12, num_cycles=3)))
up_and_down = {"step_size_up": 1, "cycle_momentum": False}
healthy("schedule up and down from 0", own_schedule(lambda o: plans.CyclicLR(o, 0.0, 5e-5, **up_and_down)))
healthy("schedule in one cycle", own_schedule(lambda o: plans.OneCycleLR(o, 5e-5, total_steps=13)))
healthy("schedule in steps", own_schedule(lambda o: plans.MultiStepLR(o, [3, 5])))
healthy("schedule for a longer run", own_schedule(lambda o: linear(o, 1000)))
healthy(
    "schedule by the score",
    own_schedule(plans.ReduceLROnPlateau, metric_for_best_model="loss", greater_is_better=False),
)
healthy(
    "optimizer and schedule of one's own",
    own_schedule(lambda o: transformers.get_cosine_schedule_with_warmup(o, 1, 12)),
)
finds_its_rate = {"lr": None, "relative_step": True, "warmup_init": True}
healthy(
    "optimizer that finds its own rate",
    with_optimizer(
        lambda model: transformers.Adafactor(model.parameters(), **finds_its_rate),
        transformers.optimization.AdafactorSchedule,
        **NO_WARMUP,
    ),
)


def with_weights_of_the_loss(_):
    model, centres = bert(), torch.nn.Parameter(torch.zeros(2, 2))

    def to_the_centres(outputs, labels, num_items_in_batch=None):
        distance = (outputs.logits - centres[labels]).square().mean()
        return torch.nn.functional.cross_entropy(outputs.logits, labels) + 0.01 * distance

    optimizer = torch.optim.AdamW([*model.parameters(), centres], lr=5e-5)
    return {"model": model, "optimizers": (optimizer, None), "compute_loss_func": to_the_centres}


def masked_language_model(_):
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZER.backend_tokenizer, mask_token=WORDS[0], pad_token="[PAD]"
    )
    model = tiny(kind=BertForMaskedLM)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    data = {name: part.remove_columns("label") for name, part in pair().items()}
    collator = {"data_collator": DataCollatorForLanguageModeling(tokenizer), "compute_metrics": None}
    return (
        {"model": model, "optimizers": (torch.optim.AdamW(model.parameters()), None), **UNCHOSEN}
        | data
        | collator
    )


healthy("optimizer with weights of the loss as well", with_weights_of_the_loss)
healthy("optimizer for tied weights of a masked language model", masked_language_model)
warmup_too_long = partial(broken, "warmup-too-long")
warmup_too_long(
    "The warmup takes 500 of 12 steps (100%); the learning rate gets no higher than 1.2e-06",
    lambda _: {"warmup_steps": 500},
    mended=lambda _: {"warmup_steps": 0.2},
)
warmup_too_long("The warmup takes 6 of 12 steps (50%)", lambda _: {"warmup_steps": 0.5})


def test_a_warmup_of_500_steps_never_gets_there(tmp_path):
    steps = {"logging_strategy": "steps", "logging_steps": 1}
    trainer = trainer_for(tmp_path, warmup_steps=500, **steps, **NEVER_EVALUATES)
    trainer.train()
    assert max(entry.get("learning_rate", 0) for entry in trainer.state.log_history) < 1.3e-6


# --- evaluations, and the best model ------------------------------------------------------------------------

no_evaluation = partial(broken, "no-evaluation")
no_evaluation(
    "eval_dataset is given, but eval_strategy is 'no'",
    lambda _: NEVER_EVALUATES,
    mended=lambda _: {"eval_delay": 2},
)
no_evaluation("There is no eval_dataset", lambda _: {"held_out": None, **NEVER_EVALUATES})
no_evaluation("The evaluation data are empty", lambda _: {"held_out": table(12, 1).select([])})
no_evaluation("eval_delay=5 is longer than the run (2 epochs)", lambda _: {"eval_delay": 5})
healthy("only for evaluation", lambda _: {"train": None, **NEVER_EVALUATES}, train=False)
healthy(
    "nothing to evaluate on",
    lambda _: {"held_out": None, "compute_metrics": None, **NEVER_EVALUATES},
    "no-evaluation",
)
best_not_loaded = partial(broken, "best-not-loaded")
best_not_loaded(
    "It evaluates every 2 steps and saves every 4",
    lambda _: by_steps(2, save_steps=4),
    mended=lambda _: by_steps(2),
)
best_not_loaded("It evaluates every 2 steps and saves every 6", lambda _: by_steps(0.1, save_steps=0.5))
each_log = {"eval_steps": None, "logging_strategy": "steps", "logging_steps": 1}
best_not_loaded("every 1 steps and saves every 4", lambda _: by_steps(4, **each_log))
healthy("best model by a share of the steps", lambda _: by_steps(0.25))
healthy(
    "evaluating more often than saving, without a best model", lambda _: UNCHOSEN | by_steps(2, save_steps=4)
)
healthy("the best saved", lambda _: {"save_strategy": "best"})
guessed = {"metric_for_best_model": None, "greater_is_better": None}
healthy("best by loss with the default direction", lambda _: guessed)
healthy("evaluated before the first step", lambda _: {"eval_on_start": True})
plateau = {
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "metric_for_best_model": "loss",
    "greater_is_better": False,
}
healthy("rate that falls when the loss does not", lambda _: plateau | NOT_SAVED)


@pytest.mark.parametrize(("save_steps", "loaded"), [(4, False), (2, True)])
def test_the_best_model_is_not_loaded_where_it_was_not_saved(tmp_path, save_steps, loaded):
    """best-not-loaded: the best evaluation is made to be the first, at step 2, where nothing is saved."""
    scores = iter([0.9] + [0.1] * 20)
    steps = by_steps(2, save_steps=save_steps, max_steps=4)
    trainer = trainer_for(tmp_path, compute_metrics=lambda _: {"f1_macro": next(scores)}, **steps)
    trainer.train()
    assert (trainer.state.best_model_checkpoint is not None) == loaded


def chosen_by(name, greater):
    score = {"compute_metrics": lambda _: {name: 0.5, "f1_macro": 0.5}}
    return {"metric_for_best_model": name, "greater_is_better": greater} | score


DIRECTIONS = [  # names, whether greater is better, what the user set
    (
        "eval_perplexity validation_rmse error_rate mse mean_absolute_error wer hamming_distance "
        "logLoss ErrorRate top1_error rmse_valence mae perplexity cer ece brier brier_score "
        "eval_BrierScore top_1_error one_error mean_relative_error",
        False,
        None,
    ),
    (
        "accuracy eval_f1 neg_mean_squared_error neg_log_loss roc_auc f1_weighted "
        "balanced_accuracy f1_detection accuracy_within_1 matthews_correlation f1_score r2",
        True,
        False,
    ),
    ("loss log_loss hamming_loss", False, True),
    ("neg_log_loss", True, None),
]
DIRECTIONS = [(name, right, by_user) for names, right, by_user in DIRECTIONS for name in names.split()]


@pytest.fixture(scope="module")
def any_trainer(tmp_path_factory):
    return trainer_for(tmp_path_factory.mktemp("metrics"))


def directions_of(trainer, name, greater):
    """Ask the check of metric-direction alone: the metric's name is all that it looks at."""
    chosen = FINE | {"metric_for_best_model": name, "greater_is_better": greater}
    trainer.args = transformers.TrainingArguments(**chosen)
    return list(CATALOGUE["metric-direction"].find(Setup(trainer)))


@pytest.mark.parametrize(("name", "right", "by_user"), DIRECTIONS)
def test_a_direction_that_the_name_contradicts(any_trainer, name, right, by_user):
    """What the user has set himself, otherwise than the library guesses, is a warning at most."""
    ((message, fix, *level),) = directions_of(any_trainer, name, by_user)
    is_guess = by_user in (None, not name.endswith("loss"))
    who = "greater" if is_guess else "you set"
    assert f"is better when it is {'higher' if right else 'lower'}, but {who}" in message
    assert level == ([] if is_guess else ["warning"])
    if is_guess:
        assert fix == f"greater_is_better={right}"
    else:  # nobody but the user knows what the number is: the remedy leaves both ways open
        other = "lower" if right else "higher"
        assert fix == f"Nothing, if {name!r} is better when it is {other}; else greater_is_better={right}"
    assert directions_of(any_trainer, name, right) == []


# names in which a word turns or qualifies what is measured tell nothing about the direction
SILENT = [
    (
        "hamming_score error_free_rate 1-wer neg_mean_squared_error loss_improvement "
        "inverse_perplexity mae_skill_score r2_loss",
        True,
    ),
    (
        "one_minus_cer brier_skill_score oneMinusError -mae error_reduction deviance_explained "
        "word_error_correction_rate f1_negative loss log_loss neg_log_loss_gain f1_score "
        "jaccard_similarity error_f1",
        None,
    ),
    ("accuracy_drop f1_gap accuracy_std neg_f1 1-accuracy mae eval_wer perplexity hamming_loss", False),
]


@pytest.mark.parametrize(
    ("name", "set_to"), [(name, set_to) for names, set_to in SILENT for name in names.split()]
)
def test_a_direction_that_may_be_right(any_trainer, name, set_to):
    assert directions_of(any_trainer, name, set_to) == []


metric_direction = partial(broken, "metric-direction")
metric_direction(
    "is better when it is lower, but greater",
    lambda _: chosen_by("perplexity", None),
    mended=lambda _: chosen_by("perplexity", False),
)


def test_the_perplexity_is_maximised(tmp_path):
    trainer = trainer_for(tmp_path, metric_for_best_model="perplexity", greater_is_better=None)
    assert trainer.args.greater_is_better is True


PATIENT = {"callbacks": [EarlyStoppingCallback(2)]}
early_stopping = partial(broken, "early-stopping")
early_stopping(
    "has no metric to watch",
    lambda _: PATIENT | guessed | {"load_best_model_at_end": False},
    mended=lambda _: PATIENT,
    raises="AssertionError",
)
early_stopping(
    "needs evaluations, and eval_strategy is 'no'",
    lambda _: PATIENT | {"eval_strategy": "no", "load_best_model_at_end": False},
)
early_stopping(
    "keeps the last model, not the best",
    lambda _: PATIENT | {"load_best_model_at_end": False},
    level="warning",
)

# --- values that are ignored --------------------------------------------------------------------------------

LOGS = {"logging_strategy": "steps"}
no_logs = partial(broken, "no-logs")
no_logs(
    "The run has 12 steps and logs every 500",
    lambda _: LOGS | {"logging_steps": 500},
    mended=lambda _: LOGS | {"logging_steps": 12},
)
fp16_on_cpu = partial(broken, "fp16-on-cpu")
fp16_on_cpu(
    "fp16=True, but there is no GPU in use", lambda _: {"fp16": True}, mended=lambda _: {"bf16": True}
)
dtype_auto = partial(broken, "dtype-auto")
dtype_auto(
    "trainable weights are bfloat16",
    lambda _: {"model": bert().to(torch.bfloat16)},
    mended=lambda _: {"model": bert().to(torch.bfloat16).float()},
)


def half_precision_checkpoint(folder):
    bert().half().save_pretrained(folder / "half")
    return {"model": BertForSequenceClassification.from_pretrained(folder / "half")}


dtype_auto("trainable weights are float16", half_precision_checkpoint)
on_a_gpu = stand_in(device=torch.device("cuda"), n_gpu=1) | {"fp16": True}
fp16_weights = partial(broken, "fp16-weights")
fp16_weights("trainable weights are float16 and fp16=True", lambda _: on_a_gpu | {"model": bert().half()})


def test_float32_weights_are_fine_on_a_gpu(tmp_path):
    """The stand-in cannot run the model, so the fix of fp16-weights is looked at alone."""
    assert not findings_of(made(lambda _: on_a_gpu, tmp_path)[0], "fp16-weights")


def test_half_precision_weights_hardly_move(tmp_path):
    """dtype-auto: steps of 5e-5 are lost in bfloat16 for weights around 1, those of LayerNorm."""
    moved = {}
    for kind in (torch.bfloat16, torch.float32):
        model = bert().to(kind)
        before = model.bert.embeddings.LayerNorm.weight.detach().clone()
        trainer_for(tmp_path / str(kind), model=model, **NEVER_EVALUATES).train()
        moved[kind] = bool((model.bert.embeddings.LayerNorm.weight != before).any())
    assert moved == {torch.bfloat16: False, torch.float32: True}


ignored_value = partial(broken, "ignored-value")
ignored_value(
    "train_sampling_strategy='bogus' is none of 'random'",
    lambda _: {"train_sampling_strategy": "bogus"},
    mended=lambda _: {"lr_scheduler_type": "constant_with_warmup"},
)
ignored_value(
    "warmup_steps=0.1 does nothing with lr_scheduler_type='constant'",
    lambda _: {"lr_scheduler_type": "constant"},
)


def own_loss(outputs, labels, num_items_in_batch=None):
    loss = torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
    return loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)


class DeafLoss(Trainer):
    """Looks at none of what Trainer knows about the loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


SMOOTH, OWN = {"label_smoothing_factor": 0.3}, {"compute_loss_func": own_loss}
does_nothing = "label_smoothing_factor=0.3 does nothing:"
ignored_value(f"{does_nothing} compute_loss_func computes the loss", lambda _: SMOOTH | OWN)
ignored_value(
    f"{does_nothing} DeafLoss.compute_loss computes the loss", lambda _: SMOOTH | {"kind": DeafLoss}
)
never = "compute_loss_func is never called: DeafLoss.compute_loss computes the loss"
ignored_value(never, lambda _: OWN | {"kind": DeafLoss})
ignored_value(
    "compute_metrics is never called with prediction_loss_only=True",
    lambda _: {"prediction_loss_only": True, **UNCHOSEN},
)


def test_smoothing_beside_a_loss_function_does_nothing(tmp_path):
    factors = [trainer_for(tmp_path, label_smoothing_factor=factor, **OWN) for factor in (0.0, 0.5)]
    assert factors[0].evaluate()["eval_loss"] == factors[1].evaluate()["eval_loss"]


def test_metrics_for_the_loss_only_are_never_computed(tmp_path):
    assert "eval_f1_macro" not in trainer_for(tmp_path, prediction_loss_only=True).evaluate()


class LossElsewhere(Trainer):
    """Its own loss is the library's, reached by way of another method."""

    def compute_loss(self, model, inputs, **how):
        return self.timed(model, inputs, **how)

    def timed(self, model, inputs, **how):
        return super().compute_loss(model, inputs, **how)


def wrapped(function):
    def wrapper(*given, **how):
        return function(*given, **how)

    return wrapper


class WrappedLoss(Trainer):
    compute_loss = wrapped(Trainer.compute_loss)


class Smoothed(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = self.label_smoother(outputs, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class Penalised(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        loss = loss + 1e-4 * outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


for kind in (Trainer, LossElsewhere, WrappedLoss, Smoothed, Penalised):
    healthy(f"label smoothing in {kind.__name__}", lambda _, kind=kind: SMOOTH | {"kind": kind})
healthy("loss function and a penalty", lambda _: OWN | {"kind": Penalised})
healthy("trainer with its own loss", lambda _: {"kind": DeafLoss})
overridden_value = partial(broken, "overridden-value")
overridden_value(
    "max_steps=6 and num_train_epochs=5 are both set",
    lambda _: {"max_steps": 6, "num_train_epochs": 5},
    mended=lambda _: {"max_steps": 6, "num_train_epochs": 3.0},
)
rate = lambda rate: lambda model: adamw(model, lr=rate)
overridden_value(
    "learning_rate=5e-06 is ignored",
    with_optimizer(rate(1e-5), learning_rate=5e-6),
    mended=with_optimizer(rate(5e-6), learning_rate=5e-6),
)
no_decay = lambda model: adamw(model, weight_decay=0.0)
constant = {"schedule": plans.ConstantLR}
for says, build in [
    ("weight_decay=0.3 is ignored", with_optimizer(no_decay, weight_decay=0.3)),
    ("warmup_steps would be ignored", with_optimizer(**constant)),
    (
        "The optimizer you made has the learning rate 0.001; learning_rate=2e-05 is ignored",
        lambda _: by_class()(_) | {"learning_rate": 2e-5},
    ),
    ("optim and adam_epsilon would be ignored", with_optimizer(optim="adafactor", adam_epsilon=1e-6)),
    ("adam_beta2 would be ignored", lambda _: by_class(lr=5e-5)(_) | {"adam_beta2": 0.98}),
    (
        "lr_scheduler_kwargs would be ignored",
        with_optimizer(**constant, **NO_WARMUP, lr_scheduler_kwargs={"power": 2}),
    ),
    (
        "The schedule was made for another optimizer",
        with_optimizer(schedule=lambda _: linear(adamw(bert()), 12), **NO_WARMUP),
    ),
    (
        "The schedule was made for another optimizer",
        lambda _: {"optimizers": (None, linear(adamw(bert()), 12)), **NO_WARMUP},
    ),
]:
    overridden_value(says, build)
unknown_tracker = partial(broken, "report-to")
unknown_tracker("report_to names 'wand'", argument(report_to=["wand"]), mended=argument(report_to=[]))
several_gpus = partial(broken, "several-gpus")
several_gpus(
    "2 GPUs are visible in one process: Trainer splits each batch over them, so a batch has 8 rows, not 4",
    lambda _: stand_in(n_gpu=2, train_batch_size=8),
)
evaluated_first = partial(broken, "evaluated-first")


def after_evaluation(trainer):
    trainer.evaluate()
    stand_in(world_size=2)["after"](trainer)


evaluated_first(
    "each of 2 processes would go its own way",
    lambda _: {"after": after_evaluation},
    mended=lambda _: stand_in(world_size=2),
)


def test_without_evaluation_or_alone_nothing_is_lost(tmp_path):
    trainer, _ = made(lambda _: stand_in(world_size=2), tmp_path)
    assert not findings_of(trainer, "evaluated-first")
    after_evaluation(trainer)
    assert findings_of(trainer, "evaluated-first")
    trainer.model._is_accelerate_prepared = False  # the fix
    assert not findings_of(trainer, "evaluated-first")
    alone = trainer_for(tmp_path / "alone", **pair())
    alone.evaluate()
    assert not findings_of(alone, "evaluated-first")


vectors = {"train": table(labels=[[0.0, 1.0], [1.0, 0.0]] * 12), "compute_metrics": None, **NEVER_EVALUATES}
smoothing_float = partial(broken, "smoothing-float")
smoothing_float(
    "label_smoothing_factor=0.3 needs whole numbers",
    lambda _: SMOOTH | vectors,
    mended=lambda _: vectors,
    raises="gather",
)
predict_order = partial(broken, "predict-order")
predict_order(
    "return the rows grouped by length",
    lambda _: {"train_sampling_strategy": "group_by_length"},
    mended=lambda _: {"train_sampling_strategy": "random"},
)
healthy("grouped by length", lambda _: {"train_sampling_strategy": "group_by_length"}, "predict-order")


def test_rows_come_back_in_another_order(tmp_path):
    """predict-order."""
    texts = [" ".join(WORDS[: 3 + i]) for i in range(12)]
    data = table(texts=texts, labels=[0, 1] * 6)
    trainer = trainer_for(tmp_path, train_sampling_strategy="group_by_length", per_device_eval_batch_size=4)
    random_order = trainer_for(tmp_path, per_device_eval_batch_size=4)
    assert random_order.predict(data).label_ids.tolist() == [0, 1] * 6
    assert list(trainer._get_eval_sampler(data)) != list(range(12))


healthy("schedule with warmup", lambda _: {"lr_scheduler_type": "cosine", "weight_decay": 0.01})
healthy("less memory", lambda _: {"gradient_checkpointing": True, "eval_accumulation_steps": 2})

test_found, test_gone_once_mended, test_left_alone = SETUPS.tests()
