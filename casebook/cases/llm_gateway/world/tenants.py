"""A hundred tenants and their traffic: three sizes, bursts, heavy tails, and one that is noisy.

*Sizes.* Of the tenants 70 % are small, 25 % middling and 5 % large; a tenant's share of the traffic
is log-normal around 1, 6 and 40. Limits are four times a tenant's own mean rate, and budgets hold
for most. *Models.* Four, over three providers, with invented names and prices; half of the tenants
may ask all of them, and each that may ask two has a fallback. *Guards.* A third has personal data
redacted on both ways. *Arrivals.* Poisson, with a rate that changes each second (gamma, variance
``burst``). *The noisy tenant*, a small one, asks so many times its share in the middle third.
*Lengths* are log-normal: the median request has 300 tokens and its answer 40, the longest have
twenty times as many. Nothing here is measured but what :func:`replayed` takes from a trace.

Examples
--------
>>> made = arrivals(share_of(100, seed=1), rps=20, seconds=30, seed=1, noisy=400)
>>> made["tenant"].value_counts().index[0]
't099'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from casebook.llm.local import NAME

#: Model, provider, and nano-dollars for a token in and out.
MODELS = (
    ("swift", "north", 150, 600),
    ("grand", "north", 2_500, 10_000),
    ("lyric", "south", 3_000, 15_000),
    ("local", "own", 50, 50),
)
#: The small local model as ``make llm`` serves it: one request at a time, and patience.
LOCAL = (
    {"name": "own", "url": "http://127.0.0.1:8642", "format": "chat", "slots": 1, "first_s": 60.0},
    {"name": "local", "provider": "own", "upstream": NAME, "price_in": 50, "price_out": 50,
     "context": 2_048, "most_out": 512},
)  # fmt: skip
FORMATS = {"north": "chat", "south": "messages", "own": "chat"}
SIZES = {1.0: 0.70, 6.0: 0.25, 40.0: 0.05}
NANO = 10**9


def share_of(n: int, seed: int) -> pd.Series:
    """Return each tenant's share of the traffic, by name; the last one is small.

    Parameters
    ----------
    n : int
        Tenants.
    seed : int
    """
    rng = np.random.default_rng(seed)
    sizes = rng.choice([*SIZES], n, p=[*SIZES.values()]) * rng.lognormal(0, 0.4, n)
    sizes[-1] = 1.0
    return pd.Series(sizes / sizes.sum(), [f"t{number:03d}" for number in range(n)], name="share")


def document(urls: Mapping[str, str], shares: pd.Series, rps: float, seed: int) -> dict[str, Any]:
    """Return a configuration for :func:`casebook.cases.llm_gateway.config.read`.

    Parameters
    ----------
    urls : mapping of str to str
        Address of each provider of ``FORMATS``.
    shares : Series
        Of :func:`share_of`.
    rps : float
        Requests a second of all tenants, for their limits.
    seed : int
    """
    rng = np.random.default_rng((seed, 1))
    names = [name for name, *_ in MODELS]
    tenants = []
    for name, share in shares.items():
        may = names if rng.random() < 0.5 else names[: int(rng.integers(1, 3))]
        each = max(60, int(4 * 60 * rps * share))
        one: dict[str, Any] = {"name": name, "models": may, "weight": 1.0}
        one["limits"] = {model: {"per_minute": each, "burst": max(10, each // 6)} for model in may}
        one["fallbacks"] = {may[0]: may[1:]} if len(may) > 1 else {}
        one["budget"] = int(NANO * (50 + 100_000 * share))
        if rng.random() < 1 / 3:
            one["guard"] = {"pii_in": "redact", "pii_out": "redact"}
        tenants.append(one)
    models = [
        {"name": m, "provider": p, "upstream": f"{m}-1", "price_in": i, "price_out": o}
        for m, p, i, o in MODELS
    ]
    providers = [{"name": p, "url": urls[p], "format": form} for p, form in FORMATS.items()]
    return {"providers": providers, "models": models, "tenants": tenants}


def arrivals(
    shares: pd.Series,
    rps: float,
    seconds: int,
    seed: int,
    noisy: float = 1.0,
    burst: float = 0.4,
) -> pd.DataFrame:
    """Return requests in the order of their times.

    Parameters
    ----------
    shares : Series
    rps : float
        Mean of all tenants together, without the noise.
    seconds : int
    seed : int
    noisy : float
        So many times its share the last tenant asks in the middle third.
    burst : float
        Variance of a second's rate, as a share of its square.

    Returns
    -------
    DataFrame
        ``at`` (seconds), ``tenant``, ``tokens_in``, ``tokens_out``.
    """
    rng = np.random.default_rng((seed, 2))
    rates = rps * (rng.gamma(1 / burst, burst, seconds) if burst else np.ones(seconds))
    counts = rng.poisson(rates)
    at = np.repeat(np.arange(seconds), counts) + rng.random(counts.sum())
    tenant = rng.choice(shares.index.to_numpy(), len(at), p=shares.to_numpy())
    more = rng.poisson((noisy - 1) * shares.iloc[-1] * rps * seconds / 3)
    at = np.append(at, rng.uniform(seconds / 3, 2 * seconds / 3, more))
    made = pd.DataFrame({"at": at, "tenant": np.append(tenant, [shares.index[-1]] * more)})
    made["tokens_in"] = _lengths(rng, len(made), 300)
    made["tokens_out"] = _lengths(rng, len(made), 40)
    return made.sort_values("at", ignore_index=True)


def replayed(
    trace: pd.DataFrame, shares: pd.Series, rps: float, seconds: float, seed: int
) -> pd.DataFrame:
    """Return the requests of a trace, sped up to a rate: its bursts and lengths stay its own.

    Parameters
    ----------
    trace : DataFrame
        ``TIMESTAMP``, ``ContextTokens``, ``GeneratedTokens``, as Azure's traces of 2023 have them.
    shares, rps, seconds, seed
        As for :func:`arrivals`; which tenant asks is drawn.

    Raises
    ------
    ValueError
        If the trace is too short.
    """
    n, rng = int(rps * seconds), np.random.default_rng((seed, 3))
    if n > len(trace):
        raise ValueError(f"the trace has {len(trace):,} requests, not {n:,}: lower rps or seconds.")
    own = trace.sort_values("TIMESTAMP", ignore_index=True).iloc[:n]
    at = (own["TIMESTAMP"] - own["TIMESTAMP"].iloc[0]).dt.total_seconds()
    tenant: Sequence[str] = rng.choice(shares.index.to_numpy(), n, p=shares.to_numpy())
    lengths = {"tokens_in": own["ContextTokens"], "tokens_out": own["GeneratedTokens"]}
    return pd.DataFrame({"at": at * seconds / max(at.iloc[-1], 1e-9), "tenant": tenant, **lengths})


def _lengths(rng: np.random.Generator, n: int, median: int) -> np.ndarray:
    return np.clip(rng.lognormal(np.log(median), 0.9, n), 1, 20 * median).astype(int)
