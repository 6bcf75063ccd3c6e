"""A new file of texts, labelled: order, blank rows, the three tasks, formulas, files that cannot be used."""

import csv
import gzip
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    XLNetConfig,
    XLNetForSequenceClassification,
    pipeline,
    set_seed,
)
from transformers.utils import logging

from utils import inputs, predict, quote_formula, unquote_formula
from utils.data import TableError
from utils.models import ModelError, find_model
from utils.predict import label_texts, load_classifier, main, predict_file, predict_in_order
from utils.reading.files import in_digits

TEXTS = ["a good film", " ", "=SUM(A1:A9)", "bad " * 30, "", 'so-so, "they" said\nand left', "good", "😀 ok"]


def tiny(folder, names=("bad", "good", "x,y"), problem_type="single_label_classification", **extra):
    """Save a classifier with random weights, big enough ones that texts get different answers."""
    set_seed(1)
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, initializer_range=0.5, num_labels=len(names), problem_type=problem_type,
        id2label=dict(enumerate(names)), label2id={name: k for k, name in enumerate(names)}, **extra,
    )  # fmt: skip
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    AutoTokenizer.from_pretrained(find_model("minilm-l6")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("model") / "m")


def table(folder, texts=TEXTS, name="in.csv", **columns):
    path = folder / name
    pd.DataFrame({"id": range(len(texts)), "text": texts} | columns).to_csv(path, index=False)
    return path


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- formulas in cells --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+cmd",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\rx",
        "-",
        "--1",
        "'=1",
        "''@x",
        "+",
        "-3 stars",
        "=",
        "-1,5",
    ],
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell):
    assert quote_formula(cell) == "'" + cell
    assert unquote_formula(quote_formula(cell)) == cell


@pytest.mark.parametrize(
    "cell", ["-3.5", "+1", "-.5e-3", "3", "", "a=b", "it's", "'quoted'", " =1", 5, -2.5, None, True]
)
def test_everything_else_stays_as_it_is(cell):
    assert quote_formula(cell) is cell
    assert unquote_formula(cell) is cell


@given(st.text(alphabet="='+-@\t\ra1.", max_size=6))
@settings(deadline=None)
def test_quoting_can_always_be_undone_and_always_protects(cell):
    quoted = quote_formula(cell)
    assert unquote_formula(quoted) == cell
    try:
        number = float(quoted) is not None
    except ValueError:
        number = False
    assert number or not quoted.startswith(("=", "+", "-", "@", "\t", "\r"))


# --- predict_file -------------------------------------------------------------------------------------------


def test_rows_keep_their_order_and_their_columns_and_blank_texts_stay(model, tmp_path):
    done = predict_file(model, table(tmp_path), tmp_path / "out" / "p.csv", batch_size=2)
    rows = read(tmp_path / "out" / "p.csv")
    assert list(rows[0]) == [
        "id",
        "text",
        "predicted",
        "probability_bad",
        "probability_good",
        "probability_x,y",
    ]
    assert [row["id"] for row in rows] == [str(k) for k in range(len(TEXTS))]
    assert [unquote_formula(row["text"]) for row in rows] == TEXTS
    assert rows[2]["text"] == "'=SUM(A1:A9)"
    for k in (1, 4):
        assert set(list(rows[k].values())[2:]) == {""}
    assert (done.rows, done.blank, done.cut) == (8, 2, 0)
    assert "2 blank texts have an empty prediction" in str(done)
    assert sum(done.counts.values()) == 6
    # the judge is the pipeline, one text at a time
    classify = pipeline("text-classification", model=str(model), device="cpu", top_k=None)
    for k in (0, 2, 3, 5, 6, 7):
        answers = classify(TEXTS[k])[0] if isinstance(classify(TEXTS[k])[0], list) else classify(TEXTS[k])
        assert rows[k]["predicted"] == answers[0]["label"]
        for answer in answers:
            assert float(rows[k][f"probability_{answer['label']}"]) == pytest.approx(
                answer["score"], abs=2e-6
            )
    assert len({row["predicted"] for row in rows} - {""}) > 1  # or the order would not have been tested


def test_the_whole_file_comes_back_as_the_docstring_says(model, tmp_path):
    predict_file(model, table(tmp_path), tmp_path / "p.csv")
    frame = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False).map(unquote_formula)
    assert frame["text"].tolist() == TEXTS
    assert frame["predicted"].iloc[0] in ("bad", "good", "x,y")


def test_several_windows_are_put_back_in_order(model, tmp_path, monkeypatch):
    texts = [f"{'word ' * (k % 7 + 1)}{k}" for k in range(50)]
    predict_file(model, table(tmp_path, texts), tmp_path / "one.csv", batch_size=4)
    monkeypatch.setattr(inputs, "WINDOW", 8)
    predict_file(model, table(tmp_path, texts), tmp_path / "many.csv", batch_size=3)
    one, many = read(tmp_path / "one.csv"), read(tmp_path / "many.csv")
    assert [row["predicted"] for row in one] == [row["predicted"] for row in many]
    assert np.allclose(
        [float(row["probability_bad"]) for row in one],
        [float(row["probability_bad"]) for row in many],
        atol=1e-5,
    )


def test_multi_label_joins_labels_and_uses_the_saved_thresholds(tmp_path):
    path = table(tmp_path)
    plain = predict_file(
        tiny(tmp_path / "a", problem_type="multi_label_classification"), path, tmp_path / "a.csv"
    )
    strict = predict_file(
        tiny(tmp_path / "b", problem_type="multi_label_classification", thresholds=[0.0, 0.5, 1.0]),
        path,
        tmp_path / "b.csv",
    )
    names = ["bad", "good", "x,y"]
    for row in read(tmp_path / "a.csv"):
        if row["text"].strip():
            assert row["predicted"] == "|".join(
                name for name in names if float(row[f"probability_{name}"]) >= 0.5
            )
    assert (strict.counts["bad"], strict.counts["good"], strict.counts["x,y"]) == (6, plain.counts["good"], 0)
    assert any(
        abs(sum(float(row[f"probability_{name}"]) for name in names) - 1) > 0.1
        for row in read(tmp_path / "a.csv")
        if row["text"].strip()
    )


def test_two_classes_use_the_saved_threshold(tmp_path):
    done = predict_file(
        tiny(tmp_path / "m", names=("no", "yes"), thresholds=0.0), table(tmp_path), tmp_path / "p.csv"
    )
    assert done.counts == {"no": 0, "yes": 6}


def test_regression_gives_a_number_and_no_probabilities(tmp_path):
    folder = tiny(tmp_path / "m", names=("LABEL_0",), problem_type="regression")
    done = predict_file(folder, table(tmp_path), tmp_path / "p.csv")
    rows = read(tmp_path / "p.csv")
    assert list(rows[0]) == ["id", "text", "predicted"]
    assert rows[1]["predicted"] == ""
    tokenizer, classifier = (
        AutoTokenizer.from_pretrained(folder),
        BertForSequenceClassification.from_pretrained(folder),
    )
    with torch.no_grad():
        expected = classifier(**tokenizer(TEXTS[0], return_tensors="pt")).logits.item()
    assert float(rows[0]["predicted"]) == pytest.approx(expected, abs=2e-6)
    assert done.counts == {}


def test_own_columns_of_the_new_names_are_kept_apart_and_numbers_stay_numbers(model, tmp_path):
    columns = {
        "predicted": ["old"] * 2,
        "score": ["-3.5", "-x"],
        "probability_bad": ["1", "2"],
        "predicted_in_file": ["a", "b"],
    }
    predict_file(model, table(tmp_path, ["a", "b"], **columns), tmp_path / "p.csv")
    rows = read(tmp_path / "p.csv")
    assert [row["score"] for row in rows] == ["-3.5", "'-x"]
    assert rows[0]["predicted_in_file_"] == "old"
    assert rows[0]["predicted_in_file"] == "a"
    assert rows[0]["probability_bad_in_file"] == "1"
    assert rows[0]["predicted"] in ("bad", "good", "x,y")


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.tsv", "t.csv.gz", "t.csv"])
def test_every_kind_of_table_is_read_without_a_label_column(model, tmp_path, name):
    path, texts = tmp_path / name, ["good", "NA", "näive"]
    frame = pd.DataFrame({"n": [1, 2, 3], "message": texts})
    if name == "t.jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in frame.to_dict("records")))
    elif name == "t.parquet":
        frame.to_parquet(path)
    elif name == "t.tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif name == "t.csv.gz":
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    else:
        path.write_bytes(frame.to_csv(index=False, sep=";").encode("cp1252"))
    done = predict_file(model, path, tmp_path / "p.csv", text_column="message")
    assert [(row["n"], row["message"]) for row in read(tmp_path / "p.csv")] == [
        ("1", "good"),
        ("2", "NA"),
        ("3", "näive"),
    ]
    assert done.blank == 0


@pytest.mark.parametrize("delimiter", ["\t", r"\t", "tab"])
def test_a_tab_is_given_on_the_command_line_in_any_way(model, tmp_path, capsys, delimiter):
    (tmp_path / "tabs.txt").write_text("id\ttext\n" + "".join(f"{i}\tparcel {i}, came\n" for i in range(9)))
    main([str(model), str(tmp_path / "tabs.txt"), str(tmp_path / "p.csv"), "--delimiter", delimiter])
    assert [row["text"] for row in read(tmp_path / "p.csv")] == [f"parcel {i}, came" for i in range(9)]
    with pytest.raises(SystemExit, match="delimiter='ab' must be one character"):
        main([str(model), str(tmp_path / "tabs.txt"), str(tmp_path / "p.csv"), "--delimiter", "ab"])


def test_texts_that_are_cut_are_counted(model, tmp_path):
    done = predict_file(
        model, table(tmp_path, ["word " * 200, "short", "word " * 62, "word " * 63]), tmp_path / "p.csv"
    )
    assert done.cut == 2  # 64 positions, two of them special
    assert "2 texts are longer than the model reads" in str(done)
    assert (
        predict_file(model, table(tmp_path, ["one two three four"]), tmp_path / "p.csv", max_length=5).cut
        == 1
    )


def test_texts_are_cut_where_training_cut_them_unless_more_is_asked_for(tmp_path):
    folder, texts = tiny(tmp_path / "m"), ["word " * 14, "word " * 15, "word " * 38, "word " * 39]
    AutoTokenizer.from_pretrained(folder, model_max_length=16).save_pretrained(
        folder
    )  # as 04 does after max_length=16
    assert predict_file(folder, table(tmp_path, texts), tmp_path / "p.csv").cut == 3
    assert predict_file(folder, table(tmp_path, texts), tmp_path / "p.csv", max_length=40).cut == 1
    assert predict_file(folder, table(tmp_path, texts), tmp_path / "p.csv", max_length=64).cut == 0
    with pytest.raises(ModelError, match="max_length=65 is more than the 64 tokens"):
        predict_file(folder, table(tmp_path, texts), tmp_path / "p.csv", max_length=65)


@pytest.mark.parametrize("long_texts", ["head", "head_tail", "chunks"])
def test_a_model_without_a_limit_reads_whole_texts(tmp_path, long_texts):
    set_seed(0)
    config = XLNetConfig(
        vocab_size=30522,
        d_model=16,
        n_layer=1,
        n_head=2,
        d_inner=16,
        initializer_range=0.5,
        long_texts=long_texts,
    )
    XLNetForSequenceClassification(config).save_pretrained(tmp_path / "m")
    AutoTokenizer.from_pretrained(find_model("minilm-l6"), model_max_length=10**30).save_pretrained(
        tmp_path / "m"
    )
    texts = ["good " + "word " * 700, "bad " + "word " * 700, "short"]
    assert predict_file(tmp_path / "m", table(tmp_path, texts), tmp_path / "p.csv").cut == 0
    assert predict_file(tmp_path / "m", table(tmp_path, texts), tmp_path / "p.csv", max_length=600).cut == (
        0 if long_texts == "chunks" else 2
    )


def test_a_table_of_blanks_and_one_of_no_rows_give_what_they_have(model, tmp_path):
    assert predict_file(model, table(tmp_path, ["", " "]), tmp_path / "p.csv").blank == 2
    assert [row["predicted"] for row in read(tmp_path / "p.csv")] == ["", ""]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("in.csv", "in.csv is the table itself. Give another"),
        ("p.xlsx", "p.xlsx is no CSV, and the predictions are written as CSV. Give another"),
        ("d.csv", "d.csv is a folder"),
    ],
)
def test_an_output_that_would_do_harm_is_refused(model, tmp_path, output, says):
    path = table(tmp_path)
    (tmp_path / "d.csv").mkdir()
    before = path.read_bytes()
    with pytest.raises(TableError, match=says):
        predict_file(model, path, tmp_path / output)
    assert path.read_bytes() == before


@pytest.mark.parametrize("header", ["id,text,label", 'text;"label"', "\ufefftext\tlabel", '"text"', "text"])
def test_somebodys_table_is_not_overwritten(model, tmp_path, header):
    mine = tmp_path / "mine.csv"
    mine.write_text(f"{header}\n1,2,3\n", encoding="utf-8")
    before = mine.read_bytes()
    fault = r"mine\.csv is there already, a table with texts in 'text' and no predictions\."
    with pytest.raises(TableError, match=rf"{fault} Give another output file\."):
        predict_file(model, table(tmp_path), mine)
    assert mine.read_bytes() == before


@pytest.mark.parametrize("content", ["", "id,text,predicted,probability_x\n", "notes\n", "context,label\n"])
def test_predictions_that_were_there_and_what_is_no_table_of_texts_are_replaced(model, tmp_path, content):
    (tmp_path / "p.csv").write_text(content)
    for _ in range(2):  # its own output, too
        predict_file(model, table(tmp_path), tmp_path / "p.csv")
        assert len(read(tmp_path / "p.csv")) == len(TEXTS)


def test_names_of_columns_and_labels_are_no_formulas_and_come_back(tmp_path):
    folder = tiny(tmp_path / "m", names=("=1+1", "-good", "@me"))
    columns = {"=SUM(A1)": ["@x", "1"], "-1.5": ["-1.5", "-x"], "+@": [" =1", "''=1"], "row": ["mine", "too"]}
    predict_file(folder, table(tmp_path, ["good", "bad " * 9], **columns), tmp_path / "p.csv")
    raw = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False, header=None)
    assert [
        cell for cell in raw.to_numpy().ravel() if cell.startswith(("=", "+", "@")) or cell in ("-x", "-good")
    ] == []
    assert raw.iloc[0].tolist()[2:6] == ["'=SUM(A1)", "-1.5", "'+@", "row"]
    frame = (
        pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
        .map(unquote_formula)
        .rename(columns=unquote_formula)
    )
    assert {name: frame[name].tolist() for name in columns} == columns
    assert set(frame["predicted"]) <= {"=1+1", "-good", "@me"}
    assert frame.columns.tolist()[-4:] == [
        "predicted",
        "probability_=1+1",
        "probability_-good",
        "probability_@me",
    ]


def test_a_wrong_column_or_model_is_named(model, tmp_path):
    with pytest.raises(TableError, match=r"has no column 'txt'.*'text'.*Set text_column \(--text-column\)"):
        predict_file(model, table(tmp_path), tmp_path / "p.csv", text_column="txt")
    with pytest.raises(ModelError, match="has no classification head"):
        predict_file("minilm-l6", table(tmp_path), tmp_path / "p.csv")
    with pytest.raises(ModelError, match="max_length=65 is more than the 64 tokens"):
        predict_file(model, table(tmp_path), tmp_path / "p.csv", max_length=65)
    for wrong in (
        {"batch_size": 0},
        {"batch_size": -1},
        {"max_length": 0},
        {"max_length": 2},
    ):  # with -1, no text was computed and all got one label
        ((name, value),) = wrong.items()
        with pytest.raises(ModelError, match=f"{name}={value} must be a whole number, [13] or more"):
            predict_file(model, table(tmp_path), tmp_path / "p.csv", **wrong)
    assert not (tmp_path / "p.csv").exists()


def test_a_failure_midway_leaves_the_old_file(model, tmp_path, monkeypatch):
    target = tmp_path / "p.csv"
    target.write_text("old")
    monkeypatch.setattr(predict, "quote_formula", lambda cell: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_file(model, table(tmp_path), target)
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "p.csv"]


def test_from_the_command_line(model, tmp_path, capsys):
    path = table(tmp_path, ["good", ""], name="my file.csv")
    predict.main([str(model), str(path), str(tmp_path / "p.csv"), "--batch-size", "1", "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "2 rows written to" in printed
    assert "1 blank texts have" in printed
    with pytest.raises(SystemExit) as refused:
        predict.main([str(model), str(path), str(tmp_path / "p.csv"), "--text-column", "txet"])
    assert "Did you mean 'text'?" in str(refused.value)


@pytest.mark.parametrize("enabled", [True, False])
def test_no_bar_where_bars_are_disabled(model, tmp_path, monkeypatch, enabled):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(logging, "is_progress_bar_enabled", lambda: enabled)
    predict_file(model, table(tmp_path), tmp_path / "p.csv")
    assert "Texts:" not in sys.stderr.getvalue(), "a moment needs no bar"
    monkeypatch.setattr(predict, "BAR_AFTER", 0)
    predict_file(model, table(tmp_path), tmp_path / "p.csv")
    assert ("Texts: 100%" in sys.stderr.getvalue()) == enabled


# --- models and vectors -------------------------------------------------------------------------------------


def test_the_task_is_read_from_the_config(tmp_path):
    folder = tiny(tmp_path / "m", names=("LABEL_0",), problem_type=None)
    assert load_classifier(folder)[2:] == ("regression", ["LABEL_0"])
    folder = tiny(tmp_path / "n", problem_type=None)
    assert load_classifier(folder)[2:] == ("single_label", ["bad", "good", "x,y"])


def test_a_model_without_a_padding_token_predicts_in_batches(tmp_path):
    from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast

    inner = AutoTokenizer.from_pretrained(find_model("minilm-l6")).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="[SEP]").save_pretrained(tmp_path / "g")
    set_seed(0)
    config = GPT2Config(
        vocab_size=30522,
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        num_labels=3,
        id2label={0: "a", 1: "b", 2: "c"},
        initializer_range=0.5,
        bos_token_id=101,
        eos_token_id=102,
    )
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "g")
    predict_file(tmp_path / "g", table(tmp_path), tmp_path / "all.csv", batch_size=8)
    predict_file(tmp_path / "g", table(tmp_path), tmp_path / "single.csv", batch_size=1)
    together, alone = (
        np.array([float(row["probability_a"]) for row in read(tmp_path / name) if row["predicted"]])
        for name in ("all.csv", "single.csv")
    )
    assert np.allclose(together, alone, atol=1e-5)
    assert np.ptp(alone) > 1e-3


@pytest.mark.parametrize("device", ["gpu", "nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(model, tmp_path, device):
    with pytest.raises(ModelError, match=rf"device='{device}' cannot be used \(.+\)\. Write cpu\."):
        predict_file(model, table(tmp_path), tmp_path / "p.csv", device=device)
    assert not (tmp_path / "p.csv").exists()


# --- texts and rows in memory -------------------------------------------------------------------------------


def test_texts_in_memory_get_the_answers_that_a_file_gets(model, tmp_path):
    texts = ["a good film", "bad " * 30, "so-so"]
    predict_file(model, table(tmp_path, texts), tmp_path / "out.csv")
    answers = label_texts(load_classifier(model), texts)
    rows = read(tmp_path / "out.csv")
    assert answers["predicted"].tolist() == [row["predicted"] for row in rows]
    shares = [f"probability_{name}" for name in ("bad", "good", "x,y")]
    assert answers.columns.tolist() == ["text", "predicted", *shares]
    assert answers["probability_good"].tolist() == pytest.approx(
        [float(row["probability_good"]) for row in rows], abs=1e-6
    )
    number = load_classifier(tiny(tmp_path / "n", ["value"], "regression"))
    assert label_texts(number, texts).columns.tolist() == ["text", "predicted"]


def test_grouped_predictions_come_back_in_order(model, tmp_path):
    """Where `trainer.predict` itself gives row 17 of its own order."""
    texts = [f"word {'and so on ' * (k % 7)}{k}" for k in range(40)]
    classifier, tokenizer, *_ = load_classifier(model, "cpu")
    rows = Dataset.from_dict({"text": texts}).map(lambda row: tokenizer(row["text"]))
    args = TrainingArguments(
        str(tmp_path), train_sampling_strategy="group_by_length", use_cpu=True, report_to="none"
    )
    trainer = Trainer(classifier, args, processing_class=tokenizer)
    grouped = trainer.predict(rows).predictions
    logits, metrics = predict_in_order(trainer, rows, "eval")
    one_by_one = [classifier(**tokenizer(text, return_tensors="pt")).logits[0].tolist() for text in texts]
    assert logits == pytest.approx(np.array(one_by_one), abs=1e-4)
    assert np.abs(grouped - logits).max() > 0.01
    assert "eval_runtime" in metrics


@given(st.lists(st.floats(0, 1) | st.sampled_from([5e-7, 0.1234565, 0.9999995, np.nan]), max_size=9))
@settings(deadline=None)
def test_probabilities_are_written_as_python_formats_them(shares):
    assert in_digits(np.array([shares, shares])) == ["".join(f",{share:.6f}" for share in shares)] * 2


@pytest.mark.parametrize("window", [3, 4, 100])
def test_what_is_held_is_a_window_and_blank_rows_stay_where_they_are(model, tmp_path, monkeypatch, window):
    texts = [" " if k % 5 == 2 else f"{'word ' * (k % 7 + 1)}{k}" for k in range(23)]
    whole = predict_file(model, table(tmp_path, texts), tmp_path / "one.csv", batch_size=1)
    sizes, logits_of = [], predict.logits_of
    monkeypatch.setattr(predict, "logits_of", lambda *args: (sizes.append(len(args[1])), logits_of(*args))[1])
    monkeypatch.setattr(inputs, "WINDOW", window)
    monkeypatch.setattr(predict, "PART", 2)
    parts = predict_file(model, table(tmp_path, texts), tmp_path / "many.csv", batch_size=1)
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert parts.counts == whole.counts
    assert (max(sizes), sum(sizes)) == (min(window, 18), 18)
