"""The grammar: whatever the model prefers, what comes out is JSON that fits its schema."""

from __future__ import annotations

import json
import random

import pytest

from casebook.llm.grammar import DIGITS, Vocabulary, follow, steps
from casebook.llm.schema import misfit
from casebook.strict_json import parse

#: Characters, and a few longer tokens as a tokenizer learns them; the last three are parts of one.
TOKENS = [bytes([code]) for code in range(32, 127)] + [
    b'{"', b'": "', b'", "', b'",', b'"}', b'"]', b", ", b"true", b"12", b"refund", b" order",
    "ü".encode(), b'x"', b"a\\", b"\n", "🎉".encode(), b"", b"\xc3", b"\xbc", b"\xb9",
]  # fmt: skip
VOCABULARY = Vocabulary(TOKENS)


def object_of(**properties) -> dict:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


SCHEMAS = {
    "strings": object_of(text={"type": "string"}, other={"type": "string", "maxLength": 5}),
    "choices": object_of(
        intent={"enum": ["refund", "return", "où", None]}, sure={"type": "boolean"}
    ),
    "numbers": object_of(n={"type": "integer"}, x={"type": "number"}, last={"type": "number"}),
    "arrays": object_of(
        words={"type": "array", "items": {"type": "string"}, "maxItems": 3},
        kinds={"type": "array", "items": {"enum": ["a", "ü"]}, "maxItems": 2},
        none={"type": "array", "items": {"type": "string"}, "maxItems": 0},
    ),
    "nested": object_of(a=object_of(b=object_of(), c={"type": "integer"}), d={"type": "null"}),
    "empty": object_of(),
}


def write(schema: dict, pick, most: int = 2000) -> str:
    """Return what a model writes that picks among the tokens allowed."""
    written, tokens = b"", follow(schema, VOCABULARY)
    allowed = next(tokens)
    for _ in range(most):
        assert allowed, f"no way on after {written!r}"
        token = pick(allowed)
        written += TOKENS[token]
        try:
            allowed = tokens.send(token)
        except StopIteration:
            return written.decode()
    pytest.fail(f"no end after {most} tokens: {written!r}")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_way_through_the_grammar_is_json_that_fits(name):
    for seed in range(60):
        text = write(SCHEMAS[name], random.Random(seed).choice)
        assert misfit(parse(text), SCHEMAS[name]) is None, text


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_longest_way_ends(name):
    """A model that never wants to close anything is stopped by the bounds."""
    parse(write(SCHEMAS[name], lambda allowed: allowed[0]))


def test_without_the_grammar_the_same_choices_are_no_json():
    """The check above can fail: random tokens almost never are JSON."""
    texts = []
    for seed in range(60):
        chance = random.Random(seed)
        texts.append(b"".join(chance.choice(TOKENS) for _ in range(20)).decode("utf-8", "replace"))
    with pytest.raises(ValueError):
        parse(texts[0])
    assert not any(text.startswith("{") and text.endswith("}") for text in texts)


def test_a_model_that_wants_an_escape_or_a_line_break_cannot_have_it():
    inside = {TOKENS[number] for number in VOCABULARY.inside(50)}
    assert not inside & {b'x"', b"a\\", b"\n", b'"', b"\xc3"}
    assert {"ü".encode(), b"refund", b" order"} <= inside


def test_a_token_may_close_a_string_and_begin_what_follows():
    wanted = iter(['{"', "t", "e", "x", "t", '": "', "refund", '", "', "o"])

    def pick(allowed):
        token = TOKENS.index(next(wanted, "").encode() or b"x")
        return token if token in allowed else allowed[-1]

    assert write(SCHEMAS["strings"], pick).startswith('{"text": "refund", "other": "')


def test_numbers_have_no_leading_zero_and_an_end():
    schema = object_of(n={"type": "integer"})
    zero = TOKENS.index(b"0")
    text = write(schema, lambda allowed: zero if zero in allowed else allowed[-1])
    assert json.loads(text) == {"n": 0}
    nine = TOKENS.index(b"9")
    text = write(schema, lambda allowed: nine if nine in allowed else allowed[-1])
    assert json.loads(text) == {"n": int("9" * DIGITS)}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (object_of(a={"type": "string", "pattern": "x"}), "does not cover pattern"),
        (object_of(a={"anyOf": []}), "does not cover anyOf"),
        (object_of(a={"type": "array", "items": object_of()}), "type 'object' there"),
        (object_of(a={"enum": [1, 12]}), "cannot tell these values apart"),
        (object_of(a={}), "does not cover the type None"),
    ],
)
def test_what_the_grammar_does_not_cover_is_said(schema, reason):
    with pytest.raises(ValueError, match=reason):
        write(schema, lambda allowed: allowed[0])


def test_a_vocabulary_without_a_character_is_refused():
    with pytest.raises(ValueError, match=r'These are no tokens: "\{'):
        Vocabulary([token for token in TOKENS if token not in (b'"', b"{")])


def test_the_steps_of_an_object_are_in_the_order_of_its_schema():
    sequence = steps(object_of(b={"type": "boolean"}, a={"type": "null"}))
    assert next(sequence).texts == ('{"b": true', '{"b": false')
    assert sequence.send('{"b": true').texts == (', "a": null',)
    assert sequence.send(', "a": null').texts == ("}",)
