"""Proposals, approvals, effects that happen once, and the bugs and drills that go with them."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress

import pytest

from casebook.serving.approvals import Approvals, NotAllowed, content_hash
from casebook.serving.once import Conflict, Once, Unknown
from casebook.serving.planted_steps import STEPS
from casebook.serving.proposals import Proposals, Verdict, strictest
from casebook.worlds.unreliable import FAULTS, Keyed, NoAnswer, Unreliable, drawn


def db():
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


class Purse(Proposals):
    """Fifty euro: what is held counts; more than thirty at once needs a person."""

    def decide(self, content, but=""):
        spent = sum(one["content"]["euro"] for one in self.held(but=but))
        if spent + content["euro"] > 50:
            return Verdict("no", ("empty",), "There is no more.")
        return Verdict("person" if content["euro"] > 30 else "do")


def purse(effect=None, clock=lambda: 0.0, **more):
    bank = effect or Keyed(clock)
    return Purse(bank, {"pat", "sam"}, clock, **more), bank


# Once ------------------------------------------------------------------------------------


def test_an_answer_is_kept_and_the_other_side_is_asked_once():
    bank = Keyed(lambda: 0.0)
    once = Once(db(), bank)
    assert once.begin("k", {"euro": 5}) and not once.begin("k", {"euro": 5})
    assert once.settle("k") == once.settle("k") == {"key": "k", "state": "done"}
    assert len(bank.done) == 1 and once.open() == []


def test_a_key_stands_for_one_request():
    once = Once(db(), Keyed(lambda: 0.0))
    once.begin("k", {"euro": 5})
    with pytest.raises(Conflict, match="take another key"):
        once.begin("k", {"euro": 6})
    with pytest.raises(KeyError):
        once.settle("other")


@pytest.mark.parametrize("fault", FAULTS[1:])
def test_one_effect_under_each_fault_and_two_without_keys_on_the_other_side(fault):
    for keeps, most in ((True, 1), (False, 3)):
        bank = Keyed(lambda: 0.0, keeps_keys=keeps)
        call = Unreliable(bank, [fault, fault])
        once = Once(db(), call)
        once.begin("k", {"euro": 5})
        for _ in range(4):
            once.recover()
        call.flush()
        assert once.open() == [] and 1 <= len(bank.done) <= most
        if not keeps and fault != "before":
            assert len(bank.done) > 1


@pytest.mark.parametrize("error", [TimeoutError("no answer"), RuntimeError("HTTP 500")])
def test_whatever_is_raised_nothing_is_known_and_the_others_are_asked_all_the_same(error):
    bad = {"k1"}

    def call(key, request):
        if key in bad:
            raise error
        return {"state": "done"}

    once = Once(db(), call)
    for key in ("k1", "k2"):
        once.begin(key, {})
    with pytest.raises(Unknown, match=f"k1: {type(error).__name__}: {error}"):
        once.settle("k1")
    assert once.recover() == ["k2"] and once.open() == ["k1"]
    assert str(error) in once.errors()["k1"]
    bad.clear()
    assert once.recover() == ["k1"]


@pytest.mark.parametrize("answer", [{}, {"state": "pending"}, {"state": None}])
def test_an_answer_that_says_nothing_final_settles_nothing(answer):
    once = Once(db(), lambda key, request: answer)
    once.begin("k", {})
    with pytest.raises(Unknown, match="its state is"):
        once.settle("k")
    assert once.open() == ["k"] and once.answer("k") is None


def test_an_old_key_is_looked_up_and_never_sent():
    now = [0.0]
    bank = Keyed(lambda: now[0])
    call = Unreliable(bank, ["after", "before"])
    once = Once(db(), call, clock=lambda: now[0], look=bank.look)
    for key in ("done", "lost"):
        once.begin(key, {"for": key})
        with pytest.raises(Unknown):
            once.settle(key)
    now[0] = 86_400.0
    assert once.recover() == ["done", "lost"] and len(bank.done) == 1
    assert once.answer("done")["state"] == "done"
    assert once.answer("lost") == {"state": "failed", "why": "it never arrived"}


def test_without_a_look_up_an_old_key_stays_open():
    now = [0.0]
    bank = Keyed(lambda: now[0])
    once = Once(db(), Unreliable(bank, ["after"]), clock=lambda: now[0])
    once.begin("k", {})
    with pytest.raises(Unknown):
        once.settle("k")
    for later in (86_400.0, -61.0):
        now[0] = later
        assert once.recover() == [] and once.open() == ["k"] and len(bank.done) == 1


def test_providers_refuse_other_content_and_keep_a_refusal():
    bank = Keyed(lambda: 0.0, refuses=lambda request: "card closed" * (request["euro"] > 5))
    assert bank("k", {"euro": 5})["state"] == "done"
    with pytest.raises(ValueError, match="another request"):
        bank("k", {"euro": 4})
    assert bank("l", {"euro": 9}) == {"key": "l", "state": "failed", "why": "card closed"}
    bank.refuses = lambda request: ""
    assert bank("l", {"euro": 9})["state"] == "failed" and len(bank.done) == 1


def test_a_late_request_arrives_before_or_after_the_retry():
    for fault, at in (("late", ["a", "b"]), ("later", ["b", "a"])):
        came = []
        call = Unreliable(lambda key, came=came: came.append(key) or key, [fault])
        with pytest.raises(NoAnswer):
            call("a")
        assert call("b") == "b" and came == at


def test_faults_are_met_as_planned_and_drawn_at_their_rates():
    call = Unreliable(lambda: 1, ["before", "twice", "late"])
    for _ in range(2):
        try:
            call()
        except NoAnswer:
            continue
    assert call.met == {"before": 1, "twice": 1}
    with pytest.raises(ValueError, match="give one of"):
        Unreliable(lambda: 1, ["never"])()
    made = drawn({"after": 0.3}, 1)
    assert 0.2 < sum(next(made) == "after" for _ in range(500)) / 500 < 0.4
    for rates in ({"after": 0.7, "twice": 0.7}, {"never": 0.1}, {"after": -1}):
        with pytest.raises(ValueError, match="give shares"):
            next(drawn(rates, 1))


# Approvals -------------------------------------------------------------------------------


def test_an_approval_is_of_one_content_given_by_another_person_once_and_in_time():
    now = [0.0]
    queue = Approvals(db(), {"pat", "ann"}, lambda: now[0])
    what = {"order": "7", "euro": 9}
    queue.ask("r1", what, by="ann", seconds=60)
    for who in ("ann", "bob", ""):
        with pytest.raises(NotAllowed):
            queue.decide("r1", who, True)
    assert [one["id"] for one in queue.waiting()] == ["r1"] and not queue.spend("r1", what)
    queue.decide("r1", "pat", True)
    with pytest.raises(NotAllowed):
        queue.decide("r1", "pat", False)
    assert queue.state("r1") == "allowed" and not queue.spend("r1", what | {"euro": 10})
    assert queue.spend("r1", dict(reversed(what.items()))) and not queue.spend("r1", what)
    queue.ask("r2", what, by="ann", seconds=60)
    queue.decide("r2", "pat", True)
    now[0] = 61
    assert not queue.spend("r2", what) and queue.state("r2") == "expired"
    queue.ask("r3", what, by="ann", seconds=60)
    queue.decide("r3", "pat", False)
    assert queue.state("r3") == "refused" and not queue.spend("r3", what)
    assert queue.waiting() == [] and queue.state("r4") == ""


def test_the_hash_knows_each_field():
    assert (
        content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1}) != content_hash({"a": 1})
    )


# Proposals -------------------------------------------------------------------------------


def test_what_is_held_counts_and_two_at_a_time_cannot_pass_together(tmp_path):
    books, bank = purse(path=str(tmp_path / "books.db"))
    ids = [books.propose("ann", {"euro": 20})[1] for _ in range(6)]
    gate, states = threading.Barrier(6), []

    def confirm(ident):
        gate.wait()
        states.append(books.confirm("ann", ident, True)[0])

    threads = [threading.Thread(target=confirm, args=(ident,)) for ident in ids]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(states) == ["done"] * 2 + ["refused"] * 4
    assert sum(one["euro"] for one in bank.done) == 40


def test_what_waits_for_a_person_is_held_and_looked_at_again():
    books, bank = purse()
    large, small = books.propose("ann", {"euro": 40})[1], books.propose("ann", {"euro": 20})[1]
    assert books.confirm("ann", large, True)[0] == "queued" and bank.done == []
    assert books.confirm("ann", small, True) == ("refused", "There is no more.")
    with pytest.raises(NotAllowed):
        books.allow(large, "ann", True)
    assert books.allow(large, "pat", True) == "done" and bank.done[0]["euro"] == 40
    books, bank = purse()
    large = books.propose("ann", {"euro": 40})[1]
    books.confirm("ann", large, True)
    books.decide = lambda content, but="": Verdict("no")
    assert books.allow(large, "pat", True) == "refused" and bank.done == []


def test_what_nobody_allows_in_time_is_no_longer_held_and_cannot_be_allowed():
    now = [0.0]
    books, bank = purse(clock=lambda: now[0])
    large = books.propose("ann", {"euro": 40})[1]
    books.confirm("ann", large, True)
    assert [one["id"] for one in books.held()] == [large]
    now[0] = books.approval_seconds + 1
    assert books.held() == []
    with pytest.raises(NotAllowed):
        books.allow(large, "pat", True)
    again = books.propose("ann", {"euro": 20})[1]
    assert books.confirm("ann", again, True)[0] == "done" and len(bank.done) == 1


def test_a_refused_one_is_no_longer_held():
    books, _ = purse()
    large = books.propose("ann", {"euro": 40})[1]
    books.confirm("ann", large, True)
    books.allow(large, "sam", False)
    assert books.held() == [] and books.propose("ann", {"euro": 40})[0].kind == "person"


def test_each_step_is_written_down_before_it_is_taken():
    rows = []
    books, bank = purse(audit=lambda **row: rows.append((row["what"], row["id"], len(bank.done))))
    ident = books.propose("ann", {"euro": 5})[1]
    books.confirm("ann", ident, True)
    assert rows == [("propose", ident, 0), ("doing", ident, 0), ("done", ident, 1)]
    other = books.propose("ann", {"euro": 40})[1]
    books.confirm("ann", other, True)
    books.clock = lambda: 10**6
    assert books.expire() == [other] and rows[-1][:2] == ("expired", other)


def test_what_the_other_side_refuses_is_failed_and_holds_nothing():
    bank = Keyed(lambda: 0.0, refuses=lambda content: "account closed")
    books, _ = purse(bank)
    ident = books.propose("ann", {"euro": 5})[1]
    assert books.confirm("ann", ident, True)[0] == "failed"
    assert bank.done == [] and books.held() == [] and books.recover() == []
    assert books.once.answer(ident)["why"] == "account closed"


def test_an_answer_that_cannot_be_written_is_asked_for_again():
    full, rows = [True], []

    def audit(**row):
        if row["what"] == "done" and full[0]:
            raise OSError("disk full")
        rows.append(row["what"])

    books, bank = purse(audit=audit)
    ident = books.propose("ann", {"euro": 5})[1]
    assert books.confirm("ann", ident, True)[0] == "doing" and len(bank.done) == 1
    assert "disk full" in books.stuck()[0]["error"]
    full[0] = False
    assert books.recover() == [ident] and books.row(ident)["state"] == "done"
    assert len(bank.done) == 1 and rows[-1] == "done"


def test_a_sweep_does_not_see_what_another_thread_has_not_written():
    """A decision that is taken back is not paid for by a sweep that saw its rows."""
    inside, go = threading.Event(), threading.Event()
    swept, found = [], []
    books, bank = purse()
    ident = books.propose("ann", {"euro": 5})[1]
    begin = books.once.begin

    def slow(*given):
        begin(*given)
        inside.set()
        go.wait(5)
        raise OSError("disk full")

    books.once.begin = slow

    def fails():
        with pytest.raises(OSError, match="disk full"):
            books.confirm("ann", ident, True)
        found.append(1)

    confirm = threading.Thread(target=fails)
    confirm.start()
    assert inside.wait(5)
    sweep = threading.Thread(target=lambda: swept.append(books.recover()))
    sweep.start()
    sweep.join(0.2)
    go.set()
    confirm.join(5)
    sweep.join(5)
    assert swept == [[]] and len(found) == 1 and bank.done == []
    assert books.row(ident)["state"] == "proposed"


def test_books_are_for_their_owner_alone_and_an_older_copy_is_noticed(tmp_path):
    path = tmp_path / "books.db"
    books, _ = purse(path=str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    ids = [books.propose("ann", {"euro": 1})[1] for _ in range(2)]
    assert len({*ids}) == 2 and books.unknown([*ids, "lost"]) == ["lost"]


def test_what_was_done_elsewhere_counts_once_it_is_adopted():
    books, bank = purse()
    books.adopt("ann", {"euro": 45})
    assert books.propose("ann", {"euro": 6})[0].kind == "no" and bank.done == []


def test_a_clock_that_goes_back_revives_nothing():
    now = [0.0]
    books, bank = purse(clock=lambda: now[0])
    large, small = (books.propose("ann", {"euro": euro})[1] for euro in (40, 5))
    books.confirm("ann", large, True)
    now[0] = books.approval_seconds + 1
    assert books.waiting() == []
    now[0] = 1.0
    assert books.waiting() == [] and books.confirm("ann", small, True)[0] == "expired"
    with pytest.raises(NotAllowed, match="expired"):
        books.allow(large, "pat", True)
    now[0] = 1_000.0
    future = books.propose("ann", {"euro": 5})[1]
    now[0] = 0.0
    assert books.confirm("ann", future, True)[0] == "refused" and bank.done == []


def test_a_person_waits_for_a_person_as_long_as_that_takes():
    """What waits holds for the time of approvals, not for that of a proposal."""
    now = [0.0]
    books, _ = purse(clock=lambda: now[0])
    large = books.propose("ann", {"euro": 40})[1]
    books.confirm("ann", large, True)
    now[0] = books.confirm_seconds + 1
    assert [one["id"] for one in books.waiting("pat")] == [large]
    assert books.allow(large, "pat", True) == "done"


class Shared(Purse):
    """Pat of the staff is a customer, too: ann."""

    def may(self, who, by, content):
        return (who, by) != ("pat", "ann")


def test_people_are_compared_and_not_names():
    books = Shared(Keyed(lambda: 0.0), {"pat", "sam"}, lambda: 0.0)
    large = books.propose("ann", {"euro": 40})[1]
    books.confirm("ann", large, True)
    assert books.waiting("pat") == [] and len(books.waiting("sam")) == 1
    with pytest.raises(NotAllowed, match="ask a colleague"):
        books.allow(large, "pat", True)
    assert books.allow(large, "sam", True) == "done"


def test_rules_speak_and_the_strictest_wins():
    def small(euro):
        return euro > 10

    def large(euro):
        return euro > 100

    rules = {"no": [large], "person": [small]}
    assert strictest(rules, 5) == Verdict("do")
    assert strictest(rules, 50) == Verdict("person", ("small",))
    assert strictest(rules, 500, say="no: {}".format) == Verdict("no", ("large",), "no: large")


def confirmed(kind, faults=()):
    """Return what a planted bug leads to: effects, and what was written down of them."""
    rows, now = [], [0.0]
    bank = Keyed(lambda: now[0], refuses=lambda content: "closed" * (content["euro"] == 7))
    call = Unreliable(bank, faults)
    books = kind(
        call,
        {"abe", "pat"},
        lambda: now[0],
        audit=lambda **row: rows.append(row["what"]),
        look=bank.look,
    )
    first = books.propose("ann", {"euro": 5})[1]
    before = len(bank.done)
    others = [books.propose("ann", {"euro": euro})[1] for euro in (6, 7, 31, 45)]
    for ident in (first, *others):
        books.confirm("ann", ident, True)
    for who in ("ann", "pat"):
        with suppress(NotAllowed):
            books.allow(others[2], who, True)
    call.flush()
    now[0] = 86_400.0
    books.recover()
    states = [(books.row(ident) or {}).get("state") for ident in others[1:]]
    return before, [one["euro"] for one in bank.done], states, rows.count("doing")


def test_each_planted_bug_shows_and_sound_steps_show_none():
    sound = confirmed(Shared, ["after"])
    assert sound == (0, [5, 6], ["failed", "queued", "refused"], 3)
    for bug in STEPS.values():
        assert confirmed(type("Buggy", (bug, Shared), {}), ["after"]) != sound, bug
