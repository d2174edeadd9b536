"""The router: one address before the pods of two versions, and who gets which.

A request belongs to one version by a hash of its key, such as a customer's card, and stays there
while the share grows. In a *shadow* the new version gets copies and never answers. In a *canary* it
answers its share, and where it fails, is late or has to fall back, the stable version answers in
its place: the customer waits a little longer, and the watch is told. The router counts; what is
done about it is decided elsewhere. Requests must be safe to send twice.

Examples
--------
>>> router = Router(["http://127.0.0.1:1"], key="card")
>>> plan = Plan(("http://127.0.0.1:1",), ("http://127.0.0.1:2",), share=0.05)
>>> sum(router.for_new(f"card {i}", plan) for i in range(10_000))
484
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from casebook.evaluate.assign import BUCKETS, bucket
from casebook.serving.app import Problem, bare_app, body_of, json_object, reply
from casebook.serving.wire import NoReply, Wire

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

LARGEST = 20_000
#: Seconds for an answer of the new version and of the stable one, whose breaker needs two.
PATIENCE, LONG = 0.5, 2.5
#: Milliseconds above which an answer of the new version counts as slow.
SLOW = 250.0
#: Answers of which time and score are kept by arm, and copies that may be on their way.
KEPT, COPIES = 2_000, 32
STABLE, NEW = "stable", "new"


@dataclass(frozen=True)
class Plan:
    """Who gets what: taken once for a request.

    Attributes
    ----------
    stable, new : tuple of str
        Addresses of pods.
    share : float
        Of the keys, for the new version.
    shadow : bool
        Whether the new version gets copies of all others.
    stage : str
    """

    stable: tuple[str, ...]
    new: tuple[str, ...] = ()
    share: float = 0.0
    shadow: bool = False
    stage: str = "stable"

    def __post_init__(self) -> None:
        if not self.stable or not 0 <= self.share <= 1:
            raise ValueError(f"{self}: at least one stable pod, and a share from 0 to 1.")
        if not self.new and (self.share or self.shadow):
            raise ValueError("a share or a shadow without a new pod: give its address.")


class Answer(NamedTuple):
    """What a pod answered; ``why`` is empty if it is a 200 that the model made."""

    status: int
    body: bytes
    why: str
    ms: float
    score: float | None


@dataclass
class Seen:
    """What an arm has done since the stage began."""

    n: int = 0
    slow: int = 0
    why: Counter = field(default_factory=Counter)
    ms: deque = field(default_factory=lambda: deque(maxlen=KEPT))
    scores: deque = field(default_factory=lambda: deque(maxlen=KEPT))
    first_bad: float | None = None

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        self.n += 1
        self.slow += answer.ms > SLOW
        self.ms.append(round(answer.ms, 2))
        if answer.score is not None:
            self.scores.append(answer.score)
        if answer.why:
            self.why[answer.why] += 1
            self.first_bad = self.first_bad or time.time()

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        rest = {"ms": [*self.ms], "scores": [*self.scores], "first_bad": self.first_bad}
        told = {"n": self.n, "bad": self.why.total(), "slow": self.slow, "why": dict(self.why)}
        return told | rest


class Router:
    """Sends each request to one pod, and to another one if that fails.

    Parameters
    ----------
    stable : sequence of str
        Addresses of the pods of the version that serves.
    key : str
        Field of the body that is hashed.
    salt : str
        Of the hash: another one draws other keys.
    path : str
        Of the pods, for requests.
    """

    def __init__(
        self, stable: Sequence[str], key: str = "card", salt: str = "rollout", path: str = "/score"
    ) -> None:
        self.plan, self.key, self.salt, self.path = Plan(tuple(stable)), key, salt, path
        self.seen = {STABLE: Seen(), NEW: Seen()}
        self.failed = self.lost = self._turn = 0
        self._wires: dict[str, Wire] = {}
        self._copies: set[asyncio.Task] = set()

    def for_new(self, key: str, plan: Plan) -> bool:
        """Say whether a key belongs to the new version."""
        return plan.share > 0 and bucket(key, self.salt) < plan.share * BUCKETS

    def _key(self, raw: bytes) -> str:
        """Return what is hashed; a body without a key is one that every version refuses."""
        try:
            return str(json.loads(raw)[self.key])
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""

    async def score(self, raw: bytes) -> Answer:
        """Return the answer to one request.

        Raises
        ------
        Problem
            503 if no pod answers.
        """
        plan, seen = self.plan, self.seen  # once: what comes back late counts for its own stage
        first = None
        if self.for_new(self._key(raw), plan):
            first = await self._ask(self._next(plan.new), raw, PATIENCE)
            if not first.why:
                seen[NEW].add(first)
                return first
        elif plan.shadow:
            self._copy(plan, raw, seen)
        answer = await self._stable(plan, raw, seen)
        if first is not None and not (first.status == answer.status and 400 <= first.status < 500):
            seen[NEW].add(first)  # a request that both refuse is the sender's fault
        if answer.status < 500:
            return answer
        if first is not None and first.status == 200:  # by its rules, and still an answer
            return first
        self.failed += 1
        what = f"No pod answered ({answer.why})."
        raise Problem(503, "no pod", what, "Send it again.")

    async def _stable(self, plan: Plan, raw: bytes, seen: Mapping[str, Seen]) -> Answer:
        """Ask the stable pods one after the other, each once and the first one twice."""
        start = self._turn = self._turn + 1
        for i in range(len(plan.stable) + 1):
            answer = await self._ask(plan.stable[(start + i) % len(plan.stable)], raw, LONG)
            if answer.status < 500:
                break
        if not 400 <= answer.status < 500:
            late = answer.ms > 1000 * PATIENCE and not answer.why  # as of the new version
            seen[STABLE].add(answer._replace(why="late") if late else answer)
        return answer

    def _next(self, pods: Sequence[str]) -> str:
        self._turn += 1
        return pods[self._turn % len(pods)]

    def _copy(self, plan: Plan, raw: bytes, seen: Mapping[str, Seen]) -> None:
        """Send a copy to the new version without waiting; one too many is not sent."""
        if len(self._copies) >= COPIES:
            self.lost += 1
            return

        async def ask() -> None:
            answer = await self._ask(self._next(plan.new), raw, PATIENCE)
            if not 400 <= answer.status < 500:
                seen[NEW].add(answer)

        task = asyncio.create_task(ask())
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _ask(self, pod: str, raw: bytes, seconds: float) -> Answer:
        wire = self._wires.setdefault(pod, Wire(pod))
        begin = time.perf_counter()
        status, body, score = 503, b"", None
        try:
            async with asyncio.timeout(seconds):
                status, body = await wire.post(self.path, raw)
            why = str(status)
            if status == 200:
                told = json.loads(body)
                score, why = told["score"], "" if told["source"] == "model" else "rules"
        except TimeoutError:
            why = "late"
        except NoReply as error:
            why = str(error)
        except (ValueError, KeyError, TypeError):
            status, why = 502, "no answer of a pod"
        return Answer(status, body, why, 1000 * (time.perf_counter() - begin), score)

    def route(self, raw: bytes) -> dict[str, Any]:
        """Take another plan, from its fields as JSON; counting starts anew."""
        given = json_object(raw)
        try:
            pods = {arm: tuple(given.pop(arm, getattr(self.plan, arm))) for arm in (STABLE, NEW)}
            plan = Plan(**pods, **given)
        except (TypeError, ValueError) as error:
            raise Problem(422, "wrong plan", str(error), "The old plan holds.") from None
        self.seen = {STABLE: Seen(), NEW: Seen()}
        self.plan = plan
        return {"at": time.time(), "stage": plan.stage}

    def watch(self) -> dict[str, Any]:
        """Return what each version has done since the stage began."""
        told = {"stage": self.plan.stage, "share": self.plan.share, "failed": self.failed}
        return told | {"lost": self.lost, **{arm: seen.told() for arm, seen in self.seen.items()}}


def app(stable: Sequence[str], **options: str) -> FastAPI:
    """Return a :class:`Router` over HTTP: its path for everybody, ``/route`` and ``/watch``."""
    from fastapi import Response

    router, made = Router(stable, **options), bare_app("Router")

    async def score(request: Request) -> Response:
        answer = await router.score(await body_of(request, LARGEST))
        return Response(answer.body, answer.status, media_type="application/json")

    async def route(request: Request) -> Response:
        return reply(router.route(await body_of(request, LARGEST)))

    async def watch(_: Request) -> Response:
        return reply(router.watch())

    made.add_route(router.path, score, methods=["POST"])
    made.add_route("/route", route, methods=["POST"])
    made.add_route("/watch", watch, methods=["GET"])
    made.state.router = router
    return made
