"""The leak hunt: nothing leaks, every planted fault is found, and what could have shown did."""

from __future__ import annotations

import doctest
import importlib
import random

import pytest

from casebook.cases.knowledge_assistant import hunt as module
from casebook.cases.knowledge_assistant import world
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.desk import UNKNOWN, Answer, Desk, Quotes
from casebook.cases.knowledge_assistant.hunt import NO_LEAK, hunt, not_found_times
from casebook.cases.knowledge_assistant.hunted import Hunted, Parts, judging
from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.planted import PLANTED, SlowRefusal, catches, over_http
from casebook.retrieval.dense import Hashed
from casebook.serving.tell_apart import detectable

#: The check that is meant for a fault; others may come as well.
MEANT = {
    "cache without rights": {"result"},
    "log with text": {"log"},
    "citation of a hidden source": {"citation"},
    "count of all hits": {"count"},
    "stale groups": {"result", "count", "opened", "history"},
    "filled up from hidden hits": {"result"},
    "stored turn after revocation": {"history"},
    "error with a title": {"error"},
    "key of the question alone": {"count"},
    "stream not asked again": {"result"},
    "rarity counted over all": {"depends on what is hidden"},
    "gained before the text came": {"result", "citation", "opened"},
}
#: Faults of the desk that a client sees as well; in the reply it has, no right is lost midway.
OVER_HTTP = ("citation of a hidden source", "error with a title", "stored turn after revocation")


@pytest.fixture(scope="module")
def clean():
    return hunt(queries=500, seed=11, worlds=5)


def test_nothing_leaks_and_nothing_is_kept_back(clean):
    assert clean.leaks.empty and clean.wrong.empty
    assert clean.queries == 500 and clean.first is None
    assert clean.bound == pytest.approx(0.006)


def test_the_hunt_met_what_a_fault_would_have_shown_on(clean):
    assert min(clean.met.values()) >= 10, clean.met
    assert clean.met["hidden nearer"] > 250


@pytest.mark.parametrize("parts", [Parts(reader=judging), over_http(Parts(reader=judging))])
def test_neither_the_chapters_answers_nor_the_routes_of_the_service_leak(parts):
    report = hunt(80, seed=2, parts=parts, worlds=2)
    assert report.leaks.empty and report.wrong.empty
    assert report.met["hidden nearer"] > 40 and report.met["lost turn"] > 0


def test_users_see_neither_all_nor_nothing_also_at_the_end():
    firm = Hunted(3)
    shares = []
    for _ in range(100):
        firm.edit()
        told = [len(firm.truth.visible(user)) for user in firm.truth.active]
        shares.append(sum(told) / len(told) / len(firm.truth.documents))
    assert min(shares) > 0.05 and max(shares) < 0.6


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_fault_is_found_by_the_check_that_is_meant_for_it(name):
    found = set()
    for seed in range(6):
        report = hunt(90, seed=seed, parts=PLANTED[name])
        found |= {*report.leaks["check"]}
        if MEANT[name] & found:
            break
    assert MEANT[name] & found
    assert report.bound != report.bound  # a bound is stated where nothing leaked


@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_client_of_the_service_finds_a_fault_of_the_desk(name):
    report = hunt(60, seed=1, parts=over_http(PLANTED[name]))
    assert {*report.leaks["check"]} & MEANT[name]


class Silent(Quotes):
    """An assistant that shows nothing leaks nothing."""

    def answer(self, user, question, now):
        return Answer((UNKNOWN,))


class Yesterday(Desk):
    """Answers of an old version stay in the cache."""

    def __init__(self, reader):
        super().__init__(reader)
        first = {}
        self.cache.versions = lambda names: [
            first.setdefault(name, *self.library.versions([name])) for name in names
        ]

    def gone(self, document):
        """Hear nothing of texts that are gone."""


@pytest.mark.parametrize(
    ("parts", "check"),
    [*zip((Parts(reader=Silent), Parts(Yesterday)), NO_LEAK, strict=True)],
)
def test_who_shows_nothing_or_the_old_does_not_pass(parts, check):
    report = hunt(200, seed=1, parts=parts)
    assert check in set(report.wrong["check"])


class SettlesAll(Access):
    """What was heard after the texts were read is let hold with them."""

    def settle(self, upto=None, but=()):
        return super().settle(None, but)


def test_a_firm_that_changes_within_a_round_finds_rights_that_hold_too_early():
    checks = [{*hunt(150, seed, Parts(store=SettlesAll)).leaks["check"]} for seed in (2, 5, 6, 7)]
    assert {"early"} in checks


def test_a_hunt_is_the_same_again():
    first, again = (hunt(60, 5, PLANTED["count of all hits"], worlds=2) for _ in range(2))
    assert first.leaks.equals(again.leaks) and first.met == again.met and not first.leaks.empty


def test_hidden_and_missing_take_the_same_time_and_a_slow_refusal_is_found():
    pairs = 1_500
    told = not_found_times(pairs)
    assert told.same(margin=0.15), told
    assert detectable(pairs) < 0.05
    assert not_found_times(300, parts=Parts(SlowRefusal)).apart(margin=0.15)


def test_names_of_refusals_are_made_before_the_clock_runs(monkeypatch):
    """A name that is made within a timed call costs that side time."""
    asked = []
    monkeypatch.setattr(module, "_refused", lambda desk, user, name: asked.append(name))
    monkeypatch.setattr(module, "tell_apart", lambda *calls: [one(3) for one in calls[:2] * 2])
    not_found_times(1)
    hidden, missing, *again = asked[-4:]
    assert hidden != missing and again[0] is hidden and again[1] is missing


def test_the_store_agrees_with_the_firm_of_the_chapter_through_its_year():
    firm = world.simulate(2, people=60, teams=6, documents=500)
    events = sorted((*firm.firm.events, *firm.events), key=lambda event: event.at)
    people = [*firm.firm.people["user"].sample(12, random_state=0), "user:unknown"]
    cuts, seen = [firm.firm.end - 86_400 * days for days in (364, 200, 90, 0)], set()
    done, now = 0, [0.0]
    access = Access(":memory:", clock=lambda: now[0])
    for cut in cuts:
        batch = [event for event in events[done:] if event.at <= cut]
        access.apply(batch)
        access.settle()
        done, now[0] = done + len(batch), float(cut.astype(int))
        state = world.State(events, cut)
        names = [*state.documents]
        for user in people:
            told = {n for n, may in zip(names, access.sees(user, names), strict=True) if may}
            assert told == state.visible(user), (user, cut)
            seen.add(len(told))
    assert len(seen) > 8


@pytest.mark.parametrize("store", [Access, PLANTED["gained before the text came"].store])
def test_through_the_year_nobody_sees_a_text_that_was_never_theirs(store):
    """The chapter's firm, a batch of its events after the other; texts come at some of the ends."""
    firm, rng = world.simulate(4, people=24, teams=3, documents=260), random.Random(1)
    events = sorted((*firm.firm.events, *firm.events), key=lambda event: event.at)
    now, had, early, rounds = [0.0], {}, 0, 0
    access = store(":memory:", clock=lambda: now[0])
    library = Library(access, Hashed(16), reads=False)
    for end in range(40, len(events) + 40, 40):
        batch = events[end - 40 : end]
        access.apply(batch)
        now[0] = float(batch[-1].at.astype(int))
        state = world.State(events[:end])
        users = rng.sample(sorted(state.active), min(8, len(state.active)))
        for user in state.active:
            for name in state.visible(user):
                had.setdefault((name, state.documents[name].version), set()).add(user)
        if ended := rng.random() < 0.4:
            rounds += 1
            for name in {*library.leaves} - {*state.documents}:
                library.drop(name)
            old = {leaf.document for leaf in library.leaves.values()}
            library.take(page for page in state.documents.values() if page not in old)
            access.settle()
        for user in users:
            rows = library.visible(user).rows.tolist()
            found = (library.chunks[row].article for row in rows)
            keys = {(one.article_id, one.version) for one in found}
            allowed = state.visible(user)
            assert {name for name, _ in keys} <= allowed
            early += sum(user not in had[key] for key in keys)
            if ended:
                assert {name for name, _ in keys} == allowed
    assert rounds > 5 and (early == 0) == (store is Access)


def test_the_study_of_first_catches_has_a_row_for_each_fault_and_seed():
    told = catches(seeds=(1, 2), budget=10)
    assert told["fault"].tolist() == [fault for fault in PLANTED for _ in range(2)]
    assert told["first"].max() <= 10 and told["check"].notna().equals(told["first"].notna())
    assert told.loc[told["fault"] == "log with text", "first"].max() < 10


@pytest.mark.parametrize("name", ("access", "hunt", "hunted", "records"))
def test_the_example_holds(name):
    told = doctest.testmod(importlib.import_module(f"casebook.cases.knowledge_assistant.{name}"))
    assert told.attempted and not told.failed
