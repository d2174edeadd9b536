"""What a decision service is made of: store, rules, policy, replies; and a store from an audit.

:class:`~casebook.cases.card_fraud.decisions.Service` puts them together. Each part is a protocol,
so that a test can plant a part that fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Real
from typing import Any, Protocol

from casebook.cases.card_fraud.audit import EVIDENCE, OUTCOME, Audit, Decision, Outcome, event_of
from casebook.cases.card_fraud.channels import message
from casebook.cases.card_fraud.schema import CONFIRMATIONS
from casebook.evaluate.fraud_costs import TIERS
from casebook.serving.strict import unstamp

log = logging.getLogger(__name__)

#: Calls of a model before the first payment: a cold one would miss its budget.
WARM_UP = 3
#: Takes the features of a transaction, returns the probability of fraud and the reasons for it.
Score = Callable[[dict[str, float]], tuple[float, Sequence[str]]]


class Store(Protocol):
    """Features of an event from what arrived before it.

    As of :class:`~casebook.features.card_payments.OnlineStore`: ``observe`` counts a decided
    event, ``settle`` tells its outcome later, ``learn`` that it was fraud. ``now`` is the arrival
    of the last event, or None.
    """

    @property
    def now(self) -> datetime | None: ...

    def features(self, event: Mapping[str, Any]) -> dict[str, float]: ...

    def observe(self, event: Mapping[str, Any], outcome: str | None = None) -> None: ...

    def settle(self, transaction: int, outcome: str, known: Any) -> None: ...

    def learn(self, transaction: int, known: Any) -> None: ...


class Rules(Protocol):
    """A tier and its reason, or ``"pass"``: then the model decides."""

    def __call__(self, features: dict[str, float], event: dict[str, Any]) -> tuple[str, str]: ...


class Policy(Protocol):
    """What is advised for a probability of fraud, an amount in euro and a payment, and done.

    As of :class:`~casebook.cases.card_fraud.answers.Answers`; ``number`` is the bank's.
    """

    def one(
        self, probability: float, amount: float, number: int, message: str, strict: bool
    ) -> tuple[str, str]: ...


@dataclass(frozen=True)
class Rebuilt:
    """What :func:`rebuild` read, what the store refused, and payments of unknown customers."""

    decisions: int
    outcomes: int
    refused: int
    unknown: int


def sane(value: tuple[float, Sequence[str]]) -> tuple[float, list[str]]:
    """Return a probability and its reasons; a ValueError or TypeError when they are no such thing.

    What the breaker of :class:`Service` accepts from a model.
    """
    probability, reasons = value
    if isinstance(probability, bool) or not isinstance(probability, Real):
        raise TypeError(f"{probability!r} is no number")
    probability = float(probability)
    words = isinstance(reasons, list | tuple) and all(isinstance(r, str) for r in reasons)
    if not words or not 0 <= probability <= 1:  # a nan is in no interval
        raise ValueError(f"{value!r} is no probability with a list of reasons")
    return probability, list(reasons)


def rebuild(
    store: Store, audit: Audit, after: int = 0, customers: Container[int] | None = None
) -> Rebuilt:
    """Tell a store the events of the audit that it has not seen.

    Parameters
    ----------
    store : Store
        As it was before the first decision of the audit: fresh, or warm with older history.
    audit : Audit
    after : int
        Row of the audit that the store has seen last.
    customers : container of int, optional
        Those whom the store knows: of others it is told nothing.

    Returns
    -------
    Rebuilt
        An event that the store refuses is counted and left out, as it was when it happened.
    """
    decisions = outcomes = refused = unknown = 0
    for record in audit.records(after):
        made = isinstance(record, Decision)
        decisions += made
        outcomes += not made
        payment = record if made or customers is None else audit.decision(record.request)
        if customers is None or payment.input["customer"] in customers:
            refused += not told(store, record)
        else:
            unknown += made
    return Rebuilt(decisions, outcomes, refused, unknown)


def told(store: Store, record: Decision | Outcome) -> bool:
    """Tell the store what the audit holds; False when it refuses."""
    from pandas import Timestamp

    try:
        if isinstance(record, Decision):
            store.observe(event_of(record), OUTCOME.get(record.tier))
            return True
        known = Timestamp(unstamp(record.known))
        if record.outcome in CONFIRMATIONS:
            store.settle(record.transaction, record.outcome, known)
        if record.outcome in EVIDENCE:
            store.learn(record.transaction, known)
    except Exception:
        log.exception("the store refuses row %s of the audit", record.sequence)
        return False
    return True


def utc_now() -> datetime:
    """Return the time in UTC, without a zone, to the millisecond."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def made_of(
    tier: str,
    source: str,
    why: str,
    reasons: Sequence[str],
    probability: float | None = None,
    advised: str = "",
) -> dict[str, Any]:
    """Return what was decided, as columns of a decision."""
    return {
        "advised": advised or tier,
        "tier": tier,
        "holdback": int(bool(advised) and advised != tier),
        "source": source,
        "why": why,
        "reasons": list(reasons),
        "probability": probability,
    }


def permitted(made: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a decision that the message leaves: where nobody can be asked, a harder one.

    Who has confirmed is not asked again.
    """
    answers = message(kind).answers
    if made["tier"] in answers or (made["tier"] == "call" and "confirm" in answers):
        return made
    if made["tier"] in ("confirm", "call") and message(kind).confirmed:
        return made | {"tier": "allow", "why": made["why"] or "confirmed before"}
    harder = [tier for tier in answers if TIERS.index(tier) > TIERS.index(made["tier"])]
    tier = harder[0] if harder else answers[-1]
    return made | {"tier": tier, "why": made["why"] or "no such answer"}


def latest_of(audit: Audit, store: Store) -> datetime | None:
    """Return the arrival of the last event that the audit or the store has seen."""
    last, now = audit.last_received(), getattr(store, "now", None)
    seen = [unstamp(last)] if last else []
    seen += [] if now is None else [now.to_pydatetime() if hasattr(now, "value") else now]
    return max(seen, default=None)


def warm(score: Score, usual: Mapping[str, float]) -> None:
    """Ask the model a few times, for nothing: what it loads at its first call is then loaded."""
    for _ in range(WARM_UP):
        try:
            score(dict(usual))
        except Exception:  # the breaker will say so
            log.exception("the model fails on a usual payment")
            return
