"""Fetch public files whole: each is checked by its hash before anything uses it.

``download`` fetches one file; ``assemble`` fetches the members of a data set and puts them
together, and goes on where an earlier run was cut off. Whatever goes wrong is told as a
:class:`FetchFailed` with its cause and its remedy, without paths, hashes or addresses.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from casebook.project import whole

if TYPE_CHECKING:  # pandas takes half a second, and who asks whether a file is there needs none
    import pandas as pd

#: Seconds without an answer after which a server counts as absent.
TIMEOUT = 20
#: A member of a data set is asked for so many times.
ATTEMPTS = 2

_CACHE = "Set `CASEBOOK_CACHE_DIR` to a folder that you may write to"
#: What the system says when a file cannot be stored: cause and remedy.
_STORING = {
    errno.ENOSPC: ("the disk is full", "Free some space"),
    errno.EDQUOT: ("your disk quota is used up", "Free some space"),
    errno.EACCES: ("the download folder may not be written to", _CACHE),
    errno.EPERM: ("the download folder may not be written to", _CACHE),
    errno.EROFS: ("the download folder may not be written to", _CACHE),
    errno.ENOTDIR: ("the path of the download folder leads to a file", _CACHE),
    errno.EEXIST: ("the path of the download folder leads to a file", _CACHE),
    errno.EISDIR: ("a folder is in the file's place", "Remove that folder"),
}


@dataclass(eq=False)  # not frozen: Python itself sets the traceback of an exception
class FetchFailed(Exception):
    """A file could not be fetched or stored.

    Attributes
    ----------
    cause, remedy : str
        Parts of a sentence that may be shown on a page.
    """

    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause}. {self.remedy}."


@dataclass(frozen=True)
class Member:
    """One of the files that a data set is put together from.

    Attributes
    ----------
    file, url, sha256 : str
        Its name, its address at a pinned commit and its hash.
    """

    file: str
    url: str
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(frame: pd.DataFrame) -> str:
    """Return a hash of a table's content, whatever file it is stored in.

    It covers the names of the columns, their kinds and all values, in order. Widths do not count:
    integers are read as 64 bits, times as nanoseconds.

    Parameters
    ----------
    frame : DataFrame
        Columns of integers, floats, times without zone, and texts. Its index is left out.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    TypeError
        On a column of another kind.
    """
    import numpy as np

    digest = hashlib.sha256()
    for name, column in frame.items():
        kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "?"
        if len(column) and all(isinstance(value, str) for value in column):
            texts = [value.encode() for value in column]
            digest.update(f"{name}\0U\0{' '.join(str(len(text)) for text in texts)}\0".encode())
            digest.update(b"".join(texts))
            continue
        if kind not in "iuMf":
            raise TypeError(f"column {name!r} is of type {column.dtype}: no number, time or text")
        if kind == "M":
            column = column.dt.as_unit("ns").astype("int64")
        values = column.to_numpy("<f8" if kind == "f" else "<i8")
        digest.update(f"{name}\0{'i' if kind == 'u' else kind}\0{len(values)}\0".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


@contextmanager
def _faults() -> Iterator[None]:
    """Translate what requests and the system say."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code
        raise FetchFailed(
            f"its server answered with status {status}", "Try again later, or report it"
        ) from error
    except requests.exceptions.SSLError as error:
        raise FetchFailed(
            "the server's certificate was not accepted",
            "Set `REQUESTS_CA_BUNDLE` to the certificates of your network",
        ) from error
    except requests.exceptions.ProxyError as error:
        raise FetchFailed(
            "the proxy does not answer", "Check `HTTPS_PROXY`, then run this again"
        ) from error
    except requests.RequestException as error:
        raise FetchFailed(
            "its server cannot be reached", "Connect to the network and run this again"
        ) from error
    except OSError as error:
        raise _storing(error) from error


def _storing(error: OSError) -> FetchFailed:
    if error.errno is None and "CA certificate" in str(error):  # of requests
        return FetchFailed(
            "the file of certificates that the environment names does not exist",
            "Correct or unset `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE`",
        )
    known = _STORING.get(error.errno)
    return FetchFailed(*(known or (f"it cannot be stored ({error.strerror or error})", _CACHE)))


def _make_room(target: Path) -> None:
    """Make the target's folder, and say what is in the way before anything is fetched."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))


def download(url: str, sha256: str, target: Path, *, progress: bool = True) -> None:
    """Fetch one file; what is not the file that is wanted is thrown away.

    Parameters
    ----------
    url, sha256 : str
    target : Path
        Where it is stored. A file that is there is replaced when the new one is whole.
    progress : bool
        Show a bar.

    Raises
    ------
    FetchFailed
        If it cannot be fetched or stored, or is another file.
    """
    import pooch

    fetch = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)
    with _faults():
        _make_room(target)
        with whole(target) as file:
            fetch(url, file, None)
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise FetchFailed(
                    "its server sent another file than the one this course was checked with",
                    "Try again later, or report it",
                )


def _verified(path: Path, sha256: str) -> bytes | None:
    """Return the content of a file that has this hash: the very bytes that were checked."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def _member(member: Member, folder: Path) -> bytes:
    """Return the checked content of a member, from the folder or from its address."""
    path = folder / member.file
    for left in reversed(range(ATTEMPTS)):
        if (content := _verified(path, member.sha256)) is not None:
            return content
        try:
            download(member.url, member.sha256, path, progress=False)
        except FetchFailed:
            if not left:
                raise
    if (content := _verified(path, member.sha256)) is None:
        raise FetchFailed("a file changed while it was stored", "Run this again")
    return content


def assemble(
    members: Sequence[Member],
    put_together: Callable[[Sequence[bytes]], pd.DataFrame],
    content: str,
    target: Path,
) -> None:
    """Fetch the members of a data set, put them together and store the table as parquet.

    A member that is already in the folder beside the target, with its hash, is not fetched again.
    The folder is removed when the table is stored.

    Parameters
    ----------
    members : sequence of Member
    put_together : callable
        Makes the table of the contents of all members, in order. It gets bytes whose hash has been
        checked, never a path: what it unpickles is what was checked.
    content : str
        :func:`content_hash` of the table.
    target : Path

    Raises
    ------
    FetchFailed
        If a member cannot be had, or the table is not the one that is expected.
    """
    from tqdm import tqdm

    folder = target.with_name(f"{target.name}.members")
    with _faults():
        _make_room(target)
    parts, bar = [], None
    try:
        for member in members:
            parts.append(_member(member, folder))
            # From the first file on: a bar of none would hide the note about why none came.
            if bar is None:
                bar = tqdm(total=len(members), desc=target.stem, unit="file", ncols=79)
            bar.update()
    except FetchFailed as fault:
        cause = f"{len(parts)} of {len(members)} files are fetched, then {fault.cause}"
        raise FetchFailed(cause, fault.remedy) from fault
    finally:
        if bar is not None:
            bar.close()
    try:
        frame = put_together(parts)
    except (AttributeError, ImportError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise FetchFailed(
            "its files are whole, but the installed pandas cannot read them",
            "Install the versions that the course pins",
        ) from error
    if content_hash(frame) != content:
        raise FetchFailed(
            "its files are whole, but the table made of them differs from the course's",
            "Report it with your versions of pandas and NumPy",
        )
    with _faults(), whole(target) as file:
        frame.to_parquet(file, index=False, compression="zstd")
    shutil.rmtree(folder, ignore_errors=True)
