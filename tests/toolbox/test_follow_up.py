"""Questions of a conversation, by hand and not from any world's templates."""

from __future__ import annotations

import pytest

from casebook.retrieval.follow_up import Names, code_names, standalone

NAMES = Names(["Test Bench", "Identity", "Field Service"], {"Otter": "Identity"})
BENCH = "How long does Test Bench keep its records?"


@pytest.mark.parametrize(
    ("turns", "needed"),
    [
        ([BENCH], BENCH),
        ([BENCH, "And Identity?"], "How long does Identity keep its records?"),
        ([BENCH, "and what about field service"], "How long does field service keep its records?"),
        ([BENCH, "What about Otter?"], "How long does Otter keep its records?"),
        ([BENCH, "No, I meant Identity.", "And Otter?"], "How long does Otter keep its records?"),
        ([BENCH, "Who approves their exceptions?"], "Who approves their exceptions, Test Bench?"),
        ([BENCH, "And who signs there?"], "who signs there, Test Bench?"),
        ([BENCH, "And Identity?", "when is their weekly?"], "when is their weekly, Identity?"),
        (["Hello", "And Identity?"], "And Identity?"),
        ([BENCH, "Who owns the Kite board?"], "Who owns the Kite board?"),
        ([BENCH, "When is the weekly of Identity?"], "When is the weekly of Identity?"),
        (
            ["For how long are records kept?", "And Identity?"],
            "For how long are records kept, Identity?",
        ),
        ([BENCH, *["Thanks."] * 4, "And Identity?"], "And Identity?"),  # too long ago
    ],
)
def test_the_last_turn_stands_by_itself(turns, needed):
    assert standalone(turns, NAMES) == needed


def test_what_the_rules_do_not_understand():
    """Their limits: two teams in one turn, and a subject that was asked about two turns before."""
    both = standalone(["When is the weekly of Test Bench and Identity?", "Their room?"], NAMES)
    assert both == "Their room, Identity?"
    back = standalone([BENCH, "And Identity?", "Who leads the first one?"], NAMES)
    assert back.endswith("Identity?")


def test_names_are_words_of_their_own():
    assert NAMES.subjects("identity, Test Bench, test-bench; identity-card Otters") == (
        *("Identity", "Test Bench"),
    )
    assert NAMES.masked("Test Benches and the otter", "X") == "Test Benches and the X"
    assert NAMES.expanded("the Otter rota") == "the Otter rota Identity"
    assert Names([]).subjects("anything") == ()


def test_code_names_go_with_one_team_and_are_nothing_else():
    lines = [("#identity", f"ask Otter {n}") for n in range(3)]
    lines += [("#identity", "see Kite there")] * 3 + [("#test-bench", "see Kite there")] * 3
    lines += [("#identity", "for the record: Notice is due")] * 3 + [("#a", "a notice")]
    lines += [("#identity", "in the Aspen room")] * 3 + [("#identity", "only Once here")]
    names = Names(["Test Bench", "Identity"])
    assert code_names(lines, names, no={"aspen"}) == {"Otter": "Identity"}
    assert code_names([("#identity #test-bench", "Otter Otter")] * 9, names) == {}
    told = [
        ("Names", "team: Identity, code name: Lark"),
        ("A", "of Test Bench, also called Finch."),
    ]
    assert code_names(told, names) == {"Lark": "Identity", "Finch": "Test Bench"}
