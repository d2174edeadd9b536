"""Questions of exercise 03."""

# To write: four to eight questions that need understanding, in place of this one.

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from casebook.cases.inventory_demand.system import forecasts, repair
from casebook.cases.inventory_demand.world import CHAPTER, SEED, simulate
from casebook.data import snapshot
from casebook.exercises.asked import Exercise, parts
from casebook.exercises.grading import student_seed


def world(seed: int | None = None) -> pd.DataFrame:
    """Return the feed of the exercise.

    Parameters
    ----------
    seed : int, optional
        By default the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.
    """
    seed = student_seed(SEED) if seed is None else seed
    return snapshot(CHAPTER, "observed.parquet") if seed == SEED else simulate(seed).observed


@lru_cache(maxsize=1)  # one world at a time: the contract asks for five
def _result(seed: int) -> pd.DataFrame:
    return forecasts(repair(world(seed)), days=28)


exercise = Exercise(CHAPTER, SEED, given={"result": _result})

q1 = exercise.asked(
    1,
    "`missed`, one number between 0 and 1",
    setup="""
actual, forecast = result["y"], result["last_week"]
error = (actual - forecast).abs()
""",
    parts=parts("""
missed = error.sum() / actual.sum()
error.mean() / actual.mean()
  {value:.4g} is none of the usual mix-ups. Build it from two totals over all {len(error)} rows: the
  orders that were missed, and the orders there were.
(error / actual).mean()
  This is MAPE, a mean of ratios: a day with few orders counts as much as one with many. Sum over
  all rows before you divide.
(actual - forecast).sum() / actual.sum()
(forecast - actual).sum() / actual.sum()
  Errors of both signs have cancelled: this is the bias. Take the absolute error of each row first.
100 * right
  when: value > 1
  {value:.4g} would be more than all the orders there were. Give a share.
"""),
    shows="Last week missed {missed:.1%} of the orders, too high or too low.",
    hints=(
        "Which rows may count more than others, and by what?",
        "Divide the sum of the absolute errors by the sum of `y`.",
    ),
)
