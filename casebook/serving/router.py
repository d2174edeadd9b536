"""The router: one address before the pods of two versions, and who gets which.

A request belongs to one version by a hash of its key, such as a customer's card, and stays there
while the share grows. In a *shadow* the new version gets copies and never answers. In a *canary* it
answers its share, and where it fails, is late or has to fall back, the stable version answers in
its place: the customer waits a little longer, and the watch is told. The router counts the first
attempt at each request, of both versions alike: what is asked again in another's place is counted
for nobody, and what a client sends again under the same number is counted once. In a shadow it has
both answers and compares them. What is done about it is decided elsewhere. Requests must be safe to
send twice.

``python -m casebook.serving.router --help`` serves: requests on one port, plans on another.

Examples
--------
>>> router = Router(["http://127.0.0.1:1"], key="card")
>>> plan = Plan(("http://127.0.0.1:1",), ("http://127.0.0.1:2",), share=0.05)
>>> sum(router.for_new(f"card {i}", plan) for i in range(10_000))
484
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from casebook.evaluate.assign import BUCKETS, bucket
from casebook.serving.app import Problem, bare_app, body_of, json_object, reply
from casebook.serving.plans import Held, Plan, Plans, addresses
from casebook.serving.wire import NoReply, Wire

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

LARGEST = 20_000
#: Seconds for an answer of the new version, of the stable one, whose breaker needs two, and of all.
PATIENCE, LONG, ALL = 0.5, 2.5, 3.0
#: Milliseconds above which an answer of the new version counts as slow.
SLOW = 250.0
#: Answers of which time and score are kept by arm, and copies that may be on their way.
KEPT, COPIES = 2_000, 32
#: Requests that are known again by arm, minutes of traffic, by so many letters of their number.
NUMBERS, LETTERS = 50_000, 64
STABLE, NEW = "stable", "new"
#: Of a shadow: requests that both models answered, those with another tier; couples of requests
#: that both rank, those in another order.
PAIRS = ("n", "tier", "ranked", "crossed")


class Answer(NamedTuple):
    """What a pod answered; ``why`` is empty if it is a 200 with a score that the model made."""

    status: int
    body: bytes
    why: str
    ms: float
    score: float | None
    tier: str | None = None


@dataclass
class Seen:
    """What an arm has done since the stage began."""

    n: int = 0
    slow: int = 0
    why: Counter = field(default_factory=Counter)
    ms: deque = field(default_factory=lambda: deque(maxlen=KEPT))
    scores: deque = field(default_factory=lambda: deque(maxlen=KEPT))
    first_bad: float | None = None
    pairs: Counter = field(default_factory=Counter)
    numbers: dict[str, None] = field(default_factory=dict)
    single: tuple[float, float] | None = None

    def add(self, answer: Answer, number: str = "", beside: Answer | None = None) -> None:
        """Count an answer, once for each request's number; compare it with the other arm's."""
        if number in self.numbers:
            return
        if number:
            self.numbers[number] = None
            if len(self.numbers) > NUMBERS:
                del self.numbers[next(iter(self.numbers))]
        if beside is not None and not (answer.why or beside.why):
            self._compare(answer, beside)
        self.n += 1
        self.slow += answer.ms > SLOW
        self.ms.append(round(answer.ms, 2))
        if answer.score is not None:
            self.scores.append(answer.score)
        if answer.why:
            self.why[answer.why] += 1
            self.first_bad = self.first_bad or time.time()

    def _compare(self, answer: Answer, beside: Answer) -> None:
        """Count a request's pair of answers, and whether both rank two requests in one order."""
        self.pairs["n"] += 1
        self.pairs["tier"] += answer.tier != beside.tier
        if answer.score is None or beside.score is None:
            return
        if self.single is None:
            self.single = answer.score, beside.score
            return
        up = (answer.score - self.single[0]) * (beside.score - self.single[1])
        self.pairs["ranked"] += up != 0
        self.pairs["crossed"] += up < 0
        self.single = None

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        rest = {"ms": [*self.ms], "scores": [*self.scores], "first_bad": self.first_bad}
        told = {"n": self.n, "bad": self.why.total(), "slow": self.slow, "why": dict(self.why)}
        return told | rest | {"pairs": {name: self.pairs[name] for name in PAIRS}}


class Router:
    """Sends each request to one pod, and to another one if that fails.

    Parameters
    ----------
    stable : sequence of str
        Addresses of the pods of the version that serves.
    key : str
        Field of the body that is hashed.
    number : str
        Field of the body that a client sends again with the same request.
    salt : str
        Of the hash: another one draws other keys.
    path : str
        Of the pods, for requests.
    file : str, optional
        Of the stable pods: see :class:`casebook.serving.plans.Plans`.
    """

    def __init__(
        self,
        stable: Sequence[str],
        key: str = "card",
        salt: str = "rollout",
        path: str = "/score",
        file: str = "",
        number: str = "payment",
    ) -> None:
        self.plans = Plans(Plan(addresses(stable)), file or None)
        self.key, self.number, self.salt, self.path = key, number, salt, path
        self.seen, self._of = {STABLE: Seen(), NEW: Seen()}, self.plans.now
        self.failed = self.lost = self._turn = 0
        self._wires: dict[str, Wire] = {}
        self._copies: set[asyncio.Task] = set()

    @property
    def plan(self) -> Plan:
        """The plan that holds; with another one counting starts anew."""
        if (now := self.plans.now) is not self._of:
            self.seen, self._of = {STABLE: Seen(), NEW: Seen()}, now
        return now

    def for_new(self, key: str, plan: Plan) -> bool:
        """Say whether a key belongs to the new version."""
        return plan.share > 0 and bucket(key, self.salt) < plan.share * BUCKETS

    def _names(self, raw: bytes) -> tuple[str, str]:
        """Return what is hashed, and the request's number.

        A body without a key is one that every version refuses; without a number each is counted.
        """
        try:
            body = json.loads(raw)
            key = str(body[self.key]).encode(errors="backslashreplace").decode()
            return key, str(body.get(self.number, ""))[:LETTERS]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "", ""

    async def score(self, raw: bytes, clock: Any = time) -> Answer:
        """Return the answer to one request; the clock is that of :mod:`time`.

        Raises
        ------
        Problem
            503 if no pod answers.
        """
        plan, seen = self.plan, self.seen  # once: what comes back late counts for its own stage
        until, first = clock.perf_counter() + ALL, None
        key, number = self._names(raw)
        if self.for_new(key, plan):
            first = await self._ask(self._next(plan.new), raw, PATIENCE)
            if not first.why:
                seen[NEW].add(first, number)
                return first
        theirs = asyncio.get_running_loop().create_future()
        if first is None and plan.shadow:
            self._copy(plan, raw, seen[NEW], number, theirs)
        try:
            rest = lambda: until - clock.perf_counter()  # noqa: E731
            own = None if first else seen[STABLE]
            answer = await self._stable(plan, raw, rest, own, number)
            theirs.set_result(answer)
        finally:
            theirs.cancel()  # nothing any more, unless this request was given up
        if first is not None and not _both_refuse(first, answer):
            seen[NEW].add(first, number)
        if answer.status < 500:
            return answer
        if first is not None and first.status == 200:  # by its rules, and still an answer
            return first
        self.failed += 1
        what = f"No pod answered ({answer.why})."
        raise Problem(503, "no pod", what, "Send it again.")

    async def _stable(
        self, plan: Plan, raw: bytes, rest: Callable[[], float], seen: Seen | None, number: str
    ) -> Answer:
        """Ask the stable pods one after the other, each once and the first one twice.

        Only the first attempt is counted: so is that of the new version, and what is asked in its
        place is not a request of the stable one.
        """
        start = self._turn = self._turn + 1
        for i in range(len(plan.stable) + 1):
            if (left := min(rest(), LONG)) < 0.05 and i:
                break
            answer = await self._ask(plan.stable[(start + i) % len(plan.stable)], raw, left)
            if i == 0 and seen is not None and not 400 <= answer.status < 500:
                late = answer.ms > 1000 * PATIENCE and not answer.why  # as of the new version
                seen.add(answer._replace(why="late") if late else answer, number)
            if answer.status < 500:
                break
        return answer

    def _next(self, pods: Sequence[str]) -> str:
        self._turn += 1
        return pods[self._turn % len(pods)]

    def _copy(
        self, plan: Plan, raw: bytes, seen: Seen, number: str, theirs: asyncio.Future
    ) -> None:
        """Send a copy to the new version without waiting; one too many is not sent."""
        if len(self._copies) >= COPIES:
            self.lost += 1
            return

        async def ask() -> None:
            answer = await self._ask(self._next(plan.new), raw, PATIENCE)
            if not _both_refuse(answer, beside := await theirs):
                seen.add(answer, number, beside)

        task = asyncio.create_task(ask())
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _ask(self, pod: str, raw: bytes, seconds: float) -> Answer:
        wire = self._wires.setdefault(pod, Wire(pod))
        begin = time.perf_counter()
        status, body, score, tier = 503, b"", None, None
        try:
            async with asyncio.timeout(seconds):
                status, body = await wire.post(self.path, raw)
            why = str(status)
            if status == 200:
                told = json.loads(body)
                score, tier = told["score"], told.get("tier")
                why = "" if told["source"] == "model" else "rules"
                if not why and not (isinstance(score, int | float) and 0 <= score <= 1):
                    score, why = None, "no score"
        except TimeoutError:
            why = "late"
        except NoReply as error:
            why = str(error)
        except (ValueError, KeyError, TypeError):
            status, why = 502, "no answer of a pod"
        return Answer(status, body, why, 1000 * (time.perf_counter() - begin), score, tier)

    def route(self, raw: bytes) -> dict[str, Any]:
        """Take another plan, from its fields as JSON; counting starts anew.

        Besides those of :class:`Plan`, ``by`` and ``lease`` as of :meth:`Plans.take`.

        Raises
        ------
        Problem
            422 for a plan that cannot be, 409 if somebody else rolls out, 503 if the plan's file
            cannot be written.
        """
        given, plan = json_object(raw), self.plan
        try:
            by, lease = str(given.pop("by", "")), float(given.pop("lease", 0))
            pods = {arm: addresses(given.pop(arm, getattr(plan, arm))) for arm in (STABLE, NEW)}
            self.plans.take(Plan(**pods, **given), by, lease)
        except (TypeError, ValueError) as error:
            raise Problem(422, "wrong plan", str(error), "The old plan holds.") from None
        except Held as error:
            raise Problem(409, "held", str(error), "Wait until it has ended.") from None
        except OSError as error:
            raise Problem(503, "not kept", repr(error), "The old plan holds: free disk.") from None
        return {"at": time.time(), "stage": self.plan.stage, STABLE: self.plan.stable}

    def renew(self, raw: bytes) -> dict[str, Any]:
        """Let the plan hold longer (``by``, ``lease``), and return what :meth:`watch` does.

        Raises
        ------
        Problem
            409 if it holds no more.
        """
        given = json_object(raw)
        try:
            self.plans.renew(str(given.get("by", "")), float(given["lease"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Problem(422, "wrong form", repr(error), "Send by and lease.") from None
        except Held as error:
            raise Problem(409, "held", str(error), "Begin the rollout anew.") from None
        return self.watch()

    def back(self, raw: bytes = b"") -> dict[str, Any]:
        """Let the stable pods before these have everything, also long after a rollout.

        Raises
        ------
        Problem
            409 if none were before.
        """
        try:
            return {"stable": self.plans.back().stable, "at": time.time()}
        except LookupError as error:
            raise Problem(409, "no way back", str(error), "Send a plan.") from None

    def watch(self) -> dict[str, Any]:
        """Return what each version has done since the stage began."""
        plan = self.plan
        told = {"stage": plan.stage, "share": plan.share, "failed": self.failed}
        told |= {"pods": {STABLE: plan.stable, NEW: plan.new, "before": self.plans.before}}
        return told | {"lost": self.lost, **{arm: seen.told() for arm, seen in self.seen.items()}}


def _both_refuse(new: Answer, stable: Answer) -> bool:
    """Say whether a request is its sender's fault, and not the new version's."""
    return new.status == stable.status and 400 <= new.status < 500


def pages(router: Router, public: bool = True, admin: bool = True) -> FastAPI:
    """Return a router over HTTP.

    Parameters
    ----------
    router : Router
    public : bool
        Its path, for everybody.
    admin : bool
        ``/route``, ``/renew``, ``/back`` and ``/watch``: not on a port that customers reach.
    """
    from fastapi import Response

    made = bare_app("Router")

    async def score(request: Request) -> Response:
        answer = await router.score(await body_of(request, LARGEST))
        return Response(answer.body, answer.status, media_type="application/json")

    def told(call: Callable[[bytes], Mapping[str, Any]]) -> Callable:
        async def handle(request: Request) -> Response:
            return reply(call(await body_of(request, LARGEST)))

        return handle

    if public:
        made.add_route(router.path, score, methods=["POST"])
    if admin:
        for name in ("route", "renew", "back"):
            made.add_route(f"/{name}", told(getattr(router, name)), methods=["POST"])
        made.add_route("/watch", told(lambda _: router.watch()), methods=["GET"])
    made.state.router = router
    return made


def app(stable: Sequence[str], **options: str) -> FastAPI:
    """Return a :class:`Router` over HTTP with all its pages, for a drill on loopback."""
    return pages(Router(stable, **options))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve requests on one port and plans on another, until the process is told to end."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--stable", nargs="+", required=True, help="addresses, if the file has none"
    )
    parser.add_argument("--plan", type=Path, required=True, help="file of the stable pods")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--admin-host", default="127.0.0.1")
    parser.add_argument("--admin-port", type=int, default=8081)
    given = parser.parse_args(arguments)
    router = Router(given.stable, file=str(given.plan))
    asyncio.run(
        serve_both(
            pages(router, admin=False),
            (given.host, given.port),
            pages(router, public=False),
            (given.admin_host, given.admin_port),
        )
    )


async def serve_both(
    public: FastAPI, at: tuple[str, int], admin: FastAPI, admin_at: tuple[str, int]
) -> None:
    """Serve two applications of one process on two ports; both end when one is told to."""
    import uvicorn

    made = []
    for one, (host, port) in ((public, at), (admin, admin_at)):
        made.append(uvicorn.Server(uvicorn.Config(one, host, port, access_log=False)))

    async def run(server: uvicorn.Server) -> None:
        try:
            await server.serve()
        finally:
            for other in made:
                other.should_exit = True

    await asyncio.gather(*map(run, made))


if __name__ == "__main__":
    main()
