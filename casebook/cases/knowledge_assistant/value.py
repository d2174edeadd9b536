"""What the assistant is worth: minutes, money, how much each assumption matters, fifty thumbs.

Shares of right, wrong and unknown answers are measured on the world's questions; everything else
is an assumption of this page, with the range in which it may lie (:data:`INPUTS`). The world's
questions are worded by us, so that the result is a way to reckon, not a forecast for a firm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import wilson

#: Assumption → (value, low, high), of a firm of 50,000 of whom 5,000 ask on a day.
INPUTS: dict[str, tuple[float, float, float]] = {
    "questions a day": (50_000, 20_000, 60_000),
    "share that needs a document": (0.5, 0.2, 0.7),
    "minutes to search by hand": (6, 2, 12),
    "share found by hand": (0.7, 0.5, 0.9),
    "share wrong by hand": (0.03, 0.0, 0.1),
    "minutes to ask a colleague": (10, 4, 20),
    "minutes to ask and read": (0.7, 0.4, 1.5),
    "minutes to check a source": (0.5, 0.0, 1.5),
    "minutes lost by a wrong answer": (30, 10, 120),
    "euro an hour": (50, 35, 70),
    "share that still searches": (0.1, 0.0, 0.3),
    "euro to run, a year": (900_000, 400_000, 2_000_000),
    "euro to build": (1_500_000, 800_000, 3_000_000),
    "working days": (220, 210, 230),
}


@dataclass(frozen=True)
class Shares:
    """What becomes of questions: shares that are right, wrong and unknown; they sum to 1."""

    right: float
    wrong: float
    unknown: float

    def __post_init__(self) -> None:
        shares = self.right, self.wrong, self.unknown
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"shares {shares}: none below 0, and 1 in all.")


def reckoned(shares: Shares, inputs: Mapping[str, float]) -> dict[str, float]:
    """Return minutes, euro and months of one setting.

    Parameters
    ----------
    shares : Shares
        Of questions that a document answers or should.
    inputs : mapping of str to float
        A number for each of :data:`INPUTS`.

    Returns
    -------
    dict
        ``by hand`` and ``with it`` (minutes to an answer; who finds nothing asks a colleague, who
        is told "I don't know" goes on by hand, a wrong answer costs its own minutes), ``euro a
        year`` (saved, less what it costs to run), ``roi`` (of the first year, by the whole cost),
        ``months`` until it has paid for itself (inf if never), ``break-even wrong``: share of
        wrong answers, taken from the right ones, at which nothing is saved.

    Raises
    ------
    ValueError
        If an input is missing.
    """
    if missing := sorted(set(INPUTS) - set(inputs)):
        raise ValueError(f"inputs {missing} are missing: see INPUTS.")
    x = inputs
    lost, search = x["minutes lost by a wrong answer"], x["minutes to search by hand"]
    missed = 1 - x["share found by hand"]
    hand = search + missed * x["minutes to ask a colleague"] + x["share wrong by hand"] * lost
    ask = x["minutes to ask and read"] + x["minutes to check a source"]
    again = shares.right * x["share that still searches"] * search + shares.unknown * hand
    with_it = ask + again + shares.wrong * lost
    asked = x["questions a day"] * x["share that needs a document"] * x["working days"]
    hour = x["euro an hour"] / 60
    saved = asked * hour * (hand - with_it)
    year = saved - x["euro to run, a year"]
    cost = x["euro to build"] + x["euro to run, a year"]
    slope = lost - x["share that still searches"] * search
    even = shares.wrong + (hand - with_it) / slope if slope > 0 else np.inf
    months = 12 * x["euro to build"] / year if year > 0 else np.inf
    told = {"by hand": hand, "with it": with_it, "euro a year": year, "roi": (saved - cost) / cost}
    return told | {"months": months, "break-even wrong": even}


def sensitivity(
    shares: Shares, inputs: Mapping[str, tuple[float, float, float]] = INPUTS
) -> pd.DataFrame:
    """Move one assumption at a time to the ends of its range.

    Returns
    -------
    DataFrame
        ``input``, ``low``, ``high``, euro a year at each (``at_low``, ``at_high``), ``span``, and
        ``flips``: whether one end turns a gain into a loss; the widest span first.
    """
    usual = {name: value for name, (value, _, _) in inputs.items()}
    base, rows = reckoned(shares, usual)["euro a year"], []
    for name, (_, low, high) in inputs.items():
        ends = [reckoned(shares, usual | {name: end})["euro a year"] for end in (low, high)]
        flips = any(np.sign(end) != np.sign(base) for end in ends)
        rows.append((name, low, high, *ends, abs(ends[1] - ends[0]), flips))
    columns = ["input", "low", "high", "at_low", "at_high", "span", "flips"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        "span", ascending=False, ignore_index=True
    )


def together(shares: pd.DataFrame, draws: int = 4000, seed: int = 0) -> pd.DataFrame:
    """Draw all assumptions at once, each from a triangle over its range.

    Parameters
    ----------
    shares : DataFrame
        ``right``, ``wrong``, ``unknown``: a row a world or a draw of facts. Each draw takes one, so
        that what was measured is uncertain too.
    draws, seed : int

    Returns
    -------
    DataFrame
        A row a draw: what :func:`reckoned` gives.
    """
    rng = np.random.default_rng(seed)
    drawn = {
        name: rng.triangular(low, value, high, draws) for name, (value, low, high) in INPUTS.items()
    }
    picked = shares.iloc[rng.integers(len(shares), size=draws)]
    rows = []
    for n, one in enumerate(picked[["right", "wrong", "unknown"]].to_numpy()):
        rows.append(reckoned(Shares(*one), {name: values[n] for name, values in drawn.items()}))
    return pd.DataFrame(rows)


def rubric(right: int, rated: int = 50) -> dict[str, float]:
    """Return what some rated answers show: the share that is right, its interval, and what not.

    Returns
    -------
    dict
        ``share``, ``low``, ``high`` (Wilson, 95 %), ``worse``: smallest true share of a later
        version that fifty further answers would call worse in four of five trials.
    """
    from scipy.stats import binom

    if not 0 <= right <= rated or rated < 1:
        raise ValueError(f"{right} right of {rated}: give counts, rated at least 1.")
    share, low, high = wilson([True] * right + [False] * (rated - right))
    least = next((k for k in range(rated + 1) if binom.cdf(k, rated, share) > 0.05), 0) - 1
    shares = np.linspace(0, share, 501)
    power = binom.cdf(least, rated, shares) if least >= 0 else np.zeros(len(shares))
    found = shares[power >= 0.8]
    return {
        "share": share,
        "low": low,
        "high": high,
        "worse": float(found.max()) if len(found) else 0.0,
    }
