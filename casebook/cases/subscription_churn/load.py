"""The contract of tonight's tables: which can be right, which rows are left out, and what is said.

A table that is cut off, late, doubled or joined wrongly is refused for the model and for the points
alike; single records that cannot be are left out and named.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn.features import QUARTER, there, weeks_by
from casebook.cases.subscription_churn.population import INDUSTRIES, MONTH, PLANS
from casebook.cases.subscription_churn.records import Tables, date
from casebook.data.contracts import need_columns, typed
from casebook.data.loads import (
    SPOILT,
    LoadRefused,
    fresh,
    same_rows,
    set_aside,
    steady,
    steady_weeks,
)

#: Most logins of a subscriber in a week; days that the newest may lag; least share that logs in.
MOST_LOGINS, LAG, ACTIVE = 10_000, 1.5, 0.3
#: The times of each table of events, and in which range a value can be.
TIMES = {"tickets": ["at"], "payments": ["at"], "changes": ["at", "recorded"], "surveys": ["at"]}
RANGES = {"surveys": {"score": (0, 10)}}


def called_by(tables: Tables, night: int) -> Tables:
    """Return the tables with calls and dates as a night may use them to spare people.

    Raises
    ------
    LoadRefused, ValueError
        If nobody was called within a quarter: whom not to call is unknown.
    """
    people, calls = tables.subscribers, tables.calls
    need_columns(people, ["joined", "left"], "subscribers")
    need_columns(calls, ["called", "complains"], "calls")
    # What is not said counts as called and as a complaint: nobody is called by mistake.
    said = {name: calls[name].map({False: False}).isna() for name in ("called", "complains")}
    rows = int(max(people.index.max(), 0)) + 1 if len(people) else 0
    calls = set_aside("calls", calls.assign(**said), rows, ["at"])[0]
    if not calls.loc[calls["called"], "at"].gt(date(night - QUARTER)).any():
        raise LoadRefused("calls: nobody was called within three months; load them again.")
    return replace(tables, subscribers=typed(people, [], ["joined", "left"]), calls=calls)


def _people(tables: Tables) -> tuple[Tables, np.ndarray, str]:
    """Return tables in which each subscriber can be counted, and the rows to be left out."""
    people = tables.subscribers
    need_columns(people, ["account", "industry", "admin", "plan"], "subscribers")
    same_rows("subscribers", people.index, logins=tables.logins, last_day=tables.last_day)
    account = pd.to_numeric(people["account"], errors="coerce")
    lost = ~account.between(0, 10 * len(people))
    plan = ~people["plan"].isin(PLANS)
    wild = ~((tables.logins >= 0) & (tables.logins <= MOST_LOGINS)).all(axis=1)
    bad = lost | plan | wild | ~people["industry"].isin(INDUSTRIES) | people["joined"].isna()
    if bad.sum() > max(1, SPOILT * len(people)):
        raise LoadRefused(
            f"subscribers: {bad.sum():,} of {len(people):,} with an account, plan, industry, date "
            "or logins that cannot be; load them again."
        )
    people = people.assign(account=account.where(~lost, account[~lost].max() + 1).astype(int))
    people["plan"] = people["plan"].where(~plan, PLANS[0])
    sound = replace(tables, subscribers=people)
    if wild.any():
        sound = replace(sound, logins=np.where(wild.to_numpy()[:, None], 0, tables.logins))
    note = f"{bad.sum():,} of {len(bad):,} subscribers with values that cannot be: left out."
    return sound, np.flatnonzero(bad), note if bad.any() else ""


def _used(tables: Tables, night: int) -> None:
    """Refuse logins of which a part is missing, doubled or late."""
    here, weeks = there(tables.subscribers, night), weeks_by(tables, night)
    if not len(here):
        return  # the features say so
    logins, last = tables.logins[here, weeks - 12 : weeks], tables.last_day[here, : weeks + 1]
    if (now := (logins[:, -1] > 0).mean()) < ACTIVE:
        said = f"{now:.1%} have logged in within the" if now else "nobody has logged in for a"
        raise LoadRefused(f"{said} week: the logins have not been loaded.")
    steady_weeks("logins", logins, weeks)
    off = ((logins[:, -4:] > 0) != np.isfinite(last[:, weeks - 4 : weeks])).mean()
    if off > SPOILT:
        raise LoadRefused(f"last_day: {off:.0%} of the weeks do not agree with the logins.")
    fresh("logins", night, np.max(last, where=last <= night, initial=-np.inf), LAG)


def prepared(tables: Tables, night: int) -> tuple[Tables, np.ndarray, str]:
    """Return tables that a night can be made from, the rows to leave out, and what is left out.

    Raises
    ------
    LoadRefused, ValueError
        If a table cannot be right, with its name and what to do.
    """
    sound, out, note = _people(called_by(tables, night))
    notes, made, end = [note], {}, date(night)
    need_columns(tables.tickets, ["text"], "tickets")
    for name, times in TIMES.items():
        found = set_aside(
            name, getattr(tables, name), len(sound.subscribers), times, RANGES.get(name)
        )
        made[name] = found[0]
        notes.append(found[1])
        days = (end - made[name][times[-1]]) // pd.Timedelta(days=1)
        now, past = days.between(0, MONTH - 1).sum(), days.between(MONTH, QUARTER - 1).sum() / 2
        steady(f"{name} (four weeks)", now, past, slack=10)
    sound = replace(sound, **made)
    _used(sound, night)
    return sound, out, " ".join(filter(None, notes))
