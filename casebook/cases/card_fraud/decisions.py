"""The decision of one transaction, from validation to the audit, without HTTP.

:class:`Service` does this, one transaction at a time::

    validate → seen before? → features → rules → model, through the breaker → policy
             → audit (on disk) → store → reply

One at a time, because two purchases of a stolen card within a millisecond must see each other:
the features of the second count the first. The audit is written before the store and the
reply. A process that is killed in between has lost nothing: what was not written was not
replied, the client asks again; what was written is found again under its request id. The store is
told what the audit holds, by :func:`rebuild`, after each row and before each turn: a row that was
written by a turn that failed reaches it with the next.

A payment is never refused for what is not its fault: a wrong clock of the gateway is put aside and
the payment counts as arriving after the one before it, or now; at an unknown terminal the model
decides without the guardrail's price; an unknown customer is asked; a backlog goes to the rules.
Without a model the bank does what the card scheme does in its name when it does not answer at all
(*stand-in*): small amounts pass, for larger ones the owner is asked, no card is verified. The reply
and the audit say so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from casebook.cases.card_fraud.audit import (
    Audit,
    Conflict,
    Decision,
    Outcome,
    event_of,
)
from casebook.cases.card_fraud.channels import message
from casebook.cases.card_fraud.parts import (
    Policy,
    Rules,
    Score,
    Store,
    latest_of,
    made_of,
    permitted,
    rebuild,
    sane,
    utc_now,
    warm,
)
from casebook.cases.card_fraud.schema import (
    CONFIRMATIONS,
    Limits,
    Payment,
    Report,
    Stamped,
    as_input,
    check_amount,
    check_time,
    fingerprint,
)
from casebook.evaluate.fraud_costs import TIERS
from casebook.serving.breaker import Breaker
from casebook.serving.consumer import Refused
from casebook.serving.feed_clock import FeedClock
from casebook.serving.log import LogFailed
from casebook.serving.snapshots import restored, saved
from casebook.serving.strict import Problem, Reply, parse, stamp, unstamp
from casebook.serving.tokens import Tokens

log = logging.getLogger(__name__)

#: What a rule says when it has nothing to say.
PASS = "pass"
#: Why a payment of a customer whom the store does not know is not decided by the model.
UNKNOWN = "unknown customer"
#: Health looks at so many decisions and is degraded when more than so many have the same fault.
RECENT, FAULTY = 100, 10


class Service:
    """Decide transactions and take in what became of them.

    Parameters
    ----------
    store : Store
        Brought up to date from the snapshot and the audit here, unless ``restore`` is false.
    score : callable or None
        The model: ``score(features)`` gives probability and reasons.
    rules : Rules
        Asked first. They decide alone, or pass.
    policy : Policy
    audit : Audit
    breaker : Breaker
    tokens : Tokens
        What stands in place of a card's number, in the store, the audit and every reply.
    fallback : Rules, optional
        Asked when the model does not answer; by default ``rules``. What passes is allowed.
    terminals : container of int, optional
        The bank's terminals. At another one the policy is asked strictly, without the guardrail's
        price: a shop that opened today is no reason to refuse, and a favourite of fraudsters.
    customers : container of int, optional
        Those whom the store knows. Another one, new since the deployment, is asked.
    stand_in : float
        Euro up to which a payment passes when the model does not answer and no rule speaks against
        it; above, its owner is asked. An attacker who can slow the service down must not gain by
        it.
    usual : mapping, optional
        Features with which the model is asked before the first payment, so that it is warm.
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
    shed : float
        Seconds: a request that waited longer for its turn is decided by the rules, which are
        quicker, until those behind it no longer wait.
    patience : float
        Seconds that a request waits for those before it.
    restore : bool
        Whether to bring the store up to date; false when it has seen the audit's events.
    state : Path, optional
        File of the store's snapshot.
    layout : str
        What the store is made of, code and master data: a snapshot of another one is not read.
    every : int
        Decisions from one snapshot to the next.
    hook : callable, optional
        Called with ``"observed"``, before the reply: where a test plants a crash.
    """

    def __init__(
        self,
        *,
        store: Store,
        score: Score | None,
        rules: Rules,
        policy: Policy,
        audit: Audit,
        breaker: Breaker,
        tokens: Tokens,
        fallback: Rules | None = None,
        terminals: Container[int] | None = None,
        customers: Container[int] | None = None,
        stand_in: float = 150.0,
        usual: Mapping[str, float] | None = None,
        model: str = "unnamed",
        rules_version: str = "unnamed",
        gateway: bool = False,
        first: int = 0,
        clock: Callable[[], datetime] = utc_now,
        limits: Limits | None = None,
        shed: float = 0.1,
        patience: float = 5.0,
        restore: bool = True,
        state: Path | None = None,
        layout: str = "",
        every: int = 20_000,
        hook: Callable[[str], None] | None = None,
    ) -> None:
        self.score, self.rules, self.policy, self.tokens = score, rules, policy, tokens
        self.audit, self.breaker, self.fallback = audit, breaker, fallback or rules
        self.terminals, self.model, self.rules_version = terminals, model, rules_version
        self.stand_in, self.customers = stand_in, customers
        self.gateway, self.clock, self.limits = gateway, clock, limits or Limits()
        self.shed, self.patience, self._first = shed, patience, first
        self._hook = hook or (lambda point: None)
        self._lock = threading.Lock()
        self._state, self._layout, self._every, self._since = state, layout, every, 0
        self.store, seen = restored(state, audit, tokens, layout) or (store, 0)
        self._told = seen if restore else audit.anchor().count
        self.refused = self.unknown = self.unsaved = 0
        self._recent: deque[set[str]] = deque(maxlen=RECENT)
        self._written = True
        self._latest = latest_of(audit, self.store)
        self._catch_up()
        self._feed = FeedClock(jump=self.limits.jump.total_seconds())
        if score is not None and usual is not None:
            warm(score, usual)

    # Decisions --------------------------------------------------------------------------------

    def decide(self, raw: bytes, start: float | None = None) -> Reply:
        """Decide a transaction, or find the decision of one that was sent before.

        Parameters
        ----------
        raw : bytes
            The body of the request.
        start : float, optional
            When it came, by ``time.perf_counter``.

        Raises
        ------
        Problem
            400 or 422: nothing was decided and nothing has changed. 409: the request id or the
            number stands for another payment, which is logged. 503: try again with the same id.
        """
        start = time.perf_counter() if start is None else start
        payment = parse(raw, Stamped if self.gateway else Payment)
        check_amount(payment, self.limits)
        sent = as_input(payment)
        sent["card"] = self.tokens(sent["card"])
        print_ = fingerprint(sent)
        with self._turn():
            late = time.perf_counter() - start > self.shed
            arrived = stamp(self._arrival(payment))
            with _conflicts("Use a new request id for a new payment, the same values for a retry."):
                before = self.audit.settled(payment.request, print_, sent, arrived)
            if before is not None:
                return Reply(200, reply(before), replayed=True)
            with _conflicts("Give each transaction a number of its own."):
                number = self._number(payment)
            received, wrong = self._believed(payment)
            if not wrong:
                check_time(payment.time, received, self.limits)
            blank = Decision(
                payment.request, number, stamp(received), "", wrong, print_, sent, {}, None, "", "",
                0, "", "overload" if late else "", [], self.model, self.rules_version, 0.0,
            )  # fmt: skip
            decision = self.audit.write(self._decided(blank, start))
            self._catch_up()
            self._hook("observed")
            self._since += 1
            if self._since >= self._every:
                self._save()
        return Reply(200, reply(decision))

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
            last = self._told
            outcome = self._outcome(report, decision)
            with _conflicts("Send what changed as a dispute: a report is not taken back."):
                outcome = self.audit.report(outcome)
            replayed = outcome.sequence <= last
            self._catch_up()
        kept = ("request", "transaction", "outcome", "at")
        return Reply(200, {name: getattr(outcome, name) for name in kept}, replayed)

    def health(self) -> Reply:
        """Return whether the model decides, and what is behind it.

        ``recent`` counts faults of the last :data:`RECENT` decisions: no model, rules that fail,
        clocks put aside.
        """
        breaker = self.breaker.snapshot()
        sequence, digest = self.audit.anchor()
        recent = Counter(fault for faults in list(self._recent) for fault in faults)
        well = breaker["state"] == "closed" and not self.refused and self.score is not None
        well = well and self._written and max(recent.values(), default=0) <= FAULTY
        return Reply(
            200,
            {
                "status": "ok" if well else "degraded",
                "model": self.model if self.score is not None else None,
                "rules": self.rules_version,
                "breaker": breaker,
                "audit": {"sequence": sequence, "hash": digest, "written": self._written},
                "recent": dict(recent),
                "refused_by_store": self.refused,
                "unknown_customers": self.unknown,
                "failed_snapshots": self.unsaved,
            },
        )

    def swap(self, score: Score | None, model: str | None = None) -> None:
        """Put another model in place, between two decisions; None: the rules alone."""
        with self._lock:
            self.score = score
            self.model = self.model if model is None else model

    def save(self) -> None:
        """Write a snapshot of the store, so that the next start need not read the whole audit."""
        with self._turn():
            self._save()

    def _save(self) -> None:
        self._since = 0
        if self._state is None:
            return
        try:
            saved(self._state, self.store, self.audit, self.tokens, self._layout)
        except Exception:  # the next start takes longer: no reason to fail
            self.unsaved += 1
            log.exception("no snapshot of the store")

    # Steps ------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the requests before this one, but not for ever."""
        again = "Try again with the same request id."
        if not self._lock.acquire(timeout=self.patience):
            what = f"Others have been waiting for more than {self.patience:g} s."
            raise Problem(503, "busy", what, again)
        try:
            self._catch_up()
            last = self._told
            yield
            self._written |= self._told > last
        except LogFailed as error:
            self._written = False
            log.error("%s", error)
            what = "It could not be recorded for certain: there is no answer yet."
            raise Problem(503, "no record", what, again) from error
        finally:
            self._lock.release()

    def _catch_up(self) -> None:
        """Tell the store what the audit holds and it has not seen."""
        last = self.audit.anchor().count
        if last > self._told:
            done = rebuild(self.store, self.audit, self._told, self.customers)
            self.refused += done.refused
            self.unknown += done.unknown
            self._told, self._latest = last, latest_of(self.audit, self.store)

    def _arrival(self, payment: Payment) -> datetime:
        return payment.received if isinstance(payment, Stamped) else self.clock()

    def _believed(self, payment: Payment) -> tuple[datetime, str]:
        """Return the moment from which a payment counts, and what is wrong with its clock.

        The payment of a wrong clock counts as arriving with the one before it. One that is ahead
        may be ahead for long: then the service's own clock goes on, unless what comes is replayed.
        """
        arrived, now = self._arrival(payment), self.clock()
        latest = self._latest or min(arrived, now)
        if not self.gateway or abs(arrived - now) <= self.limits.skew:
            return max(arrived, latest), ""  # the service's own clock may step back
        if arrived > now:
            live = now - latest <= self.limits.jump
            wrong = f"{arrived - now} ahead of the service's clock"
            return max(latest, now) if live else latest, wrong
        if latest - arrived > self.limits.disorder:
            return latest, f"{latest - arrived} behind a transaction that was decided"
        try:
            came = (str(payment.terminal), _seconds(arrived))
            self._feed.latest(_seconds(latest), [came])
        except Refused:
            return latest, f"{arrived - latest} ahead of all before it"
        return max(arrived, latest), ""

    def _number(self, payment: Payment) -> int:
        """Return the transaction's number; one that a gateway gives must be free."""
        if not isinstance(payment, Stamped):
            return self.audit.next_transaction(self._first)
        self.audit.free(payment.transaction)
        return payment.transaction

    def _decided(self, blank: Decision, start: float) -> Decision:
        """Return the decision, not yet written."""
        event = event_of(blank)
        features, why = self._features(event, blank.why)
        kind = blank.input.get("message", "purchase")
        faults = {"clock"} if blank.clock else set()
        made = permitted(self._choose(features, event, why, kind, faults), kind)
        if made["source"] == "rules" and made["why"] not in ("rule", UNKNOWN):
            faults.add("no model")
        self._recent.append(faults)
        made |= {"features": features}
        made |= {"decided": stamp(max(self.clock(), unstamp(blank.received)))}
        return Decision(**vars(blank) | made | {"ms": (time.perf_counter() - start) * 1000})

    def _features(self, event: dict[str, Any], why: str) -> tuple[dict[str, float], str]:
        """Return the features, and why the model is not to use them."""
        if self.customers is not None and event["customer"] not in self.customers:
            return {}, UNKNOWN
        try:
            return dict(self.store.features(event)), why
        except Exception:
            log.exception("no features of request %s", event["request"])
            return {}, why or "no features"

    def _choose(
        self, features: dict, event: dict, why: str, kind: str, faults: set[str]
    ) -> dict[str, Any]:
        """Return tier, source, why, reasons and probability: rules, model, fall-back."""
        if why == UNKNOWN:
            return made_of("confirm", "rules", why, ["a customer whom the store does not know"])
        tier, reason = self._ask(self.rules, features, event, faults)
        if tier in TIERS:
            return made_of(tier, "rules", "rule", [reason])
        strict = self.terminals is not None and event["terminal"] not in self.terminals
        if not why:
            answer = self.breaker.ask(self.score, features, sane)
            why = answer.why
            if not why:
                try:
                    probability, reasons = answer.value
                    given = (probability, event["amount"], event["transaction"], kind, strict)
                    both = self.policy.one(*given)
                    if all(tier in TIERS for tier in both):
                        note = "unknown terminal" if strict else ""
                        return made_of(both[1], "model", note, reasons, probability, both[0])
                    log.error("the policy answers %r", both)
                except Exception:
                    log.exception("no tier of request %s", event["request"])
                why = "no tier"
        tier, reason = self._ask(self.fallback, features, event, faults)
        if tier not in (PASS, *TIERS):
            why += ", no rules"
        if tier not in TIERS[1:]:
            tier, what = "confirm", f"over {self.stand_in:g} euro"
            if message(kind).stake is not None:
                what = "a verification"
            elif event["amount"] <= self.stand_in:
                tier, what = "allow", f"up to {self.stand_in:g} euro"
            reason = f"stand-in: {what} without a model"
        return made_of(tier, "rules", why, [reason])

    def _ask(self, rules: Rules, features: dict, event: dict, faults: set[str]) -> tuple[str, str]:
        """Return what rules say; an empty tier, and a fault more, when they fail."""
        try:
            tier, reason = rules(dict(features), dict(event))
            if tier == PASS or tier in TIERS:
                return str(tier), str(reason)
            log.error("rules answer %r", tier)
        except Exception:
            log.exception("no rules for request %s", event["request"])
        faults.add("rules failed")
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
        latest = self._latest or now
        # By the gateway's clock, which may have been put aside.
        arrived = min(decision.received, decision.input.get("received", decision.received))
        if not unstamp(arrived) <= report.at <= max(now, latest):
            what = f"at is {stamp(report.at)}; the transaction arrived at {decision.received}"
            what += f", and it is {stamp(now)} now."
            raise Problem(422, "invalid report", what, "Send when the outcome was known, in UTC.")
        # Behind all that was decided before it was told: what did not see it must not seem to have.
        known = max(report.at, latest + timedelta(milliseconds=1))
        return Outcome(
            decision.request,
            decision.transaction,
            report.outcome,
            stamp(report.at),
            stamp(known),
            stamp(now),
        )


def reply(decision: Decision) -> dict[str, Any]:
    """Return what a client gets of a decision: the same at each retry."""
    kept = ("request", "tier", "probability", "reasons", "source", "why", "clock", "model")
    return {name: getattr(decision, name) for name in kept} | {"decided_ms": round(decision.ms, 3)}


def _seconds(moment: datetime) -> float:
    return (moment - datetime(2000, 1, 1)).total_seconds()


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
