"""Run the decision service in a process of its own, load it, and break its model.

:class:`Server` starts a service in a subprocess, :func:`load` measures it from here.
:func:`slow`, :func:`crashing` and :func:`fault_drill` show what happens when the model fails.
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
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from casebook.cases.card_fraud.breaker import Score
from casebook.serving.latency import Latency

if TYPE_CHECKING:
    import pandas as pd
    from fastapi import FastAPI

    from casebook.cases.card_fraud.decisions import Service

#: The bare service, for :class:`Server`.
BARE = "casebook.cases.card_fraud.service:bare_app"

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
    >>> with Server(BARE) as server:  # doctest: +SKIP
    ...     print(load(server.url + "/decisions", payloads, n=500, warm_up=50))
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
        command = [sys.executable, "-m", "casebook.cases.card_fraud.service"]
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


# Load ------------------------------------------------------------------------------------------


def load(
    url: str,
    payloads: Iterable[Mapping[str, Any]],
    n: int = 1000,
    warm_up: int = 50,
    concurrency: int = 1,
) -> Latency:
    """Post payloads and time the replies, as a client sees them.

    Parameters
    ----------
    url : str
        Where to post, with its path.
    payloads : iterable of mapping
        Transactions with request ids of their own: a replayed one is only looked up. The first
        ``warm_up + n`` are sent, in order; each client takes the next one.
    n, warm_up : int
        Counted requests, and requests before them.
    concurrency : int
        Clients that each send the next payload when their last one was answered.

    Returns
    -------
    Latency
        Of the counted requests.

    Raises
    ------
    ValueError
        When ``n`` is below 100, ``warm_up`` negative, ``concurrency`` below 1, or payloads too few.
    RuntimeError
        When a reply is not 200, with the reply.
    """
    import httpx

    if n < 100 or warm_up < 0 or concurrency < 1:
        raise ValueError(
            f"n is {n}, warm_up {warm_up}, concurrency {concurrency}: a p99 needs at least 100 "
            "calls, warm_up is 0 or more, concurrency 1 or more."
        )
    # Written before the clock runs, and taken one after the other by all clients.
    bodies = [json.dumps(sent).encode() for sent in islice(payloads, n + warm_up)]
    if len(bodies) < n + warm_up:
        raise ValueError(f"{len(bodies)} payloads are too few for {warm_up} + {n} requests.")
    turns = iter(range(n + warm_up))
    seconds = np.full(n + warm_up, np.nan)
    faults: list[str] = []

    def client() -> None:
        headers = {"Content-Type": "application/json"}
        with httpx.Client(trust_env=False, timeout=10, headers=headers) as http:
            for i in turns:  # next() of a range iterator is atomic
                if faults:
                    return
                start = time.perf_counter()
                try:
                    reply = http.post(url, content=bodies[i])
                except httpx.HTTPError as error:
                    faults.append(f"request {i} to {url}: {error!r}")
                    return
                seconds[i] = time.perf_counter() - start
                if reply.status_code != 200:
                    faults.append(f"request {i} to {url}: {reply.status_code} {reply.text[:300]}")

    clients = [threading.Thread(target=client) for _ in range(concurrency)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    if faults:
        raise RuntimeError(faults[0])
    p50, p95, p99 = np.percentile(seconds[warm_up:] * 1000, [50, 95, 99])
    return Latency(float(p50), float(p95), float(p99), n, warm_up)


# Faults ----------------------------------------------------------------------------------------


def slow(score: Score, ms: float) -> Score:
    """Return a model that answers the same, so many milliseconds later."""

    def late(features: dict[str, float]) -> tuple[float, Sequence[str]]:
        time.sleep(ms / 1000)
        return score(features)

    return late


def crashing(score: Score) -> Score:
    """Return a model that raises instead of answering."""

    def crash(features: dict[str, float]) -> tuple[float, Sequence[str]]:
        raise RuntimeError("planted: the model crashes")

    return crash


def fault_drill(
    service: FastAPI | Service, payloads: Sequence[Mapping[str, Any]], *, slow_ms: float = 200.0
) -> pd.DataFrame:
    """Send transactions to a service whose model is healthy, slow, crashed and recovered.

    Parameters
    ----------
    service : FastAPI or Service
        Of this process; it has its own model again afterwards.
    payloads : sequence of mapping
        At least four transactions with new request ids; a quarter of them goes to each phase.
    slow_ms : float
        Delay of the slow model.

    Returns
    -------
    DataFrame
        A row for each ``phase``: ``requests``; how many were decided by ``model`` and by
        ``rules``; ``why`` (the rules decided, and how often); ``p99_ms`` of a decision with its
        write to the audit; ``breaker`` (state at the end). Before the model recovers the breaker's
        cool-off is waited for.

    Raises
    ------
    ValueError
        When there are too few payloads.
    Problem
        When a payload is refused.
    """
    import pandas as pd

    service = service.state.service if hasattr(service, "state") else service
    if len(payloads) < 4:
        raise ValueError(f"{len(payloads)} payloads are too few for four phases.")
    bodies = [json.dumps(sent).encode() for sent in payloads]
    healthy = service.score
    models = {
        "healthy": healthy,
        "slow": slow(healthy, slow_ms),
        "crashed": crashing(healthy),
        "recovered": healthy,
    }
    rows = []
    try:
        for i, (phase, model) in enumerate(models.items()):
            service.swap(model)
            if phase == "recovered":
                time.sleep(service.breaker.cool_off)
            part = bodies[i * len(bodies) // 4 : (i + 1) * len(bodies) // 4]
            rows.append({"phase": phase, **_phase(service, part)})
    finally:
        service.swap(healthy)
    return pd.DataFrame(rows)


def _phase(service: Service, bodies: Sequence[bytes]) -> dict[str, Any]:
    ms, sources, whys = [], Counter(), Counter()
    for body in bodies:
        start = time.perf_counter()
        reply = service.decide(body).body
        ms.append((time.perf_counter() - start) * 1000)
        sources[reply["source"]] += 1
        if reply["source"] == "rules":
            whys[reply["why"]] += 1
    return {
        "requests": len(bodies),
        "model": sources["model"],
        "rules": sources["rules"],
        "why": ", ".join(f"{why} {count}" for why, count in whys.most_common()),
        "p99_ms": float(np.percentile(ms, 99)),
        "breaker": service.breaker.state,
    }
