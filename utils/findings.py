"""What is wrong with a table or a Trainer: `Finding`, the `Report` of many, and the errors that stop."""

import difflib
from collections.abc import Iterable
from html import escape
from typing import NamedTuple


class TableError(ValueError):
    """A table that cannot be used as it is; the message names file, place, value and remedy."""


class ModelError(RuntimeError):
    """A model that cannot be loaded as named; the message says what to do."""


class PreflightError(ValueError):
    """A set-up with errors; the message names each of them with its fix."""


class Finding(NamedTuple):
    """One remark: a stable id, the level ("error" or "warning"), what was seen, and what to do about it."""

    id: str
    level: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level}: {self.id}: {self.message} {self.fix}"


class Report:
    """Findings, errors first. A report shows itself as a table in a notebook and as text elsewhere."""

    def __init__(self, findings: Iterable[Finding] = ()):
        self.findings: list[Finding] = sorted(findings, key=lambda finding: finding.level != "error")

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def raise_for_errors(self) -> "Report":
        """Return the report; raise PreflightError, with every error and its fix, where there is one."""
        if self.errors:
            raise PreflightError(f"{len(self.errors)} error(s):\n{Report(self.errors)}")
        return self

    def __str__(self) -> str:
        lines = [f"{f.level}: {f.id}: {f.message}\n    fix: {f.fix}" for f in self.findings]
        return "\n".join(lines) or "Nothing found."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.findings:
            return "<p>Nothing found.</p>"
        left = "<td style='text-align:left'>"
        cells = f"<td><b>{{}}</b></td><td>{{}}</td>{left}{{}}</td>{left}<code>{{}}</code></td>"
        fields = [(f.level, f.id, f.message, f.fix) for f in self.findings]
        rows = "".join(f"<tr>{cells.format(*map(escape, row))}</tr>" for row in fields)
        head = "<tr><th>level</th><th>id</th><th>what</th><th>fix</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def rows_in_words(numbers, what: str = "row") -> str:
    """Say which rows or lines: "row 3", "4 rows (1, 2, 5, ...)"."""
    first = ", ".join(str(int(number)) for number in numbers[:10])
    if len(numbers) == 1:
        return f"{what} {first}"
    return f"{len(numbers):,} {what}s ({first}{', ...' if len(numbers) > 10 else ''})"


def in_words(names: Iterable[str], most: int = 5) -> str:
    """Return the first names, in quotes, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name[:60]) for name in names[:most]) + more


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'text'?" for a name close to one of the known ones, otherwise nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
