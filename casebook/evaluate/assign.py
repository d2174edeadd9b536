"""Which user sees which arm: a salted hash, the same in the world, on the page and in the service.

An assignment is computed, never stored: whoever knows the user, the salt and the shares gets the
same arm, in any process and in any language. Each experiment has a salt of its own, so that the
arms of two experiments are independent of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd

from casebook.evaluate.experiments import adjusted, srm

#: A share of the users is a whole number of these.
BUCKETS = 10_000
CONTROL, TREATMENT, REST = "control", "treatment", "rest"
#: By what a broken split is searched.
SEGMENTS = ("platform", "client", "country")


def bucket(user: str, salt: str) -> int:
    """Return the bucket of a user in an experiment, from 0 to 9,999.

    Parameters
    ----------
    user : str
        Id of the unit that is randomised.
    salt : str
        Of the experiment.

    Examples
    --------
    >>> bucket("u0000042", "new_feed")
    3877
    >>> bucket("u0000042", "another_experiment")
    3020
    """
    return int(buckets([user], salt)[0])


def ends(shares: Mapping[str, float]) -> dict[str, int]:
    """Return the bucket at which each arm ends, in the order of the shares.

    Raises
    ------
    ValueError
        If a share is not positive or finer than a bucket, or they do not sum to one.
    """
    wrong = not all(0 < share <= 1 for share in shares.values())
    wrong = wrong or not all(arm.isascii() and 0 < len(arm) <= 40 for arm in shares)
    counts = {} if wrong else {arm: round(share * BUCKETS) for arm, share in shares.items()}
    fine = any(abs(shares[arm] * BUCKETS - n) > 1e-6 for arm, n in counts.items())
    if fine or sum(counts.values()) != BUCKETS:
        raise ValueError(
            f"The shares {dict(shares)} must be positive, of arms with a short plain name, whole "
            f"multiples of 1/{BUCKETS:,} and sum to 1."
        )
    return dict(zip(counts, np.cumsum([*counts.values()]).tolist(), strict=True))


def arm_of(user: str, salt: str, shares: Mapping[str, float]) -> str:
    """Return the arm of one user.

    Parameters
    ----------
    user, salt : str
        As for :func:`bucket`.
    shares : mapping of str to float
        Arm → share of the users; the order determines who gets which.

    Examples
    --------
    >>> arm_of("u0000042", "new_feed", {"control": 0.05, "treatment": 0.05, "rest": 0.9})
    'rest'
    """
    place = bucket(user, salt)
    return next(arm for arm, end in ends(shares).items() if place < end)


def arms(users: Iterable[str], salt: str, shares: Mapping[str, float]) -> np.ndarray:
    """Return the arms of many users, as :func:`arm_of` does one by one.

    Returns
    -------
    ndarray of object, shape (n,)
    """
    return np.array([*shares], dtype=object)[_codes(buckets(users, salt), shares)]


def buckets(users: Iterable[str], salt: str) -> np.ndarray:
    """Return the buckets of many users, as :func:`bucket` does one by one.

    Raises
    ------
    ValueError
        If the salt holds a colon: it ends the salt, so that no two salts give the same text.
    """
    if ":" in salt:
        raise ValueError(f"The salt {salt!r} holds a colon, which ends it: take another sign.")
    start = hashlib.sha256(f"{salt}:".encode())
    digests = bytearray()
    for user in users:
        own = start.copy()
        own.update(user.encode())
        digests += own.digest()[:8]
    return (np.frombuffer(digests, ">u8") % BUCKETS).astype(np.int32)


def numbered(index: Iterable[int]) -> list[str]:
    """Return the ids of simulated users by their number: ``u0000000`` and so on."""
    return [f"u{i:07d}" for i in index]


@cache
def _numbered(n: int, salt: str) -> np.ndarray:
    return buckets((f"u{i:07d}" for i in range(n)), salt)


def codes_of_numbered(n: int, salt: str, shares: Mapping[str, float]) -> np.ndarray:
    """Return the positions of the arms of the first ``n`` simulated users; buckets are kept."""
    return _codes(_numbered(n, salt), shares)


def _codes(places: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
    return np.searchsorted([*ends(shares).values()], places, side="right")


def overlap(
    users: Sequence[str], salts: Sequence[str], shares: Mapping[str, float]
) -> pd.DataFrame:
    """Test for each two experiments whether the arm of one says anything about that of the other.

    Parameters
    ----------
    users : sequence of str
    salts : sequence of str
        One for each experiment; equal salts give equal arms.
    shares : mapping of str to float
        Arms of all of them.

    Returns
    -------
    DataFrame
        ``first``, ``second`` (positions of the salts), ``statistic`` and ``p`` (chi-squared test of
        independence on the table of arms).
    """
    from scipy.stats import chi2

    names = list(shares)
    codes = [pd.Categorical(arms(users, salt, shares), names).codes for salt in salts]
    k, n, rows = len(names), len(users), []
    for i, j in combinations(range(len(salts)), 2):
        table = np.bincount(codes[i] * k + codes[j], minlength=k * k).reshape(k, k)
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
        rows.append((i, j, ((table - expected) ** 2 / expected).sum()))
    found = pd.DataFrame(rows, columns=["first", "second", "statistic"])
    return found.assign(p=chi2.sf(found["statistic"], (k - 1) ** 2))


def diagnose(
    exposures: pd.DataFrame, shares: Mapping[str, float], by: tuple[str, ...] = SEGMENTS
) -> pd.DataFrame:
    """Test the split within each segment, to find where users are missing or too many.

    Parameters
    ----------
    exposures : DataFrame
        Counts ``users`` by ``arm`` and the columns of ``by``.
    shares : mapping of str to float
        Planned, by arm.
    by : tuple of str

    Returns
    -------
    DataFrame
        ``by``, ``segment``, ``users``, one column of shares for each arm, ``ratio`` (treatment over
        control), ``p`` and ``p_adjusted`` (Holm over all segments); smallest first.
    """
    rows = []
    for column in by:
        table = exposures.pivot_table(
            index=column, columns="arm", values="users", aggfunc="sum", fill_value=0
        ).reindex(columns=[*shares], fill_value=0)
        for segment, counts in table.iterrows():
            found = srm(counts.to_dict(), shares)
            ratio = counts[TREATMENT] / counts[CONTROL] if counts[CONTROL] else np.nan
            seen = found.table["seen"].to_dict()
            head = {"by": column, "segment": segment, "users": int(counts.sum())}
            rows.append({**head, **seen, "ratio": ratio, "p": found.p})
    frame = pd.DataFrame(rows)
    frame["p_adjusted"] = adjusted(frame["p"])
    return frame.sort_values("p", ignore_index=True)
