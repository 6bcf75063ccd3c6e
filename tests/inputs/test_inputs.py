"""Texts as rows of tokens: chunks and what is made of their answers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from builders import TOKENIZER, bert, gpt2_tokenizer, roberta_tokenizer, tokenizer_of, trainer_for
from builders import texts_of as made_texts
from datasets import ClassLabel, Dataset, DatasetDict, List, Value

import utils.baselines
from utils import inputs
from utils.baselines import embed, without_model, write_suspicious
from utils.data import TableError, read_table, split_table
from utils.findings import ModelError
from utils.inputs import CHUNK_OF, encode, pooled, texts_of, tokenise, windows
from utils.labels import decode_labels
from utils.lessons.template import ask
from utils.metrics import compute_metrics_for, decide, probabilities_of
from utils.parameters import ParameterError, check_parameters
from utils.predict import label_texts, load_classifier, predict_file, predict_in_order
from utils.predict import main as label_file
from utils.preflight import preflight

LENGTH = 12
FEATURES = {"single_label": ClassLabel(names=["a", "b"]), "multi_label": List(Value("float32"))}
LABELS = {"single_label": [0, 1], "multi_label": [[1.0, 0.0], [1.0, 1.0]], "regression": [0.5, -2.0]}


def dataset(rows=30, task="single_label", seed=0, texts=None):
    """A split of texts of 3 to 60 words; labels by turns."""
    texts = texts or made_texts(rows, seed, 3, 60)
    data = Dataset.from_dict({"text": texts, "label": [LABELS[task][k % 2] for k in range(len(texts))]})
    return data.cast_column("label", FEATURES.get(task, Value("float32")))


def chunked(task="single_label", **texts):
    splits = {"train": 30, "validation": 12, "test": 13}
    parts = {name: dataset(n, task, n, texts.get(name)) for name, n in splits.items()}
    return DatasetDict(parts), tokenise(DatasetDict(parts), TOKENIZER, LENGTH, "chunks")


def trainer_of(folder, rows, task="single_label", **how):
    """A Trainer as the template makes it for chunks."""
    kind = {"single_label": "single_label_classification", "multi_label": "multi_label_classification"}
    model = bert(1 if task == "regression" else ["a", "b"], problem_type=kind.get(task, task))
    torch.manual_seed(1)
    torch.nn.init.normal_(model.classifier.weight, std=2)  # answers that differ
    model.config.long_texts = "chunks"
    how |= {"compute_metrics": compute_metrics_for(task, rows["validation"][CHUNK_OF])}
    best = {"metric_for_best_model": "pearson"} if task == "regression" else {}
    splits = {"train": rows["train"], "held_out": rows["validation"]}
    return trainer_for(folder, model=model, **splits, **best, **how)


def by_hand(model, texts):
    """The mean of the logits of each text's chunks, one chunk at a time."""
    means, inner = [], LENGTH - 2
    for text in texts:
        ids = TOKENIZER(text, add_special_tokens=False, truncation=False)["input_ids"]
        starts = range(0, max(1, len(ids) - LENGTH // 4), inner - LENGTH // 4)
        chunks = [[2, *ids[start : start + inner], 3] for start in starts]
        with torch.no_grad():
            logits = [model(torch.tensor([chunk], device=model.device)).logits[0].cpu() for chunk in chunks]
        means.append(torch.stack(logits).mean(dim=0).numpy())
    return np.array(means)


@pytest.mark.parametrize(("tokenizer", "length"), [(TOKENIZER, 9), (TOKENIZER, 3), (roberta_tokenizer(), 16)])
def test_chunks_lose_no_word_and_repeat_a_quarter(tokenizer, length):
    texts = made_texts(20, 3, 1, 50)
    rows, owner = encode(texts, tokenizer, length, "chunks")
    for place, text in enumerate(texts):
        chunks = [rows["input_ids"][k][1:-1] for k in np.flatnonzero(owner == place)]
        assert max(map(len, chunks)) <= length - 2
        again = chunks[0] + [token for chunk in chunks[1:] for token in chunk[length // 4 :]]
        assert again == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_of_a_very_long_text_some_chunks_train_evenly_spread():
    texts = [" ".join(f"w{k}" for k in range(190)), "w1 w2", " ".join(f"w{k}" for k in range(30))]
    every, owner = encode(texts, TOKENIZER, 7, "chunks")
    some, kept = encode(texts, TOKENIZER, 7, "chunks", most=5)
    long = [ids for ids, of in zip(every["input_ids"], owner, strict=True) if of == 0]
    places = [long.index(ids) for ids, of in zip(some["input_ids"], kept, strict=True) if of == 0]
    assert places[0] == 0
    assert np.ptp(np.diff([*places, len(long)])) <= 1
    assert np.bincount(kept).tolist() == [5, 1, 5]
    assert len(some["attention_mask"]) == 11


def test_answers_are_averaged_whatever_the_order():
    draw = np.random.default_rng(5)
    owner = draw.permutation(np.repeat(np.arange(9), draw.integers(1, 6, 9)))
    values = draw.normal(size=(len(owner), 3)).astype(np.float32)
    assert pooled(values, owner) == pytest.approx(pd.DataFrame(values).groupby(owner).mean().to_numpy())
    assert pooled(values, owner).dtype == np.float32
    alone = np.argsort(owner, kind="stable")
    assert (pooled(values, np.argsort(alone)) == values[alone]).all()  # one row each: nothing is rounded


def test_long_texts_come_in_smaller_windows(monkeypatch):
    monkeypatch.setattr(inputs, "WINDOW", 4)
    monkeypatch.setattr(inputs, "CHARACTERS", 100)
    texts = ["x" * n for n in [1, 2, 3, 4, 5, 60, 60, 60, 250, 1, 1, 1, 1, 1, 1]]
    parts = [texts[place] for place in windows(texts)]
    assert sum(parts, []) == texts
    assert max(map(len, parts)) <= 4
    assert all(sum(map(len, part[1:])) <= 100 for part in parts)
    assert list(windows([])) == []


def test_a_row_is_a_chunk_and_knows_its_text_also_behind_a_thousand():
    part = dataset(1003, texts=[f"w1 w{k % 150}" for k in range(1001)] + [f"{'w9 ' * 500}", "w7 " * 20])
    made = tokenise(DatasetDict(train=part, test=part), TOKENIZER, LENGTH, "chunks")
    assert made["train"].features["label"] == part.features["label"]
    assert "text" not in made["train"].column_names
    counts = np.bincount(made["train"][CHUNK_OF])
    assert (len(counts), counts[:1001].max(), counts[1001], counts[1002]) == (1003, 1, 8, 3)
    assert np.bincount(made["test"][CHUNK_OF])[1001] == len(encode(["w9 " * 500], TOKENIZER, 12, "chunks")[1])
    owner = np.array(made["test"][CHUNK_OF])
    assert made["test"]["label"][:] == [part["label"][int(k)] for k in owner]


def test_a_tokenizer_that_makes_no_chunks_is_refused():
    with pytest.raises(ModelError, match="SimpleNamespace makes no chunks.*head_tail"):
        encode(["a"], SimpleNamespace(is_fast=False), 8, "chunks")


@pytest.mark.parametrize("version", ["0.23.1", "0.23.2"])
def test_a_tokenizer_that_loses_chunks_is_refused(monkeypatch, version):
    monkeypatch.setattr("tokenizers.__version__", version)
    with pytest.raises(ModelError, match="loses chunks: pip install 'tokenizers>=0.23.3'"):
        encode(["a"], TOKENIZER, 8, "chunks")


@pytest.mark.parametrize("task", LABELS)
def test_scores_and_answers_are_those_of_texts(tmp_path, task):
    whole, rows = chunked(task)
    trainer = trainer_of(tmp_path, rows, task)
    model = trainer.model.eval()
    for name, measured in (("validation", trainer.evaluate()), ("test", None)):
        expected = by_hand(model, whole[name]["text"])
        logits, metrics = predict_in_order(trainer, rows[name], "eval")
        assert logits == pytest.approx(expected, abs=1e-5)
        own = compute_metrics_for(task)
        texts = SimpleNamespace(predictions=expected, label_ids=np.array(whole[name]["label"]))
        for scores in filter(None, (measured, metrics)):
            assert {key: scores[f"eval_{key}"] for key in own(texts)} == pytest.approx(own(texts), abs=1e-4)
    model.save_pretrained(tmp_path / "m")
    tokenizer_of(model_max_length=LENGTH).save_pretrained(tmp_path / "m")
    answers = label_texts(
        load_classifier(tmp_path / "m", trainer.args.device.type), whole["test"]["text"][:], batch_size=5
    )
    names = ["value"] if task == "regression" else ["a", "b"]
    predicted = decode_labels(decide(probabilities_of(logits, task), task), names, task)
    assert answers["predicted"].tolist() == predicted
    if task != "regression":
        shares = answers[["probability_a", "probability_b"]].to_numpy(float)
        assert shares == pytest.approx(probabilities_of(logits, task), abs=1e-5)


def test_a_healthy_trainer_of_chunks_has_no_finding_and_equal_chunks_are_a_warning(tmp_path):
    _, rows = chunked()
    assert preflight(trainer_of(tmp_path, rows), test_dataset=rows["test"]).findings == []
    letter = f" {'w3 w4 w5 w6 w7 w8 w9 w10 ' * 5}"
    texts = {
        "train": [t + letter for t in made_texts(30, 1, 7)],
        "test": [t + letter for t in made_texts(9, 2, 7)],
    }
    _, rows = chunked(**texts)
    found = preflight(trainer_of(tmp_path, rows), test_dataset=rows["test"]).findings
    assert {(finding.id, finding.level) for finding in found} == {("split-leak", "warning")}


def test_the_embedding_of_a_text_is_the_mean_of_its_chunks(monkeypatch):
    monkeypatch.setattr(utils.baselines, "has_bf16", lambda: False)  # digits enough to compare
    model, texts = bert(), made_texts(7, 4, 2, 40)
    model.config.long_texts = "chunks"
    rows, owner = encode(texts, TOKENIZER, LENGTH, "chunks")
    cut = bert().eval()
    with torch.no_grad():
        means = [
            cut(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].mean(dim=0).numpy()
            for ids in rows["input_ids"]
        ]
    expected = pd.DataFrame(means).groupby(owner).mean().to_numpy()
    assert embed(model, TOKENIZER, texts, LENGTH) == pytest.approx(expected, abs=1e-5)


# --- pairs --------------------------------------------------------------------------------------------------

PAIRS = [("w1 w2", "w3"), ("w4", "w5 w6 w7"), ("w8 " * 9, "w9 w10")]


def paired(folder, **note):
    """Save a model of pairs whose answers differ, and load it."""
    model = bert(["a", "b"], initializer_range=0.5, **note)
    model.save_pretrained(folder)
    tokenizer_of(model_max_length=LENGTH).save_pretrained(folder)
    return load_classifier(folder, "cpu")


@pytest.mark.parametrize("tokenizer", [TOKENIZER, roberta_tokenizer()])
def test_pairs_are_the_tokenizers_own_and_the_longer_text_is_cut(tokenizer):
    rows, _ = encode(PAIRS, tokenizer, LENGTH)
    for k, (one, two) in enumerate(PAIRS):
        assert rows["input_ids"][k] == tokenizer(one, two, truncation=True, max_length=LENGTH)["input_ids"]
    assert tokenizer.convert_tokens_to_ids("w10") in rows["input_ids"][2]


def test_pairs_without_a_separator_and_in_chunks_are_refused():
    with pytest.raises(ModelError, match="puts nothing between the two texts.*RoBERTa"):
        encode(PAIRS, gpt2_tokenizer(), LENGTH)
    for way in ("chunks", "head_tail"):
        with pytest.raises(ModelError, match=f"long_texts='{way}' is for single texts"):
            encode(PAIRS, TOKENIZER, LENGTH, way)
    with pytest.raises(ParameterError, match="text_pair_column needs long_texts='head'"):
        both = {"text_pair_column": "answer", "long_texts": "chunks"}
        check_parameters(both, ["text_pair_column", "long_texts"])


def pairs_file(folder, name="pairs.csv", **columns):
    columns = {"q": ["w1", "w1", "w2", "W2", "w3"], "a": ["w4", "w5", "w6", "w6 ", ""]} | columns
    pd.DataFrame(columns).to_csv(folder / name, index=False)
    return folder / name


def test_a_pair_is_a_row_and_repeats_only_as_a_whole(tmp_path):
    path = pairs_file(tmp_path, label=list("xyxxy"), text_pair=list("01234"))
    table = read_table(path, "q", text_pair_column="a", max_dropped=1)
    assert list(table.rows) == ["row", "text", "text_pair", "label", "text_pair_in_file"]
    assert table.dropped["blank_text"] == 1
    assert "row 5 blank in column 'q' or 'a'" in table.findings[0].message
    more = [table.rows.assign(text=table.rows["text"] + f" w{k}", row=0) for k in range(9)]
    splits = split_table(table._replace(rows=pd.concat([table.rows, *more], ignore_index=True)))
    rows = pd.concat(splits[:3])
    assert (splits.dropped["repeated_text"], splits.dropped["conflicting_labels"]) == (10, 0)
    assert texts_of(rows).is_unique
    assert rows["text"].duplicated().sum() == 10  # the first two questions are one
    alone = read_table(path, "q", max_dropped=1)
    assert texts_of(alone.rows).tolist() == ["w1", "w1", "w2", "W2", "w3"]
    assert "text_pair" not in alone.rows
    with pytest.raises(TableError, match="text_pair_column='q' is also"):
        read_table(path, "q", text_pair_column="q")


def test_baselines_see_both_texts(tmp_path):
    draw = np.random.default_rng(3)
    firsts, labels = made_texts(120, length=2), draw.integers(0, 2, 120)
    pairs = [
        (first, "yes it is" if label else "no never") for first, label in zip(firsts, labels, strict=True)
    ]
    found = without_model(pairs[:90], labels[:90], pairs[90:])
    assert (found["tfidf_logreg"].predicted == labels[90:]).mean() > 0.9
    means = embed(bert(), TOKENIZER, [("w1", "w2"), ("w1", "w3")], 9)
    assert np.abs(means[0] - means[1]).max() > 0.01
    rows = pd.DataFrame({"row": range(90), "text": "w1", "text_pair": [two for _, two in pairs[:90]]})
    rows["label"] = np.where(labels[:90], "yes", "no")
    rows.loc[17, "label"] = "no" if labels[17] else "yes"
    assert write_suspicious(tmp_path, rows, "single_label")["row"].tolist()[:1] == [17]


def test_a_file_of_pairs_is_labelled_by_the_column_that_trained(tmp_path):
    loaded = paired(tmp_path / "m", text_pair_column="a")
    path = pairs_file(tmp_path)
    done = predict_file(tmp_path / "m", path, tmp_path / "out.csv", text_column="q")
    found = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert (done.blank, found["predicted"].tolist()[-1]) == (1, "")
    pairs = [("w1", "w4"), ("w1", "w5"), ("w2", "w6")]
    answers = label_texts(loaded, pairs)
    assert answers["text_pair"].tolist() == ["w4", "w5", "w6"]
    both = TOKENIZER(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    with torch.no_grad():
        shares = loaded[0](**both).logits.softmax(dim=1)[:, 0].numpy()
    assert found["probability_a"][:3].astype(float).to_numpy() == pytest.approx(shares, abs=2e-6)
    assert answers["probability_a"].to_numpy() == pytest.approx(shares, abs=1e-6)
    assert abs(shares[0] - shares[1]) > 1e-3  # the second text counts
    for call in (predict_file, lambda *args, **how: label_file([*map(str, args), "--text-column", "q"])):
        with pytest.raises((TableError, SystemExit), match="no column 'a'"):
            single = pairs_file(tmp_path, "single.csv").read_text().replace("q,a", "q,b")
            (tmp_path / "single.csv").write_text(single)
            call(tmp_path / "m", tmp_path / "single.csv", tmp_path / "o.csv", text_column="q")
    named = ["--text-column", "q", "--text-pair-column", "b"]
    label_file([*map(str, (tmp_path / "m", tmp_path / "single.csv", tmp_path / "o.csv")), *named])
    assert pd.read_csv(tmp_path / "o.csv")["probability_a"].to_numpy()[:3] == pytest.approx(shares, abs=2e-6)
    with pytest.raises(ModelError, match=r"reads pairs.*\(text, a\)"):
        label_texts(loaded, ["w1"])
    box = ask(loaded, ("w1", "w4"))
    first, box.text_pair.value = box.answer.value, "w5 w6"
    assert first != box.answer.value != "Type a sentence."
