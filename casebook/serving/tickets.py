"""The tickets of an agent: one turn at a time, limits, what people owe, and what is kept on disk.

A ticket is kept in a file after each turn, so that a restart loses no promise: whoever was asked
something then goes to a person, whoever was handed over stays in the queue. Its texts are kept
masked, while they are needed to answer it; afterwards only those of customers who agreed to it.
Nobody waits for a turn: while one runs, another one of the same ticket is refused, and so are more
than a few of one customer and more than the service can serve.

:meth:`Tickets.sweep` does what nobody's request does: it asks about effects that are open, tells
customers what came of them, and ends tickets that nobody goes on with.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from casebook.data.private import private
from casebook.serving.agent import PERSON, Conversation, Said, Turn
from casebook.serving.approvals import NotAllowed
from casebook.serving.privacy import masked
from casebook.serving.proposals import Proposals
from casebook.serving.strict import Problem, Strict

#: Characters of a message; of one customer: open tickets, tickets of a day, turns at a time.
LONGEST, OPEN, DAILY, EACH = 2_000, 5, 30, 2
#: Turns at a time; fewer than the threads of the server, so that other routes are answered.
TURNS = 24
#: Seconds after which nobody goes on with a ticket, and for which an ended one is kept.
IDLE, KEPT, DAY = 86_400.0, 30 * 86_400.0, 86_400.0
#: Tickets of a page of the queue.
PAGE = 50
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS tickets (user TEXT, name TEXT, state TEXT NOT NULL, why TEXT, "
    "by TEXT, opened REAL, at REAL, turns TEXT, pending TEXT, PRIMARY KEY (user, name)) STRICT",
    "CREATE INDEX IF NOT EXISTS by_state ON tickets (state, at)",
)
#: States in which a ticket is the agent's, of these the ones that wait for the customer's word.
OWNED, ASKED = ("asked", "proposed", "told"), ("asked", "proposed")
Ident = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="1 to 64 letters, digits, - or _")
]
Text = Annotated[str, Field(max_length=LONGEST, description=f"at most {LONGEST:,} characters")]


class Message(Strict):
    """A message of a ticket, or a button under the last turn."""

    invalid, hidden = "invalid message", frozenset({"text"})
    ticket: Ident
    text: Text
    button: Annotated[bool | None, Field(description="true, false or null")] = None
    proposal: Annotated[str, Field(max_length=64, description="as it was shown, or empty")] = ""


class Decision(Strict):
    """What one of the staff says of something that waits."""

    invalid = "invalid decision"
    proposal: Ident
    allow: Annotated[bool, Field(description="true or false")]


class Answer(Strict):
    """What one of the staff answers to a ticket that was handed over; it ends the ticket."""

    invalid, hidden = "invalid answer", frozenset({"text"})
    user: Annotated[str, Field(max_length=100, description="as the queue says")]
    ticket: Ident
    text: Text


@dataclass
class Kept:
    """A ticket as it is kept; ``turns``: who said what, ``pending``: proposals to hear about."""

    user: str
    name: str
    state: str
    why: str = ""
    by: str = "machine"
    opened: float = 0.0
    at: float = 0.0
    turns: list[list[str]] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)


class Tickets:
    """The conversations of all customers.

    Parameters
    ----------
    talk : callable
        User → a new conversation of that user; a :class:`Problem` for one who may have none.
    books : Proposals
        What waits for people.
    log : callable
        Takes what happens as keywords.
    path : str
        Where tickets are kept, for its owner alone.
    clock : callable
        Seconds.
    may : callable
        Member of the staff and user → whether the one may see and answer the other's tickets.
    consent : callable
        User → whether texts may be kept when a ticket is at its end.
    came : callable
        Proposal → what its owner is told of its outcome, and whether a person is needed; None while
        it has none.
    """

    def __init__(
        self,
        talk: Callable[[str], Conversation],
        books: Proposals,
        log: Callable[..., object] = lambda **row: None,
        path: str = ":memory:",
        clock: Callable[[], float] = lambda: 0.0,
        may: Callable[[str, str], bool] = lambda who, user: True,
        consent: Callable[[str], bool] = lambda user: False,
        came: Callable[[str], tuple[str, bool] | None] = lambda proposal: None,
    ) -> None:
        self._talk, self.books, self._log, self.clock = talk, books, log, clock
        self.may, self._consent, self._came = may, consent, came
        self._live: dict[tuple[str, str], Conversation] = {}
        self._running: set[tuple[str, str]] = set()
        self._unkept: dict[tuple[str, str], Kept] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._timer: threading.Thread | None = None
        self.counts = Counter(tickets=0, closed=0, people=0, unlogged=0, unswept=0)
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
        for line in SCHEMA:
            self._db.execute(line)
        for one in self._rows("state IN ('asked', 'proposed')"):
            self._to_person(one, "the service was restarted")

    # Turns ------------------------------------------------------------------------------------

    def say(self, user: str, sent: Message) -> dict[str, Any]:
        """Take a message or a button, and return the turn.

        Raises
        ------
        Problem
            409 for a ticket that is at its end or whose turn runs, 429 for too many of a customer,
            503 for too many of all.
        """
        key = (user, sent.ticket)
        with self._alone(key):
            kept = self._get(*key)
            talk = self._live.get(key)
            if kept is None:
                kept, talk, turn = self._opened(key, sent)
            elif kept.state not in OWNED:
                what = "This ticket is closed, or a person has it."
                raise Problem(409, "at its end", what, "Open another one.")
            elif talk is None:
                turn = self._without(kept, sent)
            else:
                turn = talk.hear(Said(sent.text, sent.button, sent.proposal))
            if talk is not None:
                kept.state, kept.why, kept.by = talk.state, talk.why, talk.by
                kept.turns, kept.pending = [list(one) for one in talk.transcript], talk.pending
            self._keep(kept)
        if turn is None:
            return {"act": "closed", "text": ""}
        told = {"act": turn.act, "text": turn.text}
        return told | (
            {"proposal": turn.proposal, "content": dict(turn.content)} if turn.proposal else {}
        )

    @contextmanager
    def _alone(self, key: tuple[str, str]) -> Iterator[None]:
        """Run a turn alone on its ticket, beside a few others of the customer and of all."""
        with self._lock:
            own = sum(user == key[0] for user, _ in self._running)
            if key in self._running or own >= EACH:
                what = "An answer to an earlier message is being written."
                status = 409 if key in self._running else 429
                raise Problem(status, "a turn is running", what, "Wait for it, then send again.")
            if len(self._running) >= TURNS:
                raise Problem(503, "busy", "Too many are asking.", "Send it again in a minute.")
            self._running.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(key)

    def _opened(self, key: tuple[str, str], sent: Message) -> tuple[Kept, Conversation, Turn]:
        user, now = key[0], self.clock()
        mine = self._rows("user = ?", user)
        names = [one.name for one in mine if one.state in ASKED]
        with self._lock:
            names += [n for u, n in self._running if u == user and n not in names and n != key[1]]
        if len(names) >= OPEN:
            what = f"{len(names)} tickets of yours are open: {', '.join(names)}."
            raise Problem(429, "too many tickets", what, "Finish one of them first.")
        if sum(one.opened > now - DAY for one in mine) >= DAILY:
            what = f"You have opened {DAILY} tickets within a day."
            raise Problem(429, "too many tickets", what, "Go on with one of them, or wait.")
        talk = self._talk(user)
        turn = talk.open(sent.text)
        self._live[key] = talk
        self.counts["tickets"] += 1
        return Kept(*key, talk.state, opened=now), talk, turn

    def _without(self, kept: Kept, sent: Message) -> Turn | None:
        """Go on with an answered ticket whose conversation a restart has ended."""
        if sent.button:
            kept.state = "closed"
            return None
        kept.turns.append(["customer", sent.text])
        self._to_person(kept, "written after a restart", keep=False)
        return Turn("hand_over", PERSON)

    def _to_person(self, kept: Kept, why: str, keep: bool = True) -> None:
        kept.state, kept.why, kept.by = "person", why, "machine"
        kept.turns.append(["agent", PERSON])
        if keep:
            self._keep(kept)

    # Keeping ----------------------------------------------------------------------------------

    def _rows(self, where: str, *values: Any) -> list[Kept]:
        names = "user, name, state, why, by, opened, at, turns, pending"
        with self._lock:
            query = f"SELECT {names} FROM tickets WHERE {where} ORDER BY rowid"
            rows = self._db.execute(query, values).fetchall()
        return [Kept(*row[:7], json.loads(row[7]), json.loads(row[8])) for row in rows]

    def _get(self, user: str, name: str) -> Kept | None:
        if (user, name) in self._unkept:
            return self._unkept[user, name]
        return next(iter(self._rows("user = ? AND name = ?", user, name)), None)

    def _keep(self, kept: Kept) -> None:
        """Keep a ticket, and note the turn; what was said is said, even if that fails."""
        key = (kept.user, kept.name)
        if kept.state not in OWNED:
            self._live.pop(key, None)
            self.counts[{"person": "people"}.get(kept.state, "closed")] += 1
        kept.at = self.clock()
        try:
            self._written(kept)
            self._unkept.pop(key, None)
            self._log(what="turn", ticket=kept.name, state=kept.state, why=kept.why)
        except Exception:  # money may have moved: the customer is told, the next sweep keeps it
            self.counts["unlogged"] += 1
            self._unkept[key] = kept

    def _written(self, kept: Kept) -> None:
        """Write a ticket, its texts masked, or none where they are not needed any more."""
        ended = kept.state in ("closed", "answered")
        turns = [] if ended and not self._consent(kept.user) else masked(kept.turns)
        row = (kept.user, kept.name, kept.state, kept.why, kept.by, kept.opened, kept.at)
        told = (*row, json.dumps(turns), json.dumps(kept.pending))
        names = ("state", "why", "by", "at", "turns", "pending")
        update = ", ".join(f"{one} = excluded.{one}" for one in names)
        query = f"INSERT INTO tickets VALUES ({', '.join('?' * len(told))}) ON CONFLICT DO UPDATE"
        with self._lock:
            self._db.execute(f"{query} SET {update}", told)

    # Looking ----------------------------------------------------------------------------------

    def transcript(self, user: str, name: str) -> dict[str, Any]:
        """Return what was said on a ticket of this user.

        Raises
        ------
        Problem
            404 for a ticket that is not there, or not theirs.
        """
        if (kept := self._get(user, name)) is None:
            raise Problem(404, "not found", "There is no such ticket here.", "Check its name.")
        return {"state": kept.state, "turns": kept.turns}

    def own(self, user: str) -> list[dict[str, Any]]:
        """Return names and states of a user's tickets."""
        return [{"ticket": one.name, "state": one.state} for one in self._rows("user = ?", user)]

    def handed_over(self, who: str, after: int = 0) -> list[dict[str, Any]]:
        """Return tickets that wait for an answer of this person, the oldest first: one page."""
        waiting = [k for k in self._rows("state = 'person'") if self.may(who, k.user)]
        return [
            {"user": k.user, "ticket": k.name, "turns": k.turns, "why": k.why, "why_by": k.by}
            for k in waiting[after : after + PAGE]
        ]

    # People -----------------------------------------------------------------------------------

    def decide(self, who: str, sent: Decision) -> dict[str, Any]:
        """Take a person's decision; 409 for one that does not count."""
        try:
            return {"state": self.books.allow(sent.proposal, who, sent.allow)}
        except NotAllowed as refused:
            raise Problem(409, "not allowed", str(refused), "Look at the queue again.") from None

    def answer(self, who: str, sent: Answer) -> dict[str, Any]:
        """Take a person's answer to a ticket that was handed over, which takes it off the queue.

        Raises
        ------
        Problem
            404 if none waits for this person under this name.
        """
        with self._alone((sent.user, sent.ticket)):
            kept = self._get(sent.user, sent.ticket)
            if kept is None or kept.state != "person" or not self.may(who, sent.user):
                what = "No such ticket waits for you."
                raise Problem(404, "not found", what, "Look at the queue again.")
            kept.turns.append([f"colleague {who}", sent.text])
            kept.state = "answered"
            self._keep(kept)
        return {"state": kept.state}

    # The timer --------------------------------------------------------------------------------

    def sweep(self) -> dict[str, int]:
        """Do what is due, and return how often: settled, told, ended, forgotten."""
        done: Counter[str] = Counter(settled=0, told=0, ended=0, forgotten=0)
        try:
            done["settled"] = len(self.books.recover())
        except Exception as error:  # the next sweep asks again
            self.counts["unswept"] += 1
            with suppress(Exception):
                self._log(what="sweep", ticket="", state="failed", why=type(error).__name__)
        for kept in list(self._unkept.values()):
            self._keep(kept)
        idle = self.clock() - IDLE
        for kept in self._rows("pending <> '[]' OR (at < ? AND state IN (?, ?, ?))", idle, *OWNED):
            with suppress(Problem), self._alone((kept.user, kept.name)):
                now = self._get(kept.user, kept.name)
                done["told"] += self._tell(now)
                done["ended"] += self._end(now, idle)
        with self._lock:
            query = "DELETE FROM tickets WHERE at < ? AND state IN ('closed', 'answered')"
            old = self._db.execute(f"{query} AND turns = '[]' AND pending = '[]'", (idle - KEPT,))
            done["forgotten"] = old.rowcount
        return dict(done)

    def _tell(self, kept: Kept) -> int:
        """Write into a ticket what came of its proposals."""
        told = 0
        for proposal in list(kept.pending):
            if (came := self._came(proposal)) is None:
                continue
            text, person = came
            kept.pending.remove(proposal)
            kept.turns.append(["agent", text])
            told += 1
            if (talk := self._live.get((kept.user, kept.name))) is not None:
                talk.transcript.append(("agent", text))
                talk.pending[:] = kept.pending
            if person:
                self._to_person(kept, "what was promised did not come", keep=False)
        if told:
            self._keep(kept)
        return told

    def _end(self, kept: Kept, idle: float) -> int:
        """End a ticket that nobody goes on with: who owes a word goes to a person."""
        if kept.state not in OWNED or kept.at >= idle:
            return 0
        if kept.state in ASKED:
            self._to_person(kept, "no word for a day")
        else:
            kept.state = "closed"
            self._keep(kept)
        return 1

    def every(self, seconds: float) -> Tickets:
        """Sweep every so many seconds, in a thread, until :meth:`close`; return itself."""

        def run() -> None:
            while not self._over.wait(seconds):
                self.sweep()

        self._timer = threading.Thread(target=run, daemon=True, name="sweep")
        self._timer.start()
        return self

    def close(self) -> None:
        """Stop the timer, close the file."""
        self._over.set()
        if self._timer is not None:
            self._timer.join(10.0)
        self._db.close()
