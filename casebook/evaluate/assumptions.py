"""A sum that rests on assumptions: which of them matter, and what a few ratings can show.

An assumption is a value with the range in which it may lie.

Examples
--------
>>> table = one_at_a_time(lambda x: x["n"] - x["cost"], {"n": (5, 1, 9), "cost": (3, 2, 4)})
>>> table[["input", "span", "flips"]].to_numpy().tolist()
[['n', 8, True], ['cost', 2, False]]
>>> [round(x["n"], 1) for x in triangular({"n": (5, 1, 9)}, draws=2, seed=0)]
[5.6, 3.9]
>>> {name: round(value, 2) for name, value in rubric(45, rated=50).items()}
{'share': 0.9, 'low': 0.79, 'high': 0.96, 'worse': 0.76}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import wilson

#: Assumption → value, low and high.
Inputs = Mapping[str, tuple[float, float, float]]


def one_at_a_time(sum_of: Callable[[Mapping[str, float]], float], inputs: Inputs) -> pd.DataFrame:
    """Move one assumption at a time to the ends of its range.

    Parameters
    ----------
    sum_of : callable
        The sum of a number for each assumption.
    inputs : mapping of str to (value, low, high)

    Returns
    -------
    DataFrame
        ``input``, ``low``, ``high``, the sum at each (``at_low``, ``at_high``), ``span``, and
        ``flips``: whether one end changes the sign; the widest span first.
    """
    usual = {name: value for name, (value, _, _) in inputs.items()}
    base, rows = sum_of(usual), []
    for name, (_, low, high) in inputs.items():
        ends = [sum_of(usual | {name: end}) for end in (low, high)]
        flips = any(np.sign(end) != np.sign(base) for end in ends)
        rows.append((name, low, high, *ends, abs(ends[1] - ends[0]), flips))
    columns = ["input", "low", "high", "at_low", "at_high", "span", "flips"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("span", ascending=False, kind="stable", ignore_index=True)


def triangular(inputs: Inputs, draws: int, seed: int = 0) -> list[dict[str, float]]:
    """Draw all assumptions at once, each from a triangle over its range, its tip at the value."""
    rng = np.random.default_rng(seed)
    drawn = {
        name: np.full(draws, value) if low == high else rng.triangular(low, value, high, draws)
        for name, (value, low, high) in inputs.items()
    }
    return [{name: float(values[n]) for name, values in drawn.items()} for n in range(draws)]


def rubric(right: int, rated: int = 50) -> dict[str, float]:
    """Return what some rated answers show: the share that is right, its interval, and what not.

    Returns
    -------
    dict
        ``share``, ``low``, ``high`` (Wilson, 95 %), ``worse``: smallest true share of a later
        version that fifty further answers would call worse in four of five trials.
    """
    from scipy.stats import binom

    if not 0 <= right <= rated or rated < 1:
        raise ValueError(f"{right} right of {rated}: give counts, rated at least 1.")
    share, low, high = wilson([True] * right + [False] * (rated - right))
    least = next((k for k in range(rated + 1) if binom.cdf(k, rated, share) > 0.05), 0) - 1
    shares = np.linspace(0, share, 501)
    power = binom.cdf(least, rated, shares) if least >= 0 else np.zeros(len(shares))
    found = shares[power >= 0.8]
    return {
        "share": share,
        "low": low,
        "high": high,
        "worse": float(found.max()) if len(found) else 0.0,
    }
