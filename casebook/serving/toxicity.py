"""Insults and threats in a text, by a list of words: the simple baseline of output safety.

Each entry is also found with repeated letters, with digits or signs for letters, and s p e l l e d
out. What a list cannot do: it misses contempt in polite words, and it finds a word that is only
quoted. A classifier that was trained on labelled comments does better on both; this one costs
microseconds, needs no model, and says why.

Examples
--------
>>> text = "You absolute 1diooot, read the assessment."
>>> [text[one.start:one.end] for one in toxic(text)]
['1diooot']
>>> toxic("you \u0456diot")
[Finding(kind='toxic', start=4, end=9)]
>>> toxic("She wrote from Scunthorpe about shiitake mushrooms.")
[]
"""

from __future__ import annotations

import re

from casebook.serving.formats import Finding, Plain

WORDS = (
    "arsehole", "arseholes", "asshole", "assholes", "bastard", "bastards", "bitch", "bitches",
    "cretin", "cretins", "dickhead", "dipshit", "dumbass", "fuck", "fucked", "fucker", "fuckers",
    "fucking", "idiot", "idiots", "imbecile", "imbeciles", "jackass", "moron", "morons",
    "motherfucker", "retard", "retards", "scumbag", "scumbags", "shit", "shithead", "shitty",
    "slut", "sluts", "twat", "wanker", "wankers", "whore", "whores",
)  # fmt: skip
PHRASES = (
    r"(?:go\s+)?kill\s+yourself", r"go\s+(?:and\s+)?die", r"drop\s+dead", r"go\s+to\s+hell",
    r"(?:i|we)(?:\s+will|'ll|’ll|\s+am\s+going\s+to)\s+(?:kill|hurt|beat|shoot|stab)\s+you",
    r"you\s+(?:deserve|ought)\s+to\s+die", r"nobody\s+would\s+miss\s+you",
    r"(?:you\s+are|you're|you’re)\s+(?:worthless|subhuman|vermin)",
)  # fmt: skip
#: What is written for a letter.
LOOKS = {"a": "a@4", "e": "e3", "i": "i1!", "o": "o0", "s": "s$5", "t": "t7"}
#: Cyrillic and Greek letters that look like Latin ones.
ALIKE = str.maketrans("аАеЕіІоОсСрРхХуУкКмМтТнНвВαοιερκτν", "aAeEiIoOcCpPxXyYkKmMtThHbBaoiepktv")


def _spellings(word: str) -> str:
    """Return the pattern of a word: its letters repeated, replaced, or spelled out."""
    letters = [f"[{LOOKS.get(one, one)}]" for one in word]
    apart = r"[\s._*-]".join(letters)
    return "".join(f"{one}{{1,4}}" for one in letters) + f"|{apart}"


_TOXIC = re.compile(
    rf"(?<![^\W_])(?:{'|'.join([*map(_spellings, WORDS), *PHRASES])})(?![^\W_])", re.IGNORECASE
)


def toxic(text: str) -> list[Finding]:
    """Return the insults and threats of a text, in order.

    It is searched in its plain form, with letters of other scripts read as those they look like.
    """
    plain = Plain(text)
    said = plain.text.translate(ALIKE)
    return [Finding("toxic", *plain.span(*match.span())) for match in _TOXIC.finditer(said)]
