"""The comparison of runs, driven from Python, on a sweep made here."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from utils.lessons import batch_runs
from utils.lessons.batch_runs import read_run, run_explorer, run_names

MARKUP = "<script>window.hacked = 1</script>"
RATES, SEEDS = (2e-5, 5e-5, 5e-4), (1, 2, 3)


@pytest.fixture
def sweep(tmp_path):
    """Three rates by three seeds, in the files of a batch: its leaderboard and its folder.

    Of the highest rate only the last run has ended well.
    """
    rows = []
    for k, rate in enumerate(RATES):
        for seed in SEEDS:
            run = f"rate-{k}_seed-{seed}"
            failed = rate == 5e-4 and seed < 3
            right = 90 - k - seed
            row = {
                "run_id": run,
                "model_name": MARKUP,
                "learning_rate": rate,
                "seed": seed,
                "status": "failed" if failed else "completed",
            }
            row |= {
                "validation_f1_macro": np.nan if failed else right / 100,
                "test_f1_macro": np.nan if failed else right / 100 - 0.01,
                "seconds": 9.5,
            }
            rows.append(row | {"error": f"WatchError: {MARKUP}" if failed else ""})
            (tmp_path / run).mkdir()
            if failed:
                continue
            history = [
                {"epoch": 0.5, "loss": 0.7},
                {"epoch": 1, "loss": 0.5 / (k + 1)},
                {"epoch": 1, "eval_loss": 0.4 / seed, "eval_f1_macro": 0.8},
            ]
            (tmp_path / run / "metrics.json").write_text(
                json.dumps({"parameters": {"task": "single_label"}, "history": history})
            )
            answers = {
                "text": range(100),
                "label": ["no", MARKUP] * 50,
                "predicted": (["no", MARKUP] * 50)[:right] + ["no"] * (100 - right),
            }
            pd.DataFrame(answers).to_csv(tmp_path / run / "predictions.csv", index=False)
    return pd.DataFrame(rows), tmp_path


def cells(box):
    """The table as {row name: [cell of each run]}, as HTML source."""
    rows = re.findall(r"<tr><th[^>]*>(.*?)</th>(.*?)</tr>", box.table.value)
    return {name: re.findall(r"<td>(.*?)</td>", rest) for name, rest in rows}


def test_it_starts_with_the_best_and_the_worst_run_and_draws_once(sweep, monkeypatch):
    drawn = []
    for name in ("curves_side_by_side", "confusions_side_by_side"):
        real = getattr(batch_runs, name)

        def draw(runs, real=real, name=name):
            drawn.append((name, list(runs)))
            return real(runs)

        monkeypatch.setattr(batch_runs, name, draw)
    box = run_explorer(*sweep)
    assert box.choice.value == ("rate-0_seed-1", "rate-2_seed-3")
    names = ["learning_rate 2e-05, seed 1", "learning_rate 0.0005, seed 3"]
    assert drawn == [("curves_side_by_side", names), ("confusions_side_by_side", names)]
    assert [label for label, _ in box.choice.options][::4] == [
        "learning_rate 2e-05, seed 1",
        "learning_rate 5e-05, seed 2",
        "learning_rate 0.0005, seed 3",
    ]
    assert box.choice.options[6] == ("learning_rate 0.0005, seed 1 (failed)", "rate-2_seed-1")
    for image in (box.curves, box.confusions):
        assert bytes(image.value).startswith(b"\x89PNG")
    box.choice.value = ("rate-0_seed-2",)
    assert len(drawn) == 4


def test_another_choice_shows_other_curves_confusions_and_scores(sweep):
    box = run_explorer(*sweep, chosen=["rate-0_seed-1", "rate-0_seed-2"])
    # the rate is the same, and is not shown; nor is an error where there is none
    assert cells(box) == {
        "seed": ["1", "2"],
        "validation_f1_macro": ["0.89", "0.88"],
        "test_f1_macro": ["0.88", "0.87"],
        "seconds": ["9.5", "9.5"],
    }
    before = bytes(box.curves.value), bytes(box.confusions.value)
    box.choice.value = ("rate-0_seed-1", "rate-1_seed-1", "rate-2_seed-3")
    assert cells(box)["learning_rate"] == ["2e-05", "5e-05", "0.0005"]
    assert box.curves.value != before[0]
    assert box.confusions.value != before[1]
    assert [axes.lines[0].get_ydata()[1] for axes in box.figures["curves"].axes] == pytest.approx(
        [0.5, 0.25, 0.5 / 3]
    )
    assert [axes.texts[0].get_text() for axes in box.figures["confusions"].axes[:3]] == [
        "44",
        "44",
        "42",
    ]  # the first label, right
    assert box.curves.layout.display is box.confusions.layout.display is None


def test_one_run_a_failed_one_none_and_too_many(sweep):
    box = run_explorer(*sweep)
    box.choice.value = ("rate-1_seed-2",)
    assert cells(box)["learning_rate"] == ["5e-05"]
    assert len(box.figures["curves"].axes) == 1
    box.choice.value = ("rate-2_seed-1",)
    assert box.figures == {}
    assert cells(box)["validation_f1_macro"] == ["–"]
    assert cells(box)["error"] == ["WatchError: &lt;script&gt;window.hacked = 1&lt;/script&gt;"]
    assert box.curves.layout.display == box.confusions.layout.display == "none"
    box.choice.value = ("rate-2_seed-1", "rate-0_seed-1")
    assert len(box.figures["curves"].axes) == 1
    assert box.curves.layout.display is None
    box.choice.value = ()
    assert "Choose up to 3 runs" in box.table.value
    box.choice.value = tuple(sweep[0]["run_id"][:5])
    assert len(box.figures["curves"].axes) == 3
    assert "2 more are chosen; the first 3 are shown" in box.table.value


def test_text_from_data_is_escaped(sweep):
    leaderboard, folder = sweep
    leaderboard.loc[0, "model_name"] = '<img src=x onerror="alert(1)">'  # two models now, so it is shown
    box = run_explorer(leaderboard, folder)
    assert cells(box)["model_name"] == [
        "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;",
        "&lt;script&gt;window.hacked = 1&lt;/script&gt;",
    ]
    assert "<img" not in box.table.value
    assert "<script" not in box.table.value


def test_other_tasks_have_curves_and_no_confusion_matrix(sweep):
    leaderboard, folder = sweep
    for task in ("multi_label", "regression"):
        for path in folder.glob("*/metrics.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"parameters": {"task": task}}))
        assert list(run_explorer(leaderboard, folder).figures) == ["curves"]


def test_a_sweep_whose_runs_all_failed_or_have_no_scores_is_shown_and_an_unknown_run_refused(sweep):
    leaderboard, folder = sweep
    assert run_explorer(leaderboard.iloc[6:8], folder).figures == {}
    bare = leaderboard.drop(columns=["validation_f1_macro", "test_f1_macro"])
    assert run_explorer(bare, folder).choice.value == ("rate-0_seed-1", "rate-2_seed-3")
    with pytest.raises(ValueError, match="'rate-9' in the leaderboard"):
        run_explorer(leaderboard, folder, chosen=["rate-0_seed-1", "rate-9"])
    with pytest.raises(ValueError, match="no runs"):
        run_explorer(leaderboard.head(0), folder)


def test_a_run_is_named_by_what_differs(sweep):
    leaderboard, _ = sweep
    leaderboard.insert(1, "rows", [None] * 8 + [500])
    assert run_names(leaderboard)["rate-1_seed-1"] == "rows None, learning_rate 5e-05, seed 1"
    assert run_names(leaderboard.head(1)) == {"rate-0_seed-1": "rate-0_seed-1"}


def test_the_history_comes_from_metrics_or_the_newest_checkpoint(tmp_path):
    assert read_run(tmp_path) == ("single_label", [], [], [])
    for step, loss in ((90, 0.5), (180, 0.2)):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": [{"epoch": 1, "loss": loss}]}))
    assert read_run(tmp_path).history == [{"epoch": 1, "loss": 0.2}]
    (tmp_path / "metrics.json").write_text(
        json.dumps({"parameters": {"task": "regression"}, "history": [{"epoch": 1, "loss": None}]})
    )
    (tmp_path / "predictions.csv").write_text("text,label,predicted,probability_x\na,'=x,NA\n")
    assert read_run(tmp_path) == ("regression", [{"epoch": 1, "loss": None}], ["=x"], ["NA"])
    (tmp_path / "predictions.csv").write_text(
        "row,text,label,predicted,probability_x\n3,a,'=x,NA\n"
    )  # as it is written now; the other is older
    assert read_run(tmp_path) == ("regression", [{"epoch": 1, "loss": None}], ["=x"], ["NA"])
    (tmp_path / "checkpoints" / "checkpoint-notes").mkdir()
    (tmp_path / "metrics.json").unlink()
    assert read_run(tmp_path).history == [{"epoch": 1, "loss": 0.2}]
