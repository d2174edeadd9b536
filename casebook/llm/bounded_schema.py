"""Schemas that a client sends: what holding a value against one may take, and no longer.

A schema is a program that its writer lets run on somebody else's machine. Of its keywords those are
taken with which each part of the value meets each part of the schema once. So the product of both
sizes is a bound, which is reckoned before anything is checked.

Examples
--------
>>> endless({"properties": {"x": {"pattern": "(a+)+$"}}}), endless({"type": "object"})
("the keyword 'pattern' is not taken", '')
>>> fits('{"x": 1}', {"required": ["x"]}), fits("x = 1", {}), fits("[1, 2, 3]", {}, most=3)
(True, False, False)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from casebook.llm import schema as checks
from casebook.strict_json import parse_foreign

#: Letters of schemas.
LARGEST = 20_000
#: Keywords that hold schemas: one or a list of them, and those that hold them by name.
INSIDE = frozenset((
    "items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else",
    "allOf", "anyOf", "oneOf", "prefixItems",
))  # fmt: skip
BY_NAME = frozenset(("properties", "$defs", "definitions", "dependentSchemas"))
#: Keywords that hold none. All others can take for ever: a pattern backtracks, references double at
#: each step, unique items are compared with each other, and what is not evaluated is found by
#: evaluating all the rest again at each level.
PLAIN = frozenset((
    "type", "enum", "const", "required", "dependentRequired", "multipleOf", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "minContains", "maxContains", "minProperties", "maxProperties", "format", "title",
    "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
    "contentEncoding", "contentMediaType", "discriminator", "propertyOrdering", "$schema", "$id",
    "$comment",
))  # fmt: skip
#: Values of an answer times those of its schema, at most; 100,000 take about a second.
HELD = 100_000
#: Letters of an answer times the values of its schema: each fault quotes what it is about.
QUOTED = 50_000_000
#: Schemas that are known to be ones.
REMEMBERED = 256


def endless(schemas: Any) -> str:
    """Say why holding a value against schemas could take too long for others; empty if it cannot.

    Parameters
    ----------
    schemas : mapping or list
        One schema, or several.
    """
    if (size := len(json.dumps(schemas))) > LARGEST:
        return f"of {size:,} letters {LARGEST:,} are taken"
    held = [schemas]
    while held:
        one = held.pop()
        if isinstance(one, list):
            held += one
        if not isinstance(one, dict):
            continue
        for keyword, inside in one.items():
            if keyword in INSIDE:
                held.append(inside)
            elif keyword in BY_NAME:
                held += inside.values() if isinstance(inside, dict) else ()
            elif keyword not in PLAIN and not keyword.startswith("x-"):
                return f"the keyword {checks.short(keyword, 40)!r} is not taken"
    return ""


def size_of(value: Any, most: int | None = None) -> int:
    """Return how many values a JSON value holds; beyond ``most`` it does not count on."""
    size, held = 0, [value]
    while held and (most is None or size <= most):
        one = held.pop()
        size += 1
        held += one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ()
    return size


def fits(text: str, schema: Mapping[str, Any], most: int = HELD) -> bool:
    """Say whether a text is JSON of a schema; what takes too long to say does not fit."""
    try:
        value = parse_foreign(text)
    except ValueError:
        return False
    size = size_of(schema)
    if size_of(value) * size > most or len(text) * size > QUOTED:
        return False
    return not misfit(value, schema)


def misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Say as :func:`casebook.llm.schema.misfit` why a value does not fit.

    Of the clients' schemas it remembers :data:`REMEMBERED`: each can be a new one.
    """
    if checks._schema_fault.cache_info().currsize >= REMEMBERED:
        checks._schema_fault.cache_clear()
    try:
        return checks.misfit(value, schema)
    except ArithmeticError:  # 10**400 is a multiple of 0.5, and no float
        return "it holds a number that cannot be reckoned with"
