"""A log outlives its file, calls are waited for or take turns, a drill keeps failed requests."""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest

from casebook.serving.behind import Behind
from casebook.serving.eventlog import EventLog
from casebook.serving.replies import Replies, ask, phases, told_stages
from casebook.serving.turns import Turns
from casebook.serving.watched import Watched
from casebook.serving.within import within


def _unlink(path):
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _replace(path):
    EventLog(path.with_name("other.db")).close()
    _unlink(path)
    path.with_name("other.db").rename(path)


def _spoil(path):
    path.write_bytes(b"x" * len(path.read_bytes()))


def bodies(log) -> list[str]:
    return [event.body for event in log.read()]


@pytest.mark.parametrize(
    ("fault", "says"),
    [(_unlink, "written anew"), (_replace, "written anew"), (_spoil, "is kept as log.db.broken")],
)
def test_what_comes_after_a_fault_of_the_file_is_in_a_file_and_the_fault_is_told(
    tmp_path, fault, says
):
    path = tmp_path / "log.db"
    for how in ("while it is open", "at a start")[fault is _spoil :]:
        _unlink(path)
        log = Watched(path)
        log.append([("a", "1")])
        if how == "at a start":
            log.close()
        fault(path)
        log = Watched(path) if how == "at a start" else log
        behind = Behind(log)
        behind.put("a", "2")
        assert behind.flush() and (behind.lost, behind.trouble) == (0, "")
        behind.close()
        told = [one for one in log.faults if says in one]
        assert len(told) == (fault is _spoil or how != "at a start"), log.faults
        log.close()
        again = EventLog(path)
        assert bodies(again) == ["2"]
        again.close()


def test_a_plain_log_loses_what_comes_after_a_fault(tmp_path):
    """The planted fault: it writes on into a file that is deleted, and says nothing."""
    log, path = EventLog(tmp_path / "log.db"), tmp_path / "log.db"
    _unlink(path)
    log.append([("a", "2")])
    assert bodies(log) == ["2"] and not path.exists()
    log.close()
    with pytest.raises(ValueError, match="characters"):
        Watched(path).append([("a", "x" * 100_001)])


def test_a_call_is_waited_for_so_long_and_its_error_is_raised():
    over = threading.Event()
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        within(0.05, over.wait)
    over.set()
    for error, raised in ((KeyError("a"), KeyError), (SystemExit(3), RuntimeError)):
        with pytest.raises(raised):
            within(5.0, _raise, error)


def _raise(error):
    raise error


def test_failed_requests_are_counted_and_spoil_no_table():
    """Before, the drill that was to count them ended with a JSONDecodeError or a KeyError."""
    good = json.dumps({"source": "model", "ms": {"a": 1.0}, "model": 1})
    status, texts = np.full(300, 200), [good] * 300
    status[200:202], texts[200:202] = (0, 500), ("ConnectError()", '{"error": "x"}')
    got = Replies(np.where(status == 200, 1.0, 9_000.0), status, texts, 1.0)
    table = told_stages(got)
    assert got.failed == 2 and len(got.answers(50)) == 248
    assert table.loc["whole", "p99"] == 1.0 and table.loc["client", "mean"] > 70
    for spans, failed in (([], [2, 0, 0]), ([(150.0, 250.0)], [0, 2, 0])):
        assert phases(got, 1.0, spans, {"of": "model"})["failed"].tolist() == failed
    with pytest.raises(ValueError, match="none of 60 requests"):
        told_stages(Replies(np.ones(60), np.zeros(60, int), ["no"] * 60, 1.0))


def test_what_a_drill_raises_on_its_way_is_raised_and_leaves_no_fast_requests():
    with pytest.raises(RuntimeError, match="planted"):
        ask("http://127.0.0.1:9", [{}] * 200, 1_000, 2, lambda i: _raise(RuntimeError("planted")))


def most_at_once(turn, n=8, hangs=0):
    """Let n calls begin together, of which the first ones hang; return the most that worked."""
    working, most, over = [], [], threading.Event()

    def call(i):
        with turn:
            if i < hangs:
                over.wait(20)
                return
            working.append(i)
            most.append(len(working))
            time.sleep(0.01)
            working.remove(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(n)]
    for i, thread in enumerate(threads):
        thread.start()
        if i < hangs:
            time.sleep(0.05)
    for thread in threads[hangs:]:
        thread.join()
    over.set()
    for thread in threads:
        thread.join()
    return max(most), len(most)


def test_calls_take_turns_and_one_that_hangs_ends_no_other_ones_turn():
    assert most_at_once(Turns(10.0)) == (1, 8)
    assert most_at_once(nullcontext())[0] > 1  # planted: all at once
    assert most_at_once(Turns(0.3), n=6, hangs=1)[1] == 5
    with pytest.raises(ValueError, match="above 0"):
        Turns(0.0)
    turns = Turns(20.0)
    with pytest.raises(ZeroDivisionError), turns:
        _ = 1 / 0
    with turns:  # an error has given the turn back: else this waits for 20 seconds
        assert not turns._lock.acquire(blocking=False)
