"""Contract, calendar and repair on two simulated worlds: what they find, and no false alarm."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting.world import DAYS, KEYS, SEED, World, simulate
from casebook.data import feed
from casebook.data import reports as contract_module
from casebook.data.feed import Repaired, inspect, repair
from casebook.data.plans import check_calendar
from casebook.data.reports import FeedRejected, check_contract
from casebook.evaluate.metrics import wape

DAY = pd.Timedelta(days=1)
SEEDS = [SEED, 1]
each_seed = pytest.mark.parametrize("seed", SEEDS)
END = DAYS[-1] + DAY


@cache
def world(seed: int = SEED) -> World:
    return simulate(seed)


@cache
def repaired(seed: int) -> Repaired:
    known = world(seed)
    return repair(known.reports, known.routes, known.calendar, END)


def found(seed: int) -> pd.DataFrame:
    """Return what was found, with the world's one word for missing days."""
    log = repaired(seed).log
    return log.assign(fault=log["fault"].str.replace(r"^missing .*", "missing", regex=True))


def against_truth(seed: int) -> pd.DataFrame:
    """Return the panel beside the parcels that were really sent, and the planted fault."""
    both = repaired(seed).panel.merge(world(seed).truth, on=KEYS, suffixes=("", "_true"))
    return both.merge(world(seed).faults, how="left")


# The contract -------------------------------------------------------------------------------


def check_no_false_alarm_and_the_absurd_row(most_times: int, monkeypatch) -> None:
    monkeypatch.setattr(contract_module, "MOST_TIMES", most_times)
    for seed in SEEDS:  # promotions, holidays, peak, break, openings and three weeks of hundreds
        reports = world(seed).reports
        check_contract(reports, world(seed).routes, END)
        row = reports.index[reports["ds"] == "2023-12-11"][7]
        spoilt = reports.assign(y=reports["y"].where(reports.index != row, 10**6))
        with pytest.raises(FeedRejected) as rejected:
            check_contract(spoilt, world(seed).routes, END)
        assert rejected.value.rows.index.tolist() == [row]


def test_no_true_day_of_the_world_is_refused_and_the_absurd_one_is(monkeypatch):
    check_no_false_alarm_and_the_absurd_row(contract_module.MOST_TIMES, monkeypatch)
    with pytest.raises(FeedRejected):  # a tighter bound would refuse days that happened
        check_no_false_alarm_and_the_absurd_row(3, monkeypatch)


def test_the_worlds_calendar_covers_its_days_and_a_cut_one_does_not():
    calendar, last = world().calendar, (DAYS[-60], DAYS[-1])
    country, countries = calendar["country"], set(world().routes["country"])
    check_calendar(calendar, countries, DAYS[0], DAYS[-1])
    hole = calendar[(country != "FR") | (calendar["ds"] != "2024-05-08")]
    cuts = [
        (hole, last, "that of FR has no holiday on 2024-05-08"),
        (calendar[country != "PL"], (DAYS[0], DAYS[-1]), "calendar: PL has no holiday: add"),
        (calendar.astype({"ds": str}), (DAYS[0], DAYS[-1]), "calendar: ds holds object"),
    ]
    for year, short in ((2022, "DE"), (2023, "BR")):  # no 1 May, no 7 September
        rows = calendar[(country != short) | (calendar["ds"].dt.year < year + 1)]
        cuts.append((rows, last, f"calendar: that of {short} .*: load the missing"))
    for rows, days, says in cuts:
        with pytest.raises(ValueError, match=says):
            check_calendar(rows, countries, *days)


def test_a_depot_of_the_world_in_tens_is_found_whole_and_its_plan_kept():
    known, first = world(), pd.Timestamp("2024-05-06")
    reports = known.reports[known.reports["ds"].between(first - 200 * DAY, first + 27 * DAY)]
    routes = known.routes[known.routes["unique_id"].isin(reports["unique_id"])]
    routes = routes.assign(opens=routes["opens"].clip(lower=reports["ds"].min()))
    true = repair(reports, routes, known.calendar, first + 28 * DAY)
    depot = reports["unique_id"].str.startswith("DE/DE2/") & (reports["ds"] >= first)
    spoilt = reports.assign(y=reports["y"].where(~depot, (reports["y"] / 10).round().astype(int)))
    result = repair(spoilt, routes, known.calendar, first + 28 * DAY)
    found = result.log[(result.log["fault"] == "wrong unit") & (result.log["ds"] >= first)]
    assert set(found["unique_id"].str.rpartition("/")[0]) == {"DE/DE2"}
    assert found["ds"].nunique() >= 27  # a holiday may be too small to tell
    late = true.panel["unique_id"].str.startswith("DE/DE2/") & (true.panel["ds"] >= first)
    assert wape(true.panel.loc[late, "y"], result.panel.loc[late, "y"]) < 0.05


# Faults in the world ------------------------------------------------------------------------


@each_seed
def test_recall_and_precision_of_each_fault_are_one(seed):
    """Measured on the seeds 2026 and 1 to 20: nothing missed, no false alarm."""
    both = found(seed).merge(world(seed).faults, on=[*KEYS, "fault"], how="outer", indicator=True)
    counts = both.groupby("fault")["_merge"].value_counts().unstack()
    assert set(counts.index) == {"missing", "duplicated", "wrong unit", "late"}
    assert (counts["both"] >= 50).all()
    assert (counts[["left_only", "right_only"]] == 0).all(axis=None)


def test_a_unit_rule_without_calendar_would_fire_on_holidays(monkeypatch):
    """The gate sees it: with a looser rule and no calendar there are false alarms."""
    monkeypatch.setattr(feed, "UNITS", {100: 1 / 8})
    log = inspect(world().reports, world().routes, world().calendar.head(0), END)
    assert (log["fault"] == "wrong unit").sum() > 63


@each_seed
def test_the_panel_is_complete_and_right_where_the_feed_was(seed):
    known, panel = world(seed), repaired(seed).panel
    assert_frame_equal(panel[KEYS], known.truth[KEYS].sort_values(KEYS, ignore_index=True))
    assert panel["y"].notna().all() and (panel["y"] >= 0).all()
    both = against_truth(seed)
    sound = ~both["fault"].isin(["missing", "wrong unit"])
    assert (both["y"] == both["y_true"])[sound].all()


@each_seed
def test_filled_days_are_nearer_to_the_truth_than_zero_or_the_last_value(seed):
    """WAPE over the seeds 2026 and 1 to 20: 0.13 to 0.25; last value 0.29 and more, zero 1."""
    both = against_truth(seed)
    gaps = both["fault"] == "missing"
    last = both["y"].where(~gaps).groupby(both["unique_id"]).ffill()
    error = wape(both.loc[gaps, "y_true"], both.loc[gaps, "y"])
    assert error < 0.26
    assert error < 0.75 * wape(both.loc[gaps, "y_true"], last[gaps])
