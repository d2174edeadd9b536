"""What the chatbot does under the clock and when something breaks: drills that a page runs.

* :func:`reply_latency`, :func:`stage_latency`, :func:`embedding_cost`: what a reply costs.
* :func:`tracking_drill`: an outage of the tracking system, met in three ways.
* :func:`personal_data_drill`, :func:`unknown_formats`: planted data, looked for in log, state and
  what the model reads.

Each returns a small table. All but times hangs on seeds alone.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import cycle
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from casebook.artifacts import manifest
from casebook.latency import Latency, measure
from casebook.llm import ChatModel, Message, Scripted
from casebook.llm.messages import Request
from casebook.simulators.support import (
    PII,
    STATUS_TEXTS,
    Faults,
    Status,
    TrackingAPI,
    TrackingError,
    TrackingTimeout,
    UnknownNumber,
    check_digit,
)
from casebook.systems.retrieval.dense import Embedder
from casebook.systems.support_rag_chatbot import answer as answering
from casebook.systems.support_rag_chatbot import conversation, learning
from casebook.systems.support_rag_chatbot.answer import Answerer, ExtractiveReader
from casebook.systems.support_rag_chatbot.conversation import (
    _SAYS,
    ERROR_SECONDS,
    Chatbot,
    State,
    Tracked,
    Turn,
    _told,
    track,
)
from casebook.systems.support_rag_chatbot.evaluation import CASE, NOW, VECTORS, language_model
from casebook.systems.support_rag_chatbot.languages import HelpCentre
from casebook.systems.support_rag_chatbot.privacy import Leak, MaskedLog, MaskedModel, mask
from casebook.systems.support_rag_chatbot.understand import LanguageModel, Scope


def chatbot(
    centre: HelpCentre,
    embedder: Embedder,
    table: pd.DataFrame,
    model: ChatModel | None = None,
    **more: Any,
) -> Chatbot:
    """Put the chatbot together with what it learned on the tuning questions.

    Parameters
    ----------
    centre : HelpCentre
    embedder : Embedder
    table : DataFrame
        Of :func:`~casebook.systems.support_rag_chatbot.evaluation.asked`; of its tuning questions
        the scope is learned.
    model : ChatModel, optional
        The extractive reader by default.
    **more
        Of :class:`Chatbot`; ``api`` is a tracking system with the usual faults by default.

    Returns
    -------
    Chatbot
    """
    api = more.pop("api", None) or TrackingAPI()
    scope = learning.fit_scope(table)
    return Chatbot(centre, Answerer(centre, embedder, model), language_model(), scope, api, **more)


def ask(bot: Chatbot, question: Any, at: object = NOW) -> tuple[State, Turn]:
    """Send the last turn of a question; the earlier ones stand in the state, masked.

    Parameters
    ----------
    bot : Chatbot
    question : row of :func:`casebook.simulators.support.questions`
        Attributes ``turns`` (as the customer wrote them) and ``language``.
    at : Timestamp

    Returns
    -------
    state : State
    turn : Turn
    """
    *earlier, last = question.turns
    state = State(tuple(mask(turn).text for turn in earlier), question.language)
    return bot.reply(state, last, at, question.language)


# Latency ---------------------------------------------------------------------------------------

#: Which functions make up a stage, as the modules know them.
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "mask": ((conversation, "mask"),),
    "understand": (
        (LanguageModel, "__call__"),
        *((conversation, name) for name in ("attack", "wants_person", "entities", "query_of")),
    ),
    "tracking": ((conversation, "track"),),
    "search": ((HelpCentre, "search"),),
    "read": ((answering, "candidates"),),
    "model": ((MaskedModel, "complete"),),
    "check": ((answering, "faults"),),
    "how sure": ((Answerer, "evidence"), (Scope, "__call__"), (conversation, "probability")),
    "log": ((MaskedLog, "__call__"),),
}


class _Stopwatch:
    """Seconds by stage: of nested calls the outer one is charged only what is its own."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def measured(*given: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                took = time.perf_counter() - start
                self.seconds[stage] += took - self._inner.pop()
                self._inner[-1] += took

        return measured

    @contextmanager
    def running(self) -> Iterator[None]:
        """Put a clock around the functions of :data:`STAGES` for the length of a block."""
        with ExitStack() as stack:
            for stage, places in STAGES.items():
                for owner, name in places:
                    clocked = self.timed(stage, getattr(owner, name))
                    stack.enter_context(patch.object(owner, name, clocked))
            yield


def reply_latency(
    bot: Chatbot, questions: pd.DataFrame, at: object = NOW, n: int = 100, warm_up: int = 10
) -> Latency:
    """Time replies in this process, one after the other, nothing else running.

    With vectors from the artifact the embedder costs nothing: add what :func:`embedding_cost`
    says for each text of a question (one in English, in other languages two: the question and its
    translation). The tracking system's time is virtual (:class:`Tracked`) and not in it.

    Parameters
    ----------
    bot : Chatbot
    questions : DataFrame
        Of :func:`casebook.simulators.support.questions`; asked in their order, again and again.
    at : Timestamp
    n, warm_up : int
        See :func:`casebook.latency.measure`.

    Returns
    -------
    Latency

    Raises
    ------
    ValueError
        Without a question, or with n below 100.
    """
    if questions.empty:
        raise ValueError("There is no question to time: give rows of `questions()`.")
    rows = cycle(questions.itertuples())
    return measure(lambda: ask(bot, next(rows), at), n, warm_up)


def stage_latency(
    bot: Chatbot, questions: pd.DataFrame, at: object = NOW, n: int = 100, warm_up: int = 10
) -> pd.DataFrame:
    """Say where the time of a reply goes; the embedder costs nothing, see :func:`reply_latency`.

    Clocks are put around the functions of :data:`STAGES`. Of nested functions the outer one is
    charged what is its own, so that the stages' means add up to the reply's.

    Parameters
    ----------
    bot, questions, at, n, warm_up
        See :func:`reply_latency`.

    Returns
    -------
    DataFrame
        A row for each stage that ran, ``rest`` and ``reply``: ``replies`` that ran it, ``p50_ms``,
        ``p95_ms`` and ``p99_ms`` over those, ``mean_ms`` over all replies, ``share`` of the time.

    Raises
    ------
    ValueError
        Without a question, or with n below 100: a p99 needs as many.
    """
    if questions.empty or n < 100 or warm_up < 0:
        raise ValueError(
            f"{len(questions)} questions, n {n}, warm_up {warm_up}: at least one question, 100 "
            "replies and no negative warm-up are needed."
        )
    rows, spent = cycle(questions.itertuples()), []
    for _ in range(warm_up):
        ask(bot, next(rows), at)
    for _ in range(n):
        watch = _Stopwatch()
        with watch.running():
            start = time.perf_counter()
            ask(bot, next(rows), at)
            whole = time.perf_counter() - start
        rest = whole - watch.seconds.total()
        spent.append({**watch.seconds, "rest": rest, "reply": whole})
    table = 1000 * pd.DataFrame(spent)
    table = table[[stage for stage in (*STAGES, "rest", "reply") if stage in table]]
    return pd.DataFrame(
        {
            "stage": table.columns,
            "replies": table.notna().sum().to_numpy(),
            **{f"p{q}_ms": table.quantile(q / 100).to_numpy() for q in (50, 95, 99)},
            "mean_ms": table.fillna(0).mean().to_numpy(),
            "share": (table.sum() / table["reply"].sum()).to_numpy(),
        }
    )


def embedding_cost() -> pd.DataFrame:
    """Return what MiniLM took for a text of this case when the artifacts were made.

    Returns
    -------
    DataFrame
        ``file``, ``texts``, ``seconds``, ``ms_a_text``; the last row is ``all``. The time holds
        the loading of the model, and texts are read 32 at a time: a single question costs more.
    """
    made = manifest(CASE)
    rows = [(file, made[file]["rows"], made[file]["seconds"]) for file in VECTORS]
    table = pd.DataFrame(rows, columns=["file", "texts", "seconds"])
    table.loc[len(table)] = ["all", table["texts"].sum(), table["seconds"].sum()]
    return table.assign(ms_a_text=1000 * table["seconds"] / table["texts"])


# The tracking system is down -------------------------------------------------------------------

#: Asks the tracking system for a number at a time, in a language.
Way = Callable[[TrackingAPI, str, pd.Timestamp, str], Tracked]
#: When the parcels of the drill are asked for; the second is the outage.
PHASES = {
    "calm": ("2026-07-01 08:30", "2026-07-01 10:30"),
    "outage": ("2026-07-01 12:00", "2026-07-01 16:00"),
    "recovered": ("2026-07-01 17:00", "2026-07-01 19:00"),
}
_SCANNED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


def retry_until_answered(
    api: TrackingAPI, number: str, at: pd.Timestamp, language: str, most: int = 500
) -> Tracked:
    """Ask until there is an answer, however long the customer waits: what not to do.

    Parameters
    ----------
    api, number, at, language
        See :func:`~casebook.systems.support_rag_chatbot.conversation.track`.
    most : int
        Calls after which the drill itself gives up.
    """
    seconds = 0.0
    for calls in range(1, most + 1):
        try:
            status = api.status(number, at + pd.Timedelta(seconds=seconds), language)
        except UnknownNumber:
            return Tracked("unknown", "", seconds, calls)
        except TrackingTimeout as error:
            seconds += error.waited
        except TrackingError:
            seconds += ERROR_SECONDS
        else:
            return _told(status, _SAYS[language], seconds, calls)
    return Tracked("timeout", "", seconds, most)


class LastKnown:
    """Where no answer comes, say the last known status as if it were today's: what not to do."""

    def __init__(self) -> None:
        self._seen: dict[str, Status] = {}

    def __call__(
        self, api: TrackingAPI, number: str, at: pd.Timestamp, language: str
    ) -> Tracked:  # fmt: skip
        """Ask within the budget; without an answer, repeat the one before."""
        told = track(api, number, at, language)
        if told.status is not None:
            self._seen[number] = told.status
        elif told.outcome == "timeout" and number in self._seen:
            known = self._seen[number]
            text = f"{number}: {STATUS_TEXTS[language][known.code]}."
            return Tracked("status", text, told.seconds, told.calls, known)
        return told


#: Ways to meet an outage, each made anew for a drill.
WAYS: dict[str, Callable[[], Way]] = {
    "budget, then say so": lambda: track,
    "retry until answered": lambda: retry_until_answered,
    "last known status": LastKnown,
}


def tracking_numbers(n: int, seed: int = 0) -> list[str]:
    """Draw n different tracking numbers with the right check digit."""
    serials = np.random.default_rng(seed).choice(90_000_000, n, replace=False) + 10_000_000
    return [f"EC{serial}{check_digit(str(serial))}XA" for serial in serials]


def told_fault(
    told: Tracked, truth: TrackingAPI, number: str, at: pd.Timestamp, language: str
) -> str:
    """Return what is wrong with what a customer was told about a parcel, by its true history.

    The text alone is judged, as the customer reads it.

    Parameters
    ----------
    told : Tracked
    truth : TrackingAPI
    number : str
    at : Timestamp
    language : str

    Returns
    -------
    str
        Empty if nothing is. ``invented``: no such thing has happened to the parcel, or not at the
        time that is said. ``silently old``: it has since moved on, and no time is given.
        ``dated``: it has moved on, and the time of the scan is given. ``wrong depot``.
    """
    said = {code for code, text in STATUS_TEXTS[language].items() if text in told.text}
    if not said:
        return ""
    history = truth.true_history(number)
    past = [event for event in history if event.at <= at] or [history[0]]
    scans = _SCANNED.findall(told.text)
    meant = [
        event
        for event in past
        if event.code in said and (not scans or f"{event.at:%Y-%m-%d %H:%M}" in scans)
    ]
    if not meant:
        return "invented"
    if meant[-1].code != past[-1].code:
        return "dated" if scans else "silently old"
    depots = set(re.findall(r"depot \d\d", told.text))
    return "wrong depot" if depots - {meant[-1].depot} else ""


def tracking_drill(
    n: int = 200, ways: Mapping[str, Callable[[], Way]] = WAYS, seed: int = 0
) -> pd.DataFrame:
    """Ask for the same parcels before, in and after an outage, in several ways.

    Each way has a tracking system of its own with the same faults, so that it meets the same
    answers. Time is virtual: nothing waits.

    Parameters
    ----------
    n : int
        Parcels; each is asked for once in each of :data:`PHASES`, in one of the three languages.
    ways : mapping of str to callable
        Each makes a :data:`Way`.
    seed : int
        Of numbers, moments and languages.

    Returns
    -------
    DataFrame
        By ``phase`` and ``way``: ``asked``; ``told`` a status, ``no_answer`` (told that tracking
        does not respond, and offered a person), ``unknown``; of those told, by
        :func:`told_fault`: ``invented``, ``silently_old``, ``dated`` and ``wrong_depot``;
        ``calls`` of the tracking system; ``wait_p50``, ``wait_p95`` and ``wait_max`` in seconds.
    """
    rng, numbers = np.random.default_rng(seed), tracking_numbers(n, seed)
    languages = rng.choice(list(STATUS_TEXTS), n)
    times = {}
    for phase, (start, end) in PHASES.items():
        length = pd.Timestamp(end) - pd.Timestamp(start)
        times[phase] = [
            (pd.Timestamp(start) + share * length).floor("s") for share in rng.random(n)
        ]
    faults, noon = Faults.outage(*PHASES["outage"]), pd.Timestamp(PHASES["outage"][0])
    truth, rows = TrackingAPI(faults=Faults.none(), asked=noon), []
    for name, make in ways.items():
        api, way = TrackingAPI(faults=faults, asked=noon), make()
        for phase, moments in times.items():
            before, told, wrong = api.calls.total(), [], Counter()
            for number, at, language in zip(numbers, moments, languages, strict=True):
                told.append(way(api, number, at, str(language)))
                wrong[told_fault(told[-1], truth, number, at, str(language))] += 1
            outcomes = Counter(each.outcome for each in told)
            waits = np.array([each.seconds for each in told])
            rows.append(
                {
                    "phase": phase,
                    "way": name,
                    "asked": n,
                    "told": outcomes["status"] + outcomes["old"],
                    "no_answer": outcomes["timeout"],
                    "unknown": outcomes["unknown"],
                    "invented": wrong["invented"],
                    "silently_old": wrong["silently old"],
                    "dated": wrong["dated"],
                    "wrong_depot": wrong["wrong depot"],
                    "calls": api.calls.total() - before,
                    "wait_p50": float(np.percentile(waits, 50)),
                    "wait_p95": float(np.percentile(waits, 95)),
                    "wait_max": float(waits.max()),
                }
            )
    rows.sort(key=lambda row: list(PHASES).index(row["phase"]))
    return pd.DataFrame(rows)


# Personal data ---------------------------------------------------------------------------------

#: Characters in a row, letters and digits alone, that count as a part of something planted.
PART = 8


class Recorded(ExtractiveReader):
    """The extractive reader, keeping what it was asked: ``requests``."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def answer(self, request: Request) -> dict:
        """Keep the request and answer it."""
        self.requests.append(request)
        return super().answer(request)


def _like(bot: Chatbot, model: ChatModel, **more: Any) -> Chatbot:
    """Return the same chatbot with another model, and what else differs."""
    centre, verbatim = more.pop("centre", bot.centre), more.pop("verbatim", bot.answerer.verbatim)
    answerer = Answerer(centre, bot.answerer.embedder, model, verbatim)
    same = {"answer_from": bot.answer_from, "refuse_from": bot.refuse_from, "known": bot.known}
    same |= {"language": bot.language, "scope": bot.scope, "api": bot.api}
    return Chatbot(centre, answerer, **(same | more))


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


def left_of(value: str, text: str, ours: str = "") -> str:
    """Say what of a value stands in a text, spaces and punctuation aside.

    Parameters
    ----------
    value, text : str
    ours : str
        What of the text is not the customer's: a word of ours (``customer`` of an address
        ``customer.one@…``) gives nobody away.

    Returns
    -------
    {"", "part", "whole"}
        A part is :data:`PART` characters in a row.
    """
    value, text, ours = _plain(value), _plain(text), _plain(ours)
    if value in text:
        return "whole"
    parts = (value[i : i + PART] for i in range(len(value) - PART + 1))
    return "part" if any(part in text and part not in ours for part in parts) else ""


def _ours(request: Request) -> str:
    """Return what a model was given that is not the customer's: the policy and the sections."""
    sections = json.loads(request.messages[-1].content)["sections"]
    texts = [f"{section['article']}\n{section['text']}" for section in sections]
    return "\n".join([request.messages[0].content, *texts])


def personal_data_drill(
    bot: Chatbot, questions: pd.DataFrame, entities: pd.DataFrame, at: object = NOW
) -> pd.DataFrame:
    """Send planted personal data through a chatbot and look for them wherever it keeps or sends.

    Parameters
    ----------
    bot : Chatbot
        Its model is replaced by the extractive reader that keeps its requests, its log by one
        that keeps its lines.
    questions : DataFrame
        Of :func:`casebook.simulators.support.questions`.
    entities : DataFrame
        ``question``, ``type``, ``value``; rows of other types than personal data are passed over.
    at : Timestamp

    Returns
    -------
    DataFrame
        A row for each ``type`` and one for ``all``: ``planted`` values; ``to_model`` (of them in
        questions with which a model was asked); of which a part or the whole is found
        ``in_log``, ``in_model`` (its messages) and ``in_state``; ``whole`` (in full in any of the
        three); ``stopped`` (a way out refused, and the customer had no reply).
    """
    personal = entities[entities["type"].isin(PII)]
    by_question = dict(list(personal.groupby("question")))
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in PII}
    for question in questions[questions["id"].isin(by_question)].itertuples():
        model, lines = Recorded(), []
        state, stopped = State(), 0
        try:
            state, _ = ask(_like(bot, model, log=MaskedLog(lines.append)), question, at)
        except Leak:
            stopped = 1
        sent = [message.content for request in model.requests for message in request.messages]
        ours = "\n".join(map(_ours, model.requests))
        places = {
            "in_log": "".join(lines),
            "in_model": "\n".join(sent),
            "in_state": "\n".join([*state.turns, state.tracking_number, *state.cited]),
        }
        for row in by_question[question.id].itertuples():
            found = {place: left_of(row.value, text, ours) for place, text in places.items()}
            counts[row.type] += Counter(
                planted=1,
                to_model=int(bool(sent)),
                whole=int("whole" in found.values()),
                stopped=stopped,
                **{place: int(bool(left)) for place, left in found.items()},
            )
    columns = ["planted", "to_model", "in_log", "in_model", "in_state", "whole", "stopped"]
    rows = {kind: count for kind, count in counts.items() if count["planted"]}
    table = pd.DataFrame(rows, index=columns).fillna(0).astype(int).T
    table.loc["all"] = table.sum()
    return table.rename_axis("type").reset_index()


#: What the masks do not know: what it is, a sentence, and what in it is personal.
UNKNOWN_FORMATS = (
    ("a name", "en", "My name is Jane Doe and I wait for a parcel.", "Jane Doe"),
    ("a name", "de", "Max Mustermann hier, wo bleibt mein Paket?", "Max Mustermann"),
    ("a date of birth", "en", "I was born on 3 May 1980, does that help?", "3 May 1980"),
    (
        "a date of birth in words",
        "en",
        "Born on the third of May nineteen eighty.",
        "third of May nineteen eighty",
    ),
    (
        "a phone number in words",
        "de",
        "Ruf an: null drei null zwei drei eins zwei fünf null null null",
        "null drei null zwei drei eins zwei fünf null null null",
    ),
    (
        "a phone number in words",
        "en",
        "Ring zero two zero seven nine four six zero one two three.",
        "zero two zero seven nine four six zero one two three",
    ),
    (
        "an e-mail address spoken",
        "en",
        "Mail me at jane dot doe at example dot com please.",
        "jane dot doe at example dot com",
    ),
    ("a card number with dots", "en", "The card is 4111.1111.1111.1111.", "4111.1111.1111.1111"),
    ("a postcode and a town", "de", "Ich wohne in 00566 Moor am See.", "00566 Moor am See"),
    ("a number of an identity card", "de", "Mein Ausweis: L01X00T47.", "L01X00T47"),
)


def unknown_formats() -> pd.DataFrame:
    """Put personal data of formats that no pattern looks for through both ways out.

    Returns
    -------
    DataFrame
        ``what``, ``language``, ``said``, and what of it came through: ``in_log``, ``in_model``
        (empty, part, whole; see :func:`left_of`).
    """
    rows = []
    for what, language, said, value in UNKNOWN_FORMATS:
        model, lines = Scripted(["fine"]), []
        MaskedLog(lines.append)(turn=said)
        MaskedModel(model).complete([Message("user", said)])
        sent = model.requests[0].messages[0].content
        rows.append((what, language, said, left_of(value, lines[0]), left_of(value, sent)))
    return pd.DataFrame(rows, columns=["what", "language", "said", "in_log", "in_model"])
