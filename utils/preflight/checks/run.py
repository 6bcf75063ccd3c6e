"""Checks of the run as a whole: folders, weights, losses, metrics, memory, the dry run."""

import contextlib
import functools
import inspect
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors import safe_open
from transformers.trainer_utils import denumpify_detensorize
from transformers.utils import cached_file

from utils.preflight.checks.arguments import chooses_by_metric
from utils.preflight.checks.common import check
from utils.preflight.setup import each_tensor, untouched
from utils.preflight.split import error_text
from utils.preflight.weights import moved_since
from utils.reading.checkpoints import saved_checkpoints


@check("stale-checkpoints", "P", "error", "A new folder for each run")
def stale_checkpoints(setup):
    """Old checkpoints in output_dir: weights of an earlier run can be loaded as the best"""
    checkpoints = saved_checkpoints(Path(setup.args.output_dir))
    own = setup.trainer.state.global_step > 0  # this trainer made them; trained-twice says so
    if checkpoints and setup.resumes_from is None and not own:
        names = ", ".join(path.name for path in checkpoints[:3]) + (", ..." if checkpoints[3:] else "")
        output = f"output_dir holds {len(checkpoints)} checkpoint(s) of an earlier run ({names})"
        resume = "resume_from_checkpoint=True in TrainingArguments(...) and in trainer.train(...)"
        fix = f"A new output_dir for each run; to continue that run: {resume}"
        yield f"{output}: one may be loaded as the best, and save_total_limit may delete new ones.", fix


@check("resume-mismatch", "P", "error", "A new folder")
def resume_mismatch(setup):
    """Resuming a run that is over, or was planned otherwise: zero steps, loss 0.0, the old learning rate"""
    folder, rate, rows = setup.resumes_from, setup.args.learning_rate, setup.args.train_batch_size
    if folder is None:
        return
    try:
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{folder.name} cannot be resumed: its trainer_state.json cannot be read"
        yield f"{message} ({type(error).__name__}).", "Resume another checkpoint, or start in a new folder"
        return
    new = "A new output_dir, without resume_from_checkpoint; or set the arguments back to those of that run"
    done, planned, batch = state.get("global_step", 0), state.get("max_steps"), state.get("train_batch_size")
    if setup.steps and done >= setup.steps:
        steps = f"{folder.name} has done {done} steps, and this run has {setup.steps}"
        yield f"{steps}: it would end at once, after no step (with a loss of 0.0) or one.", new
    elif setup.steps and planned and planned != setup.steps:
        steps = f"{folder.name} belongs to a run of {planned} steps, this one has {setup.steps}"
        yield f"{steps}: its schedule would go on where that one was.", new
    if batch and batch != rows:
        batches = f"{folder.name} was trained in batches of {batch}, this run has {rows}"
        yield f"{batches}: rows would be skipped or seen twice.", new
    with contextlib.suppress(Exception):  # no schedule saved, or one that does not load without running code
        rates = torch.load(folder / "scheduler.pt", weights_only=True)["base_lrs"]
        if not any(math.isclose(old, rate) for old in rates):
            old = f"{folder.name} was trained with learning_rate={rates[0]:g}"
            yield f"{old}, and that is what would be used, not {rate:g}.", new


@check("disk-full", "P", "warning", "save_total_limit=2")
def disk_full(setup):
    """No limit on checkpoints: each is more than three times the weights"""
    args = setup.args
    by_steps = isinstance(args.num_train_epochs, str) or args.max_steps > 0
    saves = {"epoch": 1 if by_steps else math.ceil(args.num_train_epochs), "best": 2}
    saves["steps"] = math.ceil((setup.steps or 0) / max(1, setup.every("save_steps")))
    strategy = getattr(args.save_strategy, "value", args.save_strategy)  # a text, where it was set later
    count = min(saves.get(strategy, 0), (args.save_total_limit or math.inf) + 1)
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in setup.model.parameters()]
    optimizer = 0 if args.save_only_model else 2.3 * sum(size for size, on in sizes if on)
    each = sum(size for size, _ in sizes) + optimizer
    folder = Path(args.output_dir).absolute()
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    if count * each > free:
        needed = f"{count} checkpoints of {each / 1e6:,.0f} MB would need {count * each / 1e9:,.1f} GB"
        fix = "save_total_limit=2, or save_only_model=True if you need not resume"
        yield f"{needed}, and {free / 1e9:,.1f} GB are free: the run would stop with a full disk.", fix


@check("trained-twice", "P", "warning", "Load the model in the same cell")
def trained_twice(setup):
    """The training cell run again on the same model object, or over CV folds: it goes on from where it was"""
    steps = setup.trainer.state.global_step
    if setup.trainer.model_init is not None or setup.resumes_from is not None:
        return
    if steps or moved_since(setup.model):
        how = f"for {steps} steps by this trainer" if steps else "since it was loaded"
        model = f"This model object has been trained {how}"
        fix = "Load the model in the cell that trains it, or give Trainer a model_init"
        yield f"{model}: training would go on from there, and scores of another fold be too good.", fix


@check("frozen", "P", "warning", "requires_grad_(True)")
def frozen(setup):
    """Part of the model is frozen, silently; or all of it: 'element 0 of tensors does not require grad'"""
    parameters = dict(setup.model.named_parameters())
    off = [name for name, p in parameters.items() if not p.requires_grad]
    all_off = bool(off) and len(off) == len(parameters)
    nothing = "there is nothing to train, and the first step would fail."
    if hasattr(setup.model, "peft_config"):
        heads = list(_beside_adapter(setup)) if setup.train is not None else []
        yield from heads  # to evaluate with it, an adapter is loaded frozen
        if all_off and not heads and setup.train is not None:
            again = "PeftModel.from_pretrained(model, folder, is_trainable=True)"
            yield f"All weights are frozen, the adapter's too: {nothing}", again, "error"
        return
    thaw, stay = "model.requires_grad_(True)", "would stay as they are"
    prefix = getattr(setup.model, "base_model_prefix", "")
    head = [name for name in parameters if prefix and not name.startswith(f"{prefix}.")]
    with contextlib.suppress(Exception):  # a model without a table of word vectors
        words = setup.model.get_input_embeddings().weight
        # frozen alone, the table saves time and harms nobody
        off = [name for name in off if parameters[name] is not words]
    sizes = {name: p.numel() for name, p in parameters.items()}
    share = sum(sizes[name] for name in off) / max(1, sum(sizes.values()))
    if all_off:
        yield f"All weights are frozen (requires_grad=False): {nothing}", thaw, "error"
    elif head and set(head) <= set(off):
        names = ", ".join(head[:3])
        yield f"The classification head ({names}) is frozen: its random numbers {stay}.", thaw
    elif share > 0.05:
        message = f"{share:.0%} of the weights are frozen, for example {off[0]!r}: they {stay}."
        yield message, f"{thaw}, unless that is what you want"


def _beside_adapter(setup):
    """Find parts of the head that are new, frozen, and not saved with the adapter (PEFT's) of the model."""
    adapters, model = setup.model.peft_config, setup.base_model
    adapters = adapters if isinstance(adapters, Mapping) else {"": adapters}
    if not setup.classifier or not getattr(model, "base_model_prefix", ""):
        return
    checkpoint = dict(_shapes(setup.path)) if setup.path else {}
    saved = [name for config in adapters.values() for name in getattr(config, "modules_to_save", None) or ()]
    heads = {name: part for name, part in model.named_children() if name != model.base_model_prefix}
    trained = any(p.requires_grad for part in heads.values() for p in part.parameters())
    lost, thawed = [], []
    for head, part in heads.items():
        # neither an adapter's parts, which bear its name, nor the old copy of what is saved with it
        own = {
            name.replace(".base_layer", ""): p
            for name, p in part.named_parameters(prefix=head)
            if not {*adapters, "original_module"} & set(name.split("."))
        }
        on = [name for name, p in own.items() if p.requires_grad]
        known = all(checkpoint.get(name) == tuple(p.shape) for name, p in own.items())
        if head.endswith(tuple(saved)):
            continue
        # biases can be saved with an adapter
        if not all(name.endswith("bias") for name in on):
            thawed.append(head)
        elif not known and not on:
            lost.append(head)
    first = next(iter(adapters.values()), None)
    kind = type(first).__name__ if type(first).__name__.endswith("Config") else "LoraConfig"
    if thawed:
        head = f"The classification head ({', '.join(thawed)}) is trained, but not saved with the adapter"
        whole = "; or save all: trainer.model.merge_and_unload().save_pretrained(folder)"
        wrapped = hasattr(setup.model, "get_base_model")  # by PEFT; transformers' own adapters do not merge
        fix = f"{kind}(..., modules_to_save={json.dumps(thawed)}){whole if wrapped else ''}"
        yield f"{head}: loaded again, it is as it was before training.", fix
    if lost:
        fix = f"{kind}(..., modules_to_save={json.dumps(lost)})"
        unset = "SEQ_CLS" not in str(getattr(first, "task_type", ""))
        named = all(head.endswith(("classifier", "score")) for head in lost)  # what PEFT takes for the head
        if unset and named and not getattr(model, "_hf_peft_config_loaded", False):
            fix = f'{kind}(..., task_type="SEQ_CLS") with get_peft_model, or {fix}'
        unsure = setup.path and not checkpoint  # it cannot be read here: its head may have been trained
        part = "A part of the head" if trained else "The classification head"
        head = f"{part} ({', '.join(lost)}) is frozen, and not saved with the adapter"
        random, level = "perhaps random" if unsure else "random", "warning" if trained or unsure else "error"
        yield f"{head}: its {random} numbers would stay, and be others when loaded again.", fix, level


@check("head-reinitialised", "P", "warning", "Mean it")
def head_reinitialised(setup):
    """ignore_mismatched_sizes=True threw a trained head away; only the load report says so"""
    if not setup.path or moved_since(setup.model):
        return
    resized = set()  # on purpose, when tokens are added
    for get in ("get_input_embeddings", "get_output_embeddings"):
        with contextlib.suppress(Exception):
            resized.add(id(getattr(setup.model, get)().weight))
    now = {name: tuple(p.shape) for name, p in setup.model.named_parameters() if id(p) not in resized}
    changed = [(name, shape) for name, shape in _shapes(setup.path) if now.get(name, shape) != shape]
    if changed:
        name, before = changed[0]
        shapes = f"{name!r} has the shape {before} in the checkpoint and {now[name]} in the model"
        lost = f"ignore_mismatched_sizes=True made {len(changed)} trained tensor(s) random"
        fix = "Nothing, if you meant it; else load with the checkpoint's own number of labels"
        yield f"{shapes}: {lost}.", fix


def _shapes(path: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of each tensor in a checkpoint on this machine, reading the headers only."""
    folder = Path(path)
    if not folder.is_dir():
        with contextlib.suppress(Exception):  # not in the cache
            folder = Path(cached_file(path, "config.json", local_files_only=True)).parent
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                yield name, tuple(tensors.get_slice(name).get_shape())


@check("old-compute-loss", "P", "error", "Add the argument", loud=True)
def old_compute_loss(setup):
    """compute_loss() got an unexpected keyword argument 'num_items_in_batch'"""
    kind, function = type(setup.trainer), setup.trainer.compute_loss_func
    functions = {f"{kind.__name__}.compute_loss": kind.compute_loss, "compute_loss_func": function}
    for name, function in functions.items():
        known = {}
        with contextlib.suppress(TypeError, ValueError):  # None, or a signature that cannot be read
            known = inspect.signature(function).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        if known and not takes_all and "num_items_in_batch" not in known:
            message = f"{name} does not take num_items_in_batch, which Trainer hands to it"
            fix = f"def {name.rpartition('.')[2]}({', '.join(known)}, num_items_in_batch=None):"
            yield f"{message}: the first step would fail.", fix


@check("ga-loss", "P", "warning", "model.accepts_loss_kwargs = False", dry=True)
def ga_loss(setup):
    """Gradient accumulation: the logged loss and gradients are N times too large"""
    trainer, batch = setup.trainer, setup.dry.collated.get("train")
    many = setup.args.gradient_accumulation_steps
    scaled = getattr(trainer, "loss_is_scaled_for_ga", None)  # 5.15 has none
    if scaled is None:
        scaled = trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None
    if many < 2 or setup.dry.loss is None or batch is None or not scaled:
        return  # where it is not scaled, Trainer divides
    with untouched(setup), torch.no_grad():
        inputs = trainer._prepare_inputs(dict(batch))
        compute = functools.partial(trainer.compute_loss, setup.model)
        few, lots = (float(compute(dict(inputs), num_items_in_batch=torch.tensor(n))) for n in (4, 40))
    if math.isclose(few, lots, rel_tol=1e-6):
        culprit = "compute_loss_func" if trainer.compute_loss_func is not None else "compute_loss"
        fix = "Divide by it: loss = cross_entropy(..., reduction='sum') / num_items_in_batch"
        if not setup.own_loss:
            culprit = type(setup.model).__name__
            fix = "model.accepts_loss_kwargs = False before Trainer(...) is built"
        ignores = f"{culprit} takes num_items_in_batch and ignores it"
        divides = f"so nobody divides by the {many} accumulated batches"
        yield f"{ignores}, {divides}: logged training loss and gradients are {many} times too large.", fix


@check("metrics-shape", "P", "error", "Try it on one batch", loud=True, dry=True)
def metrics_shape(setup):
    """compute_metrics fails, after the first epoch: 'tuple' object has no attribute 'argmax'"""
    dry, metrics = setup.dry, setup.dry.metrics
    if dry.metrics_failed is not None:
        yield _failed_metrics(dry, dry.metrics_failed)
    elif dry.scored and metrics is None:
        message = f"compute_metrics returns {type(dry.scored[0]).__name__}, and Trainer needs a dict."
        yield message, "return {'accuracy': accuracy}"
    elif metrics is not None and (odd := [key for key in metrics if not isinstance(key, str)]):
        message = f"compute_metrics returns {odd[0]!r} as the name of a metric, and Trainer needs a text."
        yield message, f"return {{{str(odd[0])!r}: ...}}"
    elif metrics is not None:
        yield from _odd_metrics(setup, metrics)


def _failed_metrics(dry, error: Exception) -> tuple:
    """Say how compute_metrics failed; a warning where it may be that it needs every row."""
    hint, fix = "", "logits, labels = prediction; predicted = logits.argmax(axis=-1)"
    if isinstance(dry.logits, (tuple, list)):
        hint = f" The model returns {len(dry.logits)} outputs, so predictions is a tuple."
        fix = "logits = predictions[0] if isinstance(predictions, tuple) else predictions"
    elif "multiclass" in error_text(error):
        fix = "f1_score(labels, predicted, average='macro')"
    if dry.metrics_saw_all or not isinstance(error, (IndexError, ValueError)):
        return f"compute_metrics fails, as it would after the first epoch: {error_text(error)}.{hint}", fix
    part = "with a part of the evaluation rows (there are too many to try all)"
    return f"compute_metrics fails {part}: {error_text(error)}.{hint}", fix, "warning"


def _odd_metrics(setup, metrics: Mapping[str, Any]):
    """Find metrics that Trainer cannot write to its log, or cannot compare."""
    write = functools.partial(json.dumps, sort_keys=True)
    key = next((key for key, value in metrics.items() if _refuses(write, value)), None)
    best = (setup.args.metric_for_best_model or "").removeprefix("eval_")
    deciding = metrics.get(best, metrics.get(f"eval_{best}", 0.0)) if setup.chooses_best else 0.0
    if key is not None:
        array = isinstance(metrics[key], (np.ndarray, torch.Tensor))
        kind = "an array" if array else type(metrics[key]).__name__
        fix = f"One number: float({key}.mean())" if array else "Numbers, texts, or lists and dicts of them"
        level = "error" if setup.args.save_strategy != "no" else "warning"
        message = f"compute_metrics returns {kind} as {key!r}, which cannot be written to a checkpoint's log."
        yield message, fix, level
    elif _refuses(lambda value: bool(np.greater(value, -math.inf)), deciding):
        message = f"compute_metrics returns {deciding!r:.80} as {best!r}, which decides what is kept"
        yield f"{message}: Trainer cannot compare it.", "One number"


def _refuses(take: Callable, metric: Any) -> bool:
    """Say whether a function fails with a metric as Trainer hands it on, with NumPy's scalars as numbers."""
    try:
        take(denumpify_detensorize(metric))
    except Exception:
        return True
    return False


@check("best-metric-missing", "P", "error", "A key that compute_metrics returns", loud=True, dry=True)
def best_metric_missing(setup):
    """KeyError: 'eval_f1' not found, after the first evaluation"""
    metric, trainer, scores = setup.args.metric_for_best_model, setup.trainer, setup.dry.metrics
    never = not setup.evals or setup.args.eval_strategy == "no"
    if metric is None or never or not chooses_by_metric(setup):
        return
    untried = trainer.compute_metrics is not None and scores is None
    if untried or setup.errors & {"metrics-shape", "eval-labels-missing"}:
        return
    keys = [*(scores or {}), "loss", "runtime", "samples_per_second", "steps_per_second"]
    keys = [key.removeprefix("eval_") for key in keys]
    if isinstance(trainer.eval_dataset, Mapping):
        keys = [f"{name}_{key}" for name in trainer.eval_dataset for key in keys]
    if metric.removeprefix("eval_") not in keys:
        names = sorted(key for key in keys if not key.endswith(("runtime", "per_second")))
        message = f"metric_for_best_model={metric!r} is not among what an evaluation returns"
        fix = f"metric_for_best_model={names[0]!r}"
        yield f"{message} ({', '.join(names)}): the first one would end in a KeyError.", fix


@check("eval-memory", "P", "warning", "eval_accumulation_steps", dry=True)
def eval_memory(setup):
    """All predictions of an evaluation are kept on the device, worse with hidden states"""
    trainer, outputs = setup.trainer, []
    reduces = trainer.compute_metrics is None or trainer.preprocess_logits_for_metrics is not None
    if setup.dry.logits is None or reduces:
        return
    each_tensor(setup.dry.logits, outputs.append)
    width, needed = sum(math.prod(output.shape[1:]) for output in outputs), setup.num_labels or 1
    rows = max((split.rows or 0 for split in setup.evals), default=0)
    size, on_gpu = 4 * rows * width, setup.args.device.type == "cuda"
    room = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    kept = not on_gpu or setup.args.eval_accumulation_steps is None
    if (len(outputs) > 1 and width > 100 * needed) or (size > 0.25 * room and kept):
        first = "lambda logits, labels: logits[0] if isinstance(logits, tuple) else logits"
        fix = f"Trainer(..., preprocess_logits_for_metrics={first}), eval_accumulation_steps=8"
        kept = f"{width:,} numbers for each of {rows:,} rows, {size / 1e6:,.0f} MB"
        yield f"An evaluation keeps {kept}, until its end; the labels need {needed} of them.", fix


# these say why a first batch fails, and better than its own message
EXPLAIN = {
    "not-tokenised",
    "label-type",
    "label-range",
    "label-float",
    "num-labels-one",
    "problem-type-stuck",
}
EXPLAIN |= {
    "multi-label-ints",
    "no-loss",
    "two-label-columns",
    "smoothing-float",
    "old-compute-loss",
    "too-long",
}
EXPLAIN |= {"wrong-container", "tokenizer-mismatch", "empty-tokenizer", "pad-token", "special-in-text"}


@check("dry-run", "P", "error", "Read the message", loud=True, dry=True)
def dry_run(setup):
    """The first batch fails for a reason that no other check knows"""
    for name, error in setup.unreadable.items():
        fix = "Mend what the message names: dataset[0], dataset[1], ... must all work"
        yield f"The {name} data cannot be read: {error_text(error)}", fix
    refused = setup.dry.refused.items()
    failures = {f"making a batch of the {setup.splits[name].role} data": error for name, error in refused}
    failures |= {"the first forward pass": setup.dry.failed} if setup.dry.failed is not None else {}
    for what, error in failures.items() if not setup.errors & EXPLAIN else ():
        yield f"In a dry run, {what} fails: {error_text(error)}", "Mend what it names"
