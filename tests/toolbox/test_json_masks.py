"""Personal data in JSON values."""

from __future__ import annotations

import pytest

from casebook.serving.json_masks import masked_leaves


def test_texts_numbers_and_names_are_masked_and_what_is_none_stays():
    value = {"eve@example.com": [4111111111111111, "call 020 7946 0123", True, None, 2.5]}
    made, findings = masked_leaves(value)
    assert made == {"[email]": ["[card]", "call [phone]", True, None, 2.5]}
    assert [one.kind for one in findings] == ["email", "card", "phone"]


def test_names_that_look_alike_stay_apart():
    made, _ = masked_leaves({f"{name}@example.com": name for name in "abc"})
    assert [*made.values()] == ["a", "b", "c"]


def test_a_value_that_nests_too_deeply_is_refused():
    deep = "x"
    for _ in range(101):
        deep = [deep]
    with pytest.raises(ValueError, match="flatter"):
        masked_leaves(deep)
    assert masked_leaves(deep[0])[0] == deep[0]
