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

from dataclasses import dataclass

import numpy as np

from casebook.forecasting.newsvendor import cost

#: Cases of a line.
MOST = 60


@dataclass(frozen=True)
class Terms:
    """What binds the orders of places.

    Parameters
    ----------
    pack, price : ndarray, shape (cells,)
        Units of a case, and euro.
    budget : float
        Euro for each place; infinite without one.

    Raises
    ------
    ValueError
        On a pack that is no whole number above 0, or euro that are none.
    """

    pack: np.ndarray
    price: np.ndarray
    budget: float = np.inf

    def __post_init__(self) -> None:
        bad = ~((self.pack >= 1) & (self.pack % 1 == 0)) | ~((self.price > 0) & (self.price < 1e9))
        if bad.any():
            raise ValueError(f"{bad.sum()} cells, the first is {bad.argmax()}: a case has whole "
                             "units and a price, both above 0.")  # fmt: skip
        if not self.budget > 0:
            raise ValueError(f"a budget of {self.budget} euro: give more than 0, or none.")


def cases_of(
    demand: np.ndarray,
    there: np.ndarray,
    place: np.ndarray,
    terms: Terms,
    short: float,
    over: np.ndarray,
    most: int = MOST,
) -> tuple[np.ndarray, dict[int, float], np.ndarray]:
    """Return the cases that each place orders within its budget.

    Parameters
    ----------
    demand : ndarray, shape (cells, draws)
        What may be wanted of each cell; nothing is ordered where it is all 0.
    there, place : ndarray, shape (cells,)
        Units that are there, and whose cell it is.
    terms : Terms
    short, over
        As of :func:`worth_of_cases`.
    most : int
        Cases of a line.

    Returns
    -------
    tuple
        Cases, shape (cells,); by place what a euro more would be worth; which cells would have got
        more than ``most`` cases, shape (cells,).

    Raises
    ------
    ValueError
        On demand or stock that is no number.
    """
    bad = ~np.isfinite(demand).all(axis=1) | ~np.isfinite(there)
    if bad.any():
        raise ValueError(f"demand or stock of {bad.sum()} cells is no number.")
    cases, cut, worth = np.zeros(len(there), int), np.zeros(len(there), bool), {}
    for name in np.unique(place):
        own = np.flatnonzero((place == name) & (demand > 0).any(axis=1))
        if not len(own):
            continue
        gain = worth_of_cases(demand[own], there[own], terms.pack[own], short, over[own], most + 1)
        cut[own] = gain[:, most] > 1e-9
        found = within_budget(gain[:, :most], terms.price[own], terms.budget)
        cases[own], worth[int(name)] = found
    return cases, worth, cut


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
        The linear programme splits one case at most, which is left out; what is left of the budget
        buys the cases that it still pays, the one of the greatest worth a euro first.
    """
    from scipy.optimize import linprog

    good = np.maximum(worth, 0) > 1e-9
    every = good.sum(axis=1)
    if (every * price).sum() <= budget:
        return every, 0.0
    row, _ = np.nonzero(good)
    found = linprog(-worth[good], A_ub=price[row][None], b_ub=[budget], bounds=(0, 1))
    whole = np.bincount(row[found.x > 1 - 1e-9], minlength=len(price))
    left, rows = budget - (whole * price).sum(), np.arange(len(price))
    while True:
        more = (whole < every) & (price <= left + 1e-9)
        if not more.any():
            break
        gain = worth[rows, np.minimum(whole, worth.shape[1] - 1)] / price
        best = int(np.where(more, gain, -1.0).argmax())
        whole[best], left = whole[best] + 1, left - price[best]
    return whole, float(-found.ineqlin.marginals[0])
