"""Personal data, found and masked before anything is stored or sent.

Five formats are looked for: e-mail, phone (checked by ``phonenumbers`` where its form alone is not
clear), IBAN (length and check digits by ``python-stdnum``), payment card (Luhn), postal address.
Tracking numbers, article and form numbers stay: the system cannot work without them. A number that
has the length of a card or an IBAN and fails its check is masked too: a slip of the finger does not
make it public. Names are *not* found; no pattern tells them from other words.

A text is searched in its plain form (:mod:`casebook.serving.formats` has it, and the patterns):
one kind of digit, space, dash and dot, and no invisible characters. What is found is masked where
it stands in the text as it was written. A number that is written over two messages is found by
:func:`mask_turns` alone.

:class:`MaskedModel` and :class:`MaskedLog` are the only ways out: a model that may be elsewhere and
a log that is kept. Both mask what they are given, look once more, and refuse what is not clean.

The time that a search takes grows with the length of the text, and no faster, whoever wrote it; a
text beyond :data:`LONGEST` is refused.

Examples
--------
>>> mask("Call 020 7946 0123 or write to jane.doe@example.com").text
'Call [phone] or write to [email]'
>>> mask("where is EC314283557XA?").found
Counter()
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from casebook.llm import ChatModel, Chunk, Message, Reply, ResponseFormat, Tool
from casebook.serving.formats import KINDS, LOOKS, Finding, Plain, tracking_numbers

#: Characters of the longest text that is searched.
LONGEST = 100_000
#: Messages of a conversation that are joined to look for what is written over several.
JOINED = 10
#: Times that a text is searched for what another finding hid.
PASSES = 3


class Free:
    """The places of a text that nothing was found at so far.

    Parameters
    ----------
    length : int
        Characters of the text.

    Examples
    --------
    >>> free = Free(10)
    >>> free.take(2, 5), free.take(4, 8), free.take(5, 8)
    (True, False, True)
    """

    def __init__(self, length: int) -> None:
        self._taken = bytearray(length)

    def take(self, start: int, end: int) -> bool:
        """Take a span; False, and nothing taken, when a part of it is not free."""
        if self._taken.find(1, start, end) >= 0:
            return False
        self._taken[start:end] = b"\x01" * (end - start)
        return True


@dataclass(frozen=True)
class Masked:
    """A text that may be stored and sent.

    Attributes
    ----------
    text : str
        With ``[email]``, ``[phone]``, … in place of what was found.
    found : mapping of str to int
        How often by kind. The data themselves are nowhere in it.
    """

    text: str
    found: Mapping[str, int] = field(default_factory=dict)


class Leak(RuntimeError):
    """Something that looks like personal data was about to leave. The message does not hold it."""


def find(text: str) -> list[Finding]:
    """Find personal data.

    Parameters
    ----------
    text : str
        In English, German or Spanish.

    Returns
    -------
    list of Finding
        In the order of the text, not overlapping: what has a check comes first, and nothing is
        found inside of a tracking number.

    Raises
    ------
    ValueError
        If the text is longer than :data:`LONGEST`.
    """
    if len(text) > LONGEST:
        raise ValueError(
            f"A text of {len(text):,} characters is to be searched for personal data: at most "
            f"{LONGEST:,} are. Cut it, or hand it on in pieces."
        )
    plain = Plain(text)
    found = [Finding(f.kind, *plain.span(f.start, f.end)) for f in _find(plain.text)]
    return sorted(found, key=lambda finding: finding.start)


def _find(text: str) -> list[Finding]:
    """Find personal data in a plain text; what is found is gone for the next look."""
    free, found = Free(len(text)), []
    spans = [span for span in tracking_numbers(text) if free.take(*span)]
    text = _blank(text, spans)
    for _ in range(PASSES):
        before = len(found)
        for look in LOOKS:
            new = [f for f in look(text) if free.take(f.start, f.end)]
            text = _blank(text, [(f.start, f.end) for f in new])
            found += new
        if len(found) == before:
            break
    return found


def _blank(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return a text with spans, which do not overlap, as characters that no pattern reads."""
    pieces, at = [], 0
    for start, end in sorted(spans):
        pieces += [text[at:start], "\0" * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def _with_masks(text: str, found: Sequence[Finding]) -> str:
    """Return a text with the masks of findings, which do not overlap, in their places."""
    pieces, at = [], 0
    for finding in sorted(found, key=lambda finding: finding.start):
        pieces += [text[at : finding.start], f"[{finding.kind}]"]
        at = finding.end
    return "".join([*pieces, text[at:]])


def mask(text: str) -> Masked:
    """Mask personal data.

    Parameters
    ----------
    text : str

    Returns
    -------
    Masked
    """
    found = find(text)
    return Masked(_with_masks(text, found), Counter(f.kind for f in found))


def mask_turns(turns: Sequence[str]) -> tuple[str, ...]:
    """Mask messages of one writer, each for itself and all as one text.

    A number that begins in one message and ends in another is masked in both. An address counts
    within a message only: two messages beside each other are often a word and a number.

    Parameters
    ----------
    turns : sequence of str
        In their order; masked ones may be among them. The last :data:`JOINED` are joined.

    Returns
    -------
    tuple of str
        As many.

    Examples
    --------
    >>> mask_turns(["my card is 4111 1111", "1111 1111, sorry"])
    ('my card is [card]', '[card], sorry')
    """
    first = max(0, len(turns) - JOINED)
    pieces = _over_turns(turns[first:])
    clean = [mask(turn).text for turn in turns[:first]]
    for turn, found in zip(turns[first:], pieces, strict=True):
        free = Free(len(turn))
        clean.append(
            _with_masks(turn, [f for f in (*found, *find(turn)) if free.take(f.start, f.end)])
        )
    return tuple(clean)


def _over_turns(turns: Sequence[str]) -> list[list[Finding]]:
    """Return for each message its part of what is found over more than one."""
    borders = [0]
    for turn in turns:
        borders.append(borders[-1] + len(turn) + 1)
    parts: list[list[Finding]] = [[] for _ in turns]
    if borders[-1] > LONGEST:
        return parts
    for found in find("\n".join(turns)):
        inside = [
            (row, max(found.start - at, 0), min(found.end - at, len(turns[row])))
            for row, at in enumerate(borders[:-1])
        ]
        inside = [(row, start, end) for row, start, end in inside if start < end]
        if len(inside) > 1 and found.kind not in ("address", "number"):
            for row, start, end in inside:
                parts[row].append(Finding(found.kind, start, end))
    return parts


_MASKS = re.compile(r"\[(?:" + "|".join(KINDS) + r")\]")


def without_masks(text: str) -> str:
    """Return a masked text without its masks, for a search that would look for their words."""
    return re.sub(r"\s+", " ", _MASKS.sub(" ", text)).strip()


def masked(value: Any) -> Any:
    """Mask every text in a value that could be written as JSON, keys included."""
    if isinstance(value, str):
        return mask(value).text
    if isinstance(value, Mapping):
        return {masked(key): masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts and whole numbers of a value that could be written as JSON."""
    if isinstance(value, str | int):
        yield str(value)
    elif isinstance(value, Mapping | list):
        pieces = [*value, *value.values()] if isinstance(value, Mapping) else value
        for piece in pieces:
            yield from _texts(piece)


def check_clean(text: str, where: str) -> str:
    """Return a text in which nothing is found.

    Raises
    ------
    Leak
        With kinds and counts, never with the text.
    """
    if found := find(text):
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(f.kind for f in found).items())
        raise Leak(f"Personal data were about to reach {where}: {kinds}. Nothing was sent.")
    return text


# The ways out ------------------------------------------------------------------------


class MaskedModel:
    """A chat model that never reads personal data: a wrapper around any other.

    Parameters
    ----------
    model : ChatModel

    Raises
    ------
    TypeError
        If it is no chat model.
    """

    def __init__(self, model: ChatModel) -> None:
        if isinstance(model, type) or not isinstance(model, ChatModel):
            raise TypeError("What is wrapped is no ChatModel: it needs name, complete and stream.")
        self.model, self.name = model, model.name

    def _clean(self, messages: Sequence[Message]) -> list[Message]:
        if any(message.images for message in messages):
            raise Leak("Images cannot be masked: nothing was sent.")
        said = [mask(message.content).text for message in messages]
        rows = [at for at, message in enumerate(messages) if message.role == "user"]
        for at, text in zip(rows, mask_turns([said[at] for at in rows]), strict=True):
            said[at] = text
        return [
            replace(
                message,
                content=check_clean(text, "a model"),
                tool_calls=tuple(
                    replace(call, arguments=masked(call.arguments)) for call in message.tool_calls
                ),
            )
            for message, text in zip(messages, said, strict=True)
        ]

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return the model's answer to the masked conversation; :class:`Leak` on an image."""
        clean = self._clean(messages)
        return self.model.complete(clean, tools=tools, response_format=response_format)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Iterator[Chunk]:
        """Yield the model's answer to the masked conversation."""
        clean = self._clean(messages)
        return self.model.stream(clean, tools=tools, response_format=response_format)


class MaskedLog:
    """A log of JSON lines that never holds personal data.

    Parameters
    ----------
    write : callable
        Takes one line; such as the ``write`` of an open file.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, **record: Any) -> None:
        """Write a record; what is no JSON is written as a text.

        Raises
        ------
        Leak
            If something is still found in a text or a whole number after masking; nothing is
            written then. Each is searched as it is: a line of JSON has other letters around it.
        """
        clean = masked(json.loads(json.dumps(record, default=str)))
        for text in _texts(clean):
            check_clean(text, "a log")
        self._write(json.dumps(clean, ensure_ascii=False) + "\n")


# How well it works -------------------------------------------------------------------


def audit(texts: Mapping[str, str], entities: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold the masks against planted data.

    Parameters
    ----------
    texts : mapping of str to str
        By question.
    entities : DataFrame
        ``question``, ``type``, ``value``, ``start``, ``end``: all entities, those that are no
        personal data included.

    Returns
    -------
    recall : DataFrame
        Index ``type`` of personal data: ``planted``, ``masked`` (all characters but spaces and
        punctuation), ``recall``, ``named`` (of the masked ones: found as what they are).
    false : DataFrame
        ``question``, ``kind``, ``text``: what was masked and does not touch anything planted, or
        touches an entity that is needed.
    """
    personal = entities[entities["type"].isin(KINDS)]
    by_question = dict(list(entities.groupby("question")))
    planted, hit, named, false = Counter(), Counter(), Counter(), []
    for question, text in texts.items():
        found, rows = find(text), by_question.get(question, entities.iloc[:0])
        for row in rows[rows["type"].isin(KINDS)].itertuples():
            planted[row.type] += 1
            open_places = {i for i in range(row.start, row.end) if text[i].isalnum()}
            for finding in found:
                open_places -= set(range(finding.start, finding.end))
            hit[row.type] += not open_places
            named[row.type] += not open_places and any(
                f.kind == row.type and f.start < row.end and row.start < f.end for f in found
            )
        for finding in found:
            touched = rows[(rows["start"] < finding.end) & (finding.start < rows["end"])]
            if touched.empty or not touched["type"].isin(KINDS).all():
                false.append((question, finding.kind, text[finding.start : finding.end]))
    types = [kind for kind in KINDS if kind in set(personal["type"])]
    recall = pd.DataFrame(
        {
            "planted": [planted[t] for t in types],
            "masked": [hit[t] for t in types],
            "recall": [hit[t] / planted[t] for t in types],
            "named": [named[t] / max(hit[t], 1) for t in types],
        },
        index=pd.Index(types, name="type"),
    )
    return recall, pd.DataFrame(false, columns=["question", "kind", "text"])
