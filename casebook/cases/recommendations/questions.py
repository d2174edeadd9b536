"""Questions of exercise 09, each with a small world of its own, drawn by the student's seed."""

from __future__ import annotations

from casebook.cases.recommendations import exercise_data as data
from casebook.cases.recommendations.world import CHAPTER, SEED
from casebook.exercises.asked import (
    Column,
    Exercise,
    Function,
    Labels,
    Number,
    Numbers,
    Prediction,
    Word,
    parts,
)
from casebook.exercises.grading import student_seed

_GIVEN = ("views", "tower", "timings", "splits", "visits", "items")
exercise = Exercise(CHAPTER, SEED, {name: getattr(data, name) for name in _GIVEN})


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return exercise.given[name](student_seed(SEED))


#: What the questions' code needs of the exercise's data, in the reader's notebook too.
_FROM = "from casebook.cases.recommendations.exercise_data import "

q1 = exercise.asked(
    1,
    "`by_time` and `by_chance`, two recalls, and `leak`, a difference of two recalls",
    setup=f"""{_FROM}TRAIN_UNTIL, almost, top_ten
day, drawn = views["day"], views["drawn"]
last = day > TRAIN_UNTIL
def hits(train, test):
    lists = top_ten(train)
    found = [item in lists.get(user, []) for user, item in zip(test["user"], test["item"])]
    return pd.Series(found, test.index)
def recall(train, test):
    return hits(train, test).mean()
def by_user(train, test):
    return hits(train, test).groupby(test["user"]).mean().mean()
past, ago, rest, both = views[~last], views[~last & ~drawn], views[~drawn], views[last & drawn]
known = views[last & views["user"].isin(past["user"])]
leaky, fair = recall(rest, both), recall(ago, both)
""",
    parts=parts(
        """
by_time = recall(past, views[last])
hits(past, views[last]).sum() / last.sum()
  {value:.4g} is not the share of the {last.sum()} rows of the last week that are in their user's
  list, with lists made of days 1 to {TRAIN_UNTIL}.{almost(value, right)}
recall(views[day < TRAIN_UNTIL], views[day >= TRAIN_UNTIL])
  Day {TRAIN_UNTIL} belongs to the training.
recall(views[day <= TRAIN_UNTIL + 1], views[day > TRAIN_UNTIL + 1])
  Day {TRAIN_UNTIL + 1} belongs to the test.
recall(views, views[last])
  You trained on all rows. Nothing that a user has viewed in the training is recommended.
by_user(past, views[last])
  This is the mean over users. Count each row of the test once.
recall(past, known)
  You left out users without a row in the training. Each of their rows is a miss.

by_chance = recall(rest, views[drawn])
hits(rest, views[drawn]).sum() / drawn.sum()
  {value:.4g} is not the share of the {drawn.sum()} drawn rows that are in their user's
  list.{almost(value, right)}
recall(views[drawn], rest)
  The other way round: the drawn rows are the test.
recall(ago, views[drawn])
  Here the training ends on day {TRAIN_UNTIL}. A random split trains on all that is not drawn.

leak = leaky - fair
(hits(rest, both).sum() - hits(ago, both).sum()) / len(both)
  {value:.4g} is not it. The test is the {len(both)} drawn rows of the last week, both times, and
  no training has a drawn row.{almost(value, right)}
fair - leaky
  The other way round: how much *higher* is the recall that has seen the last week?
leaky
  This is one of the two recalls. Subtract that of the past.
by_chance - by_time
  This compares different rows. Keep the rows of the test and change the training alone.
leaky / fair
  This is a ratio. Give the difference.
""",
        by_time=Number(1e-4),
    ),
    prediction=Prediction(
        "guess_1",
        ("a little", "a lot"),
        "'a lot' if by_chance > 1.25 * by_time else 'a little'",
        "It is {by_chance / by_time:.2f} times as high.",
    ),
    shows="The random split says {by_chance:.2f}, the next week {by_time:.2f}. For the same "
    "{len(both)} rows, having seen their own week is worth {leak:.2f}.",
    hints=(
        "Which rows can a recommender have seen that makes its lists on the evening of day 21?",
        "Write a function of a training and a test: `lists = top_ten(train)`, and for each row of "
        "the test whether its item is in `lists.get(user, [])`. The recall is the mean.",
        "For `leak` the test is `views[views['drawn'] & (views['day'] > 21)]`. Train on all rows "
        "that are not drawn, then on those of them up to day 21.",
    ),
    helps=("by_time", "by_time", "leak"),
)

q2 = exercise.asked(
    2,
    "`shares` and `chances`, a number for each item, and `penalised`, a set of items",
    setup=f"""{_FROM}almost, softmax
score, clicks = tower["score"], tower["clicks"]
raw, q, even = softmax(score), clicks / clicks.sum(), 1 / len(tower)
truth, often = softmax(score + np.log(q)), clicks.idxmax()
def named(found):
    return set(tower.index[found])
""",
    parts=parts(
        """
shares = q
clicks.div(sum(clicks))
  {value.round(3).to_dict()} is not the share of each item in all {clicks.sum():,}
  clicks.{almost(value, right)}
clicks / clicks.max()
  You divided by the largest number. Divide by the sum.
1 / q
  The other way round: what is clicked often is in the batch often.
raw
  These are scores of one user. How often an item is drawn depends on all clicks alone.

chances = softmax(score + np.log(shares))
shares * np.exp(score) / (shares * np.exp(score)).sum()
softmax(score + np.log(128 * shares))
  {value.round(3).to_dict()} is not it. Undo what in-batch sampling did to the score; then make
  shares of it that add up to one.{almost(value, right)}
raw
  These are the scores as they are, without the correction.
softmax(score - np.log(shares))
  This subtracts log Q once more. The trained score already lacks it: add it.
score + np.log(shares)
shares * np.exp(score)
  These are corrected scores, or their exponentials. Make shares of them that add up to one.

penalised = named(raw < chances)
[item for item in tower.index if raw[item] < chances[item]]
  Compare for each item what the plain scores give it, as shares that add up to one, with `chances`.
named(raw > truth)
  The other way round: these get too much without the correction.
named(q > even)
  These are drawn more often than evenly. More items lose: the rare ones take from all others.
named(truth > even)
  These are the items that the user likes. Which get too little without the correction?
""",
        shares=Column(),
        chances=Column(),
        penalised=Labels("tower.index"),
    ),
    prediction=Prediction(
        "guess_2",
        ("too much", "too little"),
        "'too little' if raw[often] < truth[often] else 'too much'",
        "The plain scores give {often} {raw[often]:.0%} of this user's clicks, the corrected ones "
        "{truth[often]:.0%}: an item that is a negative in nearly every batch is pushed down.",
    ),
    shows="The plain scores put {raw.idxmax()} first, the corrected ones {chances.idxmax()}.",
    hints=(
        "A batch is made of clicks. How often is an item one of the other rows of a batch?",
        "The trained score is log(chance / share) and a constant. Add the logarithm of the share.",
        "`np.exp(tower['score']) * shares`, divided by its sum, are the chances; without `shares` "
        "it is what the plain scores give.",
    ),
    helps=("shares", "chances", "penalised"),
)

q3 = exercise.asked(
    3,
    "`whole`, `summed` and `after`, milliseconds, and `halve`, the name of a stage",
    setup=f"""{_FROM}BUDGET
total, each = timings.sum(axis=1), timings.quantile(0.95)
def near(value, ms):
    methods = ("linear", "lower", "higher", "hazen", "weibull", "median_unbiased")
    ways = (np.quantile(ms, 0.95, method=m, axis=0).sum() for m in methods)
    return any(abs(value / ms - 1) < 1e-3 for ms in ways)
def without(stage, part=0.5):
    return total - part * timings[stage]
left = {{stage: np.quantile(without(stage), 0.95) for stage in timings}}
""",
    parts=parts(
        """
whole = total.quantile(0.95)
np.percentile(timings.to_numpy().sum(axis=1), 95)
np.quantile(total, 0.95, method='hazen')
  when: near(value, total)
  {value:.5g} is not the 95th percentile of the times of whole requests, in milliseconds.
each.sum()
  This adds the percentiles of the stages. Add the stages of each request first.
np.quantile(timings, 0.95)
  These are single stages. Add the four of each request first.
np.percentile(total, 0.95)
  `np.percentile` wants 95, and `np.quantile` 0.95.

summed = each.sum()
sum(np.percentile(timings[stage], 95) for stage in timings)
sum(np.quantile(timings[stage], 0.95, method='higher') for stage in timings)
  when: near(value, timings)
  {value:.5g} is not the sum of the four stages' own 95th percentiles.
total.quantile(0.95)
  This is the percentile of the sum. Here, take each stage's own first and then add.
timings.mean().sum()
  These are means. Means add up; percentiles do not.

halve = min(left, key=left.get)
[stage for stage in timings if left[stage] <= BUDGET][0]
  With half of it, the 95th percentile of the requests is {left[value]:.0f} ms.
each.idxmax()
  This has the highest percentile of its own. Which stage do the *slow* requests wait for?
timings.max().idxmax()
  This has the longest times, in too few requests: the percentile stays at {left[value]:.0f} ms.

after = without(halve).quantile(0.95)
np.percentile(timings.assign(**{halve: timings[halve] / 2}).sum(axis=1), 95)
  when: near(value, without(halve))
  {value:.5g} is not the percentile of the sums when each time of {halve} is halved.
whole - each[halve] / 2
  This subtracts half of the stage's percentile. Halve its times, add, and take the percentile.
timings.assign(**{halve: timings[halve] / 2}).quantile(0.95).sum()
  This adds percentiles of stages. Add the stages of each request first.
without(halve, 1).quantile(0.95)
  This leaves the stage out. It still takes half of its time.
""",
        halve=Word(("features", "candidates", "ranking", "rules")),
    ),
    prediction=Prediction(
        "guess_3",
        ("more", "less"),
        "'more' if whole > summed else 'less'",
        "Each stage is slow in less than 5 % of the requests, which its own 95th percentile does "
        "not show; {(total > BUDGET).mean():.0%} of the requests meet a slow stage.",
    ),
    shows="The stages' percentiles add up to {summed:.0f} ms; that of the requests is {whole:.0f}. "
    "With half of {halve} it is {after:.0f}, with half of {each.idxmax()} still "
    "{left[each.idxmax()]:.0f}.",
    hints=(
        "A request waits for its four stages, one after the other. What is one request's time?",
        "`timings.sum(axis=1)` has a number for each request; take its `quantile(0.95)`.",
        "Try all four: `timings.sum(axis=1) - timings[stage] / 2`, then the percentile.",
    ),
    helps=("whole", "whole", "halve"),
)

q4 = exercise.asked(
    4,
    "`p_values`, a number for each experiment, `broken`, some names, and `alarms`, three numbers",
    setup=f"""{_FROM}LEVEL, RULE, SIZES, almost
from scipy import stats
plan, n = splits["planned"], splits["users"]
off, half_off = splits["in_b"] - n * plan, splits["in_b"] - n / 2
z, relative = off / np.sqrt(n * plan * (1 - plan)), off / (n * plan)
def tail(z):
    return pd.Series(2 * stats.norm.sf(np.abs(z)), n.index)
def named(found):
    return set(splits.index[found])
def alarm(share):
    return np.array([2 * stats.norm.sf(share * np.sqrt(size)) for size in SIZES])
counted = [2 * stats.binom.cdf(np.ceil(m * (1 - RULE) / 2) - 1, m, 0.5) for m in SIZES]
at_least = [2 * stats.binom.cdf(round(m * (1 - RULE) / 2), m, 0.5) for m in SIZES]
""",
    parts=parts(
        """
p_values = tail(z)
[stats.chisquare([o, m - o], [m * s, m * (1 - s)])[1] for s, m, o in splits.to_numpy()]
[stats.binomtest(int(o), int(m), s).pvalue for s, m, o in splits.to_numpy()]
  when: np.abs(value - tail(z)).max() < 0.012
  {value.round(4).to_dict()} are not the p-values of a two-sided test of each split.
tail(z) / 2
  These are one-sided. A split can break in both directions.
tail(half_off / np.sqrt(n / 4))
  You tested against one half. The plans differ: `planned`.
2 * stats.norm.sf(z)
  Some of these are above one. Take the absolute value of z.
tail(off / np.sqrt(n * plan))
  The variance is n p (1 − p). You took n p.
z
  These are z. How likely is a value as large?

broken = named(tail(z) < LEVEL)
[name for name in splits.index if tail(z)[name] < LEVEL]
  Broken at the level {LEVEL:g} are those with a smaller p-value, and no others.
named(relative.abs() > RULE)
  This is the rule of 1 %: it condemns small experiments and overlooks the largest one.
named(tail(z) < 0.05)
  At the level 5 %, some of six healthy splits alarm in one case of four. Asked for is {LEVEL:g}.
named(tail(half_off / np.sqrt(n / 4)) < LEVEL)
  You tested against one half. Some of these are uneven by plan.

alarms = alarm(RULE)
counted
[stats.chi2.sf(RULE**2 * size, 1) for size in SIZES]
  when: min(np.abs(value - right).max(), np.abs(value - counted).max()) < 0.02
  With {SIZES[0]:,} users the number in B has a standard deviation of {SIZES[0] ** 0.5 / 2:.0f}, and
  the rule alarms beyond ±{RULE * SIZES[0] / 2:g}. From this follows no
  {value[0]:.3g}.{almost(value, right)}
at_least
  when: abs(value[0] - at_least[0]) < 0.004
  You counted a deviation of exactly 1 %, too. The rule alarms at *more* than 1 %.
alarm(RULE) / 2
  This is one side. Too many and too few users in B both alarm.
1 - alarm(RULE)
  This is how often the rule is silent.
alarm(RULE / 2)
  The standard deviation of the number in B is √n / 2. You took √n.
alarm(2 * RULE)
  The rule alarms at 1 % of the planned *number*: half a point of the share, not one.
""",
        p_values=Column(),
        broken=Labels("splits.index"),
        alarms=Numbers((3,)),
    ),
    prediction=Prediction(
        "guess_4",
        ("1 %", "10 %", "over 50 %"),
        "'over 50 %' if alarms[0] > 0.5 else '10 %'",
        "Chance alone moves the number in B by more than 1 % in most experiments of that size.",
    ),
    shows="With {SIZES[0]:,}, {SIZES[1]:,} and {SIZES[2]:,} users the rule alarms in "
    "{alarms[0]:.0%}, {alarms[1]:.0%} and {alarms[2]:.1%} of healthy experiments. It overlooks "
    "“{n.idxmax()}”, which is off by {abs(relative[n.idxmax()]):.1%}.",
    hints=(
        "In a healthy split the number in B is binomial, with mean n p and variance n p (1 − p).",
        "z = (in B − n p) / √(n p (1 − p)); its p-value is `2 * scipy.stats.norm.sf(abs(z))`.",
        "The rule alarms beyond 0.01 × n / 2. Divide that by √(n / 4) and take both tails.",
    ),
    helps=("p_values", "p_values", "alarms"),
)

q5 = exercise.asked(
    5,
    "`recalls` and `values`, a number for each candidate, `pick`, one of A, B and C, `error` and "
    "`effective`, two numbers",
    setup=f"""{_FROM}almost
own, drawn = visits[~visits["random"]], visits[visits["random"]]
n, kind, true = len(drawn), visits.attrs["kind"], visits.attrs["true"]
def each(made):
    return pd.Series({{name: float(made(name)) for name in "ABC"}})
def same(rows, name):
    return rows["shown"] == rows[name]
def among_clicks(rows):
    return each(lambda name: same(rows[rows["clicked"]], name).mean())
w = pd.DataFrame({{name: same(drawn, name) / drawn["chance"] for name in "ABC"}})
terms = w.mul(drawn["clicked"], axis=0)
""",
    parts=parts(
        """
recalls = among_clicks(own)
each(lambda name: np.mean(own['shown'][own['clicked']] == own[name][own['clicked']]))
  {value.round(3).to_dict()} are not the shares of the policy's clicked visits in which the
  candidate would have shown the same item.{almost(value, right)}
among_clicks(visits)
  These are all clicks. Those of the random visits are not the policy's.
each(lambda name: own['clicked'][same(own, name)].mean())
  This is the click rate of the visits that match. Which share of the *clicked* ones matches?
among_clicks(drawn)
  These are the clicks of the random slice. Take those of the policy's visits.
each(lambda name: same(own, name).mean())
  These are all visits of the policy. Recall is a share of the clicked ones.

values = terms.mean()
(w.T @ drawn['clicked']) / n
  {value.round(4).to_dict()} are not the means, over the {n:,} random visits, of one over the chance
  where the item is the same and was clicked, else 0.{almost(value, right)}
each(lambda name: terms[name][same(drawn, name)].mean())
  This is the mean over the matches. All other random visits are terms too: 0.
terms.sum() / len(visits)
  Divide by the {n:,} random visits: only these are in the sum.
each(lambda name: (same(drawn, name) & drawn['clicked']).mean())
  The chance is missing: a match stands for one over the chance visits.
each(lambda name: drawn['clicked'][same(drawn, name)].mean())
  This is the plain click rate of the matches. They had different chances, so weigh them.
terms.sum() / w.sum()
  This divides by the sum of the weights: another right estimate. Asked for is the plain mean.

pick = values.idxmax()
max('ABC', key=values.get)
  Take the candidate with the most clicks a visit, by inverse propensity.
recalls.idxmax()
  {value} agrees best with the policy that made the log: that is what its recall says.

error = terms[pick].std() / n**0.5
np.std(terms[pick]) / np.sqrt(n)
  when: abs(value / right - 1) < 0.04
  {value:.4g} is not the standard deviation of the terms over the root of their number.
1.96 * terms[pick].std() / n**0.5
  This is half of a 95 % interval. Asked for is the standard error.
terms[pick].std() / len(visits) ** 0.5
  Only the {n:,} random visits are terms.
terms[pick].std()
  This is the standard deviation of a term. The mean of {n:,} terms varies less.
np.sqrt(values[pick] * (1 - values[pick]) / n)
  This would do if each random visit had shown the candidate's item. A term is 0 or 1 / chance.
terms[pick][w[pick] > 0].std() / (w[pick] > 0).sum() ** 0.5
  These are the matches alone. All other random visits are terms too: 0.

effective = w[pick].sum() ** 2 / (w[pick] ** 2).sum()
np.square(sum(w[pick])) / np.dot(w[pick], w[pick])
  {value:.5g} is not (Σ w)² / Σ w² of the weights of {pick}.
(w[pick] > 0).sum()
  This is the number of matches. Weights that differ make them worth a little less.
n
  These are all random visits. In most of them the item is another one.
terms[pick].sum() ** 2 / (terms[pick] ** 2).sum()
  You counted the clicked ones only. The weights do not depend on clicks.
""",
        recalls=Column(),
        values=Column(),
        pick=Word(("A", "B", "C")),
    ),
    prediction=Prediction(
        "guess_5",
        ("yes", "no"),
        "'yes' if recalls.idxmax() == pick else 'no'",
        "{recalls.idxmax()} {kind[recalls.idxmax()]}, {pick} {kind[pick]}.",
    ),
    shows="{pick} brings {values[pick]:.3f} ± {1.96 * error:.3f} clicks a visit (truth: "
    "{true[pick]:.3f}); {recalls.idxmax()}, with the best recall, {values[recalls.idxmax()]:.3f} "
    "(truth: {true[recalls.idxmax()]:.3f}).",
    hints=(
        "In one part of the log the policy chose, in the other chance. In which one can you see "
        "what a candidate would bring?",
        "A visit's weight is 1 / chance where the random item is the candidate's, else 0. `values` "
        "is the mean of weight × clicked over *all* random visits.",
        "`error` is the standard deviation of weight × clicked over the root of the number of "
        "random visits; `effective` is w.sum()² / (w²).sum().",
    ),
    helps=("recalls", "values", "error"),
)

q6 = exercise.asked(
    6,
    "`rerank`, a function",
    setup=f"""{_FROM}differs, lists as made_of, ten as listed
tables = made_of(items)
probes = [(rows,) for rows in tables.values()]
clicks = items.set_index("item")["score"]
price = 1 - clicks[listed(items)].sum() / clicks[listed(items, cap=99)].sum()
""",
    parts=parts(
        """
rerank = listed
lambda rows: pd.Series(listed(rows), dtype=int)
lambda rows: tuple(listed(rows.reset_index(drop=True)))
  {differs(value, right, tables)}
lambda rows: listed(rows.assign(stock=1))
  You show what is sold out: its `stock` is 0.
lambda rows: listed(rows[rows['stock'] > 1])
  One piece is in stock, too.
lambda rows: listed(rows, cap=2)
  Three items of a brand are allowed.
lambda rows: listed(rows, cap=4)
  You show four of a brand where other brands are left.
lambda rows: listed(rows, cap=99)
  Your lists have no cap: they are the best ten in stock.
lambda rows: listed(rows, refill=False)
  Your lists have fewer than ten where ten are in stock. There, the cap gives way.
lambda rows: listed(rows, drop=True)
  You drop the cap for the whole list. It gives way for the slots that are left, at the end.
lambda rows: listed(rows[rows.groupby('brand')['score'].rank('first', ascending=False) <= 3])
  A sold-out item takes a slot of its brand. Leave those out before you count brands.
lambda rows: listed(rows[rows['item'].isin(listed(rows, cap=99))])
  You take the best ten first, so the cap only changes their order. Count brands among all items.
lambda rows: listed(rows, refill=(rows['stock'] > 0).sum() >= 10)
  If fewer than ten are in stock, all of them are shown: those above the cap at the end.
lambda rows: [-item for item in listed(rows.assign(item=-rows['item']))]
lambda rows: [rows['item'].iloc[k] for k in listed(rows.assign(item=range(len(rows))))]
  Of equal scores the smaller item number goes first.
lambda rows: listed(items)
  Your function looks at `items`, and not at the `rows` that it is given.
""",
        rerank=Function("probes", returns=data.ItemNumbers()),
    ),
    prediction=Prediction(
        "guess_6",
        ("less", "more"),
        "'less' if price < 0.1 else 'more'",
        "The cap costs {price:.1%} of the clicks that the scores promise.",
    ),
    shows="Your function keeps the rules in all {len(probes)} tables.",
    hints=(
        "Leave out what is sold out, sort, and only then count brands.",
        "`rows.groupby('brand').cumcount()` numbers the rows of each brand in their order; 0, 1 "
        "and 2 are within the cap.",
        "Put those within the cap first and the others after them, and take the first ten.",
    ),
)
