"""The service under attack: tokens, bodies, budgets, rights that are lost in mid-stream, alarms."""

from __future__ import annotations

import base64
import gc
import json
import socket
import sqlite3
import time

import httpx
import pytest
from fastapi.testclient import TestClient
from knowledge_assistant_office import OF, TEXTS, Office

from casebook.cases.knowledge_assistant import service as module
from casebook.cases.knowledge_assistant.desk import UNKNOWN
from casebook.cases.knowledge_assistant.service import Question, Service, app_of
from casebook.llm import Scripted
from casebook.serving.allowance import Allowance
from casebook.serving.bearer import Bearer, Ring
from casebook.serving.conversations import LONGEST
from casebook.serving.in_thread import serving
from casebook.serving.showing import WITHDRAWN
from casebook.serving.strict import Problem
from casebook.serving.within import within

WEEKLY = {"conversation": "c1", "question": "When is the weekly of Test Bench?"}
CODE = {"conversation": "c1", "question": "What is the archive code of Identity?"}


class Shop:
    """An office with its service, a clock of its own and a client."""

    def __init__(self, **given):
        self.office, self.ring = Office(), Ring("k1", b"1" * 32)
        self.bearer = Bearer(self.ring, clock=lambda: self.office.seconds)
        self.ticks = 0.0
        self.service = Service(self.office.desk, self.bearer, **given)
        app = app_of(self.service, lambda: self.ticks, operator="user:ops")
        self.client = TestClient(app, raise_server_exceptions=False)

    def header(self, user="user:ann"):
        return {"authorization": f"Bearer {self.bearer.issue(user)}"}

    def post(self, body, user="user:ann", route="/v1/ask", **more):
        return self.client.post(route, json=body, headers=self.header(user) | more)

    def events(self, body, user="user:ann"):
        reply = self.post(body, user)
        assert reply.status_code == 200, reply.text
        blocks = reply.text.strip().split("\n\n")
        return [json.loads(block.split("data: ")[1]) for block in blocks]


def text_of(events):
    return "".join(one["text"] for one in events if one["event"] == "piece")


def test_an_answer_comes_in_pieces_and_its_citations_resolve():
    shop = Shop()
    events = shop.events(WEEKLY)
    assert [one["event"] for one in events] == ["understood", *["piece"] * 4, "end"]
    assert text_of(events).startswith(f"{OF}Friday at 12:00. [1] (Room, 2026-02-01)")
    cited = events[-1]["citations"][0]
    found = shop.post(cited, route="/v1/citations").json()
    assert (found["state"], found["title"]) == ("same", "Room")
    assert shop.events(WEEKLY) == [*events[:-1], events[-1] | {"turn": 1}]  # from the cache
    assert len(shop.office.desk.cache) == 1


def test_a_later_turn_is_understood_from_the_ones_before():
    shop = Shop()
    shop.events({"conversation": "c1", "question": "What is the leave notice of Test Bench?"})
    events = shop.events({"conversation": "c1", "question": "And Identity?"})
    assert events[0]["question"] == "What is the leave notice of Identity?"
    assert "3 weeks" in text_of(events)
    alone = shop.events({"conversation": "c2", "question": "And Identity?"})
    assert alone[0]["question"] == "And Identity?"


def alarms(shop):
    return shop.service.state()["alarms"]


def forged(shop, **change):
    """Return a token with another payload under the old signature, or as given."""
    payload, signature = shop.bearer.issue("user:ann").split(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "==")) | change
    raw = base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
    return f"Bearer {raw}.{signature}"


def test_tokens_that_do_not_hold_tell_nothing():
    shop = Shop()
    good, now = shop.bearer.issue("user:ann"), shop.bearer.clock
    bad = [
        *("", "Bearer", "Bearer ", f"Basic {good}", f"Bearer {good}x", f"Bearer {good[:-1]}"),
        *(f"Bearer {good.split('.')[0]}.", "Bearer a.b.c", "Bearer " + "A" * 5_000),
        forged(shop, sub="user:bob"),
        forged(shop, key="k2"),
        forged(shop, key=None),
        forged(shop, exp=10**12),
        f"Bearer {Bearer(Ring('k1', b'2' * 32), clock=now).issue('user:ann')}",
    ]
    for header in bad:
        reply = shop.client.post("/v1/ask", json=WEEKLY, headers={"authorization": header})
        assert reply.status_code == 401, header
        told = {"error": "not signed in", "what": "You are not signed in.", "do": "Sign in again."}
        assert reply.json() == told, header
    assert shop.client.get("/v1/conversations/c1").status_code == 401


def test_tokens_expire_and_keys_rotate_without_a_gap():
    shop = Shop()
    header = shop.header()
    ask = lambda: shop.client.post("/v1/ask", json=WEEKLY, headers=header)  # noqa: E731
    shop.ring.rotate("k2", b"2" * 32)
    assert ask().status_code == 200
    shop.ring.drop("k1")
    assert ask().status_code == 401
    header = shop.header()
    assert ask().status_code == 200
    shop.office.seconds += 900
    assert ask().json()["what"] == "Your sign-in has expired."


@pytest.mark.parametrize(
    ("raw", "status", "needed"),
    [
        (b"{}", 422, "conversation is missing"),
        (b"[]", 400, "array"),
        (b'{"conversation": "c1", "question": NaN}', 400, "NaN"),
        (b'{"conversation": "c1", "conversation": "c2", "question": "x"}', 400, "twice"),
        (b'{"conversation": "../c1", "question": "x"}', 422, "1 to 64 letters"),
        (b'{"conversation": "c1\\n", "question": "x"}', 422, "1 to 64 letters"),
        (b'{"conversation": "c1", "question": ""}', 422, "1 to 2,000"),
        (b'{"conversation": "c1", "question": 7}', 422, "1 to 2,000"),
        (b'{"conversation": "c1", "question": "x", "user": "user:bob"}', 422, "is no field"),
        (b'{"conversation": "c1", "question": "%s"}' % (b"x" * 2_001), 422, "1 to 2,000"),
        (b'{"conversation": "c1", "question": "%s"}' % (b"x" * 20_000), 413, "at most"),
        (b'{"conversation": "c1", "question": "\\ud800"}', 400, ""),
        (b"\xff", 400, "UTF-8"),
    ],
)
def test_bodies_that_are_wrong_say_what_to_send(raw, status, needed):
    shop = Shop()
    headers = shop.header() | {"content-type": "application/json"}
    reply = shop.client.post("/v1/ask", content=raw, headers=headers)
    told = reply.json()
    assert reply.status_code == status and needed in told["what"] + told["do"]
    assert {*told} == {"error", "what", "do"} and "xxx" not in reply.text


def test_what_is_hidden_is_told_like_what_is_not_there():
    shop = Shop()
    cited = shop.events(CODE)[-1]["citations"][0]
    assert cited["anchor"].endswith("K-417.")
    assert text_of(shop.events(CODE, "user:bob")) == UNKNOWN.text
    missing = cited | {"document": "wiki:d99"}
    replies = [
        shop.post(cited, "user:bob", "/v1/citations"),
        shop.post(missing, "user:bob", "/v1/citations"),
        shop.post({"conversation": "c9", "turn": 0, "up": True}, "user:bob", "/v1/thumbs"),
        shop.client.get("/v1/conversations/c9", headers=shop.header("user:bob")),
        shop.client.get("/v1/state", headers=shop.header("user:bob")),
        shop.client.get("/v1/documents/wiki:d2", headers=shop.header("user:bob")),
    ]
    assert {(r.status_code, r.text) for r in replies} == {(404, replies[0].text)}
    assert "K-417" not in str(shop.service.history("user:bob", "c1"))


def test_of_a_hidden_document_nothing_is_looked_up_whose_time_could_tell(monkeypatch):
    shop, asked = Shop(), []
    library = shop.office.library
    look = library.versions
    monkeypatch.setattr(library, "versions", lambda names: asked.append(names) or look(names))
    for name in ("wiki:d2", "wiki:d999"):
        assert library.read("user:bob", name) is None
    assert not asked
    assert library.read("user:ann", "wiki:d2") and asked == [["wiki:d2"]]


def test_a_user_who_is_removed_in_mid_stream_sees_no_further_piece():
    shop = Shop()
    stream = shop.service.ask("user:ann", Question(**CODE), lambda: 0.0)
    assert [next(stream)["event"], next(stream)["text"]][1].startswith("The archive code")
    shop.office.members("group:closed")
    rest = [*stream]
    assert [one.get("text") for one in rest] == [WITHDRAWN.text, None]
    assert rest[-1]["citations"] == []
    told = shop.service.history("user:ann", "c1")["turns"][0]["answer"]
    assert "K-417" not in str(told) and WITHDRAWN.text in told
    assert text_of(shop.events(CODE)) == UNKNOWN.text  # nor from the cache


def test_a_right_that_is_lost_after_the_last_piece_costs_the_citations():
    shop = Shop()
    stream = shop.service.ask("user:ann", Question(**CODE), lambda: 0.0)
    got = [next(stream) for _ in range(3)]
    assert got[-1]["text"].startswith(" (Codes")
    shop.office.members("group:closed")
    assert [*stream] == [{"event": "end", "turn": 0, "count": 0, "citations": []}]


def test_a_leaver_with_a_token_that_still_holds_is_nobody():
    shop = Shop()
    shop.events(CODE)
    header = shop.header()
    for user in ("user:ann", "user:ops"):
        shop.office.tell("directory", "user", user, False)
    replies = [
        shop.client.post("/v1/ask", json=CODE, headers=header),
        shop.client.get("/v1/conversations/c1", headers=header),
        shop.client.get("/v1/state", headers=shop.header("user:ops")),
        shop.client.get("/v1/documents/wiki:d1", headers=shop.header("user:never")),
    ]
    assert {reply.status_code for reply in replies} == {401}
    assert {reply.json()["what"] for reply in replies} == {"You are not signed in."}
    shop.office.tell("directory", "user", "user:ann", True)
    assert "K-417" in text_of(shop.events(CODE))


def test_a_token_from_a_clock_that_goes_ahead_says_so():
    shop = Shop()
    now = shop.bearer.clock
    ahead = Bearer(shop.ring, clock=lambda: now() + 60).issue("user:ann")
    reply = shop.client.post("/v1/ask", json=WEEKLY, headers={"authorization": f"Bearer {ahead}"})
    assert reply.status_code == 401 and "K-417" not in reply.text
    assert "later than this service's clock" in reply.json()["what"]
    assert "Wait a minute" in reply.json()["do"]


def test_who_hangs_up_is_booked_for_what_was_shown():
    shop = Shop(budget=Allowance(":memory:", 10_000))
    stream = shop.service.ask("user:ann", Question(**CODE), lambda: 0.0)
    next(stream), next(stream)
    stream.close()
    assert len(shop.service.history("user:ann", "c1")["turns"][0]["answer"]) == 1
    assert 9_900 < shop.service.budget.left("user:ann", shop.office.seconds) < 10_000


@pytest.mark.parametrize("said", ["Identity's archive code is K-417 [1].", "It is K-999 [1]."])
def test_what_a_model_read_and_wrote_is_charged_whether_it_is_said_or_not(said):
    left = []
    for model in (None, Scripted([said])):
        shop = Shop(budget=Allowance(":memory:", 10_000))
        shop.office.assistant.model = model
        assert "K-417" in text_of(shop.events(CODE))
        left.append(shop.service.budget.left("user:ann", shop.office.seconds))
        shop.events(CODE)  # from the cache: the model is not asked again
        again = left[-1] - shop.service.budget.left("user:ann", shop.office.seconds)
        assert again < 100
    assert left[0] - left[1] > 60


def test_a_budget_ends_and_is_renewed_at_midnight():
    shop = Shop(budget=Allowance(":memory:", module.ANSWER + 20))
    assert shop.post(CODE).status_code == 200
    reply = shop.post(CODE)
    assert reply.status_code == 429 and reply.headers["retry-after"] == str(12 * 3600)
    assert "midnight" in reply.json()["do"]
    assert shop.post(CODE, "user:bob").status_code == 200
    shop.office.seconds += 12 * 3600
    assert shop.post(CODE).status_code == 200


def test_a_failure_tells_no_reason_and_its_place_is_logged(monkeypatch, caplog):
    shop = Shop()

    def fail(*_):
        raise RuntimeError("wiki:d2 K-417 is broken")

    monkeypatch.setattr(shop.office.assistant, "answer", fail)
    caplog.set_level("ERROR")
    events = shop.events(CODE)
    assert "RuntimeError at" in caplog.text and " fail" in caplog.text  # where, and not what
    assert "K-417" not in caplog.text
    assert events[-1] == {"event": "failed", "what": "The answer broke off.", "do": "Ask again."}
    assert "K-417" not in str(events)
    monkeypatch.setattr(shop.service, "history", fail)
    reply = shop.client.get("/v1/conversations/c1", headers=shop.header())
    assert reply.status_code == 500 and "K-417" not in reply.text


def test_thumbs_count_once_for_a_turn():
    shop = Shop()
    shop.events(CODE)
    for up in (True, False):
        body = {"conversation": "c1", "turn": 0, "up": up}
        assert shop.post(body, route="/v1/thumbs").json() == {"kept": True}
    assert shop.service.thumbs.count() == (0, 1)
    body = {"conversation": "c1", "turn": 1, "up": True}
    assert shop.post(body, route="/v1/thumbs").status_code == 404


def test_alarms_ring_for_lag_and_for_a_slow_tail_and_not_before():
    lags = {"wiki": 7_199.0, "chat": 60.0}
    shop = Shop(lags=lambda: lags)
    assert alarms(shop) == []
    lags["wiki"], lags["drive"], lags["tickets"] = 7_200.0, float("nan"), None
    assert [one["what"].split()[0] for one in alarms(shop)] == ["drive", "tickets", "wiki"]
    state = shop.client.get("/v1/state", headers=shop.header("user:ops"))
    assert state.status_code == 200 and "nan" not in state.text
    lags.clear()
    ticks = iter(range(0, 10_000, 9))
    slow = lambda: float(next(ticks))  # noqa: E731
    for n in range(shop.service.pulse.fewest):
        assert alarms(shop) == []
        [*shop.service.ask("user:ann", Question(conversation=f"c{n}", question="Hm?"), slow)]
    assert alarms(shop)[0]["error"] == "slow"
    told = shop.client.get("/v1/state", headers=shop.header("user:ops")).json()
    assert told["answers"] == shop.service.pulse.fewest and told["alarms"][0]["error"] == "slow"
    assert told["first"][1] > 0 and "user:" not in json.dumps(told)


def test_errors_of_the_calls_are_problems():
    shop = Shop(budget=Allowance(":memory:", 10))
    with pytest.raises(Problem, match="budget"):
        shop.service.ask("user:ann", Question(**CODE), lambda: 0.0)


def test_the_library_tells_how_far_rights_and_texts_lag():
    shop = Shop()
    library, office = shop.office.library, shop.office
    for lags in (library.lags, library.rights_lags):
        lags.expects(["wiki", "chat"])
        lags.ended("wiki")
    told = lambda: [one["what"] for one in alarms(shop)]  # noqa: E731
    assert told() == [
        "chat (rights) was not read to its end yet.",
        "chat was not read to its end yet.",
    ]
    library.lags.ended("chat"), library.rights_lags.ended("chat")
    assert told() == []
    office.seconds += 60
    assert [one.split()[0] for one in told()] == ["chat", "wiki"]
    office.seconds += 7_140
    assert len(told()) == 4


def test_answers_that_fail_are_counted_apart_and_ready_says_so(monkeypatch):
    shop = Shop()
    answer = shop.office.assistant.answer
    assert shop.client.get("/ready").status_code == 200
    monkeypatch.setattr(shop.office.assistant, "answer", lambda *_: 1 / 0)
    for _ in range(module.BROKEN):
        assert shop.events(CODE)[-1]["event"] == "failed"
    ready = shop.client.get("/ready")
    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    told = shop.client.get("/v1/state", headers=shop.header("user:ops")).json()
    assert (told["answers"], told["failed"]) == (0, module.BROKEN)
    assert told["alarms"][0]["error"] == "failing"
    monkeypatch.setattr(shop.office.assistant, "answer", answer)
    shop.office.seconds += module.AGAIN + 1
    assert shop.client.get("/ready").status_code == 200  # worth a try
    shop.events(CODE)
    shop.office.seconds -= module.AGAIN
    assert shop.client.get("/ready").status_code == 200

    def broken(*_):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(shop.office.access, "sight", broken)
    assert shop.client.get("/ready").status_code == 503


def test_a_stream_that_was_never_begun_costs_nothing():
    shop = Shop(budget=Allowance(":memory:", 10_000))
    budget, now = shop.service.budget, shop.office.seconds
    for _ in range(5):
        shop.service.ask("user:ann", Question(**CODE), lambda: 0.0).close()
    assert budget.left("user:ann", now) == 10_000
    for _ in range(5):  # thrown away by whoever held it
        shop.service.ask("user:ann", Question(**CODE), lambda: 0.0)
    gc.collect()
    shop.service.tidy()
    assert budget.left("user:ann", now) == 10_000 and shop.service.pulse.told()["answers"] == 0


def test_a_stream_that_is_thrown_away_locks_nothing_where_it_is_collected():
    """Whoever collects it may hold the very locks that its end needs."""
    shop = Shop(budget=Allowance(":memory:", 10_000))
    stream = [shop.service.ask("user:ann", Question(**CODE), lambda: 0.0)]
    next(stream[0]), next(stream[0])

    def collected() -> None:
        shelf, service = shop.office.desk.turns.shelf, shop.service
        with shelf._lock, service.budget._lock, service.pulse._lock:
            stream.clear()
            gc.collect()

    within(10.0, collected)
    shop.service.tidy()
    assert len(shop.service.history("user:ann", "c1")["turns"][0]["answer"]) == 1
    assert 9_900 < shop.service.budget.left("user:ann", shop.office.seconds) < 10_000


def test_clients_that_hang_up_leave_a_service_that_answers_and_settled_budgets():
    shop = Shop(budget=Allowance(":memory:", 10**9))
    app = app_of(shop.service, time.monotonic, "user:ops")
    body, done = json.dumps(CODE).encode(), {"reserve": 0, "settle": 0}
    for name in done:
        call = getattr(shop.service.budget, name)

        def counted(*given, name=name, call=call):
            done[name] += 1
            return call(*given)

        setattr(shop.service.budget, name, counted)
    head = f"POST /v1/ask HTTP/1.1\r\nhost: x\r\nauthorization: {shop.header()['authorization']}"
    head += f"\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with serving(app) as url:
        port = int(url.rsplit(":", 1)[1])
        for n in range(80):
            with socket.create_connection(("127.0.0.1", port)) as sent:
                sent.sendall(head.encode() + body)
                time.sleep(0.0005 * (n % 12))
        told = httpx.get(
            f"{url}/v1/conversations/c1", headers=shop.header(), timeout=20, trust_env=False
        )
        assert told.status_code in (200, 404)
        deadline = time.monotonic() + 20
        while done["settle"] < done["reserve"] and time.monotonic() < deadline:
            time.sleep(0.05)
    assert done["settle"] == done["reserve"] > 0


def test_turns_keep_their_numbers_when_the_oldest_go():
    shop = Shop()
    for n in range(LONGEST + 2):
        turn = shop.events(CODE)[-1]["turn"]
        assert turn == n
    body = {"conversation": "c1", "turn": turn, "up": True}
    assert shop.post(body, route="/v1/thumbs").json() == {"kept": True}
    assert shop.post(body | {"turn": 0}, route="/v1/thumbs").status_code == 404
    told = [one["turn"] for one in shop.service.history("user:ann", "c1")["turns"]]
    assert told == [*range(2, LONGEST + 2)]


def test_a_version_that_is_a_time_and_a_line_as_long_as_a_page_are_cited_and_resolve():
    shop = Shop()
    long = " ".join([TEXTS["wiki:d2"][3]] * 80)
    shop.office.write("wiki:d2", long, version=1_767_225_600_000)
    cited = shop.events(CODE)[-1]["citations"][0]
    assert cited["version"] == 1_767_225_600_000 and len(cited["anchor"]) == 2_000
    assert shop.post(cited, route="/v1/citations").json()["state"] == "same"
    refused = shop.post(cited | {"version": 0}, route="/v1/citations").json()
    assert shop.post(cited | {"version": 2**53 + 1}, route="/v1/citations").status_code == 422
    assert "as as" not in refused["do"] and "Send version as the citation has it." in refused["do"]


def test_the_sources_own_version_is_shown_and_ours_decides():
    shop = Shop()
    shop.office.write("wiki:d2", version=1_770_000_001, told=3)
    cited = shop.events(CODE)[-1]["citations"][0]
    assert (cited["version"], cited["told"]) == (1_770_000_001, 3)
    header = shop.header()
    assert shop.client.get("/v1/documents/wiki:d2", headers=header).json()["version"] == "3"
    shop.office.write("wiki:d2", version=1_770_000_002, told=3)  # the source uses it twice
    found = shop.post(cited, route="/v1/citations").json()
    assert (found["state"], found["version"], found["told"]) == ("moved", 1_770_000_002, 3)


def test_no_citation_has_the_number_of_a_version_that_came_later():
    shop = Shop()
    shop.office.write("wiki:d2", version=1_770_000_001, told=3)
    events = shop.office.desk.ask("user:ann", "c1", CODE["question"])
    assert next(events)["event"] == "understood" and next(events)["event"] == "piece"
    shop.office.write("wiki:d2", version=1_770_000_002, told=4)
    assert {one["told"] for told in events for one in told.get("citations", [])} <= {0}


def test_the_state_has_lags_and_what_the_feeds_have_trouble_with():
    troubles = {"wiki": "does not answer: FeedDown"}
    shop = Shop(troubles=lambda: troubles, lags=lambda: {"wiki": float("inf"), "chat": 5.0})
    state = lambda: shop.client.get("/v1/state", headers=shop.header("user:ops")).json()  # noqa: E731
    told = state()
    assert told["lags"] == {"wiki": None, "chat": 5.0} and told["rights_lags"] == {}
    rung = [one for one in told["alarms"] if one["error"] == "feed"]
    assert [one["what"] for one in rung] == ["wiki: does not answer: FeedDown."]
    troubles.clear()
    assert all(one["error"] != "feed" for one in state()["alarms"])


def test_what_is_too_old_is_overwritten_while_requests_come():
    shop = Shop()
    shop.events(CODE)
    shop.office.seconds += 31 * 86_400
    assert shop.client.get("/ready").json() == {"ready": True}
    count = lambda db, table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: E731
    assert count(shop.office.desk.turns.shelf._db, "turn") == 0
    assert count(shop.office.desk.cache._db, "answers") == 0
