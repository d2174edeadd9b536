"""A cache of answers in which each tenant has a shelf of its own."""

from __future__ import annotations

from casebook.serving.answer_cache import Cache, key_of


def test_a_busy_tenant_throws_out_its_own_answers_and_each_one_ends_in_time():
    cache, now = Cache(most=2, clock=lambda: now[0]), [0.0]
    for at in range(9):
        cache.put("loud", str(at), at, 10)
    cache.put("quiet", "k", "v", 10)
    assert cache.get("loud", "8") == 8 and cache.get("loud", "6") is None
    now[0] = 10.0
    assert cache.get("quiet", "k") is None
    assert key_of("a", {"x": 1, "y": 2}) == key_of("a", {"y": 2, "x": 1}) != key_of("a", {"x": 1})
