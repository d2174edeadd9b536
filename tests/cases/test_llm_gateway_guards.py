"""Case 20: guardrails on the way in and out, the prompt registry, the cache, and isolation."""

from __future__ import annotations

import asyncio
import json
import logging
import re

import httpx
import numpy as np
import pytest
from llm_gateway_kit import Running

from casebook.cases.llm_gateway import gateway as gateway_module
from casebook.cases.llm_gateway import server as server_module
from casebook.serving import prompts
from casebook.serving.answer_cache import Cache

# Over HTTP -----------------------------------------------------------------------------


def echo(body):
    """Say what the request said last, in tokens of three letters."""
    text = body["messages"][-1]["content"]
    return re.findall(r"(?s).{1,3}", text)


TENANTS = [f"t{number}" for number in range(5)]


def change(raw):
    for one in raw["providers"]:
        one.update(first_s=10.0, total_s=20.0)  # the machine may be busy
    redact = {"pii_in": "redact", "pii_out": "redact", "most_out": 400}
    raw["tenants"] = [
        {"name": name, "models": ["small", "large"], "fallbacks": {"small": ["large"]},
         "cache_s": 60, "guard": redact if name == "t0" else {}}
        for name in TENANTS
    ]  # fmt: skip
    raw["tenants"][1]["guard"] = {"pii_out": "redact"}


@pytest.fixture(scope="module")
def running():
    with Running(change, most=200, says=echo) as made:
        yield made


def said(text, **rest):
    return {"messages": [{"role": "user", "content": text}], **rest}


def text_of(got):
    """Return the text of an answer, JSON or stream."""
    if got.headers["content-type"] == "application/json":
        return got.json()["choices"][0]["message"]["content"]
    events = [json.loads(line[6:]) for line in got.text.splitlines() if "{" in line]
    return "".join(e["choices"][0]["delta"].get("content", "") for e in events if e.get("choices"))


@pytest.mark.parametrize("stream", [False, True])
def test_personal_data_are_redacted_on_both_ways(running, stream):
    text = f"I am jane.doe@example.com, and who are you? {stream} " + "Tell me more. " * 12
    got = running.post("t0", said(text, stream=stream))
    assert "jane.doe" not in str(running.p1.bodies[-1]) and "[email]" in text_of(got)
    got = running.post("t0", said("word " * 13_000))
    assert got.status_code == 400, "longer than its model's context"
    got = running.post("t1", said(text, stream=stream))
    assert "jane.doe" in str(running.p1.bodies[-1]), "this one redacts answers alone"
    assert text_of(got) == text.replace("jane.doe@example.com", "[email]")


def test_an_answer_that_does_not_fit_its_schema_is_no_answer_and_is_not_billed(running):
    schema = {"type": "object", "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert running.post("t2", said('{"sum": 3}', response_format=form)).status_code == 200
    for wrong in ("no JSON", '{"total": 3}'):
        got = running.post("t2", said(wrong, response_format=form))
        assert (got.status_code, got.json()["error"]["code"]) == (502, "wrong_answer")
        row = running.last("t2")
        assert row["state"] == "released" and row["waste"] > 0


def test_what_a_masked_stream_wasted_is_what_came_and_not_what_left(running):
    running.plan(["cut"], [])
    running.post("t0", said("word " * 30, model="small", stream=True))
    row = running.last("t0")
    assert (row["state"], row["how"]) == ("released", "failed") and row["waste"] >= 600 * 20


def test_a_provider_that_does_not_stop_is_stopped(running):
    tokens = running.p1._tokens
    running.p1._tokens = lambda number, body, most: (["ab "] * 50, "stop")
    got = running.post("t2", said("count", max_tokens=7, stream=True))
    running.p1._tokens = tokens
    assert len(text_of(got)) <= 21 and '"finish_reason": "length"' in got.text
    assert running.last("t2")["tokens_out"] == len(text_of(got)) / 3


def test_the_same_question_costs_once_and_only_its_tenant_has_the_answer(running):
    before = len(running.p1.ledger)
    found = [running.post(name, said("a question")) for name in ("t2", "t2", "t3")]
    assert {text_of(got) for got in found} == {"a question"}
    assert len(running.p1.ledger) == before + 2
    row = running.last("t2")
    assert (row["how"], row["cost"], row["state"]) == ("cached", 0, "settled")


def test_a_router_chooses_among_what_a_tenant_may_ask(running):
    assert running.post("t2", said("hi", model="auto")).status_code == 404
    running.gateway.route = lambda said, may: may[-1] if "prove" in said[-1].content else may[0]
    got = [running.post("t2", said(text, model="auto")) for text in ("hello", "prove it")]
    running.gateway.route = None
    assert [one.json()["model"] for one in got] == ["small", "large"]


def test_prompts_have_versions_a_split_by_user_and_one_owner(running):
    for text in ("One: {{what}}", "Two: {{what}}"):
        running.store(prompts.add, "t2", "greet", prompts.Prompt(user=text), 0.0)
    running.refresh()

    def ask(tenant="t2", user="u1", **rest):
        prompt = {"name": "greet", "variables": {"what": "{{what}} hi"}, **rest}
        return running.post(tenant, {"prompt": prompt, "user": user})

    assert text_of(ask()) == "Two: {{what}} hi", "the newest, and a value is not filled again"
    assert text_of(ask(version=1)) == "One: {{what}} hi"
    assert [ask(version=3).status_code, ask("t3").status_code] == [404, 404]
    assert ask(variables={}).status_code == ask(variables={"who": "x"}).status_code == 422
    running.store(prompts.split, "t2", "greet", {1: 0.3, 2: 0.7})
    with pytest.raises(ValueError, match="no version 9"):
        running.store(prompts.split, "t2", "greet", {9: 1.0})
    with pytest.raises(ValueError, match="sum"):
        running.store(prompts.split, "t2", "greet", {1: 0.3, 2: 0.3})
    fetched = running.store(prompts.fetch, "t2", "greet")
    got = [prompts.chosen(fetched, "greet", None, f"u{n}")[0] for n in range(600)]
    assert 0.23 < got.count(1) / 600 < 0.37
    running.refresh()
    texts = {text_of(ask(user="u5")) for _ in range(3)}
    assert len(texts) == 1 and running.last("t2")["prompt"] in ("greet@1", "greet@2")


# Isolation -----------------------------------------------------------------------------


async def crowd(running, seed, n=120):
    """Let five tenants ask at once, each with a word of its own; return who got what."""
    rng = np.random.default_rng(seed)
    url, heads = f"{running.url}/v1/chat/completions", {t: running.headers(t) for t in TENANTS}

    async def one(client, number):
        tenant = TENANTS[number % 5]
        text = f"my word is word-of-{tenant}-{rng.integers(8)}, say it again"
        body = said(text, stream=bool(rng.integers(2)), model=str(rng.choice(["small", "large"])))
        if rng.random() < 0.3:
            body = {"prompt": {"name": "own", "variables": {"x": text}}, **body}
        if rng.random() < 0.15:
            body["unknown"] = text
        headers = heads[tenant] | ({"idempotency-key": "same"} if rng.random() < 0.1 else {})
        await asyncio.sleep(float(rng.uniform(0, 0.5)))
        got = await client.post(url, json=body, headers=headers)
        text = got.text + str(got.headers) + (text_of(got) if got.is_success else "")
        return tenant, "answer" if got.is_success else "error", text

    async with httpx.AsyncClient(timeout=20) as client:
        return await asyncio.gather(*(one(client, number) for number in range(n)))


def words(text):
    """Return the tenants whose words a text holds."""
    return {*re.findall(r"word-of-(t\d)", text)}


def leaks(running, seeds, caplog, n=120):
    """Let crowds ask; return where a tenant's words or name came to another, and all answers."""
    sent = [len(provider.bodies) for provider in (running.p1, running.p2)]
    caplog.clear()
    with caplog.at_level(logging.INFO, "llm_gateway"):
        found = [one for seed in seeds for one in asyncio.run(crowd(running, seed, n))]
    places = {place for tenant, place, text in found if words(text) - {tenant}}
    bodies = [b for p, k in zip((running.p1, running.p2), sent, strict=True) for b in p.bodies[k:]]
    places |= {"provider"} if any(len(words(str(body))) > 1 for body in bodies) else set()
    told = caplog.text + str(running.store(lambda db: db.execute("select * from meter").fetchall()))
    places |= {"log or meter"} if "word-of" in told or "sk-secret" in told else set()
    metrics = running.get("t1", "/metrics").text
    places |= {"metric"} if "word-of" in metrics or re.search('"t[0234]"', metrics) else set()
    return places, found


@pytest.fixture
def tenants(running):
    """Give each tenant a prompt of the same name, and forget what providers have failed."""
    if not running.store(prompts.names, "t4"):
        for name in TENANTS:
            prompt = prompts.Prompt(system=f"word-of-{name}", user="{{x}}")
            running.store(prompts.add, name, "own", prompt, 0.0)
        running.refresh()
    running.gateway.caller.health.clear()
    yield running
    assert running.settled()


@pytest.mark.parametrize("seed", [1, 2])
def test_no_text_of_a_tenant_reaches_another_or_a_log_or_a_metric(tenants, caplog, seed):
    for provider in (tenants.p1, tenants.p2):
        provider.shares = {"failed": 0.02, "cut": 0.02, "stream_error": 0.02, "malformed": 0.01}
    places, found = leaks(tenants, [seed], caplog)
    for provider in (tenants.p1, tenants.p2):
        provider.shares = {}
    assert places == set() and len(caplog.records) > 60
    assert "sk-secret" not in str(found) and sum(p == "error" for _, p, _ in found) > 5
    assert sum("word-of" in text for _, _, text in found) > 50


class ByName(dict):
    """Prompts that are kept by their name alone, whoever owns them."""

    def get(self, at, default=None):
        return super().get(at[1], default)

    def __setitem__(self, at, found):
        super().__setitem__(at[1], found)


def shared_cache(gateway, monkeypatch):
    monkeypatch.setattr(gateway_module, "key_of", lambda *parts: "one key")
    monkeypatch.setattr(gateway, "cache", shared := Cache())
    shared.get, shared.put = (
        lambda _, key: Cache.get(shared, "", key),
        lambda _, key, answer, seconds: Cache.put(shared, "", key, answer, seconds),
    )


def shared_prompts(gateway, monkeypatch):
    monkeypatch.setattr(gateway, "_prompts", ByName())


def shared_text(gateway, monkeypatch):
    """The newest conversation is kept in one place, and a request waits before it reads it."""
    last, plain = [], gateway._said

    async def swapped(*given):
        request, own, *rest = await plain(*given)
        last.append(own)
        await asyncio.sleep(0.05)
        return request, last[-1], *rest

    monkeypatch.setattr(gateway, "_said", swapped)
    monkeypatch.setattr(gateway, "cache", Cache())


def told_log(gateway, monkeypatch):
    plain = server_module.logged

    def told(gateway, job, *rest):
        server_module.LOG.info(" ".join(job.asked.texts()))
        plain(gateway, job, *rest)

    monkeypatch.setattr(server_module, "logged", told)


def all_metrics(gateway, monkeypatch):
    plain = gateway.metrics.text
    monkeypatch.setattr(gateway.metrics, "text", lambda tenant: plain(None))


def told_error(gateway, monkeypatch):
    """An error quotes the body that was read last."""
    last, parse, error = [], server_module.parse, server_module.error

    def kept(raw, model):
        last.append(raw)
        return parse(raw, model)

    def quoting(problem, request=""):
        problem.what += f" Last seen: {last[max(0, len(last) - 2)]!r}"
        return error(problem, request)

    monkeypatch.setattr(server_module, "parse", kept)
    monkeypatch.setattr(server_module, "error", quoting)


PLANTED = [(shared_cache, "answer"), (shared_prompts, "provider"), (shared_text, "answer"),
           (told_log, "log or meter"), (all_metrics, "metric"), (told_error, "error")]  # fmt: skip


@pytest.mark.parametrize(("plant", "place"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_the_checks_of_isolation_find_what_is_planted(tenants, monkeypatch, caplog, plant, place):
    plant(tenants.gateway, monkeypatch)
    assert place in leaks(tenants, [3, 4], caplog, 30)[0]
