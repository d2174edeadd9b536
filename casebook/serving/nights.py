"""A batch of the night: rungs that stand in for each other, and a model that must be trusted.

A rung makes tonight's list or raises. The next one is told why, and a night on which none works
says so with all reasons: what an operator needs at three o'clock.

Examples
--------
>>> def model(why):
...     return trusted("effect", [0.1, float("nan")])
>>> climb(7, {"the model": model, "points": lambda why: f"points, since {why}"})
'points, since ModelRefused: effect is no number for 1 of 2 rows: train the model again'
>>> climb(7, {"the model": model})
Traceback (most recent call last):
...
casebook.serving.nights.NightFailed: night 7 has no list. By the model: ModelRefused: effect is ...
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.data.contracts import ModelRefused
from casebook.data.loads import SPOILT

T = TypeVar("T")
#: A sentence, and the values for which it is true.
Sentence = tuple[str, tuple[float, float]]
#: How the text of a LightGBM model begins and what must stand in it; a part of one ends a process.
HEAD, ENDS = "tree\nversion=", ("\nend of trees", "\nend of parameters")


class NightFailed(RuntimeError):
    """A night made no list; the message says what was wrong and what to do."""


def climb(night: int, rungs: Mapping[str, Callable[[str], T]]) -> T:
    """Return what the first rung makes that does not raise.

    Parameters
    ----------
    night : int
    rungs : mapping of str to callable
        By name, the best first. Each is told why those before it failed, and may raise anything.

    Raises
    ------
    NightFailed
        If all raise.
    """
    reasons: dict[str, str] = {}
    for name, make in rungs.items():
        try:
            return make(" ".join(reasons.values()))
        except Exception as error:  # whatever is wrong with tonight, the next rung may work
            reasons[name] = f"{type(error).__name__}: {error}"
    said = " ".join(f"By {name}: {reason}" for name, reason in reasons.items())
    raise NightFailed(f"night {night} has no list. {said} Mend that and run the night again.")


def checked(
    features: pd.DataFrame,
    before: int | None,
    known: Mapping[str, str],
    alive: Mapping[str, str],
    may_miss: Collection[str] = (),
    not_below_0: Collection[str] = (),
    least: float = 0.9,
) -> tuple[pd.DataFrame, str]:
    """Return the features that can be those of a night, and a note on those left out; or raise.

    A few rows with a value that cannot be are left out; many mean that a table is broken.

    Parameters
    ----------
    features : DataFrame
    before : int or None
        Rows of the last good night.
    known : mapping of str to str
        Of each feature that the model knows: what it is.
    alive : mapping of str to str
        What it means that a feature is zero for all.
    may_miss, not_below_0 : collection of str
    least : float
        Share of the rows of the last good night that must be there.

    Raises
    ------
    NightFailed
        With what cannot be and what to do.
    """
    if not least <= len(features) / (before or len(features) or np.inf) <= 1 / least:
        what = "a table is cut off" if len(features) < (before or 1) else "some are there twice"
        raise NightFailed(
            f"{len(features):,} subscribers, {before or 0:,} on the last good night: {what}; load "
            "it again."
        )
    if missing := [name for name in known if name not in features]:
        raise NightFailed(f"no feature {missing}: the code and the model are of two versions.")
    for name, what in alive.items():
        if not features[name].gt(0).any():
            raise NightFailed(what)
    values = features[[*known]]
    bad = np.isinf(values) | values.isna() & ~values.columns.isin([*may_miss])
    bad |= values.lt(0) & values.columns.isin([*not_below_0])
    spoilt = bad.any(axis=1)
    if not spoilt.any():
        return features, ""
    name = bad.sum().idxmax()
    what = f"{spoilt.sum():,} subscribers with values that cannot be, most in {name} "
    what += f"({known[name]}), such as {values.loc[bad[name], name].iloc[0]:g}"
    if spoilt.mean() > SPOILT:
        raise NightFailed(f"{what}: a clock, a join or a load is wrong.")
    return features[~spoilt], f"{what}: left out."


def trusted(name: str, values: ArrayLike) -> np.ndarray:
    """Return predictions that can be those of a model.

    Raises
    ------
    ModelRefused
        If one is no finite number, or all of several are the same: such a model has no order.
    """
    values = np.asarray(values, float)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ModelRefused(
            f"{name} is no number for {bad.sum():,} of {len(values):,} rows: train the model again"
        )
    if len(values) > 1 and np.ptp(values) == 0:
        raise ModelRefused(f"{name} is {values[0]:g} for all {len(values):,} rows: no order")
    return values


def need_amounts(
    name: str, amounts: np.ndarray, least: np.ndarray, group: np.ndarray, names: Sequence[str]
) -> None:
    """Refuse amounts that are no numbers from 0 on, or too little for a whole group.

    Parameters
    ----------
    name : str
        Who made them.
    amounts, least : ndarray, shape (n,)
        Each, and the part of a group's least amount that falls to it.
    group : ndarray of int, shape (n,)
    names : sequence of str
        Of the groups.

    Raises
    ------
    ModelRefused

    Examples
    --------
    >>> need_amounts("model", np.array([9.0, 1.0]), np.array([4.0, 4.0]), np.arange(2), ["a", "b"])
    Traceback (most recent call last):
    ...
    casebook.data.contracts.ModelRefused: model: 1 of b, at least 4 were expected
    """
    if not np.isfinite(amounts).all() or (amounts < 0).any():
        raise ModelRefused(f"{name}: amounts that are no numbers from 0 on")
    made, need = (np.bincount(group, values) for values in (amounts, least))
    for k in np.flatnonzero(made < need):
        what = f"{made[k]:.0f} of {names[k]}, at least {need[k]:.0f} were expected"
        raise ModelRefused(f"{name}: {what}")
    if not made.any():
        raise ModelRefused(f"{name}: nothing at all")


def booster(name: str, text: str):
    """Return a LightGBM model from its text.

    Raises
    ------
    ModelRefused
        If the text was cut off or the lengths of its trees are not those that it says: LightGBM
        would read past its end and take the process with it.
    """
    import lightgbm as lgb

    whole = text.startswith(HEAD) and all(end in text for end in ENDS)
    head, trees, rest = text.partition("\n\nTree=0\n")
    sizes = [line[11:].split() for line in head.splitlines() if line.startswith("tree_sizes=")]
    at = len(head) + 2
    for k, size in enumerate(sizes[0] if sizes else ()):
        whole &= size.isdecimal() and text.startswith(f"Tree={k}\n", at)
        at += int(size) if size.isdecimal() else 0
    if not (whole and trees and rest and text[at:].startswith("end of trees")):
        raise ModelRefused(f"the text of the {name} model is not whole: train it again")
    return lgb.Booster(model_str=text)


def reasons(
    booster, features: pd.DataFrame, words: Mapping[str, Sentence], most: int = 2
) -> list[tuple[str, ...]]:
    """Return in words what raises the prediction of each row most.

    Parameters
    ----------
    booster : lightgbm.Booster
    features : DataFrame, shape (n, k)
    words : mapping of str to (str, (float, float))
        By feature a sentence, with a place for the value, and the values for which it is true.
    most : int
        Sentences of a row. Only features with a positive contribution count.
    """
    if features.empty:
        return []
    parts = booster.predict(features, pred_contrib=True)[:, :-1]
    made, names = [], [*features]
    for values, part in zip(features.to_numpy(), parts, strict=True):
        said = []
        for k in np.argsort(-part):
            text, (low, high) = words.get(names[k], ("", (np.inf, np.inf)))
            if part[k] > 0 and low <= values[k] <= high and len(said) < most:
                said.append(text.format(values[k]))
        made.append(tuple(said) or ("The pattern of use as a whole.",))
    return made
