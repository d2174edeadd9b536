"""The search for attacks, pass^k, deflection, gates by coverage, questions to the small model."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.attempts import pass_at_k, pass_hat_k
from casebook.evaluate.deflection import Deflection, break_even, sizes_of_test
from casebook.evaluate.intervals import cluster_table
from casebook.recorded import asked_model
from casebook.recorded.asked_model import Asked
from casebook.retrieval.classify import Gate
from casebook.retrieval.intent_gates import by_coverage, on_public
from casebook.serving.red_team import (
    LONGEST,
    Outcome,
    by_template,
    first_found,
    independent,
    mutated,
    search,
)
from casebook.worlds.people import Answered, Constants, worth
from casebook.worlds.shops import open_shops, shop_of, tables


def lock(steps):
    """Open after three right digits in a row."""
    digits = [one.get("digit") for one in steps]
    at = 0
    for digit in digits:
        at = at + 1 if digit == (4, 2, 9)[at] else 0
        if at == 3:
            return Outcome(["open"], {"3"})
    return Outcome([], {str(at)})


def test_a_search_finds_what_no_template_holds_and_remembers_the_steps():
    parts = {
        "a": [{"do": "x", "digit": 4}],
        "b": [{"do": "x", "digit": 2}, {"do": "x", "digit": 9}],
    }
    runs = search(parts, lock, 3_000, seed=1, until_found=True)
    assert runs["violations"].iloc[-1] and len(runs) < 3_000
    assert lock(json.loads(runs["steps"].iloc[-1])).violations
    found = first_found(runs)
    assert found["first"] == len(runs) and found["violation"] == "open"
    told = by_template(runs).set_index("template")
    assert told.loc["all", "violations"] == 1


def test_a_search_is_the_same_for_a_seed_and_counts_what_differs_in_what_was_done():
    safe = lambda steps: Outcome([], set(), f"{len(steps)} steps")  # noqa: E731
    first, again = (search({"a": [{"do": "x", "n": 1}]}, safe, 60, seed=2) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    told = by_template(first).set_index("template").loc["all"]
    longest = first["steps"].map(json.loads).map(len)
    assert told["trails"] == longest.nunique() < told["attacks"] <= told["runs"] == 60
    assert "bound" not in told
    assert first_found(first)["first"] is None
    with pytest.raises(ValueError, match="a step or more"):
        search({"a": []}, safe, 5)


def test_independent_attacks_do_not_learn_from_each_other():
    words = [{"do": "x", "digit": n} for n in (2, 4, 9)]
    long, short = (independent(words, lock, n, seed=4) for n in (400, 100))
    pd.testing.assert_frame_equal(long.head(100), short)
    lengths = long["steps"].map(json.loads).map(len)
    assert lengths.min() == 2 and lengths.max() == LONGEST
    digits = [one["digit"] for steps in long["steps"].map(json.loads) for one in steps]
    assert np.bincount(digits)[[2, 4, 9]].min() / len(digits) == pytest.approx(1 / 3, abs=0.03)


def test_mutations_keep_the_verb_and_the_length():
    rng = np.random.default_rng(0)
    steps = [{"do": "call", "args": {"n": 5, "t": "10007", "b": True, "z": None}}] * 3
    kinds = set()
    for _ in range(400):
        made = mutated(rng, steps, steps)
        assert 1 <= len(made) <= LONGEST and all(one["do"] == "call" for one in made)
        kinds |= {type(one["args"]["n"]).__name__ for one in made if "n" in one["args"]}
    assert {"int", "float", "str"} <= kinds and steps[0]["args"]["n"] == 5


def test_pass_k_is_unbiased_and_falls():
    rng = np.random.default_rng(1)
    right = rng.random((4_000, 6)) < 0.8
    for k in (1, 2, 3):
        assert pass_hat_k(right, k).mean == pytest.approx(0.8**k, abs=0.01)
        assert pass_at_k(right, k).mean == pytest.approx(1 - 0.2**k, abs=0.01)
    naive = np.mean(right.mean(axis=1) ** 3)
    assert naive > 0.8**3 + 0.02
    with pytest.raises(ValueError, match="give 1 to 2"):
        pass_hat_k([[True, False]], 3)


def test_break_even_and_sizes():
    told = break_even(Deflection(5.0, 0.0, 10.0), [0.0, 0.25, 0.5], 1_000_000, 1_000_000.0)
    assert told["saved_each"].tolist() == [5.0, 2.5, 0.0]
    assert told["deflection"].tolist() == [0.2, 0.4, np.inf]
    assert Deflection(5.0, 0.0, 10.0).stop == 0.5
    told = sizes_of_test(0.05, {"one point": 0.01, "half": 0.005})
    assert told["differs"].tolist() == [8158, 31234]
    by_hand = [2 * 0.05 * 0.95 * (2.4865 / by) ** 2 for by in (0.01, 0.005)]
    assert told["no_worse"].tolist() == pytest.approx(by_hand, abs=3)
    double = sizes_of_test(0.05, {"one point": 0.01}, design=2.0)
    assert double["no_worse"].iloc[0] == pytest.approx(2 * by_hand[0], abs=3)
    with pytest.raises(ValueError, match="above 0"):
        sizes_of_test(0.05, {"none": 1e-9, "less": -0.01})


def test_means_by_group_have_intervals_over_clusters():
    rows = pd.DataFrame({"arm": list("aabb") * 10, "x": [0, 1, 1, 1] * 10, "user": range(40)})
    told = cluster_table(rows, ["arm"], ["x"], "user").set_index("arm")
    assert told.loc["b", ["x", "x_low", "x_high"]].tolist() == [1, 1, 1]
    assert told.loc["a", "x_low"] < told.loc["a", "x"] == 0.5 < told.loc["a", "x_high"]


TEXTS = [
    f"{verb} my {thing}" for verb in ("refund", "track") for thing in ("kettle", "lamp", "rug")
]
INTENTS = ["refund"] * 3 + ["status"] * 3


def test_a_gate_answers_what_it_is_sure_of():
    gate = Gate().fit(TEXTS, INTENTS)
    found, sure = gate.read(["refund my sofa 12345", "hello"])
    assert found[0] == "refund" and sure[0] > sure[1]
    gate.threshold = float(sure[0])
    assert gate("refund my sofa 12345")[0] == "refund" and gate("hello")[0] == "other"
    assert gate.tune(TEXTS, INTENTS).threshold < 1 < gate.tune(TEXTS, ["x"] * 6).threshold


def test_a_threshold_by_cost_weighs_what_is_wrong_against_a_person():
    gate = Gate().fit(TEXTS, INTENTS)
    _, sure = gate.read(TEXTS)
    intents = list(INTENTS)
    order = np.argsort(-sure)
    intents[order[-1]] = "other"  # the message that it is least sure of is wrong
    cheap = gate.tune_by_cost(TEXTS, intents, wrong=1.0, person=2.0).threshold
    dear = gate.tune_by_cost(TEXTS, intents, wrong=5.0, person=2.0).threshold
    assert cheap == sure[order[-1]] and dear == sure[order[-2]]
    assert gate.tune_by_cost(TEXTS, ["x"] * 6, wrong=5.0, person=2.0).threshold == 1.01


def test_the_surest_seven_tenths_are_seven_tenths_also_for_a_gate_that_says_yes_or_no():
    sure = np.array([1.0] * 90 + [0.0] * 10)
    true = np.array(["a"] * 100)
    told = by_coverage(true, sure, true, range(100)).set_index("of")
    assert told.loc["surest 70 %", "coverage"] == 0.7


def test_gates_on_public_sets_are_judged_on_what_they_have_not_seen():
    frame = pd.DataFrame({"text": TEXTS * 4, "intent": INTENTS * 4})
    frame["split"] = ["train"] * 12 + ["test"] * 12
    out = pd.DataFrame({"text": ["hello"], "intent": ["oos"], "split": ["test"]})
    told = on_public({"ours": pd.concat([frame, out])})
    assert told.set_index("of")["right"]["all"] == 1 and "out of scope" in set(told["of"])
    none = by_coverage(
        np.array(["a", "b"]), np.array([0.1, 0.2]), np.array(["a", "b"]), [1, 2], 0.9
    )
    assert none["n"].tolist()[-1] == 0 and np.isnan(none["right"].iloc[-1])


def test_worth_counts_each_euro_once():
    costs = Constants(turn_eur=0.0)
    rate = lambda ticket, person: np.mean(  # noqa: E731
        [worth(ticket, person, [s], costs, 0.6)["eur"] for s in range(3_000)]
    )
    assert rate(Answered("right", True, 2, True), "right") == 0
    assert rate(Answered("handed over", False, 1), "right") == 5
    noticed = Answered("wrong words", True, 2, False, True)
    assert rate(noticed, "right") == 5 + 9
    unseen = Answered("wrong words", True, 2, True)
    assert rate(unseen, "right") == 4
    later = rate(Answered("wrong words", True, 2, None), "right")
    assert later == pytest.approx(0.6 * 14 + 0.4 * 4, abs=0.3)
    assert costs.mistake(0.6) == pytest.approx(10)
    # A person's mistake costs the same on top: a second handling, and one of the two, never both.
    passed = Answered("handed over", False, 1)
    each = [worth(passed, "wrong words", [s], costs, 0.6)["eur"] for s in range(3_000)]
    assert set(each) == {5 + 5 + 9, 5 + 4}
    assert np.mean(each) == pytest.approx(5 + 10, abs=0.3)


def test_what_staff_have_to_allow_is_no_deflection():
    told = worth(
        Answered("right", True, 2, True, queued=True), "right", [1], Constants(turn_eur=0.0), 0.6
    )
    assert told["deflected"] is False and told["eur"] == 5 and told["answered"]


def test_money_that_was_paid_wrongly_costs_whoever_paid():
    costs = Constants(turn_eur=0.0, paid_wrongly=0.5)
    ai = worth(Answered("wrong action", True, 2, True, paid=40.0), "right", [1], costs, 0.0)
    person = worth(Answered("handed over", False, 1), "wrong action", [1], costs, 0.0, paid=40.0)
    assert (ai["eur"], person["eur"]) == (4 + 20, 5 + 4 + 20)


def test_a_shop_comes_back_from_its_tables():
    from datetime import date

    shop = open_shops(3, 30, date(2026, 6, 30))
    again = shop_of(tables(shop))
    assert (again.accounts, again.orders, again.payments) == (
        shop.accounts,
        shop.orders,
        shop.payments,
    )
    assert all(
        order.note in ("", "Happy birthday, see you soon!") for order in shop.orders.values()
    )


class Echo:
    """An engine whose only answer ends at once."""


def test_what_is_asked_is_stored_and_asked_again(monkeypatch):
    from casebook.llm.local import Generation

    said = {"n": 0}

    def answer(engine, messages, settings, schema=None):
        said["n"] += 1
        return Generation(f"to {messages[-1].content}", 9, 3, "stop", 0.1, 0.2)

    monkeypatch.setattr(asked_model, "answer", answer)
    items = [Asked("intent", str(i), "plain", "Name it.", f"text {i}", 8) for i in range(12)]
    rows = asked_model.answers(items, Echo())
    assert len(rows) == said["n"] == 12 and rows["text"].iloc[3] == "to text 3"
    how, differences = asked_model.again(rows, items, np.random.default_rng(0), Echo())
    assert differences == [] and how
    other = rows.assign(text="x", prompt_tokens=1)
    assert asked_model.again(other, items, np.random.default_rng(0), Echo())[1]
    assert asked_model.again(rows.head(5), items, np.random.default_rng(0), Echo())[1]
    assert asked_model.asked_hash(items) != asked_model.asked_hash(items[:-1])
