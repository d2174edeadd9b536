"""What a decision service is made of: store, rules, policy, replies; and a store from an audit.

:class:`~casebook.cases.card_fraud.decisions.Service` puts them together. Each part is a protocol,
so that a test can plant a part that fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Real
from typing import Any, Protocol

from casebook.cases.card_fraud.audit import EVIDENCE, OUTCOME, Audit, Decision, Outcome, event_of
from casebook.cases.card_fraud.schema import CONFIRMATIONS
from casebook.serving.strict import unstamp

log = logging.getLogger(__name__)

#: Takes the features of a transaction, returns the probability of fraud and the reasons for it.
Score = Callable[[dict[str, float]], tuple[float, Sequence[str]]]


class Store(Protocol):
    """Features of an event from what arrived before it.

    As of :class:`~casebook.cases.card_fraud.features.OnlineStore`: ``observe`` counts a decided
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
    """What :func:`rebuild` put into the store, and what the store refused."""

    decisions: int
    outcomes: int
    refused: int


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


def rebuild(store: Store, audit: Audit, after: int = 0) -> Rebuilt:
    """Bring a store that has not seen the audit's events to where the service's store was.

    Parameters
    ----------
    store : Store
        As it was before the first decision of the audit: fresh, or warm with older history.
    audit : Audit
    after : int
        Row of the audit that the store has seen last.

    Returns
    -------
    Rebuilt
        An event that the store refuses is counted and left out, as it was when it happened.
    """
    decisions = outcomes = refused = 0
    for record in audit.records(after):
        decisions += isinstance(record, Decision)
        outcomes += isinstance(record, Outcome)
        refused += not told(store, record)
    return Rebuilt(decisions, outcomes, refused)


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
