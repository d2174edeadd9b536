"""Case 20: a gateway process under random faults, clients that leave, and a kill in the middle."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import ExitStack

import httpx
import numpy as np
from llm_gateway_kit import document

from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.meter import audit, recover
from casebook.cases.llm_gateway.store import Store, add_key, put_config
from casebook.llm.mock_providers import MockProvider
from casebook.serving.in_thread import serving
from casebook.serving.load import Server

CLIENTS = 8
SHARES = {"failed": 0.03, "cut": 0.03, "stream_error": 0.02, "slow": 0.05, "malformed": 0.02}


def ended(got, raw):
    """Return id and usage of an answer that is complete, else None."""
    if got.status_code != 200:
        return None
    if got.headers["content-type"] == "application/json":
        body = json.loads(raw)
        return body["id"], body["usage"]
    events = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    if events[-1] != "[DONE]":
        return None
    last = json.loads(events[-2])
    return last["id"], last["usage"]


async def client(url, who, keys, seen, left, stop):
    """Ask until told to stop, or until nobody answers; sometimes leave in the middle."""
    rng, http = np.random.default_rng(who), httpx.AsyncClient(timeout=10)
    while not stop.is_set():
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": bool(rng.integers(2))}
        body["stream_options"] = {"include_usage": True}
        tenant, leaves, raw = ("acme", "globex")[who % 2], rng.random() < 0.15, b""
        head = {"authorization": f"Bearer {keys[tenant]}"}
        sent = http.build_request("POST", f"{url}/v1/chat/completions", json=body, headers=head)
        try:
            got = await http.send(sent, stream=True)
            async for chunk in got.aiter_bytes():
                raw += chunk
                if leaves and body["stream"]:
                    break
            else:
                seen.append(ended(got, raw))
            left.append(leaves and body["stream"])
            await got.aclose()
        except httpx.HTTPError:
            await asyncio.sleep(0.05)
    await http.aclose()


def test_what_clients_saw_is_what_is_billed_also_when_the_gateway_is_killed(tmp_path):
    path, seen, left = tmp_path / "db", [], []
    options = {"shares": SHARES, "token_s": 0.0005, "pause_s": 0.05}
    with ExitStack() as stack:
        made = [MockProvider(form, 7, **options) for form in ("chat", "messages")]
        config = read(document(*(stack.enter_context(serving(one)) for one in made)))
        store = Store(path, durable=False)
        store.submit(put_config, config).result()
        keys = {t: store.submit(add_key, t, "caller", "", 0.0).result() for t in config.tenant}
        store.close()
        for enough in (35, 70):
            with Server("casebook.cases.llm_gateway.server:app", {"path": str(path)}) as server:
                stop = threading.Event()

                async def crowd(url=server.url, stop=stop):
                    given = (keys, seen, left, stop)
                    await asyncio.gather(*(client(url, n, *given) for n in range(CLIENTS)))

                crowd_thread = threading.Thread(target=lambda go=crowd: asyncio.run(go()))
                crowd_thread.start()
                until = time.time() + 20
                while len(seen) < enough and time.time() < until:
                    time.sleep(0.02)
                server.kill()
                stop.set()
                crowd_thread.join(20)
    store = Store(path, durable=False)
    assert store.submit(audit).result() == []
    assert store.submit(recover, time.time() + 60).result() <= 2 * CLIENTS
    rows = store.submit(
        lambda db: db.execute(
            "select request, how, tokens_in, tokens_out, cost from meter where state = 'settled'"
        ).fetchall()
    ).result()
    assert store.submit(audit).result() == []
    store.close()
    complete = {number.removeprefix("chatcmpl-"): usage for number, usage in filter(None, seen)}
    billed = {row[0]: row for row in rows if row[1] == "complete"}
    assert len(complete) > 30 and complete.keys() <= billed.keys(), "answered means billed"
    for number, usage in complete.items():
        told = usage["prompt_tokens"], usage["completion_tokens"]
        assert billed[number][2:4] == told
    assert len(billed) - len(complete) <= 2 * CLIENTS + sum(left), "in flight at a kill, or left"
    assert any(row[1] == "left" for row in rows)
    whole = sum(one.whole for provider in made for one in provider.ledger)
    assert len(billed) <= whole, "nobody pays for what no provider has answered"
