"""Cost within a budget of friction: the other worlds choose the point, no world is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.frontier import at_budget, differences


def worlds(seeds=range(20), gap=5.0, noise=40.0) -> pd.DataFrame:
    """Two families on one line, three limits each; ours costs ``gap`` less at equal friction."""
    rng, rows = np.random.default_rng(1), []
    for seed in seeds:
        level = rng.normal(0, noise)
        for family, own in (("ours", -gap), ("theirs", 0.0)):
            for limit in (0.003, 0.009, 0.03):
                met = limit * rng.uniform(0.97, 1.03)
                cost = 200 - 3000 * met + level + own
                rows.append((seed, family, f"{family} {limit}", met, cost))
    return pd.DataFrame(rows, columns=["seed", "family", "policy", "friction", "cost"])


def test_a_constant_advantage_is_found_and_every_world_counts():
    found = differences(worlds(), "ours", 0.01, ["theirs"]).loc["theirs"]
    assert found["difference"] == pytest.approx(-5, abs=0.5) and found["worlds"] == 20
    assert found["low"] < found["difference"] < found["high"] < 0
    assert found["friction"] == pytest.approx(0.009, rel=0.02)


def test_a_family_that_stops_little_is_not_forced_to_its_limit():
    """The peer's loosest point costs more than its strictest: at most means at most."""
    table = worlds()
    forced = table["policy"].eq("theirs 0.009")
    table.loc[forced, "cost"] += 500
    chosen = at_budget(table, 0.01)
    assert set(chosen["policy"]) == {"ours 0.009", "theirs 0.003"}


def test_no_world_chooses_for_itself():
    """Costs are noise alone: who chose in each world its luckiest point would look cheaper."""
    rng, rows = np.random.default_rng(2), []
    for seed in range(40):
        for point in range(6):
            rows.append((seed, "many", f"many {point}", 0.001 * point, rng.normal(100, 10)))
        rows.append((seed, "one", "one", 0.001, rng.normal(100, 10)))
    table = pd.DataFrame(rows, columns=["seed", "family", "policy", "friction", "cost"])
    fair = differences(table, "many", 0.01, ["one"]).loc["one"]
    assert fair["low"] < 0 < fair["high"]
    lucky = table[table["family"] == "many"].groupby("seed")["cost"].min()
    assert lucky.mean() < 90  # planted: what a choice by the world itself would say


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="cost"), "cost"),
        (lambda t: t.assign(cost=np.nan), "not finite"),
        (lambda t: t.iloc[1:], "needs every point in each"),
        (lambda t: t[t["seed"] == 0], "two or more worlds"),
        (lambda t: t[~t["policy"].str.endswith("0.003")], "no point of 'ours' keeps"),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        at_budget(change(worlds(range(3))), 0.005)


def test_a_family_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no family .*nobody"):
        differences(worlds(range(2)), "ours", 0.01, ["nobody"])
