"""Messages of people: wordings that lie on one side of a split, and how somebody in a hurry writes.

A model that is tested on the wordings it learned from is tested on nothing: each wording belongs to
training, tuning or test, whatever is filled in.

Examples
--------
>>> texts = [f"wording {i}" for i in range(10)]
>>> [len(of_part(texts, "refund", part)) for part in PARTS]
[6, 1, 3]
>>> {hurried(np.random.default_rng(i), "Ok?").lower() for i in range(5)}
{'ok?'}
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PARTS = ("train", "tune", "test")
#: Shares of the wordings at which a part ends; of messages with a slip, and in small letters.
ENDS, SLIPS, SMALL = (0.0, 0.55, 0.7, 1.0), 0.15, 0.2


def of_part(
    texts: Sequence[str], name: str, part: str, seed: int = 17
) -> tuple[tuple[str, str], ...]:
    """Return the wordings of one part: names (``refund/3``) and texts.

    Parameters
    ----------
    texts : sequence of str
    name : str
        Of the situation; it is part of what the split is drawn by.
    part : str
        One of :data:`PARTS`.
    seed : int

    Raises
    ------
    ValueError
        If there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"part {part!r}: give one of {', '.join(PARTS)}.")
    order = np.random.default_rng([seed, *name.encode()]).permutation(len(texts))
    low, high = (round(ENDS[PARTS.index(part) + n] * len(texts)) for n in (0, 1))
    return tuple((f"{name}/{i}", texts[i]) for i in order[low:high])


def hurried(rng: np.random.Generator, said: str) -> str:
    """Return a message with a slip of the finger, or in small letters, as some are."""
    if rng.random() < SLIPS and len(said) > 4:
        at = int(rng.integers(1, len(said) - 2))
        if said[at].isalpha() and said[at + 1].isalpha():
            said = f"{said[:at]}{said[at + 1]}{said[at]}{said[at + 2 :]}"
    return said.lower() if rng.random() < SMALL else said
