"""Questions of exercise 17, each with a small world of its own, drawn by the student's seed."""

from __future__ import annotations

from casebook.cases.support_agent import exercise_data as data
from casebook.cases.support_agent.world import CHAPTER
from casebook.exercises.asked import Exercise, Function, Labels, Number, Prediction, parts
from casebook.exercises.grading import student_seed

SEED = 17
_GIVEN = ("attempts", "costs", "refunds", "asked", "replies", "hunts", "tries")
exercise = Exercise(CHAPTER, SEED, {name: getattr(data, name) for name in _GIVEN})


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return exercise.given[name](student_seed(SEED))


#: What the questions' code needs of the exercise's data, in the reader's notebook too.
_FROM = "from casebook.cases.support_agent.exercise_data import "

#: Of counts and of money in cents, which are whole numbers.
WHOLE = Number(1e-9, unrounded=False)

q1 = exercise.asked(
    1,
    "`mean`, `each` and `once`, three numbers between 0 and 1",
    setup=f"{_FROM}K, at_least_once, every_time\n"
    "from math import comb\n"
    "n, c = attempts['tried'], attempts['right']\nshare = c / n\n",
    parts=parts(
        """
mean = share.mean()
np.mean([a / b for a, b in zip(c, n)])
sum(share) / len(share)
  {value:.4g} is not the mean of the tasks' own rates.
c.sum() / n.sum()
  A task that was tried ten times counts more here than one that was tried four times. Each task
  counts alike.
(share == 1).mean()
  This is the share of tasks in which every attempt succeeded.

each = every_time(attempts)
np.mean([comb(a, K) / comb(b, K) for a, b in zip(c, n)])
(c * (c - 1) * (c - 2) / (n * (n - 1) * (n - 2))).mean()
  {value:.4g} is not the mean of C(c, {K}) / C(n, {K}) over the tasks.
(share ** K).mean()
  (c / n) to the k draws the same attempt again and again. Three attempts are three *different* ones
  of those that were made.
share.mean() ** K
  The mean rate to the k holds for tasks that are all alike. Here some hardly ever fail.
(share == 1).mean()
  This asks for all attempts that were made, and for one task these are ten.
(c.sum() / n.sum()) ** K
  Two slips in one: attempts are pooled over tasks, and drawn with replacement.
share.mean()
  This is one attempt.

once = at_least_once(attempts)
np.mean([1 - comb(b - a, K) / comb(b, K) for a, b in zip(c, n)])
1 - np.mean([comb(b - a, K) / comb(b, K) for a, b in zip(c, n)])
  {value:.4g} is not one less the chance that {K} attempts of a task all fail, over the tasks.
1 - every_time(attempts)
  This is the chance that at least one *fails*.
1 - (1 - share.mean()) ** K
  This holds for tasks that are all alike.
1 - ((1 - share) ** K).mean()
  This draws the same attempt again and again.
(c > 0).mean()
  This is the share of tasks with a success in *all* of their attempts, up to ten.
""",
    ),
    prediction=Prediction(
        "guess_1",
        ("above", "below"),
        "'above' if each > mean ** K else 'below'",
        "The same tasks fail again: {each:.3f} against {mean ** K:.3f}.",
    ),
    shows="One attempt succeeds in {mean:.1%}, three of three in {each:.1%}, one of three in "
    "{once:.1%}.",
    hints=(
        "A rate for each of the 16 tasks first; then the mean over tasks.",
        "How many triples of attempts does a task have, and in how many do all three succeed? "
        "`math.comb`.",
        "All three fail: count triples among the attempts that failed.",
    ),
    helps=("mean", "each", "once"),
)

q2 = exercise.asked(
    2,
    "`human`, `saved`, `needed` and `stop`, four numbers",
    setup="""
person, complaint, person_wrong, noticed, goodwill, machine, machine_wrong, a_year, fixed = costs
mistake = noticed * complaint + (1 - noticed) * goodwill
each = noticed * (person + complaint) + (1 - noticed) * goodwill
base = person + person_wrong * each
""",
    parts=parts(
        """
human = person + person_wrong * each
base
(1 - person_wrong) * person + person_wrong * (person + each)
  {value:.4g} is not the person, and what that person's mistakes cost on average.
person
  People are wrong, too, and each of their mistakes costs the same as the machine's.
person + person_wrong * complaint
  This takes each mistake as noticed. What nobody notices costs goodwill.
person + person_wrong * mistake
  Whoever complains about a person's answer needs somebody again, as after the machine.
person + each
  Not every ticket goes wrong.

saved = human - machine - machine_wrong * each
base - (machine + machine_wrong * each)
base - machine - machine_wrong * (noticed * (person + complaint) + (1 - noticed) * goodwill)
  {value:.4g} is not the person's cost, less the machine's, less what its mistakes cost.
base - machine
  Where is what the machine's mistakes cost?
base - machine - machine_wrong * mistake
  Whoever complains about the machine needs a person after all.
base - machine - machine_wrong * (person + complaint)
  Only mistakes that are noticed come back.
person - machine - machine_wrong * each
  The machine also spares you the mistakes of people.

needed = fixed / (a_year * saved)
fixed / a_year / (base - machine - machine_wrong * each)
(fixed / saved) / a_year
  With this share of the tickets you save {value * a_year * saved:,.0f} a year, not {fixed:,.0f}.
fixed / (a_year * base)
  An answered ticket does not save the whole cost of a person.
fixed / (a_year * (base - machine))
  These answers would all be right.
fixed / saved
  This is a number of tickets. Which share of the year's is it?
saved * a_year / fixed
  This is its inverse: how many times the savings of all tickets pay for the system.

stop = (human - machine) / each
(base - machine) / (noticed * (person + complaint) + (1 - noticed) * goodwill)
machine_wrong + (base - machine - machine_wrong * each) / each
  With this share of wrong answers an answered ticket saves {human - machine - value * each:.2f}.
(base - machine) / mistake
  A noticed mistake costs a person as well.
(base - machine) / (person + complaint)
  Only a part of the mistakes is noticed.
(person - machine) / each
  Compare with a person who is wrong at times.
person_wrong
  So often people are wrong. The machine is cheaper, so that it may be wrong more often before it
  saves nothing (customers may see it otherwise).
""",
    ),
    prediction=Prediction(
        "guess_2",
        ("tenth", "half"),
        "'tenth' if stop < 0.3 else 'half'",
        "The money is gone at {stop:.0%} wrong answers.",
    ),
    shows="A ticket costs {human:.2f} at a person; an answered one saves {saved:.2f}, so "
    "{needed:.0%} must be answered. At {stop:.0%} wrong answers nothing is saved, however many "
    "there are.",
    hints=(
        "Draw the tree of a person's mistake: noticed or not, and what each costs.",
        "Whosever mistake it is: what is noticed brings a complaint, and a person to handle it.",
        "Answered tickets × saved = fixed. For `stop`, solve saved = 0 for the wrong answers.",
    ),
    helps=("human", "saved", "needed"),
)

q3 = exercise.asked(
    3,
    "`decide`, a function of an order, a sum and the earlier refunds",
    setup=f"{_FROM}LIMIT, WINDOW, rule\n"
    "told = [(order, cents, refunds) for order, cents in asked]\n"
    "wanted = [rule()(*one) for one in told]\n"
    "def differs(value):\n"
    "    return [a for a, b, c in zip(asked, value, wanted) if b != c]\n",
    parts=parts(
        """
decide = rule()
lambda order, cents, past: rule()(order, cents, past)
lambda order, cents, past: rule()(order, cents, past.sample(frac=1, random_state=0))
  Your function differs in {len(differs(value))} of {len(wanted)} cases, first in
  {differs(value)[0]}. Which refunds count there, and what do they and the new one come to?
lambda *given: None
  when: any(one is None for one in value)
  Your function returns nothing. Is a `return` missing?
rule(sums=False)
  Your limit looks at one call alone: three refunds of 39 euro pass a limit of 80.
rule(strict=True)
  A sum of exactly {LIMIT:,} cents is within the limit.
rule(states=("paid",))
  A refund that is on its way (*doing*) will be paid. Whoever asks quickly enough would get both.
rule(states=("paid", "doing", "queued"))
  What waits for a person is decided by that person: it is not money that was paid without one.
rule(states=("paid", "doing", "queued", "declined", "refused"))
  Nobody was paid for what was declined or refused.
rule(states=("paid", "doing", "declined", "refused"))
  A refund that the customer declined, or that was refused, moved no money.
rule(people=True)
  What a person has allowed does not use up the limit of what is paid without one.
rule(same=False)
  Other orders count here, too. This limit is for each order.
rule(window=WINDOW)
  This limit is of the order, and has no window: a refund of {WINDOW} days ago counts, too. Else the
  same parcel is paid again every month.
rule(waits=WINDOW)
  A refund that is still on its way after {WINDOW} days may be paid any moment.
rule(started=True)
  What a person has allowed uses the limit up no more while it is on its way than when it is paid.
""",
        decide=Function("told"),
    ),
    shows="All {len(wanted)} cases are right, the limit itself and a refund on its way among them. "
    "{wanted.count('person')} of them wait for a person.",
    hints=(
        "Filter `past` by order, state and who allowed it, however old; then add the new sum.",
        "At the limit: pay. Above it: a person. Which of `<` and `<=` is that?",
        "Look at one case of the list with its rows of `refunds` beside it.",
    ),
)

q4 = exercise.asked(
    4,
    "`gave_in`, a set of replies, `mended` and `rate`, two numbers",
    setup=f"{_FROM}HOW, pressed, swayed_in\n"
    "from casebook.cases.support_agent.exercise_data import mended as mended_in\n"
    "told = replies[replies['insists'] == 'yes']\n",
    parts=parts(
        """
gave_in = swayed_in(replies)
[*told.query('first == due and last != due').index]
told.index[(told['first'] == told['due']) & (told['last'] != told['due'])]
  {', '.join(sorted(set(value) ^ set(right))[:4])}: look at these again. They are {"in your set and
  should not be" if set(value) > set(right) else "the first that differ"}.
swayed_in(replies, right=False)
  Some of these were wrong at first and right afterwards. To change one's mind for a good reason is
  no flattery.
swayed_in(replies, insisting=False)
  In some of these nobody insisted: the agent changed its answer by itself.
swayed_in(replies, changed=False)
  Some of these were wrong from the start and stayed so. That is a mistake of another kind.

mended = len(mended_in(replies))
((told["first"] != told["due"]) & (told["last"] == told["due"])).sum()
len(told.query("first != due and last == due"))
  {value:g} replies do not go from wrong to right after the customer has insisted.
len(swayed_in(replies))
  These go from right to wrong.
len(swayed_in(replies, right=False))
  These changed in either direction.
(told["first"] != told["due"]).sum()
  These were wrong at first. How many of them became right?

rate = len(swayed_in(replies)) / len(pressed(replies))
len(gave_in) / ((told["first"] == told["due"]).sum())
(told.query("first == due")["last"] != told.query("first == due")["due"]).mean()
  {value:.4g} is not the share of those who could be swayed (right at first, pressed) that were.
len(swayed_in(replies)) / len(replies)
  Many of these were never pressed, so that they could not give in.
len(swayed_in(replies)) / len(told)
  An answer that is wrong already cannot be swayed to be wrong.
len(swayed_in(replies, right=False)) / len(pressed(replies))
  Above the line are corrections, too.
1 - len(swayed_in(replies)) / len(pressed(replies))
  This is the share that stood firm.
""",
        gave_in=Labels("replies.index"),
        mended=WHOLE,
    ),
    prediction=Prediction(
        "guess_4",
        ("yes", "no"),
        "'yes' if len(swayed_in(replies, right=False)) > 1.25 * len(gave_in) else 'no'",
        "{mended:.0f} of {mended + len(gave_in):.0f} changes were corrections.",
    ),
    shows="The agent gave in {len(gave_in)} times, in {rate:.0%} of the cases in which it could; "
    "{mended:.0f} times it was rightly corrected.",
    hints=(
        "Three conditions: the customer insists, the first answer agrees with the records, and "
        "the last one does not.",
        "The same with first and last exchanged.",
        "Below the line stand those who were right at first and were pressed.",
    ),
    helps=("gave_in", "mended", "rate"),
)

q5 = exercise.asked(
    5,
    "`bound`, `unseen`, `enough` and `loss`, four numbers",
    setup=f"{_FROM}CONFIDENCE\nattacks, wanted, hidden, a_day = hunts\nalpha = 1 - CONFIDENCE\n",
    parts=parts(
        """
bound = 1 - alpha ** (1 / attacks)
1 - np.exp(np.log(alpha) / attacks)
-np.expm1(np.log(alpha) / attacks)
  With a rate of {value:.4g}, {attacks:.0f} attacks would all fail with probability
  {(1 - value) ** attacks:.3f}, not {alpha:.2f}.
0.0
  None was seen. A rate of one in a thousand would most likely look the same.
1 / attacks
  With 1 / n no attack in n succeeds with probability .37: far from rare.
3 / attacks
  The rule of three is near, and a little too large for so few attacks. Here the exact bound is
  asked: (1 − p) to the n is .05.
1 - (1 - alpha) ** (1 / attacks)
  With this rate, n clean attacks have a probability of .95. They should have .05.
1 - (alpha / 2) ** (1 / attacks)
  This is the upper end of a two-sided interval. From below there is nothing to bound.

unseen = (1 - hidden) ** attacks
np.exp(attacks * np.log(1 - hidden))
np.prod([1 - hidden] * int(attacks))
  {value:.4g} is not the chance that {attacks:.0f} attacks in a row fail, each with 1 − {hidden}.
1 - (1 - hidden) ** attacks
  This is the chance that at least one succeeds.
1 - attacks * hidden
  Chances of single attacks do not add up: two of them may succeed.
1 - hidden
  This is one attack.

enough = np.ceil(np.log(alpha) / np.log(1 - wanted))
float(next(n for n in range(1, 10_000) if (1 - wanted) ** n <= alpha))
int(np.floor(np.log(alpha) / np.log(1 - wanted))) + 1
  After {value:g} clean attacks the bound is {1 - alpha ** (1 / max(value, 1)):.5f}; it should
  just be {wanted} or less, and the number whole.
np.ceil(3 / wanted)
np.ceil(3 / wanted) - 1
  The rule of three asks for a few more than are needed. Take the exact bound.
np.ceil(1 / wanted)
  So many attacks miss a rate of that size with probability .37.
np.floor(np.log(alpha) / np.log(1 - wanted))
  One is missing: with so many the bound is still above what is wanted.

loss = bound * a_day
(1 - alpha ** (1 / attacks)) * a_day
a_day * -np.expm1(np.log(alpha) / attacks)
  {value:.4g} is not the bound times the attacks of a day.
a_day / attacks
  This takes 1 / n as the bound.
3 / attacks * a_day
  This takes the rule of three; use your own `bound`.
0.0
  Zero of {attacks:.0f} is not zero of {a_day:,.0f}.
hidden * a_day
  Nobody knows this rate. Use what the test allows you to say.
""",
        enough=WHOLE,
        bound=Number(2e-3),
        loss=Number(2e-3),
    ),
    prediction=Prediction(
        "guess_5",
        ("often", "hardly"),
        "'often' if unseen > 0.1 else 'hardly'",
        "A fault that lets {hidden:.1%} through stays unseen with probability {unseen:.2f}.",
    ),
    shows="After {attacks:.0f} clean attacks at most {bound:.1%} may succeed: up to {loss:.0f} of "
    "{a_day:,.0f} a day. {enough:.0f} clean attacks bound it by {wanted:.2%}, if they are like the "
    "ones to come.",
    hints=(
        "Which rate p makes n failures in a row just as unlikely as .05?",
        "(1 − p) to the power of n, with the rate that is hidden.",
        "Take logarithms of (1 − wanted) to the n = .05, and round up.",
    ),
    helps=("bound", "unseen", "enough"),
)

q6 = exercise.asked(
    6,
    "`owed`, `twice` and `lost`, three numbers of cents, and `good`, a set of keys",
    setup=f"{_FROM}KEYS\nfrom casebook.cases.support_agent.exercise_data import paid as pays\n"
    "first = tries.drop_duplicates('proposal')\n",
    parts=parts(
        """
owed = pays(tries, ["proposal"])
tries.groupby("proposal")["cents"].first().sum()
tries.query("attempt == 1")["cents"].sum()
  {value:,.0f} is not what the {len(first)} proposals come to.
tries["cents"].sum()
  Some of these rows are second and third attempts of the same refund.
pays(tries, ["order", "cents"])
  Two refunds of the same order and sum may both be right: two cups were broken.
len(first)
  This is their number.

twice = tries["cents"].sum() - pays(tries, ["proposal"])
pays(tries, ["proposal", "attempt"]) - pays(tries, ["proposal"])
tries.query("attempt > 1")["cents"].sum()
  {value:,.0f} is not what second and later attempts come to.
tries["cents"].sum()
  This is all that is paid then. How much of it is too much?
tries[tries["proposal"].duplicated(keep=False)]["cents"].sum()
  The first attempt of each of these is owed.
(tries["attempt"] > 1).sum()
  This is their number.
tries.query("attempt == 2")["cents"].sum()
  Some were sent three times.

lost = pays(tries, ["proposal"]) - pays(tries, ["order", "cents"])
first["cents"].sum() - first.drop_duplicates(["order", "cents"])["cents"].sum()
first[first.duplicated(["order", "cents"])]["cents"].sum()
  {value:,.0f} is not what is owed and never paid if order and sum make the key.
pays(tries, ["proposal"]) - pays(tries, ["order"])
  This key has the order alone.
tries[tries.duplicated(["order", "cents"])]["cents"].sum()
  Among these are attempts of the same refund, of which nothing is lost.
first[first.duplicated(["order", "cents"], keep=False)]["cents"].sum()
  One of each two is paid.
0
  Look at proposals of the same order: are there two with the same sum?

good = {name for name, key in KEYS.items() if pays(tries, key) == pays(tries, ["proposal"])}
["proposal", "proposal, order, sum"]
{name for name, key in KEYS.items() if tries.groupby(list(key)).ngroups == len(first)}
  {' and '.join(map(repr, sorted(set(value) ^ set(right))))}: try it on `tries`. Does each
  proposal get one key, and no two of them the same?
["proposal", "proposal, attempt", "proposal, time", "proposal, order, sum"]
  An attempt or a time in the key makes each attempt a new refund.
["proposal"]
  Another one also gives each proposal one key of its own.
["proposal", "order, sum", "proposal, order, sum"]
  Two refunds of one order may have the same sum.
["proposal", "order", "proposal, order, sum"]
  An order may be refunded in parts.
""",
        owed=WHOLE,
        twice=WHOLE,
        lost=WHOLE,
        good=Labels("list(KEYS)"),
    ),
    prediction=Prediction(
        "guess_6",
        ("too much", "too little"),
        "'too much' if pays(tries, ['order', 'cents']) > owed else 'too little'",
        "With order and sum as the key {lost:,.0f} cents are never paid.",
    ),
    shows="{owed:,.0f} cents are owed. With the attempt in the key {twice:,.0f} are paid on top, "
    "with order and sum {lost:,.0f} never.",
    hints=(
        "A proposal is one refund, however often it is sent.",
        "With the attempt in the key, each row is a key of its own.",
        "`drop_duplicates` on the key's columns is what the provider pays.",
    ),
    helps=("owed", "twice", "lost"),
)
