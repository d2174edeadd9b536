"""Questions of exercise 01: coherence, scores, what was known on the day, and staff.

What they show is drawn in :mod:`casebook.cases.demand_forecasting.exercise_data`.
"""

from __future__ import annotations

from casebook.cases.demand_forecasting.exercise_data import (
    cleanups,  # noqa: F401
    exercise,
    reports,  # noqa: F401
    staff_cost,  # noqa: F401
    variances,  # noqa: F401
)
from casebook.exercises.asked import Labels, Number, Numbers, Prediction, parts, written

q1 = exercise.asked(
    1,
    "`S`, three rows of two numbers, and `c`, three numbers",
    setup="""
def file(S):  # of a night with 600 and 400 parcels
    sent = zip(("PL1", "region", "PL2"), S @ np.array([600.0, 400.0]))
    return ", ".join(f"{node} {value:,.5g}" for node, value in sent)
""",
    parts=parts(
        """
S = np.array([[1, 0], [1, 1], [0, 1]])
np.vstack([np.eye(2), np.ones(2)])[[0, 2, 1]]
  With 600 parcels from PL1, 400 from PL2, your matrix says: {file(value)}. Each row answers for one
  node: how many times does it count PL1, how many times PL2?
right[[1, 0, 2]]
  The region comes first here, as in textbooks. In the file's order, PL1, region, PL2, your first
  row would publish the whole region under the name of PL1.
right[:, ::-1]
  The columns are swapped: PL2 is published as PL1. A look at the region would not find it.
right.T
  form: np.shape(value) == (2, 3)
  `S` is transposed. For `S @ b` it needs one row for each node and one column for each depot.
[0.6, 1, 0.4]
  form: np.shape(value) in ((3,), (3, 1))
  A single column divides the region's forecast among the depots, which is top-down. `S` goes the
  other way and starts from the two depots; there is nothing to estimate in it.
[[1, 0], [0, 0], [0, 1]]
  when: not value[1].any()
  The region is zero whatever the depots send. Its row has to add up its depots.
[[1, 0], [0.5, 0.5], [0, 1]]
  when: np.allclose(value[1], 0.5)
  The region's row is the mean of the depots. With 600 and 400 the region sends 1,000, not 500.

c = [1, -1, 1]
[-2, 2, -2]
np.linalg.svd(np.array(S).T)[2][-1]
[[1], [-1], [1]]
  when: value.any() and np.allclose(value @ S, 0, atol=1e-9 * abs(value).max())
  PL1 600, region 1,000, PL2 400 is coherent, and your `c @ y` gives {value @ [600, 1_000, 400]:.4g}
  for it instead of 0.
[0, 0, 0]
  when: not value.any()
  With `c` all zeros every forecast passes. The equation has to hold for coherent forecasts only.
[1, 1, 1]
  when: (value > 0).all() or (value < 0).all()
  With one sign for all three, `c @ y` adds the region to its own depots: give it the other sign.
[1, 0, -1]
  when: value[1] == 0
  Your equation leaves out the region and compares the depots, which may differ as they like.
[1, -1, -1]
  when: np.sign(value[0]) != np.sign(value[2])
  The region has the sign of one depot, which is right where it comes first; here it is second.
""",
        S=Numbers((3, 2), 1e-9),
        c=Numbers((3,), 1e-9),
    ),
    shows="`c @ S` is zero in both columns, so that whatever the depots are, `c @ (S @ b)` is "
    "zero: 3 nodes, 2 free numbers, 1 equation.",
    hints=(
        "PL1 sends 600 parcels, PL2 400. Which three numbers does the file hold, in its order?",
        "A row of `S` says how often its node counts PL1 and PL2. The region counts both once.",
        "The equation is PL1 − region + PL2 = 0; write its coefficients in the file's order.",
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
def cancels(value):  # a covariance that there can be, with which bottom-up wins
    there_can = np.allclose(value, value.T) and -sd_a * sd_b * (1 + 1e-9) <= value[0, 1]
    given = np.allclose(value.diagonal(), [var_a, var_b])
    return there_can and given and value.sum() < var_total * (1 - 1e-9)
""",
    parts=parts(
        """
rho_max = gap / (2 * sd_a * sd_b)
(var_total - sum(variances[:2])) / 2 / np.prod(np.sqrt(variances[:2]))
  At {value:.4g} the sum of the two forecasts has the error variance {var_a + var_b + 2 * value *
  sd_a * sd_b:,.0f}; the direct forecast has {var_total:,.0f}. Find where they are equal.
-gap / (2 * sd_a * sd_b)
  The sign is reversed. With a positive correlation both depots are too low on the same days, which
  is worse for their sum than no correlation. Bottom-up needs errors that cancel.
0
  Without correlation the sum has a variance of {var_a + var_b:,.0f}, the direct forecast one of
  {var_total:,.0f}. Nothing makes the errors independent, and here they must not be.
gap / (sd_a * sd_b)
  The variance of a sum counts the covariance twice, as (A, B) and (B, A); you counted it once.
gap / 2
  This is the covariance at which the two are equal, in parcels squared. A correlation has no unit.
-7.5
  when: abs(value) > 1
  {value:.4g} is no correlation: those lie between −1 and 1.

covariance = world(var_a, var_b, 2 * rho_max * sd_a * sd_b)
pd.DataFrame(world(var_a, var_b, -0.9 * sd_a * sd_b))
  when: cancels(value)
  No pair of errors can have this covariance matrix.
world(sd_a, sd_b, -20)
  when: np.allclose(value.diagonal(), [sd_a, sd_b])
  The diagonal of a covariance matrix holds variances; you gave the standard deviations.
world(var_a / 2, var_b, -200)
  when: not np.allclose(value.diagonal(), [var_a, var_b])
  The diagonal should hold the two variances of the question, {var_a:,.0f} and {var_b:,.0f}.
[[var_a, right[0, 1]], [0, var_b]]
  when: not np.isclose(value[0, 1], value[1, 0])
  The error of A with B is the error of B with A: make it symmetric.
world(var_a, var_b, -1.25 * sd_a * sd_b)
  when: abs(value[0, 1]) > sd_a * sd_b * (1 + 1e-9)
  This would be a correlation of {value[0, 1] / sd_a / sd_b:.2f}, which no pair of errors can have.
world(var_a, var_b, 0)
  when: value[0, 1] == 0
  Here the errors are independent, and the sum has the variance {value.sum():,.0f} against
  {var_total:,.0f}: bottom-up loses. What must happen on a day on which A is too low?
world(var_a, var_b, sd_a * sd_b / 2)
  when: value[0, 1] > 0
  These depots are wrong together: the sum has the variance {value.sum():,.0f}, which is more than
  with independent errors, and bottom-up loses to {var_total:,.0f}.
world(var_a, var_b, gap / 4)
world(var_a, var_b, gap / 2)
  when: value.sum() >= var_total * (1 - 1e-9)
  The errors cancel too little: the sum has the variance {value.sum():,.0f}, which must be below the
  {var_total:,.0f} of the direct forecast.
""",
        covariance=Numbers((2, 2), 1e-6),
    ),
    prediction=Prediction(
        "guess_2",
        ("together", "against each other"),
        "'against each other' if rho_max < 0 else 'together'",
        "Even independent errors add up to {var_a + var_b:,.0f}, and the direct forecast has "
        "{var_total:,.0f}.",
    ),
    shows="In your world the depots' errors have the correlation {covariance[0, 1] / sd_a / "
    "sd_b:.2f}; bottom-up misses the total by {covariance.sum()**0.5:.1f} parcels (standard "
    "deviation), the direct forecast by {var_total**0.5:.1f}.",
    hints=(
        "Bottom-up misses the total by the sum of the two errors. What is the variance of a sum?",
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
changes, last_week = history.diff(7), np.resize(history.tail(7), len(test))
def scale(days, season=7):
    return days.diff(season).abs().mean()
def rms(errors):
    return (errors**2).mean() ** 0.5
""",
    parts=parts(
        """
mase = mae / scale(history)
error.abs().sum() / 28 / (history - history.shift(7)).abs().mean()
mae / np.nanmean(np.abs(history.to_numpy()[7:] - history.to_numpy()[:-7]))
  {value:.4g} is none of the usual mix-ups. Above the line is a mean absolute error of {len(test)}
  days, below it a mean absolute difference of parcels.
mae / y.diff(7)[test.index].abs().mean()
mae / scale(test)
  The scale comes from the four weeks that are judged. On the day of the forecast it did not exist,
  and where the test is wild it is large and flatters. Take it from the days before the origin.
mae / scale(y)
  All days of the table went into the scale, those after the origin too. The score would change with
  every day that is added to the table. Cut the series at the origin.
mae / scale(y[: test.index[-1]])
  The scale goes on to the end of the test, so that the weeks that are judged are part of their own
  yardstick. Cut the series on the day before the origin.
mae / scale(y[y.index <= origin])
  One day too many is in the scale: the origin is the first day that is forecast, not history.
mae / scale(history, 1)
  This scale is the change from one day to the next: season 1. A Sunday is always far from its
  Saturday, so it is mostly weekday. Compare with the same weekday a week before.
mae / scale(history.tail(28))
mae / changes.tail(28).abs().mean()
  The scale comes from the last four weeks only, and says little. MASE takes the whole history.
mae / scale(history.tail(365))
mae / changes.tail(365).abs().mean()
  The scale comes from the last year only. MASE takes the whole history.
mae / scale(history['2022-04-01':])
mae / changes['2022-04-01':].abs().mean()
mae / changes['2022-04-06':].abs().mean()
  The scale comes from the days since the break. MASE takes the whole history, not chosen days.
mae / (test - last_week).abs().mean()
  You divided by the error of seasonal naive on the *same* four weeks. That relative error says who
  is better there; the scale of MASE is what seasonal naive missed before the origin.
mae / test.mean()
  You divided by the mean of the parcels: this is WAPE. MASE divides by a naive forecast's error.
mae
  This is the mean absolute error, not scaled yet. In a mean, large routes would outweigh small.
rms(error) / rms(changes)
  This is RMSSE, of squared errors. MASE takes absolute values, above and below the line.
rms(error) / scale(history)
  You squared the errors above the line and not below it. MASE takes absolute values in both.
error.mean() / scale(history)
-error.mean() / scale(history)
  Errors of both signs have cancelled: this is a scaled bias. Take each day's absolute error first.
scale(history)
  This is the scale alone. MASE is the forecast's mean absolute error divided by it.
1 / right
  Upside down: the error of the forecast belongs above the line, so that less is better.
""",
        mase=Number(0.0002),
    ),
    shows="The forecast misses {mae:.0f} parcels a day, {mase:.2f} times what seasonal naive used "
    "to miss. With the scale of the test weeks it would have been "
    "{mae / y.diff(7)[test.index].abs().mean():.2f}.",
    hints=(
        "MASE is the forecast's mean absolute error over another: whose, and over which days?",
        "Below is what seasonal naive, the same weekday a week before, missed before the origin.",
        "`y[y.index < origin].diff(7).abs().mean()` is the scale.",
    ),
)

q4 = exercise.asked(
    4,
    "`possible`, a set of names of clean-ups in quotes",
    setup="""
y, used = table_of_october, cleaned.index < today + pd.Timedelta(days=28)
changed = cleanups(y.where(y.index < today, 2 * y + 1), today)
def moved(name):  # the days whose value depends on the parcels since the origin
    same = np.isclose(cleaned[name][used], changed[name][used], rtol=1e-9, atol=0, equal_nan=True)
    return cleaned.index[used][~same]
def change(name, value, right):
    days, several = moved(name), len(set(value) ^ set(right)) > 1
    said = f"Other parcels since the origin change {len(days)} of its days, the first of them "
    more = " And that is not all that is to be mended in your set." if several else ""
    return said + f"{days[0].day} {days[0]:%B}." + more
""",
    parts=parts(
        """
possible = {name for name in cleaned if not len(moved(name))}
[name for name in cleaned if moved(name).empty]
  {names(value)}: these are not the clean-ups that could have been made.
set()
  when: not value
  At least one was possible: parcels had been low for two weeks. What could an alarm have used?
set(cleaned)
  when: value == set(cleaned)
  Not all of them. The table was written in October, when the shock and its recovery were over;
  cover its rows from the day of the forecast on, and see which clean-ups you can still make.
set(cleaned) - right
  when: value == set(cleaned) - right
  These are the ones that leak. The question asks for the others.
right | {'largest_jump'}
  when: 'largest_jump' in value
  `largest_jump` compares four weeks *after* each day with four before it. There were not yet four
  after the break, and other days could still have won. {change('largest_jump', value, right)}
right | {'until_back'}
  when: 'until_back' in value
  The start of `until_back` was known. Its end lies after the day of the forecast: it is a forecast
  of the recovery, made afterwards. {change('until_back', value, right)}
right | {'clipped'}
  when: 'clipped' in value
  `clipped` cuts at quantiles of the whole table. No row after the origin is used as a row, but all
  of them have a say in where the cut is. {change('clipped', value, right)}
right | {'level_free'}
  when: 'level_free' in value
  `level_free` divides by a mean *around* each day. It harms only the last days before the origin,
  from which a forecast starts. {change('level_free', value, right)}
right - {'since_alarm'}
  when: 'since_alarm' not in value
  `since_alarm` was possible: the alarm rang before the origin and looks only backwards. That it
  stays 1 over the days ahead is an assumption, written down in advance, not a look at them.
right - {'clipped_past'}
  when: 'clipped_past' not in value
  `clipped_past` was possible. A row of February is cut at a quantile that March has a say in, and
  that is no leak: what counts is what was known on the day of the clean-up, not of the row.
""",
        possible=Labels("cleaned"),
    ),
    shows="Change the parcels since 11 April: {names(n for n in cleaned if n in possible)} stay as "
    "they are, the other {len(cleaned.columns) - len(possible)} move.",
    hints=(
        "Cover all rows of the table from the day of the forecast on. Which of the six columns "
        "could you still compute, for every day up to the last one ahead?",
        "Look for a window that reaches forward, a statistic over the whole table, and an end that "
        "had not come yet. A statistic over all days *before* the origin is fine.",
        "Double the parcels since the origin, call `cleanups` again, and see which columns differ "
        "up to four weeks after the origin.",
    ),
)

#: What the parts of question 5 share; METRIC is the part's own.
SHARED = {
    "ANSWER": """best_METRIC = min(steps, key=lambda f: METRIC(sparse, f))
steps[np.argmin([METRIC(sparse, f) for f in steps])]
  when: METRIC(sparse, value) <= METRIC(sparse, right) * (1 + 1e-9)
  A forecast of {value:.3g} every day scores {METRIC(sparse, value):.5g}, and there is a better one
  with {METRIC(sparse, right):.5g}. Compute it for each candidate.""",
    "USEFUL": """sparse.mean()
  The mean is the useful forecast, and what you would order. What does this metric reward most?""",
    "BESIDE": """right + 0.01
right - 0.01
  {value:.3g} is one step beside the best: it scores {METRIC(sparse, value):.5g} against
  {METRIC(sparse, right):.5g}. Take the lowest of all `steps`.""",
    "LOSS": """METRIC(sparse, right)
  This is the metric's value at its best constant. Give the constant, in parcels a day.""",
}
BEST = {
    "mape": """
ANSWER
USEFUL
BESIDE
LOSS
0
  A forecast of 0 misses 100 % on each day with parcels, and MAPE counts no others.
""",
    "smape": """
ANSWER
USEFUL
LOSS
min(steps[1:], key=lambda f: smape(sparse[sparse > 0], f))
  This is best if you leave out the days on which actual and forecast are both 0. The question gives
  them 0, so {empty:.0%} of the days cost nothing at 0 and the full 200 % at anything else.
0.01
  when: 0 < value < 0.05
  Near is not enough. On a day without parcels a forecast of {value:.3g} costs 200 %, as much as one
  of a thousand. Put 0 itself among your candidates.
""",
    "wape": """
ANSWER
LOSS
  Or is it the usual number on days *with* parcels? WAPE counts the {empty:.0%} without any, too.
sparse.mean()
  The mean is what *squared* errors ask for. Absolute errors are lowest at the median, and on
  {empty:.0%} of the days nothing is sent.
""",
    "rmse": """
ANSWER
BESIDE
LOSS
0
  The median is what absolute errors ask for. Squared errors are lowest at the mean, which is not 0.
""",
}

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
    parts=parts(
        "".join(written(text, **SHARED, METRIC=metric) for metric, text in BEST.items()),
        **{f"best_{metric}": Number(0.004) for metric in BEST},
    ),
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
        "For each metric of the table, `min(steps, key=lambda f: metric_of(y, f))` on arrays.",
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
    return min(errors, key=lambda margin: staff_cost(errors, margin))
""",
    parts=parts(
        """
margin = pool.quantile(share)
np.quantile(pool, 0.8, method='weibull')
cheapest(pool)
  when: min(quantiles) - 1e-6 <= value <= max(quantiles) + 1e-6
  A margin of {value:.4g} parcels would have sufficed on {(pool <= value).mean():.0%} of the past
  days. One more parcel of capacity saves {SHORT:.2f} euro on the other days and costs {IDLE:.2f} on
  these: at which share do the two balance?
past.quantile(share).sum()
  Quantiles do not add up, unless all routes have their bad day on the same day. Workers change
  belts, so the sum of {past.shape[1]} route margins suffices on {(pool <= value).mean():.0%} of the
  past days, where {share:.0%} would do. Add the errors first.
pool.quantile(1 - share)
  The costs are upside down. With this margin the depot is short on {(pool > value).mean():.0%} of
  the days, which would pay if *idle* capacity were the expensive one.
(-pool).quantile(share)
  The errors are reversed. They are actual minus forecast: on a day above zero the depot is short.
pool.quantile((SHORT - IDLE) / SHORT)
  You took {SHORT:.2f} euro for the whole price of a missing parcel, from which the capacity that it
  saves is still to be taken. The text gives it *on top*: the share is {share:.0%}.
pool.mean()
  The mean error leaves the depot short about as often as idle, although being short costs more.
past.mean().sum() + z * past.var().sum() ** 0.5
  You added the routes' variances, but their errors share the depot's shocks: the true standard
  deviation is {pool.std():.0f}, not {past.var().sum() ** 0.5:.0f}. Take the depot's own errors.
pool.mean() + z * pool.std()
z * pool.std()
  The depot's errors are not normal: below this margin are {(pool <= value).mean():.1%} of the past
  days, and you pay for {share:.0%}. With {len(pool)} days at hand, take their own quantile.
pool.abs().quantile(share)
  Without their sign, errors of days with too few parcels count as if the depot had been short.
later.quantile(share)
cheapest(later)
pd.concat([pool, later]).quantile(share)
  The held-out year is in this margin; on the day of the plan it is unknown. Use `past` alone.
share
  This is the share of days on which capacity should suffice. Take this quantile of the errors.
0
  Without a margin you plan the middle, which is not cheapest where short costs more than idle.
right - 8.9
  when: abs(value - right) < 10
  Nearly: {value:.4g} is within ten parcels of it. Take the exact quantile, not a grid or rounding.
""",
        margin=Number(0.002),
    ),
    prediction=Prediction(
        "guess_6",
        ("more", "less"),
        "'more' if past.quantile(share).sum() > margin else 'less'",
        "The five margins add up to {past.quantile(share).sum():.0f} parcels against {margin:.0f}: "
        "the routes have their bad days on different days.",
    ),
    shows="With {margin:.0f} parcels on top of its forecast the depot costs {staff_cost(later, "
    "margin):.0f} euro a day in the held-out year, instead of {staff_cost(later, 0):.0f} without "
    "a margin; the capacity suffices on {(later <= margin).mean():.0%} of the days.",
    hints=(
        "On what share of the days should capacity suffice, and whose: a route's or the depot's?",
        "The share is short / (short + idle). The workers of a depot are one pool: a route with "
        "too many parcels is helped by one with too few, on the same day.",
        "Add the errors of each day over the routes, `past.sum(axis=1)`, and take one quantile.",
    ),
)
