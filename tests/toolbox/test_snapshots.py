"""Snapshots: what is read back is what was written, by this key, and fits the audit."""

from __future__ import annotations

from collections import namedtuple

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
    saved(tmp_path / "state", {"seen": 7}, Audit("a", "b"), TOKENS)
    return tmp_path / "state"


def test_a_snapshot_is_read_back_where_it_fits(file):
    assert restored(file, Audit("a", "b", "c"), TOKENS) == ({"seen": 7}, 2)
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert (
        restored(None, Audit(), TOKENS) is None
        and restored(file.parent / "no", Audit(), TOKENS) is None
    )


def test_one_that_does_not_fit_or_was_written_by_another_is_left(file):
    assert restored(file, Audit("a", "x"), TOKENS) is None
    assert restored(file, Audit("a"), TOKENS) is None
    assert restored(file, Audit("a", "b"), OTHER) is None
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)
    assert restored(file, Audit("a", "b"), TOKENS) is None
