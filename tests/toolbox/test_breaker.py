"""The circuit breaker: its states, its budget, its threads."""

from __future__ import annotations

import threading
import time

import pytest
from pace import patience

from casebook.serving.breaker import Answer, Breaker, something
from casebook.serving.load import crashing, slow


class Clock:
    """Seconds that only a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def well(features):
    return 0.25, ["a reason"]


broken = crashing(well)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    """Return a maker of breakers whose threads end with the test."""
    made = []

    def make(kind=Breaker, **changes) -> Breaker:
        numbers = {"budget_ms": 500, "failures": 3, "window": 6, "cool_off": 10.0, "clock": clock}
        made.append(kind(**numbers | changes))
        return made[-1]

    yield make
    for breaker in made:
        breaker.close()


def open_it(breaker: Breaker) -> None:
    for _ in range(breaker.failures):
        breaker.ask(broken, {})
    assert breaker.state == "open"


# What the model answers ------------------------------------------------------------------------


def test_a_good_answer_is_passed_on(make):
    answer = make().ask(well, {"x": 1.0})
    assert (answer.value, answer.why) == ((0.25, ["a reason"]), "")


def exits(features):
    raise SystemExit(1)


def share(value):
    """Accept a number from 0 to 1."""
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is no share")
    return float(value)


@pytest.mark.parametrize(
    ("value", "accept"),
    [(None, something), (float("nan"), share), ("high", share), (None, share), (10**400, share)],
    ids=["nothing", "not a number", "a word", "no share", "too large"],
)
def test_what_is_not_accepted_is_nonsense_and_a_failure(make, value, accept):
    breaker = make()
    answer = breaker.ask(lambda features: value, {}, accept)
    assert (answer.value, answer.why, answer.detail) == (None, "nonsense", repr(value)[:200])
    assert breaker.snapshot()["failed"] == 1


def test_what_is_accepted_is_passed_on_as_accept_returns_it(make):
    assert make().ask(lambda features: 1, {}, share).value == 1.0
    assert make().ask(lambda features: 0, {}).value == 0


def test_an_accept_that_fails_by_itself_is_not_hidden(make):
    breaker = make()
    with pytest.raises(KeyError):
        breaker.ask(well, {}, lambda value: {}["no such key"])
    assert breaker.snapshot()["failed"] == 1


@pytest.mark.parametrize(
    ("model", "why"),
    [(broken, "error"), (None, "absent"), (exits, "error")],
    ids=["raises", "absent", "exits"],
)
def test_a_model_that_cannot_answer_says_why(make, model, why):
    answer = make().ask(model, {})
    assert (answer.value, answer.why) == (None, why)
    assert answer.detail


def test_a_slow_model_is_left_at_the_budget(make):
    breaker = make(budget_ms=20)
    start = time.perf_counter()
    answer = breaker.ask(slow(well, patience(4000)), {})
    assert answer.why == "timeout"
    assert 0.02 <= time.perf_counter() - start < patience(2)
    assert 20 <= answer.ms < patience(2000)


def test_an_abandoned_call_cannot_change_the_features(make):
    go, gone = threading.Event(), threading.Event()

    def meddles(features):
        go.wait(5)
        features["x"] = -1.0
        gone.set()
        return 0.5, []

    features = {"x": 1.0}
    assert make(budget_ms=10).ask(meddles, features).why == "timeout"
    go.set()
    assert gone.wait(5)
    assert features == {"x": 1.0}


# States ----------------------------------------------------------------------------------------


def check_it_opens(breaker: Breaker) -> None:
    """A failing model is not asked after the last failure that is allowed."""
    asked = []

    def fails(features):
        asked.append(1)
        raise RuntimeError

    whys = [breaker.ask(fails, {}).why for _ in range(6)]
    assert whys == ["error"] * 3 + ["breaker open"] * 3
    assert len(asked) == 3
    assert breaker.snapshot()["opened"] == 1


def test_it_opens_after_so_many_failures(make):
    check_it_opens(make())


def test_a_breaker_that_never_opens_is_found(make):
    class Never(Breaker):
        def _turn(self, state):
            pass

    with pytest.raises(AssertionError):
        check_it_opens(make(Never))


@pytest.mark.parametrize("why", ["timeout", "nonsense", "absent"])
def test_every_kind_of_failure_counts(make, why):
    model = {"timeout": slow(well, 500), "nonsense": lambda f: None, "absent": None}[why]
    breaker = make(budget_ms=10)
    assert [breaker.ask(model, {}).why for _ in range(4)] == [why] * 3 + ["breaker open"]


def test_failures_between_successes_count_within_the_window(make):
    breaker = make(failures=3, window=6)
    for model in (broken, well, broken, well):
        breaker.ask(model, {})
    assert breaker.state == "closed"
    breaker.ask(broken, {})
    assert breaker.state == "open"


def test_old_failures_leave_the_window(make):
    breaker = make(failures=3, window=4)
    for model in (broken, broken, well, well, broken, well, well, broken):
        breaker.ask(model, {})
    assert breaker.state == "closed"


def test_it_stays_open_for_the_cool_off(make, clock):
    breaker = make()
    open_it(breaker)
    clock.now = 9.99
    assert breaker.ask(well, {}).why == "breaker open"
    clock.now = 10.0
    assert breaker.ask(well, {}).why == ""
    assert breaker.state == "half-open"


def test_probes_that_succeed_close_it(make, clock):
    breaker = make(probes=2)
    open_it(breaker)
    clock.now = 10.0
    breaker.ask(well, {})
    assert breaker.state == "half-open"
    breaker.ask(well, {})
    assert breaker.state == "closed"
    assert breaker.snapshot()["failed"] == 0


def test_a_probe_that_fails_opens_it_for_another_cool_off(make, clock):
    breaker = make(probes=2)
    open_it(breaker)
    clock.now = 10.0
    breaker.ask(well, {})
    breaker.ask(broken, {})
    assert breaker.state == "open"
    clock.now = 19.0
    assert breaker.ask(well, {}).why == "breaker open"
    clock.now = 20.0
    assert breaker.ask(well, {}).why == ""


def test_half_open_asks_one_at_a_time(make, clock):
    breaker = make(budget_ms=5000)
    open_it(breaker)
    clock.now = 10.0
    started, go = threading.Event(), threading.Event()

    def waits(features):
        started.set()
        go.wait(5)
        return 0.1, []

    probe = threading.Thread(target=breaker.ask, args=(waits, {}))
    probe.start()
    assert started.wait(5)
    assert [breaker.ask(well, {}).why for _ in range(3)] == ["breaker open"] * 3
    go.set()
    probe.join(5)
    assert breaker.ask(well, {}).why == ""


def test_an_answer_from_before_the_state_changed_changes_nothing(make, clock):
    breaker = make(budget_ms=5000)
    started, go = threading.Event(), threading.Event()

    def waits(features):
        started.set()
        go.wait(5)
        raise RuntimeError("asked while it was closed")

    old = threading.Thread(target=breaker.ask, args=(waits, {}))
    old.start()
    assert started.wait(5)
    open_it(breaker)
    clock.now = 10.0
    breaker.ask(well, {})
    go.set()
    old.join(5)
    assert breaker.state == "half-open"


# Threads ---------------------------------------------------------------------------------------


def model_threads() -> set[threading.Thread]:
    """Return the threads themselves: those of earlier tests may still be ending."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("model-")}


def check_threads_are_bounded(make, most: int) -> None:
    go = threading.Event()

    def hangs(features):
        go.wait(10)
        return 0.5, []

    breaker = make(budget_ms=5, failures=100, window=100, threads=4)
    before = model_threads()
    try:
        whys = [breaker.ask(hangs, {}).why for _ in range(20)]
        assert len(model_threads() - before) <= most
        assert whys == ["timeout"] * 4 + ["busy"] * 16
        assert breaker.snapshot()["hung"] == 4
    finally:
        go.set()
    end = time.monotonic() + patience(5)
    while breaker.snapshot()["hung"] and time.monotonic() < end:
        time.sleep(0.005)
    assert breaker.ask(well, {}).why == ""  # the threads came back


def test_hung_calls_do_not_pile_up(make):
    check_threads_are_bounded(make, 4)


def test_a_pool_without_a_bound_is_found(make):
    def unbounded(**numbers):
        return make(**numbers | {"threads": 1000})

    with pytest.raises(AssertionError):
        check_threads_are_bounded(unbounded, 4)


def test_calls_one_after_the_other_share_a_thread(make):
    before, breaker = model_threads(), make()
    for _ in range(50):
        assert breaker.ask(well, {}).why == ""
    assert len(model_threads() - before) == 1


def test_a_busy_breaker_answers_at_once(make):
    breaker = make(budget_ms=1000, failures=100, window=100, threads=1)
    go = threading.Event()
    waiting = threading.Thread(target=breaker.ask, args=(lambda f: (go.wait(5), []), {}))
    waiting.start()
    try:
        while not breaker._pool._running:
            time.sleep(0.001)
        assert breaker.ask(well, {}).ms < 500
    finally:
        go.set()
        waiting.join(5)


def test_many_threads_ask_a_model_that_comes_and_goes(make):
    """Nothing is lost and no state is impossible while eight threads ask."""
    breaker = make(budget_ms=500, cool_off=0.0, clock=time.monotonic)
    answers: list[Answer] = []
    turn = iter(range(10**9))

    def comes_and_goes(features):
        if next(turn) // 20 % 2:
            raise RuntimeError
        return 0.5, []

    def client():
        answers.extend(breaker.ask(comes_and_goes, {}) for _ in range(150))

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(30)
    assert len(answers) == 1200
    assert all((a.value is None) == bool(a.why) for a in answers)
    assert {a.why for a in answers} <= {"", "error", "breaker open", "busy"}
    for _ in range(30):
        breaker.ask(well, {})
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget_ms": 0},
        {"budget_ms": float("nan")},
        {"failures": 0},
        {"failures": 7},
        {"cool_off": -1},
        {"probes": 0},
        {"threads": 0},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(make, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make(**wrong)
