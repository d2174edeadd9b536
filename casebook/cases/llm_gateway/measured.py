"""What the gateway carries: work, saturation, latency, memory and connections, on real processes.

Provider, pass-through, gateways and the clients are processes of their own on loopback. The
tenants of one gateway have no guards; those of the second have personal data redacted on both ways,
and those of the third attacks flagged by rules besides. A request is a *short* message (400
characters) or as long as the trace says (*trace*); an answer is a stream of eleven pieces. What a
path *adds* is its time less that of the provider alone, in the same turn. The CPU time of a request
does not depend on what else the machine does; the latency does, so that table is recorded when it
does nothing else.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from fastapi import FastAPI

from casebook.cases.llm_gateway import server
from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.gateway import LOG, Gateway
from casebook.cases.llm_gateway.store import Store, put_config
from casebook.cases.llm_gateway.world.requests import bank
from casebook.cases.llm_gateway.world.tenants import arrivals, document, share_of, superposed
from casebook.data import RealDataUnavailable, real
from casebook.llm.mock_providers import MockProvider
from casebook.serving import passthrough
from casebook.serving.api_keys import add_key
from casebook.serving.load import Server
from casebook.serving.overhead import added, capacity, resident_mb
from casebook.serving.saturation import cpu_seconds
from casebook.serving.scheduled import Request, Scheduled

PATHS = ("provider", "bare", "gateway", "redacting", "guarded")
LOADS = ("short", "trace")
#: What a piece of an answer says, and how far apart pieces are at 45 tokens a second.
PIECE = "your parcel left the depot "
PACE = len(PIECE) / 4 / 45
#: Characters of a short message and of a token; pieces of an answer; the tenants.
SHORT, CHARACTERS, PIECES, TENANTS = 400, 4, 11, 100
#: Guards of all tenants on each of the gateway's paths.
_REDACTS = {"pii_in": "redact", "pii_out": "redact"}
GUARDS = {"gateway": {}, "redacting": _REDACTS, "guarded": {**_REDACTS, "injection": "flag"}}
#: Requests a second that the gateway must carry, and the busy share of a core that is planned.
TARGETS, PLANNED = (120, 500), 0.4
TRACE = "azure_llm_conversation"
CHAT = "/v1/chat/completions"


# Processes --------------------------------------------------------------------------------


def provider(first_s: float = 0.0, piece_s: float = 0.0, seed: int = 1) -> MockProvider:
    """Return a provider whose answers have ``PIECES`` pieces, as far apart as ``piece_s``."""
    said = [PIECE] * PIECES
    return MockProvider("chat", seed, first_s=first_s, token_s=piece_s, says=lambda _: said)


def gateway(
    path: str, most: int = server.MOST, change: Callable[[Gateway], None] | None = None
) -> FastAPI:
    """Return a gateway with its log, which answers so many requests at a time."""
    logging.basicConfig(format="%(message)s")
    LOG.setLevel(logging.INFO)
    made = Gateway(Store(path))
    if change:
        change(made)
    return server.create_app(made, most)


def name_of(factory: object) -> str:
    """Return what :class:`casebook.serving.load.Server` calls a function."""
    return f"{factory.__module__}:{factory.__name__}"


@dataclass(frozen=True)
class Fleet:
    """Running processes: an address and a process for each path, and the tenants' keys."""

    servers: Mapping[str, Server]
    keys: Mapping[str, Mapping[str, str]]

    def request(self, path: str, row: object, stream: bool = True) -> Request:
        """Return the request of a row of arrivals on one path."""
        text = f"{row.Index % 1000}: {text_of(int(row.characters))}"  # many are asked again
        said = {"role": "user", "content": text}
        body = {"model": "swift", "messages": [said], "max_completion_tokens": 200}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        key = self.keys.get(path, {}).get(row.tenant, "none")
        head = {"Authorization": f"Bearer {key}"}
        return Request(self.servers[path].url + CHAT, body, float(row.at), head)


def filled(path: Path, raw: Mapping[str, object]) -> dict[str, str]:
    """Write a configuration into a new database; return a key for each tenant."""
    store, config = Store(str(path)), read(raw)
    store.submit(put_config, config).result()
    keys = {one: store.submit(add_key, one, "caller", "", 0.0).result() for one in config.tenant}
    store.close()
    return keys


@contextmanager
def fleet(
    paths: Sequence[str] = PATHS,
    most: int = server.MOST,
    cache_s: int = 0,
    **pace: float,
) -> Iterator[Fleet]:
    """Run a provider (with its pace) and what stands before it, for tenants without limits."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        own = stack.enter_context(Server(name_of(provider), pace))
        servers, keys = {"provider": own}, {}
        for path in paths:
            if path == "bare":
                made = Server(name_of(passthrough.app), {"url": own.url})
            elif path != "provider":
                urls = dict.fromkeys(("north", "south", "own"), own.url)
                raw = document(urls, share_of(TENANTS, 1), 1e5, 1)
                for tenant in raw["tenants"]:
                    tenant |= {"guard": GUARDS[path], "budget": 0, "cache_s": cache_s}
                for one in raw["providers"]:
                    one |= {"slots": 1_000}
                keys[path] = filled(Path(folder) / path, raw)
                made = Server(name_of(gateway), {"path": str(Path(folder) / path), "most": most})
            else:
                continue
            servers[path] = stack.enter_context(made)
        yield Fleet(servers, keys)


# Load -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _words() -> str:
    return " ".join(bank()["text"].sample(600, random_state=1))


def text_of(characters: int) -> str:
    """Return so many characters of ordinary requests."""
    return _words()[: max(1, characters)]


@lru_cache(maxsize=1)
def trace() -> pd.DataFrame | None:
    """Return Azure's requests to a conversation service, or None where they are not."""
    try:
        return pd.read_csv(real(TRACE), parse_dates=["TIMESTAMP"])
    except RealDataUnavailable:
        return None


def asked(rps: float, seconds: float, load: str = "short", turn: int = 0) -> pd.DataFrame:
    """Return requests that come as in copies of Azure's trace; as simulated where it is not.

    Parameters
    ----------
    rps, seconds : float
    load : str
        ``"short"`` or ``"trace"``: how long they are.
    turn : int
        Each has copies that began at other times.

    Returns
    -------
    DataFrame
        ``at``, ``tenant``, ``characters``, ``arrivals`` (where they are from).
    """
    if load not in LOADS:
        raise ValueError(f"There is no load {load!r}: give one of {', '.join(LOADS)}.")
    shares, whole = share_of(TENANTS, 1), trace()
    if whole is None:
        rows = arrivals(shares, rps, max(1, round(seconds)), turn).assign(arrivals="simulated")
    else:
        rows = superposed(whole, shares, rps, seconds, turn).assign(arrivals="Azure, conversation")
    own = CHARACTERS * rows["tokens_in"]
    return rows.assign(characters=SHORT if load == "short" else own)


def _sent(
    one: Fleet, path: str, rows: pd.DataFrame, stream: bool = True, **more: float
) -> pd.DataFrame:
    with Scheduled((one.request(path, row, stream) for row in rows.itertuples()), **more) as sent:
        return sent.wait()


def _good(rows: pd.DataFrame) -> pd.Series:
    return (rows["status"] == 200) & rows["whole"]


# Work -------------------------------------------------------------------------------------


def work(
    n: int = 100,
    rounds: int = 4,
    loads: Sequence[str] = LOADS,
    forms: Sequence[str] = ("stream", "JSON"),
    paths: Sequence[str] = PATHS[1:],
) -> pd.DataFrame:
    """Measure the CPU time of a request, path by path in turns.

    Parameters
    ----------
    n : int
        Requests of a path in a round, about.
    rounds : int
        Besides a first one that does not count.
    loads, forms, paths : sequence of str
        What is asked, how it is answered, and by whom; ``"bare"`` is among the paths.

    Returns
    -------
    DataFrame
        ``load``, ``form`` (stream, JSON) and as of :func:`casebook.serving.overhead.capacity`.
    """
    found = []
    with fleet(paths) as one:
        for turn in range(-1, rounds):
            for load in loads:
                rows = asked(30, n / 30, load, max(turn, 0))
                for form in forms:
                    for path in paths:
                        process = one.servers[path].process.pid
                        spent = cpu_seconds(process)
                        seen = _sent(one, path, rows, form == "stream")
                        spent = 1000 * (cpu_seconds(process) - spent) / len(seen)
                        failed = int((~_good(seen)).sum())
                        found.append((turn, load, form, path, len(seen), failed, spent))
    names = ["turn", "load", "form", "path", "n", "failed", "cpu_ms"]
    rounds = pd.DataFrame(found, columns=names).query("turn >= 0")
    return capacity(rounds, ["load", "form"], "bare", TARGETS, PLANNED)


# Saturation and latency -------------------------------------------------------------------


def carried(one: Fleet, path: str, load: str, n: int = 300, clients: int = 32) -> float:
    """Return what a path answers a second, while so many clients wait for it all the time."""
    rows = asked(100, n / 100, load).assign(at=0.0)
    with Scheduled((one.request(path, r) for r in rows.itertuples()), most=clients) as crowd:
        seen = crowd.wait()
    took = (seen["began"] + seen["ms"] / 1000).max() - seen["began"].min()
    return float(_good(seen).sum() / took)


def latency(
    seconds: float = 3.0,
    rounds: int = 6,
    loads: Sequence[str] = LOADS,
    full: int = 300,
    share: float = PLANNED,
) -> pd.DataFrame:
    """Measure saturation, and the latency of all paths at a share of the guarded gateway's.

    Parameters
    ----------
    seconds : float
        Of a turn.
    rounds : int
        The paths take turns.
    loads : sequence of str
    full : int
        Requests by which it is found out what a path carries.
    share : float

    Returns
    -------
    DataFrame
        ``load``, ``arrivals``, ``saturation`` (answers a second of :func:`carried`), ``rps``, and
        as of :func:`casebook.serving.overhead.added`.
    """
    parts = []
    with fleet() as one:
        for load in loads:
            for path in PATHS[1:]:
                _sent(one, path, asked(20, 1, load))
            most = {path: carried(one, path, load, full) for path in PATHS[1:]}
            rps = share * most["guarded"]
            seen = _in_turns(one, load, rps, seconds, rounds)
            made = added(seen, PATHS, "provider", "bare").assign(load=load, rps=rps)
            made["saturation"] = made["path"].map(most)
            parts.append(made.assign(arrivals=seen["arrivals"].iloc[0]))
    first = ["load", "path", "arrivals", "saturation", "rps"]
    table = pd.concat(parts, ignore_index=True)
    return table[[*first, *table.columns.difference(first, sort=False)]]


def _in_turns(one: Fleet, load: str, rps: float, seconds: float, rounds: int) -> pd.DataFrame:
    """Send the same requests on all paths, in another order each time; return the answers."""
    seen = []
    for turn in range(rounds):
        rows = asked(rps, seconds, load, turn + 1)
        for path in PATHS if turn % 2 else PATHS[::-1]:
            got = _sent(one, path, rows)
            got = got.assign(path=path, turn=turn, arrivals=rows["arrivals"].iloc[0])
            seen.append(got.assign(good=_good(got)))
    return pd.concat(seen)


def first_words(n: int = 150, rps: float = 5.0) -> pd.DataFrame:
    """Measure the time to the first text of a stream from a provider that writes at a model's pace.

    Parameters
    ----------
    n : int
        Requests on each path, about.
    rps : float
        Few enough that nobody waits for another.

    Returns
    -------
    DataFrame
        ``path``, ``n``, ``failed``, and in milliseconds ``first_p50`` and ``first_p95`` (until the
        first text) and ``whole_p50`` (until the end); ``added`` to the provider's ``first_p50``.
    """
    rows, paths = [], [path for path in PATHS if path != "guarded"]
    with fleet(paths, piece_s=PACE) as one:
        for path in paths:
            _sent(one, path, asked(rps, 1))
            seen = _sent(one, path, asked(rps, n / rps, turn=1))
            first = seen["text_ms"].astype(float)
            told = {"path": path, "n": len(seen), "failed": int((~_good(seen)).sum())}
            told |= dict(zip(("first_p50", "first_p95"), first.quantile([0.5, 0.95]), strict=True))
            rows.append(told | {"whole_p50": seen["ms"].median()})
    made = pd.DataFrame(rows)
    return made.assign(added=made["first_p50"] - made["first_p50"].iloc[0])


# Long runs --------------------------------------------------------------------------------


def memory(
    requests: int = 100_000, every: int = 5_000, clients: int = 8, within_s: float = 900.0
) -> pd.DataFrame:
    """Ask one gateway for hours of traffic in minutes; half of the answers stream, some are cached.

    Parameters
    ----------
    requests, every : int
        In all, and between two looks.
    clients : int
        Each waits for its answer.
    within_s : float
        Seconds after which no more are begun.

    Returns
    -------
    DataFrame
        ``requests`` so far, ``failed`` among the last ``every``, ``mb`` of the gateway.
    """
    if requests < every:
        raise ValueError(f"{requests} requests are fewer than {every}: lower every.")
    rows, n, began = [], every // 2, time.monotonic()
    with fleet(("gateway",), cache_s=30) as one:
        process = one.servers["gateway"].process.pid
        table = asked(200, n / 100).head(n).assign(at=0.0)
        for done in range(every, requests + 1, every):
            failed = 0
            for stream in (True, False):
                sent = (one.request("gateway", row, stream) for row in table.itertuples())
                with Scheduled(sent, most=clients) as crowd:
                    failed += int((~_good(crowd.wait())).sum())
            rows.append({"requests": done, "failed": failed, "mb": resident_mb(process)})
            if time.monotonic() - began > within_s:
                break
    return pd.DataFrame(rows)


def connections(
    n: int = 10_000, most: int = 500, first_s: float = 2.0, probes: int = 20, patience: float = 90.0
) -> pd.DataFrame:
    """Open so many connections at once, each with a request to a slow provider.

    Parameters
    ----------
    n : int
    most : int
        Requests that the gateway answers at a time.
    first_s : float
        Seconds that the provider takes.
    probes : int
        Single requests afterwards.
    patience : float
        Seconds that a client waits, so that nobody's wait is cut off.

    Returns
    -------
    DataFrame
        ``phase`` (``crowd``, ``afterwards``: single requests), ``status`` (0: no answer), ``n``,
        ``polite`` (with ``Retry-After`` where refused), ``p50`` and ``p99`` (seconds); of the
        phase, ``cpu_ms`` (of the gateway, for each request: what a refusal costs makes the wait of
        those who are let in) and ``mb`` (of the gateway).
    """
    rows = []
    with fleet(("gateway",), most, first_s=first_s) as one:
        _sent(one, "gateway", asked(10, 1))
        process = one.servers["gateway"].process.pid
        for phase, many, span in (("crowd", n, 1e-6), ("afterwards", probes, first_s)):
            table = asked(n / 5, 10).head(many)
            table = table.assign(at=np.linspace(0, span, len(table)))
            begun = cpu_seconds(process)
            seen = _sent(one, "gateway", table, stream=False, patience=patience)
            spent = 1000 * (cpu_seconds(process) - begun) / len(seen)
            held = {"cpu_ms": spent, "mb": resident_mb(process)}
            rows += [{"phase": phase, **told, **held} for told in _by_status(seen)]
            time.sleep(5 * first_s)  # what was begun for clients that left goes on to its end
    return pd.DataFrame(rows)


def _by_status(seen: pd.DataFrame) -> Iterator[dict[str, float]]:
    """Yield how many answers of each status there are, how many are polite, and their times."""
    for status, own in seen.groupby("status"):
        polite = own["whole"] & ((status == 200) | (own["retry_after"] != ""))
        p50, p99 = own["ms"].quantile([0.5, 0.99]) / 1000
        told = {"status": status, "n": len(own), "polite": int(polite.sum())}
        yield told | {"p50": p50, "p99": p99}
