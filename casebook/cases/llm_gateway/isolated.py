"""Whether anything of one tenant reaches another, the log, the metrics or the meter.

Each of five tenants has a word of its own that nobody else may ever read. They ask the same things
at once. The check is tried on gateways with a planted fault: one that finds none of them would find
nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fastapi import FastAPI

from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.measured import CHAT, filled, gateway, name_of
from casebook.cases.llm_gateway.store import Store
from casebook.evaluate.intervals import rule_of_three
from casebook.llm.mock_providers import MockProvider
from casebook.serving import prompts
from casebook.serving.load import Server
from casebook.serving.scheduled import Request, Scheduled

NEIGHBOURS = tuple(f"t{i}" for i in range(5))


def echoing() -> MockProvider:
    """Return a provider that says what was said to it."""
    said = lambda body: "".join(str(one["content"]) for one in body["messages"])  # noqa: E731
    return MockProvider("chat", 3, says=lambda body: [f"{word} " for word in said(body).split()])


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

    Five tenants ask the same things at once, each with a word of its own; with prompts of the same
    names, the same idempotency keys, and a cache. The gateways with planted faults get ``few``.

    Returns
    -------
    DataFrame
        ``planted`` (empty: the gateway as it is), ``queries``, ``answered``, ``leaks`` (places that
        hold what they must not), ``where``, ``at_most`` (95 % bound of the rate, where none was
        found).
    """
    rows = []
    for planted in ("", *PLANTED):
        n = few if planted else queries
        answered, found = _looked(planted, n, seed)
        where = ", ".join(f"{n} {name}" for name, n in Counter(found).items())
        bound = np.nan if found else rule_of_three(n)
        rows.append((planted, n, answered, len(found), where, bound))
    names = ["planted", "queries", "answered", "leaks", "where", "at_most"]
    return pd.DataFrame(rows, columns=names)


def _looked(planted: str, n: int, seed: int) -> tuple[int, list[str]]:
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
        with Scheduled(_asking(one.url, keys, n, seed)) as crowd:
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


def _asking(url: str, keys: Mapping[str, str], n: int, seed: int) -> list[Request]:
    """Return requests of all tenants: prompts of one name, one key, unknown fields, streams."""
    rng, made = np.random.default_rng((seed, 1)), []
    for at, tenant in enumerate(_askers(n, seed)):
        text = f"my word is word-of-{tenant}, for the {rng.integers(8)}th time"
        body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        body["stream"] = bool(rng.integers(2))
        if rng.random() < 0.3:
            body |= {"prompt": {"name": "own", "variables": {"x": "the same"}}}
        if rng.random() < 0.05:
            body["unknown"] = text
        head = {"Authorization": f"Bearer {keys[tenant]}"}
        head |= {"Idempotency-Key": "same"} if rng.random() < 0.1 else {}
        made.append(Request(url + CHAT, body, at / 60, head, keep=8_000))
    return made


def _foreign(seen: pd.DataFrame, n: int, seed: int) -> list[str]:
    """Return ``answer`` for each answer that holds another tenant's word."""
    pairs = zip(_askers(n, seed), seen["end"], strict=True)
    return ["answer" for own, text in pairs if {*re.findall(r"word-of-(t\d)", text)} - {own}]


def _metrics(url: str, key: str) -> str:
    import httpx

    head = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{url}/metrics", headers=head, trust_env=False, timeout=30).text
