"""Questions of exercise 16 on euro and people: a threshold, a judge, containment."""

from __future__ import annotations

from functools import partial

from casebook.cases.support_rag_chatbot import exercise_data as data
from casebook.cases.support_rag_chatbot import exercise_logs as logs
from casebook.exercises.asked import Exercise, Number, Numbers, Prediction, parts

#: Of all questions of the exercise.
exercise = Exercise(
    "16_support_rag_chatbot",
    data.SEED,
    given={
        "words": lambda seed: data.runs(seed=seed)[0],
        "vectors": lambda seed: data.runs(seed=seed)[1],
        "judged_pairs": lambda seed: data.english(seed),
        "desk": data.answered,
        "verdicts": logs.verdicts,
        "sentences": data.sentences,
        "ranked": lambda seed: partial(data.ranked, seed=seed),
        "windows": lambda seed: data.windows,
        "past": data.past,
        "relevant": data.relevant,
        "first_right": lambda seed: data.first_right,
        "versions": logs.versions,
        "served": lambda seed: logs.served(seed=seed),
        "contacts": logs.contacts,
    },
)

q2 = exercise.asked(
    2,
    "`break_even`, `threshold` and `saved`, three numbers",
    setup="""
from casebook.cases.support_rag_chatbot.exercise_data import cheapest as best
def bill(rows, cut, wrong=7.50):  # a wrong answer costs both 5.20 + 4.60 − 2.30
    told = np.where(rows["right"], 0.30, wrong)
    return 100 * np.where(rows["margin"] >= cut, told, 4.50).mean()
def even(wrong=7.50, person=4.50):
    return (wrong - person) / (wrong - 0.30)
choose, rest = (desk[desk["part"] == part] for part in ("choose", "judge"))
def given(rows, cut):
    return (rows["margin"] >= cut).mean()
""",
    parts=parts(
        """
break_even = even()
3 / 7.2
  {value:.4g} is not it: p · 0.30 + (1 − p) · (what a wrong answer costs both together) = 4.50.
0.5
  A wrong answer costs 3.00 more than a person, a right one 4.20 less. One half needs them equal.
even(5.20)
  This is the carrier's own bill. The customer who believes a wrong answer loses money as well.
even(5.20 + 4.60)
  This counts the goodwill twice. It leaves the carrier's pocket and arrives in the customer's.
1 - even()
  This is the probability of being *wrong* at which both cost the same; give that of being right.
0.30 / (0.30 + 7.50)
  This weighs a right answer against a wrong one. The choice is between an answer and a *person*.
even(person=0)
  People do not work for nothing: handing over costs 4.50.
1 - (4.50 - 0.30) / 7.50
  This pays 0.30 for a wrong answer, too. Only one of the two prices is paid: 0.30 has weight p.

threshold = best(choose)
  when: bill(choose, value) <= bill(choose, right) + 1e-9
  {value:.4g} costs {distinct(bill(choose, value), bill(choose, right))} euro for 100 questions of
  the part to choose on, and {distinct(bill(choose, right), bill(choose, value))} are possible.
  Answer where the margin is *at least* the threshold, and try every margin that occurs.
even()
  This takes the break-even for a margin. The margin is no probability: try all margins that occur.
best(choose, 5.20)
  This has the lowest bill of the carrier alone. The customer's loss decides as well.
best(rest)
  This has been chosen on the rows that are to judge it.
best(desk)
  This has been chosen on *all* rows. Take only those with `part` choose; the others judge it.
0
  This answers everything.
0.9
  when: given(choose, value) < 0.05
  This hands nearly everything over. The surest answers are worth giving.

saved = bill(rest, 0) - bill(rest, threshold)
  {value:.4g} is not it: the bill of answering everything minus the bill with your threshold, both
  on the rows with `part` judge, in euro for 100 questions.
bill(choose, 0) - bill(choose, threshold)
  This is saved on the questions that chose the threshold. They flatter it: take the other part.
bill(desk, 0) - bill(desk, threshold)
  This is taken over both parts, and half of them chose the threshold. Take the other part alone.
bill(rest, 2) - bill(rest, threshold)
  This is the saving against handing everything over. Take that against answering everything.
bill(rest, 0, 5.20) - bill(rest, threshold, 5.20)
  This is the carrier's alone: of that alone, answering everything looks better than it is.
bill(rest, 0, 9.80) - bill(rest, threshold, 9.80)
  This counts the goodwill twice.
right / 100
  This is for one question; give it for 100.
-right
  The sign is turned: what is saved counts as positive.
""",
        threshold=Number(1e-6),
    ),
    prediction=Prediction(
        "guess_2",
        ("more", "less"),
        "'more' if given(desk, best(choose, 5.20)) > given(desk, threshold) else 'less'",
        "On its own bill the carrier would answer {given(desk, best(choose, 5.20)):.0%} of the "
        "questions, for both together {given(desk, threshold):.0%}.",
    ),
    shows="An answer pays from {break_even:.1%} on. On questions that did not choose it, the "
    "threshold answers {given(rest, threshold):.0%} and saves {saved:.0f} euro in 100 questions "
    "against answering everything, {bill(rest, 2) - bill(rest, threshold):.0f} against handing all "
    "over.",
    hints=(
        "Follow the money of a wrong answer: what does the carrier pay, what does the customer "
        "lose, and which euro appears in both columns?",
        "A wrong answer costs the two of them 5.20 + 4.60 − 2.30. The break-even is a probability "
        "and the margin is none, so the threshold has to be found on rows whose end is known.",
        "For every margin among the rows with `part` choose, add up 0.30, 7.50 or 4.50 a question; "
        "the cheapest is the threshold. `saved` is a difference of two bills on the other rows.",
    ),
)

q3 = exercise.asked(
    3,
    "`position`, `both`, `corrected` and `half`, four numbers between 0 and 1",
    setup="""
person, read = verdicts["person"], verdicts["person"].notna()
first, second = verdicts["new_first"], verdicts["new_second"]
judged, same = (first + second) / 2, first[first == second]
gap = (person - judged)[read]
length = np.log2(verdicts["words_new"] / verdicts["words_old"])
def reach(x):  # half the width of a 95 % interval of a mean
    return 1.96 * x.std() / np.sqrt(len(x))
def fitted(*columns):  # people's word by regression on the judge's, and how far it reaches
    x = np.column_stack([np.ones(len(verdicts)), *columns]).astype(float)
    said = x @ np.linalg.lstsq(x[read], person[read], rcond=None)[0]
    return said.mean(), reach(person[read] - said[read])
strata = fitted(judged == 0.5, judged == 1)
lam = np.cov(person[read], judged[read])[0, 1] / judged[read].var() / (1 + read.mean())
rest = person[read] - lam * judged[read]
tuned = rest.mean() + lam * judged.mean(), reach(rest)
plain, others = ((x.mean() + gap.mean(), reach(gap)) for x in (judged, judged[~read]))
known = plain, others, strata, tuned, fitted(judged), fitted(judged, length)
rates, halves = zip(*known, fitted(first, second, length))  # all fair, so all are right
slack, low, high = min(halves) / 8, 0.9 * min(halves), 1.1 * np.hypot(reach(gap), reach(judged))
""",
    parts=parts(
        """
position = first.mean() - second.mean()
(first - second).mean()
  {value:.4g} is not it: how much more often does the new bot win in first place than in second?
second.mean() - first.mean()
  The sign is turned: the new bot wins more often when it comes first.
right / 2
  This is half of it: from either order to the mean of both. Go all the way from second to first.
first.mean() - 0.5
  This compares the new bot with one half, as if both were equally good. Compare the two orders.
(first != second).mean()
  This is the share of changed verdicts. Those that changed against the bias count with a minus.
100 * right
  when: value > 1
  This is in points; give it as a share.

both = judged.mean()
  {value:.4g} is not the mean of the new bot's wins over both orders.
same.mean()
  This drops pairs whose orders differ, half a win each; the rest exaggerates the judge's leaning.
first.mean()
second.mean()
  This is one order only, the one that helps the {'new' if value > right else 'old'} bot.

corrected = judged.mean() + gap.mean()
strata[0]
tuned[0]
fitted(judged, length)[0]
fitted(first, second)[0]
others[0]
  when: min(rates) - slack <= value <= max(rates) + slack
  {value:.4g} is far from what the pairs read by both say. The simplest fair estimate is the judge's
  mean over all pairs, plus the mean of (people − judge) on the pairs that both have read.
person.mean()
  This is fair, but wastes 2,100 pairs: let people measure the judge's error, and correct its mean.
judged.mean()
  This is still the mean of both orders. Swapping takes away what depends on the place. Length and
  style go with the answer, and stay.
same.mean()
  This drops the pairs on which the orders differ. Of the others the judge's bias is still in it.
judged.mean() - gap.mean()
  This adds the judge's error instead of taking it away: people minus judge is negative here.
first.mean() + (person - first)[read].mean()
  This corrects one order alone. That is fair; the mean of both follows people more closely.
person.fillna(judged).mean()
  This takes people's word for 300 pairs only: the bias of seven pairs in eight is still in it.

half = reach(gap)
strata[1]
fitted(judged, length)[1]
np.hypot(reach(gap), reach(judged))
tuned[1]
  when: low <= value <= high
  {value:.4g} is not it: 1.96 times the standard deviation of (people − judge), over √300.
reach(person[read])
  This is that of people alone. With the judge it is narrower: that is what it is for.
reach(judged)
  This is that of the judge's mean. What is uncertain is its error, measured on 300 pairs.
1.96 * gap.std() / np.sqrt(len(verdicts))
  This divides by the root of all pairs. Its error was measured on 300 of them.
right / 1.96
strata[1] / 1.96
high / 1.1 / 1.96
  when: low <= 1.96 * value <= high
  This is one standard error; 95 % reaches 1.96 of them.
2 * right
2 * strata[1]
  when: low <= value / 2 <= high
  This is the whole width; half of it was asked for.
""",
        corrected=Number(0.0005),
    ),
    prediction=Prediction(
        "guess_3",
        ("place", "length", "style"),
        "'place'",
        "Each answer is then judged once in either place; its length and its style stay the same.",
    ),
    shows="The judge sees the new bot ahead with {both:.1%}, after swapping. Corrected by 300 "
    "pairs it is {corrected:.1%} ± {half:.1%}: {'nothing speaks for' if corrected - half < 0.5 "
    "else 'people still prefer'} the new bot.",
    hints=(
        "Compare the new bot with itself: the same answers, first and second. What stays the same "
        "in both orders, and may still be a bias?",
        "Take each pair's mean of the two verdicts: 1, 0.5 or 0. On the pairs that people read you "
        "can see how far it is off on average.",
        "`corrected` is the judge's mean over all pairs plus the mean of (person − judge) over the "
        "300; its uncertainty is nearly all in the second.",
    ),
)

q7 = exercise.asked(
    7,
    "`unhelped` and `dearer`, two numbers, and `interval`, two ends",
    setup="""
everything, other = (contacts[contacts["policy"] == p] for p in ("answers all", "hands over"))
def unresolved(rows):
    return 1 - rows.loc[rows["contained"], "resolved"].mean()
fates = everything.loc[everything["contained"], "fate"]
def gap_of(*columns):
    euro = contacts.set_index(["contact", "policy"])[list(columns)].sum(axis=1).unstack()
    return euro["answers all"] - euro["hands over"]
gap, of = gap_of("carrier", "customer"), everything.set_index("contact")["question"]
by = gap.groupby(of).agg(["sum", "size"])
left = by["sum"] - by["size"] * gap.mean()
half = 1.96 * np.sqrt((left**2).sum() * len(by) / (len(by) - 1)) / len(gap)
narrow = 1.96 * gap.std() / np.sqrt(len(gap))
def around(reach, middle=gap.mean()):
    return middle - reach, middle + reach
def reach_of(value):
    return (value[1] - value[0]) / 2
def drawn(units):  # a bootstrap over rows of sums and sizes
    rows, rng = units.to_numpy(), np.random.default_rng(0)
    sums = [rows[rng.integers(0, len(rows), len(rows))].sum(axis=0) for _ in range(1000)]
    return np.quantile([total / size for total, size in sums], [0.025, 0.975])
""",
    parts=parts(
        """
unhelped = unresolved(everything)
  {value:.4g} is not it: where all is answered, the share of contained contacts not resolved.
(everything['contained'] & ~everything['resolved']).mean()
  This is a share of all contacts. Take that of the contained ones, the dashboard's successes.
1 - everything['resolved'].mean()
  This is the share without help among all contacts, contained or not. Take the contained ones.
(fates == 'believed').mean()
  This counts only those who believe something wrong. Who gives up is not helped either.
(fates == 'gave_up').mean()
  This counts only those who gave up. Who believes a wrong answer is not helped either.
unresolved(other)
  This is that of the other policy. The question asks for the one that answers all.
unresolved(contacts)
  Both policies are pooled here. The question asks for the one that answers all.
1 - right
  This is the share that *was* helped.
(everything['contained'] & ~everything['resolved']).sum()
  when: value > 100
  {value:,.0f} is a number of contacts; give a share.
100 * right
  when: 1 < value <= 100
  This is in per cent; give a share.

dearer = gap.mean()
  {value:.4g} is not it: carrier plus customer, the mean if all is answered less the other policy's.
gap.sum()
  This is the sum over all contacts, {value:,.0f} euro; give the mean of one.
gap_of('carrier').mean()
  This is the carrier's bill alone. What customers lose counts as well, though no dashboard has it.
gap_of('customer').mean()
  This is the customers' loss alone. The carrier's own bill belongs to it.
-right
  The sign is turned: answering all minus handing over.
gap.groupby(of).mean().mean()
  This gives each *question* the same weight, but some are asked ten times as often as others.
2 * right
  This is divided by half of the contacts. Divide by all of them.
right / 2
  This is divided by the rows of both policies, two for each contact. Divide by the contacts.
100 * gap.mean() / other[['carrier', 'customer']].sum(axis=1).mean()
  This is in per cent of the other policy's euro; give the euro.

interval = around(half)
drawn(by)
list(around(1.96 * np.sqrt((left**2).sum()) / len(gap)))
  when: abs(reach_of(value) / half - 1) <= 0.1 and abs(sum(value) / 2 - dearer) <= half / 4
  This reaches {reach_of(value):.2f} euro to each side. Draw questions with replacement, each with
  all its contacts, and take the middle 95 % of the means of their differences.
around(narrow)
drawn(pd.DataFrame({'sum': gap, 'size': 1}))
  when: abs(reach_of(value) / narrow - 1) <= 0.08 and value[0] < dearer < value[1]
  This is as narrow as an interval that draws contacts, or one of 90 %. The same question gets the
  same answer however often it is asked: draw *questions*, and take the middle 95 %.
around(half / 1.96)
around(reach_of(drawn(by)) / 1.96)
  when: abs(1.96 * reach_of(value) / half - 1) <= 0.1
  This is one standard error to each side; 95 % needs 1.96.
around(-half)
  when: value[0] >= value[1]
  The upper end comes first.
around(half, middle=0)
  when: abs(sum(value) / 2 - dearer) > reach_of(value) / 2
  This does not hold `dearer` itself, or holds it far from its middle.
""",
        interval=Numbers((2,)),
    ),
    prediction=Prediction(
        "guess_7",
        ("more than half", "less than half"),
        "'more than half' if unhelped < 0.5 else 'less than half'",
        "Of the contained contacts {1 - unhelped:.0%} were helped.",
    ),
    shows="{everything['contained'].mean():.0%} are contained, and {unhelped:.0%} of these were "
    "not helped. Answering all is dearer by {dearer:.2f} euro a contact ({interval[0]:.2f} to "
    "{interval[1]:.2f}, by question).",
    hints=(
        "Who is contained? Read the definition again: it says what did *not* happen. Then ask for "
        "whom the euro are lost.",
        "`dearer` is a mean of differences, one for each contact. How many independent pieces of "
        "evidence are behind it: contacts, or questions?",
        "Sum the differences and count the contacts of each question; draw questions with "
        "replacement, divide the drawn sum by the drawn count, a few hundred times.",
    ),
)
