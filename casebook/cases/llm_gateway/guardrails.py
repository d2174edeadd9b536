"""What may leave of an answer, and the threads in which long texts are searched.

A search of a long text would hold up everybody, so it is done in a thread. There are few of them:
tenants wait for one in a fair queue, and none holds more than half of them, however long its texts
and schemas take.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from casebook.cases.llm_gateway.config import Tenant
from casebook.cases.llm_gateway.jobs import Job, Tally, wrong_answer
from casebook.llm.adapters import Delta, assembled
from casebook.llm.bounded_schema import fits
from casebook.serving.conversation_guard import SHORT, masked_calls, masked_json, output_mask
from casebook.serving.fair import Fair
from casebook.serving.refusals import Refusal
from casebook.serving.streamed import StreamMask

#: Threads that search at a time; Python keeps at least five for all that an event loop hands on.
THREADS = 4
#: Searches of one tenant that may wait: a gateway answers no more requests at a time.
WAITING = 10_000
#: Characters of an answer that are searched at a time.
SLICE = 20_000


class Aside:
    """Threads that tenants share by weight.

    Parameters
    ----------
    fair : bool
        Without it, first come is first served: for comparison.
    threads : int
    """

    def __init__(self, fair: bool = True, threads: int = THREADS) -> None:
        self._all = Fair(threads, WAITING, fair)
        self._own: dict[str, Fair] = defaultdict(lambda: Fair(max(1, threads // 2), WAITING))

    async def __call__(self, tenant: Tenant, work: Callable[..., Any], *given: Any) -> Any:
        """Return what a function of values returns, in a thread."""
        async with self._own[tenant.name].turn(""), self._all.turn(tenant.name, tenant.weight):
            doing = asyncio.ensure_future(asyncio.to_thread(work, *given))
            try:
                return await asyncio.shield(doing)
            except asyncio.CancelledError:
                await asyncio.wait([doing])  # its thread is taken until then
                raise

    async def sized(self, tenant: Tenant, n: int, work: Callable[..., Any], *given: Any) -> Any:
        """Do what is short at once, and what has more characters in a thread."""
        return work(*given) if n <= SHORT else await self(tenant, work, *given)


def changed() -> Refusal:
    """Return the refusal of a request whose model was taken away while it was read."""
    what = "The gateway's configuration has changed while the request was read."
    return Refusal(503, "configuration changed", what, "Send it again.", 1.0)


async def passed(
    job: Job, pieces: AsyncIterator[Delta], tally: Tally, aside: Aside
) -> AsyncIterator[str]:
    """Yield what may leave of an answer; end it where it is long enough."""
    mask = None if job.schema is not None else output_mask(job.tenant.guard)
    async for piece in pieces:
        if tally.pieces + piece.n > job.asked.max_tokens and job.asked.stream:
            tally.finish = "length"  # its provider did not stop where it was told to
            break
        tally.add(piece)
        text = piece.text
        if mask:
            text = await aside.sized(job.tenant, len(text), _fed, mask, text)
        if text:
            tally.text.append(text)
        if text and job.schema is None:
            tally.passed = job.asked.stream * (mask.passed if mask else tally.came)
            yield text
    if mask:
        text = await aside.sized(job.tenant, mask.waiting, mask.end)
        job.flags += [f"redacted in answer: {n} {kind}" for kind, n in mask.found.items()]
        if text:
            tally.text.append(text)
            tally.passed = job.asked.stream * tally.came
            yield text


def _fed(mask: StreamMask, text: str) -> str:
    """Return what may leave of a text, which can be longer than what is searched at a time."""
    return "".join(mask.feed(text[at : at + SLICE]) for at in range(0, len(text), SLICE))


def _fits(text: str, schema: Mapping[str, Any]) -> bool:
    """Say whether a text fits a schema; a number that cannot be divided does not."""
    try:
        return fits(text, schema)
    except ArithmeticError:
        return False


async def calls_of(job: Job, tally: Tally, aside: Aside) -> list[dict[str, Any]]:
    """Return an answer's tool calls, as they may leave: whole, and masked as its text is."""
    for call in (made := assembled(tally.calls)):
        function = call["function"]
        schema = job.strict.get(function["name"])
        if schema and not await aside(job.tenant, _fits, function["arguments"], schema):
            raise wrong_answer("A tool call does not fit its tool's schema.")
    size = sum(len(call["function"]["arguments"]) for call in made)
    calls, kinds = await aside.sized(job.tenant, size, masked_calls, job.tenant.guard, made)
    job.flags += [f"redacted in call: {n} {kind}" for kind, n in kinds.items()]
    return calls


async def formed(job: Job, tally: Tally, aside: Aside) -> str:
    """Return an answer of the schema that was asked for, as it may leave; else refuse it."""
    text = "".join(tally.text)
    if not await aside(job.tenant, _fits, text, job.schema):
        raise wrong_answer("The model's answer does not fit the schema.")
    text, kinds = await aside.sized(job.tenant, len(text), masked_json, job.tenant.guard, text)
    job.flags += [f"redacted in answer: {n} {kind}" for kind, n in kinds.items()]
    tally.text, tally.passed = [text], job.asked.stream * tally.came
    return text
