"""The folder from which a model serves: what is offered there is tried, then kept or refused.

A training writes ``NAME.offered``; the service takes it, checks it in a
:class:`casebook.serving.swap.Swap`, and only what passed becomes ``NAME.serves``, which a start
loads. What was refused stays as ``NAME.refused``, to be looked at; what a kill interrupted is tried
again; the one before stays as ``NAME.before``, for the way back and for a start whose file is torn.
One object for each model: its lock keeps two refreshes apart. Arrays are mapped, not copied:
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

import hashlib
import mmap
import os
import pickle
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from casebook.project import write_whole
from casebook.serving.swap import Outcome, Swap, Version

#: At the head of a file; then the number of parts, their sizes, each at a multiple of 64, and the
#: SHA-256 of all that, which is the name of a model in each log.
MAGIC, ALIGNED, DIGEST = b"shelf 2\n", 64, 32


class Busy(RuntimeError):
    """Another refresh is on its way: wait for its end."""


def _next(at: int) -> int:
    return -(-at // ALIGNED) * ALIGNED


def write(path: Path, value: Any) -> None:
    """Write an object so that :func:`read` maps its arrays; a reader sees the old file or all."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    blocks = [memoryview(body), *(buffer.raw() for buffer in buffers)]

    def into(file: BinaryIO) -> None:
        told = hashlib.sha256()

        def put(part: bytes | memoryview) -> None:
            file.write(part)
            told.update(part)

        put(MAGIC + struct.pack(f"<{1 + len(blocks)}Q", len(blocks), *map(len, blocks)))
        for block in blocks:
            put(bytes(_next(file.tell()) - file.tell()))
            put(block)
        file.write(told.digest())

    write_whole(path, into)


def read(path: Path) -> Any:
    """Return what :func:`write` wrote; what is done to its arrays stays in this process.

    Raises
    ------
    ValueError
        If there is no such file, or it is not whole.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Any, str]:
    """Return an object and its digest, as the file says it."""
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
        if at + DIGEST > len(whole):
            raise ValueError("it was cut off")
        digest = bytes(whole[at : at + DIGEST]).hex()
        return pickle.loads(blocks[0], buffers=blocks[1:]), digest
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
        self._named: tuple[tuple[Any, str], ...] = ()  # what serves and the one before

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
        """Whether a model waits to be tried, or was being tried when the process was killed."""
        return self._path("offered").exists() or self._path("tried").exists()

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

    def start(self) -> tuple[Any, str]:
        """Return the model that a start serves, None without any, and what was wrong.

        If the file is torn, the one before serves again.
        """
        try:
            return self.serves(), ""
        except ValueError as error:
            why = str(error)
        try:
            value = read(self._path("before"))
            if self.there:
                self._link("serves", "broken")
            self._link("before", "serves")
        except (ValueError, OSError):
            return None, f"{why}; none from before either: let a training offer a model"
        return value, f"{why}; the one before serves: let a training offer a model"

    def knows(self, value: Any) -> None:
        """Note that a model was read from the file that serves."""
        with suppress(ValueError):
            self._note(value, _read(self._path("serves"))[1])

    def _note(self, value: Any, digest: str) -> None:
        """Replace the tuple: a request that looks meanwhile goes on with the old one."""
        self._named = (*self._named[-1:], (value, digest))

    def digest(self, value: Any) -> str:
        """Return twelve digits that name a model, also after a restart; "" if it has no file."""
        return next((name[:12] for kept, name in self._named if kept is value), "")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._one.acquire(blocking=False):
            raise Busy(f"another refresh of the {self.name} is on its way")
        try:
            yield
        finally:
            self._one.release()

    def refresh(self, swap: Swap) -> Outcome:
        """Let what is offered serve, if it passes the checks of a swap, also after a restart.

        Raises
        ------
        Busy
            While another one is tried.
        """
        with self._alone():
            outcome = swap.offer(self._taken, self._settled)
            # For a good one the disk was full: it stays, to be tried again.
            if self._path("tried").exists() and not outcome.why.startswith("settle: "):
                os.replace(self._path("tried"), self._path("refused"))
            return outcome

    def back(self, swap: Swap) -> Version:
        """Let the one before serve again, also after a restart.

        Raises
        ------
        LookupError
            If neither the swap nor the folder keeps one.
        Busy
            While another one is tried.
        """
        with self._alone():
            before, again = self._path("before"), None
            if not swap.kept:
                try:
                    again = _read(before)
                except ValueError as error:
                    raise LookupError(f"no version before this one is kept: {error}") from None
            if before.exists():
                if self.there:
                    self._link("serves", "refused")
                os.replace(before, self._path("serves"))
            if again is not None:
                self._note(*again)
                return swap.restore(again[0])
            version = swap.back()
            self._note(version.value, self.digest(version.value))
            return version

    def _taken(self) -> Any:
        """Take the offer from its place, so that a newer one is not mistaken for it."""
        tried = self._path("tried")
        try:
            os.replace(self._path("offered"), tried)
        except FileNotFoundError:
            if not tried.exists():  # else a kill has interrupted its checks
                what = f"nothing is offered in {self.folder}: let a training offer a model"
                raise ValueError(what) from None
        self._new = _read(tried)
        return self._new[0]

    def _settled(self) -> None:
        """Put what passed where a start finds it, before it serves."""
        with suppress(ValueError):  # what is torn is no way back
            self.serves()
            self._link("serves", "before")
        os.replace(self._path("tried"), self._path("serves"))
        self._note(*self._new)
