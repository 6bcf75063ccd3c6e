"""Are new texts like those that a model was made for? No alarm for like ones, one for unlike ones."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import LABELS, TOKENIZER, texts_of, tiny
from transformers import AutoTokenizer

from utils.answers.profile import FILE, save_profile, unlike
from utils.data import Splits, read_table, split_table
from utils.models import find_model
from utils.predict import predict_file

GERMAN = """Der Zug nach Köln kam heute wieder zwanzig Minuten zu spät. Ich habe das Buch
in zwei Tagen gelesen.
Am Abend wurde es kühl, und wir gingen früh nach Hause. Das Essen war gut, aber der Kellner hatte keine Zeit.
Meine Schwester wohnt seit Jahren in einem kleinen Dorf. Niemand wusste, warum die Brücke gesperrt war.
Wer zu spät kommt, muss draußen warten. Die Rechnung stimmt nicht, bitte prüfen Sie sie noch einmal.
Im Winter frieren die Seen manchmal ganz zu. Der Lehrer erklärte uns die Aufgabe mit viel Geduld.
Heute scheint endlich wieder die Sonne. Er hat den Schlüssel schon wieder im Auto vergessen.
Die Kinder spielten den ganzen Nachmittag im Garten. Das Gerät ging nach einer Woche kaputt.
Wir suchen eine Wohnung mit drei Zimmern. Auf dem Markt gibt es frische Erdbeeren.
Das Konzert war ausverkauft, trotzdem bekamen wir noch Karten. Sie lachte und sagte kein Wort mehr.
Mit dem Fahrrad dauert es nur zehn Minuten. Die Ärztin riet ihm, mehr zu schlafen.
Der neue Chef ist freundlich und hört gut zu. Leider wurde das Spiel wegen Regens abgesagt.
Vor dem Haus steht ein alter Birnbaum. Die Suppe war kalt und viel zu salzig.
Gestern habe ich endlich den Keller aufgeräumt. Das Kleid passt mir nicht, ich schicke es zurück.
Im Museum durfte man nicht fotografieren. Nächste Woche beginnt die Schule wieder.
Der Hund bellte die halbe Nacht. Ihre Antwort hat mich sehr gefreut.
Die Straße ist seit Montag gesperrt. Ohne Brille kann er kaum etwas erkennen."""


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(find_model("minilm-l6"))


def profiled(folder, tokenizer, splits):
    """Save the profile of a model that is always right."""
    names = sorted(splits.train["label"].unique())
    answers = np.array(
        [[label == name for name in names] for label in splits.validation["label"]], dtype=float
    )
    save_profile(
        folder,
        tokenizer,
        splits,
        SimpleNamespace(probabilities=answers, thresholds=None),
        names,
        "single_label",
    )
    return folder


def counted(rows):
    return rows["label"].value_counts().to_dict()


def said_of(folder, tokenizer, rows):
    return unlike(folder, tokenizer, rows["text"].tolist(), rows["row"].tolist(), counted(rows))


@pytest.fixture(scope="module")
def of_tweets(tweets, tokenizer, tmp_path_factory):
    splits = split_table(tweets)
    return profiled(tmp_path_factory.mktemp("tweets"), tokenizer, splits), splits


@pytest.mark.parametrize("name", ["tweets", "editorials"])
def test_no_alarm_on_held_out_rows_of_the_same_set(name, tokenizer, tmp_path):
    splits = split_table(read_table(name), seed=7)
    folder = profiled(tmp_path, tokenizer, splits)
    for draw in range(20):
        rows = splits.test.sample(150, random_state=draw)
        assert said_of(folder, tokenizer, rows) == [], draw


def test_alarm_on_another_domain(of_tweets, tokenizer):
    editorials = read_table("editorials").rows
    for draw in range(5):
        (finding,) = said_of(of_tweets[0], tokenizer, editorials.sample(100, random_state=draw))
        assert finding.id == "unlike-training" and "their words: a token" in finding.message


def test_alarm_on_another_language_that_names_the_rows(of_tweets, tokenizer):
    folder, splits = of_tweets
    german = [f"{part.strip()}." for part in GERMAN.replace("\n", " ").split(". ")]
    assert len(german) == 32
    (finding,) = unlike(folder, tokenizer, german, range(1, 33), {"negative": 10, "positive": 22})
    assert "their words" in finding.message
    mixed = pd.concat(
        [splits.test.head(120), pd.DataFrame({"text": german, "row": range(9001, 9033), "label": "positive"})]
    )
    (finding,) = said_of(folder, tokenizer, mixed)
    worst = finding.message.partition("Most unlike: 10 rows (")[2].partition(")")[0].split(", ")
    assert sum(int(row) > 9000 for row in worst) >= 8


def test_alarm_on_an_encoding_gone_wrong(tweets, tokenizer, tmp_path):
    typographic = tweets.rows.assign(text=tweets.rows["text"].str.replace("'", "’").str.replace("...", "…"))
    splits = split_table(tweets._replace(rows=typographic))
    folder = profiled(tmp_path, tokenizer, splits)
    rows = splits.test.head(200)
    assert said_of(folder, tokenizer, rows) == []
    spoilt = rows.assign(text=[text.encode().decode("latin-1") for text in rows["text"]])
    (finding,) = said_of(folder, tokenizer, spoilt)
    assert "their characters" in finding.message


def test_alarm_on_other_answers_and_none_of_few_texts_or_without_a_profile(of_tweets, tokenizer, tmp_path):
    folder, splits = of_tweets
    rows = splits.test.head(100)
    (finding,) = unlike(
        folder, tokenizer, rows["text"].tolist(), rows["row"].tolist(), {"negative": 90, "positive": 10}
    )
    assert "the answers: " in finding.message and "their" not in finding.message
    assert unlike(folder, tokenizer, ["Straße"] * 29, range(29), {}) == []
    assert unlike(tmp_path, tokenizer, ["Straße"] * 99, range(99), {}) == []
    (tmp_path / FILE).write_text("{")
    assert unlike(tmp_path, tokenizer, ["Straße"] * 99, range(99), {}) == []


def test_predict_says_it_after_the_summary(tmp_path):
    tiny().save_pretrained(tmp_path / "m")
    TOKENIZER.save_pretrained(tmp_path / "m")
    old = [" ".join(text.split()[:5]) for text in texts_of(400, seed=1)]
    rows = pd.DataFrame({"row": range(1, 401), "text": old, "label": LABELS * 200})
    profiled(tmp_path / "m", TOKENIZER, Splits(rows[:300], rows[300:], None, [], {}))
    kept = (tmp_path / "m" / FILE).read_text(encoding="utf-8")
    assert "w1 " not in kept and set(json.loads(kept)) == {
        "tokens",
        "characters",
        "rows",
        "predicted",
        "held_out",
    }
    new = ["", *texts_of(60, seed=2, length=20)]
    pd.DataFrame({"text": new}).to_csv(tmp_path / "new.csv", index=False)
    done = predict_file(tmp_path / "m", tmp_path / "new.csv", tmp_path / "out.csv", device="cpu")
    assert "their length: 20 tokens in the middle, not 5" in str(done).splitlines()[-1]
