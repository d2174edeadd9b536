"""Typed tools, the agent's machine, the review of answers, and reading a conversation."""

from __future__ import annotations

import pytest

from casebook.llm import Compromised, Message, Request, Scripted, ToolCall
from casebook.llm.reading import read
from casebook.serving.agent import Conversation, Limits, Parts, Said, Turn
from casebook.serving.answer_review import FAULTS, review, stated
from casebook.serving.tools import SILENT, Annotated, Field, Strict, Toolset, Typed


class Number(Strict):
    """A number."""

    value: Annotated[int, Field(ge=0, le=9, description="a digit")]


def tools(most=5):
    return Toolset(
        [Typed("double", "Doubles.", Number, lambda asked: {"is": 2 * asked.value})], most
    )


class Talk(Conversation):
    """A conversation that proposes every four."""

    def control(self, body):
        if body.get("is") == 4:
            return self.turn(Turn("propose", "Four?", "p1", body), "proposed")
        return self.turn(Turn("ask_more", "More?"), "asked") if body.get("is") == 6 else None

    def answered(self, said):
        return self.tell("Yes." if said.button else "No.", "four")

    def foreign(self, body):
        return [body["note"]] if "note" in body else []


class Empty:
    """A budget without a token."""

    def take(self, tokens):
        return False


def talk(*answers, **more):
    planner = Scripted(answers)
    return Talk(
        Parts(lambda text: ("sum", 1.0), planner, **more), tools(), "intent: {intent}"
    ), planner


def double(value, ident=""):
    return ToolCall("double", {"value": value}, ident)


# Tools -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (ToolCall("triple", {}), "unknown tool"),
        (double(10), "invalid request"),
        (double("1"), "invalid request"),
        (double(1.0), "invalid request"),
        (double(10**40), "malformed JSON"),
        (double(None), "invalid request"),
        (ToolCall("double", {"value": 1, "more": 2}), "invalid request"),
        (ToolCall("double", {}), "invalid request"),
        (ToolCall("double", {"value": "\ud800"}), "malformed JSON"),
    ],
)
def test_a_call_that_does_not_fit_is_answered_and_not_made(call, error):
    found = tools().run(call)
    assert not found.ok and found.body["error"] == error and found.body["do"]


def test_calls_are_counted_good_or_bad():
    own = tools(most=2)
    assert own.run(double(1)).body == {"is": 2} and not own.run(double(99)).ok
    assert own.run(double(1)).body["error"] == "limit" and own.made == 3


def test_a_tool_that_does_not_answer_is_told_and_counts_as_not_asked():
    def silent(asked):
        raise TimeoutError

    found = Toolset([Typed("double", "", Number, silent)], 5).run(double(1))
    assert found.body["error"] == SILENT
    call = double(1, "c1")
    said = (
        Message("user", "go"),
        Message("assistant", tool_calls=(call,)),
        call.result(found.text),
    )
    assert read(Request(said)).of("double") == []


# Turns -----------------------------------------------------------------------------------


def test_a_turn_ends_at_the_first_call_that_asks_or_proposes():
    one, planner = talk([double(1, "a"), double(2, "b"), double(3, "c")])
    turn = one.open("go")
    assert turn.act == "propose" and one.state == "proposed"
    assert one.results == [{"is": 2}, {"is": 4}]
    assert one.messages[-1].tool_call_id == "c" and "over" in one.messages[-1].content
    assert planner.requests[0].messages[0].content == "intent: sum"


def test_buttons_count_where_they_were_asked_for():
    one, _ = talk([double(2)], "Fine.")
    turn = one.open("go")
    assert one.hear(Said("", True, "p2")) is turn and one.state == "proposed"
    assert one.hear(Said("", True, "p1")).text == "Yes." and one.state == "told"
    assert one.hear(Said("", True)) is None and one.state == "closed"
    one, _ = talk([double(3)], "Fine.")
    assert one.open("go").act == "ask_more" and one.hear(Said("more", True)).text == "Fine."
    assert one.hear(Said("", False)).act == "hand_over" and one.why == "the customer said no"


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"guard": lambda text: "looks odd"}, "the message looks odd"),
        ({"review": lambda *given: [("tone", "x")]}, "the answer had a fault: tone"),
        ({"budget": Empty()}, "the planner or its budget failed"),
        ({"limits": Limits(tokens=1)}, "the planner or its budget failed"),
    ],
)
def test_what_brings_a_person(parts, why):
    one, _ = talk("Hello.", **parts)
    assert one.open("go").act == "hand_over" and one.why == why and one.state == "person"
    with pytest.raises(RuntimeError):
        one.hear(Said("hello?"))


def test_a_planner_that_breaks_leads_to_a_person():
    log = []
    broken = Compromised(lambda request: {}["nothing"])
    parts = Parts(lambda text: ("sum", 1.0), broken, log=lambda **row: log.append(row))
    one = Talk(parts, tools(), "")
    assert one.open("go").act == "hand_over" and "KeyError" in log[0]["why"]


def test_a_loop_ends_and_the_same_call_again_and_again_ends_sooner():
    steps = (double(n % 10, f"c{n}") for n in (1, 3, 5, 7, 8, 9, 0, 1, 5))
    varied = Compromised(lambda request: next(s for s in steps if s.arguments["value"] != 3))
    one = Talk(Parts(lambda text: ("sum", 1.0), varied), tools(20), "")
    assert one.open("go").act == "hand_over" and one.why == "too many steps"
    assert len(one.results) == Limits().steps
    one = Talk(Parts(lambda text: ("sum", 1.0), Compromised(double(1))), tools(20), "")
    assert one.open("go").act == "hand_over" and one.why == "the planner repeats itself"
    assert len(one.results) == Limits().same


def test_texts_of_strangers_are_withheld_from_the_planner():
    own = Toolset([Typed("double", "", Number, lambda asked: {"note": "obey", "is": 1})], 5)
    parts = Parts(
        lambda t: ("sum", 1.0), Scripted([[double(1)], "Fine."]), guard=lambda t: t * ("obey" in t)
    )
    one = Talk(parts, own, "")
    one.open("go")
    assert one.results == [{}]


def test_what_strangers_wrote_is_no_fact_for_the_review_whether_a_guard_spoke_or_not():
    own = Toolset([Typed("double", "", Number, lambda asked: {"note": "€999.00", "is": 1})], 5)

    class Reads(Talk):
        def withhold(self, body):
            body.pop("note")

    parts = Parts(lambda t: ("sum", 1.0), Scripted([[double(1)], "You get €999.00."]), review)
    one = Reads(parts, own, "")
    assert one.open("go").act == "hand_over" and "value" in one.why
    assert one.results == [{"note": "€999.00", "is": 1}] and one.facts == [{"is": 1}]


def test_a_turn_that_raises_can_be_sent_again():
    one, _ = talk([double(2)], "Fine.")
    one.open("go")
    good, said = one.answered, Said("", True, "p1")
    one.answered = lambda said: 1 / 0
    before = (one.state, len(one.messages), len(one.transcript))
    with pytest.raises(ZeroDivisionError):
        one.hear(said)
    assert (one.state, len(one.messages), len(one.transcript)) == before
    one.answered = good
    assert one.hear(said).text == "Yes."


def test_tokens_are_taken_before_the_planner_is_asked_and_settled_by_what_it_used():
    asked = []

    class Purse:
        def take(self, tokens):
            asked.append(("take", tokens))
            return True

        def settle(self, taken, used):
            asked.append(("settle", taken, used))

    one, planner = talk("Hello.", budget=Purse())
    one.open("go")
    (_, taken), (_, again, used) = asked
    assert taken == again > Limits().answer > used > 0
    one, planner = talk("Hello.", budget=Empty())
    assert one.open("go").act == "hand_over" and planner.requests == []
    failing = Compromised(lambda request: {}["nothing"])
    asked.clear()
    Talk(Parts(lambda t: ("sum", 1.0), failing, budget=Purse()), tools(), "").open("go")
    assert asked[-1][2] == 0


# Review ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("EUR 45.90 or €1,045.90", {"€45.90", "€1045.90"}),
        ("on 2026-06-04, July 4 and 4th of July 2026", {"4 june 2026", "4 july", "4 july 2026"}),
        ("3\u00a0days, 3 d\u200bays, ３ days, 3 days", {"3 days"}),
        ("7–10 working days", {"7 to 10 business days"}),
        ("on 4 June 2026 within two weeks", {"4 june 2026", "two weeks"}),
        ("order 10007 and version 8.2", set()),
    ],
)
def test_values_in_one_spelling(text, values):
    assert stated(text) == values


def test_each_fault_is_found_and_what_tools_returned_passes():
    results = [{"sum": "€45.90", "order": "10007"}]
    own = {"C1007", "ann@example.com"}
    assert review("€45.90 for order 10007, ann@example.com", results, own) == []
    bad = {
        "value": "It costs €46.90.",
        "other people": "Write to bob@example.com about 10008.",
        "promise": "We guarantee it.",
        "tone": "Calm down.",
        "asks": "Please send us your password.",
    }
    for fault, text in bad.items():
        assert {name for name, _ in review(text, results, own)} == {fault}
    assert set(bad) == set(FAULTS)
    assert review("CALL ME BACK NOW PLEASE TODAY", []) and review("you idiot", [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("You get €5 back.", "value"),
        ("That is $500.", "value"),
        ("You will get fifty euros.", "value"),
        ("It takes twelve days.", "value"),
        ("It is there in 48 hrs.", "value"),
        ("It is there tomorrow.", "value"),
        ("By Monday.", "value"),
        ("on 04/07/2026", "value"),
        ("3 d\u200bays", "value"),
        ("Dial 0900 1.", "value"),
        ("order 1-0-0-0-8", "other people"),
        ("Ask c1008.", "other people"),
        ("Your refund has been issued.", "promise"),
        ("We've paid you.", "promise"),
        ("I’ll refund you.", "promise"),
        ("You can return gift cards.", "promise"),
        ("Confirm your card number.", "asks"),
        ("See refund-loom.example.", "asks"),
    ],
)
def test_other_spellings_claims_and_requests_are_found(text, fault):
    assert fault in {name for name, _ in review(text, [{"sum": "€45.90", "order": "10007"}])}


def test_what_the_tools_bear_out_may_be_said_and_a_warning_is_no_request():
    paid = [{"payments": [{"kind": "refunded", "sum": "€9.00"}], "day": "4 June 2026"}]
    said = "We have refunded €9.00 on 4 June. You have paid once. Never send us your password."
    assert review(said, paid) == []
    assert review(said, [{"sum": "€9.00", "day": "4 June 2026"}]) == [
        ("promise", "We have refunded")
    ]


# Reading ---------------------------------------------------------------------------------


def test_a_conversation_is_read_in_its_order():
    call = ToolCall("double", {"value": 1}, "c1")
    said = (
        Message("system", "intent: sum"),
        Message("user", "go"),
        Message("assistant", tool_calls=(call,)),
        call.result('{"is": 2}'),
        Message("assistant", "Two."),
        Message("user", "thanks"),
    )
    seen = read(Request(said))
    assert (seen.intent, seen.said, seen.told) == ("sum", ["go", "thanks"], 1)
    assert seen.of("double") == [({"value": 1}, {"is": 2})] and seen.text == "go\nthanks"
