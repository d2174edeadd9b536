"""A plan's lease ends, one holds it at a time, and the file knows the way back."""

from __future__ import annotations

import pytest

from casebook.serving.plans import ENDED, Held, Plan, Plans

OLD, NEW = ("http://old",), ("http://new",)
CANARY = Plan(OLD, NEW, 0.05, stage="canary")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_lease_that_nobody_renews_ends_with_the_stable_pods():
    clock = Clock()
    plans = Plans(Plan(OLD), clock=clock)
    plans.take(CANARY, "a", 10)
    clock.now = 9.9
    assert plans.now is CANARY
    plans.renew("a", 10)
    clock.now = 19.8
    assert plans.now is CANARY
    clock.now = 19.9
    assert plans.now == Plan(OLD, stage=ENDED)
    with pytest.raises(Held, match="holds no plan"):
        plans.renew("a", 10)
    with pytest.raises(Held, match="holds no plan"):  # too late to go live
        plans.take(Plan(NEW, stage="live"), "a")


@pytest.mark.parametrize("lease", [0, -1, float("inf"), float("nan")])
def test_new_pods_need_a_lease(lease):
    with pytest.raises(ValueError, match="lease"):
        Plans(Plan(OLD)).take(CANARY, "a", lease)


def test_one_rollout_at_a_time():
    plans = Plans(Plan(OLD))
    plans.take(CANARY, "a", 10)
    for call in (lambda: plans.take(CANARY, "b", 10), lambda: plans.take(Plan(OLD), "b")):
        with pytest.raises(Held, match="'a' rolls out in stage 'canary'"):
            call()
    with pytest.raises(Held):
        plans.renew("b", 10)
    plans.take(Plan(OLD), "a")
    plans.take(CANARY, "b", 10)
    assert plans.now is CANARY


def test_a_router_that_starts_anew_knows_the_stable_pods_and_the_way_back(tmp_path):
    file = tmp_path / "plan.json"
    plans = Plans(Plan(OLD), file)
    plans.take(CANARY, "a", 10)
    assert Plans(Plan(("http://other",)), file).now == Plan(OLD)  # the canary is not taken up
    plans.take(Plan(NEW, stage="live"), "a")
    again = Plans(Plan(OLD), file)
    assert (again.now.stable, again.before) == (NEW, OLD)
    assert again.back().stable == OLD
    assert Plans(Plan(NEW), file).now.stable == OLD
    with pytest.raises(LookupError, match="no pods were before"):
        again.back()


def test_the_way_back_ends_a_rollout_whoever_holds_it():
    plans = Plans(Plan(OLD))
    plans.take(CANARY, "a", 10)
    assert plans.back() == Plan(OLD, stage="back")
    with pytest.raises(Held):
        plans.renew("a", 10)
