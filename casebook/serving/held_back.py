"""Rights that are lost at once and gained once the texts have caught up.

A page is cleaned of a secret and then shared with everybody. Rights come by a fast way, texts by a
slow one (they have to be read, cut and embedded): for some minutes everybody could read the old
page. The same happens when a folder moves, a denial is lifted, or somebody enters a group.

So two states of the rights are kept: the newest, and the one that was *settled* when all texts had
last caught up. Somebody sees what both allow. What is lost is lost at once, by whatever change;
what is gained is gained at :meth:`HeldBack.settle`, which whoever stores the texts calls after a
whole round. No rule has to tell a loss from a gain: to enter a group that is denied is a loss.

Examples
--------
>>> store = HeldBack(":memory:", clock=lambda: 1_000)
>>> with store.writing():
...     store.person("ann", since=0)
...     store.lies_in("page", "", item=True)
...     store.grants("page", {("ann", "allow")})
>>> store.sees("ann", ["page"]).tolist(), store.settle(), store.sees("ann", ["page"]).tolist()
([False], 3, [True])
>>> with store.writing():
...     store.grants("page", set())
>>> store.sees("ann", ["page"]).tolist()
[False]
"""

from __future__ import annotations

import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from casebook.serving.rights import NOWHERE, Rights, Sight, _keep

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS pending "
    "(n INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT, told TEXT)"
)
_PAIR = "CREATE TABLE IF NOT EXISTS pair (id TEXT NOT NULL)"
_FILLED = "SELECT EXISTS (SELECT 1 FROM resources WHERE id > 1) OR EXISTS (SELECT 1 FROM people)"


class HeldBack(Rights):
    """The store of rights with gains that wait.

    Parameters
    ----------
    path, clock, kept
        As of :class:`.Rights`; the settled state lies in a file beside it.

    Attributes
    ----------
    shut : bool
        Set while a loss is known that could not be written: nobody sees anything.

    Raises
    ------
    ValueError
        If one of the two files is lost or another's: nobody knows then what was settled.
    """

    def __init__(
        self, path: Path | str, clock: Callable[[], float] = time.time, kept: int = 512
    ) -> None:
        super().__init__(path, clock, kept)
        self._db.execute(_SCHEMA)
        beside = path if str(path) == ":memory:" else f"{path}.settled"
        self.settled = Rights(beside, lambda: self.clock(), kept)
        #: Whose changes are being written: those of a source wait for the texts of that source.
        self.source, self.shut = "", False
        self._pair()
        self._both: OrderedDict[tuple[str, str], Sight] = OrderedDict()

    def close(self) -> None:
        """Close both files."""
        super().close()
        self.settled.close()

    def _pair(self) -> None:
        """Give the two files one name, or refuse them if they have two."""
        stores = (self, self.settled)
        with self.writing(), self.settled.writing():
            for one in stores:
                one._db.execute(_PAIR)
            named = {one._db.execute("SELECT max(id) FROM pair").fetchone()[0] for one in stores}
            if len(named) == 1 and None not in named:
                return
            if any(one._db.execute(_FILLED).fetchone()[0] for one in stores) and named != {None}:
                raise ValueError(
                    "The file of rights and the settled one beside it do not belong together: "
                    "delete both, and feed them anew."
                )
            name = uuid.uuid4().hex
            for one in stores:
                one._db.execute("DELETE FROM pair")
                one._db.execute("INSERT INTO pair VALUES (?)", (name,))

    def heard(self) -> int:
        """Return a mark after all changes so far, for :meth:`settle`."""
        query = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'pending'"
        return self._db.execute(query).fetchone()[0]

    def settle(self, upto: int | None = None, but: Collection[str] = ()) -> int:
        """Let what was gained up to a mark hold; by default everything.

        Changes of the sources ``but`` go on waiting; those of two sources do not touch one another.

        Whoever calls says: all texts that were written before those changes are stored. Each change
        is settled once, in order, whoever calls and whatever is killed in between.

        Returns
        -------
        int
            Changes that were waiting.
        """
        query = "SELECT n, source, told FROM pending WHERE n <= ? ORDER BY n"
        with self.settled.writing():
            self._same_rows()
            rows = self._db.execute(query, (self.heard() if upto is None else upto,)).fetchall()
            rows = [row for row in rows if row[1] not in but]
            for n, source, told in rows:
                if not self.settled.newer("settled", source, n):
                    continue  # by another process, or before a kill
                name, given, more = json.loads(told)
                if name == "grants":
                    given[1] = {tuple(pair) for pair in given[1]}
                getattr(self.settled, name)(*given, **more)
        if rows:
            with self.writing():
                done = [(n,) for n, _, _ in rows]
                self._db.executemany("DELETE FROM pending WHERE n = ?", done)
        return len(rows)

    def _same_rows(self) -> None:
        """Give the resources of the settled state the rows that they have here."""
        known = self.settled._db.execute("SELECT MAX(id) FROM resources").fetchone()
        new = self._db.execute("SELECT id, name FROM resources WHERE id > ? ORDER BY id", known)
        add = "INSERT INTO resources VALUES (?, ?, ?, 0, 0, 0)"
        self.settled._db.executemany(add, [(row, name, NOWHERE) for row, name in new])

    def sight(self, name: str) -> Sight:
        """Return what somebody sees in the newest and in the settled state."""
        with self._lock:
            now = super().sight(name)
            if self.shut:
                return self._blank()
            if not self._db.execute("SELECT EXISTS (SELECT 1 FROM pending)").fetchone()[0]:
                return now
            then = self.settled.sight(name)
            key = f"{len(now.mask)} {now.fingerprint}", then.fingerprint
            if key not in self._both:
                known = min(len(now.mask), len(then.mask))
                mask = np.zeros(len(now.mask), bool)
                mask[:known] = now.mask[:known] & then.mask[:known]
                _keep(self._both, key, Sight(mask, now.editions), self._kept)
            return self._both[key]

    # Writing: each change is made and noted, in one transaction

    def person(self, name: str, since: float) -> None:
        """Let somebody be active from a second on."""
        super().person(name, since)
        self._note("person", name, since)

    def leaves(self, name: str, until: float) -> None:
        """Let somebody see nothing from a second on."""
        super().leaves(name, until)
        self._note("leaves", name, until)

    def members(self, group: str, members: Iterable[str]) -> None:
        """Let a group hold these principals directly, and no others."""
        members = sorted(members)
        super().members(group, members)
        self._note("members", group, members)

    def grants(self, resource: str, grants: set[tuple[str, str]]) -> None:
        """Let these be the grants of a resource."""
        super().grants(resource, grants)
        self._note("grants", resource, sorted(grants))

    def lies_in(
        self, resource: str, container: str | None, item: bool = False, edition: int = 0
    ) -> None:
        """Put a resource into a container; see :meth:`.Rights.lies_in`."""
        super().lies_in(resource, container, item, edition)
        self._note("lies_in", resource, container, item=item, edition=edition)

    def _note(self, name: str, *given: Any, **more: Any) -> None:
        told = json.dumps([name, given, more])
        self._db.execute("INSERT INTO pending (source, told) VALUES (?, ?)", (self.source, told))
