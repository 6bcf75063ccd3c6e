"""Three sizes of a finished run's model: ONNX in full, ONNX in whole numbers, a student of word scores."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from tqdm.auto import tqdm

from utils.answers.doubt import sureness
from utils.export import answer
from utils.findings import ModelError
from utils.inputs import as_columns, texts_of
from utils.labels import TASKS
from utils.metrics import compare, decide, fit_calibration, probabilities_of, score
from utils.plots import COLOURS, finish
from utils.predict import length_limit, load_classifier, logits_of

TOLERANCE = 1e-3  # of logits, between PyTorch and ONNX; sums in another order differ by a hundredth of that
BATCH = 32  # texts computed at a time, by all models alike
LOSSES = {
    "single_label": torch.nn.functional.cross_entropy,
    "multi_label": torch.nn.functional.binary_cross_entropy_with_logits,
    "regression": torch.nn.functional.mse_loss,
}


def torch_logits(loaded, texts: Sequence, batch_size: int = BATCH) -> np.ndarray:
    """Return what a loaded classifier says of texts: logits, shape (texts, labels)."""
    return logits_of(loaded, list(texts), batch_size, length_limit(loaded), bar=tqdm(disable=True))[0]


def describe(folder: Path, loaded, **changes) -> None:
    """Write tokenizer.json and answer.json: what answer.py needs beside a model. `changes` go in the latter.

    Raises:
        ModelError: the tokenizer is written in Python; or it pads in front, and both ends of texts are kept.
    """
    classifier, tokenizer, task, labels = loaded
    config, kind = classifier.config, type(tokenizer).__name__
    how, most = getattr(config, "long_texts", "head"), length_limit(loaded)
    if not tokenizer.is_fast or (how == "head_tail" and tokenizer.padding_side == "left"):
        fault = "pads in front, where head_tail cuts" if tokenizer.is_fast else "is written in Python"
        raise ModelError(f"{kind} {fault}: it cannot leave the run. Use a fast one, and long_texts='head'.")
    own = answer.tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.no_truncation()
    if how != "head_tail":
        stride = most // 4 if how == "chunks" else 0  # as utils.inputs.encode has it
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
    """Write a classifier as model.onnx, for any number and length of texts; return what `parity` returns.

    Raises:
        ModelError: the exporter cannot write such a model, or what `describe` and `parity` refuse.
    """
    describe(folder, loaded)
    sample = loaded[1](*as_columns(texts[:2]), padding=True, truncation=True, return_tensors="pt")
    axes = {name: dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC) for name in sample}
    names = {"input_names": list(sample), "output_names": ["logits"], "verbose": False}
    loaded[0].config.use_cache = False  # what is kept for the next token has no place in the graph
    try:
        program = torch.onnx.export(loaded[0], kwargs=dict(sample), dynamic_shapes=axes, **names)
    except torch.onnx.OnnxExporterError as error:
        fault = f"torch.onnx.export cannot write {type(loaded[0]).__name__}"
        raise ModelError(f"{fault}. Make the student only: --student.") from error
    program.save(folder / "model.onnx")
    return parity(loaded, texts, folder)


def parity(loaded, texts: Sequence, folder: Path) -> float:
    """Return by how much the logits of an exported folder differ from PyTorch's, at most: on short, middling
    and long ones of these texts, 1, 5 and 15 at a time. A logit above 1 counts by its share.

    Raises:
        ModelError: it is more than TOLERANCE.
    """
    some, exported = sorted(texts, key=lambda text: len("".join(text))), answer.load(folder)
    some, worst = [*some[:5], *some[len(some) // 2 :][:5], *some[-5:]], 0.0
    for size in (1, 5, 15):
        ours = torch_logits(loaded, some, size)
        off = np.abs(ours - answer.logits_of(exported, some, size)) / np.maximum(np.abs(ours), 1)
        worst = max(worst, float(off.max()))
    if not worst <= TOLERANCE:
        fault = f"The logits of {folder.name} are not PyTorch's: they differ by {worst:.2g}"
        raise ModelError(f"{fault}, more than {TOLERANCE:g}. Use the model folder itself.")
    return worst


def write_int8(loaded, onnx: Path, folder: Path) -> None:
    """Write the model of `onnx` with weights of 7 bits and a scale for each column; inputs are rounded as
    they come. With 8 bits, processors without VNNI overflow their sums of 16: answers would depend on the
    machine.
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
    encoder, vectors = classifier.base_model, []
    encoder = encoder.get_encoder() if classifier.config.is_encoder_decoder else encoder
    whole, inner = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    at = whole.index(inner[0])
    for tokens in torch.arange(len(tokenizer)).split(1024):
        rows = torch.tensor([[*whole[:at], token, *whole[at + len(inner) :]] for token in tokens.tolist()])
        with torch.inference_mode():
            found = encoder(input_ids=rows, attention_mask=torch.ones_like(rows)).last_hidden_state
        vectors.append(found[:, at].float())
    return torch.cat(vectors)


def write_student(loaded, texts: Sequence, logits: np.ndarray, folder: Path) -> None:
    """Write a student as model.safetensors: each token's score for each label, of which a text has the mean.

    A linear layer on `token_vectors` learns the model's answers to `texts`, the training ones (`logits`,
    shape (texts, labels); soft targets: Hinton et al. 2015). Multiplied out, it is a table of numbers.
    """
    from safetensors.torch import save_file

    task, path, vectors = loaded[2], folder / "model.safetensors", token_vectors(loaded)
    vectors = ((vectors - vectors.mean(0)) / vectors.std()).contiguous()
    describe(folder, loaded, labels=list(range(vectors.shape[1])))  # for now it answers with mean vectors
    save_file({"scores": vectors}, path)
    known = torch.tensor(answer.logits_of(answer.load(folder), list(texts))).float()
    wanted = torch.tensor(probabilities_of(logits, task)).float().reshape(len(known), -1)
    head = torch.nn.Linear(known.shape[1], wanted.shape[1])
    torch.nn.init.zeros_(head.weight)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = LOSSES[task](head(known), wanted) + 0.05 / len(known) * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    describe(folder, loaded)
    save_file({"scores": head(vectors).detach().contiguous()}, path)


def calibrate(folder: Path, trained) -> None:
    """Choose temperature and thresholds of an exported folder on the validation rows, and note them in it."""
    if not TASKS[trained.loaded[2]].classes:  # a predicted number has neither
        return
    exported, texts = answer.load(folder, torch.get_num_threads()), texts_of(trained.rows["validation"])
    logits = answer.logits_of(exported, texts.tolist())
    found = fit_calibration(logits, trained.true["validation"], trained.loaded[2])
    thresholds = {} if found.thresholds is None else {"thresholds": found.thresholds.tolist()}
    describe(folder, trained.loaded, temperature=found.temperature, **thresholds)


def open_size(folder: Path) -> Callable[[Sequence], tuple]:
    """Return a function from texts to what is predicted (as `decide` returns it), probabilities, and how sure
    each answer is. `folder` is an exported one, or the run's own model.
    """
    if (folder / "answer.json").exists():
        exported = answer.load(folder, torch.get_num_threads())
        task, thresholds = exported[0]["task"], exported[0]["thresholds"]
    else:
        exported, loaded = None, load_classifier(folder, "cpu")
        task, thresholds = loaded[2], getattr(loaded[0].config, "thresholds", None)
    config = SimpleNamespace(thresholds=thresholds)

    def ask(texts: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits = answer.logits_of(exported, texts, BATCH) if exported else torch_logits(loaded, texts)
        shares = probabilities_of(logits, task)
        predicted, sure = decide(shares, task, thresholds), np.zeros((len(texts), 1))
        if TASKS[task].classes:
            sure = sureness(predicted, shares, config, task)
        return predicted, shares, sure.min(axis=1)

    return ask


def measure(size: Path | Callable, trained, full=None) -> SimpleNamespace:
    """Load a size, ask it for fifty test rows one by one, then for all of them, with a clock beside it.

    Args:
        size: an exported folder, the run's own model, or what asks one, as `open_size` returns.
        full: what this function has returned for the model that the loss is against; None for itself.

    Returns:
        `ask`; its answers to the `test` rows; and `line`, its line of the table.
    """
    task, began = trained.loaded[2], perf_counter()
    ask = open_size(size) if isinstance(size, Path) else size
    seconds = perf_counter() - began
    test = texts_of(trained.rows["test"]).tolist()
    ask(test[:BATCH])  # the first call is slower
    clock = [perf_counter()]
    for text in test[:50]:
        ask([text])
        clock.append(perf_counter())
    found = ask(test)
    speed = len(test) / (perf_counter() - clock[-1])
    main, true, reference = TASKS[task].main_score, trained.true["test"], full.test[0] if full else found[0]
    told, agreement = compare(main, true, found[0], reference), score(reference, found[0], task)[main]
    line = {main: score(true, found[0], task)[main], "lost": 0.0 - told.gain, "low": 0.0 - told.high}
    line |= {"high": 0.0 - told.low, "agreement": agreement}
    files = [path.stat().st_size for path in size.iterdir()] if isinstance(size, Path) else []
    p50, p95 = 1000 * np.percentile(np.diff(clock), [50, 95])
    line |= {"MB": sum(files) / 1e6, "load s": seconds, "p50 ms": p50, "p95 ms": p95, "texts/s": speed}
    return SimpleNamespace(ask=ask, test=found, line=line)


def refused(size, max_loss: float) -> str:
    """Return why a measured size may not stay; "" where the upper end of its loss is at most `max_loss`."""
    (main, _), (_, lost), (_, low), (_, high), *_ = size.line.items()
    if high <= max_loss:
        return ""
    found = f"it may lose {high:.3f} of {main}: {lost:+.3f} on {len(size.test[0]):,} test rows, 95% interval"
    return f"int8 is refused: {found} {low:+.3f} to {high:+.3f}; --max-loss allows {max_loss:g}."


def cascade(student, full, trained, lost: float = 0.01) -> tuple[SimpleNamespace, str]:
    """Return a cascade, measured, and what it does in words: where the student is less sure than a threshold,
    `full` is asked. On the validation rows the threshold is the lowest, so the cheapest, at which the upper
    end of the 95% interval of the loss (of right answers; paired, normal) is at most `lost`.

    Raises:
        ModelError: the task is regression.
    """
    if not TASKS[trained.loaded[2]].classes:
        raise ModelError("A cascade needs classes: a predicted number does not say how sure it is.")
    true, texts = trained.true["validation"], texts_of(trained.rows["validation"]).tolist()
    known = [size.ask(texts) for size in (student, full)]
    sure, right = known[0][2], [np.equal(each[0], true).reshape(len(true), -1).all(axis=1) for each in known]
    order = np.argsort(-sure, kind="stable")
    gone = right[1][order].astype(int) - right[0][order]  # 1 where only the full model is right, or -1
    mean, square = np.cumsum(gone) / len(true), np.cumsum(gone**2) / len(true)
    kept = np.flatnonzero(mean + 1.96 * np.sqrt((square - mean**2) / len(true)) <= lost)
    threshold = float(sure[order[kept[-1]]]) if len(kept) else np.inf

    def ask(texts: Sequence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        answers = student.ask(texts)
        if len(unsure := np.flatnonzero(answers[2] < threshold)):
            for ours, theirs in zip(answers, full.ask([texts[k] for k in unsure]), strict=True):
                ours[unsure] = theirs
        return answers

    both, share = measure(ask, trained, full), (student.test[2] >= threshold).mean()
    both.line |= {name: student.line[name] + full.line[name] for name in ("MB", "load s")}
    words = f"The student answers where it is at least {threshold:.3f} sure: {share:.1%} of the test rows."
    return both, f"{words} Lost on them: {both.line['lost']:+.3f}, and up to {both.line['high']:+.3f}."


def figure(table: pd.DataFrame) -> Figure:
    """Draw each size's score, with the interval of what it loses, against its texts a second (log axis)."""
    main, drawing = table.columns[0], plt.figure(figsize=(6.5, 3.6), layout="constrained")
    axes = drawing.add_subplot(xscale="log")
    for colour, mark, (name, line) in zip(COLOURS, "so^vD", table.iterrows(), strict=False):
        ends = [[line["high"] - line["lost"]], [line["lost"] - line["low"]]]
        look = {"color": colour, "marker": mark, "ls": "none", "fillstyle": "none", "ms": 9, "capsize": 3}
        axes.errorbar(line["texts/s"], line[main], ends, **look, label=name)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    axes.set(xlabel="texts a second (log scale)", ylabel=f"test {main}")
    axes.set_title("Score and speed of the sizes; bars: 95% interval of what is lost", fontsize="medium")
    axes.legend(loc="best", fontsize="small")
    return finish(drawing)
