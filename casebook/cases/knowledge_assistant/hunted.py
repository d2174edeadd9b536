"""The firm of the leak hunt: small, with markers in its texts, and changed at random.

What is right is asked of :class:`~.world.State`, which walks through plain dictionaries and shares
no line with the store of rights. Rights are told at once, texts when a round ends: until then the
assistant has old texts under new rights. Who may see a text is therefore not a matter of today's
rights alone: it is who may see the document now, *and* could see it while that text was in force.

Examples
--------
>>> firm = Hunted(seed=1)
>>> firm.tell("grants", "wiki:d7", (Grant("wiki:d7", "user:3", "deny"),))
>>> firm.truth.may_see("user:3", "wiki:d7"), firm.access.sees("user:3", ["wiki:d7"]).tolist()
(False, [False])
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answering import Assistant, Learned
from casebook.cases.knowledge_assistant.desk import Desk, Quotes, Reader
from casebook.cases.knowledge_assistant.library import Library, Mix
from casebook.cases.knowledge_assistant.reading import FEATURES
from casebook.cases.knowledge_assistant.records import Document, Event, Grant, Payload
from casebook.cases.knowledge_assistant.world import State
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.filtered import Visible
from casebook.retrieval.statements import Kinds

#: Words of the texts and questions, and users, groups, containers and documents of a firm.
TOPICS, USERS, GROUPS, CONTAINERS, DOCUMENTS = 12, 12, 9, 15, 60
START = 1_750_000_000
#: A line of a document is a passage: marker, version, two topics and a value.
LINES = Chunker("words", 7, 0)


def words(text: str) -> set[str]:
    """Return the words of a text in small letters."""
    return {*re.findall(r"\w+", text.casefold())}


class Topics:
    """An embedder that counts the topics' words, with a little of each text's own."""

    name, dimensions = "topics", TOPICS

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (texts, 12)."""
        rows = np.zeros((len(texts), TOPICS), np.float32)
        for row, text in zip(rows, texts, strict=True):
            own, held = np.random.default_rng(zlib.crc32(text.encode())), words(text)
            row += [f"topic{i}" in held for i in range(TOPICS)] + own.normal(0, 0.02, TOPICS)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def judging(library: Library) -> Assistant:
    """Return the chapter's reader with weights by hand: a line near to the question holds."""
    plain = dict.fromkeys(FEATURES, 0.0)
    weight = plain | {"near": 8.0, "intercept": -2.0}
    head = {"mean": plain, "sd": dict.fromkeys(FEATURES, 1.0), "weight": weight}
    return Assistant(library, Learned(head, Kinds.of([]), mix=Mix(0.5, 0.1), threshold=0.0))


@dataclass(frozen=True)
class Parts:
    """What is hunted: the assistant's parts, or ones with a planted fault."""

    desk: Callable[[Reader], Desk] = Desk
    store: Callable[..., Access] = Access
    reader: Callable[[Library], Reader] = Quotes
    library: type[Library] = Library


class Hunted:
    """A small firm that changes at random; every change is also told to the assistant."""

    def __init__(self, seed: int, parts: Parts = Parts()) -> None:
        self.rng, self.now, self.parts = np.random.default_rng(seed), START, parts
        self.events: list[Event] = []
        #: Of each document: the last version, and that of its last move.
        self.version, self.moved = dict[str, int](), dict[str, int]()
        #: Of each text, those who could see it while it was in force.
        self.had: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self._late: dict[str, Document] = {}
        self._states: dict[int, State] = {}
        self.settled = 0
        self.access = parts.store(":memory:", clock=lambda: self.now)
        self.library = parts.library(self.access, Topics(), chunker=LINES)
        self.desk = parts.desk(parts.reader(self.library))
        rng, self._open = self.rng, False
        for i in range(USERS):
            self.tell("user", f"user:{i}", True)
        for i in range(GROUPS):
            held = [f"user:{j}" for j in rng.choice(USERS, 3, replace=False)]
            self.tell("members", f"group:{i}", (*held, *self._groups(rng.poisson(0.7))))
        for i in range(CONTAINERS):
            self.tell("container", f"wiki:c{i}", "" if i < 4 else f"wiki:c{rng.integers(i)}")
        for i in range(DOCUMENTS):
            self.write(i, 1, f"wiki:c{rng.integers(CONTAINERS)}")
        for _ in range(30):
            self.regrant()
        self._open = True
        self._remember()
        self.arrive()

    def nearest_of_all(self, question: str, k: int) -> list[str]:
        """Return the documents of the nearest passages, whoever may see them."""
        library = self.library
        vector = library.embedder.encode([question])[0]
        rows = library.index.search(vector, Visible.of(library._live), k).rows
        return [library.chunks[row].article.article_id for row in rows]

    def without_hidden(self, user: str) -> Desk:
        """Return an assistant that has never heard of what the user may not see."""
        library, leaves = Library(self.access, Topics(), chunker=LINES), self.library.leaves
        shown = sorted(self.shown(user), key=lambda name: leaves[name].chunks.start)
        dates = {name: leaves[name].changed for name in shown}
        library.take((leaves[name].document for name in shown), dates)
        return Desk(self.parts.reader(library))

    def _state(self, events: int) -> State:
        """Return the rights after so many events."""
        if events not in self._states:
            kept = self._states.get(self.settled)
            self._states = {self.settled: kept} if kept else {}
            self._states[events] = State(self.events[:events])
        return self._states[events]

    @property
    def truth(self) -> State:
        """The rights as the events leave them."""
        return self._state(len(self.events))

    def tell(self, kind: str, subject: str, payload: Payload) -> None:
        """Let something happen, and tell the assistant of the rights in it."""
        at = np.datetime64(int(self.now), "s")
        event = Event("wiki", len(self.events) + 1, at, kind, subject, payload)
        if isinstance(payload, Document):
            before = self._late.get(subject) or self._kept(subject)
            if not before or before.container != payload.container:
                self.moved[subject] = payload.version
            self.version[subject], self._late[subject] = payload.version, payload
        self.events.append(event)
        self.access.apply([event])
        if kind == "deleted":
            self._late.pop(subject, None)
            self.library.drop(subject)
            self.desk.cache.forget(subject)
        if self._open:
            self._remember()

    def _kept(self, document: str) -> Document | None:
        leaf = self.library.leaves.get(document)
        return leaf.document if leaf else None

    def _remember(self) -> None:
        """Note who can see each text that is in force."""
        truth = self.truth
        for user in truth.active:
            for name in truth.visible(user):
                self.had[name, truth.documents[name].version].add(user)

    def arrive(self) -> None:
        """End a round: store all texts that were told, and let what was gained hold."""
        self.library.take(self._late.values())
        self._late.clear()
        self.access.settle()
        self.settled = len(self.events)

    def may(self, user: str, document: str, version: int) -> bool:
        """Say whether a user may see a text."""
        return self.truth.may_see(user, document) and user in self.had[document, version]

    def shown(self, user: str) -> dict[str, Document]:
        """Return the documents that must be shown, in the version that is stored."""
        then, told = self._state(self.settled), self.library.leaves.items()
        return {
            name: leaf.document
            for name, leaf in told
            if leaf.document.version >= self.moved[name]
            and self.truth.may_see(user, name)
            and then.may_see(user, name)
        }

    def write(self, number: int, version: int, container: str) -> None:
        """Write a version of a document: two lines of two topics each, with its marker."""
        name, at = f"wiki:d{number}", np.datetime64(int(self.now), "s")
        rng, own = (np.random.default_rng(seed) for seed in (number, [number, version]))
        title = f"zq{number}x v{version} page"  # the same topics in each version, other values
        body = "\n".join(
            f"zq{number}x v{version} topic{a} topic{b} takes {own.integers(2, 60)} days."
            for a, b in (rng.choice(TOPICS, 2, False) for _ in range(2))
        )
        told = name, title, body, version, at, "user:0", False, container
        self.tell("document", name, Document(name, "wiki", *told))

    # Edits

    def _groups(self, n: int) -> list[str]:
        return [f"group:{j}" for j in self.rng.choice(GROUPS, min(n, GROUPS), replace=False)]

    def regrant(self) -> None:
        """Set the grants of a container or a document anew: one in five denies."""
        rng = self.rng
        at_top = rng.random() < 0.7
        subject = f"wiki:c{rng.integers(CONTAINERS)}" if at_top else f"wiki:d{rng.integers(60)}"
        who = [*self._groups(rng.integers(3)), f"user:{rng.integers(USERS)}"]
        effects = rng.choice(["allow", "deny"], len(who), p=[0.8, 0.2])
        told = (Grant(subject, one, str(effect)) for one, effect in zip(who, effects, strict=True))
        self.tell("grants", subject, tuple(told))

    def edit(self) -> None:
        """Change something at random: groups may hold each other, containers may go in a circle."""
        rng, kind = self.rng, self.rng.integers(7)
        number, container = int(rng.integers(DOCUMENTS)), f"wiki:c{rng.integers(CONTAINERS)}"
        if kind <= 1:
            self.regrant()
        elif kind == 2:
            users = [f"user:{j}" for j in rng.choice(USERS, rng.integers(5), replace=False)]
            held = (*users, *self._groups(rng.poisson(0.7)))
            self.tell("members", f"group:{rng.integers(GROUPS)}", held)
        elif kind == 3:
            above = "" if rng.random() < 0.4 else f"wiki:c{rng.integers(CONTAINERS)}"
            self.tell("container", container, above)
        elif kind == 4:
            user = f"user:{rng.integers(USERS)}"
            self.tell("user", user, not self.truth.active[user] or bool(rng.random() < 0.5))
        elif (old := self.truth.documents.get(f"wiki:d{number}")) and rng.random() < 0.3:
            self.tell("deleted", f"wiki:d{number}", None)
        else:
            place = container if rng.random() < 0.5 or not old else old.container
            self.write(number, self.version.get(f"wiki:d{number}", 0) + 1, place)

    def take_away(self, user: str, document: str) -> None:
        """Take a text from a user who sees it: by a denial, out of a group, by a new version."""
        old, rng = self.truth.documents.get(document), self.rng
        if old and rng.random() < 0.25:
            moves = rng.random() < 0.5
            place = f"wiki:c{rng.integers(CONTAINERS)}" if moves else old.container
            self.write(int(document[6:]), old.version + 1, place)
            return
        groups = [g for g, held in self.truth.members.items() if user in held]
        if groups and rng.random() < 0.5:
            group = str(rng.choice(groups))
            left = tuple(one for one in self.truth.members[group] if one != user)
            self.tell("members", group, left)
        else:
            subject = str(rng.choice(self.truth.chain(document) or (document,)))
            held = self.truth.grants.get(subject, ())
            self.tell("grants", subject, (*held, Grant(subject, user, "deny")))

    def clean_and_share(self, user: str) -> None:
        """Write a hidden document anew, and then let a user see it."""
        hidden = [name for name in self.truth.documents if not self.truth.may_see(user, name)]
        if hidden:
            name = str(self.rng.choice(hidden))
            old = self.truth.documents[name]
            self.write(int(name[6:]), old.version + 1, old.container)
            self.tell("grants", name, (Grant(name, user, "allow"),))
