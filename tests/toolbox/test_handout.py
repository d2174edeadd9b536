"""The queue under greedy agents, wrong lists and broken requests; a night beside it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from casebook.serving.app import Problem
from casebook.serving.handout import ANGRY, LIFE, REST, List, Queue, app_of

NIGHT = 140
TERMS = SimpleNamespace(calls_a_day=10, daily=50)


def a_list(night: int = NIGHT, rows: int = 60) -> List:
    words = tuple((f"Reason {k}.",) for k in range(rows))
    return List(night, "model", tuple(range(100, 100 + rows)), (1.0,) * rows, words, "", night, 99)


class Clock:
    """Seconds since 1970 that a test moves."""

    day = 20_000

    def __call__(self) -> float:
        return 86_400.0 * self.day


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path, clock):
    queue = Queue(tmp_path / "calls.db", TERMS, clock)
    queue.publish(a_list())
    yield queue
    queue.close()


def test_agents_get_different_subscribers_in_the_order_of_the_list(queue):
    first, second = queue.next("ann"), queue.next("bob")
    assert (first["subscriber"], second["subscriber"]) == (100, 101)
    assert first["reasons"] == ["Reason 0."] and first["list"] == "model"
    assert queue.next("ann") == first
    queue.done(first["call"], "reached")
    assert queue.next("ann")["subscriber"] == 102


def test_many_agents_at_once_never_share_a_subscriber_and_stop_at_the_limits(queue):
    def day(agent: str) -> list[int]:
        rows = []
        while True:
            try:
                given = queue.next(agent)
            except Problem as problem:
                assert problem.status == 409
                return rows
            rows.append(given["subscriber"])
            queue.done(given["call"], "nobody there")

    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(day, [f"agent {k}" for k in range(8)])]
    every = [row for rows in found for row in rows]
    assert len(every) == len(set(every)) == 50
    assert max(map(len, found)) <= 10
    assert queue.log.verify()


def test_nobody_is_called_twice_in_a_month_whatever_the_lists_say(queue, clock):
    first = queue.next("ann")
    queue.done(first["call"], "reached")
    for days, subscriber in ((1, 101), (REST - 1, 102), (REST, 100)):
        clock.day = 20_000 + days
        queue.publish(a_list(NIGHT + days), after_gap=True)
        given = queue.next("ann")
        assert given["subscriber"] == subscriber
        queue.done(given["call"], "reached")
    with pytest.raises(ValueError, match="too late"):
        queue.publish(a_list(NIGHT))


def test_without_a_new_list_the_next_day_goes_on_with_the_old_one(tmp_path, clock):
    """The calls of a day are counted by the day, and a list does not live for ever."""
    with_two = Queue(tmp_path / "two.db", SimpleNamespace(calls_a_day=2, daily=2), clock)
    with_two.publish(a_list())
    for day in range(LIFE + 1):
        clock.day = 20_000 + day
        for k in range(2):
            given = with_two.next("ann")
            assert given["subscriber"] == 100 + 2 * day + k
            with_two.done(given["call"], "nobody there")
        with pytest.raises(Problem) as told:
            with_two.next("ann")
        assert told.value.error == "enough"
    clock.day += 1
    with pytest.raises(Problem) as told:
        with_two.next("ann")
    assert (told.value.status, told.value.error) == (409, "old list")
    with_two.close()


def test_a_call_without_a_result_outlives_the_list(queue):
    given = queue.next("ann")
    queue.publish(a_list(NIGHT + 1, rows=1))
    assert queue.next("ann") == queue.next(" ann ") == given


def test_a_night_is_told_whom_to_spare(queue, clock):
    called, angry = queue.next("ann"), queue.next("bob")
    queue.done(called["call"], "reached")
    queue.done(angry["call"], "complained")
    queue.publish(replace(a_list(NIGHT + 1), held=(7,)))
    day = clock.day
    assert queue.spared(NIGHT + REST, day + REST - 1) == {7, 100, 101}
    assert queue.spared(NIGHT + REST + 1, day + REST) == {101}
    assert queue.spared(NIGHT + ANGRY, day + ANGRY - 1) == {101}
    assert queue.spared(NIGHT + ANGRY, day + ANGRY) == set()


def test_a_list_waits_beside_the_service_until_it_is_taken_in(queue, clock):
    night = Queue(queue.log.path, TERMS, clock, beside=True)
    night.publish(a_list(NIGHT + 1, rows=3))
    assert night.lists() == queue.lists() == [a_list()]
    waiting = queue.log.path.parent / "calls.db.next.json"
    assert waiting.exists()
    assert queue.current() == a_list(NIGHT + 1, rows=3) == night.lists()[-1]
    with pytest.raises(ValueError, match="too late"):
        night.publish(a_list(NIGHT + 1))
    # The service ended after it took the file and before the list was in the log, or after that.
    for k in (2, 3):
        night.publish(a_list(NIGHT + k))
        os.replace(waiting, waiting.with_suffix(".taken"))
        assert queue.current().night == NIGHT + k
    (waiting.with_suffix(".taken")).write_text('{"after_gap": false, "list": {}}')
    assert queue.current().night == NIGHT + 3
    assert "KeyError" in TestClient(app_of(queue)).get("/health").json()["refused"]
    night.close()


def test_a_list_that_would_harm_the_queue_is_not_published(queue):
    twice = a_list(NIGHT + 1)
    twice = replace(twice, rows=(*twice.rows[:-1], twice.rows[0]))
    with pytest.raises(ValueError, match="stands on the list twice"):
        queue.publish(twice)
    for wrong in ({"reasons": ()}, {"gains": (float("nan"),) * 60}, {"night": True}):
        with pytest.raises(ValueError, match=r"make it again|whole number"):
            queue.publish(replace(a_list(NIGHT + 1), **wrong))
    with pytest.raises(ValueError, match="set the clock right"):
        queue.publish(a_list(NIGHT + 8))
    queue.publish(a_list(NIGHT + 1))
    queue.publish(a_list(NIGHT + 366), after_gap=True)
    assert queue.current().night == NIGHT + 366 and len(queue.lists()) == 3


def test_an_empty_list_tells_the_agents_to_wait(queue):
    queue.publish(replace(a_list(NIGHT + 1), rows=(), gains=(), reasons=()))
    with pytest.raises(Problem) as told:
        queue.next("ann")
    assert (told.value.status, told.value.error) == (409, "empty")


def test_a_restart_remembers(tmp_path):
    queue = Queue(tmp_path / "calls.db", TERMS)
    queue.publish(a_list())
    given = queue.next("ann")
    queue.close()
    queue = Queue(tmp_path / "calls.db", TERMS)
    assert queue.next("ann") == given and queue.next("bob")["subscriber"] == 101
    queue.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/next", b"{}", 422),
        ("/next", b'{"agent": ""}', 422),
        ("/next", b'{"agent": 7}', 422),
        ("/next", b'{"agent": "  "}', 422),
        ("/next", b'{"agent": "\\ud800"}', 422),
        ("/next", b"nonsense", 400),
        ("/next", b"[" * 1_500, 400),
        ("/next", b"[]", 422),
        ("/next", b'{"agent": "' + b"a" * 3_000 + b'"}', 413),
        ("/results", b'{"call": 99, "result": "reached"}', 404),
        ("/results", b'{"call": 100000000000000000000, "result": "reached"}', 404),
        ("/results", b'{"call": true, "result": "reached"}', 404),
        ("/results", b'{"call": 1, "result": "married"}', 422),
        ("/results", b'{"call": 1, "result": ["reached"]}', 422),
        ("/elsewhere", b"{}", 404),
    ],
)
def test_a_broken_request_is_told_what_to_do(queue, path, body, status):
    client = TestClient(app_of(queue), raise_server_exceptions=False)
    answer = client.post(path, content=body)
    assert answer.status_code == status and answer.json()["do"]
    assert queue.log.count("given") == 0


def test_over_http(queue):
    client = TestClient(app_of(queue))
    given = client.post("/next", json={"agent": "ann"}).json()
    done = {"call": given["call"], "result": "reached"}
    assert client.post("/results", json=done).json() == done
    assert client.post("/results", json=done).status_code == 200
    other = client.post("/results", json=done | {"result": "complained"})
    assert other.status_code == 409
    assert client.get("/list").json()["rows"] == 60
    assert client.get("/health").json() == {"alive": True, "rows": 1, "refused": ""}


def test_without_a_list_the_queue_says_so(tmp_path):
    queue = Queue(tmp_path / "calls.db", TERMS)
    client = TestClient(app_of(queue))
    assert client.post("/next", json={"agent": "ann"}).status_code == 404
    assert client.get("/health").status_code == 200
    queue.close()
