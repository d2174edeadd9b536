"""An afternoon of an analyst: silence, points, common sense, a table of segments.

The rungs between calling anybody and a model, written to win; none has seen a true effect.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from casebook.evaluate.effects import RISKS, Predict, Sample, group_effects

#: Segments in the order in which a subscriber is put into one.
SEGMENTS = ("payment", "asleep", "ticket", "downgrade", "falling, new", "falling", "new", "steady")


def silence(features: pd.DataFrame) -> np.ndarray:
    """Return the days since the last login: whom the team would call first."""
    return features["silent"].to_numpy(float)


def hopeless(features: pd.DataFrame) -> np.ndarray:
    """Return whom no call keeps, by two sentences of common sense.

    Whose company stops paying or gives up its seats is lost; who hardly ever logs in is asleep,
    and a call would be a reminder.
    """
    f = features
    lost = (f["failed"] > 0) | (f["colleagues_left"] > 0.25)
    return (lost | (f["logins_half_year"] <= 0.5)).to_numpy(bool)


def points(features: pd.DataFrame) -> np.ndarray:
    """Return points for what makes subscribers leave, as experience has it.

    Long silence counts only where there had been logins: who never comes does not go either. For
    signs that a company closes there are none: experience does not say whether a call helps there.
    """
    f = features
    used = f["logins_half_year"] > 0.5
    return (
        3.0 * (f["downgrades"] > 0)
        + 2.0 * (f["mood"].fillna(0) > 0.6)
        + 2.0 * ((f["ratio"] < 0.6) & used)
        + 1.0 * ((f["drop"] > 0.4) & used)
        + 1.0 * ((f["silent"] > 10) & used)
        + 1.0 * (f["score"].fillna(8) < 6)
        + 0.5 * (f["tenure"] < 180)
    ).to_numpy(float)


#: By what each segment may be split in two.
SPLITS = {
    "": lambda f: np.zeros(len(f), bool),
    "called": lambda f: f["calls"] > 0,
    "admin": lambda f: f["admin"] > 0,
}


def segments(features: pd.DataFrame, split: str = "") -> np.ndarray:
    """Return the segment of each subscriber: what seems to be the matter; or each in two."""
    f = features
    awake = f["logins_half_year"] > 0.5
    falls = ((f["ratio"] < 0.6) | (f["drop"] > 0.4) | (f["slope"] < -0.05)) & awake
    new = f["tenure"] < 180
    cases = [
        (f["failed"] > 0) | (f["colleagues_left"] > 0.3),
        ~awake,
        (f["tickets_quarter"] > 0) & (f["mood"] > 0.5),
        f["downgrades"] > 0,
        falls & new,
        falls,
        new,
    ]
    found = np.select(cases, SEGMENTS[:-1], SEGMENTS[-1])
    return np.where(SPLITS[split](f), np.char.add(found, f", {split}"), found)


def by_segments(sample: Sample, settings: Mapping[str, object]) -> Predict:
    """Learn the effect of each segment from the randomised month."""
    split = str(settings["split"])
    own = segments(sample.features, split)
    effect = group_effects(own, sample.cancelled, sample.drawn, sample.chance)["effect"]

    def predict(features: pd.DataFrame) -> np.ndarray:
        # Within a segment points decide, or nothing does.
        ties = 1e-7 * points(features) if settings["ties"] else 0.0
        return effect.reindex(segments(features, split)).fillna(0).to_numpy() + ties

    return predict


def shares(sample: Sample, split: str = "") -> pd.DataFrame:
    """Return of each segment the effect of a call and the share that cancels without one."""
    own = segments(sample.features, split)
    found = group_effects(own, sample.cancelled, sample.drawn, sample.chance)
    return found[["effect", "stay"]]


def shared(
    table: pd.DataFrame, features: pd.DataFrame, risk: np.ndarray, split: str = ""
) -> np.ndarray:
    """Return the effect of a call: the share of the losses that it saves in a segment x the risk.

    Where calls do harm, the effect of the segment stands by itself.
    """
    mine = table.reindex(segments(features, split)).fillna({"effect": 0, "stay": 1})
    effect, stay = mine["effect"].to_numpy(), mine["stay"].to_numpy()
    return np.where(effect > 0, effect / stay.clip(1e-6) * risk, effect)


def by_shares(sample: Sample, settings: Mapping[str, object]) -> Predict:
    """Learn the shares and a risk model from one randomised month."""
    split = str(settings["split"])
    risk_of = RISKS[str(settings["risk"])](sample, None)
    table = shares(sample, split)
    return lambda features: shared(table, features, risk_of(features), split)
