"""Conversations of a slow model, kept call by call, so that a study plays them again in seconds.

:class:`Keeping` stands before a model and writes down what it is asked and what it answers.
:class:`Replayed` answers from what was written: the same system asks the same things, so that a
whole ladder is replayed without the model. What was never asked is a miss; a study that has misses
compares nothing, since its code or its world is not the one of the answers. Rows have the form of
:mod:`casebook.recorded.local_model`, with the question beside it.

Examples
--------
>>> from casebook.llm import Message, Scripted
>>> kept = Keeping(Scripted(["Good day."]))
>>> kept.beginning("7")
>>> said = [Message("system", "Be brief."), Message("user", "Hello")]
>>> kept.complete(said).content, len(kept.rows)
('Good day.', 1)
>>> again = Replayed(kept.frame())
>>> again.complete(said).content, again.missed
('Good day.', 0)
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from casebook.llm.local import Settings, answer, load, with_schema
from casebook.llm.messages import (
    ChatModel,
    Chunk,
    Message,
    Reply,
    Request,
    ResponseFormat,
    Tool,
    Usage,
)
from casebook.llm.wire import structured
from casebook.recorded.local_model import PREFIX, SAMPLE, compare

if TYPE_CHECKING:
    from casebook.llm.local import Engine

#: Numbers that are drawn anew in each run, such as those of proposals.
DRAWN = re.compile(r"\b[0-9a-f]{16}\b")


def question(messages: Sequence[Message], form: ResponseFormat | None) -> str:
    """Return what is asked, as one text."""
    said = [[one.role, one.content] for one in messages]
    return json.dumps([said, dict(form.schema) if form else None], ensure_ascii=False)


def key_of(asked: str) -> str:
    """Return the hash of a question, without numbers that are drawn in each run."""
    return hashlib.sha256(DRAWN.sub("#", asked).encode()).hexdigest()[:16]


class Keeping:
    """A chat model that keeps all that it is asked; it calls no tools.

    Attributes
    ----------
    rows : list of dict
    """

    def __init__(self, model: ChatModel) -> None:
        self.model, self.rows, self._of, self.name = model, [], "", getattr(model, "name", "model")

    def beginning(self, ident: str) -> None:
        """Say which conversation the next questions belong to."""
        self._of = ident

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Ask the model; an answer that it cannot give is kept, too."""
        start, asked = time.perf_counter(), question(messages, response_format)
        row: dict[str, Any] = {"set": "planned", "id": self._of, "asked": asked}
        row["variant"] = str(sum(one["id"] == self._of for one in self.rows))
        reply = None
        try:
            reply = self.model.complete(messages, tools=tools, response_format=response_format)
            return reply
        finally:
            usage = reply.usage if reply else Usage(0, 0)
            row |= {"text": reply.content if reply else "", "answered": reply is not None}
            row |= {"prompt_tokens": usage.prompt_tokens}
            row |= {"completion_tokens": usage.completion_tokens, "attempts": 1}
            self.rows.append(row | {"seconds": round(time.perf_counter() - start, 3)})

    def stream(self, messages: Sequence[Message], **how: Any) -> Iterator[Chunk]:
        """Yield the whole answer in one piece."""
        reply = self.complete(messages, **how)
        return iter([Chunk(reply.content), Chunk(reply=reply)])

    def frame(self) -> pd.DataFrame:
        """Return the rows."""
        return pd.DataFrame(self.rows)


class Replayed:
    """A chat model that answers from what was kept.

    Attributes
    ----------
    missed : int
        Questions that nobody has asked before.
    """

    def __init__(self, kept: pd.DataFrame, name: str = "kept model") -> None:
        rows = kept.to_dict("records")
        self._rows = {key_of(one["asked"]): one for one in reversed(rows)}
        self.name, self.missed = name, 0

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return the answer that was kept.

        Raises
        ------
        LookupError
            If there is none: the question is new, or the model had failed.
        """
        row = self._rows.get(key_of(question(messages, response_format)))
        self.missed += row is None
        if row is None or not row["answered"]:
            raise LookupError("no answer was kept to this question")
        request = Request(tuple(messages), (), response_format)
        usage = Usage(int(row["prompt_tokens"]), int(row["completion_tokens"]))
        data = structured(row["text"], request, "stop")
        return Reply(row["text"], self.name, usage, "stop", data=data)

    def stream(self, messages: Sequence[Message], **how: Any) -> Iterator[Chunk]:
        """Yield the whole answer in one piece."""
        reply = self.complete(messages, **how)
        return iter([Chunk(reply.content), Chunk(reply=reply)])


def again(
    stored: pd.DataFrame, rng: np.random.Generator, engine: Engine | None = None
) -> tuple[str, list[str]]:
    """Ask a random sample of what was kept again, as far as the comparison looks.

    Returns
    -------
    how : str
    differences : list of str
    """
    rows = stored[stored["answered"]].reset_index(drop=True)
    engine, made = engine or load(), []
    for place in sorted(rng.choice(len(rows), min(SAMPLE, len(rows)), replace=False)):
        row = rows.iloc[place]
        said, schema = json.loads(row["asked"])
        messages = [Message(role, text) for role, text in said]
        messages = with_schema(messages, schema) if schema else messages
        most = 64 if schema else PREFIX + 4
        out = answer(engine, messages, Settings(max_tokens=most), schema)
        told = {"text": out.text, "prompt_tokens": out.prompt_tokens, "attempts": 1}
        made.append({name: row[name] for name in ("set", "id", "variant")} | told)
    return compare(stored, pd.DataFrame(made))
