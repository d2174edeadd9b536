"""The decision of one transaction, from validation to the audit, without HTTP.

:class:`Service` does this, one transaction at a time::

    validate → seen before? → features → hard rules → model, through the breaker → tier
             → audit (on disk) → store → reply

One at a time, because two purchases of a stolen card within a millisecond must see each other:
the features of the second count the first. The audit is written before the store and the
reply. A process that is killed in between has lost nothing: what was not written was not
replied, the client asks again; what was written is found again under its request id, and
:func:`rebuild` brings a fresh store to the same state.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from casebook.cases.card_fraud.audit import Audit, Conflict, Decision, Outcome
from casebook.cases.card_fraud.schema import (
    CONFIRMATIONS,
    Limits,
    Payment,
    Problem,
    Report,
    Stamped,
    as_input,
    check_amount,
    check_time,
    fingerprint,
    parse,
    stamp,
    unstamp,
)
from casebook.cases.card_fraud.world.constants import TIERS
from casebook.serving.breaker import Breaker
from casebook.serving.log import LogFailed

log = logging.getLogger(__name__)

#: Takes the features of a transaction, returns the probability of fraud and the reasons for it.
Score = Callable[[dict[str, float]], tuple[float, Sequence[str]]]

#: What a rule says when it has nothing to say.
PASS = "pass"
#: The tier when rules and model both fail: it asks the card-holder.
LAST_RESORT = "confirm"
#: What is known of a decision at once; a confirmation's outcome comes later.
OUTCOME = {"allow": "approved", "block": "declined"}
#: Reports that are evidence of fraud.
EVIDENCE = ("denied", "chargeback")


class Store(Protocol):
    """Features of an event from what arrived before it.

    As of :class:`~casebook.cases.card_fraud.features.OnlineStore`: ``observe`` counts a decided
    event, ``settle`` tells its outcome later, ``learn`` that it was fraud.
    """

    def features(self, event: Mapping[str, Any]) -> dict[str, float]: ...

    def observe(self, event: Mapping[str, Any], outcome: str | None = None) -> None: ...

    def settle(self, transaction: int, outcome: str) -> None: ...

    def learn(self, transaction: int, known: Any) -> None: ...


class Rules(Protocol):
    """A tier and its reason, or ``"pass"``: then the model decides."""

    def __call__(self, features: dict[str, float], event: dict[str, Any]) -> tuple[str, str]: ...


class Tiers(Protocol):
    """The tier of a probability of fraud and an amount in euro."""

    def __call__(self, probability: float, amount: float) -> str: ...


@dataclass(frozen=True)
class Reply:
    """What a client gets: a status of HTTP, a body, and whether it was replied before."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


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
    probability = float(probability)
    words = isinstance(reasons, list | tuple) and all(isinstance(r, str) for r in reasons)
    if not words or not 0 <= probability <= 1:  # a nan is in no interval
        raise ValueError(f"{value!r} is no probability with a list of reasons")
    return probability, list(reasons)


def event_of(decision: Decision) -> dict[str, Any]:
    """Return the event that the store sees: the columns of the world's transactions.

    Times are Timestamps in UTC without a zone; ``received`` never steps back behind an event
    that was decided before.
    """
    from pandas import Timestamp

    event = {name: value for name, value in decision.input.items() if name != "refund"}
    event |= {"transaction": decision.transaction, "received": decision.received}
    return event | {name: Timestamp(unstamp(event[name])) for name in ("time", "received")}


def rebuild(store: Store, audit: Audit) -> Rebuilt:
    """Bring a store that has not seen the audit's events to where the service's store was.

    Parameters
    ----------
    store : Store
        As it was before the first decision of the audit: fresh, or warm with older history.
    audit : Audit

    Returns
    -------
    Rebuilt
        An event that the store refuses is counted and left out, as it was when it happened.
    """
    decisions = outcomes = refused = 0
    for record in audit.records():
        decisions += isinstance(record, Decision)
        outcomes += isinstance(record, Outcome)
        refused += not _told(store, record)
    return Rebuilt(decisions, outcomes, refused)


def _told(store: Store, record: Decision | Outcome) -> bool:
    """Tell the store what the audit holds; False when it refuses."""
    from pandas import Timestamp

    try:
        if isinstance(record, Decision):
            store.observe(event_of(record), OUTCOME.get(record.tier))
            return True
        if record.outcome in CONFIRMATIONS:
            store.settle(record.transaction, record.outcome)
        if record.outcome in EVIDENCE:
            store.learn(record.transaction, Timestamp(unstamp(record.at)))
    except Exception:
        log.exception("the store refuses row %s of the audit", record.sequence)
        return False
    return True


def utc_now() -> datetime:
    """Return the time in UTC, without a zone, to the millisecond."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Service:
    """Decide transactions and take in what became of them.

    Parameters
    ----------
    store : Store
        Brought up to date from the audit here, unless ``restore`` is false.
    score : callable or None
        The model: ``score(features)`` gives probability and reasons.
    rules : Rules
        Asked first. They decide alone, or pass.
    tiers : Tiers
    audit : Audit
    breaker : Breaker
    fallback : Rules, optional
        Asked when the model does not answer; by default ``rules``. What passes is allowed.
    terminals : container of int, optional
        The bank's terminals. A payment at another one is decided by the rules: the model has not
        seen such terminals, and a shop that opened today is no reason to refuse.
    model, rules_version : str
        For the audit.
    gateway : bool
        Whether a gateway in front numbers and stamps each attempt (:class:`Stamped`). Otherwise
        the service does, and refuses stamps of a client: who chooses the time of arrival
        chooses the windows of the features.
    first : int
        Number of the first transaction, where the service numbers them.
    clock : callable
        Now, in UTC without a zone.
    limits : Limits
    patience : float
        Seconds that a request waits for those before it.
    restore : bool
        Whether to call :func:`rebuild`; false when the store has seen the audit's events.
    hook : callable, optional
        Called with ``"observed"``, before the reply: where a test plants a crash.
    """

    def __init__(
        self,
        *,
        store: Store,
        score: Score | None,
        rules: Rules,
        tiers: Tiers,
        audit: Audit,
        breaker: Breaker,
        fallback: Rules | None = None,
        terminals: Container[int] | None = None,
        model: str = "unnamed",
        rules_version: str = "unnamed",
        gateway: bool = False,
        first: int = 0,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits | None = None,
        patience: float = 1.0,
        restore: bool = True,
        hook: Callable[[str], None] | None = None,
    ) -> None:
        self.store, self.score, self.rules, self.tiers = store, score, rules, tiers
        self.audit, self.breaker, self.fallback = audit, breaker, fallback or rules
        self.terminals, self.model, self.rules_version = terminals, model, rules_version
        self.gateway, self.clock, self.limits = gateway, clock, limits or Limits()
        self.patience, self._first = patience, first
        self._hook = hook or (lambda point: None)
        self._lock = threading.Lock()
        self.refused = rebuild(store, audit).refused if restore else 0
        last = audit.last_received()
        self._latest = unstamp(last) if last else datetime.min

    # Decisions --------------------------------------------------------------------------------

    def decide(self, raw: bytes) -> Reply:
        """Decide a transaction, or find the decision of one that was sent before.

        Parameters
        ----------
        raw : bytes
            The body of the request.

        Raises
        ------
        Problem
            400 or 422: nothing was decided and nothing has changed. 409: the request id or the
            number stands for another payment, which is logged. 503: try again with the same id.
        """
        start = time.perf_counter()
        payment = parse(raw, Stamped if self.gateway else Payment)
        check_amount(payment, self.limits)
        sent = as_input(payment)
        print_ = fingerprint(sent)
        with self._turn():
            arrived = self._arrival(payment)
            with _conflicts("Use a new request id for a new payment, the same values for a retry."):
                before = self.audit.settled(payment.request, print_, sent, stamp(arrived))
            if before is not None:
                return Reply(200, reply(before), replayed=True)
            received = self._in_order(arrived)
            check_time(payment.time, received, self.limits)
            with _conflicts("Give each transaction a number of its own."):
                number = self._number(payment)
            decision = self._decided(payment, sent, print_, number, received, start)
            decision = self.audit.write(decision)
            self.refused += not _told(self.store, decision)
            self._hook("observed")
        return Reply(200, reply(decision))

    def find(self, request: str) -> Reply:
        """Return the audit's record of a decision and of what became of it."""
        if not (request.isascii() and request.isdigit() and len(request) <= 16):
            what = "The request id in the address is no whole number of at most 16 digits."
            raise Problem(422, "invalid request id", what, "Use the id that was sent.")
        decision = self.audit.decision(int(request))
        if decision is None:
            raise _unknown(int(request))
        outcomes = [vars(outcome) for outcome in self.audit.outcomes(decision.request)]
        return Reply(200, vars(decision) | {"outcomes": outcomes})

    def report(self, raw: bytes) -> Reply:
        """Take in a confirmation's outcome or a chargeback; the store learns from fraud.

        Raises
        ------
        Problem
            404 of an unknown request; 409 when it does not fit the decision or what was
            reported before; 422 for a report from the future or from before its transaction.
        """
        report = parse(raw, Report)
        with self._turn():
            decision = self.audit.decision(report.request)
            if decision is None:
                raise _unknown(report.request)
            last = self.audit.anchor().count
            outcome = self._outcome(report, decision)
            with _conflicts("Send what changed as a dispute: a report is not taken back."):
                outcome = self.audit.report(outcome)
            replayed = outcome.sequence <= last
            if not replayed:
                self.refused += not _told(self.store, outcome)
        kept = ("request", "transaction", "outcome", "at")
        return Reply(200, {name: getattr(outcome, name) for name in kept}, replayed)

    def health(self) -> Reply:
        """Return whether the model decides, and what is behind it."""
        breaker = self.breaker.snapshot()
        sequence, digest = self.audit.anchor()
        well = breaker["state"] == "closed" and not self.refused and self.score is not None
        return Reply(
            200,
            {
                "status": "ok" if well else "degraded",
                "model": self.model if self.score is not None else None,
                "rules": self.rules_version,
                "breaker": breaker,
                "audit": {"sequence": sequence, "hash": digest},
                "refused_by_store": self.refused,
            },
        )

    def swap(self, score: Score | None, model: str | None = None) -> None:
        """Put another model in place, between two decisions; None: the rules alone."""
        with self._lock:
            self.score = score
            self.model = self.model if model is None else model

    # Steps ------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the requests before this one, but not for ever."""
        again = "Try again with the same request id."
        if not self._lock.acquire(timeout=self.patience):
            what = f"Others have been waiting for more than {self.patience:g} s."
            raise Problem(503, "busy", what, again)
        try:
            yield
        except LogFailed as error:
            log.error("%s", error)
            what = "The decision could not be recorded, so none was made."
            raise Problem(503, "no record", what, again) from error
        finally:
            self._lock.release()

    def _arrival(self, payment: Payment) -> datetime:
        return payment.received if isinstance(payment, Stamped) else self.clock()

    def _in_order(self, arrived: datetime) -> datetime:
        """Return the moment from which the event counts: not before one that was decided."""
        now = self.clock()
        if not self.gateway:  # its own clock may step back
            return max(arrived, self._latest)
        if arrived > now:
            raise Problem(
                422,
                "event from the future",
                f"received is {stamp(arrived)}, and it is {stamp(now)} now.",
                "Set the gateway's clock.",
            )
        if self._latest - arrived > self.limits.disorder:
            raise Problem(
                422,
                "out of order",
                f"received is {stamp(arrived)}, {self._latest - arrived} before that of a "
                f"transaction that was decided; at most {self.limits.disorder} is accepted.",
                "Send transactions as they arrive.",
            )
        return max(arrived, self._latest)

    def _number(self, payment: Payment) -> int:
        """Return the transaction's number; one that a gateway gives must be free."""
        if not isinstance(payment, Stamped):
            return self.audit.next_transaction(self._first)
        self.audit.free(payment.transaction)
        return payment.transaction

    def _decided(
        self,
        payment: Payment,
        sent: dict,
        print_: str,
        number: int,
        received: datetime,
        start: float,
    ) -> Decision:
        """Return the decision, not yet written."""
        blank = Decision(
            payment.request, number, stamp(received), "", print_, sent, {}, None, "", "", "", [],
            self.model, self.rules_version, 0.0,
        )  # fmt: skip
        event = event_of(blank)
        self._latest = received
        features, why = self._features(event)
        made = self._choose(features, event, why)
        made |= {"features": features, "decided": stamp(max(self.clock(), received))}
        return Decision(**vars(blank) | made | {"ms": (time.perf_counter() - start) * 1000})

    def _features(self, event: dict[str, Any]) -> tuple[dict[str, float], str]:
        """Return the features, and why the model cannot use them."""
        unknown = self.terminals is not None and event["terminal"] not in self.terminals
        why = "unknown terminal" if unknown else ""
        try:
            return dict(self.store.features(event)), why
        except Exception:
            log.exception("no features of request %s", event["request"])
            return {}, why or "no features"

    def _choose(self, features: dict, event: dict, why: str) -> dict[str, Any]:
        """Return tier, source, why, reasons and probability: rules, model, fall-back."""
        tier, reason = self._ask(self.rules, features, event)
        if tier in TIERS:
            return _made(tier, "rules", "rule", [reason])
        if not why:
            answer = self.breaker.ask(self.score, features, sane)
            why = answer.why
            if not why:
                try:
                    probability, reasons = answer.value
                    tier = str(self.tiers(probability, event["amount"]))
                    if tier in TIERS:
                        return _made(tier, "model", "", reasons, probability)
                    log.error("tiers answer %r", tier)
                except Exception:
                    log.exception("no tier of request %s", event["request"])
                why = "no tier"
        tier, reason = self._ask(self.fallback, features, event)
        if tier == PASS:
            tier, reason = "allow", "No rule speaks against it."
        if tier not in TIERS:
            tier, reason, why = LAST_RESORT, "Neither model nor rules answer.", why + ", no rules"
        return _made(tier, "rules", why, [reason])

    def _ask(self, rules: Rules, features: dict, event: dict) -> tuple[str, str]:
        """Return what rules say; an empty tier when they fail."""
        try:
            tier, reason = rules(dict(features), dict(event))
            if tier == PASS or tier in TIERS:
                return str(tier), str(reason)
            log.error("rules answer %r", tier)
        except Exception:
            log.exception("no rules for request %s", event["request"])
        return "", ""

    def _outcome(self, report: Report, decision: Decision) -> Outcome:
        """Return a report as a record, if it fits the decision."""
        earlier = {o.outcome for o in self.audit.outcomes(decision.request)}
        fits, do = decision.tier in ("confirm", "call"), "Report only what was asked."
        if report.outcome not in CONFIRMATIONS:
            fits = decision.tier == "allow" or "confirmed" in earlier
            do = "A chargeback needs a payment that went through: report its confirmation first."
        if not fits:
            what = f"The tier of request {report.request} is {decision.tier}: not {report.outcome}."
            raise Problem(409, "outcome does not fit", what, do)
        now = self.clock()
        if not unstamp(decision.received) <= report.at <= max(now, self._latest):
            what = f"at is {stamp(report.at)}; the transaction arrived at {decision.received}"
            what += f", and it is {stamp(now)} now."
            raise Problem(422, "invalid report", what, "Send when the outcome was known, in UTC.")
        return Outcome(
            decision.request, decision.transaction, report.outcome, stamp(report.at), stamp(now)
        )


def reply(decision: Decision) -> dict[str, Any]:
    """Return what a client gets of a decision: the same at each retry."""
    kept = ("request", "tier", "probability", "reasons", "source", "why", "model")
    return {name: getattr(decision, name) for name in kept} | {"decided_ms": round(decision.ms, 3)}


def _made(
    tier: str, source: str, why: str, reasons: Sequence[str], probability: float | None = None
) -> dict[str, Any]:
    return {
        "tier": tier,
        "source": source,
        "why": why,
        "reasons": list(reasons),
        "probability": probability,
    }


@contextmanager
def _conflicts(do: str) -> Iterator[None]:
    try:
        yield
    except Conflict as error:
        what = str(error)
        raise Problem(409, "conflict", what[:1].upper() + what[1:] + ".", do) from error


def _unknown(request: int) -> Problem:
    what = f"No decision of request {request} is recorded."
    return Problem(404, "unknown request", what, "Check the id, or send the transaction.")
