"""A hundred tenants and their traffic: three sizes, bursts, heavy tails, and those that rush.

*Sizes.* Of the tenants 70 % are small, 25 % middling and 5 % large; a tenant's share of the traffic
is log-normal around 1, 6 and 40. Limits are four times a tenant's own mean rate, and budgets hold
for most. *Models.* Four, over three providers, with invented names and prices; half of the tenants
may ask all of them, and each that may ask two has a fallback. *Guards.* A third has personal data
redacted on both ways. *Arrivals.* Poisson, with a rate that changes each second (gamma, variance
``burst``). In the middle third some tenants may ask more (a *rush*). *Lengths* are log-normal: the
median request has 300 tokens and its answer 40, the longest have twenty times as many. Nothing here
is measured but what :func:`superposed` takes from a trace.

Examples
--------
>>> made = arrivals(share_of(100, seed=1), rps=20, seconds=30, seed=1, more={"t099": 40.0})
>>> made["tenant"].value_counts().index[0]
't099'
"""

from __future__ import annotations

from collections.abc import Mapping
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


def limit_of(share: float, rps: float) -> dict[str, int]:
    """Return a tenant's limit: four times its mean rate, 60 a minute at least; ten seconds at once.

    Parameters
    ----------
    share : float
        Of the traffic.
    rps : float
        Requests a second of all tenants.
    """
    each = max(60, int(4 * 60 * rps * share))
    return {"per_minute": each, "burst": max(10, each // 6)}


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
        one: dict[str, Any] = {"name": name, "models": may, "weight": 1.0}
        one["limits"] = dict.fromkeys(may, limit_of(share, rps))
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
    more: Mapping[str, float] | None = None,
    burst: float = 0.4,
) -> pd.DataFrame:
    """Return requests in the order of their times.

    Parameters
    ----------
    shares : Series
    rps : float
        Mean of all tenants together, without a rush.
    seconds : int
    seed : int
    more : mapping of str to float
        Requests a second that tenants add in the middle third.
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
    made = pd.DataFrame({"at": at, "tenant": tenant})
    if more:
        made = pd.concat([made, rush(more, seconds, seed)], ignore_index=True)
    made["tokens_in"] = _lengths(rng, len(made), 300)
    made["tokens_out"] = _lengths(rng, len(made), 40)
    return made.sort_values("at", ignore_index=True)


def rush(more: Mapping[str, float], seconds: float, seed: int) -> pd.DataFrame:
    """Return what tenants ask besides in the middle third: ``at`` and ``tenant``."""
    rng, third = np.random.default_rng((seed, 4)), seconds / 3
    counts = {name: rng.poisson(rate * third) for name, rate in more.items()}
    at = rng.uniform(third, 2 * third, sum(counts.values()))
    return pd.DataFrame({"at": at, "tenant": np.repeat([*counts], [*counts.values()])})


def superposed(
    trace: pd.DataFrame, shares: pd.Series, rps: float, seconds: float, seed: int
) -> pd.DataFrame:
    """Return traffic of a trace's kind at another rate: copies of it that began at other times.

    A service with more users has more bursts, not faster ones. So the trace is not sped up: as many
    copies as the rate needs lie upon each other, each begun at a moment that is drawn.

    Parameters
    ----------
    trace : DataFrame
        ``TIMESTAMP``, ``ContextTokens``, ``GeneratedTokens``, as Azure's traces of 2023 have them.
    shares, rps, seconds, seed
        As for :func:`arrivals`; which tenant asks is drawn, too.

    Raises
    ------
    ValueError
        If the trace is shorter than the time that is asked for.
    """
    own = (trace["TIMESTAMP"] - trace["TIMESTAMP"].min()).dt.total_seconds().to_numpy()
    span, rng = own.max(), np.random.default_rng((seed, 3))
    if seconds > span:
        raise ValueError(f"the trace has {span:.0f} seconds, not {seconds:.0f}: lower seconds.")
    copies = int(np.ceil(rps * span / len(own)))
    at = (own + rng.uniform(0, span, (copies, 1))) % span
    kept = (at < seconds) & (rng.random(at.shape) < rps * span / len(own) / copies)
    rows = np.nonzero(kept)[1]
    made = pd.DataFrame({"at": at[kept], "tenant": rng.choice(shares.index, len(rows), p=shares)})
    made["tokens_in"] = trace["ContextTokens"].to_numpy()[rows]
    made["tokens_out"] = trace["GeneratedTokens"].to_numpy()[rows]
    return made.sort_values("at", ignore_index=True)


def _lengths(rng: np.random.Generator, n: int, median: int) -> np.ndarray:
    return np.clip(rng.lognormal(np.log(median), 0.9, n), 1, 20 * median).astype(int)
