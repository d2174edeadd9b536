"""An audit log: rows that are only ever added to one file, each chained to the one before.

One SQLite file holds the tables of :class:`Log`. Their rows share one count, ``sequence``, and one
chain: each row carries the SHA-256 of its own values and of the hash before it, so that a row that
was changed, taken out or put in is found by :meth:`Log.verify`. Triggers refuse UPDATE, DELETE and
REPLACE to everyone who has not removed them.

A row is on disk when ``append`` returns (write-ahead log, ``synchronous=FULL``: SQLite, *PRAGMA
synchronous*), and it was read back: a trigger that swallows or changes it is noticed at once.
What the chain alone cannot show: rows cut off at the end, or a file written anew by someone who
computes all hashes again. Keep :meth:`Log.anchor` in another place and give it to ``verify``.

Examples
--------
>>> import tempfile, pathlib
>>> folder = tempfile.TemporaryDirectory()
>>> tables = {"loans": Table({"id": "int", "asked": "json", "rate": "float?"}, once=("id",))}
>>> with Log(pathlib.Path(folder.name) / "log.sqlite", tables) as log:
...     first = log.append("loans", {"id": 7, "asked": {"euro": 900}, "rate": None})
...     kept = log.anchor()
...     log.find("loans", id=7) == [first], kept.count, log.verify(kept).rows
(True, 1, 1)
>>> first["asked"], first["sequence"]
({'euro': 900}, 1)
>>> folder.cleanup()
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

#: The hash before the first row.
GENESIS = "0" * 64
#: What the log adds to each row.
CHAIN = ("sequence", "previous", "hash")
#: Kinds of a column: its type in SQLite, and what makes a Python value one of it.
_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "int": ("INTEGER", int),
    "float": ("REAL", lambda value: None if math.isnan(value) else float(value)),
    "text": ("TEXT", str),
    "json": ("TEXT", lambda value: canonical(value)),
}


class LogFailed(RuntimeError):
    """A row could not be written: nothing may be told as if it had been."""


class LogBusy(RuntimeError):
    """Another process writes to the same file."""


class Anchor(NamedTuple):
    """How many rows a log has, and the hash of the last one: what to keep in another place."""

    count: int
    hash: str


@dataclass(frozen=True)
class Verified:
    """What :meth:`Log.verify` found; true when nothing is wrong.

    Attributes
    ----------
    rows : int
        Rows that were checked before the first fault.
    fault : str
        Empty, or what is wrong and where.
    """

    rows: int
    fault: str = ""

    def __bool__(self) -> bool:
        return not self.fault


@dataclass(frozen=True)
class Table:
    """A table of a log.

    Attributes
    ----------
    columns : mapping of str to str
        Name → ``int``, ``float``, ``text`` or ``json``, with a ``?`` behind it where a value may
        be None.
    once : sequence of str
        Columns, or several joined by ``", "``, whose values may occur once.
    """

    columns: Mapping[str, str]
    once: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, kind in self.columns.items():
            if not name.isidentifier() or name in CHAIN or kind.removesuffix("?") not in _KINDS:
                raise ValueError(
                    f"column {name!r} of kind {kind!r}: give a name that is an identifier and none "
                    f"of {', '.join(CHAIN)}, and one of {', '.join(_KINDS)}, with a ? if it may be "
                    "None."
                )
        for key in self.once:
            if unknown := set(key.split(", ")) - set(self.columns):
                raise ValueError(f"once names {', '.join(sorted(unknown))}: no such column.")

    def stored(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as SQLite keeps it."""
        if wrong := set(row) ^ set(self.columns):
            raise ValueError(
                f"{', '.join(sorted(wrong))}: a row has the columns {', '.join(self.columns)}, "
                "no more and no less."
            )
        return {
            name: None if row[name] is None else _KINDS[kind.removesuffix("?")][1](row[name])
            for name, kind in self.columns.items()
        }

    def loaded(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as it was given, from what SQLite keeps."""
        texts = {n for n, kind in self.columns.items() if kind.startswith("json")}
        return {n: json.loads(v) if n in texts and v is not None else v for n, v in row.items()}

    def statements(self, name: str) -> dict[str, str]:
        """Return the SQL that makes the table and its guards, by name."""
        types = {c: _KINDS[k.removesuffix("?")][0] for c, k in self.columns.items()}
        columns = [
            f'"{c}" {types[c]}{"" if k.endswith("?") else " NOT NULL"}'
            for c, k in self.columns.items()
        ]
        tail = "sequence INTEGER PRIMARY KEY, previous TEXT NOT NULL, hash TEXT NOT NULL"
        made = {name: f"CREATE TABLE {name} ({', '.join(columns)}, {tail}) STRICT"}
        for verb in ("UPDATE", "DELETE"):
            made[f"{name}_no_{verb.lower()}"] = (
                f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
                f"BEGIN SELECT RAISE(ABORT, 'the log is append-only: no {verb}'); END"
            )
        # REPLACE deletes without a trigger for it: what may occur once is looked up beforehand.
        for i, key in enumerate(("sequence", *self.once)):
            names = [f'"{column}"' for column in key.split(", ")]
            same = " AND ".join(f"{column} = NEW.{column}" for column in names)
            made[f"{name}_once_{i}"] = (
                f"CREATE TRIGGER {name}_once_{i} BEFORE INSERT ON {name} "
                f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {same}) "
                "BEGIN SELECT RAISE(ABORT, 'the log is append-only: it is there already'); END"
            )
            if i:
                made[f"{name}_key_{i}"] = (
                    f"CREATE UNIQUE INDEX {name}_key_{i} ON {name} ({', '.join(names)})"
                )
        return made


class Log:
    """Append rows to a file, find them again, and check that nobody changed them.

    Parameters
    ----------
    path : str or Path
        The file; it is made when it is not there, readable by its owner alone, as are SQLite's
        write-ahead log and ``<path>.lock`` beside it. The lock keeps a second writer out; the
        system frees it when a process ends.
    tables : mapping of str to Table
        By name, an identifier.
    version : int
        Of the tables, kept in the file; 1 or more.
    read_only : bool
        Only look: also while another process writes.
    hook : callable, optional
        Called with ``"before commit"`` and ``"after commit"``: where a test plants a crash.

    Raises
    ------
    FileNotFoundError
        When there is nothing to look at.
    LogBusy
        When another process, or another :class:`Log` of this one, writes to the file.
    ValueError
        When the file is of another version, or a table's name is none.
    """

    def __init__(
        self,
        path: str | Path,
        tables: Mapping[str, Table],
        *,
        version: int = 1,
        read_only: bool = False,
        hook: Callable[[str], None] | None = None,
    ) -> None:
        if version < 1 or not all(name.isidentifier() for name in tables):
            raise ValueError(f"version {version}, tables {', '.join(tables)}: give 1 or more, and "
                             "names that are identifiers.")  # fmt: skip
        self.path, self.tables, self.version = Path(path), dict(tables), version
        if read_only and not self.path.exists():
            raise FileNotFoundError(f"There is no log at {self.path}.")
        self._hook = hook or (lambda point: None)
        self._lock = threading.RLock()
        self._guard = None if read_only else _only_writer(self.path)
        try:
            if not read_only:
                _make_private(self.path)
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._open(read_only)
        except BaseException:
            self.close()
            raise

    def _open(self, read_only: bool) -> None:
        """Make the tables, or check their version, and find the last row."""
        self._db.execute("PRAGMA busy_timeout = 2000")
        if read_only:
            self._db.execute("PRAGMA query_only = ON")
        else:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not read_only:
            with _transaction(self._db):
                for statement in self._statements().values():
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {self.version}")
        elif version != self.version:
            raise ValueError(
                f"{self.path} has version {version} of the tables, this code writes "
                f"{self.version}. Start a new file, and keep the old one."
            )
        self._head = self._last()

    def close(self) -> None:
        """Close the file and let another writer in."""
        with self._lock:
            if hasattr(self, "_db"):
                self._db.close()
            if self._guard is not None:
                os.close(self._guard)
                self._guard = None

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads out for a block, such as a look and the row that depends on it."""
        with self._lock:
            yield

    # Rows -------------------------------------------------------------------------------------

    def append(self, kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Write a row: it is on disk when this returns.

        Parameters
        ----------
        kind : str
            Name of the table.
        row : mapping
            All its columns, as the table's kinds say.

        Returns
        -------
        dict
            The row as :meth:`find` returns it, with ``sequence``, ``previous`` and ``hash``.

        Raises
        ------
        LogFailed
            When it could not be written, or is not in the file as it was given.
        ValueError
            When there is no such table, or a column is missing or unknown.
        """
        table = self._table(kind)
        given = table.stored(row)
        with self._lock:
            made = given | {"sequence": self._head.count + 1, "previous": self._head.hash}
            made["hash"] = chained(kind, made)
            try:
                with _transaction(self._db):
                    before = self._db.total_changes
                    self._insert(kind, made)
                    self._check_inserted(kind, made, self._db.total_changes - before)
                    self._hook("before commit")
            except LogFailed:
                with suppress(sqlite3.Error):
                    self._head = self._last()  # a COMMIT that failed may have come through
                raise
            self._head = Anchor(made["sequence"], made["hash"])
            self._hook("after commit")
        return table.loaded(made)

    def _insert(self, kind: str, row: Mapping[str, Any]) -> None:
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
        self._db.execute(f"INSERT INTO {kind} ({names}) VALUES ({marks})", [*row.values()])

    def _check_inserted(self, kind: str, row: Mapping[str, Any], changes: int) -> None:
        """Refuse to commit when not one row more is there, or it is another."""
        query = f"SELECT * FROM {kind} WHERE sequence = ?"
        found = self._db.execute(query, (row["sequence"],)).fetchone()
        if changes != 1 or found is None or dict(found) != row:
            raise LogFailed(
                f"The log takes no row: {changes} rows of {self.path} changed and row "
                f"{row['sequence']} ({kind}) is {'another' if found else 'not there'}. Look for "
                "triggers that are not the log's with verify()."
            )

    def find(self, kind: str, **where: Any) -> list[dict[str, Any]]:
        """Return the rows of a table whose columns have the given values, in order."""
        table = self._table(kind)
        if unknown := set(where) - set(table.columns) - set(CHAIN):
            raise ValueError(f"{', '.join(sorted(unknown))}: {kind} has no such column.")
        same = " AND ".join(f'"{name}" = ?' for name in where) or "true"
        query = f"SELECT * FROM {kind} WHERE {same} ORDER BY sequence"
        with self._lock:
            return [table.loaded(dict(row)) for row in self._db.execute(query, [*where.values()])]

    def last(self, kind: str, by: str = "sequence") -> dict[str, Any] | None:
        """Return the row of a table with the largest value of a column; None of an empty one."""
        table = self._table(kind)
        if by not in {*table.columns, *CHAIN}:
            raise ValueError(f"{kind} has no column {by!r}.")
        query = f'SELECT * FROM {kind} ORDER BY "{by}" DESC, sequence DESC LIMIT 1'
        with self._lock:
            row = self._db.execute(query).fetchone()
        return None if row is None else table.loaded(dict(row))

    def count(self, kind: str) -> int:
        """Return the number of rows of a table."""
        self._table(kind)
        with self._lock:
            return self._db.execute(f"SELECT COUNT(*) FROM {kind}").fetchone()[0]

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield table and row in the order in which they were written, from one state of the file.

        Nothing can be written until the last one was taken.
        """
        for kind, row in self._stored():
            yield kind, self.tables[kind].loaded(row)

    # The whole file ---------------------------------------------------------------------------

    def anchor(self) -> Anchor:
        """Return how many rows there are and the last one's hash: (0, 64 zeros) without any.

        Kept in another place, it makes :meth:`verify` notice what the chain alone cannot.
        """
        with self._lock:
            return self._last()

    def verify(self, anchor: tuple[int, str] | None = None) -> Verified:
        """Check every row, the chain between them and the guards.

        Beside a running service, check through a log of its own with ``read_only=True``: this one
        writes nothing while it reads.

        Parameters
        ----------
        anchor : (int, str), optional
            An :meth:`anchor` that was kept elsewhere: rows up to it must be as they were then, and
            must all be there.
        """
        if fault := self._tampered_guard():
            return Verified(0, fault)
        previous, rows = GENESIS, 0
        for kind, row in self._stored():
            sequence = row["sequence"]
            if sequence != rows + 1:
                return Verified(rows, f"row {rows + 1} is missing before row {sequence}")
            if row["previous"] != previous:
                return Verified(rows, f"row {sequence} does not follow the row before it")
            previous = row.pop("hash")
            if previous != chained(kind, row):
                return Verified(rows, f"row {sequence} ({kind}) was changed")
            rows = sequence
            if anchor is not None and sequence == anchor[0] and previous != anchor[1]:
                return Verified(rows - 1, f"row {sequence} is not what it was when it was kept")
        if anchor is not None and rows < anchor[0]:
            return Verified(rows, f"rows {rows + 1} to {anchor[0]} were cut off")
        return Verified(rows)

    def _tampered_guard(self) -> str:
        """Return what is wrong with tables and triggers; empty when they are the log's own."""
        query = "SELECT name, type, tbl_name, sql FROM sqlite_master WHERE sql NOT NULL"
        with self._lock:
            found = {row["name"]: row for row in self._db.execute(query)}
        wanted = self._statements()
        for name, statement in wanted.items():
            if name not in found or found[name]["sql"] != statement:
                return f"table or guard {name} is missing or was changed"
        for name in found.keys() - wanted.keys():
            row = found[name]
            return f"the {row['type']} {name} on {row['tbl_name']} is not the log's"
        return ""

    def _statements(self) -> dict[str, str]:
        tables = [table.statements(name) for name, table in self.tables.items()]
        return {name: sql for statements in tables for name, sql in statements.items()}

    def _table(self, kind: str) -> Table:
        if kind not in self.tables:
            raise ValueError(f"There is no table {kind!r}: {', '.join(self.tables)}.")
        return self.tables[kind]

    def _stored(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield table and row as they are in the file, by sequence, from one state of it."""

        def read(kind: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
            for row in self._db.execute(f"SELECT * FROM {kind} ORDER BY sequence"):
                yield row["sequence"], kind, dict(row)

        with self._lock:
            self._db.execute("BEGIN")
            try:
                for _, kind, row in merge(*map(read, self.tables), key=lambda item: item[0]):
                    yield kind, row
            finally:
                self._db.execute("ROLLBACK")

    def _last(self) -> Anchor:
        heads = [
            self._db.execute(
                f"SELECT sequence, hash FROM {kind} ORDER BY sequence DESC LIMIT 1"
            ).fetchone()
            for kind in self.tables
        ]
        return max([Anchor(*row) for row in heads if row], default=Anchor(0, GENESIS))


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """BEGIN, COMMIT, and ROLLBACK when anything fails; SQLite's errors become LogFailed."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException as error:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise LogFailed(f"The log takes no row: {error}.") from error
        raise


def _make_private(path: Path) -> None:
    """Make the file, and keep it and what SQLite puts beside it to their owner."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    for suffix in ("", "-wal", "-shm"):  # SQLite makes new ones with the mode of the file
        with suppress(FileNotFoundError):
            os.chmod(f"{path}{suffix}", 0o600)


def _only_writer(path: Path) -> int | None:
    """Take the lock of a file's writer; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    guard = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(guard)
        raise LogBusy(
            f"Another process writes to {path}. What it appends would be missed here: run one, or "
            "look with read_only=True."
        ) from None
    return guard


# Hashes ----------------------------------------------------------------------------------------


def chained(kind: str, row: Mapping[str, Any]) -> str:
    """Return the hash of a row: of its table, its values and the hash before it."""
    return sha256(canonical([kind, dict(row)]))


def canonical(value: object) -> str:
    """Return JSON with sorted names and no spaces: one text for one value.

    A nan becomes null, an infinity the text ``"inf"`` or ``"-inf"``, a NumPy number a number.

    >>> canonical({"b": float("nan"), "a": (1, 2.5)})
    '{"a":[1,2.5],"b":null}'
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def _plain(value: Any) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    number = float(value)
    if math.isnan(number):
        return None
    return number if math.isfinite(number) else str(number)


def sha256(text: str) -> str:
    """Return the hexadecimal SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
