"""Policies of retraining: what each knows when, and what it does where nothing happens."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.serving.retrain import POLICIES, by_block, serve


def rows(jump: float = 0.0, moved: float = 0.0, days: int = 120, n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"day": np.repeat(np.arange(days), n), "x": rng.normal(size=days * n)})
    late = frame["day"] >= 80
    frame["x"] += moved * late
    frame["y"] = frame["x"] + jump * late + rng.normal(size=len(frame))
    return frame


SEEN: list[tuple[int, int]] = []


class Level:
    """Says the input plus what its training had above it; remembers its days."""

    def __init__(self, part):
        self.more = (part["y"] - part["x"]).mean()
        SEEN.append((part["day"].min(), part["day"].max()))

    def predict(self, part):
        return part["x"].to_numpy() + self.more


def far(part, said):
    return np.abs(said - part["y"].to_numpy())


def run(frame, policy):
    SEEN.clear()
    return serve(frame, 60, 60, policy, Level, ["x"], far)


def test_where_nothing_happens_no_alarm_trains_and_the_calendar_does():
    made = {policy: run(rows(), policy) for policy in POLICIES}
    trained = {policy: int(one["trained"].sum()) for policy, one in made.items()}
    assert trained["frozen"] == 0 and trained["error alarm"] <= 1
    assert trained["PSI alarm"] <= 2  # one day in twenty-one alarms, and it rests
    assert (trained["monthly"], trained["weekly"]) == (2, 8)
    assert max(one["loss"].mean() for one in made.values()) < 0.85


@pytest.mark.parametrize(
    ("frame", "alarm", "silent"),
    [(rows(jump=3.0), "error alarm", "PSI alarm"), (rows(moved=1.0), "PSI alarm", "error alarm")],
)
def test_each_alarm_sees_its_own_change_and_not_the_other(frame, alarm, silent):
    loud = run(frame, alarm)
    assert loud.loc[loud["trained"], "day"].min() in range(81, 85)
    assert run(frame, silent)["trained"].sum() <= 2


def test_a_training_takes_the_days_before_and_none_later():
    made = run(rows(jump=3.0), "weekly")
    days = made.loc[made["trained"], "day"].tolist()
    assert [last for _, last in SEEN] == [39, 59, *(day - 1 for day in days)]
    assert {last - start for start, last in SEEN[1:]} == {59}


def test_a_model_that_says_nothing_is_trained_again_and_one_quiet_day_is_no_limit():
    class Mute(Level):
        def predict(self, part):
            return np.full(len(part), np.nan) if SEEN[-1][1] == 59 else super().predict(part)

    made = serve(rows(days=100), 60, 60, "error alarm", Mute, ["x"], far)
    assert made.loc[made["trained"], "day"].tolist()[:1] == [81]  # as soon as it has rested
    assert made.loc[made["day"] >= 81, "loss"].notna().all()
    with pytest.raises(ValueError, match="two quiet days"):
        serve(rows(days=100), 60, 3, "error alarm", Level, ["x"], far)
    assert serve(rows(days=100), 60, 3, "monthly", Level, ["x"], far)["trained"].sum() == 1


def test_the_mean_counts_rows_and_the_interval_blocks():
    made = run(rows(jump=3.0), "frozen")
    told = by_block(made.assign(n=np.where(made["day"] < 80, 3_000, 1)))
    assert told["loss"] == pytest.approx(made.loc[made["day"] < 80, "loss"].mean(), rel=0.01)
    assert told["low"] < told["loss"] < told["high"]
    assert (told["trained"], told["alarms"]) == (0, made["alarm"].mean())
    with pytest.raises(ValueError, match="monthly"):
        run(rows(), "never")
