"""Tiers from costs: the cheapest answer, its cut-offs, the price of a guardrail."""

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud.world import TIERS, simulate
from casebook.evaluate import fraud_costs as costs
from casebook.evaluate.fraud_costs import Economics, cutoffs, expected_costs, tiers

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


def test_the_price_of_a_guardrail_is_the_least_that_keeps_it():
    rng = np.random.default_rng(3)
    p = rng.beta(0.05, 3, 20_000)
    amount = rng.lognormal(3.3, 1, 20_000)

    def choose(price):
        return tiers(p, amount, price=price)

    def friction(price):
        return ((1 - p) * (choose(price) != "allow")).sum() / (1 - p).sum()

    free = friction(0)
    assert costs.price_within(1.0, choose, 1 - p) == 0
    price = costs.price_within(free / 2, choose, 1 - p)
    assert friction(price) <= free / 2 < friction(price * 0.98)
    # Planted: a limit on all payments is spent on frauds, and disturbs fewer than it may.
    of_all = costs.price_within(free / 2, choose)
    assert of_all > price and friction(of_all) < 0.9 * free / 2


def test_a_guardrail_gives_up_what_was_worth_least():
    rng = np.random.default_rng(4)
    p, amount = rng.beta(0.05, 3, 5000), rng.lognormal(3.3, 1, 5000)
    price = costs.price_within(0.05, lambda price: tiers(p, amount, price=price), 1 - p)
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
    ],
)
def test_bad_input_is_refused_in_words(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_asking_at_random_shows_the_rates_that_the_costs_assume():
    rng = np.random.default_rng(1)

    def at_random(batch, history):
        return rng.choice(["allow", "confirm", "call"], len(batch), p=[0.6, 0.2, 0.2])

    seen = simulate(at_random, seed=5, n_customers=600, days=30).transactions
    seen = seen[~seen["request"].duplicated()]
    for tier, name in (("confirm", "abandons_push"), ("call", "abandons_call")):
        outcome = seen.loc[seen["tier"] == tier, "outcome"]
        error = 4 * np.sqrt(0.1 * 0.9 / len(outcome))
        assumed = getattr(Economics(), name)
        assert (outcome == "abandoned").mean() == pytest.approx(assumed, abs=error)


# Three answers, and who bears a fraud ----------------------------------------------------------


@pytest.mark.parametrize("bears", [0.0, 0.4, 1.0])
def test_the_cheapest_answer_is_the_cheapest_among_those_that_there_are(bears):
    p, amount = np.linspace(0, 1, 501), 180.0
    table = costs.answer_costs(p, amount, bears=bears)
    for among in (costs.ANSWERS, ("allow", "block"), TIERS):
        chosen = costs.cheapest(p, amount, among=among, bears=bears)
        paid = table.to_numpy()[np.arange(len(p)), table.columns.get_indexer(chosen)]
        np.testing.assert_allclose(paid, table[list(among)].min(axis=1))
    assert set(chosen) <= set(TIERS)


def test_a_bank_that_bears_everything_pays_what_it_paid_and_chooses_as_it_chose():
    p = np.random.default_rng(0).beta(0.1, 3, 500)
    amount = np.geomspace(1, 300, 500)
    pd.testing.assert_frame_equal(costs.answer_costs(p, amount), expected_costs(p, amount))
    for price in (0.0, 3.0):
        same = costs.cheapest(p, amount, price=price, among=TIERS)
        np.testing.assert_array_equal(same, tiers(p, amount, price=price))


def test_the_answer_flips_with_the_one_who_bears_it():
    """200 euro online, one in twenty fraud: written out by hand."""
    table = costs.answer_costs([0.05, 0.05], 200, bears=[1, 0])
    assert table["allow"].tolist() == pytest.approx([0.05 * 215, 0.05 * 15])
    assert table["confirm"].tolist() == pytest.approx([1.7469, 1.7469], abs=1e-4)
    assert costs.cheapest([0.05, 0.05], 200, bears=[1, 0]).tolist() == ["confirm", "allow"]


def test_the_european_cap_on_the_margin_lets_blocks_begin_earlier():
    free, capped = (
        cutoffs(5000, Economics(margin=m)).set_index("tier")["from"]["block"]
        for m in (0.012, 0.002)
    )
    assert free == pytest.approx(0.165, abs=1e-3) and capped == pytest.approx(0.027, abs=1e-3)


def test_cutoffs_among_three_answers_are_where_the_cheapest_changes():
    for amount in AMOUNTS:
        table = cutoffs(amount, among=costs.ANSWERS)
        for row in table.iloc[1:].itertuples():
            at = table.set_index("tier")["from"][row.tier]
            just = costs.cheapest([at - 1e-9, at + 1e-9], amount)
            assert just[1] == row.tier != just[0]


def test_a_call_leaves_little_where_it_is_left_out():
    """Up to 400 euro nothing at all; at 1,000 at most 2.50, where it is at its best."""
    p = np.linspace(0, 1, 2001)
    for amount, most in ((60, 0), (400, 0), (1000, 2.5)):
        table = expected_costs(p, amount)
        extra = table[list(costs.ANSWERS)].min(axis=1) - table.min(axis=1)
        assert 0 <= extra.max() <= most + 1e-9


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: costs.cheapest([0.1], 5, bears=1.2), "share that the bank bears"),
        (lambda: costs.cheapest([0.1], 5, among=("allow", "wait")), "no answer 'wait'"),
        (lambda: costs.price_within(0, lambda price: np.array(["allow"])), "limit is 0"),
        (lambda: costs.price_within(0.1, lambda price: np.array(["block"])), "no price of"),
    ],
)
def test_answers_that_cannot_be_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# Planted ---------------------------------------------------------------------------------------


def test_a_planted_fault_in_the_envelope_is_found():
    """The test of the cut-offs fails for a bank that forgets the chargeback."""
    wrong = cutoffs(60, Economics(chargeback=0))
    at = expected_costs([wrong["from"].iloc[1]], 60).iloc[0]
    assert at["allow"] != pytest.approx(at["confirm"])
    assert isinstance(wrong, pd.DataFrame)
