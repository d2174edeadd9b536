"""The folder from which a model serves: what is offered there is tried, then kept or refused.

A training writes ``NAME.offered``; the service takes it, checks it in a
:class:`casebook.serving.swap.Swap`, and only what passed becomes ``NAME.serves``, which a start
loads. What was refused stays as ``NAME.refused``, to be looked at. Arrays are mapped, not copied:
a model of gigabytes is there within milliseconds, while requests go on. It trusts the folder, which
is the service's own: a pickle can run code.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> shelf = Shelf(folder.name)
>>> shelf.put([1.0, 2.0])
>>> served = Swap(shelf.serves(), {"size": lambda new, old: "" if len(new) > 1 else "too short"})
>>> shelf.offer([3.0])
>>> shelf.refresh(served).why, shelf.serves()
('size: too short', [1.0, 2.0])
>>> shelf.offer([4.0, 5.0])
>>> shelf.refresh(served).swapped, shelf.serves(), shelf.back(served).value, shelf.serves()
(True, [4.0, 5.0], [1.0, 2.0], [1.0, 2.0])
>>> shelf.refresh(served).why
'build: ValueError: nothing is offered in ...: let a training offer a model'
>>> folder.cleanup()
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import threading
from pathlib import Path
from typing import Any, BinaryIO

from casebook.project import write_whole
from casebook.serving.swap import Outcome, Swap, Version

#: At the head of a file; then the number of parts, their sizes, and each at a multiple of 64.
MAGIC, ALIGNED = b"shelf 1\n", 64


def _next(at: int) -> int:
    return -(-at // ALIGNED) * ALIGNED


def write(path: Path, value: Any) -> None:
    """Write an object so that :func:`read` maps its arrays; a reader sees the old file or all."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    blocks = [memoryview(body), *(buffer.raw() for buffer in buffers)]

    def into(file: BinaryIO) -> None:
        file.write(MAGIC + struct.pack(f"<{1 + len(blocks)}Q", len(blocks), *map(len, blocks)))
        for block in blocks:
            file.write(bytes(_next(file.tell()) - file.tell()))
            file.write(block)

    write_whole(path, into)


def read(path: Path) -> Any:
    """Return what :func:`write` wrote; what is done to its arrays stays in this process.

    Raises
    ------
    ValueError
        If there is no such file, or it is not whole.
    """
    try:
        with open(path, "rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        if whole[: len(MAGIC)] != MAGIC:
            raise ValueError("it is none of a shelf")
        begin = len(MAGIC)
        (count,) = struct.unpack_from("<Q", whole, begin)
        sizes = struct.unpack_from(f"<{count}Q", whole, begin + 8)
        at, blocks = begin + 8 * (1 + count), []
        for size in sizes:
            at = _next(at)
            blocks.append(whole[at : at + size])
            at += size
        if at > len(whole):
            raise ValueError("it was cut off")
        return pickle.loads(blocks[0], buffers=blocks[1:])
    except Exception as error:  # what a broken pickle raises has no common name
        raise ValueError(f"{path.name}: {type(error).__name__}: {error}"[:300]) from None


class Shelf:
    """The files of one model.

    Parameters
    ----------
    folder : Path or str
    name : str
    """

    def __init__(self, folder: Path | str, name: str = "model") -> None:
        self.folder, self.name, self._one = Path(folder), name, threading.Lock()

    def _path(self, state: str) -> Path:
        return self.folder / f"{self.name}.{state}"

    def _link(self, state: str, other: str) -> None:
        """Let a second name stand for a file: at no moment is the first one missing."""
        fresh = self._path(f"{other}.new")
        fresh.unlink(missing_ok=True)
        os.link(self._path(state), fresh)
        os.replace(fresh, self._path(other))

    def put(self, model: Any) -> None:
        """Let a model serve unchecked: the first one."""
        write(self._path("serves"), model)

    def offer(self, model: Any) -> None:
        """Leave a model to be tried."""
        write(self._path("offered"), model)

    @property
    def offered(self) -> bool:
        """Whether a model waits to be tried."""
        return self._path("offered").exists()

    @property
    def there(self) -> bool:
        """Whether there is a model that serves."""
        return self._path("serves").exists()

    def serves(self) -> Any:
        """Return the model that passed last, or was put there.

        Raises
        ------
        ValueError
            If there is none, or its file is not whole.
        """
        return read(self._path("serves"))

    def refresh(self, swap: Swap) -> Outcome:
        """Let what is offered serve, if it passes the checks of a swap, also after a restart."""
        with self._one:
            outcome = swap.offer(self._taken)
            if outcome.swapped:
                if self.there:
                    self._link("serves", "before")
                os.replace(self._path("tried"), self._path("serves"))
            elif self._path("tried").exists():
                os.replace(self._path("tried"), self._path("refused"))
            return outcome

    def back(self, swap: Swap) -> Version:
        """Let the one before serve again, also after a restart.

        Raises
        ------
        LookupError
            If the swap keeps none.
        """
        with self._one:
            version = swap.back()
            if self._path("before").exists():
                self._link("serves", "refused")
                os.replace(self._path("before"), self._path("serves"))
            return version

    def _taken(self) -> Any:
        """Take the offer from its place, so that a newer one is not mistaken for it."""
        try:
            os.replace(self._path("offered"), self._path("tried"))
        except FileNotFoundError:
            what = f"nothing is offered in {self.folder}: let a training offer a model"
            raise ValueError(what) from None
        return read(self._path("tried"))
