"""The same users split at random again and again: a thousand A/A experiments in a second.

A statistic that is made of sums over users needs their columns once and a matrix of labels.

Examples
--------
>>> values = np.arange(100.0)
>>> columns = np.column_stack([np.ones(100), values, values**2])
>>> z = z_of_means(*splits(columns, 2_000))
>>> bool(abs((np.abs(z) > 1.96).mean() - 0.05) < 0.02)
True
"""

from __future__ import annotations

import numpy as np


def z_of_means(control: np.ndarray, treatment: np.ndarray) -> np.ndarray:
    """Return z from sums of ones, values and squares, shape (runs, 3) each."""
    mean, error = [], []
    for n, total, square in (control.T, treatment.T):
        mean.append(total / n)
        error.append((square / n - (total / n) ** 2) / (n - 1))
    return (mean[1] - mean[0]) / np.sqrt(error[0] + error[1])


def z_of_ratios(control: np.ndarray, treatment: np.ndarray) -> np.ndarray:
    """Return z from sums of ones, tops, bottoms and their squares and products, shape (runs, 6)."""
    value, error = [], []
    for n, a, b, aa, bb, ab in (control.T, treatment.T):
        r = a / b
        value.append(r)
        error.append((aa - 2 * r * ab + r**2 * bb) / n / (b / n) ** 2 / n)
    return (value[1] - value[0]) / np.sqrt(error[0] + error[1])


def splits(columns: np.ndarray, runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return sums over both halves of the users, split at random ``runs`` times."""
    rng, whole, parts = np.random.default_rng(seed), columns.sum(axis=0), []
    for start in range(0, runs, 250):
        labels = rng.integers(0, 2, (min(250, runs - start), len(columns)), dtype=np.int8)
        parts.append(labels.astype(float) @ columns)
    treated = np.concatenate(parts)
    return whole - treated, treated
