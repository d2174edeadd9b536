"""The firm of the leak hunt: rights as plain dictionaries, texts with markers, changes at random.

Examples
--------
>>> truth = Truth({"user:ann": (0, np.inf)}, {"group:b": {"user:ann"}, "group:a": {"group:b"}},
...               {"wiki:d1": "wiki:c1", "wiki:c1": ""}, {"wiki:c1": {("group:a", "allow")}})
>>> truth.may_see("user:ann", "wiki:d1", now=5)
True
>>> truth.grants["wiki:d1"] = {("group:b", "deny")}
>>> truth.may_see("user:ann", "wiki:d1", now=5)
False
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.desk import Desk
from casebook.cases.knowledge_assistant.records import Document, Event, Grant, Payload
from casebook.cases.knowledge_assistant.search import Search, words
from casebook.retrieval.filtered import Visible

#: Words of the texts and questions, and numbers of a vector.
TOPICS = 12
START = 1_750_000_000


@dataclass
class Truth:
    """The rights as plain dictionaries; the rules are those of :mod:`.records`."""

    users: dict[str, tuple[float, float]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    grants: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)

    def principals(self, who: str, known: set[str]) -> set[str]:
        """Add who, and whoever holds who, to what is known."""
        if who not in known:
            known.add(who)
            for group, held in self.members.items():
                if who in held:
                    self.principals(group, known)
        return known

    def chain(self, resource: str, below: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a resource and what it lies in, to the top; empty if that is not reached."""
        above = self.parents.get(resource)
        if above is None or resource in below:
            return ()
        return (*below, resource) if above == "" else self.chain(above, (*below, resource))

    def may_see(self, user: str, document: str, now: float) -> bool:
        """Say whether a user may see a document."""
        since, until = self.users.get(user, (np.inf, 0))
        own = self.principals(user, set())
        told = [self.grants.get(one, set()) for one in self.chain(document)]
        effects = {effect for one in told for who, effect in one if who in own}
        return since <= now < until and effects == {"allow"}


class World:
    """A small firm that changes at random; every change is also told to the assistant."""

    def __init__(self, seed: int, desk: type[Desk], store: type[Access]) -> None:
        self.rng, self.truth, self.now, self._seq = np.random.default_rng(seed), Truth(), START, 0
        self.access = store(":memory:", clock=lambda: self.now)
        self.search = Search(self.access, TOPICS)
        self.desk = desk(self.access, self.search, self.encode)
        rng = self.rng
        for i in range(12):
            self.tell("user", f"user:{i}", True)
        for i in range(9):
            held = [f"user:{j}" for j in rng.choice(12, 3, replace=False)]
            self.tell("members", f"group:{i}", (*held, *self._groups(rng.poisson(0.7))))
        for i in range(15):
            self.tell("container", f"wiki:c{i}", "" if i < 4 else f"wiki:c{rng.integers(i)}")
        for i in range(60):
            self.write(i, 1, f"wiki:c{rng.integers(15)}")
        for _ in range(30):
            self.regrant()

    def encode(self, text: str) -> np.ndarray:
        """Return the counts of the topics' words."""
        return np.array([f"topic{i}" in words(text) for i in range(TOPICS)], np.float32)

    def nearest_of_all(self, question: str, k: int) -> list[str]:
        """Return the documents of the nearest pieces, whoever may see them."""
        live = Visible.of(self.search._live)
        found = self.search._index.search(self.encode(question), live, k)
        return [self.search._pieces[row][0] for row in found.rows]

    def without_hidden(self, user: str) -> Desk:
        """Return an assistant that has never heard of what the user may not see."""
        search = Search(self.access, TOPICS)
        for document, _ in sorted(self.search._documents.values(), key=lambda one: one[1].start):
            if self.truth.may_see(user, document.id, self.now):
                self._store(search, document)
        return type(self.desk)(self.access, search, self.encode)

    def _store(self, search: Search, document: Document) -> None:
        """Store the pieces of a document: a line each, with a vector that no other has."""
        pieces = document.body.split("\n")
        own = np.random.default_rng([int(document.id[6:]), document.version])
        vectors = [self.encode(one) + own.normal(0, 0.02, TOPICS) for one in pieces]
        search.put([(document, pieces, np.array(vectors))])

    def tell(self, kind: str, subject: str, payload: Payload) -> None:
        """Write an event into the truth and hand it to the assistant."""
        self._seq += 1
        truth, at = self.truth, np.datetime64(int(self.now), "s")
        if kind == "user":
            since = truth.users.get(subject, (self.now,))[0]
            truth.users[subject] = (self.now, np.inf) if payload else (since, self.now)
        elif kind == "members":
            truth.members[subject] = {*payload}
        elif kind == "container":
            truth.parents[subject] = payload
        elif kind == "grants":
            truth.grants[subject] = {(one.principal, one.effect) for one in payload}
        elif kind == "document":
            truth.parents[subject], truth.documents[subject] = payload.container, payload
            self._store(self.search, payload)
        else:
            del truth.parents[subject], truth.documents[subject]
            self.search.drop(subject)
            self.desk.cache.forget(subject)
        self.access.apply([Event("wiki", self._seq, at, kind, subject, payload)])

    def write(self, number: int, version: int, container: str) -> None:
        """Write a version of a document: two pieces of two topics each, with its marker."""
        rng = np.random.default_rng(number)  # the same topics in each version
        marker = f"zq{number}x"
        body = "\n".join(
            f"{marker} v{version} " + " ".join(f"topic{t}" for t in rng.choice(TOPICS, 2, False))
            for _ in range(2)
        )
        at = np.datetime64(int(self.now), "s")
        name = f"wiki:d{number}"
        page = Document(
            name, "wiki", name, f"{marker} page", body, version, at, "user:0", False, container
        )
        self.tell("document", name, page)

    # Edits

    def _groups(self, n: int) -> list[str]:
        return [f"group:{j}" for j in self.rng.choice(9, min(n, 9), replace=False)]

    def regrant(self) -> None:
        """Set the grants of a container or a document anew: one in five denies."""
        rng = self.rng
        at_top = rng.random() < 0.7
        subject = f"wiki:c{rng.integers(15)}" if at_top else f"wiki:d{rng.integers(60)}"
        who = [*self._groups(rng.integers(3)), f"user:{rng.integers(12)}"]
        effects = rng.choice(["allow", "deny"], len(who), p=[0.8, 0.2])
        told = (Grant(subject, one, str(effect)) for one, effect in zip(who, effects, strict=True))
        self.tell("grants", subject, tuple(told))

    def edit(self) -> None:
        """Change something at random: groups may hold each other, containers may go in a circle."""
        rng, kind = self.rng, self.rng.integers(7)
        number, container = int(rng.integers(60)), f"wiki:c{rng.integers(15)}"
        if kind <= 1:
            self.regrant()
        elif kind == 2:
            users = [f"user:{j}" for j in rng.choice(12, rng.integers(5), replace=False)]
            held = (*users, *self._groups(rng.poisson(0.7)))
            self.tell("members", f"group:{rng.integers(9)}", held)
        elif kind == 3:
            above = "" if rng.random() < 0.4 else f"wiki:c{rng.integers(15)}"
            self.tell("container", container, above)
        elif kind == 4:
            user = f"user:{rng.integers(12)}"
            gone = self.truth.users[user][1] <= self.now
            self.tell("user", user, bool(gone or rng.random() < 0.5))
        elif f"wiki:d{number}" in self.truth.documents and rng.random() < 0.3:
            self.tell("deleted", f"wiki:d{number}", None)
        else:
            old = self.truth.documents.get(f"wiki:d{number}")
            place = container if rng.random() < 0.5 or not old else old.container
            self.write(number, old.version + 1 if old else 1, place)

    def take_away(self, user: str, document: str) -> None:
        """Take a document from a user who sees it: by a denial, or out of a group."""
        groups = [g for g, held in self.truth.members.items() if user in held]
        if groups and self.rng.random() < 0.5:
            group = str(self.rng.choice(groups))
            self.tell("members", group, tuple(sorted(self.truth.members[group] - {user})))
        else:
            chain = self.truth.chain(document) or (document,)
            subject = str(self.rng.choice(chain))
            told = {*self.truth.grants.get(subject, ()), (user, "deny")}
            self.tell("grants", subject, tuple(Grant(subject, *one) for one in sorted(told)))
