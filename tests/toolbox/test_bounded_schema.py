"""Schemas that a client sends take no time of others."""

from __future__ import annotations

import json
import time

import pytest

from casebook.cases.llm_gateway.jobs import check_schemas
from casebook.llm import schema as checks
from casebook.llm.bounded_schema import REMEMBERED, endless, fits, misfit, size_of
from casebook.serving.refusals import Refusal


@pytest.mark.parametrize(
    "schema",
    [{"pattern": "(a+)+$"}, {"properties": {"x": {"$ref": "#"}}}, {"items": {"uniqueItems": True}},
     {"unevaluatedProperties": False}, {"items": {"unevaluatedItems": False}},
     {"$defs": {"a": {"not": {"patternProperties": {}}}}}, {"anyOf": [{"additionalItems": {}}]},
     {"dependentSchemas": {"a": {"$dynamicRef": "#"}}}, {"if": {"some_new_keyword": 1}},
     {"allOf": [{"title": "x" * 20_000}]}, [{"title": "x" * 7_000}] * 3],
)  # fmt: skip
def test_what_could_take_for_ever_is_found(schema):
    assert endless(schema)


def test_what_only_looks_like_it_is_not():
    assert not endless({"properties": {"pattern": {"type": "string"}}, "enum": ["$ref"]})
    named = {key: {"type": "string"} for key in ("$ref", "uniqueItems", "unevaluatedItems")}
    assert not endless([{"properties": named, "default": {"$ref": 1}, "x-order": [1]}])


def test_levels_that_double_the_work_are_refused_before_they_begin():
    """Of 1.6 KB, forty levels would take longer than anybody waits."""
    schema = {"type": "object"}
    for _ in range(40):
        schema = {"type": "object", "unevaluatedProperties": False, "allOf": [schema]}
    began = time.perf_counter()
    with pytest.raises(Refusal, match="'unevaluatedProperties' is not taken"):
        check_schemas([schema])
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf", "not", "if", "contains"])
def test_what_is_taken_costs_no_more_by_being_nested(keyword):
    schema = {"type": "object"}
    for _ in range(60):
        inside = [schema, {}] if keyword.endswith("Of") else schema
        schema = {"type": "object", keyword: inside}
    began = time.perf_counter()
    check_schemas([schema])
    fits('{"a": {"b": [1, 2, {"c": 3}]}}', schema)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("text", ['{"x": 1' + "0" * 400 + "}", '{"x": 1e999}', '{"y": [-1e999]}'])
def test_a_number_that_cannot_be_reckoned_with_does_not_fit(text):
    schema = {"properties": {"x": {"multipleOf": 0.5}}}
    assert not fits(text, schema) and fits('{"x": 1.5, "y": 1e300}', schema)


def test_a_long_answer_is_not_quoted_for_each_part_of_a_schema():
    schema = {"anyOf": [{"type": "null"}] * 1_000}
    assert not fits(json.dumps("x" * 100_000), schema)
    assert not fits(json.dumps("x" * 30_000), {"allOf": [{"type": "string"}] * 1_000})
    assert fits(json.dumps("x" * 20_000), {"allOf": [{"type": "string"}] * 1_000})


def test_an_answer_is_not_held_against_more_than_a_second_takes():
    schema = {"allOf": [{"items": {"type": "integer"}}] * 300}
    began = time.perf_counter()
    assert not fits(json.dumps([1] * 200), schema)
    assert time.perf_counter() - began < 1
    assert fits(json.dumps([1] * 20), schema) and not fits('["a"]', schema)
    assert size_of([1, {"a": [2]}]) == 5 and size_of("x") == 1
    assert size_of([[1] * 10] * 10, most=5) == 6


def test_schemas_that_are_always_new_fill_no_memory():
    for number in range(2 * REMEMBERED):
        assert misfit({}, {"description": str(number)}) is None
    assert checks._schema_fault.cache_info().currsize <= REMEMBERED
    assert misfit("a", {"type": "integer"})
