"""What is known of a key by the time of a row: who else used it, since when, what was found out.

All functions take rows that :class:`~casebook.features.windows.Groups` has sorted; 0 stands where a
row has no key. A mark (an outcome, a label) lies on one row and is *known* from a later one on.

Examples
--------
Three people pay with one phone; the first payment turns out to be a fraud while the third is made:

>>> groups = Groups(np.array([7, 7, 7]), np.array([0, 1000, 5000]))
>>> used = np.array([True, True, True])
>>> others(groups, np.array([1, 2, 1]), used, window=10_000).tolist()
[0, 1, 1]
>>> others(groups, np.array([1, 2, 1]), used, window=2_000).tolist()
[0, 1, 0]
>>> marks(groups, np.array([0]), visible(np.array([0, 1000, 5000]), np.array([0]), 3000)).tolist()
[0, 0, 1]
>>> lives(np.array([7, 7, 7]), np.array([0, 1000, 5000]), used, memory=4000).tolist()
[0, 0, 1]
"""

from __future__ import annotations

import numpy as np

from casebook.features.windows import Groups


def visible(times: np.ndarray, rows: np.ndarray, known: np.ndarray | int) -> np.ndarray:
    """Return the first row that sees each mark: one at or after ``known``, behind its own row.

    Parameters
    ----------
    times : array of int64, shape (n,)
        Milliseconds, not falling.
    rows : array of int, shape (m,)
        On which the marks lie.
    known : array of int64, shape (m,), or int
        When they became known, milliseconds.
    """
    return np.maximum(np.searchsorted(times, known), rows + 1)


def covering(groups: Groups, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return by row how many spans of sorted places, start included and end not, cover it."""
    holds = start < end
    size = len(groups) + 1
    change = np.bincount(start[holds], minlength=size) - np.bincount(end[holds], minlength=size)
    return groups.rows(np.cumsum(change)[:-1])


def marks(
    groups: Groups, rows: np.ndarray, first: np.ndarray, behind: int = 0, window: int | None = None
) -> np.ndarray:
    """Return by row how many marks of its key it sees.

    Parameters
    ----------
    groups : Groups
    rows, first : array of int, shape (m,)
        The row of each mark, and the first that sees it (:func:`visible`).
    behind, window : int
        Milliseconds: of the rows between ``behind + window`` and ``behind`` ago alone. Without a
        window of all.
    """
    place = groups.inverse[rows]
    group = groups.group[place]
    start, end = groups.place_of_row(group, first), groups.last[place]
    if window is not None:
        opens = groups.times[place] + behind
        start = np.maximum(start, groups.place(opens, group=group))
        end = groups.place(opens + window, group=group)
    return covering(groups, start, end)


def ages(groups: Groups, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by row the milliseconds since its key first counted, and whether it did before."""
    seen = groups.before(counted) >= 0
    begins = np.where(counted[groups.order] & ~seen, np.arange(len(groups)), 0)
    first = np.maximum.accumulate(begins)
    return groups.rows(np.where(seen, groups.times - groups.times[first], 0)), groups.rows(seen)


def others(groups: Groups, members: np.ndarray, counted: np.ndarray, window: int) -> np.ndarray:
    """Return by row the other members whose last counted use of its key lies within a window.

    Each use covers the rows after it until the member's next use takes over or the window (ms)
    has passed, whichever is first. These spans never overlap for one member, so that counting them
    counts members.
    """
    n, codes = len(groups), np.unique(members, return_inverse=True)[1]
    group, times = groups.group[groups.inverse], groups.times[groups.inverse]
    pairs = Groups(group * (codes.max(initial=0) + 1) + codes, times)
    after = pairs.after(counted)
    taken = np.full(n, n)
    taken[pairs.order] = np.where(after < n, pairs.order[np.minimum(after, n - 1)], n)
    takes_over = np.append(groups.inverse, n)[taken[groups.order]]
    ends = np.minimum(groups.place(groups.times + window), takes_over + 1)
    uses = np.flatnonzero(counted[groups.order] & groups.known)
    total = covering(groups, uses + 1, ends[uses])
    before = pairs.before(counted)
    own = (before >= 0) & (pairs.times - pairs.times[before] < window)
    return np.where(groups.rows(groups.known), total - pairs.rows(own), 0)


def lives(keys: np.ndarray, times: np.ndarray, counted: np.ndarray, memory: int) -> np.ndarray:
    """Return other keys, under which a key that was forgotten begins anew.

    Parameters
    ----------
    keys : array of int, shape (n,)
        −1, which stays, is no key.
    times : array of int64, shape (n,)
        Milliseconds, not falling.
    counted : array of bool, shape (n,)
        Which rows a store would remember.
    memory : int
        Milliseconds after its last counted row at which a store forgets a key.
    """
    groups = Groups(keys, times)
    before = groups.before(counted)
    ended = (before >= 0) & (groups.times - groups.times[before] >= memory)
    begins = ended | (groups.first == np.arange(len(groups)))
    return np.where(np.asarray(keys) < 0, -1, groups.rows(np.cumsum(begins) - 1))
