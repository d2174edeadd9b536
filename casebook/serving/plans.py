"""The plan of a router: who gets what, for how long, and the way back.

A plan that gives a new version anything holds for a *lease*. Whoever rolls it out renews the lease
at each look; if he dies, is cut off or forgets, the stable pods have everything again when it ends.
Only one at a time holds it. The stable pods, and those before them, are kept in a file: a router
that starts again, or a week after "live" is told to go back, knows them. Pods that got another
version meanwhile are no way back.

Examples
--------
>>> now = [0.0]
>>> plans = Plans(Plan(("http://old",)), clock=lambda: now[0])
>>> plans.take(Plan(("http://old",), ("http://new",), 0.05, stage="canary"), "release 7", 10)
>>> now[0] = 9
>>> plans.renew("release 7", 10)
>>> plans.now.stage
'canary'
>>> now[0] = 19
>>> plans.now.stage, plans.now.share
('the lease has ended', 0.0)
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from casebook.project import write_whole

ENDED = "the lease has ended"
ADDRESS = re.compile(r"http://([\w.-]+|\[[0-9a-fA-F:]+\])(:(?P<port>\d{1,5}))?", re.ASCII)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Who gets what: taken once for a request.

    Attributes
    ----------
    stable, new : tuple of str
        Addresses of pods.
    share : float
        Of the keys, for the new version.
    shadow : bool
        Whether the new version gets copies of all others.
    stage : str
    """

    stable: tuple[str, ...]
    new: tuple[str, ...] = ()
    share: float = 0.0
    shadow: bool = False
    stage: str = "stable"

    def __post_init__(self) -> None:
        if not self.stable or not 0 <= self.share <= 1:
            raise ValueError(f"{self}: at least one stable pod, and a share from 0 to 1.")
        if not self.new and (self.share or self.shadow):
            raise ValueError("a share or a shadow without a new pod: give its address.")


def addresses(pods: object) -> tuple[str, ...]:
    """Return the addresses of a list, as JSON has it.

    Raises
    ------
    ValueError
        If it is no list of texts such as ``http://host`` and ``http://host:8080``.
    """
    if not isinstance(pods, list | tuple) or not all(map(_is_address, pods)):
        raise ValueError(f"{pods!r}: give a list of addresses such as http://host:8080.")
    return tuple(pods)


def _is_address(pod: object) -> bool:
    found = ADDRESS.fullmatch(pod) if isinstance(pod, str) else None
    return found is not None and 0 < int(found["port"] or 80) < 65_536


class Held(RuntimeError):
    """Another rollout holds the plan, or this one holds it no more."""


class Plans:
    """The plan that holds now.

    Parameters
    ----------
    first : Plan
        If the file says nothing else.
    file : Path, optional
        Of the stable pods and of those before them; one that is damaged is logged and put aside.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        first: Plan,
        file: Path | str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._clock, self._plan = file and Path(file), clock, first
        self._by, self._until, self.before = "", float("inf"), tuple[str, ...]()
        self._kept: dict[str, tuple[str, ...]] = {}
        if self._file and self._file.exists():
            self._read(self._file)

    def _read(self, file: Path) -> None:
        try:
            told = json.loads(file.read_text())
            kept = {name: addresses(told[name]) for name in ("stable", "before")}
            self._plan, self.before, self._kept = Plan(kept["stable"]), kept["before"], kept
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s cannot be read (%r): %s serve.", file, error, self._plan.stable)
            with suppress(OSError):
                file.replace(file.with_name(file.name + ".damaged"))

    @property
    def now(self) -> Plan:
        """The plan; the stable pods alone once a lease has ended."""
        if self._clock() >= self._until:
            self._set(Plan(self._plan.stable, stage=ENDED))
        return self._plan

    def take(self, plan: Plan, by: str = "", lease: float = 0.0) -> None:
        """Let a plan hold.

        Parameters
        ----------
        plan : Plan
        by : str
            Who rolls out.
        lease : float
            Seconds; a plan with new pods needs them, one without needs none.

        Raises
        ------
        Held
            If somebody else holds a lease that has not ended, or other stable pods come from one
            whose lease has ended.
        ValueError
            For new pods without a lease.
        OSError
            If the file cannot be written; the old plan holds.
        """
        if self.now.new and by != self._by:
            raise Held(f"{self._by!r} rolls out in stage {self._plan.stage!r}: wait, or end it.")
        if by and by != self._by and plan.stable != self._plan.stable:
            raise Held(f"{by!r} holds no plan: it is in stage {self._plan.stage!r}.")
        if plan.new and not 0 < lease < float("inf"):
            raise ValueError(f"new pods with a lease of {lease} s: give seconds above 0.")
        self._keep(plan)
        self._set(plan, by, self._clock() + lease if plan.new else float("inf"))

    def renew(self, by: str, lease: float) -> None:
        """Let the plan hold longer.

        Raises
        ------
        Held
            If it holds no more: the lease had ended, or the router has started anew.
        """
        if not self.now.new or by != self._by:
            raise Held(f"{by!r} holds no plan: it is in stage {self._plan.stage!r}.")
        self._until = self._clock() + lease

    def back(self) -> Plan:
        """Let the stable pods before these have everything, whoever holds the plan.

        During a rollout these are the stable pods of now. A file that cannot be written is logged.

        Raises
        ------
        LookupError
            If none were before.
        """
        if not self.now.new and not self.before:
            raise LookupError("no pods were before these: give a plan with their addresses.")
        plan = Plan(self._plan.stable if self._plan.new else self.before, stage="back")
        try:
            self._keep(plan)
        except OSError as error:  # worse than a router that forgets is one that does not go back
            log.error("%s cannot be written (%r): it says what served before.", self._file, error)
        self._set(plan)
        return plan

    def _before(self, plan: Plan) -> tuple[str, ...]:
        """Return the way back under a plan: not to what it comes back from, nor to its new pods."""
        before = self.before
        if plan.stable != self._plan.stable:
            before = () if plan.stable == before else self._plan.stable
        return () if {*before} & {*plan.new} else before

    def _set(self, plan: Plan, by: str = "", until: float = float("inf")) -> None:
        self.before = self._before(plan)
        self._plan, self._by, self._until = plan, by, until

    def _keep(self, plan: Plan) -> None:
        """Write what a plan changes in the file, before it holds."""
        told = {"stable": plan.stable, "before": self._before(plan)}
        if self._file and told != self._kept:
            write_whole(self._file, json.dumps(told).encode())
            self._kept = told
