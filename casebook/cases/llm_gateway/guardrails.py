"""What a tenant forbids, on the way in and on the way out, also between two pieces of a stream.

Personal data are found by :mod:`casebook.serving.privacy`, orders to the model by
:mod:`casebook.serving.guard`. Both cost milliseconds for a thousand characters. So a cheap look
comes first, and long texts are searched in a thread.

What streams is masked by :class:`casebook.serving.streamed.StreamMask`.

Examples
--------
>>> checked(Guard(pii_in="redact"), [("user", "I am jane@example.com")])
([('user', 'I am [email]')], ['redacted: 1 email'])
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from casebook.cases.llm_gateway.config import Guard
from casebook.cases.llm_gateway.requests import Refusal
from casebook.serving.formats import Finding
from casebook.serving.guard import attack
from casebook.serving.privacy import mask_turns
from casebook.serving.streamed import found, may_hold

#: Longer texts are searched in a thread; more characters are not searched at all: they would hold
#: up everybody.
SHORT, MOST = 400, 60_000
#: Letters of a schema, and what in it could take for ever: a pattern that backtracks, and
#: references that double at each step.
SCHEMA, ENDLESS = 20_000, ("patternProperties", "$ref", "$dynamicRef")
#: Cosine from which a text is about a topic.
SIMILAR = 0.85

#: A guard that searches nothing.
OFF = {"pii_in": "off", "injection": "off", "topics": ()}

Said = Sequence[tuple[str, str]]
#: Says why a text looks like an attack; empty if it does not.
Detector = Callable[[str], str]
#: Cosine of a text with each topic of a tenant, by name.
Topics = Callable[[str, Sequence[str]], Mapping[str, float]]


def _kinds(findings: Sequence[Finding]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in Counter(f.kind for f in findings).items())


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
    users = [at for at, (role, _) in enumerate(said) if role == "user"]
    if guard.injection != "off":
        why = next(filter(None, (detect(said[at][1]) for at in users)), "")
        if why and guard.injection == "reject":
            what = f"A message looks like an order to the model: it {why}."
            raise Refusal(400, "injection", what, "Put it otherwise.")
        flags += [f"injection: {why}"] if why else []
    if guard.topics and topics:
        for at in users:
            for topic, cosine in topics(said[at][1], guard.topics).items():
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
    if not any(may_hold(text) for _, text in said):
        return said, ""
    clean = list(said)
    for role in {role for role, _ in said}:
        rows = [at for at, one in enumerate(said) if one[0] == role]
        for at, text in zip(rows, mask_turns([said[at][1] for at in rows]), strict=True):
            clean[at] = (role, text)
    if clean == list(said):
        return said, ""
    kinds = _kinds([finding for _, text in said for finding in found(text)])
    return clean, kinds or "a number over several messages"


async def checked_aside(guard: Guard, said: Said, detect: Detector, topics: Topics | None) -> tuple:
    """Check as :func:`checked`, in a thread if it takes long."""
    size = sum(len(text) for _, text in said)
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
