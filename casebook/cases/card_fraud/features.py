"""The feature store of card fraud: one definition, for a table and for one event.

:func:`batch` computes the features of all transactions of a table at once, :class:`OnlineStore`
those of one event from state that it keeps. Counts and sums are gathered in two ways, by sorted
windows and by state; what is made of them stands once, in ``_finish``. Amounts are whole cents and
times whole milliseconds, so that the two agree to the last bit of a sum.

The rules, the same in both:

* Order is the order of arrival: ``received``, then ``transaction``. The clock of the terminal
  (``time``) is used nowhere.
* A transaction sees those that arrived before it and the evidence with ``known`` up to its own
  ``received``, the same millisecond included; never itself, nor evidence about itself.
* A window of ``w`` at ``t`` holds what arrived after ``t - w``: the edge itself has left it.
* A *purchase* is the first row of a ``request`` with an amount of zero or more, whatever came of
  it. Retries and refunds get features like any other row, at their own arrival, and leave no trace:
  nothing counts them, and what they used does not become familiar.
* That a purchase was refused (denied, abandoned or declined) is known from the next row on.
* The terminal's risk lies behind the label delay: of the purchases between ``delay + w`` and
  ``delay`` days ago, the share known to be fraud by now.

There is no missing value: each definition in :data:`FEATURES` says what stands for "none".
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right, insort
from collections.abc import Callable, Hashable, Iterator, Mapping
from heapq import heappop, heappush
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.card_fraud.world.constants import (
    CATEGORIES,
    CHANNELS,
    COUNTRIES,
    ENTRIES,
    OUTCOMES,
)
from casebook.data.contracts import need_columns
from casebook.features.windows import DAY, Groups, milliseconds, trailing

#: Days after which a purchase counts in the terminal's risk: most chargebacks take longer, denials
#: are known at once.
LABEL_DELAY = 7.0
#: Column → its definition, in the words of a fraud analyst. The order of the columns.
FEATURES: dict[str, str] = {
    "amount": "amount, euro (a refund is negative)",
    "log_amount": "logarithm of one plus the amount in euro (a refund: 0)",
    "refund": "whether it is a refund",
    "amount_ratio": "amount against this customer's mean purchase of the last 30 days (none: 1)",
    "online": "whether the purchase is online",
    "entry": "how the card was read (code: chip, contactless, wallet, magstripe, typed, stored)",
    "category": "line of business of the terminal (code)",
    "hour": "hour of the day at which the bank received it",
    "weekday": "day of the week, Monday is 0",
    "night": "whether it arrived between midnight and six",
    "customer_count_1h": "purchases of this customer in the last hour",
    "customer_count_24h": "purchases of this customer in the last 24 hours",
    "customer_count_7d": "purchases of this customer in the last 7 days",
    "customer_sum_1h": "euro spent by this customer in the last hour",
    "customer_sum_24h": "euro spent by this customer in the last 24 hours",
    "customer_sum_7d": "euro spent by this customer in the last 7 days",
    "customer_mean_7d": "mean purchase of this customer in the last 7 days, euro (none: 0)",
    "customer_mean_30d": "mean purchase of this customer in the last 30 days, euro (none: 0)",
    "log_seconds_since_last": "logarithm of one plus the seconds since this customer's last "
    "purchase (30 days at most; none: 30 days)",
    "customer_small_24h": "purchases of this customer below 5 euro in the last 24 hours",
    "card_age": "days since the bank first saw this card (never before: 0)",
    "tenure": "days since this customer joined the bank",
    "terminal_new": "whether this customer never bought at this terminal before",
    "country_changed": "whether a purchase in person is in another country than this customer's "
    "last one in person (online, or none: 0)",
    "km_from_last": "kilometres from this customer's last purchase in person (online, or none: 0)",
    "km_from_home": "kilometres from this customer's home (online: 0)",
    "speed": "kilometres an hour since this customer's last purchase in person (six minutes at "
    "least; online, or none: 0)",
    "device_missing": "whether no device was sent, online or with the phone",
    "device_new": "whether this customer never used this device before (no device: 0)",
    "device_age": "days since this customer first used this device (never, or no device: 0)",
    "device_customers_24h": "other customers on this device in the last 24 hours",
    "device_customers_7d": "other customers on this device in the last 7 days",
    "device_count_24h": "purchases on this device in the last 24 hours",
    "ip_customers_24h": "other customers at this network address in the last 24 hours",
    "terminal_count_1d": "purchases at this terminal in the last 24 hours",
    "terminal_count_7d": "purchases at this terminal in the last 7 days",
    "terminal_count_30d": "purchases at this terminal in the last 30 days",
    "terminal_risk_1d": "share known as fraud among the purchases at this terminal in the day "
    "before the label delay (none: 0)",
    "terminal_risk_7d": "share known as fraud among the purchases at this terminal in the 7 days "
    "before the label delay (none: 0)",
    "terminal_risk_30d": "share known as fraud among the purchases at this terminal in the 30 days "
    "before the label delay (none: 0)",
    "terminal_frauds": "frauds at this terminal that are known by now, ever",
    "device_frauds": "frauds on this device that are known by now, ever (no device: 0)",
    "customer_frauds": "frauds against this customer that are known by now, ever",
    "customer_refused_24h": "purchases of this customer that were denied, abandoned or declined in "
    "the last 24 hours",
    "device_refused_24h": "purchases on this device that were denied, abandoned or declined in the "
    "last 24 hours",
}
#: Outcomes of a transaction that did not go through.
REFUSED = ("denied", "abandoned", "declined")
#: What a transaction says when it asks to be decided, as far as features use it.
ASKED = ("transaction", "request", "received", "customer", "card", "terminal", "category")
ASKED += ("channel", "entry", "amount", "country", "device", "ip")

_HOUR = DAY // 24
_WEEK, _MONTH = 7 * DAY, 30 * DAY
_RISKS = {"1d": DAY, "7d": _WEEK, "30d": _MONTH}
_SMALL = 500
_WALLET = ENTRIES.index("wallet")
_CODES = {
    name: {value: code for code, value in enumerate(values)}
    for name, values in (
        ("category", CATEGORIES),
        ("channel", CHANNELS),
        ("entry", ENTRIES),
        ("country", COUNTRIES),
    )
}
_ONLINE = _CODES["channel"]["online"]
#: Relative tolerance of :func:`mismatch`: eight steps of a float32.
_TOLERANCE = 1e-6


def _finish(
    raw: Mapping[str, Any], where: Callable, log1p: Callable, hypot: Callable
) -> Iterator[tuple[str, Any]]:
    """Make the features of what was gathered, for arrays and for single numbers alike.

    ``raw`` holds cents, milliseconds, codes and flags; ``where`` evaluates both its values, so
    that no divisor may be zero.
    """
    cents, ms = raw["cents"], raw["ms"]
    yield "amount", cents / 100
    yield "log_amount", log1p(where(cents > 0, cents, 0) / 100)
    yield "refund", cents < 0
    spent = where(raw["cents_30d"] > 0, raw["cents_30d"], 1)
    yield "amount_ratio", where(raw["cents_30d"] > 0, cents * raw["count_30d"] / spent, 1.0)
    yield "online", raw["online"]
    yield "entry", raw["entry"]
    yield "category", raw["category"]
    hour = ms // _HOUR % 24
    yield "hour", hour
    yield "weekday", (ms // DAY + 3) % 7  # the first of January 1970 was a Thursday
    yield "night", hour < 6
    for window in ("1h", "24h", "7d"):
        yield f"customer_count_{window}", raw[f"count_{window}"]
    for window in ("1h", "24h", "7d"):
        yield f"customer_sum_{window}", raw[f"cents_{window}"] / 100
    for window in ("7d", "30d"):
        count = raw[f"count_{window}"]
        yield f"customer_mean_{window}", raw[f"cents_{window}"] / where(count > 0, 100 * count, 1)
    since = where(raw["since_last"] < _MONTH, raw["since_last"], _MONTH)
    yield "log_seconds_since_last", log1p(since / 1000)
    yield "customer_small_24h", raw["small_24h"]
    yield "card_age", raw["card_age"] / DAY
    yield "tenure", where(raw["tenure"] > 0, raw["tenure"], 0) / DAY
    yield "terminal_new", raw["terminal_new"]
    yield "country_changed", raw["country_changed"]
    km = hypot(raw["x"] - raw["last_x"], raw["y"] - raw["last_y"])
    yield "km_from_last", km
    yield "km_from_home", hypot(raw["x"] - raw["home_x"], raw["y"] - raw["home_y"])
    hours = raw["since_place"] / _HOUR
    yield "speed", km / where(hours > 0.1, hours, 0.1)
    unsent = (raw["online"] > 0) | (raw["entry"] == _WALLET)
    yield "device_missing", unsent & (raw["device"] < 0)
    for name in ("device_new", "device_age", "device_customers_24h", "device_customers_7d"):
        yield name, raw[name] / DAY if name == "device_age" else raw[name]
    yield "device_count_24h", raw["device_count_24h"]
    yield "ip_customers_24h", raw["ip_customers_24h"]
    for window in _RISKS:
        yield f"terminal_count_{window}", raw[f"terminal_count_{window}"]
    for window in _RISKS:
        count = raw[f"delayed_count_{window}"]
        risk = raw[f"delayed_frauds_{window}"] / where(count > 0, count, 1)
        yield f"terminal_risk_{window}", risk
    for name in ("terminal_frauds", "device_frauds", "customer_frauds"):
        yield name, raw[name]
    yield "customer_refused_24h", raw["customer_refused_24h"]
    yield "device_refused_24h", raw["device_refused_24h"]


# Evidence --------------------------------------------------------------------------------------


def evidence(transactions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return when each fraud became known to the bank.

    Parameters
    ----------
    transactions : DataFrame
        ``transaction``, ``received``, ``outcome``.
    labels : DataFrame
        ``transaction``, ``chargeback``, ``known``, as ``World.labels``. What lies in the future
        may be in it: ``known`` says when it counts. Labels of other transactions are left out.

    Returns
    -------
    DataFrame
        ``transaction``, ``known``, in order of ``known``: a chargeback when it arrived, a denial
        when the transaction was received. The first of the two where there are both.

    Raises
    ------
    ValueError
        When a column is missing.

    Notes
    -----
    A chargeback by a genuine buyer and a denial by mistake are evidence too: the bank cannot tell.
    """
    need_columns(transactions, ("transaction", "received", "outcome"), "transactions")
    need_columns(labels, ("transaction", "chargeback", "known"), "labels")
    charged = labels[labels["chargeback"].astype(bool)]
    charged = charged[charged["transaction"].isin(transactions["transaction"])]
    denied = transactions[transactions["outcome"] == "denied"]
    both = {
        "transaction": [charged["transaction"], denied["transaction"]],
        "known": [charged["known"], denied["received"]],
    }
    known = pd.DataFrame(
        {
            "transaction": np.concatenate([c.to_numpy(np.int64) for c in both["transaction"]]),
            "known": np.concatenate([_moments(c) for c in both["known"]]).astype("datetime64[ms]"),
        }
    )
    known = known.sort_values(["known", "transaction"], ignore_index=True)
    return known.drop_duplicates("transaction", ignore_index=True)


# What rows say ---------------------------------------------------------------------------------


def _moments(series: pd.Series) -> np.ndarray:
    """Return moments as whole milliseconds; those with a time zone in UTC."""
    return milliseconds(pd.to_datetime(series, utc=True).dt.tz_convert(None).to_numpy())


def _idents(series: pd.Series) -> np.ndarray:
    """Return identifiers, −1 where there is none."""
    return series.fillna(-1).to_numpy(np.int64)


def _code(series: pd.Series, name: str) -> np.ndarray:
    values = series.astype("category")
    codes = values.cat.categories.map(_CODES[name]).to_numpy(float, na_value=np.nan)
    found = np.append(codes, np.nan)[values.cat.codes]
    if (unknown := np.isnan(found)).any():
        value = series.iloc[int(unknown.argmax())]
        raise ValueError(f"{value!r} is no {name}: one of {', '.join(_CODES[name])}.")
    return found.astype(np.int64)


def _places(master: pd.DataFrame, ids: pd.Series, name: str) -> np.ndarray:
    """Return the row of the master data of each identifier."""
    places = pd.Index(master[name]).get_indexer(ids)
    if (places < 0).any():
        unknown = ids.to_numpy()[places < 0]
        raise ValueError(
            f"{len(np.unique(unknown))} {name}s have no master data, such as {unknown[0]}: "
            f"give the {name}s of all transactions."
        )
    return places


def _rows(transactions: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns of a table as whole numbers, after checks."""
    need_columns(transactions, ASKED, "transactions")
    number = transactions["transaction"].to_numpy(np.int64)
    ms = _moments(transactions["received"])
    step = np.diff(ms)
    if (wrong := (step < 0) | ((step == 0) & (np.diff(number) <= 0))).any():
        raise ValueError(
            f"row {int(wrong.argmax()) + 1} arrived before the row above it: sort by received, "
            "then transaction, not by the terminal's time."
        )
    index = pd.Index(number)
    if index.has_duplicates:
        raise ValueError(f"transaction {index[index.duplicated()][0]} stands there twice.")
    amount = transactions["amount"].to_numpy(float)
    if (wrong := ~np.isfinite(amount)).any():
        raise ValueError(f"transaction {number[wrong.argmax()]} has no finite amount.")
    rows = {"transaction": number, "ms": ms, "cents": np.rint(amount * 100).astype(np.int64)}
    for name in ("customer", "card", "terminal", "request", "device", "ip"):
        rows[name] = _idents(transactions[name])
    for name in _CODES:
        rows[name] = _code(transactions[name], name)
    rows["retry"] = pd.Index(rows["request"]).duplicated()
    return rows


def _master(terminals: pd.DataFrame, customers: pd.DataFrame) -> None:
    need_columns(terminals, ("terminal", "x", "y"), "terminals")
    need_columns(customers, ("customer", "joined", "home_x", "home_y"), "customers")
    for name, master in (("terminal", terminals), ("customer", customers)):
        if (twice := master[name].duplicated()).any():
            raise ValueError(f"{name} {master.loc[twice, name].iloc[0]} has two master records.")


def _checked_delay(delay: float) -> int:
    if not 0 <= delay < np.inf:
        raise ValueError(f"a label delay of {delay} days would look ahead: it is zero or more.")
    return round(delay * DAY)


# A table at once -------------------------------------------------------------------------------


def batch(
    transactions: pd.DataFrame,
    terminals: pd.DataFrame,
    customers: pd.DataFrame,
    evidence: pd.DataFrame,
    *,
    delay: float = LABEL_DELAY,
) -> pd.DataFrame:
    """Return the features of all transactions of a table, each as of its own arrival.

    Parameters
    ----------
    transactions : DataFrame, n rows
        The columns :data:`ASKED`, in order of arrival; ``outcome`` where it is known. It has to
        reach back to the beginning: what is not in it did not happen.
    terminals, customers : DataFrame
        Master data: ``terminal``, ``x``, ``y``; ``customer``, ``joined``, ``home_x``, ``home_y``
        (km).
    evidence : DataFrame
        ``transaction``, ``known``: see :func:`evidence`.
    delay : float
        Label delay of the terminal's risk, days.

    Returns
    -------
    DataFrame of float32, shape (n, features)
        Index ``transaction``, columns :data:`FEATURES`.

    Raises
    ------
    ValueError
        When columns are missing, rows are not in order of arrival or stand there twice, a customer
        or terminal has no master data, a name of a category is unknown, an amount is not finite,
        evidence is about other transactions or older than its transaction, or the delay is
        negative.
    """
    _master(terminals, customers)
    behind = _checked_delay(delay)
    rows = _rows(transactions)
    refused = np.zeros(len(transactions), bool)
    if "outcome" in transactions:
        refused = transactions["outcome"].isin(REFUSED).to_numpy()
    rows["counted"] = ~rows["retry"] & (rows["cents"] >= 0)
    rows["refused"] = refused & rows["counted"]
    known = _known_rows(rows, evidence)
    raw = {name: rows[name] for name in ("cents", "ms", "entry", "category", "device")}
    raw["online"] = rows["channel"] == _ONLINE
    at_home = _places(customers, transactions["customer"], "customer")
    at = _places(terminals, transactions["terminal"], "terminal")
    raw |= _customer_windows(rows, known)
    raw["tenure"] = rows["ms"] - _moments(customers["joined"])[at_home]
    raw |= _familiar(rows)
    raw |= _distances(rows, raw["online"], terminals, at, customers, at_home)
    raw |= _terminal_windows(rows, known, behind)
    raw |= _machine_windows(rows, known)
    table = np.empty((len(FEATURES), len(transactions)), np.float32)
    for place, (_, values) in enumerate(_finish(raw, np.where, np.log1p, np.hypot)):
        table[place] = values
    index = pd.Index(rows["transaction"], name="transaction")
    return pd.DataFrame(table.T, index=index, columns=list(FEATURES), copy=False)


def _known_rows(rows: dict[str, np.ndarray], evidence: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the row of each fraud that counts, and the first row that may know of it."""
    need_columns(evidence, ("transaction", "known"), "evidence")
    first = evidence.sort_values("known", kind="stable").drop_duplicates("transaction")
    row = pd.Index(rows["transaction"]).get_indexer(first["transaction"])
    if (row < 0).any():
        raise ValueError(
            f"evidence on {(row < 0).sum()} transactions that are not in the table, such as "
            f"{first['transaction'].to_numpy()[row < 0][0]}: give the whole history."
        )
    known = _moments(first["known"])
    if (known < rows["ms"][row]).any():
        early = rows["transaction"][row[known < rows["ms"][row]][0]]
        raise ValueError(f"transaction {early} was known as fraud before it arrived.")
    counts = rows["counted"][row]
    row, known = row[counts], known[counts]
    return {"row": row, "from": np.maximum(np.searchsorted(rows["ms"], known), row + 1)}


def _spans(groups: Groups, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return by row how many spans of sorted places, start included, cover it."""
    holds = start < end
    size = len(groups) + 1
    change = np.bincount(start[holds], minlength=size) - np.bincount(end[holds], minlength=size)
    return groups.rows(np.cumsum(change)[:-1])


def _frauds(
    groups: Groups, known: dict[str, np.ndarray], behind: int = 0, window: int | None = None
) -> np.ndarray:
    """Return by row the known frauds of its key: ever, or those of a window ``behind`` ms ago."""
    place = groups.inverse[known["row"]]
    group = groups.group[place]
    start = groups.place_of_row(group, known["from"])
    end = groups.last[place]
    if window is not None:
        from_ms = groups.times[place] + behind
        start = np.maximum(start, groups.place(from_ms, group=group))
        end = groups.place(from_ms + window, group=group)
    return _spans(groups, start, end)


def _customer_windows(
    rows: dict[str, np.ndarray], known: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    groups = Groups(rows["customer"], rows["ms"])
    counted, cents = rows["counted"], np.where(rows["counted"], rows["cents"], 0)
    raw = {}
    for name, days in (("1h", 1 / 24), ("24h", 1), ("7d", 7), ("30d", 30)):
        raw[f"count_{name}"] = groups.sums(counted, days)
        raw[f"cents_{name}"] = groups.sums(cents, days)
    raw["small_24h"] = groups.sums(counted & (rows["cents"] < _SMALL), 1)
    raw["customer_refused_24h"] = groups.sums(rows["refused"], 1)
    raw["customer_frauds"] = _frauds(groups, known)
    before = groups.before(counted)
    since = np.where(before >= 0, groups.times - groups.times[before], _MONTH)
    raw["since_last"] = groups.rows(since)
    return raw


def _familiar(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what this customer and the bank have seen before: card, terminal, device."""
    customer = pd.factorize(rows["customer"])[0]
    many = customer.max(initial=0) + 1
    raw = {"card_age": _age(rows["card"], rows)[0]}
    pair = pd.factorize(rows["terminal"])[0] * many + customer
    raw["terminal_new"] = ~_age(pair, rows)[1]
    pair = np.where(rows["device"] < 0, -1, pd.factorize(rows["device"])[0] * many + customer)
    raw["device_age"], seen = _age(pair, rows)
    raw["device_new"] = (pair >= 0) & ~seen
    return raw


def _age(keys: np.ndarray, rows: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds since a purchase first had this key, and whether one had it."""
    groups = Groups(keys, rows["ms"])
    seen = groups.before(rows["counted"]) >= 0
    place = np.arange(len(groups))
    begins = np.where(rows["counted"][groups.order] & ~seen, place, 0)
    first = np.maximum.accumulate(begins)
    return groups.rows(np.where(seen, groups.times - groups.times[first], 0)), groups.rows(seen)


def _distances(
    rows: dict[str, np.ndarray],
    online: np.ndarray,
    terminals: pd.DataFrame,
    at: np.ndarray,
    customers: pd.DataFrame,
    at_home: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return where a purchase in person is, and where the last one was. Online: all zero."""
    here = np.flatnonzero(~online)
    groups = Groups(rows["customer"][here], rows["ms"][here])
    before = groups.rows(groups.before(rows["counted"][here]) + 1) - 1
    last = here[groups.order[np.maximum(before, 0)]] if len(here) else here
    been = before >= 0
    raw = {}
    for axis in ("x", "y"):
        place = terminals[axis].to_numpy(float)[at]
        if (lost := np.isnan(place[here])).any():
            raise ValueError(
                f"terminal {rows['terminal'][here[lost.argmax()]]} has no {axis}: a purchase in "
                "person needs a place."
            )
        raw[axis] = np.where(online, 0.0, place)
        raw[f"last_{axis}"] = raw[axis].copy()
        raw[f"last_{axis}"][here[been]] = place[last[been]]
        home = customers[f"home_{axis}"].to_numpy(float)[at_home]
        raw[f"home_{axis}"] = np.where(online, 0.0, home)
    raw["since_place"] = np.zeros(len(online), np.int64)
    raw["since_place"][here[been]] = (rows["ms"][here] - rows["ms"][last])[been]
    raw["country_changed"] = np.zeros(len(online), bool)
    raw["country_changed"][here] = been & (rows["country"][here] != rows["country"][last])
    return raw


def _terminal_windows(
    rows: dict[str, np.ndarray], known: dict[str, np.ndarray], behind: int
) -> dict[str, np.ndarray]:
    groups = Groups(rows["terminal"], rows["ms"])
    raw = {"terminal_frauds": _frauds(groups, known)}
    for name, window in _RISKS.items():
        days = window / DAY
        raw[f"terminal_count_{name}"] = groups.sums(rows["counted"], days)
        raw[f"delayed_count_{name}"] = groups.sums(rows["counted"], days, behind / DAY)
        raw[f"delayed_frauds_{name}"] = _frauds(groups, known, behind, window)
    return raw


def _machine_windows(
    rows: dict[str, np.ndarray], known: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return counts by device and address, computed on the rows that have one."""
    raw = {}

    def put(name: str, has: np.ndarray, values: np.ndarray) -> None:
        raw[name] = np.zeros(len(rows["ms"]), np.int64)
        raw[name][has] = values

    has = np.flatnonzero(rows["ip"] >= 0)
    groups = Groups(rows["ip"][has], rows["ms"][has])
    put("ip_customers_24h", has, _others(groups, rows, has, DAY))
    has = np.flatnonzero(rows["device"] >= 0)
    groups = Groups(rows["device"][has], rows["ms"][has])
    put("device_customers_24h", has, _others(groups, rows, has, DAY))
    put("device_customers_7d", has, _others(groups, rows, has, _WEEK))
    put("device_count_24h", has, groups.sums(rows["counted"][has], 1))
    put("device_refused_24h", has, groups.sums(rows["refused"][has], 1))
    ours = rows["device"][known["row"]] >= 0
    here = {
        "row": np.searchsorted(has, known["row"][ours]),
        "from": np.searchsorted(has, known["from"][ours]),
    }
    put("device_frauds", has, _frauds(groups, here))
    return raw


def _others(
    groups: Groups, rows: dict[str, np.ndarray], has: np.ndarray, window: int
) -> np.ndarray:
    """Return by row the other customers with the same key within a window.

    A customer is in the window when the latest use lies in it: each use covers the rows after it
    until the customer's next use takes over or the window has passed, whichever is first. These
    spans never overlap for one customer, so that counting them counts customers.
    """
    counted = rows["counted"][has]
    customer = pd.factorize(rows["customer"][has])[0]
    pairs = Groups(
        groups.rows(groups.group) * (customer.max(initial=0) + 1) + customer, rows["ms"][has]
    )
    after = pairs.after(counted)
    taken = np.full(len(has), len(has))
    taken[pairs.order] = np.where(
        after < len(has), pairs.order[np.minimum(after, len(has) - 1)], len(has)
    )
    ends = groups.place(groups.times + window)
    next_place = np.append(groups.inverse, len(has))[taken[groups.order]]
    ends = np.minimum(ends, next_place + 1)
    uses = np.flatnonzero(counted[groups.order])
    total = _spans(groups, uses + 1, ends[uses])
    before = pairs.before(counted)
    own = (before >= 0) & (pairs.times - pairs.times[before] < window)
    return total - pairs.rows(own)


# One event at a time ---------------------------------------------------------------------------


class _State:
    """A piece of state with the store that may change it."""

    __slots__ = ("owner",)

    def copy(self, owner: object) -> _State:
        twin = type(self)(owner)
        for name in self.__slots__:
            value = getattr(self, name)
            shared = not isinstance(value, (list, set, dict))
            setattr(twin, name, value if shared else value.copy())
        return twin


class _Customer(_State):
    """What the store keeps of a customer."""

    __slots__ = ("devices", "frauds", "last", "place", "refused", "small")
    __slots__ += ("terminals", "times", "total")

    def __init__(self, owner: object):
        self.owner = owner
        self.times: list[int] = []  # of purchases, 30 days back
        self.total = [0]  # cents before each of them, and after the last
        self.small: list[int] = []
        self.refused: list[int] = []
        self.last: int | None = None
        self.place: tuple[float, float, int, int] | None = None  # x, y, country, ms
        self.frauds = 0
        self.terminals: set[int] = set()
        self.devices: dict[int, int] = {}  # first use

    def trim(self, now: int) -> None:
        gone = bisect_right(self.times, now - _MONTH)
        del self.times[:gone], self.total[:gone]
        for times in (self.small, self.refused):
            del times[: bisect_right(times, now - DAY)]


class _Terminal(_State):
    """What the store keeps of a terminal: purchases and known frauds among them."""

    __slots__ = ("fraud_times", "frauds", "times")

    def __init__(self, owner: object):
        self.owner = owner
        self.times: list[int] = []
        self.fraud_times: list[int] = []
        self.frauds = 0

    def trim(self, oldest: int) -> None:
        for times in (self.times, self.fraud_times):
            del times[: bisect_right(times, oldest)]


class _Machine(_State):
    """What the store keeps of a device or an address."""

    __slots__ = ("frauds", "refused", "times", "users")

    def __init__(self, owner: object):
        self.owner = owner
        self.times: list[int] = []  # of purchases, a day back
        self.users: dict[int, int] = {}  # customer → latest use, the latest last
        self.refused: list[int] = []
        self.frauds = 0

    def use(self, customer: int, now: int, memory: int) -> None:
        users = self.users
        users.pop(customer, None)
        users[customer] = now
        while (oldest := next(iter(users))) != customer and users[oldest] <= now - memory:
            del users[oldest]

    def others(self, customer: int, now: int, window: int) -> int:
        count = 0
        for user, used in reversed(self.users.items()):
            if used <= now - window:
                break
            count += user != customer
        return count


def _since(times: list[int], edge: int) -> int:
    """Return how many times are later than an edge."""
    return len(times) - bisect_right(times, edge)


def _ident(value: Any) -> int:
    """Return an identifier, −1 where there is none."""
    if value is None or value is pd.NA or value != value:
        return -1
    if (number := int(value)) != value:
        raise ValueError(f"{value!r} is no whole number")
    return number


def _instant(value: Any, what: str) -> int:
    """Return a moment as whole milliseconds."""
    try:
        moment = pd.Timestamp(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} is {value!r}, which is no moment.") from error
    if moment is pd.NaT:
        raise ValueError(f"{what} is missing: an event needs its moment.")
    return moment.value // 1_000_000


def _check_outcome(outcome: str | None) -> None:
    if outcome is not None and outcome not in OUTCOMES:
        raise ValueError(f"{outcome!r} is no outcome: one of {', '.join(OUTCOMES)}, or None.")


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


class OnlineStore:
    """State from which the features of one event are computed, and kept up to date.

    Parameters
    ----------
    terminals, customers : DataFrame
        As for :func:`batch`.
    delay : float
        Label delay of the terminal's risk, days.

    Attributes
    ----------
    now : Timestamp or None
        The store's clock: arrival of the latest event observed.

    Notes
    -----
    The sequence of an event is ``features``, then ``observe``. The store takes events as they
    come: one whose ``received`` is older than the clock counts as received at the clock, which
    never runs back, and the terminal's own clock does not matter. :func:`batch` refuses such rows.
    """

    def __init__(
        self, terminals: pd.DataFrame, customers: pd.DataFrame, *, delay: float = LABEL_DELAY
    ):
        _master(terminals, customers)
        self._behind = _checked_delay(delay)
        columns = (terminals[name].tolist() for name in ("terminal", "x", "y"))
        self._sites = {number: (x, y) for number, x, y in zip(*columns, strict=True)}
        self._people: dict[int, tuple[int, float, float]] = {}
        self.enrol(customers)
        self._token = object()
        self._clock: int | None = None
        self._customers: dict[int, _Customer] = {}
        self._terminals: dict[int, _Terminal] = {}
        self._devices: dict[int, _Machine] = {}
        self._addresses: dict[int, _Machine] = {}
        self._cards: dict[int, int] = {}
        self._requests: set[int] = set()
        # Customer, terminal, device and ms of a purchase; None of a retry or refund.
        self._purchases: dict[Hashable, tuple[int, int, int, int] | None] = {}
        self._refused: set[Hashable] = set()
        self._frauds: set[Hashable] = set()
        self._pending: list[tuple[int, Hashable]] = []

    @property
    def now(self) -> pd.Timestamp | None:
        return None if self._clock is None else pd.Timestamp(self._clock, unit="ms")

    def __contains__(self, transaction: Hashable) -> bool:
        """Return whether a transaction was observed."""
        return transaction in self._purchases

    def enrol(self, customers: pd.DataFrame) -> None:
        """Take in master data of customers who are new, or who moved.

        Parameters
        ----------
        customers : DataFrame
            ``customer``, ``joined``, ``home_x``, ``home_y``.
        """
        need_columns(customers, ("customer", "joined", "home_x", "home_y"), "customers")
        rows = (customers["customer"].tolist(), _moments(customers["joined"]).tolist())
        rows += (customers["home_x"].tolist(), customers["home_y"].tolist())
        self._people = self._people | {c: tuple(row) for c, *row in zip(*rows, strict=True)}

    def features(self, event: Mapping[str, Any]) -> dict[str, float]:
        """Return the features of an event from what arrived and was learned before it.

        Parameters
        ----------
        event : mapping
            The fields :data:`ASKED`. ``device`` and ``ip`` may be None; ``received`` is a moment or
            its ISO form.

        Returns
        -------
        dict of str to float
            The columns :data:`FEATURES`, rounded to float32 as in :func:`batch`.

        Raises
        ------
        ValueError
            When a field is missing or not of its kind, or the customer or terminal is unknown.
        """
        e = self._read(event)
        now = e["ms"]
        self._catch_up(now)
        raw: dict[str, Any] = {
            name: e[name] for name in ("cents", "ms", "entry", "category", "device", "online")
        }
        customer, device = e["customer"], e["device"]
        joined, home_x, home_y = self._people[customer]
        raw["tenure"] = now - joined
        state = self._customers.get(customer) or _Customer(self._token)
        times, total = state.times, state.total
        for name, window in (("1h", _HOUR), ("24h", DAY), ("7d", _WEEK), ("30d", _MONTH)):
            edge = bisect_right(times, now - window)
            raw[f"count_{name}"] = len(times) - edge
            raw[f"cents_{name}"] = total[-1] - total[edge]
        raw["small_24h"] = _since(state.small, now - DAY)
        raw["customer_refused_24h"] = _since(state.refused, now - DAY)
        raw["customer_frauds"] = state.frauds
        raw["since_last"] = _MONTH if state.last is None else now - state.last
        raw["card_age"] = now - self._cards.get(e["card"], now)
        raw["terminal_new"] = e["terminal"] not in state.terminals
        raw["device_new"] = device >= 0 and device not in state.devices
        raw["device_age"] = now - state.devices.get(device, now)
        self._add_places(raw, e, state.place, home_x, home_y)
        self._add_terminal(raw, e["terminal"], now)
        machine = self._devices.get(device)
        raw["device_customers_24h"] = machine.others(customer, now, DAY) if machine else 0
        raw["device_customers_7d"] = machine.others(customer, now, _WEEK) if machine else 0
        raw["device_count_24h"] = _since(machine.times, now - DAY) if machine else 0
        raw["device_refused_24h"] = _since(machine.refused, now - DAY) if machine else 0
        raw["device_frauds"] = machine.frauds if machine else 0
        address = self._addresses.get(e["ip"])
        raw["ip_customers_24h"] = address.others(customer, now, DAY) if address else 0
        values = [value for _, value in _finish(raw, _choose, math.log1p, math.hypot)]
        return dict(zip(FEATURES, np.array(values, np.float32).tolist(), strict=True))

    def _add_places(
        self, raw: dict[str, Any], e: dict[str, Any], last: tuple | None, *home: float
    ) -> None:
        x = y = last_x = last_y = home_x = home_y = 0.0
        since, changed = 0, False
        if not e["online"]:
            x, y = last_x, last_y = self._sites[e["terminal"]]
            home_x, home_y = home
            if last is not None:
                last_x, last_y, country, when = last
                since, changed = e["ms"] - when, country != e["country"]
        raw |= {"x": x, "y": y, "last_x": last_x, "last_y": last_y}
        raw |= {"home_x": home_x, "home_y": home_y}
        raw |= {"since_place": since, "country_changed": changed}

    def _add_terminal(self, raw: dict[str, Any], terminal: int, now: int) -> None:
        state = self._terminals.get(terminal) or _Terminal(self._token)
        times, frauds = state.times, state.fraud_times
        upper = now - self._behind
        until = bisect_right(times, upper)
        known = bisect_right(frauds, upper)
        raw["terminal_frauds"] = state.frauds
        for name, window in _RISKS.items():
            raw[f"terminal_count_{name}"] = _since(times, now - window)
            raw[f"delayed_count_{name}"] = until - bisect_right(times, upper - window)
            raw[f"delayed_frauds_{name}"] = known - bisect_right(frauds, upper - window)

    def observe(self, event: Mapping[str, Any], outcome: str | None = None) -> None:
        """Count an event that has been decided.

        Parameters
        ----------
        event : mapping
            As in :meth:`features`.
        outcome : str, optional
            ``approved``, ``confirmed``, ``denied``, ``abandoned`` or ``declined``. None while it is
            not known: tell it later by :meth:`settle`. It is no evidence of fraud: :meth:`learn`.

        Raises
        ------
        ValueError
            As :meth:`features`; when there is no such outcome; when the transaction was observed
            before (a retry has a number of its own and the request of its first).
        """
        e = self._read(event)
        _check_outcome(outcome)
        number = event["transaction"]
        if number in self._purchases:
            raise ValueError(f"transaction {number} was observed before: each counts once.")
        self._count(number, event["request"], e, outcome in REFUSED)

    def settle(self, transaction: Hashable, outcome: str) -> None:
        """Tell the outcome of an event that was observed without one.

        Raises
        ------
        ValueError
            When the transaction was never observed, or there is no such outcome.
        """
        _check_outcome(outcome)
        purchase = self._purchase(transaction)
        if purchase is None or outcome not in REFUSED or transaction in self._refused:
            return
        self._refused.add(transaction)
        customer, _, device, ms = purchase
        insort(self._own(self._customers, customer, _Customer).refused, ms)
        if device >= 0:
            insort(self._own(self._devices, device, _Machine).refused, ms)

    def learn(self, transaction: Hashable, known: Any) -> None:
        """Take in evidence that a transaction was fraud.

        Parameters
        ----------
        transaction : hashable
            One that was observed. Evidence on a retry or refund counts nowhere, and a second time
            the same changes nothing.
        known : moment
            Events received from then on see it; what lies in the future waits until then.

        Raises
        ------
        ValueError
            When the transaction was never observed, or ``known`` is no moment.
        """
        if self._purchase(transaction) is None or transaction in self._frauds:
            return
        moment = _instant(known, "known")
        if self._clock is not None and moment <= self._clock:
            self._mark(transaction)
        else:
            heappush(self._pending, (moment, transaction))

    def warm(self, transactions: pd.DataFrame, evidence: pd.DataFrame) -> None:
        """Load history in bulk: the same state as event by event, after fewer checks by row.

        Parameters
        ----------
        transactions : DataFrame
            As for :func:`batch`; what arrived after the store's clock, such as a day more.
        evidence : DataFrame
            ``transaction``, ``known``: on these transactions or earlier ones.

        Raises
        ------
        ValueError
            As :func:`batch`, and when a transaction was observed before.
        """
        need_columns(evidence, ("transaction", "known"), "evidence")
        rows = _rows(transactions)
        numbers = rows["transaction"].tolist()
        if again := next((n for n in numbers if n in self._purchases), None):
            raise ValueError(f"transaction {again} was observed before: each counts once.")
        for name, known in (("customer", self._people), ("terminal", self._sites)):
            if unknown := set(np.unique(rows[name]).tolist()) - known.keys():
                raise ValueError(f"{len(unknown)} {name}s are unknown, such as {min(unknown)}.")
        refused = [False] * len(numbers)
        if "outcome" in transactions:
            refused = transactions["outcome"].isin(REFUSED).tolist()
        rows["online"] = rows["channel"] == _ONLINE
        if self._clock is not None:
            rows["ms"] = np.maximum(rows["ms"], self._clock)
        names = ("ms", "customer", "card", "terminal", "device", "ip", "cents", "online", "country")
        columns = [rows[name].tolist() for name in names]
        requests = rows["request"].tolist()
        for number, request, no, *values in zip(numbers, requests, refused, *columns, strict=True):
            self._count(number, request, dict(zip(names, values, strict=True)), no)
        known = evidence.sort_values("known", kind="stable")
        for number, moment in zip(known["transaction"].tolist(), known["known"], strict=True):
            self.learn(number, moment)

    def fork(self) -> OnlineStore:
        """Return an independent copy. States are shared until one of the two changes them."""
        twin = copy.copy(self)
        self._token, twin._token = object(), object()
        for name in ("_customers", "_terminals", "_devices", "_addresses", "_cards", "_requests"):
            setattr(twin, name, getattr(self, name).copy())
        for name in ("_purchases", "_refused", "_frauds", "_pending"):
            setattr(twin, name, getattr(self, name).copy())
        return twin

    def _read(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return an event as whole numbers, after checks."""
        if missing := [name for name in ASKED if name not in event]:
            raise ValueError(f"the event lacks {missing}.")
        codes = {}
        for name, code in _CODES.items():
            value = event[name]
            if not isinstance(value, str) or value not in code:
                raise ValueError(f"{value!r} is no {name}: one of {', '.join(code)}.")
            codes[name] = code[value]
        try:
            numbers = {name: _ident(event[name]) for name in ("customer", "card", "terminal")}
            numbers |= {name: _ident(event[name]) for name in ("device", "ip")}
            amount = float(event["amount"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"an identifier or the amount is no number: {error}") from error
        if not math.isfinite(amount):
            raise ValueError(f"the amount is {amount}: it has to be finite.")
        if numbers["customer"] not in self._people:
            raise ValueError(f"customer {event['customer']} is unknown: enrol the customer first.")
        if (site := self._sites.get(numbers["terminal"])) is None:
            raise ValueError(f"terminal {event['terminal']} is unknown.")
        online = codes["channel"] == _ONLINE
        if not online and site[0] != site[0]:
            raise ValueError(f"terminal {event['terminal']} has no place, but is used in person.")
        ms = _instant(event["received"], "received")
        if self._clock is not None and ms < self._clock:
            ms = self._clock
        return {"ms": ms, "cents": round(amount * 100), "online": online} | codes | numbers

    def _own(self, states: dict[int, Any], key: int, kind: type) -> Any:
        """Return a state that this store may change."""
        state = states.get(key)
        if state is None:
            state = states[key] = kind(self._token)
        elif state.owner is not self._token:
            state = states[key] = state.copy(self._token)
        return state

    def _purchase(self, transaction: Hashable) -> tuple[int, int, int, int] | None:
        try:
            return self._purchases[transaction]
        except KeyError:
            raise ValueError(f"transaction {transaction} was never observed.") from None

    def _catch_up(self, now: int) -> None:
        """Let the evidence count that is known by now."""
        while self._pending and self._pending[0][0] <= now:
            self._mark(heappop(self._pending)[1])

    def _mark(self, transaction: Hashable) -> None:
        if transaction in self._frauds:
            return
        self._frauds.add(transaction)
        customer, terminal, device, ms = self._purchases[transaction]
        self._own(self._customers, customer, _Customer).frauds += 1
        state = self._own(self._terminals, terminal, _Terminal)
        state.frauds += 1
        insort(state.fraud_times, ms)
        if device >= 0:
            self._own(self._devices, device, _Machine).frauds += 1

    def _count(self, number: Hashable, request: Hashable, e: dict[str, Any], refused: bool) -> None:
        """Count an event: all that a purchase leaves behind."""
        now, customer, device = e["ms"], e["customer"], e["device"]
        self._catch_up(now)
        self._clock = now
        again = request in self._requests
        self._requests.add(request)
        if again or e["cents"] < 0:
            self._purchases[number] = None
            return
        self._purchases[number] = (customer, e["terminal"], device, now)
        self._cards.setdefault(e["card"], now)
        state = self._own(self._customers, customer, _Customer)
        state.times.append(now)
        state.total.append(state.total[-1] + e["cents"])
        state.last = now
        state.terminals.add(e["terminal"])
        if e["cents"] < _SMALL:
            state.small.append(now)
        if not e["online"]:
            state.place = (*self._sites[e["terminal"]], e["country"], now)
        if len(state.times) % 64 == 0:
            state.trim(now)
        place = self._own(self._terminals, e["terminal"], _Terminal)
        place.times.append(now)
        if len(place.times) % 64 == 0:
            place.trim(now - self._behind - _MONTH)
        if e["ip"] >= 0:
            self._own(self._addresses, e["ip"], _Machine).use(customer, now, DAY)
        if device >= 0:
            state.devices.setdefault(device, now)
            machine = self._own(self._devices, device, _Machine)
            machine.use(customer, now, _WEEK)
            machine.times.append(now)
            if len(machine.times) % 64 == 0:
                del machine.times[: bisect_right(machine.times, now - DAY)]
                del machine.refused[: bisect_right(machine.refused, now - DAY)]
        if refused:
            self._refused.add(number)
            state.refused.append(now)
            if device >= 0:
                machine.refused.append(now)


def replay(
    transactions: pd.DataFrame,
    terminals: pd.DataFrame,
    customers: pd.DataFrame,
    evidence: pd.DataFrame,
    n: int | None = None,
    *,
    delay: float = LABEL_DELAY,
) -> pd.DataFrame:
    """Return the features of a table's rows as a service would have computed them, one by one.

    Each event is put to an :class:`OnlineStore`, then observed with its outcome; evidence is
    learned between the events, when it became known.

    Parameters
    ----------
    transactions, terminals, customers, evidence, delay
        As for :func:`batch`.
    n : int, optional
        Only the first n events.

    Returns
    -------
    DataFrame of float32, shape (n, features)
        As from :func:`batch`.

    Raises
    ------
    ValueError
        As :func:`batch` and :meth:`OnlineStore.features`.
    """
    need_columns(evidence, ("transaction", "known"), "evidence")
    _known_rows(_rows(transactions) | {"counted": np.ones(len(transactions), bool)}, evidence)
    store = OnlineStore(terminals, customers, delay=delay)
    part = transactions.iloc[:n]
    seen = set(part["transaction"])
    news = [
        (known, number)
        for number, known in zip(evidence["transaction"], evidence["known"], strict=True)
        if number in seen
    ]
    waiting = sorted(news, reverse=True)
    rows = []
    for event in part.to_dict("records"):
        held = []
        while waiting and waiting[-1][0] <= event["received"]:
            known, number = waiting.pop()
            if number in store:
                store.learn(number, known)
            else:
                held.append((known, number))
        waiting += reversed(held)
        rows.append(store.features(event))
        outcome = event.get("outcome")
        store.observe(event, outcome if isinstance(outcome, str) else None)
    index = pd.Index(part["transaction"].to_numpy(np.int64), name="transaction")
    return pd.DataFrame(rows, index=index, columns=list(FEATURES)).astype(np.float32)


def mismatch(batch_frame: pd.DataFrame, online_frame: pd.DataFrame) -> pd.Series:
    """Return how many values differ between two ways to the same features, by feature.

    Parameters
    ----------
    batch_frame, online_frame : DataFrame
        The same rows and columns. Values differ when they are further apart than a millionth of
        their size, which finds a count that is off by one; two missing values do not differ.

    Returns
    -------
    Series of int

    Raises
    ------
    ValueError
        When rows or columns are not the same.
    """
    for name in ("index", "columns"):
        if not getattr(batch_frame, name).equals(getattr(online_frame, name)):
            raise ValueError(f"the two frames differ in their {name}: compare the same rows.")
    one, two = batch_frame.to_numpy(float), online_frame.to_numpy(float)
    equal = np.isclose(one, two, rtol=_TOLERANCE, atol=0, equal_nan=True)
    return pd.Series((~equal).sum(axis=0), index=batch_frame.columns, name="mismatches")


# A planted leak, and the Handbook ----------------------------------------------------------------


def leaky_risk(transactions: pd.DataFrame, labels: pd.DataFrame) -> pd.Series:
    """Return the terminal's fraud rate of the last 7 days as it must not be computed.

    This is the planted leak of the exercise: ``groupby("terminal").rolling("7D").mean()`` of the
    labels as they stand today. It looks like ``terminal_risk_7d`` and is wrong twice: a fraud of
    yesterday counts today, though its chargeback comes in weeks, and the window of pandas holds the
    current row, label and all. No service can compute it.

    Parameters
    ----------
    transactions : DataFrame
        ``transaction``, ``received``, ``terminal``, in order of arrival.
    labels : DataFrame
        ``transaction``, ``chargeback``.

    Returns
    -------
    Series of float32
        Index ``transaction``, name ``terminal_fraud_rate_7d``.

    Raises
    ------
    ValueError
        When a column is missing or rows are not in order of arrival.
    """
    need_columns(transactions, ("transaction", "received", "terminal"), "transactions")
    need_columns(labels, ("transaction", "chargeback"), "labels")
    charged = labels.loc[labels["chargeback"].astype(bool), "transaction"]
    fraud = transactions["transaction"].isin(charged).to_numpy()
    groups = Groups(_idents(transactions["terminal"]), _moments(transactions["received"]))
    count = groups.sums(np.ones(len(fraud), np.int64), 7, include_current=True)
    rate = groups.sums(fraud, 7, include_current=True) / count
    index = pd.Index(transactions["transaction"].to_numpy(), name="transaction")
    return pd.Series(rate.astype(np.float32), index=index, name="terminal_fraud_rate_7d")


def handbook(frame: pd.DataFrame, delay: float = 7) -> pd.DataFrame:
    """Return the 15 features of the Fraud Detection Handbook.

    Parameters
    ----------
    frame : DataFrame
        ``transaction``, ``time``, ``customer``, ``terminal``, ``amount``, ``is_fraud``
        (the Handbook's columns under our names: ``HANDBOOK_COLUMNS`` of the simulator), in order
        of ``time``.
    delay : float
        Days after which a label is known, whatever it is.

    Returns
    -------
    DataFrame of float32
        Index ``transaction``; ``amount``, ``weekend``, ``night`` (until 6:59), and over windows of
        1, 7 and 30 days ``customer_count``, ``customer_mean`` (the current transaction included),
        ``terminal_count`` and ``terminal_risk`` (behind the delay).

    Raises
    ------
    ValueError
        When a column is missing, rows are not in order of time, or the delay is not positive.

    References
    ----------
    Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for Credit Card
    Fraud Detection: Practical Handbook*, chapter 3, baseline feature transformation.
    """
    needed = ("transaction", "time", "customer", "terminal", "amount", "is_fraud")
    if missing := [name for name in needed if name not in frame]:
        raise ValueError(
            f"frame lacks the columns {missing}: rename the Handbook's by HANDBOOK_COLUMNS."
        )
    if not 0 < delay < np.inf:
        raise ValueError(
            f"a label delay of {delay} days: the Handbook's risk needs a positive one."
        )
    time, windows = pd.to_datetime(frame["time"]), (1, 7, 30)
    ms = time.to_numpy()
    ones, fraud = np.ones(len(frame), np.int64), frame["is_fraud"].to_numpy(np.int64)
    cents = np.rint(frame["amount"].to_numpy(float) * 100).astype(np.int64)
    customer, terminal = _idents(frame["customer"]), _idents(frame["terminal"])
    number = trailing(customer, ms, ones, windows, include_current=True)
    spent = trailing(customer, ms, cents, windows, include_current=True)
    count = trailing(terminal, ms, ones, windows, delay)
    frauds = trailing(terminal, ms, fraud, windows, delay)
    columns = {
        "amount": frame["amount"].to_numpy(float),
        "weekend": time.dt.dayofweek.to_numpy() >= 5,
        "night": time.dt.hour.to_numpy() <= 6,
    }
    for place, days in enumerate(windows):
        columns[f"customer_count_{days}d"] = number[:, place]
        columns[f"customer_mean_{days}d"] = spent[:, place] / (
            100 * np.maximum(number[:, place], 1)
        )
    for place, days in enumerate(windows):
        columns[f"terminal_count_{days}d"] = count[:, place]
        risk = frauds[:, place] / np.maximum(count[:, place], 1)
        columns[f"terminal_risk_{days}d"] = risk
    index = pd.Index(frame["transaction"].to_numpy(), name="transaction")
    return pd.DataFrame(columns, index=index).astype(np.float32)
