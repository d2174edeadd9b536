"""Case 20: the gateway over HTTP, asked by the official client, under each fault."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import httpx
import openai
import pytest
from llm_gateway_kit import KINDS, Running

from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.meter import forget
from casebook.cases.llm_gateway.store import put_config
from casebook.llm.messages import estimate_tokens
from casebook.serving.api_keys import hashed

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module", params=KINDS)
def running(request):
    with Running(kind=request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def healthy(running):
    yield
    running.gateway.caller.health.clear()
    running.gateway.caller._limited.clear()
    running.plan([], [])
    assert running.settled(), "a request stays open"


# The official client -------------------------------------------------------------------


def test_the_official_client_gets_an_answer_and_what_it_is_billed(running):
    client = running.client("acme")
    got = client.chat.completions.create(model="small", messages=HI, max_tokens=50)
    served = running.p1.ledger[-1]
    assert got.choices[0].message.content and got.model == "small"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (
        served.tokens_in, served.tokens_out,
    )  # fmt: skip
    row = running.bill(got.id)
    assert row["cost"] == 150 * served.tokens_in + 600 * served.tokens_out
    assert row["state"] == "settled" and row["tenant"] == "acme"


def test_the_official_client_streams_and_gets_the_usage_at_the_end(running):
    stream = running.client("acme").chat.completions.create(
        model="large", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    served = running.p2.ledger[-1]
    assert len(text.split()) == served.tokens_out == chunks[-1].usage.completion_tokens
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert all(c.usage is None for c in chunks[:-1]) and chunks[0].choices[0].delta.role
    assert running.bill(chunks[0].id)["tokens_out"] == served.tokens_out


def test_each_tenant_sees_its_own_models(running):
    assert [one.id for one in running.client("acme").models.list()] == ["small", "large"]
    assert [one.id for one in running.client("globex").models.list()] == ["small"]
    with pytest.raises(openai.PermissionDeniedError):
        running.client("globex").models.retrieve("large")


def test_a_model_takes_over_and_says_so(running):
    running.plan(["failed", "failed"], [])
    for stream in (False, True):
        got = running.client("acme").chat.completions.create(
            model="small", messages=HI, stream=stream
        )
        names = {c.model for c in got} if stream else {got.model}
        assert names == {"large"} or (stream and names == {"small"}), "its retry"


# Statuses ------------------------------------------------------------------------------


def test_without_a_key_that_holds_nothing_is_answered(running):
    body = {"messages": HI}
    for headers in ({}, {"authorization": "Bearer gw-wrong"}, {"authorization": "Basic x"}):
        got = httpx.post(f"{running.url}/v1/chat/completions", json=body, headers=headers)
        assert got.status_code == 401 and got.headers["www-authenticate"] == "Bearer"
        assert got.json()["error"]["do"].startswith("Send Authorization")
    for path in ("/v1/models", "/metrics"):
        assert httpx.get(running.url + path).status_code == 401


def test_a_key_that_ended_and_a_tenant_that_is_off_are_refused(running):
    key = running.key("acme")
    assert running.post("acme", {"messages": HI}, key=key).status_code == 200
    running.gateway.keys[hashed(key)] = running.gateway.keys[hashed(key)]._replace(ends=1.0)
    assert running.post("acme", {"messages": HI}, key=key).status_code == 401
    assert running.post("off", {"messages": HI}).status_code == 403


@pytest.mark.parametrize(
    ("tenant", "body", "status", "code"),
    [
        ("globex", {"model": "large"}, 403, "model_not_allowed"),
        ("globex", {"model": "gpt-9"}, 404, "unknown_model"),
        ("globex", {"model": "secret"}, 404, "unknown_model"),
        ("acme", {"tools": []}, 422, "invalid_request"),
        ("acme", {"max_tokens": 0}, 422, "invalid_request"),
        ("acme", {"prompt": {"name": "nothing"}}, 404, "unknown_prompt"),
        ("acme", {"messages": [{"role": "user", "content": "x" * 20_000}]}, 400,
         "context_length_exceeded"),
        ("acme", {"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "no"}}}}, 422, "invalid_schema"),
    ],
)  # fmt: skip
def test_each_wrong_request_has_its_status(running, tenant, body, status, code):
    got = running.post(tenant, {"messages": HI, **body})
    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (status, code), error
    assert error["what"] and error["do"] and error["message"].endswith(error["do"])


def test_bodies_that_are_too_large_malformed_or_of_another_kind_are_refused(running):
    url, headers = f"{running.url}/v1/chat/completions", running.headers("acme")
    kind = {"content-type": "application/json"}
    found = [
        httpx.post(url, content=b"x" * 1_000_001, headers=headers | kind),
        httpx.post(url, content=iter([b"x" * 600_000] * 2), headers=headers | kind),
        httpx.post(url, content=b'{"messages": [', headers=headers | kind),
        httpx.post(url, content=b"[" * 100_000, headers=headers | kind),
        httpx.post(url, content=b"{}", headers=headers | {"content-type": "text/plain"}),
        httpx.get(url, headers=headers),
        httpx.get(f"{running.url}/nothing", headers=headers),
    ]
    assert [got.status_code for got in found] == [413, 413, 400, 400, 415, 405, 404]
    assert all(got.json()["error"]["do"] for got in found)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("rate_limited", 429), ("failed", 502), ("unauthorized", 503), ("bad_request", 400),
     ("malformed", 502), ("timeout", 504), ("cut", 502)],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_each_fault_of_a_provider_has_its_status_and_costs_nothing(running, fault, status, stream):
    running.plan([fault] * 2, [])
    got = running.post("globex", {"messages": HI, "stream": stream})
    if fault == "cut" and stream:
        last = got.text.strip().splitlines()[-1]
        assert "broke off" in json.loads(last[6:])["error"]["message"] and "DONE" not in got.text
    else:
        assert got.status_code == status, got.text
        assert status == 400 or int(got.headers["retry-after"]) >= 1
    assert "sk-secret" not in got.text
    row = running.bill(got.headers["x-request-id"])
    assert row["state"] == "released" and row["cost"] == 0


def test_the_official_client_raises_what_breaks_off(running):
    running.plan(["stream_error"], [])
    stream = running.client("globex").chat.completions.create(
        messages=HI, model="small", stream=True
    )
    with pytest.raises(openai.APIError, match="broke off"):
        list(stream)


def test_a_limit_says_when_to_come_back(running):
    found = [running.post("limited", {"messages": HI}) for _ in range(4)]
    assert [got.status_code for got in found] == [200, 200, 429, 429]
    assert found[-1].headers["retry-after"] in ("29", "30")
    assert running.post("limited", {"messages": HI, "model": "large"}).status_code == 200


def test_a_budget_rejects_or_warns(running):
    assert running.post("poor", {"messages": HI, "max_tokens": 400}).status_code == 402
    assert running.post("poor", {"messages": HI, "max_tokens": 1}).status_code == 200
    got = running.post("warned", {"messages": HI})
    assert got.status_code == 200 and got.headers["x-gateway-warning"] == "over budget"


def test_a_repeated_request_is_billed_once(running):
    for stream in (False, True):
        once = {"idempotency-key": f"order-7-{stream}"}
        body, before = {"messages": HI, "stream": stream}, len(running.p1.ledger)
        first, again = (running.post("acme", body, headers=once) for _ in range(2))
        assert first.status_code == again.status_code == 200
        assert len(running.p1.ledger) == before + 1
        assert running.post("globex", body, headers=once).status_code == 200, "its own key"
    other = running.post("acme", body | {"stream": False}, headers=once)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "key_reused")
    running.store(forget, time.time() + 601)
    gone = running.post("acme", body, headers=once)
    assert gone.status_code == 409 and gone.headers["x-should-retry"] == "false"
    assert running.post("acme", body, headers={"idempotency-key": "x" * 201}).status_code == 422


def test_a_failed_request_may_be_repeated_with_its_key(running):
    running.plan(["failed"] * 2, [])
    once = {"idempotency-key": "order-8"}
    found = [running.post("globex", {"messages": HI}, headers=once) for _ in range(2)]
    assert [got.status_code for got in found] == [502, 200]


def test_a_store_that_is_down_is_503_and_nothing_was_asked(running):
    running._store.database.begin = "begin, please"
    before = len(running.p1.ledger)
    got = running.post("acme", {"messages": HI})
    assert got.status_code == 503 and got.json()["error"]["code"] == "store_down"
    assert len(running.p1.ledger) == before and int(got.headers["retry-after"]) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_whose_bill_cannot_be_written_is_not_complete_and_not_billed(running, stream):
    """The store goes down while the model answers; what was reserved is released later."""
    running.p1.token_s = 0.01
    database, plain = running._store.database, running.p1._tokens
    before = len(running.p1.ledger)

    def tokens(number, *given):
        if number >= before:  # a late answer of another test stops nothing
            database.begin = "begin, please"
        return plain(number, *given)

    running.p1._tokens = tokens
    got = running.post("globex", {"messages": HI, "stream": stream})
    running.p1._tokens, running.p1.token_s = plain, 0.0
    assert "store does not answer" in got.text and "DONE" not in got.text
    assert got.status_code == (200 if stream else 503)
    assert running.settled(), "released as soon as the store is back"
    assert running.bill(got.headers["x-request-id"])["state"] == "released"


def test_a_slow_stream_is_passed_on_and_billed(running):
    running.p1.pause_s = 0.3
    running.plan(["slow"], [])
    got = running.post("globex", {"messages": HI, "stream": True})
    running.p1.pause_s = 2.5
    assert got.status_code == 200 and "[DONE]" in got.text and got.elapsed.total_seconds() > 0.3
    assert running.last("globex")["state"] == "settled"


def test_too_many_requests_are_refused_before_their_body_is_read(running):
    running.p1.first_s = 0.3

    async def many():
        async with httpx.AsyncClient(timeout=20) as client:
            url, headers = f"{running.url}/v1/chat/completions", running.headers("acme")
            asked = [client.post(url, json={"messages": HI}, headers=headers) for _ in range(40)]
            return await asyncio.gather(*asked)

    found = asyncio.run(many())
    running.p1.first_s = 0.0
    statuses = [got.status_code for got in found]
    assert set(statuses) == {200, 503} and statuses.count(200) == running.most // 2
    assert all(got.headers["retry-after"] for got in found if got.status_code == 503)


# A client that leaves ------------------------------------------------------------------


def test_who_leaves_a_stream_pays_for_what_came(running):
    running.p1.token_s = 0.01
    stream = running.client("acme").chat.completions.create(model="small", messages=HI, stream=True)
    got = [next(stream) for _ in range(5)]
    stream.close()
    deadline = time.time() + 5
    while (row := running.bill(got[0].id))["state"] == "open" and time.time() < deadline:
        time.sleep(0.02)
    running.p1.token_s = 0.0
    assert (row["state"], row["how"]) == ("settled", "left")
    assert 3 <= row["tokens_out"] < running.p1.ledger[-1].tokens_out
    assert row["cost"] == 150 * row["tokens_in"] + 600 * row["tokens_out"]
    assert row["tokens_in"] == estimate_tokens("hi"), "the usage comes at the end only"


def test_who_leaves_before_the_first_piece_pays_nothing(running):
    running.p1.first_s = 0.5
    body = json.dumps({"messages": HI, "stream": True, "model": "small"}).encode()
    host, port = running.url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    bearer = running.headers("acme")["authorization"]
    head += f"Content-Type: application/json\r\nAuthorization: {bearer}"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        time.sleep(0.15)
    time.sleep(0.2)
    running.p1.first_s = 0.0
    row = running.last("acme")
    assert (row["state"], row["how"], row["cost"]) == ("released", "left", 0)


# Besides -------------------------------------------------------------------------------


def test_metrics_are_a_tenants_own_and_a_platform_sees_all(running):
    for tenant in ("acme", "globex"):
        running.post(tenant, {"messages": HI})
    own = running.get("globex", "/metrics").text
    assert 'tenant="globex"' in own and "acme" not in own
    assert "request_seconds_bucket" in own
    platform = running.get("globex", "/metrics", role="platform").text
    assert 'tenant="acme"' in platform
    assert httpx.get(f"{running.url}/health").json()["status"] == "ok"


def test_a_changed_configuration_holds_without_a_restart(running):
    raw = running.document
    changed = json.loads(json.dumps(raw))
    changed["tenants"][1]["models"].append("large")
    running.store(put_config, read(changed))
    running.refresh()
    assert running.post("globex", {"messages": HI, "model": "large"}).status_code == 200
    running.store(put_config, read(raw))
    running.refresh()
    assert running.post("globex", {"messages": HI, "model": "large"}).status_code == 403
