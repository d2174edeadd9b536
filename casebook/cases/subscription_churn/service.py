"""The agents' queue: who is next on tonight's list, at most one call a month, in its own log.

``POST /next`` gives an agent the next subscriber with the reasons, ``POST /results`` takes what
came of it, ``GET /list`` says where the list comes from. Nobody is given out twice in a month,
whatever the lists say: the log refuses the row. An agent who asks again before the result gets the
same one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from casebook.cases.subscription_churn.nightly import List, tonight
from casebook.cases.subscription_churn.policy import TERMS, Terms
from casebook.cases.subscription_churn.population import MONTH
from casebook.cases.subscription_churn.records import Tables
from casebook.serving.app import Problem, bare_app, json_object, serve_calls
from casebook.serving.log import Log, Table

RESULTS = ("reached", "nobody there", "complained")
TABLES = {
    "lists": Table({"night": "int", "source": "text", "list": "json"}, once=("night",)),
    "given": Table(
        {"month": "int", "row": "int", "night": "int", "agent": "text"}, once=("month, row",)
    ),
    "results": Table({"given": "int", "result": "text"}, once=("given",)),
}
#: Bytes of a request, and letters of an agent's name.
MOST_BYTES, MOST_NAME = 2_000, 40


def _restored(kept: dict[str, Any]) -> List:
    """Return a list from the log: JSON has no tuples."""
    reasons = tuple(map(tuple, kept["reasons"]))
    rest = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
    return List(**rest | {"reasons": reasons})


class Queue:
    """Give out the rows of the latest list, each once a month.

    Parameters
    ----------
    path : Path
        Of the log.
    terms : Terms
        Calls of an agent and of the team in a day.
    """

    def __init__(self, path: Path, terms: Terms = TERMS) -> None:
        self.log, self.terms = Log(path, TABLES), terms

    def close(self) -> None:
        self.log.close()

    def publish(self, made: List, after_gap: bool = False) -> None:
        """Put a night's list in front of the agents.

        Parameters
        ----------
        made : List
        after_gap : bool
            Accept a night more than a month after the last one.

        Raises
        ------
        ValueError
            If the night has a list already, there is a later one, a subscriber stands on it twice,
            or the night is so far ahead that a clock must be wrong: it would shut out all others.
        """
        last = self.log.last("lists")
        if last is not None and made.night <= last["night"]:
            raise ValueError(f"night {last['night']} has a list: {made.night} comes too late.")
        if last is not None and made.night > last["night"] + MONTH and not after_gap:
            raise ValueError(
                f"night {made.night} comes {made.night - last['night']} days after the last list: "
                "set the clock right, or publish with after_gap=True."
            )
        if len({*made.rows}) != len(made.rows):
            raise ValueError("a subscriber stands on the list twice: make it again.")
        self.log.append("lists", {"night": made.night, "source": made.source, "list": vars(made)})

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
        last = self.log.last("lists")
        if last is None:
            raise Problem(404, "no list", "No list has been published.", "Run the night first.")
        return _restored(last["list"])

    def next(self, agent: str) -> dict[str, Any]:
        """Give an agent the next row.

        Raises
        ------
        Problem
            404 without a list, 409 when the agent's or the team's calls of the day are used up, or
            the list is.
        """
        if not isinstance(agent, str) or not 0 < len(agent) <= MOST_NAME:
            what = f"An agent has a name of 1 to {MOST_NAME} letters."
            raise Problem(422, "agent", what, "Send one.")
        with self.log.alone():
            last = self.current()
            today = self.log.find("given", night=last.night)
            mine = [given for given in today if given["agent"] == agent]
            if mine and not self.log.find("results", given=mine[-1]["sequence"]):
                return self._told(mine[-1], last)
            if len(mine) >= self.terms.calls_a_day or len(today) >= self.terms.daily:
                what = f"{len(mine)} calls of {agent} and {len(today)} of the team today."
                raise Problem(409, "enough", what, "Go on tomorrow.")
            month = last.night // MONTH
            given = [*self.log.find("given", month=month), *self.log.find("given", month=month - 1)]
            taken = {one["row"] for one in given if one["night"] > last.night - MONTH}
            free = next((row for row in last.rows if row not in taken), None)
            if free is None:
                what = "Everybody on the list has been called."
                raise Problem(409, "empty", what, "Wait for the next list.")
            row = {"month": month, "row": free, "night": last.night, "agent": agent}
            return self._told(self.log.append("given", row), last)

    def _told(self, given: dict[str, Any], last: List) -> dict[str, Any]:
        at = last.rows.index(given["row"])
        told = {"call": given["sequence"], "subscriber": given["row"]}
        return told | {"reasons": [*last.reasons[at]], "list": last.source}

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
            whole = isinstance(call, int) and not isinstance(call, bool)
            if not whole or not self.log.find("given", sequence=call):
                what = f"Call {str(call)[:20]} was not given out."
                raise Problem(404, "unknown call", what, "Send the number that /next gave.")
            before = self.log.find("results", given=call)
            if before and before[0]["result"] != result:
                what = f"Call {call} ended with {before[0]['result']!r}."
                raise Problem(409, "result", what, "Ask the team lead to correct it.")
            if not before:
                self.log.append("results", {"given": call, "result": result})
        return {"call": call, "result": result}


def run_night(
    queue: Queue,
    folder: Path,
    tables: Tables,
    night: int,
    share: float = 0.05,
    passed: Callable[[str], None] = lambda point: None,
) -> List:
    """Make the list of a night and publish it; run again, it changes nothing.

    Parameters
    ----------
    queue : Queue
        Its log has the last good list.
    folder : Path
        Of the registry.
    tables : Tables
    night : int
    share : float
        Held out.
    passed : callable
        Told ``"made"`` when there is a list and nobody has it yet: where a drill kills.

    Raises
    ------
    NightFailed, ValueError
        As :func:`.nightly.tonight` and :meth:`Queue.publish`; the agents keep the list they have.
    """
    there = [made for made in queue.lists() if made.night == night]
    if there:
        return there[0]
    good = queue.lists("model")
    made = tonight(folder, tables, night, good[-1] if good else None, share, queue.terms)
    passed("made")
    queue.publish(made)
    return made


def app_of(queue: Queue) -> FastAPI:
    """Return the service of a queue."""

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
        return {"alive": True, "rows": queue.log.count("given")}

    app = bare_app("Calls of the day")
    posts, gets = {"/next": give, "/results": take}, {"/list": shown, "/health": health}
    serve_calls(app, posts, gets, MOST_BYTES)
    return app
