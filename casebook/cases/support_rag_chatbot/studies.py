"""What the evaluation finds, as tables: learned on the tuning questions, reported on the others.

Each function returns a table that ``make bench N=16`` records. The test questions were scored once,
after everything was frozen; ``unread`` rows leave out questions that were tuning questions when the
glossary and the masks were written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot import learned, learning, policies, world
from casebook.cases.support_rag_chatbot.answer import Answerer
from casebook.cases.support_rag_chatbot.conversation import SHOWN
from casebook.cases.support_rag_chatbot.languages import (
    SYSTEMS,
    HelpCentre,
    as_articles,
)
from casebook.cases.support_rag_chatbot.learned import (
    ANSWER_FROM,
    ANSWER_FROM_INTENT,
    ANSWER_FROM_TITLES,
    REFUSE_FROM,
)
from casebook.cases.support_rag_chatbot.world.contacts import REACTIONS
from casebook.cases.support_rag_chatbot.world.content import own_content
from casebook.evaluate.abstain import auroc, risk_coverage
from casebook.evaluate.intervals import wilson
from casebook.evaluate.judges import Judge, judge_spread, swapped
from casebook.project import data_dir
from casebook.retrieval.evaluate import compare, first_ranks, per_query
from casebook.retrieval.unlabelled import click_proxies, clicks, disagreement
from casebook.serving import leaks

#: Systems with one ranking only; the better one on the tuning questions is what others must beat.
SINGLE = ("words", "character n-grams", "vectors")
#: Seeds of the contacts on which policies are compared; none was used to choose a threshold.
SEEDS = tuple(range(11, 26))
#: Contacts of each of those months.
PER_MONTH = 4000


@dataclass(frozen=True)
class Lab:
    """The help centre with what was asked of it; made once for all studies."""

    centre: HelpCentre
    answerer: Answerer
    table: pd.DataFrame
    signals: ev.Signals
    answered: pd.DataFrame
    folder: tempfile.TemporaryDirectory

    @property
    def test(self) -> pd.DataFrame:
        """The test questions."""
        return self.table[self.table["split"] == "test"]


@cache
def lab() -> Lab:
    """Build the index from the artifact's vectors and answer all questions."""
    folder, model = tempfile.TemporaryDirectory(), ev.embedder()
    centre = HelpCentre.build(Path(folder.name), as_articles(world.knowledge_base()), model)
    table = learning.with_scope(ev.asked())
    signals = ev.gather(centre, list(table["query"]))
    answerer = Answerer(centre, model)
    answered = ev.answers(table, signals, centre, answerer)
    return Lab(centre, answerer, table, signals, answered, folder)


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    judged = ev.relevance()
    return judged[judged["query_id"].isin(table["id"])]


def _topics() -> pd.Series:
    """Return what intervals resample, by question."""
    return lab().table.set_index("id")["cluster"]


def better_single() -> str:
    """Return which single ranking is best on the tuning questions, by nDCG@10."""
    rows = lab().table[lab().table["split"] == "tune"]
    found = ev.runs(rows, lab().signals, {name: SYSTEMS[name] for name in SINGLE})
    judged = _judged(rows)
    scores = {n: per_query(r, judged)["ndcg"].mean() for n, r in found.items() if n in SINGLE}
    return max(scores, key=scores.get)


def support_retrieval() -> pd.DataFrame:
    """Compare rankings with the better single one.

    Returns
    -------
    DataFrame
        ``questions_of`` (all, a language, unread), ``against`` and the columns of
        :func:`casebook.retrieval.evaluate.compare`: at ten articles, and ``success`` at the
        :data:`~casebook.cases.support_rag_chatbot.conversation.SHOWN` titles that a customer sees.
    """
    test, against = lab().test, better_single()
    found, parts = ev.runs(test, lab().signals), []
    groups = {"all": test, "unread": test[test["unread"]]}
    groups |= dict(iter(test.groupby("language")))
    for name, rows in groups.items():
        judged = _judged(rows)
        chosen = {n: r[r["query_id"].isin(judged["query_id"])] for n, r in found.items()}
        for k, metrics in ((10, ("ndcg", "recall")), (SHOWN, ("success",))):
            scored = compare(chosen, judged, against, k, metrics, clusters=_topics())
            parts.append(scored.assign(questions_of=name, against=against))
    table = pd.concat(parts, ignore_index=True)
    return table[["questions_of", "against", *table.columns[:-2]]]


#: Stands for the rank of a relevant article that is not among the first fifty.
NOT_FOUND = 51


def rescued(table: pd.DataFrame, signals: ev.Signals) -> pd.DataFrame:
    """Return the rank of the first relevant article by words, by vectors and by all signals.

    Parameters
    ----------
    table : DataFrame
        Of :func:`evaluation.asked`; unanswerable questions are left out.
    signals : mapping
        Of its questions.

    Returns
    -------
    DataFrame
        ``id``, ``language``, ``kind``, ``words`` (BM25 on the question as asked), ``vectors``
        (MiniLM on the question as asked), ``all`` (the weighted sum): ranks,
        :data:`NOT_FOUND` where none of the first fifty is relevant.
    """
    rows = table[table["answerable"]].set_index("id")
    names = ("words", "vectors", "all")
    found, judged = ev.runs(table, signals, {name: SYSTEMS[name] for name in names}), _judged(table)
    ranks = {name: first_ranks(found[name], judged, NOT_FOUND) for name in names}
    return rows[["language", "kind"]].assign(**ranks).rename_axis("id").reset_index()


def support_rescues() -> pd.DataFrame:
    """Return who rescues whom on the test questions; see :func:`rescued`."""
    return rescued(lab().test, lab().signals)


def support_kinds() -> pd.DataFrame:
    """Score rankings by kind of question: ``model``, ``kind``, ``ndcg``, ``recall``, …"""
    return ev.by_group(ev.runs(lab().test, lab().signals), lab().test, "kind")


# Answers -----------------------------------------------------------------------------


@cache
def confident() -> pd.DataFrame:
    """Return the test questions with answers, probabilities and routes."""
    return policies.with_facts(ev.confidences(lab().test, lab().answered))


def support_abstention() -> pd.DataFrame:
    """Say how well the system knows what it cannot answer; see :func:`evaluation.abstention`."""
    return ev.abstention(ev.to_articles(confident()))


@cache
def _precise_from(level: float) -> float:
    """Return the threshold from which cited articles are relevant in a share of tuning questions.

    1 where ten answers or more never reach it.
    """
    _, crossed = learning.learn(lab().table, lab().answered)
    curve = risk_coverage(crossed["right"].to_numpy(), crossed["relevant"].to_numpy(bool))
    enough = curve[(curve["risk"] <= 1 - level + 1e-9) & (curve["coverage"] * len(curve) >= 10)]
    return float(enough["threshold"].min()) if len(enough) else 1.0


def support_answers() -> pd.DataFrame:
    """Score the given answers at thresholds that were chosen on the tuning questions."""
    thresholds = {
        "answers all": 0.0,
        "customer's loss too": ANSWER_FROM,
        "against titles": ANSWER_FROM_TITLES,
        "relevant source 0.90": _precise_from(0.90),
    }
    return ev.answer_quality(ev.to_articles(confident()), thresholds)


def support_stale(start: str = "2024-06-01", end: str = "2026-09-30", n: int = 60) -> pd.DataFrame:
    """Replay the articles' changes, with updates and without.

    Returns
    -------
    DataFrame
        ``updated``, ``days``, ``changes``, ``hits``, ``stale``, ``bound`` (upper end of 95 %: three
        over the hits where none is stale).
    """
    queries = list(lab().test["query"].iloc[:: max(1, len(lab().test) // n)])
    rows = []
    for updated in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            known = policies.known_before(start)
            with HelpCentre.build(Path(folder), known, ev.embedder()) as centre:
                days = policies.replay(centre, queries, start, end, updated)
        stale, hits = int(days["stale"].sum()), int(days["hits"].sum())
        bound = 3 / hits if not stale else wilson(np.arange(hits) < stale)[2]
        rows.append((updated, len(days), int(days["added"].sum()), hits, stale, bound))
    return pd.DataFrame(rows, columns=["updated", "days", "changes", "hits", "stale", "bound"])


def unplanted() -> leaks.Told:
    """Return the messages that nobody planted, written by hand."""
    return leaks.read(data_dir() / ev.CASE / "unplanted.toml")


def support_unplanted() -> pd.DataFrame:
    """Measure masks and guard on all three parts; see :func:`casebook.serving.leaks.summary`."""
    told = unplanted()
    return leaks.summary(leaks.mask_cases(told), leaks.guard_cases(told))


def _judged_pairs(theirs: pd.DataFrame) -> pd.DataFrame:
    """Pair our answers with those of another system; every second pair has ours first."""
    ours, quality = lab().answered.set_index("id").loc[theirs.index], {"partial": 0.5}
    quality |= dict.fromkeys(ev.RIGHT, 1.0)
    sides = {"a": (ours, True), "b": (theirs, False)}
    pairs = pd.DataFrame(
        {
            f"{what}_{side}": value
            for side, (frame, own) in sides.items()
            for what, value in {
                "quality": frame["label"].map(quality).fillna(0.0),
                "words": frame["said"].str.split().str.len().clip(lower=1),
                "own": own,
            }.items()
        }
    )
    turned = np.arange(len(pairs)) % 2 == 1
    return pd.concat([pairs[~turned], swapped(pairs[turned])[pairs.columns]])


def support_judge() -> pd.DataFrame:
    """Measure the bias of a simulated judge on answers of two systems."""
    rows = lab().test[lab().test["answerable"]]
    weights, lab().centre.weights = lab().centre.weights, SYSTEMS["words"]
    try:
        theirs = ev.answers(rows, lab().signals, lab().centre, lab().answerer)
    finally:
        lab().centre.weights = weights
    both = theirs.loc[theirs["said"] != "", "id"]
    return judge_spread(_judged_pairs(theirs.set_index("id").loc[list(both)]), Judge())


def support_unlabelled() -> pd.DataFrame:
    """Hold what can be seen without labels against the labels.

    Returns
    -------
    DataFrame
        ``what``, ``system``, ``value``, ``truth`` (nDCG@10 of the system, or an AUROC).
    """
    test = lab().test[lab().test["answerable"]]
    found, judged = ev.runs(test, lab().signals), _judged(test)
    ndcg = {name: per_query(run, judged)["ndcg"] for name, run in found.items()}
    apart = disagreement(found["words"], found["vectors, glossary"])
    failed = (per_query(found["all"], judged, 3)["recall"] == 0).reindex(apart.index).dropna()
    value = auroc(apart[failed.index].to_numpy(), failed.to_numpy(bool))[0]
    rows = [("disagreement finds failures", "all", value, np.nan)]
    for name, run in found.items():
        plain, weighed = click_proxies(clicks(run, judged, seed=3))
        rows.append(("clicks", name, plain, ndcg[name].mean()))
        rows.append(("clicks by chance of a look", name, weighed, ndcg[name].mean()))
    given = ev.to_articles(confident())  # how near the answer is tells right from wrong
    near = auroc(given["english"].to_numpy(), ev.is_right(given["label"]))[0]
    rows.append(("answer near the question", "all", near, np.nan))
    return pd.DataFrame(rows, columns=["what", "system", "value", "truth"])


def support_learned() -> pd.DataFrame:
    """Learn anew and compare with what the module :mod:`learned` holds.

    Returns
    -------
    DataFrame
        ``what``, ``held``, ``anew`` (of probabilities: the largest weight), ``difference`` (the
        largest one of all numbers).
    """
    anew, _ = learning.learn(lab().table, lab().answered)
    rows = []
    for name, value in anew.items():
        held = getattr(learned, name)
        if "weight" in (value if isinstance(value, dict) else {}):
            gaps = [abs(value[p][k] - held[p][k]) for p in value for k in value[p]]
            rows.append((name, *(max(m["weight"].values()) for m in (held, value)), max(gaps)))
        elif isinstance(value, dict):  # a threshold for each intent
            rows += [(f"{name} of {k}", held[k], v, abs(v - held[k])) for k, v in value.items()]
        else:
            rows.append((name, held, value, abs(held - value)))
    tuning = lab().table[(lab().table["split"] == "tune") & lab().table["answerable"]]
    for system, held in SYSTEMS.items():
        weights, _ = learning.tuned_weights(tuning, lab().signals, tuple(held))
        if len(held) > 1:
            for name, value in weights.items():
                rows.append((f"{name} of {system}", held[name], value, abs(value - held[name])))
    return pd.DataFrame(rows, columns=["what", "held", "anew", "difference"])


# Policies ----------------------------------------------------------------------------

#: The ends of the scale on which a policy is put, and the floor of who has no parcel page at all.
FLOOR, CEILING, BARE = "word search, parcel page", "knows everything", "search box"
SEARCH = "better search, parcel page"
CAREFUL, EAGER, SIMPLE = "bot, person when unsure", "bot, answers all", "bot, tracking alone"
TITLES, INTENT = "bot, titles when unsure", "bot, titles, threshold by intent"
#: Kinds of answer and what an answer costs, by name of the policy.
Policies = dict[str, tuple[pd.Series, str]]
#: What becomes of titles where a reader is always right, if one of three articles answers.
READ = {"partial": "right", "partial_other_language": "right_other_language"}


def titles_of(shown: pd.Series) -> pd.Series:
    """Return the kinds of answer where titles are shown for all that is searched for."""
    rows = confident().assign(shown=shown)
    return policies.bot_kinds(rows, 1.01, REFUSE_FROM, "titles")


def compared(person: float = ANSWER_FROM, titles: float = ANSWER_FROM_TITLES) -> Policies:
    """Return the policies by name, with the thresholds against a person and against titles."""
    rows = confident()
    people = pd.Series(policies.HUMAN, index=rows["id"])
    ideal = np.select(
        [rows["route"] == "refuse", rows["route"] == "tracking", rows["answerable"]],
        ["refused_right", policies.TRACK, "right"],
        policies.HUMAN,
    )
    found, eager = titles_of(rows["shown"]), policies.bot_kinds(rows, 0.0, REFUSE_FROM)
    about = world.knowledge_base().set_index("article_id")["topic"]
    topics = own_content().plan["topics"]
    cited = rows["article_id"].map(about.groupby(level=0).first())
    cuts = [ANSWER_FROM_INTENT[topics[t]["intent"]] if isinstance(t, str) else 1 for t in cited]
    words = titles_of(ev.first_titles(rows, lab().signals, SYSTEMS["words"]))
    bots = {
        EAGER: eager,
        CAREFUL: policies.bot_kinds(rows, person, REFUSE_FROM),
        INTENT: policies.bot_kinds(rows, cuts, REFUSE_FROM, "titles"),
        TITLES: policies.bot_kinds(rows, titles, REFUSE_FROM, "titles"),
        SIMPLE: policies.bot_kinds(rows, 1.01, 1.01),
        "this reader, knows its misses": eager.where(eager.isin(ev.RIGHT), found),
        "perfect reader, knows its misses": found.replace(READ),
        "perfect reader": found.replace(READ | {"titles_wrong": "wrong"}),
        "reader always wrong": found.replace(dict.fromkeys([*READ, "titles_wrong"], "wrong")),
        CEILING: pd.Series(ideal, index=rows["id"]),
    }
    return {
        BARE: (policies.faq_kinds(rows), "faq"),
        FLOOR: (words, "faq"),
        SEARCH: (found, "bot"),
        "all to people": (people, "faq"),
    } | {name: (kinds, "bot") for name, kinds in bots.items()}


@cache
def _numbers() -> dict[str, str]:
    """Return the tracking number of each question that has one."""
    known = world.truth().entities.query("type == 'tracking_number'")
    numbers = known.drop_duplicates("question", keep="last").set_index("question")["value"]
    return numbers.to_dict() | policies.tracking_numbers(confident())


def serve(chosen: Policies) -> pd.DataFrame:
    """Let policies serve the same months; see :func:`policies.serve`."""
    where = confident().set_index("id")["cluster"]
    return policies.serve(chosen, _numbers(), where, SEEDS, PER_MONTH)


def support_policies() -> pd.DataFrame:
    """Let policies serve the same months; see :func:`policies.serve`.

    Returns
    -------
    DataFrame
        By ``policy``: means over all contacts (:data:`policies.MEASURES`), ``months``,
        ``clusters``; ``gap``, ``low``, ``high`` (way from :data:`FLOOR` to :data:`CEILING` in the
        total cost), ``bare``, ``bare_low``, ``bare_high`` (from :data:`BARE`), and ``more``,
        ``more_low``, ``more_high`` (above :data:`SEARCH`): months and topics resampled.
    """
    table = serve(compared())
    found = policies.means(table)
    found["months"], found["clusters"] = len(SEEDS), table["cluster"].nunique()
    scales = {
        "gap": {"floor": FLOOR},
        "bare": {"floor": BARE},
        "more": {"floor": FLOOR, "against": SEARCH},
    }
    for name, scale in scales.items():
        ends = [policies.gap_closed(table, p, ceiling=CEILING, **scale) for p in found.index]
        columns = [name, f"{name}_low" if name != "gap" else "low"]
        columns.append(columns[1].replace("low", "high"))
        found[columns] = np.array(ends)
    return found.reset_index()


@cache
def _crossed() -> pd.DataFrame:
    """Return the tuning questions' answers with their confidence by models of other topics."""
    _, crossed = learning.learn(lab().table, lab().answered)
    return crossed


def support_sensitivity(seeds: Sequence[int] = SEEDS, per_month: float = 1000) -> pd.DataFrame:
    """Repeat the headline under other assumptions on what customers do; one at a time.

    Both thresholds are chosen anew on the tuning questions with the costs of each world; nothing
    else is learned. The first row of each policy is the world's own.

    Returns
    -------
    DataFrame
        ``parameter``, ``value`` (see :data:`policies.SETTINGS`), ``policy``, ``answer_from`` (above
        1: nothing is answered from articles), ``gap``, ``low``, ``high``; ``more``, ``more_low``,
        ``more_high`` as in :func:`support_policies`.
    """
    where, rows, crossed = confident().set_index("id")["cluster"], [], _crossed()
    shown = policies.title_kinds(crossed, crossed["shown"])
    varied = [(p, value) for p, values in policies.SETTINGS.items() for value in values]
    for parameter, value in [("as the world is", np.nan), *varied]:
        own = parameter not in policies.SETTINGS
        reactions = REACTIONS if own else policies.reactions_if(parameter, value)
        price = learning.kind_costs(reactions=reactions)["both"]
        person, titles = (learning.cheapest(crossed, price, *other) for other in ((), (shown,)))
        cuts = {SEARCH: 1.01, SIMPLE: 1.01, CAREFUL: person, TITLES: titles}
        served = compared(person, titles)
        served = {name: served[name] for name in (FLOOR, CEILING, *cuts)}
        table = policies.serve(served, _numbers(), where, seeds, per_month, reactions)
        for name, cut in cuts.items():
            gap = policies.gap_closed(table, name, FLOOR, CEILING)
            more = policies.gap_closed(table, name, FLOOR, CEILING, SEARCH)
            rows.append((parameter, value, name, cut, *gap, *more))
    columns = ["parameter", "value", "policy", "answer_from", "gap", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "more", "more_low", "more_high"])


STUDIES: dict[str, Callable[[], pd.DataFrame]] = {
    study.__name__: study
    for study in (
        support_learned,
        support_retrieval,
        support_kinds,
        support_unplanted,
        support_abstention,
        support_answers,
        support_stale,
        support_judge,
        support_unlabelled,
        support_policies,
        support_sensitivity,
        support_rescues,
    )
}
