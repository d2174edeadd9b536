"""Kinds of messages: what each leaves to the bank, and who bears a fraud of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import channels
from casebook.cases.card_fraud.policy import merchants_part
from casebook.cases.card_fraud.world import simulate
from casebook.evaluate.fraud_costs import ANSWERS, Economics, answer_costs


def test_the_same_payment_gets_another_answer_online():
    answers = {"purchase": "confirm", "3-D Secure": "confirm", "unauthenticated": "allow"}
    for kind, tier in (answers | {"offline": "allow", "authenticated": "allow"}).items():
        assert channels.answer(0.05, 200, kind)[0] == tier
    table = channels.cost_table(0.05, 200)
    # Letting through without a challenge is an authentication: the loss stays with the bank.
    assert table.loc["3-D Secure", "allow"] == table.loc["purchase", "allow"] == 10.75
    assert table.loc["unauthenticated", "allow"] == 0.75


def test_who_has_confirmed_is_not_asked_for_the_same_suspicion_again():
    """12 % of attackers and 92.5 % of owners pass: .05 becomes .0068, written out."""
    p = 0.05 * 0.12 / (0.05 * 0.12 + 0.95 * 0.925)
    tier, costs = channels.answer(0.05, 200, "authenticated")
    assert tier == "allow" and costs["allow"] == pytest.approx(p * 215, abs=0.006)
    assert channels.once_confirmed(0.0) == 0 and channels.once_confirmed(1.0) == 1
    # Planted: with the probability from before the challenge the bank would decline it.
    before = answer_costs([0.05], 200).iloc[0]
    assert before["block"] < before["allow"]


def test_a_reversal_is_nothing_to_decide():
    assert channels.answer(0.9, -20, "reversal") == ("allow", {})
    assert channels.cost_table(0.05, 200).loc["reversal", ["allow", "block"]].isna().all()


def test_only_what_can_still_be_done_is_answered():
    for name, message in channels.MESSAGES.items():
        for p in (0.0, 0.03, 0.5, 1.0):
            tier, costs = channels.answer(p, 150, name)
            if not message.decided:
                continue
            assert tier in message.answers == tuple(costs)
            assert costs[tier] == pytest.approx(min(costs.values()), abs=0.011)
    table = channels.cost_table(0.6, 150)
    assert np.isnan(table.loc["recurring", "confirm"])
    assert table["cheapest"].isin(ANSWERS).all()


def test_a_verification_is_worth_what_the_card_is_used_for_next():
    tier, costs = channels.answer(0.5, 0, "verification")
    assert tier == "block" and costs["allow"] == pytest.approx(0.5 * (channels.NEXT_USE + 15))


def test_the_guardrails_price_and_the_margin_are_passed_on():
    assert channels.answer(0.05, 200, "purchase", price=50)[0] == "allow"
    capped = Economics(margin=channels.CAP_DEBIT)
    assert channels.answer(0.045, 5000, "authenticated", capped)[0] == "block"
    assert channels.answer(0.045, 5000, "authenticated")[0] == "allow"


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="no message 'cheque': one of purchase"):
        channels.answer(0.1, 5, "cheque")


def test_what_merchants_bear_is_what_was_disputed_online_without_a_confirmation():
    world = simulate(seed=4, n_customers=400, days=60)
    seen, delay = world.transactions, world.truth["delay"].to_numpy()
    rows = (seen["channel"] == "online") & ~np.isnan(delay) & ~seen["request"].duplicated()
    rows &= seen["amount"] <= channels.EXEMPTED
    assert merchants_part(world) == pytest.approx(seen.loc[rows, "amount"].sum())
    asked = simulate(lambda batch, history: ["confirm"] * len(batch), 4, 400, 60)
    assert merchants_part(asked) == 0
    where = pd.Series(["online", "online", "in person"])
    assert channels.borne(where, np.array([500, 501, 20])).tolist() == [0, 1, 1]
