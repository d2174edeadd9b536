"""Exercise 17: a world for each student, in which no mistake passes for another or the answer."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.support_agent import exercise_data as data
from casebook.cases.support_agent import policy, questions
from casebook.cases.support_agent.policy import Asked, Facts, Past
from casebook.evaluate.attempts import pass_at_k, pass_hat_k
from casebook.evaluate.intervals import rule_of_three
from casebook.exercises.collisions import collisions
from casebook.serving.once import Once

QUESTIONS = [getattr(questions, f"q{k}") for k in range(1, 7)]
WORLDS = [questions.SEED, *range(5)]


@pytest.mark.parametrize("seed", [None, 1, 2, 3, 11, 77])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: f"q{q.number}")
def test_right_is_right_and_mistakes_are_apart(question, seed, monkeypatch):
    if seed is not None:
        monkeypatch.setenv("CASEBOOK_STUDENT_SEED", str(seed))
    question = replace(question, _tried=set(), _opened=[])
    right = [question.expected()[part.name] for part in question.parts]
    guess = [...] if question.prediction else []
    assert question.outcome(*right, *guess).status == "right"
    assert not collisions(question)


def test_students_have_other_numbers():
    for question in [q for q in QUESTIONS if q.number not in (3, 4)]:
        name = question.parts[0].name
        one, other = (question.expected(seed)[name] for seed in (1, 2))
        assert not np.isclose(one, other)
    assert data.replies(1).to_csv() != data.replies(2).to_csv()
    assert data.asked(1) != data.asked(2)


@pytest.mark.parametrize("seed", WORLDS)
def test_the_toolbox_agrees_about_attempts(seed):
    table = data.attempts(seed)
    tasks = [[True] * c + [False] * (n - c) for n, c in table.to_numpy()]
    for k in (1, 2, 3, 4):
        assert data.every_time(table, k) == pytest.approx(pass_hat_k(tasks, k).mean)
        assert data.at_least_once(table, k) == pytest.approx(pass_at_k(tasks, k).mean)


def test_what_the_texts_make_by_hand():
    two = pd.DataFrame({"tried": [4, 4], "right": [4, 2]})
    assert data.every_time(two, 2) == pytest.approx(7 / 12)
    assert data.at_least_once(two, 2) == pytest.approx(11 / 12)
    rows = [("1", 3_900, "paid", "engine", 1), ("1", 3_900, "doing", "engine", 0)]
    past = pd.DataFrame(rows, columns=["order", "cents", "state", "by", "days_ago"])
    assert [data.rule()("1", cents, past) for cents in (200, 201)] == ["pay", "person"]
    tries = pd.DataFrame(
        [("p1", 1, "7", 500), ("p1", 2, "7", 500), ("p2", 1, "7", 500)],
        columns=["proposal", "attempt", "order", "cents"],
    )
    keys = ("proposal",), ("proposal", "attempt"), ("order", "cents")
    assert [data.paid(tries, key) for key in keys] == [1_000, 1_500, 500]


EDGES = {
    "the limit itself": {"strict": True},
    "on its way": {"states": ("paid",)},
    "waits for a person": {"states": ("paid", "doing", "queued")},
    "declined": {"states": ("paid", "doing", "declined")},
    "refused": {"states": ("paid", "doing", "refused")},
    "allowed by a person": {"people": True},
    "another order": {"same": False},
    "each call alone": {"sums": False},
    "a month's window": {"window": data.WINDOW},
    "forgotten on its way": {"waits": data.WINDOW},
    "allowed and on its way": {"started": True},
}


@pytest.mark.parametrize("seed", WORLDS)
@pytest.mark.parametrize("edge", EDGES)
def test_a_row_of_the_data_decides_each_edge_of_the_limit(edge, seed):
    past = data.refunds(seed)
    right, wrong = data.rule(), data.rule(**EDGES[edge])
    cases = [(order, cents, past) for order, cents in data.asked(seed)]
    assert [right(*one) for one in cases] != [wrong(*one) for one in cases]


@pytest.mark.parametrize("seed", WORLDS)
def test_the_rule_of_the_exercise_is_the_engines(seed):
    past = data.refunds(seed)
    terms = type("Terms", (), {"alone_cents": data.LIMIT})
    held = [
        Past("C1", "s", r.order, r.cents, "lost", by_person=r.by == "person", age=r.days_ago)
        for r in past[past["state"].isin(("paid", "doing"))].itertuples()
    ]
    for order, cents in data.asked(seed):
        facts = Facts(None, None, (), 0, held, None)
        large = policy.large_sum(Asked("C1", "s", order, cents, "lost"), facts, terms)
        assert data.rule()(order, cents, past) == ("person" if large else "pay")


@pytest.mark.parametrize("seed", WORLDS)
def test_the_bound_is_where_a_clean_test_has_one_chance_in_twenty(seed):
    found = questions.q5.expected(seed)
    attacks, wanted, *_ = data.hunts(seed)
    assert (1 - found["bound"]) ** attacks == pytest.approx(0.05)
    assert found["bound"] < rule_of_three(int(attacks))
    assert (1 - wanted) ** found["enough"] <= 0.05 < (1 - wanted) ** (found["enough"] - 1)


@pytest.mark.parametrize("seed", WORLDS)
def test_good_keys_pay_once_at_a_provider_that_keeps_keys(seed):
    table, good = data.tries(seed), questions.q6.expected(seed)["good"]
    for name, columns in data.KEYS.items():
        sent: dict[str, int] = {}

        def pay(key, request, sent=sent):
            sent.setdefault(key, request["cents"])
            return {"state": "done"}

        once = Once(sqlite3.connect(":memory:", isolation_level=None), pay)
        for row in table.to_dict("records"):
            key = "/".join(str(row[column]) for column in columns)
            if key not in sent:
                once.begin(key, {"cents": row["cents"]})
            once.settle(key)
        owed = questions.q6.expected(seed)["owed"]
        assert (sum(sent.values()) == owed) is (name in good)
