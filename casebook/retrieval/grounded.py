"""A language model that answers from numbered passages: one way to ask, one record of the answer.

:func:`write` asks any :class:`~casebook.llm.ChatModel` with a versioned :class:`Prompt` and returns
what came of it as :class:`Written`: the text, which passages it cites, tokens, seconds, and what
went wrong; it raises nothing that a model can cause. A model that writes JSON names the numbers of
its passages (``json``); a small one writes ``[1]`` into its text (``marks``), and where it does
not, each claim is put down to the passage that supports it best, and the record says so.

What is *written* is not yet what is *said*: :func:`judged` holds each claim against the passages
and each citation against the claims, and whoever serves decides what to let through.

Examples
--------
>>> from casebook.llm import Scripted
>>> prompt = Prompt("short", 1, "Answer from the passages.", "marks")
>>> sources = [Source(1, "Storage", "We keep a parcel for 7 days.")]
>>> made = write(Scripted(["We keep it for 7 days [1]."]), prompt, "How long?", sources, "en")
>>> made.text, made.cited, made.faults
('We keep it for 7 days [1].', (1,), ())
>>> judged(made, sources, "en")["supported"]
1
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from casebook.llm import ChatModel, LLMError, Message, Reply, ResponseFormat
from casebook.retrieval.claims import claims, declines, loops, numbers, support, without_marks

Style = Literal["json", "marks", "passages"]
#: What a model that writes JSON gives.
FORM = ResponseFormat(
    "grounded_answer",
    {
        "type": "object",
        "properties": {
            "found": {"type": "boolean"},
            "answer": {"type": "string"},
            "citations": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["found", "answer", "citations"],
        "additionalProperties": False,
    },
)
_MARKS = re.compile(r"\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")


@dataclass(frozen=True)
class Source:
    """A passage that a model is given.

    Attributes
    ----------
    number : int
        From 1; by it the model cites.
    title, text : str
    """

    number: int
    title: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """What a model is told, with a number that changes when the words do.

    Attributes
    ----------
    name : str
    version : int
    system : str
    style : {"json", "marks", "passages"}
        How the model cites: in a field, by marks in the text, or not at all; then the passages have
        no numbers either.
    most : int
        Passages that it is given, the first ones; 0 for all.
    """

    name: str
    version: int
    system: str
    style: Style = "json"
    most: int = 0

    @property
    def stamp(self) -> str:
        """Name, version and the beginning of a hash of all that is said: ``short/1 5f1c2a``."""
        said = json.dumps([self.system, self.style, self.most])
        return f"{self.name}/{self.version} {hashlib.sha256(said.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Written:
    """What a model wrote.

    Attributes
    ----------
    text : str
        As it stands, marks of citations included; empty where nothing came.
    cited : tuple of int
        Numbers of passages, in the order in which they were cited.
    put_down : bool
        Whether the citations are ours: the model named none.
    declined : bool
        Whether it says that the passages do not answer.
    faults : tuple of str
        What was wrong with the reply itself (no form, a passage that it was not given, an error,
        cut off at the limit, the same words again and again). It may not be said, and what stands
        in ``text`` is what was written all the same.
    model, prompt : str
    prompt_tokens, completion_tokens : int
    seconds : float
    """

    text: str
    cited: tuple[int, ...] = ()
    put_down: bool = False
    declined: bool = False
    faults: tuple[str, ...] = ()
    model: str = ""
    prompt: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = field(default=0.0, compare=False)

    def price(self, million_in: float, million_out: float) -> float:
        """Return what the tokens cost, at prices for a million read and written."""
        return (self.prompt_tokens * million_in + self.completion_tokens * million_out) / 1e6


def messages(prompt: Prompt, question: str, sources: Sequence[Source]) -> list[Message]:
    """Return the conversation of a request: the prompt, the passages, the question.

    Parameters
    ----------
    prompt : Prompt
    question : str
        Masked.
    sources : sequence of Source
    """
    sources = sources[: prompt.most or len(sources)]
    if prompt.style == "json":
        rows = [{"number": s.number, "article": s.title, "text": s.text} for s in sources]
        asked = json.dumps({"question": question, "sections": rows}, ensure_ascii=False)
    elif prompt.style == "passages":
        rows = [f"Passage: {s.title}. {s.text}" for s in sources]
        asked = "\n\n".join([*rows, f"Question: {question}"])
    else:
        rows = [f"[{s.number}] {s.title}: {s.text}" for s in sources]
        asked = "\n".join([*rows, "", f"Question: {question}"])
    return [Message("system", prompt.system), Message("user", asked)]


def write(
    model: ChatModel,
    prompt: Prompt,
    question: str,
    sources: Sequence[Source],
    language: str,
) -> Written:
    """Ask a model to answer a question from passages.

    Parameters
    ----------
    model : ChatModel
    prompt : Prompt
    question : str
        Masked.
    sources : sequence of Source
    language : str
        Of the passages.

    Returns
    -------
    Written
        With a fault where the model failed, or its reply was not of the form.
    """
    start, form = time.perf_counter(), FORM if prompt.style == "json" else None
    try:
        reply = model.complete(messages(prompt, question, sources), response_format=form)
    except (LLMError, OSError) as error:  # a time-out and a lost connection too
        took = time.perf_counter() - start
        fault = f"the model failed: {type(error).__name__}"
        return Written("", (), False, False, (fault,), model.name, prompt.stamp, 0, 0, took)
    return received(reply, prompt, sources, language, time.perf_counter() - start)


def received(
    reply: Reply, prompt: Prompt, sources: Sequence[Source], language: str, seconds: float = 0.0
) -> Written:
    """Read a reply, one that was recorded too: its text, and what it cites.

    Parameters
    ----------
    reply : Reply
    prompt : Prompt
        That was asked with.
    sources : sequence of Source
    language : str
        Of the passages.
    seconds : float
    """
    sources = sources[: prompt.most or len(sources)]
    if prompt.style == "json":
        text, cited, declined, faults = _read_form(reply.data, len(sources))
    else:
        text, cited, declined, faults = _read_marks(reply.content, len(sources))
    declined = declined or (not faults and declines(text, language))
    put_down = not cited and not declined and not faults and bool(text)
    if put_down:
        cited = put_down_to(text, sources, language)
    signs = {"was cut off": reply.finish_reason == "length", "repeats itself": loops(text)}
    faults += tuple(fault for fault, there in signs.items() if there)
    spent = reply.usage.prompt_tokens, reply.usage.completion_tokens
    told = text, cited, put_down, declined, faults
    return Written(*told, reply.model, prompt.stamp, *spent, seconds)


def put_down_to(text: str, sources: Sequence[Source], language: str) -> tuple[int, ...]:
    """Return the passages that support a text's claims best: citations that a model left out."""
    texts = [f"{source.title}. {source.text}" for source in sources]
    best = (support(claim, texts, language).source for claim in claims(text, language))
    return tuple(dict.fromkeys(sources[n].number for n in best if n is not None))


def _read_form(data: object, n: int) -> tuple[str, tuple[int, ...], bool, tuple[str, ...]]:
    """Take text and citations out of a reply in JSON, which may be anything."""
    shape = isinstance(data, dict) and isinstance(data.get("answer"), str)
    if not shape or not isinstance(data.get("citations"), list):
        return "", (), False, ("gave no answer of the agreed form",)
    if data.get("found") is not True:
        return "", (), True, ()
    cited = numbers_of(data["citations"], n)
    if cited is None:
        return "", (), False, ("cites what it was not given",)
    return data["answer"], cited, False, ()


def numbers_of(cited: Sequence[object], n: int) -> tuple[int, ...] | None:
    """Return the numbers that a model cites, each once; None unless all are of its n passages.

    Examples
    --------
    >>> numbers_of([2, 1, 2], 2), numbers_of([[1]], 2), numbers_of([True], 2)
    ((2, 1), None, None)
    """
    if not all(type(number) is int and 1 <= number <= n for number in cited):
        return None
    return tuple(dict.fromkeys(cited))


def _read_marks(data: object, n: int) -> tuple[str, tuple[int, ...], bool, tuple[str, ...]]:
    """Take the citations out of a text with marks."""
    text = data.strip() if isinstance(data, str) else ""
    if not text:
        return "", (), False, ("says nothing",)
    named = [number.strip() for match in _MARKS.findall(text) for number in match.split(",")]
    # Nobody is given a million passages, and Python reads no number of 5,000 digits.
    cited = numbers_of([int(number) if len(number) < 7 else None for number in named], n)
    if cited is None:
        return text, (), False, ("cites what it was not given",)
    return text, cited, False, ()


def judged(
    made: Written, sources: Sequence[Source], language: str, question: str = ""
) -> dict[str, int | bool]:
    """Hold an answer against the passages that it was given, claim by claim.

    Parameters
    ----------
    made : Written
        A reply with a fault is held against them too, and is never clean.
    sources : sequence of Source
    language : str
    question : str
        What was asked: its sentences are no claims, its numbers not invented.

    Returns
    -------
    dict
        ``claims``; ``supported`` by any passage; ``backed``: by a passage that is cited;
        ``citations``; ``useful`` ones, that support a claim; ``invented`` (numbers that neither a
        passage nor the question holds); ``clean``: nothing is wrong: an answer was given, all of
        its claims are backed, no number is invented, and the reply has no fault.
    """
    texts = [f"{source.title}. {source.text}" for source in sources]
    found = [] if made.declined else claims(made.text, language, question)
    cited = [n - 1 for n in made.cited]

    def held_by(claim: str, some: Sequence[str]) -> bool:
        return support(claim, some, language, question=question).good

    backed = [held_by(claim, [texts[n] for n in cited]) for claim in found]
    useful = sum(any(held_by(claim, [texts[n]]) for claim in found) for n in cited)
    held = set().union(*(numbers(text, language) for text in [*texts, question]))
    invented = numbers(without_marks(made.text), language) - held if found else set()
    return {
        "claims": len(found),
        "supported": sum(held_by(claim, texts) for claim in found),
        "backed": sum(backed),
        "citations": len(cited),
        "useful": useful,
        "invented": len(invented),
        "clean": bool(found) and all(backed) and not invented and not made.faults,
    }
