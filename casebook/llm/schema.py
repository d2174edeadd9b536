"""Whether a value fits a JSON schema (draft 2020-12)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

#: Characters of a foreign text that a message quotes.
QUOTED = 200


def short(text: str, most: int = QUOTED) -> str:
    """Return a text on one line, cut to ``most`` characters."""
    line = " ".join(text[: 10 * most].split())  # of millions of words, each would be a copy
    return line if len(line) <= most else line[: most - 1] + "…"


#: The types of JSON schema.
_TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}


@cache
def _validators() -> tuple[Any, Any]:
    """Load the validator, where a value is checked first."""
    try:
        from jsonschema import Draft202012Validator
        from referencing import Registry
    except ImportError as error:
        raise ImportError(
            "Schemas are checked with jsonschema, which is not installed: "
            'pip install "casebook[llm]".'
        ) from error
    # An empty registry: a reference to another document is an error, never a download.
    return Draft202012Validator, Registry()


def check_schema(schema: Mapping[str, Any], what: str) -> None:
    """Raise if a schema is none, as far as that shows without the validator.

    The names of types are checked; all else when a value is first held against the schema.

    Parameters
    ----------
    schema : mapping
        JSON schema of an object (``"type": "object"``).
    what : str
        Whose schema it is, for the message.

    Raises
    ------
    ValueError
        With the path of the fault.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise ValueError(f"The schema of {what} must be a mapping with 'type': 'object'.")
    if fault := _fault(schema, "$"):
        raise ValueError(f"The schema of {what} is none: {fault}.")


def _fault(schema: Any, path: str) -> str:
    """Return the first wrong type of a schema and of those inside, or nothing."""
    if isinstance(schema, bool):
        return ""
    if not isinstance(schema, Mapping):
        return f"{path}: {short(repr(schema), 40)} is no schema"
    kinds = schema.get("type", [])
    for kind in (
        [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else [kinds]
    ):
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"{path}.type: {short(repr(kind), 40)} is no type"
    inside = {f"{path}.items": schema["items"]} if "items" in schema else {}
    for group in ("properties", "$defs"):
        if not isinstance(schema.get(group, {}), Mapping):
            return f"{path}.{group}: it is no mapping"
        inside |= {f"{path}.{group}.{name}": one for name, one in schema.get(group, {}).items()}
    return next(filter(None, (_fault(one, where) for where, one in inside.items())), "")


@cache
def _schema_fault(schema: str) -> str:
    """Return what is wrong with a schema (as JSON), or nothing."""
    from jsonschema import SchemaError

    try:
        _validators()[0].check_schema(json.loads(schema))
    except SchemaError as error:
        return f"{error.json_path}: {short(error.message)}"
    return ""


def misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return where and why a value does not fit a schema, or None if it does.

    Raises
    ------
    ValueError
        If the schema is none, or refers to what it does not define.
    """
    validator, registry = _validators()
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        if fault := _schema_fault(json.dumps(schema)):
            raise ValueError(f"The schema is none: {fault}.")
        error = best_match(validator(schema, registry=registry).iter_errors(value))
    except RecursionError:
        return "it is nested too deeply"
    except Unresolvable as unresolvable:
        raise ValueError(
            f"A schema refers to {short(str(unresolvable.ref))!r}, which it does not define. "
            "Put the definition under its $defs."
        ) from None
    return None if error is None else f"{error.json_path}: {short(error.message)}"
