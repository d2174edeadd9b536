"""What is known of each subscriber on a night: one definition for training, page and nightly list.

Every feature counts what had been *recorded* by the night. :data:`FEATURES` says what each one is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn.month import FIRST, VALUE, night_of
from casebook.cases.subscription_churn.population import INDUSTRIES, MONTH, PLANS
from casebook.cases.subscription_churn.records import Tables, date
from casebook.data.loads import same_rows
from casebook.features.mood import Mood

#: Days of a quarter here: three months of four weeks.
QUARTER = 3 * MONTH
FEATURES = {
    "plan": "0 basic, 1 team, 2 business",
    "industry": "number of the industry",
    "admin": "whether the contact is the administrator",
    "tenure": "days since joining",
    "seats": "subscribers of the account",
    "logins_week": "logins of the last week",
    "logins_month": "logins a week, last four weeks",
    "logins_half_year": "logins a week, last 24 weeks",
    "ratio": "logins of four weeks over those three months ago; empty for the new",
    "drop": "share by which the last two weeks fall short of the four before",
    "slope": "slope of log(1 + logins) over twelve weeks, a week",
    "empty_weeks": "weeks without a login, of twelve",
    "silent": "days since the last login",
    "tickets": "tickets within a month",
    "tickets_quarter": "tickets within three months",
    "mood": "mean unhappiness of the tickets of three months; empty without one",
    "failed": "failed payments within three months",
    "downgrades": "downgrades recorded within three months",
    "score": "last answer to the survey within half a year; empty without one",
    "colleagues_ratio": "ratio of the whole account's logins, without the subscriber",
    "colleagues_left": "share of the account's other seats that were given up within three months",
    "colleagues_failed": "failed payments of the account's other seats, within three months",
    "calls": "calls within three months",
}
NAMES = list(FEATURES)


def _within(events: pd.DataFrame, night: int, days: int, by: str = "at") -> pd.DataFrame:
    """Return the events of the days before a night, by the date of a column."""
    end = date(night)
    return events[(events[by] < end) & (events[by] >= end - pd.Timedelta(days=days))]


def downgrades(
    changes: pd.DataFrame, rows: np.ndarray, night: int, by: str = "recorded"
) -> np.ndarray:
    """Count each row's downgrades within three months.

    By ``at`` the count knows changes that are yet to come: a downgrade is booked back to the first
    day of its month, which is the night itself.
    """
    end = date(night)
    known = changes[(changes[by] <= end) & (changes[by] > end - pd.Timedelta(days=QUARTER))]
    return _count(known["row"], rows)


def _count(found: pd.Series, rows: np.ndarray) -> np.ndarray:
    return np.bincount(found, minlength=int(rows.max(initial=0)) + 1)[rows]


def there(subscribers: pd.DataFrame, night: int) -> np.ndarray:
    """Return the rows of those who have joined by a night, and are not known to have left."""
    end = date(night)
    joined = subscribers["joined"].to_numpy() < end.to_datetime64()
    left = subscribers["left"].to_numpy()
    return np.flatnonzero(joined & ~(left <= end.to_datetime64()))


def plan_on(tables: Tables, rows: np.ndarray, night: int) -> np.ndarray:
    """Return the number of each row's plan as known on a night."""
    first = tables.subscribers["plan"].map(dict(zip(PLANS, range(3), strict=True))).to_numpy()
    known = tables.changes[tables.changes["recorded"] <= date(night)]
    return np.maximum(first[rows] - _count(known["row"], rows), 0)


def value_on(tables: Tables, rows: np.ndarray, night: int) -> np.ndarray:
    """Return the euro that each row is worth by its plan as known on a night."""
    return np.array(VALUE)[plan_on(tables, rows, night)]


def weeks_by(tables: Tables, night: int) -> int:
    """Return the whole weeks of logins that a night knows."""
    weeks = (night - night_of(FIRST)) // 7
    if weeks < 16:
        raise ValueError(f"{weeks} weeks of logins by day {night}: 16 are needed.")
    if weeks > tables.logins.shape[1]:
        raise ValueError(
            f"the night of day {night} needs {weeks} weeks of logins, {tables.logins.shape[1]} are "
            "loaded: a clock is ahead, or the logins are late."
        )
    return weeks


def _logins(tables: Tables, rows: np.ndarray, night: int) -> dict[str, np.ndarray]:
    """Return the features of the weekly logins."""
    weeks = weeks_by(tables, night)
    known = tables.logins[rows, :weeks].astype(np.float32)
    month, before = known[:, -4:].mean(axis=1), known[:, -16:-12].mean(axis=1)
    two, four = known[:, -2:].mean(axis=1), known[:, -6:-2].mean(axis=1)
    line = np.arange(12) - 5.5
    last = tables.last_day[rows, : weeks + 1]
    recent = np.where(last <= night, last, -np.inf)
    joined = (tables.subscribers["joined"].iloc[rows] - date(0)).dt.days.to_numpy()
    here = np.clip((night - joined) // 7, 1, 24)
    return {
        "logins_week": known[:, -1],
        "logins_month": month,
        "logins_half_year": known[:, -24:].sum(axis=1) / here,
        "ratio": np.where(here >= 16, (month + 0.25) / (before + 0.25), np.nan),
        "drop": 1 - (two + 0.25) / (four + 0.25),
        "slope": np.log1p(known[:, -12:]) @ line / (line @ line),
        "empty_weeks": (known[:, -12:] == 0).sum(axis=1),
        "silent": np.minimum(night - np.maximum(recent.max(axis=1), joined), 7 * weeks),
    }


def _events(tables: Tables, rows: np.ndarray, night: int, mood: Mood) -> dict[str, np.ndarray]:
    """Return the features of tickets, payments, surveys and calls."""
    quarter = _within(tables.tickets, night, QUARTER)
    unhappy = np.bincount(quarter["row"], mood.of(quarter["text"]), int(rows.max()) + 1)[rows]
    count = _count(quarter["row"], rows)
    answers = _within(tables.surveys, night, 2 * QUARTER).drop_duplicates("row", keep="last")
    called = tables.calls[tables.calls["called"]]
    with np.errstate(invalid="ignore"):
        return {
            "tickets": _count(_within(tables.tickets, night, MONTH)["row"], rows),
            "tickets_quarter": count,
            "mood": unhappy / count,
            "failed": _count(_within(tables.payments, night, QUARTER)["row"], rows),
            "score": answers.set_index("row")["score"].reindex(rows).to_numpy(),
            "calls": _count(_within(called, night, QUARTER)["row"], rows),
        }


def _account(
    tables: Tables, rows: np.ndarray, night: int, own: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the features of an account's other subscribers."""
    account = tables.subscribers["account"].to_numpy()
    mine = account[rows]

    def others(values: np.ndarray) -> np.ndarray:
        return np.bincount(mine, values)[mine] - values

    weeks = (night - night_of(FIRST)) // 7
    now = others(tables.logins[rows, weeks - 4 : weeks].sum(axis=1))
    before = others(tables.logins[rows, weeks - 16 : weeks - 12].sum(axis=1))
    left = tables.subscribers["left"]
    end = date(night)
    gone = left[(left <= end) & (left > end - pd.Timedelta(days=QUARTER))].index
    lost = np.bincount(account[gone], minlength=account.max() + 1)[mine]
    seats = np.bincount(mine)[mine]
    return {
        "seats": seats,
        "colleagues_ratio": (now + 1) / (before + 1),
        "colleagues_left": lost / (seats - 1 + lost).clip(1),
        "colleagues_failed": others(own["failed"]),
    }


def build(tables: Tables, night: int, mood: Mood | None = None, by: str = "recorded"):
    """Return the features of all subscribers who are there on a night.

    Parameters
    ----------
    tables : Tables
        May reach beyond the night: later records are not looked at.
    night : int
        Its day, at least 16 weeks into the history.
    mood : Mood, optional
        By default one that learns from the tickets known on the night.
    by : str
        ``"at"`` counts downgrades by the date that they are booked on, and leaks.

    Returns
    -------
    DataFrame
        Index row, a column for each of :data:`FEATURES`.

    Raises
    ------
    ValueError
        If the history is too short, or row labels are not the positions of the logins.
    """
    beside = {"logins": tables.logins, "last_day": tables.last_day}
    same_rows("subscribers", tables.subscribers.index, **beside)
    rows = there(tables.subscribers, night)
    if not len(rows):
        raise ValueError(f"no subscriber is there on day {night}: load the table again.")
    people = tables.subscribers.iloc[rows]
    mood = mood or Mood(tables.tickets, date(night))
    made = _logins(tables, rows, night) | _events(tables, rows, night, mood)
    made |= _account(tables, rows, night, made)
    made |= {
        "plan": plan_on(tables, rows, night),
        "industry": people["industry"].map(dict(zip(INDUSTRIES, range(4), strict=True))),
        "admin": people["admin"],
        "tenure": (date(night) - people["joined"]).dt.days,
        "downgrades": downgrades(tables.changes, rows, night, by),
    }
    columns = {name: np.asarray(made[name], np.float32) for name in NAMES}
    return pd.DataFrame(columns, index=pd.Index(rows, name="row"))


def cancels(tables: Tables, rows: Sequence[int], night: int, known: int) -> np.ndarray:
    """Return who cancels within the month after a night.

    Parameters
    ----------
    tables : Tables
    rows : sequence of int
    night : int
    known : int
        The day of asking.

    Raises
    ------
    ValueError
        If the month is not over on that day: those who will cancel yet would count as staying.
    """
    if night + MONTH > known:
        raise ValueError(
            f"the month after day {night} ends on day {night + MONTH}, {night + MONTH - known} "
            "days from now: its outcome is not known yet."
        )
    left = tables.subscribers["left"].to_numpy()[np.asarray(rows)]
    first, last = (date(day).to_datetime64() for day in (night, night + MONTH))
    return (left > first) & (left <= last)
