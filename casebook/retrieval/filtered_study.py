"""What a filter costs in recall and latency: by visible share, size, and kind of mask.

A mask at random is the easy case: near every query lie visible rows. Permissions follow the spaces
of a firm, and so do texts. ``own``: whole spaces are visible and the question is about one of them.
``other``: the question is about a space that is hidden, so that the rows near it are hidden and the
best visible ones lie elsewhere. :func:`study` measures all ways in each of these cases against the
exact result; :func:`gathering` measures by size when to multiply all rows instead of gathering the
visible ones; :func:`learn` reads from one such table from how many visible rows on an index is the
faster way, and :func:`judged` holds that against a table of other vectors.

Examples
--------
>>> table = study(n=1_500, dimensions=16, seed=1, shares=(0.1,), efforts={"graph": (64,)},
...               users=2, questions=4)
>>> table.loc[table["way"] == "pre", "recall"].tolist()
[1.0, 1.0, 1.0]
>>> list(table["kind"].unique())
['random', 'own', 'other']
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.retrieval.ann import unit
from casebook.retrieval.filtered import Filtered, Router, Visible, gathered

KINDS = ("random", "own", "other")
#: Kind of the rows that pool the questions of all kinds; see :func:`study`.
POOLED = "any"
SHARES = (0.3, 0.2, 0.1, 0.01, 0.001)
#: Efforts that are tried of each way. A reader of a table takes the quickest that is good enough.
EFFORTS = {"all": (1,), "post": (1, 4), "graph": (64, 256, 1024), "cells": (8, 32, 128)}
#: Columns that tell one case from another.
CASE = ["n", "dimensions", "seed", "kind", "share"]
#: Ways that hand a selector to faiss.
WALKS = ("graph", "cells")


def spaces(
    n: int, dimensions: int, seed: int = 0, groups: int = 200, topics: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors like those of a firm's texts, and the space of each.

    A text has the direction of its topic, which occurs in many spaces, that of its space, and its
    own, which has few dimensions (texts do not fill the room that their vectors have).

    Parameters
    ----------
    n, dimensions, seed : int
    groups, topics : int
        Spaces, of unequal size, and topics.

    Returns
    -------
    vectors : ndarray of float32, shape (n, dimensions)
    space : ndarray of int, shape (n,)
    """
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0, 1, groups)
    space = rng.choice(groups, size=n, p=weights / weights.sum())
    topic = rng.integers(topics, size=n)
    scale = dimensions**-0.5
    of_topic, of_space, inner = (
        rng.normal(0, scale, (rows, dimensions)).astype(np.float32)
        for rows in (topics, groups, min(16, dimensions))
    )
    own = rng.normal(0, 0.25, (n, len(inner))).astype(np.float32) @ inner
    noise = rng.normal(0, 0.2 * scale, (n, dimensions)).astype(np.float32)
    return unit(of_topic[topic] + 1.2 * of_space[space] + own + noise), space


def users(
    vectors: np.ndarray, space: np.ndarray, kind: str, share: float, seed: int, n: int, each: int
) -> Iterator[tuple[Visible, np.ndarray]]:
    """Yield masks of one visible share, each with questions.

    Parameters
    ----------
    vectors, space : ndarray
        Of :func:`spaces`.
    kind : str
        Of :data:`KINDS`.
    share : float
        Of rows that are visible; ``own`` and ``other`` take whole spaces, the last one cut.
    seed, n, each : int
        Masks, and questions for each: a text with some noise, visible (``own``), hidden
        (``other``) or any.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind), round(1e6 * share)])
    total = len(vectors)
    for _ in range(n):
        order = rng.permutation(total)
        if kind != "random":
            place = rng.permutation(space.max() + 1)
            order = order[np.argsort(place[space[order]], kind="stable")]
        mask = np.zeros(total, bool)
        mask[order[: max(1, round(share * total))]] = True
        rows = {"random": order, "own": order[mask[order]], "other": order[~mask[order]]}[kind]
        asked = vectors[rng.choice(rows, each)]
        yield Visible.of(mask), asked + rng.normal(0, 0.03, asked.shape).astype(np.float32)


def study(
    n: int,
    dimensions: int = 384,
    seed: int = 0,
    shares: Sequence[float] = SHARES,
    efforts: Mapping[str, Sequence[int]] = EFFORTS,
    k: int = 10,
    users: int = 5,
    questions: int = 20,
    data: tuple[np.ndarray, np.ndarray] | None = None,
    pool: bool = False,
) -> pd.DataFrame:
    """Measure every way and effort in every case against the exact result.

    Parameters
    ----------
    n, dimensions, seed : int
        Of :func:`spaces`.
    shares : sequence of float
    efforts : mapping of str to sequence of int
        Way → efforts; ``pre`` always runs.
    k, users, questions : int
        Rows wanted, masks of a case, questions of a mask.
    data : tuple of ndarray, optional
        Other vectors and their spaces.
    pool : bool
        Add a row of kind :data:`POOLED` for each share, way and effort, over the questions of all
        kinds: a mean of three 95th percentiles is none.

    Returns
    -------
    DataFrame
        :data:`CASE`, ``way``, ``effort`` and, over the questions of the case: ``rows`` (visible),
        ``local`` (share of visible rows among the 100 nearest of all), ``recall`` (mean share of
        the exact k), ``short`` (share of questions with fewer rows than there were), ``ms``,
        ``p50``, ``p95`` (milliseconds of a question alone, one thread, with the mask ready, as it
        is for a user's second question); ``mask`` (milliseconds to make the mask from the
        documents that may be seen, as the way needs it: what a user's first question adds).
    """
    vectors, space = data or spaces(n, dimensions, seed)
    index = Filtered(vectors)
    tried = [("pre", 1), *((way, one) for way, some in efforts.items() for one in some)]
    for way, effort in tried:  # builds, and wakes the package
        index.search(vectors[0], Visible.of(np.ones(len(vectors), bool)), k, way, effort)
    kept: dict[tuple[str, float], dict] = {}
    for kind in KINDS:
        for share in shares:
            drawn = _users(vectors, space, kind, share, seed, users, questions)
            kept[kind, share] = _measured(index, drawn, tried, k)
    if pool:
        for share in shares:
            kept[POOLED, share] = {
                one: [told for kind in KINDS for told in kept[kind, share][one]] for one in tried
            }
    tables = []
    for (kind, share), told in kept.items():
        table, case = _summed(told), [len(vectors), vectors.shape[1], seed, kind, share]
        for column, value in zip(reversed(CASE), reversed(case), strict=True):
            table.insert(0, column, value)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


_users = users


def _measured(
    index: Filtered,
    drawn: Iterator[tuple[Visible, np.ndarray]],
    tried: Sequence[tuple[str, int]],
    k: int,
) -> dict[tuple[str, int], list]:
    """Return what is measured in one case: the ways take turns and meet the same disturbances."""
    kept: dict[tuple[str, int], list] = {one: [] for one in tried}
    for visible, asked in drawn:
        masks = mask_times(visible)
        for question in asked:
            near = np.argpartition(-(index.vectors @ question), min(100, len(index) - 1))[:100]
            local, exact = visible.mask[near].mean(), set()
            for way, effort in tried:
                start = time.perf_counter()
                found = index.search(question, visible, k, way, effort)
                took = 1000 * (time.perf_counter() - start)
                exact = exact or {*found.rows.tolist()}  # pre comes first
                hit = len(exact & {*found.rows.tolist()}) / len(exact)
                short = len(found.rows) < len(exact)
                kept[way, effort].append(
                    (len(visible.rows), local, hit, short, masks[way in WALKS], took)
                )
    return kept


def mask_times(visible: Visible) -> tuple[float, float]:
    """Return the milliseconds to make a mask over passages, without and with a selector of faiss.

    As a library makes it: who may see a document is known; a passage takes it from its document.
    """
    owner, live = np.arange(len(visible.mask)), np.ones(len(visible.mask), bool)
    start = time.perf_counter()
    made = Visible.of(visible.mask[owner] & live)
    plain = time.perf_counter() - start
    _ = made.selector
    return 1000 * plain, 1000 * (time.perf_counter() - start)


def _summed(kept: dict[tuple[str, int], list]) -> pd.DataFrame:
    """Return means and quantiles of each way and effort over the questions of a case."""
    rows = []
    for (way, effort), told in kept.items():
        *means, took = np.array(told, float).T
        p50, p95 = np.quantile(took, [0.5, 0.95])
        rows.append((way, effort, *(m.mean() for m in means), took.mean(), p50, p95))
    names = ["way", "effort", "rows", "local", "recall", "short", "mask", "ms", "p50", "p95"]
    return pd.DataFrame(rows, columns=names)


#: Ways to multiply the visible rows.
_MULTIPLY = {
    "once": lambda vectors, seen, query: vectors[seen] @ query,
    "pieces": gathered,
    "everything": lambda vectors, seen, query: (vectors @ query)[seen],
}


def gathering(
    sizes: Sequence[int],
    dimensions: int = 384,
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    rounds: int = 15,
) -> pd.DataFrame:
    """Measure three ways to multiply the visible rows, by number of rows and visible share.

    Returns
    -------
    DataFrame
        ``n``, ``share``, and milliseconds (lower quartile: whatever else runs only adds): ``once``
        (visible rows copied at once), ``pieces`` (:func:`.filtered.gathered`), ``everything`` (all
        rows multiplied, the hidden ones dropped).
    """
    rows, rng = [], np.random.default_rng(0)
    for n in sizes:
        vectors = unit(rng.normal(size=(n, dimensions)).astype(np.float32))
        for share in shares:
            seen = np.sort(rng.choice(n, max(1, round(share * n)), replace=False))
            took: dict[str, list[float]] = {name: [] for name in _MULTIPLY}
            for _ in range(rounds + 1):  # the first wakes the caches
                for name, way in _MULTIPLY.items():
                    start = time.perf_counter()
                    way(vectors, seen, vectors[0])
                    took[name].append(1000 * (time.perf_counter() - start))
            rows.append((n, share, *(np.quantile(took[name][1:], 0.25) for name in _MULTIPLY)))
    return pd.DataFrame(rows, columns=["n", "share", *_MULTIPLY])


def best(table: pd.DataFrame, floor: float = 0.95, by: str = "p50") -> pd.DataFrame:
    """Return for each case and way the quickest effort that reaches a recall.

    Where none does, the one with the highest recall: ``reached`` says so.
    """
    told = table.assign(reached=table["recall"] >= floor)
    told["_late"] = np.where(told["reached"], told[by], -told["recall"])
    order = told.sort_values(["reached", "_late"], ascending=[False, True])
    return order.drop_duplicates([*CASE, "way"]).drop(columns="_late").sort_index()


def learn(table: pd.DataFrame, floor: float = 0.95, by: str = "p50") -> Router:
    """Return the router with the lowest mean time over the cases of a table.

    Every number of visible rows between two of the table is tried as crossover, with every way and
    effort that reaches ``floor`` in each case beyond it. ``pre`` alone is among the candidates.

    Parameters
    ----------
    table : DataFrame
        Of :func:`study`, of one or more sizes.
    floor : float
        Recall that each case must have.
    by : str
        ``"p50"``, ``"p95"`` or ``"ms"``.
    """
    pre = table[table["way"] == "pre"].set_index(CASE)
    seen = np.unique(pre["rows"])
    between = [0.0, *np.sqrt(seen[1:] * seen[:-1])]
    tried = [(pre[by].mean(), Router(np.inf, "pre"))]
    for (way, effort), own in table[table["way"] != "pre"].groupby(["way", "effort"], sort=False):
        own = own.set_index(CASE).loc[pre.index]
        for rows in between:
            far = pre["rows"] > rows
            if (own.loc[far, "recall"] >= floor).all():
                mean = np.where(far, own[by], pre[by]).mean()
                tried.append((mean, Router(float(rows), str(way), int(effort))))
    return min(tried, key=lambda one: one[0])[1]


def judged(
    router: Router, table: pd.DataFrame, floor: float = 0.95, by: str = "p50"
) -> pd.DataFrame:
    """Hold a router against a table that it was not learned from.

    Returns
    -------
    DataFrame
        A row for each case: ``rows``, ``way`` (chosen), ``recall``, the time ``by``, ``best`` (way
        that is quickest at ``floor``), ``regret`` (time over that of the best), ``pre`` (time of
        multiplying over that of the best).

    Notes
    -----
    The repair of :meth:`.Router.search`, to multiply where a way falls short, is not in the table:
    recall is what the way gave by itself.
    """
    rows = []
    for case, own in table.groupby(CASE, sort=False):
        exact = own[own["way"] == "pre"].iloc[0]
        good = own[own["recall"] >= floor]
        quickest = good.loc[good[by].idxmin()]
        chosen = exact
        if router.way != "pre" and exact["rows"] > router.rows:
            same = (own["way"] == router.way) & (own["effort"] == router.effort)
            chosen = own[same].iloc[0]
        told = [exact["rows"], chosen["way"], chosen["recall"], chosen[by], quickest["way"]]
        times = [chosen[by] / quickest[by], exact[by] / quickest[by]]
        rows.append((*case, *told, *times))
    return pd.DataFrame(rows, columns=[*CASE, "rows", "way", "recall", by, "best", "regret", "pre"])
