"""Reconciliation in closed form: by hand, by the library, and what must hold for any weights."""

from __future__ import annotations

import numpy as np
import pytest
from hierarchicalforecast.methods import MinTrace

from casebook.forecasting.weighted import weighted

#: Error covariance of the total, A and B, as on the page.
COVARIANCE = np.array([[15.0, 5.0, 5.0], [5.0, 16.0, 0.0], [5.0, 0.0, 9.0]])
BY_HAND = {
    "ols": (np.ones(3), (100 + 10 / 3, 60 - 10 / 3, 50 - 10 / 3)),
    "wls_struct": (np.array([2.0, 1, 1]), (105, 57.5, 47.5)),
    "wls": (np.diag(COVARIANCE), (103.75, 56, 47.75)),
    "mint": (COVARIANCE, (102.5, 54.5, 48)),
}


@pytest.mark.parametrize("way", BY_HAND)
def test_three_nodes_by_hand(way):
    covariance, by_hand = BY_HAND[way]
    S = np.array([[1.0, 1], [1, 0], [0, 1]])
    made = weighted(S, np.array([100.0, 60, 50]), covariance)
    np.testing.assert_allclose(made, by_hand)


@pytest.mark.parametrize("method", ["ols", "wls_struct"])
def test_the_closed_form_is_the_library_s(method):
    S = np.vstack([np.ones(6), np.kron(np.eye(2), np.ones(3)), np.eye(6)])
    base = np.random.default_rng(0).uniform(1, 9, (len(S), 4))
    fitted = MinTrace(method).fit(S=S, y_hat=base)
    weights = np.ones(len(S)) if method == "ols" else S.sum(axis=1)
    np.testing.assert_allclose(weighted(S, base, weights), S @ (fitted.P @ base), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_coherent_stays_and_what_comes_out_is_coherent(seed):
    rng = np.random.default_rng(seed)
    S = np.vstack([np.ones(6), np.kron(np.eye(2), np.ones(3)), np.eye(6)])
    root = rng.normal(size=(len(S), len(S)))
    coherent = S @ rng.uniform(1, 9, 6)
    made = weighted(S, coherent + rng.normal(size=len(S)), root @ root.T)
    np.testing.assert_allclose(made, S @ made[-6:])
    np.testing.assert_allclose(weighted(S, coherent, root @ root.T), coherent)
