"""An index while it is open: who may not write sees every update, and a lost change is missed."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from retrieval_crash import articles, words_of

from casebook.retrieval import opened
from casebook.retrieval.dense import Hashed
from casebook.retrieval.index import Index, IndexFault

LATER = "2026-06-01"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "index.db"


def test_a_file_that_may_not_be_written_is_read(path):
    with Index.build(path, articles("alpha")) as index:
        before = index.search("fee", 5, LATER)
    with Index.open(path, read_only=True) as index:
        assert index.search("fee", 5, LATER) == before
        for write in (lambda: index.update(articles("b")), lambda: index.delete(["a0"])):
            with pytest.raises(IndexFault, match="opened to be read only"):
                write()
        with pytest.raises(IndexFault, match="opened to be read only"):
            index.purge("2030-01-01")
    log = path.with_name(path.name + "-wal")
    log.write_bytes(b"x")
    with pytest.raises(IndexFault, match=r"last changes stand in .*-wal"):
        Index.open(path, read_only=True)


@pytest.mark.parametrize("writer_is_there", [True, False])
def test_who_may_not_write_sees_every_update(path, writer_is_there):
    writer = Index.build(path, articles("alpha"), Hashed(16))
    if not writer_is_there:
        writer.close()
    with Index.open(path, Hashed(16), read_only=True) as reader:
        assert words_of(reader) == {"alpha"}
        for word, version in (("bravo", 2), ("charlie", 3)):
            if not writer_is_there:
                writer = Index.open(path, Hashed(16))
            writer.update(articles(word, version=version))
            assert words_of(reader) == {word}
            if not writer_is_there:
                writer.close()
            assert words_of(reader) == {word} and version in set(reader.articles()["version"])
        if not writer_is_there:
            writer = Index.open(path, Hashed(16))
        writer.delete(["a0"])
        writer.close()
        assert "a0" not in set(reader.articles()["article_id"]) and reader.check() == []


def test_a_reader_that_never_looks_again_is_stale(path, monkeypatch):
    monkeypatch.setattr(opened.Opened, "_look_again", lambda self: None)
    with pytest.raises((AssertionError, IndexFault)):
        test_who_may_not_write_sees_every_update(path, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("folder_mode", [0o755, 0o777])
def test_another_user_without_the_right_to_write_sees_every_update(folder_mode):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(folder_mode)
        writer = Index.build(Path(folder) / "i.db", articles("alpha"), Hashed(16))
        words_of(writer)  # all is imported that the other user may not read
        for name in ("", "-wal", "-shm"):
            writer.beside(name).chmod(0o444)
        asked, told = os.pipe(), os.pipe()
        if not (child := os.fork()):
            as_another_user(writer.path, asked[0], told[1])
        seen = [os.read(told[0], 9).decode().strip()]
        for version, word in ((2, "bravo"), (3, "charlie")):
            writer.update(articles(word, version=version))
            if version == 3:
                writer.close()
            os.write(asked[1], b"1")
            seen.append(os.read(told[0], 9).decode().strip())
        os.waitpid(child, 0)
    assert seen == ["alpha", "bravo", "charlie"]


def as_another_user(path: Path, asked: int, told: int) -> None:
    """Say what an index answers, three times, as nobody; the process ends."""
    try:
        os.setuid(65534)
        with Index.open(path, Hashed(16)) as reader:
            for n in range(3):
                if n:
                    os.read(asked, 1)
                os.write(told, " ".join(sorted(words_of(reader))).ljust(9).encode())
    except BaseException as error:
        os.write(told, repr(error)[:9].ljust(9).encode())
    finally:
        os._exit(0)


def test_a_file_in_the_place_of_another_is_opened_anew(path, tmp_path):
    new = tmp_path / "new.db"
    with Index.build(path, articles("alpha"), Hashed(16)) as index:
        Index.build(new, articles("bravo"), Hashed(16)).close()
        path.unlink()
        with pytest.raises(IndexFault, match="is gone"):
            index.search("fee")
        new.rename(path)
        assert words_of(index) == {"bravo"}
        assert index.update(articles("charlie", version=2)).added == 6
        Index.build(new, articles("alpha"), Hashed(16)).close()
        whole = new.read_bytes()
        path.unlink()
        path.write_bytes(whole[: len(whole) // 2])
        for _ in range(2):  # refused for good, not once
            with pytest.raises(IndexFault, match=r"holds no index|damaged"):
                index.search("fee")


def test_a_change_whose_log_is_lost_is_missed(path, tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "WAIT", 0.05)
    with Index.build(path, articles("alpha")) as index:
        busy = sqlite3.connect(path, isolation_level=None)
        busy.execute("BEGIN")
        assert busy.execute("SELECT count(*) FROM articles").fetchone() == (6,)
        index.update(articles("bravo", version=2))  # the log cannot be folded while it is read
        left = {end: index.beside(end).read_bytes() for end in ("", "-wal", "-state")}
        busy.close()
    flipped = left["-wal"][:200] + bytes([left["-wal"][200] ^ 4]) + left["-wal"][201:]
    for n, (log, note) in enumerate([("whole", 1), (None, 1), (flipped, 1), (None, 0)]):
        copy = tmp_path / f"copy{n}.db"
        copy.write_bytes(left[""])
        if log:
            (tmp_path / f"copy{n}.db-wal").write_bytes(left["-wal"] if log == "whole" else log)
        if note:
            (tmp_path / f"copy{n}.db-state").write_bytes(left["-state"])
        if log == "whole" or not note:  # planted: without the note the old is taken for the last
            with Index.open(copy) as index:
                assert words_of(index) == ({"bravo"} if log else {"alpha"})
        else:
            with pytest.raises(IndexFault, match="older than its last change"):
                Index.open(copy)


@pytest.mark.parametrize("note", ["", "\0\xff", "a b", "a 1 1000000000000000000000", "a one two"])
def test_a_note_that_says_nothing_is_passed_over(path, note):
    Index.build(path, articles("alpha")).close()
    path.with_name(path.name + "-state").write_text(note, "utf8")
    with Index.open(path) as index:
        assert words_of(index) == {"alpha"}


def test_an_update_is_in_the_file_itself(path):
    with Index.build(path, articles("alpha")) as index:
        index.update(articles("bravo", version=2))
        assert index.beside("-wal").stat().st_size == 0 and b"bravo" in path.read_bytes()


def test_a_full_disk_behind_the_commit_takes_nothing_back(path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(opened, "write_whole", full)
    with Index.build(path, articles("alpha")) as index:
        assert index.update(articles("bravo", version=2)).added == 6
        assert words_of(index) == {"bravo"} and not index.beside("-state").exists()
    with Index.open(path) as index:
        assert words_of(index) == {"bravo"}
