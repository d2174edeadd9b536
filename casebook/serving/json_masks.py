"""Personal data in JSON: in texts, in numbers and in the names of fields; what is left is JSON.

Examples
--------
>>> masked_leaves({"to": ["jane@example.com"], "n": 3})[0]
{'to': ['[email]'], 'n': 3}
>>> masked_leaves({"jane@example.com": True, "bob@example.com": False})[0]
{'[email]': True, "[email]'": False}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from casebook.serving.formats import Finding
from casebook.serving.streamed import found, masked

#: Returns the findings of a text, in order and apart from each other.
Search = Callable[[str], list[Finding]]
#: Levels that are searched.
DEEPEST = 100


def masked_leaves(
    value: Any, search: Search = found, deepest: int = DEEPEST
) -> tuple[Any, list[Finding]]:
    """Return a JSON value with its texts, numbers and names masked, and what was found.

    Raises
    ------
    ValueError
        For a value of more levels than ``deepest``.
    """
    if deepest < 0:
        raise ValueError("it nests too deeply: send it flatter")
    if isinstance(value, Mapping):
        made, findings = {}, []
        for name, one in value.items():
            name, more = masked_leaves(name, search)
            one, own = masked_leaves(one, search, deepest - 1)
            findings += more + own
            while name in made:  # two names that look alike now
                name += "'"
            made[name] = one
        return made, findings
    if isinstance(value, list):
        items = [masked_leaves(one, search, deepest - 1) for one in value]
        return [one for one, _ in items], [f for _, x in items for f in x]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return value, []
    findings = search(str(value))
    return (masked(str(value), findings) if findings else value), findings
