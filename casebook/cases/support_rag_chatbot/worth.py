"""What written answers are worth: claims, citations, verdicts, inventions, time and money.

:func:`scored` scores answers one by one by the same rules, whoever wrote them; :func:`summary` has
their shares with intervals from resampled topics, :func:`at_coverage` the precision of citations
where only the surest questions are answered, and :func:`rule_against_place` how often the rule that
reads values agrees with the place that an extractive answer was cut from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.evaluation import NOW, Labels, is_right
from casebook.cases.support_rag_chatbot.generation import Asked, written
from casebook.evaluate.intervals import Interval, by_cluster
from casebook.retrieval.claims import verdict, without_marks
from casebook.retrieval.grounded import Written, judged

VERDICTS = ("correct", "missing", "wrong")


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


def _measures(own: pd.DataFrame) -> dict[str, tuple[pd.Series, pd.Series]]:
    """Return each share of one model's answers: what is counted, and of what."""
    one = pd.Series(1.0, index=own.index)
    given = (own["claims"] > 0).astype(float)
    found = {
        "answers": (given, one),
        "claims supported": (own["supported"], own["claims"]),
        "citations right": (own["citations_right"], own["citations"]),
        "a number invented": ((own["invented"] > 0).astype(float), given),
        "cut off or repeating": ((own["faults"] != "").astype(float), one),
        "let through": (own["let_through"].astype(float), given),
    }
    for column, when in (("verdict", ""), ("after", ", after the check")):
        shares = {name: (own[column] == name).astype(float) for name in VERDICTS}
        found |= {name + when: (share, one) for name, share in shares.items()}
        found["correct less wrong" + when] = (shares["correct"] - shares["wrong"], one)
    return found


def summary(table: pd.DataFrame, cluster: Mapping[str, str] | pd.Series) -> pd.DataFrame:
    """Return what each model's answers are worth, with intervals from resampled topics.

    Parameters
    ----------
    table : DataFrame
        Of :func:`scored`.
    cluster : mapping of str to str
        Topic by question; a question without one is its own.

    Returns
    -------
    DataFrame
        ``model``, ``prompt``, ``what``, ``value``, ``low``, ``high``, ``of`` (questions, claims,
        citations or answers). Of all questions: ``answers``, each verdict before and after the
        check, ``correct less wrong``, ``cut off or repeating``; of claims ``claims supported``; of
        citations ``citations right``; of answers ``a number invented``, ``let through``.
    """
    rows = []
    for key, own in table.groupby(["model", "prompt"], sort=False):
        where = own["id"].map(cluster)
        for what, (top, bottom) in _measures(own).items():
            nan = Interval(*(float("nan"),) * 3)
            found = by_cluster(top, where, bottom) if bottom.sum() else nan
            rows.append((*key, what, *found, int(bottom.sum())))
    columns = ["model", "prompt", "what", "value", "low", "high", "of"]
    return pd.DataFrame(rows, columns=columns)


def at_coverage(
    table: pd.DataFrame,
    sure: Mapping[str, float] | pd.Series,
    cluster: Mapping[str, str] | pd.Series,
    coverages: Sequence[float] = (0.1, 0.33, 1.0),
) -> pd.DataFrame:
    """Return what answers are worth where only the surest questions are answered.

    Parameters
    ----------
    table : DataFrame
        Of :func:`scored`.
    sure : mapping of str to float
        By question: the bot's probability that its answer is right, the same for all models.
    cluster : mapping of str to str
    coverages : sequence of float
        Shares of the questions, the surest first.

    Returns
    -------
    DataFrame
        ``model``, ``coverage``, ``questions``; ``citation_precision`` and ``correct`` (of the
        answerable ones among them) with ``_low`` and ``_high``.
    """
    rows = []
    for model, own in table.groupby("model", sort=False):
        ordered = own.assign(sure=own["id"].map(sure)).sort_values("sure", ascending=False)
        for coverage in coverages:
            top = ordered.head(round(coverage * len(ordered)))
            where, can = top["id"].map(cluster), top["answerable"].to_numpy()
            right = (top["verdict"] == "correct").to_numpy() & can
            precise = by_cluster(top["citations_right"], where, top["citations"])
            correct = by_cluster(right.astype(float), where, can.astype(float))
            rows.append((model, coverage, len(top), *precise, *correct))
    ends = [
        f"{name}{end}"
        for name in ("citation_precision", "correct")
        for end in ("", "_low", "_high")
    ]
    return pd.DataFrame(rows, columns=["model", "coverage", "questions", *ends])


def costs(
    table: pd.DataFrame,
    core_hour: float,
    million_in: float,
    million_out: float,
    on_own_machine: Sequence[str],
) -> pd.DataFrame:
    """Return time, tokens and money by model.

    Parameters
    ----------
    table : DataFrame
        Of :func:`scored`.
    core_hour : float
        Euro for an hour of one processor: what a model on one's own machine costs.
    million_in, million_out : float
        Euro for a million tokens read and written: what a hosted model costs.
    on_own_machine : sequence of str
        Models that are paid by the hour.

    Returns
    -------
    DataFrame
        ``model``; ``p50`` and ``p95`` (seconds), medians of ``tokens_in`` and ``tokens_out``,
        ``euro_per_thousand`` answers.
    """
    rows = []
    for model, own in table.groupby("model", sort=False):
        tokens = own["prompt_tokens"].mean(), own["completion_tokens"].mean()
        by_hour = own["seconds"].mean() / 3600 * core_hour
        by_token = (tokens[0] * million_in + tokens[1] * million_out) / 1e6
        p50, p95 = own["seconds"].quantile([0.5, 0.95])
        medians = own["prompt_tokens"].median(), own["completion_tokens"].median()
        each = by_hour if model in on_own_machine else by_token
        rows.append((model, p50, p95, *medians, 1000 * each))
    columns = ["model", "p50", "p95", "tokens_in", "tokens_out", "euro_per_thousand"]
    return pd.DataFrame(rows, columns=columns)


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
