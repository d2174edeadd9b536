"""What tenants wait for a busy provider, by the gateway's own queue on a clock that jumps.

The queue is :class:`casebook.serving.fair.Fair`, as the gateway uses it, run by
:mod:`casebook.serving.queued`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.world.tenants import (
    arrivals,
    limit_of,
    rush,
    share_of,
    superposed,
)
from casebook.data import real
from casebook.recorded.real import from_real
from casebook.serving.buckets import Bucket
from casebook.serving.queued import order as order
from casebook.serving.queued import queued

#: A provider of the simulation: requests at a time, seconds of a request in the mean, and the
#: spread of their logarithm.
SLOTS, MEAN_S, SPREAD = 64, 2.0, 0.8
TENANTS, RPS = 100, 20.0
#: Requests a second that a small tenant adds beyond its limit; large tenants that rush in theirs;
#: seconds after which an answer begins late.
BEYOND, LARGE = 40.0, 5
LATE = 2.0
RUSHES = ("none", "beyond limits", "within limits")
#: What stands before the provider: limits, a fair queue, weights by contract.
ARMS: Mapping[str, tuple[bool, bool, bool]] = {
    "nothing": (False, False, False),
    "limits": (True, False, False),
    "fair queue": (False, True, False),
    "both": (True, True, False),
    "both, by contract": (True, True, True),
}
#: Public traces by the name that the page uses; seconds of each.
TRACES = {"conversations": "azure_llm_conversation", "code": "azure_llm_code"}
REPLAYED = 90


def limited(requests: pd.DataFrame, shares: pd.Series, rps: float) -> np.ndarray:
    """Return which requests the tenants' limits let pass, shape (n,)."""
    buckets: dict[str, Bucket] = {}
    passes = np.zeros(len(requests), bool)
    for row, (at, tenant) in enumerate(zip(requests["at"], requests["tenant"], strict=True)):
        if tenant not in buckets:
            buckets[tenant] = Bucket(**limit_of(shares[tenant], rps), now=at)
        passes[row] = buckets[tenant].take(at) == 0
    return passes


def passed(requests: pd.DataFrame, shares: pd.Series, arm: str) -> pd.DataFrame:
    """Let requests pass one of ``ARMS`` and wait: as of :func:`queued`; who is refused has no wait.

    Parameters
    ----------
    requests : DataFrame
        As for :func:`queued`.
    shares : Series
        Of the tenants: for their limits, and their weights by contract (1 for the mean tenant and
        those below it).
    arm : str
    """
    limits, fair, contract = ARMS[arm]
    lets = limited(requests, shares, RPS) if limits else np.ones(len(requests), bool)
    weights = dict((len(shares) * shares).clip(lower=1.0)) if contract else None
    made = queued(requests[lets], SLOTS, fair, weights=weights)
    return requests.assign(wait=pd.Series(made["wait"].to_numpy(), requests.index[lets]))


def added(name: str, shares: pd.Series) -> dict[str, float]:
    """Return the requests a second that each tenant adds in one of ``RUSHES``.

    Beyond limits, one small tenant adds ``BEYOND``, where it may ask one a second. Within limits,
    the ``LARGE`` largest tenants ask four times as much as usual, which is what they may.
    """
    if name == "none":
        return {}
    if name == "beyond limits":
        return {shares.index[-1]: BEYOND}
    if name == "within limits":
        return dict(3 * RPS * shares.nlargest(LARGE))
    raise ValueError(f"There is no rush {name!r}: give one of {', '.join(RUSHES)}.")


def minute(name: str, shares: pd.Series, seconds: int = 60, seed: int = 20) -> pd.DataFrame:
    """Return a minute of a hundred tenants with one of ``RUSHES`` in its middle third."""
    made = arrivals(shares, RPS, seconds, seed, added(name, shares))
    drawn = np.random.default_rng((seed, 7)).lognormal(size=len(made))
    return made.assign(seconds=MEAN_S * np.exp(SPREAD * np.log(drawn) - SPREAD**2 / 2))


def neighbours(
    rushes: Sequence[str] = RUSHES,
    arms: Sequence[str] = tuple(ARMS),
    seconds: int = 60,
    seeds: Sequence[int] = (20,),
) -> pd.DataFrame:
    """Return how long the others wait while some tenants rush.

    Parameters
    ----------
    rushes : sequence of str
        Of ``RUSHES``.
    arms : sequence of str
        Of ``ARMS``.
    seconds : int
        The rush is in the middle third.
    seeds : sequence of int

    Returns
    -------
    DataFrame
        ``seed``, ``rush``, ``arm`` and, from the middle third on, as of :func:`waits`.
    """
    rows = []
    for seed in seeds:
        shares = share_of(TENANTS, seed)
        for name in rushes:
            traffic = minute(name, shares, seconds, seed)
            for arm in arms:
                told = waits(passed(traffic, shares, arm), added(name, shares), seconds / 3)
                rows.append({"seed": seed, "rush": name, "arm": arm} | told)
    return pd.DataFrame(rows)


def waits(made: pd.DataFrame, rushing: Mapping[str, float], start: float) -> dict[str, float]:
    """Return waits and refusals from a moment on.

    Parameters
    ----------
    made : DataFrame
        Of :func:`passed`.
    rushing : mapping of str to float
        By the tenants that rush.
    start : float

    Returns
    -------
    dict
        ``p50`` and ``p99`` of the others' waits (seconds), where a request that is refused waits
        for ever, ``late`` and ``refused`` (shares of theirs: over ``LATE`` seconds or refused),
        ``own`` and ``own_refused`` (p50 and share of those that rush).
    """
    late = made[made["at"] >= start]
    loud = late["tenant"].isin([*rushing])
    others, own = (late.loc[rows, "wait"].fillna(np.inf) for rows in (~loud, loud))
    p50, p99 = np.quantile(others, [0.5, 0.99], method="inverted_cdf")
    told = {"p50": p50, "p99": p99, "late": (others > LATE).mean()}
    told["refused"] = np.isinf(others).mean()
    median = np.quantile(own, 0.5, method="inverted_cdf") if len(own) else np.nan
    return told | {"own": median, "own_refused": np.isinf(own).mean() if len(own) else np.nan}


def real_bursts(seeds: Sequence[int] = tuple(range(8))) -> pd.DataFrame:
    """Let copies of Azure's traces wait, alone and while large tenants rush within their limits.

    Times and lengths are the traces' own, laid upon each other from other moments on for each seed.
    Who asks is drawn, and a request takes the provider as long as its answer has tokens, two
    seconds in the mean.

    Returns
    -------
    DataFrame
        ``trace``, ``seed``, ``cv`` (of the times between arrivals), ``alone`` (that of the trace
        itself), ``rush``, ``arm``, and as of :func:`waits`.
    """
    rows = []
    for trace, name in TRACES.items():
        table = pd.read_csv(real(name), parse_dates=["TIMESTAMP"])
        alone = _cv(table["TIMESTAMP"].sort_values().diff().dt.total_seconds())
        for seed in seeds:
            shares = share_of(TENANTS, seed)
            calm = superposed(table, shares, RPS, REPLAYED, seed)
            for kind in ("none", "within limits"):
                more = rush(added(kind, shares), REPLAYED, seed)
                drawn = table["GeneratedTokens"].sample(len(more), replace=True, random_state=seed)
                both = pd.concat([calm, more.assign(tokens_out=drawn.to_numpy())])
                both = both.sort_values("at", ignore_index=True)
                both["seconds"] = MEAN_S * both["tokens_out"] / table["GeneratedTokens"].mean()
                for arm in ("limits", "both"):
                    told = {"trace": trace, "seed": seed, "cv": _cv(calm["at"].diff())}
                    told |= {"alone": alone, "rush": kind, "arm": arm}
                    found = passed(both, shares, arm)
                    rows.append(told | waits(found, added(kind, shares), REPLAYED / 3))
    return from_real(pd.DataFrame(rows), *TRACES.values())


def _cv(gaps: pd.Series) -> float:
    return float(gaps.std() / gaps.mean())
