"""Case 20: the small local model as one of the providers, and a stand-in where it is not there."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager

import pytest
from llm_gateway_kit import Running

from casebook.cases.llm_gateway.world.tenants import LOCAL
from casebook.llm.serve import LocalServer
from casebook.llm.standins import StandIn

SERVED = os.environ.get("CASEBOOK_LLM_BASE_URL")
HI = [{"role": "user", "content": "Say: the parcel is here."}]


class Parcel(StandIn):
    """Says the same to everybody."""

    name, does = "parcel clerk", "says that the parcel is here"

    def answer(self, request):
        return "The parcel is here."


@contextmanager
def served(make):
    """Serve a model as ``make llm`` does, on a free port; yield the server."""
    server = LocalServer(make)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def gateway(url):
    """Run a gateway whose third provider is served there."""

    def change(raw):
        provider, model = LOCAL
        raw["providers"].append(provider | {"url": url.removesuffix("/v1")})
        raw["models"].append(model)
        raw["tenants"][0]["models"].append("local")
        raw["tenants"][0]["fallbacks"]["local"] = ["small"]

    with Running(change) as running:
        yield running


def asked(url):
    """Ask the local model whole and streamed, through a gateway; check what is billed."""
    with gateway(url) as running:
        ask = running.client("acme").chat.completions.create
        got = ask(model="local", messages=HI, max_tokens=16)
        chunks = list(ask(model="local", messages=HI, max_tokens=16, stream=True))
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        assert got.choices[0].message.content.strip() and text.strip() and got.model == "local"
        row = running.bill(got.id)
        assert row["state"] == "settled" and row["tokens_out"] == got.usage.completion_tokens > 0
        assert row["cost"] == 50 * (row["tokens_in"] + row["tokens_out"]) and running.settled()


def test_a_stand_in_for_the_local_model_answers_through_the_gateway_and_is_billed():
    with served(lambda settings: Parcel()) as server:
        asked(server.url)


@pytest.mark.skipif(not SERVED, reason="CASEBOOK_LLM_BASE_URL is not set: make llm serves a model")
def test_the_local_model_answers_through_the_gateway_and_is_billed():
    asked(SERVED)


def test_another_model_answers_when_the_local_one_cannot_or_is_gone():
    with served(lambda settings: Parcel()) as server, gateway(server.url) as running:
        body = {"model": "local", "messages": HI, "max_tokens": 9}
        server.make = lambda settings: 1 / 0
        crashed = running.post("acme", body)
        server.shutdown()
        server.server_close()
        gone = running.post("acme", body)
        assert [got.json()["model"] for got in (crashed, gone)] == ["small", "small"]
        assert running.settled()
