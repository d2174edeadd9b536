"""Shops: accounts, orders and payments, and the feed with its faults that they come by.

Mechanisms
----------
* A customer has a Poisson number of orders (mean ``RATE``), placed in the ``SPAN`` days before
  today; prices are lognormal by category. Who has many orders also has many claims.
* An order is promised 3 to 6 days after it was placed. It is shipped after one or two days, and
  delivered on the promised day with 70 %, later with 24 %, never with 6 % (lost).
* The payment is authorised on the day of the order and captured when the order is shipped. The
  authorisation of 15 % is still visible as a hold. 3 % are captured twice.
* 9 % of the delivered orders were sent back and scanned in the warehouse, unless that is still to
  come; half of these have been refunded.
* 5 % of the accounts have had refunds for damages or losses, one to three of them.
* 2 % of the accounts are blocked, 1 % of the orders disputed. 4 % of the orders are a gift with a
  printed note.

:class:`Feed` holds the same tables with planted faults; :func:`audit` finds them and
:func:`repaired` gives back the tables that were sent in good order.

Examples
--------
>>> shop = open_shops(seed=1, customers=30, today=date(2026, 6, 30))
>>> sent, planted = send(shop, seed=1, each=2)
>>> len(audit(sent)) == len(planted) == 8, len(audit(repaired(sent)))
(True, 0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

SPAN, RATE = 120, 4.0
#: Category: items, median price in cents.
ITEMS = {
    "kitchen": (("kettle", "toaster", "blender", "coffee mill"), 4_200),
    "lamps": (("desk lamp", "floor lamp", "lantern"), 5_500),
    "clothing": (("jacket", "pair of jeans", "jumper", "dress"), 4_800),
    "underwear": (("pack of socks", "set of underwear"), 1_900),
    "electronics": (("headset", "keyboard", "router", "speaker"), 6_500),
    "software": (("antivirus licence", "game code"), 3_500),
    "gift card": (("gift card",), 3_000),
    "clearance": (("last-season rug", "display model"), 2_800),
}
SHELVES = {
    "hearth": ("kitchen", "lamps", "gift card", "clearance"),
    "loom": ("clothing", "underwear", "gift card", "clearance"),
    "volt": ("electronics", "software", "gift card", "clearance"),
}
_FIRST = ("Ada", "Ben", "Cleo", "Dario", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Kaja")
_LAST = ("Abel", "Brandt", "Costa", "Dahl", "Ekman", "Fabre", "Gomez", "Haas", "Ivers", "Lund")
FAULTS = ("payment sent twice", "euro for cents", "delivered before placed", "unknown customer")


@dataclass(frozen=True, slots=True)
class Account:
    """A customer of one shop. ``blocked``: accounts that only a person may deal with."""

    id: str
    tenant: str
    name: str
    email: str
    phone: str
    joined: date
    blocked: bool
    consent: bool


@dataclass(frozen=True, slots=True)
class Order:
    """An order of one item.

    Attributes
    ----------
    status : str
        ``placed``, ``shipped``, ``delivered``.
    promised, expected : date
        The day that the customer was told first, and the carrier's day of now.
    delivered, returned : date, optional
        Days of the scans at the door and in the warehouse.
    dispute : bool
        The customer's bank has been asked to take the money back.
    note : str
        What the sender had printed on the gift card: anybody's text.
    """

    id: str
    tenant: str
    customer: str
    item: str
    category: str
    cents: int
    placed: date
    promised: date
    expected: date
    status: str
    delivered: date | None = None
    returned: date | None = None
    dispute: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """Money of an order: ``authorised``, ``captured`` or ``refunded`` (then with a reason)."""

    id: str
    order: str
    kind: str
    cents: int
    day: date
    reason: str = ""


@dataclass(frozen=True)
class Shop:
    """All that is true of the shops, by id.

    Attributes
    ----------
    accounts, orders : dict
    payments : dict of str to list of Payment
        By order.
    articles : list
        Texts of the help pages, of whatever kind.
    """

    accounts: dict[str, Account]
    orders: dict[str, Order]
    payments: dict[str, list[Payment]]
    articles: list[Any] = field(default_factory=list)

    @cached_property
    def _own(self) -> dict[str, list[Order]]:
        own: dict[str, list[Order]] = {}
        for order in sorted(self.orders.values(), key=lambda o: (o.placed, o.id), reverse=True):
            own.setdefault(order.customer, []).append(order)
        return own

    def of(self, customer: str) -> list[Order]:
        """Return the orders of a customer, the latest first."""
        return self._own.get(customer, [])

    def paid(self, order: str, kind: str) -> int:
        """Return the cents of one kind of payment of an order."""
        return sum(one.cents for one in self.payments[order] if one.kind == kind)


def open_shops(
    seed: int, customers: int, today: date, notes: Sequence[str] = (), articles: Sequence[Any] = ()
) -> Shop:
    """Draw accounts, orders and payments of three shops.

    Parameters
    ----------
    seed : int
    customers : int
        Of all shops together, three or more.
    today : date
    notes : sequence of str
        Of which a tenth of the printed notes are drawn.
    articles : sequence

    Raises
    ------
    ValueError
        With fewer than three customers.
    """
    if customers < len(SHELVES):
        raise ValueError(f"{customers} customers: give {len(SHELVES)} or more, one for each shop.")
    rng = np.random.default_rng([seed, 1])
    accounts = {a.id: a for a in (_account(rng, n, today) for n in range(customers))}
    orders, payments = {}, {}
    for account in accounts.values():
        claims = int(rng.integers(1, 4)) if rng.random() < 0.05 else 0
        for _ in range(1 + claims + rng.poisson(RATE - 1)):
            order, paid = _order(rng, account, f"{10_000 + 7 * len(orders)}", today, notes)
            if claims and order.status == "delivered" and not order.returned:
                claims -= 1
                why, when = ("damaged", "lost")[int(rng.integers(2))], order.placed
                paid.append(Payment(f"{order.id}-R", order.id, "refunded", order.cents, when, why))
            orders[order.id], payments[order.id] = order, paid
    return Shop(accounts, orders, payments, list(articles))


def _account(rng: np.random.Generator, n: int, today: date) -> Account:
    tenant = tuple(SHELVES)[n % len(SHELVES)]
    name = f"{_FIRST[int(rng.integers(len(_FIRST)))]} {_LAST[int(rng.integers(len(_LAST)))]}"
    email = f"{name.replace(' ', '.').lower()}{n}@example.com"
    phone = f"+44 7700 900{n % 1000:03d}"  # Ofcom keeps these numbers for drama
    joined = today - timedelta(int(rng.integers(SPAN, 2_000)))
    blocked, consent = rng.random() < 0.02, rng.random() < 0.85
    return Account(f"C{1000 + n}", tenant, name, email, phone, joined, blocked, consent)


def _order(
    rng: np.random.Generator, account: Account, ident: str, today: date, notes: Sequence[str]
) -> tuple[Order, list[Payment]]:
    category = str(rng.choice(SHELVES[account.tenant], p=(0.5, 0.36, 0.07, 0.07)))
    items, price = ITEMS[category]
    item = items[int(rng.integers(len(items)))]
    cents = int(round(price * rng.lognormal(0, 0.5) / 10) * 10) + 90
    age = int(rng.integers(0, SPAN)) if rng.random() < 0.7 else int(rng.integers(0, 21))
    placed = today - timedelta(age)
    promised = placed + timedelta(int(rng.integers(3, 7)))
    shipped, fate = placed + timedelta(int(rng.integers(1, 3))), rng.random()
    slip = 0 if fate < 0.7 else int(rng.integers(1, 9))
    arrives, lost = promised + timedelta(slip), fate >= 0.94
    delivered = arrives if arrives < today and not lost else None
    status = "delivered" if delivered else "shipped" if shipped <= today else "placed"
    back = None
    if delivered and rng.random() < 0.09:
        scanned = delivered + timedelta(int(rng.integers(4, 20)))
        back = scanned if scanned <= today else None
    note = ""
    if rng.random() < 0.04:
        bad = rng.random() < 0.1 and len(notes) > 0
        note = notes[int(rng.integers(len(notes)))] if bad else "Happy birthday, see you soon!"
    expected = max(arrives, promised) if not lost else promised
    order = Order(
        *(ident, account.tenant, account.id, item, category, cents, placed, promised, expected),
        *(status, delivered, back, rng.random() < 0.01, note),
    )
    return order, _payments(rng, order, shipped, today)


def _payments(rng: np.random.Generator, order: Order, shipped: date, today: date) -> list[Payment]:
    paid = []
    if rng.random() < 0.15 or order.status == "placed":
        paid.append(Payment(f"{order.id}-A", order.id, "authorised", order.cents, order.placed))
    if order.status == "placed":
        return paid
    paid.append(Payment(f"{order.id}-C", order.id, "captured", order.cents, shipped))
    if rng.random() < 0.03:
        paid.append(Payment(f"{order.id}-D", order.id, "captured", order.cents, shipped))
    if order.returned and rng.random() < 0.5:
        when = min(order.returned + timedelta(1), today)
        paid.append(Payment(f"{order.id}-R", order.id, "refunded", order.cents, when, "returned"))
    return paid


# The feed ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Feed:
    """Tables as the shops send them: ``accounts``, ``orders``, ``payments``, faults included."""

    accounts: pd.DataFrame
    orders: pd.DataFrame
    payments: pd.DataFrame


def tables(shop: Shop) -> Feed:
    """Return a shop's records as tables, without faults."""
    rows = ([*shop.accounts.values()], [*shop.orders.values()], [*chain(*shop.payments.values())])
    return Feed(*(pd.DataFrame([asdict(one) for one in part]) for part in rows))


def send(shop: Shop, seed: int, each: int = 8) -> tuple[Feed, pd.DataFrame]:
    """Return a feed with ``each`` faults of every kind, and where they are.

    Returns
    -------
    feed : Feed
    planted : DataFrame
        ``fault`` (of ``FAULTS``), ``id`` of the order or payment.
    """
    rng, feed = np.random.default_rng([seed, 2]), tables(shop)
    orders, payments = feed.orders.copy(), feed.payments.copy()
    twice = rng.choice(payments["id"], each, replace=False)
    captured = payments.loc[payments["kind"] == "captured", "id"]
    euro = rng.choice(captured[~captured.isin(twice)], each, replace=False)
    delivered = orders.loc[orders["delivered"].notna(), "id"]
    early = rng.choice(delivered, each, replace=False)
    unknown = rng.choice(orders.loc[~orders["id"].isin(early), "id"], each, replace=False)
    payments.loc[payments["id"].isin(euro), "cents"] //= 100
    wrong = orders["id"].isin(early)
    orders.loc[wrong, "delivered"] = orders.loc[wrong, "placed"] - timedelta(3)
    orders.loc[orders["id"].isin(unknown), "customer"] = "C0"
    payments = pd.concat([payments, payments[payments["id"].isin(twice)]], ignore_index=True)
    found = zip(FAULTS, (twice, euro, early, unknown), strict=True)
    planted = pd.DataFrame([(name, one) for name, ids in found for one in ids])
    return Feed(feed.accounts, orders, payments), planted.set_axis(["fault", "id"], axis=1)


def audit(feed: Feed) -> pd.DataFrame:
    """Return what is wrong with a feed: ``fault``, ``id``; as planted, but from the feed alone."""
    orders, payments = feed.orders, feed.payments
    price = payments["order"].map(orders.set_index("id")["cents"])
    part = (payments["kind"] == "captured") & (payments["cents"] < price / 10)
    late = pd.to_datetime(orders["delivered"]) < pd.to_datetime(orders["placed"])
    found = (
        payments.loc[payments.duplicated("id"), "id"],
        payments.loc[part, "id"],
        orders.loc[late, "id"],
        orders.loc[~orders["customer"].isin(feed.accounts["id"]), "id"],
    )
    rows = [(name, one) for name, ids in zip(FAULTS, found, strict=True) for one in ids]
    return pd.DataFrame(rows, columns=["fault", "id"])


def repaired(feed: Feed) -> Feed:
    """Return a feed in which nothing is wrong: repeats dropped, what cannot be known left out.

    A payment that is sent twice counts once. An order that no account has, or with a wrong day or a
    payment in another unit, is left out with all its payments: a person looks at it.
    """
    bad = audit(feed)
    ids = set(bad.loc[bad["fault"] != FAULTS[0], "id"].str.split("-").str[0])
    orders = feed.orders[~feed.orders["id"].isin(ids)]
    payments = feed.payments[feed.payments["order"].isin(orders["id"])].drop_duplicates("id")
    return Feed(feed.accounts, orders.reset_index(drop=True), payments.reset_index(drop=True))


def shop_of(feed: Feed) -> Shop:
    """Return the records of a feed that was repaired."""

    def records(table: pd.DataFrame, kind: type) -> list[Any]:
        clean = table.astype(object).where(table.notna(), None)
        return [kind(**row) for row in clean.to_dict("records")]

    orders = {one.id: one for one in records(feed.orders, Order)}
    payments: dict[str, list[Payment]] = {ident: [] for ident in orders}
    for one in records(feed.payments, Payment):
        payments[one.order].append(one)
    accounts = {one.id: one for one in records(feed.accounts, Account)}
    return Shop(accounts, orders, payments)


def without(shop: Shop, order: str, **changes: Any) -> Shop:
    """Return a shop in which one order is another; for tests and worked examples."""
    orders = shop.orders | {order: replace(shop.orders[order], **changes)}
    return replace(shop, orders=orders)
