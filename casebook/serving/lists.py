"""Lists that a night stores for rows of users or items, and that a service falls back to by day.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> items, scores = {"mail": np.array([[4, 2, 7]])}, {"mail": np.ones((1, 3))}
>>> made = Lists(pd.Timestamp("2025-01-02"), items, scores)
>>> made.save(Path(folder.name) / "lists")
>>> kept = Lists.load(Path(folder.name) / "lists")
>>> kept.digest() == made.digest(), kept.valid(pd.Timestamp("2025-01-04 00:01"))
(True, False)
>>> stock = np.array([True, True, False, True, True, True, True, True])
>>> kept.take("mail", 0, stock, 2), kept.take("mail", 5, stock, 2)
([4, 7], [])
>>> filled([4], [4, 5, 2, 3], count=3, kind="aaaabbbb", cap=1), filled([], [4, 5], 2, "aaaabb", 1)
([4, 2, 5], [4, 5])
>>> [len(rows) for rows in blocks(600)]
[256, 256, 88]
>>> folder.cleanup()
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from casebook.project import write_whole
from casebook.serving.nights import climb

if TYPE_CHECKING:
    from distributed import Client

#: Rows of a block, how long lists may be used, and the share of them that may be empty.
BLOCK, VALID, EMPTY = 256, pd.Timedelta(hours=48), 0.1


@dataclass(frozen=True)
class Lists:
    """Lists of a night.

    Attributes
    ----------
    made : Timestamp
    items, scores : dict of str to ndarray, shape (n, k)
        By kind of list, a row for each user or item; −1 is an empty place.
    """

    made: pd.Timestamp
    items: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]

    def digest(self) -> str:
        """Return a hash of all items and scores, to the last bit."""
        found = hashlib.sha256()
        for surface in sorted(self.items):
            for part in (self.items[surface], self.scores[surface]):
                found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    def valid(self, now: pd.Timestamp) -> bool:
        """Return whether the lists may still be used."""
        return pd.Timedelta(0) <= now - self.made <= VALID

    def take(self, surface: str, row: int, stock: np.ndarray, count: int) -> list[int]:
        """Return the first items of a list that are in stock now; empty for an unknown row."""
        rows = self.items.get(surface, np.empty((0, 1), int))
        if not 0 <= row < len(rows):
            return []
        kept = rows[row]
        if kept.dtype.kind not in "iu":  # a night that went wrong: nothing is better
            return []
        kept = kept[(kept >= 0) & (kept < len(stock))]  # a night may know newer items
        return kept[stock[kept]][:count].tolist()

    def save(self, path: Path) -> None:
        """Write the lists; a reader sees the old file or the new one."""
        held, arrays = io.BytesIO(), {"made": np.array(self.made.value)}
        for surface in self.items:
            arrays[f"items_{surface}"] = self.items[surface]
            arrays[f"scores_{surface}"] = self.scores[surface]
        np.savez(held, **arrays)
        body = held.getvalue()
        write_whole(Path(path), hashlib.sha256(body).digest() + body)

    @staticmethod
    def load(path: Path) -> Lists:
        """Read lists.

        Raises
        ------
        ValueError
            If there is no file, or it is not whole.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"no lists in {path} ({type(error).__name__}): run a night") from None
        if len(raw) < 32 or hashlib.sha256(raw[32:]).digest() != raw[:32]:
            raise ValueError(f"{path} was cut off or altered: run the night again")
        with np.load(io.BytesIO(raw[32:])) as kept:
            surfaces = [name[6:] for name in kept.files if name.startswith("items_")]
            items = {name: kept[f"items_{name}"] for name in surfaces}
            if odd := [name for name in surfaces if items[name].dtype.kind not in "iu"]:
                raise ValueError(f"{path}: {odd[0]} has no whole numbers: run the night again")
            scores = {name: kept[f"scores_{name}"] for name in surfaces}
            return Lists(pd.Timestamp(int(kept["made"])), items, scores)


def blocks(n: int) -> list[np.ndarray]:
    """Return the rows of each block: the same for any number of workers.

    Sums of a matrix product depend on its shape in the last bit, and a tie may then fall the other
    way: equal blocks make equal lists.
    """
    return [np.arange(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]


def in_blocks(
    block: Callable[[Any, str, np.ndarray], tuple[np.ndarray, np.ndarray]],
    held: Any,
    sizes: Mapping[str, int],
    client: Client | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Make the lists of all rows, block by block, here or on workers: equal to the last bit.

    Parameters
    ----------
    block : callable
        From ``held``, a kind of list and some rows to items and scores, shape (rows, k).
    held : object
        What all blocks need; it is sent to each worker once.
    sizes : mapping of str to int
        Rows by kind; a kind without rows has no lists.
    client : distributed.Client, optional

    Examples
    --------
    >>> def block(held, kind, rows):
    ...     return rows[:, None] + held, rows[:, None]
    >>> in_blocks(block, 5, {"a": 2})["a"][0].tolist()
    [[5], [6]]
    """
    jobs = [(kind, rows) for kind, n in sizes.items() for rows in blocks(n)]
    if client is None:
        parts = [block(held, kind, rows) for kind, rows in jobs]
    else:
        # A key of its own: one made of the content may be that of a night that is just forgotten.
        [there] = client.scatter([held], broadcast=True, hash=False)
        parts = client.gather([client.submit(block, there, *job, pure=False) for job in jobs])
    made = {}
    for kind in sizes:
        mine = [part for part, (k, _) in zip(parts, jobs, strict=True) if k == kind]
        if mine:
            items, scores = zip(*mine, strict=True)
            made[kind] = np.concatenate(items), np.concatenate(scores)
    return made


def filled(
    there: Sequence[int],
    more: Iterable[int],
    count: int,
    kind: Sequence | np.ndarray | None = None,
    cap: int = 3,
) -> list[int]:
    """Return a list that others fill, so that it has at most ``cap`` items of a kind.

    Parameters
    ----------
    there : sequence of int
        Items that stay, whatever their kind.
    more : iterable of int
        The best first; one that is there already is left out.
    count : int
    kind : sequence, optional
        Of each item, such as its brand. What is beyond the cap comes last, where nothing else is.
    cap : int
    """
    made, late = [*there][:count], []
    held = Counter() if kind is None else Counter(kind[i] for i in made)
    for item in more:
        if len(made) == count:
            break
        if item in made or item in late:
            continue
        if kind is not None and held[kind[item]] >= cap:
            late.append(item)
            continue
        made.append(item)
        if kind is not None:
            held[kind[item]] += 1
    return made + late[: count - len(made)]


def wrong(items: np.ndarray, scores: np.ndarray, stock: np.ndarray, n: int) -> str:
    """Return what is wrong with lists, or ""."""
    if items.ndim != 2 or items.shape != scores.shape or len(items) != n:
        return f"{items.shape} items and {scores.shape} scores for {n} rows"
    if items.dtype.kind not in "iu":
        return f"the items are {items.dtype}, not whole numbers"
    there = items >= 0
    if (items >= len(stock)).any() or not stock[items[there]].all():
        return "an item is sold out or not in the shop"
    ordered = np.sort(np.where(there, items, -1 - np.arange(items.shape[1])), axis=1)
    if (np.diff(ordered, axis=1) == 0).any():
        return "an item stands twice on a list"
    if not np.isfinite(scores[there]).all():
        return "a score is no number"
    empty = 1.0 - there[:, :1].sum() / max(n, 1)
    return f"{empty:.0%} of the lists are empty" if n and empty > EMPTY else ""


def run_night(path: Path, make: Callable[[], Lists], now: pd.Timestamp) -> tuple[Lists, str]:
    """Make tonight's lists and store them, or go on with yesterday's while they are valid.

    Parameters
    ----------
    path : Path
        Of the stored lists.
    make : callable
        Returns :class:`Lists`, or raises.
    now : Timestamp

    Returns
    -------
    lists : Lists
    why : str
        Why tonight's could not be made, or "".

    Raises
    ------
    NightFailed
        If there are none of the last 48 hours either: send no mail.
    """
    reason = ""

    def tonight(_: str) -> Lists:
        lists = make()
        if not lists.valid(now):  # what is stored stays: it may still serve
            raise ValueError(f"it made lists of {lists.made} at {now}: set the clock right")
        lists.save(path)
        return lists

    def yesterday(why: str) -> Lists:
        nonlocal reason
        reason, lists = why, Lists.load(path)
        if not lists.valid(now):
            raise ValueError(f"the lists of {lists.made} are not of the 48 hours before {now}")
        return lists

    return climb((now - pd.Timestamp(0)).days, {"tonight": tonight, "yesterday": yesterday}), reason
