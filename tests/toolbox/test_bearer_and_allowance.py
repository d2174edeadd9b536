"""Tokens that are forged, old or respelled; budgets under requests at the same time."""

from __future__ import annotations

import threading

import pytest

from casebook.serving.allowance import Allowance
from casebook.serving.bearer import LONGEST, SKEW, Bearer, Refused, Ring


def bearer(now=1_000.0, key=b"k" * 32):
    """Return tokens under one key."""
    return Bearer(Ring("k1", key), clock=lambda: now, seconds=60)


def test_every_change_of_a_character_is_noticed():
    made = bearer()
    token = made.issue("user:17")
    assert made.user(f"bearer {token}") == "user:17"
    for n in range(len(token)):
        other = "B" if token[n] == "A" else "A"
        with pytest.raises(Refused):
            made.user(f"Bearer {token[:n]}{other}{token[n + 1 :]}")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer  x", "Bearer é.é", "Bearer =.=", f"Bearer {'a' * LONGEST}.b"],
)
def test_what_is_no_token_is_refused(header):
    with pytest.raises(Refused):
        bearer().user(header)


def test_time_and_keys_limit_a_token():
    token = bearer(now=1_000).issue("user:17")
    assert bearer(now=1_059).user(f"Bearer {token}") == "user:17"
    assert bearer(now=1_000 - SKEW).user(f"Bearer {token}") == "user:17"
    for late, why in ((1_060, "expired"), (999 - SKEW, "in the future")):
        with pytest.raises(Refused, match=why):
            bearer(now=late).user(f"Bearer {token}")
    with pytest.raises(Refused, match="not signed"):
        bearer(key=b"j" * 32).user(f"Bearer {token}")


def test_keys_and_users_that_are_none_are_refused():
    ring = Ring("k1", b"k" * 32)
    for name, key in (("k1", b"j" * 32), ("K 2", b"j" * 32), ("k2", b"short")):
        with pytest.raises(ValueError, match=r"give|taken"):
            ring.rotate(name, key)
    with pytest.raises(ValueError, match="rotate"):
        ring.drop("k1")
    assert "kkk" not in repr(ring)
    for user in ("group:legal", "user:", "user:A", "user:17\n"):
        with pytest.raises(ValueError, match="is no"):
            bearer().issue(user)
    with pytest.raises(ValueError, match="above 0"):
        Bearer(ring, seconds=0)


def test_requests_at_the_same_time_do_not_pass_a_budget_together(tmp_path):
    budget, got = Allowance(str(tmp_path / "b.sqlite"), tokens=100), []
    work = [
        threading.Thread(target=lambda: got.append(budget.reserve("u", 30, 0))) for _ in range(12)
    ]
    [one.start() for one in work], [one.join() for one in work]
    assert sum(got) == 3 and budget.left("u", 0) == 10
    again = Allowance(str(tmp_path / "b.sqlite"), tokens=100)
    assert again.left("u", 0) == 10 and again.left("u", 86_400) == 100


def test_what_is_used_beyond_a_reservation_counts():
    budget = Allowance(":memory:", tokens=100)
    assert budget.reserve("u", 10, 0) and not budget.reserve("u", 101, 0)
    budget.settle("u", 10, 95, 0)
    assert budget.left("u", 0) == 5
    budget.settle("u", 500, 0, 0)
    assert budget.left("u", 0) == 100
    with pytest.raises(ValueError, match="1 or more"):
        Allowance(":memory:", tokens=0)
