"""Questions of exercise 18, each with a small world of its own, drawn by the student's seed."""

from __future__ import annotations

from casebook.cases.knowledge_assistant import exercise_data as data
from casebook.exercises.asked import Exercise, Number, Prediction, parts, written
from casebook.exercises.grading import student_seed

SEED = 18
_GIVEN = ("timings", "requests", "audit", "copies", "statements", "answers", "costs")
exercise = Exercise("18_knowledge_assistant", SEED, {name: getattr(data, name) for name in _GIVEN})


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    if name not in exercise.given:
        raise KeyError(f"{name!r}: give one of {', '.join(exercise.given)}.")
    return exercise.given[name](student_seed(SEED))


#: What the questions' code needs of the exercise's data, in the reader's notebook too.
_FROM = "from casebook.cases.knowledge_assistant.exercise_data import "
#: Said where a percentage is given, and of a share in place of a number.
_SHARE = "100 * right\n  Give it as a share, between 0 and 1."
_COUNT = "  This is a share. Give the number."

q1 = exercise.asked(
    1,
    "`crossover`, `routed_ms`, `routed_recall` and `nothing_left`, four numbers",
    setup=f"""{_FROM}FLOOR, PASSAGES
seen, share_of = timings["visible"], timings["users"] / timings["users"].sum()
good = timings["graph_recall"] >= FLOOR
swift = timings["graph_ms"] < timings["pre_ms"]
both = (good & swift)[::-1].cummin()[::-1]
fewest = seen.iloc[0] / PASSAGES
def routed(name, alone, start):
    return timings[name].where(seen >= start, alone)
""",
    parts=parts(
        written(
            """
crossover = seen[both].min()
int(seen[both].iloc[0])
next(n for n, at in zip(seen, range(len(seen))) if (good & swift)[at:].all())
  From {value:g} visible passages on, is the graph faster and good enough in every row? Or does a
  smaller number of the table do, too?
seen[swift].min()
  From here on the graph is faster. Does it find {FLOOR:.0%} of what multiplying finds?
seen[good & swift].min()
  Here the graph is good enough for the first time, but a later row is not.
seen.max()
  The row before is good, too.
timings["graph_recall"][both].iloc[0]
  This is a recall. Give the number of visible passages.

routed_ms = (share_of * SPENT).sum()
np.average(SPENT, weights=share_of)
sum(share * ms for share, ms in zip(share_of, SPENT))
  {value:g} ms is not the mean over users if those below the crossover multiply.
(share_of * timings["pre_ms"]).sum()
  Here everybody multiplies.
(share_of * timings["graph_ms"]).sum()
  Here everybody walks along the graph.
(share_of * timings[["pre_ms", "graph_ms"]].min(axis=1)).sum()
  This takes the faster way in each row, also where it finds too little.
SPENT.mean()
  Rows have different shares of users.

routed_recall = (share_of * FOUND).sum()
1 - (share_of * (1 - timings["graph_recall"]))[seen >= crossover].sum()
np.average(FOUND, weights=share_of)
  {value:g} is not the mean recall over users: who multiplies finds everything.
1.0
  Here everybody multiplies. Who walks misses some.
(share_of * timings["graph_recall"]).sum()
  Here everybody walks along the graph.
(share_of * timings["graph_recall"].where(swift, 1.0)).sum()
  This walks wherever the graph is faster.
timings["graph_recall"][seen >= crossover].mean()
  This is the recall of those who walk. The others count, too, with recall 1.
FOUND.mean()
  Rows have different shares of users.
SHARE

nothing_left = (1 - fewest) ** 50
np.exp(50 * np.log1p(-fewest))
np.prod([1 - fewest] * 50)
  {value:g} is not the probability that all 50 of the nearest are hidden.
1 - (1 - fewest) ** 50
  This is the probability that at least one is left.
0.99**50
  This is for one visible passage in a hundred. The first row has {seen.iloc[0]:,} of a million.
50 * fewest
  So many of the 50 are left on average. How often is it none?
(1 - fewest) ** 10
  The filter drops from 50, not from 10.
1 - fewest
  This is the probability that one of them is hidden.
SHARE
""",
            SPENT='routed("graph_ms", timings["pre_ms"], crossover)',
            FOUND='routed("graph_recall", 1.0, crossover)',
            SHARE=_SHARE,
        ),
        crossover=Number(1e-6, unrounded=False),
        routed_recall=Number(0.0005),
    ),
    prediction=Prediction(
        "guess_1",
        ("yes", "no"),
        "'yes' if nothing_left < 0.1 else 'no'",
        "In {nothing_left:.0%} of their questions nothing is left after the filter.",
    ),
    shows="Below {crossover:,.0f} visible passages one multiplies. The router takes "
    "{routed_ms:.2f} ms with a recall of {routed_recall:.3f}, multiplying alone "
    "{(share_of * timings['pre_ms']).sum():.2f} ms.",
    hints=(
        "Two conditions must hold in a row, and in all rows below it. Begin at the last row.",
        "A row speaks for as many users as its share says: a mean with weights.",
        "How probable is it that *one* of the nearest is hidden? All 50 must be, independently.",
    ),
    helps=("crossover", "routed_ms", "nothing_left"),
)

q2 = exercise.asked(
    2,
    "`leaks`, `leaks_by_user` and `hits_by_rights`, three numbers",
    setup=f"""{_FROM}ALL, ASKED, PERSON, RIGHTS, TTL, leaked, served
told = served(requests, ASKED)
hid = [s not in r for s, r in zip(told["shown"], told["rights"])]
def rate(key, ttl=TTL):
    return served(requests, key, ttl)["hit"].mean()
""",
    parts=parts(
        written(
            """
leaks = len(leaked(requests, ASKED))
sum(hid)
np.count_nonzero(hid)
  {value:g} are too {'many' if value > right else 'few'}: count the answers whose document is not
  among the letters of `rights` of who asks.
(told["shown"] != told["source"]).sum()
  Some of these differ from the user's own answer, and the user may see them all the same.
len(leaked(requests, ASKED, TTL + 1))
  At {TTL} seconds exactly an answer is too old.
len(leaked(requests, ASKED, 1e9))
len(leaked(requests, ASKED, 60 * TTL))
  Here hardly any answer is ever too old. `at` is in seconds.
len(leaked(requests, ASKED, 15))
  `at` is in seconds, and 15 minutes are {TTL} of them.
len(leaked(requests, ASKED, slides=True))
  A hit does not make an answer younger: its time is when it was made.
told["hit"].sum()
  These are all answers from the cache.
leaked(requests, ASKED)["user"].nunique()
  These are people. Count answers.
right / len(requests)
COUNT

leaks_by_user = len(leaked(requests, PERSON))
sum(s not in r for s, r in served(requests, PERSON)[["shown", "rights"]].to_numpy())
leaked(requests, PERSON)["at"].count()
  {value:g} are too {'many' if value > right else 'few'}: question and user make the key now, and
  what is shown is held against the rights of this moment.
0
  A user's own answer was right when it was made. The right may be lost before the next question.
len(leaked(requests, ASKED))
  This is the key of the question alone.
len(leaked(requests, PERSON, 1e9))
  Here no answer is ever too old.
len(leaked(requests, PERSON, slides=True))
  A hit does not make an answer younger: its time is when it was made.
right / len(requests)
COUNT

hits_by_rights = rate(RIGHTS)
served(requests, RIGHTS)["hit"].sum() / len(requests)
np.average(served(requests, RIGHTS)["hit"])
  {value:g} is too {'large' if value > right else 'small'} a share of questions that the cache
  answers if question and rights make the key.
rate(RIGHTS, TTL + 1)
  At {TTL} seconds exactly an answer is too old.
rate(ASKED)
  This is the key of the question alone, with its leaks.
rate(PERSON)
  This is the key of question and user. People with the same rights share an answer.
rate(ALL)
  The user need not be in the key, too: people with the same rights share an answer.
1 - rate(RIGHTS)
  These are the misses.
served(requests, RIGHTS)["hit"].sum()
  Give a share.
SHARE
""",
            SHARE=_SHARE,
            COUNT=_COUNT,
        ),
        leaks=Number(unrounded=False),
        leaks_by_user=Number(unrounded=False),
    ),
    prediction=Prediction(
        "guess_2",
        ("yes", "no"),
        "'yes' if leaks_by_user > 0 else 'no'",
        "{leaks_by_user:.0f} of the user's own answers were no longer the user's to see.",
    ),
    shows="The key of the question leaks {leaks:.0f} times, that of question and user "
    "{leaks_by_user:.0f} times, that of question and rights never: it answers "
    "{hits_by_rights:.0%} of the questions.",
    hints=(
        "Play the requests through in order. What must you keep of an answer, and under which "
        "name, to know later whether it may still be handed out?",
        "Two things can change between making and showing: the person, and the person's rights.",
        "A leak is impossible with this key. What is left is to count the answers that were kept.",
    ),
    helps=("leaks", "leaks_by_user", "hits_by_rights"),
)

q3 = exercise.asked(
    3,
    "`bound`, `near_bound`, `a_day` and `weeks_needed`, four numbers",
    setup="weeks, each, near, questions, target = audit\nn = weeks * each\n",
    parts=parts(
        """
bound = 3 / n
1 - 0.05 ** (1 / n)
-np.log(0.05) / n
  With a rate of {value:g}, {n:g} clean queries would have a probability of
  {(1 - min(max(value, 0), 1)) ** n:.1%}.
0
  Nothing was seen. What could still be there?
1 / n
  At this rate one leak is expected, and in a third of such audits none shows.
3 / each
  This is one week's audit.
3 / weeks
  Weeks are not queries.
0.05 / n
  5 % is the probability of seeing nothing, not a factor of the rate.
100 * right
  Give it as a share, between 0 and 1.

near_bound = 3 / (n * near)
1 - 0.05 ** (1 / (n * near))
-np.log(0.05) / (n * near)
  {value:g} is not the bound over the queries that came near something hidden.
3 / n
  The other queries could not have shown a fault of the filter.
3 * near / n
  Fewer queries that count make the bound larger.
3 / (n * (1 - near))
  These are the queries that met nothing hidden.

a_day = questions * 3 / n
questions * (1 - 0.05 ** (1 / n))
questions * near * 3 / (n * near)
  {value:g} leaks a day do not follow from the bound and the questions of a day.
questions * 3 / (n * near)
  Not every question comes near something hidden.
near * questions * 3 / n
  The bound of all queries already has the harmless ones in it.
questions / n
  This takes one leak in all audits, not the bound.
3 / n * 24
  A day has {questions:,.0f} questions.

weeks_needed = np.ceil(3 / target / each)
-(-3 // (target * each))
next(w for w in range(1, 10_000) if 3 / (w * each) <= target)
  After {value:g} clean weeks the bound is {3 / max(value * each, 1):.6f}, {'above' if value < right
  else 'below'} the target of {target:g}{'' if value < right else ', but it was there before'}.
3 / target / each
  Audits come by whole weeks.
np.floor(3 / target / each)
  After {value:g} weeks the bound is {3 / (value * each):.6f}, just above the target.
3 / target
  These are queries.
np.ceil(1 / target / each)
  This sees one leak in as many queries on average; the bound needs three times as many.
np.ceil(3 / target / each) - weeks
  Count from the first week.
np.ceil(3 / (target * near) / each)
  The target is for all queries.
""",
        bound=Number(0.006),
        near_bound=Number(0.02),
        a_day=Number(0.006),
        weeks_needed=Number(0.0001, unrounded=False),
    ),
    prediction=Prediction(
        "guess_3",
        ("yes", "no"),
        "'yes' if a_day < 1 else 'no'",
        "{n:,.0f} clean queries allow up to {a_day:,.0f} leaks a day.",
    ),
    shows="{n:,.0f} clean queries bound the rate by {bound:.2g}: up to {a_day:,.0f} leaks a day. "
    "{weeks_needed:,.0f} weeks would be needed for {target:g}.",
    hints=(
        "Which rate would still let all queries be clean with a probability of .05?",
        "A query that meets nothing hidden is clean whatever the filter does. How many are left?",
        "The bound falls with the number of queries. How many does the target need?",
    ),
    helps=("bound", "near_bound", "weeks_needed"),
)

q4 = exercise.asked(
    4,
    "`until_sync`, `with_cache`, `on_average` and `still_in`, four numbers",
    setup="""sync, takes, revoked, kept, turns, changes = copies
wait = (sync - revoked) % 24
clock = f"{int(revoked)}:{round(revoked % 1 * 60):02d}"
""",
    parts=parts(
        """
until_sync = (sync - revoked) % 24 + takes
sync + 24 - revoked + takes
takes + (24 - revoked) + sync
  {value:g} h after {clock} the next nightly run has {'long' if value > right else 'not yet'} ended.
wait
  So long it takes until the run begins. It is in force when it has ended.
sync - revoked
  The run is tomorrow.
24
  This is the longest wait for a run to begin. This one was revoked at {clock}.
24 + takes
  This is the worst case. This one was revoked at {clock}.

with_cache = wait + takes + kept / 60
(sync - revoked) % 24 + takes + kept / 60
(wait * 60 + takes * 60 + kept) / 60
  {value:g} h is not the end of an answer that was made just before the run ended.
wait + takes
  An answer that was made a second before lives for {kept:g} minutes more.
kept / 60
  The cache asks for rights, too: those of last night's run.
wait + takes + kept
  `cache` is in minutes.
wait + kept / 60
  Rights are in force at the end of the run.

on_average = 12 + takes
np.mean([0, 24]) + takes
24 / 2 + takes
  {value:g} h is not the mean over all moments of a day.
12
  The run takes {takes:g} h, too.
24 + takes
  This is the worst moment.
wait + takes
  This is the one of {clock}.
12 + takes / 2
  No right is in force before the end of the run.

still_in = changes * (12 + takes) / 24
changes / 24 * (12 + takes)
np.multiply(changes, 12 + takes) / 24
  {value:g} is not the rate of changes times the mean time that each stays open.
changes
  So many are revoked in a day. How long does each stay open?
changes * (12 + takes)
  The rate is for a day, the time in hours.
changes / 2
  The run takes {takes:g} h, too.
changes * (wait + takes) / 24
  Changes come at all hours: take the mean.
changes * (12 + takes + kept / 60) / 24
  This adds the cache. Count what is open in the copied groups alone.
changes * turns
  These lie in stored turns. Count what is open in the copied groups alone.
""",
    ),
    prediction=Prediction(
        "guess_4",
        ("less", "half", "more"),
        "'more' if (6 + takes) / (12 + takes) > 0.5 else 'half'",
        "{(6 + takes) / (12 + takes):.0%} are left: the wait for a run is halved, its own "
        "{takes:g} hours are not.",
    ),
    shows="Revoked at {clock}, a right ends in the groups after {until_sync:.2f} h, in the cache "
    "after {with_cache:.2f} h, in stored turns after {turns:g} days. In the copied groups alone "
    "{still_in:.0f} revoked rights are open at any moment.",
    hints=(
        "When does the next run begin, and what has to happen before its result holds?",
        "Which answer from the old rights is the last one that can be made?",
        "Little's law: what is open on average is what opens in an hour times the hours that each "
        "stays open.",
    ),
    helps=("until_sync", "with_cache", "still_in"),
)

q5 = exercise.asked(
    5,
    "`newest`, `in_force`, `contested` and `saved_again`, four numbers",
    setup=f"""{_FROM}disputed, resaved, right_by
firm = statements[~statements["rumour"]]
first = firm.sort_values("since").groupby("fact").last()
facts = statements["fact"].nunique()
""",
    parts=parts(
        written(
            """
newest = right_by(statements, "saved", True).mean()
statements.sort_values("saved").groupby("fact")["true"].last().mean()
statements.loc[statements.groupby("fact")["saved"].idxmax(), "true"].mean()
  {value:g} is not how often the statement that was saved last is true.
right_by(statements, "saved", False).mean()
  Here rumours are left out. The newest statement of all is asked for.
right_by(statements, "since", True).mean()
  This takes the last `since`. The newest is the one that was saved last.
right_by(statements, "saved", True, last=False).mean()
  This takes the first one.
statements["true"].mean()
  This is the share of all statements. Pick one for each fact.
facts * right
  These are facts. Give their share.
SHARE

in_force = right_by(statements, "since", False).mean()
first["true"].mean()
firm.loc[firm.groupby("fact")["since"].idxmax(), "true"].mean()
  {value:g} is not how often the last value to take effect is true, rumours left out.
right_by(statements, "since", True).mean()
  A rumour takes effect last and is not true: leave rumours out.
right_by(statements, "saved", False).mean()
  A page that was saved again has a new date and an old value. Take `since`.
right_by(statements, "since", False, last=False).mean()
  This takes the first value. The last one to take effect holds.
firm["true"].mean()
  This is the share of all statements. Pick one for each fact.
facts * right
  These are facts. Give their share.
SHARE

contested = disputed(statements)
(firm.groupby("fact")["value"].nunique() > 1).sum()
sum(len(set(values)) > 1 for _, values in firm.groupby("fact")["value"])
  {value:g} facts are too {'many' if value > right else 'few'}: count those with two different
  values or more, rumours left out.
(statements.groupby("fact")["value"].nunique() > 1).sum()
  Here a rumour counts as a second value.
(firm.groupby("fact").size() > 1).sum()
  These facts have two documents or more. Some of them say the same.
len(firm) - firm["fact"].nunique()
  These are statements beyond the first of each fact. Count facts.
firm["fact"].nunique()
  These are all facts.
right / facts
COUNT

saved_again = resaved(statements)
(firm.sort_values("saved").groupby("fact")["value"].last() != first["value"]).sum()
sum(firm.set_index("saved").sort_index().groupby("fact")["value"].last() != first["value"])
  {value:g} facts are too {'many' if value > right else 'few'}: count those whose last save holds
  another value than the last to take effect.
disputed(statements)
  Most of these are settled alike by both dates.
resaved(statements, rumours=True)
  A rumour is the last save of some facts. Leave rumours out here, too.
resaved(statements, rumours=True, both=True)
  A rumour is the last to take effect of some facts. Leave rumours out here, too.
resaved(statements, rows=True)
  These are other documents. Some of them hold the same value.
right / facts
COUNT
""",
            SHARE=_SHARE,
            COUNT=_COUNT,
        ),
        contested=Number(unrounded=False),
        saved_again=Number(unrounded=False),
    ),
    prediction=Prediction(
        "guess_5",
        ("newest", "since"),
        "'newest' if newest > in_force else 'since'",
        "The newest statement is true for {newest:.0%} of the facts, the last value to take "
        "effect for {in_force:.0%}.",
    ),
    shows="The newest statement is true in {newest:.0%}, the last value to take effect in "
    "{in_force:.0%}; in the rest the true one is hidden from this user. {contested:.0f} facts "
    "have two values, and the last save misleads in {saved_again:.0f}.",
    hints=(
        "One statement of each fact is picked: put them in order first.",
        "Which statements may not decide, and which of the two dates says since when one holds?",
        "Pick twice, once by each date, and compare what the two say, not which they are.",
    ),
    helps=("newest", "in_force", "saved_again"),
)

q6 = exercise.asked(
    6,
    "`worth`, `threshold`, `minutes` and `always`, four numbers",
    setup=f"""{_FROM}GRID, best, cost
held = answers[answers["split"] == "validation"]
asked = answers[answers["split"] == "test"]
chosen = best(held, costs)
plain = costs["wrong"] - costs["unknown"]
made = np.where(asked["right"], costs["right"], costs["wrong"])
""",
    parts=parts(
        """
worth = plain / (costs["wrong"] - costs["right"])
1 - (costs["unknown"] - costs["right"]) / (costs["wrong"] - costs["right"])
(costs["unknown"] - costs["wrong"]) / (costs["right"] - costs["wrong"])
  With a chance of {value:g} an answer and "I don't know" do not cost the same on average.
(costs["unknown"] - costs["right"]) / (costs["wrong"] - costs["right"])
  This is the chance of being wrong at which both cost the same.
costs["unknown"] / costs["wrong"]
  A right answer costs something, too, and saves something.
plain / costs["wrong"]
  A right answer costs {costs["right"]:g} minutes.
0.5
  A wrong answer costs far more than no answer.

threshold = best(held, costs)
float(GRID[np.argmin([cost(held, costs, one) for one in GRID])])
min(np.arange(0, 1, 0.05), key=lambda one: (cost(held, costs, one), one))
  On the validation answers {value:g} costs {cost(held, costs, value):.3f} minutes, and another
  threshold of the grid less.
best(asked, costs)
  This is the best one on the *test* answers. Choose on the validation answers, which judge nothing.
plain / (costs["wrong"] - costs["right"])
  This is right for a chance. What the reader says is no chance yet.
GRID[np.argmax([cost(held, costs, one) for one in GRID])]
  This is the worst one.

minutes = cost(asked, costs, chosen)
np.where(asked["sure"] < chosen, costs["unknown"], made).mean()
np.mean([costs["unknown"] if s < chosen else m for s, m in zip(asked["sure"], made)])
  {value:g} minutes is not the mean of the test questions at the chosen threshold.
cost(held, costs, chosen)
  These are the answers by which it was chosen: too good.
cost(answers, costs, chosen)
  These are both splits together. Take the test questions.
made[asked["sure"] >= chosen].mean()
  This is the mean of the questions that get an answer. The others cost, too.
cost(asked, costs, best(asked, costs))
  This is the threshold that is best on the test.
cost(asked, costs, chosen) * len(asked)
  Give the mean of a question.

always = cost(asked, costs, 0.0)
made.mean()
costs["wrong"] + (costs["right"] - costs["wrong"]) * asked["right"].mean()
  {value:g} minutes is not the mean of the test questions if every answer is given.
cost(held, costs, 0.0)
  These are the validation answers.
cost(answers, costs, 0.0)
  These are both splits together. Take the test questions.
costs["unknown"]
  This is what it costs never to answer.
costs["wrong"] * (1 - asked["right"].mean())
  Right answers take time, too.
""",
        threshold=Number(unrounded=False),
        minutes=Number(0.001),
        always=Number(0.001),
    ),
    prediction=Prediction(
        "guess_6",
        ("higher", "lower"),
        "'higher' if threshold > worth else 'lower'",
        "Answers that are {threshold:.0%} sure are right less often: the reader is too sure.",
    ),
    shows="An answer pays from a chance of {worth:.2f}. The reader is too sure of itself, so that "
    "{threshold:.2g} is the best threshold: {minutes:.2f} minutes a question instead of "
    "{always:.2f}.",
    hints=(
        "At this chance it makes no difference whether one answers: write down what both cost.",
        "A threshold decides for each validation question what it costs. Which one has the least "
        "mean?",
        "The threshold is chosen; now other questions judge it, answered or not.",
    ),
    helps=("worth", "threshold", "minutes"),
)
