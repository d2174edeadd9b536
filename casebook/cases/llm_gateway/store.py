"""Where configuration, keys, prompts and bills are kept: a SQLite file, or PostgreSQL.

Operations are functions of a database, in SQL that both know; :mod:`casebook.serving.grouped` runs
them in a thread, many in one commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from casebook.cases.llm_gateway.config import Config, read
from casebook.serving import api_keys, prompts
from casebook.serving.api_keys import touch
from casebook.serving.grouped import Database, Grouped, Postgres, Sqlite, StoreDown

__all__ = ["Database", "Store", "StoreDown"]

SCHEMA = """
create table if not exists config (
  kind text, name text, place bigint not null, body text not null, primary key (kind, name));
create table if not exists owners (owner text primary key, beat bigint not null);
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
        database = Postgres(str(where)) if remote else Sqlite(where, durable)
        super().__init__(database, api_keys.SCHEMA + prompts.SCHEMA + SCHEMA)


# Configuration -------------------------------------------------------------------------


def put_config(db: Database, config: Config) -> int:
    """Replace the configuration; return its revision, by which other processes see the change.

    What tenants have set themselves (:func:`put_settings`) stays, as long as they are in it.
    """
    now = touch(db)
    db.execute("delete from config where kind <> 'settings'")
    for kind in ("providers", "models", "tenants"):
        for place, one in enumerate(getattr(config, kind)):
            row = (kind, one.name, place, one.model_dump_json())
            db.execute("insert into config values (?, ?, ?, ?)", row)
    gone = "select name from config where kind = 'tenants'"
    db.execute(f"delete from config where kind = 'settings' and name not in ({gone})")
    return now


def put_settings(db: Database, tenant: str, given: Mapping[str, Any]) -> int:
    """Change what a tenant sets itself; return the revision.

    Raises
    ------
    ConfigError
        If it does not fit the rest.
    """
    now, raw = touch(db), get_config(db).model_dump(mode="json")
    for one in raw["tenants"]:
        one.update(given if one["name"] == tenant else {})
    read(raw)
    row = db.execute("select body from config where kind = 'settings' and name = ?", (tenant,))
    set_ = json.loads((row.fetchone() or ("{}",))[0]) | given
    db.execute(
        "insert into config values ('settings', ?, 0, ?)"
        " on conflict (kind, name) do update set body = excluded.body",
        (tenant, json.dumps(set_)),
    )
    return now


def get_config(db: Database) -> Config:
    """Return the configuration, checked again: a row may have been changed by hand."""
    made: dict[str, list] = {"providers": [], "models": [], "tenants": []}
    for kind, body in db.execute("select kind, body from config order by kind, place"):
        made.setdefault(kind, []).append(json.loads(body))
    rows = db.execute("select name, body from config where kind = 'settings'")
    set_ = {name: json.loads(body) for name, body in rows}
    made.pop("settings", None)
    for tenant in made["tenants"]:
        _set(tenant, set_.get(tenant.get("name"), {}))
    return read(made)


def _set(tenant: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Let a tenant's own settings hold, but for models that were taken from it since."""
    tenant.update(given)
    if "fallbacks" in given:
        may, rest = {*tenant.get("models", ())}, given["fallbacks"].items()
        kept = {model: [one for one in names if one in may] for model, names in rest}
        tenant["fallbacks"] = {model: names for model, names in kept.items() if model in may}
