"""The feed of case 09: events with the faults of a real one, an audit that finds them, a repair.

Planted are messages that come late, that come twice, programs that open pages without end, and
two days on which telephones send prices in cents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import stream
from casebook.cases.recommendations.log import DAY, SESSIONS, Played, moment
from casebook.cases.recommendations.truth import Truth

KINDS = VIEW, CLICK, CART, BUY = ("view", "click", "cart", "buy")
#: A message is late that takes longer than this.
LATE = pd.Timedelta(hours=1)
#: A person does not open so many pages within an hour.
PACE = 60


def _of_day(seed: int, played: Played, truth: Truth) -> dict[str, np.ndarray]:
    """Return the events of a day as arrays: at, lag, user, item, kind, session."""
    asked, rng = played.asked, stream(seed, 100 + played.asked.day, 8)
    n, slots = played.lists.shape
    shop = truth.shop
    wait = (2_000 + rng.exponential(12_000, (n, slots + 1))).astype(np.int64)
    lag = 200 + rng.exponential(1_500, (n, slots + 1))
    slow = rng.random((n, slots + 1)) < shop.late
    lag = (lag + slow * 3_600_000 * (1 + rng.exponential(6.0, (n, slots + 1)))).astype(np.int64)
    page = np.flatnonzero(asked.seed_item >= 0)
    row, slot = np.nonzero(played.clicked)
    got, place = np.nonzero(played.bought)
    cart, paid = np.flatnonzero(played.cart), np.flatnonzero(played.bought_page)
    item, last = np.maximum(asked.seed_item, 0), np.full(n, slots)
    parts = [  # kind, row, column of the waiting times, after how many of them, item
        (0, page, last[page], 0, item[page]),
        (1, row, slot, 1, played.lists[row, slot]),
        (2, cart, last[cart], 2, item[cart]),
        (3, paid, last[paid], 4, item[paid]),
        (2, got, place, 2, played.lists[got, place]),
        (3, got, place, 4, played.lists[got, place]),
    ]
    made = {name: [] for name in ("at", "lag", "user", "item", "kind", "session")}
    for kind, who, column, times, what in parts:
        made["at"].append(asked.at[who] + times * wait[who, column])
        made["lag"].append(lag[who, column])
        made["user"].append(asked.user[who])
        made["item"].append(what)
        made["kind"].append(np.full(len(who), kind, np.int8))
        made["session"].append(asked.session[who])
    return {name: np.concatenate(values) for name, values in made.items()}


def _of_bots(seed: int, truth: Truth) -> dict[str, np.ndarray]:
    """Return the views and clicks of programs: three nights each, one page in seven seconds."""
    rng, pages, nights = stream(seed, 8), 240, truth.shop.days
    runs = [(bot, day) for bot in truth.bots for day in rng.choice(nights, 3, replace=False)]
    made = {name: [] for name in ("at", "lag", "user", "item", "kind", "session")}
    for number, (bot, day) in enumerate(runs):
        begins = day * DAY + int(rng.uniform(1, 4) * 3_600_000)
        goods = np.flatnonzero(truth.items.table["added"].to_numpy() <= day)
        own = goods[truth.items.category[goods] == truth.items.category[rng.choice(goods)]]
        made["at"].append(begins + 7_000 * np.arange(pages) + rng.integers(2_000, size=pages))
        made["lag"].append(200 + rng.exponential(1_500, pages).astype(np.int64))
        made["user"].append(np.full(pages, bot))
        made["item"].append(rng.choice(own, pages))
        made["kind"].append((rng.random(pages) < 0.4).astype(np.int8))
        made["session"].append(np.full(pages, (day + 1) * SESSIONS - 1 - number))
    return {name: np.concatenate(values) for name, values in made.items()}


def feed(seed: int, played: Sequence[Played], truth: Truth) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the events as they came in, and where faults are planted.

    Parameters
    ----------
    seed : int
    played : sequence of Played
        Days that were played.
    truth : Truth

    Returns
    -------
    events : DataFrame
        In order of ``known_at``: ``event`` (a number; a message that comes twice has it twice),
        ``at``, ``known_at``, ``user``, ``item``, ``kind``, ``session``, ``price`` (as sent).
    faults : DataFrame
        ``event`` and ``fault`` (late, twice, bot, cents).
    """
    shop = truth.shop
    parts = [_of_day(seed, day, truth) for day in played]
    parts.append(_of_bots(seed, truth))
    made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    bot = np.arange(len(made["at"])) >= len(made["at"]) - len(parts[-1]["at"])
    order = np.argsort(made["at"], kind="stable")
    made, bot = {name: values[order] for name, values in made.items()}, bot[order]
    n = len(order)
    phone = (truth.users.table["device"] == "phone").to_numpy()[made["user"]]
    day = made["at"] // DAY
    cents = phone & (day >= shop.cents_day) & (day < shop.cents_day + 2)
    # Streams of their own: a feed that ends earlier is the beginning of a longer one.
    again = np.flatnonzero(stream(seed, 9).random(n) < shop.twice)
    pause = stream(seed, 10).exponential(1_800_000, n)[again]
    price = truth.items.table["price"].to_numpy()[made["item"]] * np.where(cents, 100.0, 1.0)
    known = made["at"] + made["lag"]
    later = known[again] + (1_000 + pause).astype(np.int64)
    rows, known = np.r_[np.arange(n), again], np.r_[known, later]
    rows = rows[order := np.lexsort((rows, known))]
    events = pd.DataFrame(
        {
            "event": rows.astype(np.int32),
            "at": moment(made["at"][rows]),
            "known_at": moment(known[order]),
            "user": made["user"][rows].astype(np.int32),
            "item": made["item"][rows].astype(np.int32),
            "kind": pd.Categorical.from_codes(made["kind"][rows], KINDS),
            "session": made["session"][rows].astype(np.int32),
            "price": price[rows].round(2),
        }
    )
    late = made["lag"] >= LATE / pd.Timedelta(milliseconds=1)
    marks = {"late": late, "bot": bot, "cents": cents}
    found = [pd.DataFrame({"event": np.flatnonzero(m), "fault": f}) for f, m in marks.items()]
    found.append(pd.DataFrame({"event": again, "fault": "twice"}))
    faults = pd.concat(found).sort_values(["event", "fault"], ignore_index=True)
    return events, faults.astype({"event": np.int32})


# The audit ----------------------------------------------------------------------------


def audit(events: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Find the faults of a feed by what a reader of it can see.

    Parameters
    ----------
    events : DataFrame
        As of :func:`feed`.
    items : DataFrame
        The shop's items with their ``price``.

    Returns
    -------
    DataFrame
        ``event``, ``fault``, in order; a message that comes twice is named once.

    Raises
    ------
    ValueError
        If a column is missing, or an event names an item that the shop does not have.
    """
    wanted = {"event", "at", "known_at", "user", "item", "kind", "session", "price"}
    if missing := sorted(wanted - {*events}):
        raise ValueError(f"the events have no column {missing}: pass the feed as it came in.")
    if len(events) and not events["item"].isin(items.index).all():
        raise ValueError("an event names an item that is not in the shop: load its items first.")
    first = events.drop_duplicates("event")
    usual = items["price"].to_numpy()[first["item"]]
    hour = first.groupby(["user", first["at"].dt.floor("h")])["event"].transform("size")
    fast = first.loc[hour > PACE, "session"].unique()
    marks = {
        "late": first["known_at"] - first["at"] >= LATE,
        "bot": first["session"].isin(fast),
        "cents": first["price"] > 30 * usual,
        "twice": first["event"].isin(events.loc[events.duplicated("event"), "event"]),
    }
    found = [pd.DataFrame({"event": first.loc[m, "event"], "fault": f}) for f, m in marks.items()]
    return pd.concat(found).sort_values(["event", "fault"], ignore_index=True)


def score(found: pd.DataFrame, planted: pd.DataFrame) -> pd.DataFrame:
    """Return, by fault, how many were planted, found and both, with recall and precision."""
    both = found.merge(planted, on=["event", "fault"])
    counts = {
        "planted": planted["fault"].value_counts(),
        "found": found["fault"].value_counts(),
        "both": both["fault"].value_counts(),
    }
    table = pd.DataFrame(counts).fillna(0).astype(int).rename_axis("fault")
    return table.assign(
        recall=table["both"] / table["planted"], precision=table["both"] / table["found"]
    )


def repair(events: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Return each event once, as it first came in, without programs, with prices in euro.

    Late events stay, with the time at which they were known. A program is known by its pace over a
    whole session: what is repaired knows that session's end.
    """
    found = audit(events, items)
    named = {fault: part["event"] for fault, part in found.groupby("fault")}
    none = pd.Series(dtype=events["event"].dtype)
    clean = events.drop_duplicates("event")
    clean = clean[~clean["event"].isin(named.get("bot", none))]
    cents = clean["event"].isin(named.get("cents", none))
    price = clean["price"].where(~cents, clean["price"] / 100)
    return clean.assign(price=price.round(2)).reset_index(drop=True)
