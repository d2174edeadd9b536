"""The nightly list: who is called tomorrow and why, and what is called when no list can be made.

A night takes the tables, checks the features, asks the stored model and chooses by the same
:func:`.policy.choose` as the page. When that fails it answers with the last good list, without
those who were called or left since, and after three nights with the points of the analyst.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import rules, uplift
from casebook.cases.subscription_churn.features import (
    FEATURES,
    NAMES,
    NO_MOOD,
    QUARTER,
    Mood,
    build,
    there,
    value_on,
)
from casebook.cases.subscription_churn.policy import TERMS, Terms, choose, gain
from casebook.cases.subscription_churn.population import MONTH
from casebook.cases.subscription_churn.records import Tables, date
from casebook.data.contracts import ModelRefused
from casebook.serving import registry

#: Nights for which the last good list stands in.
KEEPS = 3
#: Least share of the last good night's subscribers that a night must show.
LEAST = 0.9
#: What an agent reads, by feature: a sentence, and the values for which it is true.
WORDS = {
    "ratio": ("Logins are at {:.0%} of what they were three months ago.", (-np.inf, 0.7)),
    "drop": ("Logins of the last two weeks are {:.0%} below the four before.", (0.3, np.inf)),
    "slope": ("Logins have been falling for twelve weeks.", (-np.inf, -0.03)),
    "silent": ("No login for {:.0f} days.", (7, np.inf)),
    "empty_weeks": ("{:.0f} of the last twelve weeks without a login.", (3, 11)),
    "tickets_quarter": ("{:.0f} tickets within three months.", (1, np.inf)),
    "tickets": ("A ticket within the last month.", (1, np.inf)),
    "mood": ("The tickets sound unhappy.", (0.6, np.inf)),
    "tenure": ("A customer for only {:.0f} days.", (-np.inf, 180)),
    "score": ("The last survey answer was {:.0f} of 10.", (-np.inf, 6)),
    "admin": ("The contact is the administrator.", (1, 1)),
    "downgrades": ("The plan was downgraded within three months.", (1, np.inf)),
    "colleagues_ratio": ("The colleagues' logins are at {:.0%} too.", (-np.inf, 0.7)),
    "colleagues_left": ("Within three months {:.0%} of the colleagues left.", (0.2, np.inf)),
}


class NightFailed(RuntimeError):
    """A night made no list; the message says what was wrong and what to do."""


@dataclass(frozen=True)
class List:
    """The list of a night.

    Attributes
    ----------
    night : int
    source : str
        ``model``, ``last list`` or ``points``.
    rows : tuple of int
        Whom to call, the most promising first.
    gains : tuple of float
        Expected euro of each call; of points, the points.
    reasons : tuple of tuple of str
        For each row, in words.
    why : str
        Empty, or why the model did not make it.
    made : int
        The night on which the rows were chosen.
    there : int
        Subscribers on that night.
    """

    night: int
    source: str
    rows: tuple[int, ...]
    gains: tuple[float, ...]
    reasons: tuple[tuple[str, ...], ...]
    why: str
    made: int
    there: int


def train(folder: Path, sample: uplift.Sample, mood: Mood, settings: Mapping, until: int) -> Path:
    """Fit the model that ships and put it into the registry.

    Parameters
    ----------
    folder : Path
    sample : Sample
        Randomised months.
    mood : Mood
        The one that its features were built with.
    settings : mapping
    until : int
        Last day that the model has seen.
    """
    scores = uplift.dr_scores(sample, settings)
    model = uplift.regressor(settings).fit(sample.features[NAMES], scores)
    text = model.booster_.model_to_string()
    return registry.put(folder, date(until), text=text, features=NAMES, mood=mood.stored())


def held_out(rows: np.ndarray, month: int, share: float) -> np.ndarray:
    """Return who is left in peace in a month, by a hash: the same on every night and machine."""
    most = int(share * 2**32)
    marks = [hashlib.sha256(f"{month}:{row}".encode()).digest()[:4] for row in rows.tolist()]
    return np.array([int.from_bytes(mark, "big") < most for mark in marks], bool)


def blocked(tables: Tables, rows: np.ndarray, night: int, share: float) -> np.ndarray:
    """Return who must not be called: called within a month, complained, or held out."""
    end, calls = date(night), tables.calls[tables.calls["called"]]
    lately = calls[(calls["at"] > end - pd.Timedelta(days=MONTH)) & (calls["at"] <= end)]
    angry = calls[(calls["at"] > end - pd.Timedelta(days=QUARTER)) & calls["complains"]]
    spare = np.isin(rows, lately["row"]) | np.isin(rows, angry["row"])
    return spare | held_out(rows, night // MONTH, share)


def checked(features: pd.DataFrame, before: int | None) -> pd.DataFrame:
    """Return the features if they can be those of a night, or raise.

    Parameters
    ----------
    features : DataFrame
    before : int, optional
        Subscribers on the last good night.

    Raises
    ------
    NightFailed
    """
    if len(features) < LEAST * (before or 1):
        raise NightFailed(
            f"{len(features):,} subscribers, {before or 0:,} on the last good night: a table is "
            "cut off; load it again."
        )
    if missing := [name for name in NAMES if name not in features]:
        raise NightFailed(f"no feature {missing}: the code and the model are of two versions.")
    may_miss = {"ratio", "mood", "score"}
    for name in NAMES:
        values = features[name]
        bad = ~np.isfinite(values) if name not in may_miss else np.isinf(values)
        if bad.any():
            raise NightFailed(f"{bad.sum():,} values of {name} ({FEATURES[name]}) are no numbers.")
    if not features["logins_week"].any():
        raise NightFailed("nobody has logged in for a week: the logins have not been loaded.")
    low = features[["tenure", "seats", "logins_month", "silent"]].min()
    if (low < 0).any():
        raise NightFailed(f"{low.idxmin()} is {low.min():g}: a clock or a join is wrong.")
    return features


def reasons(booster, features: pd.DataFrame, most: int = 2) -> list[tuple[str, ...]]:
    """Return in words what raises the expected effect of each row most.

    Only features with a positive contribution count, and only where their sentence is true.
    """
    parts = booster.predict(features, pred_contrib=True)[:, :-1]
    made = []
    for values, part in zip(features.to_numpy(), parts, strict=True):
        said = []
        for k in np.argsort(-part):
            text, (low, high) = WORDS.get(NAMES[k], ("", (np.inf, np.inf)))
            if part[k] > 0 and low <= values[k] <= high and len(said) < most:
                said.append(text.format(values[k]))
        made.append(tuple(said) or ("The pattern of use as a whole.",))
    return made


def by_model(
    folder: Path, tables: Tables, night: int, share: float, terms: Terms, before: int | None
) -> List:
    """Make the list of a night by the stored model.

    Raises
    ------
    ModelRefused, NightFailed
    """
    import lightgbm as lgb

    stored = registry.take(folder, date(night), max_age=2 * MONTH)
    if stored["features"] != NAMES:
        raise ModelRefused("the model has other features than the code: train it again")
    booster = lgb.Booster(model_str=stored["text"])
    features = checked(build(tables, night, Mood.restored(stored["mood"])), before)
    rows = features.index.to_numpy()
    gains = gain(booster.predict(features), value_on(tables, rows, night), terms.cost)
    off = blocked(tables, rows, night, share)
    chosen = choose(gains, terms.daily, off, least=-np.inf)
    words = reasons(booster, features.iloc[chosen])
    picked = tuple(rows[chosen].tolist())
    euro = tuple(np.round(gains[chosen], 2).tolist())
    return List(night, "model", picked, euro, tuple(words), "", night, len(rows))


def by_points(tables: Tables, night: int, share: float, terms: Terms, why: str) -> List:
    """Make the list by the analyst's points: no model, no experiment, some logins."""
    features = build(tables, night, NO_MOOD)
    rows = features.index.to_numpy()
    score = rules.points(features) * value_on(tables, rows, night)
    asleep = features["logins_half_year"].to_numpy() <= 0.5
    off = blocked(tables, rows, night, share) | asleep
    chosen = choose(score, terms.daily, off)
    words = (("Points of the analyst's list.",),) * len(chosen)
    picked, euro = tuple(rows[chosen].tolist()), tuple(score[chosen].tolist())
    return List(night, "points", picked, euro, words, why, night, len(rows))


def again(last: List, tables: Tables, night: int, share: float, why: str) -> List:
    """Return the last good list without those who were called, left or complained since."""
    rows = np.array(last.rows, int)
    here = np.isin(rows, there(tables.subscribers, night)) & ~blocked(tables, rows, night, share)
    kept = np.flatnonzero(here)
    parts = {
        name: tuple(getattr(last, name)[k] for k in kept) for name in ("rows", "gains", "reasons")
    }
    return replace(last, night=night, source="last list", why=why, **parts)


def tonight(
    folder: Path,
    tables: Tables,
    night: int,
    last: List | None = None,
    share: float = 0.05,
    terms: Terms = TERMS,
) -> List:
    """Make the list of a night, whatever happens to the model.

    Parameters
    ----------
    folder : Path
        Of the registry.
    tables : Tables
    night : int
    last : List, optional
        The last good one (made by the model).
    share : float
        Held out.
    terms : Terms

    Returns
    -------
    List
        ``source`` and ``why`` tell whether and why it is not the model's.
    """
    try:
        return by_model(folder, tables, night, share, terms, last.there if last else None)
    except Exception as error:  # any fault of the night ends in a list
        why = f"{type(error).__name__}: {error}"
    if last is not None and 0 < night - last.made <= KEEPS:
        return again(last, tables, night, share, why)
    return by_points(tables, night, share, terms, why)
