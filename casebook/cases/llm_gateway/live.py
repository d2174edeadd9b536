"""A gateway and its two providers on loopback, for a page: what was asked, and what was billed.

The three servers are threads of this process, each on a port that the system chooses. So a page can
look at both sides of a bill: the provider's ledger, and the gateway's meter.

Examples
--------
>>> with Live() as here:
...     said = here.ask("acme", "Where is my parcel?").choices[0].message.content
...     said, here.row("acme")["cost"]
('It left our store today. ', 4050)
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.meter import audit, recover
from casebook.cases.llm_gateway.server import create_app
from casebook.cases.llm_gateway.store import Store, put_config
from casebook.llm.mock_providers import MockProvider
from casebook.serving.api_keys import add_key
from casebook.serving.in_thread import serving
from casebook.serving.load import Server

if TYPE_CHECKING:
    import openai

#: Two models with invented prices (nano-dollars for a token), and tenants with a rule each.
DOCUMENT: Mapping[str, Any] = {
    "providers": [
        {"name": "north", "format": "chat", "first_s": 2.0},
        {"name": "south", "format": "messages", "first_s": 2.0},
    ],
    "models": [
        {"name": "swift", "provider": "north", "upstream": "swift-1"}
        | {"price_in": 150, "price_out": 600, "most_out": 500},
        {"name": "grand", "provider": "south", "upstream": "grand-1"}
        | {"price_in": 2_500, "price_out": 10_000, "most_out": 500},
    ],
    "tenants": [
        {"name": "acme", "models": ["swift", "grand"], "fallbacks": {"swift": ["grand"]}},
        {"name": "globex", "models": ["swift"], "guard": {"pii_in": "redact", "pii_out": "redact"}},
        {"name": "initech", "models": ["swift"], "budget": 300_000}
        | {"limits": {"swift": {"per_minute": 60, "burst": 3}}},
    ],
}
ANSWER = ("It ", "left ", "our ", "store ", "today. ")


class Live:
    """Two providers and a gateway; close it, or use it in a ``with`` block.

    Parameters
    ----------
    token_s : float
        Seconds that a provider takes for a token of a stream.
    document : mapping
        The configuration, without addresses.

    Attributes
    ----------
    url : str
        Of the gateway.
    providers : dict of str to MockProvider
        Their ``ledger`` has what they did.
    store : Store
    """

    def __init__(self, token_s: float = 0.0, document: Mapping[str, Any] = DOCUMENT) -> None:
        made, self._stack = copy.deepcopy(dict(document)), ExitStack()
        self._answer: Sequence[str] = ANSWER
        self.providers: dict[str, MockProvider] = {}
        for one in made["providers"]:
            app = MockProvider(one["format"], token_s=token_s, says=lambda _: self._answer)
            self.providers[one["name"]] = app
            one["url"] = self._stack.enter_context(serving(app))
        self.document = made
        self.store = Store(":memory:")
        self._stack.callback(self.store.close)
        self.do(put_config, read(made))
        names = [one["name"] for one in made["tenants"]]
        self.keys = {name: self.do(add_key, name, "caller", "page", 0.0) for name in names}
        self.gateway = Gateway(self.store, environ={})
        self.url = self._stack.enter_context(serving(create_app(self.gateway)))

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the servers."""
        self._stack.close()

    def do(self, operation: Any, *given: Any) -> Any:
        """Run an operation of the store."""
        return self.store.submit(operation, *given).result()

    def client(self, tenant: str) -> openai.OpenAI:
        """Return the official client with a tenant's key; it does not retry."""
        from openai import OpenAI

        key, url = self.keys[tenant], f"{self.url}/v1"
        return self._stack.enter_context(OpenAI(base_url=url, api_key=key, max_retries=0))

    def ask(self, tenant: str, text: str, model: str = "swift", **options: Any) -> Any:
        """Ask a question with the official client."""
        said = [{"role": "user", "content": text}]
        own = self.client(tenant).chat.completions
        return own.create(model=model, messages=said, **options)

    def plan(self, provider: str, *faults: str) -> None:
        """Let the next requests of a provider meet these faults."""
        one = self.providers[provider]
        one.script = ["ok"] * len(one.ledger) + list(faults)

    def answer(self, *tokens: str) -> None:
        """Let both providers answer with these tokens from now on; without any, as before."""
        self._answer = tokens or ANSWER

    def row(self, tenant: str) -> dict[str, Any]:
        """Return the last line of a tenant in the meter."""
        return self.do(last_row, tenant)

    def meter(self, tenant: str) -> pd.DataFrame:
        """Return a tenant's lines in the meter, in their order."""
        names = ["state", "how", "tokens_in", "tokens_out", "cost", "waste"]

        def ask(db: Any) -> list[tuple[Any, ...]]:
            sql = f"select {', '.join(names)} from meter where tenant = ? order by at"
            return db.execute(sql, (tenant,)).fetchall()

        return pd.DataFrame(self.do(ask), columns=names)

    def faults(self) -> list[tuple[Any, ...]]:
        """Return the months of tenants whose sums are not those of their requests."""
        return self.do(audit)


def last_row(db: Any, tenant: str) -> dict[str, Any]:
    """Return the last line of a tenant in a meter: an operation of the store."""
    sql = "select * from meter where tenant = ? order by at desc limit 1"
    found = db.execute(sql, (tenant,))
    return dict(zip((one[0] for one in found.description), found.fetchone(), strict=True))


def killed(pieces: int = 5) -> list[tuple[str, str, int, int]]:
    """Kill a gateway in the middle of a stream, and let another one find what it left.

    Parameters
    ----------
    pieces : int
        That the client reads before the gateway's process is killed.

    Returns
    -------
    list of (str, str, int, int)
        When, the request's state, what is reserved and what it cost (nano-dollars).
    """
    slow = MockProvider("chat", token_s=0.05, says=lambda _: ["word "] * 200)
    found = []
    with tempfile.TemporaryDirectory() as folder, serving(slow) as url:
        place, made = str(Path(folder, "gateway.sqlite")), copy.deepcopy(dict(DOCUMENT))
        for one in made["providers"]:
            one["url"] = url
        given = {"path": place, "config": json.dumps(made)}
        with (
            Server("casebook.cases.llm_gateway.server:app", given) as gateway,
            closing(Store(place)) as store,
        ):

            def look(when: str) -> None:
                row = store.submit(last_row, "acme").result()
                kept = row["reserved"] if row["state"] == "open" else 0
                found.append((when, row["state"], kept, row["cost"]))

            key = store.submit(add_key, "acme", "caller", "page", 0.0).result()
            for n, _ in enumerate(_read(gateway.url, key)):
                if n == pieces:
                    look("while it streams")
                    gateway.kill()
            look("after the kill")
            store.submit(recover).result()
            look("after the lease")
    return found


def _read(url: str, key: str) -> Iterator[str]:
    """Yield the events of a stream until it ends or breaks."""
    import httpx

    said = {"model": "swift", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    to = {"url": f"{url}/v1/chat/completions", "headers": {"authorization": f"Bearer {key}"}}
    with (
        suppress(httpx.HTTPError),
        httpx.stream("POST", json=said, timeout=20, **to) as answer,
    ):
        yield from filter(None, answer.iter_lines())
