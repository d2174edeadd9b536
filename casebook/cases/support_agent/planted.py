"""Bugs, each planted into one place of the policy engine: what the hunt has to find.

Each rule of the policy is left out once, and each other bug is a few lines, as it would be in real
code: a rule that looks at one call alone, an edge that is off by one, a window where none belongs.
Those in the steps are the toolbox's. What no attack can show, since another layer refuses it first,
stands in :data:`HIDDEN`, with that layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import pandas as pd

from casebook.cases.support_agent import policy
from casebook.cases.support_agent.attacks import hunt
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.policy import MONTH, RULES, Asked, Facts
from casebook.cases.support_agent.records import Order, Payment
from casebook.serving.planted_steps import STEPS
from casebook.serving.proposals import Verdict
from casebook.serving.red_team import first_found


class Without(Ledger):
    """Books with one rule left out."""

    def __init__(self, *given: Any, rule: str, **more: Any) -> None:
        super().__init__(*given, **more)
        self._rules = {k: [r for r in own if r.__name__ != rule] for k, own in RULES.items()}

    def decide(self, content: Mapping[str, Any], but: str = "") -> Verdict:
        asked = Asked(**content)
        return policy.decide(asked, self.facts(asked, but), self.terms[asked.tenant], self._rules)


class LimitPerCall(Ledger):
    """Limits of sums look at one refund alone, so that a large one can be split."""

    def facts(self, asked: Asked, but: str = "") -> Facts:
        found = super().facts(asked, but)
        return replace(found, past=[replace(one, by_person=True) for one in found.past])


class PastForgotten(Ledger):
    """What was paid for an order is forgotten after a month."""

    def facts(self, asked: Asked, but: str = "") -> Facts:
        found = super().facts(asked, but)
        return replace(found, past=[one for one in found.past if one.age < MONTH])


class PriceBelieved(Ledger):
    """What an order costs is taken for what was paid for it."""

    def facts(self, asked: Asked, but: str = "") -> Facts:
        found = super().facts(asked, but)
        if (order := found.order) is None or any(p.kind == "captured" for p in found.payments):
            return found
        paid = Payment("believed", order.id, "captured", order.cents, order.placed)
        return replace(found, payments=[paid], order=replace(order, delivered=found.today))


class WordBelieved(Ledger):
    """Who says that something was sent back is believed, without a scan."""

    def facts(self, asked: Asked, but: str = "") -> Facts:
        found = super().facts(asked, but)
        order: Order | None = found.order and replace(found.order, returned=found.order.delivered)
        return replace(found, order=order)


class OneDayMore(Ledger):
    """The last day of a window is counted wrongly."""

    def __init__(self, shop: Any, terms: Mapping[str, Any], *given: Any, **more: Any) -> None:
        longer = {t: replace(one, damage_days=one.damage_days + 1) for t, one in terms.items()}
        super().__init__(shop, longer, *given, **more)


#: Name on the page → books with that bug.
PLANTED: dict[str, Any] = {
    "owner not checked": partial(Without, rule="not_yours"),
    "no check of what is left": partial(Without, rule="too_much"),
    "blocked account not looked at": partial(Without, rule="blocked"),
    "dispute not looked at": partial(Without, rule="disputed"),
    "no limit of an order": partial(Without, rule="large_sum"),
    "no limit of a month": partial(Without, rule="large_month"),
    "number of refunds not counted": partial(Without, rule="many_refunds"),
    "claims not counted": partial(Without, rule="many_claims"),
    "no limit of a shop's day": partial(Without, rule="day_is_full"),
    "limit for each call alone": LimitPerCall,
    "refunds forgotten after a month": PastForgotten,
    "price taken for what was paid": PriceBelieved,
    "customer's word for a scan": WordBelieved,
    "window one day too long": OneDayMore,
    **{name: type(bug.__name__, (bug, Ledger), {}) for name, bug in STEPS.items()},
}
#: Rules whose absence no attack through the tools can show, and what refuses first.
HIDDEN = {"no_sum": "the types of the tool", "part_of_it": "nothing: half a hold is no money"}


def catches(
    seeds: Sequence[int] = range(3), budget: int = 600, only: Sequence[str] = ()
) -> pd.DataFrame:
    """Hunt for each planted bug, in six scenes a seed, until it shows; see :func:`.hunt`.

    Returns
    -------
    DataFrame
        ``bug``, ``seed``, and as of :func:`casebook.serving.red_team.first_found`.
    """
    rows = []
    for (bug, kind), seed in product(PLANTED.items(), seeds):
        found = first_found(hunt(budget, range(6 * seed, 6 * seed + 6), kind, True, only))
        rows.append({"bug": bug, "seed": seed} | found)
    return pd.DataFrame(rows)
