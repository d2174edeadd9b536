"""Exercise 16: other right answers are taken, near slips are named, a seed draws a world."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import exercise_data, exercise_logs, questions, world
from casebook.exercises.code import evaluated

STUDENT = 11


@pytest.fixture(autouse=True)
def chapters_world(monkeypatch):
    monkeypatch.delenv("CASEBOOK_STUDENT_SEED", raising=False)


def outcome(number: int, seed: int | None = None, /, **changes):
    """Judge a question's right answers, some of them changed by code on its scope, or a value."""
    question = getattr(questions, f"q{number}")
    fresh = replace(question, _tried=set(), _opened=[], _scopes={})
    fresh._scopes.update(question._scopes)
    scope, given = dict(question.scope(seed)), {}
    for part in question.parts:
        code = changes.get(part.name, part.right)
        given[part.name] = evaluated(code, scope) if isinstance(code, str) else code
        scope[part.name] = given[part.name]
    return fresh.outcome(*(given.get(name, changes.get(name, ...)) for name in question.names))


# What is right.


@pytest.mark.parametrize("seed", [None, STUDENT])
@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (
            2,
            {
                "threshold": "cut = best(choose)\n"
                "(cut + choose.loc[choose['margin'] < cut, 'margin'].max()) / 2"
            },
        ),
        (4, {"recall": "recalls().to_dict()", "best": "recalls().idxmax()"}),
        (4, {"recall": "[recalls()[cut] for cut in CUTS]", "best": "recalls().idxmax()"}),
        (5, {"folds": "by('topic')"}),
        (5, {"folds": "past['group']"}),
        (5, {"folds": "past['group'].to_numpy()", "share": "crossed(past['group'])"}),
        (7, {"interval": "drawn(by)"}),
    ],
)
def test_another_right_answer_is_right(monkeypatch, number, changes, seed):
    if seed:
        monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    result = outcome(number, **changes)
    assert result.status == "right", result.message


ESTIMATES = {
    "difference": "(judged.mean() + gap.mean(), reach(gap))",
    "mean over the pairs that nobody read": "others",
    "post-stratified by verdict": "strata",
    "fitted weight": "tuned",
    "regression": "fitted(judged)",
    "regression with length": "fitted(judged, length)",
    "regression on both verdicts and length": "fitted(first, second, length)",
}


@pytest.fixture(scope="module")
def many_worlds():
    """Return, for each of forty worlds, what people would say of all and every estimate."""
    worlds = []
    for seed in range(100, 140):
        scope = dict(questions.q3.scope(seed))
        found = {name: evaluated(code, scope) for name, code in ESTIMATES.items()}
        worlds.append((scope, exercise_logs.verdicts_and_people(seed)[1].mean(), found))
        questions.q3._scopes.pop(seed)
    return worlds


@pytest.mark.parametrize("name", ESTIMATES)
def test_every_fair_estimate_of_the_win_rate_is_taken_and_covers_the_truth(many_worlds, name):
    corrected, half = questions.q3.parts[2:]
    taken, covered = [], []
    for scope, truth, found in many_worlds:
        rate, reach = found[name]
        taken.append(evaluated(corrected.accepts, {**scope, "value": rate}))
        taken.append(evaluated(half.accepts, {**scope, "value": reach}))
        covered.append(abs(rate - truth) <= reach)
    assert all(taken)
    assert np.mean(covered) >= 0.85  # 95 % of forty, less three standard errors


@pytest.mark.parametrize("biased", ["judged.mean()", "same.mean()", "person.fillna(judged).mean()"])
def test_a_biased_estimate_is_taken_in_no_world(many_worlds, biased):
    accepts = questions.q3.parts[2].accepts
    for scope, _, _ in many_worlds:
        assert not evaluated(accepts, {**scope, "value": evaluated(biased, scope)})


# Slips near the right answer, and edges.


def test_a_threshold_chosen_on_all_rows_is_named_before_any_slack():
    result = outcome(2, threshold="best(desk)", saved="bill(rest, 0) - bill(rest, best(choose))")
    assert "chosen on *all* rows" in result.message


@pytest.mark.parametrize("near", [0.13, 0.16, 0.17, 0.175, 0.19])
def test_a_threshold_that_is_nearly_as_cheap_is_not_the_cheapest(near):
    result = outcome(2, threshold=near, saved="bill(rest, 0) - bill(rest, best(choose))")
    assert "are possible" in result.message
    costs = re.search(r"costs (\S+) euro", result.message)[1]
    possible = re.search(r"and (\S+) are possible", result.message)[1]
    assert float(costs) > float(possible)


@pytest.mark.parametrize("name", ESTIMATES)
def test_one_standard_error_of_any_estimate_is_named(name):
    result = outcome(3, half=f"({ESTIMATES[name]})[1] / 1.96")
    assert "one standard error" in result.message


NAMED = [
    (4, {"recall": "recalls(lambda t: t['total'] < 120)"}, "Fewer than 120 words"),
    (4, {"recall": "recalls(whatever_fits)"}, "skips a passage that does not fit"),
    (
        4,
        {
            "recall": "recalls(holds=lambda t: right_article(t) & (t['start'] < t['start_s'])"
            " & (t['end'] > t['end_s']))"
        },
        "at the very beginning or end",
    ),
    (
        4,
        {
            "recall": "recalls(holds=lambda t: (t['start'] <= t['start_s'])"
            " & (t['end'] >= t['end_s']))"
        },
        "the article has to be the same",
    ),
    (
        6,
        {
            "in_force": "lambda table, time: table[table['valid_from'] <= time]"
            ".sort_values('valid_from').groupby('article_id').tail(1)"
        },
        "never looks at `valid_to`",
    ),
    (7, {"dearer": "gap_of('customer').mean()"}, "customers' loss alone"),
    (7, {"unhelped": "unresolved(contacts)"}, "pooled"),
    (7, {"unhelped": "100 * unresolved(everything)"}, "per cent"),
]


@pytest.mark.parametrize("seed", [None, STUDENT])
@pytest.mark.parametrize(("number", "changes", "reason"), NAMED)
def test_a_usual_slip_has_its_own_reason(monkeypatch, number, changes, reason, seed):
    if seed:
        monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    right = getattr(questions, f"q{number}").expected()
    result = outcome(number, **{**right, **changes})
    assert reason in result.message
    assert 0.5 < result.earned < 1


# What is said.


def test_parts_are_judged_one_by_one_and_the_prediction_is_answered():
    part = outcome(2, threshold=..., saved=...)
    assert (part.status, part.earned) == ("right in part", pytest.approx(1 / 3))
    said = {guess: outcome(5, guess_5=guess).message for guess in ("harm", "no help")}
    assert "You predicted it: “harm”" in said["harm"]
    assert "“harm” comes true" in said["no help"]


def test_keys_in_quotes_are_refused_in_plain_words():
    result = outcome(4, recall={"20, 0": 0.2, "40, 20": 0.3}, best=(40, 20), growth="1.8")
    assert "`recall` has no number for `(20, 0)`" in result.message
    assert result.hints == ()


def test_no_message_shows_the_type_of_a_number():
    said = [outcome(4, best=np.array(cut), growth=1.5).message for cut in exercise_data.CUTS]
    said += [outcome(4, recall="recalls() + 0.1", best=(40, 20)).message, outcome(4).message]
    assert not [text for text in said if "np." in text]


# The world.


def test_the_exercise_holds_no_test_question():
    split = world.questions().set_index("id")["split"]
    shown = [
        exercise_data.desk().rows["id"],
        exercise_data.english()["query_id"],
        exercise_data.answered().index,
        exercise_data.sentences().index,
        exercise_data.past().index,
        exercise_logs.contacts()["question"],
    ]
    assert all(set(split.loc[list(ids)]) == {"tune"} for ids in shown)


@pytest.mark.parametrize("seed", [exercise_data.SEED, STUDENT])
def test_groups_of_topics_are_in_one_part(seed):
    rows = exercise_data.desk(seed).rows.set_index("id")
    part = exercise_data.answered(seed)["part"]
    assert part.groupby(rows["group"].loc[part.index]).nunique().max() == 1


KEPT = (exercise_data.answered, exercise_data.past, exercise_logs.versions, exercise_logs.served)


def test_a_seed_draws_every_table(monkeypatch):
    gives = (*KEPT, exercise_data.sentences, exercise_logs.verdicts, exercise_logs.contacts)
    chapters = [give() for give in gives]
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(STUDENT))
    for give, table in zip(gives, chapters, strict=True):
        own = give()
        assert not own.equals(table), give.__name__
        pd.testing.assert_frame_equal(own, give(seed=STUDENT))


@pytest.mark.parametrize("give", [*KEPT, exercise_logs.verdicts], ids=lambda give: give.__name__)
def test_what_is_handed_out_is_a_copy(give):
    columns = list(give())
    give().drop(columns=columns[0], inplace=True)
    assert list(give()) == columns


@pytest.mark.parametrize("seed", [exercise_data.SEED, STUDENT])
def test_the_cache_outlives_withdrawn_articles_and_fresh_answers_are_in_force(seed):
    log, versions = exercise_logs.served(seed=seed), exercise_logs.versions(seed)
    said = log.merge(versions, left_on="said", right_on="id")
    ends = said["valid_to"].fillna(pd.Timestamp("2200-01-01")) + pd.Timedelta(days=1)
    good = (said["valid_from"] <= said["time"]) & (said["time"] < ends)
    assert good[~said["from_cache"]].all()
    newest = versions.groupby("article_id")["version"].transform("max") == versions["version"]
    withdrawn = versions.loc[newest & versions["valid_to"].notna(), "id"]
    assert len(withdrawn) == exercise_logs.WITHDRAWN
    assert (~good & said["id"].isin(withdrawn)).any()


def test_a_memory_refuses_a_question_on_both_sides():
    ids = exercise_data.past().index
    with pytest.raises(ValueError, match="1 questions are in the training and in the test"):
        exercise_data.first_right(ids[:3], ids[2:5])
