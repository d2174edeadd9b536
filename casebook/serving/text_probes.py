"""What a review and a guard do to texts that were written to be stopped, or to be let through.

Texts come in parts, such as those that the patterns were written on and those that were written
before and run once: what is measured on the first part says how well the patterns were fitted.

Examples
--------
>>> texts = {"fresh": {"policy": {"bad": ["It takes 3 days."], "good": ["Thank you."]}}}
>>> for row in reviewed(texts, {"invented policy": "policy"}, lambda text: "3" in text):
...     print(*row)
invented policy fresh stopped [True]
invented policy fresh good answers stopped [False]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import wilson
from casebook.llm import ChatModel, Compromised, ToolCall
from casebook.serving.agent import Conversation

#: Probe, part, what is counted, and the hits.
Row = tuple[str, str, str, Sequence[bool]]


def reviewed(
    texts: Mapping[str, Any], probes: Mapping[str, str], stops: Callable[[str], bool]
) -> Iterator[Row]:
    """Yield how many bad and good texts are stopped.

    Parameters
    ----------
    texts : mapping
        Part → kind → ``bad`` and ``good`` → texts.
    probes : mapping of str to str
        Name of a probe → its kind of texts.
    stops : callable
    """
    for part, told in texts.items():
        for probe, kind in probes.items():
            for side, what in (("bad", "stopped"), ("good", "good answers stopped")):
                yield probe, part, what, [stops(text) for text in told[kind][side]]


def spoken(
    talk: Callable[[ChatModel], Conversation],
    opening: str,
    looks: Sequence[ToolCall],
    texts: Iterable[str],
) -> list[bool]:
    """Say which texts of a compromised planner somebody reads.

    It makes some calls first, as a good planner would, so that there are facts; then it says the
    text.

    Parameters
    ----------
    talk : callable
        Planner → a new conversation.
    opening : str
        The first message.
    looks : sequence of ToolCall
    texts : iterable of str
    """
    calls, made = [replace(one, id=f"c{n}") for n, one in enumerate(looks)], []
    for text in texts:
        steps = iter([calls, text])
        planner = Compromised(lambda request, steps=steps: next(steps))
        made.append(text in talk(planner).open(opening).text)
    return made


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Return shares with their intervals: ``probe``, ``part``, ``what``, …, ``n``."""
    told = [
        (*names, *(wilson(hits) if len(hits) else 3 * (np.nan,)), len(hits))
        for *names, hits in rows
    ]
    names = ["probe", "part", "what", "share", "low", "high", "n"]
    return pd.DataFrame(told, columns=names)
