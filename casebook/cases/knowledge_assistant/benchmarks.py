"""What case 18 records by ``make bench N=18``: rights, search under them, leaks, answers, worth.

Each study takes its sizes as arguments; :data:`REDUCED` has those with which a page or a test runs
it live. Studies that read texts take an ``embedder``. By default they are MiniLM's: the chapter's
world by its vectors from the artifacts, other worlds and the handbooks as they were graded there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.knowledge_assistant import handbooks, ladder, planted, studies, value
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answering import Assistant
from casebook.cases.knowledge_assistant.connectors import Mirror, connectors, index_hours, refresh
from casebook.cases.knowledge_assistant.desk import Desk
from casebook.cases.knowledge_assistant.fitted import (
    HANDBOOKS,
    SMALL,
    WORLDS,
    fitted,
    graded_worlds,
)
from casebook.cases.knowledge_assistant.hunt import hunt, not_found_times
from casebook.cases.knowledge_assistant.hunted import Parts, judging
from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.world import CHAPTER, SEED
from casebook.evaluate.intervals import by_cluster, wilson
from casebook.recorded.artifacts import artifact
from casebook.recorded.real import from_real
from casebook.retrieval.dense import Embedder, Hashed
from casebook.retrieval.filtered_study import judged, learn, study
from casebook.serving.held_back import HeldBack
from casebook.serving.rights_cost import rights_cost

SERVE = "casebook.cases.knowledge_assistant.world.sources:serve"


# Answers -----------------------------------------------------------------------------


def rungs(**how: Any) -> pd.DataFrame:
    """Return the rungs on the test facts of one world: :func:`.ladder.summary`."""
    return ladder.summary(fitted(**how).rungs)


def rungs_by_kind(**how: Any) -> pd.DataFrame:
    """Return the rungs by kind of question."""
    return ladder.summary(fitted(**how).rungs, ("kind", "rung"))


def _over_worlds(embedder: Embedder | None, how: Mapping[str, Any]) -> pd.DataFrame:
    return artifact(CHAPTER, WORLDS) if embedder is None else graded_worlds(embedder, **how)


def rungs_over_worlds(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Return the rungs over worlds that nothing was chosen on; intervals resample worlds."""
    return ladder.summary(_over_worlds(embedder, how))


def gap_over_worlds(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Return the share of the gap to the oracle over these worlds: :func:`.studies.gap_closed`."""
    return studies.gap_closed(_over_worlds(embedder, how))


def choices(**how: Any) -> pd.DataFrame:
    """Return what was tried on the validation facts, and its scores."""
    return fitted(**how).choices


def rewriting(**how: Any) -> pd.DataFrame:
    """Compare ways to read a conversation: :func:`.studies.rewriting`."""
    one = fitted(**how)
    return studies.rewriting(one.setting, one.learned.mix)


def conflicts(**how: Any) -> pd.DataFrame:
    """Hold contradictions against the truth: :func:`.studies.conflicts`."""
    one = fitted(**how)
    return studies.conflicts(one.setting, one.looked, one.learned)


def ragas(**how: Any) -> pd.DataFrame:
    """Return RAGAS-like measures of each answer: :func:`.studies.ragas`."""
    one = fitted(**how)
    return studies.ragas(one.setting, one.looked, one.learned)[0]


def judge(**how: Any) -> pd.DataFrame:
    """Return how far faithfulness, taken for correctness, is from what is known."""
    one = fitted(**how)
    return studies.ragas(one.setting, one.looked, one.learned)[1]


def outcomes(draws: int = 200, **how: Any) -> pd.DataFrame:
    """Return shares of right, wrong and unknown answers; the first row is the shares themselves."""
    return studies.outcome_shares(fitted(**how).rungs, draws=draws)


def worth(draws: int = 4_000, **how: Any) -> pd.DataFrame:
    """Return quantiles of what the assistant is worth, all assumptions drawn at once."""
    shares = studies.outcome_shares(fitted(**how).rungs)
    drawn = value.together(shares, draws).quantile([0.05, 0.5, 0.95])
    return drawn.rename_axis("quantile").reset_index()


def sensitivity(**how: Any) -> pd.DataFrame:
    """Return the euro of a year with one assumption moved at a time."""
    shares = studies.outcome_shares(fitted(**how).rungs, draws=1).iloc[0]
    return value.sensitivity(value.Shares(*shares))


def latency(asks: int = 200, **how: Any) -> pd.DataFrame:
    """Ask a desk, and return quantiles of seconds to the first piece and to the end.

    Returns
    -------
    DataFrame
        ``answers`` (made, kept), ``what`` (first, whole), ``p50``, ``p95``, ``p99``, ``of``.
    """
    one = fitted(**how)
    desk, rows = Desk(Assistant(one.setting.library, one.learned)), []
    asked = one.setting.asked.head(asks)
    for answers in ("made", "kept"):
        took = []
        for n, row in enumerate(asked.itertuples()):
            start, first = time.perf_counter(), None
            for told in desk.ask(row.user, f"{answers}{n}", row.standalone):
                if told["event"] == "piece" and first is None:
                    first = time.perf_counter() - start
            took.append((first, time.perf_counter() - start))
        for what, seconds in zip(("first", "whole"), np.array(took).T, strict=True):
            rows.append((answers, what, *np.quantile(seconds, [0.5, 0.95, 0.99]), len(took)))
    return pd.DataFrame(rows, columns=["answers", "what", "p50", "p95", "p99", "of"])


# Handbooks ---------------------------------------------------------------------------


def real_handbooks(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Ask our questions about the real handbooks: :func:`.handbooks.asked`, by book and rung.

    Returns
    -------
    DataFrame
        ``book``, ``chunks``, ``rung``, ``recall`` (of the page, at 10), ``low``, ``high`` (over
        pages), ``key``, ``of``, ``passages``.
    """
    stored = embedder is None
    table = artifact(CHAPTER, HANDBOOKS) if stored else handbooks.asked(embedder, **how)
    rows = []
    for key, own in table.groupby(["book", "chunks", "rung"], sort=False):
        found = by_cluster(own["recall"], own["page"])
        rows.append((*key, *found, own["key"].mean(), len(own), own["passages"].iat[0]))
    names = ["book", "chunks", "rung", "recall", "low", "high", "key", "of", "passages"]
    return from_real(pd.DataFrame(rows, columns=names), *table["book"].unique())


# Rights ------------------------------------------------------------------------------


def filtered(
    sizes: Sequence[int] = (30_000, 100_000), dimensions: int = 384, **how: Any
) -> pd.DataFrame:
    """Measure recall and latency of each way to filter: :func:`.filtered_study.study`."""
    return pd.concat([study(n, dimensions, **how) for n in sizes], ignore_index=True)


def router(n: int = 30_000, dimensions: int = 384, **how: Any) -> pd.DataFrame:
    """Learn a router on one draw of vectors and judge it on another."""
    first, second = (study(n, dimensions, seed=seed, **how) for seed in (1, 2))
    found = learn(first)
    return judged(found, second).assign(rows=found.rows, way=found.way)


def rights(sizes: Sequence[tuple[int, int]] = ((2_000, 200), (50_000, 5_000), (500_000, 50_000))):
    """Return what a question of the store of rights costs: a row for documents and people."""
    return pd.DataFrame([rights_cost(*size, store=HeldBack) for size in sizes])


def leaks(queries: int = 12_000, worlds_each: int = 100, http: int = 1_500) -> pd.DataFrame:
    """Hunt for leaks in quotations, in the chapter's answers, and over HTTP.

    Returns
    -------
    DataFrame
        ``hunted``, ``queries``, ``firms``, ``leaks``, ``wrong``, ``bound``, and how often what was
        met.
    """
    rows = []
    hunted = {
        "quotations": (Parts(), queries),
        "answers": (Parts(reader=judging), queries),
        "answers over HTTP": (planted.over_http(Parts(reader=judging)), http),
    }
    for name, (parts, count) in hunted.items():
        firms = -(-count // worlds_each)
        found = hunt(count, 18, parts, firms)
        told = {"leaks": len(found.leaks), "wrong": len(found.wrong), "bound": found.bound}
        rows.append({"hunted": name, "queries": count, "firms": firms} | told | found.met)
    return pd.DataFrame(rows)


def catches(seeds: Sequence[int] = range(20), budget: int = 3_000) -> pd.DataFrame:
    """Return the query at which each planted fault first shows."""
    return planted.catches(seeds, budget)


def not_found(pairs: int = 5_000) -> pd.DataFrame:
    """Time refusals of hidden and of missing documents, as it is and with a slow refusal."""
    rows = []
    for name, parts in (("as it is", Parts()), ("slow refusal", Parts(planted.SlowRefusal))):
        told = not_found_times(pairs, parts=parts)
        rows.append((name, told.share, told.low, told.high, told.pairs))
    return pd.DataFrame(rows, columns=["desk", "share", "low", "high", "pairs"])


def bound(clean: Sequence[int] = (100, 1_000, 3_000, 10_000, 12_000)) -> pd.DataFrame:
    """Return the upper 95 % bound of the share of leaks after so many queries without one."""
    rows = [(n, 3 / n, wilson(np.zeros(n, bool))[2]) for n in clean]
    return pd.DataFrame(rows, columns=["queries", "three over n", "wilson"])


# Connectors --------------------------------------------------------------------------


def sync(seed: int = SEED, passages_a_second: float = 24.0, **sizes: int) -> pd.DataFrame:
    """Read all sources over HTTP with their faults, and reckon the hours of a whole collection.

    Returns
    -------
    DataFrame
        ``documents``, ``cpu_seconds`` and ``documents_a_second`` (without real vectors),
        ``hours_500k`` and ``hours_500k_two_each`` (one worker, one or two passages a document),
        ``hours_changed`` (5,000 changed documents).
    """
    from casebook.serving.load import Server

    faults = {"busy": 0.05, "failing": 0.05, "cut": 0.05, "wait": 0.01}
    with Server(SERVE, {"seed": seed, **sizes, **faults}) as server, _folder() as folder:
        access, began = Access(":memory:"), time.process_time()
        mirror = Mirror(folder / "mirror.db", [access.apply])
        library = Library(access, Hashed(64))
        refresh(connectors(server.url, mirror), library)
        took, documents = time.process_time() - began, len(library.leaves)
        mirror.close()
    speed = documents / took
    hours = [
        index_hours(count, each, passages_a_second, speed)
        for count, each in ((500_000, 1), (500_000, 2), (5_000, 1))
    ]
    names = ["documents", "cpu_seconds", "documents_a_second"]
    names += ["hours_500k", "hours_500k_two_each", "hours_changed"]
    return pd.DataFrame([(documents, took, speed, *hours)], columns=names)


class _folder(tempfile.TemporaryDirectory):
    """A folder that is gone afterwards, as a path."""

    def __enter__(self) -> Path:
        return Path(super().__enter__())


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "rungs": rungs,
    "rungs_by_kind": rungs_by_kind,
    "rungs_over_worlds": rungs_over_worlds,
    "gap_over_worlds": gap_over_worlds,
    "choices": choices,
    "rewriting": rewriting,
    "conflicts": conflicts,
    "ragas": ragas,
    "judge": judge,
    "outcomes": outcomes,
    "worth": worth,
    "sensitivity": sensitivity,
    "latency": latency,
    "real_handbooks": real_handbooks,
    "filtered": filtered,
    "router": router,
    "rights": rights,
    "leaks": leaks,
    "catches": catches,
    "not_found": not_found,
    "bound": bound,
    "sync": sync,
}
_ASKED = {"seed": 3, "questions": 90, **SMALL}
_WORLDS = {"seeds": (3, 4), "questions": 90}
_DRAWN = {"dimensions": 16, "users": 2, "questions": 4, "shares": (0.1,)}
#: Arguments with which a study runs live, in seconds.
REDUCED: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("rungs", "rungs_by_kind", "choices", "rewriting", "conflicts"), _ASKED),
    **dict.fromkeys(("ragas", "judge", "outcomes", "sensitivity"), _ASKED),
    "worth": {"draws": 200, **_ASKED},
    "latency": {"asks": 20, **_ASKED},
    **dict.fromkeys(("rungs_over_worlds", "gap_over_worlds"), _WORLDS),
    "real_handbooks": {"books": handbooks.BOOKS[1:], "cuts": ("512/64",), "questions": 10},
    "filtered": {"sizes": (1_500,), "efforts": {"graph": (64,)}, **_DRAWN},
    "router": {"n": 1_500, "efforts": {"graph": (64,)}, **_DRAWN},
    "rights": {"sizes": ((500, 50),)},
    "leaks": {"queries": 20, "worlds_each": 20, "http": 6},
    "catches": {"seeds": (1,), "budget": 5},
    "not_found": {"pairs": 60},
    "bound": {"clean": (100,)},
    "sync": {"people": 24, "teams": 3, "documents": 260},
}
