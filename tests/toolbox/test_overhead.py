"""What a path adds to a service: percentiles by turns, cores, memory."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from casebook.serving.overhead import added, capacity, resident_mb


def test_capacity_by_hand():
    names = ["load", "form", "path", "n", "failed", "cpu_ms"]
    rows = [("short", "JSON", path, 10, 0, ms) for path, ms in (("bare", 2.0), ("guarded", 8.0))]
    rounds = pd.DataFrame(rows * 2, columns=names)
    made = capacity(rounds, ["load", "form"], "bare", (120, 500)).set_index("path")
    assert made.loc["guarded", ["times_base", "a_core", "cores_500"]].tolist() == [4, 125, 4]
    assert made.loc["guarded", "processes_500"] == 10
    assert made.loc["guarded", "n"] == 20


def test_what_a_path_adds_is_less_what_the_service_takes():
    rng, paths = np.random.default_rng(0), ("service", "bare", "full")
    parts = [
        pd.DataFrame({"path": path, "turn": turn, "ms": base + more + rng.exponential(1.0, 400)})
        for path, more in zip(paths, (0, 10, 30), strict=True)
        for turn, base in enumerate((5.0, 6.0))
    ]
    seen = pd.concat(parts).assign(good=True, first_ms=1.0)
    table = added(seen, paths, "service", "bare", draws=50).set_index("path")
    assert table.loc["full", "ratio"] == pytest.approx(3.0, rel=0.1)
    assert table.loc["full", "added_p50"] == pytest.approx(30, abs=0.5)
    assert table.loc["full", "low"] <= table.loc["full", "ratio"] <= table.loc["full", "high"]
    lost = added(seen.assign(good=False), paths, "service", "bare", draws=5)
    assert lost["failed"].sum() == len(seen)


def test_memory_of_a_process_grows_with_what_it_holds():
    before = resident_mb(os.getpid())
    held = np.ones(8_000_000)
    assert resident_mb(os.getpid()) > before + 50 and held.sum() > 0
