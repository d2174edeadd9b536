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
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from casebook.cases.llm_gateway.store import Database, Store, StoreDown

#: Seconds without a sign of life after which a gateway's open requests are released.
LEASE = 30.0
#: Looks that this takes at least: after a pause, such as of the store, all may show life first.
LOOKS = 10
#: Nano-dollars that a tenant's month holds at most, so that no sum outgrows 64 bits.
LARGEST = 10**18


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

    @property
    def refused(self) -> int:
        """What the tenant's own rules have wasted."""
        return self.waste if self.how == "refused" else 0


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
    month, budget = month_of(ask.at), ask.budget or LARGEST
    row = db.execute("select state, once from meter where request = ?", (ask.request,)).fetchone()
    if row and row[0] != "released":
        raise Repeated(row[0] if row[1] == ask.once else "other")
    db.execute(
        "insert into spend (tenant, month) values (?, ?) on conflict do nothing",
        (ask.tenant, month),
    )
    taken = db.execute(
        "update spend set reserved = reserved + ? where tenant = ? and month = ?"
        " and settled + reserved + refused + ? <= ? and settled + reserved + waste + ? <= ?",
        (ask.most, ask.tenant, month, ask.most, budget, ask.most, LARGEST),
    )
    if not taken.rowcount:
        raise OverBudget(f"{ask.most} nano-dollars are not left of {budget}.")
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
    db: Database,
    request: str,
    owner: str,
    waste: int = 0,
    how: str = "failed",
    guessed: int = 0,
    undo: bool = False,
) -> bool:
    """Bill nothing for a request; False if it is not open any more.

    Parameters
    ----------
    undo : bool
        Whether it may have been settled: where the store did not say, its answer did not leave.
    """
    return _close(db, request, owner, "released", Bill("", 0, 0, 0, how, waste, guessed), undo)


def _close(
    db: Database, request: str, owner: str, state: str, bill: Bill, undo: bool = False
) -> bool:
    """Let a request's state and its tenant's sums change together."""
    row = db.execute(
        "select state, tenant, month, at, reserved, cost, how, waste from meter"
        " where request = ? and owner = ? and state in ('open', ?)",
        (request, owner, "settled" if undo else "open"),
    ).fetchone()
    if row is None:
        return False
    was, tenant, month, at, reserved, *before = row
    old = Bill("", 0, 0, *before)
    changed = db.execute(
        "update meter set state = ?, model = case when ? = '' then model else ? end,"
        " tokens_in = ?, tokens_out = ?, cost = ?, how = ?, waste = ?, guessed = ?"
        " where request = ? and owner = ? and state = ?",
        (state, bill.model, *bill, request, owner, was),
    )
    if not changed.rowcount:
        return False  # another gateway was quicker
    if was == "settled":
        db.execute("delete from answers where request = ?", (request,))
    more, kept = bill.cost - old.cost, reserved if was == "open" else 0
    db.execute(
        "update spend set settled = settled + ?, reserved = reserved - ?, waste = waste + ?,"
        " refused = refused + ? where tenant = ? and month = ?",
        (more, kept, bill.waste - old.waste, bill.refused - old.refused, tenant, month),
    )
    if more:
        db.execute(
            "insert into hours values (?, ?, ?) on conflict (tenant, hour)"
            " do update set cost = hours.cost + excluded.cost",
            (tenant, int(at // 3600), more),
        )
    return True


def beat(db: Database, owner: str, sign: int) -> dict[str, int]:
    """Give a sign of life; return the last one of each gateway that lives or left something open.

    A sign is a number that counts on: clocks of two machines are never compared.
    """
    db.execute(
        "insert into owners values (?, ?) on conflict (owner) do update set beat = excluded.beat",
        (owner, sign),
    )
    left = "select owner, 0 as beat from meter where state = 'open'"
    signs = f"{left} union all select owner, beat from owners"
    rows = db.execute(f"select owner, max(beat) from ({signs}) as signs group by owner")
    return dict(rows.fetchall())


def left_open(db: Database, owner: str, sign: int) -> list[tuple[str, str]]:
    """Return request and tenant of what a gateway has open, and forget it; nothing if it lives."""
    now = db.execute("select beat from owners where owner = ?", (owner,)).fetchone()
    if now and now[0] != sign:
        return []
    db.execute("delete from owners where owner = ?", (owner,))
    rows = db.execute(
        "select request, tenant from meter where owner = ? and state = 'open'", (owner,)
    )
    return rows.fetchall()


def recover(db: Database) -> int:
    """Release whatever is open, where no gateway lives any more; return how many."""
    rows = db.execute("select request, owner from meter where state = 'open' order by tenant")
    return sum(release(db, *row, how="killed") for row in rows.fetchall())


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


def months(db: Database, tenant: str) -> list[tuple[str, int, int]]:
    """Return a tenant's months, the newest first: name, cost and what is still reserved."""
    found = "select month, settled, reserved from spend where tenant = ? order by month desc"
    return db.execute(found, (tenant,)).fetchall()


def final(month: str, reserved: int, now: float) -> bool:
    """Say whether a month's bill can no longer change.

    A request is billed in the month in which it began. So a bill is final when the month has been
    over for an hour (clocks differ) and nothing of it is open any more.
    """
    return month < month_of(now - 3600) and not reserved


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
    patience : callable
        Seconds that only go on, by which other gateways' silence is measured.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        patience: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.clock, self.owner = store, clock, uuid.uuid4().hex
        self._patience, self._looked, self._sign = patience, patience(), 0
        self._silent: dict[str, tuple[int, float]] = {}
        self._tenants: dict[str, str] = {}
        self._doubted: set[str] = set()
        self._later: dict[str, tuple[int, str, int]] = {}

    async def reserve(self, ask: Ask) -> int:
        """Open a request as :func:`reserve`; :class:`StoreDown` if that is not on disk.

        Given up while it waits, it is released as soon as it is open.
        """
        if ask.request in self._later:
            await self.release(ask.request, *self._later.pop(ask.request))
        opened = self.store.submit(reserve, ask, self.owner, order=ask.tenant)
        try:
            spent = await asyncio.shield(asyncio.wrap_future(opened))
        except asyncio.CancelledError:
            undo = (release, ask.request, self.owner, 0, "left")
            opened.add_done_callback(lambda done: done.exception() or self.store.submit(*undo))
            raise
        except StoreDown:
            self._later[ask.request] = 0, "failed", 0  # it may be open all the same
            raise
        self._tenants[ask.request] = ask.tenant
        return spent

    async def free(self, ask: Ask, bill: Bill, kept: Kept | None = None) -> None:
        """Record a request as :func:`free_of_charge`."""
        await self.store.do(free_of_charge, ask, self.owner, bill, kept, order=ask.tenant)

    async def settle(self, request: str, bill: Bill, kept: Kept | None = None) -> bool:
        """Bill a request as :func:`settle`; :class:`StoreDown` if that is not on disk."""
        order = self._tenants.get(request, "")
        try:
            done = await self.store.do(settle, request, self.owner, bill, kept, order=order)
        except StoreDown:
            self._doubted.add(request)
            raise
        self._tenants.pop(request, None)
        return done

    async def release(
        self, request: str, waste: int = 0, how: str = "failed", guessed: int = 0
    ) -> None:
        """Bill nothing for a request; while the store is down, this is kept for later."""
        given = (request, self.owner, waste, how, guessed, request in self._doubted)
        try:
            await self.store.do(release, *given, order=self._tenants.get(request, ""))
        except StoreDown:
            self._later[request] = waste, how, guessed
        else:
            self._doubted.discard(request)
            self._tenants.pop(request, None)

    async def live(self) -> int:
        """Give a sign of life, catch up, and release what dead gateways left; return how many."""
        self._sign += 1
        signs = await self.store.do(beat, self.owner, self._sign)
        for request in [*self._later]:
            await self.release(request, *self._later.pop(request))
        await self.store.do(forget, self.clock())
        released = 0
        for owner in self._dead(signs):
            for request, tenant in await self.store.do(left_open, owner, signs[owner]):
                given = (request, owner, 0, "killed")
                released += await self.store.do(release, *given, order=tenant)
        return released

    def _dead(self, signs: Mapping[str, int]) -> list[str]:
        """Return who has shown the same sign for as long as a lease, in looks that were close."""
        now = self._patience()
        since, self._looked = min(now - self._looked, LEASE / LOOKS), now
        before, self._silent = self._silent, {}
        for owner, sign in signs.items():
            same = owner in before and before[owner][0] == sign
            self._silent[owner] = sign, (before[owner][1] + since if same else 0.0)
        return [owner for owner, (_, silent) in self._silent.items() if silent >= LEASE]
