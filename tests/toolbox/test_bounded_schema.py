"""Schemas that a client sends take no time of others."""

from __future__ import annotations

import json
import time

import pytest

from casebook.llm import schema as checks
from casebook.llm.bounded_schema import REMEMBERED, endless, fits, misfit, size_of


@pytest.mark.parametrize(
    "schema",
    [{"pattern": "(a+)+$"}, {"properties": {"x": {"$ref": "#"}}}, {"items": {"uniqueItems": True}},
     {"allOf": [{"title": "x" * 20_000}]}, [{"title": "x" * 7_000}] * 3],
)  # fmt: skip
def test_what_could_take_for_ever_is_found(schema):
    assert endless(schema)


def test_what_only_looks_like_it_is_not():
    assert not endless({"properties": {"pattern": {"type": "string"}}, "enum": ["$ref"]})


def test_an_answer_is_not_held_against_more_than_a_second_takes():
    schema = {"allOf": [{"items": {"type": "integer"}}] * 300}
    began = time.perf_counter()
    assert not fits(json.dumps([1] * 200), schema)
    assert time.perf_counter() - began < 1
    assert fits(json.dumps([1] * 20), schema) and not fits('["a"]', schema)
    assert size_of([1, {"a": [2]}]) == 5 and size_of("x") == 1


def test_schemas_that_are_always_new_fill_no_memory():
    for number in range(2 * REMEMBERED):
        assert misfit({}, {"description": str(number)}) is None
    assert checks._schema_fault.cache_info().currsize <= REMEMBERED
    assert misfit("a", {"type": "integer"})
