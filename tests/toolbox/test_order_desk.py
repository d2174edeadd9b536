"""The desk: overrides and their bill, the planners' service, the file that is sent."""

from __future__ import annotations

import math

import pytest

from casebook.serving.app import Problem
from casebook.serving.overrides import Desk, Prices


@pytest.fixture
def desk(tmp_path):
    with Desk(tmp_path / "log.db", Prices(5, 2), 500) as made:
        yield made


def refused(status, error, call, *given, **named):
    """Return the problem that a call raises."""
    with pytest.raises(Problem) as found:
        call(*given, **named)
    assert (found.value.status, found.value.error) == (status, error)
    return found.value


# Overrides and their bill --------------------------------------------------------------------


def test_overrides_are_kept_and_billed_once(desk):
    desk.place("a", "x", "anna", 40, 60, "street fair")
    desk.place("a", "x", "anna", 40, 50, "smaller fair")
    desk.place("a", "y", "bert", 10, 0, "shelf is broken")
    assert desk.units("a") == {"x": 50.0, "y": 0.0}
    assert desk.settle("a", "x", 46.0, False) == 30 - 8
    assert desk.settle("a", "x", 46.0, False) is None
    assert desk.settle("a", "y", 10.0, True) == -50
    assert desk.settle("a", "unknown", 10.0, True) is None
    value = desk.added_value().set_index("planner")
    assert value["saved"].to_dict() == {"anna": 22.0, "bert": -50.0}
    assert value["overrides"].to_dict() == {"anna": 1, "bert": 1}
    assert value["replaced"].to_dict() == {"anna": 1, "bert": 0}
    assert value["helped"].to_dict() == {"anna": 1.0, "bert": 0.0}
    assert value.loc["bert", "estimated"] == 1
    assert desk.log.verify()


def test_what_is_billed_is_closed_and_what_is_open_is_not_billed(tmp_path, desk):
    desk.place("a", "x", "anna", 40, 60, "street fair")
    desk.settle("a", "x", 46.0, False)
    late = refused(409, "too late", desk.place, "a", "x", "bert", 40, 400, "a big mistake")
    assert "billed" in late.what and desk.units("a") == {"x": 60.0}
    sent: set[str] = set()
    with Desk(tmp_path / "other.db", Prices(5, 2), 500, lambda run: run not in sent) as other:
        other.place("a", "x", "anna", 40, 60, "street fair")
        refused(409, "too early", other.settle, "a", "x", 46.0, False)
        other.place("a", "x", "bert", 40, 400, "a big mistake")
        sent.add("a")
        late = refused(409, "too late", other.place, "a", "x", "anna", 40, 60, "street fair")
        assert "sent" in late.what
        assert other.settle("a", "x", 46.0, False) == 30 - 708


@pytest.mark.parametrize("wanted", [-50, math.nan, math.inf])
def test_nobody_is_billed_by_demand_that_cannot_be(desk, wanted):
    desk.place("a", "x", "anna", 40, 60, "street fair")
    refused(422, "wanted", desk.settle, "a", "x", wanted, False)
    assert desk.added_value().empty and desk.settle("a", "x", 0.0, False) == 80 - 120


@pytest.mark.parametrize("costs", [(-5, 2), (5, math.nan), (math.inf, 2), (5, 0)])
def test_prices_are_numbers_above_nought(costs):
    with pytest.raises(ValueError, match="both costs are numbers above 0"):
        Prices(*costs)


def test_an_override_that_was_taken_back_is_nobodys_bill_but_is_seen(desk):
    desk.place("a", "x", "anna", 40, 400, "street fair")
    desk.place("a", "x", "bert", 40, 40, "back to the model")
    assert desk.settle("a", "x", 46.0, False) == 0
    value = desk.added_value().set_index("planner")
    assert value["replaced"].to_dict() == {"anna": 1}
    assert value.loc["anna", "overrides"] == 0 and math.isnan(value.loc["anna", "helped"])


def test_a_late_retry_of_an_older_override_changes_nothing(desk):
    def place(units, after, planner="anna"):
        return desk.place("a", "x", planner, 40, units, "street fair", after=after)

    first = place(60, 0)
    assert place(60, 0) == first and desk.log.count("override") == 1
    second = place(50, first["sequence"])
    told = refused(409, "overtaken", place, 60, 0)
    assert "50 units by anna, row 2" in told.what and "after 2" in told.do
    refused(409, "overtaken", place, 50, first["sequence"], "bert")
    refused(409, "overtaken", place, 50, 99)
    assert place(50, first["sequence"]) == second and desk.units("a") == {"x": 50.0}
    refused(409, "overtaken", desk.place, "a", "y", "anna", 40, 60, "street fair", after=7)


def test_an_override_has_units_and_words_that_a_person_can_read(desk):
    for units in (501, math.nan, -4, math.inf):
        refused(422, "units", desk.place, "a", "x", "anna", 40, units, "street fair")
    for reason in (" x ", "\u200b\u200b\u200b", "fair\x00x", "fair \ud800", "a" * 201):
        refused(422, "reason", desk.place, "a", "x", "anna", 40, 60, reason)
    for planner in ("", "  ", "<img>\nroot", "an\u202ena", "a" * 81):
        refused(422, "planner", desk.place, "a", "x", planner, 40, 60, "street fair")
    refused(422, "line", desk.place, "a", "x\x00", "anna", 40, 60, "street fair")
    assert desk.log.count("override") == 0
    zero = desk.place("a", "x", "anna", 40, -0.0, "shelf is broken")["units"]
    assert math.copysign(1, zero) == 1
