"""Checks of TrainingArguments and of what contradicts them."""

import copy
import inspect
import itertools
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import torch
from sklearn.metrics import get_scorer_names
from transformers import Trainer, get_scheduler
from transformers.integrations import get_available_reporting_integrations

from utils.preflight.catalogue import pitfall
from utils.preflight.checks.labels import tensor_labels
from utils.preflight.setup import untouched
from utils.preflight.split import error_text


@pitfall(
    "lr-is-text",
    "RP",
    "error",
    "YAML reads 2e-5 as a text: '<=' not supported between 'float' and 'str'",
    "learning_rate: 2.0e-5",
    True,
)
def lr_is_text(setup):
    for field in fields(setup.args):
        value = getattr(setup.args, field.name)
        if (
            isinstance(value, str)
            and isinstance(field.default, (int, float))
            and not isinstance(field.default, bool)
        ):
            better = (
                f"{float(value):.1e}"
                if re.fullmatch(r"[\d.eE+-]+", value) and "e" in value.lower()
                else value
            )
            yield (
                f"{field.name} is the text {value!r}, not a number; YAML reads 2e-5 as a text, for it misses the dot.",
                f"{field.name}: {better}",
            )


@pitfall(
    "lr-too-high", "PW", "warning", "The model collapses to one class; rarely NaN", "1e-5 to 5e-5 with warmup"
)
def lr_too_high(setup):
    rate, model = setup.args.learning_rate, setup.model
    if (
        isinstance(rate, str)
        or setup.trainer.optimizer is not None
        or setup.trainer.optimizer_cls_and_kwargs
        or "adam" not in str(setup.args.optim.value)
    ):
        return
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if rate > 1e-4 and trainable > 0.5 * sum(p.numel() for p in model.parameters()):
        yield (
            f"learning_rate={rate:g} moves all {trainable:,} weights: above 1e-4 a pretrained model tends to forget what it knows and to answer with one class.",
            "learning_rate=5e-5, warmup_steps=0.1",
        )


LEAST_RATE = 1e-7  # Adam moves a weight by about the rate in a step: below this, 10,000 steps move none by a twentieth of the usual size, 0.02
LOOKED_AHEAD = 10_000  # steps of a schedule that are looked at, half a second's worth


@pitfall(
    "zero-steps",
    "P",
    "error",
    "No rows for a batch, an optimizer made for another model object, a schedule that ended, a rate of 0: nothing is trained",
    "Rows for a batch; optimizer and schedule made for this model and this number of steps",
)
def zero_steps(setup):
    if setup.train is not None and setup.train.rows == 0:
        yield "The training data are empty.", "Look at what filter or select left: print(dataset)"
    elif setup.steps == 0:
        size = setup.args.train_batch_size
        if setup.args.dataloader_drop_last and setup.train.rows < size:
            yield (
                f"{setup.train.rows} training rows do not fill a batch of {size}, and dataloader_drop_last=True drops it: the run would end after 0 steps.",
                f"dataloader_drop_last=False, or per_device_train_batch_size={max(1, setup.train.rows // 2)}",
            )
        else:
            yield (
                f"num_train_epochs={setup.args.num_train_epochs} makes a run of 0 steps.",
                "num_train_epochs=3",
            )
    elif setup.train is not None:
        yield from _untrained(setup)


def _untrained(setup) -> Iterator[tuple]:
    """Say which weights a run with steps leaves as they are: they are not in the optimizer, or the learning rate is none."""
    optimizer = own_optimizer(setup)
    held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
    trainable = {name: id(p) for name, p in setup.model.named_parameters() if p.requires_grad}
    missing = [name for name, place in trainable.items() if place not in held]
    if held and missing:
        yield (
            f"None of the model's {len(trainable)} trainable tensors is in the optimizer: it was made for another model object (the cell that loads the model was "
            "run again, or the model was copied), and the run would change nothing."
            if len(missing) == len(trainable)
            else f"The optimizer lacks {len(missing)} of the model's {len(trainable)} trainable tensors, for example {missing[0]!r}: they would stay as they are.",
            "Make the optimizer once the model is complete, in the same cell: torch.optim.AdamW(model.parameters(), lr=5e-5); what is to stay as it is: "
            "parameter.requires_grad_(False)",
        )
    anew = f"Give it the optimizer steps of the run ({setup.steps}), not the epochs, and make it anew for each run; or leave the schedule to Trainer"
    if (later := _later_rate(setup)) is not None:
        step, rate, failed = later
        from_here = (
            f"By the schedule, from step {step} of {setup.steps} on (if not before) the learning rate is"
        )
        if failed is not None:
            yield (
                f"The schedule fails at step {step} of {setup.steps}, and training with it: {error_text(failed)}",
                anew,
            )
        elif rate <= 0:
            yield f"{from_here} {rate:g}: nothing is learnt any more.", anew
        elif rate < 1.001 * LEAST_RATE:  # where transformers' polynomial schedule ends, but for rounding
            yield f"{from_here} no more than {rate:.1g}: the weights hardly move any more.", anew, "warning"
        return
    rates = starting_rates(setup)
    low = [rate for rate in rates if 0 <= rate < LEAST_RATE]
    if low and not any(rates):
        yield "The learning rate is 0: no weight would move.", "learning_rate=5e-5"
    elif low:
        groups = f" for {len(low)} of the optimizer's {len(rates)} groups" if len(rates) > 1 else ""
        yield (
            f"The learning rate is {min(low):g}{groups}: at such a rate, weights hardly move.",
            "1e-5 to 5e-5; what is to stay as it is: parameter.requires_grad_(False)",
            "warning",
        )


def own_optimizer(setup) -> Any:
    """Return the optimizer that was given to Trainer, None where Trainer makes one, or made one in an earlier run."""
    given = None if setup.trainer.state.global_step else setup.trainer.optimizer
    return getattr(
        given, "optimizer", given
    )  # the one that Accelerate wraps, if it came from another Trainer


def starting_rates(setup) -> list[float]:
    """Return the learning rates of the optimizer given, of each group, before any schedule; else the one rate in the arguments. None that is no number."""
    optimizer, given = own_optimizer(setup), setup.trainer.optimizer_cls_and_kwargs
    if optimizer is not None:
        groups = [
            group for group in getattr(optimizer, "param_groups", ()) if not group.get("relative_step")
        ]  # Adafactor finds its own
        rates = [group.get("initial_lr", group.get("lr")) for group in groups]
    elif given is not None:
        kind = inspect.signature(given[0]).parameters.get("lr")
        rates = [given[1].get("lr", kind and kind.default)]
    else:  # an optimizer that the Trainer makes itself may take another
        rates = (
            [setup.args.learning_rate]
            if type(setup.trainer).create_optimizer is Trainer.create_optimizer
            else []
        )
    return [float(rate) for rate in rates if isinstance(rate, (int, float, torch.Tensor))]


def foreign_schedule(setup) -> bool:
    """Say whether the schedule given moves the rate of another optimizer than the one in use."""
    theirs = getattr(setup.trainer.lr_scheduler, "optimizer", None)
    return (
        theirs is not None
        and not setup.trainer.state.global_step
        and getattr(theirs, "optimizer", theirs) is not own_optimizer(setup)
    )


def _later_rate(setup) -> tuple[int, float, Exception | None] | None:
    """Return the step in the middle of the run, and the highest rate that a schedule of the user's has from there on (the first that will do is enough).

    A twin of the schedule is stepped, on a stand-in for the optimizer. Where the schedule fails on the way: that step, and the exception. None where
    nothing can be known: a schedule that depends on scores, or goes on where a checkpoint was. None, too, for one of Trainer's own with its own settings.
    """
    given, args, steps = setup.trainer.lr_scheduler, setup.args, min(setup.steps or 0, LOOKED_AHEAD)
    usual = given is None and not args.lr_scheduler_kwargs
    if (
        steps < 2
        or usual
        or setup.resumes_from is not None
        or setup.trainer.state.global_step
        or foreign_schedule(setup)
    ):
        return None
    half, step, rate = steps // 2, 0, -math.inf
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an optimizer should step as well
            if given is None:
                alone = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=max(starting_rates(setup)))
                settings = dict(args.lr_scheduler_kwargs)
                twin = get_scheduler(
                    args.lr_scheduler_type,
                    alone,
                    args.get_warmup_steps(setup.steps),
                    setup.steps,
                    scheduler_specific_kwargs=settings,
                )
            else:
                groups = [
                    {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
                    for group in given.optimizer.param_groups
                ]
                stand_in = SimpleNamespace(
                    param_groups=groups, defaults=given.optimizer.defaults, step=lambda: None
                )
                kept = {
                    id(thing): thing for thing in (setup.model, setup.trainer, args)
                }  # a schedule may look at these, and they are large
                twin = copy.deepcopy(given, kept | {id(given.optimizer): stand_in})
            for step in range(steps):
                if (
                    step >= half
                    and (rate := max(rate, *(float(group["lr"]) for group in twin.optimizer.param_groups)))
                    >= 1.001 * LEAST_RATE
                ):
                    break
                twin.step()
    except (
        Exception
    ) as error:  # at the first step: it needs a score, or the weights; later: it is over, and says so
        return (step, rate, error) if step > 1 else None
    return half, rate, None


@pitfall(
    "warmup-too-long",
    "P",
    "warning",
    "warmup_steps=500 copied into a short run: the learning rate never gets there",
    "warmup_steps=0.1",
)
def warmup_too_long(setup):
    warmup = setup.args.warmup_steps
    if (
        not setup.steps
        or isinstance(warmup, str)
        or setup.trainer.lr_scheduler is not None
        or str(setup.args.lr_scheduler_type.value) == "constant"
    ):
        return
    steps = setup.args.get_warmup_steps(setup.steps)
    if (0.2 < warmup < 1) or (warmup >= 2 and steps > 0.2 * setup.steps):
        reached = (
            setup.args.learning_rate * min(1, setup.steps / steps)
            if not isinstance(setup.args.learning_rate, str)
            else 0
        )
        yield (
            f"The warmup takes {steps} of {setup.steps} steps ({min(1, steps / setup.steps):.0%}); the learning rate gets no higher than {reached:.2g}."
            if steps >= setup.steps
            else f"The warmup takes {steps} of {setup.steps} steps ({steps / setup.steps:.0%}).",
            "warmup_steps=0.1 (below 1: a share of all steps)",
        )


@pitfall(
    "no-evaluation",
    "P",
    "warning",
    "An eval_dataset, and eval_strategy left at 'no': no evaluation, without a word",
    "eval_strategy='epoch'",
)
def no_evaluation(setup):
    given, strategy = setup.trainer.eval_dataset, setup.args.eval_strategy
    if given is None:
        if setup.train is not None:
            yield (
                "There is no eval_dataset: nobody will see whether the model learns or memorises.",
                "Trainer(..., eval_dataset=validation) and eval_strategy='epoch'",
            )
        return
    for split in setup.evals:
        if split.rows == 0:
            yield (
                f"The {split.role} data are empty.",
                "Look at what filter or select left: print(eval_dataset)",
            )
    if strategy == "no" and setup.train is not None:
        yield (
            "eval_dataset is given, but eval_strategy is 'no': it would never be looked at during training.",
            "eval_strategy='epoch'",
        )
    elif setup.steps and setup.args.eval_delay and setup.train is not None:
        last = setup.steps if strategy == "steps" else setup.args.num_train_epochs
        if setup.args.eval_delay > last:
            yield (
                f"eval_delay={setup.args.eval_delay:g} is longer than the run ({last:g} {strategy.value}s): there would be no evaluation.",
                "eval_delay=0",
            )


@pitfall(
    "best-not-loaded",
    "P",
    "error",
    "save_steps a multiple of eval_steps: the best step has no checkpoint, and the last weights are kept",
    "The same steps for both",
)
def best_not_loaded(setup):
    args = setup.args
    if not args.load_best_model_at_end or args.eval_strategy != "steps" or args.save_strategy != "steps":
        return
    evaluates, saves = setup.every("eval_steps"), setup.every("save_steps")
    if evaluates and saves > evaluates and (not setup.steps or evaluates < setup.steps):
        yield (
            f"It evaluates every {evaluates} steps and saves every {saves}: where the best score falls between two checkpoints, load_best_model_at_end keeps the last "
            "weights and says nothing.",
            f"save_steps={evaluates}, or save_strategy='best'",
        )


LOWER_IS_BETTER = (
    "loss|error|err|perplexity|ppl|mse|rmse|mae|mape|hamming|brier|ece|wer|cer|nll|entropy|deviance|distance"
)
HIGHER_IS_BETTER = (
    "accuracy|acc|f1|precision|recall|auc|roc|auroc|mcc|matthews|kappa|pearson|spearman|r2|jaccard|map"
)
# words that turn what a name measures, or measure how it changes: then the name does not tell
TURNED = "neg|negative|negated|minus|inv|inverse|inverted|reciprocal|complement|opposite|improvement|improved|gain|reduction|reduced|decrease|increase|drop"


TURNED += "|rise|change|delta|diff|difference|gap|margin|std|var|variance"


# and that make another measure of an error: a skill score, the share that is free of errors or avoids them; an accuracy score stays an accuracy
QUALIFIED = "score|skill|similarity|correlation|ratio|explained|free|no|non|not|without|avoided|saved|corrected|correction|detected|detection|recovery"


QUALIFIED += "|tolerance|within|below|above"


def _better(metric: str) -> bool | None:
    """Say by a metric's name whether more of it is better; None where the name does not tell."""
    name = re.sub("(?<=[a-z])(?=[A-Z])", "_", metric.strip()).lower().removeprefix("eval_")
    whole = "_".join(words := re.findall("[a-z0-9]+", name))
    if words[:1] == ["neg"] and whole in get_scorer_names():
        return True  # scikit-learn's own, such as neg_log_loss
    words = whole.replace("brier_score", "brier").split(
        "_"
    )  # of the scores in scikit-learn the one that is better when it is lower
    more, less, turned, qualified = (
        any(re.fullmatch(kind, word) for word in words)
        for kind in (HIGHER_IS_BETTER, LOWER_IS_BETTER, TURNED, QUALIFIED)
    )
    undecided = (
        more == less or turned or (less and qualified) or re.match(r"-|1(00)?[\W_]", name)
    )  # -mae, 1-wer, 1_wer, 100 - mape
    return None if undecided else more


@pitfall(
    "metric-direction",
    "P",
    "error",
    "greater_is_better is guessed from a name that does not end in 'loss': the worst model is kept",
    "Set greater_is_better",
)
def metric_direction(setup):
    metric, assumed = setup.args.metric_for_best_model, setup.args.greater_is_better
    if (
        metric is None
        or assumed is None
        or not (setup.chooses_best or setup.args.lr_scheduler_type == "reduce_lr_on_plateau")
    ):
        return
    right = _better(metric)
    if right is None or right == assumed:
        return
    is_better = f"metric_for_best_model={metric!r} is better when it is {'higher' if right else 'lower'}"
    if assumed == (not metric.endswith("loss")):  # what TrainingArguments makes of None
        yield (
            f"{is_better}, but greater_is_better is {assumed} (unset, it is guessed from whether the name ends in 'loss'): the worst model would be kept.",
            f"greater_is_better={right}",
        )
    else:
        yield (
            f"By its name, {is_better}, but you set greater_is_better={assumed}: if the name is right, the worst model would be kept.",
            f"Nothing, if {metric!r} is better when it is {'higher' if assumed else 'lower'}; else greater_is_better={right}",
            "warning",
        )


@pitfall(
    "no-logs",
    "P",
    "warning",
    "logging_steps=500 in a short run: 'No log'",
    "logging_steps=10, or logging_strategy='epoch'",
)
def no_logs(setup):
    every = setup.every("logging_steps")
    if (
        setup.args.logging_strategy == "steps"
        and setup.steps
        and every > setup.steps
        and not setup.args.logging_first_step
    ):
        yield (
            f"The run has {setup.steps} steps and logs every {every}: the training loss would not be seen once.",
            f"logging_steps={max(1, setup.steps // 10)}",
        )


@pitfall("fp16-on-cpu", "P", "warning", "fp16=True without a GPU: silently float32", "Leave it out")
def fp16_on_cpu(setup):
    if setup.args.fp16 and setup.args.device.type == "cpu":
        yield (
            "fp16=True, but there is no GPU in use: the run would be in float32 without a word.",
            "fp16=torch.cuda.is_available()",
        )


@pitfall(
    "dtype-auto",
    "P",
    "warning",
    "from_pretrained keeps the checkpoint's dtype, and half-precision weights train badly",
    "dtype=torch.float32",
)
def dtype_auto(setup):
    halves = {
        name: p
        for name, p in setup.model.named_parameters()
        if p.requires_grad and p.is_floating_point() and p.dtype in (torch.float16, torch.bfloat16)
    }
    if halves and not _unscalable(setup, halves):
        kind = str(next(iter(halves.values())).dtype).removeprefix("torch.")
        yield (
            f"{len(halves)} trainable weights are {kind} (a checkpoint can be stored like that, and .half() does it too): small updates are rounded away, and the loss "
            "moves in coarse steps or not at all.",
            "from_pretrained(..., dtype=torch.float32), and bf16=True or fp16=True in TrainingArguments for speed",
        )


def _unscalable(setup, halves: Mapping[str, torch.Tensor]) -> bool:
    return (
        setup.args.fp16
        and setup.args.device.type == "cuda"
        and any(p.dtype == torch.float16 for p in halves.values())
    )


@pitfall(
    "fp16-weights",
    "P",
    "error",
    "'Attempting to unscale FP16 gradients': float16 weights with fp16=True on a GPU",
    "dtype=torch.float32",
    True,
)
def fp16_weights(setup):
    halves = {
        name: p for name, p in setup.model.named_parameters() if p.requires_grad and p.dtype == torch.float16
    }
    if halves and _unscalable(setup, halves):
        yield (
            f"{len(halves)} trainable weights are float16 and fp16=True: the first step would stop, for fp16 training wants float32 weights.",
            ("from_pretrained(..., dtype=torch.float32)"),
        )


@pitfall(
    "ignored-value",
    "P",
    "warning",
    "A misspelt value is accepted: train_sampling_strategy='bogus' is random sampling",
    "Spell it as the list says",
)
def ignored_value(setup):
    for field in fields(setup.args):
        choices, value = field.metadata.get("choices"), getattr(setup.args, field.name)
        if choices and isinstance(value, str) and value not in choices:
            yield (
                f"{field.name}={value!r} is none of {', '.join(map(repr, choices))}, and nothing refuses it: the default is used.",
                f"{field.name}={field.default!r}",
            )
    if (
        setup.args.warmup_steps
        and str(setup.args.lr_scheduler_type.value) == "constant"
        and setup.trainer.lr_scheduler is None
    ):
        yield (
            f"warmup_steps={setup.args.warmup_steps:g} does nothing with lr_scheduler_type='constant'.",
            "lr_scheduler_type='constant_with_warmup'",
        )
    trainer, factor, method = (
        setup.trainer,
        setup.args.label_smoothing_factor,
        f"{type(setup.trainer).__name__}.compute_loss",
    )
    if factor and (trainer.compute_loss_func is not None or _leaves_out(trainer, "label_smoother")):
        yield (
            f"label_smoothing_factor={factor:g} does nothing: {'compute_loss_func' if trainer.compute_loss_func is not None else method} computes the loss, without it.",
            f"label_smoothing_factor=0, and smooth in your loss: torch.nn.functional.cross_entropy(..., label_smoothing={factor:g})",
        )
    if trainer.compute_loss_func is not None and _leaves_out(trainer, "compute_loss_func"):
        yield f"compute_loss_func is never called: {method} computes the loss.", "Leave one of the two out"
    if setup.args.prediction_loss_only and trainer.compute_metrics is not None:
        yield (
            "compute_metrics is never called with prediction_loss_only=True.",
            "prediction_loss_only=False, or leave compute_metrics out",
        )


def _leaves_out(trainer: Any, name: str) -> bool:
    """Say whether a Trainer's own compute_loss replaces that of the library and, as far as its code shows, does without one of its attributes."""
    own = type(trainer).compute_loss
    if (
        own is Trainer.compute_loss or not hasattr(own, "__code__") or own.__code__.co_freevars
    ):  # inherited, or a wrapper around another
        return False
    classes = itertools.takewhile(lambda kind: kind is not Trainer, type(trainer).__mro__)
    named = {
        used
        for kind in classes
        for function in vars(kind).values()
        if hasattr(function, "__code__")
        for used in function.__code__.co_names
    }
    return not named & {name, "compute_loss"}


@pitfall(
    "overridden-value",
    "P",
    "warning",
    "max_steps beats the epochs; an optimizer of your own beats learning_rate",
    "Choose one",
)
def overridden_value(setup):
    args, default = setup.args, {field.name: field.default for field in fields(setup.args)}
    if args.max_steps > 0 and args.num_train_epochs != default["num_train_epochs"]:
        yield (
            f"max_steps={args.max_steps} and num_train_epochs={args.num_train_epochs:g} are both set: max_steps decides.",
            "Leave one of them out",
        )
    optimizer, untrained = own_optimizer(setup), not setup.trainer.state.global_step
    if optimizer is not None or (setup.trainer.optimizer_cls_and_kwargs and untrained):
        rates = sorted(set(starting_rates(setup)))
        if args.learning_rate != default["learning_rate"] and rates and args.learning_rate not in rates:
            yield (
                f"The optimizer you made has the learning rate {', '.join(f'{rate:g}' for rate in rates)}; learning_rate={args.learning_rate!r} is ignored.",
                "Set the rate in one place: leave learning_rate out, or leave the optimizer to Trainer",
            )
        if named := [
            name
            for name in ("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon")
            if getattr(args, name) != default[name]
        ]:
            yield (
                f"The optimizer you made has settings of its own; {' and '.join(named)} would be ignored.",
                "Set them there, or leave the optimizer to Trainer",
            )
    if (
        optimizer is not None
        and args.weight_decay
        and args.weight_decay not in {group.get("weight_decay") for group in optimizer.param_groups}
    ):
        yield (
            f"The optimizer you made has its own weight decay; weight_decay={args.weight_decay:g} is ignored.",
            "Set it in one place",
        )
    if foreign_schedule(setup):
        yield (
            "The schedule was made for another optimizer than the one in use: the learning rate would stay where it is.",
            "Make optimizer and schedule in the same cell, and hand over both: Trainer(..., optimizers=(optimizer, schedule))",
        )
    if setup.trainer.lr_scheduler is not None and untrained:
        named = [
            name
            for name in ("warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs")
            if getattr(args, name) != default[name]
        ]
        if named:
            yield (
                f"The schedule you made decides the learning rate; {' and '.join(named)} would be ignored.",
                "Leave the schedule to Trainer, or leave these out",
            )


@pitfall(
    "early-stopping",
    "P",
    "error",
    "EarlyStoppingCallback without a metric or evaluations: AssertionError when training starts",
    "load_best_model_at_end=True",
    True,
)
def early_stopping(setup):
    if setup.early_stopping is None:
        return
    complete = "eval_strategy='epoch', save_strategy='epoch', load_best_model_at_end=True, metric_for_best_model='f1_macro', greater_is_better=True"
    if setup.args.metric_for_best_model is None:
        yield (
            "EarlyStoppingCallback has no metric to watch (metric_for_best_model is None): training would stop with an AssertionError.",
            complete,
        )
    elif setup.args.eval_strategy == "no":
        yield (
            "EarlyStoppingCallback needs evaluations, and eval_strategy is 'no': training would stop with an AssertionError.",
            complete,
        )
    elif not setup.args.load_best_model_at_end:
        yield (
            "EarlyStoppingCallback without load_best_model_at_end: it stops in time, and then keeps the last model, not the best.",
            "load_best_model_at_end=True",
            "warning",
        )


@pitfall(
    "report-to",
    "P",
    "warning",
    "The default was every tracker; it is none since transformers 5",
    "Name the tracker",
)
def report_to(setup):
    for name in (
        [setup.args.report_to]
        if isinstance(setup.args.report_to, str) or setup.args.report_to is None
        else setup.args.report_to
    ):
        if name is None:
            yield "report_to=None is no way to switch trackers off: Trainer refuses it.", "report_to='none'"
        elif name not in ("none", "all", "flyte") and name not in get_available_reporting_integrations():
            yield (
                f"report_to names {name!r}, which is not installed here, or is no tracker that Trainer knows.",
                f"pip install {name}, or report_to='none'",
            )


@pitfall(
    "several-gpus",
    "P",
    "warning",
    "DataParallel on two GPUs doubles the batch without a word",
    "accelerate launch",
)
def several_gpus(setup):
    count = setup.args.n_gpu
    if count > 1:
        yield (
            f"{count} GPUs are visible in one process: Trainer splits each batch over them, so a batch has {setup.args.train_batch_size} rows, not "
            f"{setup.args.per_device_train_batch_size}, and it is slower than one process for each GPU.",
            "accelerate launch script.py; in a notebook, os.environ['CUDA_VISIBLE_DEVICES'] = '0' before torch is imported",
        )


@pitfall(
    "smoothing-float",
    "P",
    "error",
    "Label smoothing with float labels: gather(): Expected dtype int32/int64",
    "label_smoothing_factor=0",
    True,
)
def smoothing_float(setup):
    labels = tensor_labels(setup)
    if (
        setup.trainer.label_smoother is not None
        and labels is not None
        and labels.is_floating_point()
        and setup.trainer.compute_loss_func is None
    ):
        yield (
            f"label_smoothing_factor={setup.args.label_smoothing_factor:g} needs whole numbers as labels, and these are floats: the first step would fail.",
            ("label_smoothing_factor=0"),
        )


@pitfall(
    "predict-order",
    "P",
    "warning",
    "group_by_length also reorders predict() and evaluate(): joined to your rows, predictions are wrong",
    "Restore the order",
)
def predict_order(setup):
    some = next(
        (
            split
            for split in [*setup.evals, setup.splits.get("test")]
            if split is not None and split.in_arrow and split.rows
        ),
        None,
    )
    if setup.args.train_sampling_strategy != "group_by_length" or some is None:
        return
    few = some.dataset.select(range(min(some.rows, 32)))
    with untouched(setup):
        sampler = setup.trainer._get_eval_sampler(few)
        orders = [list(sampler), list(setup.trainer._get_eval_sampler(few))] if sampler is not None else []
    if not orders or type(sampler).__name__ == "SequentialSampler":
        return
    again = "in the same order each time" if orders[0] == orders[1] else "in another order each time"
    yield (
        f"With group_by_length, predict() and evaluate() return the rows grouped by length, {again} on this version. Their metrics are right; joined to your rows, "
        "predictions are wrong.",
        "trainer.args.train_sampling_strategy = 'random' before trainer.predict(...), which then keeps the order of the data set",
    )
