"""Keys of an API in both stores: who ends one, whose successor holds, what stays ended."""

from __future__ import annotations

import os
import uuid
from importlib.util import find_spec

import pytest

from casebook.serving.api_keys import SCHEMA, Key, add_key, hashed, keys, revoke_key, rotate_key
from casebook.serving.grouped import Grouped, Postgres, Sqlite

URL = os.environ.get("CASEBOOK_POSTGRES_URL", "")
NO_POSTGRES = pytest.mark.skipif(
    not (URL and find_spec("psycopg")),
    reason="CASEBOOK_POSTGRES_URL is not set: .ci/run starts PostgreSQL",
)


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=NO_POSTGRES)])
def do(request):
    """Run an operation in a new store."""
    if request.param == "SQLite":
        store = Grouped(Sqlite(":memory:"), SCHEMA)
    else:
        import psycopg

        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(URL, autocommit=True) as connection:
            connection.execute(f"create schema {name}")
        store = Grouped(Postgres(f"{URL}?options=-csearch_path%3D{name}"), SCHEMA)
    yield lambda operation, *given: store.submit(operation, *given).result()
    store.close()


ADMIN, PLATFORM = (Key("acme", role, "", 0.0, None) for role in ("admin", "platform"))


def test_only_its_tenant_ends_a_key_and_a_fault_ends_none(do):
    key = do(add_key, "acme", "caller", "", 1.0)
    begins = hashed(key)[:12]
    for tenant, prefix in (("globex", begins), ("acme", "%" * 9), ("acme", begins[:7])):
        with pytest.raises(LookupError, match="no such key"):
            do(revoke_key, ADMIN, tenant, prefix, 5.0)
    after, role = do(rotate_key, ADMIN, "acme", begins.upper(), 5.0, 10.0)
    with pytest.raises(LookupError, match="successor"):
        do(rotate_key, ADMIN, "acme", begins, 6.0, 10.0)
    old, new = (do(keys)[hashed(one)] for one in (key, after))
    assert old.holds(14.9) and not old.holds(15.0) and new.holds(99.0) and role == "caller"
    assert len(do(keys)) == 2


def test_who_is_revoked_stays_so_whatever_the_clock_says(do):
    key = do(add_key, "acme", "caller", "", 1.0)
    do(revoke_key, ADMIN, "acme", hashed(key)[:8], 500.0)
    assert not any(do(keys)[hashed(key)].holds(now) for now in (0.0, 499.0, 501.0))
    with pytest.raises(LookupError, match="no such key"):
        do(revoke_key, ADMIN, "acme", hashed(key)[:8], 499.0)


@pytest.mark.parametrize(("end", "more"), [(revoke_key, ()), (rotate_key, (10.0,))])
def test_nobody_ends_a_key_of_a_higher_role(do, end, more):
    key = do(add_key, "acme", "platform", "", 1.0)
    with pytest.raises(PermissionError, match="ends none of role platform"):
        do(end, ADMIN, "acme", hashed(key)[:12], 5.0, *more)
    assert [one.holds(10**9) for one in do(keys).values()] == [True]
    do(end, PLATFORM, "acme", hashed(key)[:12], 5.0, *more)
    assert not do(keys)[hashed(key)].holds(10**9)
