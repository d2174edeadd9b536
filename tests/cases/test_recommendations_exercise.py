"""Exercise 09: a world for each student, in which no mistake passes for another or the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from exercise_kit import chapters_world, message  # noqa: F401
from scipy import stats

from casebook.cases.recommendations import exercise_data as data
from casebook.cases.recommendations import questions
from casebook.cases.recommendations.world import SEED
from casebook.exercises.collisions import collisions

QUESTIONS = [getattr(questions, f"q{k}") for k in range(1, 7)]
WORLDS = [SEED, *range(5)]


def fresh(question):
    """Return a question that nobody has tried."""
    return replace(question, _tried=set(), _opened=[])


@pytest.mark.parametrize("seed", [None, 1, 2, 3, 11, 77])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"q{q.number}")
def test_right_is_right_and_mistakes_are_apart(question, seed, monkeypatch):
    if seed is not None:
        monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    question = fresh(question)
    right = [question.expected()[part.name] for part in question.parts]
    assert question.outcome(*right, ...).status == "right"
    assert not collisions(question)


def test_students_have_other_numbers():
    for question in QUESTIONS[:5]:
        name = question.parts[0].name
        answers = [np.asarray(question.expected(seed)[name], float) for seed in (SEED, 1, 2)]
        assert not np.allclose(answers[0], answers[1]) and not np.allclose(answers[1], answers[2])
    assert data.ten(data.items(1)) != data.ten(data.items(2))


def test_the_list_that_the_text_makes_by_hand():
    rows = [(user, item) for user, viewed in enumerate(["ab", "ac", "ac", "a"]) for item in viewed]
    assert data.top_ten(pd.DataFrame(rows, columns=["user", "item"]))[3][:2] == ["c", "b"]


@pytest.mark.parametrize("seed", WORLDS)
def test_the_leak_is_in_the_rows_and_not_in_their_number(seed):
    found = questions.q1.expected(seed)
    assert found["by_chance"] > 1.35 * found["by_time"] and found["leak"] > 0.2
    views = data.views(seed)
    assert {21, 22} <= set(views["day"]) and not views.duplicated(["user", "item"]).any()
    assert views["drawn"].sum() == (views["day"] > data.TRAIN_UNTIL).sum()
    # As many rows of the past, and none of the test's week, bring nothing like it.
    last, drawn = views["day"] > data.TRAIN_UNTIL, views["drawn"]
    recall = questions.q1.scope(seed)["recall"]
    fewer = views[~drawn].sample((~last & ~drawn).sum(), random_state=seed)
    test = views[last & drawn]
    assert recall(fewer, test) > 1.3 * recall(views[~last & ~drawn], test)


@pytest.mark.parametrize("seed", WORLDS)
def test_the_correction_gives_back_what_was_learned_away(seed):
    tower = data.tower(seed)
    assert data.softmax(tower["score"])[tower["clicks"].idxmax()] < 0.1
    found = questions.q2.expected(seed)
    assert tower["clicks"].idxmax() in found["penalised"]
    assert found["chances"].idxmax() != tower["score"].idxmax()
    assert abs(found["chances"].sum() - 1) < 1e-9


def test_in_batch_negatives_learn_the_ratio_that_the_text_states():
    """A softmax over sampled negatives, fitted by gradient steps, learns log(P / Q)."""
    p, q, score = np.array([0.5, 0.3, 0.2]), np.array([0.8, 0.15, 0.05]), np.zeros(3)
    rng = np.random.default_rng(1)
    for step in range(3_000):
        batch = np.c_[rng.choice(3, 200, p=p), rng.choice(3, (200, 15), p=q)]
        chance = np.exp(score[batch])
        chance /= chance.sum(axis=1, keepdims=True)
        slope = np.bincount(batch[:, 0], minlength=3) - np.bincount(
            batch.ravel(), weights=chance.ravel(), minlength=3
        )
        score += slope / 200 * (2.0 if step < 1_500 else 0.2)
    assert np.allclose(data.softmax(pd.Series(score + np.log(q))), p, atol=0.03)


@pytest.mark.parametrize("seed", WORLDS)
def test_one_stage_keeps_the_budget_and_others_only_seem_to(seed):
    found, left = questions.q3.expected(seed), questions.q3.scope(seed)["left"]
    assert found["summed"] < 0.8 * data.BUDGET < data.BUDGET < found["whole"]
    assert [stage for stage in left if left[stage] <= data.BUDGET] == [found["halve"]]
    assert min(ms for stage, ms in left.items() if stage != found["halve"]) > 1.05 * data.BUDGET


@pytest.mark.parametrize("seed", WORLDS)
def test_the_rule_condemns_the_healthy_and_overlooks_the_largest(seed):
    splits, found = data.splits(seed), questions.q4.expected(seed)
    off = (splits["in_b"] / splits["users"] / splits["planned"] - 1).abs()
    largest = splits["users"].idxmax()
    assert largest in found["broken"] and off[largest] < 0.9 * data.RULE
    assert set(off.index[off > data.RULE]) - found["broken"]
    assert (np.log10(found["p_values"] / data.LEVEL).abs() > 0.15).all()


def test_counting_is_as_right_as_the_normal_distribution():
    often = [stats.binomtest(k, 1_000, 0.5).pvalue for k in (505, 506)]  # |B − 500| > 5 alarms
    scope = questions.q4.scope(SEED)
    assert often[1] < scope["counted"][0] + 1e-9 < often[0]
    p_values, broken = list(questions.q4.expected(SEED).values())[:2]
    assert fresh(questions.q4).outcome(p_values, broken, scope["counted"], ...).status == "right"


@pytest.mark.parametrize("seed", WORLDS)
def test_recall_names_the_copy_and_the_random_slice_the_best(seed):
    visits, found = data.visits(seed), questions.q5.expected(seed)
    true = pd.Series(visits.attrs["true"])
    assert found["pick"] == true.idxmax() and found["recalls"].idxmax() == true.idxmin()
    assert visits["chance"].notna().equals(visits["random"])
    assert found["effective"] < 0.2 * visits["random"].sum()


def test_the_estimate_of_the_random_slice_is_right_on_average_and_so_is_its_error():
    z = []
    for seed in range(25):
        found, true = questions.q5.expected(seed), questions.q5.scope(seed)["visits"].attrs["true"]
        z.append((found["values"][found["pick"]] - true[found["pick"]]) / found["error"])
        questions.q5._scopes.pop(seed)
    assert abs(np.mean(z)) < 0.6 and 0.7 < np.std(z) < 1.3


def test_chance_is_even_among_the_items_in_stock():
    visits = data.visits(3)
    drawn = visits[visits["random"]]
    for name in "ABC":  # each is in stock: it matches with the chance of its visit
        match = (drawn["shown"] == drawn[name]) - drawn["chance"]
        assert abs(match.sum()) < 4 * np.sqrt((drawn["chance"] * (1 - drawn["chance"])).sum())


@pytest.mark.parametrize("seed", WORLDS)
def test_each_rule_of_the_list_has_a_table(seed):
    tables = data.lists(data.items(seed))
    brands = [rows[rows["stock"] > 0]["brand"].value_counts() for rows in tables.values()]
    assert any(3 in counts.to_numpy() and counts.max() == 3 for counts in brands)
    assert any(counts.clip(upper=3).sum() < 10 <= counts.sum() for counts in brands)
    assert any(0 < counts.sum() < 10 for counts in brands) and any(c.empty for c in brands)
    assert any(rows["score"].duplicated().any() for rows in tables.values())
    assert any((rows["stock"] == 1).any() for rows in tables.values())
    for rows in tables.values():
        shown = rows.set_index("item").loc[data.ten(rows)]
        assert (shown["stock"] > 0).all() and len(shown) == min(10, (rows["stock"] > 0).sum())
        assert not shown.index.has_duplicates


_LISTS = {
    "items that are not in the table": (lambda rows: [1] * 10, "which is no number in the column"),
    "labels of the index": (lambda rows: rows.index[:10], "which is no number in the column"),
    "nothing": (lambda rows: [], "you return 0 items; 10 are possible"),
    "a first one twice": (lambda rows: data.ten(rows)[:1] * 10, "slot 2 has item"),
    "halves": (lambda rows: np.array(data.ten(rows)) + 0.5, "which is no number in the column"),
}


@pytest.mark.parametrize("made", _LISTS)
def test_a_list_that_is_no_usual_mistake_is_told_where_it_differs(made):
    function, told = _LISTS[made]
    assert told in message(fresh(questions.q6), function, ...)


def test_an_unstable_order_is_told_of_the_equal_scores():
    def order(rows):
        rows = rows[rows["stock"] > 0].sort_values("score", ascending=False)
        within = rows.groupby("brand").cumcount() < 3
        return [*rows["item"][within], *rows["item"][~within]][:10]

    assert "Their scores are equal" in message(fresh(questions.q6), order, ...)


_FORMS = {
    "the table": (lambda rows: rows, "should be a list of item numbers; it is a DataFrame"),
    "one number": (lambda rows: 7, "should be a list of item numbers"),
    "nothing returned": (lambda rows: None, "should be a list of item numbers"),
    "a set": (lambda rows: set(data.ten(rows)), "should be a list of item numbers; it is a set"),
    "a text": (lambda rows: [str(item) for item in data.ten(rows)], "holds text in quotes"),
    "filled up": (lambda rows: (data.ten(rows) + 10 * [None])[:10], "holds a missing number"),
}


@pytest.mark.parametrize("made", _FORMS)
def test_a_list_of_the_wrong_form_costs_no_hint(made):
    function, told = _FORMS[made]
    found = fresh(questions.q6).outcome(function, ...)
    assert (found.status, found.hints) == ("wrong", ()) and told in found.message


@pytest.mark.parametrize("held", [np.array, pd.Series, iter, dict.fromkeys, pd.Index])
def test_whatever_holds_the_numbers_will_do(held):
    assert fresh(questions.q6).outcome(lambda rows: held(data.ten(rows)), ...).status == "right"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda right: 100 * right, "In per cent it is right"),
        (lambda right: np.round(right, 2), "rounded too much"),
        (lambda right: 1.07 * right, "is not"),
    ],
)
def test_right_shares_in_another_form_are_told_so(change, told):
    right = questions.q2.expected(SEED)
    said = message(fresh(questions.q2), change(right["shares"]), change(right["chances"]), ..., ...)
    assert said.count(told) == 2
    assert ("In per cent" in said) + ("rounded" in said) == (told != "is not")


def test_other_definitions_of_a_percentile_are_right_for_stages_too():
    timings, right = data.timings(SEED), questions.q3.expected(SEED)
    ordered = sum(np.sort(timings[stage])[380] for stage in timings)
    assert fresh(questions.q3).outcome(*{**right, "summed": ordered}.values(), ...).status == (
        "right"
    )
    median = timings.median().sum()
    assert "own 95th" in message(fresh(questions.q3), *{**right, "summed": median}.values(), ...)


def test_a_rule_that_alarms_at_one_per_cent_exactly_is_told_so():
    rng, right = np.random.default_rng(1), questions.q4.expected(SEED)
    for at_least in (True, False):  # five off of 500 is not more than 1 %
        drawn = [np.abs(rng.binomial(n, 0.5, 100_000) - n / 2) for n in data.SIZES]
        edges = [data.RULE * n / 2 for n in data.SIZES]
        often = [
            (off >= edge if at_least else off > edge).mean()
            for off, edge in zip(drawn, edges, strict=True)
        ]
        found = fresh(questions.q4).outcome(right["p_values"], right["broken"], often, ...)
        assert ("exactly 1 %" in found.message) == at_least
        assert found.status == ("wrong" if at_least else "right")


def test_a_number_that_follows_from_a_wrong_stage_is_told_so():
    right, left = questions.q3.expected(SEED), questions.q3.scope(SEED)["left"]
    answers = right["whole"], right["summed"], "ranking", left["ranking"], ...
    assert "`after` follows from your `halve`" in message(fresh(questions.q3), *answers)
