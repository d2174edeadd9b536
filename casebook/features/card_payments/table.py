"""The features of all transactions of a table at once, each as of its own arrival."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.columns import need_columns
from casebook.features.entities import ages, lives, marks, others, visible
from casebook.features.windows import DAY, Groups, milliseconds

from .definition import (
    _CODES,
    ASKED,
    FEATURES,
    LABEL_DELAY,
    MEMORY,
    MONTH,
    ONLINE,
    REFUSED,
    RISKS,
    SMALL,
    WEEK,
    _idents,
    finish,
    span,
)


def evidence(transactions: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return when each fraud became known to the bank.

    Parameters
    ----------
    transactions : DataFrame
        ``transaction``, ``received``, ``outcome``; ``outcome_known`` where outcomes came later.
    labels : DataFrame
        ``transaction``, ``chargeback``, ``known``, as ``World.labels``. What lies in the future
        may be in it: ``known`` says when it counts. Labels of other transactions are left out.

    Returns
    -------
    DataFrame
        ``transaction``, ``known``, in order of ``known``: a chargeback when it arrived, a denial
        when its outcome was known (by default, when the transaction was received). The first of
        the two where there are both.

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
    told = denied["received"]
    if "outcome_known" in denied:
        told = denied["outcome_known"].fillna(told)
    both = {
        "transaction": [charged["transaction"], denied["transaction"]],
        "known": [charged["known"], told],
    }
    known = pd.DataFrame(
        {
            "transaction": np.concatenate([c.to_numpy(np.int64) for c in both["transaction"]]),
            "known": np.concatenate([moments(c) for c in both["known"]]).astype("datetime64[ms]"),
        }
    )
    known = known.sort_values(["known", "transaction"], ignore_index=True)
    return known.drop_duplicates("transaction", ignore_index=True)


# What rows say ---------------------------------------------------------------------------------


def moments(series: pd.Series) -> np.ndarray:
    """Return moments as whole milliseconds; those with a time zone in UTC."""
    return milliseconds(pd.to_datetime(series, utc=True).dt.tz_convert(None).to_numpy())


def _code(series: pd.Series, name: str) -> np.ndarray:
    values = series.astype("category")
    codes = values.cat.categories.map(_CODES[name]).to_numpy(float, na_value=np.nan)
    found = np.append(codes, np.nan)[values.cat.codes]
    if (unknown := np.isnan(found)).any():
        value = series.iloc[int(unknown.argmax())]
        raise ValueError(f"{value!r} is no {name}: one of {', '.join(_CODES[name])}.")
    return found.astype(np.int64)


def read(transactions: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns of a table as whole numbers, after checks."""
    need_columns(transactions, ASKED, "transactions")
    number = transactions["transaction"].to_numpy(np.int64)
    ms = moments(transactions["received"])
    if (wrong := np.diff(ms) < 0).any():
        raise ValueError(
            f"row {int(wrong.argmax()) + 1} arrived before the row above it: give the rows in the "
            "order in which they were decided, sorted by received, not by the terminal's time."
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
    rows["refused"], rows["told"] = np.zeros(len(ms), bool), ms
    if "outcome" in transactions:
        rows["refused"] = transactions["outcome"].isin(REFUSED).to_numpy()
    if "outcome_known" in transactions:
        rows["told"] = moments(transactions["outcome_known"].fillna(transactions["received"]))
        if (early := rows["told"] < ms).any():
            raise ValueError(
                f"the outcome of transaction {number[early.argmax()]} was known before it arrived."
            )
    return rows


def check_master(terminals: pd.DataFrame, customers: pd.DataFrame) -> None:
    """Refuse master data that lack a column or say something twice."""
    need_columns(terminals, ("terminal", "x", "y"), "terminals")
    need_columns(customers, ("customer", "joined", "home_x", "home_y"), "customers")
    for name, master in (("terminal", terminals), ("customer", customers)):
        if (twice := master[name].duplicated()).any():
            raise ValueError(f"{name} {master.loc[twice, name].iloc[0]} has two master records.")


def check_evidence(evidence: pd.DataFrame, rows: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return each transaction's first evidence with its ``row``, after checks."""
    need_columns(evidence, ("transaction", "known"), "evidence")
    first = evidence.sort_values("known", kind="stable").drop_duplicates("transaction")
    row = pd.Index(rows["transaction"]).get_indexer(first["transaction"])
    if (row < 0).any():
        raise ValueError(
            f"evidence on {(row < 0).sum()} transactions that are not in the table, such as "
            f"{first['transaction'].to_numpy()[row < 0][0]}: give the whole history."
        )
    known = moments(first["known"])
    if (early := known < rows["ms"][row]).any():
        number = rows["transaction"][row[early][0]]
        raise ValueError(f"transaction {number} was known as fraud before it arrived.")
    return first.assign(row=row, ms=known)


# A table at once -------------------------------------------------------------------------------


class _Table:
    """The rows of a table with the keys and marks that all features share."""

    def __init__(self, rows: dict[str, np.ndarray], evidence: pd.DataFrame, memory: int):
        self.rows, self.ms, self.memory = rows, rows["ms"], memory
        requests = Groups(rows["request"], self.ms)
        before = requests.before(np.ones(len(self.ms), bool))
        again = (before >= 0) & (requests.times - requests.times[before] < memory)
        again[requests.order] = again.copy()
        self.counted = ~again & (rows["cents"] >= 0)
        first = check_evidence(evidence, rows)
        self.frauds = self._seen(first["row"].to_numpy(), first["ms"].to_numpy())
        refused = np.flatnonzero(rows["refused"])
        self.refusals = self._seen(refused, rows["told"][refused])

    def _seen(self, row: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of marks that count, and the first row that sees each."""
        counts = self.counted[row] & (known - self.ms[row] < self.memory)
        row, known = row[counts], known[counts]
        return row, visible(self.ms, row, known)

    def by(self, *names: str) -> Groups:
        """Return the rows by one key, or by the pairs of two; no key where one is missing."""
        keys = self.rows[names[0]]
        for name in names[1:]:
            codes = np.unique(self.rows[name], return_inverse=True)[1]
            pairs = np.unique(keys, return_inverse=True)[1] * (codes.max(initial=0) + 1) + codes
            keys = np.where((keys < 0) | (self.rows[name] < 0), -1, pairs)
        return Groups(lives(keys, self.ms, self.counted, self.memory), self.ms)


def batch(
    transactions: pd.DataFrame,
    terminals: pd.DataFrame,
    customers: pd.DataFrame,
    evidence: pd.DataFrame,
    *,
    delay: float = LABEL_DELAY,
    memory: float = MEMORY,
) -> pd.DataFrame:
    """Return the features of all transactions of a table, each as of its own arrival.

    Parameters
    ----------
    transactions : DataFrame, n rows
        The columns :data:`ASKED`, in the order in which they were decided; ``outcome`` where it is
        known, and ``outcome_known`` where that was later. It has to reach back to the beginning:
        what is not in it did not happen.
    terminals, customers : DataFrame
        Master data: ``terminal``, ``x``, ``y``; ``customer``, ``joined``, ``home_x``, ``home_y``
        (km).
    evidence : DataFrame
        ``transaction``, ``known``: see :func:`evidence`.
    delay : float
        Label delay of the terminal's risk, days.
    memory : float
        Days after which what nobody used is forgotten.

    Returns
    -------
    DataFrame of float32, shape (n, features)
        Index ``transaction``, columns :data:`FEATURES`.

    Raises
    ------
    ValueError
        When columns are missing, rows are not in order of arrival or stand there twice, a customer
        has no master data, a name of a category is unknown, an amount is not finite, evidence is
        about other transactions or older than its transaction, or the delay is negative.
    """
    check_master(terminals, customers)
    behind = span(delay, "a label delay")
    rows = read(transactions)
    table = _Table(rows, evidence, span(memory, "a memory"))
    raw = {name: rows[name] for name in ("cents", "ms", "entry", "category", "device")}
    raw["online"] = rows["channel"] == ONLINE
    at_home = pd.Index(customers["customer"]).get_indexer(transactions["customer"])
    if (at_home < 0).any():
        unknown = transactions["customer"].to_numpy()[at_home < 0]
        raise ValueError(
            f"{len(np.unique(unknown))} customers have no master data, such as {unknown[0]}: "
            "give those of all transactions."
        )
    raw["tenure"] = rows["ms"] - moments(customers["joined"])[at_home]
    raw |= _customer(table) | _familiar(table) | _machines(table) | _terminal(table, behind)
    homes = customers[["home_x", "home_y"]].to_numpy(float)[at_home]
    raw |= _distances(table, raw["online"], terminals, homes)
    values = np.empty((len(FEATURES), len(transactions)), np.float32)
    for place, (_, column) in enumerate(finish(raw, np.where, np.log1p, np.hypot)):
        values[place] = column
    index = pd.Index(rows["transaction"], name="transaction")
    return pd.DataFrame(values.T, index=index, columns=list(FEATURES), copy=False)


def _customer(table: _Table) -> dict[str, np.ndarray]:
    groups, rows, counted = table.by("customer"), table.rows, table.counted
    cents, raw = np.where(counted, rows["cents"], 0), {}
    for name, days in (("1h", 1 / 24), ("24h", 1), ("7d", 7), ("30d", 30)):
        raw[f"count_{name}"] = groups.sums(counted, days)
        raw[f"cents_{name}"] = groups.sums(cents, days)
    raw["small_24h"] = groups.sums(counted & (rows["cents"] < SMALL), 1)
    raw["customer_refused_24h"] = marks(groups, *table.refusals, window=DAY)
    raw["customer_frauds"] = marks(groups, *table.frauds)
    before = groups.before(counted)
    since = np.where(before >= 0, groups.times - groups.times[before], MONTH)
    raw["since_last"] = groups.rows(since)
    return raw


def _familiar(table: _Table) -> dict[str, np.ndarray]:
    """Return what this customer and the bank have seen before: card, terminal, device."""
    raw = {"card_age": ages(table.by("card"), table.counted)[0]}
    raw["terminal_new"] = ~ages(table.by("terminal", "customer"), table.counted)[1]
    raw["device_age"], seen = ages(table.by("device", "customer"), table.counted)
    raw["device_new"] = (table.rows["device"] >= 0) & ~seen
    return raw


def _distances(
    table: _Table, online: np.ndarray, terminals: pd.DataFrame, homes: np.ndarray
) -> dict[str, np.ndarray]:
    """Return where a purchase in person is, and where the last one was. Without a place: zero."""
    rows, n = table.rows, len(online)
    sites = np.vstack([terminals[["x", "y"]].to_numpy(float), [np.nan, np.nan]])
    place = sites[pd.Index(terminals["terminal"]).get_indexer(rows["terminal"])]
    here = np.flatnonzero(~online & np.isfinite(place).all(axis=1))
    people = table.by("customer")
    groups = Groups(people.group[people.inverse][here], table.ms[here])
    before = groups.rows(groups.before(table.counted[here]) + 1) - 1
    last = here[groups.order[np.maximum(before, 0)]] if len(here) else here
    been = before >= 0
    raw = {}
    for axis, name in enumerate("xy"):
        for what in (name, f"last_{name}", f"home_{name}"):
            raw[what] = np.zeros(n)
        raw[name][here] = raw[f"last_{name}"][here] = place[here, axis]
        raw[f"last_{name}"][here[been]] = place[last[been], axis]
        raw[f"home_{name}"][here] = homes[here, axis]
    raw["since_place"] = np.zeros(n, np.int64)
    raw["since_place"][here[been]] = (table.ms[here] - table.ms[last])[been]
    raw["country_changed"] = np.zeros(n, bool)
    raw["country_changed"][here] = been & (rows["country"][here] != rows["country"][last])
    return raw


def _terminal(table: _Table, behind: int) -> dict[str, np.ndarray]:
    groups = table.by("terminal")
    raw = {"terminal_frauds": marks(groups, *table.frauds)}
    for name, window in RISKS.items():
        days = window / DAY
        raw[f"terminal_count_{name}"] = groups.sums(table.counted, days)
        raw[f"delayed_count_{name}"] = groups.sums(table.counted, days, behind / DAY)
        raw[f"delayed_frauds_{name}"] = marks(groups, *table.frauds, behind, window)
    return raw


def _machines(table: _Table) -> dict[str, np.ndarray]:
    """Return counts by device and address; 0 for rows that have none."""
    device, address, customer = table.by("device"), table.by("ip"), table.rows["customer"]
    return {
        "ip_customers_24h": others(address, customer, table.counted, DAY),
        "device_customers_24h": others(device, customer, table.counted, DAY),
        "device_customers_7d": others(device, customer, table.counted, WEEK),
        "device_count_24h": device.sums(table.counted, 1),
        "device_refused_24h": marks(device, *table.refusals, window=DAY),
        "device_frauds": marks(device, *table.frauds),
    }
