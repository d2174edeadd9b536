"""The toolbox of hierarchies: summing matrix, sums, incoherence and the reconciliations."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from casebook.forecasting import hierarchy as module
from casebook.forecasting.hierarchy import (
    aggregate,
    bottom_up,
    from_columns,
    from_ids,
    historical_proportions,
    incoherence,
    mint,
    mint_shrink,
    non_negative,
    reconcile,
    shrunk_correlation,
    summing_matrix,
    top_down,
)

LEVELS = ("country", "depot", "route")
IDS = [f"{c}/{c}{d}/r{r}" for c in "AB" for d in range(3) for r in range(4)]


@pytest.fixture(scope="module")
def tree():
    return from_ids(IDS, LEVELS)


@pytest.fixture(scope="module")
def panel() -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=30)
    frame = pd.MultiIndex.from_product([IDS, days], names=["unique_id", "ds"]).to_frame(index=False)
    return frame.assign(y=np.random.default_rng(0).poisson(5, len(frame)).astype(float))


def errors_of(n_nodes: int, periods: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(periods, n_nodes)) @ rng.normal(size=(n_nodes, n_nodes)) / n_nodes


@pytest.fixture
def base(tree) -> np.ndarray:
    """Return base forecasts that do not add up, shape (nodes, 5)."""
    return 100 + 10 * np.random.default_rng(1).normal(size=(len(tree.nodes), 5))


# Levels and sums ---------------------------------------------------------------------


def test_the_summing_matrix_of_three_nodes_by_hand():
    tree = from_ids(["a", "b"], ["series"])
    S = summing_matrix(tree)
    assert S.index.tolist() == ["total", "a", "b"]
    assert S.columns.tolist() == ["a", "b"]
    assert S.to_numpy().tolist() == [[1, 1], [1, 0], [0, 1]]


def test_ids_make_a_nested_hierarchy(tree):
    assert {level: len(nodes) for level, nodes in tree.tags.items()} == {
        "total": 1,
        "country": 2,
        "depot": 6,
        "route": 24,
    }
    assert tree.level_of["A/A1"] == "depot"
    assert tree.S.shape == (33, 24)
    assert (tree.S.sum(axis=1) == [24] + [12] * 2 + [4] * 6 + [1] * 24).all()


def test_columns_make_crossed_levels():
    series = pd.DataFrame(
        {"unique_id": ["x/b", "x/h", "y/b"], "place": ["x", "x", "y"], "purpose": ["b", "h", "b"]}
    )
    crossed = from_columns(series, {"total": [], "place": ["place"], "purpose": ["purpose"]})
    assert crossed.nodes.tolist() == ["total", "x", "y", "b", "h", "x/b", "x/h", "y/b"]
    assert crossed.S[:5].tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_hierarchies_that_are_none_are_refused():
    with pytest.raises(ValueError, match="does not have 2 parts"):
        from_ids(["a/b", "c"], ["one", "two"])
    two = pd.DataFrame({"unique_id": ["s", "s"], "state": ["x", "y"]})
    with pytest.raises(ValueError, match="two nodes of one level"):
        from_columns(two, {"total": [], "state": ["state"]})
    same = pd.DataFrame({"unique_id": ["s", "t"], "state": ["x", "x"], "region": ["x", "z"]})
    with pytest.raises(ValueError, match="'x' names nodes of two levels"):
        from_columns(same, {"state": ["state"], "region": ["region"]})


@pytest.mark.parametrize("empty", [None, np.nan])
def test_an_empty_cell_is_no_node(empty):
    series = pd.DataFrame({"unique_id": ["s", "t"], "state": ["x", empty]})
    with pytest.raises(ValueError, match=r"a value is missing in .*'t'.*: an empty cell names no"):
        from_columns(series, {"total": [], "state": ["state"]})
    with pytest.raises(ValueError, match=r"an id is (None|nan), not text: name the series"):
        from_ids(["a/b", empty], ["one", "two"])


@pytest.mark.parametrize("seed", [0, 1])
def test_aggregation_equals_sums_in_any_order_of_rows(tree, panel, seed):
    sums = aggregate(panel.sample(frac=1, random_state=seed), tree)
    wide = sums.pivot(index="ds", columns="unique_id", values="y")[tree.nodes]
    bottom = panel.pivot(index="ds", columns="unique_id", values="y")[tree.bottom]
    np.testing.assert_allclose(wide.to_numpy(), bottom.to_numpy() @ tree.S.T)
    assert sums["level"].unique().tolist() == list(tree.tags)


def test_aggregation_and_summing_matrix_agree_with_hierarchicalforecast(tree, panel):
    from hierarchicalforecast.utils import aggregate as peer

    parts = panel["unique_id"].str.split("/", expand=True).set_axis(LEVELS, axis=1)
    spec = [["country"], ["country", "depot"], ["country", "depot", "route"]]
    sums, S, tags = peer(pd.concat([panel[["ds", "y"]], parts], axis=1), spec)
    S = S.set_index("unique_id")
    assert [len(nodes) for nodes in tags.values()] == [2, 6, 24]
    np.testing.assert_array_equal(S.to_numpy(), summing_matrix(tree).loc[S.index, S.columns])
    ours = aggregate(panel, tree).set_index(["unique_id", "ds"])["y"]
    theirs = sums.set_index(["unique_id", "ds"])["y"]
    np.testing.assert_allclose(ours.loc[theirs.index], theirs)


def test_a_closed_route_counts_as_nothing(tree, panel):
    day = panel["ds"].max()
    rest = panel[(panel["ds"] < day) | (panel["unique_id"] != IDS[0])]
    sums = aggregate(rest, tree).set_index(["unique_id", "ds"])["y"]
    assert (IDS[0], day) not in sums.index
    assert sums["total", day] == rest.loc[rest["ds"] == day, "y"].sum()


def test_panels_that_would_be_summed_wrongly_are_refused(tree, panel):
    with pytest.raises(ValueError, match="repeat a series and time"):
        aggregate(pd.concat([panel, panel.head(1)]), tree)
    with pytest.raises(ValueError, match="does not know 1 series"):
        aggregate(panel.replace({"unique_id": {IDS[0]: "C/C0/r0"}}), tree)
    with pytest.raises(ValueError, match="1 values"):
        aggregate(panel.assign(y=panel["y"].where(panel.index > 0)), tree)


# Reconciliation ----------------------------------------------------------------------


def test_incoherence_is_the_largest_difference_to_the_sum():
    S = np.array([[1, 1], [1, 0], [0, 1.0]])
    assert incoherence(np.array([5.0, 2, 3]), S) == 0
    assert incoherence(np.array([4.5, 2, 3]), S) == 0.5
    assert incoherence(np.array([[5.0, 7], [2, 3], [3, 3]]), S) == 1


def all_methods(tree, base: np.ndarray, errors: np.ndarray) -> dict[str, np.ndarray]:
    shares = historical_proportions(np.arange(1.0, len(tree.bottom) + 1)[None, :])
    return {
        "bottom up": bottom_up(tree.S, base),
        "top down, historical": top_down(tree.S, base, shares),
        "top down, forecast": top_down(tree.S, base),
        "wls": mint(tree.S, base, errors, correlated=False)[0],
        "mint": mint(tree.S, base, errors)[0],
    }


def test_every_method_makes_incoherent_forecasts_coherent(tree, base):
    assert incoherence(base, tree.S) > 100
    for name, coherent in all_methods(tree, base, errors_of(33, 50)).items():
        assert incoherence(coherent, tree.S) < 1e-9, name
        assert np.abs(coherent - base).max() > 0.1, name


@pytest.mark.parametrize("method", ["bottom up", "top down, forecast", "wls", "mint"])
def test_forecasts_that_add_up_already_stay_as_they_are(tree, base, method):
    coherent = bottom_up(tree.S, base)
    again = all_methods(tree, coherent, errors_of(33, 50))[method]
    np.testing.assert_allclose(again, coherent, rtol=1e-9)


@pytest.mark.parametrize("correlated", [True, False])
def test_mint_is_unbiased(tree, correlated):
    """S G S = S: what MinT makes of the columns of S is S."""
    again, note = mint(tree.S, tree.S, errors_of(33, 40), correlated)
    np.testing.assert_allclose(again, tree.S, atol=1e-9)
    assert note == ""


@pytest.mark.parametrize("periods", [20, 60, 400])
def test_mint_in_numpy_equals_the_library(tree, base, periods):
    errors = errors_of(33, periods, seed=periods) * np.sqrt(tree.S.sum(axis=1))
    ours, note = mint(tree.S, base, errors)
    np.testing.assert_allclose(ours, mint_shrink(tree.S, base, errors), rtol=0, atol=1e-6)
    assert note == ""


def test_mint_of_three_nodes_with_equal_variances_by_hand():
    """Ordinary least squares: the misfit of 3 is shared out in equal parts."""
    S = np.array([[1, 1], [1, 0], [0, 1.0]])
    errors = np.random.default_rng(0).normal(size=(50, 3))
    errors = errors / errors.std(axis=0)
    coherent, _ = mint(S, np.array([13.0, 6, 4]), errors, correlated=False)
    np.testing.assert_allclose(coherent, [12, 7, 5])


def test_more_is_believed_of_a_node_with_smaller_errors():
    S = np.array([[1, 1], [1, 0], [0, 1.0]])
    errors = np.random.default_rng(0).normal(size=(200, 3)) * [0.1, 5, 5]
    coherent, _ = mint(S, np.array([13.0, 6, 4]), errors)
    assert abs(coherent[0] - 13) < 0.1


def test_the_shrinkage_lies_between_no_and_full_and_falls_with_the_periods():
    few, many = (shrunk_correlation(errors_of(12, n, seed=3))[2] for n in (12, 2000))
    assert 0 < many < few < 1


def test_a_constant_series_and_one_that_opens_late_are_reconciled(tree, base):
    errors = errors_of(33, 60)
    errors[:, -1] = 0.0  # constant and always forecast right
    errors[:58, -2] = np.nan  # two errors
    errors[:, -3] = np.nan  # none
    with pytest.warns(RuntimeWarning, match="2 nodes with fewer than three errors"):
        coherent, note = mint(tree.S, base, errors)
    assert "2 nodes" in note
    assert np.isfinite(coherent).all()
    assert incoherence(coherent, tree.S) < 1e-6
    np.testing.assert_allclose(coherent[-1], base[-1], rtol=1e-4)  # it is never wrong


def test_a_degenerate_covariance_gets_a_ridge_and_says_so(tree, base):
    signs = np.where(np.arange(64) % 2, 1.0, -1.0)
    errors = np.tile(signs[:, None], (1, 3))  # correlation one, and no doubt about it
    S, few = np.array([[1, 1], [1, 0], [0, 1.0]]), np.array([13.0, 6, 4])
    with pytest.warns(RuntimeWarning, match="ridge of 1e-06"):
        coherent, note = mint(S, few, errors)
    assert "not positive definite" in note
    assert incoherence(coherent, S) < 1e-6


@pytest.mark.parametrize("case", ["indefinite", "too few periods"])
def test_a_hopeless_covariance_falls_back_to_weights_by_variance_and_says_so(
    tree, base, case, monkeypatch
):
    errors = errors_of(33, 40 if case == "indefinite" else 9)
    if case == "indefinite":
        estimate = shrunk_correlation(errors)
        broken = np.full((33, 33), 2.0) - np.eye(33)
        monkeypatch.setattr(module, "shrunk_correlation", lambda _: (estimate[0], broken, 0.0))
    with pytest.warns(RuntimeWarning, match="fell back to weights by variance"):
        coherent, note = mint(tree.S, base, errors)
    assert "WLS" in note
    np.testing.assert_allclose(coherent, mint(tree.S, base, errors, correlated=False)[0])


def test_mint_refuses_what_it_cannot_weigh(tree, base):
    with pytest.raises(ValueError, match="one order for all"):
        mint(tree.S, base[1:], errors_of(33, 20))
    with pytest.raises(ValueError, match="1 base forecasts are missing"):
        mint(tree.S, np.where(np.arange(165).reshape(33, 5) == 7, np.nan, base), errors_of(33, 20))
    with pytest.raises(ValueError, match="no variance"):
        mint(tree.S, base, np.full((20, 33), np.nan))


def test_forecast_proportions_by_hand():
    tree = from_ids(["A/1", "A/2", "B/1"], ["country", "route"])
    assert tree.nodes.tolist() == ["total", "A", "B", "A/1", "A/2", "B/1"]
    coherent = top_down(tree.S, np.array([100.0, 30, 20, 2, 1, 7]))
    np.testing.assert_allclose(coherent, [100, 60, 40, 40, 20, 40])
    nothing = top_down(tree.S, np.array([100.0, 30, 20, 0, 0, 7]))
    np.testing.assert_allclose(nothing, [100, 60, 40, 30, 30, 40])


def test_forecast_proportions_agree_with_hierarchicalforecast(tree, base):
    from hierarchicalforecast.methods import TopDown

    place = {node: k for k, node in enumerate(tree.nodes)}
    tags = {level: np.array([place[n] for n in nodes]) for level, nodes in tree.tags.items()}
    peer = TopDown("forecast_proportions").fit_predict(S=tree.S, y_hat=base, tags=tags)["mean"]
    np.testing.assert_allclose(top_down(tree.S, base), peer)


def test_historical_proportions_are_those_of_the_averages():
    history = np.array([[1.0, np.nan, 2], [3, 4, 2]])
    np.testing.assert_allclose(historical_proportions(history), [0.25, 0.5, 0.25])
    with pytest.raises(ValueError, match="nested"):
        S = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        top_down(S, np.ones(6))


def test_clipping_keeps_the_sums_right():
    S = np.array([[1, 1], [1, 0], [0, 1.0]])
    assert non_negative(S, np.array([3.0, 5, -2])).tolist() == [5, 5, 0]


# Frames ------------------------------------------------------------------------------


def base_frame(tree, panel: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return base forecasts of five days, the first route closed on the last two, and errors."""
    days = panel["ds"].unique()[-5:]
    rows = panel[panel["ds"].isin(days)]
    rows = rows[~((rows["unique_id"] == IDS[0]) & (rows["ds"] >= days[3]))]
    frame = aggregate(rows, tree)
    noise = np.random.default_rng(2).normal(size=len(frame))
    errors = pd.DataFrame(errors_of(33, 40), columns=tree.nodes).drop(columns=IDS[1])
    return frame.assign(base=frame["y"] + 1 + noise), errors


@pytest.mark.parametrize("method", ["bottom_up", "top_down", "wls", "mint"])
def test_a_frame_is_reconciled_row_by_row_in_any_order(tree, panel, method):
    frame, errors = base_frame(tree, panel)
    frame["out"], note = reconcile(frame, tree, method, "base", errors)
    assert frame["out"].notna().all()
    assert (frame["out"] >= 0).all()
    bottom = frame[frame["level"] == "route"]
    sums = aggregate(bottom, tree, ["out"]).set_index(["unique_id", "ds"])["out"]
    out = frame.set_index(["unique_id", "ds"])["out"]
    np.testing.assert_allclose(out, sums.loc[out.index], atol=1e-9)
    assert ("fewer than three errors" in note) == (method in ("wls", "mint"))
    mixed = frame.sample(frac=1, random_state=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the note is returned, once
        again = reconcile(mixed, tree, method, "base", errors)[0]
    np.testing.assert_allclose(again, mixed["out"])


def test_a_node_without_a_forecast_is_named(tree, panel):
    frame, errors = base_frame(tree, panel)
    with pytest.raises(ValueError, match="'A' has no base"):
        reconcile(frame[frame["unique_id"] != "A"], tree, "mint", "base", errors)
    with pytest.raises(ValueError, match="no method 'erm'"):
        reconcile(frame, tree, "erm", "base")
    with pytest.raises(ValueError, match="the hierarchy has no node 'C': take it out"):
        reconcile(frame.replace({"unique_id": {"A": "C"}}), tree, "bottom_up", "base")
    with pytest.raises(ValueError, match="1 rows of base repeat a node and day"):
        reconcile(pd.concat([frame, frame.head(1)]), tree, "bottom_up", "base")


@pytest.mark.parametrize("method", ["wls", "mint"])
def test_weights_need_residuals(tree, panel, method):
    with pytest.raises(ValueError, match=f"{method} weighs by errors .*: give residuals"):
        reconcile(base_frame(tree, panel)[0], tree, method, "base")
