"""World of case 17: three shops, their customers, what they write, and the people who answer.

:mod:`.shop` has accounts, orders, payments, articles and the faults of their feed; ``policy.toml``
the written refund policy as data; :mod:`.tickets` who writes what, in which true situation;
:mod:`.customers` what they say over several turns; :mod:`.truth` what is due, what is right, and
what was not allowed; :mod:`.people` human answers, waits, costs and satisfaction. The systems that
an agent calls time out, answer twice or late by :class:`casebook.worlds.unreliable.Unreliable`.

The world was frozen before anything was measured on it: ``frozen.toml`` has its fingerprint, and a
test compares.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import pandas as pd

from ..records import Ticket
from .shop import START as START
from .shop import TODAY as TODAY
from .shop import Feed, Shop, open_shop, policies, send
from .shop import clock as clock
from .tickets import A_DAY as A_DAY
from .tickets import draw, phrases
from .truth import Right, right
from .truth import judge as judge

CHAPTER = "17_support_agent"
#: Seeds of the chapter's shops, and of its tickets.
SEED, TICKET_SEED = 17, 1700
TICKETS = 3_000


@dataclass(frozen=True)
class World:
    """Shops, tickets, and what is right for each.

    Attributes
    ----------
    shop : Shop
    tickets : list of Ticket
    rights : list of Right
        One for each ticket; no system may see them.
    seed : int
        Of the tickets, and of what customers and people draw.
    """

    shop: Shop
    tickets: list[Ticket]
    rights: list[Right]
    seed: int


def simulate(
    seed: int = SEED,
    tickets: int = TICKETS,
    customers: int = 900,
    part: str = "test",
    ticket_seed: int | None = None,
) -> World:
    """Simulate the world; the same seed gives the same one.

    Parameters
    ----------
    part : str
        Side of the wordings: ``train``, ``tune`` or ``test``.
    ticket_seed : int, optional
        By default :data:`TICKET_SEED` for the chapter's world, the seed itself for others.
    """
    shop = open_shop(seed, customers)
    if ticket_seed is None:
        ticket_seed = TICKET_SEED if seed == SEED else seed
    drawn = draw(shop, ticket_seed, tickets, part)
    return World(shop, drawn, [right(shop, one) for one in drawn], ticket_seed)


def rows(world: World) -> pd.DataFrame:
    """Return tickets with what is right for them as a table."""
    made = []
    for ticket, true in zip(world.tickets, world.rights, strict=True):
        told = {"action": true.action, "cents": true.cents, "must": json.dumps(true.must)}
        made.append(asdict(ticket) | told)
    return pd.DataFrame(made)


def fingerprint(world: World) -> str:
    """Return the hash of a world: of its records, policy, articles, tickets and truth."""
    shop, made = world.shop, hashlib.sha256()
    parts = (*shop.accounts.values(), *shop.orders.values(), *shop.payments.items(), shop.articles)
    for part in (*parts, policies(), phrases()):
        made.update(repr(part).encode())
    for true in world.rights:
        made.update(repr((true.action, true.cents, true.must, sorted(true.may))).encode())
    made.update(rows(world).to_csv(index=False).encode())
    return made.hexdigest()


def feed(seed: int = SEED) -> tuple[Feed, pd.DataFrame]:
    """Return the feed of the shops with its faults, and where they are."""
    return send(open_shop(seed), seed)


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``make data`` writes: the faulty feed, where its faults are, tickets, truth."""
    sent, planted = feed()
    made = rows(simulate())
    seen = ["id", "tenant", "customer", "email", "opening"]
    return {
        "accounts.parquet": sent.accounts,
        "orders.parquet": sent.orders,
        "payments.parquet": sent.payments,
        "faults.parquet": planted,
        "tickets.parquet": made[seen],
        "truth.parquet": made.drop(columns=seen[1:]),
    }
