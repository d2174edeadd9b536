"""Reasons in words: what is said, what is left out, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.serving.reasons import lost_when_usual, top_reasons

WORDS = {
    "count": "purchases of this customer in the last 24 hours",
    "sum": "euro spent by this customer in the last hour",
    "new": "whether this customer never used this device before (no device: 0)",
    "since": "logarithm of one plus the seconds since this customer's last purchase",
    "risk": "share known as fraud among the purchases at this terminal (none: 0)",
    "others": "other customers on this device in the last 7 days",
    "entry": "how the card was read (code: chip, typed)",
    "amount": "amount, euro (a refund is negative)",
}


def reason(name: str, value: float, **more) -> str:
    (said,) = top_reasons([name], [1.0], [value], WORDS, **more)
    return said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("count", 11, "11 purchases of this customer in the last 24 hours"),
        ("count", 1.0, "1 purchase of this customer in the last 24 hours"),
        ("sum", 1234.5, "1,234 euro spent by this customer in the last hour"),
        ("sum", 2.5, "2.5 euro spent by this customer in the last hour"),
        ("new", 1.0, "this customer never used this device before"),
        ("new", 0.0, "not the case: this customer never used this device before"),
        ("since", np.float32(np.log1p(66)), "66 seconds since this customer's last purchase"),
        ("risk", 0.25, "share known as fraud among the purchases at this terminal: 25%"),
        ("others", 1, "1 other customer on this device in the last 7 days"),
        ("amount", 412.0, "amount, euro: 412"),
        ("sum", float("nan"), "euro spent by this customer in the last hour: unknown"),
    ],
)
def test_a_reason_reads_like_a_sentence(name, value, said):
    assert reason(name, value) == said


def test_what_is_usual_and_what_a_code_means_is_said():
    assert reason("count", 11, usual={"count": 1}).endswith("hours (usual: 1)")
    said = reason("entry", 1.0, codes={"entry": ("chip", "typed")}, usual={"entry": 0})
    assert said == "how the card was read: typed (usual: chip)"
    assert reason("since", 0.0, usual={"since": np.log1p(3600)}).startswith("0 seconds")


def test_only_what_raises_the_probability_is_a_reason():
    names = ["count", "sum", "new", "risk"]
    said = top_reasons(names, [0.2, -3.0, 1.5, 0.0, -5.0], [4, 9, 1, 0.5], WORDS)
    assert [text.split()[0] for text in said] == ["this", "4"]
    assert top_reasons(names, [3, 2, 1, 4], [4, 9, 1, 0.5], WORDS, n=1)[0].startswith("share")
    assert top_reasons(names, [-1] * 4, [0] * 4, WORDS) == []


def test_reasons_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 names"):
        top_reasons(["count", "sum"], [1.0], [1, 2], WORDS)
    with pytest.raises(KeyError, match="'speed' has no definition"):
        top_reasons(["speed"], [1.0], [1], WORDS)
    with pytest.raises(ValueError, match="n is -1"):
        top_reasons(["count"], [1.0], [1], WORDS, n=-1)


def test_the_contributions_of_lightgbm_become_reasons():
    import lightgbm as lgb

    rng = np.random.default_rng(0)
    x = np.c_[rng.poisson(1, 2000), rng.lognormal(3, 1, 2000)]
    y = (x[:, 0] > 3).astype(int)
    model = lgb.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True},
        lgb.Dataset(x, y),
        20,
    )
    row = np.array([[11.0, 20.0]])
    (contributions,) = model.predict(row, pred_contrib=True)
    said = top_reasons(["count", "amount"], contributions, row[0], WORDS, usual={"count": 1})
    assert said[0] == "11 purchases of this customer in the last 24 hours (usual: 1)"


def test_what_is_as_usual_is_no_reason():
    names, usual = ["count", "sum", "new"], {"count": 4, "sum": 100.0, "new": 0}
    said = top_reasons(names, [3, 2, 1], [4, 101.0, 1], WORDS, usual=usual)
    assert [text.split()[0] for text in said] == ["101", "this"]
    assert top_reasons(names, [3, 2, 1], [4, 100.2, 0], WORDS, usual=usual) == []


def test_contributions_of_a_line_are_its_weights_times_what_is_unusual():
    import pandas as pd

    weights, usual = np.array([0.5, -2.0, 0.0]), {"a": 1.0, "b": 2.0, "c": 3.0}
    row = pd.DataFrame([[4, 1, 9]], columns=list("abc"))
    found = lost_when_usual(lambda table: table.to_numpy() @ weights, row, usual)
    np.testing.assert_allclose(found, [1.5, 2.0, 0.0])
