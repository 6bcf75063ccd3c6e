"""The folds of a sweep put together, from predictions made here."""

import json

import pandas as pd
import pytest
from batches import notebook_of

from utils import unquote_formula
from utils.batch.folds import main
from utils.batch.leaderboard import compare_runs
from utils.batch.plan import BatchError, read_plan


def fold_of(folder, rate, fold, rows, task="single_label", folds=2):
    """Make a finished run's folder; `rows` are (row, label, predicted, probability of "=no", of "yes")."""
    run = folder / f"rate-{rate}_fold-{fold}"
    run.mkdir(parents=True)
    parameters = {"task": task, "folds": folds, "fold": fold, "learning_rate": rate, "output_dir": str(run)}
    (run / "metrics.json").write_text(json.dumps({"parameters": parameters}))
    names = ["row", "label", "predicted", "probability_=no", "probability_yes"][: len(rows[0])]
    table = pd.DataFrame(rows, columns=names)
    table.insert(1, "text", [f"text {row}" for row in table["row"]])
    table.replace("=no", "'=no").to_csv(run / "predictions.csv", index=False)


ODD = [
    (11, "yes", "yes", 0.3, 0.7),
    (1, "=no", "yes", 0.2, 0.8),
    (3, "=no", "=no", 0.9, 0.1),
    (5, "yes", "=no", 0.6, 0.4),
]
EVEN = [(2, "yes", "=no", 0.95, 0.05), (4, "=no", "=no", 0.8, 0.2), (10, "yes", "yes", 0.0, 1.0)]  # fmt: skip


def table_in(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False).map(unquote_formula)


def test_all_rows_come_together_with_scores_and_doubtful_labels(tmp_path, capsys):
    fold_of(tmp_path, 0.1, 0, ODD)
    fold_of(tmp_path, 0.1, 1, EVEN)
    main([str(tmp_path)])
    said = capsys.readouterr().out
    # 2 of 4 and 2 of 3 are right: 4 of 7 together
    assert "7 rows, accuracy 0.571, by fold 0.583 ± 0.118;" in said
    assert "95% interval of accuracy 0.251 to 0.842" in said
    rows = table_in(tmp_path / "out_of_fold.csv")
    assert rows["row"].tolist() == ["1", "2", "3", "4", "5", "10", "11"]
    assert rows["fold"].tolist() == ["0", "1", "0", "1", "0", "1", "0"]
    assert rows["label"].tolist() == ["=no", "yes", "=no", "=no", "yes", "yes", "yes"]
    doubts = table_in(tmp_path / "suspicious_labels.csv")
    assert doubts.to_dict("list") == {
        "row": ["2", "1", "5"],
        "text": ["text 2", "text 1", "text 5"],
        "label": ["yes", "=no", "yes"],
        "suggested": ["=no", "yes", "=no"],
        "label_probability": ["0.05", "0.2", "0.4"],
    }


def test_each_configuration_has_its_own_files(tmp_path, capsys):
    for fold, rows in enumerate((ODD, EVEN)):
        fold_of(tmp_path, 0.1, fold, rows)
        fold_of(tmp_path, 0.2, fold, [(row[0], row[1], row[1], *row[3:]) for row in rows])
    main([str(tmp_path)])
    assert "learning_rate 0.2: 7 rows, accuracy 1.000, by fold 1.000 ± 0.000" in capsys.readouterr().out
    assert len(table_in(tmp_path / "out_of_fold-learning_rate-0.1.csv")) == 7


@pytest.mark.parametrize(
    ("task", "rows", "says"),
    [
        (
            "multi_label",
            [[(1, "a|b", "a|b"), (2, "", "b")], [(3, "b", "b"), (4, "a", "a")]],
            "accuracy 0.750",
        ),
        ("regression", [[(1, "1", "1.5"), (2, "3", "3")], [(3, "2", "2"), (4, "-1", "0.5")]], "mae 0.500"),
    ],
)
def test_other_tasks_have_scores_and_no_suspicions(tmp_path, capsys, task, rows, says):
    for fold, part in enumerate(rows):
        fold_of(tmp_path, 0.1, fold, part, task)
    main([str(tmp_path)])
    assert says in capsys.readouterr().out
    assert not (tmp_path / "suspicious_labels.csv").exists()


def test_what_is_incomplete_or_changed_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="has no finished run with a fold"):
        main([str(tmp_path)])
    fold_of(tmp_path, 0.1, 0, ODD, folds=3)
    with pytest.raises(SystemExit, match="The sweep lacks fold 1, 2 of 3"):
        main([str(tmp_path)])
    fold_of(tmp_path / "b", 0.1, 0, ODD)
    fold_of(tmp_path / "b", 0.1, 1, [(3, "yes", "yes", 0.5, 0.5)])
    with pytest.raises(SystemExit, match="Row 3 is in two folds"):
        main([str(tmp_path / "b")])


def test_folds_are_luck_and_no_configurations(tmp_path):
    lines = []
    for rate in (0.1, 0.2):
        for fold, rows in enumerate((ODD, EVEN)):
            right = [(row[0], row[1], row[1], *row[3:]) for row in rows]
            fold_of(tmp_path, rate, fold, rows if rate == 0.1 else right)
            scores = dict.fromkeys(("validation_accuracy", "validation_f1_macro", "test_f1_macro"), rate)
            run = {"run_id": f"rate-{rate}_fold-{fold}", "learning_rate": rate, "fold": fold}
            lines.append(run | {"status": "completed"} | scores | {"seconds": 1.0, "error": ""})
    table = compare_runs(pd.DataFrame(lines), tmp_path, score="accuracy").set_index("learning_rate")
    assert table["seeds"].to_dict() == {0.1: 2, 0.2: 2}
    assert table.loc[0.2, "test_accuracy_gain"] == pytest.approx((0.5 + 1 / 3) / 2)


def test_a_sweep_with_folds_that_cannot_be_is_refused_before_it_starts(tmp_path):
    parameters = "test_file = None  # a\ntime_column = None  # b\nfolds = None  # c\nfold = None  # d\n"
    sweep = {"notebook": notebook_of(tmp_path / "unrun.ipynb", parameters), "grid": {"fold": [0, 1, 2]}}
    assert len(read_plan(sweep | {"parameters": {"folds": 3}}).runs) == 3
    for more, says in (
        ({}, "grid {'fold': 1}: fold and folds go together"),
        ({"folds": 2}, "grid {'fold': 2}: fold and folds go together"),
        ({"folds": 3, "test_file": "x.csv"}, "grid {'fold': 0}: with a fold, which is the test split"),
    ):
        with pytest.raises(BatchError) as error:
            read_plan(sweep | {"parameters": more})
        assert says in str(error.value)
