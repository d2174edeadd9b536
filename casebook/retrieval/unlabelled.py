"""What can be seen of a ranking without labels: that two rankings differ, and what is clicked.

Each says something, and neither is a metric: hold both against labels where there are some.

Examples
--------
>>> import pandas as pd
>>> one = pd.DataFrame({"query_id": ["q", "q"], "doc_id": ["a", "b"], "rank": [1, 2]})
>>> disagreement(one, one.assign(doc_id=["a", "c"]), k=2).round(2).to_dict()
{'q': 0.67}
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def disagreement(first: pd.DataFrame, second: pd.DataFrame, k: int = 10) -> pd.Series:
    """Return 1 minus the Jaccard overlap of two runs' first k documents, by query."""
    tops = [run[run["rank"] <= k].groupby("query_id")["doc_id"].agg(set) for run in (first, second)]
    queries = tops[0].index.union(tops[1].index)
    values = {}
    for query in queries:
        a, b = (top.get(query, set()) for top in tops)
        values[query] = 1 - len(a & b) / max(len(a | b), 1)
    return pd.Series(values, name="disagreement").rename_axis("query_id")


#: Of shown results: probability of a look by rank, of a click on a relevant and on another one.
LOOKS, CLICKS = (1.0, 0.6, 0.4), (0.7, 0.1)


def clicks(run: pd.DataFrame, judged: pd.DataFrame, seed: int, times: int = 20) -> pd.DataFrame:
    """Simulate clicks on the first three results by the position model.

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id``, ``rank``, ``shown`` (times), ``clicks``.

    References
    ----------
    Joachims, Swaminathan & Schnabel (2017), *Unbiased learning-to-rank with biased feedback*, WSDM.
    """
    rng = np.random.default_rng(seed)
    rows = run[run["rank"] <= len(LOOKS)].merge(judged, on=["query_id", "doc_id"], how="left")
    good = rows["relevance"].fillna(0).gt(0).to_numpy()
    chance = np.where(good, *CLICKS) * np.array(LOOKS)[rows["rank"] - 1]
    return rows[["query_id", "doc_id", "rank"]].assign(
        shown=times, clicks=rng.binomial(times, chance)
    )


def click_proxies(found: pd.DataFrame) -> tuple[float, float]:
    """Return clicks per showing, plain and with each click over its chance of a look."""
    looks = np.array(LOOKS)[found["rank"] - 1]
    shown = found["shown"].sum() / len(LOOKS)
    return float(found["clicks"].sum() / shown), float((found["clicks"] / looks).sum() / shown)
