"""Tiers from costs: the cheapest answer, its cut-offs, the price of a guardrail."""

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import costs
from casebook.cases.card_fraud.costs import Economics, cutoffs, expected_costs, fixed_tiers, tiers
from casebook.cases.card_fraud.world import TIERS, simulate

AMOUNTS = (0.5, 2, 20, 60, 200, 1000, 5000)


def by_hand(p, a, e):
    """The four expected costs, written out."""
    lost = a + e.chargeback

    def asked(price, abandons, passes):
        done = e.leaves_asked * e.customer + e.complains_asked * e.complaint
        stopped = e.leaves_abandoned * e.customer + e.complains_abandoned * e.complaint
        genuine = (1 - abandons) * done + abandons * (e.margin * a + stopped)
        return price + (1 - p) * genuine + p * passes * lost

    return {
        "allow": p * lost,
        "confirm": asked(e.push, e.abandons_push, e.passes_push),
        "call": asked(e.call, e.abandons_call, e.passes_call),
        "block": (1 - p)
        * (e.margin * a + e.leaves_blocked * e.customer + e.complains_blocked * e.complaint),
    }


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("p", [0, 0.003, 0.2, 0.9, 1])
def test_expected_costs_agree_with_those_written_out(p, amount):
    frame = expected_costs([p], amount)
    assert list(frame) == list(TIERS)
    assert frame.iloc[0].to_dict() == pytest.approx(by_hand(p, amount, Economics()))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_the_tier_is_the_cheapest_at_each_probability(amount):
    p = np.linspace(0, 1, 2001)
    chosen, frame = tiers(p, amount), expected_costs(p, amount)
    paid = frame.to_numpy()[np.arange(len(p)), frame.columns.get_indexer(chosen)]
    np.testing.assert_allclose(paid, frame.min(axis=1))


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize(
    "economics",
    [Economics(), Economics(call=0.2), Economics(passes_push=0.9), Economics(push=1e6, call=1e6)],
)
def test_cutoffs_are_where_the_cheapest_tier_changes(amount, economics):
    table = cutoffs(amount, economics)
    assert table["from"].is_monotonic_increasing and table["from"].iloc[0] == 0
    for (_, row), end in zip(table.iterrows(), [*table["from"].iloc[1:], 1.0], strict=True):
        middle = (row["from"] + end) / 2
        assert tiers(middle, amount, economics)[0] == row["tier"]
    for before, row in zip(table["tier"], table.iloc[1:].itertuples(), strict=False):
        here = expected_costs([row[2]], amount, economics).iloc[0]
        assert here[before] == pytest.approx(here[row.tier]) == here.min()


def test_a_call_pays_only_for_large_amounts():
    assert "call" not in set(cutoffs(60)["tier"])
    assert "call" in set(cutoffs(2000)["tier"])


def test_a_dearer_mistake_moves_the_cutoff_as_it_should():
    def confirm_from(**changed):
        return cutoffs(60, Economics(**changed)).set_index("tier").loc["confirm", "from"]

    assert confirm_from(chargeback=60) < confirm_from() < confirm_from(leaves_asked=0.01)


def test_fixed_tiers_begin_at_their_cutoff():
    p = [0, 0.0099, 0.01, 0.49, 0.5, 0.89, 0.9, 1]
    expected = ["allow"] * 2 + ["confirm"] * 2 + ["call"] * 2 + ["block"] * 2
    assert fixed_tiers(p, 0.01, 0.5, 0.9).tolist() == expected
    assert set(fixed_tiers(p, 0.5, 0.5, 0.5)) == {"allow", "block"}
    with pytest.raises(ValueError, match="do not rise"):
        fixed_tiers(p, 0.5, 0.4, 0.9)


def test_the_price_of_a_guardrail_is_the_least_that_keeps_it():
    rng = np.random.default_rng(3)
    p = rng.beta(0.05, 3, 20_000)
    amount = rng.lognormal(3.3, 1, 20_000)
    free = (tiers(p, amount) != "allow").mean()
    assert costs.price_of_guardrail(p, amount, 1.0) == 0
    price = costs.price_of_guardrail(p, amount, free / 2)
    assert (tiers(p, amount, price=price) != "allow").mean() <= free / 2
    assert (tiers(p, amount, price=price * 0.98) != "allow").mean() > free / 2


def test_a_guardrail_gives_up_what_was_worth_least():
    rng = np.random.default_rng(4)
    p, amount = rng.beta(0.05, 3, 5000), rng.lognormal(3.3, 1, 5000)
    price = costs.price_of_guardrail(p, amount, 0.05)
    before, after = tiers(p, amount), tiers(p, amount, price=price)
    frame = expected_costs(p, amount)
    gain = (frame["allow"] - frame.min(axis=1)) / (1 - p)
    let_go = (before != "allow") & (after == "allow")
    kept = (before != "allow") & (after != "allow")
    assert let_go.any() and gain[let_go].max() <= gain[kept].min() + 1e-9


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: tiers([0.1, 1.2], 5), "1 of 2 probabilities .* row 1"),
        (lambda: tiers([np.nan], 5), "probabilities are not within"),
        (lambda: expected_costs([0.1], [np.inf]), "1 of 1 amounts are not finite"),
        (lambda: Economics(margin=1.5), "margin is 1.5: a share"),
        (lambda: Economics(call=-1), "call is -1: a price"),
        (lambda: costs.price_of_guardrail([0.1], 5, 0), "limit is 0"),
        (lambda: costs.price_of_guardrail([1.0], 5, 0.1), "no price of friction"),
    ],
)
def test_bad_input_is_refused_in_words(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_pilot_shows_the_rates_that_the_costs_assume():
    rng = np.random.default_rng(1)

    def at_random(batch, history):
        return rng.choice(["allow", "confirm", "call"], len(batch), p=[0.6, 0.2, 0.2])

    shown = costs.pilot(simulate(at_random, seed=5, n_customers=600, days=30))
    assert shown["asked_push"] > 2000
    error = 4 * np.sqrt(0.1 * 0.9 / shown[["asked_push", "asked_call"]].astype(float))
    assert shown["abandons_push"] == pytest.approx(Economics().abandons_push, abs=error.iloc[0])
    assert shown["abandons_call"] == pytest.approx(Economics().abandons_call, abs=error.iloc[1])
    with pytest.raises(ValueError, match="nobody was asked by confirm"):
        costs.pilot(simulate(seed=5, n_customers=100, days=2))


def test_a_planted_fault_in_the_envelope_is_found():
    """The test of the cut-offs fails for a bank that forgets the chargeback."""
    wrong = cutoffs(60, Economics(chargeback=0))
    at = expected_costs([wrong["from"].iloc[1]], 60).iloc[0]
    assert at["allow"] != pytest.approx(at["confirm"])
    assert isinstance(wrong, pd.DataFrame)
