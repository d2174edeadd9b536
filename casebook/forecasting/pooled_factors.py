"""How groups of products move by day: a log-linear factor, pooled over all products of a group.

Examples
--------
Two products, of one unit a day and of eight, sell twice as much on every seventh day:

>>> days = np.arange(140)
>>> demand = np.outer(1 + (days % 7 == 6), [1.0, 8.0])
>>> def sunday(product, day):
...     return (day % 7 == 6)[:, None].astype(float)
>>> both = np.zeros(2, int)
>>> made = pooled_factors(demand, demand > 0, np.arange(2), both, sunday, 147)
>>> bool(np.allclose(made[-1, 146] / made[-1, 145], 2.0, rtol=0.01))
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def pooled_factors(
    demand: np.ndarray,
    known: np.ndarray,
    product: np.ndarray,
    group: np.ndarray,
    design: Callable[[np.ndarray, np.ndarray], np.ndarray],
    days: int,
    parts: Sequence[int | None] = (None,),
) -> np.ndarray:
    """Return the factor of each product on each day, by one Poisson regression a group.

    Parameters
    ----------
    demand : ndarray, shape (past days, cells)
    known : ndarray of bool, shape (past days, cells)
    product : ndarray of int, shape (cells,)
        Of each cell; a product's cells (its stores) are added.
    group : ndarray of int, shape (products,)
    design : callable
        From products and days, shape (n,), to columns, shape (n, k).
    days : int
        Of the calendar, those to come included.
    parts : sequence of int or None
        For each a factor of the columns before it (``columns[:part]``): of all, or without the last
        ones.

    Returns
    -------
    ndarray, shape (len(parts), days, products)
        Without the intercept: 1 where all columns are 0.
    """
    from sklearn.linear_model import PoissonRegressor

    usual = np.where(known, demand, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    result = np.ones((len(parts), days, len(group)))
    for code in np.unique(group):
        own = np.flatnonzero(group == code)
        X, y, weight = [], [], []
        for item in own:
            cells = np.flatnonzero(product == item)
            base = (known[:, cells] * usual[cells]).sum(axis=1)
            at = np.flatnonzero(base > 0)
            X.append(design(np.full(len(at), item), at))
            y.append((demand[:, cells] * known[:, cells]).sum(axis=1)[at] / base[at])
            weight.append(base[at])
        model = PoissonRegressor(alpha=1e-4, max_iter=300)
        model.fit(np.vstack(X), np.concatenate(y), sample_weight=np.concatenate(weight))
        for item in own:
            every = design(np.full(days, item), np.arange(days))
            for k, last in enumerate(parts):
                result[k, :, item] = np.exp(every[:, :last] @ model.coef_[:last])
    return result
