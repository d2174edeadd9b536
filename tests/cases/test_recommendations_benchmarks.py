"""Case 09: what is recorded agrees with a reduced live run, and with the code of today."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from casebook.cases.recommendations import benchmarks, ladder, movielens, rankers, studies
from casebook.cases.recommendations.studies import SEEDS
from casebook.cases.recommendations.world import CHAPTER
from casebook.data import RealDataUnavailable
from casebook.evaluate.intervals import mean_interval
from casebook.recorded import bench
from casebook.recorded.artifacts import artifact

#: What names a row of each table.
KEYS = {
    "ladder": ["seed", "rung"],
    "rules": ["seed", "rule"],
    "sources": ["seed", "source"],
    "split": ["seed", "method", "split"],
    "judged": ["seed", "candidate", "judge"],
    "cold_users": ["seed", "way", "seen"],
    "cold_items": ["seed", "way"],
    "fairness": ["seed", "weight"],
    "trials": ["seed", "method", "settings"],
    "sensitivity": ["seed", "constant", "at", "rung"],
    "real_movielens": ["split", "model"],
}
SOME = ("shown", "popular", "analyst", "EASE", "logistic")


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CHAPTER, name).frame


def means(name: str, value: str = "clicks") -> pd.DataFrame:
    """Return a value by world and row of a recorded table."""
    return recorded(name).pivot(index="seed", columns=KEYS[name][1], values=value)


@pytest.mark.parametrize("name", sorted(benchmarks.BENCHMARKS))
def test_no_table_is_stale(name):
    assert not bench.stale(CHAPTER, name)


# A reduced live run ----------------------------------------------------------------------


def assert_agrees(live: pd.DataFrame, name: str, stored: pd.DataFrame) -> None:
    """Each row that was made here is as it is recorded."""
    keys = KEYS[name]
    wanted = live[keys].merge(stored, on=keys, how="left", validate="1:1")
    pd.testing.assert_frame_equal(
        live.reset_index(drop=True)[[*stored]], wanted[[*stored]], rtol=1e-3, check_dtype=False
    )


def one_trial() -> pd.DataFrame:
    return studies.trials(studies.CHOSEN_ON[:1], ("item-item",))


#: Those that share a world, which the studies keep, stand together.
REDUCED = {
    "ladder": lambda: benchmarks.ladder(SEEDS[:1], SOME),
    "cold_users": lambda: benchmarks.cold_users(SEEDS[:1]),
    "cold_items": lambda: benchmarks.cold_items(SEEDS[:1]),
    "fairness": lambda: benchmarks.fairness(SEEDS[:1]),
    "split": lambda: studies.split_of(SEEDS[0], ("item-item",)).assign(seed=SEEDS[0]),
    "sources": lambda: benchmarks.sources(SEEDS[:1]),
    "rules": lambda: studies.rules_of(SEEDS[0], ("sold-out items too", "all")).assign(
        seed=SEEDS[0]
    ),
    "judged": lambda: benchmarks.judged(SEEDS[:1], ("popular",)),
    "trials": one_trial,
    "sensitivity": lambda: benchmarks.sensitivity(SEEDS[:1], {"need": (0.0,)}, ("EASE",)),
}


@pytest.mark.parametrize("name", REDUCED)
def test_a_reduced_run_agrees_with_the_record(name):
    assert_agrees(REDUCED[name](), name, recorded(name))


def test_films_are_as_they_are_recorded():
    try:
        live = movielens.real_movielens(("popularity", "EASE"), draws=1)
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    stored = recorded("real_movielens").set_index(["split", "model"])
    live = live[live["split"] == "by time"].set_index(["split", "model"])
    for metric in ("recall", "ndcg", "recall_low", "ndcg_high"):
        wanted = stored.loc[live.index, metric]
        assert live[metric].to_numpy() == pytest.approx(wanted.to_numpy(), rel=1e-3)


def test_a_wrong_number_in_the_record_is_found():
    table = recorded("rules")
    live = table.head(3)
    assert_agrees(live, "rules", table)
    for wrong in (table.assign(clicks=table["clicks"] + 0.01), table.iloc[1:]):
        with pytest.raises(AssertionError):
            assert_agrees(live, "rules", wrong)


def test_indices_hold_what_was_computed_and_a_small_run_too():
    table = recorded("ann")
    live = benchmarks.ann(3_000, benchmarks.INDICES[:2], queries=30)
    for frame in (table, live):
        assert frame["bytes"].to_numpy() == pytest.approx(frame["computed"].to_numpy(), rel=0.01)
    best = table.set_index("index")["recall"]
    assert best[best.index.str.startswith("HNSW")].max() >= 0.95


# What was chosen, and what the page says --------------------------------------------------


def test_the_settings_did_best_of_nine():
    table = recorded("trials")
    assert (table.groupby(["method", "seed"])["settings"].nunique() == 9).all()
    chosen = {**ladder.CHOSEN, **rankers.CHOSEN}
    assert studies.best_of(table) == {name: dict(own) for name, own in chosen.items()}
    every = {(row.method, row.settings) for row in table.itertuples()}
    grids = {**ladder.TRIALS, **rankers.TRIALS}
    assert every == {(name, json.dumps(s)) for name, grid in grids.items() for s in grid}


#: Values that have no other side: a tree of one question, random lists that count as all others.
ENDS = {"num_leaves": 2, "random": 1.0}


def steep_edges(table: pd.DataFrame, flat: float = 0.005) -> list[tuple[str, str]]:
    """Return the best settings at an edge of their grid where the step to the edge still gains."""
    found, mean = [], table.groupby(["method", "settings"])["clicks"].mean()
    for method, best in studies.best_of(table).items():
        own = [(json.loads(text), clicks) for text, clicks in mean[method].items()]
        top = max(clicks for _, clicks in own)
        for name, value in best.items():
            others = [one for one in own if {**one[0], name: value} == best and one[0] != best]
            values = {one[0][name] for one in own}
            if value not in (min(values), max(values)) or ENDS.get(name) == value or not others:
                continue
            near = min(others, key=lambda one: abs(one[0][name] - value))
            if top - near[1] >= flat:
                found.append((method, name))
    return found


def test_no_best_setting_lies_at_an_edge_where_more_would_gain():
    table = recorded("trials")
    assert steep_edges(table) == []
    # Planted: the most trees are better by far than half of them, and the second least pay.
    many = table["settings"].str.contains('"n_estimators": 1200') & (table["method"] == "trees")
    steep = table.assign(clicks=table["clicks"] + 0.01 * many)
    assert steep_edges(steep) == [("trees", "n_estimators")]
    inner = table["settings"].eq(json.dumps({"shrinkage": 30.0, "page": 300.0}))
    assert steep_edges(table.assign(clicks=table["clicks"] + 0.1 * inner)) == []


def test_networks_share_their_worlds_with_the_ladder():
    """What needs no network is as the ladder has it: same worlds, requests, lists and ranker."""
    made = artifact(CHAPTER, "networks.csv").pivot(index="seed", columns="rung", values="clicks")
    clicks = means("ladder").loc[made.index]
    for rung, near in (("EASE", 1e-4), ("logistic", 3e-3)):
        assert made[rung].to_numpy() == pytest.approx(clicks[rung].to_numpy(), rel=near), rung
    assert not np.allclose(made["EASE"].iloc[::-1], clicks["EASE"], rtol=1e-3)


def test_an_index_of_codes_reaches_the_guardrail_and_its_vectors_count():
    table = recorded("ann").set_index("index")
    codes = table[table.index.str.startswith("IVF-PQ")]
    assert codes["recall"].max() > 0.95 > codes.loc[codes["beside"] == 0, "recall"].max()
    flat = table.loc["flat"]
    again = codes.index.str.contains("rescored")
    assert (codes.loc[again, "beside"] == 4 * 128 * flat["n"]).all()
    assert (codes.loc[~again, "beside"] == 0).all() and (codes["bytes"] < flat["bytes"] / 8).all()


def assert_ladder(clicks: pd.DataFrame, logged: pd.DataFrame) -> None:
    """The truth orders the rungs, and what was logged orders them otherwise."""
    assert len(clicks) >= 15
    for low, high in (
        *(("popular", "analyst"), ("EASE", "analyst"), ("analyst", "trees")),
        *(("analyst", "pointwise"), ("analyst", "logistic"), ("logistic", "oracle")),
    ):
        assert mean_interval(clicks[high] - clicks[low]).low > 0, (low, high)
    rungs = ["popular", "analyst", "item-item", "iALS", "EASE", "trees", "pointwise", "logistic"]
    assert (logged[rungs].idxmax(axis=1) != clicks[rungs].idxmax(axis=1)).mean() > 0.9


def test_the_ladder_holds_in_the_recorded_worlds_and_would_not_in_others():
    clicks, logged = means("ladder"), means("ladder", "logged_recall")
    assert_ladder(clicks, logged)
    for wrong in (clicks.iloc[:9], clicks.rename(columns={"analyst": "EASE", "EASE": "analyst"})):
        with pytest.raises(AssertionError):
            assert_ladder(wrong, logged)
    with pytest.raises(AssertionError):
        assert_ladder(clicks, clicks)


def test_the_shipped_lists_keep_their_promises():
    table = recorded("ladder").query("rung == 'shipped'")
    assert (table["sold_out"] == 0).all() and mean_interval(table["coverage"]).low > 0.3
    ruled = recorded("rules").set_index(["seed", "rule"])
    assert (ruled.xs("all", level="rule")[["broken", "sold_out"]] == 0).all(axis=None)
    assert (ruled.xs("sold-out items too", level="rule")["sold_out"] > 0).all()


def test_a_random_split_flatters_every_method():
    wide = recorded("split").pivot(index=["seed", "method"], columns="split", values="recall")
    gap = (wide["random"] - wide["time"]).unstack()
    assert all(mean_interval(gap[name]).low > 0.03 for name in gap)
    films = recorded("real_movielens").pivot(index="model", columns="split", values="recall")
    assert (films["at random"] > 1.5 * films["by time"]).all()
