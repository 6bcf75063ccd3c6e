"""Label a new file of texts with a saved model: `python -m utils.predict MODEL FILE OUT --text-column text`."""

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import atomic_path, quote_formula
from utils.findings import Finding, TableError
from utils.labels import decode_labels
from utils.metrics import decide, probabilities_of
from utils.models import ModelError, find_model, head_and_tail, longest_input
from utils.reading.files import free_name, read_frame
from utils.reading.table import locate

WINDOW = (
    20_000  # texts that are tokenised and sorted at a time: enough to pad little, few enough for any memory
)


class Labelled(NamedTuple):
    """What `predict_file` did: where it wrote, how many rows, how many of them blank and cut, rows by predicted label, remarks of the reader."""

    file: Path
    rows: int
    blank: int
    cut: int
    counts: dict[str, int]
    findings: list[Finding]

    def __str__(self) -> str:
        said = [f"{self.rows:,} rows written to {self.file.name}."]
        if self.counts:
            shown = sorted(self.counts.items(), key=lambda item: -item[1])
            said.append(
                f"Predicted: {', '.join(f'{name} {count:,}' for name, count in shown[:20])}{', ...' if len(shown) > 20 else ''}."
            )
        if self.blank:
            said.append(f"{self.blank:,} blank texts have an empty prediction.")
        if self.cut:
            said.append(
                f"{self.cut:,} texts are longer than the model reads and were judged by a part of them."
            )
        return "\n".join([*said, *map(str, self.findings)])


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
) -> Labelled:
    """Label every text of a table and write a CSV: the table's own columns, then `predicted` and `probability_<label>` for each label.

    What `predicted` is, the model's config says (`problem_type`): one label; any number of labels joined by "|" (none: an empty cell); or, for regression, a
    number, and then there are no probabilities. `config.thresholds` and `config.long_texts`, as 04 saves them, are used. Rows stand in the order of the file. A row with
    a blank text stays and has empty cells. The file appears whole or not at all; predictions that were there are replaced.

    Cells and names of columns that a spreadsheet would run as a formula get an apostrophe in front (`utils.quote_formula`); to undo that exactly:
    `pandas.read_csv(output_file, dtype=str, keep_default_na=False).map(utils.unquote_formula).rename(columns=utils.unquote_formula)`. An own column
    called like one of the new ones gets "_in_file" appended.

    Args:
        model: a folder that 04 wrote (safetensors and tokenizer), or whatever else `find_model` takes.
        data_file: CSV, TSV, JSONL or Parquet, as for `read_table`; no label column is needed.
        batch_size: texts computed at a time. They are sorted by length, the longest first, so that little is padded.
        max_length: tokens after which a text is cut; None takes the most that model and tokenizer allow: what the model was trained with, if 04 saved it.
        device: such as "cpu" or "cuda"; None takes a GPU if there is one.
        encoding, delimiter: as for `read_table`; None recognises them.

    Raises:
        TableError: the table cannot be read, or the output is no CSV, or would overwrite the table or another one that has texts and no predictions.
        ModelError: there is no such model, it is not a text classifier, or batch_size or max_length is none for it.
    """
    path, target = locate(data_file), Path(output_file).expanduser()
    if target.suffix.lower() != ".csv":
        raise TableError(
            f"{target.name}: the predictions are written as CSV. Give an output file that ends in .csv."
        )
    if target.is_dir() or (target.exists() and target.samefile(path)):
        raise TableError(
            f"{target.name} {'is a folder' if target.is_dir() else 'is the table itself'}. Give another output file."
        )
    if target.exists():
        with open(target, encoding="utf-8-sig", errors="replace") as file:
            header = re.split(r'[,;|\t\n"]', file.readline())
        if (
            text_column in header and "predicted" not in header
        ):  # somebody's data, as where the two files were swapped
            raise TableError(
                f"{target.name} is there already, a table with texts in {text_column!r} and no predictions. Give another output file."
            )
    classifier, tokenizer, task, names = load_classifier(model, device)
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("max_length", max_length, 3),
    ):  # of tokens, two are special ones
        if value is not None and value < least:
            raise ModelError(f"{name}={value} must be a whole number, {least} or more.")
    folder = Path(classifier.name_or_path)
    limit = longest_input(folder)
    if max_length is not None and max_length > limit:
        raise ModelError(
            f"max_length={max_length} is more than the {limit} tokens that {model} takes. Lower it."
        )
    max_length = max_length or longest_input(folder, tokenizer)
    table, _, findings = read_frame(path, [text_column], encoding=encoding, delimiter=delimiter)

    texts = table[text_column].tolist()
    filled = [k for k, text in enumerate(texts) if text.strip()]
    logits, cut = _logits(classifier, tokenizer, [texts[k] for k in filled], batch_size, max_length)
    probabilities = probabilities_of(logits, task)
    answers = decide(probabilities, task, getattr(classifier.config, "thresholds", None))
    words = decode_labels(answers, names, task)

    shares = probabilities[:, None][:, :0] if task == "regression" else probabilities  # a number has none
    added = ["predicted"] + ([] if task == "regression" else [f"probability_{name}" for name in names])
    place = np.full(len(texts), -1)  # of each row's answer
    place[filled] = np.arange(len(filled))
    table = table.rename(
        columns={
            name: free_name(f"{name}_in_file", {*table.columns, *added}) for name in added if name in table
        }
    )
    with atomic_path(target) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([quote_formula(name) for name in [*table.columns, *added]])
        for k, row in zip(place, table.itertuples(index=False, name=None), strict=True):
            own = (
                "" if value is None or value != value else value for value in row
            )  # only NaN differs from itself
            answer = [words[k], *(f"{p:.6f}" for p in shares[k])] if k >= 0 else [""] * len(added)
            writer.writerow([quote_formula(cell) for cell in (*own, *answer)])
    counts = {}
    if task == "multi_label":
        counts = {name: int(answers[:, k].sum()) for k, name in enumerate(names)}
    elif task == "single_label":
        counts = {name: int((answers == k).sum()) for k, name in enumerate(names)}
    return Labelled(target, len(texts), len(texts) - len(filled), cut, counts, findings)


def load_classifier(model: str | Path, device: str | None = None):
    """Return a saved classifier (in evaluation mode, float32), its tokenizer, its task and the names of its labels in the order of its outputs.

    Raises:
        ModelError: there is no such model, it has no classification head, or there is no such device.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder = find_model(str(model))
    config = AutoConfig.from_pretrained(folder)
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
        raise ModelError(
            f"{model} has no classification head ({', '.join(config.architectures or ['no architecture named'])}). Fine-tune it first (notebook 04)."
        )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classifier = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and its kin were trained without padding
    if classifier.config.pad_token_id is None:
        classifier.config.pad_token_id = tokenizer.pad_token_id
    kind = config.problem_type or (
        "regression" if config.num_labels == 1 else "single_label_classification"
    )  # as Transformers guesses in training
    task = kind.removesuffix("_classification")
    names = [config.id2label[k] for k in range(config.num_labels)]
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return classifier.to(place).eval(), tokenizer, task, names
    except (RuntimeError, AssertionError) as error:  # the second where PyTorch was built without CUDA
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"device={place!r} cannot be used ({reason[:200]}). Write cpu.") from None


def embed(
    texts: Sequence[str],
    checkpoint: str | Path,
    batch_size: int = 64,
    max_length: int = 128,
    device: str | None = None,
) -> np.ndarray:
    """Return a vector for each text: the mean of the checkpoint's last hidden states over the tokens. Nothing is trained.

    Args:
        checkpoint: a folder of `find_model`, best the one that you start fine-tuning from.

    Returns:
        float32, shape (len(texts), hidden size), in the order of the texts.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    encoder = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True).eval()
    if encoder.config.is_encoder_decoder:
        encoder = encoder.get_encoder()  # the other half of T5 asks for an answer to go on from
    encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    vectors = np.zeros((len(texts), encoder.config.hidden_size), dtype=np.float32)
    for places, batch, _ in length_sorted_batches(tokenizer, list(texts), batch_size, max_length):
        with torch.inference_mode():
            hidden = encoder(**batch.to(encoder.device)).last_hidden_state
        mask = batch["attention_mask"][..., None]
        vectors[places] = ((hidden * mask).sum(dim=1) / mask.sum(dim=1)).cpu().numpy()
    return vectors


def _logits(
    classifier, tokenizer, texts: list[str], batch_size: int, max_length: int
) -> tuple[np.ndarray, int]:
    """Return the logits, shape (len(texts), outputs), in the order of the texts, and how many texts were cut."""
    import torch

    logits, cut = np.zeros((len(texts), classifier.config.num_labels), dtype=np.float32), 0
    for places, batch, longer in length_sorted_batches(
        tokenizer, texts, batch_size, max_length, getattr(classifier.config, "long_texts", "head")
    ):
        with torch.inference_mode():
            logits[places] = classifier(**batch.to(classifier.device)).logits.float().cpu().numpy()
        cut += longer
    return logits, cut


def length_sorted_batches(
    tokenizer, texts: list[str], batch_size: int, max_length: int, long_texts: str = "head"
) -> Iterator[tuple[np.ndarray, dict, int]]:
    """Tokenise and yield batches of texts of similar length, the longest of each window first, with a progress bar.

    Yields:
        the texts' places in `texts`, the padded tensors, and how many of them were cut.
    """
    from tqdm.auto import tqdm
    from transformers.utils import logging

    # None shows no bar where nobody watches a terminal; HF_HUB_DISABLE_PROGRESS_BARS=1 shows none anywhere.
    with tqdm(
        total=len(texts),
        unit=" texts",
        desc="Texts",
        disable=None if logging.is_progress_bar_enabled() else True,
    ) as bar:
        for start in range(0, len(texts), WINDOW):
            window = texts[start : start + WINDOW]
            both = long_texts == "head_tail"
            encoded = (
                head_and_tail(tokenizer, window, max_length)
                if both
                else tokenizer(window, truncation=True, max_length=max_length)
            )
            lengths = np.array([len(ids) for ids in encoded["input_ids"]])
            order = np.argsort(-lengths, kind="stable")
            for first in range(0, len(order), batch_size):
                places = order[first : first + batch_size]
                batch = tokenizer.pad(
                    {name: [encoded[name][k] for k in places] for name in encoded}, return_tensors="pt"
                )
                full = [
                    start + k for k in places if lengths[k] == max_length
                ]  # only these can have been cut; tokenise them whole to know
                longer = (
                    sum(
                        len(ids) > max_length
                        for ids in tokenizer([texts[k] for k in full], verbose=False)["input_ids"]
                    )
                    if full
                    else 0
                )
                yield places + start, batch, longer
                bar.update(len(places))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m utils.predict", description="Label a file of texts with a saved model."
    )
    parser.add_argument("model", help="a folder that notebook 04 wrote, such as runs/training/model")
    parser.add_argument("data_file", help="CSV, TSV, JSONL or Parquet, also gzipped")
    parser.add_argument("output_file", help="the CSV to write")
    parser.add_argument(
        "--text-column", default="text", help="the column that holds the texts (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="texts computed at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--max-length", type=int, help="tokens after which a text is cut (default: all that the model takes)"
    )
    parser.add_argument("--encoding", help="of a CSV (default: recognised)")
    parser.add_argument("--delimiter", help="of a CSV, \\t or tab for a tab (default: recognised)")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    try:
        print(predict_file(**vars(parser.parse_args(arguments))))
    except (TableError, ModelError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
