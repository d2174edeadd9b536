"""What the sources send and the parts share: documents, grants, and events of the feeds.

An event says the *whole* new state of one thing (a document's text, all grants of a resource, all
members of a group), never a difference. So it can be applied twice, and an older one that comes
late is known by its ``seq`` and left out: for each :attr:`Event.key` the highest ``seq`` holds.

Who may see a document
----------------------
A resource is a document, or a container (space, folder, channel, project) that holds documents and
containers. A user's principals are the user, the groups that have the user as a member, the groups
that have those groups as members, and so on. The user sees the document if

1. the user is active, and the chain from the document through its containers reaches a container
   without a parent, and
2. some principal of the user is allowed on the document or on a container of the chain, and
3. no principal of the user is denied on any of them: deny wins at any depth.

Nobody is allowed by default. What is not known hides: a container or a user that no event has told
of, a chain that goes round in a circle. A user who leaves sees nothing from the moment at which
we are told, whatever the clocks say.

Examples
--------
>>> page = Document("wiki:d7", "wiki", "Legal/Retention", "Retention", "Keep it 7 years.", 1,
...                 moment("2025-03-01T09:30:00"), "user:17", False, "wiki:c2")
>>> told = Event("wiki", 12, moment("2025-03-01T09:30:05"), "document", page.id, page)
>>> event_of(as_json(told)) == told
True
>>> grants = (Grant("wiki:c2", "group:legal", "allow"), Grant("wiki:c2", "user:17", "deny"))
>>> as_json(Event("wiki", 13, moment("2025-03-02"), "grants", "wiki:c2", grants))["payload"]
[['group:legal', 'allow'], ['user:17', 'deny']]
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

#: Sources of documents, and the feed of users and groups.
SOURCES = ("wiki", "drive", "chat", "tickets")
DIRECTORY = "directory"
#: Kind of an event → what its payload is.
KINDS = {
    "document": "Document: the document as it is from now on",
    "deleted": "None: the document is gone",
    "container": "str: the container's parent, '' if it has none",
    "grants": "tuple of Grant: all that are set on the resource itself",
    "members": "tuple of str: all direct members of the group, users and groups",
    "user": "bool: whether the user is active",
}
EFFECTS = ("allow", "deny")
PRINCIPAL = re.compile(r"(user|group):[a-z0-9_.-]{1,80}")
RESOURCE = re.compile(r"(wiki|drive|chat|tickets):[cd][0-9]{1,12}")
TIME = re.compile(r"[12]\d{3}-\d\d-\d\d(T\d\d:\d\d:\d\d)?", re.ASCII)
#: Characters of a title or path, and of a body, that a connector takes.
LONGEST_LINE, LONGEST_BODY = 400, 200_000


def moment(text: str | np.datetime64) -> np.datetime64:
    """Return a time of UTC in whole seconds; ``ValueError`` for what is no time."""
    try:
        if isinstance(text, np.datetime64) or TIME.fullmatch(text):
            at = np.datetime64(text, "s")
            if not np.isnat(at):
                return at
    except ValueError:
        pass
    raise BadEntry("%s is no time; send UTC as 2025-10-07T10:00:00", str(text))


class BadEntry(ValueError):
    """What a feed has sent is no event.

    Parameters
    ----------
    what : str
        What is wrong, with ``%s`` where something stands that was sent.
    *sent

    Attributes
    ----------
    why : str
        The message without any text that was sent: it is kept where nobody asks who may see it.
    """

    def __init__(self, what: str, *sent: Any) -> None:
        super().__init__(what % tuple(repr(one)[:90] for one in sent))
        self.why = what % tuple(one if type(one) is int else "…" for one in sent)


@dataclass(frozen=True, slots=True)
class Document:
    """A version of a document.

    Attributes
    ----------
    id : str
        ``"wiki:d7"``: source, then ``d`` and a number.
    source : str
        One of :data:`SOURCES`.
    path : str
        Where a reader finds it: names of the containers, then its own.
    title, body : str
        Text. A table is lines of ``|``, a deck of slides has a line ``# Slide 3: title`` for each.
    version : int
        From 1; a later one replaces it.
    modified : datetime64[s]
        When this version was written, UTC.
    owner : str
        Principal who answers for it.
    critical : bool
        Whether a change must be searchable in seconds, not in the hour.
    container : str
        ``"wiki:c2"``: what holds it, and passes on its grants.
    told : int
        0 as the source sends it. In our copy ``version`` is our own number of the edition, which
        rises with every one that we take, and this is the source's: a document that is deleted and
        written again, or a server that is restored, may use a number twice.
    """

    id: str
    source: str
    path: str
    title: str
    body: str
    version: int
    modified: np.datetime64
    owner: str
    critical: bool
    container: str
    told: int = 0

    def edition(self, number: int) -> Document:
        """Return the document under our own number of its edition."""
        return replace(self, version=number, told=self.version)

    def as_told(self) -> Document:
        """Return the document as its source sent it."""
        return replace(self, version=self.told or self.version, told=0)

    @property
    def digest(self) -> str:
        """Hash of what is searched, title and body: equal texts need no new vectors."""
        return hashlib.sha256(f"{self.title}\0{self.body}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Grant:
    """``principal`` is allowed to see ``resource``, or denied it, whatever else allows it."""

    resource: str
    principal: str
    effect: str


#: Fields of a document's payload.
SENT = tuple(name for name in Document.__slots__ if name not in ("id", "source", "told"))
Payload = Document | tuple[Grant, ...] | tuple[str, ...] | str | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """The new state of one thing.

    Attributes
    ----------
    source : str
        One of :data:`SOURCES`, or :data:`DIRECTORY`.
    seq : int
        Place in the order in which things happened at the source; it may arrive in another order,
        and more than once.
    at : datetime64[s]
        When it happened, UTC.
    kind : str
        One of :data:`KINDS`.
    subject : str
        Document, resource, container, group or user.
    payload : Document, tuple, str, bool or None
        As :data:`KINDS` says. None for any kind: it could not be read, and what it speaks of is
        hidden until the next event of its key.
    """

    source: str
    seq: int
    at: np.datetime64
    kind: str
    subject: str
    payload: Payload = None

    @property
    def key(self) -> tuple[str, str]:
        """What the event sets: the event of a key with the highest ``seq`` holds."""
        return ("document" if self.kind == "deleted" else self.kind, self.subject)


def as_json(event: Event) -> dict[str, Any]:
    """Return an event as what a feed sends."""
    payload: Any = event.payload
    if isinstance(payload, Document):
        payload = {name: getattr(payload, name) for name in SENT}
        payload["modified"] = str(payload["modified"])
    elif payload is not None and event.kind == "grants":
        payload = [[grant.principal, grant.effect] for grant in event.payload]
    elif payload is not None and event.kind == "members":
        payload = list(event.payload)
    fields = {name: getattr(event, name) for name in ("source", "seq", "kind", "subject")}
    return fields | {"at": str(event.at), "payload": payload}


def event_of(sent: Mapping[str, Any]) -> Event:
    """Return the event that a feed has sent.

    Raises
    ------
    ValueError
        If something is missing, unknown or of the wrong form; it says what.
    """
    _need(isinstance(sent, Mapping), "an event is not an object")
    names = {"source", "seq", "at", "kind", "subject", "payload"}
    _need(set(sent) == names, "fields %s are missing or unknown", sorted(names ^ set(sent)))
    source, seq, kind, subject = (sent[name] for name in ("source", "seq", "kind", "subject"))
    _need(source in (*SOURCES, DIRECTORY), "source %s is unknown", source)
    _need(_number(seq, 0), "seq %s is no whole number from 0", seq)
    _need(isinstance(kind, str) and kind in KINDS, "kind %s is unknown", kind)
    _need(isinstance(subject, str), "subject is no text")
    of_directory = kind in ("members", "user")
    _need((source == DIRECTORY) == of_directory, f"{source} does not send {kind!r}")
    right = PRINCIPAL if of_directory else RESOURCE
    _need(right.fullmatch(subject) is not None, f"subject %s is no {right.pattern}", subject)
    _need(of_directory or subject.startswith(f"{source}:"), f"{subject} is not of {source}")
    if kind in ("document", "deleted", "container"):
        _need((":c" in subject) == (kind == "container"), f"{subject} is no {kind}")
    at = moment(_text(sent["at"], "at"))
    return Event(source, seq, at, kind, subject, _payload(kind, subject, sent["payload"]))


def closing(sent: Any, source: str) -> Event | None:
    """Return the event that hides what an entry speaks of that is none, as far as one can read it.

    What cannot be read may have been a loss of rights. Nothing else is believed of the entry, and
    nothing about what is not the feed's own.

    Parameters
    ----------
    sent : any value of JSON
    source : str
        Of the feed that has sent it.

    Returns
    -------
    Event or None
        With ``seq`` -1 if that cannot be read either.

    Examples
    --------
    >>> told = closing({"subject": "wiki:c2", "kind": "grants", "seq": 7}, "wiki")
    >>> told.kind, told.subject, told.payload, told.seq
    ('grants', 'wiki:c2', None, 7)
    >>> closing({"subject": "chat:c2", "kind": "grants", "seq": 7}, "wiki")
    """
    subject = sent.get("subject") if isinstance(sent, Mapping) else None
    right = PRINCIPAL if source == DIRECTORY else RESOURCE
    if not isinstance(subject, str) or not right.fullmatch(subject):
        return None
    if source != DIRECTORY and not subject.startswith(f"{source}:"):
        return None
    sort = subject.split(":")[0] if source == DIRECTORY else subject.split(":")[1][0]
    kind = {"user": "user", "group": "members", "c": "container", "d": "deleted"}[sort]
    if source != DIRECTORY and sent.get("kind") == "grants":
        kind = "grants"
    seq = sent.get("seq")
    try:
        at = moment(sent.get("at", ""))
    except (TypeError, ValueError):
        at = moment("1970-01-01")
    return Event(source, seq if _number(seq, 0) else -1, at, kind, subject)


def _number(sent: Any, least: int) -> bool:
    """Say whether it is a whole number that a store and a reader of JSON keep as it is."""
    return type(sent) is int and least <= sent < 2**53


def _payload(kind: str, subject: str, sent: Any) -> Payload:
    """Return the payload of a kind, checked."""
    if kind == "document":
        return _document(subject, sent)
    if kind == "deleted":
        _need(sent is None, "a deletion has a payload")
        return None
    if kind == "user":
        _need(type(sent) is bool, "payload of a user is not true or false")
        return sent
    if kind == "container":
        _need(sent == "" or _container_of(subject, sent), "parent %s is no container", sent)
        return sent
    _need(isinstance(sent, list), f"payload of {kind} is no list")
    if kind == "members":
        _need(all(_principal(one) for one in sent), f"a member of {subject} is no principal")
        return tuple(sent)
    pairs = all(isinstance(one, list) and len(one) == 2 for one in sent)
    _need(pairs, f"a grant of {subject} is no pair of principal and effect")
    for principal, effect in sent:
        _need(_principal(principal), f"%s in a grant of {subject} is no principal", principal)
        right = isinstance(effect, str) and effect in EFFECTS
        _need(right, f"effect %s of {subject} is neither allow nor deny", effect)
    return tuple(Grant(subject, principal, effect) for principal, effect in sent)


def _document(subject: str, sent: Any) -> Document:
    right = isinstance(sent, Mapping) and set(sent) == {*SENT}
    _need(right, f"{subject} needs {sorted(SENT)}")
    for name, most in (("path", LONGEST_LINE), ("title", LONGEST_LINE), ("body", LONGEST_BODY)):
        length = len(_text(sent[name], f"{name} of {subject}"))
        _need(length <= most, f"{name} of {subject} has {length:,} characters, over {most:,}")
    _need(_number(sent["version"], 1), f"version of {subject} is no number from 1")
    _need(type(sent["critical"]) is bool, f"critical of {subject} is not true or false")
    _need(_principal(sent["owner"]), f"owner of {subject} is no principal")
    _need(_container_of(subject, sent["container"]), f"container of {subject} is none")
    modified = moment(_text(sent["modified"], f"modified of {subject}"))
    return Document(id=subject, source=subject.split(":")[0], **{**sent, "modified": modified})


def _principal(sent: Any) -> bool:
    return isinstance(sent, str) and PRINCIPAL.fullmatch(sent) is not None


def _container_of(subject: str, sent: Any) -> bool:
    """Say whether it names a container of the subject's own source."""
    named = isinstance(sent, str) and RESOURCE.fullmatch(sent) is not None
    return named and sent.startswith(subject.split(":")[0] + ":c")


def _text(sent: Any, of: str) -> str:
    _need(isinstance(sent, str), f"{of} is no text")
    try:
        sent.encode()
    except UnicodeEncodeError:
        raise BadEntry(f"{of} has half a character") from None
    return sent


def _need(right: bool, what: str, *sent: Any) -> None:
    if not right:
        raise BadEntry(what, *sent)
