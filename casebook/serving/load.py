"""Run a service in a process of its own, load it, and break its model.

:class:`Server` starts a service in a subprocess; :func:`load` measures it from here, in a closed
loop (each client waits for its reply) or in an open one (requests are due at fixed times, as those
of many independent users are). :func:`fault_drill` shows what a service does while its model is
slow or crashes.

Examples
--------
>>> import casebook.serving.load as here
>>> with here.Server("casebook.serving.load:echo") as server:
...     closed = here.load(server.url, ({"n": n} for n in range(120)), n=100, warm_up=20)
...     waited = here.load(server.url, ({"n": n} for n in range(100)), n=100, warm_up=0, rps=500)
>>> closed.p50 > 0, waited.n
(True, 100)
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from casebook.serving.latency import Latency, measure

if TYPE_CHECKING:
    import pandas as pd

    from casebook.serving.breaker import Breaker

# A service in a process of its own -------------------------------------------------------------


class Server:
    """A service on 127.0.0.1, in a subprocess that ends with this block, or with this process.

    The child binds port 0, so that the system chooses a free one, and writes one line of JSON
    with it to its standard output once it accepts connections. It ends when its standard input
    does: also when this process is killed.

    Parameters
    ----------
    factory : str
        ``"module:function"`` that returns the app.
    arguments : mapping, optional
        Keyword arguments of the function; they travel as JSON.
    patience : float
        Seconds to wait for the start.
    environment : mapping, optional
        Environment variables of the child, besides those of this process.

    Attributes
    ----------
    url : str
        ``http://127.0.0.1:<port>``
    process : subprocess.Popen

    Raises
    ------
    RuntimeError
        On entering, when the service does not start; the message has the end of its log.

    Examples
    --------
    >>> with Server("casebook.serving.load:echo") as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        patience: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.factory, self.arguments = factory, dict(arguments or {})
        self.patience, self.environment = patience, dict(environment or {})
        self.url = ""
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "casebook.serving.load"]
        command += ["--factory", self.factory, "--arguments", json.dumps(self.arguments)]
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **self.environment, "PYTHONPATH": paths},
        )
        try:
            self.url = f"http://127.0.0.1:{self._port()}"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self.process
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()
        self._log.close()

    def kill(self) -> None:
        """End the process at once, with no chance to finish anything (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        """What the service has written to its standard error."""
        return os.pread(self._log.fileno(), 1_000_000, 0).decode(errors="replace")

    def _port(self) -> int:
        """Wait for the child's line; a thread reads, so that the wait can end."""
        lines: list[bytes] = []
        reader = threading.Thread(
            target=lambda: lines.append(self.process.stdout.readline()), daemon=True
        )
        reader.start()
        reader.join(self.patience)
        try:
            return int(json.loads(lines[0])["port"])
        except (IndexError, ValueError, KeyError, TypeError):
            if lines:
                self.process.wait(5)
            raise RuntimeError(
                f"{self.factory} did not start within {self.patience:g} s. Its log ends:\n"
                + self.log[-2000:]
            ) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve an app until the standard input ends or the process is terminated."""
    import uvicorn

    parser = argparse.ArgumentParser(description="Serve an app on 127.0.0.1.")
    parser.add_argument("--factory", required=True, help="module:function that returns the app")
    parser.add_argument("--arguments", default="{}", help="its keyword arguments, as JSON")
    parser.add_argument("--port", type=int, default=0, help="0: the system chooses")
    given = parser.parse_args(arguments)
    module, _, function = given.factory.partition(":")
    app = getattr(importlib.import_module(module), function)(**json.loads(given.arguments))

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(json.dumps({"port": sockets[0].getsockname()[1]}), flush=True)

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="off"
    )
    server = Announcing(config)

    def until_the_end_of_input() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        server.should_exit = True

    threading.Thread(target=until_the_end_of_input, daemon=True).start()
    with listening(given.port) as listener:
        server.run(sockets=[listener])


def listening(port: int = 0) -> socket.socket:
    """Return a listening socket on 127.0.0.1.

    It names its protocol: asyncio switches Nagle's algorithm off only for sockets that do, and
    with it on the second part of each reply waits 40 ms for the client to acknowledge the first.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener


async def _echo(scope: Mapping[str, Any], receive: Callable, send: Callable) -> None:
    """Answer 200 with the body that was sent (an ASGI app)."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def echo() -> Callable:
    """Return the least of services: what HTTP alone costs."""
    return _echo


# Load ------------------------------------------------------------------------------------------


def load(
    url: str,
    payloads: Iterable[Mapping[str, Any]],
    n: int = 1000,
    warm_up: int = 50,
    concurrency: int = 1,
    rps: float | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Latency:
    """Post payloads and time the replies, as a client sees them.

    Parameters
    ----------
    url : str
        Where to post, with its path.
    payloads : iterable of mapping
        Bodies, one for each request: a service that knows a request id only looks its reply up.
        The first ``warm_up + n`` are sent, in order; each client takes the next one.
    n, warm_up : int
        Counted requests, and requests before them.
    concurrency : int
        Clients that each send the next payload when their last one was answered: the most
        requests that are on their way together.
    rps : float, optional
        Requests a second, due at even distances: an open loop. A request is timed from the moment
        at which it was due, so that the wait behind a slow reply counts for each request that it
        delays. Without it the loop is closed: a slow reply delays the next request, which is then
        timed from its late start, and a stall of the service is one slow request among many
        (*coordinated omission*).
    clock, sleep : callable
        Seconds now, and a wait of so many.

    Returns
    -------
    Latency
        Of the counted requests.

    Raises
    ------
    ValueError
        When ``n`` is below 100, ``warm_up`` negative, ``concurrency`` below 1, ``rps`` not above 0,
        or payloads too few.
    RuntimeError
        When a reply is not 200, with the reply.

    References
    ----------
    Schroeder, Wierman & Harchol-Balter (2006), *Open versus closed: a cautionary tale*, NSDI.
    """
    if n < 100 or warm_up < 0 or concurrency < 1:
        raise ValueError(
            f"n is {n}, warm_up {warm_up}, concurrency {concurrency}: a p99 needs at least 100 "
            "calls, warm_up is 0 or more, concurrency 1 or more."
        )
    if rps is not None and not 0 < rps < np.inf:
        raise ValueError(f"rps is {rps}: give requests a second above 0, or None.")
    # Written before the clock runs, and taken one after the other by all clients.
    bodies = [json.dumps(sent).encode() for sent in islice(payloads, n + warm_up)]
    if len(bodies) < n + warm_up:
        raise ValueError(f"{len(bodies)} payloads are too few for {warm_up} + {n} requests.")
    seconds = _posted(url, bodies, concurrency, rps, clock, sleep)
    p50, p95, p99 = np.percentile(seconds[warm_up:] * 1000, [50, 95, 99])
    return Latency(float(p50), float(p95), float(p99), n, warm_up)


def _posted(
    url: str,
    bodies: Sequence[bytes],
    concurrency: int,
    rps: float | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> np.ndarray:
    """Post all bodies; return the seconds of each request, from when it was due or was sent."""
    import httpx

    turns = iter(range(len(bodies)))
    seconds = np.full(len(bodies), np.nan)
    faults: list[str] = []
    begin = clock()

    def start_of(i: int) -> float:
        """Wait until a request is due; return the moment from which it is timed."""
        if rps is None:
            return clock()
        due = begin + i / rps
        if (early := due - clock()) > 0:
            sleep(early)
        return due

    def client() -> None:
        headers = {"Content-Type": "application/json"}
        with httpx.Client(trust_env=False, timeout=10, headers=headers) as http:
            for i in turns:  # next() of a range iterator is atomic
                if faults:
                    return
                start = start_of(i)
                try:
                    reply = http.post(url, content=bodies[i])
                except httpx.HTTPError as error:
                    faults.append(f"request {i} to {url}: {error!r}")
                    return
                seconds[i] = clock() - start
                if reply.status_code != 200:
                    faults.append(f"request {i} to {url}: {reply.status_code} {reply.text[:300]}")

    clients = [threading.Thread(target=client) for _ in range(concurrency)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    if faults:
        raise RuntimeError(faults[0])
    return seconds


def over_http(
    factory: str, arguments: Mapping[str, object], paths: Iterable[str], calls: int
) -> tuple[Latency, float]:
    """Time one client's GETs to a service in a process of its own.

    Parameters
    ----------
    factory, arguments
        As of :class:`casebook.serving.load.Server`.
    paths : iterable of str
        Asked in turn, again and again.
    calls : int
        That are counted.

    Returns
    -------
    Latency
    float
        Answers a second, by the clock.
    """
    import httpx

    turn = cycle(paths)
    with (
        Server(factory, arguments, patience=300) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        begin = time.perf_counter()
        found = measure(lambda: client.get(next(turn)).raise_for_status(), calls)
        return found, (calls + found.warm_up) / (time.perf_counter() - begin)


# Faults ----------------------------------------------------------------------------------------

#: A model behind a breaker: what it is asked, and what it returns.
Model = Callable[[Any], Any]


class Decides(Protocol):
    """A service that answers by its model, through a breaker, or by another source.

    ``decide`` takes the body of a request; the body of its reply says who decided (``source``) and
    why it was not the model (``why``). ``swap`` puts another model in place.
    """

    score: Model
    breaker: Breaker

    def decide(self, raw: bytes) -> Any: ...

    def swap(self, score: Model) -> None: ...


def slow(model: Model, ms: float) -> Model:
    """Return a model that answers the same, so many milliseconds later."""

    def late(question: Any) -> Any:
        time.sleep(ms / 1000)
        return model(question)

    return late


def crashing(model: Model) -> Model:
    """Return a model that raises instead of answering."""

    def crash(question: Any) -> Any:
        raise RuntimeError("planted: the model crashes")

    return crash


def fault_drill(
    service: Decides | Any,
    payloads: Sequence[Mapping[str, Any]],
    *,
    slow_ms: float = 200.0,
    faults: Mapping[str, Callable[[Model], Model]] | None = None,
    sources: Sequence[str] = ("model", "rules"),
) -> pd.DataFrame:
    """Send requests to a service whose model is healthy, fails in turn, and recovers.

    Parameters
    ----------
    service : Decides, or an app with one at ``app.state.service``
        Of this process; it has its own model again afterwards.
    payloads : sequence of mapping
        Requests with new ids, at least one for each phase; each phase gets an equal part.
    slow_ms : float
        Delay of the slow model.
    faults : mapping of str to callable, optional
        Phases between ``healthy`` and ``recovered``: from the healthy model to the broken one. By
        default ``slow`` and ``crashed``.
    sources : sequence of str
        Who may decide, the model first.

    Returns
    -------
    DataFrame
        A row for each ``phase``: ``requests``; how many were decided by each of ``sources``;
        ``why`` (the model did not decide, and how often); ``p99_ms`` of a decision; ``breaker``
        (state at the end). Before the model recovers the breaker's cool-off is waited for.

    Raises
    ------
    ValueError
        When there are too few payloads.
    Exception
        What the service raises when it refuses a payload.
    """
    import pandas as pd

    service = service.state.service if hasattr(service, "state") else service
    if faults is None:
        faults = {"slow": lambda model: slow(model, slow_ms), "crashed": crashing}
    healthy = service.score
    broken = {phase: fault(healthy) for phase, fault in faults.items()}
    models = {"healthy": healthy, **broken, "recovered": healthy}
    if len(payloads) < len(models):
        raise ValueError(f"{len(payloads)} payloads are too few for {len(models)} phases.")
    bodies = [json.dumps(sent).encode() for sent in payloads]
    rows = []
    try:
        for i, (phase, model) in enumerate(models.items()):
            service.swap(model)
            if phase == "recovered":
                time.sleep(service.breaker.cool_off)
            part = bodies[i * len(bodies) // len(models) : (i + 1) * len(bodies) // len(models)]
            rows.append({"phase": phase, **_phase(service, part, sources)})
    finally:
        service.swap(healthy)
    return pd.DataFrame(rows)


def _phase(service: Decides, bodies: Sequence[bytes], sources: Sequence[str]) -> dict[str, Any]:
    """Send the bodies of a phase; return its row of the drill."""
    ms, counts, whys = [], Counter(), Counter()
    for body in bodies:
        start = time.perf_counter()
        reply = service.decide(body).body
        ms.append((time.perf_counter() - start) * 1000)
        counts[reply["source"]] += 1
        if reply["source"] != sources[0]:
            whys[reply["why"]] += 1
    return {
        "requests": len(bodies),
        **{source: counts[source] for source in sources},
        "why": ", ".join(f"{why} {count}" for why, count in whys.most_common()),
        "p99_ms": float(np.percentile(ms, 99)),
        "breaker": service.breaker.state,
    }


if __name__ == "__main__":
    main()
