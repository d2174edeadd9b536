"""Case 20: the configuration, its store, keys, and the limits."""

from __future__ import annotations

import json
import stat

import pytest
from llm_gateway_kit import KINDS, document, place

from casebook.cases.llm_gateway.config import ConfigError, dedicated, read
from casebook.cases.llm_gateway.store import (
    ROLES,
    Store,
    add_key,
    end_key,
    get_config,
    hashed,
    keys,
    put_config,
    revision,
)


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
        (lambda d: d["models"][0].update(price_in=0.0375), "no more than 3 decimal places"),
        (lambda d: d["models"][0].update(price_in="dear"), "models.0.price_in: Value error"),
        (lambda d: d["providers"][0].update(url="ftp://x"), "Give http(s)://host[:port]"),
        *(
            (lambda d, url=url: d["providers"][0].update(url=url), "Give http(s)://host[:port]")
            for url in (
                "http://h:99999",
                "http://h o st",
                "http://h:x",
                "http://h\n",
                "http://[::1",
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


@pytest.mark.parametrize("kind", KINDS)
def test_only_its_tenant_ends_a_key(kind):
    store = Store(place(kind))
    key = store.submit(add_key, "acme", "caller", "", 1.0).result()
    begins = hashed(key)[:12]
    for tenant, prefix in (("globex", begins), ("acme", "%" * 9), ("acme", begins[:7])):
        with pytest.raises(KeyError):
            store.submit(end_key, tenant, prefix, 5.0, ROLES).result()
    with pytest.raises(PermissionError, match="caller"):
        store.submit(end_key, "acme", begins, 5.0, ("admin",)).result()
    assert store.submit(keys).result()[hashed(key)].ends is None
    assert store.submit(end_key, "acme", begins.upper(), 5.0, ROLES).result().role == "caller"
    with pytest.raises(KeyError):
        store.submit(end_key, "acme", begins, 9.0, ROLES).result()
    assert store.submit(keys).result()[hashed(key)].ends == 5.0
    store.close()


def test_a_field_that_stands_twice_is_refused_and_a_price_is_exact():
    raw = document()
    text = json.dumps(raw)
    with pytest.raises(ConfigError, match="'tenants' stands twice"):
        read(text[:-1] + ', "tenants": []}')
    raw["models"][0].update(price_in=37.5, price_out="0.001")
    model = read(json.dumps(raw)).model["small"]
    assert [model.cost(n, 0) for n in (1, 2, 3, 2 * 10**6)] == [38, 75, 113, 75 * 10**6]
    assert model.cost(0, 1001) == 2 and isinstance(model.cost(1, 1), int)
