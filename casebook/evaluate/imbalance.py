r"""What resampling does to a probability, and how to take it back.

If each genuine row counts ``keep`` times as much beside a fraud as it did, Bayes' rule multiplies
the odds by ``1 / keep``; so :math:`p = \mathrm{keep}\, s / (\mathrm{keep}\, s + 1 - s)` brings a
score ``s`` back (Dal Pozzolo et al. 2015). Synthetic frauds (SMOTE) are more than another ratio,
and are not undone by it.

Examples
--------
30 frauds among 970 genuine rows, of which a tenth is kept:

>>> round(float(repair_probability(np.array(30 / (30 + 97)), 0.1)), 6)
0.03

References
----------
Dal Pozzolo, Caelen, Johnson & Bontempi (2015), *Calibrating Probability with Undersampling for
Unbalanced Classification*, IEEE Symposium Series on Computational Intelligence.
Chawla, Bowyer, Hall & Kegelmeyer (2002), *SMOTE: Synthetic Minority Over-sampling Technique*,
Journal of Artificial Intelligence Research 16.
"""

from __future__ import annotations

import numpy as np


def repair_probability(p: np.ndarray, keep: float) -> np.ndarray:
    r"""Bring probabilities back that were learned with genuine rows thinned out.

    With each genuine row kept with probability ``keep`` a model learns
    :math:`s = p / (p + \mathrm{keep} (1 - p))`. Solved for p, that is
    :math:`p = \mathrm{keep}\, s / (\mathrm{keep}\, s + 1 - s)`. A weight ``w`` on frauds is
    ``keep = 1 / w``.

    Parameters
    ----------
    p : ndarray of float, shape (n,)
        Probabilities after the change.
    keep : float
        Ratio of genuine rows to frauds after the change, over that before it.

    Returns
    -------
    ndarray, shape (n,)
        In the same order of rank.

    Raises
    ------
    ValueError
        When ``keep`` is not positive or a probability leaves 0 to 1.

    Examples
    --------
    >>> float(repair_probability(0.5, keep=0.01).round(4))
    0.0099
    """
    p = np.asarray(p, float)
    if not keep > 0:
        raise ValueError(f"keep is {keep}: a positive ratio is due")
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError("probabilities must lie between 0 and 1")
    return keep * p / (keep * p + 1 - p)
