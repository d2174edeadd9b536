"""What each tenant pays: reserved before a model is asked, settled before an answer is complete.

1. *Reserve*: the most that a request can cost is taken from the month's budget. The row is on disk
   before a provider sees the request.
2. *Settle* or *release*: the real cost takes the place of what was reserved, or nothing does. An
   answer is settled **before** its last byte leaves. Who saw a complete answer is billed for it;
   who was failed, by a provider or by a gateway that died, pays nothing.

A request is settled or released once: the row's state decides, in the transaction that moves the
money. A gateway that dies leaves open rows. Another one releases them when it has not seen a new
sign of life for the length of a lease, by its own clock (clocks of two machines are not compared),
and a gateway that wakes up after that cannot settle them any more.

What a provider charges beyond the bill is *waste*: the gateway's own loss, kept beside the bill,
with what is only estimated of it (``guessed``: the provider did not report it). Waste of answers
that the tenant's own rules have refused counts against its budget: a rule that nothing fits must
not make models free.

Examples
--------
>>> from casebook.cases.llm_gateway.store import Store
>>> store = Store(":memory:")
>>> ask = Ask("r1", "acme", "small", most=900, at=0.0, budget=1000)
>>> store.submit(reserve, ask, "me").result()
900
>>> [store.submit(settle, "r1", "me", Bill("small", 10, 5, 120)).result() for _ in range(2)]
[True, False]
>>> store.submit(spent, "acme", "1970-01").result()
Spent(settled=120, reserved=0, waste=0)
>>> store.close()
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from casebook.cases.llm_gateway.store import Database, Store, StoreDown

#: Seconds without a sign of life after which a gateway's open requests are released.
LEASE = 30.0


class OverBudget(Exception):
    """A request could cost more than is left of the month's budget."""


class Repeated(Exception):
    """A request that is being answered, or was: ``args[0]`` is its state."""


class Ask(NamedTuple):
    """What is reserved: at most ``most`` nano-dollars, within ``budget`` (0 for none)."""

    request: str
    tenant: str
    model: str
    most: int
    at: float
    budget: int = 0
    prompt: str = ""
    once: str = ""


class Bill(NamedTuple):
    """What an answer cost.

    Attributes
    ----------
    model : str
        Which answered.
    tokens_in, tokens_out, cost : int
    how : str
        ``complete``; ``left`` if the client went away, ``refused`` if a rule of the tenant ended
        it; ``cached``.
    waste, guessed : int
        Nano-dollars that the provider charges beyond ``cost``, with those of attempts that failed
        before; and how many of them are estimated.
    """

    model: str
    tokens_in: int
    tokens_out: int
    cost: int
    how: str = "complete"
    waste: int = 0
    guessed: int = 0


class Kept(NamedTuple):
    """An answer that can be had again until a moment, and how many of them a tenant has."""

    body: str
    until: float
    most: int = 200


class Spent(NamedTuple):
    """Nano-dollars of a tenant in a month."""

    settled: int = 0
    reserved: int = 0
    waste: int = 0


def month_of(at: float) -> str:
    """Return the calendar month of a moment in UTC, such as ``2026-11``."""
    return time.strftime("%Y-%m", time.gmtime(at))


# Operations of the store ---------------------------------------------------------------


def reserve(db: Database, ask: Ask, owner: str) -> int:
    """Open a request; return what its tenant has spent and reserved this month.

    Raises
    ------
    Repeated
        If the request is open or settled, or (``other``) was another one; one that was released may
        be asked again.
    OverBudget
        If the budget does not hold what it may cost.
    """
    month = month_of(ask.at)
    row = db.execute("select state, once from meter where request = ?", (ask.request,)).fetchone()
    if row and row[0] != "released":
        raise Repeated(row[0] if row[1] == ask.once else "other")
    db.execute(
        "insert into spend (tenant, month) values (?, ?) on conflict do nothing",
        (ask.tenant, month),
    )
    taken = db.execute(
        "update spend set reserved = reserved + ? where tenant = ? and month = ?"
        " and (? = 0 or settled + reserved + refused + ? <= ?)",
        (ask.most, ask.tenant, month, ask.budget, ask.most, ask.budget),
    )
    if not taken.rowcount:
        raise OverBudget(f"{ask.most} nano-dollars are not left of {ask.budget}.")
    if row:
        # What it wasted the first time stays in the month's sum.
        aside = f"{ask.request}:{uuid.uuid4().hex}"
        db.execute("update meter set request = ? where request = ?", (aside, ask.request))
    opened = db.execute(
        "insert into meter"
        " (request, tenant, model, month, at, owner, state, reserved, prompt, once)"
        " values (?, ?, ?, ?, ?, ?, 'open', ?, ?, ?) on conflict do nothing",
        (ask.request, ask.tenant, ask.model, month, ask.at, owner, ask.most, ask.prompt, ask.once),
    )
    if not opened.rowcount:
        raise Repeated("open")  # another gateway was quicker
    now = spent(db, ask.tenant, month)
    return now.settled + now.reserved


def settle(db: Database, request: str, owner: str, bill: Bill, kept: Kept | None = None) -> bool:
    """Bill a request; False if it is not open any more, and then its answer must not leave.

    An answer that is ``kept`` is on disk together with its bill: a client that did not get its last
    byte, since its gateway died, gets it from the next one.
    """
    done = _close(db, request, owner, "settled", bill)
    if done and kept:
        db.execute(
            "insert into answers select request, tenant, ?, ? from meter where request = ?",
            (kept.until, kept.body, request),
        )
        db.execute(
            "delete from answers where request in (select old.request from answers as old"
            " join meter on meter.request = ? and old.tenant = meter.tenant"
            " order by old.until desc limit 1000 offset ?)",
            (request, kept.most),
        )
    return done


def kept(db: Database, request: str, now: float) -> str | None:
    """Return an answer that was kept, or None."""
    found = "select body from answers where request = ? and until > ?"
    row = db.execute(found, (request, now)).fetchone()
    return row[0] if row else None


def forget(db: Database, now: float) -> None:
    """Drop the answers whose time is over."""
    db.execute("delete from answers where until <= ?", (now,))


def free_of_charge(
    db: Database, ask: Ask, owner: str, bill: Bill, kept: Kept | None = None
) -> bool:
    """Record a request that costs nothing, such as one that the cache answered."""
    reserve(db, ask, owner)
    return settle(db, ask.request, owner, bill, kept)


def release(
    db: Database, request: str, owner: str, waste: int = 0, how: str = "failed", guessed: int = 0
) -> bool:
    """Bill nothing for a request; False if it is not open any more."""
    return _close(db, request, owner, "released", Bill("", 0, 0, 0, how, waste, guessed))


def _close(db: Database, request: str, owner: str, state: str, bill: Bill) -> bool:
    """Let a request's state and its tenant's sums change together."""
    row = db.execute(
        "update meter set state = ?, model = case when ? = '' then model else ? end,"
        " tokens_in = ?, tokens_out = ?, cost = ?, how = ?, waste = ?, guessed = ?"
        " where request = ? and owner = ? and state = 'open' returning tenant, month, reserved, at",
        (state, bill.model, *bill, request, owner),
    ).fetchone()
    if row is None:
        return False
    tenant, month, reserved, at = row
    db.execute(
        "update spend set settled = settled + ?, reserved = reserved - ?, waste = waste + ?,"
        " refused = refused + ? where tenant = ? and month = ?",
        (bill.cost, reserved, bill.waste, bill.waste * (bill.how == "refused"), tenant, month),
    )
    if bill.cost:
        db.execute(
            "insert into hours values (?, ?, ?) on conflict (tenant, hour)"
            " do update set cost = hours.cost + excluded.cost",
            (tenant, int(at // 3600), bill.cost),
        )
    return True


def beat(db: Database, owner: str, now: float) -> None:
    """Say that a gateway lives."""
    db.execute(
        "insert into owners values (?, ?) on conflict (owner) do update set beat = excluded.beat",
        (owner, now),
    )


def signs(db: Database) -> dict[str, float]:
    """Return the last sign of life of each gateway that has something open."""
    found = (
        "select distinct meter.owner, coalesce(beat, 0) from meter"
        " left join owners on owners.owner = meter.owner where state = 'open'"
    )
    return dict(db.execute(found).fetchall())


def abandon(db: Database, owner: str) -> int:
    """Release what a gateway that is dead has left open; return how much."""
    found = "select request from meter where state = 'open' and owner = ?"
    rows = db.execute(found, (owner,)).fetchall()
    db.execute("delete from owners where owner = ?", (owner,))
    return sum(release(db, request, owner, how="killed") for (request,) in rows)


def recover(db: Database, now: float, lease: float = LEASE) -> int:
    """Release what gateways without a sign of life since ``now - lease`` left open; say how much.

    For one machine with one clock; :meth:`Meter.live` compares no clocks.
    """
    return sum(abandon(db, owner) for owner, beat in signs(db).items() if beat < now - lease)


def spent(db: Database, tenant: str, month: str) -> Spent:
    """Return what a tenant has spent in a month."""
    row = db.execute(
        "select settled, reserved, waste from spend where tenant = ? and month = ?", (tenant, month)
    ).fetchone()
    return Spent(*row) if row else Spent()


class Line(NamedTuple):
    """A line of an invoice: one model's requests, tokens and cost (nano-dollars)."""

    model: str
    requests: int
    tokens_in: int
    tokens_out: int
    cost: int


def invoice(db: Database, tenant: str, month: str) -> list[Line]:
    """Return a tenant's bill for a month, a line for each model that answered."""
    rows = db.execute(
        "select model, count(*), cast(sum(tokens_in) as bigint), cast(sum(tokens_out) as bigint),"
        " cast(sum(cost) as bigint) from meter"
        " where tenant = ? and month = ? and state = 'settled' group by model order by model",
        (tenant, month),
    )
    return [Line(*row) for row in rows]


def months(db: Database, tenant: str) -> list[tuple[str, int]]:
    """Return each month of a tenant and what it cost (nano-dollars), the newest first."""
    found = "select month, settled from spend where tenant = ? order by month desc"
    return [(month, cost) for month, cost in db.execute(found, (tenant,))]


def audit(db: Database) -> list[tuple[Any, ...]]:
    """Return tenants and months whose sums are not those of their requests: none if all is well."""
    return db.execute(
        "with own as (select tenant, month, sum(cost) as cost,"
        " sum(case state when 'open' then reserved else 0 end) as kept, sum(waste) as waste"
        " from meter group by tenant, month)"
        " select tenant, month, settled, cost, reserved, kept, spend.waste, own.waste"
        " from spend left join own using (tenant, month)"
        " where settled <> coalesce(cost, 0) or reserved <> coalesce(kept, 0)"
        " or spend.waste <> coalesce(own.waste, 0)"
    ).fetchall()


# The meter of one gateway --------------------------------------------------------------


class Meter:
    """Reserves and settles for one gateway process.

    Parameters
    ----------
    store : Store
    clock : callable
        Seconds since 1970.
    passed : callable
        Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.clock, self.owner = store, clock, uuid.uuid4().hex
        self._passed, self._later = passed, deque()
        self._seen: dict[str, tuple[float, float]] = {}

    async def reserve(self, ask: Ask) -> int:
        """Open a request as :func:`reserve`; :class:`StoreDown` if that is not on disk.

        Given up while it waits, it is released as soon as it is open.
        """
        opened = self.store.submit(reserve, ask, self.owner)
        try:
            return await asyncio.shield(asyncio.wrap_future(opened))
        except asyncio.CancelledError:
            undo = (release, ask.request, self.owner, 0, "left")
            opened.add_done_callback(lambda done: done.exception() or self.store.submit(*undo))
            raise

    async def free(self, ask: Ask, bill: Bill, kept: Kept | None = None) -> None:
        """Record a request as :func:`free_of_charge`."""
        await self.store.do(free_of_charge, ask, self.owner, bill, kept)

    async def settle(self, request: str, bill: Bill, kept: Kept | None = None) -> bool:
        """Bill a request as :func:`settle`; :class:`StoreDown` if that is not on disk."""
        return await self.store.do(settle, request, self.owner, bill, kept)

    async def release(
        self, request: str, waste: int = 0, how: str = "failed", guessed: int = 0
    ) -> None:
        """Bill nothing for a request; while the store is down, this is kept for later."""
        try:
            await self.store.do(release, request, self.owner, waste, how, guessed)
        except StoreDown:
            self._later.append((request, waste, how, guessed))

    async def live(self) -> int:
        """Give a sign of life, catch up, and release what dead gateways left; return how many."""
        await self.store.do(beat, self.owner, self.clock())
        for _ in range(len(self._later)):
            await self.release(*self._later.popleft())
        await self.store.do(forget, self.clock())
        now, others = self._passed(), await self.store.do(signs)
        others.pop(self.owner, None)
        seen, self._seen = self._seen, {}
        for owner, sign in others.items():
            last = seen.get(owner)
            self._seen[owner] = last if last and last[0] == sign else (sign, now)
        dead = [owner for owner, (_, since) in self._seen.items() if now - since > LEASE]
        return sum([await self.store.do(abandon, owner) for owner in dead])
