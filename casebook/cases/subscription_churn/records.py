"""What a month of case 07 writes into the company's tables: logins, tickets, payments, calls.

Models see these tables and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn.month import Month, night_of
from casebook.cases.subscription_churn.population import (
    ADOPTION,
    CLOSING,
    INDUSTRIES,
    MONTH,
    PLANS,
    PRICE,
    RAMP,
    SERVICE,
    WEEKS,
    Constants,
    State,
    ramp,
)
from casebook.worlds.draws import stream
from casebook.worlds.tickets import write

START = pd.Timestamp("2025-01-06")
#: Effect of an episode at its height on the log of the logins, by reason.
QUIETER = (0.0, -2.0, -0.6, -0.15, -2.5)
#: Share of those who cancel that downgrade some days before.
DOWNGRADES_FIRST = 0.35


def date(day: np.ndarray | float) -> pd.DatetimeIndex | pd.Timestamp:
    """Return the date of a day: day 0 is the first night with calls."""
    return START + pd.to_timedelta(np.floor(day), unit="D")


@dataclass(frozen=True)
class Tables:
    """The tables of the company as they stand after some months. Models see these.

    Attributes
    ----------
    subscribers : DataFrame
        Index row; ``account``, ``industry``, ``admin``, ``joined`` (date), ``left`` (date or
        empty), ``plan`` (when joining).
    logins : ndarray of int, shape (rows, weeks)
        By week, from the first night of the history; 0 before joining and after leaving. The
        month of joining is not counted.
    last_day : ndarray of float, shape (rows, weeks)
        Day of the last login within each week, minus infinity without one.
    tickets, payments, changes, surveys, calls : DataFrame
        ``row``, ``at`` (date) and: ``text``, ``rating`` (1 to 5, mostly empty) · nothing more
        (failed) · ``recorded`` (downgrades; ``at`` is the date that the change is booked on) ·
        ``score`` (0 to 10) · ``assigned``, ``called``, ``reached``, ``chance``, ``complains``,
        ``unsubscribes``.
    """

    subscribers: pd.DataFrame
    logins: np.ndarray
    last_day: np.ndarray
    tickets: pd.DataFrame
    payments: pd.DataFrame
    changes: pd.DataFrame
    surveys: pd.DataFrame
    calls: pd.DataFrame


@dataclass
class Rows:
    """What the months have written so far: lists of parts, one for each month."""

    logins: list[np.ndarray] = field(default_factory=list)
    last_day: list[np.ndarray] = field(default_factory=list)
    tickets: list[pd.DataFrame] = field(default_factory=list)
    payments: list[pd.DataFrame] = field(default_factory=list)
    changes: list[pd.DataFrame] = field(default_factory=list)
    surveys: list[pd.DataFrame] = field(default_factory=list)
    calls: list[pd.DataFrame] = field(default_factory=list)


def _widened(parts: list[np.ndarray], rows: int, before: float) -> np.ndarray:
    """Return the parts side by side, filled with a value where a row had not joined yet."""
    made = np.full((rows, sum(part.shape[1] for part in parts)), before, parts[0].dtype)
    at = 0
    for part in parts:
        made[: len(part), at : at + part.shape[1]] = part
        at += part.shape[1]
    return made


def tables(state: State, rows: Rows) -> Tables:
    """Return the tables after the months that were written."""
    left = pd.Series(pd.NaT, range(len(state)), dtype="datetime64[ns]")
    gone = np.isfinite(state.left)
    left[gone] = date(state.left[gone])
    subscribers = pd.DataFrame(
        {
            "account": state.account,
            "industry": np.array(INDUSTRIES)[state.industry],
            "admin": state.admin,
            "joined": date(state.joined),
            "left": left,
            "plan": np.array(PLANS)[state.first_plan],
        }
    )
    events = ("tickets", "payments", "changes", "surveys", "calls")
    frames = {name: pd.concat(getattr(rows, name), ignore_index=True) for name in events}
    last = _widened(rows.last_day, len(state), -np.inf)
    return Tables(subscribers, _widened(rows.logins, len(state), 0), last, **frames)


def _logins(
    month: Month, reason: np.ndarray, since: np.ndarray, left: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logins of each week, and the day of the last one in it."""
    state, night, n = month.state, night_of(month.number), len(month.state)
    rng = stream(seed, month.number, 3)
    start = night + 7.0 * np.arange(WEEKS)
    far = np.clip((start + 3.5 - since[:, None]) / RAMP, 0, 1)
    mean = state.usual[:, None] + np.array(QUIETER)[reason][:, None] * far
    mean = np.exp(mean + 0.35 * rng.standard_normal((n, WEEKS)))
    asked = month.called & (rng.random(n) < 0.5)  # a call makes some look again
    mean[:, 0] += 2.0 * asked
    there = np.clip((np.minimum(left, 1e9)[:, None] - start) / 7, 0, 1)
    there *= (start + 7 > state.joined[:, None]) & (state.alive | month.cancelled)[:, None]
    logins = np.floor(mean * there + rng.random((n, WEEKS))).astype(np.int16)
    logins[there <= 0] = 0
    within = rng.random((n, WEEKS)) ** (1 / np.maximum(logins, 1))
    last = np.where(logins > 0, start + 7 * within * there, -np.inf)
    return np.minimum(logins, 127).astype(np.int8), last.astype(np.float32)


def _tickets(
    month: Month, reason: np.ndarray, far: np.ndarray, at: np.ndarray, there: np.ndarray, seed: int
) -> pd.DataFrame:
    """Return the tickets of a month: mostly of those whom the service fails."""
    rng = stream(seed, month.number, 4)
    ticket, rated, mood = rng.random((3, len(at)))
    rate = 0.06 + 0.7 * (reason == SERVICE) * (far > 0) + 0.06 * (reason == ADOPTION)
    rows = np.flatnonzero(there & (ticket < 1 - np.exp(-rate)))
    upset = mood[rows] < np.where(reason[rows] == SERVICE, 0.8, 0.3)
    stars = np.clip(np.round(4.3 - 2.2 * upset + rng.normal(0, 0.7, len(rows))), 1, 5)
    columns = {"row": rows, "at": date(at[rows]), "text": write(rng, upset)}
    return pd.DataFrame(columns | {"rating": np.where(rated[rows] < 0.3, stars, np.nan)})


def _downgrades(
    month: Month, reason: np.ndarray, far: np.ndarray, at: np.ndarray, there: np.ndarray, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the downgrades of a month, and who pays less from now on.

    Some have the price as their reason, others are the first step of cancelling. Both are booked
    on the first day of the month, whenever they are recorded.
    """
    night, rng = night_of(month.number), stream(seed, month.number, 8)
    lower, ahead = rng.random((2, len(at)))
    own = there & (lower < 0.004 + 0.25 * (reason == PRICE) * far)
    last = month.cancelled & (lower > 1 - DOWNGRADES_FIRST)
    changed = (own | last) & (month.state.plan > 0)
    recorded = np.where(last, month.day - 1 - np.floor(6 * ahead), at)
    recorded = np.maximum(recorded, night + 1)[changed]
    booked = date(np.full(changed.sum(), night))
    columns = {"row": np.flatnonzero(changed), "at": booked, "recorded": date(recorded)}
    return pd.DataFrame(columns), own & changed


def _rare(
    month: Month, reason: np.ndarray, far: np.ndarray, at: np.ndarray, there: np.ndarray, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the failed payments and the answers to the survey, which asks a third each month."""
    n, rng = len(at), stream(seed, month.number, 9)
    fails, asked, noise = rng.random((3, n))
    fail = there & (fails < 0.01 + 0.45 * (reason == CLOSING) * far + 0.03 * (reason == PRICE))
    turn = (month.number + np.arange(n)) % 3 == 0
    answers = np.flatnonzero(there & turn & (asked < 0.3))
    unhappy = np.array([0, 1.5, 3.0, 2.5, 1.0])[reason] * far
    score = np.clip(np.round(8.0 - unhappy + 6.0 * (noise - 0.5)), 0, 10)
    payments = pd.DataFrame({"row": np.flatnonzero(fail), "at": date(at[fail])})
    surveys = pd.DataFrame({"row": answers, "at": date(at[answers]), "score": score[answers]})
    return payments, surveys


def _calls(month: Month, seed: int, c: Constants) -> pd.DataFrame:
    """Return the month's lines of the call log: chosen or called."""
    n = len(month.state)
    reached = stream(seed, month.number, 5).random(n) < c.reached
    rows = np.flatnonzero(month.called | month.assigned)
    return pd.DataFrame(
        {
            "row": rows,
            "at": date(np.full(len(rows), night_of(month.number))),
            "assigned": month.assigned[rows],
            "called": month.called[rows],
            "reached": (month.called & reached)[rows],
            "chance": month.chance[rows],
            "complains": (month.complains & month.called)[rows],
            "unsubscribes": (month.unsubscribes & month.called)[rows],
        }
    )


def record(
    rows: Rows,
    month: Month,
    reason: np.ndarray,
    since: np.ndarray,
    state: State,
    seed: int,
    c: Constants,
) -> tuple[Rows, np.ndarray]:
    """Return the rows with a month written, and who has a cheaper plan from now on.

    ``reason`` and ``since`` are the troubles within the month, ``state`` is that after it.
    """
    night, n = night_of(month.number), len(month.state)
    far = np.where(reason > 0, ramp(since, night + MONTH / 2), 0)
    at = night + MONTH * stream(seed, month.number, 10).random(n)
    there = month.state.alive & (at < state.left)
    found = (month, reason, far, at, there, seed)
    logins, last = _logins(month, reason, since, state.left, seed)
    changes, cheaper = _downgrades(*found)
    payments, surveys = _rare(*found)
    parts = {"logins": logins, "last_day": last, "tickets": _tickets(*found), "changes": changes}
    parts |= {"payments": payments, "surveys": surveys, "calls": _calls(month, seed, c)}
    return Rows(**{name: [*getattr(rows, name), part] for name, part in parts.items()}), cheaper
