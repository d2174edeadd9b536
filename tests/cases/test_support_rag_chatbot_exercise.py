"""Exercise 16: other right answers are taken, and no two mistakes look alike to a check."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import questions, world
from casebook.exercises.grading import Wrong, close

#: What the notebook calls its tables, and the answers of each question.
NAMES = {
    1: ("fuse", "deepest", "largest_k"),
    2: ("break_even", "threshold", "saved"),
    3: ("position", "both", "corrected", "half"),
    4: ("recall", "best", "growth"),
    5: ("folds", "share", "promise"),
    6: ("in_force", "stale", "hits"),
    7: ("unhelped", "dearer", "interval"),
}
RIGHT = {
    1: questions._FUSE,
    2: questions._COST,
    3: questions._JUDGED,
    4: questions._CHUNKS,
    5: questions._LEAK,
    6: questions._CACHE,
    7: questions._MONEY,
}


def answer(number: int, change: str = "") -> list:
    """Return a right answer to a question, changed by some code."""
    tables = {
        "desk": questions.answered(),
        "verdicts": questions.verdicts(),
        "sentences": questions.sentences(),
        "past": questions.past(),
        "versions": questions.versions(),
        "served": questions.served(),
        "contacts": questions.contacts(),
    }
    space = tables | {"np": np, "pd": pd, "questions": questions}
    exec(RIGHT[number] + change, space)
    return [space[name] for name in NAMES[number]]


def outcome(number: int, change: str = ""):
    return getattr(questions, f"q{number}").outcome(*answer(number, change))


OTHER_WAYS = {
    "scores that are twice as large": (
        1,
        "def fuse(first, second, k=60):\n"
        "    keys = ['query_id', 'doc_id']\n"
        "    a, b = (1 / (k + r.set_index(keys)['rank']) for r in (first, second))\n"
        "    return (2 * a.add(b, fill_value=0)).rename('score').reset_index()\n",
    ),
    "a threshold between two margins": (
        2,
        "above = choose.loc[choose['margin'] < threshold, 'margin'].max()\n"
        "threshold = (above + threshold) / 2\n"
        "saved = bill_of(rest, 0) - bill_of(rest, threshold)\n",
    ),
    "the judge's mean over the other pairs, and its variance": (
        3,
        "rest = judged[verdicts['person'].isna()]\n"
        "corrected = rest.mean() + gap.mean()\n"
        "half = 1.96 * np.sqrt(gap.var() / len(gap) + rest.var() / len(rest))\n",
    ),
    "a series of recalls": (4, "recall = pd.Series(recall)\n"),
    "folds by topic": (5, "folds = folds_of('topic')\nshare = share_of(folds)\n"),
    "each group a fold": (
        5,
        "folds = past['group']\n"
        "parts = [questions.first_right(folds.index[folds != f], folds.index[folds == f])\n"
        "         for f in folds.unique()]\n"
        "share = pd.concat(parts).mean()\n",
    ),
    "validity by days": (
        6,
        "def in_force(versions, time):\n"
        "    day = time.normalize()\n"
        "    open_ = versions['valid_to'].isna() | (day <= versions['valid_to'])\n"
        "    return versions[(versions['valid_from'] <= day) & open_]\n",
    ),
    "an interval by the formula for ratios": (
        7,
        "left = by['sum'] - by['size'] * dearer\n"
        "interval = around(1.96 * np.sqrt((left**2).sum()) / len(gap))\n",
    ),
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_another_right_way_is_right(way):
    result = outcome(*OTHER_WAYS[way])
    assert result.status == "right", result.message


@pytest.mark.parametrize("number", RIGHT)
def test_wrong_answers_differ_from_the_right_one_in_what_they_say(number):
    asked = getattr(questions, f"q{number}")
    assert outcome(number).status == "right"
    for wrong in asked.wrong_answers:
        code = wrong.code.removeprefix(RIGHT[number])
        result = outcome(number, code)
        assert result.status == "wrong"
        assert wrong.reason in result.message


FAR = {
    2: ("break_even = 77", "threshold = 77", "saved = 7777"),
    3: ("position = 77", "both = 77", "corrected = 77", "half = 77"),
    4: ("growth = 77",),
    5: ("share = 77",),
    6: ("stale = 777777", "hits = 77"),
    7: ("unhelped = 77", "dearer = 777"),
}


@pytest.mark.parametrize(
    ("number", "far"), [(n, far) for n, codes in FAR.items() for far in codes], ids=str
)
def test_no_two_slips_give_the_same_value(monkeypatch, number, far):
    seen = []
    monkeypatch.setattr(questions, "_slip", lambda *arguments: seen.append(arguments))
    answers, right = answer(number, "\n" + far), answer(number)
    with pytest.raises(Wrong):
        getattr(questions, f"q{number}").judge(*answers)
    place = NAMES[number].index(far.split(" ")[0])
    [(_, slips, tolerance)] = seen
    assert len(slips) >= 2
    values = [value for value, _ in slips] + [right[place]]
    alike = [(a, b) for a, b in combinations(values, 2) if close(a, b, tolerance)]
    assert alike == []


def test_the_exercise_holds_no_test_question():
    split = world.questions().set_index("id")["split"]
    shown = [
        questions.desk().rows["id"],
        questions.english()["query_id"],
        questions.answered().index,
        questions.sentences().index,
        questions.past().index,
        questions.contacts()["question"],
    ]
    assert all(set(split.loc[list(ids)]) == {"tune"} for ids in shown)


def test_groups_of_topics_stand_in_one_part():
    rows = questions.desk().rows.set_index("id")
    part = questions.answered()["part"]
    assert part.groupby(rows["group"].loc[part.index]).nunique().max() == 1


def test_what_is_handed_out_is_a_copy():
    for give in (questions.answered, questions.verdicts, questions.past, questions.served):
        columns = list(give())
        give().drop(columns=columns[0], inplace=True)
        assert list(give()) == columns


def test_the_log_says_what_was_cited_and_not_what_was_right():
    assert list(questions.served()) == ["time", "question", "said", "from_cache"]
    cached = questions.served()
    fresh = cached[~cached["from_cache"]]
    said = fresh.merge(questions.versions(), left_on="said", right_on="id")
    ends = said["valid_to"].fillna(pd.Timestamp("2200-01-01")) + pd.Timedelta(days=1)
    assert ((said["valid_from"] <= said["time"]) & (said["time"] < ends)).all()


def test_a_memory_refuses_a_question_on_both_sides():
    ids = questions.past().index
    with pytest.raises(ValueError, match="1 questions stand in the training and in the test"):
        questions.first_right(ids[:3], ids[2:5])
