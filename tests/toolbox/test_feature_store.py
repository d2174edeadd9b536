"""The feature store: both sides give the same, no leak, nothing twice, and alarms in time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import fakeredis
import numpy as np
import pandas as pd
import pytest

from casebook.features.definition import ticks
from casebook.features.hashes import InFile
from casebook.features.point_in_time import seen_later
from casebook.features.store import (
    BATCH,
    DAY,
    HOUR,
    MINUTE,
    Feature,
    Offline,
    Online,
    Taken,
    skew,
)

START, SECOND = pd.Timestamp("2025-01-01"), pd.Timedelta(seconds=1)
VIEW, BUY = {"kind": ("view",)}, {"kind": ("buy",)}
FEATURES = (
    Feature("views_1h", ("item",), "count", HOUR, where=VIEW),
    Feature("views_10m", ("user", "item"), "count", 10 * MINUTE, where=VIEW, step=7.0),
    Feature("paid_1d", ("user",), "sum", DAY, "price", where=BUY),
    Feature("mean_price", ("user",), "mean", 6 * HOUR, "price", step=HOUR),
    Feature("last_price", ("item",), "last", np.inf, "price"),
    Feature("recent", ("user",), "recent", 30 * MINUTE, "item", where=VIEW, n=3),
    Feature("today", ("user",), "recent", DAY, "item", step=DAY, n=4),
    Feature("buys_7d", ("item",), "count", 7 * DAY, where=BUY, tier=BATCH, step=HOUR),
    Feature("night_recent", ("user",), "recent", np.inf, "item", tier=BATCH, n=5),
    Feature("night_mean", ("item",), "mean", 3 * DAY, "price", tier=BATCH),
)


def events_of(seed: int, n: int = 300, hours: float = 60.0) -> pd.DataFrame:
    """Return random events: late ones, very late ones, ties, duplicates, missing prices."""
    rng = np.random.default_rng(seed)
    at = START + pd.to_timedelta(rng.integers(0, int(hours * 3600), n), unit="s")
    late = rng.choice([0, 1, 90, 1_800, 40_000, 100_000], n, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
    frame = pd.DataFrame({"event": rng.permutation(n), "at": at})
    frame["known_at"] = at + pd.to_timedelta(late, unit="s")
    frame["user"], frame["item"] = rng.integers(0, 6, n), rng.integers(0, 8, n)
    frame["kind"] = rng.choice(["view", "view", "buy", "cart"], n)
    frame["price"] = np.where(rng.random(n) < 0.05, np.nan, rng.gamma(2.0, 7.0, n).round(2))
    again = frame.sample(n // 10, random_state=seed)
    again["known_at"] += pd.to_timedelta(rng.integers(0, 9_000, len(again)), unit="s")
    return pd.concat([frame, again], ignore_index=True).sort_values("known_at", kind="stable")


def asked_of(events: pd.DataFrame, seed: int, n: int = 24) -> pd.DataFrame:
    """Return random rows; a third of them at the very moment at which an event becomes known."""
    rng = np.random.default_rng(seed + 1_000)
    moments = START + pd.to_timedelta(rng.integers(3_600, 70 * 3_600, n), unit="s")
    known = events["known_at"].sample(n // 3, random_state=seed).to_numpy()
    moments = np.r_[moments.to_numpy()[: n - len(known)], known]
    rows = {"user": rng.integers(0, 7, n), "item": rng.integers(0, 9, n), "asked": moments}
    return pd.DataFrame(rows).astype({"asked": "datetime64[us]"}).sort_values("asked")


def by_hand(f: Feature, events: list[dict], row, moment: float):
    """Return a feature by its definition, one event after the other; times are seconds."""
    if f.tier.every:
        moment = (moment - f.tier.ready) // f.tier.every * f.tier.every
    found, seen = [], set()
    for came, e in enumerate(events):
        if e["event"] in seen:
            continue
        seen.add(e["event"])
        mine = all(e[k] == getattr(row, k) for k in f.keys)
        mine = mine and all(e[c] in v for c, v in f.where.items())
        mine = mine and not (f.value and e[f.value] != e[f.value])
        step = f.step or (60.0 if f.how in ("count", "sum", "mean") else 1e-6)
        begin = e["at"] // step * step
        if mine and e["known_at"] < moment < begin + f.window:
            found.append((e["at"], came, e[f.value] if f.value else 1))
    values = [value for *_, value in sorted(found, reverse=True)]
    if f.how == "recent":
        return tuple(values[: f.n])
    if f.how == "last":
        return values[0] if values else np.nan
    if f.how == "mean":
        return sum(values) / len(values) if values else np.nan
    return float(sum(values))


def same(a, b) -> bool:
    return a == b if isinstance(a, tuple) else bool(np.isclose(a, b, rtol=1e-12, equal_nan=True))


@pytest.mark.parametrize("seed", range(4))
def test_offline_is_the_definition(seed):
    events = events_of(seed)
    rows = asked_of(events, seed)
    table = Offline(FEATURES, events).at(rows, "asked")
    times = {name: ticks(events[name]) / 1e6 for name in ("at", "known_at")}
    plain = events.assign(**times).to_dict("records")
    moments = ticks(rows["asked"]) / 1e6
    for place, row in enumerate(rows.itertuples()):
        for f in FEATURES:
            got, expected = table[f.name].iloc[place], by_hand(f, plain, row, moments[place])
            assert same(got, expected), (f.name, row, got, expected)


def online_of(where, kind: str) -> Online:
    made = Online(FEATURES, where)
    if kind == "redis":
        made.cells._redis = fakeredis.FakeStrictRedis(decode_responses=True)
    return made


def run(online: Online, events: pd.DataFrame, rows: pd.DataFrame, crash: int = 0):
    """Feed a store as time goes by, nights included; return what it served to each row."""
    offline, served, night, at = Offline(FEATURES, events), [], START, START
    for place, moment in enumerate(rows["asked"]):
        while night + pd.Timedelta(days=1, seconds=BATCH.ready) <= moment:
            night += pd.Timedelta(days=1)
            online.publish(offline.night(BATCH, night), night, night + pd.Timedelta(hours=1))
        some = events[(events["known_at"] >= at) & (events["known_at"] < moment)]
        online.ingest(some, moment)
        if crash and place % crash == 0:  # the sender was not told, and sends again
            assert online.ingest(some, moment).new == 0
        served.append(online.read(rows.iloc[[place]], moment))
        at = moment
    return {f.name: np.concatenate([one[f.name] for one in served]) for f in FEATURES}


@pytest.mark.parametrize(("seed", "kind"), [(0, "file"), (1, "file"), (0, "redis")])
def test_the_store_serves_at_each_moment_what_the_training_table_has(seed, kind, tmp_path):
    events = events_of(seed)
    rows = asked_of(events, seed)
    where = "redis://127.0.0.1:1/0" if kind == "redis" else tmp_path / "features.db"
    online = online_of(where, kind)
    served = run(online, events, rows, crash=3)
    assert skew(served, Offline(FEATURES, events).at(rows, "asked")) == {}
    assert any(len(top) for top in served["recent"]) and np.nansum(served["buys_7d"]) > 0
    online.close()


@pytest.mark.skipif("CASEBOOK_REDIS_URL" not in os.environ, reason="no Redis server is named")
def test_a_redis_server_serves_the_same():
    events = events_of(5)
    rows, online = asked_of(events, 5), Online(FEATURES, os.environ["CASEBOOK_REDIS_URL"])
    for name in online.cells._redis.scan_iter("features:*"):
        online.cells._redis.delete(name)
    assert skew(run(online, events, rows), Offline(FEATURES, events).at(rows, "asked")) == {}
    online.close()


def test_a_leak_is_found_and_the_store_has_none():
    events = events_of(3, 600)
    rows = asked_of(events, 3, 90).rename(columns={"asked": "known"})

    names = ("views_1h", "paid_1d", "recent", "buys_7d")
    features = [f for f in FEATURES if f.name in names]

    def made(received):
        def make(feed, some):
            table = Offline(features, feed, received).at(some, "known")
            recent = [c for c in table if table[c].dtype == object]
            return table.assign(**{c: [hash(top) % 2**40 for top in table[c]] for c in recent})

        return make

    found = {"received": "known_at", "asked": "known", "hours": 12.0, "cuts": 5}
    assert seen_later(made("known_at"), events, rows, **found) == {}
    assert {*seen_later(made("at"), events, rows, **found)} == {*names}


def test_a_night_that_reads_the_day_itself_is_a_skew():
    """The planted mistake: a training table that takes tonight's batch for rows of today."""
    events = events_of(4, 600)
    rows = asked_of(events, 4, 30)
    online = Online(FEATURES)
    served = run(online, events, rows)
    early = [f for f in FEATURES if not f.tier.every]
    early += [
        Feature(f.name, f.keys, f.how, f.window, f.value, f.where, step=f.step, n=f.n)
        for f in FEATURES
        if f.tier.every
    ]
    wrong = skew(served, Offline(early, events).at(rows, "asked"))
    assert {*wrong} == {"buys_7d", "night_recent", "night_mean"}
    online.close()


def test_two_orders_of_the_same_events_give_the_same_bits(tmp_path):
    # Of two newest ones of one time the later one counts: there the order is part of the data.
    events = events_of(6, 500).drop_duplicates("event").drop_duplicates("at")
    end = events["known_at"].max() + pd.Timedelta(seconds=1)
    rows, values = asked_of(events, 6), []
    for seed in (0, 1):
        online = Online(FEATURES, tmp_path / f"{seed}.db")
        mixed = events.sample(frac=1.0, random_state=seed)
        for k in range(7):
            known = end + pd.Timedelta(seconds=k)
            taken = online.ingest(mixed[k::7].assign(known_at=known), known + SECOND)
            assert taken.new == len(mixed[k::7])
        values.append(online.read(rows, end + pd.Timedelta(minutes=1)))
        online.close()
    for name, first in values[0].items():
        assert [repr(x) for x in first] == [repr(x) for x in values[1][name]]


def test_events_that_cannot_be_are_refused_with_the_reason_and_the_others_are_taken():
    online, now = Online(FEATURES), START + pd.Timedelta(hours=5)
    events = events_of(7).drop_duplicates("event")
    events = events[events["known_at"] < now].iloc[:4].copy()
    events.iloc[0, events.columns.get_loc("at")] = now
    events.iloc[1, events.columns.get_loc("known_at")] = now
    taken = online.ingest(events, now)
    assert taken.new == 2
    told = " ".join(taken.refused)
    assert "before it happened" in told and "not before" in told
    assert online.ingest(events.iloc[2:], now) == Taken(0, 2, ())
    old = events.iloc[2:].assign(event=[991, 992], at=now - pd.Timedelta("1min"))
    old["known_at"] = now - pd.Timedelta("1s")
    assert "stamp it anew" in online.ingest(old, now).refused[0]
    none = old.assign(event=[993, 994], at=pd.NaT)
    assert "has no time" in online.ingest(none, now).refused[1]
    with pytest.raises(ValueError, match="is before it"):
        online.ingest(events, START)
    with pytest.raises(ValueError, match="no column price: add it"):
        online.ingest(events.drop(columns="price"), now)
    with pytest.raises(ValueError, match="ask Offline"):
        online.read({"user": [1], "item": [1]}, START)
    assert online.ingest(events.iloc[:0], now) == Taken(0, 0, ())
    online.close()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"how": "median"}, "one of"),
        ({"how": "sum"}, "has no value"),
        ({"window": np.inf}, "finite"),
        ({"window": 30.0}, "at least a step"),
        ({"name": "a b"}, "identifiers"),
        ({"keys": ()}, "key"),
        ({"how": "recent", "value": "item", "n": 0}, "positive"),
        ({"how": "recent", "value": "item", "window": 0.0}, "at least a step"),
    ],
)
def test_a_definition_that_cannot_be_says_what_is_wrong(wrong, says):
    with pytest.raises(ValueError, match=says):
        Feature(**{"name": "x", "keys": ("item",), "how": "count", "window": HOUR} | wrong)
    with pytest.raises(ValueError, match="defined twice"):
        Online([FEATURES[0], FEATURES[0]])


def test_freshness_alarms_on_the_promised_second():
    online, events = Online(FEATURES), events_of(8)
    assert [*online.freshness(START)["state"]] == ["alarm", "alarm"]
    night = START + pd.Timedelta(days=1)
    online.publish(Offline(FEATURES, events).night(BATCH, night), night, night)
    online.ingest(events.iloc[:0], night)

    def states(**after):
        return tuple(online.freshness(night + pd.Timedelta(**after))["state"])

    assert states(seconds=5) == ("fresh", "fresh")
    assert states(seconds=6) == ("stale", "fresh")
    assert states(seconds=60) == ("stale", "fresh")
    assert states(seconds=61)[0] == "alarm"
    online.ingest(events.iloc[:0], night + pd.Timedelta(seconds=61))  # a quiet minute is fresh
    assert states(seconds=61) == ("fresh", "fresh")
    assert states(hours=24)[1] == "fresh" and states(hours=25)[1] == "stale"
    assert states(hours=26)[1] == "stale" and states(hours=26, seconds=1)[1] == "alarm"
    late = online.freshness(night + pd.Timedelta(hours=25)).loc["batch"]
    assert late["age"] == late["behind"] == 25 * HOUR
    online.close()


def test_a_failed_night_leaves_the_values_of_the_night_before_and_a_bad_one_is_refused():
    online, offline = Online(FEATURES), Offline(FEATURES, events_of(9))
    nights = [START + pd.Timedelta(days=k) for k in (1, 2)]
    online.publish(offline.night(BATCH, nights[0]), nights[0], nights[0])
    rows = {"user": [*range(6)], "item": [*range(6)]}
    before = online.read(rows, nights[1])
    good = offline.night(BATCH, nights[1])
    with pytest.raises(ValueError, match="make it again"):
        online.publish({"buys_7d": good["buys_7d"]}, nights[1], nights[1])
    broken = good | {"buys_7d": good["buys_7d"].assign(total="x").drop(columns="n")}
    with pytest.raises(KeyError):
        online.publish(broken, nights[1], nights[1])
    after = online.read(rows, nights[1])
    assert all(np.array_equal(before[n], after[n], equal_nan=True) for n in ("buys_7d",))
    online.publish(good, nights[1], nights[1])
    assert (online.read(rows, nights[1])["buys_7d"] != before["buys_7d"]).any()
    with pytest.raises(ValueError, match="no later"):
        online.publish(good, nights[1], nights[1])
    online.close()


def test_what_is_over_leaves_the_store(tmp_path):
    online = Online(FEATURES[:3], tmp_path / "x.db")
    events = events_of(10, 400).drop_duplicates("event")
    sizes = []
    for hour in range(0, 120, 2):
        moment = START + pd.Timedelta(hours=hour)
        between = events["known_at"].between(moment - pd.Timedelta(hours=2), moment, "left")
        online.ingest(events[between], moment)
        sizes.append(online.cells._db.execute("SELECT count(*) FROM cells").fetchone()[0])
    assert max(sizes) > 150 and sizes[-1] < max(sizes) / 2
    assert len(online.cells.get([("seen", None)])[0]) == 0
    online.close()


def test_a_killed_writer_leaves_a_batch_whole_or_not_at_all(tmp_path):
    """A process that is killed between two statements of a transaction has written nothing."""
    path = tmp_path / "x.db"
    code = f"""
import os, sqlite3
from casebook.features.hashes import InFile
cells = InFile({str(path)!r})
cells.put([("a", "1", "old"), ("b", "1", "old")])
class Dies(list):
    def __iter__(self):
        yield from super().__iter__()
        os.kill(os.getpid(), 9)
cells._db.execute("BEGIN IMMEDIATE")
cells._db.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?)", Dies([("a", "1", "new")]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -9
    online = Online(FEATURES, path)
    assert online.cells.get([("a", None), ("b", None)]) == [{"1": "old"}, {"1": "old"}]
    online.close()


def test_absurd_values_and_mixed_ids_do_no_harm_and_both_sides_agree():
    events = events_of(11, 60).drop_duplicates("event").astype({"event": object})
    events["price"] = [np.inf, 1e300, -np.inf, *events["price"].iloc[3:]]
    events["at"] = START  # all tie
    events.iloc[::2, events.columns.get_loc("event")] = [f"e{i}" for i in range(30)]
    end = events["known_at"].max() + SECOND
    rows, online = asked_of(events, 11).assign(asked=end), Online(FEATURES[4:7])
    assert online.ingest(events, end).new == 60
    assert skew(online.read(rows, end), Offline(FEATURES[4:7], events).at(rows, "asked")) == {}
    paid = Offline(FEATURES[2:4], events).at(rows, "asked")
    assert np.isfinite(paid.fillna(0).to_numpy()).all() and paid.max().max() < 1e5
    online.close()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("ids", [(9, 10), ("9", "10"), (10, 9), ("b", "a"), ("z", 1)])
def test_of_two_events_of_one_time_the_one_that_came_last_is_the_newest(ids, together):
    """Before, the greater text of the ids was: 9 is greater than 10, and what is sold out there."""
    at, known = START + SECOND, [START + 2 * SECOND, START + (2 if together else 3) * SECOND]
    events = pd.DataFrame({"event": pd.Series(ids, dtype=object), "at": at, "known_at": known})
    events = events.assign(user=1, item=[3, 4], kind="view", price=[1.0, 0.0])
    rows = pd.DataFrame({"user": [1], "item": [3], "asked": [START + 9 * SECOND]})
    tied = (Feature("price", ("user",), "last", np.inf, "price"), FEATURES[5])
    online = Online(tied)
    for some in [events] if together else [events[:1], events[1:]]:
        online.ingest(some, some["known_at"].max() + SECOND / 2)
    offline = Offline(tied, events).at(rows, "asked")
    for got in (online.read(rows, rows["asked"][0]), offline):
        assert (got["price"][0], got["recent"][0]) == (0.0, (4, 3))
    online.close()


def test_some_features_are_read_as_all_are_and_an_unknown_name_is_an_error():
    events = events_of(5).reset_index(drop=True)
    online = Online(FEATURES)
    end = events["known_at"].max() + SECOND
    online.ingest(events, end)
    rows = events[["user", "item"]].head(20)
    every = online.read(rows, end)
    for name, values in every.items():
        [(one, own)] = online.read(rows, end, (name,)).items()
        assert one == name and all(map(same, own, values))
    with pytest.raises(ValueError, match=r"\['last_price'\]: no features of \['user'\]"):
        online.read({"user": [1]}, end, ("today", "last_price"))


def test_what_a_clock_of_tomorrow_has_stamped_gives_way_to_the_next_event():
    """Before, an item that was in stock tomorrow stayed so for a day, whatever was reported."""
    day, online = pd.Timedelta(days=1), Online(FEATURES[4:6])
    row = {"item": [3], "user": [1]}
    one = pd.DataFrame({"event": [1], "at": START + day, "known_at": START + day, "item": 3})
    one = one.assign(user=1, kind="view", price=1.0)
    online.ingest(one, START + day + SECOND)
    assert online.set_back(START) == day.total_seconds() + 1
    assert online.read(row, START)["last_price"][0] == 1.0  # until something else is known
    for event, after in ((2, 0), (3, 5), (4, 3)):
        known = START + (event + 8) * SECOND
        late = {"event": event, "at": START + after * SECOND, "known_at": known}
        online.ingest(one.assign(**late, price=10.0 * event), known + SECOND)
    for now in (START + 60 * SECOND, START + 2 * day):
        assert online.read(row, now)["last_price"][0] == 30.0
    online.close()


def test_a_reader_does_not_wait_for_a_writer_and_sees_no_half_of_it(tmp_path):
    first, second = InFile(tmp_path / "x.db"), InFile(tmp_path / "x.db")
    first.put([("a", str(i), "0") for i in range(200)])
    over, seen = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            for cells in (first, second):
                a, b = cells.get([("a", None), ("a", None)])
                seen.append(len({*a.values(), *b.values()}))

    reader = threading.Thread(target=read)
    reader.start()
    n = 0
    while n < 40 or (len(seen) <= 20 and n < 1_000):  # on a busy machine reads are few
        n += 1
        second.put([("a", str(i), str(n)) for i in range(200)])
    over.set()
    reader.join()
    assert len(seen) > 20 and {*seen} == {1}
    first.close()
    second.close()


def test_ticks_are_the_same_in_any_unit_of_time():
    moments = pd.Series(pd.to_datetime(["2025-01-01 10:00:00.5"]))
    for unit in ("ms", "us", "ns"):
        assert ticks(moments.astype(f"datetime64[{unit}]"))[0] == ticks(moments[0])
