"""Rows dealt to splits, or sampled, so that classes, labels or ranges of a value keep their shares."""

import numpy as np
import pandas as pd

from utils.labels import SEPARATOR


def deal(
    rows: pd.DataFrame, shares: dict, task: str, rng: np.random.RandomState, sampling: bool = False
) -> dict[str, pd.DataFrame]:
    """Deal each group's shuffled rows out by share; the rest is "train". Row order is kept.

    (scikit-learn's refuses classes of one row, and more classes than rows to deal.) In multi_label a row is
    in several groups: each deals what those before it have left, and counts what they gave to each part.
    """
    rest = len(shares)
    place = np.full(len(rows), -1)  # of each row, the part it goes to
    groups = strata(rows, task)
    for group in groups:
        free = rng.permutation(group[place[group] < 0])
        place[free], start = rest, 0
        if len(group) > rest or sampling:  # one row for each part, training included
            for k, share in enumerate(shares.values()):
                end = start + max(0, max(1, round(len(group) * share)) - np.count_nonzero(place[group] == k))
                place[free[start:end]], start = k, end
    if task == "multi_label":
        _mend(place, groups, rest, sampling)
    return {name: rows[place == k] for k, name in enumerate([*shares, "train"])}


def _mend(place: np.ndarray, groups: list[np.ndarray], rest: int, sampling: bool) -> None:
    """Move single rows: training (or the sample) gets every label, the others one that it can spare."""
    essential = 0 if sampling else rest
    for group in groups:
        if not (place[group] == essential).any():
            place[group[0]] = essential

    def can_spare(row: int) -> bool:
        return all(np.count_nonzero(place[other] == essential) > 1 for other in groups if row in other)

    for group in groups if not sampling else ():
        for k in range(rest):
            if len(group) > rest and not (place[group] == k).any():
                learnt = group[place[group] == rest]
                if (row := next(filter(can_spare, learnt[:100]), None)) is not None:
                    place[row] = k


def sample(rows: pd.DataFrame, size: int, task: str, rng: np.random.RandomState) -> pd.DataFrame:
    """Return exactly `size` rows, in file order, with groups in their shares and a row of each label.

    Rounding gives a few too many or too few: single rows go or come where groups are furthest from theirs.
    """
    share = size / len(rows)
    kept = rows.index.isin(deal(rows, {"kept": share}, task, rng, sampling=True)["kept"].index)
    groups, surplus = strata(rows, task), int(kept.sum()) - size
    # The rows without any label come last.
    essential = min(size, len(groups)) if task != "regression" and surplus > 0 else 0
    for _ in range(abs(surplus)):
        able = kept == (surplus > 0)
        over = np.zeros(len(rows))  # of each row, how far its groups are over their share, or under it
        for k, group in enumerate(groups):
            count = kept[group].sum()
            over[group] += np.sign(surplus) * (count - share * len(group))
            able[group] &= count > 1 or k >= essential
        kept[rng.choice(np.flatnonzero(able & (over == over[able].max())))] = surplus < 0
    return rows[kept]


def strata(rows: pd.DataFrame, task: str) -> list[np.ndarray]:
    """Return the positions of the rows of each class, label (rarest first) or tenth of the values."""
    if task == "regression":
        order = np.argsort(rows["value"].to_numpy(), kind="stable")
        return np.array_split(order, max(1, min(10, len(rows) // 10)))
    labels = rows["label"].reset_index(drop=True)
    if task == "single_label":
        return [places for _, places in sorted(labels.groupby(labels).indices.items())]
    names = labels.str.split(SEPARATOR, regex=False).explode()  # a row for each label of a row
    places = names.groupby(names.array).indices
    groups = {name: names.index[where].to_numpy() for name, where in places.items()}
    return [groups[name] for name in sorted(groups, key=lambda name: (name == "", len(groups[name]), name))]
