"""Case 21: the verdict on each kind of fault, its level and power, and rollouts under load."""

from __future__ import annotations

import httpx
import numpy as np
import pandas as pd
import pytest

from casebook.cases.deployment_pipeline import canary, measured, rollout
from casebook.cases.deployment_pipeline.measured import FIVE, SHADOW, Drill
from casebook.cases.deployment_pipeline.registry import PromotionRefused
from casebook.cases.deployment_pipeline.rollout import STAGES, Usual, verdict
from casebook.serving.load import Server
from casebook.serving.rollout import Pace, wait_ready
from casebook.serving.traffic import Traffic

RPS, PACE = 40, Pace(patience=40, warm=20)
BRIEF = tuple(one for one in rollout.brief(1.0, 20) if "50 %" not in one.name)
CANARY, LAST = STAGES[1], STAGES[-1]


def arm(n=0, bad=0, slow=0, scores=()):
    told = {"n": n, "bad": bad, "slow": slow, "why": {"500": bad} if bad else {}}
    return told | {"scores": [*scores], "ms": [], "first_bad": None}


def seen(new, stable):
    return {"new": new, "stable": stable}


DRAWN = np.random.default_rng(0).beta(0.2, 40, (2, 600))
QUIET, ILL = Usual(20_000, 20, 20), Usual(20_000, 600, 600)


@pytest.mark.parametrize(
    ("stage", "new", "stable", "usual", "says"),
    [
        (CANARY, arm(200, 0), arm(3_800, 4), QUIET, ""),
        (CANARY, arm(200, 1), arm(3_800, 4), QUIET, ""),
        (CANARY, arm(200, 8), arm(3_800, 4), QUIET, "bad answers"),
        (CANARY, arm(200, 0, 9), arm(3_800, 4, 4), QUIET, "slow answers"),
        (LAST, arm(500, 0), arm(0), QUIET, ""),  # nothing to compare with
        (LAST, arm(500, 20), arm(0), QUIET, "bad answers"),
        (LAST, arm(500, 20), arm(20, 0), QUIET, "bad answers"),  # its replays are no sample
        (LAST, arm(500, 15), arm(0), ILL, ""),  # the stable version had as many
        (LAST, arm(500, 20), arm(0), Usual(), "bad answers"),
        (CANARY, arm(300, scores=DRAWN[0]), arm(300, scores=DRAWN[1]), QUIET, ""),
        (CANARY, arm(300, scores=20 * DRAWN[0]), arm(300, scores=DRAWN[1]), QUIET, "has moved"),
        (LAST, arm(300, scores=DRAWN[0]), arm(0), Usual(scores=tuple(DRAWN[1])), ""),
        (LAST, arm(300, scores=20 * DRAWN[0]), arm(0), Usual(scores=tuple(DRAWN[1])), "has moved"),
        (CANARY, arm(90, scores=[0.9] * 90), arm(300, scores=DRAWN[1]), QUIET, ""),  # too few
    ],
)
def test_the_verdict(stage, new, stable, usual, says):
    found = verdict(seen(new, stable), stage, usual)
    assert says in found.why
    assert bool(found.why) == bool(says)


@pytest.mark.parametrize("part", [0.5, 0.05, 0.011])
def test_while_both_are_ill_none_goes_on_and_none_goes_back(part):
    n = np.array([2_000, 38_000])
    bad = (part * n).astype(int)
    found = verdict(seen(arm(n[0], bad[0]), arm(n[1], bad[1])), CANARY)
    assert (found.why, "both are ill" in found.hold) == ("", True)
    assert verdict(seen(arm(2_000, 2), arm(38_000, 38)), CANARY).hold == ""


def stopped(rate, stage, runs, seed, base=canary.BASE, looks=60):
    """Return how often drawn counts of a stage roll it back, by the function of the rollout."""
    share = stage.share if 0 < stage.share < 1 else 0.5
    per_look, found = stage.requests / looks / share, []
    draw = np.random.default_rng(seed)
    for _ in range(runs):
        n = draw.poisson(per_look * np.array([share, 1 - share]), (looks, 2)).cumsum(axis=0)
        steps = np.diff(n, axis=0, prepend=0)
        bad = draw.binomial(steps, [rate, base]).cumsum(axis=0)
        pairs = np.stack([n, bad], axis=2).tolist()  # look, version, requests and bad ones
        whys = (verdict(seen(arm(*new), arm(*old)), stage).why for new, old in pairs)
        found.append(any(whys))
    return np.mean(found)


def test_page_canary_and_rollout_have_one_level_one_sample_and_one_power():
    assert (CANARY.share, CANARY.requests) == (canary.SHARE, canary.Watch().planned)
    assert CANARY.level == canary.Watch().level == canary.LEVEL
    counts = canary.Counts(4_000, 16, 76_000, 76)
    ours = verdict(seen(arm(4_000, 16), arm(76_000, 76)), CANARY)
    assert bool(ours.why) == (canary.decide(counts).action == "rollback")
    found = stopped(2 * canary.BASE, CANARY, 250, 4)
    assert 0.72 < found < 0.88  # .52 with a tenth of the level
    assert stopped(10 * canary.BASE, CANARY, 20, 5) == 1


def test_a_version_that_is_alike_is_seldom_rolled_back_however_often_one_looks():
    assert rollout.level() == pytest.approx(0.059)
    assert stopped(canary.BASE, CANARY, 200, 1) <= 0.07
    others = [stopped(0.03, one, 60, i, base=0.03) for i, one in enumerate(STAGES[:4]) if i != 1]
    assert max(others) <= 1 / 60


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return measured.models(tmp_path_factory.mktemp("models"), rounds=10)


def test_a_version_that_errs_goes_back_a_good_one_goes_live_and_nobody_notices(models):
    first, second = models
    bad = {"folder": str(second), "fault": "no number"}
    with (
        measured.fleet(first, second, 30_000) as one,
        Server(measured.POD, bad, patience=measured.START_UP) as broken,
    ):
        wait_ready(broken.url, measured.START_UP)

        def breaks(stage):
            if stage.name == FIVE:
                httpx.post(f"{broken.url}/break", json={}, trust_env=False)

        with Traffic(f"{one.router}/score", one.bodies, RPS) as traffic:
            back = rollout.run(one.router, [broken.url], BRIEF, PACE, breaks)
            gone = rollout.run(one.router, ["http://127.0.0.1:9"], BRIEF, Pace(patience=1))
            live = rollout.run(one.router, [one.new.url], BRIEF, PACE)
            one.stable.kill()  # it has nothing to do any more
            traffic.stop()
        rows = traffic.wait()
    assert back.outcome == gone.outcome == "rolled back"
    assert "bad answers" in back.why and "'rules'" in back.why
    assert back.rows["stage"].iloc[-2] != SHADOW
    assert back.seconds < measured.BACK
    assert "was not ready within 1 s" in gone.why
    assert (live.outcome, live.why) == ("live", "")
    assert list(live.rows["stage"].unique()) == [*(stage.name for stage in BRIEF), "live"]
    assert (rows["status"] == 200).all()
    before, after = rows["sent"] < back.ended - 1, rows["sent"] > live.ended + 0.2
    assert first.name in {*rows.loc[before, "version"]}
    assert {*rows.loc[after, "version"]} <= {second.name}


def test_a_version_that_is_killed_goes_back_and_no_request_fails(models):
    stages = BRIEF[2:]
    done, rows, began = measured.drill(Drill("killed", "rolling 25 %"), *models, stages, RPS, PACE)
    assert done.outcome == "rolled back"
    assert done.rows["stage"].iloc[-2] == "rolling 25 %"
    assert 0 < done.ended - began < measured.BACK
    assert (rows["status"] == 200).all()
    late = rows["sent"] > done.ended + 0.2
    assert {*rows.loc[late, "version"]} <= {models[0].name}


GOOD = {"fault": "none", "outcome": "live", "seconds": np.nan, "failed": 0}
BACK = {"fault": "errors", "outcome": "rolled back", "seconds": 2.0, "failed": 0}


@pytest.mark.parametrize(
    ("rows", "misses"),
    [
        ([GOOD, BACK], False),
        ([GOOD, BACK | {"outcome": "live", "seconds": np.nan}], True),
        ([GOOD | {"outcome": "rolled back", "seconds": 3.0}], True),
        ([BACK | {"seconds": 61.0}], True),
        ([BACK | {"seconds": np.nan}], True),
        ([BACK | {"failed": 1}], True),
    ],
)
def test_the_command_fails_when_a_fault_goes_live(rows, misses):
    assert measured.missed(pd.DataFrame(rows)).any() == misses


class Shelf:
    """A registry that notes what it is asked."""

    def __init__(self, may):
        self.may, self.asked = may, []

    def may_lead(self, version):
        if not self.may:
            raise PromotionRefused("money: 50 against 40")

    def promote(self, version):
        self.asked.append(version)


@pytest.mark.parametrize(("outcome", "promoted"), [("live", [3]), ("rolled back", [])])
def test_what_goes_live_is_the_champion_and_nothing_else(outcome, promoted):
    shelf = Shelf(True)
    done = type("Done", (), {"outcome": outcome})
    assert rollout.released(shelf, 3, lambda: done) is done
    assert shelf.asked == promoted
    with pytest.raises(PromotionRefused):
        rollout.released(Shelf(False), 3, lambda: pytest.fail("it got requests"))
