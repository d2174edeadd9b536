"""The desk: overrides and their bill, the planners' service, the file that is sent."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from contextlib import contextmanager, nullcontext

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from casebook.serving import order_desk
from casebook.serving.api_keys import hashed
from casebook.serving.app import Problem
from casebook.serving.order_desk import COLUMNS, LEDGER, Service, app_of, read_orders, write_orders
from casebook.serving.overrides import Desk, Prices


@pytest.fixture
def desk(tmp_path):
    with Desk(tmp_path / "log.db", Prices(5, 2), 500) as made:
        yield made


def refused(status, error, call, *given, **named):
    """Return the problem that a call raises."""
    with pytest.raises(Problem) as found:
        call(*given, **named)
    assert (found.value.status, found.value.error) == (status, error)
    return found.value


# Overrides and their bill --------------------------------------------------------------------


def test_overrides_are_kept_and_billed_once(desk):
    desk.place("a", "x", "anna", 40, 60, "street fair")
    desk.place("a", "x", "anna", 40, 50, "smaller fair")
    desk.place("a", "y", "bert", 10, 0, "shelf is broken")
    assert desk.units("a") == {"x": 50.0, "y": 0.0}
    assert desk.settle("a", "x", 46.0, False) == 30 - 8
    assert desk.settle("a", "x", 46.0, False) is None
    assert desk.settle("a", "y", 10.0, True) == -50
    assert desk.settle("a", "unknown", 10.0, True) is None
    value = desk.added_value().set_index("planner")
    assert value["saved"].to_dict() == {"anna": 22.0, "bert": -50.0}
    assert value["overrides"].to_dict() == {"anna": 1, "bert": 1}
    assert value["replaced"].to_dict() == {"anna": 1, "bert": 0}
    assert value["helped"].to_dict() == {"anna": 1.0, "bert": 0.0}
    assert value.loc["bert", "estimated"] == 1
    assert desk.log.verify()


def test_what_is_billed_is_closed_and_what_is_open_is_not_billed(tmp_path, desk):
    desk.place("a", "x", "anna", 40, 60, "street fair")
    desk.settle("a", "x", 46.0, False)
    late = refused(409, "too late", desk.place, "a", "x", "bert", 40, 400, "a big mistake")
    assert "billed" in late.what and desk.units("a") == {"x": 60.0}
    sent: set[str] = set()
    with Desk(tmp_path / "other.db", Prices(5, 2), 500, lambda run: run not in sent) as other:
        other.place("a", "x", "anna", 40, 60, "street fair")
        refused(409, "too early", other.settle, "a", "x", 46.0, False)
        other.place("a", "x", "bert", 40, 400, "a big mistake")
        sent.add("a")
        late = refused(409, "too late", other.place, "a", "x", "anna", 40, 60, "street fair")
        assert "sent" in late.what
        assert other.settle("a", "x", 46.0, False) == 30 - 708


@pytest.mark.parametrize("wanted", [-50, math.nan, math.inf])
def test_nobody_is_billed_by_demand_that_cannot_be(desk, wanted):
    desk.place("a", "x", "anna", 40, 60, "street fair")
    refused(422, "wanted", desk.settle, "a", "x", wanted, False)
    assert desk.added_value().empty and desk.settle("a", "x", 0.0, False) == 80 - 120


@pytest.mark.parametrize("costs", [(-5, 2), (5, math.nan), (math.inf, 2), (5, 0)])
def test_prices_are_numbers_above_nought(costs):
    with pytest.raises(ValueError, match="both costs are numbers above 0"):
        Prices(*costs)


def test_an_override_that_was_taken_back_is_nobodys_bill_but_is_seen(desk):
    desk.place("a", "x", "anna", 40, 400, "street fair")
    desk.place("a", "x", "bert", 40, 40, "back to the model")
    assert desk.settle("a", "x", 46.0, False) == 0
    value = desk.added_value().set_index("planner")
    assert value["replaced"].to_dict() == {"anna": 1}
    assert value.loc["anna", "overrides"] == 0 and math.isnan(value.loc["anna", "helped"])


def test_a_late_retry_of_an_older_override_changes_nothing(desk):
    def place(units, after, planner="anna"):
        return desk.place("a", "x", planner, 40, units, "street fair", after=after)

    first = place(60, 0)
    assert place(60, 0) == first and desk.log.count("override") == 1
    second = place(50, first["sequence"])
    told = refused(409, "overtaken", place, 60, 0)
    assert "50 units by anna" in told.what and "after 2" in told.do
    refused(409, "overtaken", place, 50, first["sequence"], "bert")
    refused(409, "overtaken", place, 50, 99)
    assert place(50, first["sequence"]) == second and desk.units("a") == {"x": 50.0}
    refused(409, "overtaken", desk.place, "a", "y", "anna", 40, 60, "street fair", after=7)


def test_an_override_has_units_and_words_that_a_person_can_read(desk):
    for units in (501, math.nan, -4, math.inf):
        refused(422, "units", desk.place, "a", "x", "anna", 40, units, "street fair")
    for reason in (" x ", "\u200b\u200b\u200b", "fair\x00x", "fair \ud800", "a" * 201):
        refused(422, "reason", desk.place, "a", "x", "anna", 40, 60, reason)
    for planner in ("", "  ", "<img>\nroot", "an\u202ena", "a" * 81):
        refused(422, "planner", desk.place, "a", "x", planner, 40, 60, "street fair")
    refused(422, "line", desk.place, "a", "x\x00", "anna", 40, 60, "street fair")
    assert desk.log.count("override") == 0
    zero = desk.place("a", "x", "anna", 40, -0.0, "shelf is broken")["units"]
    assert math.copysign(1, zero) == 1


# The order file ------------------------------------------------------------------------------

RUN, NEXT = "orders_2025-01-05", "orders_2025-01-12"
HEAD = ",".join(COLUMNS) + "\n"
FILE = HEAD + "S01,meat-01,10,4,40,model\nS02,meat-01,5,4,20,model\n"
ANNA, BERT, BILLS = "the key of anna", "the key of bert", "the key of the ledger"
KEYS = {hashed(ANNA): "anna", hashed(BERT): "bert", hashed(BILLS): LEDGER}


def lines_of(*rows):
    """Return a table of lines: store, cases, pack."""
    made = [(store, "meat-01", cases, pack, cases * pack, "model") for store, cases, pack in rows]
    return pd.DataFrame(made, columns=list(COLUMNS))


TWO = lines_of(("S01", 10, 4), ("S02", 5, 4))


@pytest.fixture
def opened(tmp_path):
    """Return what opens the service over a folder with an order file."""
    made = []

    def at(text=FILE, **more):
        (tmp_path / f"{RUN}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        made.append(Service(tmp_path, Prices(5, 2), KEYS, **more))
        return made[-1]

    yield at
    for service in made:
        service.desk.log.close()


def wish(service, key=ANNA, **change):
    """Override S01 meat-01 from 40 to 60 units, or another wish."""
    said = {"run": RUN, "line": "S01 meat-01", "units": 60.0, "reason": "street fair", "after": 0}
    return service.override(json.dumps(said | change).encode(), key)


def send(service, key=ANNA, **more):
    """Send the run."""
    return service.send(json.dumps({"run": RUN} | more).encode(), key)


BAD = {
    "zero bytes": "",
    "no line": HEAD,
    "pack 0": HEAD + "S01,meat-01,1,0,40,model\n",
    "pack 0 and no units": HEAD + "S01,meat-01,1,0,0,model\n",
    "no pack": HEAD + "S01,meat-01,1,,40,model\n",
    "no units": HEAD + "S01,meat-01,1,4,,model\n",
    "units are no sum": HEAD + "S01,meat-01,1,4,40,model\n",
    "half a case": HEAD + "S01,meat-01,1.5,4,6,model\n",
    "61 cases": HEAD + "S01,meat-01,61,4,244,model\n",
    "below 0": HEAD + "S01,meat-01,-1,4,-4,model\n",
    "line twice": HEAD + "S01,meat-01,1,4,4,model\n" * 2,
    "no store": HEAD + ",meat-01,1,4,4,model\n",
    "no source": HEAD + "S01,meat-01,1,4,4,\n",
    "other columns": "store,product,units\nS01,meat-01,40\n",
    "half a line": HEAD + "S01,meat-01,1,4",
    "a quote": HEAD + 'S01,"meat-01,1\n',
    "text after a quote": HEAD + '"S01"x,meat-01,1,4,4,model\n',
    "latin-1": (HEAD + "S01,m\xe9at,1,4,4,model\n").encode("latin1"),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_broken_order_file_is_told_and_never_sent(opened, tmp_path, text):
    service = opened(text)
    for call in (lambda: service.orders(RUN), lambda: wish(service), lambda: send(service)):
        told = refused(500, "order file broken", call)
        assert f"{RUN}.csv: " in told.what and "Run the Sunday batch again" in told.do
    assert not (tmp_path / f"{RUN}.sent").exists() and not service.desk.log.count("override")


def test_names_that_look_like_something_else_stay_what_they_are():
    lines = read_orders((HEAD + "NA,007,1,4,4,model\n").encode())
    assert lines["NA 007"] == dict(zip(COLUMNS, ("NA", "007", 1, 4, 4, "model"), strict=True))


def test_the_run_writes_lines_and_notes_and_the_desk_shows_both(opened, tmp_path):
    service = opened()
    assert service.orders(RUN)["notes"] is None
    cut = ["S01 meat-01: 90 units cut to 40", "promotions:\nhave not come"]
    for _ in range(2):
        write_orders(tmp_path / f"{RUN}.csv", TWO, cut)
        assert (tmp_path / f"{RUN}.csv").read_text() == FILE
    assert service.orders(RUN)["notes"] == [cut[0], "promotions: have not come"]
    for bad in (TWO.iloc[:0], lines_of(("S01", 61, 4)), lines_of(("S01", 1, 4), ("S01", 1, 4))):
        with pytest.raises(ValueError, match=r"0 lines with|line [23], "):
            write_orders(tmp_path / f"{RUN}.csv", bad)
    with pytest.raises(ValueError, match="no order file"):
        write_orders(tmp_path / "orders_test.csv", TWO)
    write_orders(tmp_path / "new" / f"{NEXT}.csv", TWO)
    assert (tmp_path / f"{RUN}.csv").read_text() == FILE


def test_a_run_after_an_override_is_refused_and_a_new_file_asks_to_confirm(opened, tmp_path):
    service, path = opened(packs={"S01 meat-01": 4}), tmp_path / f"{RUN}.csv"
    wish(service)
    other = lines_of(("S01", 18, 4), ("S02", 5, 4))
    with pytest.raises(ValueError, match="have overridden"):
        write_orders(path, other)
    write_orders(path, TWO)
    path.unlink()
    write_orders(path, other)
    told = service.orders(RUN)
    old = {"line": "S01 meat-01", "sequence": 1, "planner": "anna", "units": 60.0}
    assert told["confirm"] == [old] and told["lines"][0]["units"] == 72
    assert "S01 meat-01" in refused(409, "run changed", send, service).what
    wish(service, after=1)
    assert send(service)["lines"] == 2
    bill = {"run": RUN, "line": "S01 meat-01", "wanted": 72.0, "sold_out": False}
    assert service.settle(json.dumps(bill).encode(), BILLS)["saved"] == -60


def test_an_override_of_a_line_that_a_new_file_lacks_is_told(opened, tmp_path):
    service, path = opened(), tmp_path / f"{RUN}.csv"
    wish(service)
    path.unlink()
    write_orders(path, TWO.iloc[1:])
    assert service.orders(RUN)["confirm"][0]["line"] == "S01 meat-01"
    refused(409, "run changed", send, service)
    refused(404, "unknown line", wish, service, after=1)
    refused(409, "overtaken", wish, service, units=0)
    wish(service, after=1, units=0)
    assert send(service)["lines"] == 1


# The service ---------------------------------------------------------------------------------


def test_the_service_refuses_what_it_does_not_know(opened, tmp_path):
    service = opened()
    assert wish(service)["sequence"] == 1
    told = service.orders(RUN)
    assert [line["source"] for line in told["lines"]] == ["planner", "model"] and told["open"]
    assert [line["sequence"] for line in told["lines"]] == [1, 0]
    for change, status, error in (
        ({"line": "S09 meat-01"}, 404, "unknown line"),
        ({"units": 1e9}, 422, "units"),
        ({"units": 62}, 422, "units"),
        ({"units": -4}, 422, "units"),
        ({"units": "60"}, 422, "wrong form"),
        ({"reason": ""}, 422, "reason"),
        ({"extra": 1}, 422, "wrong form"),
        ({"planner": "bert"}, 422, "wrong form"),
        ({"after": 0, "units": 64}, 409, "overtaken"),
    ):
        refused(status, error, wish, service, **change)
    refused(400, "not JSON", service.override, b"{", ANNA)
    for name in ("orders_2020-01-01", "../../etc/passwd", "orders_test"):
        refused(404, "unknown run", service.orders, name)
    refused(422, "wrong form", send, service, dry_run=True)
    refused(422, "wrong form", service.send, b"{}", ANNA)
    assert send(service) == {"run": RUN, "lines": 2, "planner": "anna"}
    sent = "S01,meat-01,15,4,60,planner\nS02,meat-01,5,4,20,model\n"
    assert (tmp_path / f"{RUN}.sent").read_text() == HEAD + sent
    refused(409, "too late", wish, service, after=1)
    refused(409, "too late", send, service)
    (tmp_path / f"{RUN}.csv").write_text(FILE.replace("10,4,40", "1,4,4"))
    after = service.orders(RUN)
    assert after["lines"][0]["units"] == 60 and not after["open"]


def test_only_planners_who_are_known_change_orders(opened):
    service = opened()
    for key in ("", "guess", BILLS):
        refused(401, "unknown planner", wish, service, key)
        refused(401, "unknown planner", send, service, key)
    wish(service, BERT)
    assert service.desk.holding(RUN)["S01 meat-01"]["planner"] == "bert"


def test_an_override_is_of_the_run_that_the_planner_saw(opened, tmp_path):
    service = opened()
    for stray in ("orders_test", f"{RUN} (1)", "orders_2025-13-01", "orders_99999"):
        (tmp_path / f"{stray}.csv").write_text(HEAD + "S01,meat-01,9,4,36,model\n")
    assert wish(service)["run"] == RUN
    write_orders(tmp_path / f"{NEXT}.csv", TWO)
    for call in (lambda: wish(service, after=1), lambda: send(service)):
        assert NEXT in refused(409, "another run", call).what
    refused(404, "unknown run", send, service, run="orders_2020-01-05")
    assert send(service, run=NEXT)["run"] == NEXT
    assert not (tmp_path / f"{RUN}.sent").exists()


def test_a_planner_may_add_a_line_that_the_model_left_at_nought(opened, tmp_path):
    service = opened(packs={"S01 dairy-01": 6})
    wish(service, line="S01 dairy-01", units=12)
    refused(422, "units", wish, service, line="S01 dairy-01", units=13, after=1)
    refused(404, "unknown line", wish, service, line="S01 dairy-02")
    assert service.desk.holding(RUN)["S01 dairy-01"]["model"] == 0
    wish(service, line="S02 meat-01", units=0)
    assert service.orders(RUN)["lines"][1]["units"] == 0
    assert send(service)["lines"] == 2
    sent = (tmp_path / f"{RUN}.sent").read_text()
    assert "S01,dairy-01,2,6,12,planner" in sent and "S02" not in sent


def test_orders_that_are_all_nought_are_not_sent(opened):
    service = opened(HEAD + "S01,meat-01,10,4,40,model\n")
    wish(service, units=0)
    refused(409, "empty", send, service)


def test_overrides_and_what_is_sent_keep_the_contract_of_the_case(opened, tmp_path):
    budget = [100]

    def check(table):
        assert list(table) == list(COLUMNS) and table["units"].dtype == "int64"
        if table["units"].sum() > budget[0]:
            raise ValueError(f"{table['units'].sum()} units are beyond the budget")

    service = opened(check=check)
    refused(422, "units", wish, service, units=244)
    assert "104 units" in refused(422, "contract", wish, service, units=84).what
    wish(service, units=80)
    budget[0] = 99
    refused(409, "contract", send, service)
    assert not (tmp_path / f"{RUN}.sent").exists()
    budget[0] = 100
    send(service)
    table = pd.read_csv(tmp_path / f"{RUN}.sent")
    assert list(table) == list(COLUMNS) and (table["units"] == table["cases"] * table["pack"]).all()


# At the same time ----------------------------------------------------------------------------


def during(service, call, wait=0.3):
    """Send, and call from another thread in the middle; return what the call came to."""
    found, threads = [], []

    def run():
        try:
            found.append(call())
        except (Problem, ValueError) as error:
            found.append(error)

    def check(table):
        if not threads:
            threads.append(threading.Thread(target=run))
            threads[0].start()
            threads[0].join(wait)

    service.check = check
    sent = send(service)
    threads[0].join()
    return sent, found[0]


@contextmanager
def unlocked(service, patch):
    """Take both locks away: the planted fault."""
    with patch.context() as here:
        here.setattr(order_desk, "alone_in", lambda folder: nullcontext())
        here.setattr(service.desk.log, "alone", nullcontext)
        yield


@pytest.mark.parametrize("planted", [False, True])
def test_what_a_planner_was_told_is_what_is_sent(opened, tmp_path, monkeypatch, planted):
    service = opened()
    with unlocked(service, monkeypatch) if planted else nullcontext():
        _, told = during(service, lambda: wish(service), 30 if planted else 0.3)
    taken, sent = isinstance(told, dict), (tmp_path / f"{RUN}.sent").read_text()
    lost = taken and "planner" not in sent
    assert lost == planted and (taken or told.error == "too late")


@pytest.mark.parametrize("planted", [False, True])
def test_a_run_does_not_write_what_is_being_sent(opened, tmp_path, monkeypatch, planted):
    service, path = opened(), tmp_path / f"{RUN}.csv"
    with unlocked(service, monkeypatch) if planted else nullcontext():
        other = lines_of(("S01", 1, 4))
        _, told = during(service, lambda: write_orders(path, other), 30 if planted else 0.3)
    assert (path.read_text() != FILE) == planted
    assert planted or "have been sent" in str(told)


@pytest.mark.parametrize("locked", [True, False])
def test_one_of_two_is_the_one_that_sent(opened, monkeypatch, locked):
    service = opened()
    with nullcontext() if locked else unlocked(service, monkeypatch):
        if locked:
            sent, told = during(service, lambda: send(service, BERT))
            assert sent["planner"] == "anna" and told.error == "too late"
        else:  # the file itself is made once, whoever has a lock
            refused(409, "too late", during, service, lambda: send(service, BERT), 30)


def test_many_threads_send_once_and_lose_no_override(opened, tmp_path):
    service, found, start = opened(), {}, threading.Barrier(6)

    def run(name, call):
        start.wait()
        try:
            found[name] = call()
        except Problem as error:
            found[name] = error.status

    calls = {f"send {k}": lambda: send(service) for k in range(4)}
    calls |= {"S01": lambda: wish(service), "S02": lambda: wish(service, line="S02 meat-01")}
    threads = [threading.Thread(target=run, args=item) for item in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(found[name], dict) for name in calls if "send" in name) == 1
    sent = read_orders((tmp_path / f"{RUN}.sent").read_bytes())
    for store in ("S01", "S02"):
        taken = isinstance(found[store], dict)
        assert (sent[f"{store} meat-01"]["source"] == "planner") == taken


# Bills, disks and HTTP -----------------------------------------------------------------------


def test_the_ledger_bills_through_the_service_by_the_prices_of_a_line(opened):
    service = opened(by_line=lambda line: Prices(5, 1 if line.startswith("S01") else 2))

    def settle(key=BILLS, **change):
        said = {"run": RUN, "line": "S01 meat-01", "wanted": 46.0, "sold_out": False}
        return service.settle(json.dumps(said | change).encode(), key)

    wish(service)
    wish(service, BERT, line="S02 meat-01", units=24)
    wish(service, ANNA, line="S02 meat-01", units=20, after=2)
    refused(409, "too early", settle)
    send(service)
    refused(403, "not the ledger", settle, ANNA)
    refused(409, "too early", settle, run="orders_2025-01-19")
    assert settle()["saved"] == 30 - 14 and settle()["saved"] is None
    assert settle(line="S02 meat-01", wanted=20.0)["saved"] == 0
    refused(422, "wanted", settle, wanted=-1.0)
    told = service.value()["planners"]
    assert [one["planner"] for one in told] == ["anna", "bert"] and told[0]["saved"] == 16
    assert told[1]["helped"] is None and told[1]["replaced"] == 1


def test_a_full_disk_sends_nothing_and_says_so(opened, tmp_path, monkeypatch):
    service = opened()

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as here:
        here.setattr(order_desk, "write_whole", full)
        told = refused(507, "not written", send, service)
    assert "No space left" in told.what and service.orders(RUN)["open"]
    assert send(service)["lines"] == 2 and not list(tmp_path.glob(".*part"))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        Service(tmp_path / "nowhere", Prices(5, 2))


def test_the_key_comes_in_a_header(opened):
    service = opened()
    client = TestClient(app_of(service), raise_server_exceptions=False)
    body = {"run": RUN, "line": "S01 meat-01", "units": 60, "reason": "street fair", "after": 0}
    assert client.post("/overrides", json=body).status_code == 401
    known = {"Authorization": f"Bearer {ANNA}"}
    assert client.post("/overrides", json=body, headers=known).json()["sequence"] == 1
    assert client.post("/overrides", json=body, headers=known).json()["sequence"] == 1
    assert client.get(f"/orders/{RUN}").json()["lines"][0]["source"] == "planner"
    assert client.post("/send", json={"run": RUN}, headers=known).status_code == 200
    assert client.post("/send", json={"run": RUN}, headers=known).status_code == 409
    assert client.post("/settle", json={}, headers=known).status_code == 403
    assert client.get("/value").json() == {"planners": []}
