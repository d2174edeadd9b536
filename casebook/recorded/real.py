"""Results on real data: of this run where the data are here, as recorded where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from casebook.data.files import RealDataUnavailable, details, entry_of, real, registry
from casebook.recorded.bench import recorded


def from_real(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Note in a result from which public files it was computed, for its recording.

    Parameters
    ----------
    frame : DataFrame
    names : str
        In ``data/real.toml``.

    Returns
    -------
    DataFrame
        With a column ``data``: names with the first sixteen digits of the files' hashes.
    """
    return frame.assign(data=" ".join(f"{name}={entry_of(name).sha256[:16]}" for name in names))


def sources_of(frame: pd.DataFrame) -> dict[str, str]:
    """Return the public files of a result: name and first digits of the hash."""
    return dict(source.split("=") for source in frame["data"].iloc[0].split())


def other_data(case: str, name: str) -> list[str]:
    """Return the public files that have changed since a result was recorded from them.

    Parameters
    ----------
    case, name : str
        As for :func:`casebook.recorded.bench.recorded`.
    """
    known = {key: entry.sha256[:16] for key, entry in registry().items()}
    sources = sources_of(recorded(case, name).frame)
    return sorted(source for source, digits in sources.items() if known.get(source) != digits)


@dataclass(frozen=True)
class OnReal:
    """A result on real data.

    Attributes
    ----------
    frame : DataFrame
    recorded : str
        Empty if this run computed it; else the sentence that says when and from what.
    """

    frame: pd.DataFrame
    recorded: str

    def caption(self, text: str) -> str:
        """Return a table's caption, which says so if its numbers are recorded."""
        return f"{text} {self.recorded}".strip()


def on_real(case: str, benchmark: Callable[[], pd.DataFrame]) -> OnReal:
    """Return a result on real data: of this run, or as recorded where the data are absent.

    Parameters
    ----------
    case : str
        As for :func:`casebook.recorded.bench.recorded`.
    benchmark : callable
        A benchmark of the case whose frame went through :func:`from_real`. ``make bench`` records
        it under its name, a test computes it again and compares.

    Returns
    -------
    OnReal

    Raises
    ------
    FileNotFoundError, ValueError
        If it is not recorded, or was altered.
    """
    stored = recorded(case, benchmark.__name__)
    sources = sources_of(stored.frame)
    try:
        for source in sources:
            real(source)
    except RealDataUnavailable as error:
        titles = " and ".join(entry_of(source).title for source in sources)
        sentence = f"Recorded on {stored.date} from {titles}; {details(error.name)}."
        return OnReal(stored.frame.drop(columns="data"), sentence)
    return OnReal(benchmark().drop(columns="data"), "")
