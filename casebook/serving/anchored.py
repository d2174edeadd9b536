"""A log that notices when its tail was cut off: its last row is kept, signed, in another place.

Examples
--------
>>> import tempfile
>>> from casebook.serving.log import Table
>>> tables, key = {"rows": Table({"number": "int"})}, Tokens(b"a key that is long enough")
>>> with tempfile.TemporaryDirectory() as folder:
...     given = {"anchor": f"{folder}/anchor", "sign": key}
...     log = AnchoredLog(f"{folder}/log", tables, **given)
...     made = log.append("rows", {"number": 7})
...     log.holds(1, made["hash"]), log.close()
(True, None)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from casebook.serving.log import Log, LogFailed, Table, chained
from casebook.serving.tokens import Tokens


class LogCut(RuntimeError):
    """Rows that were there when the anchor was kept are gone or others."""


class AnchoredLog(Log):
    """A log whose number of rows and last hash are kept, signed, in a file of their own.

    Parameters
    ----------
    path, tables, version, read_only, hook
        Of :class:`~casebook.serving.log.Log`, as are its errors.
    anchor : Path, optional
        File in which the number of rows and the last hash are kept after each row; best on
        another machine.
    sign : Tokens, optional
        Signs the anchor; needed with one.

    Raises
    ------
    LogCut
        When the file does not hold what its anchor says.
    """

    def __init__(
        self,
        path: str | Path,
        tables: Mapping[str, Table],
        *,
        version: int = 1,
        anchor: str | Path | None = None,
        sign: Tokens | None = None,
        read_only: bool = False,
        hook: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(path, tables, version=version, read_only=read_only, hook=hook)
        # Nobody else writes to it: a lock that somebody holds all the same is not waited for.
        self._db.execute("PRAGMA busy_timeout = 100")
        self._sign, self._kept, self._inode = sign, None, os.stat(path).st_ino
        if anchor is None:
            return
        if sign is None:
            raise ValueError("an anchor that nobody signs can be written anew: give a key.")
        try:
            self._check(Path(anchor))
            if not read_only:
                self._kept = os.open(anchor, os.O_RDWR | os.O_CREAT, 0o600)
                self._keep(*self.anchor())
        except BaseException:
            self.close()
            raise

    def _check(self, anchor: Path) -> None:
        """Refuse a file that lacks a row which was there when the anchor was kept."""
        if not anchor.exists() or not anchor.stat().st_size:  # killed while it was made
            if self.anchor().count:
                raise LogCut(f"{self.path} has rows and its anchor {anchor} is gone.")
            return
        text = anchor.read_text("ascii", errors="replace").split()
        if len(text) != 3 or not self._sign.signed(" ".join(text[:2]).encode(), text[2]):
            raise LogCut(f"The anchor {anchor} was not written with this key.")
        count, last = self.anchor().count, int(text[0])
        if count < last:
            raise LogCut(f"Rows {count + 1} to {last} of {self.path} were cut off.")
        if last and not self.holds(last, text[1]):
            raise LogCut(f"Row {last} of {self.path} is not what it was.")

    def holds(self, sequence: int, digest: str) -> bool:
        """Say whether a row is there, has this hash and is what the hash was made of."""
        query = "SELECT * FROM {} WHERE sequence = ?"
        with self._lock:
            found = {
                k: self._db.execute(query.format(k), (sequence,)).fetchone() for k in self.tables
            }
        rows = [(kind, dict(row)) for kind, row in found.items() if row is not None]
        return [(row.pop("hash"), chained(kind, row)) for kind, row in rows] == [(digest, digest)]

    def append(self, kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Write a row, as of the log, and keep the new anchor.

        Raises
        ------
        LogFailed
            As of the log, and when somebody has taken the file away. When the anchor cannot be
            kept the row is there all the same: look at :meth:`anchor` after a failure.
        """
        try:
            if os.stat(self.path).st_ino != self._inode:
                raise FileNotFoundError("another file has its name")
            made = super().append(kind, row)
            if self._kept is not None:
                self._keep(made["sequence"], made["hash"])
        except OSError as error:
            raise LogFailed(f"{self.path} or its anchor is not to be written: {error}.") from error
        return made

    def _keep(self, count: int, digest: str) -> None:
        what = f"{count:012d} {digest}"
        os.pwrite(self._kept, f"{what} {self._sign.sign(what.encode())}\n".encode(), 0)

    def close(self) -> None:
        """Close the files and let another writer in."""
        super().close()
        if getattr(self, "_kept", None) is not None:
            os.close(self._kept)
            self._kept = None
