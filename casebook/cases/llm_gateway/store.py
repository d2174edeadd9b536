"""Where configuration, keys, prompts and bills are kept: one SQLite file, written by one thread.

A request must not wait on a disk in the event loop, and a commit costs the same for one change as
for a hundred. So all operations go to a thread that commits what has gathered (*group commit*); an
operation that fails is undone alone. An operation is a function of a connection: meter, prompts
and admin have theirs, in SQL that PostgreSQL knows too, apart from the placeholders.

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

import asyncio
import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from casebook.cases.llm_gateway.config import Config, read

Result = TypeVar("Result")
Operation = Callable[..., Result]

#: Operations of one commit.
GROUP = 200
ROLES = ("caller", "developer", "admin", "platform")
SCHEMA = """
create table if not exists config (
  kind text, name text, body text not null, primary key (kind, name));
create table if not exists revision (one integer primary key check (one = 1), number integer);
insert or ignore into revision values (1, 0);
create table if not exists keys (
  hash text primary key, tenant text not null, role text not null, label text not null,
  created real not null, ends real, last text);
create table if not exists prompts (
  tenant text, name text, version integer, body text not null, created real not null,
  primary key (tenant, name, version));
create table if not exists splits (
  tenant text, name text, shares text not null, primary key (tenant, name));
create table if not exists owners (owner text primary key, beat real not null);
create table if not exists meter (
  request text primary key, tenant text not null, model text not null, month text not null,
  at real not null, owner text not null,
  state text not null check (state in ('open', 'settled', 'released')),
  reserved integer not null, cost integer not null default 0,
  tokens_in integer not null default 0, tokens_out integer not null default 0,
  waste integer not null default 0, how text not null default '', prompt text not null default '');
create index if not exists by_month on meter (tenant, month, state);
create index if not exists still_open on meter (owner) where state = 'open';
create table if not exists spend (
  tenant text, month text, settled integer not null default 0,
  reserved integer not null default 0, waste integer not null default 0,
  primary key (tenant, month));
"""


class StoreDown(RuntimeError):
    """The store did not take an operation; nothing of it was kept."""


class Store:
    """A database that one thread writes.

    Parameters
    ----------
    path : Path or str
        File, of mode 600 when it is new; ``":memory:"`` for a test.
    durable : bool
        Whether a commit waits for the disk. Without it a killed process loses nothing, and a
        machine without power may lose its last commits.
    """

    def __init__(self, path: Path | str, durable: bool = True) -> None:
        if str(path) != ":memory:":
            Path(path).touch(0o600)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
        self._db.execute("pragma busy_timeout = 5000")
        self._db.executescript(SCHEMA)
        self._asked: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()
        self.commits = 0

    def submit(self, operation: Operation[Result], *given: Any) -> Future[Result]:
        """Let the thread do an operation; its future fails with what the operation raises.

        Raises
        ------
        StoreDown
            From the future, when the database failed.
        """
        future: Future = Future()
        self._asked.put((operation, given, future))
        return future

    async def do(self, operation: Operation[Result], *given: Any) -> Result:
        """Do an operation without holding up the event loop.

        A request that is given up while it waits does not take its operation back.
        """
        return await asyncio.shield(asyncio.wrap_future(self.submit(operation, *given)))

    def close(self) -> None:
        """Do what was asked so far, and end."""
        self._asked.put(None)
        self._thread.join()
        self._db.close()

    def _work(self) -> None:
        ending = False
        while not ending:
            group = [self._asked.get()]
            while len(group) < GROUP:
                try:
                    group.append(self._asked.get_nowait())
                except Empty:
                    break
            ending = None in group
            self._commit([one for one in group if one is not None])

    def _commit(self, group: list[tuple[Operation, tuple, Future]]) -> None:
        """Do operations in one transaction; answer them only when it is on disk."""
        done: list[tuple[Future, Any, BaseException | None]] = []
        try:
            self._db.execute("begin immediate")
            for operation, given, future in group:
                done.append((future, *self._alone(operation, given)))
            self._db.execute("commit")
            self.commits += 1
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("rollback")
            down = StoreDown(f"The store failed ({type(error).__name__}). Try again later.")
            done = [(future, None, down) for _, _, future in group]
        for future, value, failed in done:
            future.set_exception(failed) if failed else future.set_result(value)

    def _alone(self, operation: Operation, given: tuple) -> tuple[Any, BaseException | None]:
        """Do one operation; undo it if it raises."""
        self._db.execute("savepoint alone")
        try:
            return operation(self._db, *given), None
        except sqlite3.OperationalError:
            raise  # the database's fault: it concerns all of them
        except Exception as error:
            self._db.execute("rollback to alone")
            return None, error
        finally:
            if self._db.in_transaction:
                self._db.execute("release alone")


# Configuration -------------------------------------------------------------------------


def put_config(db: sqlite3.Connection, config: Config) -> int:
    """Replace the configuration; return its revision, by which other processes see the change."""
    db.execute("delete from config")
    for kind in ("providers", "models", "tenants"):
        rows = [(kind, one.name, one.model_dump_json()) for one in getattr(config, kind)]
        db.executemany("insert into config values (?, ?, ?)", rows)
    return touch(db)


def get_config(db: sqlite3.Connection) -> Config:
    """Return the configuration, checked again: a row may have been changed by hand."""
    made: dict[str, list] = {"providers": [], "models": [], "tenants": []}
    for kind, body in db.execute("select kind, body from config order by rowid"):
        made[kind].append(json.loads(body))
    return read(made)


def revision(db: sqlite3.Connection) -> int:
    """Return the number of changes to configuration and keys."""
    return db.execute("select number from revision").fetchone()[0]


def touch(db: sqlite3.Connection) -> int:
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


def add_key(db: sqlite3.Connection, tenant: str, role: str, label: str, now: float) -> str:
    """Return a new key, which is shown this once."""
    if role not in ROLES:
        raise ValueError(f"{role[:40]!r} is no role: give one of {', '.join(ROLES)}.")
    key = f"gw-{secrets.token_urlsafe(32)}"
    row = (hashed(key), tenant, role, label, now)
    db.execute("insert into keys (hash, tenant, role, label, created) values (?, ?, ?, ?, ?)", row)
    touch(db)
    return key


def end_key(db: sqlite3.Connection, tenant: str, begins: str, when: float) -> int:
    """Let a tenant's key end: at once to revoke it, later when another one takes over.

    Parameters
    ----------
    begins : str
        The first letters of its hash, eight or more.

    Returns
    -------
    int
        How many keys ended: 1, or 0 if the tenant has no such key.
    """
    if len(begins) < 8 or not begins.isalnum():
        return 0
    where = "tenant = ? and hash like ? and (ends is null or ends > ?)"
    done = db.execute(f"update keys set ends = ? where {where}", (when, tenant, f"{begins}%", when))
    touch(db)
    return done.rowcount


def keys(db: sqlite3.Connection) -> dict[str, Key]:
    """Return all keys by their hash."""
    rows = db.execute("select hash, tenant, role, label, created, ends from keys")
    return {row[0]: Key(*row[1:]) for row in rows}
