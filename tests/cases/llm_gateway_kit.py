"""What the tests of case 20 share: a small configuration, and servers in this process."""

from __future__ import annotations

import asyncio
import copy
import os
import time
import uuid
from contextlib import ExitStack
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import httpx
import openai
import pytest

from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.meter import audit
from casebook.cases.llm_gateway.server import create_app, shared_limits
from casebook.cases.llm_gateway.store import Store, put_config
from casebook.llm.mock_providers import MockProvider
from casebook.serving.api_keys import add_key
from casebook.serving.in_thread import loop_of, serving

GUARD = {"pii_in": "redact", "pii_out": "redact"}


def document(chat: str = "http://127.0.0.1:1", messages: str = "http://127.0.0.1:2") -> dict:
    """Return a configuration: two providers, two models, two tenants."""
    model = {"price_in": 150, "price_out": 600, "context": 4000, "most_out": 500}
    return {
        "providers": [
            {"name": "p1", "url": chat, "format": "chat"},
            {"name": "p2", "url": messages, "format": "messages"},
        ],
        "models": [
            {"name": "small", "provider": "p1", "upstream": "up-small", **model},
            {"name": "large", "provider": "p2", "upstream": "up-large", **model, "price_out": 9000},
        ],
        "tenants": [
            {"name": "acme", "models": ["small", "large"], "fallbacks": {"small": ["large"]}},
            {"name": "globex", "models": ["small"]},
        ],
    }


TENANTS = [
    {"name": "off", "models": ["small"], "active": False},
    {
        "name": "limited",
        "models": ["small", "large"],
        "limits": {"small": {"per_minute": 2, "burst": 2}},
    },
    {"name": "poor", "models": ["small"], "budget": 100_000},
    {"name": "warned", "models": ["small"], "budget": 1, "over": "warn"},
]


POSTGRES, REDIS = (os.environ.get(f"CASEBOOK_{name}_URL") for name in ("POSTGRES", "REDIS"))
NO_SERVERS = pytest.mark.skipif(
    not (POSTGRES and find_spec("psycopg")),
    reason="CASEBOOK_POSTGRES_URL is not set: .ci/run starts PostgreSQL and Redis",
)
#: Where a gateway keeps things: SQLite and this process, or PostgreSQL, and Redis if it is there.
KINDS = ["embedded", pytest.param("servers", marks=NO_SERVERS)]


def place(kind: str = "embedded") -> str:
    """Return where a new store is: in memory, or in a new schema of PostgreSQL."""
    if kind == "embedded":
        return ":memory:"
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f"create schema {name}")
    return f"{POSTGRES}?options=-csearch_path%3D{name}"


class Running:
    """Two providers and a gateway on loopback, with a key for each tenant."""

    def __init__(
        self, change: Any = None, most: int = 30, kind: str = "embedded", **providers: Any
    ) -> None:
        self.most, self.kind = most, kind
        self.p1, self.p2 = (
            MockProvider(form, 5, pause_s=2.5, **providers) for form in ("chat", "messages")
        )
        self._change, self._stack, self._keys = change, ExitStack(), {}

    def __enter__(self) -> Running:
        urls = [self._stack.enter_context(serving(one)) for one in (self.p1, self.p2)]
        self.document = document(*urls)
        for one in self.document["providers"]:
            one.update(first_s=1.5, total_s=2.0)
        self.document["tenants"] += copy.deepcopy(TENANTS)
        self.document["models"].append(
            {**self.document["models"][0], "name": "secret", "private": True}
        )
        if self._change:
            self._change(self.document)
        self._store = Store(place(self.kind))
        self.store(put_config, read(self.document))
        limits = shared_limits(REDIS if self.kind == "servers" else None, uuid.uuid4().hex)
        self.gateway = Gateway(self._store, environ={}, limits=limits)
        app = create_app(self.gateway, most=self.most)
        self.url = self._stack.enter_context(serving(app))
        self.loop = loop_of(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._store.close()

    def store(self, operation: Any, *given: Any) -> Any:
        return self._store.submit(operation, *given).result()

    def plan(self, first: list[str], second: list[str]) -> None:
        """Let the next requests meet these faults."""
        for provider, script in ((self.p1, first), (self.p2, second)):
            provider.script = ["ok"] * len(provider.ledger) + script

    def key(self, tenant: str, role: str = "caller") -> str:
        if (tenant, role) not in self._keys:
            key = self.store(add_key, tenant, role, "test", 0.0)
            self.refresh()
            self._keys[tenant, role] = key
        return self._keys[tenant, role]

    def headers(self, tenant: str, role: str = "caller") -> dict[str, str]:
        return {"authorization": f"Bearer {self.key(tenant, role)}"}

    def client(self, tenant: str) -> openai.OpenAI:
        url = f"{self.url}/v1"
        return openai.OpenAI(base_url=url, api_key=self.key(tenant), max_retries=0, timeout=20)

    def post(self, tenant: str, body: dict, headers: dict | None = None, key: str = "") -> Any:
        sent = {"authorization": f"Bearer {key}"} if key else self.headers(tenant)
        url = f"{self.url}/v1/chat/completions"
        return self.http.post(url, json=body, headers=sent | (headers or {}))

    @cached_property
    def http(self) -> httpx.Client:
        return self._stack.enter_context(httpx.Client(timeout=20))

    def get(self, tenant: str, path: str, role: str = "caller") -> Any:
        return self.http.get(self.url + path, headers=self.headers(tenant, role))

    def _rows(self, where: str, *given: Any) -> list[dict[str, Any]]:
        def ask(db: Any) -> list[dict[str, Any]]:
            found = db.execute(f"select * from meter where {where}", given)
            names = [one[0] for one in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

        return self.store(ask)

    def bill(self, number: str) -> dict[str, Any]:
        return self._rows("request = ?", number.removeprefix("chatcmpl-"))[0]

    def last(self, tenant: str) -> dict[str, Any]:
        return self._rows("tenant = ? order by at", tenant)[-1]

    def settled(self) -> bool:
        """Return whether nothing is open any more, and all sums agree; wait a little for it."""
        self._store.database.begin = "begin"
        until = time.time() + 2
        while self._rows("state = 'open'") and time.time() < until:
            time.sleep(0.02)
        return not self._rows("state = 'open'") and self.store(audit) == []

    def refresh(self) -> None:
        """Let the gateway see what has changed in the store."""
        asyncio.run_coroutine_threadsafe(self.gateway.refresh(), self.loop).result()
