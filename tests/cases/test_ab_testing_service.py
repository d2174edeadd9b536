"""Case 10: the assignment service, attacked and restarted, and the client that falls back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from scipy.stats import kstest

from casebook.cases.ab_testing.plan import NEW_FEED
from casebook.cases.ab_testing.service import Assignments, Client
from casebook.evaluate.assign import arm_of, arms, numbered, overlap
from casebook.serving.app import Problem
from casebook.serving.load import Server, load

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
PLAN = NEW_FEED | {"start": "2026-03-02", "shares": {"control": 0.5, "treatment": 0.5}}
USERS = numbered(range(40))


def body(**fields) -> bytes:
    return json.dumps(fields, default=str).encode()


def exposure(i: int, **changes) -> bytes:
    user = USERS[i]
    arm = arm_of(user, PLAN["salt"], PLAN["shares"])
    fields = {"event": f"e{i}", "experiment": "new_feed", "user": user, "arm": arm}
    return body(**{**fields, "time": NOW - timedelta(hours=i + 1), **changes})


@pytest.fixture
def service(tmp_path):
    made = Assignments(tmp_path / "log.sqlite", lambda: NOW)
    made.register(body(**PLAN))
    yield made
    made.log.close()


def state(service: Assignments):
    return service.log.anchor(), dict(service.plans), service.counts("new_feed")


def test_the_arm_is_the_hash_of_the_world_and_the_same_each_time(service):
    for user in USERS:
        reply = service.assign(body(experiment="new_feed", user=user))
        assert reply["arm"] == arm_of(user, PLAN["salt"], PLAN["shares"])
        assert reply["source"] == "hash"
        assert service.assign(body(experiment="new_feed", user=user)) == reply


def test_a_restart_gives_each_user_the_same_of_three_arms_and_another_order_is_another_plan(
    tmp_path,
):
    plan, first = (
        NEW_FEED | {"start": "2026-03-02"},
        Assignments(tmp_path / "x.sqlite", lambda: NOW),
    )
    first.register(body(**plan))
    users = [body(experiment="new_feed", user=user) for user in numbered(range(300))]
    before = [first.assign(one)["arm"] for one in users]
    with pytest.raises(Problem, match="plan changed"):
        first.register(body(**plan | {"shares": dict(reversed(plan["shares"].items()))}))
    with pytest.raises(Problem, match="wrong unit"):
        first.register(body(**plan | {"name": "other", "salt": "other", "unit": "cluster"}))
    first.log.close()
    again = Assignments(tmp_path / "x.sqlite", lambda: NOW)
    assert [again.assign(one)["arm"] for one in users] == before
    again.log.close()


def test_fifty_experiments_in_one_service_are_independent_of_each_other(tmp_path):
    many, names = Assignments(tmp_path / "x.sqlite"), [f"experiment_{i}" for i in range(50)]
    for name in names:
        many.register(body(**PLAN | {"name": name, "salt": f"{name}.salt"}))
    users, salts = numbered(range(5_000)), [plan.salt for plan in many.plans.values()]
    some = users[:40]
    for name, salt in zip(names, salts, strict=True):
        asked = [many.assign(body(experiment=name, user=user))["arm"] for user in some]
        assert asked == arms(some, salt, PLAN["shares"]).tolist()
    p = overlap(users, salts, PLAN["shares"])["p"]
    assert len(p) == 1_225
    assert kstest(p, "uniform").pvalue > 0.001
    assert p.min() > 0.01 / len(p)
    reused = overlap(users, [*salts[:49], salts[0]], PLAN["shares"])["p"]
    assert (reused < 0.01 / len(reused)).sum() == 1
    many.log.close()


def test_an_unknown_experiment_gets_control_and_says_so(service):
    reply = service.assign(body(experiment="nothing", user="u1"))
    assert (reply["arm"], reply["source"], reply["why"]) == (
        "control",
        "fallback",
        "unknown experiment",
    )


def test_exposures_count_each_user_once_whatever_is_sent_twice_or_late(service):
    order = [3, 1, 2, 0, 1, 3]
    recorded = [service.expose(exposure(i))["recorded"] for i in order]
    assert recorded == [True, True, True, True, False, False]
    again = service.expose(exposure(1, event="another"))
    assert again["recorded"]
    late = service.expose(exposure(5, time=NOW - timedelta(days=6)))
    assert late["late"]
    assert sum(service.counts("new_feed")["users"].values()) == 5
    assert service.log.count("exposures") == 6


REFUSED = {
    "no JSON": ("expose", b"{", 400, "not JSON"),
    "deep": ("expose", b"[" * 100_000, 400, "not JSON"),
    "a list": ("assign", b"[]", 422, "wrong form"),
    "no user": ("assign", body(experiment="new_feed"), 422, "wrong form"),
    "a number as user": ("assign", body(experiment="new_feed", user=7), 422, "wrong form"),
    "a long user": ("assign", body(experiment="new_feed", user="u" * 101), 422, "wrong form"),
    "another arm": ("expose", exposure(1, arm="blue"), 409, "wrong arm"),
    "unknown": ("expose", exposure(1, experiment="none"), 404, "unknown experiment"),
    "before": ("expose", exposure(1, time="1970-01-01T00:00:00Z"), 422, "wrong time"),
    "future": ("expose", exposure(1, time="2026-03-11T00:00:00Z"), 422, "wrong time"),
    "no zone": ("expose", exposure(1, time="2026-03-09T00:00:00"), 422, "wrong form"),
    "known event": ("expose", exposure(1, event="e0"), 409, "event changed"),
    "more fields": ("expose", exposure(1, admin=True), 422, "wrong form"),
    "wrong plan": ("register", body(**{**PLAN, "name": "other", "days": 3}), 422, "wrong plan"),
    "share raised": (
        "register",
        body(**{**PLAN, "shares": {"control": 0.2, "treatment": 0.8}}),
        409,
        "plan changed",
    ),
    "salt reused": ("register", body(**{**PLAN, "name": "another"}), 409, "salt reused"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_why_and_changes_nothing(service, case):
    service.expose(exposure(0))
    before = state(service)
    call, raw, status, error = REFUSED[case]
    with pytest.raises(Problem) as refused:
        getattr(service, call)(raw)
    assert (refused.value.status, refused.value.error) == (status, error)
    assert refused.value.what
    assert refused.value.do
    assert state(service) == before


def test_the_same_plan_again_is_no_change(service):
    before = state(service)
    assert service.register(body(**PLAN)) == {"name": "new_feed", "registered": False}
    assert state(service) == before


def test_a_restart_takes_up_plans_and_exposures(tmp_path, service):
    for i in (0, 1, 2):
        service.expose(exposure(i))
    before = state(service)
    service.log.close()
    again = Assignments(tmp_path / "log.sqlite", lambda: NOW)
    try:
        assert state(again) == before
        assert not again.expose(exposure(1))["recorded"]
        with pytest.raises(Problem, match="event changed"):
            again.expose(exposure(3, event="e0"))
        assert again.health() == {"status": "ok", "plans": 1, "rows": 4}
    finally:
        again.log.close()


def test_over_http_it_answers_counts_and_refuses_what_is_too_large(tmp_path):
    with (
        Server(
            "casebook.cases.ab_testing.service:app", {"path": str(tmp_path / "log.sqlite")}
        ) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http,
    ):
        assert http.post("/plans", content=body(**PLAN)).json()["registered"]
        wrong = http.post("/plans", content=body(**{**PLAN, "name": "x_y", "days": 3}))
        assert wrong.status_code == 422
        assert "days" in wrong.json()["what"]
        assert http.post("/exposures", content=b"x" * 30_000).status_code == 413
        asked = [{"experiment": "new_feed", "user": user} for user in USERS]
        measured = load(f"{server.url}/assignments", asked * 4, n=100, warm_up=20)
        assert 0 < measured.p50 <= measured.p99
        assert http.get("/counts/new_feed").json()["users"] == {"control": 0, "treatment": 0}
        assert http.get("/counts/none").status_code == 404
        assert http.get("/health").json()["status"] == "ok"
        client = Client(server.url, seconds=5)
        arms = {user: client.arm(user, "new_feed") for user in USERS}
        assert {counted for _, counted in arms.values()} == {True}
        assert client.arm(USERS[0], "none") == ("control", False)
        server.kill()
        assert client.arm(USERS[0], "new_feed") == ("control", False)
        client.close()
    assert client.fallbacks["unknown experiment"] == 1
    assert sum(client.fallbacks.values()) == 2


@pytest.mark.parametrize(
    "reply",
    [
        *({}, {"source": "hash"}, {"source": "hash", "arm": 7}, {"source": "hash", "arm": "blue"}),
        *({"source": "hash", "arm": ["control"]}, {"why": ["a", "list"]}),
    ],
)
def test_an_answer_without_a_known_arm_shows_control_and_counts_nobody(reply, monkeypatch):
    client = Client("http://127.0.0.1:9")
    monkeypatch.setattr(client._asker, "post", lambda *_: reply)
    assert client.arm("u1", "new_feed") == ("control", False)
    assert sum(client.fallbacks.values()) == 1
    client.close()


def test_after_the_end_nobody_is_exposed(tmp_path):
    later = Assignments(tmp_path / "x.sqlite", lambda: NOW + timedelta(days=9))
    later.register(body(**PLAN))
    assert later.expose(exposure(0))["late"]
    with pytest.raises(Problem, match="wrong time"):
        later.expose(exposure(1, time="2026-03-16T00:00:01Z"))
    later.log.close()


def test_who_falls_back_must_not_be_counted_as_exposed():
    """Counting them as control is how a split breaks: the gate finds it."""
    from casebook.evaluate.experiments import srm

    users = numbered(range(20_000))
    arms = [arm_of(user, PLAN["salt"], PLAN["shares"]) for user in users]
    down = [i % 20 == 0 for i in range(len(users))]  # the service was down for one in twenty
    kept = [arm for arm, lost in zip(arms, down, strict=True) if not lost]
    counted = ["control" if lost else arm for arm, lost in zip(arms, down, strict=True)]
    p = [
        srm({a: own.count(a) for a in PLAN["shares"]}, PLAN["shares"]).p for own in (kept, counted)
    ]
    assert p[0] > 0.01
    assert p[1] < 0.001
