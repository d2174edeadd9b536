"""Snapshots that come with the course, and real data that does not.

``snapshot`` reads a committed, simulated snapshot. ``real`` finds a public file
in ``CASEBOOK_DATA_DIR``, in the user's cache, or downloads it; its hash is
checked every time before the path is given out. The course redistributes no
real data: ``data/real.toml`` holds where each file lives and under which licence.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from casebook.page.claims import not_run
from casebook.project import data_dir


class RealDataUnavailable(RuntimeError):
    """A public file is neither here nor can it be fetched now."""


@dataclass(frozen=True)
class RealFile:
    """One entry of ``data/real.toml``.

    Attributes
    ----------
    name : str
        Name by which chapters ask for it.
    path : str
        Path below ``CASEBOOK_DATA_DIR`` and below the cache.
    url : str
        Address at a pinned commit.
    sha256 : str
        Hash of the file.
    licence, source : str
        What one may do with it and who made it.
    """

    name: str
    path: str
    url: str
    sha256: str
    licence: str
    source: str


@cache
def registry() -> dict[str, RealFile]:
    """Return the registry of real data by name."""
    with open(data_dir() / "real.toml", "rb") as file:
        return {name: RealFile(name, **entry) for name, entry in tomllib.load(file).items()}


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
    return pd.read_parquet(path)


def cache_dir() -> Path:
    """Return the folder of downloaded files (``CASEBOOK_CACHE_DIR`` overrides it)."""
    import pooch

    return Path(os.environ.get("CASEBOOK_CACHE_DIR") or pooch.os_cache("ml-systems-casebook"))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_real(name: str) -> Path | None:
    """Return a verified local file of the registry, or None; never downloads.

    A file whose hash differs from the registry's counts as absent.
    """
    entry = _entry(name)
    if os.environ.get("CASEBOOK_REAL_DATA") == "off":
        return None
    folders = [cache_dir()]
    if given := os.environ.get("CASEBOOK_DATA_DIR"):
        folders.insert(0, Path(given))
    for folder in folders:
        path = folder / entry.path
        if path.is_file() and _sha256(path) == entry.sha256:
            return path
    return None


def _entry(name: str) -> RealFile:
    if name not in registry():
        raise KeyError(f"No real data set {name!r} in data/real.toml: {sorted(registry())}.")
    return registry()[name]


def real(name: str) -> Path:
    """Return the path of a public data file whose hash has been checked.

    It is looked for in ``CASEBOOK_DATA_DIR``, then in the cache, then
    downloaded into the cache with a progress bar. A truncated or altered copy
    is refused and fetched again. ``CASEBOOK_REAL_DATA=off`` answers as if
    there were no file and no network.

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
    """
    entry = _entry(name)
    if (path := find_real(name)) is not None:
        return path
    if os.environ.get("CASEBOOK_REAL_DATA") == "off":
        raise RealDataUnavailable(f"Real data are switched off (CASEBOOK_REAL_DATA=off): {name}.")
    import pooch
    import requests

    target = cache_dir() / entry.path
    try:
        return Path(
            pooch.retrieve(
                entry.url,
                known_hash=f"sha256:{entry.sha256}",
                fname=target.name,
                path=target.parent,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=20),
            )
        )
    except PermissionError as error:
        raise RealDataUnavailable(
            f"{name} cannot be stored in {target.parent}: no permission. Set CASEBOOK_CACHE_DIR to "
            "a folder that you may write to."
        ) from error
    except (requests.RequestException, OSError) as error:
        raise RealDataUnavailable(
            f"{name} could not be downloaded from {entry.url} ({type(error).__name__}). Connect "
            f"to the network and run the cell again, or put the file at {target} yourself "
            f"(sha256 {entry.sha256})."
        ) from error
    except ValueError as error:  # pooch: the hash differs
        raise RealDataUnavailable(
            f"What {entry.url} served is not the file that this course was checked with (its hash "
            "differs); it was thrown away. Try again later, or report it."
        ) from error


def real_or_note(name: str, what: str) -> Path | None:
    """Return ``real(name)``, or None after one clear note on the page.

    Parameters
    ----------
    name : str
        Name in ``data/real.toml``.
    what : str
        The part of the chapter that needs it, for the note.
    """
    try:
        return real(name)
    except RealDataUnavailable as error:
        not_run(what, f"{error} The rest of the chapter runs without it.")
        return None
