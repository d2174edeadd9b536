"""The bank, day by day: attempts come in, the policy answers, customers and attackers react."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from . import constants as k
from .attacks import Attacks
from .people import CARD, NOT_SENT, Columns, People, Terminals, ident, make_people, purchases

#: What every transaction says when it asks to be decided, and what the decision adds.
ASKED = ("transaction", "request", "time", "received", "customer", "card", "terminal")
ASKED += ("category", "channel", "entry", "amount", "country", "device", "ip")
DECIDED = ("holdback", "advised", "tier", "outcome")

_DTYPES = {
    "category": pd.CategoricalDtype(k.CATEGORIES),
    "channel": pd.CategoricalDtype(k.CHANNELS),
    "entry": pd.CategoricalDtype(k.ENTRIES),
    "country": pd.CategoricalDtype(k.COUNTRIES),
    "advised": pd.CategoricalDtype(k.TIERS),
    "tier": pd.CategoricalDtype(k.TIERS),
    "outcome": pd.CategoricalDtype(k.OUTCOMES),
    "scenario": pd.CategoricalDtype(k.SCENARIOS),
    "push": pd.CategoricalDtype(k.OUTCOMES),
    "call": pd.CategoricalDtype(k.OUTCOMES),
    "segment": pd.CategoricalDtype(k.SEGMENTS),
}
#: Columns of the log and their types.
_LOG = {
    "time": float,
    "received": float,
    "request": np.int64,
    "customer": np.int32,
    "renewals": np.int16,
    "terminal": np.int32,
    "line": np.int8,
    "entry": np.int8,
    "amount": float,
    "device": np.int64,
    "ip": np.int64,
    "status": np.int8,
    "retry": bool,
    "attack": np.int32,
    "attempt": np.int16,
    "push": np.int8,
    "call": np.int8,
    "delay": np.float32,
    "react": np.float32,
    "rest": np.float32,
    "hold": np.float32,
    "advised": np.int8,
    "tier": np.int8,
    "outcome": np.int8,
    "holdback": bool,
}


@dataclass(frozen=True)
class World:
    """A simulated world. What the bank sees stands first, the truth apart.

    Attributes
    ----------
    transactions : DataFrame
        The bank's table as it stands on the last day, in order of arrival. When it asked to be
        decided a transaction had: ``transaction`` (number), ``request`` (of the payment: the same
        in a retry), ``time`` (clock of the terminal), ``received`` (arrival at the bank),
        ``customer``, ``card``, ``terminal``, ``category``, ``channel``, ``entry``, ``amount``
        (euro, negative: refund), ``country`` (of the terminal), ``device`` and ``ip``
        (identifiers, empty where there is none or none was sent). The decision added
        ``holdback`` (let through whatever the policy said), ``advised`` (the policy's tier),
        ``tier`` (what was done), ``outcome`` (approved, confirmed: it went through; denied,
        abandoned, declined: it did not). Later came ``case_code``.
    labels : DataFrame
        One row for each transaction that went through: ``transaction``, ``chargeback``,
        ``known`` (when the label is final: the chargeback arrives, or the time to dispute has
        passed without any). Read it through :func:`visible_labels`.
    customers : DataFrame
        ``customer``, ``segment``, ``joined`` (day), ``home_x``, ``home_y`` (km).
    terminals : DataFrame
        ``terminal``, ``category``, ``channel``, ``country``, ``x``, ``y`` (km; online: empty).
    departures : DataFrame
        ``customer``, ``time``: accounts that were closed.
    complaints : DataFrame
        ``customer``, ``time``: complaints about being asked or declined. They do not say which
        transaction it was.
    truth : DataFrame
        One row for each transaction, in the same order: ``transaction``, ``is_fraud``,
        ``scenario`` (friendly: a genuine one whose owner would dispute it), ``attack``,
        ``attacker``, ``ring`` (−1: none), ``true_time``, ``push`` and ``call`` (the outcome a
        confirmation would have), ``delay`` (days until the chargeback that would come if it went
        through, empty: none would).
    truth_customers : DataFrame
        ``customer``, ``household``, ``night_worker``, ``disputer``, ``abandons_push``,
        ``abandons_call`` (probabilities), ``left`` ("", "friction", "own reasons").
    truth_terminals : DataFrame
        ``terminal``, ``start``, ``end`` of its compromise.
    faults : DataFrame
        ``transaction``, ``fault``: where faults stand (retry, out of order, clock skew, missing
        device, refund, filled later).
    start, end : Timestamp
        The first midnight and the one after the last day.
    constants : Constants
        With which it was simulated.
    """

    transactions: pd.DataFrame
    labels: pd.DataFrame
    customers: pd.DataFrame
    terminals: pd.DataFrame
    departures: pd.DataFrame
    complaints: pd.DataFrame
    truth: pd.DataFrame
    truth_customers: pd.DataFrame
    truth_terminals: pd.DataFrame
    faults: pd.DataFrame
    start: pd.Timestamp
    end: pd.Timestamp
    constants: k.Constants = field(default_factory=k.Constants)


def _moment(days: np.ndarray | float) -> np.ndarray:
    """Return dates of days since the start, in milliseconds."""
    return k.START + np.rint(np.asarray(days, float) * 86_400_000).astype("timedelta64[ms]")


def _days(moment: pd.Timestamp) -> float:
    """Return the days since the start."""
    return (pd.Timestamp(moment) - pd.Timestamp(k.START)) / pd.Timedelta(days=1)


def _or_none(values: np.ndarray) -> pd.arrays.IntegerArray:
    """Return identifiers with −1 as a missing value."""
    return pd.arrays.IntegerArray(values, values < 0)


class _Log:
    """Columns that grow at the end."""

    def __init__(self, capacity: int):
        self.size = 0
        self._columns = {name: np.empty(capacity, dtype) for name, dtype in _LOG.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name][: self.size]

    def append(self, rows: Columns) -> None:
        end = self.size + len(rows["time"])
        for name, column in self._columns.items():
            if end > len(column):
                self._columns[name] = column = np.resize(column, int(1.3 * end))
            column[self.size : end] = rows[name]
        self.size = end


@dataclass
class History:
    """What the bank knows when a batch begins. Nothing in it comes from later.

    Attributes
    ----------
    now : Timestamp
        When the batch begins; only what arrived before is in the history.
    customers, terminals : DataFrame
        As in :class:`World`; customers who have not joined yet are not among them.
    """

    now: pd.Timestamp
    terminals: pd.DataFrame
    _customers: pd.DataFrame
    _bank: _Bank

    @property
    def customers(self) -> pd.DataFrame:
        """Return the customers who have joined by now."""
        return self._customers[self._customers["joined"] <= self.now].copy()

    def transactions(self, days: float | None = None) -> pd.DataFrame:
        """Return what arrived before now, with the decisions and their outcomes.

        Parameters
        ----------
        days : float, optional
            Only what arrived in so many days before now.
        """
        first = 0
        if days is not None:
            first = int(np.searchsorted(self._bank.log["received"], _days(self.now) - days))
        return self._bank.frame(slice(first, self._bank.log.size), decided=True)

    def labels(self, wait: float = k.DISPUTE_DAYS) -> pd.DataFrame:
        """Return the labels known now, as :func:`visible_labels` does."""
        log = self._bank.log
        return _labels_at(*_final(log), log["received"], _days(self.now), wait)


#: A policy: a batch, in order of arrival, and the history → a tier for each row.
Policy = Callable[[pd.DataFrame, History], Iterable[str]]


def _final(log: _Log) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return number, chargeback and day of the final label of all that went through, once."""
    through = np.flatnonzero((log["outcome"] <= k.CONFIRMED) & ~log["retry"])
    delay = log["delay"][through].astype(float)
    chargeback = ~np.isnan(delay)
    known = log["received"][through] + np.where(chargeback, delay, k.DISPUTE_DAYS)
    return through, chargeback, known


def _labels_at(number, chargeback, known, received, at: float, wait: float) -> pd.DataFrame:
    """Return the labels of a moment (in days): chargebacks by then, and what is old without."""
    if wait < 0:
        raise ValueError(f"wait is {wait} days: give 0 or more")
    told = chargeback & (known <= at)
    waited = ~told & (received[number] + min(wait, k.DISPUTE_DAYS) <= at)
    seen = told | waited
    return pd.DataFrame({"transaction": number[seen], "chargeback": told[seen]})


class _Bank:
    """The state of the simulation: the log, the cards, the customers' patience."""

    def __init__(self, people: People, terminals: Terminals, attacks: Attacks, capacity: int):
        self.people, self.terminals, self.attacks = people, terminals, attacks
        n = len(people.town)
        self.log = _Log(capacity)
        self.renewals = np.zeros(n, np.int16)
        self.aside_until = np.zeros(n)
        self.left_at = people.leaves.copy()
        self.friction = np.zeros(n, bool)
        #: Chargebacks under way: day, customer, card.
        self.pending = (np.empty(0), np.empty(0, int), np.empty(0, int))
        self.last = 0.0

    def frame(self, rows: slice, *, decided: bool) -> pd.DataFrame:
        """Return rows of the log as the bank sees them."""
        log = {name: self.log[name][rows] for name in _LOG}
        return self.seen(log, np.arange(self.log.size)[rows], decided=decided)

    def seen(self, rows: Columns, number: np.ndarray, *, decided: bool) -> pd.DataFrame:
        """Return columns as the bank sees them."""
        terminal, line = rows["terminal"], rows["line"]
        codes = {
            "category": k.LINE_CATEGORY[line],
            "channel": k.LINE_CHANNEL[line],
            "entry": rows["entry"],
            "country": self.terminals.country[terminal],
        }
        if decided:
            codes |= {name: rows[name] for name in ("advised", "tier", "outcome")}
        columns = {
            "transaction": number,
            "request": rows["request"],
            "time": _moment(rows["time"] + self.terminals.skew[terminal] / 24),
            "received": _moment(rows["received"]),
            "customer": rows["customer"],
            "card": ident(CARD, self.people.seed, rows["customer"], rows["renewals"]),
            "terminal": terminal,
            "amount": rows["amount"],
            "device": _or_none(rows["device"]),
            "ip": _or_none(rows["ip"]),
        }
        columns |= {name: _named(name, values) for name, values in codes.items()}
        if decided:
            columns["holdback"] = rows["holdback"]
        return pd.DataFrame({name: columns[name] for name in ASKED + DECIDED * decided})

    # One batch ----------------------------------------------------------------------------

    def gather(self, genuine: Columns, attempts: list[Columns]) -> Columns:
        """Return the rows of a batch in order of arrival, each column of the log."""
        parts = []
        for part in (genuine, *attempts):
            who, time = part["customer"], part["time"]
            here = time < self.left_at[who]
            if part is genuine:
                here &= time >= self.aside_until[who]
            parts.append({name: values[here] for name, values in part.items()})
        rows: Columns = {}
        for name, dtype in _LOG.items():
            missing = np.nan if dtype is np.float32 else -1 if dtype is not bool else False
            values = [
                p[name] if name in p else np.full(len(p["time"]), missing, dtype) for p in parts
            ]
            rows[name] = np.concatenate(values).astype(dtype, copy=False)
        order = np.argsort(rows["received"], kind="stable")
        rows = {name: values[order] for name, values in rows.items()}
        rows["renewals"] = self.renewals[rows["customer"]]
        return rows

    def answer(self, rows: Columns, advised: np.ndarray, holdback: float) -> None:
        """Fill in what is done with each row and what comes of it."""
        rows["advised"] = advised
        rows["holdback"] = rows["hold"] < holdback
        rows["tier"] = np.where(rows["holdback"], k.ALLOW, advised).astype(np.int8)
        rows["outcome"] = np.choose(
            rows["tier"],
            [np.int8(k.APPROVED), rows["push"], rows["call"], np.int8(k.DECLINED)],
        )

    def react(self, rows: Columns, end: float) -> None:
        """Let customers, attackers and the bank's own service react to a batch."""
        first = ~rows["retry"]
        fraud, through = rows["attack"] >= 0, rows["outcome"] <= k.CONFIRMED
        asked = first & ~fraud & (rows["tier"] != k.ALLOW)
        self._customers_react({c: v[asked] for c, v in rows.items()}, end)
        due = first & through & ~np.isnan(rows["delay"])
        fresh = (
            rows["received"][due] + rows["delay"][due],
            rows["customer"][due].astype(int),
            rows["renewals"][due].astype(int),
        )
        day, who, card = (np.concatenate(pair) for pair in zip(self.pending, fresh, strict=True))
        now = day < end
        self.pending = (day[~now], who[~now], card[~now])
        current = now & (card == self.renewals[who])
        denied = first & (rows["outcome"] == k.DENIED)
        report = self.attacks.report
        stolen = self.attacks.cards[(report >= self.last) & (report < end), 0]
        cancelled = np.unique(np.concatenate([who[current], rows["customer"][denied], stolen]))
        self.last = end
        mine = fraud & first
        if mine.any():
            self.attacks.learn({c: v[mine] for c, v in rows.items()}, end)
        if len(cancelled):
            self.renewals[cancelled] += 1
            self.attacks.cancel(cancelled, end)

    def _customers_react(self, rows: Columns, end: float) -> None:
        """Let customers leave who were asked or could not pay; these may put the card aside."""
        who, outcome = rows["customer"], rows["outcome"]
        leaves = np.where(outcome == k.CONFIRMED, k.TIRES, k.LEAVES)
        leaves = np.where(outcome == k.DECLINED, k.LEAVES_DECLINED, leaves)
        leaves = leaves * np.array(k.LEAVES_SEGMENT)[self.people.segment[who]]
        gone = (rows["react"] < leaves) & (self.left_at[who] > end)
        self.left_at[who[gone]] = end
        self.friction[who[gone]] = True
        rests = (rows["react"] >= leaves) & (rows["react"] < leaves + k.ASIDE)
        rests &= outcome != k.CONFIRMED
        np.maximum.at(self.aside_until, who[rests], end + rows["rest"][rests])


def _named(name: str, codes: np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, dtype=_DTYPES[name], validate=False)


def _advice(policy: Policy, batch: pd.DataFrame, history: History) -> np.ndarray:
    """Return the codes of what a policy answers, or say what is wrong with the answer."""
    answer = policy(batch, history)
    tiers = np.asarray(answer, object).ravel() if answer is not None else np.empty(0, object)
    when = f"in the batch of {history.now:%Y-%m-%d %H:%M}"
    if len(tiers) != len(batch):
        raise ValueError(
            f"the policy gave {len(tiers)} tiers for {len(batch)} transactions {when}: "
            "return one for each row, in the order of the batch"
        )
    codes = pd.Index(k.TIERS).get_indexer(pd.Index(tiers, dtype=object))
    if (codes < 0).any():
        wrong = np.flatnonzero(codes < 0)
        raise ValueError(
            f"the policy answered {tiers[wrong[0]]!r} for {len(wrong)} of {len(batch)} "
            f"transactions {when}, first at row {wrong[0]}: a tier is one of {', '.join(k.TIERS)}"
        )
    return codes.astype(np.int8)


def simulate(
    policy: Policy | None = None,
    seed: int = k.SEED,
    n_customers: int = k.CUSTOMERS,
    days: int = k.DAYS,
    *,
    holdback: float = 0.0,
    batch_hours: int = 24,
    constants: k.Constants | None = None,
) -> World:
    """Simulate the world under a policy.

    Parameters
    ----------
    policy : callable, optional
        ``policy(batch, history)`` gives a tier (``"allow"``, ``"confirm"``, ``"call"``,
        ``"block"``) for each row of a batch of transactions in order of arrival; ``history`` is
        what the bank knew when the batch began (:class:`History`). Without one everything is
        allowed. A policy must not use later rows of its batch.
    seed : int
        The same seed and policy give the same world, bit by bit; the same seed and another
        policy give the same customers, purchases meant and attackers.
    n_customers, days : int
        Size; 6,000 customers over 180 days make about a million transactions. The wave of wallet
        attacks begins on day 110, holiday shopping on day 143.
    holdback : float
        Share of transactions that are let through whatever the policy says.
    batch_hours : int
        Length of a batch, a divisor of 24. Shorter is closer to a real bank and slower.
    constants : Constants, optional
        Other reactions of attackers; the rest of the world stays the same.

    Returns
    -------
    World

    Raises
    ------
    ValueError
        When a size, the share or the batch is out of range, or the policy does not answer each
        transaction with a tier.
    """
    if n_customers < 100 or days < 1:
        raise ValueError(f"{n_customers} customers over {days} days: at least 100 over 1 are due")
    if not 0 <= holdback <= 1:
        raise ValueError(f"holdback is {holdback}: a share from 0 to 1 is due")
    if batch_hours not in (1, 2, 3, 4, 6, 8, 12, 24):
        raise ValueError(f"batches of {batch_hours} hours: take a divisor of 24")
    streams = np.random.default_rng(seed).spawn(3)
    people, terminals = make_people(streams[0], n_customers, days, seed)
    genuine = purchases(streams[1], people, terminals, days)
    attacks = Attacks(streams[2], people, terminals, genuine, days, constants or k.Constants())
    genuine = _without_stolen(genuine, attacks)
    bank = _Bank(people, terminals, attacks, int(1.02 * len(genuine["time"])) + 1000)
    tables = _customers(people), _terminals(terminals)
    edges = np.arange(0, days * 24 + 1, batch_hours) / 24
    cuts = np.searchsorted(genuine["received"], edges)
    carried: Columns | None = None
    for i, (start, end) in enumerate(pairwise(edges)):
        made, carried = _attempts(attacks, carried, end)
        part = {name: values[cuts[i] : cuts[i + 1]] for name, values in genuine.items()}
        rows = bank.gather(part, made)
        if policy is None:
            advised = np.zeros(len(rows["time"]), np.int8)
        else:
            number = bank.log.size + np.arange(len(rows["time"]))
            now = pd.Timestamp(_moment(start)[()])
            history = History(now, tables[1].copy(), tables[0], bank)
            advised = _advice(policy, bank.seen(rows, number, decided=False), history)
        bank.answer(rows, advised, holdback)
        _same_answer(bank.log, rows)
        bank.log.append(rows)
        bank.react(rows, end)
    return _world(bank, tables, days)


def _without_stolen(genuine: Columns, attacks: Attacks) -> Columns:
    """Return the purchases without those in person of owners whose card is stolen."""
    keep = np.ones(len(genuine["time"]), bool)
    stolen = np.flatnonzero(attacks.scenario == k.STOLEN)
    owners = pd.Series(stolen).groupby(attacks.cards[stolen, 0]).indices
    at = np.flatnonzero(np.isin(genuine["customer"], attacks.cards[stolen, 0]))
    at = at[k.LINE_CHANNEL[genuine["line"][at]] == 0]
    for row in at:
        for i in owners[genuine["customer"][row]]:
            lost, found = attacks.first_start[stolen[i]], attacks.report[stolen[i]]
            keep[row] &= not lost <= genuine["time"][row] < found
    return {name: values[keep] for name, values in genuine.items()}


def _attempts(
    attacks: Attacks, carried: Columns | None, end: float
) -> tuple[list[Columns], Columns | None]:
    """Return the attempts that arrive before the end of a batch, and those that come later."""
    parts = attacks.attempts(end) + ([] if carried is None else [carried])
    if not parts:
        return [], None
    rows = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    copies = {name: values[rows["again"]] for name, values in rows.items()}
    copies["received"] = copies["received"] + np.mean(k.RETRY_SECONDS) / 86400
    copies["retry"][:] = True
    rows = {name: np.concatenate([values, copies[name]]) for name, values in rows.items()}
    rows["again"][:] = False
    now = rows["received"] < end
    later = {name: values[~now] for name, values in rows.items()} if not now.all() else None
    return [{name: values[now] for name, values in rows.items()}], later


def _same_answer(log: _Log, rows: Columns) -> None:
    """Give each retry the answer that its request had: a request is decided once."""
    again = np.flatnonzero(rows["retry"])
    if not len(again):
        return
    tail = slice(np.searchsorted(log["received"], rows["received"][0] - 60 / 86400), log.size)
    for source in ({name: log[name][tail] for name in _LOG}, rows):
        first = np.isin(source["request"], rows["request"][again]) & ~source["retry"]
        place = dict(zip(source["request"][first], np.flatnonzero(first), strict=True))
        for row in again:
            if (found := place.get(rows["request"][row])) is not None:
                for name in ("advised", "tier", "outcome", "holdback"):
                    rows[name][row] = source[name][found]


def _customers(people: People) -> pd.DataFrame:
    n = len(people.town)
    return pd.DataFrame(
        {
            "customer": np.arange(n, dtype=np.int32),
            "segment": _named("segment", people.segment),
            "joined": _moment(people.joined),
            "home_x": people.home[:, 0],
            "home_y": people.home[:, 1],
        }
    )


def _terminals(terminals: Terminals) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "terminal": np.arange(len(terminals.line), dtype=np.int32),
            "category": _named("category", k.LINE_CATEGORY[terminals.line]),
            "channel": _named("channel", k.LINE_CHANNEL[terminals.line]),
            "country": _named("country", terminals.country),
            "x": terminals.x,
            "y": terminals.y,
        }
    )


def _chance(seed: int, kind: int, request: np.ndarray) -> np.ndarray:
    """Return a number from 0 to 1 that hangs on the request alone."""
    return ident(kind, seed, request) / 2.0**53


def _world(bank: _Bank, tables: tuple, days: int) -> World:
    """Return the tables of a simulation that has run."""
    log, people, attacks = bank.log, bank.people, bank.attacks
    rows = {name: log[name] for name in _LOG}
    number, chargeback, known = _final(log)
    transactions = bank.frame(slice(0, log.size), decided=True)
    transactions["case_code"] = _case_codes(people.seed, rows, number[chargeback & (known < days)])
    left = np.flatnonzero(bank.left_at < days)
    attack = rows["attack"]
    why = np.where(bank.friction, "friction", "own reasons")
    why = np.where(bank.left_at < days, why, "")
    return World(
        transactions=transactions,
        labels=pd.DataFrame(
            {"transaction": number, "chargeback": chargeback, "known": _moment(known)}
        ),
        customers=tables[0],
        terminals=tables[1],
        departures=pd.DataFrame(
            {"customer": left.astype(np.int32), "time": _moment(bank.left_at[left])}
        ).sort_values("time", ignore_index=True, kind="stable"),
        complaints=_complaints(people.seed, rows, days),
        truth=pd.DataFrame(
            {
                "transaction": np.arange(log.size),
                "is_fraud": attack >= 0,
                "scenario": _named("scenario", _scenarios(attacks, rows)),
                "attack": attack,
                "attacker": np.where(attack >= 0, attacks.attacker[attack], -1),
                "ring": np.where(attack >= 0, attacks.ring[attack], -1),
                "true_time": _moment(rows["time"]),
                "push": _named("push", rows["push"]),
                "call": _named("call", rows["call"]),
                "delay": rows["delay"],
            }
        ),
        truth_customers=pd.DataFrame(
            {
                "customer": np.arange(len(people.town), dtype=np.int32),
                "household": people.household,
                "night_worker": people.profile == 2,
                "disputer": people.disputer,
                "abandons_push": people.abandons[:, 0],
                "abandons_call": people.abandons[:, 1],
                "left": why,
            }
        ),
        truth_terminals=pd.DataFrame(
            {
                "terminal": attacks.skimming["terminal"],
                "start": _moment(attacks.skimming["start"]),
                "end": _moment(attacks.skimming["end"]),
            }
        ).sort_values("start", ignore_index=True),
        faults=_faults(bank, rows, transactions["case_code"].to_numpy()),
        start=pd.Timestamp(k.START),
        end=pd.Timestamp(_moment(days)[()]),
        constants=attacks.constants,
    )


def _complaints(seed: int, rows: Columns, days: int) -> pd.DataFrame:
    """Return who complains, hours after being asked or declined."""
    share = np.array(k.COMPLAINS)[rows["outcome"]]
    genuine = (rows["attack"] < 0) & ~rows["retry"]
    at = np.flatnonzero(genuine & (_chance(seed, 23, rows["request"]) < share))
    time = rows["received"][at] + 0.05 + _chance(seed, 24, rows["request"][at])
    frame = pd.DataFrame({"customer": rows["customer"][at], "time": _moment(time)})
    return frame[time < days].sort_values("time", ignore_index=True, kind="stable")


def _scenarios(attacks: Attacks, rows: Columns) -> np.ndarray:
    friendly = np.where(np.isnan(rows["delay"]), 0, k.FRIENDLY)
    return np.where(rows["attack"] >= 0, attacks.scenario[rows["attack"]], friendly).astype(np.int8)


def _case_codes(seed: int, rows: Columns, disputed: np.ndarray) -> np.ndarray:
    """Return the code of the investigation, 0 without one: the leak of the table."""
    request = rows["request"]
    code = np.where(_chance(seed, 20, request) < k.CASE_ENQUIRY, 1, 0)
    coded = disputed[_chance(seed, 21, request[disputed]) < k.CASE_CODED]
    code[coded] = 2 + np.floor(2 * _chance(seed, 22, request[coded]))
    code[rows["retry"]] = 0
    return code.astype(np.int8)


def _faults(bank: _Bank, rows: Columns, code: np.ndarray) -> pd.DataFrame:
    """Return where the faults stand."""
    terminal = rows["terminal"]
    late = rows["received"] - rows["time"] > 2 / 1440
    planted = {
        "retry": rows["retry"],
        "out of order": late & bank.terminals.offline[terminal] & ~rows["retry"],
        "clock skew": bank.terminals.skew[terminal] != 0,
        "missing device": rows["status"] == NOT_SENT,
        "refund": rows["amount"] < 0,
        "filled later": code > 0,
    }
    numbers = [np.flatnonzero(mask) for mask in planted.values()]
    fault = pd.Categorical.from_codes(
        np.repeat(np.arange(len(planted)), [len(n) for n in numbers]), list(planted)
    )
    frame = pd.DataFrame({"transaction": np.concatenate(numbers), "fault": fault})
    return frame.sort_values(["transaction", "fault"], ignore_index=True)


def visible_labels(
    world: World, at: pd.Timestamp | str, wait: float = k.DISPUTE_DAYS
) -> pd.DataFrame:
    """Return the labels that the bank knows at a moment.

    Parameters
    ----------
    world : World
    at : Timestamp
        Nothing that happens later is used.
    wait : float
        A transaction that went through and is so many days old counts as genuine unless a
        chargeback has come. The time to dispute is 120 days: with less, a fraud whose chargeback
        is late counts as genuine until it comes. The confirmations' outcomes, known at once,
        stand in ``world.transactions``.

    Returns
    -------
    DataFrame
        ``transaction``, ``chargeback``. A transaction that was declined, denied or abandoned is
        never among them, nor is the retry of a request.

    Raises
    ------
    ValueError
        When ``wait`` is negative.
    """
    labels = world.labels
    received = world.transactions["received"].to_numpy()
    received = (received - k.START) / np.timedelta64(1, "D")
    known = (labels["known"].to_numpy() - k.START) / np.timedelta64(1, "D")
    number, chargeback = labels["transaction"].to_numpy(), labels["chargeback"].to_numpy()
    return _labels_at(number, chargeback, known, received, _days(at), wait)


def cost(world: World) -> pd.Series:
    """Return what the world cost the bank, in euro, by kind.

    Returns
    -------
    Series
        ``fraud`` (amounts of fraud that went through, disputed or not), ``friendly`` (amounts
        disputed by their own buyers), ``chargebacks`` (their handling), ``pushes``, ``calls``,
        ``complaints``, ``margin`` (of genuine purchases that were stopped), ``churn`` (customers
        lost to friction). Retries are counted once. Refunds cost nothing.
    """
    first = ~world.transactions["request"].duplicated()
    seen, truth = world.transactions[first], world.truth[first]
    amount = seen["amount"].clip(lower=0)
    through = seen["outcome"].isin(("approved", "confirmed"))
    disputed = through & truth["delay"].notna()
    return pd.Series(
        {
            "fraud": amount[truth["is_fraud"] & through].sum(),
            "friendly": amount[~truth["is_fraud"] & disputed].sum(),
            "chargebacks": k.CHARGEBACK_COST * disputed.sum(),
            "pushes": k.PUSH_COST * (seen["tier"] == "confirm").sum(),
            "calls": k.CALL_COST * (seen["tier"] == "call").sum(),
            "complaints": k.COMPLAINT_COST * len(world.complaints),
            "margin": k.MARGIN * amount[~truth["is_fraud"] & ~through].sum(),
            "churn": k.CHURN_COST * (world.truth_customers["left"] == "friction").sum(),
        }
    ).astype(float)


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what stands in ``data/12_card_fraud/``, by file name: a small world.

    The truth is not among them: ``simulate()`` gives it to the evaluation.
    """
    world = simulate(n_customers=k.SNAPSHOT[0], days=k.SNAPSHOT[1])
    return {
        f"{name}.parquet": getattr(world, name)
        for name in ("transactions", "labels", "customers", "terminals", "departures", "faults")
    }
