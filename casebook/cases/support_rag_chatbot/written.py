"""Studies of written answers: which prompt, what the answers are worth, what the check catches.

Each function returns a table that ``make bench N=16`` records. The small model's answers are those
of the artifact; prompts were chosen on the tuning questions, and the test questions asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pandas as pd

from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot import generation, planted, worth
from casebook.cases.support_rag_chatbot.studies import confident, lab
from casebook.llm import local
from casebook.recorded.artifacts import artifact
from casebook.retrieval import answers
from casebook.retrieval.planted import caught, refused

#: Seeds of the planted faults; none was used when the rules were written.
SEEDS = (1, 2, 3)
#: Shares of the questions that are answered, the surest first.
COVERAGES = (0.1, 0.33, 1.0)
#: Euro for an hour of one processor, and for a million tokens of a small hosted model: assumptions.
RATES = {"core_hour": 0.05, "million_in": 0.15, "million_out": 0.60}
READER = "extractive reader"
#: What the columns of :func:`~casebook.retrieval.answers.costs` are called in a long table.
SPENT = (
    *("seconds, median", "seconds, 95th percentile", "tokens read", "tokens written"),
    *("euro per thousand answers",),
)


def replies(split: str = "test", name: str = generation.CHOSEN) -> pd.DataFrame:
    """Return the recorded answers to one prompt, read as they would be live.

    Parameters
    ----------
    split : {"test", "tune"}
    name : str
        Of the prompt.
    """
    stored, items = artifact(ev.CASE, generation.ANSWERS), generation.stored_requests(split)
    ids = [one.question for one in items]
    own = stored[(stored["name"] == name) & stored["id"].isin(ids)]
    return generation.read_again(own, items)


def support_prompts() -> pd.DataFrame:
    """Score the prompts that were tried, on the tuning questions.

    Returns
    -------
    DataFrame
        See :func:`~casebook.retrieval.answers.summary`.
    """
    items, table = generation.stored_requests("tune"), ev.asked()
    rows = pd.concat([replies("tune", name) for name in generation.TRIALS])
    scored = worth.scored(rows, items, table)
    return answers.summary(scored, table.set_index("id")["cluster"])


@cache
def written() -> pd.DataFrame:
    """Score the reader's and the small model's answers to the same test questions, one by one.

    Returns
    -------
    DataFrame
        Columns of :func:`~casebook.cases.support_rag_chatbot.worth.scored`, with ``language``,
        ``cluster`` (its topic) and ``sure``: the bot's probability that the quoted answer is right.

    Raises
    ------
    ValueError
        If the bot would find other sections now than those that were asked with.
    """
    items, test = generation.stored_requests(), lab().test.set_index("id", drop=False)
    own = test.loc[[one.question for one in items]]
    now = generation.requests(own, lab().signals, lab().centre, lab().answerer.embedder)
    if list(now) != items:
        raise ValueError(
            "The bot finds other sections than the small model was asked with: run `python -m "
            "casebook.cases.support_rag_chatbot.generation`, then `make artifacts N=16`."
        )
    rows = pd.concat([generation.quoted_answers(items), replies()])
    scored = worth.scored(rows, items, own)
    told = {"language": own["language"], "cluster": own["cluster"]}
    told["sure"] = confident().set_index("id")["right"]
    return scored.assign(**{name: scored["id"].map(values) for name, values in told.items()})


def support_generation() -> pd.DataFrame:
    """Say what answers to the English test questions are worth, take and cost.

    Returns
    -------
    DataFrame
        Of :func:`~casebook.retrieval.answers.summary`; without an interval: ``seconds, median`` and
        ``seconds, 95th percentile`` (of one processor), ``tokens read`` and ``tokens written``
        (medians), ``euro per thousand answers``.
    """
    rows = written()[written()["language"] == "en"]
    shares = answers.summary(rows, rows.set_index("id")["cluster"].to_dict())
    paid = answers.costs(rows, **RATES, on_own_machine=[READER, local.NAME]).set_index("model")
    told = dict(zip(paid.columns, SPENT, strict=True))
    long = paid.rename(columns=told).stack().rename("value").rename_axis(["model", "what"])
    prompts = rows.drop_duplicates("model").set_index("model")["prompt"]
    long = long.reset_index().assign(of=rows.groupby("model").size().iloc[0])
    return pd.concat([shares, long.assign(prompt=long["model"].map(prompts))], ignore_index=True)


def support_generation_languages() -> pd.DataFrame:
    """Say what answers to samples of the German and Spanish test questions are worth.

    Returns
    -------
    DataFrame
        Of :func:`~casebook.retrieval.answers.summary`, with ``language``.
    """
    parts = [
        answers.summary(own, own.set_index("id")["cluster"].to_dict()).assign(language=code)
        for code, own in written().groupby("language")
        if code != "en"
    ]
    return pd.concat(parts, ignore_index=True)


def support_coverage() -> pd.DataFrame:
    """Say how precise citations are where only the surest English test questions are answered.

    Returns
    -------
    DataFrame
        Of :func:`~casebook.retrieval.answers.at_coverage`.
    """
    rows = written()[written()["language"] == "en"].set_index("id", drop=False)
    return answers.at_coverage(rows, rows["sure"].to_dict(), rows["cluster"].to_dict(), COVERAGES)


def support_rule() -> pd.DataFrame:
    """Hold the rule that reads values against the place of the section that the reader quotes.

    Returns
    -------
    DataFrame
        ``place`` (right, elsewhere), ``correct``, ``wrong``: answers, of all languages.
    """
    return worth.rule_against_place(written()).reset_index()


def support_planted(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Plant faults into every section, and say what the check catches and at what it alarms.

    Returns
    -------
    DataFrame
        Columns of :func:`~casebook.retrieval.planted.caught`, and ``language``
        (``all`` too).
    """
    table = planted.sections()
    rows = pd.concat([refused(planted.tried(table, seed)) for seed in seeds])
    parts = [caught(rows).assign(language="all")]
    parts += [caught(own).assign(language=code) for code, own in rows.groupby("language")]
    return pd.concat(parts, ignore_index=True)


STUDIES: dict[str, Callable[[], pd.DataFrame]] = {
    study.__name__: study
    for study in (
        support_prompts,
        support_generation,
        support_generation_languages,
        support_coverage,
        support_rule,
        support_planted,
    )
}
