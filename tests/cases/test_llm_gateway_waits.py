"""Case 20: tenants with long answers, weights by contract, several writers, tails, late clients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.llm_gateway import billed, commits, counted, waiting


def test_no_contract_makes_a_tenant_lighter_than_the_mean_one():
    shares = pd.Series({"large": 0.5, "mean": 0.25, "small": 0.15, "tiny": 0.1})
    assert waiting.by_contract(shares) == {"large": 2.0, "mean": 1.0, "small": 1.0, "tiny": 1.0}


@pytest.fixture(scope="module")
def long():
    rushes = ("long, small", "long, large")
    return waiting.neighbours(rushes, ("limits", "both", "both, capped"), seconds=45, seeds=(1, 2))


def test_long_answers_take_the_slots_and_a_cap_keeps_them_free(long):
    p99 = long.groupby(["rush", "arm"])["p99"].mean()
    for rush in ("long, small", "long, large"):
        assert p99[rush, "both, capped"] < 0.8 * p99[rush, "both"]
    own = long.groupby(["rush", "arm"])["own"].mean()
    assert own["long, small", "both, capped"] > own["long, small", "both"], "its own answers wait"


def test_nobody_holds_more_slots_than_the_cap():
    shares = waiting.share_of(waiting.TENANTS, 1)
    made = waiting.passed(waiting.minute("long, small", shares, 30, 1), shares, "both, capped")
    own = made[made["tenant"] == shares.index[-1]].dropna(subset="wait")
    starts = own["at"] + own["wait"]
    at_once = [((starts <= at) & (starts + own["seconds"] > at + 1e-9)).sum() for at in starts]
    assert max(at_once) == waiting.EACH, "it would hold more"


def test_rushers_waits_have_a_tail():
    made = pd.DataFrame({"at": range(4), "tenant": list("abbb"), "wait": [1.0, 2.0, 3.0, np.nan]})
    told = waiting.waits(made, {"b": 1.0}, start=0)
    assert (told["own"], told["own_p99"]) == (3.0, np.inf)


def test_writers_share_a_file_and_every_sum_holds():
    found = commits.commits((1, 2), 0.5, together=4, tenants=(1,), modes=(False,))
    assert (found["off"] == 0).all() and (found["failed"] == 0).all()
    assert (found["rps"] > 5).all() and (found["p50"] <= found["p99"]).all()


def test_guards_take_longest_on_the_longest_messages():
    found = counted.guard_tail(12).set_index("guard")
    assert (found["p50"] < found["most"]).all() and found["over"].between(0, 1).all()
    assert found.loc["all", "p50"] > found.loc["personal data, some there", "p50"]


def test_a_late_provider_is_billed_once_for_a_call_with_a_key():
    assert billed._one_call(1, "k") == (True, 1, 1), "the repeat gets the answer that was kept"


def test_a_client_without_a_key_that_asks_again_reaches_the_provider_again():
    ok, asked, bills = billed._one_call(1, "")
    assert ok and asked == 2 and 1 <= bills <= 2
