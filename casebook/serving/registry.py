"""A registry of models: one file that a training writes and each night reads.

The file holds a model's text with what a night must know to trust it. A model that it must not
trust is refused with the reason, so that a fall-back can answer.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> _ = put(folder.name, pd.Timestamp("2024-06-02"), text="trees")
>>> take(folder.name, pd.Timestamp("2024-06-03"))["text"]
'trees'
>>> take(folder.name, pd.Timestamp("2024-08-01"))
Traceback (most recent call last):
...
casebook.data.contracts.ModelRefused: the model ends on 2024-06-02, 60 days ago, at most 35 ...
>>> folder.cleanup()
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from casebook.data.contracts import ModelRefused
from casebook.project import write_whole

NAME = "model.json"
#: Days after its last training day on which a model still answers: four weeks and one to repair.
MAX_AGE = 35
DAY = pd.Timedelta(days=1)


def _digest(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def put(folder: Path, trained_until: pd.Timestamp, **content: object) -> Path:
    """Put a model into the registry, in place of the one before.

    Parameters
    ----------
    folder : Path
        Of the registry; a reader sees the old file or the new one, never a part.
    trained_until : Timestamp
        Last day that the model has seen.
    **content : object
        What JSON can hold: the model's text, its features, …

    Returns
    -------
    Path
        Of the file.
    """
    kept = {"trained_until": f"{trained_until:%Y-%m-%d}", **content}
    path = Path(folder) / NAME
    write_whole(path, json.dumps({"sha256": _digest(kept), **kept}, indent=1).encode())
    return path


def take(folder: Path, day: pd.Timestamp, max_age: int = MAX_AGE) -> dict[str, object]:
    """Read the model that may answer on a morning.

    Parameters
    ----------
    folder : Path
        Of the registry.
    day : Timestamp
        The morning, without a time.
    max_age : int
        Days.

    Returns
    -------
    dict
        What was put, with ``trained_until`` as a Timestamp.

    Raises
    ------
    ModelRefused
        If there is none, it is not what was saved, it is older than ``max_age`` days, or it has
        seen the morning's own day or a later one.
    """
    path = Path(folder) / NAME
    try:
        content = json.loads(path.read_bytes())
        expected = content.pop("sha256")
    except FileNotFoundError:
        raise ModelRefused(f"there is no model in {path}: train one and save it") from None
    except (ValueError, KeyError, TypeError, AttributeError, IsADirectoryError):
        raise ModelRefused(f"{path} is no stored model: save one again") from None
    if _digest(content) != expected:
        raise ModelRefused(f"{path} was altered after it was saved: save the model again")
    until = pd.Timestamp(content["trained_until"])
    if until >= day:
        raise ModelRefused(
            f"the model has seen {until:%Y-%m-%d}, which {day:%Y-%m-%d} does not know yet: load "
            "the one of that time"
        )
    if (age := (day - until) // DAY) > max_age:
        raise ModelRefused(
            f"the model ends on {until:%Y-%m-%d}, {age} days ago, at most {max_age} are allowed: "
            "train it again"
        )
    return {**content, "trained_until": until}
