"""Checks of TrainingArguments and of what contradicts them."""

import copy
import inspect
import itertools
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import torch
from sklearn.metrics import get_scorer_names
from transformers import Trainer, get_scheduler
from transformers.integrations import get_available_reporting_integrations

from utils.preflight.checks.common import check, dtype_name, listed, tensor_labels
from utils.preflight.setup import untouched
from utils.preflight.split import error_text
from utils.preflight.weights import adam_moves_most


@check("lr-is-text", "RP", "error", "learning_rate: 2.0e-5", loud=True)
def lr_is_text(setup):
    """YAML reads 2e-5 as a text: '<=' not supported between 'float' and 'str'"""
    for field in fields(setup.args):
        value = getattr(setup.args, field.name)
        if isinstance(value, str) and type(field.default) in (int, float):
            exponent = re.fullmatch(r"[\d.eE+-]+", value) and "e" in value.lower()
            better = f"{field.name}: {float(value):.1e}" if exponent else f"{field.name}: {value}"
            message = f"{field.name} is the text {value!r}, not a number"
            yield f"{message}; YAML reads 2e-5 as a text, for it misses the dot.", better


@check("lr-too-high", "PW", "warning", "1e-5 to 5e-5 with warmup")
def lr_too_high(setup):
    """The model collapses to one class; rarely NaN"""
    rate, own = setup.args.learning_rate, setup.trainer.optimizer or setup.trainer.optimizer_cls_and_kwargs
    if isinstance(rate, str) or own or rate <= 1e-4 or not adam_moves_most(setup.args, setup.model):
        return
    trainable = sum(p.numel() for p in setup.model.parameters() if p.requires_grad)
    moves = f"learning_rate={rate:g} moves all {trainable:,} weights"
    forgets = "above 1e-4 a pretrained model tends to forget what it knows and to answer with one class"
    yield f"{moves}: {forgets}.", "learning_rate=5e-5, warmup_steps=0.1"


STAY = "what is to stay as it is: parameter.requires_grad_(False)"
LEAST_RATE = 1e-7  # Adam moves a weight by about the rate a step: 0.02 by a twentieth in 10,000 steps
ABOVE_LEAST = 1.001 * LEAST_RATE  # transformers' polynomial schedule ends at the least rate, but for rounding
LOOKED_AHEAD = 10_000  # steps of a schedule that are looked at, half a second's worth


@check("zero-steps", "P", "error", "Rows for a batch; optimizer and schedule made for this model and run")
def zero_steps(setup):
    """No rows for a batch, an optimizer made for another model object, a schedule that ended, a rate of 0:
    nothing is trained"""
    args, rows = setup.args, setup.train.rows if setup.train is not None else None
    if rows == 0:
        yield "The training data are empty.", "Look at what filter or select left: print(dataset)"
    elif setup.steps == 0 and args.dataloader_drop_last and rows < args.train_batch_size:
        size = f"{rows} training rows do not fill a batch of {args.train_batch_size}"
        fix = f"dataloader_drop_last=False, or per_device_train_batch_size={max(1, rows // 2)}"
        yield f"{size}, and dataloader_drop_last=True drops it: the run would end after 0 steps.", fix
    elif setup.steps == 0:
        yield f"num_train_epochs={args.num_train_epochs} makes a run of 0 steps.", "num_train_epochs=3"
    elif setup.train is not None:
        yield from _not_optimised(setup)
        yield from _no_rate(setup)


def _not_optimised(setup) -> Iterator[tuple]:
    """Say which trainable tensors the optimizer lacks."""
    groups = getattr(own_optimizer(setup), "param_groups", ())
    held = {id(p) for group in groups for p in group["params"]}
    trainable = [(name, p) for name, p in setup.model.named_parameters() if p.requires_grad]
    missing = [name for name, p in trainable if id(p) not in held]
    tensors = f"the model's {len(trainable)} trainable tensors"
    adamw = "torch.optim.AdamW(model.parameters(), lr=5e-5)"
    fix = f"Make the optimizer once the model is complete, in the same cell: {adamw}; {STAY}"
    if held and 0 < len(missing) < len(trainable):
        some = f"The optimizer lacks {len(missing)} of {tensors}, for example {missing[0]!r}"
        yield f"{some}: they would stay as they are.", fix
    elif held and missing:
        none = f"None of {tensors} is in the optimizer: it was made for another model object"
        yield f"{none} (the model was loaded again, or copied).", fix


def _no_rate(setup) -> Iterator[tuple]:
    """Say where the learning rate is none, or next to none."""
    later, rates = _later_rate(setup), starting_rates(setup)
    low = [rate for rate in rates if 0 <= rate < LEAST_RATE]
    if later is not None:
        step, rate, failure = later
        where, count = f"step {step} of {setup.steps}", f"the {setup.steps} steps of the run, not its epochs"
        since = f"By the schedule, from {where} on (if not before) the learning rate is"
        anew = f"Make it for {count}, and anew for each run; or leave the schedule to Trainer"
        if failure is not None:
            yield f"The schedule fails at {where}, and training with it: {error_text(failure)}", anew
        elif rate <= 0:
            yield f"{since} {rate:g}: nothing is learnt any more.", anew
        elif rate < ABOVE_LEAST:
            yield f"{since} no more than {rate:.1g}: the weights hardly move any more.", anew, "warning"
    elif low and not any(rates):
        yield "The learning rate is 0: no weight would move.", "learning_rate=5e-5"
    elif low:
        groups = f" for {len(low)} of the optimizer's {len(rates)} groups" if len(rates) > 1 else ""
        message = f"The learning rate is {min(low):g}{groups}: at such a rate, weights hardly move."
        yield message, f"1e-5 to 5e-5; {STAY}", "warning"


def own_optimizer(setup) -> Any:
    """Return the optimizer that was given to Trainer, None where Trainer makes or made one."""
    optimizer = None if setup.trainer.state.global_step else setup.trainer.optimizer
    return getattr(optimizer, "optimizer", optimizer)  # Accelerate wraps it, if another Trainer had it


def starting_rates(setup) -> list[float]:
    """Return the learning rates before any schedule, of each group of an optimizer."""
    optimizer, made = own_optimizer(setup), setup.trainer.optimizer_cls_and_kwargs
    if optimizer is not None:
        groups = getattr(optimizer, "param_groups", ())
        fixed = (group for group in groups if not group.get("relative_step"))  # Adafactor finds its own
        rates = [group.get("initial_lr", group.get("lr")) for group in fixed]
    elif made is not None:
        parameter = inspect.signature(made[0]).parameters.get("lr")
        rates = [made[1].get("lr", parameter and parameter.default)]
    else:  # an optimizer that a Trainer of the user's makes may take another rate
        usual = type(setup.trainer).create_optimizer is Trainer.create_optimizer
        rates = [setup.args.learning_rate] if usual else []
    return [float(rate) for rate in rates if isinstance(rate, (int, float, torch.Tensor))]


def foreign_schedule(setup) -> bool:
    """Say whether the schedule given moves the rate of another optimizer than the one in use."""
    theirs = getattr(setup.trainer.lr_scheduler, "optimizer", None)
    if theirs is None or setup.trainer.state.global_step:
        return False
    return getattr(theirs, "optimizer", theirs) is not own_optimizer(setup)


def _later_rate(setup) -> tuple[int, float, Exception | None] | None:
    """Return the step in the middle of the run, and the highest rate of the user's schedule from there on.

    A twin of the schedule is stepped until the rate is high enough. Where it fails: that step, and the
    exception. None where nothing can be known (a schedule that depends on scores, or goes on where a
    checkpoint was), and for Trainer's own schedule with its own settings.
    """
    steps = min(setup.steps or 0, LOOKED_AHEAD)
    usual = setup.trainer.lr_scheduler is None and not setup.args.lr_scheduler_kwargs
    goes_on = setup.resumes_from is not None or setup.trainer.state.global_step
    if steps < 2 or usual or goes_on or foreign_schedule(setup):
        return None
    step, rate = 0, -math.inf
    try:
        with warnings.catch_warnings(action="ignore"):  # that an optimizer should step as well
            twin = _twin(setup)
            for step in range(steps):
                if step >= steps // 2:
                    rate = max(rate, *(float(group["lr"]) for group in twin.optimizer.param_groups))
                if rate >= ABOVE_LEAST:
                    break
                twin.step()
    except Exception as error:  # at the first step: it needs a score, or the weights; later: it is over
        return (step, rate, error) if step > 1 else None
    return steps // 2, rate, None


def _twin(setup) -> Any:
    """Return a copy of the run's schedule that moves the rate of nothing in use."""
    schedule, args = setup.trainer.lr_scheduler, setup.args
    if schedule is None:
        alone = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=max(starting_rates(setup)))
        warmup, settings = args.get_warmup_steps(setup.steps), dict(args.lr_scheduler_kwargs)
        kind = args.lr_scheduler_type
        return get_scheduler(kind, alone, warmup, setup.steps, scheduler_specific_kwargs=settings)
    theirs = schedule.optimizer
    groups = [copy.deepcopy(group | {"params": None}) for group in theirs.param_groups]
    stand_in = SimpleNamespace(param_groups=groups, defaults=theirs.defaults, step=lambda: None)
    large = {id(thing): thing for thing in (setup.model, setup.trainer, args)}  # a schedule may look at these
    return copy.deepcopy(schedule, large | {id(theirs): stand_in})


def _constant(setup) -> bool:
    """Whether Trainer's schedule is the constant one, which knows no warmup."""
    return setup.trainer.lr_scheduler is None and str(setup.args.lr_scheduler_type.value) == "constant"


@check("warmup-too-long", "P", "warning", "warmup_steps=0.1")
def warmup_too_long(setup):
    """warmup_steps=500 copied into a short run: the learning rate never gets there"""
    warmup, total, rate = setup.args.warmup_steps, setup.steps, setup.args.learning_rate
    if not total or isinstance(warmup, str) or setup.trainer.lr_scheduler is not None or _constant(setup):
        return
    steps = setup.args.get_warmup_steps(total)
    share = steps / total
    if 0.2 < warmup < 1 or (warmup >= 2 and share > 0.2):
        no_higher = f"; the learning rate gets no higher than {float(rate) / max(1, share):.2g}"
        message = f"The warmup takes {steps} of {total} steps ({min(1, share):.0%})"
        message += no_higher if share >= 1 else ""
        yield f"{message}.", "warmup_steps=0.1 (below 1: a share of all steps)"


@check("no-evaluation", "P", "warning", "eval_strategy='epoch'")
def no_evaluation(setup):
    """An eval_dataset, and eval_strategy left at 'no': no evaluation, without a word"""
    strategy, delay, evaluates = setup.args.eval_strategy, setup.args.eval_delay, "eval_strategy='epoch'"
    for split in setup.evals:
        if split.rows == 0:
            yield f"The {split.role} data are empty.", "Look at what filter or select left: print(dataset)"
    last = setup.steps if strategy == "steps" else setup.args.num_train_epochs
    if setup.train is None:
        return
    if setup.trainer.eval_dataset is None:
        message = "There is no eval_dataset: nobody will see whether the model learns or memorises."
        yield message, f"Trainer(..., eval_dataset=validation) and {evaluates}"
    elif strategy == "no":
        message = "eval_dataset is given, but eval_strategy is 'no': it would not be used during training."
        yield message, evaluates
    elif setup.steps and delay and delay > last:
        message = f"eval_delay={delay:g} is longer than the run ({last:g} {strategy.value}s)"
        yield f"{message}: there would be no evaluation.", "eval_delay=0"


@check("best-not-loaded", "P", "error", "The same steps for both")
def best_not_loaded(setup):
    """save_steps a multiple of eval_steps: the best step has no checkpoint, and the last weights are kept"""
    args = setup.args
    if not args.load_best_model_at_end or args.eval_strategy != "steps" or args.save_strategy != "steps":
        return
    evaluates, saves = setup.every("eval_steps"), setup.every("save_steps")
    if evaluates and saves > evaluates and (not setup.steps or evaluates < setup.steps):
        steps = f"It evaluates every {evaluates} steps and saves every {saves}"
        lost = "where the best score falls between two checkpoints, the last weights are kept"
        yield f"{steps}: {lost}.", f"save_steps={evaluates}, or save_strategy='best'"


LOWER = "loss|err(or)?|perplexity|ppl|r?mse|mae|mape|hamming|brier|ece|wer|cer|nll|entropy|deviance|distance"
HIGHER = "acc(uracy)?|f1|precision|recall|(au)?roc|auc|mcc|matthews|kappa|pearson|spearman|r2|jaccard|map"
# words that turn what a name measures, or measure how it changes: then the name does not tell
TURNED = (
    "neg|negative|negated|minus|inv|inverse|inverted|reciprocal|complement|opposite|improvement|improved|gain"
    "|reduction|reduced|decrease|increase|drop|rise|change|delta|diff|difference|gap|margin|std|var|variance"
)
# words that make another measure of an error: a skill score, the share free of errors
QUALIFIED = (
    "score|skill|similarity|correlation|ratio|explained|free|no|non|not|without|avoided|saved|corrected"
    "|correction|detected|detection|recovery|tolerance|within|below|above"
)


def _better(metric: str) -> bool | None:
    """Say by a metric's name whether more of it is better; None where the name does not tell."""
    name = re.sub("(?<=[a-z])(?=[A-Z])", "_", metric.strip()).lower().removeprefix("eval_")
    words = re.findall("[a-z0-9]+", name)
    whole = "_".join(words)
    if words[:1] == ["neg"] and whole in get_scorer_names():
        return True  # scikit-learn's own, such as neg_log_loss
    words = whole.replace("brier_score", "brier").split("_")  # the one score that is better when lower
    kinds = (HIGHER, LOWER, TURNED, QUALIFIED)
    more, less, turned, qualified = (any(re.fullmatch(kind, word) for word in words) for kind in kinds)
    negated = re.match(r"-|1(00)?[\W_]", name)  # -mae, 1-wer, 1_wer, 100 - mape
    return None if more == less or turned or (less and qualified) or negated else more


def chooses_by_metric(setup) -> bool:
    return setup.chooses_best or setup.args.lr_scheduler_type == "reduce_lr_on_plateau"


@check("metric-direction", "P", "error", "Set greater_is_better")
def metric_direction(setup):
    """greater_is_better is guessed from a name that does not end in 'loss': the worst model is kept"""
    metric, assumed = setup.args.metric_for_best_model, setup.args.greater_is_better
    right = _better(metric) if metric and assumed is not None and chooses_by_metric(setup) else None
    if right is None or right == assumed:
        return
    direction, other = ("higher", "lower") if right else ("lower", "higher")
    is_better = f"metric_for_best_model={metric!r} is better when it is {direction}"
    fix = f"greater_is_better={right}"
    if assumed == (not metric.endswith("loss")):  # what TrainingArguments makes of None
        guess = f"greater_is_better is {assumed} (unset, it is guessed from whether the name ends in 'loss')"
        yield f"{is_better}, but {guess}: the worst model would be kept.", fix
    else:
        message = f"By its name, {is_better}, but you set greater_is_better={assumed}"
        fix = f"Nothing, if {metric!r} is better when it is {other}; else {fix}"
        yield f"{message}: if the name is right, the worst model would be kept.", fix, "warning"


@check("no-logs", "P", "warning", "logging_steps=10, or logging_strategy='epoch'")
def no_logs(setup):
    """logging_steps=500 in a short run: 'No log'"""
    every, strategy = setup.every("logging_steps"), setup.args.logging_strategy
    if strategy == "steps" and setup.steps and every > setup.steps and not setup.args.logging_first_step:
        message = f"The run has {setup.steps} steps and logs every {every}: no training loss would be seen."
        yield message, f"logging_steps={max(1, setup.steps // 10)}"


@check("fp16-on-cpu", "P", "warning", "Leave it out")
def fp16_on_cpu(setup):
    """fp16=True without a GPU: silently float32"""
    if setup.args.fp16 and setup.args.device.type == "cpu":
        message = "fp16=True, but there is no GPU in use: the run would be in float32 without a word."
        yield message, "fp16=torch.cuda.is_available()"


def _trainable(setup, *kinds: torch.dtype) -> list[torch.dtype]:
    """Return the types of the trainable weights that are of some types."""
    return [p.dtype for p in setup.model.parameters() if p.requires_grad and p.dtype in kinds]


def _unscalable(setup) -> bool:
    """Whether the first step stops: fp16 training scales gradients, and only those of float32 weights."""
    on_gpu = setup.args.fp16 and setup.args.device.type == "cuda"
    return bool(on_gpu and _trainable(setup, torch.float16))


@check("dtype-auto", "P", "warning", "dtype=torch.float32")
def dtype_auto(setup):
    """from_pretrained keeps the checkpoint's dtype, and half-precision weights train badly"""
    halves = _trainable(setup, torch.float16, torch.bfloat16)
    if halves and not _unscalable(setup):
        kind = f"{len(halves)} trainable weights are {dtype_name(halves[0])}"
        fix = "from_pretrained(..., dtype=torch.float32); for speed, TrainingArguments(..., bf16=True)"
        yield f"{kind}, as a checkpoint can be stored: small updates are rounded away.", fix


@check("fp16-weights", "P", "error", "dtype=torch.float32", loud=True)
def fp16_weights(setup):
    """'Attempting to unscale FP16 gradients': float16 weights with fp16=True on a GPU"""
    if _unscalable(setup):
        weights = f"{len(_trainable(setup, torch.float16))} trainable weights are float16 and fp16=True"
        fix = "from_pretrained(..., dtype=torch.float32)"
        yield f"{weights}: the first step would stop, for fp16 training wants float32 weights.", fix


@check("ignored-value", "P", "warning", "Spell it as the list says")
def ignored_value(setup):
    """A misspelt value is accepted: train_sampling_strategy='bogus' is random sampling"""
    trainer, args = setup.trainer, setup.args
    for field in fields(args):
        choices, value = field.metadata.get("choices"), getattr(args, field.name)
        if choices and isinstance(value, str) and value not in choices:
            message = f"{field.name}={value!r} is none of {listed(choices)}, and nothing refuses it"
            yield f"{message}: the default is used.", f"{field.name}={field.default!r}"
    if args.warmup_steps and _constant(setup):
        message = f"warmup_steps={args.warmup_steps:g} does nothing with lr_scheduler_type='constant'."
        yield message, "lr_scheduler_type='constant_with_warmup'"
    factor, function = args.label_smoothing_factor, trainer.compute_loss_func
    method = f"{type(trainer).__name__}.compute_loss"
    if factor and (function is not None or _leaves_out(trainer, "label_smoother")):
        loss = "compute_loss_func" if function is not None else method
        message = f"label_smoothing_factor={factor:g} does nothing: {loss} computes the loss, without it."
        smooth = f"torch.nn.functional.cross_entropy(..., label_smoothing={factor:g})"
        yield message, f"label_smoothing_factor=0, and smooth in your loss: {smooth}"
    if function is not None and _leaves_out(trainer, "compute_loss_func"):
        yield f"compute_loss_func is never called: {method} computes the loss.", "Leave one of the two out"
    if args.prediction_loss_only and trainer.compute_metrics is not None:
        message = "compute_metrics is never called with prediction_loss_only=True."
        yield message, "prediction_loss_only=False, or leave compute_metrics out"


def _leaves_out(trainer: Any, name: str) -> bool:
    """Say whether a Trainer's own compute_loss replaces the library's and, by its code, reads no `name`."""
    own = type(trainer).compute_loss
    if own is Trainer.compute_loss or not hasattr(own, "__code__") or own.__code__.co_freevars:
        return False  # inherited, or a wrapper around another
    classes = itertools.takewhile(lambda kind: kind is not Trainer, type(trainer).__mro__)
    functions = [value for kind in classes for value in vars(kind).values() if hasattr(value, "__code__")]
    used = {word for function in functions for word in function.__code__.co_names}
    return not used & {name, "compute_loss"}


@check("overridden-value", "P", "warning", "Choose one")
def overridden_value(setup):
    """max_steps beats the epochs; an optimizer of your own beats learning_rate"""
    args, trainer, optimizer = setup.args, setup.trainer, own_optimizer(setup)
    default = {field.name: field.default for field in fields(args)}

    def changed(*names: str) -> str:
        return " and ".join(name for name in names if getattr(args, name) != default[name])

    if args.max_steps > 0 and changed("num_train_epochs"):
        both = f"max_steps={args.max_steps} and num_train_epochs={args.num_train_epochs:g} are both set"
        yield f"{both}: max_steps decides.", "Leave one of them out"
    untrained, made = not trainer.state.global_step, "The optimizer you made has"
    if optimizer is not None or (trainer.optimizer_cls_and_kwargs and untrained):
        rates = sorted(set(starting_rates(setup)))
        if changed("learning_rate") and rates and args.learning_rate not in rates:
            own = f"{made} the learning rate {', '.join(f'{rate:g}' for rate in rates)}"
            fix = "Set the rate in one place: leave learning_rate out, or leave the optimizer to Trainer"
            yield f"{own}; learning_rate={args.learning_rate!r} is ignored.", fix
        if names := changed("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"):
            message = f"{made} settings of its own; {names} would be ignored."
            yield message, "Set them there, or leave the optimizer to Trainer"
    decays = {group.get("weight_decay") for group in getattr(optimizer, "param_groups", ())}
    if optimizer is not None and args.weight_decay and args.weight_decay not in decays:
        message = f"{made} its own weight decay; weight_decay={args.weight_decay:g} is ignored."
        yield message, "Set it in one place"
    if foreign_schedule(setup):
        fix = "Make both in one cell, and hand over both: Trainer(..., optimizers=(optimizer, schedule))"
        yield "The schedule was made for another optimizer than the one in use: it moves no rate.", fix
    names = changed("warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs")
    if trainer.lr_scheduler is not None and untrained and names:
        message = f"The schedule you made decides the learning rate; {names} would be ignored."
        yield message, "Leave the schedule to Trainer, or leave these out"


@check("early-stopping", "P", "error", "load_best_model_at_end=True", loud=True)
def early_stopping(setup):
    """EarlyStoppingCallback without a metric or evaluations: AssertionError when training starts"""
    keep = "eval_strategy='epoch', save_strategy='epoch', load_best_model_at_end=True"
    complete = f"{keep}, metric_for_best_model='f1_macro', greater_is_better=True"
    callback, stop = "EarlyStoppingCallback", "training would stop with an AssertionError."
    if setup.early_stopping is None:
        return
    if setup.args.metric_for_best_model is None:
        yield f"{callback} has no metric to watch (metric_for_best_model is None): {stop}", complete
    elif setup.args.eval_strategy == "no":
        yield f"{callback} needs evaluations, and eval_strategy is 'no': {stop}", complete
    elif not setup.args.load_best_model_at_end:
        message = f"{callback} without load_best_model_at_end keeps the last model, not the best."
        yield message, "load_best_model_at_end=True", "warning"


@check("report-to", "P", "warning", "Name the tracker")
def report_to(setup):
    """The default was every tracker; it is none since transformers 5"""
    for name in setup.args.report_to:
        if name not in ("flyte", *get_available_reporting_integrations()):
            message = f"report_to names {name!r}, which is not installed here, or no tracker of Trainer's."
            yield message, f"pip install {name}, or report_to='none'"


@check("several-gpus", "P", "warning", "accelerate launch")
def several_gpus(setup):
    """DataParallel on two GPUs doubles the batch without a word"""
    count, rows = setup.args.n_gpu, setup.args.train_batch_size
    if count > 1:
        batch = f"so a batch has {rows} rows, not {setup.args.per_device_train_batch_size}"
        one = "os.environ['CUDA_VISIBLE_DEVICES'] = '0' before torch is imported"
        fix = f"accelerate launch script.py; in a notebook, {one}"
        yield f"{count} GPUs are visible in one process: Trainer splits each batch over them, {batch}.", fix


@check("evaluated-first", "P", "error", "Evaluate after training")
def evaluated_first(setup):
    """Several processes, and evaluate() before train(): no gradients are shared, each trains alone"""
    count = setup.args.world_size
    if count > 1 and getattr(setup.model, "_is_accelerate_prepared", False):
        lost = f"evaluate() has run: in train(), each of {count} processes would go its own way"
        fix = "trainer.model._is_accelerate_prepared = False before trainer.train(); or evaluate after it"
        yield f"{lost}, and the first one's model be saved.", fix


@check("smoothing-float", "P", "error", "label_smoothing_factor=0", loud=True)
def smoothing_float(setup):
    """Label smoothing with float labels: gather(): Expected dtype int32/int64"""
    labels, smooths = tensor_labels(setup), setup.trainer.label_smoother is not None
    floats = labels is not None and labels.is_floating_point()
    if smooths and floats and setup.trainer.compute_loss_func is None:
        factor = f"label_smoothing_factor={setup.args.label_smoothing_factor:g}"
        yield f"{factor} needs whole numbers as labels, and these are floats.", "label_smoothing_factor=0"


@check("predict-order", "P", "warning", "Restore the order")
def predict_order(setup):
    """group_by_length also reorders predict() and evaluate(): joined to your rows, predictions are wrong"""
    splits = [split for name, split in setup.splits.items() if name != "train"]
    datasets = [split.dataset for split in splits if split.in_arrow and split.rows]
    if setup.args.train_sampling_strategy != "group_by_length" or not datasets:
        return
    few = datasets[0].select(range(min(len(datasets[0]), 32)))
    with untouched(setup):
        samplers = [setup.trainer._get_eval_sampler(few) for _ in range(2)]
        orders = [list(sampler) for sampler in samplers if sampler is not None]
    if not orders or type(samplers[0]).__name__ == "SequentialSampler":
        return
    again = "the same order each time" if orders[0] == orders[1] else "another order each time"
    rows = f"With group_by_length, predict() and evaluate() return the rows grouped by length, in {again}"
    fix = "trainer.args.train_sampling_strategy = 'random' before trainer.predict(...) keeps the order"
    yield f"{rows}: their metrics are right; joined to your rows, predictions are wrong.", fix
