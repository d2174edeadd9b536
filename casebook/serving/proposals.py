"""Steps to an effect: proposed by anybody, confirmed by its owner, allowed by a person, done once.

A model may *propose*. A proposal is a row whose content never changes; its owner is shown it and
says yes or no; then the policy decides again, in one transaction with the row that reserves what it
grants, so that two proposals at a time cannot pass a limit together. What a person has to allow
waits in a queue (:mod:`casebook.serving.approvals`). The effect goes out under the number of the
proposal (:mod:`casebook.serving.once`).

States: ``proposed`` → ``declined`` | ``expired`` | ``refused`` | ``queued`` → ``refused`` |
``expired`` | ``doing`` → ``done`` | ``failed``. An audit row is written before each step takes
effect; if it cannot be written, nothing happens. *Failed* is what the other system refused: it
holds nothing any more, and a person looks at it.

Examples
--------
>>> class Gifts(Proposals):
...     def decide(self, content, but=""):
...         spent = sum(one["content"]["euro"] for one in self.held(but=but))
...         return Verdict("no" if spent + content["euro"] > 50 else "do")
>>> sent = []
>>> def send(key, content):
...     sent.append(content["euro"])
...     return {"state": "done"}
>>> gifts = Gifts(send, {"pat"}, lambda: 0.0)
>>> (_, first), (_, second) = (gifts.propose("ann", {"euro": 30}) for _ in range(2))
>>> gifts.confirm("bob", first, True)[0], gifts.confirm("ann", first, True)[0]
('refused', 'done')
>>> gifts.confirm("ann", first, True)[0], gifts.confirm("ann", second, True)[0], sent
('done', 'refused', [30])
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from casebook.data.private import private
from casebook.serving.approvals import Approvals, NotAllowed
from casebook.serving.once import SKEW, Once, Unknown

_WAITS = "(state = 'queued' AND until >= ?)"
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS proposals (id TEXT PRIMARY KEY, owner TEXT NOT NULL, "
    "content TEXT NOT NULL, state TEXT NOT NULL, by_person INTEGER NOT NULL, at REAL NOT NULL, "
    "until REAL NOT NULL) STRICT",
    "CREATE INDEX IF NOT EXISTS by_state ON proposals (state, at)",
    "CREATE INDEX IF NOT EXISTS by_owner ON proposals (owner)",
)


@dataclass(frozen=True)
class Verdict:
    """What a policy says: ``do``, ``person`` (one has to allow it) or ``no``.

    Attributes
    ----------
    rules : tuple of str
        Names of the rules that spoke.
    say : str
        What the owner may be told.
    """

    kind: str
    rules: tuple[str, ...] = ()
    say: str = ""


def strictest(
    rules: Mapping[str, Sequence[Callable[..., bool]]],
    *given: Any,
    say: Callable[[str], str] = lambda rule: "",
) -> Verdict:
    """Return what named rules say of something: the first ``no``, else all that want a person.

    Parameters
    ----------
    rules : mapping of str to sequence of callable
        ``no`` and ``person`` → functions of ``given`` that say whether they speak.
    say : callable
        Name of a rule → what the owner is told.

    Examples
    --------
    >>> def large(euro):
    ...     return euro > 60
    >>> strictest({"no": [], "person": [large]}, 61)
    Verdict(kind='person', rules=('large',), say='')
    """
    for rule in rules["no"]:
        if rule(*given):
            return Verdict("no", (rule.__name__,), say(rule.__name__))
    spoke = tuple(rule.__name__ for rule in rules["person"] if rule(*given))
    return Verdict("person" if spoke else "do", spoke)


class Proposals(ABC):
    """Proposals in a file of SQLite; a subclass has the policy.

    Parameters
    ----------
    effect : callable
        The other system: key and content → answer; see :class:`casebook.serving.once.Once`.
    staff : collection of str
        Who may allow what waits.
    clock : callable
        Seconds.
    path : str
        Of a file, for its owner alone.
    audit : callable
        Takes what happens as keywords, before it takes effect.
    passed : callable
        Where a drill kills the process.
    look : callable, optional
        Finds an effect that is too old to be asked about by its key.
    """

    #: Seconds for which a proposal, and what waits for a person, hold.
    confirm_seconds, approval_seconds = 900.0, 172_800.0

    def __init__(
        self,
        effect: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
        staff: Collection[str],
        clock: Callable[[], float],
        path: str = ":memory:",
        audit: Callable[..., object] = lambda **row: None,
        passed: Callable[[str], None] = lambda point: None,
        look: Callable[[str], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self.clock, self.audit, self.staff = clock, audit, staff
        self._lock, self._depth = threading.RLock(), 0
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
        for line in SCHEMA:
            self._db.execute(line)
        now = lambda: self.clock()  # noqa: E731
        self.once = Once(self._db, effect, passed, now, look, self.deciding)
        self.approvals = Approvals(self._db, staff, now, self.may)

    @abstractmethod
    def decide(self, content: Mapping[str, Any], but: str = "") -> Verdict:
        """Return what the policy says now; ``but``: a proposal not to be held against itself."""

    def may(self, who: str, by: str, content: Mapping[str, Any]) -> bool:
        """Say whether somebody of the staff may decide about what ``by`` has asked for."""
        return who != by

    def request(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what goes out to the other system."""
        return row["content"]

    def seconds(self, content: Mapping[str, Any]) -> tuple[float, float]:
        """Return for how long a proposal holds, and what waits for a person."""
        return self.confirm_seconds, self.approval_seconds

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Keep everybody else out until what was decided is written; may be nested.

        Whoever reads takes it, too: on one connection another thread would see what is not written
        yet, and may be taken back.
        """
        with self._lock:
            if self._depth:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    # Steps ------------------------------------------------------------------------------------

    def propose(self, owner: str, content: Mapping[str, Any]) -> tuple[Verdict, str]:
        """Return what may be done, and the number of a proposal unless it is ``no``."""
        self.expire()
        with self.deciding():
            verdict, ident = self.decide(content), secrets.token_hex(8)
            self._note("propose", owner, content, verdict, ident)
            if verdict.kind == "no":
                return verdict, ""
            self._add(ident, owner, content, "proposed", self.seconds(content)[0])
        return verdict, ident

    def confirm(self, owner: str, ident: str, yes: bool) -> tuple[str, str]:
        """Take a yes or no; return the state, and what may be said.

        It counts for a proposal of this owner, once, and for ``confirm_seconds``.
        """
        self.expire()
        with self.deciding():
            row, say = self.row(ident), ""
            if row is None or row["owner"] != owner:
                return "refused", "There is no such proposal."
            if row["state"] == "expired":
                return "expired", "This proposal has expired."
            if row["state"] != "proposed":
                return row["state"], "This was answered before."
            if not yes:
                return self._moved(row, "declined"), "Nothing was changed."
            if self.clock() < row["at"] - SKEW:
                return "refused", "Our clocks disagree; please ask again later."
            verdict = self.decide(row["content"])
            state = {"no": "refused", "person": "queued", "do": "doing"}[verdict.kind]
            self._moved(row, state, verdict, seconds=self.seconds(row["content"])[1])
            if state == "queued":
                self.approvals.ask(ident, row["content"], owner, self.seconds(row["content"])[1])
            if state == "doing":
                self.once.begin(self.key(row), self.request(row))
            say = verdict.say
        return (self._settled(row) if state == "doing" else state), say

    def allow(self, ident: str, who: str, yes: bool) -> str:
        """Take a person's decision about what waits; return its state.

        What the policy forbids by now is not done, whoever allows it.

        Raises
        ------
        NotAllowed
            See :meth:`casebook.serving.approvals.Approvals.decide`.
        """
        self.expire()
        with self.deciding():
            row = self.row(ident)
            if row is None or row["state"] != "queued":
                state = row["state"] if row else "there is no such number"
                raise NotAllowed(f"{ident}: {state}, so that nothing waits.")
            self.approvals.decide(ident, who, yes)
            state = "doing" if yes and self.still(row) else "refused"
            self._moved(row, state, who=who)
            if state == "doing":
                self._db.execute("UPDATE proposals SET by_person = 1 WHERE id = ?", (ident,))
                self.once.begin(self.key(row), self.request(row))
        return self._settled(row) if state == "doing" else state

    def still(self, row: Mapping[str, Any]) -> bool:
        """Say whether what was allowed is not forbidden by now, and is what was asked for."""
        good = self.decide(row["content"], but=row["id"]).kind != "no"
        return good and self.approvals.spend(row["id"], row["content"])

    def waiting(self, who: str = "") -> list[dict[str, Any]]:
        """Return what waits for a person: what this one may decide about, by default all."""
        self.expire()
        with self.deciding():
            return self.approvals.waiting(who)

    def expire(self) -> list[str]:
        """Write down what has expired, and return it: no clock that goes back revives it."""
        with self.deciding():
            where = "state IN ('proposed', 'queued') AND until < ?"
            rows = self._select(where, self.clock())
            for row in rows:
                self.approvals.state(row["id"])
                self._moved(row, "expired")
        return [row["id"] for row in rows]

    def recover(self) -> list[str]:
        """Ask the other system about effects that are open; return those that are settled now.

        A timer calls it, in any thread: nobody is kept out while the other system is asked.
        """
        return [r["id"] for r in self._select("state = 'doing'") if self._settled(r) != "doing"]

    def stuck(self) -> list[dict[str, Any]]:
        """Return what is open and was asked about in vain, each with its ``error``: for a person.

        Whoever watches takes those that are older than an hour.
        """
        errors = self.once.errors()
        rows = [row | {"error": errors.get(self.key(row), "")} for row in self.rows()]
        return [row for row in rows if row["state"] == "doing" and row["error"]]

    def unknown(self, idents: Iterable[str]) -> list[str]:
        """Return what an audit has and these books do not: they are an older copy."""
        known = {row["id"] for row in self.rows()}
        return sorted(set(idents) - known)

    def adopt(self, owner: str, content: Mapping[str, Any]) -> str:
        """Take over what was done without these books, so that limits count it."""
        with self.deciding():
            ident = secrets.token_hex(8)
            self._note("adopted", owner, content, None, ident)
            self._add(ident, owner, content, "done", 0.0)
        return ident

    # Rows -------------------------------------------------------------------------------------

    def key(self, row: Mapping[str, Any]) -> str:
        """Return the key under which an effect goes out: it belongs to the proposal."""
        return row["id"]

    def rows(self, owner: str = "") -> list[dict[str, Any]]:
        """Return proposals, of one owner or of all, the oldest first."""
        return self._select("owner = ?1 OR ?1 = ''", owner)

    def _add(
        self, ident: str, owner: str, content: Mapping[str, Any], state: str, seconds: float
    ) -> None:
        told, now = json.dumps(dict(content), sort_keys=True), self.clock()
        values = (ident, owner, told, state, 0, now, now + seconds)
        self._db.execute("INSERT INTO proposals VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def _select(self, where: str, *values: Any) -> list[dict[str, Any]]:
        names = ("id", "owner", "content", "state", "by_person", "at")
        query = f"SELECT {', '.join(names)} FROM proposals WHERE {where} ORDER BY rowid"
        with self.deciding():
            made = [dict(zip(names, r, strict=True)) for r in self._db.execute(query, values)]
        return [one | {"content": json.loads(one["content"])} for one in made]

    def row(self, ident: str) -> dict[str, Any] | None:
        """Return one proposal."""
        return next(iter(self._select("id = ?", ident)), None)

    def held(
        self, since: float = float("-inf"), but: str = "", **about: str
    ) -> list[dict[str, Any]]:
        """Return proposals whose effect is spoken for; ``at`` is when it came to be.

        Parameters
        ----------
        since : float
            Seconds.
        but : str
            Without this one.
        **about : str
            Only those whose content has these values; index ``json_extract(content, '$.…')``.
        """
        fits = "".join(f" AND json_extract(content, '$.{name}') = ?" for name in about)
        where = f"at > ? AND id <> ? AND (state IN ('doing', 'done') OR {_WAITS}){fits}"
        return self._select(where, since, but, self.clock(), *about.values())

    def _moved(
        self,
        row: Mapping[str, Any],
        state: str,
        verdict: Verdict | None = None,
        who: str = "",
        seconds: float = 0.0,
    ) -> str:
        """Write a step down, then take it."""
        self._note(state, row["owner"], row["content"], verdict, row["id"], who)
        now = self.clock()
        at = now if state in ("queued", "doing") and row["state"] == "proposed" else row["at"]
        query = "UPDATE proposals SET state = ?, at = ?, until = ? WHERE id = ?"
        self._db.execute(query, (state, at, now + seconds, row["id"]))
        return state

    def _note(
        self,
        what: str,
        owner: str,
        content: Mapping[str, Any],
        verdict: Verdict | None,
        ident: str,
        who: str = "",
    ) -> None:
        rules = " ".join(verdict.rules) if verdict else ""
        told = {"owner": owner, "content": dict(content), "id": ident, "who": who, "rules": rules}
        self.audit(what=what, at=self.clock(), **told)

    def _settled(self, row: Mapping[str, Any]) -> str:
        """Ask the other system; return ``done`` or ``failed``, or ``doing`` without an answer."""
        states: list[str] = []
        try:
            self.once.settle(self.key(row), lambda told: states.append(self._final(row, told)))
        except Unknown:
            return "doing"
        return states[0]

    def _final(self, row: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
        """Write down what the other system says, with its answer, in one transaction."""
        now = self.row(row["id"]) or row
        return now["state"] if now["state"] != "doing" else self._moved(now, answer["state"])
