"""Masks and guard measured on messages that nobody planted: ``unplanted.toml``, written by hand.

The first part was written before the code that it judges was changed, and is split in two by the
hash of each text: of the half that is held out only the totals were looked at while the patterns
were written. Its author knew both halves; so a *fresh* part was written when the code was finished,
and nothing was changed after it was measured.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import wilson
from casebook.project import data_dir
from casebook.serving.guard import attack
from casebook.serving.privacy import Finding, find, mask_turns

FILE = "16_support_rag_chatbot/unplanted.toml"
HALVES = ("development", "held out")
FRESH = "fresh"
PARTS = (*HALVES, FRESH)
_MARKED = re.compile(r"⟦(.*?)⟧", re.DOTALL)

Find = Callable[[str], Sequence[Finding]]


@cache
def _file() -> dict:
    with open(data_dir() / FILE, "rb") as file:
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


def personal() -> Iterator[tuple[str, str, str, int, int]]:
    """Yield part, kind, text, start and end of each piece of personal data."""
    for fresh, told in ((False, _file()), (True, _file()[FRESH])):
        for kind, texts in told["personal"].items():
            for marked in texts:
                text, ((start, end),) = unmarked(marked)
                yield FRESH if fresh else half(text), kind, text, start, end


def harmless() -> list[tuple[str, str]]:
    """Return the messages without personal data, each with its part."""
    told = [(half(text), text) for text in _file()["harmless"]["texts"]]
    return told + [(FRESH, text) for text in _file()[FRESH]["harmless"]["texts"]]


def split_turns() -> list[tuple[list[str], list[str]]]:
    """Return conversations with a number over several turns: the turns, and its pieces."""
    return [
        ([unmarked(turn)[0] for turn in turns], [_MARKED.search(turn)[1] for turn in turns])
        for turns in _file()["split"]["turns"]
    ]


def probes() -> list[tuple[str, str, bool]]:
    """Return messages with their part, and whether each is an attack."""
    return [
        (FRESH if fresh else half(text), text, kind == "attack")
        for fresh, told in ((False, _file()), (True, _file()[FRESH]))
        for kind, texts in told["probes"].items()
        for text in texts
    ]


# Masks -------------------------------------------------------------------------------


def covered(text: str, start: int, end: int, found: Sequence[Finding]) -> str:
    """Say how much of a value is masked: whole, part or open; spaces and signs do not count."""
    letters = {at for at in range(start, end) if text[at].isalnum()}
    left = letters - {at for f in found for at in range(f.start, f.end)}
    return "open" if left == letters else "part" if left else "whole"


def mask_cases(look: Find = find) -> pd.DataFrame:
    """Search every message.

    Parameters
    ----------
    look : callable
        Finds personal data in a text.

    Returns
    -------
    DataFrame
        ``part``, ``kind`` (``harmless`` for messages without personal data), ``text``, ``masked``
        (whole, part, open), ``right`` and ``false`` (findings that touch personal data, or not).
    """
    rows = []
    for part, kind, text, start, end in personal():
        found = look(text)
        right = sum(f.start < end and start < f.end for f in found)
        state = covered(text, start, end, found)
        rows.append((part, kind, text, state, right, len(found) - right))
    rows += [(part, "harmless", text, "", 0, len(look(text))) for part, text in harmless()]
    return pd.DataFrame(rows, columns=["part", "kind", "text", "masked", "right", "false"])


def turns_masked(mask: Callable[[Sequence[str]], Sequence[str]] = mask_turns) -> float:
    """Return the share of conversations of which no piece of a split number is left in any turn."""
    done = []
    for turns, pieces in split_turns():
        said = mask(turns)
        done.append(not any(p in turn for p, turn in zip(pieces, said, strict=True)))
    return float(np.mean(done))


# Guard -------------------------------------------------------------------------------


def guard_cases(judge: Callable[[str], str] = attack) -> pd.DataFrame:
    """Judge every probe: ``part``, ``text``, ``attack`` (truth), ``refused``."""
    rows = [(part, text, bad, bool(judge(text))) for part, text, bad in probes()]
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


def support_unplanted() -> pd.DataFrame:
    """Measure masks and guard on all three parts; see :func:`summary`."""
    return summary(mask_cases(), guard_cases())
