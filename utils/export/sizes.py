"""Three sizes of a finished run's model: ONNX in full, ONNX in whole numbers, a student of word scores."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from utils.answers.doubt import sureness
from utils.export import answer
from utils.findings import ModelError
from utils.inputs import as_columns, length_sorted_batches, pooled, texts_of
from utils.labels import TASKS
from utils.metrics import choose_thresholds, compare, decide, fit_temperature, probabilities_of, score
from utils.plots import COLOURS, finish
from utils.predict import length_limit, load_classifier

TOLERANCE = 1e-3  # of logits, between PyTorch and ONNX; sums in another order differ by a hundredth of that
BATCH = 32  # texts computed at a time, by all models alike
LOSSES = {
    "single_label": torch.nn.functional.cross_entropy,
    "multi_label": torch.nn.functional.binary_cross_entropy_with_logits,
    "regression": torch.nn.functional.mse_loss,
}


def torch_logits(loaded, texts: Sequence, batch_size: int = BATCH) -> np.ndarray:
    """Return what a loaded classifier says of texts: logits, shape (texts, labels)."""
    classifier, tokenizer, *_ = loaded
    owner, logits = [], []
    most = length_limit(loaded)
    for places, batch, _ in length_sorted_batches(classifier, tokenizer, list(texts), batch_size, most):
        owner.append(places)
        with torch.inference_mode():
            logits.append(classifier(**batch).logits.float().numpy())
    return pooled(np.concatenate(logits), np.concatenate(owner))


def describe(folder: Path, loaded, **changes) -> None:
    """Write tokenizer.json and answer.json: what answer.py needs beside a model. `changes` go into the latter.

    Raises:
        ModelError: the tokenizer is written in Python; or it pads in front, and both ends of texts are kept.
    """
    classifier, tokenizer, task, labels = loaded
    config, kind = classifier.config, type(tokenizer).__name__
    how, most = getattr(config, "long_texts", "head"), length_limit(loaded)
    if not tokenizer.is_fast or (how == "head_tail" and tokenizer.padding_side == "left"):
        fault = "pads in front, where head_tail cuts" if tokenizer.is_fast else "is written in Python"
        raise ModelError(f"{kind} {fault}: it cannot leave the run. Use a fast one, and long_texts='head'.")
    own = answer.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.no_truncation()
    if how != "head_tail":
        stride = most // 4 if how == "chunks" else 0
        own.enable_truncation(max_length=most, stride=stride, direction=tokenizer.truncation_side)
    pad = {"pad_type_id": tokenizer.pad_token_type_id, "direction": tokenizer.padding_side}
    own.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token, **pad)
    about = {"task": task, "labels": labels, "long_texts": how, "max_length": most, "temperature": 1.0}
    about |= {"thresholds": getattr(config, "thresholds", None)}
    about |= {"pairs": bool(getattr(config, "text_pair_column", None))}
    about |= {"split_special_tokens": bool(tokenizer.split_special_tokens)} | changes
    folder.mkdir(parents=True, exist_ok=True)
    own.save(str(folder / "tokenizer.json"))
    (folder / "answer.json").write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")


def write_onnx(loaded, texts: Sequence, folder: Path) -> float:
    """Write a classifier as model.onnx, for any number and length of texts; return what `parity` returns."""
    classifier, tokenizer, *_ = loaded
    sample = tokenizer(*as_columns(texts[:2]), padding=True, truncation=True, return_tensors="pt")
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    shapes = {name: axes for name in sample}
    names = {"input_names": list(sample), "output_names": ["logits"]}
    describe(folder, loaded)
    program = torch.onnx.export(
        classifier, kwargs=dict(sample), dynamic_shapes=shapes, verbose=False, **names
    )
    program.save(folder / "model.onnx")
    return parity(loaded, texts, folder)


def parity(loaded, texts: Sequence, folder: Path) -> float:
    """Return by how much the logits of an exported folder differ from PyTorch's, at most: on short, middling
    and long ones of these texts, 1, 7 and 32 at a time. A logit above 1 counts by its share.

    Raises:
        ModelError: it is more than TOLERANCE.
    """
    by_length = sorted(texts, key=lambda text: len("".join(text)))
    some, exported = [*by_length[:8], *by_length[len(texts) // 2 :][:8], *by_length[-8:]], answer.load(folder)
    off = []
    for size in (1, 7, BATCH):
        ours = torch_logits(loaded, some, size)
        theirs = answer.logits_of(exported, some, size)
        off.append(np.max(np.abs(ours - theirs) / np.maximum(np.abs(ours), 1)))
    if not (worst := float(np.max(off))) <= TOLERANCE:
        fault = f"The logits of {folder.name}/model.onnx are not PyTorch's: they differ by {worst:.2g}"
        raise ModelError(f"{fault}, more than {TOLERANCE:g}. Use the model folder itself.")
    return worst


def write_int8(loaded, onnx: Path, folder: Path) -> None:
    """Write the model of `onnx` with weights of 7 bits and a scale for each column; inputs are rounded as
    they come. With 8 bits the sums overflow on processors without VNNI: answers would depend on the machine.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    describe(folder, loaded)
    how = {"weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": True}
    quantize_dynamic(onnx / "model.onnx", folder / "model.onnx", **how)


def token_vectors(loaded) -> torch.Tensor:
    """Return what the encoder makes of each token of the vocabulary alone, shape (tokens, units).

    After model2vec (Tulkens and van Dongen 2024), which takes the mean over token and special tokens.
    """
    classifier, tokenizer, *_ = loaded
    encoder = classifier.base_model
    encoder = encoder.get_encoder() if classifier.config.is_encoder_decoder else encoder
    whole, inner = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    at = whole.index(inner[0])
    vectors = []
    for tokens in torch.arange(len(tokenizer)).split(1024):
        rows = torch.tensor([[*whole[:at], token, *whole[at + len(inner) :]] for token in tokens.tolist()])
        with torch.inference_mode():
            found = encoder(input_ids=rows, attention_mask=torch.ones_like(rows)).last_hidden_state
        vectors.append(found[:, at].float())
    return torch.cat(vectors)


def write_student(loaded, texts: Sequence, logits: np.ndarray, folder: Path) -> None:
    """Write a student as model.safetensors: each token's score for each label. The logits of a text are the
    mean over its tokens. `logits` are the model's answers to `texts`, the training ones: (texts, labels).

    A linear layer on `token_vectors` learns these answers (as probabilities: Hinton et al. 2015), and is
    multiplied out, so that a table of numbers is left.
    """
    from safetensors.torch import save_file

    task, path = loaded[2], folder / "model.safetensors"
    vectors = token_vectors(loaded)
    vectors = ((vectors - vectors.mean(0)) / vectors.std()).contiguous()
    describe(folder, loaded, labels=list(range(vectors.shape[1])))
    save_file({"scores": vectors}, path)
    known = torch.tensor(answer.logits_of(answer.load(folder), list(texts))).float()
    wanted = torch.tensor(probabilities_of(logits, task)).float().reshape(len(known), -1)
    head = torch.nn.Linear(known.shape[1], wanted.shape[1])
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = LOSSES[task](head(known), wanted) + 0.05 / len(known) * head.weight.square().sum()
        value.backward()
        return value

    torch.nn.init.zeros_(head.weight)
    optimizer.step(loss)
    describe(folder, loaded)
    save_file({"scores": head(vectors).detach().contiguous()}, path)


def words(folder: Path) -> pd.DataFrame:
    """Return for each label the tokens that a student scores highest for it, against the other labels."""
    about, tokenizer, score_of = answer.load(folder)
    size = tokenizer.get_vocab_size()
    ids = np.arange(size).reshape(-1, 1)
    scores = score_of({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    scores = scores - scores.mean(axis=1, keepdims=True) if scores.shape[1] > 1 else scores
    order = np.argsort(-scores, axis=0, kind="stable")[:100]
    named = [[tokenizer.id_to_token(int(k)) for k in column] for column in order.T]
    return pd.DataFrame(dict(zip(about["labels"], named, strict=True)))


def calibrate(folder: Path, trained) -> None:
    """Choose temperature and thresholds of an exported folder on the validation rows, and note them in it."""
    about, *_ = exported = answer.load(folder, torch.get_num_threads())
    task, true = about["task"], trained.true["validation"]
    if TASKS[task].classes:
        logits = answer.logits_of(exported, texts_of(trained.rows["validation"]).tolist())
        temperature, thresholds = fit_temperature(logits, true, task), None
        if TASKS[task].joined:
            thresholds = (
                choose_thresholds(true, probabilities_of(logits / temperature, task)).round(4).tolist()
            )
        describe(folder, trained.loaded, temperature=temperature, thresholds=thresholds)


def open_size(folder: Path) -> Callable[[Sequence], tuple]:
    """Return a function from texts to what is predicted (as `decide` returns it), probabilities, and how sure
    each answer is. `folder` is an exported one, or the model's own.
    """
    if (folder / "answer.json").exists():
        exported = answer.load(folder, torch.get_num_threads())
        task, thresholds = exported[0]["task"], exported[0]["thresholds"]
    else:
        exported, loaded = None, load_classifier(folder, "cpu")
        task, thresholds = loaded[2], getattr(loaded[0].config, "thresholds", None)

    def ask(texts: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        texts = list(texts)
        logits = answer.logits_of(exported, texts) if exported else torch_logits(loaded, texts)
        shares = probabilities_of(logits, task)
        predicted = decide(shares, task, thresholds)
        if not TASKS[task].classes:
            return predicted, shares, np.zeros(len(texts))
        sure = sureness(predicted, shares, SimpleNamespace(thresholds=thresholds), task)
        return predicted, shares, sure.min(axis=1)

    return ask


class Size(NamedTuple):
    """What `measure` returns: how to ask a model, its answers to the validation and test rows, as of
    `open_size`, and its line of the table.
    """

    ask: Callable
    validation: tuple
    test: tuple
    line: dict


def measure(folder: Path, trained, full: Size | None = None) -> Size:
    """Measure the model in an exported folder, or in the run's own; `full` is what its loss is against."""
    began = perf_counter()
    ask = open_size(folder)
    seconds, files = perf_counter() - began, [path for path in folder.iterdir() if path.is_file()]
    return asked(
        ask, trained, full, {"MB": sum(path.stat().st_size for path in files) / 1e6, "load s": seconds}
    )


def asked(ask: Callable, trained, full: Size | None, line: dict) -> Size:
    """Ask for the validation rows, a hundred test rows one by one, and all test rows, and look at the clock."""
    task = trained.loaded[2]
    validation, test = (texts_of(trained.rows[part]).tolist() for part in ("validation", "test"))
    known, clock = ask(validation), [perf_counter()]
    for text in test[:100]:
        ask([text])
        clock.append(perf_counter())
    found = ask(test)
    speed = len(test) / (perf_counter() - clock[-1])
    main, true, reference = TASKS[task].main_score, trained.true["test"], full.test[0] if full else found[0]
    told, agreement = compare(main, true, found[0], reference), score(reference, found[0], task)[main]
    scores = {
        main: score(true, found[0], task)[main],
        "loss": -told.gain,
        "low": -told.high,
        "high": -told.low,
    }
    p50, p95 = 1000 * np.percentile(np.diff(clock), [50, 95])
    times = {"p50 ms": p50, "p95 ms": p95, "texts/s": speed}
    return Size(ask, known, found, scores | {"agreement": agreement} | line | times)


def refused(size: Size, max_loss: float) -> str:
    """Return why a size may not stay, an empty text where it may: the upper end of its loss is too high."""
    if size.line["high"] <= max_loss:
        return ""
    main, rows, ends = next(iter(size.line)), len(size.test[0]), (size.line["low"], size.line["high"])
    found = f"it loses {size.line['loss']:+.3f} of {main} (95% interval {ends[0]:+.3f} to {ends[1]:+.3f}"
    return f"int8 is refused: {found}, {rows:,} test rows); --max-loss allows {max_loss:g}."


def cascade(student: Size, full: Size, trained, lost: float = 0.005) -> tuple[Size, str]:
    """Return a cascade, measured, and what it does in words: answers that the student is less sure of than a
    threshold come from `full`. Of the thresholds that lose at most `lost` of the right answers to the
    validation rows, it is the lowest, and so the cheapest. `lost` is half of what the test rows may show,
    for on the rows that it was chosen on a threshold does a little better.

    Raises:
        ModelError: the task is regression.
    """
    if not TASKS[trained.loaded[2]].classes:
        raise ModelError("A cascade needs classes: a predicted number does not say how sure it is.")
    true, sure = trained.true["validation"], student.validation[2]
    right, known = (
        np.equal(size.validation[0], true).reshape(len(true), -1).all(axis=1) for size in (student, full)
    )
    order = np.argsort(-sure, kind="stable")
    losses = np.cumsum(known[order].astype(int) - right[order]) / len(true)
    kept = np.flatnonzero(losses <= lost)
    threshold = float(sure[order[kept[-1]]]) if len(kept) else np.inf

    def ask(texts: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        answers = student.ask(texts)
        if len(unsure := np.flatnonzero(answers[2] < threshold)):
            for ours, theirs in zip(answers, full.ask([texts[k] for k in unsure]), strict=True):
                ours[unsure] = theirs
        return answers

    line = {name: student.line[name] + full.line[name] for name in ("MB", "load s")}
    share = (student.test[2] >= threshold).mean()
    words = f"The student answers where it is at least {threshold:.3f} sure: {share:.1%} of the test rows."
    return asked(ask, trained, full, line), words


def table_of(sizes: dict[str, Size]) -> pd.DataFrame:
    """Return the table of all sizes, by name; loss, low and high are against the first."""
    return pd.DataFrame({name: size.line for name, size in sizes.items()}).T


def figure(table: pd.DataFrame) -> Figure:
    """Draw each size's score, with the interval of its loss, against its texts a second on a log axis."""
    main, drawing = table.columns[0], plt.figure(figsize=(6.5, 3.6), layout="constrained")
    axes = drawing.add_subplot(xscale="log")
    for colour, (name, line) in zip(COLOURS, table.iterrows(), strict=False):
        ends = [[line["high"] - line["loss"]], [line["loss"] - line["low"]]]
        axes.errorbar(line["texts/s"], line[main], ends, fmt="o", color=colour, capsize=3, label=name)
    axes.set(title="Score and speed of the sizes", xlabel="texts a second (log scale)", ylabel=f"test {main}")
    axes.legend(loc="best", fontsize="small")
    return finish(drawing)
