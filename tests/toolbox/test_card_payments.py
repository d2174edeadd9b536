"""The feature store: table and event agree, both agree with plain definitions. About 20 s.

What comes late, in another order or with a wrong clock is in ``test_card_fraud_equality``.

Each planted fault is a change of one line of the module, run in a copy of it: the comparison has
to find it in the feature that it spoils.
"""

import inspect
import math
import os
import sys
import time
import types
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from casebook.cases.card_fraud import world as world_of
from casebook.data.tables import HANDBOOK_COLUMNS
from casebook.features import card_payments as store
from casebook.features.card_payments import definition, online, table
from casebook.features.definition import skew

HANDBOOK = "12_card_fraud/fraud_handbook_2018_06_10_08_14.parquet"
DAY, HOUR = pd.Timedelta(days=1), pd.Timedelta(hours=1)


def refusing(batch, history):
    """Confirm, call and block some, by what the rows say."""
    lot = batch["request"].to_numpy() % 20
    typed = (batch["entry"] == "typed") | (batch["entry"] == "magstripe")
    tiers = np.where((batch["amount"] > 90) | typed | (lot == 0), "confirm", "allow")
    tiers = np.where(lot == 1, "call", tiers)
    unknown = (batch["channel"] == "online") & batch["device"].isna()
    return np.where(unknown | (lot == 2), "block", tiers)


class Case:
    """A world with its features, computed in both ways."""

    def __init__(self, world, every=None):
        self.world, self.customers, self.terminals = world, world.customers, world.terminals
        transactions, labels = world.transactions, world.labels
        if every:  # whole quarters of an hour: many ties, and many rows on the edge of a window
            transactions = transactions.assign(received=transactions["received"].dt.floor(every))
            labels = labels.assign(known=labels["known"].dt.floor(every))
        self.transactions = transactions
        self.evidence = store.evidence(transactions, labels)
        self.batch = store.batch(*self.tables)
        self.online = store.replay(*self.tables)

    @property
    def tables(self):
        return self.transactions, self.terminals, self.customers, self.evidence


@pytest.fixture(scope="module")
def allowed():
    return Case(world_of.simulate(n_customers=300, days=100, seed=5))


@pytest.fixture(scope="module")
def refused():
    """Return a world with denials, in which arrivals are rounded: edges and ties are common."""
    return Case(world_of.simulate(refusing, n_customers=350, days=100, seed=6), every="15min")


@pytest.fixture(params=["allowed", "refused"])
def case(request):
    return request.getfixturevalue(request.param)


def small(case, n=6000):
    """Return the tables of the first n rows, which are quick to replay."""
    part = case.transactions.iloc[:n]
    known = case.evidence[case.evidence["transaction"].isin(part["transaction"])]
    return part, case.terminals, case.customers, known


def planted(module, old, new):
    """Return a copy of a module in which a piece of code is another."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{source.count(old)} places hold {old!r}"
    copy = types.ModuleType("casebook.features.card_payments.planted")
    copy.__package__ = "casebook.features.card_payments"
    sys.modules[copy.__name__] = copy
    try:
        exec(compile(source.replace(old, new), "planted", "exec"), copy.__dict__)
    finally:
        del sys.modules[copy.__name__]
    return copy


# Table and event agree ---------------------------------------------------------------------------


def test_the_world_of_the_comparison_holds_what_may_differ(case):
    rows, world = case.transactions, case.world
    faults = set(world.faults["fault"])
    assert {"retry", "out of order", "clock skew", "missing device", "refund"} <= faults
    assert rows["request"].duplicated().sum() > 30 and (rows["amount"] < 0).sum() > 30
    assert (world.customers["joined"] > world.start).sum() > 10
    assert not rows["time"].is_monotonic_increasing
    assert len(case.evidence) > 100
    assert len(rows) > (25_000 if case.world.transactions["outcome"].nunique() == 1 else 20_000)


def test_the_second_world_refuses_and_has_ties(refused):
    rows = refused.transactions
    assert (rows["outcome"].value_counts()[list(store.REFUSED)] > 60).all()
    assert rows["received"].duplicated().mean() > 0.5
    assert refused.evidence["known"].isin(rows["received"]).sum() > 60
    assert (refused.batch[["customer_refused_24h", "device_refused_24h"]].sum() > 100).all()


def test_batch_equals_online_on_every_event(case):
    assert skew(case.online, case.batch) == {}
    assert len(case.batch) == len(case.transactions)
    # Sums of cents are whole: not only near, but the same bits.
    assert (case.batch.to_numpy() == case.online.to_numpy()).all()


def test_no_value_is_missing_and_each_feature_varies(case):
    assert case.batch.notna().all(axis=None) and np.isfinite(case.batch).all(axis=None)
    assert (case.batch.dtypes == np.float32).all() and case.batch.index.name == "transaction"
    constant = case.batch.columns[case.batch.nunique() == 1]
    refuses = case.world.transactions["outcome"].nunique() > 1
    never = set() if refuses else {"customer_refused_24h", "device_refused_24h"}
    assert set(constant) == never


IN_THE_TABLE = {
    "label delay violated": ("*table.frauds, behind, window)", "*table.frauds, 0, window)"),
    "fraud counts before it is known": ("visible(self.ms, row, known)", "row + 1"),
    "current row counted": (
        "groups.sums(counted, days)",
        "groups.sums(counted, days, include_current=True)",
    ),
    "current row counted on the device": (
        "device.sums(table.counted, 1)",
        "device.sums(table.counted, 1, include_current=True)",
    ),
    "window a millisecond longer": ('("24h", 1), ("7d", 7)', '("24h", 1 + 1 / DAY), ("7d", 7)'),
    "retries counted twice": ('~again & (rows["cents"] >= 0)', 'rows["cents"] >= 0'),
    "refunds counted": ('~again & (rows["cents"] >= 0)', "~again"),
    "refusals forgotten": ('self._seen(refused, rows["told"][refused])', "self.frauds"),
}


@pytest.mark.parametrize("fault", IN_THE_TABLE)
def test_a_fault_in_the_table_is_found(refused, fault):
    copy = planted(table, *IN_THE_TABLE[fault])
    assert skew(refused.online, copy.batch(*refused.tables))


IN_THE_STORE = {
    "evidence not learned": ("        done.add(transaction)\n", "        return\n"),
    "label delay forgotten": ("upper = now - self._behind", "upper = now"),
    "edge off by one": (
        "edge = bisect_right(times, now - window)",
        "edge = bisect_right(times, now - window - 1)",
    ),
    "retries counted twice": ('not again and e["cents"] >= 0', 'e["cents"] >= 0'),
    "refunds counted": ('not again and e["cents"] >= 0', "not again"),
    "time of the terminal": (
        '_instant(event["received"], "received")',
        '_instant(event["time"], "time")',
    ),
    "outcomes not told": ("if isinstance(outcome, str):", "if False:"),
    "users pruned too soon": (".use(customer, now, WEEK)", ".use(customer, now, DAY)"),
}


@pytest.mark.parametrize("fault", IN_THE_STORE)
def test_a_fault_in_the_store_is_found(refused, fault):
    copy = planted(online, *IN_THE_STORE[fault])
    n = 12_000 if fault.startswith(("evidence", "label")) else 5000
    assert skew(copy.replay(*small(refused, n)), refused.batch.iloc[:n])


# What is forgotten --------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0.5, 3.0])
def test_what_is_forgotten_is_forgotten_in_both(refused, memory):
    frame = store.batch(*small(refused, 9000), memory=memory)
    kept = store.replay(*small(refused, 9000), memory=memory)
    assert skew(kept, frame) == {}
    assert skew(frame, refused.batch.iloc[:9000])["terminal_new"] > 1000
    remembers = planted(table, "lives(keys, self.ms, self.counted, self.memory)", "keys")
    assert skew(kept, remembers.batch(*small(refused, 9000), memory=memory))


def test_the_state_does_not_grow_for_ever(refused):
    sizes = {}
    for memory in (3.0, 400.0):
        kept = store.OnlineStore(refused.terminals, refused.customers, memory=memory, sweep=500)
        part = refused.transactions.iloc[:9000]
        sizes[memory] = [len(kept)]
        for piece in np.array_split(np.arange(9000), 3):
            kept.warm(part.iloc[piece], refused.evidence.iloc[:0])
            sizes[memory].append(len(kept))
    assert sizes[3.0][3] < 1.2 * sizes[3.0][1] and sizes[400.0][3] > 1.8 * sizes[400.0][1]
    with pytest.raises(ValueError, match="never observed, or is forgotten"):
        store_of = store.OnlineStore(refused.terminals, refused.customers, memory=3.0, sweep=500)
        store_of.warm(part, refused.evidence.iloc[:0])
        store_of.learn(int(part["transaction"].iloc[0]), part["received"].iloc[-1])


def test_sweeping_changes_no_feature(refused):
    swept = partial(store.OnlineStore, sweep=100)
    kept = store.replay(*small(refused, 5000), memory=2.0, store=swept)
    assert skew(kept, store.batch(*small(refused, 5000), memory=2.0)) == {}


# A place that nobody knows ------------------------------------------------------------------------


def test_a_terminal_without_a_place_is_nowhere_in_both(allowed):
    part, terminals, customers, known = small(allowed, 4000)
    busy = part["terminal"].value_counts().index[:30]
    nowhere = terminals.assign(x=terminals["x"].where(~terminals["terminal"].isin(busy[:15])))
    nowhere = nowhere[~nowhere["terminal"].isin(busy[15:])]
    frame = store.batch(part, nowhere, customers, known)
    assert skew(store.replay(part, nowhere, customers, known), frame) == {}
    there = part["terminal"].isin(busy).to_numpy()
    assert (frame.loc[there, ["km_from_last", "km_from_home", "speed"]] == 0).all(axis=None)
    assert (frame.loc[~there, "km_from_home"] > 0).any()


def test_the_current_row_and_the_future_change_nothing(refused):
    n = 9000
    part = store.batch(*small(refused, n))
    assert part.equals(refused.batch.iloc[:n])
    rows = refused.transactions.copy()
    now = rows["received"].iloc[n]
    rows.loc[rows.index >= n, ["amount", "terminal", "customer"]] = [1.0, 0, 0]
    rows.loc[rows.index >= n, "outcome"] = "denied"
    late = refused.evidence["known"] > now
    later = refused.evidence.assign(known=refused.evidence["known"].mask(late, now + 500 * DAY))
    changed = store.batch(rows, refused.terminals, refused.customers, later)
    assert changed.iloc[:n].equals(refused.batch.iloc[:n])


# Both agree with plain definitions ---------------------------------------------------------------


def by_hand(case, i):
    """Return the features of row i by plain filters, as the definitions read."""
    rows, now = case.transactions, case.transactions.iloc[i]
    t, online = now["received"], now["channel"] == "online"
    first = ~rows["request"].duplicated() & (rows["amount"] >= 0)
    earlier = rows.iloc[:i][first.iloc[:i].to_numpy()]
    frauds = case.evidence[case.evidence["known"] <= t].merge(earlier, on="transaction")

    def within(frame, span, delay=0):
        ms, until = frame["received"], t - delay * DAY
        return frame[(ms > until - span) & (ms <= until)]

    mine = earlier[earlier["customer"] == now["customer"]]
    there = earlier[earlier["terminal"] == now["terminal"]]
    device = earlier[earlier["device"] == now["device"]] if pd.notna(now["device"]) else mine[:0]
    address = earlier[earlier["ip"] == now["ip"]] if pd.notna(now["ip"]) else mine[:0]
    used = device[device["customer"] == now["customer"]]
    month = within(mine, 30 * DAY)
    out = {
        "amount": now["amount"],
        "log_amount": math.log1p(max(now["amount"], 0)),
        "refund": now["amount"] < 0,
        "amount_ratio": now["amount"] / month["amount"].mean() if len(month) else 1,
        "online": online,
        "entry": ["chip", "contactless", "wallet", "magstripe", "typed", "stored"].index(
            now["entry"]
        ),
        "category": list(rows["category"].cat.categories).index(now["category"]),
        "hour": t.hour,
        "weekday": t.dayofweek,
        "night": t.hour < 6,
    }
    for name, span in (("1h", HOUR), ("24h", DAY), ("7d", 7 * DAY)):
        out[f"customer_count_{name}"] = len(within(mine, span))
        out[f"customer_sum_{name}"] = within(mine, span)["amount"].sum()
    for name, span in (("7d", 7 * DAY), ("30d", 30 * DAY)):
        part = within(mine, span)["amount"]
        out[f"customer_mean_{name}"] = part.mean() if len(part) else 0
    since = min(t - mine["received"].iloc[-1], 30 * DAY) if len(mine) else 30 * DAY
    out["log_seconds_since_last"] = math.log1p(since.total_seconds())
    out["customer_small_24h"] = (within(mine, DAY)["amount"] < 5).sum()
    card = earlier[earlier["card"] == now["card"]]
    out["card_age"] = (t - card["received"].iloc[0]) / DAY if len(card) else 0
    customer = case.customers.set_index("customer").loc[now["customer"]]
    out["tenure"] = max((t - customer["joined"]) / DAY, 0)
    out["terminal_new"] = now["terminal"] not in set(mine["terminal"])
    site = case.terminals.set_index("terminal")
    last = mine[mine["channel"] == "in person"].iloc[-1:]
    here = site.loc[now["terminal"], ["x", "y"]].to_numpy(float)
    known = not online and len(last)
    place = site.loc[last["terminal"].iloc[0], ["x", "y"]].to_numpy(float) if known else here
    km = np.linalg.norm(here - place) if known else 0
    home = customer[["home_x", "home_y"]].to_numpy(float)
    hours = (t - last["received"].iloc[0]) / HOUR if known else 1
    out |= {
        "country_changed": bool(known) and last["country"].iloc[0] != now["country"],
        "km_from_last": km,
        "km_from_home": 0 if online else np.linalg.norm(here - home),
        "speed": km / max(hours, 0.1),
        "device_missing": (online or now["entry"] == "wallet") and pd.isna(now["device"]),
        "device_new": pd.notna(now["device"]) and not len(used),
        "device_age": (t - used["received"].iloc[0]) / DAY if len(used) else 0,
        "device_count_24h": len(within(device, DAY)),
        "terminal_frauds": (frauds["terminal"] == now["terminal"]).sum(),
        "device_frauds": (frauds["device"] == now["device"]).sum(),
        "customer_frauds": (frauds["customer"] == now["customer"]).sum(),
    }
    for name, frame, span in (
        ("device_customers_24h", device, DAY),
        ("device_customers_7d", device, 7 * DAY),
        ("ip_customers_24h", address, DAY),
    ):
        out[name] = len(set(within(frame, span)["customer"]) - {now["customer"]})
    for days in (1, 7, 30):
        out[f"terminal_count_{days}d"] = len(within(there, days * DAY))
        part = within(there, days * DAY, 7)["transaction"]
        out[f"terminal_risk_{days}d"] = part.isin(frauds["transaction"]).mean() if len(part) else 0
    for name, frame in (("customer", mine), ("device", device)):
        recent = within(frame, DAY)
        out[f"{name}_refused_24h"] = recent["outcome"].isin(store.REFUSED).sum()
    return out


def test_the_definitions_by_plain_filters(case):
    frame, rng = case.batch, np.random.default_rng(1)
    # Rows of which many features are not zero, and some at random.
    rare = ["terminal_risk_1d", "device_frauds", "customer_frauds", "device_customers_24h"]
    rare += [
        "refund",
        "device_missing",
        "country_changed",
        "customer_small_24h",
        "device_refused_24h",
    ]
    rows = [rng.choice(np.flatnonzero(frame[name] > 0), 6) for name in rare if frame[name].any()]
    retries = np.flatnonzero(case.transactions["request"].duplicated())
    rows = np.concatenate([*rows, retries[-6:], rng.choice(len(frame), 25)])
    wanted = pd.DataFrame([by_hand(case, i) for i in rows], index=frame.index[rows])
    assert set(wanted) == set(store.FEATURES)
    wanted = wanted[list(store.FEATURES)].astype(float)
    got = frame.iloc[rows].astype(float)
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-6)


def test_features_are_named_in_words():
    assert len(store.FEATURES) == 45
    for name, words in store.FEATURES.items():
        assert name == name.lower() and len(words) > 15 and "_" not in words, name
    assert len(set(store.FEATURES.values())) == len(store.FEATURES)


# The store ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halfway(refused):
    """Return a store after 9,000 events one by one, and the same loaded in bulk."""
    part, terminals, customers, known = small(refused, 9000)
    one = store.OnlineStore(terminals, customers)
    for event in part.to_dict("records"):
        one.observe(event, event["outcome"])
    for number, when in known.itertuples(index=False):
        one.learn(number, when)
    bulk = store.OnlineStore(terminals, customers)
    bulk.warm(part, known)
    return one, bulk


def ahead(kept, refused, n=400):
    """Return the features of the next events, which are observed."""
    rows = []
    for event in refused.transactions.iloc[9000 : 9000 + n].to_dict("records"):
        rows.append(kept.features(event))
        kept.observe(event, event["outcome"])
    return pd.DataFrame(rows, dtype=np.float32)


def test_loading_in_bulk_gives_the_state_of_event_by_event(halfway, refused):
    one, bulk = (kept.fork() for kept in halfway)
    assert one.now == bulk.now == refused.transactions["received"].iloc[8999]
    frame = ahead(one, refused)
    assert frame.equals(ahead(bulk, refused)) and (frame["terminal_frauds"] > 0).any()


def test_loading_day_by_day_is_loading_at_once(halfway, refused):
    part, terminals, customers, known = small(refused, 9000)
    days = store.OnlineStore(terminals, customers.iloc[:0])
    days.enrol(customers)
    for piece in (part.iloc[:10], part.iloc[10:10], part.iloc[10:4000], part.iloc[4000:]):
        days.warm(piece, known[known["transaction"].isin(piece["transaction"])])
    assert ahead(days, refused).equals(ahead(halfway[1].fork(), refused))
    with pytest.raises(ValueError, match="was observed before"):
        days.warm(part.iloc[-1:], known.iloc[:0])


def test_a_fork_and_its_origin_do_not_see_each_other(halfway, refused):
    origin = halfway[0].fork()
    before = ahead(origin.fork(), refused, 200)
    twin = origin.fork()
    ahead(twin, refused, 200)
    again = origin.fork()
    assert ahead(again, refused, 200).equals(before)
    ahead(origin, refused, 200)
    third = twin.fork()
    last = refused.transactions.iloc[9200:9300].to_dict("records")
    assert [twin.features(e) for e in last] == [origin.features(e) for e in last]
    rows = refused.transactions.iloc[7000:8000]
    rows = rows[(rows["amount"] > 0) & ~rows["request"].duplicated()]
    event = rows[~rows["transaction"].isin(refused.evidence["transaction"])].iloc[-1].to_dict()
    number = event["transaction"]
    event["received"] = twin.now
    known = third.features(event)["customer_frauds"]
    twin.learn(number, twin.now)
    assert twin.features(event)["customer_frauds"] == known + 1
    assert third.features(event)["customer_frauds"] == known
    assert origin.features(event)["customer_frauds"] == known


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self._token, twin._token = object(), object()", "pass"),
        ('("_cards", "_requests", "_purchases", "_refused", "_frauds", "_pending")', "()"),
    ],
)
def test_a_fork_that_shares_is_found(refused, old, new):
    copy = planted(online, old, new)
    part, terminals, customers, known = small(refused, 9000)
    origin = copy.OnlineStore(terminals, customers)
    origin.warm(part, known)
    twin = origin.fork()
    before = ahead(origin, refused, 100)
    with pytest.raises((AssertionError, ValueError)):
        assert ahead(twin, refused, 100).equals(before)


def event_of(case, i=0, **changes):
    return case.transactions.iloc[i].to_dict() | changes


def fresh(case):
    return store.OnlineStore(case.terminals, case.customers)


def test_a_late_event_counts_in_order_of_arrival(allowed):
    kept, first = fresh(allowed), event_of(allowed)
    noon = first["received"].floor("D") + 12 * HOUR
    kept.observe(first | {"received": noon})
    late = first | {"transaction": 1, "request": 1, "received": noon - 3 * HOUR}
    seen = kept.features(late)
    assert seen["customer_count_1h"] == 1 and seen["hour"] == 12
    kept.observe(late)
    assert kept.now == noon
    # The terminal's clock matters nowhere.
    third = first | {"transaction": 2, "request": 2, "received": noon + 2 * HOUR}
    assert kept.features(third)["customer_count_24h"] == 2
    assert kept.features(third) == kept.features(third | {"time": noon - 900 * HOUR})


def frauds_seen(module, case):
    """Return the customer's known frauds as evidence comes in, before, at and after its time."""
    kept, event = module.OnlineStore(case.terminals, case.customers), event_of(case)
    number, t, edge = event["transaction"], event["received"], pd.Timedelta(milliseconds=1)
    kept.observe(event)

    def frauds(*after):
        later = event | {"transaction": 9, "request": 9}
        times = [t + span for span in after]
        return [kept.fork().features(later | {"received": s})["customer_frauds"] for s in times]

    kept.learn(number, t + 2 * HOUR)
    kept.learn(number, t + 3 * HOUR)
    seen = frauds(2 * HOUR - edge, 2 * HOUR, DAY)
    kept.learn(number, t + HOUR)
    seen += frauds(HOUR - edge, HOUR, DAY)
    kept.observe(event | {"transaction": 1, "received": t + 5 * DAY})  # a retry
    kept.learn(1, t)
    kept.learn(number, t)
    return seen + frauds(6 * DAY)


def test_evidence_waits_until_it_is_known_and_counts_once(allowed):
    assert frauds_seen(store, allowed) == [0, 1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if self._clock is not None and known <= self._clock:", "if True:"),
        ("self._pending[0][0] <= now", "self._pending[0][0] < now"),
        ("self._catch_up(now)\n        raw:", "raw:"),
        ("if transaction in done or not counts:", "if not counts:"),
    ],
)
def test_evidence_at_the_wrong_time_is_found(allowed, old, new):
    assert frauds_seen(planted(online, old, new), allowed) != [0, 1, 1, 0, 1, 1, 1]


def test_an_outcome_may_come_later(allowed):
    online = np.flatnonzero(allowed.transactions["device"].notna())[0]
    event = event_of(allowed, online)
    told, late = fresh(allowed), fresh(allowed)
    told.observe(event, "abandoned")
    late.observe(event)
    later = event | {"transaction": -2, "request": -2, "received": event["received"] + HOUR}
    assert late.features(later)["customer_refused_24h"] == 0
    for _ in range(2):
        late.settle(event["transaction"], "abandoned")
        told.settle(event["transaction"], "abandoned")
    assert told.features(later) == late.features(later)
    assert late.features(later)["device_refused_24h"] == 1
    late.settle(event["transaction"], "confirmed")
    with pytest.raises(ValueError, match="is no outcome"):
        late.settle(event["transaction"], "fine")


def test_an_event_may_come_from_a_message(allowed):
    i = np.flatnonzero(allowed.transactions["device"].notna())[3]
    row = event_of(allowed, i)
    message = {name: row[name] for name in store.ASKED}
    message |= {
        "received": row["received"].isoformat(),
        "ip": None,
        "customer": float(row["customer"]),
    }
    kept = fresh(allowed)
    assert kept.features(message) == kept.features(row | {"ip": pd.NA})
    assert list(kept.features(message)) == list(store.FEATURES)


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amount": math.nan}, "has to be finite"),
        ({"amount": "a lot"}, "is no number"),
        ({"customer": 10**6}, "customer 1000000 is unknown"),
        ({"customer": 1.5}, "1.5 is no whole number"),
        ({"card": "abc"}, "is no number"),
        ({"device": {}}, "is no number"),
        ({"channel": "by post"}, "'by post' is no channel"),
        ({"country": ["home"]}, "is no country"),
        ({"received": "yesterday evening"}, "is no moment"),
        ({"received": None}, "received is missing"),
    ],
)
def test_a_bad_event_is_named(allowed, change, message):
    kept, event = fresh(allowed), event_of(allowed, 1)
    for act in (kept.features, kept.observe):
        with pytest.raises(ValueError, match=message):
            act(event | change)
    assert kept.now is None


def test_what_a_store_refuses(allowed):
    kept, event = fresh(allowed), event_of(allowed)
    with pytest.raises(ValueError, match=r"lacks \['device'\]"):
        kept.features({k: v for k, v in event.items() if k != "device"})
    kept.observe(event)
    with pytest.raises(ValueError, match="counts once"):
        kept.observe(event)
    with pytest.raises(ValueError, match="'stopped' is no outcome"):
        kept.observe(event | {"transaction": 5}, "stopped")
    for act in (kept.learn, kept.settle):
        with pytest.raises(ValueError, match="transaction 77 was never observed"):
            act(77, event["received"] if act == kept.learn else "denied")
    with pytest.raises(ValueError, match="known is missing"):
        kept.learn(event["transaction"], pd.NaT)
    with pytest.raises(ValueError, match="look ahead"):
        store.OnlineStore(allowed.terminals, allowed.customers, delay=-1)
    with pytest.raises(ValueError, match="customers are unknown"):
        store.OnlineStore(allowed.terminals, allowed.customers.iloc[:1]).warm(*small(allowed)[::3])


def test_a_bad_table_is_named(allowed):
    part, terminals, customers, known = small(allowed, 300)

    def message(rows=part, sites=terminals, people=customers, told=known, **more):
        for act in (store.batch, store.replay):
            with pytest.raises(ValueError) as caught:
                act(rows, sites, people, told, **more)
        with pytest.raises(ValueError) as caught:
            store.batch(rows, sites, people, told, **more)
        return str(caught.value)

    assert "no column ['device']" in message(part.drop(columns="device"))
    assert "no column ['x']" in message(sites=terminals.drop(columns="x"))
    assert "no column ['joined']" in message(people=customers.drop(columns="joined"))
    assert "no column ['known']" in message(told=known[["transaction"]])
    assert "row 1 arrived before" in message(part.iloc[::-1])
    assert "sorted by received" in message(part.sort_values("time"))
    assert "stands there twice" in message(part.assign(transaction=7, received=part["received"]))
    assert "customers have no master data" in message(people=customers.iloc[:5])
    assert "two master records" in message(people=pd.concat([customers, customers.iloc[:1]]))
    assert "look ahead" in message(delay=-0.5)
    assert "has no finite amount" in message(part.assign(amount=np.inf))
    assert "'moon' is no country" in message(part.assign(country="moon"))
    assert "has no time" in message(part.assign(received=pd.NaT))
    other = pd.DataFrame({"transaction": [10**8], "known": [part["received"].iloc[0]]})
    assert "give the whole history" in message(told=other)
    early = other.assign(transaction=part["transaction"].iloc[9])
    assert "known as fraud before it arrived" in message(told=early)


# Evidence, the leak, the Handbook ----------------------------------------------------------------


def test_evidence_is_what_the_bank_was_told(refused):
    rows, told = refused.world.transactions, refused.world.labels
    known = store.evidence(rows, told)
    assert known["known"].is_monotonic_increasing and known["transaction"].is_unique
    by_number = known.set_index("transaction")["known"]
    denied = rows[rows["outcome"] == "denied"].set_index("transaction")["received"]
    charged = told[told["chargeback"]].set_index("transaction")["known"]
    assert set(by_number.index) == set(denied.index) | set(charged.index)
    assert (by_number[denied.index] == denied).all() and (by_number[charged.index] == charged).all()
    assert store.evidence(rows.iloc[:0], told).empty
    none = store.evidence(rows.iloc[:50], told.iloc[:0])
    assert set(none["transaction"]) == set(
        rows.iloc[:50].loc[rows["outcome"] == "denied", "transaction"]
    )
    with pytest.raises(ValueError, match="labels: no column"):
        store.evidence(rows, told.drop(columns="known"))


def synthetic(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, 60 * 24, n)) * 3600  # whole hours: edges and ties
    return pd.DataFrame(
        {
            "transaction": np.arange(n) + 17,
            "time": pd.Timestamp("2018-06-10") + pd.to_timedelta(seconds, unit="s"),
            "customer": rng.integers(0, 12, n),
            "terminal": rng.integers(0, 15, n),
            "amount": np.round(rng.lognormal(3.5, 0.8, n), 2),
            "is_fraud": rng.random(n) < 0.1,
        }
    )


def handbook_by_pandas(frame, delay=7, keys=("customer", "terminal")):
    """Return the Handbook's features in its own way: rolling sums and their differences."""
    out = pd.DataFrame({"amount": frame["amount"]})
    out["weekend"] = frame["time"].dt.weekday >= 5
    out["night"] = frame["time"].dt.hour <= 6
    for _, part in frame.groupby("customer") if "customer" in keys else ():
        amounts = part.set_index("time")["amount"]
        for days in (1, 7, 30):
            window = amounts.rolling(f"{days}d")
            out.loc[part.index, f"customer_count_{days}d"] = window.count().to_numpy()
            out.loc[part.index, f"customer_mean_{days}d"] = window.mean().to_numpy()
    for _, part in frame.groupby("terminal") if "terminal" in keys else ():
        fraud = part.set_index("time")["is_fraud"].astype(float)
        recent = fraud.rolling(f"{delay}d")
        for days in (1, 7, 30):
            longer = fraud.rolling(f"{delay + days}d")
            count = longer.count() - recent.count()
            risk = ((longer.sum() - recent.sum()) / count).fillna(0)
            out.loc[part.index, f"terminal_count_{days}d"] = count.to_numpy()
            out.loc[part.index, f"terminal_risk_{days}d"] = risk.to_numpy()
    return out.astype(float)


@pytest.mark.parametrize("delay", [7, 3])
def test_the_handbooks_features_are_those_of_the_handbook(delay):
    frame = synthetic()
    got, wanted = store.handbook(frame, delay), handbook_by_pandas(frame, delay)
    assert got.shape == (len(frame), 15) and set(got) == set(wanted)
    assert got.index.equals(pd.Index(frame["transaction"], name="transaction"))
    np.testing.assert_allclose(got, wanted[list(got)], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("key", ["customer", "terminal"])
def test_the_same_on_its_public_data(key):
    path = Path(os.environ.get("CASEBOOK_DATA_DIR") or "nowhere") / HANDBOOK
    if not path.exists():
        pytest.skip("the Fraud Handbook's data are not here")
    frame = pd.read_parquet(path).rename(columns=HANDBOOK_COLUMNS)
    frame = frame[frame[key] % 100 == 7].reset_index(drop=True)
    wanted = handbook_by_pandas(frame, keys=[key])
    assert len(frame) > 5000 and frame["is_fraud"].sum() > 20
    got = store.handbook(frame)[list(wanted)]
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-6)


def test_a_fault_in_the_handbooks_features_is_found():
    frame = synthetic()
    wanted = handbook_by_pandas(frame)
    for old, new in (
        (
            "count = trailing(terminal, ms, ones, windows, delay)",
            "count = trailing(terminal, ms, ones, windows)",
        ),
        (
            "frauds = trailing(terminal, ms, fraud, windows, delay)",
            "frauds = trailing(terminal, ms, fraud, windows, 6)",
        ),
        (
            "trailing(customer, ms, cents, windows, include_current=True)",
            "trailing(customer, ms, cents, windows)",
        ),
    ):
        got = planted(definition, old, new).handbook(frame)
        assert not np.allclose(got, wanted[list(got)], rtol=2e-6, atol=1e-6)


def test_what_the_handbooks_features_refuse():
    frame = synthetic(50)
    with pytest.raises(ValueError, match=r"\['is_fraud'\].*HANDBOOK_COLUMNS"):
        store.handbook(frame.drop(columns="is_fraud"))
    with pytest.raises(ValueError, match="time falls at row 1"):
        store.handbook(frame.iloc[::-1])
    for delay in (-1, 0):
        with pytest.raises(ValueError, match="needs a positive one"):
            store.handbook(frame, delay)


# Speed -------------------------------------------------------------------------------------------


def test_the_store_is_quick(allowed, halfway, refused):
    start = time.process_time()
    store.batch(*allowed.tables)
    per_million = (time.process_time() - start) / len(allowed.transactions) * 1e6
    assert per_million < 30  # 4 s on a quiet machine
    kept = halfway[1].fork()
    events = refused.transactions.iloc[9000:9500].to_dict("records")
    start = time.process_time()
    for event in events:
        kept.features(event)
        kept.observe(event)
    assert (time.process_time() - start) / len(events) < 1e-3  # 50 µs on a quiet machine
