"""Case 09: the service under faults, attacks, load and a swap."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

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

from casebook.cases.recommendations.monitor import before_it_serves
from casebook.cases.recommendations.requests import Goods, placed
from casebook.cases.recommendations.service import Service, app_from, asked, create_app
from casebook.cases.recommendations.store import FEATURES
from casebook.evaluate.experiments import srm
from casebook.features.store import Online
from casebook.serving import parts
from casebook.serving.app import Problem
from casebook.serving.eventlog import EventLog
from casebook.serving.lists import filled
from casebook.serving.load import Server
from casebook.serving.replies import ask, summed
from casebook.serving.shelf import Shelf
from casebook.serving.steady import Steady

STOCK = world().stock[DAY]
PAGE = int(np.flatnonzero(STOCK)[5])
SECOND, HOURS = pd.Timedelta(seconds=1), pd.Timedelta(hours=1)


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@contextmanager
def service_of(tmp_path, models=None, online=None, **changes):
    tmp_path.mkdir(exist_ok=True)
    log, online = EventLog(tmp_path / "shown.db"), online or store_of(tmp_path / "store.db")
    given = {"yesterday": yesterdays(), "clock": Clock(), "budget_ms": 2_000.0, "goods": goods()}
    made = Service(models or {"control": fake()}, online, log=log, **given | changes)
    try:
        yield made
    finally:
        made.close()
        log.close()
        online.close()


@contextmanager
def started(folder, clock=str(NOW)):
    service = app_from(str(folder), clock, 5_000).state.service
    try:
        yield service
    finally:
        service.close()


def query(**given) -> list[tuple[str, str]]:
    base = {"user_id": 7, "item_id": PAGE, "type": "similar", "count": 10} | given
    return [(name, str(value)) for name, value in base.items() if value is not None]


def send(service: Service, *events) -> dict:
    return service.take(json.dumps(events).encode())


def stock_of(item: int, there: int, **more) -> dict:
    return {"event": f"s{item} {there}", "kind": "stock", "item": item, "stock": there} | more


def planted(service: Service, fault: str) -> None:
    swap = service.arms.swaps["control"]
    swap._current = swap.current._replace(value=fake(fault=fault))


def alarms(service: Service) -> str:
    return " | ".join(service.health()["alarms"])


# Requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({"type": "other"}, 422, "one of similar, also, mail"),
        ({"item_id": None}, 422, "needs item_id"),
        ({"item_id": 300}, 404, "from 0 to 299"),
        ({"item_id": "-3"}, 422, "not a whole number"),
        ({"item_id": "٣"}, 422, "not a whole number"),
        ({"user_id": "9" * 30}, 422, "not a whole number"),
        ({"user_id": 2**31}, 422, "from 0 to 2,147,483,647"),
        ({"type": "mail", "user_id": None}, 422, "needs user_id"),
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


def test_over_http_errors_are_objects_and_an_answer_is_that_of_the_one_function(tmp_path):
    with service_of(tmp_path) as service, TestClient(create_app(service)) as client:
        bad = client.get("/recommendations", params={"type": "x"})
        assert bad.status_code == 422 and {*bad.json()} == {"error", "what", "do"}
        assert client.get("/nothing").status_code == client.post("/refresh").status_code == 404
        assert client.post("/back").status_code == 409
        assert client.get("/health").json()["alarms"] == []
        for surface, page in (("similar", PAGE), ("also", PAGE), ("mail", None)):
            sent = dict(query(type=surface, item_id=page))
            body = client.get("/recommendations", params=sent).json()
            own = np.array([-1 if page is None else page])
            items, scores = fake().recommend(np.array([7]), own, surface, STOCK)
            assert (body["items"], body["scores"]) == (items[0].tolist(), scores[0].tolist())
            assert body["source"] == "model" and body["model"] == 1
            assert {"check", "store", "candidates", "ranking", "rules", "log"} <= {*body["ms"]}


def test_the_pages_of_a_day_change_the_next_list_and_midnight_ends_them(tmp_path):
    with service_of(tmp_path) as service:
        first = service.recommend(query())["items"]
        for item in first[:2]:
            service.recommend(query(item_id=item))
        service.beat()
        later = service.recommend(query())["items"]
        assert not {*first[:2]} & {*later} and first[2:] == later[:8]
        assert service.recommend(query(user_id=8))["items"] != later
        service.clock.now = NOW.normalize() + 24 * HOURS
        assert service.recommend(query())["items"] == first


def test_events_are_taken_once_and_those_that_cannot_be_are_refused_one_by_one(tmp_path):
    view = {"kind": "view", "item": 3, "user": 7}
    good = [view | {"event": f"e{i}"} for i in range(2)]
    bad = [
        view | {"event": 1, "kind": "look"},
        view | {"event": 2, "item": 300},
        view | {"event": 3, "item": True},
        view | {"event": 4, "kind": "buy", "price": -1},
        view | {"event": 5, "kind": "buy", "price": 1e300},
        view | {"event": None},
        view | {"event": 6, "at": "2026-04-10T20:00Z"},
        view | {"event": 7, "at": "2027-01-01"},
        view | {"event": 10, "at": 1_775_850_000},
        view | {"event": 11, "stock": 1},
        {"event": 12, "kind": "stock", "item": 3, "stock": 7},
        {"event": 13, "kind": "stock", "item": 3},
        "view",
    ]
    with service_of(tmp_path) as service:
        asked_of = {"user": [7], "item": [3], "category": [goods().category[3]]}
        before = service.online.read(asked_of, NOW)
        told = send(service, *good, *bad)
        assert told["new"] == 2 and len(told["refused"]) == len(bad)
        assert send(service, *good) == {"new": 0, "again": 2, "refused": []}
        after = service.online.read(asked_of, NOW + SECOND)
        for name in ("trend_1h", "session_category"):
            assert after[name][0] == before[name][0] + 2
        assert (service.stock == STOCK).all()
        with pytest.raises(Problem, match="not a list"):
            service.take(b"{}")


# Faults of the model --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("crash", "error"),
        ("twice", "nonsense"),
        ("floats", "nonsense"),
        ("nans", "nonsense"),
        ("flat", "nonsense"),
        ("slow", "timeout"),
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
        assert service.arms.breakers[
            "control"
        ].state == "open" and "answers of a fall-back" in alarms(service)
        planted(service, "")
        service.arms.breakers["control"]._clock = lambda: 1e12
        if fault != "slow":
            assert service.recommend(query())["source"] == "model"


@pytest.mark.parametrize(
    ("fault", "hours", "source"),
    [("crash", 47.9, "yesterday"), ("crash", 48.1, "bestsellers"), ("short", 20.0, "model")],
)
def test_what_fills_a_list_is_in_stock_stands_once_and_has_three_of_a_brand(
    tmp_path, fault, hours, source
):
    """Without a cap of the fall-back, the twenty best sellers are of one brand here."""
    brand = np.where(np.arange(300) >= 280, 0, 1 + np.arange(300) % 60)
    given = {"yesterday": yesterdays(hours), "goods": goods()._replace(brand=brand)}
    with service_of(tmp_path, **given) as service:
        for fewer in (False, True):
            service.stock = STOCK & ~(fewer & (np.arange(300) < 250))
            planted(service, fault)
            got = service.recommend(query(count=10))
            assert got["source"] == source and len({*got["items"]}) == 10
            assert service.stock[got["items"]].all() and PAGE not in got["items"]
            own = 4 if source == "model" else 0
            filled = brand[got["items"][own:]]
            assert (filled == 0).sum() <= 3 and len(filled) >= 6
        service.stock = STOCK & (np.arange(300) >= 288)  # nothing else is left
        left = service.recommend(query())["items"]
        assert len(left) == min(10, service.stock.sum()) and service.stock[left].all()


def test_what_fills_a_list_is_looked_up_only_if_it_is_needed_and_is_the_same(tmp_path):
    """The list of all bestsellers in stock, made for each request, is the former definition."""
    rng, brand = np.random.default_rng(3), np.arange(300) % 7
    with service_of(tmp_path, goods=goods()._replace(brand=brand)) as service:
        ask, best = asked(query(), 300), service.goods.bestsellers
        for source in ("model", "yesterday") * 10:
            stock = rng.random(300) < rng.choice([0.02, 0.1, 0.9])
            found = rng.choice(300, rng.integers(0, 11), replace=False).tolist()
            more = [i for i in best[stock[best]].tolist() if i != PAGE]
            own = [] if source == "yesterday" else found
            whole = filled(own, found + more if source == "yesterday" else more, 10, brand)
            assert service._filled(found, source, ask, stock) == whole


@pytest.mark.parametrize("hangs", [False, True])
def test_lists_are_made_one_after_the_other_and_a_hanging_one_holds_up_no_arm(tmp_path, hangs):
    """Without turns a moment's stall is followed by a second of fall-backs."""
    models, working, most = {"control": fake(), "treatment": fake(5.0)}, [], []

    def noted(*given, model, **more):
        working.append(1)
        most.append(len(working))
        threading.Event().wait(0.02)
        working.pop()
        return Fake.recommend(model, *given, **more)

    for model in models.values():
        model.recommend = partial(noted, model=model)
    with service_of(tmp_path, models, budget_ms=600.0 if hangs else 9_000.0) as service:
        if hangs:
            planted(service, "hang")
        got, who = [], range(6)
        calls = [threading.Thread(target=lambda u=u: got.append(answered(service)(u))) for u in who]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        made = {(one["arm"], one["source"]) for one in got}
        assert made == {("control", "yesterday" if hangs else "model"), ("treatment", "model")}
        assert hangs or max(most) == 1


def test_a_cached_list_is_of_nobody_of_its_page_kind_and_model_and_follows_the_stock(tmp_path):
    with service_of(tmp_path, folder=tmp_path) as service:
        own, nobody = service.recommend(query()), service.recommend(query(user_id=None))
        assert nobody["source"] == "model" and nobody["items"] != own["items"]
        for other in ({"user_id": 7}, {"item_id": PAGE + 1}, {"type": "also"}):
            assert service.recommend(query(**{"user_id": None} | other))["source"] == "model"
        gone = nobody["items"][:4]
        send(service, *(stock_of(i, 0, at=str(NOW)) for i in gone))
        cached = service.recommend(query(user_id=None))
        assert cached["source"] == "cache" and len(cached["items"]) == 10
        assert cached["items"][:6] == nobody["items"][4:] and not {*gone} & {*cached["items"]}
        Shelf(tmp_path).offer(fake(5.0, hours=1.0))
        assert service.refresh()["swapped"]
        after = service.recommend(query(user_id=None))
        assert after["source"] == "model" and after["items"] != cached["items"]
        planted(service, "crash")
        service.cache._clock = lambda: 1e12
        assert not {*gone} & {*service.recommend(query(user_id=None))["items"]}


# Faults of the store, of clocks and of the log ------------------------------------------------


def test_without_a_store_the_list_knows_no_session_and_what_waits_is_kept(tmp_path):
    """Closed it stays so; a deleted file is opened anew, and takes what waited."""
    with service_of(tmp_path / "a") as service:
        before = service.recommend(query())["items"]
        service.online.close()
        after = service.recommend(query(item_id=PAGE))
        assert after["source"] == "model" and after["items"] == before
        with pytest.raises(Problem, match="ProgrammingError"):
            send(service, stock_of(3, 0))
        service.beat()
        assert "store cannot be read" in alarms(service) and service.intake.waiting == 2
    with service_of(tmp_path / "b") as service:
        service.recommend(query())
        (tmp_path / "b" / "store.db").unlink()
        assert service.recommend(query())["source"] == "model"
        assert "gone" in alarms(service)
        service.beat()
        assert service.intake.waiting == 0 and (service.stock == STOCK).all()
        assert send(service, stock_of(PAGE, 0))["new"] == 1 and not service.stock[PAGE]
        assert service.stock.sum() == STOCK.sum() - 1 and "let the warehouse" in alarms(service)
        kept = Online(FEATURES, tmp_path / "b" / "store.db")
        assert PAGE in kept.read({"user": [7]}, NOW + SECOND)["recent_pages"][0]
        kept.close()


@pytest.mark.parametrize("fault", ["deleted", "corrupt", "ahead"])
def test_a_store_that_is_no_more_at_a_start_stops_no_list_and_is_told(tmp_path, fault):
    """Before, nothing was in stock then and all lists were empty, or it did not start."""
    folder, now = folder_of(tmp_path), NOW
    if fault == "deleted":
        (folder / "features.db").unlink()
    elif fault == "corrupt":
        (folder / "features.db").write_bytes(b"no database" * 1_000)
    else:
        now = NOW - 24 * HOURS + HOURS * 5  # it was told of times that are not yet
    with started(folder, str(now)) as service:
        got = service.recommend(query(user_id=None))
        assert got["source"] == "model" and len(got["items"]) == 10
        says = {
            "deleted": "let the warehouse",
            "corrupt": "features.db.broken",
            "ahead": "set back",
        }
        assert says[fault] in alarms(service)
        assert send(service, {"event": 1, "kind": "view", "item": 3, "user": 7})["new"] == 1
        if fault != "ahead":
            send(service, *(stock_of(i, int(STOCK[i])) for i in range(300)))
            assert (service.stock == STOCK).all() and "warehouse" not in alarms(service)
    assert (folder / "features.db.broken").exists() == (fault == "corrupt")


@pytest.mark.parametrize("watched", [True, False])
def test_a_clock_that_is_a_day_ahead_for_a_moment_stops_no_later_event(tmp_path, watched):
    """Without the second clock each later event is refused for a day: the fault is planted."""
    wall, passed = Clock(), [0.0]
    clock = Steady(wall, passed=lambda: passed[0]) if watched else wall

    def pass_by(seconds: int, wrong: pd.Timedelta = 0 * HOURS) -> None:
        passed[0] += seconds
        wall.now = NOW + passed[0] * SECOND + wrong

    with service_of(tmp_path, clock=clock) as service:
        pass_by(1, 24 * HOURS)
        service.recommend(query())
        service.beat()
        assert ("86,400 s ahead" in alarms(service)) == watched
        pass_by(1)
        view = {"event": 1, "kind": "view", "item": 3, "user": 7}
        if watched:
            assert send(service, view)["new"] == 1 and service.health()["alarms"] == []
        else:
            with pytest.raises(Problem, match="is before it"):
                send(service, view)
            assert "stream features" in alarms(service)


def test_pages_that_are_lost_are_told(tmp_path):
    with service_of(tmp_path) as service:
        service.intake._most = 2
        for _ in range(3):
            service.recommend(query())
        assert service.intake.waiting == 2 and "pages: 1 were not stored" in alarms(service)


def test_events_that_wait_for_a_locked_store_keep_no_list_waiting(tmp_path):
    locked, over, got = threading.Event(), threading.Event(), []

    def lock(service: Service) -> None:
        with service.intake.writing():
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
        assert client.get("/health").is_success
        given_up = len(got)
        for thread in threads[1:]:
            thread.join(10)
        over.set()
        for thread in threads:
            thread.join()
        assert listed["source"] == "model" and given_up == 0 and got == [503] * 40


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

        service.online.read = slow_read
        thread = threading.Thread(target=send, args=(service, stock_of(PAGE, 0)))
        thread.start()
        assert first.wait(5)
        send(service, stock_of(PAGE + 1, 0))
        second.set()
        thread.join()
        assert not service.stock[[PAGE, PAGE + 1]].any()


def test_what_was_shown_is_in_the_log_and_a_log_that_fails_stops_no_answer(tmp_path):
    with service_of(tmp_path) as service:
        service.warm(5)  # nobody is shown anything
        told = [service.recommend(query(user_id=user)) for user in range(5)]
        assert service.shown.flush()
        rows = [json.loads(event.body) for event in service.shown._log.read(n=100)]
        assert [row["items"] for row in rows] == [one["items"] for one in told]
        assert {row["list"] for row in rows} == {one["list"] for one in told}
        assert all(row["at"] == str(NOW) and row["arm"] == "control" for row in rows)
        service.shown._log.append = None
        assert service.recommend(query())["source"] == "model"
        assert not service.shown.flush(0.2) and "log:" in alarms(service)


def test_alarms_of_age_come_at_their_hour_for_each_arm(tmp_path):
    models = {"control": fake(hours=46.0), "treatment": fake(hours=47.0)}
    with service_of(tmp_path, models) as service:
        for after, says in (
            (0 * HOURS, ""),
            (61 * SECOND, "stream features"),
            (HOURS + 61 * SECOND, "age of the treatment, hours"),
            (2 * HOURS + 61 * SECOND, "age of the model, hours"),
            (-60 * HOURS, "set the clock right"),
        ):
            service.clock.now = NOW + after
            service.beat() if after == 0 * HOURS or after > HOURS else None
            assert (says in alarms(service)) and bool(says) == bool(alarms(service)), after
        service.stop(b"")
        assert "treatment" not in alarms(service)


# The experiment -------------------------------------------------------------------------------


def test_arms_are_the_hash_of_the_user_and_one_that_fails_takes_no_list_from_the_other(tmp_path):
    models = {"control": fake(), "treatment": fake(5.0)}
    with service_of(tmp_path, models) as service:
        got = {user: service.recommend(query(user_id=user)) for user in range(90)}
        plan = service.arms.plan
        assert all(one["arm"] == plan.arm(user) for user, one in got.items())
        counts = {arm: sum(one["arm"] == arm for one in got.values()) for arm in plan.shares}
        assert srm(counts, plan.shares).p > 0.001
        assert service.recommend(query(user_id=None))["experiment"] == ""
        swap = service.arms.swaps["treatment"]
        swap._current = swap.current._replace(value=fake(fault="crash"))
        got = [service.recommend(query(user_id=user)) for user in range(60)]
        sources = {(one["arm"], one["source"]) for one in got}
        assert sources == {("control", "model"), ("treatment", "yesterday")}
        assert service.arms.breakers["treatment"].state == "open"
        service.stop(b"revenue fell")
        assert {service.recommend(query(user_id=u))["arm"] for u in range(20)} == {"control"}


# The swap, and load from another process ------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        ({"fault": "crash"}, "lists: RuntimeError: planted"),
        ({"fault": "twice"}, "lists: "),
        ({"fault": "no scores"}, "lists: "),
        ({"fault": "users"}, "lists: IndexError"),
        ({"hours": 30.0}, "age: it ends on"),
        ({"hours": -9.0}, "age: it ends on 2026-04-11 05:15:07, after"),
        ({"tilt": 1e6}, "resemblance: "),
        (None, "build: ValueError: model.tried"),
    ],
)
def test_a_bad_model_serves_neither_now_nor_after_a_restart(tmp_path, offered, says):
    """Before, it stayed in the folder's one file, and a start served it unchecked."""
    folder = folder_of(tmp_path)
    with started(folder) as service:
        before = service.recommend(query(user_id=None))["items"]
        Shelf(folder).offer(fake(**{"tilt": 1.0, "hours": 1.0} | (offered or {})))
        if offered is None:
            (folder / "model.offered").write_bytes((folder / "model.offered").read_bytes()[:5_000])
        told = service.refresh()
        assert not told["swapped"] and told["why"].startswith(says), told
        assert service.refresh()["why"].startswith("build: ValueError: nothing is offered")
    with started(folder) as service:
        assert service.recommend(query(user_id=None))["items"] == before
    assert (folder / "model.refused").exists()


def test_a_refresh_takes_the_lists_of_the_last_night_and_the_way_back_holds(tmp_path):
    folder = folder_of(tmp_path)
    with started(folder) as service:
        before = service.recommend(query(user_id=None))["items"]
        Shelf(folder).offer(fake(5.0, hours=2.0))
        yesterdays(hours=1.0).save(folder / "lists")
        assert service.refresh()["swapped"]
        assert service.recommend(query(user_id=None))["items"] != before
        (folder / "lists").write_bytes(b"cut off")
        service.refresh()
        assert service.yesterday.made == NOW - HOURS  # those before serve on
        assert service.back() == {"version": 1}
    with started(folder) as service:
        assert service.recommend(query(user_id=None))["items"] == before


def test_a_good_model_replaces_a_broken_one_and_one_of_the_future_and_a_treatment(tmp_path):
    for old in (fake(fault="crash"), fake(fault="twice"), fake(hours=-9.0)):
        models = {"control": old, "treatment": fake(hours=47.0)}
        with service_of(tmp_path, models, folder=tmp_path) as service:
            Shelf(tmp_path).offer(fake(1.0, hours=10.0))
            Shelf(tmp_path, "treatment").offer(fake(1.0, hours=10.0))
            told = service.refresh()
            assert told["swapped"] and told["treatment"]["swapped"], told
            assert service.recommend(query())["source"] == "model"
            assert "age" not in alarms(service)


def test_a_request_ends_with_the_version_with_which_it_began(tmp_path):
    with service_of(tmp_path, folder=tmp_path) as service:
        alone = service.recommend(query(user_id=None, item_id=PAGE))["items"]
        service.cache.clear()
        Shelf(tmp_path).offer(fake(5.0, hours=1.0))
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
    for u, i in enumerate(np.flatnonzero(STOCK)[np.arange(120)])
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A service that was loaded while a good and a bad model were offered, and then killed."""
    folder, offers = folder_of(tmp_path_factory.mktemp("loaded")), []
    with Server(FACTORY, ARGUMENTS | {"folder": str(folder)}) as server:

        def passed(i: int) -> None:
            if i in (40, 80):
                Shelf(folder).offer(fake(3.0 if i == 40 else np.nan, hours=2.0))
                told = httpx.post(f"{server.url}/refresh", trust_env=False, timeout=10).json()
                offers.append(told)

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
    log = EventLog(folder / "shown.db")
    kept = {json.loads(event.body)["list"] for event in log.read(n=1_000)}
    log.close()
    assert kept == {json.loads(body)["list"] for body in got.bodies}
    store = Online(FEATURES, folder / "features.db")
    users = [sent["user_id"] for sent in QUERIES[:40]]
    pages = store.read({"user": users}, NOW + HOURS)["recent_pages"]
    store.close()
    assert all(s["item_id"] in seen for s, seen in zip(QUERIES[:40], pages, strict=True))
    with Server(FACTORY, ARGUMENTS | {"folder": str(folder)}) as server:
        again = ask(f"{server.url}/recommendations", QUERIES[:40], rps=80, concurrency=4)
    assert again.failed == 0
    for sent, seen, body in zip(QUERIES, pages, map(json.loads, again.bodies), strict=False):
        recent = np.array([[*seen, *[-1] * (5 - len(seen))]])
        given = np.array([sent["user_id"]]), np.array([sent["item_id"]])
        alone = fake(3.0).recommend(*given, sent["type"], STOCK, recent=recent)
        assert body["items"] == alone[0][0].tolist()


def test_a_folder_without_a_list_or_a_model_starts_and_says_so_and_takes_the_next_model(tmp_path):
    """Before, a torn model ended the start, though yesterday's lists and bestsellers were there."""
    folder = folder_of(tmp_path)
    (folder / "model.serves").write_bytes(b"cut off")
    with started(folder) as service:
        assert service.recommend(query())["source"] == "yesterday"
        assert "model.serves" in alarms(service) and "age of the model" in alarms(service)
        (folder / "lists").write_bytes(b"cut off")
        Shelf(folder).offer(fake(1.0, hours=1.0))
        told = service.refresh()
        assert told["swapped"] and "cut off" in told["unloaded"]["lists"]
        with pytest.raises(Problem, match="no version before"):
            service.back()
        assert service.recommend(query(user_id=8))["source"] == "model"
        assert "age of the model" not in alarms(service)
    with started(folder) as service:
        assert "run the night" in alarms(service)
    (folder / "goods.pickle").unlink()
    with pytest.raises(ValueError, match=r"goods\.pickle"):
        app_from(str(folder), str(NOW))


@pytest.mark.parametrize("fault", ["crash", "hang", "users"])
@pytest.mark.parametrize("arm", ["control", "treatment"])
def test_a_model_that_fails_or_hangs_at_a_start_takes_down_neither_arm(tmp_path, arm, fault):
    """Before, the first answers of :meth:`warm` were asked unguarded, and ended the process."""
    models = {"control": fake(), "treatment": fake(5.0)} | {arm: fake(fault=fault)}
    with service_of(tmp_path, models, patience=0.1, budget_ms=300.0) as service:
        service.warm(3)
        assert ("does not answer" in alarms(service)) == (fault != "users")
        sources = {(one["arm"], one["source"]) for one in map(answered(service), range(12))}
        other = {"control": "treatment", "treatment": "control"}[arm]
        assert sources == {(arm, "yesterday"), (other, "model")}
        each = service.health()["arms"]
        assert each[arm]["model"]["failed"] > 0 == each[other]["model"]["failed"]


def answered(service: Service):
    return lambda user: service.recommend(query(user_id=user))


@pytest.mark.parametrize("hangs", ["old", "new"])
def test_a_model_that_hangs_is_refused_or_replaced_and_keeps_nobody_waiting(tmp_path, hangs):
    """Before, forty tries to refresh took all threads, and /health and /events with them."""
    models = {"control": fake(fault="hang" if hangs == "old" else "")}
    with service_of(tmp_path, models, folder=tmp_path, patience=0.7, budget_ms=30.0) as service:
        service.arms.breakers["control"].cool_off = 0.0
        Shelf(tmp_path).offer(fake(1.0, hours=1.0, fault="hang" if hangs == "new" else ""))
        with TestClient(create_app(service)) as client:
            got = []
            calls = [lambda: got.append(client.post("/refresh").status_code)] * 41
            threads = [threading.Thread(target=call) for call in calls]
            for thread in threads:
                thread.start()
            health, taken = client.get("/health"), client.post("/events", content=b"[]")
            assert health.status_code == taken.status_code == 200
            for thread in threads:
                thread.join()
            assert got.count(409) >= 30 and {*got} == {200, 409}
            outcome = next(iter(service.arms.swaps["control"].outcomes))
            assert outcome.swapped == (hangs == "old")
            assert outcome.seconds < 20  # twenty lists of three seconds each are not waited for
            assert hangs == "old" or outcome.why.startswith("lists: TimeoutError")
            got = client.get("/recommendations", params=dict(query())).json()
            assert got["source"] == "model", got["why"]


def test_a_catalogue_that_grows_gets_a_model_of_its_size_and_each_model_its_own_items(tmp_path):
    """Before, goods were read at a start only, and no model of 301 items ever served."""
    folder, more = folder_of(tmp_path), goods()
    more = more._replace(category=np.append(more.category, "x"))
    with started(folder) as service:
        Shelf(folder).offer(Fake(301, NOW - HOURS, 1.0))
        assert service.refresh()["swapped"]  # it is there before its goods
        assert len(service.recommend(query())["items"]) == 10
        parts.save(folder, {"goods": more})
        service.refresh()
        assert service.back() == {"version": 1}  # which knows 300 items
        assert send(service, stock_of(300, 1))["new"] == 1 and service.stock[300]
        assert service.recommend(query(item_id=300))["source"] == "model"
        Shelf(folder).offer(Fake(301, NOW - HOURS, 1e6))
        Shelf(folder).offer(Fake(301, NOW - HOURS, 1.0))
        assert service.refresh()["swapped"]
        got = service.recommend(query(item_id=300))
        assert got["source"] == "model" and 300 not in got["items"]
        parts.save(folder, {"goods": goods()})
        assert "an item keeps its number" in service.refresh()["unloaded"]["goods"]
        assert service.items == 301 and "keeps its number" in alarms(service)


def test_the_log_names_the_model_for_good_and_has_the_chance_of_what_was_drawn(tmp_path):
    """Before, each process counted its versions from one."""
    folder, made = folder_of(tmp_path), []
    for _ in range(2):
        with started(folder) as service:
            service.recommend(query())
            Shelf(folder).offer(fake(1.0 + len(made), hours=2.0 - len(made) / 10))
            service.refresh()
            service.recommend(query())
            assert service.shown.flush()
            made = [json.loads(event.body) for event in service.log.read(n=100)]
    names = [one["digest"] for one in made]
    assert [one["model"] for one in made] == [1, 2, 1, 2]
    assert names[1] == names[2] and len({*names}) == 3 and all(names)
    assert [one["trained"] for one in made][1] == str(NOW - 2 * HOURS)
    assert all(one["chance"] == [None] * 10 for one in made)
    with started(folder) as service:
        assert service.back()["version"] == 2  # also after a restart
        assert (
            service.arms.digest("control", service.arms.swaps["control"].current.value) == names[1]
        )


@pytest.mark.parametrize(
    ("chance", "source"), [(0.25, "model"), (0.0, "yesterday"), (7.0, "yesterday")]
)
def test_a_drawn_list_is_logged_with_its_chances_and_never_cached(tmp_path, chance, source):
    model, recommend = fake(), Fake.recommend

    def drawn(*given, **more):
        items, scores = recommend(model, *given, **more)
        return items, scores, np.where(np.arange(items.shape[1]) == 2, chance, np.nan)[None]

    model.recommend = drawn
    with service_of(tmp_path, {"control": model}) as service:
        got = [service.recommend(query(user_id=None)) for _ in range(2)]
        assert [one["source"] for one in got] == [source] * 2 and service.shown.flush()
        rows = [json.loads(event.body)["chance"] for event in service.log.read()]
        kept = [None, None, chance] if source == "model" else [None] * 3
        assert [row[:3] for row in rows] == [kept] * 2


def test_a_new_item_has_a_place_by_chance_also_before_a_training_knows_it(tmp_path):
    """Without the place, the planted fault, an item that the model has not seen is never shown."""
    new, brand = np.zeros(301, bool), np.append(np.arange(300) % 60, 60)
    new[[*np.flatnonzero(STOCK)[:3], int(np.flatnonzero(~STOCK)[0]), PAGE, 300]] = True
    more = goods()._replace(category=np.append(goods().category, "x"), brand=brand, new=new)
    for share in (0.0, 1.0, 0.5):
        with service_of(tmp_path / str(share), goods=more, newcomers=share) as service:
            send(service, stock_of(300, 1))
            got = [service.recommend(query(user_id=None)) for _ in range(60)]
            plain = fake().recommend(np.array([-1]), np.array([PAGE]), "similar", STOCK)[0][0]
            assert all(one["items"][:9] == plain[:9].tolist() for one in got)
            last = [one["items"][9] for one in got]
            drawn = {*np.flatnonzero(STOCK)[:3].tolist(), 300} if share else {int(plain[9])}
            assert {*last} - {int(plain[9])} == drawn - {int(plain[9])}
            assert share != 0.5 or 10 < last.count(plain[9]) < 50
            assert service.shown.flush()
            rows = [json.loads(event.body) for event in service.log.read(n=100)]
            told = [share / 4 if one in drawn and share else None for one in last]
            assert [row["chance"][9] for row in rows] == told


def test_a_place_for_new_items_breaks_no_rule():
    stock, rng, new = np.ones(6, bool), np.random.default_rng(0), np.ones(6, bool)
    more = Goods(np.zeros(6, int), np.arange(6), np.array([0, 0, 0, 1, 0, 2]), new)
    assert placed([0, 1, 2, 3], more, stock, -1, 3, rng) == ([0, 1, 2, 5], 1.0)
    assert placed([0, 1, 3], more, stock, 5, 3, rng)[1] == 1 / 2  # the items 2 and 4
    for there, page, own in (([0, 1, 2, 3], 5, more), ([3], -1, more), ([0, 3], -1, goods())):
        assert placed(there, own.whole(), stock, page, 3, rng) == (there, None)


def test_pages_that_wait_are_written_when_the_server_stops(tmp_path):
    folder = folder_of(tmp_path)
    app = app_from(str(folder), str(NOW), 5_000)
    with TestClient(app) as client:
        for user in range(20):
            assert client.get("/recommendations", params=dict(query(user_id=user))).is_success
    store, log = Online(FEATURES, folder / "features.db"), EventLog(folder / "shown.db")
    seen = store.read({"user": [*range(20)]}, NOW + HOURS)["recent_pages"]
    assert all(PAGE in pages for pages in seen) and len(log.read()) == 20
    store.close()
    log.close()


def test_in_a_fresh_folder_a_list_is_not_empty_and_the_reason_is_told(tmp_path):
    folder = folder_of(tmp_path)
    for name in ("lists", "features.db"):
        (folder / name).unlink()
    (folder / "shown.db").write_bytes(b"no database" * 500)
    with started(folder) as service:
        assert len(service.recommend(query())["items"]) == 10
        assert "let the warehouse" in alarms(service) and "shown.db.broken" in alarms(service)
        send(service, *(stock_of(i, 0) for i in range(300)))
        Shelf(folder).offer(fake(1.0, hours=1.0))
        assert "nothing is in stock" in service.refresh()["why"]


@pytest.mark.parametrize(
    ("hours", "spoilt", "why"),
    [
        (30.0, False, "older than"),
        (60.0, False, "not of the 48 hours"),
        (-3.0, False, "not of the 48 hours"),
        (2.0, True, "no whole numbers"),
        (2.0, False, ""),
    ],
)
def test_a_refresh_takes_no_worse_lists(tmp_path, hours, spoilt, why):
    given = {"goods": goods()._replace(brand=np.zeros(10, int)), "folder": tmp_path}
    with service_of(tmp_path, {"control": fake(fault="crash")}, **given) as service:
        parts.save(tmp_path, {"goods": service.goods})
        new = yesterdays(hours)
        if spoilt:
            new = replace(new, items={k: v.astype(float) for k, v in new.items.items()})
        new.save(tmp_path / "lists")
        told = service.refresh()["unloaded"]["lists"]
        assert why in told and bool(why) == bool(told) == (told in alarms(service) and told != "")
        assert service.yesterday.made == NOW - HOURS * (20 if why else hours)
        service.yesterday = new
        got = service.recommend(query())
        assert got["source"] == ("yesterday" if -1 < hours < 48 and not spoilt else "bestsellers")
        assert len(got["items"]) == 10


@pytest.mark.parametrize("surface", ["similar", "also", "mail"])
def test_each_surface_is_tried_before_a_model_serves(tmp_path, surface):
    with service_of(tmp_path, folder=tmp_path) as service:
        shelf = Shelf(tmp_path)
        shelf.offer(fake(1.0, hours=1.0, fault=f"no {surface}"))
        assert service.refresh()["why"].startswith("lists: RuntimeError")
        first, second = fake(1.0, hours=3.0), fake(1.0, hours=2.0)
        checks, pages = before_it_serves(lambda: STOCK, lambda: NOW), []
        for model in (first, second):
            model.recommend = lambda *given, **more: (
                pages.append(int(given[1][0])),
                Fake.recommend(first, *given, **more),
            )[1]
            assert checks["lists"](model, None) == ""
        assert pages[:20] != pages[60:80] and min(pages[:20]) >= 0
