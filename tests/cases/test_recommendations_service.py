"""Case 09: the service under faults, attacks, load and a swap."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from recommendations_fakes import (
    DAY,
    NOW,
    Fake,
    fake,
    folder_of,
    goods,
    store_of,
    world,
    yesterdays,
)

from casebook.cases.recommendations.ab import Plan
from casebook.cases.recommendations.service import Service, app_from, asked, create_app
from casebook.cases.recommendations.store import FEATURES
from casebook.evaluate.experiments import srm
from casebook.evaluate.killing import watch
from casebook.features.store import Online
from casebook.serving import parts
from casebook.serving.app import Problem
from casebook.serving.eventlog import EventLog
from casebook.serving.load import Server, crashing, slow
from casebook.serving.replies import ask, summed

STOCK = world().stock[DAY]
PAGE = int(np.flatnonzero(STOCK)[5])


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@contextmanager
def service_of(tmp_path, models=None, **changes):
    log, online = EventLog(tmp_path / "shown.db"), store_of(tmp_path / "store.db")
    given = {"yesterday": yesterdays(), "clock": Clock(), "budget_ms": 2_000.0} | changes
    made = Service(models or {"control": fake()}, online, goods(), log=log, **given)
    try:
        yield made
    finally:
        made.close()
        log.close()
        online.close()


def query(**given) -> list[tuple[str, str]]:
    base = {"user_id": 7, "item_id": PAGE, "type": "similar", "count": 10} | given
    return [(name, str(value)) for name, value in base.items() if value is not None]


def shown(service: Service) -> list[dict]:
    assert service.shown.flush()
    return [json.loads(event.body) for event in service.shown._log.read(n=10_000)]


# Requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({"type": "other"}, 422, "one of similar, also, mail"),
        ({"item_id": None}, 422, "needs item_id"),
        ({"item_id": 300}, 404, "from 0 to 299"),
        ({"item_id": "-3"}, 422, "not a whole number"),
        ({"item_id": "1e2"}, 422, "not a whole number"),
        ({"item_id": "٣"}, 422, "not a whole number"),
        ({"user_id": "9" * 30}, 422, "not a whole number"),
        ({"user_id": 2**31}, 422, "from 0 to 2,147,483,647"),
        ({"type": "mail", "user_id": None}, 422, "needs user_id"),
        ({"count": 0}, 422, "from 1 to 20"),
        ({"count": 21}, 422, "from 1 to 20"),
        ({"count": ""}, 422, "not a whole number"),
        ({"cuont": 5}, 422, "is no parameter"),
    ],
)
def test_a_request_that_cannot_be_answered_says_what_is_wrong(given, status, says):
    with pytest.raises(Problem) as error:
        asked(query(**given), 300)
    told = error.value.told()
    assert error.value.status == status and says in told["what"] + told["do"]
    with pytest.raises(Problem, match="twice"):
        asked([*query(), ("count", "5")], 300)


def test_over_http_errors_are_objects_and_an_answer_has_what_a_page_needs(tmp_path):
    with service_of(tmp_path) as service, TestClient(create_app(service)) as client:
        bad = client.get("/recommendations", params={"type": "x"})
        assert bad.status_code == 422 and {*bad.json()} == {"error", "what", "do"}
        assert client.get("/nothing").status_code == 404
        got = client.get("/recommendations", params=dict(query()))
        body = got.json()
        assert got.status_code == 200 and len(body["items"]) == len(body["scores"]) == 10
        assert body["source"] == "model" and body["model"] == 1
        assert {"check", "store", "candidates", "ranking", "rules", "log"} <= {*body["ms"]}
        assert client.get("/health").json()["alarms"] == []
        assert client.post("/refresh").status_code == 404
        assert client.post("/back").status_code == 409


def test_the_page_the_mail_and_the_service_ask_one_function(tmp_path):
    with service_of(tmp_path) as service:
        for surface in ("similar", "also", "mail"):
            page = None if surface == "mail" else PAGE
            got = service.recommend(query(type=surface, item_id=page))
            own = np.array([-1 if page is None else page])
            expected = fake().recommend(np.array([7]), own, surface, STOCK)
            assert got["items"] == expected[0][0].tolist()
            assert got["scores"] == expected[1][0].tolist()


def test_the_pages_of_a_day_change_the_next_list_and_midnight_ends_them(tmp_path):
    with service_of(tmp_path) as service:
        first = service.recommend(query())["items"]
        for item in first[:2]:
            service.recommend(query(item_id=item))
        service.beat()
        service.clock.now += pd.Timedelta(seconds=1)
        later = service.recommend(query())["items"]
        assert not {*first[:2]} & {*later} and first[2:] == later[:8]
        assert service.recommend(query(user_id=8))["items"] != later
        service.clock.now = NOW.normalize() + pd.Timedelta(days=1)
        assert service.recommend(query())["items"] == first


def test_events_are_taken_once_and_followed_by_the_store(tmp_path):
    with service_of(tmp_path) as service:
        events = [{"event": f"e{i}", "kind": "view", "item": 3, "user": 7} for i in range(2)]
        asked_of = {"user": [7], "item": [3], "category": [goods().category[3]]}
        before = service.online.read(asked_of, NOW)
        assert service.take(json.dumps(events).encode()) == {"new": 2, "again": 0, "refused": []}
        assert service.take(json.dumps(events).encode())["again"] == 2
        after = service.online.read(asked_of, NOW + pd.Timedelta(seconds=1))
        for name in ("trend_1h", "session_category"):
            assert after[name][0] == before[name][0] + 2


def test_events_that_cannot_be_are_refused_one_by_one(tmp_path):
    bad = [
        {"event": 1, "kind": "look", "item": 3, "user": 7},
        {"event": 2, "kind": "view", "item": 300, "user": 7},
        {"event": 3, "kind": "view", "item": True, "user": 7},
        {"event": 4, "kind": "buy", "item": 3, "user": 7, "price": -1},
        {"event": 5, "kind": "buy", "item": 3, "user": 7, "price": 1e300},
        {"event": None, "kind": "view", "item": 3, "user": 7},
        {"event": 6, "kind": "view", "item": 3, "user": 7, "at": "2026-04-10T20:00Z"},
        {"event": 7, "kind": "view", "item": 3, "user": 7, "at": "2027-01-01"},
        {"event": 10, "kind": "view", "item": 3, "user": 7, "at": 1_775_850_000},
        {"event": 11, "kind": "view", "item": 3, "user": 7, "stock": 1},
        {"event": 12, "kind": "stock", "item": 3, "stock": 7},
        {"event": 13, "kind": "stock", "item": 3},
        "view",
    ]
    with service_of(tmp_path) as service:
        told = service.take(json.dumps([*bad, {"event": 9, "kind": "view", "item": 3}]).encode())
        assert told["new"] == 1 and len(told["refused"]) == len(bad)
        assert (service.stock == STOCK).all()
        with pytest.raises(Problem, match="not a list"):
            service.take(b"{}")
        assert len(service.recommend(query())["items"]) == 10


# Faults ---------------------------------------------------------------------------------------


def answering(change):
    """Return the fault that a model's items are others than they should be."""

    def fault(model):
        def answers(question):
            items, scores = model(question)
            return change(items), scores if change(items).ndim == 2 else scores[0, :1]

        return answers

    return fault


def nonsense(model):
    return lambda question: (np.full((1, 10), 5), np.zeros((1, 10)))


class Broken(Fake):
    """A recommender whose answers pass through a fault of the drill."""

    fault = staticmethod(lambda model: model)

    def recommend(self, *given, **more):
        return self.fault(lambda question: Fake.recommend(self, *given, **more))(None)


def broken(fault) -> Broken:
    model = fake()
    model.__class__ = type("Faulty", (Broken,), {"fault": staticmethod(fault)})
    return model


def planted(service: Service, fault) -> None:
    swap = service.swaps["control"]
    swap._current = swap.current._replace(value=broken(fault))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (crashing, "error"),
        (nonsense, "nonsense"),
        (answering(lambda items: items.astype(float)), "nonsense"),
        (answering(lambda items: np.where(items > 0, items, np.nan)), "nonsense"),
        (answering(lambda items: items[0, :1]), "nonsense"),
        (lambda m: slow(m, 200), "timeout"),
    ],
)
def test_when_the_model_fails_yesterdays_list_answers_with_todays_stock(tmp_path, fault, why):
    with service_of(tmp_path, budget_ms=60.0) as service:
        planted(service, fault)
        got = [service.recommend(query(user_id=i, item_id=i)) for i in range(20)]
        assert {one["source"] for one in got} == {"yesterday"}
        assert {one["why"] for one in got} <= {why, "breaker open"} and got[0]["why"] == why
        assert all(STOCK[one["items"]].all() and len(one["items"]) == 10 for one in got)
        assert all(i not in one["items"] for i, one in enumerate(got))
        assert "answers of a fall-back" in " ".join(service.health()["alarms"])


def test_a_model_that_is_well_again_answers_again(tmp_path):
    with service_of(tmp_path) as service:
        swap = service.swaps["control"]
        good = swap.current
        swap._current = good._replace(value=broken(crashing))
        assert [service.recommend(query())["source"] for _ in range(12)] == ["yesterday"] * 12
        assert service.breaker.state == "open"
        swap._current = good
        service.breaker._clock = lambda: 1e12
        assert service.recommend(query())["source"] == "model"


def test_without_lists_of_the_last_48_hours_the_bestsellers_answer(tmp_path):
    for hours, source in ((47.9, "yesterday"), (48.1, "bestsellers")):
        with service_of(tmp_path, yesterday=yesterdays(hours)) as service:
            planted(service, crashing)
            got = service.recommend(query())
            assert got["source"] == source and STOCK[got["items"]].all()


def test_without_a_store_the_list_knows_no_session_and_health_says_so(tmp_path):
    with service_of(tmp_path) as service:
        before = service.recommend(query())["items"]
        service.online.close()
        after = service.recommend(query())
        assert after["source"] == "model" and after["items"] == before
        assert "store: ProgrammingError" in service.trouble
        assert "store cannot be read" in service.health()["alarms"][0]
        with pytest.raises(Problem, match="store"):
            service.take(b'[{"event": 1, "kind": "stock", "item": 3, "stock": 0}]')


def test_pages_wait_while_the_store_takes_none_and_a_clock_that_was_set_back_is_told(tmp_path):
    with service_of(tmp_path) as service:
        service.beat()
        service.clock.now -= pd.Timedelta(hours=1)
        service.recommend(query())
        service.beat()
        assert "is before it" in service.trouble and len(service._pages) == 1
        with pytest.raises(Problem, match="store"):
            service.take(b'[{"event": 1, "kind": "view", "item": 3}]')
        service.clock.now += pd.Timedelta(hours=2)
        service.beat()
        assert not service._pages
        read = service.online.read({"user": [7]}, service.clock.now + pd.Timedelta(seconds=1))
        assert PAGE in read["recent_pages"][0]


def test_events_that_wait_for_a_locked_store_keep_no_list_waiting(tmp_path):
    locked, over, got = threading.Event(), threading.Event(), []

    def lock(service: Service) -> None:
        with service._lock:
            locked.set()
            over.wait(12)

    with service_of(tmp_path) as service, TestClient(create_app(service)) as client:
        one = json.dumps([{"event": 1, "kind": "view", "item": 3}])
        calls = [lambda: got.append(client.post("/events", content=one).status_code)] * 40
        threads = [threading.Thread(target=lock, args=(service,))]
        threads += [threading.Thread(target=call) for call in calls]
        threads[0].start()
        assert locked.wait(5)
        for thread in threads[1:]:
            thread.start()
        threading.Event().wait(0.3)
        listed = client.get("/recommendations", params=dict(query())).json()
        given_up = len(got)
        for thread in threads[1:]:
            thread.join(10)
        over.set()
        for thread in threads:
            thread.join()
        assert listed["source"] == "model" and given_up == 0 and got == [503] * 40


def test_a_list_that_is_short_is_filled_with_bestsellers_in_stock(tmp_path):
    with service_of(tmp_path) as service:
        service.stock = STOCK & (np.arange(300) < 40)
        planted(service, lambda model: lambda q: tuple(part[:, :4] for part in model(q)))
        got = service.recommend(query())
        assert got["source"] == "model" and len({*got["items"]}) == 10
        assert service.stock[got["items"]].all() and PAGE not in got["items"]


def test_nothing_is_sold_out_by_whatever_source_and_a_cached_list_follows_the_stock(tmp_path):
    with service_of(tmp_path) as service:
        anonymous = query(user_id=None)
        first, second = service.recommend(anonymous), service.recommend(anonymous)
        assert (first["source"], second["source"]) == ("model", "cache")
        assert first["items"] == second["items"]
        gone = first["items"][:4]
        sold = [
            {"event": f"s{i}", "kind": "stock", "item": i, "stock": 0, "at": str(NOW)} for i in gone
        ]
        assert service.take(json.dumps(sold).encode())["new"] == 4
        cached = service.recommend(anonymous)
        assert cached["source"] == "cache" and len(cached["items"]) == 10
        assert cached["items"][:6] == first["items"][4:]
        planted(service, crashing)
        fallen = service.recommend(query())
        assert fallen["source"] == "yesterday" and not {*gone} & {*fallen["items"]}
        service.cache._clock = lambda: 1e12
        assert service.recommend(anonymous)["source"] == "yesterday"


def test_a_cached_list_is_of_nobody_of_its_page_and_kind_and_of_the_model_that_serves(tmp_path):
    new = fake(5.0, hours=1.0)
    with service_of(tmp_path, load=lambda: new) as service:
        own, nobody = service.recommend(query()), service.recommend(query(user_id=None))
        assert nobody["source"] == "model" and nobody["items"] != own["items"]
        assert service.recommend(query())["source"] == "model"
        others = [{"item_id": PAGE + 1}, {"type": "also"}]
        assert [service.recommend(query(user_id=None, **o))["source"] for o in others] == [
            "model",
            "model",
        ]
        assert service.recommend(query(user_id=None))["source"] == "cache"
        assert service.refresh()["swapped"]
        after = service.recommend(query(user_id=None))
        assert after["source"] == "model" and after["items"] != nobody["items"]


def test_of_two_messages_of_the_warehouse_the_stock_after_both_is_kept(tmp_path):
    """Planted: the first one's reading of the stock lasts until the second one is in."""
    with service_of(tmp_path) as service:
        read, second, first = service.online.read, threading.Event(), threading.Event()

        def slow_read(*given):
            found = read(*given)
            if not first.is_set():
                first.set()
                second.wait(0.3)
            return found

        def take(item: int, after: int) -> None:
            at = str(NOW + pd.Timedelta(seconds=after))
            service.clock.now = NOW + pd.Timedelta(seconds=after)
            one = {"event": f"s{item}", "kind": "stock", "item": item, "stock": 0, "at": at}
            service.take(json.dumps([one]).encode())

        service.online.read = slow_read
        thread = threading.Thread(target=take, args=(PAGE, 1))
        thread.start()
        assert first.wait(5)
        take(PAGE + 1, 2)
        second.set()
        thread.join()
        assert not service.stock[[PAGE, PAGE + 1]].any()


def test_a_service_is_warm_before_it_answers_and_nobody_is_shown_anything(tmp_path):
    asked_for = []
    with service_of(tmp_path) as service:
        planted(service, lambda model: lambda q: asked_for.append(1) or model(q))
        service.warm(5)
        assert len(asked_for) == 5 and shown(service) == []


def test_what_was_shown_is_in_the_log_and_a_log_that_fails_stops_no_answer(tmp_path):
    with service_of(tmp_path) as service:
        told = [service.recommend(query(user_id=user)) for user in range(5)]
        rows = shown(service)
        assert [row["items"] for row in rows] == [one["items"] for one in told]
        assert {row["list"] for row in rows} == {one["list"] for one in told}
        assert all(row["at"] == str(NOW) and row["arm"] == "control" for row in rows)
        service.shown._log.append = None
        assert service.recommend(query())["source"] == "model"
        assert not service.shown.flush(0.2) and "log:" in " ".join(service.health()["alarms"])


def test_alarms_of_age_come_at_their_hour(tmp_path):
    with service_of(tmp_path, {"control": fake(hours=47.0)}) as service:
        service.beat()
        assert service.health()["alarms"] == []
        service.clock.now += pd.Timedelta(seconds=61)
        assert "stream features" in " ".join(service.health()["alarms"])
        service.clock.now += pd.Timedelta(hours=1)
        service.beat()
        [alarm] = service.health()["alarms"]
        assert alarm.startswith("age of the model, hours")
        service.clock.now = NOW - pd.Timedelta(hours=60)  # a clock that was set back
        assert any("set the clock right" in one for one in service.health()["alarms"])


# The experiment -------------------------------------------------------------------------------


def test_arms_are_the_hash_of_the_user_and_a_stop_holds_from_the_next_request_on(tmp_path):
    plan = Plan()
    models = {"control": fake(), "treatment": fake(5.0)}
    with service_of(tmp_path, models) as service:
        got = {user: service.recommend(query(user_id=user)) for user in range(90)}
        assert all(one["arm"] == plan.arm(user) for user, one in got.items())
        counts = {arm: sum(one["arm"] == arm for one in got.values()) for arm in plan.shares}
        assert srm(counts, plan.shares).p > 0.001
        treated = next(user for user, one in got.items() if one["arm"] == "treatment")
        assert service.recommend(query(user_id=None))["experiment"] == ""
        why = watch(-0.3, 0.02)
        assert service.stop(why.encode())["stopped"] == why
        again = service.recommend(query(user_id=treated))
        assert again["arm"] == "control" and again["items"] != got[treated]["items"]
        assert service.health()["stopped"].startswith("revenue -30.0 %")


def test_a_treatment_that_fails_takes_no_list_from_the_control(tmp_path):
    with service_of(tmp_path, {"control": fake(), "treatment": broken(crashing)}) as service:
        got = [service.recommend(query(user_id=user)) for user in range(60)]
        sources = {(one["arm"], one["source"]) for one in got}
        assert sources == {("control", "model"), ("treatment", "yesterday")}
        assert service.breakers["treatment"].state == "open"


def test_an_experiment_that_was_stopped_is_stopped_after_a_restart(tmp_path):
    folder = folder_of(tmp_path)
    parts.save(folder, {"treatment": fake(5.0)})
    for stopped, arms in (("", {"control", "treatment"}), ("revenue fell", {"control"})):
        service = app_from(str(folder), str(NOW), 5_000).state.service
        assert service.stopped == stopped
        assert {service.recommend(query(user_id=user))["arm"] for user in range(20)} == arms
        service.stop(b"revenue fell")
        service.close()


# The swap, and load from another process ------------------------------------------------------


def test_a_bad_model_is_refused_and_the_old_one_answers_and_the_way_back_is_open(tmp_path):
    new = [fake(1.0, hours=10.0)]
    with service_of(tmp_path, load=lambda: new[0]) as service:
        before = service.recommend(query())["items"]
        assert service.refresh()["swapped"]
        after = service.recommend(query())
        assert after["model"] == 2 and after["items"] != before
        for model, says in (
            (broken(crashing), "lists: RuntimeError: planted"),
            (broken(nonsense), "lists: "),
            (fake(1.0, hours=30.0), "age: it ends on"),
            (fake(-1e6, hours=1.0), "resemblance: "),
        ):
            new[0] = model
            told = service.refresh()
            assert not told["swapped"] and told["why"].startswith(says), told
            assert service.recommend(query())["items"] == after["items"]
        assert service.back() == {"version": 1}
        assert service.recommend(query())["items"] == before


def test_a_good_model_replaces_a_broken_one_and_one_without_its_users_none(tmp_path):
    class Pages(Fake):
        def recommend(self, users, *given, **more):
            return super().recommend(np.where(users < 0, users, 10**6), *given, **more)

    new = [fake(1.0, hours=10.0)]
    for fault in (crashing, nonsense):
        with service_of(tmp_path, load=lambda: new[0]) as service:
            planted(service, fault)
            assert service.refresh()["swapped"]
            assert service.recommend(query())["source"] == "model"
            pages = fake(1.0, hours=5.0)
            pages.__class__ = Pages
            new.insert(0, pages)
            assert service.refresh()["why"].startswith("lists: IndexError")
            new.pop(0)


def test_a_refresh_also_takes_the_lists_of_the_last_night(tmp_path):
    folder = folder_of(tmp_path)
    service = app_from(str(folder), str(NOW), 5_000).state.service
    yesterdays(hours=1.0).save(folder / "lists")
    assert service.refresh()["swapped"] and service.yesterday.made == NOW - pd.Timedelta(hours=1)
    (folder / "lists").write_bytes(b"cut off")
    service.refresh()
    assert service.yesterday.made == NOW - pd.Timedelta(hours=1)
    service.close()


def test_a_request_ends_with_the_version_with_which_it_began(tmp_path):
    with service_of(tmp_path, load=lambda: fake(5.0, hours=1.0)) as service:
        alone = service.recommend(query(user_id=None, item_id=PAGE))["items"]
        service.cache.clear()
        get, service.cache.get = service.cache.get, lambda *key: service.refresh() and None
        got = service.recommend(query(user_id=None))
        service.cache.get = get
        assert got["model"] == 1 and got["items"] == alone
        after = service.recommend(query(user_id=None))
        assert after["model"] == 2 and after["source"] == "model" and after["items"] != alone


ARGUMENTS = {"now": str(NOW), "budget_ms": 5_000}
FACTORY = "casebook.cases.recommendations.service:app_from"
QUERIES = [
    {"user_id": u % 300, "item_id": int(i), "type": ("similar", "also")[u % 2]}
    for u, i in enumerate(np.flatnonzero(STOCK)[np.arange(280) % 250])
]


def logged(folder) -> set[str]:
    log = EventLog(folder / "shown.db")
    rows = {json.loads(event.body)["list"] for event in log.read(n=1_000)}
    log.close()
    return rows


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A service that was loaded while a good and a bad model were offered, and then killed."""
    folder, offers = folder_of(tmp_path_factory.mktemp("loaded")), []
    with Server(FACTORY, ARGUMENTS | {"folder": str(folder)}) as server:

        def passed(i: int) -> None:
            if i in (80, 160):
                old = (folder / "model.pickle").read_bytes()
                parts.save(folder, {"model": fake(3.0 if i == 80 else np.nan, hours=2.0)})
                told = httpx.post(f"{server.url}/refresh", trust_env=False, timeout=10).json()
                offers.append(told)
                if not told["swapped"]:
                    (folder / "model.pickle").write_bytes(old)

        got = ask(f"{server.url}/recommendations", QUERIES, rps=80, passed=passed)
        threading.Event().wait(0.5)  # what the log gathers in is at most 50 ms old
        server.kill()
    return folder, got, offers


def test_a_swap_under_load_fails_no_request_and_mixes_no_answer(loaded):
    _, got, offers = loaded
    assert got.failed == 0 and [told["swapped"] for told in offers] == [True, False]
    assert offers[1]["version"] == 2 and offers[1]["why"].startswith("lists: ")
    bodies = [json.loads(body) for body in got.bodies]
    assert {body["model"] for body in bodies} == {1, 2}
    models = {1: fake(), 2: fake(3.0)}
    for sent, body in zip(QUERIES, bodies, strict=True):
        assert body["source"] == "model", body["why"]
        given = np.array([sent["user_id"]]), np.array([sent["item_id"]])
        alone = models[body["model"]].recommend(*given, sent["type"], STOCK)
        assert len({*body["items"]} & {*alone[0][0].tolist()}) >= 8  # a session may move some
    table = summed(pd.DataFrame([body["ms"] for body in bodies]).fillna(0.0))
    assert table.loc["sum of stages", "mean"] == pytest.approx(table.loc["whole", "mean"])
    assert table.loc["sum of stages", "p99"] > table.loc["whole", "p99"]


def test_a_killed_service_has_logged_all_and_starts_again_with_the_pages_of_the_day(loaded):
    folder, got, _ = loaded
    assert logged(folder) == {json.loads(body)["list"] for body in got.bodies}
    kept = Online(FEATURES, folder / "features.db")
    users = [sent["user_id"] for sent in QUERIES[:40]]
    pages = kept.read({"user": users}, NOW + pd.Timedelta(hours=1))["recent_pages"]
    assert all(s["item_id"] in seen for s, seen in zip(QUERIES[:40], pages, strict=True))
    kept.close()
    with Server(FACTORY, ARGUMENTS | {"folder": str(folder)}) as server:
        again = ask(f"{server.url}/recommendations", QUERIES[:40], rps=80, concurrency=4)
    assert again.failed == 0
    for sent, seen, body in zip(QUERIES, pages, map(json.loads, again.bodies), strict=False):
        recent = np.array([[*seen, *[-1] * (5 - len(seen))]])
        given = np.array([sent["user_id"]]), np.array([sent["item_id"]])
        alone = fake(3.0).recommend(*given, sent["type"], STOCK, recent=recent)
        assert body["items"] == alone[0][0].tolist()


def test_a_folder_without_lists_starts_and_one_without_a_model_says_so(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "lists").write_bytes(b"cut off")
    service = app_from(str(folder), str(NOW)).state.service
    assert any("run the night" in one for one in service.health()["alarms"])
    service.close()
    (folder / "model.pickle").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"model\.pickle"):
        app_from(str(folder), str(NOW))
