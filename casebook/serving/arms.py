"""The models of an experiment that serve side by side: each arm its swap, breaker and shelf.

An arm that fails takes no answer from the other, one that ages is told, and an experiment that was
stopped stays so after a restart.

Examples
--------
>>> arms = Arms({"control": "old", "treatment": "new"}, checks={})
>>> [arms.of(user) for user in (1, 2, 3, None)]
['treatment', 'control', 'treatment', 'control']
>>> arms.stop("revenue fell"), arms.of(1), arms.stopped
(None, 'control', 'revenue fell')
>>> arms.close()
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from casebook.evaluate.assign import CONTROL, TREATMENT, arm_of
from casebook.project import write_whole
from casebook.serving.breaker import Breaker
from casebook.serving.checks import Check as Row
from casebook.serving.checks import age
from casebook.serving.shelf import Busy, Shelf
from casebook.serving.swap import Check, Swap, Version

#: Arm → what its model is called in the folder.
SHELVES = {CONTROL: "model", TREATMENT: "treatment"}


class Plan(NamedTuple):
    """An experiment: its name, the salt of its hash, and arm → share of the users."""

    name: str = "ranker"
    salt: str = "ranker.1"
    shares: Mapping[str, float] = {CONTROL: 0.5, TREATMENT: 0.5}

    def arm(self, user: int) -> str:
        """Return the arm of a user, the same at each request and in each process."""
        return arm_of(f"u{user}", self.salt, self.shares)


class Arms:
    """What serves in each arm.

    Parameters
    ----------
    models : mapping of str to object
        By arm; ``control`` at least, None while there is none.
    checks : mapping of str to callable
        Of :class:`~casebook.serving.swap.Swap`, for all arms.
    plan : Plan
    folder : Path, optional
        Of the shelves; its file ``stopped`` says why the experiment was ended, until somebody takes
        it away.
    **limits : float
        Of each arm's :class:`~casebook.serving.breaker.Breaker`; each new model has a new one, so
        that no thread in which the old one hangs is missing.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        checks: Mapping[str, Check],
        plan: Plan = Plan(),  # noqa: B008  an immutable default
        folder: Path | None = None,
        **limits: Any,
    ) -> None:
        self.plan, self.folder, self._limits = plan, folder, limits
        self.swaps = {arm: Swap(model, checks) for arm, model in models.items()}
        self.breakers = {arm: Breaker(**limits) for arm in models}
        self._retired: dict[str, Breaker] = {}
        self.shelves = {} if folder is None else {a: Shelf(folder, SHELVES[a]) for a in models}
        for arm, shelf in self.shelves.items():
            shelf.knows(models[arm])
        self._one, self.stopped = threading.Lock(), ""
        if folder is not None and (folder / "stopped").exists():
            self.stopped = (folder / "stopped").read_text(errors="replace") or "stopped"

    @staticmethod
    def load(folder: Path) -> tuple[dict[str, Any], list[str]]:
        """Return the models that serve from a folder, and what was wrong with their files.

        Without the control's own its value is None, and the service has to do without; without a
        treatment's there is no experiment.
        """
        control, why = Shelf(folder).start()
        models, faults = {CONTROL: control}, [why] if why else []
        treatment = Shelf(folder, SHELVES[TREATMENT])
        if treatment.there:
            value, why = treatment.start()
            if value is not None:
                models[TREATMENT] = value
            faults += [f"no experiment: {why}" if value is None else why] if why else []
        return models, faults

    def digest(self, arm: str, value: Any) -> str:
        """Return what names an arm's model in a log, also after a restart; "" without a file."""
        return self.shelves[arm].digest(value) if arm in self.shelves else ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one change at a time; who comes meanwhile is told, and takes no thread."""
        if not self._one.acquire(blocking=False):
            raise Busy("another change of the models is on its way")
        try:
            yield
        finally:
            self._one.release()

    def _renew(self, arm: str) -> None:
        """Give a new model its own breaker; the old one ends later: requests may hold it."""
        if arm in self._retired:
            self._retired[arm].close()
        self._retired[arm] = self.breakers[arm]
        self.breakers[arm] = Breaker(**self._limits)

    def runs(self, user: int | None) -> bool:
        """Return whether a user is in an experiment; None is nobody."""
        return user is not None and not self.stopped and len(self.swaps) > 1

    def of(self, user: int | None) -> str:
        """Return the arm that answers a user."""
        return self.plan.arm(user) if self.runs(user) else CONTROL

    def refresh(self) -> dict[str, Any]:
        """Try what is offered in the folder; return the control's outcome, others by arm.

        Raises
        ------
        Busy
            While another refresh, or a way back, goes on.
        """
        told = {}
        with self._alone():
            for arm, shelf in self.shelves.items():
                if arm == CONTROL or shelf.offered:
                    outcome = shelf.refresh(self.swaps[arm])
                    if outcome.swapped:
                        self._renew(arm)
                    told[arm] = outcome._asdict()
        return told.pop(CONTROL) | told

    def back(self) -> Version:
        """Let the control's model before serve again.

        Raises
        ------
        LookupError
            If none is kept.
        Busy
            As :meth:`refresh`.
        """
        swap = self.swaps[CONTROL]
        with self._alone():
            shelf = self.shelves.get(CONTROL)
            version = swap.back() if shelf is None else shelf.back(swap)
            self._renew(CONTROL)
            return version

    def stop(self, why: str) -> None:
        """End the experiment: the control answers everybody."""
        self.stopped = why or "stopped"
        if self.folder is not None:
            write_whole(self.folder / "stopped", self.stopped.encode())

    def ages(self, now: pd.Timestamp, hours: float) -> list[Row]:
        """Return a check of each model that answers: it has ``trained``, a Timestamp."""
        asked = [arm for arm in self.swaps if arm == CONTROL or not self.stopped]
        made = [getattr(self.swaps[arm].current.value, "trained", pd.NaT) for arm in asked]
        return [age(SHELVES[a], one, now, hours) for a, one in zip(asked, made, strict=True)]

    def close(self) -> None:
        """End the threads."""
        for breaker in (*self.breakers.values(), *self._retired.values()):
            breaker.close()
