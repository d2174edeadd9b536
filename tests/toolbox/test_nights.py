"""Rungs that stand in for each other, loads that cannot be right, texts that would fill memory."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from casebook.data.contracts import ModelRefused
from casebook.data.loads import LoadRefused, fresh, same_rows, set_aside, steady
from casebook.features.mood import LETTERS, Mood
from casebook.serving.nights import NightFailed, booster, climb, trusted


def failing(error: Exception):
    def rung(why: str):
        raise error

    return rung


@pytest.mark.parametrize("error", [KeyError("left"), TypeError("tz"), MemoryError(), IndexError(3)])
def test_whatever_is_raised_the_next_rung_is_asked_and_told_why(error):
    rungs = {"the model": failing(error), "points": lambda why: why}
    assert climb(3, rungs).startswith(type(error).__name__)
    with pytest.raises(NightFailed, match=rf"By a: {type(error).__name__}.*By b: ValueError: no"):
        climb(3, {"a": failing(error), "b": failing(ValueError("no"))})


def test_predictions_without_an_order_are_refused():
    assert trusted("effect", [0.1, 0.2]).tolist() == [0.1, 0.2]
    assert trusted("effect", []).size == 0 and trusted("slope", [0.4])[0] == 0.4
    for bad in ([0.1, np.nan], [np.inf, 0.1], [0.2, 0.2]):
        with pytest.raises(ModelRefused, match="effect is"):
            trusted("effect", bad)


def test_only_a_whole_text_reaches_lightgbm():
    x = np.random.default_rng(0).random((200, 2))
    model = lgb.LGBMRegressor(n_estimators=12, num_leaves=4, verbose=-1).fit(x, x[:, 0])
    text = model.booster_.model_to_string()
    assert np.allclose(booster("effect", text).predict(x), model.predict(x))
    long = text.replace("tree_sizes=", "tree_sizes=9", 1)
    for wrong in (text[:3_000], text[: text.index("end of trees")], long, "", text[50:]):
        with pytest.raises(ModelRefused, match="effect model is not whole"):
            booster("effect", wrong)


@pytest.mark.parametrize(
    ("index", "beside", "said"),
    [
        ([0, 1, 1], 3, "1 stands twice"),
        ([0, 2, 3], 3, "place 1 holds row 2"),
        ([1, 0, 2], 3, "place 0 holds row 1"),
        (["a", "b", "c"], 3, "place 0 holds row a"),
        ([0, 1, 2], 2, "3 rows, logins has 2"),
    ],
)
def test_ids_that_are_not_the_positions_are_refused(index, beside, said):
    same_rows("people", pd.Index([0, 1, 2]), logins=np.zeros(3))
    with pytest.raises(LoadRefused, match=said):
        same_rows("people", pd.Index(index), logins=np.zeros(beside))


def test_one_bad_row_is_set_aside_and_many_are_refused():
    good = pd.DataFrame({"row": [0, 1, 2, 2] * 50, "at": pd.Timestamp("2025-01-06"), "score": 7.0})
    assert set_aside("answers", good, 3, ["at"], {"score": (0, 10)})[1] == ""
    for name, value in (("row", -1), ("row", 0.5), ("row", 9e18), ("at", None), ("score", 11)):
        spoilt = good.astype({"row": float}).astype({"at": object})
        spoilt.loc[[0, 3], name] = value
        sound, note = set_aside("answers", spoilt, 3, ["at"], {"score": (0, 10)})
        assert len(sound) == 198 and "2 of 200 rows of answers" in note
        spoilt.loc[:5, name] = value
        with pytest.raises(LoadRefused, match="6 of 200 rows"):
            set_aside("answers", spoilt, 3, ["at"], {"score": (0, 10)})
    with pytest.raises(ValueError, match="no column"):
        set_aside("answers", good, 3, ["at"], {"stars": (0, 10)})


def test_a_period_unlike_the_ones_before_and_an_old_one_are_refused():
    steady("tickets", 100, 120)
    steady("tickets", 1, 24, slack=10)
    for now, past, said in ((0, 0, "empty"), (10, 300, "part"), (900, 200, "twice")):
        with pytest.raises(LoadRefused, match=said):
            steady("tickets", now, past)
    fresh("logins", 140, 139.5, 1.5)
    for newest in (138.0, -np.inf, np.nan):
        with pytest.raises(LoadRefused, match="clock is ahead"):
            fresh("logins", 140, newest, 1.5)


def test_a_text_is_read_up_to_its_limit_and_takes_no_room_from_others():
    """An array of strings would give a thousand texts the room of a million letters each."""
    mood = Mood.restored({"weights": {"fails": 2.0, "thanks": -2.0}, "start": 0.0})
    long = "so " * LETTERS + "fails"
    texts = pd.Series([long * 100, "it fails", "thanks", None, b"fails"] * 1_000)
    scores = mood.of(texts)[:5]
    assert scores[0] == scores[3] == 0.5 and scores[1] == scores[4] > 0.8 > 0.2 > scores[2]
