"""Tokens, keys and signatures: the same for the same, and no way back without the key."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from casebook.serving.tokens import Tokens, key_at, without_numbers

CARD = 4111111111111111


def test_a_token_is_the_cards_and_the_keys():
    one, other = Tokens(b"0123456789abcdef"), Tokens(b"0123456789abcdeg")
    assert one(CARD) == one(CARD) not in (CARD, one(CARD + 1), other(CARD))
    made = {one(card) for card in range(20_000)}
    assert len(made) == 20_000 and min(made) >= 0 and max(made) < 2**53
    assert one.signed(b"x", one.sign(b"x"))
    assert not one.signed(b"y", one.sign(b"x")) and not other.signed(b"x", one.sign(b"x"))
    with pytest.raises(ValueError, match="can be guessed"):
        Tokens(b"short")


def test_a_key_is_made_once_for_its_owner(tmp_path):
    path = tmp_path / "key"
    assert key_at(path) == key_at(path) != key_at(tmp_path / "other")
    assert oct(path.stat().st_mode & 0o777) == "0o600" and len(key_at(path)) == 32


def test_a_key_is_whole_or_not_there(tmp_path, monkeypatch):
    """A first start that dies while it writes leaves no empty key, and of two at once one wins."""

    def dies(handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", dies)
        with pytest.raises(KeyboardInterrupt):
            key_at(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(key_at, [tmp_path / "key"] * 8))
    assert len(keys) == 1 and [p.name for p in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("text", ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111"])
def test_what_may_be_a_cards_number_is_crossed_out(text):
    assert without_numbers(f"customer is {text}, not it") == "customer is [number], not it"


def test_times_and_short_numbers_stay():
    text = "at 2025-07-01T08:00:00.000Z request 17513711980 came"
    assert without_numbers(text) == text
