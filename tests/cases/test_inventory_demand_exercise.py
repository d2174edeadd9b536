"""Exercise 03: a shelf for each student, edges that are rows, and what a near answer is told."""

from __future__ import annotations

import numpy as np
import pytest
from exercise_kit import chapters_world, message  # noqa: F401

from casebook.cases.inventory_demand import exercise_data, questions
from casebook.cases.inventory_demand.demand import SEED
from casebook.evaluate.survival import kaplan_meier

SEEDS = [SEED, *range(10)]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_definition_of_the_quantile_gives_the_cheapest_order(seed):
    demand, right = exercise_data.wanted(seed), questions.q1.expected(seed)["order"]
    for method in ("linear", "lower", "higher", "weibull", "inverted_cdf"):
        assert np.quantile(demand, 5 / 7, method=method) == right
    bills = [questions.q1.scope(seed)["bill"](units) for units in (right - 1, right, right + 1)]
    assert bills[1] < min(bills[0], bills[2])


def test_a_rounded_quantile_is_accepted_and_the_habit_is_named():
    ratio, order, extra = questions.q1.expected().values()
    told = questions.q1.outcome(ratio, round(order), extra, "the mean")
    assert told.status == "right"
    assert "You predicted it" in told.message
    assert "5 to 1" in message(questions.q1, 0.83, order, extra, "P95")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_curve_by_hand_is_the_toolbox_s_and_a_tie_decides_it(seed):
    shelf, scope, right = (
        exercise_data.shelf(seed),
        questions.q2.scope(seed),
        questions.q2.expected(seed),
    )
    told = shelf[shelf["stock"] > 0]
    library = kaplan_meier(told["sold"].to_numpy(float), (told["sold"] < told["stock"]).to_numpy())
    assert right["beyond"] == pytest.approx(library[scope["x"]])
    assert right["suffices"] == library.index[library <= 2 / 7 + 1e-9][0]
    ties = set(scope["seen"][scope["c"]]) & set(scope["seen"][~scope["c"]])
    assert {t for t in ties if t <= scope["x"]}, "no tie tests who is still at risk"
    late = scope["curve"](scope["seen"], scope["c"], late=True)[scope["x"]]
    assert abs(late / right["beyond"] - 1) > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_two_effects_overlap_and_the_cap_lies_between(seed):
    scope, right = questions.q4.scope(seed), questions.q4.expected(seed)
    alone = scope["alone"]
    assert max(alone["discount"], alone["coupon"]) < scope["most"] < scope["product"]
    assert alone["both"] < scope["product"]
    assert right["larger"] > 1.2 * max(right["multiply"], right["capped"])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_night_before_the_window_is_a_row_that_matters(seed):
    scope, right = questions.q5.scope(seed), questions.q5.expected(seed)
    lead, stock = scope["lead"], scope["stock"]
    assert (stock.loc[[lead, lead + 1]] > 0).all(axis=None)
    assert (scope["left"](lead - 1) != right["usable"]).any()
    assert scope["before"]["yoghurt"] > scope["expires"]["yoghurt"]
    assert scope["before"]["cream"] < scope["expires"]["cream"]
    assert (right["to_order"] > 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_hidden_demand_moves_an_exact_line_or_leaves_the_bounds(seed):
    scope, right = questions.q6.scope(seed), questions.q6.expected(seed)
    lines, rng = scope["overrides"], np.random.default_rng(seed)
    out = lines["left"] == 0
    exact, totals = lines.index.isin(list(right["exact"])), []
    for spread in (0, 1, 5, 20, 200, 10_000):
        wanted = lines["sold"] + np.where(out, rng.integers(0, spread + 1, len(lines)), 0)
        saving = scope["paid"](wanted, lines["model"]) - scope["paid"](wanted, lines["planner"])
        assert saving[exact].sum() == pytest.approx(right["saved"])
        totals.append(saving.sum())
    assert right["least"] <= min(totals)
    assert max(totals) == right["most"] == totals[0]


def test_sales_taken_for_demand_are_named_as_the_best_case():
    exact, saved, least, most = questions.q6.expected().values()
    assert "as if what was sold" in message(questions.q6, exact, most, least, most)
    assert "both orders were too small" in message(
        questions.q6, set(exact) - {line for line in exact if _sold_out(line)}, saved, least, most
    )


def _sold_out(line: str) -> bool:
    return exercise_data.overrides(SEED).loc[line, "left"] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_units_are_read_by_product_and_not_by_place(seed, monkeypatch):
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    first, last, usable, to_order = questions.q5.expected(seed).values()
    turned = [units.iloc[::-1] for units in (usable, to_order)]
    for pair in (turned, [units.to_dict() for units in turned], [list(usable), list(to_order)]):
        assert questions.q5.outcome(first, last, *pair).status == "right"
    if usable["yoghurt"] != usable["cream"]:
        wrong = usable.set_axis(["cream", "yoghurt"])
        assert "are not what is left" in message(questions.q5, first, last, wrong, to_order)


def test_cents_are_named_and_three_digits_will_do():
    over, spoils, short = questions.q3.expected().values()
    assert questions.q3.outcome(round(over, 3), round(spoils, 3), round(short, 2)).status == "right"
    assert "in cents" in message(questions.q3, 100 * over, spoils, short)
    assert "Give the number unrounded" in message(questions.q3, round(over, 2), spoils, short)
    ratio, order, extra = questions.q1.expected().values()
    assert questions.q1.outcome(round(ratio, 2), order, extra, "the mean").status == "right"
