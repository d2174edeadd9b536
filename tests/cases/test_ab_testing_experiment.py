"""Case 10: plan, log, split gate, effects, fading novelty, designs, decision and report."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from casebook.cases.ab_testing import events
from casebook.cases.ab_testing.constants import AB, BROKEN
from casebook.cases.ab_testing.decide import Economics, decide
from casebook.cases.ab_testing.experiment import RESULTS, Experiment, LookNotPlanned, SplitBroken
from casebook.cases.ab_testing.plan import NEW_FEED, PlanError, read_plan
from casebook.cases.ab_testing.report import main, report_html
from casebook.cases.ab_testing.world import World, simulate
from casebook.evaluate import designs, experiments, novelty, sequential, variance
from casebook.evaluate.assign import CONTROL, TREATMENT
from casebook.evaluate.event_quantiles import quantile_effect
from casebook.evaluate.experiments import welch
from casebook.evaluate.guardrails import Guard
from casebook.evaluate.intervals import Interval

SMALL_PLAN = NEW_FEED | {"users": 24_000, "mde": 0.15}
#: The small world's users, half of them treated: sharp and cheap.
EVEN = {"shares": {CONTROL: 0.5, TREATMENT: 0.5}, "users": 16_000}


@cache
def world(kind: str = "small", seed: int = 3) -> World:
    made = {
        "small": replace(AB, users=24_000),
        "broken": replace(BROKEN, users=60_000),
        "cluster": replace(AB, **EVEN, unit="cluster", salt="communities"),
    }
    return simulate(seed, made[kind])


@cache
def experiment(kind: str = "small", seed: int = 3) -> Experiment:
    made, plan = world(kind, seed), SMALL_PLAN
    if kind == "cluster":
        plan = plan | {"unit": "cluster", "shares": EVEN["shares"], "users": EVEN["users"]}
    units = made.units if kind == "cluster" else None
    return Experiment(plan, made.exposures, made.log, made.users, units=units)


# The plan -----------------------------------------------------------------------------

WRONG = {
    "days": ({"days": 10}, "days is 10: take whole weeks"),
    "typo": ({"alhpa": 0.05}, "alhpa is no field of a plan"),
    "power": ({"mde": 0.001}, "control has 20,000 users and needs"),
    "shares": ({"shares": {"control": 0.5, "treatment": 0.4}}, "sum to 1"),
    "arms": ({"shares": {"a": 0.5, "b": 0.5}}, "shares lack control and treatment"),
    "looks": ({"looks": 14}, "stopping is fixed with 14 looks"),
    "alpha": ({"alpha": 0.9}, "alpha Input should be less than or equal to 0.2"),
    "salt": ({"salt": "a:bc"}, "salt is 'a:bc': give what matches"),
    "1970": ({"start": 0}, "start Input should be greater than or equal to 2000"),
    "blank": ({"secondary": [NEW_FEED["secondary"][0] | {"name": " "}]}, "name is ' ': give"),
    "over itself": (
        {"secondary": [NEW_FEED["secondary"][1] | {"numerator": "impressions"}]},
        "impressions over itself is always 1",
    ),
    "leak": ({"covariates": ["sessions"]}, "covariates.0 Input should be"),
    "no guardrail": ({"guardrails": []}, "guardrails Tuple should have at least 1 item"),
    "no margin": (
        {"guardrails": [{"name": "load", "kind": "mean", "column": "clicks"}]},
        "guardrails load have no margin",
    ),
    "kind": (
        {"primary": {"name": "x", "kind": "ratio", "column": "minutes"}},
        "primary a ratio needs numerator and denominator",
    ),
    "by session": (
        {"secondary": [{"name": "x", "kind": "mean", "column": "load_ms"}]},
        "load_ms is read by session",
    ),
    "downwards": ({"primary": NEW_FEED["primary"] | {"better": "down"}}, "better up"),
    "too small": ({"mde": 1e-200}, "mde Input should be greater"),
    "endless": ({"shares": {"control": np.inf, "treatment": 0.5}}, "must be positive"),
    "no gate": ({"srm_alpha": 1e-300}, "srm_alpha Input should be greater than or equal to 0.001"),
    "a look twice a day": ({"stopping": "obrien_fleming", "looks": 28}, "there are 14 days"),
    "sequential size": (
        {"stopping": "always_valid", "looks": 14},
        "control has 20,000 users and needs 23,1",
    ),
    "information": (
        {"stopping": "obrien_fleming", "looks": 2, "information": (0.7, 0.9)},
        "information has 2 shares for 2 looks: give one for each, rising to 1",
    ),
    "twice": ({"secondary": [NEW_FEED["primary"] | {"name": "Minutes"}]}, "minutes is named twice"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_plan_says_what_is_wrong(fault):
    change, says = WRONG[fault]
    with pytest.raises(PlanError, match=re.escape(says)):
        read_plan(NEW_FEED | change)


def test_a_missing_field_a_missing_file_and_broken_toml_are_told(tmp_path):
    with pytest.raises(PlanError, match="primary is missing"):
        read_plan({k: v for k, v in NEW_FEED.items() if k != "primary"})
    with pytest.raises(PlanError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(PlanError, match="cannot be read"):
        read_plan(tmp_path / "bad.toml")


def test_no_result_before_the_plan_is_checked():
    with pytest.raises(PlanError):
        Experiment(NEW_FEED | {"days": 10}, None, None, None)


def test_planned_looks_need_a_few_users_more():
    fixed = read_plan(NEW_FEED).needed
    looks = read_plan(NEW_FEED | {"stopping": "obrien_fleming", "looks": 5}).needed
    assert looks == pytest.approx(1.028 * fixed, rel=2e-3)


# The log ------------------------------------------------------------------------------


def test_a_row_that_is_repaired_counts_and_a_mistyped_one_switches_no_rule_off():
    log = world().log.head(2_000)
    broken = log.assign(minutes=-1.0)
    later = log.assign(received=log["received"] + pd.Timedelta("1D"))
    whole, plan = events.clean(log, read_plan(SMALL_PLAN)), read_plan(SMALL_PLAN)
    cleaned = events.clean(pd.concat([broken, later]), plan)
    assert {*cleaned.sessions["event"]} == {*whole.sessions["event"]}
    odd = log.astype({"minutes": object, "arm": object}).reset_index(drop=True)
    odd.loc[3, "minutes"], odd.loc[7, "minutes"], odd.loc[9, "arm"] = "9", 50_000.0, "blue"
    zoned = odd.assign(**{n: odd[n].dt.tz_localize("UTC") for n in ("time", "received")})
    found = events.clean(zoned, plan, "2026-04-01T00:00Z")
    assert {7, 9} <= {*found.quarantined.index}
    assert 9.0 in found.sessions["minutes"].to_numpy()


def test_cleaning_finds_exactly_what_the_transport_planted():
    made, cleaned = world(), experiment().cleaned
    kind = made.faults.groupby("fault")["event"].agg(set)
    assert cleaned.counts["twice"] == len(kind["twice"])
    assert {*cleaned.quarantined["event"]} == kind["wrong clock"]
    assert "1970-01-01" in cleaned.lines[0]
    assert "correct the client's clock" in cleaned.lines[0]
    switched = set(made.log.loc[made.log["event"].isin(kind["both arms"]), "user"])
    out = cleaned.left_out.groupby("why")["user"].agg(set)
    assert out["both_arms"] <= switched
    bots = set(made.truth.loc[made.truth["bot"], "user"])
    assert len(out["crawlers"] & bots) >= 0.9 * len(bots)
    assert len(out["crawlers"] - bots) <= 1
    assert not cleaned.sessions["event"].duplicated().any()


def test_rows_of_any_order_and_sent_again_give_the_same_users():
    made = world()
    mixed = pd.concat([made.log, made.log.sample(500, random_state=1)]).sample(
        frac=1, random_state=2
    )
    again = Experiment(SMALL_PLAN, made.exposures, mixed, made.users)
    pd.testing.assert_frame_equal(again.people, experiment().people)


def test_what_was_not_received_yet_is_waited_for():
    made, until = world(), "2026-03-10"
    early = events.clean(made.log, read_plan(SMALL_PLAN), until)
    assert early.counts["waiting"] == (made.log["received"] > until).sum() > 1_000
    assert early.sessions["received"].max() <= pd.Timestamp(until)
    later = events.clean(made.log, read_plan(SMALL_PLAN), "2026-04-01")
    assert later.counts["waiting"] == 0
    assert len(later.sessions) > len(early.sessions)


BAD = {
    "minutes": (5_000.0, "minutes is not between 0 and 1440"),
    "clicks": (10**6, "clicks is not between"),
    "revenue": (-1.0, "revenue is not between"),
    "load_ms": (np.nan, "load_ms is empty"),
    "arm": ("blue", "the arm is neither of the two compared"),
    "received": (pd.Timestamp("2026-03-01"), "received before it happened"),
}


@pytest.mark.parametrize("column", BAD)
def test_a_bad_row_is_refused_with_its_reason_and_the_others_go_on(column):
    value, says = BAD[column]
    log = world().log.head(400).copy()
    log.loc[7, column] = value
    cleaned = events.clean(log, read_plan(SMALL_PLAN))
    assert log.loc[7, "event"] in {*cleaned.quarantined["event"]}
    assert any(says in line for line in cleaned.lines)
    assert len(cleaned.sessions) > 300


def test_a_log_without_a_column_without_rows_or_of_other_users_is_told():
    made, plan = world(), read_plan(SMALL_PLAN)
    with pytest.raises(ValueError, match="no column"):
        events.clean(made.log.drop(columns="minutes"), plan)
    with pytest.raises(SplitBroken, match="0 users are left"):
        Experiment(plan, made.exposures, made.log.iloc[:0], made.users).results()
    with pytest.raises(ValueError, match="users that `users` lacks"):
        Experiment(plan, made.exposures, made.log, made.users.head(10)).results()


def test_users_have_the_sums_of_their_sessions():
    people, sessions = experiment().people, experiment().cleaned.sessions
    sums = sessions.groupby("user")[["minutes", "clicks"]].sum().loc[people["user"]]
    assert people["minutes"].to_numpy() == pytest.approx(sums["minutes"].to_numpy())
    first = sessions.groupby("user")["day"].min().loc[people["user"]]
    assert (people["day"].to_numpy() == first.to_numpy()).all()
    daily = events.by_day(sessions, people, 14)
    assert daily.sum(axis=1) == pytest.approx(people["minutes"].to_numpy())
    since = novelty.since_exposure(daily, people["day"].to_numpy())
    assert np.nansum(since) == pytest.approx(daily.sum())
    assert (np.isfinite(since).sum(axis=1) == 14 - people["day"]).all()


# The split ----------------------------------------------------------------------------


def test_a_broken_split_shows_no_result_and_says_where():
    here = experiment("broken")
    assert not here.in_order
    for show in (here.results, here.guards, here.over_days, here.daily, here.lasting):
        with pytest.raises(SplitBroken, match="not the planned one"):
            show()
    assert here.verdict().decision == "invalid"
    found = here.diagnosis()
    broken = set(found.loc[found["p_adjusted"] < 0.01, "segment"])
    assert {"unknown", "old", "web"} <= broken
    assert not {"ios", "android", "current"} & broken


def test_two_gates_share_their_error():
    plan = read_plan(SMALL_PLAN)
    rng, shares = np.random.default_rng(1), np.array([*plan.shares.values()])
    counts = rng.multinomial(20_000, shares, 60_000)
    gap = counts - 20_000 * shares
    exposed = chi2.sf((gap**2 / (20_000 * shares)).sum(axis=1), 2)
    kept = rng.binomial(counts[:, :2], 0.97)  # cleaning removes a few of both arms
    after = chi2.sf((kept[:, 0] - kept[:, 1]) ** 2 / kept.sum(axis=1), 1)
    refused = [
        ((exposed < level) | (after < level)).mean() for level in (plan.gate_alpha, plan.srm_alpha)
    ]
    assert 0.005 < refused[0] <= 0.0105
    assert refused[1] > 0.013  # what each gate at the whole level would do
    table = pd.DataFrame({"arm": [*plan.shares], "users": [1_000, 865, 17_000]})
    table = table.assign(platform="ios", client="current", country="DE")
    made = world()
    odd = Experiment(plan, table, made.log, made.users)
    assert plan.gate_alpha < odd.srm.p < plan.srm_alpha
    assert odd.in_order


def test_a_split_in_order_has_no_segment_that_is_broken():
    assert experiment().in_order
    assert (experiment().diagnosis()["p_adjusted"] > 0.01).all()


def test_there_is_no_way_around_the_gate():
    made, here = world("broken"), experiment("broken")
    with pytest.raises(ValueError, match="leave out `units`"):
        Experiment(SMALL_PLAN, made.exposures, made.log, made.users, units={"control": 1})
    endless = made.exposures.assign(users=np.inf)
    with pytest.raises(ValueError, match="users counted"):
        Experiment(SMALL_PLAN, endless, made.log, made.users).results()
    with pytest.raises(SplitBroken):
        here.adjusted(here.plan.primary, "cuped")


def at(until=None, log=None, made=None, **changes) -> Experiment:
    made = made or world()
    log = made.log if log is None else log
    return Experiment(SMALL_PLAN | changes, made.exposures, log, made.users, until)


HALVES = {"stopping": "obrien_fleming", "looks": 2}


def test_nothing_is_shown_between_the_looks_of_the_plan():
    made = world()
    early = made.log[made.log["received"] <= "2026-03-06"]  # cut off, and nobody says `until`
    for running in (at("2026-03-06"), at(log=early), at("2026-03-08", **HALVES)):
        assert running.day < 7
        for show in (running.results, running.primary, running.guards, running.over_days):
            with pytest.raises(LookNotPlanned, match="looks next after day"):
                show()
        verdict, text = running.verdict(rule="value"), report_html(running)
        assert (verdict.decision, verdict.value) == ("hold", None)
        assert "<h2>Split" in text
        assert "<h2>Effects" not in text
        assert "safe" not in text
    assert "looks next after day 14" in at(log=early).verdict().reasons[0]
    assert at("2026-04-01").verdict().value == experiment().verdict().value
    assert at("2026-03-09", **HALVES).verdict().value is not None
    assert at("2026-03-06", stopping="always_valid", looks=14).primary().mean != 0


def test_each_look_has_its_bound_and_no_other():
    thirds = {"stopping": "obrien_fleming", "looks": 3}
    limits = sequential.bounds(3)
    for look, day in enumerate((5, 9, 14)):  # a third of 14 days, two thirds, all
        here = at(pd.Timestamp("2026-03-02") + pd.Timedelta(days=day), **thirds)
        assert here.planned_look() == look + 1
        se = here.effect(here.plan.primary, "cuped")[0].relative_se
        assert here.primary().high - here.primary().mean == pytest.approx(limits[look] * se)
        row = here.results().iloc[0]
        assert row["high"] - row["relative"] == pytest.approx(limits[look] * se)
        one = here.guards()[2]
        effect = here.effect(here.plan.guardrails[2], "cuped")[0]
        wide = sequential.bounds(3, 0.10)[look] * effect.relative_se
        assert one.worst == pytest.approx(-effect.relative + wide)
        with pytest.raises(LookNotPlanned):
            at(here._until + pd.Timedelta(days=-1), **thirds).planned_look()
    strict = at(alpha=0.01, mde=0.20)
    row, end = strict.results().iloc[0], strict.primary()
    assert [row["low"], row["high"]] == pytest.approx([end.low, end.high])
    assert end.high - end.mean == pytest.approx(2.5758 * row["se"], rel=1e-4)


def test_what_was_not_measured_gets_no_verdict_and_a_report_that_says_so():
    made = world()
    for lost in ({"minutes": 0.0}, {"impressions": 0, "clicks": 0, "hides": 0}):
        here = at(log=made.log.assign(**lost))
        verdict = here.verdict()
        assert (verdict.decision, verdict.value) == ("invalid", None)
        assert "Verdict: invalid" in report_html(here)
    with pytest.raises(ValueError, match="adjust is 'magic'"):
        experiment().verdict(adjust="magic")
    with pytest.raises(ValueError, match="must be numbers"):
        experiment().verdict(Economics(cost=np.nan))


def test_a_plan_is_read_again_whoever_made_it():
    plan, made = read_plan(SMALL_PLAN), world()
    for wrong in (plan.model_copy(update={"srm_alpha": 1e-300}), plan.model_construct(name="x")):
        with pytest.raises(PlanError):
            Experiment(wrong, made.exposures, made.log, made.users)
    here = Experiment(plan, made.exposures, made.log, made.users)
    plan.shares["control"] = 0.9
    assert here.plan.shares["control"] == 0.05


def test_a_log_that_contradicts_the_assignment_is_refused():
    made = world()
    swapped = made.log.assign(arm=made.log["arm"].map({CONTROL: TREATMENT, TREATMENT: CONTROL}))
    both = made.log[made.log["user"].str[-1] == "3"]  # nine of ten lost, from both arms
    for log, says in ((swapped, "another arm in the log"), (both, "exposed, and the log holds")):
        here = at(log=log)
        assert here.in_order
        assert here.kept.p > 0.01
        with pytest.raises(SplitBroken, match=says):
            here.results()
        assert here.verdict().decision == "invalid"
        assert says in report_html(here)
    with pytest.raises(SplitBroken, match="another arm"):
        at(salt="another").guards()
    odd = made.exposures.replace({"arm": {"rest": "Rest "}})
    with pytest.raises(ValueError, match=r"arms \['Rest '\], which the plan lacks"):
        Experiment(SMALL_PLAN, odd, made.log, made.users)
    with pytest.raises(ValueError, match=r"users: no column \['pre_minutes'\]"):
        Experiment(SMALL_PLAN, made.exposures, made.log, made.users.drop(columns="pre_minutes"))


def test_an_event_that_changes_is_counted_and_a_time_that_is_no_iso_is_refused():
    made, plan = world(), read_plan(SMALL_PLAN)
    log = made.log.head(1_000)
    again = log.iloc[:3].assign(received=log["received"].max(), minutes=[1.0, 2.0, 3.0])
    cleaned = events.clean(pd.concat([log, log.iloc[5:9], again]), plan)
    assert cleaned.counts["changed"] == 3
    texts = log.assign(time=log["time"].dt.strftime("%d/%m/%Y %H:%M"))
    assert len(events.clean(texts, plan).sessions) == 0
    iso = log.assign(time=log["time"].astype(str))
    assert len(events.clean(iso, plan).sessions) == len(events.clean(log, plan).sessions)


def test_a_cleaning_rule_that_removes_more_of_one_arm_is_found():
    made = world()
    treated = made.log["arm"] == TREATMENT
    kept = made.log[~(treated & made.log["user"].str[-1].isin(["3", "7"]))]
    here = Experiment(SMALL_PLAN, made.exposures, kept, made.users)
    assert here.in_order
    for show in (here.results, here.guards, here.over_days, here.daily, here.lasting):
        with pytest.raises(SplitBroken, match=r"users after cleaning.*`cleaned\.left_out` says"):
            show()
    assert here.verdict().decision == "invalid"
    assert "<h2>Effects" not in report_html(here)


# Effects ------------------------------------------------------------------------------


def test_the_results_are_those_of_the_plan_and_of_the_functions():
    here, frame = experiment(), experiment().results(None)
    assert list(frame) == RESULTS
    assert frame["metric"].tolist() == [*here.plan.metrics]
    people = here.people
    arms = [people.loc[people["arm"] == arm, "minutes"] for arm in (CONTROL, TREATMENT)]
    first = welch(*arms)
    assert frame.loc[0, ["relative", "low", "high", "p"]].tolist() == pytest.approx(
        [first.relative, first.relative_low, first.relative_high, first.p]
    )
    second = frame[frame["role"] == "secondary"]
    assert second["p_adjusted"].tolist() == experiments.adjusted(second["p"], "holm").tolist()
    assert (second["p_adjusted"] > second["p"]).any()
    rows = here.cleaned.sessions
    pairs = [(own["load_ms"], own["user"]) for _, own in rows.groupby("arm")]  # control first
    load = frame.set_index("metric").loc["load p95"]
    assert load["se"] == pytest.approx(quantile_effect(*pairs, 0.95).relative_se)
    assert frame.loc[frame["role"] == "guardrail", "p_adjusted"].isna().all()


@pytest.mark.parametrize("adjust", ["cuped", "cupac"])
def test_the_past_makes_the_interval_narrower(adjust):
    plain, less = (experiment().results(how).iloc[0] for how in (None, adjust))
    assert less["se"] < 0.7 * plain["se"]
    assert less["explained"] > 0.5


def test_each_mean_is_adjusted_by_its_own_past_and_guards_too():
    here = experiment()
    people, treated = here.people, (here.people["arm"] == TREATMENT).to_numpy()
    frame = here.results().set_index("metric")
    for name in ("minutes", "sessions", "revenue"):
        y = variance.cuped(people[name], people[f"pre_{name}"], people["arm"]).values
        found = welch(y[~treated], y[treated])
        assert frame.loc[name, ["relative", "p"]].tolist() == pytest.approx(
            [found.relative, found.p]
        )
    assert here.over_days()["relative"].iloc[-1] == pytest.approx(frame.loc["minutes", "relative"])
    assert here.verdict().guards == tuple(here.guards("cuped")) != tuple(here.guards(None))


def test_communities_are_counted_as_communities():
    here, made = experiment("cluster"), world("cluster")
    assert here.in_order
    with pytest.raises(ValueError, match="hand in `units`"):
        Experiment(here.plan, made.exposures, made.log, made.users)
    people = here.people
    treated = people["arm"] == TREATMENT
    found, _ = here.effect(here.plan.primary, None)
    wanted = designs.cluster_effect(people["minutes"], treated, people["cluster"])
    assert found == wanted
    by_user = welch(people.loc[~treated, "minutes"], people.loc[treated, "minutes"])
    assert wanted.se > 1.05 * by_user.se
    assert here.kept.table["users"].sum() == people["cluster"].nunique()
    assert designs.design_effect(people["minutes"], people["cluster"]) > 1.1
    for name in ("click rate", "load p95"):
        assert here.effect(here.plan.metrics[name][1])[0].se > 0
    last, whole = here.over_days(None).iloc[-1], here.results(None).iloc[0]
    assert last["se"] == pytest.approx(whole["se"])
    with pytest.raises(ValueError, match="compared by user"):
        here.lasting()
    with pytest.raises(ValueError, match="clusters hold users of both arms"):
        designs.cluster_effect(people["minutes"], np.arange(len(people)) % 2, people["cluster"])


def test_the_stopping_rule_widens_the_interval():
    width = {}
    for rule, looks in (("fixed", 1), ("obrien_fleming", 5), ("always_valid", 14)):
        end = at(stopping=rule, looks=looks).primary()
        width[rule] = end.high - end.low
    assert width["fixed"] < width["obrien_fleming"] < width["always_valid"]
    halves = []
    for known in ((), (0.2, 1.0)):  # equal steps, or a first look with a fifth of the information
        first = at("2026-03-09", **HALVES, information=known).primary()
        halves.append(first.high - first.mean)
    assert halves[1] / halves[0] == pytest.approx((0.5 / 0.2) ** 0.5, rel=0.02)


def test_the_days_end_with_the_result_and_always_valid_p_never_rises():
    days = experiment().over_days()
    last, whole = days.iloc[-1], experiment().results().iloc[0]
    assert last["relative"] == pytest.approx(whole["relative"], abs=1e-9)
    assert last["users"] == len(experiment().people)
    assert (days["p_always"].diff().dropna() <= 0).all()
    assert (days["low_always"] < days["low"]).all()


# What fades ---------------------------------------------------------------------------


def test_segments_are_put_together_by_their_weight():
    found = novelty.together([(Interval(0.1, 0.0, 0.2), 3.0), (Interval(-0.1, -0.2, 0.0), 1.0)])
    assert found.mean == pytest.approx(0.05)
    assert found.high - found.low == pytest.approx(2 * 0.1 * np.hypot(0.75, 0.25))
    here = experiment()
    prior, free = here.lasting(), here.lasting(prior=False)
    assert prior.high - prior.low < free.high - free.low


# The decision -------------------------------------------------------------------------


def safe(state: str = "safe") -> Guard:
    return Guard("load", 0.01, 0.02, 0.03, state, 1.0)


GOOD = Interval(0.04, 0.02, 0.06)
CASES = {
    "ship": (GOOD, [safe()], "evidence"),
    "hold, a guardrail is unclear": (GOOD, [safe("unclear")], "evidence"),
    "ship, a guardrail is unclear": (GOOD, [safe("unclear")], "value"),
    "stop, a guardrail is harmed": (GOOD, [safe(), safe("harmed")], "value"),
    "hold, no effect is possible": (Interval(0.03, -0.01, 0.07), [safe()], "evidence"),
    "ship, it is worth it": (Interval(0.03, -0.01, 0.07), [safe()], "value"),
    "hold, not worth it": (Interval(0.008, 0.002, 0.014), [safe()], "evidence"),
    "stop, even the best does not pay": (Interval(-0.02, -0.03, -0.01), [safe()], "value"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_function_decides(case):
    primary, guards, rule = CASES[case]
    found = decide(primary, 54.0, guards, Economics(), rule=rule)
    assert found.decision == case.split(",")[0]
    assert found.sentence
    assert found.reasons
    assert found.value.low < found.value.mean < found.value.high
    with pytest.raises(ValueError, match="evidence or value"):
        decide(primary, 54.0, guards, Economics(), rule="vote")


def test_what_lasts_decides_the_value():
    fades = decide(GOOD, 54.0, [safe()], Economics(), lasting=Interval(0.001, -0.02, 0.02))
    assert fades.decision == "hold"
    assert fades.value.mean < 0


def test_value_is_users_times_minutes_times_price_less_cost():
    money = Economics(users=100, periods=10, per_minute=0.5, cost=1_000)
    assert money.value(0.1, 20) == pytest.approx(100 * 10 * 20 * 0.5 * 0.1 - 1_000)
    assert money.value(0.1, 20, revenue=-0.05) == pytest.approx(10_000 * (1.1 * 0.95 - 1) - 1_000)
    assert money.value(money.break_even(20), 20) == pytest.approx(0, abs=1e-9)


def test_a_hold_asks_for_other_users_and_says_how_many():
    open_ = Guard("load", 0.02, 0.035, 0.03, "unclear", 5.3)
    said = decide(GOOD, 54.0, [open_], Economics()).sentence
    assert "5.3 times the users" in said
    assert "larger share" in said
    lost = decide(GOOD, 54.0, [replace(open_, needed=np.inf)], Economics()).sentence
    assert "inf" not in lost
    assert "larger share" in lost
    assert "larger share" not in decide(GOOD, 54.0, [safe()], Economics()).sentence


def test_a_wide_sequential_interval_is_not_shrunk_twice():
    wide = Interval(0.04, -0.02, 0.10)  # always valid: three standard errors on either side
    told = decide(wide, 54.0, [safe()], Economics(), rule="value", se=0.02)
    assumed = decide(wide, 54.0, [safe()], Economics(), rule="value")
    fixed = decide(Interval(0.04, 0.0008, 0.0792), 54.0, [safe()], Economics(), rule="value")
    assert told.value == pytest.approx(fixed.value, rel=1e-3)
    assert assumed.value.mean < told.value.mean
    made = world()
    plan = SMALL_PLAN | {"stopping": "always_valid", "looks": 14}
    here = Experiment(plan, made.exposures, made.log, made.users)
    same = experiment().verdict(rule="value").value.mean
    assert here.verdict(rule="value").value.mean == pytest.approx(same)


# The report ---------------------------------------------------------------------------


def test_the_report_shows_what_the_functions_say_and_needs_nothing_else():
    here = experiment()
    text = report_html(here)
    verdict = here.verdict()
    assert f"Verdict: {verdict.decision}." in text
    for metric in here.plan.metrics:
        assert f"<td>{metric}</td>" in text
    assert f"{here.results().iloc[0]['relative']:+.1%}".replace("%", "\u00a0%") in text
    assert "<script" not in text
    assert "http" not in text


def test_the_report_of_a_broken_split_holds_no_result():
    text = report_html(experiment("broken"))
    assert "Verdict: invalid." in text
    assert "Where users are missing" in text
    for word in ("Effects", "Guardrails", "Day by day", "click rate", "p_always"):
        assert word not in text


def test_what_stands_in_a_log_cannot_write_into_the_report():
    made = world()
    log = made.log.copy()
    log["user"] = log["user"].where(log.index != 3, "<img src=x onerror=alert(1)>")
    log.loc[3, "minutes"] = -1.0
    text = report_html(Experiment(SMALL_PLAN, made.exposures, log, made.users))
    assert "<img" not in text
    assert "&lt;img" in text


def test_the_report_is_made_from_files_and_a_wrong_plan_writes_nothing(tmp_path, capsys):
    made = world()
    for name in ("exposures", "log", "users"):
        getattr(made, name).to_parquet(tmp_path / f"{name}.parquet")
    lines = ['name = "new_feed"', 'salt = "new_feed"', 'unit = "user"', "days = 10"]
    (tmp_path / "plan.toml").write_text("\n".join(lines))
    out = tmp_path / "report.html"
    assert main([str(tmp_path / "plan.toml"), str(tmp_path), str(out)]) == 1
    assert "shares is missing" in capsys.readouterr().err
    assert not out.exists()
    assert main([]) == 2
    (tmp_path / "plan.toml").write_text(TOML)
    lost = [str(tmp_path / "plan.toml"), str(tmp_path), str(tmp_path / "none" / "report.html")]
    assert main(lost) == 1
    assert "none" in capsys.readouterr().err
    made.users.drop(columns="cluster").to_parquet(tmp_path / "users.parquet")
    assert main([*lost[:2], str(out)]) == 1
    assert "users: no column ['cluster']" in capsys.readouterr().err
    made.users.to_parquet(tmp_path / "users.parquet")
    assert main([str(tmp_path / "plan.toml"), str(tmp_path), str(out)]) == 0
    assert "Verdict:" in out.read_text(encoding="utf-8")


TOML = """
name = "new_feed"
salt = "new_feed"
unit = "user"
start = 2026-03-02
days = 14
users = 50_000
mde = 0.10
cv = 1.4
explained = 0.6
[shares]
control = 0.05
treatment = 0.05
rest = 0.90
[primary]
name = "minutes"
kind = "mean"
column = "minutes"
before = "pre_minutes"
[[guardrails]]
name = "load p95"
kind = "quantile"
column = "load_ms"
q = 0.95
better = "down"
margin = 0.05
"""
