"""What exercise 16 shows of events that a student's seed draws: verdicts, a cache, contacts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.exercise_data import answered, own
from casebook.cases.support_rag_chatbot.world.contacts import GOODWILL
from casebook.evaluate.judges import Judge, swapped

# Question 3: a judge and its bias.

#: Pairs of answers; those that people read, too.
PAIRS, READ = 2400, 300
#: The judge of the exercise: of one family with the new bot, and fond of what comes first.
JUDGE = Judge(skill=4.0, first=1.0, longer=0.8, own=0.8)


def verdicts_and_people(seed: int | None = None) -> tuple[pd.DataFrame, pd.Series]:
    """Return how a judge compares a new bot with the old one, each pair in both orders.

    Drawn are the quality of both answers (right 1, partial 0.5, wrong 0), their lengths, and the
    verdicts of a :class:`~casebook.evaluate.judges.Judge` with a planted bias.

    Returns
    -------
    verdicts : DataFrame
        Index ``pair``: ``new_first`` and ``new_second`` (1 where the judge prefers the new bot's
        answer, which comes first or second), ``words_new``, ``words_old``, ``person`` (1, 0.5 for
        a draw, 0; missing where nobody read the pair: 300 pairs drawn at random were read).
    people : Series
        What people would have said of *all* pairs: for the reasoning, no answer uses it.
    """
    seed = own(seed)
    rng = np.random.default_rng(1600 + seed)
    quality = np.array([1.0, 0.5, 0.0])
    pairs = pd.DataFrame(
        {
            "quality_a": rng.choice(quality, PAIRS, p=[0.44, 0.20, 0.36]),
            "quality_b": rng.choice(quality, PAIRS, p=[0.50, 0.18, 0.32]),
            "words_a": np.round(rng.lognormal(np.log(85), 0.35, PAIRS)).clip(5),
            "words_b": np.round(rng.lognormal(np.log(45), 0.35, PAIRS)).clip(5),
            "own_a": True,
            "own_b": False,
        }
    )
    better = (np.sign(pairs["quality_a"] - pairs["quality_b"]) + 1) / 2
    table = pd.DataFrame(
        {
            "new_first": JUDGE.prefers_first(pairs, 2 * seed).astype(int),
            "new_second": 1 - JUDGE.prefers_first(swapped(pairs), 2 * seed + 1).astype(int),
            "words_new": pairs["words_a"].astype(int),
            "words_old": pairs["words_b"].astype(int),
            "person": better.where(rng.permutation(PAIRS) < READ),
        }
    )
    return table.rename_axis("pair"), better.rename("person")


def verdicts(seed: int | None = None) -> pd.DataFrame:
    """Return the first table of :func:`verdicts_and_people`."""
    return verdicts_and_people(seed)[0]


def drawn_again(times: int = 500) -> pd.DataFrame:
    """Draw the pairs that people read again and again, and estimate the win rate each time.

    Parameters
    ----------
    times : int

    Returns
    -------
    DataFrame
        A row for each draw: ``300 people alone`` and ``judge, corrected``.
    """
    table, better = verdicts_and_people()
    judged = table[["new_first", "new_second"]].mean(axis=1)
    rng, rows = np.random.default_rng(0), []
    for _ in range(times):
        read = rng.choice(PAIRS, READ, replace=False)
        said = better.iloc[read].mean()
        rows.append((said, judged.mean() + said - judged.iloc[read].mean()))
    return pd.DataFrame(rows, columns=["300 people alone", "judge, corrected"])


# Question 6: a cache that outlives its articles.

#: The log: its first day, days, contacts; days that a cached answer lives; articles withdrawn.
FROM, DAYS, CONTACTS, LIVES, WITHDRAWN = pd.Timestamp("2024-07-01"), 800, 15_000, 14, 3


@cache
def _versions(seed: int) -> pd.DataFrame:
    page = world.knowledge_base()
    page = page[page["language"] == "en"]
    columns = ["id", "article_id", "version", "valid_from", "valid_to"]
    table = page[columns].reset_index(drop=True)
    rng = np.random.default_rng([6, seed])
    from_the_start = (table["valid_from"] < FROM) & table["valid_to"].isna()
    rows = rng.choice(table.index[from_the_start], WITHDRAWN, replace=False)
    days = rng.integers(90, DAYS - 90, WITHDRAWN)
    table.loc[rows, "valid_to"] = FROM + pd.to_timedelta(days, unit="D")
    return table


def versions(seed: int | None = None) -> pd.DataFrame:
    """Return all versions of the English articles; three articles are withdrawn.

    Returns
    -------
    DataFrame
        ``id`` (of the version), ``article_id``, ``version``, ``valid_from`` (first day),
        ``valid_to`` (last day; missing: no end is set). Both are midnights.
    """
    return _versions(own(seed)).copy()


def _version_at(times: pd.Series, names: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Return the version of an article that is in force at each time; missing where none is."""
    both = pd.DataFrame({"time": times, "article_id": names}).reset_index()
    both = both.merge(table, on="article_id")
    ends = both["valid_to"].fillna(pd.Timestamp("2200-01-01")) + pd.Timedelta(days=1)
    good = both[(both["valid_from"] <= both["time"]) & (both["time"] < ends)]
    return good.set_index("index")["id"].reindex(times.index)


@cache
def _asked(seed: int) -> pd.DataFrame:
    """Return when which question came, and the version that was in force: ``true``."""
    rng, table = np.random.default_rng(1590 + seed), _versions(seed)
    known = table.groupby("article_id")
    names = np.array(sorted(known.groups))
    ended = known["valid_to"].last().notna().loc[names].to_numpy()
    changes = (known.size() > 1).loc[names].to_numpy() | ended
    # What is withdrawn was asked about, or the log would not show that the cache outlives it.
    weight = rng.gamma(0.8, size=len(names)).clip(np.where(ended, 1, 0)) * np.where(changes, 3, 1)
    seconds = np.sort(rng.integers(0, DAYS * 86_400, CONTACTS))
    frame = pd.DataFrame(
        {
            "time": FROM + pd.to_timedelta(seconds, unit="s"),
            "question": rng.choice(names, CONTACTS, p=weight / weight.sum()),
        }
    )
    return frame.assign(true=_version_at(frame["time"], frame["question"], table))


@cache
def _served(lives: float, seed: int) -> pd.DataFrame:
    kept: dict[str, tuple[pd.Timestamp, str]] = {}
    rows, life = [], pd.Timedelta(days=lives)
    for time, question, version in _asked(seed).itertuples(index=False, name=None):
        cached = question in kept and time - kept[question][0] < life
        if not cached and pd.isna(version):
            continue  # nothing is in force: a person answers
        if not cached:
            kept[question] = (time, version)
        rows.append((time, question, kept[question][1], cached))
    return pd.DataFrame(rows, columns=["time", "question", "said", "from_cache"])


def served(lives: float = LIVES, seed: int | None = None) -> pd.DataFrame:
    """Return 800 days of answers by a bot with a cache.

    The cache is looked up by the question. Times and questions are drawn, those on articles that
    change or end three times as often as others; there is one question for each article.

    Parameters
    ----------
    lives : float
        Days for which an answer is kept.
    seed : int, optional

    Returns
    -------
    DataFrame
        In order of time: ``time``, ``question`` (the ``article_id`` that answers it), ``said`` (the
        ``id`` of the version that was cited), ``from_cache``. A contact for which nothing was kept
        and nothing was in force went to a person and is not in the log.
    """
    return _served(lives, own(seed)).copy()


def moments(table: pd.DataFrame) -> list[pd.Timestamp]:
    """Return moments at which a rule of validity shows what it does.

    Parameters
    ----------
    table : DataFrame
        Of :func:`versions`.
    """
    newest = table.groupby("article_id")["valid_from"].transform("max") == table["valid_from"]
    ends = table["valid_to"].sort_values()
    replaced, withdrawn = ends[~newest].dropna().iloc[1], ends[newest].dropna().iloc[0]
    day = pd.Timedelta(days=1)
    return [end + part * day for end in (replaced, withdrawn) for part in (0, 0.5, 1, 1.5)]


# Question 7: contained and not helped.

POLICIES = ("answers all", "hands over")
#: Months of contacts; margin from which the second policy answers.
MONTHS, FROM_MARGIN = 4, 0.15


def contacts(seed: int | None = None) -> pd.DataFrame:
    """Return what came of the same contacts under two policies.

    Returns
    -------
    DataFrame
        ``contact``, ``question``, ``policy`` (answers all; hands over where it is not sure),
        ``fate``, ``contained`` (no person had to deal with it), ``resolved`` (the customer has
        what he came for), ``carrier`` and ``customer`` (euro: the carrier's bill, and what the
        customer loses after goodwill).
    """
    seed = own(seed)
    drawn, answers = 1591 + seed, answered(seed)
    frame = world.contacts(drawn, MONTHS)
    frame = frame[frame["question"].isin(answers.index)].reset_index(drop=True)
    of = answers.loc[frame["question"]]
    there = world.staffed(frame["arrived"])
    person = np.where(there, "abstain_to_human", "abstain_no_human")
    told = np.where(of["right"], "right", "wrong")
    sure = (of["margin"] >= FROM_MARGIN).to_numpy()
    parts = []
    for policy, kinds in zip(POLICIES, (told, np.where(sure, told, person)), strict=True):
        out = world.outcomes(frame, list(kinds), drawn)
        parts.append(
            pd.DataFrame(
                {
                    "contact": frame["contact"],
                    "question": frame["question"],
                    "policy": policy,
                    "fate": out["fate"],
                    "contained": ~out["escalated"],
                    "resolved": out["resolved"],
                    "carrier": out["cost_eur"].round(2),
                    "customer": ((1 - GOODWILL) * out["customer_loss_eur"]).round(2),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
