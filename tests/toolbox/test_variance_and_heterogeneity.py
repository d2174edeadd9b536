"""CUPED, CUPAC, segments, shrinkage and the honest forest, on users whose effect is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.experiments import welch
from casebook.evaluate.heterogeneity import (
    HonestForest,
    by_rank,
    relative_to_usual,
    replicated,
    segment_effects,
    shrink,
    shrunk,
)
from casebook.evaluate.variance import cupac, cuped, features, predicted


def users(seed: int, n: int = 4_000, effect: float = 0.0, rho: float = 0.8) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    before = rng.normal(0, 1, n)
    treated = rng.random(n) < 0.5
    after = rho * before + np.sqrt(1 - rho**2) * rng.normal(0, 1, n) + effect * treated
    kind = np.where(rng.random(n) < 0.5, "a", "b")
    return pd.DataFrame({"before": before, "after": after, "treated": treated, "kind": kind})


def test_cuped_takes_away_the_share_that_the_past_explains_and_not_the_effect():
    effects, plain = [], []
    for seed in range(200):
        own = users(seed, 1_000, effect=0.3)
        made = cuped(own["after"], own["before"])
        t = own["treated"]
        effects.append(welch(made.values[~t], made.values[t]).effect)
        plain.append(own.loc[t, "after"].mean() - own.loc[~t, "after"].mean())
    assert np.mean(effects) == pytest.approx(0.3, abs=0.01)
    assert np.var(effects) / np.var(plain) == pytest.approx(1 - 0.8**2, abs=0.1)


def test_a_covariate_from_after_the_start_takes_the_effect_away():
    own = users(1, 20_000, effect=0.3)
    leaked = own["before"] + 1.0 * own["treated"]
    made = cuped(own["after"], leaked)
    t = own["treated"].to_numpy()
    assert welch(made.values[~t], made.values[t]).effect < -0.1


def test_slopes_within_the_arms_do_not_see_a_large_effect():
    own = users(2, 500, effect=5.0)
    within = cuped(own["after"], own["before"], own["treated"])
    assert within.theta[0] == pytest.approx(0.8, abs=0.08)
    assert within.explained == pytest.approx(0.64, abs=0.06)
    assert cuped(own["after"], own["before"]).explained < 0.2


@pytest.mark.parametrize("where", ["after", "before"])
def test_missing_values_are_refused(where):
    own = users(3, 50)
    own.loc[3, where] = np.nan
    with pytest.raises(ValueError, match="missing values"):
        cuped(own["after"], own["before"])


def test_a_users_own_value_is_not_in_the_model_that_predicts_it():
    own = users(4, 3_000)
    noise = np.random.default_rng(0).normal(size=3_000)
    table = pd.DataFrame({"id": np.random.default_rng(1).normal(size=3_000)})
    assert abs(np.corrcoef(predicted(table, noise), noise)[0, 1]) < 0.08
    score = predicted(features(own, ["before", "kind"]), own["after"])
    assert np.corrcoef(score, own["after"])[0, 1] > 0.75


def test_a_model_that_has_seen_the_user_claims_what_it_cannot_save():
    rng = np.random.default_rng(9)
    y, table = rng.normal(size=400), pd.DataFrame(rng.normal(size=(400, 5)))  # a past of noise
    claims = {folds: cuped(y, predicted(table, y, folds)).explained for folds in (2, 0)}
    assert claims[2] < 0.05
    assert claims[0] > 0.3


def test_cupac_sees_what_is_not_linear():
    rng = np.random.default_rng(5)
    own = pd.DataFrame({"x": rng.normal(0, 1, 4_000)})
    y = np.abs(own["x"]) * 3 + rng.normal(0, 1, 4_000)
    assert cuped(y, own["x"]).explained < 0.02
    assert cupac(own, y, ["x"]).explained > 0.6


# Heterogeneity ------------------------------------------------------------------------


def two_kinds(seed: int, n: int = 12_000):
    own = users(seed, n, rho=0.0)
    own["after"] += 2 + np.where(own["kind"] == "a", 0.6, 0.0) * own["treated"]
    return own, features(own, ["before", "kind"])


def test_segments_show_who_gains():
    own, _ = two_kinds(1)
    found = segment_effects(own, own["after"], own["treated"], ["kind"]).set_index("segment")
    assert found.loc["a", "relative"] == pytest.approx(0.3, abs=0.06)
    assert abs(found.loc["b", "relative"]) < 3 * found.loc["b", "se"]
    assert segment_effects(own, own["after"], own["treated"], ["kind"], least=10**6).empty


def test_an_adjusted_segment_is_measured_against_its_own_base():
    rng, found = np.random.default_rng(8), []
    new = rng.random(40_000) < 0.3
    treated = rng.random(40_000) < 0.5
    past = np.where(new, 1.0, 20.0) * rng.lognormal(0, 0.4, 40_000)  # newcomers have a short past
    after = np.where(new, 8.0, 20.0) + 0.9 * (past - np.where(new, 1.1, 21.7))
    after = after * (1 + 0.1 * treated) + rng.normal(0, 2, 40_000)
    table = pd.DataFrame({"who": np.where(new, "new", "old")})
    less = cuped(after, past, treated).values
    for adjusted in (None, less):
        frame = segment_effects(table, after, treated, ["who"], adjusted).set_index("segment")
        found.append(frame)
        assert frame["relative"].to_numpy() == pytest.approx([0.1, 0.1], abs=0.015)
        assert ((frame["low"] < frame["relative"]) & (frame["relative"] < frame["high"])).all()
    assert (found[1]["se"] < found[0]["se"]).all()
    # the fault: relative to the adjusted level of the segment, not to its own
    wrong = welch(less[new & ~treated], less[new & treated]).relative
    assert wrong < 0.07


class Dishonest(HonestForest):
    """A forest whose leaves are averaged over the users that chose the splits."""

    def _halves(self, half, rng):
        shape, _ = super()._halves(half, rng)
        return shape, shape


def claimed_spread(kind: type[HonestForest]) -> float:
    """Return how far apart a forest puts users whom the treatment changes alike."""
    spreads = []
    for seed in range(4):
        own = users(seed, 4_000, effect=0.2, rho=0.0)
        X = np.column_stack([own["before"], np.random.default_rng(seed).normal(size=(4_000, 4))])
        model = kind(groups=10, leaf=100, seed=seed).fit(X, own["after"], own["treated"])
        best = [
            values[tree.tree_.children_left < 0].max() - 0.2
            for bag in model._bags
            for tree, values in bag
        ]
        spreads.append(np.mean(best))
    return float(np.mean(spreads))


def test_an_honest_forest_claims_less_where_all_gain_alike_and_a_dishonest_one_is_caught():
    honest, caught = claimed_spread(HonestForest), claimed_spread(Dishonest)
    assert honest < 0.32
    assert caught > 0.45


def test_the_forest_finds_them_and_its_error_is_the_one_it_states():
    found = []
    for seed in range(10):
        own, X = two_kinds(seed, 6_000)
        model = HonestForest(seed=seed).fit(X, own["after"], own["treated"])
        found.append(model.average(X, (own["kind"] == "b").astype(int)))
    effects = np.array([one["effect"] for one in found])
    assert (effects[:, 0] - effects[:, 1] > 0.2).all()
    stated = np.mean([one["se"] for one in found])
    assert 0.4 < effects.std(axis=0, ddof=1).mean() / stated < 1.2
    gain, none = effects.mean(axis=0)
    assert none > 0.02
    assert gain < 0.58  # pulled to the mean: the intervals do not hold this
    one_by_one = model.predict(X.head(5))
    assert list(one_by_one) == ["effect", "se", "low", "high"]
    assert len(one_by_one) == 5


def test_held_out_groups_rise_where_effects_differ_and_do_not_where_none_does():
    own, X = two_kinds(3)
    ranked = by_rank(X, own["after"], own["treated"])
    assert ranked["effect"].iloc[-1] - ranked["effect"].iloc[0] > 0.4
    assert ranked["users"].tolist() == [3_000] * 4
    nothing = users(4, 12_000)
    flat = by_rank(features(nothing, ["before", "kind"]), nothing["after"], nothing["treated"])
    assert (flat["predicted"].diff().dropna() > 0).all()  # the forest claims an order …
    assert (flat["low"] < 0.1).all()  # … that other users do not confirm
    assert abs(flat["effect"].iloc[-1] - flat["effect"].iloc[0]) < 0.2


def test_over_the_usual_value_light_and_heavy_users_weigh_the_same():
    rng = np.random.default_rng(6)
    own = pd.DataFrame({"level": rng.lognormal(3, 1, 5_000)})
    values = own["level"] * rng.exponential(1, 5_000)
    ratio = relative_to_usual(own, values, ["level"])
    assert ratio.mean() == pytest.approx(1, abs=0.1)
    heavy = own["level"] > own["level"].median()
    assert ratio[heavy].std() == pytest.approx(ratio[~heavy].std(), rel=0.25)


def test_shrinkage_undoes_the_winners_curse():
    rng, claimed, kept, truth = np.random.default_rng(7), [], [], []
    for _ in range(300):
        true = rng.normal(0.01, 0.02, 30)
        seen = true + rng.normal(0, 0.03, 30)
        best = seen.argmax()
        claimed.append(seen[best])
        kept.append(shrink(seen, np.full(30, 0.03)).effect[best])
        truth.append(true[best])
    assert np.mean(claimed) > np.mean(truth) + 0.03
    assert np.mean(kept) == pytest.approx(np.mean(truth), abs=0.006)


def test_noise_alone_is_shrunk_to_its_mean_and_bad_input_is_refused():
    made = shrink([0.01, 0.011, 0.009, 0.0102], [0.05] * 4)
    assert made.sd == 0
    assert made.effect == pytest.approx(made.mean)
    with pytest.raises(ValueError, match="three effects"):
        shrink([0.1, 0.2], [0.1, 0.1])
    with pytest.raises(ValueError, match="above zero"):
        shrink([0.1, 0.2, 0.3], [0.1, 0.1, 0.0])


def test_the_best_segment_is_measured_again_on_other_users():
    first = pd.DataFrame(
        {"segment": ["a", "b", "c"], "relative": [0.0, 0.3, 0.1], "se": [0.1, 0.1, 0.1]}
    )
    again = first.assign(relative=[0.2, 0.05, 0.0])
    row = replicated(first, again).iloc[0]
    assert (row["segment"], row["claimed"], row["replicated"]) == ("b", 0.3, 0.05)
    assert row["shrunk"] < 0.3


def test_earlier_launches_pull_and_narrow():
    effect, se = shrunk(0.05, 0.02)
    assert 0.005 < effect < 0.05
    assert se < 0.02
