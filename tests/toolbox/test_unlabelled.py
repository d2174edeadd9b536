"""Clicks and disagreement: what they see of a ranking, and what position alone makes."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.retrieval.unlabelled import click_proxies, clicks, disagreement


def _run(order):
    rows = [(q, d, r, 1.0 / r) for q in range(200) for r, d in enumerate(order, 1)]
    return pd.DataFrame(rows, columns=["query_id", "doc_id", "rank", "score"])


def test_clicks_prefer_the_better_ranking_and_looks_explain_the_rest():
    judged = pd.DataFrame({"query_id": range(200), "doc_id": "a", "relevance": 1})
    first, third = (clicks(_run(order), judged, seed=0) for order in ("abc", "cba"))
    plain, weighed = click_proxies(first)
    low, same = click_proxies(third)
    assert plain > 1.3 * low  # by position alone
    assert weighed == pytest.approx(same, rel=0.05)
    assert disagreement(_run("abc"), _run("abd"), k=3).eq(0.5).all()
