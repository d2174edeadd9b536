"""Hierarchies of time series: levels, summing matrix, incoherence and reconciliation.

A hierarchy is a table: one row for each bottom series, one column for each
level, the name of the node that the series belongs to. Nested levels
(country / depot / route) and crossed ones (region x purpose) are the same to it.

Arrays are in the order of ``Hierarchy.nodes`` (upper levels first, bottom series
last). ``S`` has a row for each node and a column for each bottom series; a
forecast vector ``y`` of all nodes is *coherent* when ``y = S b`` for its bottom
part ``b``. A reconciliation is a matrix ``G`` that makes bottom forecasts out of
base forecasts of all nodes, and ``S G`` applied to them.

Examples
--------
>>> tree = from_ids(["A/1", "A/2", "B/1"], ["depot", "route"])
>>> dict(zip(tree.nodes, tree.S.sum(axis=1).tolist(), strict=True))["A"]
2.0

References
----------
Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed., chapter 11.
Wickramasuriya, Athanasopoulos & Hyndman (2019), *Optimal forecast reconciliation
for hierarchical and grouped time series through trace minimization*, JASA 114.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

#: Least variance of a residual, as in hierarchicalforecast (``mint_shr_ridge``).
VARIANCE_FLOOR = 2e-8
#: Errors of fewer periods are not asked for correlations.
FEWEST_PERIODS = 10
#: On the diagonal of a correlation whose condition number is worse than the limit.
RIDGE, WORST_CONDITION = 1e-6, 1e8


@dataclass(frozen=True)
class Hierarchy:
    """Which node of each level a bottom series belongs to.

    Attributes
    ----------
    table : DataFrame, shape (bottom series, levels)
        Index: bottom series. Columns: levels, from the top to the bottom. Values: names of nodes;
        the last column repeats the index.
    """

    table: pd.DataFrame

    @cached_property
    def tags(self) -> dict[str, np.ndarray]:
        """Names of the nodes of each level, as hierarchicalforecast wants them."""
        return {level: np.sort(self.table[level].unique()) for level in self.table}

    @cached_property
    def nodes(self) -> np.ndarray:
        """Names of all nodes: level by level, the bottom series last."""
        return np.concatenate(list(self.tags.values()))

    @cached_property
    def bottom(self) -> np.ndarray:
        """Names of the bottom series, in the order of the columns of ``S``."""
        return list(self.tags.values())[-1]

    @cached_property
    def level_of(self) -> dict[str, str]:
        """Level of each node."""
        return {node: level for level, nodes in self.tags.items() for node in nodes}

    @cached_property
    def S(self) -> np.ndarray:
        """Summing matrix, shape (nodes, bottom series)."""
        return summing_matrix(self).to_numpy()


def from_columns(series: pd.DataFrame, levels: Mapping[str, Sequence[str]]) -> Hierarchy:
    """Build a hierarchy from columns that describe the bottom series.

    Parameters
    ----------
    series : DataFrame
        One or more rows for each bottom series: ``unique_id`` and the columns of ``levels``.
    levels : mapping of str to sequence of str
        Level and the columns whose values make its nodes, top first: ``{"total": [], "state":
        ["state"], "purpose": ["purpose"]}``. No column is the total. The bottom level is added
        as ``series`` unless the last level is made of ``unique_id``.

    Returns
    -------
    Hierarchy
        A node is named by the values of its columns, joined by ``/``; the total is ``total``.

    Raises
    ------
    ValueError
        If a series belongs to two nodes of one level, nodes of two levels share a name, or a name
        is missing.
    """
    columns = list(dict.fromkeys(c for keys in levels.values() for c in keys if c != "unique_id"))
    rows = series[["unique_id", *columns]].drop_duplicates()
    if (empty := rows.isna().any(axis=1)).any():
        raise ValueError(
            f"a value is missing in {rows[empty].iloc[0].to_dict()}: an empty cell names no node, "
            "fill it or leave the series out"
        )
    if (twice := rows["unique_id"].duplicated()).any():
        raise ValueError(
            f"{rows.loc[twice, 'unique_id'].iloc[0]!r} belongs to two nodes of one level: a "
            f"bottom series has one value in each of {columns}."
        )
    rows = rows.set_index("unique_id", drop=False).sort_index()
    table = pd.DataFrame(index=rows.index)
    for level, keys in levels.items():
        keys = list(keys)
        table[level] = rows[keys].astype(str).agg("/".join, axis=1) if keys else "total"
    if not table.shape[1] or not (table.iloc[:, -1] == table.index).all():
        table["series"] = table.index
    hierarchy = Hierarchy(table)
    names, counts = np.unique(hierarchy.nodes, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{names[counts > 1][0]!r} names nodes of two levels: name the nodes apart, such as "
            "by one more column."
        )
    return hierarchy


def from_ids(ids: Iterable[str], names: Sequence[str], separator: str = "/") -> Hierarchy:
    """Build a nested hierarchy from ids such as ``country/depot/route``.

    Parameters
    ----------
    ids : iterable of str
        Bottom series; repeated ids count once.
    names : sequence of str
        Levels that the parts of an id stand for, such as ``("country", "depot", "route")``.
    separator : str
        Between the parts.

    Returns
    -------
    Hierarchy
        Levels ``total`` and ``names``; a node is named by the front part of the ids below it.

    Raises
    ------
    ValueError
        If an id is no text, or has more or fewer parts than there are names.
    """
    ids = set(ids)
    if nameless := [name for name in ids if not isinstance(name, str)]:
        raise ValueError(f"an id is {nameless[0]!r}, not text: name the series or leave it out")
    unique = pd.Index(sorted(ids), name="unique_id")
    parts = [name.split(separator) for name in unique]
    if wrong := [i for i, p in zip(unique, parts, strict=True) if len(p) != len(names)]:
        raise ValueError(
            f"{wrong[0]!r} does not have {len(names)} parts ({separator.join(names)}) between "
            f"{separator!r}."
        )
    table = pd.DataFrame({"total": "total"}, index=unique)
    for depth, name in enumerate(names, start=1):
        table[name] = [separator.join(p[:depth]) for p in parts]
    return Hierarchy(table)


def summing_matrix(hierarchy: Hierarchy) -> pd.DataFrame:
    """Return the summing matrix S with its names.

    Parameters
    ----------
    hierarchy : Hierarchy

    Returns
    -------
    DataFrame, shape (nodes, bottom series)
        1 where the bottom series of the column is part of the node of the row, else 0.
    """
    table = hierarchy.table.loc[hierarchy.bottom]
    blocks = [
        (tags[:, None] == table[level].to_numpy()[None, :]).astype(float)
        for level, tags in hierarchy.tags.items()
    ]
    return pd.DataFrame(np.vstack(blocks), index=hierarchy.nodes, columns=hierarchy.bottom)


def aggregate(
    panel: pd.DataFrame, hierarchy: Hierarchy, values: Sequence[str] = ("y",)
) -> pd.DataFrame:
    """Sum a panel of bottom series to all nodes.

    Parameters
    ----------
    panel : DataFrame
        ``unique_id`` (bottom series), ``ds`` and the columns to sum; rows in any order. A series
        has no row where it does not exist, and counts as nothing there.
    hierarchy : Hierarchy
    values : sequence of str
        Columns to sum.

    Returns
    -------
    DataFrame
        ``level``, ``unique_id``, ``ds`` and ``values``: level by level, sorted within.

    Raises
    ------
    ValueError
        On a series that the hierarchy does not know, two rows for a series and time, or missing
        values (a sum would silently take them for zero).
    """
    values = list(values)
    if unknown := set(panel["unique_id"]) - set(hierarchy.table.index):
        raise ValueError(f"The hierarchy does not know {len(unknown)} series: {min(unknown)!r} …")
    if twice := int(panel.duplicated(["unique_id", "ds"]).sum()):
        raise ValueError(f"{twice} rows repeat a series and time: they would count twice.")
    if missing := int(panel[values].isna().sum().sum()):
        raise ValueError(f"{missing} values of {values} are missing: a sum would take them for 0.")
    levels = []
    for level in hierarchy.tags:
        node = panel["unique_id"].map(hierarchy.table[level])
        sums = panel[values].groupby([node, panel["ds"]]).sum().reset_index()
        levels.append(sums.assign(level=level))
    return pd.concat(levels, ignore_index=True)[["level", "unique_id", "ds", *values]]


def incoherence(forecasts: np.ndarray, S: np.ndarray) -> float:
    """Return the largest absolute difference between a node and the sum of its bottom series.

    Parameters
    ----------
    forecasts : ndarray, shape (nodes,) or (nodes, periods)
    S : ndarray, shape (nodes, bottom series)

    Returns
    -------
    float
        In the unit of the forecasts.
    """
    forecasts = np.asarray(forecasts, float)
    return float(np.abs(forecasts - S @ forecasts[-S.shape[1] :]).max())


def bottom_up(S: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Sum the bottom forecasts; what the upper levels forecast is not used.

    Parameters
    ----------
    S : ndarray, shape (nodes, bottom series)
    base : ndarray, shape (nodes,) or (nodes, periods)

    Returns
    -------
    ndarray, shape of ``base``
    """
    return S @ base[-S.shape[1] :]


def non_negative(S: np.ndarray, coherent: np.ndarray) -> np.ndarray:
    """Clip negative bottom forecasts to zero and sum them again.

    Clipping keeps the forecasts coherent and only ever raises the sums: a small upward bias, and
    not the optimal non-negative solution, whose quadratic program may not come to an end.

    Parameters
    ----------
    S : ndarray, shape (nodes, bottom series)
    coherent : ndarray, shape (nodes,) or (nodes, periods)

    Returns
    -------
    ndarray, shape of ``coherent``
    """
    return bottom_up(S, np.clip(coherent, 0, None))


def historical_proportions(history: np.ndarray) -> np.ndarray:
    """Return the share of each bottom series in what was observed.

    Parameters
    ----------
    history : ndarray, shape (periods, bottom series)
        Observations, NaN where a series did not exist.

    Returns
    -------
    ndarray, shape (bottom series,)
        Mean of each series over the sum of the means (Gross & Sohl's proportions of the averages);
        0 for a series that was never observed.
    """
    means = pd.DataFrame(history).mean().fillna(0).to_numpy()
    return means / means.sum()


def top_down(S: np.ndarray, base: np.ndarray, proportions: np.ndarray | None = None) -> np.ndarray:
    """Divide the forecast of the total among the bottom series.

    Parameters
    ----------
    S : ndarray, shape (nodes, bottom series)
        Its first row is the total.
    base : ndarray, shape (nodes,) or (nodes, periods)
    proportions : ndarray, shape (bottom series,), optional
        Shares that sum to one, such as :func:`historical_proportions`. Without them the *forecast*
        proportions: level by level a node gets its own share of the forecasts of its siblings
        (nested hierarchies only).

    Returns
    -------
    ndarray, shape of ``base``

    Raises
    ------
    ValueError
        If forecast proportions are asked of a hierarchy that is not nested.

    References
    ----------
    Athanasopoulos, Ahmed & Hyndman (2009), *Hierarchical forecasts for Australian domestic
    tourism*, International Journal of Forecasting 25.
    """
    if proportions is not None:
        return S @ np.multiply.outer(np.asarray(proportions, float), base[0])
    parent = _parents(S)
    siblings = np.zeros(np.shape(base))
    np.add.at(siblings, parent[1:], base[1:])
    coherent = np.array(base, float)
    for node in range(1, len(S)):  # a parent stands before its children
        below = siblings[parent[node]]
        children = (parent == parent[node])[1:].sum()
        share = np.divide(
            base[node], below, np.full(np.shape(below), 1 / children), where=below != 0
        )
        coherent[node] = coherent[parent[node]] * share
    return bottom_up(S, coherent)


def _parents(S: np.ndarray) -> np.ndarray:
    """Return for each node the smallest node above it, shape (nodes,); 0 for the total."""
    sizes, common = S.sum(axis=1), S @ S.T
    overlap = (common > 0) & (common != np.minimum.outer(sizes, sizes))
    if overlap.any() or sizes[0] != S.shape[1]:
        raise ValueError(
            "Forecast proportions need a nested hierarchy with the total first: here two nodes "
            "share some of their series. Give historical proportions."
        )
    parent = np.zeros(len(S), int)
    for node in range(1, len(S)):
        above = np.flatnonzero(common[node, :node] == sizes[node])
        parent[node] = above[-1]
    return parent


def shrunk_correlation(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Estimate standard deviations and the shrunk correlation of forecast errors.

    Parameters
    ----------
    residuals : ndarray, shape (periods, nodes)
        Errors of the base forecasts, NaN where a node has none. A missing error counts as an
        average one in the correlations: they stay a proper correlation matrix, and a series with
        few errors is hardly correlated with any other.

    Returns
    -------
    sd : ndarray, shape (nodes,)
        NaN with fewer than three errors.
    correlation : ndarray, shape (nodes, nodes)
        Off-diagonal elements times ``1 - intensity``.
    intensity : float
        Between 0 (the empirical correlation) and 1 (no correlation).

    References
    ----------
    Schäfer & Strimmer (2005), *A shrinkage approach to large-scale covariance matrix estimation*,
    Statistical Applications in Genetics and Molecular Biology 4; as in hierarchicalforecast.
    """
    seen, periods = np.isfinite(residuals), len(residuals)
    count = seen.sum(axis=0)
    mean = np.nansum(residuals, axis=0) / np.maximum(count, 1)
    x = np.where(seen, residuals - mean, 0.0)
    squares = (x**2).sum(axis=0)
    sd = np.sqrt(np.maximum(squares / np.maximum(count - 1, 1), VARIANCE_FLOOR))
    z = x / (np.sqrt(squares / periods) + VARIANCE_FLOOR)
    r = z.T @ z / periods
    off = ~np.eye(len(r), dtype=bool)
    spread = ((z**2).T @ z**2 / periods - r**2)[off].sum() / (periods - 1)
    intensity = float(np.clip(spread / ((r**2)[off].sum() + VARIANCE_FLOOR), 0, 1))
    norm = np.sqrt(np.where(squares > 0, squares, 1.0))
    correlation = np.where(off, (1 - intensity) * (x.T @ x) / np.outer(norm, norm), 1.0)
    return np.where(count < 3, np.nan, sd), correlation, intensity


def mint(
    S: np.ndarray, base: np.ndarray, residuals: np.ndarray, correlated: bool = True
) -> tuple[np.ndarray, str]:
    """Reconcile by minimum trace: generalised least squares of the base forecasts on S.

    ``G = (S' W^-1 S)^-1 S' W^-1`` with ``W`` the shrunk covariance of the errors. Written as a
    least squares problem in whitened units, no covariance is ever inverted.

    Parameters
    ----------
    S : ndarray, shape (nodes, bottom series)
    base : ndarray, shape (nodes,) or (nodes, periods)
    residuals : ndarray, shape (periods, nodes)
        Errors of the base forecasts, NaN where a node has none.
    correlated : bool
        Without correlations this is WLS, weights by variance.

    Returns
    -------
    coherent : ndarray, shape of ``base``
        Not clipped: see :func:`non_negative`.
    note : str
        Empty, or what had to be done to the covariance. It is also given as a warning.

    Raises
    ------
    ValueError
        On missing base forecasts, shapes that do not match, or nodes with errors too few to tell a
        variance in every series.
    """
    _check(S, base, residuals)
    sd, correlation, _ = shrunk_correlation(np.asarray(residuals, float))
    sd, filled = _fill_sd(sd, S)
    factor, note = _factor(correlation, len(residuals)) if correlated else (np.eye(len(S)), "")
    whiten = np.linalg.solve(factor, np.diag(1 / sd))  # W^-1 = whiten' whiten
    bottom = np.linalg.lstsq(whiten @ S, whiten @ base, rcond=None)[0]
    if note := "; ".join(filter(None, [filled, note])):
        warnings.warn(f"MinT: {note}.", RuntimeWarning, stacklevel=2)
    return S @ bottom, note


def _check(S: np.ndarray, base: np.ndarray, residuals: np.ndarray) -> None:
    if len(base) != len(S) or residuals.shape[1] != len(S):
        raise ValueError(
            f"S has {len(S)} nodes, the base forecasts {len(base)} and the residuals "
            f"{residuals.shape[1]} columns: one order for all."
        )
    if bad := int((~np.isfinite(base)).sum()):
        raise ValueError(f"{bad} base forecasts are missing or infinite: fill them first.")


def _fill_sd(sd: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, str]:
    """Give nodes without errors the median deviation of nodes with as many bottom series."""
    unknown = np.isnan(sd)
    if not unknown.any():
        return sd, ""
    if unknown.all():
        raise ValueError("No node has three errors: there is no variance to weight by.")
    sizes = S.sum(axis=1)
    filled = sd.copy()
    for node in np.flatnonzero(unknown):
        # The nearest size for which there are deviations.
        distance = np.where(unknown, np.inf, np.abs(np.log(sizes / sizes[node])))
        filled[node] = np.median(sd[distance == distance.min()])
    note = "with fewer than three errors: the variance is that of nodes of the same size"
    return filled, f"{unknown.sum()} {'node' if unknown.sum() == 1 else 'nodes'} {note}"


def _factor(correlation: np.ndarray, periods: int) -> tuple[np.ndarray, str]:
    """Return a Cholesky factor: of the correlation, of it with a ridge, or of none at all."""
    identity = np.eye(len(correlation))
    if periods < FEWEST_PERIODS:
        note = f"{periods} periods of errors, fewer than {FEWEST_PERIODS}, tell no correlation"
        return identity, f"{note}: fell back to weights by variance (WLS)"
    for ridge in (0.0, RIDGE):
        eigenvalues = np.linalg.eigvalsh(correlation) + ridge
        if eigenvalues[0] > 0 and eigenvalues[-1] < WORST_CONDITION * eigenvalues[0]:
            factor = np.linalg.cholesky(correlation + ridge * identity)
            note = f"covariance not positive definite: ridge of {ridge:g} on the correlation"
            return factor, note if ridge else ""
    return identity, "covariance not positive definite: fell back to weights by variance (WLS)"


def mint_shrink(S: np.ndarray, base: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Reconcile by hierarchicalforecast's ``MinTrace("mint_shrink")``: the peer of :func:`mint`.

    Parameters
    ----------
    S : ndarray, shape (nodes, bottom series)
    base : ndarray, shape (nodes, periods)
    residuals : ndarray, shape (periods, nodes)

    Returns
    -------
    ndarray, shape of ``base``
    """
    from hierarchicalforecast.methods import MinTrace

    base = np.asarray(base, float)
    errors = np.ascontiguousarray(residuals.T, dtype=float)
    fitted = MinTrace("mint_shrink").fit(
        S=S,
        y_hat=base if base.ndim == 2 else base[:, None],
        y_insample=errors,
        y_hat_insample=np.zeros_like(errors),
    )
    return S @ (fitted.P @ base)


def _check_base(
    base: pd.DataFrame, hierarchy: Hierarchy, method: str, residuals: pd.DataFrame | None
) -> None:
    """Refuse base forecasts of unknown or repeated nodes, and weights without errors."""
    if unknown := set(base["unique_id"]) - set(hierarchy.nodes):
        raise ValueError(
            f"the hierarchy has no node {min(unknown, key=str)!r}: take it out of base"
        )
    if (twice := base.duplicated(["unique_id", "ds"])).any():
        raise ValueError(
            f"{twice.sum()} rows of base repeat a node and day: keep one forecast each"
        )
    if method in ("wls", "mint") and residuals is None:
        raise ValueError(f"{method} weighs by errors of earlier forecasts: give residuals")


def _by_method(
    method: str,
    S: np.ndarray,
    forecast: np.ndarray,
    shares: np.ndarray | None,
    errors: np.ndarray | None,
) -> tuple[np.ndarray, str]:
    """Return the coherent forecasts of nodes that exist, and what MinT did to its covariance."""
    if method == "bottom_up":
        return bottom_up(S, forecast), ""
    if method == "top_down":
        return top_down(S, forecast, None if shares is None else shares / shares.sum()), ""
    if method not in ("wls", "mint"):
        raise ValueError(f"no method {method!r}: bottom_up, top_down, wls or mint")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the note is returned instead
        return mint(S, forecast, errors, method == "mint")


def reconcile(
    base: pd.DataFrame,
    hierarchy: Hierarchy,
    method: str,
    column: str = "base",
    residuals: pd.DataFrame | None = None,
    proportions: pd.Series | None = None,
) -> tuple[np.ndarray, str]:
    """Reconcile a frame of base forecasts, day by day over the series that exist.

    Parameters
    ----------
    base : DataFrame
        ``unique_id`` (nodes), ``ds`` and ``column``; rows in any order. A bottom series without a
        row on a day does not exist on it: it is left out of S there, and gets nothing.
    hierarchy : Hierarchy
    method : {"bottom_up", "top_down", "wls", "mint"}
    column : str
        Base forecasts.
    residuals : DataFrame, optional
        For WLS and MinT: one row for each period of errors, one column for each node (missing
        columns and values are allowed).
    proportions : Series, optional
        For top-down: historical proportions by bottom series.

    Returns
    -------
    reconciled : ndarray, shape (len(base),)
        Coherent and not negative, in the order of ``base``.
    note : str
        What MinT had to do to its covariance, if anything.

    Raises
    ------
    ValueError
        On an unknown method or node, two rows for a node and day, WLS or MinT without residuals,
        or a node without a forecast on a day on which a series of its exists.
    """
    _check_base(base, hierarchy, method, residuals)
    wide = base.pivot(index="ds", columns="unique_id", values=column)
    wide = wide.reindex(columns=hierarchy.nodes)
    n_bottom = len(hierarchy.bottom)
    open_ = wide.to_numpy()[:, -n_bottom:]
    patterns, group = np.unique(np.isfinite(open_), axis=0, return_inverse=True)
    result, notes = np.full(wide.shape, np.nan), set()
    for k, pattern in enumerate(patterns):
        days = np.flatnonzero(group.ravel() == k)
        S = hierarchy.S[:, pattern]
        nodes = S.any(axis=1)
        S, forecast = S[nodes], wide.to_numpy()[np.ix_(days, nodes)].T
        if np.isnan(forecast).any():
            missing = hierarchy.nodes[nodes][np.isnan(forecast).any(axis=1)][0]
            raise ValueError(f"{missing!r} has no {column} on a day on which its series exist.")
        shares = errors = None
        if proportions is not None:
            shares = proportions.reindex(hierarchy.bottom[pattern]).fillna(0).to_numpy()
        if residuals is not None:
            errors = residuals.reindex(columns=hierarchy.nodes).to_numpy()[:, nodes]
        coherent, note = _by_method(method, S, forecast, shares, errors)
        notes.add(note)
        result[np.ix_(days, np.flatnonzero(nodes))] = non_negative(S, coherent).T
    values = pd.DataFrame(result, index=wide.index, columns=wide.columns).stack()
    keys = pd.MultiIndex.from_frame(base[["ds", "unique_id"]])
    return values.reindex(keys).to_numpy(), "; ".join(sorted(filter(None, notes)))
