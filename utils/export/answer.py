"""Label texts, a line each: python answer.py FOLDER [FILE] > answers.csv (a pair has a tab between)."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def load(folder, threads=0):
    """Return what `logits_of` takes: what is known of the model, its tokenizer, and a function of tokens."""
    about = json.loads(Path(folder, "answer.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))  # it cuts and pads
    tokenizer.encode_special_tokens = about["split_special_tokens"]
    if (graph := Path(folder, "model.onnx")).exists():
        import onnxruntime

        (options := onnxruntime.SessionOptions()).intra_op_num_threads = threads  # 0: all cores
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        names = [put.name for put in session.get_inputs()]
        return about, tokenizer, lambda ids: session.run(["logits"], {name: ids[name] for name in names})[0]
    raw = Path(folder, "model.safetensors").read_bytes()  # the student's: a header, then scores by token
    scores = np.frombuffer(raw, "<f4", offset=8 + int.from_bytes(raw[:8], "little"))
    scores = scores.reshape(-1, len(about["labels"]))

    def mean(rows):
        mask = rows["attention_mask"][..., None]
        return (scores[rows["input_ids"]] * mask).sum(axis=1) / mask.sum(axis=1)

    return about, tokenizer, mean


def logits_of(loaded, texts, batch_size=32):
    """Return the logits, calibrated: shape (texts, labels)."""
    (about, tokenizer, run), most = loaded, loaded[0]["max_length"]
    sums, rows = np.zeros((2, len(texts), len(about["labels"])))
    order = sorted(range(len(texts)), key=lambda k: -len("".join(texts[k])))  # like lengths: little padding
    for places in (order[k : k + batch_size] for k in range(0, len(order), batch_size)):
        firsts = tokenizer.encode_batch([texts[k] for k in places])
        chunks = about["long_texts"] == "chunks"
        found = [[first, *first.overflowing] if chunks else [first] for first in firsts]
        owner = [k for k, some in zip(places, found, strict=True) for _ in some]
        found = sum(found, [])
        ids = np.array([[row.ids, row.attention_mask, row.type_ids] for row in found])
        if about["long_texts"] == "head_tail":  # both ends stay
            place = np.arange(min(most, ids.shape[2]))
            left_out = np.maximum(ids[:, 1].sum(axis=1, keepdims=True) - most, 0) * (place >= most // 2)
            ids = np.take_along_axis(ids, (place + left_out)[:, None], axis=2)
        columns = dict(
            zip(("input_ids", "attention_mask", "token_type_ids"), ids.swapaxes(0, 1), strict=True)
        )
        np.add.at(sums, owner, run(columns))  # the answer to a text is the mean of its chunks'
        np.add.at(rows, owner, 1)
    return sums / rows / about["temperature"]


def answers(about, logits):
    """Return predicted labels (of a regression: numbers), and the probabilities of all labels."""
    names = np.array(about["labels"], object)
    if about["task"] == "regression":
        return [f"{value:.6g}" for value in logits[:, 0]], logits[:, :0]
    if about["task"] == "multi_label":
        shares = 1 / (1 + np.exp(-logits))
        return ["|".join(names[row]) for row in shares >= (about["thresholds"] or 0.5)], shares
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return names[shares.argmax(axis=1)], shares / shares.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    loaded = load(sys.argv[1])
    read = Path(sys.argv[2]).read_text(encoding="utf-8") if sys.argv[2:] else sys.stdin.read()
    lines = read.removesuffix("\n").split("\n")
    texts = [tuple(line.split("\t")) for line in lines] if loaded[0]["pairs"] else lines
    predicted, shares = answers(loaded[0], logits_of(loaded, texts))
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write(["predicted", *(f"probability_{name}" for name in loaded[0]["labels"])][: 1 + shares.shape[1]])
    for name, row in zip(predicted, shares.round(6), strict=True):
        write([name, *row])
