"""From a distribution of demand to whole cases within a budget.

What one more case is worth falls with each case: it sells less often and is left over more often.
So the best cases under a budget are found by a linear programme, or by taking them in the order of
worth per euro.

Examples
--------
Two products in packs of four, 10 and 30 euro a case; demand is 10 units, give or take half:

>>> demand = np.outer([10.0, 10.0], [0.5, 0.75, 1.0, 1.25, 1.5])
>>> worth = worth_of_cases(demand, np.zeros(2), np.array([4, 4]), 5.0, np.array([2.0, 2.0]), 5)
>>> worth.round(1).tolist()[0]
[20.0, 15.1, 6.0, -3.1, -8.0]
>>> chosen, price = within_budget(worth, np.array([10.0, 30.0]), 80.0)
>>> chosen.tolist(), round(price, 2)
([3, 1], 0.5)
"""

from __future__ import annotations

import numpy as np

from casebook.forecasting.newsvendor import cost


def worth_of_cases(
    demand: np.ndarray,
    there: np.ndarray,
    pack: np.ndarray,
    short: float,
    over: np.ndarray,
    most: int,
) -> np.ndarray:
    """Return by how much each case more lowers the expected cost, shape (n, most).

    Parameters
    ----------
    demand : ndarray, shape (n, draws)
        What may be wanted, each draw as likely as the others.
    there, pack : ndarray, shape (n,)
        Units that are there, and in a case.
    short : float
    over : ndarray, shape (n,)
        Costs of a unit too few and too many.
    most : int
        Cases.
    """
    units = there[:, None] + pack[:, None] * np.arange(most + 1)
    gaps = cost(demand[:, None, :], units[:, :, None], short, over[:, None, None])
    return -np.diff(gaps.mean(axis=2), axis=1)


def within_budget(
    worth: np.ndarray, price: np.ndarray, budget: float = np.inf
) -> tuple[np.ndarray, float]:
    """Choose whole cases of the greatest worth that a budget pays.

    Parameters
    ----------
    worth : ndarray, shape (n, most)
        Falling in each row.
    price : ndarray, shape (n,)
        Of a case, above 0.
    budget : float

    Returns
    -------
    tuple
        Cases, shape (n,), and what a euro more of budget would be worth: 0 where it does not bind.
        The linear programme splits one case at most, which is left out.
    """
    from scipy.optimize import linprog

    good = np.maximum(worth, 0) > 1e-9
    every = good.sum(axis=1)
    if (every * price).sum() <= budget:
        return every, 0.0
    row, _ = np.nonzero(good)
    found = linprog(-worth[good], A_ub=price[row][None], b_ub=[budget], bounds=(0, 1))
    whole = np.bincount(row[found.x > 1 - 1e-9], minlength=len(price))
    return whole, float(-found.ineqlin.marginals[0])
