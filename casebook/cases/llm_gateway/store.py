"""Where configuration, keys, prompts and bills are kept: a SQLite file, or PostgreSQL.

Operations are functions of a database, in SQL that both know; :mod:`casebook.serving.grouped` runs
them in a thread, many in one commit.

Examples
--------
>>> store = Store(":memory:")
>>> key = store.submit(add_key, "acme", "caller", "laptop", 0.0).result()
>>> found = store.submit(keys).result()
>>> [(one.tenant, one.role) for one in found.values()], key in str(found)
([('acme', 'caller')], False)
>>> store.close()
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from casebook.cases.llm_gateway.config import Config, read
from casebook.serving.grouped import Database, Grouped, Postgres, Sqlite, StoreDown

__all__ = ["Database", "Store", "StoreDown"]

ROLES = ("caller", "developer", "admin", "platform")
SCHEMA = """
create table if not exists config (
  kind text, name text, place bigint not null, body text not null, primary key (kind, name));
create table if not exists revision (one bigint primary key check (one = 1), number bigint);
insert into revision values (1, 0) on conflict do nothing;
create table if not exists keys (
  hash text primary key, tenant text not null, role text not null, label text not null,
  created double precision not null, ends double precision, last text);
create table if not exists prompts (
  tenant text, name text, version bigint, body text not null, created double precision not null,
  primary key (tenant, name, version));
create table if not exists splits (
  tenant text, name text, shares text not null, primary key (tenant, name));
create table if not exists owners (owner text primary key, beat double precision not null);
create table if not exists meter (
  request text primary key, tenant text not null, model text not null, month text not null,
  at double precision not null, owner text not null,
  state text not null check (state in ('open', 'settled', 'released')),
  reserved bigint not null, cost bigint not null default 0,
  tokens_in bigint not null default 0, tokens_out bigint not null default 0,
  waste bigint not null default 0, guessed bigint not null default 0,
  how text not null default '', prompt text not null default '', once text not null default '');
create table if not exists answers (
  request text primary key, tenant text not null, until double precision not null,
  body text not null);
create index if not exists answers_of on answers (tenant, until);
create index if not exists by_month on meter (tenant, month, state);
create index if not exists still_open on meter (owner) where state = 'open';
create table if not exists hours (
  tenant text, hour bigint, cost bigint not null, primary key (tenant, hour));
create table if not exists origins (
  hash text, place text, first double precision not null, primary key (hash, place));
create table if not exists alerts (
  tenant text not null, at double precision not null, kind text not null, what text not null,
  do_ text not null);
create index if not exists alerts_of on alerts (tenant, at);
create table if not exists spend (
  tenant text, month text, settled bigint not null default 0,
  reserved bigint not null default 0, waste bigint not null default 0,
  refused bigint not null default 0, primary key (tenant, month));
"""


class Store(Grouped):
    """The gateway's database.

    Parameters
    ----------
    where : Path or str
        A file for SQLite, ``":memory:"``, or the URL of a PostgreSQL server.
    durable : bool
        As for :class:`~casebook.serving.grouped.Sqlite`. A request has two commits on its way:
        on a busy machine, each took 5 ms at the median and 33 ms at the 99th percentile where it
        waited for the disk, and 0.1 and 0.2 ms where it did not. A killed process loses no bill in
        either case; a power cut may lose the last ones.
    """

    def __init__(self, where: Path | str, durable: bool = False) -> None:
        remote = str(where).startswith(("postgresql://", "postgres://"))
        super().__init__(Postgres(str(where)) if remote else Sqlite(where, durable), SCHEMA)


# Configuration -------------------------------------------------------------------------


def put_config(db: Database, config: Config) -> int:
    """Replace the configuration; return its revision, by which other processes see the change."""
    db.execute("delete from config")
    for kind in ("providers", "models", "tenants"):
        for place, one in enumerate(getattr(config, kind)):
            row = (kind, one.name, place, one.model_dump_json())
            db.execute("insert into config values (?, ?, ?, ?)", row)
    return touch(db)


def get_config(db: Database) -> Config:
    """Return the configuration, checked again: a row may have been changed by hand."""
    made: dict[str, list] = {"providers": [], "models": [], "tenants": []}
    for kind, body in db.execute("select kind, body from config order by kind, place"):
        made.setdefault(kind, []).append(json.loads(body))
    return read(made)


def revision(db: Database) -> int:
    """Return the number of changes to configuration and keys."""
    return db.execute("select number from revision").fetchone()[0]


def touch(db: Database) -> int:
    """Count a change; return the new revision."""
    db.execute("update revision set number = number + 1")
    return revision(db)


# Keys ----------------------------------------------------------------------------------


class Key(NamedTuple):
    """What a key opens; the key itself is not known here."""

    tenant: str
    role: str
    label: str
    created: float
    ends: float | None


def hashed(key: str) -> str:
    """Return what is kept of a key. 256 random bits cannot be guessed: they need no salt."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def add_key(db: Database, tenant: str, role: str, label: str, now: float) -> str:
    """Return a new key, which is shown this once."""
    if role not in ROLES:
        raise ValueError(f"{role[:40]!r} is no role: give one of {', '.join(ROLES)}.")
    key = f"gw-{secrets.token_urlsafe(32)}"
    row = (hashed(key), tenant, role, label, now)
    db.execute("insert into keys (hash, tenant, role, label, created) values (?, ?, ?, ?, ?)", row)
    touch(db)
    return key


def end_key(db: Database, tenant: str, begins: str, when: float, roles: Sequence[str]) -> Key:
    """Let a tenant's key end: later when another one takes over, or at once with ``when`` 0.

    A revoked key ended in 1970: no clock that is behind, or goes back, lets it in again.

    Parameters
    ----------
    begins : str
        The first letters of its hash, eight or more.
    roles : sequence of str
        Whose keys may be ended.

    Raises
    ------
    KeyError
        If the tenant has no such key that holds; nothing changes.
    PermissionError
        If the key is of another role; nothing changes.
    """
    begins = begins.lower()
    found = [(h, one) for h, one in keys(db, tenant).items() if h.startswith(begins)]
    held = [(h, one) for h, one in found if one.ends is None or one.ends > when]
    if len(begins) < 8 or len(held) != 1:
        raise KeyError(begins)
    if (one := held[0][1]).role not in roles:
        raise PermissionError(one.role)
    db.execute("update keys set ends = ? where hash = ?", (when, held[0][0]))
    touch(db)
    return one


def keys(db: Database, tenant: str = "") -> dict[str, Key]:
    """Return all keys, or a tenant's, by their hash."""
    rows = db.execute(
        "select hash, tenant, role, label, created, ends from keys where ? in ('', tenant)",
        (tenant,),
    )
    return {row[0]: Key(*row[1:]) for row in rows}
