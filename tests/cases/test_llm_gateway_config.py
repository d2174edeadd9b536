"""Case 20: the configuration, its store, keys, and the limits."""

from __future__ import annotations

import asyncio
import json
import stat
import time

import pytest
from llm_gateway_kit import KINDS, Running, document, place

from casebook.cases.llm_gateway.config import ConfigError, dedicated, read
from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.server import app
from casebook.cases.llm_gateway.store import Store, get_config, put_config, put_settings
from casebook.serving.api_keys import (
    Key,
    add_key,
    hashed,
    keys,
    revision,
    revoke_key,
    touch,
)
from casebook.serving.refusals import Refusal


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_survives_the_store(kind):
    store, config = Store(place(kind)), read(document())
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
        (lambda d: d["models"][0].update(price_in=2.5001), "at most three decimals"),
        (lambda d: d["models"][0].update(price_out=10**9), "models.0.price_out"),
        (lambda d: d["models"][0].update(most_out=10**9), "models.0.most_out"),
        (lambda d: d["providers"][0].update(url="ftp://x"), "Give http(s)://host[:port]"),
        *(
            (lambda d, url=url: d["providers"][0].update(url=url), "Give http(s)://host[:port]")
            for url in (
                "http://h:99999",
                "http://h o st",
                "http://h:0x",
                "http://h\n",
                "http://[::1",
                "http://h:0",
                "http://u@h",
                "http://h?a",
                "http://[h]",
                "http://",
            )
        ),
        (lambda d: d["providers"][0].update(first_s=200.0), "Give it more time as a whole"),
        (lambda d: d["tenants"][0].update(colour="red"), "tenants.0.colour: Extra inputs"),
        (lambda d: d["tenants"].append(d["tenants"][0]), "tenant acme is listed twice"),
        (lambda d: d["tenants"][0].update(budget=-1), "tenants.0.budget"),
        (lambda d: d["providers"][1].update(tenants=["globex"]), "is of a provider for others"),
    ],
)
def test_a_wrong_configuration_says_what_to_change(change, said):
    raw = document()
    change(raw)
    with pytest.raises(ConfigError) as caught:
        read(raw)
    assert said in str(caught.value)


LIMIT = {"per_minute": 60, "burst": 5}


def test_a_tenant_can_have_a_provider_or_a_whole_gateway_of_its_own():
    raw = document()
    raw["providers"][1] |= {"tenants": ["acme"], "key_env": "KEY_OF_ACME"}
    config = read(raw)
    alone = dedicated(config, "globex")
    assert [one.name for one in alone.tenants] == ["globex"] and [*alone.model] == ["small"]
    assert [*alone.provider] == ["p1"] and read(alone.model_dump_json()) == alone
    with pytest.raises(ConfigError, match="Give one of acme, globex"):
        dedicated(config, "nobody")


def test_an_address_can_be_a_name_or_a_number_and_a_field_stands_once():
    for url in ("http://h:1", "https://a-b.example/v1/x", "http://[::1]:80", "http://10.0.0.1"):
        raw = document()
        raw["providers"][0]["url"] = url
        assert read(json.dumps(raw)).provider["p1"].url == url
    with pytest.raises(ConfigError, match="the field 'tenants' stands twice"):
        read(json.dumps(document())[:-1] + ', "tenants": []}')


def test_a_price_below_a_nano_dollar_is_rounded_once_a_request():
    raw = document()
    raw["models"][0] |= {"price_in": 37.5, "price_out": 0.001}
    model = read(json.dumps(raw)).model["small"]
    assert [model.cost(*used) for used in ((2, 0), (1, 0), (0, 1), (0, 0))] == [75, 38, 1, 0]
    assert model.cost(10**7, 10**7) == 375_010_000


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


@pytest.fixture(params=KINDS)
def do(request):
    store = Store(place(request.param))
    yield lambda operation, *given: store.submit(operation, *given).result()
    store.close()


def test_what_a_tenant_sets_outlives_a_new_configuration_and_not_its_tenant(do):
    do(put_config, read(document()))
    do(put_settings, "acme", {"guard": {"pii_in": "redact"}, "fallbacks": {"large": ["small"]}})
    do(put_settings, "acme", {"cache_s": 60})
    do(put_config, read(document()))
    own = do(get_config).tenant["acme"]
    assert (own.guard.pii_in, own.cache_s, own.fallbacks) == ("redact", 60, {"large": ("small",)})
    with pytest.raises(ConfigError, match="which it may not ask"):
        do(put_settings, "globex", {"fallbacks": {"small": ["large"]}})
    less = document()
    less["tenants"][0].update(models=["large"], fallbacks={})
    do(put_config, read(less))
    assert do(get_config).tenant["acme"].fallbacks == {"large": ()}, "small was taken from it"
    for tenants in (document()["tenants"][1:], document()["tenants"]):
        do(put_config, read(document() | {"tenants": tenants}))
    assert do(get_config).tenant["acme"].cache_s == 0, "another organisation of the same name"


# What a gateway follows -----------------------------------------------------------------


BROKEN = [
    "update config set body = '{}' where kind = 'models'",
    "update config set body = 'no JSON' where kind = 'tenants'",
    "insert into config values ('typo', 'x', 0, '{}')",
    "delete from config where kind = 'providers'",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_configuration_that_cannot_hold_stops_neither_revocation_nor_the_heart(broken):
    store = Store(":memory:")
    do = lambda operation, *given: store.submit(operation, *given).result()  # noqa: E731
    do(put_config, read(document()))
    first, second = (do(add_key, "acme", "caller", "", 0.0) for _ in "ab")
    gateway = Gateway(store, environ={})

    async def run():
        await gateway.refresh()
        do(lambda db: (db.execute(broken), touch(db)))
        admin = Key("acme", "admin", "", 0.0, None)
        do(revoke_key, admin, "acme", hashed(first)[:8], 1.0)
        task = asyncio.create_task(gateway.live())
        await asyncio.sleep(0.2)
        assert gateway.holds(hashed(first)) is None and gateway.holds(hashed(second))
        assert gateway.meter._sign == 2 and not task.done()
        with pytest.raises(Refusal, match="cannot hold"):
            await gateway.refresh()
        assert gateway.config == read(document()), "the old one holds"
        new = Gateway(store, environ={})
        with pytest.raises(Refusal, match="cannot hold") as caught:
            await new.refresh()
        assert caught.value.status == 503 and not new.knows
        before = gateway.behind
        do(put_config, read(document()))
        await asyncio.sleep(1.2)
        assert gateway.behind < before + 1, "it follows again"
        task.cancel()

    asyncio.run(run())
    store.close()


def test_a_follower_lives_on_whatever_fails_and_health_tells_of_it():
    with Running() as running:
        health = lambda: running.http.get(f"{running.url}/health").json()  # noqa: E731
        running.key("acme")
        assert health()["status"] == "ok" and health()["store_behind_s"] < 3

        async def crash():
            raise KeyError("nobody thought of this")

        running.gateway.watch = crash
        running.gateway._followed -= 60
        time.sleep(1.1)
        assert health()["status"] == "degraded" and health()["store_behind_s"] > 60
        del running.gateway.watch
        until = time.time() + 5
        while health()["status"] == "degraded" and time.time() < until:
            time.sleep(0.1)
        assert health()["status"] == "ok"


def test_a_restart_with_the_same_file_keeps_what_tenants_have_set(tmp_path, monkeypatch):
    monkeypatch.delenv("CASEBOOK_REDIS_URL", raising=False)
    path, config = str(tmp_path / "db"), json.dumps(document())
    app(path, config)
    store = Store(path)
    store.submit(put_settings, "acme", {"guard": {"pii_out": "redact"}}).result()
    app(path, config)
    assert store.submit(get_config).result().tenant["acme"].guard.pii_out == "redact"
    store.close()
