"""Read log lines of the form ``time level key=value …``: what cannot be read is counted.

Examples
--------
>>> lines = ["2026-03-02T11:40:00.250Z INFO status=200 ms=35 pod=a", "Traceback:", None]
>>> read = parse(lines, texts=("pod",), numbers={"status": (100, 599), "ms": (0, 60_000)})
>>> read.rows[["pod", "status", "ms"]].to_numpy().tolist(), dict(read.bad)
([['a', 200, 35]], {'no time and level at its start': 2})
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}|\.\d{6})?)Z"
_LINE = re.compile(_TIME + r" ([A-Z]{4,8}) (.{1,2000})")
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Read:
    """What lines say.

    Attributes
    ----------
    rows : DataFrame
        ``at`` and the asked columns, by time; equal times stay in the order of the lines.
    events : DataFrame
        ``at``, ``event`` and ``text`` of lines that have ``event=…``, by time.
    bad : Counter
        Lines that could not be used, by reason.
    """

    rows: pd.DataFrame
    events: pd.DataFrame
    bad: Counter


def parse(
    lines: Iterable[object], texts: Sequence[str], numbers: Mapping[str, tuple[int, int]]
) -> Read:
    """Read lines; a bad one never stops the rest.

    Parameters
    ----------
    lines : iterable of str
        In any order. What is no text is a bad line.
    texts : sequence of str
        Keys that a line must have.
    numbers : mapping of str to (int, int)
        Keys that must have a whole number, with its bounds. A line with a key twice is bad.

    Returns
    -------
    Read
    """
    rows, events, bad = [], [], Counter()
    for line in lines:
        match = _LINE.fullmatch(line.rstrip("\r\n")) if isinstance(line, str) else None
        at = _time(match[1]) if match else None
        if not match or not at:
            bad["no time and level at its start" if not match else "no such time"] += 1
            continue
        found = [part.split("=", 1) for part in match[3].split() if "=" in part]
        pairs = dict(found)
        if len(pairs) < len(found):
            bad["a key twice"] += 1
        elif "event" in pairs:
            events.append((at, pairs["event"], match[3]))
        elif missing := [name for name in (*texts, *numbers) if not pairs.get(name)]:
            bad[f"{missing[0]} is missing"] += 1
        elif wrong := [name for name in numbers if not _sound(pairs[name], *numbers[name])]:
            bad[f"{wrong[0]} is out of bounds"] += 1
        else:
            rows.append((at, *map(pairs.get, texts), *(int(pairs[name]) for name in numbers)))
    return Read(_table(rows, [*texts, *numbers]), _table(events, ["event", "text"]), bad)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # such as the 30th of February
        return None


def _sound(text: str, low: int, high: int) -> bool:
    return bool(_NUMBER.fullmatch(text)) and low <= int(text) <= high


def _table(rows: list[tuple], names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["at", *names])
    table["at"] = pd.to_datetime(table["at"]).astype("datetime64[us]")
    return table.sort_values("at", kind="stable", ignore_index=True)
