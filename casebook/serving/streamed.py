"""Personal data in a text that comes in pieces, masked also where two of them meet.

:class:`StreamMask` holds back the last :data:`HOLD` characters that can be seen until more has
come, and does not cut within a word: what leaves is what masking the whole would leave, apart from
postal addresses that are longer than that. This is the price of masking a stream: its first word
leaves after 121 to about 170 characters, which at 45 tokens a second is nearly a second; an answer
shorter than that comes at its end. Searching costs milliseconds for a thousand characters, so a
cheap look comes first: a text of ASCII without digit, @ and *at* holds nothing.

Examples
--------
>>> masked = StreamMask(hold=40)
>>> "".join(map(masked.feed, ["Write to jane.", "doe@exam", "ple.com today."])) + masked.end()
'Write to [email] today.'
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from casebook.serving.formats import Finding
from casebook.serving.privacy import find

#: Characters that are held back, and of the longest word (an e-mail address has 254 at most).
HOLD, WORD = 120, 320
#: Characters after which a text is searched again.
STEP = 48
ANY = re.compile(r"[\d@]|\b(?:at|arroba)\b", re.IGNORECASE)


def may_hold(text: str) -> bool:
    """Say whether a text may hold personal data at all."""
    return not text.isascii() or bool(ANY.search(text))


def found(text: str) -> list[Finding]:
    """Return the personal data of a text, in order; most texts are not searched at all.

    Examples
    --------
    >>> accounts = "from DE89370400440532013000 to DE89370400440532013000"
    >>> [one.kind for one in found(accounts)], found("nothing here")
    (['iban', 'iban'], [])
    """
    return find(text) if may_hold(text) else []


def masked(text: str, findings: Sequence[Finding]) -> str:
    """Return a text with findings replaced by their kind."""
    for one in reversed(findings):
        text = f"{text[: one.start]}[{one.kind}]{text[one.end :]}"
    return text


class StreamMask:
    """Masks personal data in a text that comes in pieces.

    Parameters
    ----------
    hold : int
        Characters that are held back.
    refuse : callable, optional
        Is told the kind of a finding, and raises what ends the text instead.
    search : callable
        Returns the findings of a text, in order and apart from each other.

    Attributes
    ----------
    found : Counter
        Findings by kind.
    passed : int
        Characters of what was fed that have left, masked or not.
    """

    def __init__(
        self,
        hold: int = HOLD,
        refuse: Callable[[str], None] | None = None,
        search: Callable[[str], list[Finding]] = found,
    ) -> None:
        self.hold, self.refuse, self.search = hold, refuse, search
        self.found: Counter[str] = Counter()
        self.passed, self._before, self._text, self._searched = 0, "", "", 0

    def feed(self, piece: str) -> str:
        """Take a piece; return what may leave now.

        Raises
        ------
        Exception
            What ``refuse`` raises.
        """
        self._text += piece
        if len(self._text) - self.hold < max(1, self._searched):
            return ""
        if not (cut := self._cut()):
            return ""
        left = self._release(cut)
        self._searched = min(STEP, self.hold)
        return left

    def end(self) -> str:
        """Return the rest."""
        return self._release(len(self._text)) if self._text else ""

    def _cut(self) -> int:
        """Return where what is held back begins: characters that nobody sees do not count."""
        at, seen = len(self._text), 0
        while at and seen < self.hold:
            at -= 1
            seen += self._text[at].isascii() or unicodedata.category(self._text[at]) != "Cf"
        word = max(self._text.rfind(gap, 0, at) for gap in " \n\t") + 1
        return word if at - word < WORD else at

    def _release(self, cut: int) -> str:
        """Mask what stands before ``cut``, or before what reaches over it, and let it go."""
        skip = len(self._before)
        spans = [
            (max(0, f.start - skip), f.end - skip, f.kind)
            for f in self.search(self._before + self._text)
            if f.end > skip
        ]
        for start, end, _ in spans:
            if start < cut < end:
                cut = start  # it leaves with the next pieces
        pieces, at = [], 0
        for start, end, kind in spans:
            if end <= cut:
                if self.refuse:
                    self.refuse(kind)
                self.found[kind] += 1
                pieces += [self._text[at:start], f"[{kind}]"]
                at = end
        pieces.append(self._text[at:cut])
        self.passed += cut
        self._keep(cut)
        return "".join(pieces)

    def _keep(self, cut: int) -> None:
        """Remember what stands before the rest, from a gap on: half a number looks like another."""
        before = (self._before + self._text[:cut])[-self.hold :]
        gap = before.find(" ")
        self._before, self._text = before[gap + 1 :] if gap >= 0 else "", self._text[cut:]
