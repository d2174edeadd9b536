"""Questions of exercise 03: the ratio, hidden demand, spoilage, two promotions, days, overrides."""

from __future__ import annotations

from casebook.cases.inventory_demand.demand import CHAPTER, SEED
from casebook.cases.inventory_demand.exercise_data import GIVEN, given
from casebook.exercises.asked import Column, Exercise, Labels, Number, Prediction, Word, parts

__all__ = ["exercise", "given", "q1", "q2", "q3", "q4", "q5", "q6"]

exercise = Exercise(CHAPTER, SEED, given=GIVEN)

q1 = exercise.asked(
    1,
    "`ratio`, a number between 0 and 1, `order`, a number of units, and `extra`, euro a day",
    setup="""
def bill(units):
    return np.maximum(SHORT * (demand - units), OVER * (units - demand)).mean()
def at(level):
    return np.quantile(demand, level, method="inverted_cdf")
""",
    parts=parts(
        """
ratio = SHORT / (SHORT + OVER)
1 / (1 + OVER / SHORT)
1 - OVER / (SHORT + OVER)
  {value:.3g} is not the share of days on which one more unit is worth ordering up to. It saves
  {SHORT:g} euro when it is wanted, and costs {OVER:g} when it is not.
5 / 6
0.83
  .83 is the ratio of 5 to 1. A unit too many costs {OVER:g} euro here.
OVER / (SHORT + OVER)
  The two costs are the wrong way round: this is the share of days that may run out.
OVER / SHORT
  This compares the two costs with each other. The share has both in the denominator.
0.95
  P95 is a habit. It would be right if a unit too many cost 26 cents.
order = at(ratio)
np.sort(demand)[int(np.ceil(ratio * len(demand))) - 1]
min(np.arange(200), key=bill)
round(np.quantile(demand, ratio))
  when: bill(value) <= bill(at(SHORT / (SHORT + OVER))) * (1 + 1e-9)
  {value:.4g} units suffice on {(demand <= value).mean():.0%} of the days and cost {bill(value):.2f}
  euro a day; another order costs less.
demand.mean()
round(demand.mean())
  The mean minimises squared errors. You pay for each unit, and not the same in both directions.
np.median(demand)
  The median would be right if both mistakes cost the same.
at(5 / 6)
  This is the order at .83: right for costs of 5 to 1, and these are 5 to 2.
at(0.95)
  This is the order at P95. It runs out one day in twenty, and throws away more than that saves.
at(1 - ratio)
  This order runs out on most days: the two costs are the wrong way round.
extra = bill(at(0.95)) - bill(order)
np.mean([max(SHORT * (d - at(.95)), OVER * (at(.95) - d)) for d in demand]) - bill(order)
bill(np.sort(demand)[int(np.ceil(0.95 * len(demand))) - 1]) - bill(at(ratio))
  {value:.4g} is not the difference of the two means. Bill each day at both orders.
bill(at(0.95))
  This is the bill of P95 itself. How much more is it than that of your order?
(bill(at(0.95)) - bill(order)) * len(demand)
  This is the sum over {len(demand)} days; the question asks for euro a day.
OVER * (at(0.95) - order)
  You counted each extra unit as thrown away. On some days it is sold, and saves {SHORT:g} euro.
bill(order) - bill(at(0.95))
  The sign: P95 is the more expensive order.
""",
        ratio=Number(0.007),
        extra=Number(0.01),
    ),
    prediction=Prediction(
        "guess_1",
        ("the mean", "P95"),
        "'the mean' if bill(demand.mean()) < bill(at(0.95)) else 'P95'",
        "The mean costs {bill(demand.mean()):.2f} euro a day, P95 {bill(at(0.95)):.2f}.",
    ),
    shows="{order:.0f} loaves suffice on five days of seven and cost {bill(order):.2f} euro a day; "
    "P95 costs {extra:.2f} more.",
    hints=(
        "What does one more unit save when it is wanted, and what does it cost when it is not? At "
        "which share of sufficient days do the two balance?",
        "Sort `demand` and find the smallest order that suffices on that share of the days.",
        "A day's bill is `np.maximum(SHORT * (demand - units), OVER * (units - demand))`; take its "
        "mean for each of the two orders.",
    ),
    helps=("ratio", "order", "extra"),
)

q2 = exercise.asked(
    2,
    "`silent`, a set of days in quotes, `beyond`, a share, and `suffices`, a number of units",
    setup="""
out, tells = shelf['sold'] == shelf['stock'], shelf['stock'] > 0
seen, c = shelf['sold'][tells], out[tells]
x = seen[~c].sort_values().iloc[3]
def curve(sold, cut, late=False):
    left, found = 1.0, {}
    for t in np.unique(sold[~cut]):
        risk = (sold > t) | ((sold == t) & (~cut | (not late)))
        left *= 1 - ((sold == t) & ~cut).sum() / risk.sum()
        found[t] = left
    return pd.Series(found)
def enough(survival):
    return survival.index[survival <= 2 / 7 + 1e-9][0]
def plain(sold):
    return np.quantile(sold, 5 / 7, method='inverted_cdf')
km = curve(seen, c)
""",
    parts=parts(
        """
silent = set(shelf.index[shelf['stock'] == 0])
list(shelf.index[~tells])
shelf.index[(shelf['sold'] == 0) & (shelf['stock'] == 0)].to_numpy()
  {names(value)}: which days would look the same whatever had been wanted?
set(shelf.index[out])
  when: value == set(shelf.index[out])
  All these days sold out. Most of them say *at least so many*, and that is something.
set(shelf.index[out & tells])
  These days say that demand was at least what was sold. One day does not even say that.
beyond = km[x]
curve(seen.astype(float), c).loc[x]
np.prod([1 - ((seen == t) & ~c).sum() / (seen >= t).sum() for t in np.unique(seen[~c]) if t <= x])
  {value:.4g} is not the share that wants more than {x:.0f}. At each known demand up to there,
  divide the known days with that demand by all days that had at least so much on the shelf's side.
(seen > x).mean()
  This takes what was sold for what was wanted. Days that sold out below {x:.0f} may have wanted
  more.
(seen[~c] > x).mean()
  You dropped the days that sold out. They are the days of high demand.
((seen > x) | c).mean()
  You counted every day that sold out as one that wanted more than {x:.0f}. Some may not have.
curve(seen, c, late=True)[x]
  A day that sold out with exactly so many units wanted *at least* so many: it is still at risk
  when the known days of that number are counted.
curve(shelf['sold'], out & tells)[x]
  The day whose shelf was empty in the morning counts as one that wanted nothing. It tells nothing.
1 - km[x]
  This is the share that wants {x:.0f} or fewer. The question asks for more than that.
suffices = enough(km)
km[km <= 2 / 7].index.min()
seen[~c].sort_values()[lambda s: s.map(km).to_numpy() <= 2 / 7 + 1e-9].iloc[0]
  With {value:.4g} units, does the curve leave no more than two days of seven that want more?
plain(seen)
plain(seen[~c])
  This is the quantile of what was sold (or of the days that did not sell out). Read it from the
  curve: the smallest number beyond which two of seven, or fewer, remain.
enough(1 - km[::-1])
  This suffices on two days of seven. The ratio asks for five.
""",
        silent=Labels("shelf.index"),
        beyond=Number(0.01),
    ),
    shows="One day says nothing, four say “at least”. {beyond:.0%} of the days want more than "
    "{x:.0f}; by what was sold one would say {(seen > x).mean():.0%}. So the order is "
    "{suffices:.0f}, and not {plain(seen):.0f}.",
    hints=(
        "A shelf that is empty in the morning sells nothing, whatever is wanted.",
        "Go through the known demands from the smallest. At each, a share of the days that are "
        "*still in* (known or sold out with at least so many units) has its demand there.",
        "Multiply 1 − known days there / days still in. The order is the first demand at which "
        "the product is 2/7 or less.",
    ),
    helps=("silent", "beyond", "suffices"),
)

q3 = exercise.asked(
    3,
    "`over_95`, euro a unit, `spoils`, a share, and `short_83`, euro a unit",
    setup="""
short, waste, keep = prices['short'], prices['waste'], prices['keep']
""",
    parts=parts(
        """
over_95 = short * 0.05 / 0.95
short / 19
short / 0.95 - short
  With {value:.4g} euro for a unit too many the ratio is {short / (short + value):.3f}. For which
  cost is it .95?
short * 0.05
  Nearly: {short:g} / ({short:g} + {value:.3g}) is {short / (short + value):.3f}. The cost that you
  look for is in the denominator, too.
waste * 0.05 / 0.95
  You took the price of a unit thrown away. The ratio compares with a unit that is *missing*.
short * 0.95 / 0.05
  Upside down: this would make the ratio .05.
100 * short / 19
  This is in cents. The question asks for euro.
spoils = (over_95 - keep) / (waste - keep)
1 - (waste - over_95) / (waste - keep)
np.interp(over_95, [keep, waste], [0, 1])
  If {value:.1%} of the leftovers are thrown away, one of them costs
  {value * waste + (1 - value) * keep:.3f} euro on average, and P95 needs {over_95:.3f}.
over_95 / waste
  You left out what the others cost: a unit that is kept costs {keep:g} euro.
(over_95 - keep) / waste
  Each unit that is thrown away is *not* kept: the difference of the two prices counts.
1 - (over_95 - keep) / (waste - keep)
  This is the share that may be kept. The question asks for the share thrown away.
short_83 = waste * 0.83 / 0.17
waste / 0.17 - waste
waste * 0.83 / (1 - 0.83)
  With {value:.4g} euro for a unit short the ratio is {value / (value + waste):.3f}, not .83.
waste * 5
5 * waste
  Five times the waste gives 5/6 = .8333. The question asks for .83: take it as it is written.
short * 0.83 / 0.17
  You started from a unit short. What is fixed here is the price of a unit thrown away.
waste * 0.17 / 0.83
  Upside down: this is what would make the ratio .17.
""",
        spoils=Number(0.007),
    ),
    shows="P95 is right where no more than {spoils:.1%} of the leftovers spoil; .83 is right where "
    "a unit short costs {short_83:.2f} euro and not {short:g}. Each level is a statement about "
    "prices.",
    hints=(
        "Write the ratio with the unknown price in it, set it equal to .95, and solve.",
        "A unit too many costs `prices['waste']` with the share you look for, and `prices['keep']` "
        "with the rest.",
        "The same equation with .83, and the other price unknown.",
    ),
    helps=("over_95", "spoils", "short_83"),
)

q4 = exercise.asked(
    4,
    "`multiply`, `larger` and `capped`, euro each, and `cheapest`, one of these names in quotes",
    setup="""
ratio = promoted['units'] / promoted['usual']
alone = ratio.groupby(promoted['promotion']).mean()
two = promoted[promoted['promotion'] == 'both']
past = promoted[promoted['promotion'] != 'both']
def bill(factor):
    gap = two['units'] - factor * two['usual']
    return np.maximum(SHORT * gap, -OVER * gap).sum()
product = alone['discount'] * alone['coupon']
most = ratio[promoted['promotion'] != 'both'].max()
names_of = {'multiply': product, 'larger': max(alone['discount'], alone['coupon']), 'capped': most}
added = alone['discount'] + alone['coupon'] - 1
""",
    parts=parts(
        """
multiply = bill(product)
sum(max(SHORT * g, -OVER * g) for g in two['units'] - product * two['usual'])
bill(np.exp(np.log(alone['discount']) + np.log(alone['coupon'])))
  {value:.4g} euro is not the bill of the product of both factors over the ten weeks.
bill(added)
  You added the two effects. Multiply the two factors.
bill(product) / len(two)
  This is the bill of a week; the question asks for all ten.
bill(product) / two['units'].sum()
  This is the bill of a unit; the question asks for euro over the ten weeks.
bill(alone['both'])
  You used the weeks with both promotions. Before they came, nobody knew their factor.
larger = bill(max(alone['discount'], alone['coupon']))
bill(alone[['discount', 'coupon']].max())
bill(alone['discount'])
  {value:.4g} euro is not the bill of the larger of both factors over the ten weeks.
bill(alone['coupon'])
  This is the smaller of the two.
bill(alone[['discount', 'coupon']].mean())
  This is the mean of the two. Take the larger one.
bill(1.0)
  This orders the usual units, as if there were no promotion.
capped = bill(min(product, most))
bill(most) if most < product else bill(product)
bill(np.minimum(product, (past['units'] / past['usual']).max()))
  {value:.4g} euro is not the bill with the cap. The cap is the largest factor of any past week.
bill(min(product, ratio.max()))
  Your cap has seen the ten weeks that are judged. Take the largest factor before them.
bill(min(product, ratio[promoted['promotion'] == 'coupon'].max()))
  This cap is the largest factor of a *coupon* week. Take the largest of all past weeks.
cheapest = min(names_of, key=lambda name: bill(names_of[name]))
min({'multiply': multiply, 'larger': larger, 'capped': capped}.items(), key=lambda i: i[1])[0]
'capped' if capped < min(multiply, larger) else 'multiply' if multiply < larger else 'larger'
  Compare your three bills.
max(names_of, key=lambda name: bill(names_of[name]))
  This one costs most.
""",
        multiply=Number(0.012),
        larger=Number(0.012),
        capped=Number(0.012),
        cheapest=Word(("multiply", "larger", "capped")),
    ),
    prediction=Prediction(
        "guess_4",
        ("too much", "too little"),
        "'too much' if product > alone['both'] else 'too little'",
        "Multiplying says {product:.2f} times the usual, and {alone['both']:.2f} came: part of one "
        "effect is lost beside the other.",
    ),
    shows="Multiplying costs {multiply:.0f} euro, the larger effect alone {larger:.0f}, the "
    "largest factor ever seen {capped:.0f}: `{cheapest}` costs least. Nothing of the past says how "
    "the two overlap; a cap limits the mistake.",
    hints=(
        "The factor of a promotion is the mean of units over usual in its weeks. Leave out the "
        "weeks that have both.",
        "A week's bill is 5 euro for each unit short or 2 for each unit over. Orders need not be "
        "whole.",
        "The cap is the largest units / usual of any week with *one* promotion; it replaces the "
        "product if that is larger.",
    ),
)

q5 = exercise.asked(
    5,
    "`first` and `last`, numbers of days, `usable` and `to_order`, units of each product",
    setup="""
lead, cycle = timetable['lead'], timetable['cycle']
before, target = lead * needs.loc['sold_a_day'], needs.loc['target']
lasts, expires = stock[stock.index > lead].sum(), stock[stock.index <= lead].sum()
def left(last):
    old = stock[stock.index <= last].sum()
    return (stock[stock.index > last].sum() - (before - old).clip(lower=0)).clip(lower=0)
""",
    parts=parts(
        """
first = lead + 1
min(range(lead + 1, lead + cycle + 1))
np.arange(lead + 1, lead + cycle + 1)[0]
  Goods come {lead} days after the run, when the store has closed. On which day are they sold first?
1
  Tomorrow is sold from the stock that is there. What you order comes {lead} days later.
lead
  On that day the goods come after closing: their first day of sale is the next one.
last = lead + cycle
first + cycle - 1
np.arange(lead + 1, lead + cycle + 1).max()
  The next delivery comes {cycle} days after this one, after closing. Until then these goods must
  last.
cycle
  This is the horizon that one sets by habit: a week. The week begins only after the delivery.
lead + cycle + 1
  One day too many: on that day the next delivery is there.
lead + cycle - 1
  One day too few: the next delivery comes *after closing*, so its day is still yours.
usable = left(lead)
np.maximum(lasts - np.maximum(before - expires, 0), 0)
np.minimum(lasts, (stock.sum() - before).clip(lower=0))
  {[float(f'{u:.4g}') for u in value]} units are not what is left. Sell for {lead} days, the
  oldest first, and throw away what has no day left.
lasts
  These units last long enough. But of the yoghurt more is sold before the window than expires, and
  that comes out of them.
stock.sum() - before
  Of the cream less is sold than expires: what has no day left is thrown away, not kept.
left(lead - 1)
  A unit with {lead} days left is sold for the last time on day {lead}, the evening on which the
  goods come. It does not reach the window.
stock.sum()
  Part of it is sold or thrown away before the window begins.
(lasts - before).clip(lower=0)
lasts - before
  Customers take the oldest units first: those that expire anyway serve them, too.
to_order = target - usable
(target - usable).clip(lower=0)
[t - u for t, u in zip(target, usable)]
  The window needs {target.to_list()} units; some will be there.
target
  You ordered the whole target: what will be left is missing in the sum.
target - stock.sum()
(target - stock.sum()).clip(lower=0)
  You subtracted all of today's stock. Part of it is sold or thrown away before the window.
""",
        usable=Column(),
        to_order=Column(),
    ),
    shows="The order is for the days {first:.0f} to {last:.0f}, so the run looks {last:.0f} days "
    "ahead. Of {stock.sum().to_list()} units {[int(u) for u in usable]} are left by then: it "
    "orders {[int(u) for u in to_order]}.",
    hints=(
        "Count from the evening of the run: tomorrow is day 1. The delivery comes after closing.",
        "The last day is that of the next delivery.",
        "`timetable['lead']` days are sold before the window. Units with at most so many days left "
        "serve them first, then the others. What has no day left and is not sold is thrown away.",
    ),
    helps=("first", "last", "usable"),
)

q6 = exercise.asked(
    6,
    "`exact`, a set of lines in quotes, and `saved`, `least` and `most`, euro each",
    setup="""
up, out = overrides['planner'] > overrides['model'], overrides['left'] == 0
def paid(wanted, units):
    return np.maximum(SHORT * (wanted - units), OVER * (units - wanted))
by_sales = paid(overrides['sold'], overrides['model']) - paid(overrides['sold'],
    overrides['planner'])
known = up | ~out
cut = overrides['model'] - overrides['planner']
worst = by_sales.where(known, -SHORT * cut)
""",
    parts=parts(
        """
exact = set(overrides.index[known])
list(overrides.index[~(out & ~up)])
overrides.index[(overrides['left'] > 0) | (overrides['planner'] > overrides['model'])]
  {names(value)}: for which lines does the saving not depend on what is hidden?
set(overrides.index[~out])
  when: value == set(overrides.index[~out])
  These did not sell out. But where the planner ordered *more* and even that sold out, both orders
  were too small: the saving is the difference, whatever was wanted.
set(overrides.index)
  when: value == set(overrides.index)
  Where the planner ordered less and it sold out, demand may have lain below the model's order or
  far above it.
set(overrides.index[out & ~up])
  These are the lines that cannot be billed exactly. The question asks for the others.
saved = by_sales[known].sum()
by_sales.loc[sorted(exact)].sum()
sum(by_sales[line] for line in exact)
  {value:.4g} euro: over these lines add what the model's order would have cost, less the planner's.
by_sales.sum()
  The lines that cannot be billed are in your sum, as if what was sold had been wanted.
by_sales[~out].sum()
  Only lines that did not sell out are in your sum.
-by_sales[known].sum()
  The sign: a saving is above 0 where the planner's order costs less than the model's.
by_sales[known].mean()
  This is the mean of a line; the question asks for the sum.
least = saved - SHORT * cut[~known].sum()
worst.sum()
saved + (-SHORT * (overrides['model'] - overrides['planner']))[~known].sum()
  {value:.4g} euro is not the worst case. Let many more have been wanted on the lines that are not
  exact.
saved
  The other lines are missing. At worst, each unit that the planner took away was wanted.
saved - OVER * cut[~known].sum()
  A unit that was wanted and missing costs {SHORT:g} euro, not {OVER:g}.
saved - (SHORT + OVER) * cut[~known].sum()
  Compare the two orders for a very large demand: the waste is 0 for both.
most = saved + OVER * cut[~known].sum()
by_sales.sum()
saved + by_sales[~known].sum()
  {value:.4g} euro is not the best case. Let nothing have been wanted beyond what was sold.
saved
  The other lines are missing. At best, each unit that the planner took away would have been waste.
saved + SHORT * cut[~known].sum()
  A unit that is not thrown away saves {OVER:g} euro, not {SHORT:g}.
""",
        exact=Labels("overrides.index"),
    ),
    shows="{len(exact)} of {len(overrides)} lines can be billed exactly: {saved:.0f} euro. With "
    "the others the planner saved something between {least:.0f} and {most:.0f}: taking sales for "
    "demand reports the *best* case.",
    hints=(
        "Take the four cases: ordered more or less, sold out or not. In which of them does the "
        "difference of the two bills change with the demand that was not seen?",
        "A line's bill is 5 euro for each unit short or 2 for each over; the saving is the model's "
        "bill less the planner's, with `sold` as what was wanted.",
        "For the lines left over: first let exactly `sold` have been wanted, then very much more.",
    ),
    helps=("exact", "saved", "least"),
)
