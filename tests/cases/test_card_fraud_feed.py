"""The audit finds what was planted; the contract refuses what cannot be right."""

import pandas as pd
import pytest

from casebook.cases.card_fraud.feed import ContractBroken, audit, check_contract
from casebook.cases.card_fraud.world import CHAPTER, simulate
from casebook.data import snapshot


@pytest.fixture(scope="module")
def payments():
    return snapshot(CHAPTER, "transactions.parquet")


def compared(transactions, planted):
    both = audit(transactions).merge(
        planted.astype({"fault": str}), on=["transaction", "fault"], how="outer", indicator=True
    )
    counted = pd.crosstab(both["fault"], both["_merge"])
    return counted.reindex(columns=["both", "left_only", "right_only"], fill_value=0)


def test_the_audit_finds_the_planted_faults_of_the_snapshot(payments):
    counted = compared(payments, snapshot(CHAPTER, "faults.parquet"))
    exact = ["filled later", "missing device", "refund", "retry"]
    assert (counted.loc[exact, "both"] > 100).all()
    assert counted.loc[exact, ["left_only", "right_only"]].sum().sum() == 0
    by_clock = counted.loc[["clock skew", "out of order"]]
    assert by_clock["both"].sum() / by_clock[["both", "right_only"]].sum().sum() > 0.95
    assert by_clock["left_only"].sum() < 0.05 * by_clock["both"].sum()


def test_the_audit_does_as_well_in_another_world():
    world = simulate(seed=77, n_customers=300, days=60)
    counted = compared(world.transactions, world.faults)
    assert counted["both"].sum() > 0.93 * counted[["both", "right_only"]].sum().sum()


def test_an_audit_that_reads_the_raw_lateness_accuses_clocks(payments):
    """The planted fault: without the skew of the terminal, slow clocks look like late rows."""
    late = (payments["received"] - payments["time"]) > pd.Timedelta(minutes=2)
    planted = snapshot(CHAPTER, "faults.parquet")
    skewed = planted.loc[planted["fault"] == "clock skew", "transaction"]
    assert (late & payments["transaction"].isin(skewed)).sum() > 100
    found = audit(payments)
    found = found[found["fault"] == "out of order"]
    assert found["transaction"].isin(skewed).sum() < 20


def test_the_snapshot_keeps_the_contract(payments):
    assert check_contract(payments) is payments


def with_fax(channel):
    """Return the channels, the third an unknown one."""
    return channel.astype(str).where(channel.index != 3, "fax")


def damage(column, value, row=3):
    def change(rows):
        rows.loc[row, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damage("amount", -5.0), "negative amount where nothing is refunded: 1 row"),
        (damage("amount", float("nan")), "amount is no number: 1 row"),
        (damage("amount", float("inf")), "amount is no number"),
        (damage("amount", 250_000.0), "amount beyond 50,000 euro: 1 row.*cents are not euro"),
        (damage("transaction", 0), "number stands twice: 1 row"),
        (damage("received", pd.Timestamp("2025-06-30")), "arrived before a row above it"),
        (
            lambda rows: rows.update(rows.loc[[3], ["received", "time"]] + pd.Timedelta("20h")),
            "after one below: 1 row",
        ),
        (
            lambda rows: rows.isetitem(rows.columns.get_loc("channel"), with_fax(rows["channel"])),
            "channel and entry do not go together: 1 row",
        ),
        (damage("time", pd.Timestamp("2024-06-30")), "differ by more than a day: 1 row"),
        (damage("entry", "typed"), "channel and entry do not go together: 1 row"),
    ],
)
def test_a_planted_fault_is_refused_with_its_reason(payments, change, said):
    rows = payments.head(50).copy()
    assert (rows.loc[3, "channel"], rows.loc[3, "category"]) not in {("online", "clothes")}
    rows.loc[3, ["channel", "entry", "category"]] = ["in person", "chip", "grocery"]
    change(rows)
    with pytest.raises(ContractBroken, match=said) as refused:
        check_contract(rows)
    error = refused.value
    assert len(error.rows) + len(error.accepted) == 50
    assert set(error.rows.index) | set(error.accepted.index) == set(rows.index)
    assert len(error.rows) == 1 and error.rows.index[0] == 3


def test_missing_columns_and_wrong_types_are_named(payments):
    with pytest.raises(ContractBroken, match="column 'amount' is missing"):
        check_contract(payments.head(5).drop(columns="amount"))
    with pytest.raises(ContractBroken, match="amount holds object, not float64"):
        check_contract(payments.head(5).assign(amount=payments["amount"].astype(str)))
