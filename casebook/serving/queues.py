"""Queues of servers, request by request, and the formulas that they must agree with.

Each server has a queue of its own; requests come at random (Poisson) and choose a server at
random, as behind a proxy that knows nothing of queues. A request that would wait too long is
refused.

Examples
--------
Four servers, 30 requests a second each, 20 ms of work a request: 60 % busy.

>>> queues = Queues(np.zeros(4), service=0.02, spread=1.0, seed=1)
>>> counts = sum(queues.tick(30.0, 5.0)[1] for _ in range(400))
>>> bool(abs(mean_time(counts) - 0.02 - mean_wait(30.0, 0.02, spread=1.0)) < 0.003)
True
>>> round(shared_wait(120.0, 0.02, servers=4), 4)
0.0036
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: Times are counted to the nearest of so many seconds; bins; one more is for refused requests.
BIN, BINS = 0.002, 1_500


@dataclass
class Queues:
    """Servers with what waits in them.

    Attributes
    ----------
    backlog : ndarray, shape (servers,)
        Seconds of work in each.
    service : float
        Mean seconds of work of a request.
    spread : float
        Part of the work that is exponential; the rest is fixed. 0: M/D/1; 1: M/M/1.
    patience : float
        Seconds of waiting beyond which a request is refused.
    seed : int or list of int
    """

    backlog: np.ndarray
    service: float
    spread: float = 0.5
    patience: float = 2.0
    seed: int | list[int] = 0
    rng: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        if not (self.service > 0 and 0 <= self.spread <= 1 and 0 < self.patience < BIN * BINS):
            raise ValueError(
                f"service {self.service}, spread {self.spread}, patience {self.patience}: seconds "
                f"above 0, a part between 0 and 1, and below {BIN * BINS:g} s."
            )

    def tick(self, rate: float, seconds: float) -> tuple[float, np.ndarray]:
        """Serve for some seconds.

        Parameters
        ----------
        rate : float
            Requests a second of each server.
        seconds : float

        Returns
        -------
        busy : float
            Seconds in which servers worked, over all of them.
        counts : ndarray, shape (BINS + 1,)
            Requests by time from arrival to answer, in units of ``BIN``; the last: refused.
        """
        mean = rate * seconds
        shape = len(self.backlog), int(mean + 7 * np.sqrt(mean) + 10)
        at = np.cumsum(self.rng.standard_exponential(shape), axis=1) / max(rate, 1e-9)
        own = 1 - self.spread + self.spread * self.rng.standard_exponential(shape)
        there, own = at < seconds, self.service * own
        work = np.where(there, own, 0.0)
        came = np.cumsum(work, axis=1) - work - at  # Lindley: work before it, less the time so far
        wait = came + np.maximum(np.maximum.accumulate(-came, axis=1), self.backlog[:, None])
        for one in np.flatnonzero((wait * there > self.patience).any(axis=1)):
            self._refuse(at[one], work[one], wait[one], float(self.backlog[one]), seconds)
        taken = there & np.isfinite(wait)
        spent = np.where(taken, wait + own, 0.0)
        bins = np.where(taken, np.minimum(np.rint(spent / BIN), BINS - 1), BINS).astype(int)
        before = self.backlog.sum()
        leaves = np.where(taken, at + spent, 0.0).max(axis=1)
        self.backlog = np.maximum(np.maximum(leaves, self.backlog) - seconds, 0.0)
        busy = before + np.where(taken, work, 0.0).sum() - self.backlog.sum()
        return float(busy), np.bincount(bins[there], minlength=BINS + 1)

    def _refuse(
        self, at: np.ndarray, work: np.ndarray, wait: np.ndarray, free: float, seconds: float
    ) -> None:
        """Reckon one server request by request: who would wait too long does not join (inf)."""
        for k in np.flatnonzero(at < seconds):
            wait[k] = max(free - at[k], 0.0)
            if wait[k] > self.patience:
                wait[k] = np.inf
            else:
                free = max(free, at[k]) + work[k]

    def resize(self, servers: int) -> None:
        """Have so many servers: new ones are empty; the last go, and finish their queue apart."""
        kept = self.backlog[:servers]
        self.backlog = np.r_[kept, np.zeros(servers - len(kept))]


def quantile(counts: np.ndarray, share: float) -> float:
    """Return a quantile of the seconds of those that were served; NaN if none was."""
    served = counts[:-1].cumsum()
    if not served[-1]:
        return float("nan")
    return float(BIN * np.searchsorted(served, share * served[-1]))


def mean_time(counts: np.ndarray) -> float:
    """Return the mean seconds of those that were served; NaN if none was."""
    served = counts[:-1]
    if not served.sum():
        return float("nan")
    return float(BIN * (served @ np.arange(BINS)) / served.sum())


def mean_wait(rate: float, service: float, spread: float = 1.0) -> float:
    """Return the mean wait in one queue by Pollaczek's and Khinchine's formula, in seconds.

    Raises
    ------
    ValueError
        If more work comes than one server can do.
    """
    if rate * service >= 1:
        raise ValueError(f"{rate:g} requests a second of {service:g} s: the queue has no end.")
    return rate * service**2 * (1 + spread**2) / 2 / (1 - rate * service)


def shared_wait(rate: float, service: float, servers: int) -> float:
    """Return the mean wait if all servers had one queue (Erlang's C, exponential service)."""
    load = rate * service
    if load >= servers:
        raise ValueError(f"{rate:g} requests a second of {service:g} s: the queue has no end.")
    terms = np.cumprod(np.r_[1.0, load / np.arange(1, servers + 1)])
    last = terms[-1] * servers / (servers - load)
    return float(last / (terms[:-1].sum() + last) * service / (servers - load))
