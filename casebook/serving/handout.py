"""A queue of people to be called: who is next on tonight's list, and nobody twice in four weeks.

The queue's own log remembers every list, every row that was given to an agent and what came of it.
A day is that of the queue's clock, not that of a list: when a night has no list, agents go on with
the one there is. It has one writer, the service. The night opens it *beside* the service: it reads
the log, and its list waits in a file of its own until the service takes it in.

Examples
--------
>>> import tempfile
>>> from types import SimpleNamespace
>>> folder = tempfile.TemporaryDirectory()
>>> limits = SimpleNamespace(calls_a_day=2, daily=4)
>>> queue = Queue(Path(folder.name) / "calls.db", limits, now=lambda: 0.0)
>>> queue.publish(List(5, "model", (31, 7), (9.0, 4.0), (("Quiet.",), ("New.",)), "", 5, 90))
>>> given = queue.next("ann")
>>> given["subscriber"], queue.next("ann") == given, queue.done(given["call"], "reached")["result"]
(31, True, 'reached')
>>> queue.next("bob")["subscriber"], sorted(queue.spared(night=6, day=1))
(7, [7, 31])
>>> queue.close(); folder.cleanup()
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from casebook.evaluate.holdback import Listed, Reading, read
from casebook.project import write_whole
from casebook.serving.app import Problem, bare_app, json_object, serve_calls
from casebook.serving.log import Log, Table
from casebook.serving.nights import NightFailed

if TYPE_CHECKING:
    from fastapi import FastAPI

RESULTS = ("reached", "nobody there", "complained")
#: Days between two calls of one subscriber, after a complaint, and of a list's life; nights that
#: may be without a list before somebody must look at the clock.
REST, ANGRY, LIFE, GAP = 28, 84, 7, 7
TABLES = {
    "lists": Table(
        {"night": "int", "source": "text", "day": "int", "list": "json"}, once=("night",)
    ),
    "given": Table(
        {"month": "int", "row": "int", "day": "int", "night": "int", "agent": "text"},
        once=("month, row",),
    ),
    "results": Table({"given": "int", "result": "text"}, once=("given",)),
}
#: Bytes of a request, and letters of an agent's name.
MOST_BYTES, MOST_NAME = 2_000, 40


class Limits(Protocol):
    """Calls of an agent and of the team in a day."""

    @property
    def calls_a_day(self) -> int: ...

    @property
    def daily(self) -> int: ...


@dataclass(frozen=True)
class List:
    """The list of a night.

    Attributes
    ----------
    night : int
    source : str
        ``model``, ``last list`` or ``points``.
    rows : tuple of int
        Whom to call, the most promising first.
    gains : tuple of float
        Expected euro of each call; of points, the points.
    reasons : tuple of tuple of str
        For each row, in words.
    why : str
        Why the model did not make it; of a model's list, who was left out.
    made : int
        The night on which the rows were chosen.
    there : int
        Subscribers on that night.
    held : tuple of int
        Who would have been called, and is held out.
    risks, effects : tuple of float
        Predicted for ``rows`` and then ``held``; for the monitor. Empty unless the model made it.
    error : float
        Relative standard error that all predicted effects share.
    """

    night: int
    source: str
    rows: tuple[int, ...]
    gains: tuple[float, ...]
    reasons: tuple[tuple[str, ...], ...]
    why: str
    made: int
    there: int
    held: tuple[int, ...] = ()
    risks: tuple[float, ...] = ()
    effects: tuple[float, ...] = ()
    error: float = 0.0

    def check(self) -> None:
        """Refuse a list that would harm a queue.

        Raises
        ------
        ValueError
            With what is wrong.
        """
        if type(self.night) is not int:
            raise ValueError(f"night {self.night!r} is no day: give a whole number.")
        if len({*self.rows}) != len(self.rows):
            raise ValueError("a subscriber stands on the list twice: make it again.")
        if not len(self.rows) == len(self.gains) == len(self.reasons):
            raise ValueError(
                f"{len(self.rows)} rows, {len(self.gains)} gains, {len(self.reasons)} reasons: "
                "make it again."
            )
        if not np.isfinite([*self.gains, *self.risks, *self.effects, self.error]).all():
            raise ValueError("a number of the list is none: make it again.")


def without(last: List, off: np.ndarray, night: int, why: str, least: float = 1) -> List:
    """Return the last list for another night, without some of its rows.

    Parameters
    ----------
    last : List
    off : ndarray of bool
        Of its rows: who was called, left or is held out since.
    night : int
    why : str
        Why there is no new one.
    least : float
        Rows that must be left.

    Raises
    ------
    NightFailed
        If fewer are, as after a day on which the list was worked.
    """
    kept = np.flatnonzero(~off)
    if len(kept) < max(least, 1):
        raise NightFailed(f"{len(kept)} are left on the list of night {last.made}.")
    parts = {
        name: tuple(getattr(last, name)[k] for k in kept) for name in ("rows", "gains", "reasons")
    }
    none = {"held": (), "risks": (), "effects": ()}
    return replace(last, night=night, source="last list", why=why, **parts, **none)


def reading(
    lists: Sequence[List],
    lost: Callable[[np.ndarray, int], np.ndarray],
    today: int,
    days: int = REST,
    late: int = 14,
) -> Reading:
    """Read the lists of one period together, once the last one's outcome is known.

    Who stands on several lists counts once, from the first. They are compared as drawn, whether or
    not an agent came to call them.

    Parameters
    ----------
    lists : sequence of List
        Of one period; those that the model did not make predict nothing and are passed over.
    lost : callable
        From rows and a list's night to who was lost within ``days``.
    today : int
    days : int
        Of a period, and of an outcome.
    late : int
        Days until an outcome has been booked.

    Raises
    ------
    ValueError
        If a list is too young, they are of several periods, or there is none of the model.
    """
    lists = [made for made in lists if made.source == "model" and (made.rows or made.held)]
    if len({made.night // days for made in lists}) != 1:
        raise ValueError("give the lists of one month: the hold-out changes with the month.")
    last = max(made.night for made in lists)
    if today < last + days + late:
        raise ValueError(
            f"losses after day {last} are booked by day {last + days + late}, today is day "
            f"{today}: the outcome is not known yet."
        )
    parts, seen = [], set()
    for made in sorted(lists, key=lambda made: made.night):
        rows = np.array([*made.rows, *made.held], int)
        new = ~np.isin(rows, [*seen])
        seen |= {*rows.tolist()}
        held = np.arange(len(rows)) >= len(made.rows)
        columns = (held, np.array(made.risks), np.array(made.effects), lost(rows, made.night))
        parts.append([column[new] for column in columns])
    held, risk, effect, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    error = max(made.error for made in lists)
    return read(Listed(last, held, risk, effect, error), y, today, days)


def run_night(
    queue: Queue,
    night: int,
    make: Callable[[List | None], List],
    passed: Callable[[str], None] = lambda point: None,
    after_gap: bool = False,
) -> List:
    """Make the list of a night and publish it; run again, it changes nothing.

    Parameters
    ----------
    queue : Queue
        ``beside`` a service or alone.
    night : int
    make : callable
        From the last good list (made by the model), if there is one.
    passed : callable
        Told ``"made"`` when there is a list and nobody has it yet: where a drill kills.
    after_gap : bool
        As of :meth:`Queue.publish`.
    """
    there = [made for made in queue.lists() if made.night == night]
    if there:
        return there[0]
    good = queue.lists("model")
    made = make(good[-1] if good else None)
    passed("made")
    queue.publish(made, after_gap)
    return made


def _restored(kept: dict[str, Any]) -> List:
    """Return a list from the log: JSON has no tuples."""
    reasons = tuple(map(tuple, kept["reasons"]))
    rest = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
    return List(**rest | {"reasons": reasons})


class Queue:
    """Give out the rows of the latest list.

    Parameters
    ----------
    path : Path
        Of the log.
    terms : Limits
    now : callable
        Seconds since 1970, as ``time.time``.
    beside : bool
        Read the log while a service writes it; a list that is published waits for the service.
    """

    def __init__(
        self,
        path: Path,
        terms: Limits,
        now: Callable[[], float] = time.time,
        beside: bool = False,
    ) -> None:
        self.log, self.terms, self.now = Log(path, TABLES, read_only=beside), terms, now
        self.beside, self.refused = beside, ""
        self._waiting = Path(f"{path}.next.json")

    def close(self) -> None:
        self.log.close()

    @property
    def day(self) -> int:
        """The day by the clock, counted from 1970 (UTC)."""
        return int(self.now() // 86_400)

    # Lists ------------------------------------------------------------------------------------

    def publish(self, made: List, after_gap: bool = False) -> None:
        """Put a night's list in front of the agents; beside a service, leave it for the service.

        Parameters
        ----------
        made : List
        after_gap : bool
            Accept a night more than a week after the last one.

        Raises
        ------
        ValueError
            If the night has a list already, there is a later one, the list cannot be, or the night
            is so far ahead that a clock must be wrong: it would shut out all others.
        """
        with self.log.alone():
            made.check()
            last = self.log.last("lists")
            if last is not None and made.night <= last["night"]:
                raise ValueError(f"night {last['night']} has a list: {made.night} comes too late.")
            if last is not None and made.night > last["night"] + GAP and not after_gap:
                raise ValueError(
                    f"night {made.night} comes {made.night - last['night']} days after the last "
                    "list: set the clock right, or publish with after_gap=True."
                )
            if self.beside:
                told = {"after_gap": after_gap, "list": asdict(made)}
                write_whole(self._waiting, json.dumps(told).encode())
                return
            row = {"night": made.night, "source": made.source, "day": self.day}
            self.log.append("lists", row | {"list": vars(made)})

    def _take_in(self) -> None:
        """Publish the list that waits, if one does; one that is refused is told by ``/health``."""
        taken = self._waiting.with_suffix(".taken")
        with self.log.alone():
            if self.beside:
                return
            if not taken.exists():  # else the service ended while it took one in
                if not self._waiting.exists():
                    return
                os.replace(self._waiting, taken)
            try:
                told = json.loads(taken.read_bytes())
                self.publish(_restored(told["list"]), told["after_gap"])
                self.refused = ""
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                self.refused = f"{type(error).__name__}: {error}"
            taken.unlink()

    def lists(self, source: str | None = None) -> list[List]:
        """Return the published lists, the oldest first; of one source, or all."""
        where = {} if source is None else {"source": source}
        return [_restored(row["list"]) for row in self.log.find("lists", **where)]

    def current(self) -> List:
        """Return the latest list.

        Raises
        ------
        Problem
            404 when there is none yet.
        """
        return _restored(self._latest()["list"])

    def _latest(self) -> dict[str, Any]:
        self._take_in()
        last = self.log.last("lists")
        if last is None:
            raise Problem(404, "no list", "No list has been published.", "Run the night first.")
        return last

    def spared(self, night: int, day: int) -> set[int]:
        """Return whom a night must leave in peace by what the queue knows itself.

        Those given to an agent or held out within four weeks, and who complained within twelve: the
        company's tables may be late, and a hold-out is read four weeks after its night.

        Parameters
        ----------
        night, day : int
            The night of the list, and the same by the clock.
        """
        given = {one["sequence"]: one for one in self.log.find("given")}
        found = {one["row"] for one in given.values() if one["day"] > day - REST}
        for result in self.log.find("results", result="complained"):
            one = given[result["given"]]
            found |= {one["row"]} if one["day"] > day - ANGRY else set()
        for row in self.log.find("lists"):
            found |= {*row["list"]["held"]} if row["night"] > night - REST else set()
        return found

    # Calls ------------------------------------------------------------------------------------

    def next(self, agent: str) -> dict[str, Any]:
        """Give an agent the next row, or the one whose result is still missing.

        Raises
        ------
        Problem
            404 without a list, 409 when the agent's or the team's calls of the day are used up, the
            list is, or it is more than a week old.
        """
        agent = agent.strip() if isinstance(agent, str) else ""
        if not 0 < len(agent) <= MOST_NAME or not agent.isprintable():
            what = f"An agent has a name of 1 to {MOST_NAME} letters."
            raise Problem(422, "agent", what, "Send one.")
        with self.log.alone():
            kept, day = self._latest(), self.day
            mine = self.log.find("given", agent=agent)
            if mine and day - mine[-1]["day"] < LIFE and not self._result(mine[-1]["sequence"]):
                return self._told(mine[-1])
            today = self.log.find("given", day=day)
            own = sum(given["agent"] == agent for given in today)
            if own >= self.terms.calls_a_day or len(today) >= self.terms.daily:
                what = f"{own} calls of {agent} and {len(today)} of the team today."
                raise Problem(409, "enough", what, "Go on tomorrow.")
            if day - kept["day"] > LIFE:
                what = f"The list is {day - kept['day']} days old: some on it have left since."
                raise Problem(409, "old list", what, "Run the night.")
            month = day // REST
            near = (one for m in (-1, 0, 1) for one in self.log.find("given", month=month + m))
            taken = {one["row"] for one in near if one["day"] > day - REST}
            free = next((row for row in kept["list"]["rows"] if row not in taken), None)
            if free is None:
                what = "Everybody on the list has been called."
                raise Problem(409, "empty", what, "Wait for the next list.")
            row = {"month": month, "row": free, "day": day, "night": kept["night"], "agent": agent}
            return self._told(self.log.append("given", row))

    def _result(self, call: int) -> str:
        found = self.log.find("results", given=call)
        return found[0]["result"] if found else ""

    def _told(self, given: dict[str, Any]) -> dict[str, Any]:
        [kept] = self.log.find("lists", night=given["night"])
        at = kept["list"]["rows"].index(given["row"])
        told = {"call": given["sequence"], "subscriber": given["row"]}
        return told | {"reasons": kept["list"]["reasons"][at], "list": kept["source"]}

    def done(self, call: int, result: str) -> dict[str, Any]:
        """Take the result of a call; the same result again changes nothing.

        Raises
        ------
        Problem
            422 for another result, 404 for a call that nobody was given, 409 for a second result.
        """
        if result not in RESULTS:
            what = f"{str(result)[:40]!r} is no result."
            raise Problem(422, "result", what, f"Send one of {', '.join(RESULTS)}.")
        with self.log.alone():
            known = type(call) is int and 0 < call < 2**63
            if not known or not self.log.find("given", sequence=call):
                what = f"Call {str(call)[:20]} was not given out."
                raise Problem(404, "unknown call", what, "Send the number that /next gave.")
            before = self._result(call)
            if before and before != result:
                what = f"Call {call} ended with {before!r}."
                raise Problem(409, "result", what, "Ask the team lead to correct it.")
            if not before:
                self.log.append("results", {"given": call, "result": result})
        return {"call": call, "result": result}


def app_of(queue: Queue) -> FastAPI:
    """Return the service of a queue.

    ``POST /next`` gives an agent the next subscriber with the reasons, ``POST /results`` takes what
    came of it, ``GET /list`` says where the list comes from.
    """

    def give(raw: bytes) -> dict[str, Any]:
        return queue.next(json_object(raw).get("agent"))

    def take(raw: bytes) -> dict[str, Any]:
        body = json_object(raw)
        return queue.done(body.get("call"), body.get("result"))

    def shown() -> dict[str, Any]:
        last = queue.current()
        told = {key: getattr(last, key) for key in ("night", "source", "why")}
        return told | {"rows": len(last.rows)}

    def health() -> dict[str, Any]:
        return {"alive": True, "rows": queue.log.count("given"), "refused": queue.refused}

    app = bare_app("Calls of the day")
    posts, gets = {"/next": give, "/results": take}, {"/list": shown, "/health": health}
    serve_calls(app, posts, gets, MOST_BYTES)
    return app
