"""Statements of one thing: which holds, and which contradicts."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.statements import Statement, contradictions, settled

NOON = np.datetime64("2026-03-02T12:00:00")


def moment(text):
    """Return a time."""
    return np.datetime64(text, "s")


def said(document, value, since, heard=False, sure=0.9):
    """Return a statement."""
    source = document.split(":")[0]
    told = value, document, 1, "title", source, value, 0, moment(since), heard, sure
    return Statement(*told)


@pytest.mark.parametrize(
    ("policy", "value"),
    [
        ("surest", "1 day"),
        ("newest version", "4 days"),
        ("newest text", "5 days"),
        ("majority", "2 days"),
        ("in force", "3 days"),
    ],
)
def test_policies_settle_differently(policy, value):
    some = [
        said("wiki:d1", "1 day", "2025-01-01"),
        said("wiki:d2", "2 days", "2025-02-01"),
        said("drive:d1", "2 days", "2025-03-01"),
        said("tickets:d1", "3 days", "2026-01-01"),
        said("wiki:d4", "4 days", "2025-04-01"),
        said("chat:d1", "5 days", "2026-05-01", heard=True),
    ]
    held = settled(some, policy, NOON, {"wiki:d4": moment("2026-06-01")})
    assert held.value == value
    assert settled([], policy, NOON) is None
    with pytest.raises(ValueError, match="surest"):
        settled(some, "oldest", NOON)


def test_in_force_waits_for_the_day_and_takes_hearsay_where_there_is_no_more():
    old, new = said("wiki:d1", "1 day", "2025-01-01"), said("chat:d1", "2 days", "2026-04-01")
    assert settled([old, new], "in force", NOON) is old
    assert settled([new], "in force", NOON) is new
    later = NOON + np.timedelta64(60 * 86_400, "s")
    assert settled([old, new], "in force", later) is new
    heard = said("chat:d2", "9 days", "2026-01-01", heard=True)
    assert settled([heard], "in force", NOON) is heard


def test_the_same_value_in_other_words_is_no_contradiction():
    held = said("wiki:d1", "7 days", "2026-01-01")
    others = [said("chat:d1", "seven days", "2025-01-01"), said("chat:d2", "7 weeks", "2025-01-02")]
    newer = said("chat:d3", "7 weeks", "2025-06-01")
    assert contradictions([held, *others, newer], held) == [newer]
