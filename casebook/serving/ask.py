"""Asking another service within a time that holds for the whole answer.

A client library limits each read. A server that sends a byte now and then keeps every such limit
and holds the caller for minutes; here the clock runs over connecting, sending and all reads.

Examples
--------
>>> asker = Asker(seconds=2.0)
>>> asker.post("http://127.0.0.1:0/eta", {"parcel": 1})
Traceback (most recent call last):
...
casebook.serving.ask.NoAnswer: ConnectError
>>> asker.close()
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

#: Bytes of an answer that are read.
LARGEST = 100_000


class NoAnswer(RuntimeError):
    """There was no usable answer in time; the message is the reason in one or two words."""


class Asker:
    """Posts JSON and waits so long and no longer.

    Parameters
    ----------
    seconds : float
        For the whole exchange.
    """

    def __init__(self, seconds: float) -> None:
        import httpx

        self.seconds = seconds
        self._loop = asyncio.new_event_loop()  # of its own: a notebook has one that runs
        self._http = httpx.AsyncClient(timeout=seconds, trust_env=False)
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def post(self, url: str, body: Any) -> dict[str, Any]:
        """Return the JSON object that a service answers with.

        Raises
        ------
        NoAnswer
            Without a 200 that holds one JSON object of a sensible size in time.
        """
        return asyncio.run_coroutine_threadsafe(self._post(url, body), self._loop).result()

    async def _post(self, url: str, body: Any) -> dict[str, Any]:
        import httpx

        raw = bytearray()
        try:
            async with (
                asyncio.timeout(self.seconds),
                self._http.stream("POST", url, json=body) as reply,
            ):
                if reply.status_code != 200:
                    raise NoAnswer(str(reply.status_code))
                async for part in reply.aiter_bytes():
                    raw += part
                    if len(raw) > LARGEST:
                        raise NoAnswer("too large")
            found = json.loads(raw)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError) as error:
            raise NoAnswer(type(error).__name__) from None
        if not isinstance(found, dict):
            raise NoAnswer("not an object")
        return found

    def close(self) -> None:
        """Close the connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
