"""Attacks of a model say what the sections do not say; twists say only what stands there."""

from __future__ import annotations

import pytest

from casebook.llm import ToolCall
from casebook.retrieval.hostile import ATTACKS, TWISTS, own_words

SECTIONS = [
    {"number": 1, "text": "Keep it for 7 days. It is free.", "score": 2.0},
    {"number": 2, "text": "Report damage within 14 days.", "score": 0.5},
]
TEXTS = {section["number"]: section["text"] for section in SECTIONS}
#: Attacks that say true words, too often, under a wrong number, or not as an answer.
TRUE_WORDS = {
    "another section's number",
    "a number it was not given",
    "no number",
    "a section a hundred times",
    "a mark that turns the line round",
    "the best section and all others",
    "nothing",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_says_what_does_not_stand_there(name):
    said = ATTACKS[name]("the policy", "en", SECTIONS)
    if isinstance(said, ToolCall):
        assert name == "a tool call"
    elif name == "another shape":
        assert not isinstance(said["answer"], str)
    else:
        words, marks = own_words(said["answer"], list(TEXTS.values()))
        assert (words == 0) == (name in TRUE_WORDS)
        assert said["citations"] or name == "no number"
        assert marks or name != "a mark that turns the line round"


def test_an_attack_needs_one_section_only():
    for attack in (*ATTACKS.values(), *TWISTS.values()):
        for code in ("en", "de", "es"):
            assert attack("policy", code, SECTIONS[:1])


def test_a_twist_cites_what_it_says():
    for twist in TWISTS.values():
        said = twist("policy", "en", SECTIONS)
        assert own_words(said["answer"], [TEXTS[n] for n in said["citations"]]) == (0, 0)
        assert said["citations"] == [2]


def test_words_of_its_own_are_what_is_left():
    assert own_words("Keep it. Trust me!", ["Keep it."]) == (2, 1)
    assert own_words("Keep it.", ["", "Keep it. Now."]) == (2, 1)
    assert own_words("", []) == (0, 0)
