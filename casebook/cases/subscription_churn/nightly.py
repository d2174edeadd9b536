"""The nightly list: who is called tomorrow and why, and what is called when no list can be made.

A night checks the tables and the features, asks the stored models and chooses by the same
:func:`.policy.choose` as the page. It notes who would have been called and is held out, for the
monitor. When it fails it answers with the last good list, without those who were called or left
since; when that was worked or is more than three nights old, with the points of the analyst. When
these fail too it says so.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import rules, studies
from casebook.cases.subscription_churn.features import (
    FEATURES,
    NAMES,
    build,
    there,
    value_on,
)
from casebook.cases.subscription_churn.load import called_by, prepared
from casebook.cases.subscription_churn.policy import TERMS, Terms, blocked, choose, gain
from casebook.cases.subscription_churn.population import MONTH
from casebook.cases.subscription_churn.records import Tables, date
from casebook.data.contracts import ModelRefused
from casebook.evaluate import effects
from casebook.evaluate.holdback import chosen_and_held, held_out
from casebook.features.mood import NO_MOOD, Mood
from casebook.serving import handout, nights, registry
from casebook.serving.handout import List

#: Nights for which the last good list stands in.
KEEPS = 3
#: Share of a day's calls below which yesterday's list has been worked, and the points go on.
WORKED = 0.9
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


def train(folder: Path, sample: effects.Sample, mood: Mood, until: int) -> Path:
    """Fit what ships, a risk model and the share of it that a call saves, into the registry.

    Parameters
    ----------
    folder : Path
    sample : Sample
        Randomised months.
    mood : Mood
        The one that its features were built with.
    until : int
        Last day that the models have seen.
    """
    stay, split = ~sample.drawn, str(studies.CHOSEN[studies.MODEL]["split"])
    model = effects.classifier().fit(sample.features[NAMES][stay], sample.cancelled[stay])
    shares, factor = rules.shares(sample, split), studies.slope(sample)
    return registry.put(
        folder,
        date(until),
        risk=model.booster_.model_to_string(),
        shares={name: [row.effect, row.stay] for name, row in shares.iterrows()},
        split=split,
        features=NAMES,
        mood=mood.stored(),
        slope=factor.value,
        error=factor.relative,
    )


checked = partial(
    nights.checked,
    known=FEATURES,
    alive={"logins_week": "nobody has logged in for a week: the logins have not been loaded."},
    may_miss=("ratio", "mood", "score"),
    not_below_0=("tenure", "seats", "logins_month", "silent"),
)


def by_model(
    folder: Path,
    tables: Tables,
    night: int,
    share: float,
    terms: Terms,
    before: int | None,
    spared: Collection[int] = (),
) -> List:
    """Make the list of a night by the stored models.

    Raises
    ------
    ModelRefused, NightFailed, LoadRefused
    """
    stored = registry.take(folder, date(night), max_age=2 * MONTH)
    if stored["features"] != NAMES:
        raise ModelRefused("the model has other features than the code: train it again")
    risk = nights.booster("risk", stored["risk"])
    features, tables, note = ready(tables, night, Mood.restored(stored["mood"]), before)
    rows = features.index.to_numpy()
    value = value_on(tables, rows, night)
    shares = pd.DataFrame.from_dict(stored["shares"], "index", float, ["effect", "stay"])
    nights.trusted("shares", shares.to_numpy().ravel())
    risks = nights.trusted("risk", risk.predict(features))
    found = rules.shared(shares, features, risks, stored["split"])
    effects_ = nights.trusted("effect", found)
    scale, error = nights.trusted("slope", [stored["slope"], stored.get("error", np.nan)])
    gains = nights.trusted("gain", gain(effects_, value, terms.cost))
    off = blocked(tables, rows, night) | np.isin(rows, [*spared])
    # The team is paid anyway, so a call may bring less than it costs; nobody is called whom a call
    # would make leave.
    apart = held_out(rows, night // MONTH, share)
    chosen, held = chosen_and_held(gains, off, apart, terms.daily, least=-terms.cost)
    if terms.daily and share < 1 and not len(chosen) and not off.all():
        raise ModelRefused("no call helps anybody: train the model again")
    both = np.concatenate([chosen, held])
    found = {"risks": risks[both], "effects": effects_[both] * scale}
    return List(
        night=night,
        source="model",
        rows=tuple(rows[chosen].tolist()),
        gains=tuple(np.round(gains[chosen], 2).tolist()),
        reasons=tuple(nights.reasons(risk, features.iloc[chosen], WORDS)),
        why=note,
        made=night,
        there=len(rows),
        held=tuple(rows[held].tolist()),
        error=round(error, 6),
        **{name: tuple(np.round(values, 6).tolist()) for name, values in found.items()},
    )


def ready(
    tables: Tables, night: int, mood: Mood, before: int | None
) -> tuple[pd.DataFrame, Tables, str]:
    """Return the features that a list may be made from, the sound tables, and what was left out."""
    sound, out, note = prepared(tables, night)
    features, more = checked(build(sound, night, mood), before)
    features = features.drop(index=features.index.intersection(out))
    return features, sound, " ".join(filter(None, (note, more)))


def by_points(
    tables: Tables,
    night: int,
    share: float,
    terms: Terms,
    before: int | None,
    spared: Collection[int],
    why: str,
) -> List:
    """Make the list by the analyst's points and common sense: no model, no experiment."""
    features, tables, _ = ready(tables, night, NO_MOOD, before)
    rows = features.index.to_numpy()
    score = rules.points(features) * value_on(tables, rows, night)
    off = blocked(tables, rows, night) | np.isin(rows, [*spared])
    off |= rules.hopeless(features) | held_out(rows, night // MONTH, share)
    chosen = choose(score, terms.daily, off)
    words = (("Points of the analyst's list.",),) * len(chosen)
    picked, euro = tuple(rows[chosen].tolist()), tuple(score[chosen].tolist())
    return List(night, "points", picked, euro, words, why, night, len(rows))


def again(
    last: List,
    tables: Tables,
    night: int,
    share: float,
    spared: Collection[int],
    least: float,
    why: str,
) -> List:
    """Return the last good list without those who were called, left or complained since.

    Raises
    ------
    NightFailed
        If fewer than ``least`` are left, as after a day on which the list was worked.
    """
    rows, tables = np.array(last.rows, int), called_by(tables, night)
    here = tables.subscribers.index[there(tables.subscribers, night)]
    off = blocked(tables, rows, night) | np.isin(rows, [*spared])
    off |= ~np.isin(rows, here) | held_out(rows, night // MONTH, share)
    return handout.without(last, off, night, why, least)


def tonight(
    folder: Path,
    tables: Tables,
    night: int,
    last: List | None = None,
    share: float = 0.05,
    terms: Terms = TERMS,
    spared: Collection[int] = (),
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
    spared : collection of int
        Rows that nobody may call, whatever the tables say: see :meth:`.Queue.spared`.

    Returns
    -------
    List
        ``source`` and ``why`` tell whether and why it is not the model's.

    Raises
    ------
    NightFailed
        If no way makes a list; the queue goes on with the list that it has.
    ValueError
        If the share is none: that is no fault of the night.
    """
    held_out(np.empty(0, int), 0, share)
    before = last.there if last else None
    stands = last is not None and 0 < night - last.made <= KEEPS
    given = (share, terms, before, spared)
    rungs = {"the model": lambda why: by_model(folder, tables, night, *given)}
    if stands:
        day = WORKED * min(terms.daily, len(last.rows))
        rungs["the last list"] = lambda why: again(last, tables, night, share, spared, day, why)
    rungs["points"] = lambda why: by_points(tables, night, *given, why)
    if stands:
        rungs["what is left"] = lambda why: again(last, tables, night, share, spared, 1, why)
    return nights.climb(night, rungs)
