"""What was found in a table or in a Trainer: `Finding`, the `Report` of many, and the errors that stop."""

import difflib
from collections.abc import Iterable
from html import escape
from typing import NamedTuple


class TableError(ValueError):
    """A table that cannot be used as it is; the message names the file, the place, the value and the remedy."""


class Finding(NamedTuple):
    """One remark: a stable id, the level ("error" or "warning"), what was seen, and what to do about it."""

    id: str
    level: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level}: {self.id}: {self.message} {self.fix}"


def rows_in_words(numbers) -> str:
    """Say which rows: "row 3", "4 rows (1, 2, 5, ...)"."""
    first = [str(int(n)) for n in numbers[:10]]
    return (
        f"row {first[0]}"
        if len(numbers) == 1
        else f"{len(numbers):,} rows ({', '.join(first)}{', ...' if len(numbers) > 10 else ''})"
    )


class PreflightError(ValueError):
    """A set-up with errors; the message names each of them with its fix."""


class Report:
    """What was found, errors first. It shows itself as a table in a notebook and as text elsewhere."""

    def __init__(self, findings: Iterable[Finding] = ()):
        self.findings: list[Finding] = sorted(findings, key=lambda finding: finding.level != "error")

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def raise_for_errors(self) -> "Report":
        """Return the report itself if it has no error.

        Raises:
            PreflightError: with every error and its fix.
        """
        if self.errors:
            raise PreflightError(
                f"{len(self.errors)} error(s):\n" + "\n".join(_as_text(finding) for finding in self.errors)
            )
        return self

    def __str__(self) -> str:
        return "\n".join(_as_text(finding) for finding in self.findings) or "Nothing found."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.findings:
            return "<p>Nothing found.</p>"
        rows = "".join(
            f"<tr><td><b>{escape(f.level)}</b></td><td>{escape(f.id)}</td><td style='text-align:left'>{escape(f.message)}</td>"
            f"<td style='text-align:left'><code>{escape(f.fix)}</code></td></tr>"
            for f in self.findings
        )
        return f"<table><thead><tr><th>level</th><th>id</th><th>what</th><th>fix</th></tr></thead><tbody>{rows}</tbody></table>"


def _as_text(finding: Finding) -> str:
    return f"{finding.level}: {finding.id}: {finding.message}\n    fix: {finding.fix}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'text'?" for a misspelt name that is close to one of the known ones, otherwise nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
