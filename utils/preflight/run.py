"""`preflight(trainer)`: run every check before training."""

from typing import Any

from transformers import Trainer

import utils.preflight.checks  # noqa: F401  # each check enters itself into the catalogue
from utils.findings import Finding, Report
from utils.preflight.catalogue import CATALOGUE
from utils.preflight.setup import Setup, same_randomness
from utils.preflight.split import error_text
from utils.preflight.weights import remember


def preflight(trainer: Trainer, test_dataset: Any = None) -> Report:
    """Look for every known mistake in a Trainer that is about to train.

    All rows of all data sets are looked at, all arguments are compared with each other and with the number of steps, and one batch goes through the
    model without gradient. Nothing is trained, and weights, config, data, arguments and random states stay as they were. (It does note on the
    model object how its weights are, to see at the next call whether somebody has trained it in between.)

    Args:
        trainer: any Trainer; most checks are about sequence classifiers.
        test_dataset: the rows that will be used for the final score, to see leaks into them.

    Returns:
        A report. A healthy set-up has no finding. A check that fails itself becomes a finding called "check-failed".
    """
    setup, findings, failed = Setup(trainer, test_dataset), [], {}
    for entry in sorted(
        (entry for entry in CATALOGUE.values() if entry.find),
        key=lambda entry: (entry.dry, entry.id == "dry-run"),
    ):
        try:
            with same_randomness():  # reading a row may draw
                for message, fix, *level in entry.find(setup):
                    findings.append(Finding(entry.id, level[0] if level else entry.level, message, fix))
                    if findings[-1].level == "error":
                        setup.errors.add(entry.id)
        except Exception as error:  # a broken set-up must not break the check of it
            failed.setdefault(error_text(error), []).append(entry.id)
    for error, ids in failed.items():
        message = f"{len(ids)} check(s) ({', '.join(ids)}) could not look: {error}"
        findings.append(
            Finding(
                "check-failed",
                "warning",
                message,
                "Look at what the message names; the other checks did look",
            )
        )
    remember(setup.model)
    return Report(findings)
