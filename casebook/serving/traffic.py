"""Traffic from a process of its own: an open loop that counts what fails instead of stopping.

``python -m casebook.serving.traffic`` reads bodies from its standard input, one a
line, sends each when it is due, and writes one line for each answer. :class:`Traffic` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from casebook.serving.wire import NoReply, Wire

if TYPE_CHECKING:
    import pandas as pd

#: Seconds that a client waits.
PATIENCE = 10.0
NAMES = ["sent", "ms", "status", "version", "tier", "payment"]


async def send(url: str, bodies: Sequence[bytes], rps: float) -> list[list[Any]]:
    """Send bodies at even distances; return of each what :class:`Traffic` says."""
    rows: list[list[Any]] = []
    place = urlsplit(url)
    wire = Wire(f"{place.scheme}://{place.netloc}")

    async def one(i: int) -> None:
        due = i / rps
        status, told = 0, {}
        try:
            async with asyncio.timeout(PATIENCE):
                status, body = await wire.post(place.path or "/", bodies[i])
            told = json.loads(body)
        except (TimeoutError, NoReply, ValueError):
            pass  # status 0, or no JSON: it has no version
        ms = 1000 * (time.perf_counter() - begin - due)
        rows.append([moment + due, ms, status, *(told.get(name, "") for name in NAMES[3:])])

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    begin, moment = time.perf_counter(), time.time()
    tasks = set()
    for i in range(len(bodies)):
        early = begin + i / rps - time.perf_counter()
        if early > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), early)
        if stopped.is_set():
            break
        tasks.add(asyncio.create_task(one(i)))
    await asyncio.gather(*tasks)
    wire.close()
    return rows


class Traffic:
    """Requests to a service while something else is done to it.

    Parameters
    ----------
    url : str
        Where to post, with its path.
    bodies : iterable of mapping
        One for each request.
    rps : float
        Requests a second, due at even distances; each is timed from when it was due.

    Examples
    --------
    >>> from casebook.serving.load import Server
    >>> with Server("casebook.serving.load:echo") as server:
    ...     with Traffic(server.url, [{"version": "a"}] * 50, rps=200) as traffic:
    ...         pass
    >>> traffic.rows["status"].eq(200).sum(), traffic.rows["version"].unique().tolist()
    (np.int64(50), ['a'])
    """

    def __init__(self, url: str, bodies: Iterable[Mapping[str, Any]], rps: float) -> None:
        self.url, self.rps = url, rps
        self._bodies = [json.dumps(body) for body in bodies]
        self.rows: pd.DataFrame | None = None

    def __enter__(self) -> Traffic:
        command = [
            sys.executable,
            "-m",
            "casebook.serving.traffic",
            "--url",
            self.url,
            "--rps",
            str(self.rps),
        ]
        self._in = tempfile.TemporaryFile("w+")
        self._in.write("\n".join(self._bodies))
        self._in.seek(0)
        self._out = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=self._in, stdout=self._out)
        return self

    def stop(self) -> None:
        """Send no more; what is on its way is still answered and counted."""
        self.process.terminate()

    def wait(self) -> pd.DataFrame:
        """Wait until the last answer; return ``sent`` (seconds since 1970), ``ms``, ``status``
        (0: none), and ``version``, ``tier`` and ``payment`` of each."""
        if self.rows is not None:
            return self.rows
        import pandas as pd  # the process that sends does not need it

        if self.process.wait(len(self._bodies) / self.rps + 60):
            raise RuntimeError(f"the traffic to {self.url} ended with {self.process.returncode}.")
        self._out.seek(0)
        rows = [json.loads(line) for line in self._out]
        self.rows = pd.DataFrame(rows, columns=NAMES).sort_values("sent", ignore_index=True)
        return self.rows

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self.rows is None:
                self.wait()
        finally:
            self.process.kill()
            self.process.wait()
            self._in.close()
            self._out.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Send what comes from the standard input."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rps", type=float, required=True)
    given = parser.parse_args(arguments)
    bodies = [line.strip().encode() for line in sys.stdin if line.strip()]
    for row in asyncio.run(send(given.url, bodies, given.rps)):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
