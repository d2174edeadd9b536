"""The peer that a gateway is measured against: a bare pass-through of the same framework.

It reads a body, sends it to one provider with the same client library, and passes on what comes. It
knows no tenants, keys, limits, bills or guards: what it costs, every gateway in Python costs.

Examples
--------
>>> [route.path for route in app("http://127.0.0.1:1").routes if "chat" in route.path]
['/v1/chat/completions']
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse


def app(url: str) -> FastAPI:
    """Return a pass-through to a provider's address."""
    client = httpx.AsyncClient(timeout=None, trust_env=False)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    made = FastAPI(docs_url=None, redoc_url=None, lifespan=life)

    async def chat(request: Request) -> Response:
        raw, kind = await request.body(), {"content-type": "application/json"}
        sent = client.build_request("POST", f"{url}/v1/chat/completions", content=raw, headers=kind)
        got = await client.send(sent, stream=True)

        async def passed() -> AsyncIterator[bytes]:
            try:
                async for chunk in got.aiter_bytes():
                    yield chunk
            finally:
                await got.aclose()

        return StreamingResponse(passed(), got.status_code, media_type=got.headers["content-type"])

    made.add_route("/v1/chat/completions", chat, methods=["POST"])
    return made
