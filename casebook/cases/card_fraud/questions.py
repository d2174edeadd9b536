"""Questions of exercise 12: cut-offs, repaired odds, hold-back, a leak, friction, weeks, scale.

What they show is drawn in :mod:`casebook.cases.card_fraud.exercise_data`.
"""

from __future__ import annotations

from casebook.cases.card_fraud.exercise_data import (  # the notebook calls those with a noqa
    LINES,
    LOAD,
    average_precision,  # noqa: F401
    by_truth,  # noqa: F401
    candidates,  # noqa: F401
    colleagues,  # noqa: F401
    events,  # noqa: F401
    exercise,
    facts,  # noqa: F401
    fit_and_score,  # noqa: F401
    quarter,  # noqa: F401
    setting,  # noqa: F401
    tariff,  # noqa: F401
    weeks,  # noqa: F401
)
from casebook.exercises.asked import (
    Column,
    Labels,
    Number,
    Numbers,
    Prediction,
    Word,
    parts,
    written,
)

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
        confirm_from=Number(1e-4),
        block_from=Number(1e-4),
        call_amount=Number(1e-4),
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

q3 = exercise.asked(
    3,
    "`precision`, `recall` and `amount`, three numbers, and `interval`, two numbers",
    setup="""
block, held = decisions["advised"] == "block", decisions["held_back"]
N, n = int(block.sum()), int((block & held).sum())  # blocked; of these, held back
labelled = int(decisions["fraud"].notna().sum())
frauds = decisions[decisions["fraud"] == 1]
caught, seen = frauds["advised"] == "block", frauds["held_back"]
k, missed, missed_held = (int(rows.sum()) for rows in (caught, ~caught, ~caught & seen))
a, b, b_held = (frauds["amount"][rows].sum() for rows in (caught, ~caught, ~caught & seen))
by_euro = decisions["amount"][block].sum() / decisions["amount"][block & held].sum()
S = N * k / n
R, R_100 = S / (S + missed), 100 * k / (100 * k + missed)
def narrow(r):  # N is known, so k is a count out of n
    return 1.96 * r * (1 - r) * np.sqrt((1 - k / n) / k)
def wide(r):  # the blocked payments are 100 times those held back, so n varies as well
    return 1.96 * r * (1 - r) / np.sqrt(k)
as_many, alone = (1.96 * np.sqrt(R * (1 - R) / m) for m in (S + missed, k + missed_held))
def half(value):
    return (value[1] - value[0]) / 2
def like(value, *widths, slack=0.1):
    return any(abs(half(value) / width - 1) <= slack for width in widths)
def fits(value, recall):
    widths = [narrow(R), wide(R)][: 1 + (abs(recall - R_100) < abs(recall - R))]
    middle = min(abs(np.mean(value) - r) for r in (recall, R, R_100))
    return middle <= 0.4 * half(value) and like(value, *widths, slack=0.12)
""",
    # `recall`: any estimate that the evidence cannot tell from this one, such as one by strata.
    parts=parts(
        """
precision = k / n
decisions['fraud'][block].mean()
  {value:.4g}: of which payments with a known end was a block advised, and how many were fraud?
k / N
  This divides the frauds of the *held-back* blocked payments by *all* blocked payments, so that
  missing labels count as genuine. Count the same payments above and below the line.
(k + missed) / labelled
  This is the share of fraud among all labels. Precision asks only of blocks that were advised.
1.0
  That would mean that no genuine payment was ever blocked.

recall = R
precision * N / (precision * N + missed)
R_100
  when: abs(value - R) <= 0.4 * narrow(R) or abs(value / R_100 - 1) < 1e-3
  {value:.4g} is none of the usual mix-ups. Estimate how many frauds were stopped, add those that
  were missed, and take the share.
k / (k + missed)
  This counts labels as they lie: {k} frauds that were advised to be blocked against {missed:,} that
  were missed. But of the blocked ones only one in a hundred has a label, of the others each. The
  naive recall is always too *low*.
N / (N + missed)
  This takes every blocked payment for a fraud, as if no block were needless: always too *high*.
100 * k / (100 * k + missed + 99 * missed_held)
  This gives the weight 100 to every held-back row and counts the other labels, too: the frauds that
  were allowed go in about twice. An allowed payment has a label, held back or not: its weight is 1.
k / (k + missed_held)
  This uses the hold-back alone. That is not wrong on average, but it throws away the labels of
  {missed - missed_held:,} frauds that were allowed, and the interval gets much wider. Use every
  label, each with its own weight.
1 - right
  This is upside down: the share that was missed.

amount = N / n * a + b
100 * a + b
by_euro * a + b
  when: min(abs(value / (w * a + b) - 1) for w in (100, N / n, by_euro)) < 2e-3
  {value:,.0f}: add the amounts of labelled frauds, each with its weight.
a + b
  This adds up the frauds with a label, too few: of what was blocked, one euro in a hundred has one.
N / n * a
100 * a
  This is what was stopped. The question is about all fraud, with what was let pass.
100 * (a + b)
N / n * (a + b)
  Every label got the weight of a blocked one. Allowed frauds are all labelled: their weight is 1.
100 * (a + b_held)
  This uses the hold-back alone: right on average, but noisy. Frauds that were allowed are known.

interval = (recall - narrow(recall), recall + narrow(recall))
  when: value[0] < value[1] and fits(value, recall)
  {100 * half(value):.2f} points on each side of {np.mean(value):.3f}. Of all that goes into the
  recall, which count is uncertain, and by how much?
(R + narrow(R), R - narrow(R))
  when: value[0] >= value[1]
  The lower end comes first.
(R - as_many, R + as_many)
  when: like(value, as_many)
  Each held-back fraud was counted as a hundred observations. A weight makes one observation speak
  for many, it does not make many of it: {k} were seen, and that is all the evidence there is.
(R - alone, R + alone)
  when: like(value, alone)
  This is the interval of a recall that uses the hold-back alone. Yours also knows all missed
  frauds; only the stopped ones are guessed, so it is narrower.
(R - narrow(R) / 1.96, R + narrow(R) / 1.96)
  when: like(value, narrow(R) / 1.96, wide(R) / 1.96)
  This is one standard error on each side, about 68 %, not 95 %.
(R - wide(R), R + wide(R))
  when: like(value, wide(R))
  This is wider than the evidence: it lets the count vary by √k, as if nobody knew that {N:,}
  payments were blocked and {n:,} of them held back. Given these, k varies by √(k (1 − k / n)).
(0.0, 1.0)
  when: half(value) > 1.5 * wide(R)
  From {value[0]:.3f} to {value[1]:.3f} is {100 * half(value):.2f} points on each side: this holds
  the recall, but the evidence says more than that.
""",
        precision=Number(5e-4),
        recall=Number(5e-4),
        amount=Number(5e-4),
        interval=Numbers((2,), 1e-3),
    ),
    prediction=Prediction(
        "naive_is",
        ("too low", "too high"),
        "'too low' if k / (k + missed) < recall else 'too high'",
        "Without weights the recall would be {k / (k + missed):.1%}, and the better a policy "
        "blocks, the fewer of its frauds have a label.",
    ),
    shows="Of {N:,} blocked payments about {S:,.0f} were fraud, and {missed:,} frauds were missed: "
    "recall {R:.1%}, give or take {100 * narrow(R):.1f} points. A weight of 100 for each held-back "
    "fraud gives {R_100:.1%}, give or take {100 * wide(R_100):.1f}. The truth, which the bank will "
    "never see, is {true_recall:.1%}.",
    hints=(
        "For which payments do you know the end? A blocked one only if it was held back: one "
        "chance in a hundred. An allowed one always. So how many does each label speak for?",
        "The held-back payments among the blocked show the precision. Times the number of blocked "
        "payments, which the bank knows, it gives the frauds stopped; those missed are counted.",
        "Only the number k of frauds among the n held-back blocked payments is uncertain, by "
        "√(k (1 − k / n)). With S stopped and M missed, recall S / (S + M) varies by recall · "
        "(1 − recall) · √((1 − k / n) / k); take 1.96 times that.",
    ),
)

q4 = exercise.asked(
    4,
    "`leaks`, a name in quotes, and `repaired`, a number for each row of `events`",
    setup="""
from functools import cache
from casebook.cases.card_fraud.protocol import average_precision
ms = pd.Timedelta(milliseconds=1)
columns = ["transaction", "terminal", "received"]
first, paid = ~events["request"].duplicated(), events["amount"] >= 0
counted = {"purchases": first & paid, "first": first, "paid": paid, "all": first | True}
def purchases(rows, delay, span=7):
    return trailing(events["terminal"], events["received"], counted[rows], span, delay)
@cache
def pairs(rows):
    frauds = known.merge(events.loc[counted[rows], columns], on="transaction")
    frauds = frauds.drop(columns="transaction")
    return events[columns].merge(frauds, on="terminal", suffixes=("", "_fraud"))
@cache
def risk(behind=7, by_now="<=", rows="purchases", low=0, high=0, below=None):
    p = pairs(rows)  # low, high: milliseconds by which an edge is moved
    age = (p["received"] - p["received_fraud"]) / ms
    hit = (age >= behind * 864e5 + low) & (age < (behind + 7) * 864e5 + high) & (age > 0)
    late = {"<=": p["known"] > p["received"], "<": p["known"] >= p["received"], "": age < 0}
    hits = p[hit & ~late[by_now]].groupby("transaction").size()
    hits = hits.reindex(events["transaction"], fill_value=0)
    return hits / np.maximum(purchases(rows, behind) if below is None else below(), 1)
def moved(low, high):  # the same edges above and below the line
    span, delay = 7 + (high - low) / 864e5, 7 + low / 864e5
    return risk(low=low, high=high, below=lambda: purchases("purchases", delay, span))
def differ(value, right):
    return (value - right).abs() > 1e-6
def rows(value, right):
    return f"Rows that differ: {differ(value, right).sum():,}."
def first_row(value, right):
    return differ(value, right).idxmax()
def ap(values):
    return average_precision(events["transaction"].isin(known["transaction"]), values)
""",
    parts=parts(
        """
leaks = {'terminal_fraud_rate_7d'}
  One of them leaks, and not {names(sorted(value))}.
{'spent_24h'}
  `spent_24h` counts the payment that is being decided, and may: its amount is in the request. What
  must not be in a feature is what nobody knows yet.
{'terminal_age'}
  `terminal_age` takes a minimum over the whole table, which looks bad. But the first purchase at a
  terminal is never later than the present one: nothing that comes after can change it.
{'amount_record'}
  `amount_record` grows row by row: `cummax` ends at the present payment, whose amount is known.
{'device_frauds'}
  `device_frauds` uses labels, and uses them rightly: only those with `known` up to the moment of
  the payment. Whoever sees labels and cries leak loses the best features.

repaired = risk()
risk().to_numpy('float32')
risk().tolist()
  {rows(value, right)} The first is transaction {first_row(value, right)}, where you have
  {value[first_row(value, right)]:.4g} and the store {right[first_row(value, right)]:.4g}. Take the
  definition word by word.
proposed['terminal_fraud_rate_7d']
  {rows(value, right)} This is the leaking feature itself, unchanged.
risk(0, '')
risk(0, '', 'all')
  {rows(value, right)} The present row is out, but the labels are still those of today: a fraud of
  yesterday counts, though its chargeback comes in weeks.
risk(0)
  {rows(value, right)} Only frauds that are known count: no leak any more. But the window ends now,
  where hardly a chargeback has arrived, so it is nearly always zero. The store's window ends seven
  days ago.
risk(7, '')
  {rows(value, right)} The window ends seven days ago, and all its frauds count. A delay is no
  knowledge: the median chargeback takes 18 days. A fraud counts if its `known` has passed.
risk(rows='all')
  {rows(value, right)} Retries and refunds are counted as purchases: a *purchase* is the first row
  of its `request`, with an amount of zero or more.
risk(rows='paid')
  {rows(value, right)} Refunds are out, but a retry still counts as a purchase of its own: take only
  the first row of each `request`.
risk(rows='first')
  {rows(value, right)} Retries are out, but a refund still counts as a purchase: take only amounts
  of zero or more.
risk(below=lambda: purchases('purchases', 0))
  {rows(value, right)} Frauds of one week are divided by the purchases of another. Take the same
  seven days above and below the line.
risk(low=1)
moved(1, 0)
  {rows(value, right)} An age of exactly 7 days is left out; it is within the window (≥, not >).
risk(high=1)
moved(0, 1)
  {rows(value, right)} An age of exactly 14 days is counted; it is not within the window (<, not ≤).
risk(low=1, high=1)
moved(1, 1)
  {rows(value, right)} Both edges are on the wrong side: exactly 7 days is within, 14 is not.
risk(by_now='<')
  {rows(value, right)} A fraud that becomes known in the very millisecond of the payment is not
  counted; it is known from then on (≤, not <).
""",
        leaks=Labels("list(proposed)"),
        repaired=Column(1e-4),
    ),
    shows="Equal to the store's in all {len(repaired):,} rows, the three on an edge included. Its "
    "average precision alone falls from {ap(proposed['terminal_fraud_rate_7d']):.2f} to "
    "{ap(repaired):.3f}: the rest was knowledge of the future. (`features.batch` gives the same "
    "numbers; if you called it, read in the solution what it computes.)",
    hints=(
        "Look at one payment and cover every row below it and every label that has not arrived. "
        "Which of the five columns can you no longer fill in?",
        "A fraud is not known when it happens: `known` says when. The store's risk has three "
        "conditions for a fraud that counts: the same terminal, between 7 and 14 days old, and "
        "known by now. Below the line are all purchases of the same seven days.",
        "Below the line: `trailing(terminal, received, purchase, 7, 7)`. Above it: join `known` "
        "with `events` to get each fraud's terminal and time, join that to all rows of the "
        "terminal, keep the pairs that fulfil the conditions and count them by transaction.",
    ),
)

q5 = exercise.asked(
    5,
    "`price`, euro, and `extra`, euro a thousand payments",
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
    return costs.price_of_guardrail(table["p"], table["amount"], 0.01)
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
costs.price_of_guardrail(fine['p'], fine['amount'], 0.01)
right + 0.005
  when: friction(value) <= 0.01 and right - 1e-6 <= value <= right + 0.01
  At {distinct(value, right, digits=4)} euro {friction(value):.3%} of the genuine payments meet
  friction: within the guardrail, but it costs more than it need, {bill(value):.1f} expected euro a
  thousand payments; a lower price would do.
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


#: The part that asks for an AP by weeks, with these training labels.
BY_WEEKS = """
NAME = ap(part(LABELS, 14, 63))
ap(part(LABELS, 14, 63).sample(frac=1, random_state=0))
  {value:.4g} is none of the usual mix-ups. Days 14 to 62 train, days 84 to 109 test, the test has
  the labels of today, and `ap_of` is the model.
ap_random
  This is the random split: its training holds later days, and payments of the attacks in its test.
ap_of(part(LABELS, 14, 63), part(known_on(110, 0), 84, 110))
ap_of(part(LABELS, 14, 63), part(known_on(110, 21), 84, 110))
  The *test* has immature labels: on day 110 most chargebacks of its weeks are still to come, and
  frauds that the model finds count as mistakes. To judge, wait as long as you can; only the
  training may know no more than it could.
ap(part(LABELS, 14, 62 + 1e-9))
  `day` has fractions: `between(14, 62)` and `<= 62` end at the midnight with which day 62 *begins*,
  and drop it. Take what is below 63.
ap_of(part(LABELS, 14, 62 + 1e-9), part(today, 84, 109 + 1e-9))
  `day` has fractions, and both spans lost their last day: `between(84, 109)` ends as day 109
  begins. Take what is below 63, and below 110.
"""

q6 = exercise.asked(
    6,
    "`ap_weeks` and `ap_then`, two numbers, and `production`, a word",
    setup="""
from functools import cache
def part(labels, first, last):
    when = day.loc[labels.index]
    return labels[(when >= first) & (when < last)]
@cache
def known_on(moment, wait=21):
    table = visible_labels(world, world.start + pd.Timedelta(days=moment), wait)
    return table.set_index("transaction")["chargeback"].astype(int)
def ap(learned):
    return ap_of(learned, part(today, 84, 110))
""",
    parts=parts(
        written(BY_WEEKS, NAME="ap_weeks", LABELS="today")
        + """\
ap(part(known_on(84), 14, 63))
  These training labels are those of day 84. Change the split alone here; keep the labels of today.
ap(part(today, 14, 84))
  The training goes up to day 84. The last three weeks before the start have no labels that could be
  trusted then: it ends with day 62, as the question says.
"""
        + written(BY_WEEKS, NAME="ap_then", LABELS="known_on(84)")
        + """\
ap(part(today, 14, 63))
  The training labels are of today; many came after day 84. Ask `visible_labels` for that day.
ap(part(known_on(110), 14, 63))
  The training labels are of day 110. The model decides from day 84 on: what came later is unknown.
ap(part(known_on(84, 0), 14, 84))
  The training goes up to day 84, and what has no chargeback yet counts as genuine. Of the last
  three weeks that is nearly everything, frauds too.

production = 'then'
  Give one word.
'random'
  Production will *not* see the number of the random split: nobody trains on payments of next week.
'weeks'
  `weeks` has an honest order of days, and labels that came after the training day. On day 84 nobody
  could have trained that model.
""",
        ap_weeks=Number(5e-4),
        ap_then=Number(5e-4),
        production=Word(("random", "weeks", "then")),
    ),
    prediction=Prediction(
        "matters_more",
        ("days", "labels"),
        "'days' if ap_random - ap_weeks > ap_weeks - ap_then else 'labels'",
        "The order of the days moves the AP by {ap_weeks - ap_random:+.3f}, the labels by "
        "{ap_then - ap_weeks:+.3f}.",
    ),
    shows="{ap_random:.2f} by the random split, {ap_weeks:.2f} by weeks, {ap_then:.2f} with the "
    "labels of the day: production sees the last.",
    hints=(
        "Two things are wrong at once: which payments train, and what is known of them. Change the "
        "first for `ap_weeks`, then the second as well for `ap_then`. The test stays the same.",
        "The test needs the best labels there are, those of today: judging is not deciding. The "
        "training may know only what had arrived when the model was to start.",
        "`visible_labels(world, world.start + pd.Timedelta(days=84), 21)`, kept for days 14 to 62, "
        "are the labels of `ap_then`.",
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
