"""Stop a test that does harm, and find a split that is broken: by tests, not by fixed per cents.

A rule that stops when revenue is 2 % down stops tests of nothing, because the revenue of a day is
that noisy; one that alarms when the split is 1 % off alarms on most small tests and is blind on
large ones.

Examples
--------
>>> watch(-0.03, 0.02), watch(-0.3, 0.02)
('', 'revenue -30.0 %, at most -24.3 % at any look')
>>> table = split_rules([1_000]).round(3)
>>> table[["rule", "alarms"]].to_numpy().tolist()
[['more than 1 % off', 0.728], ['chi-squared, p < 0.001', 0.001]]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.evaluate.assign import CONTROL, TREATMENT
from casebook.evaluate.experiments import srm_power
from casebook.evaluate.sequential import Paths, always_valid_interval, always_valid_p, daily_paths

#: Sizes of effects that are expected of revenue, for the always-valid test; level of the split's.
TAU, SRM_ALPHA = 0.1, 0.001


def split_rules(
    sizes: Sequence[int], missing: float = 0.005, tolerance: float = 0.01
) -> pd.DataFrame:
    """Return how often each rule alarms on an even split, by the exact binomial distribution.

    Parameters
    ----------
    sizes : sequence of int
        Users of both arms.
    missing : float
        Share of the treatment's users that a fault loses.
    tolerance : float
        Of the rule: alarm when an arm has so much more or fewer users than expected.

    Returns
    -------
    DataFrame
        ``n``, ``rule``, ``alarms`` (without a fault) and ``finds`` (with it).
    """
    from scipy.stats import binom

    shares = {CONTROL: 0.5, TREATMENT: 0.5}
    broken = {CONTROL: 0.5, TREATMENT: 0.5 * (1 - missing)}
    rows = []
    for n in sizes:
        low, high = 0.5 * n * (1 - tolerance), 0.5 * n * (1 + tolerance)
        for_rule = []
        for p in (0.5, broken[TREATMENT] / sum(broken.values())):
            inside = binom.cdf(np.floor(high), n, p) - binom.cdf(np.ceil(low) - 1, n, p)
            for_rule.append(1 - inside)
        rows.append((n, f"more than {100 * tolerance:g} % off", *for_rule))
        found = srm_power(broken, shares, n, SRM_ALPHA)
        rows.append((n, f"chi-squared, p < {SRM_ALPHA:g}", SRM_ALPHA, found))
    return pd.DataFrame(rows, columns=["n", "rule", "alarms", "finds"])


def kill_day(paths: Paths, rule: str, margin: float = 0.02, alpha: float = 0.05) -> np.ndarray:
    """Return the look at which a rule stops each test for a loss of revenue, or −1.

    Parameters
    ----------
    paths : Paths
        Relative effect on revenue, day by day.
    rule : str
        ``estimate`` (it is below −margin today), ``harm`` (an always-valid test excludes no harm,
        and the estimate is below −margin) or ``beyond`` (it excludes every loss up to the margin).
    margin, alpha : float
        ``alpha`` is one-sided: only losses stop.

    Returns
    -------
    ndarray of int, shape (runs,)
    """
    down = paths.effect < -margin
    if rule == "estimate":
        stops = down
    elif rule == "harm":
        stops = down & (always_valid_p(paths.effect, paths.se, TAU) <= 2 * alpha)
    elif rule == "beyond":
        shifted = paths.effect + margin
        stops = (shifted < 0) & (always_valid_p(shifted, paths.se, TAU) <= 2 * alpha)
    else:
        raise ValueError(f"rule {rule!r}: one of estimate, harm, beyond.")
    return np.where(stops.any(axis=1), stops.argmax(axis=1), -1)


def kills(outcomes: np.ndarray, losses: Sequence[float], runs: int = 1_000) -> pd.DataFrame:
    """Split users at random and look at their outcomes daily, with a planted loss or none.

    Parameters
    ----------
    outcomes : ndarray, shape (users, days)
    losses : sequence of float
        Relative.
    runs : int
        Tests of each loss.

    Returns
    -------
    DataFrame
        ``loss``, ``rule``, ``stopped`` (share of the tests), ``day`` (mean day of the stop) and
        ``se`` (of the relative effect at the end).
    """
    rows = []
    for loss in losses:
        paths = daily_paths(outcomes, np.zeros(len(outcomes)), runs, lift=-loss)
        for rule in ("estimate", "harm", "beyond"):
            at = kill_day(paths, rule)
            day = at[at >= 0].mean() + 1 if (at >= 0).any() else np.nan
            rows.append((loss, rule, (at >= 0).mean(), day, paths.se[:, -1].mean()))
    return pd.DataFrame(rows, columns=["loss", "rule", "stopped", "day", "se"])


def watch(effect: float, se: float, margin: float = 0.02, alpha: float = 0.05) -> str:
    """Return what the nightly guardrail says of revenue: why to kill, or "".

    Parameters
    ----------
    effect, se : float
        Relative effect so far and its standard error.
    margin, alpha : float
        As for :func:`kill_day` with the rule ``harm``.
    """
    if not (np.isfinite(effect) and np.isfinite(se)) or se < 0:
        raise ValueError(f"effect {effect}, standard error {se}: count revenue of both arms first.")
    high = always_valid_interval(effect, se, TAU, 2 * alpha)[1]
    if effect >= -margin or high >= 0:
        return ""
    return f"revenue {100 * effect:+.1f} %, at most {100 * high:+.1f} % at any look"
