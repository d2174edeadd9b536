"""Who may see what, and what is true: slow and plain, for everything else to be held against.

:class:`State` knows no store, cache or index. It takes events in any order, as often as they come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import pandas as pd

from ..records import Document, Event, Grant
from .documents import World


class State:
    """The firm and its documents as the events leave them.

    Parameters
    ----------
    events : iterable of Event
        Of any sources, in any order; repeated ones count once.
    at : datetime64[s], optional
        Events after this second are left out.

    Attributes
    ----------
    documents : dict of str to Document
    parents : dict of str to str
        Container → the one above, '' at the top.
    grants : dict of str to tuple of Grant
    members : dict of str to tuple of str
    active : dict of str to bool
    """

    def __init__(self, events: Iterable[Event], at: np.datetime64 | None = None) -> None:
        last: dict[tuple[str, str], Event] = {}
        for event in events:
            held = last.get(event.key)
            if (at is None or event.at <= at) and (held is None or event.seq > held.seq):
                last[event.key] = event
        found: dict[str, dict] = defaultdict(dict)
        for event in last.values():
            found[event.kind][event.subject] = event.payload
        self.documents: dict[str, Document] = found["document"]
        self.parents: dict[str, str] = found["container"]
        self.grants: dict[str, tuple[Grant, ...]] = found["grants"]
        self.members: dict[str, tuple[str, ...]] = found["members"]
        self.active: dict[str, bool] = found["user"]

    @cached_property
    def _holders(self) -> dict[str, list[str]]:
        """Return the groups that have each principal as a direct member."""
        held = defaultdict(list)
        for group, members in self.members.items():
            for member in members:
                held[member].append(group)
        return held

    def principals(self, user: str) -> set[str]:
        """Return the user and every group that holds it, directly or through other groups."""
        found, open_ = {user}, [user]
        while open_:
            new = [group for group in self._holders[open_.pop()] if group not in found]
            found.update(new)
            open_ += new
        return found

    def chain(self, resource: str) -> tuple[str, ...]:
        """Return the resource and its containers; nothing if they do not lead to the top."""
        found = []
        if resource in self.documents:
            found, resource = [resource], self.documents[resource].container
        while resource:
            if resource not in self.parents or resource in found:
                return ()
            found.append(resource)
            resource = self.parents[resource]
        return tuple(found)

    def may_see(self, user: str, document: str) -> bool:
        """Say whether a user may see a document (:mod:`..records` has the rule)."""
        if document not in self.documents:
            return False
        return self.active.get(user, False) and self._open(self.principals(user), document)

    @cached_property
    def _granted(self) -> dict[str, list[Grant]]:
        """Return the grants of each document and of all that holds it."""
        return {
            document: [
                grant for name in self.chain(document) for grant in self.grants.get(name, ())
            ]
            for document in self.documents
        }

    def _open(self, principals: set[str], document: str) -> bool:
        granted = self._granted[document]
        return {grant.effect for grant in granted if grant.principal in principals} == {"allow"}

    def visible(self, user: str) -> set[str]:
        """Return the documents that a user may see."""
        if not self.active.get(user, False):
            return set()
        principals = self.principals(user)
        return {document for document in self.documents if self._open(principals, document)}


def said_now(world: World, state: State, at: np.datetime64) -> pd.DataFrame:
    """Return the statements that stand in the documents as they are.

    Parameters
    ----------
    world : World
    state : State
        Of the time ``at``.
    at : datetime64[s]

    Returns
    -------
    DataFrame
        Rows of ``world.statements``, and ``true``: whether the value holds at that time.
    """
    said = world.statements
    said = said[(said["at"] <= at) & said["document"].isin(state.documents.keys())]
    said = said[said["version"] == said.groupby("document")["version"].transform("max")]
    facts = true_at(world, at).set_index("fact")["value"]
    return said.assign(true=said["value"] == said["fact"].map(facts)).reset_index(drop=True)


def true_at(world: World, at: np.datetime64) -> pd.DataFrame:
    """Return the facts with the value that holds at a time, one row each."""
    facts = world.facts
    holds = (facts["since"] <= at) & ~(facts["until"] <= at)
    return facts[holds].reset_index(drop=True)
