"""A handful of documents, two users and a clock, for the tests of answers and of the service."""

from __future__ import annotations

from itertools import count

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answering import Assistant, Learned
from casebook.cases.knowledge_assistant.desk import Desk
from casebook.cases.knowledge_assistant.library import Library, Mix
from casebook.cases.knowledge_assistant.reading import FEATURES
from casebook.cases.knowledge_assistant.records import Document, Event, Grant, moment
from casebook.retrieval.dense import Hashed

NOON = moment("2026-03-02T12:00:00")
START = moment("2025-01-01")
#: Weights by hand: a value in a line about the team, near to the question in its letters.
HEAD = {
    "mean": dict.fromkeys(FEATURES, 0.0),
    "sd": dict.fromkeys(FEATURES, 1.0),
    "weight": dict.fromkeys(FEATURES, 0.0) | {"near": 40.0, "other": -3.0, "intercept": -21.2},
}
OF = "The weekly of Test Bench is on "
TEXTS = {
    "wiki:d1": ("Weekly", "wiki:c1", "2025-05-01", f"{OF}Monday at 09:00."),
    "tickets:d1": ("Room", "tickets:c1", "2026-02-01", f"{OF}Friday at 12:00."),
    "chat:d1": (
        "#test-bench",
        "chat:c1",
        "2026-03-01",
        f"[09:00] user:bob: I heard: {OF}Sunday at 11:00.",
    ),
    "wiki:d2": ("Codes", "wiki:c2", "2026-01-01", "The archive code of Identity is K-417."),
    "wiki:d3": ("Leave", "wiki:c1", "2025-08-01", "The leave notice of Identity is 3 weeks."),
}


class Office:
    """A library of :data:`TEXTS`: ann sees all of it, bob what everybody sees (not ``wiki:c2``)."""

    def __init__(self, now: float | None = None) -> None:
        self.seconds = float(NOON.astype(int)) if now is None else now
        self.access = Access(":memory:", clock=lambda: self.seconds)
        self._seq = count(1)
        everyone, closed = ["wiki:c1", "chat:c1", "tickets:c1"], ["wiki:c2"]
        for user in ("user:ann", "user:bob", "user:ops"):
            self.tell("directory", "user", user, True)
        self.members("group:all", "user:ann", "user:bob")
        self.members("group:closed", "user:ann")
        for containers, group in ((everyone, "group:all"), (closed, "group:closed")):
            for name in containers:
                source = name.split(":")[0]
                self.tell(source, "container", name, "")
                self.tell(source, "grants", name, (Grant(name, group, "allow"),))
        self.library = Library(self.access, Hashed(384), ["Test Bench", "Identity"])
        for name in TEXTS:
            self.write(name)
        learned = Learned(HEAD, mix=Mix(0.5), policy="in force", threshold=0.5)
        self.assistant = Assistant(self.library, learned)
        self.desk = Desk(self.assistant)

    def tell(self, source, kind, subject, payload) -> None:
        """Let the store of rights know of an event; all texts are there."""
        self.access.apply([Event(source, next(self._seq), START, kind, subject, payload)])
        self.access.settle()

    def members(self, group: str, *users: str) -> None:
        """Make a group hold these users and no others."""
        self.tell("directory", "members", group, users)

    def write(
        self, name: str, body: str = "", version: int = 1, modified: str = "", told: int = 0
    ) -> None:
        """Store a version of a document; ``told`` is the source's own number of it."""
        title, container, when, text = TEXTS[name]
        source, at = name.split(":")[0], moment(modified or when)
        given = name, source, f"Office/{title}", title, body or text, version, at
        document = Document(*given, "user:ann", False, container, told)
        self.tell(source, "document", name, document)
        self.library.take([document])
