"""`make bench`: what is measured again and what is not, the report's arithmetic, and one real measurement."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import report
import run
import torch
from records import append, is_done, peak_mib, read, recipe

SOURCE = '''
def method(rows):
    """Words."""
    return helper(rows) + 1  # why

def helper(rows):
    return {value}

def other(rows):
    return 5
'''


def line(method, seed, cpu, accuracy, validation=0.9, **more):
    """A measurement on 400 test rows, with one evaluation at a half of its CPU seconds and one at the end."""
    scores = {"accuracy": accuracy, "f1_macro": accuracy - 0.01}
    found = {"set": "tweets", "method": method, "seed": seed, "threads": 2, "recipe": "r", "quick": False}
    found |= {"seconds": cpu / 2, "cpu_seconds": cpu, "step_seconds": cpu / 5, "peak_mib": 1000.0}
    found |= {"test": scores, "validation": {"accuracy": validation, "f1_macro": 0.9}, "test_rows": 400}
    return found | {"evaluations": [[cpu / 2, 0.8], [cpu, validation]]} | more


@pytest.fixture
def folder(tmp_path):
    lines = [line("textbook", 1, 1000, 0.90), line("textbook", 2, 1200, 0.92)]
    lines += [line("template", 1, 100, 0.92), line("template", 2, 100, 0.93, validation=0.89)]
    lines += [line("tfidf", 1, 5, 0.80), line("embeddings", 1, 20, 0.921), line("dynamic", 1, 300, 0.94)]
    for each in lines:
        append(tmp_path / "results.jsonl", each)
    return tmp_path


def test_what_a_recipe_is_made_of():
    before = recipe("method", SOURCE.replace("{value}", "1"))
    assert re.fullmatch("[0-9a-f]{12}", before)
    same = SOURCE.replace("{value}", "1").replace("Words.", "Other words.").replace("# why", "# because")
    assert recipe("method", same.replace("return 5", "return 6")) == before, (
        "words, and what it does not call"
    )
    assert recipe("method", SOURCE.replace("{value}", "2")) != before, "what it calls"
    assert recipe("method", SOURCE.replace("{value}", "1"), "torch 3") != before


def test_a_method_of_the_ladder_has_its_own_recipe_and_the_template_that_of_its_notebook(
    monkeypatch, tmp_path
):
    found = {method: run.recipe_of(method, "rows") for method in run.METHODS + run.PEERS}
    assert len({*found.values()}) == len(found)
    assert run.recipe_of("tfidf", "other rows") != found["tfidf"]
    notebook = json.loads((run.ROOT / "notebooks" / "template.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(run, "ROOT", tmp_path)

    def recipe_now():
        (tmp_path / "notebooks" / "template.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        return run.recipe_of("template", "rows")

    code[3]["outputs"] = []
    assert recipe_now() == found["template"], "outputs do not count"
    code[2]["source"] = [*code[2]["source"], "\nnum_train_epochs = 1"]
    assert recipe_now() != found["template"]


def test_what_is_measured_is_not_measured_again(monkeypatch, tmp_path, capsys):
    """And a measurement that fails, or is interrupted, leaves no line."""
    begun, ends = [], {}

    def measure(method, data, seed, threads, log):
        begun.append((seed, method))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("Traceback\nMemoryError: all gone")
        if isinstance(ended := ends.get(method, {"cpu_seconds": 1.0, "test": {"accuracy": 0.5}}), type):
            raise ended
        return ended

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(run, "prepare", lambda name, *_: (tmp_path, "rows"))
    given = ["--sets", "tweets", "--methods", "majority,tfidf", "--seeds", "2", "--threads", "1"]
    ends["tfidf"] = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        run.main(given, tmp_path)
    ends["tfidf"] = None
    assert run.main(given, tmp_path) == 2
    assert "MemoryError: all gone" in capsys.readouterr().out
    del ends["tfidf"]
    assert run.main(given, tmp_path) == 0
    assert begun == [(1, "majority"), (1, "tfidf")] + [
        (1, "tfidf"), (2, "majority"), (2, "tfidf")] + [(1, "tfidf"), (2, "tfidf")]  # fmt: skip
    lines = read(tmp_path / "results.jsonl")
    assert sorted((each["seed"], each["method"]) for each in lines) == [
        (seed, method) for seed in (1, 2) for method in ("majority", "tfidf")
    ]
    run.main([*given[:-1], "2"], tmp_path)
    assert len(read(tmp_path / "results.jsonl")) == 8, "other threads are other measurements"


def test_what_an_older_recipe_measured_is_left_out_of_the_report(folder):
    append(folder / "results.jsonl", line("template", 1, 50, 0.95, recipe="newer"))
    found = report.load(report.newest(folder, "results")).query("method == 'template'")
    assert found[["seed", "cpu_seconds"]].to_numpy().tolist() == [[1, 50]]
    append(folder / "results.jsonl", line("majority", 1, 2, 0.653, validation=0.95))
    first = report.load(report.newest(folder, "results")).query("seed == 1")
    assert first["cpu_to_textbook"].isna().all(), "a score that is free is no goal"


def test_the_newest_line_of_each_measurement_is_published(folder, tmp_path, monkeypatch):
    (target := tmp_path / "measured").mkdir()
    append(folder / "results.jsonl", line("majority", 1, 3, 0.653))
    append(folder / "results.jsonl", line("majority", 1, 2, 0.653))
    append(folder / "growth.jsonl", {"stage": "read", "rows": 1000, "seconds": 0.5, "peak_mib": 200.0})
    append(folder / "growth.jsonl", {"stage": "read", "rows": 1000, "seconds": 0.4, "peak_mib": 200.0})
    append(target / "startup.jsonl", {"`import utils`": 0.125})
    monkeypatch.setattr(report, "FOLDER", folder)
    report.publish(target)
    assert read(target / "startup.jsonl"), "what was not measured again stays"
    before, after = read(folder / "results.jsonl"), read(target / "results.jsonl")
    assert after[-1] == before[-1]
    assert [(each["method"], each["seed"]) for each in after].count(("majority", 1)) == 1
    assert [each["seconds"] for each in read(target / "growth.jsonl")] == [0.4]
    assert report.main(target)


def test_only_the_same_recipe_counts(tmp_path):
    append(tmp_path / "lines.jsonl", line("tfidf", 1, 5, 0.8))
    lines = read(tmp_path / "lines.jsonl")
    wanted = {name: lines[0][name] for name in run.KEY}
    assert is_done(lines, run.KEY, wanted)
    assert not is_done(lines, run.KEY, wanted | {"recipe": "another"})


def test_a_line_cut_short_is_named(tmp_path):
    (tmp_path / "lines.jsonl").write_text('{"set": "tweets"}\n{"set": "rev')
    with pytest.raises(ValueError, match="Line 2 of lines.jsonl is no measurement"):
        read(tmp_path / "lines.jsonl")


@pytest.mark.parametrize(("option", "what"), [("--methods", "method"), ("--sets", "set")])
def test_an_unknown_name_is_refused_before_anything_runs(option, what, tmp_path):
    with pytest.raises(SystemExit, match=f"There is no {what} 'tf-idf'. There are: "):
        run.main([option, "tf-idf"], tmp_path)


def test_a_peer_that_is_not_installed_is_named(monkeypatch, tmp_path, folder, capsys):
    monkeypatch.setattr(run, "ENVIRONMENTS", tmp_path / "none")
    monkeypatch.setattr(run, "prepare", lambda name, *_: (tmp_path, "rows"))
    assert run.main(["--sets", "tweets", "--methods", "setfit"], tmp_path / "bench") == 0
    assert "setfit: not installed (make bench PEERS=1 does)" in capsys.readouterr().out
    assert "| setfit | not measured: `make bench PEERS=1` |" in report.main(folder)


def test_the_ratios_against_the_textbook(folder):
    found = report.load(report.newest(folder, "results"))
    reached = found.set_index(["method", "seed"])["cpu_to_textbook"]
    assert reached["textbook", 2] == 1200
    assert reached["template", 1] == 100
    assert reached[[("template", 2), ("dynamic", 1)]].isna().tolist() == [True, False]
    said = report.against_textbook(found)
    assert "1/11.0 ± 1.4 of the textbook's CPU seconds, 1/11.0 ± 1.4 of its seconds of training steps" in said
    late = "1/10.0 of its CPU seconds until its final validation accuracy (1 of 2 seeds get there)."
    assert late in said, "one seed has no deviation"
    assert "0.925 ± 0.007 against 0.910 ± 0.014: +1.5 ± 0.7 points, seeds: 2." in said
    assert "at most 1.9." in said  # 100 * sqrt((0.91 * 0.09 + 0.925 * 0.075) / 400)
    assert report.headline(found).startswith("The template takes 1/11.0 of the textbook's CPU seconds")
    last = report.against_textbook(found[found["seed"] == 2])
    assert "of training steps. It never reaches the textbook's final validation accuracy. Its" in last
    alone = report.against_textbook(found[found["method"] != "textbook"])
    assert alone == "tweets: template and textbook are not both measured, so there is no ratio."


def test_where_the_template_loses_is_said(folder):
    said = "\n".join(report.rivals(report.load(report.newest(folder, "results"))))
    assert "the template loses to dynamic, which is 2.0 points better for 3 times its CPU seconds" in said
    assert "embeddings, which is 0.1 points better for 0.2 times" in said, (
        "against the same seed, not the mean"
    )
    assert "tfidf" not in said, "far behind"
    assert "textbook" not in said, "near, but dearer"
    append(folder / "results.jsonl", line("grouped", 1, 200, 0.935))
    append(folder / "results.jsonl", line("setfit", 1, 50, 0.91))
    near = "\n".join(report.rivals(report.load(report.newest(folder, "results"))))
    assert "is within a standard error of grouped, which is 1.5 points better for 2 times" in near
    assert "setfit is only 1.0 points behind the template, for 0.5 times its CPU seconds" in near
    best = report.load(report.newest(folder, "results")).query("method in ('template', 'tfidf')")
    assert report.rivals(best)[0].startswith("tweets: no method beats the template, and none comes near it")


def test_the_report_says_that_it_is_the_quick_one_and_draws(folder):
    append(folder / "results.jsonl", line("majority", 1, 2, 0.6, quick=True))
    append(folder / "growth.jsonl", {"stage": "read", "rows": 1000, "seconds": 0.5, "peak_mib": 200.0})
    append(folder / "startup.jsonl", {"`import utils`": 0.125})
    append(folder / "results.jsonl", line("tfidf", 1, 4, 0.7) | {"set": "tweets-300"})
    for seed, score in ((1, 0.8), (2, 0.9)):
        found = {"set": "tweets", "seed": seed, "recipe": "two epochs", "cpu_seconds": 40.0}
        found |= {"validation": score, "test": score, "validation_loss": score / 2, "test_loss": score / 4}
        append(folder / "recipes.jsonl", found)
    text = report.main(folder)
    assert text == (folder / "table.md").read_text(encoding="utf-8")
    assert "QUICK" in text.splitlines()[0]
    assert "| template | 2 | 0.925 ± 0.007 |" in text
    assert "| 1,000 | 0.50 s, 200 MiB |" in text
    assert "| `import utils` | 0.12 |" in text
    assert "| tweets | two epochs | 2 | 40 ± 0 | 0.850 ± 0.071 | 0.850 ± 0.071 | 0.319 ± 0.027 |" in text
    assert all((folder / f"{name}.png").stat().st_size > 5000 for name in ("figure", "few", "growth"))


def test_the_table_in_the_repository_is_that_of_the_measurements_beside_it(tmp_path):
    measured = run.HERE / "measured"
    for path in measured.glob("*.jsonl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert report.main(tmp_path) == (measured / "table.md").read_text(encoding="utf-8")


def test_each_recipe_changes_what_it_says():
    import recipes
    from builders import minilm
    from transformers import TrainingArguments

    known = {*TrainingArguments.__dataclass_fields__}
    assert all({*arguments} <= known for arguments, _ in recipes.RECIPES.values())
    plain, other = minilm()["model"], minilm()["model"]
    assert recipes.change(plain) is None
    words, layers = "embeddings.word_embeddings.weight", plain.base_model.encoder.layer
    assert [name for name, weight in plain.base_model.named_parameters() if not weight.requires_grad] == [
        words
    ]
    assert layers[0].attention.self.dropout.p == 0
    optimizer = recipes.change(other, 1e-4, dropout=True, words=True, identity=True, fast=1e-3)
    assert other.base_model.encoder.layer[0].attention.self.dropout.p > 0
    assert other.get_input_embeddings().weight.requires_grad
    assert other.base_model.pooler.dense.weight.equal(torch.eye(384))
    assert {group["lr"]: len(group["params"]) for group in optimizer.param_groups}[1e-3] == 4
    recipes.change(plain, frozen=2)
    assert [next(layer.parameters()).requires_grad for layer in layers] == [False] * 2 + [True] * 4
    assert not any(weight.requires_grad for weight in plain.base_model.embeddings.parameters())


@pytest.mark.parametrize("labels", [["no", "yes"], ["bad", "fine", "good"]])
def test_a_head_that_begins_as_logistic_regression_knows_its_rows(labels, tmp_path):
    import recipes
    from builders import minilm
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = minilm(labels).values()
    rows = dict(tokenizer([f"{labels[k % len(labels)]} number {k}" for k in range(30)]))
    rows = Dataset.from_dict(rows | {"label": [k % len(labels) for k in range(30)]})
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", dataloader_pin_memory=False)
    trainer = Trainer(model, args, DataCollatorWithPadding(tokenizer))

    def right():
        return np.mean(trainer.predict(rows).predictions.argmax(axis=1) == rows["label"])

    assert right() < 0.9
    recipes.begin_head(trainer, rows)
    assert right() == 1


def test_a_child_is_found_that_seems_older_than_its_parent(monkeypatch):
    import psutil

    monkeypatch.setattr(psutil.Process, "create_time", lambda self: -self.pid)
    sleeps = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", sleeps], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not run.descendants(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        (child,) = run.descendants(process.pid)
        assert {process.pid, child} <= run.descendants(os.getpid())
        assert not psutil.Process(process.pid).children()
    finally:
        process.communicate(b"\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no os.wait4")
def test_one_real_measurement(tmp_path):
    assert run.main(["--quick", "--methods", "tfidf", "--threads", "1"], tmp_path) == 0
    (found,) = read(tmp_path / "quick" / "results.jsonl")
    assert [found[f"{part}_rows"] for part in ("train", "validation", "test")] == [run.QUICK_ROWS] * 3
    assert 0.5 < found["test"]["accuracy"] < 1
    assert 0 < found["evaluations"][0][0] <= found["cpu_seconds"]
    assert 50 < found["peak_mib"] < 2000
    assert peak_mib() > 50


def test_a_few_rows_are_the_first_splits_rows_and_all_of_its_test(tmp_path):
    parts = {name: run.prepare(name, tmp_path, quick=False)[0] for name in ("products", "products-300")}
    whole, few = (
        {part: pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "validation", "test")}
        for folder in parts.values()
    )
    assert [len(frame) for frame in few.values()] == [300, 75, len(whole["test"])]
    assert all(set(few[part]["text"]) <= set(whole[part]["text"]) for part in few)


def test_the_meter_changes_nothing_and_counts_tokens(tmp_path):
    from builders import pair, texts_of, trainer_for
    from meter import Meter, multiplied
    from transformers import TrainerCallback

    class Slow(TrainerCallback):
        def on_evaluate(self, *_, **__):
            ends = time.process_time() + 1
            while time.process_time() < ends:
                pass

    parts = pair(texts=texts_of(24, length=3, most=9))
    plain = trainer_for(tmp_path / "plain", **parts)  # making a Trainer sets the seed
    plain.train()
    watched = trainer_for(tmp_path / "watched", callbacks=[Slow(), Meter(tmp_path / "meter.json")], **parts)
    watched.train()
    weights = zip(plain.model.parameters(), watched.model.parameters(), strict=True)
    assert all(one.equal(other) for one, other in weights)
    found = json.loads((tmp_path / "meter.json").read_text())
    assert found["real_tokens"] == 2 * sum(map(len, parts["train"]["input_ids"])), "two epochs, no evaluation"
    assert found["real_tokens"] < found["computed_tokens"] < 2 * 24 * 11
    assert [accuracy for _, accuracy in found["evaluations"]] == [
        each["eval_accuracy"] for each in watched.state.log_history if "eval_accuracy" in each
    ]
    assert 0 < found["step_seconds"] < 1, "two evaluations of a second are not in it"
    size = watched.model.config
    layer = 4 * size.hidden_size**2 + 2 * size.hidden_size * size.intermediate_size
    assert multiplied(watched.model) == size.num_hidden_layers * layer
    assert 0 < found["efficiency"] < 1


def test_a_rare_label_is_rare_in_each_table_and_no_text_is_in_two():
    import losses

    parts = losses.tables()
    assert {name: len(rows) for name, rows in parts.items()} == losses.ROWS
    assert [(rows["label"] == "negative").mean() for rows in parts.values()] == [losses.RARE] * 3
    assert pd.concat(parts.values())["text"].is_unique


def test_what_is_chosen_and_what_is_drawn_begin_alike():
    import label_next

    draw, begins = np.random.default_rng(0), []
    labels = draw.integers(2, size=900)
    vectors = draw.normal(size=(900, 8)) + 2 * labels[:, None]

    def watched(model, pool, seed):
        begins.append(pool)
        return label_next.chosen(model, pool, seed)

    scores = [label_next.repeat(vectors, labels, 3, how) for how in (label_next.at_random, watched)]
    assert np.shape(scores) == (2, label_next.ROUNDS)
    assert np.min(scores) > 0.95, "the two are easy to tell apart"
    assert [len(pool) for pool in begins] == [350, 300, 250], "what is chosen leaves the pool"
