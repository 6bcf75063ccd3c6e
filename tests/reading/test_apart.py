"""Splits of rows that belong together: groups, times, folds; and what is refused."""

import numpy as np
import pandas as pd
import pytest
from sample_tables import as_table, lines, parquet, write

from utils.data import TableError, read_table, split_table
from utils.labels import SEPARATOR

DRAW = np.random.RandomState(7)
LABELS = DRAW.choice(["a", "b", "c"], 600, p=[0.55, 0.35, 0.1])
GROUPS = [f"g{k}" for k in DRAW.geometric(0.03, 600)]  # some large, many small


def of(column, cells, labels=LABELS, fold=None, **values):
    """A table whose rows have these groups or times; by "" it has the column, and none asked for it."""
    table = as_table(labels, **values)
    return table._replace(rows=table.rows.assign(**{column: cells}), split_by=column, fold=fold)


def finding(splits, id):
    return [found.message for found in splits.findings if found.id == id]


def shares_of(part, task):
    if task == "regression":
        return pd.cut(part["value"], np.linspace(0, 1, 6)).value_counts(normalize=True)
    return part["label"].str.get_dummies(SEPARATOR).mean()


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_groups_stay_whole_and_labels_keep_their_shares(task):
    labels, value = LABELS, {}
    if task == "multi_label":
        labels = [label if k % 3 else f"{label}|d" for k, label in enumerate(LABELS)]
    elif task == "regression":
        value = {"value": np.random.RandomState(1).uniform(size=600)}
    table = of("group", GROUPS, labels, **value)
    splits = split_table(table, task=task, seed=3)
    groups = [set(part["group"]) for part in splits[:3]]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(set(GROUPS))
    assert [len(part) for part in splits[:3]] == pytest.approx([420, 90, 90], abs=12)
    shares = pd.DataFrame([shares_of(part, task) for part in splits[:3]])
    assert (shares.max() - shares.min()).max() < 0.08
    counts = ", ".join(
        f"{len(names)} in {name}" for names, name in zip(groups, ("train", "validation", "test"), strict=True)
    )
    (said,) = finding(splits, "group-split")
    assert f"there are {counts}." in said
    again, other = split_table(table, task=task, seed=3), split_table(table, task=task, seed=4)
    assert again.test.equals(splits.test)
    assert not other.test.equals(splits.test)


def test_the_largest_difference_of_a_share_is_named():
    labels = ["yes"] * 40 + ["no"] * 50 + ["yes"] * 10
    splits = split_table(of("group", ["x"] * 80 + ["y"] * 8 + ["z"] * 12, labels))
    assert [set(part["group"]) for part in splits[:3]] == [{"x"}, {"y"}, {"z"}]
    (said,) = finding(splits, "group-split")
    assert said.endswith("'no' differ most: 50.0% in train, 100.0% in validation, 16.7% in test.")


def test_without_being_asked_a_column_called_group_is_no_more_than_a_column():
    assert split_table(of("group", GROUPS)._replace(split_by="")).test["group"].isin(["g1", "g2"]).any()
    plain = [
        split_table(table).test["row"].tolist()
        for table in (as_table(LABELS), of("x", GROUPS)._replace(split_by=""))
    ]
    assert plain[0] == plain[1]


def test_one_giant_group_trains_and_too_few_groups_are_refused():
    splits = split_table(of("group", ["giant"] * 480 + GROUPS[:120]))
    assert set(splits.train["group"]) == {"giant"}
    assert len(splits.validation) == len(splits.test) == 60
    for number in (1, 2):
        with pytest.raises(TableError, match=rf"90 rows in {number} group.* are too few"):
            split_table(of("group", [f"g{k % number}" for k in range(90)], LABELS[:90]))


def test_as_many_groups_as_rows_is_a_stratified_split():
    splits = split_table(of("group", [f"g{k}" for k in range(600)]))
    assert [len(part) for part in splits[:3]] == [420, 90, 90]
    shares = pd.DataFrame([shares_of(part, "single_label") for part in splits[:3]])
    assert (shares.max() - shares.min()).max() < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_a_label_of_one_group_is_learnt_and_not_asked_for(seed):
    groups = [f"g{k % 9}" for k in range(90)]
    labels = ["rare" if group == "g4" and k % 2 else "ab"[k % 2] for k, group in enumerate(groups)]
    splits = split_table(of("group", groups, labels), seed=seed)
    assert "g4" in set(splits.train["group"])


def test_your_own_test_file_takes_its_groups_out_of_training():
    own = of("group", ["g1", "g2", "new"], ["a", "b", "a"])
    own.rows["text"] = ["own 1", "own 2", "text 5"]
    splits = split_table(of("group", GROUPS), test=own)
    gone = [group in ("g1", "g2") for group in GROUPS]
    gone[5] = False
    assert splits.test.equals(own.rows)
    assert splits.dropped["training_group_in_test"] == sum(gone)
    assert splits.dropped["training_text_in_test"] == 1
    assert sum(map(len, splits[:2])) == 600 - sum(gone) - 1
    first = np.flatnonzero(gone)[0] + 1
    (said,) = [said for said in finding(splits, "split-leak") if "belong to groups" in said]
    assert f"({first}, " in said
    with pytest.raises(TableError, match="no column 'group'. Read every table with the same group_column"):
        split_table(of("group", GROUPS), test=as_table(["a", "b"], texts=["own 1", "own 2"]))


# --- time ---------------------------------------------------------------------------------------------------


def test_the_past_trains_the_newest_rows_test_and_a_moment_stays_together():
    times = np.random.RandomState(2).permutation(np.arange(600) // 4)  # four rows a moment
    splits = split_table(of("time", times.astype(float)))
    train, validation, test = (part["time"] for part in splits[:3])
    assert train.max() < validation.min() <= validation.max() < test.min()
    assert [len(part) for part in splits[:3]] == pytest.approx([420, 90, 90], abs=4)
    assert splits.train["row"].is_monotonic_increasing
    spans = [f"{part.min():g} to {part.max():g}" for part in (train, validation, test)]
    (said,) = finding(splits, "time-split")
    assert said == f"The rows by time: train {spans[0]}; validation {spans[1]}; test {spans[2]}."


def test_numbers_in_one_file_and_dates_in_the_other_are_refused():
    own = of("time", pd.to_datetime(["2024-01-01", "2024-01-02"]), ["a", "b"], texts=["own 1", "own 2"])
    with pytest.raises(TableError, match="time is a number in one file and a date in another"):
        split_table(of("time", np.arange(600.0)), test=own)


def test_two_moments_are_too_few():
    with pytest.raises(TableError, match="have 2 different times"):
        split_table(of("time", [1.0, 2.0] * 300))


def test_an_own_test_file_of_old_rows_is_warned_of():
    own = of("time", [10.0, 700.0], ["a", "b"])
    own.rows["text"] = ["own 1", "own 2"]
    splits = split_table(of("time", np.arange(600.0)), test=own)
    assert splits.validation["time"].min() == 510
    said = finding(splits, "time-split")
    assert said[1] == "row 1 of the test rows are older than the newest training row (509)."
    assert len(said) == 2


# --- columns of a file --------------------------------------------------------------------------------------

DATES = {
    "2024-03-31": "2024-03-31",
    "2024-03-31T23:30:00-02:00": "2024-04-01 01:30",
    "31/03/2024": "2024-03-31",
    "3 April 2024": "2024-04-03",
    "Wed Oct 10 20:19:24 +0000 2018": "2018-10-10 20:19:24",
}


def test_dates_are_read_as_people_write_them(tmp_path):
    content = "text,label,when\n" + "".join(f"t {k},{'ab'[k % 2]},{date}\n" for k, date in enumerate(DATES))
    rows = read_table(write(tmp_path, "a.csv", content), time_column="when").rows
    assert rows["time"].tolist() == [pd.Timestamp(date) for date in DATES.values()]
    assert "when" not in rows
    records = [{"text": f"t {k}", "label": "ab"[k % 2], "when": 1e9 - k} for k in range(4)]
    rows = read_table(write(tmp_path, "a.jsonl", lines(*records)), time_column="when").rows
    assert rows["time"].tolist() == [1e9, 1e9 - 1, 1e9 - 2, 1e9 - 3]
    days = pd.to_datetime(["2024-01-02", "2023-01-02"])
    typed = parquet(text=["x", "y"], label=["a", "b"], when=days)
    assert read_table(write(tmp_path, "a.parquet", typed), time_column="when").rows["time"].tolist() == [
        *days
    ]


def test_the_groups_of_typed_and_of_written_files_are_the_same(tmp_path):
    typed = parquet(text=["x", "y", "z"], label=["a", "b", "a"], by=[1.0, 2.0, 12.0])
    written = "text,label,by,group\nx,a,1,p\ny,b, 2,q\nz,a,12 ,r\n"
    tables = [write(tmp_path, "a.parquet", typed), write(tmp_path, "a.csv", written)]
    tables = [read_table(path, group_column="by") for path in tables]
    assert [table.rows["group"].tolist() for table in tables] == [["1", "2", "12"]] * 2
    assert tables[1].rows["group_in_file"].tolist() == ["p", "q", "r"]


@pytest.mark.parametrize(
    ("arguments", "cells", "says"),
    [
        ({"time_column": "x"}, ["2024-01-01", "03/04/2024"], "row 2, column 'x': '03/04/2024' may have day"),
        ({"time_column": "x"}, ["2024-01-01", "2024-02-30"], "row 2, column 'x': '2024-02-30' is no date"),
        ({"time_column": "x"}, ["12:30", "2024-01-01"], "row 1, column 'x': '12:30' is no date"),
        ({"time_column": "x"}, ["soon", "later"], "'soon' is no date (as in 2 rows (1, 2))"),
        ({"time_column": "x"}, ["2024-01-01", " "], "row 2 blank in column 'x'. Fill in every time"),
        ({"group_column": "x"}, ["", "y"], "row 1 blank in column 'x'. Fill in every group"),
        ({"group_column": "X"}, ["y", "z"], "no column 'X'; it has 'text', 'label', 'x'. Set group_column."),
        ({"group_column": "x", "time_column": "x"}, ["1", "2"], "Give one of them"),
        ({"group_column": "text"}, ["1", "2"], "'text' cannot be the column of the texts or labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_by_is_refused(tmp_path, arguments, cells, says):
    content = "text,label,x\n" + "".join(f"t {k},{'ab'[k % 2]},{cell}\n" for k, cell in enumerate(cells))
    with pytest.raises(TableError) as error:
        read_table(write(tmp_path, "a.csv", content), **arguments)
    assert says in str(error.value)


def test_the_products_know_their_reviews():
    splits = split_table(read_table("products", group_column="review"))
    assert not set(splits.train["group"]) & set(splits.test["group"])
    assert 45 <= splits.test["group"].nunique() + splits.validation["group"].nunique() <= 135
    random = split_table(read_table("products"))
    assert random.test["review"].isin(random.train["review"]).mean() > 0.9


# --- folds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["", "group"])
def test_each_row_is_in_one_fold_and_groups_are_whole(column):
    table = of("group", GROUPS)._replace(split_by=column)
    parts = [split_table(table._replace(fold=(k, 4)), seed=5) for k in range(4)]
    assert sorted(row for part in parts for row in part.test["row"]) == list(range(1, 601))
    for part in parts:
        assert len(part.test) == pytest.approx(150, abs=8 if column else 1)
        assert sum(map(len, part[:3])) == 600
        assert (part.test["label"] == "b").mean() == pytest.approx((LABELS == "b").mean(), abs=0.03)
        if column:
            assert not set(part.test["group"]) & {*part.train["group"], *part.validation["group"]}
    other = split_table(table._replace(fold=(0, 4)), seed=6)
    assert not other.test["row"].equals(parts[0].test["row"])


def test_a_class_of_one_row_is_never_held_out():
    table = as_table([*"ab" * 10, "c"])
    rows = [row for k in range(3) for row in split_table(table._replace(fold=(k, 3))).test["row"]]
    assert sorted(rows) == list(range(1, 21))
    for fold in ((3, 3), (0, 22)):
        with pytest.raises(TableError, match="There is no fold"):
            split_table(table._replace(fold=fold))
