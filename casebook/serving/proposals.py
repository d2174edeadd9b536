"""Steps to an effect: proposed by anybody, confirmed by its owner, allowed by a person, done once.

A model may *propose*. A proposal is a row whose content never changes; its owner is shown it and
says yes or no; then the policy decides again, in one transaction with the row that reserves what it
grants, so that two proposals at a time cannot pass a limit together. What a person has to allow
waits in a queue (:mod:`casebook.serving.approvals`). The effect goes out under the number of the
proposal (:mod:`casebook.serving.once`).

States: ``proposed`` → ``declined`` | ``expired`` | ``refused`` | ``queued`` → ``refused`` |
``doing`` → ``done``. An audit row is written before each step takes effect; if it cannot be
written, nothing happens.

Examples
--------
>>> class Gifts(Proposals):
...     def decide(self, content, but=""):
...         spent = sum(one["content"]["euro"] for one in self.held(but=but))
...         return Verdict("no" if spent + content["euro"] > 50 else "do")
>>> sent = []
>>> gifts = Gifts(lambda key, content: sent.append(content["euro"]) or {}, {"pat"}, lambda: 0.0)
>>> (_, first), (_, second) = (gifts.propose("ann", {"euro": 30}) for _ in range(2))
>>> gifts.confirm("bob", first, True)[0], gifts.confirm("ann", first, True)[0]
('refused', 'done')
>>> gifts.confirm("ann", first, True)[0], gifts.confirm("ann", second, True)[0], sent
('done', 'refused', [30])
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from casebook.serving.approvals import Approvals, NotAllowed
from casebook.serving.once import Once, Unknown

#: States of proposals whose effect is spoken for.
HELD = ("queued", "doing", "done")
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS proposals (id TEXT PRIMARY KEY, owner TEXT NOT NULL, "
    "content TEXT NOT NULL, state TEXT NOT NULL, by_person INTEGER NOT NULL, at REAL NOT NULL"
    ") STRICT"
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
    audit : callable
        Takes what happens as keywords, before it takes effect.
    passed : callable
        Where a drill kills the process.
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
    ) -> None:
        self.clock, self.audit, self._lock = clock, audit, threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute(SCHEMA)
        self.once = Once(self._db, effect, passed)
        self.approvals = Approvals(self._db, staff, clock)

    @abstractmethod
    def decide(self, content: Mapping[str, Any], but: str = "") -> Verdict:
        """Return what the policy says now; ``but``: a proposal not to be held against itself."""

    def seconds(self, content: Mapping[str, Any]) -> tuple[float, float]:
        """Return for how long a proposal holds, and what waits for a person."""
        return self.confirm_seconds, self.approval_seconds

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Keep everybody else out until what was decided is written."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    # Steps ------------------------------------------------------------------------------------

    def propose(self, owner: str, content: Mapping[str, Any]) -> tuple[Verdict, str]:
        """Return what may be done, and the number of a proposal unless it is ``no``."""
        with self.deciding():
            verdict = self.decide(content)
            (count,) = self._db.execute("SELECT COUNT(*) FROM proposals").fetchone()
            told = json.dumps(dict(content), sort_keys=True)
            ident = hashlib.sha256(f"{owner} {count} {told}".encode()).hexdigest()[:12]
            self._note("propose", owner, content, verdict, ident)
            if verdict.kind == "no":
                return verdict, ""
            self._db.execute(
                "INSERT INTO proposals VALUES (?, ?, ?, 'proposed', 0, ?)",
                (ident, owner, told, self.clock()),
            )
        return verdict, ident

    def confirm(self, owner: str, ident: str, yes: bool) -> tuple[str, str]:
        """Take a yes or no; return the state, and what may be said.

        It counts for a proposal of this owner, once, and for ``confirm_seconds``.
        """
        with self.deciding():
            row, say = self.row(ident), ""
            if row is None or row["owner"] != owner:
                return "refused", "There is no such proposal."
            if row["state"] != "proposed":
                return row["state"], "This was answered before."
            if not yes:
                return self._moved(row, "declined"), "Nothing was changed."
            confirm, approve = self.seconds(row["content"])
            if self.clock() - row["at"] > confirm:
                return self._moved(row, "expired"), "This proposal has expired."
            verdict = self.decide(row["content"])
            state = {"no": "refused", "person": "queued", "do": "doing"}[verdict.kind]
            self._moved(row, state, verdict)
            if state == "queued":
                self.approvals.ask(ident, row["content"], owner, approve)
            if state == "doing":
                self.once.begin(self.key(row), row["content"])
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
        with self.deciding():
            row = self.row(ident)
            if row is None or row["state"] != "queued":
                raise NotAllowed(f"{ident}: nothing waits under this number.")
            self.approvals.decide(ident, who, yes)
            state = "doing" if yes and self.still(row) else "refused"
            self._moved(row, state, who=who)
            if state == "doing":
                self._db.execute("UPDATE proposals SET by_person = 1 WHERE id = ?", (ident,))
                self.once.begin(self.key(row), row["content"])
        return self._settled(row) if state == "doing" else state

    def still(self, row: Mapping[str, Any]) -> bool:
        """Say whether what was allowed is not forbidden by now, and is what was asked for."""
        good = self.decide(row["content"], but=row["id"]).kind != "no"
        return good and self.approvals.spend(row["id"], row["content"])

    def recover(self) -> list[str]:
        """Ask the other system about effects that are open; return the keys that are done now."""
        settled = self.once.recover()
        for row in self._select("state = 'doing'"):
            if self.key(row) in settled:
                self._done(row)
        return settled

    # Rows -------------------------------------------------------------------------------------

    def key(self, row: Mapping[str, Any]) -> str:
        """Return the key under which an effect goes out: it belongs to the proposal."""
        return row["id"]

    def rows(self, owner: str = "") -> list[dict[str, Any]]:
        """Return proposals, of one owner or of all, the oldest first."""
        return self._select("owner = ?1 OR ?1 = ''", owner)

    def _select(self, where: str, *values: Any) -> list[dict[str, Any]]:
        names = ("id", "owner", "content", "state", "by_person", "at")
        query = f"SELECT {', '.join(names)} FROM proposals WHERE {where} ORDER BY rowid"
        made = [dict(zip(names, row, strict=True)) for row in self._db.execute(query, values)]
        return [one | {"content": json.loads(one["content"])} for one in made]

    def row(self, ident: str) -> dict[str, Any] | None:
        """Return one proposal."""
        return next(iter(self._select("id = ?", ident)), None)

    def held(self, since: float = float("-inf"), but: str = "") -> list[dict[str, Any]]:
        """Return proposals whose effect is spoken for; ``but``: without this one.

        What nobody has allowed in time holds nothing any more.
        """
        marks = ", ".join("?" * len(HELD))
        rows = self._select(f"at > ? AND id <> ? AND state IN ({marks})", since, but, *HELD)
        late = {r["id"] for r in rows if self.approvals.state(r["id"]) == "expired"}
        return [r for r in rows if r["state"] != "queued" or r["id"] not in late]

    def _moved(
        self, row: Mapping[str, Any], state: str, verdict: Verdict | None = None, who: str = ""
    ) -> str:
        """Write a step down, then take it."""
        self._note(state, row["owner"], row["content"], verdict, row["id"], who)
        self._db.execute("UPDATE proposals SET state = ? WHERE id = ?", (state, row["id"]))
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
        """Ask the other system; return ``done``, or ``doing`` where it does not answer."""
        try:
            self.once.settle(self.key(row))
        except Unknown:
            return "doing"
        return self._done(row)

    def _done(self, row: Mapping[str, Any]) -> str:
        self._db.execute("UPDATE proposals SET state = 'done' WHERE id = ?", (row["id"],))
        return "done"
