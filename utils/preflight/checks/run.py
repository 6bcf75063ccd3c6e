"""Checks of the run as a whole: folders, weights, losses, metrics, memory, the dry run."""

import contextlib
import functools
import inspect
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors import safe_open
from transformers.trainer_utils import denumpify_detensorize

from utils.preflight.catalogue import CATALOGUE, pitfall
from utils.preflight.setup import each_tensor, untouched
from utils.preflight.split import error_text
from utils.preflight.weights import moved_since
from utils.runs import saved_checkpoints


@pitfall(
    "stale-checkpoints",
    "P",
    "error",
    "Old checkpoints in output_dir: weights of an earlier run can be loaded as the best",
    "A new folder for each run",
)
def stale_checkpoints(setup):
    found = saved_checkpoints(Path(setup.args.output_dir))
    own = setup.trainer.state.global_step > 0  # this trainer made them; trained-twice says so
    if found and setup.resumes_from is None and not own:
        yield (
            f"output_dir holds {len(found)} checkpoint(s) of an earlier run ({', '.join(path.name for path in found[:3])}): load_best_model_at_end may load one of them, "
            "and save_total_limit may delete the new ones instead.",
            "A new output_dir for each run; to continue that run: TrainingArguments(..., resume_from_checkpoint=True) and "
            "trainer.train(resume_from_checkpoint=True)",
        )


@pitfall(
    "resume-mismatch",
    "P",
    "error",
    "Resuming a run that is over, or was planned otherwise: zero steps, loss 0.0, the old learning rate",
    "A new folder",
)
def resume_mismatch(setup):
    folder = setup.resumes_from
    if folder is None:
        return
    try:
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield (
            f"{folder.name} cannot be resumed: its trainer_state.json cannot be read ({type(error).__name__}).",
            "Resume another checkpoint, or start in a new folder",
        )
        return
    new = "A new output_dir, without resume_from_checkpoint; or set the arguments back to those of that run"
    done, planned = state.get("global_step", 0), state.get("max_steps")
    if setup.steps and done >= setup.steps:
        yield (
            f"{folder.name} has done {done} steps, and this run has {setup.steps}: it would end at once, after no step (with a loss of 0.0) or one.",
            new,
        )
    elif setup.steps and planned and planned != setup.steps:
        yield (
            f"{folder.name} belongs to a run of {planned} steps, this one has {setup.steps}: its schedule would go on where that one was.",
            new,
        )
    batch = state.get("train_batch_size")
    if batch and batch != setup.args.train_batch_size:
        yield (
            f"{folder.name} was trained in batches of {batch}, this run has {setup.args.train_batch_size}: rows would be skipped or seen twice.",
            new,
        )
    with contextlib.suppress(Exception):  # no schedule saved, or one that does not load without running code
        rates = torch.load(folder / "scheduler.pt", weights_only=True).get("base_lrs", [])
        if (
            rates
            and not isinstance(setup.args.learning_rate, str)
            and not any(math.isclose(rate, setup.args.learning_rate) for rate in rates)
        ):
            yield (
                f"{folder.name} was trained with learning_rate={rates[0]:g}, and that is what would be used, not {setup.args.learning_rate:g}.",
                new,
            )


@pitfall(
    "disk-full",
    "P",
    "warning",
    "No limit on checkpoints: each is more than three times the weights",
    "save_total_limit=2",
)
def disk_full(setup):
    args = setup.args
    saves = {
        "no": 0,
        "epoch": math.ceil(args.num_train_epochs)
        if not isinstance(args.num_train_epochs, str) and args.max_steps <= 0
        else 1,
    }
    saves |= {"steps": math.ceil((setup.steps or 0) / max(1, setup.every("save_steps"))), "best": 2}
    count = saves.get(str(args.save_strategy.value), 0)
    if args.save_total_limit:
        count = min(count, args.save_total_limit + 1)
    weights = sum(p.numel() * p.element_size() for p in setup.model.parameters())
    trained = sum(p.numel() * p.element_size() for p in setup.model.parameters() if p.requires_grad)
    each = weights + (0 if args.save_only_model else 2.3 * trained)
    place = next(
        folder
        for folder in (Path(args.output_dir).absolute(), *Path(args.output_dir).absolute().parents)
        if folder.exists()
    )
    free = shutil.disk_usage(place).free
    if count * each > free:
        yield (
            f"{count} checkpoints of {each / 1e6:,.0f} MB would need {count * each / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free: the run would stop with a full disk.",
            "save_total_limit=2, or save_only_model=True if you need not resume",
        )


@pitfall(
    "trained-twice",
    "P",
    "warning",
    "The training cell run again on the same model object, or over CV folds: it goes on from where it was",
    "Load the model in the same cell",
)
def trained_twice(setup):
    steps = setup.trainer.state.global_step
    if setup.trainer.model_init is not None or setup.resumes_from is not None:
        return
    if steps or moved_since(setup.model):
        how = (
            f"has been trained for {steps} steps by this trainer"
            if steps
            else "has been trained since it was loaded"
        )
        yield (
            f"This model object {how}: training again would go on from there, and scores of another fold or another setting would be too good.",
            ("Load the model in the cell that trains it, or give Trainer a model_init"),
        )


@pitfall(
    "frozen",
    "P",
    "warning",
    "Part of the model is frozen, silently; or all of it: 'element 0 of tensors does not require grad'",
    "requires_grad_(True)",
)
def frozen(setup):
    sizes = {name: (p.numel(), p.requires_grad) for name, p in setup.model.named_parameters()}
    total, off = sum(size for size, _ in sizes.values()), [name for name, (_, on) in sizes.items() if not on]
    share = sum(sizes[name][0] for name in off) / max(1, total)
    if hasattr(setup.model, "peft_config"):
        heads = (
            list(_beside_adapter(setup)) if setup.train is not None else []
        )  # to evaluate with it, an adapter is loaded frozen
        yield from heads
        if total and len(off) == len(sizes) and setup.train is not None and not heads:
            again = "PeftModel.from_pretrained(model, folder, is_trainable=True)"
            yield (
                "All weights are frozen, the adapter's too: there is nothing to train, and the first step would fail.",
                again,
                "error",
            )
        return
    thaw = "model.requires_grad_(True)"
    prefix = getattr(setup.model, "base_model_prefix", "")
    head = [name for name in sizes if prefix and not name.startswith(f"{prefix}.")]
    if total and len(off) == len(sizes):
        yield (
            "All weights are frozen (requires_grad=False): there is nothing to train, and the first step would fail.",
            thaw,
            "error",
        )
    elif head and all(name in off for name in head):
        yield (
            f"The classification head ({', '.join(head[:3])}) is frozen: its random numbers would stay as they are.",
            thaw,
        )
    elif share > 0.05:
        yield (
            f"{share:.0%} of the weights are frozen, for example {off[0]!r}: they would stay as they are.",
            f"{thaw}, unless that is what you want",
        )


def _beside_adapter(setup):
    """Find parts of the head that are new, frozen, and not saved with the adapter (PEFT's) of the model."""
    adapters = (
        setup.model.peft_config
        if isinstance(setup.model.peft_config, Mapping)
        else {"": setup.model.peft_config}
    )
    model = setup.model.get_base_model() if hasattr(setup.model, "get_base_model") else setup.model
    if not setup.classifier or not getattr(model, "base_model_prefix", ""):
        return
    saved = dict(_shapes(path)) if (path := getattr(setup.config, "_name_or_path", None)) else {}
    with_it = [
        name for config in adapters.values() for name in getattr(config, "modules_to_save", None) or ()
    ]
    lost, thawed, trained = [], [], False
    for head, module in model.named_children():
        if head == model.base_model_prefix:
            continue
        named = dict(module.named_parameters(prefix=head))
        trained = trained or any(p.requires_grad for p in named.values())
        # neither an adapter's parts, which bear its name, nor the old copy of what is saved with it
        own = {
            name.replace(".base_layer", ""): p
            for name, p in named.items()
            if not {*adapters, "original_module"} & set(name.split("."))
        }
        known = all(saved.get(name) == tuple(p.shape) for name, p in own.items())
        if head.endswith(tuple(with_it)):
            continue
        own_weights = [
            p for name, p in own.items() if not name.endswith("bias")
        ]  # biases can be saved with an adapter
        if hasattr(setup.model, "get_base_model") and any(p.requires_grad for p in own_weights):
            thawed.append(head)
        elif not known and not any(p.requires_grad for p in own.values()):
            lost.append(head)
    first = next(iter(adapters.values()), None)
    kind = type(first).__name__ if type(first).__name__.endswith("Config") else "LoraConfig"
    if thawed:
        yield (
            f"The classification head ({', '.join(thawed)}) is trained, but not saved with the adapter: loaded again, it is as it was before training.",
            f"{kind}(..., modules_to_save={json.dumps(thawed)}); or save all: trainer.model.merge_and_unload().save_pretrained(folder)",
        )
    if lost:
        fix = f"{kind}(..., modules_to_save={json.dumps(lost)})"
        helps = "SEQ_CLS" not in str(getattr(first, "task_type", "")) and not getattr(
            model, "_hf_peft_config_loaded", False
        )
        if helps and all(
            head.endswith(("classifier", "score")) for head in lost
        ):  # that is what PEFT takes for the head
            fix = f'{kind}(..., task_type="SEQ_CLS") with get_peft_model, or {fix}'
        which = (
            f"The classification head ({', '.join(lost)}) is frozen"
            if not trained
            else f"A part of the head ({', '.join(lost)}) is frozen"
        )
        unsure = path and not saved  # the checkpoint cannot be read here: its head may have been trained
        yield (
            f"{which}, and not saved with the adapter: its {'perhaps ' if unsure else ''}random numbers would stay as they are, and be others when the "
            "adapter is loaded again.",
            fix,
            "warning" if trained or unsure else "error",
        )


@pitfall(
    "head-reinitialised",
    "P",
    "warning",
    "ignore_mismatched_sizes=True threw a trained head away; only the load report says so",
    "Mean it",
)
def head_reinitialised(setup):
    path = getattr(setup.config, "_name_or_path", None)
    if not path or moved_since(setup.model):
        return
    mine, embeddings = {name: tuple(p.shape) for name, p in setup.model.named_parameters()}, set()
    for get in (
        "get_input_embeddings",
        "get_output_embeddings",
    ):  # these are resized on purpose when tokens are added
        with contextlib.suppress(Exception):
            embeddings |= {
                name for name, p in setup.model.named_parameters() if p is getattr(setup.model, get)().weight
            }
    changed = [
        (name, shape, mine[name])
        for name, shape in _shapes(path)
        if name in mine and name not in embeddings and shape != mine[name]
    ]
    if changed:
        name, before, now = changed[0]
        yield (
            f"{name!r} has the shape {before} in the checkpoint and {now} in the model: ignore_mismatched_sizes=True threw {len(changed)} trained tensor(s) away and "
            "put random numbers there.",
            "Nothing, if you meant it; else load with the number of labels that the checkpoint was trained for",
        )


def _shapes(path: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of each tensor in a checkpoint on this machine, reading the headers only; nothing where there is none."""
    from transformers.utils import cached_file

    folder = Path(path)
    if not folder.is_dir():
        try:
            folder = Path(
                cached_file(path, "config.json", local_files_only=True)
            ).parent  # of all files of that revision
        except Exception:
            return
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                yield name, tuple(tensors.get_slice(name).get_shape())


@pitfall(
    "old-compute-loss",
    "P",
    "error",
    "compute_loss() got an unexpected keyword argument 'num_items_in_batch'",
    "Add the argument",
    True,
)
def old_compute_loss(setup):
    for owner, name, function in (
        ("Trainer", "compute_loss", type(setup.trainer).compute_loss),
        ("", "compute_loss_func", setup.trainer.compute_loss_func),
    ):
        if function is None:
            continue
        try:
            known = inspect.signature(function).parameters
        except (TypeError, ValueError):
            continue
        if "num_items_in_batch" not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            yield (
                f"{owner and type(setup.trainer).__name__ + '.'}{name} does not take num_items_in_batch, which Trainer hands to it: the first step would fail.",
                (f"def {name}({', '.join(known)}, num_items_in_batch=None):"),
            )


@pitfall(
    "ga-loss",
    "P",
    "warning",
    "Gradient accumulation: the logged loss and gradients are N times too large",
    "model.accepts_loss_kwargs = False",
    dry=True,
)
def ga_loss(setup):
    trainer, many, batch = (
        setup.trainer,
        setup.args.gradient_accumulation_steps,
        setup.dry.collated.get("train"),
    )
    if many < 2 or setup.dry.loss is None or not isinstance(batch, Mapping):
        return
    said = getattr(trainer, "loss_is_scaled_for_ga", None)
    divided_by_trainer = said is False or (
        said is None and not trainer.model_accepts_loss_kwargs and trainer.compute_loss_func is None
    )
    if divided_by_trainer:
        return
    with untouched(setup), torch.no_grad():
        inputs = trainer._prepare_inputs(dict(batch))
        few, lots = (
            float(trainer.compute_loss(setup.model, dict(inputs), num_items_in_batch=torch.tensor(n)))
            for n in (4, 40)
        )
    if math.isclose(few, lots, rel_tol=1e-6):
        culprit = (
            "compute_loss_func"
            if trainer.compute_loss_func is not None
            else "compute_loss"
            if setup.own_loss
            else type(setup.model).__name__
        )
        fix = (
            "Divide by num_items_in_batch: loss = cross_entropy(..., reduction='sum') / num_items_in_batch"
            if setup.own_loss
            else "model.accepts_loss_kwargs = False"
        )
        yield (
            f"{culprit} takes num_items_in_batch and ignores it, so nobody divides by the {many} accumulated batches: the training loss is logged {many} times too "
            f"large, and max_grad_norm clips {many} times too hard.",
            fix if setup.own_loss else f"{fix} before Trainer(...) is built",
        )


@pitfall(
    "metrics-shape",
    "P",
    "error",
    "compute_metrics fails, after the first epoch: 'tuple' object has no attribute 'argmax'",
    "Try it on one batch",
    True,
    dry=True,
)
def metrics_shape(setup):
    error, metrics = setup.dry.metrics_failed, setup.dry.metrics
    if error is not None:
        several = isinstance(setup.dry.logits, (tuple, list))
        hint = (
            f" The model returns {len(setup.dry.logits)} outputs, so predictions is a tuple."
            if several
            else ""
        )
        if several:
            fix = "logits = predictions[0] if isinstance(predictions, tuple) else predictions"
        elif "multiclass" in error_text(error):
            fix = "f1_score(labels, predicted, average='macro')"
        else:
            fix = "logits, labels = prediction.predictions, prediction.label_ids; predicted = logits.argmax(axis=-1)"
        if setup.dry.metrics_saw_all or not isinstance(error, (IndexError, ValueError)):
            yield (
                f"compute_metrics fails, which would show after the first epoch: {error_text(error)}.{hint}",
                fix,
            )
        else:  # it may need every row
            yield (
                f"compute_metrics fails with a part of the evaluation rows (there are too many to try all): {error_text(error)}.{hint}",
                fix,
                "warning",
            )
    elif setup.dry.scored and not isinstance(setup.dry.scored[0], Mapping):
        yield (
            f"compute_metrics returns {type(setup.dry.scored[0]).__name__}, and Trainer needs a dict.",
            "return {'accuracy': accuracy}",
        )
    elif metrics is not None and (odd := [key for key in metrics if not isinstance(key, str)]):
        yield (
            f"compute_metrics returns {odd[0]!r} as the name of a metric, and Trainer needs a text.",
            f"return {{{str(odd[0])!r}: ...}}",
        )
    elif metrics is not None:
        key = next(
            (
                key
                for key, value in metrics.items()
                if _refuses(functools.partial(json.dumps, sort_keys=True), value)
            ),
            None,
        )
        best = (setup.args.metric_for_best_model or "").removeprefix("eval_")
        deciding = metrics.get(best, metrics.get(f"eval_{best}", 0.0)) if setup.chooses_best else 0.0
        if key is not None:
            array = isinstance(metrics[key], (np.ndarray, torch.Tensor))
            yield (
                f"compute_metrics returns {'an array' if array else type(metrics[key]).__name__} as {key!r}, which cannot be written to the log of a checkpoint.",
                f"One number: float({key}.mean())" if array else "Numbers, texts, or lists and dicts of them",
                "error" if setup.args.save_strategy != "no" else "warning",
            )
        elif _refuses(lambda value: bool(np.greater(value, -math.inf)), deciding):
            yield (
                f"compute_metrics returns {deciding!r:.80} as {best!r}, which decides what is kept: Trainer cannot compare it.",
                "One number",
            )


def _refuses(take: Callable, metric: Any) -> bool:
    """Say whether a function fails with a metric as Trainer hands it on: NumPy's numbers and tensors of one element become numbers, arrays do not."""
    try:
        take(denumpify_detensorize(metric))
    except Exception:
        return True
    return False


@pitfall(
    "best-metric-missing",
    "P",
    "error",
    "KeyError: 'eval_f1' not found, after the first evaluation",
    "A key that compute_metrics returns",
    True,
    dry=True,
)
def best_metric_missing(setup):
    metric = setup.args.metric_for_best_model
    if (
        metric is None
        or not (setup.chooses_best or setup.args.lr_scheduler_type == "reduce_lr_on_plateau")
        or not setup.evals
    ):
        return
    if (
        setup.args.eval_strategy == "no"
        or setup.dry.metrics_failed is not None
        or setup.errors & {"metrics-shape", "eval-labels-missing"}
    ):
        return
    known = {
        f"eval_{key}".replace("eval_eval_", "eval_")
        for key in [*(setup.dry.metrics or {}), "loss", "runtime", "samples_per_second", "steps_per_second"]
    }
    if setup.trainer.compute_metrics is not None and setup.dry.metrics is None:
        return  # it could not be tried
    if isinstance(setup.trainer.eval_dataset, Mapping):
        known = {
            f"eval_{name}_{key.removeprefix('eval_')}" for name in setup.trainer.eval_dataset for key in known
        }
    wanted = metric if metric.startswith("eval_") else f"eval_{metric}"
    if wanted not in known:
        shown = sorted(
            key.removeprefix("eval_") for key in known if not key.endswith(("runtime", "per_second"))
        )
        yield (
            f"metric_for_best_model={metric!r} is not among what an evaluation returns ({', '.join(shown)}): the first one would end in a KeyError.",
            (f"metric_for_best_model={shown[0]!r}"),
        )


@pitfall(
    "eval-memory",
    "P",
    "warning",
    "All predictions of an evaluation are kept on the device, worse with hidden states",
    "eval_accumulation_steps",
    dry=True,
)
def eval_memory(setup):
    if (
        setup.dry.logits is None
        or setup.trainer.compute_metrics is None
        or setup.trainer.preprocess_logits_for_metrics is not None
    ):
        return
    flat = []
    each_tensor(setup.dry.logits, flat.append)
    width, needed = sum(math.prod(t.shape[1:]) for t in flat), setup.num_labels or 1
    rows = max((split.rows or 0 for split in setup.evals), default=0)
    on_gpu = setup.args.device.type == "cuda"
    room = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    if (len(flat) > 1 and width > 100 * needed) or (
        rows * width * 4 > 0.25 * room and (setup.args.eval_accumulation_steps is None or not on_gpu)
    ):
        yield (
            f"An evaluation keeps {width:,} numbers for each of {rows:,} rows, {rows * width * 4 / 1e6:,.0f} MB, until all are predicted; the labels need {needed} of them.",
            "Trainer(..., preprocess_logits_for_metrics=lambda logits, labels: logits[0] if isinstance(logits, tuple) else logits), eval_accumulation_steps=8",
        )


MESSAGES = {  # what a failed dry run says -> the entry that explains it
    "excessive nesting|Unable to create tensor|expected sequence of length|stack expects each tensor to be equal size": "not-tokenised",
    "should supply an encoding|You have to specify either input_ids": "not-tokenised",
    r"Target -?\d+ is out of bounds": "label-range",
    "index out of range in self": "tokenizer-mismatch",
    "padding token": "pad-token",
    "did not return a loss": "no-loss",
    "must be the same as input size": "label-float",
    "match target batch_size|can't be cast to the desired output type": "multi-label-ints",
    "num_items_in_batch": "old-compute-loss",
    "expanded size of the tensor": "too-long",
    "gather": "smoothing-float",
    "same number of <eos> tokens": "special-in-text",
}


@pitfall(
    "dry-run",
    "P",
    "error",
    "The first batch fails for a reason that no other check knows",
    "Read the message",
    True,
    dry=True,
)
def dry_run(setup):
    failures = [
        (f"making a batch of the {setup.splits[name].role} data", error)
        for name, error in setup.dry.refused.items()
    ]
    failures += [("the first forward pass", setup.dry.failed)] if setup.dry.failed is not None else []
    for name, error in setup.unreadable.items():
        yield (
            f"The {name} data cannot be read: {error_text(error)}",
            "Mend what the message names: dataset[0], dataset[1], ... must all work",
        )
    for what, error in failures:
        explained = [id for words, id in MESSAGES.items() if re.search(words, error_text(error))]
        data = {
            "not-tokenised",
            "label-type",
            "label-range",
            "label-float",
            "multi-label-ints",
            "problem-type-stuck",
            "no-loss",
            "too-long",
            "num-labels-one",
        }
        data |= {
            "tokenizer-mismatch",
            "pad-token",
            "old-compute-loss",
            "smoothing-float",
            "wrong-container",
            "two-label-columns",
            "empty-tokenizer",
            "special-in-text",
        }
        if not setup.errors & data:
            yield (
                f"In a dry run, {what} fails: {error_text(error)}",
                (
                    f"See {explained[0]!r} in the catalogue: {CATALOGUE[explained[0]].fix}"
                    if explained
                    else "Mend what the message names"
                ),
            )
