"""Tables of a store, with types: times as whole seconds since 1970, numbers as floats.

Examples
--------
>>> db = sqlite3.connect(":memory:")
>>> _ = db.execute("CREATE TABLE load (hub, hours, at, PRIMARY KEY (hub, at))")
>>> noon = seconds(pd.Timestamp("2025-10-07 12:00"))
>>> put(db, "load", ("A", 3, noon), ["hub", "at"]), put(db, "load", ("A", 3, noon), ["hub", "at"])
(True, False)
>>> put(db, "load", ("A", 4, noon), ["hub", "at"])
Traceback (most recent call last):
...
casebook.serving.consumer.Refused: differs from what came first: ('A', 4, 1759838400), first ...
>>> frame(db, "SELECT * FROM load", numbers=["hours"], times=["at"]).values.tolist()
[['A', 3.0, Timestamp('2025-10-07 12:00:00')]]
>>> db.execute(f"SELECT count(*) FROM load WHERE hub IN {among(['A', 'B'])}", ["A", "B"]).fetchone()
(1,)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

import pandas as pd

from casebook.serving.consumer import Refused, Store


def seconds(moment: datetime) -> int:
    """Return a time as a store keeps it: whole seconds since 1970."""
    return int((pd.Timestamp(moment) - pd.Timestamp(0)).total_seconds())


def iso(second: float) -> str:
    """Return seconds since 1970 as a time in UTC, such as 2025-10-07T12:00:00Z."""
    return pd.Timestamp(round(second), unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")


def among(values: Collection[object]) -> str:
    """Return the marks of a query's ``IN``, one for each value."""
    return f"({', '.join('?' * len(values))})"


def typed(table: pd.DataFrame, numbers: Collection[str], times: Collection[str]) -> pd.DataFrame:
    """Give those of the columns that are there their types, also where the table is empty."""
    for name in {*numbers} & {*table}:
        table[name] = table[name].astype(float)
    for name in {*times} & {*table}:
        table[name] = pd.to_datetime(table[name].astype("int64"), unit="s").astype("datetime64[s]")
    return table


def frame(
    db: sqlite3.Connection,
    query: str,
    given: Sequence[object] = (),
    numbers: Collection[str] = (),
    times: Collection[str] = (),
) -> pd.DataFrame:
    """Return what a query finds as a table, as of :func:`typed`."""
    return typed(pd.read_sql_query(query, db, params=list(given)), numbers, times)


def joined(before: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return a table with new rows; an empty one has no types that could be kept."""
    return pd.concat([before, new], ignore_index=True) if len(before) else new


def contents(store: Store, table: str, keys: int) -> list[tuple]:
    """Return the rows of a table by its first columns, to compare two stores."""
    order = ", ".join(str(k + 1) for k in range(keys))
    return store.all(f"SELECT * FROM {table} ORDER BY {order}")


def put(db: sqlite3.Connection, table: str, row: Sequence[object], keys: Sequence[str]) -> bool:
    """Insert a row and return whether it is new.

    Parameters
    ----------
    db : Connection
    table : str
        Its primary key are the ``keys``.
    row : sequence
        A value for each column, in order.

    Raises
    ------
    Refused
        If the table has the key with other content: the first one counts.
    """
    query = f"INSERT INTO {table} VALUES {among(row)} ON CONFLICT DO NOTHING"
    if db.execute(query, row).rowcount == 1:
        return True
    names = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    same = " AND ".join(f"{key} = ?" for key in keys)
    query = f"SELECT * FROM {table} WHERE {same}"
    stored = db.execute(query, [row[names.index(key)] for key in keys]).fetchone()
    if tuple(stored) != tuple(row):
        raise Refused(f"differs from what came first: {tuple(row)}, first {tuple(stored)}")
    return False
