"""What the page shows beside the ladder: the gap closed, rewriting, contradictions, RAGAS-like."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.answering import Learned, in_order, sureness
from casebook.cases.knowledge_assistant.ladder import (
    RUNGS,
    Looked,
    Setting,
    graded,
    quotable,
    quoted,
    recall_at,
    settle,
    signals_of,
)
from casebook.cases.knowledge_assistant.library import READ, Mix
from casebook.cases.knowledge_assistant.value import OUTCOMES, USUAL, by_hand, costs
from casebook.evaluate.gap import closed
from casebook.evaluate.intervals import Interval, by_cluster, cluster_counts, wilson
from casebook.retrieval.follow_up import standalone
from casebook.retrieval.rag_metrics import (
    bias,
    context_precision,
    context_recall,
    faithfulness,
)
from casebook.retrieval.statements import Statement, contradictions
from casebook.retrieval.values import same

#: Ways to make a question of several turns; the last is the truth, which nobody has.
WAYS: dict[str, Callable] = {
    "last turn": lambda one, names: one.turns[-1],
    "all turns": lambda one, names: " ".join(one.turns),
    "rules": lambda one, names: standalone(one.turns, names),
    "true question": lambda one, names: one.standalone,
}


#: Measure, rung, and the rungs from which its share of the gap is counted: what most firms have,
#: and what a good analyst builds in an afternoon.
GAPS = (
    ("right", "answers or quotations", ("quotations, keywords", "quotations, BM25")),
    ("recall", "+ freshness", ("keywords per source", "BM25")),
)


def gap_closed(table: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Return the share of the gap from a floor to the oracle, with its t interval over worlds.

    The oracle knows facts and rights: it answers all that can be known and nothing else, and ranks
    the visible documents that state the fact first, so that each of its measures is 1.

    Parameters
    ----------
    table : DataFrame
        As of :func:`~.ladder.rungs`, with ``world``.
    split : str

    Returns
    -------
    DataFrame
        ``measure`` (right, recall), ``rung``, ``floor`` (a rung), ``share``, ``low``, ``high``,
        ``at_floor`` and ``at_rung`` (means over worlds), ``worlds``.
    """
    rows, own = [], table[table["split"] == split]
    for measure, rung, floors in GAPS:
        means = own.groupby(["world", "rung"])[measure].mean().dropna().reset_index()
        ends = means.drop_duplicates("world").assign(rung="oracle", **{measure: 1.0})
        means = pd.concat([means, ends])
        of_rung = means.groupby("rung")[measure].mean()
        means = means.rename(columns={"world": "seed"})
        for floor in floors:
            found = closed(means, rung, floor, "oracle", measure, "rung")
            rows.append((measure, rung, floor, *found, of_rung[floor], of_rung[rung], len(ends)))
    names = ["measure", "rung", "floor", "share", "low", "high", "at_floor", "at_rung", "worlds"]
    return pd.DataFrame(rows, columns=names)


def rewriting(setting: Setting, mix: Mix) -> pd.DataFrame:
    """Return recall@10 and team found of each way to read a conversation; intervals over facts.

    Returns
    -------
    DataFrame
        ``way``, ``recall``, ``low``, ``high``, ``team`` (share with the true question's teams),
        ``of``; conversations of all splits, as nothing is learned here.
    """
    rows = np.flatnonzero(setting.asked["kind"] == "conversation")
    own = Setting(setting.world, setting.library, setting.asked.iloc[rows])
    table = []
    for way, make in WAYS.items():
        asked = [make(one, own.library.view(one.user).names) for one in own.asked.itertuples()]
        found = signals_of(own, asked)
        ranked = (own.library.ranked(s, mix)["document"].tolist() for _, s in found)
        recalls = [recall_at(r, s) for r, s in zip(ranked, own.asked["support"], strict=True)]
        teams = [
            own.library.view(one.user).names.subjects(text)
            == own.library.view(one.user).names.subjects(one.standalone)
            for text, one in zip(asked, own.asked.itertuples(), strict=True)
        ]
        interval = by_cluster(recalls, own.asked["fact"])
        table.append((way, *interval, np.mean(teams), len(recalls)))
    return pd.DataFrame(table, columns=["way", "recall", "low", "high", "team", "of"])


def conflicts(
    setting: Setting, looked: Sequence[Looked], learned: Learned, split: str = "test"
) -> pd.DataFrame:
    """Hold the contradictions that are shown against the world's truth.

    Returns
    -------
    DataFrame
        ``what`` (questions: is a contradiction shown where the visible documents disagree;
        quotations: do quotations, if these are shown, state two values there; documents: does the
        one that is shown state the fact with another value; settled: is the value right where they
        disagree), ``measure``, ``value``, ``low``, ``high`` (over facts),
        ``of``.
    """
    labels = _values(setting)
    flags: dict[tuple[str, str], list[tuple[bool, int]]] = {one: [] for one in SHOWN}
    for n in np.flatnonzero(setting.asked["split"] == split):
        one = setting.asked.iloc[n]
        held, said = settle(setting, looked[n], learned, n)
        against = contradictions(said, held) if held else []
        stated = {*one["support"], *one["against"]}
        values = {v for name in stated for v in labels.get((name, one["fact"]), ())}
        disagree = len(values) > 1
        seen = {
            ("questions", "precision"): [disagree] * bool(against),
            ("questions", "recall"): [bool(against)] * disagree,
            ("quotations", "recall"): [len(_quoted(setting, looked, learned, n)) > 1] * disagree,
            ("documents", "precision"): [_says(labels, one["fact"], other) for other in against],
            ("values", "recall"): [
                any(same(v, s.value) for s in ([held, *against] if held else ()))
                for v in (values if disagree else ())
            ],
            ("settled", "right"): [graded(one, held)] * (disagree and bool(one["support"])),
        }
        for key, own in seen.items():
            flags[key] += [(flag, one["fact"]) for flag in own]
    rows = [(*key, *_share(own), len(own)) for key, own in flags.items()]
    return pd.DataFrame(rows, columns=["what", "measure", "value", "low", "high", "of"])


#: What is measured of contradictions.
SHOWN = (
    *(("questions", "precision"), ("questions", "recall"), ("quotations", "recall")),
    *(("documents", "precision"), ("values", "recall"), ("settled", "right")),
)


def _quoted(setting: Setting, looked: Sequence[Looked], learned: Learned, n: int) -> set[str]:
    """Return the values that quotations state of a question's fact."""
    fact, said = setting.asked["fact"].iat[n], quotable(setting, looked[n], learned, n)
    told = [setting.labels.get((s.document, s.quote), {}) for s in said]
    return {one[fact] for one in told if fact in one}


def _says(labels: dict[tuple[str, int], list[str]], fact: int, other: Statement) -> bool:
    """Say whether the document of a statement gives its value of a fact."""
    return any(same(value, other.value) for value in labels.get((other.document, fact), ()))


def _share(flags: Sequence[tuple[bool, int]]) -> Interval:
    """Return a share with its interval over facts; Wilson's of the facts where all are alike."""
    good, facts = [flag for flag, _ in flags], {fact for _, fact in flags}
    if len(facts) > 1 and 0 < sum(good) < len(good):
        return by_cluster(good, [fact for _, fact in flags])
    return wilson([good[0]] * len(facts) if flags else [])


def _values(setting: Setting) -> dict[tuple[str, int], list[str]]:
    """Return the values that the visible text of each document gives of each fact."""
    said = worlds.said_now(
        setting.world,
        worlds.State((*setting.world.firm.events, *setting.world.events)),
        setting.now,
    )
    found: dict[tuple[str, int], list[str]] = {}
    for one in said.itertuples():
        found.setdefault((one.document, one.fact), []).append(one.value)
    return found


def ragas(
    setting: Setting, looked: Sequence[Looked], learned: Learned, split: str = "test"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return RAGAS-like measures of answers, and how far they are from what is known.

    Returns
    -------
    each : DataFrame
        ``question``, ``kind``, ``fact``, ``faithfulness``, ``context_precision``,
        ``context_recall``, ``right``.
    judge : DataFrame
        As of :func:`.bias`: faithfulness, taken for correctness, against the known label.
    """
    library, rows, labels = setting.library, [], _values(setting)
    for n in np.flatnonzero(setting.asked["split"] == split):
        one = setting.asked.iloc[n]
        held, _ = settle(setting, looked[n], learned, n)
        if held is None:
            continue
        names = in_order(looked[n].passages, looked[n].lines, learned.mix)["document"].head(READ)
        context = [library.leaves[name].document.body for name in names]
        flags = [(name, one["fact"]) in labels for name in names]
        precise = context_precision(flags), context_recall({*names}, one["support"])
        faithful = faithfulness(held.quote, context, looked[n].question)
        about = n, one["kind"], one["fact"]
        rows.append((*about, faithful, *precise, float(graded(one, held))))
    columns = ["question", "kind", "fact", "faithfulness", "context_precision"]
    each = pd.DataFrame(rows, columns=[*columns, "context_recall", "right"])
    judge = bias(each["faithfulness"], each["right"], each["fact"], each["kind"])
    return each, judge


def funnel(
    setting: Setting, looked: Sequence[Looked], learned: Learned, split: str = "test"
) -> pd.DataFrame:
    """Return where questions are lost that a visible document answers.

    Returns
    -------
    DataFrame
        ``stage``, ``share`` of these questions that come so far (each stage by itself), ``of``.
    """
    rows, own = [], setting.asked
    for n in np.flatnonzero((own["split"] == split) & own["support"].map(bool)):
        one, found = own.iloc[n], looked[n]
        support, right = {*one["support"]}, found.lines[found.lines["right"]]
        stating = {*right["document"]} & support
        first = found.lines["sure"].idxmax() if len(found.lines) else None
        top = in_order(found.passages, found.lines, learned.mix)["document"].head(READ)
        held, said = settle(setting, found, learned, n)
        unsure = quoted(setting, found, learned, n)
        true = graded(one, held)
        sure = sureness(said, held, learned, setting.now) >= learned.threshold
        rows.append(
            {
                "its document is found": bool(support & {*found.passages["document"]}),
                "its line is a candidate": bool(stating),
                "its document is read": bool(stating & {*top}),
                "its value can be taken from quotations": unsure == "found",
                "a line that states it is the surest": first in right.index,
                "its value is held": true,
                "it is answered": true and sure,
                "answered, or can be taken": (true if sure else unsure == "found"),
            }
        )
    table = pd.DataFrame(rows).astype(float)
    return (
        pd.DataFrame({"share": table.mean(), "of": len(table)}).rename_axis("stage").reset_index()
    )


def outcome_shares(table: pd.DataFrame, split: str = "test", draws: int = 1000) -> pd.DataFrame:
    """Return the share of each of :data:`.OUTCOMES`: a row a draw of facts.

    Parameters
    ----------
    table : DataFrame
        As of :func:`~.ladder.rungs`.
    split : str
    draws : int
        The first row is the share itself.
    """
    own = table[(table["rung"] == RUNGS[-1]) & (table["split"] == split)]
    flags = np.stack([(own["outcome"] == name).to_numpy(float) for name in OUTCOMES])
    counts = np.vstack([np.ones(len(own)), cluster_counts(own["fact"].to_numpy(), draws)])
    shares = counts @ flags.T / counts.sum(axis=1, keepdims=True)
    return pd.DataFrame(shares, columns=[*OUTCOMES])


def cost_a_question(table: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Return the euro that a question costs with each rung that answers.

    Parameters
    ----------
    table : DataFrame
        As of :func:`~.ladder.rungs`, with ``world`` if it is of several.
    split : str

    Returns
    -------
    DataFrame
        ``rung``, ``euro``, ``low``, ``high`` (over worlds, or over facts), ``less`` than to answer
        always, with ``less_low`` and ``less_high`` (paired by question), ``of``. The last row is
        ``by hand``: without an assistant.
    """
    price = costs()
    own = table[(table["split"] == split) & (table["outcome"] != "")]
    unit = [*(("world",) if "world" in own else ()), "question"]
    euro = own.assign(euro=own["outcome"].map(price)).pivot(
        index=unit, columns="rung", values="euro"
    )
    cluster = "world" if "world" in own else "fact"
    by = own.drop_duplicates(unit).set_index(unit, drop=False)[cluster].reindex(euro.index)
    rows = []
    for rung in own["rung"].unique():
        less = by_cluster(euro["answers, always"] - euro[rung], by)
        rows.append((rung, *by_cluster(euro[rung], by), *less, len(euro)))
    hand = by_hand(USUAL) * USUAL["euro an hour"] / 60
    less = by_cluster(euro["answers, always"] - hand, by)
    rows.append(("by hand", hand, hand, hand, *less, len(euro)))
    names = ["rung", "euro", "low", "high", "less", "less_low", "less_high", "of"]
    return pd.DataFrame(rows, columns=names)
