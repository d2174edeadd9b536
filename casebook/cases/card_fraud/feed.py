"""The bank's table before anyone learns from it: an audit finds faults, a contract refuses rows.

The audit reads the table alone and says which rows have which fault; the contract refuses rows
that cannot be right, with a reason and what to do.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.card_fraud.world import TIERS
from casebook.data.contracts import ContractBroken, enforce, summary
from casebook.features.card_payments.words import CHANNELS, ENTRIES

if TYPE_CHECKING:
    import pandera.pandas as pa

#: An uploading terminal is late from so many minutes on; a clock is wrong from so many on.
LATE_MINUTES, SKEW_MINUTES = 2.0, 5.0
#: Categories whose purchases can be sent back.
REFUNDABLE = ("clothes", "electronics", "marketplace")
#: Largest amount of a card payment here (euro).
LARGEST = 50_000.0
#: What to do about a broken rule, by the name of its check.
REMEDY = {
    "column": "ask the sender which version of the file this is",
    "type": "convert it where it is read, and refuse what does not convert",
    "empty": "send the row again with its value; nothing is filled in here",
    "number": "send the row again with its amount; nothing is filled in here",
    "largest": "check the unit: cents are not euro",
    "refund": "only purchases in clothes, electronics and marketplaces are refunded",
    "twice": "number the rows anew in order of arrival",
    "order": "sort by arrival: a feature of the past reads the rows in this order",
    "clock": "set the clock of the terminal; decide by the time of arrival meanwhile",
    "channel": "an online payment has no chip to read: ask the acquirer",
    "tier": "a tier is one of " + ", ".join(TIERS),
}


def audit(transactions: pd.DataFrame) -> pd.DataFrame:
    """Return the faults that the table shows of itself.

    Parameters
    ----------
    transactions : DataFrame
        In order of arrival, as in :class:`~casebook.cases.card_fraud.world.World`.

    Returns
    -------
    DataFrame
        ``transaction``, ``fault``: retry (a request seen before), clock skew (the terminal's rows
        are off by a constant of more than five minutes), out of order (arrived more than two
        minutes after its time, beyond the skew), missing device (online without one), refund
        (negative amount), filled later (a case code).

    Notes
    -----
    A terminal's skew is the 80th percentile of time minus arrival: rows that an offline terminal
    uploads late can be half of its rows, but not four fifths. A terminal with few rows may be
    judged wrongly, in both directions.
    """
    seen = transactions
    ahead = (seen["time"] - seen["received"]) / pd.Timedelta(minutes=1)
    skew = ahead.groupby(seen["terminal"]).transform(lambda minutes: minutes.quantile(0.8))
    wrong_clock = skew.abs() > SKEW_MINUTES
    late = (ahead - skew.where(wrong_clock, 0)) < -LATE_MINUTES
    retry = seen["request"].duplicated()
    found = {
        "retry": retry,
        "out of order": late & ~retry,
        "clock skew": wrong_clock,
        "missing device": (seen["channel"] == "online") & seen["device"].isna(),
        "refund": seen["amount"] < 0,
        "filled later": seen["case_code"] > 0,
    }
    parts = [
        pd.DataFrame({"transaction": seen.loc[rows, "transaction"], "fault": fault})
        for fault, rows in found.items()
    ]
    return pd.concat(parts).sort_values(["transaction", "fault"], ignore_index=True)


def contract() -> pa.DataFrameSchema:
    """Return the contract of a table of payments as a pandera schema.

    Returns
    -------
    pandera.pandas.DataFrameSchema
        Its checks are named as in ``REMEDY``. Columns that it does not name are let through, but
        ``case_code`` is known only afterwards and never a feature.
    """
    import pandera.pandas as pa

    def rule(name: str, what: str, holds) -> pa.Check:
        return pa.Check(holds, name=name, error=what, ignore_na=False)

    def refundable(rows: pd.DataFrame) -> pd.Series:
        return ~(rows["amount"] < 0) | rows["category"].isin(REFUNDABLE)

    def readable(rows: pd.DataFrame) -> pd.Series:
        online = rows["channel"] == "online"
        known = rows["channel"].isin(CHANNELS) & rows["entry"].isin(ENTRIES)
        return known & (online == rows["entry"].isin(["typed", "stored"]))

    def near(rows: pd.DataFrame) -> pd.Series:
        return (rows["received"] - rows["time"]).abs() <= pd.Timedelta(days=1)

    amount = [
        rule("number", "amount is no number", lambda a: np.isfinite(a)),
        rule("largest", f"amount beyond {LARGEST:,.0f} euro", lambda a: ~(a.abs() > LARGEST)),
    ]
    order = rule("order", "arrived before a row above it, or after one below", _in_order)
    return pa.DataFrameSchema(
        {
            "transaction": pa.Column("int64", rule("twice", "number stands twice", _once)),
            "request": pa.Column("int64"),
            "time": pa.Column(),
            "received": pa.Column(None, order),
            "customer": pa.Column(),
            "terminal": pa.Column(),
            "amount": pa.Column(float, amount, nullable=True),
            "channel": pa.Column(),
            "entry": pa.Column(),
            "category": pa.Column(),
        },
        checks=[
            rule("refund", "negative amount where nothing is refunded", refundable),
            rule("channel", "channel and entry do not go together", readable),
            rule("clock", "time and arrival differ by more than a day", near),
        ],
        name="payments",
    )


def _once(numbers: pd.Series) -> pd.Series:
    return ~numbers.duplicated()


def _in_order(received: pd.Series) -> pd.Series:
    """Say which rows to keep so that none steps back: as many as can be (patience sorting)."""
    tails: list[int] = []  # the smallest end of a sequence of each length, and its row
    rows: list[int] = []
    before: list[int] = []
    for row, moment in enumerate(received.ffill().astype("int64").tolist()):
        length = bisect_right(tails, moment)
        before.append(rows[length - 1] if length else -1)
        tails[length : length + 1], rows[length : length + 1] = [moment], [row]
    kept, row = np.zeros(len(received), bool), rows[-1] if rows else -1
    while row >= 0:
        kept[row], row = True, before[row]
    return pd.Series(kept, received.index)


def check_contract(transactions: pd.DataFrame) -> pd.DataFrame:
    """Refuse payments that cannot be right.

    Parameters
    ----------
    transactions : DataFrame
        In order of arrival.

    Returns
    -------
    DataFrame
        The same rows, when all keep the contract.

    Raises
    ------
    ContractBroken
        With all broken rules and all rows that break one.
    """
    enforce(contract(), transactions, _lines, ContractBroken)
    return transactions


def _lines(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
    return [summary(what, rows, ("transaction", "amount"), REMEDY[rule])]
