"""JSON as RFC 8259 has it: no NaN, and no object in which a field stands twice.

Python's own reader takes the last of two values. Another reader may take the first: a guard and the
service behind it would then see two different messages.

Examples
--------
>>> parse('{"amount": 5}')
{'amount': 5}
>>> parse('{"amount": 5, "amount": 5000}')
Traceback (most recent call last):
...
ValueError: the field 'amount' stands twice in one object
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

#: Characters of a name that a message quotes.
QUOTED = 40


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object from its fields (``object_pairs_hook`` of :func:`json.loads`).

    Raises
    ------
    ValueError
        If a field is given twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        shown = twice if len(twice) <= QUOTED else f"{twice[: QUOTED - 1]}…"
        raise ValueError(f"the field {shown!r} stands twice in one object")
    return made


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and infinity (``parse_constant`` of :func:`json.loads`)."""
    raise ValueError(f"{name} is not JSON")


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        With the reason, if the text is not such JSON, not UTF-8, or nested too deeply.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
