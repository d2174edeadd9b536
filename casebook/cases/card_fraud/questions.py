"""Questions of exercise 12: cut-offs, repaired odds, hold-back, a leak, friction, weeks, scale.

What they show is drawn in :mod:`casebook.cases.card_fraud.exercise_data`.
"""

from __future__ import annotations

from casebook.cases.card_fraud.exercise_data import LINES, LOAD, exercise
from casebook.cases.card_fraud.questions_of_evidence import q3, q4, q6  # noqa: F401
from casebook.exercises.asked import Column, Number, Prediction, Word, parts, written

q1 = exercise.asked(
    1,
    "`confirm_from` and `block_from`, two probabilities, and `call_amount`, euro",
    setup=LINES
    + """
(g, f), (_, lost) = line("confirm", payment), line("allow", payment)
grid = ("either it comes from a grid of probabilities, or a price was rounded on the way. "
    "Two straight lines meet at one point, which can be computed.")
""",
    parts=parts(
        """
confirm_from = meet('allow', 'confirm')
brentq(lambda p: p * lost - (1 - p) * g - p * f, 0, 1, xtol=1e-12)
1 / (1 + (lost - f) / g)
  At a probability of {value:.4g} and {payment:.0f} euro, to allow costs {value * lost:.3f} euro and
  to confirm {(1 - value) * g + value * f:.3f}. They should be equal.
g / (lost - f)
  This is the price of a needless question over what the question saves: those are *odds*. At a
  probability p you pay with 1 − p and save with p; solve for p.
g / (g + lost)
  This forgets what a confirmation lets through: of the loss only the part that it stops is saved.
g / lost
  This is the price of a needless question over the whole loss. A confirmation does not save all of
  it, and the ratio is one of odds, not a probability.
0.01
  This is the number of the textbook table, the same for every amount. Set what it costs to allow
  equal to what it costs to ask.
100 * right
  That is in per cent. A probability lies between 0 and 1.
right * 1.01
  when: abs(value / right - 1) < 0.03
  {value:.6g} is near, off by {abs(value - right):.1g}: {grid}

block_from = meet('confirm', 'block')
  A block does not begin to be the cheapest at {value:.4g}. Which answer is the cheapest just below?
meet('allow', 'block')
  This compares a block with letting the payment pass. By then a confirmation is cheaper than that:
  compare with the best of the others.
meet('call', 'block')
  Here a block gets cheaper than a *call*: you gave each answer its turn. Draw the four lines: at
  this probability, is a call the cheapest of the others?
meet('confirm', 'call')
  Here a call gets cheaper than a confirmation. Before that, a third answer is cheaper than both.
0.9
0.5
  This is a number from the textbook. A block of a genuine payment costs little here compared with a
  lost amount, so that it pays much earlier.
100 * right
  That is in per cent. A probability lies between 0 and 1.
right * 1.01
  when: abs(value / right - 1) < 0.03
  {value:.6g} is near, off by {abs(value - right):.1g}: {grid}

call_amount = call_from
  At {value:,.2f} euro a call has its turn, from a probability of
  {meet('confirm', 'call', value):.3f} to {meet('call', 'block', value):.3f}. You are asked for the
  amount at which this stretch begins.
np.inf
  form: isinstance(value, float) and value == np.inf
  A call is not the loser for ever: its price is fixed, and what a confirmation lets through grows
  with the amount, as does the margin that a block gives away. Try a thousand euro.
right + 3
  when: abs(value - right) < 8
  {value:.2f} is near, within {abs(value - right):.2g} euro: do not step through amounts, solve for
  the one at which three lines meet in one point.
right / 2
  when: 0 < value < right
  At {value:,.2f} euro a call still has no turn: it beats a confirmation from
  {meet('confirm', 'call', value):.3f} on, and by then a block, which beats a call from
  {meet('call', 'block', value):.3f} on, is cheaper.
""",
        **dict.fromkeys(("confirm_from", "block_from", "call_amount"), Number(1e-4)),
    ),
    prediction=Prediction(
        "all_in_turn",
        ("yes", "no"),
        "'yes' if call_amount <= payment else 'no'",
        "At {payment:.0f} euro the call's line lies above another one everywhere.",
    ),
    shows="At {payment:.0f} euro: confirm from {confirm_from:.4f}, block from {block_from:.3f}. "
    "From {call_amount:.2f} euro on a call is the cheapest for a stretch of probabilities.",
    hints=(
        "Put the payment into the table: each answer has two costs, and its expected cost is a "
        "straight line from the first (at probability 0) to the second (at 1). Draw the four.",
        "The cheapest answer is the lower edge of the drawing. Two lines with costs g₁, f₁ and g₂, "
        "f₂ meet at (g₂ − g₁) / (g₂ − g₁ + f₁ − f₂). Only corners of the lower edge count.",
        "A call has a turn where it passes the confirmation before the block passes it. Let the "
        "amount grow until the two points are equal, with `scipy.optimize.brentq`.",
    ),
)

#: The part that asks for one colleague's probabilities before resampling.
UNDONE = """
NAME = undo(MODEL, factor(MODEL))
MORE  The mean is {value.mean():.4f}, after {raw[MODEL].mean():.4f} before. Which factor
  lies between genuine rows for each fraud before and after, and to what is it applied?
raw[MODEL]
  These are the raw probabilities. Trained on other odds, a model tells others.
factor(MODEL) * raw[MODEL]
  The factor is right, but you multiplied the probability by it. A raw 1 would become
  {factor(MODEL):.3f}, however certain the model is. Multiply the odds p / (1 − p).
factor(MODEL) * raw[MODEL] / (1 - raw[MODEL])
  These are the repaired odds, up to {value.max():.3g}. Turn them into a probability again.
share['as it was'] / share[MODEL] * raw[MODEL]
  You scaled by the two shares of fraud, so that the mean fits. A raw 1 would come out as
  {share['as it was'] / share[MODEL]:.3f}. What resampling multiplies are the odds.
undo(MODEL, 1 / factor(MODEL))
  Turned round: resampling raised the odds of fraud, and you raised them again. They must come down.
undo(MODEL, factor(OTHER))
  This is the factor of the other colleague. The two did not resample alike.
undo(MODEL, factor(MODEL)).round(4)
  when: np.array_equal(value, value.round(5)) and abs(value - right).max() < 6e-4
  The values are right, but rounded too much: most probabilities are small. Give them unrounded.
undo(MODEL, share['as it was'] / share[MODEL])
  You divided shares of fraud. Odds are frauds for each *genuine* row, not for each row; where fraud
  is no longer rare the two differ.
"""

q2 = exercise.asked(
    2,
    "`repaired_under` and `repaired_smote`, a probability for each row of `raw`, and two words, "
    '`ap` and `asked`, such as "same"',
    setup="""
ratio, share = counts["genuine"] / counts["fraud"], counts["fraud"] / counts.sum(axis=1)
def factor(name):
    return ratio[name] / ratio["as it was"]
def undo(name, by):
    return by * raw[name] / (by * raw[name] + 1 - raw[name])
""",
    # `repaired_under`: the nominal 5 % is as good as the share that the draw gave.
    parts=parts(
        written(
            UNDONE,
            NAME="repaired_under",
            MORE="""\
1 / (1 + (1 / raw[MODEL] - 1) / 0.05)
undo(MODEL, 0.05)
  when: np.allclose(value, undo(MODEL, 0.05), rtol=3e-3, atol=0)
""",
            MODEL="'under-sampled'",
            OTHER="'SMOTE'",
        )
        + written(UNDONE, NAME="repaired_smote", MORE="", MODEL="'SMOTE'", OTHER="'under-sampled'")
        + """\
undo('SMOTE', 0.25)
  0.25 is the ratio *after* SMOTE. By how much the odds were raised depends on the ratio before,
  too: compare both rows of the table.

ap = 'same'
  Give one word.
'up'
'down'
  Average precision asks only which payment stands above which, and the repair is a rising function
  of the raw value: nobody changes places.

asked = 'fewer'
  Give one word.
'same'
  Decisions do not look at ranks: they compare a probability with a cut-off. From the raw one of the
  under-sampled model {friction_of(raw['under-sampled']):,} payments meet friction. Count again.
'more'
  The raw probabilities are too high, so the costs ask too often by them:
  {friction_of(raw['under-sampled']):,} payments. Down they come.
""",
        repaired_under=Column(),
        repaired_smote=Column(),
        ap=Word(("up", "same", "down")),
        asked=Word(("more", "same", "fewer")),
    ),
    shows="The ranks stay, and so does AP. By the same costs "
    "{friction_of(raw['under-sampled']):,} payments met friction by the raw probabilities of the "
    "under-sampled model, and {friction_of(repaired_under):,} do by the repaired ones.",
    hints=(
        "Take a spot where 1 of 201 payments is fraud: odds of 1 to 200. Of the genuine ones, one "
        "in twenty is kept. Which odds does the model see at that spot?",
        "Resampling multiplies the odds p / (1 − p) by one factor, the same everywhere: genuine "
        "rows for each fraud before, over those after. Divide by it, and turn odds into a "
        "probability again, odds / (1 + odds).",
        "With `ratio = counts['genuine'] / counts['fraud']` and "
        "`k = ratio['SMOTE'] / ratio['as it was']` it is `k * s / (k * s + 1 - s)`. It rises with "
        "`s`: what does that mean for ranks, and what for a fixed cut-off?",
    ),
)

q5 = exercise.asked(
    5,
    "`price`, euro, and `extra`, euro per thousand payments",
    setup="""
from functools import cache
fine, true = validation[~validation["fraud"]], validation["fraud"].astype(float)
def chosen(price, table=validation):
    return costs.tiers(table["p"], table["amount"], price=max(np.ravel(price)[0], 0))
def friction(price, table=fine):
    return float((chosen(price, table) != "allow").mean())
@cache
def lowest(name, genuine=True):
    table = {"validation": validation, "after": after}[name]
    table = table[~table["fraud"]] if genuine else table
    return costs.price_within(0.01, lambda price: chosen(price, table))
@cache
def weighed():  # as in the chapter, whose labels are late
    return costs.price_within(0.01, chosen, 1 - validation["p"])
def bill(price, p=validation["p"]):
    each, tier = costs.expected_costs(p, validation["amount"]), chosen(price)
    return 1000 * sum(each.loc[tier == t, t].sum() for t in each) / len(each)
def amounts(price):  # of those let go for the price, and of those still asked: medians
    still = chosen(price, fine) != "allow"
    let_go = (chosen(0, fine) != "allow") & ~still
    return [fine["amount"][rows].median() for rows in (let_go, still)]
""",
    # `price`: a step of a cent may let one or two more through, which is near enough.
    # `extra`: where the guardrail hardly binds, a price that is right by a cent moves this by more.
    parts=parts(
        """
price = lowest('validation')
costs.price_within(0.01, lambda price: chosen(price, fine))
right + 0.005
  when: friction(value) <= 0.01 and right - 1e-6 <= value <= right + 0.01
  At {distinct(value, right, digits=4)} euro {friction(value):.3%} of the genuine payments meet
  friction: within the guardrail, but it costs more than it need, {bill(value):.1f} expected euro a
  thousand payments; a lower price would do.
weighed()
  when: abs(value - weighed()) <= 0.01
  At {value:.4g} euro the guardrail holds if each payment is weighed by 1 − p, as in the chapter,
  where labels are late. Here they are in: count the payments whose `fraud` is false.
fine['p'].quantile(0.99)
validation['p'].quantile(0.99)
  {value:.4f} is a *probability*: the single threshold above which 1 % of the payments lie. It asks
  for a coffee as for a laptop. Give a price in euro, which the tiers weigh against the amount.
0.0
  Without a price the costs alone decide, and {friction(0):.2%} of the genuine payments meet
  friction: more than the guardrail allows.
lowest('after')
lowest('after', False)
  The test is in this price. It has not happened when the price is set, and a guardrail tuned on it
  holds by construction; on the validation weeks friction would be {friction(value):.2%}.
lowest('validation', False)
  At this price 1 % of *all* payments are asked, frauds among them. Stopping a fraud is no friction:
  of the genuine ones only {friction(value):.2%} are asked, so you pay for unused room.
-1.0
  when: value < 0
  A negative price rewards friction. The guardrail wants less of it, not more.
right / 2
right * (1 - 1e-3)
  when: friction(value) > 0.01
  At {distinct(value, right, digits=4)} euro {round(friction(value) * len(fine)):,} of the
  {len(fine):,} genuine payments meet friction, {friction(value):.4%}: above the guardrail.

extra = bill(price) - bill(0)
  when: abs(value / (bill(lowest('validation')) - bill(0)) - 1) <= 0.01
  {value:.4g}: take the expected cost of the chosen answers at this price, minus that at price 0,
  both at the model's probabilities, times 1,000.
right + 1000 * price * (chosen(price) != 'allow').mean()
  This has the price in it, as if somebody paid it. It is a shadow price: it changes which answer is
  chosen, and no bill. Take the costs of the chosen answers without it.
bill(price)
  This is the whole cost; the question is how much *more*.
right / 1000
  This is for one payment; give it for a thousand.
-right
  The sign is turned round: a guardrail that binds can only make the expected cost higher.
bill(price, true) - bill(0, true)
  This is by the truth of the two weeks. Take the expected cost, at the model's probabilities: a few
  frauds by chance would decide it otherwise.
""",
        price=Number(1e-7),
        extra=Number(0.01),
    ),
    prediction=Prediction(
        "first_let_go",
        ("small", "large"),
        "'small' if np.subtract(*amounts(price)) < 0 else 'large'",
        "The genuine payments that it lets go have a median of {amounts(price)[0]:.0f} euro, those "
        "that are still asked {amounts(price)[1]:.0f}.",
    ),
    shows="At {price:.2f} euro for each question or block, {friction(price):.2%} of the genuine "
    "payments meet friction, and {friction(price, validation[validation['fraud']]):.0%} of the "
    "frauds are not allowed. In the twelve days after, which had no say: "
    "{friction(price, after[~after['fraud']]):.2%} and "
    "{friction(price, after[after['fraud']]):.0%}.",
    hints=(
        "`costs.tiers(p, amount, price=…)` lets fewer payments meet friction the higher the price "
        "is. Whose friction is limited, and how far must the price rise?",
        "The lowest price that fulfils the guardrail is also the cheapest: whatever is let through "
        "for it is what it was least worth asking for. Look for it by bisection, over the genuine "
        "payments of the validation only.",
        "Halve the interval between a price that asks too many and one that does not, forty times, "
        "and take the upper end. For `extra` add up `costs.expected_costs` (without any price) of "
        "the tiers chosen at `price`, and of those chosen at 0.",
    ),
)

q7 = exercise.asked(
    7,
    "`machines`, a whole number, `terabytes` and `days`, two numbers",
    setup=LOAD
    + """
payments = f["mean"] * (1 - f["repeats"]) * 86_400  # in 24 hours
stored = payments * f["row"] * f["copies"] * f["kept"] / 1e12
R = f["recall"]
needed_frauds = 1.96**2 * R * (1 - R) / 0.05**2
wait = needed_frauds / (payments * f["fraud"] * f["held"])
""",
    parts=parts(
        """
machines = needed + 1
-int(-busy_cores() // (f['cores'] * f['busy'])) + 1
  {value:.0f}: the peak keeps {busy_cores():.2f} cores busy. How many machines is that if half of
  their cores may be busy, rounded up, and one to lose?
needed
  Either there is none to lose, so that when one dies at the peak the others are busier than they
  may be; or the load was rounded down before the spare one was added.
confused['again']
  This decides repeats once more. A repeat is found in the audit and gets its old answer:
  {f['repeat_ms']:.0f} ms, not {f['first_ms']:.0f}.
confused['mean']
  This serves the mean. Machines must carry the peak.
confused['all busy']
  This keeps every core busy all the time. Then queues grow without end, and the 99th percentile
  with them; the table allows one half.
confused['cores']
  This counts cores. Each machine has {f['cores']:.0f}.
right - 0.4
  when: value != round(value)
  {value:.4g} is no whole number. Round up what the load needs, then add the spare one.

terabytes = stored
  {value:.4g}: write the units beside each factor. Payments a second, seconds a day, bytes a
  payment, copies, days: all but bytes cancel.
stored / (1 - f['repeats'])
  This has a row for each request. A repeat is the same payment, and its row is there already.
stored * f['peak'] / f['mean']
  This fills up at the peak all day. Machines are bought for the peak, disks for the mean.
stored / f['copies']
  This keeps one copy; the audit is kept {f['copies']:.0f} times.
stored * 1e12 / 1024**4
  This was divided by 1,024 four times: those are tebibytes. A terabyte is 10¹² bytes.
1000 * stored
  This is in gigabytes.

days = wait
  {value:.4g}: first the number of frauds that a half-width of five points needs, then how many of
  them a day brings into the hold-back.
wait * (1 - f['repeats'])
  This counts repeats as payments. A fraud that is sent twice is one fraud, and is held back once.
wait * f['fraud']
  This waits for {needed_frauds:.0f} *payments* in the hold-back. Recall is a share of frauds, and
  one payment in two thousand is fraud.
wait * f['held']
  This counts all frauds. Only one in a hundred is held.
wait / 1.96**2
  This takes five points for the standard error. A 95 % interval reaches 1.96 of them to each side.
wait * 4 / 1.96**2
  This takes 2 for 1.96 standard errors: close enough on an envelope, but give it unrounded here.
wait * 4
  This makes the whole interval five points wide. The question allows five on *each* side.
wait / 4
  This allows ten points on each side. The question allows five.
wait / R
  This waits for so many frauds that would have been *stopped*. All frauds in the hold-back count,
  those that the policy would have missed, too.
wait * 0.25 / (R * (1 - R))
  This takes the widest case, a recall of one half: safe if nothing is known, but {R:.2f} is given.
wait * f['mean'] / f['peak']
  This goes on at the peak all day. Over days it is the mean that counts.
""",
        machines=Number(1e-6),
    ),
    shows="{machines:.0f} machines, {terabytes:.1f} TB, and {days:.0f} days to collect "
    "{needed_frauds:.0f} held-back frauds. To know how they ended takes months more.",
    hints=(
        "Which rate belongs to which number: the peak or the mean, requests or payments? Write the "
        "unit beside every factor.",
        "Seconds of processor for each second are busy cores: at the peak, first requests and "
        "repeats, each with its own time. Disks and hold-back count payments, once each, at the "
        "mean.",
        "A share R seen in n frauds has a 95 % half-width of 1.96 · √(R (1 − R) / n). Solve for n; "
        "a day brings payments × fraud rate × hold-back share of them.",
    ),
)
