"""Label texts, a line each: python answer.py FOLDER [FILE] > answers.csv (of a pair, with a tab between)."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import tokenizers

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def load(folder, threads=0):  # threads: 0 for all cores
    about = json.loads(Path(folder, "answer.json").read_text(encoding="utf-8"))
    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")  # cuts and pads as the model wants
    tokenizer.encode_special_tokens = about["split_special_tokens"]
    if about["long_texts"] == "chunks" and tokenizers.__version__ in ("0.23.1", "0.23.2"):
        raise ImportError("This version of tokenizers loses chunks: pip install 'tokenizers>=0.23.3'.")
    if (graph := Path(folder, "model.onnx")).exists():
        import onnxruntime

        (options := onnxruntime.SessionOptions()).intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        names = [put.name for put in session.get_inputs()]
        return about, tokenizer, lambda ids: session.run(None, {n: ids[NAMES.index(n)] for n in names})[0]
    raw = Path(folder, "model.safetensors").read_bytes()  # a student: a header, then the scores of each token
    scores = np.frombuffer(raw, "<f4", offset=8 + int.from_bytes(raw[:8], "little"))
    scores = scores.reshape(-1, len(about["labels"]))

    def mean_score(ids):
        return np.einsum("rt,rtl->rl", ids[1] / ids[1].sum(1)[:, None], scores[ids[0]])

    return about, tokenizer, mean_score


def logits_of(loaded, texts, batch_size=32):
    (about, tokenizer, run), most = loaded, loaded[0]["max_length"]
    sums, counts = np.zeros((len(texts), len(about["labels"]))), np.zeros((len(texts), 1))
    order = sorted(range(len(texts)), key=lambda k: -len("".join(texts[k])))  # like lengths: little padding
    for places in (order[k : k + batch_size] for k in range(0, len(order), batch_size)):
        rows, owner = [], []
        for k, first in zip(places, tokenizer.encode_batch([texts[k] for k in places]), strict=True):
            rows += (found := [first, *first.overflowing] if about["long_texts"] == "chunks" else [first])
            owner += [k] * len(found)
        ids = np.array(
            [[getattr(row, name) for row in rows] for name in ("ids", "attention_mask", "type_ids")]
        )
        if about["long_texts"] == "head_tail":  # both ends stay
            place = np.arange(min(most, ids.shape[2]))
            skipped = np.maximum(ids[1].sum(1)[:, None] - most, 0) * (place >= most // 2)
            ids = np.take_along_axis(ids, (place + skipped)[None], axis=2)
        np.add.at(sums, owner, run(ids))  # the answer to a text is the mean over its chunks
        np.add.at(counts, owner, 1)
    return sums / counts / about["temperature"]


def answers(about, logits):  # labels (of a regression, numbers) and the probability of each label
    names, shares = np.array(about["labels"], object), 1 / (1 + np.exp(-logits))
    if about["task"] == "regression":
        return [f"{value:.6g}" for value in logits[:, 0]], logits[:, :0]
    if about["task"] == "multi_label":
        return ["|".join(names[row]) for row in shares >= (about["thresholds"] or 0.5)], shares
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return names[shares.argmax(axis=1)], shares / shares.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    about, *_ = loaded = load(sys.argv[1])
    read = Path(sys.argv[2]).read_text(encoding="utf-8") if sys.argv[2:] else sys.stdin.read()
    lines = read.removesuffix("\n").split("\n")
    texts = [tuple(line.split("\t")) for line in lines] if about["pairs"] else lines
    labels, shares = answers(about, logits_of(loaded, texts))
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write(["predicted", *(f"probability_{name}" for name in about["labels"])][: 1 + shares.shape[1]])
    for label, row in zip(labels, shares.round(6).tolist(), strict=True):
        write([label, *row])
