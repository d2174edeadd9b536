"""The firm of the leak hunt: small, with markers in its texts, and changed at random.

What is right is asked of :class:`~.world.State`, which walks through plain dictionaries and shares
no line with the store of rights. What happens is told by feeds, and comes through the chapter's
own connectors: rights at once, texts when a round ends. Until then the assistant has old texts
under new rights. Who may see a text is therefore not a matter of today's rights alone: it is who
may see the document now, *and* could see it while that text was in force. In some rounds the firm
changes while the feeds are read, and pages are taken besides (:meth:`Hunted.disturbed`).

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
from casebook.cases.knowledge_assistant.connectors import Connector, refresh
from casebook.cases.knowledge_assistant.desk import Desk, Quotes, Reader
from casebook.cases.knowledge_assistant.library import Library, Mix
from casebook.cases.knowledge_assistant.mirror import Mirror
from casebook.cases.knowledge_assistant.reading import FEATURES
from casebook.cases.knowledge_assistant.records import (
    DIRECTORY,
    Document,
    Event,
    Grant,
    Payload,
)
from casebook.cases.knowledge_assistant.world import State
from casebook.cases.knowledge_assistant.world.sources import ACCESS, told
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.filtered import Visible
from casebook.serving.deltas import Feed, Page

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
    return Assistant(library, Learned(head, mix=Mix(0.5, 0.1), threshold=0.0))


@dataclass(frozen=True)
class Parts:
    """What is hunted: the assistant's parts, or ones with a planted fault."""

    desk: Callable[[Reader], Desk] = Desk
    store: Callable[..., Access] = Access
    reader: Callable[[Library], Reader] = Quotes
    library: type[Library] = Library
    refresh: Callable[[list[Connector], Library, int], int] = refresh


class InProcess:
    """Reads a feed of this process; ``before`` is called before every page."""

    def __init__(self, feed: Feed, before: Callable[[], None]) -> None:
        self.feed, self.before = feed, before

    def page(self, lane: str, cursor: str, limit: int) -> Page:
        """Return the page after a cursor."""
        self.before()
        return Page(**self.feed.page(lane, cursor, limit))


class Hunted:
    """A small firm that changes at random; every change is also told to the assistant."""

    def __init__(self, seed: int, parts: Parts = Parts()) -> None:
        self.rng, self.now, self.parts = np.random.default_rng(seed), START, parts
        self.events: list[Event] = []
        #: Of each document: the last version, and that of its last move.
        self.version, self.moved = dict[str, int](), dict[str, int]()
        self._places, self._told = dict[str, str](), dict[str, str]()
        #: Of each text, those who could see it while it was in force.
        self.had: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self._states: dict[int, State] = {}
        self.settled, self._applied, self._between = 0, 0, [0]
        self.access = parts.store(":memory:", clock=lambda: self.now)
        self.mirror = Mirror(":memory:", [self.access.apply])
        self.feeds = {one: Feed() for one in (DIRECTORY, "wiki")}
        self.links = [self._link(one) for one in self.feeds]
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

    def _link(self, source: str) -> Connector:
        link = Connector(source, "http://127.0.0.1:1", self.mirror)
        link.reader.close()
        link.reader = InProcess(self.feeds[source], self._page)
        return link

    def tell(self, kind: str, subject: str, payload: Payload) -> None:
        """Let something happen, and let the assistant hear of the rights in it."""
        at, source = np.datetime64(int(self.now), "s"), "wiki"
        if kind in ("members", "user"):
            source = DIRECTORY
        event = Event(source, len(self.events) + 1, at, kind, subject, payload)
        if isinstance(payload, Document):
            if self._places.get(subject) != payload.container:
                self.moved[subject] = payload.version
            self.version[subject], self._places[subject] = payload.version, payload.container
        elif kind == "deleted":
            self._places.pop(subject, None)
        self.events.append(event)
        self.hear([event])
        if self._open:
            self._remember()

    def hear(self, events: Sequence[Event]) -> None:
        """Publish events; the rights in them are read at once."""
        for event in events:
            self.feeds[event.source].publish(told([event], self._told))
        if self._open:
            self.read_rights()

    def read_rights(self) -> None:
        """Read the rights of all feeds, as another thread may at any time."""
        for link in self.links:
            link.sync(lanes=(ACCESS,))

    def _page(self) -> None:
        """Change the firm while the feeds are read, if this is such a round."""
        self._between[0] -= 1
        if self._between[0] == 0:
            rng = self.rng
            user = f"user:{rng.integers(USERS)}"
            (self.clean_and_share(user) if rng.random() < 0.7 else self.edit())
            for link in self.links:
                link.sync()

    def _remember(self) -> None:
        """Note who can see each text that is in force."""
        truth = self.truth
        for user in truth.active:
            for name in truth.visible(user):
                self.had[name, truth.documents[name].version].add(user)

    def arrive(self) -> None:
        """End a round: store all texts that were told, and let what was gained hold."""
        self._applied = self.parts.refresh(self.links, self.library, self._applied)
        self.settled = len(self.events)

    def disturbed(self) -> list[tuple[str, str]]:
        """End a round in which something happens; return who may now find what is not theirs."""
        self._between = [int(self.rng.integers(1, 12))]
        self._applied = self.parts.refresh(self.links, self.library, self._applied)
        self._between, wrong = [0], []
        for user in (f"user:{i}" for i in range(USERS)):
            found = {self.library.chunks[row].article for row in self._rows(user)}
            found = {self.library.leaves[one.article_id].document.as_told() for one in found}
            wrong += [(user, one.id) for one in found if not self.may(user, one.id, one.version)]
        self.arrive()
        return wrong

    def _rows(self, user: str) -> list[int]:
        return self.library.visible(user).rows.tolist()

    def may(self, user: str, document: str, version: int) -> bool:
        """Say whether a user may see a text."""
        return self.truth.may_see(user, document) and user in self.had[document, version]

    def shown(self, user: str) -> dict[str, Document]:
        """Return the documents that must be shown, in the version that is stored."""
        then, stored = self._state(self.settled), self.library.leaves.items()
        return {
            name: leaf.document.as_told()
            for name, leaf in stored
            if leaf.document.as_told().version >= self.moved[name]
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
        given = name, title, body, version, at, "user:0", False, container
        self.tell("document", name, Document(name, "wiki", *given))

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
        pairs = zip(who, effects, strict=True)
        self.tell("grants", subject, tuple(Grant(subject, one, str(how)) for one, how in pairs))

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
