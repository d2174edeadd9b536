"""Strict JSON, and whether a value fits a JSON schema (draft 2020-12)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn

#: Characters of a foreign text that a message quotes.
QUOTED = 200


def short(text: str, most: int = QUOTED) -> str:
    """Return a text on one line, cut to ``most`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {short(twice, 40)!r} stands twice in one object")
    return found


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text as RFC 8259 has it.

    Unlike ``json.loads`` it takes neither NaN nor a name that stands twice in an object (two
    readers could see two values), and it reports too deep a nesting as a bad text.

    Raises
    ------
    ValueError
        With the reason, if the text is not such JSON or not UTF-8.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@cache
def _validators() -> tuple[Any, Any]:
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
    """Raise if a schema is none.

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
    validator, _ = _validators()
    from jsonschema import SchemaError

    try:
        validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(
            f"The schema of {what} is none: {error.json_path}: {short(error.message)}."
        ) from None


def misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return where and why a value does not fit a schema, or None if it does."""
    validator, registry = _validators()
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(validator(schema, registry=registry).iter_errors(value))
    except RecursionError:
        return "it is nested too deeply"
    except Unresolvable as unresolvable:
        raise ValueError(
            f"A schema refers to {short(str(unresolvable.ref))!r}, which it does not define. "
            "Put the definition under its $defs."
        ) from None
    return None if error is None else f"{error.json_path}: {short(error.message)}"
