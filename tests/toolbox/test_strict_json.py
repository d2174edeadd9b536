"""One JSON text has one meaning: what two readers could read differently is refused."""

from __future__ import annotations

import json
import re

import pytest

from casebook.cases.card_fraud import schema
from casebook.llm import wire
from casebook.serving import app, strict
from casebook.strict_json import parse

TWICE = b'{"cents": 1, "to": {"iban": "A", "iban": "B"}}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TWICE, "the field 'iban' stands twice in one object"),
        ('{"' + "x" * 900 + '": 1, "' + "x" * 900 + '": 1}', "xxx…' stands twice"),
        ('{"\ud800": 1, "\ud800": 1}', "'\\ud800' stands twice"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        (b"\xff\xfe{\x00}\x00", "byte 0 is not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        ("1" * 5000, "limit"),
    ],
)
def test_what_has_no_one_meaning_is_refused(text, says):
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        parse(text)
    assert len(str(refused.value)) < 200


def test_the_same_name_in_two_objects_is_no_fault():
    text = '[{"a": {"a": 1}}, {"a": 2}]'
    assert parse(text) == parse(text.encode()) == parse(b"\xef\xbb\xbf" + text.encode())


@pytest.mark.parametrize(
    "reader",
    [
        app.json_object,
        lambda raw: app.json_list(b"[" + raw + b"]", "entries", 1000, 3),
        lambda raw: strict.parse(raw, schema.Payment),
        lambda raw: wire.load(raw, "The reply"),
    ],
)
def test_every_reader_refuses_a_field_that_stands_twice(reader):
    with pytest.raises(Exception, match="'iban' stands twice"):
        reader(TWICE)


def test_a_reader_that_takes_the_last_one_is_found():
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_every_reader_refuses_a_field_that_stands_twice(json.loads)
