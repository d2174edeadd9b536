"""The four measures at their ends, and a judge whose bias is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.retrieval.rag_metrics import (
    bias,
    context_precision,
    context_recall,
    faithfulness,
)


def test_measures_at_their_ends():
    source = ["The fee of Identity is 9 euro."]
    assert faithfulness("The fee of Identity is 9 euro.", source) == 1
    assert faithfulness("The fee of Identity is 8 euro.", source) == 0
    assert np.isnan(faithfulness("", source))
    assert context_precision([True, True, False]) == 1 and context_precision([False]) == 0
    assert context_precision([False, True]) == 0.5 and context_precision([]) == 0
    assert context_recall({"a", "b"}, {"a"}) == 1 and np.isnan(context_recall({"a"}, set()))


def test_faithful_is_not_true():
    """A stale page: every measure is satisfied, and the answer is wrong."""
    stale = "The fee of Identity is 8 euro."
    assert faithfulness(stale, [stale]) == 1 and context_precision([True]) == 1


def test_a_planted_bias_is_measured_by_kind():
    rng = np.random.default_rng(0)
    n = 2_000
    kind = pd.Series(np.where(np.arange(n) % 2, "long", "short"))
    known = pd.Series(rng.random(n) < 0.5).astype(float)
    judged = (known * 0.8 + 0.1 + 0.1 * (kind == "long")).astype(float)
    table = bias(judged, known, pd.Series(np.arange(n) // 4), kind).set_index("kind")
    assert table.loc["long", "bias"] - table.loc["short", "bias"] == pytest.approx(0.1, abs=0.02)
    assert table.loc["long", "low"] < table.loc["long", "bias"] < table.loc["long", "high"]
    assert table.loc["all", "agree"] == 1 and table.loc["all", "of"] == n
    assert bias(judged, known, pd.Series(["one"] * n), kind).empty
