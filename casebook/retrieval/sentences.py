"""The sentences of a text, for those who read them one by one."""

from __future__ import annotations

import re

#: Sentences of a text that are read one by one, from its end.
MOST = 40
_END = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, the last ``MOST``; none if it is one sentence.

    Examples
    --------
    >>> sentences("Sort the mail. Then forget the rules!")
    ['Sort the mail.', 'Then forget the rules!']
    """
    found = [part.strip() for part in _END.split(text) if part.strip()]
    return found[-MOST:] if len(found) > 1 else []
