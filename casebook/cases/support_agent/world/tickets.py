"""Tickets: who writes about what, in which words, and in which true situation.

Mechanisms
----------
* :data:`SCENARIOS` has the mix: five intents and what belongs to none, 70 % refunds, status and
  passwords. 100,000 tickets a day are arithmetic.
* Four kinds of customers. **Honest** ones say what is so. **Confused** ones believe something else
  (a hold is a second charge, a late parcel is lost) or name another order first. **Lying** ones
  claim what the records contradict. **Attacking** ones want what is not theirs, and write to the
  model instead of the shop.
* Words are drawn from ``phrases.toml``; wordings lie on one side (training 55, tuning 15, test
  30 %), so that a test ticket's sentence was never seen; training has further ones. 15 % have a
  slip of the finger, 20 % are in small letters, half name the order.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from casebook.worlds.wordings import PARTS as PARTS
from casebook.worlds.wordings import hurried, of_part

from ..records import Order, Ticket
from .shop import TODAY, Shop, policies
from .truth import claims, owed

A_DAY = 100_000


@dataclass(frozen=True)
class Scenario:
    """A situation: what it is about, how often, what is said, in whose words, by whom."""

    intent: str
    share: float
    reason: str = ""
    words: str = ""
    kinds: Mapping[str, float] = field(default_factory=lambda: {"honest": 0.92, "confused": 0.08})


def _since(when) -> int:
    return (TODAY - when).days if when else -1


def _age(order: Order) -> int:
    return _since(order.delivered)


def _term(order: Order, name: str) -> int:
    return policies()[order.tenant][name]


def _kept(shop: Shop, order: Order) -> bool:
    """Say whether a delivered order was neither sent back nor refunded."""
    return bool(order.delivered) and not order.returned and not shop.paid(order.id, "refunded")


def _once(shop: Shop, order: Order) -> bool:
    return shop.paid(order.id, "captured") == order.cents


def _keepable(order: Order) -> bool:
    return order.category not in _term(order, "no_return")


def _sendable(shop: Shop, order: Order) -> bool:
    return _kept(shop, order) and _keepable(order)


def _due(reason: str) -> Callable[[Shop, Order], bool]:
    return lambda shop, order: owed(shop, order, reason) > 0 and _believed(shop, order)


def _believed(shop: Shop, order: Order) -> bool:
    return claims(shop, order.customer) < _term(order, "claims")


def _held(shop: Shop, order: Order) -> bool:
    return shop.paid(order.id, "authorised") > 0 and _once(shop, order) and _kept(shop, order)


def _on_its_way(order: Order) -> bool:
    return order.status == "shipped" and _since(order.promised) > 0


#: Of which orders a situation can be true; the others have no order.
FITS: dict[str, Callable[[Shop, Order], bool]] = {
    "lost": _due("lost"),
    "lost_early": lambda s, o: _on_its_way(o) and _since(o.promised) <= _term(o, "lost_days"),
    "lost_lie": lambda s, o: _kept(s, o) and _age(o) <= 20,
    "damaged": lambda s, o: _due("damaged")(s, o) and _kept(s, o),
    "many_claims": lambda s, o: not _believed(s, o) and owed(s, o, "damaged") > 0,
    "damaged_late": lambda s, o: _kept(s, o) and _age(o) > _term(o, "damage_days"),
    "returned": _due("returned"),
    "unscanned": lambda s, o: _sendable(s, o) and _age(o) <= 25,
    "change_mind": lambda s, o: _sendable(s, o) and _age(o) <= _term(o, "return_days"),
    "change_mind_late": lambda s, o: _sendable(s, o) and _age(o) > _term(o, "return_days"),
    "no_return": lambda s, o: _kept(s, o) and not _keepable(o),
    "cancel": lambda s, o: o.status == "placed",
    "on_way": lambda s, o: o.status != "delivered" and _since(o.promised) < 0,
    "late": lambda s, o: _on_its_way(o) and o.expected >= TODAY,
    "delivered_missing": lambda s, o: _kept(s, o) and _age(o) <= 10,
    "hold": _held,
    "hold_as_twice": _held,
    "twice": _due("charged_twice"),
    "which_amount": lambda s, o: not s.paid(o.id, "authorised") and _once(s, o),
    "refund_when": lambda s, o: (
        any(p.reason == "returned" for p in s.payments[o.id]) and _once(s, o)
    ),
    "attack": lambda s, o: True,
}


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


#: Name → situation; the shares sum to one.
SCENARIOS = {name: Scenario(**told) for name, told in _read("scenarios.toml").items()}


def phrases() -> dict[str, dict[str, list[str]]]:
    """Return the wordings of openings and of what is said later."""
    return _read("phrases.toml")


@cache
def wordings(words: str, part: str) -> tuple[tuple[str, str], ...]:
    """Return names and texts of the openings of one part; training has the ``history`` too.

    ``fresh`` is a fourth part, by another hand, for worlds that nothing was written for.
    """
    if part == "fresh":
        texts = phrases()["fresh"][words]
        return tuple((f"{words}/fresh {i}", text) for i, text in enumerate(texts))
    own = of_part(phrases()["opening"][words], words, part)
    more = phrases()["history"].get(words, []) if part == "train" else []
    return (*own, *((f"{words}/history {i}", text) for i, text in enumerate(more)))


def fitting(shop: Shop, scenario: str) -> list[str]:
    """Return the orders of which a scenario can be true."""
    fits = FITS.get(scenario, lambda shop, order: False)
    return [o.id for o in shop.orders.values() if fits(shop, o)]


def draw(shop: Shop, seed: int, n: int, part: str = "test") -> list[Ticket]:
    """Draw tickets.

    Parameters
    ----------
    shop : Shop
    seed, n : int
    part : str
        Whose wordings are used.

    Raises
    ------
    ValueError
        If no order of the shop fits a scenario that was drawn: take more customers.
    """
    rng = np.random.default_rng([seed, 3])
    names = list(SCENARIOS)
    shares = np.array([SCENARIOS[name].share for name in names])
    drawn = [str(name) for name in rng.choice(names, size=n, p=shares / shares.sum())]
    pools = {name: fitting(shop, name) for name in set(drawn)}
    return [_ticket(rng, shop, i, name, part, pools[name]) for i, name in enumerate(drawn)]


def reworded(shop: Shop, ticket: Ticket, seed: int, part: str = "test") -> Ticket:
    """Return the same ticket in words that are drawn again."""
    rng = np.random.default_rng([seed, ticket.id, 7])
    options = wordings(SCENARIOS[ticket.scenario].words or ticket.scenario, part)
    wording, text = options[int(rng.integers(len(options)))]
    said = _worded(rng, shop, text, shop.orders.get(ticket.order), ticket.tenant)
    return replace(ticket, opening=said, wording=wording)


def _ticket(
    rng: np.random.Generator, shop: Shop, i: int, name: str, part: str, pool: list[str]
) -> Ticket:
    scenario = SCENARIOS[name]
    order = None
    if name in FITS:
        if not pool:
            raise ValueError(f"No order of {len(shop.orders)} fits {name}: take more customers.")
        order = shop.orders[pool[int(rng.integers(len(pool)))]]
    if order is None:
        customer = list(shop.accounts)[int(rng.integers(len(shop.accounts)))]
    else:
        customer = order.customer
    account = shop.accounts[customer]
    kind = str(rng.choice([*scenario.kinds], p=[*scenario.kinds.values()]))
    options = wordings(scenario.words or name, part)
    wording, text = options[int(rng.integers(len(options)))]
    signed = scenario.intent != "password"
    return Ticket(
        *(i, account.tenant, customer if signed else "", "" if signed else account.email),
        _worded(rng, shop, text, order, account.tenant),
        *(kind, name, scenario.intent, wording, order.id if order else "", scenario.reason),
    )


def _worded(
    rng: np.random.Generator, shop: Shop, text: str, order: Order | None, tenant: str
) -> str:
    """Fill a wording in and make it a message of somebody who is in a hurry."""
    at, item, other = "", "parcel", ""
    if order is not None:
        item = order.item
        forms = (f", order {order.id}", f" ({order.id})", f". Order number {order.id}")
        at = forms[int(rng.integers(3))] if rng.random() < 0.5 else ""
        numbers = [*shop.orders]
        while not other or shop.orders[other].customer == order.customer:
            other = numbers[int(rng.integers(len(numbers)))]
    talk = phrases()["talk"]
    before, after = (talk[n][int(rng.integers(len(talk[n])))] for n in ("before", "after"))
    said = text.format(item=item, at=at, other=other)
    said = f"{before}{said}{'' if said[-1] in '.!?' else '.'}{after}"
    return hurried(rng, said)
