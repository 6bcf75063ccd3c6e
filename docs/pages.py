"""Write the pages that are made from the code: `make pages`. A test says when they are out of date.

docs/pitfalls.md comes from the catalogue of preflight, docs/old_names.md from the table of old arguments and
the installed library.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import transformers

from utils.lessons.renames import rename_table
from utils.preflight.catalogue import CATALOGUE, Pitfall, catalogue

DOCS = Path(__file__).resolve().parent
MADE = "<!-- Written by `make pages`. Edit docs/pages.py or the code that it reads, not this page. -->\n"
STAGES = {  # who finds a mistake, by the letter in the catalogue
    "R": "when the table is read",
    "P": "by `preflight`",
    "W": "by `Watch` while it trains",
    "S": "by `check_saved`",
    "C": "by the library, when the object is built",
    "A": "by no check: the notebooks avoid it",
}
THEMES = {  # the ids of each; one that is in none goes where FALLBACK sends its file of checks
    "Tables and texts": "na-strings empty-text wrong-container two-label-columns not-tokenised",
    "Tokenizer and length": "empty-tokenizer tokenizer-mismatch pad-token too-long truncation "
    "special-in-text padding-waste",
    "Labels and the loss that they choose": "label-map-drift label-names label-noise label-range label-type "
    "label-float multi-label-ints num-labels-one problem-type-stuck no-loss smoothing-float",
    "Splits": "split-leak near-repeats test-as-validation single-class-split imbalance",
    "The model and its weights": "head-seed head-reinitialised frozen trained-twice dtype-auto",
    "How fast and how long": "lr-is-text lr-too-high warmup-too-long zero-steps overridden-value ga-loss "
    "nan-hidden overfitting",
    "Evaluation, and which checkpoint is kept": "no-evaluation eval-labels-missing metrics-shape "
    "best-metric-missing best-not-loaded metric-direction strategy-mismatch early-stopping predict-order",
    "Saving and going on": "stale-checkpoints resume-mismatch saved-differs disk-full",
    "Machines, memory and logs": "fp16-on-cpu fp16-weights several-gpus evaluated-first eval-memory no-logs "
    "report-to",
    "Everything else": "ignored-value old-compute-loss dry-run check-failed",
}
FALLBACK = {
    "texts": "Tables and texts",
    "labels": "Labels and the loss that they choose",
    "arguments": "How fast and how long",
    "run": "Saving and going on",
}
PITFALLS = """# The catalogue of pitfalls

{number} mistakes that people make with `Trainer`. {silent} of them are silent: the run ends, and the model or
its numbers are wrong. {loud} are loud: the library stops, often with a message that points elsewhere. The ids
are those of preflight's reports. The template stops at an *error*; a *warning* is a reason to look.

Three lines look for them in code of your own: [Check](../README.md#check). If you know only what you saw,
begin with [diagnosing](diagnosing.md). [Notebook 05](../notebooks/05_pitfalls.ipynb) shows some of them.

{themes}
"""
OLD_NAMES = """# Old argument names

Old tutorials use arguments that today's `transformers` refuses: `got an unexpected keyword argument`. Here
each old name stands left of an arrow. Transformers {version} was asked about every one of them.

Your own notebook can ask the library that you have installed:

```python
>>> from utils.lessons.renames import translate
>>> translate(["evaluation_strategy"]).loc[0, "write today"]
'eval_strategy=...'
```

[Notebook 03](../notebooks/03_training_arguments.ipynb) brings an old set of arguments up to date.
"""


# A call, a token in brackets, an argument with its value, a name with an underscore.
CODE = re.compile(
    r"[\w.]+\((?:[^()]|\([^()]*\))*\)|</?\w+>|(?:\[[A-Z]+\])+|-*\w+=(?:'[^']*'|[^\s,;'|]*[^\s,;'|.])"
    r"|-*(?:\w+\.)*\w*_\w+(?: = \w+)?"
)


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it as it is, also in a cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", text.replace("&", "&amp;"))


def marked(text: str) -> str:
    """Return a text as Markdown, with what looks like code in the letters of code."""
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [escaped(text[end : match.start()]), f"`{match[0]}`"]
        end = match.end()
    return "".join([*parts, escaped(text[end:])])


def theme_of(entry: Pitfall) -> str:
    """Return the heading under which a mistake stands."""
    for theme, ids in THEMES.items():
        if entry.id in ids.split():
            return theme
    return FALLBACK.get(entry.find.__module__.rpartition(".")[2] if entry.find else "", "Everything else")


def sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "'")) else text + "."


def slug(heading: str) -> str:
    """Return the anchor that GitHub and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def in_words(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def pitfalls_page() -> str:
    """Return docs/pitfalls.md: a heading for each mistake, so that reports and pages can link to it."""
    lines = {theme: [] for theme in THEMES}
    for name in catalogue()["id"]:  # silent ones first
        entry = CATALOGUE[name]
        kind = f"{entry.level}, {'loud' if entry.loud else 'silent'}".capitalize()
        seen = in_words(STAGES[stage] for stage in entry.stages)
        lines[theme_of(entry)] += [
            f"### {entry.id}\n",
            f"*{kind}. Seen {seen}.*\n",
            f"{marked(sentence(entry.symptom))}\n",
            f"**What to do:** {marked(sentence(entry.fix))}\n",
        ]
    loud = sum(entry.loud for entry in CATALOGUE.values())
    themes = " · ".join(f"[{theme}](#{slug(theme)})" for theme, part in lines.items() if part)
    head = PITFALLS.format(number=len(CATALOGUE), silent=len(CATALOGUE) - loud, loud=loud, themes=themes)
    parts = [
        MADE,
        head,
        *(line for theme, part in lines.items() if part for line in [f"## {theme}\n", *part]),
    ]
    return "\n".join(parts)


def old_names_page() -> str:
    """Return docs/old_names.md: a list for each class and release, newest first. It says what the installed
    transformers answers.
    """
    table, parts = rename_table(), []
    release = table["gone since"].map(lambda text: tuple(map(int, text.split("."))))
    table = table.assign(release=release).sort_values(
        ["class", "release", "old"], ascending=[False, False, True]
    )
    for (owner, gone), rows in table.groupby(["class", "gone since"], sort=False):
        there = rows["old works"].all()
        state = f"still there, to be gone in {gone}" if there else f"gone since {gone}"
        parts.append(f"## {owner}: {state}\n")
        for row in rows.to_dict("records"):
            code, _, remark = row["write today"].partition(" (")
            new = f"`{code}`" if row["new works"] else marked(code)
            new += f" ({escaped(remark)}" if remark else ""
            keep = there and row["new works"] is False
            parts.append(f"- `{row['old']}` → {'the old name, until there is another' if keep else new}")
        parts.append("")
    return "\n".join([MADE, OLD_NAMES.format(version=transformers.__version__), *parts])


PAGES = {"pitfalls.md": pitfalls_page, "old_names.md": old_names_page}


def main() -> None:
    """Write the pages that are not as the code makes them."""
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name}: written")


if __name__ == "__main__":
    main()
