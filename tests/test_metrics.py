"""Scores, intervals, baselines, thresholds, calibration, suspicious labels."""

import json
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, log_loss
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    GPT2Config,
    RobertaConfig,
    pipeline,
    set_seed,
)

from utils.labels import TASKS
from utils.metrics import (
    FUNCTIONS,
    bootstrap_interval,
    calibrate,
    calibration_error,
    choose_thresholds,
    compare,
    compute_metrics,
    compute_metrics_for,
    decide,
    expected_calibration_error,
    fit_temperature,
    fold_temperature,
    per_label,
    probabilities_of,
    review,
    score,
    score_with_interval,
    wilson_interval,
)
from utils.models import find_model


def test_score_by_hand():
    # class a: precision 2/3, recall 1, F1 0.8; class b: precision 1, recall 1/2, F1 2/3
    # class c: never predicted, F1 0
    result = score(list("aabbc"), list("aabaa"))
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert score(list("aabb"), list("aaba")) == pytest.approx(
        {"accuracy": 0.75, "f1_macro": (0.8 + 2 / 3) / 2}
    )
    assert score(list("abc"), list("abb"))["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_compute_metrics_counts_the_predicted_classes():
    logits = np.array([[2.0, 1.0, 0.0], [0.5, 0.1, 0.0], [0.0, 3.0, 1.0]])
    result = compute_metrics(SimpleNamespace(predictions=logits, label_ids=np.array([0, 1, 1])))
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["predicted_classes"] == 2
    with_hidden_states = SimpleNamespace(
        predictions=(logits, np.zeros((3, 9))), label_ids=np.array([0, 1, 1])
    )
    assert compute_metrics(with_hidden_states) == result


def test_wilson_interval_is_the_published_formula():
    correct, rows = 585, 620
    p, z = correct / rows, stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(p * (1 - p) / rows + z**2 / (4 * rows**2))
    assert wilson_interval(correct, rows) == pytest.approx((middle - half, middle + half))
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(10, 10)[0] < 0.75  # ten right out of ten is not certainty


def test_gain_interval_agrees_with_scipy_and_sees_pairs():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    good = np.where(rng.random(400) < 0.9, labels, 1 - labels)
    poor = np.where(rng.random(400) < 0.8, labels, 1 - labels)
    gain, low, high = bootstrap_interval("accuracy", labels, good, poor)
    difference = (good == labels).astype(float) - (poor == labels)
    reference = stats.bootstrap((difference,), np.mean, method="percentile", rng=2).confidence_interval
    assert gain == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.006)
    assert low > 0
    assert bootstrap_interval("accuracy", labels, good, good) == (0.0, 0.0, 0.0)


def test_one_table_of_tasks_and_reading_a_table_loads_no_scikit_learn():
    assert list(TASKS) == list(FUNCTIONS) == ["single_label", "multi_label", "regression"]
    for task, facts in TASKS.items():
        labels = np.eye(2) if facts.joined else np.array([1.0, 0.0])
        scores = score(labels, labels, task)
        assert {facts.main_score, facts.best_by} <= set(scores)
    program = "import sys, utils.labels, utils.data; print({'sklearn', 'scipy', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


# --- scores of the other tasks ------------------------------------------------------------------------------


def test_multi_label_scores_by_hand():
    labels = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    guess = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]]
    # label 0: 2 hits, 1 false alarm; label 1: 1 hit, 1 missed; label 2: never there or predicted, so no F1
    assert score(labels, guess, "multi_label") == pytest.approx(
        {"accuracy": 2 / 4, "f1_micro": 6 / 8, "f1_macro": (4 / 5 + 2 / 3) / 2}
    )
    assert score([[1], [0]], [[1], [1]], "multi_label") == pytest.approx(
        {"accuracy": 0.5, "f1_micro": 2 / 3, "f1_macro": 2 / 3}
    )
    assert score([[0, 0]], [[0, 0]], "multi_label") == {"accuracy": 1.0, "f1_micro": 0.0, "f1_macro": 0.0}
    assert score([[1, 1]], [[0, 0]], "multi_label") == {"accuracy": 0.0, "f1_micro": 0.0, "f1_macro": 0.0}


def test_regression_scores_by_hand():
    # 1, 2, 3, 4 against 1, 3, 2, 6: covariance 7/4, variances 5/4 and 14/4; ranks differ by 1 in two places
    found = score([1, 2, 3, 4], [1, 3, 2, 6], "regression")
    assert found == pytest.approx(
        {"pearson": 7 / np.sqrt(5 * 14), "spearman": 1 - 6 * 2 / (4 * 15), "mae": 1.0}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant = score([1, 2, 3], [2, 2, 2], "regression")
    assert constant == {"pearson": 0.0, "spearman": 0.0, "mae": pytest.approx(2 / 3)}
    assert json.loads(json.dumps(constant, allow_nan=False)) == constant
    assert score([5], [4], "regression") == {"pearson": 0.0, "spearman": 0.0, "mae": 1.0}


def test_one_class_and_no_rows():
    assert score(list("aa"), list("aa")) == {"accuracy": 1.0, "f1_macro": 1.0}
    for task, empty in (("single_label", []), ("multi_label", np.zeros((0, 3))), ("regression", [])):
        with pytest.raises(ValueError, match="There are no rows to score"):
            score(empty, empty, task)
    with pytest.raises(ValueError, match=r"one shape, not \(3,\) and \(2,\)"):
        score([1, 2, 3], [1, 2])
    with pytest.raises(
        ValueError, match="task must be one of single_label, multi_label, regression, not 'ranking'"
    ):
        score([1], [1], "ranking")


def test_compute_metrics_for_each_task():
    single = SimpleNamespace(predictions=np.array([[2.0, 1.0], [0.5, 0.1]]), label_ids=np.array([0, 1]))
    assert compute_metrics_for("single_label")(single) == compute_metrics(single)
    multi = SimpleNamespace(
        predictions=np.array([[2.0, -1, -1], [0.0, 3, -1]]), label_ids=np.array([[1.0, 0, 0], [1, 0, 0]])
    )
    assert compute_metrics_for("multi_label")(multi) == pytest.approx(
        {"accuracy": 0.5, "f1_micro": 4 / 5, "f1_macro": 1 / 2, "predicted_classes": 2}
    )
    number = SimpleNamespace(
        predictions=(np.array([[1.0], [3.0]]), "hidden states"), label_ids=np.array([1.0, 2.0])
    )
    assert compute_metrics_for("regression")(number) == pytest.approx(
        {"pearson": 1.0, "spearman": 1.0, "mae": 0.5}
    )
    with pytest.raises(ValueError, match="task must be one of"):
        compute_metrics_for("classification")


def test_logits_become_probabilities_and_answers():
    logits = np.array([[0.0, np.log(3)], [np.log(3), 0.0]])
    assert probabilities_of(logits) == pytest.approx(np.array([[0.25, 0.75], [0.75, 0.25]]))
    assert probabilities_of(logits, "multi_label") == pytest.approx(np.array([[0.5, 0.75], [0.75, 0.5]]))
    assert probabilities_of([[1.5], [2]], "regression").tolist() == [1.5, 2]
    assert decide(probabilities_of(logits)).tolist() == [1, 0]
    assert decide(probabilities_of(logits), thresholds=0.2).tolist() == [1, 1]
    assert decide([[0.5, 0.4]], "multi_label").tolist() == [[1, 0]]
    assert decide([[0.5, 0.4]], "multi_label", [0.6, 0.3]).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="A threshold is for two classes; there are 3"):
        decide([[0.2, 0.3, 0.5]], thresholds=0.5)


# --- intervals and judgement --------------------------------------------------------------------------------


def three_tables(task, rows=150, seed=3):
    rng = np.random.default_rng(seed)
    if task == "regression":
        labels = rng.normal(size=rows).round(1)  # rounded: Spearman has ties
        return labels, labels + rng.normal(0, 0.6, rows).round(1), labels + rng.normal(0, 1.2, rows).round(1)
    if task == "multi_label":
        labels = (rng.random((rows, 4)) < [0.5, 0.2, 0.05, 0]).astype(int)
        return (
            labels,
            np.where(rng.random(labels.shape) < 0.9, labels, 1 - labels),
            np.where(rng.random(labels.shape) < 0.75, labels, 0),
        )
    labels = rng.choice(4, rows, p=[0.6, 0.25, 0.1, 0.05])
    return (
        labels,
        np.where(rng.random(rows) < 0.8, labels, rng.integers(0, 4, rows)),
        np.where(rng.random(rows) < 0.6, labels, 0),
    )


METRICS = [
    ("accuracy", "single_label"),
    ("f1_macro", "single_label"),
    ("accuracy", "multi_label"),
    ("f1_macro", "multi_label"),
    ("pearson", "regression"),
    ("mae", "regression"),
]


@pytest.mark.parametrize(("metric", "task"), METRICS)
def test_the_fast_bootstrap_is_the_slow_one(metric, task):
    """The value is that of `score`, and the interval that of scoring each draw of rows with `score`."""
    labels, good, poor = three_tables(task)
    value, low, high = bootstrap_interval(metric, labels, good)
    assert value == pytest.approx(score(labels, good, task)[metric], abs=1e-9)
    assert low < value < high
    gain = bootstrap_interval(metric, labels, good, poor)
    sign = -1 if metric == "mae" else 1
    assert gain[0] == pytest.approx(sign * (value - score(labels, poor, task)[metric]), abs=1e-9)
    if task == "regression":
        assert gain[1] > 0  # also for mae, where less is better
    rng, slow = np.random.default_rng(9), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            rows = rng.integers(0, len(labels), len(labels))
            slow.append(
                sign
                * (
                    score(labels[rows], good[rows], task)[metric]
                    - score(labels[rows], poor[rows], task)[metric]
                )
            )
    width = gain[2] - gain[1]
    assert (gain[1], gain[2]) == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.3 * width)
    assert bootstrap_interval(metric, labels, good, good) == (0.0, 0.0, 0.0)


def test_the_bootstrap_takes_names_and_repeats_itself():
    labels, good, poor = three_tables("single_label")
    names = np.array(["a", "b", "c", "d"])
    assert bootstrap_interval("f1_macro", names[labels], names[good], names[poor]) == bootstrap_interval(
        "f1_macro", labels, good, poor
    )
    with pytest.raises(ValueError, match="metric must be one of accuracy, f1_macro.*not 'f1'"):
        bootstrap_interval("f1", labels, good)
    with pytest.raises(ValueError, match="no rows"):
        bootstrap_interval("accuracy", [], [])


def test_ten_thousand_resamples_of_a_large_table_take_seconds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 2000)
    start = time.process_time()
    bootstrap_interval(
        "f1_macro", labels, np.where(rng.random(2000) < 0.7, labels, 0), np.zeros(2000, dtype=int)
    )
    assert time.process_time() - start < 20


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        x = rng.normal(size=120)
        y = 0.6 * x + 0.8 * rng.normal(size=120)  # true correlation 0.6
        _, low, high = bootstrap_interval("pearson", x, y, resamples=500, seed=seed)
        held += low <= 0.6 <= high
    assert 0.90 <= held / 200 <= 0.98


def test_the_judgement_says_better_worse_or_too_few_rows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    good, poor = (np.where(rng.random(600) < share, labels, 1 - labels) for share in (0.9, 0.8))
    better = compare("accuracy", labels, good, poor)
    assert better.verdict == "better"
    assert "These 600 rows tell the model from the baseline: accuracy 0." in better.words
    assert compare("accuracy", labels, poor, good).verdict == "worse"
    few = compare("accuracy", labels[:40], good[:40], poor[:40])
    assert few.verdict == "not distinguishable"
    assert few.words.startswith("These 40 rows cannot tell the model from the baseline")
    assert "test rows would show it" in few.words
    assert few.rows_needed > 40
    same = compare("accuracy", labels, good, good)
    assert (same.verdict, same.rows_needed, same.gain) == ("not distinguishable", None, 0.0)
    assert "equal" in same.words


def test_five_rows_decide_nothing_even_where_all_are_right():
    labels = np.ones(5, dtype=int)
    found = compare("accuracy", labels, labels, 0 * labels)
    assert (found.low, found.high) == (1.0, 1.0)  # the bootstrap alone would be certain
    assert found.verdict == "not distinguishable"
    assert stats.binomtest(5, 5).pvalue > 0.05  # McNemar's exact test is not
    six = np.ones(6, dtype=int)
    assert compare("accuracy", six, six, 0 * six).verdict == "better"


def test_the_rows_needed_are_those_of_mcnemars_test_and_give_its_power():
    """Connor (1987) for the sample size; then the share of experiments of that size that find the gain."""
    won, lost = 0.12, 0.06  # shares of rows that only the model, only the baseline has right
    rows = 2000
    labels = np.ones(rows, dtype=int)
    good, poor = np.ones(rows, dtype=int), np.ones(rows, dtype=int)
    poor[: int(won * rows)] = 0
    good[-int(lost * rows) :] = 0
    needed = compare("accuracy", labels, good, poor).rows_needed
    a, b = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    discordant, delta = won + lost, won - lost
    connor = (a * np.sqrt(discordant) + b * np.sqrt(discordant - delta**2)) ** 2 / delta**2
    assert needed == pytest.approx(connor, rel=0.05)
    draws = np.random.default_rng(0).multinomial(needed, [won, lost, 1 - won - lost], size=1000)
    power = np.mean([stats.binomtest(w, w + k).pvalue < 0.05 for w, k, _ in draws])
    assert power == pytest.approx(0.8, abs=0.06)


# --- baselines of the other tasks, and hard tables ----------------------------------------------------------


# --- thresholds ---------------------------------------------------------------------------------------------


def test_thresholds_by_hand():
    labels = np.array([0, 0, 0, 1, 0, 1])
    probabilities = np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.9])
    # from 0.325 on: 2 hits, 1 false alarm, F1 0.8; from 0.65 on: 1 hit, 1 missed, 2/3
    assert choose_thresholds(labels[:, None], probabilities[:, None], least=1) == pytest.approx([0.325])
    assert choose_thresholds(labels[:, None], probabilities[:, None]) == [
        0.5
    ]  # two rows: too few to choose by
    assert choose_thresholds(np.zeros((9, 1)), np.full((9, 1), 0.1), least=0) == [0.5]
    with pytest.raises(ValueError, match=r"one shape \(rows, labels\), not \(6,\) and \(6,\)"):
        choose_thresholds(labels, probabilities)
    # all thresholds between 0.2 and 0.8 are equally good: the middle
    assert choose_thresholds([[0], [1]], [[0.2], [0.8]], least=1) == pytest.approx([0.5])
    # equal probabilities cannot be told apart
    assert choose_thresholds([[1], [1], [0]], [[0.3], [0.3], [0.3]], least=1) == pytest.approx([0.15])


def test_a_label_that_was_not_learnt_is_not_given_to_every_row():
    rng = np.random.default_rng(0)
    labels = (rng.random((2000, 1)) < 0.01).astype(int)
    probabilities = 0.02 * rng.random((2000, 1))  # knows nothing
    given = decide(probabilities, "multi_label", choose_thresholds(labels, probabilities))
    assert given.sum() <= 1.5 * labels.sum()


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_on_the_rows_it_was_chosen_on(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((200, 2)) < 0.2).astype(int)
    probabilities = (0.6 * rng.random((200, 2)) + 0.3 * labels).round(2)
    every = np.arange(0.005, 1, 0.01)  # each way to cut probabilities of two digits
    chosen = choose_thresholds(labels, probabilities)
    for column, at, p in zip(labels.T, chosen, probabilities.T, strict=True):
        possible = [p >= t for t in every if (p >= t).sum() <= 1.5 * column.sum()]
        best = max(f1_score(column, guess, zero_division=0) for guess in possible)
        assert f1_score(column, p >= at) == pytest.approx(best)


# --- calibration --------------------------------------------------------------------------------------------


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.61, 0.39], [0.63, 0.37]])
    labels = np.array([0, 1, 0, 1])
    # two rows at 0.9, both right: off by 0.1; two at 0.62, one right: off by 0.12
    assert expected_calibration_error(labels, probabilities) == pytest.approx((0.1 + 0.12) / 2)
    assert expected_calibration_error(np.array([[1, 0]]), np.array([[1.0, 0.0]])) == 0
    assert expected_calibration_error(np.array([[1, 0]]), np.array([[0.0, 1.0]])) == 1
    with pytest.raises(ValueError, match="no rows"):
        expected_calibration_error([], np.zeros((0, 2)))


def test_calibration_error_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    probabilities = rng.random((500, 1))
    labels = (rng.random((500, 1)) < probabilities**2).astype(int)
    right, sure = calibration_curve(labels.ravel(), probabilities.ravel(), n_bins=10)
    rows = np.histogram(probabilities, np.linspace(0, 1, 11))[0]
    expected = np.average(np.abs(right - sure), weights=rows)
    assert expected_calibration_error(labels, probabilities, bins=10) == pytest.approx(expected)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(task, true_temperature):
    """Labels are drawn from calibrated probabilities; the logits are then multiplied by the temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    if task == "single_label":
        labels = np.array([rng.choice(3, p=p) for p in special.softmax(logits, axis=1)])
    else:
        labels = (rng.random(logits.shape) < special.expit(logits)).astype(int)
    found = fit_temperature(true_temperature * logits, labels, task)
    assert found == pytest.approx(true_temperature, rel=0.08)
    before, after = (
        expected_calibration_error(labels, probabilities_of(true_temperature * logits / t, task))
        for t in (1, found)
    )
    assert after < 0.025
    assert true_temperature == 1 or after < before / 2
    if task == "single_label":
        losses = {
            t: log_loss(labels, probabilities_of(true_temperature * logits / t))
            for t in (0.97 * found, found, 1.03 * found)
        }
        assert min(losses, key=losses.get) == found


def test_a_temperature_needs_rows_and_mistakes():
    assert fit_temperature([[5.0, 0], [0, 5]], [0, 1]) == 1.0
    assert fit_temperature([[1e4, 0], [0, 1e4]], [1, 1]) == pytest.approx(20, rel=0.01)
    with pytest.raises(ValueError, match="no rows"):
        fit_temperature(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="a number has no probability"):
        fit_temperature([[1.0]], [1.0], "regression")


SIZES = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
BART = {"d_model": 12, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "encoder_layers": 1, "decoder_layers": 1}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TINY = {
    "bert": BertConfig(vocab_size=60, num_labels=3, **SIZES),
    "distilbert": DistilBertConfig(vocab_size=60, dim=12, n_layers=1, n_heads=2, hidden_dim=12, num_labels=3),
    "roberta": RobertaConfig(vocab_size=60, num_labels=3, **SIZES),
    "gpt2": GPT2Config(vocab_size=60, n_embd=12, n_layer=1, n_head=2, num_labels=3, **ENDS),
    "bart": BartConfig(vocab_size=60, num_labels=3, **BART),
    # as many outputs as hidden units: every layer looks like the head
    "ambiguous": BertConfig(
        vocab_size=60, num_labels=4, **(SIZES | {"hidden_size": 4, "intermediate_size": 4})
    ),
}


@pytest.mark.parametrize("name", TINY)
def test_the_folded_temperature_divides_the_logits_and_is_saved(name, tmp_path):
    set_seed(0)
    model = AutoModelForSequenceClassification.from_config(TINY[name]).train()
    texts = torch.tensor([[9, 8, 7, 6, 2], [5, 20, 30, 40, 2]])
    with torch.no_grad():
        before = model.eval()(input_ids=texts).logits
        model.train()
        fold_temperature(model, 2.5)
        assert model.training  # as it was
        after = model.eval()(input_ids=texts).logits
    assert torch.allclose(after * 2.5, before, rtol=1e-4, atol=1e-6)
    assert before.abs().max() > 1e-4
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(again(input_ids=texts).logits, after)
    assert again.config.folded_temperature == 2.5
    with pytest.raises(ValueError, match="was divided by 2.5 already"):
        fold_temperature(again, 2)


def test_the_pipeline_is_calibrated_with_no_extra_step(tmp_path):
    set_seed(0)
    config = BertConfig(vocab_size=30522, num_labels=2, initializer_range=0.5, **SIZES)
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(tmp_path / "before")
    fold_temperature(model, 4.0)
    model.save_pretrained(tmp_path / "after")
    scores = {}
    for name in ("before", "after"):
        AutoTokenizer.from_pretrained(find_model("minilm-l6")).save_pretrained(tmp_path / name)
        answer = pipeline("text-classification", model=str(tmp_path / name), device="cpu")("a film")
        scores[name] = answer[0]["score"]
    assert special.logit(scores["after"]) == pytest.approx(special.logit(scores["before"]) / 4, rel=1e-3)
    assert scores["after"] < scores["before"]


def test_where_the_head_is_not_found_the_model_is_left_alone():
    class Headless(torch.nn.Module):
        """Its logits are not those of its last linear layer."""

        def __init__(self, outputs):
            super().__init__()
            self.config = SimpleNamespace(num_labels=3, eos_token_id=None)
            self.first, self.last = torch.nn.Embedding(60, 5), torch.nn.Linear(5, outputs)
            self.device = torch.device("cpu")

        def forward(self, input_ids):
            return SimpleNamespace(logits=torch.tanh(self.last(self.first(input_ids).mean(dim=1))))

    model = Headless(3)
    before = model.last.weight.clone()
    with pytest.raises(ValueError, match="are not those of its last linear layer: divide them by 3 yourself"):
        fold_temperature(model, 3.0)
    assert torch.equal(model.last.weight, before)
    with pytest.raises(ValueError, match="has no linear layer with 3 outputs"):
        fold_temperature(Headless(2), 3.0)
    with pytest.raises(ValueError, match="a number above 0, not 0"):
        fold_temperature(Headless(3), 0)


# --- suspicious labels --------------------------------------------------------------------------------------


# --- what the template does after training ------------------------------------------------------------------


def test_the_main_score_of_each_task_has_its_interval():
    classes = score_with_interval([0, 1, 1, 0] * 25, [0, 1, 0, 0] * 25)
    assert classes["accuracy_ci95"] == pytest.approx(wilson_interval(75, 100), abs=1e-4)
    labels, answers = np.array([[1, 0], [1, 1]] * 30), np.array([[1, 0], [1, 0]] * 30)
    several = score_with_interval(labels, answers, "multi_label")
    assert several["accuracy_ci95"][0] < 0.5 < several["accuracy_ci95"][1]
    values = np.arange(50.0)
    numbers = score_with_interval(values, values + np.sin(values) * 9, "regression")
    assert numbers["pearson_ci95"][0] < numbers["pearson"] < numbers["pearson_ci95"][1]


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_calibrate_changes_the_model_and_says_by_how_much(task):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (600, 2))
    labels = {
        "single_label": (rng.random(600) < special.expit(true[:, 1] - true[:, 0])).astype(int),
        "multi_label": (rng.random((600, 2)) < special.expit(true)).astype(int),
        "regression": true[:, 0],
    }[task]
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=30, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
            num_labels=2,
        )
    )  # fmt: skip
    before = model.classifier.weight.detach().clone()
    calibration = calibrate(model, 3 * true, labels, task)
    if task == "regression":
        assert calibration == (1.0, None, None)
        assert torch.equal(model.classifier.weight, before)
        assert calibration_error(labels, true, 1.0, task) == {}
        return
    assert calibration.temperature == pytest.approx(3, rel=0.2)
    assert torch.allclose(model.classifier.weight * calibration.temperature, before)
    errors = calibration_error(labels, 3 * true / calibration.temperature, calibration.temperature, task)
    assert errors["temperature"] == calibration.temperature
    assert errors["ece"] < errors["ece_before"] - 0.03
    if task == "multi_label":
        assert model.config.thresholds == calibration.thresholds.tolist()
    else:
        assert calibration.thresholds is None


def test_the_review_has_the_most_confident_mistakes_on_top():
    rows = pd.DataFrame({"row": [1, 2, 3, 4], "text": list("abcd"), "label": ["x", "y", "y", "x"]})
    shares = np.array([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.6, 0.4]])
    table = review(rows, np.array([0, 1, 1, 0]), shares.argmax(axis=1), shares, ["x", "y"])
    assert table["row"].tolist() == [3, 2, 1, 4]
    assert table["right"].tolist() == [False, False, True, True]
    assert table["predicted"].tolist() == ["x"] * 4
    assert table["confidence"].tolist() == [0.8, 0.7, 0.9, 0.6]
    several = np.array([[1, 0], [0, 1], [1, 1], [1, 0]])
    table = review(
        rows, several, np.array([[1, 0], [1, 1], [1, 1], [0, 0]]), shares, ["x", "y"], "multi_label"
    )
    assert table[["row", "predicted", "right"]].values.tolist() == [
        [2, "x|y", False], [4, "", False], [1, "x", True], [3, "x|y", True],
    ]  # fmt: skip
    values = np.array([1.0, 2.0, 3.0, 4.0])
    table = review(rows, values, values + [0.1, -2, 1, 0], values, ["value"], "regression")
    assert table["row"].tolist() == [2, 3, 1, 4]
    assert table["off_by"].tolist() == pytest.approx([-2, 1, 0.1, 0])


def test_scores_by_label():
    table = per_label([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], ["a", "b", "c"])
    assert table.loc["b"].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 3])
    assert table["support"].tolist() == [2, 3, 0]
    table = per_label(np.arange(10.0), np.arange(10.0) + 1, ["value"], "regression")
    assert table["rows"].tolist() == [2] * 5
    assert table["mean_error"].tolist() == table["mae"].tolist() == [1] * 5
