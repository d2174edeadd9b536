"""Questions of exercise 21, each with a small world of its own, drawn by the student's seed."""

from __future__ import annotations

from casebook.cases.deployment_pipeline import exercise_data as data
from casebook.cases.deployment_pipeline.world import CHAPTER, SEED
from casebook.exercises.asked import Column, Exercise, Labels, Number, Prediction, Word, parts
from casebook.exercises.grading import student_seed

_GIVEN = ("reference", "groups", "plan", "before", "streams", "load", "judged")
exercise = Exercise(CHAPTER, SEED, {name: getattr(data, name) for name in _GIVEN})


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return exercise.given[name](student_seed(SEED))


#: What the questions' code needs of the exercise's data, in the reader's notebook too.
_FROM = "from casebook.cases.deployment_pipeline.exercise_data import "

q1 = exercise.asked(
    1,
    "`flagged`, a set of groups, `typical`, a number for each group, and `moved`, a set of groups",
    setup=f"""{_FROM}BINS, QUIET, RULE, almost, each
from scipy import stats
from casebook.evaluate.psi import psi
n, m = len(reference), each(groups, "group", len)
index = each(groups, "group", lambda own: psi(reference, own["value"], BINS))
limit = stats.chi2.ppf(QUIET, BINS - 1) * (1 / n + 1 / m)
def named(found):
    return set(index.index[found])
""",
    parts=parts(
        """
flagged = named(index > RULE)
[name for name in index.index if index[name] > RULE]
  Flagged are the groups whose index, of the training values and the group's, is above {RULE:g}.
named(index > 0.25)
  This is the rule's second limit, .25. Asked for is {RULE:g}.
named(index < RULE)
  The other way round: these are below the limit.

typical = (BINS - 1) * (1 / n + 1 / m)
9 / m + 9 / n
  {value.round(4).to_dict()} are not (b − 1)(1/n + 1/m), with b = {BINS} bins, n = {n:,} training
  values and m values of the group.{almost(value, right)}
(BINS - 1) / m
  The training values are a sample, too: add their 1/n.
BINS * (1 / n + 1 / m)
  These are as many terms as bins. One is fixed, because shares add up to one.
(BINS - 1) / (n + m)
  You pooled both samples. Their noise adds up: 1/n + 1/m.
limit
  This is the limit that chance passes once in a thousand. Here, give the mean.
index
  These are the indices that you measured. What would they be on average if nothing had moved?

moved = named(index > limit)
[name for name in index.index if index[name] > limit[name]]
  Compare each group's index with chi2.ppf({QUIET:g}, {BINS - 1}) (1/n + 1/m).
named(index > RULE)
  These are the small groups that the rule flags: chance alone brings such indices there.
named(index > typical)
  These are above the mean, where a quiet group is in about two cases of five. Use the limit.
""",
        flagged=Labels("index.index"),
        typical=Column(),
        moved=Labels("index.index"),
    ),
    prediction=Prediction(
        "guess_1",
        ("small", "large"),
        "'small' if m[list(flagged)].mean() < m.mean() else 'large'",
        "An index of noise alone is about 9/m, whatever the values are.",
    ),
    shows="The rule flags {names(sorted(flagged))} with {int(m[list(flagged)].max())} values at "
    "most, where {typical[list(flagged)].mean():.2f} is typical of no change, and overlooks "
    "{names(moved)}.",
    hints=(
        "`psi(reference, values, 10)` for the values of each group.",
        "The shares of m values in ten bins vary by chance, those of the n training values too.",
        "The limit of a group is `scipy.stats.chi2.ppf(0.999, 9) * (1 / n + 1 / m)`.",
    ),
    helps=("flagged", "typical", "moved"),
)

q2 = exercise.asked(
    2,
    "`per_arm`, `canary`, `minutes` and `chance`, four numbers",
    setup=f"""{_FROM}Z, almost, chance_of, size_of
from scipy import stats
from casebook.evaluate.two_shares import exact_power
base, bad, share, rate = plan
two = stats.norm.isf(0.025), Z[1]
arriving = 30 * 60 * rate * share
both = share * bad + (1 - share) * base
level = Z[0] * (both * (1 - both) / (1 - share)) ** 0.5
power = (bad * (1 - bad) + share / (1 - share) * base * (1 - base)) ** 0.5
""",
    parts=parts(
        """
per_arm = size_of(base, bad, 0.5)
(Z[0] + Z[1]) ** 2 * (base * (1 - base) + bad * (1 - bad)) / (bad - base) ** 2
np.ceil(size_of(base, bad, 0.5))
  {value:,.0f} does not follow from the formula with odds 1 and z of {Z[0]:.3f} and {Z[1]:.3f}.
size_of(base, bad, 0.5, two)
  This is a two-sided test. A rollback asks one question: is the canary worse?
2 * size_of(base, bad, 0.5)
  These are both arms together.
size_of(base, bad, 0.5, (Z[0], 0.0))
  The z of the power is missing: so large a sample finds it in half of the cases.
(Z[0] + Z[1]) ** 2 * 2 * base * (1 - base) / (bad - base) ** 2
  You took the variance of the stable pool for both. The bad canary varies more.

canary = size_of(base, bad, share)
np.ceil(size_of(base, bad, share))
  {value:,.0f} does not follow from the formula with the odds {share:g} / {1 - share:g}.
per_arm
  This is an arm of equal size. Here, the stable pool is larger, and its rate is better known.
size_of(base, bad, 1 - share)
  The odds are turned round: a canary request comes with *more* than one of the stable pool.
share * 2 * per_arm
  You split the total of the equal arms. With so few in the canary, the total must be larger.
((level + Z[1] * power) / (bad - base)) ** 2
  This is the pooled variance: fewer requests, and more false rollbacks than 5 %.
(sum(Z) / (bad - base)) ** 2 * (bad * (1 - bad) + share * base * (1 - base))
  The odds are share / (1 - share), {share:g} / {1 - share:g}, and not the share.
size_of(base, bad, share, two)
  This is a two-sided test.

minutes = canary / (60 * rate * share)
canary / share / rate / 60
  {value:.4g} is not the minutes in which the canary gets {canary:,.0f} requests.
canary / (60 * rate)
  The canary gets only its share of the requests.
canary / (rate * share)
  These are seconds.
per_arm / (60 * rate * share)
  This waits for an arm of the test of equal groups.

chance = chance_of(base, bad, share, arriving)
stats.norm.cdf((Z[0] + Z[1]) * np.sqrt(30 / minutes) - Z[0])
  {value:.4g} is not the power with {arriving:,.0f} canary requests.{almost(value, right)}
1 - chance_of(base, bad, share, arriving)
  This is the chance to overlook it.
chance_of(base, bad, 0.5, arriving)
  This compares the canary with a pool of its own size.
chance_of(base, bad, share, arriving, two[0])
  This is a two-sided test.
exact_power(int(arriving), base, bad, share)
  This is the power of the exact test. Asked for is the formula above, solved for the second z.
stats.norm.cdf((np.sqrt(arriving) * (bad - base) - level) / power)
  This is the power with the pooled variance. Asked for is the formula above.
0.8 * 30 / minutes
  Power does not grow in proportion to the sample. Solve the formula for the z of the power.
""",
        per_arm=Number(0.002),
        canary=Number(0.0008),
        minutes=Number(0.002),
    ),
    prediction=Prediction(
        "guess_2",
        ("yes", "no"),
        "'yes' if chance >= 0.8 else 'no'",
        "It takes {minutes:.0f} minutes.",
    ),
    shows="Equal arms need {per_arm:,.0f} requests each; a canary of {share:.0%} needs "
    "{canary:,.0f}, {minutes:.0f} minutes. In 30 minutes it is found with power {chance:.2f}.",
    hints=(
        "z is 1.645 for a one-sided level of 5 %, 0.842 for the power .8. Equal arms: odds 1.",
        "The odds of a canary of 5 % are 5 / 95. Only the variance of the stable pool shrinks.",
        "Put the requests of 30 minutes in for n, solve for the z of the power; `norm.cdf` of it.",
    ),
    helps=("per_arm", "canary", "chance"),
)

q3 = exercise.asked(
    3,
    "`drift` and `surplus`, a number for each stream, `retrain` and `repair`, sets of streams",
    setup=f"""{_FROM}DOUBT, almost, doubt, each
from casebook.evaluate.psi import psi
kinds = streams.attrs["kinds"]
median = streams.groupby(["stream", "caller"])["amount"].median().unstack()
cents = set(median.index[median.max(axis=1) > 10 * median.min(axis=1)])
z = doubt(streams)
def named(found):
    return set(z.index[found])
def of(kind):
    return next(name for name in kinds if kinds[name] == kind)
index = each(streams, "stream", lambda own: psi(before, own["score"]))
""",
    parts=parts(
        """
drift = index
{name: psi(before, streams['score'][streams['stream'] == name]) for name in index.index}
  when: np.abs(value / index - 1).max() < 0.05
  {value.round(3).to_dict()} are not the indices of each stream's scores against `before`.
each(streams, 'stream', lambda own: psi(own['score'], before))
  The bins are those of the reference: it is the first argument.
each(streams, 'stream', lambda own: psi(streams['score'], own['score']))
  This compares each stream with all four. The reference is `before`.

surplus = z
doubt(streams, poisson=True)
  when: np.abs(value - z).max() < 0.12 * np.abs(z).max() and (np.abs(value / z - 1) < 0.2).all()
  {value.round(2).to_dict()} are not (frauds − Σ score) / √(Σ score (1 − score)).
-z
  The sign is turned: positive are more frauds than the scores say.
each(streams, 'stream', lambda own: own['fraud'].sum() / own['score'].sum())
  This is a ratio. Chance moves it, too: give the difference in standard deviations.
each(streams, 'stream', lambda own: own['fraud'].sum() - own['score'].sum())
  These are frauds. Divide by the standard deviation that chance gives.

retrain = named(z.abs() > DOUBT) - cents
[of('fraud')]
  Retrain where the labels contradict the model, and the rows are sound.
named(index > 0.1)
{of('customers')}
  The scores have moved there, but where other customers have come, the labels agree with the model.
named(z.abs() > DOUBT)
  In {names(cents)} the labels contradict scores that were made from broken rows. A model that is
  trained on these learns the fault.
named((z.abs() > DOUBT) | (index > 0.1))
  You retrain at any alarm.

repair = cents
[of('cents')]
  Look at the median amount of each stream and caller.
named(index > 0.1)
  Scores move for two reasons here. In which stream is a *feature* impossible?
named(z < -DOUBT) | named(z > DOUBT)
  Labels contradict both. In which one is a feature impossible?
""",
        drift=Column(),
        surplus=Column(),
        retrain=Labels("z.index"),
        repair=Labels("z.index"),
    ),
    prediction=Prediction(
        "guess_3",
        ("yes", "no"),
        "'yes' if retrain == {index.idxmax()} else 'no'",
        "The largest index, {index.max():.2f}, is that of {index.idxmax()}: "
        "{'other customers' if kinds[index.idxmax()] == 'customers' else 'a fault of the feed'}.",
    ),
    shows="{names(retrain)} has an index of {drift[of('fraud')]:.3f} and "
    "{surplus[of('fraud')]:.0f} standard deviations too many frauds. "
    "{of('customers')}, with {drift[of('customers')]:.2f}, needs nothing.",
    hints=(
        "`psi(before, scores)` for the scores of each stream.",
        "If the model is right, each payment is a fraud with the probability `score`: the number "
        "of frauds has the mean Σ score and the variance Σ score (1 − score).",
        "`streams.groupby(['stream', 'caller'])['amount'].median()`: who sends what?",
    ),
    helps=("drift", "surplus", "repair"),
)

q4 = exercise.asked(
    4,
    "`asked_at`, seconds, `longest` and `by_requests`, seconds of waiting, `least`, a number of "
    "pods",
    setup=f"""{_FROM}CAN, COLD, SHOULD, fewest, scaled
""",
    parts=parts(
        """
asked_at = scaled(load)[0]
load.index[(load > 1.1 * 0.6 * 4 * CAN).to_numpy().argmax()]
  {value:g} is not the first second at which four pods are more than 66 % busy.
scaled(load, edge=1.0)[0]
  Up to 66 % the controller rests: within 10 % of its target it does nothing.
scaled(load)[0] + COLD
  Then the pod is ready. When is it asked for?

longest = scaled(load)[1]
  {value:.4g} is not the longest wait. Print queue and pods of each step and compare with the rules.
scaled(load, keeps=False)[1]
  What is left of the queue stays for the next step: carry it over.
scaled(load, edge=1.0)[1]
  Up to 66 % the controller rests.
scaled(load, 'none')[1]
  Nobody asked for pods in this. It is what four pods alone would do.
scaled(load, cold=0)[1]
  The pods were ready at once here. They take 100 seconds.

by_requests = scaled(load, 'requests')[1]
  {value:.4g} is not it. Here the controller wants the load divided by {SHOULD}, rounded up.
scaled(load)[1]
  This is the controller that goes by the CPU.
scaled(load, 'requests', cold=0)[1]
  The pods were ready at once here. They take 100 seconds.
scaled(load, 'requests', keeps=False)[1]
  What is left of the queue stays for the next step: carry it over.

least = fewest(load)
next(n for n in range(4, 11) if scaled(load, 'none', pods=n)[1] <= 1)
  With {value:g} fixed pods the longest wait is {scaled(load, 'none', pods=int(value))[1]:.1f} s.
int(np.ceil(load.max() / SHOULD))
  This many would be 60 % busy. Asked for is when nobody waits longer than a second.
int(load.max() // CAN)
  Four pods can do 200 a second, and lunch brings more: the queue grows as long as it lasts.
""",
        asked_at=Number(1e-6),
        longest=Number(0.005),
        by_requests=Number(0.005),
        least=Number(1e-6),
    ),
    prediction=Prediction(
        "guess_4",
        ("yes", "no"),
        "'yes' if by_requests < 1 else 'no'",
        "It asks for more pods and a little sooner, and all of them take 100 seconds to start.",
    ),
    shows="By CPU, pods are asked for at {asked_at:.0f} s and somebody waits {longest:.1f} s; by "
    "requests {by_requests:.1f} s. {least:.0f} pods from the start keep all below a second.",
    hints=(
        "Busy is what was answered, divided by what the ready pods could answer.",
        "Keep a list of (second, pods asked for); ready is the highest number in it that was asked "
        "for 100 seconds ago or earlier. It begins with four pods, long ago.",
        "`least` has no controller: run the queue with 4, 5, 6, … pods.",
    ),
    helps=("asked_at", "longest", "least"),
)

q5 = exercise.asked(
    5,
    "`seen`, `fair` and `upper`, euro a payment, `worst`, a region, and `verdict`, a word",
    setup=f"""{_FROM}HARM, TRAINED
from scipy import stats
gap = judged["candidate"] - judged["champion"]
later = judged["day"] > TRAINED
own = gap[later]
daily = own.groupby(judged["day"]).mean()
regions = own.groupby(judged["region"]).mean()
def upper_of(values, t):
    return values.mean() + t * stats.sem(values)
t = stats.t.ppf(0.95, len(daily) - 1)
""",
    parts=parts(
        """
seen = gap.mean()
judged['candidate'].mean() - judged['champion'].mean()
  {value:.4g} is not the mean of candidate less champion over all rows.
-gap.mean()
  The sign is turned: negative means that the candidate is cheaper.
gap.mean() / judged['champion'].mean()
  This is a share. Give euro a payment.

fair = own.mean()
daily.mean()
  {value:.4g} is not the mean difference on the days {TRAINED + 1} to 28.
gap[~later].mean()
  These are the days on which the candidate was trained.
gap[judged['day'] >= TRAINED].mean()
  Day {TRAINED} belongs to the training.
-own.mean()
  The sign is turned.

upper = upper_of(daily, t)
np.mean(daily) + t * np.std(daily, ddof=1) / np.sqrt(len(daily))
  when: abs(value - right) < 0.06 * abs(right - fair)
  {value:.4g} is not the upper end of the one-sided 95 % interval of the daily means.
upper_of(daily, stats.t.ppf(0.975, len(daily) - 1))
  This is the end of a two-sided interval: the gate asks one question.
upper_of(daily, stats.norm.ppf(0.95))
  This is the normal distribution's 1.645. With 14 days, take the t distribution.
daily.mean() - t * stats.sem(daily)
  This is the lower end.
daily.mean() + t * daily.std()
  This is where single days lie. The mean of {len(daily)} days varies less.
upper_of(own, stats.t.ppf(0.95, len(own) - 1))
upper_of(own, t)
  These are {len(own):,} rows, taken for independent. Payments of one day are alike: {len(daily)}
  daily means say how far chance moves the mean.
upper_of(gap.groupby(judged['day']).mean(), stats.t.ppf(0.95, 27))
  These are all 28 days, half of which the candidate knows.

worst = regions.idxmax()
max(regions.index, key=regions.get)
  There the mean difference is {regions[value]:+.2f}. Look for the one where it is highest.
regions.idxmin()
  There the candidate is at its best.

verdict = 'promote' if upper < 0 and regions.max() <= HARM else 'keep'
  A gate has to pass in each of its parts: `upper` below zero, and no region worse by {HARM:g}.
'promote'
  On all rows together it is cheaper; {worst} would pay {regions[worst]:.2f} euro more a payment.
""",
        seen=Number(0.002),
        fair=Number(0.002),
        upper=Number(0.002),
        worst=Word(("islands", "north", "south")),
        verdict=Word(("promote", "keep")),
    ),
    prediction=Prediction(
        "guess_5",
        ("half", "less"),
        "'half' if fair / seen > 0.5 else 'less'",
        "{fair / seen:.0%} of the gain is left on days that the candidate has not seen.",
    ),
    shows="All rows promise {seen:+.3f} euro a payment, fair ones {fair:+.3f}, at most "
    "{upper:+.3f}. On the {worst} it is {regions[worst]:+.2f}: the champion stays.",
    hints=(
        "Which rows has the candidate been trained on?",
        "Payments of one day are alike. Take the mean of each of the 14 days; then mean and "
        "standard error of these, and `scipy.stats.t.ppf(0.95, 13)`.",
        "Group the fair differences by `region`.",
    ),
    helps=("fair", "upper", "worst"),
)
