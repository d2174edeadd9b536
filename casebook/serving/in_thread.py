"""An ASGI app behind a port of 127.0.0.1, in a thread of this process: for tests and pages.

What load is measured on runs in a process of its own: :class:`casebook.serving.load.Server`.

Examples
--------
>>> import httpx
>>> from fastapi import FastAPI
>>> app = FastAPI()
>>> _ = app.get("/")(lambda: "hello")
>>> with serving(app) as url:
...     httpx.get(url, trust_env=False).json()
'hello'
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LOOPS: dict[str, asyncio.AbstractEventLoop] = {}


def loop_of(url: str) -> asyncio.AbstractEventLoop:
    """Return the event loop that serves an address, to run something beside its requests."""
    return _LOOPS[url]


def _started(server: Any) -> tuple[threading.Thread, str]:
    """Run a server in a thread; return it and its address, which is empty if it has ended."""
    ready, made = threading.Event(), []

    async def run() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            made.append(f"http://127.0.0.1:{port}")
            _LOOPS[made[0]] = asyncio.get_running_loop()
        ready.set()
        await task

    def work() -> None:
        with suppress(SystemExit):  # of an app that does not start
            asyncio.run(run())
        ready.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(20)
    return thread, made[0] if made else ""


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """Serve an app on a free port; yield its address.

    Parameters
    ----------
    app : ASGI app
    **options
        Of ``uvicorn.Config``.

    Raises
    ------
    RuntimeError
        If it does not start within 20 seconds.
    """
    import uvicorn

    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="critical", access_log=False, **options)
    server = uvicorn.Server(config)
    thread, url = _started(server)
    if not url:
        raise RuntimeError("The app did not start: look at its lifespan.")
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(10)
        del _LOOPS[url]
