"""A real experiment: does the first gate of a game at level 40 instead of 30 keep its players?

The split test, the interval of a difference and the bootstrap are the functions of the chapter;
beside them stands a Bayesian analysis. The data have no pre-period, no days and no guardrails, so
CUPED, novelty and the verdict meet them not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from casebook.data import real
from casebook.data.tables import COOKIE_RETENTION, cookie_cats
from casebook.evaluate.experiments import Effect, bootstrap_effect, posterior_effect, srm, welch
from casebook.recorded.real import from_real

#: One player has 49,854 rounds; the next one has 2,961.
OUTLIER = 10_000


def effects(table: pd.DataFrame, draws: int = 300) -> Iterator[tuple[str, str, Effect]]:
    """Yield metric, method and effect; of rounds with and without the player of 49,854."""
    arms = {name: table[table["arm"] == name] for name in ("control", "treatment")}
    for metric in COOKIE_RETENTION:
        pair = [own[metric].to_numpy(float) for own in arms.values()]
        yield metric, "Welch", welch(*pair)
        yield metric, "bootstrap", bootstrap_effect(*((own, 1.0) for own in pair), draws=draws)
        yield metric, "Bayes", posterior_effect(*pair)
    for method, most in (("Welch", np.inf), ("Welch, without one player", OUTLIER)):
        pair = [own.loc[own["rounds"] < most, "rounds"].to_numpy(float) for own in arms.values()]
        yield "rounds", method, welch(*pair)


def real_cookie_cats(draws: int = 300) -> pd.DataFrame:
    """Analyse the experiment on the public file.

    Returns
    -------
    DataFrame
        ``metric``, ``method``, ``control``, ``treatment``, ``effect``, ``low``, ``high``, ``p``,
        ``relative``; the first row (``split``) has the players of the arms and the split's ``p``.
    """
    table = cookie_cats(real("cookie_cats"))
    counts = table["arm"].value_counts()
    split = srm(counts.to_dict(), {"control": 0.5, "treatment": 0.5})
    head = {"control": counts["control"], "treatment": counts["treatment"], "p": split.p}
    rows = [{"metric": "split", "method": "chi-squared", **head}]
    keep = ("control", "treatment", "effect", "low", "high", "p", "relative")
    for metric, method, found in effects(table, draws):
        own = {name: getattr(found, name) for name in keep}
        rows.append({"metric": metric, "method": method, **own})
    columns = ["metric", "method", *keep]
    return from_real(pd.DataFrame(rows)[columns], "cookie_cats")
