"""Colab: is everything installed, and does the kernel use what is installed?

Colab's kernel has loaded NumPy, pandas, Matplotlib and PyArrow before the first cell runs.
Where the course installs another version, the old one stays in memory beside the new one's
files, and the next import fails with an error about binary incompatibility. Only a restart
helps. Colab has no call for one that spares the reader a report of a crash and goes on with
*Run all*, so the set-up cell stops with one line that says what to do.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

#: Modules that are not named as their distribution.
MODULES = {"imbalanced-learn": "imblearn", "pyyaml": "yaml", "scikit-learn": "sklearn"}


class RestartNeeded(Exception):
    """The kernel has loaded other versions than those that are installed now."""

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the sentence alone; the traceback says nothing to a reader."""
        return [str(self)]


def _requirements(group: str) -> list[str]:
    """Return the names of what ``casebook[group]`` installs itself."""
    needed = map(Requirement, requires("casebook") or [])
    return [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": group})]


def require(group: str) -> None:
    """Do nothing if the packages of ``casebook[group]`` are installed.

    Parameters
    ----------
    group : str
        Optional-dependency group of a chapter; empty for none.

    Raises
    ------
    ImportError
        If one is missing (PackageNotFoundError, which names it).
    """
    for name in _requirements(group):
        version(name)


def stale(group: str) -> list[str]:
    """Return what the kernel has loaded in another version than the installed one.

    Parameters
    ----------
    group : str
        Optional-dependency group of a chapter; empty for none.

    Returns
    -------
    list of str
        ``numpy 2.0.2, not 2.4.6`` and so on; empty if all is well.
    """
    found = []
    for name in _requirements(group):
        module = sys.modules.get(MODULES.get(name, name))
        loaded = vars(module).get("__version__") if module else None  # not what it would compute
        try:
            if loaded is not None and Version(loaded) != Version(installed := version(name)):
                found.append(f"{name} {loaded}, not {installed}")
        except (InvalidVersion, PackageNotFoundError, TypeError):
            continue  # it cannot be compared; an import will tell
    return found


def stop_if_stale(group: str) -> None:
    """Do nothing if the kernel uses what is installed.

    Parameters
    ----------
    group : str
        Optional-dependency group of a chapter; empty for none.

    Raises
    ------
    RestartNeeded
        With what to do, in one line; it ends *Run all*.
    """
    if found := stale(group):
        raise RestartNeeded(
            "Everything is installed. Now choose Runtime → Restart session, then Runtime → Run all "
            f"(this is needed once: the session had loaded {'; '.join(found)})."
        )
