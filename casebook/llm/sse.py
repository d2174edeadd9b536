"""Server-sent events, as models stream them: the data of each, however the bytes are cut.

Examples
--------
>>> import asyncio
>>> async def read(*chunks):
...     async def sent():
...         for chunk in chunks:
...             yield chunk
...     return [together async for together in events(sent())]
>>> asyncio.run(read(b"data: on", b"e\\n\\n: quiet\\n\\ndata: two\\n\\ndata: three\\n\\n"))
[['one', 'two', 'three']]
"""

from __future__ import annotations

from collections.abc import AsyncIterator

#: Bytes of one event.
LARGEST = 1_000_000


async def events(chunks: AsyncIterator[bytes], most: int = LARGEST) -> AsyncIterator[list[str]]:
    """Yield the data of the events that came together.

    Parameters
    ----------
    chunks : async iterator of bytes
    most : int
        Bytes of an event.

    Raises
    ------
    ValueError
        If an event does not end in time, or is no UTF-8.
    """
    rest, lines = b"", []
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        found = []
        for line in whole:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                lines.append(line[5:].removeprefix(b" "))
            elif not line and lines:
                found.append(b"\n".join(lines).decode())
                lines = []
        if found:
            yield found
        if len(rest) + sum(map(len, lines)) > most:
            raise ValueError(f"an event has more than {most:,} bytes")
