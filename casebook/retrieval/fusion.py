"""One ranking out of several: reciprocal ranks, or weighted scores.

A run is a frame with ``query_id``, ``doc_id``, ``rank`` and ``score``; see
:mod:`~casebook.retrieval.evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from casebook.retrieval.evaluate import check_run, per_query

#: Ranks are added to it before they are inverted (Cormack et al.).
RRF_K = 60
KEYS = ["query_id", "doc_id"]
Scale = Literal["minmax", "zscore"]


def rerank_by(rows: pd.DataFrame, score: str = "score", depth: int | None = None) -> pd.DataFrame:
    """Rank the documents of each query by a score, best first.

    Parameters
    ----------
    rows : DataFrame
        ``query_id``, ``doc_id`` and the score.
    score : str
        Column; equal scores are ranked by ``doc_id``.
    depth : int, optional
        Ranks that are kept.

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id``, ``rank``, ``score``; queries in the order of their names.
    """
    table = rows.sort_values(["query_id", score, "doc_id"], ascending=[True, False, True])
    table = table[KEYS].assign(
        rank=table.groupby("query_id").cumcount() + 1, score=table[score].astype(float)
    )
    return (table if depth is None else table[table["rank"] <= depth]).reset_index(drop=True)


def reciprocal_rank_fusion(
    runs: Sequence[pd.DataFrame],
    weights: Sequence[float] | None = None,
    k: int = RRF_K,
    depth: int = 100,
) -> pd.DataFrame:
    """Add up ``weight / (k + rank)`` of each document over the runs.

    Parameters
    ----------
    runs : sequence of DataFrame
        Two or more. A document that a run did not find gets nothing from it.
    weights : sequence of float, optional
        One for each run; 1 by default.
    k : int
        Large: ranks count nearly alike. Small: the first ranks decide.
    depth : int
        Ranks that are kept.

    Returns
    -------
    DataFrame
        A run.

    Raises
    ------
    ValueError
        On weights that are not one for each run, k below 0, or a faulty run.

    References
    ----------
    Cormack, Clarke & Büttcher (2009), *Reciprocal rank fusion outperforms Condorcet and individual
    rank learning methods*, SIGIR.
    """
    weights = [1.0] * len(runs) if weights is None else list(weights)
    if len(weights) != len(runs):
        raise ValueError(f"{len(weights)} weights for {len(runs)} runs.")
    if not k >= 0:
        raise ValueError(f"k is {k}: below 0, a rank would be divided by nothing or less.")
    for run in runs:
        check_run(run)
    parts = [
        run[KEYS].assign(score=weight / (k + run["rank"]))
        for run, weight in zip(runs, weights, strict=True)
    ]
    summed = pd.concat(parts).groupby(KEYS, as_index=False, sort=False)["score"].sum()
    return rerank_by(summed, depth=depth)


def normalised(run: pd.DataFrame, how: Scale = "minmax") -> pd.Series:
    """Put the scores of each query on a common scale.

    Parameters
    ----------
    run : DataFrame
    how : {"minmax", "zscore"}
        From 0 (the last one found) to 1 (the first), or in standard deviations from the mean.
        Where all scores of a query are equal they become 1 (``minmax``) or 0.

    Returns
    -------
    Series
        Index of the run.

    Raises
    ------
    ValueError
        On another ``how``.
    """
    scores = run.groupby("query_id")["score"]
    if how == "minmax":
        low, high = scores.transform("min"), scores.transform("max")
        return ((run["score"] - low) / (high - low)).where(high > low, 1.0)
    if how == "zscore":
        sd = scores.transform("std", ddof=0)
        return ((run["score"] - scores.transform("mean")) / sd).where(sd > 0, 0.0)
    raise ValueError(f"{how!r} is neither 'minmax' nor 'zscore'.")


def weighted_fusion(
    lexical: pd.DataFrame,
    dense: pd.DataFrame,
    weight: float,
    how: Scale = "minmax",
    depth: int = 100,
) -> pd.DataFrame:
    """Add up normalised scores: ``weight`` of the vectors', the rest of the words'.

    Parameters
    ----------
    lexical, dense : DataFrame
        Two runs. A document that one of them did not find gets its lowest score for the query.
    weight : float
        Of ``dense``, from 0 to 1.
    how : {"minmax", "zscore"}
        See :func:`normalised`.
    depth : int
        Ranks that are kept.

    Returns
    -------
    DataFrame
        A run.

    Raises
    ------
    ValueError
        If the weight is not between 0 and 1, or a run is faulty.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"The weight is {weight}: it must lie between 0 and 1.")
    both = _scaled(lexical, dense, how)
    score = (1 - weight) * both["lexical"] + weight * both["dense"]
    return rerank_by(both[KEYS].assign(score=score), depth=depth)


def _scaled(lexical: pd.DataFrame, dense: pd.DataFrame, how: Scale) -> pd.DataFrame:
    """Return the normalised scores of both runs for every document that one of them found."""
    parts = []
    for name, run in (("lexical", lexical), ("dense", dense)):
        check_run(run)
        parts.append(run[KEYS].assign(**{name: normalised(run, how)}))
    both = parts[0].merge(parts[1], on=KEYS, how="outer")
    for name in ("lexical", "dense"):
        lowest = both.groupby("query_id")[name].transform("min")
        both[name] = both[name].fillna(lowest).fillna(0.0)
    return both


def tune_weight(
    lexical: pd.DataFrame,
    dense: pd.DataFrame,
    judgements: pd.DataFrame,
    weights: Sequence[float] = tuple(np.arange(0, 1.01, 0.1).round(2)),
    how: Scale = "minmax",
    k: int = 10,
) -> pd.Series:
    """Score each weight on the training queries.

    Parameters
    ----------
    lexical, dense : DataFrame
        Runs; queries without a judgement here are left out.
    judgements : DataFrame
        Of the training queries alone: the test queries are scored with the weight that wins.
    weights : sequence of float
    how : {"minmax", "zscore"}
    k : int

    Returns
    -------
    Series
        Mean nDCG@k by weight; ``.idxmax()`` is the weight to use.

    Raises
    ------
    ValueError
        If no query of the runs is judged.
    """
    known = set(judgements["query_id"])
    runs = [run[run["query_id"].isin(known)] for run in (lexical, dense)]
    if not any(map(len, runs)):
        raise ValueError("No query of the runs is judged: give the training queries' judgements.")
    both = _scaled(*runs, how)
    values = {}
    for weight in weights:
        score = (1 - weight) * both["lexical"] + weight * both["dense"]
        run = rerank_by(both[KEYS].assign(score=score), depth=k)
        values[weight] = per_query(run, judgements, k)["ndcg"].mean()
    return pd.Series(values, name="ndcg").rename_axis("weight")


def side_by_side(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Lay the runs side by side: a row for each query and document that any of them found.

    Parameters
    ----------
    runs : mapping of str to DataFrame
        Runs by name.

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id`` and for each run ``<name>_score`` (the lowest of the query where
        the run did not find the document) and ``<name>_rank`` (one below its last).
    """
    table = None
    for name, run in runs.items():
        check_run(run)
        part = run[[*KEYS, "score", "rank"]]
        part = part.rename(columns={"score": f"{name}_score", "rank": f"{name}_rank"})
        table = part if table is None else table.merge(part, on=KEYS, how="outer")
    for name in runs:
        score, rank = f"{name}_score", f"{name}_rank"
        by_query = table.groupby("query_id")
        table[score] = table[score].fillna(by_query[score].transform("min")).fillna(0.0)
        table[rank] = table[rank].fillna(by_query[rank].transform("max") + 1).fillna(1)
    return table.sort_values(KEYS, ignore_index=True)
