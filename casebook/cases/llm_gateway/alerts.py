"""What a tenant should hear of: a key in new hands, unusual spending, a cheaper way.

*A key used from a new place.* The networks from which a key is used are kept (an address without
its last part). In its first day a key may learn any; a new one after that is an alert, once: keys
leak into repositories and logs, and whoever finds one asks from elsewhere. Behind a proxy, its
server has to be told to trust that one's headers (``uvicorn --forwarded-allow-ips``).

*Unusual spending.* This hour is held against the tenant's own hours of two weeks: an alert when
it costs more than twice the dearest of them. Sizes of tenants differ a thousandfold, so that no
threshold in dollars serves all. With hours that spread log-normally by 0.6 around office hours,
that is one false alert in ten months of a tenant, and whoever spends twenty working hours' money
in one is seen in it.

*Advice.* For each model that a tenant uses: what the month would have cost with a cheaper one that
it may ask too. Whether that one is good enough the tenant's own requests must say.

Examples
--------
>>> network("203.0.113.77"), network("2001:db8:1:2::3")
('203.0.113.0/24', '2001:db8:1::/48')
>>> unusual(100, 10, 21), unusual(100, 10, 20), unusual(0, 0, 10**9)
(True, False, False)
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from casebook.cases.llm_gateway.config import Config
from casebook.cases.llm_gateway.meter import Line
from casebook.cases.llm_gateway.store import Database, Store
from casebook.serving.api_keys import Key

#: Seconds in which a key learns from where it is used, and hours that spending is compared with.
LEARNS, HOURS, HOUR = 86_400.0, 14 * 24, 3600.0
#: Hours of a tenant's past without which there is nothing to compare with, and the factor.
LEAST, FACTOR = 72, 2.0
#: Seconds between two looks at what is spent.
LOOK = 60.0
ORIGIN, SPENDING = "new origin", "unusual spending"


class Alert(NamedTuple):
    """What happened to a tenant, and what its administrator may do."""

    tenant: str
    at: float
    kind: str
    what: str
    do: str


@lru_cache(10_000)
def network(address: str) -> str:
    """Return the network of an address: enough to know a place by, and not a person."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    bits = 24 if found.version == 4 else 48
    return str(ipaddress.ip_network(f"{found}/{bits}", strict=False))


def used_from(db: Database, key: str, known: Key, place: str, now: float) -> Alert | None:
    """Note a place from which a key is used; return an alert if the key had settled elsewhere.

    Parameters
    ----------
    key : str
        The hash of the key.
    """
    first = db.execute("select min(first) from origins where hash = ?", (key,)).fetchone()[0]
    added = db.execute(
        "insert into origins values (?, ?, ?) on conflict do nothing", (key, place, now)
    )
    if not added.rowcount or first is None or now - first < LEARNS:
        return None
    what = f"The key {key[:12]} ({known.label or 'without a label'}) was used from {place}."
    alert = Alert(known.tenant, now, ORIGIN, what, "Rotate it, unless you moved.")
    return _added(db, alert)


def _added(db: Database, alert: Alert) -> Alert:
    db.execute("insert into alerts values (?, ?, ?, ?, ?)", alert)
    return alert


def unusual(hours: int, dearest: int, now: int) -> bool:
    """Say whether an hour's spending is unusual against so many before it and their dearest."""
    return hours >= LEAST and now > FACTOR * dearest


def spending(db: Database, now: float) -> list[Alert]:
    """Return new alerts about this hour's spending; a tenant has one a day at most."""
    found, this = [], int(now // HOUR)
    rows = db.execute(
        "select now.tenant, now.cost, max(past.cost), min(past.hour) from hours as now"
        " join hours as past on past.tenant = now.tenant and past.hour < ? and past.hour >= ?"
        " where now.hour = ? group by now.tenant, now.cost",
        (this, this - HOURS, this),
    ).fetchall()
    recent = "select count(*) from alerts where tenant = ? and kind = ? and at > ?"
    for tenant, cost, dearest, first in rows:
        asked = (tenant, SPENDING, now - 24 * HOUR)
        if not unusual(this - first, dearest, cost) or db.execute(recent, asked).fetchone()[0]:
            continue
        dollars, most = cost / 10**9, dearest / 10**9
        what = f"This hour cost ${dollars:.2f}, the dearest of {this - first} before ${most:.2f}."
        do = "Look at usage by model, and at who has the keys."
        found.append(_added(db, Alert(tenant, now, SPENDING, what, do)))
    return found


class Watch:
    """What one gateway has seen of its keys and has not looked at yet."""

    def __init__(self) -> None:
        self._places: set[tuple[str, str]] = set()
        self._notes: deque[tuple[str, Key, str, float]] = deque(maxlen=10_000)
        self._looked = 0.0

    def note(self, digest: str, key: Key, address: str, now: float) -> None:
        """Keep from which network a key was used, until the next look."""
        place = network(address) if address else ""
        if place and (digest, place) not in self._places:
            if len(self._places) > 100_000:
                self._places.clear()
            self._places.add((digest, place))
            self._notes.append((digest, key, place, now))

    async def look(self, store: Store, now: float) -> list[Alert]:
        """Return what is new in the places of keys, and once in :data:`LOOK` in what is spent."""
        found = []
        if now >= self._looked + LOOK:
            self._looked, found = now, await store.do(spending, now)
        while self._notes:
            alert = await store.do(used_from, *self._notes[0])
            self._notes.popleft()
            found += [alert] if alert else []
        return found


def alerts(db: Database, tenant: str, most: int = 50) -> list[Alert]:
    """Return a tenant's alerts, the newest first."""
    rows = db.execute(
        "select * from alerts where tenant = ? order by at desc limit ?", (tenant, most)
    )
    return [Alert(*row) for row in rows]


class Advice(NamedTuple):
    """A model, a cheaper one that the tenant may ask, and the saving in nano-dollars."""

    model: str
    cheaper: str
    saving: int


def advice(config: Config, tenant: str, lines: Sequence[Line]) -> list[Advice]:
    """Return what a tenant might save with its month's usage, the largest saving first.

    Parameters
    ----------
    lines : sequence of Line
        Of the month's invoice.
    """
    found = []
    for line in lines:
        used = (line.tokens_in, line.tokens_out)
        others = {name: config.model[name].cost(*used) for name in config.tenant[tenant].models}
        cheapest = min(others, key=others.__getitem__)
        if line.cost > others[cheapest] and cheapest != line.model:
            found.append(Advice(line.model, cheapest, line.cost - others[cheapest]))
    return sorted(found, key=lambda one: -one.saving)
