"""Daily reports: what was known, their contract, the tables beside them, faults and repair."""

from __future__ import annotations

import inspect as inspect_source
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting.world import KEYS
from casebook.data import feed
from casebook.data import reports as contract_module
from casebook.data.feed import Repaired, repair
from casebook.data.plans import check_master, check_plan
from casebook.data.reports import COLUMNS, REMEDY, FeedRejected, as_of, check_contract, contract

DAY, HOUR = pd.Timedelta(days=1), pd.Timedelta(hours=1)


# A small network: one country, two depots, 16 weeks, 100 parcels each day but on Sundays --------

NET = pd.DataFrame(
    {
        "unique_id": ["XX/A/r1", "XX/A/r2", "XX/B/r1"],
        "country": "XX",
        "depot": ["A", "A", "B"],
        "opens": pd.Timestamp("2024-01-01"),
        "closes": pd.NaT,
    }
)
NET_DAYS = pd.date_range("2024-01-01", periods=112)
#: Two holidays on Tuesdays.
NET_CALENDAR = pd.DataFrame(
    {"country": "XX", "ds": pd.to_datetime(["2024-02-13", "2024-04-09"]), "holiday": "a feast"}
)
TODAY = NET_DAYS[-1] + DAY


def sent() -> pd.DataFrame:
    """Return the small network's reports, without a fault."""
    frame = NET[["unique_id"]].merge(pd.Series(NET_DAYS, name="ds"), how="cross")
    frame["y"] = np.where(frame["ds"].dt.dayofweek == 6, 30, 100)
    frame.loc[frame["ds"].isin(NET_CALENDAR["ds"]), "y"] = 10
    frame["received"] = frame["ds"] + DAY
    return frame


def at(frame: pd.DataFrame, day: str, routes: str = "XX") -> pd.Series:
    return (frame["ds"] == day) & frame["unique_id"].str.startswith(routes)


def mended(reports: pd.DataFrame, routes: pd.DataFrame = NET, day=TODAY) -> Repaired:
    return repair(reports, routes, NET_CALENDAR, day)


def y(result: Repaired, route: str, day: str) -> float:
    return result.panel.set_index(KEYS).loc[(route, pd.Timestamp(day)), "y"]


# What was known when ------------------------------------------------------------------------


def test_a_row_without_arrival_is_not_lost_but_refused():
    reports = sent()
    reports.loc[5, "received"] = pd.NaT
    assert 5 in as_of(reports, TODAY).index
    with pytest.raises(FeedRejected, match="received is empty: 1 row, unique_id XX/A/r1"):
        mended(reports)


@pytest.mark.parametrize("fault", [{"received": "2024-01-02"}, None], ids=["text", "missing"])
def test_without_dates_of_arrival_nobody_can_tell_what_was_known(fault):
    reports = sent().assign(**fault) if fault else sent().drop(columns="received")
    with pytest.raises(ValueError, match=r"no dates of arrival: parse the column received"):
        as_of(reports, TODAY)


def test_arrivals_with_a_time_zone_are_told_from_those_that_are_no_dates():
    zoned = sent().assign(received=lambda f: f["received"].dt.tz_localize("UTC"))
    with pytest.raises(ValueError, match="received has time zone UTC: convert to local days"):
        as_of(zoned, TODAY)


def test_a_row_that_arrives_at_five_in_the_morning_is_known_on_it():
    reports = sent().assign(received=lambda f: f["received"] + 5 * HOUR)
    assert len(as_of(reports, TODAY)) == len(reports)
    assert_frame_equal(mended(reports).panel, mended(sent()).panel)


def test_an_arrival_in_another_century_is_refused_and_not_lost():
    reports = sent()
    reports.loc[7, "received"] = pd.Timestamp("2099-01-01")
    assert 7 in as_of(reports, TODAY).index
    with pytest.raises(FeedRejected, match="arrival after 2024-04-22: 1 row, unique_id XX/A/r1"):
        mended(reports)
    reports.loc[7, "received"] = TODAY + DAY  # late, and on its way
    assert 7 not in as_of(reports, TODAY).index


def test_a_column_that_is_there_twice_is_named():
    reports = pd.concat([sent(), sent()[["y"]]], axis=1)
    for call in (lambda: as_of(reports, TODAY), lambda: check_contract(reports, NET, TODAY)):
        with pytest.raises(ValueError, match="the feed has the column y more than once: keep one"):
            call()


# The contract -------------------------------------------------------------------------------


def test_other_columns_are_let_through_and_types_made_equal():
    batch = sent().assign(note="ok", y=lambda f: f["y"].astype(float))
    checked = check_contract(batch.sample(frac=1, random_state=0), NET, TODAY)
    assert list(checked.columns) == COLUMNS
    assert checked["y"].dtype == "int64"
    assert len(check_contract(batch.head(0), NET, TODAY)) == 0


def test_the_contract_is_a_schema_whose_rules_all_have_a_remedy():
    schema = contract(NET, TODAY)
    names = {c.name for column in schema.columns.values() for c in column.checks}
    names |= {c.name for c in schema.checks}
    assert names | {"column", "type", "empty"} == REMEDY.keys()


def test_a_batch_without_rows_that_lacks_a_column_says_so():
    with pytest.raises(FeedRejected, match="column 'y' is missing: no rows; ask the sender"):
        check_contract(sent().head(0).drop(columns="y"), NET, TODAY)


LAST = NET_DAYS[-1]
#: One planted fault for each rule: column, value, and how the line begins.
BROKEN = {
    "route": ("unique_id", "XX/C/r9", "unknown route: 1 row, unique_id XX/C/r9, ds 2024-04-21"),
    "a list": ("unique_id", ["XX/A/r1"], "unknown route: 1 row, unique_id ['XX/A/r1'], ds"),
    "route empty": ("unique_id", None, "unique_id is empty: 1 row"),
    "day empty": ("ds", pd.NaT, "ds is empty: 1 row, unique_id XX/B/r1"),
    "midnight": ("ds", LAST + pd.Timedelta(hours=5), "day with a time: 1 row"),
    "future": ("ds", TODAY, "day not over on 2024-04-22: 1 row"),
    "y empty": ("y", np.nan, "y is empty: 1 row"),
    "number": ("y", "n/a", "y is no number: 1 row, unique_id XX/B/r1, ds 2024-04-21, y n/a"),
    "true": ("y", True, "y is no number: 1 row"),
    "whole": ("y", 2.5, "y is not whole: 1 row"),
    "infinite": ("y", np.inf, "y is not whole: 1 row"),
    "negative": ("y", -3, "y is negative: 1 row, unique_id XX/B/r1, ds 2024-04-21, y -3"),
    "most": ("y", 10**6, "more than 8 times the route's usual parcels: 1 row, unique_id XX/B/r1"),
    "arrival": ("received", LAST, "received before its day was over: 1 row"),
    "unknown": ("received", TODAY + DAY, "arrival after 2024-04-22: 1 row"),
    "no float": ("y", 10**400, "y is not whole: 1 row, unique_id XX/B/r1"),
    "stamped at night": ("received", LAST + 23 * HOUR, "received before its day was over: 1 row"),
    "service": ("ds", pd.Timestamp("2023-12-31"), "route not in service: 1 row"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_each_broken_rule_is_one_line_and_rejects_its_row_only(rule):
    column, value, begins = BROKEN[rule]
    batch = sent()
    batch.index += 1000
    if column in ("y", "unique_id"):
        batch = batch.astype({column: object})
    batch.at[batch.index[-1], column] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FeedRejected) as rejected:
            check_contract(batch, NET, TODAY)
    lines = [line for line in rejected.value.lines if line.startswith(begins)]
    assert len(lines) == 1
    assert lines[0].split("; ")[1] in REMEDY.values()
    others = {"future": 1, "infinite": 1, "no float": 1}.get(rule, 0)
    assert len(rejected.value.lines) == 1 + others
    assert len(rejected.value.reasons) == 1 and begins.split(":")[0] in rejected.value.reasons[0]
    assert_frame_equal(rejected.value.rows, batch.tail(1))
    assert_frame_equal(rejected.value.accepted, batch.iloc[:-1])


def test_two_values_for_one_day_in_one_arrival_are_both_refused():
    batch = pd.concat([sent(), sent().tail(1).assign(y=77)], ignore_index=True)
    with pytest.raises(FeedRejected, match="two values for one day in one arrival: 2 rows, first"):
        check_contract(batch, NET, TODAY)
    check_contract(pd.concat([sent(), sent().tail(1)]), NET, TODAY)  # a plain copy is no conflict


@pytest.mark.parametrize("column", ["unique_id", "y"])
def test_a_list_in_a_row_hides_no_other_fault(column):
    """A rule that cannot look the list up was not asked, and an absurd row passed."""
    batch = pd.concat([sent(), sent().tail(1).assign(y=77)], ignore_index=True)
    batch = pd.concat([batch, batch.head(1)], ignore_index=True).astype(
        {column: object, "y": object}
    )
    batch.at[0, column], batch.at[50, "y"] = ["XX/A/r1"], 10**6
    with pytest.raises(FeedRejected) as rejected:
        check_contract(batch, NET, TODAY)
    twin = [337] if column == "y" else []  # the first row's copy holds another value then
    assert_frame_equal(rejected.value.rows, batch.loc[[0, 50, 335, 336, *twin]])


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_rejects_the_whole_batch(column):
    batch = sent().drop(columns=column)
    with pytest.raises(FeedRejected, match=f"column '{column}' is missing: 336 rows") as rejected:
        check_contract(batch, NET, TODAY)
    assert_frame_equal(rejected.value.rows, batch)
    assert rejected.value.accepted.empty


def test_dates_as_text_reject_the_whole_batch():
    batch = sent().astype({"ds": str})
    with pytest.raises(FeedRejected, match=r"ds holds object, not datetime64\[ns\]: 336 rows"):
        check_contract(batch, NET, TODAY)


def refused(batch: pd.DataFrame, routes: pd.DataFrame = NET, **given) -> list[str]:
    try:
        check_contract(batch, routes, TODAY, **given)
    except FeedRejected as rejected:
        return [f"{row.unique_id} {row.ds:%m-%d} {row.y}" for row in rejected.rows.itertuples()]
    return []


def test_the_bound_follows_the_routes_own_days_and_a_confirmed_count_passes():
    batch = sent()
    rows = batch["unique_id"] == "XX/A/r1"
    batch.loc[rows, "y"] //= 10  # a route of nine parcels a day beside one of ninety
    last = batch.index[rows][-1]
    for parcels, bad in ((81, []), (100, ["XX/A/r1 04-21 100"])):
        batch.loc[last, "y"] = parcels
        assert refused(batch) == bad
    assert refused(batch, NET.assign(most=[100, np.nan, np.nan])) == []
    assert refused(batch, NET.assign(most=[99, np.nan, np.nan])) == ["XX/A/r1 04-21 100"]


def test_an_absurd_day_does_not_raise_the_bound_of_later_days():
    batch = sent()
    rows = batch.index[batch["unique_id"] == "XX/A/r1"]
    batch.loc[rows[40:60], "y"] = 10**6
    assert len(refused(batch)) == 20


@pytest.mark.parametrize("wrong", [-20000, "n/a", np.nan, 0.5])
def test_a_row_that_breaks_another_rule_says_nothing_of_what_is_usual(wrong):
    """One row of -20000 once refused 42 true rows of its route."""
    batch = sent().astype({"y": object})
    rows = batch.index[batch["unique_id"] == "XX/A/r1"]
    batch.loc[rows[20:21] if wrong == -20000 else rows[20:60], "y"] = wrong
    accepted = batch.drop(batch.index[batch["y"].map(lambda y: y is wrong or y == wrong)])
    with pytest.raises(FeedRejected) as rejected:
        check_contract(batch, NET, TODAY)
    assert_frame_equal(rejected.value.accepted, accepted)
    # What was refused does not make the usual day smaller either: 8 times its 90 still passes.
    batch.loc[rows[61], "y"] = 700
    with pytest.raises(FeedRejected) as rejected:
        check_contract(batch, NET, TODAY)
    assert rows[61] in rejected.value.accepted.index


@pytest.mark.parametrize("seed", range(8))
def test_what_was_accepted_is_accepted_again(seed):
    """The repair checks what it is given: it must see no more and no less than the first check."""
    rng, batch = np.random.default_rng(seed), sent().astype({"y": object})
    batch["y"] = rng.poisson(3, len(batch))
    batch = batch.astype({"y": object})
    for value in (-500, "n/a", np.nan, 0.5, 10**5, 40, 60, 90):
        batch.loc[rng.choice(batch.index, 12), "y"] = value
    batch.loc[rng.choice(batch.index, 12), "received"] -= DAY
    batch.loc[rng.choice(batch.index, 12), "unique_id"] = "XX/A/r2"
    batch = batch.sample(frac=1, random_state=seed)
    with pytest.raises(FeedRejected) as rejected:
        check_contract(batch, NET, TODAY)
    assert len(rejected.value.accepted) > 100
    again = check_contract(rejected.value.accepted, NET, TODAY)
    assert len(again) == len(rejected.value.accepted)


def test_the_first_days_and_new_routes_have_a_bound_too():
    batch = sent().query("ds < '2024-01-15'").reset_index(drop=True)
    batch.loc[0, "y"] = 10**9
    assert refused(batch) == ["XX/A/r1 01-01 1000000000"]
    routes = NET.assign(opens=[NET_DAYS[0], NET_DAYS[100], NET_DAYS[0]])
    batch = sent()[(sent()["unique_id"] != "XX/A/r2") | (sent()["ds"] >= NET_DAYS[100])]
    batch.loc[batch["unique_id"] == "XX/A/r2", "y"] = [10**4] + [100] * 11
    assert refused(batch, routes) == ["XX/A/r2 04-10 10000"]


def test_one_night_is_judged_by_the_history_that_goes_with_it():
    batch, night = sent(), sent()["ds"] == NET_DAYS[-1]
    batch.loc[night, "y"] = [30, 30, 5000]
    assert refused(batch[night]) == []  # nothing is known of the routes
    assert refused(batch[night], history=batch[~night]) == ["XX/B/r1 04-21 5000"]


#: Broken master data, and what is said of them.
MASTER = {
    "no opening": ({"opens": [pd.NaT, *NET["opens"][1:]]}, "XX/A/r1 has no opening day: enter"),
    "no depot": ({"depot": ["A", None, "B"]}, "XX/A/r2 has no country or depot: complete"),
    "no name": ({"unique_id": ["XX/A/r1", None, "XX/B/r1"]}, "has no name"),
    "a list": ({"unique_id": ["r1", ["r2"], "r3"]}, r"route \['r2'\] has a name that is no text"),
    "text": ({"opens": "2024-01-01"}, "opens holds object, not dates .*: parse the column"),
    "zone": ({"closes": pd.Timestamp("2025-01-01", tz="UTC")}, "closes holds datetime64.*UTC"),
    "twice": ({"unique_id": ["XX/A/r1", "XX/A/r1", "XX/B/r1"]}, "XX/A/r1 stands .* more than once"),
    "closed": ({"closes": pd.Timestamp("2023-01-01")}, "XX/A/r1 closes before it opens"),
    "opens at noon": ({"opens": NET_DAYS[0] + 12 * HOUR}, "XX/A/r1 opens or closes at a time"),
    "depot 7": ({"depot": ["A", 7, "B"]}, "XX/A/r2 has a country or depot that is no text"),
    "most as text": ({"most": [100, "n/a", None]}, "XX/A/r2 has a most that is no number above 0"),
    "most negative": ({"most": [100, np.nan, -1]}, "XX/B/r1 has a most that is no number above 0"),
    "distance 0": ({"distance_km": [5, 0, 7]}, "XX/A/r2 has a distance_km that is no number"),
    "far away": ({"distance_km": [5.0, 1.0, np.inf]}, "XX/B/r1 has a distance_km that is no"),
}


@pytest.mark.parametrize("fault", MASTER)
def test_broken_master_data_are_refused_with_the_route(fault):
    columns, says = MASTER[fault]
    with pytest.raises(ValueError, match=says):
        mended(sent(), NET.assign(**columns))
    check_master(NET)
    check_master(NET.assign(most=[100, None, np.nan], distance_km=[5, np.nan, 7.5]))
    check_master(NET.assign(most=pd.array([100, None, 3], "Int64")))


def test_master_data_without_a_column_are_refused():
    with pytest.raises(ValueError, match=r"master data: no column \['closes'\]"):
        mended(sent(), NET.drop(columns="closes"))


@pytest.mark.parametrize(
    ("day", "says"),
    [(TODAY.tz_localize("UTC"), "has a time zone"), (pd.NaT, "is empty")],
    ids=["zone", "empty"],
)
def test_a_morning_that_is_none_is_refused(day, says):
    with pytest.raises(ValueError, match=f"the morning .*{says}"):
        mended(sent(), day=day)
    assert_frame_equal(
        mended(sent(), day=TODAY + pd.Timedelta(hours=6)).panel, mended(sent()).panel
    )


PLAN = pd.DataFrame({"unique_id": ["XX/A/r1", "XX/A/r2"], "ds": NET_DAYS[:2]})
#: What is wrong with a plan of promotions, and what is said of it.
PLANS = {
    "at noon": (PLAN.assign(ds=PLAN["ds"] + 12 * HOUR), "2 rows have a time of day"),
    "text": (PLAN.astype({"ds": str}), "ds holds object, not dates"),
    "zone": (PLAN.assign(ds=PLAN["ds"].dt.tz_localize("UTC")), "ds holds .*UTC"),
    "a list": (PLAN.assign(unique_id=[["r"], ["s"]]), r"\['r'\] is no name of a route"),
    "no days": (PLAN[["unique_id"]], r"promotions: no column \['ds'\]"),
}


@pytest.mark.parametrize("fault", PLANS)
def test_a_plan_whose_rows_match_no_day_is_refused_and_not_lost(fault):
    plan, says = PLANS[fault]
    with pytest.raises(ValueError, match=says):
        check_plan(plan)
    check_plan(PLAN.head(0))


def test_all_broken_rules_stand_in_one_message_and_no_row_is_lost():
    batch = sent()
    batch.loc[[3, 4], "y"] = -1
    batch.loc[[4, 7], "unique_id"] = "?"
    with pytest.raises(FeedRejected) as rejected:
        check_contract(batch, NET, TODAY)
    error = rejected.value
    assert str(error) == "\n".join(error.lines)
    assert [line.split(":")[0] for line in error.lines] == ["unknown route", "y is negative"]
    assert error.rows.index.tolist() == [3, 4, 7]
    assert_frame_equal(pd.concat([error.rows, error.accepted]).sort_index(), batch)
    assert error.__cause__ is None and error.__suppress_context__  # no traceback of pandera


def test_a_check_that_itself_fails_is_not_taken_for_a_finding(monkeypatch):
    monkeypatch.setattr(contract_module, "numbers", lambda y: 1 / 0)
    with pytest.raises(Exception, match="division by zero") as raised:
        check_contract(sent(), NET, TODAY)
    assert not isinstance(raised.value, FeedRejected)


# Faults in the small network ----------------------------------------------------------------


def test_a_feed_without_faults_is_left_alone():
    result = mended(sent())
    assert result.log.empty
    assert list(result.log.columns) == [*KEYS, "fault", "repair"]
    assert_frame_equal(result.panel, sent()[[*KEYS, "y"]].astype({"y": float}))


def line(result: Repaired) -> list[tuple]:
    return [(r.unique_id, f"{r.ds:%m-%d}", r.fault, r.repair) for r in result.log.itertuples()]


def test_a_missing_depot_is_one_line_for_each_of_its_routes():
    reports = sent()
    result = mended(reports[~at(reports, "2024-04-03", "XX/A")])
    words = "filled with 100.0, usual for such a day"
    assert line(result) == [
        ("XX/A/r1", "04-03", "missing depot", words),
        ("XX/A/r2", "04-03", "missing depot", words),
    ]
    assert len(result.panel) == 336


def test_depots_of_two_countries_may_have_one_name():
    reports, routes = sent(), NET.assign(depot="A", country=["XX", "XX", "YY"])
    result = mended(reports[~at(reports, "2024-04-03", "XX/B")], routes)
    assert line(result)[0][:3] == ("XX/B/r1", "04-03", "missing depot")


def test_a_missing_route_of_a_depot_that_sent_the_others():
    reports = sent()
    result = mended(reports[~at(reports, "2024-04-07", "XX/A/r2")])
    words = "filled with 30.0, usual for such a day"  # a Sunday
    assert line(result) == [("XX/A/r2", "04-07", "missing route", words)]


def test_a_missing_holiday_takes_the_share_of_earlier_holidays():
    reports = sent()
    result = mended(reports[~at(reports, "2024-04-09", "XX/A/r1")])
    assert y(result, "XX/A/r1", "2024-04-09") == pytest.approx(10)
    result = mended(reports[~at(reports, "2024-02-13", "XX/A/r1")])  # the first one there is
    assert y(result, "XX/A/r1", "2024-02-13") == pytest.approx(100)


def test_a_holiday_does_not_spoil_the_same_weekday_of_later_weeks():
    reports = sent()
    result = mended(reports[~at(reports, "2024-04-16", "XX/A/r1")])
    assert y(result, "XX/A/r1", "2024-04-16") == pytest.approx(100)


def test_a_duplicated_row_is_dropped_and_counted():
    reports = sent()
    copies = reports[at(reports, "2024-04-03", "XX/A/r1")]
    result = mended(pd.concat([reports, copies, copies]))
    assert line(result) == [("XX/A/r1", "04-03", "duplicated", "one of 3 rows kept")]
    assert_frame_equal(result.panel, mended(reports).panel)


def test_of_two_rows_the_one_that_arrived_last_counts_once_it_is_there():
    reports = sent()
    correction = reports[at(reports, "2024-04-03", "XX/A/r1")].assign(y=90)
    correction["received"] += 2 * DAY
    both = pd.concat([correction, reports])
    assert line(mended(both))[0][2] == "duplicated"
    assert y(mended(both), "XX/A/r1", "2024-04-03") == 90
    assert y(mended(both, day=pd.Timestamp("2024-04-05")), "XX/A/r1", "2024-04-03") == 100


def test_a_late_file_is_missing_until_it_comes():
    reports = sent()
    rows = at(reports, "2024-04-03", "XX/B")
    reports.loc[rows, ["y", "received"]] = [120, pd.Timestamp("2024-04-08")]
    before = mended(reports, day=pd.Timestamp("2024-04-07"))
    assert line(before)[0][2] == "missing depot"
    assert y(before, "XX/B/r1", "2024-04-03") == pytest.approx(100)
    after = mended(reports, day=pd.Timestamp("2024-04-08"))
    words = "used since it came, 5 days after its day"
    assert line(after) == [("XX/B/r1", "04-03", "late", words)]
    assert y(after, "XX/B/r1", "2024-04-03") == 120


@pytest.mark.parametrize("n_days", [1, 21])
def test_hundreds_are_found_from_their_first_day_and_multiplied_back(n_days):
    reports = sent()
    reports["y"] *= 10
    wrong = reports["unique_id"].str.startswith("XX/A") & reports["ds"].between(
        "2024-03-20", pd.Timestamp("2024-03-19") + n_days * DAY
    )
    reports.loc[wrong, "y"] = (reports.loc[wrong, "y"] / 100).round().astype(int)
    result = mended(reports)
    assert result.log["fault"].eq("wrong unit").all()
    assert_frame_equal(result.log[KEYS], reports.loc[wrong, KEYS].reset_index(drop=True))
    assert result.log["repair"].iloc[0] == "10 hundred read as 1000.0 parcels"
    assert_frame_equal(result.panel, mended(sent()).panel.assign(y=lambda f: 10 * f["y"]))


def in_tens(routes: str, days: list[str]) -> Repaired:
    """Return the repair of a network of 1,000 parcels a route in which some routes sent tens."""
    reports = sent()
    reports["y"] *= 10
    wrong = reports["ds"].isin(pd.to_datetime(days)) & reports["unique_id"].str.startswith(routes)
    reports.loc[wrong, "y"] //= 10
    return mended(reports)


def test_tens_of_a_depot_are_found_on_their_first_day_and_multiplied_back():
    result = in_tens("XX/A", ["2024-04-03", "2024-04-04"])
    assert [row[1:3] for row in line(result)] == [
        ("04-03", "wrong unit"),
        ("04-04", "wrong unit"),
    ] * 2
    assert line(result)[0][3] == "100 tens read as 1000.0 parcels"
    assert_frame_equal(result.panel, mended(sent()).panel.assign(y=lambda f: 10 * f["y"]))


def test_a_tenth_in_a_whole_country_is_a_holiday_on_the_first_day_and_tens_on_the_second():
    assert in_tens("XX", ["2024-04-03"]).log.empty
    assert in_tens("XX", ["2024-04-03", "2024-04-04"]).log["ds"].dt.day.tolist() == [4] * 3


def test_a_route_that_is_silent_for_months_keeps_its_last_level():
    reports = sent()
    silent = (reports["unique_id"] == "XX/B/r1") & (reports["ds"] >= NET_DAYS[28])
    assert y(mended(reports[~silent]), "XX/B/r1", "2024-04-19") == 100
    assert y(mended(reports[~silent]), "XX/B/r1", "2024-04-21") == 30  # a Sunday
    never = mended(reports[reports["unique_id"] != "XX/B/r1"])
    assert "XX/B/r1" not in set(never.panel["unique_id"])


def test_what_rounding_to_hundreds_hides_is_taken_from_the_usual_day():
    reports = sent()
    reports["y"] = (reports["y"] * 1.2).astype(int)
    reports.loc[at(reports, "2024-04-03", "XX/A/r1"), "y"] = 1
    reports.loc[at(reports, "2024-04-03", "XX/A/r2"), "y"] = 2
    result = mended(reports)
    assert y(result, "XX/A/r1", "2024-04-03") == pytest.approx(120)  # 50 to 150
    assert y(result, "XX/A/r2", "2024-04-03") == pytest.approx(150)  # 150 to 250


@pytest.mark.parametrize(
    ("day", "parcels"),
    [("2024-04-03", 100 * 0.06), ("2024-04-02", 0), ("2024-04-09", 1)],
    ids=["six in a hundred", "a strike", "a holiday"],
)
def test_a_quiet_day_is_not_taken_for_hundreds(day, parcels):
    reports = sent()
    reports["y"] *= 10
    reports.loc[at(reports, day), "y"] = int(10 * parcels)
    assert mended(reports).log.empty


@pytest.mark.parametrize("parcels", [0, 1])
def test_true_zeros_of_a_small_depot_are_no_hundreds(parcels):
    """Rounding to hundreds could hide all of its 200 parcels, and a closed week sends as many."""
    reports = sent()
    closed = reports["unique_id"].str.startswith("XX/A") & reports["ds"].between(
        "2024-04-01", "2024-04-07"
    )
    reports.loc[closed, "y"] = 0
    reports.loc[closed & reports["unique_id"].eq("XX/A/r1"), "y"] = parcels
    result = mended(reports)
    assert result.log.empty and y(result, "XX/A/r1", "2024-04-03") == parcels


def test_before_a_holiday_was_seen_no_holiday_is_judged():
    reports = sent()
    reports["y"] *= 10
    reports.loc[at(reports, "2024-02-13"), "y"] = 49
    assert mended(reports).log.empty
    blind = repair(reports, NET, NET_CALENDAR.tail(1), TODAY)
    assert line(blind)[0][1:3] == ("02-13", "wrong unit")


def test_a_sunday_too_small_to_judge_follows_the_last_judged_day():
    """Six parcels of 60 are no hundreds; none of 60 are, if Saturday was."""
    reports = sent()
    days = ["2024-04-06", "2024-04-07"]
    wrong = reports["ds"].isin(pd.to_datetime(days)) & reports["unique_id"].str.startswith("XX/A")
    reports.loc[wrong, "y"] = (reports.loc[wrong, "y"] / 100).astype(int)
    assert mended(reports).log["ds"].nunique() == 2
    reports.loc[at(reports, days[0]), "y"] = 100
    assert mended(reports).log.empty


def test_an_intermittent_route_raises_no_alarm():
    reports = sent()
    rng = np.random.default_rng(0)
    rare = reports["unique_id"] == "XX/B/r1"
    reports.loc[rare, "y"] = rng.poisson(0.3, rare.sum())
    assert mended(reports).log.empty


def test_a_missing_large_route_does_not_make_the_rest_of_its_depot_look_like_hundreds():
    reports = sent()
    reports.loc[reports["unique_id"] == "XX/A/r1", "y"] *= 100
    result = mended(reports[~at(reports, "2024-04-03", "XX/A/r1")])
    assert line(result)[0][2] == "missing route" and len(result.log) == 1


def test_openings_and_closings_bound_the_rows():
    routes = NET.copy()
    routes.loc[1, "opens"] = pd.Timestamp("2024-03-01")
    routes.loc[0, "closes"] = pd.Timestamp("2024-02-01")
    reports = sent().merge(routes[["unique_id", "opens", "closes"]])
    serviced = (reports["ds"] >= reports["opens"]) & ~(reports["ds"] >= reports["closes"])
    result = mended(reports.loc[serviced, COLUMNS], routes)
    assert result.log.empty
    assert_frame_equal(result.panel[KEYS], reports.loc[serviced, KEYS].reset_index(drop=True))
    with pytest.raises(FeedRejected, match="route not in service: 141 rows, first"):
        mended(reports[COLUMNS], routes)


def test_a_new_route_is_filled_with_its_days_so_far_or_zero():
    routes = NET.assign(opens=[NET_DAYS[0], pd.Timestamp("2024-04-10"), NET_DAYS[0]])
    reports = sent()
    early = (reports["unique_id"] == "XX/A/r2") & (reports["ds"] < "2024-04-11")
    result = mended(reports[~early & ~at(reports, "2024-04-13", "XX/A/r2")], routes)
    assert y(result, "XX/A/r2", "2024-04-10") == 0
    assert y(result, "XX/A/r2", "2024-04-13") == pytest.approx(100)


def test_what_no_repair_can_start_from_is_refused():
    with pytest.raises(ValueError, match="no report had arrived by 2024-01-01: choose"):
        mended(sent(), day=NET_DAYS[0])
    with pytest.raises(ValueError, match="route XX/A/r1 stands in the master data more than once"):
        mended(sent(), pd.concat([NET, NET.head(1)]))


# Only the past ------------------------------------------------------------------------------

#: A usual day, one of hundreds, one with a late file on its way, and the last.
MORNINGS = pd.to_datetime(["2024-02-20", "2024-03-22", "2024-04-05", "2024-04-20"])
Repair = Callable[..., Repaired]


def spoilt() -> pd.DataFrame:
    """Return a feed with each fault: gaps, copies, hundreds of a depot, files that come late."""
    reports = sent().assign(y=lambda f: 10 * f["y"])
    wrong = reports["unique_id"].str.startswith("XX/A") & (reports["ds"].dt.month == 3)
    reports.loc[wrong, "y"] = (reports.loc[wrong, "y"] / 100).round().astype(int)
    late = at(reports, "2024-04-03", "XX/B") | at(reports, "2024-02-18")
    reports.loc[late, "received"] += 4 * DAY
    gaps = np.random.default_rng(0).random(len(reports)) < 0.05
    return pd.concat([reports[~gaps], reports[at(reports, "2024-04-10")]])


def check_that_later_rows_change_nothing(repair: Repair, day: pd.Timestamp) -> None:
    reports = spoilt()
    later = reports["received"] > day
    assert (later & (reports["ds"] < day)).any() == (day in (MORNINGS[0], MORNINGS[2]))
    absurd = reports.assign(y=reports["y"].where(~later, 10**6))
    expected = repair(reports, NET, NET_CALENDAR, day)
    assert expected.panel["ds"].max() == day - DAY
    for other in (reports[~later], absurd.sample(frac=1, random_state=0)):
        result = repair(other, NET, NET_CALENDAR, day)
        assert_frame_equal(result.panel, expected.panel, check_exact=True)
        assert_frame_equal(result.log, expected.log)


def check_that_days_are_judged_by_earlier_ones(repair: Repair, days: pd.DatetimeIndex) -> None:
    """With punctual files the repair of a morning is the beginning of every later one."""
    punctual = spoilt().assign(received=lambda f: f["ds"] + DAY)
    last = repair(punctual, NET, NET_CALENDAR, TODAY)
    for day in days:
        result = repair(punctual, NET, NET_CALENDAR, day)
        for name in ("panel", "log"):
            frame = getattr(last, name)
            frame = frame[frame["ds"] < day].reset_index(drop=True)
            assert_frame_equal(getattr(result, name), frame, check_exact=True)


@pytest.mark.parametrize("day", MORNINGS, ids=lambda d: f"{d:%Y-%m-%d}")
def test_the_repair_of_a_morning_does_not_depend_on_later_rows(day):
    check_that_later_rows_change_nothing(repair, day)


def test_a_day_is_judged_and_filled_by_earlier_days_only():
    check_that_days_are_judged_by_earlier_ones(repair, MORNINGS)


def leaky_repair(monkeypatch, *changes: tuple[str, str]) -> Repair:
    """Return the repair of a copy of the module with changed source."""
    source, copy = inspect_source.getsource(feed), ModuleType("leaky")
    for right, leak in changes:
        assert source.count(right) == 1
        source = source.replace(right, leak)
    monkeypatch.setitem(sys.modules, "leaky", copy)  # its dataclasses look it up
    exec(source, vars(copy))
    return copy.repair


def test_the_check_catches_a_repair_that_looks_at_what_arrived_later(monkeypatch):
    known = "check_contract(as_of(reports, day), routes, day)"
    leaky = leaky_repair(monkeypatch, (known, "reports[reports['ds'] < day]"))
    with pytest.raises(AssertionError):
        check_that_later_rows_change_nothing(leaky, MORNINGS[2])


def test_the_check_catches_a_repair_that_looks_at_the_next_week(monkeypatch):
    leaky = leaky_repair(
        monkeypatch,
        ("self.sound = np.full(grid.y.shape, np.nan)", "self.sound = grid.y.copy()"),
        ("np.arange(1, WEEKS + 1)", "np.arange(-1, WEEKS + 1)"),
        ("before[before >= 0]", "before[(before >= 0) & (before < len(self.sound))]"),
    )
    with pytest.raises(AssertionError):
        check_that_days_are_judged_by_earlier_ones(leaky, MORNINGS)
