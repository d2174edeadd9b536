"""Case 21: the verdict on each kind of fault, its level and power, and rollouts under load."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from deployment_pipeline_shared import empty

from casebook.cases.deployment_pipeline import canary, measured, rollout
from casebook.cases.deployment_pipeline.measured import FIVE, Drill
from casebook.cases.deployment_pipeline.registry import GATES, PromotionRefused
from casebook.cases.deployment_pipeline.rollout import STAGES, Usual, verdict
from casebook.recorded import dag
from casebook.serving import rollout as serving
from casebook.serving.app import Problem
from casebook.serving.rollout import Found, Pace
from casebook.serving.router import Router
from casebook.serving.traffic import Traffic

RPS, PACE = 40, Pace(patience=40, warm=20)
BRIEF = tuple(one for one in rollout.brief(1.0, 20) if "50 %" not in one.name)
DARK, CANARY, LAST = STAGES[0], STAGES[1], STAGES[-1]


def pairs(n=0, tier=0.0, crossed=0.0):
    return {"n": n, "tier": int(tier * n), "ranked": n // 2, "crossed": int(crossed * n / 2)}


def arm(n=0, bad=0, slow=0, scores=(), beside=None):
    told = {"n": n, "bad": bad, "slow": slow, "why": {"500": bad} if bad else {}}
    return told | {"scores": [*scores], "ms": [], "first_bad": None, "pairs": beside or pairs()}


def seen(new, stable):
    return {"new": new, "stable": stable}


DRAWN = np.random.default_rng(0).beta(0.2, 40, (2, 600))
QUIET = Usual(20_000, 20, 20, tuple(DRAWN[1]))
ILL = QUIET._replace(bad=600, slow=600)
SOUND = pairs(5_000, 0.067, 0.368)  # the largest shares of the worlds that were looked at


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
        (CANARY, arm(300, scores=DRAWN[0]), arm(300, scores=20 * DRAWN[1]), QUIET, ""),  # the other
        (LAST, arm(300, scores=DRAWN[0]), arm(0), QUIET, ""),
        (LAST, arm(300, scores=20 * DRAWN[0]), arm(0), QUIET, "has moved"),
        (CANARY, arm(90, scores=[0.9] * 90), arm(300, scores=DRAWN[1]), QUIET, ""),  # too few
        (DARK, arm(5_000, scores=DRAWN[0], beside=SOUND), arm(5_000), Usual(), ""),
        (DARK, arm(5_000, scores=3 * DRAWN[0], beside=SOUND), arm(5_000), Usual(), ""),
        (DARK, arm(200, beside=pairs(200, 0.95)), arm(200), Usual(), "decided otherwise"),
        (DARK, arm(5_000, beside=pairs(5_000, 0.15)), arm(5_000), Usual(), "decided otherwise"),
        (DARK, arm(5_000, beside=pairs(5_000, 0, 0.5)), arm(5_000), Usual(), "another order"),
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
    well = seen(arm(2_000, 2, scores=DRAWN[0]), arm(38_000, 38))
    assert verdict(well, CANARY, QUIET).hold == ""


@pytest.mark.parametrize(
    ("stage", "new", "usual", "holds"),
    [
        (DARK, arm(20_000, beside=pairs(20_000)), Usual(), False),
        (DARK, arm(20_000, beside=pairs(150)), Usual(), True),
        (DARK, arm(20_000), Usual(), True),  # its answers are compared with nothing
        (LAST, arm(20_000, scores=DRAWN[0]), QUIET, False),
        (LAST, arm(20_000), QUIET, True),  # it answers and has no score
        (LAST, arm(20_000, scores=DRAWN[0]), Usual(20_000), True),  # it had none in shadow
    ],
)
def test_a_stage_without_scores_is_not_over(stage, new, usual, holds):
    found = verdict(seen(new, arm(20_000)), stage, usual)
    assert (found.why, "needed" in found.hold) == ("", holds)


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
    found = stopped(2 * canary.BASE, CANARY, 120, 4)
    assert 0.72 < found < 0.88  # .52 with a tenth of the level
    assert stopped(10 * canary.BASE, CANARY, 20, 5) == 1


def test_a_version_that_is_alike_is_seldom_rolled_back_however_often_one_looks():
    assert rollout.level() == pytest.approx(0.065)
    assert stopped(canary.BASE, CANARY, 120, 1) <= 0.07
    others = [stopped(0.03, one, 30, i, base=0.03) for i, one in enumerate(STAGES[:4]) if i != 1]
    assert max(others) == 0


def looked(draws, runs):
    """Return how often one of many looks at what has been seen so far rolls back."""
    return np.mean([any(verdict(*one).why for one in draws(i)) for i in range(runs)])


def test_the_level_counts_scores_and_pairs_of_a_sound_version_at_all_looks():
    def in_shadow(i):
        rng = np.random.default_rng(i)
        tier, crossed = (np.cumsum(rng.random(k) < p) for k, p in ((5_000, 0.09), (2_500, 0.4)))
        for n in range(50, 5_001, 50):
            told = {"n": n, "tier": tier[n - 1], "ranked": n // 2, "crossed": crossed[n // 2 - 1]}
            yield seen(arm(n, scores=[], beside=told), arm(n)), DARK

    def later(i):
        own, now = np.random.default_rng(i).beta(0.2, 40, (2, 2_000))
        usual = QUIET._replace(scores=tuple(own))
        for n in range(100, 2_001, 100):
            yield seen(arm(n, scores=now[:n]), arm(19 * n)), CANARY, usual

    assert looked(in_shadow, 80) == looked(later, 40) == 0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return measured.models(tmp_path_factory.mktemp("models"), rounds=10)


def killing(pod):
    """Return what kills a pod in the stage of a quarter, and a list of when it did."""
    began = []

    def on_stage(stage):
        if stage.name == "rolling 25 %":
            began.append(time.time())
            pod.kill()

    return on_stage, began


def test_a_good_version_goes_live_a_killed_one_goes_back_and_nobody_notices(models):
    first, second = models
    with measured.fleet(first, second, 8_000) as one:
        with Traffic(f"{one.router}/score", one.bodies, RPS) as traffic:
            gone = rollout.run(one.router, ["http://127.0.0.1:9"], BRIEF, Pace(patience=1))
            live = rollout.run(one.router, [one.new.url], BRIEF, PACE)
            kills, began = killing(one.stable)  # it has nothing to do any more, and is rolled out
            done = rollout.run(one.router, [one.stable.url], BRIEF[2:], PACE, kills)
            traffic.stop()
        rows = traffic.wait()
    assert (gone.outcome, live.outcome, live.why) == ("rolled back", "live", "")
    assert "was not ready within 1 s" in gone.why
    assert list(live.rows["stage"].unique()) == [*(stage.name for stage in BRIEF), "live"]
    assert (done.outcome, done.rows["stage"].iloc[-2]) == ("rolled back", "rolling 25 %")
    assert 0 < done.ended - began[0] < measured.BACK
    assert (rows["status"] == 200).all()
    sent = rows["sent"]
    for when, name in (
        (sent < gone.ended, first.name),
        ((sent > live.ended + 0.2) & (sent < began[0] - 2), second.name),
        (sent > done.ended + 0.2, second.name),
    ):
        assert {*rows.loc[when, "version"]} <= {name}
    assert {first.name, second.name} <= {*rows["version"]}


def test_a_version_that_errs_goes_back_and_no_request_fails(models):
    done, rows, began = measured.drill(Drill("no number", FIVE), *models, BRIEF[1:], RPS, PACE)
    assert done.outcome == "rolled back"
    assert "bad answers" in done.why and "'rules'" in done.why
    assert done.seconds < measured.BACK and 0 < done.ended - began < measured.BACK
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


@contextmanager
def answering(answer):
    """Serve on loopback what a function says of a path and a body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            status, told = answer(
                self.path, self.rfile.read(int(self.headers["Content-Length"] or 0))
            )
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


PASSED = pd.DataFrame({"value": 1.0, "limit": 2.0, "passed": True}, index=GATES)
PARTS = ("source", "features", "train")
QUICK = (LAST._replace(seconds=0, requests=0),)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A registry of versions 1 to 4, whose models are no models."""
    where = tmp_path_factory.mktemp("registry")
    registry = empty(where / "registry.db")

    def writes(i):
        def write(have, out, settings):
            for name in ("model.txt", "meta.json"):
                (out / name).write_text(f"{i}")

        return write

    for i in range(1, 5):
        steps = {name: dag.Step(writes(i), {"until": i}, content=str(i)) for name in PARTS}
        assert registry.register(dag.run(where, steps), PASSED) == i
    return registry


class Site:
    """Pods of two colours, the router before them, and the registry."""

    def __init__(self, registry, folder, stack):
        self.registry, self.serves = registry, {"blue": "", "green": ""}
        self.pods = {c: stack.enter_context(answering(self._pod(c))) for c in self.serves}
        self.router = Router([self.pods["blue"]], file=str(folder / "plan.json"))
        self.at = stack.enter_context(answering(self._plans))

    def _pod(self, colour):
        return lambda *_: (200, {"ready": True, "version": self.serves[colour]})

    def _plans(self, path, raw):
        try:
            return 200, self.router.watch() if path == "/watch" else getattr(self.router, path[1:])(
                raw
            )
        except Problem as problem:
            return problem.status, problem.told()

    def deploy(self, colour, version):
        self.serves[colour] = self.registry.folder(version).name

    def out(self, colour, judge=lambda *_: Found()):
        """Return what rolls out the pods of a colour."""

        def out(model):
            pods, pace = [self.pods[colour]], Pace(every=0.01, warm=0, patience=2)
            return serving.run(self.at, pods, QUICK, judge, pace, ready=rollout.only(model))

        return out

    def release(self, version, colour, *judge):
        self.deploy(colour, version)
        return rollout.released(self.registry, version, self.at, self.out(colour, *judge))

    def command(self, name, *more):
        return rollout.main(
            [name, "--router", self.at, "--registry", str(self.registry.file), *more]
        )

    def names(self):
        return self.registry.version("champion"), self.registry.version("before")

    def stable(self):
        return next(c for c, pod in self.pods.items() if (pod,) == self.router.plan.stable)


@pytest.fixture
def site(shelf, tmp_path):
    for alias in ("champion", "before", "challenger"):
        shelf._alias(alias, None)
    with ExitStack() as stack:
        yield Site(shelf, tmp_path, stack)


@pytest.fixture
def second(site):
    """Version 2 serves on green, and 1 before it on blue: as releases leave it."""
    site.deploy("blue", 1)
    site.deploy("green", 2)
    site.out("green")(site.serves["green"])
    site.registry._alias("before", 1)
    site.registry._alias("champion", 2)
    return site


def ill(*_):
    return Found("ill")


def test_what_goes_live_is_the_champion_and_nothing_else(site):
    site.deploy("blue", 1)
    assert site.command("agree") == 0
    assert site.release(2, "green").outcome == "live"
    assert (site.names(), site.stable()) == ((2, 1), "green")
    assert site.release(3, "blue", ill).outcome == "rolled back"
    assert (site.names(), site.stable()) == ((2, 1), "green")
    assert site.release(3, "blue").outcome == "live"
    assert (site.names(), site.stable()) == ((3, 2), "blue")
    assert site.command("back") == 0
    assert (site.names(), site.stable()) == ((2, None), "green")
    assert site.command("back") == 1  # there is no further way


def test_the_way_back_does_not_lead_to_the_version_that_has_just_failed(second, capsys):
    second.deploy("blue", 3)  # and no plan was ever taken
    for says in ("never led", "no way back"):
        if says == "no way back":
            assert second.release(3, "blue", ill).outcome == "rolled back"
        assert second.command("back") == 1
        assert says in capsys.readouterr().err
        assert (second.names(), second.stable()) == ((2, 1), "green")


def test_back_during_a_canary_ends_it_and_the_champion_stays(second):
    canary_plan = {"new": [second.pods["blue"]], "share": 0.05, "by": "r3", "lease": 60}
    second.deploy("blue", 3)
    second.router.route(json.dumps(canary_plan).encode())
    assert second.command("back") == 0
    assert (second.names(), second.stable(), second.router.plan.new) == ((2, 1), "green", ())


def test_back_from_the_first_release_leaves_no_champion(site):
    site.serves["blue"] = "what was before the registry"
    assert site.release(1, "green").outcome == "live"
    assert site.names() == (1, None)
    assert site.command("back") == 0
    assert (site.stable(), site.registry.version("champion")) == ("blue", None)


def test_a_release_that_is_killed_once_live_is_noticed_by_the_next_command(second):
    second.deploy("blue", 3)
    second.out("blue")(second.serves["blue"])  # live, and nobody told the registry
    assert (second.names(), second.stable()) == ((2, 1), "blue")
    assert second.command("agree") == 0
    assert second.names() == (3, 2)
    second.deploy("green", 4)
    second.out("green")(second.serves["green"])
    assert second.command("back") == 0  # without a word before
    assert (second.names()[0], second.stable()) == (3, "blue")


def test_a_release_that_is_told_to_end_once_live_still_tells_the_registry(second):
    def out(model):
        second.out("blue")(model)
        raise SystemExit("told to end")

    second.deploy("blue", 3)
    with pytest.raises(SystemExit):
        rollout.released(second.registry, 3, second.at, out)
    assert second.names() == (3, 2)


def test_a_registry_that_is_killed_between_two_names_is_right_the_next_time(second):
    registry = second.registry
    registry._alias("before", 2)  # the first half of 3's promotion
    assert registry.follow(registry.folder(3).name) == 3
    assert second.names() == (3, 2)
    registry._alias("champion", 2)  # the first half of the way back
    assert registry.follow(registry.folder(2).name) == 2
    assert second.names() == (2, None)


def test_pods_of_another_model_get_no_request(second, capsys):
    second.deploy("blue", 4)
    assert second.command("out", "--version", "3", "--pods", second.pods["blue"]) == 1
    assert f"and not {second.registry.folder(3).name}" in capsys.readouterr().out
    assert (second.names(), second.stable()) == ((2, 1), "green")
    assert second.router.plans.before == (second.pods["blue"],)  # no plan had new pods


def test_a_version_without_all_its_gates_is_refused_before_it_is_built(second, capsys):
    registry, run = second.registry, second.registry._of(4)
    for table, says in (
        (PASSED.drop(index="skew"), "skew: not asked"),
        (PASSED.assign(passed=PASSED.index != "money"), "money: 1.0 against 2.0"),
    ):
        registry._challenger(int(run.version), table)
        assert second.command("model", "--version", "4") == 1
        assert says in capsys.readouterr().err
        with pytest.raises(PromotionRefused, match=says):
            rollout.released(registry, 4, second.at, lambda model: pytest.fail("it got requests"))
    registry._challenger(4, PASSED)
    now = pd.Timestamp.now("UTC")
    registry.may_lead(4, now + pd.Timedelta(hours=23))
    with pytest.raises(PromotionRefused, match="freshness: by now 3 days against 2, train anew"):
        registry.may_lead(4, now + pd.Timedelta(days=2))
    assert second.command("model", "--version", "4") == 0
    assert capsys.readouterr().out == f"MODEL={registry.folder(4).name}\n"


@pytest.mark.parametrize("lacks", ["registry", "version", "pods", "router"])
def test_a_release_without_a_registry_or_a_version_is_none(lacks, capsys):
    given = {"router": "r", "registry": "db", "version": "3", "pods": "p"}
    words = [word for k, v in given.items() if k != lacks for word in (f"--{k}", v)]
    with pytest.raises(SystemExit):
        rollout.main(["out", *words])
    assert f"out needs --{lacks}" in capsys.readouterr().err


def test_pods_that_serve_several_models_are_no_version(site):
    site.serves = {"blue": "a", "green": "b"}
    with pytest.raises(ValueError, match="not one model"):
        rollout.serving([*site.pods.values()])
