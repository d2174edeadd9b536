"""A request on its way through the gateway: what was asked, what has come, what is refused."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from casebook.cases.llm_gateway.config import Tenant
from casebook.cases.llm_gateway.guardrails import Said, endless
from casebook.cases.llm_gateway.meter import Bill
from casebook.cases.llm_gateway.requests import ChatRequest
from casebook.llm.adapters import CallPart, Delta, ModelRequest, ProviderError
from casebook.llm.messages import Message, Request, estimate_tokens
from casebook.llm.providers import Model
from casebook.llm.schema import misfit
from casebook.serving.refusals import Refusal

#: Tokens that a message costs besides its text, and that a provider adds for tools, at most.
PER_MESSAGE, FOR_TOOLS = 16, 600


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
    """A request that was admitted."""

    request: str
    tenant: Tenant
    chain: list[Model]
    asked: ModelRequest
    prompt: str = ""
    schema: Mapping[str, Any] | None = None
    strict: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cache_key: str = ""
    replay: bool = False
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


class Tally:
    """What is known of an answer's tokens so far."""

    def __init__(self, job: Job) -> None:
        self.text, self.finish = [], ""
        self.calls: list[CallPart] = []
        self.pieces = self.passed = 0
        self._job, self._in, self._out = job, None, None

    def add(self, piece: Delta) -> None:
        """Count a piece."""
        self.pieces += piece.n
        self.calls += piece.calls
        self.finish = piece.finish or self.finish
        self._in = self._in if piece.tokens_in is None else piece.tokens_in
        self._out = self._out if piece.tokens_out is None else piece.tokens_out

    def tokens(self, left: bool = False) -> tuple[int, int]:
        """Return tokens in and out: as reported, else as estimated; never more than can be."""
        into = self._job.estimate if self._in is None else self._in
        out = self._out
        if left or out is None:
            whole = self.pieces <= 1 and not left
            written = "".join(self.text) + "".join(one.name + one.arguments for one in self.calls)
            pieces = self.passed if left else self.pieces
            out = estimate_tokens(written) if whole else pieces
        return min(into, self._job.bound), min(out, self._job.asked.max_tokens)


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


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse a schema that is none, or that could take too long."""
    do = "Correct the schema; leave out pattern and $ref."
    if endless(schema):
        raise Refusal(422, "invalid schema", "The schema is too long, or has no bound.", do)
    try:
        misfit({}, schema)
    except ValueError as error:
        raise Refusal(422, "invalid schema", str(error), do) from None


def bill_of(model: Model, tokens: tuple[int, int], how: str) -> Bill:
    return Bill(model.name, *tokens, model.cost(*tokens), how)


def wrong_answer(what: str) -> Refusal:
    return Refusal(502, "wrong answer", what, "Ask again, or name another model.", 1.0)


def broken_off(failure: ProviderError) -> Refusal:
    """Return what is told of an answer that broke off."""
    late = failure.kind == "timeout"
    status, error = (504, "provider late") if late else (502, "provider failed")
    what = f"The answer broke off ({failure.kind}). You are not billed for it."
    return Refusal(status, error, what, "Send it again.", failure.wait or 1.0)
