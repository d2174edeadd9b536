"""Schemas that a client sends: what holding a value against one may take, and no longer.

A schema is a program that its writer lets run on somebody else's machine. What can take for ever is
refused before; the rest is bounded by the values of both sides, and checked in a thread.

Examples
--------
>>> endless({"properties": {"x": {"pattern": "(a+)+$"}}}), endless({"type": "object"})
(True, False)
>>> fits('{"x": 1}', {"required": ["x"]}), fits("x = 1", {}), fits("[1, 2, 3]", {}, most=3)
(True, False, False)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from casebook.llm import schema as checks
from casebook.strict_json import parse

#: Letters of schemas.
LARGEST = 20_000
#: What can take for ever: a pattern that backtracks, references that double at each step, items of
#: which each is compared with each.
ENDLESS = ("patternProperties", "$ref", "$dynamicRef", "$recursiveRef", "uniqueItems")
#: Values of an answer times those of its schema, at most; 100,000 take about a second.
HELD = 100_000
#: Schemas that are known to be ones.
REMEMBERED = 256


def endless(schemas: Any) -> bool:
    """Say whether holding a value against schemas could take too long for others."""
    if len(json.dumps(schemas)) > LARGEST:
        return True
    held = [schemas]
    while held:
        one = held.pop()
        if isinstance(one, dict):
            if isinstance(one.get("pattern"), str) or not one.keys().isdisjoint(ENDLESS):
                return True
            held += one.values()
        elif isinstance(one, list):
            held += one
    return False


def size_of(value: Any) -> int:
    """Return how many values a JSON value holds."""
    size, held = 0, [value]
    while held:
        one = held.pop()
        size += 1
        held += one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ()
    return size


def fits(text: str, schema: Mapping[str, Any], most: int = HELD) -> bool:
    """Say whether a text is JSON of a schema; what takes too long to say does not fit."""
    try:
        value = parse(text)
    except ValueError:
        return False
    return size_of(value) * size_of(schema) <= most and not misfit(value, schema)


def misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Say as :func:`casebook.llm.schema.misfit` why a value does not fit.

    Of the clients' schemas it remembers :data:`REMEMBERED`: each can be a new one.
    """
    if checks._schema_fault.cache_info().currsize >= REMEMBERED:
        checks._schema_fault.cache_clear()
    return checks.misfit(value, schema)
