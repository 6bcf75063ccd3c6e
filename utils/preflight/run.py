"""`preflight(trainer)`: run every check before training."""

from collections import defaultdict
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

    The checks look at all rows of all data sets, at the arguments and the number of steps, and one batch goes
    through the model without gradient. Nothing is trained; weights, config, data, arguments and random states
    stay as they were. (The model object gets a note of its weights: a later call sees whether they moved.)

    Args:
        trainer: any Trainer; most checks are about sequence classifiers.
        test_dataset: the rows of the final score, to see leaks into them.

    Returns:
        A report. A healthy set-up has no finding. A check that fails itself is the finding "check-failed".
    """
    setup, findings, failures = Setup(trainer, test_dataset), [], defaultdict(list)
    checks = [entry for entry in CATALOGUE.values() if entry.find]
    for entry in sorted(checks, key=lambda entry: (entry.dry, entry.id == "dry-run")):
        try:
            with same_randomness():  # reading a row may draw
                for message, fix, *level in entry.find(setup):
                    findings.append(Finding(entry.id, *(level or [entry.level]), message, fix))
                    if findings[-1].level == "error":
                        setup.errors.add(entry.id)
        except Exception as error:  # a broken set-up must not break the check of it
            failures[error_text(error)].append(entry.id)
    for error, ids in failures.items():
        message = f"{len(ids)} check(s) ({', '.join(ids)}) could not look: {error}"
        fix = "Look at what the message names; the other checks did look"
        findings.append(Finding("check-failed", "warning", message, fix))
    remember(setup.model)
    return Report(findings)
