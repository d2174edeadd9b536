"""The assignment service: plans, arms and exposures over HTTP, and a client that falls back.

``POST /plans`` checks and registers a plan, ``POST /assignments`` returns the arm of a user, ``POST
/exposures`` records that a user saw it, ``GET /counts/{name}`` returns users by arm for the split
test, ``GET /health`` says whether the log is whole.

An arm is computed from the hash alone, so any copy of the service gives the same one. An unknown
experiment gets control, and the reply says so. Registered plans never change: another share or salt
under the same name would mix two experiments. Plans and exposures are rows of an append-only log;
what is refused writes nothing. To start one::

    python -m casebook.serving.load --factory casebook.cases.ab_testing.service:app \
        --arguments '{"path": "assignments.sqlite"}'
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from casebook.cases.ab_testing.plan import Plan, PlanError, read_plan
from casebook.evaluate.assign import CONTROL, REST, TREATMENT, arm_of
from casebook.serving.app import Problem, bare_app, json_object, parsed, serve_calls
from casebook.serving.ask import Asker, NoAnswer
from casebook.serving.log import Log, Table

#: Bytes of a request that are read.
LARGEST = 20_000
#: Exposures that come so long after they happened are told to be late.
LATE = timedelta(days=4)
TABLES = {
    "plans": Table({"name": "text", "plan": "json"}, once=("name",)),
    "exposures": Table(
        {
            **dict.fromkeys(("event", "experiment", "user", "arm", "time"), "text"),
            "late": "int",
        },
        once=("event",),
    ),
}


class Asked(BaseModel):
    """A request for an arm."""

    model_config = ConfigDict(extra="forbid", strict=True)
    experiment: str = Field(min_length=1, max_length=60)
    user: str = Field(min_length=1, max_length=100)


class Exposure(Asked):
    """A user who saw an arm."""

    model_config = ConfigDict(extra="forbid")
    event: str = Field(min_length=1, max_length=100)
    arm: str = Field(min_length=1, max_length=40)
    time: AwareDatetime


class Assignments:
    """Plans, arms and exposures, kept in a log.

    Parameters
    ----------
    path : Path or str
        Of the log; what it holds is taken up.
    clock : callable
        Now, with its offset.
    """

    def __init__(
        self, path: Path | str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.log, self._clock, self._lock = Log(Path(path), TABLES), clock, threading.Lock()
        rows = [*self.log.rows()]
        self.plans: dict[str, Plan] = {
            row["name"]: read_plan(row["plan"] | {"shares": dict(row["plan"]["shares"])})
            for kind, row in rows
            if kind == "plans"
        }
        self._seen = {row["event"]: row for kind, row in rows if kind == "exposures"}
        self._users = {(r["experiment"], r["user"]): r["arm"] for r in self._seen.values()}

    def register(self, raw: bytes) -> dict[str, Any]:
        """Register a plan; the same plan again is answered and not written.

        Raises
        ------
        Problem
            422 with the faults of the plan; 409 if another plan has the name or the salt.
        """
        given = json_object(raw)
        try:
            plan = read_plan(given)
        except PlanError as error:
            do = "Correct the fields that are named."
            raise Problem(422, "wrong plan", str(error), do) from None
        if plan.unit != "user":
            what = f"{plan.name} randomises by {plan.unit}, and arms are asked for by user here."
            raise Problem(422, "wrong unit", what, "Assign clusters where their users are known.")
        with self._lock:
            known = self.plans.get(plan.name)
            if plan.same(known):
                return {"name": plan.name, "registered": False}
            if known is not None:
                what = f"{plan.name} is registered with another plan."
                do = "Take a new name and a new salt: a plan that changes mixes two experiments."
                raise Problem(409, "plan changed", what, do)
            if other := [one.name for one in self.plans.values() if one.salt == plan.salt]:
                what = f"{other[0]} has the salt {plan.salt!r}: the arms would be the same."
                raise Problem(409, "salt reused", what, "Give each experiment its own salt.")
            kept = json.loads(plan.model_dump_json(exclude_none=True))
            kept["shares"] = [
                *plan.shares.items()
            ]  # a log sorts names, and the order gives the arms
            self.log.append("plans", {"name": plan.name, "plan": kept})
            self.plans[plan.name] = plan
        return {"name": plan.name, "registered": True}

    def assign(self, raw: bytes) -> dict[str, Any]:
        """Return the arm of a user: by the hash, or control where the experiment is not known."""
        asked = parsed(Asked, raw)
        head = {"experiment": asked.experiment, "user": asked.user}
        plan = self.plans.get(asked.experiment)
        if plan is None:
            return {**head, "arm": CONTROL, "source": "fallback", "why": "unknown experiment"}
        arm = arm_of(asked.user, plan.salt, plan.shares)
        return {**head, "arm": arm, "source": "hash", "why": ""}

    def expose(self, raw: bytes) -> dict[str, Any]:
        """Record an exposure; an event that is sent again is answered and not written.

        Raises
        ------
        Problem
            404 for an unknown experiment; 409 for an arm that is not the user's, or an event id
            with another content; 422 for a time before the test or in the future.
        """
        given = parsed(Exposure, raw)
        plan = self.plans.get(given.experiment)
        if plan is None:
            what = f"There is no experiment {given.experiment!r}."
            raise Problem(404, "unknown experiment", what, "Register its plan first.")
        arm = arm_of(given.user, plan.salt, plan.shares)
        if given.arm != arm:
            what = f"{given.user} belongs to {arm}, not to {given.arm}."
            raise Problem(409, "wrong arm", what, "Show and log the arm that was assigned.")
        now, start = self._clock(), datetime.combine(plan.start, datetime.min.time(), UTC)
        end = min(now + timedelta(minutes=5), start + timedelta(days=plan.days))
        if not start <= given.time <= end:
            what = f"{given.time.isoformat()} is not in the test, or in the future."
            raise Problem(422, "wrong time", what, "Correct the clock that wrote it.")
        late = now - given.time > LATE
        row = {**given.model_dump(), "time": given.time.astimezone(UTC).isoformat()}
        row["late"] = int(late)
        with self._lock:
            before = self._seen.get(given.event)
            if before is not None:
                if any(before[name] != row[name] for name in row if name != "late"):
                    what = f"The event {given.event} is known with another content."
                    raise Problem(409, "event changed", what, "Give each event an id of its own.")
                return {"event": given.event, "recorded": False, "late": bool(before["late"])}
            self._seen[given.event] = self.log.append("exposures", row)
            self._users[given.experiment, given.user] = arm
        return {"event": given.event, "recorded": True, "late": late}

    def counts(self, name: str) -> dict[str, Any]:
        """Return users by arm of an experiment, each user once: what the split test takes."""
        if name not in self.plans:
            what = f"There is no experiment {name[:60]!r}."
            raise Problem(404, "unknown experiment", what, "Register its plan first.")
        with self._lock:
            users = [*self._users.items()]
        arms = Counter(arm for (experiment, _), arm in users if experiment == name)
        return {"experiment": name, "users": {a: arms[a] for a in self.plans[name].shares}}

    def health(self) -> dict[str, Any]:
        """Say whether the log is whole."""
        checked = self.log.verify()
        state = "ok" if checked else "log broken"
        return {"status": state, "plans": len(self.plans), "rows": checked.rows}


def app(path: str) -> FastAPI:
    """Return the service over HTTP; its :class:`Assignments` stand at ``app.state.service``."""
    service = Assignments(path)
    posts = {
        "/plans": service.register,
        "/assignments": service.assign,
        "/exposures": service.expose,
    }
    gets = {"/counts/{name}": service.counts, "/health": service.health}
    made = bare_app("Assignments")
    serve_calls(made, posts, gets, LARGEST)
    made.state.service = service
    return made


class Client:
    """Asks the service for arms; without an answer in time everybody sees control.

    Parameters
    ----------
    url : str
        Of the service.
    seconds : float
        What a page can wait for, until the answer is whole.
    arms : tuple of str
        Arms that the page can show; any other is taken for no answer.

    Attributes
    ----------
    fallbacks : Counter of str
        Why control was shown without an assignment, and how often. Such users must not be logged
        as exposed: they would all be in control.
    """

    def __init__(
        self, url: str, seconds: float = 0.2, arms: tuple[str, ...] = (CONTROL, TREATMENT, REST)
    ) -> None:
        self.url, self.arms, self.fallbacks = url, arms, Counter()
        self._asker = Asker(seconds)

    def arm(self, user: str, experiment: str) -> tuple[str, bool]:
        """Return the arm, and whether the user may be counted as exposed."""
        asked = {"user": user, "experiment": experiment}
        try:
            body = self._asker.post(f"{self.url}/assignments", asked)
        except NoAnswer as none:
            body = {"why": str(none)}
        if body.get("source") == "hash" and body.get("arm") in self.arms:
            return body["arm"], True
        self.fallbacks[str(body.get("why") or "no known arm")[:60]] += 1
        return CONTROL, False

    def close(self) -> None:
        """Close the connections."""
        self._asker.close()
