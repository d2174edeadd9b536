"""Ensembles: a weighted mean of forecasts, with weights from a validation.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=14)
>>> rows = pd.DataFrame({"unique_id": "a", "ds": days, "y": 10.0, "one": 9.0, "two": 13.0})
>>> learn_weights(rows, ["one", "two"]).round(2).to_dict()
{'one': 0.75, 'two': 0.25}
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def learn_weights(validation: pd.DataFrame, models: list[str]) -> pd.Series:
    """Learn ensemble weights on validation origins: non-negative, summing to one, least error.

    Parameters
    ----------
    validation : DataFrame
        ``y`` and one column for each model, of origins before the test origins.
    models : list of str

    Returns
    -------
    Series
        Weight of each model; minimises the sum of absolute errors over the actuals (a linear
        program).
    """
    from scipy.optimize import linprog

    # One row for each series and week keeps the program small.
    rows = validation.dropna(subset=models)
    week = (rows["ds"] - rows["ds"].min()).dt.days // 7
    sums = rows[["y", *models]].groupby([rows["unique_id"], week]).sum()
    x, y, n, k = sums[models].to_numpy(), sums["y"].to_numpy(), len(sums), len(models)
    solution = linprog(
        c=np.r_[np.zeros(k), np.ones(2 * n)],
        A_eq=np.block([[x, np.eye(n), -np.eye(n)], [np.ones((1, k)), np.zeros((1, 2 * n))]]),
        b_eq=np.r_[y, 1.0],
        method="highs",
    )
    return pd.Series(solution.x[:k], index=models)


def combine(forecasts: pd.DataFrame, weights: pd.Series) -> np.ndarray:
    """Return the weighted mean of forecasts.

    Parameters
    ----------
    forecasts : DataFrame
        One column for each model.
    weights : Series
        By model, summing to one.

    Returns
    -------
    ndarray, shape (len(forecasts),)
    """
    return forecasts[weights.index].to_numpy() @ weights.to_numpy()
