"""What the chatbot is worth: rankings, answers, abstention, a judge and its bias, policies.

Everything is learned on the tuning questions and reported on the test questions, whose topics the
tuning questions do not touch. Of the test questions, :func:`asked` marks those that were read when
the glossary and the masks were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from casebook.artifacts import artifact
from casebook.simulators import support as world
from casebook.simulators.support.contacts import ANSWER_KINDS
from casebook.simulators.support.content import own_content
from casebook.systems.retrieval.chunks import sentence_spans
from casebook.systems.retrieval.dense import Cached, Embedder
from casebook.systems.retrieval.evaluate import per_query
from casebook.systems.retrieval.fusion import rerank_by
from casebook.systems.retrieval.index import Passage
from casebook.systems.retrieval.lexical import FaqSearch
from casebook.systems.support_rag_chatbot.answer import (
    SECTION,
    Answerer,
    candidates,
    faults,
    quoted,
)
from casebook.systems.support_rag_chatbot.conversation import (
    HEAD,
    Chatbot,
    Rewriting,
    State,
    probability,
    query_of,
    rewrite,
)
from casebook.systems.support_rag_chatbot.glossary import unread
from casebook.systems.support_rag_chatbot.languages import (
    SIGNALS,
    SYSTEMS,
    HelpCentre,
    Hit,
    Query,
    as_articles,
    scale,
    tune,
)
from casebook.systems.support_rag_chatbot.privacy import mask
from casebook.systems.support_rag_chatbot.understand import (
    SCOPE,
    IntentModel,
    LanguageModel,
    Scope,
    attack,
    entities,
    intent_by_rules,
)

CASE = "16_support_rag_chatbot"
#: When the questions are asked.
NOW = world.TODAY + pd.Timedelta(hours=12)


# The questions -----------------------------------------------------------------------


@cache
def _groups() -> dict[str, str]:
    return {name: topic["group"] for name, topic in own_content().plan["topics"].items()}


def asked(how: Rewriting = "all turns") -> pd.DataFrame:
    """Return the questions with what the system makes of them, and the truth to score by.

    Parameters
    ----------
    how : {"rewritten", "last turn", "all turns"}
        See :func:`~casebook.systems.support_rag_chatbot.conversation.rewrite`.

    Returns
    -------
    DataFrame
        The world's columns of questions and truth; ``turns`` (masked), ``query``, ``group`` (of
        topics; a question without one is its own), ``unread``.
    """
    table = world.questions().merge(world.truth().questions, left_on="id", right_on="question")
    table["turns"] = [tuple(mask(turn).text for turn in turns) for turns in table["turns"]]
    pairs = zip(table["turns"], table["language"], strict=True)
    table["query"] = [query_of(rewrite(turns, how), code) for turns, code in pairs]
    table["group"] = table["topic"].map(_groups()).fillna(table["id"])
    by_topic = table["topic"].notna() & (table["route"] != "tracking")
    table["unread"] = unread(table["group"].where(by_topic, table["id"]))
    return table


def relevance(at: object = NOW) -> pd.DataFrame:
    """Return the judgements by article: those of grade 2, as ``article_id``.

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id``, ``relevance`` (1).
    """
    grades = world.truth(at).relevance.query("grade == 2")
    names = world.knowledge_base().set_index("id")["article_id"]
    frame = pd.DataFrame(
        {"query_id": grades["question"], "doc_id": grades["article"].map(names), "relevance": 1}
    )
    return frame.drop_duplicates(ignore_index=True)


def world_texts() -> list[str]:
    """Return every text of the world that is embedded: articles, sentences, questions.

    Questions are masked and stand alone (in all three ways), as asked and in English.
    """
    from casebook.systems.support_rag_chatbot.languages import article_texts

    texts = set(article_texts(as_articles(world.knowledge_base())))
    for how in ("rewritten", "last turn", "all turns"):
        for query in asked(how)["query"]:
            texts |= {query.text, query.english}
    return sorted(texts)


def embedder() -> Embedder:
    """Return MiniLM's vectors of the world's texts, from the artifact."""
    return Cached(artifact(CASE, "world_vectors.parquet"))


# Rankings ----------------------------------------------------------------------------

Signals = Mapping[Query, Mapping[str, Mapping[str, float]]]


def gather(centre: HelpCentre, queries: Sequence[Query], at: object = NOW) -> Signals:
    """Search for every query once, in all ways; see :meth:`HelpCentre.signals`."""
    return {query: centre.signals(query, at) for query in dict.fromkeys(queries)}


def matrices(
    signals: Signals, queries: Sequence[Query], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the scaled signals of queries, shape (queries, articles) each.

    Parameters
    ----------
    signals : mapping
    queries : sequence of Query
    names : sequence of str
        Article ids, in the order of the columns.
    """
    place = {name: i for i, name in enumerate(names)}
    found = {name: np.zeros((len(queries), len(names))) for name in SIGNALS}
    for row, query in enumerate(queries):
        for name in SIGNALS:
            for article, value in scale(signals[query][name]).items():
                found[name][row, place[article]] = value
    return found


def run_of(
    scores: np.ndarray, ids: Sequence[str], names: Sequence[str], depth: int = 50
) -> pd.DataFrame:
    """Lay out a matrix of scores as a run."""
    rows, columns = np.nonzero(scores > 0)
    frame = pd.DataFrame(
        {
            "query_id": np.asarray(ids, object)[rows],
            "doc_id": np.asarray(names, object)[columns],
            "score": scores[rows, columns],
        }
    )
    return rerank_by(frame, depth=depth)


def article_names(at: object = NOW) -> list[str]:
    """Return the ids of the articles that are in force in some language."""
    return sorted(world.knowledge_base(at)["article_id"].unique())


def runs(
    table: pd.DataFrame, signals: Signals, systems: Mapping[str, Mapping[str, float]] = SYSTEMS
) -> dict[str, pd.DataFrame]:
    """Rank the articles for the answerable questions of a table, by several systems.

    Parameters
    ----------
    table : DataFrame
        Of :func:`asked`.
    signals : mapping
    systems : mapping of str to weights

    Returns
    -------
    dict of str to DataFrame
        Runs; ``FAQ search`` is the baseline.
    """
    judged = table[table["answerable"]]
    names, queries = article_names(), list(judged["query"])
    signal = matrices(signals, queries, names)
    found = {"FAQ search": faq_run(judged)}
    for system, weights in systems.items():
        scores = sum(weight * signal[name] for name, weight in weights.items())
        found[system] = run_of(scores, judged["id"], names)
    return found


def faq_run(table: pd.DataFrame, at: object = NOW) -> pd.DataFrame:
    """Rank by the baseline: the search box of an FAQ page, in the customer's language."""
    parts = []
    for language, rows in table.groupby("language"):
        page = world.knowledge_base(at)
        page = page[page["language"] == language].reset_index(drop=True)
        search = FaqSearch(page["title"], page["text"], language)
        scores = np.array([search.scores(turns[-1], language) for turns in rows["turns"]])
        parts.append(run_of(scores, rows["id"], list(page["article_id"])))
    return pd.concat(parts, ignore_index=True)


def by_group(
    found: Mapping[str, pd.DataFrame], table: pd.DataFrame, by: str, k: int = 10
) -> pd.DataFrame:
    """Score runs by kind or language of the questions.

    Parameters
    ----------
    found : mapping of str to DataFrame
        Runs.
    table : DataFrame
        Of :func:`asked`.
    by : str
        Column of the table.
    k : int

    Returns
    -------
    DataFrame
        ``model``, ``by``, ``ndcg``, ``recall``, ``questions``.
    """
    judged = relevance()
    judged = judged[judged["query_id"].isin(table["id"])]
    group = table.set_index("id")[by]
    parts = []
    for name, run in found.items():
        scored = per_query(run[run["query_id"].isin(judged["query_id"])], judged, k)
        means = scored.groupby(group.reindex(scored.index))[["ndcg", "recall"]]
        part = means.mean().assign(questions=means.size())
        parts.append(part.rename_axis(by).reset_index().assign(model=name))
    return pd.concat(parts, ignore_index=True)[["model", by, "ndcg", "recall", "questions"]]


def tuned_weights(table: pd.DataFrame, signals: Signals) -> tuple[dict[str, float], float]:
    """Tune the weights of the signals on the tuning questions."""
    rows = table[(table["split"] == "tune") & table["answerable"]]
    names = article_names()
    judged = relevance().groupby("query_id")["doc_id"].agg(set)
    relevant = np.array([[n in judged[i] for n in names] for i in rows["id"]])
    return tune(matrices(signals, list(rows["query"]), names), relevant)


# Answers -----------------------------------------------------------------------------


def hits_of(
    centre: HelpCentre, query: Query, signals: Signals, at: object = NOW, k: int = 10
) -> list[Hit]:
    """Return what is found for a query whose signals are at hand."""
    return centre.search(query, at, k, scores=signals[query])


@dataclass(frozen=True)
class Label:
    """What an answer is worth by the truth.

    Attributes
    ----------
    kind : str
        Of the world's kinds of answer: ``right``, ``right_other_language``, ``partial`` (the
        right article, another section; or an article of grade 1), ``wrong``, ``stale``.
    relevant : bool
        The cited article is of grade 1 or 2.
    """

    kind: str
    relevant: bool


class Labels:
    """Compare answers with the truth of a day.

    Parameters
    ----------
    at : date-like
    """

    def __init__(self, at: object = NOW) -> None:
        known = world.truth(at)
        articles = world.knowledge_base()
        keys = zip(articles["article_id"], articles["language"], articles["version"], strict=True)
        self._id = dict(zip(keys, articles["id"], strict=True))
        self._in_force = set(world.knowledge_base(at)["id"])
        self._grade = known.relevance.set_index(["question", "article"])["grade"].to_dict()
        self._fact = known.questions.set_index("question")["answer_fact"].to_dict()
        self._language = known.questions.set_index("question")["language_of_answer"].to_dict()
        facts = known.facts
        places = zip(facts["start"], facts["end"], strict=True)
        names = zip(facts["article"], facts["fact"], strict=True)
        self._place = dict(zip(names, places, strict=True))

    def __call__(self, question: str, key: tuple[str, str, int], start: int, end: int) -> Label:
        """Label one citation: article, language and version, and its characters."""
        article = self._id[key]
        if article not in self._in_force:
            return Label("stale", False)
        grade = self._grade.get((question, article), 0)
        if not grade:
            return Label("wrong", False)
        fact = self._fact[question]
        place = self._place.get((article, fact)) if fact else (start, end)
        says = place is not None and place[0] < end and start < place[1]
        if not says:
            return Label("partial", True)
        foreign = key[1] != self._language[question]
        if grade == 2:
            return Label("right_other_language" if foreign else "right", True)
        return Label("right_other_language" if foreign else "partial", True)


def answers(
    table: pd.DataFrame,
    signals: Signals,
    centre: HelpCentre,
    answerer: Answerer,
    at: object = NOW,
) -> pd.DataFrame:
    """Answer questions from the help centre, whatever the confidence.

    Returns
    -------
    DataFrame
        ``id``, ``said`` (the answer), ``article_id``, ``cited_language``, ``version``,
        ``start``, ``end``, ``faults``, ``label`` (:class:`Label`'s kind; empty without one),
        ``relevant``, and the evidence.
    """
    label, rows = Labels(at), []
    for question, query in zip(table["id"], table["query"], strict=True):
        answer = answerer(query, hits_of(centre, query, signals, at), at)
        row = {"id": question, "said": answer.text, "faults": "; ".join(answer.faults)}
        row |= {"label": "", "relevant": False} | dict(answer.evidence)
        if answer.citations:
            c = answer.citations[0]
            said = label(question, (c.article_id, c.language, c.version), c.start, c.end)
            row |= {"article_id": c.article_id, "cited_language": c.language}
            row |= {"version": c.version, "start": c.start, "end": c.end}
            row |= {"label": said.kind, "relevant": said.relevant}
        rows.append(row)
    return pd.DataFrame(rows)


# Learning on the tuning questions ----------------------------------------------------


def fit_reader(
    table: pd.DataFrame, signals: Signals, centre: HelpCentre, model: Embedder, at: object = NOW
) -> tuple[dict[str, float], float]:
    """Learn what speaks for a section, on the tuning questions whose answer was found.

    Returns
    -------
    weights : dict of str to float
        Of :data:`~casebook.systems.support_rag_chatbot.answer.SECTION`.
    accuracy : float
        Share of those questions whose best section is right, cross-validated by topic group.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    label, features, right, owner, group = Labels(at), [], [], [], []
    rows = table[(table["split"] == "tune") & table["answerable"] & (table["answer_fact"] != "")]
    for number, row in enumerate(rows.itertuples()):
        found = candidates(row.query, hits_of(centre, row.query, signals, at), centre, at, model)
        good = [
            label(row.id, c.hit.key, c.passage.start, c.passage.end).kind.startswith("right")
            for c in found
        ]
        if any(good):
            features += [c.features for c in found]
            right += good
            owner += [number] * len(found)
            group += [row.group] * len(found)
    x, y, owners = np.array(features), np.array(right), np.array(owner)
    sd = x.std(axis=0) + 1e-9

    def fit(where: np.ndarray) -> np.ndarray:
        regression = LogisticRegression(C=1.0, max_iter=2000).fit(x[where] / sd, y[where])
        return regression.coef_[0] / sd

    scores = np.zeros(len(x))
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(x, y, group):
        scores[test] = x[test] @ fit(train)
    frame = pd.DataFrame({"owner": owners, "score": scores, "right": y})
    best = frame.loc[frame.groupby("owner")["score"].idxmax(), "right"].mean()
    weights = fit(np.arange(len(x)))
    return dict(zip(SECTION, weights.round(4).tolist(), strict=True)), float(best)


def fit_head(
    evidence: pd.DataFrame, positive: np.ndarray, groups: Sequence[str], strength: float = 0.1
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Learn a probability from evidence.

    Parameters
    ----------
    evidence : DataFrame
        Columns :data:`HEAD`.
    positive : ndarray of bool
    groups : sequence of str
        Of topics; none stands on both sides of a fold.
    strength : float
        Inverse of the regularisation (C).

    Returns
    -------
    model : dict
        See :func:`~casebook.systems.support_rag_chatbot.conversation.probability`.
    crossed : ndarray
        Probability of each row by a model that has not seen its group.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    x = evidence[list(HEAD)].to_numpy(float)
    mean, sd = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = (x - mean) / sd
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    crossed = np.zeros(len(z))
    for train, test in folds.split(z, positive, list(groups)):
        regression = LogisticRegression(C=strength, max_iter=2000).fit(z[train], positive[train])
        crossed[test] = regression.predict_proba(z[test])[:, 1]
    regression = LogisticRegression(C=strength, max_iter=2000).fit(z, positive)

    def named(values: np.ndarray) -> dict[str, float]:
        return dict(zip(HEAD, values.round(5).tolist(), strict=True))

    weight = named(regression.coef_[0]) | {"intercept": round(float(regression.intercept_[0]), 5)}
    return {"mean": named(mean), "sd": named(sd), "weight": weight}, crossed


def scope_of(table: pd.DataFrame) -> np.ndarray:
    """Return the labels that :class:`Scope` learns from."""
    return np.select(
        [table["kind"] == "off_topic", table["kind"] == "unanswerable"],
        ["off_topic", "unanswerable"],
        "ours",
    )


def to_articles(table: pd.DataFrame) -> pd.DataFrame:
    """Return the questions that reach the help centre: no tracking, no attacks."""
    return table[(table["route"] != "tracking") & (table["kind"] != "injection")]


def fit_scope(table: pd.DataFrame) -> Scope:
    """Learn the scope from the tuning questions."""
    rows = to_articles(table[table["split"] == "tune"])
    return Scope().fit([q.text for q in rows["query"]], list(rows["language"]), scope_of(rows))


def with_scope(table: pd.DataFrame) -> pd.DataFrame:
    """Add what the words of the questions say; tuning questions by models that left them out.

    Parameters
    ----------
    table : DataFrame
        Of :func:`asked`.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    texts = np.array([query.text for query in table["query"]], object)
    codes, scope = table["language"].to_numpy(), scope_of(table)
    values = fit_scope(table)(texts, codes)
    mine = np.flatnonzero(table.index.isin(to_articles(table[table["split"] == "tune"]).index))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for train, test in folds.split(mine, scope[mine], table["group"].to_numpy()[mine]):
        rows, left = mine[train], mine[test]
        model = Scope().fit(texts[rows], codes[rows], scope[rows])
        values[left] = model(texts[left], codes[left])
    return table.assign(**dict(zip(SCOPE, values.T, strict=True)))


def is_right(label: pd.Series) -> np.ndarray:
    """Say which answers are right, in whatever language."""
    return label.isin(["right", "right_other_language"]).to_numpy()


def kind_costs(seeds: Sequence[int] = (1, 2, 3), per_month: float = 2000) -> pd.DataFrame:
    """Return what each kind of answer costs, from the world's outcomes.

    Returns
    -------
    DataFrame
        Index kind of answer: ``cost_eur`` (the carrier's), ``loss_eur`` (the customer's),
        ``csat``, ``escalated``: means over the contacts of months with other seeds than those of
        the policies' comparison.
    """
    kinds = list(ANSWER_KINDS)
    parts = []
    for seed in seeds:
        frame = world.contacts(seed, months=1, per_month=per_month)
        for kind in kinds:
            out = world.outcomes(frame, [kind] * len(frame), seed)
            means = out[["cost_eur", "customer_loss_eur", "csat", "escalated"]].mean()
            parts.append(means.rename(kind))
    table = pd.concat(parts, axis=1).T.groupby(level=0).mean()
    return table.rename(columns={"customer_loss_eur": "loss_eur"}).rename_axis("answer")


def cost_curve(
    sure: np.ndarray, labels: pd.Series, costs: pd.Series, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """Return what a threshold on the confidence costs.

    Parameters
    ----------
    sure : ndarray
        Confidence of each question's answer.
    labels : Series of str
        Kinds of answer; unanswerable and off-topic questions are ``wrong`` if answered.
    costs : Series
        Euro by kind of answer.
    weights : ndarray, optional
        Of the questions.

    Returns
    -------
    DataFrame
        ``threshold``, ``cost_eur`` (mean), ``coverage``, ``right`` (share of those answered).
    """
    weights = np.ones(len(sure)) if weights is None else weights
    answered = labels.map(costs).to_numpy()
    abstained = costs["abstain_to_human"]
    rows = []
    for threshold in [*np.round(np.arange(0, 1.0, 0.02), 2), 1.01]:
        given = sure >= threshold
        cost = np.average(np.where(given, answered, abstained), weights=weights)
        share = np.average(given, weights=weights)
        good = is_right(labels)
        right = np.average(good[given], weights=weights[given]) if given.any() else np.nan
        rows.append((threshold, cost, share, right))
    return pd.DataFrame(rows, columns=["threshold", "cost_eur", "coverage", "right"])


def risk_coverage(sure: np.ndarray, good: np.ndarray) -> pd.DataFrame:
    """Return the share of wrong answers among the surest, by how many are answered.

    Parameters
    ----------
    sure : ndarray
    good : ndarray of bool

    Returns
    -------
    DataFrame
        ``coverage``, ``risk``, ``threshold``; one row for each number of answers.
    """
    order = np.argsort(-sure, kind="stable")
    n = np.arange(1, len(order) + 1)
    return pd.DataFrame(
        {
            "coverage": n / len(n),
            "risk": 1 - np.cumsum(good[order]) / n,
            "threshold": sure[order],
        }
    )


# What is learned, in one place -------------------------------------------------------

#: Inverse regularisation of the three probabilities, by cross-validation on the tuning questions.
STRENGTH = {"RIGHT": 0.1, "ANSWERABLE": 0.1, "OFF_TOPIC": 0.03}
#: Share of our own questions that may be refused as off topic.
REFUSED = 0.03


def learn(table: pd.DataFrame, answered: pd.DataFrame) -> tuple[dict[str, object], pd.DataFrame]:
    """Learn probabilities and thresholds on the tuning questions.

    Parameters
    ----------
    table : DataFrame
        Of :func:`with_scope`.
    answered : DataFrame
        Of :func:`answers`, of the tuning questions at least.

    Returns
    -------
    learned : dict
        What :mod:`learned` holds.
    crossed : DataFrame
        The tuning questions with ``right``, ``answerable_p`` and ``off_topic``: probabilities by
        models that left their topics out.
    """
    rows = to_articles(table[table["split"] == "tune"].merge(answered, on="id"))
    target = {
        "RIGHT": is_right(rows["label"]),
        "ANSWERABLE": rows["answerable"].to_numpy(),
        "OFF_TOPIC": (rows["kind"] == "off_topic").to_numpy(),
    }
    heads = {n: fit_head(rows, y, rows["group"], STRENGTH[n]) for n, y in target.items()}
    crossed = rows.assign(
        right=heads["RIGHT"][1],
        answerable_p=heads["ANSWERABLE"][1],
        off_topic=heads["OFF_TOPIC"][1],
    )
    costs = kind_costs()
    curves = {
        "CARRIER": cost_curve(crossed["right"].to_numpy(), rows["label"], costs["cost_eur"]),
        "BOTH": cost_curve(
            crossed["right"].to_numpy(), rows["label"], costs["cost_eur"] + costs["loss_eur"]
        ),
    }
    best = {n: float(c.loc[c["cost_eur"].idxmin(), "threshold"]) for n, c in curves.items()}
    ours = crossed.loc[~target["OFF_TOPIC"], "off_topic"]
    learned = {name: head for name, (head, _) in heads.items()}
    learned |= {"ANSWER_FROM": best["BOTH"], "ANSWER_FROM_CARRIER": best["CARRIER"]}
    learned["REFUSE_FROM"] = round(float(ours.quantile(1 - REFUSED)), 3)
    return learned, crossed


def as_module(learned: Mapping[str, object]) -> str:
    """Return the text of the module :mod:`learned`."""
    lines = [
        '"""What the chatbot learned on the tuning questions; written by its evaluation.',
        "",
        "``evaluation.learn`` makes it anew; the benchmark ``support_learned`` compares.",
        '"""',
        "",
    ]
    lines += [f"{name} = {value!r}" for name, value in learned.items()]
    return "\n".join(lines) + "\n"


# Abstention --------------------------------------------------------------------------


def confidences(table: pd.DataFrame, answered: pd.DataFrame) -> pd.DataFrame:
    """Return questions with their answers and the three probabilities of the system.

    Parameters
    ----------
    table : DataFrame
        Of :func:`with_scope`.
    answered : DataFrame
        Of :func:`answers`.
    """
    from casebook.systems.support_rag_chatbot import learned

    rows = table.merge(answered, on="id")
    heads = {"right": "RIGHT", "answerable_p": "ANSWERABLE", "off_topic": "OFF_TOPIC"}
    records = rows[list(HEAD)].to_dict("records")
    for column, name in heads.items():
        model = getattr(learned, name)
        rows[column] = [probability(record, model) for record in records]
    return rows


def auroc(
    score: np.ndarray, positive: np.ndarray, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the area under the ROC curve and its 95 % bootstrap interval."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = rng.integers(len(score), size=len(score))
        if positive[rows].any() and not positive[rows].all():
            values.append(roc_auc_score(positive[rows], score[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(roc_auc_score(positive, score)), float(low), float(high)


def abstention(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how well the system knows what it cannot answer.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`confidences`, of test questions that reach the help centre.

    Returns
    -------
    DataFrame
        ``what``, ``score``, ``auroc``, ``low``, ``high``, ``positive``, ``negative`` (questions).
    """
    yes = rows["answerable"].to_numpy()
    unanswerable = (rows["kind"] == "unanswerable").to_numpy()
    off = (rows["kind"] == "off_topic").to_numpy()
    answerable, right = rows["answerable_p"].to_numpy(), rows["right"].to_numpy()
    studies = [
        ("answerable, not unanswerable", "answerable", yes | unanswerable, yes, answerable),
        ("answerable, not unanswerable", "best score", yes | unanswerable, yes, rows["score"]),
        ("answerable, neither", "answerable", np.ones(len(rows), bool), yes, answerable),
        ("ours, not off topic", "off topic", yes | unanswerable | off, ~off, -rows["off_topic"]),
        ("the answer is right", "right", np.ones(len(rows), bool), is_right(rows["label"]), right),
    ]
    table = [
        (what, name, *auroc(np.asarray(score)[of], good[of]), good[of].sum(), (~good[of]).sum())
        for what, name, of, good, score in studies
    ]
    columns = ["what", "score", "auroc", "low", "high", "positive", "negative"]
    return pd.DataFrame(table, columns=columns)


def share(good: np.ndarray) -> tuple[float, float, float]:
    """Return a share and its 95 % Wilson interval; all missing without cases."""
    n = len(good)
    if not n:
        return (float("nan"),) * 3
    z, p = 1.959964, float(np.mean(good))
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return p, (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)


def answer_quality(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Return what given answers are worth, at thresholds on the confidence.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`confidences`.
    thresholds : mapping of str to float

    Returns
    -------
    DataFrame
        ``threshold`` (its name), ``from``, ``answered`` (questions), ``coverage``;
        ``faithful`` (share whose words stand in what is cited), ``citation_precision`` (cited
        article is relevant) and ``right`` with ends of their 95 % intervals; ``stale``.
    """
    table = []
    for name, threshold in thresholds.items():
        given = rows[(rows["right"] >= threshold) & (rows["said"] != "")]
        table.append(
            {
                "threshold": name,
                "from": threshold,
                "answered": len(given),
                "coverage": len(given) / len(rows),
                "faithful": float((given["faults"] == "").mean()) if len(given) else np.nan,
                **_interval("citation_precision", given["relevant"].to_numpy(bool)),
                **_interval("right", is_right(given["label"])),
                "stale": int((given["label"] == "stale").sum()),
            }
        )
    return pd.DataFrame(table)


def _interval(name: str, good: np.ndarray) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), share(good), strict=True))


# A judge and its bias ----------------------------------------------------------------


@dataclass(frozen=True)
class Judge:
    """A simulated judge that compares two answers: what a language model as judge is feared for.

    Attributes
    ----------
    skill : float
        Weight of the difference in known quality (right 1, partial 0.5, else 0).
    first : float
        Log odds for whatever stands first.
    longer : float
        Log odds for an answer twice as long.
    own : float
        Log odds for an answer in the judge's own style.
    """

    skill: float = 2.0
    first: float = 0.5
    longer: float = 0.6
    own: float = 0.8

    def odds(self, pairs: pd.DataFrame) -> np.ndarray:
        """Return the log odds that the first answer of each pair wins."""
        return (
            self.skill * (pairs["quality_a"] - pairs["quality_b"])
            + self.first
            + self.longer * np.log2(pairs["words_a"] / pairs["words_b"])
            + self.own * (pairs["own_a"].astype(float) - pairs["own_b"].astype(float))
        ).to_numpy()

    def prefers_first(self, pairs: pd.DataFrame, seed: int) -> np.ndarray:
        """Draw whether the first answer of each pair wins.

        Parameters
        ----------
        pairs : DataFrame
            ``quality_a``, ``quality_b``, ``words_a``, ``words_b``, ``own_a``, ``own_b``.
        seed : int
        """
        rng = np.random.default_rng(seed)
        return rng.random(len(pairs)) < 1 / (1 + np.exp(-self.odds(pairs)))


def swapped(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs in the other order."""
    names = {f"{x}_a": f"{x}_b" for x in ("quality", "words", "own")}
    return pairs.rename(columns=names | {b: a for a, b in names.items()})


def judge_bias(pairs: pd.DataFrame, judge: Judge, seed: int = 0) -> pd.DataFrame:
    """Measure a judge's bias, from its verdicts alone and from the known labels.

    Each pair is judged in both orders. The weights are estimated by logistic regression of the
    verdicts on quality, order, length and style.

    Returns
    -------
    DataFrame
        ``what``, ``planted``, ``measured``.
    """
    from sklearn.linear_model import LogisticRegression

    other = swapped(pairs)
    verdicts = [judge.prefers_first(pairs, seed), judge.prefers_first(other, seed + 1)]
    both, won = pd.concat([pairs, other]), np.concatenate(verdicts)
    x = np.column_stack(
        [
            both["quality_a"] - both["quality_b"],
            np.log2(both["words_a"] / both["words_b"]),
            both["own_a"].astype(float) - both["own_b"].astype(float),
        ]
    )
    fit = LogisticRegression(C=1e4, max_iter=5000).fit(x, won)
    known = (pairs["quality_a"] > pairs["quality_b"]).to_numpy()
    told = (pairs["quality_a"] != pairs["quality_b"]).to_numpy()
    consistent = verdicts[0] == ~verdicts[1]
    rows = [
        ("weight of quality", judge.skill, fit.coef_[0][0]),
        ("log odds for the first", judge.first, fit.intercept_[0]),
        ("log odds for twice the length", judge.longer, fit.coef_[0][1]),
        ("log odds for its own style", judge.own, fit.coef_[0][2]),
        ("first wins, both orders", np.nan, won.mean()),
        ("same verdict in both orders", np.nan, consistent.mean()),
        ("agrees with the labels, one order", np.nan, (verdicts[0] == known)[told].mean()),
        (
            "agrees with the labels, same verdict",
            np.nan,
            (verdicts[0] == known)[told & consistent].mean(),
        ),
    ]
    return pd.DataFrame(rows, columns=["what", "planted", "measured"])


def judged_pairs(
    ours: pd.DataFrame, theirs: pd.DataFrame, questions: Sequence[str]
) -> pd.DataFrame:
    """Pair the answers of two systems; every second pair has ours first, ours in its own style."""
    quality = {"right": 1.0, "right_other_language": 1.0, "partial": 0.5}
    a, b = (frame.set_index("id").loc[list(questions)] for frame in (ours, theirs))
    pairs = pd.DataFrame(
        {
            "quality_a": a["label"].map(quality).fillna(0.0),
            "quality_b": b["label"].map(quality).fillna(0.0),
            "words_a": a["said"].str.split().str.len().clip(lower=1),
            "words_b": b["said"].str.split().str.len().clip(lower=1),
            "own_a": True,
            "own_b": False,
        }
    )
    turned = np.arange(len(pairs)) % 2 == 1
    return pd.concat([pairs[~turned], swapped(pairs[turned])[pairs.columns]])


# Without labels ----------------------------------------------------------------------


def disagreement(first: pd.DataFrame, second: pd.DataFrame, k: int = 10) -> pd.Series:
    """Return 1 minus the Jaccard overlap of two runs' first k documents, by query."""
    tops = [run[run["rank"] <= k].groupby("query_id")["doc_id"].agg(set) for run in (first, second)]
    queries = tops[0].index.union(tops[1].index)
    values = {}
    for query in queries:
        a, b = (top.get(query, set()) for top in tops)
        values[query] = 1 - len(a & b) / max(len(a | b), 1)
    return pd.Series(values, name="disagreement").rename_axis("query_id")


#: Of shown results: probability of a look by rank, of a click on a relevant and on another one.
LOOKS, CLICKS = (1.0, 0.6, 0.4), (0.7, 0.1)


def clicks(run: pd.DataFrame, judged: pd.DataFrame, seed: int, times: int = 20) -> pd.DataFrame:
    """Simulate clicks on the first three results by the position model.

    Returns
    -------
    DataFrame
        ``query_id``, ``doc_id``, ``rank``, ``shown`` (times), ``clicks``.

    References
    ----------
    Joachims, Swaminathan & Schnabel (2017), *Unbiased learning-to-rank with biased feedback*, WSDM.
    """
    rng = np.random.default_rng(seed)
    rows = run[run["rank"] <= len(LOOKS)].merge(judged, on=["query_id", "doc_id"], how="left")
    good = rows["relevance"].fillna(0).gt(0).to_numpy()
    chance = np.where(good, *CLICKS) * np.array(LOOKS)[rows["rank"] - 1]
    return rows[["query_id", "doc_id", "rank"]].assign(
        shown=times, clicks=rng.binomial(times, chance)
    )


def click_proxies(found: pd.DataFrame) -> tuple[float, float]:
    """Return clicks per showing, plain and with each click over its chance of a look."""
    looks = np.array(LOOKS)[found["rank"] - 1]
    shown = found["shown"].sum() / len(LOOKS)
    return float(found["clicks"].sum() / shown), float((found["clicks"] / looks).sum() / shown)


# Stale answers -----------------------------------------------------------------------


def stale_hits(
    centre: HelpCentre, queries: Sequence[Query], day: object, k: int = 10
) -> tuple[int, int]:
    """Count hits whose version is not in force on a day.

    Returns
    -------
    stale, hits : int
    """
    page = world.knowledge_base(day)
    there = set(zip(page["article_id"], page["language"], page["version"], strict=True))
    found = [hit for query in queries for hit in centre.search(query, day, k)]
    return sum(hit.key not in there for hit in found), len(found)


def replay(
    centre: HelpCentre, queries: Sequence[Query], start: object, end: object, update: bool = True
) -> pd.DataFrame:
    """Change an index day by day as the world's articles change, and ask after each change.

    Parameters
    ----------
    centre : HelpCentre
        Of the articles that began before ``start``, with their last days as known then.
    queries : sequence of Query
    start, end : date-like
    update : bool
        False: the index is left as it was, and its clock with it.

    Returns
    -------
    DataFrame
        ``day``, ``added``, ``stale``, ``hits``.
    """
    articles = world.knowledge_base()
    changes, rows = world.updates(start, end), []
    for day, actions in changes.groupby("day"):
        new = articles[articles["id"].isin(actions.loc[actions["action"] == "add", "id"])]
        ended = articles[articles["id"].isin(actions.loc[actions["action"] == "withdraw", "id"])]
        if update:
            centre.update(as_articles(pd.concat([new, ended])))
            stale, hits = stale_hits(centre, queries, day)
        else:
            page = world.knowledge_base(day)
            there = set(zip(page["article_id"], page["language"], page["version"], strict=True))
            found = [hit for q in queries for hit in centre.search(q, start, 10)]
            stale, hits = sum(hit.key not in there for hit in found), len(found)
        rows.append((day, len(new), stale, hits))
    return pd.DataFrame(rows, columns=["day", "added", "stale", "hits"])


def known_before(start: object) -> pd.DataFrame:
    """Return the articles of an index as it was before a day: later ends are not known yet."""
    articles = world.knowledge_base()
    began = articles[articles["valid_from"] < pd.Timestamp(start)].copy()
    began.loc[began["valid_to"] >= pd.Timestamp(start), "valid_to"] = pd.NaT
    return as_articles(began)


# Policies in the stream of contacts --------------------------------------------------


def bot_kinds(rows: pd.DataFrame, answer_from: float, refuse_from: float) -> pd.Series:
    """Return what the bot does with each question, as a kind of answer.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`confidences`, with ``attack`` (bool).
    answer_from, refuse_from : float

    Returns
    -------
    Series of str
        Index ``id``: kinds of answer; ``track`` where the tracking system is asked, ``human``
        where it depends on the hour whether somebody is there.
    """
    good = rows["route"] == "refuse"
    refused = rows["attack"] | (rows["off_topic"] >= refuse_from)
    given = (rows["right"] >= answer_from) & (rows["said"] != "")
    told = rows["label"].replace({"": "wrong"})
    # A question for the tracking system that is answered from an article gets a wrong answer.
    told = told.mask(rows["route"] == "tracking", "wrong")
    kinds = np.select(
        [rows["attack"], rows["tracks"], refused & good, refused, given],
        [
            np.where(good, "refused_right", "refused_wrong"),
            "track",
            "refused_right",
            "refused_wrong",
            told,
        ],
        "human",
    )
    return pd.Series(kinds, index=rows["id"], name="kind")


def faq_kinds(table: pd.DataFrame, at: object = NOW, searched: object | None = None) -> pd.Series:
    """Return what the FAQ search does with each question, as a kind of answer.

    Parameters
    ----------
    table : DataFrame
        Of :func:`asked`.
    at : Timestamp
        When the questions are asked.
    searched : Timestamp, optional
        Day of the page that is searched, by default that of the questions.

    Returns
    -------
    Series of str
        Index ``id``: by what stands behind the three titles that are shown
        (``casebook.simulators.support.contacts.BASELINE``).
    """
    from casebook.simulators.support.contacts import BASELINE

    shown = faq_run(table, at if searched is None else searched)
    shown = shown[shown["rank"] <= 3].merge(relevance(at), on=["query_id", "doc_id"])
    hit = table["id"].isin(shown["query_id"])
    ours = table["route"] != "refuse"
    behind = np.select([~ours, hit], ["off_topic", "right"], "nothing")
    return pd.Series([BASELINE[name] for name in behind], index=table["id"], name="kind")


@cache
def _tracking(seed: int, day: pd.Timestamp) -> world.TrackingAPI:
    return world.TrackingAPI(seed, asked=day + pd.Timedelta(hours=12))


def tracking_kind(row: object, number: str, seed: int) -> str:
    """Ask the tracking system for a contact and return what it is told, as a kind of answer."""
    from casebook.systems.support_rag_chatbot.conversation import track

    api = _tracking(seed, row.arrived.normalize())
    told = track(api, number, row.arrived, row.language)
    if told.outcome in ("timeout", "unknown"):
        return "timeout_told" if told.outcome == "timeout" else "partial"
    if told.status is None:
        return "partial"
    true = api.true_status(number, row.arrived)
    same = (told.status.code, told.status.depot) == (true.code, true.depot)
    if same:
        return "right"
    return "partial" if told.outcome == "old" or told.status.code == true.code else "stale"


def contact_kinds(
    frame: pd.DataFrame, kinds: pd.Series, numbers: Mapping[str, str], seed: int
) -> list[str]:
    """Return the kind of answer of each contact: the hour and the tracking system decide the rest.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`casebook.simulators.support.contacts`, of questions that ``kinds`` knows.
    kinds : Series
        Of :func:`bot_kinds` or :func:`faq_kinds`.
    numbers : mapping of str to str
        Tracking number by question.
    seed : int
        Of the tracking system.
    """
    there = world.staffed(frame["arrived"])
    told = []
    for row, staffed in zip(frame.itertuples(), there, strict=True):
        kind = kinds[row.question]
        if kind == "track":
            kind = tracking_kind(row, numbers[row.question], seed)
        elif kind == "human":
            kind = "abstain_to_human" if staffed else "abstain_no_human"
        told.append(kind)
    return told


def compare_policies(
    policies: Mapping[str, tuple[pd.Series, str]],
    numbers: Mapping[str, str],
    seeds: Sequence[int],
    months: float = 1,
    per_month: float = 2000,
) -> pd.DataFrame:
    """Let policies serve the same contacts, for several seeds.

    Parameters
    ----------
    policies : mapping of str to (kinds, served)
        ``served`` is what each answer costs: faq or bot.
    numbers : mapping of str to str
        See :func:`contact_kinds`.
    seeds : sequence of int
    months, per_month : float
        Of each stream; contacts about questions that no policy knows are left out.

    Returns
    -------
    DataFrame
        ``policy``, ``seed``, ``contacts``, ``contained`` (share not escalated), ``resolved``,
        ``helped`` (contained and resolved), ``escalated``, ``csat``, ``cost_eur`` (the
        carrier's, of a contact), ``loss_eur`` (the customer's).
    """
    known = set.intersection(*(set(kinds.index) for kinds, _ in policies.values()))
    rows = []
    for seed in seeds:
        frame = world.contacts(seed, months, per_month)
        frame = frame[frame["question"].isin(known)].reset_index(drop=True)
        for name, (kinds, served) in policies.items():
            out = world.outcomes(frame, contact_kinds(frame, kinds, numbers, seed), seed, served)
            rows.append(
                {
                    "policy": name,
                    "seed": seed,
                    "contacts": len(out),
                    "contained": 1 - out["escalated"].mean(),
                    "resolved": out["resolved"].mean(),
                    "helped": (out["resolved"] & ~out["escalated"]).mean(),
                    "escalated": out["escalated"].mean(),
                    "csat": out["csat"].mean(),
                    "cost_eur": out["cost_eur"].mean(),
                    "loss_eur": out["customer_loss_eur"].mean(),
                }
            )
    return pd.DataFrame(rows)


def paired_gain(table: pd.DataFrame, against: str, column: str) -> pd.DataFrame:
    """Return each policy's mean difference to another one over the seeds, with 95 % by Student's t.

    Parameters
    ----------
    table : DataFrame
        Of :func:`compare_policies`.
    against : str
    column : str
    """
    from scipy.stats import t

    wide = table.pivot(index="seed", columns="policy", values=column)
    gap = wide.drop(columns=against).sub(wide[against], axis=0)
    half = t.ppf(0.975, len(gap) - 1) * gap.sem()
    frame = pd.DataFrame({"difference": gap.mean(), "low": gap.mean() - half})
    return frame.assign(high=gap.mean() + half).rename_axis("policy").reset_index()


def tracking_numbers(table: pd.DataFrame) -> dict[str, str]:
    """Return the tracking number of the questions that the bot would look up."""
    found = {}
    for question, turns in zip(table["id"], table["turns"], strict=True):
        state = State(tuple(turns), "en")
        if number := Chatbot._number(state, turns[-1]):
            found[question] = number
    return found


def with_routes(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``attack`` and ``tracks`` to questions: what the bot checks before it searches."""
    numbers = tracking_numbers(rows)
    return rows.assign(
        attack=[bool(attack(turns[-1])) for turns in rows["turns"]],
        tracks=rows["id"].isin(numbers),
    )


# The faithfulness check against planted faults -----------------------------------------


def embellish(text: str, language: str, rng: np.random.Generator) -> tuple[str, str]:
    """Change an answer as a careless model might: a number, a negation, a promise, a link.

    Returns
    -------
    text, what : str
        ``what`` is empty where nothing was changed.
    """
    number = re.search(r"\d+", text)
    ways = ["promise", "link", "negation"] + ["number"] * bool(number)
    what = str(rng.choice(ways))
    if what == "number":
        changed = str(int(number[0]) + int(rng.integers(1, 9)))
        return text[: number.start()] + changed + text[number.end() :], what
    if what == "negation":
        word = {"en": "not ", "de": "nicht ", "es": "no "}[language]
        cut = text.find(" ") + 1
        return text[:cut] + word + text[cut:], what
    promise = {
        "en": " You will also get a voucher.",
        "de": " Sie erhalten außerdem einen Gutschein.",
        "es": " Además recibirá un vale.",
    }
    link = {"en": " See", "de": " Siehe", "es": " Vea"}
    added = promise[language] if what == "promise" else f"{link[language]} www.example.com/claim"
    return text + added, what


def check_study(passages: Sequence[Passage], seed: int = 0) -> pd.DataFrame:
    """Let the check read planted faults, and faultless answers, in both its forms.

    Parameters
    ----------
    passages : sequence of Passage
        Sections to quote.
    seed : int

    Returns
    -------
    DataFrame
        ``fault`` (empty: none), ``answers``, ``refused_verbatim``, ``refused_reworded`` (shares).
    """
    rng, rows = np.random.default_rng(seed), []
    for passage in passages:
        quote = quoted(passage)
        changed, what = embellish(quote, passage.language, rng)
        for text, fault in ((quote, ""), (changed, what)):
            strict, loose = (faults(text, [passage], passage.language, v) for v in (True, False))
            rows.append((fault, bool(strict), bool(loose)))
    frame = pd.DataFrame(rows, columns=["fault", "refused_verbatim", "refused_reworded"])
    means = frame.groupby("fault").mean()
    return means.assign(answers=frame.groupby("fault").size()).reset_index()


# Understanding -----------------------------------------------------------------------


def language_model(at: object = NOW) -> LanguageModel:
    """Learn the languages from the sentences of the articles in force; no question is used."""
    page = world.knowledge_base(at)
    pairs = [
        (text[start:end], code)
        for text, code in zip(page["text"], page["language"], strict=True)
        for start, end in sentence_spans(text)
    ]
    return LanguageModel().fit(*map(list, zip(*pairs, strict=True)))


def understanding(table: pd.DataFrame) -> pd.DataFrame:
    """Score intent, language, entities and the guard on the test questions.

    Parameters
    ----------
    table : DataFrame
        Of :func:`asked`.

    Returns
    -------
    DataFrame
        ``what``, ``how``, ``share`` with ends of its 95 % interval, ``cases``.
    """
    tune_rows, test = (table[table["split"] == split] for split in ("tune", "test"))
    texts = {s: [q.text for q in r["query"]] for s, r in (("tune", tune_rows), ("test", test))}
    page = world.knowledge_base(NOW)
    articles = (page["title"] + "\n" + page["text"]).tolist()
    sources = {
        "learned on questions": (texts["tune"], tune_rows["language"], tune_rows["intent"]),
        "learned on articles": (articles, page["language"], page["intent"]),
        "learned on both": (
            [*texts["tune"], *articles],
            [*tune_rows["language"], *page["language"]],
            [*tune_rows["intent"], *page["intent"]],
        ),
    }
    codes, truth = list(test["language"]), test["intent"].to_numpy()
    ruled = [intent_by_rules(t, c) for t, c in zip(texts["test"], codes, strict=True)]
    rows = [("intent", "keyword rules", np.array(ruled) == truth)]
    often = tune_rows["intent"].mode()[0]
    rows.append(("intent", "most frequent", truth == often))
    for name, (said, languages, intents) in sources.items():
        model = IntentModel().fit(list(said), list(languages), list(intents))
        rows.append(("intent", name, np.array(model.predict(texts["test"], codes)) == truth))
    model = language_model()
    told = np.array([model(" ".join(turns))[0] for turns in test["turns"]])
    rows.append(("language", "character n-grams", told == test["language"].to_numpy()))
    caught = np.array([bool(attack(" ".join(turns))) for turns in test["turns"]])
    attacks = (test["kind"] == "injection").to_numpy()
    rows.append(("attack caught", "patterns", caught[attacks]))
    rows.append(("no attack, let through", "patterns", ~caught[~attacks]))
    rows += entity_shares(test)
    return pd.DataFrame(
        [(what, how, *share(np.asarray(good)), len(good)) for what, how, good in rows],
        columns=["what", "how", "share", "low", "high", "cases"],
    )


def entity_shares(test: pd.DataFrame) -> list[tuple[str, str, np.ndarray]]:
    """Return for each type of entity which of those that stand in the questions are found."""
    known = world.truth().entities
    known = known[~known["type"].isin(world.PII) & known["question"].isin(test["id"])]
    texts = world.questions().set_index("id")["turns"].map("\n".join)
    rows: dict[str, list[bool]] = {}
    for row in known.itertuples():
        found = entities(texts[row.question])
        hit = any(e.kind == row.type and e.start < row.end and row.start < e.end for e in found)
        rows.setdefault(row.type, []).append(hit)
    return [("entity", name, np.array(hits)) for name, hits in sorted(rows.items())]
