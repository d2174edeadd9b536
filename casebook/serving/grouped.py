"""A database that an event loop can use: one thread writes, and commits what has gathered.

A request must not hold up the loop while a disk works, and a commit costs the same for one change
as for a hundred (*group commit*). An operation is a function of the database. All that wait are
done in one transaction, each in a savepoint of its own: one that fails is undone alone. An answer
is given only when everything is on disk.

A connection can die between a commit and its answer. So each group leaves its number, in the same
transaction: a group that is tried again and finds its number there was committed, and is not done
twice. Groups of several processes take rows in the order of their operations' ``order``, so that
two of them do not wait for each other.

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
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from os.path import samestat
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar
from uuid import uuid4

Result = TypeVar("Result")
#: A function of a database and of what else it is given.
Operation = Callable[..., Result]
#: Operations of one commit, and how often a group is tried.
GROUP, TRIES = 200, 3
#: The last group that each writer committed.
GROUPS = "create table if not exists groups_done (writer text primary key, number bigint not null);"
MARK = (
    "insert into groups_done values (?, ?) on conflict (writer)"
    " do update set number = excluded.number where groups_done.number < excluded.number"
)


class StoreDown(RuntimeError):
    """The database did not answer; nothing was done, unless its last commit got through."""


class Database(Protocol):
    """What operations are given: ``execute`` with ``?`` for values, which returns a cursor."""

    errors: tuple[type[Exception], ...]
    fatal: tuple[type[Exception], ...]
    begin: str
    alone: tuple[str, ...]

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run a statement."""

    def check(self) -> None:
        """Raise one of ``errors`` if what is written now could not be found again."""

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
    alone = (begin,)

    def __init__(self, path: Path | str, durable: bool = True) -> None:
        self._path = None if str(path) == ":memory:" else Path(path)
        if self._path:
            self._path.touch(0o600)
            self._file = self._path.stat()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.execute = self._db.execute
        self.execute("pragma journal_mode = wal")
        self.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
        self.execute("pragma busy_timeout = 5000")

    def check(self) -> None:
        """Refuse to write into a file that was deleted, or that another one has replaced."""
        if self._path and not (self._path.exists() and samestat(self._path.stat(), self._file)):
            raise sqlite3.OperationalError(f"{self._path} is not the file that was opened")

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
    alone = (begin, "select pg_advisory_xact_lock(20)")

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

    def check(self) -> None:
        """Have nothing to check: a server keeps its files."""

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
        self.database, self.commits, self._writer, self._number = database, 0, uuid4().hex, 0
        made = filter(str.strip, (GROUPS + schema).split(";"))
        for statement in (*database.alone, *made, "commit"):
            database.execute(statement)
        self._asked: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[Result], *given: Any, order: str = "") -> Future[Result]:
        """Let the thread do an operation; its future fails with what the operation raises.

        Parameters
        ----------
        operation : callable
        *given
        order : str
            Its place in a group, such as the name of the client whose rows it changes.

        Raises
        ------
        StoreDown
            From the future, when the database failed.
        """
        future: Future = Future()
        self._asked.put((order, operation, given, future))
        return future

    async def do(self, operation: Operation[Result], *given: Any, order: str = "") -> Result:
        """Do an operation without holding up the event loop.

        A task that is cancelled while it waits does not take its operation back.
        """
        return await asyncio.shield(
            asyncio.wrap_future(self.submit(operation, *given, order=order))
        )

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
            asked = [one for one in group if one is not None]
            self._commit(sorted(asked, key=lambda one: one[0]))

    def _commit(self, group: list[tuple[str, Operation, tuple, Future]]) -> None:
        """Do operations in one transaction; answer them only when it is on disk."""
        self._number, done = self._number + 1, []
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                self._once(group, done)
                self.commits += 1
                break
            except self.database.errors as error:  # also where two processes wait for each other
                self._undo()
                if last:
                    down = StoreDown(f"The store failed ({type(error).__name__}). Try again later.")
                    done = [(None, down)] * len(group)
        for (*_, future), (value, failed) in zip(group, done, strict=True):
            future.set_exception(failed) if failed else future.set_result(value)

    def _once(self, group: list[tuple[str, Operation, tuple, Future]], done: list) -> None:
        """Do a group and commit it; if its number is there, only its commit's answer was lost."""
        self.database.check()
        self.database.execute(self.database.begin)
        if self.database.execute(MARK, (self._writer, self._number)).rowcount:
            done[:] = [self._alone(operation, given) for _, operation, given, _ in group]
        self.database.execute("commit")

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
