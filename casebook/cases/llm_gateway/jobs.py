"""A request on its way through the gateway: what was asked, what has come, what it costs whom."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from casebook.cases.llm_gateway.config import Tenant
from casebook.cases.llm_gateway.meter import Bill
from casebook.llm.adapters import CallPart, Delta, ModelRequest, ProviderError
from casebook.llm.bounded_schema import endless, misfit
from casebook.llm.messages import Message, Request, estimate_tokens
from casebook.llm.providers import Model
from casebook.serving.chat_requests import ChatRequest
from casebook.serving.conversation_guard import Said
from casebook.serving.failover import CHARGED
from casebook.serving.refusals import Refusal

#: Tokens that a message costs besides its text, and that a provider adds for tools, at most.
PER_MESSAGE, FOR_TOOLS = 16, 600
#: Characters of a token where a provider sends several in an event: few texts have longer ones, so
#: that nobody pays for more than the provider counts.
WIDE = 6


class Done(NamedTuple):
    """The end of an answer."""

    model: str
    finish: str
    tokens_in: int
    tokens_out: int
    how: str = "complete"
    calls: Sequence[Mapping[str, Any]] = ()


@dataclass
class Job:
    """A request that was admitted.

    ``once`` is what a request with an idempotency key says; the same key with another body is
    refused.
    """

    request: str
    tenant: Tenant
    chain: list[Model]
    asked: ModelRequest
    prompt: str = ""
    schema: Mapping[str, Any] | None = None
    strict: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cache_key: str = ""
    once: str = ""
    flags: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    tried: list[tuple[str, str]] = field(default_factory=list)
    served: str = ""

    @property
    def model(self) -> Model:
        """The wanted model."""
        return self.chain[0]

    @property
    def bound(self) -> int:
        """Tokens of the conversation at most: none is shorter than a byte."""
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in self.asked.texts()]
        tools = FOR_TOOLS if self.asked.said.tools else 0
        return sum(sizes) + PER_MESSAGE * len(sizes) + tools

    @property
    def estimate(self) -> int:
        """Tokens of the conversation, roughly."""
        return sum(map(estimate_tokens, self.asked.texts()))

    @property
    def most(self) -> int:
        """Nano-dollars that it can cost, whoever of its chain answers."""
        return max(model.cost(self.bound, self.asked.max_tokens) for model in self.chain)

    @property
    def lost(self) -> int:
        """Nano-dollars of attempts that failed at work: each has read the conversation."""
        models = {one.name: one for one in self.chain}
        failed = [models[name] for name, kind in self.tried if kind in CHARGED]
        return sum(model.cost(self.estimate, 0) for model in failed)


class Tally:
    """What is known of an answer's tokens so far.

    Attributes
    ----------
    passed : int
        Characters that were released to the client of a stream; a mask holds back the last ones.
    """

    def __init__(self, job: Job) -> None:
        self.text, self.finish = [], ""
        self.calls: list[CallPart] = []
        self.pieces = self.came = self.passed = 0
        self._ends: list[int] = []
        self._job, self._in, self._out = job, None, None

    def add(self, piece: Delta) -> None:
        """Count a piece."""
        self.pieces += piece.n
        self.came += len(piece.text)
        self._ends += [self.came] * piece.n if piece.text else []
        self.calls += piece.calls
        self.finish = piece.finish or self.finish
        self._in = self._in if piece.tokens_in is None else piece.tokens_in
        self._out = self._out if piece.tokens_out is None else piece.tokens_out

    def counted(self) -> tuple[int, int]:
        """Return tokens in and out as the provider counts them: as it reported, or as estimated."""
        into = self._job.estimate if self._in is None else self._in
        if self._out is not None:
            return into, self._out
        size = self.came + sum(len(one.name + one.arguments) for one in self.calls)
        if not self._job.asked.stream:
            return into, estimate_tokens("x" * size)
        return into, max(self.pieces, size // WIDE)

    def tokens(self, left: bool = False) -> tuple[int, int]:
        """Return tokens that are billed, of a client that left for what was released to it.

        One for each piece that was released to its last character, or for each :data:`WIDE`
        characters; never more than the provider counts or than can be.
        """
        into, out = self.counted()
        if left:
            released = bisect_right(self._ends, self.passed)
            out = min(out, max(released, self.passed // WIDE))
        return min(into, self._job.bound), min(out, self._job.asked.max_tokens)

    def bill(self, model: Model, how: str) -> Bill:
        """Return what a client pays, and what the gateway pays beyond that.

        ``refused`` by the tenant's own rule after a part had left is billed as ``left`` is.
        """
        tokens = self.tokens(left=how in ("left", "refused"))
        cost = model.cost(*tokens)
        return Bill(model.name, *tokens, cost, how, *self.waste(model, cost))

    def waste(self, model: Model | None, billed: int = 0) -> tuple[int, int]:
        """Return nano-dollars that nobody is billed for, and how many of them are estimated."""
        over = max(0, model.cost(*self.counted()) - billed) if model else 0
        reported = self._in is not None and self._out is not None
        return self._job.lost + over, self._job.lost + (0 if reported else over)


# What is refused ------------------------------------------------------------------------


def messages_of(asked: ChatRequest) -> list[Message]:
    try:
        return [one.message for one in asked.messages]
    except ValueError as error:
        raise _out_of_order(error) from None


def in_order(said: Said, tools: Sequence[Any]) -> Request:
    """Return a conversation whose tool calls and their results fit together; else 422."""
    try:
        return Request(tuple(said), tuple(tools))
    except ValueError as error:
        raise _out_of_order(error) from None


def _out_of_order(error: ValueError) -> Refusal:
    what = f"The conversation is not in order: {str(error).split(':')[0]}."
    return Refusal(422, "invalid messages", what, "Answer each tool call by a tool message.")


def check_fits(job: Job) -> None:
    """Refuse a conversation that is too long for its tenant or for its model."""
    tokens, rest = job.estimate, job.model.context - job.asked.max_tokens
    most = min(rest, job.tenant.guard.most_in or rest)
    if tokens > most:
        what = f"The conversation has about {tokens} tokens; at most {max(0, most)} are taken."
        raise Refusal(400, "context length exceeded", what, "Shorten it, or lower max_tokens.")


def check_schemas(schemas: Sequence[Mapping[str, Any]]) -> None:
    """Refuse schemas that are none, or that could take too long together."""
    do = "Correct the schema; leave out pattern, $ref and uniqueItems."
    if schemas and endless(list(schemas)):
        raise Refusal(422, "invalid schema", "The schemas are too long, or have no bound.", do)
    try:
        for schema in schemas:
            misfit({}, schema)
    except ValueError as error:
        raise Refusal(422, "invalid schema", str(error), do) from None


def wrong_answer(what: str) -> Refusal:
    return Refusal(502, "wrong answer", what, "Correct the schema, or name another model.")


def broken_off(failure: ProviderError) -> Refusal:
    """Return what is told of an answer that broke off."""
    late = failure.kind == "timeout"
    status, error = (504, "provider late") if late else (502, "provider failed")
    what = f"The answer broke off ({failure.kind}). You are not billed for it."
    return Refusal(status, error, what, "Send it again.", failure.wait or 1.0)


def kept_of(job: Job, text: str, done: Done) -> str:
    """Return an answer as it is kept for a request that comes again."""
    return json.dumps([text, done, job.tenant.guard.model_dump(mode="json")])


def answer_of(job: Job, kept: str) -> tuple[str, Done]:
    """Return an answer that was kept; 409 if the tenant's guard has changed since then."""
    text, done, guard = json.loads(kept)
    if guard != job.tenant.guard.model_dump(mode="json"):
        what = "A request with this Idempotency-Key was answered under other rules of the guard."
        raise Refusal(409, "repeated", what, "Send another key for another request.")
    return text, Done(*done)._replace(how="replayed")
