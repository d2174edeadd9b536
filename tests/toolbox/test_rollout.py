"""A rollout before a router that is not real, by a clock that runs as fast as it can."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from casebook.serving import rollout
from casebook.serving.load import Server
from casebook.serving.plans import Plan, Plans
from casebook.serving.rollout import Found, Pace, Stage, deadline

STAGES = (
    Stage("shadow", 0.0, 600, 5_000, shadow=True),
    Stage("5 %", 0.05, 1_800, 16_500),
    Stage("all", 1.0, 300, 5_000),
)


class Clock:
    """As the module ``time``; a sleep takes no time."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    time = monotonic

    def sleep(self, seconds):
        self.now += max(seconds, 20)


class Fake:
    """A router with so many requests a second, as a function of the clock."""

    def __init__(self, clock, rate, refuse=(), deaf=True):
        self.clock, self.rate, self.refuse, self.deaf = clock, rate, list(refuse), deaf
        self.plans, self.taken, self.since = Plans(Plan(("old",)), clock=clock.monotonic), [], 0.0
        self.n = {"new": 0.0, "stable": 0.0}

    def post(self, path, json):
        said = httpx.Request("POST", "http://router" + path)
        if path == "/renew":
            plan = self.plans.now
            self.plans.renew(json["by"], json["lease"])
            passed, self.since = self.clock.now - self.since, self.clock.now
            share = 1.0 if plan.shadow else plan.share
            self.n["new"] += share * self.rate(self.clock.now) * passed
            self.n["stable"] += (1 - plan.share) * self.rate(self.clock.now) * passed
            told = {k: arm(int(n)) | {"scores": [k, plan.stage]} for k, n in self.n.items()}
            return httpx.Response(200, json=told, request=said)
        if json["stage"] in self.refuse:
            self.refuse.remove(json["stage"])
            if not self.deaf:
                self._take(json)  # and the answer is lost
            return httpx.Response(503, request=said)
        self._take(json)
        told = {"at": self.clock.now, "stable": self.plans.now.stable}
        return httpx.Response(200, json=told, request=said)

    def _take(self, json):
        given = {name: json[name] for name in ("share", "shadow") if name in json}
        stable, new = tuple(json.get("stable", self.plans.now.stable)), tuple(json["new"])
        plan = Plan(stable, new, stage=json["stage"], **given)
        self.plans.take(plan, json["by"], json["lease"])
        self.taken.append(plan.stage)
        self.n, self.since = {"new": 0.0, "stable": 0.0}, self.clock.now


def arm(n):
    return {"n": n, "bad": 0, "slow": 0, "why": {}, "ms": [5.0], "scores": [], "first_bad": None}


def good(seen, stage, usual):
    return Found()


def roll(rate, stages=STAGES, judge=good, refuse=(), lease=50.0, router=None, **pace):
    router = router or Fake(Clock(), rate if callable(rate) else lambda now: rate, refuse)
    clock = router.clock
    done = rollout.run(
        router,
        ["new"],
        stages,
        judge,
        Pace(lease=lease, **pace),
        ready=lambda *_: None,
        clock=clock,
    )
    return done, router


@pytest.mark.parametrize("rate", [20, 87, 500])
def test_a_good_version_goes_live_however_much_traffic_there_is(rate):
    done, router = roll(rate)
    assert (done.outcome, done.why) == ("live", "")
    assert router.plans.now.stable == ("new",)
    assert router.plans.before == ("old",)
    least = max(1_800, 16_500 / (0.05 * rate))
    assert least < done.ended < 1.2 * least + 2_500


def test_a_traffic_that_falls_by_a_third_is_waited_for_and_one_that_ends_is_not():
    done, _ = roll(lambda now: 87 if now < 1_500 else 58)
    assert done.outcome == "live"
    done, router = roll(lambda now: 87 if now < 1_500 else 0)
    assert done.outcome == "rolled back"
    assert "of 16,500 requests in 7," in done.why
    assert router.plans.now == Plan(("old",), stage="rolled back")


def test_a_stage_that_cannot_end_is_given_up_after_minutes():
    done, _ = roll(1.0, STAGES[1:])
    assert "of 16,500 requests in 120 s: too few" in done.why
    assert done.ended < 400
    assert deadline(STAGES[1], 0, 120, Pace()) == 120
    assert deadline(STAGES[1], 10_000, 120, Pace()) == 2 * 1_800 + 120


def test_what_must_not_go_on_is_held_and_then_given_up_with_the_reason():
    def judge(seen, stage, usual):
        return Found(hold="both are ill" if stage.name == "5 %" else "")

    done, router = roll(500, judge=judge)
    assert (done.outcome, done.why) == ("rolled back", "both are ill")
    assert router.taken[-2:] == ["5 %", "rolled back"]
    assert done.ended > 1_800


def test_the_judge_is_told_what_was_usual_before():
    told = {}

    def judge(seen, stage, usual):
        told[stage.name] = usual
        return Found()

    roll(500, judge=judge)
    assert told["shadow"].n == 0 < told["5 %"].n < told["all"].n
    assert told["shadow"].scores == ()  # later it is held against itself, and not the old model
    assert told["5 %"].scores == told["all"].scores == ("new", "shadow")


@pytest.mark.parametrize("stages", [(), STAGES[:2], (Stage("x", 1.0, 1, 1, shadow=True),)])
def test_stages_that_end_before_all_requests_are_refused(stages):
    with pytest.raises(ValueError, match="the last stage must have a share of 1"):
        roll(87, stages)


def test_a_last_plan_that_is_not_taken_at_once_is_sent_again():
    ill = lambda seen, stage, usual: Found("ill" if stage.share else "")  # noqa: E731
    done, router = roll(87, judge=ill, refuse=["rolled back"] * 3)
    assert (done.outcome, done.why) == ("rolled back", "ill")
    assert router.plans.now.stage == "rolled back"
    done, router = roll(87, refuse=["live"])
    assert (done.outcome, router.plans.now.stage) == ("live", "live")


def test_a_router_that_takes_no_last_plan_has_the_stable_pods_when_the_lease_ends():
    ill = lambda seen, stage, usual: Found("ill" if stage.share else "")  # noqa: E731
    done, router = roll(87, judge=ill, refuse=["rolled back"] * 1_000, patience=60)
    assert "its lease ends of itself" in done.why
    router.clock.now = done.ended
    assert router.plans.now.new == ()


def test_a_live_plan_whose_answer_is_lost_is_taken_back():
    router = Fake(Clock(), lambda now: 87, ["live"] * 1_000, deaf=False)
    done, _ = roll(87, router=router, patience=60)
    assert (done.outcome, "did not take the last plan" in done.why) == ("rolled back", True)
    assert "live" in router.taken
    assert router.plans.now == Plan(("old",), stage="rolled back")


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("stage", [one.name for one in STAGES])
def test_a_rollout_that_is_told_to_end_in_any_stage_goes_back(stage, how):
    router = Fake(Clock(), lambda now: 87)

    def judge(seen, now, usual):
        if now.name == stage:
            raise how
        return Found()

    with pytest.raises(how):
        roll(87, judge=judge, router=router)
    assert router.taken[-2:] == [stage, "rolled back"]
    assert router.plans.now == Plan(("old",), stage="rolled back")


CHILD = """
from casebook.serving import rollout
from casebook.serving.rollout import *
stages = (Stage("first", 0.5, 0, 0), Stage("all", 1.0, 1000, 10**9))
pace = Pace(warm=0, lease={lease}, every=0.05)
ready = lambda *_: None
rollout.run({router!r}, ["http://127.0.0.1:9"], stages, lambda *_: Found(), pace, ready=ready)
"""


@pytest.fixture(scope="module")
def router():
    stable = {"stable": ["http://127.0.0.1:9"]}
    with Server("casebook.serving.router:app", stable, patience=300) as one:
        yield one.url


@pytest.mark.parametrize(("how", "stage"), [("SIGTERM", "rolled back"), ("SIGKILL", "lease")])
def test_a_rollout_that_is_ended_leaves_the_stable_pods(router, how, stage):
    code = CHILD.format(router=router, lease=60 if how == "SIGTERM" else 8)
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    def plan():
        return json.loads(httpx.get(f"{router}/watch", trust_env=False).text)["stage"]

    try:
        _until(lambda: plan() == "all")
        os.kill(child.pid, getattr(signal, how))
        _until(lambda: stage in plan(), 40)
    finally:
        child.kill()
        child.wait()


def _until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def roll_for_real(ill_from):
    """Roll out over the router itself, with pods that are functions and customers in a thread."""
    from starlette.testclient import TestClient

    from casebook.serving.router import Answer, Router, pages

    router, ill, done = Router(["http://old"]), threading.Event(), threading.Event()

    async def ask(pod, raw, seconds):
        bad = pod == "http://new" and ill.is_set()
        body = json.dumps({"pod": pod}).encode()
        return Answer(500 if bad else 200, body, "500" if bad else "", 5.0, None)

    router._ask = ask

    def judge(seen, stage, usual):
        return Found("ill" if seen["new"]["bad"] else "")

    def on_stage(stage):
        if stage.name == ill_from:
            ill.set()
            _until(lambda: router.seen["new"].why)  # on a busy machine a stage is soon over

    answers = []
    with TestClient(pages(router)) as http:

        def customers():
            for i in itertools.count():
                if done.is_set():
                    return
                reply = http.post("/score", json={"card": f"card {i}"})
                told = reply.json()
                answers.append((router.plan.stage, reply.status_code, told.get("pod", told)))

        thread = threading.Thread(target=customers)
        thread.start()
        try:
            stages = [one._replace(seconds=0.1, requests=3) for one in STAGES]
            pace = Pace(every=0.05, warm=3, patience=30)
            told = rollout.run(
                http, ["http://new"], stages, judge, pace, on_stage, ready=lambda *_: None
            )
            time.sleep(0.1)
        finally:
            done.set()
            thread.join()
    assert {status for _, status, _ in answers} == {200}
    return told, router, answers


@pytest.mark.parametrize("stage", [one.name for one in STAGES])
def test_a_fault_that_begins_in_any_stage_goes_back_and_no_customer_sees_it(stage):
    told, router, answers = roll_for_real(stage)
    assert (told.outcome, told.why) == ("rolled back", "ill")
    assert told.rows["stage"].iloc[-2] == stage
    assert router.plan == Plan(("http://old",), stage="rolled back")
    assert answers[-1][2] == "http://old"
    assert told.seconds < 10


def test_a_good_version_serves_all_and_knows_the_way_back():
    told, router, answers = roll_for_real("never")
    assert (told.outcome, told.why) == ("live", "")
    assert answers[-1] == ("live", 200, "http://new")
    assert router.back()["stable"] == ("http://old",)
