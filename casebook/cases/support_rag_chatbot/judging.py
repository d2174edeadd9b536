"""A simulated judge with a known bias, and what can be seen without labels.

Both are held against the known labels of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

# A judge and its bias ----------------------------------------------------------------


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


def judged_pairs(
    ours: pd.DataFrame, theirs: pd.DataFrame, questions: Sequence[str]
) -> pd.DataFrame:
    """Pair the answers of two systems; every second pair has ours first, ours in its own style."""
    quality = {"right": 1.0, "right_other_language": 1.0, "partial": 0.5}
    a, b = (frame.set_index("id").loc[list(questions)] for frame in (ours, theirs))
    pairs = pd.DataFrame(
        {
            "quality_a": a["label"].map(quality).fillna(0.0),
            "quality_b": b["label"].map(quality).fillna(0.0),
            "words_a": a["said"].str.split().str.len().clip(lower=1),
            "words_b": b["said"].str.split().str.len().clip(lower=1),
            "own_a": True,
            "own_b": False,
        }
    )
    turned = np.arange(len(pairs)) % 2 == 1
    return pd.concat([pairs[~turned], swapped(pairs[turned])[pairs.columns]])


# Without labels ----------------------------------------------------------------------


def disagreement(first: pd.DataFrame, second: pd.DataFrame, k: int = 10) -> pd.Series:
    """Return 1 minus the Jaccard overlap of two runs' first k documents, by query."""
    tops = [run[run["rank"] <= k].groupby("query_id")["doc_id"].agg(set) for run in (first, second)]
    queries = tops[0].index.union(tops[1].index)
    values = {}
    for query in queries:
        a, b = (top.get(query, set()) for top in tops)
        values[query] = 1 - len(a & b) / max(len(a | b), 1)
    return pd.Series(values, name="disagreement").rename_axis("query_id")


#: Of shown results: probability of a look by rank, of a click on a relevant and on another one.
LOOKS, CLICKS = (1.0, 0.6, 0.4), (0.7, 0.1)


def clicks(run: pd.DataFrame, judged: pd.DataFrame, seed: int, times: int = 20) -> pd.DataFrame:
    """Simulate clicks on the first three results by the position model.

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id``, ``rank``, ``shown`` (times), ``clicks``.

    References
    ----------
    Joachims, Swaminathan & Schnabel (2017), *Unbiased learning-to-rank with biased feedback*, WSDM.
    """
    rng = np.random.default_rng(seed)
    rows = run[run["rank"] <= len(LOOKS)].merge(judged, on=["query_id", "doc_id"], how="left")
    good = rows["relevance"].fillna(0).gt(0).to_numpy()
    chance = np.where(good, *CLICKS) * np.array(LOOKS)[rows["rank"] - 1]
    return rows[["query_id", "doc_id", "rank"]].assign(
        shown=times, clicks=rng.binomial(times, chance)
    )


def click_proxies(found: pd.DataFrame) -> tuple[float, float]:
    """Return clicks per showing, plain and with each click over its chance of a look."""
    looks = np.array(LOOKS)[found["rank"] - 1]
    shown = found["shown"].sum() / len(LOOKS)
    return float(found["clicks"].sum() / shown), float((found["clicks"] / looks).sum() / shown)
