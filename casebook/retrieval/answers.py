"""Tables of written answers: shares with intervals, precision at a coverage, time and money.

They read a table with a row an answer: ``id``, ``model``, ``prompt``, what
:func:`~casebook.retrieval.grounded.judged` counts, ``faults``, ``answerable``, ``citations_right``
(cited passages of a relevant document), ``verdict`` (correct, missing, wrong) and ``after`` (the
verdict if only what passes the check is said), ``let_through``, tokens and ``seconds``.

Examples
--------
>>> one = {"id": "q", "model": "m", "prompt": "p", "prompt_tokens": 100, "completion_tokens": 10}
>>> table = pd.DataFrame([one | {"seconds": 2.0}, one | {"seconds": 4.0}])
>>> costs(table, core_hour=0.06, million_in=1, million_out=4, on_own_machine=["m"])["p50"].to_list()
[3.0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from casebook.evaluate.intervals import Interval, by_cluster

VERDICTS = ("correct", "missing", "wrong")


def _measures(own: pd.DataFrame) -> dict[str, tuple[pd.Series, pd.Series]]:
    """Return each share of one model's answers: what is counted, and of what."""
    one = pd.Series(1.0, index=own.index)
    given = (own["claims"] > 0).astype(float)
    found = {
        "answers": (given, one),
        "claims supported": (own["supported"], own["claims"]),
        "relevant source": (own["citations_right"], own["citations"]),
        "citation backs a claim": (own["useful"], own["citations"]),
        "a number invented": ((own["invented"] > 0).astype(float), given),
        "cut off or repeating": ((own["faults"] != "").astype(float), one),
        "let through": (own["let_through"].astype(float), given),
    }
    for column, when in (("verdict", ""), ("after", ", after the check")):
        shares = {name: (own[column] == name).astype(float) for name in VERDICTS}
        found |= {name + when: (share, one) for name, share in shares.items()}
        can = own["answerable"].astype(float)
        found["answerable: correct" + when] = (shares["correct"] * can, can)
        found["correct less wrong" + when] = (shares["correct"] - shares["wrong"], one)
    return found


def _share(top: pd.Series, where: pd.Series, bottom: pd.Series) -> Interval:
    """Return a share with its interval; missing where it is a share of nothing."""
    return by_cluster(top, where, bottom) if bottom.sum() else Interval(*(float("nan"),) * 3)


def _where(questions: pd.Series, cluster: Mapping[str, str] | pd.Series) -> pd.Series:
    """Return the topic of each question; one without a topic is its own."""
    return questions.map(cluster).astype(object).fillna(questions)


def summary(table: pd.DataFrame, cluster: Mapping[str, str] | pd.Series) -> pd.DataFrame:
    """Return what each model's answers are worth, with intervals from resampled topics.

    Parameters
    ----------
    table : DataFrame
        A row an answer; see the module.
    cluster : mapping of str to str
        Topic by question; a question without one is its own.

    Returns
    -------
    DataFrame
        ``model``, ``prompt``, ``what``, ``value``, ``low``, ``high``, ``of`` (questions, claims,
        citations or answers). Of all questions: ``answers``, each verdict before and after the
        check, ``correct less wrong``, ``cut off or repeating``; of those that can be answered
        ``answerable: correct``; of claims ``claims supported``; of citations ``relevant source``
        and ``citation backs a claim``; of answers ``a number invented``, ``let through``.
    """
    rows = []
    for key, own in table.groupby(["model", "prompt"], sort=False):
        where = _where(own["id"], cluster)
        for what, (top, bottom) in _measures(own).items():
            rows.append((*key, what, *_share(top, where, bottom), int(bottom.sum())))
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
        A row an answer; see the module.
    sure : mapping of str to float
        By question: the bot's probability that its answer is right, the same for all models.
    cluster : mapping of str to str
    coverages : sequence of float
        Shares of the questions, the surest first.

    Returns
    -------
    DataFrame
        ``model``, ``coverage``, ``questions``; ``relevant_source`` and ``correct`` (of the
        answerable ones among them) with ``_low`` and ``_high``; missing where there are none.
    """
    rows = []
    for model, own in table.groupby("model", sort=False):
        ordered = own.assign(sure=own["id"].map(sure)).sort_values("sure", ascending=False)
        for coverage in coverages:
            top = ordered.head(round(coverage * len(ordered)))
            where, can = _where(top["id"], cluster), top["answerable"].astype(bool)
            right = (top["verdict"] == "correct") & can
            precise = _share(top["citations_right"], where, top["citations"])
            correct = _share(right.astype(float), where, can.astype(float))
            rows.append((model, coverage, len(top), *precise, *correct))
    ends = [
        f"{name}{end}" for name in ("relevant_source", "correct") for end in ("", "_low", "_high")
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
        A row an answer; see the module.
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
