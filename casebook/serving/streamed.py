"""Personal data in a text that comes in pieces, masked also where two of them meet.

:class:`StreamMask` holds back the last :data:`HOLD` characters until more has come: what leaves is
what :func:`casebook.serving.privacy.mask` would make of the whole. This is the price of masking a
stream: its reader sees each word that much later. Searching costs milliseconds for a thousand
characters, so a cheap look comes first: a text of ASCII without digit, @ and *at* holds nothing.

Examples
--------
>>> masked = StreamMask(hold=40)
>>> "".join(map(masked.feed, ["Write to jane.", "doe@exam", "ple.com today."])) + masked.end()
'Write to [email] today.'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from casebook.serving.formats import Finding
from casebook.serving.privacy import find

#: Characters that are held back: no finding is longer, apart from few postal addresses.
HOLD = 120
#: Characters after which a text is searched again.
STEP = 48
ANY = re.compile(r"[\d@]|\b(?:at|arroba)\b", re.IGNORECASE)


def may_hold(text: str) -> bool:
    """Say whether a text may hold personal data at all."""
    return not text.isascii() or bool(ANY.search(text))


def found(text: str) -> list[Finding]:
    """Return the personal data of a text, as :func:`casebook.serving.privacy.find` does."""
    return find(text) if may_hold(text) else []


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
    """

    def __init__(
        self,
        hold: int = HOLD,
        refuse: Callable[[str], None] | None = None,
        search: Callable[[str], list[Finding]] = found,
    ) -> None:
        self.hold, self.refuse, self.search = hold, refuse, search
        self.found: Counter[str] = Counter()
        self._before, self._text, self._searched = "", "", 0

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
        self._keep(cut)
        return "".join(pieces)

    def _keep(self, cut: int) -> None:
        """Remember what stands before the rest, from a gap on: half a number looks like another."""
        before = (self._before + self._text[:cut])[-self.hold :]
        gap = before.find(" ")
        self._before, self._text = before[gap + 1 :] if gap >= 0 else "", self._text[cut:]
