"""Log lines: what is read, and what is only counted."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.serving.loglines import parse

NUMBERS = {"status": (100, 599), "ms": (0, 1_000)}
GOOD = "2026-03-02T11:40:00.250Z INFO pod=a status=200 ms=35"


def read(*lines):
    return parse(lines, ("pod",), NUMBERS)


def test_a_line_with_a_microsecond_more_keys_and_an_end_of_line():
    found = read(GOOD.replace("250Z", "250125Z") + " extra=1 words here\r\n").rows
    assert found["at"].iloc[0] == pd.Timestamp("2026-03-02 11:40:00.250125")
    assert found[["pod", "status", "ms"]].to_numpy().tolist() == [["a", 200, 35]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD.replace("status=200", "status=2OO"), "status is out of bounds"),
        (GOOD.replace("ms=35", "ms=1001"), "ms is out of bounds"),
        (GOOD.replace("ms=35", "ms=-35"), "ms is out of bounds"),
        (GOOD.replace("ms=35", "ms=3.5"), "ms is out of bounds"),
        (GOOD.replace("ms=35", "ms=" + 40 * "9"), "ms is out of bounds"),
        (GOOD.replace("ms=35", "ms=٣"), "ms is out of bounds"),
        (GOOD.replace("pod=a", "pod="), "pod is missing"),
        (GOOD.replace("pod=a ", ""), "pod is missing"),
        (GOOD + " status=500", "a key twice"),
        (GOOD.replace("03-02", "13-02"), "no such time"),
        (GOOD.replace("Z INFO", " INFO"), "no time and level at its start"),
        (GOOD[:30], "no time and level at its start"),
        (" " + GOOD, "no time and level at its start"),
        (GOOD + "\n" + GOOD, "no time and level at its start"),
        (GOOD + 3_000 * "x", "no time and level at its start"),
        (None, "no time and level at its start"),
    ],
)
def test_a_bad_line_has_a_reason_and_stops_nothing(line, reason):
    found = read(GOOD, line, GOOD)
    assert dict(found.bad) == {reason: 1} and len(found.rows) == 2


def test_events_are_apart_and_all_is_in_the_order_of_time():
    late = GOOD.replace("11:40", "11:59")
    found = read(late, "2026-03-02T11:50:00.000Z WARN event=scale pods=6", GOOD)
    assert found.rows["at"].is_monotonic_increasing and len(found.rows) == 2
    assert found.events[["event", "text"]].to_numpy().tolist() == [["scale", "event=scale pods=6"]]


def test_no_lines_give_empty_tables_with_their_columns():
    found = read()
    assert list(found.rows) == ["at", "pod", "status", "ms"] and found.events.empty
    assert str(found.rows["at"].dtype).startswith("datetime64")
