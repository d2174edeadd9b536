"""From the delivered log to one row a user: refused rows, duplicates, late rows, crawlers.

A cleaning rule must not depend on the arm. Rows are refused for what no session can be. Users are
left out for what they did during the test (thirty sessions without a click, rows of both arms), so
the treatment might move such a rule: what it removes is counted by arm, and the split is tested
again on the users that remain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.data.contracts import ContractBroken, enforce, need_columns, summary, typed
from casebook.evaluate.assign import CONTROL, TREATMENT

if TYPE_CHECKING:
    import pandera.pandas as pa

    from casebook.cases.ab_testing.plan import Plan

SUMS = ("minutes", "impressions", "clicks", "hides", "revenue")
COLUMNS = ("event", "user", "arm", "time", "received", *SUMS, "load_ms")
#: Segments by tenure, and the days at which they change.
TENURE_NAMES, TENURE = ("new", "regular", "veteran"), (30, 365)
#: A crawler opens the app so often without a click; a user with as many sessions clicks.
CRAWLER_SESSIONS = 30


@dataclass(frozen=True)
class Cleaned:
    """What an analysis may use, and what became of the rest.

    Attributes
    ----------
    sessions : DataFrame
        Accepted rows, one for each event, with ``day`` (0 is the first of the test).
    quarantined : DataFrame
        Refused rows as they came.
    lines : tuple of str
        What was wrong with them.
    counts : dict of str to int
        Rows ``refused``, ``twice``, ``changed`` (events that came again with another content; the
        first one counts) and ``waiting`` (not yet received at ``until``); users that are left out:
        ``both_arms`` and ``crawlers``.
    left_out : DataFrame
        ``user``, ``arm`` (first seen) and ``why`` of these users.
    """

    sessions: pd.DataFrame
    quarantined: pd.DataFrame
    lines: tuple[str, ...]
    counts: dict[str, int]
    left_out: pd.DataFrame


@cache
def contract(start: pd.Timestamp, days: int) -> pa.DataFrameSchema:
    """Return what a session of a test must keep."""
    import pandera.pandas as pa

    end = start + pd.Timedelta(days=days)

    def between(column: str, low: float, high: float) -> pa.Column:
        what = f"{column} is not between {low:g} and {high:g}"
        return pa.Column(checks=pa.Check.in_range(low, high, name=column, error=what))

    columns = {
        "event": pa.Column(),
        "user": pa.Column(),
        "arm": pa.Column(
            checks=pa.Check.isin(
                [CONTROL, TREATMENT], name="arm", error="the arm is neither of the two compared"
            )
        ),
        "time": pa.Column(
            checks=pa.Check(
                lambda t: (t >= start) & (t < end), name="time", error="the time is not in the test"
            )
        ),
        "received": pa.Column(),
        "minutes": between("minutes", 0, 1_440),
        "impressions": between("impressions", 0, 100_000),
        "clicks": between("clicks", 0, 100_000),
        "hides": between("hides", 0, 100_000),
        "revenue": between("revenue", 0, 10_000),
        "load_ms": between("load_ms", 1, 120_000),
    }
    checks = [
        pa.Check(
            lambda f: (f["clicks"] <= f["impressions"]) & (f["hides"] <= f["impressions"]),
            name="impressions",
            error="more clicks or hides than impressions",
        ),
        pa.Check(
            lambda f: f["received"] >= f["time"] - pd.Timedelta(minutes=5),
            name="received",
            error="received before it happened",
        ),
    ]
    return pa.DataFrameSchema(columns, checks=checks)


def _lines(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
    remedy = {
        "time": "correct the client's clock, or leave the row out.",
        "arm": "log the arm that the assignment service returned.",
    }.get(rule, "mend the sender and deliver the rows again.")
    return [summary(what, rows, ["event", "user", "time"], remedy)]


def clean(log: pd.DataFrame, plan: Plan, until: pd.Timestamp | str | None = None) -> Cleaned:
    """Clean a log as it was received up to a moment.

    Parameters
    ----------
    log : DataFrame
        As :attr:`~casebook.cases.ab_testing.world.World.log`; rows in any order, any index.
    plan : Plan
    until : Timestamp or str, optional
        The moment of the analysis: rows received later are not known yet.

    Returns
    -------
    Cleaned

    Raises
    ------
    ValueError
        If the log lacks a column.
    """
    need_columns(log, COLUMNS, "log")
    log = typed(log, (*SUMS, "load_ms"), ("time", "received"))
    known = log[log["received"] <= moment(until)] if until is not None else log
    known = known.sort_values("received", kind="stable")
    start = pd.Timestamp(plan.start)
    try:
        enforce(contract(start, plan.days), known, _lines)
        accepted, refused, lines = known, known.iloc[:0], ()
    except ContractBroken as broken:
        accepted, refused, lines = broken.accepted, broken.rows, broken.lines
    again = accepted[accepted["event"].duplicated(keep=False)].drop(columns="received")
    accepted = accepted.drop_duplicates("event")  # after the contract: a row sent again is repaired
    nameless = refused["event"].isna() | ~refused["event"].duplicated()
    refused = refused[nameless & ~refused["event"].isin(accepted["event"])]
    left_out = _left_out(accepted)
    sessions = accepted[~accepted["user"].isin(left_out["user"])]
    day = (sessions["time"] - start) // pd.Timedelta(days=1)
    counts = {
        "refused": len(refused),
        "twice": len(known) - len(accepted) - len(refused),
        "changed": int(again.drop_duplicates()["event"].duplicated().sum()),
        "waiting": len(log) - len(known),
        **{why: int((left_out["why"] == why).sum()) for why in ("both_arms", "crawlers")},
    }
    sessions = sessions.assign(day=day.astype(int)).reset_index(drop=True)
    return Cleaned(sessions, refused, lines, counts, left_out)


def moment(until: pd.Timestamp | str) -> pd.Timestamp:
    """Return a moment as the log has them: UTC, without the zone."""
    at = pd.Timestamp(until)
    return at.tz_convert(None) if at.tzinfo else at


def _left_out(sessions: pd.DataFrame) -> pd.DataFrame:
    """Return users who were seen in both arms, and crawlers: by what they did in the test."""
    codes, names = pd.factorize(sessions["user"])
    if not len(names):
        return pd.DataFrame({"user": [], "arm": [], "why": []})
    treated = np.bincount(codes, sessions["arm"] == TREATMENT)
    total = np.bincount(codes)
    both = (treated > 0) & (treated < total)
    crawler = (total >= CRAWLER_SESSIONS) & (np.bincount(codes, sessions["clicks"]) == 0)
    first = sessions.drop_duplicates("user").set_index("user")["arm"].reindex(names).to_numpy()
    out = both | crawler
    why = np.where(both, "both_arms", "crawlers")
    return pd.DataFrame({"user": names[out], "arm": first[out], "why": why[out]})


def per_user(sessions: pd.DataFrame, users: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each exposed user: sums over the test, and what was known before it.

    Parameters
    ----------
    sessions : DataFrame
        Of :class:`Cleaned`.
    users : DataFrame
        As :attr:`~casebook.cases.ab_testing.world.World.users`.

    Returns
    -------
    DataFrame
        The columns of ``users``, ``arm``, ``day`` (of the first exposure), ``sessions`` and the
        sums of :data:`SUMS`; in the order of ``users``, without those that have no session.
    """
    if (twice := users["user"].duplicated()).any():
        raise ValueError(f"{twice.sum()} users have two rows: hand in one for each.")
    place = pd.Index(users["user"]).get_indexer(sessions["user"])
    if (place < 0).any():
        unknown = sessions.loc[place < 0, "user"].iloc[0]
        raise ValueError(
            f"{(place < 0).sum()} sessions are of users that `users` lacks, such as {unknown!r}: "
            "hand in the users of the same experiment."
        )
    n = len(users)
    sums = {name: np.bincount(place, sessions[name], n) for name in SUMS}
    count = np.bincount(place, minlength=n)
    treated = np.bincount(place, sessions["arm"] == TREATMENT, n) > 0
    first = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(first, place, sessions["day"].to_numpy())
    columns = {"arm": np.where(treated, TREATMENT, CONTROL), "day": first, "sessions": count}
    return users.assign(**columns, **sums)[count > 0].reset_index(drop=True)


def by_day(
    sessions: pd.DataFrame, people: pd.DataFrame, days: int, column: str = "minutes"
) -> np.ndarray:
    """Return what each user has on each calendar day of the test, shape (users, days)."""
    place = pd.Index(people["user"]).get_indexer(sessions["user"])
    cell = place * days + sessions["day"].to_numpy()
    known = place >= 0
    values = np.bincount(cell[known], sessions[column].to_numpy()[known], len(people) * days)
    return values.reshape(len(people), days)


def tenure_segment(people: pd.DataFrame) -> np.ndarray:
    """Return the segment of each user by tenure."""
    return np.array(TENURE_NAMES)[np.digitize(people["tenure_days"], TENURE)]
