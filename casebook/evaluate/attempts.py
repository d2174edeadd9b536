"""How reliably a task is done: pass@k (once in k attempts) and pass^k (each time in k attempts).

An agent that succeeds in 90 % of its attempts fails somebody who comes with ten tasks two times
out of three. *pass^k* is the chance that k attempts of the same task all succeed (Yao et al. 2024);
with c right ones among n attempts its unbiased estimate is C(c, k) / C(n, k). The usual slips:
(c / n)^k is too high for a task with few attempts, and the mean rate of all tasks to the k is too
low where tasks differ.

Examples
--------
>>> right = [[1, 1, 1, 1], [1, 1, 0, 0]]
>>> [round(pass_hat_k(right, k).mean, 3) for k in (1, 2, 4)]
[0.75, 0.583, 0.5]
>>> round(pass_at_k(right, 2).mean, 3)
0.917
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from casebook.evaluate.intervals import Interval, bootstrap


def pass_hat_k(right: Sequence[Sequence[bool]], k: int, seed: int = 0) -> Interval:
    """Return the chance that k attempts of a task all succeed.

    Parameters
    ----------
    right : sequence of sequence of bool, shape (tasks, attempts)
        Each task has k attempts or more; the interval resamples tasks.
    k : int

    Raises
    ------
    ValueError
        If a task has fewer than k attempts, or k is below 1.

    References
    ----------
    Yao, Shinn, Razavi & Narasimhan (2024), *tau-bench: a benchmark for tool-agent-user interaction
    in real-world domains*.
    """
    counts = _counts(right, k)
    return bootstrap([comb(c, k) / comb(n, k) for n, c in counts], seed=seed)


def pass_at_k(right: Sequence[Sequence[bool]], k: int, seed: int = 0) -> Interval:
    """Return the chance that one of k attempts of a task succeeds; as :func:`pass_hat_k`."""
    counts = _counts(right, k)
    return bootstrap([1 - comb(n - c, k) / comb(n, k) for n, c in counts], seed=seed)


def _counts(right: Sequence[Sequence[bool]], k: int) -> list[tuple[int, int]]:
    counts = [(len(own), int(np.sum(own))) for own in right]
    fewest = min((n for n, _ in counts), default=0)
    if not 1 <= k <= fewest:
        raise ValueError(f"k is {k}, and a task has {fewest} attempts: give 1 to {fewest}.")
    return counts
