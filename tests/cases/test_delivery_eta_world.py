"""Case 04: the promises of its world, and of the oracle that plays it on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.delivery_eta import stages
from casebook.cases.delivery_eta import world as worlds
from casebook.cases.delivery_eta.oracle import oracle_quantiles, oracle_samples, true_state
from casebook.cases.delivery_eta.stages import HAULS, STAGES, VANS, Constants, hours
from casebook.cases.delivery_eta.world import CHAPTER, CUT, OPENS, STORM, World, snapshots
from casebook.data import snapshot
from casebook.project import data_dir

SEEDS = [2026, 1, 2, 3, 4]


@cache
def simulate(seed: int, parcels: int = 20_000) -> World:
    return worlds.simulate(seed, parcels=parcels)


def moments(world: World, first: pd.Timestamp, last: pd.Timestamp, n: int) -> pd.DataFrame:
    """Return some scans as moments at which something becomes known; none after delivery."""
    rows = world.scans[world.scans["received_at"].between(first, last)]
    rows = rows.rename(columns={"received_at": "known_at"})
    rows["remaining"] = world.times.delivered[rows["parcel"] - 1] - hours(rows["known_at"])
    rows = rows[rows["remaining"] > 0]
    return rows.sample(n, random_state=0)


# The same seed, the same world -------------------------------------------------------


def test_the_same_seed_gives_the_same_world_and_another_gives_another():
    first, again, other = (worlds.simulate(seed, parcels=500) for seed in (1, 1, 2))
    for name in ("parcels", "scans", "load", "truth", "queues", "faults"):
        assert_frame_equal(getattr(first, name), getattr(again, name))
    assert not np.isclose(first.past.network.km, other.past.network.km)[0, 1:].any()


def test_a_constant_changes_what_it_governs_and_nothing_else():
    usual = worlds.simulate(1, parcels=2000)
    longer = worlds.simulate(1, Constants(stage_sd=0.7), parcels=2000)
    assert_frame_equal(usual.queues, longer.queues)
    assert_frame_equal(usual.parcels, longer.parcels)
    busier = worlds.simulate(1, Constants(shock_sd=0.26), parcels=2000)
    assert_frame_equal(usual.parcels, busier.parcels)
    assert busier.queues["backlog_hours"].mean() > 1.5 * usual.queues["backlog_hours"].mean()


def test_the_committed_snapshots_are_what_the_world_makes():
    made = snapshots()
    assert made.keys() == {path.name for path in (data_dir() / CHAPTER).glob("*.parquet")}
    for name, frame in made.items():
        assert (data_dir() / CHAPTER / name).stat().st_size < 2_000_000
        assert_frame_equal(snapshot(CHAPTER, name), frame, rtol=1e-9, atol=0, check_dtype=False)


def test_what_a_model_sees_holds_no_truth():
    world = simulate(2026)
    secret = {"delivered", "storm", "backlog", "fails", "ring", "first", "attempts"}
    for table in (world.parcels, world.scans, world.load):
        assert not secret & {*table}
    assert world.scans["received_at"].max() < CUT <= world.truth["delivered"].max()


# How a parcel moves ------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_stages_follow_each_other_and_keep_the_calendar(seed):
    times = simulate(seed).times
    path = np.column_stack([times.stages, times.out[:, 0], times.rung[:, 0]])
    assert (np.diff(path, axis=1) >= 0).all()
    assert np.isin(times.stages[:, 2], HAULS).all()
    out = times.out[np.isfinite(times.out)]
    assert np.isin(out, VANS).all()
    day = stages.DAYS[(out // 24).astype(int)]
    assert (day.dayofweek < 6).all() and not day.isin(pd.to_datetime([*stages.HOLIDAYS])).any()
    assert (np.nanmax(times.rung, axis=1) == times.delivered).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_zones_and_hubs_are_what_the_network_says(seed):
    world = simulate(seed)
    network, trips, times = world.past.network, world.trips, world.times
    failed = np.isfinite(times.rung[:, 1])
    found = pd.Series(failed).groupby(trips.destination).agg(["mean", "size"])
    sd = np.sqrt(network.fails * (1 - network.fails) / found["size"])
    assert (np.abs(found["mean"] - network.fails) < 4 * sd).all()
    collect = times.stages[:, 1] - times.stages[:, 0]
    medians = pd.Series(collect).groupby(trips.origin).median()
    np.testing.assert_allclose(medians, network.first, rtol=0.12)
    new = world.parcels[["origin_hub", "destination_hub"]].eq("H").any(axis=1)
    early = world.parcels["accepted_at"] < OPENS
    assert not (new & early).any() and 0.05 < new[~early].mean() < 0.6


def test_express_parcels_wait_a_third_of_the_queue():
    world = simulate(2026)
    hub = world.past.network.zone_hub[world.trips.origin]
    at = world.times.stages[:, 1]
    long_queue = world.past.wait(hub, at) > 20
    dwell = pd.Series(world.times.stages[:, 2] - at)[long_queue]
    median = dwell.groupby(world.trips.express[long_queue]).median()
    assert median[True] < 0.6 * median[False]


# Queues, storm, peak -----------------------------------------------------------------


def test_a_queue_by_hand():
    network = simulate(2026).past.network
    calm = replace(network, utilisation=np.full(8, 0.8), stormy=np.arange(8) < 4)
    args = {"network": calm, "constants": Constants()}
    nothing, still = np.zeros(8), np.array(False)
    monday, mean = 7, np.zeros(8)
    left, shock = stages.tomorrow(nothing, mean, still, monday, mean, **args)
    assert left == pytest.approx(0) and shock == pytest.approx(0)  # 1.20 < 1.06 / 0.8
    left, _ = stages.tomorrow(nothing + 0.5, mean, still, monday, mean, **args)
    np.testing.assert_allclose(left, 0.5 + 1.20 - 1.06 / 0.8)
    left, _ = stages.tomorrow(nothing + 2, mean, still, monday, mean, **args)
    np.testing.assert_allclose(left, 2 + 1.20 - 1.2 * 1.06 / 0.8)  # overtime
    left, _ = stages.tomorrow(nothing, mean, np.array(True), monday, mean, **args)
    np.testing.assert_allclose(left[:4], 1.20 - 0.3 * 1.06 / 0.8)
    np.testing.assert_allclose(left[4:], 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_storm_fills_its_hubs(seed):
    world = simulate(seed)
    waits = world.queues.pivot(index="day", columns="hub", values="backlog_hours")
    hit = world.queues.loc[world.queues["storm"], "hub"].unique()
    days = world.queues.loc[world.queues["storm"], "day"].unique()
    assert len(hit) == 4 and 3 <= len(days) <= 8 and min(days) == STORM
    after = waits.loc[max(days) + pd.Timedelta(days=1)]
    assert (after[hit] > waits.loc[STORM, hit] + 20).all()
    assert (waits >= 0).all(axis=None)


def test_the_peak_fills_the_hubs_that_no_storm_has_hit():
    quiet, peak = [], []
    for seed in SEEDS:
        queues = simulate(seed).queues
        hit = queues["hub"].isin(queues.loc[queues["storm"], "hub"])
        waits = queues[~hit].set_index("day")["backlog_hours"].sort_index()
        quiet.append(waits.loc[worlds.CALIBRATION_END : worlds.QUIET_END].mean())
        peak.append(waits.loc[worlds.PEAK + pd.Timedelta(days=7) : CUT].mean())
    assert np.mean(peak) > 1.5 * np.mean(quiet)


def test_load_reports_are_near_the_truth_and_some_are_late():
    world = simulate(2026)
    both = world.load.merge(world.queues, on=["hub", "day"], suffixes=("", "_true"))
    busy = both[both["backlog_hours_true"] > 5]
    ratio = np.log(busy["backlog_hours"] / busy["backlog_hours_true"])
    assert abs(ratio.mean()) < 0.02 and ratio.std() == pytest.approx(0.1, rel=0.15)
    hour = (world.load["published_at"] - world.load["day"]) / pd.Timedelta(hours=1)
    assert set(hour) == {6.0, 16.0} and 0.01 < (hour == 16).mean() < 0.05


# The feed ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_faults_have_their_rates(seed):
    world = simulate(seed)
    n = world.faults["scan_id"].max()
    share = world.faults["fault"].value_counts() / n
    assert share["late"] == pytest.approx(0.04 * 0.98, rel=0.1)
    assert share["duplicated"] == pytest.approx(0.02, rel=0.1)
    assert share["missing"] == pytest.approx(0.03 * 4 / 6, rel=0.1)
    assert 0.002 < share["wrong clock"] < 0.06
    lost = set(world.faults.query("fault == 'missing'")["scan_id"])
    assert not lost & {*world.scans["scan_id"]}
    signed = world.truth.loc[world.truth["delivered"] < CUT - pd.Timedelta(days=5), "parcel"]
    assert set(signed) <= {*world.scans.query("stage == 'delivered'")["parcel"]}


# The oracle --------------------------------------------------------------------------

#: The quiet weeks, the storm and its aftermath, and a part of the peak.
SPANS = {
    "quiet": (worlds.CALIBRATION_END, worlds.QUIET_END),
    "storm": (STORM, worlds.PEAK),
    "peak": (worlds.PEAK, CUT),
}


def placed(constants: Constants | None = None, span: str = "quiet") -> np.ndarray:
    """Return where the truth lies in the oracle's distribution, over the worlds of all seeds."""
    parts = []
    for seed in SEEDS:
        world = simulate(seed)
        rows = moments(world, *SPANS[span], 1000)
        if constants is not None:
            world = replace(world, constants=constants)
        drawn = oracle_samples(world, rows, draws=99)
        parts.append((drawn < rows["remaining"].to_numpy()[:, None]).mean(axis=1))
    return np.concatenate(parts)


@pytest.mark.parametrize("span", SPANS)
def test_the_oracle_is_calibrated(span):
    place = placed(span=span)
    assert np.mean((place > 0.1) & (place <= 0.9)) == pytest.approx(0.8, abs=0.025)
    assert place.mean() == pytest.approx(0.5, abs=0.025)


def test_an_oracle_of_another_world_is_not_calibrated():
    place = placed(Constants(stage_sd=0.7))
    assert np.mean((place > 0.1) & (place <= 0.9)) > 0.85


def test_the_oracle_knows_where_a_parcel_truly_is():
    world = simulate(2026)
    rows = moments(world, *SPANS["quiet"], 500)
    state = true_state(world, rows)
    assert (state["entered"] <= state["now"]).all()
    said = rows["stage"].map({name: k for k, name in enumerate(STAGES)})
    behind = state["step"] < said
    assert not behind[rows["attempt"] == 0].any()
    done = rows.assign(known_at=CUT + pd.Timedelta(days=60))
    assert (oracle_quantiles(world, done) == 0).all(axis=None)
    quantiles = oracle_quantiles(world, rows)
    assert list(quantiles) == ["p10", "p50", "p90"] and quantiles.index.equals(rows.index)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        oracle_quantiles(world, rows, levels=(0.5, 1.0))


def test_the_oracle_does_not_know_a_storm_that_has_not_begun():
    world = simulate(2026)
    rows = world.parcels[
        world.parcels["accepted_at"].between(STORM - pd.Timedelta(hours=15), STORM)
    ]
    eve = rows[["parcel"]].assign(known_at=STORM)
    before = oracle_samples(world, eve.assign(known_at=STORM - pd.Timedelta(seconds=1)), 50)
    begun = oracle_samples(world, eve, 50)
    assert len(eve) > 20 and begun.mean() > before.mean() + 2
