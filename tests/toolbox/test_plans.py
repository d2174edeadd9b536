"""A plan's lease ends, one holds it at a time, and the file knows the way back."""

from __future__ import annotations

import logging

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


def test_pods_that_got_another_version_are_no_way_back(tmp_path):
    plans = Plans(Plan(OLD), tmp_path / "plan.json")
    plans.take(CANARY, "release 2", 10)
    plans.take(Plan(NEW, stage="live"), "release 2")
    assert plans.before == OLD
    plans.take(Plan(NEW, OLD, 0.05, stage="canary"), "release 3", 10)  # deployed where 1 was
    plans.take(Plan(NEW, stage="rolled back"), "release 3")
    for one in (plans, Plans(Plan(OLD), tmp_path / "plan.json")):
        with pytest.raises(LookupError, match="no pods were before"):
            one.back()
        assert one.now.stable == NEW


def test_what_a_rollout_comes_back_from_is_no_way_back():
    plans = Plans(Plan(OLD))
    plans.take(CANARY, "a", 10)
    plans.take(Plan(NEW, stage="live"), "a")  # and the answer is lost
    plans.take(Plan(OLD, stage="rolled back"), "a")
    assert (plans.now.stable, plans.before) == (OLD, ())


@pytest.fixture
def full(tmp_path):
    """Plans in mid-rollout whose file can be written no more."""
    file, clock = tmp_path / "plan" / "plan.json", Clock()
    plans = Plans(Plan(OLD), file, clock)
    plans.take(Plan(OLD, NEW, 1.0, stage="all"), "a", 10)
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("a file where the folder was")
    return plans, clock


def test_a_plan_that_cannot_be_kept_does_not_hold(full):
    plans, _ = full
    with pytest.raises(OSError, match="plan"):
        plans.take(Plan(NEW, stage="live"), "a")
    assert (plans.now.stage, plans.now.stable, plans.before) == ("all", OLD, ())
    plans.take(Plan(OLD, stage="rolled back"), "a")  # changes nothing in the file
    assert plans.now == Plan(OLD, stage="rolled back")


def test_without_a_disk_a_lease_ends_and_the_way_back_is_open(full, tmp_path, caplog):
    plans, clock = full
    clock.now = 10
    assert plans.now == Plan(OLD, stage=ENDED)
    (tmp_path / "plan").unlink()
    plans.take(Plan(NEW, stage="live"))
    assert "cannot be written" not in caplog.text
    (tmp_path / "plan" / "plan.json").unlink()
    (tmp_path / "plan").rmdir()
    (tmp_path / "plan").write_text("")
    assert plans.back() == Plan(OLD, stage="back") == plans.now
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\udcff",
        "[]",
        '{"stable": []}',
        '{"stable": [], "before": []}',
        '{"stable": "http://x", "before": []}',
        '{"stable": ["x"], "before": []}',
    ],
)
def test_a_damaged_file_is_put_aside_loudly_and_the_command_says_who_serves(text, tmp_path, caplog):
    file = tmp_path / "plan.json"
    file.write_text(text, errors="surrogateescape")
    with caplog.at_level(logging.ERROR):
        assert Plans(Plan(OLD), file).now == Plan(OLD)
    assert "cannot be read" in caplog.text and "http://old" in caplog.text
    assert (tmp_path / "plan.json.damaged").exists() and not file.exists()


def test_a_start_writes_nothing(tmp_path):
    Plans(Plan(OLD), tmp_path / "none" / "plan.json")
    assert not (tmp_path / "none").exists()
