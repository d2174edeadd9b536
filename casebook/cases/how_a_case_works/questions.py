"""Questions of exercise 00: a number to report, a leak to find, contracts to order."""

from __future__ import annotations

from functools import cache

import pandas as pd

from casebook.cases.how_a_case_works.system import (
    audit,
    lightgbm_global,
    repair,
    seasonal_naive,
    walk_forward,
    with_plan,
)
from casebook.cases.how_a_case_works.world import SEED, simulate
from casebook.data import snapshot
from casebook.exercises.asked import Exercise, Labels, Number, Prediction, parts
from casebook.exercises.grading import student_seed

CASE = "00_how_a_case_works"
#: Euro for one quarter: a contracted worker without work, a needed worker without contract.
IDLE, MISSING = 6_000, 18_000


def world(seed: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return reports and plan, as :func:`casebook.cases.how_a_case_works.world.simulate` does.

    A seed that is not given is the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.
    """
    seed = student_seed(SEED) if seed is None else seed
    if seed == SEED:
        return snapshot(CASE, "observed.parquet"), snapshot(CASE, "campaigns.parquet")
    drawn = simulate(seed)
    return drawn.observed, drawn.campaigns


@cache
def _frame(seed: int) -> pd.DataFrame:
    observed, campaigns = world(seed)
    return with_plan(repair(observed, audit(observed)), campaigns)


@cache
def _forecasts(seed: int) -> pd.DataFrame:
    islands = _frame(seed).query("state == 'Islands'")
    return walk_forward(islands, {"seasonal_naive": seasonal_naive}, n_origins=2)


@cache
def _six_years(seed: int) -> pd.DataFrame:
    plan = ("campaign", "campaign_last_year")
    return walk_forward(_frame(seed), {"model": lightgbm_global}, n_origins=6, known=plan)


def around(y):  # a window of four quarters: two before, this one, one after
    return y.rolling(4, center=True, min_periods=3).mean()


def candidates(frame):
    y = frame.groupby("unique_id")["y"]
    return pd.DataFrame(
        {
            "lag_4": y.shift(4),
            "lag_1": y.shift(1),
            "year_around": y.transform(around),
            "campaign": frame["campaign"],
            "mean_so_far": y.transform(lambda s: s.expanding().mean()),
            "mean_before": y.transform(lambda s: s.shift(4).rolling(4).mean()),
        }
    )


exercise = Exercise(
    CASE,
    SEED,
    given={
        "frame": _frame,
        "forecasts": _forecasts,
        "candidates": lambda seed: candidates,
        "features": lambda seed: candidates(_frame(seed)),
        "six_years": _six_years,
        "past": lambda seed: _six_years(seed).query("origin < '2022-01-01'"),
        "held_out": lambda seed: _six_years(seed).query("origin >= '2022-01-01'"),
        "IDLE": lambda seed: IDLE,
        "MISSING": lambda seed: MISSING,
    },
)

q1 = exercise.asked(
    1,
    "`pooled_wape`, one number between 0 and 1",
    setup="""
actual, forecast = forecasts["y"], forecasts["seasonal_naive"]
error = (actual - forecast).abs()
def sums(by):
    return forecasts.assign(error=error).groupby(by)[["error", "y", "seasonal_naive"]].sum()
def mean_of(by):
    return (sums(by)["error"] / sums(by)["y"]).mean()
small, large = actual <= actual.quantile(1 / 3), actual >= actual.quantile(2 / 3)
""",
    parts=parts(
        """
pooled_wape = error.sum() / actual.sum()
np.average(error / actual, weights=actual)
error.mean() / actual.mean()
sum(abs(a - f) for a, f in zip(actual, forecast)) / sum(actual)
  {value:.4g} is none of the usual mix-ups. Build your number from two totals over all {len(error)}
  rows: the trips that were missed, and the trips there were.
(error / actual).mean()
  This is MAPE, a mean of {len(error)} percentages. A quarter with {actual.min():,.0f} thousand
  trips counts as much as one with {actual.max():,.0f} thousand, but the board pays by the trip.
mean_of('unique_id')
  This is the mean of {len(sums('unique_id'))} WAPEs, one for each series. Each counts the same,
  however small it is: sum over all series before you divide.
mean_of('ds')
  This is the mean of {len(sums('ds'))} WAPEs, in which a low season counts as much as a high one.
(actual - forecast).sum() / actual.sum()
(forecast - actual).sum() / actual.sum()
  Errors of both signs have cancelled: this is the bias. With 100 workers too many in one place and
  100 too few in another it would be zero, and both places would be staffed wrongly.
(sums('ds')['y'] - sums('ds')['seasonal_naive']).abs().sum() / actual.sum()
  The series were added up before the errors were taken, so one region's surplus hides another's
  shortage. Workers are contracted by series: take the error of each row first.
error.sum() / forecast.sum()
  You divided by the trips that were forecast. The board asks for a share of the trips that took
  place; against its own forecasts, a forecaster looks better the more it promises.
(error / actual).median()
  This is a median, the middle quarter's error. It does not see how wrong the other half is.
100 * right
  when: value > 1
  {value:.4g} would be more than all the trips there were. Give a share (0.25, not 25).
""",
        pooled_wape=Number(0.002),
    ),
    prediction=Prediction(
        "guess",
        ("above", "below"),
        "'above' if (error / actual).mean() > pooled_wape else 'below'",
        "MAPE is {(error / actual).mean():.1%}. It counts each row alike, and the forecasts miss "
        "{(error / actual)[small].mean():.0%} in a quarter of the smallest third, "
        "{(error / actual)[large].mean():.0%} in one of the largest third.",
    ),
    shows="The forecasts missed {pooled_wape:.1%} of the trips, too high or too low.",
    hints=(
        "A thousand trips cost the same wherever they are missed. Which rows may then count more "
        "than others, and by what?",
        "Take the absolute error of each row in thousand trips, and do not divide yet.",
        "Divide once: the sum of the absolute errors over the sum of `y`, both over all rows.",
    ),
)

q2 = exercise.asked(
    2,
    "`leaks`, a set of feature names in quotes",
    setup="""
later = frame["ds"] >= "2024-01-01"
changed = candidates(frame.assign(y=frame["y"].mask(later, 2 * frame["y"] + 1)))
def moves(name):
    same = np.isclose(features[name], changed[name], rtol=1e-9, atol=0, equal_nan=True)
    return not same[later].all()
def more(value, right):
    several = len(set(value) ^ set(right)) > 1
    return " And that is not all that is to be mended in your set." if several else ""
""",
    parts=parts(
        """
leaks = {name for name in features if moves(name)}
[name for name in features if moves(name)]
  {value} is not the set of all features that leak.
set()
  when: not value
  At least one of them leaks. That every feature is filled in the table of the past proves nothing:
  that table was written when all of it was over.
set(features)
  when: value == set(features)
  Not all of them: nothing would be left to forecast with. Ask of each feature whether you could
  have written down its value for the last quarter ahead, on the day of the forecast.
right | {'campaign'}
  when: 'campaign' in value
  `campaign` is no leak. It speaks about the future, but no trip goes into it: it is a plan, fixed
  before the forecast is made. What counts is when a feature is known, not which time it is
  about.{more(value, right)}
right | {'mean_before'}
right | {'lag_4'}
  when: value - right
  {names(sorted(value - right))} is no leak. All trips in it took place before the forecast is made,
  even for the last quarter ahead: it is shifted by the whole horizon.{more(value, right)}
right - {'lag_1'}
  when: 'lag_1' not in value
  You let `lag_1` pass. It would be fine one quarter ahead, but you forecast four quarters on one
  day: from quarter 2 on it holds trips that have not happened yet.{more(value, right)}
right - {'year_around'}
  when: 'year_around' not in value
  You let `year_around` pass. Its window reaches beyond the quarter in whose row it is written: a
  mean around a quarter is smooth because it has seen what comes next.{more(value, right)}
right - {'mean_so_far'}
  when: 'mean_so_far' not in value
  You let `mean_so_far` pass. Nothing after a quarter goes into it, but the quarter itself does: the
  feature holds a part of the answer. Look where its window ends.
""",
        leaks=Labels("features"),
    ),
    shows="Change the trips after the forecast is made, and exactly these move: {names(name for "
    "name in features if name in leaks)}. A plan is about the future and stays, because it is "
    "known in advance.",
    hints=(
        "Stand on the day before the first forecast quarter and look at the *last* one, a year "
        "ahead. Which values could you write into its row?",
        "For each feature, list the quarters in its window as seen from that last quarter. A "
        "window that holds the quarter itself, or one less than four quarters before it, leaks. "
        "Ask of `campaign` who writes it, and when.",
        "Let the computer answer: double `y` from 2024 on in a copy of `frame`, call `candidates` "
        "on the copy, and see which columns differ from `features` in 2024.",
    ),
)

q3 = exercise.asked(
    3,
    "`multiplier`, one number by which the forecasts are multiplied",
    setup="""
ratios, later = past["y"] / past["model"], held_out["y"] / held_out["model"]
share = MISSING / (MISSING + IDLE)
# Every definition of a sample's quantile is as good, and so is to count each worker once.
methods = ("linear", "lower", "higher", "inverted_cdf", "hazen", "weibull", "median_unbiased")
quantiles = [np.quantile(ratios, share, method=method) for method in methods]
def best(years, share):  # the quantile that counts each worker once
    r = (years["y"] / years["model"]).sort_values()
    weight = years["model"].loc[r.index].cumsum() / years["model"].sum()
    return float(r[weight >= share].iloc[0])
def as_good(value):
    low, high = min(quantiles) - 1e-9, max(quantiles) + 1e-9
    return abs(value / best(past, 0.75) - 1) <= 0.002 or low <= value <= high
def cost(years, multiplier):
    short = years["y"] - multiplier * years["model"]
    return (MISSING * short.clip(lower=0) + IDLE * (-short).clip(lower=0)).sum() / 1e6
""",
    parts=parts(
        """
multiplier = ratios.quantile(share)
np.quantile(ratios, 0.75, method='weibull')
best(past, 0.75)
min(np.arange(1.0, 1.5, 0.0005), key=lambda m: cost(past, m))
  when: as_good(value)
  With {value:.3f} times the forecast you would have been short in {(ratios > value).mean():.0%} of
  the past quarters. In those, one more worker saves {MISSING:,} euro; in all others it wastes
  {IDLE:,}. Find the share at which the two balance.
ratios.quantile(1 - share)
  The costs are upside down: you are short in {(ratios > value).mean():.0%} of the past quarters,
  as you would choose if an *idle* worker cost three times a missing one.
ratios.quantile(1 - IDLE / MISSING)
  This is the two-thirds quantile: three to one was read as 1 − 1/3. Of the four parts at stake, one
  for idle and three for missing, which share belongs to missing?
ratios.mean()
past['y'].sum() / past['model'].sum()
  This is a mean. It makes the forecast right on average, so staff is short about as often as idle,
  although being short costs more. The costs choose a quantile.
ratios.median()
  This is the median, the cheapest order if a missing worker cost as much as an idle one.
1.0
  This is the point forecast itself. It was made to be close, not to be cheap: being below the
  demand costs more, and the model's own past says how far it tends to be below.
later.quantile(share)
best(held_out, 0.75)
  These are the held-out years at work: on the day of the contracts nobody knows their errors, and a
  multiplier chosen on the quarters that judge it looks better than it is. Learn it from `past`.
pd.concat([ratios, later]).quantile(share)
  All six years are in this quantile; on the day of the contracts the last three are yet to come.
(1 / ratios).quantile(share)
  The ratio is the wrong way round: forecast over demand says how far the *forecast* is above. You
  multiply a forecast to reach demand, so you need `y` over `model`.
share
  This is the share of quarters in which staff should suffice. Take this quantile of the ratios.
""",
        multiplier=Number(0.002),
    ),
    shows="With {multiplier:.3f} times the forecast, the held-out years cost {cost(held_out, "
    "multiplier):,.0f} million euro instead of {cost(held_out, 1.0):,.0f} million at the forecast "
    "itself, and staff is short in {(later > multiplier).mean():.0%} of the quarters.",
    hints=(
        "Imagine adding one worker to an order. In which share of the quarters must this worker "
        "be needed to be worth the contract?",
        "The best order suffices in a share of the quarters that is missing / (missing + idle). "
        "The quantile of demand at that share, divided by the forecast, is the multiplier.",
        "The ratios are `past['y'] / past['model']`; a Series has a method `quantile`.",
    ),
)
