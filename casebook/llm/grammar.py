"""A simple grammar for JSON: which tokens may follow, so that an answer cannot be malformed.

A schema becomes a sequence of steps: one of some texts, the inside of a string, a number. At each
step the model picks among the tokens that fit. Covered are objects (all their properties, in the
order of the schema), arrays of strings or of enumerated values, strings, numbers, booleans.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Keywords that the grammar keeps, or that change nothing in what it writes.
KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "maxItems", "enum",
    "maxLength", "description", "title",
}  # fmt: skip
#: Characters of a string, values of an array and digits of a number where no schema bounds them.
LONGEST, MOST, DIGITS = 120, 4, 9


@dataclass(frozen=True)
class Choice:
    """One of several texts: the model says which. None is the beginning of another."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """The inside of a JSON string and its closing mark; ``after`` are texts that may follow."""

    longest: int
    after: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """A JSON number, whole or not; ``after`` are texts that may follow."""

    whole: bool
    after: tuple[str, ...]


Step = Choice | Text | Number


# From a schema to steps ----------------------------------------------------------------


def steps(schema: Mapping[str, Any]) -> Generator[Step, str, None]:
    """Yield the steps of an object; each ``send`` tells what was written for the last one.

    Parameters
    ----------
    schema : mapping
        JSON schema of an object.

    Raises
    ------
    ValueError
        If the schema uses what the grammar does not cover.
    """
    _check(schema)
    written, properties = "{", list(schema.get("properties", {}).items())
    for number, (name, inner) in enumerate(properties, 1):
        head = f"{written}{json.dumps(name, ensure_ascii=False)}: "
        following = f", {json.dumps(properties[number][0])}: " if number < len(properties) else "}"
        yield from _value(inner, head, (following,))
        written = ", "
    yield Choice(("}" if properties else "{}",))


def _value(schema: Mapping[str, Any], head: str, after: tuple[str, ...]) -> Generator:
    """Yield the steps of a value behind a text that is given."""
    _check(schema)
    kind = schema.get("type")
    if kind in ("integer", "number") and "enum" not in schema:
        yield Choice((head,))
        yield Number(kind == "integer", after)
    elif kind == "array":
        yield from _array(schema, head)
    elif kind == "object":
        yield Choice((head,))
        yield from steps(schema)
    else:
        yield Choice(tuple(head + start for start in _starts(schema)))
        if kind == "string" and "enum" not in schema:
            yield Text(schema.get("maxLength", LONGEST), after)


def _array(schema: Mapping[str, Any], head: str) -> Generator[Step, str, None]:
    items, most = schema.get("items", {"type": "string"}), schema.get("maxItems", MOST)
    starts, following = _starts(items), ("]", *(f", {start}" for start in _starts(items)))
    written = yield Choice((f"{head}[]", *(f"{head}[{start}" for start in starts if most)))
    for number in range(1, most + 1):
        if written.endswith("]"):
            return
        after = following if number < most else ("]",)
        if "enum" not in items and items.get("type") == "string":
            yield Text(items.get("maxLength", LONGEST), after)
        written = yield Choice(after)


def _starts(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts with which a value begins: all of it but for a string."""
    _check(schema)
    if "enum" in schema:
        texts = tuple(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
        if any(a != b and b.startswith(a) for a in texts for b in texts):
            raise ValueError(f"The grammar cannot tell these values apart: {', '.join(texts)}.")
        return texts
    kinds = {"boolean": ("true", "false"), "null": ("null",), "string": ('"',)}
    if schema.get("type") not in kinds:
        raise ValueError(f"The grammar does not cover the type {schema.get('type')!r} there.")
    return kinds[schema["type"]]


def _check(schema: Mapping[str, Any]) -> None:
    if unknown := schema.keys() - KNOWN:
        raise ValueError(f"The grammar does not cover {', '.join(sorted(unknown))}: retry instead.")


# From steps to tokens ------------------------------------------------------------------


class Vocabulary:
    """The tokens of a model as bytes, arranged for the grammar.

    Parameters
    ----------
    tokens : sequence of bytes
        By their number; empty where a token is no text, such as one that ends an answer.

    Raises
    ------
    ValueError
        If a character that JSON needs is no token of its own.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = tuple(tokens)
        self._ids = {token: number for number, token in enumerate(tokens) if token}
        needed = {bytes([code]) for code in range(32, 127)}
        if missing := needed - self._ids.keys():
            raise ValueError(f"These are no tokens: {b''.join(sorted(missing)).decode()}")
        self._inside = {}
        for token, number in self._ids.items():
            try:
                text = token.decode()
            except UnicodeDecodeError:
                continue  # a part of a character
            if text.isprintable() and not {'"', "\\"} & set(text):
                self._inside[number] = len(text)

    def beginnings(self, texts: Iterable[bytes]) -> list[int]:
        """Return the tokens that one of the texts (in UTF-8) begins with."""
        found = {}
        for code in texts:
            for end in range(1, len(code) + 1):
                if (number := self._ids.get(code[:end])) is not None:
                    found[number] = None
        return list(found)

    def inside(self, longest: int) -> list[int]:
        """Return the tokens of at most so many characters that may stand in a JSON string."""
        return [number for number, length in self._inside.items() if length <= longest]


def follow(schema: Mapping[str, Any], vocabulary: Vocabulary) -> Generator[list[int], int, None]:
    """Yield the tokens that may come next; each ``send`` tells which one was taken.

    Parameters
    ----------
    schema : mapping
        JSON schema of an object.
    vocabulary : Vocabulary
        The model's.
    """
    sequence, begun = steps(schema), ""
    step = next(sequence)
    while True:
        if isinstance(step, Choice):
            written, begun = (yield from _one_of(step.texts, begun, vocabulary)), ""
        elif isinstance(step, Text):
            written, begun = yield from _string(step, vocabulary)
        else:
            written, begun = yield from _number(step, vocabulary)
        try:
            step = sequence.send(written)
        except StopIteration:
            return


def _one_of(texts: tuple[str, ...], begun: str, vocabulary: Vocabulary) -> Generator:
    written = begun.encode()  # a character may be spread over two tokens
    codes = [text.encode() for text in texts]
    while written not in codes:
        rests = [code[len(written) :] for code in codes if code.startswith(written)]
        allowed = vocabulary.beginnings(rests)
        if len(rests) == 1:  # nothing is left to say: the longest token goes on
            allowed = allowed[-1:]
        written += vocabulary.tokens[(yield allowed)]
    return written.decode()


def _string(step: Text, vocabulary: Vocabulary) -> Generator:
    ends, written = vocabulary.beginnings(f'"{text}'.encode() for text in step.after), ""
    while True:
        taken = yield vocabulary.inside(step.longest - len(written)) + ends
        if taken in ends:
            return written, vocabulary.tokens[taken].decode()[1:]
        written += vocabulary.tokens[taken].decode()


def _number(step: Number, vocabulary: Vocabulary) -> Generator:
    ends, written = vocabulary.beginnings(text.encode() for text in step.after), ""
    while True:
        digits = len(written.strip("-.")) - ("." in written.strip("-."))
        texts = list("0123456789") if digits < DIGITS and written not in ("0", "-0") else []
        texts += ["-"] if not written else []
        if written[-1:].isdigit() and not step.whole and "." not in written and digits < DIGITS:
            texts += ["."]
        allowed = vocabulary.beginnings(text.encode() for text in texts) + (
            ends if written[-1:].isdigit() else []
        )
        taken = yield allowed
        if taken in ends:
            return written, vocabulary.tokens[taken].decode()
        written += vocabulary.tokens[taken].decode()
