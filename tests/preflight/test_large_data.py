"""preflight is fast with many rows, and looks at all of them."""

import threading
import time

import numpy as np
import psutil
import pyarrow as pa
import pytest
from builders import Rows, many, table, tiny, trainer_for
from datasets import Dataset, Value

from utils.preflight import preflight


class Peak:
    """Measures time, and how far the memory of the process rose above its start, without mapped files.

    The time is the processor's, all threads together: no less than the clock's on an idle machine, and
    others' work does not count.
    """

    def __enter__(self):
        self._process, self._over, self.bytes = psutil.Process(), threading.Event(), 0
        self._start, self._began = self._own(), time.process_time()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _own(self):
        memory = self._process.memory_info()
        return memory.rss - getattr(memory, "shared", 0)

    def _look(self):
        while not self._over.wait(0.01):
            self.bytes = max(self.bytes, self._own() - self._start)

    def __exit__(self, *_):
        self.seconds = time.process_time() - self._began
        self._over.set()
        self._thread.join()


def measured(folder, train, evaluation):
    trainer = trainer_for(folder, model=tiny(), train=train, held_out=evaluation)
    with Peak() as peak:
        report = preflight(trainer)
    return report, peak


KINDS = {
    "plain": lambda rows, seed: many(rows, seed),
    "with texts": lambda rows, seed: many(rows, seed, text=True),
}
KINDS["shuffled"] = lambda rows, seed: many(rows, seed).shuffle(seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rows", "seconds"),
    [
        ("plain", 10_000, 1),
        ("shuffled", 10_000, 1),
        ("shuffled", 200_000, 3),
        ("with texts", 100_000, 2),
        pytest.param("with texts", 1_000_000, 10, marks=pytest.mark.full(reason="a million rows with texts")),
    ],  # fmt: skip
)
def test_many_rows_take_little_time_and_memory(tmp_path, kind, rows, seconds):
    train, evaluation = KINDS[kind](rows, 1), many(rows // 10, 2, kind == "with texts")
    preflight(trainer_for(tmp_path / "first"))  # what is loaded at the first call is not what is measured
    report, peak = measured(tmp_path, train, evaluation)
    more = f"{peak.bytes / 1e6:.0f} MB more memory for {train.data.nbytes / 1e6:.0f} MB of data"
    print(f"{rows:,} rows, {kind}: {peak.seconds:.1f} s, {more}")
    assert not report.findings, report
    assert peak.seconds < seconds
    assert peak.bytes < 600e6


def one_wrong(rows, place):
    labels = rows.data.column("label").to_numpy().copy()
    labels[place] = 2
    return Dataset(rows.data.table.set_column(0, "label", pa.array(labels))).cast_column(
        "label", Value("int64")
    )


def test_a_wrong_label_in_row_90_000_is_found_and_named_in_every_order(tmp_path):
    """That it is fast does not mean that it looks away."""
    rows = one_wrong(many(100_000, 1), 90_000)
    shuffled = rows.shuffle(seed=1)
    where = int(np.flatnonzero(shuffled._indices.column(0).to_numpy() == 90_000)[0])
    for part, place in [
        (rows, "row 90000"),
        (shuffled, f"row {where}"),
        (rows.select(range(89_990, 100_000)), "row 10"),
        (shuffled.select([5, where, 7]), "row 1"),
    ]:
        report, _ = measured(tmp_path, part, many(1_000, 2))
        found = [finding.message for finding in report.errors if finding.id == "label-range"]
        assert found, report
        assert f"{place}." in found[0]


def test_a_wrong_label_late_in_a_torch_dataset_is_found_and_named(tmp_path):
    labels = [7 if i == 4_321 else i % 2 for i in range(5_000)]
    report = preflight(trainer_for(tmp_path, train=Rows(table(5_000, labels=labels))))
    (found,) = [finding for finding in report.errors if finding.id == "label-range"]
    assert "run from 0 to 7" in found.message
    assert "row 4321." in found.message
