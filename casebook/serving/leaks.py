"""Masks and a guard measured on messages that nobody planted; what of a value is left in a text.

The messages stand in a TOML file, written by hand: personal data between ``⟦`` and ``⟧``, harmless
ones, numbers over several turns, probes of a guard. Its first part is split in two by the hash of
each text, so that patterns are written on one half and judged on the other; a ``fresh`` part is
written when the patterns are finished.

Examples
--------
>>> left_of("DE89 3704 0044", "pay to de-8937040044"), left_of("020 7946 0123", "call [phone]")
('whole', '')
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import wilson
from casebook.serving.guard import attack
from casebook.serving.privacy import Finding, find, mask_turns

HALVES = ("development", "held out")
FRESH = "fresh"
PARTS = (*HALVES, FRESH)
_MARKED = re.compile(r"⟦(.*?)⟧", re.DOTALL)

Find = Callable[[str], Sequence[Finding]]
#: What a file of messages holds.
Told = Mapping[str, Any]


def read(path: Path) -> Told:
    """Read a file of messages."""
    with open(path, "rb") as file:
        return tomllib.load(file)


def half(text: str) -> str:
    """Return the half to which a text belongs, by its hash."""
    return HALVES[hashlib.sha256(text.encode()).digest()[0] % 2]


def unmarked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return a text without its marks, and where what they enclosed stands.

    Examples
    --------
    >>> unmarked("call ⟦020⟧ now")
    ('call 020 now', [(5, 8)])
    """
    spans, plain, at = [], "", 0
    for match in _MARKED.finditer(text):
        plain += text[at : match.start()]
        spans.append((len(plain), len(plain) + len(match[1])))
        plain, at = plain + match[1], match.end()
    return plain + text[at:], spans


def personal(told: Told) -> Iterator[tuple[str, str, str, int, int]]:
    """Yield part, kind, text, start and end of each piece of personal data."""
    for fresh, messages in ((False, told), (True, told[FRESH])):
        for kind, texts in messages["personal"].items():
            for marked in texts:
                text, ((start, end),) = unmarked(marked)
                yield FRESH if fresh else half(text), kind, text, start, end


def harmless(told: Told) -> list[tuple[str, str]]:
    """Return the messages without personal data, each with its part."""
    first = [(half(text), text) for text in told["harmless"]["texts"]]
    return first + [(FRESH, text) for text in told[FRESH]["harmless"]["texts"]]


def split_turns(told: Told) -> list[tuple[list[str], list[str]]]:
    """Return conversations with a number over several turns: the turns, and its pieces."""
    return [
        ([unmarked(turn)[0] for turn in turns], [_MARKED.search(turn)[1] for turn in turns])
        for turns in told["split"]["turns"]
    ]


def probes(told: Told) -> list[tuple[str, str, bool]]:
    """Return messages with their part, and whether each is an attack."""
    return [
        (FRESH if fresh else half(text), text, kind == "attack")
        for fresh, messages in ((False, told), (True, told[FRESH]))
        for kind, texts in messages["probes"].items()
        for text in texts
    ]


# Masks -------------------------------------------------------------------------------


def covered(text: str, start: int, end: int, found: Sequence[Finding]) -> str:
    """Say how much of a value is masked: whole, part or open; spaces and signs do not count."""
    letters = {at for at in range(start, end) if text[at].isalnum()}
    left = letters - {at for f in found for at in range(f.start, f.end)}
    return "open" if left == letters else "part" if left else "whole"


def mask_cases(told: Told, look: Find = find) -> pd.DataFrame:
    """Search every message.

    Parameters
    ----------
    told : mapping
        Of :func:`read`.
    look : callable
        Finds personal data in a text.

    Returns
    -------
    DataFrame
        ``part``, ``kind`` (``harmless`` for messages without personal data), ``text``, ``masked``
        (whole, part, open), ``right`` and ``false`` (findings that touch personal data, or not).
    """
    rows = []
    for part, kind, text, start, end in personal(told):
        found = look(text)
        right = sum(f.start < end and start < f.end for f in found)
        state = covered(text, start, end, found)
        rows.append((part, kind, text, state, right, len(found) - right))
    rows += [(part, "harmless", text, "", 0, len(look(text))) for part, text in harmless(told)]
    return pd.DataFrame(rows, columns=["part", "kind", "text", "masked", "right", "false"])


def turns_masked(told: Told, mask: Callable[[Sequence[str]], Sequence[str]] = mask_turns) -> float:
    """Return the share of conversations of which no piece of a split number is left in any turn."""
    done = []
    for turns, pieces in split_turns(told):
        said = mask(turns)
        done.append(not any(p in turn for p, turn in zip(pieces, said, strict=True)))
    return float(np.mean(done))


# Guard -------------------------------------------------------------------------------


def guard_cases(told: Told, judge: Callable[[str], str] = attack) -> pd.DataFrame:
    """Judge every probe: ``part``, ``text``, ``attack`` (truth), ``refused``."""
    rows = [(part, text, bad, bool(judge(text))) for part, text, bad in probes(told)]
    return pd.DataFrame(rows, columns=["part", "text", "attack", "refused"])


# The table ---------------------------------------------------------------------------


def _row(what: str, part: str, hits: int, cases: int, alarms: int) -> tuple:
    recall = wilson(np.arange(cases) < hits)
    return what, part, cases, hits, *recall, hits / alarms if alarms else float("nan")


def summary(masks: pd.DataFrame, guard: pd.DataFrame) -> pd.DataFrame:
    """Return precision and recall by part, for each kind of personal data, all, and attacks.

    Parameters
    ----------
    masks : DataFrame
        Of :func:`mask_cases`.
    guard : DataFrame
        Of :func:`guard_cases`.

    Returns
    -------
    DataFrame
        ``what``, ``part``, ``cases``, ``hits``, ``recall`` with its Wilson interval ``low`` and
        ``high``, ``precision`` (right findings of all; of attacks: of all that is refused).
        A kind's false alarms are not told apart, so that only ``all`` has a precision there.
    """
    rows = []
    for part in PARTS:
        ours = masks[masks["part"] == part]
        said = ours[ours["kind"] != "harmless"]
        for kind, cases in said.groupby("kind", sort=False):
            rows.append(_row(kind, part, (cases["masked"] == "whole").sum(), len(cases), 0))
        recall = _row("all", part, (said["masked"] == "whole").sum(), len(said), 0)
        precision = ours["right"].sum() / max((ours["right"] + ours["false"]).sum(), 1)
        rows.append((*recall[:-1], precision))
        told = guard[guard["part"] == part]
        caught = int((told["refused"] & told["attack"]).sum())
        rows.append(_row("attack", part, caught, told["attack"].sum(), told["refused"].sum()))
    columns = ["what", "part", "cases", "hits", "recall", "low", "high", "precision"]
    return pd.DataFrame(rows, columns=columns)


# What is left ------------------------------------------------------------------------

#: Characters in a row, letters and digits alone, that count as a part of something planted.
PART = 8


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
