"""World of case 10: a social app tests a new home feed on 5 % of its users for 14 days.

Mechanisms
----------
Users have a platform, a client (web browsers are current or old), a tenure and a community of 50
people. Each opens the app at a rate of its own (sessions a day) and stays for a length of its own
(minutes a session); both are lognormal, so that a few users make most of the minutes, and people
of one community are alike. A user is *exposed* at the first session of the test, which no arm can
change. Users who do not open the app during the test are in no log.

The arm comes from a salted hash of the user (5 % control, 5 % treatment, 90 % rest), or of the
community where the unit is ``"cluster"``. The treatment changes the expected minutes of a day by
the factor 1 + effect(k), k days after the user's first exposure:

* a lasting effect that differs by tenure (``new`` below 30 days, ``regular``, ``veteran`` from a
  year on) and is lower on the web;
* novelty: new and regular users look around at first; it halves every ``novelty_half`` days;
* primacy: veterans have to learn the new feed; that loss halves every ``primacy_half`` days.

A third of the logarithm of the factor goes into more sessions, the rest into longer ones (on the
first session all of it). The treatment also changes clicks and hides per impression, revenue per
impression and loading times, each by one constant factor.

Spill-over: friends of treated users see more posts. The minutes of *both* arms grow by ``spill``
times the share of a user's eight friends who are treated (seven of them in the same community). At
launch all friends are treated: the launch effect is larger than what an experiment on 5 % sees.

What is measured follows from the minutes: impressions are Poisson, clicks and hides binomial with a
rate of the user, revenue is a share of impressions plus rare purchases with a Pareto tail, loading
times are lognormal with a level of the user. The 28 days before the test come from the same user
levels with a drift, cut at the tenure: a user who registered yesterday has no pre-period.

Crawlers are among the users of every arm: many sessions, no clicks, and nearly always an unknown
client.

Two faults break the split in :data:`BROKEN`. ``redirect_loss``: the new feed answers old web
clients by a redirect on which this share of them is lost, and old clients visit seldom, so the
users that remain look better. ``control_crawlers``: crawlers that were given a cached page of the
old feed and are counted as control, whatever their hash says.

The transport of the log adds faults that are not the experiment's: rows sent twice, rows that come
days late, users who change arm on a second device, clocks that are wrong.

Nothing here is estimated from data. The constants were chosen so that noise and effect are of the
size that tests of large consumer apps have: an effect of about two per cent, a standard error of
about one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.ab_testing import users
from casebook.cases.ab_testing.constants import AB, BROKEN, SMALL, Constants
from casebook.cases.ab_testing.users import SEGMENTS, USER
from casebook.evaluate.assign import CONTROL, TREATMENT

CHAPTER = "10_ab_testing"
SEED = 2026
START = pd.Timestamp("2026-03-02")
LOG = [
    *("event", "user", "arm", "time", "received", "minutes"),
    *("impressions", "clicks", "hides", "revenue", "load_ms"),
]


@dataclass(frozen=True)
class World:
    """One simulated experiment.

    Attributes
    ----------
    users : DataFrame
        A row for each exposed user of control and treatment: ``user``, ``platform``, ``client``,
        ``country``, ``tenure_days``, ``cluster`` (community), and ``pre_sessions``,
        ``pre_minutes``, ``pre_impressions``, ``pre_clicks``, ``pre_revenue`` of the 28 days before.
    exposures : DataFrame
        Counts by ``arm`` (with the rest), ``platform``, ``client``, ``country``: ``assigned``
        (users who opened the app and got an arm) and ``users`` (those that the log shows in it).
    log : DataFrame
        A row for each delivered session of control and treatment, in the order in which it was
        received: ``event`` (id), ``user``, ``arm`` (that was shown), ``time``, ``received``,
        ``minutes``, ``impressions``, ``clicks``, ``hides``, ``revenue`` (euro), ``load_ms``.
    truth : DataFrame
        Of each user of ``users``: ``user``, ``arm`` (assigned), ``segment``, ``bot``,
        ``minutes_control`` and ``minutes_treatment`` (expected over the test in each arm),
        ``base`` (expected minutes a day in control) and ``long_run`` (lasting relative effect).
    effects : DataFrame
        True relative effects on the minutes of ``segment`` ("all" and each one): ``share`` (of the
        users), ``test`` (mean over the test), ``long_run`` (after novelty and primacy) and
        ``launch`` (the same with all friends treated).
    by_day : DataFrame
        True relative effect on the minutes by ``k``, days since the first exposure (``effect``).
    faults : DataFrame
        Planted in the log: ``event`` and ``fault`` (``twice``, ``late``, ``wrong clock``,
        ``both arms``).
    units : dict of str to int
        Logged units of each arm that were randomised: users, or communities.
    constants : Constants
    """

    users: pd.DataFrame
    exposures: pd.DataFrame
    log: pd.DataFrame
    truth: pd.DataFrame
    effects: pd.DataFrame
    by_day: pd.DataFrame
    faults: pd.DataFrame
    units: dict[str, int]
    constants: Constants


def simulate(seed: int = SEED, constants: Constants = AB) -> World:
    """Simulate an experiment of 14 days.

    Parameters
    ----------
    seed : int
        Of the users, their sessions and the faults; the arms are those of the hash.
    constants : Constants

    Returns
    -------
    World
    """
    rng = np.random.default_rng(seed)
    crowd = users.everyone(rng, constants)
    crowd["arm"] = users.assigned(crowd, constants)
    crowd["treated_friends"] = users.treated_friends(rng, crowd, constants)
    crowd = users.exposed(rng, crowd, constants)
    logged = crowd[crowd["logged"]]
    tested = users.tested(logged)
    tested = pd.concat([tested, users.before(rng, tested)], axis=1)
    log = _sessions(rng, tested, constants)
    delivered, faults = _delivered(rng, log, constants)
    truth = _truth(tested, constants)
    return World(
        users=tested[USER],
        exposures=users.counts(crowd, constants),
        log=delivered,
        truth=truth,
        effects=_effects(truth, constants),
        by_day=_by_day(tested, constants),
        faults=faults,
        units=users.units(logged, constants),
        constants=constants,
    )


def idea(seed: int, users: int = 200_000, wild: float = 1.0) -> Constants:
    """Draw one of the company's ideas: most change little, some are broken.

    Parameters
    ----------
    seed : int
    users : int
    wild : float
        Factor of the spread of lasting effects.

    Returns
    -------
    Constants
        A lasting effect with mean 0.5 % and standard deviation 2 %, larger for new users; novelty,
        primacy and side effects of random size; one idea in eight loses users in a redirect.
    """
    rng = np.random.default_rng([seed, 10])
    lift = rng.normal(0.005, 0.02 * wild)
    spread = rng.normal(0.02, 0.02)
    return Constants(
        users=users,
        salt=f"idea_{seed}",
        lift={
            "new": lift + spread,
            "regular": lift,
            "veteran": lift - spread / 2,
            "web": rng.normal(0, 0.01),
        },
        novelty=abs(rng.normal(0, 0.08)),
        primacy=-abs(rng.normal(0, 0.04)),
        spill=abs(rng.normal(0, 0.01)),
        clicks=rng.normal(0, 0.02),
        hides=rng.normal(0, 0.03),
        revenue=rng.normal(-0.005, 0.01),
        load=abs(rng.normal(0, 0.02)),
        redirect_loss=float(rng.random() < 1 / 8) * 0.6,
    )


# The effect ---------------------------------------------------------------------------


def long_run(people: pd.DataFrame, c: Constants) -> np.ndarray:
    """Return the lasting relative effect on each user's minutes."""
    lift = people["segment"].map({name: c.lift[name] for name in SEGMENTS}).to_numpy(float)
    lift = lift + np.where(people["platform"] == "web", c.lift["web"], 0.0)
    return np.where(people["bot"], 0.0, lift)


def effect_on(people: pd.DataFrame, k: np.ndarray, c: Constants) -> np.ndarray:
    """Return the relative effect ``k`` days after the first exposure, spill-over left out.

    Parameters
    ----------
    people : DataFrame
        ``segment``, ``platform``, ``bot``.
    k : ndarray, shape (n,) or (n, days)
    """
    veteran = (people["segment"] == "veteran").to_numpy()
    start = np.where(veteran, c.primacy, c.novelty) * ~people["bot"].to_numpy()
    half = np.where(veteran, c.primacy_half, c.novelty_half)
    lasting = long_run(people, c)
    if np.ndim(k) == 2:
        start, half, lasting = start[:, None], half[:, None], lasting[:, None]
    return lasting + start * 2.0 ** (-k / half)


def _calendar(people: pd.DataFrame, c: Constants) -> tuple[np.ndarray, np.ndarray]:
    """Return days since the first exposure and expected sessions without effect, by user and day.

    The first session itself is not among them: it happens for certain.
    """
    first = people["first"].to_numpy()[:, None]
    day = np.arange(c.days)[None, :]
    k = day - np.floor(first)
    part = np.clip(day + 1 - first, 0, 1)  # of the day that is left after the first session
    weekend = np.where((START.dayofweek + np.arange(c.days)) % 7 >= 5, 1.2, 0.92)[None, :]
    return k, people["rate"].to_numpy()[:, None] * part * weekend


def _truth(people: pd.DataFrame, c: Constants) -> pd.DataFrame:
    """Return the expected minutes of each user in each arm."""
    k, sessions = _calendar(people, c)
    effect = 1 + effect_on(people, np.maximum(k, 0), c)
    today = 1 + effect_on(people, np.zeros(len(people)), c)
    usual = people["length"] * (1 + c.spill * people["treated_friends"])
    return pd.DataFrame(
        {
            "user": people["user"],
            "arm": people["arm"],
            "segment": people["segment"],
            "bot": people["bot"],
            "minutes_control": usual * (1 + sessions.sum(axis=1)),
            "minutes_treatment": usual * (today + (sessions * effect).sum(axis=1)),
            "base": people["rate"] * people["length"],
            "long_run": long_run(people, c),
        }
    )


def _effects(truth: pd.DataFrame, c: Constants) -> pd.DataFrame:
    """Return the true relative effects, weighted by minutes as a mean of minutes is."""
    people, rows = truth[~truth["bot"]], []
    for segment in ("all", *SEGMENTS):
        part = people if segment == "all" else people[people["segment"] == segment]
        lasting = np.average(part["long_run"], weights=part["base"])
        rows.append(
            {
                "segment": segment,
                "share": len(part) / len(people),
                "test": part["minutes_treatment"].sum() / part["minutes_control"].sum() - 1,
                "long_run": lasting,
                "launch": (1 + lasting) * (1 + c.spill) - 1,
            }
        )
    return pd.DataFrame(rows)


def _by_day(people: pd.DataFrame, c: Constants) -> pd.DataFrame:
    """Return the true effect by days since the first exposure, weighted by minutes."""
    k, sessions = _calendar(people, c)
    weight = sessions * people["length"].to_numpy()[:, None] * ~people["bot"].to_numpy()[:, None]
    gain = weight * effect_on(people, np.maximum(k, 0), c)
    day = np.maximum(k, 0).astype(int).ravel()  # before the first exposure the weight is zero
    return pd.DataFrame(
        {
            "k": np.arange(c.days),
            "effect": np.bincount(day, gain.ravel()) / np.bincount(day, weight.ravel()),
        }
    )


# The log ------------------------------------------------------------------------------


def _sessions(rng: np.random.Generator, people: pd.DataFrame, c: Constants) -> pd.DataFrame:
    """Return one row for each session that took place, as it was."""
    k, expected = _calendar(people, c)
    treated = (people["arm"] == TREATMENT).to_numpy()
    factor = np.where(treated[:, None], 1 + effect_on(people, np.maximum(k, 0), c), 1.0)
    counts = rng.poisson(expected * np.cbrt(factor))
    who, day = np.nonzero(counts)
    repeats = counts[who, day]
    who, day = np.repeat(who, repeats), np.repeat(day, repeats)
    first = people["first"].to_numpy()
    moment = np.maximum(day, first[who])
    moment = moment + rng.random(len(who)) * (day + 1 - moment)
    effect = factor[who, day] ** (2 / 3)
    n = len(people)
    at_first = factor[np.arange(n), first.astype(int)]
    who, moment = np.r_[np.arange(n), who], np.r_[first, moment]
    friendly = 1 + c.spill * people["treated_friends"].to_numpy()
    mean = people["length"].to_numpy()[who] * np.r_[at_first, effect] * friendly[who]
    return _measured(rng, people, who, moment, mean, treated[who], c)


def _measured(
    rng: np.random.Generator,
    people: pd.DataFrame,
    who: np.ndarray,
    moment: np.ndarray,
    mean: np.ndarray,
    treated: np.ndarray,
    c: Constants,
) -> pd.DataFrame:
    """Return the log of sessions of given users, moments (days) and expected minutes."""
    n, bot = len(who), people["bot"].to_numpy()
    order = np.argsort(moment, kind="stable")
    who, moment, mean, treated = who[order], moment[order], mean[order], treated[order]
    minutes = mean * np.exp(rng.normal(-0.405, 0.9, n))  # lognormal with mean one
    minutes = np.where(bot[who], mean, np.minimum(minutes, 600))
    impressions = 1 + rng.poisson(4 * minutes)
    taste = np.where(bot, 0.0, rng.beta(3, 47, len(people)))
    dislike = np.where(bot, 0.0, rng.gamma(0.5, 0.006, len(people)))
    shown = {
        name: np.where(treated, 1 + getattr(c, name), 1.0)
        for name in ("clicks", "hides", "revenue", "load")
    }
    level = np.log(np.where(people["platform"] == "web", 520, 400)) + rng.normal(0, 0.3, len(bot))
    bought = (rng.random(n) < 0.004) & ~bot[who]
    purchase = np.where(bought, 5 * (1 + rng.pareto(2.3, n)), 0.0)
    earned = 0.004 * impressions * shown["revenue"] * rng.gamma(2, 0.5, n) * ~bot[who]
    return pd.DataFrame(
        {
            "event": np.arange(n),
            "user": people["user"].to_numpy()[who],
            "arm": people["arm"].to_numpy()[who],
            "time": START.to_datetime64().astype("M8[ns]") + _seconds(moment * 86_400),
            "minutes": minutes.round(3),
            "impressions": impressions,
            "clicks": rng.binomial(impressions, np.minimum(taste[who] * shown["clicks"], 1)),
            "hides": rng.binomial(impressions, np.minimum(dislike[who] * shown["hides"], 1)),
            "revenue": (earned + np.minimum(purchase, 2_000)).round(4),
            "load_ms": (np.exp(level[who] + rng.normal(0, 0.4, n)) * shown["load"]).round(1),
        }
    )


def _delivered(
    rng: np.random.Generator, log: pd.DataFrame, c: Constants
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the log as the transport delivers it, and the faults that it has."""
    n = len(log)
    late = rng.random(n) < c.late
    delay = np.where(late, rng.uniform(0.5, 4, n) * 86_400, rng.exponential(40, n))
    log = log.assign(received=log["time"] + _seconds(delay))
    wrong = rng.random(n) < c.wrong_clock
    log.loc[wrong, "time"] = pd.Timestamp("1970-01-01")
    tested = log["user"].drop_duplicates()
    switching = tested[rng.random(len(tested)) < c.both_arms]
    second = log["user"].isin(switching) & (rng.random(n) < 0.5) & log.duplicated("user")
    swapped = log["arm"].map({CONTROL: TREATMENT, TREATMENT: CONTROL})
    log["arm"] = log["arm"].where(~second, swapped)
    twice = rng.random(n) < c.twice
    again = log[twice].assign(received=lambda f: f["received"] + pd.Timedelta(minutes=10))
    marks = {"twice": twice, "late": late, "wrong clock": wrong, "both arms": second.to_numpy()}
    faults = [pd.DataFrame({"event": log["event"][m], "fault": name}) for name, m in marks.items()]
    delivered = pd.concat([log, again]).sort_values(["received", "event"], ignore_index=True)
    return delivered[LOG], pd.concat(faults, ignore_index=True)


def _seconds(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64).astype("timedelta64[s]")


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what is committed in ``data/10_ab_testing``: the small world, and the broken split."""
    world = simulate(SEED, SMALL)
    return {
        "users.parquet": world.users,
        "exposures.parquet": world.exposures,
        "log.parquet": world.log,
        "truth.parquet": world.truth,
        "effects.parquet": world.effects,
        "broken_exposures.parquet": simulate(SEED, BROKEN).exposures,
    }
