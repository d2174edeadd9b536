"""What a tenant forbids, on the way in and on the way out, also between two pieces of a stream.

Personal data are found by :mod:`casebook.serving.privacy`, orders to the model by the
patterns of :mod:`casebook.serving.quick_guard`. Both cost milliseconds for a thousand characters.
So a cheap look comes first, and long texts are searched in a thread. What a tool has returned is
searched too: an order to the model comes from there as easily as from a user.

What streams is masked by :class:`casebook.serving.streamed.StreamMask`, tool calls as a whole.

Examples
--------
>>> said, flags = checked(Guard(pii_in="redact"), [Message("user", "I am jane@example.com")])
>>> said[0].content, flags
('I am [email]', ['redacted: 1 email'])
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from casebook.cases.llm_gateway.config import Guard
from casebook.llm.adapters import ProviderError
from casebook.llm.messages import Message
from casebook.serving.formats import Finding
from casebook.serving.privacy import mask, mask_turns
from casebook.serving.quick_guard import attack
from casebook.serving.refusals import Refusal
from casebook.serving.streamed import StreamMask, found, may_hold
from casebook.serving.toxicity import toxic
from casebook.strict_json import parse

#: Longer texts are searched in a thread; more characters are not searched at all: they would hold
#: up everybody.
SHORT, MOST = 400, 60_000
#: Levels of a call's arguments that are searched.
DEEPEST = 100
#: Letters of a schema, and what in it could take for ever: a pattern that backtracks, and
#: references that double at each step.
SCHEMA, ENDLESS = 20_000, ("patternProperties", "$ref", "$dynamicRef")
#: Cosine from which a text is about a topic.
SIMILAR = 0.85

#: A guard that searches nothing.
OFF = {"pii_in": "off", "injection": "off", "topics": ()}

Said = Sequence[Message]
#: Says why a text looks like an attack; empty if it does not.
Detector = Callable[[str], str]
#: Cosine of a text with each topic of a tenant, by name.
Topics = Callable[[str, Sequence[str]], Mapping[str, float]]


def personal(kinds: str, where: str) -> Refusal:
    """Return the refusal of personal data, which it does not quote."""
    what = f"The {where} holds personal data: {kinds}."
    return Refusal(400, "personal data", what, "Take them out, or choose to have them redacted.")


def checked(
    guard: Guard, said: Said, detect: Detector = attack, topics: Topics | None = None
) -> tuple[Said, list[str]]:
    """Return a conversation as the model may see it, and what was flagged.

    Raises
    ------
    Refusal
        400 for what the tenant rejects.
    """
    flags: list[str] = []
    others = [one.content for one in said if one.role in ("user", "tool")]
    if guard.injection != "off":
        why = next(filter(None, map(detect, others)), "")
        if why and guard.injection == "reject":
            what = f"A message looks like an order to the model: it {why}."
            raise Refusal(400, "injection", what, "Put it otherwise.")
        flags += [f"injection: {why}"] if why else []
    if guard.topics and topics:
        for text in (one.content for one in said if one.role == "user"):
            for topic, cosine in topics(text, guard.topics).items():
                if cosine >= SIMILAR:
                    what = f"A message is about a blocked topic: {topic}."
                    raise Refusal(400, "blocked topic", what, "Ask about something else.")
    if guard.pii_in != "off":
        said, kinds = _masked(said)
        if kinds and guard.pii_in == "reject":
            raise personal(kinds, "request")
        flags += [f"redacted: {kinds}"] if kinds else []
    return said, flags


def _masked(said: Said) -> tuple[Said, str]:
    """Return a conversation without personal data, and their kinds.

    Messages of one writer are searched together too: a number may go on in the next one.
    """
    clean, kinds = list(said), Counter()
    for at, one in enumerate(said):
        calls = [(call, masked_leaves(call.arguments, found)) for call in one.tool_calls]
        kinds.update(finding.kind for _, (_, findings) in calls for finding in findings)
        made = tuple(replace(call, arguments=value) for call, (value, _) in calls)
        clean[at] = replace(one, tool_calls=made) if one.tool_calls else one
    for role in {one.role for one in said if may_hold(one.content)}:
        rows = [at for at, one in enumerate(said) if one.role == role]
        texts = [said[at].content for at in rows]
        if len(rows) == 1:  # as `mask_turns` does, in half of the time
            alone = mask(texts[0])
            texts, own = [alone.text], alone.found
        else:
            own = Counter(finding.kind for text in texts for finding in found(text))
            texts = mask_turns(texts)
        kinds.update(own)
        for at, text in zip(rows, texts, strict=True):
            clean[at] = replace(clean[at], content=text)
    if clean == list(said):
        return said, ""
    told = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return clean, told or "a number over several messages"


Search = Callable[[str], list[Finding]]


def masked_leaves(value: Any, search: Search, depth: int = 0) -> tuple[Any, list[Finding]]:
    """Return a JSON value with its texts and numbers masked, and what was found.

    Raises
    ------
    Refusal
        422 for a value of more than :data:`DEEPEST` levels.

    Examples
    --------
    >>> masked_leaves({"to": ["jane@example.com"], "n": 3}, found)[0]
    {'to': ['[email]'], 'n': 3}
    """
    if depth > DEEPEST:
        what = f"The arguments of a call have more than {DEEPEST} levels."
        raise Refusal(422, "too deep", what, "Send them flatter.")
    if isinstance(value, Mapping):
        made = {name: masked_leaves(one, search, depth + 1) for name, one in value.items()}
        findings = [finding for _, found_ in made.values() for finding in found_]
        return {name: one for name, (one, _) in made.items()}, findings
    if isinstance(value, list):
        items = [masked_leaves(one, search, depth + 1) for one in value]
        return [one for one, _ in items], [f for _, x in items for f in x]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return value, []
    text = str(value)
    if not (findings := search(text)):
        return value, []
    for one in reversed(findings):
        text = f"{text[: one.start]}[{one.kind}]{text[one.end :]}"
    return text, findings


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
            except Refusal:
                raise ProviderError("malformed", "a call is nested too deeply") from None
            for one in findings:
                _refuse(guard, one.kind)
                kinds[one.kind] += 1
            function["arguments"] = json.dumps(value) if findings else function["arguments"]
        made.append({**call, "function": function})
    return made, kinds


# What would take too long --------------------------------------------------------------


async def checked_aside(guard: Guard, said: Said, detect: Detector, topics: Topics | None) -> tuple:
    """Check as :func:`checked`, in a thread if it takes long."""
    size = sum(len(one.content) for one in said)
    size += sum(len(str(call.arguments)) for one in said for call in one.tool_calls)
    if size <= SHORT:
        return checked(guard, said, detect, topics)
    if size > MOST and guard != guard.model_copy(update=OFF):
        what = f"The conversation has {size:,} characters; {MOST:,} are searched at most."
        raise Refusal(413, "too long", what, "Shorten it.")
    return await asyncio.to_thread(checked, guard, said, detect, topics)


def endless(schema: Any) -> bool:
    """Say whether holding a value against a tenant's schema could take too long for the others."""
    if len(json.dumps(schema)) > SCHEMA:
        return True
    held = [schema]
    while held:
        one = held.pop()
        if isinstance(one, dict):
            if isinstance(one.get("pattern"), str) or not one.keys().isdisjoint(ENDLESS):
                return True
            held += one.values()
        elif isinstance(one, list):
            held += one
    return False
