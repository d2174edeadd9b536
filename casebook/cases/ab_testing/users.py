"""The users of the world: what they are and do, which arm they get, and who is in the log.

The mechanisms are documented in :mod:`casebook.cases.ab_testing.world`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.ab_testing.constants import Constants
from casebook.evaluate.assign import (
    CONTROL,
    REST,
    TREATMENT,
    codes_of_numbered,
    numbered,
)

PRE_DAYS = 28
PLATFORMS = {"ios": 0.35, "android": 0.35, "web": 0.30}
WEB = 2
CLIENTS = ("current", "old", "unknown")
COUNTRIES = {"DE": 0.35, "FR": 0.25, "ES": 0.20, "PL": 0.20}
SEGMENTS = ("new", "regular", "veteran")
FRIENDS, COMMUNITY = 8, 50
PRE = ["pre_sessions", "pre_minutes", "pre_impressions", "pre_clicks", "pre_revenue"]
USER = ["user", "platform", "client", "country", "tenure_days", "cluster", *PRE]


def everyone(rng: np.random.Generator, c: Constants) -> pd.DataFrame:
    """Return all users with what they are and what they do, before any arm."""
    n = c.users
    size = n + round(c.control_crawlers * n)  # crawlers beyond the users
    platform = rng.choice(3, size, p=[*PLATFORMS.values()]).astype(np.int8)
    old = (platform == WEB) & (rng.random(size) < 0.35)
    bot = (rng.random(size) < c.crawlers) | (np.arange(size) >= n)
    platform[bot] = WEB
    client = np.where(bot & (rng.random(size) < 0.95), 2, old & ~bot)
    tenure = np.minimum(rng.exponential(420, size), 3_000).astype(np.int32)
    tenure = np.where(rng.random(size) < 0.08, rng.integers(0, 30, size), tenure)
    segment = np.digitize(tenure, [30, 365])
    cluster = np.arange(size) // COMMUNITY
    together = rng.normal(0, 0.25, cluster[-1] + 1)[cluster]
    level = np.log(0.40) + 0.35 * (segment == 2) + together + rng.normal(0, 0.8, size)
    rate = np.where(old, 0.6, 1.0) * np.minimum(np.exp(level), 8.0)
    length = np.minimum(np.exp(np.log(5.0) + rng.normal(0, 0.5, size)), 60.0)
    return pd.DataFrame(
        {
            "platform": _named(platform, [*PLATFORMS]),
            "client": _named(client, CLIENTS),
            "country": _named(rng.choice(4, size, p=[*COUNTRIES.values()]), [*COUNTRIES]),
            "tenure_days": tenure,
            "cluster": cluster,
            "segment": _named(segment, SEGMENTS),
            "bot": bot,
            "rate": np.where(bot, rng.uniform(4, 9, size), rate),
            "length": np.where(bot, 0.4, length),
        }
    )


def _named(codes: np.ndarray, names: Sequence[str]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [*names])


def assigned(people: pd.DataFrame, c: Constants) -> pd.Categorical:
    """Return the arms by the hash; crawlers beyond the users are counted as control."""
    if c.unit == "cluster":
        cluster = people["cluster"].to_numpy()
        codes = codes_of_numbered(cluster[-1] + 1, c.salt, c.shares)[cluster]
    else:
        codes = codes_of_numbered(c.users, c.salt, c.shares)
    beyond = np.full(len(people) - c.users, [*c.shares].index(CONTROL))
    return _named(np.r_[codes[: c.users], beyond], [*c.shares])


def treated_friends(rng: np.random.Generator, people: pd.DataFrame, c: Constants) -> np.ndarray:
    """Return the share of each user's friends who are treated: all but one of the community."""
    if not c.spill:
        return np.zeros(len(people))
    treated = (people["arm"] == TREATMENT).to_numpy()
    places = rng.integers(0, COMMUNITY, (len(people), FRIENDS), dtype=np.int32)
    friends = people["cluster"].to_numpy()[:, None] * COMMUNITY + places
    friends[:, -1] = rng.integers(0, c.users, len(people))
    return treated[np.minimum(friends, c.users - 1)].mean(axis=1)


def exposed(rng: np.random.Generator, people: pd.DataFrame, c: Constants) -> pd.DataFrame:
    """Return those who open the app during the test: when, and whether the log has them."""
    first = rng.exponential(size=len(people)) / people["rate"].to_numpy()
    lost = rng.random(len(people)) < c.redirect_loss
    lost &= ((people["arm"] == TREATMENT) & (people["client"] == "old")).to_numpy()
    return people.assign(first=first, logged=~lost)[first < c.days]


def counts(people: pd.DataFrame, c: Constants) -> pd.DataFrame:
    """Return exposed users by arm and by what is known of them."""
    by = ["arm", "platform", "client", "country"]
    own = people.assign(asked=people.index < c.users)
    table = own.groupby(by, observed=True).agg(assigned=("asked", "sum"), users=("logged", "sum"))
    return table.reset_index().astype(dict.fromkeys(by, str))


def units(people: pd.DataFrame, c: Constants) -> dict[str, int]:
    """Return how many of the randomised units each arm has."""
    own = people.drop_duplicates("cluster") if c.unit == "cluster" else people
    return own["arm"].value_counts().reindex([*c.shares], fill_value=0).to_dict()


def tested(people: pd.DataFrame) -> pd.DataFrame:
    """Return the exposed users of the two arms that are compared, with their ids."""
    tested = people[people["arm"] != REST]
    names = [column for column in tested if tested[column].dtype == "category"]
    ids = numbered(tested.index)
    tested = tested.astype(dict.fromkeys(names, str)).reset_index(drop=True)
    tested.insert(0, "user", ids)
    return tested


def before(rng: np.random.Generator, people: pd.DataFrame) -> pd.DataFrame:
    """Return what the users did in the 28 days before the test."""
    days = np.minimum(people["tenure_days"], PRE_DAYS)
    drift = np.exp(rng.normal(0, 0.25, len(people)))
    sessions = rng.poisson(people["rate"] * days * drift)
    noise = np.exp(rng.normal(0, 0.9 / np.sqrt(np.maximum(sessions, 1))))
    minutes = sessions * people["length"] * noise
    impressions = rng.poisson(4 * minutes)
    clicks = rng.binomial(impressions, np.where(people["bot"], 0.0, 0.06))
    revenue = 0.004 * impressions + np.where(rng.random(len(people)) < 0.03, 8.0, 0.0)
    columns = (sessions, minutes.round(2), impressions, clicks, revenue.round(3))
    return pd.DataFrame(dict(zip(PRE, columns, strict=True)))
