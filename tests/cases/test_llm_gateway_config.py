"""Case 20: the configuration, its store, keys, and the limits."""

from __future__ import annotations

import asyncio
import sqlite3
import stat

import numpy as np
import pytest
from llm_gateway_kit import document

from casebook.cases.llm_gateway.config import ConfigError, Limit, read
from casebook.cases.llm_gateway.limits import Bucket, Limits, retry_after
from casebook.cases.llm_gateway.store import (
    Store,
    StoreDown,
    add_key,
    end_key,
    get_config,
    hashed,
    keys,
    put_config,
    revision,
)


def test_a_configuration_survives_the_store():
    store, config = Store(":memory:"), read(document())
    before = store.submit(revision).result()
    assert store.submit(put_config, config).result() == before + 1
    assert store.submit(get_config).result() == config
    assert [one.name for one in config.chain("acme", "small")] == ["small", "large"]
    store.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["tenants"][0]["models"].append("none"), "model none is not listed. Add it"),
        (
            lambda d: d["tenants"][0].update(models=["small", "small"]),
            "named twice. Name each once",
        ),
        (lambda d: d["tenants"][0].update(fallbacks={"small": ["small"]}), "Each is asked once"),
        (lambda d: d["tenants"][1].update(limits={"large": LIMIT}), "limits name large, which it"),
        (lambda d: d["models"][0].update(provider="p9"), "provider p9 is not listed. Add it"),
        (lambda d: d["models"][0].update(price_in=2.5), "models.0.price_in: Input should be"),
        (lambda d: d["providers"][0].update(url="ftp://x"), "Give http(s)://host[:port]"),
        (lambda d: d["providers"][0].update(first_s=200.0), "Give it more time as a whole"),
        (lambda d: d["tenants"][0].update(colour="red"), "tenants.0.colour: Extra inputs"),
        (lambda d: d["tenants"].append(d["tenants"][0]), "tenant acme is listed twice"),
        (lambda d: d["tenants"][0].update(budget=-1), "tenants.0.budget"),
    ],
)
def test_a_wrong_configuration_says_what_to_change(change, said):
    raw = document()
    change(raw)
    with pytest.raises(ConfigError) as caught:
        read(raw)
    assert said in str(caught.value)


LIMIT = {"per_minute": 60, "burst": 5}


def test_every_fault_is_named_at_once():
    raw = document()
    raw["models"][0]["provider"] = "p9"
    raw["tenants"][0]["models"].append("none")
    with pytest.raises(ConfigError) as caught:
        read(raw)
    assert len(str(caught.value).splitlines()) == 2


def test_a_key_is_shown_once_and_kept_as_its_hash(tmp_path):
    store = Store(tmp_path / "gateway.db")
    key = store.submit(add_key, "acme", "caller", "laptop", 1.0).result()
    assert store.submit(keys).result()[hashed(key)].tenant == "acme"
    with pytest.raises(ValueError, match="is no role: give one of caller"):
        store.submit(add_key, "acme", "king", "", 1.0).result()
    store.close()
    assert stat.S_IMODE((tmp_path / "gateway.db").stat().st_mode) == 0o600
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key.encode() not in kept and key[3:].encode() not in kept


def test_only_its_tenant_ends_a_key():
    store = Store(":memory:")
    key = store.submit(add_key, "acme", "caller", "", 1.0).result()
    begins = hashed(key)[:12]
    for tenant, prefix in (("globex", begins), ("acme", "%" * 9), ("acme", begins[:7])):
        assert store.submit(end_key, tenant, prefix, 5.0).result() == 0
    assert store.submit(end_key, "acme", begins, 5.0).result() == 1
    assert store.submit(end_key, "acme", begins, 9.0).result() == 0, "it ended before"
    assert store.submit(keys).result()[hashed(key)].ends == 5.0
    store.close()


def test_an_operation_that_fails_is_undone_alone_and_a_group_is_one_commit():
    store = Store(":memory:")

    def wrong(db: sqlite3.Connection) -> None:
        db.execute("insert into owners values ('x', 1)")
        raise KeyError("no")

    async def all_at_once():
        before = store.commits
        asked = [store.do(add_key, "acme", "caller", str(i), 1.0) for i in range(50)]
        found = await asyncio.gather(*asked, store.do(wrong), return_exceptions=True)
        return found, store.commits - before

    found, commits = asyncio.run(all_at_once())
    assert isinstance(found[-1], KeyError) and commits < 50
    assert len(store.submit(keys).result()) == 50
    count = "select count(*) from owners"
    assert store.submit(lambda db: db.execute(count).fetchone()[0]).result() == 0
    store.close()


def test_a_database_that_is_locked_is_a_store_that_is_down(tmp_path):
    store = Store(tmp_path / "db")
    store.submit(lambda db: db.execute("pragma busy_timeout = 1")).result()
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(StoreDown, match="Try again later"):
        store.submit(add_key, "acme", "caller", "", 1.0).result()
    other.execute("rollback")
    other.close()
    assert store.submit(add_key, "acme", "caller", "", 1.0).result()
    store.close()


# Limits --------------------------------------------------------------------------------


@pytest.mark.parametrize("per_minute", [7, 60, 1000])
@pytest.mark.parametrize("seed", [1, 2])
def test_over_ten_minutes_a_bucket_is_within_one_per_cent(per_minute, seed):
    rng, burst = np.random.default_rng(seed), 5
    limit = Limit(per_minute=per_minute, burst=burst)
    bucket, times = Bucket(limit, 0.0), np.sort(rng.uniform(0, 600, 40 * per_minute))
    passed = sum(bucket.take(float(at)) == 0 for at in times)
    assert passed <= burst + 10 * per_minute
    assert passed >= 0.99 * 10 * per_minute


def test_a_caller_that_waits_as_told_passes_and_a_clock_that_goes_back_gives_nothing():
    bucket, now = Bucket(Limit(per_minute=60, burst=1), 100.0), 100.0
    assert bucket.take(now) == 0
    wait = bucket.take(now)
    assert wait == pytest.approx(1.0) and bucket.take(now - 50) == pytest.approx(1.0)
    assert bucket.take(now + wait) == 0


def test_buckets_are_of_one_tenant_and_one_model_and_follow_the_configuration():
    now = [0.0]
    limits, slow = Limits(lambda: now[0]), Limit(per_minute=60, burst=2)

    def take(tenant, model, limit=slow):
        return asyncio.run(limits.take(tenant, model, limit))

    assert [take("a", "m") for _ in range(3)] == [0, 0, 1]
    assert take("b", "m") == take("a", "n") == 0
    assert take("a", "m", Limit(per_minute=60, burst=50)) == 1, "a new limit is no gift"
    assert Limits(share=0.5) and retry_after(0) == "1"
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        Limits(share=0)
