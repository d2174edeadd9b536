"""What the features of card fraud are: one definition, for a table and for one event.

:func:`~casebook.features.card_payments.table.batch` computes the features of all transactions of
a table at once, :class:`~casebook.features.card_payments.online.OnlineStore` those of one event
from state that it keeps. Counts and sums are gathered in two ways, by sorted windows and by state;
what is made of them stands once, in :func:`finish`. Amounts are whole cents and times whole
milliseconds, so that the two agree to the last bit of a sum.

The rules, the same in both:

* Order is the order in which the bank decided: of the rows of a table, of the ``sequence`` of the
  audit. ``received`` never falls in it. The clock of the terminal (``time``) is used nowhere.
* A transaction sees those before it, and the evidence and outcomes with ``known`` up to its own
  ``received``, the same millisecond included; never itself, nor what became of itself.
* A window of ``w`` at ``t`` holds what arrived after ``t - w``: the edge itself has left it.
* A *purchase* is the first row of a ``request`` with an amount of zero or more, whatever came of
  it. Retries and refunds get features like any other row, at their own arrival, and leave no trace:
  nothing counts them, and what they used does not become familiar.
* That a purchase was refused (denied, abandoned or declined) is known from ``outcome_known`` on;
  where that is not said, from the next row on.
* The terminal's risk lies behind the label delay: of the purchases between ``delay + w`` and
  ``delay`` days ago, the share known to be fraud by now.
* What nobody used for :data:`MEMORY` days is forgotten, as if it had never been; so is a purchase
  of that age about which something is reported.
* A terminal without master data, or without a place, is nowhere: no distance, no last place.

There is no missing value: each definition in :data:`FEATURES` says what stands for "none".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from casebook.features.windows import DAY, trailing

from .words import CATEGORIES, CHANNELS, COUNTRIES, ENTRIES

#: Days after its last use at which a customer, card, device, address or terminal is forgotten.
MEMORY = 400.0
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

HOUR = DAY // 24
WEEK, MONTH = 7 * DAY, 30 * DAY
RISKS = {"1d": DAY, "7d": WEEK, "30d": MONTH}
SMALL = 500
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
ONLINE = _CODES["channel"]["online"]


def finish(
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
    hour = ms // HOUR % 24
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
    since = where(raw["since_last"] < MONTH, raw["since_last"], MONTH)
    yield "log_seconds_since_last", log1p(since / 1000)
    yield "customer_small_24h", raw["small_24h"]
    yield "card_age", raw["card_age"] / DAY
    yield "tenure", where(raw["tenure"] > 0, raw["tenure"], 0) / DAY
    yield "terminal_new", raw["terminal_new"]
    yield "country_changed", raw["country_changed"]
    km = hypot(raw["x"] - raw["last_x"], raw["y"] - raw["last_y"])
    yield "km_from_last", km
    yield "km_from_home", hypot(raw["x"] - raw["home_x"], raw["y"] - raw["home_y"])
    hours = raw["since_place"] / HOUR
    yield "speed", km / where(hours > 0.1, hours, 0.1)
    unsent = (raw["online"] > 0) | (raw["entry"] == _WALLET)
    yield "device_missing", unsent & (raw["device"] < 0)
    for name in ("device_new", "device_age", "device_customers_24h", "device_customers_7d"):
        yield name, raw[name] / DAY if name == "device_age" else raw[name]
    yield "device_count_24h", raw["device_count_24h"]
    yield "ip_customers_24h", raw["ip_customers_24h"]
    for window in RISKS:
        yield f"terminal_count_{window}", raw[f"terminal_count_{window}"]
    for window in RISKS:
        count = raw[f"delayed_count_{window}"]
        risk = raw[f"delayed_frauds_{window}"] / where(count > 0, count, 1)
        yield f"terminal_risk_{window}", risk
    for name in ("terminal_frauds", "device_frauds", "customer_frauds"):
        yield name, raw[name]
    yield "customer_refused_24h", raw["customer_refused_24h"]
    yield "device_refused_24h", raw["device_refused_24h"]


def span(days: float, what: str) -> int:
    """Return days as whole milliseconds.

    Raises
    ------
    ValueError
        When they are negative or infinite.
    """
    if not 0 <= days < float("inf"):
        raise ValueError(f"{what} of {days} days would look ahead: it is zero or more.")
    return round(days * DAY)


# The Handbook ----------------------------------------------------------------------------------


def _idents(series: pd.Series) -> np.ndarray:
    """Return identifiers, −1 where there is none."""
    return series.fillna(-1).to_numpy(np.int64)


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
