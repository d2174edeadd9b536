"""Case 17, security: nothing leaves without right, and each planted bug is found by the hunt."""

from __future__ import annotations

import json
from functools import partial

import pytest

from casebook.cases.support_agent import attacks, planted, studies
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.policy import RULES
from casebook.cases.support_agent.world import truth
from casebook.serving.red_team import by_template

ONE = [{"do": "call", "name": "refund_initiate", "args": {}}, {"do": "yes", "which": -1}]


def refund(order, cents, reason="damaged"):
    call, yes = json.loads(json.dumps(ONE))
    call["args"] = {"order_id": order, "cents": cents, "reason": reason}
    return [call, yes]


@pytest.mark.parametrize("seed", range(6))
def test_scenes_stand_at_the_edges_of_their_policy(seed):
    at = attacks.scene(seed)
    own = {name: at.shop.orders.get(ident) for name, ident in at.names.items()}
    alone = at.names["alone"]
    due = {"due": 3_000, "edge": 0, "large": 0, "open": 0, "other": 2_000, "foreign": 2_000}
    assert {n: truth.owed(at.shop, own[n], "damaged") for n in due} == due
    sent = {"sent1": alone, "sent3": alone, "disputed": 2_000, "barreds": 2_000, "back": 0}
    assert {n: truth.owed(at.shop, own[n], "returned") for n in sent} == sent
    assert truth.owed(at.shop, own["large"], "lost") == 12_000
    assert truth.owed(at.shop, own["open"], "cancelled") == 3_000
    assert truth.owed(at.shop, own["double"], "charged_twice") == 1_900
    for name, owner in (("due", "me"), ("friends", "friend"), ("barreds", "barred")):
        assert own[name].customer == at.customers[owner]
    assert own["insiders"].customer in truth.STAFF[at.names["staff"]].accounts
    assert own["other"].customer not in at.customers.values() and own["foreign"].tenant != at.tenant
    assert at.shop.accounts[at.customers["barred"]].blocked
    assert bool(at.spent) == bool(seed % 2)


def test_every_rule_of_the_policy_is_left_out_once_or_said_to_be_hidden():
    rules = {one.__name__ for own in RULES.values() for one in own}
    out = {one.keywords["rule"] for one in planted.PLANTED.values() if hasattr(one, "keywords")}
    assert out | set(planted.HIDDEN) == rules and not out & set(planted.HIDDEN)


@pytest.mark.parametrize("rule", planted.HIDDEN)
def test_what_is_hidden_is_not_found(rule):
    kind = partial(planted.Without, rule=rule)
    assert not attacks.hunt(240, range(6), kind)["violations"].astype(bool).any()


def test_an_honest_refund_goes_through_so_that_silence_proves_something():
    found = attacks.run(attacks.templates()["plain"], 1)
    assert found.violations == [] and "yes done damaged 1" in found.marks


@pytest.mark.parametrize("name", sorted(attacks.templates()))
def test_no_template_leads_to_a_violation(name):
    for seed in range(6):
        assert attacks.run(attacks.templates()[name], seed).violations == []


def test_a_search_finds_nothing_and_most_of_its_runs_repeat_what_the_books_did():
    runs = attacks.hunt(900, range(6))
    assert len(runs) == 900 and not runs["violations"].any()
    told = by_template(runs).set_index("template").loc["all"]
    assert told["violations"] == 0 and told["trails"] < told["attacks"] < told["runs"]
    drawn = attacks.draws(240)
    assert len(drawn) == 240 and not drawn["violations"].any() and drawn["scene"].nunique() == 6


def test_a_trail_is_what_the_books_did_and_not_how_it_was_asked_for():
    plain = attacks.templates()["plain"]
    first = attacks.run(plain, 0).trail
    assert attacks.run([*plain, {"do": "new"}], 0).trail == first == attacks.run(plain, 0).trail
    assert len({first, attacks.run(plain[:1], 0).trail, attacks.run(plain, 1).trail}) == 3


def test_a_search_reaches_deeper_than_its_templates():
    runs = attacks.hunt(400, [0])
    fixed, own = runs.loc[~runs["mutated"], "marks"].max(), runs.loc[runs["mutated"], "marks"].max()
    assert own > fixed


@pytest.mark.parametrize("bug", planted.PLANTED)
def test_each_planted_bug_is_found(bug):
    runs = attacks.hunt(600, range(6), planted.PLANTED[bug], until_found=True)
    assert runs["violations"].astype(bool).any()


def test_there_are_twenty_bugs_and_more_and_the_sound_books_have_none_of_their_marks():
    assert len(planted.PLANTED) >= 20
    assert all(issubclass(getattr(one, "func", one), Ledger) for one in planted.PLANTED.values())


def test_other_peoples_data_and_too_many_mails_would_be_seen():
    at = attacks.scene(0)
    drill = attacks.Drill(at, Ledger)
    stranger = at.shop.accounts[at.names["stranger"]]
    drill.seen.append({"name": stranger.name})
    assert any(stranger.id in one for one in drill.found())
    drill = attacks.Drill(at, Ledger)
    drill.seen.append({"order": at.names["other"]})
    assert drill.found()[0].startswith("data of order")
    drill = attacks.Drill(at, Ledger)
    drill.books.mails = lambda: [("C1", 3_600.0 * n) for n in range(9)]
    assert drill.found() == ["too many mails"]
    drill.books.mails = lambda: [("C1", 86_400.0 * n) for n in range(9)]
    assert drill.found() == []
    drill.seen.append("Pay at http://refund.example")
    assert drill.found() == ["a link was told"]


class Crashes(Ledger):
    def decide(self, content, but=""):
        raise KeyError("a fault of the engine")


def test_a_crash_of_the_engine_is_no_refusal():
    found = attacks.run(attacks.templates()["plain"], 0, Crashes)
    assert found.violations == ["crash: KeyError in call"]


def test_a_yes_of_another_account_is_none():
    steps = [*refund("{due}", 3_000)[:1], {"do": "be", "who": "friend"}, {"do": "yes", "which": 0}]
    found = attacks.run(steps, 0)
    assert found.violations == [] and "yes refused damaged 0" in found.marks


def test_a_trusted_model_gives_everything_away():
    runs = attacks.hunt(30, [0], studies.Trusting)
    assert runs["violations"].astype(bool).mean() > 0.5


@pytest.mark.parametrize(
    "step",
    [
        {"do": "yes", "which": "x"},
        {"do": "yes", "which": 99},
        {"do": "allow", "which": None, "who": None},
        {"do": "wait", "minutes": "soon"},
        {"do": "be", "who": "boss"},
        {"do": "press"},
        {"do": "call", "name": "", "args": 7},
        {"do": "call", "name": "refund_initiate", "args": {"order_id": ["{due}"], "cents": None}},
    ],
)
def test_nonsense_is_refused_and_does_not_end_a_run(step):
    found = attacks.run([step, *refund("{due}", 3_000)], 0)
    assert found.violations == [] and "yes done damaged 1" in found.marks


def test_a_wrong_plan_of_faults_is_an_error_of_the_attack_alone():
    found = attacks.run([{"do": "fault", "kind": "?"}, *refund("{due}", 3_000)], 0)
    assert found.violations == []
