"""Studies of written answers: which prompt, what the answers are worth, what the check catches.

Each function returns a table that ``make bench N=16`` records. The small model's answers are those
of the artifact; prompts were chosen on the tuning questions, and the test questions asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot import generation, planted, worth
from casebook.cases.support_rag_chatbot.studies import confident, lab
from casebook.recorded.artifacts import artifact
from casebook.retrieval import answers
from casebook.retrieval.planted import caught, refused

#: Seeds of the planted faults; none was used when the rules were written.
SEEDS = (1, 2, 3)
#: What stands in the artifact already.
LONG = ["text", "cited"]


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
        See :func:`~casebook.retrieval.answers.summary`, with ``seconds`` (mean).
    """
    items, table = generation.stored_requests("tune"), ev.asked()
    rows = pd.concat([replies("tune", name) for name in generation.TRIALS])
    scored = worth.scored(rows, items, table)
    found = answers.summary(scored, table.set_index("id")["cluster"])
    return found.assign(seconds=found["prompt"].map(scored.groupby("prompt")["seconds"].mean()))


def support_written() -> pd.DataFrame:
    """Score the reader's and the small model's answers to the same test questions, one by one.

    Returns
    -------
    DataFrame
        Columns of :func:`~casebook.cases.support_rag_chatbot.worth.scored` but the texts, with
        ``language``, ``cluster`` (its topic) and ``sure``: the bot's probability that the quoted
        answer is right.

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
    scored = worth.scored(rows, items, own).drop(columns=LONG)
    sure = confident().set_index("id")["right"]
    told = {"language": own["language"], "cluster": own["cluster"], "sure": sure.round(4)}
    return scored.assign(**{name: scored["id"].map(values) for name, values in told.items()})


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
    study.__name__: study for study in (support_prompts, support_written, support_planted)
}
