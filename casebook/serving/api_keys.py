"""Keys of an API, hashed at rest: made, rotated with a time of grace, revoked; ended sessions.

Operations of a :class:`~casebook.serving.grouped.Grouped` store that has ``SCHEMA``. A process
keeps all keys in memory and reads them anew when :func:`revision` has changed.

Examples
--------
>>> from casebook.serving.grouped import Grouped, Sqlite
>>> store = Grouped(Sqlite(":memory:"), SCHEMA)
>>> key = store.submit(add_key, "acme", "caller", "laptop", 0.0).result()
>>> found = store.submit(keys).result()
>>> [(one.tenant, one.role) for one in found.values()], key in str(found)
([('acme', 'caller')], False)
>>> store.close()
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

from casebook.serving.grouped import Database

#: Each may do what those before it may.
ROLES = ("caller", "developer", "admin", "platform")
SCHEMA = """
create table if not exists revision (one bigint primary key check (one = 1), number bigint);
insert into revision values (1, 0) on conflict do nothing;
create table if not exists keys (
  hash text primary key, tenant text not null, role text not null, label text not null,
  created double precision not null, ends double precision, revoked bigint not null default 0);
create table if not exists logouts (session text primary key, ends double precision not null);
"""


class Key(NamedTuple):
    """What a key opens; the key itself is not known here."""

    tenant: str
    role: str
    label: str
    created: float
    ends: float | None
    revoked: bool = False

    def holds(self, now: float) -> bool:
        """Say whether it opens anything; one that was revoked does not, whatever the clock says."""
        return not self.revoked and (self.ends is None or now < self.ends)

    def may(self, role: str) -> bool:
        """Say whether it may do what a role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


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


def find_key(db: Database, by: Key, tenant: str, begins: str, now: float) -> tuple[str, Key]:
    """Return the hash and the key of a tenant whose hash begins so.

    Parameters
    ----------
    by : Key
        Who asks.
    begins : str
        The first letters of the hash, eight or more.

    Raises
    ------
    LookupError
        If the tenant has no such key that holds.
    PermissionError
        If the key has a higher role than who asks.
    """
    touch(db)
    own = {hash_: key for hash_, key in keys(db).items() if key.tenant == tenant}
    found = [one for one in own.items() if one[0].startswith(begins.lower()) and one[1].holds(now)]
    if len(begins) < 8 or len(found) != 1:
        raise LookupError("There is no such key that holds.")
    if not by.may(found[0][1].role):
        raise PermissionError(f"A key of role {by.role} ends none of role {found[0][1].role}.")
    return found[0]


def revoke_key(db: Database, by: Key, tenant: str, begins: str, now: float) -> None:
    """End a key at once and for good; raises as :func:`find_key`."""
    hash_, _ = find_key(db, by, tenant, begins, now)
    db.execute("update keys set revoked = 1, ends = ? where hash = ?", (now, hash_))


def rotate_key(
    db: Database, by: Key, tenant: str, begins: str, now: float, grace: float
) -> tuple[str, str]:
    """Return a key's successor and its role; the old one holds on for ``grace`` seconds."""
    hash_, old = find_key(db, by, tenant, begins, now)
    if old.ends is not None:
        raise LookupError("It has a successor already.")
    db.execute("update keys set ends = ? where hash = ?", (now + grace, hash_))
    return add_key(db, tenant, old.role, old.label, now), old.role


def keys(db: Database) -> dict[str, Key]:
    """Return all keys by their hash."""
    rows = db.execute("select hash, tenant, role, label, created, ends, revoked from keys")
    return {row[0]: Key(*row[1:6], bool(row[6])) for row in rows}


def log_out(db: Database, session: str, ends: float, now: float) -> None:
    """Note that a session was ended before its time; every gateway hears of it."""
    db.execute("delete from logouts where ends < ?", (now - 86_400,))
    db.execute("insert into logouts values (?, ?) on conflict do nothing", (session, ends))
    touch(db)


def logouts(db: Database) -> set[str]:
    """Return the sessions that were ended before their time."""
    return {session for (session,) in db.execute("select session from logouts")}


# Changes ------------------------------------------------------------------------------


def revision(db: Database) -> int:
    """Return the number of changes to configuration and keys."""
    return db.execute("select number from revision").fetchone()[0]


def touch(db: Database) -> int:
    """Count a change; return the new revision.

    A change that depends on what it reads counts itself first: then no other process is between.
    """
    db.execute("update revision set number = number + 1")
    return revision(db)
