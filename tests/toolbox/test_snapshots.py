"""Snapshots: what is read back is what was written, by this key, and fits the audit."""

from __future__ import annotations

import sys
from collections import namedtuple
from types import ModuleType

import pytest

from casebook.serving.snapshots import restored, saved
from casebook.serving.tokens import Tokens

TOKENS, OTHER = Tokens(b"the key of the tests"), Tokens(b"another key of tests")
Row = namedtuple("Row", "count hash")


class Audit:
    def __init__(self, *hashes: str) -> None:
        self.hashes = hashes

    def anchor(self) -> Row:
        return Row(len(self.hashes), self.hashes[-1] if self.hashes else "")

    def holds(self, sequence: int, digest: str) -> bool:
        return self.hashes[sequence - 1 : sequence] == (digest,)


@pytest.fixture
def file(tmp_path):
    saved(tmp_path / "state", {"seen": 7}, Audit("a", "b"), TOKENS, "1")
    return tmp_path / "state"


def test_a_snapshot_is_read_back_where_it_fits(file):
    assert restored(file, Audit("a", "b", "c"), TOKENS, "1") == ({"seen": 7}, 2)
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert (
        restored(None, Audit(), TOKENS, "1") is None
        and restored(file.parent / "no", Audit(), TOKENS, "1") is None
    )


def test_one_that_does_not_fit_or_was_written_by_another_is_left(file):
    assert restored(file, Audit("a", "x"), TOKENS, "1") is None
    assert restored(file, Audit("a"), TOKENS, "1") is None
    assert restored(file, Audit("a", "b"), OTHER, "1") is None
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)
    assert restored(file, Audit("a", "b"), TOKENS, "1") is None


def test_one_of_another_layout_or_that_this_code_cannot_read_is_left(file, monkeypatch):
    assert restored(file, Audit("a", "b"), TOKENS, "2") is None
    gone = ModuleType("gone")
    gone.Store = type("Store", (), {"__module__": "gone"})
    monkeypatch.setitem(sys.modules, "gone", gone)
    saved(file, gone.Store(), Audit("a", "b"), TOKENS, "1")
    assert restored(file, Audit("a", "b"), TOKENS, "1")
    monkeypatch.delitem(sys.modules, "gone")  # planted: the class was moved by a release
    assert restored(file, Audit("a", "b"), TOKENS, "1") is None
    file.unlink()
    file.mkdir()
    assert restored(file, Audit("a", "b"), TOKENS, "1") is None
