"""Answers for a person: the limit is chosen on some rows, kept in the config, and marks others."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import TOKENIZER, texts_of, tiny

from utils.answers import coverage
from utils.answers.doubt import EVERYTHING, in_doubt, lowest_limits
from utils.metrics import calibrate, decide, wilson_interval
from utils.models import forget_last_run
from utils.predict import label_texts, load_classifier, predict_file


def column(values):
    return np.array(values)[:, None]


def test_the_limit_is_the_lowest_that_reaches_the_target():
    sure = np.linspace(0.5, 0.995, 100)
    right = (np.arange(100) >= 40) | (np.arange(100) % 2 == 0)  # of the 40 least sure, every second is wrong
    # the surest 66 have 3 wrong ones (63 / 66 < 0.96), the surest 65 have 2
    limit = lowest_limits(column(right), column(sure), 0.96)
    kept = right[sure >= limit]
    assert kept.mean() >= 0.96
    assert all(right[sure >= lower].mean() < 0.96 for lower in sure[sure < limit])
    order = np.random.default_rng(0).permutation(100)
    assert lowest_limits(column(right[order]), column(sure[order]), 0.96) == limit


def test_all_or_nothing():
    sure = np.linspace(0.5, 0.99, 50)
    assert lowest_limits(column(np.ones(50, bool)), column(sure), 0.97) == 0
    assert lowest_limits(column(np.zeros(50, bool)), column(sure), 0.97) == EVERYTHING
    surest = np.arange(50) >= 30  # 20 right answers on top say nothing of 97%: one mistake would be 5%
    assert lowest_limits(column(surest), column(sure), 0.97) == EVERYTHING
    assert 0.9 > lowest_limits(column(surest), column(sure), 0.9) > 0.75
    same = np.full(50, 0.9)  # equally sure, they go together
    assert lowest_limits(column(surest), column(same), 0.9) == EVERYTHING


def test_several_labels_have_a_limit_each_and_are_named():
    sure = np.random.default_rng(1).random((200, 2))
    labels = (sure > 0.5).astype(int)
    labels[:, 1] = np.where(np.abs(sure[:, 1] - 0.5) < 0.2, 1 - labels[:, 1], labels[:, 1])
    config = SimpleNamespace(thresholds=[0.5, 0.5], target_accuracy=0.95)
    config.review_below = lowest_limits(labels == decide(sure, "multi_label"), np.abs(sure - 0.5), 0.95)
    assert config.review_below[0] == 0 and 0.15 < config.review_below[1] < 0.2
    shares = np.array([[0.51, 0.55], [0.51, 0.9]])
    assert in_doubt(decide(shares, "multi_label"), shares, config, ["a", "b"], "multi_label") == ["b", ""]
    answers = config, labels, decide(sure, "multi_label"), sure, ["a", "b"], "multi_label"
    first, second = coverage.checked(*answers)
    assert (first["label"], first["coverage"], first["accuracy"]) == ("a", 1, 1)
    assert second["accuracy"] >= 0.95 and second["coverage"] < 0.8
    assert coverage.in_words(*answers).startswith("a: 100.0% of the test rows have answers as far from")
    assert len(coverage.figure(*answers).axes[0].lines) == 5  # two curves, two dots, what was asked for


def test_one_limit_is_checked_on_other_rows():
    draw = np.random.default_rng(2)
    shares = draw.dirichlet([1, 1, 1], 900)
    labels = np.array([draw.choice(3, p=row) for row in shares])  # calibrated probabilities
    predicted = shares.argmax(axis=1)
    config = SimpleNamespace(target_accuracy=0.85)
    right, sure = predicted == labels, shares.max(axis=1)
    config.review_below = lowest_limits(column(right[:500]), column(sure[:500]), 0.85)
    (found,) = coverage.checked(
        config, labels[500:], predicted[500:], shares[500:], ["x", "y", "z"], "single_label"
    )
    kept = right[500:][sure[500:] >= config.review_below]
    assert found["answered"] == len(kept) and found["coverage"] == len(kept) / 400
    assert found["accuracy_ci95"] == pytest.approx(wilson_interval(kept.sum(), len(kept)), abs=1e-4)
    config.review_below = EVERYTHING
    answers = config, labels, predicted, shares, ["x", "y", "z"], "single_label"
    assert "accuracy" not in coverage.checked(*answers)[0]
    assert coverage.in_words(*answers).startswith("No limit reaches 0.85 on the validation rows")
    coverage.figure(*answers)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_the_config_keeps_the_limit_and_predict_marks_the_rows(tmp_path, task):
    names = ["bad", "good"]
    model = tiny(names, problem_type=f"{task}_classification", initializer_range=1.0).eval()
    model.save_pretrained(tmp_path / "m")
    TOKENIZER.save_pretrained(tmp_path / "m")
    texts = texts_of(300, seed=5)
    shares = label_texts(load_classifier(tmp_path / "m", "cpu"), texts).filter(like="probability_").to_numpy()
    draw = np.random.default_rng(0)
    sure = np.abs(shares - 0.5)  # of the less sure answers every second one is wrong
    wrong = (sure < np.quantile(sure, 0.4, axis=0)) & (draw.random(300) < 0.5)[:, None]
    labels = ((shares > 0.5) ^ wrong).astype(int)
    labels = labels[:, 1] if task == "single_label" else labels
    model.config.target_accuracy = 0.95
    logits = np.log(shares) if task == "single_label" else np.log(shares / (1 - shares))
    calibration = calibrate(model, logits, labels, task)
    model.save_pretrained(tmp_path / "m")
    kept = json.loads((tmp_path / "m" / "config.json").read_text())["review_below"]
    assert np.shape(kept) == (() if task == "single_label" else (2,))

    pd.DataFrame({"text": [*texts[:50], " "], "review": "mine"}).to_csv(tmp_path / "in.csv", index=False)
    predict_file(tmp_path / "m", tmp_path / "in.csv", tmp_path / "out.csv", device="cpu")
    written = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    columns = ["text", "review_in_file", "predicted", "review", "probability_bad", "probability_good"]
    assert list(written) == columns
    assert written.iloc[50, 2:].tolist() == [""] * 4
    now = written[["probability_bad", "probability_good"]].iloc[:50].astype(float).to_numpy()
    assert now == pytest.approx(calibration.probabilities[:50], abs=1e-4)
    if task == "single_label":
        expected = [str(share < kept) for share in now.max(axis=1)]
    else:
        unsure = np.abs(now - calibration.thresholds) < np.array(kept)
        expected = ["|".join(np.array(names)[row]) for row in unsure]
    assert written["review"].tolist()[:50] == expected
    assert len(set(expected)) > 1
    forget_last_run(model)
    assert not hasattr(model.config, "review_below") and not hasattr(model.config, "target_accuracy")
