"""Whether anything of one tenant reaches another, the log, the metrics or the meter.

Each of five tenants has a word of its own that nobody else may ever read. They ask at once, and
half of the time the very same bodies with the same idempotency keys: of those, a word in the text
tells nothing. So each answer of the provider has a number that never comes again, and a number that
two tenants have seen is a leak. The check is tried on gateways with a planted fault: one that finds
none of them would find nothing.
"""

from __future__ import annotations

import json
import re
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from fastapi import FastAPI

from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.measured import CHAT, filled, gateway, name_of
from casebook.cases.llm_gateway.store import Store
from casebook.llm.mock_providers import MockProvider
from casebook.serving import prompts
from casebook.serving.answer_cache import key_of
from casebook.serving.load import Server
from casebook.serving.scheduled import Request, Scheduled

NEIGHBOURS = tuple(f"t{i}" for i in range(5))


def echoing() -> MockProvider:
    """Return a provider that says what was said to it, and a number that never comes again."""
    numbers = count()

    def says(body: Mapping[str, Any]) -> list[str]:
        said = " ".join(str(one["content"]) for one in body["messages"])
        return [f"{word} " for word in [*said.split(), f"answer-{next(numbers)}."]]

    return MockProvider("chat", 3, says=says)


class _OneShelf:
    """A cache that all tenants share."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def get(self, _: str, key: str) -> Any:
        return self._own.get("", "" if len(key) > 32 else key)

    def put(self, _: str, key: str, answer: Any, seconds: float) -> None:
        self._own.put("", "" if len(key) > 32 else key, answer, seconds)


class _ByName(dict):
    """Prompts by their name alone."""

    def get(self, at: tuple[str, str], default: Any = None) -> Any:
        return super().get(at[1], default)

    def __setitem__(self, at: tuple[str, str], found: Any) -> None:
        super().__setitem__(at[1], found)


def _shares_cache(gateway: Gateway) -> None:
    gateway.cache = _OneShelf(gateway.cache)


def _by_content(gateway: Gateway) -> None:
    own = gateway.cache
    gateway.cache = SimpleNamespace(
        get=lambda _, key: own.get("", key),
        put=lambda _, key, answer, seconds: own.put("", key, answer, seconds),
    )


def _keys_alone(gateway: Gateway) -> None:
    said = gateway._said

    async def without(tenant: Any, asked: Any, once: str) -> Any:
        _, *rest = await said(tenant, asked, once)
        return key_of("", once)[:32] if once else uuid.uuid4().hex, *rest

    gateway._said = without


def _shares_prompts(gateway: Gateway) -> None:
    gateway._prompts = _ByName()


def _shares_metrics(gateway: Gateway) -> None:
    text = gateway.metrics.text
    gateway.metrics.text = lambda _: text(None)


def _logs_texts(gateway: Gateway) -> None:
    admit = gateway.admit

    async def telling(tenant: Any, asked: Any, once: str = "") -> Any:
        job = await admit(tenant, asked, once)
        job.flags.append(str(asked.messages[-1]))
        return job

    gateway.admit = telling


PLANTED: Mapping[str, Callable[[Gateway], None]] = {
    "a cache by content": _by_content,
    "idempotency keys without a tenant": _keys_alone,
    "a cache for all": _shares_cache,
    "prompts by name alone": _shares_prompts,
    "metrics of all": _shares_metrics,
    "texts in the log": _logs_texts,
}


def gateway_with(path: str, planted: str = "") -> FastAPI:
    """Return a gateway with one of the ``PLANTED`` faults."""
    return gateway(path, change=PLANTED.get(planted))


def isolation(queries: int = 2_000, few: int = 200, seed: int = 1) -> pd.DataFrame:
    """Look for each tenant's word in what the others, the log, metrics and meter hold.

    Five tenants ask at once, with a word of their own or the same body and idempotency key as the
    others; with prompts of the same names and a cache. The gateways with planted faults get
    ``few``; the first of them, a cache by content, is the gateway that the other one is compared
    with, and gets as many. Requests repeat each other, so no bound of a rate follows from them.

    Returns
    -------
    DataFrame
        ``planted`` (empty: the gateway as it is), ``queries``, ``equal`` (of them, those whose body
        another tenant sends too), ``answered``, ``leaks`` (places that hold what they must not),
        ``where``.
    """
    rows = []
    for at, planted in enumerate(("", *PLANTED)):
        n = few if at > 1 else queries
        answered, found = _looked(planted, n, seed)
        where = ", ".join(f"{n} {name}" for name, n in Counter(found).items())
        rows.append((planted, n, equal(n, seed), answered, len(found), where))
    names = ["planted", "queries", "equal", "answered", "leaks", "where"]
    return pd.DataFrame(rows, columns=names)


def equal(n: int, seed: int) -> int:
    """Return how many requests have a body that another tenant sends too."""
    senders: dict[str, set[str]] = {}
    made = _asking("", dict.fromkeys(NEIGHBOURS, ""), n, seed)
    bodies = [json.dumps(one.body) for one in made]
    for tenant, body in zip(_askers(n, seed), bodies, strict=True):
        senders.setdefault(body, set()).add(tenant)
    return sum(len(senders[body]) > 1 for body in bodies)


def _looked(planted: str, n: int, seed: int, rps: float = 60.0) -> tuple[int, list[str]]:
    """Ask a gateway; return how many were answered, and each place with a foreign word."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = str(Path(folder) / "db")
        own = stack.enter_context(Server(name_of(echoing)))
        raw: dict[str, Any] = {"providers": [{"name": "p", "url": own.url, "format": "chat"}]}
        model = {"name": "m", "provider": "p", "upstream": "m", "price_in": 150, "price_out": 600}
        tenants = [{"name": name, "models": ["m"], "cache_s": 60} for name in NEIGHBOURS]
        keys = filled(Path(path), raw | {"models": [model], "tenants": tenants})
        store = Store(path)
        for name in NEIGHBOURS:
            own_word = prompts.Prompt(system=f"word-of-{name}", user="{{x}}")
            store.submit(prompts.add, name, "own", own_word, 0.0).result()
        one = stack.enter_context(Server(name_of(gateway_with), {"path": path, "planted": planted}))
        asked = _asking(one.url, keys, n, seed, rps)
        with Scheduled(asked) as crowd:
            seen = crowd.wait()
        found = _foreign(seen, n, seed)
        for name in NEIGHBOURS:
            lines = _metrics(one.url, keys[name])
            found += ["metrics"] * bool({*re.findall(r"\bt\d\b|word-of", lines)} - {name})
        found += ["log"] * ("word-of" in one.log)
        kept = store.submit(lambda db: str(db.execute("select * from meter").fetchall())).result()
        store.close()
        return int((seen["status"] == 200).sum()), found + ["meter"] * ("word-of" in kept)


def _askers(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(NEIGHBOURS, n)


def _asking(
    url: str, keys: Mapping[str, str], n: int, seed: int, rps: float = 60.0
) -> list[Request]:
    """Return requests of all tenants: prompts of one name, one key, unknown fields, streams.

    Half of them are equal for all tenants, to the last letter of the body and the key.
    """
    rng, made = np.random.default_rng((seed, 1)), []
    for at, tenant in enumerate(_askers(n, seed)):
        again, same = int(rng.integers(8)), rng.random() < 0.5
        text = f"my word is word-of-{tenant}, for the {again}th time"
        text = f"a question that all ask, the {again}th" if same else text
        body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        body["stream"] = bool(again % 2 if same else rng.integers(2))
        if not same and rng.random() < 0.6:
            body |= {"prompt": {"name": "own", "variables": {"x": "the same"}}}
        if not same and rng.random() < 0.1:
            body["unknown"] = text
        head = {"Authorization": f"Bearer {keys[tenant]}"}
        if rng.random() < (0.4 if same else 0.1):
            head["Idempotency-Key"] = f"same-{again}" if same else "same"
        made.append(Request(url + CHAT, body, at / rps, head, keep=8_000))
    return made


def _foreign(seen: pd.DataFrame, n: int, seed: int) -> list[str]:
    """Return ``answer`` for each answer that holds another tenant's word or number."""
    rows = [*zip(_askers(n, seed), seen["end"], strict=True)]
    first: dict[str, str] = {}
    found = []
    for own, text in rows:
        words = {*re.findall(r"word-of-(t\d)", text)}
        numbers = re.findall(r"answer-(\d+)\.", text)
        words |= {first.setdefault(number, own) for number in numbers}
        found += ["answer"] * bool(words - {own})
    return found


def _metrics(url: str, key: str) -> str:
    import httpx

    head = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{url}/metrics", headers=head, trust_env=False, timeout=30).text
