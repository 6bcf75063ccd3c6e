"""The template on other tables and for the other tasks, with nothing but parameters. test_training.py runs it
through papermill; here its cells run in the tests' process, which saves a kernel's start for each run.
"""

import json
import os

import numpy as np
import pandas as pd
import pytest
from builders import save_small
from test_training import metrics_of, papermill
from transformers import AutoTokenizer, pipeline

import utils.models
from notebooks import TEMPLATE, cell_of, printed, read, run_here
from utils import ROOT, unquote_formula
from utils.baselines import without_model
from utils.batch.folds import main as put_together
from utils.data import read_table, split_table
from utils.metrics import compare, fold_temperature, score
from utils.models import find_model
from utils.predict import label_texts, load_classifier
from utils.predict import main as label_file

WHOLE = "trains the bundled model, to see it beat the baselines; all else is in the small one"
sizes = pytest.mark.parametrize(
    "size", ["small", pytest.param("whole", marks=pytest.mark.full(reason=WHOLE))]
)
SHORT = {"learning_rate": 2e-4, "num_train_epochs": 2, "per_device_train_batch_size": 16, "output_dir": "run"}


@pytest.fixture(autouse=True)
def in_a_folder_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(folder, **parameters):
    """Train in `folder`, and return metrics.json, predictions.csv and what each cell printed."""
    _, prints = run_here(TEMPLATE, SHORT | parameters)
    return metrics_of(folder / "run"), predictions_in(folder), prints


def predictions_in(folder):
    return pd.read_csv(folder / "run" / "predictions.csv", dtype=str, keep_default_na=False)


def config_in(folder):
    return json.loads((folder / "run" / "model" / "config.json").read_text(encoding="utf-8"))


def label_again(folder, *options):
    """Label the test texts with the saved model, as the command of a user does; return the answers."""
    predictions_in(folder)[["text"]].map(unquote_formula).to_csv(folder / "new.csv", index=False)
    paths = [folder / "run" / "model", folder / "new.csv", folder / "labelled.csv"]
    label_file([*map(os.fspath, paths), *options])
    return pd.read_csv(folder / "labelled.csv", dtype=str, keep_default_na=False)["predicted"].tolist()


def accounted_for(data, rows):
    splits = sum(data[f"{name}_rows"] for name in ("train", "validation", "test"))
    assert splits + sum(data["dropped"].values()) == rows


# --- a small model that the template saved, and a table that it can learn ---


def small_model(folder, task, labels):
    """Save a narrow model as an earlier run left it, and return the parameters for training on from it.

    What that run noted in config.json, and where its tokenizer cut, says nothing of the next run.
    """
    tokenizer = AutoTokenizer.from_pretrained(find_model("minilm-l6"), model_max_length=16)
    sizes = {"max_position_embeddings": 64, "initializer_range": 0.3}
    model = save_small(folder / "first", labels, tokenizer, **sizes)
    if task != "regression":
        fold_temperature(model, 12.5)
    model.config.thresholds, model.config.long_texts = [0.9] * len(labels), "head_tail"
    model.save_pretrained(folder / "first")
    return {"model_name": "first", "max_length": 40, "learning_rate": 1e-2}


def small_table(number=160):
    """Texts whose ratings one word gives away."""
    ratings = {"wonderfully": 3.5, "badly": -1.5, "well": 1.5, "terribly": -3.5}
    words = [list(ratings)[k % 4] for k in range(number)]
    texts = [f"case {k} went {word}, {'and so on ' * (k % 9)}{'!' * (k % 3)}" for k, word in enumerate(words)]
    texts[5] += " [SEP] and [CLS]"  # letters, for a template whose tokenizer splits them
    return pd.DataFrame({"row": range(1, number + 1), "text": texts, "valence": map(ratings.get, words)})


def tweets_or_small(size, tweets, folder, task, labels):
    """Return a table and the parameters to train on it: 500 tweets and the bundled model, or small ones."""
    if size == "small":
        return small_table(), small_model(folder, task, labels)
    rows = tweets.rows.head(500)
    return rows.assign(valence=pd.to_numeric(rows["valence"])), {}


def check_trained_on(folder, metrics, task):
    """Nothing of the first run is left, and the second has learnt something."""
    assert metrics["validation"]["loss"] < metrics["untrained"]["loss"]
    assert "special-in-text" not in json.dumps(metrics["checks"])
    tokenizer = AutoTokenizer.from_pretrained(folder / "run" / "model")
    assert tokenizer("a [SEP] b")["input_ids"].count(tokenizer.sep_token_id) == 1
    assert tokenizer.model_max_length == 40
    saved = config_in(folder)
    assert saved["long_texts"] == "head"
    assert ("thresholds" in saved) == (task == "multi_label")
    assert set(saved.get("thresholds", [])) != {0.9}
    temperature = metrics.get("calibration", {}).get("temperature", 1)
    assert saved.get("folded_temperature") == (None if temperature == 1 else temperature)


@pytest.mark.slow
def test_training_on_from_a_model_that_the_template_saved(tmp_path):
    table = small_table()
    table["label"] = np.where(table["valence"] > 0, "good", "bad")
    table[["text", "label"]].to_csv(tmp_path / "more.csv", index=False)
    parameters = small_model(tmp_path, "single_label", ["bad", "good"]) | {"data_file": "more.csv"}
    metrics, predictions, _ = run(tmp_path, **parameters)
    check_trained_on(tmp_path, metrics, "single_label")
    assert label_again(tmp_path) == predictions["predicted"].tolist()

    # continued, when all that is left is what follows the training
    (tmp_path / "run" / "metrics.json").unlink()
    resumed, same, _ = run(tmp_path, **parameters, resume=True)
    assert same["predicted"].tolist() == predictions["predicted"].tolist()
    temperatures = [record["calibration"]["temperature"] for record in (metrics, resumed)]
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-3)


@pytest.mark.slow
def test_folds_of_groups_come_together_as_predictions_of_all_rows(tmp_path, capsys):
    table = small_table()
    table["label"] = np.where(table["valence"] > 0, "good", "bad")
    table["author"] = [f"author {k // 4 % 13}" for k in table["row"]]
    table.to_csv(tmp_path / "more.csv", index=False)
    parameters = SHORT | small_model(tmp_path, "single_label", ["bad", "good"]) | {"data_file": "more.csv"}
    for fold in range(2):
        more = {"group_column": "author", "folds": 2, "fold": fold, "output_dir": f"sweep/{fold}"}
        run_here(TEMPLATE, parameters | more)
        record = json.loads((tmp_path / "sweep" / str(fold) / "metrics.json").read_text(encoding="utf-8"))
        (said,) = [found["message"] for found in record["data"]["findings"] if found["id"] == "group-split"]
        assert "No group is in two splits" in said
        card = (tmp_path / "sweep" / str(fold) / "README.md").read_text(encoding="utf-8")
        assert "Nor were rows of one author." in card
    capsys.readouterr()
    put_together([str(tmp_path / "sweep")])
    assert "sweep: 160 rows, accuracy" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "sweep" / "out_of_fold.csv", dtype=str)
    assert rows["row"].astype(int).tolist() == table["row"].tolist()
    assert rows["label"].tolist() == table["label"].tolist()
    assert rows.groupby(table["author"])["fold"].nunique().eq(1).all()


# --- the other tasks ---


@pytest.mark.slow
@sizes
def test_several_labels_in_a_cp1252_table_with_semicolons(tmp_path, tweets, size):
    names = ["böse", "loud", "strong", "très bon"]
    rows, settings = tweets_or_small(size, tweets, tmp_path, "multi_label", names)
    tags = pd.Series(np.where(rows["valence"] > 0, "très bon", "böse"), index=rows.index)
    tags += np.where(rows["valence"].abs() > 2, " | strong", "")
    tags += np.where(rows["text"].str.contains("!"), "|loud", "")
    frame = pd.DataFrame({"Größe": rows["row"], "text": rows["text"], "tags": tags})
    frame.to_csv(tmp_path / "tags.csv", index=False, sep=";", encoding="cp1252", errors="ignore")

    source = {"data_file": "tags.csv", "label_column": "tags", "task": "multi_label"}
    metrics, predictions, _ = run(tmp_path, **source, class_weights=True, **settings)
    data = metrics["data"]
    assert data["labels"] == names
    assert (data["source"]["encoding"], data["source"]["delimiter"]) == ("cp1252", ";")
    accounted_for(data, len(rows))
    assert set(metrics["test"]) >= {"accuracy", "f1_macro", "loss", "accuracy_ci95"}
    probabilities = [f"probability_{name}" for name in names]
    assert predictions.columns.tolist() == ["row", "text", "label", "predicted", *probabilities]
    config = config_in(tmp_path)
    assert config["problem_type"] == "multi_label_classification"
    for name, threshold in zip(names, config["thresholds"], strict=True):
        predicted = predictions["predicted"].str.split("|").map(lambda answer, name=name: name in answer)
        sure = predictions[f"probability_{name}"].astype(float) >= threshold
        assert (predicted == sure).mean() > 0.99  # written with six digits
    assert label_again(tmp_path) == predictions["predicted"].tolist()
    assert "top_k=None" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    if size == "small":
        check_trained_on(tmp_path, metrics, "multi_label")
    else:
        assert metrics["test"]["f1_micro"] > metrics["baselines"]["majority"]["f1_micro"] + 0.05
        assert metrics["test"]["f1_macro"] > metrics["untrained"]["f1_macro"]


@pytest.mark.slow
@sizes
def test_numbers_in_a_gzipped_tsv(tmp_path, tweets, size):
    rows, settings = tweets_or_small(size, tweets, tmp_path, "regression", ["value"])
    rows[["text", "valence"]].to_csv(tmp_path / "ratings.tsv.gz", index=False, sep="\t")
    source = {"data_file": "ratings.tsv.gz", "label_column": "valence", "task": "regression"}
    metrics, predictions, _ = run(tmp_path, **source, **settings)
    accounted_for(metrics["data"], len(rows))
    test, baselines = metrics["test"], metrics["baselines"]
    assert test["pearson_ci95"][0] < test["pearson"] < test["pearson_ci95"][1]
    assert predictions.columns.tolist() == ["row", "text", "label", "predicted"]
    numbers = predictions[["label", "predicted"]].astype(float)
    assert numbers.corr().iloc[0, 1] == pytest.approx(test["pearson"], abs=1e-4)
    again = np.array(label_again(tmp_path), dtype=float)
    assert again == pytest.approx(numbers["predicted"].to_numpy(), abs=1e-3)
    assert 'function_to_apply="none"' in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    if size == "small":
        check_trained_on(tmp_path, metrics, "regression")
    else:
        assert test["pearson"] > baselines["tfidf_ridge"]["pearson"] + 0.03
        assert test["mae"] < baselines["mean"]["mae"] - 0.1
        assert metrics["validation"]["pearson"] > metrics["untrained"]["pearson"] + 0.3


@pytest.mark.slow
@sizes
def test_fifty_two_odd_classes_of_long_texts_in_jsonl(tmp_path, size):
    sentences = read_table("editorials").rows["text"].tolist()
    draw = np.random.default_rng(0)
    odd = ["a,b", 'say "hi"', "😀", "سعيد", "../../etc", "C:\\x", "<b>", "$x$", "None", "=1+1"]
    names = odd + [f"class {i}" for i in range(42)]
    long = 4 if size == "small" else 9
    counts = np.maximum(1, (30 * 0.9 ** np.arange(52)).astype(int))  # from thirty rows to one
    rows = [
        {"body": f"Topic {i}. " + " ".join(draw.choice(sentences, long)) + f" About {i}.", "topic": names[i]}
        for i in range(52)
        for _ in range(counts[i])
    ]
    with open(tmp_path / "topics.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in draw.permutation(rows))

    settings = {"num_train_epochs": 3, "learning_rate": 5e-4}
    if size == "small":
        settings = small_model(tmp_path, "single_label", sorted(names))
        settings |= {"num_train_epochs": 1, "learning_rate": 1e-4}  # at 1e-2, Watch sees one class only
    settings |= {"max_length": 32, "long_texts": "head_tail"}
    columns = {"text_column": "body", "label_column": "topic"}
    metrics, predictions, prints = run(tmp_path, data_file="topics.jsonl", **columns, **settings)
    data = metrics["data"]
    assert sorted(data["labels"]) == sorted(names)
    accounted_for(data, len(rows))
    assert "of the training texts fill 32 tokens" in prints["long-texts"]
    config = config_in(tmp_path)
    assert sorted(config["id2label"].values()) == sorted(names)
    assert config["long_texts"] == "head_tail"
    quoted = {"'=1+1" if name == "=1+1" else name for name in names}  # a formula, for spreadsheets
    assert set(predictions["label"]) <= quoted
    assert any("fewer than 5" in finding["message"] for finding in data["findings"])
    # a formula is quoted in both
    assert label_again(tmp_path, "--max-length", "32") == predictions["predicted"].tolist()
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in card
    assert "\n- <b>" not in card
    for name in ("balance.png", "test_predictions.png"):
        assert (tmp_path / "run" / "figures" / name).stat().st_size > 1000
    if size == "whole":
        assert metrics["test"]["accuracy"] > metrics["baselines"]["tfidf_logreg"]["accuracy"] + 0.1
        assert predictions["predicted"].nunique() > 8


@pytest.mark.slow
def test_long_texts_in_chunks(tmp_path):
    table, draw = small_table(), np.random.default_rng(8)
    ends = [
        " ".join(draw.choice(["north", "east", "south", "west", "rain", "wind", "snow"], 90 * (k % 3)))
        for k in range(160)
    ]
    last = table["text"].str.partition(",")[0]  # the word that counts; behind it, chunks would be equal
    table["text"] = "on the way, " + pd.Series(ends) + " " + last
    table["label"] = np.where(table["valence"] > 0, "good", "bad")
    table[["text", "label"]].to_csv(tmp_path / "long.csv", index=False)
    settings = small_model(tmp_path, "single_label", ["bad", "good"]) | {"data_file": "long.csv"}
    settings |= {"long_texts": "chunks", "learning_rate": 1e-4, "class_weights": True}
    metrics, predictions, prints = run(tmp_path, **settings)
    assert len(predictions) == metrics["data"]["test_rows"] == 24
    assert "of the training chunks fill 40 tokens" in prints["long-texts"]
    # the learning rate, for a model that is no pretrained one: nothing of chunks
    assert {check["id"] for check in metrics["checks"]} <= {"imbalance"}
    right = (predictions["label"] == predictions["predicted"]).mean()
    assert metrics["test"]["accuracy"] == pytest.approx(right)
    assert config_in(tmp_path)["long_texts"] == "chunks"
    assert label_again(tmp_path) == predictions["predicted"].tolist()
    assert "`pipeline` reads the first chunk" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_pairs_of_texts(tmp_path):
    draw = np.random.default_rng(9)
    first, second = (draw.choice(["cat", "dog", "bird", "cow", "fish", "frog"], 160) for _ in range(2))
    second = np.where(np.arange(160) % 2, first, second)
    table = pd.DataFrame({"q": [f"is no. {k} a {one}?" for k, one in enumerate(first)], "a": second})
    table["label"] = np.where(first == second, "yes", "no")
    table.loc[3, "a"] = " "
    table.to_csv(tmp_path / "pairs.csv", index=False)
    settings = small_model(tmp_path, "single_label", ["no", "yes"]) | {"learning_rate": 1e-4}
    settings |= {"data_file": "pairs.csv", "text_column": "q", "text_pair_column": "a"}
    metrics, predictions, _ = run(tmp_path, **settings)
    assert list(predictions)[:5] == ["row", "text", "text_pair", "label", "predicted"]
    assert metrics["data"]["dropped"]["blank_text"] == 1
    assert set(predictions["text_pair"]) <= set(first)
    new = predictions[["text", "text_pair"]].rename(columns={"text_pair": "a"})
    new.to_csv(tmp_path / "new.csv", index=False)
    label_file([*map(str, (tmp_path / "run" / "model", tmp_path / "new.csv", tmp_path / "out.csv"))])
    answers = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert answers["predicted"].tolist() == predictions["predicted"].tolist()
    classify = pipeline("text-classification", model=tmp_path / "run" / "model")  # as the card says
    pair = dict(predictions.loc[0, ["text", "text_pair"]])
    assert classify(pair, truncation=True)["label"] == predictions.loc[0, "predicted"]


# --- the lesson ---


@pytest.mark.slow
def test_the_lesson_runs_with_a_small_model_and_its_scoreboard_has_every_rung(tmp_path):
    settings = small_model(tmp_path, "single_label", ["negative", "positive"])
    settings |= {"model_name": str(tmp_path / "first"), "max_train_samples": 100, "learning_rate": 1e-4}
    settings |= {"output_dir": "lesson"}
    result = papermill(tmp_path, settings, ROOT / "notebooks" / "04_training.ipynb")
    assert result.returncode == 0, result.stdout[-3000:]
    notebook = read(tmp_path / "out.ipynb")
    rungs = cell_of(notebook, "scoreboard").outputs
    assert any("image/png" in output.get("data", {}) for output in rungs)
    assert printed(notebook, "saved") == printed(read(ROOT / "notebooks" / "04_training.ipynb"), "saved")


# --- what docs/trust.md says of rules ---


@pytest.mark.full(reason="two epochs of all tweets, for what docs/trust.md says of rules and of other texts")
def test_rules_tie_on_tweets_and_both_lose_on_film_reviews_to_counting_their_words(tmp_path):
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    def by_rule(texts):
        analyzer = SentimentIntensityAnalyzer()
        sums = [analyzer.polarity_scores(text)["compound"] for text in texts]
        return np.where(np.array(sums) > 0, "positive", "negative")

    result = papermill(tmp_path, {"output_dir": "run"})  # the template as it is
    assert result.returncode == 0, result.stdout[-3000:]
    test = predictions_in(tmp_path).map(unquote_formula)
    tie = compare("accuracy", test["label"], test["predicted"], by_rule(test["text"]))
    assert tie.verdict == "not distinguishable"
    reviews = split_table(read_table("reviews"))
    true, texts = reviews.test["label"].to_numpy(), reviews.test["text"]
    loaded = load_classifier(tmp_path / "run" / "model")
    tuned = score(true, label_texts(loaded, texts)["predicted"])["accuracy"]
    rules = score(true, by_rule(texts))["accuracy"]
    assert max(tuned, rules) < metrics_of(tmp_path / "run")["test"]["accuracy"] - 0.15
    known = reviews.train["text"], reviews.train["label"]
    words = score(true, without_model(*known, texts)["tfidf_logreg"].predicted)["accuracy"]
    assert words > max(tuned, rules)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [True, False])
def test_in_16_bits_or_in_32_what_is_written_is_what_the_saved_model_says(tmp_path, monkeypatch, bf16):
    """This CPU may have only one of the two; imitated, bf16 gives the same."""
    monkeypatch.setattr(utils.models, "has_bf16", lambda: bf16)
    table = small_table()
    table["label"] = np.where(table["valence"] > 0, "good", "bad")
    table.to_csv(tmp_path / "mine.csv", index=False)
    parameters = SHORT | small_model(tmp_path, "single_label", ["bad", "good"]) | {"data_file": "mine.csv"}
    names, prints = run_here(TEMPLATE, parameters)
    assert names["trainer"].args.bf16 is bf16
    assert names["model"].config._attn_implementation == ("eager" if bf16 else "sdpa")
    assert "Nothing found" in prints["save"]  # by check_saved
    written = predictions_in(tmp_path)
    again = label_texts(
        load_classifier(tmp_path / "run" / "model", "cpu"), written["text"].map(unquote_formula)
    )
    assert written["predicted"].tolist() == again["predicted"].tolist()
    assert written["probability_good"].astype(float).to_numpy() == pytest.approx(
        again["probability_good"], abs=1e-5
    )
