"""Four source servers and the directory, with the faults of real ones (:mod:`.deltas` serves them).

Each tells its events late, repeated and in pages. Its lane ``access`` has grants, containers,
groups, users, deletions, and documents that move to another container; its lane ``critical`` the
changes of critical documents; both also stand in ``all``. So a connector that reads ``access``
first closes a document that was shut while ten thousand others wait, and never shows an early
version in a place that the document has left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from casebook.serving.deltas import ALL, Faults, Feed, Told, disordered, feed_app

from ..records import DIRECTORY, SOURCES, Document, Event, as_json, moment
from .documents import simulate

if TYPE_CHECKING:
    from fastapi import FastAPI

ACCESS, CRITICAL = "access", "critical"
#: The most urgent first.
LANES = (ACCESS, CRITICAL, ALL)


def told(events: Iterable[Event], places: dict[str, str] | None = None) -> list[Told]:
    """Return events of a source, in order, as entries of a feed, each with its fast lane.

    Parameters
    ----------
    events : iterable of Event
    places : dict, optional
        Document → the container where it was; kept up to date.
    """
    places, entries = {} if places is None else places, []
    for event in events:
        lane = ACCESS
        if isinstance(event.payload, Document):
            was = places.get(event.subject, event.payload.container)
            places[event.subject] = event.payload.container
            if was == event.payload.container:
                lane = CRITICAL if event.payload.critical else ""
        entries.append((as_json(event), lane))
    return entries


def source_apps(
    events: Iterable[Event], seed: int = 0, faults: Faults | None = None, disorder: bool = True
) -> FastAPI:
    """Return one application with the five servers, at ``/wiki`` to ``/directory``.

    Parameters
    ----------
    events : iterable of Event
        That they tell; more are published to ``/wiki/publish`` and so on.
    seed : int
        Of what is late and repeated.
    faults : Faults, optional
    disorder : bool
        Whether any is.
    """
    from casebook.serving.app import bare_app

    app, known = bare_app("sources"), list(events)
    for number, source in enumerate((*SOURCES, DIRECTORY)):
        mine = told(event for event in known if event.source == source)
        mine = disordered(mine, seed + number) if disorder else mine
        app.mount(f"/{source}", feed_app(Feed(mine), faults, source))
    return app


def serve(seed: int, until: str = "", disorder: bool = True, **sizes: Any) -> FastAPI:
    """Return the servers of a world, for a process of their own (``casebook.serving.load.Server``).

    Parameters
    ----------
    seed : int
    until : str
        Last second that they tell; all by default.
    disorder : bool
        Whether events come late and repeated.
    sizes : int or float
        Of :func:`.documents.simulate`, and the fields of
        :class:`~casebook.serving.deltas.Faults`.
    """
    faults = {name: sizes.pop(name) for name in Faults.__dataclass_fields__ if name in sizes}
    world = simulate(seed, **sizes)
    last = moment(until) if until else world.firm.end
    events = (event for event in (*world.firm.events, *world.events) if event.at <= last)
    return source_apps(events, seed, Faults(**faults), disorder)
