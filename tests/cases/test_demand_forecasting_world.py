"""Case 01: what its world and its oracle promise, measured against its truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from demand_forecasting_shared import CASE, DAY, without_feed, world
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting import oracle as samples
from casebook.cases.demand_forecasting import world as module
from casebook.cases.demand_forecasting.oracle import (
    add_oracle,
    complete_oracle,
    oracle_paths,
    oracle_quantiles,
)
from casebook.cases.demand_forecasting.studies import TEST
from casebook.cases.demand_forecasting.world import (
    BREAK_FIRST_DAY,
    DAYS,
    KEYS,
    SEED,
    Constants,
    World,
    holiday_calendar,
    oracle,
    simulate,
    snapshots,
)
from casebook.data import snapshot
from casebook.forecasting.bands import coverage
from casebook.forecasting.hierarchy import Hierarchy, aggregate, from_ids
from casebook.project import data_dir

SEEDS = [SEED, 1, 2]
#: What holds for sums over worlds is measured on all three, what is drawn anew in each on two.
#: A mechanism is taken apart in one: its code is the same in all.
each_seed = pytest.mark.parametrize("seed", SEEDS[:2])
#: What is promised, written out once more: a constant that changes is a promise that breaks.
DEPOTS = {"BR": 3, "DE": 5, "FR": 4, "PL": 3, "TR": 3, "US": 6}
WEEK = np.array([1.12, 1.18, 1.12, 1.08, 1.05, 0.55, 0.15])
WEEK_CHANGE = np.array([0.98, 0.97, 0.98, 1.00, 1.02, 1.35, 1.60])
HOLIDAY, EVE, BACKLOG, DISPERSION = 0.10, 1.12, (1.35, 1.15), 80
SHOCK_PHI, SHOCK_SD, SHOCK_SHARED = 0.92, 0.10, 0.6
#: Constants that switch a mechanism off.
NO_HOLIDAYS = {"HOLIDAY": 1.0, "EVE": 1.0, "BACKLOG": (1.0, 1.0)}
NO_WEEK = {"WEEK": (1.0,) * 7, "STEEPNESS": (0.0, 0.0)}
NO_GROWTH = {"GROWTH": (0.0, 0.0), "OWN_GROWTH": (0.0, 0.0)}
NO_PEAK, NO_LIFT, NO_RAMP = {"PEAK": (0.0, 0.0)}, {"LIFT": (0.0, 0.0)}, {"RAMP_START": 1.0}
NO_BREAK = {"BREAK_SIZE": (0.0, 0.0), "WEEK_CHANGE": (1.0,) * 7}


@cache
def truth(seed: int, **constants) -> pd.DataFrame:
    """Return the truth with its intensity, country and depot."""
    frame = without_feed(seed, **constants).truth if constants else world(seed).truth
    routes = world(seed).routes.set_index("unique_id")
    return frame.assign(
        mu=frame["base"] * np.exp(frame["jump"] + frame["shock"]),
        country=frame["unique_id"].map(routes["country"]),
        depot=frame["unique_id"].map(routes["depot"]),
    )


def effect(off: dict) -> pd.DataFrame:
    """Return the chapter's truth with the factor that a mechanism has on the intensity."""
    return truth(SEED).assign(factor=truth(SEED)["base"] / without_feed(SEED, **off).truth["base"])


def by_day(frame: pd.DataFrame, key: str, value: str) -> pd.DataFrame:
    """Return a table of days by countries (or depots) of what is the same in all their routes."""
    groups = frame.groupby(["ds", key])[value]
    assert np.ptp(groups.agg(["min", "max"]).to_numpy(), axis=1).max() < 1e-9
    return groups.first().unstack()


@cache
def country_holidays(country: str) -> pd.Series:
    """Return the factor of holidays, eves and backlogs of a country, by day."""
    factor = effect(NO_HOLIDAYS)
    return by_day(factor[factor["country"] == country], "country", "factor")[country]


# The same world each time -------------------------------------------------------------


def frames(of: World) -> dict[str, pd.DataFrame]:
    """Return the tables of a world by name."""
    return {name: value for name, value in vars(of).items() if name != "constants"}


def test_the_same_seed_gives_the_same_world_bit_by_bit():
    again = simulate(1)
    assert again.constants == world(1).constants == Constants()
    for name, frame in frames(world(1)).items():
        assert_frame_equal(getattr(again, name), frame, check_exact=True)
        assert name == "calendar" or not getattr(world(), name).equals(frame), name


def test_holidays_have_the_same_names_on_every_machine(monkeypatch):
    monkeypatch.setenv("LANGUAGE", "de")
    assert_frame_equal(module._holidays.__wrapped__(), holiday_calendar())
    assert "Easter Monday" in set(holiday_calendar()["holiday"])


def test_the_committed_files_are_what_the_world_makes_and_the_data_card_says_what_is_in_them():
    made, known = snapshots(), world()
    files = {p.name: p.stat().st_size for p in (data_dir() / CASE).glob("*.parquet")}
    assert made.keys() == files.keys() and "truth.parquet" not in made
    assert max(files.values()) < 2e6
    card = (data_dir() / CASE / "README.md").read_text()
    for name, frame in made.items():
        assert_frame_equal(snapshot(CASE, name), frame, check_exact=True)
        row = next(line for line in card.splitlines() if line.startswith(f"| `{name}`"))
        assert all(f"`{column}`" in row for column in frame.columns)
    parcels = known.truth["y"].sum() / len(DAYS)
    rows = known.faults["fault"].value_counts()
    assert f"about {round(parcels, -2):,.0f} parcels a day" in card
    assert f"stands for about {5 * round(2e6 / parcels):.0f} there" in card
    assert f"{len(known.reports):,} reported rows" in card
    assert all(f"({rows[fault]} rows)" in card for fault in ("missing", "wrong unit", "late"))


# Size and what may be seen ------------------------------------------------------------


@each_seed
def test_the_world_has_6_countries_24_depots_and_120_routes_over_1277_days(seed):
    routes, days = world(seed).routes, world(seed).truth["ds"]
    assert routes.nunique()[["country", "depot", "unique_id"]].tolist() == [6, 24, len(routes)]
    assert routes.groupby("country")["depot"].nunique().to_dict() == DEPOTS
    assert len(routes) == 120 and (routes.groupby("depot")["unique_id"].size() == 5).all()
    path = routes["unique_id"].str.split("/", expand=True)
    assert (path[0] == routes["country"]).all() and (path[1] == routes["depot"]).all()
    parcels = truth(seed).groupby("depot")["y"].sum() / len(DAYS)
    assert 20_000 < parcels.sum() < 35_000
    assert parcels.min() > 100 and parcels.max() < parcels.sum() / 4
    assert days.nunique() == len(DAYS) == 1277
    assert (days.min(), days.max()) == (pd.Timestamp("2021-01-01"), pd.Timestamp("2024-06-30"))


def test_what_a_model_may_see_holds_no_truth():
    assert {name: list(frame.columns) for name, frame in frames(world()).items()} == {
        "reports": [*KEYS, "y", "received"],
        "routes": ["unique_id", "country", "depot", "distance_km", "opens", "closes"],
        "calendar": ["country", "ds", "holiday"],
        "promotions": KEYS,
        "truth": [*KEYS, "y", "base", "jump", "shock"],
        "faults": [*KEYS, "fault"],
    }


# Mechanisms of the intensity ----------------------------------------------------------


def test_the_level_falls_with_the_distance_as_promised():
    factor = effect({"DISTANCE_DECAY": 0.0}).groupby("unique_id")["factor"].first()
    routes = world().routes.set_index("unique_id")
    usual = truth(SEED).groupby("unique_id")["y"].mean() > 1
    expected = (routes["distance_km"] / 400) ** -0.4
    pd.testing.assert_series_equal(factor[usual], expected[usual], check_names=False)
    assert (factor[~usual] == 1).all()
    assert routes["distance_km"].between(30, 899).all()


def test_growth_is_that_of_the_country_and_a_little_of_the_route():
    growth = effect(NO_GROWTH)
    years = (growth["ds"] - DAYS[0]).dt.days / 365.25
    growth["rate"] = np.log(growth["factor"]) / years
    rates = growth[growth["ds"] > "2021-12"].groupby(["country", "unique_id"])["rate"]
    assert (rates.max() - rates.min()).max() < 1e-9  # the same all life long
    rates = rates.first()
    by_country = rates.groupby("country")
    assert rates.between(-0.04, 0.13).all()
    assert (by_country.max() - by_country.min()).between(0.03, 0.08).all()
    assert by_country.mean().between(-0.02, 0.11).all() and np.ptp(by_country.mean()) > 0.02


def test_the_season_is_two_yearly_waves_of_the_country():
    still = NO_HOLIDAYS | NO_WEEK | NO_GROWTH | NO_PEAK | NO_LIFT | NO_RAMP
    log = truth(SEED, **still).assign(log=lambda d: np.log(d["base"]))
    log["log"] -= log.groupby("unique_id")["log"].transform("first")
    whole = log.groupby("unique_id").filter(lambda d: len(d) == len(DAYS))
    season = by_day(whole, "country", "log")
    angle = 2 * np.pi * DAYS.dayofyear.to_numpy() / 365.25
    columns = [np.ones(len(DAYS))] + [f(k * angle) for k in (1, 2) for f in (np.cos, np.sin)]
    waves, residual, *_ = np.linalg.lstsq(np.column_stack(columns), season, rcond=None)
    assert residual.max() < 1e-9
    for wave, low, high in ((waves[1:3], 0.04, 0.10), (waves[3:5], 0.02, 0.05)):
        assert ((np.hypot(*wave) > low) & (np.hypot(*wave) < high)).all()


def test_every_december_has_a_peak():
    peak = by_day(effect(NO_PEAK), "country", "factor")
    for year in (2021, 2022, 2023):
        assert (peak.loc[str(year)].idxmax() == pd.Timestamp(year, 12, 10)).all()
        assert peak.loc[f"{year}-12-10"].between(1.25, 1.45).all()
        assert (peak.loc[f"{year}-01-15" : f"{year}-10-31"] < 1.005).all(axis=None)


def test_the_weekday_profile_is_that_of_the_country():
    flat = truth(SEED, STEEPNESS=(1.0, 1.0))
    week = flat["base"] / without_feed(SEED, **NO_WEEK).truth["base"]
    profile = by_day(flat.assign(factor=week), "country", "factor")
    weekday = profile.index.dayofweek
    for country in DEPOTS:
        values = profile[country].groupby(weekday).agg(["min", "max"])
        assert np.ptp(values.to_numpy(), axis=1).max() < 1e-9
        assert (values["min"] / WEEK).between(0.93, 1.07).all()
        assert values["min"].idxmin() == 6
    assert (profile.nunique(axis=1) == 6).all()


# Holidays -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("country", "holiday", "dates"),
    [
        ("DE", "Easter Monday", ["2021-04-05", "2022-04-18", "2023-04-10", "2024-04-01"]),
        ("BR", "Good Friday", ["2021-04-02", "2022-04-15", "2023-04-07", "2024-03-29"]),
        ("TR", "Eid al-Fitr", ["2021-05-13", "2022-05-02", "2023-04-21", "2024-04-10"]),
        ("US", "Thanksgiving Day", ["2021-11-25", "2022-11-24", "2023-11-23"]),
    ],
)
def test_moving_holidays_move(country, holiday, dates):
    calendar = holiday_calendar()
    rows = calendar[(calendar["country"] == country) & calendar["holiday"].str.contains(holiday)]
    first = rows.groupby(rows["ds"].dt.year)["ds"].min()
    assert first.dt.strftime("%Y-%m-%d").tolist() == dates
    assert first.dt.strftime("%m-%d").is_unique
    assert np.allclose(country_holidays(country)[first], HOLIDAY)


def test_eves_and_backlogs_stand_around_holidays_of_the_working_week():
    germany = country_holidays("DE").round(9)
    easter = germany["2023-04-06":"2023-04-13"].tolist()
    friday_to_saturday = [EVE, HOLIDAY, BACKLOG[0]]
    assert easter == [*friday_to_saturday, 1, HOLIDAY, *BACKLOG, 1]
    # New Year's Day 2023 was a Sunday: no eve, no backlog.
    assert germany["2022-12-29":"2023-01-04"].tolist() == [1, 1, 1, HOLIDAY, 1, 1, 1]
    # Ascension Day, a Thursday: the second day of the backlog is a Saturday.
    assert germany["2023-05-17":"2023-05-20"].tolist() == [EVE, HOLIDAY, *BACKLOG]
    turkey = country_holidays("TR").round(9)  # Friday to Sunday, then a week's work
    assert turkey["2023-04-20":"2023-04-26"].tolist() == [EVE, *[HOLIDAY] * 3, *BACKLOG, 1]


# Promotions ---------------------------------------------------------------------------


def test_a_route_has_one_lift_between_its_bounds_on_the_days_of_the_plan_alone():
    everyday = effect(NO_LIFT)
    lifted = everyday.loc[everyday["factor"] > 1 + 1e-9, KEYS].reset_index(drop=True)
    assert_frame_equal(lifted, world().promotions)
    promoted = everyday.merge(world().promotions)
    lift = promoted.groupby("unique_id")["factor"].agg(["min", "max"])
    assert np.allclose(lift["min"], lift["max"])
    assert lift["min"].between(np.exp(0.2), np.exp(0.5)).all()
    assert lift["min"].min() < 1.27 < 1.60 < lift["min"].max()


@each_seed
def test_a_promotion_is_a_planned_week_or_so_and_promotions_are_rare(seed):
    plan, routes = world(seed).promotions, world(seed).routes
    assert not plan.duplicated(KEYS).any()
    assert 0.05 < len(plan) / len(world(seed).truth) < 0.09
    new = plan.groupby("unique_id")["ds"].diff() != DAY
    length = plan.groupby(new.cumsum())["ds"].agg(["first", "size"])
    opened = {*routes["opens"], *(routes["closes"] - DAY)}
    whole = length[~length["first"].isin(opened) & (length["first"] < DAYS[-12])]["size"]
    assert whole.median() in (7, 8) and whole.between(5, 10).mean() > 0.9  # a few follow another
    year = plan[new.to_numpy()].groupby(["unique_id", (plan["ds"] - DAYS[0]).dt.days // 365]).size()
    assert year.max() <= 5 + 1  # one may reach over the end of a year


# Shocks, break and noise --------------------------------------------------------------


def test_shocks_have_the_promised_spread_and_memory_and_a_country_shares_them():
    tables = [by_day(truth(seed), "depot", "shock") for seed in SEEDS]
    pooled = pd.concat(tables, axis=1).to_numpy()
    assert np.sqrt(np.mean(pooled**2)) == pytest.approx(SHOCK_SD, rel=0.06)
    now, before = pooled[1:], pooled[:-1]
    assert (now * before).sum() / (before**2).sum() == pytest.approx(SHOCK_PHI, abs=0.006)
    within, across = [], []
    for depots in tables:
        news = (depots - SHOCK_PHI * depots.shift()).iloc[1:]
        correlation, country = news.corr().to_numpy(), depots.columns.str[:2].to_numpy()
        same = country[:, None] == country
        within += correlation[same & ~np.eye(len(same), dtype=bool)].tolist()
        across += correlation[~same].tolist()
    assert np.mean(within) == pytest.approx(SHOCK_SHARED, abs=0.02) and min(within) > 0.5
    assert np.mean(across) == pytest.approx(0, abs=0.02) and np.abs(across).max() < 0.15


@each_seed
def test_each_country_breaks_once_its_jump_fades_to_one_half_and_its_weekdays_change(seed):
    jump, starts = by_day(truth(seed), "country", "jump"), []
    levels = jump.sub(np.log(WEEK_CHANGE)[jump.index.dayofweek], axis=0).where(jump != 0, 0)
    for _, level in levels.items():
        broken = level.index[level != 0]
        start, size = broken[0], level[broken[0]]
        assert pd.Timestamp("2022-03-01") <= start <= pd.Timestamp("2022-05-01")
        assert len(broken) == (DAYS[-1] - start).days + 1  # for good
        assert max(0.22, 2 * SHOCK_SD) < abs(size) <= 0.40
        for half_lives in range(4):
            rest = level[start + half_lives * 120 * DAY] - size / 2
            assert rest == pytest.approx(size / 2 * 0.5**half_lives)
        starts.append(start)
    assert len(starts) == 6 and len(set(starts)) > 1
    weekly = jump.loc["2024"].groupby(jump.loc["2024"].index.dayofweek).mean()
    assert np.allclose(np.exp(weekly - weekly.loc[3]), WEEK_CHANGE[:, None], rtol=0.01)


@each_seed
def test_parcels_scatter_around_the_intensity_as_a_negative_binomial(seed):
    frame = truth(seed)
    size = pd.cut(frame["mu"], [0, 1, 50, 100, 300, np.inf], labels=False)
    assert frame["y"].sum() / frame["mu"].sum() == pytest.approx(1, abs=0.003)
    square = (frame["y"] - frame["mu"]) ** 2
    promised = frame["mu"] + frame["mu"] ** 2 / DISPERSION
    pearson = (square / promised).groupby(size).mean()
    assert len(pearson) == 5
    assert np.allclose(pearson, 1, atol=0.1)
    large = frame["mu"] > 100
    excess = ((square - frame["mu"])[large] / frame["mu"][large] ** 2).mean()
    assert 1 / excess == pytest.approx(DISPERSION, rel=0.05)


# Intermittent, opening and closing routes ---------------------------------------------


@each_seed
def test_a_tenth_of_the_routes_is_intermittent(seed):
    frame = truth(seed).assign(zero=truth(seed)["y"] == 0)
    routes = frame.groupby("unique_id")[["y", "zero"]].mean()
    sparse = routes[routes["y"] < 1]
    assert len(sparse) == 12 and (sparse["zero"] > 0.4).all() and (sparse["y"] > 0).all()
    usual = routes.drop(sparse.index)
    assert (usual["y"] > 8).all() and usual["zero"].median() < 0.01
    rare = frame[frame["unique_id"].isin(sparse.index)]
    ratio = ((rare["y"] - rare["mu"]) ** 2).sum() / rare["mu"].sum()
    assert ratio == pytest.approx(1, abs=0.08)  # as good as Poisson


@each_seed
def test_routes_open_and_close_as_the_master_data_say(seed):
    routes = world(seed).routes.set_index("unique_id")
    opened = routes["opens"][routes["opens"] > DAYS[0]]
    late = opened[opened > DAYS[-120]]
    assert (len(opened), len(late), routes["closes"].notna().sum()) == (10, 4, 4)
    assert late.between(DAYS[-109], DAYS[-30]).all()
    assert opened.drop(late.index).between(DAYS[600], DAYS[999]).all()
    closed = routes["closes"].dropna()
    assert closed.between(DAYS[700], DAYS[1149]).all()
    assert not opened.index.intersection(closed.index).any()
    sparse = truth(seed).groupby("unique_id")["y"].mean() < 1
    assert not sparse[opened.index.union(closed.index)].any()


@each_seed
def test_the_truth_has_one_row_for_every_day_of_every_life(seed):
    """Known from the master data alone."""
    rows = world(seed).routes.merge(pd.DataFrame({"ds": DAYS}), how="cross")
    lives = rows.loc[(rows["opens"] <= rows["ds"]) & ~(rows["closes"] <= rows["ds"]), KEYS]
    frame = world(seed).truth
    assert_frame_equal(frame[KEYS], lives.reset_index(drop=True))
    assert not frame.isna().any(axis=None) and (frame["y"] >= 0).all()


def test_a_new_route_fills_up_over_weeks():
    ramp = effect(NO_RAMP).merge(world().routes[["unique_id", "opens"]])
    age = (ramp["ds"] - ramp["opens"]).dt.days
    new = ramp["opens"] > DAYS[0]
    assert np.allclose(ramp["factor"][~new], 1)
    for days, share in ((0, 0.4), (14, 0.7)):
        assert np.allclose(ramp["factor"][new & (age == days)], share)
    assert (ramp["factor"][new & (age > 90)] > 0.99).all()


# Faults -------------------------------------------------------------------------------


def faults(seed: int, fault: str) -> pd.DataFrame:
    """Return the rows with a fault, with their truth and what the master data say of them."""
    frame = world(seed).faults.query("fault == @fault").merge(truth(seed), on=KEYS)
    return frame.sort_values(KEYS, ignore_index=True)


@each_seed
def test_the_faults_are_as_many_as_promised_and_that_of_a_file_takes_all_its_routes(seed):
    assert not world(seed).faults.duplicated(KEYS).any()  # no row has two
    assert set(world(seed).faults["fault"]) == {"missing", "duplicated", "wrong unit", "late"}
    assert len(faults(seed, "duplicated")) == 60
    files = (("missing", "depot", 30), ("wrong unit", "depot", 21), ("late", "country", 30))
    for fault, key, count in files:
        everything = truth(seed).groupby([key, "ds"]).size()
        hit = faults(seed, fault).groupby([key, "ds"]).size()
        assert len(hit) == count and hit.equals(everything[hit.index])
    unit = faults(seed, "wrong unit")
    assert unit["depot"].nunique() == 1
    assert unit["ds"].nunique() == 21 == (unit["ds"].max() - unit["ds"].min()).days + 1


@each_seed
def test_the_reports_are_the_truth_but_for_the_planted_faults(seed):
    rows = world(seed).truth[[*KEYS, "y"]].merge(world(seed).faults, how="left")
    unit, missing = rows["fault"] == "wrong unit", rows["fault"] == "missing"
    rows["y"] = rows["y"].where(~unit, (rows["y"] / 100).round()).astype(int)
    rows = pd.concat([rows[~missing], rows[rows["fault"] == "duplicated"]])
    rows = rows.sort_values(KEYS, ignore_index=True)
    reports = world(seed).reports
    assert_frame_equal(reports[[*KEYS, "y"]], rows[[*KEYS, "y"]], check_exact=True)
    delay = (reports["received"] - reports["ds"]).dt.days
    late = rows["fault"] == "late"
    assert (delay[~late] == 1).all()
    assert delay[late].between(4, 7).all() and delay[late].nunique() > 1
    assert reports["received"].max() <= DAYS[-1] + DAY  # nothing arrives after today


@each_seed
def test_some_rows_are_still_under_way_at_each_of_the_last_six_planning_runs(seed):
    reports = world(seed).reports
    for run in range(1, 7):
        origin = DAYS[-28 * run]
        past = reports[reports["ds"] < origin]
        unknown = past[past["received"] > origin]
        assert 0 < len(unknown) < 0.4 * (past["ds"] == origin - DAY).sum() * 3
        assert (unknown["ds"] >= origin - 3 * DAY).any()
    late = faults(seed, "late").drop_duplicates(["country", "ds"])
    assert (late["ds"] >= DAYS[-171]).sum() == 6
    assert late["country"].nunique() >= 4


# Oracle -------------------------------------------------------------------------------


def test_before_the_break_the_oracle_does_not_know_of_it():
    start = truth(SEED).query("jump != 0")["ds"].min()
    unaware = without_feed(SEED, **NO_BREAK)
    for origin in (start - 20 * DAY, start):
        frame = oracle(world(), origin, 28)
        assert_frame_equal(frame, oracle(unaware, origin, 28))
        assert frame.merge(truth(SEED), on=KEYS)["jump"].ne(0).any()
    known, ignored = (oracle(w, start + DAY, 28)["oracle"] for w in (world(), unaware))
    assert not np.isclose(known, ignored).all()


@each_seed
def test_the_oracle_answers_for_the_routes_that_were_open_the_day_before(seed):
    opens = world(seed).routes["opens"].max()
    frame = world(seed).truth
    for origin in (opens, opens + DAY, DAYS[-28]):
        made = oracle(world(seed), origin, 28)
        before = set(frame.loc[frame["ds"] == origin - DAY, "unique_id"])
        future = frame[frame["ds"].between(origin, origin + 27 * DAY)]
        expected = future.loc[future["unique_id"].isin(before), KEYS].reset_index(drop=True)
        assert_frame_equal(made[KEYS], expected)
        assert list(made.columns) == [*KEYS, "oracle"]
    new = world(seed).routes.set_index("unique_id")["opens"].idxmax()
    assert new not in set(oracle(world(seed), opens, 28)["unique_id"])
    assert new in set(oracle(world(seed), opens + DAY, 20)["unique_id"])


@pytest.mark.parametrize(
    ("origin", "horizon"), [(DAYS[0], 7), (DAYS[-27], 28), (DAYS[-1] + DAY, 1), (DAYS[100], 0)]
)
def test_days_that_the_world_does_not_hold_are_refused(origin, horizon):
    with pytest.raises(ValueError, match=f"no {horizon} days to forecast from {origin:%Y-%m-%d}"):
        oracle(world(), origin, horizon)


@cache
def tree() -> Hierarchy:
    return from_ids(world().routes["unique_id"], ["country", "depot", "route"])


def assert_mean_is_the_oracle(origin: str) -> None:
    """Samples and formula must agree: both know the same, by different ways."""
    origin = pd.Timestamp(origin)
    paths = oracle_paths(world(), origin, n=600)
    wide = complete_oracle(world(), origin).pivot(index="ds", columns="unique_id", values="oracle")
    mean = paths.values.mean(axis=0)
    expected = wide[paths.routes].fillna(0).to_numpy()
    assert mean.sum() == pytest.approx(expected.sum(), rel=0.01)
    np.testing.assert_allclose(mean.sum(axis=1) / expected.sum(axis=1), 1, atol=0.02)


@pytest.mark.parametrize("origin", ["2024-03-11", BREAK_FIRST_DAY, "2022-05-20"])
def test_the_mean_of_the_samples_is_the_oracle(origin):
    assert_mean_is_the_oracle(origin)


def test_an_oracle_that_forgets_the_shocks_is_found(monkeypatch):
    monkeypatch.setattr(samples, "SHOCK_PHI", 0.0)
    with pytest.raises(AssertionError):
        assert_mean_is_the_oracle("2024-03-11")


def test_its_band_holds():
    days = pd.date_range("2023-02-01", periods=12, freq="35D")
    rows = world().truth[["unique_id", "ds", "y"]]
    parts = []
    for day in days:
        true = oracle_quantiles(world(), day, tree(), (0.1, 0.5, 0.9), n=200)
        actual = aggregate(rows[rows["ds"].isin(true["ds"])], tree())
        parts.append(actual.merge(true.rename(columns={0.1: "low", 0.9: "high"})))
    table = coverage(pd.concat(parts)).set_index("level")["coverage"]
    # Whole parcels: a sparse route's band holds a little more than 80 %.
    assert 0.78 < table["route"] < 0.87 and table["depot"] == pytest.approx(0.8, abs=0.05)
    assert table["total"] == pytest.approx(0.8, abs=0.15)


def test_the_oracle_of_all_levels_is_complete_and_unbiased():
    history = aggregate(world().truth, tree())
    days = {day: history["ds"].between(day, day + 27 * DAY) for day in TEST[-3:]}
    parts = [history[ahead].assign(origin=day) for day, ahead in days.items()]
    done = add_oracle(pd.concat(parts), world(), tree())
    assert done["oracle"].notna().all()
    sums = done.groupby("level")[["y", "oracle"]].sum()
    assert sums["oracle"].nunique() == 1 or np.ptp(sums["oracle"]) < 1e-3
    assert (np.abs(sums["oracle"] / sums["y"] - 1) < 0.1).all()


def test_a_route_that_opens_takes_the_state_of_its_depot():
    late = world().routes[world().routes["opens"] > DAYS[-120]]
    name, depot, day = late[["unique_id", "depot", "opens"]].iloc[0]
    full = complete_oracle(world(), day - 5 * DAY, 28).merge(world().truth, on=KEYS)
    full["state"] = full["oracle"] / full["base"]
    same = full[full["unique_id"].str.contains(f"/{depot}/")]
    assert name in set(same["unique_id"])
    assert (same.groupby("ds")["state"].agg(np.ptp) < 1e-9).all()
