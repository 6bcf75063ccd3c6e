"""What texts a model was made for: profile.json beside it, and whether new texts are unlike them.

Only tokens and characters are counted: nothing is computed by the model, so that it costs next to nothing.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from utils import atomic_path, read_json
from utils.findings import Finding, rows_in_words
from utils.inputs import joined, texts_of
from utils.labels import TASKS, decode_labels, rows_of_label
from utils.metrics import decide

FILE = "profile.json"
LEAST, MOST = 30, 1000  # texts compared: fewer say too little, of more every trifle would count
LONGEST = 10_000  # characters of a text that are looked at
# One file of 10,000 that is like the held-out rows is said to be unlike them; all tests together.
ALARM = 1e-4
NAMES = {  # measure -> what is said of the median of the file and of the held-out texts
    "length": "their length: {:.0f} tokens in the middle, not {:.0f}",
    "rarity": "their words: a token in the middle is one of {:,.0f} in training, not of {:,.0f}",
    "new_tokens": "their words: {:.1%} of the tokens never stand in training, not {:.1%}",
    "new_characters": "their characters: {:.1%} of them never stand in training, not {:.1%}",
}


def save_profile(folder: Path, tokenizer, splits, calibration, labels: list[str], task: str) -> None:
    """Write profile.json into the folder of a model.

    It keeps about how often each token occurs in training, which characters do, and of at most 1,000
    validation texts the `measures`, which those of new texts will be compared with; no text. For classes also
    how many validation rows each label is predicted for.

    Args:
        splits: what `split_table` returns. calibration: what `calibrate` returned for the validation rows.
    """
    train, held_out = ([text[:LONGEST] for text in joined(texts_of(rows))] for rows in splits[:2])
    counts = np.zeros(len(tokenizer), dtype=int)
    for ids in _tokens(tokenizer, train):
        np.add.at(counts, ids, 1)
    # how often each token occurs, as a letter: a never, b once, c 2 or 3 times, d 4 to 7 ...
    profile = {"tokens": "".join(chr(97 + int(count).bit_length()) for count in counts)}
    profile |= {"characters": "".join(sorted(set().union(*train))), "rows": len(held_out), "predicted": {}}
    found = measures(profile, tokenizer, [held_out[k] for k in _some(len(held_out))])
    profile["held_out"] = {name: values.tolist() for name, values in found.items()}
    if TASKS[task].classes:
        answers = decide(calibration.probabilities, task, calibration.thresholds)
        predicted = rows_of_label(pd.Series(decode_labels(answers, labels, task)), task)
        profile["predicted"] = {name: int(predicted.get(name, 0)) for name in labels}
    with atomic_path(Path(folder) / FILE) as partial:
        partial.write_text(json.dumps(profile), encoding="utf-8")


def measures(profile: Mapping, tokenizer, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return for each text: `length` in tokens, special ones left out; `rarity`, the surprise of its tokens,
    exp(-mean log share in training), every token counted once more; and the shares of tokens and of
    characters that training never had. A token for unknown pieces counts as one that it never had.
    """
    texts = [text[:LONGEST] for text in texts]
    # the middle of the numbers that a letter stands for
    counts = np.array([0.75 * 2 ** (ord(letter) - 97) if letter > "a" else 0 for letter in profile["tokens"]])
    if tokenizer.unk_token_id is not None:
        counts[tokenizer.unk_token_id] = 0
    surprise, known = -np.log((counts + 1) / (counts.sum() + len(counts))), set(profile["characters"])
    lines = []
    for text, ids in zip(texts, _tokens(tokenizer, texts), strict=True):
        new = sum(character not in known for character in text) / max(len(text), 1)
        rare, never = (surprise[ids].mean(), (counts[ids] == 0).mean()) if len(ids) else (0.0, 0.0)
        lines.append((len(ids), np.exp(rare), never, new))
    return dict(zip(NAMES, np.array(lines, dtype=float).reshape(-1, 4).round(4).T, strict=True))


def unlike(
    folder: str | Path, tokenizer, texts: Sequence[str], rows: Sequence[int], predicted: Mapping[str, int]
) -> list[Finding]:
    """Return a finding where new texts are unlike those that the model in `folder` was made for.

    For each of `measures` the two-sample test of Kolmogorov and Smirnov between these texts and the held-out
    ones, for each label Fisher's exact test of how often it is predicted; all of them together raise one
    false alarm in 10,000 files (`ALARM`, divided by the number of tests: Bonferroni). Of many texts, 1,000
    evenly spread are compared. Silent below 30 texts, and where the folder has no profile.json.

    Args:
        rows: the texts' numbers in their file. predicted: for how many of all texts each label is predicted.
    """
    profile, some = read_json(Path(folder) / FILE), _some(len(texts))
    if not profile.get("held_out") or len(texts) < LEAST:
        return []
    held_out = {name: np.array(values) for name, values in profile["held_out"].items()}
    found = measures(profile, tokenizer, joined([texts[k] for k in some]))
    before = profile["predicted"] if set(profile["predicted"]) == set(predicted) else {}
    tests, seen, strange = len(found) + len(before), [], np.zeros(len(some))
    for name, values in found.items():
        if stats.ks_2samp(held_out[name], values, method="asymp").pvalue < ALARM / tests:
            middle = np.mean if name.startswith("new") else np.median
            seen.append(NAMES[name].format(middle(values), middle(held_out[name])))
            low, centre, high = np.quantile(held_out[name], [0.05, 0.5, 0.95])
            strange = np.maximum(strange, np.abs(values - centre) / max(high - low, 0.01))
    changes = []
    for label, count in before.items():
        shares = count / profile["rows"], predicted[label] / len(texts)
        sizes = zip(shares, (min(profile["rows"], MOST), len(some)), strict=True)
        table = [[round(share * size), size - round(share * size)] for share, size in sizes]
        changes.append((stats.fisher_exact(table).pvalue, label, shares))
    if changes and min(changes)[0] < ALARM / tests:  # the one that has changed most will do
        _, label, shares = min(changes)
        seen.append(f"the answers: {label!r} for {shares[1]:.1%}, not {shares[0]:.1%}")
    if not seen:
        return []
    message = f"These {len(texts):,} texts are unlike those that the model was made for: {'; '.join(seen)}."
    if strange.any():
        worst = np.argsort(-strange, kind="stable")[:10]
        message += f" Most unlike: {rows_in_words([rows[some[k]] for k in worst])}."
    fix = "The test score does not hold for them: look at these rows, label some, and test the model on them."
    return [Finding("unlike-training", "warning", message, fix)]


def _some(number: int) -> np.ndarray:
    """Return the places of all texts, or of MOST evenly spread ones."""
    return np.linspace(0, number - 1, min(number, MOST)).astype(int)


def _tokens(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    if not len(texts):
        return []
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
