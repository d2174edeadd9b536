"""How many units a test of two shares needs.

Examples
--------
A share of 5 % that falls to 4 %, with customers who order more than once:

>>> needed_in_each_arm(0.05, -0.01), needed_in_each_arm(0.05, -0.01, design=1.3)
(6745, 8769)

To show that a share of 4.37 % is not above that of the control by a point or more:

>>> needed_for_no_worse(0.0437, 0.01)
5168
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def needed_in_each_arm(
    base: float, change: float, power: float = 0.8, level: float = 0.05, design: float = 1.0
) -> int:
    """Return the units in each arm with which a two-sided test of two shares finds a change.

    Parameters
    ----------
    base, change : float
        The share in the control arm, and the absolute change that is to be found.
    power, level : float
        Chance to find it; chance of an alarm without any change.
    design : float
        Factor for units that are not independent (parcels of one customer): one plus the mean
        number of other units of its cluster times their correlation.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If a share is not between 0 and 1, or nothing changes.
    """
    other = base + change
    if not (0 < base < 1 and 0 < other < 1) or change == 0:
        raise ValueError(f"shares {base} and {other}: both lie between 0 and 1, and differ.")
    z = stats.norm.isf(level / 2), stats.norm.ppf(power)
    middle = (base + other) / 2
    spread = z[0] * np.sqrt(2 * middle * (1 - middle))
    spread += z[1] * np.sqrt(base * (1 - base) + other * (1 - other))
    return int(np.ceil(design * (spread / change) ** 2))


def needed_for_no_worse(
    base: float, margin: float, power: float = 0.8, level: float = 0.05, design: float = 1.0
) -> int:
    """Return the units in each arm that show one share to exceed another by less than a margin.

    One-sided, where the two are equal in truth.

    Parameters
    ----------
    base, margin : float
        The share in both arms, and the excess that is to be ruled out.
    power, level, design : float
        See :func:`needed_in_each_arm`.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1, or the margin not above zero.
    """
    if not 0 < base < 1 or margin <= 0:
        raise ValueError(f"share {base}, margin {margin}: give one between 0 and 1, one above 0.")
    z = stats.norm.isf(level) + stats.norm.ppf(power)
    return int(np.ceil(design * 2 * base * (1 - base) * (z / margin) ** 2))
