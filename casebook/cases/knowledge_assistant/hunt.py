"""A leak hunt: random users ask while random rights change, and every way out is looked at.

Each document carries a marker word in title and text. Whatever leaves the assistant is searched for
markers, and each is held against :class:`~.world.State`: the rules of access as a walk through
plain dictionaries, which is slow, short, and shares no line with the store. So a leak is found
whatever way it takes, also one that nobody has thought of.

A hunt that meets no hidden document finds nothing and proves nothing. :attr:`Report.met` counts how
often a fault could have shown: hidden documents nearer than what may be shown, answers from the
cache, turns whose rights were lost, rights lost while an answer was streamed. Half of the edits
take from a user what an answer has just shown.

Examples
--------
>>> report = hunt(queries=60, seed=1)
>>> report.leaks.empty, report.queries, round(report.bound, 2)
(True, 60, 0.05)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.desk import QUOTED, Desk, NotFound
from casebook.cases.knowledge_assistant.hunted import Hunted
from casebook.cases.knowledge_assistant.search import words
from casebook.evaluate.intervals import rule_of_three
from casebook.serving.tell_apart import Told, tell_apart

#: Document and version.
MARKER = re.compile(r"zq(\d+)x v(\d+)")
#: Shares of queries.
OPS = {"ask": 0.55, "open": 0.15, "history": 0.15, "stream": 0.15}
#: Chance of an edit before a query, and share of edits that take away what was just shown.
EDITS, AIMED = 0.3, 0.5
#: Checks of what is wrong without being a leak; without them, an assistant that is silent passes.
NO_LEAK = ("missing", "old version")
#: Share of answers that are made again without the hidden documents.
AGAIN = 0.2


@dataclass(frozen=True)
class Report:
    """What a hunt has found.

    Attributes
    ----------
    queries : int
    leaks, wrong : DataFrame
        ``query`` (number, from 1), ``op``, ``check``, ``user``, ``document``; what is wrong
        without being a leak stands apart (:data:`NO_LEAK`).
    met : dict of str to int
        How often a fault could have shown.
    """

    queries: int
    leaks: pd.DataFrame
    wrong: pd.DataFrame
    met: dict[str, int]

    @property
    def first(self) -> int | None:
        """The query of the first leak."""
        return None if self.leaks.empty else int(self.leaks["query"].iloc[0])

    @property
    def bound(self) -> float:
        """Upper 95 % bound of the share of such queries that leak, if none did."""
        return rule_of_three(self.queries) if self.leaks.empty else float("nan")


def hunt(
    queries: int,
    seed: int = 0,
    desk: type[Desk] = Desk,
    store: type[Access] = Access,
    worlds: int = 1,
    until_leak: bool = False,
    aimed: float = AIMED,
) -> Report:
    """Ask, and look at everything that comes back.

    Parameters
    ----------
    queries : int
        In all worlds together.
    seed : int
    desk, store : type
        The assistant and its store of rights, or ones with a planted fault.
    worlds : int
        Firms, each new; the queries are shared out.
    until_leak : bool
        Stop at the first leak.
    aimed : float
        Share of the edits that take away what was just shown; the others are at random.
    """
    names = ["hidden nearer", "cached", "lost turn", "cut", "made again"]
    rows, met, done = [], dict.fromkeys(names, 0), 0
    for world in range(worlds):
        hunter = Hunter(Hunted(1_000 * seed + world, desk, store), met, aimed)
        for _ in range(queries * (world + 1) // worlds - queries * world // worlds):
            done += 1
            rows += [(done, *leak) for leak in hunter.query()]
            if until_leak and any(check not in NO_LEAK for _, _, check, *_ in rows):
                return _report(done, rows, met)
    return _report(done, rows, met)


def _report(done: int, rows: list[tuple], met: dict[str, int]) -> Report:
    table = pd.DataFrame(rows, columns=["query", "op", "check", "user", "document"])
    leak = ~table["check"].isin(NO_LEAK)
    return Report(done, table[leak], table[~leak], met)


#: Check, user, document.
Leak = tuple[str, str, str]


class Hunter:
    """Asks in one world."""

    def __init__(self, world: Hunted, met: dict[str, int], aimed: float) -> None:
        self.world, self.met, self.aimed = world, met, aimed
        self._seen, self._asked, self._logged = ("", ""), "", 0

    def query(self) -> list[tuple[str, str, str, str]]:
        """Edit by chance, ask once, and return the leaks."""
        world, rng = self.world, self.world.rng
        world.now += int(rng.integers(1, 20))
        world.arrive()
        if rng.random() < EDITS:
            if self._seen[1] and rng.random() < self.aimed:
                world.take_away(*self._seen)
            else:
                world.edit()
        op = str(rng.choice([*OPS], p=[*OPS.values()]))
        user = self._seen[0] if self._seen[0] and rng.random() < 0.4 else f"user:{rng.integers(12)}"
        leaks = [*getattr(self, f"_{op}")(user), *self._log()]
        return [(op, *leak) for leak in leaks]

    def _hidden(self, user: str, texts: Iterable[str], check: str) -> Iterator[Leak]:
        """Yield a leak for each document whose marker stands in a text and that is hidden."""
        for number, version in sorted({m for text in texts for m in MARKER.findall(text)}):
            if not self.world.may(user, f"wiki:d{number}", int(version)):
                yield check, user, f"wiki:d{number}"

    def _question(self) -> str:
        """Return a question, every third time the last one again."""
        if not self._asked or self.world.rng.random() > 0.3:
            first, second = sorted(self.world.rng.choice(5, 2, replace=False))
            self._asked = f"topic{first} topic{second}"
        return self._asked

    def _ask(self, user: str) -> Iterator[Leak]:
        world, question = self.world, self._question()
        cached = world.desk.cache.get(user, world.desk.cache.key(user, question))
        self.met["cached"] += cached is not None
        reply = world.desk.ask(user, f"c{world.rng.integers(2)}", question)
        yield from self._hidden(user, (piece.text for piece in reply.pieces), "result")
        yield from self._hidden(user, (title for _, title, _ in reply.citations), "citation")
        own = world.shown(user)
        have = [name for name, page in own.items() if words(question) <= words(page.body)]
        # One from the cache may lack a document whose text has come since, of the same rights.
        if reply.count > len(have) or (cached is None and reply.count < len(have)):
            yield "count", user, ""
        if cached is None and len(reply.pieces) < min(QUOTED, 2 * len(own)):
            yield "missing", user, ""
        for number, version in MARKER.findall(" ".join(piece.text for piece in reply.pieces)):
            name = f"wiki:d{number}"
            if name in own and int(version) != world.stored[name]:
                yield "old version", user, name
        near = world.nearest_of_all(question, QUOTED)
        self.met["hidden nearer"] += any(name not in own for name in near)
        if cached is None and world.rng.random() < AGAIN:
            self.met["made again"] += 1
            again = world.without_hidden(user).ask(user, "again", question)
            if again != reply:
                yield "depends on what is hidden", user, ""
        if reply.citations:
            self._seen = user, reply.citations[0][0]

    def _open(self, user: str) -> Iterator[Leak]:
        world, number = self.world, self.world.rng.integers(70)  # ten that never were
        may = f"wiki:d{number}" in world.shown(user)
        try:
            shown = world.desk.open(user, f"wiki:d{number}")
            yield from self._hidden(user, [shown.title, shown.body], "opened")
        except NotFound as error:
            yield from ((("missing", user, f"wiki:d{number}"),) if may else ())
            yield from self._hidden(user, [str(error)], "error")
            missing = str(_refused(world.desk, user, "wiki:d999999"))
            if not may and str(error) != missing:
                yield "error tells hidden from missing", user, f"wiki:d{number}"

    def _history(self, user: str) -> Iterator[Leak]:
        world = self.world
        for turn in world.desk.history(user, f"c{world.rng.integers(2)}"):
            texts = [piece.text for piece in turn.pieces]
            self.met["lost turn"] += any(not MARKER.search(text) for text in texts)
            yield from self._hidden(user, texts, "history")

    def _stream(self, user: str) -> Iterator[Leak]:
        world = self.world
        stream = world.desk.stream(user, self._question())
        for place, piece in enumerate(stream):
            yield from self._hidden(user, [piece.text], "stream")
            if place == 0 and piece.sources and world.rng.random() < 0.5:
                world.take_away(user, piece.sources[0][0])
                self.met["cut"] += not world.may(user, *piece.sources[0])

    def _log(self) -> Iterator[Leak]:
        lines = self.world.desk.log[self._logged :]
        self._logged += len(lines)
        for number, _ in sorted({m for line in lines for m in MARKER.findall(line)}):
            yield "log", "", f"wiki:d{number}"


def not_found_times(
    pairs: int = 1_000, seed: int = 0, desk: type[Desk] = Desk, store: type[Access] = Access
) -> Told:
    """Time refusals in pairs: of a document that is hidden, and of one that was never written."""
    world = Hunted(seed, desk, store)
    user = "user:1"
    hidden = [d for d in world.truth.documents if not world.truth.may_see(user, d)]
    for name in (*hidden, "wiki:d1000"):
        _refused(world.desk, user, name)
    return tell_apart(
        lambda pair: _refused(world.desk, user, hidden[pair % len(hidden)]),
        lambda pair: _refused(world.desk, user, f"wiki:d{1_000 + pair % len(hidden)}"),
        pairs,
    )


def _refused(desk: Desk, user: str, document: str) -> NotFound:
    """Return the error for a document."""
    try:
        desk.open(user, document)
    except NotFound as error:
        return error
    raise AssertionError(f"{document} was never written.")
