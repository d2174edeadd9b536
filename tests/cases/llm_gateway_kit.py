"""What the tests of case 20 share: a small configuration, and servers in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """Serve an app on a free port of 127.0.0.1, in a thread; yield its address."""
    import uvicorn

    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="critical", access_log=False, **options)
    server = uvicorn.Server(config)
    ready, port = threading.Event(), []

    async def run() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        if server.started:
            port.append(server.servers[0].sockets[0].getsockname()[1])
        ready.set()
        await task

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    ready.wait(20)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        server.should_exit = True
        thread.join(10)
