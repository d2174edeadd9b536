"""Bugs in the steps to an effect: what a hunt for unauthorised effects has to find.

Each is a mix-in that goes before a :class:`~casebook.serving.proposals.Proposals`, a few lines as
they are in real code. A suite that lets one of them pass does not test that step.

Examples
--------
>>> class Fair(Proposals):
...     def decide(self, content, but=""):
...         return Verdict("do")
>>> done = []
>>> send = lambda key, content: done.append(key) or {"state": "done"}
>>> buggy = type("Buggy", (NoYes, Fair), {})(send, (), float)
>>> buggy.propose("ann", {"euro": 5})[0].kind, len(done)
('do', 1)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from casebook.serving.proposals import Proposals, Verdict


def _told(content: Mapping[str, Any]) -> str:
    return json.dumps(dict(content), sort_keys=True)


class DecidedOnce(Proposals):
    """The policy decides when something is proposed, and not again when it is confirmed."""

    def decide(self, content: Mapping[str, Any], but: str = "") -> Verdict:
        """Return what was decided first."""
        kept = self.__dict__.setdefault("_kept", {})
        return kept.setdefault(_told(content), super().decide(content, but))


class NewKey(Proposals):
    """What was not answered is asked for again under a new key."""

    def key(self, row: Mapping[str, Any]) -> str:
        """Return a key of this attempt."""
        return f"{row['id']}-{self.__dict__.setdefault('_tries', Counter())[row['id']]}"

    def _settled(self, row: Mapping[str, Any]) -> str:
        state = super()._settled(row)
        if state == "doing":
            self._tries[row["id"]] += 1
            self.once.begin(self.key(row), self.request(row))
        return state


class ForgottenKey(Proposals):
    """A key is sent again however old it is, though the other side has forgotten it."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.once._young = lambda first: True


class AnswerNotRead(Proposals):
    """Whatever the other system answers counts as done."""

    def _final(self, row: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
        return super()._final(row, {**answer, "state": "done"})


class NoYes(Proposals):
    """What the policy allows is done at once, without asking the owner."""

    def propose(self, owner: str, content: Mapping[str, Any]) -> tuple[Verdict, str]:
        """Propose, and confirm."""
        verdict, ident = super().propose(owner, content)
        if ident:
            self.confirm(owner, ident, True)
        return verdict, ident


class AnybodyAllows(Proposals):
    """Who decides about what waits is not looked at."""

    def allow(self, ident: str, who: str, yes: bool) -> str:
        """Allow, as if one of the staff had."""
        return super().allow(ident, sorted(self.approvals._staff)[0], yes)


class OwnWish(Proposals):
    """Names are compared and not people: somebody of the staff allows an own wish."""

    def may(self, who: str, by: str, content: Mapping[str, Any]) -> bool:
        """Compare names."""
        return who != by


class ChangedAfter(Proposals):
    """A second proposal of an owner is written over the first one, which was shown."""

    def propose(self, owner: str, content: Mapping[str, Any]) -> tuple[Verdict, str]:
        """Propose, in place of what is open."""
        verdict, ident = super().propose(owner, content)
        if ident:
            query = "UPDATE proposals SET content = ? WHERE owner = ? AND state = 'proposed'"
            self._db.execute(query, (_told(content), owner))
        return verdict, ident


class NoAudit(Proposals):
    """Only what is refused is written down."""

    def _note(self, what: str, *given: Any) -> None:
        if what in ("refused", "declined"):
            super()._note(what, *given)


#: What a hunt has to find.
STEPS: dict[str, type[Proposals]] = {
    "decided once": DecidedOnce,
    "new key after a time-out": NewKey,
    "key sent after it was forgotten": ForgottenKey,
    "answer of the provider not read": AnswerNotRead,
    "no confirmation": NoYes,
    "anybody approves": AnybodyAllows,
    "staff allow their own": OwnWish,
    "changed after it was shown": ChangedAfter,
    "no audit of effects": NoAudit,
}
