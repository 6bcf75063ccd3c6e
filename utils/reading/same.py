"""When two texts, or two names of a label, are the same to a reader."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal

import pandas as pd

from utils.findings import Finding, TableError, in_words, rows_in_words
from utils.labels import SEPARATOR, TASKS, in_order, rows_of_label

# What nobody sees: control characters and Unicode's default ignorables (zero-width blanks and joiners,
# marks of direction, soft hyphens, variation selectors, fillers).
UNSEEN = re.compile(
    "[\\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What shows all the same: a joiner between emoji, which makes one picture of two; the tags that say whose
# flag a black flag is; and raised and lowered digits: 10 with a raised 2 is not 102, as NFKC has it.
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
SEEN = re.compile(
    f"(\u200d(?<=[{_EMOJI}\ufe0f].)(?=[{_EMOJI}])"
    "|\U0001f3f4[\U000e0020-\U000e007f]+|[\xb2\xb3\xb9\u2070-\u208e]+)"
)
ODD = re.compile(f"{UNSEEN.pattern[:-1]}\U0001f3f4\xb2\xb3\xb9\u2070-\u208e]")  # begins a match of either
USER, OTHERS = re.compile(r"@\w+"), re.compile(r"[\W\d_]+")
NO_LETTERS = dict.fromkeys(map(ord, filter(OTHERS.match, map(chr, range(128)))))  # many times faster
ALIKE = str.maketrans("\u2010\u2012\u2013\u2014\u2212\u2018\u2019", "-----''")  # hyphens and apostrophes

WRONG_COLUMN = "Is label_column the right one? Numbers are for task='regression'; otherwise merge classes."


def comparable(text: str) -> str:
    """Return a text as it is compared: two are one if, capitals aside, a reader sees no difference.

    Casefolded, runs of white space made one blank, in form NFKC, without characters that nobody sees. Raised
    and lowered digits stay, for they change a number; so do the joiners inside one emoji. A joiner inside a
    word goes: words of Persian or Hindi are the same without it, and a leak harms more than a row too few.
    """
    return " ".join(_without_unseen(text).casefold().split())


def _without_unseen(text: str) -> str:
    """Return a text in form NFKC, without characters that nobody sees; what is in `SEEN` stays."""
    if (text.isascii() and text.isprintable()) or not ODD.search(text):
        return unicodedata.normalize("NFKC", text)
    parts = SEEN.split(text)  # every second one is a match
    parts[::2] = [unicodedata.normalize("NFKC", UNSEEN.sub("", part)) for part in parts[::2]]
    return "".join(parts)


def bare(text: str) -> str:
    """Return the letters of a text, without case, blanks, punctuation, digits and user names.

    A text that has too few is returned as `comparable` writes it: "Great!" twice is chance and no repeat.
    """
    return letters_of(comparable(text))


def letters_of(text: str) -> str:
    """Return `bare(text)` of a text that `comparable` has written."""
    letters = USER.sub("", text) if "@" in text else text
    letters = letters.translate(NO_LETTERS) if letters.isascii() else OTHERS.sub("", letters)
    return letters if len(letters) >= 20 and len({*letters}) >= 10 else text


def normalise(texts: pd.Series) -> pd.Series:
    """Return the texts as `comparable` writes them."""
    return pd.Series([comparable(text) for text in texts], index=texts.index, dtype=str, name=texts.name)


def without_repeats(rows: pd.DataFrame, target: str, findings: list[Finding]) -> tuple[pd.DataFrame, dict]:
    """Return one row a text, none where it has two labels; and how many rows are left out, by reason.

    The index of `rows` has one number for texts that are one; what is left out is added to `findings`.
    """
    several = rows[target].groupby(level=0, sort=False).transform("nunique").to_numpy() > 1
    again = rows.index.duplicated() & ~several
    conflicts = rows[several]
    if len(conflicts):
        example = conflicts.iloc[0]
        labels = sorted({*conflicts.loc[conflicts.index == conflicts.index[0], "label"]})
        numbers, one = rows_in_words(conflicts["row"]), f"{example['text'][:60]!r}: {in_words(labels)}"
        message = f"{numbers} hold texts that carry two labels, for example {one}. All are left out."
        fix = "Decide on one label for each text."
        findings.append(Finding("conflicting-labels", "warning", message, fix))
    if again.any():
        numbers = rows_in_words(rows.loc[again, "row"])
        message = f"{numbers} repeat an earlier text with the same label and are left out."
        fix = "Nothing to do: kept twice, they could end up in two splits."
        findings.append(Finding("repeated-text", "warning", message, fix))
    left_out = {"conflicting_labels": len(conflicts), "repeated_text": int(again.sum())}
    return rows[~(several | again)], left_out


def variants(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that are one by `comparable`, or differ as 1, 1.0, +1 and 1E+00 do."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        key = unicodedata.normalize("NFKC", comparable(name)).translate(ALIKE)
        # not 007, nor 1.10, which may be a section
        if re.fullmatch(r"[+-]?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d{1,3})?", key):
            key = re.sub(r"\.0+$", "", f"{Decimal(key):f}").removeprefix("+")
        groups.setdefault(key, []).append(name)
    return [same for _, same in sorted(groups.items()) if len(same) > 1]


def commonest_spelling(names: Iterable[str], counts: Mapping[str, int]) -> dict[str, str]:
    """Return for each name that `variants` finds to be one with others the spelling that is commonest.

    Of one or two letters, capitals count: US is not us, and Co is not CO.
    """
    groups: dict[tuple, list[str]] = {}
    for number, same in enumerate(variants(names)):
        for name in same:
            plain = _without_unseen(name).strip()
            groups.setdefault((number, plain if plain.isalpha() and len(plain) < 3 else ""), []).append(name)
    several = (same for same in groups.values() if len(same) > 1)
    return {name: max(same, key=lambda n: counts.get(n, 0)) for same in several for name in same}


def spell_alike(frames: dict[str, pd.DataFrame], task: str, findings: list[Finding]) -> None:
    """Write each class in one way in all frames; of what differs within a table `read_table` has warned."""
    counts = {name: rows_of_label(frame["label"], task) for name, frame in frames.items()}
    names = {label for rows in counts.values() for label in rows.index}
    spelling = commonest_spelling(names, counts["training"])
    within = {name for rows in counts.values() for name in commonest_spelling(rows.index, rows)}
    if across := in_order({name for name in spelling if name not in within}):
        message = f"Labels that the files write differently count as one class: {in_words(across, 10)}."
        findings.append(Finding("label-noise", "warning", message, "Write each in one way."))
    order = in_order({spelling.get(name, name) for name in names})

    def respell(label: str) -> str:
        if not TASKS[task].joined:
            return spelling.get(label, label)
        own = {spelling.get(name, name) for name in label.split(SEPARATOR)}
        return SEPARATOR.join(sorted(own, key=[*order, ""].index))

    if spelling:
        for name, frame in frames.items():
            respelt = {label: respell(label) for label in frame["label"].unique()}
            frames[name] = frame.assign(label=frame["label"].map(respelt))


def refuse_free_text(labels: pd.Series) -> None:
    """Refuse a label column in which more than a third of the rows hold what no other row holds."""
    counts = labels.value_counts()
    single = counts.index[counts == 1]
    if len(single) >= 20 and len(single) > len(labels) / 3:
        values = f"{len(counts):,} different values in {len(labels):,} rows"
        examples = f"{len(single):,} stand in one row only, such as {in_words(single, 2)}"
        raise TableError(f"The labels have {values}, and {examples}: no classes to learn. {WRONG_COLUMN}")


def in_escapes(name: str) -> str:
    """Return a name's repr, with escapes for all that looks like something else, or like nothing."""
    composed = unicodedata.is_normalized("NFC", name)

    def plain(character: str) -> bool:
        hidden = UNSEEN.match(character) or ord(character) in ALIKE
        whole = composed or not unicodedata.combining(character)
        return whole and not hidden and unicodedata.is_normalized("NFKC", character)

    return "".join(character if plain(character) else ascii(character)[1:-1] for character in repr(name))
