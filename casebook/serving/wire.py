"""Posts over kept connections, in a tenth of the time that a client library takes.

A router and a generator of load spend most of their time in the client; this one knows HTTP/1.1 as
far as our own services speak it: a body with its length, in both directions. What it sends must be
safe to send twice, for a kept connection may have ended just then.

Examples
--------
>>> from casebook.serving.load import Server
>>> async def ask(url):
...     wire = Wire(url)
...     found = [await wire.post("/", b"{}"), await wire.post("/", b"[1]")]
...     wire.close()
...     return found
>>> with Server("casebook.serving.load:echo") as server:
...     asyncio.run(ask(server.url))
[(200, b'{}'), (200, b'[1]')]
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

#: Bytes of an answer that are read.
LARGEST = 1_000_000
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NoReply(ConnectionError):
    """The service could not be reached, or sent no whole answer."""


class Wire:
    """Connections to one service; for one event loop.

    Parameters
    ----------
    url : str
        ``http://host:port``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._idle: list[Connection] = []

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer; the caller limits the time.

        Raises
        ------
        NoReply
            Without a whole answer.
        """
        while self._idle:
            kept = self._idle.pop()
            if kept[0].at_eof() or kept[1].is_closing():
                kept[1].close()
                continue
            try:
                return await self._exchange(kept, path, body)
            except NoReply:
                break  # it ended while it was idle: a new one tells whether the service is there
        try:
            fresh = await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            raise NoReply(type(error).__name__) from None
        return await self._exchange(fresh, path, body)

    async def _exchange(self, pair: Connection, path: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = pair
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        keep = False
        try:
            writer.write(head.encode() + body)
            raw = await reader.readuntil(b"\r\n\r\n")
            first, *lines = raw.decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines if ": " in line)
            size = int(fields["content-length"])
            if size > LARGEST:
                raise ValueError("too large")
            found = int(first.split()[1]), await reader.readexactly(size)
            keep = fields.get("connection") != "close"
            return found
        except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
            raise NoReply(type(error).__name__) from None
        except asyncio.LimitOverrunError:
            raise NoReply("head too long") from None
        finally:  # also when the caller's time is over
            if keep:
                self._idle.append(pair)
            else:
                writer.close()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop()[1].close()
