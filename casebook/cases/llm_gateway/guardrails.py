"""What a tenant forbids, on the way in and on the way out, also between two pieces of a stream.

Personal data are found by :mod:`casebook.serving.privacy`, orders to the model by
:mod:`casebook.serving.guard`. Both cost milliseconds for a thousand characters. So a cheap look
comes first (a text of ASCII without digit, @ and *at* holds no personal data), and long texts are
searched in a thread.

In a stream, an address may begin in one piece and end in the next. :class:`StreamMask` holds back
the last :data:`HOLD` characters until more has come: what leaves is what :func:`mask` would make of
the whole. This is the price of the guard: the reader sees each word that much later.

Examples
--------
>>> masked = StreamMask(hold=40)
>>> "".join(map(masked.feed, ["Write to jane.", "doe@exam", "ple.com today."])) + masked.end()
'Write to [email] today.'
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from casebook.cases.llm_gateway.config import Guard
from casebook.cases.llm_gateway.requests import Refusal
from casebook.serving.formats import Finding
from casebook.serving.guard import attack
from casebook.serving.privacy import LONGEST, find, mask_turns

#: Characters that a stream holds back: no finding is longer, apart from few postal addresses.
HOLD = 120
#: Characters after which a stream is searched again.
STEP = 48
#: Longer texts are searched in a thread.
SHORT = 400
#: Cosine from which a text is about a topic.
SIMILAR = 0.85
_ANY = re.compile(r"[\d@]|\b(?:at|arroba)\b", re.IGNORECASE)

Said = Sequence[tuple[str, str]]
#: Says why a text looks like an attack; empty if it does not.
Detector = Callable[[str], str]
#: Cosine of a text with each topic of a tenant, by name.
Topics = Callable[[str, Sequence[str]], Mapping[str, float]]


def found(text: str) -> list[Finding]:
    """Return the personal data of a text, cheaply where there are none."""
    return [] if text.isascii() and not _ANY.search(text) else find(text)


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
    if any(len(text) > LONGEST for _, text in said):
        raise Refusal(413, "too long", "A message is too long to be searched.", "Send less.")
    if not any(not text.isascii() or _ANY.search(text) for _, text in said):
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
    if sum(len(text) for _, text in said) <= SHORT:
        return checked(guard, said, detect, topics)
    return await asyncio.to_thread(checked, guard, said, detect, topics)


class StreamMask:
    """Masks personal data in a text that comes in pieces.

    Parameters
    ----------
    hold : int
        Characters that are held back.
    reject : bool
        Whether a finding ends the answer instead.
    """

    def __init__(self, hold: int = HOLD, reject: bool = False) -> None:
        self.hold, self.reject = hold, reject
        self.found: Counter[str] = Counter()
        self._before, self._text, self._searched = "", "", 0

    def feed(self, piece: str) -> str:
        """Take a piece; return what may leave now.

        Raises
        ------
        Refusal
            400 for a finding, if that is to end the answer.
        """
        self._text += piece
        if len(self._text) - self.hold < max(1, self._searched):
            return ""
        left = self._release(len(self._text) - self.hold)
        self._searched = min(STEP, self.hold)
        return left

    def end(self) -> str:
        """Return the rest."""
        return self._release(len(self._text)) if self._text else ""

    def _release(self, cut: int) -> str:
        """Mask what stands before ``cut``, or before what reaches over it, and let it go."""
        skip = len(self._before)
        spans = [
            (max(0, f.start - skip), f.end - skip, f.kind)
            for f in found(self._before + self._text)
            if f.end > skip
        ]
        for start, end, _ in spans:
            if start < cut < end:
                cut = start  # it leaves with the next pieces
        pieces, at = [], 0
        for start, end, kind in spans:
            if end <= cut:
                if self.reject:
                    raise personal(f"1 {kind}", "answer")
                self.found[kind] += 1
                pieces += [self._text[at:start], f"[{kind}]"]
                at = end
        pieces.append(self._text[at:cut])
        self._keep(cut)
        return "".join(pieces)

    def _keep(self, cut: int) -> None:
        """Remember what stands before the rest, from a gap on: half a number looks like another."""
        before = (self._before + self._text[:cut])[-self.hold :]
        gap = before.find(" ")
        self._before, self._text = before[gap + 1 :] if gap >= 0 else "", self._text[cut:]
