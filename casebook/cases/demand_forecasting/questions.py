"""Questions of exercise 01: coherence, scores, what was known on the day, alarms and staff."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np
import pandas as pd

from casebook.data import snapshot
from casebook.exercises.grading import Question, Wrong, WrongAnswer, close, number

CASE = "01_demand_forecasting"
DAY = pd.Timedelta(days=1)


def _date(day: pd.Timestamp) -> str:
    return f"{day.day} {day:%B}"


@cache
def _parcels() -> pd.DataFrame:
    """Return parcels by day and route, as the exercise prepares them."""
    reports = snapshot(CASE, "reports.parquet").drop_duplicates(["unique_id", "ds"])
    wide = reports.pivot(index="ds", columns="unique_id", values="y")
    return wide.fillna(wide.shift(7))


def _array(answer: object, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return an answer as an array of finite numbers of a given shape."""
    wanted = " by ".join(map(str, shape))
    try:
        array = np.asarray(answer, float)
    except (TypeError, ValueError):
        raise Wrong(f"`{name}` should be numbers only, {wanted} of them.") from None
    if array.shape != shape:
        raise Wrong(f"`{name}` should have the shape {shape}; it has {array.shape}.")
    if not np.isfinite(array).all():
        raise Wrong(f"`{name}` holds a missing or infinite value.")
    return array


# Question 1: rows of a summing matrix, and the one equation.

NODES = ("PL1", "region", "PL2")
#: What each node sums, over PL1 and PL2, in the order of NODES.
SUMS = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
ONE_EQUATION = np.array([1.0, -1.0, 1.0])


def _summing_matrix(answer: object) -> np.ndarray:
    shape = np.shape(answer)
    if shape == (2, 3):
        raise Wrong(
            "`S` is lying on its side. `S @ b` takes the two depots and gives the three nodes: "
            "one row for each node, one column for each depot."
        )
    if shape in ((3,), (3, 1)):
        raise Wrong(
            "`S` with a single column starts from a single number, the region, and divides it "
            "among the depots: that is how a top-down forecast is made. `S` goes the other way "
            "and starts from the two depots; there is nothing to estimate in it."
        )
    return _array(answer, "S", SUMS.shape)


def _reason_for_matrix(S: np.ndarray) -> str:
    if np.array_equal(S, SUMS[[1, 0, 2]]):
        return (
            "This is the right matrix for another list: it has the region first, as in textbooks. "
            "The rows must follow the file, PL1, region, PL2. Here your first row would publish "
            "the whole region under the name of PL1."
        )
    if np.array_equal(S, SUMS[:, ::-1]):
        return (
            "The columns have changed places: your first row publishes PL2 as the forecast of "
            "PL1. The region is right all the same, so that a look at the total would not find it."
        )
    if not S[1].any():
        return (
            "The region is zero whatever the depots send. Its row has to add up its depots; it is "
            "not a third series of its own."
        )
    if np.allclose(S[1], 0.5):
        return (
            "The region's row is the mean of the depots. Parcels add up: with 600 and 400 the "
            "region sends 1,000, not 500."
        )
    b = np.array([600.0, 400.0])
    given = ", ".join(f"{node} {value:,.0f}" for node, value in zip(NODES, S @ b, strict=True))
    return (
        f"With 600 parcels from PL1 and 400 from PL2, your matrix says: {given}. Each row answers "
        "for one node: how many times does it count PL1, how many times PL2?"
    )


def _reason_for_equation(c: np.ndarray) -> str:
    if not c.any():
        return (
            "With `c` all zeros every forecast passes, incoherent ones too. The equation has to "
            "hold for coherent forecasts and for no others."
        )
    if (c > 0).all() or (c < 0).all():
        return (
            "With one sign for all three, `c @ y` adds the region to its own depots. It is zero "
            "only where nothing is sent. Depots on one side, region on the other."
        )
    if abs(c[1]) > 0 and np.allclose(c / -c[1], [0.5, -1, 0.5]):
        return (
            "This sets the region equal to the mean of its depots. Parcels add up, they do not "
            "average."
        )
    if c[1] == 0:
        return (
            "The region does not occur in your equation: it compares the depots with each other, "
            "and they may be as different as they like."
        )
    if np.sign(c[0]) != np.sign(c[2]):
        return (
            "Read your equation aloud: it puts the region on the same side as one depot. That is "
            "the equation for a list that starts with the region; here the region stands in the "
            "middle."
        )
    y = SUMS @ [600.0, 400.0]
    return (
        f"PL1 600, region 1,000, PL2 400 is coherent, and your `c @ y` gives {c @ y:,.0f} for it "
        "instead of 0."
    )


def _judge_coherence(matrix: object, equation: object) -> str:
    S = _summing_matrix(matrix)
    if not np.array_equal(S, SUMS):
        raise Wrong(_reason_for_matrix(S))
    c = _array(equation, "c", (3,))
    # One equation for three nodes: coherent forecasts are a plane, c is perpendicular to it.
    if not c.any() or not np.allclose(c @ S, 0, atol=1e-9 * np.abs(c).max()):
        raise Wrong("`S` is right. " + _reason_for_equation(c))
    return (
        "`c @ S` is zero in both columns, so that whatever the depots are, `c @ (S @ b)` is zero: "
        f"{S.shape[0]} nodes, {S.shape[1]} free numbers, {S.shape[0] - S.shape[1]} equation."
    )


q1 = Question(
    number=1,
    asks="`S`, three rows of two numbers, and `c`, three numbers",
    judge=_judge_coherence,
    hints=(
        "Take 600 parcels from PL1 and 400 from PL2. Which three numbers does the file hold, in "
        "its order?",
        "A row of `S` says how often its node counts PL1 and PL2. The file's second row is the "
        "region, which counts both once.",
        "The one equation is PL1 − region + PL2 = 0; write its three coefficients in the order of "
        "the file.",
    ),
    wrong_answers=(
        WrongAnswer(
            "S, c = [[1, 1], [1, 0], [0, 1]], [1, -1, 1]", "the right matrix for another list"
        ),
        WrongAnswer("S, c = [[1, 1, 0], [0, 1, 1]], [1, -1, 1]", "lying on its side"),
        WrongAnswer("S, c = [[0, 1], [1, 1], [1, 0]], [1, -1, 1]", "publishes PL2"),
        WrongAnswer("S, c = [[1, 0], [0, 0], [0, 1]], [1, -1, 1]", "zero whatever"),
        WrongAnswer("S, c = [0.6, 1, 0.4], [1, -1, 1]", "a top-down forecast"),
        WrongAnswer("S, c = [[1, 0], [1, 1], [0, 1]], [1, -1, -1]", "starts with the region"),
        WrongAnswer("S, c = [[1, 0], [1, 1], [0, 1]], [1, 1, 1]", "With one sign"),
        WrongAnswer("S, c = [[1, 0], [1, 1], [0, 1]], [0, 0, 0]", "every forecast passes"),
        WrongAnswer("S, c = [[1, 0], [1, 1], [0, 1]], [0.5, -1, 0.5]", "they do not average"),
    ),
)


# Question 2: make bottom-up win.

#: Error variances in parcels squared: depots A and B, and the direct forecast of the total.
VAR_A, VAR_B, VAR_TOTAL = 3_600.0, 1_600.0, 4_000.0


def _slips_in_correlation() -> list[tuple[float, str]]:
    """Return what the usual slips give for the break-even correlation, each with its reason."""
    sd_a, sd_b = VAR_A**0.5, VAR_B**0.5
    gap = VAR_TOTAL - VAR_A - VAR_B
    independent = (
        f"Errors without correlation give the sum a variance of {VAR_A + VAR_B:,.0f}, more than "
        f"the {VAR_TOTAL:,.0f} of the direct forecast: bottom-up loses. Nothing makes the depots' "
        "errors independent, and here they must not be."
    )
    return [
        (
            -gap / (2 * sd_a * sd_b),
            "The sign is turned round. With a positive correlation both depots are too low on the "
            f"same days, and their sum is worse than the {VAR_A + VAR_B:,.0f} that it would have "
            "without any. Bottom-up needs errors that cancel.",
        ),
        (0.0, independent),
        (
            gap / (sd_a * sd_b),
            "The covariance stands twice in the variance of a sum, once as (A, B) and once as "
            "(B, A). You have counted it once, so that your correlation is twice as strong as it "
            "need be.",
        ),
        (
            gap / (2 * VAR_A * VAR_B),
            "You divided by the variances. A correlation is a covariance over the product of the "
            f"*standard deviations*, {sd_a:.0f} and {sd_b:.0f} parcels.",
        ),
        (
            (VAR_TOTAL**2 - VAR_A**2 - VAR_B**2) / (2 * VAR_A * VAR_B),
            "The three numbers of the question were squared: they are variances already. A depot "
            f"is wrong by about {sd_a:.0f} parcels a day, not by {VAR_A:,.0f}.",
        ),
        (
            gap / 2,
            "This is the covariance at which the two are equal, in parcels squared. A correlation "
            "has no unit and lies between −1 and 1.",
        ),
        (
            (VAR_TOTAL**0.5 - sd_a - sd_b) / (2 * sd_a * sd_b),
            "Standard deviations were added and subtracted as if they were variances. Errors that "
            "are not perfectly correlated do not add up like that; write the variance of the sum "
            "first.",
        ),
    ]


def _judge_bottom_up(correlation: object, matrix: object) -> str:
    rho = number(correlation, "rho_max")
    right = (VAR_TOTAL - VAR_A - VAR_B) / (2 * (VAR_A * VAR_B) ** 0.5)
    if abs(rho - right) > 0.002:
        for slip, reason in _slips_in_correlation():
            if abs(rho - slip) <= max(0.002 * abs(slip), 1e-6):
                raise Wrong(reason)
        if abs(rho) > 1:
            raise Wrong(f"{rho:.4g} is no correlation: those lie between −1 and 1.")
        variance = VAR_A + VAR_B + 2 * rho * (VAR_A * VAR_B) ** 0.5
        raise Wrong(
            f"At {rho:.4g} the sum of the two forecasts has the error variance {variance:,.0f}; "
            f"the direct forecast has {VAR_TOTAL:,.0f}. Find where they are equal."
        )
    return _judge_covariance(_array(matrix, "covariance", (2, 2)))


def _judge_covariance(covariance: np.ndarray) -> str:
    sd = np.sqrt([VAR_A, VAR_B])
    start = "`rho_max` is right. "
    if np.allclose(covariance.diagonal(), sd):
        raise Wrong(
            start + "On the diagonal of a covariance matrix stand the variances, in parcels "
            "squared; you gave the standard deviations."
        )
    if np.allclose(covariance.diagonal(), 1):
        raise Wrong(
            start + "This is a matrix of correlations, with ones on the diagonal. The covariances "
            "carry the size of the errors."
        )
    if not np.allclose(covariance.diagonal(), sd**2):
        raise Wrong(
            start + f"On the diagonal should stand the two variances of the question, {VAR_A:,.0f} "
            f"and {VAR_B:,.0f}; the depots' forecasts are not to be made better or worse."
        )
    if not np.isclose(covariance[0, 1], covariance[1, 0]):
        raise Wrong(start + "The error of A with B is the error of B with A: make it symmetric.")
    shared = covariance[0, 1]
    if 0 < abs(shared) <= 1:
        raise Wrong(
            start + f"Beside the diagonal stands {shared:.4g}, which reads like a correlation. The "
            "covariance is that times both standard deviations."
        )
    if abs(shared) > sd.prod() * (1 + 1e-9):
        raise Wrong(
            start + f"A covariance of {shared:,.0f} would be a correlation of "
            f"{shared / sd.prod():.2f}: no pair of errors can be like that."
        )
    variance = covariance.sum()
    if shared == 0:
        raise Wrong(
            start + f"Here the errors are independent, and the sum has the variance {variance:,.0f}"
            f" against {VAR_TOTAL:,.0f}: bottom-up loses. What must happen on a day on which A is "
            "too low?"
        )
    if shared > 0:
        raise Wrong(
            start + f"These depots are wrong together: their errors add up to the variance "
            f"{variance:,.0f} against {VAR_TOTAL:,.0f}, so that bottom-up loses by more than with "
            "independent errors."
        )
    if variance >= VAR_TOTAL * (1 - 1e-9):
        raise Wrong(
            start + f"The errors cancel a little, but not enough: the sum has the variance "
            f"{variance:,.0f}, the direct forecast {VAR_TOTAL:,.0f}. To win it must be lower."
        )
    return (
        f"In your world the depots' errors have the correlation {shared / sd.prod():.2f}; bottom-up"
        f" misses the total by {variance**0.5:.0f} parcels (standard deviation), the direct "
        f"forecast by {VAR_TOTAL**0.5:.0f}."
    )


q2 = Question(
    number=2,
    asks="`rho_max`, a number, and `covariance`, two rows of two numbers",
    judge=_judge_bottom_up,
    hints=(
        "The bottom-up forecast of the total misses by the sum of the two depots' errors. What is "
        "the variance of a sum?",
        "It is var A + var B + 2 · correlation · sd A · sd B, with sd the square root of a "
        "variance. Set it equal to the variance of the direct forecast.",
        "A covariance matrix has the variances on its diagonal and correlation · sd A · sd B at "
        "both other places. All four numbers together are the variance of the sum.",
    ),
    wrong_answers=(
        WrongAnswer("rho_max, covariance = 0.25, [[3600, -1200], [-1200, 1600]]", "turned round"),
        WrongAnswer("rho_max, covariance = 0, [[3600, 0], [0, 1600]]", "Nothing makes the depots'"),
        WrongAnswer("rho_max, covariance = -0.5, [[3600, -1300], [-1300, 1600]]", "stands twice"),
        WrongAnswer(
            "rho_max = (4000 - 3600 - 1600) / (2 * 3600 * 1600)\n"
            "covariance = [[3600, -1200], [-1200, 1600]]",
            "You divided by the variances",
        ),
        WrongAnswer(
            "rho_max = (4000**2 - 3600**2 - 1600**2) / (2 * 3600 * 1600)\n"
            "covariance = [[3600, -1200], [-1200, 1600]]",
            "they are variances already",
        ),
        WrongAnswer("rho_max, covariance = -0.25, [[3600, 1200], [1200, 1600]]", "wrong together"),
        WrongAnswer(
            "rho_max, covariance = -0.25, [[3600, 0], [0, 1600]]", "the errors are independent"
        ),
        WrongAnswer(
            "rho_max, covariance = -0.25, [[60, -20], [-20, 40]]", "gave the standard deviations"
        ),
        WrongAnswer(
            "rho_max, covariance = -0.25, [[3600, -0.5], [-0.5, 1600]]", "reads like a correlation"
        ),
        WrongAnswer("rho_max, covariance = -0.25, [[3600, -600], [-600, 1600]]", "but not enough"),
        WrongAnswer(
            "rho_max, covariance = -0.25, [[3600, -3000], [-3000, 1600]]", "no pair of errors"
        ),
    ),
)


# Question 3: MASE without leakage.

ROUTE, SCALED_FROM, HORIZON = "PL/PL2/r2", pd.Timestamp("2022-06-06"), 28


@cache
def _scored() -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return the route's whole series, its days to be forecast, and their forecasts."""
    y = _parcels()[ROUTE]
    test = y[SCALED_FROM : SCALED_FROM + (HORIZON - 1) * DAY]
    last = y[: SCALED_FROM - DAY].tail(28)
    by_weekday = last.groupby(last.index.dayofweek).mean()
    return y, test, pd.Series(by_weekday.loc[test.index.dayofweek].to_numpy(), test.index)


def _slips_in_mase() -> list[tuple[float, str]]:
    """Return what the usual slips give, each with its reason."""
    y, test, forecast = _scored()
    history = y[: SCALED_FROM - DAY]
    error = (test - forecast).abs()
    mae = error.mean()
    right = mae / history.diff(7).abs().mean()
    from_test = (
        "The scale comes from the four weeks that are judged. On the day of the forecast it did "
        "not exist; and where the test is wild its scale is large and flatters, so that this score "
        "is lower than it should be. Take the scale from the days before the origin."
    )
    return [
        (mae / y.diff(7)[test.index].abs().mean(), from_test),
        (mae / test.diff(7).abs().mean(), from_test),
        (
            mae / y.diff(7).abs().mean(),
            f"All days of the table went into the scale, those after {_date(SCALED_FROM)} too. "
            "The score of a forecast would change with every day that is added to the table. Cut "
            "the series at the origin first.",
        ),
        (
            mae / history.diff().abs().mean(),
            "This scale is the change from one day to the next: season 1. Parcels have a week, and "
            "a Sunday is always far from its Saturday, so that the scale is mostly weekday and "
            "every forecast looks good. Compare with the same weekday a week before.",
        ),
        (
            mae / test.mean(),
            "You divided by the mean of the parcels: this is WAPE, a share of the volume. MASE "
            "compares with the error of a naive forecast, not with the volume.",
        ),
        (
            mae / history.mean(),
            "You divided by the mean of the parcels before the origin. The scale of MASE is an "
            "error, that of seasonal naive, not a volume.",
        ),
        (
            mae,
            "This is the mean absolute error in parcels, not scaled yet. It cannot be averaged "
            "over large and small routes; that is what the scale is for.",
        ),
        (
            ((test - forecast) ** 2).mean() ** 0.5 / (history.diff(7) ** 2).mean() ** 0.5,
            "This is RMSSE: errors were squared before they were averaged. MASE takes absolute "
            "values, above and below the line.",
        ),
        (
            mae / history.diff(28).abs().mean(),
            "The scale compares with the day four weeks before: the horizon was taken for the "
            "season. MASE is scaled by the season, a week, whatever the horizon.",
        ),
        (
            1 / right,
            "Upside down: the error of the forecast belongs above the line, so that less is "
            "better.",
        ),
        (
            mae / history.tail(28).diff(7).abs().mean(),
            "The scale comes from the last four weeks only. It may look only backwards, but MASE "
            "takes the whole history up to the origin: with three differences for each weekday "
            "the scale would be as noisy as the error.",
        ),
    ]


def _judge_mase(answer: object) -> str:
    value = number(answer, "mase")
    y, test, forecast = _scored()
    history, mae = y[: SCALED_FROM - DAY], (test - forecast).abs().mean()
    right = mae / history.diff(7).abs().mean()
    if close(value, right, 0.002):
        inside = mae / y.diff(7)[test.index].abs().mean()
        return (
            f"The forecast misses {mae:.0f} parcels a day, {right:.2f} times what seasonal naive "
            f"used to miss. With the scale of the test weeks it would have been {inside:.2f}."
        )
    for slip, reason in _slips_in_mase():
        if close(value, slip, 0.002):
            raise Wrong(reason)
    raise Wrong(
        f"{value:.4g} is none of the usual mix-ups. Above the line stands the mean absolute error "
        f"of the {HORIZON} forecasts, below it one mean absolute difference of parcels."
    )


q3 = Question(
    number=3,
    asks="`mase`, one number",
    judge=_judge_mase,
    hints=(
        "MASE is one mean absolute error over another. The one above is the forecast's. Whose is "
        "the one below, and over which days?",
        "Below stands what seasonal naive, the same weekday a week before, missed over the "
        "*history*: all days before the origin.",
        "`y[y.index < origin].diff(7).abs().mean()` is the scale.",
    ),
    wrong_answers=(
        WrongAnswer(
            "mase = (test - forecast).abs().mean() / y.diff(7)[test.index].abs().mean()",
            "the four weeks that are judged",
        ),
        WrongAnswer(
            "mase = (test - forecast).abs().mean() / y.diff(7).abs().mean()", "All days of the"
        ),
        WrongAnswer(
            "mase = (test - forecast).abs().mean() / y[y.index < origin].diff().abs().mean()",
            "season 1",
        ),
        WrongAnswer("mase = (test - forecast).abs().sum() / test.sum()", "this is WAPE"),
        WrongAnswer(
            "mase = (test - forecast).abs().mean() / y[y.index < origin].mean()", "not a volume"
        ),
        WrongAnswer(
            "scale = (y[y.index < origin].diff(7) ** 2).mean() ** 0.5\n"
            "mase = ((test - forecast) ** 2).mean() ** 0.5 / scale",
            "This is RMSSE",
        ),
        WrongAnswer(
            "mase = (test - forecast).abs().mean() / y[y.index < origin].diff(28).abs().mean()",
            "the horizon was taken for the season",
        ),
        WrongAnswer("mase = (test - forecast).abs().mean()", "not scaled yet"),
    ),
)


# Question 4: the shock window that leaks.

#: Builds the candidate clean-ups from a series of parcels and the day of the forecast.
CleanUps = Callable[[pd.Series, pd.Timestamp], pd.DataFrame]
COUNTRY, ON_THE_DAY = "FR", pd.Timestamp("2022-04-11")
TABLE = slice("2022-02-01", "2022-09-30")

#: What to say when a clean-up that needs the future is taken for possible.
NEEDS_FUTURE = {
    "largest_jump": (
        "`largest_jump` compares four weeks *after* each day with four weeks before it, over the "
        "whole table. On the day there were not yet four weeks after the break, and other days "
        "could still have won."
    ),
    "until_back": (
        "The start of `until_back` was known, its end was not: the day on which the level is back "
        "lies after the day of the forecast. A window that ends at the right time is a forecast "
        "of the recovery, made afterwards."
    ),
    "clipped": (
        "`clipped` cuts at quantiles of the whole table. No row after the origin is used as a row, "
        "but all of them have a say in where the cut is: a statistic of the future is the future."
    ),
    "level_free": (
        "`level_free` divides by a mean *around* each day. It harms only the last days before the "
        "origin, whose windows reach beyond it, and these are the very days a forecast starts from."
    ),
}
#: What to say when a clean-up that was possible is turned down.
WAS_KNOWN = {
    "since_alarm": (
        "`since_alarm` was possible: the alarm rang on a day before the origin and looks only "
        "backwards. That the dummy stays 1 over the days ahead is an assumption, written down "
        "in advance, not a look at them."
    ),
    "clipped_past": (
        "`clipped_past` was possible. A row of February is cut at a quantile that March has a say "
        "in, and that is no leak: all of it was known at the *origin*. What counts is the day on "
        "which the clean-up is made, not the day of the row."
    ),
}


@cache
def _country() -> pd.Series:
    parcels = _parcels()
    routes = [c for c in parcels if c.startswith(f"{COUNTRY}/")]
    return parcels.loc[TABLE, routes].sum(axis=1)


def _moved(cleanups: CleanUps) -> dict[str, pd.DatetimeIndex]:
    """Return, by clean-up, the days whose value moves when parcels since the origin change."""
    y = _country()
    changed = y.where(y.index < ON_THE_DAY, 2 * y + 1)
    before, after = cleanups(y.copy(), ON_THE_DAY), cleanups(changed, ON_THE_DAY)
    used = before.index <= ON_THE_DAY + (HORIZON - 1) * DAY
    moved = {}
    for name in before:
        b, a = before.loc[used, name].to_numpy(float), after.loc[used, name].to_numpy(float)
        moved[name] = before.index[used][~np.isclose(b, a, rtol=1e-9, atol=0, equal_nan=True)]
    return moved


def _names(answer: object, known: list[str]) -> set[str]:
    if isinstance(answer, str):
        answer = {answer}
    if not isinstance(answer, (set, frozenset, list, tuple, pd.Index, pd.Series, np.ndarray)):
        raise Wrong(
            "`possible` should be a set of names in quotes, such as "
            f'`{{"one_name", "another_name"}}`; it is of type {type(answer).__name__}.'
        )
    if unknown := sorted(str(name) for name in answer if name not in known):
        raise Wrong(
            f"There is no clean-up {', '.join(f'`{name}`' for name in unknown)}. The names are "
            f"{', '.join(f'`{name}`' for name in known)}."
        )
    return set(answer)


def _judge_cleanups(answer: object, cleanups: CleanUps) -> str:
    moved = _moved(cleanups)
    named = _names(answer, list(moved))
    possible = {name for name in moved if not len(moved[name])}
    if named == possible:
        return (
            f"Change the parcels since {_date(ON_THE_DAY)}: "
            f"{', '.join(f'`{name}`' for name in moved if name in possible)} stay as they are, "
            f"the other {len(moved) - len(possible)} move."
        )
    if not named:
        raise Wrong(
            "At least one of them was possible: by the day of the forecast the parcels had been "
            "low for two weeks. If nothing could be done, ask what an alarm could have used on "
            f"{_date(ON_THE_DAY)}."
        )
    if named == set(moved):
        raise Wrong(
            "Not all of them. The table was written in October, when the shock and its recovery "
            "were over; cover its rows from the day of the forecast on, and see which clean-ups "
            "you can still make."
        )
    if named == set(moved) - possible:
        raise Wrong(
            "This is the list of those that leak. The question asks for the others, which could "
            "have been made on the day."
        )
    reasons = []
    for name in moved:
        if name in named - possible:
            days = moved[name]
            reasons.append(
                NEEDS_FUTURE.get(name, f"`{name}` needs parcels from after the origin.")
                + f" With other parcels after the origin, {len(days)} of its days change, the "
                f"first of them {_date(days[0])}."
            )
    reasons += [
        WAS_KNOWN.get(name, f"`{name}` was possible: nothing after the origin goes into it.")
        for name in moved
        if name in possible - named
    ]
    more = " And that is not all that is to be mended in your set." if len(reasons) > 1 else ""
    raise Wrong(reasons[0] + more)


q4 = Question(
    number=4,
    asks="`possible`, a set of names of clean-ups in quotes",
    judge=_judge_cleanups,
    hints=(
        "Cover all rows of the table from the day of the forecast on. Which of the six columns "
        "could you still compute, for every day up to the last one ahead?",
        "Look for three things: a window that reaches forward, a statistic over the whole table, "
        "and an end that had not come yet. A statistic over all days *before* the origin is fine.",
        "Let the computer answer: double the parcels since the origin, call `cleanups` again, and "
        "see which columns differ up to four weeks after the origin.",
    ),
    wrong_answers=(
        WrongAnswer('possible = {"since_alarm", "clipped_past", "largest_jump"}', "not yet four"),
        WrongAnswer('possible = {"since_alarm", "clipped_past", "until_back"}', "its end was not"),
        WrongAnswer('possible = {"since_alarm", "clipped_past", "clipped"}', "have a say in where"),
        WrongAnswer('possible = {"since_alarm", "clipped_past", "level_free"}', "around"),
        WrongAnswer('possible = {"since_alarm"}', "not the day of the row"),
        WrongAnswer('possible = {"clipped_past"}', "not a look at them"),
        WrongAnswer(
            'possible = {"largest_jump", "until_back", "clipped", "level_free"}',
            "the list of those that leak",
        ),
        WrongAnswer("possible = set(cleaned)", "Not all of them"),
        WrongAnswer("possible = set()", "At least one"),
    ),
)


# Question 5: what each metric asks for at a sparse route.

SPARSE, SPARSE_YEAR = "DE/DE1/r2", slice("2023-07-01", "2024-06-30")
STEPS = np.arange(0, 2.001, 0.01)
METRICS = ("MAPE", "sMAPE", "WAPE", "RMSE")


def _scores(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return each metric of constant forecasts, shape (steps,)."""
    y, f = values[:, None], STEPS[None, :]
    error, size = np.abs(y - f), y + f
    sent = values > 0
    return {
        "MAPE": (error[sent] / y[sent]).mean(axis=0),
        "sMAPE": np.divide(2 * error, size, np.zeros_like(error), where=size > 0).mean(axis=0),
        "WAPE": error.sum(axis=0) / values.sum(),
        "RMSE": np.sqrt((error**2).mean(axis=0)),
    }


@cache
def _sparse() -> tuple[np.ndarray, dict[str, float]]:
    values = _parcels().loc[SPARSE_YEAR, SPARSE].to_numpy()
    return values, {m: float(STEPS[s.argmin()]) for m, s in _scores(values).items()}


def _reason_for_constant(metric: str, value: float) -> str:
    values, _ = _sparse()
    mean, empty = values.mean(), (values == 0).mean()
    if metric == "MAPE" and value < 0.005:
        return (
            "MAPE: a forecast of 0 misses every parcel that it is asked about, 100 % on each day "
            "with parcels. The days without any do not count, because MAPE is not defined there."
        )
    if metric == "sMAPE" and close(value, 1.0):
        return (
            "sMAPE: 1 is best if you leave out the days on which actual and forecast are both 0. "
            "That rewards no one for being right. With 0 for an exact forecast, as the question "
            f"says, {empty:.0%} of the days cost nothing at 0 and the full 200 % at anything else."
        )
    if metric == "sMAPE" and 0.005 < value < 0.05:
        return (
            "sMAPE: near is not enough. On a day without parcels a forecast of 0.01 costs 200 %, "
            "as much as one of a thousand. Put 0 itself among your candidates."
        )
    if metric == "WAPE" and abs(value - mean) < 0.02:
        return (
            "WAPE: the mean is what *squared* errors ask for. Absolute errors are lowest at the "
            f"median, and on {empty:.0%} of the days nothing is sent."
        )
    if metric == "RMSE" and value < 0.005:
        return (
            "RMSE: the median is what absolute errors ask for. Squared errors are lowest at the "
            f"mean, which is not 0: in this year {values.sum():.0f} parcels were sent."
        )
    if metric in ("MAPE", "sMAPE") and abs(value - mean) < 0.02:
        return (
            f"{metric}: the mean demand is the useful forecast, but this metric does not reward "
            "it. The question is what the metric asks for, not what you would order."
        )
    score = _scores(values)[metric]
    given = score[np.abs(STEPS - value).argmin()]
    return (
        f"{metric}: a forecast of {value:.2f} every day scores {given:.3g}, and there is a better "
        f"one with {score.min():.3g}. Compute the metric for each candidate and take the lowest."
    )


def _judge_best(answer: object) -> str:
    if isinstance(answer, pd.Series):
        answer = answer.to_dict()
    if not isinstance(answer, dict) or set(answer) != set(METRICS):
        raise Wrong(
            "`best` should be a dict with one number for each of "
            f"{', '.join(f'`{m}`' for m in METRICS)}."
        )
    given = {m: number(answer[m], f'best["{m}"]') for m in METRICS}
    values, best = _sparse()
    if all(abs(given[m] - values.mean()) < 0.02 for m in METRICS):
        raise Wrong(
            f"You gave the mean, {values.mean():.2f}, four times. It is what is useful to plan "
            "with; but only one of the four metrics rewards it. What do the others reward?"
        )
    for metric in METRICS:
        if abs(given[metric] - best[metric]) > 0.0101 or (best[metric] == 0) != (
            given[metric] == 0
        ):
            raise Wrong(_reason_for_constant(metric, given[metric]))
    return (
        f"One route, one year, {values.mean():.2f} parcels a day, and each metric wants its own "
        f"number: {', '.join(f'{m} {best[m]:.2f}' for m in METRICS)}."
    )


q5 = Question(
    number=5,
    asks="`best`, a dict with one number for each of `MAPE`, `sMAPE`, `WAPE` and `RMSE`",
    judge=_judge_best,
    hints=(
        "Look at the counts of days with 0, 1, 2 parcels. Which constant makes the most days "
        "right, which has the right sum, and which of the two does each metric reward?",
        "Absolute errors are lowest at the median, squared ones at the mean. A percentage of the "
        "actual exists only on days with parcels, and most of those have one. sMAPE of a day "
        "without parcels is 0 or 2, and nothing between.",
        "A loop will do: for each metric, `min(steps, key=lambda f: metric_of(y, f))` with the "
        "formulas of the table, on NumPy arrays.",
    ),
    wrong_answers=(
        WrongAnswer(
            "best = dict.fromkeys(['MAPE', 'sMAPE', 'WAPE', 'RMSE'], sparse.mean())",
            "four times",
        ),
        WrongAnswer(
            "best = {'MAPE': 0, 'sMAPE': 0, 'WAPE': 0, 'RMSE': sparse.mean()}",
            "misses every parcel that it is asked about",
        ),
        WrongAnswer(
            "best = {'MAPE': 1, 'sMAPE': 1, 'WAPE': 0, 'RMSE': sparse.mean()}",
            "both 0",
        ),
        WrongAnswer(
            "best = {'MAPE': 1, 'sMAPE': 0.01, 'WAPE': 0, 'RMSE': sparse.mean()}",
            "near is not enough",
        ),
        WrongAnswer(
            "best = {'MAPE': 1, 'sMAPE': 0, 'WAPE': sparse.mean(), 'RMSE': sparse.mean()}",
            "what *squared* errors ask for",
        ),
        WrongAnswer(
            "best = {'MAPE': 1, 'sMAPE': 0, 'WAPE': 0, 'RMSE': 0}", "what absolute errors ask for"
        ),
        WrongAnswer(
            "best = {'MAPE': 1, 'sMAPE': sparse.mean(), 'WAPE': 0, 'RMSE': sparse.mean()}",
            "does not reward it",
        ),
    ),
)


# Question 6: the retrain trigger.

QUIET_UNTIL, WATCHED_UNTIL = pd.Timestamp("2022-02-28"), pd.Timestamp("2022-12-31")
SILENT = 28
UP = ("BR", "PL", "TR")
THRESHOLDS = np.arange(81) / 20


@cache
def _weekly_means() -> tuple[pd.DataFrame, pd.Series]:
    """Return the 7-day means of standardised errors by depot, and the day of each break."""
    from casebook.cases.demand_forecasting.world import simulate

    truth = simulate().truth
    truth = truth[truth["ds"] <= WATCHED_UNTIL]
    depot = truth["unique_id"].str.rsplit("/", n=1).str[0]
    sums = truth.groupby([truth["ds"], depot])[["y", "base"]].sum()
    error = np.log((sums["y"] + 1) / (sums["base"] + 1)).unstack()
    quiet = error[:QUIET_UNTIL].stack()
    broken = truth[truth["jump"] != 0]
    began = broken.groupby(broken["unique_id"].str[:2])["ds"].min()
    return ((error - quiet.mean()) / quiet.std()).rolling(7).mean().dropna(), began


def _alarms(values: np.ndarray, threshold: float) -> list[int]:
    """Return the positions of alarms; after each the alarm is silent for four weeks."""
    above, found = np.flatnonzero(values > threshold), []
    while len(above):
        found.append(int(above[0]))
        above = above[np.searchsorted(above, above[0] + SILENT) :]
    return found


def _count(means: pd.DataFrame, threshold: float) -> int:
    return sum(len(_alarms(means[depot].to_numpy(), threshold)) for depot in means)


def _lowest(means: pd.DataFrame, allowed: float) -> float:
    """Return the lowest threshold with at most so many alarms."""
    return next(float(t) for t in THRESHOLDS if _count(means, t) <= allowed)


def _depot_years(means: pd.DataFrame) -> float:
    return means.size / 365.25


def _delays(threshold: float, depots: list[str]) -> pd.Series:
    """Return the days from the break to the first alarm; infinite if there is none."""
    means, began = _weekly_means()
    delays = {}
    for depot in depots:
        values = means.loc[began[depot[:2]] :, depot].to_numpy()
        delays[depot] = next(iter(_alarms(values, threshold)), np.inf)
    return pd.Series(delays)


@cache
def _thresholds() -> dict[str, float]:
    """Return the right threshold and those of the usual slips."""
    means, _ = _weekly_means()
    quiet = means[:QUIET_UNTIL]
    return {
        "right": _lowest(quiet, _depot_years(quiet)),
        "two-sided": _lowest(quiet.abs(), _depot_years(quiet)),
        "with break": _lowest(means, _depot_years(means)),
        "with spring": _lowest(means[:"2022-06-30"], _depot_years(means[:"2022-06-30"])),
        "for all": _lowest(quiet, len(quiet) / 365.25),
        "for each day": float(quiet.stack().quantile(1 - 1 / 365)),
        "independent": NormalDist().inv_cdf(1 - 1 / 365) / 7**0.5,
        "normal": NormalDist().inv_cdf(1 - 1 / 365),
        "no alarm": float(quiet.max().max()),
    }


REASONS_FOR_THRESHOLD = {
    "two-sided": (
        "Alarms in both directions were counted. This alarm is for too few workers: only errors "
        "*above* the threshold ring it. With half of the budget spent on days that were too quiet, "
        "the threshold comes out too high."
    ),
    "with break": (
        "The break itself stands in the days from which you took the threshold: alarms that are "
        "right were counted as false ones, and the threshold was raised until they were gone. Use "
        "the quiet stretch alone."
    ),
    "for all": (
        "This gives one false alarm a year in the whole network. The question allows one for each "
        "depot, and there are {depots} of them: the budget is a number of depot-years."
    ),
    "for each day": (
        "This is a quantile of days: one day in 365 lies above it. An alarm is not a day. A 7-day "
        "mean that is high today is high tomorrow, so that days above come in runs and a run is "
        "one alarm: {alarms} alarms where {allowed:.0f} are allowed. Count alarms."
    ),
    "independent": (
        "This is the normal quantile divided by the root of 7, as if the errors of seven days were "
        "independent. A depot's shock lasts for weeks and the mean of a week hardly averages it "
        "out: this threshold rings {rate:.1f} times a year in each depot."
    ),
    "normal": (
        "This is the normal quantile for a single day's error. You watch the mean of a week, "
        "which moves less, and count alarms, not days. Measure on the quiet stretch instead of "
        "assuming a distribution."
    ),
    "no alarm": (
        "At the highest value of the quiet stretch there is no false alarm at all. The budget "
        "allows one a year: each one that you do not use is paid for in days of delay."
    ),
}
REASONS_FOR_THRESHOLD["with spring"] = REASONS_FOR_THRESHOLD["with break"]


def _judge_trigger(threshold: object, delay: object) -> str:
    value, days = number(threshold, "threshold"), number(delay, "delay")
    means, _ = _weekly_means()
    quiet, known = means[:QUIET_UNTIL], _thresholds()
    allowed, alarms = _depot_years(quiet), _count(quiet, value)
    right = known["right"]
    if not right - 1e-9 <= value <= right + 0.0251 and not (
        right - 0.05 < value < right and alarms <= allowed
    ):
        for slip, reason in REASONS_FOR_THRESHOLD.items():
            if abs(value - known[slip]) < 0.006:
                raise Wrong(
                    reason.format(
                        depots=means.shape[1],
                        alarms=alarms,
                        allowed=allowed,
                        rate=alarms / allowed,
                    )
                )
        if alarms > allowed:
            raise Wrong(
                f"At {value:.2f} the quiet stretch has {alarms} false alarms in {allowed:.1f} "
                f"depot-years, {alarms / allowed:.2f} a year. That is above the budget."
            )
        raise Wrong(
            f"At {value:.2f} the quiet stretch has {alarms} false alarms in {allowed:.1f} "
            f"depot-years, {alarms / allowed:.2f} a year. The budget is not used up: a lower "
            "threshold keeps it and rings earlier."
        )
    up = [depot for depot in means if depot[:2] in UP]
    delays = _delays(value, up)
    if abs(days - delays.median()) < 0.01:
        slow = _delays(known["with break"], up).median()
        return (
            f"{alarms} false alarms in {allowed:.1f} quiet depot-years, and half of the {len(up)} "
            f"depots have rung {days:.0f} days after the break. A threshold taken with the break "
            f"in it would have needed {slow:.0f} days."
        )
    start = "`threshold` is right. "
    first_ever = {d: _alarms(means[d].to_numpy(), value)[:1] for d in up}
    began = _weekly_means()[1]
    before = [means.index[p[0]] - began[d[:2]] for d, p in first_ever.items() if p]
    if abs(days - float(np.median([gap.days for gap in before]))) < 0.01 or days < 0:
        raise Wrong(
            start + "A negative delay is a false alarm long before the break, not an early "
            "warning. Start to look on the day on which the break begins."
        )
    if abs(days - _delays(value, list(means)).median()) < 0.01:
        raise Wrong(
            start + "The delay was taken over all depots, also where parcels fell. There this "
            "one-sided alarm is not meant to ring; what it does months later has other causes."
        )
    if abs(days - delays.mean()) < 0.01:
        raise Wrong(
            start + "This is the mean of the delays. The question asks for the median, which also "
            "exists when one depot never rings."
        )
    if abs(days - delays.max()) < 0.01:
        raise Wrong(start + "This is the slowest depot; the question asks for the median.")
    if abs(days - delays.median() - 1) < 0.01:
        raise Wrong(
            start + "One day too many: the day on which the break begins counts as 0, so that the "
            "delay is a difference of two dates."
        )
    raise Wrong(
        start + f"The delays of the {len(up)} depots lie between {delays.min():.0f} and "
        f"{delays.max():.0f} days; {days:g} is not their median."
    )


_SCAN = (
    "def lowest(means, allowed):\n"
    "    count = lambda t: sum(len(alarm_days(means[d], t)) for d in means)\n"
    "    return next(t for t in thresholds if count(t) <= allowed)\n"
    "quiet = weekly[:QUIET_UNTIL]\n"
)
q6 = Question(
    number=6,
    asks="`threshold`, a number from `thresholds`, and `delay`, a number of days",
    judge=_judge_trigger,
    hints=(
        "Which days may tell you what a *false* alarm is? And how many false alarms may there be "
        "in all of them together?",
        "The quiet stretch has as many depot-years as it has depots times days / 365.25. Go "
        "through `thresholds` from below, count the alarms of all depots, and stop at the first "
        "threshold that keeps the budget.",
        "For the delay, give `alarm_days` only the days from the break on: "
        "`alarm_days(weekly.loc[began[country]:, depot], threshold)[0]`, minus `began[country]`.",
    ),
    wrong_answers=(
        WrongAnswer(
            _SCAN + "threshold, delay = lowest(quiet.abs(), quiet.size / 365.25), 3",
            "both directions",
        ),
        WrongAnswer(
            _SCAN + "threshold, delay = lowest(weekly, weekly.size / 365.25), 6",
            "The break itself",
        ),
        WrongAnswer(
            _SCAN + "threshold, delay = lowest(quiet, len(quiet) / 365.25), 3", "whole network"
        ),
        WrongAnswer(
            "threshold, delay = weekly[:QUIET_UNTIL].stack().quantile(1 - 1 / 365), 3",
            "An alarm is not a day",
        ),
        WrongAnswer(
            "from statistics import NormalDist\n"
            "threshold, delay = NormalDist().inv_cdf(1 - 1 / 365) / 7**0.5, 1",
            "as if the errors of seven days were independent",
        ),
        WrongAnswer("threshold, delay = weekly[:QUIET_UNTIL].max().max(), 4", "no false alarm"),
        WrongAnswer(
            _SCAN + "threshold = lowest(quiet, quiet.size / 365.25)\n"
            "delay = pd.Series({\n"
            "    d: (alarm_days(weekly[d], threshold)[0] - began[d[:2]]).days\n"
            "    for d in weekly if d[:2] in up\n"
            "}).median()",
            "A negative delay",
        ),
        WrongAnswer(
            _SCAN + "threshold = lowest(quiet, quiet.size / 365.25)\n"
            "delay = pd.Series({\n"
            "    d: (alarm_days(weekly.loc[began[d[:2]]:, d], threshold)[0] - began[d[:2]]).days\n"
            "    for d in weekly if d[:2] in up\n"
            "}).mean()",
            "This is the mean of the delays",
        ),
    ),
)


# Question 7: the staffing quantile of a depot.

DEPOT = "FR/FR1"
#: Euro for a parcel of capacity that is not used, and for a parcel without capacity.
IDLE, SHORT = 0.60, 2.40
PAST, HELD_OUT = slice("2022-07-01", "2023-06-30"), slice("2023-07-01", "2024-06-30")


@cache
def _errors() -> pd.DataFrame:
    """Return the errors (actual − forecast) of the depot's routes on working days."""
    parcels = _parcels()
    y = parcels[[c for c in parcels if c.startswith(f"{DEPOT}/")]]
    weeks = pd.concat([y.shift(7 * k) for k in (1, 2, 3, 4)])
    error = y - weeks.groupby(level="ds").median()
    return error[error.index.dayofweek < 5]


def _cost(errors: pd.Series, margin: float) -> float:
    """Return the euro a day that a margin on top of the forecast costs."""
    short = errors - margin
    return float((SHORT * short.clip(lower=0) + IDLE * (-short).clip(lower=0)).mean())


def _slips_in_margin() -> list[tuple[float, str]]:
    """Return what the usual slips give, each with its reason."""
    share = SHORT / (SHORT + IDLE)
    errors = _errors()
    past, later = errors[PAST], errors[HELD_OUT].sum(axis=1)
    depot = past.sum(axis=1)
    suffices = (depot <= past.quantile(share).sum()).mean()
    z = NormalDist().inv_cdf(share)
    hindsight = (
        "The held-out year is in this margin. On the day of the plan it has not happened yet; "
        "learn from `past` alone."
    )
    return [
        (
            past.quantile(share).sum(),
            f"This is the sum of {past.shape[1]} route margins. It would be right if no worker "
            "could change belts, or if all routes had their bad day on the same day. Workers do "
            f"change: this sum suffices on {suffices:.0%} of the past days, and you pay for "
            f"{share:.0%}. Quantiles do not add up; add the errors first.",
        ),
        (
            depot.quantile(1 - share),
            "The costs are upside down. With this margin the depot is short on "
            f"{(depot > depot.quantile(1 - share)).mean():.0%} of the days, which would pay if "
            "*idle* capacity were the dear one.",
        ),
        (
            depot.mean(),
            "This is the mean error. It takes the bias out of the forecast and leaves the depot "
            "short about as often as idle, although being short costs more.",
        ),
        (
            depot.median(),
            "This is the median error: short on every other day. It would be cheapest if a parcel "
            "without capacity cost as much as idle capacity.",
        ),
        (
            depot.quantile(1 - IDLE / SHORT),
            "This is the quantile at 1 − idle / short. Of what is at stake with one more parcel "
            "of capacity, which share belongs to being short: short over short, or short over "
            "both?",
        ),
        (
            past.mean().sum() + z * (past.var().sum()) ** 0.5,
            "Variances of the routes were added, as if their errors were independent. They share "
            f"the depot's shocks: here the true standard deviation is {depot.std():.0f}, not "
            f"{past.var().sum() ** 0.5:.0f}. Take the depot's own errors.",
        ),
        (
            past.stack().quantile(share),
            "This is a quantile over all routes and days in one heap, the margin of one middling "
            "route. The depot needs the errors of a day added up over its routes.",
        ),
        (
            depot.abs().quantile(share),
            "The sign of the errors was dropped. Days with too few parcels then count as if the "
            "depot had been short; only one side costs the high price.",
        ),
        (later.quantile(share), hindsight),
        (errors.sum(axis=1).quantile(share), hindsight),
        (
            pd.concat([depot, later]).quantile(share),
            hindsight,
        ),
        (
            share,
            "This is the share of days on which the capacity should suffice, not yet a margin in "
            "parcels. Take this quantile of the depot's errors.",
        ),
        (
            0.0,
            "Without a margin you plan the forecast itself. It is made to be in the middle, and "
            "the middle is not cheapest when being short costs more than being idle.",
        ),
    ]


def _judge_margin(answer: object) -> str:
    value = number(answer, "margin")
    share = SHORT / (SHORT + IDLE)
    errors = _errors()
    past, later = errors[PAST], errors[HELD_OUT].sum(axis=1)
    right = past.sum(axis=1).quantile(share)
    if close(value, right, 0.002):
        return (
            f"With {value:.0f} parcels on top of its forecast the depot costs "
            f"{_cost(later, value):.0f} euro a day in the held-out year, instead of "
            f"{_cost(later, 0):.0f} without a margin; the capacity suffices on "
            f"{(later <= value).mean():.0%} of the days."
        )
    for slip, reason in _slips_in_margin():
        if abs(value - slip) <= max(0.002 * abs(slip), 1e-9):
            raise Wrong(reason)
    suffices = (past.sum(axis=1) <= value).mean()
    raise Wrong(
        f"A margin of {value:.4g} parcels would have sufficed on {suffices:.0%} of the past days. "
        f"One more parcel of capacity saves {SHORT:.2f} euro on the other days and costs "
        f"{IDLE:.2f} on these: find the share at which the two balance."
    )


q7 = Question(
    number=7,
    asks="`margin`, one number of parcels",
    judge=_judge_margin,
    hints=(
        "Two questions in one: on what share of the days should the capacity suffice, and of "
        "*what* is it the capacity, of a route or of the depot?",
        "The share is short / (short + idle). The workers of a depot are one pool: a route with "
        "too many parcels is helped by one with too few, on the same day.",
        "Add the errors of each day over the routes, `past.sum(axis=1)`, and take one quantile.",
    ),
    wrong_answers=(
        WrongAnswer(
            "margin = past.quantile(SHORT / (SHORT + IDLE)).sum()", "Quantiles do not add up"
        ),
        WrongAnswer("margin = past.sum(axis=1).quantile(IDLE / (SHORT + IDLE))", "upside down"),
        WrongAnswer("margin = past.sum(axis=1).mean()", "This is the mean error"),
        WrongAnswer("margin = past.sum(axis=1).quantile(1 - IDLE / SHORT)", "short over both"),
        WrongAnswer(
            "from statistics import NormalDist\n"
            "z = NormalDist().inv_cdf(SHORT / (SHORT + IDLE))\n"
            "margin = past.mean().sum() + z * past.var().sum() ** 0.5",
            "Variances of the routes were added",
        ),
        WrongAnswer("margin = past.stack().quantile(SHORT / (SHORT + IDLE))", "in one heap"),
        WrongAnswer(
            "margin = past.sum(axis=1).abs().quantile(SHORT / (SHORT + IDLE))",
            "The sign of the errors was dropped",
        ),
        WrongAnswer(
            "margin = held_out.sum(axis=1).quantile(SHORT / (SHORT + IDLE))",
            "The held-out year is in this margin",
        ),
        WrongAnswer("margin = 0.0", "the forecast itself"),
    ),
)
