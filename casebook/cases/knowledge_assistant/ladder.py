"""The ladder: keyword search in each source, BM25, hybrid, reranked, fresher, answers; graded.

Heads and threshold are learned on the tuning facts, weights and policy chosen on the validation
facts; the test facts are asked once. What is asked about on one side (an *attribute*, such as the
notice before a holiday) is asked about there alone, whatever the team (:func:`split_of`): on the
other sides neither its wording nor its answers were seen. :func:`applied` takes what was learned in
one world to another. Every rung asks as the same users, under the same rights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import value
from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answering import (
    NEVER,
    QUOTED,
    Learned,
    in_order,
    modified,
    order_of,
    signs,
    sureness,
)
from casebook.cases.knowledge_assistant.library import CHUNKERS, READ, Library, Mix
from casebook.cases.knowledge_assistant.reading import (
    FEATURES,
    evidence,
    statement,
    statements,
    surest,
)
from casebook.cases.knowledge_assistant.records import SOURCES, Document
from casebook.cases.knowledge_assistant.world.writing import ATTRIBUTES
from casebook.evaluate.abstain import cost_curve, fit_head
from casebook.evaluate.intervals import by_cluster
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import Embedder, query_vectors
from casebook.retrieval.follow_up import standalone
from casebook.retrieval.lexical import FaqSearch
from casebook.retrieval.statements import POLICIES, Statement, settled
from casebook.retrieval.text import words as terms_of
from casebook.retrieval.values import same

#: Sides to which the attributes are dealt, in turn.
SPLITS = ("tune", "test", "tune", "test", "validation")
RUNGS = (
    *("keywords per source", "BM25", "vectors", "hybrid", "+ rerank", "+ freshness"),
    *("quotations, keywords", "quotations, BM25"),
    *("answers, always", "answers or silence", "answers or quotations"),
)
MEASURES = ("recall", "first", "right")
MIXES = tuple(np.round(np.arange(0, 1.01, 0.1), 1))
PRIORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
LEASTS = (0.5, 0.3, 0.15, 0.7)
HALF_LIVES = (60.0, 180.0, 540.0)
QUOTES = (NEVER, 0.3, 0.1, 0.03, 0.01, 0.0)


@dataclass(frozen=True, eq=False)
class Setting:
    """A world with its library and questions, as of the world's last second."""

    world: worlds.World
    library: Library
    asked: pd.DataFrame

    @cached_property
    def labels(self) -> dict[tuple[str, str], dict[int, str]]:
        """Facts that a line of a document states, with its values, by document and anchor."""
        found: dict[tuple[str, str], dict[int, str]] = {}
        for one in self.world.statements.itertuples():
            found.setdefault((one.document, one.anchor), {})[one.fact] = one.value
        return {key: facts for key, facts in found.items() if key[0] in self.library.leaves}

    @property
    def now(self) -> np.datetime64:
        """When the questions are asked."""
        return self.world.firm.end


def setting_of(
    world: worlds.World,
    asked: pd.DataFrame,
    embedder: Embedder,
    chunker: Chunker = CHUNKERS["512/64"],
) -> Setting:
    """Put a world's documents into a library; add ``attribute`` and ``split`` to its questions."""
    end = float(world.firm.end.astype("datetime64[s]").astype(np.int64))
    access = Access(":memory:", clock=lambda: end)
    events = (*world.firm.events, *world.events)
    access.apply(events)
    access.settle()
    library = Library(access, embedder, world.firm.teams["name"], chunker)
    library.take(worlds.State(events).documents.values(), text_dates(events))
    about = attributes_of(world, asked["fact"])
    return Setting(world, library, asked.assign(attribute=about, split=split_of(about)))


def text_dates(events: Sequence) -> dict[str, np.datetime64]:
    """Return when each document's text last changed: a version with the same text counts not."""
    last: dict[str, tuple[str, np.datetime64]] = {}
    for event in events:
        if isinstance(document := event.payload, Document):
            held = last.get(document.id)
            if held is None or held[0] != document.digest:
                last[document.id] = document.digest, document.modified
    return {name: when for name, (_, when) in last.items()}


def attributes_of(world: worlds.World, facts: pd.Series) -> pd.Series:
    """Return the attribute that each fact gives a value of."""
    return facts.map(world.facts.drop_duplicates("fact").set_index("fact")["attribute"])


def split_of(attributes: pd.Series) -> pd.Series:
    """Return tune, validation or test for each attribute, the same in every world.

    Attributes are dealt out in the order of the kinds of their values, so that each side has most
    kinds, and within a kind by a hash of the name.
    """

    def place(name: str) -> tuple[str, str]:
        return ATTRIBUTES[name]["value"], hashlib.sha256(name.encode()).hexdigest()

    order = sorted(ATTRIBUTES, key=place)
    sides = {name: SPLITS[n % len(SPLITS)] for n, name in enumerate(order)}
    return attributes.map(sides)


@dataclass(eq=False)
class Looked:
    """What a question found: its signals, the 50 best passages, and their lines with labels."""

    question: str
    signals: pd.DataFrame
    passages: pd.DataFrame
    lines: pd.DataFrame


def signals_of(setting: Setting, questions: Sequence[str] | None = None) -> list[tuple]:
    """Return each question as it was understood, or as given, with its signals."""
    library, found = setting.library, []
    for n, one in enumerate(setting.asked.itertuples()):
        names = library.view(one.user).names
        question = standalone(one.turns, names) if questions is None else questions[n]
        found.append((question, library.signals(one.user, question, setting.now)))
    return found


def look(
    setting: Setting, found: Sequence[tuple], mix: Mix, usual: Sequence[float] = ()
) -> list[Looked]:
    """Read the lines of each question's passages; ``right`` are those that state the fact."""
    library, looked, labels = setting.library, [], setting.labels
    for (question, signals), one in zip(found, setting.asked.itertuples(), strict=True):
        passages = library.ranked(signals, mix)
        lines = evidence(library, one.user, question, passages, usual)
        pairs = zip(lines["document"], lines["line"].astype(int), strict=True)
        quotes = [(name, library.leaves[name].lines[k].quote) for name, k in pairs]
        lines["right"] = [one.fact in labels.get(key, ()) for key in quotes]
        looked.append(Looked(question, signals, passages, lines))
    return looked


def learn(setting: Setting, found: Sequence[tuple], costs: Mapping[str, float]) -> tuple:
    """Learn on the tuning facts, choose on the validation facts.

    Parameters
    ----------
    setting : Setting
    found : sequence
        As of :func:`signals_of`.
    costs : mapping of str to float
        Of each of :data:`~.value.OUTCOMES`.

    Returns
    -------
    learned : Learned
    looked : list of Looked
        With ``sure`` in the lines.
    choices : DataFrame
        ``what``, ``value``, ``score``: what was tried, on the validation facts, and the threshold
        on the tuning facts.
    """
    trial = _Trial(setting)
    mix = Mix(trial.best("dense", MIXES, lambda w, n: trial.hybrid(found[n][1], w, n)))
    usual = usual_of(setting, found)
    looked = trial.looked = look(setting, found, mix, usual)
    head = learn_topic(setting, looked)
    priors = [(0.0, 180.0), *((w, h) for w in PRIORS[1:] for h in HALF_LIVES)]
    fresh, half_life = trial.best("freshness", priors, lambda p, n: trial.fresh(mix, p, n))
    mix = replace(mix, fresh=fresh, half_life=half_life)
    learned = Learned(head, usual, mix=mix, threshold=0.0)
    ways = [(policy, least) for least in LEASTS for policy in POLICIES]
    policy, least = trial.best(
        "answers", ways, lambda way, n: trial.answers(learned, way, costs, n)
    )
    learned = replace(learned, policy=policy, least=least)
    quotes = trial.best("quotations", QUOTES, lambda q, n: trial.quotes(learned, q, costs, n))
    learned = replace(learned, quotes=quotes)
    learned, curve = learn_threshold(setting, looked, learned, costs)
    costs_of = curve[["threshold", "cost_eur"]].to_numpy()
    tried = [*trial.tried, *(("threshold", str(t), -c) for t, c in costs_of)]
    return learned, looked, pd.DataFrame(tried, columns=["what", "value", "score"])


class _Trial:
    """What is tried on the validation facts, and how it scores there."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.asked = setting, setting.asked
        self.rows = np.flatnonzero(setting.asked["split"] == "validation")
        self.looked: list[Looked] = []
        self.tried: list[tuple[str, str, float]] = []
        self._said: dict[tuple[int, float], list[Statement]] = {}

    def best(self, what: str, values: Sequence, score: Callable) -> Any:
        """Return the value with the best mean score; the first of several."""
        scores = [float(np.nanmean([score(value, n) for n in self.rows])) for value in values]
        self.tried += [(what, str(v), s) for v, s in zip(values, scores, strict=True)]
        return values[int(np.argmax(scores))]

    def hybrid(self, signals: pd.DataFrame, weight: float, n: int) -> float:
        """Return the recall of words and vectors with a weight."""
        ranked = self.setting.library.ranked(signals, Mix(weight))
        return recall_at(ranked["document"].tolist(), self.asked["support"].iat[n])

    def fresh(self, mix: Mix, prior: tuple[float, float], n: int) -> float:
        """Return whether what is true comes first with a prior."""
        one, mix = self.looked[n], replace(mix, fresh=prior[0], half_life=prior[1])
        order = order_of(one.passages, one.lines, mix)[2]
        names = one.passages["document"].to_numpy()[order].tolist()
        return true_first(names, self.asked["support"].iat[n], self.asked["against"].iat[n])

    def answers(
        self, learned: Learned, way: tuple[str, float], costs: Mapping[str, float], n: int
    ) -> float:
        """Return what always answering by a policy costs, with another sign."""
        policy, least = way
        if (n, least) not in self._said:
            how = replace(learned, least=least)
            self._said[n, least] = settle(self.setting, self.looked[n], how, n)[1]
        said = self._said[n, least]
        made = settled(said, policy, self.setting.now, modified(self.setting.library, said))
        right = "right" if graded(self.asked.iloc[n], made) else "wrong"
        return -costs[right if made else "unknown"]

    def quotes(self, learned: Learned, least: float, costs: Mapping[str, float], n: int) -> float:
        """Return what quotations from a chance on cost, with another sign."""
        how = replace(learned, quotes=least)
        return -costs[quoted(self.setting, self.looked[n], how, n)]


def applied(setting: Setting, found: Sequence[tuple], learned: Learned) -> list[Looked]:
    """Read what was found as what was learned elsewhere reads it: nothing of this world is used."""
    looked = look(setting, found, Mix(learned.mix.dense), learned.usual)
    for one in looked:
        one.lines["sure"] = surest(one.lines, learned.topic)
    return looked


def usual_of(setting: Setting, found: Sequence[tuple]) -> tuple[float, ...]:
    """Return the mean vector of the tuning questions, without the names of teams."""
    asked, library = setting.asked, setting.library
    rows = np.flatnonzero(asked["split"] == "tune")
    views = [library.view(user) for user in asked["user"].iloc[rows]]
    masked = [one.names.masked(found[n][0]) for n, one in zip(rows, views, strict=True)]
    return tuple(query_vectors(library.embedder, masked).mean(axis=0).round(6).tolist())


def learn_topic(setting: Setting, looked: Sequence[Looked]) -> dict:
    """Return the head of lines, from the tuning questions; fill in ``sure``.

    A tuning question gets it from the questions about other attributes, as a test question does.
    """
    asked = setting.asked
    rows = np.flatnonzero(asked["split"] == "tune")
    lines = pd.concat([looked[n].lines.assign(about=asked["attribute"].iat[n]) for n in rows])
    right = lines["right"].to_numpy(bool)  # who sees nothing has no line, and no type of one
    head, crossed = fit_head(lines[[*FEATURES]], right, lines["about"], 1.0)
    ends = dict(zip(rows, np.cumsum([len(looked[n].lines) for n in rows]), strict=True))
    for n, one in enumerate(looked):
        own = crossed[ends[n] - len(one.lines) : ends[n]] if n in ends else None
        one.lines["sure"] = surest(one.lines, head) if own is None else own
    return head


def learn_threshold(
    setting: Setting, looked: Sequence[Looked], learned: Learned, costs: Mapping[str, float]
) -> tuple[Learned, pd.DataFrame]:
    """Learn how sure an answer is, and from where on it is worth its risk, on the tuning facts.

    Below the threshold lines are quoted, so that an answer is compared with what these would have
    told the same person.
    """
    rows = []
    for n in np.flatnonzero(setting.asked["split"] == "tune"):
        held, said = settle(setting, looked[n], learned, n)
        if held is not None:
            one = setting.asked.iloc[n]
            about = one["fact"], one["attribute"], quoted(setting, looked[n], learned, n)
            rows.append((signs(said, held, setting.now), graded(one, held), *about))
    told = pd.DataFrame(rows, columns=["signs", "right", "fact", "about", "instead"])
    right = told["right"].to_numpy(bool)
    if told["fact"].nunique() < 10 or len({*right}) < 2:
        raise ValueError(f"answers to {told['fact'].nunique()} tuning facts: ask more questions.")
    head, crossed = fit_head(pd.DataFrame([*told["signs"]]), right, [*told["about"]])
    labels = pd.Series(np.where(right, "right", "wrong"))
    curve = cost_curve(crossed, labels, pd.Series(costs), [*told["instead"]], ["right"])
    threshold = float(curve["threshold"].iat[int(curve["cost_eur"].argmin())])
    return replace(learned, right=head, threshold=threshold), curve


def settle(setting: Setting, one: Looked, learned: Learned, n: int) -> tuple:
    """Return the statement that holds and all on topic, as :meth:`.Assistant.answer` does."""
    said = _stated(setting, one, learned, n, learned.least)
    return settled(said, learned.policy, setting.now, modified(setting.library, said)), said


def _stated(setting: Setting, one: Looked, learned: Learned, n: int, *how: float) -> list:
    user, top = setting.asked["user"].iat[n], in_order(one.passages, one.lines, learned.mix)
    lines = one.lines[one.lines["document"].isin(top["document"].head(READ))]
    return statements(setting.library, user, lines, *how)


def quotable(setting: Setting, one: Looked, learned: Learned, n: int) -> list[Statement]:
    """Return the lines that :meth:`.Assistant.answer` quotes where it is not sure."""
    return _stated(setting, one, learned, n, learned.quotes, False)[:QUOTED]


def quoted(setting: Setting, one: Looked, learned: Learned, n: int) -> str:
    """Return what becomes of a question whose lines are quoted: :func:`taken`, or unknown."""
    said = quotable(setting, one, learned, n)
    return taken(setting, said, n) if said else "unknown"


def taken(setting: Setting, said: Sequence[Statement], n: int) -> str:
    """Return found, misled or vain: what somebody takes from quotations who sees which answer.

    This person reads values that no rule sees, and knows what is asked about, not what is true: of
    the quotations that state it, the one in force is taken (:func:`~.statements.settled`).
    """
    question, labels = setting.asked.iloc[n], setting.labels
    values = [labels.get((s.document, s.quote), {}).get(question["fact"], "") for s in said]
    told = [replace(s, value=v) for s, v in zip(said, values, strict=True) if v]
    if not told:
        return "vain"
    return "found" if graded(question, settled(told, "in force", setting.now)) else "misled"


def graded(question: pd.Series, held: Statement | str | None) -> bool:
    """Say whether an answer or a value is right; of what cannot be known, that there is none."""
    value = held.value if isinstance(held, Statement) else held
    if not question["support"]:
        return not value
    return bool(value) and same(value, question["value"])


def recall_at(ranked: Sequence[str], support: Sequence[str], k: int = 10) -> float:
    """Return the share of the supporting documents among the first k; NaN without any."""
    return len({*ranked[:k]} & {*support}) / min(k, len(support)) if support else np.nan


def true_first(ranked: Sequence[str], support: Sequence[str], against: Sequence[str]) -> float:
    """Return 1 if the first document among three that states the fact is right; NaN without any."""
    stating = [name for name in ranked[:3] if name in {*support, *against}]
    return float(bool(stating) and stating[0] in support) if support else np.nan


class Keywords:
    """Search boxes: each source counts common words; a reader takes the best of each in turn."""

    def __init__(self, setting: Setting) -> None:
        self.setting, pages = setting, [leaf.document for leaf in setting.library.leaves.values()]
        self.names = np.array([page.id for page in pages], object)
        self.sources = np.array([page.source for page in pages], object)
        self.search = FaqSearch([page.title for page in pages], [page.body for page in pages])

    def __call__(self, user: str, question: str) -> list[str]:
        """Return the documents that a user may see and finds, ten of each source."""
        may = self.setting.library.access.sees(user, self.names.tolist())
        scores, ranked = np.where(may, self.search.scores(question), 0.0), []
        for source in SOURCES:
            rows = np.flatnonzero((self.sources == source) & (scores > 0))
            ranked.append(self.names[rows[np.argsort(-scores[rows], kind="stable")][:10]].tolist())
        return [one[k] for k in range(10) for one in ranked if k < len(one)]


def rungs(setting: Setting, looked: Sequence[Looked], learned: Learned) -> pd.DataFrame:
    """Grade every rung on every question.

    Returns
    -------
    DataFrame
        ``question``, ``kind``, ``split``, ``fact``, ``rung``. Of a ranking ``recall`` (at 10) and
        ``first`` (:func:`true_first`), of answers ``outcome`` (of :data:`~.value.OUTCOMES`) and
        ``right``: the value is right or found; where nothing can be known, no value is told or
        taken. What a rung has not is missing. Keywords and BM25 quote by :func:`plain_lines`.
        Every rung is asked the same question: complete, with the code names of its teams.
    """
    keywords, library, rows = Keywords(setting), setting.library, []
    for n, one in enumerate(setting.asked.itertuples()):
        ranked = _rankings(setting, looked[n], learned)
        asked = library.view(one.user).names.expanded(looked[n].question)
        ranked = {RUNGS[0]: keywords(one.user, asked)} | ranked
        about = n, one.kind, one.split, one.fact
        for rung, names in ranked.items():
            found = recall_at(names, one.support), true_first(names, one.support, one.against)
            rows.append((*about, rung, *found, np.nan, ""))
        ends = _outcomes(setting, looked[n], learned, n)
        for rung, name in zip(RUNGS[6:8], RUNGS[:2], strict=True):
            said = plain_lines(library, one.user, asked, ranked[name])
            ends[rung] = taken(setting, said, n) if said else "unknown"
        for rung in RUNGS[6:]:
            right = ends[rung] in (("right", "found") if one.support else ("unknown", "vain"))
            rows.append((*about, rung, np.nan, np.nan, float(right), ends[rung]))
    names = ["question", "kind", "split", "fact", "rung", *MEASURES, "outcome"]
    return pd.DataFrame(rows, columns=names)


def _outcomes(setting: Setting, one: Looked, learned: Learned, n: int) -> dict[str, str]:
    """Return what becomes of a question by each rung that answers."""
    held, said = settle(setting, one, learned, n)
    sure = sureness(said, held, learned, setting.now)
    answer = "right" if graded(setting.asked.iloc[n], held) else "wrong"
    answer = answer if held else "unknown"
    silent = answer if sure >= value.threshold() else "unknown"
    unsure = quoted(setting, one, learned, n)
    last = answer if held and sure >= learned.threshold else unsure
    return dict(zip(RUNGS[-3:], (answer, silent, last), strict=True))


def plain_lines(
    library: Library, user: str, question: str, names: Sequence[str]
) -> list[Statement]:
    """Return what a search page shows of its first documents.

    Of each it is the line that shares most words with the question, of those with a value if any.
    """
    asked, view, found = {*terms_of(question, "en")}, library.view(user), []
    for name in names[:QUOTED]:
        leaf = library.leaves[name]
        stating = [line for line in leaf.lines if view.value(line.text)]
        if stating := stating or leaf.lines:
            best = max(stating, key=lambda line: len(asked & {*terms_of(line.text, "en")}))
            found.append(statement(leaf, best, view, 0.0))
    return found


def _rankings(setting: Setting, one: Looked, learned: Learned) -> dict[str, list[str]]:
    """Return the documents of each rung that ranks, by the same signals."""
    weights = dict(zip(RUNGS[1:4], (0.0, 1.0, learned.mix.dense), strict=True))
    ranked = {name: setting.library.ranked(one.signals, Mix(w)) for name, w in weights.items()}
    for name, mix in ((RUNGS[4], Mix(learned.mix.dense)), (RUNGS[5], learned.mix)):
        ranked[name] = in_order(one.passages, one.lines, mix)
    return {name: table["document"].tolist() for name, table in ranked.items()}


def summary(table: pd.DataFrame, by: Sequence[str] = ("rung",), split: str = "test"):
    """Return each measure with an interval that resamples facts, or worlds where there are any.

    Returns
    -------
    DataFrame
        ``by``, ``measure``, ``value``, ``low``, ``high``, ``of``.
    """
    rows, table = [], table[table["split"] == split]
    for key, own in table.groupby([*by], sort=False):
        cluster = own["world"] if "world" in own else own["fact"]
        for measure in MEASURES:
            there = own[measure].notna()
            if cluster[there].nunique() > 1:
                found = by_cluster(own.loc[there, measure], cluster[there])
                rows.append((*key, measure, *found, int(there.sum())))
    return pd.DataFrame(rows, columns=[*by, "measure", "value", "low", "high", "of"])
