"""What written answers are worth in the carrier's world, where the truth is known.

:func:`scored` scores answers one by one by the same rules, whoever wrote them (their shares:
:mod:`casebook.retrieval.answers`); :func:`rule_against_place` says how often the rule that reads
values agrees with the place that an extractive answer was cut from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.evaluation import NOW, Labels, is_right
from casebook.cases.support_rag_chatbot.generation import Asked, written
from casebook.retrieval.claims import verdict, without_marks
from casebook.retrieval.grounded import Written, judged


def passes(made: Written, one: Asked) -> bool:
    """Say whether a reworded answer may be said: every claim is backed by what it cites.

    An answer that names no passage is held against the passages that it was put down to.
    """
    return bool(judged(made, one.sources, one.read_in, one.text)["clean"])


def scored(
    rows: pd.DataFrame, items: Sequence[Asked], truth: pd.DataFrame, at: object = NOW
) -> pd.DataFrame:
    """Score answers one by one.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`~casebook.cases.support_rag_chatbot.generation.answered`, of one model or several.
    items : sequence of Asked
        What was asked, in any order.
    truth : DataFrame
        ``id``, ``answerable``, ``answer_value``, ``answer``.
    at : date-like
        When it was asked.

    Returns
    -------
    DataFrame
        The columns of ``rows``, those of :func:`~casebook.retrieval.grounded.judged`;
        ``answerable``; ``citations_right`` (cited sections whose article is relevant); ``place``:
        what the first cited section is worth (:class:`~.evaluation.Label`); ``verdict`` (correct,
        missing, wrong) on all that was written, whatever its faults; ``let_through``
        (:func:`passes`), and ``after``: the verdict if only what passes is said.
    """
    known, by_id = truth.set_index("id"), {one.question: one for one in items}
    label, out = Labels(at), []
    for row in rows.to_dict("records"):
        one, fact, made = by_id[row["id"]], known.loc[row["id"]], written(row)
        cited = [one.places[n - 1] for n in made.cited]
        found = [label(one.question, p[:3], *p[3:]) for p in cited]
        checks = judged(made, one.sources, one.read_in, one.text)
        said = "" if made.declined else without_marks(made.text)
        about = str(fact["answer_value"]), str(fact["answer"]), one.read_in
        rest = bool(fact["answerable"]), one.text
        out.append(
            row
            | checks
            | {
                "answerable": rest[0],
                "citations_right": sum(each.relevant for each in found),
                "place": found[0].kind if found else "",
                "verdict": verdict(said, *about, *rest),
                "let_through": bool(checks["clean"]),
                "after": verdict(said if checks["clean"] else "", *about, *rest),
            }
        )
    return pd.DataFrame(out)


def rule_against_place(table: pd.DataFrame) -> pd.DataFrame:
    """Count how often the rule that reads values agrees with the place that was quoted.

    Of the extractive reader's answers to answerable questions the truth is known twice: by the rule
    (:func:`~casebook.retrieval.claims.verdict`), which every model is scored by, and by the place
    of the section in the right article.

    Returns
    -------
    DataFrame
        By ``place`` (right, elsewhere): answers whose verdict is ``correct`` and ``wrong``.
    """
    own = table[table["answerable"] & (table["model"] == "extractive reader")]
    place = np.where(is_right(own["place"]), "right", "elsewhere")
    found = pd.crosstab(pd.Series(place, index=own.index, name="place"), own["verdict"])
    return found.reindex(index=["right", "elsewhere"], columns=["correct", "wrong"], fill_value=0)
