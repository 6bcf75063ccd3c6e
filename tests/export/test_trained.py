"""A finished run, opened again: the same rows, or a sentence that says what is missing or has changed."""

import pandas as pd
import pytest

from utils import runs
from utils.export.trained import open_trained
from utils.labels import encode_labels
from utils.models import ModelError


def test_the_splits_are_those_of_the_run(make_run):
    trained, splits = make_run("multi_label")
    for part in ("train", "validation", "test"):
        pd.testing.assert_frame_equal(trained.rows[part], getattr(splits, part))
    names = trained.loaded[3]
    assert names == ["bad", "good"]
    assert (trained.true["test"] == encode_labels(splits.test, names, "multi_label")).all()
    tested = splits.test.assign(predicted=splits.test["label"])
    runs.write_predictions(trained.folder.parent, tested)
    open_trained(trained.folder)
    runs.write_predictions(trained.folder.parent, tested.iloc[::-1])
    with pytest.raises(
        ModelError, match="t.csv has changed since .*: other test rows than in predictions.csv"
    ):
        open_trained(trained.folder)
    assert not {*trained.rows["test"]["text"]} & {*trained.rows["train"]["text"]}


def test_a_table_that_has_changed_is_refused_by_name(make_run):
    trained, splits = make_run()
    path = trained.folder.parent / "t.csv"
    table = pd.read_csv(path)
    table.iloc[:-20].to_csv(path, index=False)
    was, name = len(splits.train), f"{trained.folder.parent.name}/model"
    with pytest.raises(ModelError, match=rf"t.csv has changed since {name} .* train {was} rows, now 1\d\d"):
        open_trained(trained.folder)
    table.assign(label=table["label"].str.replace("so-so", "fair")).to_csv(path, index=False)
    with pytest.raises(
        ModelError, match=r"t.csv has changed since .*: .*labels 'bad', 'good', 'so-so', now 'bad', 'fair', "
    ):
        open_trained(trained.folder)


def test_a_folder_that_no_run_left_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="no metrics.json stands beside it.*runs/training/model"):
        open_trained(tmp_path / "model")
