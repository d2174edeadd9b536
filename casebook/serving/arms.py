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

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from casebook.evaluate.assign import CONTROL, TREATMENT, arm_of
from casebook.project import write_whole
from casebook.serving.breaker import Breaker
from casebook.serving.checks import Check as Row
from casebook.serving.checks import age
from casebook.serving.shelf import Shelf
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
        By arm; ``control`` at least.
    checks : mapping of str to callable
        Of :class:`~casebook.serving.swap.Swap`, for all arms.
    plan : Plan
    folder : Path, optional
        Of the shelves; its file ``stopped`` says why the experiment was ended, until somebody takes
        it away.
    **limits : float
        Of each arm's :class:`~casebook.serving.breaker.Breaker`.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        checks: Mapping[str, Check],
        plan: Plan = Plan(),  # noqa: B008  an immutable default
        folder: Path | None = None,
        **limits: Any,
    ) -> None:
        self.plan, self.folder = plan, folder
        self.swaps = {arm: Swap(model, checks) for arm, model in models.items()}
        self.breakers = {arm: Breaker(**limits) for arm in models}
        self.stopped = ""
        if folder is not None and (folder / "stopped").exists():
            self.stopped = (folder / "stopped").read_text() or "stopped"

    @staticmethod
    def load(folder: Path) -> tuple[dict[str, Any], list[str]]:
        """Return the models that serve from a folder, and why there is no experiment.

        Raises
        ------
        ValueError
            If the control's is not there, or not whole.
        """
        models, treatment = {CONTROL: Shelf(folder).serves()}, Shelf(folder, SHELVES[TREATMENT])
        if not treatment.there:
            return models, []
        try:
            return models | {TREATMENT: treatment.serves()}, []
        except ValueError as error:  # the control's users wait for no experiment
            return models, [f"no experiment: {error}"]

    def runs(self, user: int | None) -> bool:
        """Return whether a user is in an experiment; None is nobody."""
        return user is not None and not self.stopped and len(self.swaps) > 1

    def of(self, user: int | None) -> str:
        """Return the arm that answers a user."""
        return self.plan.arm(user) if self.runs(user) else CONTROL

    def refresh(self) -> dict[str, Any]:
        """Try what is offered in the folder; return the control's outcome, others by arm."""
        shelves = {arm: Shelf(self.folder, SHELVES[arm]) for arm in self.swaps}
        told = {
            arm: shelf.refresh(self.swaps[arm])._asdict()
            for arm, shelf in shelves.items()
            if arm == CONTROL or shelf.offered
        }
        return told.pop(CONTROL) | told

    def back(self) -> Version:
        """Let the control's model before serve again.

        Raises
        ------
        LookupError
            If none is kept.
        """
        swap = self.swaps[CONTROL]
        return swap.back() if self.folder is None else Shelf(self.folder).back(swap)

    def stop(self, why: str) -> None:
        """End the experiment: the control answers everybody."""
        self.stopped = why or "stopped"
        if self.folder is not None:
            write_whole(self.folder / "stopped", self.stopped.encode())

    def ages(self, now: pd.Timestamp, hours: float) -> list[Row]:
        """Return a check of each model that answers: it has ``trained``, a Timestamp."""
        asked = [arm for arm in self.swaps if arm == CONTROL or not self.stopped]
        values = [self.swaps[arm].current.value for arm in asked]
        return [age(SHELVES[a], v.trained, now, hours) for a, v in zip(asked, values, strict=True)]

    def close(self) -> None:
        """End the threads."""
        for breaker in self.breakers.values():
            breaker.close()
