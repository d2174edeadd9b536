"""A judge with a known bias: what a language model as judge is feared for, simulated and measured.

Examples
--------
>>> import pandas as pd
>>> same = {"quality_a": [1.0], "quality_b": [1.0], "words_a": [20], "words_b": [10]}
>>> pair = pd.DataFrame(same | {"own_a": [False], "own_b": [False]})
>>> Judge(first=0.5, longer=0.6).odds(pair).round(2).tolist()
[1.1]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Judge:
    """A simulated judge that compares two answers: what a language model as judge is feared for.

    Attributes
    ----------
    skill : float
        Weight of the difference in known quality (right 1, partial 0.5, else 0).
    first : float
        Log odds for whatever stands first.
    longer : float
        Log odds for an answer twice as long.
    own : float
        Log odds for an answer in the judge's own style.
    """

    skill: float = 2.0
    first: float = 0.5
    longer: float = 0.6
    own: float = 0.8

    def odds(self, pairs: pd.DataFrame) -> np.ndarray:
        """Return the log odds that the first answer of each pair wins."""
        return (
            self.skill * (pairs["quality_a"] - pairs["quality_b"])
            + self.first
            + self.longer * np.log2(pairs["words_a"] / pairs["words_b"])
            + self.own * (pairs["own_a"].astype(float) - pairs["own_b"].astype(float))
        ).to_numpy()

    def prefers_first(self, pairs: pd.DataFrame, seed: int) -> np.ndarray:
        """Draw whether the first answer of each pair wins.

        Parameters
        ----------
        pairs : DataFrame
            ``quality_a``, ``quality_b``, ``words_a``, ``words_b``, ``own_a``, ``own_b``.
        seed : int
        """
        rng = np.random.default_rng(seed)
        return rng.random(len(pairs)) < 1 / (1 + np.exp(-self.odds(pairs)))


def swapped(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs in the other order."""
    names = {f"{x}_a": f"{x}_b" for x in ("quality", "words", "own")}
    return pairs.rename(columns=names | {b: a for a, b in names.items()})


def judge_bias(pairs: pd.DataFrame, judge: Judge, seed: int = 0) -> pd.DataFrame:
    """Measure a judge's bias, from its verdicts alone and from the known labels.

    Each pair is judged in both orders. The weights are estimated by logistic regression of the
    verdicts on quality, order, length and style.

    Returns
    -------
    DataFrame
        ``what``, ``planted``, ``measured``.
    """
    from sklearn.linear_model import LogisticRegression

    other = swapped(pairs)
    verdicts = [judge.prefers_first(pairs, seed), judge.prefers_first(other, seed + 1)]
    both, won = pd.concat([pairs, other]), np.concatenate(verdicts)
    x = np.column_stack(
        [
            both["quality_a"] - both["quality_b"],
            np.log2(both["words_a"] / both["words_b"]),
            both["own_a"].astype(float) - both["own_b"].astype(float),
        ]
    )
    fit = LogisticRegression(C=1e4, max_iter=5000).fit(x, won)
    known = (pairs["quality_a"] > pairs["quality_b"]).to_numpy()
    told = (pairs["quality_a"] != pairs["quality_b"]).to_numpy()
    consistent = verdicts[0] == ~verdicts[1]
    rows = [
        ("weight of quality", judge.skill, fit.coef_[0][0]),
        ("log odds for the first", judge.first, fit.intercept_[0]),
        ("log odds for twice the length", judge.longer, fit.coef_[0][1]),
        ("log odds for its own style", judge.own, fit.coef_[0][2]),
        ("first wins, both orders", np.nan, won.mean()),
        ("same verdict in both orders", np.nan, consistent.mean()),
        ("agrees with the labels, one order", np.nan, (verdicts[0] == known)[told].mean()),
        (
            "agrees with the labels, same verdict",
            np.nan,
            (verdicts[0] == known)[told & consistent].mean(),
        ),
    ]
    return pd.DataFrame(rows, columns=["what", "planted", "measured"])


def judge_spread(pairs: pd.DataFrame, judge: Judge, judges: int = 40) -> pd.DataFrame:
    """Measure the bias of many judges with the same habits: what one of them says varies.

    Parameters
    ----------
    pairs : DataFrame
        See :meth:`Judge.prefers_first`.
    judge : Judge
    judges : int
        Each with draws of its own.

    Returns
    -------
    DataFrame
        ``what``, ``planted``, ``measured`` (mean over the judges), ``sd`` (of one), ``pairs``.
    """
    found = pd.concat([judge_bias(pairs, judge, 2 * seed) for seed in range(judges)])
    by = found.groupby("what", sort=False)
    table = (
        by["planted"]
        .first()
        .to_frame()
        .assign(measured=by["measured"].mean(), sd=by["measured"].std(), pairs=len(pairs))
    )
    return table.reset_index()
