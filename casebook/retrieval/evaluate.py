"""How good a ranking is: nDCG, recall, reciprocal rank, precision, success; differences of two.

A *run* has a row for each document that was found (``query_id``, ``doc_id``, ``rank`` from 1,
``score``), *judgements* one for each relevant document (``query_id``, ``doc_id``, ``relevance``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import bootstrap, by_cluster

METRICS = ("ndcg", "recall", "mrr", "precision", "success")


def check_run(run: pd.DataFrame) -> None:
    """Refuse a run that repeats a document or a rank within a query, or has a rank that is none.

    Raises
    ------
    ValueError
    """
    if missing := {"query_id", "doc_id", "rank"} - set(run):
        raise ValueError(f"The run lacks the columns {sorted(missing)}.")
    for column in ("doc_id", "rank"):
        if n := int(run.duplicated(["query_id", column]).sum()):
            raise ValueError(
                f"{n} rows of the run repeat a {column} within their query: they count twice."
            )
    rank = pd.to_numeric(run["rank"])
    if not ((rank >= 1) & (rank % 1 == 0)).all():
        raise ValueError("Ranks start at 1 and are whole numbers.")


def per_query(run: pd.DataFrame, judgements: pd.DataFrame, k: int = 10) -> pd.DataFrame:
    """Score each query of a run.

    Parameters
    ----------
    run : DataFrame
        ``query_id``, ``doc_id``, ``rank``.
    judgements : DataFrame
        ``query_id``, ``doc_id``, ``relevance``. They decide which queries count: one that the run
        does not answer has 0 in every metric.
    k : int
        Only ranks up to k count.

    Returns
    -------
    DataFrame
        Index ``query_id``. ``ndcg``: gain is the relevance, discounted by log2(rank + 1), over
        the best possible; ``recall``: relevant documents among the first k over all; ``mrr``: 1
        over the rank of the first relevant one; ``precision``: relevant among the first k over k;
        ``success``: 1 where a relevant document is among the first k.

    Raises
    ------
    ValueError
        On a repeated document or rank, queries without judgements, a query of which nothing is
        relevant, or k below 1.

    References
    ----------
    Järvelin & Kekäläinen (2002), *Cumulated gain-based evaluation of IR techniques*, ACM TOIS 20;
    gain and discount as in trec_eval.
    """
    if k < 1:
        raise ValueError(f"k is {k}: at least the first rank must count.")
    check_run(run)
    if judgements.duplicated(["query_id", "doc_id"]).any():
        raise ValueError("The judgements repeat a document within a query.")
    relevant = judgements[judgements["relevance"] > 0]
    if empty := set(judgements["query_id"]) - set(relevant["query_id"]):
        raise ValueError(f"Nothing is relevant to {len(empty)} queries, such as {min(empty)!r}.")
    if unknown := set(run["query_id"]) - set(relevant["query_id"]):
        raise ValueError(
            f"{len(unknown)} queries of the run have no judgements, such as {min(unknown)!r}: "
            "leave them out of the run, or judge them."
        )
    ideal = relevant.sort_values("relevance", ascending=False)
    place = ideal.groupby("query_id").cumcount() + 1
    best = _by_query(ideal["relevance"] / np.log2(place + 1), ideal["query_id"], place <= k)
    hits = run.loc[run["rank"] <= k, ["query_id", "doc_id", "rank"]]
    hits = hits.merge(relevant, on=["query_id", "doc_id"])
    gain = _by_query(hits["relevance"] / np.log2(hits["rank"] + 1), hits["query_id"])
    count, first = hits.groupby("query_id").size(), hits.groupby("query_id")["rank"].min()
    table = pd.DataFrame(index=pd.Index(relevant["query_id"].unique(), name="query_id"))
    table["ndcg"] = gain / best
    table["recall"] = count / relevant.groupby("query_id").size()
    table["mrr"] = 1 / first
    table["precision"] = count / k
    table["success"] = (count > 0).astype(float)
    return table.fillna(0.0)


def _by_query(values: pd.Series, query: pd.Series, where: pd.Series | slice = slice(None)):
    return values[where].groupby(query[where]).sum()


@dataclass(frozen=True)
class Difference:
    """Mean difference of two rankings over the same queries.

    Attributes
    ----------
    mean, low, high : float
        Difference, and the ends of its interval.
    wins, losses : int
        Queries on which the first is better, or worse.
    n : int
        Queries.
    """

    mean: float
    low: float
    high: float
    wins: int
    losses: int
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_bootstrap(
    first: pd.Series,
    second: pd.Series,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    clusters: pd.Series | None = None,
) -> Difference:
    """Return the mean of ``first - second`` with its percentile bootstrap over queries.

    Parameters
    ----------
    first, second : Series
        A metric by ``query_id``, of the same queries.
    draws : int
    level : float
        Confidence level.
    seed : int
    clusters : Series, optional
        By ``query_id``: what would be new next time, such as a query's topic. Then whole clusters
        are resampled.

    Returns
    -------
    Difference

    Raises
    ------
    ValueError
        If the queries differ, there are fewer than two, or one has no cluster.
    """
    if len(first) < 2 or set(first.index) != set(second.index):
        raise ValueError("Both rankings must be scored on the same queries, two at least.")
    gap = (first - second.reindex(first.index)).to_numpy()
    if clusters is None:
        found = bootstrap(gap, draws, level, seed)
    else:
        found = by_cluster(gap, clusters.reindex(first.index), None, draws, level, seed)
    wins, losses = int((gap > 1e-12).sum()), int((gap < -1e-12).sum())
    return Difference(*found, wins, losses, len(gap))


def compare(
    runs: Mapping[str, pd.DataFrame],
    judgements: pd.DataFrame,
    against: str,
    k: int = 10,
    metrics: Sequence[str] = ("ndcg", "recall"),
    seed: int = 0,
    clusters: pd.Series | None = None,
) -> pd.DataFrame:
    """Score several runs and compare each with one of them.

    Parameters
    ----------
    runs : mapping of str to DataFrame
    judgements : DataFrame
    against : str
        The run that the others are compared with.
    k : int
    metrics : sequence of str
        Of :data:`METRICS`.
    seed : int
        Of the bootstrap.
    clusters : Series, optional
        See :func:`paired_bootstrap`.

    Returns
    -------
    DataFrame
        ``model``, ``metric``, ``value``, ``difference``, ``low``, ``high`` (95 % of the
        difference), ``wins``, ``losses``, ``queries``.

    Raises
    ------
    KeyError
        If ``against`` is not among the runs.
    """
    scored = {name: per_query(run, judgements, k) for name, run in runs.items()}
    if against not in scored:
        raise KeyError(f"{against!r} is not among the runs: {', '.join(scored)}.")
    rows = []
    for name, table in scored.items():
        for metric in metrics:
            other = scored[against][metric]
            gap = paired_bootstrap(table[metric], other, seed=seed, clusters=clusters)
            value = float(table[metric].mean())
            rows.append(
                (name, metric, value, gap.mean, gap.low, gap.high, gap.wins, gap.losses, gap.n)
            )
    names = ["model", "metric", "value", "difference", "low", "high", "wins", "losses", "queries"]
    return pd.DataFrame(rows, columns=names)


def first_ranks(run: pd.DataFrame, judgements: pd.DataFrame, missing: int = 101) -> pd.Series:
    """Return the rank of the first relevant document of each query.

    Parameters
    ----------
    run, judgements : DataFrame
    missing : int
        Stands for a query whose relevant documents the run did not find.

    Returns
    -------
    Series of int
        Index ``query_id``.
    """
    check_run(run)
    relevant = judgements[judgements["relevance"] > 0]
    hits = run[["query_id", "doc_id", "rank"]].merge(relevant, on=["query_id", "doc_id"])
    first = hits.groupby("query_id")["rank"].min()
    asked = pd.Index(relevant["query_id"].unique(), name="query_id")
    return first.reindex(asked, fill_value=missing).clip(upper=missing).astype(int).rename("rank")


def rescues(
    lexical: pd.DataFrame,
    dense: pd.DataFrame,
    judgements: pd.DataFrame,
    k: int = 10,
    missing: int = 101,
) -> pd.DataFrame:
    """Return who rescues whom: the first relevant rank by words against that by vectors.

    Parameters
    ----------
    lexical, dense : DataFrame
        Two runs.
    judgements : DataFrame
    k : int
        A query is answered when a relevant document is among the first k.
    missing : int
        Rank of what was not found.

    Returns
    -------
    DataFrame
        Index ``query_id``; ``lexical`` and ``dense`` (ranks) and ``who``: ``both``, ``lexical
        only``, ``dense only`` or ``neither``.
    """
    table = pd.DataFrame(
        {
            "lexical": first_ranks(lexical, judgements, missing),
            "dense": first_ranks(dense, judgements, missing),
        }
    )
    names = np.array(["neither", "dense only", "lexical only", "both"])
    table["who"] = names[2 * (table["lexical"] <= k) + (table["dense"] <= k)]
    return table
