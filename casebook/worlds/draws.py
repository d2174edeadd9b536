"""Random numbers of a world that is played under several policies: the same ones under each.

Every draw belongs to a seed, a month and a purpose, whatever was decided before; so two policies
differ by what they do and not by luck.

Examples
--------
>>> first, again = (stream(seed=7, month=2, which=1).random() for _ in range(2))
>>> first == again, first == stream(seed=7, month=3, which=1).random()
(True, False)
>>> float(expit(np.array(0.0)))
0.5
"""

from __future__ import annotations

import numpy as np


def stream(seed: int, month: int, which: int) -> np.random.Generator:
    """Return the random numbers of a month: the same for every policy."""
    return np.random.default_rng([seed, month + 100, which])


def expit(x: np.ndarray) -> np.ndarray:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))
