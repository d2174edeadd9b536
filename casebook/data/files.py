"""Snapshots that come with the course, and real data that does not.

``snapshot`` reads a committed, simulated snapshot. ``real`` finds a public file
in ``CASEBOOK_DATA_DIR``, in the user's cache, or downloads it; its hash is
checked every time before the path is given out. The course redistributes no
real data: ``data/real.toml`` holds where each file is and under which licence,
``data/members.csv`` the files that some sets are put together from.

``CASEBOOK_DATA_DIR`` and ``CASEBOOK_CACHE_DIR`` may be relative to the checkout
and may start with ``~``. ``CASEBOOK_REAL_DATA=off`` answers as if there were
neither files nor network.
"""

from __future__ import annotations

import csv
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from casebook.data.fetch import (
    FetchFailed,
    Member,
    assemble,
    content_hash,
    download,
    sha256_of,
)
from casebook.project import data_dir, folder_from, real_data_off

if TYPE_CHECKING:  # see casebook.data.fetch
    import pandas as pd


@dataclass(eq=False)  # not frozen: Python itself sets the traceback of an exception
class RealDataUnavailable(RuntimeError):
    """A public file is neither here nor can it be fetched now.

    Attributes
    ----------
    name : str
        Of the data set.
    cause, remedy : str
        Parts of a sentence for a page: no path, hash or address.
    details : str
        Path, hash and address.
    """

    name: str
    cause: str
    remedy: str
    details: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.cause}. {self.remedy}. {self.details}".strip()


@dataclass(frozen=True)
class RealFile:
    """One entry of ``data/real.toml``.

    Attributes
    ----------
    name : str
        Name by which chapters ask for it.
    title : str
        What a page calls it.
    path : str
        Path below ``CASEBOOK_DATA_DIR`` and below the cache.
    sha256 : str
        Hash of the file.
    licence, source : str
        What one may do with it and who made it.
    url : str
        Address at a pinned commit; empty for a set that is put together.
    assemble : str
        Name in :func:`recipes` of the function that puts the members together.
    content : str
        :func:`casebook.data.fetch.content_hash` of the table that it makes: files with this
        content are accepted too, as their bytes depend on the version that wrote them.
    """

    name: str
    title: str
    path: str
    sha256: str
    licence: str
    source: str
    url: str = ""
    assemble: str = ""
    content: str = ""


@cache
def registry() -> dict[str, RealFile]:
    """Return the registry of real data by name."""
    with open(data_dir() / "real.toml", "rb") as file:
        return {name: RealFile(name, **entry) for name, entry in tomllib.load(file).items()}


@cache
def members(name: str) -> tuple[Member, ...]:
    """Return the files that a data set is put together from, in order.

    Parameters
    ----------
    name : str
        Name in ``data/real.toml``.
    """
    with open(data_dir() / "members.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == name]
    return tuple(Member(row["file"], row["url"], row["sha256"]) for row in rows)


def snapshot(chapter: str, file: str) -> pd.DataFrame:
    """Read a committed snapshot of a simulated world.

    Parameters
    ----------
    chapter : str
        Folder in ``data/``, such as ``"00_how_a_case_works"``.
    file : str
        Name of a parquet file in it.

    Returns
    -------
    DataFrame

    Raises
    ------
    FileNotFoundError
        With the names that are there and the command that makes them anew.
    """
    path = data_dir() / chapter / file
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*.parquet"))
        raise FileNotFoundError(
            f"No snapshot {chapter}/{file}; there: {', '.join(there) or 'none'}. "
            "`make data` makes all snapshots anew."
        )
    import pandas as pd

    return pd.read_parquet(path)


def cache_dir() -> Path:
    """Return the folder of downloaded files.

    ``CASEBOOK_CACHE_DIR`` overrides it. A user without a home folder has it among the temporary
    files.
    """
    if (given := folder_from("CASEBOOK_CACHE_DIR")) is not None:
        return given
    import pooch

    with suppress(RuntimeError):  # no home folder
        usual = pooch.os_cache("ml-systems-casebook").expanduser()
        if usual.is_absolute():
            return usual
    return Path(tempfile.gettempdir()) / f"ml-systems-casebook-{os.getuid()}"


def _places() -> Iterator[tuple[str, Path]]:
    """Return where files are looked for, by the names that a reader knows."""
    if (given := folder_from("CASEBOOK_DATA_DIR")) is not None:
        yield "`CASEBOOK_DATA_DIR`", given
    yield "the download folder", cache_dir()


def _is_content(entry: RealFile, path: Path) -> bool:
    """Say whether a file that was put together holds the table that is expected."""
    try:
        import pandas as pd

        return content_hash(pd.read_parquet(path)) == entry.content
    except (ValueError, TypeError, OSError):  # pyarrow: no parquet file, or a part of one
        return False


@dataclass(frozen=True)
class _Copy:
    """What was found at one place: a good file, or a fault with its remedy, or nothing."""

    path: Path
    good: bool = False
    fault: str = ""
    remedy: str = ""


def _look(entry: RealFile, where: str, folder: Path) -> _Copy:
    """Return the state of a file at one place."""
    path = folder / entry.path
    try:
        if where.startswith("`") and not folder.is_dir():
            kind = "is a file, not a folder" if folder.exists() else "names no folder"
            return _Copy(path, fault=f"{where} {kind}", remedy=f"Correct {where}")
        if path.is_dir():
            remedy = "Remove that folder"
            return _Copy(path, fault=f"{where} has a folder in the file's place", remedy=remedy)
        if not path.is_file():
            return _Copy(path)
        if sha256_of(path) == entry.sha256 or (entry.content and _is_content(entry, path)):
            return _Copy(path, good=True)
        fault = f"the copy in {where} is damaged"
        return _Copy(path, fault=fault, remedy="Replace it")
    except PermissionError:
        remedy = "Make it readable"
        return _Copy(path, fault=f"the copy in {where} may not be read", remedy=remedy)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fault = f"the copy in {where} cannot be read ({reason})"
        return _Copy(path, fault=fault, remedy="Replace it")


def find_real(name: str) -> Path | None:
    """Return a verified local file of the registry, or None; never downloads.

    A file that cannot be read, or whose hash differs from the registry's, counts as absent.
    """
    entry = entry_of(name)
    if real_data_off():
        return None
    for where, folder in _places():
        if (copy := _look(entry, where, folder)).good:
            return copy.path
    return None


def entry_of(name: str) -> RealFile:
    """Return the registry's entry of a name; KeyError with the names there are."""
    if name not in registry():
        raise KeyError(f"No real data set {name!r} in data/real.toml: {sorted(registry())}.")
    return registry()[name]


def _details(entry: RealFile) -> str:
    count = len(members(entry.name)) if entry.assemble else 0
    address = f"{count} addresses in {data_dir() / 'members.csv'}" if count else entry.url
    return f"From {address} to {cache_dir() / entry.path} (sha256 {entry.sha256})."


def _fetch(entry: RealFile, target: Path) -> None:
    if not entry.assemble:
        download(entry.url, entry.sha256, target)
        return
    assemble(members(entry.name), recipes()[entry.assemble], entry.content, target)


def recipes() -> dict[str, Callable[[Sequence[bytes]], pd.DataFrame]]:
    """Return the functions that put data sets together, by the names in ``data/real.toml``."""
    from casebook.data.tables import handbook_days
    from casebook.data.texts import markdown_pages

    def pages(name: str) -> Callable[[Sequence[bytes]], pd.DataFrame]:
        return lambda files: markdown_pages([member.file for member in members(name)], files)

    made = {f"{name}_pages": pages(name) for name in ("sourcegraph_handbook", "tts_handbook")}
    return {"handbook_days": handbook_days, **made}


def _unavailable(entry: RealFile, failure: FetchFailed) -> RealDataUnavailable:
    """Return the failure together with what is wrong with the copies that are here."""
    copies = [_look(entry, where, folder) for where, folder in _places()]
    cause, remedy = failure.cause, failure.remedy
    if wrong := [copy for copy in copies if copy.fault and copy.remedy != remedy]:
        cause = f"{wrong[0].fault}, and {cause}"
        remedy = f"{wrong[0].remedy}, or {remedy[0].lower()}{remedy[1:]}"
    return RealDataUnavailable(entry.name, cause, remedy, _details(entry))


def real(name: str) -> Path:
    """Return the path of a public data file whose hash has been checked.

    It is looked for in ``CASEBOOK_DATA_DIR``, then in the cache, then
    downloaded into the cache with a progress bar. A truncated or altered copy
    is refused and fetched again. A set of several files is fetched file by file
    and put together; a second call goes on where the first was cut off.
    ``CASEBOOK_REAL_DATA=off`` answers as if there were no file and no network.

    Parameters
    ----------
    name : str
        Name in ``data/real.toml``.

    Returns
    -------
    Path

    Raises
    ------
    KeyError
        If the registry has no such name.
    RealDataUnavailable
        If there is no good local copy and it cannot be downloaded.
    ValueError
        If ``CASEBOOK_REAL_DATA`` has a value that is not allowed.
    """
    entry = entry_of(name)
    if (path := find_real(name)) is not None:
        return path
    if real_data_off():
        cause = "real data are switched off (`CASEBOOK_REAL_DATA=off`)"
        raise RealDataUnavailable(name, cause, "Unset that variable")
    target = cache_dir() / entry.path
    try:
        _fetch(entry, target)
    except FetchFailed as failure:
        raise _unavailable(entry, failure) from failure
    return target


def real_or_note(name: str, what: str) -> Path | None:
    """Return ``real(name)``, or None after one clear note on the page.

    The note names the cause and the remedy; :func:`explain` tells the rest.

    Parameters
    ----------
    name : str
        Name in ``data/real.toml``.
    what : str
        The part of the chapter that needs it, for the note.
    """
    from casebook.page.claims import not_run  # the artifacts' environment displays nothing

    try:
        return real(name)
    except RealDataUnavailable as error:
        title = entry_of(name).title
        missing = f"{title[0].upper()}{title[1:]} is missing: {error.cause}"
        not_run(what, f"{missing}. {error.remedy}; {details(name)}.")
        return None


def details(name: str) -> str:
    """Return the words by which a page tells where the rest is told."""
    return f'details: `casebook.data.explain("{name}")`'


def explain(name: str) -> None:
    """Print where a public file is looked for, what is there, and how to get it.

    Parameters
    ----------
    name : str
        Name in ``data/real.toml``.
    """
    entry = entry_of(name)
    print(f"{entry.title}: {entry.source}. Licence: {entry.licence}.")
    if real_data_off():
        print("Switched off by CASEBOOK_REAL_DATA=off.")
    for where, folder in _places():
        copy = _look(entry, where, folder)
        state = "here, its hash is right" if copy.good else copy.fault or "not there"
        print(f"{where.strip('`')}: {copy.path}\n    {state}")
    print(f"sha256 of the file: {entry.sha256}")
    if entry.assemble:
        count = len(members(name))
        print(f"Put together from {count} files, listed in {data_dir() / 'members.csv'}")
    else:
        print(f"Address: {entry.url}")
    print(
        f'To get it, connect to the network and run casebook.data.real("{name}"), or put the file '
        "at one of the paths above."
    )
