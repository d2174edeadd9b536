"""The router before pods that fail in every way: the client always gets the stable answer."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from casebook.serving.app import Problem
from casebook.serving.router import COPIES, NUMBERS, Answer, Plan, Router, Seen, pages
from casebook.serving.wire import NoReply, Wire

GOOD = {"score": 0.1, "source": "model"}
LEASE = {"by": "test", "lease": 60}


def raw(i=0, **more):
    return json.dumps({"card": f"card {i}", **more}).encode()


@asynccontextmanager
async def pod(version="old", how="good"):
    """A pod on loopback that answers as told, and counts."""
    asked = []

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(size)
                asked.append(version)
                if how == "dies":
                    break
                if how == "late":
                    await asyncio.sleep(1)
                status = {"errors": 500, "refuses": 422}.get(how, 200)
                told = {**GOOD, "version": version}
                told |= {"source": "rules"} if how == "rules" else {}
                body = b"<html>" if how == "no JSON" else json.dumps(told).encode()
                start = f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(start.encode() + body)
                if how == "ends":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


BAD = ("errors", "late", "rules", "no JSON", "dies", "refuses", "absent")


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("shadow", [True, False])
def test_whatever_the_new_version_does_the_client_gets_the_stable_answer(how, shadow):
    async def go():
        async with pod() as (old, _), pod("new", how) as (new, asked):
            router = Router([old])
            pods = ["http://127.0.0.1:9"] if how == "absent" else [new]
            plan = {"new": pods, "share": 0.0 if shadow else 1.0, "shadow": shadow, "stage": "x"}
            router.route(json.dumps(plan | LEASE).encode())
            found = [await router.score(raw(i)) for i in range(3)]
            await asyncio.gather(*router._copies)
            return found, router.watch(), asked

    found, seen, asked = asyncio.run(go())
    assert {(one.status, json.loads(one.body)["version"]) for one in found} == {(200, "old")}
    assert (seen["new"]["n"], seen["new"]["bad"], seen["failed"]) == (3, 3, 0)
    own = 3 if shadow else 0  # what is asked in the new version's place is no sample of the stable
    assert (seen["stable"]["n"], seen["stable"]["bad"]) == (own, 0)
    assert len(asked) == (0 if how == "absent" else 3)


def test_a_good_version_answers_its_cards_and_no_others():
    async def go():
        async with pod() as (old, _), pod("new") as (new, _):
            router = Router([old])
            router.route(json.dumps({"new": [new], "share": 0.25, "stage": "x"} | LEASE).encode())
            first = [json.loads((await router.score(raw(i))).body)["version"] for i in range(400)]
            router.route(json.dumps({"share": 0.5, "stage": "y"} | LEASE).encode())
            later = [json.loads((await router.score(raw(i))).body)["version"] for i in range(400)]
            return first, later

    first, later = asyncio.run(go())
    assert 0.18 < first.count("new") / 400 < 0.32
    assert all(b == "new" for a, b in zip(first, later, strict=True) if a == "new")
    assert first.count("new") < later.count("new")


def test_a_request_that_both_refuse_is_nobodys_fault():
    async def go():
        async with pod("old", "refuses") as (old, _), pod("new", "refuses") as (new, _):
            router = Router([old])
            router.route(json.dumps({"new": [new], "share": 1.0, "stage": "x"} | LEASE).encode())
            found = [await router.score(b"no JSON"), await router.score(raw())]
            router.route(json.dumps({"new": [new], "shadow": True, "stage": "y"} | LEASE).encode())
            found.append(await router.score(raw()))
            await asyncio.gather(*router._copies)
            return found, router.watch()

    found, seen = asyncio.run(go())
    assert [one.status for one in found] == [422, 422, 422]
    assert (seen["new"]["n"], seen["stable"]["n"], seen["failed"]) == (0, 0, 0)


def test_a_dead_stable_pod_is_passed_over_and_without_any_pod_the_error_says_so():
    async def go():
        async with pod() as (old, _):
            router = Router(["http://127.0.0.1:9", old])
            found = [(await router.score(raw(i))).status for i in range(6)]
        lost = Router(["http://127.0.0.1:9"])
        with pytest.raises(Problem, match="No pod answered") as told:
            await lost.score(raw())
        return found, told.value.status, lost.failed

    assert asyncio.run(go()) == ([200] * 6, 503, 1)


def test_where_both_fail_the_rules_of_the_new_version_are_an_answer():
    async def go():
        async with pod("old", "errors") as (old, _), pod("new", "rules") as (new, _):
            router = Router([old])
            router.route(json.dumps({"new": [new], "share": 1.0, "stage": "x"} | LEASE).encode())
            return json.loads((await router.score(raw())).body)["source"], router.failed

    assert asyncio.run(go()) == ("rules", 0)


def test_a_slow_shadow_gets_no_more_copies_than_it_can_take():
    async def go():
        async with pod() as (old, _), pod("new", "late") as (new, _):
            router = Router([old])
            router.route(json.dumps({"new": [new], "shadow": True, "stage": "x"} | LEASE).encode())
            for i in range(COPIES + 10):
                await router.score(raw(i))
            return router.lost

    assert asyncio.run(go()) == 10


@pytest.mark.parametrize(
    "plan",
    [
        {"share": 0.5},
        {"new": ["http://a"], "share": 1.5, **LEASE},
        {"new": ["http://a"], "share": 0.5},
        {"stable": []},
        {"stable": "http://a"},
        {"stable": {"http://a": 1}},
        {"stable": 7},
        {"stable": ["http://a", 7]},
        {"stable": ["not an address"]},
        {"stable": ["https://a"]},  # the wire speaks plainly
        {"stable": ["http://a/path"]},
        {"stable": ["http://a:70000"]},
        {"new": "http://a", "share": 0.5, **LEASE},
        {"colour": 1},
    ],
)
def test_a_wrong_plan_is_refused_and_the_old_one_holds(plan):
    router = Router(["http://127.0.0.1:9"])
    before = router.plan
    with pytest.raises(Problem, match="wrong plan"):
        router.route(json.dumps(plan).encode())
    assert router.plan is before == Plan(("http://127.0.0.1:9",))


def test_a_wire_survives_a_server_that_ends_each_connection_and_says_when_there_is_none():
    async def go():
        async with pod("old", "ends") as (old, asked):
            wire = Wire(old)
            for _ in range(4):
                assert (await wire.post("/score", raw()))[0] == 200
            wire.close()
        with pytest.raises(NoReply, match="Refused"):
            await Wire("http://127.0.0.1:9").post("/score", b"")
        return len(asked)

    assert asyncio.run(go()) == 4


async def attempts(share, fails, n=8_000, seed=1):
    """Return what is counted where an attempt fails with a chance, at each pod alike."""
    router, rng = Router(["http://a", "http://b"]), random.Random(seed)

    async def ask(pod, raw, seconds):
        bad = rng.random() < fails
        return Answer(500 if bad else 200, b"{}", "500" if bad else "", 5.0, None if bad else 0.1)

    router._ask = ask
    router.route(json.dumps({"new": ["http://c", "http://d"], "share": share} | LEASE).encode())
    for i in range(n):
        with suppress(Problem):
            await router.score(raw(i))
    return router.watch()


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_attempts_of_both_versions_are_counted_alike(share):
    seen = asyncio.run(attempts(share, 0.03))
    for arm, part in (("new", share), ("stable", 1 - share)):
        n, bad = seen[arm]["n"], seen[arm]["bad"]
        assert n == pytest.approx(part * 8_000, rel=0.15)
        assert bad / n == pytest.approx(0.03, abs=4 * (0.03 / n) ** 0.5)
    assert seen["failed"] < 5  # a customer gets the answer of another pod


def test_a_lease_that_ends_ends_the_counting_and_the_share():
    async def go():
        async with pod() as (old, _), pod("new") as (new, _):
            router = Router([old])
            plan = {"new": [new], "share": 1.0, "stage": "x", "by": "test", "lease": 0.1}
            router.route(json.dumps(plan).encode())
            before = json.loads((await router.score(raw())).body)["version"]
            await asyncio.sleep(0.15)
            after = json.loads((await router.score(raw())).body)["version"]
            with pytest.raises(Problem, match="holds no plan") as told:
                router.renew(b'{"by": "test", "lease": 9}')
            return before, after, told.value.status, router.watch()

    before, after, status, seen = asyncio.run(go())
    assert (before, after, status) == ("new", "old", 409)
    assert (seen["stage"], seen["new"]["n"], seen["stable"]["n"]) == ("the lease has ended", 0, 1)


def test_another_rollout_is_refused_and_the_way_back_is_open(tmp_path):
    router = Router(["http://a"], file=str(tmp_path / "plan.json"))
    router.route(json.dumps({"new": ["http://b"], "shadow": True, **LEASE}).encode())
    with pytest.raises(Problem, match="held") as told:
        router.route(json.dumps({"new": ["http://c"], "shadow": True, "lease": 9}).encode())
    assert told.value.status == 409
    router.route(json.dumps({"stable": ["http://b"], "new": [], "by": "test"}).encode())
    again = Router(["http://x"], file=str(tmp_path / "plan.json"))
    assert again.plan.stable == ("http://b",)
    assert again.back()["stable"] == ("http://a",)
    with pytest.raises(Problem, match="no way back"):
        again.back()


def test_a_plan_that_cannot_be_kept_is_refused_and_says_so(tmp_path):
    (tmp_path / "plan").write_text("a file where the folder should be")
    router = Router(["http://a"], file=str(tmp_path / "plan" / "plan.json"))
    with pytest.raises(Problem, match="not kept") as told:
        router.route(b'{"stable": ["http://b"]}')
    assert (told.value.status, router.plan.stable) == (503, ("http://a",))


def test_a_router_before_no_address_does_not_start():
    for stable in ("http://a", ["a:80"]):
        with pytest.raises(ValueError, match="give a list of addresses"):
            Router(stable)


def test_a_key_that_is_no_text_of_utf8_has_its_version_too():
    router = Router(["http://a"])
    key, _ = router._names(b'{"card": "\\ud800"}')
    assert isinstance(router.for_new(key, Plan(("a",), ("b",), 0.5)), bool)


def test_a_customer_waits_no_longer_than_all_attempts_may_take():
    async def go():
        router, asked = Router(["http://a", "http://b", "http://c"]), []

        async def ask(pod, raw, seconds):
            asked.append(seconds)
            await asyncio.sleep(0)
            router.spent += seconds
            return Answer(503, b"", "late", 1000 * seconds, None)

        router.spent, router._ask = 0.0, ask
        clock = SimpleNamespace(perf_counter=lambda: router.spent, time=lambda: 0.0)
        with pytest.raises(Problem, match="No pod answered"):
            await Router.score(router, raw(), clock)
        return asked

    assert sum(asyncio.run(go())) == pytest.approx(3.0)


def test_plans_are_not_taken_on_the_port_of_the_customers():
    router = Router(["http://a"])

    def routes(**which):
        return {one.path for one in pages(router, **which).routes} - {"/openapi.json"}

    assert routes(admin=False) == {"/score"}
    assert routes(public=False) == {"/route", "/renew", "/back", "/watch"}


def told_by(pods, plan, bodies, watch):
    """Return what a router says after requests to pods that are functions of the body."""
    router = Router(["http://old"])

    async def post(pod, body):
        status, told = pods[pod](json.loads(body))
        return status, json.dumps(told).encode()

    async def go():
        for name in pods:
            router._wires[name] = SimpleNamespace(
                post=lambda path, body, name=name: post(name, body)
            )
        router.route(json.dumps({"new": ["http://new"], "stage": "x", **plan, **LEASE}).encode())
        for body in bodies:
            with suppress(Problem):
                await router.score(body)
            await asyncio.gather(*router._copies)
        return router.watch()[watch]

    return asyncio.run(go())


def scores(score, tier="allow"):
    return lambda body: (200, {"score": score(body["at"]), "tier": tier, "source": "model"})


@pytest.mark.parametrize(
    ("new", "tier", "crossed"),
    [
        (scores(lambda i: (i * 37 % 100) / 100), 0, 0),
        (scores(lambda i: (i * 37 % 100) / 300), 0, 0),  # another level, the same order
        (scores(lambda i: 1 - (i * 37 % 100) / 100), 0, 1),
        (scores(lambda i: (i * 37 % 100) / 100, "block"), 1, 0),
    ],
)
def test_a_shadow_compares_the_answers_to_the_same_request(new, tier, crossed):
    pods = {"http://old": scores(lambda i: (i * 37 % 100) / 100), "http://new": new}
    found = told_by(pods, {"shadow": True}, [raw(i, at=i) for i in range(60)], "new")["pairs"]
    assert found == {"n": 60, "tier": 60 * tier, "ranked": 30, "crossed": 30 * crossed}


def test_a_constant_ranks_nothing_and_an_answer_without_a_score_is_bad_and_no_pair():
    old = scores(lambda i: i / 100)
    pods = {"http://old": old, "http://new": scores(lambda i: 0.5)}
    bodies = [raw(i, at=i) for i in range(10)]
    found = told_by(pods, {"shadow": True}, bodies, "new")
    assert found["pairs"] == {"n": 10, "tier": 0, "ranked": 0, "crossed": 0}
    for none in (None, "0.5", 7, float("nan")):
        pods["http://new"] = scores(lambda i, none=none: none)
        found = told_by(pods, {"shadow": True}, bodies, "new")
        assert (found["pairs"]["n"], found["why"], found["scores"]) == (0, {"no score": 10}, [])


@pytest.mark.parametrize("plan", [{"share": 1.0}, {"shadow": True}])
def test_what_a_client_sends_again_is_counted_once(plan):
    def fails(body):
        return 500, {}

    pods = {"http://old": fails, "http://new": fails}
    bodies = [raw(i, payment=f"p-{i}") for i in (1, 1, 1, 1, 1, 1, 2)]
    assert told_by(pods, plan, bodies, "new")["why"] == {"500": 2}
    without = [raw(i) for i in (1, 1, 2)]
    assert told_by(pods, plan, without, "new")["n"] == 3  # nothing tells them apart
    if "shadow" in plan:
        assert told_by(pods, plan, bodies, "stable")["n"] == 2


def test_numbers_of_requests_are_forgotten_in_turn():
    arm, good = Seen(), Answer(200, b"", "", 5.0, 0.1)
    for i in (0, 0, *range(NUMBERS + 1), NUMBERS, 0):
        arm.add(good, f"p-{i}")
    assert (arm.n, len(arm.numbers)) == (NUMBERS + 2, NUMBERS)
