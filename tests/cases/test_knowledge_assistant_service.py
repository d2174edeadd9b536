"""The service under attack: tokens, bodies, budgets, rights that are lost in mid-stream, alarms."""

from __future__ import annotations

import base64
import json

import pytest
from fastapi.testclient import TestClient
from knowledge_assistant_office import OF, Office

from casebook.cases.knowledge_assistant import service as module
from casebook.cases.knowledge_assistant.desk import UNKNOWN
from casebook.cases.knowledge_assistant.service import Question, Service, app_of
from casebook.llm import Scripted
from casebook.serving.allowance import Allowance
from casebook.serving.bearer import Bearer, Ring
from casebook.serving.showing import WITHDRAWN
from casebook.serving.strict import Problem

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
        f"Bearer {Bearer(shop.ring, clock=lambda: now() + 900).issue('user:ann')}",
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


def test_a_leaver_with_a_token_that_still_holds_reads_nothing():
    shop = Shop()
    shop.events(CODE)
    header = shop.header()
    shop.office.tell("directory", "user", "user:ann", False)
    reply = shop.client.post("/v1/ask", json=CODE, headers=header)
    assert "K-417" not in reply.text and UNKNOWN.text in reply.text
    told = shop.client.get("/v1/conversations/c1", headers=header).text
    assert "K-417" not in told


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


def test_a_failure_tells_no_reason(monkeypatch):
    shop = Shop()

    def fail(*_):
        raise RuntimeError("wiki:d2 K-417 is broken")

    monkeypatch.setattr(shop.office.assistant, "answer", fail)
    events = shop.events(CODE)
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
    lags["wiki"], lags["drive"] = 7_200.0, float("nan")
    assert [one["what"].split()[0] for one in alarms(shop)] == ["drive", "wiki"]
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
