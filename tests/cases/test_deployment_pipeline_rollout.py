"""Case 21: a rollout of real processes under load, and the verdict on each kind of fault."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.cases.deployment_pipeline import measured, rollout
from casebook.cases.deployment_pipeline.service import wait_ready
from casebook.serving.load import Server
from casebook.serving.traffic import Traffic

RPS, LIMITS = 40, rollout.Limits(patience=40, warm=20)
STAGES = (
    rollout.Stage("shadow", 0.0, 1.0, 20, shadow=True),
    rollout.Stage("canary 5 %", 0.05, 1.0, 4),
    rollout.Stage("rolling 25 %", 0.25, 1.0, 8),
    rollout.Stage("rolling 100 %", 1.0, 1.0, 20),
)


def arm(n=0, bad=0, slow=0, scores=()):
    told = {"n": n, "bad": bad, "slow": slow, "why": {"500": bad} if bad else {}}
    return told | {"scores": [*scores], "ms": [], "first_bad": None}


def seen(new, stable):
    return {"new": new, "stable": stable}


DRAWN = np.random.default_rng(0).beta(0.2, 40, (2, 600))


@pytest.mark.parametrize(
    ("new", "stable", "says"),
    [
        (arm(200, 0), arm(3_800, 4), ""),
        (arm(200, 1), arm(3_800, 4), ""),
        (arm(200, 8), arm(3_800, 4), "bad answers"),
        (arm(200, 0, 9), arm(3_800, 4, 4), "slow answers"),
        (arm(200, 100), arm(3_800, 1_900), ""),  # both are ill: it is not the new version's fault
        (arm(500, 0), arm(0), ""),  # at 100 % there is nothing to compare with
        (arm(500, 20), arm(0), "bad answers"),
        (arm(300, scores=DRAWN[0]), arm(300, scores=DRAWN[1]), ""),
        (arm(300, scores=20 * DRAWN[0]), arm(300, scores=DRAWN[1]), "score has moved"),
        (arm(90, scores=[0.9] * 90), arm(300, scores=DRAWN[1]), ""),  # too few to say
    ],
)
def test_the_verdict(new, stable, says):
    why, _ = rollout.verdict(seen(new, stable), 5, rollout.Limits())
    assert says in why
    assert bool(why) == bool(says)


def test_a_version_that_is_alike_is_seldom_rolled_back_however_often_one_looks():
    rng, stopped = np.random.default_rng(1), 0
    for _ in range(200):
        new = np.cumsum(rng.binomial(50, 0.002, 40))
        old = np.cumsum(rng.binomial(950, 0.002, 40))
        looks = zip(range(1, 41), new, old, strict=True)
        stopped += any(
            rollout.verdict(seen(arm(50 * i, int(a)), arm(950 * i, int(b))), 5, rollout.Limits())[0]
            for i, a, b in looks
        )
    assert stopped <= 4  # the level is 5 % for five stages, half of it for errors


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return measured.models(tmp_path_factory.mktemp("models"), rounds=10)


def test_a_version_that_errs_goes_back_a_good_one_goes_live_and_nobody_notices(models):
    first, second = models
    bad = {"folder": str(second), "fault": "nan", "after": 50}
    with (
        measured.fleet(first, second, 30_000) as one,
        Server(measured.POD, bad, patience=measured.START_UP) as broken,
    ):
        wait_ready(broken.url, measured.START_UP)
        with Traffic(f"{one.router}/score", one.bodies, RPS) as traffic:
            back = rollout.run(one.router, [broken.url], STAGES, LIMITS)
            gone = rollout.run(
                one.router, ["http://127.0.0.1:9"], STAGES, rollout.Limits(patience=1)
            )
            live = rollout.run(one.router, [one.new.url], STAGES, LIMITS)
            one.stable.kill()  # it has nothing to do any more
            traffic.stop()
        rows = traffic.wait()
    assert back.outcome == gone.outcome == "rolled back"
    assert "bad answers" in back.why
    assert "'rules'" in back.why
    assert back.seconds < measured.BACK
    assert "was not ready within 1 s" in gone.why
    assert (live.outcome, live.why) == ("live", "")
    assert list(live.rows["stage"].unique()) == [*(stage.name for stage in STAGES), "live"]
    assert (rows["status"] == 200).all()
    before, after = rows["sent"] < back.ended - 1, rows["sent"] > live.ended + 0.2
    assert first.name in {*rows.loc[before, "version"]}
    assert {*rows.loc[after, "version"]} <= {second.name}


def test_a_version_that_is_killed_goes_back_and_no_request_fails(models):
    done, rows = measured.drill("killed at 25 %", *models, STAGES, RPS, LIMITS)
    assert done.outcome == "rolled back"
    assert done.rows["stage"].iloc[-2] == "rolling 25 %"
    assert done.seconds < measured.BACK
    assert (rows["status"] == 200).all()
    late = rows["sent"] > done.ended + 0.2
    assert {*rows.loc[late, "version"]} <= {models[0].name}
