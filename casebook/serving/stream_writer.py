"""The body of a streamed response: pieces that come together leave together, in one write.

One write for each piece of a model's answer costs more than all else that a gateway does. So a
writer runs when the event loop has nothing else to read, and sends what has come until then.

Examples
--------
>>> sent = []
>>> async def send(message):
...     sent.append(message["body"])
>>> async def answer():
...     out = StreamWriter(send)
...     for piece in (b"a", b"b", b"c"):
...         await out.put(piece)
...     await out.end(b".")
>>> asyncio.run(answer())
>>> sent
[b'abc', b'.']
"""

from __future__ import annotations

import asyncio
from typing import Any

#: Bytes that wait for a client before its provider waits too, and seconds that a client may take.
BEHIND, PATIENCE = 16_384, 10.0


class StreamWriter:
    """Sends the body of one ASGI response.

    A client that does not read for ``patience`` seconds has left: :class:`TimeoutError`.
    """

    def __init__(self, send: Any, patience: float = PATIENCE) -> None:
        self._send, self._patience, self._parts, self._size = send, patience, [], 0
        self._writer: asyncio.Task | None = None

    async def put(self, data: bytes) -> None:
        """Take a piece; wait only if the client is far behind."""
        self._parts.append(data)
        self._size += len(data)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        if self._writer.done() or self._size > BEHIND:
            await self._writer

    async def _write(self) -> None:
        while self._parts:
            body, self._parts, self._size = b"".join(self._parts), [], 0
            await self.send({"type": "http.response.body", "body": body, "more_body": True})
        self._writer = None

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message of ASGI."""
        async with asyncio.timeout(self._patience):
            await self._send(message)

    async def end(self, data: bytes) -> None:
        """Send the rest and the end."""
        if self._writer is not None:
            await self._writer
        await self.send({"type": "http.response.body", "body": data, "more_body": False})

    def leave(self) -> None:
        """Send nothing more."""
        if self._writer is not None:
            self._writer.cancel()
