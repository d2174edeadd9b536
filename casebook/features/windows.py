"""Sums over trailing windows of a key: how often, how much, how risky, up to now.

All times become whole milliseconds and whole values stay whole numbers, so that the edge of a
window and a sum of cents are exact: the same number comes out event by event.

Examples
--------
Purchases of one card within a day before each of them, in cents:

>>> days = [0.0, 0.5, 1.5, 1.6]
>>> trailing([7, 7, 7, 7], days, [1000, 250, 400, 90], window=1.0).tolist()
[0.0, 1000.0, 0.0, 400.0]
>>> trailing([7, 7, 7, 7], days, [1, 1, 1, 1], window=(1.0, 7.0)).tolist()
[[0.0, 0.0], [1.0, 1.0], [0.0, 2.0], [1.0, 3.0]]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

#: Milliseconds of a day: the unit of all edges.
DAY = 86_400_000
#: Keys times milliseconds must fit into 64 bits.
_LARGEST = 2**62


def milliseconds(times: np.ndarray) -> np.ndarray:
    """Return moments as whole milliseconds.

    Parameters
    ----------
    times : array of datetime64, or of float
        Moments, or days since any start; rounded to the millisecond.

    Returns
    -------
    ndarray of int64

    Raises
    ------
    ValueError
        When a moment is missing or infinite.
    """
    times = np.asarray(times)
    if times.dtype.kind == "M":
        missing, whole = np.isnat(times), times.astype("datetime64[ms]").astype(np.int64)
    else:
        days = times.astype(float)
        missing = ~np.isfinite(days)
        whole = np.rint(np.where(missing, 0.0, days) * DAY).astype(np.int64)
    if missing.any():
        raise ValueError(f"row {int(missing.argmax())} has no time: every row needs one.")
    return whole


class Groups:
    """Rows of equal keys side by side, each group in its order: sorted once, asked often.

    Parameters
    ----------
    keys : array of int, shape (n,)
        −1 stands for no key.
    times : array of int64, shape (n,)
        Milliseconds, not falling.

    Attributes
    ----------
    order : ndarray of int64, shape (n,)
        Row at each sorted place.
    inverse : ndarray of int64, shape (n,)
        Sorted place of each row.
    times : ndarray of int64, shape (n,)
        By sorted place: milliseconds after the first row.
    group : ndarray of int64, shape (n,)
        By sorted place: number of its group.
    first, last : ndarray of int64, shape (n,)
        By sorted place: the first place of its group, and the one after its last.
    known : ndarray of bool, shape (n,)
        By sorted place: whether there is a key.
    """

    def __init__(self, keys: np.ndarray, times: np.ndarray):
        keys, times = np.asarray(keys), np.asarray(times)
        if keys.shape != times.shape or keys.ndim != 1:
            raise ValueError(f"{keys.shape} keys and {times.shape} times: give one of each a row.")
        if keys.dtype.kind not in "iu":
            raise ValueError(f"keys are {keys.dtype}, not whole numbers: factorise them first.")
        if (falls := np.flatnonzero(np.diff(times) < 0)).size:
            raise ValueError(
                f"the time falls at row {falls[0] + 1}: sort the rows in order of arrival first."
            )
        self.order = np.argsort(keys, kind="stable")
        ordered = keys[self.order]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
        sizes = np.diff(np.append(starts, len(keys)))
        self.first = np.repeat(starts, sizes)
        self.last = np.repeat(starts + sizes, sizes)
        self.known = ordered >= 0
        self.group = np.repeat(np.arange(len(starts)), sizes)
        self.times = times[self.order] - (times[0] if len(times) else 0)
        self._span = int(self.times.max(initial=0)) + 2
        if len(starts) * self._span > _LARGEST:
            raise ValueError(f"{len(starts)} keys over {self._span} ms do not fit into 64 bits.")
        self._line = self.group * self._span + self.times

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def inverse(self) -> np.ndarray:
        places = np.empty(len(self), np.int64)
        places[self.order] = np.arange(len(self))
        return places

    def place(
        self, times: np.ndarray, side: str = "left", group: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the place that each moment has in its group, as ``np.searchsorted`` does.

        Parameters
        ----------
        times : array of int64, shape (m,)
            On the scale of the attribute ``times``.
        side : "left" or "right"
        group : array of int64, shape (m,), optional
            Number of the group; by default that of each sorted place.
        """
        group = self.group if group is None else group
        clipped = np.clip(times, -1, self._span - 1)
        # One before the first moment of a group is the last of the group before: no row is there.
        return np.searchsorted(self._line, group * self._span + clipped, side=side)

    def place_of_row(self, group: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Return the first place of each group whose row is not before a given one."""
        size = len(self) + 1
        return np.searchsorted(self.group * size + self.order, group * size + row)

    def before(self, counted: np.ndarray) -> np.ndarray:
        """Return by sorted place that of the last counted row before it in its group, or −1.

        Parameters
        ----------
        counted : array of bool, shape (n,)
            By row.
        """
        places = np.where(counted[self.order], np.arange(len(self)), -1)
        last = np.append(-1, np.maximum.accumulate(places))[:-1]
        return np.where(last >= self.first, last, -1)

    def after(self, counted: np.ndarray) -> np.ndarray:
        """Return by sorted place that of the next counted row after it in its group, or n."""
        n = len(self)
        places = np.where(counted[self.order], np.arange(n), n)
        following = np.append(np.minimum.accumulate(places[::-1])[::-1], n)[1:]
        return np.where(following < self.last, following, n)

    def rows(self, sorted_values: np.ndarray) -> np.ndarray:
        """Return values by sorted place in the order of the rows; 0 where there is no key."""
        out = np.zeros(len(self.order), sorted_values.dtype)
        out[self.order] = np.where(self.known, sorted_values, 0)
        return out

    def sums(
        self, values: np.ndarray, window: float, delay: float = 0.0, include_current: bool = False
    ) -> np.ndarray:
        """Return the sums over one window, by row: see :func:`trailing`."""
        total = np.zeros(len(values) + 1, np.int64 if values.dtype.kind in "biu" else float)
        np.cumsum(values[self.order], out=total[1:])
        upper = self.times - _span(delay)
        if _span(delay):
            right = self.place(upper, side="right")
        else:
            right = np.arange(len(values)) + include_current
        left = self.first
        if np.isfinite(window):
            left = np.maximum(left, self.place(upper - _span(window), side="right"))
        return self.rows(total[right] - total[np.minimum(left, right)])


def trailing(
    keys: np.ndarray,
    times: np.ndarray,
    values: np.ndarray,
    window: float | Sequence[float],
    delay: float = 0.0,
    *,
    include_current: bool = False,
) -> np.ndarray:
    """Return sums over what came before, by key.

    For row i the sum of ``values`` over the rows j of the same key with
    ``t_i - delay - window < t_j <= t_i - delay``. Without a delay only rows before i in the order
    of the rows count, also where times are equal (and i itself if ``include_current``).

    Parameters
    ----------
    keys : array of int, shape (n,)
        −1 stands for no key: such a row gets 0 and counts nowhere.
    times : array of datetime64, or of float (days), shape (n,)
        Not falling. Rounded to the millisecond, as are window and delay: edges are exact.
    values : array, shape (n,)
        Whole numbers and booleans are summed exactly. Floats are differences of one cumulative
        sum, with its rounding (about 1e-16 of the sum of all rows): give cents, not euro.
    window : float or sequence of float
        Days; ``np.inf`` reaches back to the first row.
    delay : float
        Days.
    include_current : bool
        Count row i itself. Not with a delay.

    Returns
    -------
    ndarray of float64, shape (n,) or, for a sequence of windows, (n, windows)

    Raises
    ------
    ValueError
        When rows are not in order of time, lengths differ, a value is not finite, a key is no
        whole number, a window is not positive or the delay is negative.
    """
    values = np.asarray(values)
    windows = np.atleast_1d(np.asarray(window, float))
    if np.isnan(windows).any() or (windows <= 0).any():
        raise ValueError(f"a window of {windows.min()} days: windows are positive.")
    if not 0 <= delay < np.inf:
        raise ValueError(f"a delay of {delay} days would look ahead: it is zero or more.")
    if delay and include_current:
        raise ValueError(f"the current row lies outside of a window that ends {delay} days ago.")
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError("values are finite numbers: fill or drop the missing ones first.")
    if values.shape != np.shape(keys):
        raise ValueError(f"{values.shape} values for {np.shape(keys)} keys: give one a row.")
    groups = Groups(np.asarray(keys), milliseconds(times))
    sums = np.empty((len(values), len(windows)))
    for column, days in enumerate(windows):
        sums[:, column] = groups.sums(values, days, delay, include_current)
    return sums[:, 0] if np.ndim(window) == 0 else sums


def _span(days: float) -> int:
    """Return days as whole milliseconds."""
    return round(days * DAY)
