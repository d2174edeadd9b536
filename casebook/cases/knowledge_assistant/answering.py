"""From a turn of a conversation to an answer that quotes, dates and cites, or to "I don't know".

:class:`Assistant` rewrites the turn, finds passages under the user's rights, reads their lines and
settles what they state. An answer is made of pieces, each with the documents that it quotes, so
that whoever shows it asks about them again (:mod:`.showing`). Who contradicts the answer is shown
beside it, with title and date. Where the answer is too unsure to be worth its risk, lines that may
state it are quoted instead, and who asked chooses; where there is none of these, it is
:data:`UNKNOWN`: one text, whether nobody knows, or somebody whom this user may not read.

The words are quotations (the extractive reader). A language model may word them
(:meth:`Assistant.worded`): what it writes is said only if every claim is backed by what it was
given, and the quotation stands in its place otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant.desk import LONGEST_ANCHOR, UNKNOWN, Answer, Citation
from casebook.cases.knowledge_assistant.library import READ, Library, Mix
from casebook.cases.knowledge_assistant.reading import (
    ON_TOPIC,
    evidence,
    statements,
    surest,
)
from casebook.evaluate.abstain import probability
from casebook.llm import ChatModel
from casebook.retrieval.follow_up import standalone
from casebook.retrieval.grounded import Prompt, Source, judged, write
from casebook.retrieval.statements import Statement, contradictions, settled
from casebook.retrieval.values import same
from casebook.serving.showing import Piece

PROMPT = Prompt(
    "assistant",
    1,
    "You answer questions of employees from numbered passages of their firm's documents. Use only "
    "the passages. Write one short sentence and name the passage like [1]. If they do not answer, "
    "write: The passages do not say.",
    "marks",
    4,
)


#: Lines that are quoted where no answer is sure enough, and a chance that no line has.
QUOTED, NEVER = 5, 1.01
UNSURE = Piece("I am not sure. One of these may say it:")


@dataclass(frozen=True)
class Learned:
    """What was learned on the tuning facts, and what was chosen on the validation facts.

    Attributes
    ----------
    topic, right : mapping
        Heads of lines and of answers; see :func:`.fit_head`.
    usual : tuple of float
        Mean vector of the tuning questions.
    mix : Mix
    policy : str
        Which statement holds; see :data:`.POLICIES`.
    least : float
        Chance from which a line is on topic.
    threshold : float
        Chance from which an answer is given.
    quotes : float
        Chance from which a line is quoted where no answer is given.
    """

    topic: Mapping[str, Mapping[str, float]]
    usual: tuple[float, ...] = ()
    right: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    mix: Mix = field(default_factory=Mix)
    policy: str = "in force"
    least: float = ON_TOPIC
    threshold: float = 0.5
    quotes: float = NEVER


@dataclass(frozen=True)
class Judged(Answer):
    """An answer with what it rests on.

    Attributes
    ----------
    held : Statement or None
        What is answered; None where lines are quoted, and for "I don't know".
    against : tuple of Statement
        Newest statement of each other value.
    sure : float
        Probability that the value is right.
    """

    held: Statement | None = None
    against: tuple[Statement, ...] = ()
    sure: float = 0.0


class Assistant:
    """Answers questions from a library.

    Parameters
    ----------
    library : Library
    learned : Learned
    model : ChatModel, optional
        Words the answers; quotations by default.
    """

    def __init__(self, library: Library, learned: Learned, model: ChatModel | None = None) -> None:
        self.library, self.learned, self.model = library, learned, model

    def understood(self, user: str, turns: Sequence[str]) -> str:
        """Return the last of some turns as a question that stands by itself."""
        return standalone(turns, self.library.view(user).names)

    def answer(self, user: str, question: str, now: np.datetime64) -> Judged:
        """Answer a question that stands by itself."""
        learned = self.learned
        with self.library.steady():
            read, said, quoted = self.found(user, question, now)
            held = settled(said, learned.policy, now, modified(self.library, said))
        sure = sureness(said, held, learned, now)
        if held is None or sure < learned.threshold:
            lines = [_quoted(one, n) for n, one in enumerate(quoted, 1)]
            pieces = (UNSURE, *lines) if quoted else (UNKNOWN,)
            return Judged(pieces, _cited(quoted), read, sure=sure)
        against = tuple(contradictions(said, held))
        cited = _cited([held, *against])
        first, tokens = self.worded(question, said, held)
        pieces = (first, *_beside(held, against))
        return Judged(pieces, cited, read, tokens, held, against, sure)

    def found(
        self, user: str, question: str, now: np.datetime64
    ) -> tuple[tuple[tuple[str, int], ...], list[Statement], list[Statement]]:
        """Return the texts that are read, what they state on topic, and what may be quoted."""
        passages, lines = reranked(self.library, user, question, self.learned, now)
        lines = lines[lines["document"].isin(top := passages["document"].head(READ))]
        read = tuple(zip(top, self.library.versions([*top]), strict=True))
        least, quotes = self.learned.least, self.learned.quotes
        said = statements(self.library, user, lines, least)
        return read, said, statements(self.library, user, lines, quotes, False)[:QUOTED]

    def worded(
        self, question: str, said: Sequence[Statement], held: Statement
    ) -> tuple[Piece, int]:
        """Return the first piece, a quotation or what a model made of it, and the model's tokens.

        What a model wrote is paid for, whether it is said or not.
        """
        quotation = Piece(f"{held.quote} [1]", (held.text_of,))
        if self.model is None:
            return quotation, 0
        agree = [held, *(s for s in said if s is not held and same(s.value, held.value))]
        sources = [Source(n, s.title, s.quote) for n, s in enumerate(agree, 1)]
        made = write(self.model, PROMPT, question, sources, "en")
        tokens = made.prompt_tokens + made.completion_tokens
        if made.declined or not judged(made, sources, "en", question)["clean"]:
            return quotation, tokens
        return Piece(made.text, tuple(s.text_of for s in agree[: PROMPT.most])), tokens


def modified(library: Library, said: Sequence[Statement]) -> dict[str, np.datetime64]:
    """Return when each document of some statements was last saved."""
    return {s.document: library.leaves[s.document].document.modified for s in said}


def sureness(
    said: Sequence[Statement], held: Statement | None, learned: Learned, now: np.datetime64
) -> float:
    """Return the probability that what is held is right."""
    if held is None:
        return 0.0
    return probability(signs(said, held, now), learned.right) if learned.right else held.sure


def reranked(
    library: Library, user: str, question: str, learned: Learned, now: np.datetime64
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the candidates, those with the surest lines first, newer texts a little ahead.

    Returns
    -------
    passages : DataFrame
        As of :meth:`.Library.ranked`, with ``best``, the probability of its surest line.
    lines : DataFrame
        As of :func:`.evidence`, with ``sure``.
    """
    found = library.ranked(library.signals(user, question, now), Mix(learned.mix.dense))
    lines = evidence(library, user, question, found, learned.usual)
    lines["sure"] = surest(lines, learned.topic)
    return in_order(found, lines, learned.mix), lines


def in_order(found: pd.DataFrame, lines: pd.DataFrame, mix: Mix) -> pd.DataFrame:
    """Return candidates in the order of their surest lines and of the freshness prior."""
    best, score, order = order_of(found, lines, mix)
    return found.assign(best=best, score=score).iloc[order].reset_index(drop=True)


def order_of(found: pd.DataFrame, lines: pd.DataFrame, mix: Mix) -> tuple[np.ndarray, ...]:
    """Return of candidates the probability of the surest line, the score, and their order."""
    surest_of: dict[str, float] = {}
    for name, sure in zip(lines["document"], lines["sure"], strict=True):
        surest_of[name] = max(sure, surest_of.get(name, 0.0))
    best = np.array([surest_of.get(name, 0.0) for name in found["document"]])
    prior = 1 + mix.prior(found["days"].to_numpy())
    score = best * prior + 0.1 * found["score"].to_numpy()
    return best, score, np.argsort(-score, kind="stable")


def signs(said: Sequence[Statement], held: Statement, now: np.datetime64) -> dict[str, float]:
    """Return what tells how sure an answer is: by these the threshold is learned."""
    agree = [one for one in said if same(one.value, held.value)]
    others = [one.sure for one in said if not same(one.value, held.value)]
    return {
        "sure": held.sure,
        "odds": float(np.log(held.sure + 1e-6) - np.log1p(1e-6 - held.sure)),
        "rival": max(others, default=0.0),
        "agree": float(np.log(len(agree))),
        "against": float(np.log1p(len(said) - len(agree))),
        "hearsay": float(held.hearsay),
        "years": float((now - held.since) / np.timedelta64(365 * 86_400, "s")),
        "chat": float(held.source == "chat"),
        "wiki": float(held.source == "wiki"),
    }


def _cited(said: Sequence[Statement]) -> tuple[Citation, ...]:
    return tuple(Citation(*s.text_of, s.quote[:LONGEST_ANCHOR], s.start) for s in said)


def _quoted(one: Statement, n: int) -> Piece:
    """Return a line that may say what was asked, with its source and date."""
    heard = ", only heard" if one.hearsay else ""
    text = f" {one.quote} [{n}] ({one.title}, {str(one.since)[:10]}{heard})"
    return Piece(text, (one.text_of,))


def _beside(held: Statement, against: Sequence[Statement]) -> tuple[Piece, ...]:
    """Return the source and date of an answer, and each source that says otherwise with its own."""
    heard = ", only heard" if held.hearsay else ""
    dated = [Piece(f" ({held.title}, {str(held.since)[:10]}{heard})", (held.text_of,))]
    for n, one in enumerate(against, 2):
        heard = "only heard: " if one.hearsay else ""
        text = f" But {one.title} ({str(one.since)[:10]}) says otherwise, {heard}{one.quote} [{n}]"
        dated.append(Piece(text, (one.text_of,)))
    return tuple(dated)
