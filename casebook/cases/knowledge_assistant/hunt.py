"""A leak hunt: random users ask while random rights change, and every way out is looked at.

Each document carries a marker word in title and text. Whatever leaves the assistant is searched for
markers, and each is held against :class:`~.world.State`: the rules of access as a walk through
plain dictionaries, which is slow, short, and shares no line with the store. So a leak is found
whatever way it takes, also one that nobody has thought of.

A hunt that meets no hidden document finds nothing and proves nothing. :attr:`Report.met` counts how
often a fault could have shown: hidden documents nearer than what may be shown, answers from the
cache, turns whose rights were lost, rights lost while an answer was streamed, rights that were
gained before their text came. Half of the edits take from a user what an answer has just shown;
some others clean a page and then share it.

What is hunted is given as :class:`~.hunted.Parts`: any desk, reader, library or store, also the
service behind HTTP (:class:`OverHttp`).

Examples
--------
>>> report = hunt(queries=60, seed=1)
>>> report.leaks.empty, report.queries, round(report.bound, 2)
(True, 60, 0.05)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from casebook.cases.knowledge_assistant.desk import UNKNOWN, Citation, Desk, NotFound
from casebook.cases.knowledge_assistant.hunted import USERS, Hunted, Parts, words
from casebook.evaluate.intervals import rule_of_three
from casebook.serving.conversations import Turn
from casebook.serving.showing import Piece
from casebook.serving.tell_apart import Told, tell_apart

#: Document and version.
MARKER = re.compile(r"zq(\d+)x v(\d+)")
#: Shares of queries.
OPS = {"ask": 0.68, "open": 0.1, "history": 0.14, "resolve": 0.08}
#: Chance of an edit before a query, share of edits that take away what was just shown, and of
#: those that clean and share; chance that a round of the texts ends, that the firm changes within
#: it, that a right is lost while an answer is streamed, and that an answer is made again without
#: the hidden documents.
EDITS, AIMED, SHARED, ROUND, DISTURBED, CUT, AGAIN = 0.3, 0.5, 0.15, 0.4, 0.2, 0.2, 0.2
#: Checks of what is wrong without being a leak; without them, an assistant that is silent passes.
NO_LEAK = ("missing", "old version")


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
    parts: Parts = Parts(),  # noqa: B008 (frozen)
    worlds: int = 1,
    until_leak: bool = False,
) -> Report:
    """Ask, and look at everything that comes back.

    Parameters
    ----------
    queries : int
        In all worlds together.
    seed : int
    parts : Parts
        The assistant's, or ones with a planted fault.
    worlds : int
        Firms, each new; the queries are shared out.
    until_leak : bool
        Stop at the first leak.
    """
    names = ["hidden nearer", "cached", "lost turn", "cut", "made again", "gained early"]
    names.append("disturbed")
    rows, met, done = [], dict.fromkeys(names, 0), 0
    for world in range(worlds):
        hunter = Hunter(Hunted(1_000 * seed + world, parts), met)
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

    def __init__(self, world: Hunted, met: dict[str, int]) -> None:
        self.world, self.met = world, met
        self._seen, self._asked, self._logged = ("", ""), "", 0
        self._cited = Citation("wiki:d999999", 1, "zq", 0)

    def query(self) -> list[tuple[str, str, str, str]]:
        """Edit by chance, ask once, and return the leaks."""
        world, rng = self.world, self.world.rng
        world.now += int(rng.integers(1, 20))
        leaks: list[tuple[str, str, str, str]] = []
        if rng.random() < ROUND:
            leaks = self._round()
        user = f"user:{rng.integers(USERS)}"
        user = self._seen[0] if self._seen[0] and rng.random() < 0.4 else user
        if rng.random() < EDITS:
            drawn = rng.random()
            if self._seen[1] and drawn < AIMED:
                world.take_away(*self._seen)
            elif drawn > 1 - SHARED:
                world.clean_and_share(user)
            else:
                world.edit()
        op = str(rng.choice([*OPS], p=[*OPS.values()]))
        leaks += [(op, *leak) for leak in (*getattr(self, f"_{op}")(user), *self._log())]
        return leaks

    def _round(self) -> list[tuple[str, str, str, str]]:
        """Let a round of the texts end, in some of which the firm changes meanwhile."""
        if self.world.rng.random() > DISTURBED:
            self.world.arrive()
            return []
        self.met["disturbed"] += 1
        return [("round", "early", *one) for one in self.world.disturbed()]

    def _hidden(self, user: str, texts: Iterable[str], check: str) -> Iterator[Leak]:
        """Yield a leak for each text whose marker stands in what is shown and that is hidden."""
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
        world, question, end, pieces = self.world, self._question(), {}, []
        cached = world.desk.cache.get(user, world.desk.cache.key(user, question))
        self.met["cached"] += cached is not None
        cut = world.rng.random() < CUT and isinstance(world.desk, Desk)
        for told in world.desk.ask(user, f"c{world.rng.integers(2)}", question):
            if told["event"] == "piece":
                pieces.append(told["text"])
                yield from self._hidden(user, [told["text"]], "result")
                if cut and len(pieces) == 1 and (found := MARKER.search(told["text"])):
                    world.take_away(user, f"wiki:d{found[1]}")
                    self.met["cut"] += not world.may(user, f"wiki:d{found[1]}", int(found[2]))
            elif told["event"] == "end":
                end = told
        texts = [f"{one['title']} {one['anchor']}" for one in end["citations"]]
        yield from self._hidden(user, texts, "citation")
        yield from self._right(user, question, (pieces, end), cached is None and not cut)
        if end["citations"]:
            told = {name: end["citations"][0][name] for name in Citation.__dataclass_fields__}
            self._cited = Citation(**told)
            self._seen = user, self._cited.document

    def _right(self, user: str, question: str, reply: tuple, fresh: bool) -> Iterator[Leak]:
        """Yield what is wrong with an answer, held against all that the user may see."""
        world, (pieces, end) = self.world, reply
        own = world.shown(user)
        have = [name for name, page in own.items() if words(question) <= words(page.body)]
        # One from the cache may lack a document whose text has come since, of the same rights.
        if end["count"] > len(have) or (fresh and end["count"] < len(have)):
            yield "count", user, ""
        if fresh and have and not end["citations"]:
            yield "missing", user, ""
        for number, version in MARKER.findall(" ".join(pieces)):
            name = f"wiki:d{number}"
            if name in own and int(version) != own[name].version:
                yield "old version", user, name
        near = world.nearest_of_all(question, 3)
        self.met["hidden nearer"] += any(name not in own for name in near)
        self.met["gained early"] += any(
            world.truth.may_see(user, name) and user not in world.had[name, version]
            for name, version in ((n, leaf.document.told) for n, leaf in self._stored())
        )
        if fresh and world.rng.random() < AGAIN:
            self.met["made again"] += 1
            *_, last = told = [*world.without_hidden(user).ask(user, "again", question)]
            again = [one["text"] for one in told if one["event"] == "piece"]
            if (again, last["count"], last["citations"]) != (
                pieces,
                end["count"],
                end["citations"],
            ):
                yield "depends on what is hidden", user, ""

    def _stored(self) -> Iterable[tuple[str, Any]]:
        return self.world.library.leaves.items()

    def _open(self, user: str) -> Iterator[Leak]:
        number = self.world.rng.integers(70)  # ten that never were
        may = f"wiki:d{number}" in self.world.shown(user)
        try:
            shown = self.world.desk.open(user, f"wiki:d{number}")
            yield from self._hidden(user, [shown.title, shown.body], "opened")
        except NotFound as error:
            yield from ((("missing", user, f"wiki:d{number}"),) if may else ())
            yield from self._refusal(user, error)

    def _resolve(self, user: str) -> Iterator[Leak]:
        try:
            told = self.world.desk.resolve(user, self._cited)
            yield from self._hidden(user, [str(told["title"])], "resolved")
        except NotFound as error:
            yield from self._refusal(user, error)

    def _refusal(self, user: str, error: NotFound) -> Iterator[Leak]:
        yield from self._hidden(user, [str(error)], "error")
        if str(error) != str(_refused(self.world.desk, user, "wiki:d999999")):
            yield "error tells hidden from missing", user, ""

    def _history(self, user: str) -> Iterator[Leak]:
        for turn in self.world.desk.history(user, f"c{self.world.rng.integers(2)}"):
            texts = [piece.text for piece in turn.pieces]
            self.met["lost turn"] += any(not MARKER.search(text) for text in texts)
            yield from self._hidden(user, texts, "history")

    def _log(self) -> Iterator[Leak]:
        lines = self.world.desk.log[self._logged :]
        self._logged += len(lines)
        for number, _ in sorted({m for line in lines for m in MARKER.findall(line)}):
            yield "log", "", f"wiki:d{number}"


class OverHttp:
    """A desk behind the routes of the service: what is looked at is what a client receives."""

    def __init__(self, desk: Desk) -> None:
        from casebook.cases.knowledge_assistant.service import Service, app_of
        from casebook.serving.allowance import Allowance
        from casebook.serving.bearer import Bearer, Ring

        self.desk, self.cache, self.log = desk, desk.cache, desk.log
        self._bearer = Bearer(Ring("k1", b"1" * 32), clock=desk.access.clock)
        service = Service(desk, self._bearer, budget=Allowance(":memory:", 10**9))
        self._app = app_of(service, lambda: 0.0, "user:ops")

    def _send(self, user: str, method: str, route: str, sent: dict | None = None) -> str:
        import asyncio

        import httpx

        async def request() -> httpx.Response:
            way = httpx.ASGITransport(app=self._app)
            header = {"authorization": f"Bearer {self._bearer.issue(user)}"}
            async with httpx.AsyncClient(transport=way, base_url="http://desk/v1/") as client:
                return await client.request(method, route, json=sent, headers=header)

        reply = asyncio.run(request())
        if reply.status_code in (401, 404):
            raise NotFound(reply.text)
        reply.raise_for_status()
        return reply.text

    def ask(self, user: str, conversation: str, question: str) -> Iterator[dict[str, Any]]:
        """Yield the events of the stream, which are here when the first is looked at."""
        sent = {"conversation": conversation, "question": question}
        try:
            blocks = self._send(user, "POST", "ask", sent).strip().split("\n\n")
        except NotFound:  # who has left is told no more than who sees nothing
            yield {"event": "piece", "text": UNKNOWN.text}
            yield {"event": "end", "turn": 0, "count": 0, "citations": []}
            return
        yield from [json.loads(block.split("data: ", 1)[1]) for block in blocks]

    def open(self, user: str, document: str) -> Any:
        """Return title and body of a document."""
        told = json.loads(self._send(user, "GET", f"documents/{document}"))
        return _Page(told["title"], told["body"])

    def resolve(self, user: str, citation: Citation) -> dict[str, Any]:
        """Return where a citation leads."""
        sent = {name: getattr(citation, name) for name in Citation.__dataclass_fields__}
        return json.loads(self._send(user, "POST", "citations", sent))

    def history(self, user: str, conversation: str) -> list[Turn]:
        """Return a conversation."""
        try:
            told = json.loads(self._send(user, "GET", f"conversations/{conversation}"))["turns"]
        except NotFound:
            return []
        return [Turn(0.0, one["question"], tuple(map(Piece, one["answer"]))) for one in told]


@dataclass(frozen=True)
class _Page:
    """What a client receives of a document."""

    title: str
    body: str


def not_found_times(pairs: int = 1_000, seed: int = 0, parts: Parts = Parts()) -> Told:  # noqa: B008
    """Time refusals in pairs: of a document that is hidden, and of one that was never written."""
    world = Hunted(seed, parts)
    user = "user:1"
    hidden = [d for d in world.truth.documents if not world.truth.may_see(user, d)]
    missing = [f"wiki:d{1_000 + n}" for n in range(len(hidden))]  # made before the clock runs
    for name in (*hidden, *missing):
        _refused(world.desk, user, name)
    return tell_apart(
        lambda pair: _refused(world.desk, user, hidden[pair % len(hidden)]),
        lambda pair: _refused(world.desk, user, missing[pair % len(missing)]),
        pairs,
    )


def _refused(desk: Desk, user: str, document: str) -> NotFound:
    """Return the error for a document."""
    try:
        desk.open(user, document)
    except NotFound as error:
        return error
    raise AssertionError(f"{document} was never written.")
