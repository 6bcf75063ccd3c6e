"""Set-ups for the checks of preflight, entered in tables: broken ones with what is found, and healthy ones.

    SETUPS = Setups()
    SETUPS.broken("label-range", "run from -1 to 1", lambda _: {"train": table(labels=[-1, 1] * 12)})
    SETUPS.healthy("twenty classes", lambda _: {...})
    test_found, test_gone_once_mended, test_left_alone = SETUPS.tests()

A set-up is a function of a folder that returns the `changes` of `builders.trainer_for`; among them "test" is
the test data, "after" a function that is called with the Trainer. It may return a Trainer as well.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from builders import trainer_for

from utils.findings import PreflightError
from utils.preflight import Watch, preflight
from utils.preflight.catalogue import CATALOGUE


class Broken(NamedTuple):
    id: str
    says: str  # part of the message
    build: Callable
    mended: Callable | None
    level: str
    raises: str | None  # what the library says by itself when the Trainer trains


class Healthy(NamedTuple):
    build: Callable
    says: tuple[str, ...]  # the warnings that are right about it
    train: bool


class Setups:
    """The broken and the healthy set-ups of one theme."""

    def __init__(self):
        self.cases: list[Broken] = []
        self.fine: dict[str, Healthy] = {}

    def broken(self, id, says, build, mended=None, level=None, raises=None):
        """Enter a set-up with a trouble.

        mended: the same with the finding's fix applied: one for each id, and where both lie close together.
        level: the catalogue's, unless given.
        """
        self.cases.append(Broken(id, says, build, mended, level or CATALOGUE[id].level, raises))

    def healthy(self, name, build, *says, train=True):
        assert name not in self.fine, name
        self.fine[name] = Healthy(build, says, train)

    def tests(self):
        """Return the tests, one case for each set-up."""
        name = "{0.id}: {0.says:.60}".format
        found = pytest.mark.parametrize("case", self.cases, ids=name)(self._found)
        mended = [case for case in self.cases if case.mended]
        mended = pytest.mark.parametrize("case", mended, ids=name)(self._mended)
        alone = pytest.mark.parametrize("name", self.fine)(self._left_alone)
        return found, mended, alone

    @property
    def _found(self):
        trained = {}  # the first case of each id and message: the library says the same of the others
        for case in self.cases:
            trained.setdefault((case.id, case.raises), case)

        def test_found_with_the_values_at_hand(case, tmp_path):
            trainer, test = made(case.build, tmp_path)
            report = preflight(trainer, test_dataset=test)
            matching = [f for f in report.findings if (f.id, f.level) == (case.id, case.level)]
            assert any(case.says in finding.message for finding in matching), str(report)
            assert all(finding.fix for finding in report.findings)
            assert not ids_of(report) & {"check-failed"}, str(report)
            if case.level == "error":
                with pytest.raises(PreflightError, match=case.id):
                    report.raise_for_errors()
            if case.raises and trained[case.id, case.raises] is case:
                assert_raises(trainer, case)

        return test_found_with_the_values_at_hand

    @property
    def _mended(self):
        trained = {case.id: case for case in reversed(self.cases) if case.mended and case.raises}

        def test_gone_once_mended(case, tmp_path):
            """Every mended set-up loses the finding; one of each loud id is trained as well."""
            trainer, test = made(case.mended, tmp_path)
            report = preflight(trainer, test_dataset=test)
            assert not report.errors, str(report)
            assert not ids_of(report) & {case.id, "check-failed"}, str(report)
            if case is trained.get(case.id):
                assert train_briefly(trainer).global_step == 2

        return test_gone_once_mended

    @property
    def _left_alone(self):
        def test_a_healthy_setup_is_left_alone(tmp_path, name, capsys):
            """It really is healthy: it trains and evaluates, and Watch has nothing against it."""
            build, says, train = self.fine[name]
            trainer, test = made(build, tmp_path)
            capsys.readouterr()
            report = preflight(trainer, test_dataset=test)
            assert capsys.readouterr().out == ""
            assert not report.errors, report
            assert ids_of(report) == set(says), report
            if train:
                trainer.add_callback(Watch())
                assert 0 < train_briefly(trainer).training_loss < 100
                logged = [item for entry in trainer.state.log_history for item in entry.items()]
                losses = [value for key, value in logged if re.fullmatch("eval_(.*_)?loss", key)]
                assert np.isfinite(losses).any() or trainer.eval_dataset is None

        return test_a_healthy_setup_is_left_alone


def made(build, folder) -> tuple[Any, Any]:
    """Return a set-up's Trainer and its test data."""
    changes = build(folder)
    if not isinstance(changes, dict):
        return changes, None
    changes = {"after": lambda trainer: None, "test": None} | changes
    after, test = changes.pop("after"), changes.pop("test")
    trainer = trainer_for(folder, **changes)
    after(trainer)
    return trainer, test


def ids_of(report) -> set[str]:
    return {finding.id for finding in report.findings}


def findings_of(trainer, id, **kwargs):
    return [finding for finding in preflight(trainer, **kwargs).findings if finding.id == id]


def train_briefly(trainer):
    """Train two steps, without saving."""
    trainer.args.max_steps, trainer.args.save_strategy, trainer.args.load_best_model_at_end = 2, "no", False
    return trainer.train()


def assert_raises(trainer, case):
    if case.id in ("metrics-shape", "best-metric-missing"):
        trainer.args.max_steps = 1  # the first evaluation comes sooner
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 (its words are looked at)
        trainer.train()
    assert re.search(case.raises, f"{type(caught.value).__name__}: {caught.value}"), repr(caught.value)
