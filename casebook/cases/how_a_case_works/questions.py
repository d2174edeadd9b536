"""Questions of exercise 00: a number to report, a leak to find, contracts to order."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.how_a_case_works.system import (
    HORIZON,
    audit,
    lightgbm_global,
    repair,
    seasonal_naive,
    walk_forward,
    with_plan,
)
from casebook.data import snapshot
from casebook.evaluate.metrics import mape, wape
from casebook.exercises.grading import Question, Wrong, WrongAnswer, close, number

CASE = "00_how_a_case_works"
#: Euro for one quarter: a contracted worker without work, a needed worker without contract.
IDLE_COST, MISSING_COST = 6_000, 18_000
#: Builds the candidate features of question 2 from a frame, in its order of rows.
Candidates = Callable[[pd.DataFrame], pd.DataFrame]


@cache
def _frame() -> pd.DataFrame:
    observed = snapshot(CASE, "observed.parquet")
    return with_plan(repair(observed, audit(observed)), snapshot(CASE, "campaigns.parquet"))


# Question 1: which number would you report?


@cache
def _islands() -> pd.DataFrame:
    frame = _frame()
    islands = frame[frame["state"] == "Islands"]
    return walk_forward(islands, {"seasonal_naive": seasonal_naive}, n_origins=2)


def _slips_in_wape(forecasts: pd.DataFrame) -> list[tuple[float, str]]:
    """Return what the usual slips give on these forecasts, each with its reason."""
    actual, forecast = forecasts["y"], forecasts["seasonal_naive"]
    rows = forecasts.assign(error=(actual - forecast).abs())
    sums = {by: rows.groupby(by)[["error", "y"]].sum() for by in ("unique_id", "ds")}
    ratios = {by: sums[by]["error"] / sums[by]["y"] for by in sums}
    totals = forecasts.groupby("ds")[["y", "seasonal_naive"]].sum()
    bias = (actual - forecast).sum() / actual.sum()
    cancelled = (
        "Errors of both signs have cancelled: this is the bias, which says whether the forecasts "
        "are too high or too low on the whole. With 100 workers too many in one place and 100 too "
        "few in another it would be zero, and both places would be staffed wrongly."
    )
    return [
        (
            mape(actual, forecast),
            f"This is MAPE, a mean of ratios: each error is divided by its own quarter, then the "
            f"{len(rows)} percentages are averaged. So a quarter with {actual.min():,.0f} thousand "
            f"trips counts as much as one with {actual.max():,.0f} thousand, but the board pays "
            "by the trip.",
        ),
        (
            ratios["unique_id"].mean(),
            f"This is the mean of {len(ratios['unique_id'])} WAPEs, one for each series. Each "
            "series counts the same, however small it is: averaging brings back what pooling "
            "had removed. Sum over all series before you divide.",
        ),
        (
            ratios["ds"].mean(),
            f"This is the mean of {len(ratios['ds'])} WAPEs, one for each quarter. A low season "
            "counts as much as a high one; sum over all quarters before you divide.",
        ),
        (bias, cancelled),
        (-bias, cancelled),
        (
            wape(totals["y"], totals["seasonal_naive"]),
            "The series were added up before the errors were taken, so that one region's surplus "
            "hides another's shortage. Workers are contracted by series: take the error of each "
            "row first.",
        ),
        (
            rows["error"].sum() / forecast.sum(),
            "You divided by the trips that were forecast. The board asks for a share of the trips "
            "that took place; against its own forecasts, a forecaster looks better the more it "
            "promises.",
        ),
        (
            (rows["error"] / actual).median(),
            "This is the error of the middle quarter, a median. It does not see how wrong the "
            "other half is, nor how many trips stand behind each quarter.",
        ),
    ]


def _judge_wape(answer: object) -> str:
    value = number(answer, "pooled_wape")
    forecasts = _islands()
    actual, forecast = forecasts["y"], forecasts["seasonal_naive"]
    right = wape(actual, forecast)
    if close(value, right, 0.002):
        return (
            f"The forecasts missed {right:.1%} of the trips, too high or too low. MAPE would have "
            f"said {mape(actual, forecast):.1%} about the very same forecasts."
        )
    if value > 1:
        raise Wrong(
            f"{value:.4g} would be more than all the trips there were. Give a share (0.25, not "
            "25), and see that trips stand above and below the line."
        )
    for slip, reason in _slips_in_wape(forecasts):
        if close(value, slip, 0.002):
            raise Wrong(reason)
    raise Wrong(
        f"{value:.4g} is none of the usual mix-ups. Build your number from two totals over all "
        f"{len(forecasts)} rows: the trips that were missed, and the trips that there were."
    )


q1 = Question(
    number=1,
    asks="`pooled_wape`, one number between 0 and 1",
    judge=_judge_wape,
    hints=(
        "A thousand trips cost the same wherever they are missed. Which rows may then count more "
        "than others, and by what?",
        "Take the absolute error of each row in thousand trips, and do not divide yet.",
        "One division is enough: the sum of the absolute errors over the sum of `y`, both over "
        "all rows.",
    ),
    wrong_answers=(
        WrongAnswer(
            "error = (forecasts['y'] - forecasts['seasonal_naive']).abs()\n"
            "pooled_wape = (error / forecasts['y']).mean()",
            "This is MAPE",
        ),
        WrongAnswer(
            "error = (forecasts['y'] - forecasts['seasonal_naive']).abs()\n"
            "sums = forecasts.assign(error=error).groupby('unique_id')[['error', 'y']].sum()\n"
            "pooled_wape = (sums['error'] / sums['y']).mean()",
            "one for each series",
        ),
        WrongAnswer(
            "error = forecasts['y'] - forecasts['seasonal_naive']\n"
            "pooled_wape = error.sum() / forecasts['y'].sum()",
            "this is the bias",
        ),
        WrongAnswer(
            "error = (forecasts['y'] - forecasts['seasonal_naive']).abs()\n"
            "pooled_wape = error.sum() / forecasts['seasonal_naive'].sum()",
            "divided by the trips that were forecast",
        ),
        WrongAnswer(
            "totals = forecasts.groupby('ds')[['y', 'seasonal_naive']].sum()\n"
            "error = (totals['y'] - totals['seasonal_naive']).abs()\n"
            "pooled_wape = error.sum() / totals['y'].sum()",
            "hides another's shortage",
        ),
        WrongAnswer(
            "error = (forecasts['y'] - forecasts['seasonal_naive']).abs()\n"
            "pooled_wape = 100 * error.sum() / forecasts['y'].sum()",
            "Give a share",
        ),
    ),
)


# Question 2: find the leak.


def _steps_that_move(candidates: Candidates, since: pd.Timestamp) -> dict[str, list[int]]:
    """Return, by feature, the steps ahead at which it moves when trips since a day change."""
    frame = _frame()
    changed = frame.assign(y=frame["y"].where(frame["ds"] < since, 2 * frame["y"] + 1))
    before, after = candidates(frame.copy()), candidates(changed)
    quarters = np.sort(frame["ds"].unique())[-HORIZON:]
    steps = {}
    for name in before:
        same = np.isclose(before[name], after[name], rtol=1e-9, atol=0, equal_nan=True)
        steps[name] = [h for h, day in enumerate(quarters, 1) if not same[frame["ds"] == day].all()]
    return steps


def _names(answer: object, known: list[str]) -> set[str]:
    if isinstance(answer, str):
        answer = {answer}
    if not isinstance(answer, (set, frozenset, list, tuple, pd.Index, pd.Series, np.ndarray)):
        raise Wrong(
            "`leaks` should be a set of feature names in quotes, such as "
            f'`{{"one_name", "another_name"}}`; it is of type {type(answer).__name__}.'
        )
    if unknown := sorted(str(name) for name in answer if name not in known):
        raise Wrong(
            f"There is no feature {', '.join(f'`{name}`' for name in unknown)}. The names are "
            f"{', '.join(f'`{name}`' for name in known)}."
        )
    return set(answer)


def _reason_for_no_leak(name: str, uses_trips: bool) -> str:
    if not uses_trips:
        return (
            f"`{name}` is no leak. It speaks about the future, but no trip goes into it: it is "
            "a plan, fixed before the forecast is made. What counts is not which time a feature "
            "is about, but when it is known."
        )
    return (
        f"`{name}` is no leak. All trips in it took place before the forecast is made, even for "
        "the last quarter ahead: it is shifted by the whole horizon."
    )


def _reason_for_leak(name: str, steps: list[int], looks_ahead: bool) -> str:
    if 1 not in steps:
        return (
            f"You let `{name}` pass. It would be fine for a forecast one quarter ahead, but you "
            f"forecast {HORIZON} quarters on one day: from quarter {steps[0]} on it holds trips "
            "that have not happened yet."
        )
    if looks_ahead:
        return (
            f"You let `{name}` pass. Its window reaches beyond the quarter it stands for: a mean "
            "around a quarter is smooth because it has already seen what comes next."
        )
    return (
        f"You let `{name}` pass. Nothing after a quarter goes into it, but the quarter itself "
        "does: the feature holds a part of the answer. Look where its window ends."
    )


def _judge_leaks(answer: object, candidates: Candidates) -> str:
    quarters = np.sort(_frame()["ds"].unique())
    origin = quarters[-HORIZON]
    steps = _steps_that_move(candidates, since=origin)
    named = _names(answer, list(steps))
    leaks = {name for name in steps if steps[name]}
    if named == leaks:
        moved = ", ".join(f"`{name}`" for name in steps if name in leaks)
        return (
            f"Change the trips after the forecast is made, and exactly these move: {moved}. A plan "
            "is about the future and stays, because it is known in advance."
        )
    if not named:
        raise Wrong(
            "At least one of them leaks. That every feature is filled in the table of the past "
            "proves nothing: that table was written when all of it was over."
        )
    if named == set(steps):
        raise Wrong(
            "Not all of them: with this rule nothing would be left to forecast with. Ask of each "
            "feature whether you could have written down its value for the last quarter ahead, "
            "on the day of the forecast."
        )
    reasons = []
    if named - leaks:
        uses_trips = _steps_that_move(candidates, since=quarters[0])
        reasons += [
            _reason_for_no_leak(n, uses_trips=bool(uses_trips[n]))
            for n in steps
            if n in named - leaks
        ]
    if leaks - named:
        ahead = _steps_that_move(candidates, since=quarters[1 - HORIZON])
        reasons += [
            _reason_for_leak(n, steps[n], looks_ahead=1 in ahead[n])
            for n in steps
            if n in leaks - named
        ]
    more = " And that is not all that is to be mended in your set." if len(reasons) > 1 else ""
    raise Wrong(reasons[0] + more)


q2 = Question(
    number=2,
    asks="`leaks`, a set of feature names in quotes",
    judge=_judge_leaks,
    hints=(
        "Stand on the day before the first forecast quarter and look at the *last* one, a year "
        "ahead. Which values could you write into its row?",
        "For each feature, list the quarters in its window as seen from that last quarter. A "
        "window that holds the quarter itself, or one less than four quarters before it, leaks. "
        "Ask of `campaign` who writes it, and when.",
        "Let the computer answer: double `y` from 2024 on in a copy of `frame`, call `candidates` "
        "on the copy, and see which columns differ from `features` in 2024.",
    ),
    wrong_answers=(
        WrongAnswer(
            'leaks = {"lag_1", "year_around", "campaign", "mean_so_far"}',
            "`campaign` is no leak. It speaks about the future",
        ),
        WrongAnswer(
            'leaks = {"year_around", "mean_so_far"}', "fine for a forecast one quarter ahead"
        ),
        WrongAnswer('leaks = {"lag_1", "year_around"}', "but the quarter itself does"),
        WrongAnswer('leaks = {"lag_1", "mean_so_far"}', "reaches beyond the quarter"),
        WrongAnswer(
            'leaks = {"lag_1", "year_around", "mean_so_far", "mean_before"}',
            "shifted by the whole horizon",
        ),
        WrongAnswer("leaks = set(features)", "nothing would be left"),
        WrongAnswer("leaks = set()", "At least one"),
    ),
)


# Question 3: how many contracts?


@cache
def _past_and_held_out() -> tuple[pd.DataFrame, pd.DataFrame]:
    known = ("campaign", "campaign_last_year")
    forecasts = walk_forward(_frame(), {"model": lightgbm_global}, n_origins=6, known=known)
    first = forecasts["origin"].isin(np.sort(forecasts["origin"].unique())[:3])
    return forecasts[first], forecasts[~first]


def _cost(forecasts: pd.DataFrame, multiplier: float) -> float:
    """Return the euro that contracts for ``multiplier`` times the forecast would have cost."""
    short = forecasts["y"] - multiplier * forecasts["model"]
    return float((MISSING_COST * short.clip(lower=0) + IDLE_COST * (-short).clip(lower=0)).sum())


def _best_multiplier(forecasts: pd.DataFrame, share: float) -> float:
    """Return the multiplier with the lowest cost: the quantile that counts each worker once."""
    ratios = (forecasts["y"] / forecasts["model"]).sort_values()
    weight = forecasts["model"].loc[ratios.index].cumsum() / forecasts["model"].sum()
    return float(ratios[weight >= share].iloc[0])


def _slips_in_multiplier(share: float) -> list[tuple[float, str]]:
    """Return what the usual slips give, each with its reason."""
    past, held_out = _past_and_held_out()
    ratios, later = past["y"] / past["model"], held_out["y"] / held_out["model"]
    mean = (
        "This is a mean. It makes the forecast right on average, so that staff is short about as "
        "often as idle; it does not know that being short costs more. The costs choose a quantile."
    )
    hindsight = (
        "These are the held-out years at work: on the day of the contracts nobody knows how "
        "wrong the forecasts for them will be. A multiplier chosen on the quarters that judge it "
        "always looks better than it is. Learn it from `past` alone."
    )
    return [
        (
            ratios.quantile(1 - share),
            "The costs are upside down: this multiplier leaves you short in "
            f"{(ratios > ratios.quantile(1 - share)).mean():.0%} of the past quarters. That is "
            "what you would order if an *idle* worker cost three times a missing one.",
        ),
        (
            ratios.quantile(1 - IDLE_COST / MISSING_COST),
            "This is the two-thirds quantile: three to one was read as 1 − 1/3. Of the four parts "
            "that are at stake, one for idle and three for missing, which share belongs to "
            "missing?",
        ),
        (ratios.mean(), mean),
        (past["y"].sum() / past["model"].sum(), mean),
        (
            ratios.median(),
            "This is the median: short in one quarter of two. It is the cheapest order if a "
            "missing worker costs as much as an idle one, and here the two differ.",
        ),
        (
            1.0,
            "This is the point forecast itself. It was made to be close, not to be cheap: being "
            "below the demand costs more than being above it, and the model's own past says how "
            "far it tends to be below.",
        ),
        (later.quantile(share), hindsight),
        (_best_multiplier(held_out, share), hindsight),
        (
            pd.concat([ratios, later]).quantile(share),
            "All six years went into this quantile. The last three are the ones that you order "
            "for: on the day of the contracts they have not happened.",
        ),
        (
            (1 / ratios).quantile(share),
            "The ratio is the wrong way round: forecast over demand says how far the *forecast* "
            "is above. You multiply a forecast to reach demand, so that you need `y` over "
            "`model`.",
        ),
        (
            share,
            "This is the share of quarters in which staff should suffice, not yet the multiplier. "
            "Take this quantile of the ratios `y` over `model`.",
        ),
    ]


def _judge_multiplier(answer: object) -> str:
    value = number(answer, "multiplier")
    share = MISSING_COST / (MISSING_COST + IDLE_COST)
    past, held_out = _past_and_held_out()
    right = (past["y"] / past["model"]).quantile(share)
    # Counting each worker once instead of each contract is as good a reading of the past.
    if close(value, right, 0.002) or close(value, _best_multiplier(past, share), 0.002):
        short = (held_out["y"] > value * held_out["model"]).mean()
        return (
            f"With {value:.3f} times the forecast, the held-out years cost "
            f"{_cost(held_out, value) / 1e6:,.0f} million euro instead of "
            f"{_cost(held_out, 1.0) / 1e6:,.0f} million at the forecast itself, and staff is "
            f"short in {short:.0%} of the quarters."
        )
    if close(value, right) and value == round(value, 2):
        raise Wrong(f"{value} is near; two decimals are too few here. Give the number unrounded.")
    for slip, reason in _slips_in_multiplier(share):
        if close(value, slip, 0.001):
            raise Wrong(reason)
    short = (past["y"] > value * past["model"]).mean()
    raise Wrong(
        f"With {value:.3f} times the forecast you would have been short in {short:.0%} of the "
        f"past quarters. In those, one more worker saves {MISSING_COST:,} euro; in all others it "
        f"wastes {IDLE_COST:,}. Find the share at which the two balance."
    )


q3 = Question(
    number=3,
    asks="`multiplier`, one number by which the forecasts are multiplied",
    judge=_judge_multiplier,
    hints=(
        "Imagine adding one worker to an order. In which share of the quarters must this worker "
        "be needed to be worth the contract?",
        "The best order suffices in a share of the quarters that is missing / (missing + idle). "
        "The quantile of demand at that share, divided by the forecast, is the multiplier.",
        "The ratios are `past['y'] / past['model']`; a Series has a method `quantile`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "multiplier = (past['y'] / past['model']).quantile(IDLE / (MISSING + IDLE))",
            "upside down",
        ),
        WrongAnswer(
            "multiplier = (past['y'] / past['model']).quantile(1 - IDLE / MISSING)",
            "two-thirds quantile",
        ),
        WrongAnswer("multiplier = (past['y'] / past['model']).mean()", "This is a mean"),
        WrongAnswer("multiplier = (past['y'] / past['model']).median()", "This is the median"),
        WrongAnswer(
            "multiplier = (held_out['y'] / held_out['model']).quantile(MISSING / (MISSING + IDLE))",
            "held-out years at work",
        ),
        WrongAnswer(
            "ratios = six_years['y'] / six_years['model']\n"
            "multiplier = ratios.quantile(MISSING / (MISSING + IDLE))",
            "All six years",
        ),
        WrongAnswer(
            "multiplier = (past['model'] / past['y']).quantile(MISSING / (MISSING + IDLE))",
            "the wrong way round",
        ),
        WrongAnswer("multiplier = MISSING / (MISSING + IDLE)", "not yet the multiplier"),
        WrongAnswer("multiplier = 1.0", "the point forecast itself"),
    ),
)
