"""The shop's features in the feature store: what follows a session, and what is of last night.

One definition serves the page, the mail and the training table. A session's features follow each
event within seconds; tastes and sales are those of the last night's cut.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.recommendations.log import START
from casebook.features.store import BATCH, DAY, HOUR, MINUTE, Feature, Offline, Online

SEEN = {"kind": ("view", "click")}
BOUGHT, PAGE = {"kind": ("buy",)}, {"kind": ("page",)}
FEATURES = (
    # The pages of the day so far: a window of a day that begins with it.
    Feature("recent_pages", ("user",), "recent", DAY, "item", PAGE, step=DAY, n=5),
    Feature("session_category", ("user", "category"), "count", 30 * MINUTE, where=SEEN),
    Feature("trend_1h", ("item",), "count", HOUR, where=SEEN),
    Feature("in_stock", ("item",), "last", np.inf, "stock"),
    Feature("views_7d", ("item",), "count", 7 * DAY, where=SEEN, tier=BATCH, step=HOUR),
    Feature("buys_7d", ("item",), "count", 7 * DAY, where=BOUGHT, tier=BATCH, step=HOUR),
    Feature("buys_90d", ("user",), "count", 90 * DAY, where=BOUGHT, tier=BATCH, step=DAY),
    Feature("spent_90d", ("user",), "sum", 90 * DAY, "price", BOUGHT, tier=BATCH, step=DAY),
    Feature("mean_price", ("user",), "mean", 90 * DAY, "price", SEEN, tier=BATCH, step=DAY),
    Feature("affinity", ("user", "category"), "count", 90 * DAY, where=SEEN, tier=BATCH, step=DAY),
    Feature("last_20", ("user",), "recent", np.inf, "item", SEEN, tier=BATCH, n=20),
)
#: Numbers of messages of the warehouse and of pages begin here.
STOCKS, PAGES = 1_000_000_000, 2_000_000_000


def stock_messages(stock: np.ndarray, known: float = 0.0) -> pd.DataFrame:
    """Return the warehouse's messages: each item's state at the start, and each change.

    Parameters
    ----------
    stock : ndarray of bool, shape (days, items)
    known : float
        Seconds from midnight, when it changes, until it is known.
    """
    changed = np.vstack([np.ones(stock.shape[1:], bool), stock[1:] != stock[:-1]])
    day, item = np.nonzero(changed)
    at = START + pd.to_timedelta(day, unit="D")
    made = {"event": STOCKS + np.arange(len(day)), "at": at, "item": item}
    made |= {"known_at": at + pd.Timedelta(seconds=known), "stock": stock[day, item].astype(float)}
    return pd.DataFrame(made).assign(user=-1, kind="stock", price=np.nan)


def page_messages(shown: pd.DataFrame) -> pd.DataFrame:
    """Return the pages that the service answered: it knows them at once."""
    pages = shown[(shown["slot"] == 0) & (shown["seed_item"] >= 0)]
    made = {"event": PAGES + pages["list"].to_numpy(np.int64), "at": pages["at"]}
    made |= {"known_at": pages["at"], "user": pages["user"], "item": pages["seed_item"]}
    return pd.DataFrame(made).assign(kind="page", price=np.nan, stock=np.nan)


def feed(
    events: pd.DataFrame, shown: pd.DataFrame, items: pd.DataFrame, stock: np.ndarray
) -> pd.DataFrame:
    """Return what the store takes in: events with their category, pages, and the warehouse's.

    Parameters
    ----------
    events : DataFrame
        As of :func:`.messages.repair`, or as they came in; the store counts a second one once.
    shown, items : DataFrame
    stock : ndarray of bool, shape (days, items)

    Raises
    ------
    ValueError
        If an event names an item that the shop does not have.
    """
    if not events["item"].isin(items.index).all():
        raise ValueError("an event names an item that is not in the shop: load its items first.")
    columns = ["event", "at", "known_at", "user", "item", "kind", "price"]
    people = events[columns].astype({"kind": str, "event": np.int64, "item": np.int64})
    parts = [people.assign(stock=np.nan), page_messages(shown), stock_messages(stock)]
    both = pd.concat(parts, ignore_index=True)
    both["category"] = items["category"].astype(str).to_numpy()[both["item"]]
    return both.sort_values(["known_at", "event"], kind="stable", ignore_index=True)


def filled(messages: pd.DataFrame, now: pd.Timestamp, where: object = ":memory:") -> Online:
    """Return a store as it stands at a moment: last night's batch, and all that came in since.

    Parameters
    ----------
    messages : DataFrame
        As of :func:`feed`.
    now : Timestamp
    where : path or str
        As for :class:`.Online`.
    """
    online = Online(FEATURES, where)
    cut = BATCH.cut(now.value // 1000)
    night = pd.Timestamp(cut, unit="us")
    if night > START:
        offline = Offline(FEATURES, messages[messages["known_at"] < night])
        online.publish(offline.night(BATCH, night), night, night + pd.Timedelta(hours=1))
        offline.close()
    known = messages["known_at"] < now
    # Of what is older than the longest window only the state of the stock still counts.
    lately = messages["at"] >= now.normalize() - pd.Timedelta(hours=2)
    online.ingest(messages[known & (lately | messages["stock"].notna())], now)
    return online


def stock_now(online: Online, items: int) -> np.ndarray:
    """Return of each item 1.0 in stock, 0.0 sold out, nan where nobody reported; shape (items,)."""
    last = pd.Timestamp.max.floor("s")
    return online.read({"item": np.arange(items)}, last, ("in_stock",))["in_stock"]
