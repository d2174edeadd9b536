"""A service in a process of its own, load in closed and open loop, and the drill of faults."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import httpx
import pytest
from pace import patience

from casebook.serving.breaker import Breaker
from casebook.serving.load import Server, crashing, fault_drill, listening, load, slow

ECHO = "casebook.serving.load:echo"
BODIES = [{"n": n} for n in range(200)]


# A service in a process of its own -------------------------------------------------------------


@pytest.fixture(scope="module")
def served():
    with Server(ECHO) as server:
        yield server


def test_a_served_app_is_loaded_from_here(served):
    one = load(served.url, BODIES, n=100, warm_up=20)
    assert 0 < one.p50 <= one.p95 <= one.p99
    assert (one.n, one.warm_up) == (100, 20)
    assert load(served.url, BODIES, n=100, warm_up=40, concurrency=4).n == 100
    assert load(served.url, BODIES, n=100, warm_up=0, concurrency=4, rps=1000).p50 > 0


def test_replies_do_not_wait_for_acknowledgements():
    """asyncio sets TCP_NODELAY on connections of a socket that names its protocol only."""
    with listening() as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_server_that_cannot_start_says_why():
    with (
        pytest.raises(RuntimeError, match="No module named 'no_such_module'"),
        Server("no_such_module:app"),
    ):
        pass


def test_a_server_ends_with_its_block_and_with_its_parent():
    code = f"""if True:
        import os, time
        from casebook.serving.load import Server
        with Server({ECHO!r}) as first:
            pass
        assert first.process.returncode is not None
        server = Server({ECHO!r}).__enter__()
        print(server.process.pid, server.url, flush=True)
        os._exit(1)  # no chance to end anything
    """
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(120)
    )
    pid, _ = run.stdout.split()
    end = time.monotonic() + patience(15)
    while time.monotonic() < end:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"the server {pid} outlives its parent")


# Load ------------------------------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch):
    """Let a function answer in place of a network."""

    def install(answer) -> None:
        plain = httpx.Client

        def client(**more):
            return plain(transport=httpx.MockTransport(answer), **more)

        monkeypatch.setattr(httpx, "Client", client)

    return install


class Stalling:
    """A service with a clock of its own: 10 ms a reply, and one reply that takes a second."""

    def __init__(self, stalls: int) -> None:
        self.now, self.turn, self.stalls = 0.0, 0, stalls

    def __call__(self, request) -> httpx.Response:
        self.now += 1.0 if self.turn == self.stalls else 0.010
        self.turn += 1
        return httpx.Response(200)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def stalled(answers, rps: float | None):
    service = Stalling(stalls=50)
    answers(service)
    return load(
        "http://test/", BODIES, n=200, warm_up=0, rps=rps, clock=service.clock, sleep=service.sleep
    )


def check_the_stall_is_seen(measured) -> None:
    """At 50 a second the stall delays the next 98 requests: the backlog shrinks by 10 ms each."""
    assert measured.p50 == pytest.approx(10, abs=1)
    assert measured.p95 == pytest.approx(905, abs=11)
    assert measured.p99 == pytest.approx(985, abs=11)


def test_an_open_loop_counts_the_wait_behind_a_stall(answers):
    check_the_stall_is_seen(stalled(answers, rps=50))


def test_a_closed_loop_omits_it_and_is_found(answers):
    measured = stalled(answers, rps=None)
    assert measured.p99 == pytest.approx(10)  # one slow request among two hundred
    with pytest.raises(AssertionError):
        check_the_stall_is_seen(measured)


def test_below_its_capacity_an_open_loop_waits_for_the_moment(answers):
    service = Stalling(stalls=-1)
    answers(service)
    given = {"rps": 20.0, "clock": service.clock, "sleep": service.sleep}
    measured = load("http://test/", BODIES, n=100, warm_up=0, **given)
    assert measured.p99 == pytest.approx(10)
    assert service.now == pytest.approx(99 / 20 + 0.010)


def test_slow_requests_of_the_warm_up_do_not_count(answers):
    service = Stalling(stalls=4)
    answers(service)
    measured = load("http://test/", BODIES, n=100, warm_up=5, clock=service.clock)
    assert measured.p99 == pytest.approx(10)


def test_clients_post_each_body_once(answers):
    sent, lock = [], threading.Lock()

    def keep(request):
        with lock:
            sent.append(json.loads(request.content)["n"])
        return httpx.Response(200)

    answers(keep)
    load("http://test/", BODIES, n=150, warm_up=20, concurrency=8)
    assert sorted(sent) == list(range(170))


def test_a_load_that_means_nothing_is_refused(answers):
    with pytest.raises(ValueError, match="at least 100"):
        load("http://test/", [], n=10)
    with pytest.raises(ValueError, match="10 payloads are too few"):
        load("http://test/", BODIES[:10], n=100, warm_up=0)
    for rps in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="rps is"):
            load("http://test/", BODIES, n=100, warm_up=0, rps=rps)
    with pytest.raises(RuntimeError, match="request 0"):
        load("http://127.0.0.1:1/", BODIES, n=100, warm_up=0)
    answers(lambda request: httpx.Response(422, text="the amount is negative"))
    with pytest.raises(RuntimeError, match=r"422.*negative"):
        load("http://test/", BODIES, n=100, warm_up=0, concurrency=2)


# Faults ----------------------------------------------------------------------------------------


class Guesses:
    """A service whose model doubles a number, and which answers -1 without it."""

    def __init__(self, breaker: Breaker) -> None:
        self.score, self.breaker = self.healthy, breaker

    @staticmethod
    def healthy(n: int) -> int:
        return 2 * n

    def decide(self, raw: bytes) -> SimpleNamespace:
        answer = self.breaker.ask(self.score, json.loads(raw)["n"])
        source = "way back" if answer.why else "model"
        return SimpleNamespace(body={"source": source, "why": answer.why, "value": answer.value})

    def swap(self, score) -> None:
        self.score = score


def drill(breaker: Breaker, n: int = 80, **more):
    service = Guesses(breaker)
    table = fault_drill(service, BODIES[:n], sources=("model", "way back"), **more)
    assert service.score is Guesses.healthy
    return table


def test_a_drill_shows_the_breaker_at_work():
    table = drill(Breaker(budget_ms=150, failures=3, window=6, cool_off=0.1), slow_ms=250)
    assert table["phase"].tolist() == ["healthy", "slow", "crashed", "recovered"]
    assert table["requests"].tolist() == [20] * 4
    assert table["model"].tolist() == [20, 0, 0, 20]
    assert table["way back"].tolist() == [0, 20, 20, 0]
    assert table["breaker"].tolist() == ["closed", "open", "open", "closed"]
    assert table.loc[1, "why"] == "breaker open 17, timeout 3"


def test_a_drill_without_a_breaker_shows_it():
    class Never(Breaker):
        def _turn(self, state):
            pass

    table = drill(Never(budget_ms=10, failures=3, cool_off=0.01), n=40, slow_ms=30)
    assert "breaker open" not in table.loc[1, "why"]


def test_other_faults_may_be_drilled():
    breaker = Breaker(budget_ms=1000, failures=2, window=5, cool_off=0.01)
    table = drill(breaker, n=9, faults={"silent": lambda model: lambda n: None})
    assert table["phase"].tolist() == ["healthy", "silent", "recovered"]
    assert table.loc[1, "why"] == "nonsense 2, breaker open 1"


def test_a_drill_that_ends_early_leaves_the_model_as_it_was():
    service, sent = Guesses(Breaker(budget_ms=1000)), [dict(body) for body in BODIES[:8]]
    sent[5] = {"m": 1}  # in the phase with the crashing model
    with pytest.raises(KeyError):
        fault_drill(service, sent, slow_ms=1, sources=("model", "way back"))
    assert service.score is Guesses.healthy


def test_a_drill_needs_payloads():
    with pytest.raises(ValueError, match="3 payloads are too few for 4"):
        fault_drill(Guesses(Breaker()), BODIES[:3])


def test_broken_models_are_broken():
    assert slow(lambda n: n + 1, 1)(1) == 2
    with pytest.raises(RuntimeError, match="planted"):
        crashing(lambda n: n)(1)
