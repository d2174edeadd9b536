"""Questions of exercise 16: fusion, a threshold, a judge, chunks, a leak, a cache, containment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import evaluation, world
from casebook.cases.support_rag_chatbot.judging import Judge, swapped
from casebook.cases.support_rag_chatbot.languages import as_articles
from casebook.cases.support_rag_chatbot.world.contacts import GOODWILL
from casebook.exercises.grading import Question, Wrong, WrongAnswer, close, number
from casebook.retrieval.chunks import Article, Chunker, read_articles
from casebook.retrieval.fusion import reciprocal_rank_fusion
from casebook.retrieval.lexical import BM25

#: Two-sided 95 % point of the normal distribution.
Z = 1.96

# What the exercise shows and the checks compute from. ---------------------------------


@dataclass(frozen=True)
class Desk:
    """The tuning questions that reach the help centre, and how well each English article fits.

    Attributes
    ----------
    rows : DataFrame
        Of :func:`casebook.cases.support_rag_chatbot.evaluation.asked`, from 0.
    articles : tuple of Article
        Those in English that are in force on the day of the questions.
    words, vectors, fit : ndarray, shape (questions, articles)
        BM25 score and cosine of an article's best section, the question put into English by the
        glossary; and the sum of both with the best sentence's cosine, each from 0 to 1.
    """

    rows: pd.DataFrame
    articles: tuple[Article, ...]
    words: np.ndarray
    vectors: np.ndarray
    fit: np.ndarray

    @property
    def names(self) -> np.ndarray:
        """Article ids, in the order of the columns."""
        return np.array([article.article_id for article in self.articles], object)


def _best(scores: np.ndarray, owner: Sequence[int], n: int) -> np.ndarray:
    """Return the best score of each owner's columns, shape (rows, n)."""
    table = np.full((len(scores), n), -np.inf)
    for column, place in enumerate(owner):
        np.maximum(table[:, place], scores[:, column], out=table[:, place])
    return table


def _from_0_to_1(scores: np.ndarray) -> np.ndarray:
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    return (scores - low) / np.where(high > low, high - low, 1)


@cache
def desk() -> Desk:
    """Return the exercise's part of the world; the test questions are not in it.

    Returns
    -------
    Desk
    """
    table = evaluation.asked()
    rows = evaluation.to_articles(table[table["split"] == "tune"]).reset_index(drop=True)
    page = world.knowledge_base(evaluation.NOW)
    articles = read_articles(as_articles(page[page["language"] == "en"]))
    model = evaluation.embedder()
    queries = [query.english for query in rows["query"]]
    asked, scores = model.encode(queries), {}
    for name, cut in (("sections", Chunker()), ("sentences", Chunker("sentences", 1))):
        chunks = [(i, chunk) for i, article in enumerate(articles) for chunk in cut(article)]
        owner, texts = [i for i, _ in chunks], [chunk.indexed for _, chunk in chunks]
        scores[name] = _best(asked @ model.encode(texts).T, owner, len(articles))
        if name == "sections":
            lexical = BM25(texts)
            found = np.array([lexical.scores(query) for query in queries])
            scores["words"] = _best(found, owner, len(articles))
    parts = {"sections": 0.5, "sentences": 0.3, "words": 0.2}
    fit = sum(weight * _from_0_to_1(scores[name]) for name, weight in parts.items())
    return Desk(rows, tuple(articles), scores["words"], scores["sections"], fit)


@cache
def _relevant() -> dict[str, frozenset[str]]:
    """Return the articles that answer each question."""
    judged = evaluation.relevance()
    judged = judged[judged["doc_id"].isin(desk().names)]
    return judged.groupby("query_id")["doc_id"].agg(frozenset).to_dict()


def _is_right(ids: Sequence[str], first: Sequence[str]) -> np.ndarray:
    return np.array(
        [name in _relevant().get(i, frozenset()) for i, name in zip(ids, first, strict=True)]
    )


def _series(answer: object, name: str, index: pd.Index) -> np.ndarray:
    """Return an answer as values, one for each label of an index, in its order."""
    if not isinstance(answer, pd.Series):
        raise Wrong(f"`{name}` should be a Series; it is of type {type(answer).__name__}.")
    if not answer.index.is_unique:
        raise Wrong(f"The index of `{name}` repeats a label: one value for each.")
    if missing := len(set(index) - set(answer.index)):
        raise Wrong(f"{missing:,} of {len(index):,} rows have no value in `{name}`.")
    values = answer.loc[index]
    if values.isna().any():
        raise Wrong(f"{int(values.isna().sum()):,} values of `{name}` are missing.")
    return values.to_numpy()


def _word(answer: object, name: str, allowed: Sequence[str]) -> str:
    if not isinstance(answer, str) or answer not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed)
        raise Wrong(f"`{name}` should be one of {words}.")
    return answer


def _whole(answer: object, name: str) -> int:
    value = number(answer, name)
    if value != int(value):
        raise Wrong(f"`{name}` of {value:.4g} is no whole number.")
    return int(value)


def _slip(value: float, slips: Sequence[tuple[float, str]], tolerance: float) -> None:
    """Raise the reason of the first slip that gives this value."""
    for wrong, reason in slips:
        if close(value, wrong, tolerance):
            raise Wrong(reason)


# Question 1: reciprocal rank fusion. --------------------------------------------------

KEYS = ["query_id", "doc_id"]
#: Documents of a list; the constant of the fusion.
DEPTH, K = 10, 60


def english() -> pd.DataFrame:
    """Return the judgements of the English questions: ``query_id``, ``doc_id``, ``relevance``."""
    rows = desk().rows
    ids = rows.loc[(rows["language"] == "en") & rows["answerable"], "id"]
    found = [(i, name, 1) for i in ids for name in sorted(_relevant().get(i, ()))]
    return pd.DataFrame(found, columns=[*KEYS, "relevance"])


@cache
def _runs(depth: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    here = desk()
    judged = set(english()["query_id"])
    rows = here.rows[here.rows["id"].isin(judged)]
    return tuple(
        evaluation.run_of(scores[rows.index], list(rows["id"]), here.names, depth)
        for scores in (here.words, here.vectors)
    )


def runs(depth: int = DEPTH) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what words and vectors find for the English questions.

    Parameters
    ----------
    depth : int
        Documents that are kept of each list.

    Returns
    -------
    words, vectors : DataFrame
        Runs: ``query_id``, ``doc_id``, ``rank`` from 1, ``score``.
    """
    words, vectors = _runs(depth)
    return words.copy(), vectors.copy()


def _hidden() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two small runs: rows in no order, lists of other lengths, a question in one only."""
    rng = np.random.default_rng(16)
    parts = []
    for name, sizes in (("a", {"q1": 5, "q2": 3, "q3": 2}), ("b", {"q1": 4, "q2": 7, "q4": 3})):
        rows = []
        for query, size in sizes.items():
            docs = rng.permutation([f"d{i}" for i in range(8)])[:size]
            top = 12.0 if name == "a" else 0.8
            rows += [(query, d, r, top / (r + 1)) for r, d in enumerate(docs, 1)]
        frame = pd.DataFrame(rows, columns=[*KEYS, "rank", "score"])
        order = rng.permutation(len(frame))
        parts.append(frame.iloc[order].set_axis(order + 100))
    return parts[0], parts[1]


def _fused(first: pd.DataFrame, second: pd.DataFrame, points: Callable, how: str = "sum"):
    """Return the score of each question's documents: points of each list, put together."""
    parts = [run[KEYS].assign(score=points(run)) for run in (first, second)]
    return pd.concat(parts).groupby(KEYS)["score"].agg(how)


def _slips_in_fusion(
    first: pd.DataFrame, second: pd.DataFrame, k: int
) -> Iterator[tuple[pd.Series, str]]:
    """Yield what the usual slips give."""

    def points(run: pd.DataFrame) -> pd.Series:
        return 1 / (k + run["rank"])

    right = _fused(first, second, points)
    count = _fused(first, second, points, "count")
    yield (
        _fused(first, second, lambda run: run["score"]),
        "adds the scores themselves. A BM25 score of 12 and a cosine of 0.6 have no common unit: "
        "the list with the larger numbers decides alone. Only the ranks may count.",
    )
    yield (
        _fused(first, second, lambda run: 1 / (k + run["rank"] - 1)),
        "counts ranks from 0. They are from 1 here, as in the paper; nothing has to be taken away.",
    )
    yield (
        right[count == 2],
        "keeps only what both lists found. The point of two lists is what one of them missed: an "
        "outer join, not an inner one.",
    )
    yield (
        _fused(first, second, points, "max"),
        "takes the better of the two ranks. Then it does not matter whether the other list "
        "agrees; RRF *adds* what the lists give.",
    )
    yield (
        _fused(first, second, points, "mean"),
        "takes the mean over the lists that found a document. Then to be missed by one list costs "
        "nothing. What a list did not find gets 0 from it.",
    )
    yield (
        _lent(first, second, k, lambda last: 1),
        "gives a document that a list did not find its rank 1. A default of 0 *points* was meant, "
        "and not a default rank.",
    )
    yield (
        _lent(first, second, k, lambda last: last + 1),
        "gives a document that a list did not find the rank after its last one. Then a short list "
        "gives away more than a long one. What is not found gets nothing.",
    )
    yield (
        _fused(first, second, lambda run: k + 1 / run["rank"]),
        "adds the constant after the division. It belongs below the line: 1 / (k + rank).",
    )


def _lent(first: pd.DataFrame, second: pd.DataFrame, k: int, rank: Callable) -> pd.Series:
    """Return the fusion that lends a rank to what a list did not find, by the list's last one."""
    total = _fused(first, second, lambda run: 1 / (k + run["rank"]))
    for run in (first, second):
        held = set(run[KEYS].itertuples(index=False, name=None))
        last = run.groupby("query_id")["rank"].max()
        for key in total.index.difference(held):
            total[key] += 1 / (k + rank(int(last.get(key[0], 0))))
    return total


def _proportional(answer: pd.Series, expected: pd.Series) -> bool:
    if set(answer.index) != set(expected.index):
        return False
    ratio = answer.loc[expected.index] / expected
    return bool(np.allclose(ratio, ratio.iloc[0], rtol=1e-6)) and ratio.iloc[0] > 0


def _judge_fusion(fuse: object, deepest: object, largest_k: object) -> str:
    if not callable(fuse):
        raise Wrong("`fuse` should be a function of two runs and k.")
    cases = [(*runs(), K), (*_hidden(), K), (*_hidden(), 5)]
    for first, second, k in cases:
        before = first.copy(), second.copy()
        fused = fuse(first, second, k)
        if not isinstance(fused, pd.DataFrame) or not {*KEYS, "score"} <= set(fused):
            raise Wrong(
                "`fuse` should return a DataFrame with the columns query_id, doc_id and score."
            )
        if not (first.equals(before[0]) and second.equals(before[1])):
            raise Wrong("`fuse` changes the runs that it is given. Work on copies.")
        if fused.duplicated(KEYS).any():
            raise Wrong(
                "`fuse` returns a document twice for a question: what its two lists give it has "
                "to be added up."
            )
        scores = fused.set_index(KEYS)["score"]
        right = reciprocal_rank_fusion([first, second], k=k).set_index(KEYS)["score"]
        if _proportional(scores, right):
            continue
        for slip, reason in _slips_in_fusion(first, second, k):
            if _proportional(scores, slip):
                raise Wrong(f"`fuse` {reason}")
        if k != K and _proportional(
            scores, reciprocal_rank_fusion([first, second], k=K).set_index(KEYS)["score"]
        ):
            raise Wrong(f"`fuse` uses {K} whatever k it is given.")
        if len(scores) != len(right):
            raise Wrong(
                f"`fuse` returns {len(scores)} rows where the two lists hold {len(right)} pairs "
                "of a question and a document. Each pair belongs there once."
            )
        raise Wrong(
            "`fuse` gives other scores than 1 / (k + rank), added up over the lists. The rows of a "
            "run may stand in any order, and the lists may differ in length and in their "
            "questions: use the column `rank` and the pair of names, never the place of a row."
        )
    _check_deepest(_whole(deepest, "deepest"))
    _check_largest(_whole(largest_k, "largest_k"))
    return (
        f"At k = {K} two votes beat one down to rank {K + 1}: with lists of {DEPTH}, whatever both "
        f"hold stands above what one holds. Only with k up to {DEPTH - 3} does a first place alone "
        f"win against two tenth ones."
    )


def _check_deepest(value: int) -> None:
    if value == K + 1:
        return
    _slip(
        value,
        [
            (
                K + 2,
                "`deepest`: at rank 62 both have the same score, 1 / 61. It has to be *higher*.",
            ),
            (
                K,
                "`deepest`: at rank 60 it is still ahead, and one further, too. Solve "
                "2 / (60 + r) > 1 / 61.",
            ),
            (
                DEPTH,
                "`deepest`: 10 is where these lists end. The question is where the arithmetic "
                "ends.",
            ),
            (
                2,
                "`deepest`: rank 2 is what reciprocal ranks without a constant would give. The "
                "constant of 60 flattens them.",
            ),
        ],
        1e-9,
    )
    raise Wrong(
        f"`deepest` of {value}: alone at rank 1 a document has 1 / 61, at rank r in both lists "
        "2 / (60 + r). Down to which r is the second more?"
    )


def _check_largest(value: int) -> None:
    if value == DEPTH - 3:
        return
    _slip(
        value,
        [
            (
                DEPTH - 2,
                "`largest_k`: at k = 8 both have 1 / 9. The first place alone has to be *ahead*.",
            ),
            (
                K,
                "`largest_k`: at 60 the first place alone has 1 / 61, and the two tenth ones have "
                "2 / 70: more.",
            ),
            (
                0,
                "`largest_k`: at k = 0 the first place alone wins, by far. It does for some larger "
                "ones, too.",
            ),
        ],
        1e-9,
    )
    raise Wrong(
        f"`largest_k` of {value}: compare 1 / (k + 1) with 2 / (k + 10) and keep the largest whole "
        "k at which the first is more."
    )


_FUSE = (
    "def fuse(first, second, k=60):\n"
    "    parts = [r.assign(score=1 / (k + r['rank'])) for r in (first, second)]\n"
    "    both = pd.concat(parts).groupby(['query_id', 'doc_id'])\n"
    "    return both['score'].sum().reset_index()\n"
    "deepest, largest_k = 61, 7\n"
)
_FUSE_OF = (
    "def fuse(first, second, k=60):\n"
    "    a, b = (r.set_index(['query_id', 'doc_id'])['rank'] for r in (first, second))\n"
    "    a, b = a.align(b)\n"
    "    {points}\n"
    "    return s.rename('score').reset_index()\n"
    "deepest, largest_k = 61, 7\n"
)

q1 = Question(
    number=1,
    asks="`fuse`, a function, and `deepest` and `largest_k`, two whole numbers",
    judge=_judge_fusion,
    hints=(
        "What has no common unit must not be added. Ranks have one. And a document that a list "
        "does not hold has no rank there at all: what should it get?",
        "Give each row 1 / (k + rank), put the two runs below each other, and add up by question "
        "and document. For the numbers, write both scores down and solve the inequality.",
        "2 / (60 + r) > 1 / 61 holds as long as r < 62; 1 / (k + 1) > 2 / (k + 10) as long as "
        "k < 8.",
    ),
    wrong_answers=(
        WrongAnswer(
            _FUSE.replace("1 / (k + r['rank'])", "r['score']"), "adds the scores themselves"
        ),
        WrongAnswer(_FUSE.replace("(k + r['rank'])", "(k + r['rank'] - 1)"), "counts ranks from 0"),
        WrongAnswer(
            _FUSE_OF.replace("{points}", "s = 1 / (k + a.fillna(1)) + 1 / (k + b.fillna(1))"),
            "its rank 1",
        ),
        WrongAnswer(
            _FUSE_OF.replace("{points}", "s = (1 / (k + a) + 1 / (k + b)).dropna()"),
            "keeps only what both",
        ),
        WrongAnswer(_FUSE.replace(".sum()", ".max()"), "takes the better of the two"),
        WrongAnswer(_FUSE.replace(".sum()", ".mean()"), "takes the mean over the lists"),
        WrongAnswer(
            _FUSE.replace("1 / (k + r['rank'])", "1 / (60 + r['rank'])"), "whatever k it is given"
        ),
        WrongAnswer(_FUSE + "deepest = 62", "at rank 62 both"),
        WrongAnswer(_FUSE + "deepest = 2", "rank 2 is what"),
        WrongAnswer(_FUSE + "largest_k = 8", "at k = 8 both"),
    ),
)


# Question 2: a threshold by cost. -----------------------------------------------------

#: Euro for a contact: the carrier's own bill, goodwill in it, and what the customer loses before
#: it. Rounded from the world's outcomes.
RIGHT, WRONG, GOODWILL_PAID, LOST, PERSON = 0.30, 5.20, 2.30, 4.60, 4.50
#: What a wrong answer costs both together: goodwill only changes pockets.
WRONG_BOTH = WRONG + LOST - GOODWILL_PAID


@cache
def _answered() -> pd.DataFrame:
    here = desk()
    first = here.names[here.fit.argmax(axis=1)]
    ordered = np.sort(here.fit, axis=1)
    groups = {name: i for i, name in enumerate(sorted(set(here.rows["group"])))}
    return pd.DataFrame(
        {
            "part": np.where(here.rows["group"].map(groups) % 2, "judge", "choose"),
            "margin": (ordered[:, -1] - ordered[:, -2]).round(4),
            "right": _is_right(here.rows["id"], first),
        },
        index=pd.Index(here.rows["id"], name="question"),
    )


def answered() -> pd.DataFrame:
    """Return what the exercise's bot would answer: the article that fits best.

    Returns
    -------
    DataFrame
        Index ``question``: ``part`` (choose or judge: whole groups of topics in either),
        ``margin`` (how far the best article stands above the second, 0 to 1; no probability),
        ``right``. Questions that no article answers are among them.
    """
    return _answered().copy()


def bill(table: pd.DataFrame, threshold: float, wrong: float = WRONG_BOTH) -> float:
    """Return the euro for 100 questions if those from a threshold on are answered.

    Parameters
    ----------
    table : DataFrame
        Of :func:`answered`.
    threshold : float
    wrong : float
        Of a wrong answer.
    """
    told = np.where(table["right"], RIGHT, wrong)
    return 100 * float(np.where(table["margin"] >= threshold, told, PERSON).mean())


def _cut(table: pd.DataFrame, wrong: float = WRONG_BOTH) -> float:
    """Return the threshold with the lowest bill."""
    candidates = [0.0, *np.unique(table["margin"]), 2.0]
    return candidates[int(np.argmin([bill(table, c, wrong) for c in candidates]))]


def _even(wrong: float = WRONG_BOTH, person: float = PERSON) -> float:
    """Return the probability of being right from which an answer is cheaper than a person."""
    return (wrong - person) / (wrong - RIGHT)


def _parts() -> tuple[pd.DataFrame, pd.DataFrame]:
    table = _answered()
    return table[table["part"] == "choose"], table[table["part"] == "judge"]


#: How much dearer than the cheapest threshold of the rows to choose on an answer may be.
SLACK = 0.02


def _judge_threshold(break_even: object, threshold: object, saved: object) -> str:
    value = number(break_even, "break_even")
    if not close(value, _even(), 0.003):
        _slip(
            value,
            [
                (
                    0.5,
                    "`break_even` of one half would be right if a wrong answer cost a person more "
                    "just as much as a right one saves. Here it costs 3.00 more and saves 4.20.",
                ),
                (
                    _even(WRONG),
                    "`break_even` looks at the carrier's own bill. The customer who believes a "
                    "wrong answer loses money as well, and the question asks for both.",
                ),
                (
                    _even(WRONG + LOST),
                    "`break_even` counts the goodwill twice. It leaves the carrier's pocket and "
                    "arrives in the customer's: of the two together it costs nothing.",
                ),
                (
                    1 - _even(),
                    "`break_even` is the probability of being *wrong* at which both cost the same. "
                    "The question asks for that of being right.",
                ),
                (
                    RIGHT / (RIGHT + WRONG_BOTH),
                    "`break_even` weighs a right answer against a wrong one. The choice is between "
                    "an answer, right or wrong, and a *person*, who costs 4.50.",
                ),
                (
                    _even(person=0),
                    "`break_even` lets people work for nothing: handing over costs 4.50.",
                ),
                (
                    1 - (PERSON - RIGHT) / WRONG_BOTH,
                    "`break_even` adds the price of a wrong answer to that of a right one: only "
                    "one of the two happens. The right answer's 0.30 has weight p, not 1.",
                ),
            ],
            0.003,
        )
        raise Wrong(
            f"`break_even` of {value:.4g}: p · 0.30 + (1 − p) · (what a wrong answer costs both) "
            "= 4.50. What does a wrong answer cost the two of them together?"
        )
    cut = number(threshold, "threshold")
    choose, rest = _parts()
    least = bill(choose, _cut(choose))
    if bill(choose, cut) > (1 + SLACK) * least:
        _check_threshold(cut, choose, rest, least)
    gain = number(saved, "saved")
    right = bill(rest, 0) - bill(rest, cut)
    if not close(gain, right, 0.003):
        head = "`break_even` and `threshold` are right. `saved` "
        everything = pd.concat([choose, rest])
        _slip(
            gain,
            [
                (
                    bill(choose, 0) - bill(choose, cut),
                    head + "is what the threshold saves on the questions that chose it. They "
                    "flatter: take those of the other part.",
                ),
                (
                    bill(everything, 0) - bill(everything, cut),
                    head + "is taken over both parts, and half of them chose the threshold.",
                ),
                (
                    bill(rest, 2) - bill(rest, cut),
                    head + "is the saving against handing everything over. The question asks for "
                    "that against answering everything.",
                ),
                (
                    bill(rest, 0, WRONG) - bill(rest, cut, WRONG),
                    head + "is the carrier's alone: of that alone, answering everything looks "
                    "better than it is.",
                ),
                (
                    bill(rest, 0, WRONG + LOST) - bill(rest, cut, WRONG + LOST),
                    head + "counts the goodwill twice.",
                ),
                (right / 100, head + "is for one question; give it for 100."),
                (-right, head + "has its sign turned: what is saved counts as positive."),
            ],
            0.003,
        )
        raise Wrong(
            head + f"of {gain:.4g}: the bill of answering everything minus the bill with your "
            "threshold, both on the rows with `part` judge, in euro for 100 questions."
        )
    share = (rest["margin"] >= cut).mean()
    return (
        f"An answer pays from {_even():.1%} on. On questions that did not choose it, the threshold "
        f"answers {share:.0%} and saves {gain:.0f} euro in 100 questions against answering "
        f"everything, {bill(rest, 2) - bill(rest, cut):.0f} against handing all over."
    )


def _check_threshold(cut: float, choose: pd.DataFrame, rest: pd.DataFrame, least: float) -> None:
    head = "`break_even` is right. `threshold` "
    _slip(
        cut,
        [
            (
                _even(),
                head + "takes the break-even for a margin. The margin is no probability: nobody "
                "has taught it that 0.4 should be right in four cases of ten. Try cut-offs on the "
                "rows to choose on, or learn probabilities there first.",
            ),
            (
                _cut(choose, WRONG),
                head + "has the lowest bill of the carrier alone. The customer's loss decides "
                "as well.",
            ),
            (
                _cut(rest),
                head + "has been chosen on the rows that are to judge it.",
            ),
            (
                0,
                head + "answers everything.",
            ),
        ],
        1e-6,
    )
    if (choose["margin"] >= cut).mean() < 0.05:
        raise Wrong(head + "hands nearly everything over. The surest answers are worth giving.")
    raise Wrong(
        head + f"of {cut:.4g} costs {bill(choose, cut):.0f} euro in 100 questions of the part to "
        f"choose on, and {least:.0f} are possible. Answer where the margin is *at least* the "
        "threshold, and try every margin that occurs."
    )


_COST = (
    "def bill_of(t, cut, wrong=7.50):\n"
    "    told = np.where(t['right'], 0.30, wrong)\n"
    "    return 100 * np.where(t['margin'] >= cut, told, 4.50).mean()\n"
    "choose, rest = (desk[desk['part'] == p] for p in ('choose', 'judge'))\n"
    "def best(t, wrong=7.50):\n"
    "    return min(np.unique(t['margin']), key=lambda c: bill_of(t, c, wrong))\n"
    "break_even = (7.50 - 4.50) / (7.50 - 0.30)\n"
    "threshold = best(choose)\n"
    "saved = bill_of(rest, 0) - bill_of(rest, threshold)\n"
)

q2 = Question(
    number=2,
    asks="`break_even`, `threshold` and `saved`, three numbers",
    judge=_judge_threshold,
    hints=(
        "Follow the money of a wrong answer: what does the carrier pay, what does the customer "
        "lose, and which euro appears in both columns?",
        "A wrong answer costs the two of them 5.20 + 4.60 − 2.30. The break-even is a probability "
        "and the margin is none, so the threshold has to be found on rows whose end is known.",
        "For every margin that occurs among the rows with `part` choose, add up 0.30, 7.50 or 4.50 "
        "for each question; the cheapest is the threshold. `saved` is then a difference of two "
        "bills on the rows with `part` judge.",
    ),
    wrong_answers=(
        WrongAnswer(_COST + "break_even = 0.5", "of one half"),
        WrongAnswer(_COST + "break_even = (5.20 - 4.50) / (5.20 - 0.30)", "the carrier's own bill"),
        WrongAnswer(
            _COST + "break_even = (9.80 - 4.50) / (9.80 - 0.30)", "counts the goodwill twice"
        ),
        WrongAnswer(_COST + "break_even = 1 - break_even", "of being *wrong*"),
        WrongAnswer(_COST + "threshold = break_even", "takes the break-even for a margin"),
        WrongAnswer(_COST + "threshold = 0.5", "hands nearly everything over"),
        WrongAnswer(_COST + "threshold = best(choose, 5.20)", "of the carrier alone"),
        WrongAnswer(_COST + "threshold = best(rest)", "rows that are to judge it"),
        WrongAnswer(
            _COST + "saved = bill_of(choose, 0) - bill_of(choose, threshold)", "They flatter"
        ),
        WrongAnswer(
            _COST + "saved = bill_of(rest, 2) - bill_of(rest, threshold)", "handing everything over"
        ),
    ),
)


# Question 3: a judge and its bias. ----------------------------------------------------

#: Pairs of answers; those that people read, too.
PAIRS, READ = 2400, 300
#: The judge of the exercise: of one family with the new bot, and fond of what stands first.
JUDGE = Judge(skill=4.0, first=1.0, longer=0.8, own=0.8)


@cache
def _verdicts() -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(1616)
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
            "new_first": JUDGE.prefers_first(pairs, 1).astype(int),
            "new_second": 1 - JUDGE.prefers_first(swapped(pairs), 2).astype(int),
            "words_new": pairs["words_a"].astype(int),
            "words_old": pairs["words_b"].astype(int),
            "person": better.where(rng.permutation(PAIRS) < READ),
        }
    )
    return table.rename_axis("pair"), better


def verdicts() -> pd.DataFrame:
    """Return how a judge compares a new bot with the old one, each pair in both orders.

    Drawn: the quality of both answers (right 1, partial 0.5, wrong 0), their lengths, and the
    verdicts of a :class:`~casebook.cases.support_rag_chatbot.judging.Judge` with a planted bias.

    Returns
    -------
    DataFrame
        Index ``pair``: ``new_first`` and ``new_second`` (1 where the judge prefers the new bot's
        answer, which stands first or second), ``words_new``, ``words_old``, ``person`` (1, 0.5 for
        a draw, 0; missing where nobody read the pair: read were 300 pairs drawn at random).
    """
    return _verdicts()[0].copy()


def people() -> pd.Series:
    """Return what people would have said of *all* pairs: for the reasoning, no answer uses it."""
    return _verdicts()[1].rename("person").copy()


def drawn_again(times: int = 500, seed: int = 0) -> pd.DataFrame:
    """Draw the pairs that people read anew, and estimate the win rate each time.

    Parameters
    ----------
    times : int
    seed : int

    Returns
    -------
    DataFrame
        A row for each draw: ``300 people alone`` and ``judge, corrected``.
    """
    table, better = _verdicts()
    judged = table[["new_first", "new_second"]].mean(axis=1)
    rng, rows = np.random.default_rng(seed), []
    for _ in range(times):
        read = rng.choice(PAIRS, READ, replace=False)
        said = better.iloc[read].mean()
        rows.append((said, judged.mean() + said - judged.iloc[read].mean()))
    return pd.DataFrame(rows, columns=["300 people alone", "judge, corrected"])


def _corrected(table: pd.DataFrame) -> tuple[float, ...]:
    """Return the corrected win rate and the half-widths of its 95 % interval that are accepted.

    The smallest takes the judge's mean over all pairs for known, the largest adds its variance.
    """
    judged = table[["new_first", "new_second"]].mean(axis=1)
    gap = (table["person"] - judged).dropna()
    of_gap, of_judge = gap.var() / len(gap), judged.var() / len(judged)
    return judged.mean() + gap.mean(), Z * np.sqrt(of_gap), Z * np.sqrt(of_gap + of_judge)


def _judge_judge(position: object, both: object, corrected: object, half: object) -> str:
    table = _verdicts()[0]
    first, second = table["new_first"].mean(), table["new_second"].mean()
    value = number(position, "position")
    if not close(value, first - second, 0.005):
        _slip(
            value,
            [
                (
                    second - first,
                    "`position` has its sign turned: the new bot wins more often when it stands "
                    "first.",
                ),
                (
                    (first - second) / 2,
                    "`position` is half of it: the distance of either order from the mean of both. "
                    "The question asks what moving from second to first place does.",
                ),
                (
                    first - 0.5,
                    "`position` compares the first order with one half. But the new bot need not "
                    "be as good as the old one: compare it with itself in the other place.",
                ),
                (
                    (table["new_first"] != table["new_second"]).mean(),
                    "`position` is the share of pairs whose verdict changed. Some of them changed "
                    "against the bias, by chance: count those against the others.",
                ),
                (100 * (first - second), "`position` is in points; give it as a share."),
            ],
            0.005,
        )
        raise Wrong(
            f"`position` of {value:.4g}: how much more often does the new bot win when its answer "
            "stands first than when the same answer stands second?"
        )
    mean = number(both, "both")
    right = (first + second) / 2
    agreed = table[table["new_first"] == table["new_second"]]["new_first"].mean()
    head = "`position` is right. `both` "
    if not close(mean, right, 0.005):
        _slip(
            mean,
            [
                (
                    agreed,
                    head + "drops the pairs on which the two orders differ. Those are the close "
                    "ones; what is left is not the same question, and exaggerates whatever the "
                    "judge leans to. A pair judged both ways is half a win.",
                ),
                (first, head + "takes one order only, the one that helps the new bot."),
                (second, head + "takes one order only, the one that helps the old bot."),
            ],
            0.005,
        )
        raise Wrong(head + f"of {mean:.4g}: the mean of the new bot's wins over both orders.")
    best, low, high = _corrected(table)
    answer = number(corrected, "corrected")
    head = "`position` and `both` are right. `corrected` "
    read = table["person"].notna()
    people_alone = table["person"].mean()
    if not close(answer, best, 0.004):  # the mean over the other pairs, too
        _slip(
            answer,
            [
                (
                    people_alone,
                    head + "is what people say of 300 pairs. That is fair, and throws away 2,100 "
                    "pairs that the judge has read. Let people measure the judge's error, and "
                    "take it from the mean over all.",
                ),
                (
                    right,
                    head + "is still the mean of both orders. Swapping takes away what depends on "
                    "the place. Length and style go with the answer, wherever it stands.",
                ),
                (
                    agreed,
                    head + "drops the pairs on which the orders differ.",
                ),
                (
                    2 * right - best,
                    head + "adds the judge's error instead of taking it away: what people say "
                    "minus what the judge says is negative here.",
                ),
                (
                    first + (table["person"] - table["new_first"])[read].mean(),
                    head + "corrects one order alone. That is fair, too; but both were paid for, "
                    "and their mean follows people more closely.",
                ),
                (
                    table["person"].fillna(table[["new_first", "new_second"]].mean(axis=1)).mean(),
                    head + "takes people's word for 300 pairs and the judge's for the rest: the "
                    "bias of seven pairs in eight is still in it.",
                ),
            ],
            0.004,
        )
        raise Wrong(
            head + f"of {answer:.4g}: the judge's mean over all pairs, plus the mean of what "
            "people say minus what the judge says on the pairs that both have read."
        )
    width = number(half, "half")
    if not 0.985 * low <= width <= 1.015 * high:
        head = "Three are right. `half` "
        judged = table[["new_first", "new_second"]].mean(axis=1)
        gap = (table["person"] - judged).dropna()
        _slip(
            width,
            [
                (
                    Z * table["person"].std() / np.sqrt(read.sum()),
                    head + "is that of people alone. With the judge it is narrower: that is what "
                    "he is for.",
                ),
                (
                    Z * judged.std() / np.sqrt(len(judged)),
                    head + "is that of the judge's mean. What is uncertain is his error, which "
                    "was measured on 300 pairs.",
                ),
                (
                    Z * gap.std() / np.sqrt(len(table)),
                    head + "divides by all pairs. His error was measured on 300 of them.",
                ),
                (low / Z, head + "is one standard error; 95 % reaches 1.96 of them."),
                (2 * low, head + "is the whole width, or nearly."),
            ],
            0.015,
        )
        raise Wrong(
            head + f"of {width:.4g}: 1.96 times the standard deviation of (people − judge) over "
            "the square root of the number of pairs that people read."
        )
    return (
        f"The judge sees the new bot ahead with {right:.1%}, after swapping. Corrected by 300 "
        f"pairs it is {best:.1%} ± {width:.1%}: nothing speaks for the new bot."
    )


_JUDGED = (
    "judged = verdicts[['new_first', 'new_second']].mean(axis=1)\n"
    "position = verdicts['new_first'].mean() - verdicts['new_second'].mean()\n"
    "both = judged.mean()\n"
    "gap = (verdicts['person'] - judged).dropna()\n"
    "corrected = both + gap.mean()\n"
    "half = 1.96 * gap.std() / np.sqrt(len(gap))\n"
    "agreed = verdicts[verdicts['new_first'] == verdicts['new_second']]\n"
)

q3 = Question(
    number=3,
    asks="`position`, `both`, `corrected` and `half`, four numbers between 0 and 1",
    judge=_judge_judge,
    hints=(
        "Compare the new bot with itself: the same answers, first and second. What stays the same "
        "in both orders, and may still be a bias?",
        "Take each pair's mean of the two verdicts: 1, 0.5 or 0. On the pairs that people read you "
        "can see how far it is off on average.",
        "`corrected` is the judge's mean over all pairs plus the mean of (person − judge) over the "
        "300; its uncertainty is nearly all in the second.",
    ),
    wrong_answers=(
        WrongAnswer(_JUDGED + "position = verdicts['new_first'].mean() - 0.5", "with one half"),
        WrongAnswer(_JUDGED + "position /= 2", "is half of it"),
        WrongAnswer(_JUDGED + "position = 1 - len(agreed) / len(verdicts)", "whose verdict"),
        WrongAnswer(_JUDGED + "both = agreed['new_first'].mean()", "drops the pairs on which the"),
        WrongAnswer(_JUDGED + "both = verdicts['new_first'].mean()", "one order only"),
        WrongAnswer(_JUDGED + "corrected = both", "Length and style go with"),
        WrongAnswer(_JUDGED + "corrected = verdicts['person'].mean()", "throws away 2,100"),
        WrongAnswer(
            _JUDGED + "corrected = verdicts['person'].fillna(judged).mean()", "seven pairs in eight"
        ),
        WrongAnswer(
            _JUDGED + "half = 1.96 * gap.std() / np.sqrt(len(verdicts))", "divides by all pairs"
        ),
        WrongAnswer(
            _JUDGED + "half = 1.96 * verdicts['person'].std() / np.sqrt(len(gap))",
            "of people alone",
        ),
    ),
)


# Question 4: the size of a passage. ---------------------------------------------------

#: Ways to cut: words in a window, and those that stand in the next one too.
CUTS = ((20, 0), (20, 10), (40, 0), (40, 20), (80, 0), (80, 40))
#: Words that the bot may put in front of its model.
BUDGET = 120


@cache
def _windows(size: int, overlap: int) -> pd.DataFrame:
    cut = Chunker("words", size, overlap)
    rows = [
        (article.article_id, chunk.start, chunk.end, len(chunk.text.split()), chunk.text)
        for article in desk().articles
        for chunk in cut(article)
    ]
    return pd.DataFrame(rows, columns=["article", "start", "end", "words", "text"])


def _spotted() -> pd.DataFrame:
    """Return the English questions whose answer is one sentence of an article."""
    rows = desk().rows
    there = rows["answer_article"].str.startswith("en/") & (rows["answer_fact"] != "")
    return rows[(rows["language"] == "en") & rows["answerable"] & there]


@cache
def _sentences() -> pd.DataFrame:
    known = world.truth(evaluation.NOW).facts.set_index(["article", "fact"])
    page = world.knowledge_base().set_index("id")["article_id"]
    rows = _spotted()
    places = known.loc[list(zip(rows["answer_article"], rows["answer_fact"], strict=True))]
    return pd.DataFrame(
        {
            "article": rows["answer_article"].map(page).to_numpy(),
            "start": places["start"].to_numpy(),
            "end": places["end"].to_numpy(),
        },
        index=pd.Index(rows["id"], name="question"),
    )


def sentences() -> pd.DataFrame:
    """Return where the sentence stands that answers a question.

    Returns
    -------
    DataFrame
        Index ``question``: ``article``, ``start``, ``end`` (characters of its text).
    """
    return _sentences().copy()


@cache
def _ranked(size: int, overlap: int, kept: int = 16) -> pd.DataFrame:
    here, table = desk(), _windows(size, overlap)
    lexical = BM25(list(table["text"]))
    place = {name: i for i, name in enumerate(here.names)}
    owner = table["article"].map(place).to_numpy()
    close_to = _from_0_to_1(here.vectors)
    parts = []
    for row in _spotted().itertuples():
        words = lexical.scores(row.query.english)
        scores = words / max(words.max(), 1e-9) + close_to[row.Index, owner]
        best = np.argsort(-scores, kind="stable")[:kept]
        found = table.iloc[best].drop(columns="text").assign(question=row.id)
        parts.append(found.assign(rank=np.arange(1, len(best) + 1)))
    columns = ["question", "rank", "article", "start", "end", "words"]
    return pd.concat(parts, ignore_index=True)[columns]


def ranked(size: int, overlap: int) -> pd.DataFrame:
    """Return the passages that the exercise's bot finds, if articles are cut into windows.

    A passage is ranked by its words (BM25) and by how close its article is to the question.

    Parameters
    ----------
    size, overlap : int
        Words of a window, and of them those that stand in the next one too.

    Returns
    -------
    DataFrame
        ``question``, ``rank`` (1 to 16), ``article``, ``start``, ``end`` (characters), ``words``.
    """
    return _ranked(size, overlap).copy()


def windows(size: int, overlap: int) -> pd.DataFrame:
    """Return all passages of the index: ``article``, ``start``, ``end``, ``words``."""
    return _windows(size, overlap).drop(columns="text")


def measures() -> pd.DataFrame:
    """Return what several measures say of each way to cut, as shares of the questions.

    Returns
    -------
    DataFrame
        Index ``cut``; the article or the whole sentence found in the budget, the sentence in three
        passages, and ``whole in some window``: a ceiling that needs no search.
    """
    whole = {}
    for cut in CUTS:
        pairs = _sentences().reset_index()
        pairs = pairs.merge(_windows(*cut), on="article", suffixes=("", "_window"))
        held = (pairs["start_window"] <= pairs["start"]) & (pairs["end"] <= pairs["end_window"])
        whole[cut] = pairs.loc[held, "question"].nunique() / len(_sentences())
    table = pd.DataFrame(
        {
            f"article in {BUDGET} words": _recalls("article"),
            f"sentence in {BUDGET} words": _recalls(),
            "sentence in 3 passages": _recalls("whole", "3"),
            "whole in some window": pd.Series(whole),
        }
    )
    names = [f"{size} words, {overlap} of overlap" for size, overlap in CUTS]
    return table.loc[list(CUTS)].set_axis(pd.Index(names, name="cut"))


def _read(found: pd.DataFrame, budget: float = BUDGET) -> pd.DataFrame:
    """Return the passages that are read: the best ones, as long as the budget lasts."""
    return found[found.groupby("question")["words"].cumsum() <= budget]


def _recall(found: pd.DataFrame, how: str = "whole") -> float:
    """Return the share of questions whose answer stands in some passage."""
    spots = _sentences()
    spot = spots.loc[found["question"]]
    same = found["article"].to_numpy() == spot["article"].to_numpy()
    start, end = spot["start"].to_numpy(), spot["end"].to_numpy()
    if how == "whole":
        same = same & (found["start"].to_numpy() <= start) & (end <= found["end"].to_numpy())
    elif how == "part":
        same = same & (found["start"].to_numpy() < end) & (start < found["end"].to_numpy())
    return found.loc[same, "question"].nunique() / len(spots)


@cache
def _recalls(how: str = "whole", read: str = "budget") -> pd.Series:
    """Return the recall of each way to cut, as it should be or by a slip."""
    values = {}
    for cut in CUTS:
        found = _ranked(*cut)
        if read == "budget":
            found = _read(found)
        elif read == "last one too":
            spent = found.groupby("question")["words"].cumsum() - found["words"]
            found = found[spent < BUDGET]
        else:
            found = found[found["rank"] <= int(read)]
        values[cut] = _recall(found, how)
    return pd.Series(values)


def _growth(size: int, overlap: int) -> float:
    return _windows(size, overlap)["words"].sum() / _windows(size, 0)["words"].sum()


def _best_cut() -> tuple[int, int]:
    return _recalls().idxmax()


def _judge_chunks(recall: object, best: object, growth: object) -> str:
    index = pd.Index(CUTS, tupleize_cols=False)
    if not isinstance(recall, (dict, pd.Series)):
        raise Wrong("`recall` should be a dict: (size, overlap) to a share.")
    given = {tuple(int(x) for x in key): value for key, value in recall.items()}
    if missing := [cut for cut in index if cut not in given]:
        raise Wrong(f"`recall` lacks the cuts {missing}.")
    values = np.array([number(given[cut], f"recall[{cut}]") for cut in index])
    right = _recalls().to_numpy()
    if not np.allclose(values, right, atol=0.002):
        head = "`recall` "
        for how, read, reason in (
            (
                "article",
                "budget",
                "is that of the *article*. A passage of the right article that does not hold the "
                "sentence gives the model nothing to quote.",
            ),
            (
                "part",
                "budget",
                "counts a passage that holds a *part* of the sentence. Half a sentence, cut before "
                "its number, answers nothing: it has to stand there whole.",
            ),
            (
                "whole",
                "3",
                "reads three passages, whatever their size: 60 words of one cut and 240 of "
                "another. Compare at equal cost, 120 words.",
            ),
            (
                "whole",
                "16",
                "reads all 16 passages that were found. The model reads 120 words.",
            ),
            (
                "whole",
                "last one too",
                "reads on until the budget is spent, and over it. A passage that does not fit "
                "any more is not read.",
            ),
        ):
            if np.allclose(values, _recalls(how, read).to_numpy(), atol=0.002):
                raise Wrong(head + reason)
        answered_of = len(_sentences())
        worst = index[int(np.argmax(np.abs(values - right)))]
        raise Wrong(
            head + f"of {given[worst]:.3f} for {worst}: for each question add up the words of the "
            "passages in their order and stop at 120. Does one of them begin at or before "
            f"the sentence and end at or after it, in its article? Divide by all {answered_of}."
        )
    chosen = tuple(int(x) for x in best) if isinstance(best, (tuple, list)) else best
    if chosen not in list(index):
        raise Wrong(f"`best` should be one of the cuts, such as {CUTS[0]}.")
    if chosen != _best_cut():
        articles = _recalls("article", "budget")
        if chosen == articles.idxmax():
            raise Wrong(
                f"`recall` is right. {chosen} is the best cut for finding the *article*: more "
                "small passages fit into the budget. Look at the sentences."
            )
        if chosen == _recalls("whole", "3").idxmax():
            raise Wrong(
                f"`recall` is right. {chosen} is the best cut if three passages are read, at any "
                "length. At 120 words another one is."
            )
        raise Wrong("`recall` is right. `best` is not where it is highest.")
    value = number(growth, "growth")
    size, overlap = _best_cut()
    expected = _growth(size, overlap)
    if not close(value, expected, 0.003):
        head = "`recall` and `best` are right. `growth` "
        _slip(
            value,
            [
                (
                    size / (size - overlap),
                    head + "is that of an endless text. An article ends, and no window begins "
                    "where the last one has reached its end: measure it.",
                ),
                (
                    len(_windows(size, overlap)) / len(_windows(size, 0)),
                    head + "counts passages. An embedder is paid by what it reads: words.",
                ),
                (
                    expected - 1,
                    head + "is what comes on top; give the factor.",
                ),
                (1.5, head + "adds the overlap once. Each word but a few stands in two windows."),
            ],
            0.003,
        )
        raise Wrong(
            head + f"of {value:.4g}: all words of the passages at {(size, overlap)}, over those at "
            f"{(size, 0)}."
        )
    top = _recalls("article", "budget").idxmax()
    return (
        f"{size} words with {overlap} of overlap bring the whole sentence to {right.max():.0%} of "
        f"the questions, for {value:.2f} times the words to embed; {top[0]} words with {top[1]} "
        f"find most articles and {given[top]:.0%} of the sentences."
    )


_CHUNKS = (
    "def found(size, overlap, mode='whole', top=None, over=False):\n"
    "    t = questions.ranked(size, overlap)\n"
    "    spent = t.groupby('question')['words'].cumsum()\n"
    "    keep = (spent - t['words'] < 120) if over else (spent <= 120)\n"
    "    t = t[t['rank'] <= top] if top else t[keep]\n"
    "    t = t.merge(sentences.reset_index(), on='question', suffixes=('', '_s'))\n"
    "    hit = t['article'] == t['article_s']\n"
    "    if mode == 'whole':\n"
    "        hit &= (t['start'] <= t['start_s']) & (t['end'] >= t['end_s'])\n"
    "    if mode == 'part':\n"
    "        hit &= (t['start'] < t['end_s']) & (t['end'] > t['start_s'])\n"
    "    return t.loc[hit, 'question'].nunique() / len(sentences)\n"
    "def words_of(size, overlap):\n"
    "    return questions.windows(size, overlap)['words'].sum()\n"
    "recall = {cut: found(*cut) for cut in questions.CUTS}\n"
    "best = max(recall, key=recall.get)\n"
    "growth = words_of(*best) / words_of(best[0], 0)\n"
)

q4 = Question(
    number=4,
    asks="`recall`, a dict by (size, overlap), `best`, one of its keys, and `growth`, a number",
    judge=_judge_chunks,
    hints=(
        "What has to reach the model so that it can answer, and what does it cost to send it "
        "there? Both belong into the comparison.",
        "Within a question, in the order of the ranks: a running sum of `words`, kept up to 120. "
        "Then merge with `sentences` and compare the ends.",
        "A passage counts if article is article, start ≤ start and end ≥ end. The share is over "
        "all questions, those with nothing found as well.",
    ),
    wrong_answers=(
        WrongAnswer(
            _CHUNKS + "recall = {c: found(*c, mode='article') for c in recall}",
            "is that of the *article*",
        ),
        WrongAnswer(
            _CHUNKS + "recall = {c: found(*c, mode='part') for c in recall}", "a *part* of the"
        ),
        WrongAnswer(_CHUNKS + "recall = {c: found(*c, top=3) for c in recall}", "three passages"),
        WrongAnswer(_CHUNKS + "recall = {c: found(*c, over=True) for c in recall}", "and over it"),
        WrongAnswer(_CHUNKS + "best = (20, 0)", "for finding the *article*"),
        WrongAnswer(_CHUNKS + "best = (80, 40)", "if three passages are read"),
        WrongAnswer(_CHUNKS + "growth = 2", "of an endless text"),
        WrongAnswer(
            _CHUNKS + "growth = len(questions.windows(*best)) / len(questions.windows(40, 0))",
            "counts passages",
        ),
    ),
)


# Question 5: a memory that leaks. -----------------------------------------------------

#: Weight of the memory beside the fit of an article.
REMEMBERED = 1.0
PROMISES = ("any question", "known articles", "new articles")


@cache
def _past() -> pd.DataFrame:
    rows = desk().rows
    rows = rows[rows["id"].isin(_relevant())]
    table = rows.set_index(rows["id"].rename("question"))[["topic", "group", "voice", "kind"]]
    drawn = np.random.default_rng(5).permutation(len(table)) % 5
    return table.assign(fold=drawn)


def past() -> pd.DataFrame:
    """Return answered questions of the past, in all languages.

    Returns
    -------
    DataFrame
        Index ``question``: ``topic``, ``group`` (of topics), ``voice`` (who writes), ``kind``, and
        ``fold``, which a colleague has drawn at random: 0 to 4.
    """
    return _past().copy()


def relevant() -> pd.DataFrame:
    """Return which articles answer the questions of :func:`past`: ``question``, ``article``."""
    rows = [
        (question, name) for question in _past().index for name in sorted(_relevant()[question])
    ]
    return pd.DataFrame(rows, columns=["question", "article"])


@cache
def _alike() -> tuple[np.ndarray, dict[str, int]]:
    """Return the cosines of the past questions with each other, and the row of each."""
    here = desk()
    queries = here.rows.set_index("id")["query"].loc[_past().index]
    vectors = evaluation.embedder().encode([query.english for query in queries])
    return vectors @ vectors.T, {name: i for i, name in enumerate(queries.index)}


def first_right(training: Sequence[str], test: Sequence[str]) -> pd.Series:
    """Let a bot with a memory learn from questions, and say which others it answers rightly.

    An article scores by its fit to the question, plus the cosine of the question to the nearest
    training question that the article answered.

    Parameters
    ----------
    training, test : sequence of str
        Questions of :func:`past`; an empty training is a bot without a memory.

    Returns
    -------
    Series of bool
        Index of the test questions: whether the article that is put first answers.

    Raises
    ------
    ValueError
        If a question stands on both sides.
    """
    training, test = list(training), list(test)
    if both := set(training) & set(test):
        raise ValueError(f"{len(both)} questions stand in the training and in the test.")
    here, (alike, row) = desk(), _alike()
    place = pd.Series(here.rows.index, here.rows["id"])
    scores = here.fit[place.loc[test]].copy()
    near = alike[np.ix_([row[i] for i in test], [row[i] for i in training])]
    column = {name: j for j, name in enumerate(here.names)}
    memory = np.zeros_like(scores)
    for i, question in enumerate(training):
        for name in _relevant()[question]:
            np.maximum(memory[:, column[name]], near[:, i], out=memory[:, column[name]])
    first = here.names[(scores + REMEMBERED * memory).argmax(axis=1)]
    return pd.Series(_is_right(test, first), pd.Index(test, name="question"))


def _crossed(folds: pd.Series) -> float:
    """Return the share of questions answered rightly, each by a memory without its fold."""
    parts = [
        first_right(folds.index[folds != fold], folds.index[folds == fold])
        for fold in sorted(folds.unique())
    ]
    return float(pd.concat(parts).mean())


@cache
def _by(column: str) -> float:
    """Return the share that is right when folds are made of a column of :func:`past`."""
    return _crossed(folds_of(column))


def _without() -> float:
    return float(first_right([], list(_past().index)).mean())


def _judge_leak(folds: object, share: object, promise: object) -> str:
    table = _past()
    values = pd.Series(_series(folds, "folds", table.index), table.index)
    if values.nunique() < 3:
        raise Wrong(
            f"`folds` has {values.nunique()} different values: make at least three folds, or a "
            "memory learns from too little."
        )
    if (values.value_counts() / len(values)).max() > 0.5:
        raise Wrong("More than half of the questions stand in one fold of `folds`.")
    _check_apart(values)
    value, right = number(share, "share"), _crossed(values)
    if not close(value, right, 0.003):
        head = "`folds` is right. `share` "
        means = [
            first_right(values.index[values != f], values.index[values == f]).mean()
            for f in sorted(values.unique())
        ]
        _slip(
            value,
            [
                (_by("fold"), head + "is still the colleague's, of folds drawn at random."),
                (_without(), head + "is that of the bot without a memory."),
                (
                    float(np.mean(means)),
                    head + "is a mean over folds of unlike size. Each question counts once.",
                ),
            ],
            0.003,
        )
        raise Wrong(
            head + f"of {value:.4g}: for each fold let `first_right` learn from all *other* folds, "
            "put the answers of all folds together, and take the mean."
        )
    word = _word(promise, "promise", PROMISES)
    head = "`folds` and `share` are right. "
    if word == "any question":
        raise Wrong(
            head + "For questions on articles that nobody has asked about, the colleague's number "
            "is far off: `share` says so. So not for any."
        )
    if word == "new articles":
        raise Wrong(
            head + "On new articles `share` is what to expect. The colleague's number comes from "
            "questions whose article had been asked about before."
        )
    return (
        f"{_by('fold'):.0%} with the memory by folds at random, {right:.0%} when no article is on "
        f"both sides, {_without():.0%} without a memory."
    )


def folds_of(column: str) -> pd.Series:
    """Return five folds that keep together what is equal in a column of :func:`past`."""
    if column == "fold":
        return _past()["fold"].copy()
    places = {name: i for i, name in enumerate(sorted(_past()[column].unique()))}
    return _past()[column].map(places) % 5


def shared(folds: pd.Series) -> pd.Series:
    """Return the number of folds whose questions an article answers, where it is several."""
    articles = relevant()
    number_of = articles["question"].map(folds).groupby(articles["article"]).nunique()
    return number_of[number_of > 1]


def _check_apart(folds: pd.Series) -> None:
    """Refuse folds that share a relevant article."""
    table, spread = _past(), shared(folds)
    if spread.empty:
        return
    for column, reason in (
        (
            "fold",
            "these are the colleague's folds. A question's neighbours, with the same article, "
            "stand in the training.",
        ),
        (
            "voice",
            "no voice stands in two of them. What the memory keeps is not who wrote but which "
            "article it was.",
        ),
        ("kind", "no kind of question stands in two of them, but articles do."),
    ):
        pairs = pd.DataFrame({"fold": folds, "of": table[column]})
        if pairs.groupby("of")["fold"].nunique().max() == 1:
            raise Wrong(
                f"`folds`: {reason} {len(spread)} articles answer questions of several folds."
            )
    raise Wrong(
        f"`folds`: {len(spread)} articles answer questions of more than one fold, such as "
        f"{spread.idxmax()!r}. Keep together whatever shares an article: whole groups of topics."
    )


_LEAK = (
    "def folds_of(column):\n"
    "    names = sorted(past[column].unique())\n"
    "    return past[column].map({name: i % 5 for i, name in enumerate(names)})\n"
    "def share_of(folds, mean=False):\n"
    "    parts = [questions.first_right(folds.index[folds != f], folds.index[folds == f])\n"
    "             for f in range(5)]\n"
    "    means = np.mean([p.mean() for p in parts])\n"
    "    return means if mean else pd.concat(parts).mean()\n"
    "folds = folds_of('group')\n"
    "share = share_of(folds)\n"
    "promise = 'known articles'\n"
)

q5 = Question(
    number=5,
    asks="`folds`, a Series by question, `share`, a number, and `promise`, a word",
    judge=_judge_leak,
    hints=(
        "What exactly does the memory learn? Ask of a test question which of its properties a "
        "training question must not share with it.",
        "An article answers the questions of one topic, and topics that are confused form a group. "
        "Put whole groups into folds.",
        "Number the groups, take the number modulo 5, and map it to the questions; then five calls "
        "of `first_right`, put together.",
    ),
    wrong_answers=(
        WrongAnswer(_LEAK + "folds = past['fold']\nshare = share_of(folds)", "the colleague's fo"),
        WrongAnswer(_LEAK + "folds = folds_of('voice')\nshare = share_of(folds)", "who wrote"),
        WrongAnswer(
            _LEAK + "folds = pd.Series(np.arange(len(past)) * 5 // len(past), past.index)\n"
            "share = share_of(folds)",
            "whole groups of topics",
        ),
        WrongAnswer(_LEAK + "share = share_of(past['fold'])", "still the colleague's"),
        WrongAnswer(_LEAK + "share = share_of(folds, mean=True)", "folds of unlike size"),
        WrongAnswer(
            _LEAK + "share = questions.first_right([], past.index).mean()", "without a memory"
        ),
        WrongAnswer(_LEAK + "promise = 'any question'", "not for any"),
        WrongAnswer(_LEAK + "promise = 'new articles'", "is what to expect"),
    ),
)


# Question 6: a cache that outlives its articles. --------------------------------------

#: The log: its first day, days, contacts; days that a cached answer lives.
FROM, DAYS, CONTACTS, LIVES = pd.Timestamp("2024-07-01"), 800, 15_000, 14


@cache
def _versions() -> pd.DataFrame:
    page = world.knowledge_base()
    page = page[page["language"] == "en"]
    return page[["id", "article_id", "version", "valid_from", "valid_to"]].reset_index(drop=True)


def versions() -> pd.DataFrame:
    """Return all versions of the English articles.

    Returns
    -------
    DataFrame
        ``id`` (of the version), ``article_id``, ``version``, ``valid_from`` (first day),
        ``valid_to`` (last day; missing: no end is set). Both are midnights.
    """
    return _versions().copy()


def _version_at(times: pd.Series, names: pd.Series) -> pd.Series:
    """Return the version of an article that is in force at each time; missing where none is."""
    table = _versions()
    asked = pd.DataFrame({"time": times, "article_id": names}).reset_index()
    both = asked.merge(table, on="article_id")
    ends = both["valid_to"].fillna(pd.Timestamp("2200-01-01")) + pd.Timedelta(days=1)
    good = both[(both["valid_from"] <= both["time"]) & (both["time"] < ends)]
    return good.set_index("index")["id"].reindex(times.index)


@cache
def _asked() -> pd.DataFrame:
    """Return when which question came, and the version that was in force: ``true``."""
    rng = np.random.default_rng(1606)
    number_of = _versions()["article_id"].value_counts().sort_index()
    names = number_of.index.to_numpy()
    weight = rng.gamma(0.8, size=len(names)) * np.where(number_of > 1, 3, 1)
    seconds = np.sort(rng.integers(0, DAYS * 86_400, CONTACTS))
    frame = pd.DataFrame(
        {
            "time": FROM + pd.to_timedelta(seconds, unit="s"),
            "question": rng.choice(names, CONTACTS, p=weight / weight.sum()),
        }
    )
    frame["true"] = _version_at(frame["time"], frame["question"])
    return frame.dropna(subset="true").reset_index(drop=True)


@cache
def _served(lives: float = LIVES) -> pd.DataFrame:
    asked = _asked()
    kept: dict[str, tuple[pd.Timestamp, str]] = {}
    said, cached = [], []
    for time, question, version in asked.itertuples(index=False, name=None):
        known = question in kept and time - kept[question][0] < pd.Timedelta(days=lives)
        if not known:
            kept[question] = (time, version)
        said.append(kept[question][1])
        cached.append(known)
    return asked.drop(columns="true").assign(said=said, from_cache=cached)


def served(lives: float = LIVES) -> pd.DataFrame:
    """Return 800 days of answers by a bot with a cache.

    The cache is looked up by the question. Times and questions are drawn, those on articles that
    change three times as often as others; there is one question for each article.

    Parameters
    ----------
    lives : float
        Days for which an answer is kept.

    Returns
    -------
    DataFrame
        In order of time: ``time``, ``question`` (the ``article_id`` that answers it), ``said`` (the
        ``id`` of the version that was cited), ``from_cache``.
    """
    return _served(lives).copy()


def _stale(condition: Callable[[pd.DataFrame], pd.Series]) -> int:
    """Count the answers whose version does not keep a condition."""
    said = _served().merge(_versions(), left_on="said", right_on="id")
    return int((~condition(said)).sum())


@cache
def _stale_by() -> dict[str, int]:
    """Return the number of stale answers, and what the usual slips give."""

    def ends(t: pd.DataFrame) -> pd.Series:
        return t["valid_to"].fillna(pd.Timestamp("2200-01-01"))

    day = pd.Timedelta(days=1)
    last = _served()["time"].max()
    return {
        "right": _stale(lambda t: (t["valid_from"] <= t["time"]) & (t["time"] < ends(t) + day)),
        "noon": _stale(lambda t: t["time"] <= ends(t)),
        "open": _stale(lambda t: t["time"] < t["valid_to"] + day),
        "today": _stale(lambda t: last < ends(t) + day),
        "grace": _stale(lambda t: t["time"] < ends(t) + 2 * day),
    }


def caches() -> pd.DataFrame:
    """Return what caches with several keys do on the contacts of the log.

    Returns
    -------
    DataFrame
        Index ``key of the cache``; ``hits`` (share of contacts answered from it), ``stale``.
    """
    rows = {}
    for lives in (1, 3, LIVES, 60):
        log = _served(lives)
        stale = int((log["said"] != _asked()["true"]).sum())
        rows[f"question, for {lives} days"] = (log["from_cache"].mean(), stale)
    rows["question and day"] = (_hits("day"), 0)
    rows["question and version"] = (_hits(), 0)
    table = pd.DataFrame(rows, index=["hits", "stale"]).T.rename_axis("key of the cache")
    return table.astype({"stale": int})


def _hits(what: str = "right") -> float:
    """Return the share of contacts that a cache without an end could answer."""
    log = _served()
    keys = {
        "right": _asked()["true"],
        "question": log["question"],
        "day": log["question"] + log["time"].dt.strftime("%Y-%m-%d"),
    }
    return float(keys[what].duplicated().mean())


def _moments(table: pd.DataFrame) -> list[pd.Timestamp]:
    """Return moments at which a rule of validity shows what it does."""
    ends = table["valid_to"].dropna().drop_duplicates().sort_values().iloc[[1, -2]]
    day, second = pd.Timedelta(days=1), pd.Timedelta(seconds=1)
    offsets = (pd.Timedelta(0), day / 2, day - second, day, day * 1.5)
    return [end + offset for end in ends for offset in offsets]


def _check_in_force(in_force: Callable) -> None:
    table = _versions()
    day = pd.Timedelta(days=1)
    ends = table["valid_to"].fillna(pd.Timestamp("2200-01-01"))
    for time in _moments(table):
        given = in_force(table.copy(), time)
        if not isinstance(given, pd.DataFrame) or "id" not in given:
            raise Wrong("`in_force` should return the rows of the table that are in force.")
        found = set(given["id"])
        right = set(table.loc[(table["valid_from"] <= time) & (time < ends + day), "id"])
        if found == right:
            continue
        began = table["valid_from"] <= time
        if not found & set(table.loc[table["valid_to"].isna(), "id"]):
            raise Wrong(
                "`in_force` loses every version without an end. A comparison with a missing date "
                "is False: say what a missing `valid_to` means."
            )
        if found == set(table.loc[began & (time <= ends), "id"]):
            raise Wrong(
                f"`in_force` at {time:%H:%M} on a last day returns nothing of the article. "
                "`valid_to` is the midnight at which that day *begins*, and it is valid to its end."
            )
        if found == set(table.loc[began & (time < ends), "id"]):
            raise Wrong(
                "`in_force` takes `valid_to` for an end that is left out: on its last day an "
                "article is missing. The day belongs to it."
            )
        if found == set(table.loc[began & (time <= ends + day), "id"]):
            raise Wrong(
                "`in_force` returns two versions at the midnight at which one follows the other: "
                "at that moment the old one has ended. Less than, not at most."
            )
        if found == set(table.loc[time < ends + day, "id"]):
            raise Wrong(
                "`in_force` never looks at `valid_from`: it returns what has only been announced."
            )
        raise Wrong(
            f"`in_force` at {time}: {len(found - right)} versions too many, {len(right - found)} "
            "missing. A version is in force from the first moment of `valid_from` until the last "
            "of the day `valid_to`."
        )


def _judge_cache(in_force: object, stale: object, hits: object) -> str:
    if not callable(in_force):
        raise Wrong("`in_force` should be a function of the versions and a time.")
    _check_in_force(in_force)
    counts, value = _stale_by(), number(stale, "stale")
    if value != counts["right"]:
        head = "`in_force` is right. `stale` "
        _slip(
            value,
            [
                (
                    counts["noon"],
                    head + "calls answers of the last day stale: `time <= valid_to` ends at the "
                    "midnight at which that day begins.",
                ),
                (
                    counts["open"],
                    head + "counts every answer from a version without an end.",
                ),
                (
                    counts["today"],
                    head + "asks what has ended by the end of the log. An answer is stale if its "
                    "version had ended when it was *given*.",
                ),
                (counts["grace"], head + "lets a version live one day too long."),
                (
                    int(_served()["from_cache"].sum()),
                    head + "counts all answers from the cache. Most of them were still right.",
                ),
                (
                    counts["right"] / len(_served()),
                    head + "is a share; give the number of answers.",
                ),
            ],
            1e-9,
        )
        raise Wrong(
            head + f"of {value:.6g}: join `served` with `versions` on the version that was cited, "
            "and ask whether it was in force at the time of the answer."
        )
    share = number(hits, "hits")
    if not close(share, _hits(), 0.001):
        head = "`in_force` and `stale` are right. `hits` "
        _slip(
            share,
            [
                (
                    _hits("question"),
                    head + "is that of a cache that knows the question alone, for ever: each "
                    "change of an article stays unseen.",
                ),
                (
                    _hits("day"),
                    head + "is that of a key with the day. That is never stale either, and forgets "
                    "every night what did not change.",
                ),
                (
                    float(_served()["from_cache"].mean()),
                    head + "is that of the cache as it is, with its 14 days.",
                ),
                (
                    1 - _hits(),
                    head + "is the share of misses.",
                ),
            ],
            0.001,
        )
        raise Wrong(
            head + f"of {share:.4g}: the first contact with a pair of question and version is a "
            "miss, each later one a hit."
        )
    log = _served()
    return (
        f"{counts['right']} of {len(log):,} answers were stale. With the version in the key none "
        f"can be, and the hits rise from {log['from_cache'].mean():.1%} to {_hits():.1%}: what "
        "cannot go stale need not expire."
    )


_CACHE = (
    "from datetime import timedelta\n"
    "DAY, FAR = pd.Timedelta(days=1), pd.Timestamp('2200-01-01')\n"
    "def in_force(versions, time):\n"
    "    ends = versions['valid_to'].fillna(FAR) + DAY\n"
    "    return versions[(versions['valid_from'] <= time) & (time < ends)]\n"
    "said = served.merge(versions, left_on='said', right_on='id')\n"
    "stale = int((said['time'] >= said['valid_to'].fillna(FAR) + DAY).sum())\n"
    "both = served.reset_index().merge(versions, left_on='question', right_on='article_id')\n"
    "good = (both['valid_from'] <= both['time']) & (both['time'] < both['valid_to'].fillna(FAR)"
    " + DAY)\n"
    "true = both[good].sort_values('index')['id']\n"
    "hits = true.duplicated().mean()\n"
)
_RULE = "def in_force(versions, time):\n    end = versions['valid_to'].fillna(FAR)\n    return "

q6 = Question(
    number=6,
    asks="`in_force`, a function, `stale`, a whole number, and `hits`, a share",
    judge=_judge_cache,
    hints=(
        "Draw two versions on a line and mark their midnights. At which moment does the old one "
        "end? The time of an answer has hours; `valid_to` has none.",
        "A version ends at `valid_to` plus one day, that moment left out, and never where it is "
        "missing. An answer is stale if its version had ended when it was given.",
        "For `hits`, find for each contact the version in force at its time (merge on the article, "
        "then your rule); a contact is a hit unless its version comes for the first time.",
    ),
    wrong_answers=(
        WrongAnswer(
            _CACHE + _RULE + "versions[(versions['valid_from'] <= time) & (time <= end)]",
            "on a last day returns nothing",
        ),
        WrongAnswer(
            _CACHE + _RULE + "versions[(versions['valid_from'] <= time) & (time < end)]",
            "an end that is left out",
        ),
        WrongAnswer(
            _CACHE + _RULE + "versions[(versions['valid_from'] <= time) & (time <= end + DAY)]",
            "returns two versions",
        ),
        WrongAnswer(
            _CACHE + "def in_force(versions, time):\n"
            "    started = versions['valid_from'] <= time\n"
            "    return versions[started & (time < versions['valid_to'] + DAY)]\n",
            "loses every version without an end",
        ),
        WrongAnswer(
            _CACHE + "stale = int((said['time'] > said['valid_to']).sum())", "of the last day stale"
        ),
        WrongAnswer(
            _CACHE + "stale = int((served['time'].max() >= said['valid_to'] + DAY).sum())",
            "by the end of the log",
        ),
        WrongAnswer(_CACHE + "hits = served['from_cache'].mean()", "with its 14 days"),
        WrongAnswer(
            _CACHE + "hits = served.assign(day=served['time'].dt.date)"
            ".duplicated(['question', 'day']).mean()",
            "a key with the day",
        ),
        WrongAnswer(_CACHE + "hits = served['question'].duplicated().mean()", "the question alone"),
    ),
)


# Question 7: contained and not helped. ------------------------------------------------

POLICIES = ("answers all", "hands over")
#: Months of contacts and their seed; margin from which the second policy answers.
MONTHS, SEED, FROM_MARGIN = 4, 1607, 0.15
DRAWS = 1000


@cache
def _contacts() -> pd.DataFrame:
    frame = world.contacts(SEED, MONTHS)
    frame = frame[frame["question"].isin(_answered().index)].reset_index(drop=True)
    of = _answered().loc[frame["question"]]
    there = world.staffed(frame["arrived"])
    person = np.where(there, "abstain_to_human", "abstain_no_human")
    told = np.where(of["right"], "right", "wrong")
    sure = (of["margin"] >= FROM_MARGIN).to_numpy()
    parts = []
    for policy, kinds in zip(POLICIES, (told, np.where(sure, told, person)), strict=True):
        out = world.outcomes(frame, list(kinds), SEED)
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


def contacts() -> pd.DataFrame:
    """Return what came of the same contacts under two policies.

    Returns
    -------
    DataFrame
        ``contact``, ``question``, ``policy`` (answers all; hands over where it is not sure),
        ``fate``, ``contained`` (no person had to deal with it), ``resolved`` (the customer has
        what he came for), ``carrier`` and ``customer`` (euro: the carrier's bill, and what the
        customer loses after goodwill).
    """
    return _contacts().copy()


@cache
def _differences() -> pd.DataFrame:
    """Return for each contact how much dearer it is to answer all."""
    table = _contacts()
    total = table.assign(total=table["carrier"] + table["customer"])
    wide = total.pivot(index="contact", columns="policy", values="total")
    own = table.pivot(index="contact", columns="policy", values="carrier")
    first, second = POLICIES
    question = table.drop_duplicates("contact").set_index("contact")["question"]
    return pd.DataFrame(
        {"gap": wide[first] - wide[second], "own": own[first] - own[second], "question": question}
    )


@cache
def _halves() -> dict[str, float]:
    """Return the half-width of the interval of the difference, and what the usual slips give."""
    gaps = _differences()
    by = gaps.groupby("question")["gap"].agg(["sum", "size"])
    n = len(gaps)
    residual = by["sum"] - by["size"] * gaps["gap"].mean()
    clusters = len(by)
    return {
        "by question": Z * np.sqrt((residual**2).sum() * clusters / (clusters - 1)) / n,
        "by contact": Z * gaps["gap"].std() / np.sqrt(n),
    }


def _judge_contained(unhelped: object, dearer: object, interval: object) -> str:
    table = _contacts()
    everything = table[table["policy"] == POLICIES[0]]
    contained = everything[everything["contained"]]
    value = number(unhelped, "unhelped")
    right = 1 - contained["resolved"].mean()
    if not close(value, right, 0.003):
        bad = everything["contained"] & ~everything["resolved"]
        other = table[(table["policy"] == POLICIES[1]) & table["contained"]]
        _slip(
            value,
            [
                (
                    bad.mean(),
                    "`unhelped` is a share of all contacts. The question asks for that of those "
                    "that the dashboard counts as a success, the contained ones.",
                ),
                (
                    (contained["fate"] == "believed").mean(),
                    "`unhelped` counts only those who believe something wrong. Who gives up is "
                    "not helped either.",
                ),
                (
                    (contained["fate"] == "gave_up").mean(),
                    "`unhelped` counts only those who gave up. Who goes home with a wrong answer "
                    "and believes it is not helped either.",
                ),
                (
                    1 - everything["resolved"].mean(),
                    "`unhelped` is the share without help among all contacts, called or not.",
                ),
                (1 - other["resolved"].mean(), "`unhelped` is that of the other policy."),
                (1 - right, "`unhelped` is the share that *was* helped."),
            ],
            0.003,
        )
        raise Wrong(
            f"`unhelped` of {value:.4g}: among the contained contacts of the policy that answers "
            "all, the share that is not resolved."
        )
    gaps = _differences()
    mean = number(dearer, "dearer")
    expected = gaps["gap"].mean()
    head = "`unhelped` is right. `dearer` "
    if not close(mean, expected, 0.003):
        _slip(
            mean,
            [
                (
                    gaps["own"].mean(),
                    head + "is the carrier's bill alone. What customers lose is on nobody's "
                    "dashboard, and here it is the larger part.",
                ),
                (-expected, head + "has its sign turned: answering all minus handing over."),
                (
                    gaps.groupby("question")["gap"].mean().mean(),
                    head + "gives each *question* the same weight. Some are asked ten times as "
                    "often as others; the euro are spent by contacts.",
                ),
                (
                    2 * expected,
                    head + "is divided by half of the contacts.",
                ),
            ],
            0.003,
        )
        raise Wrong(
            head + f"of {mean:.4g}: carrier and customer together, a contact's euro when all is "
            "answered minus its euro under the other policy, on average."
        )
    _check_interval(interval, expected)
    low, high = (float(end) for end in interval)
    share = everything["contained"].mean()
    return (
        f"{share:.0%} contained, and {right:.0%} of these were not helped. Answering all is dearer "
        f"by {expected:.2f} euro a contact ({low:.2f} to {high:.2f}, by question)."
    )


def _check_interval(interval: object, mean: float) -> None:
    head = "`unhelped` and `dearer` are right. `interval` "
    try:
        ends = [float(end) for end in interval]
    except TypeError:
        raise Wrong(head + "should be two numbers, the lower and the upper end.") from None
    if len(ends) != 2 or not np.isfinite(ends).all() or ends[0] >= ends[1]:
        raise Wrong(head + "should be two numbers, the lower one first.")
    low, high = ends
    if not low < mean < high:
        raise Wrong(head + "does not hold `dearer` itself.")
    half, halves = (high - low) / 2, _halves()
    if abs(half / halves["by question"] - 1) <= 0.10:
        return
    if abs(half / halves["by contact"] - 1) <= 0.08:
        raise Wrong(
            head + "takes each contact for a piece of evidence of its own. The same question gets "
            "the same answer, right or wrong, however often it is asked: draw *questions*, each "
            "with all its contacts."
        )
    if abs(half / (halves["by question"] / Z) - 1) <= 0.10:
        raise Wrong(head + "is one standard error to each side; 95 % needs 1.96.")
    raise Wrong(
        head + f"reaches {half:.2f} euro to each side. Take the difference of each contact, draw "
        "questions with replacement, each with all its contacts, and take the middle 95 % of the "
        "means."
    )


_MONEY = (
    "table = contacts.assign(total=contacts['carrier'] + contacts['customer'])\n"
    "def gap_of(column):\n"
    "    wide = table.pivot(index='contact', columns='policy', values=column)\n"
    "    return wide['answers all'] - wide['hands over']\n"
    "gap = gap_of('total')\n"
    "asked = table.drop_duplicates('contact').set_index('contact')['question'].loc[gap.index]\n"
    "def around(half):\n"
    "    return gap.mean() - half, gap.mean() + half\n"
    "all_of = table[table['policy'] == 'answers all']\n"
    "inside = all_of[all_of['contained']]\n"
    "unhelped = 1 - inside['resolved'].mean()\n"
    "dearer = gap.mean()\n"
    "by = gap.groupby(asked).agg(['sum', 'size'])\n"
    "rng = np.random.default_rng(0)\n"
    "drawn = [by.iloc[rng.integers(0, len(by), len(by))].sum() for _ in range(400)]\n"
    "drawn = np.array([d['sum'] / d['size'] for d in drawn])\n"
    "interval = tuple(np.quantile(drawn, [0.025, 0.975]))\n"
)
_SHORT = _MONEY.split("by = gap")[0]

q7 = Question(
    number=7,
    asks="`unhelped` and `dearer`, two numbers, and `interval`, two ends",
    judge=_judge_contained,
    hints=(
        "Who is contained? Read the definition again: it says what did *not* happen. Then ask for "
        "whom the euro are lost.",
        "`dearer` is a mean of differences, one for each contact. How many independent pieces of "
        "evidence stand behind it: contacts, or questions?",
        "Sum the differences and count the contacts of each question; draw questions with "
        "replacement, divide the drawn sum by the drawn count, a few hundred times.",
    ),
    wrong_answers=(
        WrongAnswer(
            _SHORT + "interval = 0, 1\n"
            "unhelped = (all_of['contained'] & ~all_of['resolved']).mean()",
            "a share of all contacts",
        ),
        WrongAnswer(
            _SHORT + "interval = 0, 1\nunhelped = (inside['fate'] == 'believed').mean()",
            "who believe something",
        ),
        WrongAnswer(
            _SHORT + "interval = 0, 1\nunhelped = (inside['fate'] == 'gave_up').mean()",
            "only those who gave up",
        ),
        WrongAnswer(
            _SHORT + "interval = 0, 1\ndearer = gap_of('carrier').mean()", "carrier's bill alone"
        ),
        WrongAnswer(
            _SHORT + "interval = 0, 1\ndearer = gap.groupby(asked).mean().mean()",
            "the same weight",
        ),
        WrongAnswer(
            _SHORT + "interval = around(1.96 * gap.std() / np.sqrt(len(gap)))",
            "however often it is asked",
        ),
        WrongAnswer(
            _MONEY + "interval = around((interval[1] - interval[0]) / 2 / 1.96)",
            "one standard error",
        ),
    ),
)
