"""The firm of the leak hunt: small, with markers in its texts, and changed at random.

What is right is asked of :class:`~.world.State`, which walks through plain dictionaries and shares
no line with the store of rights.

Examples
--------
>>> firm = Hunted(seed=1)
>>> firm.tell("grants", "wiki:d7", (Grant("wiki:d7", "user:3", "deny"),))
>>> firm.truth.may_see("user:3", "wiki:d7"), firm.access.sees("user:3", ["wiki:d7"]).tolist()
(False, [False])
"""

from __future__ import annotations

import numpy as np

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.desk import Desk
from casebook.cases.knowledge_assistant.records import Document, Event, Grant, Payload
from casebook.cases.knowledge_assistant.search import Search, words
from casebook.cases.knowledge_assistant.world import State
from casebook.retrieval.filtered import Visible

#: Words of the texts and questions, and numbers of a vector.
TOPICS = 12
START = 1_750_000_000


class Hunted:
    """A small firm that changes at random; every change is also told to the assistant."""

    def __init__(self, seed: int, desk: type[Desk] = Desk, store: type[Access] = Access) -> None:
        self.rng, self.now = np.random.default_rng(seed), START
        self.events: list[Event] = []
        #: Of each document: the last version, that of its last move, that whose text has arrived.
        self.version, self.moved, self.stored = {}, {}, {}
        self._late: list[tuple[float, Document]] = []
        self._state: tuple[int, State] = (0, State(()))
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
        shown = self.shown(user)
        for document, _ in sorted(self.search._documents.values(), key=lambda one: one[1].start):
            if document.id in shown:
                self._store(search, document)
        return type(self.desk)(self.access, search, self.encode)

    def _store(self, search: Search, document: Document) -> None:
        """Store the pieces of a document: a line each, with a vector that no other has."""
        pieces = document.body.split("\n")
        own = np.random.default_rng([int(document.id[6:]), document.version])
        vectors = [self.encode(one) + own.normal(0, 0.02, TOPICS) for one in pieces]
        search.put([(document, pieces, np.array(vectors))])

    @property
    def truth(self) -> State:
        """The rights as the events leave them."""
        if self._state[0] != len(self.events):
            self._state = len(self.events), State(self.events)
        return self._state[1]

    def tell(self, kind: str, subject: str, payload: Payload) -> None:
        """Let something happen, and tell the assistant of it."""
        at = np.datetime64(int(self.now), "s")
        event = Event("wiki", len(self.events) + 1, at, kind, subject, payload)
        before = self.truth.documents.get(subject)
        self.events.append(event)
        self.access.apply([event])
        if isinstance(payload, Document):
            self.version[subject] = payload.version
            if not before or before.container != payload.container:
                self.moved[subject] = payload.version
            wait = self.rng.integers(60) if before and self.rng.random() < 0.5 else 0
            self._late.append((self.now + wait, payload))
            self.arrive()
        elif kind == "deleted":
            self._late = [one for one in self._late if one[1].id != subject]
            self.stored.pop(subject, None)
            self.search.drop(subject)
            self.desk.cache.forget(subject)

    def arrive(self) -> None:
        """Store the texts that have arrived by now; rights are always told first."""
        for at, page in self._late:
            if at <= self.now and page.version > self.stored.get(page.id, 0):
                self._store(self.search, page)
                self.stored[page.id] = page.version
        self._late = [one for one in self._late if one[0] > self.now]

    def may(self, user: str, document: str, version: int) -> bool:
        """Say whether a user may see a text: as a document, and not one from before its move."""
        return self.truth.may_see(user, document) and version >= self.moved[document]

    def shown(self, user: str) -> dict[str, Document]:
        """Return the documents that are stored, in the version that is, and that a user may see."""
        told = self.search._documents.items()
        return {name: page for name, (page, _) in told if self.may(user, name, page.version)}

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
            name,
            "wiki",
            name,
            f"{marker} v{version} page",
            body,
            version,
            at,
            "user:0",
            False,
            container,
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
            self.tell("user", user, not self.truth.active[user] or bool(rng.random() < 0.5))
        elif (old := self.truth.documents.get(f"wiki:d{number}")) and rng.random() < 0.3:
            self.tell("deleted", f"wiki:d{number}", None)
        else:
            place = container if rng.random() < 0.5 or not old else old.container
            self.write(number, self.version.get(f"wiki:d{number}", 0) + 1, place)

    def take_away(self, user: str, document: str) -> None:
        """Take a text from a user who sees it: by a denial, out of a group, by a new version."""
        old = self.truth.documents.get(document)
        if old and self.rng.random() < 0.25:
            container = (
                f"wiki:c{self.rng.integers(15)}" if self.rng.random() < 0.5 else old.container
            )
            self.write(int(document[6:]), old.version + 1, container)
            return
        groups = [g for g, held in self.truth.members.items() if user in held]
        if groups and self.rng.random() < 0.5:
            group = str(self.rng.choice(groups))
            left = tuple(one for one in self.truth.members[group] if one != user)
            self.tell("members", group, left)
        else:
            chain = self.truth.chain(document) or (document,)
            subject = str(self.rng.choice(chain))
            held = self.truth.grants.get(subject, ())
            self.tell("grants", subject, (*held, Grant(subject, user, "deny")))
