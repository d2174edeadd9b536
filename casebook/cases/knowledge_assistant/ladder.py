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
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answering import (
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
    statements,
    surest,
)
from casebook.cases.knowledge_assistant.records import SOURCES, Document
from casebook.cases.knowledge_assistant.world.writing import ATTRIBUTES
from casebook.evaluate.abstain import cost_curve, fit_head
from casebook.evaluate.intervals import by_cluster
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import Embedder
from casebook.retrieval.follow_up import standalone
from casebook.retrieval.lexical import FaqSearch
from casebook.retrieval.statements import POLICIES, Kinds, Statement, settled
from casebook.retrieval.text import words as terms_of
from casebook.retrieval.values import same, value_of

#: Sides to which the attributes are dealt, in turn.
SPLITS = ("tune", "test", "tune", "test", "validation")
RUNGS = (
    *("keywords per source", "BM25", "vectors", "hybrid", "+ rerank", "+ freshness"),
    *("answers, keywords", "answers, BM25", "answers, always", "answers"),
)
MEASURES = ("recall", "first", "right")
MIXES = tuple(np.round(np.arange(0, 1.01, 0.1), 1))
PRIORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
LEASTS = (0.5, 0.3, 0.15, 0.7)
HALF_LIVES = (60.0, 180.0, 540.0)


@dataclass(frozen=True, eq=False)
class Setting:
    """A world with its library and questions, as of the world's last second."""

    world: worlds.World
    library: Library
    asked: pd.DataFrame

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


def told(world: worlds.World, documents: Mapping[str, Document]) -> dict[tuple[str, str], set[int]]:
    """Return the facts that a line of a document states, by document and anchor: the labels."""
    found: dict[tuple[str, str], set[int]] = {}
    for one in world.statements.itertuples():
        found.setdefault((one.document, one.anchor), set()).add(one.fact)
    return {key: facts for key, facts in found.items() if key[0] in documents}


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


def look(setting: Setting, found: Sequence[tuple], mix: Mix) -> list[Looked]:
    """Read the lines of each question's passages; ``right`` are those that state the fact."""
    library, looked = setting.library, []
    labels = told(setting.world, {name: leaf.document for name, leaf in library.leaves.items()})
    for (question, signals), one in zip(found, setting.asked.itertuples(), strict=True):
        passages = library.ranked(signals, mix)
        lines = evidence(library, one.user, question, passages)
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
        Of an answer that is ``right`` or ``wrong``, and of ``unknown``.

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
    looked = trial.looked = look(setting, found, mix)
    kinds, head = learn_topic(setting, looked)
    priors = [(0.0, 180.0), *((w, h) for w in PRIORS[1:] for h in HALF_LIVES)]
    fresh, half_life = trial.best("freshness", priors, lambda p, n: trial.fresh(mix, p, n))
    mix = replace(mix, fresh=fresh, half_life=half_life)
    learned = Learned(head, kinds, mix=mix, threshold=0.0)
    ways = [(policy, least) for least in LEASTS for policy in POLICIES]
    policy, least = trial.best("answers", ways, lambda way, n: trial.answers(learned, *way, n))
    learned = replace(learned, policy=policy, least=least)
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

    def answers(self, learned: Learned, policy: str, least: float, n: int) -> float:
        """Return whether a policy answers right; NaN where nothing can be known."""
        if not self.asked["support"].iat[n]:
            return np.nan
        if (n, least) not in self._said:
            how = replace(learned, least=least)
            self._said[n, least] = settle(self.setting, self.looked[n], how, n)[1]
        said = self._said[n, least]
        made = settled(said, policy, self.setting.now, modified(self.setting.library, said))
        return float(graded(self.asked.iloc[n], made))


def applied(setting: Setting, found: Sequence[tuple], learned: Learned) -> list[Looked]:
    """Read what was found as what was learned elsewhere reads it: nothing of this world is used."""
    looked = look(setting, found, Mix(learned.mix.dense))
    for one, user in zip(looked, setting.asked["user"], strict=True):
        masked = setting.library.view(user).names.masked(one.question)
        one.lines["fits"] = learned.kinds.fit(one.lines, masked)
        one.lines["sure"] = surest(one.lines, learned.topic)
    return looked


def learn_topic(setting: Setting, looked: Sequence[Looked]) -> tuple[Kinds, dict]:
    """Return kinds and head of lines, from the tuning questions; fill in ``fits`` and ``sure``.

    A tuning question gets both from the questions about other attributes, as a test question does.
    """
    asked, view = setting.asked, setting.library.view
    masked = [
        view(user).names.masked(one.question)
        for user, one in zip(asked["user"], looked, strict=True)
    ]
    rows = np.flatnonzero(asked["split"] == "tune")
    examples = []
    for n in rows:
        kinds = looked[n].lines.loc[looked[n].lines["right"], "kind"]
        kinds = kinds[kinds != ""]
        if len(kinds):
            examples.append((asked["attribute"].iat[n], masked[n], kinds.mode().iat[0]))
    kinds = Kinds.of((question, kind) for _, question, kind in examples)
    for n, one in enumerate(looked):
        own = asked["attribute"].iat[n]
        others = Kinds.of((q, k) for about, q, k in examples if about != own)
        one.lines["fits"] = others.fit(one.lines, masked[n])
    lines = pd.concat([looked[n].lines.assign(about=asked["attribute"].iat[n]) for n in rows])
    right = lines["right"].to_numpy(bool)  # who sees nothing has no line, and no type of one
    head, crossed = fit_head(lines[[*FEATURES]], right, lines["about"], 1.0)
    ends = dict(zip(rows, np.cumsum([len(looked[n].lines) for n in rows]), strict=True))
    for n, one in enumerate(looked):
        own = crossed[ends[n] - len(one.lines) : ends[n]] if n in ends else None
        one.lines["sure"] = surest(one.lines, head) if own is None else own
    return kinds, head


def learn_threshold(
    setting: Setting, looked: Sequence[Looked], learned: Learned, costs: Mapping[str, float]
) -> tuple[Learned, pd.DataFrame]:
    """Learn how sure an answer is, and from where on it is worth its risk, on the tuning facts."""
    rows, signs_, right = np.flatnonzero(setting.asked["split"] == "tune"), [], []
    facts, about = [], []
    for n in rows:
        held, said = settle(setting, looked[n], learned, n)
        if held is not None:
            signs_.append(signs(said, held, setting.now))
            right.append(graded(setting.asked.iloc[n], held))
            facts.append(setting.asked["fact"].iat[n])
            about.append(setting.asked["attribute"].iat[n])
    if len(set(facts)) < 10 or len(set(right)) < 2:
        raise ValueError(f"answers to {len(set(facts))} tuning facts: ask more questions.")
    head, crossed = fit_head(pd.DataFrame(signs_), np.array(right), about)
    labels = pd.Series(np.where(right, "right", "wrong"))
    curve = cost_curve(crossed, labels, pd.Series(costs), "unknown", ["right"])
    threshold = float(curve["threshold"].iat[int(curve["cost_eur"].argmin())])
    return replace(learned, right=head, threshold=threshold), curve


def settle(setting: Setting, one: Looked, learned: Learned, n: int) -> tuple:
    """Return the statement that holds and all on topic, as :meth:`.Assistant.answer` does."""
    library, user = setting.library, setting.asked["user"].iat[n]
    top = in_order(one.passages, one.lines, learned.mix)["document"].head(READ)
    said = statements(library, user, one.lines[one.lines["document"].isin(top)], learned.least)
    return settled(said, learned.policy, setting.now, modified(library, said)), said


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
        ``first`` (:func:`true_first`), of answers ``right`` (the value is; where nothing can be
        known, that nothing is said) and ``outcome``: right, wrong, or unknown where nothing is
        said. What a rung has not is missing. Keywords and BM25 answer by :func:`first_value`.
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
        held, said = settle(setting, looked[n], learned, n)
        sure = sureness(said, held, learned, setting.now)
        answers = dict.fromkeys(RUNGS[-2:], held.value if held else "")
        if sure < learned.threshold:
            answers[RUNGS[-1]] = ""
        for rung, name in zip(RUNGS[-4:-2], RUNGS[:2], strict=True):
            answers[rung] = first_value(library, one.user, looked[n].question, ranked[name])
        for rung in RUNGS[-4:]:
            right = graded(setting.asked.iloc[n], answers[rung])
            outcome = ("right" if right else "wrong") if answers[rung] else "unknown"
            rows.append((*about, rung, np.nan, np.nan, float(right), outcome))
    names = ["question", "kind", "split", "fact", "rung", *MEASURES, "outcome"]
    return pd.DataFrame(rows, columns=names)


def first_value(library: Library, user: str, question: str, names: Sequence[str]) -> str:
    """Return what a plain reader takes from a ranking: a value of its first document, or ''.

    Of the lines that state a value, it is the one that shares most words with the question.
    """
    asked, known = {*terms_of(question, "en")}, library.view(user).known
    lines = [line.text for name in names[:1] for line in library.leaves[name].lines]
    stating = [text for text in lines if value_of(text, known)]
    best = max(stating, key=lambda text: len(asked & {*terms_of(text, "en")}), default="")
    return value_of(best, known)


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
