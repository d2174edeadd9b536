"""Stand-ins for a language model: deterministic, offline, and named for what they are.

A system builds its own on :class:`StandIn`. :class:`Scripted` serves tests,
:class:`Compromised` the measurements of security.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from casebook.llm import wire
from casebook.llm.messages import (
    Chunk,
    Message,
    Reply,
    Request,
    ResponseFormat,
    Tool,
    ToolCall,
    estimate_usage,
)
from casebook.strict_json import parse

#: What a stand-in may answer: a text, tool calls, a value for a response format (a dict), a
#: whole reply, or an error that is raised.
Answer = str | ToolCall | Sequence[ToolCall] | dict[str, Any] | Reply | Exception


class StandIn(ABC):
    """A chat model made of rules.

    A subclass sets :attr:`name` and :attr:`does`, and writes :meth:`answer`. Its requests and its
    answers are checked as those of a real model are, and its tokens are estimated.

    Attributes
    ----------
    name : str
        What it is: "extractive reader".
    does : str
        What it does, to follow "a stand-in that": "quotes the passage nearest to the question".
    """

    name: str
    does: str

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Return the answer to a request, the same one every time."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return the whole answer to a conversation.

        Raises
        ------
        TypeError, ValueError
            If the request is wrong.
        BadToolCall, BadStructuredOutput
            If the answer is not one of what was asked for.
        """
        request = Request(tuple(messages), tuple(tools), response_format)
        return self._checked(self._reply(request, self.answer(request)), request)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Iterator[Chunk]:
        """Yield the answer word by word; the last chunk holds the reply."""
        reply = self.complete(messages, tools=tools, response_format=response_format)
        pieces = re.findall(r"\s*\S+|\s+", reply.content)
        return iter([*(Chunk(piece) for piece in pieces), Chunk(reply=reply)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _reply(self, request: Request, answer: Answer) -> Reply:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reply):
            return answer
        content, calls = "", ()
        if isinstance(answer, str):
            content = answer
        elif isinstance(answer, dict):
            content = json.dumps(answer, ensure_ascii=False)
        else:
            calls = _with_ids([answer] if isinstance(answer, ToolCall) else answer, request)
        usage = estimate_usage(request.messages, content, calls)
        return Reply(content, self.name, usage, "tool_calls" if calls else "stop", calls)

    def _checked(self, reply: Reply, request: Request) -> Reply:
        wire.check_tool_calls(reply.tool_calls, request)
        if reply.tool_calls:
            return reply
        return replace(reply, data=wire.structured(reply.content, request, reply.finish_reason))


def _with_ids(calls: Iterable[ToolCall], request: Request) -> tuple[ToolCall, ...]:
    """Give calls without an id one that the conversation does not hold yet."""
    calls = tuple(calls)
    if wrong := [call for call in calls if not isinstance(call, ToolCall)]:
        raise TypeError(
            f"A stand-in answers with a {type(wrong[0]).__name__}: give a string, a dict, "
            "ToolCall objects, a Reply or an exception."
        )
    first = sum(len(message.tool_calls) for message in request.messages) + 1
    return tuple(
        call if call.id else replace(call, id=f"call_{number}")
        for number, call in enumerate(calls, first)
    )


class Scripted(StandIn):
    """Play a list of answers, one for each request, and keep the requests: for tests.

    Parameters
    ----------
    answers : iterable
        Strings, tool calls, dicts for a response format, replies, or errors to raise.
    name : str
        What a page would print.

    Attributes
    ----------
    requests : list of Request
        What was asked, in order.

    Raises
    ------
    RuntimeError
        When more is asked than there are answers.
    """

    does = "plays a list of answers"

    def __init__(self, answers: Iterable[Answer], name: str = "scripted model") -> None:
        if isinstance(answers, str | dict):
            raise TypeError("A script is a list of answers: put the one answer into a list.")
        self.name = name
        self.requests: list[Request] = []
        self._answers = list(answers)

    def answer(self, request: Request) -> Answer:
        """Return the next answer."""
        self.requests.append(request)
        if len(self.requests) > len(self._answers):
            raise RuntimeError(
                f"The script has {len(self._answers)} answers, and request "
                f"{len(self.requests)} came: add an answer, or look for a loop."
            )
        return self._answers[len(self.requests) - 1]


class Compromised(StandIn):
    """Emit whatever it is told to, in every turn: a model that an attacker has taken over.

    Its answers are *not* checked against the tools and the response format: it may call tools
    that it was not offered with arguments that fit nothing. What is safe with this model rests on
    policy alone.

    Parameters
    ----------
    emits : answer or callable
        What :class:`Scripted` takes one of, or a function of the request that returns it.
    name : str
        What a page prints.

    Attributes
    ----------
    requests : list of Request
        What was asked, in order: all that the attacker gets to see.
    """

    does = "emits what an attacker wants"

    def __init__(
        self, emits: Answer | Callable[[Request], Answer], name: str = "compromised model"
    ) -> None:
        self.name = name
        self.requests: list[Request] = []
        self._emits = emits

    def answer(self, request: Request) -> Answer:
        """Return what the attacker wants."""
        self.requests.append(request)
        return self._emits(request) if callable(self._emits) else self._emits

    def _checked(self, reply: Reply, request: Request) -> Reply:
        if request.response_format is None:
            return reply
        try:
            return replace(reply, data=parse(reply.content))
        except ValueError:
            return reply
