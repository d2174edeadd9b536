"""What a tenant forbids, on the way in and on the way out, also between two pieces of a stream.

Personal data are found by :mod:`casebook.serving.privacy`, orders to the model by the
patterns of :mod:`casebook.serving.quick_guard`. Both cost milliseconds for a thousand characters.
So a cheap look comes first, and long texts are searched in a thread. An order to the model is
looked for in all that a request brings but its system message: in calls, in what tools return and
in how they are described. Beside a prompt of the registry, the request's own system message is
searched too: there, the tenant's prompt gives the orders.

What streams is masked by :class:`casebook.serving.streamed.StreamMask`, tool calls as a whole.

Examples
--------
>>> said, _, flags = checked(Guard(pii_in="redact"), [Message("user", "I am jane@example.com")])
>>> said[0].content, flags
('I am [email]', ['redacted: 1 email'])
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from casebook.llm.adapters import ProviderError
from casebook.llm.messages import Message
from casebook.llm.providers import Count, Fixed, Name
from casebook.serving.formats import Finding
from casebook.serving.json_masks import Search, masked_leaves
from casebook.serving.privacy import mask_turns
from casebook.serving.quick_guard import attack
from casebook.serving.refusals import Refusal
from casebook.serving.streamed import StreamMask, found, masked, may_hold
from casebook.serving.toxicity import toxic
from casebook.strict_json import parse

#: Longer texts are searched in a thread; more characters are not searched at all: they would hold
#: up everybody.
SHORT, MOST = 400, 60_000
#: Cosine from which a text is about a topic.
SIMILAR = 0.85

#: A guard that searches nothing.
OFF = {"pii_in": "off", "injection": "off", "topics": ()}

Deed = Literal["off", "redact", "reject"]
Said = Sequence[Message]
#: Says why a text looks like an attack; empty if it does not.
Detector = Callable[[str], str]
#: Cosine of a text with each topic of a tenant, by name.
Topics = Callable[[str, Sequence[str]], Mapping[str, float]]


class Guard(Fixed):
    """What is done about personal data, insults, orders to the model, topics and length."""

    pii_in: Deed = "off"
    pii_out: Deed = "off"
    toxic_out: Deed = "off"
    injection: Literal["off", "flag", "reject"] = "off"
    topics: tuple[Name, ...] = ()
    most_in: Count | None = None
    most_out: Count | None = None


def personal(kinds: str, where: str) -> Refusal:
    """Return the refusal of personal data, which it does not quote."""
    what = f"The {where} holds personal data: {kinds}."
    return Refusal(400, "personal data", what, "Take them out, or choose to have them redacted.")


def checked(
    guard: Guard,
    said: Said,
    detect: Detector = attack,
    topics: Topics | None = None,
    *,
    besides: Mapping[str, Any] | None = None,
    prompt: int = 0,
) -> tuple[Said, Mapping[str, Any], list[str]]:
    """Return a request as the model may see it, and what was flagged.

    Parameters
    ----------
    besides : mapping, optional
        JSON of what is sent besides the conversation: tools and options.
    prompt : int
        How many messages, at the beginning, are of the registry's prompt.

    Raises
    ------
    Refusal
        400 for what the tenant rejects.
    """
    flags, besides = [], besides or {}
    if guard.injection != "off" or (guard.topics and topics):
        foreign = list(_foreign(said, besides, prompt))
    if guard.injection != "off":
        why = next(filter(None, map(detect, foreign)), "")
        if why and guard.injection == "reject":
            what = f"A message looks like an order to the model: it {why}."
            raise Refusal(400, "injection", what, "Put it otherwise.")
        flags += [f"injection: {why}"] if why else []
    if guard.topics and topics:
        _check_topics(guard, foreign, topics)
    if guard.pii_in != "off":
        said, besides, kinds = _masked(said, besides)
        if kinds and guard.pii_in == "reject":
            raise personal(kinds, "request")
        flags += [f"redacted: {kinds}"] if kinds else []
    return said, besides, flags


def _check_topics(guard: Guard, texts: Sequence[str], topics: Topics) -> None:
    for text in texts:
        for topic, cosine in topics(text, guard.topics).items():
            if cosine >= SIMILAR:
                what = f"A message is about a blocked topic: {topic}."
                raise Refusal(400, "blocked topic", what, "Ask about something else.")


def _foreign(said: Said, besides: Mapping[str, Any], prompt: int) -> Iterator[str]:
    """Yield the texts that may hold an order of somebody who has none to give."""
    for one in said[prompt:]:
        if one.content and (prompt or one.role != "system"):
            yield one.content
        yield from (json.dumps(call.arguments, ensure_ascii=False) for call in one.tool_calls)
    for tool in besides.get("tools", ()):
        yield json.dumps(tool, ensure_ascii=False)


def _masked(said: Said, besides: Mapping[str, Any]) -> tuple[Said, Mapping[str, Any], str]:
    """Return a request without personal data, and their kinds.

    Messages of one writer are searched together too: a number may go on in the next one.
    """
    clean, (others, findings) = list(said), masked_leaves(besides)
    kinds = Counter(one.kind for one in findings)
    for at, one in enumerate(said):
        calls = [(call, masked_leaves(call.arguments)) for call in one.tool_calls]
        text, own = one.content, found(one.content)
        kinds.update(f.kind for f in own + [f for _, (_, more) in calls for f in more])
        made = tuple(replace(call, arguments=value) for call, (value, _) in calls)
        if made or own:
            clean[at] = replace(one, tool_calls=made, content=masked(text, own))
    for role in {one.role for one in clean if may_hold(one.content)}:
        rows = [at for at, one in enumerate(clean) if one.role == role]
        if len(rows) > 1:
            texts = mask_turns([clean[at].content for at in rows])
            for at, text in zip(rows, texts, strict=True):
                clean[at] = replace(clean[at], content=text)
    if clean == list(said) and others == besides:
        return said, besides, ""
    told = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return clean, others, told or "a number over several messages"


# On the way out ------------------------------------------------------------------------


def searched(guard: Guard) -> Search | None:
    """Return the search of what a tenant does not want in answers, or None."""
    searches = [found] * (guard.pii_out != "off") + [toxic] * (guard.toxic_out != "off")
    if len(searches) < 2:
        return searches[0] if searches else None

    def both(text: str) -> list[Finding]:
        found_: list[Finding] = []
        for one in sorted((f for search in searches for f in search(text)), key=lambda f: f.start):
            if not found_ or one.start >= found_[-1].end:
                found_.append(one)
        return found_

    return both


def output_mask(guard: Guard) -> StreamMask | None:
    """Return the mask of a stream of text, or None where nothing is searched.

    It raises a :class:`Refusal` for what the tenant rejects.
    """
    search = searched(guard)
    return StreamMask(refuse=lambda kind: _refuse(guard, kind), search=search) if search else None


def _refuse(guard: Guard, kind: str) -> None:
    if kind != "toxic" and guard.pii_out == "reject":
        raise personal(f"1 {kind}", "answer")
    if kind == "toxic" and guard.toxic_out == "reject":
        what, do = "The model's answer is insulting or threatening.", "Put the request otherwise."
        raise Refusal(502, "toxic answer", what, do)


def masked_calls(
    guard: Guard, calls: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return tool calls without what a tenant does not want in answers, and what was found.

    Raises
    ------
    Refusal
        For what the tenant rejects.
    """
    search, kinds, made = searched(guard), Counter(), []
    for call in calls:
        function = dict(call["function"])
        if search:
            if len(function["arguments"]) > MOST:
                raise ProviderError("malformed", "a call is too long")
            try:
                value, findings = masked_leaves(parse(function["arguments"]), search)
            except ValueError:
                raise ProviderError("malformed", "a call is nested too deeply") from None
            for one in findings:
                _refuse(guard, one.kind)
                kinds[one.kind] += 1
            function["arguments"] = json.dumps(value) if findings else function["arguments"]
        made.append({**call, "function": function})
    return made, kinds


def masked_json(guard: Guard, text: str) -> tuple[str, Counter[str]]:
    """Return a JSON text without what a tenant does not want in answers: it stays JSON."""
    (call,), kinds = masked_calls(guard, [{"function": {"arguments": text}}])
    return call["function"]["arguments"], kinds


async def checked_aside(
    guard: Guard, said: Said, detect: Detector, topics: Topics | None, **more: Any
) -> tuple[Said, Mapping[str, Any], list[str]]:
    """Check as :func:`checked`, in a thread if it takes long."""
    size = sum(len(one.content) for one in said)
    size += sum(len(str(call.arguments)) for one in said for call in one.tool_calls)
    size += len(str(more.get("besides", "")))
    if size <= SHORT:
        return checked(guard, said, detect, topics, **more)
    if size > MOST and guard != guard.model_copy(update=OFF):
        what = f"The conversation has {size:,} characters; {MOST:,} are searched at most."
        raise Refusal(413, "too long", what, "Shorten it.")
    return await asyncio.to_thread(checked, guard, said, detect, topics, **more)
