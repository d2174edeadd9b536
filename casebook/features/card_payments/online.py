"""The features of one event, from state that a store keeps up to date."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right, insort
from collections.abc import Callable, Hashable, Mapping
from heapq import heappop, heappush
from typing import Any

import numpy as np
import pandas as pd

from casebook.columns import need_columns
from casebook.features.windows import DAY

from .definition import (
    _CODES,
    ASKED,
    FEATURES,
    HOUR,
    LABEL_DELAY,
    MEMORY,
    MONTH,
    ONLINE,
    REFUSED,
    RISKS,
    SMALL,
    WEEK,
    finish,
    span,
)
from .states import _Customer, _Machine, _Terminal
from .table import check_evidence, check_master, moments, read
from .words import OUTCOMES


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


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


class OnlineStore:
    """State from which the features of one event are computed, and kept up to date.

    Parameters
    ----------
    terminals, customers : DataFrame
        As for :func:`~casebook.features.card_payments.table.batch`.
    delay : float
        Label delay of the terminal's risk, days.
    memory : float
        Days after which what nobody used is forgotten, so that the state does not grow for ever.
    sweep : int
        After so many events what is forgotten is taken out.

    Attributes
    ----------
    now : Timestamp or None
        The store's clock: arrival of the latest event observed.

    Notes
    -----
    The sequence of an event is ``features``, then ``observe``. The store takes events as they
    come: one whose ``received`` is older than the clock counts as received at the clock, which
    never runs back, and the terminal's own clock does not matter. ``batch`` refuses such rows.
    """

    def __init__(
        self,
        terminals: pd.DataFrame,
        customers: pd.DataFrame,
        *,
        delay: float = LABEL_DELAY,
        memory: float = MEMORY,
        sweep: int = 50_000,
    ):
        check_master(terminals, customers)
        self._behind, self._memory = span(delay, "a label delay"), span(memory, "a memory")
        columns = (terminals[name].tolist() for name in ("terminal", "x", "y"))
        self._sites = {n: (x, y) for n, x, y in zip(*columns, strict=True) if x == x and y == y}
        self._people: dict[int, tuple[int, float, float]] = {}
        self.enrol(customers)
        self._token = object()
        self._clock: int | None = None
        self._states: dict[str, dict[int, Any]] = {
            name: {} for name in ("customer", "terminal", "device", "ip")
        }
        self._cards: dict[int, tuple[int, int]] = {}  # first and last use
        self._requests: dict[int, int] = {}  # arrival of the last attempt
        # Customer, terminal, device, ms and whether it counts, of what was observed.
        self._purchases: dict[Hashable, tuple[int, int, int, int, bool]] = {}
        self._refused: set[Hashable] = set()
        self._frauds: set[Hashable] = set()
        self._pending: list[tuple[int, int, str, Hashable]] = []
        self._seen, self._sweep = 0, sweep

    @property
    def now(self) -> pd.Timestamp | None:
        return None if self._clock is None else pd.Timestamp(self._clock, unit="ms")

    def __contains__(self, transaction: Hashable) -> bool:
        """Return whether a transaction was observed and is not forgotten."""
        return transaction in self._purchases

    def __len__(self) -> int:
        """Return how many pieces of state there are."""
        kept = [*self._states.values(), self._cards, self._requests, self._purchases]
        customers = self._states["customer"].values()
        return sum(map(len, kept)) + sum(len(c.terminals) + len(c.devices) for c in customers)

    def enrol(self, customers: pd.DataFrame) -> None:
        """Take in master data of customers who are new, or who moved.

        Parameters
        ----------
        customers : DataFrame
            ``customer``, ``joined``, ``home_x``, ``home_y``.
        """
        need_columns(customers, ("customer", "joined", "home_x", "home_y"), "customers")
        rows = (customers["customer"].tolist(), moments(customers["joined"]).tolist())
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
            The columns :data:`FEATURES`, rounded to float32 as in ``batch``.

        Raises
        ------
        ValueError
            When a field is missing or not of its kind, or the customer is unknown.
        """
        e = self._read(event)
        now, device = e["ms"], e["device"]
        self._catch_up(now)
        raw: dict[str, Any] = {
            name: e[name] for name in ("cents", "ms", "entry", "category", "device", "online")
        }
        joined, *home = self._people[e["customer"]]
        raw["tenure"] = now - joined
        state = self._alive("customer", e["customer"], now) or _Customer(self._token)
        self._add_customer(raw, state, now)
        raw["card_age"] = now - self._first(self._cards.get(e["card"]), now)
        raw["terminal_new"] = now - state.terminals.get(e["terminal"], -(2**62)) >= self._memory
        first = self._first(state.devices.get(device), now, None)
        raw["device_new"] = device >= 0 and first is None
        raw["device_age"] = 0 if first is None else now - first
        self._add_places(raw, e, state.place, *home)
        self._add_terminal(raw, e["terminal"], now)
        self._add_machines(raw, e, now)
        values = [value for _, value in finish(raw, _choose, math.log1p, math.hypot)]
        return dict(zip(FEATURES, np.array(values, np.float32).tolist(), strict=True))

    def _add_customer(self, raw: dict[str, Any], state: _Customer, now: int) -> None:
        times, total = state.times, state.total
        for name, window in (("1h", HOUR), ("24h", DAY), ("7d", WEEK), ("30d", MONTH)):
            edge = bisect_right(times, now - window)
            raw[f"count_{name}"] = len(times) - edge
            raw[f"cents_{name}"] = total[-1] - total[edge]
        raw["small_24h"] = _since(state.small, now - DAY)
        raw["customer_refused_24h"] = _since(state.refused, now - DAY)
        raw["customer_frauds"] = state.frauds
        raw["since_last"] = now - state.last if state.born else MONTH

    def _add_places(
        self, raw: dict[str, Any], e: dict[str, Any], last: tuple | None, *home: float
    ) -> None:
        x = y = last_x = last_y = home_x = home_y = 0.0
        since, changed = 0, False
        if e["site"] is not None:
            x, y = last_x, last_y = e["site"]
            home_x, home_y = home
            if last is not None:
                last_x, last_y, country, when = last
                since, changed = e["ms"] - when, country != e["country"]
        raw |= {"x": x, "y": y, "last_x": last_x, "last_y": last_y}
        raw |= {"home_x": home_x, "home_y": home_y}
        raw |= {"since_place": since, "country_changed": changed}

    def _add_terminal(self, raw: dict[str, Any], terminal: int, now: int) -> None:
        state = self._alive("terminal", terminal, now) or _Terminal(self._token)
        times, frauds = state.times, state.fraud_times
        upper = now - self._behind
        until = bisect_right(times, upper)
        known = bisect_right(frauds, upper)
        raw["terminal_frauds"] = state.frauds
        for name, window in RISKS.items():
            raw[f"terminal_count_{name}"] = _since(times, now - window)
            raw[f"delayed_count_{name}"] = until - bisect_right(times, upper - window)
            raw[f"delayed_frauds_{name}"] = known - bisect_right(frauds, upper - window)

    def _add_machines(self, raw: dict[str, Any], e: dict[str, Any], now: int) -> None:
        machine = self._alive("device", e["device"], now) or _Machine(self._token)
        raw["device_customers_24h"] = machine.others(e["customer"], now, DAY)
        raw["device_customers_7d"] = machine.others(e["customer"], now, WEEK)
        raw["device_count_24h"] = _since(machine.times, now - DAY)
        raw["device_refused_24h"] = _since(machine.refused, now - DAY)
        raw["device_frauds"] = machine.frauds
        address = self._alive("ip", e["ip"], now)
        raw["ip_customers_24h"] = address.others(e["customer"], now, DAY) if address else 0

    def observe(self, event: Mapping[str, Any], outcome: str | None = None) -> None:
        """Count an event that has been decided.

        Parameters
        ----------
        event : mapping
            As in :meth:`features`.
        outcome : str, optional
            ``approved``, ``confirmed``, ``denied``, ``abandoned`` or ``declined``, known from the
            next event on. None while it is not known: tell it later by :meth:`settle`. It is no
            evidence of fraud: :meth:`learn`.

        Raises
        ------
        ValueError
            As :meth:`features`; when there is no such outcome; when the transaction was observed
            before (a retry has a number of its own and the request of its first).
        """
        e = self._read(event)
        refused = _refusal(outcome)
        number = event["transaction"]
        if number in self._purchases:
            raise ValueError(f"transaction {number} was observed before: each counts once.")
        self._count(number, event["request"], e)
        if refused:
            self._mark("refused", number)

    def settle(self, transaction: Hashable, outcome: str, known: Any = None) -> None:
        """Tell the outcome of an event that was observed without one.

        Parameters
        ----------
        transaction : hashable
        outcome : str
        known : moment, optional
            Events received from then on see it; by default all that follow.

        Raises
        ------
        ValueError
            When the transaction was never observed, or there is no such outcome.
        """
        refused, purchase = _refusal(outcome), self._purchase(transaction)
        moment = purchase[3] if known is None else _instant(known, "known")
        if refused and transaction not in self._refused:
            self._tell("refused", transaction, moment)

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
        self._purchase(transaction)
        moment = _instant(known, "known")
        if transaction not in self._frauds:
            self._tell("fraud", transaction, moment)

    def warm(self, transactions: pd.DataFrame, evidence: pd.DataFrame) -> None:
        """Load history in bulk: the same state as event by event, after fewer checks by row.

        Parameters
        ----------
        transactions : DataFrame
            As for ``batch``; what arrived after the store's clock, such as a day more.
        evidence : DataFrame
            ``transaction``, ``known``: on these transactions or earlier ones.

        Raises
        ------
        ValueError
            As ``batch``, and when a transaction was observed before.
        """
        need_columns(evidence, ("transaction", "known"), "evidence")
        rows = read(transactions)
        numbers = rows["transaction"].tolist()
        if again := next((n for n in numbers if n in self._purchases), None):
            raise ValueError(f"transaction {again} was observed before: each counts once.")
        if unknown := set(np.unique(rows["customer"]).tolist()) - self._people.keys():
            raise ValueError(f"{len(unknown)} customers are unknown, such as {min(unknown)}.")
        rows["online"] = rows["channel"] == ONLINE
        if self._clock is not None:
            rows["ms"] = np.maximum(rows["ms"], self._clock)
        names = ("ms", "customer", "card", "terminal", "device", "ip", "cents", "online", "country")
        names += ("refused", "told")
        columns = [rows[name].tolist() for name in names]
        requests = rows["request"].tolist()
        for number, request, *values in zip(numbers, requests, *columns, strict=True):
            e = dict(zip(names, values, strict=True))
            e["site"] = None if e["online"] else self._sites.get(e["terminal"])
            self._count(number, request, e)
            if e["refused"]:
                self._tell("refused", number, e["told"])
        known = evidence.sort_values("known", kind="stable")
        for number, moment in zip(known["transaction"].tolist(), known["known"], strict=True):
            self.learn(number, moment)

    def fork(self) -> OnlineStore:
        """Return an independent copy. States are shared until one of the two changes them."""
        twin = copy.copy(self)
        self._token, twin._token = object(), object()
        twin._states = {name: states.copy() for name, states in self._states.items()}
        for name in ("_cards", "_requests", "_purchases", "_refused", "_frauds", "_pending"):
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
            names = ("customer", "card", "terminal", "device", "ip")
            numbers = {name: _ident(event[name]) for name in names}
            amount = float(event["amount"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"an identifier or the amount is no number: {error}") from error
        if not math.isfinite(amount):
            raise ValueError(f"the amount is {amount}: it has to be finite.")
        if numbers["customer"] not in self._people:
            raise ValueError(f"customer {event['customer']} is unknown: enrol the customer first.")
        online = codes["channel"] == ONLINE
        ms = _instant(event["received"], "received")
        if self._clock is not None and ms < self._clock:
            ms = self._clock
        site = None if online else self._sites.get(numbers["terminal"])
        more = {"ms": ms, "cents": round(amount * 100), "online": online, "site": site}
        return more | codes | numbers

    # State ------------------------------------------------------------------------------------

    def _first(self, uses: tuple[int, int] | None, now: int, none: Any = ...) -> Any:
        """Return the first of a first and a last use, or now where it is forgotten."""
        if uses is None or now - uses[1] >= self._memory:
            return now if none is ... else none
        return uses[0]

    def _alive(self, name: str, key: int, now: int) -> Any:
        """Return a state to look at, None where there is none or it is forgotten."""
        state = self._states[name].get(key)
        return None if state is None or now - state.last >= self._memory else state

    def _own(self, name: str, key: int, kind: type) -> Any:
        """Return a state that this store may change."""
        states = self._states[name]
        state = states.get(key)
        if state is None:
            state = states[key] = kind(self._token)
        elif state.owner is not self._token:
            state = states[key] = state.copy(self._token)
        return state

    def _use(self, name: str, key: int, kind: type, now: int) -> Any:
        """Return a state that is used now; of one that was forgotten, a new one."""
        if self._alive(name, key, now) is None:
            self._states[name].pop(key, None)
        state = self._own(name, key, kind)
        state.born = state.born or now
        state.last = now
        return state

    def _purchase(self, transaction: Hashable) -> tuple[int, int, int, int, bool]:
        try:
            return self._purchases[transaction]
        except KeyError:
            what = f"transaction {transaction} was never observed, or is forgotten."
            raise ValueError(what) from None

    def _tell(self, what: str, transaction: Hashable, known: int) -> None:
        """Let what became of a purchase count from a moment on."""
        *_, ms, counts = self._purchases[transaction]
        if not counts or known - ms >= self._memory:
            return
        if self._clock is not None and known <= self._clock:
            self._mark(what, transaction)
        else:
            heappush(self._pending, (known, len(self._pending), what, transaction))

    def _catch_up(self, now: int) -> None:
        """Let count what is known by now."""
        while self._pending and self._pending[0][0] <= now:
            *_, what, transaction = heappop(self._pending)
            if transaction in self._purchases:
                self._mark(what, transaction)

    def _mark(self, what: str, transaction: Hashable) -> None:
        done = self._frauds if what == "fraud" else self._refused
        customer, terminal, device, ms, counts = self._purchases[transaction]
        if transaction in done or not counts:
            return
        done.add(transaction)
        for name, key, kind in (
            ("customer", customer, _Customer),
            ("terminal", terminal, _Terminal),
            ("device", device, _Machine),
        ):
            state = self._states[name].get(key)
            if state is None or state.born > ms:  # forgotten since
                continue
            state = self._own(name, key, kind)
            if what == "refused":
                if name != "terminal":
                    insort(state.refused, ms)
                continue
            state.frauds += 1
            if name == "terminal":
                insort(state.fraud_times, ms)

    def _count(self, number: Hashable, request: int, e: dict[str, Any]) -> None:
        """Count an event."""
        now = e["ms"]
        self._catch_up(now)
        self._clock = now
        again = now - self._requests.pop(request, -(2**62)) < self._memory
        self._requests[request] = now
        counts = not again and e["cents"] >= 0
        self._purchases[number] = (e["customer"], e["terminal"], e["device"], now, counts)
        self._seen += 1
        if self._seen % self._sweep == 0:
            self._forget(now)
        if counts:
            self._remember(e, now)

    def _remember(self, e: dict[str, Any], now: int) -> None:
        """Keep what a purchase leaves behind."""
        customer, device, terminal = e["customer"], e["device"], e["terminal"]
        self._cards[e["card"]] = self._first(self._cards.get(e["card"]), now), now
        state = self._use("customer", customer, _Customer, now)
        state.times.append(now)
        state.total.append(state.total[-1] + e["cents"])
        state.terminals[terminal] = now
        if e["cents"] < SMALL:
            state.small.append(now)
        if e["site"] is not None:
            state.place = (*e["site"], e["country"], now)
        if len(state.times) % 64 == 0:
            state.trim(now)
        place = self._use("terminal", terminal, _Terminal, now)
        place.times.append(now)
        if len(place.times) % 64 == 0:
            place.trim(now - self._behind - MONTH)
        if e["ip"] >= 0:
            self._use("ip", e["ip"], _Machine, now).use(customer, now, DAY)
        if device >= 0:
            state.devices[device] = self._first(state.devices.get(device), now), now
            machine = self._use("device", device, _Machine, now)
            machine.use(customer, now, WEEK)
            machine.times.append(now)
            if len(machine.times) % 64 == 0:
                del machine.times[: bisect_right(machine.times, now - DAY)]
                del machine.refused[: bisect_right(machine.refused, now - DAY)]

    def _forget(self, now: int) -> None:
        """Drop what is forgotten: it changes no feature, and the state grows no further."""
        oldest = now - self._memory
        for states in self._states.values():
            for key in [key for key, state in states.items() if state.last <= oldest]:
                del states[key]
        for key in [key for key, (_, last) in self._cards.items() if last <= oldest]:
            del self._cards[key]
        for key in [key for key, last in self._requests.items() if last <= oldest]:
            del self._requests[key]
        for number in [n for n, row in self._purchases.items() if row[3] <= oldest]:
            del self._purchases[number]
            self._frauds.discard(number)
            self._refused.discard(number)
        for key, state in list(self._states["customer"].items()):
            terminals = [t for t, last in state.terminals.items() if last <= oldest]
            devices = [d for d, (_, last) in state.devices.items() if last <= oldest]
            if terminals or devices:
                mine = self._own("customer", key, _Customer)
                for terminal in terminals:
                    del mine.terminals[terminal]
                for device in devices:
                    del mine.devices[device]


def _refusal(outcome: str | None) -> bool:
    """Return whether an outcome is a refusal; refuse what is no outcome."""
    if outcome is not None and outcome not in OUTCOMES:
        raise ValueError(f"{outcome!r} is no outcome: one of {', '.join(OUTCOMES)}, or None.")
    return outcome in REFUSED


def replay(
    transactions: pd.DataFrame,
    terminals: pd.DataFrame,
    customers: pd.DataFrame,
    evidence: pd.DataFrame,
    n: int | None = None,
    *,
    delay: float = LABEL_DELAY,
    memory: float = MEMORY,
    store: Callable[..., OnlineStore] = OnlineStore,
) -> pd.DataFrame:
    """Return the features of a table's rows as a service would have computed them, one by one.

    Each event is put to an :class:`OnlineStore`, then observed; its outcome and evidence are told
    when they became known.

    Parameters
    ----------
    transactions, terminals, customers, evidence, delay, memory
        As for :func:`~casebook.features.card_payments.table.batch`.
    n : int, optional
        Only the first n events.
    store : callable, optional
        Makes another store, such as one with a planted fault.

    Returns
    -------
    DataFrame of float32, shape (n, features)
        As from ``batch``.

    Raises
    ------
    ValueError
        As ``batch`` and :meth:`OnlineStore.features`.
    """
    whole = read(transactions)
    first = check_evidence(evidence, whole)
    known = dict(zip(first["transaction"], first["known"], strict=True))
    kept = store(terminals, customers, delay=delay, memory=memory)
    part = transactions.iloc[:n]
    rows = []
    for event, told in zip(part.to_dict("records"), whole["told"].tolist(), strict=False):
        rows.append(kept.features(event))
        number, outcome = event["transaction"], event.get("outcome")
        kept.observe(event)
        if isinstance(outcome, str):
            kept.settle(number, outcome, pd.Timestamp(told, unit="ms"))
        if number in known:
            kept.learn(number, known[number])
    index = pd.Index(part["transaction"].to_numpy(np.int64), name="transaction")
    return pd.DataFrame(rows, index=index, columns=list(FEATURES)).astype(np.float32)
