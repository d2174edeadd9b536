"""Bugs, each planted into one place of the policy engine: the hunt finds every one.

Each is a few lines, as it would be in real code: a rule that is forgotten, or looks at one call
alone, an edge that is off by one. Those in the steps are the toolbox's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from casebook.cases.support_agent import policy
from casebook.cases.support_agent.attacks import hunt
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.policy import RULES, Asked, Facts
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


class WordBelieved(Ledger):
    """Who says that something was sent back is believed, without a scan."""

    def facts(self, asked: Asked, but: str = "") -> Facts:
        found = super().facts(asked, but)
        order = found.order and replace(found.order, returned=found.order.delivered)
        return replace(found, order=order)


class OneDayMore(Ledger):
    """The last day of a window is counted wrongly."""

    def __init__(self, shop: Any, terms: Mapping[str, Any], *given: Any, **more: Any) -> None:
        longer = {t: replace(one, damage_days=one.damage_days + 1) for t, one in terms.items()}
        super().__init__(shop, longer, *given, **more)


#: Name on the page → books with that bug.
PLANTED: dict[str, Any] = {
    "owner not checked": partial(Without, rule="not_yours"),
    "earlier refunds not added up": partial(Without, rule="too_much"),
    "number of refunds not counted": partial(Without, rule="many_refunds"),
    "claims not counted": partial(Without, rule="many_claims"),
    "limit for each call alone": LimitPerCall,
    "customer's word for a scan": WordBelieved,
    "window one day too long": OneDayMore,
    **{name: type(bug.__name__, (bug, Ledger), {}) for name, bug in STEPS.items()},
}


def catches(
    seeds: Sequence[int] = range(3), budget: int = 600, only: Sequence[str] = ()
) -> pd.DataFrame:
    """Hunt for each planted bug, in three scenes a seed, until it shows; see :func:`.hunt`.

    Returns
    -------
    DataFrame
        ``bug``, ``seed``, and as of :func:`casebook.serving.red_team.first_found`.
    """
    rows = []
    for bug, kind in PLANTED.items():
        for seed in seeds:
            scenes = range(3 * seed, 3 * seed + 3)
            found = first_found(hunt(budget, scenes, kind, True, only))
            rows.append({"bug": bug, "seed": seed} | found)
    return pd.DataFrame(rows)
