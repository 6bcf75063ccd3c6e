"""Cells that a stray quote opened, and that run on over rows of the table until the next quote."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from utils.findings import Finding, TableError

NEARLY_ALL = 0.9
# Two lines can look like rows by chance ("nice,good"), and so can some that end with numbers ("milk,2").
SURE = 3  # lines from which on it is no chance, where their words stand in other rows, too
SURE_NUMBERS = 10  # the same, where the evidence is one number behind a comma, or there is none
OFTEN = 30  # cells of two or three lines that end with numbers: fewer may be receipts, and nothing is said
ENOUGH = 100_000  # rows that tell what stands in a column


def as_rows(cells: Sequence[str], delimiter: str, end: str) -> list[list[str]]:
    """Divide a row of the file at every line end and delimiter, quoted or not.

    [] unless (nearly) all lines have as many fields as the row; of three, one may lack the second quote.
    """
    lines = [line for line in delimiter.join(cells).split(end) if line.strip()]
    fit = [line.count(delimiter) for line in lines].count(len(cells) - 1)
    if len(lines) < 2 or len(cells) < 2 or fit < min(NEARLY_ALL * len(lines), max(2, len(lines) - 1)):
        return []
    return [line.removesuffix("\r").split(delimiter) for line in lines]


def look_for_swallowed(
    frame: pd.DataFrame, suspects: list[int], begins: Sequence[int], path: Path, delimiter: str, end: str
) -> list[Finding]:
    """Refuse a cell that has swallowed rows, or remark on it where that is not sure.

    `suspects` are the rows that `as_rows` divides; `begins` has the line of the file where each row begins.
    """

    @cache
    def forms_of(k: int) -> tuple[Counter, float]:
        sample = frame.iloc[:: 1 + len(frame) // ENOUGH, k]
        forms = Counter(_form(value) for value in sample if value.strip())
        return forms, _repeated(forms)

    cells: dict[str | None, list[str]] = {"sure": [], "unsure": [], "short": [], None: []}
    for row, *fields in frame.iloc[suspects].itertuples(name=None):
        broken = next(k for k, field in enumerate(fields) if end in field)
        lines = as_rows(fields, delimiter, end)
        verdict = _verdict(lines, fields, broken, delimiter == ",", len(frame), forms_of)
        last = begins[row] + fields[broken].count(end)
        cells[verdict].append(f"lines {begins[row]} to {last} are one cell, {fields[broken][:60]!r}...")
    sure, unsure = cells["sure"], cells["unsure"]
    if len(cells["short"]) >= OFTEN:
        unsure += cells["short"]
    refuse = 0 < len(sure) <= max(SURE_NUMBERS, len(frame) / 2)  # more are texts that are lists
    told = sure if refuse else sure + unsure
    if not told:
        return []
    more = f"; and {len(told) - 3} more such cells" if len(told) > 3 else ""
    message = f"{path.name}: {'; '.join(told[:3])}{more}, though the lines look like rows of the table."
    fix = (
        "If a quote in the first of these lines is part of its text, put the text in double quotes and write "
        "each double quote inside it twice; if they are one text, give the table as JSONL or Parquet."
    )
    if refuse:
        raise TableError(f"{message} {fix}")
    return [Finding("swallowed-rows", "warning", message, fix)]


def _form(value: str) -> str:
    """Return what a value looks like: numbers, dates and ids in one form are alike; long texts have none."""
    return re.sub(r"\d+", "0", value) if len(value) <= 60 else ""


def _repeated(forms: Counter) -> float:
    """Return the share of values whose form another one has, too."""
    return sum(count for form, count in forms.items() if count > 1 and form) / max(1, forms.total())


def _verdict(
    lines: list[list[str]], fields: list[str], broken: int, comma: bool, rows: int, forms_of: Callable
) -> str | None:
    """Return "sure" or "unsure" if a cell holds rows, "short" if many such cells would say so, else None.

    The evidence is in the other columns: other rows have there what the lines would put there. A poem, code
    or an address has no labels at the ends of its lines.
    """
    columns, hits, words = 0, 0, not comma
    most_of_table = SURE_NUMBERS <= len(lines) > rows
    for k, field in enumerate(fields):
        if k == broken:
            continue
        others = lines[:-1] if k > broken else lines[1:]  # the line left out has the row's own value
        values = [_form(line[k]) for line in others if len(line) == len(fields) and line[k].strip()]
        forms, share = forms_of(k)
        if most_of_table:
            forms = forms + Counter(values)
            share = _repeated(forms)
        if not values or share < 0.5:  # texts, or whatever else is new in every row
            continue
        own = _form(field)
        known = [form for form in values if form and forms[form] > most_of_table + (form == own)]
        if len(known) < share / 2 * len(values):
            return None
        columns += 1
        hits = max(hits, len(known))
        words = words or any(character.isalpha() for form in known for character in form)
    if not columns:
        return "unsure" if len(lines) >= SURE_NUMBERS else None
    if hits + 1 >= (SURE if words or columns > 1 else SURE_NUMBERS):
        return "sure"
    if words or columns > 1:
        return "unsure"
    if hits + 1 < len(lines):
        return None
    return "unsure" if len(lines) > SURE else "short"
