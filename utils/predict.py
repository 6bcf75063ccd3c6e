"""Label a new file of texts with a saved model: `python -m utils.predict MODEL FILE OUT`."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils import atomic_path, quote_formula
from utils.answers.doubt import in_doubt
from utils.answers.profile import unlike
from utils.findings import Finding, TableError
from utils.inputs import CHUNK_OF, as_columns, length_sorted_batches, pooled, windows
from utils.inputs.precision import in_float32
from utils.labels import TASKS, decode_labels, rows_of_label
from utils.metrics import decide, probabilities_of
from utils.models import ModelError, add_pad_token, find_model, has_head, longest_input
from utils.reading.files import free_name, in_digits, read_frame, refuse_output
from utils.reading.table import is_blank, locate

PART = 1_000  # texts that have probabilities at a time: 8 MB where there are 1,000 classes
BAR_AFTER = 1  # seconds; a bar for each of many short calls would bury a notebook


class Labelled(NamedTuple):
    """What `predict_file` wrote: file, rows, blank and cut ones, rows by label, remarks of the reader."""

    file: Path
    rows: int
    blank: int
    cut: int
    counts: dict[str, int]
    findings: list[Finding]

    def __str__(self) -> str:
        lines = [f"{self.rows:,} rows written to {self.file.name}."]
        if self.counts:
            ranked = sorted(self.counts.items(), key=lambda item: -item[1])
            words = ", ".join(f"{name} {count:,}" for name, count in ranked[:20])
            lines.append(f"Predicted: {words}{', ...' if len(ranked) > 20 else ''}.")
        if self.blank:
            lines.append(f"{self.blank:,} blank texts have an empty prediction.")
        if self.cut:
            lines.append(f"{self.cut:,} texts are longer than the model reads: it judged a part of each.")
        return "\n".join([*lines, *map(str, self.findings)])


def predict_file(
    model: str | Path,
    data_file: str | Path,
    output_file: str | Path,
    text_column: str = "text",
    batch_size: int = 64,
    max_length: int | None = None,
    device: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    text_pair_column: str | None = None,
) -> Labelled:
    """Label the texts of a table; write its columns, `predicted` and `probability_<label>` for each label.

    `predicted` is what `config.problem_type` says: a label; labels joined by "|" (none: an empty cell); or a
    number, without probabilities. `config.thresholds` and `config.long_texts`, as a run saves them, are used;
    with `config.review_below` a column `review` says which answers a person should look at. Texts unlike
    those of `profile.json`, which a run leaves beside the model, are a finding. A model of pairs reads
    `text_pair_column` (None: the column of that name that it was trained with), too.
    Rows keep their order; one with a blank text has empty cells. An own column called like a new one gets
    "_in_file" appended. `utils.unquote_formula` undoes the apostrophes before what a spreadsheet would run.

    `model` is a folder that a run wrote (safetensors and tokenizer), or whatever else `find_model` takes; the
    table is read as `read_table` does, without a label column; predictions that were in `output_file`, a CSV,
    are replaced. `batch_size` texts of similar length are computed at a time, and cut after `max_length`
    tokens (None: the most that model and tokenizer allow). `device` None takes a GPU if there is one.

    Raises:
        TableError: the table cannot be read, or the output is no CSV or a table that is no earlier output.
        ModelError: there is no such model, it is no classifier, or a batch_size or max_length not for it.
    """
    path, target = locate(data_file), Path(output_file).expanduser()
    refuse_output(target, path, text_column)
    loaded = load_classifier(model, device)
    for name, value, least in (("batch_size", batch_size, 1), ("max_length", max_length, 3)):
        if value is not None and value < least:  # two tokens are special ones
            raise ModelError(f"{name}={value} must be a whole number, {least} or more.")
    max_length = length_limit(loaded, max_length)
    pair = text_pair_column or getattr(loaded[0].config, "text_pair_column", None)
    read = [text_column, pair] if pair else [text_column]
    table, _, findings = read_frame(path, read, encoding=encoding, delimiter=delimiter)

    filled = ~np.logical_or.reduce([is_blank(table[name]) for name in read])
    columns, (task, names) = [table[name][filled].array for name in read], loaded[2:]
    texts = [*zip(*columns, strict=True)] if pair else columns[0]
    added, cut = _added(loaded), 0
    counts = Counter(dict.fromkeys(names, 0) if TASKS[task].classes else {})  # nobody counts a number

    def results() -> Iterator[tuple[tuple, str]]:
        nonlocal cut
        for answers, shares, longer in _answers(loaded, texts, batch_size, max_length):
            cut += longer
            labels = pd.Series([answer[0] for answer in answers])
            counts.update(rows_of_label(labels, task).to_dict() if counts else {})
            yield from zip(answers, in_digits(shares), strict=True)

    own = {name: free_name(f"{name}_in_file", {*table.columns, *added}) for name in added if name in table}
    rows = zip(table.itertuples(index=False, name=None), filled, strict=True)
    answers, blank = results(), ([""] * len(added), "")
    with atomic_path(target) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        line_of = csv.writer(SimpleNamespace(write=str)).writerow  # it returns what `write` does
        file.write(line_of(map(quote_formula, [*table.rename(columns=own).columns, *added])))
        for row, has_text in rows:
            answer, digits = next(answers) if has_text else blank
            cells = ["" if value is None or value != value else value for value in row]  # NaN is not itself
            file.write(line_of(map(quote_formula, [*cells, *answer])).removesuffix("\r\n") + digits + "\r\n")
        next(answers, None)  # ends the bar
    findings += unlike(loaded[0].name_or_path, loaded[1], texts, table.index[filled] + 1, counts)
    return Labelled(target, len(filled), int((~filled).sum()), cut, dict(counts), findings)


def predict_in_order(trainer, rows, prefix: str = "test") -> tuple[np.ndarray, dict[str, float]]:
    """Return a Trainer's logits, shape (rows, outputs), for a tokenised data set in the order of its rows.

    With `train_sampling_strategy="group_by_length"`, `trainer.predict` returns the rows grouped by length:
    the metrics are right, and row 17 is not row 17. Here the rows are sorted, longest first, which pads as
    little, and put back. Beside the logits: the metrics, called `<prefix>_loss`, ... Where the rows are the
    chunks of `utils.inputs.tokenise`, logits and metrics (but the loss) are those of the texts.
    """
    order = np.argsort([-len(ids) for ids in rows["input_ids"]], kind="stable")
    trainer.args.train_sampling_strategy = "random"  # for predict() that means: in the order given
    measure, owner = trainer.compute_metrics, None
    if CHUNK_OF in rows.column_names:
        owner = np.array(rows[CHUNK_OF])
        trainer.compute_metrics = measure and partial(measure, owner=owner[order])
    try:
        with in_float32(trainer.model):
            output = trainer.predict(rows.select(order), metric_key_prefix=prefix)
    finally:
        trainer.compute_metrics = measure
    by_length = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    logits = np.empty_like(by_length)
    logits[order] = by_length
    return logits if owner is None else pooled(logits, owner), output.metrics


def label_texts(loaded, texts: Sequence[str], batch_size: int = 64) -> pd.DataFrame:
    """Return a line a text: text, predicted, review if the model has limits for it, probability_<label>s.

    `loaded` is what `load_classifier` returns. Of pairs, tuples of two texts, there is `text_pair`, too.

    Raises:
        ModelError: the model was trained on pairs, and these are single texts.
    """
    texts = list(texts)
    columns = dict(zip(("text", "text_pair"), as_columns(texts), strict=False))
    if pair := len(texts) and len(columns) == 1 and getattr(loaded[0].config, "text_pair_column", None):
        raise ModelError(f"This model reads pairs: give each text as a tuple, (text, {pair}).")
    answers = _answers(loaded, texts, batch_size, length_limit(loaded))
    rows = [(*told, *row) for many, shares, _ in answers for told, row in zip(many, shares, strict=True)]
    return pd.DataFrame(columns).join(pd.DataFrame(rows, columns=_added(loaded)))


def _added(loaded) -> list[str]:
    """Return the names of the columns with answers."""
    classifier, _, task, names = loaded
    review = ["review"] if getattr(classifier.config, "review_below", None) is not None else []
    return ["predicted", *review, *(f"probability_{name}" for name in names if TASKS[task].classes)]


def length_limit(loaded, max_length: int | None = None) -> int:
    """Return after how many tokens texts are cut: unless told, where the run cut, as its tokenizer says."""
    if max_length:
        longest_input(Path(loaded[0].name_or_path), max_length)  # refuses what is too long
    return max_length or int(loaded[1].model_max_length)


def _answers(loaded, texts: Sequence[str], batch_size: int, max_length: int) -> Iterator[tuple]:
    """Yield for `PART` texts at a time, in order: label and review, shares (texts, classes), number cut."""
    from tqdm.auto import tqdm
    from transformers.utils import logging

    classifier, _, task, names = loaded
    # None shows no bar where nobody watches a terminal; HF_HUB_DISABLE_PROGRESS_BARS=1 shows none anywhere.
    disable = None if logging.is_progress_bar_enabled() else True
    with tqdm(total=len(texts), unit=" texts", desc="Texts", disable=disable, delay=BAR_AFTER) as bar:
        for place in windows(texts):
            window = list(texts[place])
            logits, cut = logits_of(loaded, window, batch_size, max_length, bar)
            for part in np.split(logits, range(PART, len(window), PART)):
                shares = probabilities_of(part, task)
                predicted = decide(shares, task, getattr(classifier.config, "thresholds", None))
                doubts = in_doubt(predicted, shares, classifier.config, names, task)
                columns = [decode_labels(predicted, names, task), *([] if doubts is None else [doubts])]
                shares = shares if TASKS[task].classes else np.empty((len(part), 0))
                yield list(zip(*columns, strict=True)), shares, cut
                cut = 0


def logits_of(loaded, texts: list[str], batch_size: int, max_length: int, bar) -> tuple[np.ndarray, int]:
    """Return the logits, shape (texts, outputs), computed longest first, and how many texts were cut."""
    import torch

    classifier, tokenizer, *_ = loaded
    logits, owner, cut, waiting = [], [], 0, np.ones(len(texts), bool)
    chunks = getattr(classifier.config, "long_texts", "head") == "chunks"  # which lose nothing
    for places, batch, lengths in length_sorted_batches(classifier, tokenizer, texts, batch_size, max_length):
        with torch.inference_mode():
            logits.append(classifier(**batch).logits.float().cpu().numpy())
        owner.append(places)
        bar.update(np.count_nonzero(waiting[np.unique(places)]))
        waiting[places] = False
        # Only what fills the length can have been cut: tokenise it whole to know.
        full = [texts[place] for place in places[lengths == max_length]] if not chunks else []
        whole = tokenizer(*as_columns(full), verbose=False)["input_ids"] if full else []
        cut += sum(len(ids) > max_length for ids in whole)
    return pooled(np.concatenate(logits), np.concatenate(owner)), cut


def load_classifier(model: str | Path, device: str | None = None):
    """Return a saved classifier (in evaluation mode, float32), its tokenizer, its task, its labels in order.

    The tokenizer's `model_max_length` is no more than the model can take.

    Raises:
        ModelError: there is no such model, it has no classification head, or there is no such device.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder, device = find_model(str(model)), device or ("cuda" if torch.cuda.is_available() else "cpu")
    config = AutoConfig.from_pretrained(folder)
    if not has_head(config):
        architectures = ", ".join(config.architectures or ["no architecture named"])
        fault = f"{model} has no classification head ({architectures})"
        raise ModelError(f"{fault}. Fine-tune it first, in template.ipynb.")
    tokenizer = add_pad_token(AutoTokenizer.from_pretrained(folder))
    tokenizer.model_max_length = min(longest_input(folder), int(tokenizer.model_max_length))
    options = {"dtype": torch.float32, "use_safetensors": True}
    classifier = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    if classifier.config.pad_token_id is None:
        classifier.config.pad_token_id = tokenizer.pad_token_id
    guess = "regression" if config.num_labels == 1 else "single_label"  # as Transformers guesses in training
    task = (config.problem_type or guess).removesuffix("_classification")
    names = [config.id2label[k] for k in range(config.num_labels)]
    try:
        return classifier.to(device).eval(), tokenizer, task, names
    except (RuntimeError, AssertionError) as error:  # the second where PyTorch was built without CUDA
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"device={device!r} cannot be used ({reason}). Write cpu.") from None


def main(arguments: Sequence[str] | None = None) -> None:
    about = {"prog": "python -m utils.predict", "description": "Label a file of texts with a saved model."}
    parser = argparse.ArgumentParser(**about)
    add = parser.add_argument
    add("model", help="a folder that a run wrote, such as runs/training/model")
    add("data_file", help="CSV, TSV, JSONL or Parquet, also gzipped")
    add("output_file", help="the CSV to write")
    add("--text-column", default="text", help="the column that holds the texts (default: %(default)s)")
    add("--text-pair-column", help="that of the second texts, of a model of pairs (default: as in training)")
    add("--batch-size", type=int, default=64, help="texts computed at a time (default: %(default)s)")
    add("--max-length", type=int, help="tokens after which a text is cut (default: where training cut)")
    add("--encoding", help="of a CSV (default: recognised)")
    add("--delimiter", help="of a CSV, \\t or tab for a tab (default: recognised)")
    add("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    try:
        print(predict_file(**vars(parser.parse_args(arguments))))
    except (TableError, ModelError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
