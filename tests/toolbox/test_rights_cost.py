"""What a question about rights costs: the shape of the numbers, not the machine's speed."""

from __future__ import annotations

from casebook.serving.rights_cost import rights_cost


def test_a_question_is_cheap_while_nothing_changed_and_for_whom_nothing_changed():
    told = rights_cost(documents=20_000, people=300, rounds=15)
    assert told["nothing changed"] < told["others' rights changed"] < told["rights changed"]
    assert told["nothing changed"] < told["a document more"]
    assert 0 < told["visible share"] < 1
    assert 20_000 <= told["bytes of a mask"] < 21_000  # documents and containers
    small = rights_cost(documents=1_000, people=300, rounds=15)
    assert told["rights changed"] > 1.5 * small["rights changed"]
