"""The ladder: the same tickets at people, at macros, at the agent, and at an oracle.

A rung is a gate and a planner; everything behind them (customers, policy, people who take over,
costs) is the same. :func:`play` runs tickets, :func:`summary` says what a rung is worth, with
intervals that resample wordings: they are what would be new next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

import pandas as pd

from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.agent import Support
from casebook.cases.support_agent.desk import Desk, Session
from casebook.cases.support_agent.ledger import Ledger, effects
from casebook.cases.support_agent.planner import Keywords, RulePlanner, _hand_over
from casebook.cases.support_agent.policy import Terms
from casebook.cases.support_agent.records import Episode, Said, Ticket, Turn
from casebook.cases.support_agent.world.customers import NOTICES, Customer
from casebook.cases.support_agent.world.people import COSTS, ERRORS, scored
from casebook.cases.support_agent.world.shop import START, Shop, policies
from casebook.cases.support_agent.world.tickets import SCENARIOS
from casebook.cases.support_agent.world.truth import ACTS, STAFF, Right, violations
from casebook.evaluate.intervals import cluster_table
from casebook.llm import Answer, ChatModel, Request, StandIn, ToolCall
from casebook.llm.reading import read
from casebook.retrieval.classify import Gate, ahead
from casebook.serving.agent import Parts
from casebook.serving.answer_review import review
from casebook.serving.quick_guard import attack
from casebook.worlds.people import Constants
from casebook.worlds.unreliable import Keyed

#: Tickets that the gate learns from, and that its threshold is chosen on; their world.
TRAIN, TUNE, TRAIN_SEED = 4_000, 1_500, 1_701

# Systems -----------------------------------------------------------------------------


@lru_cache(maxsize=1)
def terms() -> dict[str, Terms]:
    """Return the terms of each shop."""
    return {tenant: Terms.of(written) for tenant, written in policies().items()}


def ledger_of(
    shop: Shop,
    kind: Callable[..., Ledger] = Ledger,
    wrap: Callable = lambda call: call,
    **more: Any,
) -> tuple[Ledger, Keyed]:
    """Return fresh books and their payment provider, with a clock that counts calls from START.

    ``kind`` makes books, or ones with a planted bug; ``wrap`` puts faults before the provider.
    """
    ticks = count(int(START))
    clock = more.pop("clock", lambda: float(next(ticks)))
    provider = Keyed(clock)
    made = kind(shop, terms(), wrap(provider), STAFF, clock, look=provider.look, **more)
    return made, provider


class Macros(StandIn):
    """What an analyst writes in an afternoon: a text for each intent, from the help pages."""

    name, does = "macros", "sends the help article of the intent"
    QUERIES = {  # noqa: RUF012
        "refund": "How do I return something?",
        "order_status": "When is my order delivered?",
        "billing": "I see two amounts for one order",
    }

    def answer(self, request: Request) -> Answer:
        """Return the article of the intent; a link for passwords."""
        seen = read(request)
        if seen.told:
            return _hand_over("the customer is not content")
        if seen.intent == "password":
            done = seen.of("password_reset")
            return done[-1][1]["say"] if done else ToolCall("password_reset")
        done = seen.of("article_search")
        if not done:
            query = self.QUERIES.get(seen.intent, seen.said[0][:300])
            return ToolCall("article_search", {"query": query})
        own = [one for one in done[-1][1]["articles"] if one["by"] == "shop"]
        return own[0]["text"] if own else _hand_over("no article answers this")


class Retrieval(Macros):
    """The article that is nearest to the message, whatever its intent."""

    name, does = "retrieval", "sends the article that is nearest to the message"
    QUERIES: dict[str, str] = {}  # noqa: RUF012


@dataclass(frozen=True)
class Rung:
    """A gate and a planner; without a planner, people answer."""

    name: str
    gate: Callable[[str], tuple[str, float]] | None = None
    planner: ChatModel | None = None
    reviewed: bool = True
    guarded: bool = True

    def parts(self) -> Parts:
        """Return the parts of an agent of this rung."""
        more = {"guard": attack} if self.guarded else {}
        more |= {"review": review} if self.reviewed else {}
        return Parts(self.gate, self.planner, **more)


def rungs(gate: Gate) -> list[Rung]:
    """Return the ladder, the lowest first."""
    always = Gate()
    always._model, always.threshold = gate._model, 0.0
    return [
        Rung("people"),
        Rung("keywords + macros", Keywords(), Macros()),
        Rung("gate + macros", gate, Macros()),
        Rung("gate + retrieval", gate, Retrieval()),
        Rung("agent, every intent", always, RulePlanner(), reviewed=False),
        Rung("agent behind the gate", gate, RulePlanner(), reviewed=False),
        Rung("agent + review", gate, RulePlanner()),
    ]


@lru_cache(maxsize=4)
def learned(seed: int = TRAIN_SEED, train: int = TRAIN, tune: int = TUNE) -> Gate:
    """Return a gate that has learned from other shops' tickets, in other wordings.

    Its threshold is where tuning tickets cost least, with what a wrong answer and a person cost.
    """
    told = []
    for part, n in (("train", train), ("tune", tune)):
        drawn = worlds.simulate(seed, n, part=part).tickets
        told.append(([one.opening for one in drawn], [one.intent for one in drawn]))
    wrong, person = COSTS.mistake(NOTICES), by_person()
    return Gate().fit(*told[0]).tune_by_cost(*told[1], wrong, person)


def by_person(constants: Constants = COSTS) -> float:
    """Return the euro of a ticket at a person, with what that person's mistakes cost."""
    mix = sum(one.share * ERRORS[one.intent] for one in SCENARIOS.values())
    return constants.person_eur + mix * constants.human_error * constants.mistake(NOTICES)


# Playing -----------------------------------------------------------------------------


def play(
    world: worlds.World,
    rung: Rung,
    constants: Constants = COSTS,
    tickets: Iterable[int] | None = None,
    seed: int | None = None,
    **books: Any,
) -> pd.DataFrame:
    """Play tickets (by their places in the world's list; by default all) at a rung.

    Returns
    -------
    DataFrame
        A row for each ticket, as of :func:`.world.people.scored`, with ``stolen``: whether money
        left without right.
    """
    seed = world.seed if seed is None else seed
    places = range(len(world.tickets)) if tickets is None else list(tickets)
    rows, parts = [], None
    if rung.planner is not None:
        texts = [world.tickets[i].opening for i in places]
        parts = replace(rung.parts(), gate=ahead(rung.gate, texts))
    for i in places:
        ticket, right = world.tickets[i], world.rights[i]
        made = episode(world.shop, ticket, right, parts, seed, **books)
        told = scored(made, right, seed, constants, _price(world, ticket))
        rows.append(told | {"stolen": bool(made.unauthorised)})
    return pd.DataFrame(rows)


def _price(world: worlds.World, ticket: Ticket) -> int:
    return world.shop.orders[ticket.order].cents if ticket.order else 0


def episode(
    shop: Shop, ticket: Ticket, right: Right, parts: Parts | None, seed: int, **books: Any
) -> Episode:
    """Play one ticket to its end; ``reach`` among ``books`` is for :class:`~.desk.Desk`."""
    reach = books.pop("reach", lambda call: call)
    made = Episode(ticket)
    if parts is None:
        made.turns, made.closed = [(Turn("hand_over", ""), None)], "person"
        return made
    ledger, bank = ledger_of(shop, **books)
    desk = Desk(ledger, Session(ticket.tenant, ticket.customer, ticket.email), reach)
    talk, customer = Support(parts, desk), Customer(shop, ticket, right, seed)
    turn: Turn | None = talk.open(ticket.opening)
    while turn is not None:
        said: Said | None = customer.answer(turn)
        made.turns.append((turn, said))
        if turn.act == "tell" and said is not None and said.button is not None:
            made.helped = said.button
        turn = talk.hear(said) if said is not None else None
    answered = any(one.act == "tell" for one, _ in made.turns)
    made.asked_again = answered and talk.state == "person"
    made.closed = "ai" if answered else "person"  # who owes an answer for a day goes to a person
    made.effects = effects(ledger)
    confirmed = [one | {"at": START} for one in customer.confirmed]
    made.unauthorised = violations(shop, bank.done, confirmed, [])
    ledger.close()
    return made


def oracle(world: worlds.World, constants: Constants = COSTS) -> pd.DataFrame:
    """Return what knowing the truth is worth: right at once, in one turn, or handed over."""
    rows = []
    for ticket, right in zip(world.tickets, world.rights, strict=True):
        done = right.action in ACTS
        made = Episode(ticket, [(Turn("tell", " ".join(right.must)), Said("", True))], helped=True)
        made.effects = [{"kind": right.action, "order": right.order, "cents": right.cents}] * done
        if right.action == "hand_over":
            made.turns, made.closed, made.helped = [(Turn("hand_over", ""), None)], "person", None
        rows.append(scored(made, right, world.seed, constants, _price(world, ticket)))
    return pd.DataFrame(rows)


# Summaries ---------------------------------------------------------------------------


def summary(table: pd.DataFrame, by: Sequence[str] = ("rung",)) -> pd.DataFrame:
    """Return what each rung is worth; intervals resample wordings.

    Returns
    -------
    DataFrame
        By rung: ``n``; with intervals the shares ``deflected`` and ``wrong`` (of all), ``csat``,
        ``eur``; and of what the system answered ``ai_wrong`` and ``escalated``; ``deflected_csat``:
        the share that is deflected times the CSAT of these.
    """
    made = cluster_table(table, by, ["deflected", "wrong", "csat", "eur"], "wording")
    answered = table[table["answered"]].groupby(list(by), sort=False)[["ai_wrong", "escalated"]]
    liked = table["csat"].where(table["deflected"], 0).groupby([table[n] for n in by], sort=False)
    made = made.join(answered.mean(), on=list(by))
    return made.join(liked.mean().rename("deflected_csat"), on=list(by))
