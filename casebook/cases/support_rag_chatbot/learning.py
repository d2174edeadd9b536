"""What is learned on the tuning questions: weights, probabilities, thresholds by cost.

:func:`learn` makes what the module :mod:`learned` holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.answer import EVIDENCE, SECTION, candidates
from casebook.cases.support_rag_chatbot.conversation import HEAD
from casebook.cases.support_rag_chatbot.evaluation import (
    NOW,
    RIGHT,
    Labels,
    Signals,
    article_names,
    hits_of,
    is_right,
    matrices,
    relevance,
    to_articles,
)
from casebook.cases.support_rag_chatbot.glossary import translated
from casebook.cases.support_rag_chatbot.languages import WEIGHTS, HelpCentre
from casebook.cases.support_rag_chatbot.policies import title_kinds
from casebook.cases.support_rag_chatbot.world.contacts import ANSWER_KINDS, GOODWILL, REACTIONS
from casebook.cases.support_rag_chatbot.world.content import own_content
from casebook.evaluate.abstain import cost_curve, fit_head
from casebook.retrieval.centre import SIGNALS
from casebook.retrieval.classify import SCOPE, Scope
from casebook.retrieval.dense import Embedder
from casebook.retrieval.weights import tune

# Learning on the tuning questions ----------------------------------------------------


def fit_reader(
    table: pd.DataFrame, signals: Signals, centre: HelpCentre, model: Embedder, at: object = NOW
) -> tuple[dict[str, float], float]:
    """Learn what speaks for a section, on the tuning questions whose answer was found.

    Returns
    -------
    weights : dict of str to float
        Of :data:`~casebook.cases.support_rag_chatbot.answer.SECTION`.
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


def scope_of(table: pd.DataFrame) -> np.ndarray:
    """Return the labels that :class:`Scope` learns from."""
    return np.select(
        [table["kind"] == "off_topic", table["kind"] == "unanswerable"],
        ["off_topic", "unanswerable"],
        "ours",
    )


def fit_scope(table: pd.DataFrame) -> Scope:
    """Learn the scope from the tuning questions."""
    rows = to_articles(table[table["split"] == "tune"])
    scope = Scope(translate=translated)
    return scope.fit([q.text for q in rows["query"]], list(rows["language"]), scope_of(rows))


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
        model = Scope(translate=translated).fit(texts[rows], codes[rows], scope[rows])
        values[left] = model(texts[left], codes[left])
    return table.assign(**dict(zip(SCOPE, values.T, strict=True)))


def intents() -> dict[str, str]:
    """Return what each question that reaches the help centre is about; none: no topic of ours."""
    asked = world.questions().merge(world.truth().questions, left_on="id", right_on="question")
    topics, rows = own_content().plan["topics"], to_articles(asked)
    about = [topics[t]["intent"] if isinstance(t, str) else "none" for t in rows["topic"]]
    return dict(zip(rows["id"], about, strict=True))


def kind_costs(
    seeds: Sequence[int] = (1, 2, 3),
    per_month: float = 2000,
    reactions: Mapping[str, Sequence[float]] = REACTIONS,
    by_intent: bool = False,
) -> pd.DataFrame:
    """Return what each kind of answer costs, from the world's outcomes.

    Priced are the contacts that reach the help centre: where a parcel is and attacks never get an
    answer from it. The months have other seeds than those of the policies' comparison.

    Parameters
    ----------
    seeds : sequence of int
    per_month : float
    reactions : mapping
        What customers do after each kind.
    by_intent : bool
        Whether to return a row for each intent and kind of answer.

    Returns
    -------
    DataFrame
        Index kind of answer (``intent`` before it, if asked for): means of ``cost_eur`` (the
        carrier's, what it makes good among it), ``loss_eur`` (what the customer is left with),
        ``both`` (their sum), ``csat``, ``escalated``.
    """
    about, parts = intents(), []
    for seed in seeds:
        frame = world.contacts(seed, months=1, per_month=per_month)
        frame = frame[frame["question"].isin(about)].reset_index(drop=True)
        for kind in ANSWER_KINDS:
            out = world.outcomes(frame, [kind] * len(frame), seed, reactions=reactions)
            loss = (1 - GOODWILL) * out["customer_loss_eur"]
            both = out["cost_eur"] + loss
            parts.append(out.assign(loss_eur=loss, both=both, intent=frame["question"].map(about)))
    table = pd.concat(parts).rename(columns={"answer_kind": "answer"})
    keys = ["intent", "answer"] if by_intent else "answer"
    return table.groupby(keys)[["cost_eur", "loss_eur", "both", "csat", "escalated"]].mean()


def cheapest(
    rows: pd.DataFrame, price: pd.Series, instead: str | Sequence[str] = "abstain_to_human"
) -> float:
    """Return the probability from which answering costs least; above 1: nothing is answered.

    Parameters
    ----------
    rows : DataFrame
        ``right`` (probability) and ``label`` of tuning questions.
    price : Series
        Euro by kind of answer.
    instead : str or sequence of str
        See :func:`casebook.evaluate.abstain.cost_curve`.
    """
    curve = cost_curve(rows["right"].to_numpy(), rows["label"], price, instead, RIGHT)
    return float(curve.loc[curve["cost_eur"].idxmin(), "threshold"])


def cheapest_by_intent(
    rows: pd.DataFrame, price: pd.Series, instead: str | Sequence[str] = "abstain_to_human"
) -> dict[str, float]:
    """Return :func:`cheapest` for each intent: its prices, the answers to all questions.

    ``price`` has the index of :func:`kind_costs` by intent.
    """
    own = {intent: part.droplevel(0) for intent, part in price.groupby("intent")}
    return {intent: cheapest(rows, part, instead) for intent, part in own.items()}


# What is learned, in one place -------------------------------------------------------

#: Inverse regularisation of the three probabilities, by cross-validation on the tuning questions.
STRENGTH = {"RIGHT": 0.1, "ANSWERABLE": 0.1, "OFF_TOPIC": 0.03}
#: Models of being answerable that see one half of the evidence.
PARTS = {"ANSWERABLE_WORDS": SCOPE, "ANSWERABLE_EVIDENCE": EVIDENCE}
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
    heads = {
        n: fit_head(rows[list(HEAD)], y, rows["group"], STRENGTH[n]) for n, y in target.items()
    }
    for part, names in PARTS.items():  # what speaks for being answerable, one half at a time
        alone = rows.assign(**dict.fromkeys(set(HEAD) - set(names), 0.0))
        target[part] = target["ANSWERABLE"]
        heads[part] = fit_head(
            alone[list(HEAD)], target[part], rows["group"], STRENGTH["ANSWERABLE"]
        )
    crossed = rows.assign(
        right=heads["RIGHT"][1],
        answerable_p=heads["ANSWERABLE"][1],
        off_topic=heads["OFF_TOPIC"][1],
    )
    costs, by_intent = kind_costs(), kind_costs(by_intent=True)
    titles = title_kinds(crossed, crossed["shown"])
    ours = crossed.loc[~target["OFF_TOPIC"], "off_topic"]
    learned = {name: head for name, (head, _) in heads.items()}
    learned |= {
        "ANSWER_FROM": cheapest(crossed, costs["both"]),
        "ANSWER_FROM_TITLES": cheapest(crossed, costs["both"], titles),
        "ANSWER_FROM_INTENT": cheapest_by_intent(crossed, by_intent["both"], titles),
    }
    learned["REFUSE_FROM"] = round(float(ours.quantile(1 - REFUSED)), 3)
    return learned, crossed


def as_text(learned: Mapping[str, object]) -> str:
    """Return the text of ``learned.json``."""
    return json.dumps(learned, indent=1) + "\n"


def tuned_weights(
    rows: pd.DataFrame, signals: Signals, used: Sequence[str] = SIGNALS
) -> tuple[dict[str, float], float]:
    """Tune the weights of some signals on tuning questions: the better of two starts.

    One start is even, one has the weights of all six signals: steps that change one weight at a
    time find another optimum from each.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`asked`, answerable tuning questions.
    signals : mapping
    used : sequence of str

    Returns
    -------
    weights : dict of str to float
    ndcg : float
    """
    names = article_names()
    judged = relevance().groupby("query_id")["doc_id"].agg(set)
    relevant = np.array([[n in judged[i] for n in names] for i in rows["id"]])
    scaled = matrices(signals, list(rows["query"]), names)
    starts = dict.fromkeys(used, 0.2), {name: WEIGHTS[name] for name in used}
    found = [tune({n: scaled[n] for n in used}, relevant, start) for start in starts]
    return max(found, key=lambda one: one[1])
