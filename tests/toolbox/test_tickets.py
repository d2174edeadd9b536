"""Tickets of an agent: limits, what a restart keeps, what people take off the queue, the sweep."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from casebook.llm import Scripted
from casebook.serving import tickets as module
from casebook.serving.agent import Conversation, Parts, Turn
from casebook.serving.strict import Problem
from casebook.serving.tickets import DAILY, EACH, IDLE, OPEN, PAGE, Answer, Message, Tickets
from casebook.serving.tools import Annotated, Field, Strict, ToolCall, Toolset, Typed


class What(Strict):
    """What is asked."""

    what: Annotated[str, Field(max_length=9, description="a word")]


class Talk(Conversation):
    """Proposes ``p1`` when the planner asks for it, and asks at everything else."""

    def control(self, body):
        if body["what"] == "person":
            return self.person("because", "planner")
        if body["what"] == "propose":
            return self.turn(Turn("propose", "Shall I?", "p1", {}), "proposed")
        return self.turn(Turn("ask_more", "More?"), "asked")

    def answered(self, said):
        self.pending.append(said.proposal)
        return self.tell("It is on its way.")


class Books:
    """Books that settle what they are told to."""

    def __init__(self):
        self.came, self.fails = {}, False

    def recover(self):
        if self.fails:
            raise RuntimeError("HTTP 500")
        return []


class Desk:
    """Tickets with a clock, a planner that repeats one answer, and books."""

    def __init__(self, answer="ask", path=":memory:", **more):
        self.now, self.books, self.answer, self.log = 1_000_000.0, Books(), answer, []
        self.tickets = Tickets(
            self.talk, self.books, lambda **row: self.log.append(row), path, lambda: self.now,
            came=lambda proposal: self.books.came.get(proposal), **more,
        )  # fmt: skip

    def talk(self, user):
        answer = self.answer
        if answer in ("ask", "propose", "person"):
            answer = [ToolCall("ask", {"what": answer})]
        tools = Toolset([Typed("ask", "Asks.", What, lambda asked: {"what": asked.what})], 5)
        return Talk(Parts(lambda text: ("sum", 1.0), Scripted([answer])), tools, "")

    def say(self, user, ticket, text="hi", **more):
        return self.tickets.say(user, Message(ticket=ticket, text=text, **more))


def refused(status, what, *given, **named):
    with pytest.raises(Problem) as found:
        what(*given, **named)
    assert found.value.status == status
    return found.value.body["what"]


def test_a_turn_that_runs_refuses_the_next_one_and_nobody_waits():
    desk, inside, go = Desk(), threading.Event(), threading.Event()
    slow = desk.talk

    def talk(user):
        inside.set()
        assert go.wait(10)
        return slow(user)

    desk.tickets._talk = talk
    thread = threading.Thread(target=desk.say, args=("ann", "t1"))
    thread.start()
    assert inside.wait(10)
    refused(409, desk.say, "ann", "t1")
    desk.tickets._running |= {("ann", f"x{n}") for n in range(EACH - 1)}
    refused(429, desk.say, "ann", "t2")
    desk.tickets._running |= {("eve", f"x{n}") for n in range(module.TURNS)}
    refused(503, desk.say, "bob", "t1")
    desk.tickets._running = {("ann", "t1")}
    desk.tickets._talk = slow
    assert desk.say("bob", "t1")["act"] == "ask_more"
    go.set()
    thread.join()
    assert desk.tickets._running == set()


def test_open_tickets_are_named_answered_ones_do_not_count_and_a_day_has_a_limit():
    desk = Desk("It is blue.")
    for n in range(OPEN + 2):
        assert desk.say("ann", f"told{n}")["act"] == "tell"
    desk.answer = "ask"
    for n in range(OPEN):
        desk.say("ann", f"ask{n}")
    assert "ask0, ask1" in refused(429, desk.say, "ann", "more")
    desk.now += IDLE + 1
    desk.tickets.sweep()
    assert {one["state"] for one in desk.tickets.own("ann")} == {"closed", "person"}
    desk.answer = "It is blue."
    for n in range(DAILY):
        assert desk.say("ann", f"n{n}")["act"] == "tell"
    assert "within a day" in refused(429, desk.say, "ann", "last")
    assert desk.say("bob", "last")["act"] == "tell"


def test_a_first_turn_that_fails_leaves_nothing():
    desk = Desk()
    good, desk.tickets._talk = desk.tickets._talk, lambda user: 1 / 0
    for n in range(OPEN + 1):
        with pytest.raises(ZeroDivisionError):
            desk.say("ann", f"t{n}")
    desk.tickets._talk = good
    assert desk.say("ann", "t0")["act"] == "ask_more" and len(desk.tickets.own("ann")) == 1


def test_a_restart_keeps_the_queue_and_hands_over_who_was_asked(tmp_path):
    desk = Desk("person", str(tmp_path / "t.db"))
    desk.say("ann", "h", "my card is 4111 1111 1111 1111")
    desk.answer = "propose"
    desk.say("bob", "p")
    desk.answer = "It is blue."
    desk.say("cat", "t")
    desk.tickets.close()
    again = Desk(path=str(tmp_path / "t.db"))
    queue = again.tickets.handed_over("pat")
    assert [(one["user"], one["why"], one["why_by"]) for one in queue] == [
        ("ann", "because", "planner"),
        ("bob", "the service was restarted", "machine"),
    ]
    assert queue[0]["turns"][0] == ["customer", "my card is [card]"]
    assert again.tickets.transcript("ann", "h")["state"] == "person"
    assert "why" not in again.tickets.transcript("ann", "h")
    refused(409, again.say, "bob", "p", button=True, proposal="p1")
    assert again.say("cat", "t", "and red?")["act"] == "hand_over"
    assert oct((tmp_path / "t.db").stat().st_mode & 0o777) == "0o600"


def test_no_flood_forgets_a_ticket_and_people_take_them_off_page_by_page():
    desk = Desk("person", consent=lambda user: user == "ann")
    desk.say("ann", "urn", "Please help.")
    for n in range(PAGE + 5):
        desk.say(f"eve{n}", "x")
    first = desk.tickets.handed_over("pat")
    assert len(first) == PAGE and first[0]["ticket"] == "urn"
    assert len(desk.tickets.handed_over("pat", PAGE)) == 6
    sent = Answer(user="ann", ticket="urn", text="We have found it.")
    assert desk.tickets.answer("pat", sent) == {"state": "answered"}
    refused(404, desk.tickets.answer, "pat", sent)
    assert desk.tickets.handed_over("pat")[0]["ticket"] == "x"
    told = desk.tickets.transcript("ann", "urn")
    assert told["turns"][-1] == ["colleague pat", "We have found it."]


def test_people_see_and_answer_the_tickets_of_their_own_customers_alone():
    desk = Desk("person", may=lambda who, user: user != "ann")
    desk.say("ann", "t")
    assert desk.tickets.handed_over("pat") == []
    refused(404, desk.tickets.answer, "pat", Answer(user="ann", ticket="t", text="x"))


def test_texts_of_an_ended_ticket_are_kept_only_of_those_who_agreed():
    desk = Desk("It is blue.", consent=lambda user: user == "ann")
    for user in ("ann", "bob"):
        desk.say(user, "t", "What colour?")
        desk.say(user, "t", button=True)
    kept = {one.user: one.turns for one in desk.tickets._rows("state = 'closed'")}
    assert kept["bob"] == [] and kept["ann"][0] == ["customer", "What colour?"]
    desk.now += IDLE + module.KEPT + 1
    assert desk.tickets.sweep()["forgotten"] == 1
    assert [one.user for one in desk.tickets._rows("1")] == ["ann"]


def test_the_sweep_tells_what_came_of_a_promise_also_after_a_restart(tmp_path):
    desk = Desk("propose", str(tmp_path / "t.db"))
    for user in ("ann", "bob"):
        desk.say(user, "t")
        desk.say(user, "t", button=True, proposal="p1")
    desk.say("bob", "t", button=True)
    assert desk.tickets.sweep()["told"] == 0
    desk.books.came["p1"] = ("It has come.", False)
    assert desk.tickets.sweep()["told"] == 2 and desk.tickets.sweep()["told"] == 0
    assert desk.tickets.transcript("ann", "t")["turns"][-1] == ["agent", "It has come."]
    desk.say("cat", "t")
    desk.say("cat", "t", button=True, proposal="p1")
    desk.tickets.close()
    again = Desk(path=str(tmp_path / "t.db"))
    again.books.came["p1"] = ("It was not made.", True)
    assert again.tickets.sweep()["told"] == 1
    assert [one["user"] for one in again.tickets.handed_over("pat")] == ["cat"]


def test_books_that_fail_do_not_stop_the_sweep_and_the_timer_runs_until_it_is_closed():
    desk = Desk("person")
    desk.books.fails = True
    desk.say("ann", "t")
    assert desk.tickets.sweep()["settled"] == 0 and desk.tickets.counts["unswept"] == 1
    swept = threading.Event()
    desk.tickets.sweep = swept.set
    desk.tickets.every(0.01)
    assert swept.wait(10)
    desk.tickets.close()
    assert not desk.tickets._timer.is_alive()


def test_what_cannot_be_kept_is_told_all_the_same_and_kept_by_the_next_sweep():
    desk = Desk("person")
    db, bad = desk.tickets._db, SimpleNamespace(execute=lambda *given: db.execute(*given))
    bad.execute = lambda query, *given: 1 / 0 if "INSERT" in query else db.execute(query, *given)
    desk.tickets._db = bad
    assert desk.say("ann", "t")["act"] == "hand_over" and desk.tickets.counts["unlogged"] == 1
    assert desk.tickets.transcript("ann", "t")["state"] == "person"
    desk.tickets._db = db
    desk.tickets.sweep()
    assert [one["user"] for one in desk.tickets.handed_over("pat")] == ["ann"]
