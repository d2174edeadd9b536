"""Requests at given moments, sent by another process: streams, clients that leave, what came back.

``python -m casebook.serving.scheduled`` reads one request a line from its standard input, sends
each when it is due, and writes one line for each answer. :class:`Scheduled` runs it. The client
knows HTTP/1.1 as far as our own services speak it, so that it takes a tenth of what it measures.

Examples
--------
>>> from casebook.serving.load import Server
>>> with Server("casebook.serving.load:echo") as server:
...     asked = [Request(server.url, {"n": n}, at=n / 200) for n in range(20)]
...     with Scheduled(asked) as sent:
...         rows = sent.wait()
>>> rows["status"].eq(200).sum(), rows["whole"].all(), rows["end"].iloc[1]
(np.int64(20), np.True_, '{"n": 1}')
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import pandas as pd

#: Seconds that a client waits for a whole answer.
PATIENCE = 20.0
TIMES = ("number", "sent", "began", "first_ms", "text_ms", "ms")
NAMES = [*TIMES, "status", "whole", "left", "id", "retry_after", "end"]
#: A piece of a Chat Completions stream that has text.
TEXT = re.compile(rb'"content": ?"[^"]')
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Request:
    """A request that is due.

    Attributes
    ----------
    url : str
        With its path.
    body : mapping
    at : float
        Seconds after the start.
    headers : mapping of str to str
    leaves : int
        Pieces of a stream after which its client goes away; 0 for one that stays.
    keep : int
        Characters of the answer's end that are told.
    """

    url: str
    body: Mapping[str, Any]
    at: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    leaves: int = 0
    keep: int = 600


class _Client:
    """Posts over kept connections and reads what comes, whole or in pieces."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[Connection]] = defaultdict(list)

    async def post(self, asked: Mapping[str, Any], told: dict[str, Any], due: float) -> None:
        """Fill in what came of a request."""
        place, body = urlsplit(asked["url"]), json.dumps(asked["body"]).encode()
        host = str(place.hostname), int(place.port or 80)
        head = f"POST {place.path or '/'} HTTP/1.1\r\nHost: {host[0]}:{host[1]}\r\n"
        for name, value in {"Content-Type": "application/json", **asked["headers"]}.items():
            head += f"{name}: {value}\r\n"
        raw = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        kept = self._idle[host]
        while kept:
            pair = kept.pop()
            if not (pair[0].at_eof() or pair[1].is_closing()):
                break
            pair[1].close()
        else:
            pair = await asyncio.open_connection(*host)
        keep = False
        try:
            pair[1].write(raw)
            keep = await self._read(pair[0], asked, told, due)
        finally:  # also when its time is over
            if keep:
                kept.append(pair)
            else:
                pair[1].close()

    async def _read(
        self, reader: Any, asked: Mapping[str, Any], told: dict[str, Any], due: float
    ) -> bool:
        """Read an answer; return whether its connection can be kept."""
        keep = asked["keep"]
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        told["status"] = int(first.split()[1])
        told["first_ms"] = 1000 * (time.perf_counter() - due)
        told["id"] = fields.get("x-request-id", "")
        told["retry_after"] = fields.get("retry-after", "")
        if "content-length" in fields:
            body = await reader.readexactly(int(fields["content-length"]))
            told["whole"], told["end"] = True, body[-keep:].decode(errors="replace")
            return fields.get("connection") != "close"
        body, pieces = b"", 0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            piece = (await reader.readexactly(size + 2))[:-2]
            if told["text_ms"] is None and TEXT.search(piece):
                told["text_ms"] = 1000 * (time.perf_counter() - due)
            body = (body + piece)[-keep:]
            pieces += 1
            if pieces == asked["leaves"]:
                told["left"] = True
                return False
        await reader.readexactly(2)
        told["end"] = body.decode(errors="replace")
        events = "event-stream" in fields.get("content-type", "")
        told["whole"] = not events or body.endswith(b"data: [DONE]\n\n")
        return True

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for kept in self._idle.values():
            for _, writer in kept:
                writer.close()


async def send(
    requests: Sequence[Mapping[str, Any]], most: int = 0, patience: float = PATIENCE
) -> list[list[Any]]:
    """Send requests when they are due; return a row of ``NAMES`` for each.

    Parameters
    ----------
    requests : sequence of mapping
        As of :class:`Request`, in the order of their moments.
    most, patience
        As of :class:`Scheduled`.
    """
    rows: list[list[Any]] = []
    client, begin, moment = _Client(), time.perf_counter(), time.time()
    clients = asyncio.Semaphore(most or len(requests))

    async def one(number: int, asked: Mapping[str, Any]) -> None:
        async with clients:
            await timed(number, asked, time.perf_counter() if most else begin + asked["at"])

    async def timed(number: int, asked: Mapping[str, Any], due: float) -> None:
        told = dict.fromkeys(NAMES, "") | {"number": number, "sent": moment + asked["at"]}
        told["began"] = moment + due - begin
        told |= {"first_ms": None, "text_ms": None, "status": 0, "whole": False, "left": False}
        try:
            async with asyncio.timeout(patience):
                await client.post(asked, told, due)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, TimeoutError):
            pass  # what is known so far is told: status 0 if nothing came
        told["ms"] = 1000 * (time.perf_counter() - due)
        rows.append([told[name] for name in NAMES])

    tasks = set()
    for number, asked in enumerate(requests):
        if (early := begin + asked["at"] - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.add(asyncio.create_task(one(number, asked)))
    await asyncio.gather(*tasks)
    client.close()
    return rows


class Scheduled:
    """Requests that are sent while something else is done.

    Parameters
    ----------
    requests : iterable of Request
        In any order.
    most : int
        Clients, of which each waits for its answer: a closed loop, timed from when a request is
        sent. By default each request has a client of its own and is timed from when it is due.
    patience : float
        Seconds that a client waits for a whole answer.

    Raises
    ------
    ValueError
        If there are none.
    """

    def __init__(
        self, requests: Iterable[Request], most: int = 0, patience: float = PATIENCE
    ) -> None:
        self.most, self.patience = most, patience
        self._requests = sorted(requests, key=lambda one: one.at)
        if not self._requests:
            raise ValueError("There are no requests: give at least one.")

    def __enter__(self) -> Scheduled:
        self._in, self._out = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self._in.write("\n".join(json.dumps(asdict(one)) for one in self._requests))
        self._in.seek(0)
        command = [sys.executable, "-m", "casebook.serving.scheduled"]
        command += ["--most", str(self.most), "--patience", str(self.patience)]
        self.process = subprocess.Popen(command, stdin=self._in, stdout=self._out)
        return self

    def wait(self) -> pd.DataFrame:
        """Wait until the last answer.

        Returns
        -------
        DataFrame
            In the order of their moments: ``number``, ``sent`` (when it was due, seconds since
            1970), ``began`` (from when it is timed), ``first_ms``, ``text_ms`` and ``ms`` (to the
            head, the first text of a stream and the end of its answer), ``status`` (0: none),
            ``whole`` (the answer came to its end), ``left``, ``id`` (of the header
            ``x-request-id``), ``retry_after`` and ``end`` (the answer's last characters).

        Raises
        ------
        RuntimeError
            If the process that sends fails.
        """
        import pandas as pd  # the process that sends does not need it

        patience = None if self.most else self._requests[-1].at + self.patience + 60
        if code := self.process.wait(patience):
            raise RuntimeError(f"the process that sends ended with {code}.")
        self._out.seek(0)
        rows = [json.loads(line) for line in self._out]
        return pd.DataFrame(rows, columns=NAMES).sort_values("number", ignore_index=True)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._in.close()
        self._out.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Send what comes from the standard input."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--most", type=int, default=0, help="clients; 0: one for each request")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds")
    given = parser.parse_args(arguments)
    requests = [json.loads(line) for line in sys.stdin if line.strip()]
    for row in asyncio.run(send(requests, given.most, given.patience)):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
