"""A database that an event loop can use: one thread writes, and commits what has gathered.

A request must not hold up the loop while a disk works, and a commit costs the same for one change
as for a hundred (*group commit*). An operation is a function of the database. All that wait are
done in one transaction, each in a savepoint of its own: one that fails is undone alone. An answer
is given only when everything is on disk. Each commit carries a number: where a connection breaks
before a commit is confirmed, the number says whether it took effect, and nothing is done twice. A
group that fails (two processes may wait for each other's rows) is done again one by one.

SQLite is embedded; :class:`Postgres` serves the same operations for several processes, as far as
their SQL is common to both.

Examples
--------
>>> grouped = Grouped(Sqlite(":memory:"), "create table seen (name text primary key)")
>>> def add(db, name):
...     db.execute("insert into seen values (?)", (name,))
>>> futures = [grouped.submit(add, name) for name in ("a", "b", "a")]
>>> [future.exception() is None for future in futures]
[True, True, False]
>>> grouped.close()
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
#: A function of a database and of what else it is given.
Operation = Callable[..., Result]
#: Operations of one commit, and how often a single one is tried.
GROUP, TRIES = 200, 2
#: The last commit of each process.
COMMITS = "create table if not exists commits (who text primary key, number bigint not null)"


class StoreDown(RuntimeError):
    """The database did not take an operation; nothing of it was kept."""


class Database(Protocol):
    """What operations are given: ``execute`` with ``?`` for values, which returns a cursor."""

    errors: tuple[type[Exception], ...]
    fatal: tuple[type[Exception], ...]
    begin: str

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run a statement."""

    def rollback(self) -> None:
        """Undo a transaction, if one is open."""

    def close(self) -> None:
        """Close the connection."""


class Sqlite:
    """A file, of mode 600 when it is new, or ``":memory:"``.

    Parameters
    ----------
    path : Path or str
    durable : bool
        Whether a commit waits for the disk. Without it a killed process loses nothing, and a
        machine without power may lose its last commits.
    """

    errors, fatal, begin = (sqlite3.Error,), (sqlite3.OperationalError,), "begin immediate"

    def __init__(self, path: Path | str, durable: bool = True) -> None:
        if str(path) != ":memory:":
            Path(path).touch(0o600)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.execute = self._db.execute
        self.execute("pragma journal_mode = wal")
        self.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
        self.execute("pragma busy_timeout = 5000")

    def rollback(self) -> None:
        """Undo a transaction, if one is open."""
        if self._db.in_transaction:
            self._db.execute("rollback")

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


class Postgres:
    """A PostgreSQL server; needs psycopg, and connects again when the server was away.

    Parameters
    ----------
    url : str
        ``postgresql://...``
    """

    begin = "begin"

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise ImportError("PostgreSQL needs psycopg: pip install 'psycopg[binary]'.") from None
        self._psycopg, self._url, self._db = psycopg, url, None
        self.errors, self.fatal = (psycopg.Error,), (psycopg.OperationalError,)

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run a statement."""
        if self._db is None or self._db.closed:
            self._db = self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        return self._db.execute(sql.replace("%", "%%").replace("?", "%s"), values)

    def rollback(self) -> None:
        """Undo a transaction, if one is open."""
        if self._db is not None and not self._db.closed:
            self._db.rollback()

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            self._db.close()


class Grouped:
    """A database that one thread of this process uses.

    Parameters
    ----------
    database : Database
    schema : str
        Statements that make what is not there yet, with semicolons between them.

    Attributes
    ----------
    commits : int
        Transactions so far.
    """

    def __init__(self, database: Database, schema: str) -> None:
        self.database, self.commits, self._who = database, 0, uuid.uuid4().hex
        for statement in (COMMITS, *filter(str.strip, schema.split(";"))):
            database.execute(statement)
        self._asked: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

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

        A task that is cancelled while it waits does not take its operation back.
        """
        return await asyncio.shield(asyncio.wrap_future(self.submit(operation, *given)))

    def close(self) -> None:
        """Do what was asked so far, and end."""
        self._asked.put(None)
        self._thread.join()
        self.database.close()

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

    def _commit(self, group: list[tuple[Operation, tuple, Future]]) -> bool:
        """Do operations in one transaction; answer them only when it is on disk."""
        for last in (False,) * (TRIES - 1) + (True,):
            done: list = []
            try:
                self._together(group, done)
                break
            except self.database.errors as error:
                self._undo()
                if len(done) == len(group) and self._took_effect():
                    break
                if len(group) > 1:  # one by one; where the first one fails, the database is down
                    alive = True
                    for one in group:
                        alive = self._commit([one]) if alive else self._fail(one, error)
                    return alive
                if last:
                    return self._fail(group[0], error)
        self.commits += 1
        for (_, _, future), (value, failed) in zip(group, done, strict=True):
            future.set_exception(failed) if failed else future.set_result(value)
        return True

    def _together(self, group: list[tuple[Operation, tuple, Future]], done: list) -> None:
        """Do operations in one transaction; ``done`` is told what each of them came to."""
        self.database.execute(self.database.begin)
        made = [self._alone(operation, given) for operation, given, _ in group]
        self.database.execute(
            "insert into commits values (?, ?)"
            " on conflict (who) do update set number = excluded.number",
            (self._who, self.commits + 1),
        )
        done += made
        self.database.execute("commit")

    def _took_effect(self) -> bool:
        """Say whether a commit was done whose confirmation is missing."""
        try:
            found = self.database.execute("select number from commits where who = ?", (self._who,))
            return (found.fetchone() or (0,))[0] == self.commits + 1
        except self.database.errors:
            return False

    def _fail(self, one: tuple[Operation, tuple, Future], error: Exception) -> bool:
        down = StoreDown(f"The store failed ({type(error).__name__}). Try again later.")
        one[2].set_exception(down)
        return False

    def _undo(self) -> None:
        with suppress(*self.database.errors):  # without a connection there is no transaction
            self.database.rollback()

    def _alone(self, operation: Operation, given: tuple) -> tuple[Any, BaseException | None]:
        """Do one operation; undo it if it raises."""
        self.database.execute("savepoint alone")
        try:
            value, failed = operation(self.database, *given), None
        except self.database.fatal:
            raise  # the database's fault: it concerns all of them
        except Exception as error:
            self.database.execute("rollback to savepoint alone")
            value, failed = None, error
        self.database.execute("release savepoint alone")
        return value, failed
