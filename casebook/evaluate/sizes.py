"""How large a test must be: the power of the split test and of a difference, computed and drawn.

Examples
--------
>>> table = srm_power((100_000,), runs=200).query("alpha == 0.01").set_index("case")
>>> round(float(table.loc["arms differ", "power"]), 3)
0.986
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.evaluate import experiments
from casebook.evaluate.intervals import wilson

#: The shares of the chapter's broken split, and the planned ones.
SEEN = {"control": 0.052, "treatment": 0.047, "rest": 0.901}
PLANNED = {"control": 0.05, "treatment": 0.05, "rest": 0.90}
#: What came instead of 5/5/90: one arm short, or both arms short alike.
MISMATCHES = {
    "arms differ": SEEN,
    "both arms short": {"control": 0.048, "treatment": 0.048, "rest": 0.904},
}


def _rate(hits: np.ndarray) -> dict[str, float]:
    found = wilson(hits)
    return {"runs": len(hits), "rate": found.mean, "low": found.low, "high": found.high}


def srm_power(
    sizes: Sequence[int] = (10_000, 30_000, 50_000, 100_000, 400_000), runs: int = 20_000
) -> pd.DataFrame:
    """Return how often the split test notices a mismatch, and one of the two arms alone.

    Returns
    -------
    DataFrame
        ``case``, ``n``, ``alpha``, ``power`` (computed), ``rate`` (drawn), ``low``, ``high``,
        ``runs`` and ``two_arms`` (drawn: control against treatment, the rest ignored).
    """
    from scipy.stats import chi2, norm

    rng, rows = np.random.default_rng(10), []
    for case, seen in MISMATCHES.items():
        for n in sizes:
            drawn = rng.multinomial(n, [*seen.values()], runs)
            expected = n * np.array([*PLANNED.values()])
            p = chi2.sf(((drawn - expected) ** 2 / expected).sum(axis=1), 2)
            a, b = drawn[:, 0], drawn[:, 1]
            alone = 2 * norm.sf(np.abs(a - b) / np.sqrt(a + b))
            for alpha in (0.05, 0.01, 0.001):
                power = experiments.srm_power(seen, PLANNED, n, alpha)
                head = {"case": case, "n": n, "alpha": alpha, "power": power}
                rows.append({**head, **_rate(p < alpha), "two_arms": (alone < alpha).mean()})
    return pd.DataFrame(rows)


def power() -> pd.DataFrame:
    """Compare power and size with statsmodels over a grid.

    Returns
    -------
    DataFrame
        ``effect`` (over the standard deviation), ``n`` (of control), ``ratio``, ``ours``,
        ``statsmodels`` and ``needed``, ``needed_statsmodels`` (users for 80 %).
    """
    from statsmodels.stats.power import NormalIndPower

    theirs, rows = NormalIndPower(), []
    for effect in (0.005, 0.01, 0.02, 0.05, 0.1):
        for ratio in (1.0, 0.5):
            needed = experiments.sample_size(1.0, effect, ratio=ratio)
            wanted = theirs.solve_power(effect, power=0.8, alpha=0.05, ratio=ratio)
            for n in (2_000, 20_000, 200_000):
                ours = experiments.power(1.0, effect, n, ratio=ratio)
                them = theirs.power(effect, n, 0.05, ratio=ratio)
                rows.append((effect, n, ratio, ours, them, needed, np.ceil(wanted)))
    names = ["effect", "n", "ratio", "ours", "statsmodels", "needed", "needed_statsmodels"]
    return pd.DataFrame(rows, columns=names)
