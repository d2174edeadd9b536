"""Questions of exercise 01: coherence, scores, what was known on the day, and staff."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting import world as chapter
from casebook.cases.demand_forecasting.world import KEYS, SEED, simulate
from casebook.data import snapshot
from casebook.exercises.asked import Exercise, Labels, Number, Numbers, Part, Prediction, Slip
from casebook.exercises.grading import student_seed

CASE = "01_demand_forecasting"
DAY = pd.Timedelta(days=1)

# The exercise's world. A student has the chapter's network, seasons and breaks; the depots' shocks
# and each day's parcels are drawn by the student's seed.

#: Question 4 tells what was seen in France, so that there the shocks stay.
TOLD = ("FR", slice("2022-02-01", "2022-09-30"))


def truth(seed: int | None = None) -> pd.DataFrame:
    """Return what really happened; see :class:`casebook.cases.demand_forecasting.world.World`.

    Parameters
    ----------
    seed : int, optional
        By default the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.
    """
    return _truth(student_seed(SEED) if seed is None else seed)


@cache
def _truth(seed: int) -> pd.DataFrame:
    known = simulate().truth
    if seed == SEED:
        return known
    rng = np.random.default_rng(seed)
    shocks = known.assign(depot=_depot(known)).pivot_table("shock", "ds", "depot")
    fresh = shocks.copy()
    for country, depots in shocks.T.groupby(shocks.columns.str[:2]).groups.items():
        fresh[depots] = chapter._shocks(rng, len(depots)).T
        if country == TOLD[0]:
            fresh.loc[TOLD[1], depots] = shocks.loc[TOLD[1], depots]
    drawn = known.assign(depot=_depot(known)).drop(columns=["y", "shock"])
    drawn = drawn.merge(fresh.stack().rename("shock").reset_index(), on=["ds", "depot"])
    intensity = drawn["base"] * np.exp(drawn["jump"] + drawn["shock"])
    share = chapter.DISPERSION / (chapter.DISPERSION + intensity)
    drawn["y"] = rng.negative_binomial(chapter.DISPERSION, share)
    return drawn[list(known.columns)]


def reports(seed: int | None = None) -> pd.DataFrame:
    """Return the feed of the exercise, with the chapter's faults; see :func:`truth`.

    Parameters
    ----------
    seed : int, optional
        By default the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.
    """
    seed = student_seed(SEED) if seed is None else seed
    sent = snapshot(CASE, "reports.parquet")
    if seed == SEED:
        return sent
    faults = snapshot(CASE, "faults.parquet").query("fault == 'wrong unit'")
    drawn = sent.drop(columns="y").merge(truth(seed)[[*KEYS, "y"]], on=KEYS)
    wrong = drawn.set_index(KEYS).index.isin(faults.set_index(KEYS).index)
    drawn.loc[wrong, "y"] = (drawn.loc[wrong, "y"] / 100).round().astype(int)
    return drawn[list(sent.columns)]


def variances(seed: int | None = None) -> pd.Series:
    """Return the error variances of question 2: depots A and B, and the total forecast directly.

    Parameters
    ----------
    seed : int, optional
        By default the student's (``CASEBOOK_STUDENT_SEED``), or the chapter's.
    """
    seed = student_seed(SEED) if seed is None else seed
    a, b, rho = 60, 40, -0.25
    if seed != SEED:
        rng = np.random.default_rng(seed)
        a, b = 10 * rng.choice(np.arange(3, 10), 2, replace=False)
        rho = rng.choice([-0.2, -0.25, -0.3, -0.35, -0.4])
    values = [a**2, b**2, a**2 + b**2 + 2 * rho * a * b]
    return pd.Series(values, ["depot A", "depot B", "the total, directly"], float)


def _depot(rows: pd.DataFrame) -> pd.Series:
    return rows["unique_id"].str.rsplit("/", n=1).str[0]


@cache
def _parcels(seed: int) -> pd.DataFrame:
    """Return parcels by day and route, as the exercise prepares them."""
    once = reports(seed).drop_duplicates(KEYS)
    wide = once.pivot(index="ds", columns="unique_id", values="y")
    return wide.fillna(wide.shift(7))


ORIGIN, TODAY = pd.Timestamp("2022-06-06"), pd.Timestamp("2022-04-11")


def _y(seed: int) -> pd.Series:
    return _parcels(seed)["PL/PL2/r2"]


def _test(seed: int) -> pd.Series:
    return _y(seed)[ORIGIN : ORIGIN + 27 * DAY]


def _forecast(seed: int) -> pd.Series:
    last, test = _y(seed)[: ORIGIN - DAY].tail(28), _test(seed)
    by_weekday = last.groupby(last.index.dayofweek).mean()
    return pd.Series(by_weekday[test.index.dayofweek].to_numpy(), test.index)


def cleanups(y, origin):
    week, month = y.rolling(7).mean(), y.rolling(28).mean()
    alarm = (week < 0.8 * week.shift(28)).idxmax()  # first such day
    back = week[alarm:] > 0.8 * week.shift(28)[alarm]
    jump = (month.shift(-28) - month).abs().idxmax()
    past = y[y.index < origin]
    day, history = y.index, y.where(y.index < origin)
    return pd.DataFrame(
        {
            "since_alarm": day >= alarm,
            "until_back": (day >= alarm) & (day < back.idxmax()),
            "largest_jump": day > jump,
            "clipped": history.clip(*y.quantile([0.1, 0.9])),
            "clipped_past": history.clip(*past.quantile([0.1, 0.9])),
            "level_free": history / y.rolling(15, center=True).mean(),
        },
        index=day,
    ).astype(float)


def _table_of_october(seed: int) -> pd.Series:
    parcels = _parcels(seed)
    french = parcels[[c for c in parcels if c.startswith("FR/")]].sum(axis=1)
    return french["2022-02-01":"2022-09-30"]


#: Euro a parcel: capacity that is not used, and a parcel without capacity.
IDLE, SHORT = 0.60, 2.40


@cache
def _route_errors(seed: int) -> pd.DataFrame:
    """Return the errors (actual − forecast) of the routes of FR1 on working days."""
    parcels = _parcels(seed)
    routes = parcels[[c for c in parcels if c.startswith("FR/FR1/")]]
    weeks = pd.concat([routes.shift(7 * k) for k in (1, 2, 3, 4)])
    errors = routes - weeks.groupby(level="ds").median()
    return errors[errors.index.dayofweek < 5]


def staff_cost(errors, margin):  # errors of the depot; euro a day
    short = errors - margin
    cost = SHORT * short.clip(lower=0) + IDLE * (-short).clip(lower=0)
    return cost.mean()


exercise = Exercise(
    CASE,
    SEED,
    given={
        "variances": variances,
        "y": _y,
        "origin": lambda seed: ORIGIN,
        "test": _test,
        "forecast": _forecast,
        "today": lambda seed: TODAY,
        "table_of_october": _table_of_october,
        "cleanups": lambda seed: cleanups,
        "cleaned": lambda seed: cleanups(_table_of_october(seed), TODAY),
        "sparse": lambda seed: (
            _parcels(seed).loc["2023-07-01":"2024-06-30", "DE/DE1/r2"].to_numpy()
        ),
        "steps": lambda seed: np.arange(0, 2.001, 0.01),
        "past": lambda seed: _route_errors(seed)["2022-07-01":"2023-06-30"],
        "held_out": lambda seed: _route_errors(seed)["2023-07-01":"2024-06-30"],
        "staff_cost": lambda seed: staff_cost,
        "IDLE": lambda seed: IDLE,
        "SHORT": lambda seed: SHORT,
    },
)

q1 = exercise.asked(
    1,
    "`S`, three rows of two numbers, and `c`, three numbers",
    setup="""
def file(S):  # of a night with 600 and 400 parcels
    sent = zip(("PL1", "region", "PL2"), S @ np.array([600.0, 400.0]))
    return ", ".join(f"{node} {value:,.5g}" for node, value in sent)
""",
    parts=[
        Part(
            "S",
            "np.array([[1, 0], [1, 1], [0, 1]])",
            [
                Slip(
                    "right[[1, 0, 2]]",
                    "This is the right matrix for another list: it has the region first, as in "
                    "textbooks. The rows must follow the file, PL1, region, PL2. Here your first "
                    "row would publish the whole region under the name of PL1.",
                ),
                Slip(
                    "right[:, ::-1]",
                    "The columns are swapped: your first row publishes PL2 as the forecast "
                    "of PL1. The region is right all the same, so that a look at the total would "
                    "not find it.",
                ),
                Slip(
                    "right.T",
                    "`S` is transposed. `S @ b` takes the two depots and gives the three "
                    "nodes: one row for each node, one column for each depot.",
                    form="np.shape(value) == (2, 3)",
                ),
                Slip(
                    "[0.6, 1, 0.4]",
                    "`S` with a single column starts from a single number, the region, and divides "
                    "it among the depots: that is how a top-down forecast is made. `S` goes the "
                    "other way and starts from the two depots; there is nothing to estimate in it.",
                    form="np.shape(value) in ((3,), (3, 1))",
                ),
                Slip(
                    "[[1, 0], [0, 0], [0, 1]]",
                    "The region is zero whatever the depots send. Its row has to add up its "
                    "depots; it is not a third series of its own.",
                    when="not value[1].any()",
                ),
                Slip(
                    "[[1, 0], [0.5, 0.5], [0, 1]]",
                    "The region's row is the mean of the depots. Parcels add up: with 600 and 400 "
                    "the region sends 1,000, not 500.",
                    when="np.allclose(value[1], 0.5)",
                ),
            ],
            otherwise="With 600 parcels from PL1, 400 from PL2, your matrix says: {file(value)}. "
            "Each row answers for one node: how many times does it count PL1, how many times PL2?",
            kind=Numbers((3, 2), 1e-9),
            also=["np.vstack([np.eye(2), np.ones(2)])[[0, 2, 1]]"],
        ),
        Part(
            "c",
            "[1, -1, 1]",
            [
                Slip(
                    "[0, 0, 0]",
                    "With `c` all zeros every forecast passes, incoherent ones too. The equation "
                    "has to hold for coherent forecasts and for no others.",
                    when="not value.any()",
                ),
                Slip(
                    "[1, 1, 1]",
                    "With one sign for all three, `c @ y` adds the region to its own depots. It is "
                    "zero only where nothing is sent. Depots on one side, region on the other.",
                    when="(value > 0).all() or (value < 0).all()",
                ),
                Slip(
                    "[1, 0, -1]",
                    "The region does not occur in your equation: it compares the depots with each "
                    "other, and they may be as different as they like.",
                    when="value[1] == 0",
                ),
                Slip(
                    "[1, -1, -1]",
                    "Read your equation aloud: it puts the region on the same side as one depot. "
                    "That is the equation for a list that starts with the region; here the region "
                    "is in the middle.",
                    when="np.sign(value[0]) != np.sign(value[2])",
                ),
            ],
            otherwise="PL1 600, region 1,000, PL2 400 is coherent, and your `c @ y` gives "
            "{value @ [600, 1_000, 400]:.4g} for it instead of 0.",
            kind=Numbers((3,), 1e-9),
            accepts="value.any() and np.allclose(value @ S, 0, atol=1e-9 * abs(value).max())",
            also=[
                "[-2, 2, -2]",
                "np.linalg.svd(np.array(S).T)[2][-1]",
                "np.array([[1], [-1], [1]])",
            ],
        ),
    ],
    shows="`c @ S` is zero in both columns, so that whatever the depots are, `c @ (S @ b)` is "
    "zero: 3 nodes, 2 free numbers, 1 equation.",
    hints=(
        "Take 600 parcels from PL1 and 400 from PL2. Which three numbers does the file hold, in "
        "its order?",
        "A row of `S` says how often its node counts PL1 and PL2. The file's second row is the "
        "region, which counts both once.",
        "The one equation is PL1 − region + PL2 = 0; write its three coefficients in the order of "
        "the file.",
    ),
)

q2 = exercise.asked(
    2,
    "`rho_max`, a number, and `covariance`, two rows of two numbers",
    setup="""
var_a, var_b, var_total = variances
sd_a, sd_b = var_a**0.5, var_b**0.5
gap = var_total - var_a - var_b
def world(a, b, shared):
    return np.array([[a, shared], [shared, b]])
""",
    parts=[
        Part(
            "rho_max",
            "gap / (2 * sd_a * sd_b)",
            [
                Slip(
                    "-gap / (2 * sd_a * sd_b)",
                    "The sign is reversed. With a positive correlation both depots are too low "
                    "on the same days, and their sum is worse than the {var_a + var_b:,.0f} that "
                    "it would have without any. Bottom-up needs errors that cancel.",
                ),
                Slip(
                    "0",
                    "Errors without correlation give the sum a variance of {var_a + var_b:,.0f}, "
                    "more than the {var_total:,.0f} of the direct forecast: bottom-up loses. "
                    "Nothing makes the depots' errors independent, and here they must not be.",
                ),
                Slip(
                    "gap / (sd_a * sd_b)",
                    "The covariance is counted twice in the variance of a sum, once as (A, B) and "
                    "once as (B, A). You have counted it once, so that your correlation is twice "
                    "as strong as it need be.",
                ),
                Slip(
                    "gap / 2",
                    "This is the covariance at which the two are equal, in parcels squared. A "
                    "correlation has no unit and lies between −1 and 1.",
                ),
                Slip(
                    "-7.5",
                    "{value:.4g} is no correlation: those lie between −1 and 1.",
                    when="abs(value) > 1",
                ),
            ],
            otherwise="At {value:.4g} the sum of the two forecasts has the error variance "
            "{var_a + var_b + 2 * value * sd_a * sd_b:,.0f}; the direct forecast has "
            "{var_total:,.0f}. Find where they are equal.",
            also=["(var_total - sum(variances[:2])) / 2 / np.prod(np.sqrt(variances[:2]))"],
        ),
        Part(
            "covariance",
            "world(var_a, var_b, 2 * rho_max * sd_a * sd_b)",
            [
                Slip(
                    "world(sd_a, sd_b, -20)",
                    "On the diagonal of a covariance matrix are the variances, in parcels squared; "
                    "you gave the standard deviations.",
                    when="np.allclose(value.diagonal(), [sd_a, sd_b])",
                ),
                Slip(
                    "world(var_a / 2, var_b, -200)",
                    "On the diagonal should be the two variances of the question, {var_a:,.0f} and "
                    "{var_b:,.0f}; the depots' forecasts are not to be made better or worse.",
                    when="not np.allclose(value.diagonal(), [var_a, var_b])",
                ),
                Slip(
                    "[[var_a, right[0, 1]], [0, var_b]]",
                    "The error of A with B is the error of B with A: make it symmetric.",
                    when="not np.isclose(value[0, 1], value[1, 0])",
                ),
                Slip(
                    "world(var_a, var_b, -1.25 * sd_a * sd_b)",
                    "A covariance of {value[0, 1]:,.0f} would be a correlation of "
                    "{value[0, 1] / sd_a / sd_b:.2f}: no pair of errors can be like that.",
                    when="abs(value[0, 1]) > sd_a * sd_b * (1 + 1e-9)",
                ),
                Slip(
                    "world(var_a, var_b, 0)",
                    "Here the errors are independent, and the sum has the variance "
                    "{value.sum():,.0f} against {var_total:,.0f}: bottom-up loses. What must "
                    "happen on a day on which A is too low?",
                    when="value[0, 1] == 0",
                ),
                Slip(
                    "world(var_a, var_b, sd_a * sd_b / 2)",
                    "These depots are wrong together: their errors add up to the variance "
                    "{value.sum():,.0f} against {var_total:,.0f}, so that bottom-up loses by more "
                    "than with independent errors.",
                    when="value[0, 1] > 0",
                ),
                Slip(
                    ("world(var_a, var_b, gap / 4)", "world(var_a, var_b, gap / 2)"),
                    "The errors cancel a little, but not enough: the sum has the variance "
                    "{value.sum():,.0f}, the direct forecast {var_total:,.0f}. To win it must be "
                    "lower.",
                    when="value.sum() >= var_total * (1 - 1e-9)",
                ),
            ],
            otherwise="No pair of errors can have this covariance matrix.",
            kind=Numbers((2, 2), 1e-6),
            accepts="np.allclose(value, value.T) and np.allclose(value.diagonal(), [var_a, var_b]) "
            "and -sd_a * sd_b * (1 + 1e-9) <= value[0, 1] and value.sum() < var_total * (1 - 1e-9)",
            also=["pd.DataFrame(world(var_a, var_b, -0.9 * sd_a * sd_b))"],
        ),
    ],
    prediction=Prediction(
        "guess_2",
        ("together", "against each other"),
        "'against each other' if rho_max < 0 else 'together'",
        "Even independent errors add up to {var_a + var_b:,.0f}, and the direct forecast has "
        "{var_total:,.0f}.",
    ),
    shows="In your world the depots' errors have the correlation "
    "{covariance[0, 1] / sd_a / sd_b:.2f}; bottom-up misses the total by "
    "{covariance.sum()**0.5:.1f} parcels (standard deviation), the direct forecast by "
    "{var_total**0.5:.1f}.",
    hints=(
        "The bottom-up forecast of the total misses by the sum of the two depots' errors. What is "
        "the variance of a sum?",
        "It is var A + var B + 2 · correlation · sd A · sd B, with sd the square root of a "
        "variance. Set it equal to the variance of the direct forecast.",
        "A covariance matrix has the variances on its diagonal and correlation · sd A · sd B at "
        "both other places. All four numbers together are the variance of the sum.",
    ),
)

q3 = exercise.asked(
    3,
    "`mase`, one number",
    setup="""
history, error = y[y.index < origin], test - forecast
mae = error.abs().mean()
def scale(days, season=7):
    return days.diff(season).abs().mean()
""",
    parts=[
        Part(
            "mase",
            "mae / scale(history)",
            [
                Slip(
                    ("mae / y.diff(7)[test.index].abs().mean()", "mae / scale(test)"),
                    "The scale comes from the four weeks that are judged. On the day of the "
                    "forecast it did not exist, and where the test is wild its scale is large and "
                    "flatters. Take the scale from the days before the origin.",
                ),
                Slip(
                    "mae / scale(y)",
                    "All days of the table went into the scale, those after the origin too. The "
                    "score of a forecast would change with every day that is added to the table. "
                    "Cut the series at the origin first.",
                ),
                Slip(
                    "mae / scale(y[: test.index[-1]])",
                    "The scale goes on to the end of the test. The four weeks that are judged are "
                    "part of their own yardstick: cut the series on the day before the origin.",
                ),
                Slip(
                    "mae / scale(y[y.index <= origin])",
                    "One day too many is in the scale: the origin is the first day that is "
                    "forecast, so that the history ends on the day before.",
                ),
                Slip(
                    "mae / scale(history, 1)",
                    "This scale is the change from one day to the next: season 1. Parcels have a "
                    "week, and a Sunday is always far from its Saturday, so that the scale is "
                    "mostly weekday. Compare with the same weekday a week before.",
                ),
                Slip(
                    "mae / scale(history.tail(28))",
                    "The scale comes from the last four weeks only. It looks only backwards, but "
                    "MASE takes the whole history up to the origin: three differences for each "
                    "weekday say little.",
                ),
                Slip(
                    "mae / test.mean()",
                    "You divided by the mean of the parcels: this is WAPE, a share of the volume. "
                    "MASE compares with the error of a naive forecast, not with the volume.",
                ),
                Slip(
                    "mae",
                    "This is the mean absolute error in parcels, not scaled yet. It cannot be "
                    "averaged over large and small routes; that is what the scale is for.",
                ),
                Slip(
                    "(error**2).mean() ** 0.5 / (history.diff(7) ** 2).mean() ** 0.5",
                    "This is RMSSE: errors were squared before they were averaged. MASE takes "
                    "absolute values, above and below the line.",
                ),
                Slip(
                    "(error**2).mean() ** 0.5 / scale(history)",
                    "A root of squared errors above the line, absolute errors below it: the two "
                    "means must be of one kind. MASE takes absolute values in both.",
                ),
                Slip(
                    ("error.mean() / scale(history)", "-error.mean() / scale(history)"),
                    "Errors of both signs have cancelled above the line: this is a scaled bias. "
                    "Take the absolute value of each day's error first.",
                ),
                Slip(
                    "scale(history)",
                    "This is the scale alone, what seasonal naive used to miss. MASE is the "
                    "forecast's mean absolute error divided by it.",
                ),
                Slip(
                    "1 / right",
                    "Upside down: the error of the forecast belongs above the line, so that less "
                    "is better.",
                ),
            ],
            otherwise="{value:.4g} is none of the usual mix-ups. Above the line is the mean "
            "absolute error of the {len(test)} forecasts, below it one mean absolute difference of "
            "parcels.",
            kind=Number(0.0002),
            also=[
                "error.abs().sum() / 28 / (history - history.shift(7)).abs().mean()",
                "mae / np.nanmean(np.abs(history.to_numpy()[7:] - history.to_numpy()[:-7]))",
            ],
        )
    ],
    shows="The forecast misses {mae:.0f} parcels a day, {mase:.2f} times what seasonal naive used "
    "to miss. With the scale of the test weeks it would have been "
    "{mae / y.diff(7)[test.index].abs().mean():.2f}.",
    hints=(
        "MASE is one mean absolute error over another. The one above is the forecast's. Whose is "
        "the one below, and over which days?",
        "Below is what seasonal naive, the same weekday a week before, missed over the "
        "*history*: all days before the origin.",
        "`y[y.index < origin].diff(7).abs().mean()` is the scale.",
    ),
)

MORE = "{more(value, right)}"
q4 = exercise.asked(
    4,
    "`possible`, a set of names of clean-ups in quotes",
    setup="""
y, used = table_of_october, cleaned.index < today + pd.Timedelta(days=28)
changed = cleanups(y.where(y.index < today, 2 * y + 1), today)
def moved(name):  # the days whose value depends on the parcels since the origin
    same = np.isclose(cleaned[name][used], changed[name][used], rtol=1e-9, atol=0, equal_nan=True)
    return cleaned.index[used][~same]
def more(value, right):
    several = len(set(value) ^ set(right)) > 1
    return " And that is not all that is to be mended in your set." if several else ""
def change(name):
    days = moved(name)
    return (
        f" With other parcels after the origin, {len(days)} of its days change, the first of them "
        f"{days[0].day} {days[0]:%B}."
    )
""",
    parts=[
        Part(
            "possible",
            "{name for name in cleaned if not len(moved(name))}",
            [
                Slip(
                    "set()",
                    "At least one of them was possible: by the day of the forecast the parcels had "
                    "been low for two weeks. Ask what an alarm could have used on 11 April.",
                    when="not value",
                ),
                Slip(
                    "set(cleaned)",
                    "Not all of them. The table was written in October, when the shock and its "
                    "recovery were over; cover its rows from the day of the forecast on, and see "
                    "which clean-ups you can still make.",
                    when="value == set(cleaned)",
                ),
                Slip(
                    "set(cleaned) - right",
                    "This is the list of those that leak. The question asks for the others, which "
                    "could have been made on the day.",
                    when="value == set(cleaned) - right",
                ),
                Slip(
                    "right | {'largest_jump'}",
                    "`largest_jump` compares four weeks *after* each day with four weeks before "
                    "it, over the whole table. On the day there were not yet four weeks after the "
                    "break, and other days could still have won.{change('largest_jump')}" + MORE,
                    when="'largest_jump' in value",
                ),
                Slip(
                    "right | {'until_back'}",
                    "The start of `until_back` was known, its end was not: the day on which the "
                    "level is back lies after the day of the forecast. A window that ends at the "
                    "right time is a forecast of the recovery, made afterwards."
                    "{change('until_back')}" + MORE,
                    when="'until_back' in value",
                ),
                Slip(
                    "right | {'clipped'}",
                    "`clipped` cuts at quantiles of the whole table. No row after the origin is "
                    "used as a row, but all of them have a say in where the cut is: a statistic of "
                    "the future is the future.{change('clipped')}" + MORE,
                    when="'clipped' in value",
                ),
                Slip(
                    "right | {'level_free'}",
                    "`level_free` divides by a mean *around* each day. It harms only the last days "
                    "before the origin, whose windows reach beyond it, and these are the very days "
                    "a forecast starts from.{change('level_free')}" + MORE,
                    when="'level_free' in value",
                ),
                Slip(
                    "right - {'since_alarm'}",
                    "`since_alarm` was possible: the alarm rang on a day before the origin and "
                    "looks only backwards. That the dummy stays 1 over the days ahead is an "
                    "assumption, written down in advance, not a look at them.",
                    when="'since_alarm' not in value",
                ),
                Slip(
                    "right - {'clipped_past'}",
                    "`clipped_past` was possible. A row of February is cut at a quantile that "
                    "March has a say in, and that is no leak: all of it was known at the *origin*. "
                    "What counts is the day on which the clean-up is made, not the day of the row.",
                    when="'clipped_past' not in value",
                ),
            ],
            otherwise="{names(value)}: these are not the clean-ups that could have been made.",
            kind=Labels("cleaned"),
            also=["[name for name in cleaned if moved(name).empty]"],
        )
    ],
    shows="Change the parcels since 11 April: {names(n for n in cleaned if n in possible)} stay as "
    "they are, the other {len(cleaned.columns) - len(possible)} move.",
    hints=(
        "Cover all rows of the table from the day of the forecast on. Which of the six columns "
        "could you still compute, for every day up to the last one ahead?",
        "Look for three things: a window that reaches forward, a statistic over the whole table, "
        "and an end that had not come yet. A statistic over all days *before* the origin is fine.",
        "Let the computer answer: double the parcels since the origin, call `cleanups` again, and "
        "see which columns differ up to four weeks after the origin.",
    ),
)


def _best(name: str, metric: str, slips: list[Slip], also: str = "") -> Part:
    """Return the part of question 5 that asks for the constant of one metric.

    What `also` says follows where the metric's value is given: an answer that is more than that.
    """
    score = f"{metric}(sparse, value)"
    loss = Slip(
        f"{metric}(sparse, right)",
        "This is the metric's value at its best constant. Give the constant itself: the forecast, "
        "in parcels a day." + also,
    )
    return Part(
        name,
        f"min(steps, key=lambda f: {metric}(sparse, f))",
        [*slips, loss],
        otherwise=f"A forecast of {{value:.3g}} every day scores {{{score}:.5g}}, and there is a "
        f"better one with {{{metric}(sparse, right):.5g}}. Compute the metric for each candidate "
        "and take the lowest.",
        kind=Number(0.004),
        also=[f"steps[np.argmin([{metric}(sparse, f) for f in steps])]"],
        accepts=f"{score} <= {metric}(sparse, right) * (1 + 1e-9)",
    )


def _beside(metric: str) -> Slip:
    """Return the slip of taking a neighbour of the best constant, one step of 0.01 away."""
    return Slip(
        ("right + 0.01", "right - 0.01"),
        f"{{value:.3g}} is one step beside the best: it scores {{{metric}(sparse, value):.5g}} "
        f"against {{{metric}(sparse, right):.5g}}. Take the lowest of all `steps`.",
    )


USEFUL = Slip(
    "sparse.mean()",
    "The mean demand is the useful forecast, but this metric does not reward it. The question is "
    "what the metric asks for, not what you would order.",
)
q5 = exercise.asked(
    5,
    "`best_mape`, `best_smape`, `best_wape` and `best_rmse`, one number each",
    setup="""
def mape(y, f):
    return (np.abs(y - f)[y > 0] / y[y > 0]).mean()
def smape(y, f):
    return np.divide(2 * np.abs(y - f), y + f, out=np.zeros(len(y)), where=y + f > 0).mean()
def wape(y, f):
    return np.abs(y - f).sum() / y.sum()
def rmse(y, f):
    return np.sqrt(((y - f) ** 2).mean())
empty = (sparse == 0).mean()
""",
    parts=[
        _best(
            "best_mape",
            "mape",
            [
                USEFUL,
                _beside("mape"),
                Slip(
                    "0",
                    "A forecast of 0 misses every parcel that it is asked about, 100 % on each day "
                    "with parcels. The days without any do not count, because MAPE is not defined "
                    "there.",
                ),
            ],
        ),
        _best(
            "best_smape",
            "smape",
            [
                USEFUL,
                Slip(
                    "min(steps[1:], key=lambda f: smape(sparse[sparse > 0], f))",
                    "This is best if you leave out the days on which actual and forecast are both "
                    "0. That rewards no one for being right. With 0 for an exact forecast, as the "
                    "question says, {empty:.0%} of the days cost nothing at 0 and the full 200 % "
                    "at anything else.",
                ),
                Slip(
                    "0.01",
                    "Near is not enough. On a day without parcels a forecast of {value:.3g} costs "
                    "200 %, as much as one of a thousand. Put 0 itself among your candidates.",
                    when="0 < value < 0.05",
                ),
            ],
        ),
        _best(
            "best_wape",
            "wape",
            [
                Slip(
                    "sparse.mean()",
                    "The mean is what *squared* errors ask for. Absolute errors are lowest at the "
                    "median, and on {empty:.0%} of the days nothing is sent.",
                ),
            ],
            also=" Or is it the usual number on days *with* parcels? WAPE counts the others too: "
            "{empty:.0%} of the year.",
        ),
        _best(
            "best_rmse",
            "rmse",
            [
                _beside("rmse"),
                Slip(
                    "0",
                    "The median is what absolute errors ask for. Squared errors are lowest at the "
                    "mean, which is not 0: in this year {sparse.sum():.0f} parcels were sent.",
                ),
            ],
        ),
    ],
    prediction=Prediction(
        "guess_5",
        ("MAPE", "sMAPE", "WAPE", "RMSE"),
        "best = {'MAPE': best_mape, 'sMAPE': best_smape, 'WAPE': best_wape, 'RMSE': best_rmse}\n"
        "min(best, key=lambda name: abs(best[name] - sparse.mean()))",
        "Its best constant is nearest to the mean; sMAPE, which a rule calls robust near zero, "
        "asks for {best_smape:.2f}.",
    ),
    shows="One route, one year, {sparse.mean():.2f} parcels a day, and each metric wants its own "
    "number: MAPE {best_mape:.2f}, sMAPE {best_smape:.2f}, WAPE {best_wape:.2f}, RMSE "
    "{best_rmse:.2f}.",
    hints=(
        "Look at the counts of days with 0, 1, 2 parcels. Which constant makes the most days "
        "right, which adds up to the year's parcels, and which of the two does each metric reward?",
        "Absolute errors are lowest at the median, squared ones at the mean. A percentage of the "
        "actual exists only on days with parcels, and most of those have one. sMAPE of a day "
        "without parcels is 0 or 2, and nothing between.",
        "A loop will do: for each metric, `min(steps, key=lambda f: metric_of(y, f))` with the "
        "formulas of the table, on NumPy arrays.",
    ),
)

q6 = exercise.asked(
    6,
    "`margin`, one number of parcels",
    setup="""
from statistics import NormalDist
share = SHORT / (SHORT + IDLE)
z = NormalDist().inv_cdf(share)
pool, later = past.sum(axis=1), held_out.sum(axis=1)
# Every definition of a sample's quantile is as good.
methods = ("linear", "lower", "higher", "inverted_cdf", "hazen", "weibull", "median_unbiased")
quantiles = [np.quantile(pool, share, method=method) for method in methods]
def cheapest(errors):
    short = errors.to_numpy()[:, None] - errors.to_numpy()
    cost = (SHORT * short.clip(min=0) + IDLE * (-short).clip(min=0)).mean(axis=0)
    return errors.iloc[cost.argmin()]
""",
    parts=[
        Part(
            "margin",
            "pool.quantile(share)",
            [
                Slip(
                    "past.quantile(share).sum()",
                    "This is the sum of {past.shape[1]} route margins. It would be right if no "
                    "worker could change belts, or if all routes had their bad day on the same "
                    "day. Workers do change: this sum suffices on {(pool <= value).mean():.0%} of "
                    "the past days, and you pay for {share:.0%}. Quantiles do not add up; add the "
                    "errors first.",
                ),
                Slip(
                    "pool.quantile(1 - share)",
                    "The costs are upside down. With this margin the depot is short on "
                    "{(pool > value).mean():.0%} of the days, which would pay if *idle* capacity "
                    "were the expensive one.",
                ),
                Slip(
                    "(-pool).quantile(share)",
                    "The errors are reversed. They are actual minus forecast: a day above zero is "
                    "short, and the margin must cover it.",
                ),
                Slip(
                    "pool.quantile((SHORT - IDLE) / SHORT)",
                    "You took {SHORT:.2f} euro for the whole price of a missing parcel, from which "
                    "the capacity that it saves is still to be taken. The text gives it *on top* "
                    "of what the capacity would have cost: the share is {share:.0%}.",
                ),
                Slip(
                    "pool.mean()",
                    "This is the mean error. It takes the bias out of the forecast and leaves the "
                    "depot short about as often as idle, although being short costs more.",
                ),
                Slip(
                    "past.mean().sum() + z * past.var().sum() ** 0.5",
                    "Variances of the routes were added, as if their errors were independent. They "
                    "share the depot's shocks: here the true standard deviation is "
                    "{pool.std():.0f}, not {past.var().sum() ** 0.5:.0f}. Take the depot's own "
                    "errors.",
                ),
                Slip(
                    ("pool.mean() + z * pool.std()", "z * pool.std()"),
                    "This takes the depot's errors for normal. Theirs are not: below this margin "
                    "are {(pool <= value).mean():.1%} of the past days, and you pay for "
                    "{share:.0%}. With {len(pool)} days at hand, take their own quantile.",
                ),
                Slip(
                    "pool.abs().quantile(share)",
                    "The sign of the errors was dropped. Days with too few parcels then count as "
                    "if the depot had been short; only one side costs the high price.",
                ),
                Slip(
                    (
                        "later.quantile(share)",
                        "cheapest(later)",
                        "pd.concat([pool, later]).quantile(share)",
                    ),
                    "The held-out year is in this margin. On the day of the plan it has not "
                    "happened yet; learn from `past` alone.",
                ),
                Slip(
                    "share",
                    "This is the share of days on which the capacity should suffice, not yet a "
                    "margin in parcels. Take this quantile of the depot's errors.",
                ),
                Slip(
                    "0",
                    "Without a margin you plan the forecast itself. It is made to be in the "
                    "middle, and the middle is not cheapest when being short costs more than being "
                    "idle.",
                ),
                Slip(
                    "right - 8.9",
                    "Nearly: {value:.4g} is within ten parcels of it. Take the exact quantile of "
                    "the depot's errors in place of a grid or of rounded numbers.",
                    when="abs(value - right) < 10",
                ),
            ],
            otherwise="A margin of {value:.4g} parcels would have sufficed on "
            "{(pool <= value).mean():.0%} of the past days. One more parcel of capacity saves "
            "{SHORT:.2f} euro on the other days and costs {IDLE:.2f} on these: find the share at "
            "which the two balance.",
            kind=Number(0.002),
            accepts="min(quantiles) - 1e-6 <= value <= max(quantiles) + 1e-6",
            also=["np.quantile(pool, 0.8, method='weibull')", "cheapest(pool)"],
        )
    ],
    prediction=Prediction(
        "guess_6",
        ("more", "less"),
        "'more' if past.quantile(share).sum() > margin else 'less'",
        "The five margins add up to {past.quantile(share).sum():.0f} parcels against {margin:.0f}: "
        "the routes have their bad days on different days.",
    ),
    shows="With {margin:.0f} parcels on top of its forecast the depot costs "
    "{staff_cost(later, margin):.0f} euro a day in the held-out year, instead of "
    "{staff_cost(later, 0):.0f} without a margin; the capacity suffices on "
    "{(later <= margin).mean():.0%} of the days.",
    hints=(
        "Two questions in one: on what share of the days should the capacity suffice, and of "
        "*what* is it the capacity, of a route or of the depot?",
        "The share is short / (short + idle). The workers of a depot are one pool: a route with "
        "too many parcels is helped by one with too few, on the same day.",
        "Add the errors of each day over the routes, `past.sum(axis=1)`, and take one quantile.",
    ),
)
