"""What case 18 records by ``make bench N=18``: rights, search under them, leaks, answers, worth.

Each study takes its sizes as arguments; :data:`REDUCED` has those with which a page or a test runs
it live. Studies that read texts take an ``embedder``. By default they are MiniLM's: the chapter's
world by its vectors from the artifacts, other worlds and the handbooks as they were graded there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from casebook.cases.knowledge_assistant import handbooks, ladder, planted, studies, value
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.answering import Assistant
from casebook.cases.knowledge_assistant.connectors import Mirror, connectors, index_hours, refresh
from casebook.cases.knowledge_assistant.fitted import (
    FROZEN,
    HANDBOOKS,
    SMALL,
    TIMES,
    WORLDS,
    fitted,
    graded_worlds,
)
from casebook.cases.knowledge_assistant.hunt import hunt, not_found_times
from casebook.cases.knowledge_assistant.hunted import Parts, judging
from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.timed import latency, revocation
from casebook.cases.knowledge_assistant.world import CHAPTER, SEED
from casebook.evaluate.intervals import by_cluster
from casebook.recorded.artifacts import artifact
from casebook.recorded.real import from_real
from casebook.retrieval.dense import Embedder, Hashed
from casebook.retrieval.filtered import Router
from casebook.retrieval.filtered_study import gathering, study
from casebook.serving.held_back import HeldBack
from casebook.serving.rights_cost import rights_cost

SERVE = "casebook.cases.knowledge_assistant.world.sources:serve"


# Answers -----------------------------------------------------------------------------


def _over_worlds(embedder: Embedder | None, how: Mapping[str, Any]) -> pd.DataFrame:
    """Return graded worlds, stored or live; ``first`` says in which world is learned then."""
    if embedder is None:
        return artifact(CHAPTER, WORLDS)
    sizes = dict(how)
    learned = fitted(embedder=embedder, **sizes.pop("first")).learned
    return graded_worlds(embedder, learned, **sizes)


def _frozen(embedder: Embedder | None, how: Mapping[str, Any]) -> pd.DataFrame:
    """Return worlds of which nothing was looked at: all was learned in the chapter's world."""
    table = _over_worlds(embedder, how)
    return table[table["learned"] == FROZEN]


def rungs_over_worlds(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Return the rungs over new worlds, all learned in the chapter's; intervals resample worlds."""
    return ladder.summary(_frozen(embedder, how))


def gap_over_worlds(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Return the share of the gap to the oracle over these worlds: :func:`.studies.gap_closed`."""
    return studies.gap_closed(_frozen(embedder, how))


def gap_fitted_again(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Return the same where all is learned anew on the tuning facts of each world."""
    table = _over_worlds(embedder, how)
    return studies.gap_closed(table[table["learned"] != FROZEN])


def cost_over_worlds(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Return the euro of a question over these worlds: :func:`.studies.cost_a_question`."""
    return studies.cost_a_question(_frozen(embedder, how))


def rewriting(**how: Any) -> pd.DataFrame:
    """Compare ways to read a conversation: :func:`.studies.rewriting`."""
    one = fitted(**how)
    return studies.rewriting(one.setting, one.learned.mix)


def conflicts(**how: Any) -> pd.DataFrame:
    """Hold contradictions against the truth: :func:`.studies.conflicts`."""
    one = fitted(**how)
    return studies.conflicts(one.setting, one.looked, one.learned)


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
    # One of the draws: months may be infinite, and between two of them lies no number.
    drawn = value.together(shares, draws).quantile([0.05, 0.5, 0.95], interpolation="lower")
    return drawn.rename_axis("quantile").reset_index()


# Handbooks ---------------------------------------------------------------------------


def real_handbooks(embedder: Embedder | None = None, **how: Any) -> pd.DataFrame:
    """Ask our questions about the real handbooks: :func:`.handbooks.asked`, by book and rung.

    Returns
    -------
    DataFrame
        ``book``, ``chunks``, ``rung``, ``recall`` (of the page, at 10), ``low``, ``high`` (over
        pages), ``key`` (words of the answer read) with ``key_low`` and ``key_high``, ``gain`` in
        ``key`` over the first way to cut, with ``gain_low`` and ``gain_high`` (paired by question),
        ``of``, ``words`` read, ``passages``.
    """
    stored = embedder is None
    table = artifact(CHAPTER, HANDBOOKS) if stored else handbooks.asked(embedder, **how)
    first = table[table["chunks"] == table["chunks"].iat[0]]
    first = first.set_index(["book", "rung", "question"])["key"]
    rows = []
    for key, own in table.groupby(["book", "chunks", "rung"], sort=False):
        before = first.reindex(pd.MultiIndex.from_frame(own[["book", "rung", "question"]]))
        pages, gain = own["page"], own["key"].to_numpy() - before.to_numpy()
        told = (one for v in (own["recall"], own["key"], gain) for one in by_cluster(v, pages))
        rows.append((*key, *told, len(own), own["words"].mean(), own["passages"].iat[0]))
    names = ["book", "chunks", "rung", "recall", "low", "high", "key", "key_low", "key_high"]
    names += ["gain", "gain_low", "gain_high", "of", "words", "passages"]
    return from_real(pd.DataFrame(rows, columns=names), *table["book"].unique())


# Rights ------------------------------------------------------------------------------


def filtered(
    sizes: Sequence[int] = (30_000, 100_000), dimensions: int = 384, **how: Any
) -> pd.DataFrame:
    """Measure recall and latency of each way to filter: :func:`.filtered_study.study`, pooled."""
    return pd.concat([study(n, dimensions, pool=True, **how) for n in sizes], ignore_index=True)


def gather(sizes: Sequence[int] = (1_000, 3_000, 30_000, 100_000, 400_000), **how: Any):
    """Measure up to which visible share rows are gathered: :func:`.filtered_study.gathering`."""
    return gathering(sizes, **how)


def rights(sizes: Sequence[tuple[int, int]] = ((2_000, 200), (50_000, 5_000), (500_000, 50_000))):
    """Return what a question of the store of rights costs: a row for documents and people."""
    return pd.DataFrame([rights_cost(*size, store=HeldBack) for size in sizes])


def leaks(
    queries: int = 10_000, worlds_each: int = 100, http: int = 1_000, other: int = 2_500, **how: Any
) -> pd.DataFrame:
    """Hunt for leaks in quotations, in answers, and over HTTP.

    ``answers`` weighs lines by hand; ``learned`` is the reader that was learned in the chapter's
    world, made to answer always, as silence hides leaks; ``graph`` walks along a graph instead of
    multiplying.

    Returns
    -------
    DataFrame
        ``hunted``, ``queries``, ``firms``, ``leaks``, ``wrong``, ``bound``, and how often what was
        met.
    """
    learned = replace(fitted(**how).learned, usual=(), threshold=0.0, least=0.0)
    walking = partial(Library, router=Router(rows=0, way="graph"))
    rows = []
    hunted = {
        "quotations": (Parts(), queries),
        "answers": (Parts(reader=judging), queries),
        "answers over HTTP": (planted.over_http(Parts(reader=judging)), http),
        "learned reader": (Parts(reader=lambda library: Assistant(library, learned)), other),
        "graph": (Parts(reader=judging, library=walking), other),
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
    """Time refusals of hidden and of missing documents, as it is and with a slow refusal.

    Returns
    -------
    DataFrame
        ``desk``, ``share`` of pairs in which the hidden one took longer, ``low``, ``high``,
        ``pairs``; ``off``: how far the share is from one half, on either side, since a refusal that
        is quicker tells as much; ``off_most``: at most, by the interval.
    """
    rows = []
    for name, parts in (("as it is", Parts()), ("slow refusal", Parts(planted.SlowRefusal))):
        told = not_found_times(pairs, parts=parts)
        ends = [abs(x - 0.5) for x in (told.share, told.low, told.high)]
        rows.append((name, told.share, told.low, told.high, told.pairs, ends[0], max(ends)))
    names = ["desk", "share", "low", "high", "pairs", "off", "off_most"]
    return pd.DataFrame(rows, columns=names)


# Connectors --------------------------------------------------------------------------


def sync(seed: int = SEED, speeds: Mapping[str, float] | None = None, **sizes: int) -> pd.DataFrame:
    """Read all sources over HTTP with their faults, and reckon the hours of a whole collection.

    Parameters
    ----------
    seed : int
    speeds : mapping of str to float, optional
        ``passage`` and ``line``: texts a second of the embedder; by default those of MiniLM on one
        core, from the artifacts.
    **sizes : int
        Of the firm.

    Returns
    -------
    DataFrame
        ``documents``, ``passages``, ``lines``, ``new_lines`` (different ones, without the names of
        teams), ``cpu_seconds`` and ``documents_a_second`` (without real vectors),
        ``passages_a_second``, ``lines_a_second``; ``hours_500k`` and ``hours_500k_two_each`` (one
        worker, one or two passages a document), ``hours_changed`` (5,000 changed documents). Every
        line counts as new there.
    """
    from casebook.serving.load import Server

    speeds = speeds or _speeds(artifact(CHAPTER, TIMES))
    faults = {"busy": 0.05, "failing": 0.05, "cut": 0.05, "wait": 0.01}
    with Server(SERVE, {"seed": seed, **sizes, **faults}) as server, _folder() as folder:
        access, began = Access(":memory:"), time.process_time()
        mirror = Mirror(folder / "mirror.db", [access.apply])
        library = Library(access, Hashed(64))
        refresh(connectors(server.url, mirror), library)
        took, leaves = time.process_time() - began, library.leaves.values()
        mirror.close()
    texts = [line.text for leaf in leaves for line in leaf.lines]
    told = {
        "documents": len(leaves),
        "passages": sum(len(leaf.chunks) for leaf in leaves),
        "lines": len(texts),
        "new_lines": len({library.names.masked(text) for text in texts}),
        "cpu_seconds": took,
        "documents_a_second": len(leaves) / took,
        "passages_a_second": speeds["passage"],
        "lines_a_second": speeds["line"],
    }
    return pd.DataFrame([told | _hours(told)])


def _speeds(times: pd.DataFrame) -> dict[str, float]:
    """Return the texts a second of each kind."""
    sums = times.groupby("what")[["texts", "seconds"]].sum()
    return (sums["texts"] / sums["seconds"]).to_dict()


def _hours(told: Mapping[str, float]) -> dict[str, float]:
    """Return the hours of whole collections, by what was counted and measured."""
    rows = (
        ("hours_500k", 500_000, 1),
        ("hours_500k_two_each", 500_000, 2),
        ("hours_changed", 5_000, 1),
    )
    found = {}
    for name, documents, each in rows:
        seconds = each / told["passages_a_second"]
        seconds += each * told["lines"] / told["passages"] / told["lines_a_second"]
        found[name] = index_hours(documents, seconds, 1.0, told["documents_a_second"])
    return found


class _folder(tempfile.TemporaryDirectory):
    """A folder that is gone afterwards, as a path."""

    def __enter__(self) -> Path:
        return Path(super().__enter__())


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "rungs_over_worlds": rungs_over_worlds,
    "gap_over_worlds": gap_over_worlds,
    "gap_fitted_again": gap_fitted_again,
    "cost_over_worlds": cost_over_worlds,
    "rewriting": rewriting,
    "conflicts": conflicts,
    "judge": judge,
    "outcomes": outcomes,
    "worth": worth,
    "latency": latency,
    "revocation": revocation,
    "real_handbooks": real_handbooks,
    "filtered": filtered,
    "gather": gather,
    "rights": rights,
    "leaks": leaks,
    "catches": catches,
    "not_found": not_found,
    "sync": sync,
}
_ASKED = {"seed": 3, "questions": 90, **SMALL}
_WORLDS = {"seeds": (4, 5), "questions": 90, "first": _ASKED}
_DRAWN = {"dimensions": 16, "users": 2, "questions": 4, "shares": (0.1,)}
#: Arguments with which a study runs live, in seconds.
REDUCED: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("rewriting", "conflicts"), _ASKED),
    **dict.fromkeys(("judge", "outcomes"), _ASKED),
    "worth": {"draws": 200, **_ASKED},
    "latency": {"asks": 20, **_ASKED},
    "revocation": {"rounds": 5, **_ASKED},
    **dict.fromkeys(("rungs_over_worlds", "gap_over_worlds", "gap_fitted_again"), _WORLDS),
    "cost_over_worlds": _WORLDS,
    "real_handbooks": {"books": handbooks.BOOKS[1:], "cuts": ("512/64",), "questions": 10},
    "filtered": {"sizes": (1_500,), "efforts": {"all": (1,), "graph": (64,)}, **_DRAWN},
    "gather": {"sizes": (400,), "dimensions": 16, "shares": (0.1, 0.5), "rounds": 2},
    "rights": {"sizes": ((500, 50),)},
    "leaks": {"queries": 20, "worlds_each": 20, "http": 6, "other": 20, **_ASKED},
    "catches": {"seeds": (1,), "budget": 5},
    "not_found": {"pairs": 60},
    "sync": {"people": 24, "teams": 3, "documents": 260, "speeds": {"passage": 24, "line": 200}},
}
