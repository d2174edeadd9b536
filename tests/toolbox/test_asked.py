"""Declared questions: slips, parts, forms of an answer, functions, predictions, collisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.exercises import grading
from casebook.exercises.asked import (
    Column,
    Exercise,
    Function,
    Groups,
    Labels,
    Number,
    Numbers,
    Part,
    Prediction,
    Slip,
    Table,
    Word,
    parts,
    slips,
    written,
)
from casebook.exercises.code import TOOLS, distinct, evaluated, fill, run, set_up
from casebook.exercises.collisions import collisions

TRIPS = pd.Series([1.0, 2.0, 4.0, 5.0], index=list("abcd"))
ROWS = pd.DataFrame({"day": [1, 2, 3], "n": [10, 20, 30]})
MORE = pd.Series([1.0, 2.0, 4.0, 5.0, 9.0], index=list("abcdz"))
EXERCISE = Exercise(
    "00_tiny",
    seed=1,
    given={
        "trips": lambda seed: TRIPS * seed,
        "rows": lambda seed: ROWS,
        "costly": lambda seed: pytest.fail("no question names it"),
    },
)
TOTAL = Part(
    "total",
    "trips.sum()",
    [
        Slip("trips.mean()", "This is the mean, {value:.0f}, of {len(trips)}."),
        Slip(("trips.max()", "max(trips)"), "This is the largest."),
        Slip("1000 * right", "{value:.0f} is far too much.", when="value > 100"),
    ],
    otherwise="{value:g} is not {right:g}.",
    also=["np.sum(trips)"],
)
HALF = Part(
    "half",
    "total / 2",
    [Slip("total", "This is the whole."), Slip("total / 4", "This is a quarter.")],
    otherwise="Divide by two.",
)
GUESS = Prediction(
    "guess", ("above", "below"), "'above' if half > 2 else 'below'", "Half is {half}."
)


def question(*parts, **changes):
    given = {"shows": "It is {" + parts[-1].name + ":g}.", "hints": ("Add.", "Divide.", "Six.")}
    return EXERCISE.asked(1, "`x`", parts, **{**given, **changes})


def of_kind(kind, right, slips=("0", "1"), **changes):
    """Return a question with one part of a kind, `x`."""
    slips = [slip if isinstance(slip, Slip) else Slip(slip, f"slip {slip}") for slip in slips]
    part = Part("x", right, slips, "other", kind, **changes)
    return EXERCISE.asked(1, "`x`", [part], shows="Yes.", hints=("Add.",))


def status(asked, *answers):
    outcome = asked.outcome(*answers)
    return outcome.status, outcome.message


# Slips.


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (3.0, "This is the mean, 3, of 4."),
        (5, "This is the largest."),
        (5_000.0, "5000 is far too much."),
        (7.5, "7.5 is not 12."),
    ],
)
def test_a_slip_is_known_by_its_value_or_its_condition(answer, message):
    assert status(question(TOTAL), answer) == ("wrong", message)


def test_the_value_of_a_slip_comes_from_its_code_in_each_world(monkeypatch):
    monkeypatch.setenv(grading.STUDENT_SEED, "3")
    assert status(question(TOTAL), 9.0) == ("wrong", "This is the mean, 9, of 4.")
    assert question(TOTAL).outcome(36).status == "right"


def test_a_slip_is_computed_once_in_a_world_unless_it_depends_on_an_answer():
    calls = []
    counted = replace(EXERCISE, given={**EXERCISE.given, "mark": lambda seed: calls.append})
    by_value = Slip("mark('once')\ntrips.mean()", "Mean.")
    by_answer = Slip("mark(total)\ntotal / 4", "A quarter.")
    parts = [replace(TOTAL, slips=[by_value, by_value]), replace(HALF, slips=[by_answer])]
    asked = counted.asked(1, "`x`", parts, shows="Yes.", hints=("Add.",))
    assert asked.outcome(12, 3).message == "`total` is right. A quarter."
    assert asked.outcome(12.03, 3).message == "`total` is right. A quarter."
    assert asked.expected(2) == {"total": 24.0, "half": 12.0}
    assert calls == ["once", 12, 12.03]


def test_what_is_right_is_computed_once_in_a_world_unless_it_depends_on_an_answer():
    calls = []
    counted = replace(EXERCISE, given={**EXERCISE.given, "mark": lambda seed: calls.append})
    total = replace(TOTAL, right=f"mark('once')\n{TOTAL.right}")
    half = replace(HALF, right=f"mark(total)\n{HALF.right}")
    asked = counted.asked(1, "`x`", [total, half], shows="Yes.", hints=("Add.",))
    assert asked.outcome(12, 6).status == asked.outcome(12.03, 6).status == "right"
    assert calls.count("once") == 1
    assert {12, 12.03} <= {*calls}


def test_a_question_calls_only_what_it_names():
    assert question(TOTAL).expected(2) == {"total": 24.0}  # `costly` would fail


def test_a_slip_within_the_tolerance_is_recognised_before_it():
    near = replace(TOTAL, slips=[*TOTAL.slips, Slip("right * 1.002", "Two per thousand.")])
    assert status(question(near), 12 * 1.002) == ("wrong", "Two per thousand.")
    assert question(near).outcome(12 * 1.0005).status == "right"


def test_a_slip_within_what_is_accepted_is_recognised_before_it():
    lenient = replace(
        TOTAL, accepts="value < 13", slips=[Slip("12.6", "All rows."), Slip("1", "No.")]
    )
    assert question(lenient).outcome(12.7).status == "right"
    assert status(question(lenient), 12.6) == ("wrong", "All rows.")


def test_slips_that_give_the_same_are_both_named():
    twins = replace(TOTAL, slips=[*TOTAL.slips, Slip("trips.median()", "This is the median.")])
    assert status(question(twins), 3.0) == (
        "wrong",
        "Either: This is the mean, 3, of 4. Or: This is the median.",
    )


def test_a_rounded_answer_is_told_so_and_costs_no_hint():
    third = of_kind(Number(0.001), "10 / 3")
    outcome = third.outcome(3.3)
    assert "rounded too much" in outcome.message
    assert outcome.hints == ()


def test_a_round_number_may_be_an_answer_of_its_own():
    grid = of_kind(Number(0.001, unrounded=False), "10 / 3")
    outcome = grid.outcome(3.3)
    assert (outcome.message, len(outcome.hints)) == ("other", 1)


def test_braces_in_the_code_of_a_right_answer_are_left_alone():
    [first, *_] = of_kind(Number(), "2.0", ("4", "5"), also=["dict({}, a=2.0)['a']"]).right_answers
    names = {}
    run(first, names)
    assert names["x"] == 2.0


def test_too_few_answers_are_refused():
    with pytest.raises(ValueError, match="at least two wrong answers"):
        question(replace(TOTAL, slips=TOTAL.slips[:1]))
    with pytest.raises(ValueError, match="at least three right answers"):
        of_kind(replace_styles(Number(), ()), "1", slips=("2", "3"))


def replace_styles(kind, styles):
    made = replace(kind)
    object.__setattr__(made, "styles", styles)
    return made


# Parts.


def test_each_part_is_checked_by_itself():
    both = question(TOTAL, HALF)
    found = {answers: both.outcome(*answers) for answers in [(12, ...), (12, 3), (3, 6), (3, ...)]}
    assert {a: (o.status, o.earned) for a, o in found.items()} == {
        (12, ...): ("right in part", 0.5),
        (12, 3): ("wrong", 0.5),
        (3, 6): ("wrong", 0.5),
        (3, ...): ("wrong", 0.0),
    }
    assert found[12, ...].message == "`total` is right. `half` is still missing."
    assert found[12, 3].message == "`total` is right. This is a quarter."
    assert found[3, 6].message == "`half` is right. This is the mean, 3, of 4."
    assert found[3, ...].message == ("`total`: This is the mean, 3, of 4. `half` is still missing.")
    assert both.outcome(..., ...).status == "not attempted"
    assert both.outcome(12, 6).earned == 1


def test_a_part_that_follows_from_a_wrong_one_is_told_so():
    outcome = question(TOTAL, HALF).outcome(10, 5)
    assert "`half` follows from your `total`: mend that first." in outcome.message
    assert outcome.earned == 0


def test_a_part_is_named_once():
    outcome = question(TOTAL, HALF).outcome("12", ...)
    assert outcome.message == (
        "`total` should be one number; it is text in quotes (of type str): '12'. "
        "`half` is still missing."
    )


def test_only_wrong_parts_open_hints():
    both = question(TOTAL, HALF)
    assert len(both.outcome(12, 3).hints) == 1
    assert len(both.outcome(12.001, 3).hints) == 1
    assert len(both.outcome(12, "six").hints) == 1
    assert len(both.outcome(12, 3.5).hints) == 2


def test_the_hint_of_the_part_that_is_wrong_opens_first():
    both = question(TOTAL, HALF, helps=("total", "half", "half"))
    opened = [both.outcome(*given).hints for given in ((12, 3), (12, 4), (12, 5), (1, 6))]
    assert opened[0] == ("Divide.",)
    assert opened[1] == ("Divide.", "Six.")
    assert opened[2] == opened[3] == ("Divide.", "Six.", "Add.")  # nothing else is left
    for wrong in (("total",), ("total", "half", "none")):
        with pytest.raises(ValueError, match="a part for each hint"):
            question(TOTAL, HALF, helps=wrong)


@pytest.fixture
def graded(monkeypatch):
    monkeypatch.setattr(grading, "_GRADED", True)


def test_under_nbgrader_a_check_returns_the_share_of_the_right_parts(graded, shown):
    both = question(TOTAL, HALF)
    assert both.check(12, 3) == 0.5
    assert both.check(12, ...) == 0.5
    assert both.check(12, 6) is None
    with pytest.raises(grading.NotRight):
        both.check(1, 2)


def test_elsewhere_a_check_returns_nothing(monkeypatch, shown):
    monkeypatch.setattr(grading, "_GRADED", False)
    assert question(TOTAL, HALF).check(12, 3) is None


# Forms of an answer.

NUMBERS = Numbers((3,))
FRAME = ROWS[["day", "n"]]
FORMS = {
    "rows of a column": (
        NUMBERS,
        "[1, 2, 3]",
        [[[1], [2], [3]], [[1, 2, 3]], pd.Series([1, 2, 3])],
    ),
    "a matrix": (Numbers((2, 2)), "np.eye(2)", [np.eye(2, dtype=int), pd.DataFrame(np.eye(2))]),
    "labels": (Labels("trips.index"), "{'a', 'b'}", [["b", "a"], np.array(["a", "b"]), ("a", "b")]),
    "a column": (
        Column(),
        "trips",
        [
            TRIPS.iloc[::-1],
            TRIPS.astype(object),
            TRIPS.to_dict(),
            TRIPS.to_numpy(),
            TRIPS.to_frame("any"),
        ],
    ),
    "a column with its labels": (Column(exact=True), "trips", [TRIPS.iloc[::-1]]),
    "a column with more": (Column(surplus=True), "trips", [MORE, MORE.to_dict()]),
    "groups with more": (Groups(surplus=True), "trips", [MORE.map("g{:.0f}".format)]),
    "groups": (
        Groups(),
        "pd.Series([0, 1, 0, 1], trips.index)",
        [
            pd.Series(list("yxyx"), TRIPS.index),
            pd.Series([7, 7, 3, 3], list("acbd")),
            dict(zip("abcd", (True, False, True, False), strict=True)),
            np.array(["one", "two", "one", "two"]),
        ],
    ),
    "a word": (Word(("Yes", "no")), "'Yes'", ["Yes", "yes", " YES ", np.str_("yes")]),
    "a table": (
        Table(("day",)),
        "rows",
        [
            FRAME.iloc[::-1],
            FRAME[["n", "day"]].astype(float),
            FRAME.assign(more=1),
            FRAME.set_index("day"),
            FRAME.set_index("day", drop=False),
            FRAME.to_numpy(),
        ],
    ),
}


@pytest.mark.parametrize(
    ("kind", "right", "answer"),
    [(k, r, a) for k, r, answers in FORMS.values() for a in answers],
)
def test_a_right_answer_in_another_form_is_right(kind, right, answer):
    wrong = {
        "Labels": ("{'a'}", "{'b'}"),
        "Table": ("rows.assign(n=1)", "rows.assign(n=2)"),
        "Groups": ("0 * right", "pd.Series(range(4), trips.index)"),
        "Word": ("'no'", "'No'"),
    }
    slips = wrong.get(type(kind).__name__, ("np.multiply(right, 2)", "np.multiply(right, 3)"))
    assert status(of_kind(kind, right, slips=slips), answer) == ("right", "Yes.")


@pytest.mark.parametrize(
    ("kind", "right", "answer", "message"),
    [
        (NUMBERS, "[1, 2, 3]", [1, 2], "should be 3 numbers; its shape is (2,)"),
        (NUMBERS, "[1, 2, 3]", "123", "should be 3 numbers; it is text in quotes"),
        (NUMBERS, "[1, 2, 3]", [1, 2, "x"], "should hold numbers only"),
        (NUMBERS, "[1, 2, 3]", [1, 2, np.nan], "missing or infinite"),
        (Labels("trips.index"), "{'a'}", 7, "a set of names in quotes"),
        (Labels("trips.index"), "{'a'}", {"z"}, "There is no `z` to choose in `x`"),
        (Labels("trips.index"), "{'a'}", [True, True], "There is no `True` to choose in `x`"),
        (Column(), "trips", TRIPS[:2], "has no number for `c`, `d`"),
        (Column(), "trips", [1.0], "should hold 4 numbers; it holds 1"),
        (Column(), "trips", 7, "should be a Series"),
        (Column(), "trips", TRIPS.iloc[[0, 0, 1]], "two numbers for one label"),
        (Column(), "trips", TRIPS * np.nan, "missing or infinite"),
        (Column(), "trips", MORE, "a number for 4 labels; it has 1 more, such as for `z`"),
        (Column(), "trips", MORE.to_dict(), "it has 1 more, such as for `z`"),
        (Column(exact=True), "trips", TRIPS.to_numpy(), "should be a Series with its index"),
        (Column(exact=True), "trips", TRIPS.iloc[[0, 0, 1]], "two numbers for one label"),
        (Groups(), "trips", MORE, "a group for 4 labels; it has 1 more, such as for `z`"),
        (Groups(), "trips", TRIPS[:2], "has no group for `c`, `d`"),
        (Groups(), "trips", [1, 2, 3], "should hold 4 groups; it holds 3"),
        (Groups(), "trips", [1, 2, None, 2], "has no group for `c`"),
        (Groups(called="fold"), "trips", [1, 2, None, 2], "has no fold for `c`"),
        (Word(("yes", "no")), "'yes'", "maybe", 'should be "yes" or "no"'),
        (Word(("yes", "no")), "'yes'", 1, "it is of type int"),
        (Table(("day",)), "rows", 7, "should be a DataFrame"),
        (Table(("day",)), "rows", ROWS[["day"]], "has no column `n`"),
        (Table(("day",)), "rows", ROWS.groupby("day").agg({"n": ["sum"]}), "columns of 2 levels"),
        (Table(("day",)), "rows", pd.concat([ROWS, ROWS]), "two rows for one `day`"),
        (Function("[(1,)]"), "abs", 7, "should be a function"),
    ],
)
def test_a_wrong_form_is_named_and_costs_no_hint(kind, right, answer, message):
    outcome = of_kind(kind, right).outcome(answer)
    assert outcome.status == "wrong"
    assert message in outcome.message
    assert outcome.hints == ()


def test_a_form_that_betrays_its_slip_is_named_and_costs_a_hint():
    lying = Slip("[[1], [2]]", "It lies on its side.", form="np.shape(value) == (2, 1)")
    outcome = of_kind(Numbers((2, 2)), "np.eye(2)", [lying, "np.ones((2, 2))"]).outcome([[1], [2]])
    assert outcome.message == "It lies on its side."
    assert len(outcome.hints) == 1


@pytest.mark.parametrize(
    ("kind", "right", "answer"),
    [
        (Number(0.01), "100", 101.1),
        (Numbers((2,)), "[1, 100]", [1.1, 100]),
        (Labels("trips.index"), "{'a', 'b'}", {"a"}),
        (Column(), "trips", TRIPS + np.array([0, 0, 0, 0.1])),
        (Column(exact=True), "trips", MORE),
        (Column(exact=True), "trips", TRIPS[:3]),
        (Table(("day",)), "rows", ROWS.assign(n=[10, 20, 31])),
        (Groups(), "pd.Series([0, 1, 0, 1], trips.index)", [0, 1, 1, 0]),
        (Groups(), "pd.Series([0, 1, 0, 1], trips.index)", [0, 1, 0, 2]),
        (Word(("yes", "no")), "'yes'", "no"),
        (Table(("day",)), "rows", ROWS.iloc[:2]),
        (Table(("day",)), "rows", ROWS.assign(day=[1, 2, 4])),
        (Function("[(1,), (-1,)]"), "abs", float),
    ],
)
def test_another_value_is_wrong(kind, right, answer):
    slips = [Slip("1", "no", when="False"), Slip("2", "never", when="False")]
    outcome = of_kind(kind, right, slips).outcome(answer)
    assert (outcome.status, outcome.message, len(outcome.hints)) == ("wrong", "other", 1)


# Functions.


def old():
    """Return a question about a function: is a day at least seven days old?"""
    return of_kind(
        Function("[(6,), (7,), (8,)]"),
        "lambda days: days >= 7",
        [Slip("lambda days: days > 7", "Seven days count."), Slip("lambda days: True", "Always.")],
    )


def test_a_function_is_judged_by_what_it_does():
    def mine(age):
        return not age < 7

    assert old().outcome(mine).status == "right"
    assert old().outcome(lambda d: d >= 8).message == "Seven days count."
    assert old().outcome(lambda d: d < 7).message == "other"


def test_a_function_that_stops_is_told_its_line_and_costs_no_hint():
    names = {}
    exec(compile("def f(d):\n    half = d / 2\n    return half / 0\n", "cell-3", "exec"), names)
    outcome = old().outcome(names["f"])
    assert (
        "`x` stopped with ZeroDivisionError: float division by zero; in line 3" in outcome.message
    )
    assert outcome.hints == ()


def test_the_right_function_is_called_once_in_a_world():
    calls = []
    counted = replace(EXERCISE, given={"mark": lambda seed: calls.append})
    slips = [Slip("lambda days: days > 7", "Seven."), Slip("lambda days: True", "Always.")]
    part = Part("x", "lambda days: [days >= 7, mark(days)][0]", slips, "", Function("[(6,), (7,)]"))
    asked = counted.asked(1, "`x`", [part], shows="Yes.", hints=("Add.",))
    assert [asked.outcome(f).message for f in (lambda d: d > 7, lambda d: d > 6)] == [
        "Seven.",
        "Yes.",
    ]
    assert calls == [6, 7]


def test_a_function_cannot_change_what_the_next_one_is_asked():
    def spoils(frame):
        frame["n"] = 0
        return 60

    probed = of_kind(Function("[(rows,)]"), "lambda frame: frame['n'].sum()", ("len", "min"))
    assert probed.outcome(spoils).status == "right"
    assert ROWS["n"].sum() == 60


def late():
    """Return a question about a function that returns rows: those from a day on."""
    return of_kind(
        Function("[(rows, 2), (rows, 3)]", returns=Table(("day",))),
        "lambda frame, day: frame[frame['day'] >= day]",
        [
            Slip("lambda frame, day: frame[frame['day'] > day]", "The day belongs to it."),
            Slip("lambda frame, day: frame", "These are all."),
        ],
    )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda frame, day: frame[~(frame["day"] < day)].iloc[::-1][["n", "day"]], "Yes."),
        (lambda frame, day: frame.query("day > @day"), "The day belongs to it."),
        (lambda frame, day: frame.tail(2), "other"),
        (lambda frame, day: frame[["day"]], "`x(…)` has no column `n`."),
        (lambda frame, day: 7, "`x(…)` should be a DataFrame; it is of type int."),
    ],
)
def test_what_a_function_returns_is_read_as_its_kind(function, message):
    outcome = late().outcome(function)
    assert outcome.message == message
    assert len(outcome.hints) == (message in ("The day belongs to it.", "other"))


@pytest.mark.parametrize(
    ("surplus", "message"),
    [
        (False, "`x(…)` should have a number for 2 labels; it has 2 more, such as for `a`, `b`."),
        (True, "Yes."),
    ],
)
def test_rows_that_a_function_returns_and_nobody_asked_for_are_named(surplus, message):
    late_trips = of_kind(
        Function("[(trips, 4)]", returns=Column(surplus=surplus)),
        "lambda trips, least: trips[trips >= least]",
        ["lambda trips, least: 0 * trips[trips >= least]", "lambda trips, least: len"],
    )
    outcome = late_trips.outcome(lambda trips, least: trips)
    assert (outcome.message, outcome.hints) == (message, ())


# Predictions.


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        ("above", "You predicted it: “above”. Half is 6.0."),
        (" Below", "You predicted “below”, but “above” comes true. Half is 6.0."),
        (..., "You wrote no prediction; “above” comes true. Half is 6.0."),
        (7, '`guess` should be "above" or "below"; “above” comes true. Half is 6.0.'),
        (["above"], '`guess` should be "above" or "below"; “above” comes true. Half is 6.0.'),
    ],
)
def test_the_success_line_answers_the_prediction(guess, said):
    outcome = question(TOTAL, HALF, prediction=GUESS).outcome(12, 6, guess)
    assert (outcome.status, outcome.earned) == ("right", 1)
    assert outcome.message == f"It is 6. {said}"


def test_a_prediction_alone_is_no_attempt():
    assert (
        question(TOTAL, HALF, prediction=GUESS).outcome(..., ..., "above").status == "not attempted"
    )


# Collisions, code and templates.


def test_slips_that_can_be_told_apart_collide_nowhere():
    assert collisions(question(TOTAL, HALF)) == []


def test_a_slip_that_gives_the_right_answer_is_found():
    planted = replace(TOTAL, slips=[*TOTAL.slips, Slip("trips.mean() * 4", "No.")])
    [found] = collisions(question(planted))
    assert str(found) == "`total`: 'trips.sum()' and 'trips.mean() * 4' give the same"
    assert found.reasons == ("No.",)


def test_slips_that_give_the_same_are_found_in_one_world_only():
    planted = replace(TOTAL, slips=[*TOTAL.slips, Slip("6.0", "Six.")])
    assert collisions(question(planted), seed=1) == []
    [found] = collisions(question(planted), seed=2)
    assert found.codes == ("trips.mean()", "6.0")


def test_slips_within_the_tolerance_collide():
    planted = replace(TOTAL, slips=[*TOTAL.slips, Slip("trips.mean() * 1.002", "Near.")])
    assert len(collisions(question(planted))) == 1


def test_two_ways_to_one_slip_are_no_collision():
    assert [slip.codes for slip in TOTAL.slips][1] == ("trips.max()", "max(trips)")
    assert collisions(question(TOTAL)) == []


def test_the_answers_to_be_tried_are_made_of_the_same_text():
    both = question(TOTAL, HALF)
    names = {"trips": TRIPS}
    for wrong in both.wrong_answers:
        scope = dict(names)
        run(wrong.code, scope)
        outcome = both.outcome(scope["total"], scope["half"])
        assert outcome.status == "wrong" and wrong.reason in outcome.message
        assert wrong.code.startswith(both.right_code)
    assert len(both.wrong_answers) == 6
    for code in both.right_answers:
        scope = dict(names)
        run(code, scope)
        assert both.outcome(scope["total"], scope["half"]).status == "right"
        assert code.startswith(both.right_code)
    assert len(both.right_answers) == 1 + 4 + 4


def test_code_leaves_the_names_of_the_notebook_as_they_are():
    names = {"x": 1}
    assert evaluated("x = 2\nx + y + right", names, setup="y = 3", right="10") == 15
    assert names == {"x": 1}


def test_what_is_tried_is_set_up_once():
    calls: list[int] = []
    names = {"trips": TRIPS, "mark": calls.append}
    asked = question(TOTAL, HALF, setup="mark(len(trips))\nfirst = trips[:1]")
    scope = dict(names)
    run(asked.right_code, scope)
    for wrong in asked.wrong_answers:
        answers = dict(scope)
        run(wrong.code.removeprefix(asked.right_code), answers)
        assert (answers["total"], answers["half"]) != (scope["total"], scope["half"])
    assert calls == [4]
    assert set_up("n = len(trips)\nmark = n", names) == {"n": 4, "mark": 4}


def test_a_template_takes_expressions():
    assert fill("{rows['n'][1:].sum():,.1f} of {names(['a'])}", TOOLS | {"rows": ROWS}) == (
        "50.0 of `a`"
    )


@pytest.mark.parametrize(
    ("value", "others", "said"),
    [(1.0029, [1.0031], "1.0029"), (1.0029, [1.0029], "1"), (0.5, [0.25], "0.5")],
)
def test_a_number_is_told_with_the_digits_that_matter(value, others, said):
    assert distinct(value, *others) == said


def test_a_check_with_another_number_of_answers_does_not_end_run_all():
    outcome = question(TOTAL, HALF).outcome(12)
    assert "takes 2 answers" in outcome.message


# Slips as a text -----------------------------------------------------------------------


def test_slips_are_read_from_a_text():
    found = slips("""
trips.mean()
  This is the mean, {value:.0f},
  of {len(trips)}.
trips.max()
max(trips)
  This is the largest.
1000 * right
  when: value > 100
  {value:.0f} is far too much.
""")
    assert found == TOTAL.slips


def test_a_form_is_read_from_a_text():
    [slip] = slips("[9]\n  form: isinstance(value, list)\n  One number\n  was asked for.")
    assert slip == Slip("[9]", "One number was asked for.", form="isinstance(value, list)")


@pytest.mark.parametrize("text", ["trips.max()", "  It says something.", "1\n  so.\n2"])
def test_a_slip_without_its_code_or_its_reason_is_refused(text):
    with pytest.raises(ValueError, match="a slip is code and"):
        slips(text)


def test_parts_are_read_from_a_text():
    found = parts(
        """
total = trips.sum()
sum(trips)
  when: value > 1_000
  {value:.0f} is
  not it.
right / 2
  This is half.

half = total / 2
  It is another number.
total
  This is the whole.
""",
        half=Number(0.1),
    )
    assert found == [
        Part(
            "total",
            "trips.sum()",
            [Slip("right / 2", "This is half.")],
            "{value:.0f} is not it.",
            also=("sum(trips)",),
            accepts="value > 1_000",
        ),
        Part(
            "half",
            "total / 2",
            [Slip("total", "This is the whole.")],
            "It is another number.",
            Number(0.1),
        ),
    ]


@pytest.mark.parametrize(
    ("text", "kinds", "reason"),
    [
        ("x == 1\n  so.\n", {}, "parts begin with"),
        ("", {}, "parts begin with"),
        ("1\n  so.\nx = 1\n  so.\n", {}, "parts begin with"),
        ("x = 1\n", {}, "a slip is code and"),
        ("x = 1\n  form: True\n  so.\n", {}, "what is right has no `form: …`"),
        ("x = 1\n  so.\n", {"y": Number()}, "there is no part `y`"),
    ],
)
def test_parts_without_a_name_a_reason_or_a_place_are_refused(text, kinds, reason):
    with pytest.raises(ValueError, match=reason):
        parts(text, **kinds)


def test_parts_that_are_alike_are_written_once():
    text = written(
        "NAME = SCORE\n  ELSE\n1\n  One.\n", NAME="x", SCORE="f(RATE)", RATE="2", ELSE="No."
    )
    assert parts(text) == [Part("x", "f(2)", [Slip("1", "One.")], "No.")]
