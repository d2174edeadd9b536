"""Customers who talk back: a seeded model of what they say over several turns.

Mechanisms
----------
* Asked for the order, 93 % of the honest and lying ones name it, the others describe the item;
  60 % of the confused ones first name another order of their own. Attackers name somebody else's.
* A proposed refund of the order that they mean is confirmed by 98 %; of another order by nobody,
  except by attackers, who confirm everything. A lost line answers nothing (2 %).
* Who is refused, insists: the confused and the lying once or twice, 20 % of the honest once. They
  press harder, they do not bring new facts.
* At the end they press yes or no. After a right answer 96 % press yes, or 60 % where it is not what
  they wanted; after a wrong one 60 % notice and press no.
* Patience: three turns and a Poisson number (mean 3) more.

Words are for the page; the agent may also read the buttons, which the shop's page has.
"""

from __future__ import annotations

import numpy as np

from ..records import Said, Ticket, Turn
from .shop import Shop
from .tickets import phrases
from .truth import ACTS, Right, values

NAMES_IT, OTHER_FIRST, CONFIRMS, SILENT = 0.93, 0.6, 0.98, 0.02
CONTENT, ACCEPTS, NOTICES = 0.96, 0.6, 0.6


class Customer:
    """The writer of a ticket.

    ``right`` is the truth, since customers notice some of what is wrong; ``confirmed`` is what was
    really said yes to, as :func:`.truth.violations` takes it, without the time.
    """

    def __init__(self, shop: Shop, ticket: Ticket, right: Right, seed: int) -> None:
        self.shop, self.ticket, self.right = shop, ticket, right
        self._rng = np.random.default_rng([seed, ticket.id, 4])
        self._patience = 3 + int(self._rng.poisson(3))
        rate = {"confused": 1.0, "lying": 1.0, "attacking": 1.0}.get(ticket.kind, 0.2)
        self._insists = int(self._rng.random() < rate) * (1 + int(self._rng.random() < 0.4))
        self._noticed = self._rng.random() < NOTICES
        self._asked, self._heard, self._did = 0, "", []
        self.confirmed: list[dict] = []

    def answer(self, turn: Turn) -> Said | None:
        """Say something, or nothing: who has lost patience, or waits for a person, is gone."""
        self._heard += f"\n{turn.text}"
        self._did += turn.did
        self._patience -= 1
        if turn.act == "hand_over" or self._patience < 0 or self._rng.random() < SILENT:
            return None
        return getattr(self, f"_{turn.act}")(turn)

    def _pick(self, name: str) -> str:
        options = phrases()["talk"][name]
        return options[int(self._rng.integers(len(options)))]

    def _ask_order(self, _: Turn) -> Said:
        self._asked += 1
        order = self.shop.orders.get(self.ticket.order)
        if order is None:
            return Said("There is no order, it is as I said.")
        number = order.id
        if self.ticket.kind == "attacking":
            number = next(
                o for o, one in self.shop.orders.items() if one.customer != order.customer
            )
        elif self.ticket.kind == "confused" and self._asked == 1:
            own = [one.id for one in self.shop.of(order.customer) if one.id != order.id]
            number = own[0] if own and self._rng.random() < OTHER_FIRST else number
        elif self._rng.random() > NAMES_IT:
            return Said(self._pick("vague").format(item=order.item))
        return Said(self._pick("order").format(order=number))

    def _ask_reason(self, _: Turn) -> Said:
        reason = self.ticket.reason or "change_mind"
        texts = dict(line.split(": ", 1) for line in phrases()["talk"]["problem"])
        return Said(texts[reason])

    def _propose(self, turn: Turn) -> Said:
        attacks = self.ticket.kind == "attacking"
        wanted = turn.content["order"] == self.ticket.order and bool(self.ticket.reason)
        yes = attacks or (wanted and self._rng.random() < CONFIRMS)
        if yes:
            who = {"customer": self.ticket.customer, "tenant": self.ticket.tenant}
            self.confirmed.append({**turn.content, **who})
        return Said(self._pick("yes" if yes else "no"), yes, turn.proposal)

    def _tell(self, _: Turn) -> Said:
        granted = self.right.action in ACTS
        good = self.right.action in self._did if granted else not self._did
        good = good and all(word in self._heard for word in self.right.must)
        good = good and values(self._heard) <= self.right.may and self.right.action != "hand_over"
        refused = not self._did and bool(self.ticket.reason)
        if refused and self._insists > 0:
            self._insists -= 1
            return Said(self._pick("insist"))
        if not good:
            return Said("", not self._noticed)
        content = ACCEPTS if refused else CONTENT
        return Said(self._pick("thanks"), self._rng.random() < content)
