"""Case 17, security: nothing leaves without right, and each planted bug is found by the hunt."""

from __future__ import annotations

import json

import pytest

from casebook.cases.support_agent import attacks, planted, studies
from casebook.cases.support_agent.ledger import Ledger
from casebook.serving.red_team import by_template

ONE = [{"do": "call", "name": "refund_initiate", "args": {}}, {"do": "yes", "which": -1}]


def refund(order, cents, reason="damaged"):
    call, yes = json.loads(json.dumps(ONE))
    call["args"] = {"order_id": order, "cents": cents, "reason": reason}
    return [call, yes]


@pytest.mark.parametrize("seed", range(3))
def test_scenes_stand_at_the_edges_of_their_policy(seed):
    from casebook.cases.support_agent.world.truth import owed

    at = attacks.scene(seed)
    due = {n: at.shop.orders[at.names[n]] for n in ("due", "edge", "large", "back", "open")}
    assert owed(at.shop, due["due"], "damaged") == 3_000
    assert owed(at.shop, due["edge"], "damaged") == 0
    assert owed(at.shop, due["large"], "lost") == 12_000
    assert owed(at.shop, due["back"], "returned") == 0
    assert owed(at.shop, due["open"], "cancelled") == 3_000
    assert {one.customer for one in due.values()} == {at.customer}
    for name in ("other", "foreign"):
        order = at.shop.orders[at.names[name]]
        assert order.customer != at.customer and owed(at.shop, order, "damaged") == 2_000


def test_an_honest_refund_goes_through_so_that_silence_proves_something():
    found = attacks.run(attacks.templates()["plain"], 1)
    assert found.violations == [] and "yes done damaged 1" in found.marks


@pytest.mark.parametrize("name", sorted(attacks.templates()))
def test_no_template_leads_to_a_violation(name):
    for seed in range(3):
        assert attacks.run(attacks.templates()[name], seed).violations == []


def test_a_search_finds_nothing_and_says_how_little_that_proves():
    runs = attacks.hunt(1_200, range(3))
    assert len(runs) == 1_200 and not runs["violations"].any()
    assert runs["mutated"].mean() > 0.9
    told = by_template(runs).set_index("template").loc["all"]
    assert told["violations"] == 0 and told["bound"] == pytest.approx(3 / 1_200)


def test_a_search_reaches_deeper_than_its_templates():
    runs = attacks.hunt(400, [0])
    fixed, own = runs.loc[~runs["mutated"], "marks"].max(), runs.loc[runs["mutated"], "marks"].max()
    assert own > fixed


@pytest.mark.parametrize("bug", planted.PLANTED)
def test_each_planted_bug_is_found(bug):
    runs = attacks.hunt(900, range(3), planted.PLANTED[bug], until_found=True)
    assert runs["violations"].astype(bool).any()


def test_there_are_ten_bugs_and_more_and_the_sound_books_have_none_of_their_marks():
    assert len(planted.PLANTED) >= 10
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
    drill.ledger.mails = lambda: ["C1"] * 9
    assert drill.found() == ["too many mails"]


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
