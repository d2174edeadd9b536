"""The graph of shared machines: known answers, nothing from after midnight, hubs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.features import sharing
from casebook.features.sharing import GRAPH_FEATURES, HUBS, graph_features

START = pd.Timestamp("2025-07-01")
NONE = pd.DataFrame({"transaction": pd.Series(dtype=int), "known": pd.to_datetime([])})


def table(*rows: tuple) -> pd.DataFrame:
    """Make a table of (day, customer, device, address, terminal); 0 stands for none."""
    frame = pd.DataFrame(rows, columns=["day", "customer", "device", "ip", "terminal"])
    for column in ("device", "ip"):
        frame[column] = frame[column].replace(0, None).astype("Int64")
    received = (START + pd.to_timedelta(frame.pop("day"), unit="D")).astype("datetime64[ms]")
    number = range(len(frame))
    return frame.assign(transaction=number, request=number, received=received, amount=10.0)


def known(*rows: tuple) -> pd.DataFrame:
    """Make evidence of (transaction, day)."""
    frame = pd.DataFrame(rows, columns=["transaction", "known"])
    frame["known"] = START + pd.to_timedelta(frame["known"], unit="D")
    return frame


#: Customers 1, 2 and 3 use device 7; 3 and 4 address 8; 5 is alone; all buy at terminal 1, and the
#: first two at 2. On day 5 customers 4, 5 and 9 use device 7.
HAND = table(
    (0.5, 1, 7, 0, 2),
    (1.2, 2, 7, 0, 2),
    (1.3, 3, 7, 8, 1),
    (4.1, 4, 0, 8, 1),
    (4.2, 5, 6, 0, 1),
    (5.1, 4, 7, 8, 1),
    (5.2, 5, 7, 0, 2),
    (5.3, 9, 7, 0, 3),
)
FRAUDS = known((0, 2.0), (2, 4.9))


def last_day(frame: pd.DataFrame, evidence: pd.DataFrame = FRAUDS, **options) -> pd.DataFrame:
    return graph_features(frame, evidence, start=START + pd.Timedelta(days=5), **options)


# --- a graph with a known answer ------------------------------------------------------------------


def test_the_hand_made_graph_gives_its_known_answer():
    found = last_day(HAND)
    assert [*found] == [*GRAPH_FEATURES] and found.index.tolist() == [5, 6, 7]
    assert (found.dtypes == np.float32).all() and np.isfinite(found.to_numpy()).all()
    # Three customers on device 7, of whom 1 and 3 had a fraud.
    assert found["device_customers"].tolist() == [3, 3, 3]
    assert found["device_suspects"].to_numpy() == pytest.approx(2 / 3)
    # Customer 4 shares address 8 with 3; he does not count himself.
    assert found["address_customers"].tolist() == [1, 0, 0]
    assert found["address_suspects"].tolist() == [1, 0, 0]
    assert found["neighbours_by_device"].tolist() == [0, 0, 0]
    assert found["neighbours_by_address"].tolist() == [1, 0, 0]
    # At terminal 1: customers 3, 4 and 5, of whom 3 had a fraud. Five are added to each share.
    assert found["neighbours_by_terminal"].tolist() == pytest.approx([0.5, 0.5, 0])
    assert found["terminal_of_victims"].tolist() == pytest.approx([1 / 7, 1 / 7, 0])
    # 1, 2, 3 and 4 are joined; of the other three 4 sees two with a fraud, 5 two of four.
    assert found["component_customers"].tolist() == [4, 4, 4]
    assert found["component_suspects"].tolist() == pytest.approx([2 / 3, 2 / 4, 2 / 4])
    # In the last 24 hours customer 4 came to address 8; 5 joined nobody.
    assert found["component_new"].tolist() == [1, 1, 1]
    pd.testing.assert_series_equal(
        found["community_suspects"], found["component_suspects"], check_names=False
    )


@pytest.mark.parametrize("company", [0, 1, 3])
def test_a_customer_does_not_count_himself(company):
    """Customer 1 had a fraud; those who share all his machines had none."""
    rows = [(0.1 + i / 100, i + 1, 7, 8, 1) for i in range(company + 1)]
    frame = table(*rows, (1.1, 1, 7, 8, 1))
    found = graph_features(frame, known((0, 0.5)), start=START + pd.Timedelta(days=1)).iloc[0]
    others = [c for c in GRAPH_FEATURES if "suspects" in c or "neighbours" in c or "victims" in c]
    assert found[others].eq(0).all()
    assert found["device_customers"] == company
    assert found["component_customers"] == company + 1
    assert found["risk_customer"] > 0


def test_newcomers_are_those_of_the_last_24_hours():
    rows = [(day, i, 7, 0, 1) for i, day in enumerate((0.1, 0.9, 1.0, 1.9))]
    found = graph_features(table(*rows, (2.1, 9, 7, 0, 1)), NONE, start="2025-07-03")
    assert found["component_new"].tolist() == [2]


def test_suspicion_falls_with_the_distance_and_stays_below_one():
    risk = last_day(HAND)
    # 4 is two links from a fraud, 9 was never seen; device 7 had two frauds itself.
    assert risk.loc[5, "risk_customer"] > risk.loc[6, "risk_customer"] > 0
    assert risk.loc[7, "risk_customer"] == 0 and risk.loc[5, "risk_device"] > 0.3
    columns = [c for c in GRAPH_FEATURES if c.startswith("risk_")]
    assert risk[columns].to_numpy().max() <= 1


def test_a_retry_is_no_link():
    frame = HAND.copy()
    frame.loc[1, "request"] = frame.loc[0, "request"]  # that of customer 2
    assert last_day(frame)["device_customers"].tolist() == [2, 2, 2]


def test_links_leave_after_the_window_and_frauds_after_the_memory():
    assert last_day(HAND, window=4)["device_customers"].tolist() == [2, 2, 2]
    assert last_day(HAND, memory=4)["device_suspects"].to_numpy() == pytest.approx(1 / 3)
    assert last_day(HAND, window=1)["component_customers"].tolist() == [1, 1, 1]


def test_without_devices_addresses_or_evidence_there_are_zeros():
    frame = table((0.1, 1, 0, 0, 1), (0.2, 2, 0, 0, 1), (1.1, 1, 0, 0, 1))
    found = graph_features(frame, NONE)
    assert found.loc[2, "component_customers"] == 1
    assert found.drop(columns=["component_customers", "community_customers"]).eq(0).all().all()


# --- nothing from after midnight ------------------------------------------------------------------


def test_what_becomes_known_from_midnight_on_changes_nothing():
    base = last_day(HAND)
    later = pd.concat([FRAUDS, known((1, 5.0), (4, 5.05), (5, 5.2))])
    pd.testing.assert_frame_equal(last_day(HAND, later), base)
    # A millisecond before it would.
    before = pd.concat([FRAUDS, known((1, 5.0 - 1 / 86_400_000))])
    assert last_day(HAND, before)["device_suspects"].tolist() == [1, 1, 1]


def test_rows_of_the_day_and_later_change_nothing():
    base = last_day(HAND)
    more = table((5.0, 11, 7, 8, 1), (5.05, 12, 7, 8, 2), (6.5, 13, 7, 8, 1))
    more["transaction"] += 100
    more["request"] += 100
    found = last_day(pd.concat([HAND, more]))
    pd.testing.assert_frame_equal(found.loc[base.index], base)
    yesterday = more.assign(received=more["received"] - pd.Timedelta(days=2))
    found = last_day(pd.concat([HAND, yesterday]))
    assert found.loc[5, "device_customers"] == base.loc[5, "device_customers"] + 3


@pytest.mark.parametrize("plant", ["evidence", "rows"])
def test_a_graph_that_looks_past_midnight_is_found(monkeypatch, plant):
    """The two tests above fail on graphs that are built wrongly."""
    honest = sharing._graph

    def leaky(rows, at, window, memory):
        if plant == "rows":
            return honest(rows, at + sharing._DAY, window, memory)
        seen = rows.known
        rows.known = np.where(np.isfinite(seen), rows.received, seen)
        try:
            return honest(rows, at, window, memory)
        finally:
            rows.known = seen

    monkeypatch.setattr(sharing, "_graph", leaky)
    with pytest.raises(AssertionError):
        if plant == "rows":
            test_rows_of_the_day_and_later_change_nothing()
        else:
            test_what_becomes_known_from_midnight_on_changes_nothing()


def mixed_up(n: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    rows = zip(np.sort(rng.uniform(0, 6, n)), *rng.integers(1, 40, (4, n)), strict=True)
    frauds = known(*((i, 6.1) for i in range(0, 20)), *((i, 3.5) for i in range(50, 90, 9)))
    return table(*rows), frauds


def test_the_table_cut_at_midnight_gives_the_same_features():
    rows, facts = mixed_up()
    whole = graph_features(rows, facts, start="2025-07-04")
    for day in range(3, 6):
        at = START + pd.Timedelta(days=day)
        seen = rows[rows["received"] < at + pd.Timedelta(days=1)]
        part = graph_features(seen, facts[facts["known"] < at], start=at)
        pd.testing.assert_frame_equal(whole.loc[part.index], part)


def test_the_same_rows_in_another_order_give_the_same_features():
    rows, facts = mixed_up()
    one = graph_features(rows, facts, start="2025-07-04")
    again = graph_features(
        rows.sample(frac=1, random_state=0), facts.iloc[::-1], start="2025-07-04"
    )
    pd.testing.assert_frame_equal(again, one)
    assert one["risk_customer"].max() > 0 and one["component_customers"].max() > 1


# --- hubs -----------------------------------------------------------------------------------------


def shared_by(n: int, column: str) -> pd.DataFrame:
    """Return a table in which n customers share one machine, the first with a fraud."""
    machine = (7, 0) if column == "device" else (0, 7)
    rows = [(i / 1000, i, *machine, i + 10) for i in range(n)]
    return table(*rows, (1.1, n, *machine, 1))


@pytest.mark.parametrize("column", ["device", "ip"])
def test_a_hub_joins_nobody(column):
    most, name = HUBS[column], "device" if column == "device" else "address"
    day = {"start": START + pd.Timedelta(days=1)}
    joined = graph_features(shared_by(most, column), known((0, 0.9)), **day).iloc[-1]
    assert joined["component_customers"] == most
    hub = graph_features(shared_by(most + 1, column), known((0, 0.9)), **day).iloc[-1]
    assert hub["component_customers"] == 1  # himself
    assert hub[f"{name}_customers"] == most + 1


def test_the_more_share_a_machine_the_less_it_says():
    day = {"start": START + pd.Timedelta(days=1)}
    risk = [
        graph_features(shared_by(n, "device"), known((0, 0.9)), **day).iloc[-1]["risk_device"]
        for n in (2, 10, 50)
    ]
    assert risk[0] > 2 * risk[1] > 4 * risk[2] > 0


def test_a_large_component_falls_into_communities_and_a_small_one_does_not():
    """Two groups of 20 on a device each, and one customer who uses both."""
    rows = [(i / 1000, i, 1 if i < 20 else 2, 0, i + 10) for i in range(40)]
    rows += [(0.9, 0, 2, 0, 1), (1.1, 1, 1, 0, 1), (1.2, 39, 2, 0, 1)]
    found = graph_features(table(*rows), NONE, start=START + pd.Timedelta(days=1))
    assert found["component_customers"].tolist() == [40, 40]
    assert sorted(found["community_customers"]) == [20, 20]
    few = [row for row in rows if row[1] in (0, 1, 39)]
    found = graph_features(table(*few), NONE, start=START + pd.Timedelta(days=1))
    assert found["community_customers"].tolist() == [3, 3]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda: last_day(HAND.drop(columns=["device", "ip"])),
            r"transactions: no column \['device', 'ip'\]",
        ),
        (lambda: last_day(HAND, FRAUDS.drop(columns="known")), r"evidence: no column \['known'\]"),
        (lambda: last_day(HAND.assign(transaction=1)), "`transaction` is not unique"),
        (lambda: last_day(HAND, known((5, 5.0))), r"1 frauds are known before .*transaction 5"),
        (lambda: last_day(HAND, window=0), "`window` is 0: give a positive"),
        (lambda: last_day(HAND, memory=-1), "`memory` is -1: give a positive"),
        (lambda: graph_features(HAND, FRAUDS, start="2025-07-02 10:00"), "give a midnight"),
        (lambda: graph_features(HAND, FRAUDS, start="2026-07-02"), "no transaction was received"),
        (lambda: graph_features(HAND.iloc[:0], FRAUDS), "there are no transactions"),
        (lambda: last_day(HAND.assign(customer=None)), "has no `customer`"),
        (lambda: last_day(HAND.assign(received="now")), "`received` has to hold a time"),
    ],
)
def test_a_bad_input_is_named(call, line):
    with pytest.raises(ValueError, match=line):
        call()
