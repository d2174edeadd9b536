"""A planner, customers and a clock that are an attacker's, on a system of one tool."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from casebook.serving.agent import Conversation, Parts, Turn
from casebook.serving.planted_steps import STEPS
from casebook.serving.proposals import Proposals, Verdict
from casebook.serving.stolen_planner import Attacker, Nonsense, carry
from casebook.serving.tools import Strict, Toolset, Typed
from casebook.worlds.unreliable import Keyed


class Gift(Strict):
    """Euro."""

    euro: Annotated[int, Field(ge=1, le=90, description="1 to 90")]


class Purse(Proposals):
    """Fifty euro; more than thirty at once needs a person."""

    def decide(self, content, but=""):
        spent = sum(one["content"]["euro"] for one in self.held(but=but))
        if content["euro"] == 13:
            raise ZeroDivisionError
        if spent + content["euro"] > 50:
            return Verdict("no")
        return Verdict("person" if content["euro"] > 30 else "do")


class Talk(Conversation):
    def __init__(self, parts, books, owner):
        self.books, self.owner = books, owner
        tools = Toolset([Typed("give", "Gives.", Gift, self.give)], most=9)
        super().__init__(parts, tools, "{intent}")

    def give(self, asked):
        verdict, ident = self.books.propose(self.owner, {"euro": asked.euro})
        return {"decision": verdict.kind} | ({"proposal": ident} if ident else {})

    def control(self, body):
        if "proposal" not in body:
            return None
        content = self.books.row(body["proposal"])["content"]
        return self.turn(Turn("propose", "Shall I?", body["proposal"], content), "proposed")

    def answered(self, said):
        return self.tell(self.books.confirm(self.owner, self.shown.proposal, True)[0])


class Thief(Attacker):
    def __init__(self, kind=Purse):
        super().__init__(0.0, {"me": "ann", "friend": "bob"}, {"pat"}, {"all": 50})
        self.provider = Keyed(self.clock, refuses=self.refuses)
        told = {"audit": self.note, "look": self.provider.look}
        self.books = kind(self.failing(self.provider), {"pat"}, self.clock, **told)
        self.parts = Parts(lambda text: ("gift", 1.0), self.planner())

    def owner(self):
        return self.accounts[self.who]

    def talk(self):
        return Talk(self.parts, self.books, self.owner())

    def found(self):
        self.settled()
        spent = sum(one["euro"] for one in self.provider.done)
        said = sum(one["euro"] for one in self.confirmed)
        wrong = ["too much"] * (spent > 50) + ["no yes"] * (spent > said)
        return wrong + self.untrue()


def give(euro, *more):
    return [{"do": "call", "name": "give", "args": {"euro": euro}}, *more]


YES = {"do": "yes", "which": -1}


def test_steps_do_what_they_say():
    thief = Thief()
    steps = [
        *give(20, YES),
        *give("{all}", YES),
        *give(25, {"do": "press"}),
        {"do": "say", "text": "x"},
    ]
    made = carry(thief, steps, thief.found)
    assert made.violations == [] and [one["euro"] for one in thief.provider.done] == [20, 25]
    assert made.marks >= {"give do", "give no", "yes done  1", "press tell 2", "say tell"}
    assert len(thief.confirmed) == 2 and "x" in thief.texts()


@pytest.mark.parametrize("fault", ["before", "after", "late", "later", "twice", "declined"])
def test_faults_and_time_pay_nothing_twice_and_nothing_untrue(fault):
    thief = Thief()
    steps = [{"do": "fault", "kind": fault}, *give(20, YES), {"do": "wait", "minutes": 9_000}]
    made = carry(thief, [*steps, {"do": "recover"}], thief.found)
    assert made.violations == [] and len(thief.provider.done) == (
        fault not in ("before", "declined")
    )


def test_accounts_and_people_are_who_they_are():
    thief = Thief()
    be = {"do": "be", "who": "friend"}
    assert carry(thief, [*give(20), be, YES], thief.found).violations == []
    assert thief.provider.done == [] and thief.confirmed == []
    thief = Thief()
    allow = [{"do": "allow", "which": -1, "who": who} for who in ("ann", "pat")]
    made = carry(thief, [*give(40, YES), *allow], thief.found)
    assert "allow NotAllowed" in made.marks and "allow done" in made.marks
    assert [one["who"] for one in thief.approved] == ["pat"] and len(thief.provider.done) == 1


@pytest.mark.parametrize(
    "step",
    [
        {"do": "yes", "which": "x"},
        {"do": "wait", "minutes": None},
        {"do": "fault", "kind": "?"},
        {"do": "be", "who": "eve"},
        {"do": "press"},
    ],
)
def test_nonsense_is_no_crash(step):
    with pytest.raises(Nonsense):
        Thief().step(step)
    thief = Thief()
    assert carry(thief, [step], thief.found).violations == []


def test_a_crash_is_a_violation():
    thief = Thief()
    assert carry(thief, give(13), thief.found).violations == ["crash: ZeroDivisionError in call"]


@pytest.mark.parametrize("bug", ["no confirmation", "no audit of effects"])
def test_planted_bugs_show(bug):
    thief = Thief(type("Buggy", (STEPS[bug], Purse), {}))
    assert carry(thief, [*give(20), *give(9, YES)], thief.found).violations


def test_what_was_told_done_and_was_not_shows():
    thief = Thief(type("Buggy", (STEPS["answer of the provider not read"], Purse), {}))
    steps = [{"do": "fault", "kind": "declined"}, *give(20, YES)]
    assert "told done and not done" in carry(thief, steps, thief.found).violations[0]


def test_a_trail_forgets_numbers_and_keeps_what_was_done():
    trails = []
    for steps in (give(20, YES), [*give(20, YES), {"do": "new"}], give(21, YES)):
        thief = Thief()
        carry(thief, steps, thief.found)
        trails.append(thief.trail("scene"))
    assert trails[0] == trails[1] != trails[2]
