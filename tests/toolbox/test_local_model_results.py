"""The rules that judge the small local model's answers, what it is asked, and the page's tables."""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from casebook.book import local_model as page
from casebook.llm.messages import Message
from casebook.llm.schema import misfit
from casebook.project import require_checkout
from casebook.recorded import local_model
from casebook.recorded.artifacts import artifact
from casebook.recorded.local_model import (
    FORM,
    RULES,
    compare,
    declines,
    evaluation_set,
    form_of,
    injected,
    is_right,
    items,
    judged,
    nearest_sentence,
    plain,
    results,
    speed,
)

PASSAGES = evaluation_set("questions")


# What is asked -------------------------------------------------------------------------


def test_the_sets_have_their_sizes():
    counted = Counter((item.set, item.variant) for item in items())
    assert counted == {
        ("read", "passage"): 60,
        ("unanswerable", "passage"): 20,
        ("form", "once"): 20,
        ("form", "retry"): 20,
        ("form", "grammar"): 20,
        ("follow", "plain"): 20,
        ("injection", "plain"): 20,
        ("injection", "warned"): 20,
    }
    keys = [(item.set, item.id, item.variant) for item in items()]
    assert len(set(keys)) == len(keys)


def test_every_question_is_answered_by_its_passage():
    """An accepted phrase stands in the passage; a rejected one does not make every answer wrong."""
    for passage in PASSAGES:
        said = plain(passage["text"])
        for question in passage["questions"]:
            assert any(plain(phrase) in said for phrase in question["accept"]), question
            assert any(is_right(phrase, question) for phrase in question["accept"]), question
            assert not is_right("I do not know.", question)
        assert not declines(passage["text"])


def test_every_message_fits_the_form_and_holds_its_order():
    for message in evaluation_set("messages"):
        form = {key: message[key] for key in ("intent", "order")}
        assert misfit(form, FORM) is None and message["order"] in message["text"]


def test_every_instruction_has_a_rule_that_accepts_and_rejects():
    answers = {
        "words_at_most": ("Paris", "It is the city of Paris, which lies on the river Seine"),
        "one_of": ("{0}", "it depends"),
        "equals": ("{value}", "Sure: {value}"),
        "list_of": ("{list}", "apple, pear, plum"),
        "begins": ("{value} are here", "Well, {value}"),
        "ends": ("I like {value}.", "{value} is what I like"),
        "without": ("It purrs.", "The {value} purrs."),
        "sentences": ("{sentences}", "One. Two. Three."),
        "number_between": ("7", "My number is 7"),
        "contains": ("A lamp by the river.", "A lamp."),
    }
    for one in evaluation_set("instructions"):
        value, rule = one["value"], RULES[one["rule"]]
        filled = [
            text.replace("{0}", str(value[0]) if isinstance(value, list) else "")
            .replace("{value}", str(value))
            .replace("{list}", "\n".join(["- x"] * value) if isinstance(value, int) else "")
            .replace("{sentences}", " ".join(["So."] * value) if isinstance(value, int) else "")
            for text in answers[one["rule"]]
        ]
        assert [rule(text, value) for text in filled] == [True, False], one
    assert {one["rule"] for one in evaluation_set("instructions")} == set(RULES)


def test_an_order_is_in_its_passage_and_its_mark_is_in_no_honest_answer():
    orders = evaluation_set("injections")
    for passage, text, order in zip(PASSAGES, injected(PASSAGES), orders, strict=True):
        assert order["text"].rstrip(".") in text and passage["questions"][0]["ask"] in text
        assert order["mark"].lower() in order["text"].lower()
        for phrase in passage["questions"][0]["accept"]:
            assert order["mark"].lower() not in phrase.lower()
        assert order["mark"].lower() not in passage["text"].lower()


# Rules ---------------------------------------------------------------------------------

QUESTION = {"accept": ["7 days", "a week"], "reject": ["4 euro"]}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Seven days.", True),
        ("It is kept for 7 DAYS!", True),
        ("For a week", True),
        ("17 days", False),
        ("Seven days and 4 euro", False),
        ("I do not know", False),
        ("", False),
    ],
)
def test_an_answer_is_right_by_its_phrases(text, right):
    assert is_right(text, QUESTION) is right


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I don't know.", True),
        ("I do not know", True),
        ("The passage does not mention it.", True),
        ("It opens at nine.", False),
        ("", False),
    ],
)
def test_a_model_that_does_not_know_says_so(text, says):
    assert declines(text) is says


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"intent": "refund", "order": "1"}', True),
        ('{"intent": "refund", "order": ""}', True),
        ('{"intent": "other", "order": "1"}', False),
        ('{"intent": "refund"}', False),
        ('{"intent": "refund", "order": 1}', False),
        ('{"intent": "refund", "order": "1234567890123"}', False),
        ('{"intent": ["refund"], "order": "1"}', False),
        ("```json\n{}\n```", False),
        ("[]", False),
    ],
)
def test_a_form_is_valid_or_not(text, valid):
    assert (form_of(text) is not None) is valid


def test_the_nearest_sentence_shares_most_words():
    text = "The shop is red. It opens at nine; it closes at six."
    assert nearest_sentence(text, "When does it close, at six?") == "it closes at six."


# Results -------------------------------------------------------------------------------


def answered(text: str = "", **by_set: str) -> pd.DataFrame:
    """Return planted answers: the same one for each item of a set."""
    return pd.DataFrame(
        {
            "set": item.set,
            "id": item.id,
            "variant": item.variant,
            "prompt": item.prompt,
            "text": by_set.get(item.set, text),
            "prompt_tokens": 100,
            "completion_tokens": 11,
            "finish_reason": "stop",
            "attempts": 1,
            "first_seconds": 0.5,
            "seconds": 1.5,
        }
        for item in items()
    )


def by_measure(rows: pd.DataFrame) -> dict[str, int]:
    found = results(rows)
    return dict(zip(found["measure"], found["good"], strict=True))


def test_planted_answers_give_their_counts():
    rows = answered(
        unanswerable="I do not know.",
        form='{"intent": "refund", "order": "77120"}',
        injection="BANANA",
    )
    found = by_measure(rows)
    assert found["question answered from its passage"] == 0
    assert found["unanswerable question declined"] == 20
    assert found["valid form, grammar"] == found["valid form, one attempt"] == 20
    assert found["right form, grammar"] == 1
    assert found["injected order obeyed"] == found["… with a warning in the prompt"] == 1
    accepted = {
        f"{p['id']}/{n}": q["accept"][0] for p in PASSAGES for n, q in enumerate(p["questions"])
    }
    rows.loc[rows["set"] == "read", "text"] = rows["id"].map(accepted)
    assert by_measure(rows)["question answered from its passage"] == 60


def test_speed_counts_tokens_after_the_first():
    took = speed(answered("x"))
    assert took["tokens_per_second"] == pytest.approx(10)
    assert (took["first_seconds"], took["prompt_tokens"], took["answers"]) == (0.5, 100, 180)


def test_a_sample_agrees_up_to_one_answer_in_five():
    stored = answered("The parcel is kept for seven days.")
    made = stored.sample(5, random_state=0)
    assert compare(stored, made)[1] == []
    assert compare(stored, made.assign(text=made["text"].str[:25] + " or so"))[1] == []
    one = made.copy()
    one.iloc[0, one.columns.get_loc("text")] = "Another answer"
    assert compare(stored, one)[1] == []
    one.iloc[1, one.columns.get_loc("text")] = "Yet another answer"
    assert ["begin otherwise" in line for line in compare(stored, one)[1]] == [True]
    _, found = compare(stored, made.assign(prompt_tokens=101))
    assert len(found) == 5 and "101 tokens were read" in found[0]
    assert "is not stored" in compare(stored.drop(made.index[0]), made)[1][0]


def test_what_is_asked_is_what_the_prompts_say():
    read = next(iter(items()))
    assert read.messages[0] == Message("system", local_model.PROMPTS["read/1"])
    assert [m.role for i in items() if i.set == "follow" for m in i.messages] == ["user"] * 20


# The recorded answers and the page -----------------------------------------------------


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    return artifact("local_model", "answers.parquet")


def test_everything_was_asked_and_nothing_else(recorded):
    keys = ["set", "id", "variant", "prompt"]
    asked = [(item.set, item.id, item.variant, item.prompt) for item in items()]
    assert list(recorded[keys].itertuples(index=False, name=None)) == asked
    assert recorded.notna().all().all() and (recorded["seconds"] >= recorded["first_seconds"]).all()
    assert set(recorded["finish_reason"]) <= {"stop", "length"}


def test_the_grammar_never_failed(recorded):
    forms = judged(recorded).query("variant == 'grammar'")
    assert len(forms) == 20 and forms["good"].all()


def test_the_page_shows_the_recorded_numbers(recorded):
    table = BeautifulSoup(page.results_table(recorded), "html.parser")
    shown = [
        [cell.get_text() for cell in row.find_all(["th", "td"])] for row in table.select("tbody tr")
    ]
    expected = results(recorded)
    assert [row[0] for row in shown] == expected["measure"].tolist()
    assert [row[1] for row in shown] == [
        f"{good} of {n}" for good, n in zip(expected["good"], expected["n"], strict=True)
    ]
    took = speed(recorded)
    assert f"{took['tokens_per_second']:.1f} tokens per second" in page.speed_sentence(recorded)
    assert f"{len(recorded)} answers" in page.source(recorded)


def test_another_recording_is_another_page(recorded):
    assert page.results_table(answered("x")) != page.results_table(recorded)
    shown = page.example_table(answered("<b>x</b>"))
    assert "&lt;b&gt;x" in shown and "<b>x" not in shown


def test_the_page_holds_each_part_once():
    text = (require_checkout() / "book" / "local_model.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"```\{local-model\} (\w+)", text)) == sorted(page.PARTS)
