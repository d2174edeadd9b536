"""Faithfulness, context precision and recall of answers, beside what they should be.

Three of the four measures that RAGAS made common; they ask a judge, which here is a rule. The
fourth, relevance, has a model write questions to an answer. Where the truth is known, :func:`bias`
says what the judge makes of answers whose quality is known. None of the four asks whether an answer
is *true*: one that quotes a page which nobody has kept up is faithful, relevant and wrong.

Examples
--------
>>> faithfulness("We keep it for 7 days. It costs 9 euro.", ["We keep a parcel for 7 days."])
0.5
>>> round(context_precision([True, False, True]), 3), context_recall({"a"}, {"a", "b"})
(0.833, 0.5)

References
----------
Es, James, Espinosa-Anke & Schockaert (2024), *RAGAS: Automated Evaluation of Retrieval Augmented
Generation*, EACL, system demonstrations.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import by_cluster
from casebook.retrieval.claims import claims, support


def faithfulness(answer: str, context: Sequence[str], question: str = "") -> float:
    """Return the share of an answer's claims that its context supports; NaN without a claim."""
    said = claims(answer, "en", question)
    held = [support(claim, context, "en", question=question).good for claim in said]
    return float(np.mean(held)) if held else float("nan")


def context_precision(relevant: Sequence[bool]) -> float:
    """Return the mean precision at the ranks of relevant passages; 0 without one."""
    flags = np.asarray(relevant, float)
    precision = flags.cumsum() / np.arange(1, len(flags) + 1)
    return float((precision * flags).sum() / flags.sum()) if flags.any() else 0.0


def context_recall(found: Collection[str], needed: Collection[str]) -> float:
    """Return the share of what is needed that was found; NaN where nothing is."""
    return len({*found} & {*needed}) / len({*needed}) if needed else float("nan")


def bias(judged: pd.Series, known: pd.Series, facts: pd.Series, by: pd.Series) -> pd.DataFrame:
    """Return how a judge's scores differ from what is known, by kind of answer.

    Parameters
    ----------
    judged, known : Series of float
        From 0 to 1.
    facts : Series
        What is resampled.
    by : Series
        Kind of answer.

    Returns
    -------
    DataFrame
        ``kind``, ``judged`` and ``known`` (means), ``bias`` (judged less known) with ``low`` and
        ``high``, ``agree``: share of answers on whose side of one half both are; ``of``.
    """
    rows = []
    for kind in ("all", *sorted(set(by))):
        own = judged.notna() & known.notna() & ((by == kind) | (kind == "all"))
        if facts[own].nunique() < 2:
            continue
        gap = by_cluster(judged[own] - known[own], facts[own])
        agree = float(((judged[own] >= 0.5) == (known[own] >= 0.5)).mean())
        rows.append((kind, judged[own].mean(), known[own].mean(), *gap, agree, int(own.sum())))
    columns = ["kind", "judged", "known", "bias", "low", "high", "agree", "of"]
    return pd.DataFrame(rows, columns=columns)
