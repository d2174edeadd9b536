"""World of case 18: a firm, what it writes, who may read it, and the servers that hold it.

:mod:`.firm` is the directory, :mod:`.documents` the year of the four sources, :mod:`.truth` who may
see what and what is true, :mod:`.questions` what is asked, :mod:`.sources` the
servers with their faults.

The default world was frozen before anything was measured on it: ``frozen.toml`` has its
fingerprint, and a test compares.
"""

from __future__ import annotations

import hashlib
import json

import pandas as pd

from ..records import as_json
from .documents import World, simulate
from .firm import FOUNDED, START, Firm, draw_firm
from .questions import KINDS, UNKNOWN, ask
from .truth import State, said_now, true_at

CHAPTER = "18_knowledge_assistant"
#: Seeds of the chapter's world, and of its questions.
SEED, QUESTION_SEED = 18, 1800

__all__ = [
    "CHAPTER",
    "FOUNDED",
    "KINDS",
    "QUESTION_SEED",
    "SEED",
    "START",
    "UNKNOWN",
    "Firm",
    "State",
    "World",
    "ask",
    "draw_firm",
    "fingerprint",
    "said_now",
    "simulate",
    "snapshots",
    "true_at",
]


def fingerprint(world: World, asked: pd.DataFrame) -> str:
    """Return the hash of a world's events and truth, and of questions about it."""
    made = hashlib.sha256()
    for event in (*world.firm.events, *world.events):
        made.update(json.dumps(as_json(event), sort_keys=True).encode())
    for table in (world.facts, world.statements, asked):
        made.update(table.to_csv(index=False).encode())
    return made.hexdigest()


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``make data`` writes: file name to frame.

    Returns
    -------
    dict
        Documents at the end of the year, the truth, and the questions of :data:`QUESTION_SEED`.
    """
    world = simulate(SEED)
    state = State(world.events)
    asked = ask(world, QUESTION_SEED)
    for name in ("turns", "support", "against", "hidden"):
        asked[name] = [json.dumps(one) for one in asked[name]]
    names = list(next(iter(state.documents.values())).__slots__)
    rows = [[getattr(one, name) for name in names] for one in state.documents.values()]
    return {
        "documents.parquet": pd.DataFrame(rows, columns=names),
        "facts.parquet": world.facts,
        "statements.parquet": world.statements,
        "questions.parquet": asked,
    }
