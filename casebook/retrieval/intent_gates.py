"""Gates judged: how often they know an intent, at every coverage, here and on public questions.

Examples
--------
>>> found = np.array(["refund", "billing", "refund"])
>>> told = by_coverage(found, np.array([0.9, 0.4, 0.8]), np.array(["refund"] * 3), ["a", "b", "c"])
>>> told[["of", "coverage", "right"]].round(2).to_dict("list")
{'of': ['all', 'surest 70 %'], 'coverage': [1.0, 0.67], 'right': [0.67, 1.0]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.evaluate.abstain import auroc
from casebook.evaluate.intervals import by_cluster
from casebook.retrieval.classify import Gate


def by_coverage(
    found: np.ndarray,
    sure: np.ndarray,
    true: np.ndarray,
    clusters: Sequence,
    threshold: float | None = None,
) -> pd.DataFrame:
    """Return how often a gate is right: of all, of the surest 70 %, of those that it answers.

    Parameters
    ----------
    found, sure, true : ndarray, shape (n,)
        Intents that were found, how sure, and what they are.
    clusters : sequence
        What would be new next time: wordings, or the messages themselves.
    threshold : float, optional
        From which a message is answered.

    Gates whose confidence takes few values are compared at the same coverage: which of equally sure
    messages are among the surest is drawn by chance.

    Returns
    -------
    DataFrame
        ``of``, ``coverage``, ``right``, ``low``, ``high``, ``n``.
    """
    good, units, rows = found == true, np.asarray(clusters), []
    surest = _untied(sure) >= round(0.3 * len(sure))
    parts = {"all": sure > -1, "surest 70 %": surest}
    if threshold is not None:
        parts["answered"] = sure >= threshold
    for name, part in parts.items():
        told = (good[part].mean() if part.any() else np.nan, np.nan, np.nan)
        if len(set(units[part])) > 1:
            told = by_cluster(good[part], units[part], draws=1000)
        rows.append((name, part.mean(), *told, int(part.sum())))
    return pd.DataFrame(rows, columns=["of", "coverage", "right", "low", "high", "n"])


def _untied(sure: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return ranks in which those who are equally sure stand in an order by chance."""
    order = np.lexsort((np.random.default_rng(seed).random(len(sure)), sure))
    ranks = np.empty(len(sure))
    ranks[order] = np.arange(len(sure))
    return ranks


def on_public(sets: Mapping[str, pd.DataFrame], rows: int | None = None) -> pd.DataFrame:
    """Learn a gate on each set and judge it; its threshold is chosen on a fifth of training.

    Parameters
    ----------
    sets : mapping of str to DataFrame
        Name → ``text``, ``intent`` (``oos`` is out of scope), ``split`` (``train``, ``test``).
    rows : int, optional
        About so many of each side are used; by default all.

    Returns
    -------
    DataFrame
        As of :func:`by_coverage`, with ``collection``; out of scope, ``coverage`` is the share that
        is answered all the same, and ``right`` the AUROC of the confidence.
    """
    made = []
    for name, frame in sets.items():
        ours = frame[frame["intent"] != "oos"]
        train, test = (ours[ours["split"] == part] for part in ("train", "test"))
        train, test = (t.iloc[:: max(1, len(t) // (rows or len(t)))] for t in (train, test))
        tune = np.arange(len(train)) % 5 == 0
        model = Gate().fit(list(train["text"][~tune]), list(train["intent"][~tune]))
        model.tune(list(train["text"][tune]), list(train["intent"][tune]))
        found, sure = model.read(list(test["text"]))
        true, each = test["intent"].to_numpy(), np.arange(len(test))
        made.append(by_coverage(found, sure, true, each, model.threshold).assign(collection=name))
        out = list(frame.loc[(frame["intent"] == "oos") & (frame["split"] == "test"), "text"])
        if out:
            other = model.read(out)[1]
            both = np.concatenate([sure, other])
            area = auroc(both, np.arange(len(both)) < len(sure), draws=200)
            told = ("out of scope", (other >= model.threshold).mean(), *area, len(both), name)
            made.append(pd.DataFrame([told], columns=made[-1].columns))
    return pd.concat(made, ignore_index=True)
