"""What the assistant is worth: minutes, money, and how much each assumption matters.

Shares of right, wrong and unknown answers are measured on the world's questions; everything else
is an assumption of this page, with the range in which it may lie (:data:`INPUTS`). The world's
questions are worded by us, so that the result is a way to reckon, not a forecast for a firm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields

import numpy as np
import pandas as pd

from casebook.evaluate.assumptions import one_at_a_time, triangular

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
    "minutes to read quotations": (1.5, 0.7, 3),
    "share that sees which quotation answers": (0.8, 0.5, 0.95),
    "euro an hour": (50, 35, 70),
    "share that still searches": (0.1, 0.0, 0.3),
    "euro to run, a year": (900_000, 400_000, 2_000_000),
    "euro to build": (1_500_000, 800_000, 3_000_000),
    "working days": (220, 210, 230),
}


USUAL = {name: value for name, (value, _, _) in INPUTS.items()}


@dataclass(frozen=True)
class Shares:
    """What becomes of questions: shares that sum to 1.

    Attributes
    ----------
    right, wrong, unknown : float
        Of answers, and of "I don't know".
    found, misled, vain : float
        Of quotations: who sees which one answers takes the right value, a value that holds no
        more, or nothing, as none of them answers.
    """

    right: float
    wrong: float
    unknown: float
    found: float = 0.0
    misled: float = 0.0
    vain: float = 0.0

    def __post_init__(self) -> None:
        shares = astuple(self)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"shares {shares}: none below 0, and 1 in all.")


OUTCOMES = tuple(one.name for one in fields(Shares))


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
        is told "I don't know" or sees no quotation that answers goes on by hand, a wrong answer
        costs its own minutes), ``euro a year`` (saved, less what it costs to run), ``roi`` (of the
        first year, by the whole cost), ``months`` until it has paid for itself (inf if never),
        ``break-even wrong``: share of wrong answers, taken from the right ones, at which nothing is
        saved.

    Raises
    ------
    ValueError
        If an input is missing.
    """
    if missing := sorted(set(INPUTS) - set(inputs)):
        raise ValueError(f"inputs {missing} are missing: see INPUTS.")
    x = inputs
    lost, search = x["minutes lost by a wrong answer"], x["minutes to search by hand"]
    hand = by_hand(x)
    spent, again = minutes(x), x["share that still searches"] * search
    told = asdict(shares).items()
    with_it = sum(share * spent[name] for name, share in told) + shares.right * again
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


def by_hand(x: Mapping[str, float]) -> float:
    """Return the minutes of a question without an assistant."""
    wrong = x["share wrong by hand"] * x["minutes lost by a wrong answer"]
    missed = 1 - x["share found by hand"]
    return x["minutes to search by hand"] + missed * x["minutes to ask a colleague"] + wrong


def minutes(x: Mapping[str, float]) -> dict[str, float]:
    """Return the minutes that each of :data:`OUTCOMES` costs who asked."""
    hand, lost = by_hand(x), x["minutes lost by a wrong answer"]
    ask = x["minutes to ask and read"] + x["minutes to check a source"]
    read, sees = x["minutes to read quotations"], x["share that sees which quotation answers"]
    seen = {"found": 0.0, "misled": lost, "vain": hand}
    quoted = {name: ask + read + sees * own + (1 - sees) * hand for name, own in seen.items()}
    return {"right": ask, "wrong": ask + lost, "unknown": ask + hand} | quoted


def costs(inputs: Mapping[str, float] = USUAL) -> dict[str, float]:
    """Return the euro that each of :data:`OUTCOMES` costs."""
    hour = inputs["euro an hour"] / 60
    return {name: hour * value for name, value in minutes(inputs).items()}


def threshold(inputs: Mapping[str, float] = USUAL) -> float:
    """Return how sure an answer must be to be worth its risk where it is that or "I don't know"."""
    told = costs(inputs)
    return (told["wrong"] - told["unknown"]) / (told["wrong"] - told["right"])


def sensitivity(shares: Shares) -> pd.DataFrame:
    """Move one assumption at a time to the ends of its range: :func:`.one_at_a_time`."""
    return one_at_a_time(lambda x: reckoned(shares, x)["euro a year"], INPUTS)


def together(shares: pd.DataFrame, draws: int = 4000, seed: int = 0) -> pd.DataFrame:
    """Draw all assumptions at once, and with them the shares, which are measured and uncertain.

    Parameters
    ----------
    shares : DataFrame
        :data:`OUTCOMES`: a row a draw of facts, as of :func:`.outcome_shares`.
    draws, seed : int

    Returns
    -------
    DataFrame
        A row a draw: what :func:`reckoned` gives.
    """
    drawn = triangular(INPUTS, draws, seed)
    rows = np.random.default_rng([seed, 1]).integers(len(shares), size=draws)
    picked = shares.iloc[rows].to_dict("records")
    return pd.DataFrame([reckoned(Shares(**p), x) for p, x in zip(picked, drawn, strict=True)])
