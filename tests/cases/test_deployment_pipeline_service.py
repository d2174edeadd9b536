"""Case 21: a pod's three probes, its contract, its way back, and a swap under load."""

from __future__ import annotations

import json
import math
import threading
import time

import numpy as np
import pytest

from casebook.cases.deployment_pipeline import measured, service, steps
from casebook.serving.app import Problem

PATIENCE = 120.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    where = tmp_path_factory.mktemp("models")
    rows = measured.history(60)
    for name, seed in (("first", 0), ("second", 1)):
        (where / name).mkdir()
        settings = {**steps.SETTINGS, "rounds": 10}
        steps.train(rows[rows["at"] < rows["at"].max()], seed, settings).save(where / name)
    return where


def started(folder, **options):
    pod = service.Service(folder, **options)
    until = time.monotonic() + PATIENCE
    while pod.swap is None and not pod.trouble and time.monotonic() < until:
        time.sleep(0.01)
    return pod


@pytest.fixture(scope="module")
def pod(folders):
    return started(folders / "first")


def body(pod, i=0, **changes):
    probe = pod.swap.current.value.model.meta["probes"][i]
    return json.dumps({**service.body_of(probe, f"p{i}", "c1"), **changes}).encode()


def refused(call, *given):
    with pytest.raises(Problem) as told:
        call(*given)
    assert told.value.what
    assert told.value.do
    return told.value


def test_a_slow_load_lives_has_not_started_and_is_not_ready(folders):
    go = threading.Event()

    def load(folder):
        go.wait(PATIENCE)
        return service.load_model(folder)

    pod = service.Service(folders / "first", load)
    assert pod.live()["live"]
    for call in (pod.startup, pod.ready, lambda: pod.score(b"{}")):
        assert refused(call).status == 503
    go.set()
    until = time.monotonic() + PATIENCE
    while pod.swap is None and time.monotonic() < until:
        time.sleep(0.01)
    assert pod.startup()["started"]
    assert pod.ready() == {"ready": True, "version": "first"}
    pod.drain()
    assert refused(pod.ready).error == "draining"
    assert pod.startup()["started"]
    assert pod.live()["live"]
    assert pod.score(body(pod))["source"] == "model"  # what is still sent is answered


def test_a_load_that_fails_asks_for_a_restart(folders, tmp_path):
    assert "FileNotFoundError" in refused(started(tmp_path / "none").live).what
    meta = json.loads((folders / "first" / "meta.json").read_text())
    meta["probes"][0]["score"] = 0.5
    (tmp_path / "model.txt").write_text((folders / "first" / "model.txt").read_text())
    for changed, says in ((meta, "1 of 20 probes"), (meta | {"probes": []}, "it has no probes")):
        (tmp_path / "meta.json").write_text(json.dumps(changed))
        altered = started(tmp_path)
        assert says in refused(altered.live).what
        assert refused(altered.startup).status == refused(altered.ready).status == 503


def test_answers_are_those_of_the_model_and_name_it(pod):
    model = pod.swap.current.value.model
    for i, probe in enumerate(model.meta["probes"]):
        told = pod.score(body(pod, i))
        tier = str(steps.tiers([probe["score"]], [probe["amount"]])[0])
        assert told == {
            "payment": f"p{i}",
            "tier": tier,
            "score": probe["score"],
            "source": "model",
            "why": "",
            "version": "first",
        }
    seen = pod.metrics()
    assert sum(row["requests"] for row in seen["answers"]) == sum(seen["latency_ms"].values())
    assert {row["version"] for row in seen["answers"]} == {"first"}


BAD = {
    "no JSON": (b"{", 400, "no JSON"),
    "a list": (b"[]", 422, "no object"),
    "nothing": (b"{}", 422, "payment is missing"),
    "twice": (b'{"payment": "a", "payment": "b"}', 400, "no JSON"),
    "NaN": ({"amount": math.nan}, 400, "no JSON"),
    "words": ({"amount": "much"}, 422, "amount is 'much'"),
    "a boolean": ({"online": True}, 422, "online is True"),
    "null": ({"speed": None}, 422, "speed is None"),
    "a million": ({"amount": 1e6}, 422, "from -50000 to 50000"),
    "a huge whole number": ({"amount": 10**400}, 422, "from -50000 to 50000"),
    "a share of 2": ({"terminal_risk_30d": 2}, 422, "from 0 to 1"),
    "a long name": ({"card": "c" * 65}, 422, "1 to 64 characters"),
    "a field too many": ({"score": 0.1}, 422, "['score'] is no field"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_with_what_is_wrong(pod, name):
    sent, status, says = BAD[name]
    problem = refused(pod.score, sent if isinstance(sent, bytes) else body(pod, **sent))
    assert problem.status == status
    assert says in problem.what


def _answers(folders, score, budget_ms):
    def load(folder):
        model = steps.Model.load(folder)
        return service.Served("bad", model, lambda payment: score(model, payment))

    pod = started(folders / "first", load=load, budget_ms=budget_ms)
    return pod, pod.score(body(pod))


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (lambda model, payment: math.nan, "nonsense"),
        (lambda model, payment: 1.5, "nonsense"),
        (lambda model, payment: np.array([0.1]), "nonsense"),
        (lambda model, payment: 1 / 0, "error"),
        (lambda model, payment: time.sleep(1) or 0.1, "timeout"),
    ],
)
def test_the_rules_answer_when_the_model_does_not(folders, score, why):
    pod, told = _answers(folders, score, 50.0)
    probe = pod.swap.current.value.model.meta["probes"][0]
    assert (told["source"], told["why"], told["score"]) == ("rules", why, None)
    assert told["tier"] == steps.rule_for(probe)
    assert told["version"] == "bad"


def test_a_model_that_hangs_costs_the_budget_at_first_and_then_nothing(folders):
    pod, told = _answers(folders, lambda model, payment: time.sleep(5), 60.0)
    took = []
    for _ in range(14):
        begin = time.monotonic()
        told = pod.score(body(pod))
        took.append(time.monotonic() - begin)
    assert told["why"] == "breaker open"
    assert took[-1] < 0.05 < took[0] < 1.0
    assert service.BUDGET_MS == 2_000


def test_a_crowd_waits_for_a_thread_and_opens_no_breaker(folders):
    pod = started(folders / "first")
    good = pod.swap.current.value.model.one
    pod.swap.current.value.score = lambda asked: time.sleep(0.05) or good(asked)
    told, raw = [], body(pod)
    crowd = [threading.Thread(target=lambda: told.append(pod.score(raw))) for _ in range(40)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert {(one["source"], one["why"]) for one in told} == {("model", "")}
    assert pod.breaker.snapshot()["state"] == "closed"


def test_what_changes_a_pod_is_not_on_the_port_of_the_customers(pod):
    public, admin = (
        {one.path for one in service.pages(pod, **{other: False}).routes}
        for other in ("admin", "public")
    )
    assert {"/score", "/ready"} <= public
    assert not {"/swap", "/drain"} & public
    assert {"/swap", "/drain", "/ready"} <= admin and "/score" not in admin


def test_a_pod_whose_threads_all_hang_asks_for_a_restart(folders):
    pod, _ = _answers(folders, lambda model, payment: time.sleep(20), 20.0)
    pod.breaker.failures = 10**6  # as if it never opened
    for _ in range(pod.breaker.snapshot()["threads"]):
        pod.score(body(pod))
    assert refused(pod.live).error == "hung"


def test_a_swap_under_load_fails_no_request_and_mixes_no_versions(folders):
    pod = started(folders / "first")
    scores = {
        name: steps.Model.load(folders / name).one(pod.swap.current.value.model.meta["probes"][0])
        for name in ("first", "second")
    }
    assert scores["first"] != scores["second"]
    sent, seen, wrong, stop = body(pod), set(), [], threading.Event()

    def ask():
        while not stop.is_set():
            told = pod.score(sent)
            seen.add(told["version"])
            if told["score"] != scores[told["version"]]:
                wrong.append(told)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in ("second", "first", "second"):
        assert pod.take(json.dumps({"version": name}).encode())["version"] == name
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert (seen, wrong) == ({"first", "second"}, [])


def test_a_swap_to_a_bad_model_is_refused_and_the_old_one_serves(folders):
    pod = started(folders / "first")
    spoiled = folders / "spoiled"
    spoiled.mkdir()
    text = (folders / "second" / "model.txt").read_text()
    meta = json.loads((folders / "first" / "meta.json").read_text())
    damaged = text.replace("leaf_value=", "leaf_value=1", 1)[: len(text) // 2]
    for written, told, says in (
        (text, meta | {"sha256": steps._hash(text)}, "probes: "),
        (text, meta, "is not what was saved"),
        (damaged, meta, "is not what was saved"),  # LightGBM would end the process
    ):
        (spoiled / "model.txt").write_text(written)
        (spoiled / "meta.json").write_text(json.dumps(told))
        problem = refused(pod.take, b'{"version": "spoiled"}')
        assert problem.status == 409
        assert says in problem.what
    assert "build: FileNotFoundError" in refused(pod.take, b'{"version": "none"}').what
    for name in ("../models/second", "..", "", 7, None):
        assert refused(pod.take, json.dumps({"version": name}).encode()).status == 422
    assert pod.score(body(pod))["version"] == "first"


def test_the_command_of_the_smoke_test_passes_and_finds_another_model(folders, capsys):
    from casebook.serving.load import Server

    with Server(measured.POD, {"folder": str(folders / "first")}, patience=300) as server:
        ask = ["smoke", "--url", server.url, "--model"]
        assert service.main([*ask, str(folders / "first")]) == 0
        assert "as the training did" in capsys.readouterr().out
        assert service.main([*ask, str(folders / "second")]) == 1
        assert "and not the score" in capsys.readouterr().out
