"""An event log in a Redis stream: what :class:`~casebook.serving.eventlog.EventLog` is in a file.

Examples
--------
An entry that another program has written is an event with a fault, and stops no one:

>>> event_of("1-0", {"key": "a", "body": "1"}).fault, event_of("2-0", {"key": "a"}).fault
('', 'an entry without body')
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import ClassVar

from casebook.serving.eventlog import BATCH, BEGINNING, LONGEST, Event, Extent, checked

#: Seconds until a server that does not answer is an error.
TIMEOUT = 10.0


class RedisLog:
    """A log in a Redis stream, where a server is there.

    Parameters
    ----------
    url : str
        Such as ``"redis://127.0.0.1:6379/0"``.
    stream : str
        Its key; another one, with ``:origin`` after it, names the stream.
    timeout : float
        Seconds until a server that does not answer is an error. A command is not sent again by
        itself: an append whose answer was lost would be there twice.

    Notes
    -----
    How durable an append is, is the server's setting: with ``appendfsync always`` as the file's.
    Delete the oldest events only (``XTRIM``): of one in the middle (``XDEL``) a consumer cannot
    tell whether it was read. The server is Redis 7 or later, which counts what was appended.
    """

    #: Bytes that are no UTF-8 are shown as such: the event goes aside, and does not stop the read.
    OPTIONS: ClassVar = {"decode_responses": True, "encoding_errors": "backslashreplace"}

    def __init__(self, url: str, stream: str = "events", timeout: float = TIMEOUT) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.stream = stream
        waits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        never = Retry(NoBackoff(), 0)
        self._redis = redis.Redis.from_url(url, **self.OPTIONS, **waits, retry=never)

    def append(self, events: Iterable[tuple[str, str]]) -> str:
        """Append events, all or none: as :meth:`.eventlog.EventLog.append`."""
        events = checked(events)
        with self._redis.pipeline(transaction=True) as pipe:
            for key, body in events:
                pipe.xadd(self.stream, {"key": key, "body": body})
            made = pipe.execute()
        if made:
            return made[-1]
        last = self._redis.xrevrange(self.stream, count=1)
        return last[0][0] if last else BEGINNING

    def read(self, after: str = BEGINNING, n: int = BATCH) -> list[Event]:
        """Return at most ``n`` events after an offset, in order."""
        found = self._redis.xrange(self.stream, min=f"({after}", count=n)
        return [event_of(offset, fields) for offset, fields in found]

    def extent(self) -> Extent:
        """Return how many events were appended and deleted; no body is read."""
        name = f"{self.stream}:origin"
        self._redis.set(name, uuid.uuid4().hex, nx=True)
        origin = self._redis.get(name)
        if not self._redis.exists(self.stream):
            return Extent(origin, 0, 0)
        about = self._redis.xinfo_stream(self.stream)
        return Extent(origin, about["entries-added"], about["entries-added"] - about["length"])

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def event_of(offset: str, fields: dict[str, str]) -> Event:
    """Return an entry of a stream as an event, also if another program has written it."""
    if missing := {"key", "body"} - {*fields}:
        text = json.dumps(fields)[:LONGEST]
        return Event(offset, "", text, f"an entry without {' and '.join(sorted(missing))}")
    return Event(offset, fields["key"], fields["body"])
