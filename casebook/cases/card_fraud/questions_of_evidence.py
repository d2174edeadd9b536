"""Questions of exercise 12 on what a number rests on: hold-back, a leak, weeks and labels."""

from __future__ import annotations

from casebook.cases.card_fraud.exercise_data import exercise
from casebook.exercises.asked import Column, Number, Numbers, Prediction, Word, parts, written

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
100 * right
  when: value > 1
  That is in per cent. A share lies between 0 and 1.

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
100 * right
  when: value > 1
  That is in per cent. A share lies between 0 and 1.

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
(100 * (R - narrow(R)), 100 * (R + narrow(R)))
  when: value[1] > 1.5
  That is in per cent. A share lies between 0 and 1.
(R - 0.84 * narrow(R), R + 0.84 * narrow(R))
  when: like(value, 0.8393 * narrow(R), 0.8393 * wide(R), slack=0.01)
  This is a 90 % interval, 1.645 standard errors on each side. For 95 % take 1.96 of them.
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
        **dict.fromkeys(("precision", "recall", "amount"), Number(5e-4)),
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

#: The features of question 4, of which one leaks.
PROPOSED = ("spent_24h", "terminal_age", "amount_record", "terminal_fraud_rate_7d", "device_frauds")

q4 = exercise.asked(
    4,
    "`leaks`, a name in quotes, and `repaired`, a number for each row of `events`",
    setup="""
from functools import cache
from casebook.evaluate.rare import average_precision
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
leaks = 'terminal_fraud_rate_7d'
  Give one name.
'spent_24h'
  `spent_24h` counts the payment that is being decided, and may: its amount is in the request. What
  must not be in a feature is what nobody knows yet.
'terminal_age'
  `terminal_age` takes a minimum over the whole table, which looks bad. But the first purchase at a
  terminal is never later than the present one: nothing that comes after can change it.
'amount_record'
  `amount_record` grows row by row: `cummax` ends at the present payment, whose amount is known.
'device_frauds'
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
risk().where(purchases('purchases', 7) > 0)
  form: np.shape(value) == (len(events),) and np.isnan(np.asarray(value, float)).any()
  {np.isnan(np.asarray(value, float)).sum():,} values are missing. Where there were no purchases the
  share is 0.
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
        leaks=Word(PROPOSED),
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
hours_late = 6, 8, 12, 24, 48, 96  # after midnight; in some worlds a few change nothing
@cache
def late(hours):
    return ap(part(known_on(84 + hours / 24), 14, 63))
def one_late(right):
    return next(v for v in map(late, hours_late) if abs(v / right - 1) > 1e-3)
def larger(days, labels, hours):
    if abs(hours) > abs(abs(days) - abs(labels)):
        more = f"Six hours more of labels move it by {hours:+.3f}"
        return more + ": these weeks do not settle which of the two is larger."
    return "Both rest on few frauds: in other weeks their order may turn."
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
one_late(right)
  when: any(abs(value / late(hours) - 1) <= 5e-4 for hours in hours_late)
  These are labels of some hours or days later. Take the first moment of day 84, the midnight at
  which it begins.

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
        "highest",
        ("random", "weeks", "then"),
        "max((ap_random, 'random'), (ap_weeks, 'weeks'), (ap_then, 'then'))[1]",
        "The order of the days moved the AP by {ap_weeks - ap_random:+.3f}, the labels by "
        "{ap_then - ap_weeks:+.3f}. "
        "{larger(ap_weeks - ap_random, ap_then - ap_weeks, late(6) - ap_then)}",
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
