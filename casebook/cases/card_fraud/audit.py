"""The audit: every decision once, in a log that is only ever added to.

Decisions, what became of them and conflicting requests are three tables of one
:class:`~casebook.serving.log.Log`: chained, append-only, on disk before the service replies. So
what a client was told is in the file. How many rows there are and the last one's hash are kept in
an anchor's file, signed, best on another machine: a tail that was cut off is noticed when
the audit is opened again.

The audit's ``sequence`` is the order of everything, in training too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import Any

import pandas as pd

from casebook.cases.card_fraud.schema import CONFIRMATIONS
from casebook.serving.anchored import AnchoredLog
from casebook.serving.log import CHAIN, Table
from casebook.serving.strict import unstamp

#: Version of the tables.
VERSION = 3
#: Other payments under one request id that are kept: a client must not fill the disk.
CONFLICTS = 10
#: What is known of a decision at once; a confirmation's outcome comes later.
OUTCOME = {"allow": "approved", "block": "declined"}
#: Reports that are evidence of fraud.
EVIDENCE = ("denied", "chargeback")


class Conflict(ValueError):
    """The same name was used for something else: a request id, a number, an outcome.

    Parameters
    ----------
    what : str
        What stands there already.
    """


@dataclass(frozen=True)
class Decision:
    """A decision as it is kept.

    Attributes
    ----------
    request, transaction : int
        Of the payment, and the bank's number in order of arrival.
    received, decided : str
        When it counts as arrived and when it was decided, UTC, ISO 8601.
    clock : str
        What is wrong with the clock that stamped it; empty, and it arrived as it says.
    fingerprint : str
        Of what was sent, without the stamps of the attempt.
    input, features : dict
        What was sent, a token in place of the card's number, and what was computed from it (None:
        nan).
    probability : float or None
        The model's; none when it did not answer.
    advised, tier : str
        What the policy advised, and what was done: the same, unless ``holdback``.
    holdback : int
        1: let through whatever was advised, so that its label is seen.
    source, why : str
        ``"model"`` or ``"rules"``; why it was not the model.
    reasons : list of str
        For the analyst.
    model, rules : str
        Versions.
    ms : float
        Milliseconds from arrival to just before the row was written.
    sequence, previous, hash : int, str, str
        Set by the audit.
    """

    request: int
    transaction: int
    received: str
    decided: str
    clock: str
    fingerprint: str
    input: dict[str, Any] = field(repr=False)
    features: dict[str, float | None] = field(repr=False)
    probability: float | None
    advised: str
    tier: str
    holdback: int
    source: str
    why: str
    reasons: list[str]
    model: str
    rules: str
    ms: float
    sequence: int = 0
    previous: str = ""
    hash: str = ""


@dataclass(frozen=True)
class Outcome:
    """A confirmation's outcome or a chargeback.

    Attributes
    ----------
    at, known, noted : str
        When it came; from when on features see it (after all that was decided before it was
        reported); when it was written, by the service's clock.
    """

    request: int
    transaction: int
    outcome: str
    at: str
    known: str
    noted: str
    stage: str = ""
    sequence: int = 0
    previous: str = ""
    hash: str = ""


TABLES = {
    "decisions": Table(
        {
            **{"request": "int", "transaction": "int", "received": "text", "decided": "text"},
            **{"clock": "text", "fingerprint": "text", "input": "json", "features": "json"},
            **{"probability": "float?", "advised": "text", "tier": "text", "holdback": "int"},
            **{"source": "text", "why": "text"},
            **{"reasons": "json", "model": "text", "rules": "text", "ms": "float"},
        },
        once=("request", "transaction"),
    ),
    "outcomes": Table(
        {
            **{"request": "int", "transaction": "int", "outcome": "text", "at": "text"},
            **{"known": "text", "noted": "text", "stage": "text"},
        },
        once=("request, stage",),
    ),
    "conflicts": Table(
        {"request": "int", "received": "text", "fingerprint": "text", "input": "json"},
        once=("request, fingerprint",),
    ),
}


class Audit(AnchoredLog):
    """Write decisions and outcomes to a log, each once.

    Parameters
    ----------
    path, **options
        Of :class:`~casebook.serving.anchored.AnchoredLog`, as are its errors.
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        super().__init__(path, TABLES, version=VERSION, **options)

    def settled(self, request: int, fingerprint: str, sent: dict, received: str) -> Decision | None:
        """Return the decision of a request that came before, None when it is new.

        Parameters
        ----------
        request : int
        fingerprint : str
            Of what is sent now.
        sent : dict
            For the log, if it differs from what came before.
        received : str

        Raises
        ------
        Conflict
            When the request id was used for another payment. It is logged, each other payment
            once and :data:`CONFLICTS` at most.
        """
        with self.alone():
            before = self.decision(request)
            if before is None or before.fingerprint == fingerprint:
                return before
            kept = [row["fingerprint"] for row in self.find("conflicts", request=request)]
            if fingerprint not in kept and len(kept) < CONFLICTS:
                row = {"request": request, "received": received, "fingerprint": fingerprint}
                self.append("conflicts", {**row, "input": sent})
            raise Conflict(f"request {request} was decided at {before.decided} for other values")

    def write(self, decision: Decision) -> Decision:
        """Write a decision, once: on disk when this returns.

        Returns
        -------
        Decision
            As it is in the file: of a request that came before, the one from then.

        Raises
        ------
        Conflict
            When the request id is there with another payment, or the transaction's number with
            another request.
        LogFailed
            When it could not be written.
        """
        with self.alone():
            d = decision
            before = self.settled(d.request, d.fingerprint, d.input, d.received)
            if before is not None:
                return before
            self.free(d.transaction)
            return Decision(**self.append("decisions", _without_chain(d)))

    def free(self, transaction: int) -> None:
        """Raise :class:`Conflict` when a transaction's number is taken."""
        for row in self.find("decisions", transaction=transaction):
            raise Conflict(f"transaction {transaction} belongs to request {row['request']}")

    def decision(self, request: int) -> Decision | None:
        """Return the decision of a request, if there is one."""
        rows = self.find("decisions", request=request)
        return Decision(**rows[0]) if rows else None

    def report(self, outcome: Outcome) -> Outcome:
        """Write what became of a decision: one confirmation and one chargeback at most.

        Returns
        -------
        Outcome
            The same report again returns the one that is there.

        Raises
        ------
        Conflict
            When another one is there.
        LogFailed
            When it could not be written.
        """
        stage = "confirmation" if outcome.outcome in CONFIRMATIONS else "chargeback"
        with self.alone():
            for before in self.outcomes(outcome.request):
                if before.stage == stage:
                    if (before.outcome, before.at) == (outcome.outcome, outcome.at):
                        return before
                    raise Conflict(f"{before.outcome} at {before.at} stands there")
            return Outcome(**self.append("outcomes", _without_chain(outcome) | {"stage": stage}))

    def outcomes(self, request: int) -> list[Outcome]:
        """Return the reports of a request, in order."""
        return [Outcome(**row) for row in self.find("outcomes", request=request)]

    def count(self, kind: str = "decisions") -> int:
        """Return the number of rows of ``decisions``, ``outcomes`` or ``conflicts``."""
        return super().count(kind)

    def next_transaction(self, first: int) -> int:
        """Return the number after the largest one, at least ``first``."""
        largest = self.last("decisions", by="transaction")
        return first if largest is None else max(first, largest["transaction"] + 1)

    def last_received(self) -> str | None:
        """Return when the last decided transaction arrived."""
        last = self.last("decisions")
        return None if last is None else last["received"]

    def records(self, after: int = 0) -> Iterator[Decision | Outcome]:
        """Yield decisions and outcomes in the order in which they were written, from a row on."""

        def read(kind: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
            query = f"SELECT * FROM {kind} WHERE sequence > ? ORDER BY sequence"
            for row in self._db.execute(query, (after,)):
                yield row["sequence"], kind, dict(row)

        with self.alone():
            for _, kind, row in merge(*map(read, ("decisions", "outcomes")), key=lambda r: r[0]):
                made = Decision if kind == "decisions" else Outcome
                yield made(**TABLES[kind].loaded(row))


#: What a client says of a payment that is no column of the world's transactions.
UNSEEN = ("refund", "message")


def event_of(decision: Decision) -> dict[str, Any]:
    """Return the event that the store sees: the columns of the world's transactions.

    Times are Timestamps in UTC without a zone; ``received`` never steps back behind an event
    that was decided before.
    """
    event = {name: value for name, value in decision.input.items() if name not in UNSEEN}
    event |= {"transaction": decision.transaction, "received": decision.received}
    return event | {name: pd.Timestamp(unstamp(event[name])) for name in ("time", "received")}


def _without_chain(record: Decision | Outcome) -> dict[str, Any]:
    """Return the columns of a record, without those that the log adds."""
    return {name: value for name, value in vars(record).items() if name not in CHAIN}
