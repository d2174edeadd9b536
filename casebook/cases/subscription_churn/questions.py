"""Questions of exercise 07, each with a small world of its own, drawn by the student's seed."""

from __future__ import annotations

from casebook.cases.subscription_churn.exercise_data import (
    cancelled,
    changes,
    groups,
    history,
    lottery,
    plan,
    trial,
)
from casebook.cases.subscription_churn.world import CHAPTER, SEED
from casebook.exercises.asked import (
    Column,
    Exercise,
    Function,
    Labels,
    Number,
    Numbers,
    Prediction,
    parts,
)
from casebook.exercises.grading import student_seed

_GIVEN = {draw.__name__: draw for draw in (changes, cancelled, trial, lottery, groups, history)}
_GIVEN |= {name: lambda seed, name=name: plan(seed)[name] for name in ("base", "arm")}
exercise = Exercise(CHAPTER, SEED, _GIVEN)


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return exercise.given[name](student_seed(SEED))


COUNT = Number(1e-6, unrounded=False)
#: What the questions' code needs of the exercise's data, in the reader's notebook too.
_FROM = "from casebook.cases.subscription_churn.exercise_data import "

q1 = exercise.asked(
    1,
    "`known` and `leaked`, two numbers of subscribers, and `too_good`, a difference of two shares",
    setup=f"""{_FROM}NIGHT, WINDOW
def within(by, table=changes):
    return table[(table[by] > NIGHT - WINDOW) & (table[by] <= NIGHT)]
def who(rows):
    return set(rows["subscriber"])
recorded, booked = who(within("recorded")), who(within("booked"))
def share(group):
    return len(group & cancelled) / len(group)
def of_rows(by):
    return within(by)["subscriber"].isin(cancelled).mean()
day, in_time = changes["recorded"], changes.sort_values("recorded")
""",
    parts=parts(
        """
known = len(recorded)
changes.query('56 < recorded <= 140').drop_duplicates('subscriber').shape[0]
  {value:g} is not the number of subscribers with a downgrade recorded on days 57 to 140.
len(booked)
  Downgrades made after the night are backdated to it. What did the table say on the night?
len(within('recorded'))
  These are rows. Some subscribers downgraded twice: count each once.
len(who(within('recorded', in_time.drop_duplicates('subscriber'))))
  A first downgrade may be too old and a second one count: take the window before you drop rows.
len(who(within('recorded', in_time.drop_duplicates('subscriber', keep='last'))))
  A last downgrade may come after the night: take the window before you drop rows.
len(who(changes[(day > NIGHT - WINDOW) & (day < NIGHT)]))
  What is recorded on day {NIGHT} is known on that night: the last day counts.
len(who(changes[(day >= NIGHT - WINDOW) & (day <= NIGHT)]))
len(who(changes[(day >= NIGHT - WINDOW) & (day < NIGHT)]))
  Day {NIGHT - WINDOW} does not count and day {NIGHT} does: the window begins after the one.
len(who(changes[day <= NIGHT]))
  All that was ever recorded: the feature looks back {WINDOW} days.

leaked = len(booked - recorded)
sum(one not in recorded for one in booked)
  {value:g} is not the number of subscribers counted by the booked and not by the recorded day.
len(booked) - len(recorded)
  This hides {len(recorded - booked)} who count by the recorded day alone. Compare the two sets.
len(recorded - booked)
  The other way round: these are counted by the recorded day only.
len(who(changes[day > NIGHT]))
  Some of these had an earlier downgrade that was known. For them the feature is right either way.
len(booked ^ recorded)
  This counts both directions. Asked for are those who are counted by the booked day only.

too_good = share(booked) - share(recorded)
np.mean([s in cancelled for s in booked]) - share(recorded)
  {value:.4g} is not the share that cancels by the booked day, less the share by the recorded day.
share(recorded) - share(booked)
  The other way round: how much better does the leaky feature look?
100 * (share(booked) - share(recorded))
  This is in points. Give the difference of the shares.
of_rows('booked') - of_rows('recorded')
  These are shares of rows. Some subscribers have two rows: count each once.
len(booked & cancelled) / len(cancelled) - len(recorded & cancelled) / len(cancelled)
  This is the share of the leavers that is found. Asked for is the share of those found that leaves.
share(booked - recorded) - share(recorded)
  This takes the leaked ones alone. The feature cannot tell them apart: take all by the booked day.
""",
        known=COUNT,
        leaked=COUNT,
    ),
    prediction=Prediction(
        "guess_1",
        ("more", "fewer"),
        "'more' if share(booked - recorded) > share(recorded) else 'fewer'",
        "Of the leaked ones {share(booked - recorded):.0%} cancel, of the known ones "
        "{share(recorded):.0%}: the last step before the end is a downgrade.",
    ),
    shows="The leaky feature counts {leaked:g} subscribers too early and looks better by "
    "{100 * too_good:.0f} points, which no night will ever see. (It also misses "
    "{len(recorded - booked)} whose booked day lies before the window.)",
    hints=(
        "Which of the two days tells you when a row came into the table?",
        "Make two sets of subscribers, one for each column, over the same window.",
        "`known` is the size of the set by `recorded`; `leaked` that of `booked` minus it; a share "
        "is the part of a set that is in `cancelled`.",
    ),
)

q2 = exercise.asked(
    2,
    "`first_eight`, a number, `curve`, sixteen numbers, and `stop`, a number of subscribers",
    setup=f"""{_FROM}in_order, readings
rows = trial.sort_values("score", ascending=False)
t = rows["drawn"].to_numpy()
wrong = readings(trial)
whole = wrong["right"]
""",
    parts=parts(
        """
first_eight = whole[7]
[*whole][7]
  {value:.4g} is not Q(8). Of the first eight {t[:8].sum()} were drawn: scale both arms to this.
wrong['plain'][7]
  The arms differ in size. Bring the cancellations of those not drawn to the number of the drawn.
-whole[7]
  The sign is reversed: cancellations that the calls *prevented*.
wrong['ascending'][7]
  These are the eight with the lowest scores.
wrong['unsorted'][7]
  Sort by the score first: the rows of `trial` are in no order.
whole[8]
  This is Q(9): Python counts from 0, so Q(8) has the index 7.
wrong['gains'][7] / 8
  This is a difference of shares. The curve counts subscribers: multiply by the number drawn.
wrong['gains'][7]
  This is scaled to all eight, as in the gains curve. Radcliffe's curve is scaled to those drawn.
wrong['control'][7]
  This is scaled to those not drawn. Radcliffe's curve is scaled to those drawn.

curve = whole
pd.Series(whole)
[in_order(rows[:k])[-1] for k in range(1, 17)]
  After all sixteen your curve is at {value[-1]:.3g}, after eight at {value[7]:.3g}. Take
  cumulative counts; 0 while nobody is in the control arm.
wrong['plain']
  The arms are not brought to one size: n_t / n_c changes from row to row.
wrong['one ratio']
  The ratio of the arms is that of all sixteen here. Take the ratio among the first k at each k.
-whole
  The sign is reversed: cancellations that the calls *prevented*.
wrong['ascending']
wrong['unsorted']
  Sort by the score first, the highest on top: the rows of `trial` are in no order.
wrong['gains']
wrong['control']
  This is scaled to all, or to those not drawn. Radcliffe's curve is scaled to those drawn.
pd.Series(whole, rows.index).loc[trial.index]
  The values stand beside their rows of `trial`. Give them in the order of the scores.

stop = int(np.argmax(curve)) + 1
pd.Series(whole).idxmax() + 1
  The curve has its maximum elsewhere: after {value:g} subscribers it is below the top.
int(np.argmax(curve))
  Python counts from 0: row k has the index k − 1.
16
  After all sixteen the curve has fallen again: sleeping dogs.
""",
        curve=Numbers((16,)),
        stop=COUNT,
    ),
    shows="The curve rises to {max(whole):.1f} after {stop:g} subscribers and ends at "
    "{whole[-1]:.1f}: who stops earlier prevents more.",
    hints=(
        "Sort by the score. Among the first k: how many are in each arm, and how many cancelled?",
        "Q(k) = cancelled of those not drawn × drawn / not drawn − cancelled of those drawn.",
        "Use `np.cumsum` of `drawn`, `~drawn`, `cancelled & drawn` and `cancelled & ~drawn`.",
    ),
)

q3 = exercise.asked(
    3,
    "`prevented`, a number of cancellations, `naive`, the same, and `normalised`, the same",
    setup="""
own = lottery[lottery["listed"]]
y, t, e = own["cancelled"].to_numpy(float), own["drawn"].to_numpy(), own["chance"].to_numpy()
def loss(weights, arm):  # of the whole list
    return (weights * y)[arm].sum()
right_ips = loss(1 / (1 - e), ~t) - loss(1 / e, t)
chance, drawn = lottery["chance"], lottery["drawn"]
everybody = (lottery["cancelled"] * (~drawn / (1 - chance) - drawn / chance)).sum()
def apart(y, t):
    return y[~t].mean() - y[t].mean()
within = sum((e == c).sum() * apart(y[e == c], t[e == c]) for c in set(e))
means = [np.average(y[~t], weights=1 / (1 - e[~t])), np.average(y[t], weights=1 / e[t])]
""",
    parts=parts("""
prevented = right_ips
(y * np.where(t, -1 / e, 1 / (1 - e))).sum()
  {value:.4g} is not it. Each cancellation counts by one over the chance of what happened.
loss(1 / e, ~t) - loss(1 / e, t)
  Those not drawn have the chance 1 − chance of what happened to them.
loss(1 - e, ~t) - loss(e, t)
  Divide by the chance: a row that was unlikely stands for many.
loss(1 / (1 - e), ~t)
-loss(1 / e, t)
  This is one arm. Subtract the cancellations with calls from those without.
-right_ips
  The sign is reversed: prevented is the loss without calls minus the loss with them.
right_ips / len(own)
  This is for one subscriber of the list. Give the number for the whole list.
everybody
  This is the value of calling all {len(lottery)}. The list has {len(own)}.
within
  Compared within each chance: another right estimate of the same effect. Asked for are weights.
len(own) * apart(y, t)
  Without weights the drawn are mostly risky, the others mostly not: that is the naive answer.

naive = len(own) * apart(y, t)
len(own) * -np.diff(own.groupby('drawn')['cancelled'].mean())[0]
  {value:.4g} is not the difference of the two plain shares times {len(own)}.
-len(own) * apart(y, t)
  The other way round: prevented is the share of those not drawn less that of the drawn.
apart(y, t)
  This is the difference of the shares: multiply by the length of the list.
len(lottery) * apart(y, t)
len(lottery) * apart(lottery['cancelled'], lottery['drawn'])
len(own) * apart(lottery['cancelled'], lottery['drawn'])
  Only the list counts: its shares, and its length, {len(own)}.
y[~t].sum() - y[t].sum()
  These are numbers of two groups of different size. Compare the shares first.

normalised = len(own) * (means[0] - means[1])
len(own) * means[0] - len(own) * loss(1 / e, t) / (1 / e)[t].sum()
  {value:.4g} is not the difference of the weighted means of both arms times {len(own)}.
right_ips
  Here each arm's weights are divided by their own sum; only its expectation is {len(own)}.
len(own) * (means[1] - means[0])
  The other way round: the mean of those not drawn less that of the drawn.
means[0] - means[1]
len(lottery) * (means[0] - means[1])
  Multiply by the length of the list, {len(own)}.
"""),
    prediction=Prediction(
        "guess_3",
        ("more", "less"),
        "'more' if naive > prevented else 'less'",
        "Plain shares say {naive:.1f}, weights {prevented:.1f}: half of the risky and a tenth of "
        "the others were drawn, so the drawn cancel more whatever a call does.",
    ),
    shows="The list of {len(own)} would have prevented {prevented:.1f} cancellations, "
    "{normalised:.1f} with normalised weights; plain shares say {naive:.1f}.",
    hints=(
        "What was the chance of what happened to each row of the list: drawn, or not drawn?",
        "A drawn row stands for 1 / chance rows, another one for 1 / (1 − chance).",
        "Weighted cancellations of those not drawn, minus those of the drawn. To normalise, divide "
        "each by the sum of its weights and multiply by the length of the list.",
    ),
)

q4 = exercise.asked(
    4,
    "`smallest`, a difference of shares, and `needed`, subscribers in each arm",
    setup="""
from scipy.stats import norm
z = norm.ppf(0.975) + norm.ppf(0.8)
def seen(n, factor=z):
    return factor * np.sqrt(2 * base * (1 - base) / n)
def size(difference, factor=z):
    return 2 * base * (1 - base) * (factor / difference) ** 2
""",
    parts=parts(
        """
smallest = seen(arm)
(1.959964 + 0.841621) * (2 * base * (1 - base) / arm) ** 0.5
  {value:.4g} is none of the usual mix-ups. How large is a standard error? How many are needed?
seen(arm, norm.ppf(0.975))
  With 1.96 alone half of all trials find it: power 80 % needs another 0.84 standard errors.
seen(arm, norm.ppf(0.95) + norm.ppf(0.8))
  This is a one-sided test. A call can do harm: test both sides.
100 * seen(arm)
  This is in points. Give the difference of the shares.
z * np.sqrt(base * (1 - base) / arm)
  This is the error of one arm. The difference has that of both: twice the variance.
seen(arm / 2)
  The 2 belongs under the root, and there are {arm:,} in *each* arm, not in both together.
seen(arm) / base
  This is relative to the base share. Give the difference itself.
0.01
  One point is the common answer, and it is what has to be checked.

needed = size(0.01)
np.ceil(size(0.01))
arm * (smallest / 0.01) ** 2
  {value:,.0f} in each arm find {100 * seen(abs(value)):.2f} points.
2 * size(0.01)
  This is for both arms together.
size(0.01) / 2
  The variance of both arms counts: twice p (1 − p).
arm * smallest / 0.01
  Half the difference needs four times as many: the number grows with the square.
size(0.01, norm.ppf(0.975))
  With 1.96 alone the power is one half.
""",
        needed=Number(0.003, unrounded=False),
    ),
    prediction=Prediction(
        "guess_4",
        ("yes", "no"),
        "'yes' if seen(arm) <= 0.01 else 'no'",
        "{arm:,} in each arm find a change of {100 * smallest:.2f} points with power 80 %.",
    ),
    shows="{arm:,} in each arm find {100 * smallest:.2f} points; one point needs {needed:,.0f}.",
    hints=(
        "The difference of two shares has the variance 2 p (1 − p) / n.",
        "For power 80 % at 5 %, two-sided, the difference is 1.96 + 0.84 standard errors.",
        "smallest = 2.80 √(2 p (1 − p) / n); solve it for n.",
    ),
)

q5 = exercise.asked(
    5,
    "`calls`, a number for each group, `euro`, a number, and `by_risk`, a number",
    setup=f"""{_FROM}CALLS, COST, called_first
worth = groups["effect"] * groups["value"] - COST
def brings(calls):
    return float((calls * worth).sum())
risk, at_stake = groups["risk"], groups["risk"] * groups["value"]
""",
    parts=parts(
        """
calls = called_first(groups, worth)
called_first(groups, worth + COST).astype(int)
  You make {int(value.sum()):,} calls that bring {brings(value):,.0f} euro; more is possible. Fill
  the {CALLS:,} calls by euro a call.
called_first(groups, risk)
  These calls go to those who leave most. Which calls change something?
called_first(groups, at_stake)
  This is what is at stake, and not what a call saves of it.
called_first(groups, groups['effect'])
  The largest effect first: a saved subscriber of one group is worth more than of another.
called_first(groups, worth * groups['size'])
  This sorts by the total of a group. Calls are scarce: sort by euro a call.
groups['size'] * (worth > 0)
  when: value.sum() > CALLS
  These are {int(value.sum()):,} calls; there are {CALLS:,}.

euro = brings(calls)
np.dot(calls, groups.effect * groups.value) - COST * calls.sum()
  {value:,.0f} is not the sum of effect × value − cost over your calls.
brings(calls) + COST * calls.sum()
  The calls have a price: {COST:g} euro each.
float((calls * groups['effect']).sum())
  This is the number of cancellations prevented.
float((calls * at_stake).sum() - COST * calls.sum())
  This would be right if every call saved whoever would leave.

by_risk = brings(called_first(groups, risk))
(called_first(groups, risk) * worth).sum()
  {value:,.0f} is not what {CALLS:,} calls, the highest risk first, bring by their effect.
brings(called_first(groups, at_stake))
  This list sorts by risk × value. Asked for is the one by risk alone.
brings(called_first(groups, risk)) + COST * CALLS
  The calls have a price here too.
brings(called_first(groups[worth > 0], risk[worth > 0]).reindex(groups.index, fill_value=0))
  This leaves out groups in which a call loses. A list by risk does not know which these are.
""",
        calls=Column(0.0005),
    ),
    prediction=Prediction(
        "guess_5",
        ("yes", "no"),
        "'yes' if worth[risk.idxmax()] > 0 else 'no'",
        "{risk.idxmax()} has the highest risk: a call brings {worth[risk.idxmax()]:+.0f} euro.",
    ),
    shows="The same {CALLS:,} calls bring {euro:,.0f} euro by effect and {by_risk:,.0f} by risk.",
    hints=(
        "What does one call in each group bring, less what it costs?",
        "Sort the groups by that number and fill them one after the other until no call is left.",
        "`worth = groups['effect'] * groups['value'] - 32`; the last group is called in part. For "
        "`by_risk`, sort by `risk` and count the same `worth`.",
    ),
)

q6 = exercise.asked(
    6,
    "`usable`, a set of names of groups, and `labels`, a function",
    setup=f"""{_FROM}MONTH, differs, learn as of_month
over = ["called, month over", "not called, month over", "held out, month over"]
names = [*over, "not called, month open"]
probes = [(history, 140), (history, 141), (history[::2], 168)]
def left(rows, today):
    return rows.loc[of_month(rows, today).index, "left"]
""",
    parts=parts(
        """
usable = {'not called, month over', 'held out, month over'}
['held out, month over', 'not called, month over']
  For the chance to cancel *without* a call you need rows without a call whose outcome is known.
set(names) - {'not called, month open'}
  when: 'called, month over' in value
  Calls have saved some of the called: they look safe, and the next model drops them.
set(names) - {'called, month over'}
  when: 'not called, month open' in value
  While the month is open, who will leave yet counts as staying.
{'not called, month over'}
  The held-out are the best rows of all: high on the list, and left in peace.
{'held out, month over'}
  These alone are a fair sample of the *list*. For everybody's risk the other uncalled count too.

labels = of_month
lambda rows, today: of_month(rows, today).astype('boolean')[::-1]
lambda rows, today: rows[~rows.called & (today - rows.night >= MONTH)].eval('0 < left - night < 29')
  {differs(value, right)}
lambda rows, today: of_month(rows.assign(called=False), today)
lambda rows, today: of_month(rows.assign(called=~rows['called']), today)
  The called are still among your rows.
lambda rows, today: of_month(rows, today + 999)
  Rows are among yours whose month is not over: a month of the night N is over on day N + {MONTH}.
lambda rows, today: of_month(rows, today - 1)
  A month is over on day N + {MONTH}, not a day later.
lambda rows, today: of_month(rows, today).reindex(rows.index, fill_value=False)
  These are labels for all rows. Return the usable ones alone: the others teach nothing.
lambda rows, today: of_month(rows, today).reset_index(drop=True)
  The labels have lost their rows: keep the index of `rows`.
lambda rows, today: of_month(history, today)
  Your function looks at `history`, and not at the `rows` that it is given.
lambda rows, today: left(rows, today).notna()
lambda rows, today: left(rows, today) <= today
  Whoever leaves later than {MONTH} days after the night has stayed in this month.
lambda rows, today: left(rows, today).isna() | of_month(rows, today)
  Where `left` is empty, nobody has left.
lambda rows, today: ~of_month(rows, today)
  The labels are reversed: true is for those who left.
lambda rows, today: of_month(rows.assign(left=rows.eval('left + (left == night + 28)')), today)
  The last day of the month, N + {MONTH}, belongs to it.
""",
        usable=Labels("names"),
        labels=Function("probes", returns=Column(exact=True)),
    ),
    shows="A model of the risk learns from whoever was left in peace, four weeks later.",
    hints=(
        "The model is to say who cancels if nobody calls. Which rows show that?",
        "A row: no call, and its 28 days are over. A label: the day of leaving is one of them.",
        "`rows = rows[~rows['called'] & (rows['night'] + 28 <= today)]`, then compare `left` "
        "with `night` and `night + 28`.",
    ),
    helps=("usable", "labels", "labels"),
)
